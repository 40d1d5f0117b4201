//! Entries of the audit log that wait for a backend's answer: on disk as open before anything comes of the call,
//! in the log right after.
//!
//! ```text
//!   begin ─┬─ the open entry is stored ─┬─ both: a value may leave ── end: the entry is owed
//!          └─ the backend is asked ─────┘                                │
//!                     the next open entry's commit, or the actor's, ◄────┘
//!                     takes it along and the open one away
//! ```
//!
//! An entry tells how a call went, so it cannot be written before the backend has answered. A read asks the
//! backend meanwhile, for waiting for the backend and then for the disk would add up; a write asks afterwards,
//! for what it does there must not go unseen. What a crash leaves open gets its entry at the next start.
//! Decision 0025.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hansa_model::audit::{AuditDraft, Detail};
use hansa_model::limits::secrets as limits;
use hansa_storage::{Batch, Lane, ReadError, table};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::{RwLock, oneshot};
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::context::Context;
use crate::error::Unavailable;
use crate::supervision::Handle;

/// The open entries of one node. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct OpenEntries {
    context: Arc<Context>,
    owed: Arc<Mutex<Owed>>,
    /// Shared by the commits under way, held alone by whoever must know that all of them are over.
    commits: Arc<RwLock<()>>,
    pub(crate) actor: Handle<OpenEntriesMessage>,
}

/// Entries of calls that have ended, not yet on their way to the disk.
#[derive(Debug)]
struct Owed {
    entries: Vec<AuditDraft>,
    /// When the first of them came.
    since: Instant,
    /// The actor knows that there are some.
    told: bool,
}

impl OpenEntries {
    /// Takes over what a crash has left open: nobody knows any more what came of it.
    pub(crate) fn open(context: Arc<Context>) -> Result<Self, ReadError> {
        let left = context.store.read()?.all::<table::OpenEntries>(..)?;
        if !left.is_empty() {
            warn!(
                calls = left.len(),
                "calls to backends were under way when the node ended: see the audit log"
            );
        }
        let entries = left.into_iter().map(|(_, draft)| Outcome::Unknown.of(draft)).collect();
        Ok(Self {
            context,
            owed: Arc::new(Mutex::new(Owed { entries, since: Instant::now(), told: false })),
            commits: Arc::default(),
            actor: Handle::new("open entries"),
        })
    }

    /// Begins to store what somebody asks for: a draft of the entry, as far as it is known. `dropped` is what comes
    /// of it when nobody waits for its end.
    pub(crate) fn begin(&self, draft: AuditDraft, dropped: Outcome) -> OpenEntry {
        let (stored, verdict) = oneshot::channel();
        let (this, opened) = (self.clone(), draft.clone());
        // A task of its own: whoever asks may go away at any time, and the entries that go along must not.
        drop(tokio::spawn(async move {
            let result = {
                let _shared = this.commits.read().await;
                this.commit(Some(&opened)).await
            };
            if let Err(Ok(())) = stored.send(result) {
                this.owe(dropped.of(opened));
            }
        }));
        OpenEntry { entries: self.clone(), draft: Some(draft), dropped, verdict, is_stored: false }
    }

    /// Returns when the entries of all calls that have ended so far are on disk.
    ///
    /// # Errors
    /// They could not be stored, and are kept for the next try.
    pub(crate) async fn settle(&self) -> Result<(), Unavailable> {
        let this = self.clone();
        // A task of its own, as above.
        let settled = tokio::spawn(async move {
            let _alone = this.commits.write().await;
            while !this.owed().entries.is_empty() {
                this.commit(None).await?;
            }
            Ok(())
        });
        settled.await.unwrap_or(Err(Unavailable::Storage))
    }

    /// Stores some of the entries that are owed, and an open one.
    async fn commit(&self, opened: Option<&AuditDraft>) -> Result<(), Unavailable> {
        let mut entries = std::mem::take(&mut self.owed().entries);
        let later = entries.split_off(entries.len().min(limits::ENTRIES_OWED_MAX));
        self.give_back(later);
        let mut batch = Batch::new();
        for entry in &entries {
            batch.delete::<table::OpenEntries>(&entry.id).audit(entry.clone());
        }
        if let Some(draft) = opened {
            batch.put::<table::OpenEntries>(&draft.id, draft);
        }
        // Nobody watches reads live: there may be thousands a second.
        let stored = self.context.store.commit(Lane::Operator, batch).await;
        if stored.is_err() {
            self.give_back(entries);
        }
        Ok(stored.map(drop)?)
    }

