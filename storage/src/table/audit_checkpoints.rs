//! Checkpoints that this node has made of its own audit log: number of the last entry covered → checkpoint.

use hansa_model::audit::Checkpoint;

use super::Table;

/// Checkpoints that this node has made of its own audit log: number of the last entry covered → checkpoint.
#[derive(Debug)]
pub enum AuditCheckpoints {}

impl Table for AuditCheckpoints {
    type Key = u64;
    type Value = Checkpoint;
    const NAME: &'static str = "audit_checkpoints";
}
