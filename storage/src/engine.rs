//! The engine behind the writer: commits groups, and gets the file back after a disk error.
//!
//! Synchronous on purpose: production runs it on a thread of its own, a simulation on its task. A failed
//! sync is final, since nobody knows what is on the medium. After any other error the file is opened
//! anew; the commit counter in it says whether the transaction had arrived after all.

use std::sync::Arc;

use crate::StoreConfig;
use crate::batch::{Batch, Lane, Receipt};
use crate::disk::{Disk, Held};
use crate::error::{CommitError, Fault, OpenError, is_corruption};
use crate::generation::{self, Counters, Current, Generation, Repair, Trust};
use crate::seal::{Sealer, Sealers};
use crate::transaction::Changes;

/// What the writer answers for one batch.
pub(crate) type Verdict = Result<Receipt, CommitError>;

/// Owner of the write transactions.
pub(crate) struct Engine {
    config: StoreConfig,
    disk: Arc<dyn Disk>,
    hold: Arc<dyn Held>,
    current: Arc<Current>,
    sealers: Arc<Sealers>,
    counters: Counters,
    dead: bool,
}

/// A transaction's outcome, not yet durable.
struct Attempt {
    verdicts: Vec<Verdict>,
    counters: Option<Counters>,
}

/// A transaction that the engine gave up; with what it would have done, if only its end failed.
struct Failed {
    error: redb::Error,
    attempt: Option<Attempt>,
}

impl Engine {
    pub(crate) fn new(
        config: StoreConfig,
        disk: Arc<dyn Disk>,
        hold: Arc<dyn Held>,
        current: Arc<Current>,
        sealers: Arc<Sealers>,
        counters: Counters,
    ) -> Self {
        Self { config, disk, hold, current, sealers, counters, dead: false }
    }

    /// Commits a group in one transaction and answers for each batch, in order. Durable when it returns.
    pub(crate) fn commit(&mut self, group: &[(Lane, &Batch)]) -> Vec<Verdict> {
        let short = self.is_short_of_space();
        let verdicts = self.commit_some(group, |lane| !short || lane.uses_reserve());
        let full = |verdict: &Option<Verdict>| matches!(verdict, Some(Err(CommitError::Full { .. })));
        let urgent_refused = group.iter().zip(&verdicts).any(|((lane, _), v)| lane.uses_reserve() && full(v));
        let bulk_took_part = !short && group.iter().any(|(lane, _)| !lane.uses_reserve());
        // Bulk data filled the disk: what is urgent may still fit without it.
        let verdicts = if urgent_refused && bulk_took_part {
            self.commit_some(group, Lane::uses_reserve)
        } else {
            verdicts
        };
        verdicts.into_iter().map(|verdict| verdict.unwrap_or_else(|| Err(self.full()))).collect()
    }

    /// Whom to tell when the writer cannot go on.
    pub(crate) fn on_fatal(&self) -> Arc<dyn Fn(&str) + Send + Sync> {
        Arc::clone(&self.config.on_fatal)
    }

    /// Closes the file; errors are told to the log, since everything acknowledged is safe anyway.
    pub(crate) fn close(self) {
        let Some(generation) = self.current.close() else { return };
        // Readers may still hold it: then it closes with the last of them.
        if let Some(generation) = Arc::into_inner(generation)
            && let Err(error) = generation.database.close()
        {
            tracing::warn!(%error, "the store did not close cleanly");
        }
    }

    /// Commits the batches of the lanes that `takes` accepts; none for the others.
    fn commit_some(
        &mut self,
        group: &[(Lane, &Batch)],
        takes: impl Fn(Lane) -> bool,
    ) -> Vec<Option<Verdict>> {
        let taken: Vec<&Batch> =
            group.iter().filter(|(lane, _)| takes(*lane)).map(|(_, batch)| *batch).collect();
        let mut verdicts = if taken.is_empty() { Vec::new() } else { self.store(&taken) }.into_iter();
        group.iter().map(|(lane, _)| if takes(*lane) { verdicts.next() } else { None }).collect()
    }

