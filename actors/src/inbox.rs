//! What the coordinator wants this site to hold or do: taken in, stored, acknowledged; and the books of what
//! was done about it.
//!
//! Shell around `machine::inbox`, and the only writer of the received tables. The executor asks it what to do
//! next and tells it what was done, in one message: both are on disk before the answer. A report travels to
//! the queue in the same batch as the row that it ends, so no crash can lose or double one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hansa_model::Timestamp;
use hansa_model::audit::{AuditDraft, Detail};
use hansa_model::id::{CommandId, PolicyId};
use hansa_model::limits::inbox as limits;
use hansa_model::machine::inbox::{
    self, CommandStep, LeaseTask, Memory, PolicyStep, body, clipped, must_take_away, policy_due,
};
use hansa_model::push::{LeasePush, PushContent};
use hansa_model::received::{
    CommandState, HeldPolicy, LeaseState, PolicyWish, ReceivedCommand, ReceivedLease, ReceivedPolicy,
};
use hansa_model::report::{CommandReport, LeaseRequest, PolicyReport, payload_type};
use hansa_model::scope::Operator;
use hansa_model::secret::hex;
use hansa_storage::{Batch, Lane, table};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tracing::debug;

use crate::connector::Connectors;
use crate::context::Context;
use crate::error::Unavailable;
use crate::executor::ExecutorMessage;
use crate::supervision::Handle;
use crate::sync_queue::{NewPayload, SyncQueueMessage};

/// Everything the inbox can be asked.
#[derive(Debug)]
pub(crate) enum InboxMessage {
    /// A word on a lease arrived; the value stays with the caller. Answers, once the row is on disk, with what
    /// the connector has to do.
    LeaseArrived {
        push: Box<LeasePush>,
        reply: RpcReplyPort<Result<(ReceivedLease, LeaseTask), Unavailable>>,
    },
    /// What the executor has done, what has arrived, and what it could do now. Answers, once all of that is on
    /// disk, with what it shall do. A command that runs in the books but not at the executor ends with an
    /// unknown outcome.
    Pass { account: Box<Account>, reply: RpcReplyPort<Result<Orders, Unavailable>> },
    /// An operator asks for a credential for a host. Answers once the request is queued.
    RequestLease {
        request: Box<LeaseRequest>,
        operator: Operator,
        reply: RpcReplyPort<Result<(String, ReceivedLease), Unavailable>>,
    },
    /// What is held of policies. Answers at once.
    Held { reply: RpcReplyPort<Vec<HeldPolicy>> },
    /// The site leaves its federation: what waits is not begun, what runs is told to stop, policies are
    /// forgotten as they are. Answers once that is on disk.
    Forget { reply: RpcReplyPort<Result<(), Unavailable>> },
    /// Fails on purpose, to show that only this actor restarts.
    #[cfg(feature = "testing")]
    DangerPanic,
}

/// See [`InboxMessage::Pass`].
#[derive(Debug, Default, Clone)]
pub(crate) struct Account {
    /// Commands that have ended.
    pub(crate) ended: Vec<CommandReport>,
    /// Commands that run on, with what they have done so far.
    pub(crate) progressed: Vec<CommandReport>,
    /// Policies that were tried.
    pub(crate) tried: Vec<PolicyTry>,
    /// Leases whose connector has answered.
    pub(crate) leases: Vec<LeaseTry>,
    /// Commands that run now, those that have ended included.
    pub(crate) running: BTreeSet<CommandId>,
    /// Policies that are being tried now.
    pub(crate) trying: BTreeSet<PolicyId>,
    /// Leases that a connector has in hand now.
    pub(crate) handling: BTreeSet<String>,
    /// Commands that may begin.
    pub(crate) room: usize,
    /// A policy, a command or a word on one that has arrived. It is stored in one batch with the beginning of
    /// what may begin; a repeat has no effect.
    pub(crate) arrived: Option<Box<PushContent>>,
}

/// A policy's try that has ended.
#[derive(Debug, Clone)]
pub(crate) struct PolicyTry {
    pub(crate) id: PolicyId,
    pub(crate) version: u32,
    pub(crate) wish: PolicyWish,
    pub(crate) outcome: Result<(), String>,
}

