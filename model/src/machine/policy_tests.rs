//! The life of policies and assignments, against plain models.

use proptest::prelude::*;
use serde_json::json;
use uuid::Uuid;

use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_000);
const ID: PolicyId = PolicyId(Uuid::from_u128(7));

fn policy() -> Policy {
    let new = NewPolicy {
        policy_type: " firewall_role ".to_owned(),
        name: "web".to_owned(),
        description: None,
        definition: json!({ "b": 1, "a": [2] }),
    };
    create(ID, NOW, &new, "ada").unwrap().policy
}

fn edited(policy: &Policy, number: u32) -> Policy {
    let change = PolicyPatch { definition: Some(json!({ "n": number })), ..PolicyPatch::default() };
    patch(ID, policy, NOW, &change, false).unwrap().policy
}

fn report(version: u32, error: Option<&str>) -> PolicyReport {
    PolicyReport {
        policy_id: ID,
        version,
        applied: error.is_none(),
        error: error.map(str::to_owned),
        at: Timestamp::from_secs(2_000),
    }
}

fn take(policy: &Policy, row: &Assignment) -> Assignment {
    let told = Told::now(policy, row).unwrap();
    pushed(ID, row, told, NOW).unwrap().row.unwrap()
}

#[test]
fn site_whose_disk_went_back_is_told_again() {
    let policy = policy();
    let row = assign(None, &policy, NOW, "kim", false);
    let told = Told::now(&policy, &row).unwrap();
    let row = pushed(ID, &row, told, NOW).unwrap().row.unwrap();
    let row = Assignment { push_status: PushStatus::Acknowledged, applied_version: Some(1), ..row };
    let held = |version, wanted| HeldPolicy { policy_id: ID, version, wanted };

    assert_eq!(differs(&policy, &row, Some(&held(1, true))), None);
    for there in [None, Some(held(1, false))] {
        let next = differs(&policy, &row, there.as_ref()).unwrap();
        assert_eq!((due(&policy, &next), next.applied_version), (Due::Push, None));
    }
    let gone = Assignment { withdrawn_at: Some(NOW), ..row };
    let over = Policy { is_active: false, ..policy };
    assert_eq!(differs(&over, &gone, Some(&held(1, false))), None);
    let next = differs(&over, &gone, Some(&held(1, true))).unwrap();
    assert_eq!(due(&over, &next), Due::Withdrawal);
}

#[test]
fn coordinator_whose_disk_went_back_goes_on_above_what_its_sites_have() {
    let policy = policy();

    assert_eq!(outnumbered(ID, &policy, policy.version, NOW), None);
    let next = outnumbered(ID, &policy, 7, NOW).unwrap();

    assert_eq!((next.policy.version, next.policy.definition), (8, policy.definition));
}

#[test]
fn site_that_claims_more_versions_than_can_be_lost_is_not_believed() {
    let policy = policy();
    let most = policy.version + limits::VERSIONS_LOST_MAX;

    assert!(outnumbered(ID, &policy, most, NOW).is_some());
    assert_eq!(outnumbered(ID, &policy, most + 1, NOW), None);
    assert_eq!(outnumbered(ID, &policy, u32::MAX, NOW), None);
}

