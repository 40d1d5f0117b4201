//! Commands that ended at a site and whose rows are gone: when they ended. For ever, so that none runs twice.

use hansa_model::Timestamp;
use hansa_model::id::CommandId;

use super::Table;

/// Commands that ended at a site and whose rows are gone: when they ended. For ever, so that none runs twice.
#[derive(Debug)]
pub enum SpentCommands {}

impl Table for SpentCommands {
    type Key = CommandId;
    type Value = Timestamp;
    const NAME: &'static str = "spent_commands";
}