    fn store(&mut self, batches: &[&Batch]) -> Vec<Verdict> {
        match self.try_store(batches) {
            Ok(verdicts) => verdicts,
            Err(error) => batches.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    fn try_store(&mut self, batches: &[&Batch]) -> Result<Vec<Verdict>, CommitError> {
        if self.dead {
            return Err(CommitError::Closed);
        }
        let generation = self.generation()?;
        let repair = Repair::of(generation.health.file_bytes(), self.config.walk_bytes_max);
        let sealer = self.sealers.present();
        let attempt = match attempt(&generation, batches, &self.counters, &sealer, repair) {
            Ok(attempt) => attempt,
            Err(failed) => self.recover(&generation, *failed)?,
        };
        if let Some(counters) = attempt.counters {
            self.counters = counters;
        }
        // What comes after this commit, in any transaction and any view, goes by the sealer that it brought.
        for (batch, verdict) in batches.iter().zip(&attempt.verdicts) {
            if let (Some(sealer), Ok(_)) = (&batch.sealer, verdict) {
                self.sealers.set(Arc::clone(sealer));
            }
        }
        Ok(attempt.verdicts)
    }

    /// After an engine error: ends everything, or opens the file anew and finds out what arrived.
    fn recover(&mut self, generation: &Generation, failed: Failed) -> Result<Attempt, CommitError> {
        let Failed { error, attempt } = failed;
        if generation.health.sync_failed() {
            self.dead = true;
            (self.config.on_fatal)("a sync of the store failed");
            return Err(CommitError::Io(Fault::new(error)));
        }
        tracing::warn!(%error, "the store is opened anew after a disk error");
        generation.health.fence();
        self.current.set(None);
        self.reopen()?;
        match attempt {
            Some(arrived) if arrived.counters.as_ref() == Some(&self.counters) => Ok(arrived),
            _ if generation.health.full() => Err(self.full()),
            _ if is_corruption(&error) => Err(CommitError::Corrupt(Fault::new(error))),
            _ => Err(CommitError::Io(Fault::new(error))),
        }
    }

    /// The present opening; tries once to get one when the last reopening failed.
    fn generation(&mut self) -> Result<Arc<Generation>, CommitError> {
        match self.current.get() {
            Ok(generation) => Ok(generation),
            Err(_) => self.reopen(),
        }
    }

    fn reopen(&mut self) -> Result<Arc<Generation>, CommitError> {
        let generation =
            generation::open(&*self.disk, self.config.cache_bytes, Trust::AfterCrash, &self.hold)
                .map_err(|error| self.reopen_error(error))?
                .ok_or(CommitError::Closed)?;
        self.counters = generation::counters(&generation.database)
            .map_err(|error| CommitError::Corrupt(Fault::new(error)))?;
        self.current.set(Some(Arc::clone(&generation)));
        Ok(generation)
    }

    fn reopen_error(&self, error: OpenError) -> CommitError {
        if self.is_short_of_space() {
            return self.full();
        }
        match error {
            OpenError::Corrupt(fault) => CommitError::Corrupt(fault),
            OpenError::Io(fault) => CommitError::Io(fault),
            OpenError::InUse | OpenError::NewerFormat { .. } | OpenError::WrongRootKey => {
                CommitError::Io(Fault::new(error))
            }
        }
    }

    /// Whether the disk has less free than the reserve. A disk that cannot say counts as roomy.
    fn is_short_of_space(&self) -> bool {
        self.disk.free_bytes().is_ok_and(|free| free.is_some_and(|free| free < self.config.reserve_bytes))
    }

    const fn full(&self) -> CommitError {
        CommitError::Full { reserve_bytes: self.config.reserve_bytes }
    }
}

/// Runs one transaction.
fn attempt(
    generation: &Generation,
    batches: &[&Batch],
    counters: &Counters,
    sealer: &Sealer,
    repair: Repair,
) -> Result<Attempt, Box<Failed>> {
    let before_commit = |error| Box::new(Failed { error, attempt: None });
    let transaction = generation::begin_durable(&generation.database, repair).map_err(before_commit)?;
    let attempt = apply(&transaction, batches, counters, sealer).map_err(before_commit)?;
    let ended = if attempt.counters.is_some() {
        transaction.commit().map_err(redb::Error::from)
    } else {
        transaction.abort().map_err(redb::Error::from)
    };
    match ended {
        Ok(()) => Ok(attempt),
        Err(error) => Err(Box::new(Failed { error, attempt: Some(attempt) })),
    }
}

fn apply(
    transaction: &redb::WriteTransaction,
    batches: &[&Batch],
    counters: &Counters,
    sealer: &Sealer,
) -> Result<Attempt, redb::Error> {
    let mut changes = Changes::new(transaction, counters, sealer);
    let mut verdicts = Vec::with_capacity(batches.len());
    let mut changed = false;
    for batch in batches {
        let verdict = changes.apply(batch)?;
        changed |= verdict.is_ok() && !batch.is_empty();
        verdicts.push(verdict);
    }
    Ok(Attempt { verdicts, counters: changes.finish(changed)? })
}
