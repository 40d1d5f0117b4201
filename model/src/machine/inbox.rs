//! What a site does with what its coordinator wants: policies, commands, leases (contract B7, 5.2 to 5.5, 10).
//!
//! Each decision takes the row that is held and gives the next one; nothing changes before the shell has
//! stored it. A command is started at most once, for ever: it is marked before it is handed to a connector,
//! and an ended command's id is remembered when its row is gone.

use std::collections::BTreeMap;

use crate::Timestamp;
use crate::id::{CommandId, PolicyId};
use crate::limits::inbox as limits;
use crate::machine::link::entry_wait;
use crate::push::{CommandPush, LeasePush, LeaseWord, PolicyPush, PolicyWithdrawal};
use crate::received::{CommandState, LeaseState, PolicyWish, ReceivedCommand, ReceivedLease, ReceivedPolicy};
use crate::report::{CommandReport, CommandReportStatus, HostResult, LeaseRequest, PolicyReport};

/// A policy that arrived, decided.
#[derive(Debug, Clone, PartialEq)]
pub enum PolicyStep {
    /// An older version: nothing changes.
    Nothing,
    /// The row to store.
    Keep(ReceivedPolicy),
    /// In force already: the coordinator asks again, so it is told again.
    Repeat(PolicyReport),
}

/// Takes a policy in. `order` is the next place in the line.
pub fn receive_policy(
    held: Option<&ReceivedPolicy>,
    push: &PolicyPush,
    now: Timestamp,
    order: u64,
) -> PolicyStep {
    let fresh = ReceivedPolicy {
        order,
        policy_type: push.policy_type.clone(),
        name: push.name.clone(),
        definition: push.definition.clone(),
        version: push.version,
        wish: PolicyWish::Apply,
        received_at: now,
        applied_at: None,
        apply_error: None,
        failures: 0,
        tried_at: None,
    };
    let Some(held) = held else { return PolicyStep::Keep(fresh) };
    match held.wish {
        // Wanted again after a withdrawal: the version need not have changed.
        PolicyWish::Withdraw | PolicyWish::Gone if push.version >= held.version => PolicyStep::Keep(fresh),
        PolicyWish::Apply if push.version > held.version => PolicyStep::Keep(fresh),
        // A coordinator whose disk went back gives a number once more: what it says now counts.
        PolicyWish::Apply if push.version == held.version && !is_same(held, push) => PolicyStep::Keep(fresh),
        PolicyWish::Apply if push.version == held.version => match held.applied_at {
            Some(at) => PolicyStep::Repeat(PolicyReport {
                policy_id: push.policy_id,
                version: held.version,
                applied: true,
                error: None,
                at,
            }),
            // Somebody at the coordinator wants another try now.
            None if held.failures > 0 => {
                PolicyStep::Keep(ReceivedPolicy { failures: 0, tried_at: None, ..held.clone() })
            }
            None => PolicyStep::Nothing,
        },
        PolicyWish::Apply | PolicyWish::Withdraw | PolicyWish::Gone => PolicyStep::Nothing,
    }
}

fn is_same(held: &ReceivedPolicy, push: &PolicyPush) -> bool {
    (&held.policy_type, &held.name, &held.definition) == (&push.policy_type, &push.name, &push.definition)
}

/// Takes a withdrawal in; the row to store, or none when a newer version is held.
pub fn withdraw_policy(
    held: Option<&ReceivedPolicy>,
    withdrawal: &PolicyWithdrawal,
    now: Timestamp,
    order: u64,
) -> Option<ReceivedPolicy> {
    let version = withdrawal.version;
    let Some(held) = held else {
        return Some(ReceivedPolicy {
            order,
            policy_type: String::new(),
            name: String::new(),
            definition: String::new(),
            version,
            wish: PolicyWish::Gone,
            received_at: now,
            applied_at: None,
            apply_error: None,
            failures: 0,
            tried_at: None,
        });
    };
    if version < held.version {
        return None;
    }
    match held.wish {
        // It may be in force although no try has been noted: the site may have stopped in the middle of one.
        PolicyWish::Apply => Some(ReceivedPolicy {
            order,
            version,
            wish: PolicyWish::Withdraw,
            received_at: now,
            applied_at: None,
            apply_error: None,
            failures: 0,
            tried_at: None,
            ..held.clone()
        }),
        PolicyWish::Withdraw | PolicyWish::Gone if version > held.version => {
            Some(ReceivedPolicy { version, ..held.clone() })
        }
        PolicyWish::Withdraw | PolicyWish::Gone => None,
    }
}

