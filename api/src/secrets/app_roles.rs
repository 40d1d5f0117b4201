//! AppRoles: programs that log in to the Vault-speaking surface (ours).

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::http::StatusCode;
use hansa_model::Timestamp;
use hansa_model::limits::secrets as limits;
use hansa_model::scope::{Operator, Scope};
use hansa_model::secrets::duration;
use hansa_model::secrets::vault::AppRole;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::caller;
use crate::answer::Answer;
use crate::code::Code;
use crate::problem::Problem;
use crate::request::Request;

/// An AppRole. Never a secret id.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AppRole)]
pub(crate) struct AppRoleBody {
    /// Stands in policies and the audit log as `approle:NAME`.
    name: String,
    /// What it logs in as.
    role_id: String,
    scopes: Vec<&'static str>,
    /// Life of its tokens, such as `1h`.
    token_ttl: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    created_by: String,
}

/// A tenant's AppRoles.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AppRoleList {
    /// By name.
    approles: Vec<AppRoleBody>,
}

/// An AppRole to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewAppRole)]
pub(crate) struct NewBody {
    /// 1 to 128 letters, digits and `. _ -`.
    name: String,
    /// Default `secrets:read secrets:list`; none that its maker does not hold.
    scopes: Option<Vec<String>>,
    /// Such as `1h`, which is the default; at most `30d`.
    token_ttl: Option<String>,
}

/// How a secret id is made.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewSecretId)]
pub(crate) struct SecretIdRequest {
    /// Such as `90d`; absent does not end.
    ttl: Option<String>,
}

/// A secret id; shown once.
#[derive(Serialize, ToSchema)]
pub(crate) struct SecretId {
    role_id: String,
    secret_id: String,
    /// Names the secret id without being it.
    accessor: String,
}

/// A secret id as it is listed. Never the secret id itself.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SecretIdEntry)]
pub(crate) struct SecretIdEntry {
    accessor: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Null does not end.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
}

/// An AppRole's secret ids that have not ended.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SecretIdList {
    /// Oldest first.
    secret_ids: Vec<SecretIdEntry>,
}

pub(crate) async fn list(request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let caller = caller(&request, &operator)?;
    let roles = request.federation.app_roles(&caller.tenant)?;
    Answer::ok(&AppRoleList { approles: roles.into_iter().map(AppRoleBody::from).collect() })
}

pub(crate) async fn create(mut request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let caller = caller(&request, &operator)?;
    let body: NewBody = request.json().await?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if body.name.is_empty() || body.name.len() > limits::NAME_BYTES_MAX || !body.name.bytes().all(plain) {
        let detail = "name has 1 to 128 letters, digits and . _ -";
        return Err(Problem::field(Code::InvalidValue, "name", detail));
    }
    let scopes: BTreeSet<Scope> = match body.scopes {
        None => [Scope::SecretsRead, Scope::SecretsList].into(),
        Some(texts) => texts
            .iter()
            .map(|text| text.parse())
            .collect::<Result<_, _>>()
            .map_err(|_| Problem::field(Code::InvalidValue, "scopes", "scopes: an entry is no scope"))?,
    };
    let ttl = span("token_ttl", body.token_ttl)?;
    let role = request.federation.add_app_role(&operator, &caller.tenant, &body.name, scopes, ttl).await?;
    Answer::json(StatusCode::CREATED, &AppRoleBody::from(role))
}

pub(crate) async fn remove(request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let caller = caller(&request, &operator)?;
    request.federation.remove_app_role(&operator, &caller.tenant, request.argument("name")).await?;
    Ok(Answer::no_content())
}

pub(crate) async fn add_secret_id(mut request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let caller = caller(&request, &operator)?;
    let body: SecretIdRequest = request.optional_json().await?;
    let ttl = span("ttl", body.ttl)?;
    let name = request.argument("name").to_owned();
    let (role, view, secret) =
        request.federation.add_secret_id(&operator, &caller.tenant, &name, ttl).await?;
    let shown =
        SecretId { role_id: role.role_id, secret_id: secret.expose().clone(), accessor: view.accessor };
    Answer::json(StatusCode::CREATED, &shown)
}

pub(crate) async fn list_secret_ids(request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let caller = caller(&request, &operator)?;
    let views = request.federation.secret_ids(&caller.tenant, request.argument("name"))?;
    let secret_ids = views
        .into_iter()
        .map(|view| SecretIdEntry {
            accessor: view.accessor,
            created_at: view.created_at,
            expires_at: view.expires_at,
        })
        .collect();
    Answer::ok(&SecretIdList { secret_ids })
}

pub(crate) async fn remove_secret_id(request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let caller = caller(&request, &operator)?;
    let (name, accessor) = (request.argument("name"), request.argument("accessor"));
    request.federation.remove_secret_id(&operator, &caller.tenant, name, accessor).await?;
    Ok(Answer::no_content())
}

fn span(field: &str, text: Option<String>) -> Result<Option<std::time::Duration>, Problem> {
    let parsed = text.map(|text| duration::parse(&text)).transpose();
    parsed.map_err(|error| Problem::new(Code::InvalidDuration, format!("{field} {error}")))
}

impl From<AppRole> for AppRoleBody {
    fn from(role: AppRole) -> Self {
        Self {
            name: role.name,
            role_id: role.role_id,
            scopes: role.scopes.iter().map(|scope| scope.as_str()).collect(),
            token_ttl: duration::text(std::time::Duration::from_secs(role.token_ttl_seconds)),
            created_at: role.created_at,
            created_by: role.created_by,
        }
    }
}
