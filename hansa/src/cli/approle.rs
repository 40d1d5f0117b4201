//! `hansa approle`: programs that log in to the Vault-speaking surface.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::connection::Connection;
use super::failure::{Exit, Failure};
use super::output::{self, Column, Format, field, instant, note};
use super::tenant::TenantFlag;
use crate::client::{Answer, Client};

const APPROLES: &str = "/v1/approles";

/// Flags of `hansa approle`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  hansa approle add ci --scope secrets:read,secrets:list --token-ttl 30m\n  \
    hansa path-policy add ci --allow 'read,list:app/**' --to approle:ci\n  \
    hansa approle secret-id ci --ttl 90d -o json\n  hansa approle secret-ids ci\n  hansa approle remove ci\n\nA program logs in with role id and \
    secret id under /vault, as it does at Vault. What it may read is said by policies on paths."
)]
pub struct AppRoleArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    tenant: TenantFlag,
    #[command(subcommand)]
    verb: AppRoleVerb,
}

#[derive(Debug, Subcommand)]
enum AppRoleVerb {
    /// Makes an AppRole; it may do no more than whoever makes it.
    Add {
        /// 1 to 128 letters, digits and . _ -; policies name it as approle:NAME.
        name: String,
        /// What its tokens may do, within its policies, separated by spaces or commas
        /// [default: secrets:read secrets:list].
        #[arg(long, value_name = "SCOPES")]
        scope: Vec<String>,
        /// How long its tokens live, such as 30m; at most 30d [default: 1h].
        #[arg(long, value_name = "DURATION")]
        token_ttl: Option<String>,
    },
    /// Lists the AppRoles.
    List,
    /// Shows one AppRole, without its secret ids.
    Show {
        /// Its name.
        name: String,
    },
    /// Makes a secret id of an AppRole and prints it; it is shown once.
    SecretId {
        /// The AppRole's name.
        name: String,
        /// When it ends, such as 90d [default: never].
        #[arg(long, value_name = "DURATION")]
        ttl: Option<String>,
    },
    /// Lists an AppRole's secret ids by their accessors, without the secret ids themselves.
    SecretIds {
        /// The AppRole's name.
        name: String,
    },
    /// Destroys a secret id: nobody logs in with it from then on. Tokens that it gave live on to their end.
    RemoveSecretId {
        /// The AppRole's name.
        name: String,
        /// The secret id's accessor, as the list shows it.
        accessor: String,
    },
    /// Removes an AppRole: its secret ids and tokens are refused from then on.
    Remove {
        /// Its name.
        name: String,
    },
}

const ROW: &[Column] = &[
    Column { heading: "NAME", cell: |role| field(role, "name") },
    Column { heading: "SCOPES", cell: |role| field(role, "scopes") },
    Column { heading: "TOKENS LIVE", cell: |role| field(role, "token_ttl") },
    Column { heading: "CREATED", cell: |role| instant(role, "created_at") },
    Column { heading: "ROLE ID", cell: |role| field(role, "role_id") },
];

const SECRET_ID: &[Column] = &[
    Column { heading: "ACCESSOR", cell: |id| field(id, "accessor") },
    Column { heading: "CREATED", cell: |id| instant(id, "created_at") },
    Column { heading: "ENDS", cell: |id| instant(id, "expires_at") },
];

const SHEET: &[Column] = &[
    Column { heading: "name", cell: |role| field(role, "name") },
    Column { heading: "role id", cell: |role| field(role, "role_id") },
    Column { heading: "scopes", cell: |role| field(role, "scopes") },
    Column { heading: "tokens live", cell: |role| field(role, "token_ttl") },
    Column { heading: "created", cell: |role| instant(role, "created_at") },
    Column { heading: "by", cell: |role| field(role, "created_by") },
];

pub(crate) async fn run(args: AppRoleArgs) -> Result<(), Failure> {
    let access = args.connection.open().await?;
    let client = access.client().for_tenant(args.tenant.tenant);
    let ended = carry_out(&client, args.connection.output, args.verb).await;
    access.close().await;
    ended
}

async fn carry_out(client: &Client, format: Format, verb: AppRoleVerb) -> Result<(), Failure> {
    match verb {
        AppRoleVerb::Add { name, scope, token_ttl } => {
            let mut body = Map::new();
            body.insert("name".to_owned(), name.into());
            let scopes: Vec<&str> = scope
                .iter()
                .flat_map(|text| text.split([' ', ',']))
                .filter(|name| !name.is_empty())
                .collect();
            if !scopes.is_empty() {
                body.insert("scopes".to_owned(), json!(scopes));
            }
            body.extend(token_ttl.map(|ttl| ("token_ttl".to_owned(), Value::from(ttl))));
            let answer = client.send_json(Method::POST, APPROLES, Some(&body)).await?;
            output::item(format, &answer, None, SHEET)
        }
        AppRoleVerb::List => {
            let answer = client.get(APPROLES, &[]).await?;
            output::list(format, &answer, "approles", ROW)
        }
        AppRoleVerb::Show { name } => {
            let answer = client.get(APPROLES, &[]).await?;
            let roles =
                answer.json.get("approles").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let Some(role) =
                roles.iter().find(|role| role.get("name").and_then(Value::as_str) == Some(&name))
            else {
                let failure = Failure::new(Exit::NotFound, format!("there is no AppRole {name}"));
                return Err(failure.next("hansa approle list"));
            };
            let answer = Answer { text: role.to_string(), json: role.clone() };
            output::item(format, &answer, None, SHEET)
        }
        AppRoleVerb::SecretId { name, ttl } => {
            let body = ttl.map(|ttl| json!({"ttl": ttl}));
            let path = format!("{APPROLES}/{name}/secret-id");
            let answer = client.send_json(Method::POST, &path, body.as_ref()).await?;
            if format != Format::Table {
                return output::item(format, &answer, None, &[]);
            }
            note(&format!("role id {}. The secret id is shown this once:", field(&answer.json, "role_id")));
            output::write_data(&field(&answer.json, "secret_id"))
        }
        AppRoleVerb::SecretIds { name } => {
            let answer = client.get(&format!("{APPROLES}/{name}/secret-id"), &[]).await?;
            output::list(format, &answer, "secret_ids", SECRET_ID)
        }
        AppRoleVerb::RemoveSecretId { name, accessor } => {
            let path = format!("{APPROLES}/{name}/secret-id/{accessor}");
            client.send_json::<Value>(Method::DELETE, &path, None).await?;
            note(&format!("{accessor} of {name} is destroyed"));
            Ok(())
        }
        AppRoleVerb::Remove { name } => {
            client.send_json::<Value>(Method::DELETE, &format!("{APPROLES}/{name}"), None).await?;
            note(&format!("{name} is removed"));
            Ok(())
        }
    }
}
