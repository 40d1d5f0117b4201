//! A site's durable outbox: what waits to be sent, and the batch under way.
//!
//! Shell around `machine::outbox`. The inventory log is the queue of host changes; other payloads wait in
//! a table, the latest per deduplication key. A batch is frozen on disk with its number before its first
//! attempt, and taken out only by an acknowledgement that names its position.
//!
//! An acknowledgement itself may be lost in a crash: the batch is still frozen then, and the coordinator
//! names its position at the next link. So it is written with whatever comes next, and costs no sync of its
//! own while anything does.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use hansa_model::audit::{AuditDraft, Detail};
use hansa_model::directory::digest;
use hansa_model::host::{HostChange, HostEntry};
use hansa_model::limits::sync as limits;
use hansa_model::machine::link;
use hansa_model::machine::outbox::{Cursor, Cut, Frozen, Outbox, Standing};
use hansa_model::report::payload_type as types;
use hansa_model::sync::{BatchHeader, BatchRefusal, Items, Payload, Position};
use hansa_model::{HostId, Timestamp};
use hansa_storage::table::{self, QueueEntry};
use hansa_storage::{Batch, Lane, ReadView};
use hansa_transport::wire::{BranchLeaves, Digest};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::sync::Notify;
use tracing::{info, warn};

use crate::context::Context;
use crate::directory::SharedShard;
use crate::error::Unavailable;
use crate::persistence::{Fold as _, InventoryFold, plain};
use crate::supervision::Tied;
use crate::view::QueueView;

const CURSOR: &str = "cursor";
const FROZEN: &str = "frozen";
/// Payload types of the contract that ride in batches beside host changes.
pub(crate) const METADATA: &str = types::SITE_METADATA;
/// The full snapshot of an HTTP peer; host changes in `depth` count under it.
pub(crate) const HOST_DIRECTORY: &str = types::HOST_DIRECTORY;
/// See [`METADATA`].
pub(crate) const HOST_ROLLUP: &str = types::HOST_ROLLUP;

/// Everything the queue can be asked.
#[derive(Debug)]
pub(crate) enum SyncQueueMessage {
    /// Host changes are on disk at a log position. No answer.
    Recorded { position: u64, hosts: Vec<HostId>, at: Timestamp },
    /// The inventory started anew: notices may be lost, read the log again. No answer.
    Reload,
    /// Queues a payload in place of the one with the same key. Answers once it is on disk.
    Enqueue {
        payload_type: &'static str,
        dedup_key: String,
        payload: Vec<u8>,
        reply: RpcReplyPort<Result<(), Unavailable>>,
    },
    /// Queues payloads as [`SyncQueueMessage::Enqueue`] does, together with other writes of the same step.
    /// Answers once all of it is on disk.
    Report { payloads: Vec<NewPayload>, batch: Batch, reply: RpcReplyPort<Result<(), Unavailable>> },
    /// The coordinator named its position, and whether it reads payloads in batches. Answers once this
    /// side's consequences are on disk.
    Standing { position: Position, payloads: bool, reply: RpcReplyPort<Result<(), Unavailable>> },
    /// Whether the next batch opens a new history: what was reported into the old one may be lost. Answers at
    /// once.
    OpensHistory { reply: RpcReplyPort<bool> },
    /// The batch to send now, frozen on disk; none when nothing waits.
    Next { reply: RpcReplyPort<Result<Option<(BatchHeader, Bytes)>, Unavailable>> },
    /// The coordinator acknowledged. The batch is taken out; the disk follows with the next write, or soon.
    Acknowledged { position: Position, reply: RpcReplyPort<Result<(), Unavailable>> },
    /// The coordinator refused. Answers once this side's consequences are on disk.
    Refused { refusal: BatchRefusal, position: Position, reply: RpcReplyPort<Result<(), Unavailable>> },
    /// The digests to compare; none while something waits, because then they would differ anyway.
    Compare { reply: RpcReplyPort<Option<Digest>> },
    /// The coordinator's leaves where it differs. Queues those that differ from ours; no answer.
    Differences { branches: Vec<BranchLeaves> },
    /// Send everything again, leaf by leaf. Answers with what waits then.
    Resync { reply: RpcReplyPort<QueueView> },
    /// What an HTTP peer must be sent now: queued payloads past their back-off, oldest first, and a full
    /// snapshot when host changes wait or `snapshot` asks for one.
    Deliveries { snapshot: bool, reply: RpcReplyPort<Vec<Delivery>> },
    /// An HTTP peer took a delivery. Answers once it is taken out; only the version that was sent is.
    Delivered { delivery: DeliveryId, reply: RpcReplyPort<Result<(), Unavailable>> },
    /// An HTTP peer refused a delivery for good. Counts towards its death; no answer.
    Undeliverable { delivery: DeliveryId, error: String },
    /// Sends dead entries once more: these, or all. Answers with how many, once that is on disk.
    Requeue { orders: Option<Vec<u64>>, audit: AuditDraft, reply: RpcReplyPort<Result<u64, Unavailable>> },
    /// Drops queued payloads but the newest; host changes stay. Answers with how many, once that is on disk.
    Purge { keep_newest: u64, audit: Option<AuditDraft>, reply: RpcReplyPort<Result<u64, Unavailable>> },
    /// Brings acknowledgements to the disk that nothing else has taken along. No answer.
    Settle,
    /// Fails on purpose, to show that only this actor restarts.
    #[cfg(feature = "testing")]
    DangerPanic,
}

