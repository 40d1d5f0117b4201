//! Rollups at the coordinator: which reports are taken (contract 7.1), which snapshots are kept (7.2), which
//! is the latest (7.3), and the row and totals made of the latest (7.4).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::Timestamp;
use crate::id::RollupId;
use crate::limits::{rollup as limits, site as site_limits, sync as sync_limits};
use crate::report::{ComplianceReport, VulnerabilityReport};
use crate::rollup::{ComplianceRollup, Counts, Snapshot, VulnerabilityRollup, WorstCompliance};
use crate::site::{HostRollup, InvalidSite, required_text};
use crate::sync::HostRollupReport;

/// A rollup that breaks a rule of contract 7.1. Fix the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRollup {
    /// More active hosts than hosts.
    #[error("active_count must not exceed host_count")]
    ActiveExceedsTotal,
    /// Too many distinct keys, or a key that is too long.
    #[error(
        "a breakdown may have at most {} keys of at most {} bytes",
        sync_limits::BREAKDOWN_KEYS_MAX,
        site_limits::CAPABILITY_BYTES_MAX
    )]
    Breakdown,
    /// A count that no fleet has.
    #[error("{field} must not exceed {}", limits::COUNT_MAX)]
    Count {
        /// The member's name.
        field: &'static str,
    },
    /// No name of a baseline.
    #[error("baseline must have 1 to {} characters and no control characters", limits::BASELINE_CHARS_MAX)]
    Baseline,
    /// One baseline more than a site may have.
    #[error("a site may report at most {} baselines: withdraw one first", limits::BASELINES_MAX)]
    TooManyBaselines,
    /// A score out of range, or none at all.
    #[error("score_percent must lie between 0 and 100")]
    Score,
    /// More judged hosts than hosts.
    #[error("hosts_compliant and hosts_noncompliant together must not exceed hosts_in_scope")]
    ScopeExceeded,
    /// Too many CVEs, or one that is too long.
    #[error(
        "top_cve_ids may have at most {} texts of at most {} bytes",
        limits::TOP_CVES_MAX,
        limits::CVE_BYTES_MAX
    )]
    TopCves,
}

/// Trims and checks the name of a baseline.
///
/// # Errors
/// [`InvalidRollup::Baseline`].
pub fn baseline(text: &str) -> Result<String, InvalidRollup> {
    let name = required_text("baseline", text, 4 * limits::BASELINE_CHARS_MAX)
        .map_err(|_: InvalidSite| InvalidRollup::Baseline)?;
    if name.chars().count() > limits::BASELINE_CHARS_MAX { Err(InvalidRollup::Baseline) } else { Ok(name) }
}

/// Checks a host rollup and makes the snapshot that is stored.
///
/// # Errors
/// [`InvalidRollup`]; nothing is stored.
pub fn hosts(id: RollupId, report: HostRollupReport, now: Timestamp) -> Result<HostRollup, InvalidRollup> {
    count("host_count", report.host_count)?;
    if report.active_count > report.host_count {
        return Err(InvalidRollup::ActiveExceedsTotal);
    }
    Ok(HostRollup {
        id,
        snapshot_at: taken_at(report.snapshot_at, now),
        host_count: report.host_count,
        active_count: report.active_count,
        os_breakdown: breakdown(report.os_breakdown)?,
        status_breakdown: breakdown(report.status_breakdown)?,
    })
}

/// Checks a compliance rollup and makes the snapshot that is stored.
///
/// # Errors
/// [`InvalidRollup`]; nothing is stored.
pub fn compliance(
    id: RollupId,
    report: &ComplianceReport,
    now: Timestamp,
) -> Result<ComplianceRollup, InvalidRollup> {
    if report.score_percent.is_some_and(|score| !(0.0..=100.0).contains(&score)) {
        return Err(InvalidRollup::Score);
    }
    count("hosts_in_scope", report.hosts_in_scope)?;
    let judged = report.hosts_compliant.checked_add(report.hosts_noncompliant);
    if judged.is_none_or(|judged| judged > report.hosts_in_scope) {
        return Err(InvalidRollup::ScopeExceeded);
    }
    Ok(ComplianceRollup {
        id,
        snapshot_at: taken_at(report.snapshot_at, now),
        baseline: baseline(&report.baseline)?,
        score_percent: report.score_percent,
        hosts_in_scope: report.hosts_in_scope,
        hosts_compliant: report.hosts_compliant,
        hosts_noncompliant: report.hosts_noncompliant,
    })
}

