//! A coordinator and its sites: real nodes with everything but sockets, files, clocks and chance their own.
//!
//! ```text
//! enroll ─► callers and operators at work, faults, disks put back ─► heal ─► work ends
//!   ─► level but for contended hosts ─► one holder each ─► level ─► restart: nothing to repair ─► disks sound
//! ```
//!
//! The programs check what they see each second; what needs the whole world is checked here. Every
//! invariant stands in [`crate::invariants`].

mod books;
mod commands;
mod connector;
mod coordinator;
mod issuer;
pub(in crate::scenarios) mod node;
mod oversight;
mod policies;
mod results;
mod site;
mod workload;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use hansa_model::{Entropy, SiteId};
use hansa_storage::RootKey;

use self::books::{Books, SitePage};
use crate::clock::SimTime;
use crate::dice::Dice;
use crate::disk::{Crash, Loss};
use crate::faults::{self, Fault, FaultMix};
use crate::invariants::convergence::{self, Left, ShownCoordinator, ShownSite};
use crate::invariants::lease_convergence::{self, ShownLeases};
use crate::invariants::{exact_rollups, policy_convergence, sound_store};
use crate::network::HostId;
use crate::scenario::Run;
use crate::world::World;

const COORDINATOR: HostId = HostId(0);
/// Callers work on for this long after the last fault, so that healing happens under load.
const WORK_AFTER_HEAL: Duration = Duration::from_secs(10);
/// From the end of the work until everything is level: the longest back-off, an idle timeout, a time of
/// patience, a handshake, and the operator's seconds to take suspended sites back.
const LEVEL_WITHIN: Duration = Duration::from_secs(120);
/// After an operator's word to a site with a live link.
const REPAIRED_WITHIN: Duration = Duration::from_secs(40);
/// Time to see that nothing happens: a comparison of digests begins with the link.
const QUIET: Duration = Duration::from_secs(20);

/// Runs the scenario; see the module.
///
/// # Errors
/// When an invariant of the end does not hold.
pub fn run(world: &mut World, run: &Run) -> anyhow::Result<()> {
    let books = Books::new(run.heals_at().after(WORK_AFTER_HEAL));
    let theirs = books.clone();
    world.add_host("coordinator", move |env| coordinator::live(env, theirs.clone()));
    for site in 1..=run.sites {
        let theirs = books.clone();
        world.add_host(&format!("site-{site}"), move |env| site::live(env, theirs.clone()));
    }
    let pairs: Vec<_> = (1..=run.sites).map(|site| (COORDINATOR, HostId(site))).collect();
    let from = SimTime::at(Duration::from_secs(5));
    let until = run.heals_at();
    world.plan(faults::draw(run.seed, &FaultMix::BAD_DAY, &world.hosts(), &pairs, (from, until)));
    for (time, host, deed) in draw_backups(run) {
        world.run_until(time);
        back_up(world, &books, run, host, deed);
    }
    world.run_until(books.work_ends);

    let left = level(world, &books, books.work_ends, LEVEL_WITHIN)?;
    free_hosts_arrive(world, &books, &left)?;
    contended_hosts_find_one_holder(world, &books)?;
    digests_agree(world, &books)?;
    results_are_those_given(world, &books)?;
    world.run_until(run.ends_at());
    disks_are_sound(world)
}

/// What is done with the backup of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Keep,
    Restore,
}

/// Draws when disks are copied, and when a host is put back to its copy; the coordinator at most once.
fn draw_backups(run: &Run) -> Vec<(SimTime, HostId, Deed)> {
    let mut dice = Dice::new(run.seed, "backups", 0);
    let mut deeds = Vec::new();
    let mut time = SimTime::at(Duration::from_secs(20));
    let mut coordinator_may = dice.chance(0.4);
    loop {
        time = time.after(dice.span(Duration::from_secs(5), Duration::from_secs(60)));
        if time >= run.heals_at() {
            return deeds;
        }
        let host = HostId(u16::try_from(dice.below(u64::from(run.sites) + 1)).unwrap_or(0));
        let deed = if dice.chance(0.3) { Deed::Restore } else { Deed::Keep };
        if (host, deed) == (COORDINATOR, Deed::Restore) && !std::mem::take(&mut coordinator_may) {
            continue;
        }
        deeds.push((time, host, deed));
    }
}

/// Only disks of members are copied: an older one would hold another identity, which is another site.
fn back_up(world: &mut World, books: &Books, run: &Run, host: HostId, deed: Deed) {
    let mut pages = books.open();
    match deed {
        Deed::Keep if pages.everybody_is_enrolled(usize::from(run.sites)) => {
            pages.image_kept(host, world.now());
            drop(pages);
            world.apply(Fault::KeepImage(host));
        }
        Deed::Restore if pages.has_image(host) => {
            pages.image_restored(host);
            drop(pages);
            world.apply(Fault::RestoreImage(host));
        }
        Deed::Keep | Deed::Restore => {}
    }
}

/// Lives on until every site is level with the coordinator. Answers what each site holds in vain.
fn level(
    world: &mut World,
    books: &Books,
    since: SimTime,
    within: Duration,
) -> anyhow::Result<BTreeMap<HostId, Left>> {
    let mut last = Err(anyhow!("never looked"));
    let reached = world.run_while_not(within, |_| {
        last = compare(books, since);
        last.is_ok()
    });
    if !reached && world.violations().is_empty() {
        return last.with_context(|| format!("not level within {within:?}"));
    }
    last
}

