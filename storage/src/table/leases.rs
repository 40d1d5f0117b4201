//! Leases of short-lived credentials, by their time-ordered id. Never a credential.

use hansa_model::id::LeaseId;
use hansa_model::lease::Lease;

use super::Table;
use crate::error::RecordError;

/// Leases of short-lived credentials, by their time-ordered id. Never a credential.
#[derive(Debug)]
pub enum Leases {}

impl Table for Leases {
    type Key = LeaseId;
    type Value = Lease;
    const NAME: &'static str = "leases";
    const VERSION: u8 = 2;

    /// Version 1 had no leftovers, its last member: an empty list is one byte.
    fn decode(version: u8, body: &[u8]) -> Result<Lease, RecordError> {
        let body = match version {
            1 => [body, &[0]].concat(),
            Self::VERSION => body.to_vec(),
            _ => return Err(RecordError::UnknownVersion { version }),
        };
        postcard::from_bytes(&body).map_err(|_| RecordError::Malformed)
    }
}
