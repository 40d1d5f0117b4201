//! The messages of a link: their kinds, their fields, and the way from frames to them and back.
//!
//! Rules that keep old and new nodes talking (`docs/wire.md` has every field):
//! - a kind number is never used again;
//! - fields are only added at the end of a message; bytes behind the known fields are ignored;
//! - a kind that is not known decodes to `Unknown`, is answered with `NotUnderstood`, and life goes on.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use hansa_model::audit::Checkpoint;
use hansa_model::received::HeldPolicy;
use hansa_model::secret::TokenHash;
use hansa_model::sync::{BatchHeader, BatchRefusal, Items, Position};
use hansa_model::{Secret, SiteId, Timestamp};

use crate::error::FrameError;
use crate::frame::{EncodedFrame, Frame};

/// Version of the set of messages, told in [`Hello`] and [`Welcome`]. It grows with each new kind or field;
/// nobody refuses a peer for it. From version 2 on a coordinator reads the payloads of [`Items`]; to an older
/// one a site sends none, because it would acknowledge them unread. From version 3 on it reads
/// [`Up::PushRefused`]; to an older one a site acknowledges what it will never take.
pub const WIRE_VERSION: u16 = 3;

/// Kind numbers. Below 0x0100 a site sends them, from 0x0100 on a coordinator; 0 either.
mod kind {
    pub(super) const NOT_UNDERSTOOD: u16 = 0x0000;
    pub(super) const ENROLL: u16 = 0x0001;
    pub(super) const HELLO: u16 = 0x0002;
    pub(super) const BATCH: u16 = 0x0003;
    pub(super) const DIGEST: u16 = 0x0004;
    pub(super) const PUSH_ACK: u16 = 0x0005;
    pub(super) const LEAVE: u16 = 0x0006;
    pub(super) const HEALTH: u16 = 0x0007;
    pub(super) const HELD: u16 = 0x0008;
    pub(super) const PUSH_REFUSED: u16 = 0x0009;
    pub(super) const ENROLLED: u16 = 0x0101;
    pub(super) const ENROLL_REFUSED: u16 = 0x0102;
    pub(super) const WELCOME: u16 = 0x0103;
    pub(super) const ACKNOWLEDGED: u16 = 0x0104;
    pub(super) const REFUSED: u16 = 0x0105;
    pub(super) const DIGEST_DIFF: u16 = 0x0106;
    pub(super) const PUSH: u16 = 0x0107;
    pub(super) const RESYNC: u16 = 0x0108;
    pub(super) const CHECKPOINT: u16 = 0x0109;
}

/// What a site sends.
#[derive(Debug, Clone, PartialEq)]
pub enum Up {
    /// Completes an enrollment. First on the control lane of a site that is pending.
    Enroll(Enroll),
    /// Opens the conversation of an enrolled site. First on the control lane.
    Hello(Hello),
    /// Rows to store. On the ingest lane.
    Batch(Batch),
    /// Digests of the site's directory, to compare. On the ingest lane, in order with the batches.
    Digest(Digest),
    /// A push is stored. On the push lane.
    PushAck(PushAck),
    /// The site leaves the federation for good. On the control lane.
    Leave,
    /// How the site is now. On the control lane, about once a minute. Since version 2.
    Health(Health),
    /// What the site holds beside hosts. On the control lane, once, before the push lane opens.
    Held(Held),
    /// A push will never be taken, however often it is sent. On the push lane. Since version 3.
    PushRefused(PushRefused),
    /// The site does not know a kind that it received.
    NotUnderstood {
        /// The kind received.
        kind: u16,
    },
    /// A kind of a newer version. Answer [`Down::NotUnderstood`] and go on.
    Unknown {
        /// The kind received.
        kind: u16,
    },
}

