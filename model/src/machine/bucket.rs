//! How often a caller may call: a bucket of tokens for each identity and category, refilled all the time
//! (contract A.8).
//!
//! A bucket is kept as the instant at which it will be full again: one number says all. A full bucket is as
//! good as none and is forgotten; one that is not full is kept whatever comes, for forgetting it would fill it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::limits::secrets as limits;

/// What is counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// Everything below `/v1/federation/`.
    FederationOperations,
    /// Reads of one secret.
    ReadSecrets,
    /// Writes of one secret.
    WriteSecrets,
    /// Deletions of one secret.
    DeleteSecrets,
    /// Lists of secrets.
    ListSecrets,
    /// Reads of many secrets, a call each.
    BatchRead,
    /// Metadata of many secrets, a call each.
    BatchMetadata,
    /// Questions to the audit log.
    AuditQueries,
}

impl Category {
    /// Every category, in the order of the documentation.
    pub const ALL: [Self; 8] = [
        Self::FederationOperations,
        Self::ReadSecrets,
        Self::WriteSecrets,
        Self::DeleteSecrets,
        Self::ListSecrets,
        Self::BatchRead,
        Self::BatchMetadata,
        Self::AuditQueries,
    ];

    /// The spelling in the configuration and in `RateLimit` fields.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FederationOperations => "federation_operations",
            Self::ReadSecrets => "read_secrets",
            Self::WriteSecrets => "write_secrets",
            Self::DeleteSecrets => "delete_secrets",
            Self::ListSecrets => "list_secrets",
            Self::BatchRead => "batch_read",
            Self::BatchMetadata => "batch_metadata",
            Self::AuditQueries => "audit_queries",
        }
    }

    /// Calls a minute when nothing is configured: contract A.8.
    pub const fn default_per_minute(self) -> u32 {
        match self {
            Self::FederationOperations => 20,
            Self::ReadSecrets => 1_000,
            Self::AuditQueries => 50,
            Self::WriteSecrets
            | Self::DeleteSecrets
            | Self::ListSecrets
            | Self::BatchRead
            | Self::BatchMetadata => 100,
        }
    }
}

/// Calls a minute of every category; zero is no limit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rates(BTreeMap<Category, u32>);

impl Rates {
    /// Sets one category; the others keep their default.
    #[must_use]
    pub fn with(mut self, category: Category, per_minute: u32) -> Self {
        self.0.insert(category, per_minute);
        self
    }

    /// Calls a minute, which is also how many may come at once.
    pub fn per_minute(&self, category: Category) -> u32 {
        self.0.get(&category).copied().unwrap_or_else(|| category.default_per_minute())
    }

    /// What one call takes, and what a whole bucket holds; none without a limit.
    fn span(&self, category: Category) -> Option<(Duration, Duration)> {
        let number = self.per_minute(category);
        let one = Duration::from_secs(60).checked_div(number)?;
        // Time is told in microseconds; a rate beyond that is none.
        let one = Duration::from_micros(u64::try_from(one.as_micros()).ok()?.max(1));
        Some((one, one * number))
    }
}

/// The buckets of all callers.
#[derive(Debug, Clone)]
pub struct Buckets<I> {
    rates: Rates,
    slots: usize,
    /// When each will be full again.
    full_at: BTreeMap<(I, Category), Timestamp>,
    /// The same in the order of time.
    order: BTreeSet<(Timestamp, I, Category)>,
}

/// What is left in a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Calls a minute.
    pub limit: u32,
    /// Calls that may still come at once.
    pub remaining: u32,
    /// Until it is full again.
    pub reset: Duration,
}

impl<I: Ord + Clone> Buckets<I> {
    /// Full buckets, of which this node keeps the usual number.
    pub const fn new(rates: Rates) -> Self {
        Self::with_slots(rates, limits::BUCKETS_MAX)
    }

    const fn with_slots(rates: Rates, slots: usize) -> Self {
        Self { rates, slots, full_at: BTreeMap::new(), order: BTreeSet::new() }
    }

    /// Takes other rates from now on. What was taken is kept.
    pub fn set_rates(&mut self, rates: Rates) {
        self.rates = rates;
    }

