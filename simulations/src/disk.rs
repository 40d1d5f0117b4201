//! A host's disk: what is durable, what only the page cache holds, and what a power loss leaves.
//!
//! Every change since the last sync of its file stands in one ordered log. A sync makes the file's changes
//! durable; a sync of the directory makes names durable. A power loss keeps none, some or torn parts of the
//! log, as [`Loss`] says. A handle belongs to one boot: after a crash it only fails.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::dice::Dice;

/// The unit that a disk writes whole.
const SECTOR: usize = 512;

/// What a power loss leaves of the changes that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Nothing of them.
    All,
    /// A prefix of the log: the disk wrote in order.
    Suffix,
    /// A random half of the changes.
    Subset,
    /// A random half of the sectors of each write.
    Torn,
}

impl Loss {
    /// All of them, for drawing one.
    pub const EVERY: [Self; 4] = [Self::All, Self::Suffix, Self::Subset, Self::Torn];
}

/// How a host stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The process dies and the machine stays: the page cache survives.
    Process,
    /// The machine loses power.
    Power(Loss),
}

/// The platter of one host; survives crashes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SimDisk(Arc<Mutex<Platter>>);

/// Counts since the disk was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskCounts {
    /// Operations that change something, syncs included.
    pub operations: u64,
    /// Syncs of files and of the directory.
    pub syncs: u64,
    /// Bytes written.
    pub bytes: u64,
}

#[derive(Debug)]
struct Platter {
    dice: Dice,
    durable: Image,
    current: Image,
    log: Vec<Change>,
    next_file: u64,
    boot: u64,
    counts: DiskCounts,
    crash_at: Option<u64>,
    dead: bool,
    failing: u64,
    failed: bool,
    capacity: Option<u64>,
    held: bool,
    kept: Option<Image>,
}

#[derive(Debug, Clone, Default)]
struct Image {
    names: BTreeMap<String, FileId>,
    files: BTreeMap<FileId, Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct FileId(u64);

#[derive(Debug, Clone)]
enum Change {
    Create { name: String, file: FileId },
    Rename { from: String, to: String },
    Remove { name: String },
    Write { file: FileId, offset: usize, bytes: Vec<u8> },
    SetLength { file: FileId, length: usize },
}

impl Change {
    /// The file whose sync makes this durable; names are made durable by the directory.
    fn file(&self) -> Option<FileId> {
        match self {
            Self::Write { file, .. } | Self::SetLength { file, .. } => Some(*file),
            Self::Create { .. } | Self::Rename { .. } | Self::Remove { .. } => None,
        }
    }
}

impl Image {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Create { name, file } => {
                self.names.insert(name.clone(), *file);
                self.files.entry(*file).or_default();
            }
            Change::Rename { from, to } => {
                if let Some(file) = self.names.remove(from) {
                    self.names.insert(to.clone(), file);
                }
            }
            Change::Remove { name } => {
                self.names.remove(name);
            }
            Change::Write { file, offset, bytes } => self.write(*file, *offset, bytes),
            Change::SetLength { file, length } => self.files.entry(*file).or_default().resize(*length, 0),
        }
    }

    fn write(&mut self, file: FileId, offset: usize, bytes: &[u8]) {
        let content = self.files.entry(file).or_default();
        let end = offset + bytes.len();
        if content.len() < end {
            content.resize(end, 0);
        }
        content[offset..end].copy_from_slice(bytes);
    }

    fn drop_nameless(&mut self) {
        let named: Vec<FileId> = self.names.values().copied().collect();
        self.files.retain(|file, _| named.contains(file));
    }
}

impl SimDisk {
    /// An empty disk. `index` tells the disks of one world apart.
    pub fn new(seed: u64, index: u64) -> Self {
        Self(Arc::new(Mutex::new(Platter {
            dice: Dice::new(seed, "disk", index),
            durable: Image::default(),
            current: Image::default(),
            log: Vec::new(),
            next_file: 0,
            boot: 0,
            counts: DiskCounts::default(),
            crash_at: None,
            dead: false,
            failing: 0,
            failed: false,
            capacity: None,
            held: false,
            kept: None,
        })))
    }

