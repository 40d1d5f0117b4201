//! A node before three secret stores of the world: one copied, one copied and written through, one proxied.
//!
//! ```text
//! values come, change and go; readers, writers, an operator who removes and makes a backend anew, faults
//!   ─► heal ─► work ends ─► every copy is its original, and nothing else is served
//! ```
//!
//! The programs check what they read as they read it ([`crate::invariants::true_copies`]); that local secrets
//! survive and that no copy outlives its backend is checked here, and that every call that was answered is in the
//! audit log once ([`crate::invariants::audited_calls`]).

mod books;
mod node;
mod store;

use std::time::Duration;

use anyhow::ensure;

use self::books::Books;
use crate::clock::SimTime;
use crate::faults::{self, FaultMix};
use crate::scenario::Run;
use crate::world::World;

/// From the end of the work until everything is level: two complete syncs that miss a name, each after the longest
/// wait, and the calls of each.
const LEVEL_WITHIN: Duration = Duration::from_secs(300);

/// Runs the scenario; see the module.
///
/// # Errors
/// When the copies do not become what the stores hold.
pub fn run(world: &mut World, run: &Run) -> anyhow::Result<()> {
    let books = Books::new(run.heals_at());
    let theirs = books.clone();
    world.add_host("node", move |env| node::live(env, theirs.clone()));
    let from = SimTime::at(Duration::from_secs(5));
    world.plan(faults::draw(run.seed, &FaultMix::BAD_DAY_ALONE, &world.hosts(), &[], (from, run.heals_at())));
    world.run_until(run.heals_at());
    let level = world.run_while_not(LEVEL_WITHIN, |_| books.open().level_at.is_some());
    let pages = books.open();
    ensure!(
        level,
        "not level within {LEVEL_WITHIN:?}: {}",
        pages.missing.as_deref().unwrap_or("nobody looked")
    );
    ensure!(pages.copies_read > 0 && pages.answers > 0, "nothing was ever read");
    ensure!(pages.written_through > 0, "nothing was ever written through");
    ensure!(pages.removals > 0, "no backend was ever removed");
    Ok(())
}
