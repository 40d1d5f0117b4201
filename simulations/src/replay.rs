//! Running: one seed on a fresh thread of this process, many seeds each in a process of its own.
//!
//! Some state is the process's (a counter behind tokio's random order, actor ids), so two runs are only
//! comparable when each had a process to itself. A sweep runs its first seed twice, and when the two runs part
//! it runs them again with their texts and reports the first line that differs.

use std::fs;
use std::io::Write;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::ValueEnum as _;

use crate::hooks;
use crate::scenario::{Run, Scenario};
use crate::trace::{Trace, TraceSummary, first_difference};
use crate::watch::{self, Violations};
use crate::world::World;

/// TLS and redb in debug builds go deep.
const STACK_BYTES: usize = 16 << 20;
/// A seed that needs longer hangs: the slowest hour takes about a minute.
const CHILD_TIME_MAX: Duration = Duration::from_secs(900);
/// How often a child is asked whether it is done.
const CHILD_POLL: Duration = Duration::from_millis(20);
/// More seeds than anyone waits for.
pub const SEEDS_MAX: u64 = 100_000;

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The trace.
    pub trace: TraceSummary,
    /// Why it failed; empty when it did not.
    pub violations: Vec<String>,
    /// Simulated time that passed.
    pub simulated: Duration,
    /// Hosts that stopped, by whatever crash.
    pub crashes: u64,
}

/// Runs one seed on a fresh thread and waits for it.
///
/// # Errors
/// When the run cannot begin; a run that fails is an outcome.
pub fn run(run: &Run) -> anyhow::Result<Outcome> {
    let trace = match &run.log {
        Some(path) => Trace::logged(path).with_context(|| format!("cannot write {}", path.display()))?,
        None => Trace::new(),
    };
    let run = run.clone();
    let thread = thread::Builder::new().name("simulation".to_owned()).stack_size(STACK_BYTES);
    let running = thread.spawn(move || run_here(&run, trace)).context("no thread for the simulation")?;
    running.join().map_err(|_| anyhow::anyhow!("the simulation's thread panicked"))
}

/// Runs one seed on this thread, which must be fresh.
fn run_here(run: &Run, trace: Trace) -> Outcome {
    let hooks = hooks::activate(run.seed, run.hooks);
    let violations = Violations::default();
    let watched = watch::watch(&violations, run.verbose);
    let mut world = World::new(run.scenario.world(run.seed), trace.clone(), violations.clone());
    let lived = catch_unwind(AssertUnwindSafe(|| run.scenario.run(&mut world, run)));
    // A panic has reported itself.
    if let Ok(Err(error)) = lived {
        violations.report(format!("{error:#}"));
    }
    let simulated = world.now().since(crate::clock::SimTime::START);
    let crashes = world.crashes();
    let summary = trace.finish();
    drop(world);
    drop(watched);
    drop(hooks);
    Outcome { trace: summary, violations: violations.reasons(), simulated, crashes }
}

/// The arguments that run the same again.
pub fn arguments(run: &Run) -> Vec<String> {
    let mut arguments: Vec<String> = vec![
        "--seed".to_owned(),
        run.seed.to_string(),
        "--scenario".to_owned(),
        run.scenario.name().to_owned(),
        "--seconds".to_owned(),
        run.length.as_secs().to_string(),
        "--sites".to_owned(),
        run.sites.to_string(),
    ];
    if !run.hooks.random {
        arguments.push("--without-random-hook".to_owned());
    }
    if !run.hooks.clock {
        arguments.push("--without-clock-hook".to_owned());
    }
    arguments
}

/// The command that replays a run.
pub fn command(run: &Run) -> String {
    format!("cargo run --release -p hansa-simulations -- {}", arguments(run).join(" "))
}

/// What a child process said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildOutcome {
    /// True when the run kept all its promises.
    pub passed: bool,
    /// Hash of its trace; empty when it did not get that far.
    pub hash: String,
    /// Everything it printed.
    pub output: String,
}

/// Runs one seed in a process of its own, by the given binary of this crate.
///
/// # Errors
/// When the child cannot start, or takes longer than a quarter of an hour.
pub fn run_in_child(binary: &Path, run: &Run) -> anyhow::Result<ChildOutcome> {
    let mut command = Command::new(binary);
    command.args(arguments(run)).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    if let Some(log) = &run.log {
        command.arg("--log").arg(log);
    }
    let child = command.spawn().with_context(|| format!("cannot start {}", binary.display()))?;
    let (passed, output) = wait(child)?;
    let hash = output.lines().last().and_then(|line| line.strip_prefix("trace ")).unwrap_or_default();
    Ok(ChildOutcome { passed, hash: hash.to_owned(), output })
}

/// Waits in bounded time. A child prints less than a pipe holds.
fn wait(mut child: Child) -> anyhow::Result<(bool, String)> {
    let polls = CHILD_TIME_MAX.as_millis() / CHILD_POLL.as_millis();
    for _ in 0..polls {
        if child.try_wait()?.is_some() {
            let output = child.wait_with_output()?;
            return Ok((output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()));
        }
        thread::sleep(CHILD_POLL);
    }
    child.kill()?;
    child.wait()?;
    bail!("the run hangs: it was ended after {CHILD_TIME_MAX:?}");
}

