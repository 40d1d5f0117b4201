//! Rollouts of policies: (policy, rollout), oldest first.

use hansa_model::id::{PolicyId, RolloutId};
use hansa_model::policy::Rollout;

use super::Table;

/// Rollouts of policies: (policy, rollout), oldest first.
#[derive(Debug)]
pub enum Rollouts {}

impl Table for Rollouts {
    type Key = (PolicyId, RolloutId);
    type Value = Rollout;
    const NAME: &'static str = "rollouts";
}
