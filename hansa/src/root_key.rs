//! Where the root key comes from: a key file, a passphrase that only people and service managers know, or a
//! transit engine that wraps it.
//!
//! With a passphrase the file holds salt and cost alone (argon2id), with a transit engine the data folder
//! holds the wrapped key; either way the folder and its backups open nothing by themselves. A node begins
//! with one of them, and can be moved to a transit engine.
//!
//! A rotation writes the next key beside the present one (`.next`) before the store knows of it, and gives it
//! the present one's name after. So a start tries both, and puts in order what was left.

mod keeper;
mod transit;
mod unlock;

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use hansa_model::secret::{hex, token_hash};
use hansa_model::{Entropy, Secret};
use hansa_storage::rotation::Rotation;
use hansa_storage::{OpenError, RootKey, Store};

use crate::cli::failure::{Exit, Failure, chain};
use crate::config::{Layer, Transit, TransitLayer};
use crate::system::SystemEntropy;
pub(crate) use keeper::Keeper;
use transit::TransitEngine;
pub(crate) use unlock::{Waiting, offer};

/// Name of the wrapped root key in a data folder.
pub(crate) const WRAPPED_KEY_FILE: &str = "root.key.transit";
const WRAPPED_PREFIX: &str = "hansa-root-key-transit-1 ";

/// Names a file with the passphrase; never the passphrase itself, which would show in process lists.
pub(crate) const PASSPHRASE_FILE: &str = "HANSA_ROOT_KEY_PASSPHRASE_FILE";
/// The name of a service manager's credential with the passphrase.
const CREDENTIAL: &str = "hansa-root-key-passphrase";
const PREFIX: &str = "hansa-root-key-argon2id-1 ";
const SALT_BYTES: usize = 16;
const CHECK_FIELD: &str = "check=";
const CHECK_BYTES: usize = 8;
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

/// How a root key is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    KeyFile,
    Passphrase,
    Transit,
}

impl Way {
    const fn as_str(self) -> &'static str {
        match self {
            Self::KeyFile => "key_file",
            Self::Passphrase => "passphrase",
            Self::Transit => "transit",
        }
    }
}

/// The root keys that may open the store: one, or two when a rotation was cut short while it began.
#[derive(Debug)]
pub(crate) struct Loaded {
    present: Result<(RootKey, Way), Failure>,
    /// What a rotation had prepared.
    next: Option<Result<(RootKey, Way), Failure>>,
    place: Place,
}

/// The root key that has opened the store.
#[derive(Debug)]
pub(crate) struct Opened {
    key: RootKey,
    way: Way,
    /// It is the one that a rotation had prepared.
    is_next: bool,
    place: Place,
}

/// Where a root key is kept.
#[derive(Debug)]
struct Place {
    file: PathBuf,
    transit: Option<Transit>,
    /// A key that moves to a transit engine: its wrapped form, and where the key file lies.
    moving: Option<(String, PathBuf)>,
}

impl Place {
    /// Where a rotation prepares the next key.
    fn next(&self) -> PathBuf {
        next_of(&self.file)
    }
}

fn next_of(file: &Path) -> PathBuf {
    let mut next = file.as_os_str().to_owned();
    next.push(".next");
    PathBuf::from(next)
}

