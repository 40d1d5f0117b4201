//! The facade: all that HTTP and the command line see of a node. Cheap to clone.
//!
//! Mutations go to the actor that owns the state and return once the effect and its audit entry are on
//! disk. Reads never queue behind a mailbox: they take what actors have published, the directory's shared
//! shards, or a snapshot of the store.

mod alerts;
mod app_roles;
mod audit;
mod backends;
mod commands;
mod findings;
mod leases;
mod operators;
mod past;
mod policies;
mod queue;
mod received;
mod rollups;
mod root_key;
mod secret_logs;
mod secrets;

pub use app_roles::{SecretIdView, VaultLogin, VaultLoginError, VaultTokenError, VaultTokenView};
pub(crate) use app_roles::{TOKEN_PREFIX, forget_ended};
pub use backends::{BackendStatusView, ConflictView, SyncStarted};
pub use secret_logs::SecretLogFilter;
pub use secrets::{
    Caller, Listed, NewValue, SecretCursor, SecretPage, SecretSummary, SecretView, SourceView, VersionAsked,
};

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hansa_model::directory::{Page, Query};
use hansa_model::enrollment::{JoinCode, Role};
use hansa_model::host::HostEntry;
use hansa_model::machine::bucket::{Buckets, Category, Room};
use hansa_model::machine::link::ConnectionState;
use hansa_model::machine::registry::{NewSite, SitePatch};
use hansa_model::scope::Operator;
use hansa_model::secret::{generate_token, token_hash};
use hansa_model::site::{HostRollup, InvalidSite, SiteStatus};
use hansa_model::sync::{HostRollupReport, SiteMetadata};
use hansa_model::{HostId, Secret, SiteId};
use hansa_storage::{Order, table};
use hansa_transport::PublicKey;
use ractor::ActorRef;
use ractor::rpc::CallResult;
use tokio::sync::Semaphore;

use crate::enroll::EnrollRequest;
use crate::error::{
    CompleteError, EnrollError, HostNotFound, IngestError, InventoryError, OperatorAuthenticationError,
    ReadError, RegistryError, SiteAuthenticationError, SiteNotFound, TrustError, Unavailable, WrongRole,
};
use crate::findings::FindingsMessage;
use crate::inventory::{InventoryChange, InventoryMessage};
use crate::keyring;
use crate::node::{NodeMessage, Tree};
use crate::operators::{self as issuers, Operators};
use crate::roster::Member;
use crate::site::{SiteChange, SiteMessage};
use crate::sync_queue::SyncQueueMessage;
use crate::view::{
    BackupView, DirectoryAnswer, DirectoryView, EnrollmentAnswer, HostView, IdentityView, InventoryAnswer,
    MembershipView, QueueView, Readiness, SiteFilter, SiteInvitation, SiteView, SyncStatusView, TimelineView,
    TlsCertificateView, TokenRequest, TrustedPeer,
};

/// What a site's request over HTTP shows of itself.
#[derive(Debug, Clone, Copy)]
pub struct SignedRequest<'a> {
    /// Such as `POST`.
    pub method: &'a str,
    /// The path alone.
    pub path: &'a str,
    /// The exact bytes of the body.
    pub body: &'a [u8],
    /// `X-Federation-Signature`, if it was sent.
    pub signature: Option<&'a str>,
    /// `X-Federation-Stamp`, if it was sent.
    pub stamp: Option<&'a str>,
}

/// The way in to one node.
#[derive(Debug, Clone)]
pub struct Federation {
    tree: Tree,
    operators: Arc<Operators>,
    root: ActorRef<NodeMessage>,
    past_reads: Arc<Semaphore>,
    /// How often callers of the secrets API may still call.
    buckets: Arc<Mutex<Buckets<String>>>,
}

