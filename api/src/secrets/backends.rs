//! Backends of the secret federation: the documented routes and ours beside them (contract B).

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::StatusCode;
use hansa_actors::backends::{BackendPatch, NewBackend};
use hansa_actors::{BackendStatusView, ConflictView, SyncStarted};
use hansa_model::Timestamp;
use hansa_model::scope::{Operator, Scope};
use hansa_model::secrets::duration;
use hansa_model::secrets::id::{BackendId, ConflictId};
use hansa_model::secrets::row::{Backend, Mode, SyncCounts, SyncRun};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{caller, cursor, cursor_text, limit, page_of, path};
use crate::answer::Answer;
use crate::code::Code;
use crate::problem::Problem;
use crate::request::Request;
use crate::route::{Parameter, ParameterKind};

/// The parameters of making one.
pub(crate) const CREATE_QUERY: &[Parameter] = &[Parameter {
    name: "dry_run",
    kind: ParameterKind::Boolean,
    description: "judge it and ask the backend once, and store nothing",
}];

/// The parameters of removing one.
pub(crate) const DELETE_QUERY: &[Parameter] = &[Parameter {
    name: "keep_synced",
    kind: ParameterKind::Boolean,
    description: "turn its copies into ordinary secrets instead of deleting them",
}];

/// A secret backend. Never a credential.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Backend)]
pub(crate) struct BackendBody {
    id: String,
    name: String,
    /// `hashicorp-vault`, `aws-secrets-manager`, `azure-key-vault` or `google-secret-manager`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// As it was sent.
    #[schema(value_type = Object)]
    config: Value,
    /// From path patterns to templates of names.
    path_mapping: BTreeMap<String, String>,
    /// `proxy` or `sync`.
    mode: &'static str,
    /// Between two syncs, such as `15m`; null in proxy mode.
    sync_interval: Option<String>,
    write_through: bool,
    enabled: bool,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// What may not have been meant.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// A page of backends.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BackendPage {
    backends: Vec<BackendBody>,
    /// Give it as `cursor` to get the next page; null on the last one.
    cursor: Option<String>,
    has_more: bool,
}

/// A backend to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewBackend)]
pub(crate) struct NewBody {
    name: String,
    /// `hashicorp-vault`, `aws-secrets-manager`, `azure-key-vault` or `google-secret-manager`.
    #[serde(rename = "type")]
    kind: String,
    /// By type; names the path of the secret with the login, and never holds a login.
    #[schema(value_type = Object)]
    config: Box<RawValue>,
    /// From path patterns to templates of names, 1 to 256.
    path_mapping: BTreeMap<String, String>,
    /// `proxy` or `sync`.
    mode: String,
    /// Between two syncs, such as `15m`; 1m to 24h. Needed in sync mode, refused in proxy mode.
    sync_interval: Option<String>,
    /// Whether writes go through to the backend; in sync mode only.
    #[serde(default)]
    write_through: bool,
    /// Off: its paths answer 503.
    #[serde(default = "on")]
    enabled: bool,
}

const fn on() -> bool {
    true
}

/// Changes of a backend: absent keeps; `config` and `path_mapping` are replaced whole.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = BackendPatch)]
pub(crate) struct PatchBody {
    name: Option<String>,
    /// Refused: a backend's type never changes.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Refused likewise.
    id: Option<String>,
    #[schema(value_type = Option<Object>)]
    config: Option<Box<RawValue>>,
    path_mapping: Option<BTreeMap<String, String>>,
    mode: Option<String>,
    sync_interval: Option<String>,
    write_through: Option<bool>,
    enabled: Option<bool>,
}

/// How a backend does.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BackendStatus)]
pub(crate) struct StatusBody {
    id: String,
    name: String,
    /// `healthy`, `degraded`, `unhealthy` or `unknown`.
    status: &'static str,
    /// End of the last complete sync; null for none and in proxy mode.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_sync: Option<Timestamp>,
    last_sync_duration_ms: Option<u64>,
    secrets_synced: u64,
    connection: ConnectionBody,
    /// Why the last call that failed did.
    last_error: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_error_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    next_sync: Option<Timestamp>,
    conflicts_open: u64,
    /// Names of the last sync that have no path here.
    secrets_skipped: u64,
    consecutive_failures: u32,
    /// A sync that would delete too many copies waits for `confirm_deletions`.
    deletions_guarded: bool,
    /// The last sync that ended, complete or not; null for none and in proxy mode.
    last_run: Option<RunBody>,
    /// The backend failed so often that it is left alone until then.
    #[schema(value_type = Option<String>, format = DateTime)]
    resting_until: Option<Timestamp>,
    /// Reads that wait for the backend's answer now.
    reads_waiting: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<&'static str>,
}

