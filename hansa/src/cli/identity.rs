//! `hansa identity`.

use clap::{Args, Subcommand};

use super::connection::Connection;
use super::failure::Failure;
use super::output::{self, Format, note};

/// Flags of `hansa identity`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  hansa identity show --data-dir /var/lib/hansa > berlin.pem\n  \
    hansa identity show -o json")]
pub struct IdentityArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: IdentityVerb,
}

#[derive(Debug, Subcommand)]
enum IdentityVerb {
    /// Prints the public key in PEM; its fingerprint, to compare by voice, goes to standard error.
    Show,
}

pub(crate) async fn run(args: IdentityArgs) -> Result<(), Failure> {
    let IdentityVerb::Show = args.verb;
    let access = args.connection.open().await?;
    let answer = access.client().get("/api/v1/federation/identity-key", &[]).await;
    access.close().await;
    let answer = answer?;
    match args.connection.output {
        Format::Table => {
            note(&format!("fingerprint {}", output::field(&answer.json, "fingerprint")));
            let pem = answer.json.get("public_key_pem").and_then(serde_json::Value::as_str);
            output::write_data(pem.unwrap_or_default())
        }
        Format::Json | Format::Ndjson => output::write_data(&answer.text),
    }
}
