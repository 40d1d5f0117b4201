//! Every road to entropy and time that a dependency takes must end in the seed.
//!
//! An update that takes another road fails here by name, not as a mystery difference between two runs.

use std::hash::BuildHasher;
use std::thread;

use hansa_simulations::hooks::{self, Hooks};
use ring::rand::SecureRandom;

/// What each road gives on a fresh thread.
#[derive(Debug, PartialEq)]
struct Draws {
    random_state: u64,
    rand: u128,
    uuid_v4: uuid::Uuid,
    uuid_v7: uuid::Uuid,
    ring: [u8; 32],
    getrandom_02: [u8; 32],
    getrandom_04: [u8; 32],
}

#[expect(clippy::disallowed_methods, reason = "the canary walks the very roads that our code must not")]
fn draw() -> Draws {
    let mut draws = Draws {
        random_state: std::hash::RandomState::new().hash_one(1_u8),
        rand: rand::random(),
        uuid_v4: uuid::Uuid::new_v4(),
        // Not `now_v7`, which adds a counter of the process: it repeats across processes only.
        uuid_v7: uuid::Uuid::new_v7(uuid::Timestamp::now(uuid::NoContext)),
        ring: [0; 32],
        getrandom_02: [0; 32],
        getrandom_04: [0; 32],
    };
    ring::rand::SystemRandom::new().fill(&mut draws.ring).unwrap();
    getrandom02::getrandom(&mut draws.getrandom_02).unwrap();
    getrandom04::fill(&mut draws.getrandom_04).unwrap();
    draws
}

/// Runs on a fresh thread with the hooks as given.
fn hooked<T: Send + 'static>(seed: u64, hooks: Hooks, run: impl FnOnce() -> T + Send + 'static) -> T {
    let fresh = thread::Builder::new().spawn(move || {
        let _active = hooks::activate(seed, hooks);
        run()
    });
    fresh.unwrap().join().unwrap()
}

fn draw_hooked(seed: u64) -> Draws {
    hooked(seed, Hooks::default(), draw)
}

#[test]
fn every_road_to_entropy_repeats_with_the_same_seed() {
    let (first, second) = (draw_hooked(1), draw_hooked(1));

    assert_eq!(first, second);
}

#[test]
fn every_road_to_entropy_differs_with_another_seed() {
    let (one, other) = (draw_hooked(1), draw_hooked(2));

    assert_ne!(one.random_state, other.random_state);
    assert_ne!(one.rand, other.rand);
    assert_ne!(one.uuid_v4, other.uuid_v4);
    assert_ne!(one.uuid_v7, other.uuid_v7);
    assert_ne!(one.ring, other.ring);
    assert_ne!(one.getrandom_02, other.getrandom_02);
    assert_ne!(one.getrandom_04, other.getrandom_04);
}

#[test]
fn no_road_to_entropy_repeats_without_the_hook() {
    let off = Hooks { random: false, clock: true };
    let (one, other) = (hooked(1, off, draw), hooked(1, off, draw));

    assert_ne!(one.rand, other.rand);
    assert_ne!(one.uuid_v4, other.uuid_v4);
    assert_ne!(one.ring, other.ring);
    assert_ne!(one.getrandom_02, other.getrandom_02);
    assert_ne!(one.getrandom_04, other.getrandom_04);
}

#[test]
fn a_thread_beside_a_simulation_has_real_entropy_and_real_time() {
    let beside = hooked(1, Hooks::default(), || thread::Builder::new().spawn(|| (draw(), wall_seconds())));
    let (draws, wall) = beside.unwrap().join().unwrap();

    assert_ne!(draws.ring, draw_hooked(1).ring);
    assert_ne!(wall, hooked(1, Hooks::default(), wall_seconds));
}

#[test]
fn system_and_monotonic_time_stand_still_and_follow_the_virtual_clock() {
    let (first, second) = hooked(1, Hooks::default(), || (clocks(), clocks()));
    let other_thread = hooked(2, Hooks::default(), clocks);

    assert_eq!(first, second);
    assert_eq!(first, other_thread);
    assert_eq!(first.0.as_secs(), 1_800_000_000);
}

#[expect(clippy::disallowed_methods, reason = "the canary walks the very roads that our code must not")]
fn clocks() -> (std::time::Duration, std::time::Instant) {
    let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    (wall, std::time::Instant::now())
}

fn wall_seconds() -> u64 {
    clocks().0.as_secs()
}
