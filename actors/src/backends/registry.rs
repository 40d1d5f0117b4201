//! The registry of backends, tenants and path policies: every change of their configuration.
//!
//! Changes are rare and small, so they go one by one through this actor: each is judged against what is
//! there, stored with its audit entry, and only then published. Nothing here talks to a backend; copies that a
//! change leaves behind go in a task (`sweep`). Tenants and policies are in `tenants`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hansa_model::audit::{AuditDraft, Detail};
use hansa_model::limits::secrets as limits;
use hansa_model::scope::Operator;
use hansa_model::secrets::backend::{BackendConfig, BackendKind};
use hansa_model::secrets::duration;
use hansa_model::secrets::id::{BackendId, PathPolicyId, TenantId};
use hansa_model::secrets::mapping::{self, Mapping};
use hansa_model::secrets::path::SecretPath;
use hansa_model::secrets::policy::{PathPolicy, PathRule};
use hansa_model::secrets::routes::{MappingConflict, Routes};
use hansa_model::secrets::row::{Backend, Leaving, Mode};
use hansa_model::secrets::tenant::Tenant;
use hansa_storage::codec::Named;
use hansa_storage::{Batch, Lane, table};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use tokio::time::Instant;

use super::conflicts::every_conflict;
use super::error::{BackendError, TenantError};
use super::fetch::Slot;
use super::member::{BackendActor, BackendMessage, ConnectionView};
use super::rows::page_below;
use super::{Backends, Board, Member, Published, TenantBoard, sweep};
use crate::context::Context;
use crate::supervision::{Children, Handle, Tied};

/// A backend to make (contract B.1).
#[derive(Debug, Clone)]
pub struct NewBackend {
    /// Unique in the tenant.
    pub name: String,
    /// What it speaks to.
    pub kind: BackendKind,
    /// Its `config`, a JSON object as text.
    pub config: String,
    /// From path patterns to templates of names.
    pub path_mapping: BTreeMap<String, String>,
    /// See [`Mode`].
    pub mode: Mode,
    /// Between two syncs, such as `15m`; needed in sync mode, refused in proxy mode.
    pub sync_interval: Option<String>,
    /// Whether writes go through to the backend.
    pub write_through: bool,
    /// Whether it is asked at all.
    pub enabled: bool,
}

/// Changes of a backend: absent keeps.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs, reason = "as in [`NewBackend`]")]
pub struct BackendPatch {
    pub name: Option<String>,
    pub config: Option<String>,
    pub path_mapping: Option<BTreeMap<String, String>>,
    pub mode: Option<Mode>,
    pub sync_interval: Option<String>,
    pub write_through: Option<bool>,
    pub enabled: Option<bool>,
}

/// A policy to make or to put in another one's place.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "as in [`PathPolicy`]")]
pub struct PolicyDraft {
    pub name: String,
    pub description: String,
    pub rules: Vec<PathRule>,
    pub identities: BTreeSet<String>,
}

/// Everything the registry can be asked. Each answers once the change is on disk and published.
#[derive(Debug)]
pub(crate) enum BackendsMessage {
    Create {
        tenant: TenantId,
        new: Box<NewBackend>,
        operator: Operator,
        reply: RpcReplyPort<Result<(Member, Vec<String>), BackendError>>,
    },
    Patch {
        tenant: TenantId,
        id: BackendId,
        patch: Box<BackendPatch>,
        operator: Operator,
        reply: RpcReplyPort<Result<Member, BackendError>>,
    },
    /// Copies that nobody has changed go with it, unless they are to stay as ordinary secrets.
    Remove {
        tenant: TenantId,
        id: BackendId,
        keep_synced: bool,
        operator: Operator,
        reply: RpcReplyPort<Result<(), BackendError>>,
    },
    AddTenant {
        tenant: Tenant,
        operator: Operator,
        reply: RpcReplyPort<Result<Tenant, TenantError>>,
    },
    RemoveTenant {
        tenant: TenantId,
        operator: Operator,
        reply: RpcReplyPort<Result<(), TenantError>>,
    },
    /// Without an id a new one is made.
    PutPolicy {
        tenant: TenantId,
        id: Option<PathPolicyId>,
        draft: Box<PolicyDraft>,
        operator: Operator,
        reply: RpcReplyPort<Result<PathPolicy, TenantError>>,
    },
    RemovePolicy {
        tenant: TenantId,
        id: PathPolicyId,
        operator: Operator,
        reply: RpcReplyPort<Result<(), TenantError>>,
    },
    /// Start those again that were set aside, and sweep. No answer.
    Housekeeping,
    /// A sweep has ended; nothing is left of these backends. No answer.
    Swept {
        left: Vec<BackendId>,
    },
}

