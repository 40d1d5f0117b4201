//! Chance that can be had again: one seed, printed, of the environment if it names one.

use std::time::{Duration, SystemTime};

use hansa_model::Entropy;
use hansa_storage::testing::SeededEntropy;

/// Chance for one test.
#[derive(Debug)]
pub struct Dice(SeededEntropy);

impl Dice {
    /// The same seed rolls the same.
    pub const fn new(seed: u64) -> Self {
        Self(SeededEntropy::new(seed))
    }

    /// With the seed in `HANSA_TEST_SEED`, or a fresh one; prints which.
    #[expect(clippy::print_stdout, reason = "whoever reads of a failed test needs the seed")]
    pub fn of_environment() -> Self {
        let given = std::env::var("HANSA_TEST_SEED").ok().and_then(|text| text.parse().ok());
        let seed = given.unwrap_or_else(fresh);
        println!("seed {seed}: repeat with HANSA_TEST_SEED={seed}");
        Self::new(seed)
    }

    /// A number below `below`.
    pub fn roll(&self, below: u64) -> u64 {
        let entropy: &dyn Entropy = &self.0;
        entropy.u64() % below
    }

    /// A time below `below`, to the microsecond.
    pub fn wait(&self, below: Duration) -> Duration {
        Duration::from_micros(self.roll(u64::try_from(below.as_micros()).unwrap_or(u64::MAX)))
    }
}

fn fresh() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "a seed that differs from run to run")]
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |since| since.subsec_nanos().into())
}
