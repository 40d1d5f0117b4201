//! Live events: a bounded ring in memory, and a wake-up for those who watch.
//!
//! Whoever publishes never waits. A reader holds nothing but its place; one that is too slow is told that it
//! has lost events and goes on from the newest.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hansa_model::Timestamp;
use hansa_model::event::{Event, EventId};
use hansa_model::limits::events as limits;
use hansa_model::machine::event_ring::{EventRing, Following, Notice};
use tokio::sync::watch;

/// The events of one start of the node.
#[derive(Debug)]
pub(crate) struct Events {
    ring: Mutex<EventRing>,
    /// The newest number, so that readers wake. Dropped with the node.
    newest: watch::Sender<u64>,
}

impl Events {
    /// A ring without events; the epoch is random.
    pub(crate) fn new(epoch: u64) -> Self {
        Self { ring: Mutex::new(EventRing::new(epoch, limits::KEPT_MAX)), newest: watch::Sender::new(0) }
    }

    /// Gives an event its place and wakes the readers. Waits for nobody.
    pub(crate) fn publish(&self, notice: Notice) {
        let id = self.ring().push(notice);
        // A reader that comes between these two lines finds the event in the ring.
        if self.newest.receiver_count() > 0 {
            self.newest.send_replace(id.number);
        }
    }

    /// A reader from a place on.
    pub(crate) fn reader(self: &Arc<Self>, start: EventsStart) -> EventReader {
        let place = match start {
            EventsStart::After(place) => place,
            EventsStart::Oldest => self.ring().before_oldest(),
            EventsStart::Now => self.ring().newest(),
        };
        EventReader { events: Arc::clone(self), newest: self.newest.subscribe(), place }
    }

    fn ring(&self) -> MutexGuard<'_, EventRing> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventsStart {
    /// With the next event.
    Now,
    /// With the oldest event that is kept.
    Oldest,
    /// With the event after this one.
    After(EventId),
}

/// What a reader finds.
#[derive(Debug, Clone, PartialEq)]
pub enum EventsRead {
    /// These events, in order; none when there is nothing new.
    Events(Vec<Event>),
    /// Events are lost, or the place is of another start of the node: load again what is shown. The reader
    /// goes on from here.
    Reset(EventId),
}

/// Reads events from a place on. It sees all of them: who shows them must ask
/// [`Federation::may_see`](crate::Federation::may_see) of each.
#[derive(Debug)]
pub struct EventReader {
    events: Arc<Events>,
    newest: watch::Receiver<u64>,
    place: EventId,
}

impl EventReader {
    /// The last event that was read.
    pub const fn place(&self) -> EventId {
        self.place
    }

    /// Whether there is nothing to read at present.
    pub fn is_at_end(&self) -> bool {
        self.events.ring().newest() == self.place
    }

    /// What has come since the last call, at most `limits::events::READ_MAX` of it. Never waits.
    pub fn read(&mut self) -> EventsRead {
        self.newest.mark_unchanged();
        let following = self.events.ring().after(self.place, limits::READ_MAX);
        match following {
            Following::Lost(newest) => {
                self.place = newest;
                EventsRead::Reset(newest)
            }
            Following::Events(notices) => {
                if let Some((last, _)) = notices.last() {
                    self.place = *last;
                }
                let read = |(id, notice): (EventId, Notice)| notice.read().map(|draft| Event { id, draft });
                EventsRead::Events(notices.into_iter().filter_map(read).collect())
            }
        }
    }

    /// Returns when there may be more to read; at once while there is. Cancel-safe.
    pub async fn changed(&mut self) {
        if !self.is_at_end() {
            return;
        }
        // The sender lives as long as the reader's own share of it.
        let _ = self.newest.changed().await;
    }
}

/// Tells of something that happens all the time at most once in a while; the last time is always told.
#[derive(Debug, Default)]
pub(crate) struct Coarse {
    told_at: Option<Timestamp>,
    untold: bool,
}

impl Coarse {
    /// It happened. Whether to tell now.
    pub(crate) fn happened(&mut self, now: Timestamp, pause: Duration) -> bool {
        self.untold = true;
        self.due(now, pause)
    }

    /// Time has passed. Whether to tell now what was kept back.
    pub(crate) fn due(&mut self, now: Timestamp, pause: Duration) -> bool {
        // A clock that was set back must not silence the teller.
        let paused = self.told_at.is_none_or(|at| now < at || now.since(at) >= pause);
        if !self.untold || !paused {
            return false;
        }
        self.untold = false;
        self.told_at = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use hansa_model::event::EventDraft;

    use super::*;

    #[tokio::test]
    async fn a_reader_wakes_for_what_is_published_and_sleeps_otherwise() {
        let events = Arc::new(Events::new(7));
        let mut reader = events.reader(EventsStart::Now);
        assert_eq!(reader.read(), EventsRead::Events(Vec::new()));
        let asleep = tokio::time::timeout(Duration::from_millis(10), reader.changed()).await;

        events.publish(notice());
        reader.changed().await;

        assert!(asleep.is_err());
        let EventsRead::Events(read) = reader.read() else { panic!("nothing was lost") };
        assert_eq!(read.iter().map(|event| event.id.number).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn a_reader_that_is_too_slow_goes_on_from_the_newest() {
        let events = Arc::new(Events::new(7));
        let mut reader = events.reader(EventsStart::Now);
        for _ in 0..=limits::KEPT_MAX {
            events.publish(notice());
        }

        let newest = EventId { epoch: 7, number: limits::KEPT_MAX as u64 + 1 };
        assert_eq!(reader.read(), EventsRead::Reset(newest));
        assert_eq!(reader.read(), EventsRead::Events(Vec::new()));
    }

    #[test]
    fn what_happens_all_the_time_is_told_now_and_then_and_at_its_end() {
        let (mut coarse, pause) = (Coarse::default(), Duration::from_secs(2));
        let at = Timestamp::from_secs;

        assert!(coarse.happened(at(10), pause));
        assert!(!coarse.happened(at(11), pause));
        assert!(!coarse.due(at(11), pause));
        assert!(coarse.due(at(12), pause));
        assert!(!coarse.due(at(20), pause), "nothing was kept back");
    }

    fn notice() -> Notice {
        Notice::from(&EventDraft {
            kind: "sync".to_owned(),
            at: Timestamp::EPOCH,
            site: None,
            audit_entry: None,
            details: BTreeMap::new(),
        })
    }
}
