//! The facade's part about secret backends, tenants' policies, and AppRoles.

use std::sync::Arc;
use std::time::Duration;

use hansa_model::Timestamp;
use hansa_model::machine::backend_sync::{self as machine, Condition, Connection, Health};
use hansa_model::scope::Operator;
use hansa_model::secrets::backend::BackendConfig;
use hansa_model::secrets::id::{BackendId, ConflictId, PathPolicyId, SyncRunId, TenantId};
use hansa_model::secrets::policy::PathPolicy;
use hansa_model::secrets::row::{Backend, Conflict, Mode, SyncState};
use hansa_model::secrets::tenant::Tenant;
use hansa_storage::codec::Named;
use hansa_storage::table;
use tokio::sync::oneshot;

use super::Federation;
use crate::backends::error::{BackendError, FailureKind, TenantError};
use crate::backends::{
    BackendMessage, BackendPatch, BackendsMessage, Member, NewBackend, PolicyDraft, Resolution,
    every_conflict,
};
use crate::error::Unavailable;

/// How a backend does (contract B.2).
#[derive(Debug, Clone)]
pub struct BackendStatusView {
    /// Its configuration.
    pub backend: Arc<Backend>,
    /// In one word.
    pub status: Health,
    /// Of its connection.
    pub connection: Connection,
    /// Of the last probe; none unless connected.
    pub latency: Option<Duration>,
    /// What its syncs left behind.
    pub sync: Arc<SyncState>,
    /// Conflicts that are open.
    pub conflicts_open: u64,
    /// Why the last call that failed did, in our words, and when.
    pub last_error: Option<(String, Timestamp)>,
    /// Calls that failed since the last one that did not.
    pub consecutive_failures: u32,
    /// It failed so often that it is left alone until then.
    pub resting_until: Option<Timestamp>,
    /// Reads that wait for its answer now.
    pub reads_waiting: u64,
    /// What an operator should know as long as it stands.
    pub warnings: Vec<&'static str>,
}

/// A sync that was started, or the one that runs already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncStarted {
    /// Of the run.
    pub id: SyncRunId,
    /// When it began.
    pub at: Timestamp,
    /// It ran before it was asked for.
    pub already_running: bool,
}

/// A conflict, and what its local side says of itself.
#[derive(Debug, Clone)]
pub struct ConflictView {
    /// As it is kept.
    pub conflict: Conflict,
    /// When the local value was last written; none when there is none any more.
    pub local_updated_at: Option<Timestamp>,
}

impl Federation {
    /// The tenant's backends, in the order of their making.
    pub fn backends(&self, tenant: &TenantId) -> Vec<Arc<Backend>> {
        let board = self.tree.backends.board();
        let own = board.members.values().filter(|member| member.row.tenant == *tenant);
        own.map(|member| Arc::clone(&member.row)).collect()
    }

    /// One backend.
    ///
    /// # Errors
    /// There is none, or it is another tenant's.
    pub fn backend(&self, tenant: &TenantId, id: BackendId) -> Result<Arc<Backend>, BackendError> {
        Ok(self.secret_backend(tenant, id)?.row)
    }

    /// Makes a backend. Durable on return, and its paths lead there; also answers what the operator may not
    /// have meant.
    ///
    /// # Errors
    /// See [`BackendError`].
    pub async fn create_backend(
        &self,
        operator: &Operator,
        tenant: &TenantId,
        new: NewBackend,
    ) -> Result<(Arc<Backend>, Vec<String>), BackendError> {
        let (tenant, operator) = (tenant.clone(), operator.clone());
        let message = |reply| BackendsMessage::Create { tenant, new: Box::new(new), operator, reply };
        let (member, warnings) = self.tree.backends.actor.call(message).await??;
        Ok((member.row, warnings))
    }

    /// Judges a backend as if it were made, and asks it once. Nothing is stored.
    ///
    /// # Errors
    /// See [`BackendError`].
    pub async fn try_backend(
        &self,
        tenant: &TenantId,
        new: NewBackend,
    ) -> Result<(Arc<Backend>, Vec<String>), BackendError> {
        crate::backends::rehearse(&self.tree.backends, tenant, &new).await
    }

