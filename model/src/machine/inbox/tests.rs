//! The inbox's decisions against plain models.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::Secret;

const NOW: Timestamp = Timestamp::from_secs(1_795_000_000);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_secs(NOW.as_secs() + seconds)
}

fn command_id(number: u8) -> CommandId {
    CommandId(Uuid::from_u128(number.into()))
}

fn command(number: u8, expires_at: Option<Timestamp>) -> CommandPush {
    CommandPush {
        command_id: command_id(number),
        command_type: "echo".to_owned(),
        parameters: "{}".to_owned(),
        target_host_ids: Vec::new(),
        expires_at,
    }
}

fn policy(version: u32) -> PolicyPush {
    PolicyPush {
        policy_id: PolicyId(Uuid::from_u128(1)),
        policy_type: "echo".to_owned(),
        name: "p".to_owned(),
        definition: format!("{{\"version\":{version}}}"),
        version,
    }
}

fn withdrawal(version: u32) -> PolicyWithdrawal {
    PolicyWithdrawal { policy_id: PolicyId(Uuid::from_u128(1)), version }
}

fn lease(status: LeaseWord, expires_at: Option<Timestamp>) -> LeasePush {
    LeasePush {
        lease_id: None,
        correlation_key: "0".repeat(32),
        host_id: "h".to_owned(),
        secret_name: "db".to_owned(),
        status,
        secret_metadata: None,
        secret_value: (status == LeaseWord::Issued).then(|| Secret::new("value".to_owned())),
        error: None,
        expires_at,
    }
}

fn kept(step: CommandStep) -> ReceivedCommand {
    let CommandStep::Keep(row) = step else { panic!("not kept: {step:?}") };
    row
}

fn ended(step: CommandStep) -> (ReceivedCommand, CommandReport) {
    let CommandStep::End(row, report) = step else { panic!("not ended: {step:?}") };
    (row, report)
}

#[test]
fn expired_command_fails_without_a_start() {
    let (late, report) = ended(receive_command(Memory::Unknown, &command(1, Some(NOW)), NOW, 1));
    let waiting = kept(receive_command(Memory::Unknown, &command(2, Some(at(5))), NOW, 2));
    let (over, _) = ended(begin(command_id(2), &waiting, true, at(5)));

    assert_eq!((late.state, over.state), (CommandState::Failed, CommandState::Failed));
    assert_eq!(report.error.as_deref(), Some(EXPIRED));
}

#[test]
fn command_of_an_undeclared_kind_fails_and_says_so() {
    let queued = kept(receive_command(Memory::Unknown, &command(1, None), NOW, 1));

    let (_, report) = ended(begin(command_id(1), &queued, false, NOW));

    assert!(report.error.unwrap().contains("command:echo"));
}

#[test]
fn command_that_comes_after_its_cancellation_is_not_started() {
    let (cancelled, report) = ended(cancel_command(Memory::Unknown, command_id(1), NOW, 1));

    assert_eq!(report.error.as_deref(), Some(CANCELLED));
    assert_eq!(
        receive_command(Memory::Held(&cancelled), &command(1, None), NOW, 2),
        CommandStep::Repeat(report)
    );
}

#[test]
fn command_that_has_ended_is_reported_again_and_not_run_again() {
    let queued = kept(receive_command(Memory::Unknown, &command(1, None), NOW, 1));
    let running = kept(begin(command_id(1), &queued, true, NOW));
    let one = BTreeMap::from([("h".to_owned(), HostResult { success: true, detail: String::new() })]);
    let (over, said) = ended(finish(&running, report(command_id(1), 1, one, None), NOW));

    let repeat = receive_command(Memory::Held(&over), &command(1, None), at(9), 2);
    let answer = asked_about(Memory::Held(&over), command_id(1), at(9), 2);

    assert_eq!([repeat, answer], [CommandStep::Repeat(said.clone()), CommandStep::Repeat(said)]);
    assert_eq!(asked_about(Memory::Held(&running), command_id(1), NOW, 2), CommandStep::Nothing);
}

#[test]
fn command_that_the_disk_has_forgotten_is_never_run_once_it_was_asked_for() {
    let (lost, report) = ended(asked_about(Memory::Unknown, command_id(1), NOW, 1));

    assert_eq!(report.error.as_deref(), Some(LOST));
    assert!(matches!(
        receive_command(Memory::Held(&lost), &command(1, None), NOW, 2),
        CommandStep::Repeat(_)
    ));
    assert!(matches!(asked_about(Memory::Spent, command_id(2), NOW, 3), CommandStep::Repeat(_)));
}

