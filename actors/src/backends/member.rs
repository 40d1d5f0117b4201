//! One secret backend: proxied reads, the state of its connection, the schedule of its syncs.
//!
//! The mailbox decides; tasks talk to the backend. A backend that hangs keeps nobody waiting but those who
//! asked it: calls have a bound in number and time, equal reads share calls, and after repeated failures
//! it is left alone for a while.

use std::sync::Arc;
use std::time::Duration;

use hansa_backends::{CallError, ListPage};
use hansa_model::Timestamp;
use hansa_model::limits::secrets as limits;
use hansa_model::machine::breaker::{Breaker, Outcome};
use hansa_model::machine::coalesce::{Coalesce, Join};
use hansa_model::secrets::id::BackendId;
use hansa_model::secrets::row::Mode;
use hansa_storage::table;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::error::{BackendError, BackendFailure};
use super::fetch::{Fetched, Source, VersionKey};
use super::sync::{Request, Resolution, Running, Started};
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
    Write {
        write: super::sync::WriteThrough,
        reply: oneshot::Sender<Result<hansa_backends::Written, BackendFailure>>,
    },
    /// How a call ended, for the breaker and the shown state. No answer.
    Called { outcome: Result<(), BackendFailure> },
    /// Looks whether the backend answers, at most every ten seconds. Answers with what is known then.
    Probe { reply: RpcReplyPort<Arc<ConnectionView>> },
    /// A probe has ended. No answer.
    ProbeEnded(Probed),
    /// A source was opened by a task. No answer.
    Opened { source: Box<Source> },
    /// Starts a sync, or joins the running one. Answers at once.
    Sync { confirm_deletions: bool, reply: RpcReplyPort<Result<Started, BackendError>> },
    /// A sync has ended and its state is on disk. No answer.
    SyncEnded { state: Box<hansa_model::secrets::row::SyncState>, conflicts: u64 },
    /// Ends a conflict as somebody has decided. Answers once that is on disk.
    Resolve { resolution: Resolution, reply: RpcReplyPort<Result<(), BackendError>> },
    /// The configuration has changed; it is published. No answer.
    Configured,
    /// The backend is gone. No answer.
    Removed,
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

/// How a probe ended.
#[derive(Debug)]
pub(crate) struct Probed {
    pub(crate) outcome: Result<Duration, BackendFailure>,
}

pub(crate) struct BackendActor {
    pub(crate) backends: Backends,
    pub(crate) id: BackendId,
}

