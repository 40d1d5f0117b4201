//! Durable state of one node, in one file. The only crate that knows redb.
//!
//! ```text
//!  actors ──commit(lane, batch).await──▶ queues, one per lane ──▶ Writer (own thread) ──▶ one transaction
//!     │                                                              │  preconditions, appends numbered,
//!     │                                                              │  audit chained, two-phase, fsync
//!     └──read() → ReadView: snapshot of one moment                   └──▶ receipts
//! ```
//!
//! A [`Batch`] is plain data and the only way to write; [`Store::commit`] returns after the sync. What one
//! batch asks for happens whole or not at all. Reads are snapshots and never wait for the writer.
//!
//! Deliberately absent: any decision about what to store, and any engine type in a signature. The file
//! and its failures are a trait ([`disk::Disk`]), so that simulations and fault tests bring their own.

pub mod audit;
pub mod backup;
pub mod batch;
pub mod check;
pub mod codec;
pub mod disk;
pub mod error;
pub mod read;
pub mod seal;
pub mod table;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

mod backend;
mod engine;
mod generation;
mod log;
pub mod rotation;
mod schema;
#[cfg(test)]
mod tests;
mod transaction;
mod writer;

use std::path::Path;
use std::sync::Arc;

use hansa_model::{Entropy, limits};
use tokio::sync::oneshot;

pub use audit::{FollowedAudit, follow_backup, follow_stopped};
pub use backup::{BackupReport, restore};
pub use batch::{Batch, Lane, Receipt};
pub use check::{CheckReport, check_stopped};
pub use disk::{DirDisk, Disk, RawFile};
pub use error::{BackupError, CommitError, OpenError, ReadError, Retry};
pub use read::{Entries, Order, ReadView};
pub use seal::RootKey;
pub use writer::Driver;

use engine::Engine;
use error::Fault;
use generation::{Current, Trust};
use seal::{Sealer, Sealers};
use writer::{GroupLimits, Request, Senders};

/// How a store is run.
#[derive(Clone)]
pub struct StoreConfig {
    /// Bytes of the page cache. Default 64 MiB: the hot set of a coordinator with 1,000,000 hosts, whose
    /// rows are searched in memory, not here.
    pub cache_bytes: usize,
    /// Bytes of one commit; a single larger batch still goes, alone. Default 8 MiB.
    pub commit_bytes_max: usize,
    /// Batches of one commit. Default 256.
    pub commit_batches_max: usize,
    /// Free bytes of the disk below which bulk and operator writes are refused as full. Default 64 MiB:
    /// several of the largest commits, so that the disk hardly ever fills in the middle of one.
    pub reserve_bytes: u64,
    /// Length of the file up to which a start after a crash walks it, so that commits need not note which
    /// pages are free. Default 16 MiB. See decision 0018.
    pub walk_bytes_max: u64,
    /// Called once when a sync has failed or the writer has panicked, with what happened. It should end the
    /// process: nobody knows what is on the disk until it is opened again. Default: log and abort.
    pub on_fatal: Arc<dyn Fn(&str) + Send + Sync>,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            cache_bytes: 64 * 1024 * 1024,
            commit_bytes_max: limits::actor::COMMIT_BYTES_MAX,
            commit_batches_max: limits::actor::COMMIT_BATCHES_MAX,
            reserve_bytes: 64 * 1024 * 1024,
            walk_bytes_max: limits::actor::REPAIR_WALK_BYTES_MAX,
            on_fatal: Arc::new(|what| {
                tracing::error!(what, "the node stops, so that a restart finds out what is on the disk");
                std::process::abort();
            }),
        }
    }
}

impl std::fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreConfig")
            .field("cache_bytes", &self.cache_bytes)
            .field("commit_bytes_max", &self.commit_bytes_max)
            .field("commit_batches_max", &self.commit_batches_max)
            .field("reserve_bytes", &self.reserve_bytes)
            .field("walk_bytes_max", &self.walk_bytes_max)
            .finish_non_exhaustive()
    }
}

