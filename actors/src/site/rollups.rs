//! A site's rollups: into its batch, and from there onto the board that readers see.

use std::sync::Arc;

use hansa_model::Timestamp;
use hansa_model::audit::Detail;
use hansa_model::id::RollupId;
use hansa_model::machine::rollup::{self, InvalidRollup, Series, SiteRollups};
use hansa_model::machine::rollup_board::Standing;
use hansa_model::report::{ComplianceReport, Report, VulnerabilityReport};
use hansa_model::rollup::{ComplianceRollup, ReportRow, Snapshot, VulnerabilityRollup};
use hansa_model::site::{HostRollup, SiteSync};
use hansa_model::sync::HostRollupReport;
use hansa_storage::codec::Named;
use hansa_storage::{Batch, Lane, table};
use tracing::debug;

use super::{SiteActor, SiteState};
use crate::rollups::series_of;
use crate::view::SiteView;

impl SiteState {
    /// The site's standing, as its view says it is.
    pub(super) fn standing(&self, view: &SiteView) -> Standing {
        let SiteView { site, sync, linked, .. } = view;
        let row = ReportRow {
            site_id: site.id,
            site_name: site.name.clone(),
            counts: self.rollups.counts(sync.host_count),
            worst_compliance: self.rollups.worst_compliance(),
            last_sync_at: sync.last_sync_at,
        };
        Standing {
            row,
            status: site.status,
            linked: *linked,
            sync_interval_seconds: site.sync_interval_seconds,
            rollups: Arc::clone(&self.rollups),
        }
    }
}

impl SiteActor {
    /// Puts a host rollup into the batch; `rollups` becomes what the site's series are after the commit. The
    /// sync that it records is the caller's.
    pub(super) fn put_hosts(
        &self,
        batch: &mut Batch,
        state: &SiteState,
        sync: &mut SiteSync,
        rollups: &mut Arc<SiteRollups>,
        report: HostRollupReport,
    ) -> Result<Arc<HostRollup>, InvalidRollup> {
        let now = self.context.now();
        let rollup = Arc::new(rollup::hosts(self.rollup_id(), report, now)?);
        let series = &mut Arc::make_mut(rollups).hosts;
        let recorded = series.record(&rollup);
        sync.host_count = rollup.host_count;
        let site = state.site.id;
        if let Some(number) = recorded.number {
            batch.put::<table::HostRollups>(&(site, number), &rollup);
            sync.next_rollup = number + 1;
        }
        for number in recorded.dropped {
            batch.delete::<table::HostRollups>(&(site, number));
        }
        Ok(kept(&rollups.hosts, rollup))
    }

    /// As [`Self::put_hosts`], for one baseline's score.
    pub(super) fn put_compliance(
        &self,
        batch: &mut Batch,
        state: &SiteState,
        rollups: &mut Arc<SiteRollups>,
        report: &ComplianceReport,
    ) -> Result<Arc<ComplianceRollup>, InvalidRollup> {
        let rollup = Arc::new(rollup::compliance(self.rollup_id(), report, self.context.now())?);
        let recorded = Arc::make_mut(rollups).record_compliance(&rollup)?;
        let site = state.site.id;
        let key = |number| (site, Named::new(&rollup.baseline, number));
        if let Some((baseline, _)) = recorded.forgotten {
            let (from, to) = series_of(site, &baseline);
            batch.delete_range::<table::ComplianceRollups>(from..=to);
        }
        if let Some(number) = recorded.recorded.number {
            batch.put::<table::ComplianceRollups>(&key(number), &rollup);
        }
        for number in recorded.recorded.dropped {
            batch.delete::<table::ComplianceRollups>(&key(number));
        }
        Ok(match rollups.compliance.get(&rollup.baseline) {
            Some(series) => kept(series, rollup),
            None => rollup,
        })
    }

