//! Every refusal as one JSON body: RFC 9457 members beside the contract's `detail`.
//!
//! HTTP meets the errors of the facade here and nowhere else. The texts are ours and safe for strangers:
//! they name ids and members, never a value that was sent.

use std::borrow::Cow;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{Response, StatusCode};
use hansa_actors::error::PolicyError;
use hansa_actors::error::{
    AccessError, AlertError, AuditChainError, AuditEntryError, CancelError, CommandNotFound, CompleteError,
    CoordinatorAuthenticationError, DispatchError, EnrollError, FindingsError, HostNotFound, IngestError,
    InventoryError, LeaseError, LeaseRequestError, LeaveError, LoginError, OperatorAuthenticationError,
    PastError, ReadError, ReceiveError, RefreshError, RegistryError, RootKeyError, SiteAuthenticationError,
    SiteNotFound, TrustError, Unavailable, WebhookError, WrongRole,
};
use hansa_model::access::InvalidAccess;
use hansa_model::limits::http as limits;
use hansa_model::machine::command::DispatchRefusal;
use hansa_model::machine::policy::PolicyRejection;
use hansa_model::machine::registry::{EnrollmentRefusal, Rejection};
use hansa_model::machine::rollout::InvalidStaging;
use hansa_model::machine::rollup::InvalidRollup;
use hansa_model::machine::snapshot::RemovalGuard;
use hansa_model::policy::InvalidPolicy;
use hansa_model::scope::Scope;
use hansa_model::site::{InvalidSite, SiteStatus};
use serde::Serialize;
use serde_json::Value;

use crate::code::Code;

/// A refusal on its way to the caller.
#[derive(Debug)]
pub(crate) struct Problem {
    code: Code,
    detail: Cow<'static, str>,
    errors: Vec<FieldError>,
    members: Vec<(&'static str, Value)>,
    allow: Option<String>,
    retry_after: Option<Duration>,
}

/// One member of the body that is bad.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct FieldError {
    /// JSON Pointer to the member.
    pub(crate) pointer: String,
    /// What is wrong with it.
    pub(crate) detail: String,
}

/// The body of every refusal.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody<'a> {
    /// Address of the code's page.
    #[serde(rename = "type")]
    kind: String,
    /// What happened, in a few words.
    title: &'a str,
    /// The HTTP status.
    status: u16,
    /// What happened and what to do, for people.
    detail: &'a str,
    /// What happened, for programs; stable.
    code: &'a str,
    /// Stands in the node's log beside the reason.
    request_id: &'a str,
    /// The members that are bad, where they are known.
    #[serde(skip_serializing_if = "<[FieldError]>::is_empty")]
    errors: &'a [FieldError],
    /// More about it, by code.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    members: serde_json::Map<String, Value>,
}

