//! What a coordinator pushes to this site over HTTP (contract B7), what the site holds of it, and the
//! credentials that the site asks for.

use std::sync::Arc;

use axum::http::StatusCode;
use hansa_actors::ConnectorView;
use hansa_model::id::{CommandId, PolicyId};
use hansa_model::limits::inbox as limits;
use hansa_model::push::{
    CommandCancel, CommandPush, LeasePush, LeaseWord, PolicyPush, PolicyWithdrawal, PushContent,
};
use hansa_model::received::{PolicyWish, ReceivedCommand, ReceivedLease, ReceivedPolicy};
use hansa_model::report::LeaseRequest;
use hansa_model::scope::Operator;
use hansa_model::{HostId, Secret, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::answer::{Answer, Licensed};
use crate::code::Code;
use crate::json;
use crate::problem::Problem;
use crate::request::Request;

/// A policy for this site, or the word that it is withdrawn. Unknown members are ignored.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = PolicyPush)]
pub(crate) struct PolicyPushBody {
    #[schema(value_type = Uuid)]
    policy_id: PolicyId,
    /// Chooses the connector. Required unless withdrawn.
    #[serde(default)]
    policy_type: Option<String>,
    /// For people.
    #[serde(default)]
    name: Option<String>,
    /// Required unless withdrawn.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    definition: Option<Map<String, Value>>,
    /// From one, rising.
    version: u32,
    /// The policy is no longer wanted at this or an older version.
    #[serde(default)]
    withdrawn: bool,
}

impl PolicyPushBody {
    fn content(self) -> Result<PushContent, Problem> {
        if self.version == 0 {
            return Err(invalid("version", "version must be above zero"));
        }
        if self.withdrawn {
            let (policy_id, version) = (self.policy_id, self.version);
            return Ok(PushContent::WithdrawPolicy(PolicyWithdrawal { policy_id, version }));
        }
        let definition = self.definition.ok_or_else(|| absent("definition"))?;
        Ok(PushContent::Policy(PolicyPush {
            policy_id: self.policy_id,
            policy_type: label("policy_type", self.policy_type)?,
            name: label("name", self.name)?,
            definition: Value::Object(definition).to_string(),
            version: self.version,
        }))
    }
}

/// A command for this site, or the word that it is cancelled. Unknown members are ignored.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = CommandPush)]
pub(crate) struct CommandPushBody {
    /// Names one execution, for ever.
    #[schema(value_type = Uuid)]
    command_id: CommandId,
    /// Chooses the connector. Required unless cancelled.
    #[serde(default)]
    command_type: Option<String>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    parameters: Option<Map<String, Value>>,
    /// Empty or absent means all hosts.
    #[serde(default)]
    #[schema(value_type = Option<Vec<Uuid>>)]
    target_host_ids: Option<Vec<HostId>>,
    /// Not to be started from this instant on.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// Do not start it; stop it if it runs.
    #[serde(default)]
    cancelled: bool,
}

impl CommandPushBody {
    fn content(self) -> Result<PushContent, Problem> {
        let command_id = self.command_id;
        if self.cancelled {
            return Ok(PushContent::CancelCommand(CommandCancel { command_id }));
        }
        Ok(PushContent::Command(CommandPush {
            command_id,
            command_type: label("command_type", self.command_type)?,
            parameters: Value::Object(self.parameters.unwrap_or_default()).to_string(),
            target_host_ids: self.target_host_ids.unwrap_or_default(),
            expires_at: self.expires_at,
        }))
    }
}

/// A word on a lease. Unknown members are ignored. The value is handed on and never stored.
#[derive(Deserialize, ToSchema)]
#[schema(as = LeasePush)]
pub(crate) struct LeasePushBody {
    /// The site's own key of its request.
    correlation_key: String,
    #[serde(default)]
    host_id: Option<String>,
    #[serde(default)]
    secret_name: Option<String>,
    /// `issued`, `failed` or `revoked`.
    #[schema(value_type = String)]
    status: LeaseWord,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    secret_metadata: Option<Map<String, Value>>,
    /// The credential.
    #[serde(default)]
    secret_value: Option<String>,
    #[serde(default)]
    error: Option<String>,
    /// The end of the credential.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
}

impl LeasePushBody {
    fn content(self) -> Result<LeasePush, Problem> {
        let metadata = self.secret_metadata.map(|metadata| Value::Object(metadata).to_string());
        if metadata.as_ref().is_some_and(|text| text.len() > limits::METADATA_BYTES_MAX) {
            return Err(invalid("secret_metadata", "secret_metadata is too large"));
        }
        let optional = |field, text: Option<String>| match text {
            Some(text) => label(field, Some(text)),
            None => Ok(String::new()),
        };
        Ok(LeasePush {
            lease_id: None,
            correlation_key: label("correlation_key", Some(self.correlation_key))?,
            host_id: optional("host_id", self.host_id)?,
            secret_name: optional("secret_name", self.secret_name)?,
            status: self.status,
            secret_metadata: metadata,
            secret_value: self.secret_value.map(Secret::new),
            error: self.error,
            expires_at: self.expires_at,
        })
    }
}

/// A policy as the site holds it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ReceivedPolicy)]
pub(crate) struct ReceivedPolicyBody {
    policy_id: Uuid,
    policy_type: String,
    name: String,
    /// JSON text of an object.
    definition_json: String,
    version: u32,
    #[schema(value_type = String, format = DateTime)]
    received_at: Timestamp,
    /// This version is in force.
    applied: bool,
    #[schema(value_type = Option<String>, format = DateTime)]
    applied_at: Option<Timestamp>,
    /// What the last try failed with; the tries go on.
    apply_error: Option<String>,
    /// The coordinator no longer wants it.
    withdrawn: bool,
}

impl ReceivedPolicyBody {
    fn new(id: PolicyId, row: ReceivedPolicy) -> Self {
        Self {
            policy_id: id.0,
            applied: row.applied(),
            policy_type: row.policy_type,
            name: row.name,
            definition_json: row.definition,
            version: row.version,
            received_at: row.received_at,
            applied_at: row.applied_at,
            apply_error: row.apply_error,
            withdrawn: row.wish != PolicyWish::Apply,
        }
    }
}

/// A command as the site holds it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ReceivedCommand)]
pub(crate) struct ReceivedCommandBody {
    id: Uuid,
    command_type: String,
    #[schema(value_type = Object)]
    parameters: Value,
    /// Empty means all hosts.
    target_host_ids: Vec<Uuid>,
    #[schema(value_type = String, format = DateTime)]
    received_at: Timestamp,
    /// `queued`, `in_progress`, `completed` or `failed`.
    status: &'static str,
    /// What the coordinator is told: so far while it runs, whole at the end.
    #[schema(value_type = Option<Object>)]
    result: Option<Value>,
    #[schema(value_type = Option<String>, format = DateTime)]
    completed_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// The coordinator wants it stopped.
    cancelled: bool,
}

impl ReceivedCommandBody {
    fn new(id: CommandId, row: ReceivedCommand) -> Self {
        let value = |text: &str| serde_json::from_str(text).unwrap_or(Value::Null);
        Self {
            id: id.0,
            command_type: row.command_type,
            parameters: value(&row.parameters),
            target_host_ids: row.target_host_ids.iter().map(|host| host.0).collect(),
            received_at: row.received_at,
            status: row.state.as_str(),
            result: row.result.as_deref().map(value),
            completed_at: row.completed_at,
            expires_at: row.expires_at,
            cancelled: row.cancelled,
        }
    }
}

/// The policy that is held now.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PolicyPushAnswer {
    #[schema(value_type = bool)]
    licensed: Licensed,
    policy: Option<ReceivedPolicyBody>,
}

