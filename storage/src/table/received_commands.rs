//! Commands that a site was sent: all that are open, and the newest that have ended.

use hansa_model::id::CommandId;
use hansa_model::received::ReceivedCommand;

use super::Table;

/// Commands that a site was sent: all that are open, and the newest that have ended.
#[derive(Debug)]
pub enum ReceivedCommands {}

impl Table for ReceivedCommands {
    type Key = CommandId;
    type Value = ReceivedCommand;
    const NAME: &'static str = "received_commands";
}
