//! What a site knows of its own hosts' security: results against baselines, and vulnerabilities found.
//!
//! Both are full snapshots that somebody at the site puts in. They stay there; the coordinator gets what they
//! come to. The field order is a stored format.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::report::{ComplianceReport, VulnerabilityReport};
use crate::{HostId, SiteId, Timestamp};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are those of CVSS")]
pub enum Severity {
    Low,
    Medium,
    High,
    Critical,
}

impl Severity {
    /// The spelling in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl FromStr for Severity {
    type Err = InvalidSeverity;

    fn from_str(text: &str) -> Result<Self, InvalidSeverity> {
        [Self::Low, Self::Medium, Self::High, Self::Critical]
            .into_iter()
            .find(|severity| severity.as_str().eq_ignore_ascii_case(text))
            .ok_or(InvalidSeverity)
    }
}

/// A text that is no severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not one of critical, high, medium, low")]
pub struct InvalidSeverity;

/// The id of a vulnerability, such as `CVE-2026-0815`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CveId {
    /// Four digits.
    pub year: u16,
    /// Four digits or more.
    pub number: u32,
}

impl fmt::Display for CveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CVE-{:04}-{:04}", self.year, self.number)
    }
}

impl FromStr for CveId {
    type Err = InvalidCve;

    fn from_str(text: &str) -> Result<Self, InvalidCve> {
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let prefix = text.get(..4).filter(|prefix| prefix.eq_ignore_ascii_case("CVE-")).ok_or(InvalidCve)?;
        let (year, number) = text[prefix.len()..].split_once('-').ok_or(InvalidCve)?;
        if year.len() != 4 || number.len() < 4 || !digits(year) || !digits(number) {
            return Err(InvalidCve);
        }
        Ok(Self {
            year: year.parse().map_err(|_| InvalidCve)?,
            number: number.parse().map_err(|_| InvalidCve)?,
        })
    }
}

/// A text that is no CVE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a CVE such as CVE-2026-0815")]
pub struct InvalidCve;

/// The newest result of one host against one baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostScan {
    /// The host.
    pub host_id: HostId,
    /// Rules that it follows.
    pub rules_passed: u32,
    /// Rules that it breaks.
    pub rules_failed: u32,
}

/// One vulnerability at one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The host.
    pub host_id: HostId,
    /// What was found.
    pub cve_id: CveId,
    /// How bad it is there.
    pub severity: Severity,
}

/// What a baseline's results come to (contract 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct ScanSummary {
    /// When the snapshot was taken in.
    pub taken_at: Timestamp,
    /// Mean over the hosts of passed/(passed+failed) in per cent, one decimal; none when no rule was checked.
    pub score_percent: Option<f64>,
    /// Hosts with a result.
    pub hosts_in_scope: u64,
    /// Hosts without a failed rule.
    pub hosts_compliant: u64,
    /// Hosts with one.
    pub hosts_noncompliant: u64,
}

impl ScanSummary {
    /// The payload for the coordinator. It says when the snapshot was taken: it may wait for an uplink.
    pub fn report(&self, baseline: &str) -> ComplianceReport {
        ComplianceReport {
            baseline: baseline.to_owned(),
            score_percent: self.score_percent,
            hosts_in_scope: self.hosts_in_scope,
            hosts_compliant: self.hosts_compliant,
            hosts_noncompliant: self.hosts_noncompliant,
            snapshot_at: Some(self.taken_at),
        }
    }
}

/// What the findings come to (contract 3.2).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FindingsSummary {
    /// When the snapshot was taken in.
    pub taken_at: Timestamp,
    /// Findings of critical severity.
    pub critical_count: u64,
    /// Of high severity.
    pub high_count: u64,
    /// Of medium severity.
    pub medium_count: u64,
    /// Of low severity.
    pub low_count: u64,
    /// Hosts with any finding.
    pub affected_host_count: u64,
    /// The CVEs that concern most hosts, the most first.
    pub top_cve_ids: Vec<CveId>,
}

impl FindingsSummary {
    /// All findings.
    pub const fn total(&self) -> u64 {
        self.critical_count + self.high_count + self.medium_count + self.low_count
    }

    /// The payload for the coordinator. It says when the snapshot was taken: it may wait for an uplink.
    pub fn report(&self) -> VulnerabilityReport {
        VulnerabilityReport {
            critical_count: self.critical_count,
            high_count: self.high_count,
            medium_count: self.medium_count,
            low_count: self.low_count,
            affected_host_count: self.affected_host_count,
            top_cve_ids: Some(self.top_cve_ids.iter().map(CveId::to_string).collect()),
            snapshot_at: Some(self.taken_at),
        }
    }
}

/// A snapshot that a site holds, and for which membership its rollup was queued. Until that is the present
/// one, the rollup is owed: so no crash between storing and queueing loses it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Held<S> {
    /// What it comes to.
    pub summary: S,
    /// Rows of it.
    pub rows: u64,
    /// The site id under which its rollup was queued.
    pub queued_for: Option<SiteId>,
    /// An operator removed it; it goes once the coordinator is told.
    pub removed: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cve_has_one_printed_form() {
        for (text, printed) in [
            ("CVE-2026-0815", "CVE-2026-0815"),
            ("cve-1999-0001", "CVE-1999-0001"),
            ("CVE-2021-1234567", "CVE-2021-1234567"),
        ] {
            assert_eq!(text.parse::<CveId>().map(|cve| cve.to_string()), Ok(printed.to_owned()));
        }
        for text in
            ["", "CVE-", "CVE-2026-1", "CVE-26-0815", "GHSA-2026-0815", "CVE-2026-+815", "éé-2026-0815"]
        {
            assert_eq!(text.parse::<CveId>(), Err(InvalidCve), "{text}");
        }
    }

    #[test]
    fn severity_is_read_in_any_case() {
        assert_eq!("CRITICAL".parse(), Ok(Severity::Critical));
        assert_eq!("none".parse::<Severity>(), Err(InvalidSeverity));
    }
}
