//! What the node adds to the backend's own answer, one client, one request at a time, all sides in turns.

use std::path::Path;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::commit::Bare;
use super::{Bench, READ, name};
use crate::bench::http::Connection;
use crate::bench::{quantiles, round};
use crate::cli::failure::Failure;

/// Requests of each side.
const REQUESTS: usize = 3_000;
/// Requests of each side before any is counted.
const WARM_UP: usize = 300;

pub(super) async fn run(bench: &Bench, folder: &Path) -> Result<Vec<Value>, Failure> {
    let bare = Bare::open(folder)?;
    let mut theirs = bench.bao.connect().await?;
    let mut ours = bench.connect().await?;
    let (mut direct, mut commit, mut proxied) = (Vec::new(), Vec::new(), Vec::new());
    let (mut local, mut synced) = (Vec::new(), Vec::new());
    for number in 0..WARM_UP + REQUESTS {
        let name = name(number % READ);
        let taken = [
            timed(&mut theirs, format!("/v1/secret/data/reads/{name}")).await?,
            bare.commit().await?,
            timed(&mut ours, format!("/v1/secrets/proxied/{name}")).await?,
            timed(&mut ours, format!("/v1/secrets/local/{name}")).await?,
            timed(&mut ours, format!("/v1/secrets/synced/{name}")).await?,
        ];
        if number >= WARM_UP {
            for (times, taken) in
                [&mut direct, &mut commit, &mut proxied, &mut local, &mut synced].into_iter().zip(taken)
            {
                times.push(taken);
            }
        }
    }
    let mut figures = Vec::new();
    let mut middle = Vec::new();
    for (what, times) in [
        ("OpenBao itself, file audit device, not synced", &mut direct),
        ("one durable commit of one audit entry", &mut commit),
        ("proxied, audit synced", &mut proxied),
        ("local, audit synced", &mut local),
        ("synced copy, audit synced", &mut synced),
    ] {
        let (p50, p99) = quantiles(times);
        middle.push(p50);
        figures.push(json!({
            "what": format!("one client, {what}"), "p50_ms": p50, "p99_ms": p99, "requests": REQUESTS,
        }));
    }
    figures.push(json!({
        "what": "a proxied read adds, at the median",
        "to_openbao_ms": round(middle[2] - middle[0]),
        "beyond_one_commit_ms": round(middle[2] - middle[0] - middle[1]),
    }));
    Ok(figures)
}

async fn timed(connection: &mut Connection, path: String) -> Result<std::time::Duration, Failure> {
    let asked = Instant::now();
    connection.get(&path).await?;
    Ok(asked.elapsed())
}
