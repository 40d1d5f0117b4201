//! A rollout: one version of a held policy, released to its sites wave by wave.
//!
//! A wave goes out when all of the one before are done. Failed sites, or a wave that takes too long, halt it
//! until a person resumes or aborts.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::audit::Detail;
use crate::id::{PolicyId, RolloutId};
use crate::limits::policy as limits;
use crate::machine::registry::Entry;
use crate::policy::{Assignment, PushStatus, Rollout, RolloutState, WaitFor, WaveSize};
use crate::site::SiteStatus;
use crate::{SiteId, Timestamp};

/// How an operator wants a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staging {
    /// Sizes of the first waves; the rest of the sites is the last one.
    pub waves: Vec<WaveSize>,
    /// Failed sites at which it halts.
    pub halt_on_errors: u32,
    /// Seconds that a wave may take.
    pub wave_timeout_seconds: u32,
    /// See [`WaitFor`].
    pub wait_for: WaitFor,
}

/// A wish that no rollout can fulfil.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidStaging {
    /// No wave, or too many.
    #[error("waves must name 1 to {} sizes", limits::WAVES_MAX)]
    Waves,
    /// Never or at nothing.
    #[error("halt_on_errors must be at least 1")]
    HaltOnErrors,
    /// Too short or too long.
    #[error("wave_timeout_seconds must be from 1 to {}", limits::WAVE_TIMEOUT_SECONDS_MAX)]
    WaveTimeout,
}

/// A rollout that is not in the state for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the rollout is {}: {needs}", state.as_str())]
pub struct WrongState {
    /// The state it is in.
    pub state: RolloutState,
    /// What the operation needs instead.
    pub needs: &'static str,
}

/// A rollout's row after a change.
#[derive(Debug, Clone, PartialEq)]
pub struct RolloutDecision {
    /// The row after it.
    pub rollout: Rollout,
    /// What the audit log says of it.
    pub entry: Option<Entry>,
}

/// Cuts sites into waves, in their order. No wave is empty; sizes beyond the last site are left out.
pub fn waves(sites: &[SiteId], sizes: &[WaveSize]) -> Vec<Vec<SiteId>> {
    let mut rest = sites;
    let mut waves = Vec::new();
    for size in sizes {
        let wanted = match size {
            WaveSize::Sites(count) => usize::try_from(*count).unwrap_or(usize::MAX),
            WaveSize::Percent(share) => (sites.len() * usize::from(*share)).div_ceil(100),
        };
        let (wave, later) = rest.split_at(wanted.min(rest.len()));
        if !wave.is_empty() {
            waves.push(wave.to_vec());
        }
        rest = later;
    }
    if !rest.is_empty() {
        waves.push(rest.to_vec());
    }
    waves
}

/// Starts a rollout of a version to these sites, in their order.
///
/// # Errors
/// See [`InvalidStaging`].
pub fn start(
    (policy, id): (PolicyId, RolloutId),
    version: u32,
    sites: &[SiteId],
    staging: &Staging,
    by: &str,
    now: Timestamp,
) -> Result<RolloutDecision, InvalidStaging> {
    if staging.waves.is_empty() || staging.waves.len() > limits::WAVES_MAX {
        return Err(InvalidStaging::Waves);
    }
    if staging.halt_on_errors == 0 {
        return Err(InvalidStaging::HaltOnErrors);
    }
    if !(1..=limits::WAVE_TIMEOUT_SECONDS_MAX).contains(&staging.wave_timeout_seconds) {
        return Err(InvalidStaging::WaveTimeout);
    }
    let rollout = Rollout {
        id,
        version,
        waves: waves(sites, &staging.waves),
        wave: 0,
        state: RolloutState::Running,
        reason: None,
        halt_on_errors: staging.halt_on_errors,
        wave_timeout_seconds: staging.wave_timeout_seconds,
        wait_for: staging.wait_for,
        started_by: by.to_owned(),
        started_at: now,
        wave_started_at: now,
        ended_at: None,
    };
    let more = [("sites", count(sites.len())), ("waves", count(rollout.waves.len()))];
    let entry = entry(policy, &rollout, "rollout_started", more);
    Ok(RolloutDecision { rollout, entry: Some(entry) })
}

