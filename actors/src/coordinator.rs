//! The coordinator's role: loads the roster, starts one actor per site, creates new sites.

mod retention;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hansa_model::limits::site as site_limits;
use hansa_model::machine::registry::{self, EnrollmentRefusal, NewSite};
use hansa_model::scope::Operator;
use hansa_model::secret::{TokenHash, generate_token, token_hash};
use hansa_model::site::{Site, SiteStatus, SiteSync};
use hansa_model::{Secret, SiteId};
use hansa_storage::{Batch, CommitError, Lane, table};
use hansa_transport::certificate::certificate_fingerprint;
use hansa_transport::wire::{Enroll, Enrolled};
use hansa_transport::{CloseCode, Link};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use tracing::{debug, info};

use crate::alerts::{Alerts, AlertsActor};
use crate::context::Context;
use crate::error::{CompleteError, RegistryError, Unavailable};
use crate::leases::{LeasesActor, LeasesMessage};
use crate::persistence::{self, COMPLETE_FROM, COVERED, SiteFold, SiteLog};
use crate::policies::PoliciesActor;
use crate::roster::{Member, Roster};
use crate::site::{CompleteFailure, CompleteRequest, SiteActor, SiteArguments, SiteMessage};
use crate::supervision::{Children, Handle, Tied};
use crate::view::{EnrollmentAnswer, SiteView};
use crate::webhooks::{WebhooksActor, WebhooksMessage};

/// Everything the coordinator's role can be asked.
#[derive(Debug)]
pub(crate) enum CoordinatorMessage {
    /// Creates a pending site. Answers once it is on disk and its actor runs.
    Create {
        new: Box<NewSite>,
        token_hash: TokenHash,
        operator: Operator,
        reply: RpcReplyPort<Result<SiteView, RegistryError>>,
    },
    /// Fold the log's old records away, and forget old commands, if any are due. No answer.
    Housekeeping,
    /// Fails on purpose, to show that only this subtree restarts.
    #[cfg(feature = "testing")]
    DangerPanic,
}

/// What the rest of the node sees of the coordinator's role. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Coordinator {
    pub(crate) context: Arc<Context>,
    pub(crate) roster: Arc<Roster>,
    pub(crate) actor: Handle<CoordinatorMessage>,
    pub(crate) alerts: Alerts,
    pub(crate) webhooks: Handle<WebhooksMessage>,
    pub(crate) leases: Handle<LeasesMessage>,
    active: Arc<AtomicBool>,
}

