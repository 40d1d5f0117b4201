//! Another root key for a store that goes on serving.
//!
//! ```text
//!  begin    one commit: a fresh tenant key under the new root key; the one before it stays, under the old root key
//!  rewrap   bounded commits: each data key from the old tenant key to the new one; values stay as they are
//!  end      one commit: the old tenant key goes, and with it what the old root key opened
//! ```
//!
//! After each commit everything is readable with the two root keys that a [`RootKey`] holds while a rotation
//! runs, so it may stop anywhere and go on after the next start. A value that is stored meanwhile is sealed
//! for the new key, or wrapped anew by the writer when it was sealed a moment too early.

use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use hansa_model::limits::actor as limits;

use crate::error::{CommitError, ReadError};
use crate::generation::{FINGERPRINT_KEY, PREVIOUS_TENANT_KEY, TENANT_KEY};
use crate::read::Order;
use crate::schema::{self, Kind};
use crate::seal::{Envelope, Rewrapped, RootKey, Sealer};
use crate::{Batch, Lane, Store};

/// Whether a store is between two root keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotation {
    /// It hangs on one root key.
    None,
    /// Some values may still hang on the former one, which is known.
    Running,
    /// Some values may still hang on the former one, and the key file does not hold it any more: those do not
    /// open until it is put back.
    FormerKeyLost,
}

/// How far a pass over the sealed records has come; the default is before the first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    table: usize,
    after: Option<Vec<u8>>,
}

/// What one step of a pass did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Step {
    /// Sealed records that were looked at.
    pub looked_at: u64,
    /// Those whose data key was wrapped anew. Durable.
    pub rewrapped: u64,
    /// Those that no known key opens; they stay as they are.
    pub unreadable: u64,
    /// Where to go on; none after the last record.
    pub next: Option<Place>,
}

/// Why a rotation does not begin, or a step of it was not made.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// Another one runs: let it end first.
    #[error("a rotation of the root key is running")]
    Running,
    /// The new root key does not bring the present one along, so that values would be lost.
    #[error("the new root key does not hold the present one")]
    Unprepared,
    /// Nothing was stored; the kind of the error says what to do.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Store {
    /// Whether the store is between two root keys.
    pub fn rotation(&self) -> Rotation {
        let sealer = self.sealers.present();
        match (sealer.is_rotating(), sealer.has_lost_key()) {
            (false, _) => Rotation::None,
            (true, false) => Rotation::Running,
            (true, true) => Rotation::FormerKeyLost,
        }
    }

    /// Whether the store's notes on the disk say that a rotation runs.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn rotation_noted(&self) -> Result<bool, ReadError> {
        Ok(self.read()?.stored_keys()?.previous.is_some())
    }

    /// How many sealed records there are.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn sealed_records(&self) -> Result<u64, ReadError> {
        let view = self.read()?;
        sealed_tables().map(|(_, table)| view.count(table)).sum()
    }

    /// Puts the store under another root key, together with a batch that tells of it. `root` must hold the
    /// present root key as the one before it, and must be durable itself. Once this returns, only `root`
    /// opens the store.
    ///
    /// # Errors
    /// See [`RotationError`].
    pub async fn begin_rotation(&self, root: &RootKey, mut batch: Batch) -> Result<(), RotationError> {
        let sealer = self.sealers.present();
        let stored = self.read()?.stored_keys()?;
        if stored.previous.is_some() {
            return Err(RotationError::Running);
        }
        let keys = sealer.keys_for(root, &stored);
        let opened = Sealer::open(root, &keys, Arc::clone(sealer.entropy()));
        let next = opened.ok().filter(|next| !next.has_lost_key()).ok_or(RotationError::Unprepared)?;
        batch
            .expect_note(TENANT_KEY, Some(&stored.tenant))
            .expect_note(PREVIOUS_TENANT_KEY, None)
            .put_note(TENANT_KEY, &keys.tenant)
            .put_note(PREVIOUS_TENANT_KEY, &stored.tenant);
        if let Some(fingerprint) = &keys.fingerprint {
            batch.put_note(FINGERPRINT_KEY, fingerprint);
        }
        batch.sealer = Some(Arc::new(next));
        match self.commit(Lane::Control, batch).await {
            Ok(_) => Ok(()),
            Err(CommitError::PreconditionFailed { .. }) => Err(RotationError::Running),
            Err(error) => Err(error.into()),
        }
    }

    /// Wraps the data keys of the next records anew, a bounded number. Durable on return.
    ///
    /// # Errors
    /// See [`RotationError`]; the same step may be made again.
    pub async fn rewrap(&self, from: Place) -> Result<Step, RotationError> {
        let (step, batch) = self.next_step(from)?;
        if !batch.is_empty() {
            self.commit(Lane::Ingest, batch).await?;
        }
        Ok(step)
    }

    fn next_step(&self, from: Place) -> Result<(Step, Batch), ReadError> {
        let view = self.read()?;
        let (mut step, mut batch) = (Step::default(), Batch::new());
        let (mut after, mut room) = (from.after, limits::REWRAP_BYTES_MAX);
        for (index, table) in sealed_tables().filter(|(index, _)| *index >= from.table) {
            let mut last = None;
            let range = (after.take().map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
            view.walk(table, &range, Order::Ascending, |key, record| {
                step.looked_at += 1;
                let rewrapped = Envelope::from_record(record)
                    .map(|(version, envelope)| (version, view.sealer().rewrap(table, key, &envelope)));
                match rewrapped {
                    Some((_, Rewrapped::Already)) => {}
                    Some((version, Rewrapped::Anew(envelope))) => {
                        step.rewrapped += 1;
                        batch.replace(table, key, record, envelope.to_record(version));
                    }
                    Some((_, Rewrapped::Unreadable)) | None => step.unreadable += 1,
                }
                room = room.saturating_sub(record.len());
                if room > 0 && step.looked_at < limits::REWRAP_RECORDS_MAX {
                    return Ok(ControlFlow::Continue(()));
                }
                last = Some(key.to_vec());
                Ok(ControlFlow::Break(()))
            })?;
            if last.is_some() {
                step.next = Some(Place { table: index, after: last });
                break;
            }
        }
        Ok((step, batch))
    }

    /// Forgets the former tenant key, together with a batch that tells of it. Only after a pass that began
    /// after [`Self::begin_rotation`] and has come to its end: what is not wrapped anew does not open any
    /// more. Durable on return.
    ///
    /// # Errors
    /// See [`RotationError`]; the rotation goes on.
    pub async fn end_rotation(&self, mut batch: Batch) -> Result<(), RotationError> {
        let settled = self.sealers.present().settled();
        batch.delete_note(PREVIOUS_TENANT_KEY);
        batch.sealer = Some(Arc::new(settled));
        Ok(self.commit(Lane::Control, batch).await.map(drop)?)
    }
}

/// The sealed tables, with their places in the list of all.
fn sealed_tables() -> impl Iterator<Item = (usize, &'static str)> {
    let sealed = |kind: &Kind| matches!(kind, Kind::Sealed(_));
    let tables = schema::TABLES.iter().enumerate();
    tables.filter(move |(_, table)| sealed(&table.kind)).map(|(index, table)| (index, table.name))
}
