//! Floors: what the same disk and processor do without us.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use super::failed;
use crate::cli::failure::Failure;

/// Appends a second of `payload` with a sync after each: the least that durable ingest can cost.
pub(super) fn append_and_sync(folder: &Path, payload: &[u8], stretch: Duration) -> Result<f64, Failure> {
    let path = folder.join("floor.log");
    let mut file = File::create(&path).map_err(|error| failed(&error))?;
    let started = Instant::now();
    let mut appends = 0_u32;
    while started.elapsed() < stretch {
        file.write_all(payload).and_then(|()| file.sync_data()).map_err(|error| failed(&error))?;
        appends += 1;
    }
    let rate = f64::from(appends) / started.elapsed().as_secs_f64();
    drop(file);
    std::fs::remove_file(&path).map_err(|error| failed(&error))?;
    Ok(rate)
}

/// Scans all names for a pattern, as a program without an index would; the hits and the time.
pub(super) fn linear_scan(names: &[String], pattern: &str) -> (usize, Duration) {
    let started = Instant::now();
    let hits = names.iter().filter(|name| name.contains(pattern)).count();
    (hits, started.elapsed())
}
