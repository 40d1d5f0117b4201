//! Policies on paths, by tenant and id.

use hansa_model::secrets::id::PathPolicyId;
use hansa_model::secrets::policy::PathPolicy;

use super::Table;
use crate::codec::Named;

/// Policies on paths, by tenant and id.
#[derive(Debug)]
pub enum PathPolicies {}

impl Table for PathPolicies {
    type Key = Named<PathPolicyId>;
    type Value = PathPolicy;
    const NAME: &'static str = "path_policies";
}
