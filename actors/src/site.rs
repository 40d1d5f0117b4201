//! One site at its coordinator: its row, its link, its ingest position, its timeline.
//!
//! Shell around `machine::registry` and `machine::ingest`. The state is a cache of the store: a restart
//! reads it again, rebuilds the site's shard of the directory, and goes on. One batch of a site is in
//! flight at a time; the writer groups across sites.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use hansa_model::audit::Detail;
use hansa_model::directory::digest;
use hansa_model::host::{HostChange, HostEntry, SkippedEntry};
use hansa_model::id::RollupId;
use hansa_model::limits::sync as limits;
use hansa_model::machine::ingest::{self, Verdict};
use hansa_model::machine::registry::{self, Completion, Decision, EnrollmentRefusal, LinkEffect, SitePatch};
use hansa_model::machine::snapshot::SecondWord;
use hansa_model::scope::Operator;
use hansa_model::secret::TokenHash;
use hansa_model::site::{HostRollup, Site, SiteStatus, SiteSync};
use hansa_model::sync::{BatchHeader, BatchRefusal, HostRollupReport, Items, Position, SiteMetadata};
use hansa_model::{Host, HostId, Secret, SiteId};
use hansa_storage::{Batch, Lane, table};
use hansa_transport::wire::{BranchLeaves, Down};
use hansa_transport::{CloseCode, LaneReceiver, LaneSender, Link};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tracing::{debug, info};

use crate::context::Context;
use crate::coordinator::{Loaded, take_loaded};
use crate::directory::SharedShard;
use crate::error::{IngestError, RegistryError, Unavailable};
use crate::persistence::{self, SiteLog};
use crate::roster::{Member, Roster};
use crate::supervision::Tied;
use crate::view::{DirectoryAnswer, SiteView, Skipped};

/// Everything a site's actor can be asked.
#[derive(Debug)]
pub(crate) enum SiteMessage {
    /// Completes enrollment. Answers once the membership is on disk.
    Complete { request: CompleteRequest, reply: RpcReplyPort<Result<SiteView, CompleteFailure>> },
    /// An operator changes the row. Answers once the change and its audit entry are on disk.
    Change { change: SiteChange, operator: Operator, reply: RpcReplyPort<Result<SiteView, RegistryError>> },
    /// A link of this site finished its handshake. Answers with where the stream stands.
    LinkUp {
        link: Link,
        software_version: String,
        control: LaneReceiver,
        reply: RpcReplyPort<Result<Position, CloseCode>>,
    },
    /// The push lane of a link is open. No answer.
    PushUp { link: u64, sender: LaneSender },
    /// The tasks that served a link have ended. No answer.
    LinkDown { link: u64 },
    /// A batch arrived on the link. Answers once it is on disk and searchable.
    Batch { header: BatchHeader, items: Bytes, reply: RpcReplyPort<BatchAnswer> },
    /// The site compares digests. Answers with the leaves of the branches that differ.
    Digest { branches: Vec<u64>, reply: RpcReplyPort<Vec<BranchLeaves>> },
    /// A documented directory snapshot arrived over HTTP. Answers once it is on disk and searchable.
    Directory {
        entries: Vec<Result<HostEntry, String>>,
        reply: RpcReplyPort<Result<DirectoryAnswer, IngestError>>,
    },
    /// A documented host rollup arrived over HTTP. Answers once it is on disk.
    HostRollup { report: HostRollupReport, reply: RpcReplyPort<Result<HostRollup, IngestError>> },
    /// Documented metadata arrived over HTTP. Answers once it is on disk.
    Metadata { metadata: SiteMetadata, reply: RpcReplyPort<Result<SiteView, IngestError>> },
    /// Look whether a checkpoint, a merge or retention is due. No answer.
    Housekeeping,
    /// Fails on purpose, to show that only this actor restarts.
    #[cfg(feature = "testing")]
    DangerPanic,
}

/// A completion as it arrived, with the bearers that an acceptance hands out.
#[derive(Debug)]
pub(crate) struct CompleteRequest {
    pub(crate) token_hash: TokenHash,
    pub(crate) tls_cert_pem: String,
    pub(crate) identity_proof: String,
    pub(crate) answer_to: [u8; 32],
    pub(crate) sync_bearer_hash: TokenHash,
    pub(crate) outbound_bearer: Secret<String>,
    /// The key that the QUIC peer proved in its handshake; none over HTTP.
    pub(crate) peer_key: Option<[u8; 32]>,
}

