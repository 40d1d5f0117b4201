//! Secret leases: what sites ask for, and what operators see and revoke (contract B5, B6, 10).

use std::sync::Arc;

use hansa_actors::view::LeaseFilter;
use hansa_model::lease::Lease;
use hansa_model::limits::lease as limits;
use hansa_model::report::LeaseRequest;
use hansa_model::scope::Operator;
use hansa_model::{SiteId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::answer::{Answer, Licensed};
use crate::json::{self, Count};
use crate::problem::Problem;
use crate::request::Request;

/// A lease of a short-lived credential. Never the credential.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Lease)]
pub(crate) struct LeaseBody {
    id: Uuid,
    site_id: Uuid,
    /// As the site calls it.
    host_id: String,
    secret_name: String,
    /// Role at the issuer.
    backend_role: String,
    /// `database`, `ssh` or `token`.
    kind: &'static str,
    /// `requested`, `active`, `failed`, `revoked` or `expired`.
    status: &'static str,
    /// Where the issuer has it.
    vault_lease_id: Option<String>,
    ttl_seconds: u32,
    #[schema(value_type = String, format = DateTime)]
    requested_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    issued_at: Option<Timestamp>,
    /// End of the present credential.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_renewed_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    revoked_at: Option<Timestamp>,
    /// When the site took the present credential; null while it has not.
    #[schema(value_type = Option<String>, format = DateTime)]
    delivered_at: Option<Timestamp>,
    last_error: Option<String>,
    /// What the host is told beside the credential, such as a user name.
    #[schema(value_type = Option<Object>)]
    secret_metadata: Value,
}

impl From<Lease> for LeaseBody {
    fn from(lease: Lease) -> Self {
        let metadata = lease.secret_metadata.as_deref();
        Self {
            id: lease.id.0,
            site_id: lease.site_id.0,
            host_id: lease.host_id,
            secret_name: lease.secret_name,
            backend_role: lease.backend_role,
            kind: lease.kind.as_str(),
            status: lease.status.as_str(),
            vault_lease_id: lease.vault_lease_id,
            ttl_seconds: lease.ttl_seconds,
            requested_at: lease.requested_at,
            issued_at: lease.issued_at,
            expires_at: lease.expires_at,
            last_renewed_at: lease.last_renewed_at,
            revoked_at: lease.revoked_at,
            delivered_at: lease.delivered_at,
            last_error: lease.last_error,
            // The coordinator wrote it as an object.
            secret_metadata: metadata.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default(),
        }
    }
}

/// Leases, newest request first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LeasesAnswer {
    #[schema(value_type = bool)]
    licensed: Licensed,
    leases: Vec<LeaseBody>,
}

/// One lease.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LeaseAnswer {
    #[schema(value_type = bool)]
    licensed: Licensed,
    lease: LeaseBody,
}

impl LeaseAnswer {
    fn new(lease: Lease) -> Self {
        Self { licensed: Licensed, lease: lease.into() }
    }
}

/// A site's request for a credential. A repeat of the correlation key is the same request.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = SecretLeaseRequest)]
pub(crate) struct LeaseRequestBody {
    /// The site's own key; 32 hexadecimal digits.
    correlation_key: String,
    /// The host that the credential is for.
    host_id: String,
    secret_name: String,
    /// Role at the issuer.
    backend_role: String,
    /// `database`, `ssh` or `token`.
    kind: String,
    /// Life wanted; 60 to 86400, 1800 when absent. May be numeric text.
    ttl_seconds: Option<Count>,
}

impl From<LeaseRequestBody> for LeaseRequest {
    fn from(body: LeaseRequestBody) -> Self {
        Self {
            correlation_key: body.correlation_key,
            host_id: body.host_id,
            secret_name: body.secret_name,
            backend_role: body.backend_role,
            kind: body.kind,
            ttl_seconds: body.ttl_seconds.map(|seconds| seconds.0),
        }
    }
}

pub(crate) fn list(request: &Request, operator: &Operator) -> Result<Answer, Problem> {
    let query = request.query()?;
    let filter = LeaseFilter {
        site: query.word("site_id")?,
        status: query.word("status")?,
        limit: query.number("limit", 1..=limits::LIST_MAX)?.unwrap_or(limits::LIST_DEFAULT),
    };
    let leases = request.federation.leases(operator, &filter)?;
    Answer::ok(&LeasesAnswer {
        licensed: Licensed,
        leases: leases.into_iter().map(LeaseBody::from).collect(),
    })
}

pub(crate) fn show(request: &Request, operator: &Operator) -> Result<Answer, Problem> {
    let lease = request.federation.lease(operator, request.id("lease_id")?)?;
    Answer::ok(&LeaseAnswer::new(lease))
}

pub(crate) async fn revoke(request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let lease = request.federation.revoke_lease(&operator, request.id("lease_id")?).await?;
    Answer::ok(&LeaseAnswer::new(lease))
}

pub(crate) async fn ask(mut request: Request, site: SiteId) -> Result<Answer, Problem> {
    let body: LeaseRequestBody = json::parse(&request.signed(site).await?)?;
    let lease = request.federation.ingest_lease_request(site, body.into()).await?;
    Answer::ok(&LeaseAnswer::new(lease))
}
