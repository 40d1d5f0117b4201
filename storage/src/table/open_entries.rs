//! Calls to backends whose entry is not in the audit log yet.

use hansa_model::AuditId;
use hansa_model::audit::AuditDraft;

use super::Table;

/// Calls to backends whose entry is not in the audit log yet: the id that it will have → what is known of it.
#[derive(Debug)]
pub enum OpenEntries {}

impl Table for OpenEntries {
    type Key = AuditId;
    type Value = AuditDraft;
    const NAME: &'static str = "open_entries";
}
