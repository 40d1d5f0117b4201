//! One write transaction: a group of batches applied in order, each all or nothing.

use std::collections::BTreeMap;

use hansa_model::audit::chain;
use redb::ReadableTable as _;

use crate::batch::{Batch, Expectation, Expected, Receipt, Write};
use crate::codec::{self, as_slices};
use crate::error::CommitError;
use crate::generation::{AUDIT_KEY, AuditHead, COMMITS_KEY, Counters, NEXT_PREFIX};
use crate::log::Pieces;
use crate::schema::{META, definition};
use crate::seal::Sealer;
use crate::table::{Audit, Table as _};

type Verdict = Result<Receipt, CommitError>;
type EngineTable<'t> = redb::Table<'t, &'static [u8], &'static [u8]>;

/// The tables that the transaction has touched, and the notes it will leave.
pub(crate) struct Changes<'t> {
    transaction: &'t redb::WriteTransaction,
    tables: BTreeMap<&'static str, EngineTable<'t>>,
    before: Counters,
    counters: Counters,
    sealer: &'t Sealer,
}

impl<'t> Changes<'t> {
    pub(crate) fn new(
        transaction: &'t redb::WriteTransaction,
        counters: &Counters,
        sealer: &'t Sealer,
    ) -> Self {
        let (before, counters) = (counters.clone(), counters.clone());
        Self { transaction, tables: BTreeMap::new(), before, counters, sealer }
    }

    /// Applies one batch, or refuses it without a trace. An engine error spoils the whole transaction.
    pub(crate) fn apply(&mut self, batch: &Batch) -> Result<Verdict, redb::Error> {
        for (which, expectation) in batch.expectations.iter().enumerate() {
            if !self.holds(expectation)? {
                return Ok(Err(CommitError::PreconditionFailed { table: expectation.table, which }));
            }
        }
        let mut receipt = Receipt::default();
        for write in &batch.writes {
            if let Some(position) = self.write(write)? {
                receipt.positions.push(position);
            }
        }
        for draft in &batch.audit {
            receipt.audit.push(self.chain(draft)?);
        }
        Ok(Ok(receipt))
    }

    /// Writes the notes; answers with them, or with none when nothing changed and no commit is needed.
    pub(crate) fn finish(mut self, changed: bool) -> Result<Option<Counters>, redb::Error> {
        if !changed {
            return Ok(None);
        }
        self.counters.commits += 1;
        let counters = self.counters.clone();
        let before = std::mem::take(&mut self.before);
        let meta = self.table(META)?;
        meta.insert(COMMITS_KEY, counters.commits.to_be_bytes().as_slice())?;
        if counters.audit != before.audit {
            meta.insert(AUDIT_KEY, counters.audit.to_bytes().as_slice())?;
        }
        for (log, last) in &counters.logs {
            if before.logs.get(log) != Some(last) {
                meta.insert(
                    [NEXT_PREFIX, log.as_bytes()].concat().as_slice(),
                    last.to_be_bytes().as_slice(),
                )?;
            }
        }
        Ok(Some(counters))
    }

    fn holds(&mut self, expectation: &Expectation) -> Result<bool, redb::Error> {
        let stored = self.table(expectation.table)?.get(expectation.key.as_slice())?;
        Ok(match (&expectation.expected, stored) {
            (Expected::Absent, stored) => stored.is_none(),
            (Expected::Record { .. }, None) => false,
            (Expected::Record { record, recode }, Some(stored)) => {
                stored.value() == record || recode(stored.value()).as_ref() == Some(record)
            }
        })
    }

    fn write(&mut self, write: &Write) -> Result<Option<u64>, redb::Error> {
        match write {
            Write::Put { table, key, record } => {
                self.table(table)?.insert(key.as_slice(), record.as_slice())?;
            }
            Write::PutSealed { table, version, key, envelope, by } => {
                // Sealed before the store's keys changed, written after: its key is the present one's now.
                let record = if std::ptr::eq(&raw const **by, self.sealer) {
                    envelope.to_record(*version)
                } else {
                    self.sealer.adopt(by, table, key, envelope).to_record(*version)
                };
                self.table(table)?.insert(key.as_slice(), record.as_slice())?;
            }
            Write::Replace { table, key, from, to } => {
                let table = self.table(table)?;
                let same = table.get(key.as_slice())?.is_some_and(|stored| stored.value() == from);
                if same {
                    table.insert(key.as_slice(), to.as_slice())?;
                }
            }
            Write::Delete { table, key } => {
                self.table(table)?.remove(key.as_slice())?;
            }
            Write::DeleteRange { table, range } if !codec::is_empty(range) => {
                self.table(table)?.retain_in::<&[u8], _>(as_slices(range), |_, _| false)?;
            }
            Write::DeleteRange { .. } => {}
            Write::Append { log, version, body } => return self.append(log, *version, body).map(Some),
            Write::Seal { .. } => {
                return Err(redb::Error::Corrupted("a value reached the writer unsealed".to_owned()));
            }
        }
        Ok(None)
    }

    fn append(&mut self, log: &'static str, version: u8, body: &[u8]) -> Result<u64, redb::Error> {
        let position = self.counters.logs.get(log).map_or(1, |last| last + 1);
        let table = self.table(log)?;
        for piece in Pieces::of(position, version, body) {
            let mut room = table.insert_reserve(piece.key.as_slice(), piece.len())?;
            piece.write_to(room.as_mut());
        }
        match self.counters.logs.get_mut(log) {
            Some(last) => *last = position,
            None => drop(self.counters.logs.insert(log.to_owned(), position)),
        }
        Ok(position)
    }

    /// Gives an audit entry its number and hash. The only place where the log grows.
    ///
    /// The record is an [`AuditEntry`](hansa_model::audit::AuditEntry) in postcard, put together from parts: a
    /// number, the draft as the batch brought it, and 32 bytes of hash.
    fn chain(&mut self, draft: &[u8]) -> Result<u64, redb::Error> {
        let head = self.counters.audit;
        let number = head.number + 1;
        let hash = chain(&head.hash, number, draft);
        let mut room = [0; 10];
        let number_bytes =
            postcard::to_slice(&number, &mut room).expect("a number takes at most ten bytes in postcard");
        let parts = [&[Audit::VERSION], &*number_bytes, draft, &hash];
        let len = parts.iter().map(|part| part.len()).sum();
        let mut record = self.table(Audit::NAME)?.insert_reserve(number.to_be_bytes().as_slice(), len)?;
        let mut rest = record.as_mut();
        for part in parts {
            let (place, after) = rest.split_at_mut(part.len());
            place.copy_from_slice(part);
            rest = after;
        }
        drop(record);
        self.counters.audit = AuditHead { number, hash };
        Ok(number)
    }

    fn table(&mut self, name: &'static str) -> Result<&mut EngineTable<'t>, redb::Error> {
        use std::collections::btree_map::Entry;
        match self.tables.entry(name) {
            Entry::Occupied(open) => Ok(open.into_mut()),
            Entry::Vacant(vacant) => Ok(vacant.insert(self.transaction.open_table(definition(name))?)),
        }
    }
}