impl Problem {
    /// A refusal with this code; the detail says what to do.
    pub(crate) fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            members: Vec::new(),
            allow: None,
            retry_after: None,
        }
    }

    /// A member of the body is bad.
    pub(crate) fn field(code: Code, field: &str, detail: impl Into<Cow<'static, str>>) -> Self {
        let problem = Self::new(code, detail);
        let error = FieldError { pointer: format!("/{field}"), detail: problem.detail.clone().into_owned() };
        Self { errors: vec![error], ..problem }
    }

    /// The route has no such method; `allow` lists those it has.
    pub(crate) fn method_not_allowed(allow: String) -> Self {
        let detail = format!("this route answers {allow}");
        Self { allow: Some(allow), ..Self::new(Code::MethodNotAllowed, detail) }
    }

    /// The operator may not do it. The frontend looks for the first two words.
    pub(crate) fn permission_denied(scope: Scope) -> Self {
        Self::new(
            Code::PermissionDenied,
            format!("Permission denied: the token needs the scope {scope}, see `hansa token mint --scope`"),
        )
    }

    /// The caller is known and has none of the scopes of which the route wants one.
    pub(crate) fn permission_denied_any(scopes: &[Scope]) -> Self {
        let scopes: Vec<&str> = scopes.iter().map(|scope| scope.as_str()).collect();
        let scopes = scopes.join(", ");
        Self::new(
            Code::PermissionDenied,
            format!(
                "Permission denied: the token needs one of the scopes {scopes}, see `hansa token mint --scope`"
            ),
        )
    }

    /// A defect of ours. The reason goes to the log, not to the caller.
    pub(crate) fn internal(reason: &dyn std::fmt::Display) -> Self {
        tracing::error!(%reason, "request met a defect");
        Self::new(
            Code::Internal,
            "the node has a defect: report it with the request id, the reason is in the node's log",
        )
    }

    /// What happened and what to do, for people.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// The code, for metrics and logs.
    pub(crate) fn code(&self) -> Code {
        self.code
    }

    /// What programs may want to know beside the code: members, and the fields that are bad.
    pub(crate) fn details(&self) -> Option<Value> {
        let mut details: serde_json::Map<String, Value> =
            self.members.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        if !self.errors.is_empty() {
            let fields = self.errors.iter().map(|error| {
                (error.pointer.trim_start_matches('/').to_owned(), Value::from(error.detail.as_str()))
            });
            details.insert("fields".to_owned(), Value::Object(fields.collect()));
        }
        if details.is_empty() { None } else { Some(Value::Object(details)) }
    }

    /// The same, to be tried again then.
    pub(crate) fn retry_after(self, wait: Option<Duration>) -> Self {
        Self { retry_after: wait, ..self }
    }

    /// The same with one more member.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.members.push((name, value.into()));
        self
    }

    /// The documented routes about a site say that the feature is there (contract B2).
    fn licensed(self) -> Self {
        self.with("licensed", true)
    }

    /// The body as JSON.
    pub(crate) fn body<'a>(&'a self, request_id: &'a str) -> ProblemBody<'a> {
        ProblemBody {
            kind: format!(concat!(env!("CARGO_PKG_REPOSITORY"), "/docs/errors/{}.md"), self.code.as_str()),
            title: self.code.title(),
            status: self.code.status().as_u16(),
            detail: &self.detail,
            code: self.code.as_str(),
            request_id,
            errors: &self.errors,
            members: self.members.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        }
    }

    /// The whole answer.
    pub(crate) fn into_response(self, request_id: &str) -> Response<Body> {
        // Texts and numbers always have a JSON form.
        let body = serde_json::to_vec(&self.body(request_id)).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.code.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(allow) = self.allow.as_deref().and_then(|allow| HeaderValue::from_str(allow).ok()) {
            headers.insert(ALLOW, allow);
        }
        match self.code.status() {
            StatusCode::UNAUTHORIZED => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                let wait = self.retry_after.unwrap_or(limits::RETRY_AFTER);
                // Rounded up, so that who waits as long is not early.
                headers.insert(
                    RETRY_AFTER,
                    HeaderValue::from(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)),
                );
            }
            _ => {}
        }
        response
    }
}

impl From<RootKeyError> for Problem {
    fn from(error: RootKeyError) -> Self {
        let code = match error {
            RootKeyError::Running => Code::RootKeyRotating,
            RootKeyError::Refused(_) => Code::RootKeyRefused,
            RootKeyError::Failed(_) => Code::RootKeyFailed,
            RootKeyError::Unavailable(error) => return error.into(),
        };
        Self::new(code, error.to_string())
    }
}

impl From<Unavailable> for Problem {
    fn from(error: Unavailable) -> Self {
        let code = match &error {
            Unavailable::Busy { .. } => Code::Busy,
            Unavailable::StorageFull => Code::StorageFull,
            Unavailable::Storage => Code::StorageFailed,
            Unavailable::Stopping => Code::ShuttingDown,
        };
        Self::new(code, error.to_string())
    }
}

impl From<WrongRole> for Problem {
    fn from(error: WrongRole) -> Self {
        Self::new(Code::WrongRole, error.to_string())
    }
}

impl From<SiteNotFound> for Problem {
    fn from(error: SiteNotFound) -> Self {
        Self::new(Code::SiteNotFound, error.to_string()).licensed()
    }
}

impl From<HostNotFound> for Problem {
    fn from(error: HostNotFound) -> Self {
        Self::new(Code::HostNotFound, error.to_string()).licensed()
    }
}

