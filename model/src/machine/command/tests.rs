//! The command's life, case by case and against a plain model.

use std::time::Duration;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::machine::delivery::{Delivery, PushKey};
use crate::machine::registry::{self, NewSite};

const NOW: Timestamp = Timestamp::from_secs(1_795_000_000);

fn site(minimum: Option<&str>) -> Site {
    let new = NewSite {
        name: "alpha".to_owned(),
        url: "https://alpha.example.com".to_owned(),
        agent_version_min: minimum.map(str::to_owned),
        ..NewSite::default()
    };
    let site = registry::create(SiteId(Uuid::from_u128(1)), NOW, &new, [1; 32]).unwrap().site;
    Site { status: SiteStatus::Enrolled, ..site }
}

fn reboot() -> NewCommand {
    NewCommand { command_type: " reboot ".to_owned(), ..NewCommand::default() }
}

fn id() -> CommandId {
    CommandId(Uuid::from_u128(7))
}

fn dispatched() -> Command {
    dispatch(id(), NOW, &site(None), None, 0, reboot(), "ada").unwrap().command
}

fn running() -> Command {
    pushed(&dispatched(), NOW, ORDER).command
}

fn word(status: CommandReportStatus, hosts: &[(u128, bool)]) -> CommandReport {
    let results: BTreeMap<String, HostResult> = hosts
        .iter()
        .map(|(host, success)| {
            let result = HostResult { success: *success, detail: "said".to_owned() };
            (HostId(Uuid::from_u128(*host)).to_string(), result)
        })
        .collect();
    CommandReport {
        command_id: id(),
        status,
        host_count: results.len() as u64,
        success_count: results.values().filter(|result| result.success).count() as u64,
        results,
        error: None,
    }
}

fn told(decision: &Decision) -> Vec<&'static str> {
    decision.entries.iter().map(|entry| entry.operation).collect()
}

fn failed(version: u64, refusals: u32, dead: bool) -> Failed {
    Failed { delivery: Delivery { key: PushKey::Command(id()), version, push: 1 }, refusals, dead }
}

#[test]
fn dispatched_command_is_trimmed_and_queued_with_its_entry() {
    let decision = dispatch(id(), NOW, &site(None), None, 0, reboot(), "ada").unwrap();

    assert_eq!(decision.command.command_type, "reboot");
    assert_eq!(decision.command.status, CommandStatus::QueuedAtSite);
    assert_eq!(told(&decision), ["command_dispatched"]);
    assert_eq!(decision.entries[0].details["target_host_count"], Detail::Int(0));
    assert_eq!(wanted(&decision.command), Some(ORDER));
}

#[test]
fn dispatch_refuses_what_no_site_could_carry_out() {
    let refused = |change: &dyn Fn(&mut NewCommand)| {
        let mut new = reboot();
        change(&mut new);
        dispatch(id(), NOW, &site(None), None, 0, new, "ada").unwrap_err()
    };

    assert!(matches!(refused(&|new| new.command_type = "  ".to_owned()), DispatchRefusal::Type(_)));
    assert!(matches!(refused(&|new| new.command_type = "x".repeat(65)), DispatchRefusal::Type(_)));
    assert!(matches!(
        refused(&|new| new.parameters = Some("x".repeat(limits::PARAMETERS_BYTES_MAX + 1))),
        DispatchRefusal::Parameters { .. }
    ));
    assert_eq!(refused(&|new| new.expires_at = Some(NOW)), DispatchRefusal::Expiry);
    assert_eq!(
        refused(&|new| new.expires_at = Some(NOW.after(limits::LIFE_MAX * 2))),
        DispatchRefusal::Expiry
    );
    let suspended = Site { status: SiteStatus::Suspended, ..site(None) };
    assert_eq!(
        dispatch(id(), NOW, &suspended, None, 0, reboot(), "ada"),
        Err(DispatchRefusal::Status(SiteStatus::Suspended))
    );
    assert!(matches!(
        dispatch(id(), NOW, &site(None), None, limits::OPEN_MAX, reboot(), "ada"),
        Err(DispatchRefusal::TooManyOpen { .. })
    ));
}