/// A handle on the node's state; cheap to clone. When all clones are gone, the writer stores what waits,
/// closes the file and ends.
#[derive(Clone)]
pub struct Store {
    senders: Senders,
    current: Arc<Current>,
    sealers: Arc<Sealers>,
    driver: Driver,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

impl Store {
    /// Opens the store on a disk, or makes a new one there, and starts its writer.
    ///
    /// With [`Driver::Inline`] it must be called within a runtime.
    ///
    /// # Errors
    /// See [`OpenError`]; nothing that was stored is changed.
    pub fn open(
        config: StoreConfig,
        disk: Arc<dyn Disk>,
        driver: Driver,
        root_key: &RootKey,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, OpenError> {
        let hold = Arc::from(disk.lock()?);
        let generation = match generation::open(&*disk, config.cache_bytes, Trust::AfterCrash, &hold)? {
            Some(generation) => generation,
            None => {
                generation::create(&*disk, config.cache_bytes, root_key, &*entropy)?;
                let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
                generation::open(&*disk, config.cache_bytes, Trust::AfterCrash, &hold)?.ok_or_else(missing)?
            }
        };
        let stored = generation::stored_keys(&generation.database)?;
        let sealer = Sealer::open(root_key, &stored, entropy).map_err(|_| OpenError::WrongRootKey)?;
        let sealers = Arc::new(Sealers::new(sealer));
        let counters = generation::counters(&generation.database)?;
        let current = Arc::new(Current::new(generation));
        let (senders, queues) = writer::queues(limits::actor::WRITER_QUEUE_MAX);
        let limits =
            GroupLimits { bytes_max: config.commit_bytes_max, batches_max: config.commit_batches_max };
        let engine = Engine::new(config, disk, hold, Arc::clone(&current), Arc::clone(&sealers), counters);
        writer::start(&driver, engine, queues, limits)?;
        Ok(Self { senders, current, sealers, driver })
    }

    /// Stores a batch. Returns when it is on disk.
    ///
    /// Dropping the future before it is done leaves open whether the batch is stored. Waits while the
    /// lane's queue is full.
    ///
    /// # Errors
    /// See [`CommitError`]; [`CommitError::retry`] says what to do. A refused precondition concerns this
    /// batch alone, not those that share its transaction.
    pub async fn commit(&self, lane: Lane, mut batch: Batch) -> Result<Receipt, CommitError> {
        batch.seal(&self.sealers.present());
        let (reply, verdict) = oneshot::channel();
        let request = Request { lane, batch, reply };
        self.senders.lane(lane).send(request).await.map_err(|_| CommitError::Closed)?;
        verdict.await.map_err(|_| CommitError::Closed)?
    }

    /// A snapshot of everything committed so far.
    ///
    /// # Errors
    /// [`ReadError::Closed`], or the disk's.
    pub fn read(&self) -> Result<ReadView, ReadError> {
        loop {
            let sealer = self.sealers.present();
            let view = ReadView::new(self.current.get()?, Arc::clone(&sealer))?;
            // A rotation that went on in between may have stored what the older sealer does not open.
            if Arc::ptr_eq(&sealer, &self.sealers.present()) {
                return Ok(view);
            }
        }
    }

    /// Writes a snapshot into a new file, while the store goes on. Durable when it returns.
    ///
    /// # Errors
    /// See [`BackupError`]; nothing is left under the target's name.
    pub async fn backup(&self, to: &Path) -> Result<BackupReport, BackupError> {
        let view = loop {
            let view = self.read().map_err(BackupError::Read)?;
            // A rotation that is being begun or ended: its commit is there, its keys come at once.
            let noted = view.stored_keys().map_err(BackupError::Read)?.previous.is_some();
            if noted == view.sealer().is_rotating() {
                break view;
            }
            tokio::task::yield_now().await;
        };
        let to = to.to_owned();
        let copied = self.driver.run("hansa-backup", move || backup::write(&view, &to)).await;
        copied.map_err(|error| BackupError::Write(Fault::new(error)))?
    }

    /// Checks that every record decodes, every index agrees and the audit chain is whole, while the store
    /// goes on.
    ///
    /// # Errors
    /// The store cannot be read at all; what is wrong with its content is in the report.
    pub async fn check(&self) -> Result<CheckReport, ReadError> {
        let view = self.read()?;
        let checked = self.driver.run("hansa-check", move || check::check(&view)).await;
        checked.map_err(|error| ReadError::Io(Fault::new(error)))?
    }

    /// Stores what waits, then closes the file. Other clones answer [`CommitError::Closed`] from then on.
    /// Open views stay readable; the file closes with the last of them.
    pub async fn close(self) {
        self.senders.stop().await;
    }
}
