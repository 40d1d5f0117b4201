//! What a site sends: batches over its link and documented pushes over HTTP, through the same rules.

use std::sync::Arc;

use hansa_model::audit::Detail;
use hansa_model::directory::digest;
use hansa_model::host::{HostChange, HostEntry, SkippedEntry};
use hansa_model::limits::sync as limits;
use hansa_model::machine::ingest::{self, Verdict};
use hansa_model::machine::registry;
use hansa_model::machine::rollup::{InvalidRollup, SiteRollups};
use hansa_model::site::{HostRollup, SiteStatus, SiteSync};
use hansa_model::sync::{BatchHeader, BatchRefusal, HostRollupReport, Items, SiteMetadata};
use hansa_model::{Host, HostId};
use hansa_storage::{Batch, Lane, table};
use ractor::ActorProcessingErr;
use tracing::debug;

use super::{BatchAnswer, SiteActor, SiteState};
use crate::directory::SharedShard;
use crate::error::{IngestError, Unavailable};
use crate::persistence;
use crate::view::{DirectoryAnswer, SiteView, Skipped};

/// Rows of a batch after the rules were applied.
struct Admitted<'a> {
    changes: Vec<HostChange<&'a str>>,
    claimed: Vec<HostId>,
    held_elsewhere: Vec<HostId>,
}

impl SiteActor {
    pub(super) async fn batch(
        &self,
        state: &mut SiteState,
        header: BatchHeader,
        payload: &[u8],
    ) -> Result<BatchAnswer, ActorProcessingErr> {
        let position = state.sync.position;
        if state.site.status != SiteStatus::Enrolled {
            return Ok(BatchAnswer::Refused(BatchRefusal::Unavailable, position));
        }
        let next = match ingest::judge(&position, &header, payload) {
            Verdict::Apply(next) => next,
            Verdict::Duplicate(position) => return Ok(BatchAnswer::Acknowledged(position)),
            Verdict::Refuse(refusal) => return Ok(BatchAnswer::Refused(refusal, position)),
        };
        let Some(items) = Items::decode(payload) else {
            return Ok(BatchAnswer::Refused(BatchRefusal::Malformed, position));
        };
        let admitted = self.admit(state, &items);
        let now = self.context.now();
        let mut sync = SiteSync {
            position: next,
            last_sync_at: Some(now),
            queue_depth: Some(header.queue_depth),
            ..state.sync.clone()
        };
        if sync.last_sync_status.as_deref() != Some("success") {
            sync.last_sync_status = Some("success".to_owned());
        }
        let mut rollups = Arc::clone(&state.rollups);
        let mut batch = Batch::new();
        if let Some(metadata) = &items.metadata {
            self.put_metadata(&mut batch, state, &mut sync, metadata);
        }
        if let Some(report) = items.host_rollup {
            // A rollup that breaks a rule is dropped alone: its batch carries other rows too.
            let _ = self.put_rollup(&mut batch, state, &mut sync, &mut rollups, report);
        }
        let mut effects = Vec::new();
        for payload in &items.payloads {
            // One that cannot be read or breaks a rule is dropped alone, for the same reason.
            match self.put_payload(&mut batch, state, &mut rollups, &effects, payload) {
                Ok(effect) => effects.push(effect),
                Err(error) => {
                    debug!(site = %state.site.id, payload_type = payload.payload_type, %error, "payload dropped");
                }
            }
        }
        batch.expect::<table::SiteSyncs>(&state.site.id, &state.sync);
        batch.put::<table::SiteSyncs>(&state.site.id, &sync);
        match self.store_changes(state, batch, &admitted, header.epoch, header.sequence).await {
            Ok(()) => {
                state.sync = sync;
                state.rollups = rollups;
                self.take_effects(state, effects);
                state.publish();
                self.tell_sync(state);
                Ok(BatchAnswer::Acknowledged(next))
            }
            Err(StoreFailure::Refused) => Ok(BatchAnswer::Refused(BatchRefusal::Unavailable, position)),
            // The store holds another state than this cache: start again from it.
            Err(StoreFailure::Stale) => Err("the site's position moved under its actor".into()),
        }
    }

