//! What the coordinator forgets: commands that ended long ago, with their outcomes and idempotency keys.
//!
//! A command that has ended never changes again (`machine::command`), so no site's actor is asked: those of
//! removed sites have none.

use hansa_model::command;
use hansa_model::id::CommandId;
use hansa_model::limits::command as limits;
use hansa_model::machine::command as machine;
use hansa_model::{SiteId, Timestamp};
use hansa_storage::{Batch, Lane, Order, ReadError, ReadView, table};
use tracing::debug;
use uuid::Uuid;

use super::CoordinatorActor;

impl CoordinatorActor {
    /// Forgets some of the commands that ended long ago. Whether there may be more of them.
    pub(super) async fn forget_commands(&self) -> bool {
        let context = &self.coordinator.context;
        let before = context.now().before(context.config.commands_kept.max(limits::KEPT_MIN));
        let forgotten = context.store.read().and_then(|view| forgotten(&view, before));
        let (batch, count) = match forgotten {
            Ok(forgotten) => forgotten,
            Err(error) => {
                debug!(%error, "old commands not read; the next pass tries again");
                return false;
            }
        };
        if count == 0 {
            return false;
        }
        match context.store_batch(Lane::Control, batch).await {
            Ok(_) => count == limits::FORGOTTEN_MAX,
            Err(error) => {
                debug!(%error, "old commands not forgotten; the next pass tries again");
                false
            }
        }
    }
}

/// The commit that forgets the first commands that ended before this instant, and how many they are.
fn forgotten(view: &ReadView, before: Timestamp) -> Result<(Batch, usize), ReadError> {
    let mut batch = Batch::new();
    let mut count = 0;
    for (site, _) in view.all::<table::Sites>(..)? {
        let old = (site, CommandId(Uuid::nil()))..=(site, command::first_id(before));
        // Commands that are old and open, or ended lately, are not more than could be open.
        let oldest = view.page::<table::SiteCommands>(
            old,
            Order::Ascending,
            limits::OPEN_MAX + limits::FORGOTTEN_MAX,
        )?;
        for ((_, id), status) in oldest {
            if status.is_open() {
                continue;
            }
            let ended = view.get::<table::Commands>(&id)?;
            if ended.is_some_and(|command| machine::is_forgotten(&command, before)) {
                forget(view, &mut batch, site, id)?;
                count += 1;
            }
            if count == limits::FORGOTTEN_MAX {
                return Ok((batch, count));
            }
        }
    }
    Ok((batch, count))
}

fn forget(view: &ReadView, batch: &mut Batch, site: SiteId, id: CommandId) -> Result<(), ReadError> {
    batch.delete::<table::Commands>(&id).delete::<table::SiteCommands>(&(site, id));
    batch.delete_range::<table::CommandOutcomes>((id, 0)..=(id, u32::MAX));
    let Some(key) = view.get::<table::CommandKeys>(&(site, id))? else { return Ok(()) };
    batch.delete::<table::CommandKeys>(&(site, id));
    // A key that was used again since belongs to its newer command.
    if let Some(stored) = view.get::<table::DispatchKeys>(&key)?.filter(|stored| stored.command_id == id) {
        batch.expect::<table::DispatchKeys>(&key, &stored).delete::<table::DispatchKeys>(&key);
    }
    Ok(())
}
