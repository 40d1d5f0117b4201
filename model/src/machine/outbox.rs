//! What a site still has to send: which changes wait, which batch is under way, and what an answer means.
//!
//! The site's inventory log is the queue. A change is pending from the log position it was recorded at
//! until a batch that covers that position is acknowledged; however often a host changes meanwhile, it
//! counts and travels once, with its state at the time of the cut. A batch that was cut is frozen on disk
//! with its number until it is acknowledged, so a number never stands for two contents.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::HostId;
use crate::sync::{BatchHeader, Position};

/// What a site stores of its progress, in one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cursor {
    /// The last position that the coordinator acknowledged.
    pub acknowledged: Position,
    /// Every change recorded up to this log position is acknowledged.
    pub floor: u64,
}

/// A batch with its number, kept until it is acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frozen {
    /// As it travels.
    pub header: BatchHeader,
    /// The exact bytes that travel: encoded [`crate::sync::Items`].
    pub payload: Vec<u8>,
    /// The position that its acknowledgement names.
    pub after: Position,
    /// The log position up to which the batch covers every change.
    pub through: u64,
    /// Queue entries that the batch carries: order and version. Only that version is deleted.
    pub entries: Vec<(u64, u64)>,
}

/// The hosts that the next batch carries.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cut {
    /// In order of their first pending change.
    pub hosts: Vec<HostId>,
    /// The log position that the cut covers.
    pub through: u64,
    /// Leaves to send whole, in order.
    pub leaves: Vec<u16>,
}

/// What a coordinator's position means for a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Both agree and nothing is under way.
    Level,
    /// The frozen batch did not arrive: send it again, unchanged.
    Resend,
    /// The frozen batch was applied and its answer lost: take it as acknowledged.
    Settled,
    /// Different histories: drop the frozen batch, open a new history, compare digests.
    Diverged,
}

/// The outbox of one site's process.
#[derive(Debug, Clone)]
pub struct Outbox {
    epoch: u64,
    cursor: Cursor,
    frozen: Option<Frozen>,
    reset: bool,
    pending: VecDeque<(u64, Vec<HostId>)>,
    occurrences: BTreeMap<HostId, u32>,
    leaves: BTreeSet<u16>,
}

impl Outbox {
    /// Takes up what the store holds; `epoch` is fresh for this process and not zero.
    pub fn new(epoch: u64, cursor: Cursor, frozen: Option<Frozen>) -> Self {
        Self {
            epoch: epoch.max(1),
            cursor,
            frozen,
            reset: false,
            pending: VecDeque::new(),
            occurrences: BTreeMap::new(),
            leaves: BTreeSet::new(),
        }
    }

    /// Notes the hosts whose change was recorded at a log position; positions ascend, a repeat is known.
    pub fn recorded(&mut self, position: u64, hosts: Vec<HostId>) {
        let known = self.pending.back().map_or(self.cursor.floor, |(last, _)| *last);
        if position <= known.max(self.cursor.floor) {
            return;
        }
        for host in &hosts {
            *self.occurrences.entry(*host).or_default() += 1;
        }
        self.pending.push_back((position, hosts));
    }

    /// Hosts whose last change is not acknowledged. Exact.
    pub fn depth(&self) -> u64 {
        self.occurrences.len() as u64
    }

    /// Progress as stored.
    pub const fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// The batch under way.
    pub const fn frozen(&self) -> Option<&Frozen> {
        self.frozen.as_ref()
    }

    /// The epoch of this process.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether the next batch must open a new history, even without rows.
    pub const fn must_reset(&self) -> bool {
        self.reset
    }

    /// Whether nothing waits and nothing is under way.
    pub fn is_level(&self) -> bool {
        self.pending.is_empty() && self.leaves.is_empty() && !self.reset && self.frozen.is_none()
    }

    /// Judges the position that the coordinator names at the start of a link or with a refusal.
    pub fn standing(&self, position: &Position) -> Standing {
        match &self.frozen {
            Some(frozen) if frozen.after == *position => Standing::Settled,
            Some(frozen) if frozen.header.reset || *position == self.cursor.acknowledged => Standing::Resend,
            None if self.reset || *position == self.cursor.acknowledged => Standing::Level,
            _ => Standing::Diverged,
        }
    }

    /// Opens a new history after a divergence. What the frozen batch carried is pending still.
    pub fn diverged(&mut self, epoch: u64) {
        self.frozen = None;
        self.reset = true;
        self.epoch = epoch.max(1);
    }

