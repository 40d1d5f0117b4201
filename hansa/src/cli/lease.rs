//! `hansa lease`: the secret leases of a coordinator.

use clap::{Args, Subcommand};
use hansa_model::id::LeaseId;
use hansa_model::lease::LeaseStatus;
use reqwest::Method;

use super::connection::Connection;
use super::failure::Failure;
use super::output::{self, Column, Format, field, instant};
use super::site;
use crate::client::Client;

const LEASES: &str = "/api/v1/federation/secret-leases";

/// Flags of `hansa lease`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  hansa lease list --status active --site berlin\n  \
    hansa lease revoke 01890a5d-ac96-774b-bcce-b302099a8057")]
pub struct LeaseArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: LeaseVerb,
}

#[derive(Debug, Subcommand)]
enum LeaseVerb {
    /// Lists leases, newest request first.
    List {
        /// Only leases of this site: name or id.
        #[arg(long)]
        site: Option<String>,
        /// Only leases in this state: requested, active, failed, revoked or expired.
        #[arg(long)]
        status: Option<LeaseStatus>,
        /// At most so many, 1 to 1000 [default: 200].
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
    },
    /// Shows one lease; never its credential.
    Show {
        /// Its id.
        lease: LeaseId,
    },
    /// Takes a lease's credential away: at its issuer now, from its host when the site can be reached.
    Revoke {
        /// Its id.
        lease: LeaseId,
    },
}

const ROW: &[Column] = &[
    Column { heading: "SECRET", cell: |lease| field(lease, "secret_name") },
    Column { heading: "HOST", cell: |lease| field(lease, "host_id") },
    Column { heading: "KIND", cell: |lease| field(lease, "kind") },
    Column { heading: "STATUS", cell: |lease| field(lease, "status") },
    Column { heading: "DELIVERED", cell: |lease| instant(lease, "delivered_at") },
    Column { heading: "EXPIRES", cell: |lease| instant(lease, "expires_at") },
    Column { heading: "ID", cell: |lease| field(lease, "id") },
];

const SHEET: &[Column] = &[
    Column { heading: "id", cell: |lease| field(lease, "id") },
    Column { heading: "site", cell: |lease| field(lease, "site_id") },
    Column { heading: "host", cell: |lease| field(lease, "host_id") },
    Column { heading: "secret", cell: |lease| field(lease, "secret_name") },
    Column { heading: "backend role", cell: |lease| field(lease, "backend_role") },
    Column { heading: "kind", cell: |lease| field(lease, "kind") },
    Column { heading: "status", cell: |lease| field(lease, "status") },
    Column { heading: "at the issuer", cell: |lease| field(lease, "vault_lease_id") },
    Column { heading: "life (s)", cell: |lease| field(lease, "ttl_seconds") },
    Column { heading: "requested", cell: |lease| instant(lease, "requested_at") },
    Column { heading: "issued", cell: |lease| instant(lease, "issued_at") },
    Column { heading: "renewed", cell: |lease| instant(lease, "last_renewed_at") },
    Column { heading: "delivered", cell: |lease| instant(lease, "delivered_at") },
    Column { heading: "expires", cell: |lease| instant(lease, "expires_at") },
    Column { heading: "revoked", cell: |lease| instant(lease, "revoked_at") },
    Column { heading: "last error", cell: |lease| field(lease, "last_error") },
];

pub(crate) async fn run(args: LeaseArgs) -> Result<(), Failure> {
    let access = args.connection.open().await?;
    let ended = carry_out(access.client(), args.connection.output, args.verb).await;
    access.close().await;
    ended
}

async fn carry_out(client: &Client, format: Format, verb: LeaseVerb) -> Result<(), Failure> {
    match verb {
        LeaseVerb::List { site, status, limit } => {
            let mut query = Vec::new();
            if let Some(site) = site {
                query.push(("site_id", site::resolve(client, &site).await?));
            }
            query.extend(status.map(|status| ("status", status.to_string())));
            query.extend(limit.map(|limit| ("limit", limit.to_string())));
            let answer = client.get(LEASES, &query).await?;
            output::list(format, &answer, "leases", ROW)
        }
        LeaseVerb::Show { lease } => {
            let answer = client.get(&format!("{LEASES}/{lease}"), &[]).await?;
            output::item(format, &answer, Some("lease"), SHEET)
        }
        LeaseVerb::Revoke { lease } => {
            let path = format!("{LEASES}/{lease}/revoke");
            let answer = client.send_json::<()>(Method::POST, &path, None).await?;
            output::item(format, &answer, Some("lease"), SHEET)
        }
    }
}
