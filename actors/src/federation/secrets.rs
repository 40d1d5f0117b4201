//! The facade's part about secrets: read, written, listed, deleted; here, proxied, or as copies.
//!
//! Every way ends in the audit log before an answer leaves: a value whose reading cannot be written down is
//! not given.

mod listing;
mod reading;
mod writing;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hansa_backends::CallError;
use hansa_model::Timestamp;
use hansa_model::audit::{AuditDraft, Detail};
use hansa_model::scope::Operator;
use hansa_model::secrets::change::Change;
use hansa_model::secrets::id::{BackendId, TenantId};
use hansa_model::secrets::path::SecretPath;
use hansa_model::secrets::policy::{Allowed, Permission};
use hansa_model::secrets::routes::Explanation;
use hansa_model::secrets::row::{Mode, SecretRow, SecretType};
use hansa_model::secrets::tenant::{self, Tenant};
use hansa_model::secrets::value::SecretData;
use hansa_storage::codec::Named;
use hansa_storage::{Batch, Lane, table};
use tokio::sync::oneshot;

use super::Federation;
use crate::backends::error::{BackendFailure, SecretError, TenantError};
use crate::backends::{BackendMessage, Member, Standing, TenantBoard};
use crate::error::Unavailable;
use crate::open_entries::OpenEntry;

/// Who asks, for whom, and how that request is told from others.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Who.
    pub operator: Arc<Operator>,
    /// Whose secrets.
    pub tenant: TenantId,
    /// As in the answer.
    pub request_id: String,
    /// As the program calls itself.
    pub user_agent: Option<String>,
    /// Where the connection comes from; none for the node's own socket file.
    pub source_ip: Option<IpAddr>,
}

/// Which version of a secret is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionAsked {
    /// The newest.
    Current,
    /// By our number, or the backend's where it counts.
    Number(u64),
    /// By the backend's own name of it.
    Backend(String),
}

/// A secret with its value.
#[derive(Debug, Clone)]
pub struct SecretView {
    /// Where it lies.
    pub path: SecretPath,
    /// What it is.
    pub secret_type: SecretType,
    /// Which version this is.
    pub version: u64,
    /// Its value.
    pub data: SecretData,
    /// What its owner says about it: a JSON object as text.
    pub metadata: String,
    /// When this version was made, where that is known.
    pub created_at: Option<Timestamp>,
    /// When the secret was last changed, where that is known.
    pub updated_at: Option<Timestamp>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// Where it comes from, for backends' secrets.
    pub source: Option<SourceView>,
}

/// Where a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceView {
    /// Whose it is.
    pub backend: BackendId,
    /// Its name there.
    pub name: String,
    /// The backend's own name of the version.
    pub version: Option<String>,
    /// How long ago the backend was last known to hold this; zero for what it has just answered.
    pub age: Duration,
    /// Whether a copy is older than two intervals.
    pub stale: bool,
}

/// A value to store.
#[derive(Debug, Clone)]
pub struct NewValue {
    /// The value.
    pub data: SecretData,
    /// What it is; absent keeps, or is `kv`.
    pub secret_type: Option<SecretType>,
    /// What its owner says about it, a JSON object as text; absent keeps.
    pub metadata: Option<String>,
    /// Versions to keep; absent keeps, or is 10.
    pub max_versions: Option<u32>,
    /// When it ends, from now; absent keeps.
    pub expires_in: Option<Duration>,
    /// The version that must be the newest; zero for none at all.
    pub expected: Option<u64>,
}

/// A secret without its value.
#[derive(Debug, Clone)]
pub struct SecretSummary {
    /// Where it lies.
    pub path: SecretPath,
    /// What is kept of it; none for proxied ones.
    pub row: Option<Arc<SecretRow>>,
    /// Whose it is; none for this node's own.
    pub backend: Option<BackendId>,
}

/// One line of a list.
#[derive(Debug, Clone)]
pub enum Listed {
    /// A secret.
    Secret(SecretSummary),
    /// Something below which there is more; a backend's.
    Folder(String),
}

/// A page of a list.
#[derive(Debug, Clone, Default)]
pub struct SecretPage {
    /// What is there.
    pub entries: Vec<Listed>,
    /// Where the next page begins; none on the last one.
    pub next: Option<SecretCursor>,
    /// What could not be asked.
    pub warnings: Vec<String>,
}

