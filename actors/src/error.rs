//! What can go wrong behind the facade, split by what the caller does next.
//!
//! Small errors are shared; each facade method returns an enum made of them. HTTP meets them in one
//! exhaustive match of the api crate.

use hansa_model::alert::InvalidThreshold;
use hansa_model::id::{AlertId, CommandId, LeaseId, PolicyId, RolloutId};
use hansa_model::machine::command::{CancelRefusal, DispatchRefusal};
use hansa_model::machine::inbox::LeaseRequestRefusal;
use hansa_model::machine::lease::{InvalidLeaseRequest, LeaseOver};
use hansa_model::machine::past::NotKept;
use hansa_model::machine::policy::PolicyRejection;
use hansa_model::machine::registry::{EnrollmentRefusal, Rejection};
use hansa_model::machine::rollout::{InvalidStaging, WrongState};
use hansa_model::machine::rollup::InvalidRollup;
use hansa_model::machine::snapshot::RemovalGuard;
use hansa_model::site::SiteStatus;
use hansa_model::{AuditId, HostId, SiteId};

/// The node cannot do it now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// The part that answers is starting again, or slow. Retry in a moment.
    #[error("{part} is not answering: retry in a moment")]
    Busy {
        /// The actor's name.
        part: &'static str,
    },
    /// The disk is full. Reads go on; make room, then retry.
    #[error("the disk is full: free space in the data folder, then retry; nothing acknowledged is lost")]
    StorageFull,
    /// The store failed. The node restarts it; retry later and look at the log.
    #[error("the store failed: retry later and look at the node's log")]
    Storage,
    /// The node is stopping.
    #[error("the node is shutting down: retry when it is back")]
    Stopping,
}

impl From<hansa_storage::ReadError> for Unavailable {
    fn from(_: hansa_storage::ReadError) -> Self {
        Self::Storage
    }
}

/// The root key was not rotated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RootKeyError {
    /// A rotation runs. Wait for its end.
    #[error("the root key is being rotated already: see `hansa root-key status`")]
    Running,
    /// It cannot be done like that; the text says what can.
    #[error("{0}")]
    Refused(String),
    /// The place where the key is kept did not do its part. Nothing has changed; mend it, then repeat.
    #[error("{0}")]
    Failed(String),
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl From<crate::root_key::HolderError> for RootKeyError {
    fn from(error: crate::root_key::HolderError) -> Self {
        match error {
            crate::root_key::HolderError::Refused(why) => Self::Refused(why),
            crate::root_key::HolderError::Failed(why) => Self::Failed(why),
        }
    }
}

/// The node has another role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this node's role is {role}, the call needs {needed}: see `hansa role set`")]
pub struct WrongRole {
    /// The present role.
    pub role: hansa_model::enrollment::Role,
    /// The role that can answer.
    pub needed: hansa_model::enrollment::Role,
}

/// No such site, or none that the caller may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no site {0}")]
pub struct SiteNotFound(pub SiteId);

/// No such host, or none that the caller may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no host {0}")]
pub struct HostNotFound(pub HostId);

/// A read of one audit entry that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuditEntryError {
    /// No such entry, or none that the caller may see.
    #[error("there is no audit entry {0}")]
    NotFound(AuditId),
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// No such command, or none that the caller may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no command {0}")]
pub struct CommandNotFound(pub CommandId);

