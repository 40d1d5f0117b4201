//! Sealing: what lies on the disk is useless without the root key.
//!
//! root key → tenant key → a fresh data key per value, all AES-256-GCM. The tenant key is random and lies
//! in the store, wrapped under the root key, so a root key held elsewhere (a passphrase, a transit engine)
//! can take the key file's place without touching a sealed value. The associated data of a value are its
//! table, its key and the envelope's version, so a record that is moved or relabelled does not open.
//! Deleting a record destroys its data key.
//!
//! Envelope, 109 bytes and the value:
//!
//! ```text
//! 1 version | 12 nonce | 32+16 data key under the tenant key | 12 nonce | n+16 value under the data key
//! ```

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use hansa_model::{Entropy, Secret, secret};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hmac;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

use crate::disk;

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
const WRAPPED_BYTES: usize = NONCE_BYTES + KEY_BYTES + TAG_BYTES;
const ENVELOPE_VERSION: u8 = 1;
const KEY_FILE_PREFIX: &str = "hansa-root-key-1 ";
const TENANT_CONTEXT: &[u8] = b"hansa tenant key 1";
const FINGERPRINT_CONTEXT: &[u8] = b"hansa fingerprint key 1";

/// The key that everything sealed hangs on: 32 bytes, kept in a file of mode 0600.
#[derive(Debug, Clone)]
pub struct RootKey(Secret<[u8; KEY_BYTES]>);

/// Why a root key could not be had.
#[derive(Debug, thiserror::Error)]
pub enum RootKeyError {
    /// The file is not a key file.
    #[error("the root key file does not hold a root key: put the original back")]
    Malformed,
    /// The file cannot be read or made.
    #[error("the root key file cannot be read or written: check its path and owner")]
    Io(#[from] io::Error),
}

impl RootKey {
    /// A key from elsewhere; exactly 32 bytes that nobody can guess.
    pub const fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(Secret::new(bytes))
    }

    /// The key itself, for whoever wraps it.
    pub const fn bytes(&self) -> &Secret<[u8; KEY_BYTES]> {
        &self.0
    }

    /// Reads a key file, or makes one with mode 0600 when there is none; durable when this returns.
    ///
    /// # Errors
    /// [`RootKeyError`]; an existing file is never replaced.
    pub fn load_or_create(path: &Path, entropy: &dyn Entropy) -> Result<Self, RootKeyError> {
        match fs::read_to_string(path) {
            Ok(text) => {
                let text = Secret::new(text);
                let key = Self::parse(text.expose()).ok_or(RootKeyError::Malformed)?;
                fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
                Ok(key)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::create(path, entropy),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(RootKeyError::Malformed),
            Err(error) => Err(error.into()),
        }
    }

    fn create(path: &Path, entropy: &dyn Entropy) -> Result<Self, RootKeyError> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty())
            && !folder.try_exists()?
        {
            disk::create_private_folder(folder)?;
        }
        let key = Self::new(entropy.bytes());
        let text = Secret::new(format!("{KEY_FILE_PREFIX}{}\n", secret::hex(key.0.expose())));
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".new");
        let temporary = Path::new(&temporary);
        let mut file = disk::private_file(temporary, OpenOptions::new().create(true).truncate(true))?;
        file.write_all(text.expose().as_bytes())?;
        disk::publish(temporary, path)?;
        Ok(key)
    }

    fn parse(text: &str) -> Option<Self> {
        let digits = text.trim_end().strip_prefix(KEY_FILE_PREFIX)?.as_bytes();
        if digits.len() != KEY_BYTES * 2 {
            return None;
        }
        let mut key = [0; KEY_BYTES];
        for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
            let [high, low] = [pair[0], pair[1]].map(|digit| char::from(digit).to_digit(16));
            *byte = u8::try_from(high? * 16 + low?).ok()?;
        }
        Some(Self::new(key))
    }
}

/// A sealed value as stored. Only the store makes one.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Envelope(pub(crate) Vec<u8>);

impl std::fmt::Debug for Envelope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Envelope({} bytes)", self.0.len())
    }
}

/// A value that does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unsealable;

/// Seals and opens values of one store.
pub(crate) struct Sealer {
    tenant_key: LessSafeKey,
    fingerprint_key: hmac::Key,
    entropy: Arc<dyn Entropy>,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer([redacted])")
    }
}

impl Sealer {
    /// Makes a tenant key, wrapped under the root key for storage.
    pub(crate) fn new_tenant_key(root: &RootKey, entropy: &dyn Entropy) -> Vec<u8> {
        let key = Secret::new(entropy.bytes::<KEY_BYTES>());
        encrypt(&aead_key(root.0.expose()), entropy, TENANT_CONTEXT, key.expose())
    }