/// How far one site of a rollout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The version was not released to it yet.
    Held,
    /// It has not said yet.
    Waiting,
    /// It has the version, as far as the rollout waits for it.
    Done,
    /// It refused the version, or could not apply it.
    Failed,
    /// It does not take part any more: not enrolled, or not assigned.
    Left,
}

impl Progress {
    /// The spelling in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Waiting => "waiting",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Left => "left",
        }
    }
}

/// Judges one site by its row.
pub fn progress(rollout: &Rollout, status: SiteStatus, row: Option<&Assignment>) -> Progress {
    let Some(row) = row.filter(|row| row.unassigned_at.is_none()) else { return Progress::Left };
    if status != SiteStatus::Enrolled {
        return Progress::Left;
    }
    let version = rollout.version;
    let has_it = row.pushed_version >= Some(version);
    let told = has_it && matches!(row.push_status, PushStatus::Pushed | PushStatus::Acknowledged);
    let refused = row.refusals > 0 && matches!(row.push_status, PushStatus::Error | PushStatus::Dead);
    let done = match rollout.wait_for {
        WaitFor::Acknowledged => told && row.push_status == PushStatus::Acknowledged,
        WaitFor::Pushed => told,
    };
    if done {
        return Progress::Done;
    }
    if row.released_version < version {
        return Progress::Held;
    }
    let not_applied = told && row.tried_version == Some(version) && row.apply_error.is_some();
    if refused || not_applied { Progress::Failed } else { Progress::Waiting }
}

/// What a look at a running rollout leads to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Step {
    /// The row after it, when it changed.
    pub changed: Option<RolloutDecision>,
    /// Sites to which the version goes now. A repeat of it is harmless.
    pub release: Vec<SiteId>,
}

/// Looks at a rollout: releases the present wave, goes on to the next, completes or halts.
pub fn step(
    policy: PolicyId,
    rollout: &Rollout,
    now: Timestamp,
    progress: &BTreeMap<SiteId, Progress>,
) -> Step {
    if rollout.state != RolloutState::Running {
        return Step::default();
    }
    let of = |site: &SiteId| progress.get(site).copied().unwrap_or(Progress::Left);
    let present = usize::try_from(rollout.wave).unwrap_or(usize::MAX);
    let out = || rollout.waves.iter().take(present.saturating_add(1)).flatten();
    let failed = out().filter(|site| of(site) == Progress::Failed).count();
    if failed as u64 >= u64::from(rollout.halt_on_errors) {
        let reason = format!("{failed} of {} sites failed", out().count());
        return changed(halt(policy, rollout, reason));
    }
    let held: Vec<SiteId> = out().filter(|site| of(site) == Progress::Held).copied().collect();
    let waiting = out().filter(|site| of(site) == Progress::Waiting).count();
    if held.is_empty() && waiting == 0 {
        return advance(policy, rollout, now, of);
    }
    let patience = Duration::from_secs(rollout.wave_timeout_seconds.into());
    if rollout.wave_started_at.after(patience) <= now {
        let reason = format!("{} sites did not answer within {} s", held.len() + waiting, patience.as_secs());
        return changed(halt(policy, rollout, reason));
    }
    Step { changed: None, release: held }
}

fn advance(policy: PolicyId, rollout: &Rollout, now: Timestamp, of: impl Fn(&SiteId) -> Progress) -> Step {
    let next = rollout.wave.saturating_add(1);
    let Some(wave) = usize::try_from(next).ok().and_then(|next| rollout.waves.get(next)) else {
        let over = Rollout { state: RolloutState::Completed, ended_at: Some(now), ..rollout.clone() };
        let entry = entry(policy, &over, "rollout_completed", []);
        return changed(RolloutDecision { rollout: over, entry: Some(entry) });
    };
    let release = wave.iter().filter(|site| of(site) == Progress::Held).copied().collect();
    let row = Rollout { wave: next, wave_started_at: now, ..rollout.clone() };
    let more = [("wave", count(rollout.wave as usize + 2)), ("sites", count(wave.len()))];
    let entry = entry(policy, &row, "rollout_wave_started", more);
    Step { changed: Some(RolloutDecision { rollout: row, entry: Some(entry) }), release }
}