/// Why a completion did not go through.
#[derive(Debug)]
pub(crate) enum CompleteFailure {
    Refused(EnrollmentRefusal),
    Unavailable(Unavailable),
}

/// What an operator changes.
#[derive(Debug)]
pub(crate) enum SiteChange {
    Patch(Box<SitePatch>),
    Suspend,
    Resume,
    Remove,
    RegenerateToken { ttl_hours: Option<u32>, token_hash: TokenHash },
    ReplaceIdentityKey([u8; 32]),
}

/// The answer to a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) enum BatchAnswer {
    Acknowledged(Position),
    Refused(BatchRefusal, Position),
}

/// What a site's actor is made of.
#[derive(Debug)]
pub(crate) struct SiteArguments {
    pub(crate) id: SiteId,
    pub(crate) member: Member,
    /// Log position from which this site has records that its segments do not cover.
    pub(crate) uncovered_from: Arc<AtomicU64>,
    /// Set when the shard was just loaded with all others; a restart finds none and loads it alone.
    pub(crate) loaded: Loaded,
}

pub(crate) struct SiteActor {
    pub(crate) context: Arc<Context>,
    pub(crate) roster: Arc<Roster>,
}

pub(crate) struct SiteState {
    site: Arc<Site>,
    sync: SiteSync,
    shard: SharedShard,
    member: Member,
    link: Option<LiveLink>,
    links: u64,
    second_word: SecondWord,
    log: SiteLog,
    /// Nothing was applied since the last pass of housekeeping.
    quiet: bool,
    /// Set when rows were refused because another site holds their hosts: how many had been given up then.
    refused_at: Option<u64>,
    /// A documented snapshot has come in since this actor started.
    has_directory: bool,
    _ticker: Tied,
}

/// The link that serves this site now; its tasks end with it.
struct LiveLink {
    number: u64,
    link: Link,
    push: Option<LaneSender>,
    _serving: Tied,
}

/// Rows of a batch after the rules were applied.
struct Admitted<'a> {
    changes: Vec<HostChange<&'a str>>,
    claimed: Vec<HostId>,
    held_elsewhere: Vec<HostId>,
}

impl Actor for SiteActor {
    type Msg = SiteMessage;
    type State = SiteState;
    type Arguments = SiteArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<SiteMessage>,
        arguments: SiteArguments,
    ) -> Result<SiteState, ActorProcessingErr> {
        let view = self.context.store.read()?;
        let site = view.get::<table::Sites>(&arguments.id)?.ok_or("the site's row is missing")?;
        let sync = view.get::<table::SiteSyncs>(&arguments.id)?.unwrap_or_default();
        let shard = self.roster.directory.shard(site.id);
        let log = match take_loaded(&arguments.loaded) {
            Some(log) => log,
            None => {
                let mut log = SiteLog::open(&view, site.id, arguments.uncovered_from)?;
                if site.status != SiteStatus::Removed {
                    let compute = self.context.compute;
                    let rebuilt = compute.run(|| persistence::rebuild(&view, site.id, &mut log))?;
                    shard.replace(rebuilt);
                }
                log
            }
        };
        let interval = self.context.config.housekeeping_interval;
        let ticker = Tied::spawn(async move {
            loop {
                tokio::time::sleep(interval).await;
                if myself.cast(SiteMessage::Housekeeping).is_err() {
                    return;
                }
            }
        });
        let state = SiteState {
            site: Arc::new(site),
            sync,
            shard,
            member: arguments.member,
            link: None,
            links: 0,
            second_word: SecondWord::default(),
            log,
            quiet: false,
            has_directory: false,
            refused_at: None,
            _ticker: ticker,
        };
        state.publish();
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<SiteMessage>,
        message: SiteMessage,
        state: &mut SiteState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SiteMessage::Complete { request, reply } => {
                let answer = self.complete(state, request).await;
                // A caller that gave up has nothing to be told; the same holds for every reply below.
                let _ = reply.send(answer);
            }
            SiteMessage::Change { change, operator, reply } => {
                let answer = self.change(state, change, &operator).await;
                let _ = reply.send(answer);
            }
            SiteMessage::LinkUp { link, software_version, control, reply } => {
                info!(site = %state.site.id, version = %software_version, "site links up");
                let answer = self.link_up(state, &myself, link, control).await;
                let _ = reply.send(answer);
            }
            SiteMessage::PushUp { link, sender } => {
                if let Some(live) = state.link.as_mut().filter(|live| live.number == link) {
                    live.push = Some(sender);
                }
            }
            SiteMessage::LinkDown { link } => {
                if state.link.as_ref().is_some_and(|live| live.number == link) {
                    state.link = None;
                    state.publish();
                }
            }
            SiteMessage::Batch { header, items, reply } => {
                let answer = self.batch(state, header, &items).await?;
                let _ = reply.send(answer);
            }
            SiteMessage::Digest { branches, reply } => {
                let _ = reply.send(differing(&state.shard, &branches));
            }
            SiteMessage::Directory { entries, reply } => {
                let answer = self.directory(state, entries).await;
                let _ = reply.send(answer);
            }
            SiteMessage::HostRollup { report, reply } => {
                let answer = self.host_rollup(state, report).await;
                let _ = reply.send(answer);
            }
            SiteMessage::Metadata { metadata, reply } => {
                let answer = self.metadata(state, &metadata).await;
                let _ = reply.send(answer);
            }
            SiteMessage::Housekeeping => self.housekeeping(state).await?,
            #[cfg(feature = "testing")]
            SiteMessage::DangerPanic => panic!("asked to fail"),
        }
        Ok(())
    }
}

