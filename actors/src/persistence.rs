//! How a directory shard lies on disk, and comes back: segments plus the log's tail.
//!
//! A shard is the fold of a log. Writing a *checkpoint* stores the fold as chunks of rows with the log
//! position they cover, so that a start reads chunks and a short tail instead of the whole log. The
//! coordinator's shards share one log; a site's own inventory has a log of its own. [`Fold`] is what the
//! two have in common.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hansa_model::directory::Shard;
use hansa_model::host::{HostChange, HostRow};
use hansa_model::site::{Site, SiteStatus};
use hansa_model::{SiteId, Timestamp};
use hansa_storage::table::{self, SegmentHead};
use hansa_storage::{Batch, CommitError, Lane, ReadError, ReadView, Store};
use serde::Serialize;

use hansa_model::secret::TokenHash;

/// The key of single records.
pub(crate) const SELF: &str = "self";

/// The setting with the time of the newest record that was folded away, in microseconds: from then on the
/// ingest log has every change.
pub(crate) const COMPLETE_FROM: &str = "ingest_complete_from";

/// Where one shard's rows lie.
pub(crate) trait Fold: Send + Sync {
    /// Reads the head of the last checkpoint.
    fn head(&self, view: &ReadView) -> Result<SegmentHead, ReadError>;
    /// Visits the chunks of the last checkpoint in order.
    fn chunks(&self, view: &ReadView, visit: &mut dyn FnMut(&[u8])) -> Result<(), ReadError>;
    /// Visits this shard's log records from a position on.
    fn log(&self, view: &ReadView, from: u64, visit: &mut dyn FnMut(u64, &[u8])) -> Result<(), ReadError>;
    /// The changes of one log record.
    fn changes<'a>(&self, body: &'a [u8]) -> Option<Vec<HostChange<&'a str>>>;
    /// Replaces the checkpoint.
    fn put(&self, batch: &mut Batch, head: &SegmentHead, chunks: &[Vec<u8>]);
    /// The position that the log's next record gets.
    fn next_position(&self, view: &ReadView) -> Result<u64, ReadError>;
}

/// One site's part of the coordinator's log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SiteFold(pub(crate) SiteId);

impl Fold for SiteFold {
    fn head(&self, view: &ReadView) -> Result<SegmentHead, ReadError> {
        Ok(view.get::<table::SegmentHeads>(&self.0)?.unwrap_or_default())
    }

    fn chunks(&self, view: &ReadView, visit: &mut dyn FnMut(&[u8])) -> Result<(), ReadError> {
        view.visit::<table::Segments>((self.0, 0)..=(self.0, u32::MAX), |_, body| {
            visit(body);
            ControlFlow::Continue(())
        })
    }

    fn log(&self, view: &ReadView, from: u64, visit: &mut dyn FnMut(u64, &[u8])) -> Result<(), ReadError> {
        view.for_each_from::<table::IngestLog>(from, |position, body| {
            if record_site(body) == Some(self.0) {
                visit(position, body);
            }
            ControlFlow::Continue(())
        })
    }

    fn changes<'a>(&self, body: &'a [u8]) -> Option<Vec<HostChange<&'a str>>> {
        Some(postcard::from_bytes::<hansa_model::sync::IngestRecord<'a>>(body).ok()?.changes)
    }

    fn put(&self, batch: &mut Batch, head: &SegmentHead, chunks: &[Vec<u8>]) {
        batch.delete_range::<table::Segments>((self.0, head.chunks)..=(self.0, u32::MAX));
        for (number, chunk) in (0..).zip(chunks) {
            batch.put_bytes::<table::Segments>(&(self.0, number), chunk);
        }
        batch.put::<table::SegmentHeads>(&self.0, head);
    }

    fn next_position(&self, view: &ReadView) -> Result<u64, ReadError> {
        Ok(view.log_end::<table::IngestLog>()? + 1)
    }
}

/// A site's own inventory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InventoryFold;

impl Fold for InventoryFold {
    fn head(&self, view: &ReadView) -> Result<SegmentHead, ReadError> {
        Ok(view.get::<table::InventorySegmentHeads>(SELF)?.unwrap_or_default())
    }

