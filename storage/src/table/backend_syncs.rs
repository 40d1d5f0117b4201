//! What each backend's syncs left behind.

use hansa_model::secrets::id::BackendId;
use hansa_model::secrets::row::SyncState;

use super::Table;

/// What each backend's syncs left behind.
#[derive(Debug)]
pub enum BackendSyncs {}

impl Table for BackendSyncs {
    type Key = BackendId;
    type Value = SyncState;
    const NAME: &'static str = "backend_syncs";
}
