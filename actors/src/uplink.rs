//! A site's way up: dials the coordinator, sends what waits, backs off, classifies the connection.
//!
//! One session runs at a time, as a task of its own; the actor only decides when the next one starts. In a
//! session everything goes in lockstep on the ingest lane: one batch or digest, one answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hansa_model::enrollment::{Enrollment, EnrollmentStatus};
use hansa_model::limits::{site as site_limits, sync as limits};
use hansa_model::machine::link::{self, Connection};
use hansa_model::push::{LeasePush, PushContent};
use hansa_model::sync::BatchRefusal;
use hansa_transport::wire::{Batch, Down, Health, Held, Hello, PushAck, PushRefused, Up, WIRE_VERSION};
use hansa_transport::{
    CloseCode, CloseReason, DialError, Endpoint, Lane, LaneReceiver, LaneSender, Link, LinkLost, PublicKey,
    RecvError,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::{Mutex, Notify};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};

use crate::context::Context;
use crate::drain::Drain;
use crate::error::Unavailable;
use crate::executor::ExecutorMessage;
use crate::findings::FindingsMessage;
use crate::inbox::InboxMessage;
use crate::inventory::InventoryMessage;
use crate::membership::Membership;
use crate::supervision::{Handle, Tied};
use crate::sync_queue::SyncQueueMessage;
use crate::view::QueueView;

/// Everything the uplink can be told.
#[derive(Debug)]
pub(crate) enum UplinkMessage {
    /// Dial now: the wait is over, or the membership changed.
    Dial,
    /// Do not wait for the next pass to an HTTP peer: something was revived that it should try.
    Hurry,
    /// The session has begun: the coordinator has welcomed us.
    Welcomed,
    /// The session is over.
    Ended { why: Ended },
    /// Fails on purpose, to show that only this actor restarts.
    #[cfg(feature = "testing")]
    DangerPanic,
}

/// Why a session ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The coordinator has put us on hold.
    Suspended,
    /// The coordinator does not know us any more.
    Removed,
    /// Another try may help.
    Failed(String),
    /// A pass to an HTTP peer is done; the next one is an interval away.
    Drained,
}

/// Between full snapshots to an HTTP peer for which nothing waits: it has no digests to compare.
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(3_600);

pub(crate) struct UplinkActor {
    pub(crate) context: Arc<Context>,
    pub(crate) endpoint: Endpoint,
    pub(crate) membership: Membership,
    pub(crate) queue: Handle<SyncQueueMessage>,
    pub(crate) inventory: Handle<InventoryMessage>,
    pub(crate) findings: Handle<FindingsMessage>,
    pub(crate) inbox: Handle<InboxMessage>,
    pub(crate) executor: Handle<ExecutorMessage>,
    pub(crate) queue_view: Arc<ArcSwap<QueueView>>,
    pub(crate) wake: Arc<Notify>,
}

pub(crate) struct UplinkState {
    connection: Connection,
    session: Option<Tied>,
    redial: Option<Tied>,
    snapshot_at: Option<Instant>,
}

impl Actor for UplinkActor {
    type Msg = UplinkMessage;
    type State = UplinkState;
    type Arguments = ();

    async fn pre_start(
        &self,
        myself: ActorRef<UplinkMessage>,
        (): (),
    ) -> Result<UplinkState, ActorProcessingErr> {
        myself.cast(UplinkMessage::Dial)?;
        Ok(UplinkState { connection: Connection::default(), session: None, redial: None, snapshot_at: None })
    }

    async fn handle(
        &self,
        myself: ActorRef<UplinkMessage>,
        message: UplinkMessage,
        state: &mut UplinkState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            UplinkMessage::Dial => self.dial(&myself, state),
            UplinkMessage::Hurry => {
                let over_http =
                    self.membership.enrolled().is_some_and(|enrollment| enrollment.quic_address.is_none());
                if over_http && state.session.is_none() {
                    self.dial(&myself, state);
                }
            }
            UplinkMessage::Welcomed => {
                state.connection.succeeded(self.context.now());
                self.membership.set_status(EnrollmentStatus::Enrolled).await?;
            }
            UplinkMessage::Ended { why } => self.ended(&myself, state, why).await?,
            #[cfg(feature = "testing")]
            UplinkMessage::DangerPanic => panic!("asked to fail"),
        }
        self.membership.set_connection(state.connection.clone());
        Ok(())
    }
}