impl SiteState {
    /// Hosts of the site: the directory's own count, at all times. Only of a site that has never sent a
    /// directory is the count taken that it last reported in a rollup (contract 7.1, 13.9).
    fn host_count(&self, reported: u64) -> u64 {
        let held = self.shard.read().len() as u64;
        let reports_only = held == 0 && self.sync.position == Position::default() && !self.has_directory;
        if reports_only { reported } else { held }
    }

    /// Shows readers the state that is on disk.
    fn publish(&self) {
        let mut sync = self.sync.clone();
        sync.host_count = self.host_count(sync.host_count);
        self.member.publish(SiteView { site: Arc::clone(&self.site), sync, linked: self.link.is_some() });
    }

    fn view(&self) -> SiteView {
        (*self.member.view()).clone()
    }
}

// Membership.
impl SiteActor {
    async fn complete(
        &self,
        state: &mut SiteState,
        request: CompleteRequest,
    ) -> Result<SiteView, CompleteFailure> {
        let now = self.context.now();
        let completion = Completion {
            token_hash: request.token_hash,
            tls_cert_pem: &request.tls_cert_pem,
            answer_to: request.answer_to,
            sync_bearer_hash: request.sync_bearer_hash,
        };
        let verifies = |key: &[u8; 32]| {
            request.peer_key.is_none_or(|peer| peer == *key)
                && crate::keyring::verify_site_proof(key, &request.tls_cert_pem, &request.identity_proof)
        };
        let decision = match registry::complete(&state.site, now, completion, verifies) {
            Ok(decision) => decision,
            Err(refusal) => {
                self.audit_refusal(state, refusal).await.map_err(CompleteFailure::Unavailable)?;
                return Err(CompleteFailure::Refused(refusal));
            }
        };
        let mut batch = Batch::new();
        batch.put_sealed::<table::OutboundBearers>(&state.site.id, &request.outbound_bearer);
        self.take_over(state, decision, batch, None).await.map_err(CompleteFailure::Unavailable)
    }

    /// A refused enrollment of a known site leaves a trace; the token stays usable.
    async fn audit_refusal(&self, state: &SiteState, refusal: EnrollmentRefusal) -> Result<(), Unavailable> {
        let details = [("reason".to_owned(), Detail::Text(refusal.to_string()))].into_iter().collect();
        let entry = registry::Entry { operation: "site_enrollment_refused", details };
        let mut batch = Batch::new();
        batch.audit(self.context.audit(entry, None, &state.site));
        self.context.commit(Lane::Operator, batch).await.map(drop)
    }

