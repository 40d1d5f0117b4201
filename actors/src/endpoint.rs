//! Accepts links and hands each to its owner; serves the lanes of an accepted link.
//!
//! The handshake has proven a key that is registered for a site. What the peer says about itself after
//! that is a claim; the site is the one that the key belongs to.

use std::sync::Arc;
use std::time::Duration;

use hansa_model::alert::SiteHealth;
use hansa_model::limits::sync as limits;
use hansa_transport::wire::{
    Acknowledged, DigestDiff, Down, EnrollRefused, Enrolled, Health, Hello, PushRefused, Refused, Up,
    WIRE_VERSION, Welcome,
};
use hansa_transport::{
    CloseCode, Endpoint, Frame, Incoming, Lane, LaneReceiver, LaneSender, Link, RecvError,
};
use ractor::rpc::CallResult;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::time::timeout;
use tracing::debug;

use crate::context::Context;
use crate::coordinator::Coordinator;
use crate::error::CompleteError;
use crate::site::{BatchAnswer, SiteMessage};
use crate::supervision::Tied;

/// Greetings that may be under way at once; beyond it newcomers wait in QUIC's own bounded queue.
const GREETINGS_MAX: usize = 256;

/// The endpoint's actor is asked nothing: it runs the accept loop, and starts it again after a failure.
/// The socket itself outlives it, and so do all links.
pub(crate) struct EndpointActor {
    pub(crate) context: Arc<Context>,
    pub(crate) endpoint: Endpoint,
    pub(crate) coordinator: Coordinator,
}

/// What can be asked of the endpoint.
#[derive(Debug)]
pub(crate) enum EndpointMessage {
    /// The accept loop has ended; without it the actor is of no use.
    AcceptEnded,
    /// Fails on purpose, to show that only this actor restarts.
    #[cfg(feature = "testing")]
    DangerPanic,
}

impl Actor for EndpointActor {
    type Msg = EndpointMessage;
    type State = Tied;
    type Arguments = ();

    async fn pre_start(&self, myself: ActorRef<EndpointMessage>, (): ()) -> Result<Tied, ActorProcessingErr> {
        let (context, endpoint) = (Arc::clone(&self.context), self.endpoint.clone());
        let coordinator = self.coordinator.clone();
        Ok(Tied::spawn(async move {
            let greetings = Arc::new(tokio::sync::Semaphore::new(GREETINGS_MAX));
            while let Some(incoming) = endpoint.accept().await {
                let Ok(permit) = Arc::clone(&greetings).acquire_owned().await else { break };
                let (context, coordinator) = (Arc::clone(&context), coordinator.clone());
                tokio::spawn(async move {
                    let _permit = permit;
                    greet(&context, &coordinator, incoming).await;
                });
            }
            let _ = myself.cast(EndpointMessage::AcceptEnded);
        }))
    }

    async fn handle(
        &self,
        myself: ActorRef<EndpointMessage>,
        message: EndpointMessage,
        _state: &mut Tied,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            EndpointMessage::AcceptEnded => myself.stop(None),
            #[cfg(feature = "testing")]
            EndpointMessage::DangerPanic => panic!("asked to fail"),
        }
        Ok(())
    }
}

/// Brings a newcomer to the point where its site's actor owns the link, or closes it with a reason.
async fn greet(context: &Context, coordinator: &Coordinator, incoming: Incoming) {
    let from = incoming.remote_address();
    let link = match incoming.complete().await {
        Ok(link) => link,
        Err(error) => {
            debug!(%from, %error, "handshake refused");
            return;
        }
    };
    match timeout(limits::ANSWER_WAIT_MAX, introduce(context, coordinator, &link)).await {
        Ok(Ok(())) => {}
        Ok(Err(code)) => link.close(code),
        Err(_) => link.close(CloseCode::ProtocolError),
    }
}

async fn introduce(context: &Context, coordinator: &Coordinator, link: &Link) -> Result<(), CloseCode> {
    let lost = |_| CloseCode::ProtocolError;
    // A site on hold is told so before it has said a word.
    if let Some(code) = coordinator.refusal_of(link.peer().as_bytes()) {
        return Err(code);
    }
    let (lane, mut sender, mut receiver) = link.accept_lane().await.map_err(lost)?;
    if lane != Lane::Control {
        return Err(CloseCode::ProtocolError);
    }
    loop {
        let frame =
            receiver.recv(limits::FRAME_BYTES_MAX_UNENROLLED).await.map_err(|_| CloseCode::ProtocolError)?;
        match Up::decode(&frame).map_err(|_| CloseCode::ProtocolError)? {
            Up::Enroll(enroll) => {
                let answer = match coordinator.complete_over_link(link, &enroll).await {
                    Ok(enrolled) => Down::Enrolled(Box::new(enrolled)),
                    Err(error) => Down::EnrollRefused(refused(&error)),
                };
                sender.send(&answer.encode()).await.map_err(lost)?;
            }
            Up::Hello(hello) => return welcome(context, coordinator, link, sender, receiver, hello).await,
            Up::Leave => return Err(leave(coordinator, link).await),
            Up::Unknown { kind } => {
                sender.send(&Down::NotUnderstood { kind }.encode()).await.map_err(lost)?;
            }
            Up::NotUnderstood { .. } => {}
            Up::Batch(_)
            | Up::Digest(_)
            | Up::PushAck(_)
            | Up::PushRefused(_)
            | Up::Health(_)
            | Up::Held(_) => {
                return Err(CloseCode::ProtocolError);
            }
        }
    }
}