    /// Applies the rules to a batch's rows: bounds, ownership, and what a repaired leaf retires.
    fn admit<'a>(&self, state: &SiteState, items: &Items<&'a str>) -> Admitted<'a> {
        let mut changes = items.changes.clone();
        let invalid = ingest::drop_invalid(&mut changes);
        if invalid > 0 {
            debug!(site = %state.site.id, invalid, "rows that break a bound were dropped");
        }
        let shard = state.shard.read();
        for content in items.leaves.iter().filter(|content| usize::from(content.leaf) < digest::LEAVES) {
            let held = shard.hosts_in_leaf(content.leaf);
            changes.extend(ingest::retired(&held, &content.hosts).into_iter().map(HostChange::Remove));
        }
        let mut claimed = Vec::new();
        let mut held_elsewhere = Vec::new();
        changes.retain(|change| match change {
            HostChange::Remove(_) => true,
            HostChange::Upsert(row) if shard.contains(row.host_id) => true,
            HostChange::Upsert(row) => match self.roster.directory.claim(row.host_id, state.site.id) {
                Ok(()) => {
                    claimed.push(row.host_id);
                    true
                }
                Err(_) => {
                    held_elsewhere.push(row.host_id);
                    false
                }
            },
        });
        Admitted { changes, claimed, held_elsewhere }
    }

    /// Stores admitted changes, and applies them to the index between commit and acknowledgement.
    async fn store_changes(
        &self,
        state: &mut SiteState,
        mut batch: Batch,
        admitted: &Admitted<'_>,
        epoch: u64,
        sequence: u64,
    ) -> Result<(), StoreFailure> {
        let site = state.site.id;
        let appends = !admitted.changes.is_empty();
        if appends {
            let received_at = self.context.now();
            let record = persistence::encode_record(site, epoch, sequence, received_at, &admitted.changes);
            batch.append_bytes::<table::IngestLog>(record);
            state.log.before_append(&self.context.store);
        }
        if !admitted.held_elsewhere.is_empty() {
            state.refused_at = Some(self.roster.directory.freed());
            batch.audit(self.context.audit(refused_hosts(&admitted.held_elsewhere), None, &state.site));
        }
        match self.context.store_batch(Lane::Ingest, batch).await {
            Ok(receipt) => {
                if appends {
                    let position = receipt.positions.last().copied().unwrap_or_default();
                    state.log.appended(position, admitted.changes.len() as u64);
                }
            }
            Err(error) => {
                for host in &admitted.claimed {
                    self.roster.directory.release(*host, site);
                }
                debug!(%site, %error, "batch not stored");
                return Err(StoreFailure::from(error));
            }
        }
        state.quiet = false;
        let applied = state.shard.apply(&admitted.changes, self.context.compute);
        self.context.metrics.applied(&applied, admitted.changes.len());
        if applied.removed > 0 {
            let shard = state.shard.read();
            for change in &admitted.changes {
                if let HostChange::Remove(host) = change
                    && !shard.contains(*host)
                {
                    self.roster.directory.release(*host, site);
                }
            }
        }
        Ok(())
    }

    /// The documented snapshot over HTTP: same rules, same log, without epoch and sequence.
    pub(super) async fn directory(
        &self,
        state: &mut SiteState,
        entries: Vec<Result<HostEntry, String>>,
    ) -> Result<DirectoryAnswer, IngestError> {
        self.contact(state).await?;
        let now = self.context.now();
        let merged = merge(&state.shard, entries, now);
        let mut answer = DirectoryAnswer { skipped: merged.skipped, ..DirectoryAnswer::default() };
        let (held, missing) = {
            let shard = state.shard.read();
            let mut missing = Vec::new();
            shard.for_each_row(|row| {
                if !merged.named.contains(&row.host_id) {
                    missing.push(row.host_id);
                }
            });
            (shard.len(), missing)
        };
        let left_out = missing.len();
        let retired = state.second_word.retire(missing, held);
        answer.retired = retired.len();
        answer.retained = left_out - retired.len();

        let items = Items::<&str> {
            changes: merged.hosts.iter().map(|(_, host)| HostChange::Upsert(host.as_row())).collect(),
            ..Items::default()
        };
        let mut admitted = self.admit(state, &items);
        for host in &admitted.held_elsewhere {
            if let Some((index, _)) = merged.hosts.iter().find(|(_, merged)| merged.host_id == *host) {
                let error = SkippedEntry::HeldElsewhere;
                answer.skipped.push(Skipped { index: *index, host_id: Some(*host), error });
            }
        }
        answer.skipped.sort_by_key(|skipped| skipped.index);
        answer.upserted = admitted.changes.len() + merged.unchanged;
        admitted.changes.extend(retired.into_iter().map(HostChange::Remove));

        let mut sync = state.sync.clone();
        let mut batch = Batch::new();
        state.has_directory = true;
        sync.host_count = state.shard.read().len() as u64;
        sync.last_sync_at = Some(now);
        sync.last_sync_status = Some("success".to_owned());
        batch.put::<table::SiteSyncs>(&state.site.id, &sync);
        self.store_changes(state, batch, &admitted, 0, 0).await.map_err(|_| Unavailable::Storage)?;
        state.sync = sync;
        state.publish();
        self.tell_sync(state);
        Ok(answer)
    }

    pub(super) async fn host_rollup(
        &self,
        state: &mut SiteState,
        report: HostRollupReport,
    ) -> Result<HostRollup, IngestError> {
        self.contact(state).await?;
        let mut sync = state.sync.clone();
        let mut rollups = Arc::clone(&state.rollups);
        let mut batch = Batch::new();
        let rollup = self.put_rollup(&mut batch, state, &mut sync, &mut rollups, report)?;
        batch.put::<table::SiteSyncs>(&state.site.id, &sync);
        self.context.commit(Lane::Ingest, batch).await?;
        state.sync = sync;
        state.rollups = rollups;
        state.publish();
        self.tell_sync(state);
        Ok(Arc::unwrap_or_clone(rollup))
    }

    pub(super) async fn metadata(
        &self,
        state: &mut SiteState,
        metadata: &SiteMetadata,
    ) -> Result<SiteView, IngestError> {
        self.contact(state).await?;
        let mut sync = state.sync.clone();
        let mut batch = Batch::new();
        self.put_metadata(&mut batch, state, &mut sync, metadata);
        batch.put::<table::SiteSyncs>(&state.site.id, &sync);
        self.context.commit(Lane::Ingest, batch).await?;
        state.sync = sync;
        state.publish();
        self.tell_sync(state);
        Ok(state.view())
    }

    /// What every documented ingest over HTTP begins with.
    pub(super) async fn contact(&self, state: &mut SiteState) -> Result<(), IngestError> {
        if state.site.status != SiteStatus::Enrolled {
            return Err(IngestError::Status(state.site.status));
        }
        state.heard_over_http();
        Ok(self.first_contact(state).await?)
    }

    fn put_metadata(
        &self,
        batch: &mut Batch,
        state: &SiteState,
        sync: &mut SiteSync,
        metadata: &SiteMetadata,
    ) {
        let now = self.context.now();
        ingest::apply_metadata(sync, metadata, now);
        self.put_event(batch, state, sync, metadata.latency_ms, metadata.queue_depth);
    }

    fn put_rollup(
        &self,
        batch: &mut Batch,
        state: &SiteState,
        sync: &mut SiteSync,
        rollups: &mut Arc<SiteRollups>,
        report: HostRollupReport,
    ) -> Result<Arc<HostRollup>, InvalidRollup> {
        let rollup = self.put_hosts(batch, state, sync, rollups, report)?;
        self.put_event(batch, state, sync, None, None);
        Ok(rollup)
    }

    fn put_event(
        &self,
        batch: &mut Batch,
        state: &SiteState,
        sync: &mut SiteSync,
        latency_ms: Option<u32>,
        queue_depth: Option<u64>,
    ) {
        sync.host_count = state.host_count(sync.host_count);
        let (number, event) = ingest::record_sync(sync, self.context.now(), latency_ms, queue_depth);
        batch.put::<table::SyncEvents>(&(state.site.id, number), &event);
        if let Some(oldest) = sync.next_event.checked_sub(limits::EVENTS_MAX) {
            batch.delete_range::<table::SyncEvents>((state.site.id, 0)..(state.site.id, oldest));
        }
    }
}

