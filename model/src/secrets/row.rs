//! What is kept of backends and secrets. Field orders are stored formats.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::backend::BackendKind;
use super::id::{BackendId, ConflictId, SyncRunId, TenantId};
use super::path::SecretPath;
use super::value::Mark;
use crate::Timestamp;

/// How a backend's secrets are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Each read asks the backend.
    Proxy,
    /// Each read is answered from a sealed copy here, which a schedule keeps up to date.
    Sync,
}

impl Mode {
    /// The spelling in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Sync => "sync",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        [Self::Proxy, Self::Sync].into_iter().find(|mode| mode.as_str() == text).ok_or(UnknownMode)
    }
}

/// A text that is no mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not one of proxy, sync")]
pub struct UnknownMode;

/// A backend (contract B.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// Server-made.
    pub id: BackendId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Unique in the tenant.
    pub name: String,
    /// What it speaks to; never changes.
    pub kind: BackendKind,
    /// Its `config` as it was sent, a JSON object as text. Never a credential.
    pub config: String,
    /// From path patterns to templates of names.
    pub path_mapping: BTreeMap<String, String>,
    /// See [`Mode`].
    pub mode: Mode,
    /// Between two syncs, in seconds; kept while the mode is proxy.
    pub sync_interval_seconds: Option<u64>,
    /// Whether writes go through to the backend; in sync mode only.
    pub write_through: bool,
    /// Off: its paths answer 503, and nothing is synced.
    pub enabled: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its configuration last changed.
    pub updated_at: Timestamp,
    /// It was removed, and this is still to become of its copies; then the row goes too.
    pub leaving: Option<Leaving>,
}

/// What becomes of the copies of a backend that was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Leaving {
    /// They go with it, except those that were changed here.
    Forget,
    /// They stay as secrets of this node.
    Keep,
}

/// What a secret is, for whoever reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names are the contract's (C.1)")]
pub enum SecretType {
    Kv,
    Json,
    Certificate,
    SshKey,
    ApiKey,
}

impl SecretType {
    /// Every type, in the order of the documentation.
    pub const ALL: [Self; 5] = [Self::Kv, Self::Json, Self::Certificate, Self::SshKey, Self::ApiKey];

    /// The spelling in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kv => "kv",
            Self::Json => "json",
            Self::Certificate => "certificate",
            Self::SshKey => "ssh_key",
            Self::ApiKey => "api_key",
        }
    }
}

impl FromStr for SecretType {
    type Err = UnknownType;

    fn from_str(text: &str) -> Result<Self, UnknownType> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(UnknownType)
    }
}

/// A text that is no type of secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not one of kv, json, certificate, ssh_key, api_key")]
pub struct UnknownType;

/// A secret of this node or a copy of a backend's, without its values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretRow {
    /// See [`SecretType`].
    pub secret_type: SecretType,
    /// Number of the newest version; numbers only grow, also over a deletion.
    pub current: u64,
    /// The versions whose values are kept, ascending.
    pub versions: Vec<VersionRow>,
    /// What its owner says about it: a JSON object as text.
    pub metadata: String,
    /// Versions kept.
    pub max_versions: u32,
    /// When the first version was made.
    pub created_at: Timestamp,
    /// When the newest was.
    pub updated_at: Timestamp,
    /// When it ends; it then reads as if it were not there.
    pub expires_at: Option<Timestamp>,
    /// When it was deleted; its values are kept for a while.
    pub deleted_at: Option<Timestamp>,
    /// What it is a copy of.
    pub copy: Option<CopyRow>,
}

impl SecretRow {
    /// Whether reads find it.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.deleted_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }

    /// Whether somebody wrote here what the original does not have: such a value is nobody's copy.
    pub fn is_edited(&self) -> bool {
        self.copy.as_ref().is_none_or(|copy| copy.common != self.current)
    }

    /// The version of this number, if its value is kept.
    pub fn version(&self, number: u64) -> Option<&VersionRow> {
        self.versions.iter().find(|version| version.number == number)
    }
}

