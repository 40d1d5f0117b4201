//! When a secret backend is left alone: after failures in a row it is not called for a while, then by one call
//! that finds out.
//!
//! Only a backend that does not answer counts as failed. One that says no, or not now, is there.

use std::time::Duration;

use crate::Timestamp;
use crate::limits::secrets as limits;
use crate::machine::link::exponential;

/// The breaker of one backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Breaker(State);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { openings: u32, until: Timestamp },
    Trial { openings: u32, since: Timestamp },
}

impl Default for State {
    fn default() -> Self {
        Self::Closed { failures: 0 }
    }
}

/// How a call ended, as far as it tells whether the backend is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It answered: with a value, that there is none, that it is throttling, or that it refuses us.
    Answered,
    /// No connection, no answer in time, or an answer that it is out of order.
    Failed,
}

/// What a breaker shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls go through.
    Closed,
    /// None does.
    Open,
    /// One may, to find out.
    HalfOpen,
}

impl BreakerState {
    /// The word used in JSON and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

impl Breaker {
    /// Lets a call through, or says until when none is. After a rest the first call that asks is the one that
    /// finds out; should its end never be told, another takes its place after a while.
    ///
    /// # Errors
    /// The instant from which it is worth asking again.
    pub fn admit(&mut self, now: Timestamp) -> Result<(), Timestamp> {
        match self.0 {
            State::Closed { .. } => Ok(()),
            State::Open { openings, until } if is_over(now, until, limits::BREAKER_REST_MAX) => {
                self.0 = State::Trial { openings, since: now };
                Ok(())
            }
            State::Open { until, .. } => Err(until),
            State::Trial { openings, since } => {
                let until = since.after(limits::BREAKER_TRIAL_MAX);
                if is_over(now, until, limits::BREAKER_TRIAL_MAX) {
                    self.0 = State::Trial { openings, since: now };
                    return Ok(());
                }
                // Whoever finds out usually knows soon.
                Err(now.after(limits::BREAKER_REST_FIRST).min(until))
            }
        }
    }

    /// Takes down how a call ended, also one that was let through before a rest began. `jitter` is in 0..1 and
    /// takes off up to half of a rest, so that the nodes that lost a backend together do not all return at once.
    pub fn record(&mut self, now: Timestamp, outcome: Outcome, jitter: f64) {
        self.0 = match (outcome, self.0) {
            (Outcome::Answered, _) => State::default(),
            (Outcome::Failed, State::Closed { failures }) if failures + 1 < limits::BREAKER_FAILURES => {
                State::Closed { failures: failures + 1 }
            }
            (Outcome::Failed, State::Closed { .. }) => opened(now, 1, jitter),
            (Outcome::Failed, State::Trial { openings, .. }) => {
                opened(now, openings.saturating_add(1), jitter)
            }
            // A call of earlier that fails now says nothing new.
            (Outcome::Failed, open @ State::Open { .. }) => open,
        };
    }

    /// What it shows now.
    pub fn state(&self, now: Timestamp) -> BreakerState {
        match self.0 {
            State::Closed { .. } => BreakerState::Closed,
            State::Open { until, .. } if !is_over(now, until, limits::BREAKER_REST_MAX) => BreakerState::Open,
            State::Open { .. } | State::Trial { .. } => BreakerState::HalfOpen,
        }
    }

    /// The end of the rest; none when calls go through or one may.
    pub fn open_until(&self, now: Timestamp) -> Option<Timestamp> {
        match self.0 {
            State::Open { until, .. } if !is_over(now, until, limits::BREAKER_REST_MAX) => Some(until),
            State::Open { .. } | State::Closed { .. } | State::Trial { .. } => None,
        }
    }
}

fn opened(now: Timestamp, openings: u32, jitter: f64) -> State {
    let rest = exponential(limits::BREAKER_REST_FIRST, limits::BREAKER_REST_MAX, openings);
    State::Open { openings, until: now.after(rest - part(rest / 2, jitter)) }
}

/// Whether an instant is past. One that lies further off than it was ever set is from before the clock was set
/// back.
fn is_over(now: Timestamp, until: Timestamp, max: Duration) -> bool {
    now >= until || until.since(now) > max
}

/// `span` times `fraction`, which is in 0..1; nothing for anything else.
pub(super) fn part(span: Duration, fraction: f64) -> Duration {
    if (0.0..=1.0).contains(&fraction) { span.mul_f64(fraction) } else { Duration::ZERO }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_795_000_000);