/// A payload to queue.
#[derive(Debug)]
pub(crate) struct NewPayload {
    pub(crate) payload_type: &'static str,
    pub(crate) dedup_key: String,
    pub(crate) body: Vec<u8>,
}

/// One thing that waits for an HTTP peer.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) id: DeliveryId,
    pub(crate) payload_type: String,
    /// The exact bytes to post.
    pub(crate) body: Bytes,
}

/// Which delivery an answer is about.
#[derive(Debug, Clone, Copy)]
pub(crate) enum DeliveryId {
    /// A queued payload, by order and version.
    Entry(u64, u64),
    /// A full snapshot that holds every change up to this log position.
    Snapshot(u64),
}

pub(crate) struct SyncQueueActor {
    pub(crate) context: Arc<Context>,
    pub(crate) shard: SharedShard,
    /// Wakes the uplink when there is something to send.
    pub(crate) wake: Arc<Notify>,
    pub(crate) view: Arc<ArcSwap<QueueView>>,
}

pub(crate) struct SyncQueueState {
    outbox: Outbox,
    entries: BTreeMap<u64, QueueEntry>,
    /// When each pending log position was recorded; for the age of the oldest row.
    recorded: BTreeMap<u64, Timestamp>,
    /// The coordinator that is linked now reads payloads in batches.
    payloads: bool,
    /// What an acknowledgement has taken out and the disk still has.
    owed: Option<Owed>,
}

/// Queue entries to be deleted, by order and key, beside the frozen batch; the cursor goes along.
struct Owed {
    entries: Vec<(u64, String)>,
    /// Ends the wait for a write that takes it along.
    _timer: Tied,
}

impl SyncQueueState {
    /// A batch that takes along what is owed. Every commit of this actor is made of one.
    fn batch(&self) -> Batch {
        let mut batch = Batch::new();
        self.settle_in(&mut batch);
        batch
    }

    fn settle_in(&self, batch: &mut Batch) {
        let Some(owed) = &self.owed else { return };
        batch.put::<table::Outbox>(CURSOR, &plain(self.outbox.cursor())).delete::<table::Outbox>(FROZEN);
        for (order, key) in &owed.entries {
            batch.delete::<table::Queue>(order).delete::<table::QueueKeys>(key.as_str());
        }
    }
}

impl Actor for SyncQueueActor {
    type Msg = SyncQueueMessage;
    type State = SyncQueueState;
    type Arguments = ();

