//! Index: type and name of a policy → the policy, inactive ones included.

use hansa_model::id::PolicyId;

use super::Table;

/// Index: type and name of a policy → the policy, inactive ones included.
///
/// The key is the type, a zero byte and the name: neither holds control characters, so it is unique and
/// sorts as the contract lists policies.
#[derive(Debug)]
pub enum PolicyNames {}

impl PolicyNames {
    /// The key of a policy's type and name.
    pub fn key(policy_type: &str, name: &str) -> String {
        format!("{policy_type}\0{name}")
    }
}

impl Table for PolicyNames {
    type Key = String;
    type Value = PolicyId;
    const NAME: &'static str = "policy_names";
}
