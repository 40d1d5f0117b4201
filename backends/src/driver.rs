//! The one trait that every driver serves, and the words it answers in.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hansa_model::secrets::backend::{BackendConfig, BackendKind, InvalidConfig};
use hansa_model::secrets::value::{Mark, RemoteSecret, SecretData};
use hansa_model::{Entropy, Secret, WallClock};

/// A call on its way.
pub type Call<'a, T> = Pin<Box<dyn Future<Output = Result<T, CallError>> + Send + 'a>>;

/// One configured secret store.
///
/// Names are the backend's own, in full and as mappings' templates give them: `secret/data/app/db` at a Vault,
/// `prod/billing` at AWS, `prod--db` at Azure and Google. Every call is one attempt within the configured time;
/// dropping it is safe. A driver logs in by itself, shares one login, renews it in time, and logs in once
/// more when a call is refused: what it then answers is final.
pub trait Driver: fmt::Debug + Send + Sync {
    /// Whether the store answers and takes our login; the cheapest call that tells both.
    fn probe(&self) -> Call<'_, ()>;

    /// Reads one value.
    fn read<'a>(&'a self, name: &'a str, version: ReadVersion<'a>) -> Call<'a, Found>;

    /// Reads several current values at once where the store can, in any order; a name that is missing from
    /// the answer is to be read alone. The default reads none.
    fn read_many<'a>(&'a self, names: &'a [String]) -> Call<'a, Vec<(String, Result<Found, CallError>)>> {
        let _ = names;
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    /// One page of the names under a literal prefix, and where the next one begins. Folders are named, not
    /// entered. A store that cannot filter answers more than was asked for.
    fn list<'a>(&'a self, prefix: &'a str, page: Option<&'a str>) -> Call<'a, ListPage>;

    /// What tells the current value from another one, without fetching it. None when only the store's listing
    /// says it (Azure), or nothing but the value itself (version 1 of Vault's engine).
    fn mark<'a>(&'a self, name: &'a str) -> Call<'a, Option<Mark>>;

    /// Writes a value as a new version.
    fn write<'a>(&'a self, name: &'a str, write: Write<'a>) -> Call<'a, Written>;
}

/// One server that makes short-lived credentials and takes them away by itself at their end: a Vault's
/// dynamic engines.
///
/// It logs in as a [`Driver`] does, and a call is one attempt within the configured time. A call that is
/// dropped, or whose answer gets lost, may leave a credential behind that nobody knows: it ends with its time.
pub trait Leaser: fmt::Debug + Send + Sync {
    /// Makes one more credential, by what the engine answers at this path, such as `database/creds/reader`. It
    /// lives as long as is asked for where the server allows that, else shorter.
    fn lease<'a>(&'a self, path: &'a str, life: Duration) -> Call<'a, Leased>;

    /// Takes a credential away; on return it opens nothing any more. One that is not there is taken away.
    fn end<'a>(&'a self, lease_id: &'a str) -> Call<'a, ()>;
}

/// A credential that was made.
#[derive(Debug, Clone)]
pub struct Leased {
    /// What the server knows it by.
    pub lease_id: String,
    /// How long it lives for certain: never longer than the login that it hangs on.
    pub life: Duration,
    /// What the engine gives, a JSON object.
    pub data: Secret<String>,
}

/// Which version to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadVersion<'a> {
    /// The newest.
    Current,
    /// By number, where the store counts.
    Number(u64),
    /// By the store's own name of it.
    Named(&'a str),
}

/// A value that was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// The value and what is known of it.
    pub secret: RemoteSecret,
    /// The store's status, for the audit log.
    pub status: u16,
}

/// One page of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListPage {
    /// What it names.
    pub entries: Vec<Entry>,
    /// Where the next page begins; opaque. A page may be empty and still have one.
    pub next: Option<String>,
}

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A secret, by its full name, with its mark where the listing holds one.
    Secret {
        /// As [`Driver::read`] takes it.
        name: String,
        /// See [`Driver::mark`].
        mark: Option<Mark>,
    },
    /// A folder, by its full name without a slash at the end, as [`Driver::list`] takes it.
    Folder {
        /// The prefix to list.
        name: String,
    },
}

/// What to write.
#[derive(Debug, Clone, Copy)]
pub struct Write<'a> {
    /// The whole value.
    pub data: &'a SecretData,
    /// The version that must be the newest, where the store compares: zero for none.
    pub expected: Option<u64>,
    /// The same at each try of one write, where the store knows repeats by it: 32 to 64 characters.
    pub token: &'a str,
}

