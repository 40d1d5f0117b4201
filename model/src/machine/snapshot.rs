//! Full snapshots of a directory: what they retire, and when that needs a second word.

use std::collections::BTreeSet;

use crate::HostId;
use crate::limits::inventory as limits;

/// A snapshot that would remove suspiciously much. Nothing of it was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the snapshot leaves out {vanishing} of {held} hosts: send the missing hosts, or confirm with ?confirm_removals=true"
)]
pub struct RemovalGuard {
    /// Hosts that would be removed.
    pub vanishing: usize,
    /// Hosts held before.
    pub held: usize,
}

/// Refuses a removal of more than 10 hosts and more than 20 % (architecture 9).
///
/// # Errors
/// [`RemovalGuard`] with the counts, for the caller to confirm or correct.
pub const fn guard(vanishing: usize, held: usize) -> Result<(), RemovalGuard> {
    let many = vanishing > limits::REMOVAL_GUARD_HOSTS;
    let large = vanishing.saturating_mul(100) > held.saturating_mul(limits::REMOVAL_GUARD_PERCENT);
    if many && large { Err(RemovalGuard { vanishing, held }) } else { Ok(()) }
}

/// Removals of a documented snapshot over HTTP, which has no way to confirm: a mass removal waits until a
/// second complete snapshot leaves the same hosts out.
///
/// Kept in memory only: after a restart it takes one more snapshot, which errs on the safe side.
#[derive(Debug, Clone, Default)]
pub struct SecondWord {
    missing_once: BTreeSet<HostId>,
}

impl SecondWord {
    /// The hosts to retire now, of those that this snapshot left out.
    pub fn retire(&mut self, missing: Vec<HostId>, held: usize) -> Vec<HostId> {
        if guard(missing.len(), held).is_ok() {
            self.missing_once.clear();
            return missing;
        }
        let (twice, once): (Vec<_>, Vec<_>) =
            missing.into_iter().partition(|host| self.missing_once.contains(host));
        self.missing_once = once.into_iter().collect();
        twice
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(range: std::ops::Range<u128>) -> Vec<HostId> {
        range.map(|n| HostId(uuid::Uuid::from_u128(n))).collect()
    }

    #[test]
    fn guard_needs_both_many_and_a_large_share() {
        assert!(guard(10, 10).is_ok());
        assert!(guard(11, 55).is_ok());
        assert_eq!(guard(12, 55), Err(RemovalGuard { vanishing: 12, held: 55 }));
    }

    #[test]
    fn mass_removal_waits_for_a_second_snapshot_that_agrees() {
        let mut word = SecondWord::default();

        assert_eq!(word.retire(ids(0..50), 100), []);
        // Ten came back, ten others went: only those missing twice are retired.
        assert_eq!(word.retire(ids(10..60), 100), ids(10..50));
    }

    #[test]
    fn small_removal_is_applied_at_once() {
        assert_eq!(SecondWord::default().retire(ids(0..5), 100), ids(0..5));
    }
}
