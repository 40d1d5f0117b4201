//! `hansa alert` and `hansa webhook`: what is wrong at the sites, and who is told of it.

use clap::{Args, Subcommand};
use hansa_model::Timestamp;
use hansa_model::id::AlertId;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::connection::Connection;
use super::failure::Failure;
use super::output::{self, Column, Format, field, instant, note};
use super::site;
use crate::client::Client;

const ALERTS: &str = "/api/v1/federation/alerts";
const CONFIG: &str = "/api/v1/federation/alert-config";
const WEBHOOKS: &str = "/api/v1/webhooks";

/// Flags of `hansa alert`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  hansa alert list\n  hansa alert list --site berlin --include-resolved\n  \
    hansa alert acknowledge 01890a5d-ac96-774b-bcce-b302099a8057\n  \
    hansa alert thresholds --compliance 80 --offline-multiplier default"
)]
pub struct AlertArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: AlertVerb,
}

#[derive(Debug, Subcommand)]
enum AlertVerb {
    /// Lists what is wrong now, what began last first.
    List {
        /// Only about this site, by name or id.
        #[arg(long)]
        site: Option<String>,
        /// What is over too, for thirty days.
        #[arg(long)]
        include_resolved: bool,
        /// Alerts to show, 1 to 1000.
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
    },
    /// Takes note of an alert; it stays open until it is over.
    Acknowledge {
        /// The alert's id.
        id: AlertId,
    },
    /// Shows the thresholds, or sets some: a number, or `default`.
    Thresholds(ThresholdArgs),
}

#[derive(Debug, Args)]
struct ThresholdArgs {
    /// Sync intervals that a site may be silent, at least 1.
    #[arg(long, value_name = "N")]
    offline_multiplier: Option<String>,
    /// Seconds that any site may be silent.
    #[arg(long, value_name = "SECONDS")]
    min_offline_seconds: Option<String>,
    /// Least compliance score in percent, 0 to 100.
    #[arg(long, value_name = "PERCENT")]
    compliance: Option<String>,
    /// Critical CVEs that are tolerated.
    #[arg(long, value_name = "N")]
    critical_cves: Option<String>,
}

/// Flags of `hansa webhook`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  hansa webhook list\n  \
    hansa webhook replay pager --since 2026-11-01T00:00:00Z")]
pub struct WebhookArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: WebhookVerb,
}

#[derive(Debug, Subcommand)]
enum WebhookVerb {
    /// Lists the configured webhooks, and what each has still to be told.
    List,
    /// Tells a webhook again what has happened; events keep their ids, so that it can drop what it knows.
    Replay {
        /// Its name in the configuration.
        name: String,
        /// Then or later, RFC 3339 [default: the seven days that are kept].
        #[arg(long, value_name = "TIME")]
        since: Option<Timestamp>,
    },
}

const ROW: &[Column] = &[
    Column { heading: "SINCE", cell: |alert| instant(alert, "triggered_at") },
    Column { heading: "SEVERITY", cell: |alert| field(alert, "severity") },
    Column { heading: "TITLE", cell: |alert| field(alert, "title") },
    Column { heading: "RESOLVED", cell: |alert| instant(alert, "resolved_at") },
    Column { heading: "ACKNOWLEDGED BY", cell: |alert| field(alert, "acknowledged_by") },
    Column { heading: "ID", cell: |alert| field(alert, "id") },
];

const SHEET: &[Column] = &[
    Column { heading: "title", cell: |alert| field(alert, "title") },
    Column { heading: "message", cell: |alert| field(alert, "message") },
    Column { heading: "severity", cell: |alert| field(alert, "severity") },
    Column { heading: "since", cell: |alert| instant(alert, "triggered_at") },
    Column { heading: "acknowledged", cell: |alert| instant(alert, "acknowledged_at") },
    Column { heading: "acknowledged by", cell: |alert| field(alert, "acknowledged_by") },
];

