//! Which reads share one call to a backend.
//!
//! A read may share only a call that was not yet sent when it arrived: one that is on its way might bring a
//! value from before. So there is at most one call on its way and one waiting for each key, and a caller is
//! never answered with anything older than its own question.

use std::collections::BTreeMap;

/// The calls of one backend and who waits for them. Memory is in proportion to who waits.
#[derive(Debug)]
pub struct Coalesce<K, W> {
    calls: BTreeMap<K, Calls<W>>,
    waiters: usize,
}

#[derive(Debug)]
struct Calls<W> {
    /// Wait for the call on its way.
    sent: Vec<W>,
    /// Wait for the next one.
    next: Vec<W>,
}

/// What to do about a read that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Join {
    /// Send a call now; it waits for that.
    Start,
    /// Nothing: it waits for the call after the one on its way.
    Wait,
}

/// A call that ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended<W> {
    /// Who waited for it, in the order of their arrival.
    pub waiters: Vec<W>,
    /// Whether the call that waited is to be sent now.
    pub starts: bool,
}

impl<K, W> Default for Coalesce<K, W> {
    fn default() -> Self {
        Self { calls: BTreeMap::new(), waiters: 0 }
    }
}

impl<K: Ord, W> Coalesce<K, W> {
    /// Takes in a read.
    pub fn join(&mut self, key: K, waiter: W) -> Join {
        self.waiters += 1;
        match self.calls.get_mut(&key) {
            Some(calls) => {
                calls.next.push(waiter);
                Join::Wait
            }
            None => {
                self.calls.insert(key, Calls { sent: vec![waiter], next: Vec::new() });
                Join::Start
            }
        }
    }

    /// Takes down that the call on its way has ended, however. When the next one starts, it is on its way
    /// from here on. For a key without a call there is nobody.
    pub fn finished(&mut self, key: &K) -> Ended<W> {
        let Some(calls) = self.calls.get_mut(key) else {
            return Ended { waiters: Vec::new(), starts: false };
        };
        let next = std::mem::take(&mut calls.next);
        let waiters = std::mem::replace(&mut calls.sent, next);
        let starts = !calls.sent.is_empty();
        if !starts {
            self.calls.remove(key);
        }
        self.waiters -= waiters.len();
        Ended { waiters, starts }
    }

    /// Drops those of a key who wait no longer, and says how many. A call that nobody waits for any more is
    /// not sent; one on its way is still to be [`finished`](Self::finished).
    pub fn cancel(&mut self, key: &K, is_gone: impl Fn(&W) -> bool) -> usize {
        let Some(calls) = self.calls.get_mut(key) else { return 0 };
        let before = calls.sent.len() + calls.next.len();
        calls.sent.retain(|waiter| !is_gone(waiter));
        calls.next.retain(|waiter| !is_gone(waiter));
        let gone = before - calls.sent.len() - calls.next.len();
        self.waiters -= gone;
        gone
    }

    /// Drops everybody who waits no longer, whatever for.
    pub fn cancel_all(&mut self, is_gone: impl Fn(&W) -> bool) -> usize {
        let before = self.waiters;
        self.waiters = 0;
        for calls in self.calls.values_mut() {
            calls.sent.retain(|waiter| !is_gone(waiter));
            calls.next.retain(|waiter| !is_gone(waiter));
            self.waiters += calls.sent.len() + calls.next.len();
        }
        before - self.waiters
    }

    /// How many wait.
    pub const fn len(&self) -> usize {
        self.waiters
    }

    /// Whether nobody waits. A call may still be on its way.
    pub const fn is_empty(&self) -> bool {
        self.waiters == 0
    }

