//! The newest events of this start of the node, in order, up to a bound.
//!
//! Lossy on purpose: nobody is waited for. A reader whose place has been overwritten is told so, and loads
//! again what it shows.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::event::{Event, EventDraft, EventId};

/// The newest events. Numbers ascend from one without gaps.
#[derive(Debug)]
pub struct EventRing {
    epoch: u64,
    newest: u64,
    kept_max: usize,
    kept: VecDeque<Arc<Event>>,
}

/// What comes after a place.
#[derive(Debug, Clone, PartialEq)]
pub enum Following {
    /// These events, in order; none when the place is the newest.
    Events(Vec<Arc<Event>>),
    /// What followed is gone, or the place is of another start: load again, and go on from here.
    Lost(EventId),
}

impl EventRing {
    /// An empty ring. The epoch is random; `kept_max` is at least one.
    pub const fn new(epoch: u64, kept_max: usize) -> Self {
        Self { epoch, newest: 0, kept_max, kept: VecDeque::new() }
    }

    /// Adds an event, in place of the oldest when the ring is full.
    pub fn push(&mut self, draft: EventDraft) -> EventId {
        self.newest += 1;
        let id = self.newest();
        while self.kept.len() >= self.kept_max {
            self.kept.pop_front();
        }
        self.kept.push_back(Arc::new(Event { id, draft }));
        id
    }

    /// The place of the newest event.
    pub const fn newest(&self) -> EventId {
        EventId { epoch: self.epoch, number: self.newest }
    }

    /// The place before the oldest event that is kept.
    pub fn before_oldest(&self) -> EventId {
        EventId { epoch: self.epoch, number: self.newest - self.kept.len() as u64 }
    }

    /// At most `limit` events after a place.
    pub fn after(&self, place: EventId, limit: usize) -> Following {
        let oldest = self.before_oldest().number;
        if place.epoch != self.epoch || place.number < oldest || place.number > self.newest {
            return Following::Lost(self.newest());
        }
        let skipped = usize::try_from(place.number - oldest).unwrap_or(usize::MAX);
        Following::Events(self.kept.iter().skip(skipped).take(limit).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::Timestamp;

    proptest! {
        #[test]
        fn a_reader_sees_every_event_once_in_order_or_is_told_that_it_lost_some(
            steps in proptest::collection::vec((0_usize..6, 0_usize..6), 1..40),
            kept_max in 1_usize..8,
        ) {
            let mut ring = EventRing::new(9, kept_max);
            let (mut place, mut pushed) = (ring.newest(), 0);
            for (written, read) in steps {
                for _ in 0..written {
                    pushed = ring.push(draft()).number;
                }
                match ring.after(place, read) {
                    Following::Events(events) => {
                        let numbers: Vec<u64> = events.iter().map(|event| event.id.number).collect();
                        let expected: Vec<u64> = (place.number + 1..=pushed).take(read).collect();
                        prop_assert_eq!(&numbers, &expected);
                        place.number += numbers.len() as u64;
                    }
                    Following::Lost(newest) => {
                        prop_assert!(pushed - place.number > kept_max as u64);
                        place = newest;
                    }
                }
            }
        }
    }

    #[test]
    fn a_place_of_another_start_or_of_the_future_is_lost() {
        let mut ring = EventRing::new(9, 4);
        ring.push(draft());

        for place in [EventId { epoch: 8, number: 1 }, EventId { epoch: 9, number: 2 }] {
            assert_eq!(ring.after(place, 10), Following::Lost(EventId { epoch: 9, number: 1 }));
        }
    }

    fn draft() -> EventDraft {
        EventDraft {
            kind: "sync".to_owned(),
            at: Timestamp::EPOCH,
            site: None,
            audit_entry: None,
            details: BTreeMap::new(),
        }
    }
}
