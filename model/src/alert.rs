//! Alerts about sites: conditions, thresholds, and the alert itself (contract 8 and B5).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::audit::Detail;
use crate::host::Patch;
use crate::id::AlertId;
use crate::{SiteId, Timestamp};

/// What an alert is about. The last two are ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// The site has not been heard for too long.
    SiteOffline,
    /// A baseline's latest score is too low.
    ComplianceBelow,
    /// Too many critical findings.
    VulnerabilitiesHigh,
    /// The site holds entries that its coordinator refused for good.
    DeadLetters,
    /// The site's clock and the coordinator's are apart.
    ClockSkew,
}

impl Condition {
    /// Every condition.
    pub const ALL: [Self; 5] = [
        Self::SiteOffline,
        Self::ComplianceBelow,
        Self::VulnerabilitiesHigh,
        Self::DeadLetters,
        Self::ClockSkew,
    ];

    /// The word in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SiteOffline => "site_offline",
            Self::ComplianceBelow => "compliance_below",
            Self::VulnerabilitiesHigh => "vulnerabilities_high",
            Self::DeadLetters => "dead_letters",
            Self::ClockSkew => "clock_skew",
        }
    }

    /// How bad it is.
    pub const fn severity(self) -> Severity {
        match self {
            Self::SiteOffline | Self::VulnerabilitiesHigh => Severity::Critical,
            Self::ComplianceBelow | Self::DeadLetters | Self::ClockSkew => Severity::Warning,
        }
    }

    /// The number in keys; never changes.
    pub const fn number(self) -> u32 {
        match self {
            Self::SiteOffline => 0,
            Self::ComplianceBelow => 1,
            Self::VulnerabilitiesHigh => 2,
            Self::DeadLetters => 3,
            Self::ClockSkew => 4,
        }
    }
}

/// How bad an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Look at it today.
    Warning,
    /// Look at it now.
    Critical,
}

impl Severity {
    /// The word in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// One alert. At most one of a site and condition is open. The field order is a stored format.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Ours, version 7.
    pub id: AlertId,
    /// The site.
    pub site_id: SiteId,
    /// See [`Condition`].
    pub condition: Condition,
    /// See [`Severity`].
    pub severity: Severity,
    /// One line for people (contract 8).
    pub title: String,
    /// What is the case, and what to look at.
    pub message: String,
    /// The numbers behind it.
    pub details: BTreeMap<String, Detail>,
    /// When the condition began to hold; it stays when the alert is refreshed (contract 13.11).
    pub triggered_at: Timestamp,
    /// When the condition was last seen to hold.
    pub refreshed_at: Timestamp,
    /// When it ceased to hold, or the site left; none while open.
    pub resolved_at: Option<Timestamp>,
    /// When an operator took note of it.
    pub acknowledged_at: Option<Timestamp>,
    /// Who did.
    pub acknowledged_by: Option<String>,
}

impl Alert {
    /// Whether the condition still holds.
    pub const fn is_open(&self) -> bool {
        self.resolved_at.is_none()
    }
}

/// When a condition holds. A null override is the default.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    /// Intervals that a site may be silent; at least 1.
    pub offline_multiplier: f64,
    /// Seconds that any site may be silent; at least 0.
    pub min_offline_seconds: u64,
    /// Least score in percent, 0 to 100.
    pub compliance_threshold: f64,
    /// Critical findings that are tolerated; at least 0.
    pub critical_cve_threshold: u64,
}

impl Default for Thresholds {
    /// Those of contract 8.
    fn default() -> Self {
        Self {
            offline_multiplier: 4.0,
            min_offline_seconds: 900,
            compliance_threshold: 70.0,
            critical_cve_threshold: 0,
        }
    }
}

/// What operators have set of the [`Thresholds`]. The field order is a stored format.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Overrides {
    /// See [`Thresholds::offline_multiplier`].
    pub offline_multiplier: Option<f64>,
    /// See [`Thresholds::min_offline_seconds`].
    pub min_offline_seconds: Option<u64>,
    /// See [`Thresholds::compliance_threshold`].
    pub compliance_threshold: Option<f64>,
    /// See [`Thresholds::critical_cve_threshold`].
    pub critical_cve_threshold: Option<u64>,
}

/// A change of the [`Overrides`]: absent keeps, null clears.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct OverridesPatch {
    /// See [`Thresholds::offline_multiplier`].
    pub offline_multiplier: Patch<f64>,
    /// See [`Thresholds::min_offline_seconds`].
    pub min_offline_seconds: Patch<u64>,
    /// See [`Thresholds::compliance_threshold`].
    pub compliance_threshold: Patch<f64>,
    /// See [`Thresholds::critical_cve_threshold`].
    pub critical_cve_threshold: Patch<u64>,
}

/// A threshold out of its range (contract 8). Fix the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field} must be {range}")]
pub struct InvalidThreshold {
    /// The member.
    pub field: &'static str,
    /// What it may be.
    pub range: &'static str,
}

impl Overrides {
    /// The same with a change.
    #[must_use]
    pub fn patched(&self, patch: &OverridesPatch) -> Self {
        Self {
            offline_multiplier: patch.offline_multiplier.unwrap_or(self.offline_multiplier),
            min_offline_seconds: patch.min_offline_seconds.unwrap_or(self.min_offline_seconds),
            compliance_threshold: patch.compliance_threshold.unwrap_or(self.compliance_threshold),
            critical_cve_threshold: patch.critical_cve_threshold.unwrap_or(self.critical_cve_threshold),
        }
    }

    /// Checks the ranges of contract 8.
    ///
    /// # Errors
    /// [`InvalidThreshold`] names the first member that is out of its range.
    pub fn validate(&self) -> Result<(), InvalidThreshold> {
        let invalid = |field, range| Err(InvalidThreshold { field, range });
        if self.offline_multiplier.is_some_and(|value| !(1.0..=1_000_000.0).contains(&value)) {
            return invalid("offline_multiplier", "at least 1 and at most 1,000,000");
        }
        if self.compliance_threshold.is_some_and(|value| !(0.0..=100.0).contains(&value)) {
            return invalid("compliance_threshold", "between 0 and 100");
        }
        Ok(())
    }

    /// The thresholds that hold.
    pub fn effective(&self) -> Thresholds {
        let default = Thresholds::default();
        Thresholds {
            offline_multiplier: self.offline_multiplier.unwrap_or(default.offline_multiplier),
            min_offline_seconds: self.min_offline_seconds.unwrap_or(default.min_offline_seconds),
            compliance_threshold: self.compliance_threshold.unwrap_or(default.compliance_threshold),
            critical_cve_threshold: self.critical_cve_threshold.unwrap_or(default.critical_cve_threshold),
        }
    }
}

/// What a site says of itself outside its stream, as it was when it said so; not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SiteHealth {
    /// Entries of its queue that its coordinator refused for good.
    pub dead_letters: u64,
    /// The site's clock minus the coordinator's, in milliseconds; a transit time too much at most.
    pub clock_skew_ms: i64,
}
