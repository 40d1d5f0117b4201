//! `hansa command`: what sites are asked to do, and what came of it.

use std::time::Duration;

use clap::{Args, Subcommand};
use hansa_model::id::CommandId;
use hansa_model::{HostId, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};

use super::connection::Connection;
use super::failure::{Exit, Failure};
use super::output::{self, Column, Format, field, instant, note};
use super::site;
use crate::client::{Answer, Client};

const COMMANDS: &str = "/api/v1/federation/commands";
/// Between two looks at a command that is waited for; commands take milliseconds or minutes.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Flags of `hansa command`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  hansa command dispatch reboot --site berlin --host ID --wait\n  \
    hansa command dispatch run_script --site berlin,paris --parameters '{\"script\":\"uptime\"}'\n  \
    hansa command list --open\n  hansa command cancel ID")]
pub struct CommandArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: CommandVerb,
}

#[derive(Debug, Subcommand)]
enum CommandVerb {
    /// Sends a command to sites; each gets one of its own.
    Dispatch(DispatchArgs),
    /// Lists commands, newest first.
    List(ListArgs),
    /// Shows a command.
    Show {
        /// The command's id.
        id: CommandId,
    },
    /// Stops a command, or takes it back before it was sent.
    Cancel {
        /// The command's id.
        id: CommandId,
    },
    /// Waits until a command has ended, and shows it.
    Wait {
        /// The command's id.
        id: CommandId,
        /// Seconds to wait at most.
        #[arg(long, value_name = "SECONDS", default_value_t = 300)]
        timeout: u64,
    },
}

#[derive(Debug, Args)]
struct DispatchArgs {
    /// What the site does, such as reboot.
    command_type: String,
    /// The sites, by name or id.
    #[arg(long, value_delimiter = ',', required = true)]
    site: Vec<String>,
    /// Hosts of the one site; all of its hosts when left out.
    #[arg(long, value_delimiter = ',', value_name = "ID")]
    host: Vec<HostId>,
    /// A JSON object.
    #[arg(long, value_name = "JSON")]
    parameters: Option<String>,
    /// Not to be started from this instant on, RFC 3339.
    #[arg(long, value_name = "TIME")]
    expires_at: Option<Timestamp>,
    /// Shows what would be sent, and sends nothing.
    #[arg(long)]
    dry_run: bool,
    /// Waits until the command of the one site has ended.
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Only of this site, by name or id.
    #[arg(long)]
    site: Option<String>,
    /// Exactly this status: queued_at_site, in_progress, partial, completed or failed.
    #[arg(long)]
    status: Option<String>,
    /// Only those that have not ended.
    #[arg(long)]
    open: bool,
    /// Commands to show, 1 to 1000.
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// Commands to leave out.
    #[arg(long, value_name = "N", default_value_t = 0)]
    offset: usize,
}

const ROW: &[Column] = &[
    Column { heading: "ID", cell: |command| field(command, "id") },
    Column { heading: "TYPE", cell: |command| field(command, "command_type") },
    Column { heading: "STATUS", cell: |command| field(command, "status") },
    Column { heading: "HOSTS", cell: hosts },
    Column { heading: "DISPATCHED", cell: |command| instant(command, "dispatched_at") },
    Column { heading: "RESULT", cell: |command| field(command, "result_summary") },
];

const SHEET: &[Column] = &[
    Column { heading: "id", cell: |command| field(command, "id") },
    Column { heading: "type", cell: |command| field(command, "command_type") },
    Column { heading: "site", cell: |command| field(command, "target_site_id") },
    Column { heading: "status", cell: |command| field(command, "status") },
    Column { heading: "hosts", cell: hosts },
    Column { heading: "result", cell: |command| field(command, "result_summary") },
    Column { heading: "dispatched", cell: |command| instant(command, "dispatched_at") },
    Column { heading: "by", cell: |command| field(command, "dispatched_by") },
    Column { heading: "ended", cell: |command| instant(command, "completed_at") },
    Column { heading: "expires", cell: |command| instant(command, "expires_at") },
    Column { heading: "cancel asked", cell: |command| instant(command, "cancel_requested_at") },
    Column { heading: "push error", cell: |command| field(command, "last_push_error") },
];

const BULK_ROW: &[Column] = &[
    Column { heading: "SITE", cell: |row| field(row, "site_name") },
    Column { heading: "HOSTS", cell: |row| field(row, "host_count") },
    Column {
        heading: "COMMAND",
        cell: |row| row.get("command").map_or_else(String::new, |c| field(c, "id")),
    },
    Column {
        heading: "ERROR",
        cell: |row| row.get("error").map_or_else(String::new, |e| field(e, "detail")),
    },
];

