//! Syncs: a run in a task of its own, writes that go through, and the ends of conflicts.
//!
//! What a run decides is pure ([`hansa_model::machine::backend_sync`]); here is the work around it. Each value
//! is stored in a batch of its own, judged against the very row that it replaces, so a run that ends
//! midway keeps what it has, readers see whole secrets, and no local change is ever overwritten.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::StreamExt as _;
use hansa_backends::{CallError, Entry, Found, Write, Written};
use hansa_model::Timestamp;
use hansa_model::audit::{AuditDraft, Detail};
use hansa_model::limits::secrets as limits;
use hansa_model::machine::backend_sync::{self as machine, Judgement, Plan};
use hansa_model::scope::Operator;
use hansa_model::secrets::id::{ConflictId, SyncRunId, TenantId};
use hansa_model::secrets::mapping::{Mapping, NoPath};
use hansa_model::secrets::path::SecretPath;
use hansa_model::secrets::row::{
    Conflict, ConflictKind, CopyRow, SecretRow, SyncCounts, SyncRun, SyncState, Trigger,
};
use hansa_model::secrets::value::{Mark, SecretData};
use hansa_storage::codec::Named;
use hansa_storage::{Batch, CommitError, Lane, Order, table};
use ractor::ActorRef;
use tokio::time::Instant;

use super::error::{BackendError, BackendFailure, SecretError};
use super::fetch::{Source, VersionKey};
use super::member::{BackendMessage, open};
use super::registry::every_conflict;
use super::rows::{add_version, new_row, type_of};
use super::{Backends, Member};
use crate::error::Unavailable;
use crate::supervision::Tied;

/// Who makes the versions of copies, in the audit log and in rows.
const IDENTITY: &str = "system:federation-sync";

/// A sync that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) manual: bool,
    pub(crate) confirm_deletions: bool,
}

/// A sync that runs (contract B.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Started {
    pub(crate) id: SyncRunId,
    pub(crate) at: Timestamp,
    pub(crate) already_running: bool,
}

impl Started {
    pub(crate) const fn again(self) -> Self {
        Self { already_running: true, ..self }
    }
}

/// The run itself; it ends with this value.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) started: Started,
    _task: Tied,
}

impl Running {
    pub(crate) fn start(
        backends: &Backends,
        member: &Member,
        at_hand: Option<Source>,
        request: Request,
        myself: &ActorRef<BackendMessage>,
    ) -> Self {
        let context = &backends.context;
        let at = context.now();
        let id = SyncRunId::generate(at, &*context.entropy);
        let started = Started { id, at, already_running: false };
        let (backends, member, myself) = (backends.clone(), member.clone(), myself.clone());
        let task = Tied::spawn(async move {
            let run = Run::new(&backends, &member, started, request);
            let (state, conflicts) = run.go(at_hand, &myself).await;
            let _ = myself.cast(BackendMessage::SyncEnded { state: Box::new(state), conflicts });
        });
        Self { started, _task: task }
    }
}

/// One run's work.
struct Run<'a> {
    backends: &'a Backends,
    member: &'a Member,
    started: Started,
    request: Request,
    counts: SyncCounts,
    /// Open conflicts, by path.
    conflicts: BTreeMap<SecretPath, Conflict>,
    error: Option<String>,
    guarded: bool,
}

/// A name that is to be fetched.
struct Wanted {
    path: SecretPath,
    name: String,
    mark: Option<Mark>,
}

impl<'a> Run<'a> {
    fn new(backends: &'a Backends, member: &'a Member, started: Started, request: Request) -> Self {
        Self {
            backends,
            member,
            started,
            request,
            counts: SyncCounts::default(),
            conflicts: BTreeMap::new(),
            error: None,
            guarded: false,
        }
    }

    /// Runs, and stores how it went. Answers the state and the number of open conflicts.
    async fn go(mut self, at_hand: Option<Source>, myself: &ActorRef<BackendMessage>) -> (SyncState, u64) {
        let complete = match self.work(at_hand, myself).await {
            Ok(complete) => complete,
            Err(failure) => {
                self.error = Some(failure.to_string());
                let _ = myself.cast(BackendMessage::Called { outcome: Err(failure) });
                false
            }
        };
        let state = self.ended(complete);
        if let Err(error) = self.store_end(&state).await {
            tracing::warn!(%error, "the end of a sync could not be stored: its copies are");
        }
        (state, self.conflicts.len() as u64)
    }