const THRESHOLDS: &[Column] = &[
    Column { heading: "offline multiplier", cell: |body| field(body, "offline_multiplier") },
    Column { heading: "least seconds offline", cell: |body| field(body, "min_offline_seconds") },
    Column { heading: "compliance (%)", cell: |body| field(body, "compliance_threshold") },
    Column { heading: "critical CVEs", cell: |body| field(body, "critical_cve_threshold") },
];

const WEBHOOK_ROW: &[Column] = &[
    Column { heading: "NAME", cell: |webhook| field(webhook, "name") },
    Column { heading: "WAITING", cell: |webhook| field(webhook, "waiting") },
    Column { heading: "FAILURES", cell: |webhook| field(webhook, "consecutive_failures") },
    Column { heading: "LAST ERROR", cell: |webhook| field(webhook, "last_error") },
];

pub(crate) async fn run(args: AlertArgs) -> Result<(), Failure> {
    let access = args.connection.open().await?;
    let ended = carry_out(access.client(), args.connection.output, args.verb).await;
    access.close().await;
    ended
}

async fn carry_out(client: &Client, format: Format, verb: AlertVerb) -> Result<(), Failure> {
    match verb {
        AlertVerb::List { site, include_resolved, limit } => {
            let mut query = vec![("limit", limit.to_string())];
            if let Some(site) = site {
                query.push(("site_id", site::resolve(client, &site).await?));
            }
            if include_resolved {
                query.push(("include_resolved", "true".to_owned()));
            }
            let answer = client.get(ALERTS, &query).await?;
            output::list(format, &answer, "alerts", ROW)
        }
        AlertVerb::Acknowledge { id } => {
            let path = format!("{ALERTS}/{id}/acknowledge");
            let answer = client.send_json::<Value>(Method::POST, &path, None).await?;
            output::item(format, &answer, Some("alert"), SHEET)
        }
        AlertVerb::Thresholds(args) => {
            let changes = changes(args)?;
            let answer = if changes.is_empty() {
                client.get(CONFIG, &[]).await?
            } else {
                client.send_json(Method::PUT, CONFIG, Some(&Value::Object(changes))).await?
            };
            output::item(format, &answer, Some("effective"), THRESHOLDS)
        }
    }
}

/// Members to set; `default` clears one.
fn changes(args: ThresholdArgs) -> Result<Map<String, Value>, Failure> {
    let given = [
        ("offline_multiplier", args.offline_multiplier),
        ("min_offline_seconds", args.min_offline_seconds),
        ("compliance_threshold", args.compliance),
        ("critical_cve_threshold", args.critical_cves),
    ];
    let mut changes = Map::new();
    for (member, text) in given {
        let value = match text.as_deref() {
            None => continue,
            Some("default") => Value::Null,
            Some(text) => serde_json::from_str::<serde_json::Number>(text)
                .map(Value::Number)
                .map_err(|_| Failure::usage(format!("{member}: give a number, or default")))?,
        };
        changes.insert(member.to_owned(), value);
    }
    Ok(changes)
}

pub(crate) async fn webhook(args: WebhookArgs) -> Result<(), Failure> {
    let access = args.connection.open().await?;
    let ended = carry_out_webhook(access.client(), args.connection.output, args.verb).await;
    access.close().await;
    ended
}

async fn carry_out_webhook(client: &Client, format: Format, verb: WebhookVerb) -> Result<(), Failure> {
    match verb {
        WebhookVerb::List => {
            let answer = client.get(WEBHOOKS, &[]).await?;
            output::list(format, &answer, "webhooks", WEBHOOK_ROW)
        }
        WebhookVerb::Replay { name, since } => {
            let body = since.map_or_else(|| json!({}), |since| json!({"since": since}));
            let path = format!("{WEBHOOKS}/{name}/replay");
            let answer = client.send_json(Method::POST, &path, Some(&body)).await?;
            if format == Format::Table {
                note(
                    "the webhook is told in order, one event after the other; hansa webhook list shows how far it is",
                );
            }
            output::item(
                format,
                &answer,
                None,
                &[Column { heading: "waiting", cell: |body| field(body, "waiting") }],
            )
        }
    }
}