    /// Opens the stored tenant key.
    pub(crate) fn open(
        root: &RootKey,
        wrapped: &[u8],
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, Unsealable> {
        let key = decrypt(&aead_key(root.0.expose()), TENANT_CONTEXT, wrapped)?;
        let key: Secret<[u8; KEY_BYTES]> =
            Secret::new(key.expose().as_slice().try_into().map_err(|_| Unsealable)?);
        let root = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
        let fingerprint_key =
            hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&root, FINGERPRINT_CONTEXT).as_ref());
        Ok(Self { tenant_key: aead_key(key.expose()), fingerprint_key, entropy })
    }

    /// Seals a value for one place of one table.
    pub(crate) fn seal(&self, table: &str, key: &[u8], value: &[u8]) -> Envelope {
        let context = context(table, key);
        let data_key = Secret::new(self.entropy.bytes::<KEY_BYTES>());
        let mut envelope = vec![ENVELOPE_VERSION];
        envelope.extend(encrypt(&self.tenant_key, &*self.entropy, &context, data_key.expose()));
        envelope.extend(encrypt(&aead_key(data_key.expose()), &*self.entropy, &context, value));
        Envelope(envelope)
    }

    /// A keyed fingerprint of a value: equal for equal values of one owner, and nothing can be guessed from it
    /// without the tenant key.
    pub(crate) fn fingerprint(&self, owner: &str, value: &[u8]) -> [u8; 16] {
        let mut mac = hmac::Context::with_key(&self.fingerprint_key);
        mac.update(owner.as_bytes());
        mac.update(&[0]);
        mac.update(value);
        let mut fingerprint = [0; 16];
        fingerprint.copy_from_slice(&mac.sign().as_ref()[..16]);
        fingerprint
    }

    /// Opens the value that was sealed for this place.
    pub(crate) fn unseal(
        &self,
        table: &str,
        key: &[u8],
        envelope: &Envelope,
    ) -> Result<Secret<Vec<u8>>, Unsealable> {
        let context = context(table, key);
        let (version, rest) = envelope.0.split_first().ok_or(Unsealable)?;
        if *version != ENVELOPE_VERSION {
            return Err(Unsealable);
        }
        let (wrapped, sealed) = rest.split_at_checked(WRAPPED_BYTES).ok_or(Unsealable)?;
        let data_key = decrypt(&self.tenant_key, &context, wrapped)?;
        let data_key: Secret<[u8; KEY_BYTES]> =
            Secret::new(data_key.expose().as_slice().try_into().map_err(|_| Unsealable)?);
        decrypt(&aead_key(data_key.expose()), &context, sealed)
    }
}

/// The associated data of a value: where it lies, and as what.
fn context(table: &str, key: &[u8]) -> Vec<u8> {
    [&[ENVELOPE_VERSION], table.as_bytes(), &[0], key].concat()
}

fn aead_key(bytes: &[u8; KEY_BYTES]) -> LessSafeKey {
    let unbound = UnboundKey::new(&AES_256_GCM, bytes).expect("the key has the length that AES-256 needs");
    LessSafeKey::new(unbound)
}

/// Nonce, then ciphertext and tag.
fn encrypt(key: &LessSafeKey, entropy: &dyn Entropy, context: &[u8], value: &[u8]) -> Vec<u8> {
    let nonce = entropy.bytes::<NONCE_BYTES>();
    let mut bytes = Vec::with_capacity(NONCE_BYTES + value.len() + TAG_BYTES);
    bytes.extend_from_slice(&nonce);
    bytes.extend_from_slice(value);
    let tag = key
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(context),
            &mut bytes[NONCE_BYTES..],
        )
        .expect("a value is far shorter than the 64 GiB that AES-GCM takes");
    bytes.extend_from_slice(tag.as_ref());
    bytes
}

fn decrypt(key: &LessSafeKey, context: &[u8], bytes: &[u8]) -> Result<Secret<Vec<u8>>, Unsealable> {
    let (nonce, sealed) = bytes.split_at_checked(NONCE_BYTES).ok_or(Unsealable)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Unsealable)?;
    let mut buffer = sealed.to_vec();
    let Ok(plain) = key.open_in_place(nonce, Aad::from(context), &mut buffer) else {
        buffer.zeroize();
        return Err(Unsealable);
    };
    let len = plain.len();
    buffer.truncate(len);
    Ok(Secret::new(buffer))
}
