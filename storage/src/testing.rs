//! Disks for tests and simulations: in memory, filling up, failing, losing power.
//!
//! [`MemoryDisk`] keeps, per file, the bytes that are durable, the bytes as written, and the operations
//! since the last sync. A power loss settles the durable bytes by a [`Loss`], after which old handles only
//! fail. Everything follows from the arguments; there is no randomness of its own.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hansa_model::Entropy;

use crate::disk::{Disk, Held, RawFile};

/// What a power loss leaves of the operations that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// None of them.
    Nothing,
    /// The first so many, drawn from the seed.
    Prefix,
    /// A random half of them.
    Half,
    /// Of each write a random half of its 512-byte sectors; a random half of the other operations.
    Torn,
}

impl Loss {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Nothing, Self::Prefix, Self::Half, Self::Torn];
}

const SECTOR: usize = 512;

/// A disk in memory; clones are the same disk.
#[derive(Clone, Default)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    published: Option<Image>,
    temporary: Option<Image>,
    held: bool,
    /// Handles of an earlier incarnation only fail.
    incarnation: u64,
    operations: u64,
    crash_at: Option<u64>,
    fail_at: Option<u64>,
    crashed: bool,
    sync_fails: bool,
    space_panics: bool,
    free_bytes: Option<u64>,
    capacity: Option<u64>,
}

#[derive(Default, Clone)]
struct Image {
    durable: Vec<u8>,
    written: Vec<u8>,
    unsynced: Vec<Operation>,
}

#[derive(Clone)]
enum Operation {
    Write(usize, Vec<u8>),
    SetLen(usize),
}

impl fmt::Debug for MemoryDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryDisk")
    }
}

impl MemoryDisk {
    /// An empty disk without bounds.
    pub fn new() -> Self {
        Self::default()
    }

    /// Mutating operations so far: writes, length changes, syncs, creations, publications.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// The operation with this number, counted from one, and all later ones fail: the power is gone.
    pub fn crash_at(&self, operation: u64) {
        self.state().crash_at = Some(operation);
    }

    /// The operation with this number, counted from one, fails; those before and after do not.
    pub fn fail_at(&self, operation: u64) {
        self.state().fail_at = Some(operation);
    }

    /// Whether the power is gone.
    pub fn has_crashed(&self) -> bool {
        self.state().crashed
    }

    /// Settles what survives a power loss now, and turns the power on again: old handles only fail from
    /// here on, the lock is free, and no crash is planned.
    pub fn lose_power(&self, loss: Loss, seed: u64) {
        let mut state = self.state();
        let mut draws = Draws(seed);
        let State { published, temporary, .. } = &mut *state;
        for image in [published, temporary].into_iter().flatten() {
            image.settle(loss, &mut draws);
        }
        state.incarnation += 1;
        state.crash_at = None;
        state.crashed = false;
        state.held = false;
    }

    /// From now on every sync fails, or succeeds again.
    pub fn fail_syncs(&self, fails: bool) {
        self.state().sync_fails = fails;
    }

    /// From now on asking for free space panics, as a defect in the writer would; it asks at each commit.
    pub fn panic_when_asked_for_space(&self) {
        self.state().space_panics = true;
    }

    /// What the disk says it has free.
    pub fn set_free_bytes(&self, free: Option<u64>) {
        self.state().free_bytes = free;
    }

    /// Growth beyond this size fails as on a full disk.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// Size of the published file.
    pub fn published_bytes(&self) -> u64 {
        self.state().published.as_ref().map_or(0, |image| image.written.len() as u64)
    }

    /// The published file's bytes.
    pub fn published(&self) -> Vec<u8> {
        self.state().published.as_ref().map(|image| image.written.clone()).unwrap_or_default()
    }

    /// Replaces the published file, durably.
    pub fn set_published(&self, bytes: Vec<u8>) {
        self.state().published = Some(Image { durable: bytes.clone(), written: bytes, unsynced: Vec::new() });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, state: &State, place: Place) -> Box<dyn RawFile> {
        Box::new(MemoryFile { disk: self.clone(), place, incarnation: state.incarnation })
    }
}

impl State {
    /// Counts a mutating operation, and fails it from the planned crash on.
    fn operate(&mut self) -> io::Result<()> {
        self.operations += 1;
        if self.crash_at.is_some_and(|crash_at| self.operations >= crash_at) {
            self.crashed = true;
        }
        if self.fail_at == Some(self.operations) {
            return Err(io::Error::other("a planned error"));
        }
        self.powered()
    }

    fn powered(&self) -> io::Result<()> {
        if self.crashed { Err(io::Error::other("the power is gone")) } else { Ok(()) }
    }

