//! The site's leases: what the site should hold, pushed and settled.

use hansa_model::id::LeaseId;
use hansa_model::machine::delivery::Failed;
use hansa_model::push::PushContent;
use hansa_storage::{ReadError, ReadView};

use super::{SiteActor, SiteState};
use crate::error::Unavailable;

impl SiteActor {
    pub(super) fn load_leases(&self, _view: &ReadView, _state: &mut SiteState) -> Result<(), ReadError> {
        Ok(())
    }

    pub(super) fn lease_content(
        &self,
        _view: &ReadView,
        _state: &SiteState,
        _lease: LeaseId,
    ) -> Result<Option<PushContent>, ReadError> {
        Ok(None)
    }

    pub(super) async fn lease_taken(
        &self,
        _state: &mut SiteState,
        _lease: LeaseId,
        _version: u64,
    ) -> Result<(), Unavailable> {
        Ok(())
    }

    pub(super) async fn lease_failed(
        &self,
        _state: &mut SiteState,
        _lease: LeaseId,
        _failed: &Failed,
        _error: &str,
    ) -> Result<(), Unavailable> {
        Ok(())
    }
}
