//! The life of a command at its coordinator: dispatched, pushed, cancelled, expired, reported (contract 5).
//!
//! A command leaves `queued_at_site` when the site has it on its disk, and ends by the site's own word. What
//! the coordinator ends by itself is only what the site cannot have started, or will not start any more.

use std::collections::BTreeMap;

use crate::audit::Detail;
use crate::command::{Command, CommandStatus, HostOutcome, NewCommand, Progress};
use crate::id::CommandId;
use crate::limits::command as limits;
use crate::machine::delivery::Failed;
use crate::machine::registry::Entry;
use crate::push::{CommandCancel, CommandPush, CommandQuestion, PushContent};
use crate::report::{CommandReport, CommandReportStatus, HostResult};
use crate::site::{InvalidSite, Site, SiteStatus, required_text};
use crate::{HostId, SiteId, Timestamp};

/// Version of a delivery that brings the command itself.
pub const ORDER: u64 = 1;
/// Version of a delivery that brings its cancellation, and takes the place of the other.
pub const CANCELLATION: u64 = 2;
/// Version of a delivery that asks what became of a command that the site has confirmed. It settles nothing:
/// the answer is the site's report.
pub const QUESTION: u64 = 3;

/// What should happen to a command.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The row after the change.
    pub command: Command,
    /// What the audit log is told, in order; empty for what is not worth an entry.
    pub entries: Vec<Entry>,
    /// The outcomes by host, in place of those that are stored; none keeps them.
    pub outcomes: Option<Vec<HostOutcome>>,
}

impl Decision {
    const fn quiet(command: Command) -> Self {
        Self { command, entries: Vec::new(), outcomes: None }
    }

    /// Whether there is anything to store.
    pub fn changes(&self, before: &Command) -> bool {
        self.outcomes.is_some() || self.command != *before
    }

    /// Moves on to `status`, with the entry that tells of it.
    fn move_to(&mut self, status: CommandStatus, now: Timestamp) {
        let from = self.command.status;
        if from == status {
            return;
        }
        self.command.status = status;
        if !status.is_open() {
            self.command.completed_at = Some(now);
        }
        self.entries.push(Entry::new(
            "command_status_changed",
            [
                ("command_id", id_detail(self.command.id)),
                ("from_status", from.as_str().into()),
                ("to_status", status.as_str().into()),
            ],
        ));
    }

    fn fail(&mut self, now: Timestamp, summary: String) {
        self.command.result_summary = Some(summary);
        self.move_to(CommandStatus::Failed, now);
    }
}

/// A command that is not dispatched.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DispatchRefusal {
    /// `command_type` is bad. Fix the request.
    #[error(transparent)]
    Type(#[from] InvalidSite),
    /// The parameters are too long. Fix the request.
    #[error("parameters have more than {bytes_max} bytes as JSON")]
    Parameters {
        /// The bound.
        bytes_max: usize,
    },
    /// Too many hosts. Fix the request.
    #[error("target_host_ids names more than {max} hosts: leave it out to mean all hosts of the site")]
    TooManyHosts {
        /// The bound.
        max: usize,
    },
    /// The expiry is not in the future, or too far in it. Fix the request.
    #[error("expires_at must lie in the future, at most 30 days away")]
    Expiry,
    /// The site is not enrolled. Nothing to retry until it is.
    #[error("the site is {0}: commands go to enrolled sites only")]
    Status(SiteStatus),
    /// The site's software is older than its row asks for. Upgrade it, or lower `agent_version_min`.
    #[error(
        "the site runs {}, below its agent_version_min {minimum}: upgrade the site, or lower the minimum",
        .reported.as_deref().unwrap_or("a version that it has not told yet")
    )]
    AgentTooOld {
        /// What the site's row asks for.
        minimum: String,
        /// What the site last said that it runs.
        reported: Option<String>,
    },
    /// The site has too many open commands. Wait for some to end, or cancel them.
    #[error("the site has {max} open commands already: wait for them, or cancel some")]
    TooManyOpen {
        /// The bound.
        max: usize,
    },
}

