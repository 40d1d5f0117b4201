//! Bodies and handlers of the secret federation API (`/v1`), one file per noun.
//!
//! Whose secrets a request is about is settled here, in one place: [`caller`].

pub(crate) mod app_roles;
pub(crate) mod audit_logs;
pub(crate) mod backends;
pub(crate) mod policies;
pub(crate) mod tenants;
pub(crate) mod values;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hansa_actors::Caller;
use hansa_actors::backends::error::{BackendError, BackendFailure, SecretError, TenantError};
use hansa_model::limits::secrets as limits;
use hansa_model::scope::Operator;
use hansa_model::secrets::mapping::InvalidMapping;
use hansa_model::secrets::path::SecretPath;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::code::Code;
use crate::problem::Problem;
use crate::request::Request;
use crate::route::{Parameter, ParameterKind};

const LIMIT: Parameter = Parameter {
    name: "limit",
    kind: ParameterKind::Integer,
    description: "rows of the page, 1 to 1,000; default 100",
};
const CURSOR: Parameter = Parameter {
    name: "cursor",
    kind: ParameterKind::Text,
    description: "what the page before gave as cursor",
};

/// The parameters of a list (contract A.7).
pub(crate) const LIST_QUERY: &[Parameter] = &[LIMIT, CURSOR];

/// Who asks, and for which tenant: the path's, the header's, or the token's own (contract A.4).
pub(crate) fn caller(request: &Request, operator: &Arc<Operator>) -> Result<Caller, Problem> {
    let named = match request.argument("tenant_id") {
        "" => {
            let header =
                if request.raw_path().starts_with("/vault/") { "x-vault-namespace" } else { "x-tenant-id" };
            // Vault's clients write namespaces with slashes around.
            request.header(header).map(|text| text.trim_matches('/')).filter(|text| !text.is_empty())
        }
        named => Some(named),
    };
    let unknown = || Problem::from(TenantError::NotFound);
    let named = named.map(str::parse).transpose().map_err(|_| unknown())?;
    let tenant = request.federation.tenant_for(operator, named)?;
    let user_agent = request.header("user-agent").map(|text| {
        // What a program calls itself is its own choice: bounded, and only what prints.
        text.chars().filter(|letter| letter.is_ascii_graphic() || *letter == ' ').take(128).collect()
    });
    Ok(Caller {
        operator: Arc::clone(operator),
        tenant,
        request_id: request.id_text().to_owned(),
        user_agent,
        source_ip: request.source_ip(),
    })
}

/// The secret that the path names, after exactly one percent-decoding.
pub(crate) fn path(request: &Request) -> Result<SecretPath, Problem> {
    let refuse = |what: &str| Problem::new(Code::InvalidPath, format!("the path of a secret {what}"));
    // A slash that was escaped would have become one that separates.
    let raw = request.raw_path().to_ascii_lowercase();
    if raw.contains("%2f") || raw.contains("%5c") {
        return Err(refuse("has no escaped slashes"));
    }
    request.argument("path").parse().map_err(|error| refuse(&format!("{error}")))
}

/// How many rows a page may have.
pub(crate) fn limit(request: &Request) -> Result<usize, Problem> {
    Ok(request.query()?.number("limit", 1..=limits::PAGE_MAX)?.unwrap_or(limits::PAGE_DEFAULT))
}

/// A place in a list, as clients carry it.
pub(crate) fn cursor_text(place: &impl Serialize) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(place).unwrap_or_default())
}

/// The place that a client brings back.
pub(crate) fn cursor<T: DeserializeOwned>(request: &Request) -> Result<Option<T>, Problem> {
    let query = request.query()?;
    let Some(text) = query.opaque("cursor")? else { return Ok(None) };
    let bytes = URL_SAFE_NO_PAD.decode(text).ok();
    let place = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    place.map(Some).ok_or_else(|| {
        Problem::new(Code::InvalidCursor, "the cursor is not one that this list gave: begin without it")
    })
}

/// The rows of a list after a place, at most so many, and the place to go on from.
pub(crate) fn page_of<T, K: PartialOrd>(
    rows: impl IntoIterator<Item = T>,
    key: impl Fn(&T) -> K,
    after: Option<K>,
    limit: usize,
) -> (Vec<T>, Option<K>) {
    let mut rows = rows.into_iter().filter(|row| after.as_ref().is_none_or(|after| key(row) > *after));
    let page: Vec<T> = rows.by_ref().take(limit).collect();
    let next = if rows.next().is_some() { page.last().map(&key) } else { None };
    (page, next)
}

