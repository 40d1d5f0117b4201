//! Rows of secrets: how they are paged through, made, given another version, and forgotten.

use hansa_model::Timestamp;
use hansa_model::audit::Detail;
use hansa_model::limits::secrets as limits;
use hansa_model::secrets::row::{SecretRow, SecretType, VersionRow};
use hansa_model::secrets::value::{SecretData, Unfolded};
use hansa_storage::codec::Named;
use hansa_storage::{Batch, Order, ReadError, ReadView, table};

use super::fetch::stored;

/// A secret's key and row.
pub(crate) type Entry = (Named<String>, SecretRow);

/// One page of a tenant's secrets whose paths begin with a literal prefix, behind a path; behind nothing, from the
/// first on.
pub(crate) fn page_below(
    view: &ReadView,
    tenant: &str,
    prefix: &str,
    behind: &str,
    limit: usize,
) -> Result<Vec<Entry>, ReadError> {
    let from = if behind < prefix { prefix.to_owned() } else { format!("{behind}\0") };
    // No path has the last of all characters, so this is behind everything that begins with the prefix.
    let end = format!("{prefix}\u{10ffff}");
    if from > end {
        return Ok(Vec::new());
    }
    view.page::<table::Secrets>(Named::new(tenant, from)..=Named::new(tenant, end), Order::Ascending, limit)
}

/// The type of a value that a backend gave.
pub(crate) const fn type_of(unfolded: Unfolded) -> SecretType {
    match unfolded {
        Unfolded::Json => SecretType::Json,
        Unfolded::Wrapped => SecretType::Kv,
    }
}

/// A secret that has no version yet.
pub(crate) fn new_row(now: Timestamp) -> SecretRow {
    SecretRow {
        secret_type: SecretType::Kv,
        current: 0,
        versions: Vec::new(),
        metadata: "{}".to_owned(),
        max_versions: limits::VERSIONS_KEPT_DEFAULT,
        created_at: now,
        updated_at: now,
        expires_at: None,
        deleted_at: None,
        copy: None,
    }
}

/// Adds a version to a row and its value to the batch; versions beyond those kept lose their values.
pub(crate) fn add_version(
    batch: &mut Batch,
    key: &Named<String>,
    row: &mut SecretRow,
    data: &SecretData,
    now: Timestamp,
    by: &str,
    backend_version: Option<String>,
) {
    row.current += 1;
    row.updated_at = now;
    row.versions.push(VersionRow {
        number: row.current,
        created_at: now,
        created_by: by.to_owned(),
        backend_version,
    });
    batch.put_sealed::<table::SecretValues>(&value_key(key, row.current), &stored(data));
    while row.versions.len() > row.max_versions.max(1) as usize {
        let oldest = row.versions.remove(0);
        batch.delete::<table::SecretValues>(&value_key(key, oldest.number));
    }
}

/// A version's number as audit entries have it.
pub(super) fn number(version: u64) -> Detail {
    Detail::Int(i64::try_from(version).unwrap_or(i64::MAX))
}

/// Takes all versions of a row away: their data keys go with them. Its numbers go on.
pub(crate) fn forget_versions(batch: &mut Batch, key: &Named<String>, row: &mut SecretRow) {
    row.versions.clear();
    batch.delete_range::<table::SecretValues>(value_key(key, 0)..=value_key(key, u64::MAX));
}

/// Removes a secret with all its values: their data keys go with them.
pub(crate) fn forget(batch: &mut Batch, key: &Named<String>) {
    batch.delete::<table::Secrets>(key);
    batch.delete_range::<table::SecretValues>(value_key(key, 0)..=value_key(key, u64::MAX));
}

/// Where the value of a version lies.
pub(crate) fn value_key(key: &Named<String>, number: u64) -> Named<Named<u64>> {
    Named::new(&key.name, Named::new(&key.number, number))
}