    async fn pre_start(
        &self,
        _myself: ActorRef<SyncQueueMessage>,
        (): (),
    ) -> Result<SyncQueueState, ActorProcessingErr> {
        let state = self.load()?;
        self.publish(&state);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<SyncQueueMessage>,
        message: SyncQueueMessage,
        state: &mut SyncQueueState,
    ) -> Result<(), ActorProcessingErr> {
        // A caller that gave up has nothing to be told; the same holds for every reply here.
        match message {
            SyncQueueMessage::Recorded { position, hosts, at } => {
                state.outbox.recorded(position, hosts);
                state.recorded.insert(position, at);
                self.wake.notify_one();
            }
            SyncQueueMessage::Reload => {
                // What is read again should be what was acknowledged. A disk that takes nothing now leaves it to
                // the next link.
                self.settle(&myself, state).await;
                // The process, and so the epoch, stays the same.
                let epoch = state.outbox.epoch();
                let payloads = state.payloads;
                *state = self.load_with(epoch)?;
                state.payloads = payloads;
                self.wake.notify_one();
            }
            SyncQueueMessage::Enqueue { payload_type, dedup_key, payload, reply } => {
                let payload = NewPayload { payload_type, dedup_key, body: payload };
                let batch = Batch::new();
                let _ = reply.send(self.enqueue(state, vec![payload], batch, Lane::Ingest).await);
                self.wake.notify_one();
            }
            SyncQueueMessage::Report { payloads, batch, reply } => {
                let _ = reply.send(self.enqueue(state, payloads, batch, Lane::Push).await);
                self.wake.notify_one();
            }
            SyncQueueMessage::Standing { position, payloads, reply } => {
                state.payloads = payloads;
                let _ = reply.send(self.stand(&myself, state, &position).await);
            }
            SyncQueueMessage::OpensHistory { reply } => {
                let _ = reply.send(state.outbox.must_reset());
            }
            SyncQueueMessage::Next { reply } => {
                let _ = reply.send(self.next(state).await);
            }
            SyncQueueMessage::Acknowledged { position, reply } => {
                let _ = reply.send(self.acknowledged(&myself, state, &position).await);
            }
            SyncQueueMessage::Refused { refusal, position, reply } => {
                let _ = reply.send(self.refused(&myself, state, refusal, &position).await);
            }
            SyncQueueMessage::Compare { reply } => {
                let _ = reply.send(self.compare(state));
            }
            SyncQueueMessage::Differences { branches } => self.repair(state, &branches),
            SyncQueueMessage::Resync { reply } => {
                state.outbox.repair((0..digest::LEAVES).filter_map(|leaf| u16::try_from(leaf).ok()));
                self.publish(state);
                self.wake.notify_one();
                let _ = reply.send((**self.view.load()).clone());
            }
            SyncQueueMessage::Deliveries { snapshot, reply } => {
                let _ = reply.send(self.deliveries(state, snapshot));
            }
            SyncQueueMessage::Delivered { delivery, reply } => {
                let _ = reply.send(self.delivered(state, delivery).await);
            }
            SyncQueueMessage::Undeliverable { delivery, error } => {
                self.undeliverable(state, delivery, error).await;
            }
            SyncQueueMessage::Requeue { orders, audit, reply } => {
                let _ = reply.send(self.requeue(state, orders, audit).await);
                self.wake.notify_one();
            }
            SyncQueueMessage::Purge { keep_newest, audit, reply } => {
                let _ = reply.send(self.purge(state, keep_newest, audit).await);
            }
            SyncQueueMessage::Settle => self.settle(&myself, state).await,
            #[cfg(feature = "testing")]
            SyncQueueMessage::DangerPanic => panic!("asked to fail"),
        }
        self.publish(state);
        Ok(())
    }
}

impl SyncQueueActor {
    fn load(&self) -> Result<SyncQueueState, ActorProcessingErr> {
        self.load_with(self.context.entropy.u64())
    }

    fn load_with(&self, epoch: u64) -> Result<SyncQueueState, ActorProcessingErr> {
        let view = self.context.store.read()?;
        let cursor: Cursor = stored(&view, CURSOR)?.unwrap_or_default();
        let frozen: Option<Frozen> = stored(&view, FROZEN)?;
        let mut outbox = Outbox::new(epoch, cursor, frozen);
        let now = self.context.now();
        let mut recorded = BTreeMap::new();
        InventoryFold.log(&view, cursor.floor + 1, &mut |position, body| {
            let changes = InventoryFold.changes(body).unwrap_or_default();
            outbox.recorded(position, changes.iter().map(HostChange::host_id).collect());
            recorded.insert(position, now);
        })?;
        let entries = view.all::<table::Queue>(..)?.into_iter().collect();
        Ok(SyncQueueState { outbox, entries, recorded, payloads: false, owed: None })
    }