/// A connector's answer about a lease.
#[derive(Debug, Clone)]
pub(crate) struct LeaseTry {
    pub(crate) key: String,
    pub(crate) task: LeaseTask,
    pub(crate) outcome: Result<(), String>,
}

/// What the executor shall do now.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    /// Commands that count as started from now on, oldest first.
    pub(crate) commands: Vec<(CommandId, ReceivedCommand)>,
    /// Policies to try, oldest first.
    pub(crate) policies: Vec<(PolicyId, ReceivedPolicy)>,
    /// Credentials to take away.
    pub(crate) take_away: Vec<(String, ReceivedLease)>,
    /// Nothing waits for a time to come: no need to ask before a notice.
    pub(crate) idle: bool,
    /// Why what arrived is not stored: there is no room for it, or what is known of it cannot be read.
    pub(crate) not_taken: Option<Unavailable>,
}

pub(crate) struct InboxActor {
    pub(crate) context: Arc<Context>,
    pub(crate) queue: Handle<SyncQueueMessage>,
    pub(crate) executor: Handle<ExecutorMessage>,
    pub(crate) connectors: Arc<dyn Connectors>,
}

pub(crate) struct InboxState {
    /// Open ones alone.
    commands: BTreeMap<CommandId, ReceivedCommand>,
    policies: BTreeMap<PolicyId, ReceivedPolicy>,
    leases: BTreeMap<String, ReceivedLease>,
    /// Ended commands whose rows are kept.
    ended: u64,
    next_order: u64,
}

/// The writes of one message, before they are on disk.
#[derive(Default)]
struct Step {
    batch: Batch,
    payloads: Vec<NewPayload>,
    commands: Vec<(CommandId, ReceivedCommand)>,
    policies: Vec<(PolicyId, ReceivedPolicy)>,
    leases: Vec<(String, ReceivedLease)>,
    /// Rows that make room.
    gone_policy: Option<PolicyId>,
    gone_lease: Option<String>,
}

impl Actor for InboxActor {
    type Msg = InboxMessage;
    type State = InboxState;
    type Arguments = ();

    async fn pre_start(
        &self,
        _myself: ActorRef<InboxMessage>,
        (): (),
    ) -> Result<InboxState, ActorProcessingErr> {
        let view = self.context.store.read()?;
        let commands = view.all::<table::ReceivedCommands>(..)?;
        let policies: BTreeMap<_, _> = view.all::<table::ReceivedPolicies>(..)?.into_iter().collect();
        let leases = view.all::<table::ReceivedLeases>(..)?.into_iter().collect();
        let orders = commands.iter().map(|(_, row)| row.order);
        let last = orders.chain(policies.values().map(|row| row.order)).max().unwrap_or(0);
        let ended = commands.iter().filter(|(_, row)| row.state.is_terminal()).count() as u64;
        let commands = commands.into_iter().filter(|(_, row)| !row.state.is_terminal()).collect();
        Ok(InboxState { commands, policies, leases, ended, next_order: last + 1 })
    }

    async fn handle(
        &self,
        _myself: ActorRef<InboxMessage>,
        message: InboxMessage,
        state: &mut InboxState,
    ) -> Result<(), ActorProcessingErr> {
        // A caller that gave up has nothing to be told; the same holds for every reply here.
        match message {
            InboxMessage::LeaseArrived { push, reply } => {
                let _ = reply.send(self.lease_arrived(state, &push).await);
            }
            InboxMessage::Pass { account, reply } => {
                let _ = reply.send(self.pass(state, *account).await);
            }
            InboxMessage::RequestLease { request, operator, reply } => {
                let _ = reply.send(self.request_lease(state, *request, &operator).await);
            }
            InboxMessage::Held { reply } => {
                let held = |(id, row): (&PolicyId, &ReceivedPolicy)| HeldPolicy {
                    policy_id: *id,
                    version: row.version,
                    wanted: row.wish == PolicyWish::Apply,
                };
                let _ = reply.send(state.policies.iter().map(held).collect());
            }
            InboxMessage::Forget { reply } => {
                let _ = reply.send(self.forget(state).await);
            }
            #[cfg(feature = "testing")]
            InboxMessage::DangerPanic => panic!("asked to fail"),
        }
        Ok(())
    }
}

