//! Alerts about sites (contract B5 and 8), and the webhooks that are told of them.

use std::collections::BTreeSet;
use std::time::Duration;

use hansa_actors::Part;
use hansa_model::enrollment::Role;
use hansa_model::scope::Scope;
use hansa_tests::{HttpSite, TestFederation, TestNode, eventually};
use serde_json::{Value, json};

const ALERTS: &str = "/api/v1/federation/alerts";
const CONFIG: &str = "/api/v1/federation/alert-config";

fn members(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap_or_else(|| panic!("not an object: {value}")).keys().map(String::as_str).collect()
}

async fn alerts(node: &TestNode, query: &str) -> Vec<Value> {
    let answer = node.api().get(&format!("{ALERTS}{query}")).await.licensed();
    answer["alerts"].as_array().expect("alerts is an array").clone()
}

/// Makes the node look at once: a threshold that is set again as it was. A call that a panic has caught is
/// answered as busy, and may be repeated.
async fn sweep(node: &TestNode, seconds: u64) {
    eventually("the threshold is set", async || {
        let answer = node.api().put(CONFIG, &json!({"min_offline_seconds": seconds})).await;
        (answer.status != 503).then(|| answer.licensed())
    })
    .await;
}

/// Makes the site heard, so that it is not offline, and scores it.
async fn compliance(site: &HttpSite, score: f64) {
    site.push("metadata", &json!({"sysmanage_version": "1"})).await.licensed();
    let body = json!({
        "baseline": "cis", "score_percent": score,
        "hosts_in_scope": 2, "hosts_compliant": 1, "hosts_noncompliant": 1,
    });
    site.push("rollups/compliance", &body).await.licensed();
}

