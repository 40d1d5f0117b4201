//! Index of the commands that have not ended: (site, command) → nothing.

use hansa_model::SiteId;
use hansa_model::id::CommandId;

use super::Table;

/// Index of the commands that have not ended: (site, command) → nothing.
#[derive(Debug)]
pub enum OpenCommands {}

impl Table for OpenCommands {
    type Key = (SiteId, CommandId);
    type Value = ();
    const NAME: &'static str = "open_commands";
}