    /// Shows readers what waits. Exact: hosts whose last change is not acknowledged, and queued payloads.
    fn publish(&self, state: &SyncQueueState) {
        let hosts = state.outbox.depth();
        let mut by_payload_type = BTreeMap::new();
        if hosts > 0 {
            by_payload_type.insert(HOST_DIRECTORY.to_owned(), hosts);
        }
        for entry in state.entries.values() {
            *by_payload_type.entry(entry.payload_type.clone()).or_default() += 1;
        }
        let oldest_host = state.recorded.values().next().copied();
        let oldest_entry = state.entries.values().map(|entry| entry.created_at).min();
        let view = QueueView {
            depth: hosts + state.entries.len() as u64,
            by_payload_type,
            dead: state.entries.values().filter(|entry| entry.attempts >= limits::ATTEMPTS_MAX).count()
                as u64,
            oldest_at: oldest_host.into_iter().chain(oldest_entry).min(),
            resync_leaves: state.outbox.leaves(),
        };
        self.view.store(Arc::new(view));
    }

    async fn enqueue(
        &self,
        state: &mut SyncQueueState,
        payloads: Vec<NewPayload>,
        mut batch: Batch,
        lane: Lane,
    ) -> Result<(), Unavailable> {
        state.settle_in(&mut batch);
        let mut staged: BTreeMap<u64, QueueEntry> = BTreeMap::new();
        for NewPayload { payload_type, dedup_key, body } in payloads {
            let replaced =
                staged.iter().chain(&state.entries).find(|(_, entry)| entry.dedup_key == dedup_key);
            // A replaced entry keeps its place in the line, so that a flapping key cannot starve itself.
            let (order, version) = match replaced {
                Some((order, entry)) => (*order, entry.version + 1),
                None => {
                    let last = staged.keys().chain(state.entries.keys()).max();
                    (last.map_or(1, |order| order + 1), 1)
                }
            };
            let entry = QueueEntry {
                payload_type: payload_type.to_owned(),
                dedup_key,
                payload: body,
                version,
                created_at: self.context.now(),
                attempts: 0,
                last_attempt_at: None,
                last_error: None,
            };
            batch
                .put::<table::Queue>(&order, &entry)
                .put::<table::QueueKeys>(entry.dedup_key.as_str(), &order);
            staged.insert(order, entry);
        }
        // A report is waited for: where nothing else waits, its batch is frozen with it, in one sync.
        let alone = lane == Lane::Push && state.outbox.is_level();
        let frozen = if alone { self.number(state, &staged) } else { None };
        if let Some((frozen, _)) = &frozen {
            batch.put::<table::Outbox>(FROZEN, &plain(frozen));
        }
        self.commit(state, lane, batch).await?;
        state.entries.append(&mut staged);
        if let Some((frozen, cut)) = frozen {
            state.outbox.freeze(frozen, &cut.leaves);
        }
        Ok(())
    }

    /// Stores a batch, and with it what was owed.
    async fn commit(&self, state: &mut SyncQueueState, lane: Lane, batch: Batch) -> Result<(), Unavailable> {
        self.context.commit(lane, batch).await?;
        state.owed = None;
        Ok(())
    }

    /// Brings to the disk what is owed to it.
    async fn settle(&self, myself: &ActorRef<SyncQueueMessage>, state: &mut SyncQueueState) {
        if state.owed.is_none() {
            return;
        }
        let batch = state.batch();
        if self.commit(state, Lane::Ingest, batch).await.is_err() {
            // A disk that takes nothing now: with the next write, or after another wait.
            self.owe(myself, state, Vec::new());
        }
    }

    /// Notes entries that an acknowledgement has taken out.
    fn owe(
        &self,
        myself: &ActorRef<SyncQueueMessage>,
        state: &mut SyncQueueState,
        entries: Vec<(u64, String)>,
    ) {
        let mut all = state.owed.take().map(|owed| owed.entries).unwrap_or_default();
        all.extend(entries);
        let myself = myself.clone();
        let timer = Tied::spawn(async move {
            tokio::time::sleep(limits::SETTLE_WAIT).await;
            // An actor that is gone reads the frozen batch again.
            let _ = myself.cast(SyncQueueMessage::Settle);
        });
        state.owed = Some(Owed { entries: all, _timer: timer });
    }

