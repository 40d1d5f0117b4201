//! The facade's part about what was done with secrets: one tenant's rows of the audit log.

use hansa_model::audit::{AuditEntry, Detail};
use hansa_model::secrets::id::TenantId;
use hansa_storage::{Order, table};

use super::Federation;
use crate::error::Unavailable;

/// What is asked of the rows. All conditions must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecretLogFilter {
    /// Exactly this action, as the contract names it.
    pub action: Option<String>,
    /// Exactly this path.
    pub secret_path: Option<String>,
    /// By exactly this identity.
    pub identity: Option<String>,
}

/// Rows looked at by one call: a page is answered even where a tenant has few rows among many.
const LOOKED_AT_MAX: usize = 50_000;
/// Rows read at a time.
const CHUNK: usize = 1_000;

impl Federation {
    /// A tenant's rows about secrets, newest first, below a number; and the number to go on below. Those of reads
    /// that have just ended are there after [`Self::settle_audit`].
    ///
    /// # Errors
    /// The store did not answer.
    pub fn secret_logs(
        &self,
        tenant: &TenantId,
        filter: &SecretLogFilter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<AuditEntry>, Option<u64>), Unavailable> {
        let view = self.tree.context.store.read().map_err(|_| Unavailable::Storage)?;
        let mut before = before.unwrap_or(u64::MAX);
        let mut found = Vec::new();
        let mut looked_at = 0;
        while looked_at < LOOKED_AT_MAX {
            let page = view
                .page::<table::Audit>(..before, Order::Descending, CHUNK)
                .map_err(|_| Unavailable::Storage)?;
            let Some((last, _)) = page.last() else { return Ok((found, None)) };
            let last = *last;
            looked_at += page.len();
            for (number, entry) in page {
                if is_wanted(&entry, tenant, filter) {
                    found.push(entry);
                    if found.len() == limit {
                        return Ok((found, Some(number)));
                    }
                }
            }
            before = last;
        }
        Ok((found, Some(before)))
    }
}

fn is_wanted(entry: &AuditEntry, tenant: &TenantId, filter: &SecretLogFilter) -> bool {
    let is = |name: &str, wanted: &str| matches!(entry.draft.details.get(name), Some(Detail::Text(text)) if text == wanted);
    let action = entry.draft.operation.strip_prefix("secret_").unwrap_or(&entry.draft.operation);
    is("tenant", tenant.as_str())
        && filter.action.as_deref().is_none_or(|wanted| wanted == action)
        && filter.secret_path.as_deref().is_none_or(|wanted| is("secret_path", wanted))
        && filter.identity.as_deref().is_none_or(|wanted| entry.draft.actor_userid.as_deref() == Some(wanted))
}
