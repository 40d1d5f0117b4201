//! The host directory as its readers and writers share it: one shard per site behind a lock of its own.
//!
//! Each shard has one writer, the site's actor, which holds the write lock for one batch of at most
//! 1,000 rows. Searches take read locks on all shards they visit and never queue behind a mailbox.
//! Merges of segments are built under a read lock and only installed under the write lock.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use hansa_model::directory::{self, Owners, Page, Query, Shard};
use hansa_model::host::HostChange;
use hansa_model::sync::Applied;
use hansa_model::{Host, HostId, SiteId};

use crate::context::Compute;
use crate::view::DirectoryView;

/// Locks over which the owners of hosts are spread; a power of two well above the number of writers that
/// run at once.
const OWNER_STRIPES: usize = 16;

/// One site's shard, shared by its writer and all readers.
#[derive(Debug, Clone)]
pub(crate) struct SharedShard(Arc<RwLock<Shard>>);

impl SharedShard {
    pub(crate) fn new(shard: Shard) -> Self {
        Self(Arc::new(RwLock::new(shard)))
    }

    /// Readers see the shard as its writer left it; a writer that failed half-way is restarted and
    /// replaces the content, so a poisoned lock is not a reason to fail a search.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Shard> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Shard> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the content, as a restarted writer does after rebuilding it from storage.
    pub(crate) fn replace(&self, shard: Shard) {
        *self.write() = shard;
        self.0.clear_poison();
    }

    /// Applies changes that are on disk. Only the shard's one writer calls this.
    pub(crate) fn apply(&self, changes: &[HostChange<&str>], compute: Compute) -> Applied {
        let applied = self.write().apply(changes);
        self.tidy(compute);
        applied
    }

    /// Merges segments until nothing is due. The heavy part runs under a read lock.
    pub(crate) fn tidy(&self, compute: Compute) {
        loop {
            let built = {
                let shard = self.read();
                let Some(plan) = shard.plan_merge() else { return };
                compute.run(|| plan.build(&shard))
            };
            // There is one writer, so nothing has changed since the plan was made.
            let installed = built.is_some_and(|merged| self.write().install(merged));
            if !installed {
                return;
            }
        }
    }

    /// Merges what makes searches faster though none is due, one step: for a shard that has gone quiet.
    pub(crate) fn settle(&self, compute: Compute) {
        let built = {
            let shard = self.read();
            let Some(plan) = shard.plan_settling() else { return };
            compute.run(|| plan.build(&shard))
        };
        if let Some(merged) = built {
            self.write().install(merged);
        }
    }
}

/// All shards of a coordinator, and who holds which host.
#[derive(Debug)]
pub(crate) struct Directory {
    shards: RwLock<BTreeMap<SiteId, SharedShard>>,
    owners: Vec<Mutex<Owners>>,
    /// Hosts given up so far: when it moves, a site that was refused one may have it now.
    freed: AtomicU64,
}

impl Directory {
    pub(crate) fn new() -> Self {
        let owners = (0..OWNER_STRIPES).map(|_| Mutex::new(Owners::default())).collect();
        Self { shards: RwLock::new(BTreeMap::new()), owners, freed: AtomicU64::new(0) }
    }

    /// The shard of a site, made empty if there is none.
    pub(crate) fn shard(&self, site: SiteId) -> SharedShard {
        if let Some(shard) = self.find(site) {
            return shard;
        }
        let mut shards = self.shards.write().unwrap_or_else(PoisonError::into_inner);
        shards.entry(site).or_insert_with(|| SharedShard::new(Shard::new(site))).clone()
    }

    pub(crate) fn find(&self, site: SiteId) -> Option<SharedShard> {
        self.shards.read().unwrap_or_else(PoisonError::into_inner).get(&site).cloned()
    }

    /// Forgets a removed site's hosts.
    pub(crate) fn drop_site(&self, site: SiteId) {
        self.shards.write().unwrap_or_else(PoisonError::into_inner).remove(&site);
        for stripe in &self.owners {
            stripe.lock().unwrap_or_else(PoisonError::into_inner).release_site(site);
        }
        self.freed.fetch_add(1, Ordering::AcqRel);
    }

    /// Claims a host for a site before its row is stored.
    ///
    /// # Errors
    /// The site that holds it; the row must then be skipped.
    pub(crate) fn claim(&self, host: HostId, site: SiteId) -> Result<(), SiteId> {
        self.stripe(host).claim(host, site)
    }

    /// Gives up a host after its removal is on disk.
    pub(crate) fn release(&self, host: HostId, site: SiteId) {
        self.stripe(host).release(host, site);
        self.freed.fetch_add(1, Ordering::AcqRel);
    }

    /// Hosts given up so far.
    pub(crate) fn freed(&self) -> u64 {
        self.freed.load(Ordering::Acquire)
    }

    fn stripe(&self, host: HostId) -> MutexGuard<'_, Owners> {
        // The last byte is random in every version of UUID.
        let index = usize::from(host.as_bytes()[15]) % OWNER_STRIPES;
        self.owners[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The shards that a search visits, in the order of their sites.
    fn visited(&self, visible: impl Fn(SiteId) -> bool) -> Vec<SharedShard> {
        let shards = self.shards.read().unwrap_or_else(PoisonError::into_inner);
        shards.iter().filter(|(site, _)| visible(**site)).map(|(_, shard)| shard.clone()).collect()
    }

    /// Searches the shards of the sites that `visible` admits.
    pub(crate) fn search(&self, visible: impl Fn(SiteId) -> bool, query: &Query) -> Page {
        let shards = self.visited(visible);
        let guards: Vec<_> = shards.iter().map(SharedShard::read).collect();
        let shards: Vec<&Shard> = guards.iter().map(|guard| &**guard).collect();
        directory::search(&shards, query)
    }

    /// Finds one host among the sites that `visible` admits.
    pub(crate) fn host(&self, host: HostId, visible: impl Fn(SiteId) -> bool) -> Option<(SiteId, Host)> {
        let site = self.stripe(host).holder(host).filter(|site| visible(*site))?;
        let row = self.find(site)?.read().get(host)?;
        Some((site, row))
    }

    /// Counts for operators, from counters kept with each change.
    pub(crate) fn view(&self, visible: impl Fn(SiteId) -> bool) -> DirectoryView {
        let shards = self.visited(visible);
        let guards: Vec<_> = shards.iter().map(SharedShard::read).collect();
        let shards: Vec<&Shard> = guards.iter().map(|guard| &**guard).collect();
        DirectoryView {
            hosts: shards.iter().map(|shard| shard.len() as u64).sum(),
            by_status: directory::status_breakdown(&shards),
            by_country: directory::country_breakdown(&shards),
        }
    }
}
