//! What each site last reported, and how far its stream is applied.

use hansa_model::SiteId;
use hansa_model::site::SiteSync;

use super::Table;

/// What each site last reported, and how far its stream is applied.
#[derive(Debug)]
pub enum SiteSyncs {}

impl Table for SiteSyncs {
    type Key = SiteId;
    type Value = SiteSync;
    const NAME: &'static str = "site_sync";
}
