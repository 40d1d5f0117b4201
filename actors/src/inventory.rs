//! A site's own hosts: takes calls in, records what changed, and hands the change to the queue.
//!
//! The record is the queue: a change is acknowledged to its caller once it is in the inventory log, and
//! from that moment it is pending until the coordinator acknowledges it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hansa_model::HostId;
use hansa_model::directory::{Shard, os_family_breakdown, platform_breakdown, status_breakdown};
use hansa_model::host::{HostChange, HostEntry, SkippedEntry};
use hansa_model::limits::{inventory as inventory_limits, sync as limits};
use hansa_model::machine::link::{Connection, ConnectionState};
use hansa_model::machine::outbox::Cursor;
use hansa_model::machine::snapshot;
use hansa_model::sync::{HostRollupReport, SiteMetadata};
use hansa_storage::{Batch, Lane, table};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::time::Instant;
use tracing::debug;

use crate::context::Context;
use crate::directory::SharedShard;
use crate::error::InventoryError;
use crate::membership::Membership;
use crate::persistence::{self, COVERED, InventoryFold, ShardLog, plain};
use crate::site::merge;
use crate::supervision::{Handle, Tied};
use crate::sync_queue::{HOST_ROLLUP, METADATA, SyncQueueMessage};
use crate::view::{InventoryAnswer, QueueView, Skipped};

/// One line of a delta call.
#[derive(Debug, Clone, PartialEq)]
pub enum InventoryChange {
    /// A new or changed host.
    Upsert(Box<HostEntry>),
    /// A host to remove, by its id as sent.
    Remove(String),
}

/// Everything the inventory can be asked.
#[derive(Debug)]
pub(crate) enum InventoryMessage {
    /// A full snapshot: hosts it leaves out are removed. Answers once it is on disk.
    Put {
        entries: Vec<Result<HostEntry, String>>,
        confirm_removals: bool,
        reply: RpcReplyPort<Result<InventoryAnswer, InventoryError>>,
    },
    /// A delta. Answers once it is on disk.
    Patch {
        changes: Vec<Result<InventoryChange, String>>,
        reply: RpcReplyPort<Result<InventoryAnswer, InventoryError>>,
    },
    /// A new history of the stream opens: the reports are due at once, whatever was said before. No answer.
    Restate,
    /// Look whether reports, a checkpoint or retention are due. No answer.
    Housekeeping,
    /// Fails on purpose, to show that only this actor restarts.
    #[cfg(feature = "testing")]
    DangerPanic,
}

pub(crate) struct InventoryActor {
    pub(crate) context: Arc<Context>,
    pub(crate) shard: SharedShard,
    pub(crate) queue: Handle<SyncQueueMessage>,
    pub(crate) queue_view: Arc<arc_swap::ArcSwap<QueueView>>,
    pub(crate) membership: Membership,
}

pub(crate) struct InventoryState {
    log: ShardLog<InventoryFold>,
    quiet: bool,
    reported_at: Option<Instant>,
    reported: Option<(SiteMetadata, HostRollupReport)>,
    _ticker: Tied,
}

impl Actor for InventoryActor {
    type Msg = InventoryMessage;
    type State = InventoryState;
    type Arguments = ();

    async fn pre_start(
        &self,
        myself: ActorRef<InventoryMessage>,
        (): (),
    ) -> Result<InventoryState, ActorProcessingErr> {
        let view = self.context.store.read()?;
        let uncovered = Arc::new(std::sync::atomic::AtomicU64::new(COVERED));
        let mut log = ShardLog::with(&view, InventoryFold, uncovered)?;
        let site = self.shard.read().site();
        let rebuilt = self.context.compute.run(|| persistence::rebuild(&view, site, &mut log))?;
        self.shard.replace(rebuilt);
        self.queue.cast(SyncQueueMessage::Reload);
        let interval = self.context.config.housekeeping_interval;
        let ticker = Tied::spawn(async move {
            loop {
                tokio::time::sleep(interval).await;
                if myself.cast(InventoryMessage::Housekeeping).is_err() {
                    return;
                }
            }
        });
        Ok(InventoryState { log, quiet: false, reported_at: None, reported: None, _ticker: ticker })
    }

    async fn handle(
        &self,
        _myself: ActorRef<InventoryMessage>,
        message: InventoryMessage,
        state: &mut InventoryState,
    ) -> Result<(), ActorProcessingErr> {
        // A caller that gave up has nothing to be told; the same holds for every reply here.
        match message {
            InventoryMessage::Put { entries, confirm_removals, reply } => {
                let _ = reply.send(self.put(state, entries, confirm_removals).await);
            }
            InventoryMessage::Patch { changes, reply } => {
                let _ = reply.send(self.patch(state, changes).await);
            }
            InventoryMessage::Restate => (state.reported_at, state.reported) = (None, None),
            InventoryMessage::Housekeeping => self.housekeeping(state).await,
            #[cfg(feature = "testing")]
            InventoryMessage::DangerPanic => panic!("asked to fail"),
        }
        Ok(())
    }
}

