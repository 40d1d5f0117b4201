//! An open file: made crash-safely, recognised, and replaced as a whole after a disk error.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use hansa_model::Entropy;
use redb::{ReadableDatabase as _, TableHandle as _};

use crate::backend::{Backend, Health};
use crate::disk::{Disk, Held};
use crate::error::{Fault, OpenError, ReadError};
use crate::schema::{self, FORMAT, META};
use crate::seal::{RootKey, Sealer, StoredKeys};

pub(crate) const FORMAT_KEY: &[u8] = b"format";
pub(crate) const COMMITS_KEY: &[u8] = b"commits";
pub(crate) const AUDIT_KEY: &[u8] = b"audit";
pub(crate) const TENANT_KEY: &[u8] = b"tenant_key";
pub(crate) const PREVIOUS_TENANT_KEY: &[u8] = b"previous_tenant_key";
pub(crate) const FINGERPRINT_KEY: &[u8] = b"fingerprint_key";
pub(crate) const NEXT_PREFIX: &[u8] = b"next/";

/// One opening of the file. Readers keep theirs alive; the store's present one is in [`Current`].
#[derive(Debug)]
pub(crate) struct Generation {
    pub(crate) database: redb::Database,
    pub(crate) health: Arc<Health>,
    _hold: Arc<dyn Held>,
}

/// What the store notes about itself with each commit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Counters {
    /// Transactions that wrote something; tells after an error whether the last one arrived.
    pub(crate) commits: u64,
    /// The last number given in each log.
    pub(crate) logs: BTreeMap<String, u64>,
    /// Head of the audit chain.
    pub(crate) audit: AuditHead,
}

/// The newest audit entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct AuditHead {
    pub(crate) number: u64,
    pub(crate) hash: [u8; 32],
}

impl AuditHead {
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        [self.number.to_be_bytes().as_slice(), &self.hash].concat()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (number, hash) = bytes.split_first_chunk::<8>()?;
        Some(Self { number: u64::from_be_bytes(*number), hash: hash.try_into().ok()? })
    }
}

/// The opening that reads and writes go to now.
#[derive(Debug)]
pub(crate) struct Current(RwLock<State>);

#[derive(Debug)]
enum State {
    Open(Arc<Generation>),
    Reopening,
    Closed,
}

impl Current {
    pub(crate) fn new(generation: Arc<Generation>) -> Self {
        Self(RwLock::new(State::Open(generation)))
    }

    pub(crate) fn get(&self) -> Result<Arc<Generation>, ReadError> {
        match &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            State::Open(generation) => Ok(Arc::clone(generation)),
            State::Reopening => Err(ReadError::Unavailable),
            State::Closed => Err(ReadError::Closed),
        }
    }

    /// Replaces the opening; none while a new one is being made.
    pub(crate) fn set(&self, generation: Option<Arc<Generation>>) {
        self.replace(generation.map_or(State::Reopening, State::Open));
    }

    /// Lets nobody begin a read any more; gives back the opening, if there is one.
    pub(crate) fn close(&self) -> Option<Arc<Generation>> {
        match self.replace(State::Closed) {
            State::Open(generation) => Some(generation),
            State::Reopening | State::Closed => None,
        }
    }

    fn replace(&self, state: State) -> State {
        std::mem::replace(&mut *self.0.write().unwrap_or_else(PoisonError::into_inner), state)
    }
}

/// Makes a new store: complete and synced before it gets its name.
pub(crate) fn create(
    disk: &dyn Disk,
    cache_bytes: usize,
    root: &RootKey,
    entropy: &dyn Entropy,
) -> Result<(), OpenError> {
    let tenant_key = Sealer::new_tenant_key(root, entropy);
    let database = new_database(disk, cache_bytes)?;
    fill_new(&database, &tenant_key).map_err(OpenError::from)?;
    database.close().map_err(|error| OpenError::from(redb::Error::from(error)))?;
    disk.publish()?;
    Ok(())
}

/// An empty database under the disk's temporary name.
pub(crate) fn new_database(disk: &dyn Disk, cache_bytes: usize) -> Result<redb::Database, OpenError> {
    let backend = Backend::new(disk.create()?, Arc::default());
    builder(cache_bytes)
        .create_with_backend(backend)
        .map_err(|error| OpenError::from(redb::Error::from(error)))
}

fn fill_new(database: &redb::Database, tenant_key: &[u8]) -> Result<(), redb::Error> {
    let transaction = begin_durable(database, Repair::Quick)?;
    for table in schema::TABLES {
        transaction.open_table(schema::definition(table.name))?;
    }
    {
        let mut meta = transaction.open_table(schema::definition(META))?;
        meta.insert(FORMAT_KEY, FORMAT.to_be_bytes().as_slice())?;
        meta.insert(TENANT_KEY, tenant_key)?;
    }
    Ok(transaction.commit()?)
}

/// How far a file is believed when it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// It is ours, and at worst lost power: open quickly.
    AfterCrash,
    /// Anything may have happened to it: verify the checksum of every page.
    Nothing,
}

