//! `hansa role`.

use clap::{Args, Subcommand};
use hansa_model::enrollment::Role;
use reqwest::Method;
use serde_json::json;

use super::connection::Connection;
use super::failure::Failure;
use super::output::{self, Format};

const PATH: &str = "/api/v1/federation-role";

/// Flags of `hansa role`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  hansa role show\n  hansa role set coordinator --data-dir /var/lib/hansa"
)]
pub struct RoleArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: RoleVerb,
}

#[derive(Debug, Subcommand)]
enum RoleVerb {
    /// Prints the role.
    Show,
    /// Changes the role; takes effect at once.
    Set {
        /// none, coordinator or site.
        role: Role,
    },
}

pub(crate) async fn run(args: RoleArgs) -> Result<(), Failure> {
    let access = args.connection.open().await?;
    let answer = match args.verb {
        RoleVerb::Show => access.client().get(PATH, &[]).await,
        RoleVerb::Set { role } => {
            access.client().send_json(Method::PUT, PATH, Some(&json!({"role": role.as_str()}))).await
        }
    };
    access.close().await;
    let answer = answer?;
    match args.connection.output {
        Format::Table => output::write_data(&output::field(&answer.json, "role")),
        Format::Json | Format::Ndjson => output::write_data(&answer.text),
    }
}
