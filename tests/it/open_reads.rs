//! Reads that go through to a backend: on disk before a value leaves, in the audit log a moment later, whatever
//! happens in between.

use std::sync::Arc;

use hansa_model::AuditId;
use hansa_model::audit::{AuditDraft, Detail};
use hansa_model::enrollment::Role;
use hansa_storage::{Batch, Lane, table};
use hansa_tests::{MemoryStore, MemoryStores, Mood, TestNode, create_backend, eventually, secret_refusal};
use serde_json::{Value, json};

const LOGIN: &str = "infra/login";
const PATH: &str = "external/one/a";

/// A node before a store with one secret, and the store.
async fn start() -> (TestNode, Arc<MemoryStore>) {
    let stores = MemoryStores::default();
    let store = stores.store("one");
    store.put("secret/data/a", r#"{"n":1}"#);
    let node = TestNode::start_backed(Role::None, Arc::new(stores)).await;
    node.api().put(&format!("/v1/secrets/{LOGIN}"), &json!({"data": {"token": "t"}})).await.ok();
    let body = json!({
        "name": "one",
        "type": "hashicorp-vault",
        "config": {"endpoint": "https://one.example", "auth_method": "token", "auth_config_path": LOGIN,
            "timeout": "30s"},
        "path_mapping": {"external/one/**": "secret/data/**"},
        "mode": "proxy",
    });
    create_backend(&node.api(), &body).await;
    (node, store)
}

/// What is stored of reads under way.
fn open_reads(node: &TestNode) -> Vec<AuditDraft> {
    let rows = node.store().read().unwrap().all::<table::OpenReads>(..).unwrap();
    rows.into_iter().map(|(_, draft)| draft).collect()
}

/// The rows of reads of the path as they lie on disk, oldest first: asking the node would make it store them.
fn stored_reads(node: &TestNode) -> Vec<AuditDraft> {
    let entries = node.store().read().unwrap().all::<table::Audit>(..).unwrap();
    let drafts = entries.into_iter().map(|(_, entry)| entry.draft);
    drafts.filter(|draft| draft.details.get("secret_path") == Some(&Detail::from(PATH))).collect()
}

async fn logs(node: &TestNode) -> Vec<Value> {
    let page = node.api().get(&format!("/v1/audit/logs?secret_path={PATH}")).await.ok();
    page["logs"].as_array().unwrap().clone()
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

    let open = eventually("it is stored as open", async || open_reads(&node).pop()).await;
    assert_eq!(open.details["secret_path"], Detail::from(PATH));
    assert!(stored_reads(&node).is_empty(), "how it went is not known yet");

    store.is_now(Mood::Well);
    read.await.unwrap().ok();
    let entry = eventually("its entry is stored", async || stored_reads(&node).pop()).await;
    assert_eq!((entry.id, &entry.details["backend_status"]), (open.id, &Detail::Int(200)));
    assert!(open_reads(&node).is_empty());
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
    eventually("it is stored as open", async || open_reads(&node).pop()).await;
    read.abort();

    let row = eventually("it has ended", async || logs(&node).await.pop()).await;
    assert_eq!((&row["success"], &row["extra_data"]["outcome"]), (&json!(false), &json!("abandoned")));
    assert!(open_reads(&node).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn read_that_the_end_of_the_node_cut_off_is_in_the_log_after_the_next_start() {
    let (mut node, _store) = start().await;
    node.api().get(&url()).await.ok();
    let whole = logs(&node).await.remove(0);
    // What a crash leaves between the two commits of a read.
    let mut draft = stored_reads(&node).remove(0);
    draft.id = AuditId(uuid::Uuid::from_u128(7));
    let mut batch = Batch::new();
    batch.put::<table::OpenReads>(&draft.id, &draft);
    node.store().commit(Lane::Operator, batch).await.unwrap();

    node.restart().await;
    let logs = logs(&node).await;

    let [cut_off, before] = logs.as_slice() else { panic!("{logs:?}") };
    assert_eq!(*before, whole);
    // The value may have left: who looks for reads that got one must find it.
    assert_eq!((&cut_off["success"], &cut_off["extra_data"]["outcome"]), (&json!(true), &json!("unknown")));
    assert_eq!(cut_off["secret_path"], PATH);
    assert_eq!(cut_off["duration_ms"], Value::Null);
    assert!(open_reads(&node).is_empty());
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

    eventually("all are stored", async || (stored_reads(&node).len() == READS).then_some(())).await;
    assert!(open_reads(&node).is_empty());
}
