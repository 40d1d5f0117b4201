//! The facade's part about the audit log and live events.

use hansa_model::Timestamp;

use super::Federation;
use crate::events::{EventReader, EventsStart};

impl Federation {
    /// The present instant, by the node's clock.
    pub fn now(&self) -> Timestamp {
        self.tree.context.now()
    }

    /// A reader of live events from a place on. It sees all of them: who shows them to an operator asks
    /// [`hansa_model::event::Event::is_visible_to`] of each.
    pub fn events(&self, start: EventsStart) -> EventReader {
        self.tree.context.events.reader(start)
    }
}
