//! The trace: one hash over everything that the world did, and on request the same as text.
//!
//! Two runs are the same run when their hashes are equal. The text is only for people: after a mismatch,
//! the first line that differs says where two runs parted.

use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clock::SimTime;

/// What became of a datagram when it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Arrives once, at the given time.
    Delivered(SimTime),
    /// Arrives twice, at the given times.
    Duplicated(SimTime, SimTime),
    /// Lost by chance.
    Lost,
    /// Larger than the link carries.
    TooLarge,
    /// The two hosts are cut off from each other.
    Partitioned,
    /// The link's queue was full.
    Overflowed,
    /// Nobody is bound to the address.
    Unreachable,
}

/// Shared by all parts of a world; cheap to clone.
#[derive(Clone)]
pub struct Trace(Arc<Mutex<Recorder>>);

struct Recorder {
    hasher: blake3::Hasher,
    events: u64,
    datagrams: u64,
    log: Option<BufWriter<File>>,
}

/// The sum of a finished run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceSummary {
    /// Hash of the trace, in hexadecimal.
    pub hash: String,
    /// Everything recorded, datagrams included.
    pub events: u64,
    /// Datagrams sent, whatever became of them.
    pub datagrams: u64,
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trace")
    }
}

impl Trace {
    /// A trace that only hashes.
    pub fn new() -> Self {
        Self::with(None)
    }

    /// A trace that also writes one line for each event to a file.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn logged(path: &Path) -> std::io::Result<Self> {
        Ok(Self::with(Some(BufWriter::new(File::create(path)?))))
    }

    fn with(log: Option<BufWriter<File>>) -> Self {
        let hasher = blake3::Hasher::new();
        Self(Arc::new(Mutex::new(Recorder { hasher, events: 0, datagrams: 0, log })))
    }

    /// Records a datagram with all its bytes, at the moment it is sent.
    pub fn datagram(&self, time: SimTime, source: SocketAddr, target: SocketAddr, bytes: &[u8], fate: Fate) {
        let mut recorder = self.lock();
        recorder.datagrams += 1;
        let line = format!("{} datagram {source} > {target} {} bytes {fate:?}", time.nanos(), bytes.len());
        recorder.record(&line, bytes);
    }

    /// Records something that a host, a fault or the world itself did.
    pub fn event(&self, time: SimTime, actor: &str, event: &str) {
        self.lock().record(&format!("{} {actor}: {event}", time.nanos()), &[]);
    }

    /// Closes the trace: flushes the text and sums up.
    pub fn finish(&self) -> TraceSummary {
        let mut recorder = self.lock();
        if let Some(log) = recorder.log.as_mut() {
            // The text is a convenience; a run must not fail because a disk is full.
            let _ = log.flush();
        }
        TraceSummary {
            hash: recorder.hasher.finalize().to_hex().to_string(),
            events: recorder.events,
            datagrams: recorder.datagrams,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Recorder> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Trace {
    fn default() -> Self {
        Self::new()
    }
}

impl Recorder {
    fn record(&mut self, line: &str, bytes: &[u8]) {
        self.events += 1;
        self.hasher.update(&(line.len() as u64).to_le_bytes());
        self.hasher.update(line.as_bytes());
        self.hasher.update(&(bytes.len() as u64).to_le_bytes());
        self.hasher.update(bytes);
        let Some(log) = self.log.as_mut() else { return };
        let _ = if bytes.is_empty() {
            writeln!(log, "{line}")
        } else {
            writeln!(log, "{line} {}", &blake3::hash(bytes).to_hex()[..16])
        };
    }
}

/// The first line in which two texts differ, as `(line number from 1, left, right)`.
pub fn first_difference<'a>(left: &'a str, right: &'a str) -> Option<(usize, &'a str, &'a str)> {
    const END: &str = "(end of log)";
    let (mut lefts, mut rights) = (left.lines(), right.lines());
    let mut number = 0;
    loop {
        number += 1;
        match (lefts.next(), rights.next()) {
            (None, None) => return None,
            (a, b) if a == b => {}
            (a, b) => return Some((number, a.unwrap_or(END), b.unwrap_or(END))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash_of(record: impl Fn(&Trace)) -> String {
        let trace = Trace::new();
        record(&trace);
        trace.finish().hash
    }

    #[test]
    fn one_changed_byte_of_one_datagram_changes_the_hash() {
        let (a, b) = (SocketAddr::from(([10, 0, 0, 1], 1)), SocketAddr::from(([10, 0, 0, 2], 1)));
        let send = |bytes: &'static [u8]| {
            hash_of(move |trace| trace.datagram(SimTime::START, a, b, bytes, Fate::Lost))
        };

        assert_eq!(send(b"ahoy"), send(b"ahoy"));
        assert_ne!(send(b"ahoy"), send(b"ahoi"));
    }

    #[test]
    fn the_first_difference_is_found_also_when_one_log_ends() {
        assert_eq!(first_difference("a\nb", "a\nb"), None);
        assert_eq!(first_difference("a\nb", "a\nc"), Some((2, "b", "c")));
        assert_eq!(first_difference("a", "a\nc"), Some((2, "(end of log)", "c")));
    }
}
