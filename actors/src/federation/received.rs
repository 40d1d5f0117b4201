//! The facade's part about what a coordinator wants of this site, and what the site asks of it.

use std::sync::PoisonError;

use hansa_model::SiteId;
use hansa_model::enrollment::Role;
use hansa_model::id::{CommandId, PolicyId};
use hansa_model::limits::inbox as limits;
use hansa_model::machine::inbox::check_lease_request;
use hansa_model::machine::stamp::{self, Stamp};
use hansa_model::push::{LeasePush, PushContent};
use hansa_model::received::{LeaseState, ReceivedCommand, ReceivedLease, ReceivedPolicy};
use hansa_model::report::LeaseRequest;
use hansa_model::scope::Operator;
use hansa_model::secret::token_hash;
use hansa_storage::{ReadView, table};
use hansa_transport::certificate::verify_request;

use super::{Federation, SignedRequest};
use crate::connector::ConnectorView;
use crate::error::{CoordinatorAuthenticationError, LeaseRequestError, ReceiveError, Unavailable};
use crate::executor::ExecutorMessage;
use crate::inbox::InboxMessage;

// The coordinator, over HTTP.
impl Federation {
    /// Checks that a bearer is the one that this site's coordinator presents.
    ///
    /// # Errors
    /// [`CoordinatorAuthenticationError::Unknown`].
    pub fn authenticate_coordinator(
        &self,
        bearer: Option<&str>,
    ) -> Result<(), CoordinatorAuthenticationError> {
        let expected = self.tree.site.membership.enrolled().and_then(|own| own.inbound_bearer_hash);
        // Hashes are compared, so the time that it takes says nothing about the bearer.
        match (expected, bearer) {
            (Some(expected), Some(bearer)) if token_hash(bearer) == expected => Ok(()),
            _ => Err(CoordinatorAuthenticationError::Unknown),
        }
    }

    /// Checks signature and stamp of the coordinator's request where signatures are enforced, as
    /// [`Federation::verify_signature`] does for a site's.
    ///
    /// # Errors
    /// [`CoordinatorAuthenticationError::Signature`].
    pub fn verify_coordinator(
        &self,
        request: &SignedRequest<'_>,
    ) -> Result<(), CoordinatorAuthenticationError> {
        let own = self.tree.site.membership.enrolled();
        let peer = own.as_ref().and_then(|own| own.site_id).unwrap_or(SiteId(uuid::Uuid::nil()));
        let certificate = own.and_then(|own| own.coordinator_tls_cert_pem.clone());
        let good = self.is_signed(certificate, peer, request);
        if good { Ok(()) } else { Err(CoordinatorAuthenticationError::Signature) }
    }

    /// Whether a request is signed by the certificate, and stamped if that peer has ever stamped one; or
    /// nothing is enforced.
    pub(super) fn is_signed(
        &self,
        certificate: Option<String>,
        peer: SiteId,
        request: &SignedRequest<'_>,
    ) -> bool {
        let SignedRequest { method, path, body, signature, stamp } = *request;
        if !self.tree.context.config.enforce_signatures {
            return true;
        }
        let (Some(certificate), Some(signature)) = (certificate, signature) else { return false };
        if !verify_request(&certificate, body, signature) {
            return false;
        }
        let mut stamps = self.tree.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        match stamp {
            None => !stamps.expects(peer),
            Some(value) => Stamp::parse(value).is_some_and(|stamp| {
                let message = stamp::message(method, path, stamp.at, stamp.nonce, body);
                verify_request(&certificate, message.as_bytes(), stamp.signature)
                    && stamps.take(self.tree.context.now(), peer, &stamp)
            }),
        }
    }

    /// Takes a policy or its withdrawal; answers with the row that is held. Durable on return.
    ///
    /// # Errors
    /// See [`ReceiveError`].
    pub async fn receive_policy(
        &self,
        id: PolicyId,
        content: PushContent,
    ) -> Result<Option<ReceivedPolicy>, ReceiveError> {
        self.receive(content).await?;
        Ok(self.received_view()?.get::<table::ReceivedPolicies>(&id).map_err(|_| Unavailable::Storage)?)
    }