/// Checks a vulnerability rollup and makes the snapshot that is stored.
///
/// # Errors
/// [`InvalidRollup`]; nothing is stored.
pub fn vulnerabilities(
    id: RollupId,
    report: VulnerabilityReport,
    now: Timestamp,
) -> Result<VulnerabilityRollup, InvalidRollup> {
    for (field, value) in [
        ("critical_count", report.critical_count),
        ("high_count", report.high_count),
        ("medium_count", report.medium_count),
        ("low_count", report.low_count),
        ("affected_host_count", report.affected_host_count),
    ] {
        count(field, value)?;
    }
    let top_cve_ids = report.top_cve_ids.unwrap_or_default();
    let fits = top_cve_ids.len() <= limits::TOP_CVES_MAX
        && top_cve_ids.iter().all(|cve| cve.len() <= limits::CVE_BYTES_MAX);
    if !fits {
        return Err(InvalidRollup::TopCves);
    }
    Ok(VulnerabilityRollup {
        id,
        snapshot_at: taken_at(report.snapshot_at, now),
        critical_count: report.critical_count,
        high_count: report.high_count,
        medium_count: report.medium_count,
        low_count: report.low_count,
        affected_host_count: report.affected_host_count,
        top_cve_ids,
    })
}

/// A snapshot of the future is one of now: a site whose clock runs ahead would otherwise stay the latest
/// until its clock is right again.
fn taken_at(snapshot_at: Option<Timestamp>, now: Timestamp) -> Timestamp {
    snapshot_at.map_or(now, |at| at.min(now))
}

fn count(field: &'static str, value: u64) -> Result<(), InvalidRollup> {
    if value > limits::COUNT_MAX { Err(InvalidRollup::Count { field }) } else { Ok(()) }
}

fn breakdown(given: Option<BTreeMap<String, u64>>) -> Result<BTreeMap<String, u64>, InvalidRollup> {
    let given = given.unwrap_or_default();
    let fits = given.len() <= sync_limits::BREAKDOWN_KEYS_MAX
        && given.keys().all(|key| key.len() <= site_limits::CAPABILITY_BYTES_MAX);
    if fits { Ok(given) } else { Err(InvalidRollup::Breakdown) }
}

/// What recording a snapshot means for the stored series.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recorded {
    /// Where the snapshot is to be stored; none when it is older than everything that is kept, or a repeat.
    pub number: Option<u64>,
    /// Snapshots to delete.
    pub dropped: Vec<u64>,
}

/// One series: the newest snapshots by their own instant, and the latest of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Series<T> {
    /// Instant and number of each kept snapshot, ascending; the number is the order of arrival.
    kept: Vec<(Timestamp, u64)>,
    latest: Option<Arc<T>>,
}

impl<T> Default for Series<T> {
    fn default() -> Self {
        Self { kept: Vec::new(), latest: None }
    }
}

impl<T: Snapshot> Series<T> {
    /// Takes up what the store holds: instant and number of each snapshot, ascending, and the last of them.
    pub fn stored(kept: Vec<(Timestamp, u64)>, latest: Option<T>) -> Self {
        Self { kept, latest: latest.map(Arc::new) }
    }

    /// The snapshot with the newest instant; of two with the same, the one that arrived later.
    pub const fn latest(&self) -> Option<&Arc<T>> {
        self.latest.as_ref()
    }

