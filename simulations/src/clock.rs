//! Virtual time: what a host's clocks show, and what the libc hooks answer.
//!
//! Monotonic time is the runtime's paused clock counted from the world's beginning, the same for all hosts.
//! Wall time adds a fixed date and the host's own error, a function of the host and the time alone.

use std::cell::Cell;
use std::time::Duration;

use hansa_model::time::{Timestamp, WallClock};
use tokio::time::Instant;

use crate::dice::Dice;

/// Wall time at the beginning of every world: 2027-01-15T08:00:00Z.
const WALL_EPOCH_NANOS: u64 = 1_800_000_000 * NANOS;
/// Monotonic time at the beginning: not zero, since code may subtract from an instant.
const MONOTONIC_EPOCH_NANOS: u64 = 1_000_000 * NANOS;
const NANOS: u64 = 1_000_000_000;

thread_local! {
    /// The clock of the host whose code runs on this thread now.
    static CURRENT: Cell<Option<HostClock>> = const { Cell::new(None) };
    /// The world's time, for code that runs outside every host.
    static WORLD: Cell<SimTime> = const { Cell::new(SimTime::START) };
    /// Set while the runtime's clock is read, which may itself ask the system's.
    static READING: Cell<bool> = const { Cell::new(false) };
}

/// An instant of the world: nanoseconds since its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct SimTime(u64);

impl SimTime {
    /// The beginning of the world.
    pub const START: Self = Self(0);

    /// The instant a span after the beginning.
    pub fn at(span: Duration) -> Self {
        Self::START.after(span)
    }

    /// Nanoseconds since the beginning.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// The instant a span after this one; saturates.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// The span from `earlier` to this instant; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// How wrong a host's wall clock is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClockSkew {
    offset_nanos: i64,
    drift_ppm: i64,
}

impl ClockSkew {
    /// A clock that is right.
    pub const NONE: Self = Self { offset_nanos: 0, drift_ppm: 0 };

    /// An error within `offset` either way, that grows or shrinks by up to `drift_ppm` millionths.
    pub fn draw(dice: &mut Dice, offset: Duration, drift_ppm: u32) -> Self {
        let mut signed = |most: u64| {
            let size = i64::try_from(dice.between(0, most)).unwrap_or(i64::MAX);
            if dice.chance(0.5) { size } else { -size }
        };
        Self {
            offset_nanos: signed(u64::try_from(offset.as_nanos()).unwrap_or(0)),
            drift_ppm: signed(u64::from(drift_ppm)),
        }
    }

    fn wall_nanos(self, time: SimTime) -> u64 {
        let drift = i128::from(time.0) * i128::from(self.drift_ppm) / 1_000_000;
        let shown = i128::from(WALL_EPOCH_NANOS) + i128::from(time.0) + i128::from(self.offset_nanos) + drift;
        u64::try_from(shown).unwrap_or(0)
    }
}

/// The clocks of one boot of a host.
#[derive(Debug, Clone, Copy)]
pub struct HostClock {
    booted: SimTime,
    started: Instant,
    skew: ClockSkew,
}

impl HostClock {
    /// The clock of a host that boots at `booted`. Call it inside the host's new, paused runtime.
    pub fn boot(booted: SimTime, skew: ClockSkew) -> Self {
        Self { booted, started: Instant::now(), skew }
    }

    /// The world's time as this host's runtime has reached it.
    pub fn now(&self) -> SimTime {
        self.booted.after(Instant::now() - self.started)
    }

    /// The runtime's instant for a time of the world; the boot, for times before it.
    pub fn instant(&self, time: SimTime) -> Instant {
        self.started + time.since(self.booted)
    }
}

impl WallClock for HostClock {
    fn now(&self) -> Timestamp {
        let micros = self.skew.wall_nanos(Self::now(self)) / 1_000;
        Timestamp::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
    }
}

/// Says whose code runs on this thread from here on.
pub(crate) fn enter(clock: Option<HostClock>) {
    CURRENT.with(|current| current.set(clock));
}

/// Says what time it is outside every host.
pub(crate) fn set_world_time(time: SimTime) {
    WORLD.with(|world| world.set(time));
}

/// What `CLOCK_MONOTONIC` shows.
pub(crate) fn monotonic_nanos() -> u64 {
    MONOTONIC_EPOCH_NANOS + present().0.0
}

/// What `CLOCK_REALTIME` shows.
pub(crate) fn wall_nanos() -> u64 {
    let (time, skew) = present();
    skew.wall_nanos(time)
}

/// The present of whatever runs on this thread. Never fails: it also serves the thread's own teardown.
fn present() -> (SimTime, ClockSkew) {
    let world = WORLD.try_with(Cell::get).unwrap_or_default();
    let Ok(Some(host)) = CURRENT.try_with(Cell::get) else { return (world, ClockSkew::NONE) };
    let reentered = READING.with(|reading| reading.replace(true));
    if reentered {
        return (world, host.skew);
    }
    let in_runtime = tokio::runtime::Handle::try_current().is_ok();
    let time = if in_runtime { host.now() } else { world };
    READING.with(|reading| reading.set(false));
    (time, host.skew)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skewed_wall_clock_is_off_by_its_offset_and_its_drift() {
        let skew = ClockSkew { offset_nanos: -5_000, drift_ppm: 100 };

        let shown = skew.wall_nanos(SimTime::at(Duration::from_secs(10)));

        assert_eq!(shown, WALL_EPOCH_NANOS + 10 * NANOS - 5_000 + 1_000_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_boots_late_shows_the_worlds_time() {
        let clock = HostClock::boot(SimTime::at(Duration::from_secs(30)), ClockSkew::NONE);

        tokio::time::sleep(Duration::from_secs(2)).await;

        assert_eq!(clock.now(), SimTime::at(Duration::from_secs(32)));
        assert_eq!(clock.instant(clock.now()), Instant::now());
        assert_eq!(WallClock::now(&clock), Timestamp::from_secs(1_800_000_032));
    }
}
