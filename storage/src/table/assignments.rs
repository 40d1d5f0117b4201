//! What each site should hold: (site, policy) → how far it is.

use hansa_model::SiteId;
use hansa_model::id::PolicyId;
use hansa_model::policy::Assignment;

use super::Table;

/// What each site should hold: (site, policy) → how far it is.
#[derive(Debug)]
pub enum Assignments {}

impl Table for Assignments {
    type Key = (SiteId, PolicyId);
    type Value = Assignment;
    const NAME: &'static str = "assignments";
}

/// Index: (policy, site) of every row of [`Assignments`].
#[derive(Debug)]
pub enum PolicySites {}

impl Table for PolicySites {
    type Key = (PolicyId, SiteId);
    type Value = ();
    const NAME: &'static str = "policy_sites";
}