impl Source<'_> {
    /// Reads the root key, or makes one on the first start; what it makes is durable on return.
    ///
    /// # Errors
    /// A file is lost, damaged or needs a passphrase that nobody gave, or the transit engine does not
    /// give the key.
    pub(crate) async fn load(self) -> Result<Loaded, Failure> {
        self.load_given(None).await
    }

    /// Whether the root key is a passphrase that nobody has given.
    ///
    /// # Errors
    /// The file that should hold it cannot be read.
    pub(crate) fn lacks_passphrase(&self) -> Result<bool, Failure> {
        let is_passphrase = std::fs::read_to_string(self.key_file).is_ok_and(|text| text.starts_with(PREFIX));
        Ok(self.transit.is_none() && is_passphrase && passphrase()?.is_none())
    }

    /// The same as [`Self::load`] with a passphrase that somebody has given just now.
    pub(crate) async fn load_given(self, given: Option<Secret<String>>) -> Result<Loaded, Failure> {
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
            let passphrase = given.map_or_else(passphrase, |given| Ok(Some(given)))?;
            let next = next_of(self.key_file);
            let next = next.exists().then(|| load_with(&next, passphrase.clone(), &SystemEntropy));
            let present = load_with(self.key_file, passphrase, &SystemEntropy);
            let place = Place { file: self.key_file.to_owned(), transit: None, moving: None };
            return match next {
                None => Ok(Loaded { present: Ok(present?), next, place }),
                Some(_) => Ok(Loaded { present, next, place }),
            };
        };
        if !wrapped.exists() && has_store && !self.key_file.exists() {
            return Err(Failure::new(
                Exit::Failed,
                format!("{}: the wrapped root key is lost", wrapped.display()),
            )
            .next("put root.key.transit back, from a copy of the data folder"));
        }
        let engine = TransitEngine::open(transit).await?;
        let loaded = self.load_wrapped(&engine, transit, wrapped, has_store).await;
        engine.close().await;
        loaded
    }

    async fn load_wrapped(
        self,
        engine: &TransitEngine<'_>,
        transit: &Transit,
        path: PathBuf,
        has_store: bool,
    ) -> Result<Loaded, Failure> {
        let failed = |what: String| Failure::new(Exit::Failed, format!("{}: {what}", path.display()));
        let place = |moving| Place { file: path.clone(), transit: Some(transit.clone()), moving };
        if path.exists() {
            let next = next_of(&path);
            let next = if next.exists() { Some(unwrapped(engine, &next).await) } else { None };
            let present = unwrapped(engine, &path).await?;
            return Ok(Loaded { present: Ok(present), next, place: place(None) });
        }
        if has_store && next_of(self.key_file).exists() {
            return Err(failed("a rotation of the root key was cut short".to_owned())
                .next("start the node once without [root_key_transit], which puts that in order"));
        }
        let (key, way) = if has_store {
            load_with(self.key_file, passphrase()?, &SystemEntropy)?
        } else {
            let entropy: &dyn Entropy = &SystemEntropy;
            (RootKey::new(entropy.bytes()), Way::Transit)
        };
        let text = wrapped_text(engine, &key).await?;
        if has_store {
            let moving = Some((text, self.key_file.to_owned()));
            return Ok(Loaded { present: Ok((key, way)), next: None, place: place(moving) });
        }
        hansa_storage::disk::DirDisk::new(self.data_dir).map_err(|error| failed(error.to_string()))?;
        write(&path, &text).map_err(|error| failed(error.to_string()))?;
        Ok(Loaded { present: Ok((key, way)), next: None, place: place(None) })
    }
}

impl Source<'_> {
    /// Makes the root key of a node that has none; durable on return. Answers with its file and how it is kept.
    ///
    /// # Errors
    /// There is a store or a key already, or a file or the transit engine does not do its part.
    pub(crate) async fn init(
        self,
        passphrase: Option<Secret<String>>,
    ) -> Result<(PathBuf, &'static str), Failure> {
        let file = if self.transit.is_some() {
            self.data_dir.join(WRAPPED_KEY_FILE)
        } else {
            self.key_file.to_owned()
        };
        if file.exists() {
            return Err(Failure::new(Exit::Conflict, format!("{} exists already", file.display()))
                .next("hansa root-key rotate, for another one"));
        }
        if self.data_dir.join(hansa_storage::disk::STORE_FILE).exists() {
            let what = format!(
                "{} holds a node's data, sealed under a key that is not there",
                self.data_dir.display()
            );
            return Err(Failure::new(Exit::Conflict, what)
                .next("put its key file back, or name it with --root-key-file"));
        }
        if self.transit.is_some() {
            if passphrase.is_some() {
                return Err(Failure::usage("a transit engine wraps the root key, so it takes no passphrase"));
            }
            self.load().await?.present?;
            return Ok((file, Way::Transit.as_str()));
        }
        if self.key_file.parent() == Some(self.data_dir) {
            hansa_storage::disk::DirDisk::new(self.data_dir).map_err(|error| {
                Failure::new(Exit::Failed, format!("{}: {error}", self.data_dir.display()))
            })?;
        }
        let passphrase = passphrase.map_or_else(self::passphrase, |given| Ok(Some(given)))?;
        let (_, way) = load_with(self.key_file, passphrase, &SystemEntropy)?;
        Ok((file, way.as_str()))
    }
}

