//! The life of a policy and of its assignments (contract B4, 4): what changes, what is due at a site, and
//! what a push would change there.
//!
//! Desired state: a row says what the site should hold, [`due`] what it still has to be told. A withdrawal
//! is due wherever a policy was deactivated or unassigned, and settled when the site has taken it.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use crate::audit::Detail;
use crate::id::PolicyId;
use crate::limits::policy as limits;
use crate::machine::registry::Entry;
use crate::policy::{
    Assignment, InvalidPolicy, NewPolicy, Policy, PolicyPatch, PushStatus, canonical_definition, description,
    policy_name, policy_type,
};
use crate::received::HeldPolicy;
use crate::report::PolicyReport;
use crate::secret::hex;
use crate::site::SiteStatus;
use crate::{SiteId, Timestamp};

/// A change that a policy's state does not allow, or a bad value.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PolicyRejection {
    /// It was deactivated, for good.
    #[error("the policy is inactive: create a new one")]
    Inactive,
    /// A value is bad. Fix the request.
    #[error(transparent)]
    Invalid(#[from] InvalidPolicy),
}

/// A policy's row after a change, and what the audit log says of it; no entry when nothing changed.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyDecision {
    /// The row after the change.
    pub policy: Policy,
    /// None when nothing changed.
    pub entry: Option<Entry>,
}

/// Creates a policy: version one, active.
///
/// # Errors
/// A value is bad; nothing is created.
pub fn create(
    id: PolicyId,
    now: Timestamp,
    new: &NewPolicy,
    by: &str,
) -> Result<PolicyDecision, InvalidPolicy> {
    let policy = Policy {
        policy_type: policy_type(&new.policy_type)?,
        name: policy_name(&new.name)?,
        description: description(new.description.as_deref())?,
        definition: canonical_definition(&new.definition)?,
        version: 1,
        is_active: true,
        held: false,
        created_by: by.to_owned(),
        created_at: now,
        updated_at: now,
    };
    let entry = Entry::new(
        "policy_created",
        [
            ("policy_id", text(id)),
            ("policy_type", policy.policy_type.as_str().into()),
            ("name", policy.name.as_str().into()),
        ],
    );
    Ok(PolicyDecision { policy, entry: Some(entry) })
}

/// Changes a policy. The version rises only when something really changed. Whether the new version is held
/// back is the caller's word; without a change the row stays as it is.
///
/// # Errors
/// The policy is inactive, or a value is bad.
pub fn patch(
    id: PolicyId,
    policy: &Policy,
    now: Timestamp,
    patch: &PolicyPatch,
    hold: bool,
) -> Result<PolicyDecision, PolicyRejection> {
    if !policy.is_active {
        return Err(PolicyRejection::Inactive);
    }
    let mut next = policy.clone();
    let mut changes = Vec::new();
    if let Some(name) = &patch.name {
        next.name = policy_name(name)?;
    }
    if let Some(text) = &patch.description {
        next.description = description(text.as_deref())?;
    }
    if let Some(definition) = &patch.definition {
        next.definition = canonical_definition(definition)?;
    }
    for (changed, what) in [
        (next.name != policy.name, "name"),
        (next.description != policy.description, "description"),
        (next.definition != policy.definition, "definition_changed"),
    ] {
        if changed {
            changes.push(Detail::from(what));
        }
    }
    if changes.is_empty() {
        return Ok(PolicyDecision { policy: next, entry: None });
    }
    next.version = policy.version.saturating_add(1);
    next.held = hold;
    next.updated_at = now;
    let entry = Entry::new(
        "policy_updated",
        [
            ("policy_id", text(id)),
            ("new_version", Detail::Int(next.version.into())),
            ("changes", Detail::List(changes)),
        ],
    );
    Ok(PolicyDecision { policy: next, entry: Some(entry) })
}

/// Deactivates a policy; a repeat changes nothing. Its sites are due for a withdrawal.
pub fn deactivate(id: PolicyId, policy: &Policy, now: Timestamp) -> PolicyDecision {
    if !policy.is_active {
        return PolicyDecision { policy: policy.clone(), entry: None };
    }
    let next = Policy { is_active: false, held: false, updated_at: now, ..policy.clone() };
    let entry =
        Entry::new("policy_deactivated", [("policy_id", text(id)), ("name", policy.name.as_str().into())]);
    PolicyDecision { policy: next, entry: Some(entry) }
}

/// What a site has to be told of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Nothing.
    Nothing,
    /// The present version.
    Push,
    /// That it should hold the policy no longer.
    Withdrawal,
}

