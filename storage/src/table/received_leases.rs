//! Leases of a site by their correlation key. Never a value.

use hansa_model::received::ReceivedLease;

use super::Table;

/// Leases of a site by their correlation key. Never a value.
#[derive(Debug)]
pub enum ReceivedLeases {}

impl Table for ReceivedLeases {
    type Key = String;
    type Value = ReceivedLease;
    const NAME: &'static str = "received_leases";
}