/// Decides on a new command for a site.
///
/// # Errors
/// See [`DispatchRefusal`].
pub fn dispatch(
    id: CommandId,
    now: Timestamp,
    site: &Site,
    reported_version: Option<&str>,
    open: usize,
    new: NewCommand,
    dispatched_by: &str,
) -> Result<Decision, DispatchRefusal> {
    let command_type = required_text("command_type", &new.command_type, limits::TYPE_BYTES_MAX)?;
    if new.parameters.as_ref().is_some_and(|text| text.len() > limits::PARAMETERS_BYTES_MAX) {
        return Err(DispatchRefusal::Parameters { bytes_max: limits::PARAMETERS_BYTES_MAX });
    }
    let target_host_ids = distinct(new.target_host_ids);
    if target_host_ids.len() > limits::HOSTS_MAX {
        return Err(DispatchRefusal::TooManyHosts { max: limits::HOSTS_MAX });
    }
    if new.expires_at.is_some_and(|at| at <= now || at > now.after(limits::LIFE_MAX)) {
        return Err(DispatchRefusal::Expiry);
    }
    may_dispatch(site, reported_version, open)?;
    let command = Command {
        id,
        command_type,
        parameters: new.parameters,
        target_site_id: site.id,
        target_host_ids,
        dispatched_by: dispatched_by.to_owned(),
        dispatched_at: now,
        status: CommandStatus::QueuedAtSite,
        result_summary: None,
        completed_at: None,
        push_attempts: 0,
        last_push_attempt_at: None,
        last_push_error: None,
        push_refusals: 0,
        expires_at: new.expires_at,
        cancel_requested_at: None,
        cancel_settled: false,
        overdue: false,
        progress: Progress::default(),
    };
    let entry = Entry::new(
        "command_dispatched",
        [
            ("command_id", id_detail(id)),
            ("command_type", command.command_type.as_str().into()),
            ("target_host_count", count_detail(command.target_host_ids.len())),
        ],
    );
    Ok(Decision { command, entries: vec![entry], outcomes: None })
}

/// Whether a site takes commands now.
///
/// # Errors
/// See [`DispatchRefusal`].
pub fn may_dispatch(site: &Site, reported_version: Option<&str>, open: usize) -> Result<(), DispatchRefusal> {
    if site.status != SiteStatus::Enrolled {
        return Err(DispatchRefusal::Status(site.status));
    }
    if let Some(minimum) = &site.agent_version_min
        && !reported_version.is_some_and(|version| is_at_least(version, minimum))
    {
        let reported = reported_version.map(str::to_owned);
        return Err(DispatchRefusal::AgentTooOld { minimum: minimum.clone(), reported });
    }
    if open >= limits::OPEN_MAX {
        return Err(DispatchRefusal::TooManyOpen { max: limits::OPEN_MAX });
    }
    Ok(())
}

/// Compares versions number by number; a missing number is zero, and what follows the numbers is left out.
fn is_at_least(version: &str, minimum: &str) -> bool {
    let numbers = |text: &str| -> Vec<u64> {
        let text = text.trim().trim_start_matches(['v', 'V']);
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let mut numbers: Vec<u64> =
            text[..end].split('.').map(|number| number.parse().unwrap_or(0)).collect();
        while numbers.last() == Some(&0) {
            numbers.pop();
        }
        numbers
    };
    numbers(version) >= numbers(minimum)
}

fn distinct(mut hosts: Vec<HostId>) -> Vec<HostId> {
    let mut seen = std::collections::BTreeSet::new();
    hosts.retain(|host| seen.insert(*host));
    hosts
}

/// The version of the delivery that the site is still owed; none when it has been told all.
pub fn wanted(command: &Command) -> Option<u64> {
    match (command.status, command.cancel_requested_at) {
        (CommandStatus::QueuedAtSite | CommandStatus::InProgress, Some(_)) if !command.cancel_settled => {
            Some(CANCELLATION)
        }
        (CommandStatus::QueuedAtSite, None) => Some(ORDER),
        (
            CommandStatus::QueuedAtSite
            | CommandStatus::InProgress
            | CommandStatus::Partial
            | CommandStatus::Completed
            | CommandStatus::Failed,
            _,
        ) => None,
    }
}

/// What the site is told now.
pub fn content(command: &Command) -> Option<PushContent> {
    match wanted(command)? {
        CANCELLATION => Some(PushContent::CancelCommand(CommandCancel { command_id: command.id })),
        _ => Some(PushContent::Command(CommandPush {
            command_id: command.id,
            command_type: command.command_type.clone(),
            parameters: command.parameters.clone().unwrap_or_else(|| "{}".to_owned()),
            target_host_ids: command.target_host_ids.clone(),
            expires_at: command.expires_at,
        })),
    }
}

/// The question about a command that the site has confirmed and not reported the end of. Asked over each new
/// link: after either side's disk went back to an older state nothing else would end the command.
pub fn question(command: &Command) -> Option<PushContent> {
    let asks = command.status == CommandStatus::InProgress && wanted(command).is_none();
    asks.then_some(PushContent::AskCommand(CommandQuestion { command_id: command.id }))
}

