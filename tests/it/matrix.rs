//! One walk over the whole table: each operator route asks for a token, for its scope, and for the site.

use std::collections::BTreeSet;

use hansa_api::{Principal, RouteInfo};
use hansa_model::SiteId;
use hansa_model::scope::Scope;
use hansa_tests::{Answer, Api, TestFederation, all_scopes, host, host_id};
use reqwest::Method;
use serde_json::{Value, json};

/// Path arguments that name an object of one site. A token for other sites must not learn that it exists.
const OF_A_SITE: [&str; 2] = ["{site_id}", "{host_id}"];

/// Path arguments that name something of the node as a whole, or that are a credential themselves.
const OF_THE_NODE: [&str; 6] = ["{name}", "{token}", "{userid}", "{key_id}", "{*path}", "{*mounted_path}"];

/// A body that the route takes, so that it gets as far as looking for the object.
fn body_of(route: &RouteInfo, key: &Value) -> Value {
    if route.path.ends_with("/identity-key") && route.method.as_str() == "PUT" {
        return json!({"public_key_pem": key});
    }
    json!({})
}

async fn call(api: &Api, route: &RouteInfo, site: &str, key: &Value) -> Answer {
    let nobody = uuid::Uuid::from_u128(0xdead).to_string();
    let path = route.path.replace("{site_id}", site).replace("{host_id}", &host_id(1, 1));
    let path = path.replace("{userid}", "nobody@example.com").replace("{name}", "nobody");
    let path: Vec<&str> =
        path.split('/').map(|part| if part.starts_with('{') { nobody.as_str() } else { part }).collect();
    let mut path = path.join("/");
    if path.ends_with("/events") {
        // A stream that goes on would never be answered whole.
        path.push_str("?follow=false");
    }
    let method: Method = route.method.as_str().parse().unwrap();
    api.send(method, &path, Some(body_of(route, key).to_string().into_bytes()), &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_01_every_operator_route_asks_for_a_token_its_scope_and_the_site() {
    let federation = TestFederation::start(1).await;
    federation.sites[0].put(vec![host(1, 1)]).await;
    federation.converges().await;
    let (node, site) = (&federation.coordinator, federation.sites[0].id.to_string());
    let key = node.api().get("/api/v1/federation/identity-key").await.ok()["public_key_pem"].clone();
    let elsewhere = SiteId(uuid::Uuid::from_u128(0xe15e));
    let confined = node.api_as(all_scopes(), Some([elsewhere].into()));
    let before = node.api().get("/api/v1/federation/sites").await.licensed();
    let name = before["sites"][0]["name"].as_str().unwrap();
    let mut objects = 0;

    for route in hansa_api::table() {
        let needed: &[Scope] = match &route.principal {
            Principal::Operator(needed) => std::slice::from_ref(needed),
            Principal::AnyOperator(needed) => needed,
            Principal::Public
            | Principal::TokenInPath
            | Principal::RefreshCookie
            | Principal::SiteBearer
            | Principal::CoordinatorBearer => {
                continue;
            }
        };
        let shown = format!("{} {}", route.method, route.path);

        call(&node.anonymous(), route, &site, &key).await.refused(401, "token_missing");

        let others: BTreeSet<Scope> =
            Scope::ALL.into_iter().filter(|scope| !needed.contains(scope)).collect();
        let denied = call(&node.api_as(others, None), route, &site, &key).await;
        let denied = denied.refused(403, "permission_denied");
        let said = if denied["errors"].is_array() { "permission denied" } else { "Permission denied" };
        let text = denied["detail"].as_str().or_else(|| denied["errors"][0].as_str()).unwrap();
        assert!(text.starts_with(said), "{shown}: {denied}");

        if OF_A_SITE.iter().any(|argument| route.path.contains(argument)) {
            let hidden = call(&confined, route, &site, &key).await;
            assert_eq!(hidden.status, 404, "{shown}: {}", hidden.text);
            assert!(!hidden.text.contains(name), "{shown}: {}", hidden.text);
            objects += 1;
        } else if route.path.contains('{')
            && !OF_THE_NODE.iter().any(|argument| route.path.contains(argument))
        {
            // An id that nobody has: whatever the body lacks, nothing is done.
            let unknown = call(&confined, route, &site, &key).await;
            assert!((400..500).contains(&unknown.status), "{shown}: {}", unknown.text);
        }
    }

    assert!(objects >= 10, "{objects}");
    assert_eq!(node.api().get("/api/v1/federation/sites").await.licensed(), before);
}
