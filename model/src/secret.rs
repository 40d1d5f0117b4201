//! Values that must never be seen, and the tokens made of them.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroize;

use crate::Entropy;

/// A value that prints as `[redacted]`, has no `Serialize`, and is wiped when dropped.
#[derive(Clone)]
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Wraps a value; from here on only [`Secret::expose`] reaches it.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself. Every call is a place to review.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl<T: Zeroize + AsRef<[u8]>> PartialEq for Secret<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_ref().ct_eq(other.0.as_ref()).into()
    }
}

impl<T: Zeroize + AsRef<[u8]>> Eq for Secret<T> {}

/// SHA-256 of a token's UTF-8 text: all that a verifier keeps, and the key it looks the token up by.
pub type TokenHash = [u8; 32];

/// Makes an enrollment token or bearer: 32 random bytes in URL-safe base64, 43 characters (contract 1.4).
pub fn generate_token(entropy: &dyn Entropy) -> Secret<String> {
    let mut bytes = entropy.bytes::<32>();
    let token = URL_SAFE_NO_PAD.encode(bytes);
    bytes.zeroize();
    Secret::new(token)
}

/// The stored form of a token (contract 1.4).
pub fn token_hash(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).into()
}

/// Lower-case hexadecimal, the spelling of every hash and fingerprint in the contract.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A hash from its hexadecimal spelling, either case; none when the text is not 64 digits.
pub fn parse_hash(text: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (place, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(place * 2..place * 2 + 2)?, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_prints_redacted() {
        assert_eq!(format!("{:?}", Secret::new("hunter2".to_owned())), "[redacted]");
    }

    #[test]
    fn token_hash_matches_the_contract_vector() {
        assert_eq!(
            hex(&token_hash("smoke-inbound-bearer")),
            "ab1280330bb867394a19925810be656b521f200a2cc64f3c311ab293ddc8252a"
        );
    }
}