/// The command that is held now; null of one that ended long ago.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CommandPushAnswer {
    #[schema(value_type = bool)]
    licensed: Licensed,
    command: Option<ReceivedCommandBody>,
}

/// What is recorded of the lease. Never a value.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LeasePushAnswer {
    #[schema(value_type = bool)]
    licensed: Licensed,
    /// `issued`, `failed`, `revoked` or `expired`.
    status: &'static str,
    /// The lease's name at this site: its correlation key.
    id: String,
    correlation_key: String,
}

/// What the site holds of its coordinator's policies.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReceivedPoliciesAnswer {
    #[schema(value_type = bool)]
    licensed: Licensed,
    policies: Vec<ReceivedPolicyBody>,
}

/// The newest commands that the site was sent.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReceivedCommandsAnswer {
    #[schema(value_type = bool)]
    licensed: Licensed,
    commands: Vec<ReceivedCommandBody>,
}

/// A credential to ask the coordinator for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewSecretRequest)]
pub(crate) struct SecretRequestBody {
    /// The host that it is for.
    host_id: String,
    secret_name: String,
    /// Role at the issuer.
    backend_role: String,
    /// `database`, `ssh` or `token`.
    kind: String,
    /// Life wanted, 60 to 86,400 seconds; the coordinator's choice when absent.
    #[serde(default)]
    ttl_seconds: Option<u64>,
}

