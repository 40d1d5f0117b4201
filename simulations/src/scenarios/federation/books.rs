//! What people outside the world know and write down: operators, callers, and the oracle that judges.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hansa_model::audit::KeptCheckpoint;
use hansa_model::id::LeaseId;
use hansa_model::site::SiteStatus;
use hansa_model::{HostId, Secret, SiteId, Timestamp};

use super::commands::Wish;
use crate::clock::SimTime;
use crate::invariants::acknowledged_commands::AcknowledgedCommands;
use crate::invariants::acknowledged_decisions::AcknowledgedDecisions;
use crate::invariants::acknowledged_inventory::AcknowledgedInventory;
use crate::invariants::audit_chain::AuditChain;
use crate::invariants::command_runs::CommandRuns;
use crate::invariants::convergence::{ShownCoordinator, ShownSite};
use crate::invariants::ordered_rows::OrderedRows;
use crate::invariants::policy_convergence::Policies;
use crate::network;

/// Shared by all programs and the scenario; survives every crash. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Books {
    /// When the last caller goes home.
    pub(super) work_ends: SimTime,
    pages: Arc<Mutex<Pages>>,
}

#[derive(Debug, Default)]
pub(super) struct Pages {
    /// The coordinator's public key, as its operator hands it out.
    pub(super) coordinator_key: Option<String>,
    pub(super) coordinator: Option<ShownCoordinator>,
    pub(super) sites: BTreeMap<network::HostId, SitePage>,
    pub(super) ordered: OrderedRows,
    drawn: u64,
    pub(super) decided: AcknowledgedDecisions,
    /// What was decided when the image of the coordinator's disk was taken.
    decided_in_image: Option<AcknowledgedDecisions>,
    pub(super) dispatched: AcknowledgedCommands,
    /// What was dispatched when that image was taken.
    dispatched_in_image: AcknowledgedCommands,
    /// A dispatch that was not answered; its operator asks again, under the same key.
    pub(super) unanswered: Option<Wish>,
    /// The coordinator is asked for a last look at commands and audit logs.
    pub(super) last_look: bool,
    /// Leases that were asked for earlier are not compared: the coordinator's disk was put back.
    pub(super) leases_since: Timestamp,
    /// Live credentials at the issuer, each with its end.
    pub(super) issued: BTreeMap<LeaseId, Timestamp>,
    pub(super) audit: AuditChain,
    audit_in_image: AuditChain,
    /// The coordinator's clock, when it was last seen.
    pub(super) coordinator_now: Timestamp,
}

/// One site.
#[derive(Debug, Default)]
pub(super) struct SitePage {
    pub(super) key: Option<String>,
    /// The token that the coordinator's operator sent.
    pub(super) invitation: Option<Secret<String>>,
    pub(super) promised: AcknowledgedInventory,
    /// What was promised when the image of the disk was taken.
    pub(super) promised_in_image: Option<AcknowledgedInventory>,
    pub(super) shown: Option<ShownSite>,
    /// The operator is asked to remove these hosts.
    pub(super) remove: BTreeSet<HostId>,
    /// The operator is asked to send everything again.
    pub(super) resync: bool,
    /// What the connectors did.
    pub(super) runs: CommandRuns,
    /// Policies that the connectors have in force.
    pub(super) in_force: Policies,
    /// Credentials that the connectors hold, by the site's key, with their ends.
    pub(super) given: BTreeMap<String, Option<Timestamp>>,
    pub(super) audit: AuditChain,
    /// What was seen of the audit log when the image was taken.
    audit_in_image: AuditChain,
    /// The coordinator's checkpoints that it keeps.
    pub(super) kept: Vec<KeptCheckpoint>,
    /// When the image of the disk was taken.
    image_at: SimTime,
    /// The disk was put back at some time: its connectors know nothing of that.
    pub(super) went_back: bool,
}

impl SitePage {
    /// The site's id, once it is enrolled.
    pub(super) fn id(&self) -> Option<SiteId> {
        self.shown.as_ref().and_then(|shown| shown.id)
    }
}

impl Books {
    pub(super) fn new(work_ends: SimTime) -> Self {
        Self { work_ends, pages: Arc::default() }
    }

    pub(super) fn open(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    pub(super) fn site(&mut self, host: network::HostId) -> &mut SitePage {
        self.sites.entry(host).or_default()
    }

    /// A number above all before.
    pub(super) fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.drawn
    }

    pub(super) fn everybody_is_enrolled(&self, sites: usize) -> bool {
        let Some(coordinator) = &self.coordinator else { return false };
        let met = |page: &SitePage| {
            let status = page.id().and_then(|id| coordinator.sites.get(&id)).map(|(status, _)| *status);
            status.is_some_and(|status| status != SiteStatus::Pending)
        };
        self.sites.len() == sites && self.sites.values().all(met)
    }

    /// A copy of a host's disk is taken now.
    pub(super) fn image_kept(&mut self, host: network::HostId, now: SimTime) {
        if let Some(page) = self.sites.get_mut(&host) {
            page.promised_in_image = Some(page.promised.clone());
            page.image_at = now;
            page.audit_in_image = page.audit.clone();
        } else {
            self.decided_in_image = Some(self.decided.clone());
            self.dispatched_in_image = self.dispatched.clone();
            self.audit_in_image = self.audit.clone();
        }
    }

    pub(super) fn has_image(&self, host: network::HostId) -> bool {
        let of_coordinator = self.decided_in_image.is_some();
        self.sites.get(&host).map_or(of_coordinator, |page| page.promised_in_image.is_some())
    }

    /// A host's disk went back to the copy: what was promised since is off.
    pub(super) fn image_restored(&mut self, host: network::HostId) {
        let drawn = self.drawn;
        let Some(page) = self.sites.get_mut(&host) else {
            self.ordered.coordinator_went_back(drawn);
            self.decided = self.decided_in_image.clone().unwrap_or_default();
            self.dispatched = self.dispatched_in_image.clone();
            self.audit.went_back(&self.audit_in_image, self.coordinator_now);
            // What it knew of credentials is what it knew then; they end by themselves.
            self.leases_since = self.coordinator_now;
            self.sites.values_mut().for_each(|page| page.given.clear());
            return;
        };
        if let Some(promised) = page.promised_in_image.clone() {
            page.promised = promised;
        }
        page.runs.site_went_back(page.image_at);
        page.audit.went_back(&page.audit_in_image, Timestamp::EPOCH);
        page.went_back = true;
        if let Some(id) = page.id() {
            self.ordered.site_went_back(id, drawn);
        }
    }
}
