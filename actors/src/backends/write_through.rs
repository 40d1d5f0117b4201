//! Writes that go through to a backend in sync mode: the backend first, then the copy.

use hansa_backends::{Write, Written};
use hansa_model::Timestamp;
use hansa_model::audit::AuditDraft;
use hansa_model::secrets::change::Change;
use hansa_model::secrets::id::TenantId;
use hansa_model::secrets::path::SecretPath;
use hansa_model::secrets::row::{CopyRow, SecretRow};
use hansa_model::secrets::value::SecretData;
use hansa_storage::codec::Named;
use hansa_storage::{Batch, CommitError, Lane, table};
use tokio::time::Instant;

use super::error::{BackendFailure, SecretError};
use super::fetch::Source;
use super::rows::{add_version, new_row, number};
use super::{Backends, Member};
use crate::error::Unavailable;

/// A write that goes through to the backend.
#[derive(Debug, Clone)]
pub(crate) struct WriteThrough {
    pub(crate) tenant: TenantId,
    pub(crate) path: SecretPath,
    pub(crate) name: String,
    pub(crate) data: SecretData,
    /// The backend's own number of the version that must be its newest; zero for none at all.
    pub(crate) expected: Option<u64>,
    pub(crate) token: String,
}

impl WriteThrough {
    /// Writes at the backend; one try, because not every backend knows a repeat.
    pub(super) async fn send(&self, source: &Source) -> Result<Written, BackendFailure> {
        let write = Write { data: &self.data, expected: self.expected, token: &self.token };
        source.once(Instant::now() + source.timeout, source.driver.write(&self.name, write)).await
    }
}

/// How often the copy is looked at again because something else changed it meanwhile.
const STORE_TRIES: usize = 3;

/// What became of a write here once the backend had taken it.
#[derive(Debug)]
pub(crate) enum Stored {
    /// It is the next version, and its audit entry, which was open, is in the log.
    Next(SecretRow),
    /// A later one is here already. Its audit entry is still open.
    Overtaken(SecretRow),
}

/// Stores what the backend has taken as the next version here. `amend` adds what the caller said besides the
/// value. Durable on return, with its audit entry.
pub(crate) async fn store_written(
    backends: &Backends,
    member: &Member,
    write: &WriteThrough,
    written: &Written,
    by: &str,
    amend: impl Fn(&mut SecretRow, Timestamp),
    entry: AuditDraft,
) -> Result<Stored, SecretError> {
    let context = &backends.context;
    let key = Named::new(write.tenant.as_str(), write.path.as_str().to_owned());
    for _ in 0..STORE_TRIES {
        let now = context.now();
        let old = context.store.read()?.get::<table::Secrets>(&key)?;
        let mut batch = Batch::new();
        match &old {
            Some(old) => batch.expect::<table::Secrets>(&key, old),
            None => batch.expect_absent::<table::Secrets>(&key),
        };
        let mut row = old.unwrap_or_else(|| new_row(now));
        if is_newer(&row, member, written) {
            return Ok(Stored::Overtaken(row));
        }
        let change = Change::stored(row.current == 0 || row.deleted_at.is_some());
        row.deleted_at = None;
        amend(&mut row, now);
        let version = written.version.map(|version| version.to_string());
        add_version(&mut batch, &key, &mut row, &write.data, now, by, version);
        row.copy = Some(CopyRow {
            backend: member.row.id,
            name: write.name.clone(),
            mark: written.mark.clone(),
            common: row.current,
            seen_at: now,
            absent: 0,
        });
        let mut entry = entry.clone();
        entry.details.insert("change".to_owned(), change.as_str().into());
        entry.details.insert("version".to_owned(), number(row.current));
        batch.put::<table::Secrets>(&key, &row).delete::<table::OpenEntries>(&entry.id).audit(entry);
        match context.store_batch(Lane::Operator, batch).await {
            Ok(_) => return Ok(Stored::Next(row)),
            Err(CommitError::PreconditionFailed { .. }) => {}
            Err(error) => return Err(Unavailable::from(error).into()),
        }
    }
    // The backend holds it; the next sync brings it here.
    Err(SecretError::Conflict)
}

/// Whether the copy is of a later version than the one that was written: a sync, or another write, was quicker.
fn is_newer(row: &SecretRow, member: &Member, written: &Written) -> bool {
    let copy = row.copy.as_ref().filter(|copy| copy.backend == member.row.id && row.deleted_at.is_none());
    let version =
        copy.and_then(|copy| row.version(copy.common)?.backend_version.as_ref()?.parse::<u64>().ok());
    version.zip(written.version).is_some_and(|(copied, written)| copied > written)
}
