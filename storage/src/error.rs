//! What can go wrong in the store, split by what the caller does next.
//!
//! The cause from the engine stays inside: a [`Fault`] can be printed and walked as a source, and no
//! engine type shows.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

/// What a caller does about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Repeat at once.
    Now,
    /// Repeat after a back-off; the cause is outside the request.
    Later,
    /// Repeating changes nothing: read again and decide anew, or fix the request.
    Never,
    /// A person must look; repeating does not help.
    Page,
}

/// The engine's own account of a failure; for logs and sources, never for strangers.
#[derive(Clone)]
pub struct Fault(Arc<dyn Error + Send + Sync>);

impl Fault {
    pub(crate) fn new(error: impl Error + Send + Sync + 'static) -> Self {
        Self(Arc::new(error))
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fault({})", self.0)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Fault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// A stored record that does not decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A newer program wrote it.
    #[error(
        "the record has layout version {version}, which this program does not know: use the newer program"
    )]
    UnknownVersion {
        /// The record's first byte.
        version: u8,
    },
    /// The bytes are none of this table's.
    #[error("the record does not decode: restore a backup, then report the damage")]
    Malformed,
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process holds the data folder.
    #[error("the data folder is in use by another process: stop it, or choose another folder")]
    InUse,
    /// The file was written by a newer program.
    #[error("the store has format {found}, this program knows up to {known}: use the newer program")]
    NewerFormat {
        /// What the file says.
        found: u64,
        /// What this program knows.
        known: u64,
    },
    /// The root key is not the one that this store was created with.
    #[error("the root key does not open this store: put the original key file back")]
    WrongRootKey,
    /// The file is damaged, or is no store.
    #[error("the store's file is damaged: restore a backup")]
    Corrupt(#[source] Fault),
    /// The disk refused. Fix the cause and start again.
    #[error("the store's file could not be opened: check the data folder's disk and permissions")]
    Io(#[source] Fault),
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::WouldBlock {
            return Self::InUse;
        }
        Self::Io(Fault::new(error))
    }
}

impl From<redb::Error> for OpenError {
    fn from(error: redb::Error) -> Self {
        if is_corruption(&error) { Self::Corrupt(Fault::new(error)) } else { Self::Io(Fault::new(error)) }
    }
}

impl From<ReadError> for OpenError {
    fn from(error: ReadError) -> Self {
        let corrupt = matches!(error, ReadError::Corrupt { .. } | ReadError::Record { .. });
        if corrupt { Self::Corrupt(Fault::new(error)) } else { Self::Io(Fault::new(error)) }
    }
}

/// Why a batch is not stored. Unless said otherwise, it has no effect at all.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// The disk has too little room. Reads go on, and what was acknowledged is safe.
    #[error("the disk of the data folder is full: free at least {reserve_bytes} bytes, then repeat")]
    Full {
        /// What must be free before bulk and operator writes are taken again.
        reserve_bytes: u64,
    },
    /// The state that the batch was decided on has changed: read again and decide anew.
    #[error("precondition {which} of the batch does not hold in {table}")]
    PreconditionFailed {
        /// The table that the precondition looks at.
        table: &'static str,
        /// Its index among the batch's preconditions, in the order they were added.
        which: usize,
    },
    /// The store is closed, or has stopped after an error that only a restart cures.
    #[error("the store is closed")]
    Closed,
    /// The disk failed. After a failed sync whether the batch is stored is known only after a restart.
    #[error("the store's disk failed: look at the machine's disk, then restart the node")]
    Io(#[source] Fault),
    /// The file is damaged.
    #[error("the store's file is damaged: restore a backup")]
    Corrupt(#[source] Fault),
}

impl CommitError {
    /// What the caller does next.
    pub const fn retry(&self) -> Retry {
        match self {
            Self::Full { .. } | Self::Closed => Retry::Later,
            Self::PreconditionFailed { .. } => Retry::Never,
            Self::Io(_) | Self::Corrupt(_) => Retry::Page,
        }
    }
}

/// Why a read gave no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
    /// The file is being opened again after a disk error.
    #[error("the store is not readable for the moment: repeat shortly")]
    Unavailable,
    /// The file was opened again after a disk error, and this snapshot ended: take a new one.
    #[error("the snapshot has ended: read again")]
    SnapshotEnded,
    /// A record does not decode.
    #[error("a record of {table} is unreadable")]
    Record {
        /// The table it lies in.
        table: &'static str,
        /// What is wrong with it.
        #[source]
        source: RecordError,
    },
    /// A sealed record does not open: it was moved or changed, or the root key is another.
    #[error("a sealed record of {table} does not open: it was changed, or the root key is not the original")]
    Sealed {
        /// The table it lies in.
        table: &'static str,
    },
    /// The file is damaged.
    #[error("the store's file is damaged: restore a backup")]
    Corrupt(#[source] Fault),
    /// The disk failed.
    #[error("the store's disk failed: look at the machine's disk")]
    Io(#[source] Fault),
}

impl ReadError {
    /// What the caller does next.
    pub const fn retry(&self) -> Retry {
        match self {
            Self::SnapshotEnded => Retry::Now,
            Self::Unavailable | Self::Closed => Retry::Later,
            Self::Record { .. } | Self::Sealed { .. } | Self::Corrupt(_) | Self::Io(_) => Retry::Page,
        }
    }
}

/// Why a backup or restore did not finish. Nothing of it is left behind.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The target exists; a backup never overwrites.
    #[error("the target exists already: choose another path")]
    TargetExists,
    /// The given file is no store that this program can open.
    #[error("the backup cannot be opened")]
    Source(#[source] OpenError),
    /// Reading the running store failed.
    #[error("the running store could not be read")]
    Read(#[source] ReadError),
    /// Writing the target failed.
    #[error("the target could not be written: check its disk and permissions")]
    Write(#[source] Fault),
}

/// Whether the engine says that the file itself is wrong, rather than the disk under it.
pub(crate) const fn is_corruption(error: &redb::Error) -> bool {
    matches!(
        error,
        redb::Error::Corrupted(_)
            | redb::Error::TableTypeMismatch { .. }
            | redb::Error::TableIsMultimap(_)
            | redb::Error::TableIsNotMultimap(_)
            | redb::Error::TypeDefinitionChanged { .. }
            | redb::Error::UpgradeRequired(_)
    )
}