impl UplinkActor {
    fn dial(&self, myself: &ActorRef<UplinkMessage>, state: &mut UplinkState) {
        state.redial = None;
        let Some(enrollment) = self.membership.enrolled() else {
            // Left or never joined: nothing of the last membership remains (contract 13.16).
            state.connection = Connection::default();
            state.session = None;
            state.snapshot_at = None;
            return;
        };
        let Some(address) = enrollment.quic_address.clone() else {
            self.post(myself, state, &enrollment);
            return;
        };
        let session = Session {
            context: Arc::clone(&self.context),
            endpoint: self.endpoint.clone(),
            membership: self.membership.clone(),
            queue: self.queue.clone(),
            inventory: self.inventory.clone(),
            findings: self.findings.clone(),
            inbox: self.inbox.clone(),
            executor: self.executor.clone(),
            queue_view: Arc::clone(&self.queue_view),
            wake: Arc::clone(&self.wake),
            uplink: myself.clone(),
        };
        let peer = enrollment.coordinator_identity_key;
        let myself = myself.clone();
        state.session = Some(Tied::spawn(async move {
            let why = session.run(&address, peer).await;
            let _ = myself.cast(UplinkMessage::Ended { why });
        }));
    }

    /// One pass to a peer that speaks only HTTP.
    fn post(&self, myself: &ActorRef<UplinkMessage>, state: &mut UplinkState, enrollment: &Enrollment) {
        let drain = Drain {
            context: Arc::clone(&self.context),
            queue: self.queue.clone(),
            coordinator_url: enrollment.coordinator_url.clone(),
            site: enrollment.site_id,
            snapshot: state.snapshot_at.is_none_or(|at| at.elapsed() >= SNAPSHOT_INTERVAL),
        };
        if drain.snapshot {
            state.snapshot_at = Some(Instant::now());
        }
        let myself = myself.clone();
        state.session = Some(Tied::spawn(async move {
            let why = drain.run().await;
            let _ = myself.cast(UplinkMessage::Ended { why });
        }));
    }

    async fn ended(
        &self,
        myself: &ActorRef<UplinkMessage>,
        state: &mut UplinkState,
        why: Ended,
    ) -> Result<(), Unavailable> {
        state.session = None;
        let failures = state.connection.consecutive_failures.saturating_add(1);
        let enrollment = self.membership.enrolled();
        let over_http = enrollment.as_ref().is_some_and(|enrollment| enrollment.quic_address.is_none());
        let mut wait = match (over_http, &enrollment) {
            (true, Some(_)) => link::reconnect_wait(failures),
            _ => link::redial_wait(failures, self.context.entropy.u64()),
        };
        let now = self.context.now();
        match why {
            Ended::Drained => {
                state.connection.succeeded(now);
                self.membership.set_status(EnrollmentStatus::Enrolled).await?;
                let seconds = enrollment.map_or(site_limits::SYNC_INTERVAL_SECONDS_DEFAULT, |enrollment| {
                    enrollment.sync_interval_seconds.max(site_limits::SYNC_INTERVAL_SECONDS_MIN)
                });
                wait = Duration::from_secs(seconds.into());
            }
            Ended::Suspended => {
                let known = enrollment.is_some_and(|own| own.status == EnrollmentStatus::Suspended);
                if !known {
                    info!("the coordinator has suspended this site: the queue is kept");
                }
                self.membership.set_status(EnrollmentStatus::Suspended).await?;
                state.connection.failed(now, "site_suspended", wait);
            }
            Ended::Removed => {
                warn!("the coordinator has removed this site: enroll again to rejoin");
                self.membership.set_status(EnrollmentStatus::Removed).await?;
                state.connection = Connection::default();
                return Ok(());
            }
            Ended::Failed(reason) => {
                debug!(%reason, failures, "uplink lost");
                state.connection.failed(now, &reason, wait);
            }
        }
        let myself = myself.clone();
        state.redial = Some(Tied::spawn(async move {
            tokio::time::sleep(wait).await;
            let _ = myself.cast(UplinkMessage::Dial);
        }));
        Ok(())
    }
}

/// One session with the coordinator, from dial to loss.
struct Session {
    context: Arc<Context>,
    endpoint: Endpoint,
    membership: Membership,
    queue: Handle<SyncQueueMessage>,
    inventory: Handle<InventoryMessage>,
    findings: Handle<FindingsMessage>,
    inbox: Handle<InboxMessage>,
    executor: Handle<ExecutorMessage>,
    queue_view: Arc<ArcSwap<QueueView>>,
    wake: Arc<Notify>,
    uplink: ActorRef<UplinkMessage>,
}