impl Loaded {
    /// Opens with the key that fits.
    ///
    /// # Errors
    /// None fits, or what is opened does not.
    pub(crate) fn open<T>(
        self,
        data_dir: &Path,
        open: impl Fn(&RootKey) -> Result<T, OpenError>,
    ) -> Result<(T, Opened), Failure> {
        let Self { present, next, place } = self;
        let failure = match present {
            Ok((key, way)) => match open(&key) {
                Ok(opened) => return Ok((opened, Opened { key, way, is_next: false, place })),
                Err(error @ OpenError::WrongRootKey) => crate::node::open_failure(data_dir, &error),
                Err(error) => return Err(crate::node::open_failure(data_dir, &error)),
            },
            Err(failure) => failure,
        };
        if let Some(Ok((key, way))) = next
            && let Ok(opened) = open(&key)
        {
            return Ok((opened, Opened { key, way, is_next: true, place }));
        }
        Err(failure)
    }
}

impl Opened {
    /// Puts in order what a move or a rotation has left, now that the key has opened the store: never is a key
    /// of another node put in its place.
    ///
    /// # Errors
    /// A file cannot be written; what is there still opens the store.
    pub(crate) fn settle(self, store: &Store) -> Result<Keeper, Failure> {
        let Self { mut key, mut way, is_next, mut place } = self;
        let failed = |error: std::io::Error, path: &Path| {
            Failure::new(Exit::Failed, format!("{}: {error}", path.display()))
        };
        if is_next {
            rename(&place.next(), &place.file).map_err(|error| failed(error, &place.file))?;
            tracing::warn!(file = %place.file.display(), "the root key of an interrupted rotation is in its place");
        } else {
            remove(&place.next()).map_err(|error| failed(error, &place.next()))?;
        }
        if let Some((text, key_file)) = place.moving.take() {
            write(&place.file, &text).map_err(|error| failed(error, &place.file))?;
            tracing::warn!(
                wrapped = %place.file.display(),
                key_file = %key_file.display(),
                "the root key is wrapped by the transit engine from now on: remove the key file"
            );
            way = Way::Transit;
        }
        if key.has_previous() && store.rotation() == Rotation::None {
            forget_former(&place.file).map_err(|error| failed(error, &place.file))?;
            key = key.alone();
        }
        Ok(Keeper::new(place, key, way))
    }
}

