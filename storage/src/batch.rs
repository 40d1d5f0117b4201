//! A batch: the writes of one decision as plain data, all or nothing.

use std::fmt;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;

use hansa_model::Secret;
use hansa_model::audit::AuditDraft;
use serde::Serialize;
use zeroize::Zeroize;

use crate::codec::{KeyOf, encode_record, range_bytes, recode};
use crate::schema::META;
use crate::seal::{Envelope, Sealer};
use crate::table::{Log, SealedTable, Table};

/// Room in which most drafts encode without a second allocation.
const AUDIT_DRAFT_BYTES: usize = 512;

/// What an audit record has beside its draft: key, layout version, number and hash.
const AUDIT_RECORD_MORE: usize = 8 + 1 + 10 + 32;

/// How urgent a batch is. The writer serves earlier lanes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// What keeps the federation safe: suspensions, keys, retention on a full disk.
    Control,
    /// Commands, policies and their acknowledgements.
    Push,
    /// What operators ask for.
    Operator,
    /// Bulk data.
    Ingest,
}

impl Lane {
    /// How many there are.
    pub(crate) const COUNT: usize = 4;

    /// Whether batches of this lane are taken while the disk is nearly full.
    pub(crate) const fn uses_reserve(self) -> bool {
        matches!(self, Self::Control | Self::Push)
    }
}

/// The writes of one decision, with what must hold for them to be made. Built up, then committed once.
#[derive(Clone, Default)]
pub struct Batch {
    pub(crate) expectations: Vec<Expectation>,
    pub(crate) writes: Vec<Write>,
    /// The entries' bytes, made by whoever fills the batch: the writer has only to number and chain them.
    pub(crate) audit: Vec<Arc<[u8]>>,
    /// What the store seals and opens with from this batch on.
    pub(crate) sealer: Option<Arc<Sealer>>,
}

/// What must hold when the batch's turn comes.
#[derive(Clone)]
pub(crate) struct Expectation {
    pub(crate) table: &'static str,
    pub(crate) key: Vec<u8>,
    pub(crate) expected: Expected,
}

#[derive(Clone)]
pub(crate) enum Expected {
    Absent,
    Record { record: Vec<u8>, recode: fn(&[u8]) -> Option<Vec<u8>> },
}

#[derive(Clone)]
pub(crate) enum Write {
    Put {
        table: &'static str,
        key: Vec<u8>,
        record: Vec<u8>,
    },
    Seal {
        table: &'static str,
        version: u8,
        key: Vec<u8>,
        value: Secret<Vec<u8>>,
    },
    /// A sealed value, with the sealer that made it: the store may have another by the time it is written.
    PutSealed {
        table: &'static str,
        version: u8,
        key: Vec<u8>,
        envelope: Envelope,
        by: Arc<Sealer>,
    },
    /// Puts the record in place of exactly this one, or else does nothing.
    Replace {
        table: &'static str,
        key: Vec<u8>,
        from: Vec<u8>,
        to: Vec<u8>,
    },
    Delete {
        table: &'static str,
        key: Vec<u8>,
    },
    DeleteRange {
        table: &'static str,
        range: (Bound<Vec<u8>>, Bound<Vec<u8>>),
    },
    Append {
        log: &'static str,
        version: u8,
        body: Vec<u8>,
    },
}