/// What the site has to be told, whenever its wait is over.
pub fn due(policy: &Policy, row: &Assignment) -> Due {
    let unwanted = row.unassigned_at.is_some() || !policy.is_active;
    if row.push_status == PushStatus::Dead && row.withdrawing == unwanted {
        return Due::Nothing;
    }
    if unwanted {
        return if row.withdrawn_at.is_some() { Due::Nothing } else { Due::Withdrawal };
    }
    if policy.held && row.released_version < policy.version {
        return Due::Nothing;
    }
    let told = matches!(row.push_status, PushStatus::Pushed | PushStatus::Acknowledged);
    if told && row.pushed_version >= Some(policy.version) { Due::Nothing } else { Due::Push }
}

/// What one push told the site: which round of the row, and what of the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// See [`Assignment::round`].
    pub round: u32,
    /// It was a withdrawal.
    pub withdrawal: bool,
    /// The policy's version.
    pub version: u32,
}

impl Told {
    const ROUNDS: u32 = u32::MAX >> 1;

    /// What is due now; none when nothing is.
    pub fn now(policy: &Policy, row: &Assignment) -> Option<Self> {
        let withdrawal = match due(policy, row) {
            Due::Nothing => return None,
            Due::Push => false,
            Due::Withdrawal => true,
        };
        Some(Self { round: row.round & Self::ROUNDS, withdrawal, version: policy.version })
    }

    /// As the version of a delivery.
    pub const fn pack(self) -> u64 {
        (self.round as u64) << 33 | (self.withdrawal as u64) << 32 | self.version as u64
    }

    /// From the version of a delivery.
    pub const fn unpack(version: u64) -> Self {
        Self {
            round: (version >> 33) as u32,
            withdrawal: version >> 32 & 1 == 1,
            version: (version & 0xffff_ffff) as u32,
        }
    }

    fn is_of(self, row: &Assignment) -> bool {
        self.round == row.round & Self::ROUNDS
    }
}

/// Refusals so far of what is due now; a push's do not count against its withdrawal.
pub fn refusals(row: &Assignment, told: Told) -> u32 {
    if row.withdrawing == told.withdrawal { row.refusals } else { 0 }
}

/// Assigns a policy to a site, or assigns it again: due from the beginning. Held back, it waits for a push.
pub fn assign(row: Option<&Assignment>, policy: &Policy, now: Timestamp, by: &str, hold: bool) -> Assignment {
    // What a site was told to give up it is told anew.
    let kept = row.filter(|row| row.unassigned_at.is_none());
    let released = if hold { kept.map_or(0, |row| row.released_version) } else { policy.version };
    Assignment {
        assigned_at: now,
        assigned_by: by.to_owned(),
        unassigned_at: None,
        round: row.map_or(1, |row| row.round.wrapping_add(1)),
        released_version: released,
        push_status: PushStatus::Pending,
        last_push_attempt_at: kept.and_then(|row| row.last_push_attempt_at),
        last_push_error: None,
        pushed_version: kept.and_then(|row| row.pushed_version),
        push_attempts: 0,
        refusals: 0,
        withdrawing: false,
        withdrawn_at: None,
        applied_version: kept.and_then(|row| row.applied_version),
        applied_at: kept.and_then(|row| row.applied_at),
        tried_version: kept.and_then(|row| row.tried_version),
        apply_error: kept.and_then(|row| row.apply_error.clone()),
    }
}

/// Makes an assignment due again from the beginning. With `release` a held policy's present version may go.
pub fn requeue(policy: &Policy, row: &Assignment, release: bool) -> Assignment {
    Assignment {
        round: row.round.wrapping_add(1),
        released_version: if release { policy.version } else { row.released_version },
        push_status: PushStatus::Pending,
        last_push_error: None,
        push_attempts: 0,
        refusals: 0,
        ..row.clone()
    }
}

/// Compares a row with what the site says it holds, at the beginning of a link: the row that is due again, or
/// none when both agree, or the site will be told anyway. They part when either side's disk went back.
pub fn differs(policy: &Policy, row: &Assignment, held: Option<&HeldPolicy>) -> Option<Assignment> {
    let wanted_there = held.filter(|held| held.wanted);
    if row.unassigned_at.is_some() || !policy.is_active {
        let back = row.withdrawn_at.is_some() && wanted_there.is_some();
        return back.then(|| Assignment { withdrawn_at: None, ..requeue(policy, row, false) });
    }
    let told = matches!(row.push_status, PushStatus::Pushed | PushStatus::Acknowledged);
    let version = row.pushed_version.filter(|_| told)?;
    match wanted_there {
        Some(held) if held.version >= version => {
            // What the site has said of it may have been lost here: it says so again.
            (row.push_status == PushStatus::Pushed).then(|| requeue(policy, row, false))
        }
        other => Some(Assignment {
            pushed_version: other.map(|held| held.version),
            applied_version: None,
            applied_at: None,
            tried_version: None,
            apply_error: None,
            ..requeue(policy, row, false)
        }),
    }
}

