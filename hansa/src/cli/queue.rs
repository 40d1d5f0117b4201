//! `hansa queue` and `hansa resync`: what a site still has to send.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::connection::Connection;
use super::failure::Failure;
use super::output::{self, Column, Format, field, instant, note};

/// Flags of `hansa queue`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  hansa queue --data-dir /var/lib/hansa\n  hansa queue dead\n  hansa queue requeue\n  \
    hansa queue purge --keep-newest 1000"
)]
pub struct QueueArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: Option<QueueVerb>,
}

#[derive(Debug, Subcommand)]
enum QueueVerb {
    /// Lists what the coordinator refused for good.
    Dead,
    /// Sends what the coordinator refused for good once more: these entries, or all.
    Requeue {
        /// Ids that `hansa queue dead` shows.
        ids: Vec<u64>,
    },
    /// Drops the oldest payloads that wait, for good: rollups, results and reports, never hosts.
    Purge {
        /// How many of the newest stay.
        #[arg(long, value_name = "N")]
        keep_newest: u64,
    },
}

/// Flags of `hansa resync`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hansa resync --data-dir /var/lib/hansa")]
pub struct ResyncArgs {
    #[command(flatten)]
    connection: Connection,
}

const QUEUE: &str = "/api/v1/federation/site/sync-queue";

const SHEET: &[Column] = &[
    Column { heading: "state", cell: |body| field(body, "state") },
    Column { heading: "enrolled", cell: |body| field(body, "enrolled") },
    Column { heading: "waiting rows", cell: |body| field(body, "queue_depth") },
    Column { heading: "repair leaves", cell: |body| field(body, "resync_leaves") },
    Column { heading: "by kind", cell: |body| field(body, "queue_depth_by_payload_type") },
    Column { heading: "oldest", cell: |body| instant(body, "queue_oldest_at") },
    Column { heading: "failures in a row", cell: |body| field(body, "consecutive_failures") },
    Column { heading: "last sync", cell: |body| instant(body, "last_successful_sync_at") },
    Column { heading: "last error", cell: |body| field(body, "last_sync_error") },
    Column { heading: "next try", cell: |body| instant(body, "next_reconnect_at") },
];

const DEAD: &[Column] = &[
    Column { heading: "id", cell: |row| field(row, "id") },
    Column { heading: "payload", cell: |row| field(row, "payload_type") },
    Column { heading: "queued", cell: |row| instant(row, "created_at") },
    Column { heading: "refusals", cell: |row| field(row, "attempts") },
    Column { heading: "last error", cell: |row| field(row, "last_error") },
];

const REQUEUED: Column = Column { heading: "requeued", cell: |body| field(body, "requeued_count") };
const PURGED: Column = Column { heading: "dropped", cell: |body| field(body, "purged_count") };

pub(crate) async fn run(args: QueueArgs) -> Result<(), Failure> {
    let access = args.connection.open().await?;
    let client = access.client();
    let answer = match &args.verb {
        None => client.get("/api/v1/federation/site/sync-status", &[]).await,
        Some(QueueVerb::Dead) => client.get(&format!("{QUEUE}/dead"), &[]).await,
        Some(QueueVerb::Requeue { ids }) => {
            let body = (!ids.is_empty()).then(|| json!({ "ids": ids }));
            client.send_json(Method::POST, &format!("{QUEUE}/requeue"), body.as_ref()).await
        }
        Some(QueueVerb::Purge { keep_newest }) => {
            let body = json!({ "keep_newest": keep_newest });
            client.send_json(Method::POST, &format!("{QUEUE}/purge"), Some(&body)).await
        }
    };
    access.close().await;
    let (answer, format) = (answer?, args.connection.output);
    match args.verb {
        None => output::item(format, &answer, None, SHEET),
        Some(QueueVerb::Dead) => output::list(format, &answer, "entries", DEAD),
        Some(QueueVerb::Requeue { .. }) => output::item(format, &answer, None, &[REQUEUED]),
        Some(QueueVerb::Purge { .. }) => output::item(format, &answer, None, &[PURGED]),
    }
}

pub(crate) async fn resync(args: ResyncArgs) -> Result<(), Failure> {
    let access = args.connection.open().await?;
    let answer =
        access.client().send_json::<Value>(Method::POST, "/api/v1/federation/site/resync", None).await;
    access.close().await;
    if args.connection.output == Format::Table {
        note(
            "the site compares itself with the coordinator and sends what differs; hansa queue shows how far it is",
        );
    }
    output::item(
        args.connection.output,
        &answer?,
        None,
        &[Column { heading: "waiting rows", cell: |body| field(body, "depth") }],
    )
}
