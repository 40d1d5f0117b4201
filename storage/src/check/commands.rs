//! Commands and their indexes: each agrees with the others.

use std::ops::Bound;

use super::CheckReport;
use crate::error::ReadError;
use crate::read::{Order, ReadView};
use crate::table::{Commands, OpenCommands, SiteCommands, Table as _};

/// Commands read at a time: they may be large.
const PAGE: usize = 256;

/// Each command is in its site's index with its status, and among the open ones just while it is open.
pub(super) fn check(view: &ReadView, report: &mut CheckReport) -> Result<(), ReadError> {
    let mut after = Bound::Unbounded;
    loop {
        let page = view.page::<Commands>((after, Bound::Unbounded), Order::Ascending, PAGE)?;
        let Some((last, _)) = page.last() else { break };
        after = Bound::Excluded(*last);
        for (id, command) in page {
            let key = (command.target_site_id, id);
            report.require(command.id == id, Commands::NAME, || {
                format!("the row under {id} says that it is {}", command.id)
            });
            let listed = view.get::<SiteCommands>(&key)?;
            report.require(listed == Some(command.status), SiteCommands::NAME, || {
                format!("the entry of {id} does not have its status")
            });
            let open = view.contains::<OpenCommands>(&key)?;
            report.require(open == command.status.is_open(), OpenCommands::NAME, || {
                format!("{id} is {}, its entry says otherwise", command.status)
            });
        }
    }
    for ((site, id), _) in view.all::<SiteCommands>(..)? {
        let found = view.get::<Commands>(&id)?;
        let leads = found.is_some_and(|command| command.target_site_id == site);
        report.require(leads, SiteCommands::NAME, || {
            format!("an entry of {site} leads to {id}, which is not its command")
        });
    }
    for ((site, id), ()) in view.all::<OpenCommands>(..)? {
        report.require(view.contains::<SiteCommands>(&(site, id))?, OpenCommands::NAME, || {
            format!("{id} is not in the index of its site")
        });
    }
    Ok(())
}