/// The site has the delivery of this version on its disk.
pub fn pushed(command: &Command, now: Timestamp, version: u64) -> Decision {
    let mut decision = Decision::quiet(command.clone());
    if !command.status.is_open() || version == QUESTION {
        return decision;
    }
    let next = &mut decision.command;
    next.push_attempts = 0;
    next.push_refusals = 0;
    next.last_push_attempt_at = Some(now);
    next.last_push_error = None;
    next.cancel_settled |= version == CANCELLATION;
    if command.status == CommandStatus::QueuedAtSite {
        // A site that takes a cancellation answers for the command, whether or not it had it before.
        decision.move_to(CommandStatus::InProgress, now);
    }
    decision
}

/// A push failed; see [`Failed`]. An outage waits, eight refusals for good end it.
pub fn push_failed(command: &Command, now: Timestamp, failed: &Failed, error: &str) -> Decision {
    let mut decision = Decision::quiet(command.clone());
    if !command.status.is_open() {
        return decision;
    }
    let error = cut(error, limits::SUMMARY_BYTES_MAX);
    let next = &mut decision.command;
    next.push_attempts = next.push_attempts.saturating_add(1);
    next.push_refusals = failed.refusals;
    next.last_push_attempt_at = Some(now);
    next.last_push_error = Some(error.clone());
    if failed.dead {
        next.cancel_settled |= failed.delivery.version == CANCELLATION;
        if command.status == CommandStatus::QueuedAtSite {
            let summary = format!("Push failed after {} attempts: {error}", failed.refusals);
            decision.fail(now, summary);
        }
    }
    decision
}

/// A command that cannot be cancelled any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the command is {0} already: there is nothing left to cancel")]
pub struct CancelRefusal(pub CommandStatus);

/// An operator wants a command stopped. `unsent` says that the site cannot have heard of it; a repeat
/// changes nothing.
///
/// # Errors
/// It has ended.
pub fn cancel(command: &Command, now: Timestamp, unsent: bool) -> Result<Decision, CancelRefusal> {
    if !command.status.is_open() {
        return Err(CancelRefusal(command.status));
    }
    let mut decision = Decision::quiet(command.clone());
    if command.cancel_requested_at.is_some() {
        return Ok(decision);
    }
    decision.command.cancel_requested_at = Some(now);
    // The cancellation is another push, with tries of its own.
    decision.command.push_attempts = 0;
    decision.command.push_refusals = 0;
    let details = [("command_id", id_detail(command.id))];
    decision.entries.push(Entry::new("command_cancel_requested", details));
    if unsent && command.status == CommandStatus::QueuedAtSite {
        decision.command.cancel_settled = true;
        decision.fail(now, "cancelled before it reached the site".to_owned());
    }
    Ok(decision)
}

/// What the passing of time does to an open command; none is nothing. See [`cancel`] for `unsent`.
pub fn expire(command: &Command, now: Timestamp, unsent: bool) -> Option<Decision> {
    let expired = command.expires_at.is_some_and(|at| at <= now);
    let long_expired = command.expires_at.is_some_and(|at| at.after(limits::EXPIRY_GRACE) <= now);
    let mut decision = Decision::quiet(command.clone());
    match command.status {
        CommandStatus::QueuedAtSite if expired && unsent => {
            decision.fail(now, "expired before it reached the site".to_owned());
        }
        CommandStatus::QueuedAtSite if long_expired => {
            let summary = "expired: the site has not confirmed it, and does not start it any more";
            decision.fail(now, summary.to_owned());
        }
        CommandStatus::InProgress if long_expired && !command.overdue => {
            decision.command.overdue = true;
            decision.command.result_summary =
                Some("past its expiry, and the site has not reported an end".to_owned());
        }
        CommandStatus::QueuedAtSite
        | CommandStatus::InProgress
        | CommandStatus::Partial
        | CommandStatus::Completed
        | CommandStatus::Failed => return None,
    }
    Some(decision)
}

/// The site has left the federation: nobody will say any more what became of the command.
pub fn abandon(command: &Command, now: Timestamp) -> Decision {
    let mut decision = Decision::quiet(command.clone());
    if command.status.is_open() {
        decision.fail(now, "the site was removed before it reported a result".to_owned());
    }
    decision
}

/// A site's word on a command that does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReportRefusal {
    /// Nobody dispatched it here.
    #[error("there is no such command of this site")]
    Unknown,
    /// It is another site's. The site is told the same as of an unknown one; the audit log knows better.
    #[error("there is no such command of this site")]
    Foreign,
    /// It has ended; most often a replay.
    #[error("the command is {0} already")]
    Ended(CommandStatus),
}

