//! When the keys of another issuer are used, fetched, or missed.
//!
//! Keys are fetched when a token names one that is not known, or when they are old; at most once in
//! [`limits::FETCH_INTERVAL`]. An issuer that does not answer costs only its own tokens, and not even those
//! while its keys are younger than [`limits::KEYS_STALE_MAX`].

use crate::Timestamp;
use crate::limits::issuer as limits;

/// What is known of an issuer's keys.
#[derive(Debug, Clone, Copy, Default)]
pub struct Freshness {
    fetched_at: Option<Timestamp>,
    tried_at: Option<Timestamp>,
    failed: bool,
}

/// What to do with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Verify it with the key that is there.
    Use,
    /// Fetch the keys, note the outcome, and ask again.
    Fetch,
    /// Refuse it: the issuer has no such key.
    Unknown,
    /// The issuer does not answer; the token may be good.
    Down,
}

impl Freshness {
    /// What to do with a token whose key is there or not.
    pub fn step(&self, now: Timestamp, known: bool) -> Step {
        let younger = |span| self.fetched_at.is_some_and(|at| now.since(at) <= span);
        // A clock that was set back does not put off the next try.
        let may_fetch = self.tried_at.is_none_or(|at| at > now || now.since(at) >= limits::FETCH_INTERVAL);
        if known && younger(limits::KEYS_AGE_MAX) {
            Step::Use
        } else if may_fetch {
            Step::Fetch
        } else if known && younger(limits::KEYS_STALE_MAX) {
            Step::Use
        } else if self.failed {
            Step::Down
        } else {
            Step::Unknown
        }
    }

    /// Notes a try and whether it brought keys.
    pub fn tried(&mut self, now: Timestamp, fetched: bool) {
        self.tried_at = Some(now);
        self.failed = !fetched;
        if fetched {
            self.fetched_at = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_795_000_000);
    const SECOND: Duration = Duration::from_secs(1);

    fn fetched() -> Freshness {
        let mut freshness = Freshness::default();
        freshness.tried(NOW, true);
        freshness
    }

    #[test]
    fn first_token_fetches_and_the_next_ones_do_not() {
        assert_eq!(Freshness::default().step(NOW, false), Step::Fetch);
        assert_eq!(fetched().step(NOW.after(SECOND), true), Step::Use);
    }

    #[test]
    fn unknown_keys_are_asked_for_at_most_once_in_a_while() {
        assert_eq!(fetched().step(NOW.after(SECOND), false), Step::Unknown);
        assert_eq!(fetched().step(NOW.after(limits::FETCH_INTERVAL), false), Step::Fetch);
    }

    #[test]
    fn old_keys_serve_while_their_issuer_is_down_but_not_for_ever() {
        let old = NOW.after(limits::KEYS_AGE_MAX + SECOND);
        let mut down = fetched();
        assert_eq!(down.step(old, true), Step::Fetch);
        down.tried(old, false);

        assert_eq!(down.step(old.after(SECOND), true), Step::Use);
        assert_eq!(down.step(old.after(SECOND), false), Step::Down);

        let end = NOW.after(limits::KEYS_STALE_MAX + SECOND);
        down.tried(end, false);
        assert_eq!(down.step(end.after(SECOND), true), Step::Down);
    }

    #[test]
    fn clock_that_was_set_back_does_not_put_off_a_fetch() {
        assert_eq!(fetched().step(NOW.before(SECOND), false), Step::Fetch);
    }
}