pub(crate) struct BackendState {
    member: Member,
    source: Option<Source>,
    breaker: Breaker,
    reads: Coalesce<ReadKey, oneshot::Sender<ReadAnswer>>,
    probing: Option<(Tied, Vec<RpcReplyPort<Arc<ConnectionView>>>)>,
    probed: Option<Instant>,
    sync: Option<Running>,
    removed: bool,
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
        let member = self.backends.board().members.get(&self.id).cloned().ok_or("the backend is gone")?;
        let view = self.backends.context.store.read()?;
        let sync = view.get::<table::BackendSyncs>(&self.id)?.unwrap_or_default();
        let conflicts = view.all::<table::SecretConflicts>(super::registry::every_conflict(self.id))?;
        member.published.sync.store(Arc::new(sync));
        member.published.conflicts.store(conflicts.len() as u64, std::sync::atomic::Ordering::Relaxed);
        let probe = myself.clone();
        let ticker = Tied::spawn(async move {
            while myself.cast(BackendMessage::Tick).is_ok() {
                tokio::time::sleep(TICK).await;
            }
        });
        // Probed at once, so that its state shows (contract B.1).
        let _ = probe.cast(BackendMessage::Configured);
        Ok(BackendState {
            member,
            source: None,
            breaker: Breaker::default(),
            reads: Coalesce::default(),
            probing: None,
            probed: None,
            sync: None,
            removed: false,
            _ticker: ticker,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<BackendMessage>,
        message: BackendMessage,
        state: &mut BackendState,
    ) -> Result<(), ActorProcessingErr> {
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
            BackendMessage::ProbeEnded(probed) => self.probe_ended(state, probed),
            BackendMessage::Opened { source } => state.source = Some(*source),
            BackendMessage::Sync { confirm_deletions, reply } => {
                let request = Request { manual: true, confirm_deletions };
                let _ = reply.send(self.start_sync(&myself, state, request));
            }
            BackendMessage::SyncEnded { state: ended, conflicts } => {
                state.sync = None;
                state.member.published.sync.store(Arc::new(*ended));
                state.member.published.conflicts.store(conflicts, std::sync::atomic::Ordering::Relaxed);
            }
            BackendMessage::Resolve { resolution, reply } => {
                let resolved =
                    super::sync::resolve(&self.backends, &state.member, state.source.as_ref(), &resolution);
                let resolved = resolved.await;
                if let Ok(open) = &resolved {
                    state.member.published.conflicts.store(*open, std::sync::atomic::Ordering::Relaxed);
                }
                let _ = reply.send(resolved.map(drop));
            }
            BackendMessage::Configured => self.configured(&myself, state),
            BackendMessage::Removed => {
                state.removed = true;
                state.sync = None;
                state.source = None;
                myself.stop(None);
            }
            BackendMessage::Tick => self.tick(&myself, state),
            #[cfg(feature = "testing")]
            BackendMessage::DangerPanic => panic!("asked to fail"),
        }
        Ok(())
    }
}

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

    fn start_read(&self, myself: &ActorRef<BackendMessage>, state: &BackendState, key: ReadKey) {
        let (backends, member, at_hand) = (self.backends.clone(), state.member.clone(), state.source.clone());
        let myself = myself.clone();
        tokio::spawn(async move {
            let answer = async {
                let source = open(&backends, &member, at_hand.as_ref(), &myself).await?;
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
        let (backends, member, at_hand) = (self.backends.clone(), state.member.clone(), state.source.clone());
        let myself = myself.clone();
        tokio::spawn(async move {
            let answer = match open(&backends, &member, at_hand.as_ref(), &myself).await {
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
        let now = self.backends.context.now();
        state.breaker.admit(now).map_err(|until| BackendFailure::Resting { retry_after: until.since(now) })
    }

    /// Takes down how a call ended.
    fn record(&self, state: &mut BackendState, outcome: &Result<(), BackendFailure>) {
        let context = &self.backends.context;
        let now = context.now();
        let jitter = f64::from(context.entropy.bytes::<1>()[0]) / 256.0;
        let judged = match outcome {
            Err(BackendFailure::Call(CallError::Unavailable { .. }) | BackendFailure::TimedOut) => {
                Outcome::Failed
            }
            Ok(()) | Err(_) => Outcome::Answered,
        };
        state.breaker.record(now, judged, jitter);
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
        if let Some((_, waiting)) = &mut state.probing {
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
        let (backends, member, at_hand) = (self.backends.clone(), state.member.clone(), state.source.clone());
        let myself = myself.clone();
        let task = Tied::spawn(async move {
            let begun = Instant::now();
            let outcome = async {
                let source = open(&backends, &member, at_hand.as_ref(), &myself).await?;
                source.once(begun + source.timeout, source.driver.probe()).await
            }
            .await;
            let outcome = outcome.map(|()| begun.elapsed());
            let _ = myself.cast(BackendMessage::ProbeEnded(Probed { outcome }));
        });
        state.probing = Some((task, reply.into_iter().collect()));
    }

    fn probe_ended(&self, state: &mut BackendState, Probed { outcome }: Probed) {
        state.probed = Some(Instant::now());
        self.record(state, &outcome.as_ref().map(drop).map_err(Clone::clone));
        let published = &state.member.published;
        let mut view = (**published.connection.load()).clone();
        view.probed_at = Some(self.backends.context.now());
        view.latency = outcome.as_ref().ok().copied();
        let view = Arc::new(view);
        published.connection.store(Arc::clone(&view));
        for reply in state.probing.take().into_iter().flat_map(|(_, waiting)| waiting) {
            let _ = reply.send(Arc::clone(&view));
        }
    }

    fn configured(&self, myself: &ActorRef<BackendMessage>, state: &mut BackendState) {
        let board = self.backends.board();
        let Some(member) = board.members.get(&self.id) else { return };
        let same_place = member.config.destination() == state.member.config.destination();
        state.member = member.clone();
        if !same_place {
            // What was logged in to belongs to the old place.
            state.source = None;
        }
        if !member.row.enabled || member.row.mode == Mode::Proxy {
            state.sync = None;
        }
        state.breaker = Breaker::default();
        state.probed = None;
        self.probe(myself, state, None);
    }

    fn tick(&self, myself: &ActorRef<BackendMessage>, state: &mut BackendState) {
        if state.removed
            || state.sync.is_some()
            || !state.member.row.enabled
            || state.member.row.mode == Mode::Proxy
        {
            return;
        }
        let context = &self.backends.context;
        let now = context.now();
        let interval = state.member.interval();
        let sync = state.member.published.sync.load_full();
        let Some(due) = sync.next_at else {
            // The first run of a new backend is due at once; after a start of the node they are spread.
            let mut first = (*sync).clone();
            let spread = sync.last.is_some().then(|| u32::from(context.entropy.bytes::<1>()[0]));
            first.next_at = Some(spread.map_or(now, |part| now.after(interval * part / 256)));
            state.member.published.sync.store(Arc::new(first));
            return;
        };
        // A clock that was set back does not put a sync off for longer than its interval.
        if now >= due || due.since(now) > interval {
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
        if let Some(running) = &state.sync {
            return Ok(running.started.again());
        }
        let running = Running::start(&self.backends, &state.member, state.source.clone(), request, myself);
        let started = running.started;
        state.sync = Some(running);
        Ok(started)
    }
}

impl Member {
    /// Between two syncs.
    pub(crate) fn interval(&self) -> Duration {
        Duration::from_secs(self.row.sync_interval_seconds.unwrap_or(3_600))
    }
}

/// The source for a call; a new one is told to the actor, so that the next call has it at hand.
pub(crate) async fn open(
    backends: &Backends,
    member: &Member,
    at_hand: Option<&Source>,
    myself: &ActorRef<BackendMessage>,
) -> Result<Source, BackendFailure> {
    let source = Source::open(backends, member, at_hand).await?;
    if !at_hand.is_some_and(|at_hand| Arc::ptr_eq(&at_hand.driver, &source.driver)) {
        let _ = myself.cast(BackendMessage::Opened { source: Box::new(source.clone()) });
    }
    Ok(source)
}