impl From<AuditEntryError> for Problem {
    fn from(error: AuditEntryError) -> Self {
        match error {
            AuditEntryError::NotFound(_) => Self::new(Code::AuditEntryNotFound, error.to_string()),
            AuditEntryError::Unavailable(error) => error.into(),
        }
    }
}

impl From<CommandNotFound> for Problem {
    fn from(error: CommandNotFound) -> Self {
        Self::new(Code::CommandNotFound, error.to_string()).licensed()
    }
}

impl From<DispatchRefusal> for Problem {
    fn from(error: DispatchRefusal) -> Self {
        let detail = error.to_string();
        match error {
            DispatchRefusal::Type(_) => Self::field(Code::InvalidValue, "command_type", detail),
            DispatchRefusal::Parameters { .. } => Self::field(Code::InvalidValue, "parameters", detail),
            DispatchRefusal::TooManyHosts { .. } => {
                Self::field(Code::InvalidValue, "target_host_ids", detail)
            }
            DispatchRefusal::Expiry => Self::field(Code::InvalidValue, "expires_at", detail),
            DispatchRefusal::Status(_) => Self::new(Code::SiteState, detail),
            DispatchRefusal::AgentTooOld { .. } => Self::new(Code::AgentTooOld, printable(&detail)),
            DispatchRefusal::TooManyOpen { .. } => Self::new(Code::TooManyCommands, detail),
        }
    }
}

impl From<AuditChainError> for Problem {
    fn from(error: AuditChainError) -> Self {
        match error {
            AuditChainError::Confined => Self::new(Code::PermissionDenied, error.to_string()),
            AuditChainError::Unavailable(error) => error.into(),
        }
    }
}

impl From<PastError> for Problem {
    fn from(error: PastError) -> Self {
        match error {
            PastError::HostNotFound(missing) => missing.into(),
            PastError::NotKept(not_kept) => Self::new(Code::PastNotKept, not_kept.to_string())
                .with("earliest", not_kept.earliest.to_string())
                .licensed(),
            PastError::Unavailable(unavailable) => unavailable.into(),
        }
    }
}

impl From<DispatchError> for Problem {
    fn from(error: DispatchError) -> Self {
        let detail = error.to_string();
        match error {
            DispatchError::SiteNotFound(missing) => missing.into(),
            DispatchError::Refused(refusal) => refusal.into(),
            DispatchError::KeyReused => Self::new(Code::IdempotencyKeyReused, detail),
            DispatchError::TooManyHosts { .. } => Self::field(Code::InvalidValue, "hosts", detail),
            DispatchError::WrongRole(role) => role.into(),
            DispatchError::Unavailable(unavailable) => unavailable.into(),
        }
    }
}

impl From<CancelError> for Problem {
    fn from(error: CancelError) -> Self {
        let detail = error.to_string();
        match error {
            CancelError::NotFound(missing) => missing.into(),
            CancelError::Refused(_) => Self::new(Code::CommandEnded, detail),
            CancelError::WrongRole(role) => role.into(),
            CancelError::Unavailable(unavailable) => unavailable.into(),
        }
    }
}

impl From<OperatorAuthenticationError> for Problem {
    fn from(error: OperatorAuthenticationError) -> Self {
        let code = match error {
            OperatorAuthenticationError::Missing => Code::TokenMissing,
            OperatorAuthenticationError::Invalid => Code::TokenInvalid,
            OperatorAuthenticationError::Expired => Code::TokenExpired,
            OperatorAuthenticationError::IssuerDown => Code::IssuerUnavailable,
            OperatorAuthenticationError::Storage => Code::StorageFailed,
        };
        Self::new(code, error.to_string())
    }
}

impl From<LoginError> for Problem {
    fn from(error: LoginError) -> Self {
        let detail = error.to_string();
        match error {
            LoginError::Refused => Self::new(Code::LoginRefused, detail),
            LoginError::Throttled { retry_after } => {
                Self { retry_after: Some(retry_after), ..Self::new(Code::LoginThrottled, detail) }
            }
            LoginError::Unavailable(unavailable) => unavailable.into(),
        }
    }
}

impl From<RefreshError> for Problem {
    fn from(error: RefreshError) -> Self {
        match error {
            RefreshError::Ended => Self::new(Code::LoginEnded, error.to_string()),
            RefreshError::Unavailable(unavailable) => unavailable.into(),
        }
    }
}

