//! The facade's part about a site's queue, where its coordinator is, and the end of its membership.

use hansa_model::enrollment::{Enrollment, Role};
use hansa_model::limits::sync as limits;
use hansa_model::scope::Operator;
use hansa_storage::{Batch, table};
use hansa_transport::wire::Up;
use hansa_transport::{CloseCode, CloseReason, DialError, Lane, PublicKey};
use tokio::time::timeout;
use tracing::debug;

use super::Federation;
use crate::error::{EnrollError, InventoryError, LeaveError, Unavailable};
use crate::inbox::InboxMessage;
use crate::sync_queue::SyncQueueMessage;
use crate::uplink::{self, UplinkMessage};
use crate::view::{DeadLetter, MembershipView};

impl Federation {
    /// The oldest `limit` entries that the coordinator refused for good, with the ids that name them.
    ///
    /// # Errors
    /// The store did not answer.
    pub fn dead_letters(&self, limit: usize) -> Result<Vec<(u64, DeadLetter)>, Unavailable> {
        let view = self.tree.context.store.read().map_err(|_| Unavailable::Storage)?;
        let entries = view.all::<table::Queue>(..).map_err(|_| Unavailable::Storage)?;
        Ok(entries
            .into_iter()
            .filter(|(_, entry)| entry.attempts >= limits::ATTEMPTS_MAX)
            .take(limit)
            .map(|(order, entry)| (order, DeadLetter::from(entry)))
            .collect())
    }

    /// Sends dead entries once more: these, or all. Durable on return; answers with how many.
    ///
    /// # Errors
    /// See [`InventoryError`].
    pub async fn requeue(&self, operator: &Operator, ids: Option<Vec<u64>>) -> Result<u64, InventoryError> {
        self.require(Role::Site)?;
        let audit = self.tree.context.audit_node("sync_queue_requeued", Some(operator), []);
        let message = |reply| SyncQueueMessage::Requeue { orders: ids, audit, reply };
        let count = self.tree.site.queue.call(message).await??;
        // An uplink that waits for its interval need not.
        self.tree.site.uplink.cast(UplinkMessage::Hurry);
        Ok(count)
    }

    /// Drops queued payloads but the newest; host changes stay. Durable on return; answers with how many.
    ///
    /// # Errors
    /// See [`InventoryError`].
    pub async fn purge_oldest(&self, operator: &Operator, keep_newest: u64) -> Result<u64, InventoryError> {
        self.require(Role::Site)?;
        let audit = Some(self.tree.context.audit_node("sync_queue_purged", Some(operator), []));
        let message = |reply| SyncQueueMessage::Purge { keep_newest, audit, reply };
        Ok(self.tree.site.queue.call(message).await??)
    }

    /// Dials the coordinator at another address from now on: it has moved, and its identity key with it. Durable
    /// on return; the uplink then dials by itself.
    ///
    /// # Errors
    /// See [`EnrollError`]: a value is malformed, or the site is not enrolled.
    pub async fn relocate_coordinator(
        &self,
        operator: &Operator,
        coordinator_url: &str,
        quic_address: Option<String>,
    ) -> Result<MembershipView, EnrollError> {
        self.require(Role::Site)?;
        self.tree.relocate_coordinator(operator, coordinator_url, quic_address).await?;
        Ok(self.membership())
    }

    /// Leaves the federation: tells the coordinator over QUIC if it can be reached, then forgets the membership
    /// and what waits for it. Hosts stay, and so do policies that are in force. Durable on return; answers
    /// whether the coordinator knows.
    ///
    /// # Errors
    /// See [`LeaveError`].
    pub async fn leave(&self, operator: &Operator) -> Result<bool, LeaveError> {
        self.require(Role::Site)?;
        let site = &self.tree.site;
        let enrollment = site.membership.enrollment().ok_or(LeaveError::NotEnrolled)?;
        let notified = self.say_leave(&enrollment).await;
        let details = [
            ("coordinator_url", enrollment.coordinator_url.as_str().into()),
            ("notified", hansa_model::audit::Detail::Bool(notified)),
        ];
        let mut batch = Batch::new();
        batch.audit(self.tree.context.audit_node("site_left", Some(operator), details));
        site.membership.clear(batch).await?;
        // A session that still runs ends here.
        site.uplink.cast(UplinkMessage::Dial);
        site.inbox.call(|reply| InboxMessage::Forget { reply }).await??;
        let purge = |reply| SyncQueueMessage::Purge { keep_newest: 0, audit: None, reply };
        site.queue.call(purge).await??;
        Ok(notified)
    }

    /// Whether the coordinator has taken note. A peer that speaks only HTTP has no word for it.
    async fn say_leave(&self, enrollment: &Enrollment) -> bool {
        let (Some(address), Some(endpoint)) = (&enrollment.quic_address, &self.tree.endpoint) else {
            return false;
        };
        let exchange = async {
            let key = PublicKey::from_bytes(enrollment.coordinator_identity_key).ok()?;
            let to = uplink::resolve(address).await.ok()?;
            let link = match endpoint.dial(to, key).await {
                Ok(link) => link,
                // It has removed us before we left.
                Err(DialError::Closed(code)) => return Some(code == CloseCode::Removed),
                Err(error) => {
                    debug!(%error, "the coordinator cannot be told");
                    return None;
                }
            };
            let (mut sender, _receiver) = link.open(Lane::Control).await.ok()?;
            sender.send(&Up::Leave.encode()).await.ok()?;
            Some(matches!(link.closed().await, CloseReason::Peer(CloseCode::Removed)))
        };
        matches!(timeout(limits::ANSWER_WAIT_MAX, exchange).await, Ok(Some(true)))
    }
}