/// What a sync did.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SyncRun)]
pub(crate) struct RunBody {
    sync_id: String,
    /// `schedule` or `manual`.
    trigger: &'static str,
    /// Whether every listing finished, and no value failed.
    complete: bool,
    #[schema(value_type = String, format = DateTime)]
    started_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    ended_at: Timestamp,
    /// Names that the backend listed.
    listed: u64,
    /// Values that were fetched.
    fetched: u64,
    created: u64,
    updated: u64,
    deleted: u64,
    /// Names and folders that have no path here.
    skipped: u64,
    conflicts: u64,
    /// Values that could not be fetched or stored.
    failed: u64,
}

impl From<&SyncRun> for RunBody {
    fn from(run: &SyncRun) -> Self {
        let SyncCounts { listed, created, updated, deleted, skipped, conflicts, failed, fetched } =
            run.counts;
        Self {
            sync_id: run.id.to_string(),
            trigger: run.trigger.as_str(),
            complete: run.complete,
            started_at: run.begun_at,
            ended_at: run.ended_at,
            listed,
            fetched,
            created,
            updated,
            deleted,
            skipped,
            conflicts,
            failed,
        }
    }
}

/// The state of its connection.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BackendConnection)]
pub(crate) struct ConnectionBody {
    /// `connected`, `disconnected`, `auth_failed` or `unknown`.
    status: &'static str,
    /// Of the last probe; null unless connected.
    latency_ms: Option<u64>,
}

/// How a sync is started.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SyncRequest)]
pub(crate) struct SyncBody {
    /// Delete as many copies as the backend no longer lists.
    #[serde(default)]
    confirm_deletions: bool,
}

/// A sync that runs.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SyncStarted)]
pub(crate) struct StartedBody {
    sync_id: String,
    /// `started` or `already_running`.
    status: &'static str,
    #[schema(value_type = String, format = DateTime)]
    started_at: Timestamp,
}

/// A path whose local value is served and whose backend says otherwise. Never a value.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BackendConflict)]
pub(crate) struct ConflictBody {
    id: String,
    path: String,
    backend_path: String,
    /// `local_exists`, `both_changed`, `name_collision` or `local_edit_remote_deleted`.
    kind: &'static str,
    #[schema(value_type = String, format = DateTime)]
    detected_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    last_seen_at: Timestamp,
    local: SideBody,
    remote: SideBody,
    /// Somebody chose the local value: left alone until the backend's changes.
    kept_local: bool,
}

/// One side of a conflict.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ConflictSide)]
pub(crate) struct SideBody {
    version: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    updated_at: Option<Timestamp>,
    /// Equal for equal values; nothing can be guessed from it.
    fingerprint: Option<String>,
}

/// A page of conflicts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ConflictPage {
    conflicts: Vec<ConflictBody>,
    /// Give it as `cursor` to get the next page; null on the last one.
    cursor: Option<String>,
    has_more: bool,
}

/// How a conflict ends.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ConflictResolution)]
pub(crate) struct ResolveBody {
    /// `keep_local` or `take_remote`.
    strategy: String,
}

/// Which mappings a path meets, and what becomes of it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PathExplanation)]
pub(crate) struct ExplanationBody {
    path: String,
    /// Whether any mapping matches: if so, a local secret of this path is hidden.
    federated: bool,
    /// Every mapping that matches, the most specific first: it is the one that is asked.
    mappings: Vec<ExplainedBody>,
}

/// One mapping that matches.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ExplainedMapping)]
pub(crate) struct ExplainedBody {
    backend_id: String,
    pattern: String,
    template: String,
    /// Whether it is the one that is asked.
    wins: bool,
    /// The name that the path has or would have at the backend.
    name: Option<String>,
    /// Why it has none.
    no_name: Option<String>,
    /// The rule by which it lost; null for the winner.
    lost_by: Option<String>,
}

