//! Who a node is: its Ed25519 identity key, the public keys of peers, and how both are written down.
//!
//! A peer is exactly its public key; names, addresses and certificates are only ways to find it.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::pkcs8::DecodePrivateKey as _;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};

use hansa_model::secret::hex;
use hansa_model::{Entropy, Secret};

/// DER of an Ed25519 SubjectPublicKeyInfo up to the key itself (RFC 8410, section 4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// DER of an Ed25519 PKCS#8 version 1 private key up to the seed itself (RFC 8410, section 7).
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
const PEM_BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const PEM_END: &str = "-----END PUBLIC KEY-----";
/// Far above the 113 bytes of the canonical text, far below anything worth attacking with.
const PEM_BYTES_MAX: usize = 1_024;

/// A text or bytes that are no Ed25519 public key. Ask for what `hansa identity show` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not an Ed25519 public key in PEM: paste what `hansa identity show` prints at the peer")]
pub struct InvalidPublicKey;

/// Bytes that are no Ed25519 private key in PKCS#8. The stored key is damaged: restore it from a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stored identity key is not an Ed25519 key in PKCS#8: restore it from a backup")]
pub struct InvalidPrivateKey;

/// A peer's Ed25519 identity key: a valid point of full order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Checks raw bytes, as they are stored in a site's row.
    ///
    /// # Errors
    /// The bytes are no point of the curve, or one of the few of small order, for which anybody can sign.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, InvalidPublicKey> {
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| InvalidPublicKey)?;
        if key.is_weak() {
            return Err(InvalidPublicKey);
        }
        Ok(Self(bytes))
    }

    /// Reads a pasted PEM text; white space around it and line breaks within do not matter.
    ///
    /// # Errors
    /// The text is anything but exactly one Ed25519 SubjectPublicKeyInfo.
    pub fn from_pem(text: &str) -> Result<Self, InvalidPublicKey> {
        let text = text.trim();
        if text.len() > PEM_BYTES_MAX {
            return Err(InvalidPublicKey);
        }
        let body = text
            .strip_prefix(PEM_BEGIN)
            .and_then(|rest| rest.strip_suffix(PEM_END))
            .ok_or(InvalidPublicKey)?;
        let body: String = body.split_ascii_whitespace().collect();
        let der = STANDARD.decode(body).map_err(|_| InvalidPublicKey)?;
        Self::from_spki_der(&der)
    }

    /// Reads a DER SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// It is anything but an Ed25519 key.
    pub fn from_spki_der(der: &[u8]) -> Result<Self, InvalidPublicKey> {
        let key = der.strip_prefix(&SPKI_PREFIX).ok_or(InvalidPublicKey)?;
        Self::from_bytes(key.try_into().map_err(|_| InvalidPublicKey)?)
    }

    /// The 32 bytes of the key.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The DER SubjectPublicKeyInfo, 44 bytes.
    pub fn to_spki_der(&self) -> Vec<u8> {
        [SPKI_PREFIX.as_slice(), &self.0].concat()
    }

    /// The canonical PEM text of 113 bytes, final line break included (contract 1.2).
    pub fn to_pem(&self) -> String {
        format!("{PEM_BEGIN}\n{}\n{PEM_END}\n", STANDARD.encode(self.to_spki_der()))
    }

    /// Lower-case hexadecimal SHA-256 over the canonical PEM text: what people compare (contract 1.2).
    pub fn fingerprint(&self) -> String {
        hex(&Sha256::digest(self.to_pem().as_bytes()))
    }

    /// Whether `signature` is this key's over `message`. Bytes that are no signature are not.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let Ok(key) = VerifyingKey::from_bytes(&self.0) else { return false };
        let Ok(signature) = Signature::from_slice(signature) else { return false };
        key.verify_strict(message, &signature).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fingerprint())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

/// A node's Ed25519 identity key. It prints redacted and is wiped when dropped.
#[derive(Clone)]
pub struct IdentityKey(SigningKey);

impl IdentityKey {
    /// Makes a new key from 32 random bytes.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        Self::from_seed(&Secret::new(entropy.bytes::<32>()))
    }

    /// The key of a seed (RFC 8032, section 5.1.5).
    pub fn from_seed(seed: &Secret<[u8; 32]>) -> Self {
        Self(SigningKey::from_bytes(seed.expose()))
    }

    /// Reads PKCS#8 DER, version 1 or 2.
    ///
    /// # Errors
    /// The bytes are damaged, of another kind of key, or name another public key than their own.
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, InvalidPrivateKey> {
        SigningKey::from_pkcs8_der(der).map(Self).map_err(|_| InvalidPrivateKey)
    }

    /// Reads PKCS#8 PEM, the form of upstream's key file (contract 1.1).
    ///
    /// # Errors
    /// See [`IdentityKey::from_pkcs8_der`].
    pub fn from_pkcs8_pem(pem: &str) -> Result<Self, InvalidPrivateKey> {
        SigningKey::from_pkcs8_pem(pem.trim()).map(Self).map_err(|_| InvalidPrivateKey)
    }

    /// PKCS#8 version 1 DER, 48 bytes: the form to seal and store.
    pub fn to_pkcs8(&self) -> Secret<Vec<u8>> {
        let mut der = Vec::with_capacity(PKCS8_PREFIX.len() + 32);
        der.extend_from_slice(&PKCS8_PREFIX);
        der.extend_from_slice(self.0.as_bytes());
        Secret::new(der)
    }

    /// The public half, to give to peers.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs a message. Deterministic.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdentityKey([redacted] of {})", self.public())
    }
}

