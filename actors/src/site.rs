//! One site at its coordinator: its row, its link, its ingest position, its timeline.
//!
//! Shell around `machine::registry` and `machine::ingest`. The state is a cache of the store: a restart
//! reads it again, rebuilds the site's shard of the directory, and goes on. One batch of a site is in
//! flight at a time; the writer groups across sites.

mod commands;
mod ingest;
mod leases;
mod link;
mod live;
mod membership;
mod policies;
mod push;
mod reports;
mod rollups;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use hansa_model::alert::SiteHealth;
use hansa_model::command::Command;
use hansa_model::host::HostEntry;
use hansa_model::id::{CommandId, LeaseId, PolicyId};
use hansa_model::machine::delivery::Deliveries;
use hansa_model::machine::registry::{EnrollmentRefusal, SitePatch};
use hansa_model::machine::rollup::SiteRollups;
use hansa_model::machine::snapshot::SecondWord;
use hansa_model::report::{CommandReport, Report};
use hansa_model::scope::Operator;
use hansa_model::secret::TokenHash;
use hansa_model::site::{HostRollup, Site, SiteStatus, SiteSync};
use hansa_model::sync::{BatchHeader, BatchRefusal, HostRollupReport, Position, SiteMetadata};
use hansa_model::{Secret, SiteId, Timestamp};
use hansa_storage::table;
use hansa_transport::wire::{BranchLeaves, Held};
use hansa_transport::{CloseCode, LaneReceiver, LaneSender, Link};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tracing::{debug, info};

pub(crate) use self::commands::{Dispatch, KeyHash, of_site};
pub(crate) use self::ingest::merge;
pub(crate) use self::leases::LeaseOffer;
use self::link::differing;
pub(crate) use self::policies::PolicyChange;
use self::push::{Posting, PushLane};
use crate::context::Context;
use crate::coordinator::{Loaded, take_loaded};
use crate::directory::SharedShard;
use crate::error::{CancelError, DispatchError, IngestError, RegistryError, Unavailable};
use crate::events::Coarse;
use crate::leases::LeasesMessage;
use crate::persistence::{self, SiteLog};
use crate::post::Posted;
use crate::rollups::{self as boards, Rollups};
use crate::roster::{Member, Roster};
use crate::supervision::{Handle, Tied};
use crate::view::{DirectoryAnswer, Dispatched, ReportAnswer, SiteView};

