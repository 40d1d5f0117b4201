//! Alerts, open and resolved; ids sort by the time at which they began.

use hansa_model::alert::Alert;
use hansa_model::id::AlertId;

use super::Table;

/// Alerts, open and resolved; ids sort by the time at which they began.
#[derive(Debug)]
pub enum Alerts {}

impl Table for Alerts {
    type Key = AlertId;
    type Value = Alert;
    const NAME: &'static str = "alerts";
}