#[test]
fn policy_begins_active_at_version_one() {
    let policy = policy();

    assert_eq!((policy.policy_type.as_str(), policy.version, policy.is_active), ("firewall_role", 1, true));
    assert_eq!(policy.definition, r#"{"a":[2],"b":1}"#);
}

#[test]
fn version_rises_only_with_a_real_change() {
    let policy = policy();
    let same = PolicyPatch {
        name: Some(" web ".to_owned()),
        description: Some(None),
        definition: Some(serde_json::from_str(r#"{"a":[2],"b":1}"#).unwrap()),
    };
    let other = PolicyPatch {
        name: Some("www".to_owned()),
        description: Some(Some("text".to_owned())),
        definition: None,
    };

    let unchanged = patch(ID, &policy, NOW, &same, true).unwrap();
    let changed = patch(ID, &policy, NOW, &other, false).unwrap();

    assert_eq!((&unchanged.policy, unchanged.entry), (&policy, None));
    assert_eq!(changed.policy.version, 2);
    let entry = changed.entry.unwrap();
    assert_eq!(entry.operation, "policy_updated");
    assert_eq!(entry.details["new_version"], Detail::Int(2));
    assert_eq!(entry.details["changes"], Detail::List(vec!["name".into(), "description".into()]));
}

#[test]
fn deactivation_happens_once_and_ends_changes() {
    let once = deactivate(ID, &policy(), NOW);
    let twice = deactivate(ID, &once.policy, NOW);

    assert!(once.entry.is_some() && twice.entry.is_none());
    let refused = patch(ID, &once.policy, NOW, &PolicyPatch::default(), false);
    assert_eq!(refused, Err(PolicyRejection::Inactive));
}

#[test]
fn assignment_is_acknowledged_when_the_pushed_version_is_the_one_in_force() {
    let first = policy();
    let row = take(&first, &assign(None, &first, NOW, "ada", false));
    let acknowledged = reported(ID, &first, &row, &report(1, None)).unwrap().row.unwrap();
    let second = edited(&first, 2);
    let pushed = take(&second, &acknowledged);
    let late = reported(ID, &second, &pushed, &report(1, None));
    let refused = reported(ID, &second, &pushed, &report(2, Some("no\nport"))).unwrap().row.unwrap();

    assert_eq!(row.push_status, PushStatus::Pushed);
    assert_eq!(acknowledged.push_status, PushStatus::Acknowledged);
    assert_eq!(due(&first, &acknowledged), Due::Nothing);
    assert_eq!(pushed.push_status, PushStatus::Pushed);
    assert_eq!(late, None);
    assert_eq!((refused.applied_version, refused.apply_error.as_deref()), (Some(1), Some("no port")));
    assert_eq!(refused.push_status, PushStatus::Pushed);
    assert_eq!(
        reported(ID, &second, &refused, &report(2, Some("no\nport"))),
        None,
        "a repeat says nothing new"
    );
    let mended = reported(ID, &second, &refused, &report(2, None)).unwrap().row.unwrap();
    assert_eq!((mended.push_status, mended.apply_error), (PushStatus::Acknowledged, None));
}

#[test]
fn report_that_overtakes_the_answer_of_its_push_counts() {
    let policy = policy();
    let row = assign(None, &policy, NOW, "ada", false);
    let told = Told::now(&policy, &row).unwrap();

    let row = reported(ID, &policy, &row, &report(1, None)).unwrap().row.unwrap();
    assert_eq!(row.push_status, PushStatus::Pending);
    let row = pushed(ID, &row, told, NOW).unwrap().row.unwrap();

    assert_eq!(row.push_status, PushStatus::Acknowledged);
}

#[test]
fn report_of_a_version_that_never_was_is_ignored() {
    let policy = policy();
    let row = take(&policy, &assign(None, &policy, NOW, "ada", false));

    for version in [0, 2, u32::MAX] {
        assert_eq!(reported(ID, &policy, &row, &report(version, None)), None, "{version}");
    }
}

#[test]
fn success_clears_the_attempts_and_eight_refusals_kill_until_a_reset() {
    let policy = policy();
    let mut row = assign(None, &policy, NOW, "ada", false);
    for refusals in 1..=8 {
        let told = Told::now(&policy, &row).unwrap();
        row = failed(ID, &row, told, NOW, "HTTP 422", (refusals, refusals == 8)).unwrap().row.unwrap();
    }
    assert_eq!((row.push_status, row.push_attempts), (PushStatus::Dead, 8));
    assert_eq!(due(&policy, &row), Due::Nothing);
    assert_eq!(due(&edited(&policy, 2), &row), Due::Nothing, "an edit does not revive");

    let revived = requeue(&policy, &row, false);
    let taken = take(&policy, &revived);

    assert_eq!((revived.push_status, revived.push_attempts), (PushStatus::Pending, 0));
    assert_eq!((taken.push_attempts, taken.last_push_error), (0, None));
}

#[test]
fn death_of_a_push_does_not_stop_its_withdrawal() {
    let policy = policy();
    let row = assign(None, &policy, NOW, "ada", false);
    let told = Told::now(&policy, &row).unwrap();
    let dead = failed(ID, &row, told, NOW, "HTTP 422", (8, true)).unwrap().row.unwrap();
    let gone = deactivate(ID, &policy, NOW).policy;

    assert_eq!(due(&gone, &dead), Due::Withdrawal);
    assert_eq!(refusals(&dead, Told::now(&gone, &dead).unwrap()), 0);
}

#[test]
fn withdrawal_keeps_the_row_of_a_deactivated_policy_and_ends_an_unassigned_one() {
    let policy = policy();
    let row = take(&policy, &assign(None, &policy, NOW, "ada", false));
    let inactive = deactivate(ID, &policy, NOW).policy;
    let unassigned = unassign(&row, SiteStatus::Enrolled, NOW).unwrap();

    let kept = take(&inactive, &row);
    let gone = pushed(ID, &unassigned, Told::now(&policy, &unassigned).unwrap(), NOW).unwrap();

    assert_eq!((kept.pushed_version, kept.withdrawn_at), (None, Some(NOW)));
    assert_eq!(due(&inactive, &kept), Due::Nothing);
    assert_eq!(gone.row, None);
    assert_eq!(gone.entry.unwrap().operation, "policy_withdrawn");
    assert_eq!(unassign(&row, SiteStatus::Pending, NOW), None);
    assert_eq!(unassign(&kept, SiteStatus::Enrolled, NOW), None);
}

#[test]
fn answer_to_an_earlier_round_settles_nothing() {
    let policy = policy();
    let row = assign(None, &policy, NOW, "ada", false);
    let told = Told::now(&policy, &row).unwrap();
    let again = assign(Some(&row), &policy, NOW, "bob", false);

    assert_eq!(pushed(ID, &again, told, NOW), None);
    assert_eq!(failed(ID, &again, told, NOW, "HTTP 400", (1, false)), None);
    assert_eq!(again.assigned_by, "bob");
}

#[test]
fn held_version_goes_only_where_it_was_released() {
    let policy = policy();
    let row = take(&policy, &assign(None, &policy, NOW, "ada", false));
    let change = PolicyPatch { name: Some("www".to_owned()), ..PolicyPatch::default() };
    let held = patch(ID, &policy, NOW, &change, true).unwrap().policy;
    let newcomer = assign(None, &held, NOW, "ada", true);

    assert_eq!((due(&held, &row), due(&held, &newcomer)), (Due::Nothing, Due::Nothing));
    assert_eq!(due(&held, &requeue(&held, &row, false)), Due::Nothing);
    assert_eq!(due(&held, &requeue(&held, &row, true)), Due::Push);
    assert_eq!(due(&held, &assign(None, &held, NOW, "ada", false)), Due::Push);
    let released = Policy { held: false, ..held };
    assert_eq!((due(&released, &row), due(&released, &newcomer)), (Due::Push, Due::Push));
}

#[test]
fn plan_says_what_changes_and_its_hash_moves_with_the_world() {
    let first = policy();
    let second = edited(&first, 2);
    let fresh = assign(None, &second, NOW, "ada", false);
    let behind = take(&first, &assign(None, &first, NOW, "ada", false));
    let level = take(&second, &behind);
    let leaving = unassign(&behind, SiteStatus::Enrolled, NOW).unwrap();
    let site = |number| SiteId(Uuid::from_u128(number));
    let rows = [
        (site(1), SiteStatus::Enrolled, &fresh),
        (site(2), SiteStatus::Suspended, &behind),
        (site(3), SiteStatus::Enrolled, &level),
        (site(4), SiteStatus::Enrolled, &leaving),
    ];

    let planned = plan(ID, &second, rows);

    let changes: Vec<_> = planned.sites.iter().map(|site| site.change).collect();
    assert_eq!(changes, [Change::Add, Change::Update { from: 1 }, Change::Nothing, Change::Withdraw]);
    assert_eq!(planned.sites[1].blocked, Some(SiteStatus::Suspended));
    assert_eq!(plan(ID, &second, rows).hash, planned.hash);
    for moved in [
        plan(ID, &edited(&second, 3), rows).hash,
        plan(ID, &second, rows[1..].iter().copied()).hash,
        plan(ID, &second, rows.map(|(site, _, row)| (site, SiteStatus::Enrolled, row))).hash,
        plan(ID, &Policy { held: true, ..second.clone() }, rows).hash,
    ] {
        assert_ne!(moved, planned.hash);
    }
}

/// What the site of the property test holds: the version, or nothing.
type Held = Option<u32>;

proptest! {
    #[test]
    fn what_was_told_reads_back_from_a_delivery(round: u32, withdrawal: bool, version: u32) {
        let told = Told { round: round & Told::ROUNDS, withdrawal, version };

        prop_assert_eq!(Told::unpack(told.pack()), told);
    }

    /// A plain model: whatever operators do and whichever answers are lost, once the site is told what is due
    /// until nothing is, it holds exactly what it should, and the row says so.
    #[test]
    fn site_ends_with_what_it_should_hold(steps in prop::collection::vec((0_u8..9, any::<bool>()), 0..40)) {
        let mut policy = policy();
        let mut row: Option<Assignment> = None;
        let mut held: Held = None;
        let mut wanted = false;
        let mut out: Option<Told> = None;
        for (step, luck) in steps {
            match step {
                0 if policy.is_active => { row = Some(assign(row.as_ref(), &policy, NOW, "ada", false)); wanted = true; }
                1 => { row = row.as_ref().and_then(|row| unassign(row, SiteStatus::Enrolled, NOW)); wanted = false; }
                2 if policy.is_active => policy = edited(&policy, policy.version + 1),
                3 if luck => policy = deactivate(ID, &policy, NOW).policy,
                4 => row = row.map(|row| requeue(&policy, &row, true)),
                5 | 6 => if let Some(told) = row.as_ref().and_then(|row| Told::now(&policy, row)) {
                    held = (!told.withdrawal).then_some(told.version);
                    // A newer push takes the place of one that nobody has answered yet.
                    out = Some(told);
                },
                7 => if let (Some(told), Some(now)) = (out.take(), &row)
                    && let Some(decision) = pushed(ID, now, told, NOW) {
                    row = decision.row;
                },
                8 => if let (Some(told), Some(now)) = (out.take(), &row)
                    && let Some(decision) = failed(ID, now, told, NOW, "http error", (u32::from(luck), false)) {
                    row = decision.row;
                },
                _ => {}
            }
        }
        for _ in 0..3 {
            let Some(now) = &row else { break };
            let Some(told) = Told::now(&policy, now) else { break };
            held = (!told.withdrawal).then_some(told.version);
            row = pushed(ID, now, told, NOW).unwrap().row;
        }
        let should = (wanted && policy.is_active).then_some(policy.version);
        prop_assert_eq!(held, should);
        prop_assert_eq!(row.and_then(|row| row.pushed_version), should);
    }

    #[test]
    fn any_error_text_is_kept_in_one_bounded_line(error in "\\PC{0,600}[\n\t\u{e9}]{0,600}") {
        let kept = bounded(&error);

        prop_assert!(kept.len() <= limits::ERROR_BYTES_MAX);
        prop_assert!(!kept.chars().any(char::is_control));
    }
}