    /// Queues leaves to be sent whole.
    pub fn repair(&mut self, leaves: impl IntoIterator<Item = u16>) {
        self.leaves.extend(leaves);
    }

    /// Leaves that are queued. Exact: one that is queued twice is sent once.
    pub fn leaves(&self) -> u64 {
        self.leaves.len() as u64
    }

    /// Chooses what the next batch carries: the oldest pending changes that fit, and leaves if there are
    /// none. A single recorded position never splits. None while a batch is under way.
    ///
    /// `leaf_rows` tells how many hosts a leaf holds.
    pub fn cut(&self, rows_max: usize, leaf_rows: impl Fn(u16) -> usize) -> Option<Cut> {
        if self.frozen.is_some() {
            return None;
        }
        let mut cut = Cut { through: self.cursor.floor, ..Cut::default() };
        let mut seen = BTreeSet::new();
        for (position, hosts) in &self.pending {
            let fresh: Vec<HostId> = hosts.iter().copied().filter(|host| !seen.contains(host)).collect();
            if !cut.hosts.is_empty() && cut.hosts.len() + fresh.len() > rows_max {
                break;
            }
            for host in fresh {
                if seen.insert(host) {
                    cut.hosts.push(host);
                }
            }
            cut.through = *position;
        }
        let mut rows = cut.hosts.len();
        for leaf in &self.leaves {
            rows += leaf_rows(*leaf);
            if rows > rows_max && !(cut.hosts.is_empty() && cut.leaves.is_empty()) {
                break;
            }
            cut.leaves.push(*leaf);
        }
        Some(cut)
    }

    /// Numbers a batch with these encoded items; the shell stores it, then calls [`Outbox::freeze`].
    pub fn number(&self, cut: &Cut, payload: Vec<u8>, entries: Vec<(u64, u64)>) -> Frozen {
        let acknowledged = if self.reset { Position::default() } else { self.cursor.acknowledged };
        let sequence = if acknowledged.epoch == self.epoch { acknowledged.sequence + 1 } else { 1 };
        let header = BatchHeader {
            epoch: self.epoch,
            sequence,
            previous_chain: acknowledged.chain,
            reset: self.reset,
            queue_depth: self.depth() + entries.len() as u64,
        };
        let after = acknowledged.advanced(self.epoch, sequence, &payload);
        Frozen { header, payload, after, through: cut.through, entries }
    }

    /// Takes over a batch that is now on disk. Its leaves are no longer queued; a lost batch is found by
    /// the next comparison of digests.
    pub fn freeze(&mut self, frozen: Frozen, leaves: &[u16]) {
        for leaf in leaves {
            self.leaves.remove(leaf);
        }
        self.reset = false;
        self.frozen = Some(frozen);
    }

    /// The progress that an acknowledgement of this position means; none if it is not the frozen batch's.
    /// The shell stores it, then calls [`Outbox::settle`].
    pub fn settled(&self, position: &Position) -> Option<Cursor> {
        let frozen = self.frozen.as_ref().filter(|frozen| frozen.after == *position)?;
        Some(Cursor { acknowledged: *position, floor: frozen.through.max(self.cursor.floor) })
    }

    /// The progress that an accepted full snapshot means, taken when `through` was the last change in it. An
    /// HTTP peer gives no position; what it holds is what the snapshot said.
    pub const fn covered(&self, through: u64) -> Cursor {
        let floor = if through > self.cursor.floor { through } else { self.cursor.floor };
        Cursor { acknowledged: self.cursor.acknowledged, floor }
    }

    /// The log position of the last recorded change.
    pub fn recorded_through(&self) -> u64 {
        self.pending.back().map_or(self.cursor.floor, |(position, _)| *position)
    }