// Operators and operations.
impl Federation {
    pub(crate) fn new(tree: Tree, operators: Arc<Operators>, root: ActorRef<NodeMessage>) -> Self {
        let past_reads = Arc::new(Semaphore::new(hansa_model::limits::past::READS_MAX));
        let buckets = Arc::new(Mutex::new(Buckets::new(tree.context.config.secret_rates.clone())));
        Self { tree, operators, root, past_reads, buckets }
    }

    /// Version of this software.
    pub const fn version() -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    /// Whoever may open the 0600 socket in the data folder.
    pub fn local_operator() -> Operator {
        issuers::local_operator()
    }

    /// Checks what an operator presents: a token or an API key.
    ///
    /// # Errors
    /// See [`OperatorAuthenticationError`].
    pub async fn authenticate(&self, bearer: &str) -> Result<Arc<Operator>, OperatorAuthenticationError> {
        if bearer.starts_with(TOKEN_PREFIX) {
            return app_roles::authenticate(&self.tree.context, bearer);
        }
        self.operators.authenticate(&self.tree.context, bearer).await
    }

    /// Takes down a call of the secrets API, or says how long its caller has to wait; and what is left for further
    /// ones, if they are limited. Counted by tenant and identity, in memory.
    pub fn admit(&self, operator: &Operator, category: Category) -> (Result<(), Duration>, Option<Room>) {
        // Two tenants may each have an AppRole of one name.
        let tenant = operator.tenancy.tenant.as_ref().map_or("", |tenant| tenant.as_str());
        let identity = format!("{tenant} {}", operator.userid);
        let now = self.tree.context.now();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        (buckets.admit(now, &identity, category), buckets.room(now, &identity, category))
    }

    /// Makes an operator's token. It is not stored: it ends by its own time.
    ///
    /// # Errors
    /// The token could not be signed.
    pub fn mint(&self, request: &TokenRequest) -> Result<Secret<String>, Unavailable> {
        self.operators
            .mint(self.tree.context.now(), request)
            .ok_or(Unavailable::Busy { part: "the token issuer" })
    }

    /// Whether this node can serve, part by part. Never depends on a site's uplink.
    pub fn readiness(&self) -> Readiness {
        let storage = self.tree.context.store.read().is_ok();
        let role = match self.role() {
            Role::Coordinator => self.tree.coordinator.is_active(),
            Role::None | Role::Site => true,
        };
        let checks = vec![("storage", storage), ("role", role)];
        Readiness { ready: checks.iter().all(|(_, good)| *good), checks }
    }

    /// All metrics in the OpenMetrics text format.
    pub fn metrics_text(&self) -> String {
        let metrics = &self.tree.context.metrics;
        let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        metrics.hosts.set(count(self.tree.coordinator.roster.directory.view(|_| true).hosts));
        let linked = self.tree.coordinator.roster.views().iter().filter(|view| view.linked).count();
        metrics.sites_linked.set(count(linked as u64));
        metrics.sync_queue_depth.set(count(self.tree.site.queue_view.load().depth));
        metrics.text()
    }

    /// Writes a consistent copy of the running node's store into a folder on the node's machine.
    ///
    /// # Errors
    /// The disk did not take it.
    pub async fn backup(&self, folder: &Path) -> Result<BackupView, Unavailable> {
        let now = self.tree.context.now();
        // To the microsecond: two in one second are two backups.
        let path: PathBuf = folder.join(format!("hansa-{}.redb", now.as_micros()));
        self.tree.context.store.backup(&path).await.map_err(|error| {
            tracing::warn!(%error, "backup failed");
            Unavailable::Storage
        })?;
        let bytes = std::fs::metadata(&path).map_or(0, |file| file.len());
        Ok(BackupView { path, bytes })
    }
}

// Identity and role; in every role.
impl Federation {
    /// The node's public identity key.
    pub fn identity(&self) -> IdentityView {
        self.tree.context.keyring.view()
    }

