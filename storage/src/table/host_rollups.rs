//! Each site's series of host rollups: (site, number) → snapshot.

use hansa_model::SiteId;
use hansa_model::site::HostRollup;

use super::Table;

/// Each site's series of host rollups: (site, number) → snapshot.
#[derive(Debug)]
pub enum HostRollups {}

impl Table for HostRollups {
    type Key = (SiteId, u64);
    type Value = HostRollup;
    const NAME: &'static str = "host_rollups";
}