fn compare(books: &Books, since: SimTime) -> anyhow::Result<BTreeMap<HostId, Left>> {
    let pages = books.open();
    let coordinator = pages.coordinator.as_ref().context("no coordinator was seen")?;
    let sites = pages.sites.iter().map(|(host, page)| {
        let shown = page.shown.as_ref().with_context(|| format!("{host} was never seen"))?;
        let left = convergence::compare(shown, coordinator, since);
        let left = left.map_err(|reason| anyhow!("{host}: {reason}"))?;
        compare_desired(page, shown, coordinator).map_err(|reason| anyhow!("{host}: {reason}"))?;
        Ok((*host, left))
    });
    let sites = sites.collect::<anyhow::Result<_>>()?;
    let mut leases = ShownLeases::default();
    for site in coordinator.leases.values() {
        leases.now = site.now;
        leases.active.extend(site.active.clone());
        leases.unsettled.extend(site.unsettled.clone());
    }
    let issuer = lease_convergence::compare_issuer(&leases, &pages.issued, pages.leases_since);
    issuer.and_then(|()| coordinator.alerts.clone()).map_err(|reason| anyhow!(reason))?;
    Ok(sites)
}

/// What one site should have beside its hosts, and what it comes to.
fn compare_desired(page: &SitePage, shown: &ShownSite, coordinator: &ShownCoordinator) -> Result<(), String> {
    let id = shown.id.unwrap_or(SiteId(uuid::Uuid::nil()));
    // What connectors do is not put back with a disk.
    let connectors = (!page.went_back).then_some(&page.in_force);
    let wanted = coordinator.policies.get(&id).cloned().unwrap_or_default();
    policy_convergence::compare(&wanted, &shown.policies, connectors)?;
    if let Some(leases) = coordinator.leases.get(&id).filter(|_| !page.went_back) {
        lease_convergence::compare_site(leases, &page.given)?;
    }
    let rollups = coordinator.rollups.get(&id).cloned().unwrap_or_default();
    exact_rollups::compare(&shown.rollups, &rollups)
}

/// A host that its former holder gave up comes with the next repair of another site that reports it.
fn free_hosts_arrive(world: &mut World, books: &Books, left: &BTreeMap<HostId, Left>) -> anyhow::Result<()> {
    for (host, _) in left.iter().filter(|(_, left)| !left.free.is_empty()) {
        books.open().site(*host).resync = true;
    }
    let since = world.now().after(Duration::from_secs(3));
    let reached = world.run_while_not(REPAIRED_WITHIN, |world| {
        let level = compare(books, since);
        world.now() > since && level.is_ok_and(|left| left.values().all(|left| left.free.is_empty()))
    });
    ensure!(reached, "free hosts do not arrive: {:?}", compare(books, since));
    Ok(())
}

/// Operators give up hosts that another site holds; then nothing is left over anywhere.
fn contended_hosts_find_one_holder(world: &mut World, books: &Books) -> anyhow::Result<()> {
    for (host, left) in compare(books, SimTime::START)? {
        books.open().site(host).remove = left.elsewhere;
    }
    let since = world.now().after(Duration::from_secs(3));
    let reached = world.run_while_not(REPAIRED_WITHIN, |world| {
        let level = compare(books, since);
        world.now() > since && level.is_ok_and(|left| left.values().all(|left| *left == Left::default()))
    });
    ensure!(reached, "not level without contention: {:?}", compare(books, since));
    Ok(())
}

/// The coordinator starts again, so every site compares digests; when they agree, no row travels.
fn digests_agree(world: &mut World, books: &Books) -> anyhow::Result<()> {
    world.apply(Fault::Crash(COORDINATOR, Crash::Process));
    let since = world.now();
    world.apply(Fault::Boot(COORDINATOR));
    level(world, books, since, LEVEL_WITHIN)?;
    let end = world.now().after(QUIET);
    world.run_until(end);
    let stored = books.open().coordinator.as_ref().map(|shown| shown.stored_rows);
    ensure!(stored == Some(0), "digests differ, {stored:?} rows were sent though everything is level");
    level(world, books, end, LEVEL_WITHIN)?;
    Ok(())
}

/// The coordinator compares what it says of each command with what the connectors gave.
fn results_are_those_given(world: &mut World, books: &Books) -> anyhow::Result<()> {
    books.open().last_look = true;
    let done = world.run_while_not(QUIET, |_| !books.open().last_look);
    ensure!(done, "nobody compared results");
    let begun: usize = books.open().sites.values().map(|page| page.runs.count()).sum();
    ensure!(begun > 0, "no command was ever begun");
    Ok(())
}

fn disks_are_sound(world: &mut World) -> anyhow::Result<()> {
    let entropy: Arc<dyn Entropy> = Arc::new(Chance(Mutex::new(Dice::new(world.seed(), "check", 0))));
    for host in world.hosts() {
        world.crash(host, Crash::Power(Loss::All));
        let sound = sound_store::check(world.disk(host), &RootKey::new(node::ROOT_KEY), Arc::clone(&entropy));
        sound.map_err(|reason| anyhow!("the store of {host}: {reason}"))?;
    }
    Ok(())
}

/// Randomness outside every host.
#[derive(Debug)]
struct Chance(Mutex<Dice>);

impl Entropy for Chance {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill(bytes);
    }
}
