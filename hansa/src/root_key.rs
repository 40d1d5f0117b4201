//! Where the root key comes from: a key file, a passphrase that only people and service managers know, or a
//! transit engine that wraps it.
//!
//! With a passphrase the file holds salt and cost alone (argon2id), with a transit engine the data folder
//! holds the wrapped key; either way the folder and its backups open nothing by themselves. A node begins
//! with one of them, and can be moved to a transit engine.

mod transit;

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use hansa_model::secret::hex;
use hansa_model::{Entropy, Secret};
use hansa_storage::RootKey;

use crate::cli::failure::{Exit, Failure, chain};
use crate::config::{Layer, Transit, TransitLayer};
use crate::system::SystemEntropy;
use transit::TransitEngine;

/// Name of the wrapped root key in a data folder.
pub(crate) const WRAPPED_KEY_FILE: &str = "root.key.transit";
const WRAPPED_PREFIX: &str = "hansa-root-key-transit-1 ";

/// Names a file with the passphrase; never the passphrase itself, which would show in process lists.
pub(crate) const PASSPHRASE_FILE: &str = "HANSA_ROOT_KEY_PASSPHRASE_FILE";
/// The name of a service manager's credential with the passphrase.
const CREDENTIAL: &str = "hansa-root-key-passphrase";
const PREFIX: &str = "hansa-root-key-argon2id-1 ";
const SALT_BYTES: usize = 16;
/// Memory in KiB, passes and lanes: the first recommendation of RFC 9106 scaled to a node that starts on
/// a small machine; about 0.2 s on one core. They are stored, so a later version may raise them.
const COST: (u32, u32, u32) = (65_536, 3, 1);

/// Where one node's root key may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    /// Its data folder.
    pub(crate) data_dir: &'a Path,
    /// Its key file, with the key or with salt and cost.
    pub(crate) key_file: &'a Path,
    /// The transit engine that wraps it.
    pub(crate) transit: Option<&'a Transit>,
}

/// A root key, and what is left to do once it has opened the store.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The key.
    pub(crate) key: RootKey,
    /// A key that moves to a transit engine: where its wrapped form goes, and where the key file lies.
    moving: Option<(PathBuf, String, PathBuf)>,
}

impl Source<'_> {
    /// Reads the root key, or makes one on the first start; what it makes is durable on return.
    ///
    /// # Errors
    /// A file is lost, damaged or needs a passphrase that nobody gave, or the transit engine does not
    /// give the key.
    pub(crate) async fn load(self) -> Result<Loaded, Failure> {
        let has_store = self.data_dir.join(hansa_storage::disk::STORE_FILE).exists();
        let wrapped = self.data_dir.join(WRAPPED_KEY_FILE);
        let Some(transit) = self.transit else {
            if wrapped.exists() && !self.key_file.exists() {
                let what = format!("{}: the root key is in a transit engine", wrapped.display());
                return Err(Failure::new(Exit::Failed, what)
                    .next("[root_key_transit] in the configuration, as when the node first started"));
            }
            if has_store && !self.key_file.exists() {
                let what = format!("there is no root key at {}", self.key_file.display());
                return Err(Failure::new(Exit::Failed, format!("{}: {what}", self.data_dir.display()))
                    .next("put the key file back, or name it with --root-key-file"));
            }
            return Ok(Loaded { key: load_or_create(self.key_file)?, moving: None });
        };
        if !wrapped.exists() && has_store && !self.key_file.exists() {
            return Err(Failure::new(
                Exit::Failed,
                format!("{}: the wrapped root key is lost", wrapped.display()),
            )
            .next("put root.key.transit back, from a copy of the data folder"));
        }
        let engine = TransitEngine::open(transit).await?;
        let loaded = self.load_wrapped(&engine, wrapped, has_store).await;
        engine.close().await;
        loaded
    }

    async fn load_wrapped(
        self,
        engine: &TransitEngine<'_>,
        path: PathBuf,
        has_store: bool,
    ) -> Result<Loaded, Failure> {
        let failed = |what: String| Failure::new(Exit::Failed, format!("{}: {what}", path.display()));
        if path.exists() {
            let text = std::fs::read_to_string(&path).map_err(|error| failed(error.to_string()))?;
            let ciphertext = text.trim_end().strip_prefix(WRAPPED_PREFIX);
            let ciphertext = ciphertext.ok_or_else(|| {
                failed("it does not hold a wrapped root key: put the original back".to_owned())
            })?;
            return Ok(Loaded { key: engine.unwrap(ciphertext).await?, moving: None });
        }
        let key = if has_store {
            load_or_create(self.key_file)?
        } else {
            let entropy: &dyn Entropy = &SystemEntropy;
            RootKey::new(entropy.bytes())
        };
        let text = format!("{WRAPPED_PREFIX}{}\n", engine.wrap(&key).await?);
        if has_store {
            let moving = Some((path, text, self.key_file.to_owned()));
            return Ok(Loaded { key, moving });
        }
        hansa_storage::disk::DirDisk::new(self.data_dir).map_err(|error| failed(error.to_string()))?;
        write(&path, &text).map_err(|error| failed(error.to_string()))?;
        Ok(Loaded { key, moving: None })
    }
}

