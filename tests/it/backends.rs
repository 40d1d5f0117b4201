//! What a node does with its secret backends, whatever they are: whom it asks how often, what becomes of copies,
//! and who suffers when one of them does not answer.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use hansa_model::enrollment::Role;
use hansa_model::limits::secrets as limits;
use hansa_model::scope::Scope;
use hansa_tests::{
    Api, MemoryStores, Mood, TestNode, create_backend, eventually, secret_refusal, sync_backend,
};
use serde_json::{Value, json};

const LOGIN: &str = "infra/login";

struct Backed {
    node: TestNode,
    stores: MemoryStores,
}

impl Backed {
    async fn start() -> Self {
        let stores = MemoryStores::default();
        let node = TestNode::start_backed(Role::None, Arc::new(stores.clone())).await;
        node.api().put(&format!("/v1/secrets/{LOGIN}"), &json!({"data": {"token": "t"}})).await.ok();
        Self { node, stores }
    }

    fn api(&self) -> Api {
        self.node.api()
    }

    /// The store `name`, below `external/{name}/`; the backend's id.
    async fn backend(&self, name: &str, mode: &str) -> String {
        self.stores.store(name);
        create_backend(&self.api(), &body(name, mode)).await
    }

    async fn read(&self, path: &str) -> hansa_tests::Answer {
        self.api().get(&format!("/v1/secrets/{path}")).await
    }

    async fn status(&self, id: &str) -> Value {
        self.api().get(&format!("/v1/federation/backends/{id}/status")).await.ok()
    }

