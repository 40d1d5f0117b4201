//! Calls to a backend and the audit log: that somebody asks is on disk before anything comes of it, and how it went
//! a moment later, whatever happens in between.

use std::sync::Arc;

use hansa_model::AuditId;
use hansa_model::audit::{AuditDraft, Detail};
use hansa_model::enrollment::Role;
use hansa_storage::{Batch, Lane, table};
use hansa_tests::{
    MemoryStore, MemoryStores, Mood, TestNode, create_backend, eventually, secret_refusal, sync_backend,
};
use serde_json::{Value, json};

const LOGIN: &str = "infra/login";
const PATH: &str = "external/one/a";

/// A node before a store with one secret, and the store.
async fn start() -> (TestNode, Arc<MemoryStore>) {
    let (node, store, _) = start_with(json!({"mode": "proxy"})).await;
    (node, store)
}

/// The same with a copy of it, written through; and the backend's id.
async fn start_synced() -> (TestNode, Arc<MemoryStore>, String) {
    let started = start_with(json!({"mode": "sync", "sync_interval": "1h", "write_through": true})).await;
    sync_backend(&started.0.api(), &started.2, &json!({})).await;
    started
}

async fn start_with(more: Value) -> (TestNode, Arc<MemoryStore>, String) {
    let stores = MemoryStores::default();
    let store = stores.store("one");
    store.put("secret/data/a", r#"{"n":1}"#);
    let node = TestNode::start_backed(Role::None, Arc::new(stores)).await;
    node.api().put(&format!("/v1/secrets/{LOGIN}"), &json!({"data": {"token": "t"}})).await.ok();
    let mut body = json!({
        "name": "one",
        "type": "hashicorp-vault",
        "config": {"endpoint": "https://one.example", "auth_method": "token", "auth_config_path": LOGIN,
            "timeout": "30s"},
        "path_mapping": {"external/one/**": "secret/data/**"},
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let id = create_backend(&node.api(), &body).await;
    (node, store, id)
}

/// What is stored of calls under way.
fn open_entries(node: &TestNode) -> Vec<AuditDraft> {
    let rows = node.store().read().unwrap().all::<table::OpenEntries>(..).unwrap();
    rows.into_iter().map(|(_, draft)| draft).collect()
}

/// The entries of calls for the path as they lie on disk, oldest first: asking the node would make it store them.
fn stored_entries(node: &TestNode) -> Vec<AuditDraft> {
    let entries = node.store().read().unwrap().all::<table::Audit>(..).unwrap();
    let drafts = entries.into_iter().map(|(_, entry)| entry.draft);
    let called = drafts.filter(|draft| draft.operation != "secret_copied");
    called.filter(|draft| draft.details.get("secret_path") == Some(&Detail::from(PATH))).collect()
}

/// The rows of calls for the path, newest first.
async fn logs(node: &TestNode) -> Vec<Value> {
    let page = node.api().get(&format!("/v1/audit/logs?secret_path={PATH}")).await.ok();
    let rows = page["logs"].as_array().unwrap().iter();
    rows.filter(|row| row["action"] != "copied").cloned().collect()
}

fn url() -> String {
    format!("/v1/secrets/{PATH}")
}

#[tokio::test(flavor = "multi_thread")]
async fn read_is_on_disk_while_the_backend_is_asked_and_its_entry_follows_by_itself() {
    let (node, store) = start().await;
    store.is_now(Mood::HungReads);
    let api = node.api();
    let read = tokio::spawn(async move { api.get(&url()).await });

    let open = eventually("it is stored as open", async || open_entries(&node).pop()).await;
    assert_eq!(open.details["secret_path"], Detail::from(PATH));
    assert!(stored_entries(&node).is_empty(), "how it went is not known yet");

    store.is_now(Mood::Well);
    read.await.unwrap().ok();
    let entry = eventually("its entry is stored", async || stored_entries(&node).pop()).await;
    assert_eq!((entry.id, &entry.details["backend_status"]), (open.id, &Detail::Int(200)));
    assert!(open_entries(&node).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn read_is_in_the_log_as_soon_as_anybody_looks() {
    let (node, _store) = start().await;

    for number in 1..=50 {
        node.api().get(&url()).await.ok();
        let logs = logs(&node).await;
        assert_eq!(logs.len(), number);
        assert_eq!(logs[0]["extra_data"]["backend_status"], 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn read_whose_asker_went_away_is_in_the_log_as_abandoned() {
    let (node, store) = start().await;
    store.is_now(Mood::HungReads);

    let api = node.api();
    let read = tokio::spawn(async move { api.get(&url()).await });
    eventually("it is stored as open", async || open_entries(&node).pop()).await;
    read.abort();

    let row = eventually("it has ended", async || logs(&node).await.pop()).await;
    assert_eq!((&row["success"], &row["extra_data"]["outcome"]), (&json!(false), &json!("abandoned")));
    assert!(open_entries(&node).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn read_that_the_end_of_the_node_cut_off_is_in_the_log_after_the_next_start() {
    let (mut node, _store) = start().await;
    node.api().get(&url()).await.ok();
    let whole = logs(&node).await.remove(0);
    // What a crash leaves between the two commits of a read.
    let mut draft = stored_entries(&node).remove(0);
    draft.id = AuditId(uuid::Uuid::from_u128(7));
    let mut batch = Batch::new();
    batch.put::<table::OpenEntries>(&draft.id, &draft);
    node.store().commit(Lane::Operator, batch).await.unwrap();

    node.restart().await;
    let logs = logs(&node).await;

    let [cut_off, before] = logs.as_slice() else { panic!("{logs:?}") };
    assert_eq!(*before, whole);
    // The value may have left: who looks for reads that got one must find it.
    assert_eq!((&cut_off["success"], &cut_off["extra_data"]["outcome"]), (&json!(true), &json!("unknown")));
    assert_eq!(cut_off["secret_path"], PATH);
    assert_eq!(cut_off["duration_ms"], Value::Null);
    assert!(open_entries(&node).is_empty());
    node.restart().await;
    assert_eq!(self::logs(&node).await, logs, "it is told once");
}

#[tokio::test(flavor = "multi_thread")]
async fn value_does_not_leave_when_its_reading_cannot_be_stored() {
    let (mut node, _store) = start().await;
    // A reserve that no disk has.
    node.set_reserve(Some(u64::MAX / 2));
    node.restart().await;

    secret_refusal(&node.api().get(&url()).await, 503, "service_unavailable");
    node.set_reserve(None);
    node.restart().await;
    node.api().get(&url()).await.ok();

    assert_eq!(logs(&node).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_of_many_reads_at_once_are_all_there_and_nothing_stays_open() {
    const READS: usize = 600;
    let (node, _store) = start().await;

    let reads = (0..READS).map(|_| {
        let api = node.api();
        tokio::spawn(async move { api.get(&url()).await })
    });
    for read in reads.collect::<Vec<_>>() {
        read.await.unwrap().ok();
    }

    eventually("all are stored", async || (stored_entries(&node).len() == READS).then_some(())).await;
    assert!(open_entries(&node).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn write_is_on_disk_before_the_backend_is_asked_and_has_one_entry() {
    let (node, store, _) = start_synced().await;
    store.is_now(Mood::HungWrites);
    let api = node.api();
    let write = tokio::spawn(async move { api.put(&url(), &json!({"data": {"n": 2}})).await });

    eventually("the backend has it", async || (!store.expected().is_empty()).then_some(())).await;
    let open = open_entries(&node).pop().unwrap();
    assert_eq!((open.operation.as_str(), stored_entries(&node).len()), ("secret_write", 0));

    store.is_now(Mood::Well);
    write.await.unwrap().ok();
    let [entry] = &*stored_entries(&node) else { panic!("one entry, with the write itself") };
    assert_eq!((entry.id, &entry.details["change"]), (open.id, &Detail::from("updated")));
    assert!(open_entries(&node).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn write_that_nobody_waits_for_any_more_is_in_the_log_as_unknown() {
    let (node, store, _) = start_synced().await;
    store.is_now(Mood::HungWrites);
    let api = node.api();
    let write = tokio::spawn(async move { api.put(&url(), &json!({"data": {"n": 2}})).await });
    eventually("the backend has it", async || (!store.expected().is_empty()).then_some(())).await;
    write.abort();

    let row = eventually("it has ended", async || logs(&node).await.pop()).await;
    assert_eq!((&row["action"], &row["extra_data"]["outcome"]), (&json!("write"), &json!("unknown")));
    assert_eq!(row["success"], true, "the backend has it");
}

#[tokio::test(flavor = "multi_thread")]
async fn write_that_a_sync_overtakes_is_in_the_log_and_changes_nothing_here() {
    let (node, store, id) = start_synced().await;
    store.is_now(Mood::HungWrites);
    let api = node.api();
    let write = tokio::spawn(async move { api.put(&url(), &json!({"data": {"n": 2}})).await });
    eventually("the backend has it", async || (!store.expected().is_empty()).then_some(())).await;
    store.put("secret/data/a", r#"{"n":3}"#);
    sync_backend(&node.api(), &id, &json!({})).await;
    store.is_now(Mood::Well);
    write.await.unwrap().ok();

    assert_eq!(node.api().get(&url()).await.ok()["data"]["n"], 3);
    let writes = node.api().get(&format!("/v1/audit/logs?secret_path={PATH}&action=write")).await.ok();
    let [row] = writes["logs"].as_array().unwrap().as_slice() else { panic!("{writes}") };
    assert_eq!((&row["success"], &row["extra_data"]["change"]), (&json!(true), &Value::Null));
    assert!(open_entries(&node).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn write_that_the_backend_refuses_has_one_entry_with_the_refusal() {
    let (node, store, _) = start_synced().await;
    store.put("secret/data/a", r#"{"n":7}"#);

    secret_refusal(&node.api().put(&url(), &json!({"data": {"n": 2}})).await, 409, "version_conflict");

    let logs = logs(&node).await;
    let [row] = logs.as_slice() else { panic!("{logs:?}") };
    assert_eq!((&row["action"], &row["success"]), (&json!("write"), &json!(false)));
}
