//! When the next checkpoint of the audit log is due, and when a site is sent one.

use std::time::Duration;

use crate::Timestamp;
use crate::limits::audit as limits;

/// Whether a log that ends at `number` should get a checkpoint, when the last one stands at `last_number`
/// and was made at `last_at` (with neither: zero, and when the node started).
///
/// Only news is signed: a quiet log gets none, however long it is quiet.
pub fn due(number: u64, last_number: u64, last_at: Timestamp, now: Timestamp) -> bool {
    let news = number.saturating_sub(last_number);
    news >= limits::CHECKPOINT_ENTRIES || (news > 0 && waited(last_at, limits::CHECKPOINT_INTERVAL, now))
}

/// Whether a site is sent the checkpoint of this number, when `sent` tells which it was sent last over its
/// present link and when. A new link begins with none: its site may have missed any number of them.
pub fn offer_due(number: u64, sent: Option<(u64, Timestamp)>, now: Timestamp) -> bool {
    sent.is_none_or(|(sent, at)| number > sent && waited(at, limits::OFFER_INTERVAL, now))
}

/// Whether an interval is over. A clock that was set back must not put the next time off.
fn waited(since: Timestamp, interval: Duration, now: Timestamp) -> bool {
    now < since || now.since(since) >= interval
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST: Timestamp = Timestamp::from_secs(1_000);

    #[test]
    fn many_entries_or_enough_time_make_one_due_and_silence_does_not() {
        let soon = LAST.after(limits::CHECKPOINT_INTERVAL / 2);
        let later = LAST.after(limits::CHECKPOINT_INTERVAL);

        assert!(!due(7, 7, LAST, later), "no news");
        assert!(!due(8, 7, LAST, soon));
        assert!(due(8, 7, LAST, later));
        assert!(due(7 + limits::CHECKPOINT_ENTRIES, 7, LAST, soon));
        assert!(due(8, 7, LAST, LAST.before(limits::CHECKPOINT_INTERVAL)), "the clock was set back");
    }

    #[test]
    fn a_link_begins_with_a_checkpoint_and_then_has_one_an_interval_when_there_is_a_newer() {
        let soon = LAST.after(limits::OFFER_INTERVAL / 2);
        let later = LAST.after(limits::OFFER_INTERVAL);
        let sent = Some((7, LAST));

        assert!(offer_due(7, None, soon));
        assert!(!offer_due(8, sent, soon));
        assert!(!offer_due(7, sent, later), "the same again");
        assert!(offer_due(8, sent, later));
        assert!(offer_due(8, sent, LAST.before(limits::OFFER_INTERVAL)), "the clock was set back");
    }
}
