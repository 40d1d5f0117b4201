//! The site's commands: dispatched here, pushed, and ended by the site's result.
//!
//! Shell around `machine::command`. Held in memory are the commands that have not ended; the others are read
//! when somebody asks. A command is in the cache, and due, only once it is on disk.

use hansa_model::SiteStatus;
use hansa_model::audit::Detail;
use hansa_model::command::{self, Command, HostOutcome, KeyedDispatch, NewCommand};
use hansa_model::id::CommandId;
use hansa_model::limits::command as limits;
use hansa_model::machine::command::{self as machine, Decision, ReportRefusal};
use hansa_model::machine::delivery::{Failed, PushKey};
use hansa_model::machine::registry::Entry;
use hansa_model::push::PushContent;
use hansa_model::report::CommandReport;
use hansa_model::scope::Operator;
use hansa_storage::{Batch, CommitError, Lane, Order, ReadError, ReadView, table};
use tracing::debug;

use super::reports::ReportEffect;
use super::{SiteActor, SiteState};
use crate::error::{CancelError, CommandNotFound, DispatchError, IngestError, Unavailable};
use crate::view::{Dispatched, ReportAnswer};

/// A command to dispatch, with the key that it takes effect once under.
#[derive(Debug)]
pub(crate) struct Dispatch {
    pub(crate) command: NewCommand,
    pub(crate) key: Option<KeyHash>,
}

/// An idempotency key as it is stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyHash {
    /// SHA-256 over the operator and the key.
    pub(crate) key: [u8; 32],
    /// SHA-256 of the request's body.
    pub(crate) body: [u8; 32],
}

impl SiteActor {
    pub(super) fn load_commands(&self, view: &ReadView, state: &mut SiteState) -> Result<(), ReadError> {
        let site = state.site.id;
        for ((_, id), ()) in view.all::<table::OpenCommands>(of_site(site))? {
            let Some(command) = view.get::<table::Commands>(&id)? else { continue };
            if let Some(version) = machine::wanted(&command) {
                let key = PushKey::Command(id);
                let tried_at = command.last_push_attempt_at.filter(|_| command.push_attempts > 0);
                state.deliveries.want(key, version, command.push_refusals, tried_at);
                state.deliveries.may_have_been_sent(key);
            }
            state.commands.insert(id, command);
        }
        Ok(())
    }

    pub(super) fn command_content(
        &self,
        _view: &ReadView,
        state: &SiteState,
        command: CommandId,
    ) -> Result<Option<PushContent>, ReadError> {
        let command = state.commands.get(&command);
        Ok(command.and_then(|command| machine::content(command).or_else(|| machine::question(command))))
    }

    /// A link is up: asks what became of the commands that the site has confirmed.
    pub(super) fn ask_about_commands(&self, state: &mut SiteState) {
        for command in state.commands.values().filter(|command| machine::question(command).is_some()) {
            state.deliveries.want(PushKey::Command(command.id), machine::QUESTION, 0, None);
        }
    }

    pub(super) async fn command_taken(
        &self,
        state: &mut SiteState,
        command: CommandId,
        version: u64,
    ) -> Result<(), Unavailable> {
        let Some(held) = state.commands.get(&command) else { return Ok(()) };
        let decision = machine::pushed(held, self.context.now(), version);
        self.store_command(state, decision, None, Lane::Push).await.map(drop)
    }

    pub(super) async fn command_failed(
        &self,
        state: &mut SiteState,
        command: CommandId,
        failed: &Failed,
        error: &str,
    ) -> Result<(), Unavailable> {
        let Some(held) = state.commands.get(&command) else { return Ok(()) };
        let decision = machine::push_failed(held, self.context.now(), failed, error);
        let mut batch = Batch::new();
        self.put_command(&mut batch, state, &decision, None);
        self.context.commit(Lane::Push, batch).await?;
        // The delivery itself has counted the try already.
        if decision.command.status.is_open() {
            state.commands.insert(command, decision.command);
        } else {
            state.hold_command(decision.command);
        }
        Ok(())
    }