/// When a policy is to be tried next; none when nothing is left to do.
pub fn policy_due(policy: &ReceivedPolicy, jitter: u64) -> Option<Timestamp> {
    let open = match policy.wish {
        PolicyWish::Apply => !policy.applied(),
        PolicyWish::Withdraw => true,
        PolicyWish::Gone => false,
    };
    let at = |tried: Timestamp| tried.after(entry_wait(policy.failures, jitter));
    open.then(|| policy.tried_at.map_or(policy.received_at, at))
}

/// Notes a try that has ended: the row to store, and what the coordinator is told. None when the policy has
/// changed meanwhile and the try says nothing about it.
pub fn policy_tried(
    held: &ReceivedPolicy,
    id: PolicyId,
    tried: (u32, PolicyWish),
    outcome: Result<(), String>,
    now: Timestamp,
) -> Option<(ReceivedPolicy, Option<PolicyReport>)> {
    if tried != (held.version, held.wish) {
        return None;
    }
    let told = held.wish == PolicyWish::Apply;
    let report =
        |applied, error| PolicyReport { policy_id: id, version: held.version, applied, error, at: now };
    Some(match outcome {
        Ok(()) => {
            let row = ReceivedPolicy {
                wish: if told { PolicyWish::Apply } else { PolicyWish::Gone },
                applied_at: told.then_some(now),
                apply_error: None,
                failures: 0,
                tried_at: Some(now),
                ..held.clone()
            };
            (row, told.then(|| report(true, None)))
        }
        Err(error) => {
            let error = clipped(&error);
            // Said once for each reason; the tries go on.
            let news = held.apply_error.as_deref() != Some(error.as_str());
            let row = ReceivedPolicy {
                apply_error: Some(error.clone()),
                failures: held.failures.saturating_add(1),
                tried_at: Some(now),
                ..held.clone()
            };
            (row, (told && news).then(|| report(false, Some(error))))
        }
    })
}

/// What the site remembers of a command's id.
#[derive(Debug, Clone, Copy)]
pub enum Memory<'a> {
    /// Never heard of.
    Unknown,
    /// Ended so long ago that only the id is kept.
    Spent,
    /// The row.
    Held(&'a ReceivedCommand),
}

/// What becomes of a command.
#[derive(Debug, Clone, PartialEq)]
pub enum CommandStep {
    /// Nothing changes.
    Nothing,
    /// The row to store.
    Keep(ReceivedCommand),
    /// It has ended: the row to store, and the report to send up, in one step.
    End(ReceivedCommand, CommandReport),
    /// It had ended before: the coordinator does not know, so it is told again. No row changes.
    Repeat(CommandReport),
}

/// Takes a command in (contract B7, 5.5). `order` is the next place in the line.
pub fn receive_command(memory: Memory<'_>, push: &CommandPush, now: Timestamp, order: u64) -> CommandStep {
    match memory {
        Memory::Spent => CommandStep::Repeat(failure(push.command_id, FORGOTTEN)),
        Memory::Held(held) if held.state.is_terminal() => CommandStep::Repeat(ended(push.command_id, held)),
        Memory::Held(held) => {
            let target_host_ids = if push.target_host_ids.is_empty() {
                held.target_host_ids.clone()
            } else {
                push.target_host_ids.clone()
            };
            let row = ReceivedCommand {
                command_type: push.command_type.clone(),
                parameters: push.parameters.clone(),
                target_host_ids,
                expires_at: push.expires_at.or(held.expires_at),
                ..held.clone()
            };
            if row == *held { CommandStep::Nothing } else { CommandStep::Keep(row) }
        }
        Memory::Unknown => {
            let row = ReceivedCommand {
                order,
                command_type: push.command_type.clone(),
                parameters: push.parameters.clone(),
                target_host_ids: push.target_host_ids.clone(),
                received_at: now,
                expires_at: push.expires_at,
                state: CommandState::Queued,
                cancelled: false,
                result: None,
                completed_at: None,
            };
            if is_expired(&row, now) {
                end(push.command_id, &row, EXPIRED, now)
            } else {
                CommandStep::Keep(row)
            }
        }
    }
}