    fn owe(&self, entry: AuditDraft) {
        let mut owed = self.owed();
        if owed.entries.is_empty() {
            owed.since = Instant::now();
        }
        owed.entries.push(entry);
        if !std::mem::replace(&mut owed.told, true) {
            drop(owed);
            self.actor.cast(OpenEntriesMessage::Owed);
        }
    }

    fn give_back(&self, mut entries: Vec<AuditDraft>) {
        let mut owed = self.owed();
        entries.append(&mut owed.entries);
        owed.entries = entries;
    }

    fn owed(&self) -> MutexGuard<'_, Owed> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One entry that waits for its end. Dropped without it, it ends as it was begun to.
#[derive(Debug)]
pub(crate) struct OpenEntry {
    entries: OpenEntries,
    /// None once it has ended.
    draft: Option<AuditDraft>,
    dropped: Outcome,
    verdict: oneshot::Receiver<Result<(), Unavailable>>,
    is_stored: bool,
}

impl OpenEntry {
    /// Returns when it is on disk, so that something may come of the call.
    pub(crate) async fn stored(&mut self) -> Result<(), Unavailable> {
        let verdict = (&mut self.verdict).await.unwrap_or(Err(Unavailable::Storage));
        self.is_stored = verdict.is_ok();
        verdict
    }

    /// Ends it with an entry, which `complete` makes of the draft.
    pub(crate) fn end(mut self, complete: impl FnOnce(AuditDraft) -> AuditDraft) {
        if let Some(draft) = self.draft.take() {
            self.entries.owe(complete(draft));
        }
    }

    /// Forgets it: a batch has stored its entry and removed it.
    pub(crate) fn forget(mut self) {
        self.draft = None;
    }
}

impl Drop for OpenEntry {
    fn drop(&mut self) {
        let Some(draft) = self.draft.take() else { return };
        // What is stored after this is answered by the task that stores it.
        self.verdict.close();
        if self.is_stored || matches!(self.verdict.try_recv(), Ok(Ok(()))) {
            self.entries.owe(self.dropped.of(draft));
        }
    }
}

/// What becomes of a call whose end nobody has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing: the caller went away before the answer, and no value has left.
    Abandoned,
    /// Nobody knows. It counts as a success: the value may have left, or have been stored.
    Unknown,
}

impl Outcome {
    /// The entry of such a call.
    fn of(self, mut draft: AuditDraft) -> AuditDraft {
        let (name, success) = match self {
            Self::Abandoned => ("abandoned", false),
            Self::Unknown => ("unknown", true),
        };
        draft.details.insert("success".to_owned(), Detail::Bool(success));
        draft.details.insert("outcome".to_owned(), name.into());
        draft.details.remove("duration_ms");
        draft
    }
}

/// Everything the actor of the open entries can be told.
#[derive(Debug)]
pub(crate) enum OpenEntriesMessage {
    /// Entries are owed: store them, unless somebody takes them along first.
    Owed,
}

/// Stores the entries that no further call takes along.
pub(crate) struct OpenEntriesActor {
    pub(crate) entries: OpenEntries,
}

impl Actor for OpenEntriesActor {
    type Msg = OpenEntriesMessage;
    type State = ();
    type Arguments = ();

    async fn pre_start(
        &self,
        myself: ActorRef<OpenEntriesMessage>,
        (): (),
    ) -> Result<(), ActorProcessingErr> {
        self.entries.owed().told = true;
        Ok(myself.cast(OpenEntriesMessage::Owed)?)
    }

    async fn handle(
        &self,
        myself: ActorRef<OpenEntriesMessage>,
        message: OpenEntriesMessage,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match message {
            OpenEntriesMessage::Owed => {
                if let Some(wait) = self.store_what_waits().await {
                    myself.send_after(wait, || OpenEntriesMessage::Owed);
                }
                Ok(())
            }
        }
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<OpenEntriesMessage>,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(self.entries.settle().await?)
    }
}

impl OpenEntriesActor {
    /// Stores what has waited long enough; answers when to look again, or with none when nothing is left.
    async fn store_what_waits(&self) -> Option<Duration> {
        let waited = {
            let mut owed = self.entries.owed();
            if owed.entries.is_empty() {
                owed.told = false;
                return None;
            }
            owed.since.elapsed()
        };
        match limits::ENTRY_WAIT.checked_sub(waited) {
            Some(rest) if !rest.is_zero() => Some(rest),
            Some(_) | None => match self.entries.settle().await {
                Ok(()) => Some(limits::ENTRY_WAIT),
                Err(error) => {
                    debug!(%error, "entries of calls to backends not stored; tried again");
                    Some(limits::ENTRY_RETRY_WAIT)
                }
            },
        }
    }
}