/// A place in a list.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum SecretCursor {
    /// After this path of the node's own.
    Local(String),
    /// A backend's mapping, and its own cursor.
    Backend(BackendId, usize, Option<String>),
}

/// What a request did, on its way to the audit log.
struct Record {
    action: &'static str,
    path: String,
    begun: Timestamp,
    /// Told as an event, unless it was refused.
    change: Option<Change>,
    details: Vec<(&'static str, Detail)>,
    /// It is on disk already, as open.
    open: Option<OpenEntry>,
}

impl Record {
    fn new(action: &'static str, path: &str, begun: Timestamp) -> Self {
        Self { action, path: path.to_owned(), begun, change: None, details: Vec::new(), open: None }
    }

    fn source(&mut self, mode: Mode, backend: BackendId, name: &str) {
        self.details.push(("mode", mode.as_str().into()));
        self.details.push(("backend_id", backend.to_string().as_str().into()));
        self.details.push(("backend_path", name.into()));
    }

    /// What is about to become of the secret.
    fn change(&mut self, change: Change, version: u64) {
        self.change = Some(change);
        self.number("version", version);
    }

    fn number(&mut self, name: &'static str, number: u64) {
        self.details.push((name, Detail::Int(i64::try_from(number).unwrap_or(i64::MAX))));
    }
}

// Whose.
impl Federation {
    /// The tenant that a request is for: named by it, or its token's.
    ///
    /// # Errors
    /// There is none, or the operator may not act for it.
    pub fn tenant_for(&self, operator: &Operator, named: Option<TenantId>) -> Result<TenantId, TenantError> {
        let id = tenant::wanted(operator, named);
        let board = self.tree.backends.tenant(&id).ok_or(TenantError::NotFound)?;
        if tenant::may_act_for(operator, &board.tenant) { Ok(id) } else { Err(TenantError::Denied) }
    }

    /// The tenants that the operator may act for, by id.
    pub fn tenants(&self, operator: &Operator) -> Vec<Tenant> {
        let board = self.tree.backends.board();
        let tenants = board.tenants.values().map(|board| board.tenant.clone());
        tenants.filter(|tenant| tenant::may_act_for(operator, tenant)).collect()
    }

    /// Which mappings a path meets, and what becomes of it.
    ///
    /// # Errors
    /// There is no such tenant any more.
    pub fn explain_path(&self, tenant: &TenantId, path: &SecretPath) -> Result<Explanation, TenantError> {
        Ok(self.board_of(tenant)?.routes.explain(path))
    }

    fn board_of(&self, tenant: &TenantId) -> Result<Arc<TenantBoard>, TenantError> {
        self.tree.backends.tenant(tenant).ok_or(TenantError::NotFound)
    }
}

// What they share.
impl Federation {
    fn tenant_board(&self, caller: &Caller) -> Result<Arc<TenantBoard>, SecretError> {
        // A tenant that was removed meanwhile has nothing.
        self.tree.backends.tenant(&caller.tenant).ok_or(SecretError::NotFound)
    }

    fn member_of(&self, caller: &Caller, id: BackendId) -> Result<Member, SecretError> {
        self.tree.backends.member(&caller.tenant, id).ok_or(SecretError::NotFound)
    }

    /// The backend that a path leads to, and its name there; none for this node's own. A backend that is switched
    /// off keeps its paths.
    fn place(
        &self,
        board: &TenantBoard,
        caller: &Caller,
        path: &SecretPath,
        record: &mut Record,
    ) -> Result<Option<(Member, String)>, SecretError> {
        let Some(route) = board.routes.route(path) else { return Ok(None) };
        let member = self.member_of(caller, route.backend)?;
        let name = route.name.map_err(|_| SecretError::NotFound)?;
        record.source(member.row.mode, member.row.id, &name);
        if member.row.enabled {
            Ok(Some((member, name)))
        } else {
            Err(SecretError::Disabled { backend: member.row.id })
        }
    }

    /// The row of a path, and what it counts as.
    fn row(&self, caller: &Caller, path: &SecretPath) -> Result<Option<(SecretRow, Standing)>, SecretError> {
        let row = self.tree.context.store.read()?.get::<table::Secrets>(&key(caller, path))?;
        let board = self.tree.backends.board();
        Ok(row.map(|row| {
            let standing = board.standing(caller.tenant.as_str(), path, &row);
            (row, standing)
        }))
    }