/// One version of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRow {
    /// From one.
    pub number: u64,
    /// When it was made here.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// The backend's own name of it.
    pub backend_version: Option<String>,
}

/// What a copy knows of its original.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyRow {
    /// Where the original is.
    pub backend: BackendId,
    /// Its name there.
    pub name: String,
    /// What told it from the next value when it was last fetched.
    pub mark: Option<Mark>,
    /// Our version that equals the original as it was last seen.
    pub common: u64,
    /// When it was last seen there.
    pub seen_at: Timestamp,
    /// Complete listings in a row that did not name it.
    pub absent: u8,
}

/// Why a local value and a backend's are kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConflictKind {
    /// Somebody had written a secret here before the first copy came.
    LocalExists,
    /// Both sides have changed since they were equal.
    BothChanged,
    /// Two names of the backend are one path here.
    NameCollision,
    /// The original is gone, and the copy was changed here.
    LocalEditRemoteDeleted,
}

impl ConflictKind {
    /// The spelling in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LocalExists => "local_exists",
            Self::BothChanged => "both_changed",
            Self::NameCollision => "name_collision",
            Self::LocalEditRemoteDeleted => "local_edit_remote_deleted",
        }
    }
}

/// A path whose local value is served and whose backend says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// Server-made.
    pub id: ConflictId,
    /// The path here.
    pub path: SecretPath,
    /// The names at the backend: one, or those that collide.
    pub names: Vec<String>,
    /// See [`ConflictKind`].
    pub kind: ConflictKind,
    /// Our version that is being served; zero for none.
    pub local_version: u64,
    /// The keyed fingerprint of that version's value; empty for none.
    pub local_fingerprint: String,
    /// The mark of the backend's value when it was last seen.
    pub remote_mark: Option<Mark>,
    /// The backend's own name of that version.
    pub remote_version: Option<String>,
    /// When the backend says that it was made.
    pub remote_updated_at: Option<Timestamp>,
    /// The keyed fingerprint of the backend's value; empty for none.
    pub remote_fingerprint: String,
    /// When it was found.
    pub detected_at: Timestamp,
    /// When a sync last saw it.
    pub last_seen_at: Timestamp,
    /// Somebody chose the local value: left alone until the backend's changes again.
    pub kept_local: bool,
}

/// What started a sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// Its time had come.
    Schedule,
    /// Somebody asked for it.
    Manual,
}

impl Trigger {
    /// The spelling in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Manual => "manual",
        }
    }
}

/// What a run of a sync did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SyncCounts {
    /// Names that the backend listed.
    pub listed: u64,
    /// Copies that were made.
    pub created: u64,
    /// Copies that got a new version.
    pub updated: u64,
    /// Copies whose original is gone.
    pub deleted: u64,
    /// Names that have no path here.
    pub skipped: u64,
    /// Paths found in conflict.
    pub conflicts: u64,
    /// Values that could not be fetched.
    pub failed: u64,
    /// Values that were fetched.
    pub fetched: u64,
}

/// What a backend's syncs left behind.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SyncState {
    /// The last run that was complete.
    pub completed: Option<SyncRun>,
    /// The last run of all.
    pub last: Option<SyncRun>,
    /// Runs in a row that failed or were partial.
    pub failures: u32,
    /// Copies that are served.
    pub copies: u64,
    /// A run that would have deleted too many waits for somebody to confirm.
    pub guarded: bool,
    /// When the next run is due.
    pub next_at: Option<Timestamp>,
    /// Why the last call failed, in our words, and when.
    pub last_error: Option<(String, Timestamp)>,
}

/// One run of a sync.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncRun {
    /// Server-made.
    pub id: SyncRunId,
    /// See [`Trigger`].
    pub trigger: Trigger,
    /// When it began.
    pub begun_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// What it did.
    pub counts: SyncCounts,
    /// Whether every listing finished and nothing failed.
    pub complete: bool,
}