    async fn stand(
        &self,
        myself: &ActorRef<SyncQueueMessage>,
        state: &mut SyncQueueState,
        position: &Position,
    ) -> Result<(), Unavailable> {
        match state.outbox.standing(position) {
            Standing::Level | Standing::Resend => Ok(()),
            Standing::Settled => self.acknowledged(myself, state, position).await,
            Standing::Diverged => {
                warn!("coordinator and site hold different histories: comparing digests and repairing");
                self.diverge(state).await
            }
        }
    }

    /// Drops the batch under way and opens a new history with the next.
    async fn diverge(&self, state: &mut SyncQueueState) -> Result<(), Unavailable> {
        let mut batch = state.batch();
        batch.delete::<table::Outbox>(FROZEN);
        self.commit(state, Lane::Control, batch).await?;
        state.outbox.diverged(self.context.entropy.u64());
        Ok(())
    }

    async fn next(&self, state: &mut SyncQueueState) -> Result<Option<(BatchHeader, Bytes)>, Unavailable> {
        if let Some(frozen) = state.outbox.frozen() {
            return Ok(Some((frozen.header, Bytes::from(frozen.payload.clone()))));
        }
        let Some((frozen, cut)) = self.number(state, &BTreeMap::new()) else { return Ok(None) };
        let mut batch = state.batch();
        batch.put::<table::Outbox>(FROZEN, &plain(&frozen));
        self.commit(state, Lane::Ingest, batch).await?;
        let next = (frozen.header, Bytes::from(frozen.payload.clone()));
        state.outbox.freeze(frozen, &cut.leaves);
        Ok(Some(next))
    }

    /// The next batch, with its number, of what waits and of entries that are about to; none when nothing
    /// does.
    fn number(&self, state: &SyncQueueState, staged: &BTreeMap<u64, QueueEntry>) -> Option<(Frozen, Cut)> {
        let shard = self.shard.read();
        let leaf_rows = (shard.len() / digest::LEAVES).max(1);
        let cut = state.outbox.cut(limits::BATCH_ROWS_MAX, |_| leaf_rows)?;
        let row = |host: &HostId| shard.get(*host).map_or(HostChange::Remove(*host), HostChange::Upsert);
        let mut items = Items::<String> {
            changes: cut.hosts.iter().map(row).collect(),
            leaves: shard.hosts_in_leaves(&cut.leaves),
            ..Items::default()
        };
        let repaired: Vec<HostId> = items.leaves.iter().flat_map(|leaf| leaf.hosts.clone()).collect();
        items.changes.extend(repaired.iter().map(row));
        drop(shard);
        let kept = state.entries.iter().filter(|(order, _)| !staged.contains_key(order));
        let waiting: BTreeMap<&u64, &QueueEntry> = kept.chain(staged).collect();
        let entries = take_entries(waiting, state.payloads, &mut items);
        let empty = items.changes.is_empty()
            && items.leaves.is_empty()
            && entries.is_empty()
            && !state.outbox.must_reset();
        if empty {
            return None;
        }
        Some((state.outbox.number(&cut, plain(&items), entries), cut))
    }

    async fn acknowledged(
        &self,
        myself: &ActorRef<SyncQueueMessage>,
        state: &mut SyncQueueState,
        position: &Position,
    ) -> Result<(), Unavailable> {
        let (Some(cursor), Some(frozen)) = (state.outbox.settled(position), state.outbox.frozen()) else {
            // A late answer to a batch that is no longer under way says where the coordinator stands.
            if state.outbox.standing(position) == Standing::Diverged {
                self.diverge(state).await?;
            }
            return Ok(());
        };
        let mut sent = Vec::new();
        for (order, version) in &frozen.entries {
            if let Some(entry) = state.entries.get(order).filter(|entry| entry.version == *version) {
                sent.push((*order, entry.dedup_key.clone()));
            }
        }
        for (order, _) in &sent {
            state.entries.remove(order);
        }
        state.outbox.settle(cursor);
        state.recorded.retain(|position, _| *position > cursor.floor);
        self.owe(myself, state, sent);
        Ok(())
    }

    async fn refused(
        &self,
        myself: &ActorRef<SyncQueueMessage>,
        state: &mut SyncQueueState,
        refusal: BatchRefusal,
        position: &Position,
    ) -> Result<(), Unavailable> {
        match refusal {
            BatchRefusal::Unavailable => Ok(()),
            BatchRefusal::Gap => self.stand(myself, state, position).await,
            BatchRefusal::Diverged | BatchRefusal::Malformed => {
                info!(?refusal, "batch refused, opening a new history");
                self.diverge(state).await
            }
        }
    }