    /// Takes over progress that is now on disk.
    pub fn settle(&mut self, cursor: Cursor) {
        self.frozen = None;
        self.cursor = cursor;
        while let Some((_, hosts)) = self.pending.pop_front_if(|(position, _)| *position <= cursor.floor) {
            for host in hosts {
                if let Some(count) = self.occurrences.get_mut(&host) {
                    *count -= 1;
                    if *count == 0 {
                        self.occurrences.remove(&host);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u128) -> HostId {
        HostId(uuid::Uuid::from_u128(n))
    }

    /// An outbox with three recorded positions: hosts 1 and 2, then 2, then 3.
    fn outbox() -> Outbox {
        let mut outbox = Outbox::new(7, Cursor::default(), None);
        outbox.recorded(1, vec![id(1), id(2)]);
        outbox.recorded(2, vec![id(2)]);
        outbox.recorded(3, vec![id(3)]);
        outbox
    }

    fn send(outbox: &mut Outbox, rows_max: usize) -> Frozen {
        let cut = outbox.cut(rows_max, |_| 1).unwrap();
        let frozen = outbox.number(&cut, vec![cut.hosts.len() as u8], Vec::new());
        outbox.freeze(frozen.clone(), &cut.leaves);
        frozen
    }

    fn acknowledge(outbox: &mut Outbox, position: &Position) {
        let cursor = outbox.settled(position).unwrap();
        outbox.settle(cursor);
    }

    #[test]
    fn host_that_changes_twice_counts_and_travels_once() {
        let outbox = outbox();

        assert_eq!(outbox.depth(), 3);
        let cut = outbox.cut(100, |_| 0).unwrap();
        assert_eq!((cut.hosts, cut.through), (vec![id(1), id(2), id(3)], 3));
    }

    #[test]
    fn cut_stops_before_the_position_that_does_not_fit() {
        let cut = outbox().cut(2, |_| 0).unwrap();

        assert_eq!((cut.hosts, cut.through), (vec![id(1), id(2)], 2));
    }

    #[test]
    fn change_during_flight_stays_pending_after_the_acknowledgement() {
        let mut outbox = outbox();
        let frozen = send(&mut outbox, 100);
        outbox.recorded(4, vec![id(1)]);

        acknowledge(&mut outbox, &frozen.after);

        assert_eq!(outbox.depth(), 1);
        assert_eq!(outbox.cut(100, |_| 0).unwrap().hosts, [id(1)]);
    }

    #[test]
    fn numbers_follow_each_other_and_the_chain() {
        let mut outbox = outbox();
        let first = send(&mut outbox, 2);
        acknowledge(&mut outbox, &first.after);
        let second = send(&mut outbox, 2);

        assert_eq!((first.header.sequence, second.header.sequence), (1, 2));
        assert_eq!(second.header.previous_chain, first.after.chain);
    }

    #[test]
    fn restart_resends_the_frozen_batch_or_settles_it() {
        let mut before = outbox();
        let frozen = send(&mut before, 100);
        let restarted = Outbox::new(8, Cursor::default(), Some(frozen.clone()));

        assert_eq!(restarted.standing(&Position::default()), Standing::Resend);
        assert_eq!(restarted.standing(&frozen.after), Standing::Settled);
        assert_eq!(restarted.standing(&frozen.after.advanced(9, 1, b"z")), Standing::Diverged);
    }

    #[test]
    fn divergence_opens_a_new_history_with_everything_still_pending() {
        let mut outbox = outbox();
        send(&mut outbox, 100);

        outbox.diverged(11);
        let frozen = send(&mut outbox, 100);

        assert!(frozen.header.reset);
        assert_eq!((frozen.header.epoch, frozen.header.sequence), (11, 1));
        assert_eq!(outbox.depth(), 3);
        // Whatever the coordinator holds, a frozen reset goes out again until it is acknowledged.
        assert_eq!(outbox.standing(&Position::default().advanced(1, 1, b"q")), Standing::Resend);
    }

    #[test]
    fn accepted_snapshot_covers_what_it_held_and_nothing_later() {
        let mut outbox = outbox();
        let through = outbox.recorded_through();
        outbox.recorded(4, vec![id(1)]);

        outbox.settle(outbox.covered(through));

        assert_eq!(outbox.depth(), 1);
        assert_eq!(outbox.cursor().floor, 3);
    }

    #[test]
    fn leaves_wait_for_room_and_are_sent_whole() {
        let mut outbox = outbox();
        outbox.repair([5, 6]);

        assert_eq!(outbox.cut(3, |_| 4).unwrap().leaves, [] as [u16; 0]);
        let frozen = send(&mut outbox, 3);
        acknowledge(&mut outbox, &frozen.after);
        assert_eq!(outbox.cut(3, |_| 4).unwrap().leaves, [5]);
    }

    #[test]
    fn leaf_that_is_queued_twice_waits_once() {
        let mut outbox = Outbox::new(7, Cursor::default(), None);

        outbox.repair([3, 4]);
        outbox.repair([4]);

        assert_eq!(outbox.leaves(), 2);
    }
}
