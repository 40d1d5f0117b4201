//! A site's results and findings: which rows of a call are taken, and what they come to (contract 3.2).

use std::collections::BTreeMap;

use crate::finding::{CveId, Finding, FindingsSummary, HostScan, ScanSummary, Severity};
use crate::host::SkippedEntry;
use crate::limits::finding as limits;
use crate::{HostId, Timestamp};

/// A row that was not taken: its place in the call, its host where it is known, and why.
pub type SkippedRow = (usize, Option<HostId>, SkippedEntry);

/// The rows of a call that are taken, in the order of hosts, and the others.
#[derive(Debug, Clone, PartialEq)]
pub struct Admitted<T> {
    /// Sorted; no two for one host (and CVE).
    pub rows: Vec<T>,
    /// In the order of the call.
    pub skipped: Vec<SkippedRow>,
}

/// Takes one result for each host; the first of several counts.
pub fn admit_scans(rows: Vec<Result<HostScan, String>>) -> Admitted<HostScan> {
    admit(rows, |scan| scan.host_id, |scan| scan.host_id)
}

/// Takes one finding for each host and CVE; the first of several counts.
pub fn admit_findings(rows: Vec<Result<Finding, String>>) -> Admitted<Finding> {
    admit(rows, |finding| (finding.host_id, finding.cve_id), |finding| finding.host_id)
}

fn admit<T, K: Ord>(
    rows: Vec<Result<T, String>>,
    key: impl Fn(&T) -> K,
    host: impl Fn(&T) -> HostId,
) -> Admitted<T> {
    let mut skipped = Vec::new();
    let mut good = Vec::with_capacity(rows.len());
    for (index, row) in rows.into_iter().enumerate() {
        match row {
            Ok(row) => good.push((index, row)),
            Err(reason) => skipped.push((index, None, SkippedEntry::Malformed(reason))),
        }
    }
    good.sort_by_key(|(index, row)| (key(row), *index));
    let mut rows: Vec<T> = Vec::with_capacity(good.len());
    for (index, row) in good {
        if rows.last().is_some_and(|last| key(last) == key(&row)) {
            skipped.push((index, Some(host(&row)), SkippedEntry::Repeated));
        } else {
            rows.push(row);
        }
    }
    skipped.sort_by_key(|(index, ..)| *index);
    Admitted { rows, skipped }
}

/// What a baseline's results come to. A host of which no rule was checked is in scope and neither compliant
/// nor scored.
pub fn summarise_scans(rows: &[HostScan], taken_at: Timestamp) -> ScanSummary {
    let mut summary = ScanSummary { taken_at, hosts_in_scope: rows.len() as u64, ..ScanSummary::default() };
    let mut scored = 0_u32;
    let mut sum = 0.0;
    for scan in rows {
        let checked = u64::from(scan.rules_passed) + u64::from(scan.rules_failed);
        if checked == 0 {
            continue;
        }
        scored += 1;
        #[expect(clippy::cast_precision_loss, reason = "both are below 2³³")]
        let share = f64::from(scan.rules_passed) / checked as f64;
        sum += share;
        if scan.rules_failed == 0 {
            summary.hosts_compliant += 1;
        } else {
            summary.hosts_noncompliant += 1;
        }
    }
    if scored > 0 {
        summary.score_percent = Some((sum / f64::from(scored) * 1_000.0).round() / 10.0);
    }
    summary
}

/// What findings come to. They are sorted by host.
pub fn summarise_findings(rows: &[Finding], taken_at: Timestamp) -> FindingsSummary {
    let mut summary = FindingsSummary { taken_at, ..FindingsSummary::default() };
    let mut hosts_of: BTreeMap<CveId, u64> = BTreeMap::new();
    let mut last = None;
    for finding in rows {
        match finding.severity {
            Severity::Critical => summary.critical_count += 1,
            Severity::High => summary.high_count += 1,
            Severity::Medium => summary.medium_count += 1,
            Severity::Low => summary.low_count += 1,
        }
        if last.replace(finding.host_id) != Some(finding.host_id) {
            summary.affected_host_count += 1;
        }
        *hosts_of.entry(finding.cve_id).or_default() += 1;
    }
    let mut ranked: Vec<(u64, CveId)> = hosts_of.into_iter().map(|(cve, hosts)| (hosts, cve)).collect();
    ranked.sort_by(|(a_hosts, a), (b_hosts, b)| (b_hosts, a).cmp(&(a_hosts, b)));
    summary.top_cve_ids = ranked.into_iter().take(limits::TOP_CVES).map(|(_, cve)| cve).collect();
    summary
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn host(n: u128) -> HostId {
        HostId(Uuid::from_u128(n))
    }

    fn scan(n: u128, rules_passed: u32, rules_failed: u32) -> HostScan {
        HostScan { host_id: host(n), rules_passed, rules_failed }
    }

    fn finding(n: u128, number: u32, severity: Severity) -> Finding {
        Finding { host_id: host(n), cve_id: CveId { year: 2026, number }, severity }
    }

    #[test]
    fn score_is_the_mean_of_the_hosts_with_one_decimal() {
        let rows = [scan(1, 10, 0), scan(2, 1, 2), scan(3, 0, 0)];

        let summary = summarise_scans(&rows, Timestamp::EPOCH);

        assert_eq!(summary.score_percent, Some(66.7));
        assert_eq!((summary.hosts_in_scope, summary.hosts_compliant, summary.hosts_noncompliant), (3, 1, 1));
        assert_eq!(summarise_scans(&[], Timestamp::EPOCH).score_percent, None);
    }

    #[test]
    fn bad_and_repeated_rows_are_named_and_lose_no_other() {
        let rows = vec![Ok(scan(2, 1, 0)), Err("bad".to_owned()), Ok(scan(1, 1, 0)), Ok(scan(2, 0, 1))];

        let admitted = admit_scans(rows);

        assert_eq!(admitted.rows, [scan(1, 1, 0), scan(2, 1, 0)]);
        assert_eq!(
            admitted.skipped,
            [
                (1, None, SkippedEntry::Malformed("bad".to_owned())),
                (3, Some(host(2)), SkippedEntry::Repeated)
            ]
        );
    }

    #[test]
    fn findings_are_counted_by_severity_and_hosts() {
        let rows = admit_findings(vec![
            Ok(finding(1, 2, Severity::Low)),
            Ok(finding(2, 2, Severity::Critical)),
            Ok(finding(2, 1, Severity::High)),
            Ok(finding(2, 3, Severity::High)),
        ]);

        let summary = summarise_findings(&rows.rows, Timestamp::EPOCH);

        assert_eq!(
            (summary.critical_count, summary.high_count, summary.medium_count, summary.low_count),
            (1, 2, 0, 1)
        );
        assert_eq!((summary.affected_host_count, summary.total()), (2, 4));
        let top: Vec<u32> = summary.top_cve_ids.iter().map(|cve| cve.number).collect();
        assert_eq!(top, [2, 1, 3]);
    }
}
