//! Conflicts between a copy and its original, and how somebody ends them.

use hansa_backends::CallError;
use hansa_model::scope::Operator;
use hansa_model::secrets::change::Change;
use hansa_model::secrets::id::{BackendId, ConflictId};
use hansa_model::secrets::row::{Conflict, CopyRow};
use hansa_storage::codec::Named;
use hansa_storage::{Batch, CommitError, Lane, ReadError, ReadView, table};

use super::error::{BackendError, BackendFailure};
use super::fetch::{Slot, VersionKey};
use super::rows::{add_version, new_row, type_of};
use super::sync::copied;
use super::{Backends, Member};
use crate::error::Unavailable;

/// The range of a backend's conflicts.
pub(crate) fn every_conflict(id: BackendId) -> std::ops::RangeInclusive<(BackendId, ConflictId)> {
    let end = |uuid| (id, ConflictId(uuid));
    end(uuid::Uuid::nil())..=end(uuid::Uuid::max())
}

/// A backend's conflicts, oldest first; also those whose local value somebody chose.
pub(super) fn open(view: &ReadView, id: BackendId) -> Result<Vec<Conflict>, ReadError> {
    let open = view.all::<table::SecretConflicts>(every_conflict(id))?;
    Ok(open.into_iter().map(|(_, conflict)| conflict).collect())
}

/// How somebody ends a conflict.
#[derive(Debug, Clone)]
pub(crate) struct Resolution {
    pub(crate) conflict: ConflictId,
    pub(crate) take_remote: bool,
    pub(crate) operator: Operator,
}

/// Ends a conflict. Durable on return.
pub(super) async fn resolve(
    backends: &Backends,
    member: &Member,
    slot: &Slot,
    resolution: &Resolution,
) -> Result<(), BackendError> {
    let context = &backends.context;
    let id = member.row.id;
    let conflict_key = (id, resolution.conflict);
    let found = context.store.read()?.get::<table::SecretConflicts>(&conflict_key)?;
    let conflict = found.ok_or(BackendError::ConflictNotFound(resolution.conflict))?;
    let details = [
        ("tenant", member.row.tenant.as_str().into()),
        ("backend_id", id.to_string().as_str().into()),
        ("conflict_id", conflict.id.to_string().as_str().into()),
        ("secret_path", conflict.path.as_str().into()),
        ("strategy", if resolution.take_remote { "take_remote" } else { "keep_local" }.into()),
    ];
    let mut batch = Batch::new();
    batch.expect::<table::SecretConflicts>(&conflict_key, &conflict);
    batch.audit(context.audit_node("federation_conflict_resolve", Some(&resolution.operator), details));
    if resolution.take_remote {
        take_remote(backends, member, slot, resolution, &conflict, &mut batch).await?;
        batch.delete::<table::SecretConflicts>(&conflict_key);
    } else {
        batch.put::<table::SecretConflicts>(&conflict_key, &Conflict { kept_local: true, ..conflict });
    }
    match context.store_batch(Lane::Operator, batch).await {
        Ok(_) => Ok(()),
        // A sync or a write came between.
        Err(CommitError::PreconditionFailed { .. }) => Err(Unavailable::Busy { part: "the secret" }.into()),
        Err(error) => Err(Unavailable::from(error).into()),
    }
}

/// Puts the backend's present value in the place of the local one; where it has none, the local one goes.
async fn take_remote(
    backends: &Backends,
    member: &Member,
    slot: &Slot,
    resolution: &Resolution,
    conflict: &Conflict,
    batch: &mut Batch,
) -> Result<(), BackendError> {
    let context = &backends.context;
    let source = slot.open(backends, member).await.map_err(BackendError::Backend)?;
    let name = conflict.names.first().cloned().unwrap_or_default();
    let key = Named::new(member.row.tenant.as_str(), conflict.path.as_str().to_owned());
    // Before the backend is asked: what is written here meanwhile is newer than its answer.
    let old = context.store.read()?.get::<table::Secrets>(&key)?;
    let remote = match source.read(&name, &VersionKey::Current).await {
        Ok(fetched) => Some(fetched.found.secret),
        Err(BackendFailure::Call(CallError::NotFound | CallError::VersionNotFound)) => None,
        Err(failure) => return Err(BackendError::Backend(failure)),
    };
    let now = context.now();
    match &old {
        Some(old) => batch.expect::<table::Secrets>(&key, old),
        None => batch.expect_absent::<table::Secrets>(&key),
    };
    let mut row = old.unwrap_or_else(|| new_row(now));
    let was_there = row.current > 0 && row.deleted_at.is_none();
    let change = match remote {
        Some(secret) => {
            let (data, unfolded) = secret.value.unfold();
            row.secret_type = type_of(unfolded);
            row.deleted_at = None;
            row.expires_at = secret.expires_at;
            let by = &resolution.operator.userid;
            add_version(batch, &key, &mut row, &data, now, by, secret.backend_version.clone());
            row.copy = Some(CopyRow {
                backend: member.row.id,
                name,
                mark: secret.mark.or_else(|| conflict.remote_mark.clone()),
                common: row.current,
                seen_at: now,
                absent: 0,
            });
            Some(Change::stored(!was_there))
        }
        None => {
            row.deleted_at = Some(now);
            was_there.then_some(Change::Deleted)
        }
    };
    if let Some(change) = change {
        let details = copied(member, &conflict.path, change, row.current);
        batch.audit(context.audit_node("secret_copied", Some(&resolution.operator), details));
    }
    batch.put::<table::Secrets>(&key, &row);
    Ok(())
}
