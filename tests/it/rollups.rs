//! Rollups: every documented row over a running node, HTTP peers and whole sites end to end, and counters that
//! equal a recount whatever happens to sites and node.

use std::collections::BTreeSet;
use std::time::Duration;

use hansa_model::enrollment::Role;
use hansa_model::scope::Scope;
use hansa_storage::table;
use hansa_tests::{HttpSite, TestFederation, TestNode, eventually, host, host_id};
use reqwest::Method;
use serde_json::{Value, json};

const DASHBOARD: &str = "/api/v1/federation/rollups/dashboard";
const REPORT: &str = "/api/v1/federation/reports/rollup";

fn members(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap_or_else(|| panic!("not an object: {value}")).keys().map(String::as_str).collect()
}

fn names(text: &str) -> BTreeSet<&str> {
    text.split_whitespace().collect()
}

fn scopes<const N: usize>(scopes: [Scope; N]) -> BTreeSet<Scope> {
    scopes.into_iter().collect()
}

fn score(baseline: &str, percent: f64) -> Value {
    json!({"baseline": baseline, "score_percent": percent, "hosts_in_scope": 4, "hosts_compliant": 1,
           "hosts_noncompliant": 2})
}

async fn dashboard(node: &TestNode, site: &str) -> Value {
    node.api().get(&format!("{DASHBOARD}?site_id={site}")).await.licensed()
}