#[test]
fn site_below_its_least_version_gets_no_command() {
    let try_with = |minimum, reported| dispatch(id(), NOW, &site(Some(minimum)), reported, 0, reboot(), "a");

    for (minimum, reported) in
        [("3.5", Some("3.5.0.1")), ("3.5.0", Some("3.5")), ("3.9", Some("3.10-rc1")), ("v1", Some("2"))]
    {
        assert!(try_with(minimum, reported).is_ok(), "{minimum} {reported:?}");
    }
    for (minimum, reported) in
        [("3.5", Some("3.4.9")), ("3.10", Some("3.9")), ("1", Some("dev")), ("1", None)]
    {
        assert!(
            matches!(try_with(minimum, reported), Err(DispatchRefusal::AgentTooOld { .. })),
            "{minimum} {reported:?}"
        );
    }
}

#[test]
fn result_of_a_queued_command_moves_through_in_progress() {
    let decision =
        report(site(None).id, Some(&dispatched()), NOW, &word(CommandReportStatus::Completed, &[(1, true)]));

    let decision = decision.unwrap();
    assert_eq!(told(&decision), ["command_status_changed"; 2]);
    assert_eq!(decision.command.status, CommandStatus::Completed);
    assert_eq!(decision.command.result_summary.as_deref(), Some("1 of 1 host succeeded"));
    assert_eq!(decision.command.completed_at, Some(NOW));
    assert_eq!(wanted(&decision.command), None);
}

#[test]
fn mixed_outcome_is_partial_whatever_the_site_calls_it() {
    for status in [CommandReportStatus::Completed, CommandReportStatus::Failed] {
        let word = word(status, &[(1, true), (2, false), (3, true)]);

        let decision = report(site(None).id, Some(&running()), NOW, &word).unwrap();

        assert_eq!(decision.command.status, CommandStatus::Partial);
        assert_eq!(decision.command.result_summary.as_deref(), Some("2 of 3 hosts succeeded"));
        assert_eq!(decision.outcomes.unwrap().len(), 3);
    }
    let counts = CommandReport { host_count: 3, success_count: 1, ..word(CommandReportStatus::Failed, &[]) };
    let decision = report(site(None).id, Some(&running()), NOW, &counts).unwrap();
    assert_eq!(decision.command.status, CommandStatus::Partial);
}

#[test]
fn early_failure_tells_its_reason() {
    let word = CommandReport {
        error: Some("no target\u{7} hosts resolved".to_owned()),
        ..word(CommandReportStatus::Failed, &[])
    };

    let decision = report(site(None).id, Some(&running()), NOW, &word).unwrap();

    assert_eq!(decision.command.status, CommandStatus::Failed);
    assert_eq!(decision.command.result_summary.as_deref(), Some("no target  hosts resolved"));
}

#[test]
fn replay_and_another_sites_word_are_refused() {
    let word = word(CommandReportStatus::Completed, &[(1, true)]);
    let ended = report(site(None).id, Some(&running()), NOW, &word).unwrap().command;

    let stranger = SiteId(Uuid::from_u128(2));

    assert_eq!(
        report(site(None).id, Some(&ended), NOW, &word),
        Err(ReportRefusal::Ended(CommandStatus::Completed))
    );
    assert_eq!(report(stranger, Some(&running()), NOW, &word), Err(ReportRefusal::Foreign));
    assert_eq!(report(stranger, None, NOW, &word), Err(ReportRefusal::Unknown));
    assert_eq!(ReportRefusal::Foreign.to_string(), ReportRefusal::Unknown.to_string());
}

#[test]
fn progress_only_grows() {
    let two = word(CommandReportStatus::InProgress, &[(1, true), (2, false)]);
    let one = word(CommandReportStatus::InProgress, &[(1, true)]);

    let after = report(site(None).id, Some(&dispatched()), NOW, &two).unwrap();
    let late = report(site(None).id, Some(&after.command), NOW, &one).unwrap();

    assert_eq!(after.command.status, CommandStatus::InProgress);
    assert_eq!(after.command.progress, Progress { hosts: 2, succeeded: 1, failed: 1 });
    assert!(!late.changes(&after.command));
}