impl From<InvalidAccess> for Problem {
    fn from(error: InvalidAccess) -> Self {
        Self::field(Code::InvalidValue, error.field(), error.to_string())
    }
}

impl From<AccessError> for Problem {
    fn from(error: AccessError) -> Self {
        let detail = error.to_string();
        match error {
            AccessError::UserNotFound => Self::new(Code::UserNotFound, detail),
            AccessError::KeyNotFound => Self::new(Code::ApiKeyNotFound, detail),
            AccessError::UserTaken => Self::field(Code::UserTaken, "userid", detail),
            AccessError::KeyTaken => Self::field(Code::NameTaken, "name", detail),
            AccessError::TooMany { .. } => Self::new(Code::AccessFull, detail),
            AccessError::Invalid(invalid) => invalid.into(),
            AccessError::Exceeds(_) => {
                Self::new(Code::PermissionDenied, format!("Permission denied: {detail}"))
            }
            AccessError::Unavailable(unavailable) => unavailable.into(),
        }
    }
}

impl From<SiteAuthenticationError> for Problem {
    fn from(error: SiteAuthenticationError) -> Self {
        let code = match error {
            SiteAuthenticationError::Unknown => Code::SiteUnauthorized,
            SiteAuthenticationError::Suspended => Code::SiteSuspended,
            SiteAuthenticationError::OtherSite => Code::SiteMismatch,
            SiteAuthenticationError::Signature => Code::SignatureInvalid,
        };
        Self::new(code, error.to_string())
    }
}

impl From<CoordinatorAuthenticationError> for Problem {
    fn from(error: CoordinatorAuthenticationError) -> Self {
        let code = match error {
            CoordinatorAuthenticationError::Unknown => Code::CoordinatorUnauthorized,
            CoordinatorAuthenticationError::Signature => Code::SignatureInvalid,
        };
        Self::new(code, error.to_string())
    }
}

impl From<ReceiveError> for Problem {
    fn from(error: ReceiveError) -> Self {
        match error {
            ReceiveError::WrongRole(role) => role.into(),
            ReceiveError::Unavailable(unavailable) => unavailable.into(),
        }
    }
}

impl From<LeaveError> for Problem {
    fn from(error: LeaveError) -> Self {
        match error {
            LeaveError::NotEnrolled => Self::new(Code::NotEnrolled, error.to_string()),
            LeaveError::WrongRole(role) => role.into(),
            LeaveError::Unavailable(unavailable) => unavailable.into(),
        }
    }
}

impl From<LeaseRequestError> for Problem {
    fn from(error: LeaseRequestError) -> Self {
        match error {
            LeaseRequestError::Refused(refusal) => {
                Self::field(Code::InvalidValue, refusal.field(), refusal.to_string())
            }
            LeaseRequestError::WrongRole(role) => role.into(),
            LeaseRequestError::Unavailable(unavailable) => unavailable.into(),
        }
    }
}

impl From<InvalidSite> for Problem {
    fn from(error: InvalidSite) -> Self {
        let (code, field) = match &error {
            InvalidSite::Blank { field }
            | InvalidSite::TooLong { field, .. }
            | InvalidSite::ControlCharacter { field }
            | InvalidSite::OutOfRange { field, .. } => (Code::InvalidValue, *field),
            InvalidSite::CountryCode => (Code::InvalidValue, "geo_country_code"),
            InvalidSite::Url(_) => (Code::InvalidValue, "url"),
            InvalidSite::IdentityKey => (Code::IdentityKeyInvalid, "site_identity_public_key_pem"),
        };
        Self::field(code, field, error.to_string())
    }
}

impl From<Rejection> for Problem {
    fn from(error: Rejection) -> Self {
        match error {
            Rejection::State { .. } => Self::new(Code::SiteState, error.to_string()),
            Rejection::Invalid(invalid) => invalid.into(),
        }
    }
}