    /// A backend in sync mode with two copies, `a` and `b`.
    async fn synced(&self, name: &str) -> String {
        let store = self.stores.store(name);
        store.put("secret/data/a", r#"{"n":1}"#);
        store.put("secret/data/b", r#"{"n":2}"#);
        let id = self.backend(name, "sync").await;
        sync_backend(&self.api(), &id, &json!({})).await;
        id
    }

    /// How many secrets of the node lie below a prefix, served or not.
    fn kept(&self, prefix: &str) -> usize {
        use hansa_storage::table;
        let rows = self.node.store().read().unwrap().all::<table::Secrets>(..).unwrap();
        rows.iter().filter(|(key, _)| key.number.starts_with(prefix)).count()
    }
}

fn body(name: &str, mode: &str) -> Value {
    let mut body = json!({
        "name": name,
        "type": "hashicorp-vault",
        "config": {"endpoint": format!("https://{name}.example"), "auth_method": "token",
            "auth_config_path": LOGIN, "timeout": "1s"},
        "path_mapping": {format!("external/{name}/**"): "secret/data/**"},
        "mode": mode,
    });
    if mode == "sync" {
        body["sync_interval"] = "1h".into();
    }
    body
}

/// A proxied backend whose calls may take as long as a configuration can allow.
fn patient(name: &str) -> Value {
    let mut body = body(name, "proxy");
    body["config"]["timeout"] = "30s".into();
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_reads_at_once_share_calls_and_are_each_written_down() {
    const READS: usize = 200;
    let backed = Backed::start().await;
    let store = backed.stores.store("one");
    store.put("secret/data/a", r#"{"n":1}"#);
    let id = create_backend(&backed.api(), &patient("one")).await;
    store.is_now(Mood::HungReads);

    let reads: Vec<_> = (0..READS)
        .map(|_| {
            let api = backed.api();
            tokio::spawn(async move { api.get("/v1/secrets/external/one/a").await })
        })
        .collect();
    eventually("all wait", async || (backed.status(&id).await["reads_waiting"] == READS).then_some(())).await;
    store.is_now(Mood::Well);
    for read in reads {
        assert_eq!(read.await.unwrap().ok()["data"]["n"], 1);
    }

    // A read that came while a call was under way waits for the next one: its value is never older than the read.
    assert_eq!(store.reads(), 2);
    let logs = backed.api().get("/v1/audit/logs?secret_path=external/one/a&limit=300").await.ok();
    assert_eq!(logs["logs"].as_array().unwrap().len(), READS);
}

#[tokio::test(flavor = "multi_thread")]
async fn hung_backend_keeps_nobody_waiting_but_its_own_callers() {
    let backed = Backed::start().await;
    for name in ["hung", "well"] {
        backed.stores.store(name).put("secret/data/a", r#"{"n":1}"#);
        create_backend(&backed.api(), &patient(name)).await;
    }
    let hung = backed.stores.store("hung");
    hung.is_now(Mood::Hung);

    let api = backed.api();
    let waiting = tokio::spawn(async move { api.get("/v1/secrets/external/hung/a").await });
    eventually("it is asked", async || (hung.reads() > 0).then_some(())).await;
    backed.read("external/well/a").await.ok();
    backed.read(LOGIN).await.ok();
    let listed = backed.api().get("/v1/secrets?prefix=infra/").await.ok();

    assert_eq!(listed["secrets"].as_array().unwrap().len(), 1);
    assert!(!waiting.is_finished(), "it waits while the others are answered");
    hung.is_now(Mood::Well);
    waiting.await.unwrap().ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn read_of_a_hung_backend_ends_by_its_deadline() {
    let backed = Backed::start().await;
    backed.backend("hung", "proxy").await;
    backed.stores.store("hung").is_now(Mood::Hung);

    let error = secret_refusal(&backed.read("external/hung/a").await, 503, "service_unavailable");
    assert_eq!(error["details"]["reason"], "backend_unavailable");
}

#[tokio::test(flavor = "multi_thread")]
async fn backend_that_fails_again_and_again_is_left_alone_and_tried_again_after_a_rest() {
    let backed = Backed::start().await;
    let store = backed.stores.store("one");
    store.put("secret/data/a", r#"{"n":1}"#);
    let id = backed.backend("one", "proxy").await;
    backed.read("external/one/a").await.ok();
    store.is_now(Mood::Failing);
    // Names differ, so that no two share a call.
    for number in 0..limits::BREAKER_FAILURES {
        secret_refusal(&backed.read(&format!("external/one/{number}")).await, 503, "service_unavailable");
    }

    let before = store.reads();
    let left_alone = backed.read("external/one/a").await;
    assert_eq!(store.reads(), before, "it is not even asked");
    secret_refusal(&left_alone, 503, "service_unavailable");
    assert!(left_alone.headers.contains_key("retry-after"));
    assert!(backed.status(&id).await["resting_until"].is_string());

    store.is_now(Mood::Well);
    backed.node.clock.advance(limits::BREAKER_REST_FIRST);
    backed.read("external/one/a").await.ok();
    assert_eq!(backed.status(&id).await["resting_until"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn driver_that_panics_takes_its_own_backend_down_for_a_moment_and_nothing_else() {
    let backed = Backed::start().await;
    for name in ["bad", "well"] {
        backed.stores.store(name).put("secret/data/a", r#"{"n":1}"#);
        backed.backend(name, "proxy").await;
    }
    let bad = backed.stores.store("bad");
    bad.is_now(Mood::Panicking);

    let refused = backed.read("external/bad/a").await;
    backed.read("external/well/a").await.ok();
    bad.is_now(Mood::Well);

    assert_eq!(refused.status, 503, "{}", refused.text);
    eventually("it answers again", async || {
        (backed.read("external/bad/a").await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listing_that_goes_in_a_circle_ends_the_sync_and_keeps_the_copies() {
    let backed = Backed::start().await;
    let id = backed.synced("one").await;
    let store = backed.stores.store("one");
    store.is_now(Mood::Circular);

    let status = sync_backend(&backed.api(), &id, &json!({})).await;

    assert_eq!(status["last_run"]["complete"], false, "{status}");
    assert!(status["last_error"].as_str().unwrap().contains("circle"), "{status}");
    assert_eq!(status["status"], "unhealthy");
    assert_eq!(backed.read("external/one/a").await.ok()["data"]["n"], 1);
    assert!(store.lists() < 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn sync_of_a_backend_that_is_switched_off_is_refused_and_its_paths_say_so() {
    let backed = Backed::start().await;
    let id = backed.synced("one").await;
    let path = format!("/v1/federation/backends/{id}");
    backed.api().patch(&path, &json!({"enabled": false})).await.ok();

    let refused = backed.api().post(&format!("{path}/sync"), &json!({})).await;

    secret_refusal(&refused, 400, "invalid_request");
    secret_refusal(&backed.read("external/one/a").await, 503, "service_unavailable");
    backed.api().patch(&path, &json!({"enabled": true})).await.ok();
    backed.read("external/one/a").await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_go_with_their_backend_and_never_turn_into_secrets_of_the_node() {
    let mut backed = Backed::start().await;
    let id = backed.synced("one").await;

    let removed = backed.api().delete(&format!("/v1/federation/backends/{id}")).await;
    let after = backed.read("external/one/a").await;
    let listed = backed.api().get("/v1/secrets?prefix=external/").await.ok();

    assert_eq!(removed.status, 204, "{}", removed.text);
    secret_refusal(&after, 404, "secret_not_found");
    assert_eq!(listed["secrets"], json!([]));
    eventually("the copies are gone", async || (backed.kept("external/one/") == 0).then_some(())).await;
    backed.node.restart().await;
    secret_refusal(&backed.read("external/one/a").await, 404, "secret_not_found");
    let value = json!({"data": {"n": 9}, "options": {"cas": 0}});
    let put = backed.api().put("/v1/secrets/external/one/a", &value).await;
    assert_eq!(put.ok()["path"], "external/one/a");
    assert_eq!(
        backed.read("external/one/a?version=1").await.ok()["data"]["n"],
        9,
        "nothing of the copy is left"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_that_are_kept_are_secrets_of_the_node_at_once_and_after_a_restart() {
    let mut backed = Backed::start().await;
    let id = backed.synced("one").await;

    backed.api().delete(&format!("/v1/federation/backends/{id}?keep_synced=true")).await;
    let at_once = backed.read("external/one/a").await.ok();
    backed.api().put("/v1/secrets/external/one/b", &json!({"data": {"n": 22}})).await.ok();
    backed.node.restart().await;

    assert_eq!((&at_once["data"]["n"], &at_once["metadata"]["source"]), (&json!(1), &Value::Null));
    assert_eq!(backed.read("external/one/a").await.ok()["data"]["n"], 1);
    assert_eq!(backed.read("external/one/b").await.ok()["data"]["n"], 22);
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_outside_a_narrowed_mapping_are_not_served_and_go() {
    let backed = Backed::start().await;
    let id = backed.synced("one").await;
    let narrowed = json!({"path_mapping": {"external/one/b": "secret/data/b"}});

    backed.api().patch(&format!("/v1/federation/backends/{id}"), &narrowed).await.ok();

    secret_refusal(&backed.read("external/one/a").await, 404, "secret_not_found");
    assert_eq!(backed.read("external/one/b").await.ok()["data"]["n"], 2);
    eventually("the copy is gone", async || (backed.kept("external/one/") == 1).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn backend_that_becomes_a_proxy_is_asked_and_leaves_no_copies() {
    let backed = Backed::start().await;
    let id = backed.synced("one").await;
    backed.stores.store("one").put("secret/data/a", r#"{"n":11}"#);

    backed.api().patch(&format!("/v1/federation/backends/{id}"), &json!({"mode": "proxy"})).await.ok();

    assert_eq!(backed.read("external/one/a").await.ok()["data"]["n"], 11);
    eventually("the copies are gone", async || (backed.kept("external/one/") == 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_mapping_is_copied_at_once() {
    let backed = Backed::start().await;
    let id = backed.synced("one").await;
    backed.stores.store("one").put("other/data/x", r#"{"n":3}"#);
    let wider =
        json!({"path_mapping": {"external/one/**": "secret/data/**", "external/more/**": "other/data/**"}});

    backed.api().patch(&format!("/v1/federation/backends/{id}"), &wider).await.ok();

    let read = eventually("the copy is there", async || {
        let read = backed.read("external/more/x").await;
        (read.status == 200).then_some(read.body)
    });
    assert_eq!(read.await["data"]["n"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn removal_in_the_middle_of_a_sync_leaves_nothing() {
    let backed = Backed::start().await;
    let store = backed.stores.store("one");
    for number in 0..500 {
        store.put(&format!("secret/data/s{number}"), r#"{"n":1}"#);
    }
    let id = backed.backend("one", "sync").await;
    eventually("some are copied", async || (backed.kept("external/one/") > 10).then_some(())).await;

    backed.api().delete(&format!("/v1/federation/backends/{id}")).await;

    eventually("the copies are gone", async || (backed.kept("external/one/") == 0).then_some(())).await;
    backed.backend("one", "proxy").await;
    assert_eq!(backed.kept("external/one/"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn write_goes_to_the_backend_first_and_is_compared_with_what_the_copy_knows() {
    let backed = Backed::start().await;
    let store = backed.stores.store("one");
    store.put("secret/data/a", r#"{"n":1}"#);
    store.put("secret/data/a", r#"{"n":2}"#);
    let mut body = body("one", "sync");
    body["write_through"] = true.into();
    let id = create_backend(&backed.api(), &body).await;
    sync_backend(&backed.api(), &id, &json!({})).await;
    let api = backed.api();
    let write = |cas: u64| json!({"data": {"n": 3}, "metadata": {"owner": "ada"}, "options": {"cas": cas}});

    // The caller compares with our numbers, the backend with its own.
    secret_refusal(&api.put("/v1/secrets/external/one/a", &write(2)).await, 409, "version_conflict");
    let written = api.put("/v1/secrets/external/one/a", &write(1)).await.ok();
    assert_eq!(written["version"], 2);
    assert_eq!(store.expected(), [Some(2)]);
    let read = backed.read("external/one/a").await.ok();
    assert_eq!((&read["data"]["n"], &read["metadata"]["owner"]), (&json!(3), &json!("ada")));

    // Somebody writes there; our copy does not know it yet.
    store.put("secret/data/a", r#"{"n":4}"#);
    let stale = api.put("/v1/secrets/external/one/a", &json!({"data": {"n": 5}})).await;
    secret_refusal(&stale, 409, "version_conflict");
    assert_eq!(backed.read("external/one/a").await.ok()["data"]["n"], 3);
    sync_backend(&api, &id, &json!({})).await;
    assert_eq!(backed.read("external/one/a").await.ok()["data"]["n"], 4);

    store.is_now(Mood::Failing);
    let refused = api.put("/v1/secrets/external/one/a", &json!({"data": {"n": 6}})).await;
    secret_refusal(&refused, 503, "service_unavailable");
    assert_eq!(backed.read("external/one/a").await.ok()["data"]["n"], 4, "nothing changed here");
    let made = api.put("/v1/secrets/external/one/new", &json!({"data": {}, "options": {"cas": 1}})).await;
    secret_refusal(&made, 409, "version_conflict");
    secret_refusal(&api.delete("/v1/secrets/external/one/a").await, 403, "forbidden");
}

#[tokio::test(flavor = "multi_thread")]
async fn conflict_that_somebody_decided_is_no_complaint_any_more() {
    let backed = Backed::start().await;
    backed.stores.store("one").put("secret/data/a", r#"{"side":"remote"}"#);
    let local = json!({"data": {"side": "local"}});
    backed.api().put("/v1/secrets/external/one/a", &local).await.ok();
    let id = backed.backend("one", "sync").await;
    sync_backend(&backed.api(), &id, &json!({})).await;
    let conflicts = format!("/v1/federation/backends/{id}/conflicts");
    let open = backed.api().get(&conflicts).await.ok()["conflicts"][0].clone();
    assert!(open["local"]["updated_at"].is_string(), "{open}");
    assert_eq!(backed.status(&id).await["status"], "degraded");

    let resolve = format!("{conflicts}/{}/resolve", open["id"].as_str().unwrap());
    backed.api().post(&resolve, &json!({"strategy": "keep_local"})).await;
    let reads = backed.stores.store("one").reads();
    let status = sync_backend(&backed.api(), &id, &json!({})).await;

    assert_eq!((&status["status"], &status["conflicts_open"]), (&json!("healthy"), &json!(0)), "{status}");
    assert_eq!(backed.stores.store("one").reads(), reads, "an unchanged value is not fetched");
    assert_eq!(backed.read("external/one/a").await.ok()["data"]["side"], "local");
    backed.stores.store("one").put("secret/data/a", r#"{"side":"other"}"#);
    let status = sync_backend(&backed.api(), &id, &json!({})).await;
    assert_eq!(status["conflicts_open"], 1, "it changed: somebody has to look again");
}

#[tokio::test(flavor = "multi_thread")]
async fn unchanged_secrets_are_not_fetched_and_a_copy_that_is_not_listed_ages() {
    let backed = Backed::start().await;
    let id = backed.synced("one").await;
    let store = backed.stores.store("one");
    let reads = store.reads();

    let status = sync_backend(&backed.api(), &id, &json!({})).await;
    assert_eq!((store.reads(), &status["last_run"]["fetched"]), (reads, &json!(0)));
    store.remove("secret/data/a");
    backed.node.clock.advance(Duration::from_secs(600));
    sync_backend(&backed.api(), &id, &json!({})).await;

    let (gone, listed) = (backed.read("external/one/a").await.ok(), backed.read("external/one/b").await.ok());
    assert!(gone["age_seconds"].as_u64().unwrap() >= 600, "{gone}");
    assert!(listed["age_seconds"].as_u64().unwrap() < 600, "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn dry_run_judges_asks_once_and_stores_nothing() {
    let backed = Backed::start().await;
    let store = backed.stores.store("one");
    let api = backed.api();

    let well = api.post("/v1/federation/backends?dry_run=true", &body("one", "proxy")).await;
    store.is_now(Mood::Failing);
    let failing = api.post("/v1/federation/backends?dry_run=true", &body("one", "proxy")).await.ok();
    let mut wrong = body("one", "sync");
    wrong["sync_interval"] = "1s".into();
    let refused = api.post("/v1/federation/backends?dry_run=true", &wrong).await;

    assert_eq!(well.status, 200, "{}", well.text);
    assert_eq!(well.body["warnings"], Value::Null);
    assert!(failing["warnings"][0].as_str().unwrap().contains("cannot be reached"), "{failing}");
    secret_refusal(&refused, 422, "validation_error");
    assert_eq!(api.get("/v1/federation/backends").await.ok()["backends"], json!([]));
    secret_refusal(&backed.read("external/one/a").await, 404, "secret_not_found");
    let audited = api.get("/v1/audit/logs?action=federation_backend_create").await.ok();
    assert_eq!(audited["logs"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn reader_without_a_policy_learns_nothing_about_a_backend_s_paths() {
    let backed = Backed::start().await;
    let store = backed.stores.store("one");
    store.put("secret/data/a", r#"{"n":1}"#);
    backed.backend("one", "proxy").await;
    let scopes: BTreeSet<Scope> = [Scope::SecretsRead, Scope::SecretsList].into();
    let nobody = backed.node.api_as(scopes, None);

    let there = nobody.get("/v1/secrets/external/one/a").await;
    let not_there = nobody.get("/v1/secrets/external/one/none").await;

    let (one, other) =
        (secret_refusal(&there, 403, "access_denied"), secret_refusal(&not_there, 403, "access_denied"));
    assert_eq!((&one["message"], &one["details"]), (&other["message"], &other["details"]));
    assert_eq!(store.reads(), 0);
    let listed = nobody.get("/v1/secrets?prefix=external/one/").await;
    secret_refusal(&listed, 403, "access_denied");
}
