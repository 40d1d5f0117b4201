//! A command that was acknowledged is there after any restart, under its key once, and ends once.

use std::collections::BTreeMap;

use hansa_model::command::CommandStatus;
use hansa_model::id::CommandId;

/// What the coordinator may say of its commands.
#[derive(Debug, Clone, Default)]
pub struct AcknowledgedCommands {
    known: BTreeMap<CommandId, CommandStatus>,
    keys: BTreeMap<u64, CommandId>,
}

impl AcknowledgedCommands {
    /// An operator was told that a command is dispatched, under a key or without one.
    ///
    /// # Errors
    /// When the key has dispatched another command before.
    pub fn dispatched(
        &mut self,
        id: CommandId,
        status: CommandStatus,
        key: Option<u64>,
    ) -> Result<(), String> {
        self.known.entry(id).or_insert(status);
        let before = key.and_then(|key| self.keys.insert(key, id));
        match before.filter(|before| *before != id) {
            Some(before) => Err(format!("a repeat dispatched {id} besides {before}")),
            None => Ok(()),
        }
    }

    /// Compares with all commands that the coordinator has now.
    ///
    /// # Errors
    /// When one is gone, or one that had ended did not stay as it ended.
    pub fn check(&mut self, said: &BTreeMap<CommandId, CommandStatus>) -> Result<(), String> {
        for (id, known) in &self.known {
            let Some(found) = said.get(id) else { return Err(format!("command {id} is gone")) };
            if !known.is_open() && found != known {
                return Err(format!("command {id} was {known} and is {found}"));
            }
        }
        self.known.clone_from(said);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: CommandId = CommandId(uuid::Uuid::nil());
    const OTHER: CommandId = CommandId(uuid::Uuid::max());

    fn said(status: CommandStatus) -> BTreeMap<CommandId, CommandStatus> {
        BTreeMap::from([(ID, status)])
    }

    #[test]
    fn an_acknowledged_command_is_there() {
        let mut commands = AcknowledgedCommands::default();
        commands.dispatched(ID, CommandStatus::QueuedAtSite, None).unwrap();

        assert!(commands.check(&BTreeMap::new()).is_err());
        assert!(commands.check(&said(CommandStatus::InProgress)).is_ok());
    }

    #[test]
    fn a_command_that_has_ended_stays_as_it_ended() {
        let mut commands = AcknowledgedCommands::default();
        commands.check(&said(CommandStatus::InProgress)).unwrap();
        commands.check(&said(CommandStatus::Failed)).unwrap();

        assert!(commands.check(&said(CommandStatus::Completed)).is_err());
    }

    #[test]
    fn a_key_dispatches_one_command() {
        let mut commands = AcknowledgedCommands::default();
        commands.dispatched(ID, CommandStatus::QueuedAtSite, Some(1)).unwrap();

        assert!(commands.dispatched(ID, CommandStatus::InProgress, Some(1)).is_ok());
        assert!(commands.dispatched(OTHER, CommandStatus::QueuedAtSite, Some(1)).is_err());
    }
}