#[tokio::test(flavor = "multi_thread")]
async fn thresholds_are_shown_set_cleared_and_refused_out_of_range() {
    let node = TestNode::start(Role::Coordinator).await;

    let defaults = node.api().get(CONFIG).await.licensed();
    let set = node.api().put(CONFIG, &json!({"compliance_threshold": 80, "unknown": 1})).await.licensed();
    let kept = node.api().put(CONFIG, &json!({"offline_multiplier": 2.5})).await.licensed();
    let cleared = node.api().put(CONFIG, &json!({"compliance_threshold": null})).await.licensed();

    let names = BTreeSet::from([
        "compliance_threshold",
        "critical_cve_threshold",
        "min_offline_seconds",
        "offline_multiplier",
    ]);
    assert_eq!(members(&defaults["effective"]), names);
    assert_eq!(members(&defaults["overrides"]), names);
    assert_eq!(defaults["effective"]["offline_multiplier"], json!(4.0));
    assert_eq!(defaults["effective"]["min_offline_seconds"], json!(900));
    assert_eq!(defaults["effective"]["compliance_threshold"], json!(70.0));
    assert_eq!(defaults["effective"]["critical_cve_threshold"], json!(0));
    assert_eq!(set["effective"]["compliance_threshold"], json!(80.0));
    assert_eq!(kept["overrides"]["compliance_threshold"], json!(80.0));
    assert_eq!(cleared["overrides"]["compliance_threshold"], Value::Null);
    for body in [
        json!({"offline_multiplier": 0.5}),
        json!({"min_offline_seconds": -1}),
        json!({"compliance_threshold": 101}),
        json!({"critical_cve_threshold": -1}),
        json!({"offline_multiplier": "many"}),
    ] {
        assert_eq!(node.api().put(CONFIG, &body).await.status, 400, "{body}");
    }
    assert_eq!(node.anonymous().put(CONFIG, &json!([])).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn alert_opens_keeps_its_start_is_acknowledged_and_resolves() {
    let node = TestNode::start(Role::Coordinator).await;
    let site = HttpSite::enrolled(&node, "berlin", 7).await;
    compliance(&site, 64.5).await;
    sweep(&node, 901).await;

    let opened = alerts(&node, "").await;
    let alert = &opened[0];
    let path = format!("{ALERTS}/{}/acknowledge", alert["id"].as_str().unwrap());
    let acknowledged = node.api().post(&path, &json!({})).await.licensed();
    let again = node.api().post(&path, &json!({})).await.licensed();
    node.clock.advance(Duration::from_secs(600));
    sweep(&node, 902).await;
    let refreshed = alerts(&node, "").await;
    compliance(&site, 90.0).await;
    sweep(&node, 903).await;
    let none = alerts(&node, "").await;
    let resolved = alerts(&node, "?include_resolved=true").await;

    assert_eq!(opened.len(), 1);
    for name in [
        "id",
        "site_id",
        "condition",
        "severity",
        "title",
        "message",
        "details",
        "triggered_at",
        "resolved",
        "resolved_at",
        "acknowledged",
        "acknowledged_at",
    ] {
        assert!(members(alert).contains(name), "{name}");
    }
    assert_eq!(alert["condition"], "compliance_below");
    assert_eq!(alert["severity"], "warning");
    assert_eq!(alert["title"], "Site 'berlin' compliance below 70%");
    assert_eq!(alert["details"], json!({"baseline": "cis", "score_percent": 64.5, "threshold": 70.0}));
    assert_eq!((&alert["resolved"], &alert["acknowledged"]), (&json!(false), &json!(false)));
    assert_eq!(acknowledged["alert"]["acknowledged"], true);
    assert_eq!(acknowledged["alert"]["resolved"], false);
    assert_eq!(again["alert"]["acknowledged_at"], acknowledged["alert"]["acknowledged_at"]);
    assert_eq!(refreshed[0]["triggered_at"], alert["triggered_at"]);
    assert_eq!(refreshed[0]["acknowledged"], true);
    assert_eq!(none, Vec::<Value>::new());
    assert_eq!((resolved.len(), &resolved[0]["resolved"]), (1, &json!(true)));
}

#[tokio::test(flavor = "multi_thread")]
async fn site_that_falls_silent_is_offline_and_no_longer_when_it_leaves() {
    let node = TestNode::start(Role::Coordinator).await;
    let site = HttpSite::enrolled(&node, "berlin", 7).await;
    site.push("metadata", &json!({"sysmanage_version": "1"})).await.licensed();
    sweep(&node, 901).await;
    assert_eq!(alerts(&node, "").await, Vec::<Value>::new());

    node.clock.advance(Duration::from_secs(1_300));
    sweep(&node, 902).await;
    let offline = alerts(&node, "").await;
    node.api().act(&format!("/api/v1/federation/sites/{}/suspend", site.id)).await.licensed();
    sweep(&node, 903).await;

    assert_eq!(offline[0]["condition"], "site_offline");
    assert_eq!(offline[0]["severity"], "critical");
    assert_eq!(
        members(&offline[0]["details"]),
        BTreeSet::from(["age_seconds", "last_sync_at", "threshold_seconds"])
    );
    assert_eq!(alerts(&node, "").await, Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn linked_site_with_a_clock_that_is_off_is_told_of() {
    let mut federation = TestFederation::start(1).await;
    let site = &mut federation.sites[0];
    site.node.clock.advance(Duration::from_secs(300));
    site.node.restart().await;
    let node = &federation.coordinator;

    let mut seconds = 1_000;
    let alert = eventually("an alert about the clock", async || {
        seconds += 1;
        sweep(node, seconds).await;
        alerts(node, "").await.into_iter().find(|alert| alert["condition"] == "clock_skew")
    })
    .await;

    let skew = alert["details"]["skew_seconds"].as_i64().unwrap();
    assert!((295..=305).contains(&skew), "{skew}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_the_documented_ones_and_others_sites_stay_hidden() {
    let node = TestNode::start(Role::Coordinator).await;
    let site = HttpSite::enrolled(&node, "berlin", 7).await;
    let other = HttpSite::enrolled(&node, "rome", 70).await;
    compliance(&other, 90.0).await;
    compliance(&site, 10.0).await;
    sweep(&node, 901).await;
    let id = alerts(&node, "").await[0]["id"].as_str().unwrap().to_owned();
    let confined = node.api_as(
        [Scope::AlertsRead, Scope::AlertsWrite].into_iter().collect(),
        Some([other.id.parse().unwrap()].into_iter().collect()),
    );
    let reader = node.api_as([Scope::AlertsRead].into_iter().collect(), None);

    let unknown = format!("{ALERTS}/{}/acknowledge", other.id);
    node.api().post(&unknown, &json!({})).await.refused(404, "alert_not_found");
    node.api().post(&format!("{ALERTS}/x/acknowledge"), &json!({})).await.refused(400, "invalid_path");
    node.anonymous().post(&unknown, &json!([])).await.refused(401, "token_missing");
    reader.post(&unknown, &json!({})).await.refused(403, "permission_denied");
    confined.post(&format!("{ALERTS}/{id}/acknowledge"), &json!({})).await.refused(404, "alert_not_found");
    confined.put(CONFIG, &json!({})).await.refused(403, "permission_denied");
    assert_eq!(confined.get(ALERTS).await.licensed()["alerts"], json!([]));
    for query in ["?limit=0", "?limit=1001", "?site_id=x", "?include_resolved=maybe"] {
        assert_eq!(node.api().get(&format!("{ALERTS}{query}")).await.status, 400, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn open_alerts_and_thresholds_survive_a_failed_actor_and_a_restart() {
    let mut node = TestNode::start(Role::Coordinator).await;
    let site = HttpSite::enrolled(&node, "berlin", 7).await;
    compliance(&site, 10.0).await;
    sweep(&node, 901).await;
    let before = alerts(&node, "").await;

    node.federation().danger_panic(Part::Alerts);
    node.federation().danger_panic(Part::Webhooks);
    sweep(&node, 902).await;
    let after_panic = alerts(&node, "?include_resolved=true").await;
    node.restart().await;
    sweep(&node, 903).await;
    let after_restart = alerts(&node, "?include_resolved=true").await;

    assert_eq!(before.len(), 1);
    for after in [after_panic, after_restart] {
        assert_eq!(after.len(), 1);
        assert_eq!(after[0]["id"], before[0]["id"]);
        assert_eq!(after[0]["triggered_at"], before[0]["triggered_at"]);
    }
    assert_eq!(node.api().get(CONFIG).await.licensed()["overrides"]["min_offline_seconds"], json!(903));
}