impl InventoryActor {
    async fn put(
        &self,
        state: &mut InventoryState,
        entries: Vec<Result<HostEntry, String>>,
        confirm_removals: bool,
    ) -> Result<InventoryAnswer, InventoryError> {
        bounded(entries.len())?;
        let merged = merge(&self.shard, entries, self.context.now());
        let missing = {
            let shard = self.shard.read();
            let mut missing = Vec::new();
            shard.for_each_row(|row| {
                if !merged.named.contains(&row.host_id) {
                    missing.push(row.host_id);
                }
            });
            if !confirm_removals {
                snapshot::guard(missing.len(), shard.len())?;
            }
            missing
        };
        let answer = InventoryAnswer {
            accepted: merged.hosts.len() + merged.unchanged,
            changed: merged.hosts.len(),
            retired: missing.len(),
            skipped: merged.skipped,
        };
        let changes: Vec<HostChange<String>> = merged
            .hosts
            .into_iter()
            .map(|(_, host)| HostChange::Upsert(host))
            .chain(missing.into_iter().map(HostChange::Remove))
            .collect();
        self.record(state, changes).await?;
        Ok(answer)
    }

    async fn patch(
        &self,
        state: &mut InventoryState,
        changes: Vec<Result<InventoryChange, String>>,
    ) -> Result<InventoryAnswer, InventoryError> {
        bounded(changes.len())?;
        let total = changes.len();
        let mut removals = Vec::new();
        let mut entries = Vec::new();
        let mut places = Vec::new();
        let mut skipped = Vec::new();
        for (index, change) in changes.into_iter().enumerate() {
            match change {
                Ok(InventoryChange::Remove(id)) => match id.parse::<HostId>() {
                    Ok(host) => removals.push(host),
                    Err(error) => skipped.push(Skipped { index, host_id: None, error: error.into() }),
                },
                Ok(InventoryChange::Upsert(entry)) => {
                    entries.push(Ok(*entry));
                    places.push(index);
                }
                Err(reason) => {
                    skipped.push(Skipped { index, host_id: None, error: SkippedEntry::Malformed(reason) });
                }
            }
        }
        let merged = merge(&self.shard, entries, self.context.now());
        skipped.extend(
            merged.skipped.into_iter().map(|skipped| Skipped { index: places[skipped.index], ..skipped }),
        );
        skipped.sort_by_key(|skipped| skipped.index);
        let known: Vec<HostId> = {
            let shard = self.shard.read();
            removals.sort_unstable();
            removals.dedup();
            removals
                .into_iter()
                .filter(|host| shard.contains(*host) && !merged.named.contains(host))
                .collect()
        };
        let answer = InventoryAnswer {
            accepted: total - skipped.len(),
            changed: merged.hosts.len(),
            retired: known.len(),
            skipped,
        };
        let changes = merged
            .hosts
            .into_iter()
            .map(|(_, host)| HostChange::Upsert(host))
            .chain(known.into_iter().map(HostChange::Remove))
            .collect();
        self.record(state, changes).await?;
        Ok(answer)
    }