    /// The node's contract certificate, with its proof.
    pub fn tls_certificate(&self) -> TlsCertificateView {
        let keyring = &self.tree.context.keyring;
        let identity_role = match self.role() {
            Role::Site => Role::Site,
            Role::None | Role::Coordinator => Role::Coordinator,
        };
        TlsCertificateView {
            cert_pem: keyring.tls.certificate_pem().to_owned(),
            identity_proof: keyring.proof(identity_role),
            identity_fingerprint: keyring.identity.public().fingerprint(),
            identity_role,
            quic: self.tree.context.quic_address(),
        }
    }

    /// The keys that people trust, in the order of their names.
    ///
    /// # Errors
    /// The store did not answer.
    pub fn trusted_peers(&self) -> Result<Vec<TrustedPeer>, Unavailable> {
        keyring::trusted_peers(&self.tree.context)
    }

    /// Stores a key under the slug of its name, in place of the one that is there. Durable on return.
    ///
    /// # Errors
    /// See [`TrustError`].
    pub async fn trust_peer(
        &self,
        operator: &Operator,
        name: &str,
        public_key_pem: &str,
    ) -> Result<TrustedPeer, TrustError> {
        keyring::trust(&self.tree.context, operator, name, public_key_pem).await
    }

    /// Removes a key. Durable on return.
    ///
    /// # Errors
    /// See [`TrustError`].
    pub async fn distrust_peer(&self, operator: &Operator, name: &str) -> Result<(), TrustError> {
        keyring::distrust(&self.tree.context, operator, name).await
    }

    /// The node's role.
    pub fn role(&self) -> Role {
        **self.tree.role.load()
    }

    /// Takes another role, without a restart. Durable on return, and its actors run.
    ///
    /// # Errors
    /// See [`Unavailable`]; the role is as it was.
    pub async fn set_role(&self, role: Role, operator: &Operator) -> Result<Role, Unavailable> {
        let message = |reply| NodeMessage::SetRole { role, operator: operator.clone(), reply };
        match self.root.call(message, Some(hansa_model::limits::actor::CALL_WAIT_MAX)).await {
            Ok(CallResult::Success(answer)) => answer,
            Ok(CallResult::Timeout | CallResult::SenderError) | Err(_) => {
                Err(Unavailable::Busy { part: "node" })
            }
        }
    }

    fn require(&self, needed: Role) -> Result<(), WrongRole> {
        let role = self.role();
        if role == needed { Ok(()) } else { Err(WrongRole { role, needed }) }
    }
}

// Coordinator: the registry of sites.
impl Federation {
    /// Reads an identity key as operators paste it.
    ///
    /// # Errors
    /// It is not an Ed25519 public key in PEM.
    pub fn parse_identity_key(pem: &str) -> Result<[u8; 32], InvalidSite> {
        PublicKey::from_pem(pem).map(|key| *key.as_bytes()).map_err(|_| InvalidSite::IdentityKey)
    }

    /// The sites that the operator may see, in the order of names.
    pub fn sites(&self, operator: &Operator, filter: &SiteFilter) -> Vec<SiteView> {
        let shown = |view: &SiteView| match filter.status {
            Some(status) => view.site.status == status,
            None => filter.include_removed || view.site.status != SiteStatus::Removed,
        };
        self.tree
            .coordinator
            .roster
            .views()
            .into_iter()
            .filter(|view| operator.sees(view.site.id) && shown(view))
            .take(filter.limit.unwrap_or(usize::MAX))
            .map(|view| (*view).clone())
            .collect()
    }

    /// One site; removed ones too.
    ///
    /// # Errors
    /// There is none, or the operator may not see it.
    pub fn site(&self, operator: &Operator, id: SiteId) -> Result<SiteView, SiteNotFound> {
        Ok((*self.member(operator, id)?.view()).clone())
    }