/// What a coordinator sends.
#[derive(Debug, Clone, PartialEq)]
pub enum Down {
    /// Answers [`Up::Enroll`]: the site is a member.
    Enrolled(Box<Enrolled>),
    /// Answers [`Up::Enroll`]: it is not.
    EnrollRefused(EnrollRefused),
    /// Answers [`Up::Hello`].
    Welcome(Welcome),
    /// Answers [`Up::Batch`]: data and position are on disk, and searchable.
    Acknowledged(Acknowledged),
    /// Answers [`Up::Batch`]: nothing of it was applied.
    Refused(Refused),
    /// Answers [`Up::Digest`].
    DigestDiff(DigestDiff),
    /// Something for the site to hold. On the push lane.
    Push(Push),
    /// Asks the site for a [`Up::Digest`].
    Resync,
    /// How the coordinator's audit log ends, signed, for the site to keep. On the push lane; without an
    /// answer, as the next one covers it.
    Checkpoint(Checkpoint),
    /// The coordinator does not know a kind that it received.
    NotUnderstood {
        /// The kind received.
        kind: u16,
    },
    /// A kind of a newer version. Answer [`Up::NotUnderstood`] and go on.
    Unknown {
        /// The kind received.
        kind: u16,
    },
}

/// See [`Up::Enroll`]. The fields of the contract's completion request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enroll {
    /// The one-time token.
    #[serde(with = "exposed")]
    pub token: Secret<String>,
    /// The site's certificate (contract 1.6).
    pub tls_cert_pem: String,
    /// The site's proof over it, standard base64 (contract 1.5).
    pub identity_proof: String,
}

/// See [`Up::Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Who the site believes to be. A claim: the coordinator takes the site from the pinned key and
    /// refuses another id.
    pub site: Option<SiteId>,
    /// Version of the site's software, for people.
    pub software_version: String,
    /// [`WIRE_VERSION`] of the site.
    pub wire_version: u16,
    /// Epoch of the site's process.
    pub epoch: u64,
}

/// See [`Up::Batch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Where the batch stands in the site's stream.
    pub header: BatchHeader,
    /// The encoded [`Items`], byte for byte as the chain covers them.
    pub items: Bytes,
}

impl Batch {
    /// Encodes items into the bytes that are stored, chained and sent.
    ///
    /// # Panics
    /// Never: plain data into memory has no way to fail.
    pub fn encode_items<S: Serialize>(items: &Items<S>) -> Bytes {
        encode(items).into()
    }

    /// The items, their text borrowed from the frame.
    ///
    /// # Errors
    /// The bytes are no items: the sender is defective.
    pub fn decode_items(&self) -> Result<Items<&str>, FrameError> {
        Items::decode(&self.items).ok_or(FrameError::Malformed { kind: kind::BATCH })
    }
}

/// See [`Up::Digest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// The last acknowledged position that the digests describe.
    pub position: Position,
    /// Digest of the whole directory.
    pub root: u64,
    /// Digest of each branch, in order.
    pub branches: Vec<u64>,
}

/// See [`Up::PushAck`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushAck {
    /// Of the push.
    pub id: u64,
}

/// See [`Up::PushRefused`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushRefused {
    /// Number of the push.
    pub id: u64,
    /// Why, for an operator.
    pub reason: String,
}

/// See [`Up::Health`]. Nothing of it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The site's clock when it sent this.
    pub sent_at: Timestamp,
    /// Entries of its queue that the coordinator refused for good.
    pub dead_letters: u64,
}

/// See [`Up::Held`]. The coordinator tells the site again which policies it should hold where they differ, and
/// shows no results that the site does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// All that the site has heard of, those that were withdrawn included.
    pub policies: Vec<HeldPolicy>,
    /// Names of the baselines that it holds results of.
    pub baselines: Vec<String>,
    /// Whether it holds a snapshot of findings.
    pub findings: bool,
}

/// See [`Down::Enrolled`]. The fields of the contract's completion answer, and what a site would
/// otherwise fetch by `GET tls-cert`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    /// The site's id from now on.
    pub site_id: SiteId,
    /// The site's name at the coordinator.
    pub site_name: String,
    /// The bearer that the site presents over HTTP.
    #[serde(with = "exposed")]
    pub sync_bearer: Secret<String>,
    /// SHA-256 of the bearer that the coordinator presents over HTTP.
    pub coordinator_inbound_bearer_token_hash: TokenHash,
    /// The coordinator's certificate (contract 1.6).
    pub coordinator_tls_cert_pem: String,
    /// The coordinator's proof over it, standard base64.
    pub identity_proof: String,
    /// Seconds between two contacts.
    pub sync_interval_seconds: u32,
}

