//! How often logins may be tried: in all, and by user.
//!
//! Every try counts, also one for a name that nobody has, so nothing can be learned from it. Users are
//! counted in a fixed number of slots: memory does not grow with the names that are tried, and no flood of
//! names makes the node forget one that was tried too often. A slot is chosen by a hash with a random key,
//! so nobody can tell who shares one.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::Timestamp;
use crate::limits::access as limits;

/// What was tried lately.
#[derive(Debug, Clone, Default)]
pub struct Throttle {
    all: Spacing,
    slots: BTreeMap<u16, Spacing>,
}

/// When the next event would be due if all had kept their distance.
#[derive(Debug, Clone, Copy, Default)]
struct Spacing(Option<Timestamp>);

impl Spacing {
    /// The wait until one more event is within `burst` events of their due time.
    fn wait(self, now: Timestamp, interval: Duration, burst: u32) -> Duration {
        let Some(due) = self.0 else { return Duration::ZERO };
        // After a clock that was set back, nobody waits longer than a whole burst takes.
        let ahead = due.since(now).min(interval * burst);
        ahead.saturating_sub(interval * burst.saturating_sub(1))
    }

    fn take(self, now: Timestamp, interval: Duration, burst: u32) -> Self {
        let due = self.0.unwrap_or(now).max(now).min(now.after(interval * burst));
        Self(Some(due.after(interval)))
    }
}

impl Throttle {
    /// Admits a try of the user in this slot, or says how long to wait. A try that is refused does not count.
    ///
    /// # Errors
    /// The time to wait.
    pub fn admit(&mut self, now: Timestamp, slot: u16) -> Result<(), Duration> {
        let slot = slot % limits::LOGIN_SLOTS;
        let user = self.slots.get(&slot).copied().unwrap_or_default();
        let wait = user.wait(now, limits::LOGIN_USER_INTERVAL, limits::LOGIN_USER_BURST).max(self.all.wait(
            now,
            limits::LOGIN_ALL_INTERVAL,
            limits::LOGIN_ALL_BURST,
        ));
        if !wait.is_zero() {
            return Err(wait);
        }
        self.all = self.all.take(now, limits::LOGIN_ALL_INTERVAL, limits::LOGIN_ALL_BURST);
        self.slots.insert(slot, user.take(now, limits::LOGIN_USER_INTERVAL, limits::LOGIN_USER_BURST));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_795_000_000);

    #[test]
    fn user_is_bounded_and_others_are_not() {
        let mut throttle = Throttle::default();
        for _ in 0..limits::LOGIN_USER_BURST {
            assert_eq!(throttle.admit(NOW, 1), Ok(()));
        }

        assert_eq!(throttle.admit(NOW, 1), Err(limits::LOGIN_USER_INTERVAL));
        assert_eq!(throttle.admit(NOW, 2), Ok(()));
        assert_eq!(throttle.admit(NOW.after(limits::LOGIN_USER_INTERVAL), 1), Ok(()));
    }

    #[test]
    fn all_users_together_are_bounded() {
        let mut throttle = Throttle::default();
        for slot in 0..limits::LOGIN_ALL_BURST {
            assert_eq!(throttle.admit(NOW, u16::try_from(slot).unwrap()), Ok(()));
        }

        assert_eq!(throttle.admit(NOW, 999), Err(limits::LOGIN_ALL_INTERVAL));
    }

    #[test]
    fn clock_that_was_set_back_locks_nobody_out() {
        let mut throttle = Throttle::default();
        while throttle.admit(NOW, 1).is_ok() {}
        let earlier = NOW.before(Duration::from_secs(86_400));

        let wait = throttle.admit(earlier, 1).unwrap_err();

        assert!(wait <= limits::LOGIN_USER_INTERVAL, "{wait:?}");
    }

    proptest! {
        #[test]
        fn rate_of_any_schedule_stays_within_the_bounds(steps in proptest::collection::vec((0_u64..20_000, 0_u16..4), 1..400)) {
            let (mut throttle, mut now, mut admitted) = (Throttle::default(), NOW, [0_u32; 4]);
            for (millis, slot) in steps {
                now = now.after(Duration::from_millis(millis));
                if throttle.admit(now, slot).is_ok() {
                    admitted[usize::from(slot)] += 1;
                }
            }

            let span = now.since(NOW).as_secs_f64();
            let most = f64::from(limits::LOGIN_USER_BURST) + span / limits::LOGIN_USER_INTERVAL.as_secs_f64();
            prop_assert!(admitted.iter().all(|count| f64::from(*count) <= most + 1.0), "{admitted:?} in {span}");
        }
    }
}