/// A credential that the site asked for, or was sent. Never its value.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SecretRequest)]
pub(crate) struct SecretRequestRow {
    correlation_key: String,
    host_id: String,
    secret_name: String,
    backend_role: Option<String>,
    kind: Option<String>,
    ttl_seconds: Option<u64>,
    /// `requested`, `issued`, `failed`, `revoked` or `expired`.
    status: &'static str,
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
    #[schema(value_type = String, format = DateTime)]
    requested_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    received_at: Option<Timestamp>,
    /// When the connector took the credential last.
    #[schema(value_type = Option<String>, format = DateTime)]
    delivered_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    last_error: Option<String>,
}

impl SecretRequestRow {
    fn new(correlation_key: String, row: ReceivedLease) -> Self {
        Self {
            correlation_key,
            host_id: row.host_id,
            secret_name: row.secret_name,
            backend_role: row.backend_role,
            kind: row.kind,
            ttl_seconds: row.ttl_seconds,
            status: row.state.as_str(),
            metadata: row.metadata.and_then(|text| serde_json::from_str(&text).ok()),
            requested_at: row.requested_at,
            received_at: row.received_at,
            delivered_at: row.delivered_at,
            expires_at: row.expires_at,
            last_error: row.last_error,
        }
    }
}

/// The newest credentials that the site asked for, or was sent.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SecretRequests {
    items: Vec<SecretRequestRow>,
}

/// The connectors that the node's owner declared.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ConnectorsAnswer {
    items: Vec<ConnectorBody>,
}

/// A connector. Never a credential.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Connector)]
pub(crate) struct ConnectorBody {
    name: String,
    /// Such as `command:reboot`, `policy:*`.
    kinds: Vec<String>,
    /// `program`, `webhook` or `echo`.
    way: &'static str,
    /// One run for each host, instead of one for all.
    per_host: bool,
    /// Seconds that one run may take.
    wait_seconds: u64,
}

impl From<ConnectorView> for ConnectorBody {
    fn from(view: ConnectorView) -> Self {
        Self {
            name: view.name,
            kinds: view.kinds,
            way: view.way,
            per_host: view.per_host,
            wait_seconds: view.wait_max.as_secs(),
        }
    }
}

pub(crate) async fn push_policy(mut request: Request) -> Result<Answer, Problem> {
    let body: PolicyPushBody = json::parse(&request.signed_by_coordinator().await?)?;
    let id = body.policy_id;
    let row = request.federation.receive_policy(id, body.content()?).await?;
    let policy = row.map(|row| ReceivedPolicyBody::new(id, row));
    Answer::ok(&PolicyPushAnswer { licensed: Licensed, policy })
}