    /// Creates a pending site. Durable on return; the token is in the answer and nowhere else.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn create_site(
        &self,
        operator: &Operator,
        new: NewSite,
    ) -> Result<SiteInvitation, RegistryError> {
        self.require(Role::Coordinator)?;
        if operator.sites.is_some() {
            // Who may see some sites only would not see the one they make.
            return Err(RegistryError::Confined);
        }
        let (view, token) = self.tree.coordinator.create(operator, new).await?;
        Ok(self.invitation(view, token))
    }

    /// Changes a site's row. Durable on return.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn patch_site(
        &self,
        operator: &Operator,
        id: SiteId,
        patch: SitePatch,
    ) -> Result<SiteView, RegistryError> {
        self.change(operator, id, SiteChange::Patch(Box::new(patch))).await
    }

    /// Puts an enrolled site on hold. Durable on return; its link is closed with the notice.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn suspend_site(&self, operator: &Operator, id: SiteId) -> Result<SiteView, RegistryError> {
        self.change(operator, id, SiteChange::Suspend).await
    }

    /// Takes a suspended site back. Durable on return.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn resume_site(&self, operator: &Operator, id: SiteId) -> Result<SiteView, RegistryError> {
        self.change(operator, id, SiteChange::Resume).await
    }

    /// Removes a site for good, or cancels its enrollment. Durable on return; its link is closed.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn remove_site(&self, operator: &Operator, id: SiteId) -> Result<SiteView, RegistryError> {
        self.change(operator, id, SiteChange::Remove).await
    }

    /// Puts out a new token for a pending site; the old one is void. Durable on return.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn regenerate_token(
        &self,
        operator: &Operator,
        id: SiteId,
        ttl_hours: Option<u32>,
    ) -> Result<SiteInvitation, RegistryError> {
        let token = generate_token(&*self.tree.context.entropy);
        let change = SiteChange::RegenerateToken { ttl_hours, token_hash: token_hash(token.expose()) };
        let view = self.change(operator, id, change).await?;
        Ok(self.invitation(view, token))
    }

    /// Replaces the key that a pending site must prove. Durable on return.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn replace_identity_key(
        &self,
        operator: &Operator,
        id: SiteId,
        key_pem: &str,
    ) -> Result<SiteView, RegistryError> {
        let key =
            Self::parse_identity_key(key_pem).map_err(hansa_model::machine::registry::Rejection::Invalid)?;
        self.change(operator, id, SiteChange::ReplaceIdentityKey(key)).await
    }

    /// Completes an enrollment that came over the documented route. Durable on return.
    ///
    /// # Errors
    /// See [`CompleteError`]; the token stays usable.
    pub async fn complete_enrollment(
        &self,
        token: &str,
        tls_cert_pem: &str,
        identity_proof: &str,
    ) -> Result<EnrollmentAnswer, CompleteError> {
        self.require(Role::Coordinator)?;
        self.tree.coordinator.complete(token, tls_cert_pem, identity_proof, None).await
    }

    /// A site's newest `limit` sync events, oldest first.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn timeline(&self, operator: &Operator, id: SiteId, limit: usize) -> Result<TimelineView, ReadError> {
        let view = (*self.member(operator, id)?.view()).clone();
        let snapshot = self.tree.context.store.read().map_err(|_| Unavailable::Storage)?;
        let newest = snapshot
            .page::<table::SyncEvents>((id, 0)..=(id, u64::MAX), Order::Descending, limit)
            .map_err(|_| Unavailable::Storage)?;
        let events = newest.into_iter().rev().map(|(_, event)| event).collect();
        Ok(TimelineView { view, events })
    }

    fn member(&self, operator: &Operator, id: SiteId) -> Result<Member, SiteNotFound> {
        self.tree.coordinator.roster.find(id).filter(|_| operator.sees(id)).ok_or(SiteNotFound(id))
    }

    async fn change(
        &self,
        operator: &Operator,
        id: SiteId,
        change: SiteChange,
    ) -> Result<SiteView, RegistryError> {
        self.require(Role::Coordinator)?;
        let member = self.member(operator, id)?;
        let operator = Box::new(operator.clone());
        member.actor.call(|reply| SiteMessage::Change { change, operator, reply }).await?
    }

    fn invitation(&self, view: SiteView, token: Secret<String>) -> SiteInvitation {
        let context = &self.tree.context;
        let join_code = context.config.public_url.clone().map(|coordinator_url| {
            let code = JoinCode {
                coordinator_url,
                enrollment_token: token.expose().clone(),
                coordinator_identity_key: *context.keyring.identity.public().as_bytes(),
                quic_address: context.config.quic_advertise.clone(),
            };
            Secret::new(code.encode())
        });
        let expires_at = view.site.enrollment.map_or(view.site.created_at, |pending| pending.expires_at);
        SiteInvitation { view, enrollment_token: token, expires_at, join_code }
    }
}