    fn file(&mut self, place: Place, incarnation: u64) -> io::Result<&mut Image> {
        if incarnation != self.incarnation {
            return Err(io::Error::other("the handle is from before the power loss"));
        }
        let image = match place {
            Place::Published => self.published.as_mut(),
            Place::Temporary => self.temporary.as_mut(),
        };
        image.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn has_room(&self, len: usize) -> io::Result<()> {
        match self.capacity {
            Some(capacity) if len as u64 > capacity => Err(io::ErrorKind::StorageFull.into()),
            Some(_) | None => Ok(()),
        }
    }
}

impl Disk for MemoryDisk {
    fn lock(&self) -> io::Result<Box<dyn Held>> {
        let mut state = self.state();
        if state.held {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.held = true;
        Ok(Box::new(MemoryHold { disk: self.clone(), incarnation: state.incarnation }))
    }

    fn open(&self) -> io::Result<Option<Box<dyn RawFile>>> {
        let mut state = self.state();
        state.powered()?;
        state.temporary = None;
        Ok(state.published.is_some().then(|| self.handle(&state, Place::Published)))
    }

    fn create(&self) -> io::Result<Box<dyn RawFile>> {
        let mut state = self.state();
        state.operate()?;
        state.temporary = Some(Image::default());
        Ok(self.handle(&state, Place::Temporary))
    }

    fn publish(&self) -> io::Result<()> {
        let mut state = self.state();
        state.operate()?;
        let mut image = state.temporary.take().ok_or(io::ErrorKind::NotFound)?;
        image.sync();
        state.published = Some(image);
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<Option<u64>> {
        let (free, panics) = {
            let state = self.state();
            (state.free_bytes, state.space_panics)
        };
        assert!(!panics, "a planned panic");
        Ok(free)
    }
}

struct MemoryHold {
    disk: MemoryDisk,
    incarnation: u64,
}

impl fmt::Debug for MemoryHold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryHold")
    }
}

impl Held for MemoryHold {}

impl Drop for MemoryHold {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.incarnation == self.incarnation {
            state.held = false;
        }
    }
}

#[derive(Clone, Copy)]
enum Place {
    Published,
    Temporary,
}

struct MemoryFile {
    disk: MemoryDisk,
    place: Place,
    incarnation: u64,
}

impl fmt::Debug for MemoryFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryFile")
    }
}

impl RawFile for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        let mut state = self.disk.state();
        state.powered()?;
        Ok(state.file(self.place, self.incarnation)?.written.len() as u64)
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        state.powered()?;
        let image = state.file(self.place, self.incarnation)?;
        let from = index(offset)?;
        let source = image.written.get(from..from + bytes.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        bytes.copy_from_slice(source);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = index(len)?;
        let mut state = self.disk.state();
        state.operate()?;
        let grows = len > state.file(self.place, self.incarnation)?.written.len();
        if grows {
            state.has_room(len)?;
        }
        state.file(self.place, self.incarnation)?.apply(Operation::SetLen(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.operate()?;
        if state.sync_fails {
            return Err(io::Error::other("the medium failed"));
        }
        state.file(self.place, self.incarnation)?.sync();
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let offset = index(offset)?;
        let mut state = self.disk.state();
        state.operate()?;
        state.has_room(offset + bytes.len())?;
        state.file(self.place, self.incarnation)?.apply(Operation::Write(offset, bytes.to_vec()));
        Ok(())
    }
}

fn index(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}

impl Image {
    fn apply(&mut self, operation: Operation) {
        operation.apply_to(&mut self.written);
        self.unsynced.push(operation);
    }

    fn sync(&mut self) {
        for operation in self.unsynced.drain(..) {
            operation.apply_to(&mut self.durable);
        }
    }

    fn settle(&mut self, loss: Loss, draws: &mut Draws) {
        let operations = std::mem::take(&mut self.unsynced);
        let kept = match loss {
            Loss::Nothing => 0,
            Loss::Prefix => draws.below(operations.len() as u64 + 1) as usize,
            Loss::Half | Loss::Torn => operations.len(),
        };
        for operation in operations.into_iter().take(kept) {
            match (loss, operation) {
                (Loss::Torn, Operation::Write(offset, bytes)) => {
                    for (number, sector) in bytes.chunks(SECTOR).enumerate() {
                        if draws.half() {
                            let sector = Operation::Write(offset + number * SECTOR, sector.to_vec());
                            sector.apply_to(&mut self.durable);
                        }
                    }
                }
                (Loss::Half | Loss::Torn, operation) => {
                    if draws.half() {
                        operation.apply_to(&mut self.durable);
                    }
                }
                (Loss::Nothing | Loss::Prefix, operation) => operation.apply_to(&mut self.durable),
            }
        }
        self.written = self.durable.clone();
    }
}

impl Operation {
    fn apply_to(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::SetLen(len) => bytes.resize(*len, 0),
            Self::Write(offset, data) => {
                let end = offset + data.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*offset..end].copy_from_slice(data);
            }
        }
    }
}

/// Numbers that follow from a seed (splitmix64).
#[derive(Debug, Clone)]
struct Draws(u64);

impl Draws {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    const fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    const fn half(&mut self) -> bool {
        self.next() & 1 == 0
    }
}

/// Bytes that follow from a seed. Never for production.
#[derive(Debug)]
pub struct SeededEntropy(Mutex<Draws>);

impl SeededEntropy {
    /// The same seed gives the same bytes.
    pub const fn new(seed: u64) -> Self {
        Self(Mutex::new(Draws(seed)))
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        let mut draws = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for byte in bytes {
            *byte = draws.next().to_le_bytes()[0];
        }
    }
}