    /// Answers whether the run was complete: every listing finished, and no fetch failed.
    async fn work(
        &mut self,
        at_hand: Option<Source>,
        myself: &ActorRef<BackendMessage>,
    ) -> Result<bool, BackendFailure> {
        let context = &self.backends.context;
        {
            let view = context.store.read().map_err(|_| BackendFailure::TimedOut)?;
            let open = view.all::<table::SecretConflicts>(every_conflict(self.member.row.id));
            let open = open.map_err(|_| BackendFailure::TimedOut)?;
            self.conflicts = open.into_iter().map(|(_, open)| (open.path.clone(), open)).collect();
        }
        let source = open(self.backends, self.member, at_hand.as_ref(), myself).await?;
        let mut listed = BTreeSet::new();
        let mut wanted = Vec::new();
        for mapping in &*self.member.mappings {
            self.list(&source, mapping, &mut listed, &mut wanted).await?;
        }
        self.fetch(&source, wanted).await;
        if self.counts.failed > 0 {
            return Ok(false);
        }
        self.delete(&source, &listed).await?;
        Ok(!self.guarded)
    }

    /// Lists one mapping's names, all pages and folders, and chooses what to fetch.
    async fn list(
        &mut self,
        source: &Source,
        mapping: &Mapping,
        listed: &mut BTreeSet<SecretPath>,
        wanted: &mut Vec<Wanted>,
    ) -> Result<(), BackendFailure> {
        // A name that no listing shows is asked for by itself.
        if let Some(name) = mapping.unlisted_name()
            && let Ok(path) = self.path_of(mapping, name)
            && listed.insert(path.clone())
        {
            self.counts.listed += 1;
            let alone = vec![Wanted { path, name: name.to_owned(), mark: None }];
            self.choose(source, alone, wanted).await?;
        }
        if mapping.is_exact() {
            return Ok(());
        }
        let mut folders = vec![mapping.listing_prefix().to_owned()];
        while let Some(folder) = folders.pop() {
            let mut token = None;
            loop {
                let page = source.retrying(|| source.driver.list(&folder, token.as_deref())).await?;
                let mut unmarked = Vec::new();
                for entry in page.entries {
                    match entry {
                        Entry::Folder { name } => folders.push(name),
                        Entry::Secret { name, mark } => {
                            self.counts.listed += 1;
                            if self.counts.listed as usize > limits::NAMES_MAX {
                                return Err(CallError::BadAnswer { reason: "it lists too many names" }.into());
                            }
                            let path = match self.path_of(mapping, &name) {
                                Ok(path) => path,
                                // A neighbour that the listing showed as well is nobody's loss.
                                Err(NoPath::OtherName) => continue,
                                Err(_) => {
                                    self.counts.skipped += 1;
                                    continue;
                                }
                            };
                            if !listed.insert(path.clone()) {
                                continue;
                            }
                            unmarked.push(Wanted { path, name, mark });
                        }
                    }
                }
                self.choose(source, unmarked, wanted).await?;
                match page.next {
                    Some(next) => token = Some(next),
                    None => break,
                }
            }
        }
        Ok(())
    }

    fn path_of(&self, mapping: &Mapping, name: &str) -> Result<SecretPath, NoPath> {
        let board = self.backends.tenant(&self.member.row.tenant).ok_or(NoPath::OtherMapping)?;
        board.routes.path_of(self.member.row.id, mapping, name)
    }

