//! The reviewed table, and what holds of each line.

use std::collections::BTreeSet;

use super::*;
use crate::route::Principal;

#[test]
fn table_is_the_reviewed_one() {
    let lines: Vec<String> = table()
        .iter()
        .map(|route| {
            let principal = match route.principal {
                Principal::Public => "public".to_owned(),
                Principal::Operator(scope) => scope.to_string(),
                Principal::AnyOperator(scopes) => {
                    let scopes: Vec<_> = scopes.iter().map(ToString::to_string).collect();
                    format!("one of {}", scopes.join(" "))
                }
                Principal::TokenInPath => "token in path".to_owned(),
                Principal::RefreshCookie => "refresh cookie".to_owned(),
                Principal::CoordinatorBearer => "coordinator bearer".to_owned(),
                Principal::SiteBearer => "site bearer".to_owned(),
            };
            format!("{:6} {:58} {principal}", route.method.as_str(), route.path)
        })
        .collect();

    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn no_route_stands_twice() {
    let unique: BTreeSet<_> = table().iter().map(|route| (route.path, route.method)).collect();

    assert_eq!(unique.len(), table().len());
}

#[test]
fn routes_of_a_site_bearer_name_the_site() {
    for route in table().iter().filter(|route| route.principal == Principal::SiteBearer) {
        assert!(route.path.contains("{site_id}"), "{}", route.path);
    }
}