impl From<RegistryError> for Problem {
    fn from(error: RegistryError) -> Self {
        let detail = error.to_string();
        match error {
            RegistryError::NotFound(missing) => missing.into(),
            RegistryError::NameTaken => Self::field(Code::NameTaken, "name", detail),
            RegistryError::IdentityTaken => Self::new(Code::IdentityTaken, detail),
            RegistryError::Confined => {
                Self::new(Code::PermissionDenied, format!("Permission denied: {detail}"))
            }
            RegistryError::TooMany { .. } => Self::new(Code::TooManySites, detail),
            RegistryError::Rejected(rejection) => rejection.into(),
            RegistryError::WrongRole(role) => role.into(),
            RegistryError::Unavailable(unavailable) => unavailable.into(),
        }
    }
}

impl From<PolicyError> for Problem {
    fn from(error: PolicyError) -> Self {
        let detail = error.to_string();
        match error {
            PolicyError::NotFound(_) => Self::new(Code::PolicyNotFound, detail).licensed(),
            PolicyError::SiteNotFound(missing) => missing.into(),
            PolicyError::RolloutNotFound(_) => Self::new(Code::RolloutNotFound, detail).licensed(),
            PolicyError::NameTaken => Self::field(Code::NameTaken, "name", detail),
            PolicyError::TooMany { .. } => Self::new(Code::TooManyPolicies, detail),
            PolicyError::Confined => {
                Self::new(Code::PermissionDenied, format!("Permission denied: {detail}"))
            }
            PolicyError::Rejected(PolicyRejection::Inactive) => Self::new(Code::PolicyInactive, detail),
            PolicyError::Rejected(PolicyRejection::Invalid(InvalidPolicy::Text(invalid))) => invalid.into(),
            PolicyError::Rejected(PolicyRejection::Invalid(
                InvalidPolicy::NotAnObject | InvalidPolicy::DefinitionTooLarge,
            )) => Self::field(Code::InvalidValue, "definition", detail),
            PolicyError::Staging(invalid) => {
                let field = match invalid {
                    InvalidStaging::Waves => "waves",
                    InvalidStaging::HaltOnErrors => "halt_on_errors",
                    InvalidStaging::WaveTimeout => "wave_timeout_seconds",
                };
                Self::field(Code::InvalidValue, field, detail)
            }
            PolicyError::PlanMoved => Self::new(Code::PlanMoved, detail),
            PolicyError::RollingOut(_) | PolicyError::RolloutState(_) => {
                Self::new(Code::RolloutState, detail)
            }
            PolicyError::WrongRole(role) => role.into(),
            PolicyError::Unavailable(unavailable) => unavailable.into(),
        }
    }
}

impl From<CompleteError> for Problem {
    fn from(error: CompleteError) -> Self {
        let detail = error.to_string();
        match error {
            CompleteError::Refused(refusal) => {
                let code = match refusal {
                    EnrollmentRefusal::CertificateMissing => Code::CertificateMissing,
                    EnrollmentRefusal::UnknownToken => Code::EnrollmentTokenUnknown,
                    EnrollmentRefusal::ExpiredToken => Code::EnrollmentTokenExpired,
                    EnrollmentRefusal::IdentityMissing => Code::IdentityMissing,
                    EnrollmentRefusal::IdentityMismatch => Code::IdentityMismatch,
                };
                Self::new(code, detail)
            }
            CompleteError::Certificate => Self::field(Code::CertificateInvalid, "tls_cert_pem", detail),
            CompleteError::WrongRole(role) => role.into(),
            CompleteError::Unavailable(unavailable) => unavailable.into(),
        }
    }
}

impl From<InvalidRollup> for Problem {
    fn from(error: InvalidRollup) -> Self {
        let detail = error.to_string();
        let field = match error {
            InvalidRollup::ActiveExceedsTotal => "active_count",
            InvalidRollup::Breakdown => return Self::new(Code::InvalidValue, detail),
            InvalidRollup::Count { field } => field,
            InvalidRollup::Baseline | InvalidRollup::TooManyBaselines => "baseline",
            InvalidRollup::Score => "score_percent",
            InvalidRollup::ScopeExceeded => "hosts_in_scope",
            InvalidRollup::TopCves => "top_cve_ids",
        };
        Self::field(Code::InvalidValue, field, detail)
    }
}

