//! At the end every node's file is sound: pages, records, indexes, and the audit chain from its first entry.

use std::sync::Arc;

use hansa_model::Entropy;
use hansa_storage::{RootKey, check_stopped};

use crate::disk::SimDisk;

/// Checks the disk of a stopped host as `hansa check` does.
///
/// # Errors
/// Names what is wrong, the first few things.
pub fn check(disk: &SimDisk, root_key: &RootKey, entropy: Arc<dyn Entropy>) -> Result<(), String> {
    let report = check_stopped(&disk.mount(), root_key, entropy).map_err(|error| format!("{error:?}"))?;
    if !report.is_sound() {
        return Err(format!("{} problems: {:?}", report.problem_count, &report.problems));
    }
    if report.audit_entries == 0 {
        return Err("the audit log is empty".to_owned());
    }
    Ok(())
}
