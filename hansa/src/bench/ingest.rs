//! Durable rows a second.

use std::time::Duration;

use bytes::Bytes;
use hansa_model::limits::sync as limits;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::feeder::{self, Feeder};
use super::process::NodeProcess;
use super::{Plan, failed, floor, quantiles, round};
use crate::cli::failure::Failure;

/// Different single rows that each site sends in turn.
const SINGLES: usize = 256;

pub(super) async fn run(plan: &Plan) -> Result<Vec<Value>, Failure> {
    let node = NodeProcess::start(&plan.folder.join("coordinator"), "coordinator").await?;
    let per_site = plan.hosts_of_site();
    let row_bytes = feeder::row_bytes(feeder::hosts_of(0, per_site));

    let mut loads = Vec::new();
    for site in 0..plan.sites {
        loads.push(feeder::batches(feeder::hosts_of(site, per_site), limits::BATCH_ROWS_MAX));
    }
    let payload = loads[0][0].clone();
    let bulk_floor = floor::append_and_sync(&plan.folder, &payload, Duration::from_secs(2))?;
    let bulk_floor = bulk_floor * limits::BATCH_ROWS_MAX as f64;
    let feeders = feeder::join_all(&node, 0, plan.sites).await?;
    let rows = per_site * plan.sites;
    let (feeders, many, batch_times) = feed(feeders, loads).await?;
    let many = rows as f64 / many.as_secs_f64();
    let mut figures = vec![bulk(
        &format!("{} sites, batches of 1,000", plan.sites),
        rows,
        many,
        batch_times,
        bulk_floor,
        row_bytes,
    )];

    // Hosts behind those of the first sites, so that every row is new.
    let one_rows = (plan.hosts / 4).max(1_000);
    let first = plan.hosts.div_ceil(one_rows);
    let load = feeder::batches(feeder::hosts_of(first, one_rows), limits::BATCH_ROWS_MAX);
    let one = feeder::join_all(&node, plan.sites, 1).await?;
    let (_, took, batch_times) = feed(one, vec![load]).await?;
    let rate = one_rows as f64 / took.as_secs_f64();
    figures.push(bulk("one site, batches of 1,000", one_rows, rate, batch_times, bulk_floor, row_bytes));

    let singles: Vec<Vec<Bytes>> = (0..plan.sites)
        .map(|site| {
            let hosts = feeder::hosts_of(site, per_site).take(SINGLES).zip(site..);
            feeder::batches(hosts.map(|(host, round)| feeder::touched(host, round)), 1)
        })
        .collect();
    let group: Vec<u8> = singles.iter().flat_map(|rows| rows[0].to_vec()).collect();
    let single_floor = floor::append_and_sync(&plan.folder, &singles[0][0], Duration::from_secs(1))?;
    let group_floor = floor::append_and_sync(&plan.folder, &group, Duration::from_secs(1))?;
    let (count, took, mut times) = drip(feeders, singles, plan.stretch).await?;
    let (p50, p99) = quantiles(&mut times);
    figures.push(json!({
        "what": format!("single rows, {} sites with one in flight each", plan.sites),
        "rows_per_second": (count as f64 / took.as_secs_f64()).round(),
        "acknowledged_p50_ms": p50,
        "acknowledged_p99_ms": p99,
        "floor_syncs_per_second": single_floor.round(),
        "floor_grouped_rows_per_second": (group_floor * plan.sites as f64).round(),
    }));
    node.kill().await?;
    Ok(figures)
}

fn bulk(what: &str, rows: u64, rate: f64, mut times: Vec<Duration>, floor: f64, row_bytes: f64) -> Value {
    let (p50, p99) = quantiles(&mut times);
    json!({
        "what": what,
        "rows": rows,
        "rows_per_second": rate.round(),
        "batch_acknowledged_p50_ms": p50,
        "batch_acknowledged_p99_ms": p99,
        "row_bytes": round(row_bytes),
        "floor_append_and_sync_rows_per_second": floor.round(),
        "share_of_floor": round(rate / floor),
    })
}

/// Sends each site's load, all sites side by side; the time until the last acknowledgement.
async fn feed(
    feeders: Vec<Feeder>,
    loads: Vec<Vec<Bytes>>,
) -> Result<(Vec<Feeder>, Duration, Vec<Duration>), Failure> {
    let started = Instant::now();
    let tasks: Vec<_> = feeders
        .into_iter()
        .zip(loads)
        .map(|(mut feeder, load)| {
            tokio::spawn(async move {
                let mut times = Vec::with_capacity(load.len());
                for items in load {
                    let sent = Instant::now();
                    feeder.send(items).await?;
                    times.push(sent.elapsed());
                }
                Ok::<_, Failure>((feeder, times))
            })
        })
        .collect();
    let (mut feeders, mut times) = (Vec::new(), Vec::new());
    for task in tasks {
        let (feeder, mut own) = task.await.map_err(|error| failed(&error))??;
        feeders.push(feeder);
        times.append(&mut own);
    }
    Ok((feeders, started.elapsed(), times))
}

/// Sends single rows from each site, one in flight, for a stretch of time.
async fn drip(
    feeders: Vec<Feeder>,
    rows: Vec<Vec<Bytes>>,
    stretch: Duration,
) -> Result<(u64, Duration, Vec<Duration>), Failure> {
    let started = Instant::now();
    let tasks: Vec<_> = feeders
        .into_iter()
        .zip(rows)
        .map(|(mut feeder, rows)| {
            tokio::spawn(async move {
                let mut times = Vec::new();
                for items in rows.iter().cycle() {
                    if started.elapsed() >= stretch {
                        break;
                    }
                    let sent = Instant::now();
                    feeder.send(items.clone()).await?;
                    times.push(sent.elapsed());
                }
                Ok::<_, Failure>(times)
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.append(&mut task.await.map_err(|error| failed(&error))??);
    }
    Ok((times.len() as u64, started.elapsed(), times))
}