impl From<IngestError> for Problem {
    fn from(error: IngestError) -> Self {
        let detail = error.to_string();
        match error {
            IngestError::Rollup(invalid) => invalid.into(),
            IngestError::NotFound(missing) => missing.into(),
            IngestError::Status(SiteStatus::Suspended) => SiteAuthenticationError::Suspended.into(),
            IngestError::Status(SiteStatus::Pending | SiteStatus::Enrolled | SiteStatus::Removed) => {
                Self::new(Code::SiteUnauthorized, detail)
            }
            IngestError::Lease(invalid) => Self::field(Code::InvalidValue, invalid.field(), detail),
            IngestError::TooManyLeases { .. } => Self::new(Code::TooManyLeases, detail),
            IngestError::NotTaken => Self::new(Code::NotFound, detail),
            IngestError::Unavailable(unavailable) => unavailable.into(),
        }
    }
}

impl From<LeaseError> for Problem {
    fn from(error: LeaseError) -> Self {
        let detail = error.to_string();
        match error {
            LeaseError::NotFound(_) => Self::new(Code::LeaseNotFound, detail).licensed(),
            LeaseError::Over(_) => Self::new(Code::LeaseState, detail).licensed(),
            LeaseError::WrongRole(role) => role.into(),
            LeaseError::Unavailable(unavailable) => unavailable.into(),
        }
    }
}

impl From<RemovalGuard> for Problem {
    fn from(guard: RemovalGuard) -> Self {
        Self::new(Code::RemovalGuard, guard.to_string())
            .with("vanishing", guard.vanishing)
            .with("held", guard.held)
    }
}

impl From<InventoryError> for Problem {
    fn from(error: InventoryError) -> Self {
        let detail = error.to_string();
        match error {
            InventoryError::RemovalGuard(guard) => guard.into(),
            InventoryError::TooMany { .. } => Self::new(Code::TooManyEntries, detail),
            InventoryError::WrongRole(role) => role.into(),
            InventoryError::Unavailable(unavailable) => unavailable.into(),
        }
    }
}

impl From<FindingsError> for Problem {
    fn from(error: FindingsError) -> Self {
        let detail = error.to_string();
        match error {
            FindingsError::Baseline(invalid) => invalid.into(),
            FindingsError::BaselineNotFound(_) => Self::new(Code::BaselineNotFound, detail),
            FindingsError::WrongRole(role) => role.into(),
            FindingsError::Unavailable(unavailable) => unavailable.into(),
        }
    }
}

impl From<EnrollError> for Problem {
    fn from(error: EnrollError) -> Self {
        let detail = printable(&error.to_string());
        match error {
            EnrollError::Invalid(_) => Self::new(Code::InvalidValue, detail),
            EnrollError::OtherCoordinator(_) => Self::new(Code::OtherCoordinator, detail),
            EnrollError::NotEnrolled => Self::new(Code::NotEnrolled, detail),
            EnrollError::CoordinatorIdentity => Self::new(Code::CoordinatorIdentity, detail),
            EnrollError::Unreachable(_) => Self::new(Code::CoordinatorUnreachable, detail),
            EnrollError::Refused(_) => Self::new(Code::CoordinatorRefused, detail),
            EnrollError::WrongRole(role) => role.into(),
            EnrollError::Unavailable(unavailable) => unavailable.into(),
        }
    }
}

impl From<TrustError> for Problem {
    fn from(error: TrustError) -> Self {
        let detail = error.to_string();
        match error {
            TrustError::InvalidKey => Self::field(Code::IdentityKeyInvalid, "public_key_pem", detail),
            TrustError::NotFound => Self::new(Code::PeerNotFound, detail),
            TrustError::Unavailable(unavailable) => unavailable.into(),
        }
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::SiteNotFound(missing) => missing.into(),
            ReadError::HostNotFound(missing) => missing.into(),
            ReadError::CommandNotFound(missing) => missing.into(),
            ReadError::Unavailable(unavailable) => unavailable.into(),
        }
    }
}

/// A text that a peer had a part in: one line of bounded length.
fn printable(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .take(limits::DETAIL_CHARS_MAX)
        .collect()
}