    fn chunks(&self, view: &ReadView, visit: &mut dyn FnMut(&[u8])) -> Result<(), ReadError> {
        view.visit::<table::InventorySegments>(0..=u32::MAX, |_, body| {
            visit(body);
            ControlFlow::Continue(())
        })
    }

    fn log(&self, view: &ReadView, from: u64, visit: &mut dyn FnMut(u64, &[u8])) -> Result<(), ReadError> {
        view.for_each_from::<table::InventoryLog>(from, |position, body| {
            visit(position, body);
            ControlFlow::Continue(())
        })
    }

    fn changes<'a>(&self, body: &'a [u8]) -> Option<Vec<HostChange<&'a str>>> {
        postcard::from_bytes(body).ok()
    }

    fn put(&self, batch: &mut Batch, head: &SegmentHead, chunks: &[Vec<u8>]) {
        batch.delete_range::<table::InventorySegments>(head.chunks..=u32::MAX);
        for (number, chunk) in (0..).zip(chunks) {
            batch.put_bytes::<table::InventorySegments>(&number, chunk);
        }
        batch.put::<table::InventorySegmentHeads>(SELF, head);
    }

    fn next_position(&self, view: &ReadView) -> Result<u64, ReadError> {
        Ok(view.log_end::<table::InventoryLog>()? + 1)
    }
}

/// The site of an ingest record, read without decoding the rest: the id's length and 16 bytes lead it.
pub(crate) fn record_site(body: &[u8]) -> Option<SiteId> {
    postcard::take_from_bytes::<SiteId>(body).ok().map(|(site, _)| site)
}

/// When an ingest record arrived, read without decoding its rows.
pub(crate) fn record_time(body: &[u8]) -> Option<Timestamp> {
    let ((_, _, _, at), _) = postcard::take_from_bytes::<(SiteId, u64, u64, Timestamp)>(body).ok()?;
    Some(at)
}

/// What lies behind a shard: how far its checkpoint reaches, and how much came since.
#[derive(Debug)]
pub(crate) struct ShardLog<F> {
    fold: F,
    covers: u64,
    last: u64,
    rows_since: u64,
    uncovered_from: Arc<AtomicU64>,
}

/// The log behind a site's shard at its coordinator.
pub(crate) type SiteLog = ShardLog<SiteFold>;

/// Says that a shard's checkpoint covers everything.
pub(crate) const COVERED: u64 = u64::MAX;

impl ShardLog<SiteFold> {
    /// Reads where a site stands.
    pub(crate) fn open(
        view: &ReadView,
        site: SiteId,
        uncovered_from: Arc<AtomicU64>,
    ) -> Result<Self, ReadError> {
        Self::with(view, SiteFold(site), uncovered_from)
    }
}

impl<F: Fold> ShardLog<F> {
    /// Reads where a shard stands.
    pub(crate) fn with(view: &ReadView, fold: F, uncovered_from: Arc<AtomicU64>) -> Result<Self, ReadError> {
        let covers = fold.head(view)?.covers_position;
        Ok(Self { fold, covers, last: covers, rows_since: 0, uncovered_from })
    }

    /// Notes, before a commit, from where on the log may hold rows that no checkpoint covers.
    pub(crate) fn before_append(&self, store: &Store) {
        if self.uncovered_from.load(Ordering::Acquire) == COVERED {
            // Without an answer the log is kept from its start, which is always right.
            let next = store.read().and_then(|view| self.fold.next_position(&view)).unwrap_or(0);
            self.uncovered_from.store(next, Ordering::Release);
        }
    }

    /// Notes rows that are on disk.
    pub(crate) const fn appended(&mut self, position: u64, rows: u64) {
        self.last = position;
        self.rows_since += rows;
    }

    /// Forgets everything, as a removed site does.
    pub(crate) fn forget(&mut self) {
        self.rows_since = 0;
        self.uncovered_from.store(COVERED, Ordering::Release);
    }

    /// Whether so much came since the last checkpoint that a start would notice. A shard that has gone quiet
    /// is written early; one that is fed waits until it has changed as much as a checkpoint costs to write.
    pub(crate) fn checkpoint_due(&self, rows: u64, rows_min: u64, quiet: bool) -> bool {
        let busy_min = rows_min.max(rows);
        self.rows_since > if quiet { (rows / 8).max(rows_min / 64) } else { busy_min }
    }

