//! Index: (site, number of the condition) → its open alert, so that there is at most one.

use hansa_model::SiteId;
use hansa_model::id::AlertId;

use super::Table;

/// Index: (site, number of the condition) → its open alert, so that there is at most one.
#[derive(Debug)]
pub enum OpenAlerts {}

impl Table for OpenAlerts {
    type Key = (SiteId, u32);
    type Value = AlertId;
    const NAME: &'static str = "open_alerts";
}