// Coordinator: the directory.
impl Federation {
    /// Searches the hosts of the sites that the operator may see; `sites` narrows them further.
    pub fn search_hosts(&self, operator: &Operator, sites: Option<&[SiteId]>, query: &Query) -> Page {
        self.tree.context.metrics.searches.inc();
        let visible = |site| operator.sees(site) && sites.is_none_or(|wanted| wanted.contains(&site));
        self.tree.context.compute.run(|| self.tree.coordinator.roster.directory.search(visible, query))
    }

    /// One host, with its site.
    ///
    /// # Errors
    /// There is none, or the operator may not see its site.
    pub fn host(&self, operator: &Operator, id: HostId) -> Result<HostView, HostNotFound> {
        let roster = &self.tree.coordinator.roster;
        let (site_id, host) =
            roster.directory.host(id, |site| operator.sees(site)).ok_or(HostNotFound(id))?;
        let site = roster.find(site_id).map(|member| Arc::clone(&member.view().site));
        Ok(HostView { host, site_id, site })
    }

    /// Counts of the directory, from counters kept with each change.
    pub fn directory(&self, operator: &Operator) -> DirectoryView {
        self.tree.coordinator.roster.directory.view(|site| operator.sees(site))
    }
}

// Coordinator: sites that speak HTTP.
impl Federation {
    /// Finds the enrolled site that a bearer belongs to.
    ///
    /// # Errors
    /// See [`SiteAuthenticationError`].
    pub fn authenticate_site(&self, bearer: Option<&str>) -> Result<SiteId, SiteAuthenticationError> {
        let bearer = bearer.ok_or(SiteAuthenticationError::Unknown)?;
        let unknown = |_| SiteAuthenticationError::Unknown;
        let view = self.tree.context.store.read().map_err(unknown)?;
        let site = view.get::<table::SyncBearers>(&token_hash(bearer)).map_err(unknown)?;
        let member = site.and_then(|site| self.tree.coordinator.roster.find(site));
        let member = member.ok_or(SiteAuthenticationError::Unknown)?;
        match member.view().site.status {
            SiteStatus::Enrolled => Ok(member.view().site.id),
            SiteStatus::Suspended => Err(SiteAuthenticationError::Suspended),
            SiteStatus::Pending | SiteStatus::Removed => Err(SiteAuthenticationError::Unknown),
        }
    }

    /// Records that a site named another one in its path. The request is refused whether or not this succeeds.
    pub async fn record_site_mismatch(&self, site: SiteId, named: SiteId) {
        let details =
            [("site_id", site.to_string().as_str().into()), ("named", named.to_string().as_str().into())];
        let mut batch = hansa_storage::Batch::new();
        batch.audit(self.tree.context.audit_node("site_mismatch_refused", None, details));
        if let Err(error) = self.tree.context.commit(hansa_storage::Lane::Operator, batch).await {
            tracing::debug!(%error, "a refused request left no audit entry");
        }
    }