    /// Calls on their way.
    pub fn calls(&self) -> usize {
        self.calls.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn read_shares_only_a_call_that_was_not_yet_sent() {
        let mut reads = Coalesce::default();

        assert_eq!(reads.join("a", 1), Join::Start);
        assert_eq!(reads.join("a", 2), Join::Wait);
        assert_eq!(reads.join("a", 3), Join::Wait);
        assert_eq!(reads.join("b", 4), Join::Start);
        assert_eq!((reads.len(), reads.calls()), (4, 2));

        assert_eq!(reads.finished(&"a"), Ended { waiters: vec![1], starts: true });
        assert_eq!(reads.join("a", 5), Join::Wait);
        assert_eq!(reads.finished(&"a"), Ended { waiters: vec![2, 3], starts: true });
        assert_eq!(reads.finished(&"a"), Ended { waiters: vec![5], starts: false });
        assert_eq!(reads.finished(&"a"), Ended { waiters: vec![], starts: false });
        assert_eq!((reads.len(), reads.calls()), (1, 1));
    }

    #[test]
    fn call_that_nobody_waits_for_any_more_is_not_sent() {
        let mut reads = Coalesce::default();
        for waiter in 1..=4 {
            reads.join("a", waiter);
        }

        assert_eq!(reads.cancel(&"a", |waiter| *waiter == 3), 1);
        assert_eq!(reads.cancel_all(|waiter| *waiter != 1), 2);
        assert_eq!(reads.cancel(&"b", |_| true), 0);

        assert_eq!(reads.len(), 1);
        assert_eq!(reads.finished(&"a"), Ended { waiters: vec![1], starts: false });
        assert_eq!((reads.is_empty(), reads.calls()), (true, 0));
    }

    #[test]
    fn call_on_its_way_stays_the_only_one_when_its_waiter_is_gone() {
        let mut reads = Coalesce::default();
        reads.join("a", 1);
        reads.cancel(&"a", |_| true);

        assert_eq!((reads.join("a", 2), reads.calls()), (Join::Wait, 1));
        assert_eq!(reads.finished(&"a"), Ended { waiters: vec![], starts: true });
        assert_eq!(reads.finished(&"a"), Ended { waiters: vec![2], starts: false });
    }

    #[derive(Debug, Clone)]
    enum Step {
        Join(u8),
        Finish(u8),
        Cancel(u8, u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0_u8..3).prop_map(Step::Join),
            (0_u8..3).prop_map(Step::Finish),
            (0_u8..3, 0_u32..60).prop_map(|(key, waiter)| Step::Cancel(key, waiter)),
        ]
    }

    proptest! {
        /// Against a clock of calls: everybody is answered once, by a call that was sent after they came.
        #[test]
        fn nobody_gets_an_answer_from_before_their_question(steps in proptest::collection::vec(step(), 1..80)) {
            let (mut reads, mut arrived, mut sent) = (Coalesce::default(), BTreeMap::new(), BTreeMap::new());
            let mut answered = Vec::new();
            for (now, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Join(key) => {
                        let waiter = u32::try_from(arrived.len()).unwrap();
                        arrived.insert(waiter, now);
                        match reads.join(key, waiter) {
                            Join::Start => prop_assert!(sent.insert(key, now).is_none(), "two on their way"),
                            Join::Wait => prop_assert!(sent.contains_key(&key)),
                        }
                    }
                    Step::Finish(key) => {
                        let ended = reads.finished(&key);
                        let begun = sent.remove(&key);
                        for waiter in ended.waiters {
                            prop_assert!(begun.is_some_and(|begun| begun >= arrived[&waiter]));
                            answered.push(waiter);
                        }
                        if ended.starts {
                            sent.insert(key, now);
                        }
                    }
                    Step::Cancel(key, waiter) => {
                        if reads.cancel(&key, |other| *other == waiter) == 1 {
                            answered.push(waiter);
                        }
                    }
                }
                prop_assert_eq!(reads.len(), arrived.len() - answered.len());
                prop_assert_eq!(reads.calls(), sent.len());
            }
            while let Some((key, _)) = sent.pop_first() {
                while { let ended = reads.finished(&key); answered.extend(ended.waiters); ended.starts } {}
            }
            answered.sort_unstable();
            prop_assert_eq!(answered, arrived.into_keys().collect::<Vec<_>>());
        }
    }
}