/// A site holds a higher version than there is: this coordinator's disk went back, and the number stands for
/// something else there. The policy goes on above it; none when that is so already, or when the site claims
/// more versions than can have been lost.
pub fn outnumbered(id: PolicyId, policy: &Policy, version: u32, now: Timestamp) -> Option<PolicyDecision> {
    let lost = version.saturating_sub(policy.version);
    if lost == 0 || lost > limits::VERSIONS_LOST_MAX {
        return None;
    }
    let next = Policy { version: version.saturating_add(1), updated_at: now, ..policy.clone() };
    let entry = Entry::new(
        "policy_updated",
        [
            ("policy_id", text(id)),
            ("new_version", Detail::Int(next.version.into())),
            ("changes", Detail::List(vec![Detail::from("renumbered")])),
        ],
    );
    Some(PolicyDecision { policy: next, entry: Some(entry) })
}

/// Takes a policy from a site. None when the site cannot have got it: the row goes at once. Otherwise the
/// row stays until the site has taken the withdrawal.
pub fn unassign(row: &Assignment, status: SiteStatus, now: Timestamp) -> Option<Assignment> {
    let can_hold_it = match status {
        SiteStatus::Pending | SiteStatus::Removed => false,
        SiteStatus::Enrolled | SiteStatus::Suspended => row.withdrawn_at.is_none(),
    };
    can_hold_it.then(|| Assignment {
        unassigned_at: Some(now),
        round: row.round.wrapping_add(1),
        push_status: PushStatus::Pending,
        last_push_error: None,
        push_attempts: 0,
        refusals: 0,
        ..row.clone()
    })
}

/// What became of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct RowDecision {
    /// The row after it; none when it goes.
    pub row: Option<Assignment>,
    /// What the audit log says of it.
    pub entry: Option<Entry>,
}

/// The site has stored what it was told. None for an answer to an earlier round, which settles nothing.
pub fn pushed(id: PolicyId, row: &Assignment, told: Told, now: Timestamp) -> Option<RowDecision> {
    if !told.is_of(row) {
        return None;
    }
    let settled = Assignment {
        push_status: PushStatus::Pushed,
        last_push_attempt_at: Some(now),
        last_push_error: None,
        push_attempts: 0,
        refusals: 0,
        withdrawing: told.withdrawal,
        ..row.clone()
    };
    if told.withdrawal {
        let entry = Entry::new(
            "policy_withdrawn",
            [("policy_id", text(id)), ("version", Detail::Int(told.version.into()))],
        );
        let kept = row.unassigned_at.is_none().then_some(Assignment {
            withdrawn_at: Some(now),
            pushed_version: None,
            applied_version: None,
            applied_at: None,
            tried_version: None,
            apply_error: None,
            ..settled
        });
        return Some(RowDecision { row: kept, entry: Some(entry) });
    }
    let in_force = row.applied_version == Some(told.version) && row.apply_error.is_none();
    let row = Assignment {
        // The site may have applied it before its answer came, or have it since an earlier round.
        push_status: if in_force { PushStatus::Acknowledged } else { PushStatus::Pushed },
        pushed_version: Some(told.version),
        ..settled
    };
    let entry = Entry::new(
        "policy_pushed",
        [("policy_id", text(id)), ("pushed_version", Detail::Int(told.version.into()))],
    );
    Some(RowDecision { row: Some(row), entry: Some(entry) })
}

/// A try failed; `refusals` are those for good so far. None for a try of an earlier round.
pub fn failed(
    id: PolicyId,
    row: &Assignment,
    told: Told,
    now: Timestamp,
    error: &str,
    (refusals, dead): (u32, bool),
) -> Option<RowDecision> {
    if !told.is_of(row) {
        return None;
    }
    let error = bounded(error);
    let attempts = if row.withdrawing == told.withdrawal { row.push_attempts } else { 0 };
    let entry = Entry::new("policy_push_failed", [("policy_id", text(id)), ("error", error.as_str().into())]);
    let row = Assignment {
        push_status: if dead { PushStatus::Dead } else { PushStatus::Error },
        last_push_attempt_at: Some(now),
        last_push_error: Some(error),
        push_attempts: attempts.saturating_add(1),
        refusals,
        withdrawing: told.withdrawal,
        ..row.clone()
    };
    Some(RowDecision { row: Some(row), entry: Some(entry) })
}