/// Runs one seed in two processes and compares them.
///
/// # Errors
/// When the traces differ, with the first line that does; when a child cannot run.
pub fn run_twice(binary: &Path, run: &Run) -> anyhow::Result<ChildOutcome> {
    let first = run_in_child(binary, run)?;
    let second = run_in_child(binary, run)?;
    if first.hash == second.hash && !first.hash.is_empty() {
        return Ok(first);
    }
    ensure!(!first.hash.is_empty(), "seed {} ended without a trace:\n{}", run.seed, first.output);
    bail!("seed {} does not repeat: {}", run.seed, explain_difference(binary, run)?);
}

/// Runs a seed twice more with texts, and finds where they part.
fn explain_difference(binary: &Path, run: &Run) -> anyhow::Result<String> {
    let mut texts = Vec::new();
    for name in ["left", "right"] {
        let file = format!("hansa-simulation-{}-{}-{name}.log", std::process::id(), run.seed);
        let path = std::env::temp_dir().join(file);
        run_in_child(binary, &Run { log: Some(path.clone()), ..run.clone() })?;
        texts.push(fs::read_to_string(&path)?);
        fs::remove_file(&path)?;
    }
    Ok(match first_difference(&texts[0], &texts[1]) {
        Some((line, left, right)) => format!("line {line}\n  first:  {left}\n  second: {right}"),
        None => {
            "but two more runs were equal, or differ only in bytes that the text does not show".to_owned()
        }
    })
}

/// Runs every seed of a range in a child each, one after the other on each core; the first one twice.
///
/// Prints a line for each seed and the replay command of each failure. Answers how many failed.
///
/// # Errors
/// When the range is empty or too long, a child cannot run, or the first seed does not repeat.
pub fn sweep(binary: &Path, seeds: Range<u64>, base: &Run, out: &mut impl Write) -> anyhow::Result<u64> {
    let count = seeds.end.saturating_sub(seeds.start);
    ensure!((1..=SEEDS_MAX).contains(&count), "give between 1 and {SEEDS_MAX} seeds, as in --seeds 0..20");
    let with_seed = |seed| Run { seed, log: None, ..base.clone() };
    let first = run_twice(binary, &with_seed(seeds.start))?;
    let mut failed = report(out, &with_seed(seeds.start), &first)?;
    let workers = thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let mut next = seeds.start + 1;
    while next < seeds.end {
        let batch: Vec<u64> = (next..seeds.end.min(next + workers)).collect();
        next += workers;
        let outcomes = thread::scope(|scope| {
            let children: Vec<_> = batch
                .iter()
                .map(|&seed| (seed, scope.spawn(move || run_in_child(binary, &with_seed(seed)))))
                .collect();
            children.into_iter().map(|(seed, child)| (seed, child.join())).collect::<Vec<_>>()
        });
        for (seed, outcome) in outcomes {
            let outcome = outcome.map_err(|_| anyhow::anyhow!("the keeper of seed {seed} panicked"))??;
            failed += report(out, &with_seed(seed), &outcome)?;
        }
    }
    writeln!(out, "{} of {count} seeds passed", count - failed)?;
    Ok(failed)
}

/// Seeds that failed once, or that alone found a fault put in on purpose.
const REGRESSIONS: &str = include_str!("../regressions.txt");

/// Reads the list of seeds that must never fail again.
///
/// # Errors
/// Names the line that is not `seed seconds sites [scenario]`.
pub fn regressions(base: &Run) -> anyhow::Result<Vec<Run>> {
    let lines = REGRESSIONS.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let parse = |line: &str| -> anyhow::Result<Run> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (numbers, scenario) = words.split_at_checked(3).context("three numbers are needed")?;
        let numbers: Vec<u64> = numbers.iter().map(|word| word.parse()).collect::<Result<_, _>>()?;
        let [seed, seconds, sites] = numbers[..] else { bail!("three numbers are needed") };
        let scenario = match scenario {
            [] => Scenario::Federation,
            [name] => Scenario::from_str(name, false).map_err(anyhow::Error::msg)?,
            _ => bail!("one scenario at most"),
        };
        let (length, sites) = (Duration::from_secs(seconds), u16::try_from(sites)?);
        Ok(Run { seed, length, sites, scenario, log: None, ..base.clone() })
    };
    lines
        .filter(|line| !line.is_empty())
        .map(|line| parse(line).with_context(|| format!("regressions.txt: {line:?}")))
        .collect()
}

/// Runs every seed of the list in a child. Answers how many failed.
///
/// # Errors
/// When the list does not parse or a child cannot run.
pub fn replay_regressions(binary: &Path, base: &Run, out: &mut impl Write) -> anyhow::Result<u64> {
    let mut failed = 0;
    for run in regressions(base)? {
        failed += report(out, &run, &run_in_child(binary, &run)?)?;
    }
    Ok(failed)
}

/// One line for a seed, all it said when it failed. Answers 1 for a failure.
fn report(out: &mut impl Write, run: &Run, outcome: &ChildOutcome) -> anyhow::Result<u64> {
    if outcome.passed {
        writeln!(out, "seed {} trace {}", run.seed, outcome.hash)?;
        return Ok(0);
    }
    write!(out, "seed {} FAILED\n{}", run.seed, outcome.output)?;
    if outcome.hash.is_empty() {
        writeln!(out, "replay: {}", command(run))?;
    }
    Ok(1)
}