    /// Takes one token, or says how long to wait for it. A call that is refused takes none. When every slot
    /// holds a bucket that is not full, a newcomer waits for the first that is.
    ///
    /// # Errors
    /// The time to wait, more than nothing.
    pub fn admit(&mut self, now: Timestamp, identity: &I, category: Category) -> Result<(), Duration> {
        let Some((one, whole)) = self.rates.span(category) else { return Ok(()) };
        self.forget_full(now);
        let key = (identity.clone(), category);
        let known = self.full_at.get(&key).copied();
        let full_at = known.unwrap_or(now).max(now).min(now.after(whole)).after(one);
        if full_at.since(now) > whole {
            return Err(full_at.since(now) - whole);
        }
        if known.is_none() && self.full_at.len() >= self.slots {
            let first = self.order.first().map_or(now, |(full_at, _, _)| *full_at);
            // At most one bucket's time, also after a clock that was set back.
            return Err(first.since(now).clamp(Duration::from_micros(1), Duration::from_secs(60)));
        }
        if let Some(known) = known {
            self.order.remove(&(known, key.0.clone(), category));
        }
        self.order.insert((full_at, key.0.clone(), category));
        self.full_at.insert(key, full_at);
        Ok(())
    }

    /// What is left for a caller; none without a limit.
    pub fn room(&self, now: Timestamp, identity: &I, category: Category) -> Option<Room> {
        let (one, whole) = self.rates.span(category)?;
        let full_at = self.full_at.get(&(identity.clone(), category)).copied();
        let reset = full_at.map_or(Duration::ZERO, |full_at| full_at.since(now)).min(whole);
        let remaining = (whole - reset).as_micros() / one.as_micros().max(1);
        let limit = self.rates.per_minute(category);
        Some(Room { limit, remaining: u32::try_from(remaining).unwrap_or(limit), reset })
    }

    /// Buckets that are not full, as of the last call.
    pub fn len(&self) -> usize {
        self.full_at.len()
    }

    /// Whether all are full.
    pub fn is_empty(&self) -> bool {
        self.full_at.is_empty()
    }

    /// Forgets what is full again, some at a time: more than a call adds, so none is left in the end.
    fn forget_full(&mut self, now: Timestamp) {
        for _ in 0..FORGOTTEN_BY_A_CALL {
            let Some((full_at, _, _)) = self.order.first() else { return };
            if *full_at > now {
                return;
            }
            if let Some((_, identity, category)) = self.order.pop_first() {
                self.full_at.remove(&(identity, category));
            }
        }
    }
}

