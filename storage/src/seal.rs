//! Sealing: what lies on the disk is useless without the root key.
//!
//! root key → tenant key → a fresh data key per value, all AES-256-GCM. The tenant key is random and lies
//! in the store, wrapped under the root key, so a root key held elsewhere (a passphrase, a transit engine)
//! can take the key file's place without touching a sealed value. The associated data of a value are its
//! table, its key and the envelope's version, so a record that is moved or relabelled does not open.
//! Deleting a record destroys its data key.
//!
//! A rotation (`rotation.rs`) gives the store another root key and another tenant key, and wraps the data keys
//! anew; values stay as they are. Until the last is wrapped anew the store knows both tenant keys, the former
//! under the former root key.
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
use std::sync::{Arc, PoisonError, RwLock};

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
const PREVIOUS_CONTEXT: &[u8] = b"hansa previous root key 1";
const PREVIOUS_PREFIX: &str = "previous ";

/// The key that everything sealed hangs on: 32 bytes, kept in a file of mode 0600. While a rotation runs, the
/// key before it as well.
#[derive(Clone)]
pub struct RootKey {
    key: Secret<[u8; KEY_BYTES]>,
    previous: Option<Secret<[u8; KEY_BYTES]>>,
}

impl std::fmt::Debug for RootKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RootKey([redacted])")
    }
}

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
        Self { key: Secret::new(bytes), previous: None }
    }

    /// The key itself, for whoever wraps it.
    pub const fn bytes(&self) -> &Secret<[u8; KEY_BYTES]> {
        &self.key
    }

    /// This key as the one that follows another.
    #[must_use]
    pub fn after(self, previous: &Self) -> Self {
        Self { previous: Some(previous.key.clone()), ..self }
    }

    /// Whether it holds the key before it.
    pub const fn has_previous(&self) -> bool {
        self.previous.is_some()
    }

    /// This key alone.
    #[must_use]
    pub fn alone(&self) -> Self {
        Self { key: self.key.clone(), previous: None }
    }

    /// The line of a key file that keeps the key before this one, sealed under this one; none without one.
    pub fn previous_line(&self, entropy: &dyn Entropy) -> Option<String> {
        let previous = self.previous.as_ref()?;
        let sealed = encrypt(&aead_key(self.key.expose()), entropy, PREVIOUS_CONTEXT, previous.expose());
        Some(format!("{PREVIOUS_PREFIX}{}", secret::hex(&sealed)))
    }

    /// Takes up the key before this one from [`Self::previous_line`]; none when the line is damaged, or is
    /// not of this key.
    pub fn with_previous_line(self, line: &str) -> Option<Self> {
        let sealed = unhex(line.strip_prefix(PREVIOUS_PREFIX)?)?;
        let key = decrypt(&aead_key(self.key.expose()), PREVIOUS_CONTEXT, &sealed).ok()?;
        let key = Secret::new(key.expose().as_slice().try_into().ok()?);
        Some(Self { previous: Some(key), ..self })
    }

    /// The text of a key file.
    pub fn file_text(&self, entropy: &dyn Entropy) -> Secret<String> {
        let mut text = format!("{KEY_FILE_PREFIX}{}\n", secret::hex(self.key.expose()));
        if let Some(line) = self.previous_line(entropy) {
            text.push_str(&line);
            text.push('\n');
        }
        Secret::new(text)
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
        let text = key.file_text(entropy);
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".new");
        let temporary = Path::new(&temporary);
        let mut file = disk::private_file(temporary, OpenOptions::new().create(true).truncate(true))?;
        file.write_all(text.expose().as_bytes())?;
        disk::publish(temporary, path)?;
        Ok(key)
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim_end();
        let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
        let digits = Secret::new(unhex(first.trim_end().strip_prefix(KEY_FILE_PREFIX)?)?);
        let key = Self::new(digits.expose().as_slice().try_into().ok()?);
        if rest.is_empty() { Some(key) } else { key.with_previous_line(rest) }
    }
}

/// Bytes from hexadecimal digits; none when there is anything else.
fn unhex(digits: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let byte = |pair: &[u8; 2]| {
        let [high, low] = pair.map(|digit| char::from(digit).to_digit(16));
        u8::try_from(high? * 16 + low?).ok()
    };
    pairs.iter().map(byte).collect()
}

/// A sealed value as stored. Only the store makes one.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Envelope(pub(crate) Vec<u8>);

