//! The newest events of this start of the node, in order, up to a bound.
//!
//! Lossy on purpose: nobody is waited for. A reader whose place has been overwritten is told so, and loads
//! again what it shows.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::audit::AuditDraft;
use crate::event::{EventDraft, EventId};

/// What an event says, as it is kept: a few hundred bytes in one piece, which whoever watches reads. Most
/// events are never read, and as trees they would take three times as much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The fields of an [`EventDraft`] in postcard, in their order.
    Draft(Arc<[u8]>),
    /// The [`AuditDraft`] of the entry that says the same, in postcard: the bytes that the log stores.
    Entry(Arc<[u8]>),
}

impl Notice {
    /// What it says; none when the bytes are not what they are said to be.
    pub fn read(&self) -> Option<EventDraft> {
        match self {
            Self::Draft(bytes) => {
                let (kind, at, site, audit_entry, details) = postcard::from_bytes(bytes).ok()?;
                Some(EventDraft { kind, at, site, audit_entry, details })
            }
            Self::Entry(bytes) => postcard::from_bytes(bytes).ok().map(|entry: AuditDraft| (&entry).into()),
        }
    }
}

impl From<&EventDraft> for Notice {
    fn from(draft: &EventDraft) -> Self {
        let EventDraft { kind, at, site, audit_entry, details } = draft;
        let bytes = postcard::to_stdvec(&(kind, at, site, audit_entry, details))
            .expect("plain data into memory has no way to fail");
        Self::Draft(bytes.as_slice().into())
    }
}

/// The newest events. Numbers ascend from one without gaps.
#[derive(Debug)]
pub struct EventRing {
    epoch: u64,
    newest: u64,
    kept_max: usize,
    kept: VecDeque<Notice>,
}

/// What comes after a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Following {
    /// These events, in order; none when the place is the newest.
    Events(Vec<(EventId, Notice)>),
    /// What followed is gone, or the place is of another start: load again, and go on from here.
    Lost(EventId),
}

impl EventRing {
    /// An empty ring. The epoch is random; `kept_max` is at least one.
    pub const fn new(epoch: u64, kept_max: usize) -> Self {
        Self { epoch, newest: 0, kept_max, kept: VecDeque::new() }
    }

    /// Adds an event, in place of the oldest when the ring is full.
    pub fn push(&mut self, notice: Notice) -> EventId {
        self.newest += 1;
        let id = self.newest();
        while self.kept.len() >= self.kept_max {
            self.kept.pop_front();
        }
        self.kept.push_back(notice);
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
        let numbered = (oldest + 1..).zip(&self.kept).skip(skipped).take(limit);
        let placed =
            |(number, notice): (u64, &Notice)| (EventId { epoch: self.epoch, number }, notice.clone());
        Following::Events(numbered.map(placed).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::audit::Detail;
    use crate::{AuditId, SiteId, Timestamp};

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
                    pushed = ring.push(notice()).number;
                }
                match ring.after(place, read) {
                    Following::Events(events) => {
                        let numbers: Vec<u64> = events.iter().map(|(id, _)| id.number).collect();
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
    fn what_an_entry_says_is_read_from_the_bytes_that_the_log_stores() {
        let entry = AuditDraft {
            id: AuditId(Uuid::from_u128(7)),
            created_at: Timestamp::from_secs(5),
            operation: "site_updated".to_owned(),
            actor_userid: Some("anna".to_owned()),
            target_site_id: Some(SiteId(Uuid::from_u128(8))),
            target_site_name: Some("north".to_owned()),
            target_host_id: None,
            details: BTreeMap::from([("name".to_owned(), Detail::from("south"))]),
        };
        let stored = Notice::Entry(postcard::to_stdvec(&entry).unwrap().into());

        let read = stored.read().unwrap();

        assert_eq!(
            (read.kind.as_str(), read.at, read.site),
            ("site_updated", entry.created_at, entry.target_site_id)
        );
        assert_eq!((read.audit_entry, &read.details), (Some(entry.id), &entry.details));
        assert_eq!(Notice::from(&read).read(), Some(read));
    }

    #[test]
    fn a_place_of_another_start_or_of_the_future_is_lost() {
        let mut ring = EventRing::new(9, 4);
        ring.push(notice());

        for place in [EventId { epoch: 8, number: 1 }, EventId { epoch: 9, number: 2 }] {
            assert_eq!(ring.after(place, 10), Following::Lost(EventId { epoch: 9, number: 1 }));
        }
    }

    fn notice() -> Notice {
        Notice::Draft([].into())
    }
}
