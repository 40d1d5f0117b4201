//! What can go wrong with secrets and their backends, split by what the caller does next.

use hansa_backends::{CallError, OpenError};
use hansa_model::secrets::backend::InvalidConfig;
use hansa_model::secrets::id::{BackendId, ConflictId, PathPolicyId};
use hansa_model::secrets::mapping::InvalidMapping;
use hansa_model::secrets::path::InvalidPath;
use hansa_model::secrets::routes::MappingConflict;
use hansa_storage::ReadError;

use crate::error::Unavailable;

/// A read, write, list or deletion of secrets that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// No policy allows it.
    #[error("no policy allows this on this path: ask whoever keeps the policies")]
    Denied,
    /// There is none, or none that is live.
    #[error("there is no such secret")]
    NotFound,
    /// The secret is there, this version is not, or its value is no longer kept.
    #[error("the secret has no such version")]
    VersionNotFound,
    /// Only backends' secrets have such paths.
    #[error("a path that belongs to no backend {0}")]
    Path(InvalidPath),
    /// The path belongs to a backend that is read only here.
    #[error("the path belongs to a backend and is read only: write it there")]
    ReadOnly {
        /// Whose it is.
        backend: BackendId,
    },
    /// A deleted secret still holds the path.
    #[error("a deleted secret holds this path until its retention ends: delete it hard first")]
    Exists,
    /// Somebody else wrote it meanwhile.
    #[error("the secret changed meanwhile: read it again, then retry")]
    Conflict,
    /// The value was sealed under another root key.
    #[error("the value was sealed under a root key that this node does not have: restore that key")]
    Sealed,
    /// The backend is switched off.
    #[error("the path's backend is switched off: enable it")]
    Disabled {
        /// Whose it is.
        backend: BackendId,
    },
    /// The backend did not give it.
    #[error("{error}")]
    Backend {
        /// Whose it is.
        backend: BackendId,
        /// Why.
        error: BackendFailure,
    },
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why a backend gave nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackendFailure {
    /// The call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Its driver cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The secret that its configuration names is not there.
    #[error("the secret that config.{0} names is not there")]
    LoginMissing(&'static str),
    /// It failed so often that it is left alone for a while.
    #[error("the backend failed repeatedly and is left alone for a moment")]
    Resting {
        /// Until it is tried again.
        retry_after: std::time::Duration,
    },
    /// No answer within the deadline, which includes waiting for a permitted call.
    #[error("the backend took too long")]
    TimedOut,
    /// So many callers wait for it already that one more is not taken in.
    #[error("too many callers wait for the backend: retry in a moment")]
    Crowded,
    /// This node could not do its own part.
    #[error(transparent)]
    Here(#[from] Unavailable),
}

/// What a failure means to whoever asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// Our login or its rights are refused, or there is none.
    Auth,
    /// What it answered cannot be used.
    BadAnswer,
    /// It asks for fewer calls.
    Throttled,
    /// It does not answer.
    Unavailable,
}

impl BackendFailure {
    /// What it means.
    pub const fn kind(&self) -> FailureKind {
        match self {
            Self::Call(CallError::Refused { .. }) | Self::Open(_) | Self::LoginMissing(_) => {
                FailureKind::Auth
            }
            Self::Call(CallError::BadAnswer { .. } | CallError::Name) => FailureKind::BadAnswer,
            Self::Call(CallError::Throttled { .. }) => FailureKind::Throttled,
            Self::Call(
                CallError::Unavailable { .. }
                | CallError::Address(_)
                | CallError::NotFound
                | CallError::VersionNotFound
                | CallError::Conflict,
            )
            | Self::Resting { .. }
            | Self::TimedOut
            | Self::Crowded
            | Self::Here(_) => FailureKind::Unavailable,
        }
    }

    /// What the backend asks to wait, or what is left of its rest.
    pub const fn retry_after(&self) -> Option<std::time::Duration> {
        match self {
            Self::Call(CallError::Throttled { retry_after } | CallError::Unavailable { retry_after, .. }) => {
                *retry_after
            }
            Self::Resting { retry_after } => Some(*retry_after),
            Self::Crowded => Some(std::time::Duration::from_secs(1)),
            Self::Call(_) | Self::Open(_) | Self::LoginMissing(_) | Self::TimedOut | Self::Here(_) => None,
        }
    }
}

/// A change of the backends that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// There is none, or it is another tenant's.
    #[error("there is no backend {0}")]
    NotFound(BackendId),
    /// There is none.
    #[error("there is no conflict {0}")]
    ConflictNotFound(ConflictId),
    /// A member has the wrong form.
    #[error("{field} {reason}")]
    Invalid {
        /// The member.
        field: &'static str,
        /// What is wrong with it, and what to do.
        reason: &'static str,
    },
    /// The interval is no duration.
    #[error("sync_interval {0}")]
    Interval(#[from] hansa_model::secrets::duration::InvalidDuration),
    /// The configuration is refused.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// A mapping is refused.
    #[error(transparent)]
    Mapping(#[from] InvalidMapping),
    /// Another backend of the tenant has the name.
    #[error("another backend has this name: choose another one")]
    NameTaken,
    /// Another backend's mapping means the same paths.
    #[error(transparent)]
    Overlap(#[from] MappingConflict),
    /// Only backends in sync mode have this.
    #[error("the backend is in proxy mode: there is nothing to sync")]
    Proxy,
    /// It is not asked at all.
    #[error("the backend is switched off: enable it first")]
    Disabled,
    /// The caller may not read or write the path.
    #[error("no policy allows this on this path: ask whoever keeps the policies")]
    Denied,
    /// The backend did not give the value.
    #[error("{0}")]
    Backend(BackendFailure),
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// A change of tenants or path policies that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TenantError {
    /// There is none.
    #[error("there is no such tenant")]
    NotFound,
    /// It is not one that the caller may act for.
    #[error("the token is not one of this tenant")]
    Denied,
    /// There is one of this id.
    #[error("there is a tenant of this id already")]
    Exists,
    /// It still has something.
    #[error("the tenant still has backends, secrets or policies: remove them first")]
    InUse,
    /// There is none.
    #[error("there is no policy {0}")]
    PolicyNotFound(PathPolicyId),
    /// Another policy of the tenant has the name.
    #[error("another policy has this name: choose another one")]
    NameTaken,
    /// There is none.
    #[error("there is no AppRole of this name")]
    AppRoleNotFound,
    /// There is none.
    #[error("the AppRole has no secret id of this accessor: it may have ended")]
    SecretIdNotFound,
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl From<ReadError> for SecretError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Sealed { .. } => Self::Sealed,
            ReadError::Closed
            | ReadError::Unavailable
            | ReadError::SnapshotEnded
            | ReadError::Record { .. }
            | ReadError::Corrupt(_)
            | ReadError::Io(_) => Unavailable::Storage.into(),
        }
    }
}

impl From<ReadError> for BackendFailure {
    fn from(error: ReadError) -> Self {
        Unavailable::from(error).into()
    }
}

impl From<ReadError> for BackendError {
    fn from(error: ReadError) -> Self {
        Unavailable::from(error).into()
    }
}

impl From<ReadError> for TenantError {
    fn from(error: ReadError) -> Self {
        Unavailable::from(error).into()
    }
}
