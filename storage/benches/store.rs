//! What durable writes cost, next to the disk's own floor in the same run.
//!
//! `cargo bench -p hansa-storage [-- DIRECTORY [SECONDS]]` writes into a temporary folder below the directory (default: the
//! system's). Each line is one load: how many writers, what each commits, and what came of it. The floor
//! appends the same bytes to a plain file and calls `fdatasync`, from one thread.
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hansa_model::site::SiteSync;
use hansa_model::{Entropy, SiteId};
use hansa_storage::table::{IngestLog, SiteSyncs};
use hansa_storage::{Batch, DirDisk, Driver, Lane, RootKey, Store, StoreConfig};
use tokio::time::Instant;

const ROW_BYTES: usize = 300;
const WRITERS: usize = 64;

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let directory = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let seconds = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(5);
    let folder = tempfile::tempdir_in(directory).expect("the directory is writable");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .expect("the machine has threads");
    println!("{ROW_BYTES}-byte rows, 64 MiB cache, {seconds} s each");
    for (rows, writers) in [(1, 1), (1, WRITERS), (1_000, 1), (1_000, WRITERS)] {
        let load = Load { rows, writers, time: Duration::from_secs(seconds) };
        load.floor(folder.path(), 1);
        load.floor(folder.path(), writers.min(8 * 1024 * 1024 / (rows * ROW_BYTES)));
        runtime.block_on(load.store(&folder.path().join(format!("store-{rows}-{writers}"))));
    }
}

#[derive(Clone, Copy)]
struct Load {
    rows: usize,
    writers: usize,
    time: Duration,
}

impl Load {
    /// Appends groups of batches to a plain file, one sync for each.
    fn floor(self, folder: &Path, group: usize) {
        let path = folder.join("floor");
        let mut file = File::create(&path).expect("the folder is writable");
        let bytes = vec![7; self.rows * ROW_BYTES * group];
        let start = Instant::now();
        let mut syncs = 0;
        while start.elapsed() < self.time / 4 {
            file.write_all(&bytes).expect("the disk has room");
            file.sync_data().expect("the disk syncs");
            syncs += 1;
        }
        let rate = f64::from(syncs) / start.elapsed().as_secs_f64();
        let batches = rate * group as f64;
        println!(
            "floor  {:>5} rows x {group:>2} a sync: {rate:>7.0} syncs/s {batches:>8.0} batches/s {:>9.0} rows/s",
            self.rows,
            batches * self.rows as f64
        );
        std::fs::remove_file(path).expect("the file is there");
    }

    /// Commits to a store, one batch of each writer in flight.
    async fn store(self, folder: &Path) {
        let disk = Arc::new(DirDisk::new(folder).expect("the folder is writable"));
        let root = RootKey::new([1; 32]);
        let store = Store::open(StoreConfig::default(), disk, Driver::Thread, &root, Arc::new(Counting))
            .expect("a new store opens");
        let start = Instant::now();
        let writers: Vec<_> =
            (0..self.writers).map(|n| tokio::spawn(self.write(store.clone(), n, start))).collect();
        let mut waits = Vec::new();
        for writer in writers {
            waits.extend(writer.await.expect("a writer does not panic"));
        }
        let rate = waits.len() as f64 / start.elapsed().as_secs_f64();
        waits.sort_unstable();
        let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
        println!(
            "store  {:>5} rows x {:>2} writers: {rate:>8.0} batches/s {:>9.0} rows/s, p50 {:.2} ms, p99 {:.2} ms",
            self.rows,
            self.writers,
            rate * self.rows as f64,
            at(0.5),
            at(0.99)
        );
        store.close().await;
        let size = std::fs::metadata(folder.join("hansa.redb")).map_or(0, |metadata| metadata.len());
        let stored = waits.len() * self.rows * ROW_BYTES;
        println!("       file {} MiB for {} MiB of rows", size >> 20, stored >> 20);
        let _ = std::fs::remove_dir_all(folder);
    }

    async fn write(self, store: Store, writer: usize, start: Instant) -> Vec<Duration> {
        let site = SiteId(uuid::Uuid::from_u128(writer as u128));
        let mut sync = SiteSync::default();
        let mut waits = Vec::new();
        while start.elapsed() < self.time {
            sync.position.sequence += 1;
            let mut batch = Batch::new();
            batch.append_bytes::<IngestLog>(vec![writer as u8; self.rows * ROW_BYTES]);
            batch.put::<SiteSyncs>(&site, &sync);
            let begun = Instant::now();
            store.commit(Lane::Ingest, batch).await.expect("the disk has room");
            waits.push(begun.elapsed());
        }
        waits
    }
}

/// Nothing here is secret.
#[derive(Debug)]
struct Counting;

impl Entropy for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        for (n, byte) in bytes.iter_mut().enumerate() {
            *byte = n.to_le_bytes()[0];
        }
    }
}
