//! Index: a site's leases with something left to do.

use hansa_model::SiteId;
use hansa_model::id::LeaseId;

use super::Table;

/// Index: a site's leases with something left to do.
#[derive(Debug)]
pub enum OpenLeases {}

impl Table for OpenLeases {
    type Key = (SiteId, LeaseId);
    type Value = ();
    const NAME: &'static str = "open_leases";
}
