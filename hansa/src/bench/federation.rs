//! Commands and policies to many real sites, and what each linked site costs the coordinator.

use std::time::Duration;

use hansa_model::Entropy;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::crowd::Crowd;
use super::http::{self, Connection};
use super::process::NodeProcess;
use super::{Plan, failed, quantiles, round};
use crate::cli::failure::{Exit, Failure};
use crate::system::SystemEntropy;

/// Commands of the one-site figure, one after the other.
const COMMANDS: u32 = 200;
/// Rounds of the figures over all sites.
const ROUNDS: u32 = 5;
/// What is not there by then is a defect.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Time for links to become quiet before memory is read.
const SETTLE: Duration = Duration::from_secs(10);
/// Operators that change rows side by side.
const OPERATORS: u32 = 32;

pub(super) async fn run(plan: &Plan) -> Result<Vec<Value>, Failure> {
    let coordinator = NodeProcess::start(&plan.folder.join("coordinator"), "coordinator").await?;
    let token = http::token(&coordinator.data_dir).await?;
    let mut operator = Connection::open(&coordinator.ready.url, &token).await?;
    // The first requests make what later ones share.
    operator.json("/api/v1/federation/sites").await?;
    let alone = coordinator.resident_bytes();
    let crowd = Crowd::start(&coordinator, &plan.folder.join("crowd"), plan.sites).await?;
    // Joining takes longer than an idle connection may, and so does the rest after it.
    operator = Connection::open(&coordinator.ready.url, &token).await?;
    linked(&mut operator, plan.sites).await?;
    tokio::time::sleep(SETTLE).await;
    let with_sites = coordinator.resident_bytes();
    operator = Connection::open(&coordinator.ready.url, &token).await?;

    let mut figures = vec![json!({
        "what": "memory of the coordinator for each linked idle site",
        "kib": round((with_sites.saturating_sub(alone)) as f64 / 1024.0 / plan.sites as f64),
        "links": plan.sites,
    })];
    figures.push(one_command(&mut operator, &crowd.sites[0]).await?);
    figures.push(command_to_all(&mut operator, &crowd.sites).await?);
    figures.push(policy_to_all(&mut operator, &crowd.sites).await?);
    figures.extend(reads(&mut operator, &crowd.sites[0]).await?);
    crowd.stop().await?;
    coordinator.kill().await?;
    Ok(figures)
}

