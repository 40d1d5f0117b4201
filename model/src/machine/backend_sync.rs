//! What a sync of a secret backend decides: what to fetch, what a fetched value means beside the one that is
//! here, when a copy counts as gone, and when to try again (contract B.2, C.3).
//!
//! Values never come here, only their fingerprints: keyed, so that equal ones compare equal and tell nothing.
//! The rule behind all of it: what somebody wrote here is never overwritten and never deleted.

use std::time::Duration;

use crate::Timestamp;
use crate::limits::secrets as limits;
use crate::machine::breaker::part;
use crate::machine::link::exponential;
use crate::secrets::row::ConflictKind;
use crate::secrets::value::Mark;

/// A keyed fingerprint of a value.
pub type Fingerprint = [u8; 16];

/// Whether a name's value is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// It is new, or changed, or nothing tells.
    Fetch,
    /// It is the value that was fetched before.
    Skip,
}

/// Compares what a copy knows of its original with what a listing tells. Only two marks that are there and
/// equal save a fetch.
pub fn plan(copy: Option<&Mark>, listed: Option<&Mark>) -> Plan {
    if copy.is_some() && copy == listed { Plan::Skip } else { Plan::Fetch }
}

/// What is here under the path of a fetched value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Local {
    /// The newest version's value; none when it is not kept.
    pub current: Option<Fingerprint>,
    /// The value of the version that both sides last had in common; none when it is not kept, or there is none.
    pub common: Option<Fingerprint>,
    /// It is a copy of this very backend.
    pub is_copy: bool,
    /// A newer version than the common one was written here.
    pub edited: bool,
    /// It was deleted here: nothing is served.
    pub deleted: bool,
}

/// What a fetched value means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// It becomes the next version here; the first one, if there is none.
    NewVersion,
    /// Both sides are equal: no version is made. What was no copy is one from now on.
    Same,
    /// They differ, and the local value stays.
    Conflict(ConflictKind),
}

/// Judges a fetched value beside what is here; none when nothing ever was.
///
/// A copy that was deleted and comes back continues its numbers. A local secret that was deleted serves
/// nothing, so it holds nothing back.
pub fn judge_value(local: Option<&Local>, remote: &Fingerprint) -> Judgement {
    let Some(local) = local.filter(|local| !local.deleted) else { return Judgement::NewVersion };
    let equals = |side: Option<Fingerprint>| side.as_ref() == Some(remote);
    if equals(local.current) {
        return Judgement::Same;
    }
    match (local.is_copy, local.edited) {
        (true, false) => Judgement::NewVersion,
        (true, true) if !equals(local.common) => Judgement::Conflict(ConflictKind::BothChanged),
        (true, true) | (false, _) => Judgement::Conflict(ConflictKind::LocalExists),
    }
}

/// Whether a copy counts as gone after this many complete listings in a row that did not name it. A direct
/// read must say so too, before [`judge_gone`] is asked.
pub const fn is_gone(absences: u8) -> bool {
    absences >= limits::ABSENCES_MIN
}

/// What becomes of a copy whose original is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// It is deleted; its versions are kept for a while.
    Delete,
    /// It was changed here, and stays.
    Conflict(ConflictKind),
}

/// Judges a copy whose original is gone.
pub const fn judge_gone(edited: bool) -> Gone {
    if edited { Gone::Conflict(ConflictKind::LocalEditRemoteDeleted) } else { Gone::Delete }
}

/// Whether so many deletions are left to a person: more than ten, and more than a fifth of the copies. A
/// permission to list that was taken away looks like an empty vault.
pub const fn guards(gone: u64, copies: u64) -> bool {
    gone > limits::GUARDED_DELETIONS_MIN && gone.saturating_mul(limits::GUARDED_DELETIONS_SHARE) > copies
}

/// When the next run is due. After `failures` failed or partial runs in a row it is soon, then ever later, and
/// never later than the interval; `jitter` in 0..1 takes off up to a quarter then.
pub fn next_run(now: Timestamp, interval: Duration, failures: u32, jitter: f64) -> Timestamp {
    if failures == 0 {
        return now.after(interval);
    }
    let wait = exponential(limits::SYNC_RETRY_FIRST, limits::SYNC_RETRY_MAX, failures).min(interval);
    now.after(wait - part(wait / 4, jitter))
}

