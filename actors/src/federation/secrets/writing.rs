//! Writing and deleting: here, or through to a backend.

use std::sync::Arc;

use hansa_model::Timestamp;
use hansa_model::audit::Detail;
use hansa_model::secrets::change::Change;
use hansa_model::secrets::path::{InvalidPath, SecretPath};
use hansa_model::secrets::policy::Permission;
use hansa_model::secrets::row::{Mode, SecretRow};
use hansa_storage::{Batch, CommitError, Lane, table};

use super::{Caller, Federation, NewValue, Record, SecretSummary, ask, key, require};
use crate::backends::error::SecretError;
use crate::backends::{
    BackendMessage, Member, Standing, Stored, WriteThrough, add_version, forget, forget_versions, new_row,
    store_written,
};
use crate::error::Unavailable;
use crate::open_entries::Outcome;

impl Federation {
    /// Stores a new version of a secret. Durable on return, with its audit entry; a refusal is in the log too.
    ///
    /// # Errors
    /// See [`SecretError`]; nothing was changed.
    pub async fn put_secret(
        &self,
        caller: &Caller,
        path: &SecretPath,
        value: NewValue,
    ) -> Result<SecretSummary, SecretError> {
        let mut record = Record::new("secret_write", path.as_str(), self.now());
        match self.store_secret(caller, path, value, &mut record).await {
            Ok(summary) => Ok(summary),
            Err(error) => {
                self.write_down(caller, record, Some(&error)).await?;
                Err(error)
            }
        }
    }

    async fn store_secret(
        &self,
        caller: &Caller,
        path: &SecretPath,
        value: NewValue,
        record: &mut Record,
    ) -> Result<SecretSummary, SecretError> {
        let board = self.tenant_board(caller)?;
        require(&board, caller, Permission::Write, path)?;
        let place = match self.place(&board, caller, path, record) {
            // One that is switched off is read only like any other.
            Err(SecretError::Disabled { backend }) if !self.member_of(caller, backend)?.is_writable() => {
                return Err(SecretError::ReadOnly { backend });
            }
            place => place?,
        };
        match place {
            Some((member, _)) if !member.is_writable() => {
                Err(SecretError::ReadOnly { backend: member.row.id })
            }
            Some((member, name)) => self.write_through(caller, path, &member, name, value, record).await,
            None if !path.is_local() => Err(SecretError::Path(InvalidPath::Character)),
            None => self.store_here(caller, path, value, record).await,
        }
    }

    /// Writes at the backend, which compares with the version that our copy has, and then here. A caller's own
    /// comparison is with our version, as reads tell it.
    async fn write_through(
        &self,
        caller: &Caller,
        path: &SecretPath,
        member: &Member,
        name: String,
        value: NewValue,
        record: &mut Record,
    ) -> Result<SecretSummary, SecretError> {
        let known = self.row(caller, path)?.filter(|(_, standing)| *standing != Standing::Orphan);
        let known = known.map(|(row, _)| row);
        require_version(&value, known.as_ref())?;
        let copied = known.as_ref().and_then(|row| row.version(row.copy.as_ref()?.common));
        let copied = copied.and_then(|version| version.backend_version.as_ref()?.parse().ok());
        let tried = hansa_model::secrets::id::SyncRunId::generate(self.now(), &*self.tree.context.entropy);
        let write = WriteThrough {
            tenant: caller.tenant.clone(),
            path: path.clone(),
            name,
            data: value.data.clone(),
            expected: copied.or_else(|| value.expected.filter(|expected| *expected == 0)),
            token: tried.0.simple().to_string(),
        };
        let draft = self.tree.context.audit_node(record.action, None, []);
        let draft = self.entry(caller, record, None, draft);
        let mut open = self.tree.open_entries.begin(draft.clone(), Outcome::Unknown);
        // What the backend is to do is on disk before it may do it.
        open.stored().await?;
        // The backend first: what it has not taken is not stored here either.
        let written = ask(member, |reply| BackendMessage::Write { write: write.clone(), reply }).await;
        let written = match written {
            Ok(written) => written,
            Err(error) => {
                record.open = Some(open);
                // What our copy was compared with is gone there.
                let gone = matches!(error, SecretError::NotFound) && write.expected.is_some();
                return Err(if gone { SecretError::Conflict } else { error });
            }
        };
        let entry = self.ended(caller, record, None, draft);
        let (backends, member, by) =
            (self.tree.backends.clone(), member.clone(), caller.operator.userid.clone());
        let backend = member.row.id;
        // A task of its own: a caller that goes away now must not leave the entry both in the log and open.
        let stored = tokio::spawn(async move {
            let amend = |row: &mut SecretRow, now| value.amend(row, now);
            let stored = store_written(&backends, &member, &write, &written, &by, amend, entry).await;
            if let Ok(Stored::Next(_)) = &stored {
                open.forget();
                (stored, None)
            } else {
                (stored, Some(open))
            }
        });
        let stored = stored.await.map_err(|_| Unavailable::Busy { part: "the secret" })?;
        record.open = stored.1;
        let row = match stored.0? {
            Stored::Next(row) => row,
            Stored::Overtaken(row) => {
                if let Some(open) = record.open.take() {
                    open.end(|draft| self.ended(caller, record, None, draft));
                }
                row
            }
        };
        Ok(SecretSummary { path: path.clone(), row: Some(Arc::new(row)), backend: Some(backend) })
    }