    /// Changes a backend. Durable on return.
    ///
    /// # Errors
    /// See [`BackendError`].
    pub async fn patch_backend(
        &self,
        operator: &Operator,
        tenant: &TenantId,
        id: BackendId,
        patch: BackendPatch,
    ) -> Result<Arc<Backend>, BackendError> {
        let (tenant, operator) = (tenant.clone(), operator.clone());
        let message = |reply| BackendsMessage::Patch { tenant, id, patch: Box::new(patch), operator, reply };
        Ok(self.tree.backends.actor.call(message).await??.row)
    }

    /// Removes a backend and its copies, or keeps the copies as ordinary secrets. Durable on return. The
    /// backend itself is not asked.
    ///
    /// # Errors
    /// See [`BackendError`].
    pub async fn remove_backend(
        &self,
        operator: &Operator,
        tenant: &TenantId,
        id: BackendId,
        keep_synced: bool,
    ) -> Result<(), BackendError> {
        let (tenant, operator) = (tenant.clone(), operator.clone());
        let message = |reply| BackendsMessage::Remove { tenant, id, keep_synced, operator, reply };
        self.tree.backends.actor.call(message).await?
    }

    /// How a backend does. Asks it when nobody has for ten seconds.
    ///
    /// # Errors
    /// See [`BackendError`].
    pub async fn backend_status(
        &self,
        tenant: &TenantId,
        id: BackendId,
    ) -> Result<BackendStatusView, BackendError> {
        let member = self.secret_backend(tenant, id)?;
        let shown = member.actor.call(|reply| BackendMessage::Probe { reply }).await?;
        let sync = member.published.sync.load_full();
        let conflicts_open = member.published.conflicts();
        let now = self.now();
        let connection = match (&shown.failure, shown.probed_at) {
            (_, None) => Connection::Unknown,
            (None, Some(_)) => Connection::Connected,
            (Some(failure), Some(_)) if failure.kind() == FailureKind::Auth => Connection::AuthFailed,
            (Some(_), Some(_)) => Connection::Disconnected,
        };
        let is_sync = member.row.mode == Mode::Sync;
        let completed = sync.completed.as_ref().map(|run| run.begun_at);
        let (status, complaints) = machine::health(&Condition {
            connection,
            throttled: shown.throttled,
            sync_failures: if is_sync { sync.failures } else { 0 },
            guarded: is_sync && sync.guarded,
            conflicts: conflicts_open,
            stale: is_sync
                && (completed.is_some() || sync.failures > 0)
                && machine::is_stale(now, member.interval(), completed),
        });
        let last_error = match (&shown.last_error, &sync.last_error) {
            (Some(call), Some(sync)) => Some(if call.1 > sync.1 { call } else { sync }.clone()),
            (one, other) => one.clone().or_else(|| other.clone()),
        };
        let unverified = match &*member.config {
            BackendConfig::Vault(config) => !config.tls_verify,
            BackendConfig::Aws(_) | BackendConfig::Azure(_) | BackendConfig::Google(_) => false,
        };
        let unverified =
            unverified.then_some("the server's certificate is not checked (tls_verify is false)");
        let complaints = complaints.into_iter().map(|complaint| complaint.as_str());
        Ok(BackendStatusView {
            backend: member.row,
            status,
            connection,
            latency: shown.latency.filter(|_| connection == Connection::Connected),
            sync,
            conflicts_open,
            last_error,
            consecutive_failures: shown.consecutive_failures,
            resting_until: shown.resting_until,
            reads_waiting: member.published.waiting(),
            warnings: unverified.into_iter().chain(complaints).collect(),
        })
    }

    /// Starts a sync, or joins the one that runs. Answers at once.
    ///
    /// # Errors
    /// See [`BackendError`].
    pub async fn sync_backend(
        &self,
        tenant: &TenantId,
        id: BackendId,
        confirm_deletions: bool,
    ) -> Result<SyncStarted, BackendError> {
        let member = self.secret_backend(tenant, id)?;
        let message = |reply| BackendMessage::Sync { confirm_deletions, reply };
        let started = member.actor.call(message).await??;
        Ok(SyncStarted { id: started.id, at: started.at, already_running: started.already_running })
    }

    /// A backend's open conflicts, oldest first.
    ///
    /// # Errors
    /// See [`BackendError`].
    pub fn conflicts(&self, tenant: &TenantId, id: BackendId) -> Result<Vec<ConflictView>, BackendError> {
        self.secret_backend(tenant, id)?;
        let view = self.tree.context.store.read()?;
        let open = view.all::<table::SecretConflicts>(every_conflict(id))?;
        let shown = open.into_iter().map(|(_, conflict)| {
            let key = Named::new(tenant.as_str(), conflict.path.as_str().to_owned());
            let local = view.get::<table::Secrets>(&key)?;
            Ok(ConflictView { conflict, local_updated_at: local.map(|row| row.updated_at) })
        });
        shown.collect()
    }

