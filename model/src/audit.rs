//! The audit log: what an operator or worker did, chained by hash.
//!
//! A mutation's entry is part of the mutation's batch: no effect without its entry, no entry without its
//! effect. The writer gives it its number and chains it; nobody else writes the log.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::secret::hex;
use crate::{AuditId, HostId, SiteId, Timestamp};

/// A value in an entry's details. Never a secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Detail {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// A text; it may be chosen by an attacker.
    Text(String),
    /// A list.
    List(Vec<Self>),
    /// Named values, in the order of their names.
    Map(BTreeMap<String, Self>),
}

impl From<&str> for Detail {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<Detail> for serde_json::Value {
    fn from(detail: Detail) -> Self {
        match detail {
            Detail::Null => Self::Null,
            Detail::Bool(value) => value.into(),
            Detail::Int(value) => value.into(),
            Detail::Float(value) => value.into(),
            Detail::Text(value) => value.into(),
            Detail::List(values) => values.into_iter().map(Self::from).collect(),
            Detail::Map(values) => {
                Self::Object(values.into_iter().map(|(name, value)| (name, Self::from(value))).collect())
            }
        }
    }
}

/// An entry before the writer numbers and chains it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditDraft {
    /// Ours, version 7.
    pub id: AuditId,
    /// When it happened, by this node's clock. Order comes from the number.
    pub created_at: Timestamp,
    /// Name of the operation (contract 9 and ours), at most 64 bytes.
    pub operation: String,
    /// Who asked; none for a worker.
    pub actor_userid: Option<String>,
    /// The site it was about.
    pub target_site_id: Option<SiteId>,
    /// That site's name at the time, so that the entry outlives the site.
    pub target_site_name: Option<String>,
    /// The host it was about.
    pub target_host_id: Option<HostId>,
    /// What else the contract names for the operation.
    pub details: BTreeMap<String, Detail>,
}

/// An entry as stored: numbered from one without gaps, each hash covering the one before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// From one, without gaps, in the order of commits.
    pub number: u64,
    /// What happened.
    pub draft: AuditDraft,
    /// See [`chain`].
    pub hash: [u8; 32],
}

/// The first fields of a stored entry, read in place: what a log is filtered by.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AuditHead<'a> {
    /// See [`AuditEntry::number`].
    pub number: u64,
    /// See [`AuditDraft::id`].
    pub id: AuditId,
    /// See [`AuditDraft::created_at`].
    pub created_at: Timestamp,
    /// See [`AuditDraft::operation`].
    pub operation: &'a str,
    /// See [`AuditDraft::actor_userid`].
    pub actor_userid: Option<&'a str>,
    /// See [`AuditDraft::target_site_id`].
    pub target_site_id: Option<SiteId>,
}

impl<'a> AuditHead<'a> {
    /// Reads the head of a stored entry's postcard bytes; none when they are not one.
    pub fn of(entry: &'a [u8]) -> Option<Self> {
        postcard::take_from_bytes(entry).ok().map(|(head, _)| head)
    }
}

/// A stored entry taken apart where it lies: what the chain is followed by, without reading the draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditParts<'a> {
    /// See [`AuditEntry::number`].
    pub number: u64,
    /// The draft's postcard bytes, as the hash covers them.
    pub draft: &'a [u8],
    /// See [`AuditEntry::hash`].
    pub hash: [u8; 32],
}

impl<'a> AuditParts<'a> {
    /// Takes a stored entry's postcard bytes apart; none when they are too short for one.
    pub fn of(entry: &'a [u8]) -> Option<Self> {
        let (number, rest) = postcard::take_from_bytes(entry).ok()?;
        let (draft, hash) = rest.split_last_chunk()?;
        Some(Self { number, draft, hash: *hash })
    }
}

/// What is asked of the audit log. All conditions must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditFilter {
    /// About exactly this site.
    pub site: Option<SiteId>,
    /// Exactly this operation.
    pub operation: Option<String>,
    /// By exactly this actor.
    pub actor_userid: Option<String>,
    /// Then or later.
    pub since: Option<Timestamp>,
    /// Earlier than then.
    pub until: Option<Timestamp>,
}

/// The hash of an entry: SHA-256 over the previous entry's hash (32 zero bytes before the first), its
/// number in little-endian, and the draft's postcard bytes.
pub fn chain(previous: &[u8; 32], number: u64, draft_bytes: &[u8]) -> [u8; 32] {
    Sha256::new()
        .chain_update(previous)
        .chain_update(number.to_le_bytes())
        .chain_update(draft_bytes)
        .finalize()
        .into()
}

