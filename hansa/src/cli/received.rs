//! `hansa received`, `hansa connector`, `hansa relocate` and `hansa leave`: what a coordinator wants of this site,
//! what carries it out, where the coordinator is, and the end of it.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::connection::Connection;
use super::failure::{Exit, Failure};
use super::output::{self, Column, field, instant, note};

/// Flags of `hansa received`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  hansa received commands\n  hansa received policies --output json")]
pub struct ReceivedArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: ReceivedVerb,
}

#[derive(Debug, Subcommand)]
enum ReceivedVerb {
    /// Lists the policies that this site holds, and whether they are in force.
    Policies,
    /// Lists the newest commands that this site was sent, and what became of them.
    Commands {
        /// At most so many, 1 to 1000 [default: 200].
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
    },
}

/// Flags of `hansa connector`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  hansa connector list\n\nConnectors are declared in the configuration, in \
    [[connector]] tables: see hansa config --defaults."
)]
pub struct ConnectorArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: ConnectorVerb,
}

#[derive(Debug, Subcommand)]
enum ConnectorVerb {
    /// Lists what carries out commands, policies and leases at this site, in the order of choice.
    List,
}

/// Flags of `hansa relocate`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  hansa relocate https://hq.example.com --quic-address hq.example.com:7443\n\nThe coordinator \
    must have the identity key that this site has pinned; anybody else is refused."
)]
pub struct RelocateArgs {
    #[command(flatten)]
    connection: Connection,
    /// Base URL of the coordinator from now on.
    url: String,
    /// Where it takes QUIC [default: nowhere, it is spoken to over HTTP].
    #[arg(long, value_name = "HOST:PORT")]
    quic_address: Option<String>,
}

/// Flags of `hansa leave`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hansa leave --yes --data-dir /var/lib/hansa")]
pub struct LeaveArgs {
    #[command(flatten)]
    connection: Connection,
    /// Confirms it: the coordinator forgets this site's hosts, and joining again needs a new code.
    #[arg(long)]
    yes: bool,
}

const POLICIES: &[Column] = &[
    Column { heading: "type", cell: |row| field(row, "policy_type") },
    Column { heading: "name", cell: |row| field(row, "name") },
    Column { heading: "version", cell: |row| field(row, "version") },
    Column { heading: "applied", cell: |row| field(row, "applied") },
    Column { heading: "withdrawn", cell: |row| field(row, "withdrawn") },
    Column { heading: "received", cell: |row| instant(row, "received_at") },
    Column { heading: "error", cell: |row| field(row, "apply_error") },
];

const COMMANDS: &[Column] = &[
    Column { heading: "id", cell: |row| field(row, "id") },
    Column { heading: "type", cell: |row| field(row, "command_type") },
    Column { heading: "status", cell: |row| field(row, "status") },
    Column { heading: "received", cell: |row| instant(row, "received_at") },
    Column { heading: "completed", cell: |row| instant(row, "completed_at") },
    Column { heading: "error", cell: |row| field(&row["result"], "error") },
];

const CONNECTORS: &[Column] = &[
    Column { heading: "name", cell: |row| field(row, "name") },
    Column { heading: "way", cell: |row| field(row, "way") },
    Column { heading: "kinds", cell: |row| field(row, "kinds") },
    Column { heading: "per host", cell: |row| field(row, "per_host") },
    Column { heading: "seconds", cell: |row| field(row, "wait_seconds") },
];

pub(crate) async fn run(args: ReceivedArgs) -> Result<(), Failure> {
    let (path, key, columns, limit) = match args.verb {
        ReceivedVerb::Policies => ("received-policies", "policies", POLICIES, None),
        ReceivedVerb::Commands { limit } => ("received-commands", "commands", COMMANDS, limit),
    };
    let query: Vec<(&str, String)> = limit.map(|limit| ("limit", limit.to_string())).into_iter().collect();
    let access = args.connection.open().await?;
    let answer = access.client().get(&format!("/api/v1/federation/site/{path}"), &query).await;
    access.close().await;
    output::list(args.connection.output, &answer?, key, columns)
}

pub(crate) async fn connectors(args: ConnectorArgs) -> Result<(), Failure> {
    let ConnectorVerb::List = args.verb;
    let access = args.connection.open().await?;
    let answer = access.client().get("/api/v1/site/connectors", &[]).await;
    access.close().await;
    output::list(args.connection.output, &answer?, "items", CONNECTORS)
}

pub(crate) async fn relocate(args: RelocateArgs) -> Result<(), Failure> {
    let body = json!({"coordinator_url": args.url, "quic_address": args.quic_address});
    let access = args.connection.open().await?;
    let answer = access.client().send_json(Method::PUT, "/api/v1/site/coordinator", Some(&body)).await;
    access.close().await;
    let columns = [
        Column { heading: "status", cell: |body| field(body, "status") },
        Column { heading: "coordinator", cell: |body| field(&body["coordinator"], "coordinator_url") },
        Column { heading: "quic", cell: |body| field(&body["coordinator"], "quic_address") },
    ];
    output::item(args.connection.output, &answer?, None, &columns)
}

pub(crate) async fn leave(args: LeaveArgs) -> Result<(), Failure> {
    if !args.yes {
        return Err(Failure::new(Exit::Usage, "leaving cannot be undone").next("hansa leave --yes"));
    }
    let access = args.connection.open().await?;
    let answer =
        access.client().send_json::<Value>(Method::POST, "/api/v1/federation/site/leave", None).await;
    access.close().await;
    let answer = answer?;
    if answer.json["notified"] != true {
        note("the coordinator was not told: its operator removes the site with hansa site remove");
    }
    output::item(
        args.connection.output,
        &answer,
        None,
        &[
            Column { heading: "status", cell: |body| field(body, "status") },
            Column { heading: "coordinator told", cell: |body| field(body, "notified") },
        ],
    )
}
