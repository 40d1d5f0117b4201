//! What the stores hold, what people were told, and the oracle that judges. Survives every crash of the node.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clock::SimTime;
use crate::invariants::audited_calls::AuditedCalls;
use crate::invariants::true_copies::TrueCopies;

/// Shared by the node's program, its stores and the scenario. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Books {
    /// When nobody changes anything any more.
    pub(super) work_ends: SimTime,
    pages: Arc<Mutex<Pages>>,
}

#[derive(Debug, Default)]
pub(super) struct Pages {
    /// By the store's name of a secret.
    pub(super) originals: TrueCopies,
    /// Every read and write of every path.
    pub(super) calls: AuditedCalls,
    drawn: u64,
    /// Of each local secret the value that was acknowledged last.
    pub(super) kept: BTreeMap<String, u64>,
    /// The copied backend is known to be gone: since nobody has tried to make it anew.
    pub(super) removed: bool,
    pub(super) copies_read: u64,
    pub(super) answers: u64,
    pub(super) written_through: u64,
    pub(super) removals: u64,
    /// When all copies were seen to be their originals after the work.
    pub(super) level_at: Option<SimTime>,
    /// What was not, when somebody looked last.
    pub(super) missing: Option<String>,
}

impl Books {
    pub(super) fn new(work_ends: SimTime) -> Self {
        Self { work_ends, pages: Arc::default() }
    }

    pub(super) fn open(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    /// A number that nothing had before.
    pub(super) fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.drawn
    }
}
