//! Backup of a running store into a new file, and back.
//!
//! A backup is a store file of its own, written from one snapshot; nothing of it is visible under its name
//! before it is complete and synced. What is sealed stays sealed: keep the root key elsewhere, or the
//! backup is useless.

use std::fs::OpenOptions;
use std::io;
use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::sync::Arc;

use crate::disk::{self, DirDisk, Disk as _, Held, STORE_FILE};
use crate::error::{BackupError, Fault, OpenError, ReadError};
use crate::generation::{self, PREVIOUS_TENANT_KEY, Repair, Trust};
use crate::read::{Order, ReadView};
use crate::schema::{self, definition};

/// Bytes copied in one transaction of a backup: the memory that it takes beside the page cache.
const COPY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Page cache while a file is only copied or checked.
pub(crate) const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// What a backup holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BackupReport {
    /// Stored entries of all tables; a long log record counts once per piece.
    pub entries: u64,
    /// Bytes of their keys and records.
    pub bytes: u64,
}

/// Copies a snapshot into a new file with mode 0600. Durable when it returns.
pub(crate) fn write(view: &ReadView, to: &Path) -> Result<BackupReport, BackupError> {
    let target = DirDisk::of_file(to);
    if target.exists().map_err(write_error)? {
        return Err(BackupError::TargetExists);
    }
    match fill(view, &target) {
        Ok(report) => Ok(report),
        Err(error) => {
            // What is left is under a temporary name; failing to remove it changes nothing.
            let _ = target.discard_temporary();
            Err(error)
        }
    }
}

fn fill(view: &ReadView, target: &DirDisk) -> Result<BackupReport, BackupError> {
    let database = generation::new_database(target, CACHE_BYTES).map_err(write_error)?;
    let mut report = BackupReport::default();
    for table in schema::TABLES {
        copy_table(view, &database, table.name, &mut report)?;
    }
    if let Some(previous) = view.sealer().portable_previous() {
        // A rotation runs: the copy must open with the present root key alone, whenever it is restored.
        let note = vec![(PREVIOUS_TENANT_KEY.to_vec(), previous.to_vec())];
        store_chunk(&database, schema::META, &note).map_err(write_error)?;
    }
    database.close().map_err(write_error)?;
    target.publish().map_err(write_error)?;
    Ok(report)
}

fn copy_table(
    view: &ReadView,
    database: &redb::Database,
    table: &'static str,
    report: &mut BackupReport,
) -> Result<(), BackupError> {
    let mut from = Bound::Unbounded;
    loop {
        let (chunk, last) = chunk(view, table, from).map_err(BackupError::Read)?;
        store_chunk(database, table, &chunk).map_err(write_error)?;
        report.entries += chunk.len() as u64;
        report.bytes += chunk.iter().map(|(key, record)| (key.len() + record.len()) as u64).sum::<u64>();
        match chunk.into_iter().next_back() {
            Some((key, _)) if !last => from = Bound::Excluded(key),
            Some(_) | None => return Ok(()),
        }
    }
}

type Entries = Vec<(Vec<u8>, Vec<u8>)>;

/// The next entries of a table, and whether they are its last.
fn chunk(view: &ReadView, table: &'static str, from: Bound<Vec<u8>>) -> Result<(Entries, bool), ReadError> {
    let (mut entries, mut bytes, mut last) = (Vec::new(), 0, true);
    view.walk(table, &(from, Bound::Unbounded), Order::Ascending, |key, record| {
        entries.push((key.to_vec(), record.to_vec()));
        bytes += key.len() + record.len();
        last = bytes < COPY_BYTES_MAX;
        Ok(if last { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    Ok((entries, last))
}

fn store_chunk(
    database: &redb::Database,
    table: &'static str,
    chunk: &[(Vec<u8>, Vec<u8>)],
) -> Result<(), redb::Error> {
    let transaction = generation::begin_durable(database, Repair::Quick)?;
    {
        let mut table = transaction.open_table(definition(table))?;
        for (key, record) in chunk {
            table.insert(key.as_slice(), record.as_slice())?;
        }
    }
    Ok(transaction.commit()?)
}

/// Puts a backup into a data folder that holds no store. Durable when it returns.
///
/// Start the node with the root key that the backed-up store had. Its peers notice that it is older than
/// what they know, and repair.
///
/// # Errors
/// See [`BackupError`]; the folder's store, if it has one, is untouched.
pub fn restore(backup: &Path, data_folder: &Path) -> Result<(), BackupError> {
    let target = DirDisk::new(data_folder).map_err(write_error)?;
    let _hold = target.lock().map_err(|error| BackupError::Source(error.into()))?;
    if data_folder.join(STORE_FILE).try_exists().map_err(write_error)? {
        return Err(BackupError::TargetExists);
    }
    let mut source = OpenOptions::new()
        .read(true)
        .open(backup)
        .map_err(|error| BackupError::Source(OpenError::Io(Fault::new(error))))?;
    let temporary = target.temporary();
    let outcome = copy_checked(&mut source, &temporary, &target);
    if outcome.is_err() {
        // What is left is under a temporary name; failing to remove it changes nothing.
        let _ = target.discard_temporary();
    }
    outcome
}

fn copy_checked(source: &mut std::fs::File, temporary: &Path, target: &DirDisk) -> Result<(), BackupError> {
    let mut copy =
        disk::private_file(temporary, OpenOptions::new().create(true).truncate(true)).map_err(write_error)?;
    io::copy(source, &mut copy).map_err(write_error)?;
    drop(copy);
    let hold: Arc<dyn Held> = Arc::new(NoHold);
    let generation = generation::open(&DirDisk::of_file(temporary), CACHE_BYTES, Trust::Nothing, &hold)
        .map_err(BackupError::Source)?
        .ok_or(BackupError::TargetExists)?;
    if let Some(generation) = Arc::into_inner(generation) {
        generation.database.close().map_err(write_error)?;
    }
    target.publish().map_err(write_error)
}

/// For a file that nobody else knows of.
#[derive(Debug)]
struct NoHold;

impl Held for NoHold {}

fn write_error(error: impl std::error::Error + Send + Sync + 'static) -> BackupError {
    BackupError::Write(Fault::new(error))
}
