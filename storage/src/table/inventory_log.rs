//! Changes of a site's own hosts, in the order of commits: position → host changes.

use hansa_model::HostChange;

use super::Log;
use crate::error::RecordError;

/// Changes of a site's own hosts, in the order of commits: position → `Vec<HostChange>` in postcard.
#[derive(Debug)]
pub enum InventoryLog {}

impl Log for InventoryLog {
    const NAME: &'static str = "inventory_log";

    fn check(version: u8, body: &[u8]) -> Result<(), RecordError> {
        if version != Self::VERSION {
            return Err(RecordError::UnknownVersion { version });
        }
        postcard::from_bytes::<Vec<HostChange<&str>>>(body).map(drop).map_err(|_| RecordError::Malformed)
    }
}
