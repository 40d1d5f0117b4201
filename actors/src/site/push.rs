//! What the site still has to be told, over its link or over HTTP.
//!
//! Which deliveries are due is the machine's (`machine::delivery`); their contents and what an answer means
//! belong to the nouns. A site that has spoken QUIC is told over its link alone, however long that is gone:
//! its URL may lie behind a NAT. Every other site is posted to.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hansa_model::Secret;
use hansa_model::limits::push as limits;
use hansa_model::machine::delivery::{Delivery, Failed, PushKey};
use hansa_model::machine::link;
use hansa_model::push::PushContent;
use hansa_model::site::SiteStatus;
use hansa_model::sync::Position;
use hansa_storage::{ReadError, ReadView, table};
use hansa_transport::wire::{Down, Push};
use hansa_transport::{EncodedFrame, LaneSender};
use ractor::ActorRef;
use tracing::debug;

use super::{SiteActor, SiteMessage, SiteState};
use crate::error::Unavailable;
use crate::post::{self, Posted};
use crate::supervision::Tied;

/// The sending side of a push lane. A full window of the site never holds the actor up: the frames wait here,
/// no more than the deliveries that may be out and a notice. A lane on which nothing waits has no task.
pub(super) struct PushLane {
    shared: Arc<Mutex<Waiting>>,
    /// Ends with the lane; done once nothing waits.
    writing: Option<Tied>,
}

struct Waiting {
    frames: VecDeque<EncodedFrame>,
    /// Away while a task writes, and for good once the link is gone.
    sender: Option<LaneSender>,
}

impl PushLane {
    pub(super) fn new(sender: LaneSender) -> Self {
        let waiting = Waiting { frames: VecDeque::new(), sender: Some(sender) };
        Self { shared: Arc::new(Mutex::new(waiting)), writing: None }
    }

    /// Whether the frame waits to be sent now.
    pub(super) fn send(&mut self, frame: EncodedFrame) -> bool {
        let mut waiting = lock(&self.shared);
        if waiting.frames.len() >= 2 * limits::OUT_MAX {
            return false;
        }
        waiting.frames.push_back(frame);
        if let Some(sender) = waiting.sender.take() {
            self.writing = Some(Tied::spawn(write(Arc::clone(&self.shared), sender)));
        }
        true
    }
}

/// Sends what waits, one after the other, and gives the sender back.
async fn write(shared: Arc<Mutex<Waiting>>, mut sender: LaneSender) {
    loop {
        let frame = {
            let mut waiting = lock(&shared);
            let Some(frame) = waiting.frames.pop_front() else {
                // A burst needed the room; a quiet lane does not.
                waiting.frames = VecDeque::new();
                waiting.sender = Some(sender);
                return;
            };
            frame
        };
        // The link is gone; whoever serves it notices and says so.
        if sender.send(&frame).await.is_err() {
            return;
        }
    }
}