#[test]
fn refreshed_command_keeps_its_state_and_its_targets() {
    let host = crate::HostId(Uuid::from_u128(9));
    let push = CommandPush { target_host_ids: vec![host], ..command(1, None) };
    let held = kept(receive_command(Memory::Unknown, &push, NOW, 1));
    let running = kept(begin(command_id(1), &held, true, NOW));
    let news = CommandPush { parameters: "{\"a\":1}".to_owned(), ..command(1, None) };

    let row = kept(receive_command(Memory::Held(&running), &news, at(1), 7));

    assert_eq!((row.state, row.order, row.received_at), (CommandState::InProgress, 1, NOW));
    assert_eq!((row.parameters.as_str(), row.target_host_ids), ("{\"a\":1}", vec![host]));
}

#[test]
fn lost_run_ends_with_what_was_known_of_it() {
    let queued = kept(receive_command(Memory::Unknown, &command(1, None), NOW, 1));
    let running = kept(begin(command_id(1), &queued, true, NOW));
    let one = BTreeMap::from([("h".to_owned(), HostResult { success: true, detail: String::new() })]);
    let so_far = progressed(&running, &report(command_id(1), 2, one, None)).unwrap();

    let (row, report) = ended(abandon(command_id(1), &so_far, at(1)));

    assert_eq!((row.state, report.status), (CommandState::Failed, CommandReportStatus::Failed));
    assert_eq!((report.success_count, report.host_count), (1, 2));
    assert_eq!(report.error.as_deref(), Some(UNKNOWN_OUTCOME));
}

#[test]
fn version_that_says_something_else_takes_the_place_of_the_one_held() {
    let PolicyStep::Keep(row) = receive_policy(None, &policy(1), NOW, 1) else { panic!("not kept") };
    let other = PolicyPush { definition: "{\"other\":1}".to_owned(), ..policy(1) };

    let PolicyStep::Keep(next) = receive_policy(Some(&row), &other, NOW, 2) else { panic!("not kept") };

    assert_eq!((next.definition, next.applied_at), (other.definition, None));
}

#[test]
fn failing_policy_is_reported_once_for_each_reason_and_retried_later() {
    let PolicyStep::Keep(row) = receive_policy(None, &policy(1), NOW, 1) else { panic!("not kept") };
    let id = policy(1).policy_id;
    let tried = (1, PolicyWish::Apply);
    let fail = |row: &ReceivedPolicy, why: &str, now| {
        policy_tried(row, id, tried, Err(why.to_owned()), now).unwrap()
    };

    let (once, first) = fail(&row, "a", NOW);
    let (twice, second) = fail(&once, "a", at(20));
    let (_, third) = fail(&twice, "b", at(60));

    assert_eq!(policy_due(&row, 0), Some(NOW));
    assert!(policy_due(&once, u64::MAX / 2).unwrap() > at(5));
    assert_eq!(first.and_then(|report| report.error), Some("a".to_owned()));
    assert_eq!((second, twice.failures), (None, 2));
    assert!(third.is_some());
    let PolicyStep::Keep(again) = receive_policy(Some(&twice), &policy(1), at(61), 2) else { panic!() };
    assert_eq!(policy_due(&again, 0), Some(NOW), "a repeat by hand is tried at once");
}

#[test]
fn try_of_an_older_version_says_nothing_about_the_newer() {
    let PolicyStep::Keep(row) = receive_policy(None, &policy(2), NOW, 1) else { panic!("not kept") };

    assert_eq!(policy_tried(&row, policy(1).policy_id, (1, PolicyWish::Apply), Ok(()), NOW), None);
}

#[test]
fn credential_is_held_before_the_connector_is_asked_and_until_it_gave_it_up() {
    let (row, task) = receive_lease(None, &lease(LeaseWord::Issued, Some(at(10))), NOW);
    assert_eq!((row.held, task), (true, LeaseTask::Give));
    let given = lease_given(&row, Ok(()), NOW);
    assert_eq!(given.state, LeaseState::Issued);
    assert!(!must_take_away(&given, at(9)) && must_take_away(&given, at(10)));
    let stuck = lease_taken_away(&given, Err("busy".to_owned()));
    assert!(must_take_away(&stuck, at(11)));
    let gone = lease_taken_away(&stuck, Ok(()));
    assert_eq!((gone.state, gone.held), (LeaseState::Expired, false));

    let (revoked, task) = receive_lease(Some(&given), &lease(LeaseWord::Revoked, None), at(1));
    assert_eq!(task, LeaseTask::TakeAway);
    let (late, task) = receive_lease(Some(&revoked), &lease(LeaseWord::Issued, None), at(2));
    assert_eq!((late.state, task), (LeaseState::Revoked, LeaseTask::None));
    assert_eq!(lease_taken_away(&late, Ok(())).state, LeaseState::Revoked);
}

