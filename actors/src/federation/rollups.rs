//! The facade's part about rollups: reports taken in, dashboards, series, and what answers cover.

use std::collections::BTreeSet;
use std::sync::Arc;

use hansa_model::alert::Thresholds;
use hansa_model::machine::rollup::{Series, SiteRollups};
use hansa_model::machine::rollup_board::{Coverage, Standing};
use hansa_model::report::Report;
use hansa_model::rollup::{ComplianceRollup, Snapshot, Totals, VulnerabilityRollup};
use hansa_model::scope::Operator;
use hansa_model::site::{HostRollup, SiteStatus};
use hansa_model::{SiteId, Timestamp};
use hansa_storage::codec::Named;
use hansa_storage::table::{self, Table};

use super::Federation;
use crate::error::{IngestError, ReadError, SiteNotFound, Unavailable};
use crate::rollups::{SeriesKey, for_each_instant, series_of};
use crate::site::SiteMessage;
use crate::view::{DashboardView, OverviewView, ReportAnswer, ReportView, RollupFilter, RollupItem};

// What sites report over HTTP.
impl Federation {
    /// Takes a documented report other than directory, host rollup and metadata. Durable on return.
    ///
    /// # Errors
    /// See [`IngestError`].
    pub async fn ingest_report(&self, site: SiteId, report: Report) -> Result<ReportAnswer, IngestError> {
        let member = self.ingesting(site)?;
        let report = Box::new(report);
        member.actor.call(|reply| SiteMessage::Report { report, reply }).await?
    }
}

// What operators read. Nothing here waits for an actor.
impl Federation {
    /// The latest of each of a site's series.
    ///
    /// # Errors
    /// There is no such site, or the operator may not see it.
    pub fn dashboard(&self, operator: &Operator, site: SiteId) -> Result<DashboardView, SiteNotFound> {
        let member = self.member(operator, site)?;
        let rollups = self.board().read().site(site).map(|standing| Arc::clone(&standing.rollups));
        Ok(DashboardView {
            last_sync_at: member.view().sync.last_sync_at,
            rollups: rollups.unwrap_or_default(),
        })
    }

    /// The whole federation at a glance, as far as the operator sees it. For who sees all of it the totals are
    /// read from counters.
    pub fn overview(&self, operator: &Operator) -> OverviewView {
        let directory = self.directory(operator);
        let board = self.board().read();
        let totals = if operator.sites.is_none() {
            *board.totals()
        } else {
            sum(board.enrolled().filter(|standing| operator.sees(standing.row.site_id)))
        };
        let coverage = board.coverage(&Thresholds::default(), self.now(), |site| operator.sees(site));
        OverviewView { totals, directory, coverage }
    }

    /// One row for each of these sites, or for every enrolled one, in the order of names. Sites that are
    /// unknown, removed or not the operator's to see are left out.
    pub fn rollup_report(&self, operator: &Operator, sites: Option<&[SiteId]>) -> ReportView {
        let wanted: Option<BTreeSet<SiteId>> = sites.map(|sites| sites.iter().copied().collect());
        let asked = |site| operator.sees(site) && wanted.as_ref().is_none_or(|wanted| wanted.contains(&site));
        let (mut rows, totals, coverage) = {
            let board = self.board().read();
            let rows: Vec<Arc<Standing>> = match &wanted {
                Some(wanted) => wanted
                    .iter()
                    .filter(|site| operator.sees(**site))
                    .filter_map(|site| board.site(*site).cloned())
                    .collect(),
                None => board.enrolled().filter(|standing| asked(standing.row.site_id)).cloned().collect(),
            };
            let totals =
                if wanted.is_none() && operator.sites.is_none() { *board.totals() } else { sum(rows.iter()) };
            (rows, totals, board.coverage(&Thresholds::default(), self.now(), asked))
        };
        rows.sort_by(|a, b| (&a.row.site_name, a.row.site_id).cmp(&(&b.row.site_name, b.row.site_id)));
        ReportView { rows, totals, coverage }
    }

    /// What an answer about these sites, or about all that the operator sees, covers.
    pub fn coverage(&self, operator: &Operator, sites: Option<&[SiteId]>) -> Coverage {
        let sites: Option<BTreeSet<SiteId>> = sites.map(|sites| sites.iter().copied().collect());
        let asked = |site| operator.sees(site) && sites.as_ref().is_none_or(|sites| sites.contains(&site));
        self.board().read().coverage(&Thresholds::default(), self.now(), asked)
    }

