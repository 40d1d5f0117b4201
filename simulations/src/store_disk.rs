//! A host's folder as the store's disk: the seam of [`hansa_storage::disk`].

use std::io;

use hansa_storage::disk::{Disk, Held, RawFile, STORE_FILE};
use redb::StorageBackend;

use crate::disk::{FolderLock, SimFile, SimFolder};

const TEMPORARY_FILE: &str = "hansa.redb.new";

impl Disk for SimFolder {
    fn lock(&self) -> io::Result<Box<dyn Held>> {
        Ok(Box::new(self.hold()?))
    }

    fn open(&self) -> io::Result<Option<Box<dyn RawFile>>> {
        if self.exists(TEMPORARY_FILE)? {
            self.remove(TEMPORARY_FILE)?;
        }
        if !self.exists(STORE_FILE)? {
            return Ok(None);
        }
        Ok(Some(Box::new(Self::open(self, STORE_FILE)?)))
    }

    fn create(&self) -> io::Result<Box<dyn RawFile>> {
        Ok(Box::new(Self::create(self, TEMPORARY_FILE)?))
    }

    fn publish(&self) -> io::Result<()> {
        StorageBackend::sync_data(&Self::open(self, TEMPORARY_FILE)?)?;
        self.rename(TEMPORARY_FILE, STORE_FILE)?;
        self.sync()
    }

    fn free_bytes(&self) -> io::Result<Option<u64>> {
        self.room()
    }
}

impl Held for FolderLock {}

impl RawFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        StorageBackend::len(self)
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        StorageBackend::read(self, offset, bytes)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        StorageBackend::set_len(self, len)
    }

    fn sync_data(&self) -> io::Result<()> {
        StorageBackend::sync_data(self)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        StorageBackend::write(self, offset, bytes)
    }
}