/// A value that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The new version, where the store counts.
    pub version: Option<u64>,
    /// The new mark, where the answer tells it.
    pub mark: Option<Mark>,
}

/// Why a call has no answer. No text of it comes from the store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No such secret; or deleted, or marked for deletion, or disabled and the newest was asked for.
    #[error("the backend has no such secret")]
    NotFound,
    /// The secret is there, the version that was asked for is not, or cannot be read any more.
    #[error("the backend has no such version")]
    VersionNotFound,
    /// Too many calls.
    #[error("the backend is throttling")]
    Throttled {
        /// What the store asks to wait.
        retry_after: Option<Duration>,
    },
    /// Cannot be reached, is sealed, a standby, or answers 5xx. Trying again may help.
    #[error("the backend cannot be reached: {reason}")]
    Unavailable {
        /// In a few words of ours.
        reason: &'static str,
        /// What the store asks to wait.
        retry_after: Option<Duration>,
        /// Whether no connection came about.
        connect: bool,
    },
    /// The login or the permission is refused, also after logging in once more.
    #[error("the backend refuses our credentials: {reason}")]
    Refused {
        /// In a few words of ours; says so when the clocks are far apart.
        reason: &'static str,
    },
    /// Too large, not what the protocol says, a redirect, or a wrong checksum.
    #[error("the backend answered what cannot be used: {reason}")]
    BadAnswer {
        /// In a few words of ours.
        reason: &'static str,
    },
    /// The address is not one that backends may have.
    #[error("the backend's address {0}")]
    Address(#[from] hansa_model::secrets::address::AddressRefusal),
    /// The newest version is not the expected one.
    #[error("the backend holds another version")]
    Conflict,
    /// The name cannot be one of this store's.
    #[error("the backend cannot have a secret of this name")]
    Name,
}

impl CallError {
    /// Whether the same call may have another outcome at once.
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Throttled { .. } | Self::Unavailable { .. } => true,
            Self::NotFound
            | Self::VersionNotFound
            | Self::Refused { .. }
            | Self::BadAnswer { .. }
            | Self::Address(_)
            | Self::Conflict
            | Self::Name => false,
        }
    }
}

/// What a store is opened with.
#[derive(Debug, Clone)]
pub struct Opening {
    /// How it is configured.
    pub config: BackendConfig,
    /// What logs in; none for what the machine itself has.
    pub login: Option<Login>,
    /// The roots that the server's certificate must lead to, PEM; none takes the public ones.
    pub roots: Option<String>,
    /// Time of signatures and of expiring logins.
    pub wall: Arc<dyn WallClock>,
    /// Randomness of jitter and tokens.
    pub entropy: Arc<dyn Entropy>,
}

/// A login as it is stored: the `data` of the secret that the configuration names.
#[derive(Debug, Clone)]
pub struct Login(pub Secret<String>);

/// Why a store cannot be opened. Nothing was sent anywhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The login secret lacks a member, or one has the wrong form.
    #[error("the login secret {field} {reason}")]
    Login {
        /// The member.
        field: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The roots are not certificates in PEM.
    #[error("the secret at ca_cert_path holds no certificate in PEM")]
    Roots,
    /// The node's own configuration does not allow it.
    #[error("{0}")]
    NotAllowed(&'static str),
    /// The same, of a member of the backend's configuration.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// The program was built without this driver.
    #[error("this program was built without a driver for this type")]
    NotBuilt,
}

/// Opens nothing: for nodes that have no backends.
#[derive(Debug, Clone, Copy)]
pub struct NoDrivers;

impl Drivers for NoDrivers {
    fn open(&self, _opening: Opening) -> Result<Arc<dyn Driver>, OpenError> {
        Err(OpenError::NotBuilt)
    }
}

/// Opens stores. Production is `VendorDrivers`; a simulation brings its own.
pub trait Drivers: fmt::Debug + Send + Sync {
    /// Makes a driver; nothing is sent before its first call.
    ///
    /// # Errors
    /// See [`OpenError`].
    fn open(&self, opening: Opening) -> Result<Arc<dyn Driver>, OpenError>;

    /// Whether a backend of this kind may log in as the machine that the node runs on. The default lets none.
    fn allow_ambient(&self, kind: BackendKind) -> bool {
        let _ = kind;
        false
    }
}
