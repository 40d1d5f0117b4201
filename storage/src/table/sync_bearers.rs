//! Index: SHA-256 of a bearer → the site that presents it.

use hansa_model::SiteId;

use super::Table;

/// Index: SHA-256 of a bearer → the site that presents it.
#[derive(Debug)]
pub enum SyncBearers {}

impl Table for SyncBearers {
    type Key = [u8; 32];
    type Value = SiteId;
    const NAME: &'static str = "sync_bearers";
}