#[derive(Debug, Clone)]
enum Act {
    Receive(u8, Option<i64>),
    Cancel(u8),
    Ask(u8),
    Begin(u8, bool),
    Finish(u8, bool),
    Restart,
    Prune,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let id = 0_u8..4;
    let act = prop_oneof![
        4 => (id.clone(), proptest::option::of(0_i64..40)).prop_map(|(id, end)| Act::Receive(id, end)),
        2 => id.clone().prop_map(Act::Cancel),
        1 => id.clone().prop_map(Act::Ask),
        4 => (id.clone(), any::<bool>()).prop_map(|(id, served)| Act::Begin(id, served)),
        3 => (id, any::<bool>()).prop_map(|(id, good)| Act::Finish(id, good)),
        1 => Just(Act::Restart),
        1 => Just(Act::Prune),
    ];
    proptest::collection::vec(act, 0..80)
}

proptest! {
    /// However commands, cancellations, restarts and clearings come: each is started at most once, ends once,
    /// and stays as it ended.
    #[test]
    fn command_is_started_at_most_once_for_ever(acts in acts()) {
        let mut rows: BTreeMap<u8, ReceivedCommand> = BTreeMap::new();
        let mut spent: Vec<u8> = Vec::new();
        let mut starts = [0_u8; 4];
        let mut ends = [0_u8; 4];
        for (step, act) in acts.into_iter().enumerate() {
            let now = at(i64::try_from(step).unwrap());
            let memory = |id: u8| match rows.get(&id) {
                Some(row) => Memory::Held(row),
                None if spent.contains(&id) => Memory::Spent,
                None => Memory::Unknown,
            };
            let order = step as u64;
            let (id, outcome) = match act {
                Act::Receive(id, end) => (id, receive_command(memory(id), &command(id, end.map(at)), now, order)),
                Act::Cancel(id) => (id, cancel_command(memory(id), command_id(id), now, order)),
                Act::Ask(id) => (id, asked_about(memory(id), command_id(id), now, order)),
                Act::Begin(id, served) => {
                    let Some(row) = rows.get(&id) else { continue };
                    let outcome = begin(command_id(id), row, served, now);
                    if let CommandStep::Keep(next) = &outcome {
                        prop_assert_eq!(next.state, CommandState::InProgress);
                        prop_assert!(!is_expired(next, now) && served);
                        starts[usize::from(id)] += 1;
                    }
                    (id, outcome)
                }
                Act::Finish(id, good) => {
                    let Some(row) = rows.get(&id) else { continue };
                    let error = (!good).then(|| "failed".to_owned());
                    (id, finish(row, report(command_id(id), 0, BTreeMap::new(), error), now))
                }
                Act::Restart => {
                    for (id, row) in &mut rows {
                        if let CommandStep::End(next, _) = abandon(command_id(*id), row, now) {
                            ends[usize::from(*id)] += 1;
                            *row = next;
                        }
                    }
                    continue;
                }
                Act::Prune => {
                    spent.extend(rows.iter().filter(|(_, row)| row.state.is_terminal()).map(|(id, _)| *id));
                    rows.retain(|_, row| !row.state.is_terminal());
                    continue;
                }
            };
            match outcome {
                CommandStep::Nothing | CommandStep::Repeat(_) => {}
                CommandStep::Keep(row) => {
                    prop_assert!(!row.state.is_terminal());
                    rows.insert(id, row);
                }
                CommandStep::End(row, report) => {
                    prop_assert!(row.state.is_terminal() && report.status != CommandReportStatus::InProgress);
                    ends[usize::from(id)] += 1;
                    rows.insert(id, row);
                }
            }
        }
        prop_assert!(starts.iter().chain(&ends).all(|count| *count <= 1), "{:?} {:?}", starts, ends);
    }

    /// The row is what the newest word says: of two words on one version the later one.
    #[test]
    fn newest_word_on_a_policy_wins(words in proptest::collection::vec((1_u32..6, any::<bool>()), 1..30)) {
        let mut row: Option<ReceivedPolicy> = None;
        let mut newest: Option<(u32, bool)> = None;
        for (order, (version, wanted)) in words.into_iter().enumerate() {
            let order = order as u64;
            let next = if wanted {
                match receive_policy(row.as_ref(), &policy(version), NOW, order) {
                    PolicyStep::Keep(row) => Some(row),
                    PolicyStep::Nothing | PolicyStep::Repeat(_) => None,
                }
            } else {
                withdraw_policy(row.as_ref(), &withdrawal(version), NOW, order)
            };
            row = next.or(row);
            if newest.is_none_or(|(newest, _)| version >= newest) {
                newest = Some((version, wanted));
            }
            let held = row.as_ref().unwrap();
            prop_assert_eq!(Some((held.version, held.wish == PolicyWish::Apply)), newest);
        }
    }
}
