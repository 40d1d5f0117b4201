//! Carries out what the inbox has in its books: commands once, policies until they are in force, credentials
//! to their hosts and away again, each through a connector that the site's owner declared.
//!
//! Runs are tasks; the actor keeps what they have ended with until the inbox has it on disk. Nothing of a run
//! outlives this actor: a command that ran then ends with an unknown outcome, the rest is done again.
//! A credential's value is in the task that hands it over and nowhere else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use hansa_model::id::{CommandId, PolicyId};
use hansa_model::limits::inbox as limits;
use hansa_model::machine::inbox::{self, LeaseTask, clipped};
use hansa_model::machine::link::exponential;
use hansa_model::push::{LeasePush, LeaseWord, PushContent};
use hansa_model::received::{LeaseState, PolicyWish, ReceivedCommand, ReceivedLease, ReceivedPolicy};
use hansa_model::report::{CommandReport, CommandReportStatus, HostResult};
use hansa_model::{HostId, Secret};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tracing::debug;

use crate::connector::{Connectors, Outcome, Task, Work, WorkHost, WorkLease};
use crate::context::Context;
use crate::directory::SharedShard;
use crate::error::Unavailable;
use crate::inbox::{Account, InboxMessage, LeaseTry, PolicyTry, lease_kind};
use crate::supervision::{Handle, Tied};

/// Everything the executor can be told.
#[derive(Debug)]
pub(crate) enum ExecutorMessage {
    /// A policy, a command or a word on one arrived, over the link or over HTTP. Answers once it is on disk; a
    /// repeat has no effect. What may begin at once has begun then.
    Receive { content: Box<PushContent>, reply: RpcReplyPort<Result<(), Unavailable>> },
    /// Something may be due. No answer.
    Look,
    /// A moment has passed: look if anything waits for one. No answer.
    Tick,
    /// A running command was cancelled. It stops and reports what it did. No answer.
    Cancel { command: CommandId },
    /// A word on a lease arrived. Answers with the state on disk: of a credential, once the connector has taken
    /// it or never will; [`Unavailable::Busy`] when it has not taken it yet, and is offered it again.
    Lease { push: Box<LeasePush>, reply: RpcReplyPort<Result<LeaseTaken, Unavailable>> },
    /// A run of a command has something new to say.
    Progressed { report: CommandReport },
    /// A run of a command has ended.
    Ended { report: CommandReport },
    /// A try of a policy has ended.
    Tried(PolicyTry),
    /// A connector has answered about a lease; after the last answer it is not asked again.
    Answered { answer: LeaseTry, last: bool },
    /// Fails on purpose, to show that only this actor restarts.
    #[cfg(feature = "testing")]
    DangerPanic,
}

/// What became of a word on a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeaseTaken {
    pub(crate) state: LeaseState,
    /// Why a credential will never be taken.
    pub(crate) refused: Option<String>,
}

impl LeaseTaken {
    /// What became of a word, by the row after it. A word that a lease has failed is no credential to refuse.
    fn new(word: LeaseWord, row: &ReceivedLease) -> Self {
        let refused = word == LeaseWord::Issued && row.state == LeaseState::Failed;
        Self { state: row.state, refused: row.last_error.clone().filter(|_| refused) }
    }
}

pub(crate) struct ExecutorActor {
    pub(crate) context: Arc<Context>,
    pub(crate) shard: SharedShard,
    pub(crate) inbox: Handle<InboxMessage>,
    pub(crate) connectors: Arc<dyn Connectors>,
}

pub(crate) struct ExecutorState {
    commands: BTreeMap<CommandId, Running>,
    policies: BTreeMap<PolicyId, Tied>,
    leases: BTreeMap<String, Handling>,
    /// Not yet in the inbox's books.
    account: Account,
    runs: Arc<Semaphore>,
    idle: bool,
    _ticker: Tied,
}

struct Running {
    cancel: Arc<Notify>,
    _task: Tied,
}

struct Handling {
    task: LeaseTask,
    /// Who waits for the connector to take the credential.
    waiting: Vec<RpcReplyPort<Result<LeaseTaken, Unavailable>>>,
    /// What is handed over, to know a repeat.
    push: Option<Box<LeasePush>>,
    _task: Tied,
}