pub(crate) async fn list(request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let caller = caller(&request, &operator)?;
    let after: Option<BackendId> = cursor(&request)?;
    let rows = request.federation.backends(&caller.tenant);
    let (page, next) = page_of(rows, |row| row.id, after, limit(&request)?);
    Answer::ok(&BackendPage {
        backends: page.iter().map(|row| BackendBody::of(row, Vec::new())).collect(),
        has_more: next.is_some(),
        cursor: next.map(|id| cursor_text(&id)),
    })
}

pub(crate) async fn create(mut request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let caller = caller(&request, &operator)?;
    let dry_run = request.query()?.flag("dry_run")?;
    let new = new_backend(request.json().await?)?;
    if dry_run {
        let (row, warnings) = request.federation.try_backend(&caller.tenant, new).await?;
        return Answer::ok(&BackendBody::of(&row, warnings));
    }
    let (row, warnings) = request.federation.create_backend(&operator, &caller.tenant, new).await?;
    Answer::json(StatusCode::CREATED, &BackendBody::of(&row, warnings))
}

pub(crate) async fn show(request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let caller = caller(&request, &operator)?;
    let row = request.federation.backend(&caller.tenant, id(&request)?)?;
    Answer::ok(&BackendBody::of(&row, Vec::new()))
}

pub(crate) async fn patch(mut request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let caller = caller(&request, &operator)?;
    let id = id(&request)?;
    // One that is not there is said before its body is looked at.
    request.federation.backend(&caller.tenant, id)?;
    let body: PatchBody = request.json().await?;
    for (field, given) in [("type", body.kind.is_some()), ("id", body.id.is_some())] {
        if given {
            return Err(Problem::field(
                Code::InvalidValue,
                field,
                format!("{field} never changes: leave it out"),
            ));
        }
    }
    let patch = BackendPatch {
        name: body.name,
        config: body.config.map(|config| config.get().to_owned()),
        path_mapping: body.path_mapping,
        mode: body.mode.as_deref().map(mode).transpose()?,
        sync_interval: body.sync_interval,
        write_through: body.write_through,
        enabled: body.enabled,
    };
    let row = request.federation.patch_backend(&operator, &caller.tenant, id, patch).await?;
    Answer::ok(&BackendBody::of(&row, Vec::new()))
}

pub(crate) async fn remove(request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let caller = caller(&request, &operator)?;
    let keep_synced = request.query()?.flag("keep_synced")?;
    request.federation.remove_backend(&operator, &caller.tenant, id(&request)?, keep_synced).await?;
    Ok(Answer::no_content())
}

pub(crate) async fn status(request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let caller = caller(&request, &operator)?;
    let view = request.federation.backend_status(&caller.tenant, id(&request)?).await?;
    Answer::ok(&StatusBody::from(view))
}

pub(crate) async fn sync(mut request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let caller = caller(&request, &operator)?;
    let id = id(&request)?;
    let body: SyncBody = request.optional_json().await?;
    let started = request.federation.sync_backend(&caller.tenant, id, body.confirm_deletions).await?;
    let SyncStarted { id, at, already_running } = started;
    Answer::json(
        StatusCode::ACCEPTED,
        &StartedBody {
            sync_id: id.to_string(),
            status: if already_running { "already_running" } else { "started" },
            started_at: at,
        },
    )
}

pub(crate) async fn conflicts(request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let caller = caller(&request, &operator)?;
    let after: Option<ConflictId> = cursor(&request)?;
    let rows = request.federation.conflicts(&caller.tenant, id(&request)?)?;
    let (page, next) = page_of(rows, |row| row.conflict.id, after, limit(&request)?);
    Answer::ok(&ConflictPage {
        conflicts: page.into_iter().map(ConflictBody::from).collect(),
        has_more: next.is_some(),
        cursor: next.map(|id| cursor_text(&id)),
    })
}

pub(crate) async fn resolve(mut request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let caller = caller(&request, &operator)?;
    // It changes a secret as well as the backend's state (contract B.2).
    if !operator.may(Scope::SecretsWrite) {
        return Err(Problem::permission_denied(Scope::SecretsWrite));
    }
    let id = id(&request)?;
    let conflict = request.argument("conflict_id").parse().map_err(|_| {
        Problem::new(Code::ConflictNotFound, "there is no such conflict: list them to see their ids")
    })?;
    let body: ResolveBody = request.json().await?;
    let take_remote = match body.strategy.as_str() {
        "take_remote" => true,
        "keep_local" => false,
        _ => {
            let detail = "strategy is keep_local or take_remote";
            return Err(Problem::field(Code::InvalidValue, "strategy", detail));
        }
    };
    request.federation.resolve_conflict(&operator, &caller.tenant, id, conflict, take_remote).await?;
    Ok(Answer::no_content())
}

