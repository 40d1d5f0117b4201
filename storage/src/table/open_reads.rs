//! Reads of backends' secrets that are under way, or whose entry is not in the audit log yet.

use hansa_model::AuditId;
use hansa_model::audit::AuditDraft;

use super::Table;

/// Reads of backends' secrets that are under way: the id of the entry that each will have → what is known of it.
#[derive(Debug)]
pub enum OpenReads {}

impl Table for OpenReads {
    type Key = AuditId;
    type Value = AuditDraft;
    const NAME: &'static str = "open_reads";
}