    /// Checks signature and stamp of a site's request where signatures are enforced (contract 1.6, 13.17).
    /// A site that has never sent a stamp needs none.
    ///
    /// # Errors
    /// [`SiteAuthenticationError::Signature`].
    pub fn verify_signature(
        &self,
        site: SiteId,
        request: &SignedRequest<'_>,
    ) -> Result<(), SiteAuthenticationError> {
        let certificate = self
            .tree
            .coordinator
            .roster
            .find(site)
            .and_then(|member| member.view().site.tls_cert_pem.clone());
        let good = self.is_signed(certificate, site, request);
        if good { Ok(()) } else { Err(SiteAuthenticationError::Signature) }
    }

    /// Takes a documented directory snapshot. Durable and searchable on return. An `Err` entry is one that
    /// did not parse.
    ///
    /// # Errors
    /// See [`IngestError`].
    pub async fn ingest_directory(
        &self,
        site: SiteId,
        entries: Vec<Result<HostEntry, String>>,
    ) -> Result<DirectoryAnswer, IngestError> {
        let member = self.ingesting(site)?;
        member.actor.call(|reply| SiteMessage::Directory { entries, reply }).await?
    }

    /// Takes a documented host rollup. Durable on return.
    ///
    /// # Errors
    /// See [`IngestError`].
    pub async fn ingest_host_rollup(
        &self,
        site: SiteId,
        report: HostRollupReport,
    ) -> Result<HostRollup, IngestError> {
        let member = self.ingesting(site)?;
        member.actor.call(|reply| SiteMessage::HostRollup { report, reply }).await?
    }

    /// Takes documented metadata. Durable on return.
    ///
    /// # Errors
    /// See [`IngestError`].
    pub async fn ingest_metadata(
        &self,
        site: SiteId,
        metadata: SiteMetadata,
    ) -> Result<SiteView, IngestError> {
        let member = self.ingesting(site)?;
        let metadata = Box::new(metadata);
        member.actor.call(|reply| SiteMessage::Metadata { metadata, reply }).await?
    }

    fn ingesting(&self, site: SiteId) -> Result<Member, IngestError> {
        self.tree.coordinator.roster.find(site).ok_or_else(|| SiteNotFound(site).into())
    }
}

// The site's own surface.
impl Federation {
    /// Enrolls this site with a coordinator. Durable on return; the uplink then dials by itself.
    ///
    /// # Errors
    /// See [`EnrollError`].
    pub async fn enroll(
        &self,
        operator: &Operator,
        request: EnrollRequest,
    ) -> Result<MembershipView, EnrollError> {
        self.require(Role::Site)?;
        self.tree.enroll(operator, request).await?;
        Ok(self.membership())
    }

    /// The site's view of its membership.
    pub fn membership(&self) -> MembershipView {
        let membership = &self.tree.site.membership;
        MembershipView {
            enrollment: membership.enrollment().map(|enrollment| (*enrollment).clone()),
            connection: (*membership.connection()).clone(),
        }
    }

    /// The site's view of its sync.
    pub fn sync_status(&self) -> SyncStatusView {
        let membership = &self.tree.site.membership;
        let connection = (*membership.connection()).clone();
        let enrolled = membership.enrolled().is_some();
        let autonomous = enrolled && connection.state == ConnectionState::Offline;
        SyncStatusView { connection, enrolled, autonomous, queue: self.queue() }
    }

    /// What the site still has to send. Exact.
    pub fn queue(&self) -> QueueView {
        (**self.tree.site.queue_view.load()).clone()
    }

    /// Sends the whole directory again, leaf by leaf; answers with what waits then.
    ///
    /// # Errors
    /// See [`InventoryError`].
    pub async fn resync(&self) -> Result<QueueView, InventoryError> {
        self.require(Role::Site)?;
        self.tree.site.findings.cast(FindingsMessage::TellAgain);
        Ok(self.tree.site.queue.call(|reply| SyncQueueMessage::Resync { reply }).await?)
    }

