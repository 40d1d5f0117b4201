//! Passwords as argon2id, with the cost stored beside each hash.

use argon2::{Algorithm, Argon2, Params, Version};
use hansa_model::access::PasswordHash;
use hansa_model::limits::access as limits;
use hansa_model::{Entropy, Secret};

/// Hashes a new password at today's cost. Takes about 30 ms of a processor.
pub(super) fn hash(password: &str, entropy: &dyn Entropy) -> Option<PasswordHash> {
    let (memory, passes, lanes) = limits::HASH_COST;
    let mut stored = PasswordHash { memory, passes, lanes, salt: entropy.bytes::<16>(), hash: [0; 32] };
    stored.hash = *derive(&stored, password)?.expose();
    Some(stored)
}

/// Whether the password is the one that was hashed. Takes as long either way.
pub(super) fn verify(stored: &PasswordHash, password: &str) -> bool {
    derive(stored, password).is_some_and(|hash| hash == Secret::new(stored.hash))
}

/// What a name that nobody has is checked against: as much work, and no password fits.
pub(super) const fn decoy() -> PasswordHash {
    let (memory, passes, lanes) = limits::HASH_COST;
    PasswordHash { memory, passes, lanes, salt: [0; 16], hash: [0; 32] }
}

fn derive(cost: &PasswordHash, password: &str) -> Option<Secret<[u8; 32]>> {
    let params = Params::new(cost.memory, cost.passes, cost.lanes, Some(32)).ok()?;
    let mut hash = [0; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password.as_bytes(), &cost.salt, &mut hash)
        .ok()?;
    Some(Secret::new(hash))
}

#[cfg(test)]
mod tests {
    use hansa_storage::testing::SeededEntropy;

    use super::*;

    #[test]
    fn password_fits_its_own_hash_alone() {
        let entropy = SeededEntropy::new(1);
        let stored = hash("correct horse battery", &entropy).unwrap();

        assert!(verify(&stored, "correct horse battery"));
        assert!(!verify(&stored, "correct horse batterY") && !verify(&decoy(), ""));
        assert_ne!(stored.hash, hash("correct horse battery", &entropy).unwrap().hash);
        assert_eq!(format!("{stored:?}"), "[redacted]");
    }
}
