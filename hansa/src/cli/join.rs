//! `hansa join`: the whole site side of enrollment in one command.

use std::io::Read as _;

use clap::Args;
use hansa_model::enrollment::{JoinCode, Role};
use hansa_transport::identity::PublicKey;
use reqwest::Method;
use serde_json::{Value, json};

use super::connection::Connection;
use super::failure::{Exit, Failure};
use super::output::{self, Column, Format, field, instant, note};
use crate::client::Client;

/// Flags of `hansa join`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  hansa join hansa1_…\n  hansa join - --data-dir /var/lib/hansa < code.txt"
)]
pub struct JoinArgs {
    /// The code from `hansa site add`; `-` reads it from standard input.
    code: String,
    /// Seconds between two contacts when the coordinator has no QUIC, 5 to 86400 [default: 300].
    #[arg(long, value_name = "SECONDS")]
    sync_interval: Option<u32>,
    #[command(flatten)]
    connection: Connection,
}

const SHEET: &[Column] = &[
    Column { heading: "status", cell: |body| field(body, "status") },
    Column { heading: "coordinator", cell: |body| part(body, "coordinator_url") },
    Column { heading: "site id", cell: |body| part(body, "site_id") },
    Column {
        heading: "enrolled",
        cell: |body| body.get("coordinator").map_or_else(|| "-".to_owned(), |of| instant(of, "enrolled_at")),
    },
];

pub(crate) async fn run(args: JoinArgs) -> Result<(), Failure> {
    let code = read_code(&args.code)?;
    let access = args.connection.open().await?;
    let joined = join(access.client(), &code, args.sync_interval).await;
    access.close().await;
    let answer = joined?;
    if args.connection.output == Format::Table {
        note("this site is now a member of the federation");
    }
    output::item(args.connection.output, &answer, None, SHEET)
}

fn read_code(text: &str) -> Result<JoinCode, Failure> {
    let mut piped = String::new();
    if text == "-" {
        std::io::stdin()
            .lock()
            .read_to_string(&mut piped)
            .map_err(|error| Failure::usage(format!("standard input cannot be read: {error}")))?;
    }
    let text = if text == "-" { &piped } else { text };
    JoinCode::decode(text).map_err(|error| Failure::usage(error.to_string()))
}

async fn join(
    client: &Client,
    code: &JoinCode,
    sync_interval: Option<u32>,
) -> Result<crate::client::Answer, Failure> {
    take_site_role(client).await?;
    let key = PublicKey::from_bytes(code.coordinator_identity_key)
        .map_err(|error| Failure::usage(format!("the join code's key is not usable: {error}")))?;
    let mut body = json!({
        "coordinator_url": code.coordinator_url,
        "enrollment_token": code.enrollment_token,
        "coordinator_identity_public_key_pem": key.to_pem(),
    });
    if let (Some(body), Some(seconds)) = (body.as_object_mut(), sync_interval) {
        body.insert("sync_interval_seconds".to_owned(), seconds.into());
    }
    if let (Some(body), Some(quic)) = (body.as_object_mut(), &code.quic_address) {
        body.insert("quic_address".to_owned(), quic.as_str().into());
    }
    client.send_json(Method::POST, "/api/v1/federation/site/enroll", Some(&body)).await
}

/// A node without a role becomes a site; a coordinator never does so by accident.
async fn take_site_role(client: &Client) -> Result<(), Failure> {
    const PATH: &str = "/api/v1/federation-role";
    let role = client.get(PATH, &[]).await?;
    match field(&role.json, "role").parse() {
        Ok(Role::Site) => Ok(()),
        Ok(Role::Coordinator) => {
            Err(Failure::new(Exit::Conflict, "this node is a coordinator: a coordinator joins nobody")
                .next("hansa role set site, if it should stop being one"))
        }
        Ok(Role::None) | Err(_) => {
            let body = json!({"role": Role::Site.as_str()});
            client.send_json(Method::PUT, PATH, Some(&body)).await.map(drop)
        }
    }
}

fn part(body: &Value, name: &str) -> String {
    body.get("coordinator").map_or_else(|| "-".to_owned(), |coordinator| field(coordinator, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_code_is_a_usage_error() {
        assert_eq!(read_code("hansa1_abc").unwrap_err().exit, Exit::Usage);
    }
}