/// Takes a cancellation in. What runs is told to stop and then ends by itself.
pub fn cancel_command(memory: Memory<'_>, id: CommandId, now: Timestamp, order: u64) -> CommandStep {
    match memory {
        Memory::Spent => CommandStep::Nothing,
        Memory::Held(held) => match held.state {
            CommandState::Completed | CommandState::Failed => CommandStep::Nothing,
            CommandState::InProgress if held.cancelled => CommandStep::Nothing,
            CommandState::InProgress => {
                CommandStep::Keep(ReceivedCommand { cancelled: true, ..held.clone() })
            }
            CommandState::Queued => {
                end(id, &ReceivedCommand { cancelled: true, ..held.clone() }, CANCELLED, now)
            }
        },
        // Remembered, so that the command has no effect if it comes after its cancellation.
        Memory::Unknown => {
            let row = ReceivedCommand { cancelled: true, ..unknown(now, order) };
            end(id, &row, CANCELLED, now)
        }
    }
}

/// Answers a coordinator that asks what became of a command which this site has confirmed. A command that is
/// not known any more may have run before the site's disk went back: it is never run again.
pub fn asked_about(memory: Memory<'_>, id: CommandId, now: Timestamp, order: u64) -> CommandStep {
    match memory {
        Memory::Spent => CommandStep::Repeat(failure(id, FORGOTTEN)),
        Memory::Held(held) if held.state.is_terminal() => CommandStep::Repeat(ended(id, held)),
        Memory::Held(_) => CommandStep::Nothing,
        Memory::Unknown => end(id, &unknown(now, order), LOST, now),
    }
}

/// The report of a command that has ended, as it was sent.
fn ended(id: CommandId, held: &ReceivedCommand) -> CommandReport {
    let report = held.result.as_deref().and_then(|result| serde_json::from_str(result).ok());
    report.unwrap_or_else(|| failure(id, FORGOTTEN))
}

/// The row of a command of which nothing but the id is known.
fn unknown(now: Timestamp, order: u64) -> ReceivedCommand {
    ReceivedCommand {
        order,
        command_type: String::new(),
        parameters: "{}".to_owned(),
        target_host_ids: Vec::new(),
        received_at: now,
        expires_at: None,
        state: CommandState::Queued,
        cancelled: false,
        result: None,
        completed_at: None,
    }
}

const EXPIRED: &str = "expired before it was started";
const CANCELLED: &str = "cancelled before it was started";
const FORGOTTEN: &str =
    "ended long ago: the site does not keep its result any more, and does not run it again";
const LOST: &str = "the site's disk went back to a state before the command: its outcome is unknown, and it is not run again";
/// What is said of a command whose run nobody saw the end of.
pub const UNKNOWN_OUTCOME: &str =
    "the site stopped while the command ran: its outcome is unknown, and it is not run again";

/// Whether a command must not be started any more.
pub fn is_expired(command: &ReceivedCommand, now: Timestamp) -> bool {
    command.expires_at.is_some_and(|end| end <= now)
}

/// Lets a queued command begin, or end without a start. Once the row is stored the command counts as started.
pub fn begin(id: CommandId, held: &ReceivedCommand, served: bool, now: Timestamp) -> CommandStep {
    match held.state {
        CommandState::InProgress | CommandState::Completed | CommandState::Failed => CommandStep::Nothing,
        CommandState::Queued if is_expired(held, now) => end(id, held, EXPIRED, now),
        CommandState::Queued if !served => {
            let reason = format!("no connector is declared at this site for command:{}", held.command_type);
            end(id, held, &reason, now)
        }
        CommandState::Queued => {
            CommandStep::Keep(ReceivedCommand { state: CommandState::InProgress, ..held.clone() })
        }
    }
}

/// Notes what a command that runs has done so far; the row to store. None when it does not run.
pub fn progressed(held: &ReceivedCommand, report: &CommandReport) -> Option<ReceivedCommand> {
    (held.state == CommandState::InProgress)
        .then(|| ReceivedCommand { result: Some(body(report)), ..held.clone() })
}

/// Ends a command that runs. A command that has ended stays as it ended.
pub fn finish(held: &ReceivedCommand, report: CommandReport, now: Timestamp) -> CommandStep {
    if held.state != CommandState::InProgress {
        return CommandStep::Nothing;
    }
    let state = match report.status {
        CommandReportStatus::Completed => CommandState::Completed,
        CommandReportStatus::Failed | CommandReportStatus::InProgress => CommandState::Failed,
    };
    let row = ReceivedCommand { state, result: Some(body(&report)), completed_at: Some(now), ..held.clone() };
    CommandStep::End(row, report)
}