impl InboxActor {
    /// Puts what has arrived into the step.
    ///
    /// # Errors
    /// The inbox has no room for it, or what is known of it cannot be read; the step is as it was.
    fn receive(
        &self,
        state: &InboxState,
        step: &mut Step,
        content: &PushContent,
        now: Timestamp,
    ) -> Result<(), Unavailable> {
        let order = state.next_order;
        match content {
            PushContent::Policy(push) => {
                let held = state.policies.get(&push.policy_id);
                match inbox::receive_policy(held, push, now, order) {
                    PolicyStep::Nothing => {}
                    PolicyStep::Keep(row) => {
                        if held.is_none() {
                            step.gone_policy = room_for_policy(state)?;
                        }
                        step.audit(self.policy_entry("policy_received", push.policy_id, &row));
                        step.policies.push((push.policy_id, row));
                    }
                    PolicyStep::Repeat(report) => step.report_policy(&report),
                }
            }
            PushContent::WithdrawPolicy(push) => {
                let held = state.policies.get(&push.policy_id);
                if let Some(row) = inbox::withdraw_policy(held, push, now, order) {
                    if held.is_none() {
                        step.gone_policy = room_for_policy(state)?;
                    }
                    step.audit(self.policy_entry("policy_withdrawn", push.policy_id, &row));
                    step.policies.push((push.policy_id, row));
                }
            }
            PushContent::Command(push) => {
                let id = push.command_id;
                let (spent, held) = self.remembered(state, id)?;
                if held.is_none() && !spent && state.commands.len() >= limits::OPEN_COMMANDS_MAX {
                    return Err(Unavailable::Busy { part: "inbox" });
                }
                let outcome = inbox::receive_command(memory(spent, held.as_ref()), push, now, order);
                if held.is_none() && !spent {
                    step.audit(self.context.audit_node(
                        "command_received",
                        None,
                        [
                            ("command_id", Detail::from(id.to_string().as_str())),
                            ("command_type", Detail::from(clipped(&push.command_type).as_str())),
                            ("target_host_count", Detail::Int(push.target_host_ids.len() as i64)),
                        ],
                    ));
                }
                self.command_step(step, id, held.as_ref(), outcome);
            }
            PushContent::CancelCommand(push) => {
                let id = push.command_id;
                let (spent, held) = self.remembered(state, id)?;
                let outcome = inbox::cancel_command(memory(spent, held.as_ref()), id, now, order);
                self.command_step(step, id, held.as_ref(), outcome);
            }
            PushContent::AskCommand(push) => {
                let id = push.command_id;
                let (spent, held) = self.remembered(state, id)?;
                let outcome = inbox::asked_about(memory(spent, held.as_ref()), id, now, order);
                if held.is_none() && !spent {
                    let details = [("command_id", Detail::from(id.to_string().as_str()))];
                    step.audit(self.context.audit_node("command_lost", None, details));
                }
                self.command_step(step, id, held.as_ref(), outcome);
            }
            // The executor has leases; nobody sends one here.
            PushContent::Lease(_) => return Err(Unavailable::Busy { part: "inbox" }),
        }
        Ok(())
    }

    /// Whether a command's id is spent, and its row.
    fn remembered(
        &self,
        state: &InboxState,
        id: CommandId,
    ) -> Result<(bool, Option<ReceivedCommand>), Unavailable> {
        if let Some(row) = state.commands.get(&id) {
            return Ok((false, Some(row.clone())));
        }
        let failed = |error| {
            debug!(%error, "what is known of a command cannot be read");
            Unavailable::Storage
        };
        let view = self.context.store.read().map_err(failed)?;
        let held = view.get::<table::ReceivedCommands>(&id).map_err(failed)?;
        let spent = view.contains::<table::SpentCommands>(&id).map_err(failed)?;
        Ok((spent, held))
    }