fn hosts(command: &Value) -> String {
    let progress = command.get("progress").cloned().unwrap_or_default();
    format!("{} of {}", field(&progress, "succeeded"), field(&progress, "hosts"))
}

pub(crate) async fn run(args: CommandArgs) -> Result<(), Failure> {
    let access = args.connection.open().await?;
    let (client, format) = (access.client(), args.connection.output);
    let ended = match args.verb {
        CommandVerb::Dispatch(dispatch) => send(client, format, &dispatch).await,
        CommandVerb::List(filter) => list(client, format, &filter).await,
        CommandVerb::Show { id } => match client.get(&format!("{COMMANDS}/{id}"), &[]).await {
            Ok(answer) => output::item(format, &answer, Some("command"), SHEET),
            Err(failure) => Err(failure),
        },
        CommandVerb::Cancel { id } => cancel(client, format, id).await,
        CommandVerb::Wait { id, timeout } => {
            wait(client, format, &id.to_string(), Duration::from_secs(timeout)).await
        }
    };
    access.close().await;
    ended
}

async fn send(client: &Client, format: Format, args: &DispatchArgs) -> Result<(), Failure> {
    let parameters: Option<Value> = args
        .parameters
        .as_deref()
        .map(serde_json::from_str)
        .transpose()
        .map_err(|error| Failure::usage(format!("--parameters is not JSON: {error}")))?;
    let mut sites = Vec::new();
    for site in &args.site {
        sites.push(site::resolve(client, site).await?);
    }
    let mut body = json!({ "command_type": args.command_type, "parameters": parameters });
    if let Some(at) = args.expires_at {
        body["expires_at"] = json!(at);
    }
    if let ([site], false) = (sites.as_slice(), args.dry_run) {
        body["target_site_id"] = json!(site);
        body["target_host_ids"] = json!(args.host);
        let answer = client.send_json(Method::POST, &format!("{COMMANDS}/dispatch"), Some(&body)).await?;
        if args.wait {
            let id = answer.json.get("command").map(|command| field(command, "id")).unwrap_or_default();
            return wait(client, format, &id, Duration::from_secs(300)).await;
        }
        return output::item(format, &answer, Some("command"), SHEET);
    }
    if !args.host.is_empty() || args.wait {
        return Err(Failure::usage("--host and --wait need exactly one --site, and no --dry-run"));
    }
    body["site_ids"] = json!(sites);
    body["dry_run"] = json!(args.dry_run);
    let answer = client.send_json(Method::POST, &format!("{COMMANDS}/dispatch-bulk"), Some(&body)).await?;
    output::list(format, &answer, "sites", BULK_ROW)?;
    match field(&answer.json, "refused").as_str() {
        "0" => Ok(()),
        refused => Err(Failure::new(Exit::Failed, format!("{refused} sites got no command"))),
    }
}

async fn list(client: &Client, format: Format, args: &ListArgs) -> Result<(), Failure> {
    let mut query = vec![("limit", args.limit.to_string()), ("offset", args.offset.to_string())];
    if let Some(site) = &args.site {
        query.push(("site_id", site::resolve(client, site).await?));
    }
    if let Some(status) = &args.status {
        query.push(("status", status.clone()));
    }
    if args.open {
        query.push(("open_only", "true".to_owned()));
    }
    let answer = client.get(COMMANDS, &query).await?;
    output::list(format, &answer, "commands", ROW)
}

async fn cancel(client: &Client, format: Format, id: CommandId) -> Result<(), Failure> {
    let path = format!("{COMMANDS}/{id}/cancel");
    let answer = client.send_json::<Value>(Method::POST, &path, None).await?;
    output::item(format, &answer, Some("command"), SHEET)
}

/// Looks until the command has ended, and tells people how far it is on the way.
async fn wait(client: &Client, format: Format, id: &str, at_most: Duration) -> Result<(), Failure> {
    let end = tokio::time::Instant::now() + at_most;
    let mut told = String::new();
    loop {
        let answer: Answer = client.get(&format!("{COMMANDS}/{id}"), &[]).await?;
        let command = answer.json.get("command").cloned().unwrap_or_default();
        let status = field(&command, "status");
        if !matches!(status.as_str(), "queued_at_site" | "in_progress") {
            output::item(format, &answer, Some("command"), SHEET)?;
            return match status.as_str() {
                "completed" => Ok(()),
                _ => Err(Failure::new(Exit::Failed, format!("the command is {status}"))),
            };
        }
        let line = format!("{status}, {} hosts", hosts(&command));
        if line != told {
            note(&line);
            told = line;
        }
        if tokio::time::Instant::now() >= end {
            let failure = Failure::new(Exit::Unreachable, format!("the command is still {status}"));
            return Err(failure.next(format!("hansa command wait {id}")));
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}
