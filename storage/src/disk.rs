//! Where the one file of a store lives: the seam that simulations and fault tests replace.
//!
//! A new file is made under a temporary name and published when it is complete and synced, because an
//! engine file that lost power in its first operations cannot be opened again (deterministic-simulation,
//! section 5). [`DirDisk`] is the production one; every mode is set explicitly, whatever the umask.

use std::fmt::Debug;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Name of the store's file in the data folder.
pub const STORE_FILE: &str = "hansa.redb";
const TEMPORARY_SUFFIX: &str = ".new";
const LOCK_FILE: &str = "hansa.lock";

/// A place with one file in it, which may not exist yet.
pub trait Disk: Send + Sync + Debug {
    /// Takes the place for this process; released when the answer is dropped.
    ///
    /// # Errors
    /// `WouldBlock` when another process, or another store of this one, has it.
    fn lock(&self) -> io::Result<Box<dyn Held>>;

    /// Opens the published file for reading and writing; none when there is none yet.
    ///
    /// # Errors
    /// The disk's.
    fn open(&self) -> io::Result<Option<Box<dyn RawFile>>>;

    /// Makes an empty file under the temporary name; leftovers of an earlier try are discarded.
    ///
    /// # Errors
    /// The disk's.
    fn create(&self) -> io::Result<Box<dyn RawFile>>;

    /// Gives the temporary file its real name, durably: returns when both content and name are on disk.
    ///
    /// # Errors
    /// The disk's.
    fn publish(&self) -> io::Result<()>;

    /// Bytes that this user may still write; none when the disk cannot say.
    ///
    /// # Errors
    /// The disk's.
    fn free_bytes(&self) -> io::Result<Option<u64>>;
}

/// A hold on a [`Disk`]; dropping it lets go.
pub trait Held: Send + Sync + Debug {}

impl Held for File {}

/// An open file. Offsets and lengths are bytes. Every method may be called from several threads.
pub trait RawFile: Send + Sync + Debug {
    /// Length of the file.
    ///
    /// # Errors
    /// The disk's.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    ///
    /// # Errors
    /// The disk's.
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }

    /// Fills `bytes` from `offset` on.
    ///
    /// # Errors
    /// The disk's; also when the file ends before.
    fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()>;

    /// Cuts the file, or extends it with zeros.
    ///
    /// # Errors
    /// The disk's; `StorageFull` or `QuotaExceeded` when there is no room.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Returns when everything written is on the medium. A failure means that nobody knows what is.
    ///
    /// # Errors
    /// The disk's.
    fn sync_data(&self) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`; on the medium only after [`Self::sync_data`].
    ///
    /// # Errors
    /// The disk's; `StorageFull` or `QuotaExceeded` when there is no room.
    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
}

/// A folder of the file system.
#[derive(Debug, Clone)]
pub struct DirDisk {
    folder: PathBuf,
    file: PathBuf,
}

impl DirDisk {
    /// A data folder; made, with its parents, when it does not exist. Mode 0700 from now on.
    ///
    /// # Errors
    /// The folder cannot be made, or is open to others and holds things that are not ours.
    pub fn new(folder: &Path) -> io::Result<Self> {
        create_private_folder(folder)?;
        Ok(Self { folder: folder.to_owned(), file: folder.join(STORE_FILE) })
    }

    /// A single file in a folder that exists and keeps its mode; for backups.
    pub(crate) fn of_file(file: &Path) -> Self {
        Self { folder: folder_of(file).to_owned(), file: file.to_owned() }
    }

    /// Whether the file exists.
    pub(crate) fn exists(&self) -> io::Result<bool> {
        self.file.try_exists()
    }

    /// Removes what an unfinished creation left.
    pub(crate) fn discard_temporary(&self) -> io::Result<()> {
        match fs::remove_file(self.temporary()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    pub(crate) fn temporary(&self) -> PathBuf {
        let mut name = self.file.clone().into_os_string();
        name.push(TEMPORARY_SUFFIX);
        name.into()
    }
}

impl Disk for DirDisk {
    fn lock(&self) -> io::Result<Box<dyn Held>> {
        let file =
            private_file(&self.folder.join(LOCK_FILE), OpenOptions::new().create(true).truncate(false))?;
        file.try_lock().map_err(io::Error::from)?;
        Ok(Box::new(file))
    }

    fn open(&self) -> io::Result<Option<Box<dyn RawFile>>> {
        self.discard_temporary()?;
        match private_file(&self.file, &mut OpenOptions::new()) {
            Ok(file) => Ok(Some(Box::new(file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create(&self) -> io::Result<Box<dyn RawFile>> {
        let file = private_file(&self.temporary(), OpenOptions::new().create(true).truncate(true))?;
        Ok(Box::new(file))
    }

    fn publish(&self) -> io::Result<()> {
        publish(&self.temporary(), &self.file)
    }

    fn free_bytes(&self) -> io::Result<Option<u64>> {
        let stat = rustix::fs::statvfs(&self.folder)?;
        Ok(Some(stat.f_bavail.saturating_mul(stat.f_frsize)))
    }
}

impl RawFile for File {
    fn len(&self) -> io::Result<u64> {
        self.metadata().map(|metadata| metadata.len())
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        Self::set_len(self, len)
    }

    fn sync_data(&self) -> io::Result<()> {
        Self::sync_data(self)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }
}

/// Opens a file for reading and writing with mode 0600.
pub(crate) fn private_file(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let file = options.read(true).write(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

/// Makes a folder, and the parents it needs, with mode 0700; durable when it returns.
///
/// An existing folder is tightened when it is empty or holds a store already. One with other things in it
/// is refused instead, since closing it to others might break them.
pub(crate) fn create_private_folder(folder: &Path) -> io::Result<()> {
    if folder.try_exists()? {
        return tighten(folder);
    }
    let missing =
        folder.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).count();
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    for made in folder.ancestors().take(missing) {
        fs::set_permissions(made, Permissions::from_mode(0o700))?;
        sync_folder(folder_of(made))?;
    }
    Ok(())
}

fn tighten(folder: &Path) -> io::Result<()> {
    if fs::metadata(folder)?.permissions().mode() & 0o077 == 0 {
        return Ok(());
    }
    let ours = folder.join(LOCK_FILE).try_exists()? || folder.join(STORE_FILE).try_exists()?;
    if !ours && fs::read_dir(folder)?.next().is_some() {
        let message = "the data folder is open to others and holds other files: choose an empty one, or make it mode 0700";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    fs::set_permissions(folder, Permissions::from_mode(0o700))
}

/// The folder that a path lies in.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Renames a complete file into place; content and name are on disk when this returns.
pub(crate) fn publish(temporary: &Path, path: &Path) -> io::Result<()> {
    File::open(temporary)?.sync_all()?;
    fs::rename(temporary, path)?;
    sync_folder(folder_of(path))
}