impl Loaded {
    /// Notes that the key has opened the store, so that a key of another node is never put in its place.
    ///
    /// # Errors
    /// The wrapped key cannot be written; the key file still opens the store.
    pub(crate) fn settle(self) -> Result<(), Failure> {
        let Some((path, text, key_file)) = self.moving else { return Ok(()) };
        write(&path, &text)
            .map_err(|error| Failure::new(Exit::Failed, format!("{}: {error}", path.display())))?;
        tracing::warn!(
            wrapped = %path.display(),
            key_file = %key_file.display(),
            "the root key is wrapped by the transit engine from now on: remove the key file"
        );
        Ok(())
    }
}

/// The transit engine of a node whose store a command opens by itself: read from where a node reads its
/// configuration, and only when the data folder says that there is one.
///
/// # Errors
/// The configuration is not valid.
pub(crate) fn transit_of(data_dir: &Path) -> Result<TransitLayer, Failure> {
    if !data_dir.join(WRAPPED_KEY_FILE).exists() {
        return Ok(TransitLayer::default());
    }
    let file = std::env::var_os("HANSA_CONFIG").map(PathBuf::from);
    Layer::of_files_and_environment(file.as_deref())
        .map(|layer| layer.root_key_transit)
        .map_err(|error| Failure::usage(error.to_string()))
}

fn load_or_create(path: &Path) -> Result<RootKey, Failure> {
    load_with(path, passphrase()?, &SystemEntropy)
}

fn load_with(
    path: &Path,
    passphrase: Option<Secret<String>>,
    entropy: &dyn Entropy,
) -> Result<RootKey, Failure> {
    let failed = |what: String| Failure::new(Exit::Failed, format!("{}: {what}", path.display()));
    let stored = std::fs::read_to_string(path).ok();
    match (stored.as_deref().and_then(|text| text.strip_prefix(PREFIX)), passphrase) {
        (Some(_), None) => Err(failed("the root key is a passphrase".to_owned())
            .next(format!("{PASSPHRASE_FILE}=FILE with the passphrase in it"))),
        (Some(cost), Some(passphrase)) => derive(cost, &passphrase).ok_or_else(|| {
            failed("it does not say how the key is derived: put the original back".to_owned())
        }),
        (None, Some(passphrase)) if stored.is_none() => {
            let (memory, passes, lanes) = COST;
            let salt = hex(&entropy.bytes::<SALT_BYTES>());
            let cost = format!("m={memory} t={passes} p={lanes} salt={salt}");
            let key =
                derive(&cost, &passphrase).ok_or_else(|| failed("the passphrase is empty".to_owned()))?;
            write(path, &format!("{PREFIX}{cost}\n")).map_err(|error| failed(error.to_string()))?;
            Ok(key)
        }
        (None, Some(_)) => Err(failed("the file holds the key itself, so no passphrase opens it".to_owned())
            .next(format!("the same command without {PASSPHRASE_FILE}"))),
        (None, None) => RootKey::load_or_create(path, entropy).map_err(|error| failed(chain(&error))),
    }
}