    /// The folder as this boot sees it; useless after the next crash.
    pub fn mount(&self) -> SimFolder {
        let boot = self.lock().boot;
        SimFolder { disk: self.clone(), boot }
    }

    /// Loses power at the `count`-th change from now: that one and everything after it fails, until
    /// [`SimDisk::crash`] settles what is left.
    pub fn crash_at_op(&self, count: u64) {
        let mut platter = self.lock();
        platter.crash_at = Some(platter.counts.operations + count);
    }

    /// Lets the next `count` changes fail with an I/O error.
    pub fn fail_next(&self, count: u64) {
        self.lock().failing = count;
    }

    /// Bounds the bytes of all files together; what would grow beyond fails with `StorageFull`.
    pub fn set_capacity(&self, capacity: Option<u64>) {
        self.lock().capacity = capacity;
    }

    /// Takes back [`SimDisk::crash_at_op`], [`SimDisk::fail_next`] and [`SimDisk::set_capacity`].
    pub fn clear_faults(&self) {
        let mut platter = self.lock();
        platter.crash_at = None;
        platter.failing = 0;
        platter.capacity = None;
    }

    /// Keeps a copy of what is durable now, as a backup of the disk would; replaces the one kept before.
    pub fn keep_image(&self) {
        let mut platter = self.lock();
        platter.kept = Some(platter.durable.clone());
    }

    /// Puts the kept copy back, if there is one. Only between a crash and the next boot.
    pub fn restore_image(&self) {
        let mut platter = self.lock();
        let Some(mut image) = platter.kept.clone() else { return };
        image.drop_nameless();
        platter.log.clear();
        platter.current = image.clone();
        platter.durable = image;
    }

    /// True once a planned power loss has struck.
    pub fn is_dead(&self) -> bool {
        self.lock().dead
    }

    /// True when a change failed with an I/O error since the last crash.
    pub fn has_failed(&self) -> bool {
        self.lock().failed
    }

    /// Counts since the disk was made.
    pub fn counts(&self) -> DiskCounts {
        self.lock().counts
    }