    /// Snapshots kept.
    pub const fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether nothing is kept.
    pub const fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Takes a snapshot in: the newest [`sync_limits::ROLLUPS_MAX`] are kept. A repeat of the latest, as a
    /// lost answer causes it, changes nothing.
    pub fn record(&mut self, snapshot: &Arc<T>) -> Recorded {
        if self.latest.as_ref().is_some_and(|latest| snapshot.repeats(latest)) {
            return Recorded::default();
        }
        let number = self.kept.iter().map(|(_, number)| number + 1).max().unwrap_or(1);
        let entry = (snapshot.snapshot_at(), number);
        let place = self.kept.partition_point(|kept| *kept < entry);
        self.kept.insert(place, entry);
        if place + 1 == self.kept.len() {
            self.latest = Some(Arc::clone(snapshot));
        }
        let excess = self.kept.len().saturating_sub(SNAPSHOTS_MAX);
        let mut dropped: Vec<u64> = self.kept.drain(..excess).map(|(_, number)| number).collect();
        let stays = !dropped.contains(&number);
        dropped.retain(|dropped| *dropped != number);
        Recorded { number: stays.then_some(number), dropped }
    }

    fn numbers(&self) -> Vec<u64> {
        self.kept.iter().map(|(_, number)| *number).collect()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "ninety")]
const SNAPSHOTS_MAX: usize = sync_limits::ROLLUPS_MAX as usize;

/// All series of one site.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SiteRollups {
    /// Counts of the hosts.
    pub hosts: Series<HostRollup>,
    /// Scores, by baseline.
    pub compliance: BTreeMap<String, Series<ComplianceRollup>>,
    /// Counts of the findings.
    pub vulnerabilities: Series<VulnerabilityRollup>,
}

/// What recording a score means for the stored series.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecordedScore {
    /// For the baseline's own series.
    pub recorded: Recorded,
    /// A withdrawn baseline that made room, with the numbers of its snapshots: all of them go.
    pub forgotten: Option<(String, Vec<u64>)>,
}

impl SiteRollups {
    /// Takes a score in.
    ///
    /// # Errors
    /// [`InvalidRollup::TooManyBaselines`], when none of them is withdrawn.
    pub fn record_compliance(
        &mut self,
        rollup: &Arc<ComplianceRollup>,
    ) -> Result<RecordedScore, InvalidRollup> {
        let mut forgotten = None;
        if !self.compliance.contains_key(&rollup.baseline) && self.compliance.len() >= limits::BASELINES_MAX {
            let withdrawn = |series: &Series<ComplianceRollup>| {
                series.latest().filter(|latest| latest.is_withdrawn()).map(|latest| latest.snapshot_at)
            };
            let oldest = self
                .compliance
                .iter()
                .filter_map(|(baseline, series)| Some((withdrawn(series)?, baseline.clone())))
                .min();
            let (_, baseline) = oldest.ok_or(InvalidRollup::TooManyBaselines)?;
            forgotten = self.compliance.remove(&baseline).map(|series| (baseline, series.numbers()));
        }
        let recorded = self.compliance.entry(rollup.baseline.clone()).or_default().record(rollup);
        Ok(RecordedScore { recorded, forgotten })
    }

    /// The latest score of each baseline that is not withdrawn, in the order of their names.
    pub fn scores(&self) -> impl Iterator<Item = &Arc<ComplianceRollup>> {
        self.compliance.values().filter_map(Series::latest).filter(|latest| !latest.is_withdrawn())
    }

    /// The lowest score; of equal ones the first by name.
    pub fn worst_compliance(&self) -> Option<WorstCompliance> {
        self.scores()
            .filter_map(|latest| Some((latest.score_percent?, latest)))
            .min_by(|(a, _), (b, _)| a.total_cmp(b))
            .map(|(score_percent, latest)| WorstCompliance {
                baseline: latest.baseline.clone(),
                score_percent,
            })
    }

