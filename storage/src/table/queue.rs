//! A site's sync queue: order → entry. The latest state per deduplication key.

use hansa_model::Timestamp;
use serde::{Deserialize, Serialize};

use super::Table;

/// A site's sync queue: order → entry. The latest state per deduplication key.
#[derive(Debug)]
pub enum Queue {}

impl Table for Queue {
    type Key = u64;
    type Value = QueueEntry;
    const NAME: &'static str = "queue";
}

/// One entry of the sync queue (contract 3.5). The field order is a stored format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueEntry {
    /// What the payload is, such as `site_metadata`.
    pub payload_type: String,
    /// An entry with the same key is replaced, not added.
    pub dedup_key: String,
    /// The payload, in the encoding of its type.
    pub payload: Vec<u8>,
    /// Rises with each replacement, so that an acknowledgement of an older payload removes nothing.
    pub version: u64,
    /// When the entry was first queued.
    pub created_at: Timestamp,
    /// Permanent refusals so far.
    pub attempts: u32,
    /// When it was last sent.
    pub last_attempt_at: Option<Timestamp>,
    /// What the coordinator last refused it with.
    pub last_error: Option<String>,
}
