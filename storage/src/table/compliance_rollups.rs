//! Each site's series of scores: (site, baseline, number) → snapshot.

use hansa_model::SiteId;
use hansa_model::rollup::ComplianceRollup;

use super::Table;
use crate::codec::Named;

/// Each site's series of scores: (site, baseline, number) → snapshot.
#[derive(Debug)]
pub enum ComplianceRollups {}

impl Table for ComplianceRollups {
    type Key = (SiteId, Named<u64>);
    type Value = ComplianceRollup;
    const NAME: &'static str = "compliance_rollups";
}
