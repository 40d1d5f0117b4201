//! Tenants (ours; contract A.4 says what they are).

use std::sync::Arc;

use axum::http::StatusCode;
use hansa_model::Timestamp;
use hansa_model::limits::secrets as limits;
use hansa_model::scope::Operator;
use hansa_model::secrets::id::TenantId;
use hansa_model::secrets::tenant::{DEFAULT_PARTNER, Tenant};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{cursor, cursor_text, limit, page_of};
use crate::answer::Answer;
use crate::code::Code;
use crate::problem::Problem;
use crate::request::Request;

/// A tenant.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Tenant)]
pub(crate) struct TenantBody {
    id: String,
    partner_id: String,
    name: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

/// A page of tenants.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TenantPage {
    tenants: Vec<TenantBody>,
    /// Give it as `cursor` to get the next page; null on the last one.
    cursor: Option<String>,
    has_more: bool,
}

/// A tenant to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewTenant)]
pub(crate) struct NewBody {
    /// 1 to 64 letters, digits, `-` and `_`; as tokens name it.
    id: String,
    /// Likewise; default `ptn_default`.
    partner_id: Option<String>,
    /// For people; default the id.
    name: Option<String>,
}

pub(crate) fn list(request: &Request, operator: &Operator) -> Result<Answer, Problem> {
    let after: Option<TenantId> = cursor(request)?;
    let (page, next) =
        page_of(request.federation.tenants(operator), |row| row.id.clone(), after, limit(request)?);
    Answer::ok(&TenantPage {
        tenants: page.into_iter().map(TenantBody::from).collect(),
        has_more: next.is_some(),
        cursor: next.map(|id| cursor_text(&id)),
    })
}

pub(crate) async fn create(mut request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let body: NewBody = request.json().await?;
    let plain = |field: &'static str, text: &str| {
        text.parse::<TenantId>().map_err(|_| {
            let detail = format!("{field} has 1 to 64 letters, digits, - and _");
            Problem::field(Code::InvalidValue, field, detail)
        })
    };
    let id = plain("id", &body.id)?;
    let partner = plain("partner_id", body.partner_id.as_deref().unwrap_or(DEFAULT_PARTNER))?.to_string();
    let name = body.name.unwrap_or_else(|| body.id.clone());
    if name.is_empty() || name.len() > limits::NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(Problem::field(Code::InvalidValue, "name", "name has 1 to 128 printable characters"));
    }
    let tenant = request.federation.add_tenant(&operator, id, partner, name).await?;
    Answer::json(StatusCode::CREATED, &TenantBody::from(tenant))
}

pub(crate) async fn remove(request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let unknown =
        || Problem::new(Code::TenantNotFound, "there is no such tenant: list them to see their ids");
    let tenant = request.argument("tenant").parse().map_err(|_| unknown())?;
    request.federation.remove_tenant(&operator, tenant).await?;
    Ok(Answer::no_content())
}

impl From<Tenant> for TenantBody {
    fn from(tenant: Tenant) -> Self {
        Self {
            id: tenant.id.to_string(),
            partner_id: tenant.partner,
            name: tenant.name,
            created_at: tenant.created_at,
        }
    }
}