/// When the first run after a start of the node is due: at once for a backend that was never synced, else
/// somewhere in the interval, so that a hundred backends do not run together. `jitter` is in 0..1.
pub fn first_run(now: Timestamp, interval: Duration, was_synced: bool, jitter: f64) -> Timestamp {
    if was_synced { now.after(part(interval, jitter)) } else { now }
}

/// Whether copies are older than they may be without a warning: twice the interval since the last complete
/// run began. Of a backend that was never synced completely there are none that could be.
pub fn is_stale(now: Timestamp, interval: Duration, completed_run_begun: Option<Timestamp>) -> bool {
    completed_run_begun.is_some_and(|begun| now.since(begun) > interval * 2)
}

/// How the last probe of a backend ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection {
    /// There was none.
    Unknown,
    /// It answered, and took our login.
    Connected,
    /// It did not answer, or with what cannot be used.
    Disconnected,
    /// It refused our login.
    AuthFailed,
}

impl Connection {
    /// The spelling in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
            Self::AuthFailed => "auth_failed",
        }
    }
}

/// What [`health`] looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// The last probe.
    pub connection: Connection,
    /// It throttles us.
    pub throttled: bool,
    /// Failed or partial syncs in a row; zero for a proxied backend.
    pub sync_failures: u32,
    /// A sync waits for somebody to confirm its deletions.
    pub guarded: bool,
    /// Conflicts that are open.
    pub conflicts: u64,
    /// See [`is_stale`].
    pub stale: bool,
}

/// A backend's state in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// It answers, and its copies are what they should be.
    Healthy,
    /// It answers, and something about it wants attention.
    Degraded,
    /// It does not answer, or refuses us.
    Unhealthy,
    /// It was never asked.
    Unknown,
}

impl Health {
    /// The spelling in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
            Self::Unknown => "unknown",
        }
    }
}

/// Why a backend is not healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Complaint {
    /// It does not answer.
    Unreachable,
    /// It refuses our login.
    LoginRefused,
    /// It throttles us.
    Throttled,
    /// The last sync failed or was partial.
    SyncFailed,
    /// A sync would have deleted too much, and waits.
    DeletionsHeld,
    /// Conflicts are open.
    Conflicts,
    /// The copies are older than twice the interval.
    Stale,
}

impl Complaint {
    /// In words, for an operator.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "the backend does not answer",
            Self::LoginRefused => "the backend refuses our credentials",
            Self::Throttled => "the backend is throttling",
            Self::SyncFailed => "the last sync failed or was partial",
            Self::DeletionsHeld => {
                "a sync would delete too many copies: sync with confirm_deletions if that is right"
            }
            Self::Conflicts => "there are open conflicts",
            Self::Stale => "the copies are older than twice the interval",
        }
    }
}

