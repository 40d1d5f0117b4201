//! Following the audit chain of a file that no node runs on.
//!
//! It needs no root key, as the log is not sealed, and it does not judge the pages: an entry that was changed
//! is to be named, not hidden behind a checksum.

use std::path::Path;
use std::sync::Arc;

use hansa_model::audit::{AuditEntry, BrokenChain, Verification};
use redb::ReadableDatabase as _;

use crate::backup::CACHE_BYTES;
use crate::codec::decode_record;
use crate::disk::Disk;
use crate::error::OpenError;
use crate::generation::{self, AUDIT_KEY, AuditHead, Trust};
use crate::schema::{META, definition};
use crate::table::{Audit, Table as _};

/// What following a log has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FollowedAudit {
    /// The last entry's number; zero when there is none.
    pub entries: u64,
    /// Checkpoints that agreed.
    pub checkpoints: u64,
}

/// Follows the audit log of the store on a disk, which is opened as a start of the node would open it.
///
/// # Errors
/// The store cannot be opened. The inner error names the first entry that is not what was written.
pub fn follow_stopped(
    disk: &dyn Disk,
    verification: Verification,
) -> Result<Result<FollowedAudit, BrokenChain>, OpenError> {
    let hold = Arc::from(disk.lock()?);
    let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
    let generation = generation::open(disk, CACHE_BYTES, Trust::AfterCrash, &hold)?.ok_or_else(missing)?;
    let transaction = generation.database.begin_read().map_err(redb::Error::from)?;
    Ok(follow(&transaction, verification)?)
}

/// Follows the audit log of a backup, which is only read.
///
/// # Errors
/// The file cannot be opened, or is no complete backup. The inner error names the first entry that is not
/// what was written.
pub fn follow_backup(
    backup: &Path,
    verification: Verification,
) -> Result<Result<FollowedAudit, BrokenChain>, OpenError> {
    let database = redb::Builder::new().open_read_only(backup).map_err(redb::Error::from)?;
    let transaction = database.begin_read().map_err(redb::Error::from)?;
    Ok(follow(&transaction, verification)?)
}

fn follow(
    transaction: &redb::ReadTransaction,
    mut verification: Verification,
) -> Result<Result<FollowedAudit, BrokenChain>, redb::Error> {
    let table = transaction.open_table(definition(Audit::NAME))?;
    for entry in table.range::<&[u8]>(..)? {
        let (_, record) = entry?;
        let followed =
            decode_record::<Audit>(record.value()).ok().and_then(|entry| step(&mut verification, &entry));
        let number = verification.place().0 + 1;
        if let Err(broken) = followed.unwrap_or(Err(BrokenChain::Changed { number })) {
            return Ok(Err(broken));
        }
    }
    let meta = transaction.open_table(definition(META))?;
    let noted = meta.get(AUDIT_KEY)?.and_then(|head| AuditHead::from_bytes(head.value())).unwrap_or_default();
    let (number, hash) = verification.place();
    if (AuditHead { number, hash }) != noted {
        return Ok(Err(BrokenChain::OutOfPlace { number: number.min(noted.number) + 1 }));
    }
    Ok(verification.end().map(|(entries, checkpoints)| FollowedAudit { entries, checkpoints }))
}

/// One entry; none when it cannot be encoded again, which none that was written does.
fn step(verification: &mut Verification, entry: &AuditEntry) -> Option<Result<(), BrokenChain>> {
    let draft = postcard::to_stdvec(&entry.draft).ok()?;
    Some(verification.follow(entry.number, &draft, &entry.hash))
}
