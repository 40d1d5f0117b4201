//! The same seed is the same run, in two processes, byte for byte.

use std::path::Path;
use std::time::Duration;

use hansa_simulations::hooks::Hooks;
use hansa_simulations::replay::{self, run_in_child, run_twice};
use hansa_simulations::scenario::{Run, Scenario};

const BINARY: &str = env!("CARGO_BIN_EXE_hansa-simulations");

fn short_run(seed: u64) -> Run {
    Run { length: Duration::from_secs(180), sites: 3, ..Run::of_seed(seed) }
}

fn hash(run: &Run) -> String {
    let outcome = run_in_child(Path::new(BINARY), run).unwrap();
    assert!(outcome.passed, "{}", outcome.output);
    outcome.hash
}

#[test]
fn the_same_seed_in_two_processes_gives_the_same_bytes() {
    for seed in 1..4 {
        let outcome = run_twice(Path::new(BINARY), &short_run(seed)).unwrap();

        assert!(outcome.passed, "{}", outcome.output);
    }
}

#[test]
fn the_smallest_scenario_repeats_too() {
    let run = Run { scenario: Scenario::Echo, ..short_run(1) };

    let outcome = run_twice(Path::new(BINARY), &run).unwrap();

    assert!(outcome.passed, "{}", outcome.output);
}

#[test]
fn seeds_that_failed_once_pass() {
    let mut printed = Vec::new();

    let failed = replay::replay_regressions(Path::new(BINARY), &short_run(0), &mut printed).unwrap();

    assert_eq!(failed, 0, "{}", String::from_utf8_lossy(&printed));
}

#[test]
fn another_seed_gives_another_trace() {
    assert_ne!(hash(&short_run(1)), hash(&short_run(2)));
}

#[test]
fn without_the_random_hook_a_seed_does_not_repeat() {
    let run = Run { hooks: Hooks { random: false, clock: true }, ..short_run(1) };

    assert_ne!(hash(&run), hash(&run));
}

#[test]
fn a_text_log_does_not_change_the_trace() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("trace.log");

    let logged = hash(&Run { log: Some(log.clone()), ..short_run(1) });

    assert_eq!(logged, hash(&short_run(1)));
    let text = std::fs::read_to_string(log).unwrap();
    assert!(text.contains("datagram 10.0.0.2:4433 > 10.0.0.1:4433"), "{}", &text[..500.min(text.len())]);
}

#[test]
fn a_sweep_runs_each_seed_and_says_how_many_passed() {
    let mut printed = Vec::new();

    let failed = replay::sweep(Path::new(BINARY), 1..3, &short_run(0), &mut printed).unwrap();

    let printed = String::from_utf8(printed).unwrap();
    assert_eq!(failed, 0, "{printed}");
    assert!(printed.ends_with("2 of 2 seeds passed\n"), "{printed}");
}

#[test]
fn the_replay_command_names_everything_that_the_run_depends_on() {
    let command = replay::command(&short_run(7));

    assert_eq!(
        command,
        "cargo run --release -p hansa-simulations -- --seed 7 --scenario federation --seconds 180 --sites 3"
    );
}