/// Opens the published file and checks that it is a store of a format we know; none when there is none.
pub(crate) fn open(
    disk: &dyn Disk,
    cache_bytes: usize,
    trust: Trust,
    hold: &Arc<dyn Held>,
) -> Result<Option<Arc<Generation>>, OpenError> {
    let Some(file) = disk.open()? else { return Ok(None) };
    if file.is_empty()? {
        return Err(OpenError::Corrupt(Fault::new(redb::Error::Corrupted("the file is empty".to_owned()))));
    }
    let health = Arc::new(Health::default());
    let database = builder(cache_bytes)
        .set_check_integrity_on_open(trust == Trust::Nothing)
        .create_with_backend(Backend::new(file, Arc::clone(&health)))
        .map_err(|error| OpenError::from(redb::Error::from(error)))?;
    let generation = Generation { database, health, _hold: Arc::clone(hold) };
    let found = format(&generation.database)?.ok_or_else(|| {
        OpenError::Corrupt(Fault::new(redb::Error::Corrupted("the file is no store".to_owned())))
    })?;
    if found > FORMAT {
        return Err(OpenError::NewerFormat { found, known: FORMAT });
    }
    add_missing_tables(&generation.database)?;
    Ok(Some(Arc::new(generation)))
}

fn format(database: &redb::Database) -> Result<Option<u64>, redb::Error> {
    let meta = match database.begin_read()?.open_table(schema::definition(META)) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        other => other?,
    };
    let found = meta.get(FORMAT_KEY)?;
    Ok(found.and_then(|value| value.value().try_into().ok()).map(u64::from_be_bytes))
}

/// A program may know tables that the one which made the file did not; they start empty.
fn add_missing_tables(database: &redb::Database) -> Result<(), redb::Error> {
    let present: Vec<String> =
        database.begin_read()?.list_tables()?.map(|table| table.name().to_owned()).collect();
    let missing: Vec<_> =
        schema::TABLES.iter().filter(|table| !present.iter().any(|name| name == table.name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let transaction = begin_durable(database, Repair::Quick)?;
    for table in missing {
        transaction.open_table(schema::definition(table.name))?;
    }
    Ok(transaction.commit()?)
}

/// What a start does after a crash that followed a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repair {
    /// Reads which pages are free, as the commit has noted them.
    Quick,
    /// Walks the file to find out. Takes as long as reading it does, and makes each commit cheaper.
    Walk,
}

impl Repair {
    /// What a file of this size affords, when walking up to `walk_bytes_max` is quick enough.
    pub(crate) const fn of(file_bytes: u64, walk_bytes_max: u64) -> Self {
        if file_bytes > walk_bytes_max { Self::Quick } else { Self::Walk }
    }
}

/// Begins the only kind of write transaction there is: synced, and in two phases, because others choose the
/// bytes.
pub(crate) fn begin_durable(
    database: &redb::Database,
    repair: Repair,
) -> Result<redb::WriteTransaction, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    transaction.set_quick_repair(repair == Repair::Quick);
    Ok(transaction)
}

/// Reads the notes that the last commit left.
pub(crate) fn counters(database: &redb::Database) -> Result<Counters, redb::Error> {
    counters_in(&database.begin_read()?)
}

/// The notes as a snapshot sees them.
pub(crate) fn counters_in(transaction: &redb::ReadTransaction) -> Result<Counters, redb::Error> {
    let meta = transaction.open_table(schema::definition(META))?;
    let number = |bytes: &[u8]| bytes.try_into().map(u64::from_be_bytes).map_err(|_| damaged_note());
    let mut counters = Counters::default();
    for entry in meta.range::<&[u8]>(..)? {
        let (key, value) = entry?;
        let (key, value) = (key.value(), value.value());
        if key == COMMITS_KEY {
            counters.commits = number(value)?;
        } else if key == AUDIT_KEY {
            counters.audit = AuditHead::from_bytes(value).ok_or_else(damaged_note)?;
        } else if let Some(log) = key.strip_prefix(NEXT_PREFIX) {
            counters.logs.insert(String::from_utf8_lossy(log).into_owned(), number(value)?);
        }
    }
    Ok(counters)
}

/// The store's keys as stored, wrapped.
pub(crate) fn stored_keys(database: &redb::Database) -> Result<StoredKeys, redb::Error> {
    stored_keys_in(&database.begin_read()?)
}

/// The same, as a snapshot sees them.
pub(crate) fn stored_keys_in(transaction: &redb::ReadTransaction) -> Result<StoredKeys, redb::Error> {
    let meta = transaction.open_table(schema::definition(META))?;
    let note = |key: &[u8]| -> Result<Option<Vec<u8>>, redb::Error> {
        Ok(meta.get(key)?.map(|value| value.value().to_vec()))
    };
    Ok(StoredKeys {
        tenant: note(TENANT_KEY)?.ok_or_else(damaged_note)?,
        previous: note(PREVIOUS_TENANT_KEY)?,
        fingerprint: note(FINGERPRINT_KEY)?,
    })
}

fn damaged_note() -> redb::Error {
    redb::Error::Corrupted("a note of the store is unreadable".to_owned())
}

fn builder(cache_bytes: usize) -> redb::Builder {
    let mut builder = redb::Database::builder();
    builder.set_cache_size(cache_bytes);
    builder
}