#[test]
fn eight_refusals_kill_and_outages_do_not() {
    let outage = push_failed(&dispatched(), NOW, &failed(ORDER, 0, false), "http error: refused");
    let killed = push_failed(&outage.command, NOW, &failed(ORDER, 8, true), "HTTP 422");

    assert_eq!(outage.command.status, CommandStatus::QueuedAtSite);
    assert_eq!((outage.command.push_attempts, outage.command.push_refusals), (1, 0));
    assert_eq!(outage.command.last_push_error.as_deref(), Some("http error: refused"));
    assert!(outage.entries.is_empty());
    assert_eq!(killed.command.status, CommandStatus::Failed);
    assert_eq!(killed.command.result_summary.as_deref(), Some("Push failed after 8 attempts: HTTP 422"));
}

#[test]
fn attempts_are_forgotten_by_a_success() {
    let tried = push_failed(&dispatched(), NOW, &failed(ORDER, 3, false), "HTTP 422").command;

    let taken = pushed(&tried, NOW, ORDER).command;

    assert_eq!((taken.push_attempts, taken.push_refusals, taken.last_push_error), (0, 0, None));
    assert_eq!(taken.status, CommandStatus::InProgress);
}

#[test]
fn cancelled_before_it_was_sent_it_never_leaves() {
    let decision = cancel(&dispatched(), NOW, true).unwrap();

    assert_eq!(told(&decision), ["command_cancel_requested", "command_status_changed"]);
    assert_eq!(decision.command.status, CommandStatus::Failed);
    assert_eq!(wanted(&decision.command), None);
    assert_eq!(cancel(&decision.command, NOW, true), Err(CancelRefusal(CommandStatus::Failed)));
}

#[test]
fn cancelled_after_it_was_sent_it_ends_by_the_sites_word() {
    let asked = cancel(&dispatched(), NOW, false).unwrap().command;
    assert_eq!((asked.status, wanted(&asked)), (CommandStatus::QueuedAtSite, Some(CANCELLATION)));
    assert!(matches!(content(&asked), Some(PushContent::CancelCommand(_))));

    let told = pushed(&asked, NOW, CANCELLATION).command;
    let word = CommandReport {
        error: Some("cancelled before it started".to_owned()),
        ..word(CommandReportStatus::Failed, &[])
    };
    let ended = report(site(None).id, Some(&told), NOW, &word).unwrap().command;

    assert_eq!((told.status, wanted(&told)), (CommandStatus::InProgress, None));
    assert_eq!(ended.result_summary.as_deref(), Some("cancelled before it started"));
    let repeat = cancel(&asked, NOW, false).unwrap();
    assert!(repeat.entries.is_empty() && !repeat.changes(&asked));
}

#[test]
fn question_is_for_commands_that_the_site_has_confirmed_and_settles_nothing() {
    let confirmed = running();

    assert!(matches!(question(&confirmed), Some(PushContent::AskCommand(_))));
    assert_eq!(pushed(&confirmed, NOW, QUESTION).command, confirmed);
    assert_eq!(question(&dispatched()), None);
    let stopping = cancel(&confirmed, NOW, false).unwrap().command;
    assert_eq!(question(&stopping), None);
}

#[test]
fn expiry_ends_only_what_the_site_cannot_be_running() {
    let at = NOW.after(Duration::from_secs(60));
    let queued = Command { expires_at: Some(at), ..dispatched() };
    let in_progress = Command { expires_at: Some(at), ..running() };
    let late = at.after(limits::EXPIRY_GRACE);

    assert_eq!(expire(&queued, NOW, true), None);
    assert_eq!(expire(&queued, at, false), None);
    assert_eq!(expire(&in_progress, at, false), None);
    let unsent = expire(&queued, at, true).unwrap().command;
    assert_eq!(unsent.result_summary.as_deref(), Some("expired before it reached the site"));
    assert_eq!(expire(&queued, late, false).unwrap().command.status, CommandStatus::Failed);
    let overdue = expire(&in_progress, late, false).unwrap();
    assert_eq!(overdue.command.status, CommandStatus::InProgress);
    assert!(overdue.command.overdue && overdue.entries.is_empty());
    assert_eq!(expire(&overdue.command, late, false), None);
}

#[test]
fn outcomes_keep_hosts_in_order_and_cut_what_is_said() {
    let mut word = word(CommandReportStatus::Completed, &[(2, true), (1, true)]);
    word.results.insert("not-an-id".to_owned(), HostResult { success: true, detail: String::new() });
    word.results.values_mut().for_each(|result| result.detail = "ü".repeat(limits::DETAIL_BYTES_MAX));

    let kept = report(site(None).id, Some(&running()), NOW, &word).unwrap().outcomes.unwrap();

    assert_eq!(kept.iter().map(|outcome| outcome.host_id.0.as_u128()).collect::<Vec<_>>(), [1, 2]);
    assert!(kept.iter().all(|outcome| outcome.detail.len() == limits::DETAIL_BYTES_MAX));
}