impl Actor for ExecutorActor {
    type Msg = ExecutorMessage;
    type State = ExecutorState;
    type Arguments = ();

    async fn pre_start(
        &self,
        myself: ActorRef<ExecutorMessage>,
        (): (),
    ) -> Result<ExecutorState, ActorProcessingErr> {
        myself.cast(ExecutorMessage::Look)?;
        let interval = self.context.config.housekeeping_interval;
        let ticker = Tied::spawn(async move {
            loop {
                tokio::time::sleep(interval).await;
                if myself.cast(ExecutorMessage::Tick).is_err() {
                    return;
                }
            }
        });
        Ok(ExecutorState {
            commands: BTreeMap::new(),
            policies: BTreeMap::new(),
            leases: BTreeMap::new(),
            account: Account::default(),
            runs: Arc::new(Semaphore::new(limits::RUNS_AT_ONCE)),
            idle: false,
            _ticker: ticker,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<ExecutorMessage>,
        message: ExecutorMessage,
        state: &mut ExecutorState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ExecutorMessage::Look => {}
            ExecutorMessage::Tick if state.idle => return Ok(()),
            ExecutorMessage::Tick => {}
            ExecutorMessage::Cancel { command } => {
                state.cancel(command);
                return Ok(());
            }
            ExecutorMessage::Receive { content, reply } => {
                // A caller that gave up has nothing to be told.
                let _ = reply.send(self.receive(state, &myself, content).await);
                return Ok(());
            }
            ExecutorMessage::Lease { push, reply } => self.lease(state, &myself, push, reply).await,
            ExecutorMessage::Progressed { report } => {
                state.account.progressed.retain(|older| older.command_id != report.command_id);
                state.account.progressed.push(report);
            }
            ExecutorMessage::Ended { report } => state.account.ended.push(report),
            ExecutorMessage::Tried(tried) => state.account.tried.push(tried),
            ExecutorMessage::Answered { answer, last } => self.answered(state, answer, last).await,
            #[cfg(feature = "testing")]
            ExecutorMessage::DangerPanic => panic!("asked to fail"),
        }
        // What was done and is not on disk yet is told again.
        let _ = self.pass(state, &myself, None).await;
        Ok(())
    }
}

impl ExecutorState {
    fn cancel(&self, command: CommandId) {
        if let Some(running) = self.commands.get(&command) {
            running.cancel.notify_one();
        }
    }
}

impl ExecutorActor {
    async fn receive(
        &self,
        state: &mut ExecutorState,
        myself: &ActorRef<ExecutorMessage>,
        content: Box<PushContent>,
    ) -> Result<(), Unavailable> {
        let cancelled = match &*content {
            PushContent::CancelCommand(push) => Some(push.command_id),
            PushContent::Policy(_)
            | PushContent::WithdrawPolicy(_)
            | PushContent::Command(_)
            | PushContent::AskCommand(_)
            | PushContent::Lease(_) => None,
        };
        self.pass(state, myself, Some(content)).await?;
        if let Some(command) = cancelled {
            state.cancel(command);
        }
        Ok(())
    }

    /// Tells the inbox what was done and what has arrived, and does what it says. What was done and the inbox
    /// could not store is told again.
    async fn pass(
        &self,
        state: &mut ExecutorState,
        myself: &ActorRef<ExecutorMessage>,
        arrived: Option<Box<PushContent>>,
    ) -> Result<(), Unavailable> {
        let ending = state.account.ended.len();
        let account = Account {
            running: state.commands.keys().copied().collect(),
            trying: state
                .policies
                .keys()
                .filter(|id| !state.account.tried.iter().any(|tried| tried.id == **id))
                .copied()
                .collect(),
            handling: state.leases.keys().cloned().collect(),
            room: (limits::COMMANDS_AT_ONCE + ending).saturating_sub(state.commands.len()),
            arrived,
            ..state.account.clone()
        };
        let account = Box::new(account);
        let answer = self.inbox.call(|reply| InboxMessage::Pass { account, reply }).await;
        let orders = match answer {
            Ok(Ok(orders)) => orders,
            Ok(Err(error)) | Err(error) => {
                debug!(%error, "what was done is not on disk yet");
                state.idle = false;
                return Err(error);
            }
        };
        let done = std::mem::take(&mut state.account);
        for report in &done.ended {
            state.commands.remove(&report.command_id);
        }
        for tried in &done.tried {
            state.policies.remove(&tried.id);
        }
        for (id, command) in orders.commands {
            let running = self.run_command(state, myself, id, command);
            state.commands.insert(id, running);
        }
        for (id, policy) in orders.policies {
            let task = self.try_policy(state, myself, id, &policy);
            state.policies.insert(id, task);
        }
        for (key, lease) in orders.take_away {
            let handling = self.take_away(state, myself, &key, &lease);
            state.leases.insert(key, handling);
        }
        state.idle = orders.idle && state.commands.is_empty() && state.policies.is_empty();
        orders.not_taken.map_or(Ok(()), Err)
    }

