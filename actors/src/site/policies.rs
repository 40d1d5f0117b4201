//! The site's policies: what the site should hold, pushed and settled.

use hansa_model::id::PolicyId;
use hansa_model::machine::delivery::Failed;
use hansa_model::push::PushContent;
use hansa_storage::{ReadError, ReadView};

use super::{SiteActor, SiteState};
use crate::error::Unavailable;

impl SiteActor {
    pub(super) fn load_policies(&self, _view: &ReadView, _state: &mut SiteState) -> Result<(), ReadError> {
        Ok(())
    }

    pub(super) fn policy_content(
        &self,
        _view: &ReadView,
        _state: &SiteState,
        _policy: PolicyId,
    ) -> Result<Option<PushContent>, ReadError> {
        Ok(None)
    }

    pub(super) async fn policy_taken(
        &self,
        _state: &mut SiteState,
        _policy: PolicyId,
        _version: u64,
    ) -> Result<(), Unavailable> {
        Ok(())
    }

    pub(super) async fn policy_failed(
        &self,
        _state: &mut SiteState,
        _policy: PolicyId,
        _failed: &Failed,
        _error: &str,
    ) -> Result<(), Unavailable> {
        Ok(())
    }
}
