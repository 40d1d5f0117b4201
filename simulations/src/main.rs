//! The command line: one seed here, or many seeds in child processes.

use std::io::Write;
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use hansa_simulations::hooks::Hooks;
use hansa_simulations::replay;
use hansa_simulations::scenario::{Run, Scenario};

/// Runs whole federations in virtual time; the same seed gives the same bytes.
#[derive(Debug, Parser)]
#[command(name = "hansa-simulations")]
struct Arguments {
    /// Everything that chance decides follows from it
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Run each seed of a range, as in 0..20, in a process of its own; the first one twice
    #[arg(long, value_parser = seed_range, conflicts_with_all = ["seed", "log"])]
    seeds: Option<Range<u64>>,
    /// Run the seeds of `regressions.txt`, each in a process of its own
    #[arg(long, conflicts_with_all = ["seed", "seeds", "log"])]
    regressions: bool,
    /// What is run
    #[arg(long, value_enum, default_value_t)]
    scenario: Scenario,
    /// Simulated seconds; the last third is without faults [default: the scenario's]
    #[arg(long, value_parser = clap::value_parser!(u64).range(180..=86_400))]
    seconds: Option<u64>,
    /// Sites beside the one host in the middle
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=200))]
    sites: u16,
    /// Write the trace as text to this file, to compare two runs
    #[arg(long)]
    log: Option<PathBuf>,
    /// Print log lines to standard error
    #[arg(long)]
    verbose: bool,
    /// Let randomness come from the kernel: shows that the trace then differs
    #[arg(long, hide = true)]
    without_random_hook: bool,
    /// Let clocks show the machine's time: shows that the trace then differs
    #[arg(long, hide = true)]
    without_clock_hook: bool,
}

impl Arguments {
    fn run(&self) -> Run {
        Run {
            seed: self.seed,
            scenario: self.scenario,
            length: self.seconds.map_or_else(|| self.scenario.usual_length(), Duration::from_secs),
            sites: self.sites,
            log: self.log.clone(),
            verbose: self.verbose,
            hooks: Hooks { random: !self.without_random_hook, clock: !self.without_clock_hook },
        }
    }
}

fn seed_range(text: &str) -> Result<Range<u64>, String> {
    let (start, end) = text.split_once("..").ok_or("write a range such as 0..20")?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| error.to_string());
    Ok(number(start)?..number(end)?)
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let run = arguments.run();
    let mut out = std::io::stdout().lock();
    let binary = std::env::current_exe()?;
    let passed = match arguments.seeds {
        Some(seeds) => replay::sweep(&binary, seeds, &run, &mut out)? == 0,
        None if arguments.regressions => replay::replay_regressions(&binary, &run, &mut out)? == 0,
        None => run_one(&run, &mut out)?,
    };
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs one seed and tells of it; the trace is the last line, whatever happened.
fn run_one(run: &Run, out: &mut impl Write) -> anyhow::Result<bool> {
    let outcome = replay::run(run)?;
    let replay::Outcome { trace, violations, simulated, crashes } = outcome;
    writeln!(
        out,
        "seed {} scenario {}: {simulated:?} simulated, {} events, {} datagrams, {crashes} crashes",
        run.seed,
        run.scenario.name(),
        trace.events,
        trace.datagrams,
    )?;
    for violation in &violations {
        writeln!(out, "violation: {violation}")?;
    }
    if !violations.is_empty() {
        writeln!(out, "replay: {}", replay::command(run))?;
    }
    writeln!(out, "trace {}", trace.hash)?;
    Ok(violations.is_empty())
}