    fn compare(&self, state: &SyncQueueState) -> Option<Digest> {
        let level = state.outbox.is_level();
        level.then(|| {
            let shard = self.shard.read();
            Digest {
                position: state.outbox.cursor().acknowledged,
                root: shard.root(),
                branches: shard.branches().to_vec(),
            }
        })
    }

    fn repair(&self, state: &mut SyncQueueState, theirs: &[BranchLeaves]) {
        let shard = self.shard.read();
        let mut differing = Vec::new();
        for branch in theirs.iter().filter(|branch| usize::from(branch.branch) < digest::BRANCHES) {
            let ours = shard.leaves(usize::from(branch.branch));
            for (index, digest) in (0_u16..).zip(ours) {
                if branch.leaves.get(usize::from(index)) != Some(&digest) {
                    differing.push(branch.branch * 64 + index);
                }
            }
        }
        drop(shard);
        if !differing.is_empty() {
            info!(leaves = differing.len(), "directories differ, sending these leaves whole");
            state.outbox.repair(differing);
            self.wake.notify_one();
        }
    }
}

// Operators.
impl SyncQueueActor {
    async fn requeue(
        &self,
        state: &mut SyncQueueState,
        orders: Option<Vec<u64>>,
        audit: AuditDraft,
    ) -> Result<u64, Unavailable> {
        let wanted = |order: &u64| orders.as_ref().is_none_or(|orders| orders.contains(order));
        let revived: Vec<(u64, QueueEntry)> = state
            .entries
            .iter()
            .filter(|(order, entry)| entry.attempts >= limits::ATTEMPTS_MAX && wanted(order))
            .map(|(order, entry)| {
                (*order, QueueEntry { attempts: 0, last_attempt_at: None, ..entry.clone() })
            })
            .collect();
        let count = revived.len() as u64;
        if count == 0 {
            return Ok(0);
        }
        let mut batch = state.batch();
        for (order, entry) in &revived {
            batch.put::<table::Queue>(order, entry);
        }
        batch.audit(counted(audit, count));
        self.commit(state, Lane::Operator, batch).await?;
        state.entries.extend(revived);
        Ok(count)
    }

    async fn purge(
        &self,
        state: &mut SyncQueueState,
        keep_newest: u64,
        audit: Option<AuditDraft>,
    ) -> Result<u64, Unavailable> {
        let kept = usize::try_from(keep_newest).unwrap_or(usize::MAX);
        let dropped: Vec<u64> = state.entries.keys().rev().skip(kept).copied().collect();
        let count = dropped.len() as u64;
        if count == 0 {
            return Ok(0);
        }
        let mut batch = state.batch();
        for order in &dropped {
            batch.delete::<table::Queue>(order);
            batch.delete::<table::QueueKeys>(state.entries[order].dedup_key.as_str());
        }
        if let Some(audit) = audit {
            batch.audit(counted(audit, count));
        }
        self.commit(state, Lane::Operator, batch).await?;
        state.entries.retain(|order, _| !dropped.contains(order));
        Ok(count)
    }
}

/// An audit entry that says of how many rows it is.
fn counted(audit: AuditDraft, count: u64) -> AuditDraft {
    let mut details = audit.details;
    details.insert("count".to_owned(), Detail::Int(i64::try_from(count).unwrap_or(i64::MAX)));
    AuditDraft { details, ..audit }
}

// HTTP peers.
impl SyncQueueActor {
    fn deliveries(&self, state: &SyncQueueState, snapshot: bool) -> Vec<Delivery> {
        let now = self.context.now();
        let ready = |entry: &&QueueEntry| {
            let wait = link::entry_wait(entry.attempts, self.context.entropy.u64());
            entry.attempts < limits::ATTEMPTS_MAX
                && entry.last_attempt_at.is_none_or(|tried| tried.after(wait) <= now)
        };
        let mut deliveries: Vec<Delivery> = state
            .entries
            .iter()
            .filter(|(_, entry)| ready(entry))
            .map(|(order, entry)| Delivery {
                id: DeliveryId::Entry(*order, entry.version),
                payload_type: entry.payload_type.clone(),
                body: entry.payload.clone().into(),
            })
            .collect();
        if snapshot || state.outbox.depth() > 0 {
            deliveries.push(Delivery {
                id: DeliveryId::Snapshot(state.outbox.recorded_through()),
                payload_type: HOST_DIRECTORY.to_owned(),
                body: self.snapshot(),
            });
        }
        deliveries
    }

