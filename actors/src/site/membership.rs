//! A site's membership: enrollment completed, the row changed by operators, and what its link is told.

use std::sync::Arc;

use hansa_model::audit::Detail;
use hansa_model::machine::registry::{self, Completion, Decision, EnrollmentRefusal, LinkEffect};
use hansa_model::scope::Operator;
use hansa_model::site::SiteStatus;
use hansa_storage::{Batch, Lane, table};
use hansa_transport::CloseCode;

use super::{CompleteFailure, CompleteRequest, SiteActor, SiteChange, SiteState};
use crate::directory::SharedShard;
use crate::error::{RegistryError, Unavailable};
use crate::leases::LeasesMessage;
use crate::persistence;
use crate::rollups;
use crate::view::SiteView;

impl SiteActor {
    pub(super) async fn complete(
        &self,
        state: &mut SiteState,
        request: CompleteRequest,
    ) -> Result<SiteView, CompleteFailure> {
        let now = self.context.now();
        let completion = Completion {
            token_hash: request.token_hash,
            tls_cert_pem: &request.tls_cert_pem,
            answer_to: request.answer_to,
            sync_bearer_hash: request.sync_bearer_hash,
        };
        let verifies = |key: &[u8; 32]| {
            request.peer_key.is_none_or(|peer| peer == *key)
                && crate::keyring::verify_site_proof(key, &request.tls_cert_pem, &request.identity_proof)
        };
        let decision = match registry::complete(&state.site, now, completion, verifies) {
            Ok(decision) => decision,
            Err(refusal) => {
                self.audit_refusal(state, refusal).await.map_err(CompleteFailure::Unavailable)?;
                return Err(CompleteFailure::Refused(refusal));
            }
        };
        let mut batch = Batch::new();
        batch.put_sealed::<table::OutboundBearers>(&state.site.id, &request.outbound_bearer);
        self.take_over(state, decision, batch, None).await.map_err(CompleteFailure::Unavailable)
    }

    /// A refused enrollment of a known site leaves a trace; the token stays usable.
    pub(super) async fn audit_refusal(
        &self,
        state: &SiteState,
        refusal: EnrollmentRefusal,
    ) -> Result<(), Unavailable> {
        let details = [("reason".to_owned(), Detail::Text(refusal.to_string()))].into_iter().collect();
        let entry = registry::Entry { operation: "site_enrollment_refused", details };
        let mut batch = Batch::new();
        batch.audit(self.context.audit(entry, None, &state.site));
        self.context.commit(Lane::Operator, batch).await.map(drop)
    }

    pub(super) async fn change(
        &self,
        state: &mut SiteState,
        change: SiteChange,
        operator: &Operator,
    ) -> Result<SiteView, RegistryError> {
        let now = self.context.now();
        let site = &state.site;
        let decision = match change {
            SiteChange::Patch(patch) => registry::patch(site, now, &patch)?,
            SiteChange::Suspend => registry::suspend(site, now)?,
            SiteChange::Resume => registry::resume(site, now)?,
            SiteChange::Remove => registry::remove(site, now),
            SiteChange::RegenerateToken { ttl_hours, token_hash } => {
                registry::regenerate_token(site, now, ttl_hours, token_hash)?
            }
            SiteChange::ReplaceIdentityKey(key) => {
                if self.roster.key_taken(&key, Some(site.id)) {
                    return Err(RegistryError::IdentityTaken);
                }
                registry::replace_identity_key(site, now, key)?
            }
        };
        if decision.site.name != site.name && self.roster.name_taken(&decision.site.name, Some(site.id)) {
            return Err(RegistryError::NameTaken);
        }
        Ok(self.take_over(state, decision, Batch::new(), Some(operator)).await?)
    }

    /// The site says that it leaves. Durable on return; its other link is closed.
    pub(super) async fn leave(&self, state: &mut SiteState) -> Result<(), Unavailable> {
        let mut decision = registry::remove(&state.site, self.context.now());
        if let Some(entry) = &mut decision.entry {
            entry.details.insert("left".to_owned(), Detail::Bool(true));
        }
        self.take_over(state, decision, Batch::new(), None).await.map(drop)
    }

    /// Stores a decision, then takes its row over and tells the link.
    pub(super) async fn take_over(
        &self,
        state: &mut SiteState,
        decision: Decision,
        mut batch: Batch,
        operator: Option<&Operator>,
    ) -> Result<SiteView, Unavailable> {
        let Some(entry) = decision.entry else { return Ok(state.view()) };
        batch.put::<table::Sites>(&state.site.id, &decision.site);
        persistence::index_site(&mut batch, Some(&state.site), &decision.site);
        if decision.site.status == SiteStatus::Removed {
            batch.delete::<table::OutboundBearers>(&state.site.id);
            persistence::delete_segments(&mut batch, state.site.id);
            rollups::delete(&mut batch, state.site.id, &state.rollups);
        }
        let abandoned = self.abandon_commands(&mut batch, state, decision.site.status);
        batch.audit(self.context.audit(entry, operator, &decision.site));
        let lane = if decision.link == LinkEffect::Keep { Lane::Operator } else { Lane::Control };
        self.context.commit(lane, batch).await?;

        state.site = Arc::new(decision.site);
        self.roster.admit(&state.site);
        if state.site.status == SiteStatus::Removed {
            self.roster.directory.drop_site(state.site.id);
            state.shard = SharedShard::new(hansa_model::directory::Shard::new(state.site.id));
            state.log.forget();
            state.rollups = Arc::default();
        }
        for command in abandoned {
            state.hold_command(command);
        }
        self.tell_link(state, decision.link);
        state.publish();
        self.leases.cast(LeasesMessage::SiteChanged);
        Ok(state.view())
    }

    pub(super) fn tell_link(&self, state: &mut SiteState, effect: LinkEffect) {
        let code = match effect {
            LinkEffect::Keep => return,
            LinkEffect::CloseSuspended => CloseCode::Suspended,
            LinkEffect::CloseRemoved => CloseCode::Removed,
            LinkEffect::CloseReplaced => CloseCode::Replaced,
        };
        if let Some(live) = state.link.take() {
            live.link.close(code);
            state.deliveries.link_lost();
            self.tell_link_down(state, "closed");
        }
    }
}