/// How a backend does, and all that is to be said against it.
pub fn health(condition: &Condition) -> (Health, Vec<Complaint>) {
    let complaints: Vec<Complaint> = [
        (condition.connection == Connection::Disconnected, Complaint::Unreachable),
        (condition.connection == Connection::AuthFailed, Complaint::LoginRefused),
        (condition.throttled, Complaint::Throttled),
        (condition.sync_failures > 0, Complaint::SyncFailed),
        (condition.guarded, Complaint::DeletionsHeld),
        (condition.conflicts > 0, Complaint::Conflicts),
        (condition.stale, Complaint::Stale),
    ]
    .into_iter()
    .filter_map(|(holds, complaint)| holds.then_some(complaint))
    .collect();
    let health = match condition.connection {
        Connection::Unknown => Health::Unknown,
        Connection::Disconnected | Connection::AuthFailed => Health::Unhealthy,
        Connection::Connected if complaints.is_empty() => Health::Healthy,
        Connection::Connected => Health::Degraded,
    };
    (health, complaints)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_795_000_000);
    const HOUR: Duration = Duration::from_secs(3_600);

    fn print(value: u8) -> Fingerprint {
        [value; 16]
    }

    fn copy(current: u8, common: u8) -> Local {
        Local {
            current: Some(print(current)),
            common: Some(print(common)),
            is_copy: true,
            edited: current != common,
            deleted: false,
        }
    }

    #[test]
    fn only_equal_marks_save_a_fetch() {
        let (one, two) = (Mark("1".into()), Mark("2".into()));
        for (copy, listed, expected) in [
            (Some(&one), Some(&one), Plan::Skip),
            (Some(&one), Some(&two), Plan::Fetch),
            (Some(&one), None, Plan::Fetch),
            (None, Some(&one), Plan::Fetch),
            (None, None, Plan::Fetch),
        ] {
            assert_eq!(plan(copy, listed), expected);
        }
    }

    #[test]
    fn fetched_value_is_judged_beside_what_is_here() {
        let written = Local { current: Some(print(1)), ..Local::default() };
        let pruned = Local { common: None, ..copy(2, 1) };
        for (case, local, remote, expected) in [
            ("nothing here", None, 1, Judgement::NewVersion),
            ("copy, unchanged", Some(copy(1, 1)), 1, Judgement::Same),
            ("copy, remote changed", Some(copy(1, 1)), 2, Judgement::NewVersion),
            ("written here, equal", Some(written), 1, Judgement::Same),
            ("written here, other", Some(written), 2, Judgement::Conflict(ConflictKind::LocalExists)),
            ("edited here, remote follows", Some(copy(2, 1)), 2, Judgement::Same),
            (
                "edited here, remote as before",
                Some(copy(2, 1)),
                1,
                Judgement::Conflict(ConflictKind::LocalExists),
            ),
            ("both changed", Some(copy(2, 1)), 3, Judgement::Conflict(ConflictKind::BothChanged)),
            ("common version pruned", Some(pruned), 3, Judgement::Conflict(ConflictKind::BothChanged)),
            ("copy that comes back", Some(Local { deleted: true, ..copy(1, 1) }), 1, Judgement::NewVersion),
            ("value not kept", Some(Local { current: None, ..copy(1, 1) }), 1, Judgement::NewVersion),
        ] {
            assert_eq!(judge_value(local.as_ref(), &print(remote)), expected, "{case}");
        }
    }

    #[test]
    fn deletions_are_held_when_they_are_many_in_number_and_in_share() {
        for (gone, copies, held) in [
            (0, 0, false),
            (10, 10, false),
            (11, 11, true),
            (11, 54, true),
            (11, 55, false),
            (20, 100, false),
            (21, 100, true),
            (u64::MAX, 1, true),
        ] {
            assert_eq!(guards(gone, copies), held, "{gone} of {copies}");
        }
        assert_eq!(judge_gone(false), Gone::Delete);
        assert_eq!(judge_gone(true), Gone::Conflict(ConflictKind::LocalEditRemoteDeleted));
    }

    #[test]
    fn failed_runs_are_repeated_soon_then_later_and_within_the_interval() {
        let wait =
            |interval, failures, jitter| next_run(NOW, interval, failures, jitter).since(NOW).as_secs();

        let waits: Vec<u64> = (0..8).map(|failures| wait(HOUR, failures, 0.0)).collect();
        assert_eq!(waits, [3_600, 30, 60, 120, 240, 480, 900, 900]);
        assert_eq!(wait(Duration::from_secs(60), 7, 0.0), 60);
        assert_eq!((wait(HOUR, 7, 1.0), wait(HOUR, 0, 1.0)), (675, 3_600));
    }

    #[test]
    fn first_runs_are_spread_over_the_interval() {
        assert_eq!(first_run(NOW, HOUR, false, 0.9), NOW);
        assert_eq!(first_run(NOW, HOUR, true, 0.5), NOW.after(HOUR / 2));
        assert!(!is_stale(NOW, HOUR, None) && !is_stale(NOW, HOUR, Some(NOW.before(HOUR * 2))));
        assert!(is_stale(NOW, HOUR, Some(NOW.before(HOUR * 2 + Duration::from_secs(1)))));
    }

    #[test]
    fn health_says_what_is_wrong() {
        let well = Condition {
            connection: Connection::Connected,
            throttled: false,
            sync_failures: 0,
            guarded: false,
            conflicts: 0,
            stale: false,
        };
        for (condition, health_, complaints) in [
            (well, Health::Healthy, vec![]),
            (Condition { throttled: true, ..well }, Health::Degraded, vec![Complaint::Throttled]),
            (
                Condition { sync_failures: 1, guarded: true, ..well },
                Health::Degraded,
                vec![Complaint::SyncFailed, Complaint::DeletionsHeld],
            ),
            (
                Condition { conflicts: 1, stale: true, ..well },
                Health::Degraded,
                vec![Complaint::Conflicts, Complaint::Stale],
            ),
            (
                Condition { connection: Connection::Disconnected, ..well },
                Health::Unhealthy,
                vec![Complaint::Unreachable],
            ),
            (
                Condition { connection: Connection::AuthFailed, ..well },
                Health::Unhealthy,
                vec![Complaint::LoginRefused],
            ),
            (Condition { connection: Connection::Unknown, ..well }, Health::Unknown, vec![]),
        ] {
            assert_eq!(health(&condition), (health_, complaints));
        }
    }

    /// One path of the model: what the backend holds, whether its list shows it, and what is here.
    #[derive(Debug, Clone, Default)]
    struct Path {
        remote: Option<(u8, u32)>,
        here: Option<u8>,
        edited: bool,
        copy: Option<Copy>,
    }

    #[derive(Debug, Clone)]
    struct Copy {
        mark: Mark,
        common: u8,
        absent: u8,
    }

    #[derive(Debug, Clone)]
    enum Step {
        Remote(u8, Option<u8>),
        Local(u8, u8),
        /// A run whose listing leaves out this path, as a list that lags does.
        Run(Option<u8>),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            2 => (0_u8..3, proptest::option::weighted(0.7, 0_u8..4)).prop_map(|(path, value)| Step::Remote(path, value)),
            1 => (0_u8..3, 0_u8..4).prop_map(|(path, value)| Step::Local(path, value)),
            4 => proptest::option::weighted(0.4, 0_u8..3).prop_map(Step::Run),
        ]
    }

    /// One complete run over one path; answers whether it is in conflict.
    fn run(path: &mut Path, listed: bool) -> bool {
        let remote = path.remote.map(|(value, version)| (value, Mark(version.to_string())));
        if let (true, Some((value, mark))) = (listed, remote.clone()) {
            if let Some(copy) = &mut path.copy {
                copy.absent = 0;
            }
            if plan(path.copy.as_ref().map(|copy| &copy.mark), Some(&mark)) == Plan::Skip {
                return path.here != Some(value);
            }
            let local = (path.here.is_some() || path.copy.is_some()).then(|| Local {
                current: path.here.map(print),
                common: path.copy.as_ref().map(|copy| print(copy.common)),
                is_copy: path.copy.is_some(),
                edited: path.edited,
                deleted: path.here.is_none(),
            });
            match judge_value(local.as_ref(), &print(value)) {
                Judgement::Conflict(_) => return true,
                Judgement::NewVersion | Judgement::Same => {
                    (path.here, path.edited) = (Some(value), false);
                    path.copy = Some(Copy { mark, common: value, absent: 0 });
                }
            }
            return false;
        }
        let Some(copy) = path.copy.as_mut().filter(|_| path.here.is_some()) else { return false };
        copy.absent = copy.absent.saturating_add(1);
        if is_gone(copy.absent) && remote.is_none() {
            match judge_gone(path.edited) {
                Gone::Delete => path.here = None,
                Gone::Conflict(_) => return true,
            }
        }
        false
    }

    proptest! {
        #[test]
        fn runs_never_lose_what_was_written_here_and_agree_in_the_end(steps in proptest::collection::vec(step(), 1..60)) {
            let mut paths: BTreeMap<u8, Path> = (0..3).map(|path| (path, Path::default())).collect();
            let mut version = 0;
            for step in steps {
                match step {
                    Step::Remote(path, value) => {
                        version += 1;
                        paths.get_mut(&path).unwrap().remote = value.map(|value| (value, version));
                    }
                    Step::Local(path, value) => {
                        let path = paths.get_mut(&path).unwrap();
                        if path.here != Some(value) {
                            (path.here, path.edited) = (Some(value), true);
                        }
                    }
                    Step::Run(hidden) => for (number, path) in &mut paths {
                        let before = path.clone();
                        run(path, hidden != Some(*number));
                        if before.edited && path.here != before.here {
                            prop_assert!(false, "a local value was overwritten: {before:?} {path:?}");
                        }
                        if before.here.is_some() && path.here.is_none() {
                            prop_assert!(before.remote.is_none(), "deleted although it is there");
                        }
                    },
                }
            }
            for path in paths.values_mut() {
                let conflicts: Vec<bool> = (0..3).map(|_| run(path, true)).collect();
                let equal = path.here == path.remote.map(|(value, _)| value);
                let written_here_alone = path.copy.is_none() && path.remote.is_none();
                prop_assert!(equal || conflicts[2] || written_here_alone, "{path:?}");
            }
        }
    }
}