    /// Takes a full snapshot of the site's hosts. Durable on return. An `Err` entry is one that did not parse.
    ///
    /// # Errors
    /// See [`InventoryError`]; nothing was applied.
    pub async fn put_inventory(
        &self,
        entries: Vec<Result<HostEntry, String>>,
        confirm_removals: bool,
    ) -> Result<InventoryAnswer, InventoryError> {
        self.require(Role::Site)?;
        let message = |reply| InventoryMessage::Put { entries, confirm_removals, reply };
        self.tree.site.inventory.call(message).await?
    }

    /// Takes a delta of the site's hosts. Durable on return.
    ///
    /// # Errors
    /// See [`InventoryError`]; nothing was applied.
    pub async fn patch_inventory(
        &self,
        changes: Vec<Result<InventoryChange, String>>,
    ) -> Result<InventoryAnswer, InventoryError> {
        self.require(Role::Site)?;
        self.tree.site.inventory.call(|reply| InventoryMessage::Patch { changes, reply }).await?
    }

    /// Searches the site's own hosts.
    pub fn inventory(&self, query: &Query) -> Page {
        let shard = self.tree.site.shard.read();
        hansa_model::directory::search(&[&*shard], query)
    }
}

#[cfg(feature = "testing")]
mod danger {
    use hansa_model::secrets::id::BackendId;

    use super::*;
    use crate::alerts::AlertsMessage;
    use crate::backends::BackendMessage;
    use crate::coordinator::CoordinatorMessage;
    use crate::endpoint::EndpointMessage;
    use crate::executor::ExecutorMessage;
    use crate::inbox::InboxMessage;
    use crate::policies::PoliciesMessage;
    use crate::uplink::UplinkMessage;
    use crate::webhooks::WebhooksMessage;

    /// A part that can be made to fail.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Part {
        /// The coordinator's role, with all its sites.
        Coordinator,
        /// One site's actor at the coordinator.
        Site(SiteId),
        /// The policies and rollouts.
        Policies,
        /// The site's queue.
        SyncQueue,
        /// The site's inventory.
        Inventory,
        /// The site's inbox.
        Inbox,
        /// The site's executor.
        Executor,
        /// The site's results and findings.
        Findings,
        /// The site's uplink.
        Uplink,
        /// The accept loop.
        Endpoint,
        /// The coordinator's alerts.
        Alerts,
        /// The coordinator's webhooks.
        Webhooks,
        /// One secret backend.
        Backend(BackendId),
    }

    impl Federation {
        /// Makes a part panic, to show that only its own subtree restarts.
        pub fn danger_panic(&self, part: Part) {
            let Tree { coordinator, site, backends, .. } = &self.tree;
            match part {
                Part::Coordinator => coordinator.actor.cast(CoordinatorMessage::DangerPanic),
                Part::Site(id) => {
                    if let Some(member) = coordinator.roster.find(id) {
                        member.actor.cast(SiteMessage::DangerPanic);
                    }
                }
                Part::Policies => coordinator.roster.policies.cast(PoliciesMessage::DangerPanic),
                Part::SyncQueue => site.queue.cast(SyncQueueMessage::DangerPanic),
                Part::Inventory => site.inventory.cast(InventoryMessage::DangerPanic),
                Part::Findings => site.findings.cast(FindingsMessage::DangerPanic),
                Part::Inbox => site.inbox.cast(InboxMessage::DangerPanic),
                Part::Executor => site.executor.cast(ExecutorMessage::DangerPanic),
                Part::Endpoint => self.tree.endpoint_actor.cast(EndpointMessage::DangerPanic),
                Part::Alerts => coordinator.alerts.actor.cast(AlertsMessage::DangerPanic),
                Part::Webhooks => coordinator.webhooks.cast(WebhooksMessage::DangerPanic),
                Part::Backend(id) => {
                    if let Some(member) = backends.board().members.get(&id) {
                        member.actor.cast(BackendMessage::DangerPanic);
                    }
                }
                Part::Uplink => site.uplink.cast(UplinkMessage::DangerPanic),
            }
        }
    }
}

#[cfg(feature = "testing")]
pub use danger::Part;
