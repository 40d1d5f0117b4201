//! Commands: dispatched, pushed and signed, ended by the site's own word (contract B4, B6, 4, 5).

use std::collections::BTreeSet;

use hansa_model::enrollment::Role;
use hansa_model::limits::command as limits;
use hansa_model::scope::Scope;
use hansa_storage::table;
use hansa_tests::{Answer, HttpSite, TestFederation, TestNode, all_scopes, eventually, host, host_id};
use reqwest::Method;
use serde_json::{Value, json};

const COMMANDS: &str = "/api/v1/federation/commands";

async fn dispatch(node: &TestNode, site: &str, more: Value) -> Answer {
    let mut body = json!({"command_type": "reboot", "target_site_id": site});
    if let (Some(body), Some(more)) = (body.as_object_mut(), more.as_object()) {
        body.extend(more.clone());
    }
    node.api().post(&format!("{COMMANDS}/dispatch"), &body).await
}

async fn command(node: &TestNode, id: &Value) -> Value {
    node.api().get(&format!("{COMMANDS}/{}", id.as_str().unwrap())).await.licensed()["command"].clone()
}

async fn reaches(node: &TestNode, id: &Value, status: &str) -> Value {
    eventually(status, async || {
        let command = command(node, id).await;
        (command["status"] == status).then_some(command)
    })
    .await
}

