//! What a site still has to be told, in order: which pushes are due, which are out, which failed.
//!
//! Desired state, not a log: one delivery per key, and a newer version takes the place of an older one
//! that nobody has taken yet. The content is made when it is sent. Over a link a delivery is out until the
//! site answers or the link is lost; over HTTP one is tried at a time, with the waits of contract 3.5.

use std::collections::BTreeMap;

use crate::Timestamp;
use crate::id::{CommandId, LeaseId, PolicyId};
use crate::limits::{push as limits, sync as sync_limits};
use crate::machine::link::entry_wait;

/// What a delivery is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PushKey {
    /// A command and, later, its cancellation: the newest word on it counts.
    Command(CommandId),
    /// A policy's present version, or its withdrawal.
    Policy(PolicyId),
    /// A credential.
    Lease(LeaseId),
}

/// A delivery on its way: which key, and which of its versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// What it is about.
    pub key: PushKey,
    /// The caller's version of it: what an answer settles.
    pub version: u64,
    /// Number of the push on the link.
    pub push: u64,
}

#[derive(Debug, Clone)]
struct Wanted {
    version: u64,
    /// Place in the line; kept when a newer version comes.
    order: u64,
    /// Tries that failed for whatever reason; for the wait.
    failures: u32,
    /// Tries that the site refused for good; for the death.
    refusals: u32,
    tried_at: Option<Timestamp>,
    out: Option<(u64, u64)>,
    /// Some version of it has left, so the site may know of it.
    sent: bool,
}

/// The deliveries of one site.
#[derive(Debug, Clone, Default)]
pub struct Deliveries {
    wanted: BTreeMap<PushKey, Wanted>,
    line: BTreeMap<u64, PushKey>,
    out: BTreeMap<u64, PushKey>,
    next_order: u64,
    next_push: u64,
}

impl Deliveries {
    /// Asks for a delivery. A version that is already asked for or out changes nothing; `refusals` and
    /// `tried_at` are those that are on disk.
    pub fn want(&mut self, key: PushKey, version: u64, refusals: u32, tried_at: Option<Timestamp>) {
        if let Some(wanted) = self.wanted.get_mut(&key) {
            if wanted.version != version {
                *wanted = Wanted { version, failures: refusals, refusals, tried_at, ..wanted.clone() };
            }
            return;
        }
        self.next_order += 1;
        let order = self.next_order;
        self.line.insert(order, key);
        self.wanted.insert(
            key,
            Wanted { version, order, failures: refusals, refusals, tried_at, out: None, sent: false },
        );
    }

    /// Whether the site may know of a delivery: some version of it has left, or may have left before this
    /// start of the node.
    pub fn was_sent(&self, key: PushKey) -> bool {
        self.wanted.get(&key).is_some_and(|wanted| wanted.sent)
    }

    /// Says that a delivery may have left before this start of the node.
    pub fn may_have_been_sent(&mut self, key: PushKey) {
        if let Some(wanted) = self.wanted.get_mut(&key) {
            wanted.sent = true;
        }
    }

    /// Drops a delivery: it has been taken, or is not wanted any more.
    pub fn forget(&mut self, key: PushKey) {
        if let Some(wanted) = self.wanted.remove(&key) {
            self.line.remove(&wanted.order);
            if let Some((push, _)) = wanted.out {
                self.out.remove(&push);
            }
        }
    }

    /// Drops a delivery that has been taken, unless a newer version is wanted by now.
    pub fn forget_version(&mut self, key: PushKey, version: u64) {
        if self.wanted.get(&key).is_some_and(|wanted| wanted.version == version) {
            self.forget(key);
        }
    }

    /// Deliveries that wait or are out.
    pub fn len(&self) -> usize {
        self.wanted.len()
    }

    /// Whether the site has been told everything.
    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    /// The next delivery for a live link; none while enough are out. It is out from now on.
    pub fn next_for_link(&mut self) -> Option<Delivery> {
        if self.out.len() >= limits::OUT_MAX {
            return None;
        }
        let key = *self.line.values().find(|key| {
            self.wanted
                .get(key)
                .is_some_and(|wanted| wanted.out.is_none_or(|(_, sent)| sent != wanted.version))
        })?;
        Some(self.send(key))
    }

    /// The next delivery for an HTTP peer: the oldest that is not out and past its wait. `jitter` is uniform
    /// over all of `u64`.
    pub fn next_for_http(&mut self, now: Timestamp, jitter: u64) -> Option<Delivery> {
        let key = *self.line.values().find(|key| {
            self.wanted.get(key).is_some_and(|wanted| {
                wanted.out.is_none()
                    && wanted
                        .tried_at
                        .is_none_or(|tried| tried.after(entry_wait(wanted.failures, jitter)) <= now)
            })
        })?;
        Some(self.send(key))
    }

    fn send(&mut self, key: PushKey) -> Delivery {
        self.next_push += 1;
        let push = self.next_push;
        let wanted = self.wanted.get_mut(&key).expect("the line names only wanted keys");
        wanted.sent = true;
        if let Some((older, _)) = wanted.out.replace((push, wanted.version)) {
            self.out.remove(&older);
        }
        self.out.insert(push, key);
        Delivery { key, version: wanted.version, push }
    }

    /// The site has taken a push. Answers which delivery that settles; none for a late answer to a push that
    /// was overtaken by a newer version, which stays out or due.
    pub fn taken(&mut self, push: u64) -> Option<Delivery> {
        let key = self.out.remove(&push)?;
        let wanted = self.wanted.get_mut(&key)?;
        let (_, version) = wanted.out.take()?;
        (version == wanted.version).then_some(Delivery { key, version, push })
    }