    async fn change(
        &self,
        state: &mut SiteState,
        change: SiteChange,
        operator: &Operator,
    ) -> Result<SiteView, RegistryError> {
        let now = self.context.now();
        let site = &state.site;
        let decision = match change {
            SiteChange::Patch(patch) => registry::patch(site, now, &patch)?,
            SiteChange::Suspend => registry::suspend(site, now)?,
            SiteChange::Resume => registry::resume(site, now)?,
            SiteChange::Remove => registry::remove(site, now),
            SiteChange::RegenerateToken { ttl_hours, token_hash } => {
                registry::regenerate_token(site, now, ttl_hours, token_hash)?
            }
            SiteChange::ReplaceIdentityKey(key) => {
                if self.roster.key_taken(&key, Some(site.id)) {
                    return Err(RegistryError::IdentityTaken);
                }
                registry::replace_identity_key(site, now, key)?
            }
        };
        if decision.site.name != site.name && self.roster.name_taken(&decision.site.name, Some(site.id)) {
            return Err(RegistryError::NameTaken);
        }
        Ok(self.take_over(state, decision, Batch::new(), Some(operator)).await?)
    }

    /// Stores a decision, then takes its row over and tells the link.
    async fn take_over(
        &self,
        state: &mut SiteState,
        decision: Decision,
        mut batch: Batch,
        operator: Option<&Operator>,
    ) -> Result<SiteView, Unavailable> {
        let Some(entry) = decision.entry else { return Ok(state.view()) };
        batch.put::<table::Sites>(&state.site.id, &decision.site);
        persistence::index_site(&mut batch, Some(&state.site), &decision.site);
        if decision.site.status == SiteStatus::Removed {
            batch.delete::<table::OutboundBearers>(&state.site.id);
            persistence::delete_segments(&mut batch, state.site.id);
        }
        batch.audit(self.context.audit(entry, operator, &decision.site));
        let lane = if decision.link == LinkEffect::Keep { Lane::Operator } else { Lane::Control };
        self.context.commit(lane, batch).await?;

        state.site = Arc::new(decision.site);
        self.roster.admit(&state.site);
        if state.site.status == SiteStatus::Removed {
            self.roster.directory.drop_site(state.site.id);
            state.shard = SharedShard::new(hansa_model::directory::Shard::new(state.site.id));
            state.log.forget();
        }
        self.tell_link(state, decision.link);
        state.publish();
        Ok(state.view())
    }

    fn tell_link(&self, state: &mut SiteState, effect: LinkEffect) {
        let code = match effect {
            LinkEffect::Keep => return,
            LinkEffect::CloseSuspended => CloseCode::Suspended,
            LinkEffect::CloseRemoved => CloseCode::Removed,
            LinkEffect::CloseReplaced => CloseCode::Replaced,
        };
        if let Some(live) = state.link.take() {
            live.link.close(code);
        }
    }
}

// The link.
impl SiteActor {
    async fn link_up(
        &self,
        state: &mut SiteState,
        myself: &ActorRef<SiteMessage>,
        link: Link,
        control: LaneReceiver,
    ) -> Result<Position, CloseCode> {
        match state.site.status {
            SiteStatus::Enrolled => {}
            SiteStatus::Suspended => return Err(CloseCode::Suspended),
            SiteStatus::Removed => return Err(CloseCode::Removed),
            SiteStatus::Pending => return Err(CloseCode::NotEnrolled),
        }
        if self.first_contact(state).await.is_err() {
            return Err(CloseCode::ShuttingDown);
        }
        if let Some(older) = state.link.take() {
            older.link.close(CloseCode::Replaced);
        }
        state.links += 1;
        let number = state.links;
        let serving = Tied::spawn(crate::endpoint::serve_link(myself.clone(), link.clone(), number, control));
        state.link = Some(LiveLink { number, link, push: None, _serving: serving });
        state.publish();
        Ok(state.sync.position)
    }

