//! Checkpoints of the coordinator's audit log that this site keeps: number of the last entry covered →
//! checkpoint. The first that came under a number stays.

use hansa_model::audit::KeptCheckpoint;

use super::Table;

/// Checkpoints of the coordinator's audit log that this site keeps: number of the last entry covered →
/// checkpoint. The first that came under a number stays.
#[derive(Debug)]
pub enum CoordinatorCheckpoints {}

impl Table for CoordinatorCheckpoints {
    type Key = u64;
    type Value = KeptCheckpoint;
    const NAME: &'static str = "coordinator_checkpoints";
}