impl Coordinator {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self {
            context,
            roster: Arc::new(Roster::new()),
            actor: Handle::new("coordinator"),
            alerts: Alerts::new(),
            webhooks: Handle::new("webhooks"),
            leases: Handle::new("leases"),
            active: Arc::new(AtomicBool::new(false)),
        }
    }

    /// Whether the role runs.
    pub(crate) fn is_active(&self) -> bool {
        self.active.load(Ordering::Acquire)
    }

    pub(crate) fn set_active(&self, active: bool) {
        self.active.store(active, Ordering::Release);
    }

    /// Whether a key may finish a QUIC handshake here. Sites on hold and former sites may, to be told so.
    pub(crate) fn admits(&self, key: &[u8; 32]) -> bool {
        self.roster.by_key(key).is_some()
    }

    /// What a proven peer is told instead of being served; none if it is served.
    pub(crate) fn refusal_of(&self, key: &[u8; 32]) -> Option<CloseCode> {
        if !self.is_active() {
            return Some(CloseCode::NotEnrolled);
        }
        match self.member_of(key)?.view().site.status {
            SiteStatus::Pending | SiteStatus::Enrolled => None,
            SiteStatus::Suspended => Some(CloseCode::Suspended),
            SiteStatus::Removed => Some(CloseCode::Removed),
        }
    }

    pub(crate) fn member_of(&self, key: &[u8; 32]) -> Option<Member> {
        self.roster.find(self.roster.by_key(key)?)
    }

    /// Completes an enrollment; answers once the membership is on disk. `peer_key` is the key that a QUIC
    /// peer has proven.
    pub(crate) async fn complete(
        &self,
        token: &str,
        tls_cert_pem: &str,
        identity_proof: &str,
        peer_key: Option<[u8; 32]>,
    ) -> Result<EnrollmentAnswer, CompleteError> {
        if token.is_empty() {
            return Err(EnrollmentRefusal::UnknownToken.into());
        }
        if tls_cert_pem.trim().is_empty() {
            return Err(EnrollmentRefusal::CertificateMissing.into());
        }
        if tls_cert_pem.len() > site_limits::PEM_BYTES_MAX || certificate_fingerprint(tls_cert_pem).is_err() {
            return Err(CompleteError::Certificate);
        }
        let hash = token_hash(token);
        let view = self.context.store.read().map_err(|_| Unavailable::Storage)?;
        let site = view.get::<table::EnrollmentTokens>(&hash).map_err(|_| Unavailable::Storage)?;
        drop(view);
        let Some(member) = site.and_then(|site| self.roster.find(site)) else {
            return Err(EnrollmentRefusal::UnknownToken.into());
        };
        let entropy = &*self.context.entropy;
        let sync_bearer = generate_token(entropy);
        let outbound_bearer = generate_token(entropy);
        let coordinator_inbound_bearer_hash = token_hash(outbound_bearer.expose());
        let request = Box::new(CompleteRequest {
            token_hash: hash,
            tls_cert_pem: tls_cert_pem.to_owned(),
            identity_proof: identity_proof.to_owned(),
            answer_to: answer_to(tls_cert_pem, identity_proof),
            sync_bearer_hash: token_hash(sync_bearer.expose()),
            outbound_bearer,
            peer_key,
        });
        let answer = member.actor.call(|reply| SiteMessage::Complete { request, reply }).await?;
        let view = answer.map_err(|failure| match failure {
            CompleteFailure::Refused(refusal) => CompleteError::Refused(refusal),
            CompleteFailure::Unavailable(unavailable) => CompleteError::Unavailable(unavailable),
        })?;
        info!(site = %view.site.id, "site enrolled");
        let quic = self.context.quic_address();
        Ok(EnrollmentAnswer { view, sync_bearer, coordinator_inbound_bearer_hash, quic })
    }

    pub(crate) async fn complete_over_link(
        &self,
        link: &Link,
        enroll: &Enroll,
    ) -> Result<Enrolled, CompleteError> {
        let peer = Some(*link.peer().as_bytes());
        let token = enroll.token.expose();
        let answer = self.complete(token, &enroll.tls_cert_pem, &enroll.identity_proof, peer).await?;
        Ok(crate::endpoint::enrolled(&self.context, &answer))
    }

    /// Creates a pending site; the token is answered once and only its hash kept.
    pub(crate) async fn create(
        &self,
        operator: &Operator,
        new: NewSite,
    ) -> Result<(SiteView, Secret<String>), RegistryError> {
        let token = generate_token(&*self.context.entropy);
        let message = |reply| CoordinatorMessage::Create {
            new: Box::new(new),
            token_hash: token_hash(token.expose()),
            operator: operator.clone(),
            reply,
        };
        Ok((self.actor.call(message).await??, token))
    }
}

/// Tells a repeat of a completion from another try.
fn answer_to(tls_cert_pem: &str, identity_proof: &str) -> [u8; 32] {
    Sha256::new().chain_update(tls_cert_pem).chain_update([0]).chain_update(identity_proof).finalize().into()
}

/// Between two looks at what is due; a site's actor that was set aside waits no longer than this.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(5);
/// Between two looks at the log's old end.
const RETENTION_INTERVAL: Duration = Duration::from_secs(60);
/// The setting under which the first log position lies that some checkpoint does not cover.
const FLOOR: &str = "ingest_floor";

pub(crate) struct CoordinatorActor {
    pub(crate) coordinator: Coordinator,
}

pub(crate) struct CoordinatorState {
    sites: Children,
    /// What works above the sites: started after them, stopped before them.
    parts: Children,
    uncovered: Vec<Arc<AtomicU64>>,
    retained_at: Option<Instant>,
    _tickers: [Tied; 2],
}

/// What a site's first incarnation takes over from the common load; later ones load alone.
pub(crate) type Loaded = Arc<Mutex<Option<SiteLog>>>;