/// Ends a command whose run was lost with the process: what the hosts did is not known.
pub fn abandon(id: CommandId, held: &ReceivedCommand, now: Timestamp) -> CommandStep {
    if held.state != CommandState::InProgress {
        return CommandStep::Nothing;
    }
    let known: Option<CommandReport> =
        held.result.as_deref().and_then(|result| serde_json::from_str(result).ok());
    let report = CommandReport {
        status: CommandReportStatus::Failed,
        error: Some(UNKNOWN_OUTCOME.to_owned()),
        ..known.unwrap_or_else(|| failure(id, UNKNOWN_OUTCOME))
    };
    finish(held, report, now)
}

fn end(id: CommandId, held: &ReceivedCommand, reason: &str, now: Timestamp) -> CommandStep {
    let running = ReceivedCommand { state: CommandState::InProgress, ..held.clone() };
    finish(&running, failure(id, reason), now)
}

/// The report of a command that failed before it reached a host (contract 5.4).
pub fn failure(id: CommandId, reason: &str) -> CommandReport {
    CommandReport {
        command_id: id,
        status: CommandReportStatus::Failed,
        host_count: 0,
        success_count: 0,
        results: BTreeMap::new(),
        error: Some(clipped(reason)),
    }
}

/// The report over what the hosts have done (contract 5.4): completed when all succeeded.
pub fn report(
    id: CommandId,
    host_count: u64,
    results: BTreeMap<String, HostResult>,
    error: Option<String>,
) -> CommandReport {
    let success_count = results.values().filter(|result| result.success).count() as u64;
    let good = error.is_none() && success_count == host_count;
    CommandReport {
        command_id: id,
        status: if good { CommandReportStatus::Completed } else { CommandReportStatus::Failed },
        host_count,
        success_count,
        results,
        error: error.map(|error| clipped(&error)),
    }
}

/// A report as it is stored and sent: JSON with its members sorted, as the contract's payloads are.
pub fn body(report: &impl serde::Serialize) -> String {
    // Plain data has a JSON form.
    serde_json::to_value(report).unwrap_or_default().to_string()
}

/// A text of a connector, cut to what a report carries.
pub fn clipped(text: &str) -> String {
    text.chars().take(limits::DETAIL_CHARS_MAX).collect()
}

/// A wish for a credential that breaks a rule of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LeaseRequestRefusal {
    /// A text is blank.
    #[error("{0} must not be blank")]
    Blank(&'static str),
    /// A text is too long.
    #[error("{0} may have at most 255 bytes")]
    TooLong(&'static str),
    /// Not one of the three.
    #[error("kind must be database, ssh or token")]
    Kind,
    /// Out of bounds.
    #[error("ttl_seconds must be from 60 to 86400")]
    Ttl,
}

impl LeaseRequestRefusal {
    /// The member that is bad.
    pub const fn field(self) -> &'static str {
        match self {
            Self::Blank(field) | Self::TooLong(field) => field,
            Self::Kind => "kind",
            Self::Ttl => "ttl_seconds",
        }
    }
}

/// Checks what an operator of the site asks for (contract 10); its texts are trimmed.
///
/// # Errors
/// See [`LeaseRequestRefusal`].
pub fn check_lease_request(request: LeaseRequest) -> Result<LeaseRequest, LeaseRequestRefusal> {
    let text = |field, text: &str| match text.trim() {
        "" => Err(LeaseRequestRefusal::Blank(field)),
        text if text.len() > limits::LABEL_BYTES_MAX => Err(LeaseRequestRefusal::TooLong(field)),
        text => Ok(text.to_owned()),
    };
    let kind = text("kind", &request.kind)?;
    if !["database", "ssh", "token"].contains(&kind.as_str()) {
        return Err(LeaseRequestRefusal::Kind);
    }
    if request.ttl_seconds.is_some_and(|ttl| !limits::LEASE_TTL_SECONDS.contains(&ttl)) {
        return Err(LeaseRequestRefusal::Ttl);
    }
    Ok(LeaseRequest {
        host_id: text("host_id", &request.host_id)?,
        secret_name: text("secret_name", &request.secret_name)?,
        backend_role: text("backend_role", &request.backend_role)?,
        kind,
        ..request
    })
}

/// What a connector has to do about a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseTask {
    /// Nothing.
    None,
    /// Hand the credential to the host.
    Give,
    /// Take it away from the host.
    TakeAway,
}