    /// The numbers of the site's row. Without a host rollup its hosts are those that the coordinator counts.
    pub fn counts(&self, cached_host_count: u64) -> Counts {
        let bounded = |count: u64| count.min(limits::COUNT_MAX);
        let (host_count, active_count) = match self.hosts.latest() {
            Some(hosts) => (hosts.host_count, hosts.active_count),
            None => (cached_host_count, 0),
        };
        let mut counts = Counts {
            host_count: bounded(host_count),
            active_count: bounded(active_count),
            ..Counts::default()
        };
        if let Some(found) = self.vulnerabilities.latest() {
            counts.critical_count = bounded(found.critical_count);
            counts.high_count = bounded(found.high_count);
            counts.medium_count = bounded(found.medium_count);
            counts.low_count = bounded(found.low_count);
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_000);

    fn id() -> RollupId {
        RollupId(Uuid::nil())
    }

    fn score(baseline: &str, at: i64, score: Option<f64>) -> Arc<ComplianceRollup> {
        let in_scope = u64::from(score.is_some());
        Arc::new(ComplianceRollup {
            id: id(),
            snapshot_at: Timestamp::from_secs(at),
            baseline: baseline.to_owned(),
            score_percent: score,
            hosts_in_scope: in_scope,
            hosts_compliant: 0,
            hosts_noncompliant: in_scope,
        })
    }

    fn found(at: i64, critical_count: u64) -> Arc<VulnerabilityRollup> {
        let report = VulnerabilityReport {
            critical_count,
            snapshot_at: Some(Timestamp::from_secs(at)),
            ..VulnerabilityReport::default()
        };
        Arc::new(vulnerabilities(id(), report, Timestamp::from_secs(i64::MAX)).unwrap())
    }

    #[test]
    fn score_out_of_bounds_and_more_judged_hosts_than_hosts_are_refused() {
        let good = ComplianceReport {
            baseline: " CIS ".to_owned(),
            score_percent: Some(100.0),
            hosts_in_scope: 3,
            hosts_compliant: 1,
            hosts_noncompliant: 2,
            snapshot_at: None,
        };
        let refused = |report: ComplianceReport| compliance(id(), &report, NOW).expect_err("breaks a rule");

        let stored = compliance(id(), &good, NOW).unwrap();

        assert_eq!((stored.baseline.as_str(), stored.snapshot_at), ("CIS", NOW));
        for score in [-0.1, 100.1, f64::NAN, f64::INFINITY] {
            let report = ComplianceReport { score_percent: Some(score), ..good.clone() };
            assert_eq!(refused(report), InvalidRollup::Score);
        }
        for baseline in ["", "  ", "a\u{0}b", &"é".repeat(65)] {
            let report = ComplianceReport { baseline: baseline.to_owned(), ..good.clone() };
            assert_eq!(refused(report), InvalidRollup::Baseline);
        }
        for (compliant, noncompliant) in [(2, 2), (u64::MAX, 1)] {
            let report = ComplianceReport {
                hosts_compliant: compliant,
                hosts_noncompliant: noncompliant,
                ..good.clone()
            };
            assert_eq!(refused(report), InvalidRollup::ScopeExceeded);
        }
        let report = ComplianceReport { hosts_in_scope: u64::MAX, ..good };
        assert_eq!(refused(report), InvalidRollup::Count { field: "hosts_in_scope" });
    }

    #[test]
    fn findings_are_bounded() {
        let many = VulnerabilityReport {
            top_cve_ids: Some(vec!["CVE-2026-1".to_owned(); limits::TOP_CVES_MAX + 1]),
            ..VulnerabilityReport::default()
        };
        let large =
            VulnerabilityReport { low_count: limits::COUNT_MAX + 1, ..VulnerabilityReport::default() };

        assert_eq!(vulnerabilities(id(), many, NOW), Err(InvalidRollup::TopCves));
        assert_eq!(vulnerabilities(id(), large, NOW), Err(InvalidRollup::Count { field: "low_count" }));
    }

    #[test]
    fn more_active_hosts_than_hosts_are_refused() {
        let report = HostRollupReport { host_count: 1, active_count: 2, ..HostRollupReport::default() };

        assert_eq!(hosts(id(), report, NOW), Err(InvalidRollup::ActiveExceedsTotal));
    }

    #[test]
    fn snapshot_of_the_future_counts_as_taken_now() {
        let report = VulnerabilityReport {
            snapshot_at: Some(Timestamp::from_secs(9_999)),
            ..VulnerabilityReport::default()
        };

        assert_eq!(vulnerabilities(id(), report, NOW).unwrap().snapshot_at, NOW);
    }

    #[test]
    fn late_arrival_is_kept_and_does_not_become_the_latest() {
        let mut series = Series::default();
        series.record(&found(20, 2));

        let recorded = series.record(&found(10, 1));

        assert_eq!(recorded, Recorded { number: Some(2), dropped: Vec::new() });
        assert_eq!(series.latest().unwrap().critical_count, 2);
    }

    #[test]
    fn repeat_of_the_latest_changes_nothing() {
        let mut series = Series::default();
        series.record(&found(20, 2));

        assert_eq!(series.record(&found(20, 2)), Recorded::default());
        assert_eq!(series.record(&found(20, 3)).number, Some(2));
        assert_eq!(series.latest().unwrap().critical_count, 3);
    }

    #[test]
    fn withdrawn_baseline_leaves_the_report_and_makes_room() {
        let mut rollups = SiteRollups::default();
        for number in 0..limits::BASELINES_MAX {
            rollups.record_compliance(&score(&format!("b{number:02}"), 1, Some(50.0))).unwrap();
        }
        let one_more = score("more", 2, Some(10.0));
        assert_eq!(rollups.record_compliance(&one_more), Err(InvalidRollup::TooManyBaselines));

        rollups.record_compliance(&score("b07", 3, None)).unwrap();
        assert_eq!(rollups.scores().count(), limits::BASELINES_MAX - 1);
        let recorded = rollups.record_compliance(&one_more).unwrap();

        assert_eq!(recorded.forgotten, Some(("b07".to_owned(), vec![1, 2])));
        assert_eq!(rollups.worst_compliance().unwrap().baseline, "more");
    }

    proptest! {
        #[test]
        fn series_keeps_the_newest_of_all_that_came(
            instants in proptest::collection::vec((0_i64..60, 0_u64..1_000_000), 0..300)
        ) {
            let mut series = Series::default();
            let mut stored = BTreeMap::new();
            let mut plain: Vec<(i64, usize, u64)> = Vec::new();
            for (arrival, (at, count)) in instants.into_iter().enumerate() {
                let recorded = series.record(&found(at, count));
                let repeat = plain.iter().max().is_some_and(|(t, _, c)| (*t, *c) == (at, count));
                if !repeat {
                    plain.push((at, arrival, count));
                }
                for number in recorded.dropped {
                    prop_assert!(stored.remove(&number).is_some());
                }
                if let Some(number) = recorded.number {
                    prop_assert!(stored.insert(number, (at, count)).is_none());
                }
                let latest = plain.iter().max().map(|(_, _, count)| *count);
                prop_assert_eq!(series.latest().map(|latest| latest.critical_count), latest);
            }
            plain.sort_unstable();
            let newest = plain.split_off(plain.len().saturating_sub(SNAPSHOTS_MAX));
            let mut kept: Vec<_> = stored.values().copied().collect();
            kept.sort_unstable();
            let mut expected: Vec<_> = newest.iter().map(|(at, _, count)| (*at, *count)).collect();
            expected.sort_unstable();
            prop_assert_eq!(kept, expected);

            let mut rows: Vec<_> =
                stored.iter().map(|(number, (at, _))| (Timestamp::from_secs(*at), *number)).collect();
            rows.sort_unstable();
            prop_assert_eq!(rows, series.kept);
        }
    }
}