    async fn store_here(
        &self,
        caller: &Caller,
        path: &SecretPath,
        value: NewValue,
        record: &mut Record,
    ) -> Result<SecretSummary, SecretError> {
        let context = &self.tree.context;
        let now = context.now();
        let key = key(caller, path);
        let old = self.row(caller, path)?;
        let known = old.as_ref().filter(|(_, standing)| *standing != Standing::Orphan).map(|(row, _)| row);
        if known.is_some_and(|known| known.deleted_at.is_some()) {
            return Err(SecretError::Exists);
        }
        require_version(&value, known)?;
        let mut batch = Batch::new();
        let mut row = match &old {
            Some((old, standing)) => {
                batch.expect::<table::Secrets>(&key, old);
                let mut row = SecretRow { copy: None, ..old.clone() };
                if *standing == Standing::Orphan {
                    forget_versions(&mut batch, &key, &mut row);
                    row = SecretRow { current: row.current, ..new_row(now) };
                }
                row
            }
            None => {
                batch.expect_absent::<table::Secrets>(&key);
                new_row(now)
            }
        };
        value.amend(&mut row, now);
        add_version(&mut batch, &key, &mut row, &value.data, now, &caller.operator.userid, None);
        record.change(Change::stored(known.is_none()), row.current);
        batch.put::<table::Secrets>(&key, &row);
        batch.audit(self.entry(caller, record, None, context.audit_node(record.action, None, [])));
        commit(self, batch).await?;
        Ok(SecretSummary { path: path.clone(), row: Some(Arc::new(row)), backend: None })
    }

    /// Deletes a secret: its values go when its retention ends, or at once. Durable on return.
    ///
    /// # Errors
    /// See [`SecretError`]; nothing was changed.
    pub async fn delete_secret(
        &self,
        caller: &Caller,
        path: &SecretPath,
        hard: bool,
    ) -> Result<(), SecretError> {
        let mut record = Record::new("secret_delete", path.as_str(), self.now());
        record.details.push(("hard", Detail::Bool(hard)));
        match self.remove_secret(caller, path, hard, &mut record).await {
            Ok(()) => Ok(()),
            Err(error) => {
                self.write_down(caller, record, Some(&error)).await?;
                Err(error)
            }
        }
    }

    async fn remove_secret(
        &self,
        caller: &Caller,
        path: &SecretPath,
        hard: bool,
        record: &mut Record,
    ) -> Result<(), SecretError> {
        let board = self.tenant_board(caller)?;
        require(&board, caller, Permission::Delete, path)?;
        // Deletions are never passed on.
        match self.place(&board, caller, path, record) {
            Ok(None) => {}
            Ok(Some((member, _))) => return Err(SecretError::ReadOnly { backend: member.row.id }),
            Err(SecretError::Disabled { backend }) => return Err(SecretError::ReadOnly { backend }),
            Err(error) => return Err(error),
        }
        let context = &self.tree.context;
        let now = context.now();
        let key = key(caller, path);
        // A deleted one can still be deleted hard.
        let old = self.row(caller, path)?.filter(|(row, standing)| match standing {
            Standing::Own | Standing::Copy => hard || row.is_live(now),
            Standing::Orphan => false,
        });
        let (old, _) = old.ok_or(SecretError::NotFound)?;
        let mut batch = Batch::new();
        batch.expect::<table::Secrets>(&key, &old);
        record.change(Change::Deleted, old.current);
        if hard {
            forget(&mut batch, &key);
        } else {
            batch.put::<table::Secrets>(&key, &SecretRow { deleted_at: Some(now), ..old });
        }
        batch.audit(self.entry(caller, record, None, context.audit_node(record.action, None, [])));
        commit(self, batch).await
    }
}

impl Member {
    fn is_writable(&self) -> bool {
        self.row.write_through && self.row.mode == Mode::Sync
    }
}

impl NewValue {
    /// What the caller says besides the value.
    fn amend(&self, row: &mut SecretRow, now: Timestamp) {
        row.secret_type = self.secret_type.unwrap_or(row.secret_type);
        if let Some(metadata) = &self.metadata {
            row.metadata.clone_from(metadata);
        }
        row.max_versions = self.max_versions.unwrap_or(row.max_versions);
        row.expires_at = self.expires_in.map(|span| now.after(span)).or(row.expires_at);
    }
}

/// Whether the newest version is the one that the caller wants to replace.
fn require_version(value: &NewValue, known: Option<&SecretRow>) -> Result<(), SecretError> {
    let newest = known.filter(|row| row.deleted_at.is_none()).map_or(0, |row| row.current);
    if value.expected.is_none_or(|expected| expected == newest) { Ok(()) } else { Err(SecretError::Conflict) }
}

async fn commit(federation: &Federation, batch: Batch) -> Result<(), SecretError> {
    match federation.tree.context.store_batch(Lane::Operator, batch).await {
        Ok(_) => Ok(()),
        Err(CommitError::PreconditionFailed { .. }) => Err(SecretError::Conflict),
        Err(error) => Err(Unavailable::from(error).into()),
    }
}