impl From<AlertError> for Problem {
    fn from(error: AlertError) -> Self {
        let detail = error.to_string();
        match error {
            AlertError::NotFound(_) => Self::new(Code::AlertNotFound, detail).licensed(),
            AlertError::Confined => Self::new(Code::PermissionDenied, detail),
            AlertError::Invalid(invalid) => Self::field(Code::InvalidValue, invalid.field, detail),
            AlertError::WrongRole(role) => role.into(),
            AlertError::Unavailable(unavailable) => unavailable.into(),
        }
    }
}

impl From<WebhookError> for Problem {
    fn from(error: WebhookError) -> Self {
        let detail = error.to_string();
        match error {
            WebhookError::NotFound(_) => Self::new(Code::WebhookNotFound, detail),
            WebhookError::WrongRole(role) => role.into(),
            WebhookError::Unavailable(unavailable) => unavailable.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use hansa_actors::error::LeaseNotFound;
    use hansa_model::access::Exceeds;
    use hansa_model::alert::InvalidThreshold;
    use hansa_model::command::CommandStatus;
    use hansa_model::enrollment::Role;
    use hansa_model::id::{CommandId, LeaseId};
    use hansa_model::lease::LeaseStatus;
    use hansa_model::machine::command::CancelRefusal;
    use hansa_model::machine::inbox::LeaseRequestRefusal;
    use hansa_model::machine::lease::{InvalidLeaseRequest, LeaseOver};
    use hansa_model::{HostId, SiteId};

    use hansa_model::Timestamp;
    use hansa_model::machine::past::NotKept;

    use super::*;

    fn line(problem: &Problem) -> String {
        let body = serde_json::to_value(problem.body("r")).unwrap();
        let more: Vec<String> = body
            .as_object()
            .unwrap()
            .iter()
            .filter(|(name, _)| {
                !["type", "title", "status", "detail", "code", "request_id"].contains(&name.as_str())
            })
            .map(|(name, value)| format!(" {name}={value}"))
            .collect();
        format!("{} {}: {}{}", body["status"], body["code"].as_str().unwrap(), body["detail"], more.concat())
    }

    /// One of each error that the facade has.
    fn every_error() -> Vec<Problem> {
        let site = SiteId(uuid::Uuid::nil());
        let host = HostId(uuid::Uuid::nil());
        let command = CommandId(uuid::Uuid::nil());
        let state = || Rejection::State { status: SiteStatus::Pending, needs: "only an enrolled site" };
        let guard = RemovalGuard { vanishing: 12, held: 30 };
        vec![
            Unavailable::Busy { part: "directory" }.into(),
            Unavailable::StorageFull.into(),
            Unavailable::Storage.into(),
            Unavailable::Stopping.into(),
            WrongRole { role: Role::Site, needed: Role::Coordinator }.into(),
            OperatorAuthenticationError::Missing.into(),
            OperatorAuthenticationError::Invalid.into(),
            OperatorAuthenticationError::Expired.into(),
            OperatorAuthenticationError::IssuerDown.into(),
            OperatorAuthenticationError::Storage.into(),
            LoginError::Refused.into(),
            LoginError::Throttled { retry_after: Duration::from_secs(9) }.into(),
            RefreshError::Ended.into(),
            AccessError::UserNotFound.into(),
            AccessError::KeyNotFound.into(),
            AccessError::UserTaken.into(),
            AccessError::KeyTaken.into(),
            AccessError::TooMany { what: "users", max: 4_096 }.into(),
            AccessError::from(InvalidAccess::Password).into(),
            AccessError::from(InvalidAccess::NoScope).into(),
            AccessError::from(Exceeds::Scope(Scope::Admin)).into(),
            AccessError::from(Exceeds::Sites).into(),
            SiteAuthenticationError::Unknown.into(),
            SiteAuthenticationError::Suspended.into(),
            SiteAuthenticationError::OtherSite.into(),
            SiteAuthenticationError::Signature.into(),
            CoordinatorAuthenticationError::Unknown.into(),
            CoordinatorAuthenticationError::Signature.into(),
            LeaseRequestError::from(LeaseRequestRefusal::Ttl).into(),
            LeaveError::NotEnrolled.into(),
            ReadError::from(SiteNotFound(site)).into(),
            ReadError::from(HostNotFound(host)).into(),
            PastError::from(NotKept { earliest: Timestamp::from_secs(1_795_000_000) }).into(),
            ReadError::from(CommandNotFound(command)).into(),
            DispatchError::from(DispatchRefusal::Expiry).into(),
            DispatchError::from(DispatchRefusal::Status(SiteStatus::Suspended)).into(),
            DispatchError::from(DispatchRefusal::TooManyOpen { max: 1_000 }).into(),
            DispatchError::from(DispatchRefusal::AgentTooOld { minimum: "2".to_owned(), reported: None })
                .into(),
            DispatchError::KeyReused.into(),
            DispatchError::TooManyHosts { found: 200_000, max: 100_000 }.into(),
            CancelError::from(CancelRefusal(CommandStatus::Completed)).into(),
            RegistryError::NameTaken.into(),
            RegistryError::IdentityTaken.into(),
            RegistryError::Confined.into(),
            RegistryError::TooMany { max: 4_096 }.into(),
            RegistryError::from(state()).into(),
            RegistryError::from(Rejection::from(InvalidSite::CountryCode)).into(),
            RegistryError::from(Rejection::from(InvalidSite::IdentityKey)).into(),
            CompleteError::from(EnrollmentRefusal::CertificateMissing).into(),
            CompleteError::from(EnrollmentRefusal::UnknownToken).into(),
            CompleteError::from(EnrollmentRefusal::ExpiredToken).into(),
            CompleteError::from(EnrollmentRefusal::IdentityMissing).into(),
            CompleteError::from(EnrollmentRefusal::IdentityMismatch).into(),
            CompleteError::Certificate.into(),
            IngestError::from(InvalidRollup::ActiveExceedsTotal).into(),
            IngestError::from(InvalidRollup::Breakdown).into(),
            IngestError::Status(SiteStatus::Suspended).into(),
            IngestError::Status(SiteStatus::Removed).into(),
            IngestError::from(InvalidLeaseRequest::Blank { field: "host_id" }).into(),
            IngestError::TooManyLeases { max: 4_096 }.into(),
            LeaseError::from(LeaseNotFound(LeaseId(uuid::Uuid::nil()))).into(),
            LeaseError::from(LeaseOver(LeaseStatus::Expired)).into(),
            InventoryError::from(guard).into(),
            InventoryError::TooMany { max: 100_000 }.into(),
            EnrollError::Invalid("coordinator_url must not be blank".to_owned()).into(),
            EnrollError::OtherCoordinator("https://hq.example.com".to_owned()).into(),
            EnrollError::CoordinatorIdentity.into(),
            EnrollError::Unreachable("connection\nrefused".to_owned()).into(),
            EnrollError::Refused("expired".to_owned()).into(),
            AlertError::NotFound(hansa_model::id::AlertId(uuid::Uuid::nil())).into(),
            AlertError::Confined.into(),
            AlertError::from(InvalidThreshold { field: "offline_multiplier", range: "at least 1" }).into(),
            WebhookError::NotFound("pager".to_owned()).into(),
            TrustError::InvalidKey.into(),
            TrustError::NotFound.into(),
            Problem::permission_denied(Scope::SitesWrite),
            Problem::method_not_allowed("GET, POST".to_owned()),
        ]
    }

    #[test]
    fn each_error_of_the_facade_has_its_status_and_code() {
        let lines: Vec<String> = every_error().iter().map(line).collect();

        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn detail_is_always_a_text_and_the_type_names_the_page() {
        for problem in every_error() {
            let body = serde_json::to_value(problem.body("request-1")).unwrap();

            assert!(body["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{body}");
            assert!(body["type"].as_str().unwrap().ends_with(&format!("{}.md", problem.code().as_str())));
            assert_eq!(body["request_id"], "request-1");
        }
    }

    #[test]
    fn busy_says_when_to_come_back_and_a_wrong_method_which_are_right() {
        let busy = Problem::from(Unavailable::Busy { part: "writer" }).into_response("r");
        let method = Problem::method_not_allowed("GET".to_owned()).into_response("r");

        assert!(busy.headers().contains_key(RETRY_AFTER));
        assert_eq!(method.headers()[ALLOW], "GET");
        assert_eq!(method.headers()[CONTENT_TYPE], "application/problem+json");
    }
}