    /// The answer to the enrollment has arrived, so a repeat of its token is a repeat no more.
    async fn first_contact(&self, state: &mut SiteState) -> Result<(), Unavailable> {
        let Some(site) = registry::first_contact(&state.site) else { return Ok(()) };
        let mut batch = Batch::new();
        batch.put::<table::Sites>(&site.id, &site);
        persistence::index_site(&mut batch, Some(&state.site), &site);
        self.context.commit(Lane::Operator, batch).await?;
        state.site = Arc::new(site);
        Ok(())
    }
}

// Ingest.
impl SiteActor {
    async fn batch(
        &self,
        state: &mut SiteState,
        header: BatchHeader,
        payload: &[u8],
    ) -> Result<BatchAnswer, ActorProcessingErr> {
        let position = state.sync.position;
        if state.site.status != SiteStatus::Enrolled {
            return Ok(BatchAnswer::Refused(BatchRefusal::Unavailable, position));
        }
        let next = match ingest::judge(&position, &header, payload) {
            Verdict::Apply(next) => next,
            Verdict::Duplicate(position) => return Ok(BatchAnswer::Acknowledged(position)),
            Verdict::Refuse(refusal) => return Ok(BatchAnswer::Refused(refusal, position)),
        };
        let Ok(items) = postcard::from_bytes::<Items<&str>>(payload) else {
            return Ok(BatchAnswer::Refused(BatchRefusal::Malformed, position));
        };
        let admitted = self.admit(state, &items);
        let now = self.context.now();
        let mut sync = SiteSync {
            position: next,
            last_sync_at: Some(now),
            queue_depth: Some(header.queue_depth),
            ..state.sync.clone()
        };
        if sync.last_sync_status.as_deref() != Some("success") {
            sync.last_sync_status = Some("success".to_owned());
        }
        let mut batch = Batch::new();
        if let Some(metadata) = &items.metadata {
            self.put_metadata(&mut batch, state, &mut sync, metadata);
        }
        if let Some(report) = items.host_rollup {
            // A rollup that breaks a rule is dropped alone: its batch carries other rows too.
            let _ = self.put_rollup(&mut batch, state, &mut sync, report);
        }
        batch.expect::<table::SiteSyncs>(&state.site.id, &state.sync);
        batch.put::<table::SiteSyncs>(&state.site.id, &sync);
        match self.store_changes(state, batch, &admitted, header.epoch, header.sequence).await {
            Ok(()) => {
                state.sync = sync;
                state.publish();
                Ok(BatchAnswer::Acknowledged(next))
            }
            Err(StoreFailure::Refused) => Ok(BatchAnswer::Refused(BatchRefusal::Unavailable, position)),
            // The store holds another state than this cache: start again from it.
            Err(StoreFailure::Stale) => Err("the site's position moved under its actor".into()),
        }
    }

