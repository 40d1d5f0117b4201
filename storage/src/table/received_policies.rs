//! What a site holds of its coordinator's policies.

use hansa_model::id::PolicyId;
use hansa_model::received::ReceivedPolicy;

use super::Table;

/// What a site holds of its coordinator's policies.
#[derive(Debug)]
pub enum ReceivedPolicies {}

impl Table for ReceivedPolicies {
    type Key = PolicyId;
    type Value = ReceivedPolicy;
    const NAME: &'static str = "received_policies";
}