    /// Puts a decision about a command into the step, with its audit entry and report.
    fn command_step(
        &self,
        step: &mut Step,
        id: CommandId,
        held: Option<&ReceivedCommand>,
        outcome: CommandStep,
    ) {
        let from = held.map(|row| row.state);
        let (row, report) = match outcome {
            CommandStep::Nothing => return,
            CommandStep::Keep(row) => (row, None),
            CommandStep::End(row, report) => (row, Some(report)),
            CommandStep::Repeat(report) => return step.report_command(&report),
        };
        if let Some(from) = from.filter(|from| *from != row.state) {
            let error = report.as_ref().and_then(|report| report.error.as_deref());
            step.audit(self.context.audit_node(
                "command_status_changed",
                None,
                [
                    ("command_id", Detail::from(id.to_string().as_str())),
                    ("from_status", from.as_str().into()),
                    ("to_status", row.state.as_str().into()),
                    ("error", error.map_or(Detail::Null, Detail::from)),
                ],
            ));
        }
        if let Some(report) = &report {
            step.report_command(report);
        }
        step.commands.push((id, row));
    }

    async fn lease_arrived(
        &self,
        state: &mut InboxState,
        push: &LeasePush,
    ) -> Result<(ReceivedLease, LeaseTask), Unavailable> {
        let key = push.correlation_key.clone();
        let mut step = Step::default();
        if !state.leases.contains_key(&key) {
            step.gone_lease = room_for_lease(state)?;
        }
        let (mut row, mut task) = inbox::receive_lease(state.leases.get(&key), push, self.context.now());
        let kind = lease_kind(&row);
        if task == LeaseTask::Give && self.connectors.serves(&format!("lease:{kind}")).is_none() {
            let reason = format!("no connector is declared at this site for lease:{kind}");
            row = ReceivedLease { state: LeaseState::Failed, last_error: Some(reason), held: false, ..row };
            task = LeaseTask::None;
            step.audit(self.lease_entry("secret_lease_refused", &key, &row));
        } else if task == LeaseTask::TakeAway {
            step.audit(self.lease_entry("secret_lease_revoked", &key, &row));
        }
        step.leases.push((key, row.clone()));
        self.store(state, step).await?;
        Ok((row, task))
    }

    async fn request_lease(
        &self,
        state: &mut InboxState,
        request: LeaseRequest,
        operator: &Operator,
    ) -> Result<(String, ReceivedLease), Unavailable> {
        let key = hex(&self.context.entropy.bytes::<16>());
        let request = LeaseRequest { correlation_key: key.clone(), ..request };
        let mut step = Step { gone_lease: room_for_lease(state)?, ..Step::default() };
        step.payloads.push(NewPayload {
            payload_type: payload_type::SECRET_LEASE_REQUEST,
            dedup_key: format!("secret_lease:{key}"),
            body: body(&request).into_bytes(),
        });
        let row = ReceivedLease {
            lease_id: None,
            host_id: request.host_id,
            secret_name: request.secret_name,
            backend_role: Some(request.backend_role),
            kind: Some(request.kind),
            ttl_seconds: request.ttl_seconds,
            state: LeaseState::Requested,
            metadata: None,
            requested_at: self.context.now(),
            received_at: None,
            delivered_at: None,
            expires_at: None,
            held: false,
            last_error: None,
        };
        let entry = self.lease_entry("secret_lease_requested", &key, &row);
        step.audit(AuditDraft { actor_userid: Some(operator.userid.clone()), ..entry });
        step.leases.push((key.clone(), row.clone()));
        self.store(state, step).await?;
        Ok((key, row))
    }

