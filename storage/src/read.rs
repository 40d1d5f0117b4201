//! Reading: a snapshot of one moment, paged and owned, or visited in place.

use std::ops::{Bound, ControlFlow, RangeBounds};
use std::sync::Arc;

use hansa_model::Secret;
use redb::{ReadableDatabase as _, ReadableTableMetadata as _};

use crate::codec::{KeyCodec, KeyOf, as_slices, decode_record, range_bytes};
use crate::error::{Fault, ReadError, RecordError, is_corruption};
use crate::generation::{self, Counters, Generation};
use crate::log::{Assembler, Broken};
use crate::schema::definition;
use crate::seal::{Sealer, StoredKeys};
use crate::table::{Log, SealedTable, Table};

type EngineTable = redb::ReadOnlyTable<&'static [u8], &'static [u8]>;

/// Keys and values of a table, owned, in the order that was asked for.
pub type Entries<T> = Vec<(<T as Table>::Key, <T as Table>::Value)>;

/// Which end of a range a page begins at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Smallest key first.
    Ascending,
    /// Largest key first.
    Descending,
}

/// The store as it was when the view was taken. While it lives, the pages it can see are not reused:
/// drop it when the answer is made.
pub struct ReadView {
    transaction: redb::ReadTransaction,
    generation: Arc<Generation>,
    sealer: Arc<Sealer>,
}

impl std::fmt::Debug for ReadView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReadView")
    }
}

impl ReadView {
    pub(crate) fn new(generation: Arc<Generation>, sealer: Arc<Sealer>) -> Result<Self, ReadError> {
        let transaction = generation
            .database
            .begin_read()
            .map_err(|error| read_error(&generation, redb::Error::from(error)))?;
        Ok(Self { transaction, generation, sealer })
    }