/// See [`Down::EnrollRefused`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrollRefused {
    /// The stable code that the HTTP route answers for the same refusal.
    pub code: String,
    /// What to do, for people.
    pub detail: String,
}

/// See [`Down::Welcome`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The site's id: the pinned key's.
    pub site_id: SiteId,
    /// How far the site's stream is applied.
    pub position: Position,
    /// Seconds between two contacts.
    pub sync_interval_seconds: u32,
    /// Version of the coordinator's software, for people.
    pub software_version: String,
    /// [`WIRE_VERSION`] of the coordinator.
    pub wire_version: u16,
}

/// See [`Down::Acknowledged`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// How far the site's stream is applied, durable.
    pub position: Position,
}

/// See [`Down::Refused`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Why, and so what to do.
    pub refusal: BatchRefusal,
    /// How far the site's stream is applied; the next batch continues it.
    pub position: Position,
}

/// See [`Down::DigestDiff`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestDiff {
    /// False when the coordinator's position is another one than the digests describe: send the batches
    /// that are out, then compare again.
    pub comparable: bool,
    /// The coordinator's leaves under each branch that differs. Empty: both hold the same.
    pub branches: Vec<BranchLeaves>,
}

/// The digests of one branch's leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BranchLeaves {
    /// Index of the branch.
    pub branch: u16,
    /// Digest of each of its leaves, in order.
    pub leaves: Vec<u64>,
}

/// See [`Down::Push`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Push {
    /// Chosen by the coordinator, unique for the site.
    pub id: u64,
    /// What the payload is; a kind that is not known is acknowledged as not understood.
    pub kind: u16,
    /// The encoded content.
    pub payload: Bytes,
}

impl Up {
    /// The frame to send. [`Up::Unknown`] is sent as [`Up::NotUnderstood`].
    pub fn encode(&self) -> EncodedFrame {
        match self {
            Self::Enroll(message) => frame(kind::ENROLL, message),
            Self::Hello(message) => frame(kind::HELLO, message),
            Self::Batch(batch) => batch_frame(batch),
            Self::Digest(message) => frame(kind::DIGEST, message),
            Self::PushAck(message) => frame(kind::PUSH_ACK, message),
            Self::Leave => frame(kind::LEAVE, &()),
            Self::Health(message) => frame(kind::HEALTH, message),
            Self::Held(message) => frame(kind::HELD, message),
            Self::PushRefused(message) => frame(kind::PUSH_REFUSED, message),
            Self::NotUnderstood { kind } | Self::Unknown { kind } => frame(kind::NOT_UNDERSTOOD, kind),
        }
    }

    /// Reads a received frame.
    ///
    /// # Errors
    /// The payload of a known kind does not decode: close the link.
    pub fn decode(frame: &Frame) -> Result<Self, FrameError> {
        let Frame { kind, payload } = frame;
        Ok(match *kind {
            kind::ENROLL => Self::Enroll(decode(*kind, payload)?),
            kind::HELLO => Self::Hello(decode(*kind, payload)?),
            kind::BATCH => Self::Batch(decode_batch(payload)?),
            kind::DIGEST => Self::Digest(decode(*kind, payload)?),
            kind::PUSH_ACK => Self::PushAck(decode(*kind, payload)?),
            kind::LEAVE => Self::Leave,
            kind::HEALTH => Self::Health(decode(*kind, payload)?),
            kind::HELD => Self::Held(decode(*kind, payload)?),
            kind::PUSH_REFUSED => Self::PushRefused(decode(*kind, payload)?),
            kind::NOT_UNDERSTOOD => Self::NotUnderstood { kind: decode(*kind, payload)? },
            kind => Self::Unknown { kind },
        })
    }
}

