//! The facade's part about secret leases.

use hansa_model::SiteId;
use hansa_model::enrollment::Role;
use hansa_model::id::LeaseId;
use hansa_model::lease::Lease;
use hansa_model::limits::lease as limits;
use hansa_model::report::{LeaseRequest, Report};
use hansa_model::scope::Operator;
use hansa_storage::table;

use super::Federation;
use crate::error::{IngestError, LeaseError, LeaseNotFound, Unavailable};
use crate::leases::{LeasesMessage, Revoking};
use crate::site::SiteMessage;
use crate::view::{LeaseFilter, ReportAnswer};

impl Federation {
    /// The leases of the sites that the operator may see, newest request first.
    ///
    /// # Errors
    /// The store did not answer.
    pub fn leases(&self, operator: &Operator, filter: &LeaseFilter) -> Result<Vec<Lease>, Unavailable> {
        const PAGE: usize = 1_000;
        let view = self.tree.context.store.read().map_err(|_| Unavailable::Storage)?;
        let shown = |lease: &Lease| {
            operator.sees(lease.site_id)
                && filter.site.is_none_or(|site| lease.site_id == site)
                && filter.status.is_none_or(|status| lease.status == status)
        };
        let mut leases: Vec<Lease> = Vec::new();
        let mut before = LeaseId(uuid::Uuid::max());
        while leases.len() < filter.limit {
            // Ids are in the order of the requests.
            let page = view
                .page::<table::Leases>(..before, hansa_storage::Order::Descending, PAGE)
                .map_err(|_| Unavailable::Storage)?;
            let Some((last, _)) = page.last() else { break };
            before = *last;
            leases.extend(page.into_iter().map(|(_, lease)| lease).filter(shown));
        }
        leases.truncate(filter.limit);
        leases.sort_by_key(|lease| std::cmp::Reverse((lease.requested_at, lease.id)));
        Ok(leases)
    }

    /// One lease.
    ///
    /// # Errors
    /// There is none, or the operator may not see its site.
    pub fn lease(&self, operator: &Operator, id: LeaseId) -> Result<Lease, LeaseError> {
        let view = self.tree.context.store.read().map_err(|_| Unavailable::Storage)?;
        let lease = view.get::<table::Leases>(&id).map_err(|_| Unavailable::Storage)?;
        Ok(lease.filter(|lease| operator.sees(lease.site_id)).ok_or(LeaseNotFound(id))?)
    }

    /// Takes a lease away. Durable on return. The issuer is asked at once and has some seconds to answer; if
    /// it does not, `last_error` says so and it is asked again. The site is told when it can be reached.
    ///
    /// # Errors
    /// See [`LeaseError`].
    pub async fn revoke_lease(&self, operator: &Operator, id: LeaseId) -> Result<Lease, LeaseError> {
        self.require(Role::Coordinator)?;
        self.lease(operator, id)?;
        let operator = operator.clone();
        let message = |reply| LeasesMessage::Revoke { lease: id, operator, reply };
        let Revoking { lease, released } = self.tree.coordinator.leases.call(message).await??;
        let Some(released) = released else { return Ok(lease) };
        match tokio::time::timeout(limits::REVOKE_WAIT_MAX, released).await {
            Ok(Ok(lease)) => Ok(lease),
            // The issuer is slow, or the actor started again: it is revoked all the same.
            Ok(Err(_)) | Err(_) => Ok(lease),
        }
    }

    /// Takes a site's documented request for a credential. Durable on return; a repeat of its correlation
    /// key answers with the lease that is there.
    ///
    /// # Errors
    /// See [`IngestError`].
    pub async fn ingest_lease_request(
        &self,
        site: SiteId,
        request: LeaseRequest,
    ) -> Result<Lease, IngestError> {
        let member = self.ingesting(site)?;
        let report = Box::new(Report::LeaseRequest(request));
        match member.actor.call(|reply| SiteMessage::Report { report, reply }).await?? {
            ReportAnswer::Lease(lease) => Ok(*lease),
            ReportAnswer::Compliance(_)
            | ReportAnswer::Vulnerabilities(_)
            | ReportAnswer::Command(_)
            | ReportAnswer::Policy(_) => Err(IngestError::NotTaken),
        }
    }
}
