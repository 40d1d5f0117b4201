//! Commands of the coordinator: id → command. Ids sort as dispatched, so the newest are at the end.

use hansa_model::command::Command;
use hansa_model::id::CommandId;

use super::Table;

/// Commands of the coordinator: id → command. Ids sort as dispatched, so the newest are at the end.
#[derive(Debug)]
pub enum Commands {}

impl Table for Commands {
    type Key = CommandId;
    type Value = Command;
    const NAME: &'static str = "commands";
}