    /// Ends the boot: every open handle fails from here on, and the image is settled.
    pub fn crash(&self, crash: Crash) {
        let mut platter = self.lock();
        platter.boot += 1;
        (platter.dead, platter.failed, platter.held) = (false, false, false);
        platter.crash_at = None;
        platter.failing = 0;
        if let Crash::Power(loss) = crash {
            platter.settle(loss);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Platter {
    /// Runs one operation that changes something, unless a fault forbids it.
    fn change<T>(&mut self, boot: u64, run: impl FnOnce(&mut Self) -> io::Result<T>) -> io::Result<T> {
        self.alive(boot)?;
        self.counts.operations += 1;
        if self.crash_at.is_some_and(|at| self.counts.operations >= at) {
            self.dead = true;
            return Err(power_loss());
        }
        if self.failing > 0 {
            self.failing -= 1;
            self.failed = true;
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        run(self)
    }

    fn alive(&self, boot: u64) -> io::Result<()> {
        if self.dead || self.boot != boot { Err(power_loss()) } else { Ok(()) }
    }

    /// Refuses what makes a file longer than there is room for.
    fn grow(&mut self, file: FileId, end: usize) -> io::Result<()> {
        let length = self.current.files.get(&file).map_or(0, Vec::len);
        let growth = end.saturating_sub(length) as u64;
        if growth > 0 && self.room().is_some_and(|room| growth > room) {
            self.failed = true;
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn room(&self) -> Option<u64> {
        let used: usize = self.current.files.values().map(Vec::len).sum();
        self.capacity.map(|capacity| capacity.saturating_sub(used as u64))
    }

    fn record(&mut self, change: Change) {
        self.current.apply(&change);
        self.log.push(change);
    }

    fn sync(&mut self, file: Option<FileId>) {
        self.counts.syncs += 1;
        let (synced, rest) =
            std::mem::take(&mut self.log).into_iter().partition(|change| change.file() == file);
        self.log = rest;
        let synced: Vec<Change> = synced;
        synced.iter().for_each(|change| self.durable.apply(change));
    }

    /// Decides what of the unsynced changes reached the platter.
    fn settle(&mut self, loss: Loss) {
        let log = std::mem::take(&mut self.log);
        let cut = self.dice.index(log.len() + 1);
        // A file system journals names in order, so a later name never survives an earlier one.
        let named = self.dice.index(log.len() + 1);
        for (position, change) in log.into_iter().enumerate() {
            let name_survives = change.file().is_some() || position < named;
            let survives = match loss {
                Loss::All => false,
                Loss::Suffix => position < cut,
                Loss::Subset | Loss::Torn => name_survives,
            };
            if survives {
                self.settle_change(&change, loss);
            }
        }
        self.durable.drop_nameless();
        self.current = self.durable.clone();
    }

    fn settle_change(&mut self, change: &Change, loss: Loss) {
        match (loss, change) {
            (Loss::Torn, Change::Write { file, offset, bytes }) => {
                for (number, sector) in bytes.chunks(SECTOR).enumerate() {
                    if self.dice.chance(0.5) {
                        self.durable.write(*file, offset + number * SECTOR, sector);
                    }
                }
            }
            (Loss::Subset | Loss::Torn, change) if change.file().is_some() => {
                if self.dice.chance(0.5) {
                    self.durable.apply(change);
                }
            }
            (_, change) => self.durable.apply(change),
        }
    }
}

fn power_loss() -> io::Error {
    io::Error::other("simulated power loss")
}

/// The data folder of a host as one boot sees it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SimFolder {
    disk: SimDisk,
    boot: u64,
}

impl SimFolder {
    /// Makes an empty file; replaces one of that name.
    ///
    /// # Errors
    /// After a crash, and by planned faults.
    pub fn create(&self, name: &str) -> io::Result<SimFile> {
        let file = self.disk.lock().change(self.boot, |platter| {
            platter.next_file += 1;
            let file = FileId(platter.next_file);
            platter.record(Change::Create { name: name.to_owned(), file });
            Ok(file)
        })?;
        Ok(self.handle(file))
    }

    /// Opens an existing file.
    ///
    /// # Errors
    /// `NotFound` when there is none; after a crash.
    pub fn open(&self, name: &str) -> io::Result<SimFile> {
        let platter = self.disk.lock();
        platter.alive(self.boot)?;
        let file = *platter.current.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        drop(platter);
        Ok(self.handle(file))
    }

    /// True when a file of that name exists.
    ///
    /// # Errors
    /// After a crash.
    pub fn exists(&self, name: &str) -> io::Result<bool> {
        let platter = self.disk.lock();
        platter.alive(self.boot)?;
        Ok(platter.current.names.contains_key(name))
    }

    /// The names in the folder, in order.
    ///
    /// # Errors
    /// After a crash.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let platter = self.disk.lock();
        platter.alive(self.boot)?;
        Ok(platter.current.names.keys().cloned().collect())
    }

    /// Gives a file another name; replaces one that has it. Durable after [`SimFolder::sync`].
    ///
    /// # Errors
    /// `NotFound` when there is none; after a crash, and by planned faults.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.lock().change(self.boot, |platter| {
            platter.named(from)?;
            platter.record(Change::Rename { from: from.to_owned(), to: to.to_owned() });
            Ok(())
        })
    }

    /// Removes a name. Durable after [`SimFolder::sync`].
    ///
    /// # Errors
    /// `NotFound` when there is none; after a crash, and by planned faults.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.lock().change(self.boot, |platter| {
            platter.named(name)?;
            platter.record(Change::Remove { name: name.to_owned() });
            Ok(())
        })
    }

    /// Makes all names durable, as fsync of a directory does.
    ///
    /// # Errors
    /// After a crash, and by planned faults.
    pub fn sync(&self) -> io::Result<()> {
        self.disk.lock().change(self.boot, |platter| {
            platter.sync(None);
            Ok(())
        })
    }

    /// Takes the folder for one holder at a time, until the answer is dropped or the host stops.
    ///
    /// # Errors
    /// `WouldBlock` while another holder has it; after a crash.
    pub fn hold(&self) -> io::Result<FolderLock> {
        let mut platter = self.disk.lock();
        platter.alive(self.boot)?;
        if std::mem::replace(&mut platter.held, true) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(FolderLock(self.clone()))
    }

    /// Bytes that still fit; `None` when the disk is unbounded.
    ///
    /// # Errors
    /// After a crash.
    pub fn room(&self) -> io::Result<Option<u64>> {
        let platter = self.disk.lock();
        platter.alive(self.boot)?;
        Ok(platter.room())
    }

    fn handle(&self, file: FileId) -> SimFile {
        SimFile { folder: self.clone(), file }
    }
}

