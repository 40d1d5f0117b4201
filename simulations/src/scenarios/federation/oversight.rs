//! What the coordinator's people look at beside hosts: leases, rollups, alerts, and the audit log.

use std::collections::{BTreeMap, BTreeSet};

use hansa_actors::Federation;
use hansa_actors::error::{AlertError, LeaseError};
use hansa_actors::view::{AlertFilter, LeaseFilter, SiteView};
use hansa_model::SiteId;
use hansa_model::alert::OverridesPatch;
use hansa_model::audit::AuditFilter;
use hansa_model::lease::{Lease, LeaseStatus};
use hansa_model::machine::alert::{self, Facts, Findings};
use hansa_model::machine::lease;
use hansa_model::scope::Operator;
use hansa_model::site::SiteStatus;

use super::coordinator::Coordinator;
use crate::invariants::audit_chain::Link;
use crate::invariants::exact_rollups::{self, ShownRollups};
use crate::invariants::lease_convergence::ShownLeases;

/// More rows than a run makes.
const ROWS_MAX: usize = 100_000;
/// Links of the audit chain read at a time.
const LINKS: usize = 500;

impl Coordinator {
    /// The leases of each site.
    pub(super) fn show_leases(&self) -> anyhow::Result<BTreeMap<SiteId, ShownLeases>> {
        let now = self.federation.now();
        let empty = || ShownLeases { now, ..ShownLeases::default() };
        let mut shown: BTreeMap<SiteId, ShownLeases> =
            self.sites().iter().map(|view| (view.site.id, empty())).collect();
        for lease in self.all_leases(None)? {
            let site = shown.entry(lease.site_id).or_insert_with(empty);
            let waits = match lease.status {
                LeaseStatus::Requested => true,
                LeaseStatus::Active => lease.delivered_at.is_none(),
                LeaseStatus::Failed | LeaseStatus::Revoked | LeaseStatus::Expired => lease::is_open(&lease),
            };
            if waits {
                site.unsettled.push(format!("{lease:?}"));
            }
            if lease.status == LeaseStatus::Active {
                site.active.insert(lease.id, lease.correlation_key);
            }
        }
        Ok(shown)
    }

    fn all_leases(&self, status: Option<LeaseStatus>) -> anyhow::Result<Vec<Lease>> {
        let filter = LeaseFilter { status, limit: ROWS_MAX, ..LeaseFilter::default() };
        Ok(self.federation.leases(&self.operator, &filter)?)
    }

    /// Now and then the operator revokes a lease, or sets a threshold.
    pub(super) async fn oversee(&mut self) -> anyhow::Result<()> {
        if self.dice.chance(0.03) {
            let active = self.all_leases(Some(LeaseStatus::Active))?;
            if !active.is_empty() {
                let lease = active[self.dice.index(active.len())].id;
                let answer = self.federation.revoke_lease(&self.operator, lease).await;
                self.env.observer.event(&format!("revokes {lease}: {}", answer.is_ok()));
                if let Err(error @ (LeaseError::NotFound(_) | LeaseError::WrongRole(_))) = answer {
                    self.env.observer.violation(&format!("revoke: {error}"));
                }
            }
        }
        if self.dice.chance(0.02) {
            let patch = OverridesPatch {
                compliance_threshold: Some(Some(self.dice.below(100) as f64)),
                critical_cve_threshold: Some(Some(self.dice.below(4))),
                ..OverridesPatch::default()
            };
            let answer = self.federation.configure_alerts(&self.operator, patch).await;
            self.env.observer.event(&format!("sets thresholds: {}", answer.is_ok()));
            if let Err(error) = answer
                && !matches!(error, AlertError::Unavailable(_))
            {
                self.env.observer.violation(&format!("thresholds: {error}"));
            }
        }
        Ok(())
    }

