//! `hansa tenant`, and the flag that names a tenant.

use clap::{Args, Subcommand};
use hansa_model::secrets::id::TenantId;
use reqwest::Method;
use serde_json::{Map, Value};

use super::connection::Connection;
use super::failure::Failure;
use super::output::{self, Column, Format, field, instant, note};
use crate::client::Client;

const TENANTS: &str = "/v1/tenants";

/// Whose secrets a command is about.
#[derive(Debug, Clone, Args)]
pub(crate) struct TenantFlag {
    /// Tenant whose secrets are meant [default: the token's, else the default tenant].
    #[arg(
        long,
        value_name = "ID",
        env = "HANSA_TENANT",
        hide_env_values = true,
        global = true,
        help_heading = "Node"
    )]
    pub(crate) tenant: Option<TenantId>,
}

/// Flags of `hansa tenant`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  hansa tenant add acme --name 'Acme Ltd'\n  \
    hansa secret list --tenant acme\n  hansa tenant remove acme")]
pub struct TenantArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: TenantVerb,
}

#[derive(Debug, Subcommand)]
enum TenantVerb {
    /// Makes a tenant.
    Add {
        /// 1 to 64 letters, digits, - and _; as tokens name it.
        id: TenantId,
        /// For people [default: the id].
        #[arg(long)]
        name: Option<String>,
        /// The partner that it belongs to [default: ptn_default].
        #[arg(long, value_name = "ID")]
        partner: Option<String>,
    },
    /// Lists the tenants that the caller may act for.
    List,
    /// Removes a tenant that has no secrets, backends and policies any more.
    Remove {
        /// Its id.
        id: TenantId,
    },
}

const ROW: &[Column] = &[
    Column { heading: "ID", cell: |tenant| field(tenant, "id") },
    Column { heading: "NAME", cell: |tenant| field(tenant, "name") },
    Column { heading: "PARTNER", cell: |tenant| field(tenant, "partner_id") },
    Column { heading: "CREATED", cell: |tenant| instant(tenant, "created_at") },
];

const SHEET: &[Column] = &[
    Column { heading: "id", cell: |tenant| field(tenant, "id") },
    Column { heading: "name", cell: |tenant| field(tenant, "name") },
    Column { heading: "partner", cell: |tenant| field(tenant, "partner_id") },
    Column { heading: "created", cell: |tenant| instant(tenant, "created_at") },
];

pub(crate) async fn run(args: TenantArgs) -> Result<(), Failure> {
    let access = args.connection.open().await?;
    let ended = carry_out(access.client(), args.connection.output, args.verb).await;
    access.close().await;
    ended
}

async fn carry_out(client: &Client, format: Format, verb: TenantVerb) -> Result<(), Failure> {
    match verb {
        TenantVerb::Add { id, name, partner } => {
            let mut body = Map::new();
            body.insert("id".to_owned(), id.as_str().into());
            body.extend(name.map(|name| ("name".to_owned(), Value::from(name))));
            body.extend(partner.map(|partner| ("partner_id".to_owned(), Value::from(partner))));
            let answer = client.send_json(Method::POST, TENANTS, Some(&body)).await?;
            output::item(format, &answer, None, SHEET)
        }
        TenantVerb::List => {
            let answer = client.get_pages(TENANTS, &[], "tenants", None).await?;
            output::list(format, &answer, "tenants", ROW)
        }
        TenantVerb::Remove { id } => {
            client.send_json::<Value>(Method::DELETE, &format!("{TENANTS}/{id}"), None).await?;
            note(&format!("{id} is removed"));
            Ok(())
        }
    }
}
