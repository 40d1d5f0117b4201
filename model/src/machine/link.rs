//! Back-off, and what a site thinks of its connection (contract 3.5 and 3.6).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::limits::sync as limits;

/// State of a site's connection to its coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionState {
    /// No attempt yet.
    #[default]
    Unknown,
    /// The last attempt succeeded.
    Online,
    /// One or two failures in a row.
    Degraded,
    /// Three or more failures in a row.
    Offline,
}

impl ConnectionState {
    /// The word used in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Online => "online",
            Self::Degraded => "degraded",
            Self::Offline => "offline",
        }
    }
}

/// What a site knows of its uplink: the connection snapshot of contract 3.6.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Connection {
    /// See [`ConnectionState`].
    pub state: ConnectionState,
    /// Failures since the last success.
    pub consecutive_failures: u32,
    /// The last attempt.
    pub last_sync_at: Option<Timestamp>,
    /// The last attempt that succeeded.
    pub last_successful_sync_at: Option<Timestamp>,
    /// `success` or an error text.
    pub last_sync_status: Option<String>,
    /// The last error text; none after a success.
    pub last_sync_error: Option<String>,
    /// No contact before this instant.
    pub next_reconnect_at: Option<Timestamp>,
}

impl Connection {
    /// After an attempt that succeeded.
    pub fn succeeded(&mut self, now: Timestamp) {
        *self = Self {
            state: ConnectionState::Online,
            consecutive_failures: 0,
            last_sync_at: Some(now),
            last_successful_sync_at: Some(now),
            last_sync_status: Some("success".to_owned()),
            last_sync_error: None,
            next_reconnect_at: None,
        };
    }

    /// After an attempt that failed; `wait` is the time until the next one.
    pub fn failed(&mut self, now: Timestamp, error: &str, wait: Duration) {
        self.consecutive_failures = self.consecutive_failures.saturating_add(1);
        self.state = if self.consecutive_failures >= limits::OFFLINE_AFTER_FAILURES {
            ConnectionState::Offline
        } else {
            ConnectionState::Degraded
        };
        self.last_sync_at = Some(now);
        self.last_sync_status = Some(error.to_owned());
        self.last_sync_error = Some(error.to_owned());
        self.next_reconnect_at = Some(now.after(wait));
    }
}

/// Doubles `first` for each failure after the first, up to `max`; zero failures wait nothing.
pub fn exponential(first: Duration, max: Duration, failures: u32) -> Duration {
    match failures.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => first.saturating_mul(2_u32.saturating_pow(doublings.min(31))).min(max),
    }
}

/// The wait of an HTTP peer after `failures` failures in a row (contract 3.6): 30, 60, 120 … 900 s.
pub fn reconnect_wait(failures: u32) -> Duration {
    exponential(limits::RECONNECT_FIRST, limits::RECONNECT_MAX, failures)
}

/// The wait before a QUIC link is dialled again, with up to a quarter taken off by `jitter`, so that the
/// sites of a restarted coordinator do not all come at once.
pub fn redial_wait(failures: u32, jitter: u64) -> Duration {
    let wait = exponential(limits::LINK_RETRY_FIRST, limits::LINK_RETRY_MAX, failures);
    wait.saturating_sub(scale(wait / 4, jitter))
}

/// The wait of an entry or a push after `failures` failures (contract 3.5): min(10·2^(n−1), 1200) ± 20 %.
///
/// `jitter` is uniform over all of `u64`.
pub fn entry_wait(failures: u32, jitter: u64) -> Duration {
    let wait = exponential(limits::RETRY_FIRST, limits::RETRY_MAX, failures);
    (wait * 4 / 5).saturating_add(scale(wait * 2 / 5, jitter))
}

/// `span` times `fraction` / 2^64.
fn scale(span: Duration, fraction: u64) -> Duration {
    let nanos = (span.as_nanos() * u128::from(fraction)) >> 64;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reconnect_waits_are_the_documented_ones() {
        let waits: Vec<u64> = (0..=7).map(|failures| reconnect_wait(failures).as_secs()).collect();

        assert_eq!(waits, [0, 30, 60, 120, 240, 480, 900, 900]);
    }

    #[test]
    fn entry_waits_are_the_documented_ones_within_a_fifth() {
        for (failures, seconds) in [(0, 0.0), (1, 10.0), (2, 20.0), (7, 640.0), (8, 1_200.0), (40, 1_200.0)] {
            let (low, middle, high) =
                (entry_wait(failures, 0), entry_wait(failures, 1 << 63), entry_wait(failures, u64::MAX));

            assert!((low.as_secs_f64() - 0.8 * seconds).abs() < 1e-6, "{failures}");
            assert!((middle.as_secs_f64() - seconds).abs() < 1e-6, "{failures}");
            assert!((high.as_secs_f64() - 1.2 * seconds).abs() < 1e-6, "{failures}");
        }
    }

    #[test]
    fn third_failure_in_a_row_is_offline_and_success_clears_it() {
        let mut connection = Connection::default();
        let now = Timestamp::from_secs(100);

        let states: Vec<_> = (1..=3)
            .map(|failures| {
                connection.failed(now, "no route", reconnect_wait(failures));
                connection.state
            })
            .collect();
        let gate = connection.next_reconnect_at;
        connection.succeeded(now);

        assert_eq!(states, [ConnectionState::Degraded, ConnectionState::Degraded, ConnectionState::Offline]);
        assert_eq!(gate, Some(now.after(Duration::from_secs(120))));
        assert_eq!((connection.state, connection.next_reconnect_at), (ConnectionState::Online, None));
    }
}