    /// A new command. Durable on return, and due.
    pub(super) async fn dispatch(
        &self,
        state: &mut SiteState,
        dispatch: Dispatch,
        operator: &Operator,
    ) -> Result<Dispatched, DispatchError> {
        let now = self.context.now();
        let known = match dispatch.key {
            Some(key) => self.dispatched_before(&key)?,
            None => None,
        };
        if let Some((_, Some(command))) = known {
            return Ok(Dispatched { command, replayed: true });
        }
        let id = command::new_id(now, &*self.context.entropy);
        let reported = state.sync.sysmanage_version.as_deref();
        let open = state.commands.len();
        let decision =
            machine::dispatch(id, now, &state.site, reported, open, dispatch.command, &operator.userid)?;
        let mut batch = Batch::new();
        batch.put::<table::SiteCommands>(&(state.site.id, id), &decision.command.status);
        batch.put::<table::OpenCommands>(&(state.site.id, id), &());
        self.put_command(&mut batch, state, &decision, Some(operator));
        if let Some(KeyHash { key, body }) = dispatch.key {
            self.sweep_keys(&mut batch, state, &key)?;
            // Another site's actor may take the same key in this very moment.
            match known {
                Some((old, _)) => batch.expect::<table::DispatchKeys>(&key, &old),
                None => batch.expect_absent::<table::DispatchKeys>(&key),
            };
            batch.put::<table::DispatchKeys>(&key, &KeyedDispatch { body, command_id: id, at: now });
            batch.put::<table::CommandKeys>(&(state.site.id, id), &key);
        }
        match self.context.store_batch(Lane::Operator, batch).await {
            Ok(_) => {
                state.hold_command(decision.command.clone());
                Ok(Dispatched { command: decision.command, replayed: false })
            }
            Err(CommitError::PreconditionFailed { .. }) => Err(DispatchError::KeyReused),
            Err(error) => Err(Unavailable::from(error).into()),
        }
    }

    /// Forgets some of the site's idempotency keys that are too old; `kept` is written anew in the same batch.
    fn sweep_keys(&self, batch: &mut Batch, state: &SiteState, kept: &[u8; 32]) -> Result<(), DispatchError> {
        let site = state.site.id;
        let view = self.context.store.read().map_err(|_| Unavailable::Storage)?;
        let oldest = view
            .page::<table::CommandKeys>(of_site(site), Order::Ascending, limits::IDEMPOTENCY_KEYS_SWEPT)
            .map_err(|_| Unavailable::Storage)?;
        for ((_, id), key) in oldest {
            let stored = view.get::<table::DispatchKeys>(&key).map_err(|_| Unavailable::Storage)?;
            // A key that was used again since belongs to its newer command.
            if let Some(stored) = stored.filter(|stored| stored.command_id == id) {
                if stored.at.after(limits::IDEMPOTENCY_AGE_MAX) > self.context.now() {
                    break;
                }
                if key != *kept {
                    batch.delete::<table::DispatchKeys>(&key);
                }
            }
            batch.delete::<table::CommandKeys>(&(site, id));
        }
        Ok(())
    }

    /// What is stored under an idempotency key, with its command while the key is remembered.
    fn dispatched_before(
        &self,
        key: &KeyHash,
    ) -> Result<Option<(KeyedDispatch, Option<Command>)>, DispatchError> {
        let view = self.context.store.read().map_err(|_| Unavailable::Storage)?;
        let stored = view.get::<table::DispatchKeys>(&key.key).map_err(|_| Unavailable::Storage)?;
        let Some(stored) = stored else { return Ok(None) };
        if stored.at.after(limits::IDEMPOTENCY_AGE_MAX) <= self.context.now() {
            return Ok(Some((stored, None)));
        }
        if stored.body != key.body {
            return Err(DispatchError::KeyReused);
        }
        let command = view.get::<table::Commands>(&stored.command_id).map_err(|_| Unavailable::Storage)?;
        Ok(Some((stored, command)))
    }

