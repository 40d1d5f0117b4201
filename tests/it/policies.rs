//! Policies over a running node: the documented rows and ours, and what sites hold in the end.

use std::collections::BTreeSet;

use hansa_actors::Part;
use hansa_model::enrollment::Role;
use hansa_storage::{Order, table};
use hansa_tests::{HttpSite, TestFederation, TestNode, eventually};
use reqwest::Method;
use serde_json::{Value, json};

const POLICIES: &str = "/api/v1/federation/policies";

const POLICY: &str =
    "id policy_type name description definition_json version is_active held created_by created_at updated_at";
const ASSIGNMENT: &str = "policy_id site_id site_name assigned_at assigned_by push_status \
     last_push_attempt_at last_push_error pushed_version push_attempts applied_version applied_at apply_error \
     withdrawn_at";

fn members(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap_or_else(|| panic!("not an object: {value}")).keys().map(String::as_str).collect()
}

fn names(text: &str) -> BTreeSet<&str> {
    text.split_whitespace().collect()
}

fn operations(node: &TestNode) -> Vec<String> {
    let view = node.store().read().unwrap();
    let entries = view.page::<table::Audit>(0..=u64::MAX, Order::Ascending, 1_000).unwrap();
    entries.into_iter().map(|(_, entry)| entry.draft.operation).collect()
}

fn count(node: &TestNode, operation: &str) -> usize {
    operations(node).iter().filter(|name| *name == operation).count()
}

async fn created(node: &TestNode, name: &str) -> String {
    let body =
        json!({"policy_type": "firewall_role", "name": name, "definition": {"open_ports": [443], "a": 1}});
    let answer = node.api().post(POLICIES, &body).await.licensed();
    answer["policy"]["id"].as_str().unwrap().to_owned()
}

async fn unassigned(node: &TestNode, policy: &str, sites: &Value) -> Value {
    let path = format!("{}/assign", path(policy));
    node.api().send(Method::DELETE, &path, Some(sites.to_string().into()), &[]).await.licensed()
}