impl Actor for CoordinatorActor {
    type Msg = CoordinatorMessage;
    type State = CoordinatorState;
    type Arguments = ();

    async fn pre_start(
        &self,
        myself: ActorRef<CoordinatorMessage>,
        (): (),
    ) -> Result<CoordinatorState, ActorProcessingErr> {
        let supervisor = myself.get_cell();
        let ticker = Tied::spawn(async move {
            loop {
                tokio::time::sleep(HOUSEKEEPING_INTERVAL).await;
                if myself.cast(CoordinatorMessage::Housekeeping).is_err() {
                    return;
                }
            }
        });
        let (roster, interval) =
            (Arc::clone(&self.coordinator.roster), self.coordinator.context.config.housekeeping_interval);
        // One clock for all sites: a thousand timers of their own would cost each of them half a kilobyte.
        let sites_ticker = Tied::spawn(async move {
            loop {
                tokio::time::sleep(interval).await;
                for member in roster.members() {
                    member.actor.cast(SiteMessage::Housekeeping);
                }
            }
        });
        let mut state = CoordinatorState {
            sites: Children::default(),
            parts: Children::default(),
            uncovered: Vec::new(),
            // Due at once: the node may have been off for long.
            retained_at: None,
            _tickers: [ticker, sites_ticker],
        };
        for (site, sync, log) in self.load().await? {
            self.start(&mut state, supervisor.clone(), site, sync, Some(log)).await?;
        }
        self.start_parts(&mut state, &supervisor).await?;
        self.coordinator.set_active(true);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<CoordinatorMessage>,
        message: CoordinatorMessage,
        state: &mut CoordinatorState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            CoordinatorMessage::Create { new, token_hash, operator, reply } => {
                let answer = self.create(state, myself.get_cell(), &new, token_hash, &operator).await;
                // A caller that gave up has nothing to be told.
                let _ = reply.send(answer);
            }
            CoordinatorMessage::Housekeeping => {
                state.sites.revive(&myself.get_cell()).await;
                if state.retained_at.is_none_or(|at| at.elapsed() >= RETENTION_INTERVAL) {
                    self.retain(state).await;
                    // When there are more, the next look is at the next housekeeping.
                    if !self.forget_commands().await {
                        state.retained_at = Some(Instant::now());
                    }
                }
            }
            #[cfg(feature = "testing")]
            CoordinatorMessage::DangerPanic => panic!("asked to fail"),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<CoordinatorMessage>,
        event: SupervisionEvent,
        state: &mut CoordinatorState,
    ) -> Result<(), ActorProcessingErr> {
        if event.actor_cell().is_some_and(|cell| state.parts.holds(cell)) {
            return Ok(state.parts.on_event(event, myself.get_cell()).await?);
        }
        state.sites.on_event_of_many(event, myself.get_cell()).await;
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<CoordinatorMessage>,
        state: &mut CoordinatorState,
    ) -> Result<(), ActorProcessingErr> {
        self.coordinator.set_active(false);
        state.parts.stop_all().await;
        state.sites.stop_all().await;
        Ok(())
    }
}