    /// Keeps those whose value must be fetched. A name whose listing tells no mark costs one call of metadata,
    /// and only if there is a copy to compare it with.
    async fn choose(
        &mut self,
        source: &Source,
        named: Vec<Wanted>,
        wanted: &mut Vec<Wanted>,
    ) -> Result<(), BackendFailure> {
        let mut unknown = Vec::new();
        for candidate in named {
            let row = self.row(&candidate.path)?;
            match (&candidate.mark, row.as_ref().and_then(|row| self.own_copy(row))) {
                (None, Some(copy)) if copy.mark.is_some() => unknown.push(candidate),
                (_, copy) => {
                    match machine::plan(copy.and_then(|copy| copy.mark.as_ref()), candidate.mark.as_ref()) {
                        Plan::Fetch if !self.is_left_alone(&candidate) => wanted.push(candidate),
                        Plan::Fetch | Plan::Skip => {}
                    }
                }
            }
        }
        let width = self.member.config.common().max_concurrency as usize;
        let marked: Vec<(Wanted, Result<Option<Mark>, BackendFailure>)> = futures_util::stream::iter(unknown)
            .map(|candidate| async move {
                let mark = source.retrying(|| source.driver.mark(&candidate.name)).await;
                (candidate, mark)
            })
            .buffer_unordered(width)
            .collect()
            .await;
        for (mut candidate, mark) in marked {
            match mark {
                Ok(mark) => candidate.mark = mark,
                Err(BackendFailure::Call(CallError::NotFound | CallError::VersionNotFound)) => continue,
                Err(failure) => return Err(failure),
            }
            let row = self.row(&candidate.path)?;
            let copy = row.as_ref().and_then(|row| self.own_copy(row));
            let plan = machine::plan(copy.and_then(|copy| copy.mark.as_ref()), candidate.mark.as_ref());
            if plan == Plan::Fetch && !self.is_left_alone(&candidate) {
                wanted.push(candidate);
            }
        }
        Ok(())
    }

    /// Whether somebody chose the local value, and the backend's has not changed since.
    fn is_left_alone(&self, candidate: &Wanted) -> bool {
        let open = self.conflicts.get(&candidate.path);
        open.is_some_and(|open| {
            open.kept_local && open.remote_mark.is_some() && open.remote_mark == candidate.mark
        })
    }

    /// Fetches and stores values, a bounded number at a time. Failures are counted, not fatal.
    async fn fetch(&mut self, source: &Source, wanted: Vec<Wanted>) {
        let width = self.member.config.common().max_concurrency as usize;
        let chunks: Vec<Vec<Wanted>> = chunks(wanted);
        let mut fetched = futures_util::stream::iter(chunks)
            .map(|chunk| fetch_chunk(source, chunk))
            .buffer_unordered(width);
        while let Some(chunk) = fetched.next().await {
            for (wanted, found) in chunk {
                match found {
                    Ok(found) => {
                        self.counts.fetched += 1;
                        if let Err(error) = self.store(&wanted, found).await {
                            self.counts.failed += 1;
                            self.error = Some(error.to_string());
                        }
                    }
                    // Gone since it was listed: the next run sees that it is not listed any more.
                    Err(BackendFailure::Call(CallError::NotFound | CallError::VersionNotFound)) => {}
                    Err(failure) => {
                        self.counts.failed += 1;
                        self.error = Some(failure.to_string());
                    }
                }
            }
        }
    }

