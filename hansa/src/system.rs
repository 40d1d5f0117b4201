//! The machine behind the seams: its clock, its randomness, its processors.

use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use hansa_actors::Compute;
use hansa_model::{Entropy, Timestamp, WallClock};

/// The operating system's wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl WallClock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the system for the time")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }
}

/// The operating system's randomness.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the operating system gives randomness");
    }
}

/// Work that holds a processor moves the runtime's other tasks aside first.
#[expect(clippy::disallowed_methods, reason = "the production side of the seam that replaces it")]
pub fn compute() -> Compute {
    Compute {
        run: |work| tokio::task::block_in_place(work),
        width: std::thread::available_parallelism().map_or(1, usize::from),
    }
}

/// Whether an address is reachable from this machine alone.
pub fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Whether a URL's host can only be this machine.
pub(crate) fn is_loopback_host(host: &str) -> bool {
    let address: Option<IpAddr> = host.trim_start_matches('[').trim_end_matches(']').parse().ok();
    address.map_or(host == "localhost", |address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_counts_as_loopback() {
        let is = |text: &str| is_loopback(text.parse().unwrap());

        assert!(is("127.0.0.1:0") && is("[::1]:0") && is("[::ffff:127.0.0.1]:0"));
        assert!(!is("0.0.0.0:0") && !is("[::]:0") && !is("192.168.1.1:80"));
    }

    #[test]
    fn clock_is_past_the_day_this_was_written() {
        assert!(SystemClock.now().as_secs() > 1_700_000_000);
    }

    #[test]
    fn two_draws_differ() {
        let entropy: &dyn Entropy = &SystemEntropy;

        assert_ne!(entropy.bytes::<16>(), entropy.bytes::<16>());
    }
}