    /// Ends a conflict. Durable on return.
    ///
    /// # Errors
    /// See [`BackendError`]; the caller needs a policy that lets them write the path.
    pub async fn resolve_conflict(
        &self,
        operator: &Operator,
        tenant: &TenantId,
        id: BackendId,
        conflict: ConflictId,
        take_remote: bool,
    ) -> Result<(), BackendError> {
        let member = self.secret_backend(tenant, id)?;
        let open = self.conflicts(tenant, id)?;
        let found = open.iter().map(|open| &open.conflict).find(|open| open.id == conflict);
        let found = found.ok_or(BackendError::ConflictNotFound(conflict))?;
        let board = self.tree.backends.tenant(tenant).ok_or(BackendError::NotFound(id))?;
        let policies = board.policies.iter().map(|policy| &**policy);
        let allowed = hansa_model::secrets::policy::Allowed::to(operator, policies);
        if !allowed.may(hansa_model::secrets::policy::Permission::Write, &found.path) {
            return Err(BackendError::Denied);
        }
        let resolution = Resolution { conflict, take_remote, operator: operator.clone() };
        let (reply, answer) = oneshot::channel();
        member.actor.tell(BackendMessage::Resolve { resolution, reply }).await?;
        // It may take as long as the backend does; a task that fails drops the sender.
        answer.await.map_err(|_| Unavailable::Busy { part: "secret backend" })?
    }

    fn secret_backend(&self, tenant: &TenantId, id: BackendId) -> Result<Member, BackendError> {
        self.tree.backends.member(tenant, id).ok_or(BackendError::NotFound(id))
    }
}

// Tenants and policies.
impl Federation {
    /// Makes a tenant. Durable on return.
    ///
    /// # Errors
    /// See [`TenantError`].
    pub async fn add_tenant(
        &self,
        operator: &Operator,
        id: TenantId,
        partner: String,
        name: String,
    ) -> Result<Tenant, TenantError> {
        let tenant = Tenant { id, partner, name, created_at: self.now() };
        let operator = operator.clone();
        self.tree.backends.actor.call(|reply| BackendsMessage::AddTenant { tenant, operator, reply }).await?
    }

    /// Removes a tenant that has nothing. Durable on return.
    ///
    /// # Errors
    /// See [`TenantError`].
    pub async fn remove_tenant(&self, operator: &Operator, tenant: TenantId) -> Result<(), TenantError> {
        let operator = operator.clone();
        self.tree
            .backends
            .actor
            .call(|reply| BackendsMessage::RemoveTenant { tenant, operator, reply })
            .await?
    }

    /// A tenant's policies, in the order of their making.
    ///
    /// # Errors
    /// There is no such tenant.
    pub fn path_policies(&self, tenant: &TenantId) -> Result<Vec<Arc<PathPolicy>>, TenantError> {
        Ok(self.tree.backends.tenant(tenant).ok_or(TenantError::NotFound)?.policies.clone())
    }

    /// Makes a policy, or puts one in the place of the one with this id. Durable on return.
    ///
    /// # Errors
    /// See [`TenantError`].
    pub async fn put_path_policy(
        &self,
        operator: &Operator,
        tenant: &TenantId,
        id: Option<PathPolicyId>,
        draft: PolicyDraft,
    ) -> Result<PathPolicy, TenantError> {
        let (tenant, operator) = (tenant.clone(), operator.clone());
        let message =
            |reply| BackendsMessage::PutPolicy { tenant, id, draft: Box::new(draft), operator, reply };
        self.tree.backends.actor.call(message).await?
    }

    /// Removes a policy. Durable on return.
    ///
    /// # Errors
    /// See [`TenantError`].
    pub async fn remove_path_policy(
        &self,
        operator: &Operator,
        tenant: &TenantId,
        id: PathPolicyId,
    ) -> Result<(), TenantError> {
        let (tenant, operator) = (tenant.clone(), operator.clone());
        let message = |reply| BackendsMessage::RemovePolicy { tenant, id, operator, reply };
        self.tree.backends.actor.call(message).await?
    }
}