/// A site leaves for good: it is removed, with all that this coordinator holds of it.
async fn leave(coordinator: &Coordinator, link: &Link) -> CloseCode {
    let Some(member) = coordinator.member_of(link.peer().as_bytes()) else { return CloseCode::NotEnrolled };
    match member.actor.call(|reply| SiteMessage::Leave { reply }).await {
        Ok(Ok(())) => CloseCode::Removed,
        // It tries again, or its operator tells ours.
        Ok(Err(_)) | Err(_) => CloseCode::ShuttingDown,
    }
}

fn refused(error: &CompleteError) -> EnrollRefused {
    EnrollRefused { code: error.code().to_owned(), detail: error.to_string() }
}

async fn welcome(
    context: &Context,
    coordinator: &Coordinator,
    link: &Link,
    mut sender: LaneSender,
    receiver: LaneReceiver,
    hello: Hello,
) -> Result<(), CloseCode> {
    let member = coordinator.member_of(link.peer().as_bytes()).ok_or(CloseCode::NotEnrolled)?;
    let view = member.view();
    if hello.site.is_some_and(|claimed| claimed != view.site.id) {
        debug!(site = %view.site.id, "peer claims to be another site than its key's");
        return Err(CloseCode::ProtocolError);
    }
    let up = |reply| SiteMessage::LinkUp {
        link: link.clone(),
        software_version: hello.software_version,
        control: Box::new(receiver),
        reply,
    };
    let position = match member.actor.call(up).await {
        Ok(Ok(position)) => position,
        Ok(Err(code)) => return Err(code),
        Err(_) => return Err(CloseCode::ShuttingDown),
    };
    let welcome = Down::Welcome(Welcome {
        site_id: view.site.id,
        position,
        sync_interval_seconds: view.site.sync_interval_seconds,
        software_version: context.config.software_version.clone(),
        wire_version: WIRE_VERSION,
    });
    sender.send(&welcome.encode()).await.map_err(|_| CloseCode::ProtocolError)
}

/// Serves an accepted link until it ends: its ingest lane in lockstep, one answer for each message. The push
/// lane goes to the site's actor; the control lane is held open and read, so that a leaving peer is noticed.
pub(crate) async fn serve_link(
    context: Arc<Context>,
    site: ActorRef<SiteMessage>,
    link: Link,
    number: u64,
    control: LaneReceiver,
) {
    let code = tokio::select! {
        biased;
        code = serve_lanes(&site, &link, number) => code,
        () = serve_control(&context, &site, number, control) => CloseCode::ShuttingDown,
    };
    link.close(code);
    let _ = site.cast(SiteMessage::LinkDown { link: number });
}

/// Reads what a linked site says of itself, until the lane ends.
async fn serve_control(
    context: &Context,
    site: &ActorRef<SiteMessage>,
    link: u64,
    mut control: LaneReceiver,
) {
    while let Ok(frame) = control.recv(limits::CONTROL_FRAME_BYTES_MAX).await {
        let told = Up::decode(&frame);
        if let Ok(Up::Health(Health { sent_at, dead_letters })) = told {
            let (sent, now) = (sent_at.as_micros(), context.now().as_micros());
            let health = SiteHealth { dead_letters, clock_skew_ms: sent.saturating_sub(now) / 1_000 };
            let _ = site.cast(SiteMessage::Health { health });
        } else if let Ok(Up::Held(held)) = told {
            let _ = site.cast(SiteMessage::Held { link, held: Box::new(held) });
        }
    }
    // The lane's end is the link's end, which the ingest lane notices with a reason.
    tokio::time::sleep(Duration::from_secs(1)).await;
}

async fn serve_lanes(site: &ActorRef<SiteMessage>, link: &Link, number: u64) -> CloseCode {
    let Ok((Lane::Ingest, mut sender, mut receiver)) = Box::pin(link.accept_lane()).await else {
        return CloseCode::ProtocolError;
    };
    tokio::select! {
        biased;
        code = serve_ingest(site, &mut sender, &mut receiver) => code,
        code = serve_push(site, link, number) => code,
    }
}