pub(crate) async fn push_command(mut request: Request) -> Result<Answer, Problem> {
    let body: CommandPushBody = json::parse(&request.signed_by_coordinator().await?)?;
    let id = body.command_id;
    let row = request.federation.receive_command(id, body.content()?).await?;
    let command = row.map(|row| ReceivedCommandBody::new(id, row));
    Answer::ok(&CommandPushAnswer { licensed: Licensed, command })
}

pub(crate) async fn push_lease(mut request: Request) -> Result<Answer, Problem> {
    let body: LeasePushBody = json::parse(&request.signed_by_coordinator().await?)?;
    let push = body.content()?;
    let correlation_key = push.correlation_key.clone();
    let status = request.federation.receive_lease(push).await?.as_str();
    let id = correlation_key.clone();
    Answer::ok(&LeasePushAnswer { licensed: Licensed, status, id, correlation_key })
}

pub(crate) fn policies(request: &Request) -> Result<Answer, Problem> {
    let rows = request.federation.received_policies()?;
    let held = rows.into_iter().filter(|(_, row)| row.wish != PolicyWish::Gone);
    let policies = held.map(|(id, row)| ReceivedPolicyBody::new(id, row)).collect();
    Answer::ok(&ReceivedPoliciesAnswer { licensed: Licensed, policies })
}

pub(crate) fn commands(request: &Request) -> Result<Answer, Problem> {
    let rows = request.federation.received_commands(limit(request)?)?;
    let commands = rows.into_iter().map(|(id, row)| ReceivedCommandBody::new(id, row)).collect();
    Answer::ok(&ReceivedCommandsAnswer { licensed: Licensed, commands })
}

pub(crate) async fn request_secret(mut request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let body: SecretRequestBody = request.json().await?;
    let wish = LeaseRequest {
        correlation_key: String::new(),
        host_id: body.host_id,
        secret_name: body.secret_name,
        backend_role: body.backend_role,
        kind: body.kind,
        ttl_seconds: body.ttl_seconds,
    };
    let (key, row) = request.federation.request_lease(&operator, wish).await?;
    Answer::json(StatusCode::CREATED, &SecretRequestRow::new(key, row))
}

pub(crate) fn secret_requests(request: &Request) -> Result<Answer, Problem> {
    let rows = request.federation.received_leases(limit(request)?)?;
    let items = rows.into_iter().map(|(key, row)| SecretRequestRow::new(key, row)).collect();
    Answer::ok(&SecretRequests { items })
}

pub(crate) fn connectors(request: &Request) -> Result<Answer, Problem> {
    let items = request.federation.connectors().into_iter().map(ConnectorBody::from).collect();
    Answer::ok(&ConnectorsAnswer { items })
}

fn limit(request: &Request) -> Result<usize, Problem> {
    let limit = request.query()?.number("limit", 1..=limits::LIMIT_MAX)?;
    Ok(limit.unwrap_or(limits::LIMIT_DEFAULT))
}

fn label(field: &'static str, text: Option<String>) -> Result<String, Problem> {
    let text = text.ok_or_else(|| absent(field))?;
    if text.trim().is_empty() {
        return Err(invalid(field, format!("{field} must not be blank")));
    }
    if text.len() > limits::LABEL_BYTES_MAX {
        let max = limits::LABEL_BYTES_MAX;
        return Err(invalid(field, format!("{field} may have at most {max} bytes")));
    }
    Ok(text)
}

fn absent(field: &'static str) -> Problem {
    Problem::field(Code::InvalidBody, field, format!("{field} is missing"))
}

fn invalid(field: &'static str, detail: impl Into<std::borrow::Cow<'static, str>>) -> Problem {
    Problem::field(Code::InvalidValue, field, detail)
}