    /// An operator wants a command stopped. Durable on return.
    pub(super) async fn cancel_command(
        &self,
        state: &mut SiteState,
        command: CommandId,
        operator: &Operator,
    ) -> Result<Command, CancelError> {
        let now = self.context.now();
        let Some(held) = state.commands.get(&command) else {
            let view = self.context.store.read().map_err(|_| Unavailable::Storage)?;
            let ended = view.get::<table::Commands>(&command).map_err(|_| Unavailable::Storage)?;
            let ended = ended.ok_or(CommandNotFound(command))?;
            return Err(machine::CancelRefusal(ended.status).into());
        };
        let unsent = !state.deliveries.was_sent(PushKey::Command(command));
        let decision = machine::cancel(held, now, unsent)?;
        Ok(self.store_command(state, decision, Some(operator), Lane::Operator).await?)
    }

    /// Documented results, each with its own answer. Durable on return.
    pub(super) async fn command_results(
        &self,
        state: &mut SiteState,
        reports: Vec<CommandReport>,
    ) -> Result<Vec<ReportAnswer>, IngestError> {
        self.contact(state).await?;
        let mut batch = Batch::new();
        let mut effects = Vec::with_capacity(reports.len());
        let mut answers = Vec::with_capacity(reports.len());
        for report in reports {
            let (effect, answer) = self.put_command_report(&mut batch, state, &effects, &report)?;
            effects.push(effect);
            answers.push(answer);
        }
        if !batch.is_empty() {
            self.context.commit(Lane::Push, batch).await?;
        }
        self.take_effects(state, effects);
        Ok(answers)
    }

    /// A site's word on a command, whichever way it came. `earlier` are effects that are not in the state yet.
    pub(super) fn put_command_report(
        &self,
        batch: &mut Batch,
        state: &SiteState,
        earlier: &[ReportEffect],
        report: &CommandReport,
    ) -> Result<(ReportEffect, ReportAnswer), IngestError> {
        let id = report.command_id;
        let staged = earlier.iter().rev().find_map(|effect| {
            let ReportEffect::Command(command) = effect else { return None };
            (command.id == id).then_some(&**command)
        });
        let stored;
        let command = match staged.or_else(|| state.commands.get(&id)) {
            Some(held) => Some(held),
            None => {
                let view = self.context.store.read().map_err(|_| Unavailable::Storage)?;
                stored = view.get::<table::Commands>(&id).map_err(|_| Unavailable::Storage)?;
                stored.as_ref()
            }
        };
        match machine::report(state.site.id, command, self.context.now(), report) {
            Ok(decision) => {
                if command.is_some_and(|before| decision.changes(before)) {
                    self.put_command(batch, state, &decision, None);
                    let effect = ReportEffect::Command(Box::new(decision.command));
                    return Ok((effect, ReportAnswer::Command(Ok(()))));
                }
                Ok((ReportEffect::Nothing, ReportAnswer::Command(Ok(()))))
            }
            Err(refusal) => {
                if refusal == ReportRefusal::Foreign {
                    let details = [("command_id".to_owned(), Detail::Text(id.to_string()))];
                    let details = details.into_iter().collect();
                    let entry = Entry { operation: "command_result_refused", details };
                    batch.audit(self.context.audit(entry, None, &state.site));
                }
                Ok((ReportEffect::Nothing, ReportAnswer::Command(Err(refusal))))
            }
        }
    }

    /// A reported command is on disk: takes it over, and tells watchers of progress that no entry tells of.
    pub(super) fn take_command(&self, state: &mut SiteState, command: Command) {
        let before = state.commands.get(&command.id).map(|held| held.progress);
        if command.status.is_open() && before != Some(command.progress) {
            let progress = command.progress;
            let count = |count: u64| Detail::Int(i64::try_from(count).unwrap_or(i64::MAX));
            let details = [
                ("command_id", command.id.to_string().as_str().into()),
                ("hosts", count(progress.hosts)),
                ("succeeded", count(progress.succeeded)),
                ("failed", count(progress.failed)),
            ];
            self.context.publish("command_progress", Some(state.site.id), details);
        }
        state.hold_command(command);
    }