pub(crate) async fn explain(request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let caller = caller(&request, &operator)?;
    let explanation = request.federation.explain_path(&caller.tenant, &path(&request)?)?;
    Answer::ok(&explanation)
}

fn new_backend(body: NewBody) -> Result<NewBackend, Problem> {
    let kind = body
        .kind
        .parse()
        .map_err(|error| Problem::field(Code::InvalidValue, "type", format!("type {error}")))?;
    Ok(NewBackend {
        name: body.name,
        kind,
        config: body.config.get().to_owned(),
        path_mapping: body.path_mapping,
        mode: mode(&body.mode)?,
        sync_interval: body.sync_interval,
        write_through: body.write_through,
        enabled: body.enabled,
    })
}

fn id(request: &Request) -> Result<BackendId, Problem> {
    // A malformed id is one that nobody has.
    request
        .argument("backend_id")
        .parse()
        .map_err(|_| Problem::new(Code::BackendNotFound, "there is no such backend: its id begins with fed_"))
}

fn mode(text: &str) -> Result<Mode, Problem> {
    text.parse().map_err(|error| Problem::field(Code::InvalidValue, "mode", format!("mode {error}")))
}

impl BackendBody {
    fn of(row: &Backend, warnings: Vec<String>) -> Self {
        let interval = row.sync_interval_seconds.filter(|_| row.mode == Mode::Sync);
        Self {
            id: row.id.to_string(),
            name: row.name.clone(),
            kind: row.kind.as_str(),
            config: serde_json::from_str(&row.config).unwrap_or_default(),
            path_mapping: row.path_mapping.clone(),
            mode: row.mode.as_str(),
            sync_interval: interval.map(|seconds| duration::text(std::time::Duration::from_secs(seconds))),
            write_through: row.write_through,
            enabled: row.enabled,
            created_at: row.created_at,
            updated_at: row.updated_at,
            warnings,
        }
    }
}

impl From<BackendStatusView> for StatusBody {
    fn from(view: BackendStatusView) -> Self {
        let is_sync = view.backend.mode == Mode::Sync;
        let run = view.sync.completed.as_ref().filter(|_| is_sync);
        let millis = |span: std::time::Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let last = view.sync.last.as_ref().filter(|_| is_sync);
        Self {
            id: view.backend.id.to_string(),
            name: view.backend.name.clone(),
            status: view.status.as_str(),
            last_sync: run.map(|run| run.ended_at),
            last_sync_duration_ms: run.map(|run| millis(run.ended_at.since(run.begun_at))),
            secrets_synced: if is_sync { view.sync.copies } else { 0 },
            connection: ConnectionBody {
                status: view.connection.as_str(),
                latency_ms: view.latency.map(millis),
            },
            last_error: view.last_error.as_ref().map(|(error, _)| error.clone()),
            last_error_at: view.last_error.as_ref().map(|(_, at)| *at),
            next_sync: view.sync.next_at.filter(|_| is_sync && view.backend.enabled),
            conflicts_open: view.conflicts_open,
            secrets_skipped: last.map_or(0, |run| run.counts.skipped),
            consecutive_failures: view.consecutive_failures,
            deletions_guarded: view.sync.guarded,
            last_run: last.map(RunBody::from),
            resting_until: view.resting_until,
            reads_waiting: view.reads_waiting,
            warnings: view.warnings,
        }
    }
}

impl From<ConflictView> for ConflictBody {
    fn from(ConflictView { conflict, local_updated_at }: ConflictView) -> Self {
        let print = |text: String| Some(text).filter(|text| !text.is_empty());
        Self {
            id: conflict.id.to_string(),
            path: conflict.path.to_string(),
            backend_path: conflict.names.join(", "),
            kind: conflict.kind.as_str(),
            detected_at: conflict.detected_at,
            last_seen_at: conflict.last_seen_at,
            local: SideBody {
                version: Some(conflict.local_version.to_string()),
                updated_at: local_updated_at,
                fingerprint: print(conflict.local_fingerprint),
            },
            remote: SideBody {
                version: conflict.remote_version,
                updated_at: conflict.remote_updated_at,
                fingerprint: print(conflict.remote_fingerprint),
            },
            kept_local: conflict.kept_local,
        }
    }
}
