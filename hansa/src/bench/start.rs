//! Restart at full size: time to the first answer, and memory.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::process::NodeProcess;
use super::{Plan, quantiles, round, search};
use crate::cli::failure::Failure;

/// Restarts of one figure.
const RESTARTS: usize = 5;
/// Time for a fresh process to give back what its start needed.
const SETTLE: Duration = Duration::from_secs(5);

pub(super) async fn run(plan: &Plan) -> Result<Vec<Value>, Failure> {
    let empty = NodeProcess::start(&plan.folder.join("empty"), "coordinator").await?;
    tokio::time::sleep(SETTLE).await;
    let empty_bytes = empty.resident_bytes();
    empty.kill().await?;

    let mut node = search::loaded(plan).await?;
    let mut answers = Vec::new();
    let mut readies = Vec::new();
    let mut hosts = 0;
    for _ in 0..RESTARTS {
        let folder = node.data_dir.clone();
        node.kill().await?;
        let started = Instant::now();
        node = NodeProcess::start(&folder, "coordinator").await?;
        hosts = search::total(&node).await?;
        answers.push(started.elapsed());
        readies.push(node.took);
    }
    tokio::time::sleep(SETTLE).await;
    let full_bytes = node.resident_bytes();
    node.kill().await?;

    let slowest = answers.iter().max().map_or(0.0, |longest| round(longest.as_secs_f64() * 1e3));
    let (answer, _) = quantiles(&mut answers);
    let (ready, _) = quantiles(&mut readies);
    let above = full_bytes.saturating_sub(empty_bytes);
    Ok(vec![
        json!({
            "what": "start after kill -9, warm page cache, to the first answer",
            "hosts": hosts,
            "p50_ms": answer,
            "slowest_ms": slowest,
            "ready_p50_ms": ready,
        }),
        json!({
            "what": "memory after a restart",
            "hosts": hosts,
            "resident_bytes": full_bytes,
            "empty_node_bytes": empty_bytes,
            "bytes_per_host": (above as f64 / (hosts.max(1)) as f64).round(),
        }),
    ])
}