    /// Ends what has expired. What is not stored now is tried at the next pass.
    pub(super) async fn expire_commands(&self, state: &mut SiteState) {
        let now = self.context.now();
        let expired: Vec<Decision> = state
            .commands
            .values()
            .filter_map(|command| {
                let unsent = !state.deliveries.was_sent(PushKey::Command(command.id));
                machine::expire(command, now, unsent)
            })
            .collect();
        if expired.is_empty() {
            return;
        }
        let mut batch = Batch::new();
        for decision in &expired {
            self.put_command(&mut batch, state, decision, None);
        }
        if let Err(error) = self.context.commit(Lane::Push, batch).await {
            debug!(site = %state.site.id, %error, "expired commands not stored");
            return;
        }
        for Decision { command, .. } in expired {
            if command.status.is_open() {
                let details = [("command_id", command.id.to_string().as_str().into())];
                self.context.publish("command_overdue", Some(state.site.id), details);
            }
            state.hold_command(command);
        }
    }

    /// Ends the open commands of a site that leaves; answers with them, to be taken over after the commit.
    pub(super) fn abandon_commands(
        &self,
        batch: &mut Batch,
        state: &SiteState,
        status: SiteStatus,
    ) -> Vec<Command> {
        if status != SiteStatus::Removed {
            return Vec::new();
        }
        let now = self.context.now();
        let decisions = state.commands.values().map(|command| machine::abandon(command, now));
        decisions
            .map(|decision| {
                self.put_command(batch, state, &decision, None);
                decision.command
            })
            .collect()
    }

    /// Stores a decision on an open command and takes it over. Durable on return.
    async fn store_command(
        &self,
        state: &mut SiteState,
        decision: Decision,
        operator: Option<&Operator>,
        lane: Lane,
    ) -> Result<Command, Unavailable> {
        let before = state.commands.get(&decision.command.id);
        if before.is_none_or(|before| decision.changes(before)) {
            let mut batch = Batch::new();
            self.put_command(&mut batch, state, &decision, operator);
            self.context.commit(lane, batch).await?;
        }
        state.hold_command(decision.command.clone());
        Ok(decision.command)
    }

    fn put_command(
        &self,
        batch: &mut Batch,
        state: &SiteState,
        decision: &Decision,
        operator: Option<&Operator>,
    ) {
        let Decision { command, entries, outcomes } = decision;
        batch.put::<table::Commands>(&command.id, command);
        if !entries.is_empty() {
            batch.put::<table::SiteCommands>(&(state.site.id, command.id), &command.status);
        }
        if !command.status.is_open() {
            batch.delete::<table::OpenCommands>(&(state.site.id, command.id));
        }
        if let Some(outcomes) = outcomes {
            batch.delete_range::<table::CommandOutcomes>((command.id, 0)..=(command.id, u32::MAX));
            for (number, chunk) in chunks(outcomes).into_iter().enumerate() {
                let number = u32::try_from(number).unwrap_or(u32::MAX);
                batch.put::<table::CommandOutcomes>(&(command.id, number), &chunk.to_vec());
            }
        }
        for entry in entries {
            batch.audit(self.context.audit(entry.clone(), operator, &state.site));
        }
    }
}

impl SiteState {
    /// Takes over a command that is on disk, and asks for the delivery that it still needs.
    pub(super) fn hold_command(&mut self, command: Command) {
        let key = PushKey::Command(command.id);
        match machine::wanted(&command) {
            Some(version) => self.deliveries.want(key, version, 0, None),
            None => self.deliveries.forget(key),
        }
        if command.status.is_open() {
            self.commands.insert(command.id, command);
        } else {
            self.commands.remove(&command.id);
        }
    }
}

/// Cuts outcomes into records of a size that the store takes well.
fn chunks(outcomes: &[HostOutcome]) -> Vec<&[HostOutcome]> {
    let mut chunks = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (index, outcome) in outcomes.iter().enumerate() {
        // The id, the flag, the length and the text.
        let one = 16 + 1 + 5 + outcome.detail.len();
        if bytes + one > limits::OUTCOMES_CHUNK_BYTES && index > start {
            chunks.push(&outcomes[start..index]);
            (start, bytes) = (index, 0);
        }
        bytes += one;
    }
    chunks.push(&outcomes[start..]);
    chunks
}

/// All commands of a site, as a range of keys.
pub(crate) fn of_site(
    site: hansa_model::SiteId,
) -> std::ops::RangeInclusive<(hansa_model::SiteId, CommandId)> {
    let [first, last] = [uuid::Uuid::nil(), uuid::Uuid::max()].map(CommandId);
    (site, first)..=(site, last)
}