/// Takes a coordinator's word on a lease in: the row to store before the connector is asked, and what it is
/// asked. The row never has the value.
pub fn receive_lease(
    held: Option<&ReceivedLease>,
    push: &LeasePush,
    now: Timestamp,
) -> (ReceivedLease, LeaseTask) {
    let unknown = || ReceivedLease {
        lease_id: None,
        host_id: push.host_id.clone(),
        secret_name: push.secret_name.clone(),
        backend_role: None,
        kind: None,
        ttl_seconds: None,
        state: LeaseState::Requested,
        metadata: None,
        requested_at: now,
        received_at: None,
        delivered_at: None,
        expires_at: None,
        held: false,
        last_error: None,
    };
    let held = held.cloned().unwrap_or_else(unknown);
    let row = ReceivedLease {
        lease_id: push.lease_id.or(held.lease_id),
        received_at: Some(now),
        metadata: push.secret_metadata.clone().or_else(|| held.metadata.clone()),
        ..held
    };
    match push.status {
        // Revoked is the last word; a repeat of an older one changes nothing.
        LeaseWord::Issued | LeaseWord::Failed if row.state == LeaseState::Revoked => (row, LeaseTask::None),
        LeaseWord::Failed => {
            let error = push.error.clone().map(|error| clipped(&error));
            (ReceivedLease { state: LeaseState::Failed, last_error: error, ..row }, LeaseTask::None)
        }
        LeaseWord::Revoked => {
            let task = if row.held { LeaseTask::TakeAway } else { LeaseTask::None };
            (ReceivedLease { state: LeaseState::Revoked, last_error: None, ..row }, task)
        }
        LeaseWord::Issued if push.expires_at.is_some_and(|end| end <= now) => {
            let task = if row.held { LeaseTask::TakeAway } else { LeaseTask::None };
            (ReceivedLease { state: LeaseState::Expired, expires_at: push.expires_at, ..row }, task)
        }
        LeaseWord::Issued if push.secret_value.is_none() => {
            let error = Some("the coordinator sent no value".to_owned());
            (ReceivedLease { state: LeaseState::Failed, last_error: error, ..row }, LeaseTask::None)
        }
        // Held from before the connector is asked: what it may have, it must be told to give up.
        LeaseWord::Issued => {
            (ReceivedLease { expires_at: push.expires_at, held: true, ..row }, LeaseTask::Give)
        }
    }
}

/// Notes whether a connector has taken a credential; the row to store.
pub fn lease_given(row: &ReceivedLease, outcome: Result<(), String>, now: Timestamp) -> ReceivedLease {
    if row.state == LeaseState::Revoked {
        return row.clone();
    }
    match outcome {
        Ok(()) => ReceivedLease {
            state: LeaseState::Issued,
            delivered_at: Some(now),
            last_error: None,
            ..row.clone()
        },
        Err(error) => {
            ReceivedLease { state: LeaseState::Failed, last_error: Some(clipped(&error)), ..row.clone() }
        }
    }
}

/// What becomes of a lease when the site leaves: one that is held is taken away, an open request is closed.
/// None when nothing changes.
pub fn forget_lease(row: &ReceivedLease) -> Option<ReceivedLease> {
    if row.held {
        return Some(ReceivedLease { state: LeaseState::Revoked, ..row.clone() });
    }
    (row.state == LeaseState::Requested).then(|| ReceivedLease {
        state: LeaseState::Failed,
        last_error: Some("the site left the federation".to_owned()),
        ..row.clone()
    })
}

/// Whether a connector has to take a credential away now: it was revoked, or its end has come.
pub fn must_take_away(row: &ReceivedLease, now: Timestamp) -> bool {
    let over = row.state == LeaseState::Revoked || row.state == LeaseState::Expired;
    row.held && (over || row.expires_at.is_some_and(|end| end <= now))
}

/// Notes whether a connector has taken a credential away; the row to store.
pub fn lease_taken_away(row: &ReceivedLease, outcome: Result<(), String>) -> ReceivedLease {
    let state = if row.state == LeaseState::Revoked { LeaseState::Revoked } else { LeaseState::Expired };
    match outcome {
        Ok(()) => ReceivedLease { state, held: false, last_error: None, ..row.clone() },
        Err(error) => ReceivedLease { state, last_error: Some(clipped(&error)), ..row.clone() },
    }
}

#[cfg(test)]
mod tests;