async fn unwrapped(engine: &TransitEngine<'_>, path: &Path) -> Result<(RootKey, Way), Failure> {
    let failed = |what: String| Failure::new(Exit::Failed, format!("{}: {what}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let (ciphertext, former) = lines(&text);
    let ciphertext = ciphertext
        .strip_prefix(WRAPPED_PREFIX)
        .ok_or_else(|| failed("it does not hold a wrapped root key: put the original back".to_owned()))?;
    Ok((with_former(engine.unwrap(ciphertext).await?, former), Way::Transit))
}

async fn wrapped_text(engine: &TransitEngine<'_>, key: &RootKey) -> Result<String, Failure> {
    Ok(key_text(&format!("{WRAPPED_PREFIX}{}", engine.wrap(key).await?), key))
}

/// What a file of a root key says first, and the line of the key before it.
fn lines(text: &str) -> (&str, Option<&str>) {
    let mut lines = text.lines();
    (lines.next().unwrap_or_default().trim_end(), lines.next())
}

/// A line that does not belong to this key is of no use, and says nothing about the key itself.
fn with_former(key: RootKey, line: Option<&str>) -> RootKey {
    line.and_then(|line| key.clone().with_previous_line(line)).unwrap_or(key)
}

/// The text of a file that does not hold the key itself.
fn key_text(first: &str, key: &RootKey) -> String {
    match key.previous_line(&SystemEntropy) {
        Some(line) => format!("{first}\n{line}\n"),
        None => format!("{first}\n"),
    }
}

/// Takes the line of the key before the present one out of a file.
fn forget_former(path: &Path) -> std::io::Result<()> {
    let text = Secret::new(std::fs::read_to_string(path)?);
    let text = Secret::new(format!("{}\n", lines(text.expose()).0));
    write(path, text.expose())
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

fn load_with(
    path: &Path,
    passphrase: Option<Secret<String>>,
    entropy: &dyn Entropy,
) -> Result<(RootKey, Way), Failure> {
    let failed = |what: String| Failure::new(Exit::Failed, format!("{}: {what}", path.display()));
    let stored = std::fs::read_to_string(path).ok().map(Secret::new);
    let (first, former) = stored.as_ref().map(|text| lines(text.expose())).unwrap_or_default();
    match (first.strip_prefix(PREFIX), passphrase) {
        (Some(_), None) => Err(failed("the root key is a passphrase".to_owned())
            .next(format!("{PASSPHRASE_FILE}=FILE with the passphrase in it"))),
        (Some(cost), Some(passphrase)) => {
            let key = derive(cost, &passphrase).ok_or_else(|| {
                failed("it does not say how the key is derived: put the original back".to_owned())
            })?;
            let known = cost.split_ascii_whitespace().find_map(|field| field.strip_prefix(CHECK_FIELD));
            if known.is_some_and(|known| known != check(&key)) {
                return Err(failed("the passphrase is not the one of this root key".to_owned())
                    .next("the right one: after a rotation the one that was given then"));
            }
            Ok((with_former(key, former), Way::Passphrase))
        }
        (None, Some(passphrase)) if stored.is_none() => {
            let (cost, key) = derive_anew(&passphrase, entropy)
                .ok_or_else(|| failed("the passphrase is empty".to_owned()))?;
            write(path, &key_text(&cost, &key)).map_err(|error| failed(error.to_string()))?;
            Ok((key, Way::Passphrase))
        }
        (None, Some(_)) => Err(failed("the file holds the key itself, so no passphrase opens it".to_owned())
            .next(format!("the same command without {PASSPHRASE_FILE}"))),
        (None, None) => RootKey::load_or_create(path, entropy)
            .map(|key| (key, Way::KeyFile))
            .map_err(|error| failed(chain(&error))),
    }
}

/// Derives a key with a fresh salt: what its file says first, and the key; none when the passphrase is empty.
fn derive_anew(passphrase: &Secret<String>, entropy: &dyn Entropy) -> Option<(String, RootKey)> {
    let (memory, passes, lanes) = COST;
    let salt = hex(&entropy.bytes::<SALT_BYTES>());
    let cost = format!("m={memory} t={passes} p={lanes} salt={salt}");
    let key = derive(&cost, passphrase)?;
    Some((format!("{PREFIX}{cost} {CHECK_FIELD}{}", check(&key)), key))
}

/// Tells a mistyped passphrase before a store is made under it, and says nothing else about the key.
fn check(key: &RootKey) -> String {
    let key = Secret::new(format!("hansa root key check {}", hex(key.bytes().expose())));
    hex(&token_hash(key.expose())[..CHECK_BYTES])
}

/// The passphrase from the file that the environment names, or from the service manager.
fn passphrase() -> Result<Option<Secret<String>>, Failure> {
    let named = std::env::var_os(PASSPHRASE_FILE).map(PathBuf::from);
    let credential = std::env::var_os("CREDENTIALS_DIRECTORY")
        .map(|folder| PathBuf::from(folder).join(CREDENTIAL))
        .filter(|path| path.exists());
    named.or(credential).as_deref().map(read_passphrase).transpose()
}

/// The passphrase in a file, or in standard input for `-`, without the end of its line.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn read_passphrase(path: &Path) -> Result<Secret<String>, Failure> {
    let read = if path == Path::new("-") {
        std::io::read_to_string(std::io::stdin().lock())
    } else {
        std::fs::read_to_string(path)
    };
    let text = read.map_err(|error| {
        Failure::new(Exit::Failed, format!("the passphrase file {} cannot be read: {error}", path.display()))
    })?;
    let text = Secret::new(text);
    Ok(Secret::new(text.expose().trim_end_matches(['\r', '\n']).to_owned()))
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
    rename(&new, path)
}

/// Durable on return.
fn rename(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::rename(from, to)?;
    sync_folder(to)
}

/// Removes a file, if it is there. Durable on return.
fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Ok(()) => sync_folder(path),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn sync_folder(of: &Path) -> std::io::Result<()> {
    let folder =
        of.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
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
    async fn passphrase_opens_the_store_again_and_another_one_is_told_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.key");
        let data = folder.path().join("data");
        open(&data, &load_with(&path, given("correct horse"), &SystemEntropy).unwrap().0)
            .unwrap()
            .close()
            .await;

        let (same, _) = load_with(&path, given("correct horse"), &SystemEntropy).unwrap();
        let other = load_with(&path, given("battery staple"), &SystemEntropy).unwrap_err();

        open(&data, &same).unwrap().close().await;
        assert!(other.to_string().contains("not the one of this root key"), "{other}");
        assert!(matches!(open(&data, &RootKey::new([1; 32])), Err(OpenError::WrongRootKey)));
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