/// Everything a site's actor can be asked. What is large is boxed: a waiting actor keeps room for its largest
/// message several times.
#[derive(Debug)]
pub(crate) enum SiteMessage {
    /// Completes enrollment. Answers once the membership is on disk.
    Complete { request: Box<CompleteRequest>, reply: RpcReplyPort<Result<SiteView, CompleteFailure>> },
    /// An operator changes the row. Answers once the change and its audit entry are on disk.
    Change {
        change: SiteChange,
        operator: Box<Operator>,
        reply: RpcReplyPort<Result<SiteView, RegistryError>>,
    },
    /// The site says that it leaves. Answers once that is on disk.
    Leave { reply: RpcReplyPort<Result<(), Unavailable>> },
    /// A link of this site finished its handshake. Answers with where the stream stands.
    LinkUp {
        link: Link,
        software_version: String,
        control: Box<LaneReceiver>,
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
    Metadata { metadata: Box<SiteMetadata>, reply: RpcReplyPort<Result<SiteView, IngestError>> },
    /// Another documented report arrived over HTTP. Answers once it is on disk.
    Report { report: Box<Report>, reply: RpcReplyPort<Result<ReportAnswer, IngestError>> },
    /// What the site should hold of policies changes. Answers once that is on disk, with how many rows it
    /// concerned.
    Policy {
        change: PolicyChange,
        operator: Option<Box<Operator>>,
        reply: RpcReplyPort<Result<usize, Unavailable>>,
    },
    /// A policy was changed, or any may have been: look what is due. No answer.
    PolicyChanged { policy: Option<PolicyId> },
    /// Dispatches a command. Answers once it is on disk; it is then pushed at once, if the site can be reached.
    Dispatch {
        dispatch: Box<Dispatch>,
        operator: Box<Operator>,
        reply: RpcReplyPort<Result<Dispatched, DispatchError>>,
    },
    /// An operator wants a command stopped. Answers once the wish is on disk.
    CancelCommand {
        command: CommandId,
        operator: Box<Operator>,
        reply: RpcReplyPort<Result<Command, CancelError>>,
    },
    /// Documented results of commands arrived over HTTP. Answers once they are on disk.
    CommandResults {
        reports: Vec<CommandReport>,
        reply: RpcReplyPort<Result<Vec<ReportAnswer>, IngestError>>,
    },
    /// The site says how it is. No answer.
    Health { health: SiteHealth },
    /// The site says what it holds beside hosts, at the beginning of its link. No answer.
    Held { link: u64, held: Box<Held> },
    /// The site is to be told a word on a lease. Kept in memory until it took it. No answer.
    Lease { offer: Box<LeaseOffer> },
    /// The site has a push on its disk. No answer.
    Taken { link: u64, push: u64 },
    /// The site will never take a push. No answer.
    PushRefused { link: u64, push: u64, reason: String },
    /// A post to an HTTP peer is over. No answer.
    Posted { push: u64, outcome: Posted },
    /// Look whether a push, a checkpoint, a merge or retention is due. No answer.
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
    /// For notices alone.
    pub(crate) leases: Handle<LeasesMessage>,
}

pub(crate) struct SiteState {
    site: Arc<Site>,
    sync: SiteSync,
    shard: SharedShard,
    member: Member,
    /// The series as they are on disk.
    rollups: Arc<SiteRollups>,
    /// Where readers see their latest.
    board: Arc<Rollups>,
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
    /// The site's commands that have not ended.
    commands: BTreeMap<CommandId, Command>,
    /// What the site last said of itself outside its stream.
    health: Option<SiteHealth>,
    /// What the site still has to be told.
    deliveries: Deliveries,
    /// Policies that the site holds though nothing here says that it should: their versions there.
    strays: BTreeMap<PolicyId, u32>,
    /// Words on leases that the site has not taken yet, with their values.
    leases: BTreeMap<LeaseId, Box<LeaseOffer>>,
    posting: Posting,
    /// When watchers were last told of a sync.
    told: Coarse,
}

/// The link that serves this site now; its tasks end with it.
struct LiveLink {
    number: u64,
    link: Link,
    /// The site has said what it holds. That is compared once a link: it reads every policy.
    compared: bool,
    /// The last checkpoint that the site was sent over this link, by number, and when.
    checkpoint: Option<(u64, Timestamp)>,
    push: Option<PushLane>,
    _serving: Tied,
}

impl Actor for SiteActor {
    type Msg = SiteMessage;
    type State = SiteState;
    type Arguments = SiteArguments;

