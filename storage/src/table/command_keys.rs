//! Index of each site's commands that were dispatched with an idempotency key: (site, command) → the key's hash.

use hansa_model::SiteId;
use hansa_model::id::CommandId;

use super::Table;

/// Index of each site's commands that were dispatched with an idempotency key: (site, command) → the key's hash.
#[derive(Debug)]
pub enum CommandKeys {}

impl Table for CommandKeys {
    type Key = (SiteId, CommandId);
    type Value = [u8; 32];
    const NAME: &'static str = "command_keys";
}
