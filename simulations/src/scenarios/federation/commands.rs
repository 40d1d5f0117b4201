//! The operator's commands: to one site or to many, with and without an end, and sometimes taken back.

use std::collections::BTreeMap;
use std::time::Duration;

use hansa_actors::error::{CancelError, DispatchError};
use hansa_actors::view::{BulkTarget, CommandFilter, Dispatched, IdempotencyKey};
use hansa_model::command::{Command, NewCommand};
use hansa_model::machine::command::DispatchRefusal;
use hansa_model::site::SiteStatus;
use hansa_model::{HostId, SiteId};

use super::connector::{EACH, Going, UNSERVED, WHOLE, parameters};
use super::coordinator::Coordinator;

/// More commands than a run makes.
const COMMANDS_MAX: usize = 100_000;

/// What the operator asks for.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    /// A number for the key, and for the operator's own notes.
    number: u64,
    keyed: bool,
    target: Target,
    command: NewCommand,
}

#[derive(Debug, Clone)]
enum Target {
    Site(SiteId),
    Sites(Vec<SiteId>),
    Searched,
}

impl Coordinator {
    /// Shows the coordinator's commands, and checks them. Answers how many are open.
    pub(super) fn show_commands(&self) -> anyhow::Result<usize> {
        let commands = self.all_commands(false)?;
        let said: BTreeMap<_, _> = commands.iter().map(|command| (command.id, command.status)).collect();
        if let Err(broken) = self.books.open().dispatched.check(&said) {
            self.env.observer.violation(&broken);
        }
        Ok(said.values().filter(|status| status.is_open()).count())
    }

    fn all_commands(&self, open_only: bool) -> anyhow::Result<Vec<Command>> {
        let filter = CommandFilter { open_only, limit: COMMANDS_MAX, ..CommandFilter::default() };
        Ok(self.federation.commands(&self.operator, &filter)?)
    }

    /// Compares what became of each command with what the connectors gave.
    pub(super) fn check_commands(&self) -> anyhow::Result<()> {
        for command in self.all_commands(false)?.iter().filter(|command| !command.status.is_open()) {
            let (id, site) = (command.id, command.target_site_id);
            let outcomes = self.federation.command_outcomes(&self.operator, id, None, COMMANDS_MAX, 0)?;
            let books = self.books.open();
            let page = books.sites.values().find(|page| page.id() == Some(site));
            let Some(page) = page else { continue };
            if let Err(broken) = page.runs.check(command, &outcomes.outcomes) {
                self.env.observer.violation(&broken);
            }
        }
        Ok(())
    }

    /// Now and then the operator wants something done, or not done after all.
    pub(super) async fn command(&mut self) -> anyhow::Result<()> {
        let unanswered = self.books.open().unanswered.take();
        if let Some(wish) = unanswered {
            self.dispatch(wish).await;
        } else if self.dice.chance(0.08)
            && let Some(wish) = self.wish()
        {
            self.dispatch(wish.clone()).await;
            // An answer that its caller never saw.
            if wish.keyed && self.dice.chance(0.3) {
                self.books.open().unanswered = Some(wish);
            }
        }
        if self.dice.chance(0.03) {
            let open = self.all_commands(true)?;
            if !open.is_empty() {
                let command = open[self.dice.index(open.len())].id;
                let answer = self.federation.cancel_command(&self.operator, command).await;
                self.env.observer.event(&format!("cancels {command}: {}", answer.is_ok()));
                if let Err(error @ (CancelError::NotFound(_) | CancelError::WrongRole(_))) = answer {
                    self.env.observer.violation(&format!("cancel: {error}"));
                }
            }
        }
        Ok(())
    }

