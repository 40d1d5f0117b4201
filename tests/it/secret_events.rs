//! Changes of secrets are told as events: what changed, never to what, and to nobody of another tenant
//! (contract C.4).

use std::sync::Arc;
use std::time::Duration;

use hansa_actors::view::TokenRequest;
use hansa_model::enrollment::Role;
use hansa_model::scope::Scope;

use hansa_tests::{Api, MemoryStore, MemoryStores, TestNode, create_backend, secret_refusal, sync_backend};
use reqwest::Method;
use serde_json::{Value, json};

const EVENTS: &str = "/api/v1/events?follow=false&kinds=secret.created,secret.updated,secret.deleted";
const CANARY: &str = "canary-5513";

/// What has happened to secrets so far, oldest first.
async fn events(api: &Api) -> Vec<Value> {
    let text = api.send(Method::GET, EVENTS, None, &[("Accept", "application/x-ndjson")]).await.text;
    assert!(!text.contains(CANARY), "{text}");
    text.lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Kind, path, version and identity of each.
fn brief(events: &[Value]) -> Vec<String> {
    let texts = events.iter().map(|event| {
        let details = &event["details"];
        let text = |name: &str| details[name].as_str().unwrap_or_default().to_owned();
        let kind = event["kind"].as_str().unwrap();
        format!("{kind} {} {} {}", text("path"), details["version"], text("identity"))
    });
    texts.collect()
}

/// A node before an empty store, with the login to it.
async fn start_backed() -> (TestNode, Arc<MemoryStore>) {
    let stores = MemoryStores::default();
    let node = TestNode::start_backed(Role::None, Arc::new(stores.clone())).await;
    node.api().put("/v1/secrets/infra/login", &json!({"data": {"token": CANARY}})).await.ok();
    (node, stores.store("one"))
}

/// The backend in front of that store.
fn synced() -> Value {
    json!({
        "name": "one",
        "type": "hashicorp-vault",
        "config": {"endpoint": "https://one.example", "auth_method": "token", "auth_config_path": "infra/login"},
        "path_mapping": {"external/one/**": "secret/data/**"},
        "mode": "sync",
        "sync_interval": "1h",
        "write_through": true,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn local_changes_are_told_with_path_tenant_version_and_identity_and_refused_ones_are_not() {
    let node = TestNode::start(Role::None).await;
    let api = node.api();
    let mut watched = api.stream("/api/v1/events?kinds=secret.created", &[]).await;
    let body = json!({"data": {"v": CANARY}, "metadata": {"note": CANARY}});
    api.put("/v1/secrets/app/db", &body).await.ok();
    api.put("/v1/secrets/app/db", &body).await.ok();
    let stale = json!({"data": {"v": CANARY}, "options": {"cas": 1}});
    secret_refusal(&api.put("/v1/secrets/app/db", &stale).await, 409, "version_conflict");
    assert_eq!(api.delete("/v1/secrets/app/db").await.status, 204);
    secret_refusal(&api.delete("/v1/secrets/app/db").await, 404, "secret_not_found");

    let event = watched.next().await.unwrap();
    assert_eq!(
        event["details"],
        json!({"path": "app/db", "tenant": "tnt_default", "version": 1, "identity": "tester@example.com",
            "is_rotation": false})
    );
    assert_eq!(
        brief(&events(&api).await),
        [
            "secret.created app/db 1 tester@example.com",
            "secret.updated app/db 2 tester@example.com",
            "secret.deleted app/db 2 tester@example.com",
        ]
    );
    let entry = api
        .get(&format!("/api/v1/federation/audit/{}", event["audit_entry_id"].as_str().unwrap()))
        .await
        .ok();
    assert_eq!(entry["entry"]["operation"], "secret_write", "{entry}");
    let logs = api.get("/v1/audit/logs?action=write").await.ok();
    let changes: Vec<&Value> =
        logs["logs"].as_array().unwrap().iter().map(|row| &row["extra_data"]["change"]).collect();
    assert_eq!(
        changes,
        [&Value::Null, &json!("updated"), &json!("created")],
        "the refused one changed nothing"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_a_sync_brings_are_told_as_the_syncs() {
    let (node, store) = start_backed().await;
    let api = node.api();
    for name in ["a", "b"] {
        store.put(&format!("secret/data/{name}"), &json!({"v": CANARY}).to_string());
    }
    let id = create_backend(&api, &synced()).await;
    sync_backend(&api, &id, &json!({})).await;
    let mut told = events(&api).await.split_off(1);
    for event in &told {
        let details = &event["details"];
        assert_eq!((&details["backend_id"], &details["is_rotation"]), (&json!(id), &json!(false)), "{event}");
        assert_eq!(details["tenant"], "tnt_default");
    }
    told.sort_by_key(|event| event["details"]["path"].as_str().unwrap().to_owned());
    assert_eq!(
        brief(&told),
        [
            "secret.created external/one/a 1 system:federation-sync",
            "secret.created external/one/b 1 system:federation-sync",
        ]
    );

    store.put("secret/data/a", &json!({"v": format!("{CANARY}-2")}).to_string());
    store.remove("secret/data/b");
    for _ in 0..3 {
        sync_backend(&api, &id, &json!({})).await;
    }

    assert_eq!(
        brief(&events(&api).await.split_off(3)),
        [
            "secret.updated external/one/a 2 system:federation-sync",
            "secret.deleted external/one/b 1 system:federation-sync",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn write_that_goes_through_and_conflict_that_is_ended_are_told_as_their_operators() {
    let (node, store) = start_backed().await;
    let api = node.api();
    api.put("/v1/secrets/external/one/own", &json!({"data": {"v": CANARY}})).await.ok();
    store.put("secret/data/own", &json!({"v": format!("{CANARY}-2")}).to_string());
    let id = create_backend(&api, &synced()).await;
    sync_backend(&api, &id, &json!({})).await;

    api.put("/v1/secrets/external/one/new", &json!({"data": {"v": CANARY}})).await.ok();
    let conflicts = format!("/v1/federation/backends/{id}/conflicts");
    let conflict = api.get(&conflicts).await.ok()["conflicts"][0]["id"].as_str().unwrap().to_owned();
    let resolve = format!("{conflicts}/{conflict}/resolve");
    api.post(&resolve, &json!({"strategy": "take_remote"})).await;

    assert_eq!(
        brief(&events(&api).await.split_off(2)),
        [
            "secret.created external/one/new 1 tester@example.com",
            "secret.updated external/one/own 2 tester@example.com",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_a_tenant_are_shown_to_those_alone_who_may_act_for_it() {
    let node = TestNode::start(Role::None).await;
    let api = node.api();
    for tenant in ["tnt_red", "tnt_blue"] {
        assert_eq!(api.post("/v1/tenants", &json!({"id": tenant})).await.status, 201);
        api.put(&format!("/v1/t/{tenant}/secrets/app/{tenant}"), &json!({"data": {"v": CANARY}})).await.ok();
    }
    api.put("/v1/secrets/app/own", &json!({"data": {"v": CANARY}})).await.ok();
    let of = |tenant: Option<&str>| {
        let request = TokenRequest {
            userid: "watcher@example.com".to_owned(),
            scopes: [Scope::AuditRead].into(),
            sites: None,
            tenant: tenant.map(|id| id.parse().unwrap()),
            ttl: Duration::from_secs(60),
        };
        node.anonymous().bearer(node.federation().mint(&request).unwrap().expose().clone())
    };
    let paths = async |api: &Api| -> Vec<String> {
        let events = events(api).await;
        events.iter().map(|event| event["details"]["path"].as_str().unwrap().to_owned()).collect()
    };

    assert_eq!(paths(&api).await, ["app/tnt_red", "app/tnt_blue", "app/own"]);
    assert_eq!(paths(&of(Some("tnt_red"))).await, ["app/tnt_red"]);
    assert_eq!(paths(&of(Some("tnt_blue"))).await, ["app/tnt_blue"]);
    assert_eq!(paths(&of(None)).await, ["app/own"]);
    let all = of(Some("tnt_red")).get("/api/v1/events?follow=false").await.text;
    assert!(!all.contains("tnt_blue"), "{all}");
}
