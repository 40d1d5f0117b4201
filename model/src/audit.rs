//! The audit log: what an operator or worker did, chained by hash.
//!
//! A mutation's entry is part of the mutation's batch: no effect without its entry, no entry without its
//! effect. The writer gives it its number and chains it; nobody else writes the log.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

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
