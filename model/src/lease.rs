//! A lease of a short-lived credential: asked for by a site, issued by its coordinator (contract 10).
//!
//! The credential itself is never part of a row. What a row keeps beside the contract's members says what
//! the site still has to be told and whether the issuer still has something to take away.

use serde::{Deserialize, Serialize};

use crate::id::LeaseId;
use crate::{SiteId, Timestamp};

/// What sort of credential is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseKind {
    /// A user name and password of a database.
    Database,
    /// A one-time key for SSH.
    Ssh,
    /// An opaque token.
    Token,
}

/// A text that names no kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not one of database, ssh, token")]
pub struct InvalidKind;

impl LeaseKind {
    /// The spelling in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Ssh => "ssh",
            Self::Token => "token",
        }
    }
}

impl std::fmt::Display for LeaseKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for LeaseKind {
    type Err = InvalidKind;

    fn from_str(text: &str) -> Result<Self, InvalidKind> {
        [Self::Database, Self::Ssh, Self::Token]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or(InvalidKind)
    }
}

/// Where a lease stands (contract 10).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseStatus {
    /// Asked for, not issued yet.
    Requested,
    /// The credential is good until `expires_at`.
    Active,
    /// It could not be issued, renewed or handed over.
    Failed,
    /// Taken away.
    Revoked,
    /// Its time was over before it was renewed.
    Expired,
}

/// A text that names no status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not one of requested, active, failed, revoked, expired")]
pub struct InvalidLeaseStatus;

impl LeaseStatus {
    /// The spelling in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Active => "active",
            Self::Failed => "failed",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
        }
    }

    /// Whether nothing but a late renewal changes it any more.
    pub const fn is_terminal(self) -> bool {
        match self {
            Self::Requested | Self::Active => false,
            Self::Failed | Self::Revoked | Self::Expired => true,
        }
    }
}

impl std::fmt::Display for LeaseStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for LeaseStatus {
    type Err = InvalidLeaseStatus;

    fn from_str(text: &str) -> Result<Self, InvalidLeaseStatus> {
        [Self::Requested, Self::Active, Self::Failed, Self::Revoked, Self::Expired]
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or(InvalidLeaseStatus)
    }
}

/// A lease's row. The field order is a stored format: fields are only added at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Ours, time-ordered.
    pub id: LeaseId,
    /// The site that asked.
    pub site_id: SiteId,
    /// The host that the credential is for; text, as the contract has it.
    pub host_id: String,
    /// What was asked for.
    pub secret_name: String,
    /// Role at the issuer.
    pub backend_role: String,
    /// See [`LeaseKind`].
    pub kind: LeaseKind,
    /// See [`LeaseStatus`].
    pub status: LeaseStatus,
    /// Where the issuer has it; none before it was issued.
    pub vault_lease_id: Option<String>,
    /// Life of the credential, 60 to 86,400 seconds.
    pub ttl_seconds: u32,
    /// When it was asked for.
    pub requested_at: Timestamp,
    /// When it was first issued.
    pub issued_at: Option<Timestamp>,
    /// End of the present credential.
    pub expires_at: Option<Timestamp>,
    /// When a new value last took the place of an old one.
    pub last_renewed_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// When the site took the present value; none while it has not (contract 13.13).
    pub delivered_at: Option<Timestamp>,
    /// Why the last step failed; none after one that succeeded.
    pub last_error: Option<String>,
    /// A JSON object as text, such as a user name; no secret.
    pub secret_metadata: Option<String>,
    /// The site's own key of its request; a repeat of it is the same request.
    pub correlation_key: String,
    /// Name of the issuer that has it; none before one was asked.
    pub issuer: Option<String>,
    /// Rises with each word that the site must be told; what a delivery settles.
    pub version: u64,
    /// The highest version that the site has taken, or that it need not be told any more.
    pub settled: u64,
    /// Values offered to the site since it last took one; for the wait until the next.
    pub offers: u32,
    /// Times that the site refused a word for good, since it last took one.
    pub refusals: u32,
    /// Calls of the issuer that failed in a row.
    pub failures: u32,
    /// When the issuer was last asked, or the last value offered; for the waits.
    pub tried_at: Option<Timestamp>,
    /// The issuer has nothing of it any more; only said of terminal leases.
    pub released: bool,
    /// Credentials, as `vault_lease_id` names them, that a newer one has taken the place of or that came too
    /// late, and that the issuer still has.
    pub leftovers: Vec<String>,
}
