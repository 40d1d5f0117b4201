//! `hansa bench`: a load generator against a real node, for whoever sizes a machine.
//!
//! The node is this same binary in a process of its own, with its own store and sockets on loopback; the
//! generator plays the sites over pinned QUIC and the operators over HTTP. Every figure stands beside its
//! floor, measured in the same run on the same disk, because machines differ more than programs do. Load
//! generator and node share the machine: what a figure costs both is in it.

mod change;
mod crowd;
mod federation;
mod feeder;
mod floor;
mod http;
mod ingest;
mod openbao;
mod process;
mod rollups;
mod search;
mod secret;
mod start;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::failure::{Exit, Failure};
use crate::cli::output::{self, Format};
use crate::shutdown::Signals;

/// Flags of `hansa bench`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  hansa bench ingest --output json\n  hansa bench search --hosts 1000000\n\n\
    Run it on an idle machine, several times, and compare ratios rather than absolutes."
)]
pub struct BenchArgs {
    /// What to measure.
    #[command(subcommand)]
    what: What,
    /// How figures are printed.
    #[arg(short, long, value_enum, default_value_t, global = true)]
    output: Format,
    /// Folder for the node's data; a folder that an earlier run has loaded is used again [default: a new
    /// temporary one, removed at the end].
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<PathBuf>,
    /// Sites that the generator plays.
    #[arg(long, value_name = "N", default_value_t = 64, global = true,
        value_parser = clap::value_parser!(u64).range(1..=4_000))]
    sites: u64,
    /// Hosts of all sites together.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, global = true,
        value_parser = clap::value_parser!(u64).range(1_000..=20_000_000))]
    hosts: u64,
    /// Seconds of each timed stretch that has no natural end.
    #[arg(long, value_name = "N", default_value_t = 5, global = true,
        value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Durable rows a second over QUIC: batches of 1,000 from many sites and from one, and single rows.
    Ingest,
    /// Latency and rate of searches over HTTP, by pattern, beside a linear scan.
    Search,
    /// Time from `kill -9` to the first answer, and memory after a restart.
    Start,
    /// Time from a change at a site until the coordinator's search shows it.
    Change,
    /// Latency of dashboard, totals and report over 1,000 sites, over HTTP.
    Rollups,
    /// Commands and policies to `--sites` real sites in one other process, each with its own connection and
    /// store; memory of the coordinator for each.
    Federation,
    /// Rate of changes by operators, each with its audit entry.
    Mutations,
    /// Secrets beside a real OpenBao in the same run: reads of local, copied and proxied ones, 10,000 equal
    /// reads at once, a sync in which nothing has changed.
    Secret(secret::SecretArgs),
    /// Plays the sites of `federation`.
    #[command(hide = true)]
    Crowd {
        /// Data folder of the running coordinator.
        #[arg(long, value_name = "DIR")]
        coordinator_dir: PathBuf,
    },
}

/// One run's choices.
#[derive(Debug)]
struct Plan {
    sites: u64,
    hosts: u64,
    stretch: Duration,
    folder: PathBuf,
    /// Removes the folder at the end.
    _temporary: Option<tempfile::TempDir>,
}

impl Plan {
    /// Hosts of each site; the last ones get no more than the others.
    fn hosts_of_site(&self) -> u64 {
        self.hosts / self.sites
    }
}

/// Carries out `hansa bench`.
pub(crate) async fn run(args: BenchArgs) -> Result<(), Failure> {
    let (folder, temporary) = match args.data_dir {
        Some(folder) => {
            std::fs::create_dir_all(&folder).map_err(|error| failed(&error))?;
            (folder, None)
        }
        None => {
            let temporary =
                tempfile::Builder::new().prefix("hansa-bench-").tempdir().map_err(|e| failed(&e))?;
            (temporary.path().to_owned(), Some(temporary))
        }
    };
    let plan = Plan {
        sites: args.sites,
        hosts: args.hosts,
        stretch: Duration::from_secs(args.seconds),
        folder,
        _temporary: temporary,
    };
    let mut signals = Signals::new()?;
    let figures = tokio::select! {
        biased;
        // Whatever was started ends with what is dropped here.
        name = signals.next() => return Err(Failure::new(Exit::Interrupted, format!("{name} before the end"))),
        measured = measure(args.what, &plan) => measured?,
    };
    let Some(figures) = figures else { return Ok(()) };
    let report = json!({
        "sites": plan.sites,
        "hosts": plan.hosts,
        "store_cache_bytes": 64 * 1024 * 1024,
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "load_average": std::fs::read_to_string("/proc/loadavg").ok().map(|text| text.trim().to_owned()),
        "figures": figures,
    });
    output::value(args.output, &report, &table(&report))
}

/// Takes the figures; whoever only plays a part has none.
async fn measure(what: What, plan: &Plan) -> Result<Option<Vec<Value>>, Failure> {
    let figures = match what {
        What::Ingest => Box::pin(ingest::run(plan)).await?,
        What::Search => Box::pin(search::run(plan)).await?,
        What::Start => Box::pin(start::run(plan)).await?,
        What::Change => Box::pin(change::run(plan)).await?,
        What::Rollups => Box::pin(rollups::run(plan)).await?,
        What::Federation => Box::pin(federation::run(plan)).await?,
        What::Mutations => Box::pin(federation::mutations(plan)).await?,
        What::Secret(args) => Box::pin(secret::run(plan, &args)).await?,
        What::Crowd { coordinator_dir } => {
            return Box::pin(crowd::play(&coordinator_dir, &plan.folder, plan.sites)).await.map(|()| None);
        }
    };
    Ok(Some(figures))
}

/// The figures as lines for people.
fn table(report: &Value) -> String {
    let mut lines = Vec::new();
    for figure in report["figures"].as_array().into_iter().flatten() {
        let fields: Vec<String> = figure
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(name, _)| *name != "what")
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        lines.push(format!("{:<44} {}", figure["what"].as_str().unwrap_or_default(), fields.join("  ")));
    }
    lines.join("\n")
}

fn failed(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Failed, error.to_string())
}

/// The middle and the 99th of 100 of a list of durations, in milliseconds.
fn quantiles(durations: &mut [Duration]) -> (f64, f64) {
    durations.sort_unstable();
    let at = |share: f64| {
        let index = ((durations.len().saturating_sub(1)) as f64 * share).round() as usize;
        durations.get(index).map_or(0.0, |duration| round(duration.as_secs_f64() * 1e3))
    };
    (at(0.5), at(0.99))
}

/// Three digits behind the point are more than any of these figures deserves.
fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}