impl Down {
    /// The frame to send. [`Down::Unknown`] is sent as [`Down::NotUnderstood`].
    pub fn encode(&self) -> EncodedFrame {
        match self {
            Self::Enrolled(message) => frame(kind::ENROLLED, message),
            Self::EnrollRefused(message) => frame(kind::ENROLL_REFUSED, message),
            Self::Welcome(message) => frame(kind::WELCOME, message),
            Self::Acknowledged(message) => frame(kind::ACKNOWLEDGED, message),
            Self::Refused(message) => frame(kind::REFUSED, message),
            Self::DigestDiff(message) => frame(kind::DIGEST_DIFF, message),
            Self::Push(message) => frame(kind::PUSH, message),
            Self::Resync => frame(kind::RESYNC, &()),
            Self::Checkpoint(checkpoint) => frame(kind::CHECKPOINT, checkpoint),
            Self::NotUnderstood { kind } | Self::Unknown { kind } => frame(kind::NOT_UNDERSTOOD, kind),
        }
    }

    /// Reads a received frame.
    ///
    /// # Errors
    /// The payload of a known kind does not decode: close the link.
    pub fn decode(frame: &Frame) -> Result<Self, FrameError> {
        let Frame { kind, payload } = frame;
        Ok(match *kind {
            kind::ENROLLED => Self::Enrolled(decode(*kind, payload)?),
            kind::ENROLL_REFUSED => Self::EnrollRefused(decode(*kind, payload)?),
            kind::WELCOME => Self::Welcome(decode(*kind, payload)?),
            kind::ACKNOWLEDGED => Self::Acknowledged(decode(*kind, payload)?),
            kind::REFUSED => Self::Refused(decode(*kind, payload)?),
            kind::DIGEST_DIFF => Self::DigestDiff(decode(*kind, payload)?),
            kind::PUSH => Self::Push(decode(*kind, payload)?),
            kind::RESYNC => Self::Resync,
            kind::CHECKPOINT => Self::Checkpoint(decode(*kind, payload)?),
            kind::NOT_UNDERSTOOD => Self::NotUnderstood { kind: decode(*kind, payload)? },
            kind => Self::Unknown { kind },
        })
    }
}

fn frame(kind: u16, message: &impl Serialize) -> EncodedFrame {
    EncodedFrame::new(kind, &encode(message), Bytes::new())
}

/// The header carries its own length, so that it too may grow at its end.
fn batch_frame(batch: &Batch) -> EncodedFrame {
    let header = encode(&batch.header);
    let length = u16::try_from(header.len()).expect("a batch header has below 100 bytes");
    let start = [length.to_le_bytes().as_slice(), &header].concat();
    EncodedFrame::new(kind::BATCH, &start, batch.items.clone())
}

fn decode_batch(payload: &Bytes) -> Result<Batch, FrameError> {
    let malformed = FrameError::Malformed { kind: kind::BATCH };
    let (length, rest) = payload.split_first_chunk::<2>().ok_or(malformed)?;
    let (header, items) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length))).ok_or(malformed)?;
    Ok(Batch { header: decode(kind::BATCH, header)?, items: payload.slice_ref(items) })
}

pub(crate) fn encode(message: &impl Serialize) -> Vec<u8> {
    postcard::to_stdvec(message).expect("plain data into memory has no way to fail")
}

/// Bytes behind the known fields are a newer version's and are ignored.
pub(crate) fn decode<'de, T: Deserialize<'de>>(kind: u16, payload: &'de [u8]) -> Result<T, FrameError> {
    match postcard::take_from_bytes(payload) {
        Ok((message, _newer_fields)) => Ok(message),
        Err(_) => Err(FrameError::Malformed { kind }),
    }
}

/// The one place where a secret is written out: the pinned, encrypted link to the one peer it is for.
mod exposed {
    use hansa_model::Secret;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(secret: &Secret<String>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(secret.expose())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Secret<String>, D::Error> {
        String::deserialize(from).map(Secret::new)
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