    /// Applies the rules to a batch's rows: bounds, ownership, and what a repaired leaf retires.
    fn admit<'a>(&self, state: &SiteState, items: &Items<&'a str>) -> Admitted<'a> {
        let mut changes = items.changes.clone();
        let invalid = ingest::drop_invalid(&mut changes);
        if invalid > 0 {
            debug!(site = %state.site.id, invalid, "rows that break a bound were dropped");
        }
        let shard = state.shard.read();
        for content in items.leaves.iter().filter(|content| usize::from(content.leaf) < digest::LEAVES) {
            let held = shard.hosts_in_leaf(content.leaf);
            changes.extend(ingest::retired(&held, &content.hosts).into_iter().map(HostChange::Remove));
        }
        let mut claimed = Vec::new();
        let mut held_elsewhere = Vec::new();
        changes.retain(|change| match change {
            HostChange::Remove(_) => true,
            HostChange::Upsert(row) if shard.contains(row.host_id) => true,
            HostChange::Upsert(row) => match self.roster.directory.claim(row.host_id, state.site.id) {
                Ok(()) => {
                    claimed.push(row.host_id);
                    true
                }
                Err(_) => {
                    held_elsewhere.push(row.host_id);
                    false
                }
            },
        });
        Admitted { changes, claimed, held_elsewhere }
    }

    /// Stores admitted changes, and applies them to the index between commit and acknowledgement.
    async fn store_changes(
        &self,
        state: &mut SiteState,
        mut batch: Batch,
        admitted: &Admitted<'_>,
        epoch: u64,
        sequence: u64,
    ) -> Result<(), StoreFailure> {
        let site = state.site.id;
        let appends = !admitted.changes.is_empty();
        if appends {
            let received_at = self.context.now();
            let record = persistence::encode_record(site, epoch, sequence, received_at, &admitted.changes);
            batch.append_bytes::<table::IngestLog>(record);
            state.log.before_append(&self.context.store);
        }
        if !admitted.held_elsewhere.is_empty() {
            state.refused_at = Some(self.roster.directory.freed());
            batch.audit(self.context.audit(refused_hosts(&admitted.held_elsewhere), None, &state.site));
        }
        match self.context.store.commit(Lane::Ingest, batch).await {
            Ok(receipt) => {
                if appends {
                    let position = receipt.positions.last().copied().unwrap_or_default();
                    state.log.appended(position, admitted.changes.len() as u64);
                }
            }
            Err(error) => {
                for host in &admitted.claimed {
                    self.roster.directory.release(*host, site);
                }
                debug!(%site, %error, "batch not stored");
                return Err(StoreFailure::from(error));
            }
        }
        state.quiet = false;
        let applied = state.shard.apply(&admitted.changes, self.context.compute);
        self.context.metrics.applied(&applied, admitted.changes.len());
        if applied.removed > 0 {
            let shard = state.shard.read();
            for change in &admitted.changes {
                if let HostChange::Remove(host) = change
                    && !shard.contains(*host)
                {
                    self.roster.directory.release(*host, site);
                }
            }
        }
        Ok(())
    }

    /// The documented snapshot over HTTP: same rules, same log, without epoch and sequence.
    async fn directory(
        &self,
        state: &mut SiteState,
        entries: Vec<Result<HostEntry, String>>,
    ) -> Result<DirectoryAnswer, IngestError> {
        self.contact(state).await?;
        let now = self.context.now();
        let merged = merge(&state.shard, entries, now);
        let mut answer = DirectoryAnswer { skipped: merged.skipped, ..DirectoryAnswer::default() };
        let (held, missing) = {
            let shard = state.shard.read();
            let mut missing = Vec::new();
            shard.for_each_row(|row| {
                if !merged.named.contains(&row.host_id) {
                    missing.push(row.host_id);
                }
            });
            (shard.len(), missing)
        };
        let left_out = missing.len();
        let retired = state.second_word.retire(missing, held);
        answer.retired = retired.len();
        answer.retained = left_out - retired.len();

        let items = Items::<&str> {
            changes: merged.hosts.iter().map(|(_, host)| HostChange::Upsert(host.as_row())).collect(),
            ..Items::default()
        };
        let mut admitted = self.admit(state, &items);
        for host in &admitted.held_elsewhere {
            if let Some((index, _)) = merged.hosts.iter().find(|(_, merged)| merged.host_id == *host) {
                let error = SkippedEntry::HeldElsewhere;
                answer.skipped.push(Skipped { index: *index, host_id: Some(*host), error });
            }
        }
        answer.skipped.sort_by_key(|skipped| skipped.index);
        answer.upserted = admitted.changes.len() + merged.unchanged;
        admitted.changes.extend(retired.into_iter().map(HostChange::Remove));

        let mut sync = state.sync.clone();
        let mut batch = Batch::new();
        state.has_directory = true;
        sync.host_count = state.shard.read().len() as u64;
        sync.last_sync_at = Some(now);
        sync.last_sync_status = Some("success".to_owned());
        batch.put::<table::SiteSyncs>(&state.site.id, &sync);
        self.store_changes(state, batch, &admitted, 0, 0).await.map_err(|_| Unavailable::Storage)?;
        state.sync = sync;
        state.publish();
        Ok(answer)
    }

    async fn host_rollup(
        &self,
        state: &mut SiteState,
        report: HostRollupReport,
    ) -> Result<HostRollup, IngestError> {
        self.contact(state).await?;
        let mut sync = state.sync.clone();
        let mut batch = Batch::new();
        let rollup = self.put_rollup(&mut batch, state, &mut sync, report)?;
        batch.put::<table::SiteSyncs>(&state.site.id, &sync);
        self.context.commit(Lane::Ingest, batch).await?;
        state.sync = sync;
        state.publish();
        Ok(rollup)
    }

    async fn metadata(
        &self,
        state: &mut SiteState,
        metadata: &SiteMetadata,
    ) -> Result<SiteView, IngestError> {
        self.contact(state).await?;
        let mut sync = state.sync.clone();
        let mut batch = Batch::new();
        self.put_metadata(&mut batch, state, &mut sync, metadata);
        batch.put::<table::SiteSyncs>(&state.site.id, &sync);
        self.context.commit(Lane::Ingest, batch).await?;
        state.sync = sync;
        state.publish();
        Ok(state.view())
    }

    /// What every documented ingest over HTTP begins with.
    async fn contact(&self, state: &mut SiteState) -> Result<(), IngestError> {
        if state.site.status != SiteStatus::Enrolled {
            return Err(IngestError::Status(state.site.status));
        }
        Ok(self.first_contact(state).await?)
    }

    fn put_metadata(
        &self,
        batch: &mut Batch,
        state: &SiteState,
        sync: &mut SiteSync,
        metadata: &SiteMetadata,
    ) {
        let now = self.context.now();
        ingest::apply_metadata(sync, metadata, now);
        self.put_event(batch, state, sync, metadata.latency_ms, metadata.queue_depth);
    }

    fn put_rollup(
        &self,
        batch: &mut Batch,
        state: &SiteState,
        sync: &mut SiteSync,
        report: HostRollupReport,
    ) -> Result<HostRollup, ingest::InvalidRollup> {
        let now = self.context.now();
        let rollup = ingest::host_rollup(RollupId::generate(now, &*self.context.entropy), report, now)?;
        let number = sync.next_rollup;
        sync.next_rollup += 1;
        sync.host_count = rollup.host_count;
        batch.put::<table::HostRollups>(&(state.site.id, number), &rollup);
        if let Some(oldest) = sync.next_rollup.checked_sub(limits::ROLLUPS_MAX) {
            batch.delete_range::<table::HostRollups>((state.site.id, 0)..(state.site.id, oldest));
        }
        self.put_event(batch, state, sync, None, None);
        Ok(rollup)
    }

    fn put_event(
        &self,
        batch: &mut Batch,
        state: &SiteState,
        sync: &mut SiteSync,
        latency_ms: Option<u32>,
        queue_depth: Option<u64>,
    ) {
        sync.host_count = state.host_count(sync.host_count);
        let (number, event) = ingest::record_sync(sync, self.context.now(), latency_ms, queue_depth);
        batch.put::<table::SyncEvents>(&(state.site.id, number), &event);
        if let Some(oldest) = sync.next_event.checked_sub(limits::EVENTS_MAX) {
            batch.delete_range::<table::SyncEvents>((state.site.id, 0)..(state.site.id, oldest));
        }
    }
}

