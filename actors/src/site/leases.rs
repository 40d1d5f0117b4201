//! The site's leases: requests taken down, and words on leases handed on.
//!
//! The rows belong to the leases' actor once they are on disk. What it gives this actor to hand on, values
//! included, is kept in memory alone until the site has it: a new incarnation has nothing, says so, and
//! the value is replaced.

use hansa_model::Secret;
use hansa_model::audit::Detail;
use hansa_model::id::LeaseId;
use hansa_model::lease::Lease;
use hansa_model::limits::lease as limits;
use hansa_model::machine::delivery::{Failed, PushKey};
use hansa_model::machine::lease::{self, InvalidLeaseRequest};
use hansa_model::machine::registry::Entry;
use hansa_model::push::{LeasePush, LeaseWord, PushContent};
use hansa_model::report::LeaseRequest;
use hansa_storage::{Batch, Order, ReadError, ReadView, table};
use ractor::ActorRef;

use super::{SiteActor, SiteMessage, SiteState};
use crate::error::{IngestError, Unavailable};
use crate::leases::{self, LeasesMessage};

/// A word on a lease that the site is to be told.
#[derive(Debug)]
pub(crate) struct LeaseOffer {
    /// The lease's row; never its value.
    pub(crate) lease: Lease,
    pub(crate) word: LeaseWord,
    /// With [`LeaseWord::Issued`] only.
    pub(crate) value: Option<Secret<String>>,
}

impl LeaseOffer {
    fn push(&self) -> LeasePush {
        let Self { lease, word, value } = self;
        let issued = *word == LeaseWord::Issued;
        LeasePush {
            lease_id: Some(lease.id),
            correlation_key: lease.correlation_key.clone(),
            host_id: lease.host_id.clone(),
            secret_name: lease.secret_name.clone(),
            status: *word,
            secret_metadata: lease.secret_metadata.clone().filter(|_| issued),
            secret_value: value.clone(),
            error: lease.last_error.clone().filter(|_| *word == LeaseWord::Failed),
            expires_at: lease.expires_at.filter(|_| issued),
        }
    }
}

impl SiteActor {
    pub(super) fn load_leases(&self, _view: &ReadView, state: &mut SiteState) -> Result<(), ReadError> {
        self.leases.cast(LeasesMessage::Forgotten { site: state.site.id });
        Ok(())
    }

    /// Takes a request down, or finds the one that it repeats.
    pub(super) fn put_lease_request(
        &self,
        batch: &mut Batch,
        state: &SiteState,
        request: &LeaseRequest,
    ) -> Result<Lease, IngestError> {
        let site = state.site.id;
        let now = self.context.now();
        let id = LeaseId::generate(now, &*self.context.entropy);
        let lease = lease::request(id, site, now, request)?;
        let key = (site, lease.correlation_key.clone());
        let view = self.context.store.read().map_err(|_| Unavailable::Storage)?;
        let unreadable = |_| Unavailable::Storage;
        if let Some(known) = view.get::<table::LeaseKeys>(&key).map_err(unreadable)?
            && let Some(known) = view.get::<table::Leases>(&known).map_err(unreadable)?
        {
            return Ok(known);
        }
        let beside: Vec<_> =
            batch.audit_drafts().filter(|draft| draft.operation == leases::REQUESTED).collect();
        let asked = Detail::Text(lease.correlation_key.clone());
        if beside.iter().any(|draft| draft.details.get("correlation_key") == Some(&asked)) {
            return Err(InvalidLeaseRequest::Repeated.into());
        }
        let range = (site, LeaseId(uuid::Uuid::nil()))..=(site, LeaseId(uuid::Uuid::max()));
        let open = view
            .page::<table::OpenLeases>(range, Order::Ascending, limits::SITE_OPEN_MAX)
            .map_err(unreadable)?;
        if open.len() + beside.len() >= limits::SITE_OPEN_MAX {
            return Err(IngestError::TooManyLeases { max: limits::SITE_OPEN_MAX });
        }
        let entry = Entry { operation: leases::REQUESTED, details: leases::details(&lease) };
        let mut draft = self.context.audit(entry, None, &state.site);
        draft.target_host_id = lease.host_id.parse().ok();
        batch
            .expect_absent::<table::LeaseKeys>(&key)
            .put::<table::LeaseKeys>(&key, &lease.id)
            .put::<table::Leases>(&lease.id, &lease)
            .put::<table::OpenLeases>(&(site, lease.id), &())
            .audit(draft);
        Ok(lease)
    }

    /// A word that the site is to be told; a newer one takes the place of an older.
    pub(super) fn lease_offered(
        &self,
        state: &mut SiteState,
        myself: &ActorRef<SiteMessage>,
        offer: Box<LeaseOffer>,
    ) {
        let key = PushKey::Lease(offer.lease.id);
        state.deliveries.want(key, offer.lease.version, offer.lease.refusals, None);
        state.leases.insert(offer.lease.id, offer);
        self.pump(state, myself);
    }

    pub(super) fn lease_content(
        &self,
        _view: &ReadView,
        state: &SiteState,
        lease: LeaseId,
    ) -> Result<Option<PushContent>, ReadError> {
        let now = self.context.now();
        let offer = state.leases.get(&lease).filter(|offer| {
            // A credential that has ended is no use; its lease is renewed, or the site told that it ended.
            offer.word != LeaseWord::Issued || offer.lease.expires_at.is_none_or(|end| end > now)
        });
        Ok(offer.map(|offer| PushContent::Lease(offer.push())))
    }

    #[expect(clippy::unused_async, reason = "what is taken is stored by the leases' actor, after a notice")]
    pub(super) async fn lease_taken(
        &self,
        state: &mut SiteState,
        lease: LeaseId,
        version: u64,
    ) -> Result<(), Unavailable> {
        state.forget_lease(lease, version);
        // Lost when this node ends now: then nobody has noted that the value arrived, and it is replaced.
        self.leases.cast(LeasesMessage::Taken { lease, version });
        Ok(())
    }

    /// The site has no use for a credential, which is taken away again.
    pub(super) fn lease_refused(&self, state: &mut SiteState, lease: LeaseId, version: u64, reason: &str) {
        state.forget_lease(lease, version);
        let error = reason.to_owned();
        self.leases.cast(LeasesMessage::NotTaken { lease, version, error, refusals: 1, dead: true });
    }

    #[expect(clippy::unused_async, reason = "what failed is stored by the leases' actor, after a notice")]
    pub(super) async fn lease_failed(
        &self,
        state: &mut SiteState,
        lease: LeaseId,
        failed: &Failed,
        error: &str,
    ) -> Result<(), Unavailable> {
        let version = failed.delivery.version;
        if failed.dead {
            state.forget_lease(lease, version);
        }
        let Failed { refusals, dead, .. } = *failed;
        self.leases.cast(LeasesMessage::NotTaken { lease, version, error: error.to_owned(), refusals, dead });
        Ok(())
    }
}

impl SiteState {
    fn forget_lease(&mut self, lease: LeaseId, version: u64) {
        if self.leases.get(&lease).is_some_and(|offer| offer.lease.version == version) {
            self.leases.remove(&lease);
        }
    }
}