/// A signed statement of a node: at this moment my audit log ended with this entry and this hash.
///
/// Others keep it. A log that was rewritten since, up to and with its hashes, does not fit what they kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The number of the last entry that it covers.
    pub number: u64,
    /// That entry's hash, which covers all entries before it.
    pub hash: [u8; 32],
    /// When it was made, by the signer's clock.
    pub at: Timestamp,
    /// Ed25519 by the node's identity key over [`Checkpoint::signed_text`]; 64 bytes.
    pub signature: Vec<u8>,
}

impl Checkpoint {
    /// What is signed: four lines, the first of which names the form.
    ///
    /// ```text
    /// hansa audit checkpoint 1
    /// <number>
    /// <hash, 64 hexadecimal digits>
    /// <at, microseconds since 1970-01-01T00:00:00Z>
    /// ```
    pub fn signed_text(&self) -> String {
        let Self { number, hash, at, signature: _ } = self;
        format!("hansa audit checkpoint 1\n{number}\n{}\n{}\n", hex(hash), at.as_micros())
    }
}

/// Why an audit log is not what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BrokenChain {
    /// The entry that should come here is another one, or missing.
    #[error("entry {number} is missing or out of place")]
    OutOfPlace {
        /// The first number that is not right.
        number: u64,
    },
    /// The entry's hash does not follow from it and the entries before it.
    #[error("entry {number} was changed")]
    Changed {
        /// The first number that is not right.
        number: u64,
    },
    /// The log is whole in itself, and not the one that was signed.
    #[error("entry {number} is not the one that a checkpoint was made of: the log was rewritten up to it")]
    Rewritten {
        /// The number that the checkpoint covers.
        number: u64,
    },
    /// The log is shorter than it was.
    #[error("the log ends at entry {last}, and a checkpoint covers entry {number}: its end was cut off")]
    CutOff {
        /// The number that the checkpoint covers.
        number: u64,
        /// The last number of the log.
        last: u64,
    },
}

/// A checkpoint of its coordinator's log that a site keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptCheckpoint {
    /// What the coordinator signed.
    pub checkpoint: Checkpoint,
    /// The identity key whose signature was verified.
    pub signer: [u8; 32],
    /// When it arrived, by the site's clock.
    pub received_at: Timestamp,
}

/// Follows a log from its first entry, and holds it against checkpoints on the way.
#[derive(Debug, Default)]
pub struct Verification {
    number: u64,
    hash: [u8; 32],
    /// By number, those that are still ahead.
    checkpoints: BTreeMap<u64, Vec<[u8; 32]>>,
    met: u64,
}

impl Verification {
    /// Begins before the first entry. The signatures of the checkpoints are the caller's to judge.
    pub fn new(checkpoints: impl IntoIterator<Item = (u64, [u8; 32])>) -> Self {
        let mut ahead: BTreeMap<u64, Vec<[u8; 32]>> = BTreeMap::new();
        for (number, hash) in checkpoints {
            ahead.entry(number).or_default().push(hash);
        }
        Self { checkpoints: ahead, ..Self::default() }
    }

    /// Begins after an entry that is known to be right.
    pub const fn after(number: u64, hash: [u8; 32]) -> Self {
        Self { number, hash, checkpoints: BTreeMap::new(), met: 0 }
    }

    /// The next entry: its number, its draft's postcard bytes, and the hash that the log gives for it.
    ///
    /// # Errors
    /// See [`BrokenChain`]; what was followed before is right.
    pub fn follow(&mut self, number: u64, draft_bytes: &[u8], hash: &[u8; 32]) -> Result<(), BrokenChain> {
        let expected = self.number + 1;
        if number != expected {
            return Err(BrokenChain::OutOfPlace { number: expected });
        }
        if chain(&self.hash, number, draft_bytes) != *hash {
            return Err(BrokenChain::Changed { number });
        }
        for signed in self.checkpoints.remove(&number).unwrap_or_default() {
            if signed != *hash {
                return Err(BrokenChain::Rewritten { number });
            }
            self.met += 1;
        }
        (self.number, self.hash) = (number, *hash);
        Ok(())
    }

    /// The end of the log. Answers with the last number, and how many checkpoints agreed.
    ///
    /// # Errors
    /// [`BrokenChain::CutOff`] when a checkpoint covers more.
    pub fn end(&self) -> Result<(u64, u64), BrokenChain> {
        match self.checkpoints.keys().next_back() {
            Some(number) if *number > self.number => {
                Err(BrokenChain::CutOff { number: *number, last: self.number })
            }
            Some(_) | None => Ok((self.number, self.met)),
        }
    }