    fn run_command(
        &self,
        state: &ExecutorState,
        myself: &ActorRef<ExecutorMessage>,
        id: CommandId,
        command: ReceivedCommand,
    ) -> Running {
        let cancel = Arc::new(Notify::new());
        let (hosts, missing) = self.resolve(&command.target_host_ids);
        let task = Task::Command {
            id,
            command_type: command.command_type.clone(),
            parameters: command.parameters.clone(),
        };
        let run =
            FanOut { connectors: Arc::clone(&self.connectors), runs: Arc::clone(&state.runs), task, hosts };
        let (cancelled, myself) = (Arc::clone(&cancel), myself.clone());
        let task = Tied::spawn(async move {
            let report = carry_out(id, run, missing, &cancelled, &myself).await;
            // An executor that is gone has nothing to be told: its next incarnation ends the command.
            let _ = myself.cast(ExecutorMessage::Ended { report });
        });
        Running { cancel, _task: task }
    }

    /// The hosts that ids name, and the ids that name none. No ids mean all hosts.
    fn resolve(&self, ids: &[HostId]) -> (Vec<WorkHost>, Vec<HostId>) {
        let shard = self.shard.read();
        let mut hosts = Vec::new();
        let mut missing = Vec::new();
        if ids.is_empty() {
            shard.for_each_row(|row| hosts.push(work_host(row)));
            hosts.sort_unstable_by_key(|host| host.host_id);
        }
        let wanted: BTreeSet<HostId> = ids.iter().copied().collect();
        for id in wanted {
            match shard.with_row(id, work_host) {
                Some(host) => hosts.push(host),
                None => missing.push(id),
            }
        }
        (hosts, missing)
    }

    fn try_policy(
        &self,
        state: &ExecutorState,
        myself: &ActorRef<ExecutorMessage>,
        id: PolicyId,
        policy: &ReceivedPolicy,
    ) -> Tied {
        let withdraw = policy.wish != PolicyWish::Apply;
        let (version, wish, policy_type) = (policy.version, policy.wish, policy.policy_type.clone());
        let service = self.connectors.serves(&format!("policy:{policy_type}"));
        let (hosts, _) = match &service {
            Some(service) if service.per_host => self.resolve(&[]),
            Some(_) | None => (Vec::new(), Vec::new()),
        };
        let run = FanOut {
            connectors: Arc::clone(&self.connectors),
            runs: Arc::clone(&state.runs),
            task: Task::Policy {
                id,
                policy_type: policy_type.clone(),
                name: policy.name.clone(),
                version,
                definition: policy.definition.clone(),
                withdraw,
            },
            hosts,
        };
        let myself = myself.clone();
        Tied::spawn(async move {
            let outcome = match service {
                // What nobody can have brought into force need not be taken back.
                None if withdraw => Ok(()),
                None => Err(format!("no local applier registered for policy type {policy_type}")),
                Some(service) => run.whole(service.per_host).await,
            };
            let _ = myself.cast(ExecutorMessage::Tried(PolicyTry { id, version, wish, outcome }));
        })
    }

