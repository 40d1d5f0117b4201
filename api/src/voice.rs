//! How a refusal is worded: the documented APIs have shapes of their own for one and the same problem.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::http::{Response, StatusCode};
use serde::Serialize;
use serde_json::Value;

use crate::code::Code;
use crate::problem::Problem;

/// Whose clients are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Voice {
    /// `/api/v1` and the node's own routes: problem documents.
    Sites,
    /// `/v1`: an `error` object, problem members beside it (contract A.5).
    Secrets,
    /// `/vault`: Vault's list of texts.
    Vault,
}

/// A refusal of `/v1`; the members of a problem document stand beside.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct SecretsRefusal {
    error: SecretsError,
}

/// What was refused.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct SecretsError {
    /// What happened, for programs; stable.
    code: &'static str,
    /// What happened and what to do, for people.
    message: String,
    /// More about it, by code.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    details: Option<Value>,
    /// Stands in the node's log beside the reason.
    request_id: String,
}

/// A refusal of `/vault`.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct VaultRefusal {
    errors: Vec<String>,
}

impl Voice {
    /// By the path of the request.
    pub(crate) fn of(path: &str) -> Self {
        if path.starts_with("/v1/") {
            Self::Secrets
        } else if path.starts_with("/vault/") {
            Self::Vault
        } else {
            Self::Sites
        }
    }

    /// The problem as this voice tells it.
    pub(crate) fn tell(self, problem: Problem, request_id: &str) -> Response<Body> {
        match self {
            Self::Sites => problem.into_response(request_id),
            Self::Secrets => secrets(problem, request_id),
            Self::Vault => vault(problem, request_id),
        }
    }
}

fn secrets(problem: Problem, request_id: &str) -> Response<Body> {
    let (code, status) = documented(problem.code());
    let mut body = serde_json::to_value(problem.body(request_id)).unwrap_or_default();
    let error = SecretsError {
        code,
        message: problem.detail().to_owned(),
        details: problem.details(),
        request_id: request_id.to_owned(),
    };
    body["error"] = serde_json::to_value(error).unwrap_or_default();
    body["code"] = code.into();
    body["status"] = status.as_u16().into();
    with_body(problem.into_response(request_id), status, &body)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "what Vault has no word for keeps its own")]
fn vault(problem: Problem, request_id: &str) -> Response<Body> {
    // A missing path is 404 with an empty list; what clients make of the text is to show it.
    let (errors, status) = match problem.code() {
        Code::SecretNotFound | Code::SecretVersionNotFound | Code::NotFound => {
            (Vec::new(), StatusCode::NOT_FOUND)
        }
        Code::TokenMissing
        | Code::TokenInvalid
        | Code::TokenExpired
        | Code::PermissionDenied
        | Code::AccessDenied
        | Code::TenantAccessDenied => (vec!["permission denied".to_owned()], StatusCode::FORBIDDEN),
        Code::Forbidden => (vec![problem.detail().to_owned()], StatusCode::METHOD_NOT_ALLOWED),
        // Clients look for these words.
        Code::VersionConflict => {
            let text = "check-and-set parameter did not match the current version";
            (vec![text.to_owned()], StatusCode::BAD_REQUEST)
        }
        code => (vec![problem.detail().to_owned()], known_to_vault(code.status())),
    };
    let body = serde_json::to_value(VaultRefusal { errors }).unwrap_or_default();
    with_body(problem.into_response(request_id), status, &body)
}

/// Vault knows fewer statuses: clients take those that they do not know for a defect of the server.
fn known_to_vault(status: StatusCode) -> StatusCode {
    match status {
        StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY => StatusCode::BAD_REQUEST,
        known => known,
    }
}

fn with_body(response: Response<Body>, status: StatusCode, body: &Value) -> Response<Body> {
    let (mut parts, _) = response.into_parts();
    parts.status = status;
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Response::from_parts(parts, Body::from(body.to_string()))
}

/// The contract's code and status of a problem (A.5).
#[expect(clippy::wildcard_enum_match_arm, reason = "most codes are the contract's own")]
fn documented(code: Code) -> (&'static str, StatusCode) {
    match code {
        Code::TokenMissing => ("authentication_required", code.status()),
        Code::PermissionDenied => ("insufficient_scope", code.status()),
        Code::InvalidJson
        | Code::InvalidBody
        | Code::InvalidQuery
        | Code::BodyIncomplete
        | Code::UnsupportedMediaType
        | Code::UnsupportedEncoding => ("invalid_request", StatusCode::BAD_REQUEST),
        Code::MissingField | Code::InvalidValue => ("validation_error", StatusCode::UNPROCESSABLE_ENTITY),
        Code::Busy
        | Code::TimedOut
        | Code::StorageFailed
        | Code::StorageFull
        | Code::ShuttingDown
        | Code::IssuerUnavailable => ("service_unavailable", StatusCode::SERVICE_UNAVAILABLE),
        Code::Internal => ("internal_error", code.status()),
        code => (code.as_str(), code.status()),
    }
}