    /// From where on the log may hold rows that the checkpoint does not.
    pub(crate) fn uncovered_from(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.uncovered_from)
    }

    /// How far the checkpoint reaches.
    pub(crate) const fn covers(&self) -> u64 {
        self.covers
    }
}

/// Writes a checkpoint of chunks that hold everything up to the last appended record.
pub(crate) async fn write_segments<F: Fold>(
    store: &Store,
    log: &mut ShardLog<F>,
    chunks: Chunks,
) -> Result<(), CommitError> {
    let head = SegmentHead {
        covers_position: log.last,
        chunks: u32::try_from(chunks.bodies.len()).unwrap_or(u32::MAX),
        rows: chunks.rows,
    };
    let mut batch = Batch::new();
    log.fold.put(&mut batch, &head, &chunks.bodies);
    store.commit(Lane::Ingest, batch).await?;
    log.covers = log.last;
    log.rows_since = 0;
    log.uncovered_from.store(COVERED, Ordering::Release);
    Ok(())
}

/// A shard's rows as they are stored.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    bodies: Vec<Vec<u8>>,
    rows: u64,
}

/// Encodes a shard's rows into chunks.
pub(crate) fn encode_chunks(shard: &Shard) -> Chunks {
    let mut chunks = Chunks::default();
    let mut rows: Vec<u8> = Vec::with_capacity(table::CHUNK_BYTES);
    let mut count = 0_usize;
    let mut row_bytes = Vec::with_capacity(512);
    let seal = |rows: &mut Vec<u8>, count: &mut usize, chunks: &mut Chunks| {
        if *count > 0 {
            // A sequence in postcard: its length, then its elements.
            let mut body = plain(count);
            body.append(rows);
            chunks.bodies.push(body);
            *count = 0;
        }
    };
    shard.for_each_row(|row| {
        row_bytes.clear();
        row_bytes = postcard::to_extend(row, std::mem::take(&mut row_bytes)).unwrap_or_default();
        if rows.len() + row_bytes.len() > table::CHUNK_BYTES - 10 {
            seal(&mut rows, &mut count, &mut chunks);
        }
        rows.extend_from_slice(&row_bytes);
        count += 1;
        chunks.rows += 1;
    });
    seal(&mut rows, &mut count, &mut chunks);
    chunks
}

/// Encodes plain data, which has no way to fail.
pub(crate) fn plain(value: &impl Serialize) -> Vec<u8> {
    postcard::to_stdvec(value).expect("plain data into memory has no way to fail")
}

/// Encodes an ingest record from borrowed changes; the bytes are those of
/// [`hansa_model::sync::IngestRecord`].
pub(crate) fn encode_record(
    site: SiteId,
    epoch: u64,
    sequence: u64,
    received_at: Timestamp,
    changes: &[HostChange<&str>],
) -> Vec<u8> {
    plain(&(site, epoch, sequence, received_at, changes))
}

/// The log records of one shard behind its checkpoint, copied out of one pass over a log.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    records: Vec<Vec<u8>>,
    last: u64,
}

impl Tail {
    fn push(&mut self, position: u64, body: &[u8]) {
        self.records.push(body.to_vec());
        self.last = position;
    }
}

/// Copies one shard's tail.
pub(crate) fn tail<F: Fold>(view: &ReadView, log: &ShardLog<F>) -> Result<Tail, ReadError> {
    let mut tail = Tail::default();
    log.fold.log(view, log.covers + 1, &mut |position, body| tail.push(position, body))?;
    Ok(tail)
}

/// Copies the tails of all sites in one pass over the shared log.
pub(crate) fn tails(
    view: &ReadView,
    covers: &BTreeMap<SiteId, u64>,
    from: u64,
) -> Result<BTreeMap<SiteId, Tail>, ReadError> {
    let mut tails: BTreeMap<SiteId, Tail> = covers.keys().map(|site| (*site, Tail::default())).collect();
    view.for_each_from::<table::IngestLog>(from, |position, body| {
        let site = record_site(body).filter(|site| covers.get(site).is_some_and(|covers| position > *covers));
        if let Some(tail) = site.and_then(|site| tails.get_mut(&site)) {
            tail.push(position, body);
        }
        ControlFlow::Continue(())
    })?;
    Ok(tails)
}

