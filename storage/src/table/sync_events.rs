//! Each site's sync timeline: (site, number) → event.

use hansa_model::SiteId;
use hansa_model::site::SyncEvent;

use super::Table;

/// Each site's sync timeline: (site, number) → event.
#[derive(Debug)]
pub enum SyncEvents {}

impl Table for SyncEvents {
    type Key = (SiteId, u64);
    type Value = SyncEvent;
    const NAME: &'static str = "sync_events";
}
