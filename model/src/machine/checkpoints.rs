//! When the next checkpoint of the audit log is due.

use crate::Timestamp;
use crate::limits::audit as limits;

/// Whether a log that ends at `number` should get a checkpoint, when the last one stands at `last_number`
/// and was made at `last_at` (with neither: zero, and when the node started).
///
/// Only news is signed: a quiet log gets none, however long it is quiet.
pub fn due(number: u64, last_number: u64, last_at: Timestamp, now: Timestamp) -> bool {
    let news = number.saturating_sub(last_number);
    // A clock that was set back must not put the next checkpoint off.
    let waited = now < last_at || now.since(last_at) >= limits::CHECKPOINT_INTERVAL;
    news >= limits::CHECKPOINT_ENTRIES || (news > 0 && waited)
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
}
