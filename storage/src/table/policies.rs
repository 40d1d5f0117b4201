//! The coordinator's policies by id.

use hansa_model::id::PolicyId;
use hansa_model::policy::Policy;

use super::Table;

/// The coordinator's policies by id.
#[derive(Debug)]
pub enum Policies {}

impl Table for Policies {
    type Key = PolicyId;
    type Value = Policy;
    const NAME: &'static str = "policies";
}
