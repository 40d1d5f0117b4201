//! Merging of segments: when, which, and in steps that let readers and the writer's lock go on.
//!
//! Segments of similar size are merged four at a time, so a row is copied once for each factor of four
//! that its site has grown. Building the merged segment only reads the shard; installing it takes about
//! 50 ns a row.

use std::collections::BTreeMap;

use super::segment::Segment;
use super::shard::{Location, Shard};
use crate::SiteId;
use crate::limits::search::{MERGE_FACTOR, SEGMENT_WASTE_FREE, SEGMENT_WASTE_PERCENT_MAX};

/// Which segments to merge. Valid until the next change of the shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergePlan {
    site: SiteId,
    version: u64,
    slots: Vec<u16>,
    rows: usize,
}

/// A merged segment, ready to be installed.
#[derive(Debug)]
pub struct Merged {
    plan: MergePlan,
    segment: Segment,
    /// Where each row of the segment was.
    origins: Vec<Location>,
}

impl MergePlan {
    /// Rows to copy: about 0.5 µs each to build.
    pub const fn rows(&self) -> usize {
        self.rows
    }

    fn is_valid_for(&self, shard: &Shard) -> bool {
        (self.site, self.version) == (shard.site(), shard.version)
    }

    /// Builds the merged segment; `None` when the shard is not as it was planned for. Only reads the shard.
    #[must_use]
    pub fn build(&self, shard: &Shard) -> Option<Merged> {
        if !self.is_valid_for(shard) {
            return None;
        }
        let sources: Vec<&Segment> = self.slots.iter().map(|&slot| shard.segment(slot)).collect();
        let order = Segment::merged_order(&sources);
        let segment = Segment::gather(&sources, &order, shard.layout.grams_min);
        let origin = |slot: u16, row: u16| Location { slot, row };
        let origins =
            order.iter().map(|place| origin(self.slots[usize::from(place.source)], place.row)).collect();
        Some(Merged { plan: self.clone(), segment, origins })
    }
}

impl Shard {
    /// The most useful merge, if one is due.
    pub fn plan_merge(&self) -> Option<MergePlan> {
        self.wasteful().or_else(|| self.crowded_tier(usize::MAX))
    }

    /// A merge that makes searches faster though none is due: for a shard that has gone quiet. After it
    /// only segments remain that are too large to share one.
    pub fn plan_settling(&self) -> Option<MergePlan> {
        self.plan_merge().or_else(|| self.plan(self.by_size()))
    }

    /// Puts a merged segment in place of its sources. Without effect, and false, when the shard has
    /// changed since the merge was planned.
    pub fn install(&mut self, merged: Merged) -> bool {
        if !merged.plan.is_valid_for(self) {
            return false;
        }
        self.version += 1;
        let ids = merged.segment.ids().to_vec();
        let slot = self.free_slot(merged.segment);
        for (row, (host_id, origin)) in ids.into_iter().zip(merged.origins).enumerate() {
            self.relocate(host_id, origin, Location { slot, row: row as u16 });
        }
        for source in merged.plan.slots {
            self.slots[usize::from(source)] = None;
        }
        true
    }

    /// Plans, builds and installs one merge if one is due. Returns whether it did.
    pub fn compact_step(&mut self) -> bool {
        let plan = self.plan_merge();
        self.run(plan)
    }

    /// As [`Self::compact_step`], with [`Self::plan_settling`].
    pub fn settle_step(&mut self) -> bool {
        let plan = self.plan_settling();
        self.run(plan)
    }

    fn run(&mut self, plan: Option<MergePlan>) -> bool {
        plan.and_then(|plan| plan.build(self)).is_some_and(|merged| self.install(merged))
    }

    /// Merges while a merge is cheap enough to be part of a batch.
    pub(super) fn merge_small(&mut self) {
        while let Some(plan) = self.crowded_tier(self.layout.inline_rows_max) {
            self.run(Some(plan));
        }
    }

    /// The first segment that is mostly worth copying without what it lost.
    fn wasteful(&self) -> Option<MergePlan> {
        let bound = |segment: &Segment| segment.rows() * SEGMENT_WASTE_PERCENT_MAX / 100 + SEGMENT_WASTE_FREE;
        let is_wasteful = |segment: &Segment| segment.waste() > bound(segment);
        let slot = self.filled().find(|(_, segment)| is_wasteful(segment)).map(|(slot, _)| slot)?;
        Some(self.plan_of(vec![slot]))
    }

    /// The smallest tier with enough segments, as long as the merged one has at most `rows_max` rows.
    fn crowded_tier(&self, rows_max: usize) -> Option<MergePlan> {
        let mut tiers: BTreeMap<u32, Vec<u16>> = BTreeMap::new();
        for slot in self.by_size() {
            let tier = self.segment(slot).live_rows().max(1).ilog(MERGE_FACTOR);
            tiers.entry(tier).or_default().push(slot);
        }
        let crowded = tiers.into_values().filter(|slots| slots.len() >= MERGE_FACTOR);
        crowded.filter_map(|slots| self.plan(slots)).find(|plan| plan.rows <= rows_max)
    }

    /// As many of the slots, given in ascending size, as make one segment; at least two.
    fn plan(&self, mut slots: Vec<u16>) -> Option<MergePlan> {
        let mut rows = 0;
        let fitting = slots.iter().take_while(|&&slot| {
            rows += self.segment(slot).live_rows();
            rows <= self.layout.segment_rows_max
        });
        let fitting = fitting.count();
        slots.truncate(fitting);
        (slots.len() > 1).then(|| self.plan_of(slots))
    }

    fn plan_of(&self, slots: Vec<u16>) -> MergePlan {
        let rows = slots.iter().map(|&slot| self.segment(slot).live_rows()).sum();
        MergePlan { site: self.site(), version: self.version, slots, rows }
    }

    fn by_size(&self) -> Vec<u16> {
        let mut slots: Vec<u16> = self.filled().map(|(slot, _)| slot).collect();
        slots.sort_by_key(|&slot| self.segment(slot).live_rows());
        slots
    }

    fn filled(&self) -> impl Iterator<Item = (u16, &Segment)> {
        let numbered = self.slots.iter().enumerate();
        numbered.filter_map(|(slot, segment)| segment.as_ref().map(|segment| (slot as u16, segment)))
    }
}