    /// Stores changes in records of at most one batch's rows, all in one transaction; then shows them.
    async fn record(
        &self,
        state: &mut InventoryState,
        changes: Vec<HostChange<String>>,
    ) -> Result<(), InventoryError> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::new();
        for record in changes.chunks(limits::BATCH_ROWS_MAX) {
            batch.append_bytes::<table::InventoryLog>(plain(&record));
        }
        state.log.before_append(&self.context.store);
        let receipt = self.context.commit(Lane::Ingest, batch).await?;
        let at = self.context.now();
        state.quiet = false;
        for (record, position) in changes.chunks(limits::BATCH_ROWS_MAX).zip(receipt.positions) {
            let rows: Vec<HostChange<&str>> = record.iter().map(as_rows).collect();
            self.shard.apply(&rows, self.context.compute);
            state.log.appended(position, record.len() as u64);
            let hosts = record.iter().map(HostChange::host_id).collect();
            self.queue.cast(SyncQueueMessage::Recorded { position, hosts, at });
        }
        Ok(())
    }

    async fn housekeeping(&self, state: &mut InventoryState) {
        let quiet = std::mem::replace(&mut state.quiet, true);
        if quiet {
            self.shard.settle(self.context.compute);
        }
        self.report(state).await;
        let rows = self.shard.read().len() as u64;
        if state.log.checkpoint_due(rows, self.context.config.checkpoint_rows, quiet) {
            let chunks = self.context.compute.run(|| persistence::encode_chunks(&self.shard.read()));
            // A full disk is no reason to stop taking what still fits: the next pass tries again.
            if let Err(error) = persistence::write_segments(&self.context.store, &mut state.log, chunks).await
            {
                debug!(%error, "segments not written");
            }
            self.retain(state).await;
        }
    }

    /// Folds away log records that are both acknowledged and covered.
    async fn retain(&self, state: &InventoryState) {
        let Ok(view) = self.context.store.read() else { return };
        let cursor = view.get::<table::Outbox>("cursor").ok().flatten();
        let cursor: Cursor = cursor.and_then(|bytes| postcard::from_bytes(&bytes).ok()).unwrap_or_default();
        let Ok(Some(start)) = view.log_start::<table::InventoryLog>() else { return };
        drop(view);
        let end = cursor.floor.min(state.log.covers());
        if start <= end {
            let mut batch = Batch::new();
            batch.delete_log::<table::InventoryLog>(start..end + 1);
            if let Err(error) = self.context.commit(Lane::Control, batch).await {
                debug!(%error, "log not folded away; the next pass tries again");
            }
        }
    }

    /// Queues metadata and the host rollup when the interval is over (contract 3.2), the rollup only when it
    /// says something new.
    async fn report(&self, state: &mut InventoryState) {
        let Some(enrollment) = self.membership.enrolled() else { return };
        let interval = Duration::from_secs(enrollment.sync_interval_seconds.into());
        if state.reported_at.is_some_and(|at| at.elapsed() < interval) {
            return;
        }
        let (metadata, rollup) = self.reports();
        let unchanged = state.reported.as_ref().is_some_and(|(_, last)| *last == rollup);
        let mut queued = self.enqueue(METADATA, &metadata).await;
        if queued && !unchanged {
            queued = self.enqueue(HOST_ROLLUP, &rollup).await;
        }
        if queued {
            state.reported_at = Some(Instant::now());
            state.reported = Some((metadata, rollup));
        }
    }

    async fn enqueue(&self, payload_type: &'static str, payload: &impl serde::Serialize) -> bool {
        // Through a value, whose members are sorted, as the contract's payloads are.
        let Ok(payload) = serde_json::to_value(payload) else { return false };
        let payload = payload.to_string().into_bytes();
        let message = |reply| SyncQueueMessage::Enqueue {
            payload_type,
            dedup_key: format!("{payload_type}:self"),
            payload,
            reply,
        };
        matches!(self.queue.call(message).await, Ok(Ok(())))
    }

    fn reports(&self) -> (SiteMetadata, HostRollupReport) {
        let connection: Arc<Connection> = self.membership.connection();
        let shard = self.shard.read();
        let shards: [&Shard; 1] = [&shard];
        let hosts = shard.len() as u64;
        let states = status_breakdown(&shards);
        let metadata = SiteMetadata {
            sysmanage_version: Some(self.context.config.software_version.clone()),
            host_count: Some(hosts),
            os_breakdown: Some(known(platform_breakdown(&shards))),
            capabilities: Some(vec!["host_directory".to_owned(), "host_delta".to_owned()]),
            connection_state: Some(connection.state.as_str().to_owned()),
            autonomous: Some(connection.state == ConnectionState::Offline),
            queue_depth: Some(self.queue_view.load().depth),
            latency_ms: self.membership.latency_ms(),
        };
        let active = states.get("up").or_else(|| states.get("active")).copied().unwrap_or(0);
        let rollup = HostRollupReport {
            host_count: hosts,
            active_count: active,
            os_breakdown: Some(known(os_family_breakdown(&shards))),
            status_breakdown: Some(states),
            snapshot_at: Some(self.context.now()),
        };
        (metadata, HostRollupReport { snapshot_at: None, ..rollup })
    }
}

/// Counts with the nameless under `unknown` (contract 3.2), and no more keys than a rollup may have.
fn known(counts: BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let mut named = BTreeMap::new();
    for (key, count) in counts {
        let crowded = named.len() + 1 >= limits::BREAKDOWN_KEYS_MAX && !named.contains_key(&key);
        let key = match key {
            key if key.is_empty() => "unknown".to_owned(),
            _ if crowded => "other".to_owned(),
            key => key,
        };
        *named.entry(key).or_default() += count;
    }
    named
}

fn bounded(entries: usize) -> Result<(), InventoryError> {
    let max = inventory_limits::CALL_ENTRIES_MAX;
    if entries > max { Err(InventoryError::TooMany { max }) } else { Ok(()) }
}

fn as_rows(change: &HostChange<String>) -> HostChange<&str> {
    match change {
        HostChange::Upsert(host) => HostChange::Upsert(host.as_row()),
        HostChange::Remove(host) => HostChange::Remove(*host),
    }
}
