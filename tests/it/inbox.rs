//! What a coordinator pushes to a site (contract B7, 4, 5.2 to 5.5, 10): over HTTP from one of another make, and
//! what the site makes of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hansa::system::{SystemClock, SystemEntropy};
use hansa_actors::{CarryingOut, ConnectorView, Connectors, Echo, Outcome, Part, Service, Task, Work};
use hansa_model::enrollment::Role;
use hansa_model::id::CommandId;
use hansa_model::{Timestamp, WallClock as _};
use hansa_storage::table::{self, QueueEntry};
use hansa_storage::{Batch, Lane};
use hansa_tests::{HttpCoordinator, TestNode, TestProcess, eventually, host, host_id};
use serde_json::{Value, json};
use uuid::Uuid;

const POLICIES: &str = "/api/v1/federation/site/received-policies";
const COMMANDS: &str = "/api/v1/federation/site/received-commands";

/// Echo, with a book of what it was asked.
#[derive(Debug, Default)]
struct Recorder {
    runs: Mutex<Vec<String>>,
}

impl Recorder {
    fn runs(&self, of: &str) -> usize {
        self.runs.lock().unwrap().iter().filter(|run| run.starts_with(of)).count()
    }
}

impl Connectors for Recorder {
    fn serves(&self, kind: &str) -> Option<Service> {
        Echo.serves(kind)
    }

    fn carry_out(&self, work: Work) -> CarryingOut<'_> {
        let line = match &work.task {
            Task::Command { id, .. } => format!("command {id}"),
            Task::Policy { version, withdraw, .. } => format!("policy {version} {withdraw}"),
            Task::GiveLease { lease, value } => format!("give {} {}", lease.kind, value.expose()),
            Task::TakeLease(lease) => format!("take {}", lease.kind),
        };
        self.runs.lock().unwrap().push(line);
        Box::pin(async {
            if matches!(&work.task, Task::GiveLease { value, .. } if value.expose() == "refuse") {
                return Outcome::failed("not now");
            }
            Echo::run(work).await
        })
    }

    fn declared(&self) -> Vec<ConnectorView> {
        Echo.declared()
    }
}

fn new_id() -> Uuid {
    CommandId::generate(SystemClock.now(), &SystemEntropy).0
}

/// A site with two hosts, enrolled with a coordinator of another make.
async fn enrolled() -> (TestNode, HttpCoordinator, Arc<Recorder>) {
    let recorder = Arc::new(Recorder::default());
    let site = TestNode::start_connected(Role::Site, Arc::clone(&recorder) as Arc<dyn Connectors>).await;
    let body = json!({"entries": [host(1, 1), host(1, 2)]});
    site.api().put("/api/v1/site/hosts", &body).await.ok();
    let coordinator = HttpCoordinator::start().await;
    coordinator.enroll(&site).await;
    (site, coordinator, recorder)
}

fn command(id: Uuid, parameters: Value) -> Value {
    json!({"command_id": id, "command_type": "echo", "parameters": parameters, "target_host_ids": []})
}

async fn row(site: &TestNode, list: &str, key: &str, id: Uuid) -> Value {
    let body = site.api().get(list).await.licensed();
    let rows = body.as_object().unwrap().values().find_map(Value::as_array).unwrap();
    rows.iter().find(|row| row[key] == json!(id)).cloned().unwrap_or(Value::Null)
}

async fn ended(site: &TestNode, id: Uuid) -> Value {
    eventually("the command has ended", async || {
        let row = row(site, COMMANDS, "id", id).await;
        (row["completed_at"].is_string()).then_some(row)
    })
    .await
}

async fn reported(coordinator: &HttpCoordinator, route: &str, count: usize) -> Vec<Value> {
    eventually("the report has arrived", async || {
        let reports = coordinator.reported(route);
        (reports.len() >= count).then_some(reports)
    })
    .await
}