/// The site says what applying a version did. None when it says nothing new, or speaks of what it should
/// not hold.
pub fn reported(
    id: PolicyId,
    policy: &Policy,
    row: &Assignment,
    report: &PolicyReport,
) -> Option<RowDecision> {
    let version = report.version;
    let late = row.tried_version > Some(version) || row.applied_version > Some(version);
    if row.unassigned_at.is_some() || !policy.is_active || late || version == 0 || version > policy.version {
        return None;
    }
    let told = matches!(row.push_status, PushStatus::Pushed | PushStatus::Acknowledged);
    let settles = told && row.pushed_version == Some(version);
    let mut next = Assignment { tried_version: Some(version), ..row.clone() };
    let mut details = vec![("policy_id", text(id)), ("version", Detail::Int(version.into()))];
    let operation = if report.applied {
        next.applied_version = Some(version);
        next.applied_at = Some(report.at);
        next.apply_error = None;
        if settles {
            next.push_status = PushStatus::Acknowledged;
        }
        "policy_acknowledged"
    } else {
        let error = bounded(report.error.as_deref().unwrap_or("the site did not say why"));
        details.push(("error", error.as_str().into()));
        next.apply_error = Some(error);
        if settles {
            next.push_status = PushStatus::Pushed;
        }
        "policy_apply_failed"
    };
    let same = Assignment { applied_at: row.applied_at, ..next.clone() } == *row;
    let details = details.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    (!same).then_some(RowDecision { row: Some(next), entry: Some(Entry { operation, details }) })
}

/// What a push would do at a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The site gets the policy.
    Add,
    /// The site has an older version.
    Update {
        /// The version it has.
        from: u32,
    },
    /// The site has this version; a push sends it once more.
    Nothing,
    /// The site gives the policy up.
    Withdraw,
}

impl Change {
    /// The spelling in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Update { .. } => "update",
            Self::Nothing => "nothing",
            Self::Withdraw => "withdraw",
        }
    }
}

/// One site of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedSite {
    /// The site.
    pub site: SiteId,
    /// What a push would do there.
    pub change: Change,
    /// The site takes nothing now: it is in this state instead of enrolled.
    pub blocked: Option<SiteStatus>,
}

/// What a push of a policy would do, and the hash of what that rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The version that would go out.
    pub version: u32,
    /// The sites, in the order of their ids.
    pub sites: Vec<PlannedSite>,
    /// SHA-256 over the policy and each site's part: another one means that the world has moved.
    pub hash: [u8; 32],
}

/// Says what a push would do. `rows` come in the order of the sites' ids.
pub fn plan<'a>(
    id: PolicyId,
    policy: &Policy,
    rows: impl IntoIterator<Item = (SiteId, SiteStatus, &'a Assignment)>,
) -> Plan {
    let sites: Vec<PlannedSite> = rows
        .into_iter()
        .filter(|(_, _, row)| row.unassigned_at.is_none() || row.withdrawn_at.is_none())
        .map(|(site, status, row)| PlannedSite {
            site,
            change: change(policy, row),
            blocked: (status != SiteStatus::Enrolled).then_some(status),
        })
        .collect();
    let mut text = format!(
        "hansa policy plan 1\n{id}\n{} {} {}\n{}\n",
        policy.version,
        policy.is_active,
        policy.held,
        hex(&Sha256::digest(&policy.definition)),
    );
    for PlannedSite { site, change, blocked } in &sites {
        let from = match change {
            Change::Update { from } => *from,
            Change::Add | Change::Nothing | Change::Withdraw => 0,
        };
        let blocked = blocked.map_or("", SiteStatus::as_str);
        // Writing to a text cannot fail.
        let _ = writeln!(text, "{site} {} {from} {blocked}", change.as_str());
    }
    Plan { version: policy.version, sites, hash: Sha256::digest(&text).into() }
}

fn change(policy: &Policy, row: &Assignment) -> Change {
    if row.unassigned_at.is_some() || !policy.is_active {
        return if row.withdrawn_at.is_some() { Change::Nothing } else { Change::Withdraw };
    }
    match row.pushed_version {
        None => Change::Add,
        Some(from) if from < policy.version => Change::Update { from },
        Some(_) => Change::Nothing,
    }
}

fn text(id: PolicyId) -> Detail {
    Detail::Text(id.to_string())
}

/// A text that a site had a part in: one line of bounded length.
fn bounded(text: &str) -> String {
    let mut bounded = String::new();
    for letter in text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }) {
        if bounded.len() + letter.len_utf8() > limits::ERROR_BYTES_MAX {
            break;
        }
        bounded.push(letter);
    }
    bounded
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
