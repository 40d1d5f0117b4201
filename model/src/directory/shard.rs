//! The rows of one site.

use std::fmt;

use hashbrown::HashTable;

use super::digest::{BRANCHES, DigestTree, id_hash, leaf_of_hash, row_digest};
use super::segment::{RowTexts, Segment};
use crate::limits::search::{GRAM_ROWS_MIN, MERGE_INLINE_ROWS_MAX, SEGMENT_ROWS_MAX};
use crate::sync::{Applied, LeafContent};
use crate::{Host, HostChange, HostId, HostRow, SiteId};

/// Bounds by which a shard is laid out; smaller ones let a test cross them with few rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub(super) segment_rows_max: usize,
    pub(super) grams_min: usize,
    pub(super) inline_rows_max: usize,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            segment_rows_max: SEGMENT_ROWS_MAX,
            grams_min: GRAM_ROWS_MIN,
            inline_rows_max: MERGE_INLINE_ROWS_MAX,
        }
    }
}

/// Where a live row is: a slot of the shard and a row of its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) slot: u16,
    pub(super) row: u16,
}

/// The segment that takes new rows, as they come, until it is closed.
#[derive(Debug)]
struct Open {
    slot: Option<u16>,
    /// How many rows may still come, to make room at once.
    rows_expected: usize,
}

/// All hosts of one site, for one writer and many readers.
pub struct Shard {
    site: SiteId,
    pub(super) layout: Layout,
    pub(super) slots: Vec<Option<Segment>>,
    locations: HashTable<Location>,
    digests: DigestTree,
    /// Grows with every change, so that a merge planned before it is not installed after it.
    pub(super) version: u64,
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard")
            .field("site", &self.site)
            .field("hosts", &self.len())
            .field("segments", &self.segment_count())
            .finish_non_exhaustive()
    }
}

impl Shard {
    /// The shard of a site without hosts.
    pub fn new(site: SiteId) -> Self {
        Self::with_layout(site, Layout::default())
    }

    pub(super) fn with_layout(site: SiteId, layout: Layout) -> Self {
        Self {
            site,
            layout,
            slots: Vec::new(),
            locations: HashTable::new(),
            digests: DigestTree::default(),
            version: 0,
        }
    }

    /// Builds a shard from all of a site's rows at once: about twice as fast as [`Self::apply`], without
    /// any merge. Fastest when the rows come as [`Self::for_each_row`] gave them. Of two rows with one
    /// id the later wins. `hosts` is how many to expect; only room depends on it.
    pub fn builder(site: SiteId, hosts: usize) -> ShardBuilder {
        let mut shard = Self::new(site);
        shard.locations.reserve(hosts, |_| 0);
        ShardBuilder { shard, open: Open { slot: None, rows_expected: hosts } }
    }

    /// The site whose hosts these are.
    pub const fn site(&self) -> SiteId {
        self.site
    }

    /// Number of hosts.
    pub fn len(&self) -> usize {
        self.locations.len()
    }

    /// Whether the site has no host.
    pub fn is_empty(&self) -> bool {
        self.locations.is_empty()
    }

    /// Number of segments. Each search visits them all; merging keeps them few.
    pub fn segment_count(&self) -> usize {
        self.segments().count()
    }