    /// Takes a word on a lease: the row first, then the connector.
    async fn lease(
        &self,
        state: &mut ExecutorState,
        myself: &ActorRef<ExecutorMessage>,
        push: Box<LeasePush>,
        reply: RpcReplyPort<Result<LeaseTaken, Unavailable>>,
    ) {
        let key = push.correlation_key.clone();
        if let Some(handling) = state.leases.get_mut(&key)
            && handling.push.as_ref() == Some(&push)
        {
            handling.waiting.push(reply);
            return;
        }
        // The value stays here.
        let told = Box::new(LeasePush {
            secret_value: push.secret_value.as_ref().map(|_| Secret::new(String::new())),
            ..(*push).clone()
        });
        let arrived = self.inbox.call(|reply| InboxMessage::LeaseArrived { push: told, reply }).await;
        let (row, task) = match arrived {
            Ok(Ok(decided)) => decided,
            Ok(Err(error)) | Err(error) => {
                let _ = reply.send(Err(error));
                return;
            }
        };
        match (task, push.secret_value.clone()) {
            (LeaseTask::Give, Some(value)) => {
                // A newer credential takes the place of one that is being handed over.
                let older = state.leases.remove(&key);
                let mut waiting = older.map(|older| older.waiting).unwrap_or_default();
                waiting.push(reply);
                let deadline =
                    row.expires_at.map_or(limits::LEASE_OFFER_MAX, |end| end.since(self.context.now()));
                let lease = work_lease(&key, &row);
                let task = Task::GiveLease { lease, value };
                let offering = self.offer(state, myself, &key, LeaseTask::Give, task, deadline);
                let push = Some(push);
                let handling = Handling { task: LeaseTask::Give, waiting, push, _task: offering };
                state.leases.insert(key, handling);
            }
            (LeaseTask::Give | LeaseTask::TakeAway | LeaseTask::None, _) => {
                // What is being handed over is not wanted any more; the next pass takes it away.
                let stops = row.state == LeaseState::Revoked || row.state == LeaseState::Expired;
                if stops
                    && let Some(older) =
                        state.leases.remove(&key).filter(|older| older.task == LeaseTask::Give)
                {
                    for waiting in older.waiting {
                        let _ = waiting.send(Ok(LeaseTaken::new(push.status, &row)));
                    }
                }
                let _ = reply.send(Ok(LeaseTaken::new(push.status, &row)));
            }
        }
    }

    fn take_away(
        &self,
        state: &ExecutorState,
        myself: &ActorRef<ExecutorMessage>,
        key: &str,
        row: &ReceivedLease,
    ) -> Handling {
        let work = Task::TakeLease(work_lease(key, row));
        let task = LeaseTask::TakeAway;
        let asking = self.offer(state, myself, key, task, work, Duration::MAX);
        Handling { task, waiting: Vec::new(), push: None, _task: asking }
    }

    /// Asks a connector about a lease until it has done it, with longer and longer waits.
    fn offer(
        &self,
        state: &ExecutorState,
        myself: &ActorRef<ExecutorMessage>,
        key: &str,
        task: LeaseTask,
        work: Task,
        span: Duration,
    ) -> Tied {
        let (connectors, runs) = (Arc::clone(&self.connectors), Arc::clone(&state.runs));
        let (key, myself) = (key.to_owned(), myself.clone());
        Tied::spawn(async move {
            let started = Instant::now();
            let mut failures = 0;
            loop {
                let work = Work { task: work.clone(), hosts: Vec::new() };
                let outcome = run_one(&*connectors, &runs, work).await;
                let outcome = if outcome.success { Ok(()) } else { Err(reason(&outcome)) };
                failures += 1;
                let wait = exponential(limits::LEASE_RETRY_FIRST, limits::LEASE_RETRY_MAX, failures);
                let last = outcome.is_ok() || started.elapsed().saturating_add(wait) >= span;
                let answer = LeaseTry { key: key.clone(), task, outcome };
                if myself.cast(ExecutorMessage::Answered { answer, last }).is_err() || last {
                    return;
                }
                tokio::time::sleep(wait).await;
            }
        })
    }