impl Session {
    async fn run(&self, address: &str, peer: [u8; 32]) -> Ended {
        let Ok(peer) = PublicKey::from_bytes(peer) else {
            return Ended::Failed("the pinned coordinator key does not parse: enroll again".to_owned());
        };
        let address = match resolve(address).await {
            Ok(address) => address,
            Err(reason) => return Ended::Failed(reason),
        };
        let link = match self.endpoint.dial(address, peer).await {
            Ok(link) => link,
            Err(error) => return dial_ended(&error),
        };
        let failure = match self.converse(&link).await {
            Ok(()) => "the session has ended".to_owned(),
            Err(error) => error,
        };
        // The peer's reason says more than the stream that broke because of it.
        match timeout(Duration::from_secs(1), link.closed()).await {
            Ok(CloseReason::Peer(CloseCode::Suspended)) => Ended::Suspended,
            Ok(CloseReason::Peer(CloseCode::Removed)) => Ended::Removed,
            Ok(reason) => Ended::Failed(reason.to_string()),
            Err(_) => {
                link.close(CloseCode::ProtocolError);
                Ended::Failed(failure)
            }
        }
    }

    async fn converse(&self, link: &Link) -> Result<(), String> {
        let (mut control, mut receiver) = link.open(Lane::Control).await.map_err(text)?;
        let site = self.membership.enrollment().and_then(|enrollment| enrollment.site_id);
        let hello = Up::Hello(Hello {
            site,
            software_version: self.context.config.software_version.clone(),
            wire_version: WIRE_VERSION,
            epoch: 0,
        });
        control.send(&hello.encode()).await.map_err(text)?;
        let answer = receive(&mut receiver).await?;
        let Down::Welcome(welcome) = answer else { return Err(unexpected("the greeting", &answer)) };
        if site.is_some_and(|site| site != welcome.site_id) {
            return Err("the coordinator knows this key as another site: enroll again".to_owned());
        }
        let position = welcome.position;
        let payloads = welcome.wire_version >= 2;
        let refusals = welcome.wire_version >= 3;
        self.ask(|reply| SyncQueueMessage::Standing { position, payloads, reply }).await??;
        self.restate().await?;
        let _ = self.uplink.cast(UplinkMessage::Welcomed);
        info!(site = %welcome.site_id, coordinator = %welcome.software_version, "linked to the coordinator");

        let policies = self.inbox.call(|reply| InboxMessage::Held { reply }).await.map_err(text)?;
        let (baselines, findings) =
            self.findings.call(|reply| FindingsMessage::Held { reply }).await.map_err(text)?;
        let held = Held { policies, baselines, findings };
        control.send(&Up::Held(held).encode()).await.map_err(text)?;

        let (sender, receiver) = link.open(Lane::Ingest).await.map_err(text)?;
        let (push_sender, push_receiver) = link.open(Lane::Push).await.map_err(text)?;
        let compare = Notify::new();
        tokio::select! {
            biased;
            error = self.tell_health(control) => Err(error),
            reason = link.closed() => Err(reason.to_string()),
            outcome = self.receive_pushes(push_sender, push_receiver, &compare, refusals) => outcome,
            outcome = self.drain(sender, receiver, &compare) => outcome,
        }
    }

    /// Queues every report again when the next batch opens a new history, before that batch is cut: so no
    /// crash comes between them.
    async fn restate(&self) -> Result<(), String> {
        if self.ask(|reply| SyncQueueMessage::OpensHistory { reply }).await? {
            self.inventory.cast(InventoryMessage::Restate);
            let all = self.findings.call(|reply| FindingsMessage::Restate { reply }).await.map_err(text)?;
            if !all {
                return Err("the reports of this site cannot be queued now".to_owned());
            }
        }
        Ok(())
    }

    /// Tells how this site is, now and then, until the lane ends.
    async fn tell_health(&self, mut sender: LaneSender) -> String {
        loop {
            let health = Health { sent_at: self.context.now(), dead_letters: self.queue_view.load().dead };
            if let Err(error) = sender.send(&Up::Health(health).encode()).await {
                return error.to_string();
            }
            tokio::time::sleep(limits::HEALTH_INTERVAL).await;
        }
    }

