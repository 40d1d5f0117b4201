//! The seam to randomness: production draws from the operating system, a simulation from its seed.

/// A source of bytes that nobody can guess.
///
/// Implementations must be cryptographically strong in production: tokens and data keys come from here.
pub trait Entropy: Send + Sync + std::fmt::Debug {
    /// Fills `bytes` completely.
    ///
    /// # Panics
    /// When the operating system has no randomness to give; nothing sensible can follow.
    fn fill(&self, bytes: &mut [u8]);
}

impl dyn Entropy + '_ {
    /// Draws a fixed number of bytes.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }

    /// Draws a whole number, uniform over all of `u64`.
    pub fn u64(&self) -> u64 {
        u64::from_le_bytes(self.bytes())
    }
}