    /// The documented directory push: all hosts, members sorted.
    fn snapshot(&self) -> Bytes {
        let mut body = br#"{"entries":["#.to_vec();
        let mut first = true;
        self.shard.read().for_each_row(|row| {
            // Through a value, whose members are sorted; plain data has a JSON form.
            let entry = HostEntry::from(&row.to_host());
            if let Ok(entry) = serde_json::to_value(entry) {
                if !std::mem::take(&mut first) {
                    body.push(b',');
                }
                body.extend_from_slice(entry.to_string().as_bytes());
            }
        });
        body.extend_from_slice(b"]}");
        body.into()
    }

    async fn delivered(&self, state: &mut SyncQueueState, delivery: DeliveryId) -> Result<(), Unavailable> {
        let mut batch = state.batch();
        match delivery {
            DeliveryId::Snapshot(through) => {
                let cursor = state.outbox.covered(through);
                batch.put::<table::Outbox>(CURSOR, &plain(&cursor));
                self.commit(state, Lane::Ingest, batch).await?;
                state.outbox.settle(cursor);
                state.recorded.retain(|position, _| *position > cursor.floor);
            }
            DeliveryId::Entry(order, version) => {
                let Some(entry) = state.entries.get(&order).filter(|entry| entry.version == version) else {
                    return Ok(());
                };
                batch.delete::<table::Queue>(&order).delete::<table::QueueKeys>(entry.dedup_key.as_str());
                self.commit(state, Lane::Ingest, batch).await?;
                state.entries.remove(&order);
            }
        }
        Ok(())
    }

    async fn undeliverable(&self, state: &mut SyncQueueState, delivery: DeliveryId, error: String) {
        let DeliveryId::Entry(order, version) = delivery else { return };
        let mut batch = state.batch();
        let Some(entry) = state.entries.get_mut(&order).filter(|entry| entry.version == version) else {
            return;
        };
        entry.attempts += 1;
        entry.last_attempt_at = Some(self.context.now());
        entry.last_error = Some(error);
        // A coordinator of another make has no route for it: nobody could revive it to any use.
        let useless = entry.payload_type == types::POLICY_RESULT && entry.attempts >= limits::ATTEMPTS_MAX;
        if useless {
            batch.delete::<table::Queue>(&order).delete::<table::QueueKeys>(entry.dedup_key.as_str());
            state.entries.remove(&order);
        } else {
            batch.put::<table::Queue>(&order, entry);
        }
        // Without the count on disk the entry is only tried once more after a restart.
        let _ = self.commit(state, Lane::Ingest, batch).await;
    }
}

/// Puts the queued payloads that ride in a batch into it, oldest first; names the versions taken.
fn take_entries(
    waiting: BTreeMap<&u64, &QueueEntry>,
    payloads: bool,
    items: &mut Items<String>,
) -> Vec<(u64, u64)> {
    let mut taken = Vec::new();
    let mut bytes = 0;
    for (order, entry) in waiting {
        match entry.payload_type.as_str() {
            METADATA => items.metadata = serde_json::from_slice(&entry.payload).ok(),
            HOST_ROLLUP => items.host_rollup = serde_json::from_slice(&entry.payload).ok(),
            _ if !payloads || (bytes > 0 && bytes + entry.payload.len() > limits::PAYLOADS_BYTES_MAX) => {
                continue;
            }
            _ => {
                bytes += entry.payload.len();
                items
                    .payloads
                    .push(Payload { payload_type: entry.payload_type.clone(), body: entry.payload.clone() });
            }
        }
        taken.push((*order, entry.version));
    }
    taken
}

fn stored<T: serde::de::DeserializeOwned>(
    view: &ReadView,
    key: &str,
) -> Result<Option<T>, ActorProcessingErr> {
    match view.get::<table::Outbox>(key)? {
        Some(bytes) => Ok(Some(postcard::from_bytes(&bytes)?)),
        None => Ok(None),
    }
}