impl Batch {
    /// A batch without writes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether committing it would change nothing.
    pub const fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.audit.is_empty()
    }

    /// Stores a record, in place of the one that is there.
    pub fn put<T: Table>(&mut self, key: &(impl KeyOf<T::Key> + ?Sized), value: &T::Value) -> &mut Self {
        const { assert!(!T::WRITER_ONLY, "this table is written by the writer alone") };
        self.write(Write::Put { table: T::NAME, key: key.key_bytes(), record: encode_record::<T>(value) })
    }

    /// Stores a record whose value is encoded already, in the layout of `T::VERSION`.
    pub fn put_bytes<T: Table>(&mut self, key: &(impl KeyOf<T::Key> + ?Sized), body: &[u8]) -> &mut Self {
        const { assert!(!T::WRITER_ONLY, "this table is written by the writer alone") };
        let mut record = Vec::with_capacity(1 + body.len());
        record.push(T::VERSION);
        record.extend_from_slice(body);
        self.write(Write::Put { table: T::NAME, key: key.key_bytes(), record })
    }

    /// Stores a value sealed; it is encrypted before it leaves the caller's task.
    pub fn put_sealed<T: SealedTable>(
        &mut self,
        key: &(impl KeyOf<T::Key> + ?Sized),
        value: &Secret<impl Zeroize + AsRef<[u8]>>,
    ) -> &mut Self {
        let value = Secret::new(value.expose().as_ref().to_vec());
        self.write(Write::Seal { table: T::NAME, version: T::VERSION, key: key.key_bytes(), value })
    }

    /// Removes a record, if it is there.
    pub fn delete<T: Table>(&mut self, key: &(impl KeyOf<T::Key> + ?Sized)) -> &mut Self {
        const { assert!(!T::WRITER_ONLY, "this table is written by the writer alone") };
        self.write(Write::Delete { table: T::NAME, key: key.key_bytes() })
    }

    /// Removes every record in a range. It costs what it removes: cut a long range into several batches.
    pub fn delete_range<T: Table>(&mut self, range: impl RangeBounds<T::Key>) -> &mut Self {
        const { assert!(!T::WRITER_ONLY, "this table is written by the writer alone") };
        self.write(Write::DeleteRange { table: T::NAME, range: range_bytes(&range) })
    }

    /// Appends a record to a log; its number is in the receipt.
    pub fn append<L: Log>(&mut self, value: &impl Serialize) -> &mut Self {
        let body =
            postcard::to_stdvec(value).expect("records are plain data, which always encodes into memory");
        self.append_bytes::<L>(body)
    }

    /// Appends a record whose body is encoded already, in the layout of `L::VERSION`.
    pub fn append_bytes<L: Log>(&mut self, body: Vec<u8>) -> &mut Self {
        self.write(Write::Append { log: L::NAME, version: L::VERSION, body })
    }

    /// Removes a log's records with numbers in `positions`. Numbers are never given again.
    pub fn delete_log<L: Log>(&mut self, positions: Range<u64>) -> &mut Self {
        let [from, to] = [positions.start, positions.end].map(|position| position.key_bytes());
        let range = (Bound::Included(from), Bound::Excluded(to));
        self.write(Write::DeleteRange { table: L::NAME, range })
    }

    /// Refuses the batch unless no record has this key.
    pub fn expect_absent<T: Table>(&mut self, key: &(impl KeyOf<T::Key> + ?Sized)) -> &mut Self {
        self.expect_that::<T>(key.key_bytes(), Expected::Absent)
    }

    /// Refuses the batch unless the record with this key has exactly this value.
    pub fn expect<T: Table>(&mut self, key: &(impl KeyOf<T::Key> + ?Sized), value: &T::Value) -> &mut Self {
        let expected = Expected::Record { record: encode_record::<T>(value), recode: recode::<T> };
        self.expect_that::<T>(key.key_bytes(), expected)
    }

    /// Adds an entry to the audit log, chained inside the batch's transaction.
    pub fn audit(&mut self, draft: AuditDraft) -> &mut Self {
        // The one figure that needs the log's cost apart; no other build knows this feature.
        if cfg!(not(feature = "bench-without-audit")) {
            let room = Vec::with_capacity(AUDIT_DRAFT_BYTES);
            let bytes = postcard::to_extend(&draft, room)
                .expect("records are plain data, which always encodes into memory");
            self.audit.push(bytes.as_slice().into());
        }
        self
    }

    /// The entries that the batch adds to the audit log, in their order, in postcard as the log stores them.
    pub fn audit_bytes(&self) -> &[Arc<[u8]>] {
        &self.audit
    }

    /// The same, read again.
    pub fn audit_drafts(&self) -> impl Iterator<Item = AuditDraft> {
        self.audit.iter().filter_map(|draft| postcard::from_bytes(draft).ok())
    }

    /// Bytes that the batch brings, about; what a commit is bounded by.
    pub fn bytes(&self) -> usize {
        let audit: usize = self.audit.iter().map(|draft| draft.len() + AUDIT_RECORD_MORE).sum();
        self.writes.iter().map(Write::bytes).sum::<usize>() + audit
    }

    /// Replaces values to seal by their envelopes.
    pub(crate) fn seal(&mut self, sealer: &Arc<Sealer>) {
        for write in &mut self.writes {
            if let Write::Seal { table, version, key, value } = write {
                let envelope = sealer.seal(table, key, value.expose());
                let (version, key, by) = (*version, std::mem::take(key), Arc::clone(sealer));
                *write = Write::PutSealed { table, version, key, envelope, by };
            }
        }
    }

    /// Puts one of the store's own notes.
    pub(crate) fn put_note(&mut self, key: &[u8], value: &[u8]) -> &mut Self {
        self.write(Write::Put { table: META, key: key.to_vec(), record: value.to_vec() })
    }

    /// Removes one of the store's own notes.
    pub(crate) fn delete_note(&mut self, key: &[u8]) -> &mut Self {
        self.write(Write::Delete { table: META, key: key.to_vec() })
    }

    /// Refuses the batch unless one of the store's own notes is exactly this.
    pub(crate) fn expect_note(&mut self, key: &[u8], value: Option<&[u8]>) -> &mut Self {
        let expected = value
            .map_or(Expected::Absent, |value| Expected::Record { record: value.to_vec(), recode: |_| None });
        self.expectations.push(Expectation { table: META, key: key.to_vec(), expected });
        self
    }

    /// Replaces a record by another, if it is still the same when the batch's turn comes.
    pub(crate) fn replace(&mut self, table: &'static str, key: &[u8], from: &[u8], to: Vec<u8>) -> &mut Self {
        self.write(Write::Replace { table, key: key.to_vec(), from: from.to_vec(), to })
    }

    fn expect_that<T: Table>(&mut self, key: Vec<u8>, expected: Expected) -> &mut Self {
        self.expectations.push(Expectation { table: T::NAME, key, expected });
        self
    }

    fn write(&mut self, write: Write) -> &mut Self {
        self.writes.push(write);
        self
    }
}

impl Write {
    const fn bytes(&self) -> usize {
        match self {
            Self::Put { key, record, .. } => key.len() + record.len(),
            Self::Seal { key, value, .. } => key.len() + value.expose().len(),
            Self::PutSealed { key, envelope, .. } => key.len() + envelope.0.len(),
            Self::Replace { key, to, .. } => key.len() + to.len(),
            Self::Delete { key, .. } => key.len(),
            Self::DeleteRange { .. } => 64,
            Self::Append { body, .. } => body.len(),
        }
    }
}

/// Counts only: values may be anything.
impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("expectations", &self.expectations.len())
            .field("writes", &self.writes.len())
            .field("audit", &self.audit.len())
            .finish()
    }
}

/// What a stored batch was given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Receipt {
    /// Numbers of the batch's appends, in their order.
    pub positions: Vec<u64>,
    /// Numbers of the batch's audit entries, in their order.
    pub audit: Vec<u64>,
}
