//! One secret backend: proxied reads, the state of its connection, the schedule of its syncs.
//!
//! The mailbox decides; tasks talk to the backend and end with the actor. A backend that hangs keeps nobody
//! waiting but those who asked it: calls have a bound in number and time, equal reads share calls, and after
//! repeated failures it is left alone for a while.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hansa_backends::{CallError, ListPage, Written};
use hansa_model::Timestamp;
use hansa_model::limits::secrets as limits;
use hansa_model::machine::backend_sync as machine;
use hansa_model::machine::breaker::{Breaker, BreakerState, Outcome};
use hansa_model::machine::coalesce::{Coalesce, Join};
use hansa_model::secrets::id::{BackendId, SyncRunId};
use hansa_model::secrets::row::{Mode, SyncState};
use hansa_storage::table;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::conflicts::{self, Resolution};
use super::error::{BackendError, BackendFailure};
use super::fetch::{Fetched, Slot, Source, VersionKey};
use super::sync::{Request, Running, Started};
use super::write_through::WriteThrough;
use super::{Backends, Member};
use crate::supervision::Tied;

/// What a read is told.
pub(crate) type ReadAnswer = Result<Arc<Fetched>, BackendFailure>;

/// Everything a backend's actor can be asked.
#[derive(Debug)]
pub(crate) enum BackendMessage {
    /// Reads one value. Answers when the backend has, or by the deadline.
    Read { name: String, version: VersionKey, reply: oneshot::Sender<ReadAnswer> },
    /// A call for a read has ended. No answer.
    ReadEnded { key: ReadKey, answer: ReadAnswer },
    /// Lists one page. Answers as above.
    List { prefix: String, page: Option<String>, reply: oneshot::Sender<Result<ListPage, BackendFailure>> },
    /// Writes a value through. Answers when the backend has taken it.
    Write { write: WriteThrough, reply: oneshot::Sender<Result<Written, BackendFailure>> },
    /// How a call ended, for the breaker and the shown state. No answer.
    Called { outcome: Result<(), BackendFailure> },
    /// Looks whether the backend answers, at most every ten seconds. Answers with what is known then.
    Probe { reply: RpcReplyPort<Arc<ConnectionView>> },
    /// A probe has ended. No answer.
    ProbeEnded { outcome: Result<Duration, BackendFailure> },
    /// Starts a sync, or joins the running one. Answers at once.
    Sync { confirm_deletions: bool, reply: RpcReplyPort<Result<Started, BackendError>> },
    /// A sync has ended and its state is on disk. No answer.
    SyncEnded { id: SyncRunId, state: Box<SyncState> },
    /// Ends a conflict as somebody has decided. Answers once that is on disk.
    Resolve { resolution: Resolution, reply: oneshot::Sender<Result<(), BackendError>> },
    /// Conflicts were opened or closed on disk. No answer.
    ConflictsChanged,
    /// The configuration has changed; it is published. No answer.
    Configured,
    /// Stops syncing until it is configured anew. Answers once no sync can commit anything any more that it has
    /// not handed to the store by then.
    Rest { reply: RpcReplyPort<()> },
    /// Look whether a sync is due. No answer.
    Tick,
    /// Fails on purpose, to show that only this backend restarts.
    #[cfg(feature = "testing")]
    DangerPanic,
}

/// What reads share a call by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ReadKey {
    pub(crate) name: String,
    pub(crate) version: VersionKey,
}

/// The state of a connection, as it is shown (contract B.2).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ConnectionView {
    pub(crate) probed_at: Option<Timestamp>,
    pub(crate) latency: Option<Duration>,
    pub(crate) failure: Option<BackendFailure>,
    pub(crate) last_error: Option<(String, Timestamp)>,
    pub(crate) consecutive_failures: u32,
    pub(crate) throttled: bool,
    pub(crate) resting_until: Option<Timestamp>,
}

pub(crate) struct BackendActor {
    pub(crate) backends: Backends,
    pub(crate) id: BackendId,
}

pub(crate) struct BackendState {
    member: Member,
    source: Slot,
    breaker: Breaker,
    reads: Coalesce<ReadKey, oneshot::Sender<ReadAnswer>>,
    /// Everything that is under way.
    tasks: JoinSet<()>,
    /// Who waits for the probe that is under way.
    probing: Option<Vec<RpcReplyPort<Arc<ConnectionView>>>>,
    probed: Option<Instant>,
    sync: Option<Running>,
    /// No sync starts until the next configuration.
    resting: bool,
    _ticker: Tied,
}

/// Between two looks whether a sync is due.
const TICK: Duration = Duration::from_secs(1);

impl Actor for BackendActor {
    type Msg = BackendMessage;
    type State = BackendState;
    type Arguments = ();