    /// Books a connector's answer about a lease, then tells whoever waits for it.
    async fn answered(&self, state: &mut ExecutorState, answer: LeaseTry, last: bool) {
        let Some(handling) = state.leases.get_mut(&answer.key).filter(|held| held.task == answer.task) else {
            return;
        };
        let waiting = std::mem::take(&mut handling.waiting);
        let refused = answer.outcome.clone().err();
        let key = answer.key.clone();
        if last {
            state.leases.remove(&key);
        }
        state.account.leases.push(answer);
        if waiting.is_empty() {
            return;
        }
        let account = Account {
            running: state.commands.keys().copied().collect(),
            trying: state.policies.keys().copied().collect(),
            handling: state.leases.keys().cloned().collect(),
            leases: std::mem::take(&mut state.account.leases),
            ..Account::default()
        };
        let kept = account.leases.clone();
        let account = Box::new(account);
        let stored = match self.inbox.call(|reply| InboxMessage::Pass { account, reply }).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) | Err(error) => Err(error),
        };
        if stored.is_err() {
            state.account.leases = kept;
        }
        for reply in waiting {
            let answer = match (&stored, &refused) {
                (Err(error), _) => Err(error.clone()),
                (Ok(()), None) => Ok(LeaseTaken { state: LeaseState::Issued, refused: None }),
                (Ok(()), Some(_)) if last => {
                    Ok(LeaseTaken { state: LeaseState::Failed, refused: refused.clone() })
                }
                (Ok(()), Some(_)) => Err(Unavailable::Busy { part: "connector" }),
            };
            let _ = reply.send(answer);
        }
    }
}

/// One piece of work for some hosts.
struct FanOut {
    connectors: Arc<dyn Connectors>,
    runs: Arc<Semaphore>,
    task: Task,
    hosts: Vec<WorkHost>,
}

impl FanOut {
    /// Runs it as one whole: for all hosts, or for each of them, all of which must succeed.
    async fn whole(self, per_host: bool) -> Result<(), String> {
        if !per_host {
            let outcome =
                run_one(&*self.connectors, &self.runs, Work { task: self.task, hosts: self.hosts }).await;
            return if outcome.success { Ok(()) } else { Err(reason(&outcome)) };
        }
        for host in self.hosts {
            let id = host.host_id;
            let work = Work { task: self.task.clone(), hosts: vec![host] };
            let outcome = run_one(&*self.connectors, &self.runs, work).await;
            if !outcome.success {
                return Err(format!("{id}: {}", reason(&outcome)));
            }
        }
        Ok(())
    }
}

/// Runs a command at its hosts and reports, now and then and at the end.
async fn carry_out(
    id: CommandId,
    run: FanOut,
    missing: Vec<HostId>,
    cancel: &Notify,
    executor: &ActorRef<ExecutorMessage>,
) -> CommandReport {
    let host_count = (run.hosts.len() + missing.len()) as u64;
    if host_count == 0 {
        return inbox::failure(id, "no target hosts resolved");
    }
    let absent =
        |host: HostId| (host.to_string(), HostResult { success: false, detail: "host not found".to_owned() });
    let mut results: BTreeMap<String, HostResult> = missing.into_iter().map(absent).collect();
    let kind = Work { task: run.task.clone(), hosts: Vec::new() }.kind();
    let Some(service) = run.connectors.serves(&kind) else {
        return inbox::failure(id, &format!("no connector is declared at this site for {kind}"));
    };
    let all: Vec<HostId> = run.hosts.iter().map(|host| host.host_id).collect();
    let chunks: Vec<Vec<WorkHost>> = if service.per_host {
        run.hosts.into_iter().map(|host| vec![host]).collect()
    } else if run.hosts.is_empty() {
        Vec::new()
    } else {
        vec![run.hosts]
    };
    let mut waiting = chunks.into_iter();
    let mut running = tokio::task::JoinSet::new();
    let mut said = Instant::now();
    let mut cancelled = false;
    let mut fault = None;
    loop {
        while !cancelled && running.len() < limits::RUNS_AT_ONCE {
            let Some(hosts) = waiting.next() else { break };
            let (connectors, runs) = (Arc::clone(&run.connectors), Arc::clone(&run.runs));
            let work = Work { task: run.task.clone(), hosts };
            running.spawn(async move {
                let hosts: Vec<HostId> = work.hosts.iter().map(|host| host.host_id).collect();
                (hosts, run_one(&*connectors, &runs, work).await)
            });
        }
        let ended = tokio::select! {
            biased;
            () = cancel.notified() => {
                cancelled = true;
                // Stops the runs, and with them what they started.
                running.shutdown().await;
                break;
            }
            ended = running.join_next() => ended,
        };
        match ended {
            Some(Ok((hosts, outcome))) => {
                note(&mut results, &hosts, &outcome);
                let good = |host: &HostId| results.get(&host.to_string()).is_some_and(|said| said.success);
                // A run that failed as a whole is no success, whatever it says of its hosts.
                if !outcome.success && hosts.iter().all(good) {
                    fault = Some(reason(&outcome));
                }
            }
            // A connector that panicked; its hosts are reported below.
            Some(Err(error)) => debug!(%error, "a connector broke off"),
            None => break,
        }
        if said.elapsed() >= limits::PROGRESS_INTERVAL {
            said = Instant::now();
            let so_far = inbox::report(id, host_count, results.clone(), None);
            let report = CommandReport { status: CommandReportStatus::InProgress, ..so_far };
            let _ = executor.cast(ExecutorMessage::Progressed { report });
        }
    }
    let silent = if cancelled { "cancelled" } else { "the connector broke off" };
    for host in all {
        results
            .entry(host.to_string())
            .or_insert_with(|| HostResult { success: false, detail: silent.to_owned() });
    }
    let error = if cancelled { Some("cancelled while it ran".to_owned()) } else { fault };
    inbox::report(id, host_count, results, error)
}

