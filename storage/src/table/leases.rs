//! Leases of short-lived credentials, by their time-ordered id. Never a credential.

use hansa_model::id::LeaseId;
use hansa_model::lease::Lease;

use super::Table;

/// Leases of short-lived credentials, by their time-ordered id. Never a credential.
#[derive(Debug)]
pub enum Leases {}

impl Table for Leases {
    type Key = LeaseId;
    type Value = Lease;
    const NAME: &'static str = "leases";
}