fn members(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_coordinator_pushes_and_who_it_is_comes_before_what_it_says() {
    let site = TestNode::start_strict(Role::Site).await;
    let coordinator = HttpCoordinator::start().await;
    let path = "/api/v1/federation/site/commands";
    site.anonymous().post(path, &json!({})).await.refused(401, "coordinator_unauthorized");
    coordinator.enroll(&site).await;

    for api in [site.anonymous(), site.anonymous().bearer("x"), site.api()] {
        for route in ["policies", "commands", "secret-leases"] {
            let path = format!("/api/v1/federation/site/{route}");
            api.post(&path, &json!({})).await.refused(401, "coordinator_unauthorized");
        }
    }
    coordinator.api(&site).post(path, &json!({})).await.refused(401, "signature_invalid");
    let id = new_id();
    coordinator.push(&site, "commands", &command(id, json!({}))).await.licensed();
    let bad = coordinator.push(&site, "commands", &json!({"command_id": "x"})).await;
    assert_eq!(bad.status, 400, "{}", bad.text);
    let missing = coordinator.push(&site, "secret-leases", &json!({"status": "issued"})).await;
    assert_eq!(missing.status, 400, "{}", missing.text);
    for bad in [
        json!({"policy_id": id, "policy_type": "echo", "name": "n", "definition": {}, "version": 0}),
        json!({"policy_id": id, "policy_type": "echo", "name": "n", "definition": [], "version": 1}),
        json!({"policy_id": id, "policy_type": " ", "name": "n", "definition": {}, "version": 1}),
        json!({"policy_id": id, "name": "n", "definition": {}, "version": 1}),
    ] {
        let answer = coordinator.push(&site, "policies", &bad).await;
        assert_eq!(answer.status, 400, "{bad}: {}", answer.text);
        answer.assert_problem();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_is_applied_by_version_reported_and_taken_back() {
    let (site, coordinator, recorder) = enrolled().await;
    let id = new_id();
    let push = |version: u32| json!({"policy_id": id, "policy_type": "echo", "name": "web", "definition": {"b": 1, "a": 2}, "version": version});

    let first = coordinator.push(&site, "policies", &push(2)).await.licensed();
    let applied = eventually("the policy is in force", async || {
        let row = row(&site, POLICIES, "policy_id", id).await;
        (row["applied"] == true).then_some(row)
    })
    .await;
    let older = coordinator.push(&site, "policies", &push(1)).await.licensed();
    coordinator.push(&site, "policies", &push(3)).await.licensed();
    let reports = reported(&coordinator, "policy-results", 1).await;

    assert_eq!((&first["policy"]["version"], &first["policy"]["policy_id"]), (&json!(2), &json!(id)));
    for name in ["policy_type", "name", "version", "received_at", "applied_at", "apply_error"] {
        assert!(members(&applied).contains(&name), "{name}");
    }
    assert_eq!(applied["definition_json"], r#"{"a":2,"b":1}"#);
    assert_eq!(older["policy"]["version"], 2);
    assert_eq!(reports[0]["policy_id"], json!(id));
    assert_eq!(reports[0]["applied"], true);
    eventually("the newer version is in force", async || {
        let row = row(&site, POLICIES, "policy_id", id).await;
        (row["applied"] == true && row["version"] == 3).then_some(())
    })
    .await;
    assert_eq!((recorder.runs("policy 2 false"), recorder.runs("policy 3 false")), (1, 1));

    let withdraw = |version: u32| json!({"policy_id": id, "version": version, "withdrawn": true});
    coordinator.push(&site, "policies", &withdraw(2)).await.licensed();
    assert_eq!(row(&site, POLICIES, "policy_id", id).await["withdrawn"], false, "a newer one stays");
    coordinator.push(&site, "policies", &withdraw(3)).await.licensed();
    eventually("the policy is taken back", async || {
        let gone = row(&site, POLICIES, "policy_id", id).await.is_null();
        (gone && recorder.runs("policy 3 true") == 1).then_some(())
    })
    .await;
    coordinator.push(&site, "policies", &push(3)).await.licensed();
    eventually("a policy that is wanted again is applied again", async || {
        (recorder.runs("policy 3 false") == 2).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_that_nothing_applies_says_so_and_is_tried_again() {
    let (site, coordinator, _) = enrolled().await;
    let id = new_id();
    let push = json!({"policy_id": id, "policy_type": "firewall_role", "name": "web", "definition": {}, "version": 1});

    coordinator.push(&site, "policies", &push).await.licensed();
    let row = eventually("the try has failed", async || {
        let row = row(&site, POLICIES, "policy_id", id).await;
        row["apply_error"].is_string().then_some(row)
    })
    .await;
    let reports = reported(&coordinator, "policy-results", 1).await;

    assert!(row["apply_error"].as_str().unwrap().starts_with("no local applier registered"), "{row}");
    assert_eq!(row["applied"], false);
    assert_eq!((&reports[0]["applied"], &reports[0]["error"]), (&json!(false), &row["apply_error"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn command_runs_once_however_often_it_comes_and_its_result_goes_up() {
    let (site, coordinator, recorder) = enrolled().await;
    let id = new_id();
    let push = command(id, json!({"note": "hello"}));

    let first = coordinator.push(&site, "commands", &push).await.licensed();
    let row = ended(&site, id).await;
    let again = coordinator.push(&site, "commands", &push).await.licensed();
    let reports = reported(&coordinator, "command-results", 1).await;

    assert_eq!(first["command"]["id"], json!(id));
    for name in ["command_type", "parameters", "target_host_ids", "received_at", "status", "result"] {
        assert!(members(&row).contains(&name), "{name}");
    }
    assert_eq!((&row["status"], &row["parameters"]), (&json!("completed"), &json!({"note": "hello"})));
    assert_eq!(again["command"]["status"], "completed");
    assert_eq!(recorder.runs(&format!("command {id}")), 1);
    let report = &reports[0];
    assert_eq!((&report["command_id"], &report["status"]), (&json!(id), &json!("completed")));
    assert_eq!((&report["host_count"], &report["success_count"]), (&json!(2), &json!(2)));
    let result = &report["results"][host_id(1, 1)];
    assert_eq!(result["success"], true);
    assert!(result["detail"].as_str().unwrap().contains("hello"));
    assert_eq!(row["result"], *report);
}

#[tokio::test(flavor = "multi_thread")]
async fn command_that_cannot_reach_its_hosts_says_which() {
    let (site, coordinator, _) = enrolled().await;
    let [partly, nowhere, undeclared, late] = [(); 4].map(|()| new_id());
    let mut some = command(partly, json!({"fail_hosts": [host_id(1, 2)]}));
    some["target_host_ids"] = json!([host_id(1, 1), host_id(1, 2), host_id(9, 9)]);
    let mut none = command(nowhere, json!({}));
    none["target_host_ids"] = json!([host_id(9, 9)]);
    let mut unknown = command(undeclared, json!({}));
    unknown["command_type"] = json!("reboot");
    let mut expired = command(late, json!({}));
    expired["expires_at"] = json!("2020-01-01T00:00:00Z");
    for push in [&some, &none, &unknown, &expired] {
        coordinator.push(&site, "commands", push).await.licensed();
    }

    let [partly, nowhere, undeclared, late] = [
        ended(&site, partly).await,
        ended(&site, nowhere).await,
        ended(&site, undeclared).await,
        ended(&site, late).await,
    ];

    assert_eq!((&partly["status"], &partly["result"]["success_count"]), (&json!("failed"), &json!(1)));
    assert_eq!(partly["result"]["results"][host_id(9, 9)]["detail"], "host not found");
    assert_eq!(nowhere["result"]["results"][host_id(9, 9)]["success"], false);
    let error = |row: &Value| row["result"]["error"].as_str().unwrap_or_default().to_owned();
    assert!(error(&undeclared).contains("no connector is declared"), "{undeclared}");
    assert!(error(&late).contains("expired"), "{late}");
    let entries = site.store().read().unwrap().all::<table::Audit>(..).unwrap();
    let refused = entries.iter().filter(|(_, entry)| entry.draft.operation == "command_refused").count();
    assert_eq!(refused, 1);

    let empty = TestNode::start_connected(Role::Site, Arc::new(Echo)).await;
    let other = HttpCoordinator::start().await;
    other.enroll(&empty).await;
    let id = new_id();
    other.push(&empty, "commands", &command(id, json!({}))).await.licensed();
    assert_eq!(error(&ended(&empty, id).await), "no target hosts resolved");
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_command_stops_or_never_starts() {
    let (site, coordinator, recorder) = enrolled().await;
    let [running, never] = [(); 2].map(|()| new_id());
    coordinator.push(&site, "commands", &command(running, json!({"sleep_ms": 60_000}))).await.licensed();
    eventually("the command runs", async || {
        (recorder.runs(&format!("command {running}")) == 1).then_some(())
    })
    .await;

    for id in [running, never] {
        let body = json!({"command_id": id, "cancelled": true});
        coordinator.push(&site, "commands", &body).await.licensed();
    }
    coordinator.push(&site, "commands", &command(never, json!({}))).await.licensed();

    let (stopped, skipped) = (ended(&site, running).await, ended(&site, never).await);
    assert_eq!((&stopped["status"], &stopped["cancelled"]), (&json!("failed"), &json!(true)));
    assert_eq!(stopped["result"]["results"][host_id(1, 1)]["detail"], "cancelled");
    assert_eq!((&skipped["status"], recorder.runs(&format!("command {never}"))), (&json!("failed"), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn command_that_was_cut_off_is_not_run_again_and_its_outcome_is_called_unknown() {
    let (mut site, coordinator, recorder) = enrolled().await;
    let [by_panic, by_stop] = [(); 2].map(|()| new_id());
    let runs = async |id: Uuid| {
        eventually("the command runs", async || (recorder.runs(&format!("command {id}")) == 1).then_some(()))
            .await;
    };
    coordinator.push(&site, "commands", &command(by_panic, json!({"sleep_ms": 60_000}))).await.licensed();
    runs(by_panic).await;

    site.federation().danger_panic(Part::Inbox);
    let alive = new_id();
    let push = command(alive, json!({}));
    eventually("the inbox answers again", async || {
        coordinator.push(&site, "commands", &push).await.is_success().then_some(())
    })
    .await;
    ended(&site, alive).await;
    assert_eq!(row(&site, COMMANDS, "id", by_panic).await["status"], "in_progress", "it runs on");
    site.federation().danger_panic(Part::Executor);
    let panicked = ended(&site, by_panic).await;
    coordinator.push(&site, "commands", &command(by_stop, json!({"sleep_ms": 60_000}))).await.licensed();
    runs(by_stop).await;
    site.restart().await;
    let stopped = ended(&site, by_stop).await;

    for row in [panicked, stopped] {
        assert_eq!(row["status"], "failed");
        assert!(row["result"]["error"].as_str().unwrap().contains("outcome is unknown"), "{row}");
    }
    assert_eq!(recorder.runs("command"), 3);
    let results: BTreeMap<String, Value> = reported(&coordinator, "command-results", 3)
        .await
        .into_iter()
        .map(|report| (report["command_id"].as_str().unwrap().to_owned(), report["status"].clone()))
        .collect();
    assert_eq!(results[&by_stop.to_string()], "failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn credential_goes_to_its_host_and_nowhere_else_and_ends_offline() {
    const VALUE: &str = "canary-credential-4711";
    let (site, coordinator, recorder) = enrolled().await;
    let wish = json!({
        "host_id": host_id(1, 1), "secret_name": "orders", "backend_role": "reader", "kind": "database",
        "ttl_seconds": 60,
    });
    let asked = site.api().post("/api/v1/site/secret-requests", &wish).await;
    assert_eq!(asked.status, 201, "{}", asked.text);
    let key = asked.body["correlation_key"].as_str().unwrap().to_owned();
    let request = reported(&coordinator, "secret-lease-requests", 1).await[0].clone();
    assert_eq!((&request["correlation_key"], &request["kind"]), (&json!(key), &json!("database")));
    assert_eq!((key.len(), &request["ttl_seconds"]), (32, &json!(60)));
    for (field, bad) in [("kind", json!("gold")), ("ttl_seconds", json!(5)), ("host_id", json!(" "))] {
        let mut wish = wish.clone();
        wish[field] = bad;
        site.api().post("/api/v1/site/secret-requests", &wish).await.refused(400, "invalid_value");
    }

    let end = Timestamp::from_secs(site.clock.now().as_secs() + 600);
    let issued = |value: &str| {
        json!({
            "correlation_key": key, "host_id": host_id(1, 1), "secret_name": "orders", "status": "issued",
            "secret_metadata": {"user": "u"}, "secret_value": value, "expires_at": end,
        })
    };
    let busy = coordinator.push(&site, "secret-leases", &issued("refuse")).await;
    let taken = coordinator.push(&site, "secret-leases", &issued(VALUE)).await.licensed();
    let repeat = coordinator.push(&site, "secret-leases", &issued(VALUE)).await.licensed();

    assert_eq!(busy.status, 503, "{}", busy.text);
    assert_eq!((&taken["status"], &taken["correlation_key"]), (&json!("issued"), &json!(key)));
    assert!(taken.get("secret_value").is_none() && repeat["status"] == "issued");
    assert!(recorder.runs(&format!("give database {VALUE}")) >= 1);
    let list = site.api().get("/api/v1/site/secret-requests").await.ok();
    let row = &list["items"][0];
    assert_eq!((&row["status"], &row["metadata"]), (&json!("issued"), &json!({"user": "u"})));
    assert!(!list.to_string().contains(VALUE));
    let stored = format!("{:?}", site.store().read().unwrap().all::<table::ReceivedLeases>(..).unwrap());
    assert!(!stored.contains(VALUE));

    drop(coordinator);
    site.clock.advance(Duration::from_secs(700));
    eventually("the credential is taken away at its end", async || {
        let list = site.api().get("/api/v1/site/secret-requests").await.ok();
        (list["items"][0]["status"] == "expired" && recorder.runs("take database") == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_credential_is_taken_away_and_a_late_repeat_does_not_bring_it_back() {
    let (site, coordinator, recorder) = enrolled().await;
    let push = |status: &str, value: Value| json!({"correlation_key": "a".repeat(32), "host_id": "h", "secret_name": "s", "status": status, "secret_value": value});
    coordinator.push(&site, "secret-leases", &push("issued", json!("v"))).await.licensed();

    let revoked = coordinator.push(&site, "secret-leases", &push("revoked", Value::Null)).await.licensed();
    eventually("it is taken away", async || (recorder.runs("take unrequested") == 1).then_some(())).await;
    let late = coordinator.push(&site, "secret-leases", &push("issued", json!("v"))).await.licensed();

    assert_eq!((&revoked["status"], &late["status"]), (&json!("revoked"), &json!("revoked")));
    assert_eq!(recorder.runs("give"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letter_is_listed_and_sent_once_more() {
    let (mut site, coordinator, _) = enrolled().await;
    let entry = QueueEntry {
        payload_type: "command_result".to_owned(),
        dedup_key: "command_result:x".to_owned(),
        payload: br#"{"command_id":"x"}"#.to_vec(),
        version: 1,
        created_at: Timestamp::from_secs(1),
        attempts: 8,
        last_attempt_at: Some(Timestamp::from_secs(2)),
        last_error: Some("HTTP 400".to_owned()),
    };
    let mut batch = Batch::new();
    batch.put::<table::Queue>(&900, &entry).put::<table::QueueKeys>("command_result:x", &900);
    site.store().commit(Lane::Control, batch).await.unwrap();
    site.restart().await;

    let dead = site.api().get("/api/v1/federation/site/sync-queue/dead").await.licensed();
    assert_eq!((&dead["entries"][0]["id"], &dead["entries"][0]["attempts"]), (&json!(900), &json!(8)));
    assert_eq!(dead["entries"][0]["last_error"], "HTTP 400");
    assert!(coordinator.reported("command-results").is_empty());
    let path = "/api/v1/federation/site/sync-queue/requeue";
    let answer = site.api().post(path, &json!({"ids": [900]})).await.licensed();
    assert_eq!(answer["requeued_count"], 1);
    reported(&coordinator, "command-results", 1).await;
    let again = site.api().post(path, &json!({})).await.licensed();
    assert_eq!(again["requeued_count"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn oldest_payloads_are_dropped_by_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let site = TestProcess::start(folder.path(), "site").await;
    let hosts: Vec<Value> = (1..=3).map(|number| host(1, number)).collect();
    let api = site.api().await;
    api.put("/api/v1/site/hosts", &json!({"entries": hosts})).await.ok();
    let findings =
        json!({"entries": [{"host_id": host_id(1, 1), "cve_id": "CVE-2026-1", "severity": "high"}]});
    api.put("/api/v1/site/vulnerabilities", &findings).await.ok();

    let shown = site.run(&["queue", "purge", "--keep-newest", "0", "--output", "json"]).await;

    let purged: Value = serde_json::from_str(&shown).unwrap();
    let left = api.get("/api/v1/federation/site/sync-queue/depth").await.licensed();
    assert!(purged["purged_count"].is_u64(), "{purged}");
    assert_eq!(left["by_payload_type"]["host_directory"], json!(3), "{left}");
    assert_eq!(left["depth"], json!(3), "{left}");
}

#[tokio::test(flavor = "multi_thread")]
async fn site_is_told_where_its_coordinator_has_moved() {
    const PATH: &str = "/api/v1/site/coordinator";
    let (site, _coordinator, _) = enrolled().await;
    let stranger = TestNode::start(Role::Site).await;
    let body = json!({"coordinator_url": "http://127.0.0.1:9/", "quic_address": "127.0.0.1:9"});

    let moved = site.api().put(PATH, &body).await.licensed();

    assert_eq!(moved["status"], "enrolled");
    assert_eq!(moved["coordinator"]["coordinator_url"], "http://127.0.0.1:9");
    assert_eq!(moved["coordinator"]["quic_address"], "127.0.0.1:9");
    assert_eq!(site.api().get("/api/v1/federation/site/enrollment-status").await.licensed(), moved);
    let entries = site.api().get("/api/v1/federation/audit?operation=coordinator_relocated").await.licensed();
    assert_eq!(entries["entries"][0]["details"], json!({"coordinator_url": "http://127.0.0.1:9"}));
    site.api().put(PATH, &json!({"coordinator_url": "hq"})).await.refused(400, "invalid_value");
    site.api().put(PATH, &json!({})).await.refused(400, "invalid_body");
    site.anonymous().put(PATH, &json!([])).await.refused(401, "token_missing");
    stranger.api().put(PATH, &body).await.refused(409, "not_enrolled");
    let coordinator = TestNode::start(Role::Coordinator).await;
    coordinator.api().put(PATH, &body).await.refused(409, "wrong_role");
}

#[tokio::test(flavor = "multi_thread")]
async fn site_that_left_forgets_its_coordinator_and_can_join_another() {
    let (site, first, _) = enrolled().await;
    let id = new_id();
    first.push(&site, "commands", &command(id, json!({}))).await.licensed();
    ended(&site, id).await;

    let left = site.api().post("/api/v1/federation/site/leave", &json!({})).await.licensed();
    let status = site.api().get("/api/v1/federation/site/enrollment-status").await.licensed();
    let again = site.api().post("/api/v1/federation/site/leave", &json!({})).await;

    assert_eq!((&left["status"], &left["notified"]), (&json!("not_enrolled"), &json!(false)));
    assert_eq!((&status["status"], &status["coordinator"]), (&json!("not_enrolled"), &Value::Null));
    again.refused(409, "not_enrolled");
    first
        .push(&site, "commands", &command(new_id(), json!({})))
        .await
        .refused(401, "coordinator_unauthorized");
    let second = HttpCoordinator::start().await;
    second.enroll(&site).await;
    eventually("the hosts have arrived there", async || {
        second
            .reported("host-directory")
            .last()
            .filter(|body| body["entries"].as_array().unwrap().len() == 2)
            .map(drop)
    })
    .await;
    assert!(second.reported("command-results").is_empty(), "what was the first one's stays its own");
}