    /// One record.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn get<T: Table>(&self, key: &(impl KeyOf<T::Key> + ?Sized)) -> Result<Option<T::Value>, ReadError> {
        let table = self.table(T::NAME)?;
        let found = table.get(key.key_bytes().as_slice()).map_err(|error| self.error(error))?;
        found.map(|record| decode_record::<T>(record.value()).map_err(|e| unreadable(T::NAME, e))).transpose()
    }

    /// Whether a record has this key.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn contains<T: Table>(&self, key: &(impl KeyOf<T::Key> + ?Sized)) -> Result<bool, ReadError> {
        let table = self.table(T::NAME)?;
        let found = table.get(key.key_bytes().as_slice()).map_err(|error| self.error(error))?;
        Ok(found.is_some())
    }

    /// One sealed value, opened.
    ///
    /// # Errors
    /// [`ReadError::Sealed`] when it does not open; otherwise see [`ReadError`].
    pub fn get_sealed<T: SealedTable>(
        &self,
        key: &(impl KeyOf<T::Key> + ?Sized),
    ) -> Result<Option<Secret<Vec<u8>>>, ReadError> {
        let Some(envelope) = self.get::<T>(key)? else { return Ok(None) };
        let value = self
            .sealer
            .unseal(T::NAME, &key.key_bytes(), &envelope)
            .map_err(|_| ReadError::Sealed { table: T::NAME })?;
        Ok(Some(value))
    }

    /// A keyed fingerprint of a value: equal for equal values of one owner, meaningless without the root key.
    pub fn fingerprint(&self, owner: &str, value: &[u8]) -> [u8; 16] {
        self.sealer.fingerprint(owner, value)
    }

    /// At most `limit` records of a range, owned, from one of its ends on. Page on with a range that begins
    /// after (or ends before) the last key.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn page<T: Table>(
        &self,
        range: impl RangeBounds<T::Key>,
        order: Order,
        limit: usize,
    ) -> Result<Entries<T>, ReadError> {
        let mut page = Vec::new();
        if limit == 0 {
            return Ok(page);
        }
        self.walk(T::NAME, &range_bytes(&range), order, |key, record| {
            page.push(decoded::<T>(key, record)?);
            Ok(if page.len() == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok(page)
    }

    /// Every record of a range, ascending. For tables that are small by nature; page the others.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn all<T: Table>(&self, range: impl RangeBounds<T::Key>) -> Result<Entries<T>, ReadError> {
        self.page::<T>(range, Order::Ascending, usize::MAX)
    }

    /// Shows the bodies of a range in place, ascending, without decoding or copying them.
    ///
    /// # Errors
    /// A record of another layout version than the present one is an error; otherwise see [`ReadError`].
    pub fn visit<T: Table>(
        &self,
        range: impl RangeBounds<T::Key>,
        mut visitor: impl FnMut(T::Key, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        self.walk(T::NAME, &range_bytes(&range), Order::Ascending, |key, record| {
            let key = T::Key::decode(key).ok_or_else(|| unreadable(T::NAME, RecordError::Malformed))?;
            match record.split_first() {
                Some((version, body)) if *version == T::VERSION => Ok(visitor(key, body)),
                Some((version, _)) => {
                    Err(unreadable(T::NAME, RecordError::UnknownVersion { version: *version }))
                }
                None => Err(unreadable(T::NAME, RecordError::Malformed)),
            }
        })
    }

    /// Shows a log's bodies from a position on, ascending. A body that is stored as one piece is shown in
    /// place, a longer one is put together in a buffer that is used again; nothing is decoded.
    ///
    /// # Errors
    /// A record of another layout version than the present one is an error; otherwise see [`ReadError`].
    pub fn for_each_from<L: Log>(
        &self,
        position: u64,
        mut visitor: impl FnMut(u64, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        self.log_records(L::NAME, position, |record| {
            if record.version == L::VERSION {
                Ok(visitor(record.position, record.body))
            } else {
                Err(RecordError::UnknownVersion { version: record.version })
            }
        })
    }

    /// The last number that a log has given, whether or not its record is still kept; zero before the first.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn log_end<L: Log>(&self) -> Result<u64, ReadError> {
        Ok(self.counters()?.logs.get(L::NAME).copied().unwrap_or(0))
    }

    /// The position of a log's oldest kept record; none when it is empty.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn log_start<L: Log>(&self) -> Result<Option<u64>, ReadError> {
        let mut start = None;
        self.for_each_from::<L>(0, |position, _| {
            start = Some(position);
            ControlFlow::Break(())
        })?;
        Ok(start)
    }

    pub(crate) fn counters(&self) -> Result<Counters, ReadError> {
        generation::counters_in(&self.transaction).map_err(|error| read_error(&self.generation, error))
    }

    pub(crate) fn stored_keys(&self) -> Result<StoredKeys, ReadError> {
        generation::stored_keys_in(&self.transaction).map_err(|error| read_error(&self.generation, error))
    }

    /// Records of a table.
    pub(crate) fn count(&self, table: &'static str) -> Result<u64, ReadError> {
        self.table(table)?.len().map_err(|error| self.error(error))
    }

    pub(crate) fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// Walks a log's whole records.
    pub(crate) fn log_records(
        &self,
        log: &'static str,
        position: u64,
        mut visitor: impl FnMut(crate::log::Record<'_>) -> Result<ControlFlow<()>, RecordError>,
    ) -> Result<(), ReadError> {
        let mut assembler = Assembler::default();
        let mut stopped = false;
        let range = (Bound::Included(position.key_bytes()), Bound::Unbounded);
        self.walk(log, &range, Order::Ascending, |key, value| match assembler.feed(key, value) {
            Ok(None) => Ok(ControlFlow::Continue(())),
            Ok(Some(record)) => {
                let flow = visitor(record).map_err(|error| unreadable(log, error))?;
                stopped = flow.is_break();
                Ok(flow)
            }
            Err(Broken) => Err(unreadable(log, RecordError::Malformed)),
        })?;
        if assembler.is_midway() && !stopped {
            return Err(unreadable(log, RecordError::Malformed));
        }
        Ok(())
    }

    /// Walks keys and records as bytes.
    pub(crate) fn walk(
        &self,
        table: &'static str,
        range: &(Bound<Vec<u8>>, Bound<Vec<u8>>),
        order: Order,
        mut visitor: impl FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, ReadError>,
    ) -> Result<(), ReadError> {
        if crate::codec::is_empty(range) {
            return Ok(());
        }
        let table = self.table(table)?;
        let mut entries = table.range::<&[u8]>(as_slices(range)).map_err(|error| self.error(error))?;
        loop {
            let next = match order {
                Order::Ascending => entries.next(),
                Order::Descending => entries.next_back(),
            };
            let Some(entry) = next else { return Ok(()) };
            let (key, record) = entry.map_err(|error| self.error(error))?;
            if visitor(key.value(), record.value())?.is_break() {
                return Ok(());
            }
        }
    }

    fn table(&self, name: &'static str) -> Result<EngineTable, ReadError> {
        self.transaction
            .open_table(definition(name))
            .map_err(|error| read_error(&self.generation, redb::Error::from(error)))
    }

    fn error(&self, error: redb::StorageError) -> ReadError {
        read_error(&self.generation, redb::Error::from(error))
    }
}

fn decoded<T: Table>(key: &[u8], record: &[u8]) -> Result<(T::Key, T::Value), ReadError> {
    let key = T::Key::decode(key).ok_or_else(|| unreadable(T::NAME, RecordError::Malformed))?;
    let value = decode_record::<T>(record).map_err(|error| unreadable(T::NAME, error))?;
    Ok((key, value))
}

const fn unreadable(table: &'static str, source: RecordError) -> ReadError {
    ReadError::Record { table, source }
}

fn read_error(generation: &Generation, error: redb::Error) -> ReadError {
    if generation.health.is_fenced() {
        ReadError::SnapshotEnded
    } else if is_corruption(&error) {
        ReadError::Corrupt(Fault::new(error))
    } else {
        ReadError::Io(Fault::new(error))
    }
}