/// The name under which the keyring stores a trusted peer (contract 1.3). Never empty, never a path.
pub fn keyring_slug(name: &str) -> String {
    let mut slug = String::with_capacity(name.len());
    let mut in_gap = false;
    for character in name.trim().chars() {
        if character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-') {
            slug.push(character);
            in_gap = false;
        } else if !in_gap {
            slug.push('-');
            in_gap = true;
        }
    }
    let slug = slug.trim_matches(['-', '.', '_']);
    if slug.is_empty() { "peer".to_owned() } else { slug.to_owned() }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The identity of the contract's test vectors: seed 00 01 02 … 1f.
    pub(crate) fn vector_identity() -> IdentityKey {
        IdentityKey::from_seed(&Secret::new(std::array::from_fn(|i| u8::try_from(i).unwrap())))
    }

    const VECTOR_BODY: &str = "MCowBQYDK2VwAyEAA6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=";
    const VECTOR_FINGERPRINT: &str = "f0ff50dacf109dea7f716d7c03eb7a821aa3a283fd3fa02f4c14dbba7d3c3322";

    #[test]
    fn public_key_and_fingerprint_match_the_contract_vector() {
        let public = vector_identity().public();

        assert_eq!(
            public.to_pem(),
            format!("-----BEGIN PUBLIC KEY-----\n{VECTOR_BODY}\n-----END PUBLIC KEY-----\n")
        );
        assert_eq!(public.to_pem().len(), 113);
        assert_eq!(public.fingerprint(), VECTOR_FINGERPRINT);
    }

    #[test]
    fn white_space_of_a_pasted_key_does_not_matter() {
        let public = vector_identity().public();
        let (left, right) = VECTOR_BODY.split_at(30);

        for text in [
            format!("\r\n  {}\n\n", public.to_pem()),
            public.to_pem().replace('\n', "\r\n"),
            format!("{PEM_BEGIN}\n{left}\n {right}\n{PEM_END}"),
        ] {
            assert_eq!(PublicKey::from_pem(&text), Ok(public), "{text}");
        }
    }

    #[test]
    fn everything_but_one_ed25519_public_key_is_refused() {
        let pem = vector_identity().public().to_pem();
        let x25519 = pem.replace("MCowBQYDK2VwAyEA", "MCowBQYDK2VuAyEA");
        let mut of_small_order = SPKI_PREFIX.to_vec();
        of_small_order.extend([0; 32]);
        let mut trailing = vector_identity().public().to_spki_der();
        trailing.push(0);
        let wrap = |der: &[u8]| format!("{PEM_BEGIN}\n{}\n{PEM_END}\n", STANDARD.encode(der));

        for text in [
            String::new(),
            "not a key".to_owned(),
            VECTOR_BODY.to_owned(),
            format!("{pem}{pem}"),
            pem.replace("PUBLIC", "PRIVATE"),
            pem.replace("Mbg=", "Mbg"),
            x25519,
            wrap(&of_small_order),
            wrap(&trailing),
            wrap(&[]),
            format!("{PEM_BEGIN}{}{PEM_END}", " ".repeat(5_000)),
        ] {
            assert_eq!(PublicKey::from_pem(&text), Err(InvalidPublicKey), "{text}");
        }
    }

    #[test]
    fn private_key_survives_storage_and_never_prints() {
        let key = vector_identity();

        let stored = key.to_pkcs8();
        let back = IdentityKey::from_pkcs8_der(stored.expose()).unwrap();

        assert_eq!(back.public(), key.public());
        assert_eq!(back.sign(b"message"), key.sign(b"message"));
        assert_eq!(format!("{key:?}"), format!("IdentityKey([redacted] of {VECTOR_FINGERPRINT})"));
        assert_eq!(format!("{stored:?}"), "[redacted]");
    }

    #[test]
    fn private_key_as_openssl_writes_it_is_read_and_a_damaged_one_is_not() {
        let pem = "-----BEGIN PRIVATE KEY-----\n\
                   MC4CAQAwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f\n\
                   -----END PRIVATE KEY-----\n";

        assert_eq!(IdentityKey::from_pkcs8_pem(pem).unwrap().public(), vector_identity().public());
        assert!(IdentityKey::from_pkcs8_pem(&pem.replace("YHCA", "")).is_err());
        assert!(IdentityKey::from_pkcs8_der(&[]).is_err());
    }

    #[test]
    fn signature_holds_for_its_message_and_key_alone() {
        let key = vector_identity();
        let other = IdentityKey::from_seed(&Secret::new([9; 32]));
        let signature = key.sign(b"message");

        assert!(key.public().verify(b"message", &signature));
        assert!(!key.public().verify(b"massage", &signature));
        assert!(!other.public().verify(b"message", &signature));
        assert!(!key.public().verify(b"message", &signature[..63]));
        assert!(!key.public().verify(b"message", &[]));
    }

    #[test]
    fn slug_keeps_safe_characters_and_is_never_a_path() {
        for (name, slug) in [
            ("Site Alpha!", "Site-Alpha"),
            ("  a  b  ", "a-b"),
            ("../../etc/passwd", "etc-passwd"),
            ("..", "peer"),
            ("", "peer"),
            ("-._", "peer"),
            ("köln/1", "k-ln-1"),
            ("a_b.c-d", "a_b.c-d"),
            ("a\0b\\c", "a-b-c"),
        ] {
            assert_eq!(keyring_slug(name), slug, "{name}");
        }
    }
}