impl CoordinatorActor {
    /// Reads every site, and folds all shards side by side from one pass over the log.
    async fn load(&self) -> Result<Vec<(Site, SiteSync, SiteLog)>, ActorProcessingErr> {
        let Coordinator { context, roster, .. } = &self.coordinator;
        let view = context.store.read()?;
        let sites: Vec<Site> = view.all::<table::Sites>(..)?.into_iter().map(|(_, site)| site).collect();
        let mut logs = BTreeMap::new();
        for site in sites.iter().filter(|site| site.status != SiteStatus::Removed) {
            logs.insert(site.id, SiteLog::open(&view, site.id, Arc::new(AtomicU64::new(COVERED)))?);
        }
        let covers = logs.iter().map(|(site, log)| (*site, log.covers())).collect();
        let floor = view.get::<table::Settings>(FLOOR)?.and_then(|floor| floor.parse().ok()).unwrap_or(0);
        let tails = persistence::tails(&view, &covers, floor)?;

        // No more at once than there are processors: each needs memory beside its shard.
        let turns = Arc::new(tokio::sync::Semaphore::new(context.compute.width));
        let folding: Vec<_> = tails
            .into_iter()
            .filter_map(|(site, tail)| Some((site, tail, logs.remove(&site)?)))
            .map(|(site, tail, mut log)| {
                let (context, roster) = (Arc::clone(context), Arc::clone(roster));
                let turns = Arc::clone(&turns);
                tokio::spawn(async move {
                    // The semaphore is never closed; without a turn the fold would only need more memory.
                    let _turn = turns.acquire_owned().await;
                    let view = context.store.read()?;
                    let shard =
                        context.compute.run(|| persistence::fold::<SiteFold>(&view, site, tail, &mut log))?;
                    shard.for_each_row(|row| {
                        // Two sites never hold one host on disk: claims were checked before each commit.
                        let _ = roster.directory.claim(row.host_id, site);
                    });
                    roster.directory.shard(site).replace(shard);
                    Ok::<_, hansa_storage::ReadError>((site, log))
                })
            })
            .collect();
        let mut folded = BTreeMap::new();
        for task in folding {
            let (site, log) = task.await??;
            folded.insert(site, log);
        }
        let mut loaded = Vec::with_capacity(sites.len());
        for site in sites {
            let sync = view.get::<table::SiteSyncs>(&site.id)?.unwrap_or_default();
            let log = match folded.remove(&site.id) {
                Some(log) => log,
                None => SiteLog::open(&view, site.id, Arc::new(AtomicU64::new(COVERED)))?,
            };
            loaded.push((site, sync, log));
        }
        Ok(loaded)
    }

    async fn start_parts(
        &self,
        state: &mut CoordinatorState,
        supervisor: &ActorCell,
    ) -> Result<(), ActorProcessingErr> {
        let Coordinator { context, roster, alerts, webhooks, .. } = &self.coordinator;
        let handle = roster.policies.clone();
        let (shared, board) = (Arc::clone(context), Arc::clone(roster));
        let make = move || (PoliciesActor { context: Arc::clone(&shared), roster: Arc::clone(&board) }, ());
        state.parts.start::<PoliciesActor, _>(supervisor.clone(), &handle, make).await?;

        let shared = Arc::clone(context);
        let make = move || (WebhooksActor { context: Arc::clone(&shared) }, ());
        state.parts.start::<WebhooksActor, _>(supervisor.clone(), webhooks, make).await?;

        let (shared, roster) = (Arc::clone(context), Arc::clone(roster));
        let (published, webhooks) = (alerts.clone(), webhooks.clone());
        let make = move || {
            let actor = AlertsActor {
                context: Arc::clone(&shared),
                roster: Arc::clone(&roster),
                alerts: published.clone(),
                webhooks: webhooks.clone(),
            };
            (actor, ())
        };
        state.parts.start::<AlertsActor, _>(supervisor.clone(), &alerts.actor, make).await?;

        let (context, roster) = (Arc::clone(context), Arc::clone(&self.coordinator.roster));
        let make = move || (LeasesActor { context: Arc::clone(&context), roster: Arc::clone(&roster) }, ());
        let leases = &self.coordinator.leases;
        Ok(state.parts.start::<LeasesActor, _>(supervisor.clone(), leases, make).await?)
    }

    async fn start(
        &self,
        state: &mut CoordinatorState,
        supervisor: ActorCell,
        site: Site,
        sync: SiteSync,
        log: Option<SiteLog>,
    ) -> Result<(), ActorProcessingErr> {
        let Coordinator { context, roster, .. } = &self.coordinator;
        let id = site.id;
        let member = Member::new(Arc::new(site), sync);
        roster.insert(member.clone());
        let uncovered_from = match &log {
            Some(log) => log.uncovered_from(),
            None => Arc::new(AtomicU64::new(COVERED)),
        };
        state.uncovered.push(Arc::clone(&uncovered_from));
        let loaded: Loaded = Arc::new(Mutex::new(log));
        let (context, roster, handle) = (Arc::clone(context), Arc::clone(roster), member.actor.clone());
        let leases = self.coordinator.leases.clone();
        let make = move || {
            let actor = SiteActor {
                context: Arc::clone(&context),
                roster: Arc::clone(&roster),
                leases: leases.clone(),
            };
            let arguments = SiteArguments {
                id,
                member: member.clone(),
                uncovered_from: Arc::clone(&uncovered_from),
                loaded: Arc::clone(&loaded),
            };
            (actor, arguments)
        };
        Ok(state.sites.start::<SiteActor, _>(supervisor, &handle, make).await?)
    }