    async fn pass(&self, state: &mut InboxState, account: Account) -> Result<Orders, Unavailable> {
        let now = self.context.now();
        let mut step = Step::default();
        self.settle(state, &mut step, &account, now);
        let mut orders = Orders::default();
        if let Some(content) = &account.arrived {
            // It is judged by the rows as they are after what was done.
            self.store(state, std::mem::take(&mut step)).await?;
            orders.not_taken = self.receive(state, &mut step, content, now).err();
        }
        self.begin_commands(state, &mut step, &mut orders, account.room, now);
        self.store(state, step).await?;
        self.clear_ended(state).await;
        self.choose_policies(state, &mut orders, &account, now);
        orders.take_away = state
            .leases
            .iter()
            .filter(|(key, row)| must_take_away(row, now) && !account.handling.contains(*key))
            .map(|(key, row)| (key.clone(), row.clone()))
            .collect();
        let waits = state.policies.values().any(|row| policy_due(row, 0).is_some());
        orders.idle = state.commands.is_empty() && !waits && !state.leases.values().any(|row| row.held);
        Ok(orders)
    }

    /// Books what the executor has done.
    fn settle(&self, state: &InboxState, step: &mut Step, account: &Account, now: Timestamp) {
        let mut ended = BTreeSet::new();
        for report in &account.ended {
            let id = report.command_id;
            ended.insert(id);
            if let Some(held) = state.commands.get(&id) {
                self.command_step(step, id, Some(held), inbox::finish(held, report.clone(), now));
            }
        }
        for (id, held) in &state.commands {
            if !account.running.contains(id) && !ended.contains(id) {
                self.command_step(step, *id, Some(held), inbox::abandon(*id, held, now));
            }
        }
        for report in account.progressed.iter().filter(|report| !ended.contains(&report.command_id)) {
            let held = state.commands.get(&report.command_id);
            if let Some(row) = held.and_then(|held| inbox::progressed(held, report)) {
                step.report_command(report);
                step.commands.push((report.command_id, row));
            }
        }
        for PolicyTry { id, version, wish, outcome } in &account.tried {
            let held = state.policies.get(id);
            let tried =
                held.and_then(|held| inbox::policy_tried(held, *id, (*version, *wish), outcome.clone(), now));
            let Some((row, report)) = tried else { continue };
            let operation = match (outcome, wish) {
                (Ok(()), PolicyWish::Apply) => Some("policy_applied"),
                (Ok(()), PolicyWish::Withdraw | PolicyWish::Gone) => Some("policy_taken_back"),
                (Err(_), _) => report.is_some().then_some("policy_apply_failed"),
            };
            if let Some(operation) = operation {
                step.audit(self.policy_entry(operation, *id, &row));
            }
            if let Some(report) = report {
                step.report_policy(&report);
            }
            step.policies.push((*id, row));
        }
        for LeaseTry { key, task, outcome } in &account.leases {
            let pending = step.leases.iter().rev().find(|(named, _)| named == key).map(|(_, row)| row);
            let Some(held) = pending.or_else(|| state.leases.get(key)) else { continue };
            let (row, operation) = match task {
                LeaseTask::None => continue,
                LeaseTask::Give => (inbox::lease_given(held, outcome.clone(), now), "secret_lease_delivered"),
                LeaseTask::TakeAway => {
                    (inbox::lease_taken_away(held, outcome.clone()), "secret_lease_taken_away")
                }
            };
            if outcome.is_ok() {
                step.audit(self.lease_entry(operation, key, &row));
            }
            step.leases.push((key.clone(), row));
        }
    }

    /// Lets queued commands begin, oldest first. What cannot begin ends here and takes no room.
    fn begin_commands(
        &self,
        state: &InboxState,
        step: &mut Step,
        orders: &mut Orders,
        room: usize,
        now: Timestamp,
    ) {
        let staged: BTreeMap<CommandId, ReceivedCommand> = step.commands.iter().cloned().collect();
        let stored = state.commands.iter().filter(|(id, _)| !staged.contains_key(id));
        let mut queued: Vec<(&CommandId, &ReceivedCommand)> =
            stored.chain(&staged).filter(|(_, row)| row.state == CommandState::Queued).collect();
        queued.sort_unstable_by_key(|(_, row)| row.order);
        for (id, held) in queued {
            let full = orders.commands.len() >= room;
            if full && !inbox::is_expired(held, now) {
                continue;
            }
            let served = self.connectors.serves(&format!("command:{}", held.command_type)).is_some();
            let outcome = inbox::begin(*id, held, served, now);
            if let CommandStep::Keep(row) = &outcome {
                orders.commands.push((*id, row.clone()));
            } else if !served {
                step.audit(self.context.audit_node(
                    "command_refused",
                    None,
                    [
                        ("command_id", Detail::from(id.to_string().as_str())),
                        ("command_type", Detail::from(clipped(&held.command_type).as_str())),
                    ],
                ));
            }
            self.command_step(step, *id, Some(held), outcome);
        }
    }

