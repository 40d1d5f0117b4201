//! The site's commands: dispatched here, pushed, and ended by the site's result.

use hansa_model::id::CommandId;
use hansa_model::machine::delivery::Failed;
use hansa_model::push::PushContent;
use hansa_storage::{ReadError, ReadView};

use super::{SiteActor, SiteState};
use crate::error::Unavailable;

impl SiteActor {
    pub(super) fn load_commands(&self, _view: &ReadView, _state: &mut SiteState) -> Result<(), ReadError> {
        Ok(())
    }

    pub(super) fn command_content(
        &self,
        _view: &ReadView,
        _state: &SiteState,
        _command: CommandId,
    ) -> Result<Option<PushContent>, ReadError> {
        Ok(None)
    }

    pub(super) async fn command_taken(
        &self,
        _state: &mut SiteState,
        _command: CommandId,
        _version: u64,
    ) -> Result<(), Unavailable> {
        Ok(())
    }

    pub(super) async fn command_failed(
        &self,
        _state: &mut SiteState,
        _command: CommandId,
        _failed: &Failed,
        _error: &str,
    ) -> Result<(), Unavailable> {
        Ok(())
    }
}