    /// Sends what waits, then sleeps until something does, or a comparison of digests is due.
    async fn drain(
        &self,
        mut sender: LaneSender,
        mut receiver: LaneReceiver,
        compare: &Notify,
    ) -> Result<(), String> {
        let mut compare_at = Instant::now();
        loop {
            let next = self.ask(|reply| SyncQueueMessage::Next { reply }).await??;
            if let Some((header, items)) = next {
                let started = Instant::now();
                sender.send(&Up::Batch(Batch { header, items }).encode()).await.map_err(text)?;
                self.settle(&mut receiver).await?;
                self.membership.set_latency(started.elapsed());
                continue;
            }
            if Instant::now() >= compare_at {
                compare_at = Instant::now() + limits::DIGEST_INTERVAL;
                if !self.compare(&mut sender, &mut receiver).await? {
                    // Something came in between; compare when that is sent.
                    compare_at = Instant::now();
                }
                continue;
            }
            tokio::select! {
                biased;
                () = self.wake.notified() => {}
                () = compare.notified() => compare_at = Instant::now(),
                () = tokio::time::sleep_until(compare_at) => {}
            }
        }
    }

    async fn settle(&self, receiver: &mut LaneReceiver) -> Result<(), String> {
        let answer = receive(receiver).await?;
        if let Down::Acknowledged(acknowledged) = answer {
            let position = acknowledged.position;
            self.ask(|reply| SyncQueueMessage::Acknowledged { position, reply }).await??;
            let _ = self.uplink.cast(UplinkMessage::Welcomed);
            return Ok(());
        }
        let Down::Refused(refused) = answer else { return Err(unexpected("a batch", &answer)) };
        let (refusal, position) = (refused.refusal, refused.position);
        debug!(?refusal, "batch refused");
        self.ask(|reply| SyncQueueMessage::Refused { refusal, position, reply }).await??;
        if refusal == BatchRefusal::Unavailable {
            return Err("the coordinator cannot store now".to_owned());
        }
        self.restate().await
    }

    /// Compares digests if nothing waits; whether it did.
    async fn compare(&self, sender: &mut LaneSender, receiver: &mut LaneReceiver) -> Result<bool, String> {
        let Some(digest) = self.ask(|reply| SyncQueueMessage::Compare { reply }).await? else {
            return Ok(false);
        };
        sender.send(&Up::Digest(digest).encode()).await.map_err(text)?;
        let answer = receive(receiver).await?;
        if let Down::DigestDiff(diff) = answer {
            self.queue.cast(SyncQueueMessage::Differences { branches: diff.branches });
            return Ok(true);
        }
        // A coordinator that cannot compare is taken at its word until the next time.
        let Down::NotUnderstood { .. } = answer else { return Err(unexpected("a digest", &answer)) };
        Ok(true)
    }

    /// Takes what the coordinator wants this site to hold or do, until the lane ends; each is answered once
    /// it is on disk. A kind that this version does not know is answered so, and the lane goes on.
    async fn receive_pushes(
        &self,
        sender: LaneSender,
        mut receiver: LaneReceiver,
        compare: &Notify,
        refusals: bool,
    ) -> Result<(), String> {
        // Shared with the hand-overs of credentials: a connector takes its time, and what comes behind them
        // on the lane does not wait for it. They end with the session.
        let sender = Arc::new(Mutex::new(sender));
        let mut handing = JoinSet::new();
        loop {
            let frame = receiver.recv(limits::FRAME_BYTES_MAX).await.map_err(text)?;
            while handing.try_join_next().is_some() {}
            let message = Down::decode(&frame).map_err(text)?;
            let answer = if matches!(message, Down::Resync) {
                compare.notify_one();
                continue;
            } else if let Down::Checkpoint(checkpoint) = message {
                // One that could not be kept is covered by the next.
                if let Some(enrollment) = self.membership.enrollment() {
                    let key = enrollment.coordinator_identity_key;
                    if let Err(error) = crate::audit::keep(&self.context, key, checkpoint).await {
                        debug!(%error, "a checkpoint of the coordinator was not kept");
                    }
                }
                continue;
            } else if let Down::Push(push) = message {
                match push.content().map_err(text)? {
                    Some(PushContent::Lease(lease)) => {
                        let hand = hand_over(
                            Arc::clone(&self.context),
                            self.executor.clone(),
                            Box::new(lease),
                            Arc::clone(&sender),
                            push.id,
                            refusals,
                        );
                        handing.spawn(hand);
                        continue;
                    }
                    Some(content) => {
                        self.take_in(content).await;
                        Up::PushAck(PushAck { id: push.id })
                    }
                    None => Up::NotUnderstood { kind: push.kind },
                }
            } else if let Down::Unknown { kind } = message {
                Up::NotUnderstood { kind }
            } else {
                return Err(unexpected("nothing on the push lane", &message));
            };
            sender.lock().await.send(&answer.encode()).await.map_err(text)?;
        }
    }