/// What may happen to a command.
#[derive(Debug, Clone)]
enum Step {
    Pushed(u64),
    PushFailed { refusals: u32 },
    Cancel { unsent: bool },
    Expire { unsent: bool, after: u64 },
    Abandon,
    Report { final_word: Option<bool>, hosts: Vec<(u128, bool)>, foreign: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1_u64..3).prop_map(Step::Pushed),
        (0_u32..9).prop_map(|refusals| Step::PushFailed { refusals }),
        any::<bool>().prop_map(|unsent| Step::Cancel { unsent }),
        (any::<bool>(), 0_u64..2_000).prop_map(|(unsent, after)| Step::Expire { unsent, after }),
        Just(Step::Abandon),
        (any::<Option<bool>>(), prop::collection::vec((0_u128..6, any::<bool>()), 0..5), any::<bool>())
            .prop_map(|(final_word, hosts, foreign)| Step::Report { final_word, hosts, foreign }),
    ]
}

fn take(command: &Command, step: &Step) -> Option<Decision> {
    match step {
        Step::Pushed(version) => Some(pushed(command, NOW, *version)),
        Step::PushFailed { refusals } => {
            let version = wanted(command).unwrap_or(ORDER);
            Some(push_failed(command, NOW, &failed(version, *refusals, *refusals >= 8), "HTTP 422"))
        }
        Step::Cancel { unsent } => cancel(command, NOW, *unsent).ok(),
        Step::Expire { unsent, after } => expire(command, NOW.after(Duration::from_secs(*after)), *unsent),
        Step::Abandon => Some(abandon(command, NOW)),
        Step::Report { final_word, hosts, foreign } => {
            let status = match final_word {
                None => CommandReportStatus::InProgress,
                Some(true) => CommandReportStatus::Completed,
                Some(false) => CommandReportStatus::Failed,
            };
            let from = SiteId(Uuid::from_u128(if *foreign { 2 } else { 1 }));
            report(from, Some(command), NOW, &word(status, hosts)).ok()
        }
    }
}

proptest! {
    /// The plain model: a table of the transitions that the contract allows, an entry for each of them in
    /// order, an end that nothing moves, and counts that fit together.
    #[test]
    fn only_documented_transitions_happen_and_each_is_told(steps in prop::collection::vec(step(), 0..12)) {
        use CommandStatus::{Completed, Failed, InProgress, Partial, QueuedAtSite};
        let allowed = [
            (QueuedAtSite, InProgress), (QueuedAtSite, Failed),
            (InProgress, Partial), (InProgress, Completed), (InProgress, Failed),
        ];
        let expires_at = Some(NOW.after(Duration::from_secs(600)));
        let mut command = Command { expires_at, ..dispatched() };
        for step in &steps {
            let before = command.clone();
            let Some(decision) = take(&command, step) else { continue };
            let mut at = before.status;
            for entry in decision.entries.iter().filter(|entry| entry.operation == "command_status_changed") {
                let word = |name: &str| {
                    let Detail::Text(text) = &entry.details[name] else { panic!("{name} is no text") };
                    text.parse::<CommandStatus>().unwrap()
                };
                prop_assert_eq!(word("from_status"), at);
                at = word("to_status");
                prop_assert!(allowed.contains(&(word("from_status"), at)));
            }
            command = decision.command.clone();
            prop_assert_eq!(at, command.status);
            if !before.status.is_open() {
                prop_assert!(!decision.changes(&before), "an end is an end: {:?}", step);
            }
            prop_assert_eq!(command.completed_at.is_some(), !command.status.is_open());
            let progress = command.progress;
            prop_assert!(progress.succeeded + progress.failed <= progress.hosts);
            if command.status == Partial {
                prop_assert!(progress.succeeded > 0 && progress.succeeded < progress.hosts);
            }
            prop_assert!(command.status.is_open() || wanted(&command).is_none());
            if let Step::Report { foreign: true, .. } = step {
                prop_assert!(false, "another site's word never decides anything");
            }
        }
    }
}