/// The totals as the dashboard keeps them, after a look that they equal the sum of the report's rows.
async fn totals(node: &TestNode) -> Value {
    let overview = node.api().get(DASHBOARD).await.licensed();
    let report = node.api().get(REPORT).await.licensed();
    let rows = report["sites"].as_array().unwrap();
    assert_eq!(overview["totals"], report["totals"]);
    assert_eq!(report["totals"]["site_count"], rows.len());
    for name in ["host_count", "active_count", "critical_count", "high_count", "medium_count", "low_count"] {
        let sum: u64 = rows.iter().map(|row| row[name].as_u64().unwrap()).sum();
        assert_eq!(report["totals"][name], sum, "{name}");
    }
    report["totals"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn pushed_rollups_are_answered_and_stand_on_the_dashboard() {
    let node = TestNode::start(Role::Coordinator).await;
    let site = HttpSite::enrolled(&node, "berlin", 1).await;
    let empty = dashboard(&node, &site.id).await;

    let compliance = site
        .push(
            "rollups/compliance",
            &json!({"baseline": " CIS ", "score_percent": "87.5", "hosts_in_scope": "4", "hosts_compliant": 1,
                    "hosts_noncompliant": "2", "more": true}),
        )
        .await
        .licensed();
    let found = site
        .push("rollups/vulnerabilities", &json!({"critical_count": "2", "top_cve_ids": ["CVE-2026-0815"]}))
        .await
        .licensed();
    site.push("rollups/hosts", &json!({"host_count": 5, "active_count": 4})).await.licensed();
    let shown = dashboard(&node, &site.id).await;

    assert_eq!((&empty["host_rollup"], &empty["compliance_rollups"]), (&Value::Null, &json!([])));
    assert_eq!(empty["vulnerability_rollup"], Value::Null);
    assert_eq!(
        (&compliance["rollup"]["baseline"], &compliance["rollup"]["score_percent"]),
        (&json!("CIS"), &json!(87.5))
    );
    assert_eq!((&found["rollup"]["critical_count"], &found["rollup"]["low_count"]), (&json!(2), &json!(0)));
    assert_eq!(
        members(&shown),
        names("licensed host_rollup compliance_rollups vulnerability_rollup as_of age_seconds")
    );
    assert_eq!(
        members(&shown["host_rollup"]),
        names("host_count active_count snapshot_at os_breakdown status_breakdown age_seconds")
    );
    assert_eq!(
        members(&shown["compliance_rollups"][0]),
        names(
            "baseline score_percent hosts_in_scope hosts_compliant hosts_noncompliant snapshot_at age_seconds"
        )
    );
    assert_eq!(
        members(&shown["vulnerability_rollup"]),
        names(
            "critical_count high_count medium_count low_count affected_host_count top_cve_ids snapshot_at age_seconds"
        )
    );
    assert_eq!(shown["vulnerability_rollup"]["top_cve_ids"], json!(["CVE-2026-0815"]));
    assert!(shown["as_of"].as_str().unwrap().ends_with('Z'));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_rollups_are_refused_and_leave_nothing() {
    let node = TestNode::start(Role::Coordinator).await;
    let site = HttpSite::enrolled(&node, "berlin", 1).await;
    let other = HttpSite::enrolled(&node, "other", 9).await;
    let with = |name: &str, value: Value| {
        let mut body = score("CIS", 50.0);
        body[name] = value;
        body
    };
    let bad = [
        ("rollups/compliance", with("baseline", json!("  "))),
        ("rollups/compliance", with("baseline", json!("x".repeat(65)))),
        ("rollups/compliance", with("baseline", json!("a\u{0}b"))),
        ("rollups/compliance", with("score_percent", json!(100.5))),
        ("rollups/compliance", with("score_percent", json!(-1))),
        ("rollups/compliance", with("hosts_noncompliant", json!(4))),
        ("rollups/compliance", with("hosts_in_scope", json!(-1))),
        ("rollups/compliance", with("snapshot_at", json!("yesterday"))),
        ("rollups/compliance", json!({"baseline": "CIS"})),
        ("rollups/vulnerabilities", json!({"low_count": -1})),
        ("rollups/vulnerabilities", json!({"low_count": 1.5})),
        ("rollups/vulnerabilities", json!({"low_count": u64::MAX})),
        ("rollups/vulnerabilities", json!({"top_cve_ids": vec!["CVE-2026-0815"; 101]})),
        ("rollups/hosts", json!({"host_count": 1, "active_count": 2})),
        ("rollups/hosts", json!({"host_count": u64::MAX, "active_count": 2})),
    ];

    for (suffix, body) in bad {
        let answer = site.push(suffix, &body).await;
        assert_eq!(answer.status, 400, "{body} → {}", answer.text);
        answer.assert_problem();
    }
    for suffix in ["rollups/compliance", "rollups/vulnerabilities"] {
        node.anonymous().post(&site.path(suffix), &json!([])).await.refused(401, "site_unauthorized");
        let foreign = node.anonymous().bearer(&other.bearer);
        let foreign = foreign.post(&site.path(suffix), &json!({})).await;
        assert!(foreign.text.contains("Bearer token does not match"), "{}", foreign.text);
        foreign.refused(403, "site_mismatch");
    }
    node.api().act(&format!("/api/v1/federation/sites/{}/suspend", site.id)).await.licensed();
    site.push("rollups/compliance", &score("CIS", 1.0)).await.refused(401, "site_suspended");
    node.api().act(&format!("/api/v1/federation/sites/{}/resume", site.id)).await.licensed();

    let shown = dashboard(&node, &site.id).await;
    assert_eq!((&shown["host_rollup"], &shown["compliance_rollups"]), (&Value::Null, &json!([])));
    assert_eq!(shown["vulnerability_rollup"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn rollups_other_than_of_hosts_are_no_sync() {
    let node = TestNode::start(Role::Coordinator).await;
    let site = HttpSite::enrolled(&node, "berlin", 1).await;
    let row = async || {
        let site = node.api().get(&format!("/api/v1/federation/sites/{}", site.id)).await.licensed();
        (site["site"]["last_sync_at"].clone(), site["site"]["host_count"].clone())
    };

    site.push("rollups/compliance", &score("CIS", 50.0)).await.licensed();
    site.push("rollups/vulnerabilities", &json!({"high_count": 1})).await.licensed();
    let before = row().await;
    site.push("rollups/hosts", &json!({"host_count": 7, "active_count": 1})).await.licensed();
    let after = row().await;

    assert_eq!(before, (Value::Null, json!(0)));
    assert!(after.0.is_string());
    assert_eq!(after.1, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn late_snapshot_is_kept_and_does_not_become_the_latest() {
    let node = TestNode::start(Role::Coordinator).await;
    let site = HttpSite::enrolled(&node, "berlin", 1).await;
    let at = |percent: f64, instant: &str| {
        let mut body = score("CIS", percent);
        body["snapshot_at"] = json!(instant);
        body
    };

    site.push("rollups/compliance", &at(60.0, "2026-01-02T00:00:00Z")).await.licensed();
    let first = site.push("rollups/compliance", &at(50.0, "2026-01-01T00:00:00")).await.licensed();
    let repeat = site.push("rollups/compliance", &at(60.0, "2026-01-02T00:00:00Z")).await.licensed();
    let future = site.push("rollups/compliance", &at(70.0, "2999-01-01T00:00:00Z")).await.licensed();
    let shown = dashboard(&node, &site.id).await;
    let series = async |query: &str| {
        let path = format!("/api/v1/federation/rollups/compliance?site_id={}{query}", site.id);
        let answer = node.api().get(&path).await.licensed();
        let rollups = answer["rollups"].as_array().unwrap().clone();
        rollups.iter().map(|rollup| rollup["score_percent"].as_f64().unwrap()).collect::<Vec<_>>()
    };

    assert_eq!(first["rollup"]["snapshot_at"], "2026-01-01T00:00:00Z");
    assert_eq!(repeat["rollup"]["score_percent"], 60.0);
    assert_ne!(future["rollup"]["snapshot_at"], "2999-01-01T00:00:00Z");
    assert_eq!(shown["compliance_rollups"][0]["score_percent"], 70.0);
    assert_eq!(series("").await, [70.0]);
    assert_eq!(series("&latest=false").await, [70.0, 60.0, 50.0]);
    assert_eq!(series("&latest=false&limit=1&offset=1").await, [60.0]);
    assert_eq!(series("&latest=false&until=2026-01-02T00:00:00Z").await, [50.0]);
    assert_eq!(series("&latest=false&since=2026-01-02T00:00:00Z&until=2026-01-03T00:00:00Z").await, [60.0]);
    assert_eq!(series("&latest=false&baseline=PCI").await, [] as [f64; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn series_keep_the_newest_ninety_snapshots() {
    let node = TestNode::start(Role::Coordinator).await;
    let site = HttpSite::enrolled(&node, "berlin", 1).await;

    for number in 0..95 {
        let body = json!({"low_count": number, "snapshot_at": format!("2026-01-01T00:{:02}:{:02}Z", number / 60, number % 60)});
        site.push("rollups/vulnerabilities", &body).await.licensed();
    }
    let path =
        format!("/api/v1/federation/rollups/vulnerabilities?site_id={}&latest=false&limit=1000", site.id);
    let kept = node.api().get(&path).await.licensed();

    let kept = kept["rollups"].as_array().unwrap().clone();
    let counts: Vec<u64> = kept.iter().map(|rollup| rollup["low_count"].as_u64().unwrap()).collect();
    assert_eq!(counts, (5..95).rev().collect::<Vec<_>>());
    let stored = node.store().read().unwrap().all::<table::VulnerabilityRollups>(..).unwrap();
    assert_eq!(stored.len(), 90);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_have_their_documented_members_and_bounds() {
    let node = TestNode::start(Role::Coordinator).await;
    let site = HttpSite::enrolled(&node, "berlin", 1).await;
    site.push("rollups/hosts", &json!({"host_count": 5, "active_count": 4, "os_breakdown": {"linux": 5}}))
        .await
        .licensed();
    site.push("rollups/compliance", &score("CIS", 50.0)).await.licensed();
    site.push("rollups/vulnerabilities", &json!({})).await.licensed();

    for (kind, documented) in [
        ("hosts", "id site_id site_name snapshot_at host_count active_count os_breakdown status_breakdown"),
        (
            "compliance",
            "id site_id site_name baseline snapshot_at score_percent hosts_in_scope hosts_compliant hosts_noncompliant",
        ),
        (
            "vulnerabilities",
            "id site_id site_name snapshot_at critical_count high_count medium_count low_count affected_host_count \
             top_cve_ids",
        ),
    ] {
        let path = format!("/api/v1/federation/rollups/{kind}");
        let answer = node.api().get(&path).await.licensed();
        let ours = format!("{documented} age_seconds");
        assert_eq!(members(&answer), names("licensed rollups"), "{kind}");
        assert_eq!(members(&answer["rollups"][0]), names(&ours), "{kind}");
        assert_eq!(
            (&answer["rollups"][0]["site_id"], &answer["rollups"][0]["site_name"]),
            (&json!(site.id), &json!("berlin"))
        );
        for query in ["limit=0", "limit=1001", "offset=-1", "latest=maybe", "since=x", "site_id=x"] {
            node.api().get(&format!("{path}?{query}")).await.refused(400, "invalid_query");
        }
        node.anonymous().get(&format!("{path}?limit=0")).await.refused(401, "token_missing");
        let unknown = format!("{path}?site_id={}", uuid::Uuid::nil());
        node.api().get(&unknown).await.refused(404, "site_not_found");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn report_compares_sites_and_counters_survive_whatever_happens_to_them() {
    let mut node = TestNode::start(Role::Coordinator).await;
    let mut sites = Vec::new();
    for (number, name) in ["c", "a", "b"].into_iter().enumerate() {
        let site = HttpSite::enrolled(&node, name, 1 + 40 * number as u8).await;
        let count = number as u64 + 1;
        site.push("rollups/hosts", &json!({"host_count": 10 * count, "active_count": count}))
            .await
            .licensed();
        site.push("rollups/compliance", &score("CIS", 50.0 + 10.0 * number as f64)).await.licensed();
        site.push("rollups/compliance", &score("PCI", 90.0)).await.licensed();
        site.push("rollups/vulnerabilities", &json!({"critical_count": count, "low_count": 1}))
            .await
            .licensed();
        sites.push(site);
    }
    let site_path = |site: &HttpSite, verb: &str| format!("/api/v1/federation/sites/{}/{verb}", site.id);

    let report = node.api().get(REPORT).await.licensed();
    assert_eq!(members(&report), names("licensed sites totals coverage"));
    let row = &report["sites"][2];
    assert_eq!(
        members(row),
        names(
            "site_id site_name host_count active_count worst_compliance critical_count high_count medium_count low_count \
             last_sync_at age_seconds"
        )
    );
    assert_eq!((&row["site_name"], &row["host_count"]), (&json!("c"), &json!(10)));
    assert_eq!(row["worst_compliance"], json!({"baseline": "CIS", "score_percent": 50.0}));
    assert_eq!(
        totals(&node).await,
        json!({"site_count": 3, "host_count": 60, "active_count": 6, "critical_count": 6, "high_count": 0,
               "medium_count": 0, "low_count": 3})
    );
    let chosen = format!("{REPORT}?site_ids={},{}", sites[0].id, uuid::Uuid::nil());
    let chosen = node.api().get(&chosen).await.licensed();
    assert_eq!((&chosen["totals"]["site_count"], &chosen["totals"]["host_count"]), (&json!(1), &json!(10)));
    assert_eq!(chosen["coverage"]["sites"], 1);
    node.api().get(&format!("{REPORT}?site_ids=x")).await.refused(400, "invalid_query");

    node.api().act(&site_path(&sites[1], "suspend")).await.licensed();
    assert_eq!(totals(&node).await["host_count"], 40);
    node.restart().await;
    assert_eq!(totals(&node).await["host_count"], 40);
    node.api().act(&site_path(&sites[1], "resume")).await.licensed();
    assert_eq!(totals(&node).await["host_count"], 60);
    node.api().delete(&format!("/api/v1/federation/sites/{}", sites[2].id)).await.licensed();
    let left = totals(&node).await;
    assert_eq!(
        (&left["site_count"], &left["host_count"], &left["critical_count"]),
        (&json!(2), &json!(30), &json!(3))
    );
    node.restart().await;
    assert_eq!(totals(&node).await, left);
    let view = node.store().read().unwrap();
    assert!(
        view.all::<table::ComplianceRollups>(..)
            .unwrap()
            .iter()
            .all(|((site, _), _)| site.to_string() != sites[2].id)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn confined_operator_sees_the_rollups_of_their_sites_only() {
    let node = TestNode::start(Role::Coordinator).await;
    let mine = HttpSite::enrolled(&node, "mine", 1).await;
    let other = HttpSite::enrolled(&node, "other", 9).await;
    for site in [&mine, &other] {
        site.push("rollups/hosts", &json!({"host_count": 5, "active_count": 4})).await.licensed();
        site.push("rollups/compliance", &score("CIS", 50.0)).await.licensed();
    }
    let confined = node.api_as(scopes([Scope::RollupsRead]), Some([mine.id.parse().unwrap()].into()));
    let blind = node.api_as(scopes([Scope::HostsRead]), None);

    confined.get(&format!("{DASHBOARD}?site_id={}", other.id)).await.refused(404, "site_not_found");
    confined.get(&format!("{DASHBOARD}?site_id={}", mine.id)).await.licensed();
    let overview = confined.get(DASHBOARD).await.licensed();
    let both = confined.get(&format!("{REPORT}?site_ids={},{}", mine.id, other.id)).await.licensed();
    let listed = confined.get("/api/v1/federation/rollups/compliance").await.licensed();
    let foreign = format!("/api/v1/federation/rollups/compliance?site_id={}", other.id);

    assert_eq!(
        (&overview["totals"]["site_count"], &overview["totals"]["host_count"]),
        (&json!(1), &json!(5))
    );
    assert_eq!(overview["coverage"]["sites"], 1);
    assert_eq!(both["sites"].as_array().map(Vec::len), Some(1));
    assert_eq!(listed["rollups"].as_array().map(Vec::len), Some(1));
    confined.get(&foreign).await.refused(404, "site_not_found");
    for path in [DASHBOARD, REPORT, "/api/v1/federation/rollups/hosts"] {
        let refused = blind.get(path).await;
        assert!(
            refused.body["detail"].as_str().unwrap().starts_with("Permission denied"),
            "{}",
            refused.text
        );
        refused.refused(403, "permission_denied");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_over_many_sites_name_those_that_say_nothing() {
    let node = TestNode::start(Role::Coordinator).await;
    let heard = HttpSite::enrolled(&node, "heard", 1).await;
    let silent = HttpSite::enrolled(&node, "silent", 9).await;
    silent.push("rollups/hosts", &json!({"host_count": 5, "active_count": 4})).await.licensed();
    node.clock.advance(Duration::from_secs(1_300));
    heard.push("rollups/hosts", &json!({"host_count": 5, "active_count": 4})).await.licensed();

    for (path, key) in [(DASHBOARD, "totals"), (REPORT, "totals"), ("/api/v1/federation/hosts", "hosts")] {
        let answer = node.api().get(path).await.licensed();
        assert!(!answer[key].is_null(), "{path}");
        let coverage = &answer["coverage"];
        assert_eq!((&coverage["sites"], &coverage["reporting"]), (&json!(2), &json!(1)), "{path}");
        let named = &coverage["silent"][0];
        assert_eq!(members(named), names("site_id name last_sync_at"));
        assert_eq!(named["name"], "silent");
    }
    let report = node.api().get(REPORT).await.licensed();
    assert!(report["sites"][1]["age_seconds"].as_u64().unwrap() >= 1_300);
}

#[tokio::test(flavor = "multi_thread")]
async fn results_put_in_at_a_site_arrive_at_its_coordinator() {
    let mut federation = TestFederation::start(1).await;
    let api = federation.sites[0].node.api();
    let id = federation.sites[0].id.clone();
    let result = |n: u32, passed: u64, failed: u64| json!({"host_id": host_id(1, n), "rules_passed": passed, "rules_failed": failed});
    let scans = json!({"entries": [result(1, 10, 0), result(2, 1, 2), result(3, 1, 0),
        json!({"host_id": "nobody"}), result(1, 0, 1)]});

    let put = api.put("/api/v1/site/compliance/CIS%20L1", &scans).await.ok();
    let lines = [
        json!({"host_id": host_id(1, 1), "cve_id": "CVE-2026-0815", "severity": "Critical"}),
        json!({"host_id": host_id(1, 2), "cve_id": "cve-2026-0815", "severity": "high"}),
        json!({"host_id": host_id(1, 2), "cve_id": "CVE-2025-1234", "severity": "low"}),
        json!({"host_id": host_id(1, 2), "cve_id": "none", "severity": "low"}),
    ];
    let body = lines.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
    let found = api
        .send(
            Method::PUT,
            "/api/v1/site/vulnerabilities",
            Some(body.into()),
            &[("content-type", "application/x-ndjson")],
        )
        .await
        .ok();

    assert_eq!((&put["accepted"], &put["skipped_total"]), (&json!(3), &json!(2)));
    assert_eq!((&put["skipped"][0]["index"], &put["skipped"][1]["index"]), (&json!(3), &json!(4)));
    assert_eq!((&put["score_percent"], &put["hosts_compliant"]), (&json!(77.8), &json!(2)));
    assert_eq!((&found["accepted"], &found["skipped_total"]), (&json!(3), &json!(1)));
    assert_eq!(found["top_cve_ids"], json!(["CVE-2026-0815", "CVE-2025-1234"]));
    let held = api.get("/api/v1/site/compliance/CIS%20L1?limit=2").await.ok();
    assert_eq!((&held["total"], &held["next_cursor"]), (&json!(3), &json!("2")));
    assert_eq!(held["items"].as_array().map(Vec::len), Some(2));
    let rest = api.get("/api/v1/site/compliance/CIS%20L1?limit=2&cursor=2").await.ok();
    assert_eq!((rest["items"].as_array().map(Vec::len), &rest["next_cursor"]), (Some(1), &Value::Null));
    assert_eq!(api.get("/api/v1/site/compliance").await.ok()["items"][0]["baseline"], "CIS L1");
    assert_eq!(api.get("/api/v1/site/vulnerabilities").await.ok()["items"][0]["severity"], "critical");

    let shown = eventually("the coordinator shows both", async || {
        let shown = dashboard(&federation.coordinator, &id).await;
        (shown["compliance_rollups"][0].is_object() && shown["vulnerability_rollup"].is_object())
            .then_some(shown)
    })
    .await;
    assert_eq!(shown["compliance_rollups"][0]["baseline"], "CIS L1");
    assert_eq!(shown["compliance_rollups"][0]["score_percent"], 77.8);
    assert_eq!(shown["compliance_rollups"][0]["hosts_in_scope"], 3);
    let found = &shown["vulnerability_rollup"];
    assert_eq!(
        (&found["critical_count"], &found["high_count"], &found["low_count"]),
        (&json!(1), &json!(1), &json!(1))
    );
    assert_eq!(found["affected_host_count"], 2);

    federation.sites[0].node.restart().await;
    let api = federation.sites[0].node.api();
    assert_eq!(api.get("/api/v1/site/compliance/CIS%20L1").await.ok()["total"], 3);
    assert_eq!(api.delete("/api/v1/site/compliance/CIS%20L1").await.status, 204);
    api.delete("/api/v1/site/compliance/CIS%20L1").await.refused(404, "baseline_not_found");
    api.get("/api/v1/site/compliance/CIS%20L1").await.refused(404, "baseline_not_found");
    eventually("a removed baseline leaves the dashboard", async || {
        let shown = dashboard(&federation.coordinator, &id).await;
        (shown["compliance_rollups"] == json!([])).then_some(())
    })
    .await;
    eventually("nothing waits", async || (federation.sites[0].depth().await == 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn results_put_in_before_a_site_joins_are_told_when_it_has_joined() {
    let mut federation = TestFederation::start(0).await;
    let node = TestNode::start(Role::Site).await;
    let scans = json!({"entries": [{"host_id": host_id(1, 1), "rules_passed": 1, "rules_failed": 1}]});

    node.api().put("/api/v1/site/compliance/CIS", &scans).await.ok();
    node.api().put("/api/v1/site/hosts", &json!({"entries": [host(1, 1)]})).await.ok();
    assert_eq!(
        node.api().get("/api/v1/federation/site/sync-status").await.licensed()["queue_depth_by_payload_type"]
            ["compliance_rollup"],
        Value::Null
    );
    let id = federation.join(&node, "late").await;

    eventually("the score arrives", async || {
        let shown = dashboard(&federation.coordinator, &id).await;
        (shown["compliance_rollups"][0]["score_percent"] == 50.0).then_some(())
    })
    .await;
    federation.coordinator.restart().await;
    assert_eq!(dashboard(&federation.coordinator, &id).await["compliance_rollups"][0]["score_percent"], 50.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn site_inputs_are_refused_where_they_do_not_belong() {
    let coordinator = TestNode::start(Role::Coordinator).await;
    let site = TestNode::start(Role::Site).await;
    let empty = json!({"entries": []});

    for path in ["/api/v1/site/compliance/CIS", "/api/v1/site/vulnerabilities"] {
        coordinator.api().put(path, &empty).await.refused(409, "wrong_role");
        site.anonymous().put(path, &json!(7)).await.refused(401, "token_missing");
        let reader = site.api_as(scopes([Scope::SiteRead]), None);
        reader.put(path, &empty).await.refused(403, "permission_denied");
        site.api().put(path, &json!({"entries": 7})).await.refused(400, "invalid_body");
        site.api().put(path, &empty).await.ok();
    }
    let long = format!("/api/v1/site/compliance/{}", "x".repeat(65));
    site.api().put(&long, &empty).await.refused(400, "invalid_value");
    site.api().get("/api/v1/site/compliance/CIS?limit=0").await.refused(400, "invalid_query");
}