    fn broken() -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 0..limits::BREAKER_FAILURES {
            assert_eq!(breaker.admit(NOW), Ok(()));
            breaker.record(NOW, Outcome::Failed, 0.0);
        }
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it_and_others_do_not() {
        let mut breaker = Breaker::default();
        for _ in 0..100 {
            for _ in 1..limits::BREAKER_FAILURES {
                breaker.record(NOW, Outcome::Failed, 0.0);
            }
            breaker.record(NOW, Outcome::Answered, 0.0);
            assert_eq!(breaker.state(NOW), BreakerState::Closed);
        }

        let mut breaker = broken();
        let until = NOW.after(limits::BREAKER_REST_FIRST);
        assert_eq!((breaker.state(NOW), breaker.open_until(NOW)), (BreakerState::Open, Some(until)));
        assert_eq!(breaker.admit(NOW), Err(until));
    }

    #[test]
    fn one_call_finds_out_after_a_rest() {
        let mut breaker = broken();
        let later = NOW.after(limits::BREAKER_REST_FIRST);
        assert_eq!(breaker.state(later), BreakerState::HalfOpen);

        assert_eq!(breaker.admit(later), Ok(()));
        assert!(breaker.admit(later).is_err());
        assert_eq!(breaker.state(later), BreakerState::HalfOpen);
        breaker.record(later, Outcome::Answered, 0.0);

        assert_eq!(breaker.state(later), BreakerState::Closed);
        assert_eq!((breaker.admit(later), breaker.admit(later)), (Ok(()), Ok(())));
    }

    #[test]
    fn each_failed_trial_doubles_the_rest_up_to_a_bound() {
        let (mut breaker, mut now, mut rests) = (broken(), NOW, Vec::new());
        for _ in 0..8 {
            let until = breaker.open_until(now).unwrap();
            rests.push(until.since(now).as_secs());
            now = until;
            assert_eq!(breaker.admit(now), Ok(()));
            breaker.record(now, Outcome::Failed, 0.0);
        }

        assert_eq!(rests, [2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn trial_whose_end_is_never_told_gives_way_to_another() {
        let mut breaker = broken();
        let trial = NOW.after(limits::BREAKER_REST_FIRST);
        assert_eq!(breaker.admit(trial), Ok(()));

        let later = trial.after(limits::BREAKER_TRIAL_MAX);
        assert!(breaker.admit(later.before(Duration::from_secs(1))).is_err());
        assert_eq!(breaker.admit(later), Ok(()));
        assert!(breaker.admit(later).is_err());
    }

    #[test]
    fn call_of_earlier_that_fails_late_lengthens_nothing() {
        let mut breaker = broken();
        let until = breaker.open_until(NOW);
        breaker.record(NOW.after(Duration::from_secs(1)), Outcome::Failed, 0.0);

        assert_eq!(breaker.open_until(NOW), until);
    }

    #[test]
    fn jitter_takes_off_up_to_half_and_nonsense_nothing() {
        for (jitter, seconds) in
            [(0.0, 2.0), (0.5, 1.5), (1.0, 1.0), (f64::NAN, 2.0), (-1.0, 2.0), (7.0, 2.0)]
        {
            let mut breaker = Breaker::default();
            (0..limits::BREAKER_FAILURES).for_each(|_| breaker.record(NOW, Outcome::Failed, jitter));
            let rest = breaker.open_until(NOW).unwrap().since(NOW).as_secs_f64();
            assert!((rest - seconds).abs() < 1e-6, "{jitter}: {rest}");
        }
    }

    proptest! {
        #[test]
        fn no_rest_lasts_and_no_schedule_locks_it(
            steps in proptest::collection::vec((0_u64..200_000, any::<bool>(), 0.0..1.0_f64), 1..300),
            back in 0_u64..1_000_000,
        ) {
            let (mut breaker, mut now, mut in_a_row) = (Breaker::default(), NOW, 0);
            for (millis, answers, jitter) in steps {
                now = now.after(Duration::from_millis(millis));
                match breaker.admit(now) {
                    Ok(()) => {
                        let outcome = if answers { Outcome::Answered } else { Outcome::Failed };
                        breaker.record(now, outcome, jitter);
                        in_a_row = if answers { 0 } else { in_a_row + 1 };
                    }
                    Err(until) => {
                        prop_assert!(in_a_row >= limits::BREAKER_FAILURES);
                        prop_assert!(until > now && until.since(now) <= limits::BREAKER_REST_MAX);
                    }
                }
            }
            // Also after a clock that was set back, a call gets through within the longest rest.
            let earlier = now.before(Duration::from_secs(back));
            prop_assert!(breaker.admit(earlier).is_ok() || breaker.admit(earlier.after(limits::BREAKER_REST_MAX)).is_ok());
        }
    }
}