fn lock(shared: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a site's actor remembers of posts to an HTTP peer.
#[derive(Default)]
pub(super) struct Posting {
    /// The post under way, one at a time.
    under_way: Option<Tied>,
    /// Outages in a row; they concern the site, not a delivery.
    outages: u32,
    /// No post before this instant.
    not_before: Option<tokio::time::Instant>,
    /// The site has used the documented ingest routes since this actor started.
    speaks_http: bool,
}

impl SiteActor {
    /// Fills the deliveries from the store. For a new incarnation of the actor, and after a change of the
    /// site's status.
    pub(super) fn load_deliveries(&self, view: &ReadView, state: &mut SiteState) -> Result<(), ReadError> {
        self.load_commands(view, state)?;
        self.load_policies(view, state)?;
        self.load_leases(view, state)
    }

    /// Sends what is due, as far as the peer's way of talking allows. Cheap when nothing is.
    pub(super) fn pump(&self, state: &mut SiteState, myself: &ActorRef<SiteMessage>) {
        if state.deliveries.is_empty() || state.site.status != SiteStatus::Enrolled {
            return;
        }
        if state.link.as_ref().is_some_and(|live| live.push.is_some()) {
            self.pump_link(state);
        } else if state.link.is_none() && !state.is_quic_peer() {
            self.pump_http(state, myself);
        }
    }

    fn pump_link(&self, state: &mut SiteState) {
        let Ok(view) = self.context.store.read() else { return };
        while let Some(delivery) = state.deliveries.next_for_link() {
            match self.content(&view, state, delivery.key) {
                Ok(Some(content)) => {
                    let frame = Down::Push(Push::new(delivery.push, &content)).encode();
                    let lane = state.link.as_mut().and_then(|live| live.push.as_mut());
                    if !lane.is_some_and(|lane| lane.send(frame)) {
                        // The lane is ending: all of it is due again when the link is back.
                        return;
                    }
                }
                Ok(None) => state.deliveries.forget(delivery.key),
                Err(error) => {
                    debug!(site = %state.site.id, %error, "content of a push cannot be read");
                    return;
                }
            }
        }
    }

    fn pump_http(&self, state: &mut SiteState, myself: &ActorRef<SiteMessage>) {
        let now = tokio::time::Instant::now();
        if state.posting.under_way.is_some() || state.posting.not_before.is_some_and(|gate| gate > now) {
            return;
        }
        let Ok(view) = self.context.store.read() else { return };
        loop {
            let jitter = self.context.entropy.u64();
            let Some(delivery) = state.deliveries.next_for_http(self.context.now(), jitter) else { return };
            match self.content(&view, state, delivery.key) {
                Ok(Some(content)) => {
                    state.posting.under_way = self.post(state, &view, myself, delivery, &content);
                    return;
                }
                Ok(None) => state.deliveries.forget(delivery.key),
                Err(_) => return,
            }
        }
    }

    fn post(
        &self,
        state: &SiteState,
        view: &ReadView,
        myself: &ActorRef<SiteMessage>,
        delivery: Delivery,
        content: &PushContent,
    ) -> Option<Tied> {
        let bearer = view.get_sealed::<table::OutboundBearers>(&state.site.id).ok().flatten()?;
        let bearer = Secret::new(String::from_utf8(bearer.expose().clone()).ok()?);
        let (path, body) = post::documented(content)?;
        let (context, url) = (Arc::clone(&self.context), state.site.url.clone());
        let myself = myself.clone();
        Some(Tied::spawn(async move {
            let outcome = post::post(&context, &url, path, body, bearer).await;
            let _ = myself.cast(SiteMessage::Posted { push: delivery.push, outcome });
        }))
    }

    /// An HTTP peer has answered, or not.
    pub(super) async fn posted(
        &self,
        state: &mut SiteState,
        push: u64,
        outcome: Posted,
    ) -> Result<(), Unavailable> {
        state.posting.under_way = None;
        match outcome {
            Posted::Taken => {
                state.posting.outages = 0;
                state.posting.not_before = None;
                self.taken(state, push).await
            }
            Posted::Refused(error) => {
                state.posting.outages = 0;
                self.failed(state, push, &error, true).await
            }
            Posted::Outage(error) => {
                state.posting.outages = state.posting.outages.saturating_add(1);
                let wait = link::entry_wait(state.posting.outages, self.context.entropy.u64());
                state.posting.not_before =
                    Some(tokio::time::Instant::now() + wait.max(Duration::from_secs(1)));
                self.failed(state, push, &error, false).await
            }
        }
    }

    /// The site has a push on its disk. Durable on return.
    pub(super) async fn taken(&self, state: &mut SiteState, push: u64) -> Result<(), Unavailable> {
        let Some(delivery) = state.deliveries.taken(push) else { return Ok(()) };
        // Not forgotten before it is on disk: after a failure to store it is sent once more.
        match delivery.key {
            PushKey::Command(command) => self.command_taken(state, command, delivery.version).await?,
            PushKey::Policy(policy) => self.policy_taken(state, policy, delivery.version).await?,
            PushKey::Lease(lease) => self.lease_taken(state, lease, delivery.version).await?,
        }
        state.deliveries.forget_version(delivery.key, delivery.version);
        Ok(())
    }

    /// The site will never take a push. Only credentials are refused: what it holds of commands and policies
    /// it reports.
    pub(super) fn push_refused(&self, state: &mut SiteState, push: u64, reason: &str) {
        let Some(delivery) = state.deliveries.taken(push) else { return };
        debug!(site = %state.site.id, key = ?delivery.key, %reason, "push refused");
        if let PushKey::Lease(lease) = delivery.key {
            self.lease_refused(state, lease, delivery.version, reason);
        }
        state.deliveries.forget_version(delivery.key, delivery.version);
    }

    async fn failed(
        &self,
        state: &mut SiteState,
        push: u64,
        error: &str,
        permanent: bool,
    ) -> Result<(), Unavailable> {
        let now = self.context.now();
        let Some(failed) = state.deliveries.failed(push, now, permanent) else { return Ok(()) };
        debug!(site = %state.site.id, key = ?failed.delivery.key, %error, permanent, "push failed");
        let Failed { delivery, .. } = failed;
        match delivery.key {
            PushKey::Command(command) => self.command_failed(state, command, &failed, error).await,
            PushKey::Policy(policy) => self.policy_failed(state, policy, &failed, error).await,
            PushKey::Lease(lease) => self.lease_failed(state, lease, &failed, error).await,
        }
    }

    /// What a delivery says now; none when it is not wanted any more.
    fn content(
        &self,
        view: &ReadView,
        state: &SiteState,
        key: PushKey,
    ) -> Result<Option<PushContent>, ReadError> {
        match key {
            PushKey::Command(command) => self.command_content(view, state, command),
            PushKey::Policy(policy) => self.policy_content(view, state, policy),
            PushKey::Lease(lease) => self.lease_content(view, state, lease),
        }
    }
}

impl SiteState {
    /// Whether the site is told over QUIC alone.
    fn is_quic_peer(&self) -> bool {
        !self.posting.speaks_http && (self.links > 0 || self.sync.position != Position::default())
    }

    /// The site has used a documented ingest route.
    pub(super) fn heard_over_http(&mut self) {
        self.posting.speaks_http = true;
    }

    /// The site has linked up.
    pub(super) fn heard_over_quic(&mut self) {
        self.posting = Posting::default();
    }
}
