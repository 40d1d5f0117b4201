//! What a site reports beside its hosts: the payloads of contract 3.2 and ours.
//!
//! Over a link they ride in batches as the JSON that the documented routes take; over HTTP they are those
//! routes' bodies. Both end in one [`Report`] and one decision.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::id::{CommandId, PolicyId};

/// Names of payload types: of the contract, and the last one ours.
pub mod payload_type {
    /// What a site says about itself.
    pub const SITE_METADATA: &str = "site_metadata";
    /// The whole directory, for HTTP peers.
    pub const HOST_DIRECTORY: &str = "host_directory";
    /// Count of the hosts.
    pub const HOST_ROLLUP: &str = "host_rollup";
    /// One baseline's score.
    pub const COMPLIANCE_ROLLUP: &str = "compliance_rollup";
    /// Count of the findings.
    pub const VULNERABILITY_ROLLUP: &str = "vulnerability_rollup";
    /// What a command did.
    pub const COMMAND_RESULT: &str = "command_result";
    /// A wish for a short-lived credential.
    pub const SECRET_LEASE_REQUEST: &str = "secret_lease_request";
    /// What applying a policy did.
    pub const POLICY_RESULT: &str = "policy_result";
}

/// One payload, read.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// See [`ComplianceReport`].
    Compliance(ComplianceReport),
    /// See [`VulnerabilityReport`].
    Vulnerabilities(VulnerabilityReport),
    /// See [`CommandReport`].
    Command(CommandReport),
    /// See [`LeaseRequest`].
    LeaseRequest(LeaseRequest),
    /// See [`PolicyReport`].
    Policy(PolicyReport),
}

/// A payload that cannot be read. It is dropped alone, and the sender is defective or newer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnreadableReport {
    /// A type of a newer version.
    #[error("payload type is not known here")]
    UnknownType,
    /// The body is not of its type.
    #[error("payload is not of its type: {0}")]
    Malformed(String),
}

impl Report {
    /// Reads a queued payload.
    ///
    /// # Errors
    /// See [`UnreadableReport`].
    pub fn parse(payload_type: &str, body: &[u8]) -> Result<Self, UnreadableReport> {
        fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, UnreadableReport> {
            serde_json::from_slice(body).map_err(|error| UnreadableReport::Malformed(error.to_string()))
        }
        match payload_type {
            payload_type::COMPLIANCE_ROLLUP => read(body).map(Self::Compliance),
            payload_type::VULNERABILITY_ROLLUP => read(body).map(Self::Vulnerabilities),
            payload_type::COMMAND_RESULT => read(body).map(Self::Command),
            payload_type::SECRET_LEASE_REQUEST => read(body).map(Self::LeaseRequest),
            payload_type::POLICY_RESULT => read(body).map(Self::Policy),
            _ => Err(UnreadableReport::UnknownType),
        }
    }
}

/// Payload `compliance_rollup` (contract B6): one baseline over the latest scan of each host.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ComplianceReport {
    /// Name of the baseline.
    pub baseline: String,
    /// Mean score, 0 to 100; none when nothing was scored.
    pub score_percent: Option<f64>,
    /// Hosts that the baseline concerns.
    pub hosts_in_scope: u64,
    /// Hosts without a failed rule.
    pub hosts_compliant: u64,
    /// Hosts with one.
    pub hosts_noncompliant: u64,
    /// When the snapshot was taken; arrival when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_at: Option<Timestamp>,
}

/// Payload `vulnerability_rollup` (contract B6): the site's findings, counted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct VulnerabilityReport {
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
    pub top_cve_ids: Option<Vec<String>>,
    /// When the snapshot was taken; arrival when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_at: Option<Timestamp>,
}

/// What a site says of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandReportStatus {
    /// It runs; the results are those so far (ours).
    InProgress,
    /// All hosts succeeded.
    Completed,
    /// Some host, or the whole, failed.
    Failed,
}

/// Payload `command_result` (contract 5.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandReport {
    /// The command.
    pub command_id: CommandId,
    /// See [`CommandReportStatus`].
    pub status: CommandReportStatus,
    /// Hosts it went to.
    #[serde(default)]
    pub host_count: u64,
    /// Hosts where it succeeded.
    #[serde(default)]
    pub success_count: u64,
    /// By host id.
    #[serde(default)]
    pub results: BTreeMap<String, HostResult>,
    /// Why it failed before it reached a host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What a command did at one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostResult {
    /// Whether it succeeded.
    pub success: bool,
    /// What the connector said.
    #[serde(default)]
    pub detail: String,
}

/// Payload `secret_lease_request` (contract B6, 10).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRequest {
    /// The site's own key, 32 hexadecimal digits; a repeat of it is the same request.
    pub correlation_key: String,
    /// The host that asks; text, as the contract has it.
    pub host_id: String,
    /// Name of the secret.
    pub secret_name: String,
    /// Role at the issuer.
    pub backend_role: String,
    /// `database`, `ssh` or `token`.
    pub kind: String,
    /// Life wanted.
    #[serde(default)]
    pub ttl_seconds: Option<u64>,
}

/// Payload `policy_result` (ours): what applying a policy did at the site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyReport {
    /// The policy.
    pub policy_id: PolicyId,
    /// The version that was applied, or tried.
    pub version: u32,
    /// Whether it is in force.
    pub applied: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When.
    pub at: Timestamp,
}