impl From<TenantError> for Problem {
    fn from(error: TenantError) -> Self {
        let detail = error.to_string();
        let code = match error {
            TenantError::NotFound => Code::TenantNotFound,
            TenantError::Denied => Code::TenantAccessDenied,
            TenantError::Exists => Code::TenantExists,
            TenantError::InUse => Code::TenantInUse,
            TenantError::PolicyNotFound(_) => Code::PolicyNotFound,
            TenantError::NameTaken => Code::NameTaken,
            TenantError::AppRoleNotFound => Code::AppRoleNotFound,
            TenantError::SecretIdNotFound => Code::SecretIdNotFound,
            TenantError::Unavailable(error) => return error.into(),
        };
        Self::new(code, detail)
    }
}

impl From<SecretError> for Problem {
    fn from(error: SecretError) -> Self {
        let detail = error.to_string();
        match error {
            SecretError::Denied => Self::new(Code::AccessDenied, detail),
            SecretError::NotFound => Self::new(Code::SecretNotFound, detail),
            SecretError::VersionNotFound => Self::new(Code::SecretVersionNotFound, detail),
            SecretError::Path(_) => Self::new(Code::InvalidPath, detail),
            SecretError::ReadOnly { backend } => Self::new(Code::Forbidden, detail)
                .with("reason", "federated_path_read_only")
                .with("backend_id", backend.to_string()),
            SecretError::Exists => Self::new(Code::SecretExists, detail),
            SecretError::Conflict => Self::new(Code::VersionConflict, detail),
            SecretError::Sealed => {
                Self::new(Code::ServiceUnavailable, detail).with("reason", "root_key_lost")
            }
            SecretError::Disabled { backend } => Self::new(Code::ServiceUnavailable, detail)
                .with("reason", "backend_disabled")
                .with("backend_id", backend.to_string()),
            SecretError::Backend { backend, error } => {
                unavailable(&error, detail).with("backend_id", backend.to_string())
            }
            SecretError::Unavailable(error) => error.into(),
        }
    }
}

/// What a backend's failure is to a caller, who did nothing wrong (contract C.2).
fn unavailable(failure: &BackendFailure, detail: String) -> Problem {
    use hansa_actors::backends::error::FailureKind;
    let problem = Problem::new(Code::ServiceUnavailable, detail);
    match failure.kind() {
        FailureKind::Auth => {
            // Who may do what at the backend is nobody else's business.
            let detail = "the backend refuses this node's login: its status says more to whoever keeps it";
            Problem::new(Code::ServiceUnavailable, detail).with("reason", "backend_auth")
        }
        FailureKind::BadAnswer => problem.with("reason", "backend_bad_answer"),
        FailureKind::Throttled => {
            problem.with("reason", "backend_throttled").retry_after(failure.retry_after())
        }
        FailureKind::Unavailable => {
            problem.with("reason", "backend_unavailable").retry_after(failure.retry_after())
        }
    }
}

impl From<BackendError> for Problem {
    fn from(error: BackendError) -> Self {
        let detail = error.to_string();
        match error {
            BackendError::NotFound(_) => Self::new(Code::BackendNotFound, detail),
            BackendError::ConflictNotFound(_) => Self::new(Code::ConflictNotFound, detail),
            BackendError::Invalid { field, .. } => Self::field(Code::InvalidValue, field, detail),
            BackendError::Interval(_) => Self::new(Code::InvalidDuration, detail),
            BackendError::Config(refused) => {
                Self::new(Code::InvalidConfig, detail).with("field", format!("config.{}", refused.field))
            }
            BackendError::Mapping(InvalidMapping::Glob(..)) => {
                Self::new(Code::InvalidGlob, detail).with("field", "path_mapping")
            }
            BackendError::Mapping(InvalidMapping::Config(_)) => {
                Self::new(Code::InvalidConfig, detail).with("field", "path_mapping")
            }
            BackendError::NameTaken => Self::new(Code::BackendExists, detail),
            BackendError::Overlap(_) => Self::new(Code::PathMappingConflict, detail),
            BackendError::Proxy | BackendError::Disabled => Self::new(Code::InvalidBody, detail),
            BackendError::Denied => Self::new(Code::AccessDenied, detail),
            BackendError::Backend(failure) => unavailable(&failure, detail),
            BackendError::Unavailable(error) => error.into(),
        }
    }
}