async fn audited(node: &TestNode, operation: &str) -> Vec<Value> {
    let path = format!("/api/v1/federation/audit?operation={operation}");
    node.api().get(&path).await.licensed()["entries"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn command_is_pushed_signed_and_ends_by_the_sites_result() {
    let node = TestNode::start(Role::Coordinator).await;
    let (site, server) = HttpSite::reachable(&node.api(), "alpha", 1).await;
    // A site that has used an ingest route is known to speak HTTP.
    site.push("host-directory", &json!({"entries": [host(1, 1)]})).await.licensed();

    let answer = dispatch(&node, &site.id, json!({"parameters": {"b": 1, "a": [2]}})).await;

    assert_eq!(answer.status, 201);
    let sent = answer.licensed()["command"].clone();
    for name in [
        "id",
        "command_type",
        "parameters",
        "target_site_id",
        "target_host_ids",
        "dispatched_by",
        "dispatched_at",
        "status",
        "result_summary",
        "completed_at",
        "push_attempts",
        "last_push_attempt_at",
        "last_push_error",
    ] {
        assert!(sent.get(name).is_some(), "{name}");
    }
    assert_eq!((&sent["status"], &sent["target_host_ids"]), (&json!("queued_at_site"), &json!([])));
    reaches(&node, &sent["id"], "in_progress").await;
    let push = server.pushes().pop().unwrap();
    let certificate = node.anonymous().get("/api/v1/federation/tls-cert").await.ok()["cert_pem"].clone();
    assert_eq!(push.path, "/api/v1/federation/site/commands");
    assert!(push.is_signed_by(certificate.as_str().unwrap()));
    assert!(push.headers["authorization"].starts_with("Bearer "));
    let body = json!({"command_id": sent["id"], "command_type": "reboot", "parameters": {"a": [2], "b": 1}, "target_host_ids": []});
    assert_eq!(push.body, body);

    let results = json!({host_id(1, 1): {"success": true, "detail": "done"}, host_id(1, 2): {"success": false, "detail": "no"}});
    let result = json!({"command_id": sent["id"], "status": "failed", "host_count": "2", "success_count": 1, "results": results});
    let first = site.push("command-results", &result).await.licensed();
    let replay = site.push("command-results", &json!({"results": [result, {"status": "failed"}]})).await;

    assert_eq!(first, json!({"licensed": true, "updated": 1, "skipped": []}));
    let replay = replay.licensed();
    assert_eq!((&replay["updated"], replay["skipped"].as_array().unwrap().len()), (&json!(0), 2));
    let ended = command(&node, &sent["id"]).await;
    assert_eq!(
        (&ended["status"], &ended["result_summary"]),
        (&json!("partial"), &json!("1 of 2 hosts succeeded"))
    );
    assert!(ended["completed_at"].is_string());
    let path = format!("{COMMANDS}/{}/results", sent["id"].as_str().unwrap());
    let page = node.api().get(&format!("{path}?success=false")).await.licensed();
    assert_eq!(page["results"], json!([{"host_id": host_id(1, 2), "success": false, "detail": "no"}]));
    assert_eq!(node.api().get(&path).await.licensed()["total"], 2);
    let dispatched = audited(&node, "command_dispatched").await;
    assert_eq!(
        dispatched[0]["details"],
        json!({"command_id": sent["id"], "command_type": "reboot", "target_host_count": 0})
    );
    let moves: Vec<_> = audited(&node, "command_status_changed").await.into_iter().rev().collect();
    let words: Vec<_> = moves
        .iter()
        .map(|entry| (&entry["details"]["from_status"], &entry["details"]["to_status"]))
        .collect();
    assert_eq!(
        words,
        [(&json!("queued_at_site"), &json!("in_progress")), (&json!("in_progress"), &json!("partial"))]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_sites_result_changes_nothing_and_is_audited() {
    let node = TestNode::start(Role::Coordinator).await;
    let mine = HttpSite::enrolled(&node, "mine", 1).await;
    let other = HttpSite::enrolled(&node, "other", 9).await;
    let sent = dispatch(&node, &mine.id, json!({})).await.licensed()["command"].clone();
    let result = json!({"command_id": sent["id"], "status": "completed", "host_count": 1, "success_count": 1, "results": {}});

    let refused = other.push("command-results", &result).await.licensed();
    let unread = command(&node, &sent["id"]).await;
    let taken = mine.push("command-results", &result).await.licensed();

    assert_eq!((&refused["updated"], &refused["skipped"][0]["command_id"]), (&json!(0), &sent["id"]));
    assert_eq!(unread["status"], "queued_at_site");
    let entries = audited(&node, "command_result_refused").await;
    assert_eq!((entries.len(), &entries[0]["target_site_id"]), (1, &json!(other.id)));
    // From `queued_at_site` through `in_progress`.
    assert_eq!(taken["updated"], 1);
    assert_eq!(audited(&node, "command_status_changed").await.len(), 2);
    let bare = node.anonymous().post(&mine.path("command-results"), &json!({})).await;
    bare.refused(401, "site_unauthorized");
    let path = other.path("command-results");
    node.anonymous().bearer(&mine.bearer).post(&path, &result).await.refused(403, "site_mismatch");
}

#[tokio::test(flavor = "multi_thread")]
async fn dispatch_is_refused_with_its_reason() {
    let node = TestNode::start(Role::Coordinator).await;
    let site = HttpSite::enrolled(&node, "alpha", 1).await;
    let pending = HttpSite::invited(&node, "pending", 40).await;
    let path = format!("{COMMANDS}/dispatch");

    node.anonymous().post(&path, &json!({})).await.refused(401, "token_missing");
    let reader = node.api_as(BTreeSet::from([Scope::CommandsRead]), None);
    reader.post(&path, &json!({})).await.refused(403, "permission_denied");
    dispatch(&node, &host_id(9, 9), json!({})).await.refused(404, "site_not_found");
    dispatch(&node, &pending.id, json!({})).await.refused(409, "site_state");
    dispatch(&node, &site.id, json!({"target_host_ids": ["x"]})).await.refused(400, "invalid_body");
    dispatch(&node, &site.id, json!({"command_type": " "})).await.refused(400, "invalid_value");
    dispatch(&node, &site.id, json!({"parameters": []})).await.refused(400, "invalid_body");
    dispatch(&node, &site.id, json!({"expires_at": "2001-01-01T00:00:00Z"}))
        .await
        .refused(400, "invalid_value");
    let row = format!("/api/v1/federation/sites/{}", site.id);
    node.api().patch(&row, &json!({"agent_version_min": "4.0"})).await.licensed();
    site.push("metadata", &json!({"sysmanage_version": "3.9"})).await.licensed();
    dispatch(&node, &site.id, json!({})).await.refused(409, "agent_too_old");
    site.push("metadata", &json!({"sysmanage_version": "4.0.1"})).await.licensed();
    dispatch(&node, &site.id, json!({})).await.licensed();
    node.api().act(&format!("{row}/suspend")).await.licensed();
    dispatch(&node, &site.id, json!({})).await.refused(409, "site_state");
    node.api().get(&format!("{COMMANDS}/{}", host_id(1, 1))).await.refused(404, "command_not_found");
    let confined = node.api_as(all_scopes(), Some(BTreeSet::from([pending.id.parse().unwrap()])));
    let body = json!({"command_type": "reboot", "target_site_id": site.id});
    confined.post(&path, &body).await.refused(404, "site_not_found");
    assert_eq!(confined.get(COMMANDS).await.licensed()["commands"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn list_is_newest_first_and_narrows() {
    let node = TestNode::start(Role::Coordinator).await;
    let site = HttpSite::enrolled(&node, "alpha", 1).await;
    let other = HttpSite::enrolled(&node, "beta", 9).await;
    let mut ids = Vec::new();
    for target in [&site, &site, &other] {
        ids.push(dispatch(&node, &target.id, json!({})).await.licensed()["command"]["id"].clone());
    }
    let result =
        json!({"command_id": ids[0], "status": "failed", "error": "no target hosts resolved", "results": {}});
    site.push("command-results", &result).await.licensed();
    let listed = async |query: &str| -> Vec<Value> {
        let answer = node.api().get(&format!("{COMMANDS}?{query}")).await.licensed();
        answer["commands"].as_array().unwrap().iter().map(|command| command["id"].clone()).collect()
    };

    assert_eq!(listed("").await, [ids[2].clone(), ids[1].clone(), ids[0].clone()]);
    assert_eq!(listed("limit=1&offset=1").await, [ids[1].clone()]);
    assert_eq!(listed("open_only=true&limit=25").await, [ids[2].clone(), ids[1].clone()]);
    assert_eq!(listed(&format!("site_id={}", site.id)).await, [ids[1].clone(), ids[0].clone()]);
    assert_eq!(listed(&format!("site_id={}&open_only=true", site.id)).await, [ids[1].clone()]);
    assert_eq!(listed("status=failed").await, [ids[0].clone()]);
    assert_eq!(command(&node, &ids[0]).await["result_summary"], "no target hosts resolved");
    for bad in ["limit=0", "offset=-1", "status=lost", "site_id=x", "open_only=maybe"] {
        node.api().get(&format!("{COMMANDS}?{bad}")).await.refused(400, "invalid_query");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn command_is_cancelled_before_and_after_it_left() {
    let mut federation = TestFederation::start(1).await;
    let id = federation.sites[0].id.clone();
    federation.sites[0].node.stop().await;
    let node = &federation.coordinator;
    eventually("the link is down", async || {
        let row = dispatch(node, &id, json!({})).await.licensed()["command"].clone();
        let path = format!("{COMMANDS}/{}/cancel", row["id"].as_str().unwrap());
        let cancelled = node.api().act(&path).await.licensed()["command"].clone();
        (cancelled["result_summary"] == "cancelled before it reached the site").then_some(())
    })
    .await;
    let (http, server) = HttpSite::reachable(&node.api(), "http", 60).await;
    http.push("host-directory", &json!({"entries": [host(6, 1)]})).await.licensed();
    let sent = dispatch(node, &http.id, json!({})).await.licensed()["command"].clone();
    reaches(node, &sent["id"], "in_progress").await;

    let path = format!("{COMMANDS}/{}/cancel", sent["id"].as_str().unwrap());
    let asked = node.api().act(&path).await.licensed()["command"].clone();

    assert_eq!(asked["status"], "in_progress");
    assert!(asked["cancel_requested_at"].is_string());
    eventually("the site is told", async || {
        server.pushes().iter().any(|push| push.body["cancelled"] == true).then_some(())
    })
    .await;
    let result = json!({"command_id": sent["id"], "status": "failed", "error": "stopped", "results": {}});
    http.push("command-results", &result).await.licensed();
    assert_eq!(command(node, &sent["id"]).await["result_summary"], "cancelled: stopped");
    node.api().act(&path).await.refused(409, "command_ended");
    assert!(!audited(node, "command_cancel_requested").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn refusal_and_outage_are_told_and_the_command_waits_for_another_try() {
    let node = TestNode::start(Role::Coordinator).await;
    let (site, server) = HttpSite::reachable(&node.api(), "alpha", 1).await;
    server.answer_with(422);

    let sent = dispatch(&node, &site.id, json!({})).await.licensed()["command"].clone();

    let tried = eventually("the refusal is told", async || {
        let command = command(&node, &sent["id"]).await;
        (command["push_attempts"] == 1).then_some(command)
    })
    .await;
    assert_eq!((&tried["status"], &tried["last_push_error"]), (&json!("queued_at_site"), &json!("HTTP 422")));
    for round in 2..=8 {
        node.clock.advance(std::time::Duration::from_secs(1_500));
        // Counted by what is on record, not by what the server saw: the wait for the next try starts with the record.
        eventually("the next try", async || {
            let command = command(&node, &sent["id"]).await;
            (command["push_attempts"] == round).then_some(())
        })
        .await;
    }
    assert_eq!(server.pushes().len(), 8);
    let dead = reaches(&node, &sent["id"], "failed").await;
    assert_eq!(dead["result_summary"], "Push failed after 8 attempts: HTTP 422");
    server.answer_with(503);
    let next = dispatch(&node, &site.id, json!({})).await.licensed()["command"].clone();
    eventually("the outage is told", async || {
        let command = command(&node, &next["id"]).await;
        (command["last_push_error"] == "HTTP 503" && command["status"] == "queued_at_site").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bulk_reaches_the_hosts_of_a_query_site_by_site() {
    let node = TestNode::start(Role::Coordinator).await;
    let one = HttpSite::enrolled(&node, "one", 1).await;
    let two = HttpSite::enrolled(&node, "two", 9).await;
    for (site, number) in [(&one, 1), (&two, 2)] {
        let entries = vec![host(number, 1), host(number, 2)];
        site.push("host-directory", &json!({"entries": entries})).await.licensed();
    }
    let path = format!("{COMMANDS}/dispatch-bulk");
    let body = json!({"command_type": "reboot", "hosts": {"fqdn_contains": "host-2"}, "dry_run": true});

    let shown = node.api().post(&path, &body).await.licensed();
    let mut real = body.clone();
    real["dry_run"] = json!(false);
    let sent = node.api().post(&path, &real).await.licensed();
    let sites = json!({"command_type": "reboot", "site_ids": [one.id, host_id(9, 9)]});
    let listed = node.api().post(&path, &sites).await.licensed();

    assert_eq!((&shown["dispatched"], &shown["sites"][0]["command"]), (&json!(2), &Value::Null));
    assert_eq!((&sent["dispatched"], &sent["refused"]), (&json!(2), &json!(0)));
    for row in sent["sites"].as_array().unwrap() {
        assert_eq!(
            (&row["host_count"], row["command"]["target_host_ids"].as_array().unwrap().len()),
            (&json!(1), 1)
        );
    }
    assert_eq!((&listed["dispatched"], &listed["refused"]), (&json!(1), &json!(1)));
    let codes: Vec<_> = listed["sites"].as_array().unwrap().iter().map(|row| &row["error"]["code"]).collect();
    assert!(codes.contains(&&json!("site_not_found")), "{codes:?}");
    let commands = node.api().get(COMMANDS).await.licensed();
    assert_eq!(commands["commands"].as_array().unwrap().len(), 3);
    let all = json!({"command_type": "reboot", "hosts": {}});
    node.api().post(&path, &all).await.refused(400, "invalid_value");
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_dispatch_under_one_key_has_one_effect() {
    let node = TestNode::start(Role::Coordinator).await;
    let site = HttpSite::enrolled(&node, "alpha", 1).await;
    let send = async |command_type: &str| {
        let body = json!({"command_type": command_type, "target_site_id": site.id}).to_string();
        let headers = [("Idempotency-Key", "one-key")];
        node.api().send(Method::POST, &format!("{COMMANDS}/dispatch"), Some(body.into()), &headers).await
    };

    let (first, second) = (send("reboot").await, send("reboot").await);

    assert_eq!(second.headers["idempotency-replayed"], "true");
    assert_eq!(first.licensed()["command"]["id"], second.licensed()["command"]["id"]);
    send("halt").await.refused(422, "idempotency_key_reused");
    assert_eq!(audited(&node, "command_dispatched").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn command_over_a_link_comes_back_with_its_result() {
    let federation = TestFederation::start(1).await;
    let site = &federation.sites[0];
    site.put(vec![host(1, 1)]).await;
    federation.converges().await;

    let sent = dispatch(&federation.coordinator, &site.id, json!({})).await.licensed()["command"].clone();

    // The site declares no connector for it, and says so.
    let ended = reaches(&federation.coordinator, &sent["id"], "failed").await;
    assert!(ended["result_summary"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn ended_command_is_forgotten_after_its_time_and_an_open_one_stays() {
    let mut node = TestNode::start(Role::Coordinator).await;
    let site = HttpSite::enrolled(&node, "alpha", 1).await;
    let gone = HttpSite::enrolled(&node, "gone", 2).await;
    let path = format!("{COMMANDS}/dispatch");
    let body = json!({"command_type": "reboot", "target_site_id": site.id}).to_string().into_bytes();
    let keyed = [("idempotency-key", "again")];
    let ended = node.api().send(Method::POST, &path, Some(body.clone()), &keyed).await.licensed();
    let ended = ended["command"]["id"].clone();
    let results = json!({host_id(1, 1): {"success": true, "detail": "done"}});
    let result = json!({"command_id": ended, "status": "completed", "host_count": 1, "results": results});
    site.push("command-results", &result).await.licensed();
    let abandoned = dispatch(&node, &gone.id, json!({})).await.licensed()["command"]["id"].clone();
    node.api().delete(&format!("/api/v1/federation/sites/{}", gone.id)).await.licensed();
    reaches(&node, &abandoned, "failed").await;
    node.clock.advance(limits::KEPT_DEFAULT);
    let young = dispatch(&node, &site.id, json!({})).await.licensed()["command"]["id"].clone();
    let cancelled = format!("{COMMANDS}/{}/cancel", young.as_str().unwrap());
    node.api().act(&cancelled).await.licensed();
    let open = dispatch(&node, &site.id, json!({})).await.licensed()["command"]["id"].clone();

    node.clock.advance(std::time::Duration::from_secs(1));
    node.restart().await;

    eventually("old commands are forgotten", async || {
        let listed = node.api().get(COMMANDS).await.licensed();
        let ids: Vec<&Value> =
            listed["commands"].as_array().unwrap().iter().map(|command| &command["id"]).collect();
        (ids == [&open, &young]).then_some(())
    })
    .await;
    for id in [&ended, &abandoned] {
        let path = format!("{COMMANDS}/{}", id.as_str().unwrap());
        node.api().get(&path).await.refused(404, "command_not_found");
        node.api().get(&format!("{path}/results")).await.refused(404, "command_not_found");
    }
    let view = node.store().read().unwrap();
    assert!(view.all::<table::CommandOutcomes>(..).unwrap().is_empty());
    assert!(view.all::<table::DispatchKeys>(..).unwrap().is_empty());
    assert!(view.all::<table::CommandKeys>(..).unwrap().is_empty());
    drop(view);
    let again = node.api().send(Method::POST, &path, Some(body), &keyed).await.licensed();
    assert_ne!(again["command"]["id"], ended);
    assert_eq!(audited(&node, "command_dispatched").await.len(), 5, "the audit log forgets nothing");
}