/// Hands the push lane to the site's actor and reads its answers. A site that opens none is served without.
async fn serve_push(site: &ActorRef<SiteMessage>, link: &Link, number: u64) -> CloseCode {
    let Ok((lane, sender, mut receiver)) = Box::pin(link.accept_lane()).await else {
        return CloseCode::ShuttingDown;
    };
    if lane != Lane::Push || site.cast(SiteMessage::PushUp { link: number, sender }).is_err() {
        return CloseCode::ProtocolError;
    }
    loop {
        match receiver.recv(limits::FRAME_BYTES_MAX).await.map(|frame| Up::decode(&frame)) {
            Ok(Ok(Up::PushAck(ack))) => {
                if site.cast(SiteMessage::Taken { link: number, push: ack.id }).is_err() {
                    return CloseCode::ShuttingDown;
                }
            }
            Ok(Ok(Up::PushRefused(PushRefused { id, reason }))) => {
                if site.cast(SiteMessage::PushRefused { link: number, push: id, reason }).is_err() {
                    return CloseCode::ShuttingDown;
                }
            }
            Ok(Ok(Up::NotUnderstood { kind })) => debug!(kind, "the site does not know a push"),
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return CloseCode::ProtocolError,
            Err(_) => return CloseCode::ShuttingDown,
        }
    }
}

async fn serve_ingest(
    site: &ActorRef<SiteMessage>,
    sender: &mut LaneSender,
    receiver: &mut LaneReceiver,
) -> CloseCode {
    loop {
        let frame = match receiver.recv(limits::FRAME_BYTES_MAX).await {
            Ok(frame) => frame,
            Err(RecvError::LaneEnded | RecvError::Lost(_)) => return CloseCode::ShuttingDown,
            Err(RecvError::Frame(error)) => {
                debug!(%error, "frame refused");
                return CloseCode::ProtocolError;
            }
        };
        // Boxed: a waiting task keeps room for its largest future, and most lanes are quiet for hours.
        if let Err(code) = Box::pin(answer(site, sender, &frame)).await {
            return code;
        }
    }
}

/// Answers one message on the ingest lane, if it is one that has an answer.
async fn answer(
    site: &ActorRef<SiteMessage>,
    sender: &mut LaneSender,
    frame: &Frame,
) -> Result<(), CloseCode> {
    let answer = match Up::decode(frame) {
        Ok(Up::Batch(batch)) => {
            let ask = |reply| SiteMessage::Batch { header: batch.header, items: batch.items, reply };
            match asked(site, ask).await? {
                BatchAnswer::Acknowledged(position) => Down::Acknowledged(Acknowledged { position }),
                BatchAnswer::Refused(refusal, position) => Down::Refused(Refused { refusal, position }),
            }
        }
        Ok(Up::Digest(digest)) => {
            let ask = |reply| SiteMessage::Digest { branches: digest.branches, reply };
            Down::DigestDiff(DigestDiff { comparable: true, branches: asked(site, ask).await? })
        }
        Ok(Up::Unknown { kind }) => Down::NotUnderstood { kind },
        Ok(Up::NotUnderstood { .. } | Up::PushAck(_) | Up::PushRefused(_)) => return Ok(()),
        Ok(Up::Enroll(_) | Up::Hello(_) | Up::Leave | Up::Health(_) | Up::Held(_)) | Err(_) => {
            return Err(CloseCode::ProtocolError);
        }
    };
    sender.send(&answer.encode()).await.map_err(|_| CloseCode::ShuttingDown)
}

/// Asks the incarnation of a site's actor that took the link over. When that is gone, the site comes back over a
/// new link and finds the next one.
async fn asked<T: Send + 'static>(
    site: &ActorRef<SiteMessage>,
    ask: impl FnOnce(RpcReplyPort<T>) -> SiteMessage,
) -> Result<T, CloseCode> {
    match site.call(ask, Some(hansa_model::limits::actor::CALL_WAIT_MAX)).await {
        Ok(CallResult::Success(answer)) => Ok(answer),
        Ok(CallResult::Timeout | CallResult::SenderError) | Err(_) => Err(CloseCode::ShuttingDown),
    }
}

/// The wire's form of an accepted enrollment.
pub(crate) fn enrolled(context: &Context, answer: &crate::view::EnrollmentAnswer) -> Enrolled {
    let site = &answer.view.site;
    Enrolled {
        site_id: site.id,
        site_name: site.name.as_str().to_owned(),
        sync_bearer: answer.sync_bearer.clone(),
        coordinator_inbound_bearer_token_hash: answer.coordinator_inbound_bearer_hash,
        coordinator_tls_cert_pem: context.keyring.tls.certificate_pem().to_owned(),
        identity_proof: context.keyring.proof(hansa_model::enrollment::Role::Coordinator),
        sync_interval_seconds: site.sync_interval_seconds,
    }
}
