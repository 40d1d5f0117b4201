//! Reads a second and their latency: 32 clients, each with one connection that stays open and one request on
//! its way.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Bench, CLIENTS, READ, all, median, name, value, wrong};
use crate::bench::http::Connection;
use crate::bench::{Plan, quantiles, round};
use crate::cli::failure::Failure;

/// Rounds over all sides; each side's figure is the middle one.
const ROUNDS: usize = 5;

/// Who is asked, and for what.
struct Side {
    what: &'static str,
    url: String,
    token: String,
    paths: Arc<Vec<String>>,
    /// Whether OpenBao's audit device is on meanwhile.
    audited: bool,
    rounds: Vec<Round>,
}

struct Round {
    rate: f64,
    p50: f64,
    p99: f64,
    /// Of node and OpenBao together, for each read: a proxied one costs both.
    processor: f64,
}

pub(super) async fn run(plan: &Plan, bench: &Bench) -> Result<Vec<Value>, Failure> {
    let ours = |what, folder: &str| {
        Side::new(what, &bench.node.ready.url, &bench.token, &format!("/v1/secrets/{folder}"), true)
    };
    let theirs =
        |what, audited| Side::new(what, &bench.bao.url, &bench.bao.token, "/v1/secret/data/reads", audited);
    let mut sides = [
        theirs("OpenBao, no audit device", false),
        theirs("OpenBao, file audit device, not synced", true),
        ours("local, audit synced", "local"),
        ours("synced copy, audit synced", "synced"),
        ours("proxied, audit synced", "proxied"),
    ];
    for side in &sides {
        side.warm_up().await?;
    }
    for number in 0..ROUNDS {
        // Each time another one begins, so that nobody always has the same neighbour.
        for step in 0..sides.len() {
            let index = (number + step) % sides.len();
            let side = &mut sides[index];
            if !side.audited {
                bench.bao.audit(false).await?;
            }
            let before = bench.node.processor_time() + bench.bao.processor_time();
            let measured = side.round(plan.stretch).await;
            let spent = bench.node.processor_time() + bench.bao.processor_time() - before;
            if !side.audited {
                bench.bao.audit(true).await?;
            }
            let (mut round, reads) = measured?;
            round.processor = spent.as_secs_f64() * 1e6 / reads.max(1) as f64;
            side.rounds.push(round);
        }
    }
    let audited = sides.iter().position(|side| side.what.contains("file audit device")).unwrap_or_default();
    Ok((0..sides.len()).map(|index| figure(&sides, index, audited)).collect())
}

fn figure(sides: &[Side], index: usize, audited: usize) -> Value {
    let side = &sides[index];
    let middle = |of: fn(&Round) -> f64| median(&mut side.rounds.iter().map(of).collect::<Vec<_>>());
    let pairs = side.rounds.iter().zip(&sides[audited].rounds);
    let mut ratios: Vec<f64> = pairs.map(|(own, theirs)| own.rate / theirs.rate).collect();
    json!({
        "what": format!("reads, {CLIENTS} clients, {}", side.what),
        "reads_per_second": middle(|round| round.rate).round(),
        "p50_ms": round(middle(|round| round.p50)),
        "p99_ms": round(middle(|round| round.p99)),
        "servers_processor_us": middle(|round| round.processor).round(),
        "times_openbao_with_audit": round(median(&mut ratios)),
        "rounds": ROUNDS,
    })
}

impl Side {
    fn new(what: &'static str, url: &str, token: &str, folder: &str, audited: bool) -> Self {
        Self {
            what,
            url: url.to_owned(),
            token: token.to_owned(),
            paths: Arc::new((0..READ).map(|number| format!("{folder}/{}", name(number))).collect()),
            audited,
            rounds: Vec::new(),
        }
    }

    /// Reads every secret once, and looks whether it is the right one.
    async fn warm_up(&self) -> Result<(), Failure> {
        let mut connection = Connection::open(&self.url, &self.token).await?;
        for (number, path) in self.paths.iter().enumerate() {
            let answer = connection.json(path).await?;
            let expected = value(number);
            if answer["data"] != expected && answer["data"]["data"] != expected {
                return Err(wrong(format!("{path} answered another value than was stored")));
            }
        }
        Ok(())
    }

    /// One stretch; its figures but for the processor's, and how many reads they are of.
    async fn round(&self, stretch: Duration) -> Result<(Round, usize), Failure> {
        let mut connections = Vec::new();
        for _ in 0..CLIENTS {
            connections.push(Connection::open(&self.url, &self.token).await?);
        }
        let started = Instant::now();
        let mut clients = JoinSet::new();
        for (client, mut connection) in connections.into_iter().enumerate() {
            let paths = Arc::clone(&self.paths);
            clients.spawn(async move {
                let mut times = Vec::new();
                // Each begins elsewhere, so that they do not ask for the same at the same time.
                for path in paths.iter().cycle().skip(client * READ / CLIENTS) {
                    let asked = Instant::now();
                    if asked.duration_since(started) >= stretch {
                        break;
                    }
                    connection.get(path).await?;
                    times.push(asked.elapsed());
                }
                Ok(times)
            });
        }
        let mut times = all(clients).await?.concat();
        let rate = times.len() as f64 / started.elapsed().as_secs_f64();
        let (p50, p99) = quantiles(&mut times);
        Ok((Round { rate, p50, p99, processor: 0.0 }, times.len()))
    }
}
