//! Contents of the push lane as bytes: the kind number of each, and its fields.

use serde::{Deserialize, Serialize};

use hansa_model::id::LeaseId;
use hansa_model::push::{LeasePush, LeaseWord, PushContent};
use hansa_model::{Secret, Timestamp};

use crate::error::FrameError;
use crate::wire::{Push, decode, encode};

/// Kinds of push contents; a number is never used again.
mod kind {
    pub(super) const POLICY: u16 = 1;
    pub(super) const WITHDRAW_POLICY: u16 = 2;
    pub(super) const COMMAND: u16 = 3;
    pub(super) const CANCEL_COMMAND: u16 = 4;
    pub(super) const LEASE: u16 = 5;
    pub(super) const ASK_COMMAND: u16 = 6;
}

/// A lease with its value written out: the pinned, encrypted link to the one site it is for.
#[derive(Serialize, Deserialize)]
struct ExposedLease {
    lease_id: Option<LeaseId>,
    correlation_key: String,
    host_id: String,
    secret_name: String,
    status: LeaseWord,
    secret_metadata: Option<String>,
    secret_value: Option<String>,
    error: Option<String>,
    expires_at: Option<Timestamp>,
}

impl Push {
    /// A push of this content.
    pub fn new(id: u64, content: &PushContent) -> Self {
        let (kind, payload) = match content {
            PushContent::Policy(policy) => (kind::POLICY, encode(policy)),
            PushContent::WithdrawPolicy(withdrawal) => (kind::WITHDRAW_POLICY, encode(withdrawal)),
            PushContent::Command(command) => (kind::COMMAND, encode(command)),
            PushContent::CancelCommand(cancel) => (kind::CANCEL_COMMAND, encode(cancel)),
            PushContent::AskCommand(question) => (kind::ASK_COMMAND, encode(question)),
            PushContent::Lease(lease) => (kind::LEASE, encode(&exposed(lease))),
        };
        Self { id, kind, payload: payload.into() }
    }

    /// What it holds; none for a kind of a newer version, to be answered with
    /// [`Up::NotUnderstood`](crate::wire::Up::NotUnderstood).
    ///
    /// # Errors
    /// The payload of a known kind does not decode: close the link.
    pub fn content(&self) -> Result<Option<PushContent>, FrameError> {
        let Self { kind, payload, .. } = self;
        Ok(Some(match *kind {
            kind::POLICY => PushContent::Policy(decode(*kind, payload)?),
            kind::WITHDRAW_POLICY => PushContent::WithdrawPolicy(decode(*kind, payload)?),
            kind::COMMAND => PushContent::Command(decode(*kind, payload)?),
            kind::CANCEL_COMMAND => PushContent::CancelCommand(decode(*kind, payload)?),
            kind::ASK_COMMAND => PushContent::AskCommand(decode(*kind, payload)?),
            kind::LEASE => PushContent::Lease(lease(decode(*kind, payload)?)),
            _ => return Ok(None),
        }))
    }
}

fn exposed(lease: &LeasePush) -> ExposedLease {
    ExposedLease {
        lease_id: lease.lease_id,
        correlation_key: lease.correlation_key.clone(),
        host_id: lease.host_id.clone(),
        secret_name: lease.secret_name.clone(),
        status: lease.status,
        secret_metadata: lease.secret_metadata.clone(),
        secret_value: lease.secret_value.as_ref().map(|value| value.expose().clone()),
        error: lease.error.clone(),
        expires_at: lease.expires_at,
    }
}

fn lease(lease: ExposedLease) -> LeasePush {
    LeasePush {
        lease_id: lease.lease_id,
        correlation_key: lease.correlation_key,
        host_id: lease.host_id,
        secret_name: lease.secret_name,
        status: lease.status,
        secret_metadata: lease.secret_metadata,
        secret_value: lease.secret_value.map(Secret::new),
        error: lease.error,
        expires_at: lease.expires_at,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use hansa_model::id::{CommandId, PolicyId};
    use hansa_model::push::{CommandCancel, CommandPush, CommandQuestion, PolicyPush, PolicyWithdrawal};
    use hansa_model::secret::hex;

    use super::*;

    fn id<T: std::str::FromStr<Err: std::fmt::Debug>>() -> T {
        "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap()
    }

    /// One of each content, with its bytes as released in version 0.1.
    fn golden() -> Vec<(PushContent, &'static str)> {
        vec![
            (
                PushContent::Policy(PolicyPush {
                    policy_id: id::<PolicyId>(),
                    policy_type: "t".to_owned(),
                    name: "n".to_owned(),
                    definition: "{}".to_owned(),
                    version: 300,
                }),
                "1 10 01890a5dac96774bbcceb302099a8057 0174 016e 027b7d ac02",
            ),
            (
                PushContent::WithdrawPolicy(PolicyWithdrawal { policy_id: id(), version: 2 }),
                "2 10 01890a5dac96774bbcceb302099a8057 02",
            ),
            (
                PushContent::Command(CommandPush {
                    command_id: id::<CommandId>(),
                    command_type: "echo".to_owned(),
                    parameters: "{}".to_owned(),
                    target_host_ids: vec![id()],
                    expires_at: Some(Timestamp::from_micros(1)),
                }),
                "3 10 01890a5dac96774bbcceb302099a8057 046563686f 027b7d 01 10 01890a5dac96774bbcceb302099a8057 01 02",
            ),
            (
                PushContent::CancelCommand(CommandCancel { command_id: id() }),
                "4 10 01890a5dac96774bbcceb302099a8057",
            ),
            (
                PushContent::Lease(LeasePush {
                    lease_id: None,
                    correlation_key: "k".to_owned(),
                    host_id: "h".to_owned(),
                    secret_name: "s".to_owned(),
                    status: LeaseWord::Revoked,
                    secret_metadata: None,
                    secret_value: Some(Secret::new("v".to_owned())),
                    error: None,
                    expires_at: None,
                }),
                "5 00 016b 0168 0173 02 00 01 0176 00 00",
            ),
            (
                PushContent::AskCommand(CommandQuestion { command_id: id() }),
                "6 10 01890a5dac96774bbcceb302099a8057",
            ),
        ]
    }

    #[test]
    fn contents_have_their_released_bytes_and_read_back() {
        for (content, bytes) in golden() {
            let push = Push::new(7, &content);

            let (kind, payload) = bytes.split_once(' ').unwrap();
            assert_eq!(
                (push.kind.to_string().as_str(), hex(&push.payload)),
                (kind, payload.replace(' ', ""))
            );
            assert_eq!(push.content().unwrap(), Some(content));
        }
    }

    #[test]
    fn content_of_a_newer_kind_is_none_and_a_broken_one_an_error() {
        let newer = Push { id: 1, kind: 999, payload: Bytes::new() };
        let broken = Push { id: 1, kind: kind::COMMAND, payload: Bytes::from_static(b"\xff") };

        assert_eq!(newer.content().unwrap(), None);
        assert!(broken.content().is_err());
    }
}