    fn choose_policies(&self, state: &InboxState, orders: &mut Orders, account: &Account, now: Timestamp) {
        let room = limits::POLICIES_AT_ONCE.saturating_sub(account.trying.len());
        let jitter = self.context.entropy.u64();
        let mut due: Vec<(&PolicyId, &ReceivedPolicy)> = state
            .policies
            .iter()
            .filter(|(id, row)| {
                !account.trying.contains(*id) && policy_due(row, jitter).is_some_and(|at| at <= now)
            })
            .collect();
        due.sort_unstable_by_key(|(_, row)| row.order);
        orders.policies = due.into_iter().take(room).map(|(id, row)| (*id, row.clone())).collect();
    }

    async fn forget(&self, state: &mut InboxState) -> Result<(), Unavailable> {
        let now = self.context.now();
        let mut step = Step::default();
        for (id, held) in &state.commands {
            let outcome = inbox::cancel_command(Memory::Held(held), *id, now, held.order);
            self.command_step(&mut step, *id, Some(held), outcome);
        }
        // Nobody is left to read them.
        step.payloads.clear();
        for (key, held) in &state.leases {
            if let Some(row) = inbox::forget_lease(held) {
                step.leases.push((key.clone(), row));
            }
        }
        for id in state.policies.keys() {
            step.batch.delete::<table::ReceivedPolicies>(id);
        }
        self.store(state, step).await?;
        state.policies.clear();
        for command in state.commands.keys() {
            self.executor.cast(ExecutorMessage::Cancel { command: *command });
        }
        self.executor.cast(ExecutorMessage::Look);
        Ok(())
    }

    /// Stores a step and then takes it over.
    async fn store(&self, state: &mut InboxState, step: Step) -> Result<(), Unavailable> {
        let Step { mut batch, payloads, commands, policies, leases, gone_policy, gone_lease } = step;
        if let Some(id) = &gone_policy {
            batch.delete::<table::ReceivedPolicies>(id);
        }
        if let Some(key) = &gone_lease {
            batch.delete::<table::ReceivedLeases>(key.as_str());
        }
        for (id, row) in &commands {
            batch.put::<table::ReceivedCommands>(id, row);
        }
        for (id, row) in &policies {
            batch.put::<table::ReceivedPolicies>(id, row);
        }
        for (key, row) in &leases {
            batch.put::<table::ReceivedLeases>(key.as_str(), row);
        }
        if payloads.is_empty() {
            if batch.is_empty() {
                return Ok(());
            }
            self.context.commit(Lane::Push, batch).await?;
        } else {
            self.queue.call(|reply| SyncQueueMessage::Report { payloads, batch, reply }).await??;
        }
        if let Some(id) = gone_policy {
            state.policies.remove(&id);
        }
        if let Some(key) = gone_lease {
            state.leases.remove(&key);
        }
        for (id, row) in commands {
            state.next_order = state.next_order.max(row.order + 1);
            if row.state.is_terminal() {
                state.commands.remove(&id);
                state.ended += 1;
            } else {
                state.commands.insert(id, row);
            }
        }
        for (id, row) in policies {
            state.next_order = state.next_order.max(row.order + 1);
            state.policies.insert(id, row);
        }
        state.leases.extend(leases);
        Ok(())
    }