    /// Hands a push to the executor until it is on disk. While the disk takes nothing, the pushes behind it wait
    /// on the lane, and the coordinator knows from the missing answer.
    async fn take_in(&self, content: PushContent) {
        let mut failures = 0;
        loop {
            let content = Box::new(content.clone());
            match self.executor.call(|reply| ExecutorMessage::Receive { content, reply }).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) | Err(error) => {
                    failures += 1;
                    debug!(%error, failures, "push not stored yet");
                    tokio::time::sleep(link::redial_wait(failures, self.context.entropy.u64())).await;
                }
            }
        }
    }

    async fn ask<T: Send + 'static>(
        &self,
        message: impl FnOnce(ractor::RpcReplyPort<T>) -> SyncQueueMessage,
    ) -> Result<T, String> {
        self.queue.call(message).await.map_err(|error| error.to_string())
    }
}

/// Hands a credential to its connector and answers the push once that has taken it, or never will. A
/// coordinator that reads no `refusals` learns of a credential that nobody takes by its end.
async fn hand_over(
    context: Arc<Context>,
    executor: Handle<ExecutorMessage>,
    push: Box<LeasePush>,
    sender: Arc<Mutex<LaneSender>>,
    id: u64,
    refusals: bool,
) {
    let mut failures = 0;
    let refused = loop {
        let push = push.clone();
        match executor.call(|reply| ExecutorMessage::Lease { push, reply }).await {
            Ok(Ok(taken)) => break taken.refused.filter(|_| refusals),
            Ok(Err(error)) | Err(error) => {
                failures += 1;
                debug!(%error, failures, "credential not handed over yet");
                tokio::time::sleep(link::redial_wait(failures, context.entropy.u64())).await;
            }
        }
    };
    let answer = match refused {
        Some(reason) => Up::PushRefused(PushRefused { id, reason }),
        None => Up::PushAck(PushAck { id }),
    };
    // A lane that is gone: the coordinator sends the push again over the next one.
    let _ = sender.lock().await.send(&answer.encode()).await;
}

impl From<Unavailable> for String {
    fn from(error: Unavailable) -> Self {
        error.to_string()
    }
}

async fn receive(receiver: &mut LaneReceiver) -> Result<Down, String> {
    match timeout(limits::ANSWER_WAIT_MAX, receiver.recv(limits::FRAME_BYTES_MAX)).await {
        Ok(Ok(frame)) => Down::decode(&frame).map_err(|error| error.to_string()),
        Ok(Err(RecvError::Lost(LinkLost(reason)))) => Err(reason.to_string()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer in time: the link is half-open".to_owned()),
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn unexpected(to: &str, answer: &Down) -> String {
    format!("an unexpected answer to {to}: {}", name(answer))
}

/// A message's kind, without its content.
const fn name(message: &Down) -> &'static str {
    match message {
        Down::Enrolled(_) => "enrolled",
        Down::EnrollRefused(_) => "enrollment refused",
        Down::Welcome(_) => "welcome",
        Down::Acknowledged(_) => "acknowledged",
        Down::Refused(_) => "refused",
        Down::DigestDiff(_) => "digest difference",
        Down::Push(_) => "push",
        Down::Resync => "resync",
        Down::Checkpoint(_) => "checkpoint",
        Down::NotUnderstood { .. } => "not understood",
        Down::Unknown { .. } => "unknown kind",
    }
}

fn dial_ended(error: &DialError) -> Ended {
    let DialError::Closed(code) = error else { return Ended::Failed(error.to_string()) };
    if *code == CloseCode::Suspended {
        Ended::Suspended
    } else if *code == CloseCode::Removed {
        Ended::Removed
    } else {
        Ended::Failed(error.to_string())
    }
}

/// The first address of a `host:port`. A literal address is taken as it is, without asking a resolver.
pub(crate) async fn resolve(address: &str) -> Result<SocketAddr, String> {
    if let Ok(literal) = address.parse::<SocketAddr>() {
        let usable = hansa_model::site::is_peer_address(literal.ip());
        return usable.then_some(literal).ok_or_else(|| format!("{address} is no address of a peer"));
    }
    let found = tokio::net::lookup_host(address).await.map_err(|error| format!("{address}: {error}"))?;
    let mut usable = found.filter(|address| hansa_model::site::is_peer_address(address.ip()));
    usable.next().ok_or_else(|| format!("{address} has no usable address"))
}
