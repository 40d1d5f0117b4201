//! What a coordinator wants a site to hold or do.
//!
//! The same contents travel over the push lane of a link and as bodies of the documented push routes; the
//! site's inbox judges both alike. The field order is a sent format: fields are only added at the end.

use serde::{Deserialize, Serialize};

use crate::id::{CommandId, LeaseId, PolicyId};
use crate::{HostId, Secret, Timestamp};

/// One thing for a site to hold or do.
#[derive(Debug, Clone, PartialEq)]
pub enum PushContent {
    /// Hold and apply this version of a policy.
    Policy(PolicyPush),
    /// Hold this policy no longer: it was deactivated or unassigned.
    WithdrawPolicy(PolicyWithdrawal),
    /// Carry out this command, at most once for ever.
    Command(CommandPush),
    /// Do not start this command; stop it if it runs.
    CancelCommand(CommandCancel),
    /// Say what became of this command, which the site has confirmed before. It is not run for this.
    AskCommand(CommandQuestion),
    /// Hand this credential to its host, or take it away.
    Lease(LeasePush),
}

/// See [`PushContent::Policy`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyPush {
    /// The coordinator's id of it.
    pub policy_id: PolicyId,
    /// Chooses the connector.
    pub policy_type: String,
    /// For people.
    pub name: String,
    /// A JSON object as text, its keys sorted.
    pub definition: String,
    /// From one, rising.
    pub version: u32,
}

/// See [`PushContent::WithdrawPolicy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyWithdrawal {
    /// The policy.
    pub policy_id: PolicyId,
    /// The version that was current when it was withdrawn: a newer one that is stored stays.
    pub version: u32,
}

/// See [`PushContent::Command`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandPush {
    /// The coordinator's id of it; names one execution for ever.
    pub command_id: CommandId,
    /// Chooses the connector.
    pub command_type: String,
    /// A JSON object as text.
    pub parameters: String,
    /// Empty means all hosts of the site.
    pub target_host_ids: Vec<HostId>,
    /// Not to be started from this instant on.
    pub expires_at: Option<Timestamp>,
}

/// See [`PushContent::CancelCommand`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandCancel {
    /// The command.
    pub command_id: CommandId,
}

/// See [`PushContent::AskCommand`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandQuestion {
    /// The command.
    pub command_id: CommandId,
}

/// What a lease push says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseWord {
    /// A new or renewed credential; the value comes with it.
    Issued,
    /// It could not be issued.
    Failed,
    /// Take it away from the host.
    Revoked,
}

/// See [`PushContent::Lease`]. The value is handed on and never stored.
#[derive(Debug, Clone, PartialEq)]
pub struct LeasePush {
    /// The coordinator's id of it; none from a peer that sends only the documented members.
    pub lease_id: Option<LeaseId>,
    /// The site's own key of its request, 32 hexadecimal digits.
    pub correlation_key: String,
    /// The host that asked; text, as the contract has it.
    pub host_id: String,
    /// What was asked for.
    pub secret_name: String,
    /// What happened.
    pub status: LeaseWord,
    /// A JSON object as text, such as a user name; no secret.
    pub secret_metadata: Option<String>,
    /// The credential.
    pub secret_value: Option<Secret<String>>,
    /// Why it failed.
    pub error: Option<String>,
    /// The end of the credential.
    pub expires_at: Option<Timestamp>,
}