fn path(policy: &str) -> String {
    format!("{POLICIES}/{policy}")
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_is_created_shown_listed_changed_and_deactivated_as_documented() {
    let node = TestNode::start(Role::Coordinator).await;
    let body = json!({
        "policy_type": " firewall_role ", "name": " web ",
        "definition": {"open_ports": [443], "a": {"y": 1, "x": 2}}, "description": "ports",
    });

    let created = node.api().post(POLICIES, &body).await.licensed();
    let taken = node.api().post(POLICIES, &body).await;
    let id = created["policy"]["id"].as_str().unwrap().to_owned();
    let shown = node.api().get(&path(&id)).await.licensed();
    let same = json!({"definition": {"a": {"x": 2, "y": 1}, "open_ports": [443]}});
    let unchanged = node.api().patch(&path(&id), &same).await.licensed();
    let changed = node.api().patch(&path(&id), &json!({"description": null, "name": "www"})).await.licensed();
    let other = node.api().patch(&path(&id), &json!({"policy_type": "x"})).await;
    let listed = node.api().get(&format!("{POLICIES}?policy_type=firewall_role")).await.licensed();
    let none = node.api().get(&format!("{POLICIES}?policy_type=update_profile")).await.licensed();
    let gone = node.api().delete(&path(&id)).await.licensed();
    node.api().delete(&path(&id)).await.licensed();
    let active = node.api().get(POLICIES).await.licensed();
    let all = node.api().get(&format!("{POLICIES}?active_only=false")).await.licensed();

    assert_eq!(members(&created), names("licensed policy"));
    assert_eq!(members(&created["policy"]), names(POLICY));
    assert_eq!(created["policy"]["definition_json"], r#"{"a":{"x":2,"y":1},"open_ports":[443]}"#);
    assert_eq!((&created["policy"]["version"], &created["policy"]["is_active"]), (&json!(1), &json!(true)));
    taken.refused(409, "name_taken");
    assert_eq!(members(&shown), names("licensed policy assignments withdrawing"));
    assert_eq!((&shown["policy"], &shown["assignments"]), (&created["policy"], &json!([])));
    assert_eq!(unchanged["policy"], created["policy"]);
    assert_eq!((&changed["policy"]["version"], &changed["policy"]["name"]), (&json!(2), &json!("www")));
    other.refused(400, "invalid_body");
    assert_eq!(listed["policies"], json!([changed["policy"]]));
    assert_eq!(none["policies"], json!([]));
    assert_eq!(gone["policy"]["is_active"], false);
    assert_eq!(active["policies"], json!([]));
    assert_eq!(all["policies"].as_array().map(Vec::len), Some(1));
    node.api().patch(&path(&id), &json!({"name": "x"})).await.refused(400, "policy_inactive");
    node.api().post(&format!("{}/push", path(&id)), &json!({})).await.refused(400, "policy_inactive");
    for (operation, times) in [("policy_created", 1), ("policy_updated", 1), ("policy_deactivated", 1)] {
        assert_eq!(count(&node, operation), times, "{operation}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_policies_are_refused_after_the_authentication() {
    let node = TestNode::start(Role::Coordinator).await;
    let unknown = path("01890a5d-ac96-774b-bcce-b302099a8057");

    for (body, code) in [
        (json!({"policy_type": " ", "name": "a", "definition": {}}), "invalid_value"),
        (json!({"policy_type": "a", "name": "", "definition": {}}), "invalid_value"),
        (json!({"policy_type": "a", "name": "a", "definition": []}), "invalid_value"),
        (json!({"policy_type": "x".repeat(65), "name": "a", "definition": {}}), "invalid_value"),
    ] {
        node.api().post(POLICIES, &body).await.refused(400, code);
    }
    node.api().post(POLICIES, &json!({"name": "a", "definition": {}})).await.refused(400, "invalid_body");
    node.api().get(&unknown).await.refused(404, "policy_not_found");
    node.api().patch(&unknown, &json!({"name": "x"})).await.refused(404, "policy_not_found");
    node.api().delete(&unknown).await.refused(404, "policy_not_found");
    node.api().get(&path("x")).await.refused(400, "invalid_path");
    node.anonymous().post(POLICIES, &json!({})).await.refused(401, "token_missing");
    let id = created(&node, "web").await;
    let stranger = json!({"site_ids": ["01890a5d-ac96-774b-bcce-b302099a8057"]});
    node.api().post(&format!("{}/assign", path(&id)), &stranger).await.refused(404, "site_not_found");
    let site = "/api/v1/federation/sites/01890a5d-ac96-774b-bcce-b302099a8057/repush-policies";
    node.api().post(site, &json!({})).await.refused(404, "site_not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn assignment_of_a_site_that_is_away_is_pending_reset_and_repushed() {
    let node = TestNode::start(Role::Coordinator).await;
    let site = HttpSite::invited(&node, "alpha", 1).await;
    let id = created(&node, "web").await;
    let sites = json!({"site_ids": [site.id]});
    let repush = site.path("repush-policies");

    let nothing = node.api().post(&repush, &json!({})).await.licensed();
    let assigned = node.api().post(&format!("{}/assign", path(&id)), &sites).await.licensed();
    let again = node.api().post(&format!("{}/assign", path(&id)), &sites).await.licensed();
    let repushed = node.api().post(&repush, &json!({})).await.licensed();
    let unassigned = unassigned(&node, &id, &sites).await;

    assert_eq!(nothing, json!({"licensed": true, "requeued_count": 0}));
    let row = &assigned["assignments"][0];
    assert_eq!(members(row), names(ASSIGNMENT));
    assert_eq!((&row["push_status"], &row["push_attempts"]), (&json!("pending"), &json!(0)));
    assert_eq!((&row["site_name"], &row["site_id"]), (&json!("alpha"), &json!(site.id)));
    assert_eq!(again["assignments"].as_array().map(Vec::len), Some(1));
    assert_eq!(repushed["requeued_count"], 1);
    assert_eq!((&unassigned["assignments"], &unassigned["withdrawing"]), (&json!([]), &json!([])));
    assert_eq!(count(&node, "policy_assigned"), 2);
    assert_eq!(count(&node, "policy_pushed"), 1);
    assert_eq!(count(&node, "policy_unassigned"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn linked_site_takes_an_edit_and_gives_the_policy_up_when_it_is_unassigned() {
    let federation = TestFederation::start(1).await;
    let (node, site) = (&federation.coordinator, &federation.sites[0]);
    let id = created(node, "web").await;
    let assign = format!("{}/assign", path(&id));
    let sites = json!({"site_ids": [site.id]});

    node.api().post(&assign, &sites).await.licensed();
    eventually("the site has version 1", async || {
        let detail = node.api().get(&path(&id)).await.licensed();
        (detail["assignments"][0]["pushed_version"] == 1).then_some(())
    })
    .await;
    node.api().patch(&path(&id), &json!({"definition": {"open_ports": [80]}})).await.licensed();
    eventually("the site has version 2", async || {
        let detail = node.api().get(&path(&id)).await.licensed();
        (detail["assignments"][0]["pushed_version"] == 2).then_some(())
    })
    .await;
    unassigned(node, &id, &sites).await;

    eventually("the withdrawal has settled the row", async || {
        let detail = node.api().get(&path(&id)).await.licensed();
        (detail["withdrawing"] == json!([]) && detail["assignments"] == json!([])).then_some(())
    })
    .await;
    assert_eq!(count(node, "policy_withdrawn"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn result_of_a_site_acknowledges_the_pushed_version_and_keeps_an_error() {
    let federation = TestFederation::start(0).await;
    let node = &federation.coordinator;
    let site = HttpSite::enrolled(node, "alpha", 1).await;
    let id = created(node, "web").await;
    node.api().post(&format!("{}/assign", path(&id)), &json!({"site_ids": [site.id]})).await.licensed();
    let result = |version: u32, error: Option<&str>| json!({"policy_id": id, "version": version, "applied": error.is_none(), "error": error, "at": "2026-11-22T09:00:00Z"});

    let failed = site.push("policy-results", &result(1, Some("no such port"))).await.licensed();
    let future = site.push("policy-results", &result(9, None)).await.licensed();
    let applied = site.push("policy-results", &result(1, None)).await.licensed();

    assert_eq!(failed["assignment"]["apply_error"], "no such port");
    assert_eq!(future["assignment"]["applied_version"], Value::Null);
    assert_eq!(applied["assignment"]["applied_version"], 1);
    assert_eq!(applied["assignment"]["apply_error"], Value::Null);
    assert_eq!(count(node, "policy_acknowledged"), 1);
    node.anonymous().post(&site.path("policy-results"), &json!({})).await.refused(401, "site_unauthorized");
}

#[tokio::test(flavor = "multi_thread")]
async fn push_with_a_plan_is_refused_once_the_world_has_moved() {
    let node = TestNode::start(Role::Coordinator).await;
    let [alpha, beta] =
        [HttpSite::invited(&node, "alpha", 1).await, HttpSite::invited(&node, "beta", 2).await];
    let id = created(&node, "web").await;
    let assign = format!("{}/assign", path(&id));
    node.api().post(&assign, &json!({"site_ids": [alpha.id]})).await.licensed();

    let plan = node.api().post(&format!("{}/plan", path(&id)), &json!({})).await.licensed();
    let hash = plan["plan"]["plan_hash"].clone();
    let push = format!("{}/push", path(&id));
    let accepted = node.api().post(&push, &json!({"plan_hash": hash})).await;
    node.api().post(&assign, &json!({"site_ids": [beta.id]})).await.licensed();
    let moved = node.api().post(&push, &json!({"plan_hash": hash})).await;

    let site = &plan["plan"]["sites"][0];
    assert_eq!(members(site), names("site_id site_name change from_version to_version blocked"));
    assert_eq!((&site["change"], &site["blocked"]), (&json!("add"), &json!("pending")));
    accepted.licensed();
    moved.refused(409, "plan_moved");
}

#[tokio::test(flavor = "multi_thread")]
async fn rollout_releases_a_held_version_wave_by_wave() {
    let federation = TestFederation::start(2).await;
    let node = &federation.coordinator;
    let id = created(node, "web").await;
    let ids: Vec<_> = federation.sites.iter().map(|site| site.id.clone()).collect();
    let assign = format!("{}/assign?hold=true", path(&id));
    let held = node.api().post(&assign, &json!({"site_ids": ids})).await.licensed();
    let body = json!({"waves": ["1"], "wait_for": "pushed"});

    node.api().post(&format!("{}/push", path(&id)), &body).await.licensed();
    let rollouts = format!("{}/rollouts", path(&id));
    let rollout = eventually("the rollout has completed", async || {
        let rollout = node.api().get(&rollouts).await.licensed()["rollouts"][0].clone();
        (rollout["status"] == "completed").then_some(rollout)
    })
    .await;

    assert_eq!(held["policy"]["held"], true);
    assert_eq!((&rollout["wave"], &rollout["wave_count"]), (&json!(2), &json!(2)));
    assert_eq!(node.api().get(&path(&id)).await.licensed()["policy"]["held"], false);
    for operation in ["rollout_started", "rollout_wave_started", "rollout_completed"] {
        assert_eq!(count(node, operation), 1, "{operation}");
    }
    let over = format!("{rollouts}/{}/abort", rollout["id"].as_str().unwrap());
    node.api().post(&over, &json!({})).await.refused(409, "rollout_state");
}

#[tokio::test(flavor = "multi_thread")]
async fn panicking_policies_come_back_alone_with_what_was_stored() {
    let federation = TestFederation::start(1).await;
    let node = &federation.coordinator;
    let id = created(node, "web").await;

    node.federation().danger_panic(Part::Policies);
    let sites = json!({"site_ids": [federation.sites[0].id]});
    // A call that the panic has caught is answered as busy, and may be repeated.
    eventually("it is assigned", async || {
        let answer = node.api().post(&format!("{}/assign", path(&id)), &sites).await;
        (answer.status != 503).then(|| answer.licensed())
    })
    .await;

    eventually("the site has it", async || {
        let detail = node.api().get(&path(&id)).await.licensed();
        (detail["assignments"][0]["pushed_version"] == 1).then_some(())
    })
    .await;
}