    /// Clears the rows of commands that ended long ago away; their ids stay, for ever.
    async fn clear_ended(&self, state: &mut InboxState) {
        if state.ended <= limits::ENDED_COMMANDS_MAX + limits::ENDED_COMMANDS_SLACK {
            return;
        }
        let rows = self.context.store.read().and_then(|view| view.all::<table::ReceivedCommands>(..));
        let Ok(rows) = rows else { return };
        let mut ended: Vec<(u64, CommandId, Timestamp)> = rows
            .into_iter()
            .filter(|(_, row)| row.state.is_terminal())
            .map(|(id, row)| (row.order, id, row.completed_at.unwrap_or(row.received_at)))
            .collect();
        ended.sort_unstable_by_key(|(order, ..)| std::cmp::Reverse(*order));
        let kept = usize::try_from(limits::ENDED_COMMANDS_MAX).unwrap_or(usize::MAX);
        let mut batch = Batch::new();
        for (_, id, at) in ended.iter().skip(kept) {
            batch.delete::<table::ReceivedCommands>(id).put::<table::SpentCommands>(id, at);
        }
        // Another pass tries again.
        if self.context.commit(Lane::Push, batch).await.is_ok() {
            state.ended = ended.len().min(kept) as u64;
        }
    }

    fn policy_entry(&self, operation: &str, id: PolicyId, row: &ReceivedPolicy) -> AuditDraft {
        self.context.audit_node(
            operation,
            None,
            [
                ("policy_id", Detail::from(id.to_string().as_str())),
                ("policy_type", Detail::from(clipped(&row.policy_type).as_str())),
                ("name", Detail::from(clipped(&row.name).as_str())),
                ("version", Detail::Int(row.version.into())),
                ("error", row.apply_error.as_deref().map_or(Detail::Null, Detail::from)),
            ],
        )
    }

    fn lease_entry(&self, operation: &str, key: &str, row: &ReceivedLease) -> AuditDraft {
        self.context.audit_node(
            operation,
            None,
            [
                ("correlation_key", Detail::from(key)),
                ("host_id", Detail::from(clipped(&row.host_id).as_str())),
                ("secret_name", Detail::from(clipped(&row.secret_name).as_str())),
                ("kind", Detail::from(lease_kind(row))),
            ],
        )
    }
}

impl Step {
    fn audit(&mut self, entry: AuditDraft) {
        self.batch.audit(entry);
    }

    fn report_command(&mut self, report: &CommandReport) {
        self.payloads.push(NewPayload {
            payload_type: payload_type::COMMAND_RESULT,
            dedup_key: format!("command_result:{}", report.command_id),
            body: body(report).into_bytes(),
        });
    }

    fn report_policy(&mut self, report: &PolicyReport) {
        self.payloads.push(NewPayload {
            payload_type: payload_type::POLICY_RESULT,
            dedup_key: format!("policy_result:{}", report.policy_id),
            body: body(report).into_bytes(),
        });
    }
}

const fn memory(spent: bool, held: Option<&ReceivedCommand>) -> Memory<'_> {
    match held {
        Some(held) => Memory::Held(held),
        None if spent => Memory::Spent,
        None => Memory::Unknown,
    }
}

/// What follows `lease:` in the kind.
pub(crate) fn lease_kind(row: &ReceivedLease) -> &str {
    row.kind.as_deref().unwrap_or("unrequested")
}

/// The policy that makes room for a new one, when there is none: one that is gone.
fn room_for_policy(state: &InboxState) -> Result<Option<PolicyId>, Unavailable> {
    if state.policies.len() < limits::POLICIES_MAX {
        return Ok(None);
    }
    let gone = state.policies.iter().filter(|(_, row)| row.wish == PolicyWish::Gone);
    let oldest = gone.min_by_key(|(_, row)| row.order).map(|(id, _)| *id);
    oldest.map(Some).ok_or(Unavailable::Busy { part: "inbox" })
}

/// The lease that makes room for a new one, when there is none: one that has ended.
fn room_for_lease(state: &InboxState) -> Result<Option<String>, Unavailable> {
    if state.leases.len() < limits::LEASES_MAX {
        return Ok(None);
    }
    let over = state.leases.iter().filter(|(_, row)| !row.held && row.state != LeaseState::Requested);
    let oldest = over.min_by_key(|(_, row)| row.requested_at).map(|(key, _)| key.clone());
    oldest.map(Some).ok_or(Unavailable::Busy { part: "inbox" })
}