/// Waits until so many sites have a link and have synced.
async fn linked(operator: &mut Connection, sites: u64) -> Result<(), Failure> {
    let started = Instant::now();
    loop {
        let answer = operator.json("/api/v1/federation/sites").await?;
        let rows = answer["sites"].as_array().map(Vec::as_slice).unwrap_or_default();
        let synced = rows.iter().filter(|row| !row["last_sync_at"].is_null()).count() as u64;
        if synced >= sites {
            return Ok(());
        }
        if started.elapsed() > WAIT_MAX {
            return Err(Failure::new(Exit::Failed, format!("{synced} of {sites} sites have synced")));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Dispatch of a command until its result can be read, audited at both ends.
async fn one_command(operator: &mut Connection, site: &str) -> Result<Value, Failure> {
    let body = json!({"command_type": "echo", "target_site_id": site, "parameters": {"n": 1}});
    let mut taken = Vec::new();
    for _ in 0..COMMANDS {
        let started = Instant::now();
        let answer = operator.ask("/api/v1/federation/commands/dispatch", &body).await?;
        let id = answer["command"]["id"].as_str().unwrap_or_default().to_owned();
        let path = format!("/api/v1/federation/commands/{id}");
        loop {
            let command = operator.json(&path).await?;
            match command["command"]["status"].as_str() {
                Some("completed") => break,
                Some("queued_at_site" | "in_progress") if started.elapsed() < WAIT_MAX => {}
                _ => {
                    return Err(failed(&format_args!("a command ended as {}", command["command"]["status"])));
                }
            }
        }
        taken.push(started.elapsed());
    }
    let (p50, p99) = quantiles(&mut taken);
    Ok(json!({"what": "command to a site and its result back", "p50_ms": p50, "p99_ms": p99}))
}

async fn command_to_all(operator: &mut Connection, sites: &[String]) -> Result<Value, Failure> {
    let body = json!({"command_type": "echo", "site_ids": sites});
    let (mut taken, mut dispatched) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let started = Instant::now();
        let answer = operator.ask("/api/v1/federation/commands/dispatch-bulk", &body).await?;
        if answer["dispatched"] != json!(sites.len()) {
            return Err(failed(&format_args!("dispatched to {} sites", answer["dispatched"])));
        }
        dispatched.push(started.elapsed());
        until_none_is_open(operator, started).await?;
        taken.push(started.elapsed());
    }
    let (p50, worst) = quantiles(&mut taken);
    let (dispatch, _) = quantiles(&mut dispatched);
    Ok(json!({
        "what": "command to all sites, all results back",
        "sites": sites.len(),
        "p50_ms": p50,
        "worst_ms": worst,
        "dispatched_p50_ms": dispatch,
    }))
}

async fn until_none_is_open(operator: &mut Connection, started: Instant) -> Result<(), Failure> {
    while started.elapsed() < WAIT_MAX {
        let open = operator.json("/api/v1/federation/commands?open_only=true&limit=1").await?;
        if open["commands"].as_array().is_some_and(Vec::is_empty) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Err(Failure::new(Exit::Failed, "commands stay open"))
}

async fn policy_to_all(operator: &mut Connection, sites: &[String]) -> Result<Value, Failure> {
    let mut taken = Vec::new();
    for round in 0..ROUNDS {
        let body = json!({"policy_type": "echo", "name": format!("bench-{round}"), "definition": {"n": 1}});
        let created = operator.ask("/api/v1/federation/policies", &body).await?;
        let id = created["policy"]["id"].as_str().unwrap_or_default().to_owned();
        let path = format!("/api/v1/federation/policies/{id}");
        let started = Instant::now();
        operator.post(&format!("{path}/assign"), &json!({"site_ids": sites})).await?;
        loop {
            let shown = operator.json(&path).await?;
            let rows = shown["assignments"].as_array().map(Vec::as_slice).unwrap_or_default();
            if rows.iter().all(|row| row["push_status"] == "acknowledged") {
                break;
            }
            if started.elapsed() > WAIT_MAX {
                return Err(Failure::new(Exit::Failed, "a policy is not acknowledged everywhere"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        taken.push(started.elapsed());
    }
    let (p50, worst) = quantiles(&mut taken);
    Ok(json!({
        "what": "policy to all sites, all acknowledged",
        "sites": sites.len(),
        "p50_ms": p50,
        "worst_ms": worst,
    }))
}

/// What people look at while all this goes on.
async fn reads(operator: &mut Connection, site: &str) -> Result<Vec<Value>, Failure> {
    let mut figures = Vec::new();
    for (what, path) in [
        ("dashboard of a site", format!("/api/v1/federation/rollups/dashboard?site_id={site}")),
        ("dashboard of all sites", "/api/v1/federation/rollups/dashboard".to_owned()),
        ("report of all sites", "/api/v1/federation/reports/rollup".to_owned()),
    ] {
        let mut taken = Vec::new();
        for _ in 0..COMMANDS {
            let started = Instant::now();
            operator.get(&path).await?;
            taken.push(started.elapsed());
        }
        let (p50, p99) = quantiles(&mut taken);
        figures.push(json!({"what": what, "p50_ms": p50, "p99_ms": p99}));
    }
    Ok(figures)
}

/// Changes of rows by operators side by side: each is a commit with its audit entry.
pub(super) async fn mutations(plan: &Plan) -> Result<Vec<Value>, Failure> {
    let coordinator = NodeProcess::start(&plan.folder.join("coordinator"), "coordinator").await?;
    let token = http::token(&coordinator.data_dir).await?;
    let mut operators = JoinSet::new();
    for number in 0..OPERATORS {
        let (url, token, stretch) = (coordinator.ready.url.clone(), token.clone(), plan.stretch);
        operators.spawn(async move {
            let mut operator = Connection::open(&url, &token).await?;
            let body = json!({"name": format!("bench-{number}-{}", uuid::Uuid::from_u128(fresh())), "url": "https://site.example.com"});
            let created = operator.ask("/api/v1/federation/sites", &body).await?;
            let path = format!("/api/v1/federation/sites/{}", created["site"]["id"].as_str().unwrap_or_default());
            let started = Instant::now();
            let mut changes = 0_u64;
            while started.elapsed() < stretch {
                operator.patch(&path, &json!({"location_label": format!("place {changes}")})).await?;
                changes += 1;
            }
            Ok::<_, Failure>(changes as f64 / started.elapsed().as_secs_f64())
        });
    }
    let mut rate = 0.0;
    while let Some(operator) = operators.join_next().await {
        rate += operator.map_err(|error| failed(&error))??;
    }
    coordinator.kill().await?;
    Ok(vec![json!({
        "what": "changes by operators a second",
        "operators": OPERATORS,
        "per_second": rate.round(),
        "audited": cfg!(not(feature = "bench-without-audit")),
    })])
}

/// A name that a folder used again has not seen.
fn fresh() -> u128 {
    let entropy: &dyn Entropy = &SystemEntropy;
    u128::from_le_bytes(entropy.bytes())
}