    async fn pre_start(
        &self,
        myself: ActorRef<BackendMessage>,
        (): (),
    ) -> Result<BackendState, ActorProcessingErr> {
        let context = &self.backends.context;
        let member = self.backends.board().members.get(&self.id).cloned().ok_or("the backend is gone")?;
        let mut sync = context.store.read()?.get::<table::BackendSyncs>(&self.id)?.unwrap_or_default();
        let now = context.now();
        // What is due at a start of the node is spread, so that a hundred backends do not sync together.
        if sync.next_at.is_none_or(|due| due <= now) {
            let due = machine::first_run(now, member.interval(), sync.last.is_some(), self.jitter());
            sync.next_at = Some(due);
        }
        member.published.sync.store(Arc::new(sync));
        let ticking = myself.clone();
        let ticker = Tied::spawn(async move {
            while ticking.cast(BackendMessage::Tick).is_ok() {
                tokio::time::sleep(TICK).await;
            }
        });
        let mut state = BackendState {
            member,
            source: Slot::default(),
            breaker: Breaker::default(),
            reads: Coalesce::default(),
            tasks: JoinSet::new(),
            probing: None,
            probed: None,
            sync: None,
            resting: false,
            _ticker: ticker,
        };
        self.count_conflicts(&state)?;
        // At once, so that its state shows (contract B.1).
        self.probe(&myself, &mut state, None);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<BackendMessage>,
        message: BackendMessage,
        state: &mut BackendState,
    ) -> Result<(), ActorProcessingErr> {
        // A task that failed has not told those who wait for it: a new incarnation lets them know.
        while let Some(ended) = state.tasks.try_join_next() {
            if let Err(error) = ended
                && error.is_panic()
            {
                return Err(error.into());
            }
        }
        // Callers that gave up have nothing to be told, here and below.
        match message {
            BackendMessage::Read { name, version, reply } => {
                self.read(&myself, state, ReadKey { name, version }, reply);
            }
            BackendMessage::ReadEnded { key, answer } => self.read_ended(&myself, state, key, &answer),
            BackendMessage::List { prefix, page, reply } => {
                self.call(&myself, state, reply, move |source| async move {
                    source.retrying(|| source.driver.list(&prefix, page.as_deref())).await
                });
            }
            BackendMessage::Write { write, reply } => {
                self.call(&myself, state, reply, move |source| async move { write.send(&source).await });
            }
            BackendMessage::Called { outcome } => self.record(state, &outcome),
            BackendMessage::Probe { reply } => self.probe(&myself, state, Some(reply)),
            BackendMessage::ProbeEnded { outcome } => self.probe_ended(state, &outcome),
            BackendMessage::Sync { confirm_deletions, reply } => {
                let request = Request { manual: true, confirm_deletions };
                let _ = reply.send(self.start_sync(&myself, state, request));
            }
            BackendMessage::SyncEnded { id, state: ended } => {
                // One that was cancelled while it ended says nothing any more.
                if state.sync.take_if(|running| running.started.id == id).is_some() {
                    state.member.published.sync.store(Arc::new(*ended));
                    self.count_conflicts(state)?;
                }
            }
            BackendMessage::Resolve { resolution, reply } => self.resolve(&myself, state, resolution, reply),
            BackendMessage::ConflictsChanged => self.count_conflicts(state)?,
            BackendMessage::Configured => self.configured(&myself, state).await,
            BackendMessage::Rest { reply } => {
                state.resting = true;
                if let Some(running) = state.sync.take() {
                    running.cancel().await;
                }
                let _ = reply.send(());
            }
            BackendMessage::Tick => self.tick(&myself, state),
            #[cfg(feature = "testing")]
            BackendMessage::DangerPanic => panic!("asked to fail"),
        }
        state.member.published.waiting.store(state.reads.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}

// Calls.
impl BackendActor {
    fn read(
        &self,
        myself: &ActorRef<BackendMessage>,
        state: &mut BackendState,
        key: ReadKey,
        reply: oneshot::Sender<ReadAnswer>,
    ) {
        if let Err(failure) = self.admit(state) {
            let _ = reply.send(Err(failure));
            return;
        }
        match state.reads.join(key.clone(), reply) {
            Join::Start => self.start_read(myself, state, key),
            Join::Wait => {}
        }
    }

    fn start_read(&self, myself: &ActorRef<BackendMessage>, state: &mut BackendState, key: ReadKey) {
        let (backends, member, slot) = (self.backends.clone(), state.member.clone(), state.source.clone());
        let myself = myself.clone();
        state.tasks.spawn(async move {
            let answer = async {
                let source = slot.open(&backends, &member).await?;
                source.read(&key.name, &key.version).await.map(Arc::new)
            }
            .await;
            // An actor that is gone has nobody waiting.
            let _ = myself.cast(BackendMessage::ReadEnded { key, answer });
        });
    }

    fn read_ended(
        &self,
        myself: &ActorRef<BackendMessage>,
        state: &mut BackendState,
        key: ReadKey,
        answer: &ReadAnswer,
    ) {
        self.record(state, &answer.as_ref().map(drop).map_err(Clone::clone));
        let ended = state.reads.finished(&key);
        for waiter in ended.waiters {
            let _ = waiter.send(answer.clone());
        }
        if ended.starts {
            self.start_read(myself, state, key);
        }
    }

    /// A call that nobody shares, in a task of its own.
    fn call<T, F>(
        &self,
        myself: &ActorRef<BackendMessage>,
        state: &mut BackendState,
        reply: oneshot::Sender<Result<T, BackendFailure>>,
        work: impl FnOnce(Source) -> F + Send + 'static,
    ) where
        T: Send + 'static,
        F: Future<Output = Result<T, BackendFailure>> + Send,
    {
        if let Err(failure) = self.admit(state) {
            let _ = reply.send(Err(failure));
            return;
        }
        let (backends, member, slot) = (self.backends.clone(), state.member.clone(), state.source.clone());
        let myself = myself.clone();
        state.tasks.spawn(async move {
            let answer = match slot.open(&backends, &member).await {
                Ok(source) => work(source).await,
                Err(failure) => Err(failure),
            };
            let outcome = answer.as_ref().map(drop).map_err(Clone::clone);
            let _ = myself.cast(BackendMessage::Called { outcome });
            let _ = reply.send(answer);
        });
    }

    /// Whether a call may be made now.
    fn admit(&self, state: &mut BackendState) -> Result<(), BackendFailure> {
        if state.reads.len() + state.tasks.len() >= limits::CALLERS_WAITING_MAX {
            state.reads.cancel_all(oneshot::Sender::is_closed);
            if state.reads.len() + state.tasks.len() >= limits::CALLERS_WAITING_MAX {
                return Err(BackendFailure::Crowded);
            }
        }
        let now = self.backends.context.now();
        state.breaker.admit(now).map_err(|until| BackendFailure::Resting { retry_after: until.since(now) })
    }

    /// Takes down how a call ended.
    fn record(&self, state: &mut BackendState, outcome: &Result<(), BackendFailure>) {
        let now = self.backends.context.now();
        let judged = match outcome {
            // What this node did not do says nothing about the backend.
            Err(BackendFailure::Here(_) | BackendFailure::Crowded | BackendFailure::Resting { .. }) => return,
            Err(BackendFailure::Call(CallError::Unavailable { .. })) => Some(Outcome::Failed),
            // Most of that time may have gone by before it was asked; but the one call that finds out has no queue
            // before it.
            Err(BackendFailure::TimedOut) => {
                (state.breaker.state(now) == BreakerState::HalfOpen).then_some(Outcome::Failed)
            }
            Ok(())
            | Err(BackendFailure::Call(_) | BackendFailure::Open(_) | BackendFailure::LoginMissing(_)) => {
                Some(Outcome::Answered)
            }
        };
        if let Some(judged) = judged {
            state.breaker.record(now, judged, self.jitter());
        }
        let published = &state.member.published;
        let mut view = (**published.connection.load()).clone();
        view.resting_until = state.breaker.open_until(now);
        match outcome {
            Ok(())
            | Err(BackendFailure::Call(
                CallError::NotFound | CallError::VersionNotFound | CallError::Conflict,
            )) => {
                view.consecutive_failures = 0;
                view.throttled = false;
                view.failure = None;
            }
            Err(failure) => {
                view.consecutive_failures = view.consecutive_failures.saturating_add(1);
                view.throttled = matches!(failure, BackendFailure::Call(CallError::Throttled { .. }));
                view.last_error = Some((failure.to_string(), now));
                if !view.throttled {
                    view.failure = Some(failure.clone());
                }
            }
        }
        if view != **published.connection.load() {
            published.connection.store(Arc::new(view));
        }
    }

    fn probe(
        &self,
        myself: &ActorRef<BackendMessage>,
        state: &mut BackendState,
        reply: Option<RpcReplyPort<Arc<ConnectionView>>>,
    ) {
        if let Some(waiting) = &mut state.probing {
            waiting.extend(reply);
            return;
        }
        let fresh = state.probed.is_some_and(|at| at.elapsed() < limits::PROBE_INTERVAL);
        if fresh || !state.member.row.enabled {
            if let Some(reply) = reply {
                let _ = reply.send(state.member.published.connection.load_full());
            }
            return;
        }
        let (backends, member, slot) = (self.backends.clone(), state.member.clone(), state.source.clone());
        let myself = myself.clone();
        state.tasks.spawn(async move {
            let begun = Instant::now();
            let outcome = async {
                let source = slot.open(&backends, &member).await?;
                source.once(begun + source.timeout, source.driver.probe()).await
            }
            .await;
            let _ = myself.cast(BackendMessage::ProbeEnded { outcome: outcome.map(|()| begun.elapsed()) });
        });
        state.probing = Some(reply.into_iter().collect());
    }

    fn probe_ended(&self, state: &mut BackendState, outcome: &Result<Duration, BackendFailure>) {
        state.probed = Some(Instant::now());
        self.record(state, &outcome.as_ref().map(drop).map_err(Clone::clone));
        let published = &state.member.published;
        let mut view = (**published.connection.load()).clone();
        view.probed_at = Some(self.backends.context.now());
        view.latency = outcome.as_ref().ok().copied();
        let view = Arc::new(view);
        published.connection.store(Arc::clone(&view));
        for reply in state.probing.take().into_iter().flatten() {
            let _ = reply.send(Arc::clone(&view));
        }
    }
}

// Syncs.
impl BackendActor {
    async fn configured(&self, myself: &ActorRef<BackendMessage>, state: &mut BackendState) {
        let Some(member) = self.backends.board().members.get(&self.id).cloned() else {
            myself.stop(None);
            return;
        };
        if let Some(running) = state.sync.take() {
            running.cancel().await;
        }
        state.member = member;
        state.resting = false;
        state.breaker = Breaker::default();
        state.probed = None;
        // Paths may have come: they are copied now, not at the end of the interval.
        self.due_at(state, self.backends.context.now());
        self.probe(myself, state, None);
    }

    fn due_at(&self, state: &BackendState, at: Timestamp) {
        let published = &state.member.published.sync;
        published.store(Arc::new(SyncState { next_at: Some(at), ..(**published.load()).clone() }));
    }

    fn tick(&self, myself: &ActorRef<BackendMessage>, state: &mut BackendState) {
        state.reads.cancel_all(oneshot::Sender::is_closed);
        if state.sync.is_some() || state.resting || !state.member.is_synced() {
            return;
        }
        let now = self.backends.context.now();
        let due = state.member.published.sync.load().next_at.unwrap_or(now);
        // A clock that was set back does not put a sync off for longer than its interval.
        if now >= due || due.since(now) > state.member.interval() {
            let request = Request { manual: false, confirm_deletions: false };
            if let Err(error) = self.start_sync(myself, state, request) {
                tracing::debug!(%error, "sync did not start");
            }
        }
    }

    fn start_sync(
        &self,
        myself: &ActorRef<BackendMessage>,
        state: &mut BackendState,
        request: Request,
    ) -> Result<Started, BackendError> {
        if state.member.row.mode == Mode::Proxy {
            return Err(BackendError::Proxy);
        }
        if !state.member.row.enabled {
            return Err(BackendError::Disabled);
        }
        if state.resting {
            return Err(BackendError::NotFound(self.id));
        }
        if let Some(running) = &state.sync {
            return Ok(running.started.again());
        }
        let (member, slot) = (state.member.clone(), state.source.clone());
        let running = Running::start(&mut state.tasks, &self.backends, member, slot, request, myself);
        let started = running.started;
        state.sync = Some(running);
        Ok(started)
    }

    fn resolve(
        &self,
        myself: &ActorRef<BackendMessage>,
        state: &mut BackendState,
        resolution: Resolution,
        reply: oneshot::Sender<Result<(), BackendError>>,
    ) {
        let (backends, member, slot) = (self.backends.clone(), state.member.clone(), state.source.clone());
        let myself = myself.clone();
        state.tasks.spawn(async move {
            let resolved = conflicts::resolve(&backends, &member, &slot, &resolution).await;
            let _ = myself.cast(BackendMessage::ConflictsChanged);
            let _ = reply.send(resolved);
        });
    }

    /// Publishes how many conflicts wait for somebody.
    fn count_conflicts(&self, state: &BackendState) -> Result<(), ActorProcessingErr> {
        let open = conflicts::open(&self.backends.context.store.read()?, self.id)?;
        let open = open.iter().filter(|conflict| !conflict.kept_local).count();
        state.member.published.conflicts.store(open as u64, Ordering::Relaxed);
        Ok(())
    }

    fn jitter(&self) -> f64 {
        f64::from(self.backends.context.entropy.bytes::<1>()[0]) / 256.0
    }
}

impl Member {
    /// Between two syncs.
    pub(crate) fn interval(&self) -> Duration {
        Duration::from_secs(self.row.sync_interval_seconds.unwrap_or(3_600))
    }

    /// Whether its copies are kept up to date.
    fn is_synced(&self) -> bool {
        self.row.enabled && self.row.mode == Mode::Sync
    }
}