impl Envelope {
    /// The record of a sealed table.
    pub(crate) fn to_record(&self, version: u8) -> Vec<u8> {
        postcard::to_extend(self, vec![version])
            .expect("an envelope is plain bytes, which always encode into memory")
    }

    /// Reads such a record, with its version.
    pub(crate) fn from_record(record: &[u8]) -> Option<(u8, Self)> {
        let (version, body) = record.split_first()?;
        Some((*version, postcard::from_bytes(body).ok()?))
    }
}

impl std::fmt::Debug for Envelope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Envelope({} bytes)", self.0.len())
    }
}

/// A value that does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unsealable;

/// The keys of a store as its notes hold them, wrapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredKeys {
    /// The tenant key, under the root key.
    pub(crate) tenant: Vec<u8>,
    /// While a rotation runs: the tenant key before it, under the root key before it, or in a backup that was
    /// taken meanwhile under the present one.
    pub(crate) previous: Option<Vec<u8>>,
    /// The key of fingerprints, under the root key; none before the first rotation, when it comes from the
    /// tenant key.
    pub(crate) fingerprint: Option<Vec<u8>>,
}

/// The sealer that a store uses now. The writer changes it, with the commit that makes it so.
#[derive(Debug)]
pub(crate) struct Sealers(RwLock<Arc<Sealer>>);

impl Sealers {
    pub(crate) fn new(sealer: Sealer) -> Self {
        Self(RwLock::new(Arc::new(sealer)))
    }

    pub(crate) fn present(&self) -> Arc<Sealer> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set(&self, sealer: Arc<Sealer>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = sealer;
    }
}

/// Seals and opens values of one store.
pub(crate) struct Sealer {
    tenant_key: LessSafeKey,
    previous: Option<Previous>,
    fingerprint_key: Secret<[u8; KEY_BYTES]>,
    fingerprints: hmac::Key,
    entropy: Arc<dyn Entropy>,
}

/// What a rotation leaves behind it, as long as it runs.
struct Previous {
    /// None: the key file does not hold the former root key any more.
    key: Option<LessSafeKey>,
    /// The former tenant key under the present root key, for backups.
    portable: Option<Vec<u8>>,
}

