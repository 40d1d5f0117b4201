//! Where the root key comes from: a key file, or a passphrase that only people and service managers know.
//!
//! With a passphrase the file holds salt and cost alone (argon2id), so the data folder and its backups
//! open nothing by themselves. Which of the two a node has is decided when it first starts.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use hansa_model::secret::hex;
use hansa_model::{Entropy, Secret};
use hansa_storage::RootKey;

use crate::cli::failure::{Exit, Failure, chain};
use crate::system::SystemEntropy;

/// Names a file with the passphrase; never the passphrase itself, which would show in process lists.
pub(crate) const PASSPHRASE_FILE: &str = "HANSA_ROOT_KEY_PASSPHRASE_FILE";
/// The name of a service manager's credential with the passphrase.
const CREDENTIAL: &str = "hansa-root-key-passphrase";
const PREFIX: &str = "hansa-root-key-argon2id-1 ";
const SALT_BYTES: usize = 16;
/// Memory in KiB, passes and lanes: the first recommendation of RFC 9106 scaled to a node that starts on
/// a small machine; about 0.2 s on one core. They are stored, so a later version may raise them.
const COST: (u32, u32, u32) = (65_536, 3, 1);

/// Reads the root key, or makes one on the first start.
///
/// # Errors
/// The file is damaged or cannot be used, or it needs a passphrase that nobody gave.
pub(crate) fn load_or_create(path: &Path) -> Result<RootKey, Failure> {
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
