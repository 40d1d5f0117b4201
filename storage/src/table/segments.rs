//! A site's directory, folded up to a position: chunks of rows, and one head that says what they cover.

use hansa_model::{Host, SiteId};
use serde::{Deserialize, Serialize};

use super::Table;

/// Bytes of rows to put into one chunk, about 200 rows.
///
/// The engine rounds a large record up to a power of two: a chunk that just fits 64 KiB wastes nothing,
/// one of 300 kB wastes 40 %. Cut when the next row would pass this bound.
pub const CHUNK_BYTES: usize = 65_000;

/// A site's directory in chunks: (site, chunk) → `Vec<Host>` in postcard, read as rows that borrow.
///
/// Write with `Batch::put_bytes`, read with `ReadView::visit`.
#[derive(Debug)]
pub enum Segments {}

impl Table for Segments {
    type Key = (SiteId, u32);
    type Value = Vec<Host>;
    const NAME: &'static str = "segments";
}

/// What a directory's chunks cover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SegmentHead {
    /// Every log record up to and including this position is folded in.
    pub covers_position: u64,
    /// Chunks, numbered from zero without gaps.
    pub chunks: u32,
    /// Rows in all chunks.
    pub rows: u64,
}

/// What each site's chunks cover: site → head. Written in the same batch as the chunks.
#[derive(Debug)]
pub enum SegmentHeads {}

impl Table for SegmentHeads {
    type Key = SiteId;
    type Value = SegmentHead;
    const NAME: &'static str = "segment_heads";
}
