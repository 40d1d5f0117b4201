//! Rollups: what a site's hosts, compliance and findings come to, and the answers made of many of them.
//!
//! The host rollup is [`crate::site::HostRollup`]. The field order of the snapshots is a stored format; each
//! begins with its id and its instant, so that a series can be read without decoding the rest.

use serde::{Deserialize, Serialize};

use crate::id::RollupId;
use crate::site::HostRollup;
use crate::{SiteId, SiteName, Timestamp};

/// One snapshot of a site's score against one baseline (contract 7).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComplianceRollup {
    /// Ours, version 7.
    pub id: RollupId,
    /// When it was taken; arrival where the site does not say.
    pub snapshot_at: Timestamp,
    /// Name of the baseline; not blank, at most 64 characters.
    pub baseline: String,
    /// Mean score in per cent, 0 to 100; none when nothing was scored.
    pub score_percent: Option<f64>,
    /// Hosts that the baseline concerns.
    pub hosts_in_scope: u64,
    /// Hosts without a failed rule.
    pub hosts_compliant: u64,
    /// Hosts with one.
    pub hosts_noncompliant: u64,
}

impl ComplianceRollup {
    /// Whether it says that the site holds nothing of the baseline any more: no host in scope, no score. Such
    /// a baseline stands on no dashboard and in no report.
    pub const fn is_withdrawn(&self) -> bool {
        self.hosts_in_scope == 0 && self.score_percent.is_none()
    }
}

/// One snapshot of a site's findings, counted (contract 7).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VulnerabilityRollup {
    /// Ours, version 7.
    pub id: RollupId,
    /// When it was taken; arrival where the site does not say.
    pub snapshot_at: Timestamp,
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
    /// The CVEs that concern most hosts.
    pub top_cve_ids: Vec<String>,
}

/// A snapshot of a series.
pub trait Snapshot {
    /// When it was taken.
    fn snapshot_at(&self) -> Timestamp;
    /// Whether another snapshot says the same of the same instant: a repeat of one report.
    fn repeats(&self, other: &Self) -> bool;
}

impl Snapshot for HostRollup {
    fn snapshot_at(&self) -> Timestamp {
        self.snapshot_at
    }

    fn repeats(&self, other: &Self) -> bool {
        *self == Self { id: self.id, ..other.clone() }
    }
}

impl Snapshot for ComplianceRollup {
    fn snapshot_at(&self) -> Timestamp {
        self.snapshot_at
    }

    fn repeats(&self, other: &Self) -> bool {
        *self == Self { id: self.id, ..other.clone() }
    }
}

impl Snapshot for VulnerabilityRollup {
    fn snapshot_at(&self) -> Timestamp {
        self.snapshot_at
    }

    fn repeats(&self, other: &Self) -> bool {
        *self == Self { id: self.id, ..other.clone() }
    }
}

/// The numbers of a report's row; their sums are its totals (contract 7.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Hosts, all states.
    pub host_count: u64,
    /// Hosts that are active.
    pub active_count: u64,
    /// Findings of critical severity.
    pub critical_count: u64,
    /// Of high severity.
    pub high_count: u64,
    /// Of medium severity.
    pub medium_count: u64,
    /// Of low severity.
    pub low_count: u64,
}

impl Counts {
    /// Adds. No sum of [`crate::limits::site::SITES_MAX`] rows overflows: each count has its bound.
    pub const fn add(&mut self, other: &Self) {
        self.host_count += other.host_count;
        self.active_count += other.active_count;
        self.critical_count += other.critical_count;
        self.high_count += other.high_count;
        self.medium_count += other.medium_count;
        self.low_count += other.low_count;
    }

    /// Takes away what was added before.
    pub const fn subtract(&mut self, other: &Self) {
        self.host_count -= other.host_count;
        self.active_count -= other.active_count;
        self.critical_count -= other.critical_count;
        self.high_count -= other.high_count;
        self.medium_count -= other.medium_count;
        self.low_count -= other.low_count;
    }
}

/// Sums over the rows of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Rows.
    pub site_count: u64,
    /// Sums of their numbers.
    pub counts: Counts,
}

impl Totals {
    /// Adds a row.
    pub const fn add(&mut self, counts: &Counts) {
        self.site_count += 1;
        self.counts.add(counts);
    }

    /// Takes away a row that was added before.
    pub const fn subtract(&mut self, counts: &Counts) {
        self.site_count -= 1;
        self.counts.subtract(counts);
    }
}

/// The baseline in which a site does worst.
#[derive(Debug, Clone, PartialEq)]
pub struct WorstCompliance {
    /// Its name.
    pub baseline: String,
    /// Its latest score in per cent.
    pub score_percent: f64,
}

/// One site's row of a report (contract 7.4).
#[derive(Debug, Clone, PartialEq)]
pub struct ReportRow {
    /// The site.
    pub site_id: SiteId,
    /// Its name.
    pub site_name: SiteName,
    /// Its numbers, from the latest rollups.
    pub counts: Counts,
    /// The lowest of the latest scores.
    pub worst_compliance: Option<WorstCompliance>,
    /// When the site was last heard; the row says how things stood then.
    pub last_sync_at: Option<Timestamp>,
}