fn halt(policy: PolicyId, rollout: &Rollout, reason: String) -> RolloutDecision {
    let row = Rollout { state: RolloutState::Halted, reason: Some(reason.clone()), ..rollout.clone() };
    let entry = entry(policy, &row, "rollout_halted", [("reason", Detail::Text(reason))]);
    RolloutDecision { rollout: row, entry: Some(entry) }
}

/// Goes on with a halted rollout: the present wave has its time again. The caller makes the sites in
/// `failed` due once more.
///
/// # Errors
/// It is not halted.
pub fn resume(policy: PolicyId, rollout: &Rollout, now: Timestamp) -> Result<RolloutDecision, WrongState> {
    if rollout.state != RolloutState::Halted {
        return Err(WrongState { state: rollout.state, needs: "only a halted rollout can be resumed" });
    }
    let row = Rollout { state: RolloutState::Running, reason: None, wave_started_at: now, ..rollout.clone() };
    let entry = entry(policy, &row, "rollout_resumed", []);
    Ok(RolloutDecision { rollout: row, entry: Some(entry) })
}

/// Gives a rollout up: sites of later waves keep what they have.
///
/// # Errors
/// It is over.
pub fn abort(policy: PolicyId, rollout: &Rollout, now: Timestamp) -> Result<RolloutDecision, WrongState> {
    if rollout.state.is_over() {
        return Err(WrongState { state: rollout.state, needs: "it has ended already" });
    }
    let row = Rollout { state: RolloutState::Aborted, ended_at: Some(now), ..rollout.clone() };
    let entry = entry(policy, &row, "rollout_aborted", []);
    Ok(RolloutDecision { rollout: row, entry: Some(entry) })
}

fn changed(decision: RolloutDecision) -> Step {
    Step { changed: Some(decision), release: Vec::new() }
}