    /// As [`Self::put_hosts`], for the findings.
    pub(super) fn put_vulnerabilities(
        &self,
        batch: &mut Batch,
        state: &SiteState,
        rollups: &mut Arc<SiteRollups>,
        report: VulnerabilityReport,
    ) -> Result<Arc<VulnerabilityRollup>, InvalidRollup> {
        let rollup = Arc::new(rollup::vulnerabilities(self.rollup_id(), report, self.context.now())?);
        let recorded = Arc::make_mut(rollups).vulnerabilities.record(&rollup);
        let site = state.site.id;
        if let Some(number) = recorded.number {
            batch.put::<table::VulnerabilityRollups>(&(site, number), &rollup);
        }
        for number in recorded.dropped {
            batch.delete::<table::VulnerabilityRollups>(&(site, number));
        }
        Ok(kept(&rollups.vulnerabilities, rollup))
    }

    /// Tells watchers of a score that is on disk.
    pub(super) fn tell_compliance(&self, state: &SiteState, rollup: &ComplianceRollup) {
        let details = [
            ("name", state.site.name.as_str().into()),
            ("baseline", rollup.baseline.as_str().into()),
            ("score_percent", rollup.score_percent.map_or(Detail::Null, Detail::Float)),
        ];
        self.context.publish("rollup_compliance", Some(state.site.id), details);
    }

    /// Tells watchers of counted findings that are on disk.
    pub(super) fn tell_vulnerabilities(&self, state: &SiteState, rollup: &VulnerabilityRollup) {
        let count = |count: u64| Detail::Int(i64::try_from(count).unwrap_or(i64::MAX));
        let details = [
            ("name", state.site.name.as_str().into()),
            ("critical_count", count(rollup.critical_count)),
            ("high_count", count(rollup.high_count)),
            ("affected_host_count", count(rollup.affected_host_count)),
        ];
        self.context.publish("rollup_vulnerabilities", Some(state.site.id), details);
    }

    /// The site says, at the beginning of a link, what it holds results of: what it does not hold any more is
    /// shown no longer. They part when either side's disk went back. What is not stored now is compared again at the
    /// next link.
    pub(super) async fn results_held(&self, state: &mut SiteState, baselines: &[String], findings: bool) {
        // Newer than what it takes the place of, and older than anything that the site says from now on.
        let next = |at: Timestamp| Timestamp::from_micros(at.as_micros().saturating_add(1));
        let mut reports = Vec::new();
        for latest in state.rollups.compliance.values().filter_map(Series::latest) {
            if !latest.is_withdrawn() && !baselines.contains(&latest.baseline) {
                let (baseline, at) = (latest.baseline.clone(), next(latest.snapshot_at));
                let gone =
                    ComplianceReport { baseline, snapshot_at: Some(at), ..ComplianceReport::default() };
                reports.push(Report::Compliance(gone));
            }
        }
        if let Some(latest) = state.rollups.vulnerabilities.latest().filter(|_| !findings) {
            let found = [latest.critical_count, latest.high_count, latest.medium_count, latest.low_count];
            if found.iter().any(|count| *count > 0) {
                let snapshot_at = Some(next(latest.snapshot_at));
                let gone = VulnerabilityReport { snapshot_at, ..VulnerabilityReport::default() };
                reports.push(Report::Vulnerabilities(gone));
            }
        }
        if reports.is_empty() {
            return;
        }
        let mut rollups = Arc::clone(&state.rollups);
        let (mut batch, mut effects) = (Batch::new(), Vec::new());
        for report in reports {
            if let Ok((effect, _)) = self.put_report(&mut batch, state, &mut rollups, &[], report) {
                effects.push(effect);
            }
        }
        if let Err(error) = self.context.commit(Lane::Ingest, batch).await {
            debug!(site = %state.site.id, %error, "results that the site does not hold are still shown");
            return;
        }
        state.rollups = rollups;
        self.take_effects(state, effects);
        state.publish();
    }

    fn rollup_id(&self) -> RollupId {
        RollupId::generate(self.context.now(), &*self.context.entropy)
    }
}

/// The snapshot that a report came to: of a repeat the one that is stored already.
fn kept<T: Snapshot>(series: &Series<T>, rollup: Arc<T>) -> Arc<T> {
    series.latest().filter(|latest| rollup.repeats(latest)).cloned().unwrap_or(rollup)
}