/// A command that was not dispatched.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DispatchError {
    /// See [`SiteNotFound`].
    #[error(transparent)]
    SiteNotFound(#[from] SiteNotFound),
    /// The site's state does not allow it, or a value is bad.
    #[error(transparent)]
    Refused(#[from] DispatchRefusal),
    /// The idempotency key came with another body before. Use a new key.
    #[error("this Idempotency-Key was used for another request: use a new key")]
    KeyReused,
    /// More hosts than one bulk dispatch reaches. Narrow the query.
    #[error("{found} hosts match, and one call reaches at most {max}: narrow the query")]
    TooManyHosts {
        /// Hosts that match.
        found: u64,
        /// The bound.
        max: usize,
    },
    /// See [`WrongRole`].
    #[error(transparent)]
    WrongRole(#[from] WrongRole),
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// A read of the audit chain that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuditChainError {
    /// The chain holds entries about all sites and tenants.
    #[error(
        "Permission denied: your token is confined to some sites or a tenant, the audit chain needs one that is not"
    )]
    Confined,
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// A command that was not cancelled.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CancelError {
    /// See [`CommandNotFound`].
    #[error(transparent)]
    NotFound(#[from] CommandNotFound),
    /// It has ended.
    #[error(transparent)]
    Refused(#[from] CancelRefusal),
    /// See [`WrongRole`].
    #[error(transparent)]
    WrongRole(#[from] WrongRole),
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// A change of the sites' registry that was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RegistryError {
    /// See [`SiteNotFound`].
    #[error(transparent)]
    NotFound(#[from] SiteNotFound),
    /// Another site has the name.
    #[error("a site with this name exists already: choose another name")]
    NameTaken,
    /// Another site has the identity key.
    #[error("another site is registered with this identity key: each site needs a key of its own")]
    IdentityTaken,
    /// Too many sites.
    #[error("the federation has reached {max} sites: remove some first")]
    TooMany {
        /// The bound.
        max: usize,
    },
    /// The operator's token is confined to some sites and cannot make new ones.
    #[error("your token is confined to some sites: creating one needs a token for all sites")]
    Confined,
    /// The state does not allow it, or a value is bad.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// See [`WrongRole`].
    #[error(transparent)]
    WrongRole(#[from] WrongRole),
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// An enrollment completion that was refused. The token stays usable.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CompleteError {
    /// The decision.
    #[error(transparent)]
    Refused(#[from] EnrollmentRefusal),
    /// The certificate does not parse.
    #[error("tls_cert_pem is not a certificate in PEM")]
    Certificate,
    /// See [`WrongRole`].
    #[error(transparent)]
    WrongRole(#[from] WrongRole),
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl CompleteError {
    /// The stable code, the same over HTTP and over a link.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Refused(EnrollmentRefusal::UnknownToken) => "enrollment_token_unknown",
            Self::Refused(EnrollmentRefusal::ExpiredToken) => "enrollment_token_expired",
            Self::Refused(EnrollmentRefusal::CertificateMissing) => "certificate_missing",
            Self::Refused(EnrollmentRefusal::IdentityMissing) => "identity_missing",
            Self::Refused(EnrollmentRefusal::IdentityMismatch) => "identity_mismatch",
            Self::Certificate => "certificate_invalid",
            Self::WrongRole(_) => "wrong_role",
            Self::Unavailable(_) => "unavailable",
        }
    }
}

/// A site's bearer or signature that was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SiteAuthenticationError {
    /// No site has this bearer.
    #[error("the bearer is missing or unknown: enroll the site again")]
    Unknown,
    /// The site is on hold: keep the queue and try again later.
    #[error("the site is suspended: its queue is kept, try again later")]
    Suspended,
    /// The bearer is another site's.
    #[error("Bearer token does not match the site in the path")]
    OtherSite,
    /// Signatures are required here.
    #[error("X-Federation-Signature is missing or does not verify against the pinned certificate")]
    Signature,
}

/// A coordinator's bearer or signature that this site did not accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CoordinatorAuthenticationError {
    /// It is not the bearer of this site's coordinator, or the site is not enrolled.
    #[error("the bearer is missing or not this site's coordinator's: the site must be enrolled with you")]
    Unknown,
    /// Signatures are required here.
    #[error("X-Federation-Signature is missing or does not verify against the coordinator's certificate")]
    Signature,
}

/// A push that this site did not take.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ReceiveError {
    /// See [`WrongRole`].
    #[error(transparent)]
    WrongRole(#[from] WrongRole),
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// A membership that this site did not end.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum LeaveError {
    /// There is none.
    #[error("this site is not enrolled: there is nothing to leave")]
    NotEnrolled,
    /// See [`WrongRole`].
    #[error(transparent)]
    WrongRole(#[from] WrongRole),
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// A wish for a credential that was not queued.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum LeaseRequestError {
    /// A value is not allowed.
    #[error(transparent)]
    Refused(#[from] LeaseRequestRefusal),
    /// See [`WrongRole`].
    #[error(transparent)]
    WrongRole(#[from] WrongRole),
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// An operator's token that was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OperatorAuthenticationError {
    /// None was sent.
    #[error("a bearer token is required: `hansa token mint` makes one")]
    Missing,
    /// It is not one of ours, or changed.
    #[error("the token is not valid here: `hansa token mint` makes a new one")]
    Invalid,
    /// It is too old.
    #[error("the token has expired: `hansa token mint` makes a new one")]
    Expired,
    /// The token's issuer does not answer, so nobody can tell. Retry later.
    #[error("the token's issuer does not answer: retry in a moment")]
    IssuerDown,
    /// The store did not answer. Retry later.
    #[error("the store failed: retry later and look at the node's log")]
    Storage,
}

impl From<Unavailable> for OperatorAuthenticationError {
    fn from(_: Unavailable) -> Self {
        Self::Storage
    }
}

/// A login that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// No such user, a wrong password, or a disabled user: which of them is in the audit log alone.
    #[error("the user id or the password is wrong, or the user is disabled")]
    Refused,
    /// Too many tries, of this user or of all.
    #[error("too many logins: wait {} s, then try again", .retry_after.as_secs() + 1)]
    Throttled {
        /// The least time to wait.
        retry_after: std::time::Duration,
    },
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// A refresh token that was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefreshError {
    /// It is unknown, used before, too old, or its user was changed. Log in again.
    #[error("the login has ended: log in again")]
    Ended,
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// A change of users or API keys that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// No such user, or none that the caller may see.
    #[error("there is no such user")]
    UserNotFound,
    /// No such key, or none that the caller may see.
    #[error("there is no such API key")]
    KeyNotFound,
    /// A user has this id.
    #[error("a user with this id exists already: change it instead")]
    UserTaken,
    /// A key has this name.
    #[error("an API key with this name exists already: choose another name")]
    KeyTaken,
    /// The node is full.
    #[error("the node has reached {max} {what}: remove some first")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The bound.
        max: usize,
    },
    /// A value is bad.
    #[error(transparent)]
    Invalid(#[from] hansa_model::access::InvalidAccess),
    /// The caller does not hold what they would give, change or take.
    #[error(transparent)]
    Exceeds(#[from] hansa_model::access::Exceeds),
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// A site's payload that was not stored.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum IngestError {
    /// The payload breaks a rule.
    #[error(transparent)]
    Rollup(#[from] InvalidRollup),
    /// See [`SiteNotFound`].
    #[error(transparent)]
    NotFound(#[from] SiteNotFound),
    /// The site's state refuses it.
    #[error("the site is {0}")]
    Status(SiteStatus),
    /// A lease request that can never be met.
    #[error(transparent)]
    Lease(#[from] InvalidLeaseRequest),
    /// The site has too many leases with something left to do.
    #[error("the site has {max} open leases: try again when some have ended")]
    TooManyLeases {
        /// The bound.
        max: usize,
    },
    /// This node takes no such report.
    #[error("this node takes no such report")]
    NotTaken,
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// No such lease, or none that the caller may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no secret lease {0}")]
pub struct LeaseNotFound(pub LeaseId);

/// A lease that could not be shown or revoked.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum LeaseError {
    /// See [`LeaseNotFound`].
    #[error(transparent)]
    NotFound(#[from] LeaseNotFound),
    /// It has ended already.
    #[error(transparent)]
    Over(#[from] LeaseOver),
    /// See [`WrongRole`].
    #[error(transparent)]
    WrongRole(#[from] WrongRole),
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// A call to a site's own inventory that was refused as a whole.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InventoryError {
    /// The snapshot would remove too much.
    #[error(transparent)]
    RemovalGuard(#[from] RemovalGuard),
    /// More entries than one call may have.
    #[error("a call takes at most {max} entries: split it")]
    TooMany {
        /// The bound.
        max: usize,
    },
    /// See [`WrongRole`].
    #[error(transparent)]
    WrongRole(#[from] WrongRole),
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// A call about a site's own results and findings that was refused as a whole.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FindingsError {
    /// The baseline's name is none, or there are too many.
    #[error(transparent)]
    Baseline(#[from] InvalidRollup),
    /// The site holds no such baseline.
    #[error("this site holds no baseline of this name: `hansa compliance list` shows those it holds")]
    BaselineNotFound(String),
    /// See [`WrongRole`].
    #[error(transparent)]
    WrongRole(#[from] WrongRole),
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// An enrollment that this site tried and that failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EnrollError {
    /// A value is blank or malformed.
    #[error("{0}")]
    Invalid(String),
    /// Member of another federation.
    #[error("this site is enrolled with {0}: leave that federation first")]
    OtherCoordinator(String),
    /// There is no membership whose coordinator could have moved.
    #[error("this site is not enrolled: join a federation first")]
    NotEnrolled,
    /// The coordinator's proof does not verify.
    #[error(
        "the coordinator's identity proof does not verify against the key you gave: compare the fingerprints, then try again"
    )]
    CoordinatorIdentity,
    /// The coordinator could not be reached.
    #[error("the coordinator cannot be reached: {0}")]
    Unreachable(String),
    /// The coordinator refused.
    #[error("the coordinator refused: {0}")]
    Refused(String),
    /// See [`WrongRole`].
    #[error(transparent)]
    WrongRole(#[from] WrongRole),
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// A key that the keyring did not take.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TrustError {
    /// It is no key.
    #[error("public_key_pem is not an Ed25519 public key in PEM")]
    InvalidKey,
    /// No key has this name.
    #[error("there is no trusted peer of this name")]
    NotFound,
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// A read of the past that failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PastError {
    /// The host was not there, or the operator may not see it.
    #[error(transparent)]
    HostNotFound(#[from] HostNotFound),
    /// The moment lies before what is kept. Ask for a later one.
    #[error(transparent)]
    NotKept(#[from] NotKept),
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// A read that failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ReadError {
    /// See [`SiteNotFound`].
    #[error(transparent)]
    SiteNotFound(#[from] SiteNotFound),
    /// See [`HostNotFound`].
    #[error(transparent)]
    HostNotFound(#[from] HostNotFound),
    /// See [`CommandNotFound`].
    #[error(transparent)]
    CommandNotFound(#[from] CommandNotFound),
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// No such policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no policy {0}")]
pub struct PolicyNotFound(pub PolicyId);

/// No such rollout of the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no rollout {0} of this policy")]
pub struct RolloutNotFound(pub RolloutId);

/// A call about policies that was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PolicyError {
    /// See [`PolicyNotFound`].
    #[error(transparent)]
    NotFound(#[from] PolicyNotFound),
    /// See [`SiteNotFound`].
    #[error(transparent)]
    SiteNotFound(#[from] SiteNotFound),
    /// See [`RolloutNotFound`].
    #[error(transparent)]
    RolloutNotFound(#[from] RolloutNotFound),
    /// Another policy of this type has the name, perhaps an inactive one.
    #[error("a policy of this type has this name already, perhaps an inactive one: choose another name")]
    NameTaken,
    /// Too many policies.
    #[error("the federation has reached {max} policies, inactive ones included")]
    TooMany {
        /// The bound.
        max: usize,
    },
    /// The operator's token is confined to some sites; what they ask concerns all.
    #[error(
        "your token is confined to some sites: policies themselves, and rollouts, need a token for all sites"
    )]
    Confined,
    /// The state does not allow it, or a value is bad. Fix the request.
    #[error(transparent)]
    Rejected(#[from] PolicyRejection),
    /// The waves cannot be made. Fix the request.
    #[error(transparent)]
    Staging(#[from] InvalidStaging),
    /// Something changed since the plan was made. Look at a new plan.
    #[error("the plan is out of date: policy or sites have changed since, look at a new plan")]
    PlanMoved,
    /// A rollout of the policy is not over.
    #[error("rollout {0} of this policy is not over: wait for it, or abort it")]
    RollingOut(RolloutId),
    /// The rollout is in another state.
    #[error(transparent)]
    RolloutState(#[from] WrongState),
    /// See [`WrongRole`].
    #[error(transparent)]
    WrongRole(#[from] WrongRole),
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// An operation on alerts that was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AlertError {
    /// There is none with this id, or the operator may not see its site.
    #[error("there is no alert {0}: GET /api/v1/federation/alerts lists them")]
    NotFound(AlertId),
    /// The thresholds concern sites that the operator may not see.
    #[error("Permission denied: the thresholds hold for every site, and the token is confined to some")]
    Confined,
    /// A threshold is out of its range. Fix the request.
    #[error(transparent)]
    Invalid(#[from] InvalidThreshold),
    /// See [`WrongRole`].
    #[error(transparent)]
    WrongRole(#[from] WrongRole),
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// An operation on webhooks that was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum WebhookError {
    /// The configuration names none.
    #[error("no webhook is named {0}: the configuration names them")]
    NotFound(String),
    /// See [`WrongRole`].
    #[error(transparent)]
    WrongRole(#[from] WrongRole),
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}
