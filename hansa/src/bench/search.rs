//! Searches over HTTP at full size.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::http::{self, Connection};
use super::process::NodeProcess;
use super::{Plan, failed, feeder, floor, quantiles, round};
use crate::cli::failure::Failure;
use crate::input::fleet::Pattern;

/// Requests of one latency figure.
const REQUESTS: usize = 200;
/// Connections of one rate figure.
const CLIENTS: usize = 8;
/// Rows of a page, as the issue of a page of hosts in a browser.
const PAGE: usize = 50;
/// The page that a cursor must reach as fast as the first.
const DEEP_PAGE: usize = 10_000;

pub(super) async fn run(plan: &Plan) -> Result<Vec<Value>, Failure> {
    let node = loaded(plan).await?;
    let token = http::token(&node.data_dir).await?;
    let mut connection = Connection::open(&node.ready.url, &token).await?;
    let names: Vec<String> = (0..plan.sites)
        .flat_map(|site| feeder::hosts_of(site, plan.hosts_of_site()).map(|host| host.fqdn))
        .collect();

    let mut figures = Vec::new();
    for pattern in Pattern::ALL {
        let path = format!("/api/v1/federation/hosts?fqdn_contains={}&limit={PAGE}", pattern.text());
        let (hits, scan) = floor::linear_scan(&names, pattern.text());
        let mut figure = latency(&mut connection, &format!("fqdn_contains, {pattern:?}"), &path).await?;
        figure["linear_scan_ms"] = json!(round(scan.as_secs_f64() * 1e3));
        figure["expected_total"] = json!(hits);
        figures.push(figure);
    }
    for (what, query) in [
        ("free_text, a name", "free_text=.r042."),
        ("free_text, an address", "free_text=10.4"),
        ("free_text, digits", "free_text=42"),
        ("filter status", "status=up"),
        ("filter os_family and status", "os_family=debian&status=up"),
        ("filter country", "geo_country_code=DE"),
        ("count only", "status=down&limit=1"),
        ("no filter", "offset=0"),
        ("order by last_seen", "order_by=last_seen"),
    ] {
        let limit = if query.contains("limit=") { String::new() } else { format!("&limit={PAGE}") };
        let path = format!("/api/v1/federation/hosts?{query}{limit}");
        figures.push(latency(&mut connection, what, &path).await?);
    }
    figures.extend(deep_page(&mut connection, plan).await?);
    let selective = [Pattern::One, Pattern::None, Pattern::Thousandth];
    figures.push(rate(plan, &node, &token, "selective patterns", &selective).await?);
    figures.push(rate(plan, &node, &token, "all patterns", &Pattern::ALL).await?);
    node.kill().await?;
    Ok(figures)
}

/// A node that holds all hosts of the plan, restarted since they came in.
pub(super) async fn loaded(plan: &Plan) -> Result<NodeProcess, Failure> {
    let folder = plan.folder.join("coordinator");
    let node = NodeProcess::start(&folder, "coordinator").await?;
    if total(&node).await? == 0 {
        let feeders = feeder::load(plan, &node).await?;
        drop(feeders);
    }
    // The index merges its segments while nothing comes in.
    tokio::time::sleep(Duration::from_secs(8)).await;
    Ok(node)
}

/// Hosts that a node answers for.
pub(super) async fn total(node: &NodeProcess) -> Result<u64, Failure> {
    let token = http::token(&node.data_dir).await?;
    let mut connection = Connection::open(&node.ready.url, &token).await?;
    let page = connection.json("/api/v1/federation/hosts?limit=1").await?;
    Ok(page["total"].as_u64().unwrap_or_default())
}

async fn latency(connection: &mut Connection, what: &str, path: &str) -> Result<Value, Failure> {
    let total = connection.json(path).await?["total"].clone();
    let mut times = Vec::with_capacity(REQUESTS);
    for _ in 0..REQUESTS {
        let asked = Instant::now();
        connection.get(path).await?;
        times.push(asked.elapsed());
    }
    let (p50, p99) = quantiles(&mut times);
    Ok(json!({ "what": what, "total": total, "p50_ms": p50, "p99_ms": p99 }))
}

/// The first page and a far one, by cursor.
async fn deep_page(connection: &mut Connection, plan: &Plan) -> Result<Vec<Value>, Failure> {
    let first = format!("/api/v1/federation/hosts?limit={PAGE}");
    let before = (PAGE * (DEEP_PAGE - 1)).min(usize::try_from(plan.hosts).unwrap_or(0) / 2);
    let at = format!("/api/v1/federation/hosts?limit=1&offset={}", before - 1);
    let cursor = connection.json(&at).await?["next_cursor"].as_str().unwrap_or_default().to_owned();
    let deep = format!("/api/v1/federation/hosts?limit={PAGE}&cursor={cursor}");
    // In turns, so that both see the same machine.
    let (mut first_times, mut deep_times) = (Vec::new(), Vec::new());
    for _ in 0..REQUESTS {
        for (path, times) in [(&first, &mut first_times), (&deep, &mut deep_times)] {
            let asked = Instant::now();
            connection.get(path).await?;
            times.push(asked.elapsed());
        }
    }
    let (first, _) = quantiles(&mut first_times);
    let (deep, _) = quantiles(&mut deep_times);
    Ok(vec![json!({
        "what": format!("page {} by cursor", before / PAGE + 1),
        "p50_ms": deep,
        "first_page_p50_ms": first,
        "ratio": round(deep / first),
    })])
}

/// Searches a second, several connections at once, the patterns in turn.
async fn rate(
    plan: &Plan,
    node: &NodeProcess,
    token: &str,
    what: &str,
    patterns: &[Pattern],
) -> Result<Value, Failure> {
    let paths: Arc<Vec<String>> = Arc::new(
        patterns
            .iter()
            .map(|pattern| format!("/api/v1/federation/hosts?fqdn_contains={}&limit={PAGE}", pattern.text()))
            .collect(),
    );
    let started = Instant::now();
    let mut tasks = Vec::new();
    for client in 0..CLIENTS {
        let mut connection = Connection::open(&node.ready.url, token).await?;
        let (paths, stretch) = (Arc::clone(&paths), plan.stretch);
        tasks.push(tokio::spawn(async move {
            let mut count = 0_u64;
            for path in paths.iter().cycle().skip(client) {
                if started.elapsed() >= stretch {
                    break;
                }
                connection.get(path).await?;
                count += 1;
            }
            Ok::<_, Failure>(count)
        }));
    }
    let mut count = 0;
    for task in tasks {
        count += task.await.map_err(|error| failed(&error))??;
    }
    let rate = count as f64 / started.elapsed().as_secs_f64();
    Ok(json!({
        "what": format!("searches, {CLIENTS} clients, {what}"),
        "searches_per_second": rate.round(),
    }))
}