/// Folds checkpoint and tail into a shard: the last word about each host counts. Chunks are decoded where
/// they lie and each record is dropped when it is folded, so that a start needs little beside the shard.
pub(crate) fn fold<F: Fold>(
    view: &ReadView,
    site: SiteId,
    tail: Tail,
    log: &mut ShardLog<F>,
) -> Result<Shard, ReadError> {
    let rows = usize::try_from(log.fold.head(view)?.rows).unwrap_or(0);
    let mut builder = Shard::builder(site, rows);
    log.fold.chunks(view, &mut |body| {
        let chunk: Vec<HostRow<'_>> = postcard::from_bytes(body).unwrap_or_default();
        chunk.iter().for_each(|row| builder.push(row));
    })?;
    let mut count = 0;
    for body in tail.records {
        let changes = log.fold.changes(&body).unwrap_or_default();
        count += changes.len() as u64;
        for change in &changes {
            match change {
                HostChange::Upsert(row) => builder.push(row),
                HostChange::Remove(host) => builder.remove(*host),
            }
        }
    }
    if count > 0 {
        log.appended(tail.last, count);
        log.uncovered_from.fetch_min(log.covers + 1, Ordering::AcqRel);
    }
    Ok(builder.finish())
}

/// Reads one shard back, alone.
pub(crate) fn rebuild<F: Fold>(
    view: &ReadView,
    site: SiteId,
    log: &mut ShardLog<F>,
) -> Result<Shard, ReadError> {
    fold(view, site, tail(view, log)?, log)
}

/// Removes a site's checkpoint.
pub(crate) fn delete_segments(batch: &mut Batch, site: SiteId) {
    batch.delete_range::<table::Segments>((site, 0)..=(site, u32::MAX));
    batch.delete::<table::SegmentHeads>(&site);
}

/// The tokens that find a site, and the names and keys that no other live site may have.
struct Indexed<'a> {
    name: Option<&'a str>,
    identity_key: Option<[u8; 32]>,
    enrollment_token: Option<TokenHash>,
    sync_bearer: Option<TokenHash>,
}

impl<'a> Indexed<'a> {
    fn of(site: Option<&'a Site>) -> Self {
        let Some(site) = site.filter(|site| site.status != SiteStatus::Removed) else {
            return Self { name: None, identity_key: None, enrollment_token: None, sync_bearer: None };
        };
        Self {
            name: Some(site.name.as_str()),
            identity_key: site.identity_key,
            enrollment_token: site
                .enrollment
                .map(|pending| pending.token_hash)
                .or_else(|| site.completed.map(|completed| completed.token_hash)),
            sync_bearer: site.sync_bearer_hash,
        }
    }
}

/// Moves a site's index entries from its old row to its new one. Names and keys are claimed with a
/// precondition, so that two sites never get the same one.
pub(crate) fn index_site(batch: &mut Batch, old: Option<&Site>, new: &Site) {
    let (before, after) = (Indexed::of(old), Indexed::of(Some(new)));
    if before.name != after.name {
        if let Some(name) = before.name {
            batch.delete::<table::SiteNames>(name);
        }
        if let Some(name) = after.name {
            batch.expect_absent::<table::SiteNames>(name).put::<table::SiteNames>(name, &new.id);
        }
    }
    if before.identity_key != after.identity_key {
        if let Some(key) = before.identity_key {
            batch.delete::<table::IdentityKeys>(&key);
        }
        if let Some(key) = after.identity_key {
            batch.expect_absent::<table::IdentityKeys>(&key).put::<table::IdentityKeys>(&key, &new.id);
        }
    }
    if before.enrollment_token != after.enrollment_token {
        if let Some(hash) = before.enrollment_token {
            batch.delete::<table::EnrollmentTokens>(&hash);
        }
        if let Some(hash) = after.enrollment_token {
            batch.put::<table::EnrollmentTokens>(&hash, &new.id);
        }
    }
    if before.sync_bearer != after.sync_bearer {
        if let Some(hash) = before.sync_bearer {
            batch.delete::<table::SyncBearers>(&hash);
        }
        if let Some(hash) = after.sync_bearer {
            batch.put::<table::SyncBearers>(&hash, &new.id);
        }
    }
}
