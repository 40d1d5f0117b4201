//! Index: name → the site that has it now, among those not removed.

use hansa_model::SiteId;

use super::Table;

/// Index: name → the site that has it now, among those not removed.
#[derive(Debug)]
pub enum SiteNames {}

impl Table for SiteNames {
    type Key = String;
    type Value = SiteId;
    const NAME: &'static str = "site_names";
}