    pub(super) fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.slots.iter().flatten()
    }

    pub(super) fn segment(&self, slot: u16) -> &Segment {
        self.slots[usize::from(slot)].as_ref().expect("a location names a filled slot")
    }

    fn segment_mut(&mut self, slot: u16) -> &mut Segment {
        self.slots[usize::from(slot)].as_mut().expect("a location names a filled slot")
    }

    fn location(&self, hash: u64, host_id: HostId) -> Option<Location> {
        let is_host = |at: &Location| self.segment(at.slot).id(usize::from(at.row)) == host_id;
        self.locations.find(hash, is_host).copied()
    }

    /// Whether the site has the host.
    pub fn contains(&self, host_id: HostId) -> bool {
        self.location(id_hash(host_id), host_id).is_some()
    }

    /// The host's row with its own text.
    pub fn get(&self, host_id: HostId) -> Option<Host> {
        self.with_row(host_id, |row| row.to_host())
    }

    /// What `read` makes of the host's row, which is not copied for it.
    pub fn with_row<R>(&self, host_id: HostId, read: impl FnOnce(&HostRow<'_>) -> R) -> Option<R> {
        let at = self.location(id_hash(host_id), host_id)?;
        Some(read(&self.segment(at.slot).row(usize::from(at.row), &mut RowTexts::default())))
    }

    /// Calls `visit` for every row, in an order that only depends on the changes so far.
    pub fn for_each_row(&self, mut visit: impl FnMut(&HostRow<'_>)) {
        let mut texts = RowTexts::default();
        for segment in self.segments() {
            for row in segment.live().iter() {
                visit(&segment.row(row, &mut texts));
            }
        }
    }

    /// Applies changes in their order; the rows must be valid ([`crate::HostRecord::validate`]).
    ///
    /// Merges small segments itself. Larger merges wait for [`Self::plan_merge`], which the writer asks
    /// after each batch.
    pub fn apply(&mut self, changes: &[HostChange<&str>]) -> Applied {
        let mut applied = Applied::default();
        let mut open = Open { slot: None, rows_expected: changes.len() };
        self.version += 1;
        for change in changes {
            match change {
                HostChange::Upsert(row) => self.upsert(row, &mut open, &mut applied),
                HostChange::Remove(host_id) => self.remove(*host_id, &mut applied),
            }
        }
        self.close(open.slot);
        self.drop_empty_segments();
        self.merge_small();
        applied
    }

    fn upsert(&mut self, row: &HostRow<'_>, open: &mut Open, applied: &mut Applied) {
        let (hash, digest) = (id_hash(row.host_id), row_digest(row));
        if let Some(at) = self.location(hash, row.host_id) {
            let (segment, index) = (self.segment(at.slot), usize::from(at.row));
            let old_digest = segment.digest(index);
            if old_digest == digest {
                return;
            }
            applied.changed += 1;
            if segment.names.is(index, row.fqdn) && segment.has_room() {
                self.segment_mut(at.slot).update(index, row, digest);
                self.digests.subtract(hash, old_digest);
                self.digests.add(hash, digest);
                return;
            }
            self.kill(hash, at);
        } else {
            applied.added += 1;
        }
        self.push(hash, row, digest, open);
    }

    fn remove(&mut self, host_id: HostId, applied: &mut Applied) {
        let hash = id_hash(host_id);
        if let Some(at) = self.location(hash, host_id) {
            self.kill(hash, at);
            applied.removed += 1;
        }
    }

    fn kill(&mut self, hash: u64, at: Location) {
        let segment = self.segment_mut(at.slot);
        let digest = segment.digest(usize::from(at.row));
        segment.kill(usize::from(at.row));
        self.digests.subtract(hash, digest);
        if let Ok(entry) = self.locations.find_entry(hash, |other| *other == at) {
            entry.remove();
        }
    }

    /// Adds a row that has no location to the open segment.
    fn push(&mut self, hash: u64, row: &HostRow<'_>, digest: u64, open: &mut Open) {
        let is_full =
            |segment: &Segment| segment.rows() >= self.layout.segment_rows_max || !segment.has_room();
        if open.slot.is_some_and(|slot| is_full(self.segment(slot))) {
            self.close(open.slot.take());
        }
        let rows = open.rows_expected.min(self.layout.segment_rows_max);
        let slot = *open.slot.get_or_insert_with(|| self.free_slot(Segment::with_capacity(rows)));
        open.rows_expected = open.rows_expected.saturating_sub(1);
        let segment = self.segment_mut(slot);
        let at = Location { slot, row: segment.rows() as u16 };
        segment.push(row, digest);
        self.digests.add(hash, digest);
        self.insert_location(hash, at);
    }

    fn insert_location(&mut self, hash: u64, at: Location) {
        let slots = &self.slots;
        let hash_of = |at: &Location| {
            let segment = slots[usize::from(at.slot)].as_ref().expect("a location names a filled slot");
            id_hash(segment.id(usize::from(at.row)))
        };
        self.locations.insert_unique(hash, at, hash_of);
    }

    /// Puts the open segment's rows into order, drops its dead ones, and seals it.
    fn close(&mut self, open: Option<u16>) {
        let Some(slot) = open else { return };
        if self.segment(slot).is_sorted() {
            let grams_min = self.layout.grams_min;
            self.segment_mut(slot).seal(grams_min);
            return;
        }
        let source = self.segment(slot);
        let order = Segment::merged_order(&[source]);
        let sorted = Segment::gather(&[source], &order, self.layout.grams_min);
        let to = self.free_slot(sorted);
        for (row, place) in order.into_iter().enumerate() {
            let host_id = self.segment(to).id(row);
            self.relocate(host_id, Location { slot, row: place.row }, Location { slot: to, row: row as u16 });
        }
        self.slots[usize::from(slot)] = None;
    }

    /// Moves a live row's location.
    pub(super) fn relocate(&mut self, host_id: HostId, from: Location, to: Location) {
        if let Some(at) = self.locations.find_mut(id_hash(host_id), |other| *other == from) {
            *at = to;
        }
    }

    pub(super) fn free_slot(&mut self, segment: Segment) -> u16 {
        let free = self.slots.iter().position(Option::is_none);
        let slot = free.unwrap_or_else(|| {
            // Most sites have one segment and never more.
            self.slots.reserve_exact(1);
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[slot] = Some(segment);
        u16::try_from(slot).expect("merging keeps a shard far below 65,536 segments")
    }

    fn drop_empty_segments(&mut self) {
        for slot in &mut self.slots {
            slot.take_if(|segment| segment.live_rows() == 0);
        }
    }

    /// The digest of all rows: equal on two nodes exactly when their rows are.
    pub fn root(&self) -> u64 {
        self.digests.root()
    }

    /// The digests of the tree's branches.
    pub fn branches(&self) -> [u64; BRANCHES] {
        self.digests.branches()
    }

    /// The digests of one branch's leaves; leaf n of branch b is leaf 64 b + n of the tree.
    pub fn leaves(&self, branch: usize) -> [u64; 64] {
        self.digests.leaves(branch)
    }

    /// The hosts of each of these leaves, by id; one pass over all ids however many leaves.
    pub fn hosts_in_leaves(&self, leaves: &[u16]) -> Vec<LeafContent> {
        let mut contents: Vec<LeafContent> =
            leaves.iter().map(|&leaf| LeafContent { leaf, hosts: Vec::new() }).collect();
        contents.sort_by_key(|content| content.leaf);
        contents.dedup_by_key(|content| content.leaf);
        for segment in self.segments() {
            for host_id in segment.live().iter().map(|row| segment.id(row)) {
                let leaf = leaf_of_hash(id_hash(host_id));
                if let Ok(index) = contents.binary_search_by_key(&leaf, |content| content.leaf) {
                    contents[index].hosts.push(host_id);
                }
            }
        }
        for content in &mut contents {
            content.hosts.sort_unstable();
        }
        contents
    }

    /// The hosts of one leaf, by id. For several leaves use [`Self::hosts_in_leaves`].
    pub fn hosts_in_leaf(&self, leaf: u16) -> Vec<HostId> {
        self.hosts_in_leaves(&[leaf]).pop().map(|content| content.hosts).unwrap_or_default()
    }

    /// Bytes that the shard takes, give or take the allocator's own.
    pub fn memory_bytes(&self) -> usize {
        let segments: usize = self.segments().map(Segment::memory_bytes).sum();
        segments + self.locations.allocation_size() + self.digests.allocation_size() + size_of::<Self>()
    }
}

/// See [`Shard::builder`].
#[derive(Debug)]
pub struct ShardBuilder {
    shard: Shard,
    open: Open,
}

impl ShardBuilder {
    /// Adds a row, or replaces the one with its id.
    pub fn push(&mut self, row: &HostRow<'_>) {
        self.shard.upsert(row, &mut self.open, &mut Applied::default());
    }

    /// Takes a row back, for a tail of changes that follows the rows.
    pub fn remove(&mut self, host_id: HostId) {
        self.shard.remove(host_id, &mut Applied::default());
    }

    /// The shard of all rows so far.
    #[must_use]
    pub fn finish(mut self) -> Shard {
        self.shard.close(self.open.slot);
        self.shard.drop_empty_segments();
        self.shard
    }
}
