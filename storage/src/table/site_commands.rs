//! Index of each site's commands: (site, command) → status.

use hansa_model::SiteId;
use hansa_model::command::CommandStatus;
use hansa_model::id::CommandId;

use super::Table;

/// Index of each site's commands: (site, command) → status.
#[derive(Debug)]
pub enum SiteCommands {}

impl Table for SiteCommands {
    type Key = (SiteId, CommandId);
    type Value = CommandStatus;
    const NAME: &'static str = "site_commands";
}