    /// Writes down what a request did or was refused. Durable on return: of what is open, that it was begun.
    async fn write_down(
        &self,
        caller: &Caller,
        mut record: Record,
        error: Option<&SecretError>,
    ) -> Result<(), SecretError> {
        if let Some(open) = record.open.take() {
            open.end(|draft| self.ended(caller, &record, error, draft));
            return Ok(());
        }
        let draft = self.tree.context.audit_node(record.action, None, []);
        let mut batch = Batch::new();
        batch.audit(self.entry(caller, &record, error, draft));
        // Nobody watches reads live: there may be thousands a second.
        self.tree.context.store.commit(Lane::Operator, batch).await.map_err(Unavailable::from)?;
        Ok(())
    }

    /// The entry of what was open.
    fn ended(
        &self,
        caller: &Caller,
        record: &Record,
        error: Option<&SecretError>,
        draft: AuditDraft,
    ) -> AuditDraft {
        self.entry(caller, record, error, AuditDraft { created_at: self.now(), ..draft })
    }

    /// Completes a draft with who asked, for what, and how it went.
    fn entry(
        &self,
        caller: &Caller,
        record: &Record,
        error: Option<&SecretError>,
        mut draft: AuditDraft,
    ) -> AuditDraft {
        draft.actor_userid = Some(caller.operator.userid.clone());
        let millis = self.now().since(record.begun).as_millis();
        let mut put = |name: &str, value: Detail| {
            draft.details.insert(name.to_owned(), value);
        };
        put("tenant", caller.tenant.as_str().into());
        put("secret_path", record.path.as_str().into());
        put("request_id", caller.request_id.as_str().into());
        put("duration_ms", Detail::Int(i64::try_from(millis).unwrap_or(i64::MAX)));
        put("success", Detail::Bool(error.is_none()));
        if let Some(user_agent) = &caller.user_agent {
            put("user_agent", user_agent.as_str().into());
        }
        if let Some(source_ip) = caller.source_ip {
            put("source_ip", source_ip.to_string().as_str().into());
        }
        if let Some(error) = error {
            put("error", error.to_string().as_str().into());
        } else if let Some(change) = record.change {
            put("change", change.as_str().into());
        }
        for (name, value) in &record.details {
            put(name, value.clone());
        }
        draft
    }
}

fn key(caller: &Caller, path: &SecretPath) -> Named<String> {
    Named::new(caller.tenant.as_str(), path.as_str().to_owned())
}

fn allowed<'a>(board: &'a TenantBoard, caller: &Caller) -> Allowed<'a> {
    Allowed::to(&caller.operator, board.policies.iter().map(|policy| &**policy))
}

fn require(
    board: &TenantBoard,
    caller: &Caller,
    permission: Permission,
    path: &SecretPath,
) -> Result<(), SecretError> {
    if allowed(board, caller).may(permission, path) { Ok(()) } else { Err(SecretError::Denied) }
}

/// Asks a backend's actor something that may take as long as the backend does.
async fn ask<T>(
    member: &Member,
    message: impl FnOnce(oneshot::Sender<Result<T, BackendFailure>>) -> BackendMessage,
) -> Result<T, SecretError> {
    let (reply, answer) = oneshot::channel();
    member.actor.tell(message(reply)).await?;
    // The actor and its tasks answer by their own deadlines; one that fails drops the sender.
    let answer = answer.await.map_err(|_| Unavailable::Busy { part: "secret backend" })?;
    answer.map_err(|error| match error {
        BackendFailure::Call(CallError::NotFound | CallError::Name) => SecretError::NotFound,
        BackendFailure::Call(CallError::VersionNotFound) => SecretError::VersionNotFound,
        BackendFailure::Call(CallError::Conflict) => SecretError::Conflict,
        BackendFailure::Here(error) => error.into(),
        error @ (BackendFailure::Call(
            CallError::Throttled { .. }
            | CallError::Unavailable { .. }
            | CallError::Refused { .. }
            | CallError::BadAnswer { .. }
            | CallError::Address(_),
        )
        | BackendFailure::Open(_)
        | BackendFailure::LoginMissing(_)
        | BackendFailure::Resting { .. }
        | BackendFailure::TimedOut
        | BackendFailure::Crowded) => SecretError::Backend { backend: member.row.id, error },
    })
}