    async fn create(
        &self,
        state: &mut CoordinatorState,
        supervisor: ActorCell,
        new: &NewSite,
        token_hash: TokenHash,
        operator: &Operator,
    ) -> Result<SiteView, RegistryError> {
        let Coordinator { context, roster, .. } = &self.coordinator;
        if roster.len() >= site_limits::SITES_MAX {
            return Err(RegistryError::TooMany { max: site_limits::SITES_MAX });
        }
        let now = context.now();
        let id = SiteId::generate(now, &*context.entropy);
        let decision = registry::create(id, now, new, token_hash).map_err(registry::Rejection::Invalid)?;
        let site = decision.site;
        if roster.name_taken(&site.name, None) {
            return Err(RegistryError::NameTaken);
        }
        if site.identity_key.is_some_and(|key| roster.key_taken(&key, None)) {
            return Err(RegistryError::IdentityTaken);
        }
        let mut batch = Batch::new();
        batch.put::<table::Sites>(&id, &site).put::<table::SiteSyncs>(&id, &SiteSync::default());
        persistence::index_site(&mut batch, None, &site);
        if let Some(entry) = decision.entry {
            batch.audit(context.audit(entry, Some(operator), &site));
        }
        match context.store_batch(Lane::Operator, batch).await {
            Ok(_) => {}
            Err(CommitError::PreconditionFailed { .. }) => return Err(RegistryError::NameTaken),
            Err(error) => return Err(Unavailable::from(error).into()),
        }
        self.start(state, supervisor, site, SiteSync::default(), None).await.map_err(|error| {
            debug!(%error, "a new site's actor did not start");
            Unavailable::Busy { part: "site" }
        })?;
        let member = roster.find(id).ok_or(Unavailable::Busy { part: "site" })?;
        Ok((*member.view()).clone())
    }

    /// Folds away log records that are old and covered, and notes from where a start must read.
    async fn retain(&self, state: &CoordinatorState) {
        let context = &self.coordinator.context;
        let Ok(view) = context.store.read() else { return };
        // The end first: what is appended after this line lies behind it and is read anyway.
        let Ok(end) = view.log_end::<table::IngestLog>() else { return };
        let uncovered = state.uncovered.iter().map(|from| from.load(Ordering::Acquire)).min();
        let floor = uncovered.unwrap_or(COVERED).min(end + 1);
        let keep_from = context.now().before(context.config.log_retention);
        let Ok(oldest) = view.log_start::<table::IngestLog>() else { return };
        let mut delete_to = oldest.unwrap_or(floor);
        let from = delete_to;
        let Ok(noted) = view.get::<table::Settings>(COMPLETE_FROM) else { return };
        let mut complete_from = noted.and_then(|text| text.parse::<i64>().ok()).unwrap_or(i64::MIN);
        let scanned = view.for_each_from::<table::IngestLog>(from, |position, body| {
            let at = persistence::record_time(body).filter(|at| *at < keep_from);
            if let Some(at) = at
                && position < floor
            {
                delete_to = position + 1;
                complete_from = complete_from.max(at.as_micros());
                std::ops::ControlFlow::Continue(())
            } else {
                std::ops::ControlFlow::Break(())
            }
        });
        drop(view);
        if scanned.is_err() {
            return;
        }
        let mut batch = Batch::new();
        batch.put::<table::Settings>(FLOOR, &floor.to_string());
        if delete_to > from {
            batch.delete_log::<table::IngestLog>(from..delete_to);
            batch.put::<table::Settings>(COMPLETE_FROM, &complete_from.to_string());
        }
        if let Err(error) = context.store_batch(Lane::Control, batch).await {
            debug!(%error, "log not folded away; the next pass tries again");
        }
    }
}

/// Takes the common load's result, once.
pub(crate) fn take_loaded(loaded: &Loaded) -> Option<SiteLog> {
    loaded.lock().unwrap_or_else(PoisonError::into_inner).take()
}