impl Platter {
    fn named(&self, name: &str) -> io::Result<FileId> {
        Ok(*self.current.names.get(name).ok_or(io::ErrorKind::NotFound)?)
    }
}

/// A hold on a folder; see [`SimFolder::hold`].
#[derive(Debug)]
pub struct FolderLock(SimFolder);

impl Drop for FolderLock {
    fn drop(&mut self) {
        let mut platter = self.0.disk.lock();
        if platter.boot == self.0.boot {
            platter.held = false;
        }
    }
}

/// An open file of one boot. Cheap to clone; a renamed or removed file stays open.
#[derive(Debug, Clone)]
pub struct SimFile {
    folder: SimFolder,
    file: FileId,
}

impl SimFile {
    fn content<T>(&self, run: impl FnOnce(&[u8]) -> io::Result<T>) -> io::Result<T> {
        let platter = self.folder.disk.lock();
        platter.alive(self.folder.boot)?;
        run(platter.current.files.get(&self.file).map_or(&[], Vec::as_slice))
    }

    fn change(&self, run: impl FnOnce(&mut Platter) -> io::Result<()>) -> io::Result<()> {
        self.folder.disk.lock().change(self.folder.boot, run)
    }
}

impl redb::StorageBackend for SimFile {
    fn len(&self) -> io::Result<u64> {
        self.content(|content| Ok(content.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let offset = position(offset)?;
        self.content(|content| {
            let bytes = content.get(offset..offset + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            out.copy_from_slice(bytes);
            Ok(())
        })
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let length = position(length)?;
        self.change(|platter| {
            platter.grow(self.file, length)?;
            platter.record(Change::SetLength { file: self.file, length });
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(|platter| {
            platter.sync(Some(self.file));
            Ok(())
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = position(offset)?;
        self.change(|platter| {
            platter.grow(self.file, offset.saturating_add(data.len()))?;
            platter.counts.bytes += data.len() as u64;
            platter.record(Change::Write { file: self.file, offset, bytes: data.to_vec() });
            Ok(())
        })
    }
}

fn position(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

#[cfg(test)]
mod tests {
    use redb::StorageBackend;

    use super::*;

    fn read_all(folder: &SimFolder, name: &str) -> Vec<u8> {
        let file = folder.open(name).unwrap();
        let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        file.read(0, &mut bytes).unwrap();
        bytes
    }

    fn disk_with(name: &str, bytes: &[u8]) -> SimDisk {
        let disk = SimDisk::new(1, 0);
        let folder = disk.mount();
        let file = folder.create(name).unwrap();
        file.write(0, bytes).unwrap();
        file.sync_data().unwrap();
        folder.sync().unwrap();
        disk
    }

    #[test]
    fn a_kept_image_holds_what_was_durable_then() {
        let disk = disk_with("a", b"old");
        disk.keep_image();
        let file = disk.mount().open("a").unwrap();
        file.write(0, b"new").unwrap();
        file.sync_data().unwrap();

        disk.crash(Crash::Power(Loss::All));
        assert_eq!(read_all(&disk.mount(), "a"), b"new");
        disk.restore_image();

        assert_eq!(read_all(&disk.mount(), "a"), b"old");
    }

    #[test]
    fn a_power_loss_takes_what_was_not_synced_and_leaves_what_was() {
        let disk = disk_with("a", b"old");
        disk.mount().open("a").unwrap().write(0, b"new").unwrap();

        disk.crash(Crash::Power(Loss::All));

        assert_eq!(read_all(&disk.mount(), "a"), b"old");
    }

    #[test]
    fn a_dead_process_leaves_the_page_cache() {
        let disk = disk_with("a", b"old");
        disk.mount().open("a").unwrap().write(0, b"new").unwrap();

        disk.crash(Crash::Process);

        assert_eq!(read_all(&disk.mount(), "a"), b"new");
        disk.crash(Crash::Power(Loss::All));
        assert_eq!(read_all(&disk.mount(), "a"), b"old");
    }

    #[test]
    fn a_new_name_is_lost_until_the_directory_is_synced() {
        let disk = SimDisk::new(1, 0);
        let file = disk.mount().create("a").unwrap();
        file.write(0, b"data").unwrap();
        file.sync_data().unwrap();

        disk.crash(Crash::Power(Loss::All));

        assert!(disk.mount().names().unwrap().is_empty());
    }

    #[test]
    fn a_rename_either_happened_or_did_not() {
        for seed in 0..50 {
            for loss in Loss::EVERY {
                let disk = SimDisk::new(seed, 0);
                let folder = disk.mount();
                folder.create("a.new").unwrap().write(0, b"new").unwrap();
                folder.open("a.new").unwrap().sync_data().unwrap();
                folder.sync().unwrap();
                folder.rename("a.new", "a").unwrap();

                disk.crash(Crash::Power(loss));

                let names = disk.mount().names().unwrap();
                assert!(names == ["a"] || names == ["a.new"], "{names:?}");
                assert_eq!(read_all(&disk.mount(), &names[0]), b"new");
            }
        }
    }

    #[test]
    fn a_torn_write_keeps_whole_sectors() {
        let disk = disk_with("a", &[0; 4 * SECTOR]);
        disk.mount().open("a").unwrap().write(0, &[1; 4 * SECTOR]).unwrap();

        disk.crash(Crash::Power(Loss::Torn));

        for sector in read_all(&disk.mount(), "a").chunks(SECTOR) {
            assert!(sector.iter().all(|&byte| byte == sector[0]));
        }
    }

    #[test]
    fn handles_of_an_earlier_boot_only_fail() {
        let disk = disk_with("a", b"old");
        let folder = disk.mount();
        let file = folder.open("a").unwrap();

        disk.crash(Crash::Process);

        assert!(file.write(0, b"x").is_err());
        assert!(file.len().is_err());
        assert!(folder.create("b").is_err());
    }

    #[test]
    fn a_planned_power_loss_strikes_at_its_operation_and_stays() {
        let disk = disk_with("a", b"old");
        let file = disk.mount().open("a").unwrap();
        disk.crash_at_op(2);

        assert!(file.write(0, b"1").is_ok());
        assert!(file.write(0, b"2").is_err());
        assert!(disk.is_dead());
        assert!(file.len().is_err());
    }

    #[test]
    fn a_failed_operation_changes_nothing_and_the_next_one_works() {
        let disk = disk_with("a", b"old");
        let file = disk.mount().open("a").unwrap();
        disk.fail_next(1);

        assert_eq!(file.write(0, b"new").unwrap_err().raw_os_error(), Some(libc::EIO));
        assert!(disk.has_failed());
        assert_eq!(read_all(&disk.mount(), "a"), b"old");
        assert!(file.write(0, b"new").is_ok());
    }

    #[test]
    fn a_full_disk_refuses_growth_and_takes_what_fits() {
        let disk = disk_with("a", b"old");
        let file = disk.mount().open("a").unwrap();
        disk.set_capacity(Some(5));

        assert_eq!(file.write(0, b"longer").unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert!(file.write(0, b"new").is_ok());
        assert_eq!(disk.mount().room().unwrap(), Some(2));
        disk.clear_faults();
        assert!(file.write(0, b"longer").is_ok());
    }

    #[test]
    fn a_folder_has_one_holder_and_a_crash_frees_it() {
        let disk = SimDisk::new(1, 0);
        let held = disk.mount().hold().unwrap();
        assert_eq!(disk.mount().hold().unwrap_err().kind(), io::ErrorKind::WouldBlock);

        disk.crash(Crash::Process);

        let again = disk.mount().hold().unwrap();
        drop(held);
        assert!(disk.mount().hold().is_err());
        drop(again);
        assert!(disk.mount().hold().is_ok());
    }
}
