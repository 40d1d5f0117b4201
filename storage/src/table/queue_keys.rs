//! Index: deduplication key → order of the queued entry that has it.

use super::Table;

/// Index: deduplication key → order of the queued entry that has it.
#[derive(Debug)]
pub enum QueueKeys {}

impl Table for QueueKeys {
    type Key = String;
    type Value = u64;
    const NAME: &'static str = "queue_keys";
}
