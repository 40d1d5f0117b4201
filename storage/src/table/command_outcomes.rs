//! What a command did at its hosts: (command, chunk) → outcomes, in the order of host ids.

use hansa_model::command::HostOutcome;
use hansa_model::id::CommandId;

use super::Table;

/// What a command did at its hosts: (command, chunk) → outcomes, in the order of host ids.
#[derive(Debug)]
pub enum CommandOutcomes {}

impl Table for CommandOutcomes {
    type Key = (CommandId, u32);
    type Value = Vec<HostOutcome>;
    const NAME: &'static str = "command_outcomes";
}