fn entry<const N: usize>(
    policy: PolicyId,
    rollout: &Rollout,
    operation: &'static str,
    more: [(&'static str, Detail); N],
) -> Entry {
    let details = [
        ("policy_id", Detail::Text(policy.to_string())),
        ("rollout_id", Detail::Text(rollout.id.to_string())),
        ("version", Detail::Int(rollout.version.into())),
    ];
    let details = details.into_iter().chain(more).map(|(name, value)| (name.to_owned(), value)).collect();
    Entry { operation, details }
}

fn count(number: usize) -> Detail {
    Detail::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_000);
    const POLICY: PolicyId = PolicyId(Uuid::from_u128(1));

    fn sites(count: u128) -> Vec<SiteId> {
        (1..=count).map(|number| SiteId(Uuid::from_u128(number))).collect()
    }

    fn started(count: u128, sizes: &[WaveSize]) -> Rollout {
        let staging = Staging {
            waves: sizes.to_vec(),
            halt_on_errors: 2,
            wave_timeout_seconds: 60,
            wait_for: WaitFor::Acknowledged,
        };
        let ids = (POLICY, RolloutId(Uuid::from_u128(2)));
        start(ids, 3, &sites(count), &staging, "ada", NOW).unwrap().rollout
    }

    fn all(rollout: &Rollout, progress: Progress) -> BTreeMap<SiteId, Progress> {
        rollout.waves.iter().flatten().map(|site| (*site, progress)).collect()
    }

    #[test]
    fn a_wave_waits_for_the_one_before() {
        let rollout = started(5, &[WaveSize::Sites(2)]);
        let mut progress = all(&rollout, Progress::Held);

        let first = step(POLICY, &rollout, NOW, &progress);
        assert_eq!((first.changed, first.release), (None, sites(2)));
        progress.insert(sites(1)[0], Progress::Done);
        progress.insert(sites(2)[1], Progress::Waiting);
        assert_eq!(step(POLICY, &rollout, NOW, &progress), Step::default());
        progress.insert(sites(2)[1], Progress::Done);
        let second = step(POLICY, &rollout, NOW, &progress);

        assert_eq!(second.release, sites(5)[2..]);
        let second = second.changed.unwrap();
        assert_eq!(second.rollout.wave, 1);
        assert_eq!(second.entry.unwrap().operation, "rollout_wave_started");
        let done = all(&rollout, Progress::Done);
        let last = step(POLICY, &second.rollout, NOW, &done).changed.unwrap();
        assert_eq!(last.rollout.state, RolloutState::Completed);
    }

    #[test]
    fn errors_halt_at_their_number_and_a_resume_goes_on() {
        let rollout = started(4, &[WaveSize::Percent(50)]);
        let mut progress = all(&rollout, Progress::Held);
        progress.insert(sites(1)[0], Progress::Failed);
        progress.insert(sites(2)[1], Progress::Waiting);
        assert_eq!(step(POLICY, &rollout, NOW, &progress).changed, None);

        progress.insert(sites(2)[1], Progress::Failed);
        let halted = step(POLICY, &rollout, NOW, &progress).changed.unwrap().rollout;

        assert_eq!(halted.state, RolloutState::Halted);
        assert_eq!(halted.reason.as_deref(), Some("2 of 2 sites failed"));
        assert_eq!(step(POLICY, &halted, NOW, &progress), Step::default());
        let resumed = resume(POLICY, &halted, NOW.after(Duration::from_secs(500))).unwrap().rollout;
        assert_eq!((resumed.state, resumed.wave), (RolloutState::Running, 0));
        assert!(resume(POLICY, &resumed, NOW).is_err());
        let aborted = abort(POLICY, &resumed, NOW).unwrap().rollout;
        assert!(aborted.state.is_over() && abort(POLICY, &aborted, NOW).is_err());
    }

    #[test]
    fn wave_that_takes_too_long_halts() {
        let rollout = started(4, &[WaveSize::Sites(1)]);
        let progress = all(&rollout, Progress::Waiting);

        assert_eq!(step(POLICY, &rollout, NOW.after(Duration::from_secs(59)), &progress).changed, None);
        let halted = step(POLICY, &rollout, NOW.after(Duration::from_secs(60)), &progress).changed.unwrap();

        assert_eq!(halted.entry.unwrap().operation, "rollout_halted");
    }

    #[test]
    fn sites_that_left_stop_nothing() {
        let rollout = started(3, &[WaveSize::Sites(1)]);

        let next = step(POLICY, &rollout, NOW, &BTreeMap::new());

        assert_eq!(next.changed.unwrap().rollout.wave, 1);
    }

    proptest! {
        #[test]
        fn waves_hold_each_site_once_in_order(
            count in 0_u128..200,
            sizes in prop::collection::vec(prop_oneof![
                (1_u32..50).prop_map(WaveSize::Sites),
                (1_u8..=100).prop_map(WaveSize::Percent),
            ], 1..6),
        ) {
            let waves = waves(&sites(count), &sizes);

            prop_assert!(waves.iter().all(|wave| !wave.is_empty()));
            prop_assert!(waves.len() <= sizes.len() + 1);
            prop_assert_eq!(waves.concat(), sites(count));
        }

        /// Whatever sites do, each is released in its wave or later, and a rollout whose sites all succeed
        /// completes.
        #[test]
        fn rollout_completes_when_every_site_does(count in 0_u128..30, size in 1_u32..10, order: u64) {
            let mut rollout = started(count, &[WaveSize::Sites(size), WaveSize::Percent(30)]);
            let mut progress = all(&rollout, Progress::Held);
            let mut dice = order;
            for _ in 0..200 {
                let next = step(POLICY, &rollout, NOW, &progress);
                if let Some(changed) = next.changed {
                    rollout = changed.rollout;
                }
                for site in next.release {
                    let wave = rollout.waves.iter().position(|wave| wave.contains(&site)).unwrap();
                    prop_assert!(wave as u32 <= rollout.wave);
                    progress.insert(site, Progress::Waiting);
                }
                dice = dice.rotate_left(7).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let waiting: Vec<_> = progress.iter().filter(|(_, now)| **now == Progress::Waiting).map(|(site, _)| *site).collect();
                if !waiting.is_empty() {
                    progress.insert(waiting[dice as usize % waiting.len()], Progress::Done);
                }
            }
            prop_assert_eq!(rollout.state, RolloutState::Completed);
            prop_assert!(progress.values().all(|now| *now == Progress::Done));
        }
    }
}