/// A call adds one bucket at most; with a few more the rest of a burst goes soon, and no call takes long.
const FORGOTTEN_BY_A_CALL: usize = 4;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_795_000_000);

    fn rates(per_minute: u32) -> Rates {
        Rates::default().with(Category::ReadSecrets, per_minute)
    }

    #[test]
    fn documented_rates_hold_for_each_caller_and_category_alone() {
        let mut buckets = Buckets::new(Rates::default());
        for category in Category::ALL {
            for _ in 0..category.default_per_minute() {
                assert_eq!(buckets.admit(NOW, &"one", category), Ok(()));
            }
            let wait = Duration::from_secs(60) / category.default_per_minute();
            assert_eq!(buckets.admit(NOW, &"one", category), Err(wait), "{category:?}");
            assert_eq!(buckets.admit(NOW, &"two", category), Ok(()));
            assert_eq!(buckets.admit(NOW.after(wait), &"one", category), Ok(()));
            assert!(buckets.admit(NOW.after(wait), &"one", category).is_err());
        }
    }

    #[test]
    fn room_says_what_is_left() {
        let mut buckets = Buckets::new(rates(60));
        assert_eq!(
            buckets.room(NOW, &1, Category::ReadSecrets),
            Some(Room { limit: 60, remaining: 60, reset: Duration::ZERO })
        );
        for _ in 0..45 {
            buckets.admit(NOW, &1, Category::ReadSecrets).unwrap();
        }

        assert_eq!(
            buckets.room(NOW.after(Duration::from_secs(5)), &1, Category::ReadSecrets),
            Some(Room { limit: 60, remaining: 20, reset: Duration::from_secs(40) })
        );
        assert_eq!(Buckets::new(rates(0)).room(NOW, &1, Category::ReadSecrets), None);
    }

    #[test]
    fn flood_of_callers_fills_nobody_s_empty_bucket() {
        let mut buckets = Buckets::with_slots(rates(2), 100);
        while buckets.admit(NOW, &0, Category::ReadSecrets).is_ok() {}
        let refused = (1..1_000).filter(|caller| buckets.admit(NOW, caller, Category::ReadSecrets).is_err());

        assert_eq!(refused.count(), 900);
        assert_eq!(buckets.len(), 100);
        assert_eq!(buckets.admit(NOW, &0, Category::ReadSecrets), Err(Duration::from_secs(30)));
        // The first of the others is full again after half a minute, and its slot goes to a newcomer.
        assert_eq!(buckets.admit(NOW, &1_000, Category::ReadSecrets), Err(Duration::from_secs(30)));
        assert_eq!(buckets.admit(NOW.after(Duration::from_secs(30)), &1_000, Category::ReadSecrets), Ok(()));
    }

    #[test]
    fn callers_who_are_gone_are_forgotten() {
        let mut buckets = Buckets::new(rates(2));
        for caller in 0..1_000 {
            buckets.admit(NOW, &caller, Category::ReadSecrets).unwrap();
        }
        let mut now = NOW.after(Duration::from_secs(60));
        for _ in 0..1_000 {
            now = now.after(Duration::from_secs(30));
            buckets.admit(now, &7, Category::ReadSecrets).unwrap();
        }

        assert_eq!(buckets.len(), 1);
    }

    #[test]
    fn clock_that_was_set_back_locks_nobody_out() {
        let mut buckets = Buckets::new(rates(10));
        while buckets.admit(NOW, &1, Category::ReadSecrets).is_ok() {}
        let earlier = NOW.before(Duration::from_secs(86_400));

        assert_eq!(buckets.admit(earlier, &1, Category::ReadSecrets), Err(Duration::from_secs(6)));
    }

    #[test]
    fn no_rate_at_all_is_no_limit() {
        let mut buckets = Buckets::new(rates(0));
        assert!((0..10_000).all(|_| buckets.admit(NOW, &1, Category::ReadSecrets).is_ok()));
        assert!(buckets.is_empty());

        let mut buckets = Buckets::new(rates(u32::MAX));
        assert!((0..10_000).all(|_| buckets.admit(NOW, &1, Category::ReadSecrets).is_ok()));
    }

    proptest! {
        /// Against a bucket that counts tokens.
        #[test]
        fn bucket_behaves_as_one_that_counts(
            per_minute in prop_oneof![Just(1_u32), Just(20), Just(50), Just(100), Just(1_000)],
            steps in proptest::collection::vec((0_u64..4_000, 0_u8..3), 1..300),
        ) {
            let mut buckets = Buckets::new(rates(per_minute));
            let mut counted = BTreeMap::new();
            let mut now = NOW;
            for (millis, caller) in steps {
                now = now.after(Duration::from_millis(millis));
                // In tokens times a minute of microseconds, which is exact.
                let whole = u128::from(per_minute) * 60_000_000;
                let (level, at) = counted.get(&caller).copied().unwrap_or((whole, now));
                let level = whole.min(level + now.since(at).as_micros() * u128::from(per_minute));
                let may = level >= 60_000_000;

                prop_assert_eq!(buckets.admit(now, &caller, Category::ReadSecrets).is_ok(), may);
                counted.insert(caller, (if may { level - 60_000_000 } else { level }, now));
            }
        }

        #[test]
        fn wait_that_is_told_suffices_and_is_needed(
            per_minute in 1_u32..2_000,
            steps in proptest::collection::vec(0_u64..500, 1..100),
        ) {
            let (mut buckets, mut now) = (Buckets::new(rates(per_minute)), NOW);
            for millis in steps {
                now = now.after(Duration::from_millis(millis));
                if let Err(wait) = buckets.admit(now, &1, Category::ReadSecrets) {
                    prop_assert!(!wait.is_zero() && wait <= Duration::from_secs(60));
                    prop_assert!(buckets.clone().admit(now.after(wait - Duration::from_micros(1)), &1, Category::ReadSecrets).is_err());
                    now = now.after(wait);
                    prop_assert!(buckets.admit(now, &1, Category::ReadSecrets).is_ok());
                }
            }
        }
    }
}