    /// The link is gone: whatever was out is due again.
    pub fn link_lost(&mut self) {
        self.out.clear();
        for wanted in self.wanted.values_mut() {
            wanted.out = None;
        }
    }

    /// A try failed. `permanent` counts towards the death of the delivery; an outage only waits (contract
    /// 13.1). Answers the refusals so far, and whether the delivery is dead: then it is dropped here,
    /// and the caller says so where people look.
    pub fn failed(&mut self, push: u64, now: Timestamp, permanent: bool) -> Option<Failed> {
        let key = self.out.remove(&push)?;
        let wanted = self.wanted.get_mut(&key)?;
        let (_, version) = wanted.out.take()?;
        wanted.tried_at = Some(now);
        wanted.failures += 1;
        wanted.refusals += u32::from(permanent);
        let refusals = wanted.refusals;
        let dead = refusals >= sync_limits::ATTEMPTS_MAX;
        if dead && version == wanted.version {
            self.forget(key);
        }
        Some(Failed { delivery: Delivery { key, version, push }, refusals, dead })
    }
}

/// What a failed try did to its delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed {
    /// The delivery.
    pub delivery: Delivery,
    /// Refusals for good so far.
    pub refusals: u32,
    /// No further try.
    pub dead: bool,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn key(number: u128) -> PushKey {
        PushKey::Policy(PolicyId(uuid::Uuid::from_u128(number)))
    }

    #[test]
    fn deliveries_go_out_in_the_order_in_which_they_were_first_wanted() {
        let mut deliveries = Deliveries::default();
        deliveries.want(key(2), 1, 0, None);
        deliveries.want(key(1), 1, 0, None);
        deliveries.want(key(2), 2, 0, None);

        let sent: Vec<_> = std::iter::from_fn(|| deliveries.next_for_link()).collect();

        assert_eq!(
            sent.iter().map(|sent| (sent.key, sent.version)).collect::<Vec<_>>(),
            [(key(2), 2), (key(1), 1)]
        );
    }

    #[test]
    fn answer_to_an_overtaken_version_settles_nothing() {
        let mut deliveries = Deliveries::default();
        deliveries.want(key(1), 1, 0, None);
        let first = deliveries.next_for_link().unwrap();
        deliveries.want(key(1), 2, 0, None);

        assert_eq!(deliveries.taken(first.push), None);
        let second = deliveries.next_for_link().unwrap();
        assert_eq!(deliveries.taken(second.push), Some(second));
        assert_eq!(second.version, 2);
    }

    #[test]
    fn lost_link_makes_everything_due_again() {
        let mut deliveries = Deliveries::default();
        deliveries.want(key(1), 1, 0, None);
        let lost = deliveries.next_for_link().unwrap();
        assert_eq!(deliveries.next_for_link(), None);

        deliveries.link_lost();

        assert_eq!(deliveries.taken(lost.push), None);
        assert!(deliveries.next_for_link().is_some());
    }

    #[test]
    fn outage_never_kills_and_permanent_refusals_do_at_the_limit() {
        let mut deliveries = Deliveries::default();
        deliveries.want(key(1), 1, 0, None);
        let mut now = Timestamp::from_secs(0);
        for _ in 0..100 {
            now = now.after(Duration::from_secs(1_500));
            let sent = deliveries.next_for_http(now, 0).unwrap();
            assert!(!deliveries.failed(sent.push, now, false).unwrap().dead);
        }
        let mut dead = false;
        for _ in 0..sync_limits::ATTEMPTS_MAX {
            now = now.after(Duration::from_secs(1_500));
            let Some(sent) = deliveries.next_for_http(now, 0) else { break };
            dead = deliveries.failed(sent.push, now, true).unwrap().dead;
        }
        assert!(dead && deliveries.is_empty());
    }

    #[test]
    fn failed_try_waits_as_the_contract_says() {
        let mut deliveries = Deliveries::default();
        deliveries.want(key(1), 1, 0, None);
        let now = Timestamp::from_secs(100);
        let sent = deliveries.next_for_http(now, 0).unwrap();
        deliveries.failed(sent.push, now, false);

        assert_eq!(deliveries.next_for_http(now.after(Duration::from_secs(7)), 0), None);
        assert!(deliveries.next_for_http(now.after(Duration::from_secs(8)), 0).is_some());
    }

    proptest! {
        /// Whatever happens, the newest wanted version of each key is in the end delivered, and only it.
        #[test]
        fn newest_version_is_delivered_once_the_link_holds(steps in prop::collection::vec((0_u8..5, 0_u128..3), 0..60)) {
            let mut deliveries = Deliveries::default();
            let mut newest = BTreeMap::new();
            let mut held = BTreeMap::new();
            let mut out = Vec::new();
            for (step, name) in steps {
                match step {
                    0 | 1 => {
                        let version = newest.get(&key(name)).map_or(1, |version| version + 1);
                        newest.insert(key(name), version);
                        deliveries.want(key(name), version, 0, None);
                    }
                    2 => out.extend(deliveries.next_for_link()),
                    3 => if let Some(sent) = out.pop() {
                        held.entry(sent.key).and_modify(|held: &mut u64| *held = (*held).max(sent.version)).or_insert(sent.version);
                        if let Some(settled) = deliveries.taken(sent.push) { deliveries.forget(settled.key); }
                    },
                    _ => { deliveries.link_lost(); out.clear(); }
                }
            }
            deliveries.link_lost();
            while let Some(sent) = deliveries.next_for_link() {
                held.insert(sent.key, sent.version);
                let settled = deliveries.taken(sent.push).unwrap();
                deliveries.forget(settled.key);
            }
            prop_assert_eq!(held, newest);
            prop_assert!(deliveries.is_empty());
        }
    }
}
