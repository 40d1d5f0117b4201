//! Sites that come and go: they join, leave or are removed, and join again as the same node under a new membership.
//!
//! ```text
//! enroll ─► hosts change, sites leave, the operator removes and invites again, faults
//!   ─► heal ─► work ends ─► every site is a member once, and its hosts stand under that membership alone
//! ```
//!
//! What must hold at all times is in [`crate::invariants::ended_memberships`]; that an acknowledged join or leave
//! stays is checked by the site as it looks at itself, and that everything is level by
//! [`crate::invariants::convergence`].

mod coordinator;
mod site;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{anyhow, ensure};
use hansa_model::Secret;

use crate::clock::SimTime;
use crate::faults::{self, FaultMix};
use crate::invariants::convergence::{self, Left, ShownCoordinator, ShownSite};
use crate::invariants::ended_memberships::EndedMemberships;
use crate::network::HostId;
use crate::scenario::Run;
use crate::world::World;

const COORDINATOR: HostId = HostId(0);
/// Sites come and go for this long after the last fault, so that it also happens in peace.
const WORK_AFTER_HEAL: Duration = Duration::from_secs(20);
/// From the end of the work until everything is level: a site learns of its removal, asks for an invitation, joins
/// after the longest back-off, and sends all it has.
const LEVEL_WITHIN: Duration = Duration::from_secs(180);

/// Shared by all programs; survives every crash. Cheap to clone.
#[derive(Debug, Clone)]
struct Books {
    work_ends: SimTime,
    pages: Arc<Mutex<Pages>>,
}

#[derive(Debug, Default)]
struct Pages {
    /// The coordinator's public key, as its operator hands it out.
    coordinator_key: Option<String>,
    coordinator: Option<ShownCoordinator>,
    sites: BTreeMap<HostId, SitePage>,
    ended: EndedMemberships,
    /// Leaves that sites were told are done.
    left: u64,
    /// Removals that the operator was told are done.
    removed: u64,
}

#[derive(Debug, Default)]
struct SitePage {
    key: Option<String>,
    /// The token that the coordinator's operator sent; none asks for one.
    invitation: Option<Secret<String>>,
    /// Whether the site is a member, once it was told so and until it asks for something else.
    member: Option<bool>,
    shown: Option<ShownSite>,
}

impl Books {
    fn open(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    fn site(&mut self, host: HostId) -> &mut SitePage {
        self.sites.entry(host).or_default()
    }

    fn level(&self, since: SimTime, sites: u16) -> anyhow::Result<()> {
        let coordinator = self.coordinator.as_ref().ok_or_else(|| anyhow!("no coordinator was seen"))?;
        ensure!(self.sites.len() == usize::from(sites), "{} sites were seen", self.sites.len());
        for (host, page) in &self.sites {
            let shown = page.shown.as_ref().ok_or_else(|| anyhow!("{host} was never seen"))?;
            let left = convergence::compare(shown, coordinator, since);
            let left = left.map_err(|reason| anyhow!("{host}: {reason}"))?;
            ensure!(left == Left::default(), "{host}: hosts that no other site has are missing: {left:?}");
        }
        Ok(())
    }
}

/// Runs the scenario; see the module.
///
/// # Errors
/// When the sites do not become members again, or nobody ever came or went.
pub fn run(world: &mut World, run: &Run) -> anyhow::Result<()> {
    let books = Books { work_ends: run.heals_at().after(WORK_AFTER_HEAL), pages: Arc::default() };
    let theirs = books.clone();
    world.add_host("coordinator", move |env| coordinator::live(env, theirs.clone()));
    for site in 1..=run.sites {
        let theirs = books.clone();
        world.add_host(&format!("site-{site}"), move |env| site::live(env, theirs.clone()));
    }
    let pairs: Vec<_> = (1..=run.sites).map(|site| (COORDINATOR, HostId(site))).collect();
    let from = SimTime::at(Duration::from_secs(5));
    world.plan(faults::draw(run.seed, &FaultMix::BAD_DAY, &world.hosts(), &pairs, (from, run.heals_at())));
    world.run_until(books.work_ends);

    let mut last = Err(anyhow!("never looked"));
    let reached = world.run_while_not(LEVEL_WITHIN, |_| {
        last = books.open().level(books.work_ends, run.sites);
        last.is_ok()
    });
    if !reached && world.violations().is_empty() {
        return last.map_err(|reason| reason.context(format!("not level within {LEVEL_WITHIN:?}")));
    }
    let pages = books.open();
    ensure!(pages.left > 0, "no site ever left");
    ensure!(pages.removed > 0, "no site was ever removed");
    ensure!(pages.ended.count() > usize::from(run.sites), "hardly any membership ended");
    Ok(())
}
