//! `hansa queue` and `hansa resync`: what a site still has to send.

use clap::Args;
use reqwest::Method;
use serde_json::Value;

use super::connection::Connection;
use super::failure::Failure;
use super::output::{self, Column, Format, field, instant, note};

/// Flags of `hansa queue`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hansa queue --data-dir /var/lib/hansa")]
pub struct QueueArgs {
    #[command(flatten)]
    connection: Connection,
}

/// Flags of `hansa resync`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hansa resync --data-dir /var/lib/hansa")]
pub struct ResyncArgs {
    #[command(flatten)]
    connection: Connection,
}

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

pub(crate) async fn run(args: QueueArgs) -> Result<(), Failure> {
    let access = args.connection.open().await?;
    let answer = access.client().get("/api/v1/federation/site/sync-status", &[]).await;
    access.close().await;
    output::item(args.connection.output, &answer?, None, SHEET)
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