    /// Stores one fetched value as what it means beside what is here.
    async fn store(&mut self, wanted: &Wanted, found: Found) -> Result<(), Unavailable> {
        let context = Arc::clone(&self.backends.context);
        // A local change between reading and committing is seen by the precondition; then it is judged again.
        for _ in 0..STORE_TRIES {
            let now = context.now();
            let (data, unfolded) = found.secret.value.unfold();
            let view = context.store.read().map_err(|_| Unavailable::Storage)?;
            let key = self.key(&wanted.path);
            let old = view.get::<table::Secrets>(&key).map_err(|_| Unavailable::Storage)?;
            let owner = self.member.row.tenant.as_str();
            let remote = view.fingerprint(owner, data.expose().as_bytes());
            let print = |number: u64| -> Result<Option<[u8; 16]>, Unavailable> {
                let key = Named::new(&key.name, Named::new(&key.number, number));
                let value = view.get_sealed::<table::SecretValues>(&key).map_err(|_| Unavailable::Storage)?;
                Ok(value.map(|value| view.fingerprint(owner, value.expose())))
            };
            let local = match &old {
                Some(row) => Some(machine::Local {
                    current: print(row.current)?,
                    common: match self.own_copy(row) {
                        Some(copy) if copy.common == row.current => print(row.current)?,
                        Some(copy) => print(copy.common)?,
                        None => None,
                    },
                    is_copy: self.own_copy(row).is_some(),
                    edited: self.own_copy(row).is_some_and(|copy| copy.common != row.current),
                    deleted: row.deleted_at.is_some(),
                }),
                None => None,
            };
            drop(view);
            let judgement = machine::judge_value(local.as_ref(), &remote);
            let mut batch = Batch::new();
            match &old {
                Some(old) => batch.expect::<table::Secrets>(&key, old),
                None => batch.expect_absent::<table::Secrets>(&key),
            };
            let secret = &found.secret;
            let mark = secret.mark.clone().or_else(|| wanted.mark.clone());
            let mut counts = self.counts;
            let mut row = old.clone().unwrap_or_else(|| new_row(now));
            let mut conflict = None;
            match judgement {
                Judgement::NewVersion => {
                    let version = secret.backend_version.clone();
                    let fresh = old.is_none() || row.deleted_at.take().is_some();
                    row.secret_type = type_of(unfolded);
                    add_version(&mut batch, &key, &mut row, &data, now, IDENTITY, version);
                    if fresh {
                        counts.created += 1
                    } else {
                        counts.updated += 1
                    }
                    let action = if fresh { "created" } else { "updated" };
                    let details = [
                        ("tenant", owner.into()),
                        ("secret_path", wanted.path.as_str().into()),
                        ("backend_id", self.member.row.id.to_string().as_str().into()),
                        ("change", action.into()),
                    ];
                    batch.audit(self.entry("secret_copied", &details));
                }
                Judgement::Same => {}
                Judgement::Conflict(kind) => {
                    conflict = Some(self.conflict(wanted, kind, &row, &found, local.as_ref(), &remote, now));
                }
            }
            if conflict.is_none() {
                row.expires_at = secret.expires_at;
                row.copy = Some(CopyRow {
                    backend: self.member.row.id,
                    name: wanted.name.clone(),
                    mark: mark.clone(),
                    common: row.current,
                    seen_at: now,
                    absent: 0,
                });
                batch.put::<table::Secrets>(&key, &row);
            }
            let closed = match (&conflict, self.conflicts.get(&wanted.path)) {
                (Some(found), _) => {
                    batch.put::<table::SecretConflicts>(&(self.member.row.id, found.id), found);
                    None
                }
                (None, Some(open)) => {
                    batch.delete::<table::SecretConflicts>(&(self.member.row.id, open.id));
                    Some(open.path.clone())
                }
                (None, None) => None,
            };
            match context.store_batch(Lane::Ingest, batch).await {
                Ok(_) => {
                    self.counts = counts;
                    if let Some(found) = conflict {
                        self.counts.conflicts += 1;
                        self.conflicts.insert(found.path.clone(), found);
                    }
                    if let Some(path) = closed {
                        self.conflicts.remove(&path);
                    }
                    return Ok(());
                }
                Err(CommitError::PreconditionFailed { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Unavailable::Busy { part: "the secret, which changes all the time" })
    }

    #[expect(clippy::too_many_arguments, reason = "all that a conflict shows of both sides")]
    fn conflict(
        &self,
        wanted: &Wanted,
        kind: ConflictKind,
        row: &SecretRow,
        found: &Found,
        local: Option<&machine::Local>,
        remote: &[u8; 16],
        now: Timestamp,
    ) -> Conflict {
        let open = self.conflicts.get(&wanted.path);
        let mark = found.secret.mark.clone().or_else(|| wanted.mark.clone());
        Conflict {
            id: open
                .map_or_else(|| ConflictId::generate(now, &*self.backends.context.entropy), |open| open.id),
            path: wanted.path.clone(),
            names: vec![wanted.name.clone()],
            kind,
            local_version: row.current,
            local_fingerprint: local
                .and_then(|local| local.current)
                .map(|print| hex(&print))
                .unwrap_or_default(),
            kept_local: open.is_some_and(|open| open.kept_local && open.remote_mark == mark),
            remote_mark: mark,
            remote_version: found.secret.backend_version.clone(),
            remote_updated_at: found.secret.updated_at.or(found.secret.created_at),
            remote_fingerprint: hex(remote),
            detected_at: open.map_or(now, |open| open.detected_at),
            last_seen_at: now,
        }
    }

    /// Counts absences after complete listings, and deletes what is gone for good.
    async fn delete(&mut self, source: &Source, listed: &BTreeSet<SecretPath>) -> Result<(), BackendFailure> {
        let copies = self.copies()?;
        let total = copies.len() as u64;
        let mut gone = Vec::new();
        let mut counted = Batch::new();
        for (key, row) in copies {
            let Ok(path) = key.number.parse::<SecretPath>() else { continue };
            let Some(copy) = self.own_copy(&row).cloned() else { continue };
            if listed.contains(&path) {
                if copy.absent > 0 {
                    let row = SecretRow { copy: Some(CopyRow { absent: 0, ..copy }), ..row };
                    counted.put::<table::Secrets>(&key, &row);
                }
                continue;
            }
            let absent = copy.absent.saturating_add(1);
            if !machine::is_gone(absent) {
                let row = SecretRow { copy: Some(CopyRow { absent, ..copy }), ..row };
                counted.put::<table::Secrets>(&key, &row);
                continue;
            }
            match source.read(&copy.name, &VersionKey::Current).await {
                Err(BackendFailure::Call(CallError::NotFound | CallError::VersionNotFound)) => {
                    gone.push((key, path, row, copy));
                }
                // It is there and only not listed: the listing is behind.
                Ok(_) => {}
                Err(failure) => return Err(failure),
            }
        }
        if !counted.is_empty() {
            self.commit(counted).await?;
        }
        if !self.request.confirm_deletions && machine::guards(gone.len() as u64, total) {
            self.guarded = true;
            self.error = Some(format!(
                "the backend lists none of {} of {total} copies any more: nothing was deleted, sync with \
                 confirm_deletions if that is right",
                gone.len()
            ));
            return Ok(());
        }
        for (key, path, row, copy) in gone {
            let now = self.backends.context.now();
            let mut batch = Batch::new();
            batch.expect::<table::Secrets>(&key, &row);
            if row.current == copy.common {
                let details = [
                    ("tenant", self.member.row.tenant.as_str().into()),
                    ("secret_path", path.as_str().into()),
                    ("backend_id", self.member.row.id.to_string().as_str().into()),
                    ("change", "deleted".into()),
                ];
                batch.audit(self.entry("secret_copied", &details));
                batch.put::<table::Secrets>(&key, &SecretRow { deleted_at: Some(now), ..row });
                self.counts.deleted += 1;
            } else {
                let conflict = self.edited_and_gone(&path, &copy, &row, now);
                batch.put::<table::SecretConflicts>(&(self.member.row.id, conflict.id), &conflict);
                self.counts.conflicts += 1;
                self.conflicts.insert(path, conflict);
            }
            self.commit(batch).await?;
        }
        Ok(())
    }

    fn edited_and_gone(
        &self,
        path: &SecretPath,
        copy: &CopyRow,
        row: &SecretRow,
        now: Timestamp,
    ) -> Conflict {
        let open = self.conflicts.get(path);
        Conflict {
            id: open
                .map_or_else(|| ConflictId::generate(now, &*self.backends.context.entropy), |open| open.id),
            path: path.clone(),
            names: vec![copy.name.clone()],
            kind: ConflictKind::LocalEditRemoteDeleted,
            local_version: row.current,
            local_fingerprint: String::new(),
            remote_mark: None,
            remote_version: None,
            remote_updated_at: None,
            remote_fingerprint: String::new(),
            detected_at: open.map_or(now, |open| open.detected_at),
            last_seen_at: now,
            kept_local: false,
        }
    }

    /// Every live copy of this backend.
    fn copies(&self) -> Result<Vec<(Named<String>, SecretRow)>, BackendFailure> {
        copies(self.backends, self.member).map_err(|_| BackendFailure::TimedOut)
    }

    fn row(&self, path: &SecretPath) -> Result<Option<SecretRow>, BackendFailure> {
        let view = self.backends.context.store.read().map_err(|_| BackendFailure::TimedOut)?;
        view.get::<table::Secrets>(&self.key(path)).map_err(|_| BackendFailure::TimedOut)
    }

    fn own_copy<'r>(&self, row: &'r SecretRow) -> Option<&'r CopyRow> {
        row.copy.as_ref().filter(|copy| copy.backend == self.member.row.id)
    }

    fn key(&self, path: &SecretPath) -> Named<String> {
        Named::new(self.member.row.tenant.as_str(), path.as_str().to_owned())
    }

    async fn commit(&self, batch: Batch) -> Result<(), BackendFailure> {
        match self.backends.context.store_batch(Lane::Ingest, batch).await {
            // What changed meanwhile is looked at in the next run.
            Ok(_) | Err(CommitError::PreconditionFailed { .. }) => Ok(()),
            Err(_) => Err(BackendFailure::TimedOut),
        }
    }

    fn entry(&self, operation: &str, details: &[(&'static str, Detail)]) -> AuditDraft {
        let mut draft = self.backends.context.audit_node(operation, None, details.iter().cloned());
        draft.actor_userid = Some(IDENTITY.to_owned());
        draft
    }

    /// The state after this run.
    fn ended(&self, complete: bool) -> SyncState {
        let context = &self.backends.context;
        let now = context.now();
        let before = self.member.published.sync.load();
        let run = SyncRun {
            id: self.started.id,
            trigger: if self.request.manual { Trigger::Manual } else { Trigger::Schedule },
            begun_at: self.started.at,
            ended_at: now,
            counts: self.counts,
            complete,
        };
        let failures = if complete { 0 } else { before.failures.saturating_add(1) };
        let jitter = f64::from(context.entropy.bytes::<1>()[0]) / 256.0;
        SyncState {
            completed: if complete { Some(run.clone()) } else { before.completed.clone() },
            last: Some(run),
            failures,
            copies: self.copies().map_or(before.copies, |copies| copies.len() as u64),
            guarded: self.guarded,
            next_at: Some(machine::next_run(now, self.member.interval(), failures, jitter)),
            last_error: match &self.error {
                Some(error) => Some((error.clone(), now)),
                None => before.last_error.clone(),
            },
        }
    }

    /// Stores the state together with the run's row in the audit log (contract C.4).
    async fn store_end(&self, state: &SyncState) -> Result<(), Unavailable> {
        let SyncCounts { listed, created, updated, deleted, skipped, conflicts, failed, fetched: _ } =
            self.counts;
        let number = |number: u64| Detail::Int(i64::try_from(number).unwrap_or(i64::MAX));
        let complete = state.last.as_ref().is_some_and(|run| run.complete);
        let details = [
            ("tenant", self.member.row.tenant.as_str().into()),
            ("backend_id", self.member.row.id.to_string().as_str().into()),
            ("sync_id", self.started.id.to_string().as_str().into()),
            ("trigger", if self.request.manual { "manual" } else { "schedule" }.into()),
            ("success", Detail::Bool(complete)),
            ("listed", number(listed)),
            ("created", number(created)),
            ("updated", number(updated)),
            ("deleted", number(deleted)),
            ("skipped", number(skipped)),
            ("conflicts", number(conflicts)),
            ("failed", number(failed)),
        ];
        let mut batch = Batch::new();
        batch
            .put::<table::BackendSyncs>(&self.member.row.id, state)
            .audit(self.entry("federation_sync", &details));
        self.backends.context.commit(Lane::Operator, batch).await.map(drop)
    }
}

/// How often one value is judged again because its local side changed under it.
const STORE_TRIES: usize = 3;
/// Values read by one call where the backend can: what AWS takes at most.
const CHUNK: usize = 20;

fn chunks(wanted: Vec<Wanted>) -> Vec<Vec<Wanted>> {
    let mut wanted = wanted.into_iter().peekable();
    let mut chunks = Vec::new();
    while wanted.peek().is_some() {
        chunks.push(wanted.by_ref().take(CHUNK).collect());
    }
    chunks
}

/// Reads some values: together where the backend can, the others one by one.
async fn fetch_chunk(source: &Source, chunk: Vec<Wanted>) -> Vec<(Wanted, Result<Found, BackendFailure>)> {
    let names: Vec<String> = chunk.iter().map(|wanted| wanted.name.clone()).collect();
    let together = source.retrying(|| source.driver.read_many(&names)).await;
    let mut together: BTreeMap<String, _> = together.unwrap_or_default().into_iter().collect();
    let mut answers = Vec::with_capacity(chunk.len());
    for wanted in chunk {
        let answer = match together.remove(&wanted.name) {
            Some(Ok(found)) => Ok(found),
            Some(Err(error)) if !error.is_transient() => Err(error.into()),
            Some(Err(_)) | None => {
                source.read(&wanted.name, &VersionKey::Current).await.map(|fetched| fetched.found)
            }
        };
        answers.push((wanted, answer));
    }
    answers
}

/// Every live copy of a backend.
fn copies(backends: &Backends, member: &Member) -> Result<Vec<(Named<String>, SecretRow)>, Unavailable> {
    let view = backends.context.store.read().map_err(|_| Unavailable::Storage)?;
    let tenant = member.row.tenant.as_str();
    let mut copies = BTreeMap::new();
    for mapping in &*member.mappings {
        let mut from = Named::new(tenant, mapping.path_prefix().to_owned());
        'pages: loop {
            let page = view
                .page::<table::Secrets>(from.clone().., Order::Ascending, limits::PAGE_MAX)
                .map_err(|_| Unavailable::Storage)?;
            let Some((last, _)) = page.last().cloned() else { break };
            for (key, row) in page {
                if key.name != tenant || !key.number.starts_with(mapping.path_prefix()) {
                    break 'pages;
                }
                let own = row.copy.as_ref().is_some_and(|copy| copy.backend == member.row.id);
                if own && row.deleted_at.is_none() {
                    copies.insert(key, row);
                }
            }
            from = Named::new(&last.name, format!("{}\0", last.number));
        }
    }
    Ok(copies.into_iter().collect())
}

/// A write that goes through to the backend.
#[derive(Debug, Clone)]
pub(crate) struct WriteThrough {
    pub(crate) tenant: TenantId,
    pub(crate) path: SecretPath,
    pub(crate) name: String,
    pub(crate) data: SecretData,
    pub(crate) expected: Option<u64>,
    pub(crate) token: String,
}

impl WriteThrough {
    /// Writes at the backend; one try, because not every backend knows a repeat.
    pub(crate) async fn send(&self, source: &Source) -> Result<Written, BackendFailure> {
        let write = Write { data: &self.data, expected: self.expected, token: &self.token };
        source.once(Instant::now() + source.timeout, source.driver.write(&self.name, write)).await
    }
}

/// Stores what the backend has taken as the next version here.
pub(crate) async fn store_written(
    backends: &Backends,
    member: &Member,
    write: &WriteThrough,
    written: &Written,
    by: &str,
    entry: impl FnOnce(AuditDraft) -> AuditDraft,
) -> Result<SecretRow, SecretError> {
    let context = &backends.context;
    let key = Named::new(write.tenant.as_str(), write.path.as_str().to_owned());
    let draft = entry(context.audit_node("secret_write", None, []));
    for _ in 0..STORE_TRIES {
        let now = context.now();
        let view = context.store.read().map_err(|_| Unavailable::Storage)?;
        let old = view.get::<table::Secrets>(&key).map_err(|_| Unavailable::Storage)?;
        drop(view);
        let mut batch = Batch::new();
        match &old {
            Some(old) => batch.expect::<table::Secrets>(&key, old),
            None => batch.expect_absent::<table::Secrets>(&key),
        };
        let mut row = old.unwrap_or_else(|| new_row(now));
        row.deleted_at = None;
        let version = written.version.map(|version| version.to_string());
        add_version(&mut batch, &key, &mut row, &write.data, now, by, version);
        row.copy = Some(CopyRow {
            backend: member.row.id,
            name: write.name.clone(),
            mark: written.mark.clone(),
            common: row.current,
            seen_at: now,
            absent: 0,
        });
        batch.put::<table::Secrets>(&key, &row).audit(draft.clone());
        match context.store_batch(Lane::Operator, batch).await {
            Ok(_) => return Ok(row),
            Err(CommitError::PreconditionFailed { .. }) => {}
            Err(error) => return Err(Unavailable::from(error).into()),
        }
    }
    // The backend holds it; the next sync brings it here.
    Err(SecretError::Conflict)
}

/// How somebody ends a conflict.
#[derive(Debug, Clone)]
pub(crate) struct Resolution {
    pub(crate) conflict: ConflictId,
    pub(crate) take_remote: bool,
    pub(crate) operator: Operator,
}

/// Ends a conflict. Durable on return; answers how many are left.
pub(crate) async fn resolve(
    backends: &Backends,
    member: &Member,
    source: Option<&Source>,
    resolution: &Resolution,
) -> Result<u64, BackendError> {
    let context = &backends.context;
    let id = member.row.id;
    let view = context.store.read().map_err(|_| Unavailable::Storage)?;
    let open = view.all::<table::SecretConflicts>(every_conflict(id)).map_err(|_| Unavailable::Storage)?;
    drop(view);
    let found = open.iter().map(|(_, open)| open).find(|open| open.id == resolution.conflict);
    let conflict = found.ok_or(BackendError::ConflictNotFound(resolution.conflict))?.clone();
    let strategy = if resolution.take_remote { "take_remote" } else { "keep_local" };
    let details = [
        ("tenant", member.row.tenant.as_str().into()),
        ("backend_id", id.to_string().as_str().into()),
        ("conflict_id", conflict.id.to_string().as_str().into()),
        ("secret_path", conflict.path.as_str().into()),
        ("strategy", strategy.into()),
    ];
    let entry = context.audit_node("federation_conflict_resolve", Some(&resolution.operator), details);
    let left = open.len() as u64;
    if !resolution.take_remote {
        let mut batch = Batch::new();
        let kept = Conflict { kept_local: true, ..conflict };
        batch.put::<table::SecretConflicts>(&(id, kept.id), &kept).audit(entry);
        context.commit(Lane::Operator, batch).await?;
        return Ok(left);
    }
    let source = Source::open(backends, member, source).await.map_err(BackendError::Backend)?;
    let name = conflict.names.first().cloned().unwrap_or_default();
    let remote = match source.read(&name, &VersionKey::Current).await {
        Ok(fetched) => Some(fetched.found.secret.clone()),
        Err(BackendFailure::Call(CallError::NotFound | CallError::VersionNotFound)) => None,
        Err(failure) => return Err(BackendError::Backend(failure)),
    };
    let key = Named::new(member.row.tenant.as_str(), conflict.path.as_str().to_owned());
    let now = context.now();
    let view = context.store.read().map_err(|_| Unavailable::Storage)?;
    let old = view.get::<table::Secrets>(&key).map_err(|_| Unavailable::Storage)?;
    drop(view);
    let mut batch = Batch::new();
    match &old {
        Some(old) => batch.expect::<table::Secrets>(&key, old),
        None => batch.expect_absent::<table::Secrets>(&key),
    };
    let mut row = old.unwrap_or_else(|| new_row(now));
    match remote {
        Some(secret) => {
            let (data, unfolded) = secret.value.unfold();
            row.secret_type = type_of(unfolded);
            row.deleted_at = None;
            let by = &resolution.operator.userid;
            add_version(&mut batch, &key, &mut row, &data, now, by, secret.backend_version.clone());
            row.copy = Some(CopyRow {
                backend: id,
                name,
                mark: secret.mark.or(conflict.remote_mark),
                common: row.current,
                seen_at: now,
                absent: 0,
            });
        }
        None => row.deleted_at = Some(now),
    }
    batch.put::<table::Secrets>(&key, &row).delete::<table::SecretConflicts>(&(id, conflict.id)).audit(entry);
    match context.store_batch(Lane::Operator, batch).await {
        Ok(_) => Ok(left - 1),
        Err(CommitError::PreconditionFailed { .. }) => Err(Unavailable::Busy { part: "the secret" }.into()),
        Err(error) => Err(Unavailable::from(error).into()),
    }
}

fn hex(bytes: &[u8]) -> String {
    hansa_model::secret::hex(bytes)
}