    /// Takes a command or its cancellation; answers with the row that is held, none of a command that ended
    /// long ago. Durable on return.
    ///
    /// # Errors
    /// See [`ReceiveError`].
    pub async fn receive_command(
        &self,
        id: CommandId,
        content: PushContent,
    ) -> Result<Option<ReceivedCommand>, ReceiveError> {
        self.receive(content).await?;
        Ok(self.received_view()?.get::<table::ReceivedCommands>(&id).map_err(|_| Unavailable::Storage)?)
    }

    /// Takes a word on a lease; answers with the state on disk. Of a credential it answers once the connector
    /// has taken it, or never will.
    ///
    /// # Errors
    /// See [`ReceiveError`]; [`Unavailable::Busy`] when the connector has not taken the credential yet.
    pub async fn receive_lease(&self, push: LeasePush) -> Result<LeaseState, ReceiveError> {
        self.require(Role::Site)?;
        let push = Box::new(push);
        let taken = self.tree.site.executor.call(|reply| ExecutorMessage::Lease { push, reply }).await??;
        Ok(taken.state)
    }

    async fn receive(&self, content: PushContent) -> Result<(), ReceiveError> {
        self.require(Role::Site)?;
        let content = Box::new(content);
        Ok(self.tree.site.executor.call(|reply| ExecutorMessage::Receive { content, reply }).await??)
    }

    fn received_view(&self) -> Result<ReadView, Unavailable> {
        self.tree.context.store.read().map_err(|_| Unavailable::Storage)
    }
}

// Operators of the site.
impl Federation {
    /// What the site holds of its coordinator's policies, oldest first.
    ///
    /// # Errors
    /// The store did not answer.
    pub fn received_policies(&self) -> Result<Vec<(PolicyId, ReceivedPolicy)>, Unavailable> {
        let mut rows =
            self.received_view()?.all::<table::ReceivedPolicies>(..).map_err(|_| Unavailable::Storage)?;
        rows.sort_unstable_by_key(|(_, row)| row.order);
        Ok(rows)
    }

    /// The newest `limit` commands that the site was sent, newest first.
    ///
    /// # Errors
    /// The store did not answer.
    pub fn received_commands(&self, limit: usize) -> Result<Vec<(CommandId, ReceivedCommand)>, Unavailable> {
        let mut rows =
            self.received_view()?.all::<table::ReceivedCommands>(..).map_err(|_| Unavailable::Storage)?;
        rows.sort_unstable_by_key(|(_, row)| std::cmp::Reverse(row.order));
        rows.truncate(limit.min(limits::LIMIT_MAX));
        Ok(rows)
    }

    /// The newest `limit` leases of the site with their correlation keys, newest first. Never a value.
    ///
    /// # Errors
    /// The store did not answer.
    pub fn received_leases(&self, limit: usize) -> Result<Vec<(String, ReceivedLease)>, Unavailable> {
        let mut rows =
            self.received_view()?.all::<table::ReceivedLeases>(..).map_err(|_| Unavailable::Storage)?;
        rows.sort_unstable_by_key(|(_, row)| std::cmp::Reverse(row.requested_at));
        rows.truncate(limit.min(limits::LIMIT_MAX));
        Ok(rows)
    }

    /// Asks the coordinator for a credential for a host; answers with the request's key. Queued on return,
    /// durably, whether or not the coordinator can be reached. The key in `request` is not looked at.
    ///
    /// # Errors
    /// See [`LeaseRequestError`].
    pub async fn request_lease(
        &self,
        operator: &Operator,
        request: LeaseRequest,
    ) -> Result<(String, ReceivedLease), LeaseRequestError> {
        self.require(Role::Site)?;
        let (request, operator) = (Box::new(check_lease_request(request)?), operator.clone());
        let message = |reply| InboxMessage::RequestLease { request, operator, reply };
        Ok(self.tree.site.inbox.call(message).await??)
    }

    /// The connectors that this node's owner declared, in their order.
    pub fn connectors(&self) -> Vec<ConnectorView> {
        self.tree.site.connectors.declared()
    }
}
