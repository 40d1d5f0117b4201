//! A sync that finds nothing changed, beside the same calls made bare by a client that does nothing else.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Bench, Method, all, median, name, value, write_all, wrong};
use crate::bench::openbao::Asked;
use crate::bench::round;
use crate::cli::failure::Failure;

/// Repetitions of both sides, in turns.
pub(super) const ROUNDS: usize = 3;
/// Calls at a time: what a backend allows when nothing is configured.
const CALLS_AT_ONCE: usize = 8;
/// Between two looks whether a sync has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Time for a sync; what is not done by then is a defect.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// What a sync called at OpenBao.
struct Calls {
    values: usize,
    metadata: usize,
    listings: usize,
}

pub(super) async fn run(bench: &Bench, secrets: u64) -> Result<Vec<Value>, Failure> {
    let count = usize::try_from(secrets).unwrap_or(usize::MAX);
    let stored = |number| (format!("/v1/secret/data/fleet/{}", name(number)), json!({"data": value(number)}));
    write_all(&bench.bao.url, &bench.bao.token, Method::Post, (0..count).map(stored).collect()).await?;
    let mark = bench.bao.mark()?;
    let id = bench.backend("fleet", "sync", "fleet/**", "secret/data/fleet/**").await?;
    let first = wait(bench, &id, None, secrets).await?;
    let calls = Calls::of(&bench.bao.asked_since(mark)?);
    let mut figures = vec![json!({
        "what": format!("first sync of {secrets} secrets, OpenBao"),
        "seconds": round(first["last_sync_duration_ms"].as_f64().unwrap_or_default() / 1e3),
        "values_fetched": calls.values,
        "metadata_calls": calls.metadata,
        "listings": calls.listings,
    })];

    let (mut bare, mut ours, mut calls) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare.push(by_hand(bench, count).await?.as_secs_f64());
        let mark = bench.bao.mark()?;
        ours.push(again(bench, &id, secrets).await?.as_secs_f64());
        calls.push(Calls::of(&bench.bao.asked_since(mark)?));
    }
    let (bare, ours) = (median(&mut bare), median(&mut ours));
    let most = |of: fn(&Calls) -> usize| calls.iter().map(of).max().unwrap_or_default();
    figures.push(json!({
        "what": format!("sync of {secrets} unchanged secrets, OpenBao"),
        "values_fetched": most(|calls| calls.values),
        "metadata_calls": most(|calls| calls.metadata),
        "listings": most(|calls| calls.listings),
        "seconds": round(ours),
        "same_calls_bare_seconds": round(bare),
        "beside_the_backend_seconds": round(ours - bare),
        "calls_at_once": CALLS_AT_ONCE,
        "rounds": ROUNDS,
    }));
    Ok(figures)
}

/// Starts a sync by hand; how long until it has ended.
pub(super) async fn again(bench: &Bench, id: &str, secrets: u64) -> Result<Duration, Failure> {
    let mut connection = bench.connect().await?;
    let before = connection.json(&format!("/v1/federation/backends/{id}/status")).await?;
    let begun = Instant::now();
    connection.post(&format!("/v1/federation/backends/{id}/sync"), &json!({})).await?;
    wait(bench, id, Some(&before["last_sync"]), secrets).await?;
    Ok(begun.elapsed())
}

/// Waits for a complete sync other than the one that ended then, and looks whether all copies are there; its
/// status.
pub(super) async fn wait(
    bench: &Bench,
    id: &str,
    before: Option<&Value>,
    secrets: u64,
) -> Result<Value, Failure> {
    let mut connection = bench.connect().await?;
    let path = format!("/v1/federation/backends/{id}/status");
    let begun = Instant::now();
    loop {
        let status = connection.json(&path).await?;
        if !status["last_sync"].is_null() && Some(&status["last_sync"]) != before {
            if status["secrets_synced"] != secrets {
                return Err(wrong(format!("a sync has {} copies of {secrets}", status["secrets_synced"])));
            }
            return Ok(status);
        }
        if let Some(error) = status["last_error"].as_str() {
            return Err(wrong(format!("a sync failed: {error}")));
        }
        if begun.elapsed() > WAIT_MAX {
            return Err(wrong(format!("a sync does not end: {status}")));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// One listing and the metadata of each secret.
async fn by_hand(bench: &Bench, count: usize) -> Result<Duration, Failure> {
    let begun = Instant::now();
    let listed = bench.bao.connect().await?.json("/v1/secret/metadata/fleet?list=true").await?;
    let keys = listed["data"]["keys"].as_array().cloned().unwrap_or_default();
    if keys.len() != count {
        return Err(wrong(format!("OpenBao lists {} secrets of {count}", keys.len())));
    }
    let keys = Arc::new(keys);
    let mut clients = JoinSet::new();
    for client in 0..CALLS_AT_ONCE {
        let (mut connection, keys) = (bench.bao.connect().await?, Arc::clone(&keys));
        clients.spawn(async move {
            for key in keys.iter().skip(client).step_by(CALLS_AT_ONCE) {
                let path = format!("/v1/secret/metadata/fleet/{}", key.as_str().unwrap_or_default());
                connection.get(&path).await?;
            }
            Ok(())
        });
    }
    all(clients).await?;
    Ok(begun.elapsed())
}

impl Calls {
    fn of(asked: &[Asked]) -> Self {
        let below = |folder: &str, operation: &str| {
            let found =
                asked.iter().filter(|asked| asked.path.starts_with(folder) && asked.operation == operation);
            found.count()
        };
        Self {
            values: below("secret/data/fleet/", "read"),
            metadata: below("secret/metadata/fleet/", "read"),
            listings: below("secret/metadata/fleet", "list"),
        }
    }
}
