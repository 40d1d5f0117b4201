//! The facade's part about the audit log and live events.

use hansa_model::audit::{AuditEntry, AuditFilter, Checkpoint, KeptCheckpoint};
use hansa_model::event::Event;
use hansa_model::scope::Operator;
use hansa_model::secrets::tenant;
use hansa_model::{AuditId, Timestamp};
use hansa_storage::{Order, table};
use hansa_transport::PublicKey;

use super::Federation;
use crate::backends::error::TenantError;
use crate::error::{AuditChainError, AuditEntryError, Unavailable};
use crate::events::{EventReader, EventsStart};
use crate::view::{AuditPageView, ChainLink};

impl Federation {
    /// The present instant, by the node's clock.
    pub fn now(&self) -> Timestamp {
        self.tree.context.now()
    }

    /// A reader of live events from a place on. It sees all of them: who shows them to an operator asks
    /// [`Self::may_see`] of each.
    pub fn events(&self, start: EventsStart) -> EventReader {
        self.tree.context.events.reader(start)
    }

    /// Whether an operator may see an event: as [`Event::is_visible_to`] says, and only of tenants that they may
    /// act for.
    pub fn may_see(&self, operator: &Operator, event: &Event) -> bool {
        let is_theirs = |id| match self.tenant_for(operator, Some(id)) {
            Ok(_) => true,
            // It was removed since.
            Err(TenantError::NotFound) => tenant::may_act_for_any(operator),
            Err(_) => false,
        };
        event.is_visible_to(operator) && event.tenant().is_none_or(is_theirs)
    }

    /// Returns when the log has the entries of all reads of secrets that have ended: those of reads from backends
    /// come a moment after the answer.
    ///
    /// # Errors
    /// They could not be stored; they are kept, and stored as soon as that is possible.
    pub async fn settle_audit(&self) -> Result<(), Unavailable> {
        self.tree.open_entries.settle().await
    }

    /// A page of the audit log, newest first. Who may see some sites only sees the entries about them; who has
    /// a tenant's token sees those about sites.
    ///
    /// # Errors
    /// The store did not answer.
    pub fn audit(
        &self,
        operator: &Operator,
        filter: &AuditFilter,
        offset: u64,
        limit: usize,
    ) -> Result<AuditPageView, Unavailable> {
        let (entries, total) = self.tree.audit.page(&self.tree.context, operator, filter, offset, limit)?;
        Ok(AuditPageView { entries, total })
    }

    /// One entry of the audit log.
    ///
    /// # Errors
    /// There is none, or the operator may not see it.
    pub fn audit_entry(&self, operator: &Operator, id: AuditId) -> Result<AuditEntry, AuditEntryError> {
        let found = self.tree.audit.find(&self.tree.context, operator, id)?;
        found.ok_or(AuditEntryError::NotFound(id))
    }

    /// At most `limit` links of the audit chain after a number, for somebody who verifies it.
    ///
    /// # Errors
    /// The operator may not see every site, or has a tenant's token, or the store did not answer.
    pub fn audit_chain(
        &self,
        operator: &Operator,
        after: u64,
        limit: usize,
    ) -> Result<Vec<ChainLink>, AuditChainError> {
        if operator.sites.is_some() || tenant::is_confined(operator) {
            return Err(AuditChainError::Confined);
        }
        let view = self.tree.context.store.read().map_err(|_| Unavailable::Storage)?;
        Ok(crate::audit::links(&view, after, limit)?)
    }

    /// The newest `limit` checkpoints that this node has made of its own audit log, newest first.
    ///
    /// # Errors
    /// The store did not answer.
    pub fn audit_checkpoints(&self, limit: usize) -> Result<Vec<Checkpoint>, Unavailable> {
        let view = self.tree.context.store.read().map_err(|_| Unavailable::Storage)?;
        let newest = view.page::<table::AuditCheckpoints>(.., Order::Descending, limit);
        Ok(newest.map_err(|_| Unavailable::Storage)?.into_iter().map(|(_, checkpoint)| checkpoint).collect())
    }

    /// A public identity key in PEM, for people to compare; empty for bytes that are none.
    pub fn key_pem(&self, key: &[u8; 32]) -> String {
        PublicKey::from_bytes(*key).map_or_else(|_| String::new(), |key| key.to_pem())
    }

    /// The newest `limit` checkpoints that this site keeps of its coordinator's audit log, newest first.
    ///
    /// # Errors
    /// The store did not answer.
    pub fn coordinator_checkpoints(&self, limit: usize) -> Result<Vec<KeptCheckpoint>, Unavailable> {
        let view = self.tree.context.store.read().map_err(|_| Unavailable::Storage)?;
        let newest = view.page::<table::CoordinatorCheckpoints>(.., Order::Descending, limit);
        Ok(newest.map_err(|_| Unavailable::Storage)?.into_iter().map(|(_, kept)| kept).collect())
    }
}
