//! Paths whose local value is served and whose backend says otherwise.

use hansa_model::secrets::id::{BackendId, ConflictId};
use hansa_model::secrets::row::Conflict;

use super::Table;

/// Paths whose local value is served and whose backend says otherwise.
#[derive(Debug)]
pub enum SecretConflicts {}

impl Table for SecretConflicts {
    type Key = (BackendId, ConflictId);
    type Value = Conflict;
    const NAME: &'static str = "secret_conflicts";
}
