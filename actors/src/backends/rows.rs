//! Rows of secrets as they are made: the first version, the next one, and the type of what a backend gave.

use hansa_model::Timestamp;
use hansa_model::limits::secrets as limits;
use hansa_model::secrets::row::{SecretRow, SecretType, VersionRow};
use hansa_model::secrets::value::{SecretData, Unfolded};
use hansa_storage::codec::Named;
use hansa_storage::{Batch, table};

use super::fetch::stored;

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
    let value_key = |number| Named::new(&key.name, Named::new(&key.number, number));
    batch.put_sealed::<table::SecretValues>(&value_key(row.current), &stored(data));
    while row.versions.len() > row.max_versions.max(1) as usize {
        let oldest = row.versions.remove(0);
        batch.delete::<table::SecretValues>(&value_key(oldest.number));
    }
}
