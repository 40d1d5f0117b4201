//! What a site holds of what its coordinator wants: policies, commands, and leases without their values.
//!
//! Rows of the site's own tables; the field order is a stored format. The decisions about them are
//! [`crate::machine::inbox`].

use serde::{Deserialize, Serialize};

use crate::id::{LeaseId, PolicyId};
use crate::{HostId, Timestamp};

/// What is wanted of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PolicyWish {
    /// In force.
    Apply,
    /// No longer in force; the connector still has to take it back.
    Withdraw,
    /// Nothing more: it has been taken back. Kept, so that a late repeat of an older version has no effect.
    Gone,
}

/// A policy that the coordinator wants, or wanted (contract B7).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceivedPolicy {
    /// Place in the line: the order of arrival of the present version.
    pub order: u64,
    /// Chooses the connector.
    pub policy_type: String,
    /// For people.
    pub name: String,
    /// A JSON object as text.
    pub definition: String,
    /// From one, rising.
    pub version: u32,
    /// See [`PolicyWish`].
    pub wish: PolicyWish,
    /// When the present version arrived.
    pub received_at: Timestamp,
    /// When the present version came into force; none while it is not.
    pub applied_at: Option<Timestamp>,
    /// What the last try failed with.
    pub apply_error: Option<String>,
    /// Tries in a row that failed.
    pub failures: u32,
    /// When the last try ended.
    pub tried_at: Option<Timestamp>,
}

impl ReceivedPolicy {
    /// Whether the present version is in force.
    pub const fn applied(&self) -> bool {
        self.applied_at.is_some()
    }
}

/// What a site says it holds of one policy. The field order is a sent format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldPolicy {
    /// The coordinator's id of it.
    pub policy_id: PolicyId,
    /// The version that the site last heard of.
    pub version: u32,
    /// It should be in force; false once it was withdrawn.
    pub wanted: bool,
}

/// State of a command at the site (contract 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CommandState {
    /// Waits for its turn.
    Queued,
    /// Handed to a connector; never again after this.
    InProgress,
    /// All hosts succeeded.
    Completed,
    /// Some host, or the whole, failed.
    Failed,
}

impl CommandState {
    /// The word in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }

    /// Whether nothing follows.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }
}

/// A command that the coordinator sent (contract B7, 5.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceivedCommand {
    /// Place in the line: the order of arrival.
    pub order: u64,
    /// Chooses the connector.
    pub command_type: String,
    /// A JSON object as text.
    pub parameters: String,
    /// Empty means all hosts of the site.
    pub target_host_ids: Vec<HostId>,
    /// When it first arrived.
    pub received_at: Timestamp,
    /// Not to be started from this instant on.
    pub expires_at: Option<Timestamp>,
    /// See [`CommandState`].
    pub state: CommandState,
    /// The coordinator wants it stopped.
    pub cancelled: bool,
    /// The report as it is sent up, JSON: so far while it runs, whole at the end.
    pub result: Option<String>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
}

/// State of a lease at the site (contract 10).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaseState {
    /// Asked for here; no answer yet.
    Requested,
    /// The credential is with its host.
    Issued,
    /// It could not be issued, or no connector takes it.
    Failed,
    /// Taken away at the coordinator's word.
    Revoked,
    /// Taken away at its end.
    Expired,
}

impl LeaseState {
    /// The word in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Issued => "issued",
            Self::Failed => "failed",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
        }
    }
}

/// A lease as the site knows it. Never a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceivedLease {
    /// The coordinator's id, once it said one.
    pub lease_id: Option<LeaseId>,
    /// The host that it is for; text, as the contract has it.
    pub host_id: String,
    /// What was asked for.
    pub secret_name: String,
    /// Role at the issuer; none of a lease that nobody here asked for.
    pub backend_role: Option<String>,
    /// `database`, `ssh` or `token`; none of a lease that nobody here asked for.
    pub kind: Option<String>,
    /// Life asked for, in seconds.
    pub ttl_seconds: Option<u64>,
    /// See [`LeaseState`].
    pub state: LeaseState,
    /// A JSON object as text, such as a user name; no secret.
    pub metadata: Option<String>,
    /// When it was asked for here, or first heard of.
    pub requested_at: Timestamp,
    /// When the coordinator's last word arrived.
    pub received_at: Option<Timestamp>,
    /// When the connector last took a credential.
    pub delivered_at: Option<Timestamp>,
    /// The end of the credential.
    pub expires_at: Option<Timestamp>,
    /// A connector may hold the credential, and must be told of its end.
    pub held: bool,
    /// What went wrong last.
    pub last_error: Option<String>,
}