pub(crate) struct BackendsActor {
    pub(crate) backends: Backends,
}

pub(crate) struct BackendsState {
    children: Children,
    /// The sweep that is under way.
    sweeping: Option<Tied>,
    /// When the next one is due.
    sweep_at: Instant,
    _ticker: Tied,
}

/// Between two looks at what has ended.
const SWEEP_INTERVAL: Duration = Duration::from_secs(600);
/// Between two looks at children that were set aside.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(5);

impl Actor for BackendsActor {
    type Msg = BackendsMessage;
    type State = BackendsState;
    type Arguments = ();

    async fn pre_start(
        &self,
        myself: ActorRef<BackendsMessage>,
        (): (),
    ) -> Result<BackendsState, ActorProcessingErr> {
        let supervisor = myself.get_cell();
        let ticker = Tied::spawn(async move {
            loop {
                tokio::time::sleep(HOUSEKEEPING_INTERVAL).await;
                if myself.cast(BackendsMessage::Housekeeping).is_err() {
                    return;
                }
            }
        });
        let mut state = BackendsState {
            children: Children::default(),
            sweeping: None,
            sweep_at: Instant::now(),
            _ticker: ticker,
        };
        let board = self.load()?;
        let members: Vec<Member> = board.members.values().cloned().collect();
        self.backends.board.store(Arc::new(board));
        for member in members {
            self.start(&mut state.children, supervisor.clone(), &member).await?;
        }
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<BackendsMessage>,
        message: BackendsMessage,
        state: &mut BackendsState,
    ) -> Result<(), ActorProcessingErr> {
        // A caller that gave up has nothing to be told, here and below.
        match message {
            BackendsMessage::Create { tenant, new, operator, reply } => {
                let created = self.create(&tenant, &new, &operator).await;
                if let Ok((member, _)) = &created {
                    self.start(&mut state.children, myself.get_cell(), member).await?;
                }
                let _ = reply.send(created);
            }
            BackendsMessage::Patch { tenant, id, patch, operator, reply } => {
                let _ = reply.send(self.patch(&tenant, id, &patch, &operator).await);
                state.sweep_at = Instant::now();
                self.sweep(&myself, state);
            }
            BackendsMessage::Remove { tenant, id, keep_synced, operator, reply } => {
                let leaving = if keep_synced { Leaving::Keep } else { Leaving::Forget };
                let _ = reply.send(self.remove(&tenant, id, leaving, &operator).await);
                state.sweep_at = Instant::now();
                self.sweep(&myself, state);
            }
            BackendsMessage::AddTenant { tenant, operator, reply } => {
                let _ = reply.send(self.add_tenant(tenant, &operator).await);
            }
            BackendsMessage::RemoveTenant { tenant, operator, reply } => {
                let _ = reply.send(self.remove_tenant(&tenant, &operator).await);
            }
            BackendsMessage::PutPolicy { tenant, id, draft, operator, reply } => {
                let _ = reply.send(self.put_policy(&tenant, id, *draft, &operator).await);
            }
            BackendsMessage::RemovePolicy { tenant, id, operator, reply } => {
                let _ = reply.send(self.remove_policy(&tenant, id, &operator).await);
            }
            BackendsMessage::Housekeeping => {
                state.children.revive(&myself.get_cell()).await;
                self.sweep(&myself, state);
            }
            BackendsMessage::Swept { left } => {
                state.sweeping = None;
                self.part_from(&left).await;
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<BackendsMessage>,
        event: SupervisionEvent,
        state: &mut BackendsState,
    ) -> Result<(), ActorProcessingErr> {
        state.children.on_event_of_many(event, myself.get_cell()).await;
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<BackendsMessage>,
        state: &mut BackendsState,
    ) -> Result<(), ActorProcessingErr> {
        state.children.stop_all().await;
        Ok(())
    }
}

impl BackendsActor {
    pub(super) fn context(&self) -> &Arc<Context> {
        &self.backends.context
    }

    /// Starts a sweep when one is due and none runs. What changes while one runs is the next one's.
    fn sweep(&self, myself: &ActorRef<BackendsMessage>, state: &mut BackendsState) {
        if state.sweeping.is_some() || Instant::now() < state.sweep_at {
            return;
        }
        state.sweep_at = Instant::now() + SWEEP_INTERVAL;
        let (backends, myself) = (self.backends.clone(), myself.clone());
        state.sweeping = Some(Tied::spawn(async move {
            let left = sweep::sweep(&backends).await.unwrap_or_else(|error| {
                tracing::debug!(%error, "what has ended could not be forgotten: tried again later");
                Vec::new()
            });
            let _ = myself.cast(BackendsMessage::Swept { left });
        }));
    }

    /// Forgets removed backends that have no copies left.
    async fn part_from(&self, left: &[BackendId]) {
        let mut batch = Batch::new();
        for id in left {
            batch.delete::<table::SecretBackends>(id);
        }
        if batch.is_empty() {
            return;
        }
        match self.context().commit(Lane::Operator, batch).await {
            Ok(_) => self.publish(|board| board.leaving.retain(|id, _| !left.contains(id))),
            Err(error) => {
                tracing::debug!(%error, "a removed backend could not be forgotten: tried again later")
            }
        }
    }

    /// Reads everything from the store.
    fn load(&self) -> Result<Board, ActorProcessingErr> {
        let view = self.context().store.read()?;
        let mut members = BTreeMap::new();
        let mut leaving = BTreeMap::new();
        for (id, row) in view.all::<table::SecretBackends>(..)? {
            if let Some(fate) = row.leaving {
                leaving.insert(id, (row.tenant, fate));
                continue;
            }
            let mappings = compile(&row).map_err(|error| format!("backend {id}: {error}"))?;
            let config = BackendConfig::parse(row.kind, &row.config)?;
            members.insert(id, member(row, config, mappings));
        }
        let mut tenants = vec![Tenant::default_tenant()];
        tenants.extend(view.all::<table::Tenants>(..)?.into_iter().map(|(_, tenant)| tenant));
        let mut policies: BTreeMap<TenantId, Vec<Arc<PathPolicy>>> = BTreeMap::new();
        for (_, policy) in view.all::<table::PathPolicies>(..)? {
            policies.entry(policy.tenant.clone()).or_default().push(Arc::new(policy));
        }
        let mut board = Board { members, tenants: BTreeMap::new(), leaving };
        for tenant in tenants {
            let id = tenant.id.clone();
            let policies = policies.remove(&id).unwrap_or_default();
            let routes = routes(&board.members, &id).map_err(|error| format!("tenant {id}: {error}"))?;
            board.tenants.insert(id, Arc::new(TenantBoard { tenant, routes, policies }));
        }
        Ok(board)
    }

    async fn start(
        &self,
        children: &mut Children,
        supervisor: ActorCell,
        member: &Member,
    ) -> Result<(), ActorProcessingErr> {
        let (backends, id) = (self.backends.clone(), member.row.id);
        let make = move || (BackendActor { backends: backends.clone(), id }, ());
        Ok(children.start::<BackendActor, _>(supervisor, &member.actor, make).await?)
    }

    fn row_of(&self, tenant: &TenantId, new: &NewBackend) -> Backend {
        let context = self.context();
        let now = context.now();
        Backend {
            id: BackendId::generate(now, &*context.entropy),
            tenant: tenant.clone(),
            name: new.name.clone(),
            kind: new.kind,
            config: new.config.clone(),
            path_mapping: new.path_mapping.clone(),
            mode: new.mode,
            sync_interval_seconds: None,
            write_through: new.write_through,
            enabled: new.enabled,
            created_at: now,
            updated_at: now,
            leaving: None,
        }
    }

    async fn create(
        &self,
        tenant: &TenantId,
        new: &NewBackend,
        operator: &Operator,
    ) -> Result<(Member, Vec<String>), BackendError> {
        let context = self.context();
        let row = self.row_of(tenant, new);
        let board = self.backends.board();
        if board.members.len() >= limits::BACKENDS_MAX {
            return Err(BackendError::Invalid {
                field: "name",
                reason: "is one too many: a node has at most 256",
            });
        }
        let member = self.judge(&board, row, new.sync_interval.as_deref())?;
        let warnings = self.warnings(&member)?;
        let mut batch = Batch::new();
        batch.put::<table::SecretBackends>(&member.row.id, &member.row).audit(self.entry(
            "federation_backend_create",
            &member.row,
            operator,
        ));
        context.commit(Lane::Operator, batch).await?;
        self.publish(|board| {
            board.members.insert(member.row.id, member.clone());
        });
        Ok((member, warnings))
    }

    async fn patch(
        &self,
        tenant: &TenantId,
        id: BackendId,
        patch: &BackendPatch,
        operator: &Operator,
    ) -> Result<Member, BackendError> {
        let context = self.context();
        let old = self.backends.member(tenant, id).ok_or(BackendError::NotFound(id))?;
        let mut row = (*old.row).clone();
        row.name = patch.name.clone().unwrap_or(row.name);
        row.config = patch.config.clone().unwrap_or(row.config);
        row.path_mapping = patch.path_mapping.clone().unwrap_or(row.path_mapping);
        row.mode = patch.mode.unwrap_or(row.mode);
        row.enabled = patch.enabled.unwrap_or(row.enabled);
        row.write_through = match row.mode {
            Mode::Proxy => patch.write_through.unwrap_or(false),
            Mode::Sync => patch.write_through.unwrap_or(row.write_through),
        };
        row.updated_at = context.now();
        let mut board = (*self.backends.board()).clone();
        board.members.remove(&id);
        let mut member = self.judge(&board, row, patch.sync_interval.as_deref())?;
        // The actor and what it publishes stay; only what it is told changes.
        member.actor = old.actor.clone();
        member.published = Arc::clone(&old.published);
        let mut batch = Batch::new();
        batch.put::<table::SecretBackends>(&id, &member.row).audit(self.entry(
            "federation_backend_update",
            &member.row,
            operator,
        ));
        context.commit(Lane::Operator, batch).await?;
        self.publish(|board| {
            board.members.insert(id, member.clone());
        });
        member.actor.cast(BackendMessage::Configured);
        Ok(member)
    }

    /// From its commit on no path leads there any more, and its copies count as what they are to become; a
    /// sweep makes them so.
    async fn remove(
        &self,
        tenant: &TenantId,
        id: BackendId,
        leaving: Leaving,
        operator: &Operator,
    ) -> Result<(), BackendError> {
        let member = self.backends.member(tenant, id).ok_or(BackendError::NotFound(id))?;
        member.actor.call(|reply| BackendMessage::Rest { reply }).await?;
        let row = Backend { leaving: Some(leaving), ..(*member.row).clone() };
        let mut batch = Batch::new();
        batch
            .put::<table::SecretBackends>(&id, &row)
            .delete::<table::BackendSyncs>(&id)
            .delete_range::<table::SecretConflicts>(every_conflict(id))
            .audit(self.entry("federation_backend_delete", &member.row, operator));
        // In the lane of syncs: what the last one had handed over is on disk before this is.
        let stored = self.context().commit(Lane::Ingest, batch).await;
        if stored.is_ok() {
            self.publish(|board| {
                board.members.remove(&id);
                board.leaving.insert(id, (tenant.clone(), leaving));
            });
        }
        member.actor.cast(BackendMessage::Configured);
        Ok(stored.map(drop)?)
    }

    /// Judges a backend's row against the others of its tenant, in the order of the contract (B.1).
    fn judge(&self, board: &Board, mut row: Backend, interval: Option<&str>) -> Result<Member, BackendError> {
        let invalid = |field, reason| Err(BackendError::Invalid { field, reason });
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if row.name.is_empty()
            || row.name.len() > limits::BACKEND_NAME_BYTES_MAX
            || !row.name.bytes().all(plain)
        {
            return invalid("name", "has 1 to 128 letters, digits and . _ -");
        }
        if row.path_mapping.is_empty() || row.path_mapping.len() > limits::MAPPINGS_MAX {
            return invalid("path_mapping", "has 1 to 256 entries");
        }
        if row.mode == Mode::Sync && interval.is_none() && row.sync_interval_seconds.is_none() {
            return invalid("sync_interval", "is required in sync mode, such as 15m");
        }
        if row.mode == Mode::Proxy && interval.is_some() {
            return invalid("sync_interval", "belongs to sync mode: leave it out");
        }
        if row.write_through && row.mode == Mode::Proxy {
            return invalid("write_through", "belongs to sync mode: leave it out");
        }
        let mappings = compile(&row)?;
        if let Some(interval) = interval.map(duration::parse).transpose()? {
            if !(limits::SYNC_INTERVAL_MIN..=limits::SYNC_INTERVAL_MAX).contains(&interval) {
                return invalid("sync_interval", "is between 1m and 24h");
            }
            row.sync_interval_seconds = Some(interval.as_secs());
        }
        let config = BackendConfig::parse(row.kind, &row.config)?;
        config.judge_login(self.backends.drivers.allow_ambient(row.kind))?;
        if board.members.values().any(|other| other.row.tenant == row.tenant && other.row.name == row.name) {
            return Err(BackendError::NameTaken);
        }
        let tenant = row.tenant.clone();
        let member = member(row, config, mappings);
        let mut members = board.members.clone();
        members.insert(member.row.id, member.clone());
        let routes = routes(&members, &tenant)?;
        self.judge_login(&member, &routes)?;
        Ok(member)
    }

    /// The secret that logs in must be there, and not be one of a backend itself: that would be a loop.
    fn judge_login(&self, member: &Member, routes: &Routes) -> Result<(), BackendError> {
        let roots = member.config.common().ca_cert_path.as_ref().map(|path| ("ca_cert_path", path));
        let view = self.context().store.read()?;
        for (field, path) in member.config.login_path().into_iter().chain(roots) {
            let refuse = |reason| {
                Err(hansa_model::secrets::backend::InvalidConfig { field: field.to_owned(), reason }.into())
            };
            if routes.route(path).is_some() {
                return refuse("is a path of a backend itself: keep the login as a local secret");
            }
            let key = Named::new(member.row.tenant.as_str(), path.as_str().to_owned());
            let row = view.get::<table::Secrets>(&key)?;
            if !row.is_some_and(|row| row.is_live(self.context().now())) {
                return refuse("names no secret: store the login first, with `hansa secret put`");
            }
        }
        Ok(())
    }

    /// What an operator may not have meant: local secrets that the new mappings hide.
    fn warnings(&self, member: &Member) -> Result<Vec<String>, BackendError> {
        let view = self.context().store.read()?;
        let mut hidden = 0_u64;
        for mapping in &*member.mappings {
            let (tenant, prefix) = (member.row.tenant.as_str(), mapping.path_prefix());
            for (key, row) in page_below(&view, tenant, prefix, "", limits::PAGE_MAX)? {
                let matched = key.number.parse::<SecretPath>().is_ok_and(|path| mapping.matches(&path));
                hidden += u64::from(matched && row.copy.is_none() && row.deleted_at.is_none());
            }
        }
        let mut warnings = Vec::new();
        if hidden > 0 {
            warnings.push(format!(
                "{hidden} local secrets lie under these patterns: they are kept, and hidden by the backend"
            ));
        }
        let mut members = self.backends.board().members.clone();
        members.insert(member.row.id, member.clone());
        let routes = routes(&members, &member.row.tenant)?;
        let own = routes.shadows().into_iter().filter(|shadow| shadow.backend_id == member.row.id);
        warnings.extend(own.map(|shadow| {
            format!(
                "{} and {} lead to the same names, such as {}: each path has policies of its own",
                shadow.path, shadow.other_path, shadow.name
            )
        }));
        Ok(warnings)
    }

    /// Changes what is published; every tenant's routes follow from its backends.
    pub(super) fn publish(&self, change: impl FnOnce(&mut Board)) {
        let mut board = (*self.backends.board()).clone();
        change(&mut board);
        let tenants: Vec<TenantId> = board.tenants.keys().cloned().collect();
        for id in tenants {
            // The change was judged with these very rows, so they fit together.
            let Ok(routes) = routes(&board.members, &id) else { continue };
            if let Some(tenant) = board.tenants.get_mut(&id) {
                Arc::make_mut(tenant).routes = routes;
            }
        }
        self.backends.board.store(Arc::new(board));
    }

    fn entry(&self, operation: &str, row: &Backend, operator: &Operator) -> AuditDraft {
        let details: [(&'static str, Detail); 5] = [
            ("tenant", row.tenant.as_str().into()),
            ("backend_id", row.id.to_string().as_str().into()),
            ("backend_name", row.name.as_str().into()),
            ("backend_type", row.kind.as_str().into()),
            ("mode", row.mode.as_str().into()),
        ];
        self.context().audit_node(operation, Some(operator), details)
    }
}

/// Judges a backend as if it were made, and asks it once. Nothing is stored.
pub(crate) async fn rehearse(
    backends: &Backends,
    tenant: &TenantId,
    new: &NewBackend,
) -> Result<(Arc<Backend>, Vec<String>), BackendError> {
    let actor = BackendsActor { backends: backends.clone() };
    let row = actor.row_of(tenant, new);
    let member = actor.judge(&backends.board(), row, new.sync_interval.as_deref())?;
    let mut warnings = actor.warnings(&member)?;
    let asked = async {
        let source = Slot::default().open(backends, &member).await?;
        source.once(Instant::now() + source.timeout, source.driver.probe()).await
    };
    if let Err(failure) = asked.await {
        warnings.push(failure.to_string());
    }
    Ok((member.row, warnings))
}

/// What a row's mappings mean. The separator of names is part of the configuration; where that is refused,
/// the usual one judges the patterns, which come first (contract B.1).
fn compile(row: &Backend) -> Result<Vec<Mapping>, BackendError> {
    let config = BackendConfig::parse(row.kind, &row.config);
    let separator = match &config {
        Ok(BackendConfig::Azure(config)) => config.name_separator.as_str(),
        Ok(BackendConfig::Google(config)) => config.name_separator.as_str(),
        Ok(BackendConfig::Vault(_) | BackendConfig::Aws(_)) | Err(_) => "--",
    };
    Ok(mapping::compile_all(row.kind, separator, &row.path_mapping)?)
}

fn member(row: Backend, config: BackendConfig, mappings: Vec<Mapping>) -> Member {
    Member {
        row: Arc::new(row),
        config: Arc::new(config),
        mappings: mappings.into(),
        actor: Handle::new("secret backend"),
        published: Arc::new(Published {
            connection: arc_swap::ArcSwap::from_pointee(ConnectionView::default()),
            sync: arc_swap::ArcSwap::default(),
            conflicts: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
        }),
    }
}

fn routes(members: &BTreeMap<BackendId, Member>, tenant: &TenantId) -> Result<Routes, MappingConflict> {
    let own = members.values().filter(|member| member.row.tenant == *tenant);
    Routes::new(own.map(|member| (member.row.id, member.mappings.to_vec())))
}

impl Published {
    /// Conflicts that are open.
    pub(crate) fn conflicts(&self) -> u64 {
        self.conflicts.load(Ordering::Relaxed)
    }

    /// Reads that wait for an answer.
    pub(crate) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }
}