/// What a run says about its hosts.
fn note(results: &mut BTreeMap<String, HostResult>, hosts: &[HostId], outcome: &Outcome) {
    for host in hosts {
        let id = host.to_string();
        let said = outcome.results.get(&id).cloned();
        let said =
            said.unwrap_or_else(|| HostResult { success: outcome.success, detail: outcome.detail.clone() });
        results.insert(id, HostResult { success: said.success, detail: clipped(&said.detail) });
    }
}

async fn run_one(connectors: &dyn Connectors, runs: &Semaphore, work: Work) -> Outcome {
    match runs.acquire().await {
        Ok(_place) => connectors.carry_out(work).await,
        Err(_) => Outcome::failed("the site is stopping"),
    }
}

fn reason(outcome: &Outcome) -> String {
    let first = || {
        let failed = outcome.results.iter().find(|(_, result)| !result.success);
        failed.map(|(host, result)| format!("{host}: {}", result.detail))
    };
    let text = if outcome.detail.is_empty() { first() } else { None };
    clipped(&text.unwrap_or_else(|| {
        if outcome.detail.is_empty() { "the connector failed".to_owned() } else { outcome.detail.clone() }
    }))
}

fn work_host(row: &hansa_model::HostRow<'_>) -> WorkHost {
    WorkHost {
        host_id: row.host_id,
        fqdn: row.fqdn.to_owned(),
        ipv4: row.ipv4.map(str::to_owned),
        ipv6: row.ipv6.map(str::to_owned),
    }
}

fn work_lease(key: &str, row: &ReceivedLease) -> WorkLease {
    WorkLease {
        kind: lease_kind(row).to_owned(),
        correlation_key: key.to_owned(),
        host_id: row.host_id.clone(),
        secret_name: row.secret_name.clone(),
        metadata: row.metadata.clone(),
        expires_at: row.expires_at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(state: LeaseState) -> ReceivedLease {
        ReceivedLease {
            lease_id: None,
            host_id: "web-1".to_owned(),
            secret_name: "orders".to_owned(),
            backend_role: None,
            kind: None,
            ttl_seconds: None,
            state,
            metadata: None,
            requested_at: hansa_model::Timestamp::EPOCH,
            received_at: None,
            delivered_at: None,
            expires_at: None,
            held: false,
            last_error: Some("no connector".to_owned()),
        }
    }

    #[test]
    fn only_a_credential_can_be_refused() {
        let refused = |word, state| LeaseTaken::new(word, &row(state)).refused;

        assert_eq!(refused(LeaseWord::Issued, LeaseState::Failed).as_deref(), Some("no connector"));
        assert_eq!(refused(LeaseWord::Failed, LeaseState::Failed), None);
        assert_eq!(refused(LeaseWord::Issued, LeaseState::Issued), None);
        assert_eq!(refused(LeaseWord::Revoked, LeaseState::Revoked), None);
    }
}
