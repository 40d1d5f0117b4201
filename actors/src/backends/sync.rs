//! Syncs: one run is a task of its own.
//!
//! What a run decides is pure ([`hansa_model::machine::backend_sync`]); here is the work around it: first all
//! names are listed ([`names`]), what is new is fetched and stored ([`values`]), and what is no longer listed
//! is counted and deleted ([`absences`]). Each value is stored in a batch of its own, judged against the very
//! row that it replaces, so a run that ends midway keeps what it has, readers see whole secrets, and no local
//! change is ever overwritten.

mod absences;
mod names;
mod values;

use std::collections::{BTreeMap, BTreeSet};

use hansa_model::Timestamp;
use hansa_model::audit::{AuditDraft, Detail};
use hansa_model::machine::backend_sync as machine;
use hansa_model::secrets::change::Change;
use hansa_model::secrets::id::SyncRunId;
use hansa_model::secrets::path::SecretPath;
use hansa_model::secrets::row::{Conflict, CopyRow, SecretRow, SyncCounts, SyncRun, SyncState, Trigger};
use hansa_model::secrets::value::Mark;
use hansa_storage::codec::Named;
use hansa_storage::{Batch, Lane, ReadView, table};
use ractor::ActorRef;
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinSet};

use super::error::BackendFailure;
use super::fetch::{Slot, Source};
use super::member::BackendMessage;
use super::{Backends, Member, conflicts, rows};
use crate::error::Unavailable;

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

/// A run that is under way.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) started: Started,
    task: AbortHandle,
    /// Closed once the task is gone.
    gone: oneshot::Receiver<()>,
}

impl Running {
    pub(crate) fn start(
        tasks: &mut JoinSet<()>,
        backends: &Backends,
        member: Member,
        slot: Slot,
        request: Request,
        myself: &ActorRef<BackendMessage>,
    ) -> Self {
        let context = &backends.context;
        let at = context.now();
        let id = SyncRunId::generate(at, &*context.entropy);
        let started = Started { id, at, already_running: false };
        let (alive, gone) = oneshot::channel();
        let (backends, myself) = (backends.clone(), myself.clone());
        let task = tasks.spawn(async move {
            let _alive = alive;
            let state = Run::new(&backends, &member, started, request).go(&slot, &myself).await;
            let _ = myself.cast(BackendMessage::SyncEnded { id, state: Box::new(state) });
        });
        Self { started, task, gone }
    }

    /// Ends the run. On return it commits nothing more; what it had handed to the store may still be on its way.
    pub(crate) async fn cancel(self) {
        self.task.abort();
        let _ = self.gone.await;
    }
}

/// What the audit entry of a changed copy says.
pub(super) fn copied(
    member: &Member,
    path: &SecretPath,
    change: Change,
    version: u64,
) -> [(&'static str, Detail); 5] {
    [
        ("tenant", member.row.tenant.as_str().into()),
        ("secret_path", path.as_str().into()),
        ("backend_id", member.row.id.to_string().as_str().into()),
        ("change", change.as_str().into()),
        ("version", rows::number(version)),
    ]
}

/// One run's work.
struct Run<'a> {
    backends: &'a Backends,
    member: &'a Member,
    started: Started,
    request: Request,
    counts: SyncCounts,
    /// Conflicts, by path.
    conflicts: BTreeMap<SecretPath, Conflict>,
    /// Copies that are served, as far as known.
    copies: u64,
    error: Option<String>,
    guarded: bool,
}

/// A name that is to be fetched.
struct Wanted {
    path: SecretPath,
    name: String,
    mark: Option<Mark>,
    /// Our newest version when it was chosen; zero for none. A fetched value says nothing about what was written
    /// here since.
    version: u64,
}

/// What the listings have named so far.
#[derive(Default)]
struct Listed {
    paths: BTreeSet<SecretPath>,
    /// Names whose values are to be fetched.
    wanted: Vec<Wanted>,
    /// Listing calls.
    calls: usize,
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
            copies: member.published.sync.load().copies,
            error: None,
            guarded: false,
        }
    }

    /// Runs, and stores how it went.
    async fn go(mut self, slot: &Slot, myself: &ActorRef<BackendMessage>) -> SyncState {
        let complete = match self.work(slot).await {
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
        state
    }

    /// Answers whether the run was complete: every listing finished, and no fetch failed.
    async fn work(&mut self, slot: &Slot) -> Result<bool, BackendFailure> {
        let open = conflicts::open(&self.view()?, self.member.row.id)?;
        self.conflicts = open.into_iter().map(|open| (open.path.clone(), open)).collect();
        let source = slot.open(self.backends, self.member).await?;
        let listed = self.pull(&source).await?;
        if self.counts.failed > 0 {
            return Ok(false);
        }
        self.delete_absent(&source, &listed.paths).await?;
        Ok(!self.guarded)
    }

    /// Lists everything, and fetches what is new.
    async fn pull(&mut self, source: &Source) -> Result<Listed, BackendFailure> {
        let mut listed = Listed::default();
        for mapping in &*self.member.mappings {
            self.list(source, mapping, &mut listed).await?;
        }
        self.fetch(source, std::mem::take(&mut listed.wanted)).await;
        Ok(listed)
    }

    fn view(&self) -> Result<ReadView, Unavailable> {
        Ok(self.backends.context.store.read()?)
    }

    /// What a row knows of its original, if that is this backend's.
    fn own_copy<'r>(&self, row: &'r SecretRow) -> Option<&'r CopyRow> {
        row.copy.as_ref().filter(|copy| copy.backend == self.member.row.id)
    }

    fn key(&self, path: &SecretPath) -> Named<String> {
        Named::new(self.member.row.tenant.as_str(), path.as_str().to_owned())
    }

    /// How many calls are worth having under way: more would only wait for permits.
    fn width(&self) -> usize {
        self.member.config.common().max_concurrency as usize
    }

    /// The audit entry of a copy that was made, changed or deleted.
    fn copied(&self, path: &SecretPath, change: Change, version: u64) -> AuditDraft {
        self.entry("secret_copied", &copied(self.member, path, change, version))
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
            copies: self.copies,
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
