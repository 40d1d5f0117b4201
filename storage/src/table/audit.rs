//! The audit log: number → entry. Numbered and chained by the writer, inside the mutation's transaction.

use hansa_model::audit::AuditEntry;

use super::Table;

/// The audit log: number → entry. Numbered and chained by the writer, inside the mutation's transaction.
#[derive(Debug)]
pub enum Audit {}

impl Table for Audit {
    type Key = u64;
    type Value = AuditEntry;
    const NAME: &'static str = "audit";
    const WRITER_ONLY: bool = true;
}