    async fn pre_start(
        &self,
        _myself: ActorRef<SiteMessage>,
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
        let series = boards::load(&view, site.id)?;
        let mut state = SiteState {
            site: Arc::new(site),
            sync,
            shard,
            member: arguments.member,
            rollups: Arc::new(series),
            board: Arc::clone(&self.roster.rollups),
            link: None,
            links: 0,
            second_word: SecondWord::default(),
            log,
            quiet: false,
            has_directory: false,
            refused_at: None,
            commands: BTreeMap::new(),
            health: None,
            deliveries: Deliveries::default(),
            strays: BTreeMap::new(),
            leases: BTreeMap::new(),
            posting: Posting::default(),
            told: Coarse::default(),
        };
        self.load_deliveries(&view, &mut state)?;
        state.publish();
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<SiteMessage>,
        message: SiteMessage,
        state: &mut SiteState,
    ) -> Result<(), ActorProcessingErr> {
        // A waiting actor keeps room for its largest future, and there are many sites: the large ones are boxed.
        match message {
            SiteMessage::Complete { request, reply } => {
                let answer = Box::pin(self.complete(state, *request)).await;
                // A caller that gave up has nothing to be told; the same holds for every reply below.
                let _ = reply.send(answer);
            }
            SiteMessage::Leave { reply } => {
                let _ = reply.send(Box::pin(self.leave(state)).await);
            }
            SiteMessage::Change { change, operator, reply } => {
                let answer = Box::pin(self.change(state, change, &operator)).await;
                let _ = reply.send(answer);
            }
            SiteMessage::LinkUp { link, software_version, control, reply } => {
                info!(site = %state.site.id, version = %software_version, "site links up");
                let answer = Box::pin(self.link_up(state, &myself, link, *control)).await;
                if answer.is_ok() {
                    self.tell_link_up(state, &software_version);
                }
                let _ = reply.send(answer);
            }
            SiteMessage::PushUp { link, sender } => {
                if let Some(live) = state.link.as_mut().filter(|live| live.number == link) {
                    live.push = Some(PushLane::new(sender));
                    self.ask_about_commands(state);
                }
                self.pump(state, &myself);
            }
            SiteMessage::LinkDown { link } => {
                if state.link.as_ref().is_some_and(|live| live.number == link) {
                    state.link = None;
                    state.deliveries.link_lost();
                    state.publish();
                    self.tell_link_down(state, "lost");
                }
            }
            SiteMessage::Batch { header, items, reply } => {
                let answer = Box::pin(self.batch(state, header, &items)).await?;
                let _ = reply.send(answer);
            }
            SiteMessage::Digest { branches, reply } => {
                let _ = reply.send(differing(&state.shard, &branches));
            }
            SiteMessage::Directory { entries, reply } => {
                let answer = Box::pin(self.directory(state, entries)).await;
                let _ = reply.send(answer);
            }
            SiteMessage::HostRollup { report, reply } => {
                let answer = Box::pin(self.host_rollup(state, report)).await;
                let _ = reply.send(answer);
            }
            SiteMessage::Metadata { metadata, reply } => {
                let answer = Box::pin(self.metadata(state, &metadata)).await;
                let _ = reply.send(answer);
            }
            SiteMessage::Report { report, reply } => {
                let answer = Box::pin(self.report(state, *report)).await;
                let _ = reply.send(answer);
            }
            SiteMessage::Policy { change, operator, reply } => {
                let answer = Box::pin(self.change_policy(state, change, operator.as_deref())).await;
                let _ = reply.send(answer);
                self.pump(state, &myself);
            }
            SiteMessage::PolicyChanged { policy } => {
                self.policy_changed(state, policy);
                self.pump(state, &myself);
            }
            SiteMessage::Dispatch { dispatch, operator, reply } => {
                let answer = Box::pin(self.dispatch(state, *dispatch, &operator)).await;
                self.pump(state, &myself);
                let _ = reply.send(answer);
            }
            SiteMessage::CancelCommand { command, operator, reply } => {
                let answer = Box::pin(self.cancel_command(state, command, &operator)).await;
                self.pump(state, &myself);
                let _ = reply.send(answer);
            }
            SiteMessage::CommandResults { reports, reply } => {
                let answer = Box::pin(self.command_results(state, reports)).await;
                let _ = reply.send(answer);
            }
            SiteMessage::Held { link, held } => {
                let live = state.link.as_mut().filter(|live| live.number == link);
                if live.is_some_and(|live| !std::mem::replace(&mut live.compared, true)) {
                    Box::pin(self.policies_held(state, &held.policies)).await;
                    Box::pin(self.results_held(state, &held.baselines, held.findings)).await;
                    self.pump(state, &myself);
                }
            }
            SiteMessage::Health { health } => {
                state.health = Some(health);
                state.publish();
            }
            SiteMessage::Lease { offer } => self.lease_offered(state, &myself, offer),
            SiteMessage::Taken { link, push } => {
                if state.link.as_ref().is_some_and(|live| live.number == link) {
                    // What is not stored now is sent again.
                    let _ = Box::pin(self.taken(state, push)).await;
                    self.pump(state, &myself);
                }
            }
            SiteMessage::PushRefused { link, push, reason } => {
                if state.link.as_ref().is_some_and(|live| live.number == link) {
                    self.push_refused(state, push, &reason);
                    self.pump(state, &myself);
                }
            }
            SiteMessage::Posted { push, outcome } => {
                let _ = Box::pin(self.posted(state, push, outcome)).await;
                self.pump(state, &myself);
            }
            SiteMessage::Housekeeping => {
                Box::pin(self.housekeeping(state)).await?;
                self.pump(state, &myself);
            }
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
        let view =
            SiteView { site: Arc::clone(&self.site), sync, linked: self.link.is_some(), health: self.health };
        self.board.publish(self.standing(&view));
        self.member.publish(view);
    }

    fn view(&self) -> SiteView {
        (*self.member.view()).clone()
    }
}

// Housekeeping.
impl SiteActor {
    async fn housekeeping(&self, state: &mut SiteState) -> Result<(), ActorProcessingErr> {
        self.offer_freed_hosts(state);
        self.expire_commands(state).await;
        self.tell_late_sync(state);
        self.offer_checkpoint(state);
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
