//! What operators have set of the alert thresholds; one record.

use hansa_model::alert::Overrides;

use super::Table;

/// What operators have set of the alert thresholds; one record.
#[derive(Debug)]
pub enum AlertOverrides {}

impl Table for AlertOverrides {
    type Key = String;
    type Value = Overrides;
    const NAME: &'static str = "alert_overrides";
}
