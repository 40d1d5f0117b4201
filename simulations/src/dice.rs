//! Seeds and the dice that are thrown from them.
//!
//! Every part of the world (network, each disk, the schedule of faults, each boot of a host) has its own
//! stream, derived from the seed and a label, so that a draw more in one part never shifts another part.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Derives the seed of one part of the world from the seed of the whole.
pub fn derive(seed: u64, label: &str, index: u64) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(&index.to_le_bytes());
    hasher.update(label.as_bytes());
    *hasher.finalize().as_bytes()
}

/// A stream of chance that is a function of its seed alone.
#[derive(Debug, Clone)]
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// The stream of one part of the world.
    pub fn new(seed: u64, label: &str, index: u64) -> Self {
        Self::from_seed(derive(seed, label, index))
    }

    /// The stream of a derived seed.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(ChaCha8Rng::from_seed(seed))
    }

    /// A whole number, uniform over all of `u64`.
    pub fn number(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A whole number in `0..bound`; zero when `bound` is zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The high half of a 128-bit product; its bias is below 2^-32 for every bound in use.
        let wide = u128::from(self.number()) * u128::from(bound);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// A whole number in `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// An index into a list of `length` entries; zero when it is empty.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    /// A span in `low..=high`, in whole milliseconds.
    pub fn span(&mut self, low: Duration, high: Duration) -> Duration {
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.between(millis(low), millis(high)))
    }

    /// True with the given probability. Always draws, so that a rate of zero shifts nothing.
    pub fn chance(&mut self, probability: f64) -> bool {
        let unit = (self.number() >> 11) as f64 / (1_u64 << 53) as f64;
        unit < probability
    }

    /// Fills `bytes` completely.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_by_seed_and_differ_by_label_and_index() {
        let throw = |seed, label, index| Dice::new(seed, label, index).number();

        let first = throw(1, "network", 0);

        assert_eq!(first, throw(1, "network", 0));
        assert_ne!(first, throw(2, "network", 0));
        assert_ne!(first, throw(1, "disk", 0));
        assert_ne!(first, throw(1, "network", 1));
    }

    #[test]
    fn bounds_hold_at_their_edges() {
        let mut dice = Dice::new(7, "edges", 0);

        assert_eq!(dice.below(0), 0);
        assert_eq!(dice.between(5, 5), 5);
        assert!((0..1_000).all(|_| (3..=9).contains(&dice.between(3, 9))));
        assert!(!dice.chance(0.0));
        assert!(dice.chance(1.0));
    }
}