    /// The last entry that was followed, and its hash; zero and zeros before the first.
    pub const fn place(&self) -> (u64, [u8; 32]) {
        (self.number, self.hash)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn signed_text_is_the_documented_one() {
        let checkpoint =
            Checkpoint { number: 7, hash: [0xab; 32], at: Timestamp::from_secs(60), signature: vec![1; 64] };

        let expected = format!("hansa audit checkpoint 1\n7\n{}\n60000000\n", "ab".repeat(32));

        assert_eq!(checkpoint.signed_text(), expected);
    }

    #[test]
    fn the_head_of_an_entry_is_its_first_fields() {
        let entry = entry();
        let bytes = postcard::to_stdvec(&entry).unwrap();

        let head = AuditHead::of(&bytes).unwrap();

        assert_eq!((head.number, head.id, head.created_at), (300, entry.draft.id, entry.draft.created_at));
        assert_eq!((head.operation, head.actor_userid), ("site_updated", Some("anna")));
        assert_eq!(head.target_site_id, entry.draft.target_site_id);
    }

    #[test]
    fn the_parts_of_an_entry_are_its_number_its_drafts_bytes_and_its_hash() {
        let entry = entry();
        let bytes = postcard::to_stdvec(&entry).unwrap();
        let draft = postcard::to_stdvec(&entry.draft).unwrap();

        let parts = AuditParts::of(&bytes).unwrap();

        assert_eq!(parts, AuditParts { number: 300, draft: &draft, hash: entry.hash });
        assert_eq!(AuditParts::of(&bytes[..20]), None);
    }

    fn entry() -> AuditEntry {
        AuditEntry {
            number: 300,
            draft: AuditDraft {
                id: AuditId(uuid::Uuid::from_u128(7)),
                created_at: Timestamp::from_secs(-5),
                operation: "site_updated".to_owned(),
                actor_userid: Some("anna".to_owned()),
                target_site_id: Some(SiteId(uuid::Uuid::from_u128(8))),
                target_site_name: None,
                target_host_id: None,
                details: BTreeMap::new(),
            },
            hash: [1; 32],
        }
    }

    proptest! {
        #[test]
        fn the_first_bad_entry_is_named(len in 1_usize..20, at in 0_usize..20, rehash: bool) {
            let at = at % len;
            let mut drafts: Vec<Vec<u8>> = (0..len).map(|n| vec![n as u8; 3]).collect();
            let honest = hashes(&drafts);
            drafts[at].push(0xff);
            // Without new hashes the entry itself shows; with them only what others kept does.
            let shown = if rehash { hashes(&drafts) } else { honest.clone() };
            let kept = (len as u64, honest[len - 1]);

            let (broken, _) = follow(&drafts, &shown, Some(kept));

            let expected = if rehash {
                BrokenChain::Rewritten { number: len as u64 }
            } else {
                BrokenChain::Changed { number: at as u64 + 1 }
            };
            prop_assert_eq!(broken, Some(expected));
        }
    }

    #[test]
    fn a_whole_log_agrees_with_what_was_kept_and_a_shorter_one_does_not() {
        let drafts: Vec<Vec<u8>> = (0..5).map(|n| vec![n; 3]).collect();
        let hashes = hashes(&drafts);

        let (broken, whole) = follow(&drafts, &hashes, Some((3, hashes[2])));
        let (_, shorter) = follow(&drafts[..2], &hashes[..2], Some((3, hashes[2])));

        assert_eq!(broken, None);
        assert_eq!(whole.end(), Ok((5, 1)));
        assert_eq!(shorter.end(), Err(BrokenChain::CutOff { number: 3, last: 2 }));
    }

    #[test]
    fn a_missing_entry_is_named() {
        let drafts: Vec<Vec<u8>> = (0..3).map(|n| vec![n; 3]).collect();
        let hashes = hashes(&drafts);
        let mut verification = Verification::default();

        verification.follow(1, &drafts[0], &hashes[0]).unwrap();
        let broken = verification.follow(3, &drafts[2], &hashes[2]);

        assert_eq!(broken, Err(BrokenChain::OutOfPlace { number: 2 }));
    }

    fn hashes(drafts: &[Vec<u8>]) -> Vec<[u8; 32]> {
        let mut last = [0; 32];
        let numbered = (1..).zip(drafts);
        numbered
            .map(|(number, draft)| {
                last = chain(&last, number, draft);
                last
            })
            .collect()
    }

    fn follow(
        drafts: &[Vec<u8>],
        hashes: &[[u8; 32]],
        kept: Option<(u64, [u8; 32])>,
    ) -> (Option<BrokenChain>, Verification) {
        let mut verification = Verification::new(kept);
        for (number, (draft, hash)) in (1..).zip(drafts.iter().zip(hashes)) {
            if let Err(broken) = verification.follow(number, draft, hash) {
                return (Some(broken), verification);
            }
        }
        (None, verification)
    }
}
