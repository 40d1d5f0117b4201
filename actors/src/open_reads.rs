//! Reads of backends' secrets that are under way: on disk before a value leaves, in the audit log right after.
//!
//! ```text
//!   begin ─┬─ the open read is stored ─┬─ both: the value may leave ── end: its entry is owed
//!          └─ the backend is asked ────┘                                  │
//!                    the next open read's commit, or the actor's, ◄───────┘
//!                    takes the entry along and the open read away
//! ```
//!
//! The entry of a read tells how it went, so it cannot be written before the backend has answered; waiting for the
//! backend and then for the disk would add up. What a crash leaves open gets its entry at the next start.
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

/// The reads under way of one node. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct OpenReads {
    context: Arc<Context>,
    owed: Arc<Mutex<Owed>>,
    /// Shared by the commits under way, held alone by whoever must know that all of them are over.
    commits: Arc<RwLock<()>>,
    pub(crate) actor: Handle<OpenReadsMessage>,
}

/// Entries of reads that have ended, not yet on their way to the disk.
#[derive(Debug)]
struct Owed {
    entries: Vec<AuditDraft>,
    /// When the first of them came.
    since: Instant,
    /// The actor knows that there are some.
    told: bool,
}

impl OpenReads {
    /// Takes over what a crash has left open: nobody knows any more whether those values have left.
    pub(crate) fn open(context: Arc<Context>) -> Result<Self, ReadError> {
        let left = context.store.read()?.all::<table::OpenReads>(..)?;
        if !left.is_empty() {
            warn!(
                reads = left.len(),
                "reads of secrets were under way when the node ended: see the audit log"
            );
        }
        let entries = left.into_iter().map(|(_, draft)| unknown(draft)).collect();
        Ok(Self {
            context,
            owed: Arc::new(Mutex::new(Owed { entries, since: Instant::now(), told: false })),
            commits: Arc::default(),
            actor: Handle::new("open reads"),
        })
    }

    /// Begins to store that somebody reads something: a draft of the entry, as far as it is known.
    pub(crate) fn begin(&self, draft: AuditDraft) -> OpenRead {
        let (stored, verdict) = oneshot::channel();
        let (this, opened) = (self.clone(), draft.clone());
        // A task of its own: whoever reads may go away at any time, and the entries that go along must not.
        drop(tokio::spawn(async move {
            let result = {
                let _shared = this.commits.read().await;
                this.commit(Some(&opened)).await
            };
            if let Err(Ok(())) = stored.send(result) {
                this.owe(abandoned(opened));
            }
        }));
        OpenRead { reads: self.clone(), draft: Some(draft), verdict, is_stored: false }
    }

    /// Returns when the entries of all reads that have ended so far are on disk.
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

    /// Stores some of the entries that are owed, and an open read.
    async fn commit(&self, opened: Option<&AuditDraft>) -> Result<(), Unavailable> {
        let mut entries = std::mem::take(&mut self.owed().entries);
        let later = entries.split_off(entries.len().min(limits::ENTRIES_OWED_MAX));
        self.give_back(later);
        let mut batch = Batch::new();
        for entry in &entries {
            batch.delete::<table::OpenReads>(&entry.id).audit(entry.clone());
        }
        if let Some(draft) = opened {
            batch.put::<table::OpenReads>(&draft.id, draft);
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
            self.actor.cast(OpenReadsMessage::Owed);
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

/// One read under way. Dropped without its end, it ends as abandoned.
#[derive(Debug)]
pub(crate) struct OpenRead {
    reads: OpenReads,
    /// None once it has ended.
    draft: Option<AuditDraft>,
    verdict: oneshot::Receiver<Result<(), Unavailable>>,
    is_stored: bool,
}

impl OpenRead {
    /// Returns when the open read is on disk, so that a value may leave.
    pub(crate) async fn stored(&mut self) -> Result<(), Unavailable> {
        let verdict = (&mut self.verdict).await.unwrap_or(Err(Unavailable::Storage));
        self.is_stored = verdict.is_ok();
        verdict
    }

    /// Ends it with an entry, which `complete` makes of the draft.
    pub(crate) fn end(mut self, complete: impl FnOnce(AuditDraft) -> AuditDraft) {
        if let Some(draft) = self.draft.take() {
            self.reads.owe(complete(draft));
        }
    }
}

impl Drop for OpenRead {
    fn drop(&mut self) {
        let Some(draft) = self.draft.take() else { return };
        // What is stored after this is answered by the task that stores it.
        self.verdict.close();
        if self.is_stored || matches!(self.verdict.try_recv(), Ok(Ok(()))) {
            self.reads.owe(abandoned(draft));
        }
    }
}

/// The entry of a read whose asker went away: no value has left.
fn abandoned(mut draft: AuditDraft) -> AuditDraft {
    draft.details.insert("success".to_owned(), Detail::Bool(false));
    draft.details.insert("outcome".to_owned(), "abandoned".into());
    draft.details.remove("duration_ms");
    draft
}

/// The entry of a read that the node's end has cut off. It counts as a success: the value may have left.
fn unknown(mut draft: AuditDraft) -> AuditDraft {
    draft.details.insert("outcome".to_owned(), "unknown".into());
    draft.details.remove("duration_ms");
    draft
}

/// Everything the actor of the open reads can be told.
#[derive(Debug)]
pub(crate) enum OpenReadsMessage {
    /// Entries are owed: store them, unless somebody takes them along first.
    Owed,
}

/// Stores the entries that no further read takes along.
pub(crate) struct OpenReadsActor {
    pub(crate) reads: OpenReads,
}

impl Actor for OpenReadsActor {
    type Msg = OpenReadsMessage;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, myself: ActorRef<OpenReadsMessage>, (): ()) -> Result<(), ActorProcessingErr> {
        self.reads.owed().told = true;
        Ok(myself.cast(OpenReadsMessage::Owed)?)
    }

    async fn handle(
        &self,
        myself: ActorRef<OpenReadsMessage>,
        message: OpenReadsMessage,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match message {
            OpenReadsMessage::Owed => {
                if let Some(wait) = self.store_what_waits().await {
                    myself.send_after(wait, || OpenReadsMessage::Owed);
                }
                Ok(())
            }
        }
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<OpenReadsMessage>,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(self.reads.settle().await?)
    }
}

impl OpenReadsActor {
    /// Stores what has waited long enough; answers when to look again, or with none when nothing is left.
    async fn store_what_waits(&self) -> Option<Duration> {
        let waited = {
            let mut owed = self.reads.owed();
            if owed.entries.is_empty() {
                owed.told = false;
                return None;
            }
            owed.since.elapsed()
        };
        match limits::ENTRY_WAIT.checked_sub(waited) {
            Some(rest) if !rest.is_zero() => Some(rest),
            Some(_) | None => match self.reads.settle().await {
                Ok(()) => Some(limits::ENTRY_WAIT),
                Err(error) => {
                    debug!(%error, "entries of reads not stored; tried again");
                    Some(limits::ENTRY_RETRY_WAIT)
                }
            },
        }
    }
}
