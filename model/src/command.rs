//! A command as its coordinator knows it: what is asked of a site, and what came of it.
//!
//! One command is for one site. Its id names one execution for ever; the site never runs it twice. The
//! field order of [`Command`] and [`HostOutcome`] is a stored format.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::CommandId;
use crate::{Entropy, HostId, SiteId, Timestamp};

/// Where a command stands (contract 5.1). The last three are final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandStatus {
    /// Stored here; the site has not confirmed it.
    QueuedAtSite,
    /// The site has it on its disk.
    InProgress,
    /// Some hosts succeeded, some did not.
    Partial,
    /// All hosts succeeded.
    Completed,
    /// No host succeeded, or it never ran.
    Failed,
}

impl CommandStatus {
    const ALL: [Self; 5] =
        [Self::QueuedAtSite, Self::InProgress, Self::Partial, Self::Completed, Self::Failed];

    /// The word used in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueuedAtSite => "queued_at_site",
            Self::InProgress => "in_progress",
            Self::Partial => "partial",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }

    /// Whether something may still happen to the command.
    pub const fn is_open(self) -> bool {
        match self {
            Self::QueuedAtSite | Self::InProgress => true,
            Self::Partial | Self::Completed | Self::Failed => false,
        }
    }
}

impl fmt::Display for CommandStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for CommandStatus {
    type Err = UnknownCommandStatus;

    fn from_str(text: &str) -> Result<Self, UnknownCommandStatus> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(UnknownCommandStatus)
    }
}

/// A text that is no status of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not one of queued_at_site, in_progress, partial, completed, failed")]
pub struct UnknownCommandStatus;

/// A command (contract B4), with what is ours at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Version 7, in the order of dispatch; see [`new_id`].
    pub id: CommandId,
    /// Chooses the site's connector; trimmed.
    pub command_type: String,
    /// A JSON object as text, its keys sorted.
    pub parameters: Option<String>,
    /// The one site that carries it out.
    pub target_site_id: SiteId,
    /// Empty means all hosts of the site.
    pub target_host_ids: Vec<HostId>,
    /// Who asked.
    pub dispatched_by: String,
    /// When it was stored.
    pub dispatched_at: Timestamp,
    /// See [`CommandStatus`].
    pub status: CommandStatus,
    /// What came of it, for people.
    pub result_summary: Option<String>,
    /// When it reached a final status.
    pub completed_at: Option<Timestamp>,
    /// Pushes that failed since the last one that did not, for whatever reason.
    pub push_attempts: u32,
    /// When it was last pushed, or tried to be.
    pub last_push_attempt_at: Option<Timestamp>,
    /// Why the last push failed.
    pub last_push_error: Option<String>,
    /// Pushes of them that the site refused for good; eight end the push.
    pub push_refusals: u32,
    /// Not to be started from this instant on.
    pub expires_at: Option<Timestamp>,
    /// When an operator asked to stop it.
    pub cancel_requested_at: Option<Timestamp>,
    /// The site has been told to stop it, or refuses to be told.
    pub cancel_settled: bool,
    /// It is past its expiry and the site has said nothing; told once.
    pub overdue: bool,
    /// Hosts so far.
    pub progress: Progress,
}

/// How far a command is, in hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Hosts that it went to, as the site says.
    pub hosts: u64,
    /// Hosts where it succeeded.
    pub succeeded: u64,
    /// Hosts where it failed.
    pub failed: u64,
}

/// What a command did at one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostOutcome {
    /// The host.
    pub host_id: HostId,
    /// Whether it succeeded.
    pub success: bool,
    /// What the site said of it, cut.
    pub detail: String,
}

/// What was dispatched under an idempotency key. The field order is a stored format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyedDispatch {
    /// SHA-256 of the request's body.
    pub body: [u8; 32],
    /// What it made.
    pub command_id: CommandId,
    /// When.
    pub at: Timestamp,
}

/// What an operator wants done at a site.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewCommand {
    /// Chooses the connector.
    pub command_type: String,
    /// A JSON object as text, its keys sorted.
    pub parameters: Option<String>,
    /// Empty means all hosts of the site.
    pub target_host_ids: Vec<HostId>,
    /// Not to be started from this instant on.
    pub expires_at: Option<Timestamp>,
}

/// Makes the id of a command: version 7 whose sub-millisecond bits (RFC 9562, method 3) hold the
/// microseconds, so that ids sort as the instants of dispatch.
pub fn new_id(now: Timestamp, entropy: &dyn Entropy) -> CommandId {
    let micros = now.as_micros().max(0).unsigned_abs();
    let mut random = entropy.bytes::<10>();
    // Twelve bits: ten for 0..1000, two random ones.
    let within = u16::try_from(micros % 1_000).unwrap_or(0) << 2 | u16::from(random[1] & 0b11);
    random[..2].copy_from_slice(&within.to_be_bytes());
    CommandId(uuid::Builder::from_unix_timestamp_millis(micros / 1_000, &random).into_uuid())
}

/// An id below those of all commands dispatched from this instant on, and above those dispatched before its
/// millisecond.
pub fn first_id(from: Timestamp) -> CommandId {
    let millis = from.as_micros().max(0).unsigned_abs() / 1_000;
    CommandId(uuid::Builder::from_unix_timestamp_millis(millis, &[0; 10]).into_uuid())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::entropy::Entropy;

    #[derive(Debug)]
    struct Bytes(u8);

    impl Entropy for Bytes {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(self.0);
        }
    }

    #[test]
    fn every_status_parses_from_its_own_spelling() {
        for status in CommandStatus::ALL {
            assert_eq!(status.as_str().parse(), Ok(status));
        }
        assert_eq!("queued".parse::<CommandStatus>(), Err(UnknownCommandStatus));
    }

    proptest! {
        #[test]
        fn ids_sort_as_the_instants_of_dispatch(a in 0_i64..4_000_000_000_000_000, step in 1_i64..5_000, x: u8, y: u8) {
            let [first, second] = [(a, x), (a + step, y)]
                .map(|(micros, byte)| new_id(Timestamp::from_micros(micros), &Bytes(byte)));

            prop_assert!(first < second);
            prop_assert_eq!(first.0.get_version_num(), 7);
        }
    }
}