/// A site says how a command goes (contract 5.4). `command` is the stored row of the id that it names.
///
/// # Errors
/// See [`ReportRefusal`]; nothing changes.
pub fn report(
    site: SiteId,
    command: Option<&Command>,
    now: Timestamp,
    report: &CommandReport,
) -> Result<Decision, ReportRefusal> {
    let command = command.ok_or(ReportRefusal::Unknown)?;
    if command.target_site_id != site {
        return Err(ReportRefusal::Foreign);
    }
    if !command.status.is_open() {
        return Err(ReportRefusal::Ended(command.status));
    }
    let mut decision = Decision::quiet(command.clone());
    decision.move_to(CommandStatus::InProgress, now);
    let progress = progress(report);
    let news = told(&progress) > told(&command.progress)
        || (told(&progress) == told(&command.progress) && progress.hosts > command.progress.hosts);
    if report.status == CommandReportStatus::InProgress {
        // Words may overtake each other: only one that says more counts.
        if news {
            decision.command.progress = progress;
            decision.outcomes = outcomes(&report.results);
        }
        return Ok(decision);
    }
    if progress != Progress::default() {
        decision.command.progress = progress;
    }
    decision.outcomes = outcomes(&report.results);
    decision.command.result_summary = Some(summary(command, &progress, report));
    decision.move_to(outcome(&progress, report), now);
    Ok(decision)
}

/// Whether a command ended before this instant, so that it is forgotten.
pub fn is_forgotten(command: &Command, before: Timestamp) -> bool {
    !command.status.is_open() && command.completed_at.is_some_and(|at| at < before)
}

const fn told(progress: &Progress) -> u64 {
    progress.succeeded.saturating_add(progress.failed)
}

/// The counts of a report. Where it names hosts, they are what counts.
fn progress(report: &CommandReport) -> Progress {
    let named = report.results.len() as u64;
    let hosts = report.host_count.max(named);
    if named > 0 {
        let succeeded = report.results.values().filter(|result| result.success).count() as u64;
        return Progress { hosts, succeeded, failed: named - succeeded };
    }
    let succeeded = report.success_count.min(hosts);
    let failed = if report.status == CommandReportStatus::Failed { hosts - succeeded } else { 0 };
    Progress { hosts, succeeded, failed }
}

fn outcome(progress: &Progress, report: &CommandReport) -> CommandStatus {
    if progress.succeeded > 0 && progress.succeeded < progress.hosts {
        return CommandStatus::Partial;
    }
    let all_failed = progress.hosts > 0 && progress.failed == progress.hosts;
    match report.status {
        CommandReportStatus::Completed if !all_failed => CommandStatus::Completed,
        CommandReportStatus::Completed | CommandReportStatus::Failed | CommandReportStatus::InProgress => {
            CommandStatus::Failed
        }
    }
}

fn summary(command: &Command, progress: &Progress, report: &CommandReport) -> String {
    let told = match (&report.error, progress.hosts) {
        (Some(error), _) => error.clone(),
        (None, 0) if report.status == CommandReportStatus::Completed => "completed".to_owned(),
        (None, 0) => "failed, the site does not say why".to_owned(),
        (None, 1) => format!("{} of 1 host succeeded", progress.succeeded),
        (None, hosts) => format!("{} of {hosts} hosts succeeded", progress.succeeded),
    };
    let stopped = command.cancel_requested_at.is_some() && report.status == CommandReportStatus::Failed;
    let told = if stopped && !told.starts_with("cancel") { format!("cancelled: {told}") } else { told };
    cut(&told, limits::SUMMARY_BYTES_MAX)
}

/// What is kept of the outcomes; none when the report has none. A key that is no host's id is left out.
fn outcomes(results: &BTreeMap<String, HostResult>) -> Option<Vec<HostOutcome>> {
    let kept = results.iter().filter_map(|(host, result)| {
        let host_id = host.parse().ok()?;
        let detail = cut(&result.detail, limits::DETAIL_BYTES_MAX);
        Some(HostOutcome { host_id, success: result.success, detail })
    });
    let mut kept: Vec<HostOutcome> = kept.take(limits::OUTCOMES_MAX).collect();
    kept.sort_by_key(|outcome| outcome.host_id);
    kept.dedup_by_key(|outcome| outcome.host_id);
    (!kept.is_empty()).then_some(kept)
}

/// A stranger's text, at most so long, without control characters but line ends.
fn cut(text: &str, bytes_max: usize) -> String {
    let end = text.floor_char_boundary(bytes_max.min(text.len()));
    text[..end].chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { ' ' } else { c }).collect()
}

fn id_detail(id: CommandId) -> Detail {
    Detail::Text(id.to_string())
}

fn count_detail(count: usize) -> Detail {
    Detail::Int(i64::try_from(count).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
