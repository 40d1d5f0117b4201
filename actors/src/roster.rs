//! The coordinator's sites as readers see them: each row as its actor last published it.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use arc_swap::ArcSwap;
use hansa_model::site::{Site, SiteStatus, SiteSync};
use hansa_model::{SiteId, SiteName};

use crate::directory::Directory;
use crate::policies::PoliciesMessage;
use crate::rollups::Rollups;
use crate::site::SiteMessage;
use crate::supervision::Handle;
use crate::view::SiteView;

/// One site: the way to its actor, and what that actor last published.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) actor: Handle<SiteMessage>,
    published: Arc<ArcSwap<SiteView>>,
}

impl Member {
    pub(crate) fn new(site: Arc<Site>, sync: SiteSync) -> Self {
        let view = SiteView { site, sync, linked: false, health: None };
        Self { actor: Handle::new("site"), published: Arc::new(ArcSwap::from_pointee(view)) }
    }

    /// Shows readers a new state. Called by the site's actor after the state is on disk.
    pub(crate) fn publish(&self, view: SiteView) {
        self.published.store(Arc::new(view));
    }

    pub(crate) fn view(&self) -> Arc<SiteView> {
        self.published.load_full()
    }
}

/// All sites of a coordinator, removed ones included.
#[derive(Debug)]
pub(crate) struct Roster {
    members: RwLock<BTreeMap<SiteId, Member>>,
    /// Keys that may finish a QUIC handshake: of every site that is not forgotten.
    keys: RwLock<BTreeMap<[u8; 32], SiteId>>,
    pub(crate) directory: Directory,
    /// Whom sites tell that what they hold of a policy has changed.
    pub(crate) policies: Handle<PoliciesMessage>,
    pub(crate) rollups: Arc<Rollups>,
}

impl Roster {
    pub(crate) fn new() -> Self {
        Self {
            members: RwLock::new(BTreeMap::new()),
            keys: RwLock::new(BTreeMap::new()),
            directory: Directory::new(),
            policies: Handle::new("policies"),
            rollups: Arc::default(),
        }
    }

    pub(crate) fn insert(&self, member: Member) {
        let view = member.view();
        self.members.write().unwrap_or_else(PoisonError::into_inner).insert(view.site.id, member);
        self.admit(&view.site);
    }

    /// Lets the site's present identity key finish a handshake.
    pub(crate) fn admit(&self, site: &Site) {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let owner = site.identity_key.and_then(|key| keys.get(&key).copied());
        keys.retain(|_, holder| *holder != site.id);
        if let Some(key) = site.identity_key {
            // A key of a removed site may be registered anew; the live site wins.
            let keep = owner.is_some_and(|owner| owner != site.id) && site.status == SiteStatus::Removed;
            keys.insert(key, if keep { owner.unwrap_or(site.id) } else { site.id });
        }
    }

    pub(crate) fn by_key(&self, key: &[u8; 32]) -> Option<SiteId> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).get(key).copied()
    }

    pub(crate) fn find(&self, site: SiteId) -> Option<Member> {
        self.members.read().unwrap_or_else(PoisonError::into_inner).get(&site).cloned()
    }

    pub(crate) fn len(&self) -> usize {
        self.members.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Every site, in the order of ids.
    pub(crate) fn members(&self) -> Vec<Member> {
        self.members.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Every site, in the order of names.
    pub(crate) fn views(&self) -> Vec<Arc<SiteView>> {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        let mut views: Vec<_> = members.values().map(Member::view).collect();
        views.sort_by(|a, b| (&a.site.name, a.site.id).cmp(&(&b.site.name, b.site.id)));
        views
    }

    /// Whether another site that is not removed has this name.
    pub(crate) fn name_taken(&self, name: &SiteName, except: Option<SiteId>) -> bool {
        self.any_live(except, |site| site.name == *name)
    }

    /// Whether another site that is not removed has this identity key.
    pub(crate) fn key_taken(&self, key: &[u8; 32], except: Option<SiteId>) -> bool {
        self.any_live(except, |site| site.identity_key.as_ref() == Some(key))
    }

    fn any_live(&self, except: Option<SiteId>, fits: impl Fn(&Site) -> bool) -> bool {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        members.values().map(Member::view).any(|view| {
            view.site.status != SiteStatus::Removed && Some(view.site.id) != except && fits(&view.site)
        })
    }
}