/// What wrapping a data key anew came to.
#[derive(Debug)]
pub(crate) enum Rewrapped {
    /// It is wrapped by the present tenant key already.
    Already,
    /// The envelope to store in its place; the value in it is untouched.
    Anew(Envelope),
    /// No key that is known opens it.
    Unreadable,
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
        encrypt(&aead_key(root.key.expose()), entropy, TENANT_CONTEXT, key.expose())
    }

    /// Opens the stored tenant keys. A former one that does not open leaves its values unreadable, and the
    /// others readable.
    pub(crate) fn open(
        root: &RootKey,
        stored: &StoredKeys,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, Unsealable> {
        let present = aead_key(root.key.expose());
        let key = decrypt_key(&present, TENANT_CONTEXT, &stored.tenant)?;
        let fingerprint_key = match &stored.fingerprint {
            Some(wrapped) => decrypt_key(&present, FINGERPRINT_CONTEXT, wrapped)?,
            None => {
                let root = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
                let mut derived = [0; KEY_BYTES];
                derived.copy_from_slice(hmac::sign(&root, FINGERPRINT_CONTEXT).as_ref());
                Secret::new(derived)
            }
        };
        let previous = stored.previous.as_ref().map(|wrapped| {
            let former = root.previous.as_ref().map(|root| aead_key(root.expose()));
            let opened = [former.as_ref(), Some(&present)]
                .into_iter()
                .flatten()
                .find_map(|root| decrypt_key(root, TENANT_CONTEXT, wrapped).ok());
            Previous {
                key: opened.as_ref().map(|key| aead_key(key.expose())),
                portable: opened.map(|key| encrypt(&present, &*entropy, TENANT_CONTEXT, key.expose())),
            }
        });
        Ok(Self {
            tenant_key: aead_key(key.expose()),
            previous,
            fingerprints: hmac::Key::new(hmac::HMAC_SHA256, fingerprint_key.expose()),
            fingerprint_key,
            entropy,
        })
    }

    /// The keys as they are stored when another root key takes over: a fresh tenant key, and beside it the
    /// present one as it lies under the present root key.
    pub(crate) fn keys_for(&self, root: &RootKey, stored: &StoredKeys) -> StoredKeys {
        let fingerprint_key = self.fingerprint_key.expose();
        let root_key = aead_key(root.key.expose());
        StoredKeys {
            tenant: Self::new_tenant_key(root, &*self.entropy),
            previous: Some(stored.tenant.clone()),
            fingerprint: Some(encrypt(&root_key, &*self.entropy, FINGERPRINT_CONTEXT, fingerprint_key)),
        }
    }

    /// The same sealer without the key from before the rotation.
    pub(crate) fn settled(&self) -> Self {
        Self {
            tenant_key: self.tenant_key.clone(),
            previous: None,
            fingerprint_key: self.fingerprint_key.clone(),
            fingerprints: self.fingerprints.clone(),
            entropy: Arc::clone(&self.entropy),
        }
    }

    pub(crate) fn entropy(&self) -> &Arc<dyn Entropy> {
        &self.entropy
    }

    /// Whether there is a key from before a rotation, known or lost.
    pub(crate) const fn is_rotating(&self) -> bool {
        self.previous.is_some()
    }

    /// Whether values from before a rotation are left and their key is lost.
    pub(crate) fn has_lost_key(&self) -> bool {
        self.previous.as_ref().is_some_and(|previous| previous.key.is_none())
    }

    /// The former tenant key as a backup takes it along.
    pub(crate) fn portable_previous(&self) -> Option<&[u8]> {
        self.previous.as_ref()?.portable.as_deref()
    }

    /// Wraps an envelope's data key by the present tenant key.
    pub(crate) fn rewrap(&self, table: &str, key: &[u8], envelope: &Envelope) -> Rewrapped {
        if self.tenant_keys().next().is_some_and(|present| data_key(present, table, key, envelope).is_some())
        {
            return Rewrapped::Already;
        }
        let former =
            self.tenant_keys().nth(1).and_then(|key_before| data_key(key_before, table, key, envelope));
        former.map_or(Rewrapped::Unreadable, |data_key| {
            Rewrapped::Anew(self.wrapped_anew(table, key, envelope, &data_key))
        })
    }

    /// An envelope that another sealer of the store made, wrapped by the present tenant key.
    pub(crate) fn adopt(&self, by: &Self, table: &str, key: &[u8], envelope: &Envelope) -> Envelope {
        match data_key(&by.tenant_key, table, key, envelope) {
            Some(data_key) => self.wrapped_anew(table, key, envelope, &data_key),
            None => envelope.clone(),
        }
    }

    fn wrapped_anew(
        &self,
        table: &str,
        key: &[u8],
        envelope: &Envelope,
        data_key: &Secret<[u8; KEY_BYTES]>,
    ) -> Envelope {
        let mut bytes = envelope.0.clone();
        let wrapped = encrypt(&self.tenant_key, &*self.entropy, &context(table, key), data_key.expose());
        bytes[1..=WRAPPED_BYTES].copy_from_slice(&wrapped);
        Envelope(bytes)
    }

    /// The tenant keys that are known, the present one first.
    fn tenant_keys(&self) -> impl Iterator<Item = &LessSafeKey> {
        std::iter::once(&self.tenant_key).chain(self.previous.as_ref().and_then(|former| former.key.as_ref()))
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
        let mut mac = hmac::Context::with_key(&self.fingerprints);
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
        let data_key = self
            .tenant_keys()
            .find_map(|tenant_key| data_key(tenant_key, table, key, envelope))
            .ok_or(Unsealable)?;
        let sealed = envelope.0.get(1 + WRAPPED_BYTES..).ok_or(Unsealable)?;
        decrypt(&aead_key(data_key.expose()), &context(table, key), sealed)
    }
}

/// An envelope's data key; none when this tenant key does not open it.
fn data_key(
    tenant_key: &LessSafeKey,
    table: &str,
    key: &[u8],
    envelope: &Envelope,
) -> Option<Secret<[u8; KEY_BYTES]>> {
    let (version, rest) = envelope.0.split_first()?;
    let (wrapped, _) = rest.split_at_checked(WRAPPED_BYTES)?;
    if *version != ENVELOPE_VERSION {
        return None;
    }
    decrypt_key(tenant_key, &context(table, key), wrapped).ok()
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

fn decrypt_key(
    key: &LessSafeKey,
    context: &[u8],
    bytes: &[u8],
) -> Result<Secret<[u8; KEY_BYTES]>, Unsealable> {
    let plain = decrypt(key, context, bytes)?;
    plain.expose().as_slice().try_into().map(Secret::new).map_err(|_| Unsealable)
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