// Housekeeping.
impl SiteActor {
    async fn housekeeping(&self, state: &mut SiteState) -> Result<(), ActorProcessingErr> {
        self.offer_freed_hosts(state).await;
        let quiet = std::mem::replace(&mut state.quiet, true);
        if quiet {
            state.shard.settle(self.context.compute);
        }
        let rows = state.shard.read().len() as u64;
        if !state.log.checkpoint_due(rows, self.context.config.checkpoint_rows, quiet) {
            return Ok(());
        }
        let chunks = self.context.compute.run(|| persistence::encode_chunks(&state.shard.read()));
        match persistence::write_segments(&self.context.store, &mut state.log, chunks).await {
            Ok(()) => Ok(()),
            // A full disk is not a reason to stop taking what still fits: the next pass tries again.
            Err(error) => {
                debug!(site = %state.site.id, %error, "segments not written");
                Ok(())
            }
        }
    }
}

impl SiteActor {
    /// Asks the site to compare digests when hosts were given up since it was refused some: it then sends
    /// again what it holds and we do not.
    async fn offer_freed_hosts(&self, state: &mut SiteState) {
        let freed = self.roster.directory.freed();
        let due = state.refused_at.is_some_and(|at| at != freed);
        let Some(push) = state.link.as_mut().and_then(|live| live.push.as_mut()).filter(|_| due) else {
            return;
        };
        // A link that is gone compares when it is back.
        let _ = push.send(&Down::Resync.encode()).await;
        state.refused_at = None;
    }
}

