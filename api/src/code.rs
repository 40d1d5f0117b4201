//! Every stable error code of the API, with its status and title.
//!
//! A code is never reused and never changes its meaning. Each has a page under `docs/errors/`.

use axum::http::StatusCode;

macro_rules! codes {
    ($($variant:ident $code:literal $status:ident $title:literal)*) => {
        /// What went wrong, for programs.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Code {
            $(#[doc = $title] $variant,)*
        }

        impl Code {
            /// Every code, in the order of the documentation.
            #[cfg(test)]
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The spelling in JSON and in the address of its page.
            pub(crate) const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// The status that goes with it.
            pub(crate) const fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)* }
            }

            /// What happened, in a few words that never change.
            pub(crate) const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }
        }
    };
}

codes! {
    // The request as such.
    InvalidJson "invalid_json" BAD_REQUEST "The body is not JSON"
    InvalidBody "invalid_body" BAD_REQUEST "The body does not have the documented shape"
    MissingField "missing_field" UNPROCESSABLE_ENTITY "A required member is missing"
    InvalidValue "invalid_value" BAD_REQUEST "A value is not allowed"
    InvalidQuery "invalid_query" BAD_REQUEST "A query parameter is not allowed"
    InvalidPath "invalid_path" BAD_REQUEST "An id in the path is malformed"
    BodyTooLarge "body_too_large" PAYLOAD_TOO_LARGE "The body is larger than the route takes"
    BodyIncomplete "body_incomplete" BAD_REQUEST "The body ended early"
    TooManyEntries "too_many_entries" PAYLOAD_TOO_LARGE "The call has more entries than one call may have"
    UnsupportedMediaType "unsupported_media_type" UNSUPPORTED_MEDIA_TYPE "The content type is not supported"
    UnsupportedEncoding "unsupported_encoding" UNSUPPORTED_MEDIA_TYPE "The content encoding is not supported"
    NotFound "not_found" NOT_FOUND "There is no such route"
    MethodNotAllowed "method_not_allowed" METHOD_NOT_ALLOWED "The route has no such method"
    // Who asks.
    TokenMissing "token_missing" UNAUTHORIZED "An operator token is required"
    TokenInvalid "token_invalid" UNAUTHORIZED "The operator token is not valid"
    TokenExpired "token_expired" UNAUTHORIZED "The operator token has expired"
    IssuerUnavailable "issuer_unavailable" SERVICE_UNAVAILABLE "The token's issuer does not answer"
    LoginRefused "login_refused" UNAUTHORIZED "The login was refused"
    LoginThrottled "login_throttled" TOO_MANY_REQUESTS "There were too many logins"
    LoginEnded "login_ended" UNAUTHORIZED "The login has ended"
    PermissionDenied "permission_denied" FORBIDDEN "The operator token lacks a scope"
    SiteUnauthorized "site_unauthorized" UNAUTHORIZED "The site's bearer is missing or unknown"
    SiteSuspended "site_suspended" UNAUTHORIZED "The site is suspended"
    SiteMismatch "site_mismatch" FORBIDDEN "The bearer belongs to another site"
    CoordinatorUnauthorized "coordinator_unauthorized" UNAUTHORIZED "The bearer is not this site's coordinator's"
    SignatureInvalid "signature_invalid" UNAUTHORIZED "The request signature does not verify"
    // Objects.
    SiteNotFound "site_not_found" NOT_FOUND "There is no such site"
    HostNotFound "host_not_found" NOT_FOUND "There is no such host"
    AuditEntryNotFound "audit_entry_not_found" NOT_FOUND "There is no such audit entry"
    PastNotKept "past_not_kept" GONE "The past is no longer kept so far"
    CommandNotFound "command_not_found" NOT_FOUND "There is no such command"
    AlertNotFound "alert_not_found" NOT_FOUND "There is no such alert"
    WebhookNotFound "webhook_not_found" NOT_FOUND "There is no such webhook"
    LeaseNotFound "lease_not_found" NOT_FOUND "There is no such secret lease"
    BaselineNotFound "baseline_not_found" NOT_FOUND "The site holds no such baseline"
    PeerNotFound "peer_not_found" NOT_FOUND "There is no such trusted peer"
    UserNotFound "user_not_found" NOT_FOUND "There is no such user"
    ApiKeyNotFound "api_key_not_found" NOT_FOUND "There is no such API key"
    UserTaken "user_taken" CONFLICT "The user exists already"
    AccessFull "access_full" CONFLICT "The node has as many users or API keys as it can"
    NameTaken "name_taken" CONFLICT "The name is taken"
    IdentityTaken "identity_taken" CONFLICT "The identity key is registered already"
    TooManySites "too_many_sites" CONFLICT "The federation is full"
    SiteState "site_state" CONFLICT "The site's state does not allow it"
    AgentTooOld "agent_too_old" CONFLICT "The site's software is below its minimum"
    TooManyCommands "too_many_commands" CONFLICT "The site has too many open commands"
    CommandEnded "command_ended" CONFLICT "The command has ended"
    IdempotencyKeyReused "idempotency_key_reused" UNPROCESSABLE_ENTITY "The idempotency key belongs to another request"
    LeaseState "lease_state" CONFLICT "The secret lease has ended"
    TooManyLeases "too_many_leases" TOO_MANY_REQUESTS "The site has too many open leases"
    PolicyNotFound "policy_not_found" NOT_FOUND "There is no such policy"
    PolicyInactive "policy_inactive" BAD_REQUEST "The policy is inactive"
    TooManyPolicies "too_many_policies" CONFLICT "The federation has too many policies"
    PlanMoved "plan_moved" CONFLICT "The plan is out of date"
    RolloutNotFound "rollout_not_found" NOT_FOUND "There is no such rollout"
    RolloutState "rollout_state" CONFLICT "The state of a rollout does not allow it"
    // Secrets (contract of the secret federation API, A.5).
    SecretNotFound "secret_not_found" NOT_FOUND "There is no such secret"
    SecretVersionNotFound "version_not_found" NOT_FOUND "The secret has no such version"
    SecretExists "secret_exists" CONFLICT "A deleted secret holds the path"
    VersionConflict "version_conflict" CONFLICT "The secret changed meanwhile"
    InvalidSecretType "invalid_secret_type" BAD_REQUEST "There is no such type of secrets"
    InvalidDuration "invalid_duration" BAD_REQUEST "The text is not a duration"
    InvalidCursor "invalid_cursor" BAD_REQUEST "The cursor is not one of this list"
    InvalidGlob "invalid_glob" BAD_REQUEST "The text is not a path pattern"
    InvalidConfig "invalid_config" BAD_REQUEST "The backend's configuration is refused"
    AccessDenied "access_denied" FORBIDDEN "No policy allows it"
    Forbidden "forbidden" FORBIDDEN "The path cannot be changed here"
    BackendNotFound "backend_not_found" NOT_FOUND "There is no such secret backend"
    BackendExists "backend_exists" CONFLICT "The backend's name is taken"
    PathMappingConflict "path_mapping_conflict" CONFLICT "Two backends' mappings mean the same paths"
    ConflictNotFound "conflict_not_found" NOT_FOUND "There is no such conflict"
    TenantNotFound "tenant_not_found" NOT_FOUND "There is no such tenant"
    TenantAccessDenied "tenant_access_denied" FORBIDDEN "The token is not one of this tenant"
    TenantExists "tenant_exists" CONFLICT "The tenant exists already"
    TenantInUse "tenant_in_use" CONFLICT "The tenant still has something"
    VaultLoginRefused "vault_login_refused" BAD_REQUEST "The role id or secret id is refused"
    AppRoleNotFound "approle_not_found" NOT_FOUND "There is no such AppRole"
    SecretIdNotFound "secret_id_not_found" NOT_FOUND "The AppRole has no such secret id"
    RateLimited "rate_limited" TOO_MANY_REQUESTS "There were too many requests"
    ServiceUnavailable "service_unavailable" SERVICE_UNAVAILABLE "The secret's backend does not answer"
    WrongRole "wrong_role" CONFLICT "The node has another role"
    RemovalGuard "removal_guard" CONFLICT "The snapshot would remove too many hosts"
    IdentityKeyInvalid "identity_key_invalid" BAD_REQUEST "The text is not an Ed25519 public key"
    // Enrollment.
    EnrollmentTokenUnknown "enrollment_token_unknown" BAD_REQUEST "The enrollment token is unknown or used"
    EnrollmentTokenExpired "enrollment_token_expired" GONE "The enrollment token has expired"
    IdentityMissing "identity_missing" UNAUTHORIZED "The site has no identity key to verify against"
    IdentityMismatch "identity_mismatch" UNAUTHORIZED "The site's identity proof does not verify"
    CertificateMissing "certificate_missing" BAD_REQUEST "The certificate is missing"
    CertificateInvalid "certificate_invalid" BAD_REQUEST "The text is not a certificate"
    OtherCoordinator "other_coordinator" CONFLICT "The site is enrolled elsewhere"
    NotEnrolled "not_enrolled" CONFLICT "The site is not enrolled"
    CoordinatorIdentity "coordinator_identity" UNAUTHORIZED "The coordinator's identity proof does not verify"
    CoordinatorUnreachable "coordinator_unreachable" BAD_GATEWAY "The coordinator cannot be reached"
    CoordinatorRefused "coordinator_refused" BAD_GATEWAY "The coordinator refused the enrollment"
    // The node.
    RootKeyRotating "root_key_rotating" CONFLICT "The root key is being rotated"
    RootKeyRefused "root_key_refused" CONFLICT "The root key cannot be rotated like that"
    RootKeyFailed "root_key_failed" SERVICE_UNAVAILABLE "The next root key cannot be kept"
    BackupUnavailable "backup_unavailable" CONFLICT "The node has no folder for backups"
    Busy "busy" SERVICE_UNAVAILABLE "The node is busy"
    TimedOut "timed_out" SERVICE_UNAVAILABLE "The request took too long"
    StorageFull "storage_full" INSUFFICIENT_STORAGE "The node's disk is full"
    StorageFailed "storage_failed" SERVICE_UNAVAILABLE "The node's store failed"
    ShuttingDown "shutting_down" SERVICE_UNAVAILABLE "The node is shutting down"
    Internal "internal" INTERNAL_SERVER_ERROR "The node has a defect"
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_code_is_unique_and_has_a_page() {
        let codes: BTreeSet<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/errors");

        assert_eq!(codes.len(), Code::ALL.len());
        let pages: BTreeSet<String> = std::fs::read_dir(folder)
            .unwrap()
            .filter_map(|entry| {
                entry.unwrap().file_name().into_string().unwrap().strip_suffix(".md").map(str::to_owned)
            })
            .filter(|name| name != "README")
            .collect();
        assert_eq!(pages, codes.into_iter().map(str::to_owned).collect());
    }

    #[test]
    fn codes_are_snake_case() {
        for code in Code::ALL {
            assert!(code.as_str().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{code:?}");
        }
    }
}