    /// Snapshots of host rollups, newest first.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn host_rollups(
        &self,
        operator: &Operator,
        filter: &RollupFilter,
    ) -> Result<Vec<RollupItem<HostRollup>>, ReadError> {
        self.listed::<table::HostRollups>(
            operator,
            filter,
            |rollups| vec![&rollups.hosts],
            |site, _| vec![((site, 0), (site, u64::MAX))],
        )
    }

    /// Snapshots of scores, newest first.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn compliance_rollups(
        &self,
        operator: &Operator,
        filter: &RollupFilter,
    ) -> Result<Vec<RollupItem<ComplianceRollup>>, ReadError> {
        let wanted = |baseline: &str| filter.baseline.as_deref().is_none_or(|wanted| wanted == baseline);
        self.listed::<table::ComplianceRollups>(
            operator,
            filter,
            |rollups| {
                let named = rollups.compliance.iter().filter(|(baseline, _)| wanted(baseline));
                named.map(|(_, series)| series).collect()
            },
            |site, rollups| {
                let named = rollups.compliance.keys().filter(|baseline| wanted(baseline));
                named
                    .map(|baseline| series_of(site, baseline))
                    .collect::<Vec<((SiteId, Named<u64>), (SiteId, Named<u64>))>>()
            },
        )
    }

    /// Snapshots of counted findings, newest first.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn vulnerability_rollups(
        &self,
        operator: &Operator,
        filter: &RollupFilter,
    ) -> Result<Vec<RollupItem<VulnerabilityRollup>>, ReadError> {
        self.listed::<table::VulnerabilityRollups>(
            operator,
            filter,
            |rollups| vec![&rollups.vulnerabilities],
            |site, _| vec![((site, 0), (site, u64::MAX))],
        )
    }

    fn board(&self) -> &crate::rollups::Rollups {
        &self.tree.coordinator.roster.rollups
    }

    fn listed<T>(
        &self,
        operator: &Operator,
        filter: &RollupFilter,
        series: impl Fn(&SiteRollups) -> Vec<&Series<T::Value>>,
        ranges: impl Fn(SiteId, &SiteRollups) -> Vec<(T::Key, T::Key)>,
    ) -> Result<Vec<RollupItem<T::Value>>, ReadError>
    where
        T: Table<Key: SeriesKey, Value: Snapshot>,
    {
        if let Some(site) = filter.site {
            self.member(operator, site)?;
        }
        let standings: Vec<Arc<Standing>> = {
            let board = self.board().read();
            let shown = |standing: &&Arc<Standing>| {
                let site = standing.row.site_id;
                operator.sees(site) && filter.site.is_none_or(|wanted| wanted == site)
            };
            board.sites().filter(shown).cloned().collect()
        };
        if filter.latest {
            let mut items: Vec<RollupItem<T::Value>> = Vec::new();
            for standing in &standings {
                let latest = series(&standing.rollups).into_iter().filter_map(Series::latest);
                items.extend(
                    latest
                        .filter(|latest| filter.takes(latest.snapshot_at()))
                        .map(|latest| RollupItem::new(standing, Arc::clone(latest))),
                );
            }
            // Stable: sites and baselines of one instant stay in their order.
            items.sort_by_key(|item| std::cmp::Reverse(item.rollup.snapshot_at()));
            return Ok(items.into_iter().skip(filter.offset).take(filter.limit).collect());
        }
        let ranges = |standing: &Standing| ranges(standing.row.site_id, &standing.rollups);
        let read = || self.stored::<T>(&standings, filter, ranges);
        self.tree.context.compute.run(read).map_err(|error| {
            tracing::warn!(%error, "a series could not be read");
            Unavailable::Storage.into()
        })
    }

    /// Reads series from the store: of each snapshot its instant, and the page's snapshots whole.
    fn stored<T>(
        &self,
        standings: &[Arc<Standing>],
        filter: &RollupFilter,
        ranges: impl Fn(&Standing) -> Vec<(T::Key, T::Key)>,
    ) -> Result<Vec<RollupItem<T::Value>>, hansa_storage::ReadError>
    where
        T: Table<Key: SeriesKey, Value: Snapshot>,
    {
        let view = self.tree.context.store.read()?;
        let end = filter.offset.saturating_add(filter.limit);
        let mut found: Vec<(Timestamp, usize, T::Key)> = Vec::new();
        let newest_first = |a: &(Timestamp, usize, T::Key), b: &(Timestamp, usize, T::Key)| {
            b.0.cmp(&a.0).then(a.1.cmp(&b.1)).then_with(|| b.2.cmp(&a.2))
        };
        for (index, standing) in standings.iter().enumerate() {
            for (from, to) in ranges(standing) {
                for_each_instant::<T>(&view, from, to, |key, at| {
                    if filter.takes(at) {
                        found.push((at, index, key));
                    }
                })?;
            }
            // Only the newest can still be on the page.
            if found.len() >= 2 * end.max(1_024) {
                found.select_nth_unstable_by(end, newest_first);
                found.truncate(end);
            }
        }
        found.sort_unstable_by(newest_first);
        let mut items = Vec::new();
        for (_, index, key) in found.into_iter().skip(filter.offset).take(filter.limit) {
            if let Some(rollup) = view.get::<T>(&key)? {
                items.push(RollupItem::new(&standings[index], Arc::new(rollup)));
            }
        }
        Ok(items)
    }
}

fn sum<'a>(standings: impl Iterator<Item = &'a Arc<Standing>>) -> Totals {
    let mut totals = Totals::default();
    for standing in standings.filter(|standing| standing.status != SiteStatus::Removed) {
        totals.add(&standing.row.counts);
    }
    totals
}
