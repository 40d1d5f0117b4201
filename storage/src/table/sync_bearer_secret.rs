//! The bearer that this site presents to its coordinator, sealed, under the key `self`.

use super::{SealedTable, Table};
use crate::seal::Envelope;

/// The bearer that this site presents to its coordinator, sealed, under the key `self`.
#[derive(Debug)]
pub enum SyncBearerSecret {}

impl Table for SyncBearerSecret {
    type Key = String;
    type Value = Envelope;
    const NAME: &'static str = "sync_bearer_secret";
}

impl SealedTable for SyncBearerSecret {}