/// Why changes are not stored.
enum StoreFailure {
    /// Nothing happened; the sender may try again.
    Refused,
    /// The cache is not the store's state.
    Stale,
}

impl From<hansa_storage::CommitError> for StoreFailure {
    fn from(error: hansa_storage::CommitError) -> Self {
        match error {
            hansa_storage::CommitError::PreconditionFailed { .. } => Self::Stale,
            hansa_storage::CommitError::Full { .. }
            | hansa_storage::CommitError::Closed
            | hansa_storage::CommitError::Io(_)
            | hansa_storage::CommitError::Corrupt(_) => Self::Refused,
        }
    }
}

/// Entries merged over the stored rows.
pub(crate) struct Merged {
    /// Whole rows, each with the place of its entry.
    pub(crate) hosts: Vec<(usize, Host)>,
    /// Entries that say what is stored already.
    pub(crate) unchanged: usize,
    /// Entries that were not applied.
    pub(crate) skipped: Vec<Skipped>,
    /// Every host that the call named, bad rows included: a bad row never retires its host.
    pub(crate) named: std::collections::HashSet<HostId>,
}

/// Merges the entries of one call over the rows that the shard holds.
pub(crate) fn merge(
    shard: &SharedShard,
    entries: Vec<Result<HostEntry, String>>,
    now: hansa_model::Timestamp,
) -> Merged {
    let shard = shard.read();
    let mut merged = Merged {
        hosts: Vec::with_capacity(entries.len()),
        unchanged: 0,
        skipped: Vec::new(),
        named: std::collections::HashSet::with_capacity(entries.len()),
    };
    for (index, entry) in entries.into_iter().enumerate() {
        let outcome = match entry {
            Err(reason) => Err((None, SkippedEntry::Malformed(reason))),
            Ok(entry) => match entry.host_id.parse::<HostId>() {
                Err(error) => Err((None, SkippedEntry::InvalidId(error))),
                Ok(host_id) if !merged.named.insert(host_id) => Err((Some(host_id), SkippedEntry::Repeated)),
                Ok(host_id) => shard
                    .with_row(host_id, |row| {
                        entry.clone().merge(Some(*row), now).map(|host| settle_mtime(*row, host))
                    })
                    .unwrap_or_else(|| entry.merge(None, now).map(Some))
                    .map_err(|error| (Some(host_id), error)),
            },
        };
        match outcome {
            Ok(Some(host)) => merged.hosts.push((index, host)),
            Ok(None) => merged.unchanged += 1,
            Err((host_id, error)) => merged.skipped.push(Skipped { index, host_id, error }),
        }
    }
    merged
}

/// The new row, or none when nothing but its `mtime` differs from the stored one.
fn settle_mtime(stored: hansa_model::HostRow<'_>, host: Host) -> Option<Host> {
    let same = hansa_model::HostRow { mtime: stored.mtime, ..host.as_row() } == stored;
    (!same).then_some(host)
}

/// The leaves of the branches in which the coordinator's directory differs from the site's.
fn differing(shard: &SharedShard, theirs: &[u64]) -> Vec<BranchLeaves> {
    let shard = shard.read();
    let ours = shard.branches();
    ours.iter()
        .enumerate()
        .filter(|(branch, digest)| theirs.get(*branch) != Some(*digest))
        .map(|(branch, _)| BranchLeaves {
            branch: u16::try_from(branch).unwrap_or(u16::MAX),
            leaves: shard.leaves(branch).to_vec(),
        })
        .collect()
}

/// The entry about rows that another live site holds: how many, and the first of them.
fn refused_hosts(hosts: &[HostId]) -> registry::Entry {
    let details = [
        ("count".to_owned(), Detail::Int(i64::try_from(hosts.len()).unwrap_or(i64::MAX))),
        (
            "host_ids".to_owned(),
            Detail::List(hosts.iter().take(10).map(|host| Detail::Text(host.to_string())).collect()),
        ),
    ];
    registry::Entry { operation: "host_claim_refused", details: details.into_iter().collect() }
}
