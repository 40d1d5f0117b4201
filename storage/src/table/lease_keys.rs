//! Index: a site's correlation key → the lease that answers it.

use hansa_model::SiteId;
use hansa_model::id::LeaseId;

use super::Table;

/// Index: a site's correlation key → the lease that answers it.
#[derive(Debug)]
pub enum LeaseKeys {}

impl Table for LeaseKeys {
    type Key = (SiteId, String);
    type Value = LeaseId;
    const NAME: &'static str = "lease_keys";
}