    fn wish(&mut self) -> Option<Wish> {
        let mut enrolled = self.sites();
        enrolled.retain(|view| view.site.status == SiteStatus::Enrolled);
        if enrolled.is_empty() {
            return None;
        }
        let site = enrolled[self.dice.index(enrolled.len())].site.id;
        let all = enrolled.iter().map(|view| view.site.id).collect();
        let mut target_host_ids = Vec::new();
        let target = match self.dice.below(6) {
            0 => Target::Sites(all),
            1 => Target::Searched,
            number => {
                if number == 2 {
                    target_host_ids = self.some_hosts(site);
                }
                Target::Site(site)
            }
        };
        let kind = [WHOLE, WHOLE, EACH, EACH, UNSERVED][self.dice.index(5)];
        let going = [Going::Well, Going::Well, Going::Mixed, Going::Badly][self.dice.index(4)];
        let most = if self.dice.chance(0.2) { 30 } else { 2 };
        let takes = self.dice.span(Duration::ZERO, Duration::from_secs(most));
        let life = self.dice.span(Duration::from_secs(2), Duration::from_secs(60));
        let expires_at = self.dice.chance(0.3).then(|| self.federation.now().after(life));
        let number = self.books.open().draw();
        let keyed = self.dice.chance(0.7);
        let command = NewCommand {
            command_type: kind.to_owned(),
            parameters: Some(parameters(takes, going)),
            target_host_ids,
            expires_at,
        };
        Some(Wish { number, keyed, target, command })
    }

    /// Some hosts of a site, and sometimes one that nobody knows.
    fn some_hosts(&mut self, site: SiteId) -> Vec<HostId> {
        let mut hosts: Vec<HostId> = {
            let books = self.books.open();
            let rows = books.coordinator.as_ref().and_then(|shown| shown.rows.get(&site));
            rows.map(|hosts| hosts.keys().copied().collect()).unwrap_or_default()
        };
        hosts.retain(|_| self.dice.chance(0.2));
        if self.dice.chance(0.3) {
            hosts.push(HostId(uuid::Uuid::max()));
        }
        hosts
    }

    async fn dispatch(&self, wish: Wish) {
        let text = wish.number.to_string();
        let key = wish.keyed.then(|| IdempotencyKey { key: &text, body: b"the same" });
        let command = wish.command.clone();
        let (federation, operator) = (&self.federation, &self.operator);
        // Its caller may be gone before the answer: then the wish stands in the books.
        if wish.keyed {
            self.books.open().unanswered = Some(wish.clone());
        }
        let target = match &wish.target {
            Target::Site(site) => {
                let answer = federation.dispatch_command(operator, *site, command, key).await;
                return self.note_dispatch(&wish, answer.map(|answer| vec![answer]));
            }
            Target::Sites(sites) => BulkTarget::Sites(sites.clone()),
            Target::Searched => BulkTarget::Hosts(None, Box::default()),
        };
        let rows = federation.dispatch_bulk(operator, target, command, key, false).await;
        match rows {
            Err(error) => self.note_dispatch(&wish, Err(error)),
            Ok(rows) => {
                for row in rows {
                    self.note_dispatch(&wish, row.outcome.map(|row| row.into_iter().collect()));
                }
            }
        }
    }

    fn note_dispatch(&self, wish: &Wish, answer: Result<Vec<Dispatched>, DispatchError>) {
        let mut books = self.books.open();
        let unavailable = matches!(answer, Err(DispatchError::Unavailable(_)));
        let single = matches!(wish.target, Target::Site(_));
        if !(unavailable && single) {
            books.unanswered = None;
        }
        match answer {
            Ok(dispatched) => {
                for Dispatched { command, replayed } in dispatched {
                    self.env.observer.event(&format!("dispatches {} {replayed}", command.id));
                    let key = (wish.keyed && single).then_some(wish.number);
                    if let Err(broken) = books.dispatched.dispatched(command.id, command.status, key) {
                        self.env.observer.violation(&broken);
                    }
                }
            }
            Err(error) => {
                self.env.observer.event(&format!("dispatch: {error}"));
                // An expiry that has passed while the wish waited for its answer, or hosts of a site on hold.
                let late = wish.command.expires_at.is_some_and(|end| end <= self.federation.now());
                let on_hold = DispatchError::Refused(DispatchRefusal::Status(SiteStatus::Suspended));
                if !unavailable && !late && error != on_hold {
                    self.env.observer.violation(&format!("dispatch: {error}"));
                }
            }
        }
    }
}
