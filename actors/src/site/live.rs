//! What watchers are told of a site beside its audit entries: its link, and that it syncs.

use hansa_model::audit::Detail;
use hansa_model::limits::events as limits;

use super::{SiteActor, SiteState};

impl SiteActor {
    pub(super) fn tell_link_up(&self, state: &SiteState, software_version: &str) {
        let details =
            [("name", state.site.name.as_str().into()), ("software_version", software_version.into())];
        self.context.publish("link_up", Some(state.site.id), details);
    }

    /// `why` is `lost`, or `closed` when this node closed it.
    pub(super) fn tell_link_down(&self, state: &SiteState, why: &str) {
        let details = [("name", state.site.name.as_str().into()), ("reason", why.into())];
        self.context.publish("link_down", Some(state.site.id), details);
    }

    /// A sync is on disk. Watchers are told of some of them, and always of the last.
    pub(super) fn tell_sync(&self, state: &mut SiteState) {
        if state.told.happened(self.context.now(), limits::SYNC_PAUSE) {
            self.publish_sync(state);
        }
    }

    /// Tells of the last sync, if it was kept back.
    pub(super) fn tell_late_sync(&self, state: &mut SiteState) {
        if state.told.due(self.context.now(), limits::SYNC_PAUSE) {
            self.publish_sync(state);
        }
    }

    fn publish_sync(&self, state: &SiteState) {
        let count = |count: u64| Detail::Int(i64::try_from(count).unwrap_or(i64::MAX));
        let details = [
            ("name", state.site.name.as_str().into()),
            ("host_count", count(state.host_count(state.sync.host_count))),
            ("queue_depth", state.sync.queue_depth.map_or(Detail::Null, count)),
        ];
        self.context.publish("sync", Some(state.site.id), details);
    }
}
