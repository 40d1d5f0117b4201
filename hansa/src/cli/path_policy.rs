//! `hansa path-policy`: who may do what with which secrets.

use std::collections::BTreeSet;

use clap::{Args, Subcommand};
use hansa_model::secrets::id::PathPolicyId;
use hansa_model::secrets::policy::Permission;
use reqwest::Method;
use serde_json::{Value, json};

use super::connection::Connection;
use super::failure::{Exit, Failure};
use super::output::{self, Column, Format, field, instant, note};
use super::tenant::TenantFlag;
use crate::client::Client;

const POLICIES: &str = "/v1/policies";

/// Flags of `hansa path-policy`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    hansa path-policy add web --allow 'read,list:app/web/**' --to ada@example.com\n  \
    hansa path-policy add deploy --allow 'read:app/**' --allow 'write:app/*/build' --to approle:deploy\n  \
    hansa path-policy list\n\nPatterns: ** stands for any number of segments, * for one, ? for one character\n\
    Permissions: read write delete list rotate admin; any rule that matches allows, nothing denies")]
pub struct PathPolicyArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    tenant: TenantFlag,
    #[command(subcommand)]
    verb: PathPolicyVerb,
}

#[derive(Debug, Subcommand)]
enum PathPolicyVerb {
    /// Makes a policy on paths.
    Add {
        /// Name of the policy, unique in the tenant.
        name: String,
        /// What is allowed where, such as 'read,list:app/**'; may be given several times.
        #[arg(long, value_name = "PERMISSIONS:PATTERN", required = true, value_parser = parse_rule)]
        allow: Vec<Rule>,
        /// Whom it binds: user id, client id, approle:NAME, or * for everybody of the tenant; may be given
        /// several times.
        #[arg(long, value_name = "IDENTITY", required = true)]
        to: Vec<String>,
        /// Free text for people.
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
    },
    /// Lists the policies.
    List,
    /// Shows one policy.
    Show {
        /// Name or id.
        policy: String,
    },
    /// Removes a policy: what only it allowed is refused from then on.
    Remove {
        /// Name or id.
        policy: String,
    },
}

/// One `--allow`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    permissions: BTreeSet<Permission>,
    pattern: String,
}

const ROW: &[Column] = &[
    Column { heading: "NAME", cell: |policy| field(policy, "name") },
    Column { heading: "ALLOWS", cell: rules },
    Column { heading: "TO", cell: |policy| field(policy, "identities") },
    Column { heading: "UPDATED", cell: |policy| instant(policy, "updated_at") },
    Column { heading: "ID", cell: |policy| field(policy, "id") },
];

const SHEET: &[Column] = &[
    Column { heading: "name", cell: |policy| field(policy, "name") },
    Column { heading: "id", cell: |policy| field(policy, "id") },
    Column { heading: "description", cell: |policy| field(policy, "description") },
    Column { heading: "allows", cell: rules },
    Column { heading: "to", cell: |policy| field(policy, "identities") },
    Column { heading: "created", cell: |policy| instant(policy, "created_at") },
    Column { heading: "updated", cell: |policy| instant(policy, "updated_at") },
];

pub(crate) async fn run(args: PathPolicyArgs) -> Result<(), Failure> {
    let access = args.connection.open().await?;
    let client = access.client().for_tenant(args.tenant.tenant);
    let ended = carry_out(&client, args.connection.output, args.verb).await;
    access.close().await;
    ended
}

async fn carry_out(client: &Client, format: Format, verb: PathPolicyVerb) -> Result<(), Failure> {
    match verb {
        PathPolicyVerb::Add { name, allow, to, description } => {
            let rules: Vec<Value> = allow.iter().map(Rule::body).collect();
            let identities: BTreeSet<String> = to.into_iter().collect();
            let body = json!({
                "name": name,
                "description": description.unwrap_or_default(),
                "rules": rules,
                "identities": identities,
            });
            let answer = client.send_json(Method::POST, POLICIES, Some(&body)).await?;
            output::item(format, &answer, None, SHEET)
        }
        PathPolicyVerb::List => {
            let answer = client.get_pages(POLICIES, &[], "policies", None).await?;
            output::list(format, &answer, "policies", ROW)
        }
        PathPolicyVerb::Show { policy } => {
            let id = resolve(client, &policy).await?;
            let answer = client.get(&format!("{POLICIES}/{id}"), &[]).await?;
            output::item(format, &answer, None, SHEET)
        }
        PathPolicyVerb::Remove { policy } => {
            let id = resolve(client, &policy).await?;
            client.send_json::<Value>(Method::DELETE, &format!("{POLICIES}/{id}"), None).await?;
            note(&format!("{policy} is removed"));
            Ok(())
        }
    }
}

/// The id behind a name or an id.
async fn resolve(client: &Client, policy: &str) -> Result<String, Failure> {
    if let Ok(id) = policy.parse::<PathPolicyId>() {
        return Ok(id.to_string());
    }
    let answer = client.get_pages(POLICIES, &[], "policies", None).await?;
    let rows = answer.json.get("policies").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    match rows.iter().find(|row| row.get("name").and_then(Value::as_str) == Some(policy)) {
        Some(row) => Ok(field(row, "id")),
        None => {
            let failure = Failure::new(Exit::NotFound, format!("there is no policy {policy}"));
            Err(failure.next("hansa path-policy list"))
        }
    }
}

/// The rules on one line: `read, list: app/**; write: app/*/build`.
fn rules(policy: &Value) -> String {
    let rules = policy.get("rules").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let texts: Vec<String> = rules
        .iter()
        .map(|rule| format!("{}: {}", field(rule, "permissions"), field(rule, "path_pattern")))
        .collect();
    texts.join("; ")
}

impl Rule {
    fn body(&self) -> Value {
        let permissions: Vec<&str> = self.permissions.iter().map(|permission| permission.as_str()).collect();
        json!({"path_pattern": self.pattern, "permissions": permissions})
    }
}

fn parse_rule(text: &str) -> Result<Rule, String> {
    let (permissions, pattern) = text
        .split_once(':')
        .filter(|(_, pattern)| !pattern.is_empty())
        .ok_or("has no : between permissions and pattern, as in read,list:app/**")?;
    let permissions: Result<BTreeSet<Permission>, String> = permissions
        .split(',')
        .map(|name| name.trim().parse().map_err(|error| format!("permission {name}: {error}")))
        .collect();
    Ok(Rule { permissions: permissions?, pattern: pattern.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_is_permissions_then_a_pattern() {
        let rule = parse_rule("read, list:app/**").unwrap();

        assert_eq!(rule.body(), json!({"path_pattern": "app/**", "permissions": ["read", "list"]}));
        for bad in ["app/**", "read", "read:", ":app/**", "reed:app/**", "read,:app/**"] {
            assert!(parse_rule(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn policy_shows_its_rules_on_one_line() {
        let policy = json!({"rules": [
            {"path_pattern": "app/**", "permissions": ["list", "read"]},
            {"path_pattern": "app/*/build", "permissions": ["write"]},
        ]});

        assert_eq!(rules(&policy), "list, read: app/**; write: app/*/build");
    }
}
