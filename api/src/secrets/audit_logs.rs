//! What was done with secrets: a tenant's rows of the node's audit log (contract C.4).

use std::collections::BTreeMap;
use std::sync::Arc;

use hansa_model::Timestamp;
use hansa_model::audit::{AuditEntry, Detail};
use hansa_model::scope::Operator;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{CURSOR, LIMIT, caller, cursor, cursor_text, limit};
use crate::answer::Answer;
use crate::problem::Problem;
use crate::request::Request;
use crate::route::{Parameter, ParameterKind};

/// The parameters of the list.
pub(crate) const QUERY: &[Parameter] = &[
    Parameter { name: "action", kind: ParameterKind::Text, description: "exactly this action" },
    Parameter { name: "secret_path", kind: ParameterKind::Text, description: "exactly this path" },
    Parameter { name: "identity_id", kind: ParameterKind::Text, description: "by exactly this identity" },
    LIMIT,
    CURSOR,
];

/// One row. Never a value.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditLog)]
pub(crate) struct LogBody {
    id: String,
    #[schema(value_type = String, format = DateTime)]
    timestamp: Timestamp,
    /// Such as `read`, `write`, `delete`, `list`, `federation_sync`.
    action: String,
    /// `user`, `client` or `system`.
    identity_type: &'static str,
    identity_id: Option<String>,
    secret_path: Option<String>,
    /// Where the connection came from: behind a proxy the proxy's address. Null for the node's own socket file,
    /// for what the node does by itself, and for rows that are not about one secret.
    source_ip: Option<String>,
    user_agent: Option<String>,
    success: bool,
    duration_ms: Option<i64>,
    request_id: Option<String>,
    /// What else there is to say, by action.
    #[schema(value_type = Object)]
    extra_data: BTreeMap<String, Value>,
}

/// A page of rows, newest first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditLogPage)]
pub(crate) struct LogPage {
    logs: Vec<LogBody>,
    /// Give it as `cursor` to get the next page; null on the last one.
    cursor: Option<String>,
    has_more: bool,
}

pub(crate) async fn list(request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let caller = caller(&request, &operator)?;
    let query = request.query()?;
    let wanted = hansa_actors::SecretLogFilter {
        action: query.text("action")?,
        secret_path: query.text("secret_path")?,
        identity: query.text("identity_id")?,
    };
    let before: Option<u64> = cursor(&request)?;
    request.federation.settle_audit().await?;
    let (entries, next) =
        request.federation.secret_logs(&caller.tenant, &wanted, before, limit(&request)?)?;
    Answer::ok(&LogPage {
        logs: entries.into_iter().map(LogBody::from).collect(),
        has_more: next.is_some(),
        cursor: next.map(|number| cursor_text(&number)),
    })
}

impl From<AuditEntry> for LogBody {
    fn from(entry: AuditEntry) -> Self {
        let draft = entry.draft;
        let mut details = draft.details;
        let mut text = |name: &str| match details.remove(name) {
            Some(Detail::Text(text)) => Some(text),
            Some(_) | None => None,
        };
        let secret_path = text("secret_path");
        let user_agent = text("user_agent");
        let request_id = text("request_id");
        let source_ip = text("source_ip");
        text("tenant");
        text("identity_type");
        let success = !matches!(details.remove("success"), Some(Detail::Bool(false)));
        let duration_ms = match details.remove("duration_ms") {
            Some(Detail::Int(millis)) => Some(millis),
            Some(_) | None => None,
        };
        let identity_type = match draft.actor_userid.as_deref() {
            Some(id) if id.starts_with("system:") || id.starts_with("federation:") => "system",
            Some(id) if id.starts_with("approle:") || id.starts_with("api-key:") => "client",
            Some(_) => "user",
            None => "system",
        };
        let action = draft.operation.strip_prefix("secret_").unwrap_or(&draft.operation);
        Self {
            id: format!("log_{}", draft.id.0.simple()),
            timestamp: draft.created_at,
            action: action.to_owned(),
            identity_type,
            identity_id: draft.actor_userid,
            secret_path,
            source_ip,
            user_agent,
            success,
            duration_ms,
            request_id,
            extra_data: details.into_iter().map(|(name, value)| (name, Value::from(value))).collect(),
        }
    }
}