/// Why changes are not stored.
enum StoreFailure {
    /// Nothing happened; the sender may try again.
    Refused,
    /// The cache is not the store's state.
    Stale,
}

impl From<hansa_storage::CommitError> for StoreFailure {
    fn from(error: hansa_storage::CommitError) -> Self {
        match error {
            hansa_storage::CommitError::PreconditionFailed { .. } => Self::Stale,
            hansa_storage::CommitError::Full { .. }
            | hansa_storage::CommitError::Closed
            | hansa_storage::CommitError::Io(_)
            | hansa_storage::CommitError::Corrupt(_) => Self::Refused,
        }
    }
}

/// Entries merged over the stored rows.
pub(crate) struct Merged {
    /// Whole rows, each with the place of its entry.
    pub(crate) hosts: Vec<(usize, Host)>,
    /// Entries that say what is stored already.
    pub(crate) unchanged: usize,
    /// Entries that were not applied.
    pub(crate) skipped: Vec<Skipped>,
    /// Every host that the call named, bad rows included: a bad row never retires its host.
    pub(crate) named: std::collections::HashSet<HostId>,
}

/// Merges the entries of one call over the rows that the shard holds.
pub(crate) fn merge(
    shard: &SharedShard,
    entries: Vec<Result<HostEntry, String>>,
    now: hansa_model::Timestamp,
) -> Merged {
    let shard = shard.read();
    let mut merged = Merged {
        hosts: Vec::with_capacity(entries.len()),
        unchanged: 0,
        skipped: Vec::new(),
        named: std::collections::HashSet::with_capacity(entries.len()),
    };
    for (index, entry) in entries.into_iter().enumerate() {
        let outcome = match entry {
            Err(reason) => Err((None, SkippedEntry::Malformed(reason))),
            Ok(entry) => match entry.host_id.parse::<HostId>() {
                Err(error) => Err((None, SkippedEntry::InvalidId(error))),
                Ok(host_id) if !merged.named.insert(host_id) => Err((Some(host_id), SkippedEntry::Repeated)),
                Ok(host_id) => shard
                    .with_row(host_id, |row| {
                        entry.clone().merge(Some(*row), now).map(|host| settle_mtime(*row, host))
                    })
                    .unwrap_or_else(|| entry.merge(None, now).map(Some))
                    .map_err(|error| (Some(host_id), error)),
            },
        };
        match outcome {
            Ok(Some(host)) => merged.hosts.push((index, host)),
            Ok(None) => merged.unchanged += 1,
            Err((host_id, error)) => merged.skipped.push(Skipped { index, host_id, error }),
        }
    }
    merged
}

/// The new row, or none when nothing but its `mtime` differs from the stored one.
fn settle_mtime(stored: hansa_model::HostRow<'_>, host: Host) -> Option<Host> {
    let same = hansa_model::HostRow { mtime: stored.mtime, ..host.as_row() } == stored;
    (!same).then_some(host)
}

/// The entry about rows that another live site holds: how many, and the first of them.
fn refused_hosts(hosts: &[HostId]) -> registry::Entry {
    let details = [
        ("count".to_owned(), Detail::Int(i64::try_from(hosts.len()).unwrap_or(i64::MAX))),
        (
            "host_ids".to_owned(),
            Detail::List(hosts.iter().take(10).map(|host| Detail::Text(host.to_string())).collect()),
        ),
    ];
    registry::Entry { operation: "host_claim_refused", details: details.into_iter().collect() }
}