/// The passphrase from the file that the environment names, or from the service manager.
fn passphrase() -> Result<Option<Secret<String>>, Failure> {
    let named = std::env::var_os(PASSPHRASE_FILE).map(PathBuf::from);
    let credential = std::env::var_os("CREDENTIALS_DIRECTORY")
        .map(|folder| PathBuf::from(folder).join(CREDENTIAL))
        .filter(|path| path.exists());
    let Some(path) = named.or(credential) else { return Ok(None) };
    let text = std::fs::read_to_string(&path).map_err(|error| {
        Failure::new(Exit::Failed, format!("the passphrase file {} cannot be read: {error}", path.display()))
    })?;
    let text = Secret::new(text);
    Ok(Some(Secret::new(text.expose().trim_end_matches(['\r', '\n']).to_owned())))
}

/// Derives the key; none when the cost does not parse or the passphrase is empty.
fn derive(cost: &str, passphrase: &Secret<String>) -> Option<RootKey> {
    let field = |name: &str| cost.split_ascii_whitespace().find_map(|field| field.strip_prefix(name));
    let number = |name: &str| field(name)?.parse::<u32>().ok();
    let salt = field("salt=")?;
    let params = Params::new(number("m=")?, number("t=")?, number("p=")?, Some(32)).ok()?;
    if passphrase.expose().is_empty() || salt.len() != SALT_BYTES * 2 {
        return None;
    }
    let mut key = [0; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.expose().as_bytes(), salt.as_bytes(), &mut key)
        .ok()?;
    Some(RootKey::new(key))
}

/// Writes the file whole or not at all, mode 0600.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hansa_storage::{DirDisk, Driver, OpenError, Store, StoreConfig};

    use super::*;

    fn given(text: &str) -> Option<Secret<String>> {
        Some(Secret::new(text.to_owned()))
    }

    fn open(folder: &Path, key: &RootKey) -> Result<Store, OpenError> {
        let disk = Arc::new(DirDisk::new(folder).unwrap());
        Store::open(StoreConfig::default(), disk, Driver::Thread, key, Arc::new(SystemEntropy))
    }

    #[tokio::test]
    async fn passphrase_opens_the_store_again_and_another_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.key");
        let data = folder.path().join("data");
        open(&data, &load_with(&path, given("correct horse"), &SystemEntropy).unwrap())
            .unwrap()
            .close()
            .await;

        let same = load_with(&path, given("correct horse"), &SystemEntropy).unwrap();
        let other = load_with(&path, given("battery staple"), &SystemEntropy).unwrap();

        open(&data, &same).unwrap().close().await;
        assert!(matches!(open(&data, &other), Err(OpenError::WrongRootKey)));
        assert!(!std::fs::read_to_string(&path).unwrap().contains("horse"));
    }

    #[test]
    fn file_of_a_passphrase_says_what_it_needs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.key");
        load_with(&path, given("correct horse"), &SystemEntropy).unwrap();

        let failure = load_with(&path, None, &SystemEntropy).unwrap_err();

        assert!(failure.to_string().contains(PASSPHRASE_FILE), "{failure}");
    }

    #[test]
    fn plain_key_file_takes_no_passphrase() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.key");
        load_with(&path, None, &SystemEntropy).unwrap();

        assert!(load_with(&path, given("x"), &SystemEntropy).is_err());
        assert!(load_with(&path, None, &SystemEntropy).is_ok());
    }
}