    /// What is known of each site's hosts and results; checks the totals.
    pub(super) fn show_rollups(&self) -> BTreeMap<SiteId, ShownRollups> {
        let totals = self.federation.overview(&self.operator).totals;
        let report = self.federation.rollup_report(&self.operator, None);
        if let Err(broken) = exact_rollups::recount(&totals, report.rows.iter().map(|standing| &standing.row))
        {
            self.env.observer.violation(&broken);
        }
        let mut shown = BTreeMap::new();
        for SiteView { site, .. } in self.sites() {
            let Ok(dashboard) = self.federation.dashboard(&self.operator, site.id) else { continue };
            let rollups = &dashboard.rollups;
            let latest = rollups.compliance.values().filter_map(|series| series.latest());
            let scores = latest.filter(|rollup| !rollup.is_withdrawn()).map(|rollup| {
                let hosts = (rollup.hosts_in_scope, rollup.hosts_compliant, rollup.hosts_noncompliant);
                (rollup.baseline.clone(), (rollup.score_percent, hosts.0, hosts.1, hosts.2))
            });
            let findings = rollups.vulnerabilities.latest().map_or([0; 5], |found| {
                let counts = [found.critical_count, found.high_count, found.medium_count];
                [counts[0], counts[1], counts[2], found.low_count, found.affected_host_count]
            });
            let hosts = rollups.hosts.latest().map_or(0, |hosts| hosts.host_count);
            shown.insert(site.id, ShownRollups { scores: scores.collect(), findings, hosts });
        }
        shown
    }

    /// Whether the open alerts of each site are the conditions that hold for it.
    pub(super) fn show_alerts(&self) -> anyhow::Result<Result<(), String>> {
        let thresholds = self.federation.alert_config().effective;
        let filter = AlertFilter { limit: ROWS_MAX, ..AlertFilter::default() };
        let alerts = self.federation.alerts(&self.operator, &filter)?;
        let report = self.federation.rollup_report(&self.operator, None);
        for view in self.sites() {
            let id = view.site.id;
            let standing = report.rows.iter().find(|standing| standing.row.site_id == id);
            let found = standing.and_then(|standing| standing.rollups.vulnerabilities.latest());
            let worst = standing.and_then(|standing| standing.row.worst_compliance.as_ref());
            let facts = Facts {
                site_id: id,
                name: view.site.name.as_str(),
                sync_interval_seconds: view.site.sync_interval_seconds,
                last_sync_at: view.sync.last_sync_at,
                linked: view.linked,
                worst_compliance: worst.map(|worst| (worst.baseline.as_str(), worst.score_percent)),
                vulnerabilities: found.map(|found| Findings {
                    critical_count: found.critical_count,
                    high_count: found.high_count,
                    affected_host_count: found.affected_host_count,
                }),
                health: view.health,
            };
            let enrolled = view.site.status == SiteStatus::Enrolled;
            let holding = alert::holding(&facts, &thresholds, self.federation.now());
            let holding: BTreeSet<_> =
                holding.into_iter().filter(|_| enrolled).map(|holding| holding.condition).collect();
            let open: Vec<_> =
                alerts.iter().filter(|alert| alert.site_id == id).map(|alert| alert.condition).collect();
            if let Err(broken) = exact_rollups::alerts(&holding, &open) {
                return Ok(Err(format!("{}: {broken}", view.site.name)));
            }
        }
        Ok(Ok(()))
    }

    /// Holds the checkpoints that the sites keep against the coordinator's own audit log.
    pub(super) fn check_checkpoints(&self) -> anyhow::Result<usize> {
        let links = whole_log(&self.federation, &self.operator)?;
        let books = self.books.open();
        let mut kept = 0;
        for page in books.sites.values() {
            kept += page.kept.len();
            if let Err(broken) = books.audit.contains(&links, &page.kept) {
                self.env.observer.violation(&broken);
            }
        }
        Ok(kept)
    }
}

/// A node's whole audit log, as somebody who verifies it reads it.
pub(super) fn whole_log(federation: &Federation, operator: &Operator) -> anyhow::Result<Vec<Link>> {
    let mut links: Vec<Link> = Vec::new();
    loop {
        let after = links.last().map_or(0, |(number, ..)| *number);
        let page = federation.audit_chain(operator, after, LINKS)?;
        if page.is_empty() {
            return Ok(links);
        }
        links.extend(page.into_iter().map(|link| (link.number, link.draft, link.hash)));
    }
}

/// How a node's audit log ends.
pub(super) fn log_end(
    federation: &Federation,
    operator: &Operator,
) -> anyhow::Result<Option<(u64, [u8; 32])>> {
    let page = federation.audit(operator, &AuditFilter::default(), 0, 1)?;
    Ok(page.entries.first().map(|entry| (entry.number, entry.hash)))
}
