//! The engine's view of a [`RawFile`]: remembers why it failed, and can be fenced off.
//!
//! When the file is opened anew after an error, readers of the old handle may still be at work. The new
//! handle knows nothing of their snapshots and will overwrite their pages, so the old handle is fenced
//! first: from then on it reads and writes nothing, and its readers end with an error instead of with
//! torn pages.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::disk::RawFile;

/// What the backend knows about its file and its own failures.
#[derive(Debug, Default)]
pub(crate) struct Health {
    fenced: RwLock<bool>,
    sync_failed: AtomicBool,
    full: AtomicBool,
    file_bytes: AtomicU64,
}

impl Health {
    /// Lets nothing through any more; returns when no operation is under way.
    pub(crate) fn fence(&self) {
        *self.fenced.write().unwrap_or_else(PoisonError::into_inner) = true;
    }

    pub(crate) fn is_fenced(&self) -> bool {
        *self.fenced.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// A sync failed: nobody knows what is on the medium.
    pub(crate) fn sync_failed(&self) -> bool {
        self.sync_failed.load(Ordering::Acquire)
    }

    /// A write found no room.
    pub(crate) fn full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    /// Length of the file, as the engine last heard or set it.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.file_bytes.load(Ordering::Acquire)
    }

    fn guarded<T>(&self, operation: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let fenced = self.fenced.read().unwrap_or_else(PoisonError::into_inner);
        if *fenced {
            return Err(io::Error::other("the file was opened anew"));
        }
        operation().inspect_err(|error| self.note(error))
    }

    fn note(&self, error: &io::Error) {
        if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            self.full.store(true, Ordering::Release);
        }
    }
}

/// A [`RawFile`] as the engine takes it.
#[derive(Debug)]
pub(crate) struct Backend {
    file: Box<dyn RawFile>,
    health: Arc<Health>,
}

impl Backend {
    pub(crate) const fn new(file: Box<dyn RawFile>, health: Arc<Health>) -> Self {
        Self { file, health }
    }
}

impl redb::StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        let len = self.health.guarded(|| self.file.len())?;
        self.health.file_bytes.store(len, Ordering::Release);
        Ok(len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.health.guarded(|| self.file.read(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.health.guarded(|| self.file.set_len(len))?;
        self.health.file_bytes.store(len, Ordering::Release);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.health.guarded(|| {
            self.file.sync_data().inspect_err(|_| self.health.sync_failed.store(true, Ordering::Release))
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.health.guarded(|| self.file.write(offset, data))
    }
}
