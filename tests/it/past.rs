//! A host's past: as it was at a moment, and what changed, within the kept log.

use std::collections::BTreeSet;
use std::time::Duration;

use hansa_actors::Federation;
use hansa_model::enrollment::Role;
use hansa_model::scope::Scope;
use hansa_model::{Host, Timestamp, WallClock as _};
use hansa_storage::table::SegmentHead;
use hansa_storage::{Batch, Lane, table};
use hansa_tests::{HttpSite, TestNode, all_scopes, host, host_id};
use serde_json::{Value, json};

const HOUR: Duration = Duration::from_secs(3_600);

fn path(at: &str) -> String {
    format!("/api/v1/federation/hosts/{}{at}", host_id(1, 1))
}

async fn at(node: &TestNode, moment: Timestamp) -> hansa_tests::Answer {
    node.api().get(&path(&format!("?at={moment}"))).await
}

/// Reports two hosts, the first one with this status, an hour later; answers the moment after it.
async fn report(node: &TestNode, site: &HttpSite, status: &str) -> Timestamp {
    node.clock.advance(HOUR);
    let mut first = host(1, 1);
    first["status"] = json!(status);
    site.push("host-directory", &json!({"entries": [first, host(1, 2)]})).await.licensed();
    node.clock.now()
}

fn names(value: &Value) -> BTreeSet<String> {
    value.as_object().unwrap().keys().cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn host_is_shown_as_it_was_at_each_moment() {
    let node = TestNode::start(Role::Coordinator).await;
    let site = HttpSite::enrolled(&node, "berlin", 1).await;
    let before = node.clock.now();

    let up = report(&node, &site, "up").await;
    let present = node.api().get(&path("")).await.licensed();
    let down = report(&node, &site, "down").await;
    node.clock.advance(HOUR);
    site.push("host-directory", &json!({"entries": [host(1, 2)]})).await.licensed();
    let gone = node.clock.now();

    at(&node, before).await.refused(404, "host_not_found");
    let then = at(&node, up).await.licensed();
    assert_eq!(then, present);
    assert_eq!(names(&then), ["licensed", "host", "site", "site_detail_url"].map(str::to_owned).into());
    assert_eq!(at(&node, down).await.licensed()["host"]["status"], "down");
    at(&node, gone).await.refused(404, "host_not_found");
    node.api().get(&path("")).await.refused(404, "host_not_found");
    // A moment that has not come yet is the present; the log outlives a restart.
    at(&node, gone.after(HOUR)).await.refused(404, "host_not_found");
    let mut node = node;
    node.restart().await;
    assert_eq!(at(&node, up).await.licensed()["host"], present["host"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn history_lists_changes_with_their_members_newest_first() {
    let node = TestNode::start(Role::Coordinator).await;
    let site = HttpSite::enrolled(&node, "berlin", 1).await;
    report(&node, &site, "up").await;
    report(&node, &site, "up").await;
    let down = report(&node, &site, "down").await;
    node.clock.advance(HOUR);
    site.push("host-directory", &json!({"entries": [host(1, 2)]})).await.licensed();

    let history = node.api().get(&path("/history")).await.licensed();
    let newest = node.api().get(&path("/history?limit=1")).await.licensed();

    assert_eq!(
        names(&history),
        ["licensed", "host_id", "changes", "more", "kept_from"].map(str::to_owned).into()
    );
    assert_eq!((&history["more"], &history["kept_from"]), (&json!(false), &Value::Null));
    let changes = history["changes"].as_array().unwrap();
    let words: Vec<&str> = changes.iter().map(|change| change["change"].as_str().unwrap()).collect();
    assert_eq!(words, ["removed", "changed", "added"]);
    assert_eq!(changes[1]["members"], json!([{"member": "status", "from": "up", "to": "down"}]));
    assert_eq!(changes[1]["site_id"], site.id);
    let when: Timestamp = changes[1]["at"].as_str().unwrap().parse().unwrap();
    assert!(when <= down && when > down.before(HOUR));
    assert!(changes[2]["members"].as_array().unwrap().len() > 3);
    assert_eq!(newest["more"], true);
    assert_eq!(newest["changes"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn past_is_for_those_who_see_the_site_and_ends_with_it() {
    let node = TestNode::start(Role::Coordinator).await;
    let site = HttpSite::enrolled(&node, "berlin", 1).await;
    let up = report(&node, &site, "up").await;
    let elsewhere = node.api_as(all_scopes(), Some(BTreeSet::new()));
    let scopeless = node.api_as(BTreeSet::from([Scope::SitesRead]), None);

    for route in [path(&format!("?at={up}")), path("/history")] {
        node.anonymous().get(&route).await.refused(401, "token_missing");
        scopeless.get(&route).await.refused(403, "permission_denied");
        elsewhere.get(&route).await.refused(404, "host_not_found");
        node.api().get(&route).await.licensed();
    }
    for bad in ["?at=yesterday", "/history?limit=0", "/history?limit=1001"] {
        node.anonymous().get(&path(bad)).await.refused(401, "token_missing");
        node.api().get(&path(bad)).await.refused(400, "invalid_query");
    }
    let other = format!("/api/v1/federation/hosts/{}/history", host_id(9, 9));
    node.api().get(&other).await.refused(404, "host_not_found");

    node.clock.advance(HOUR);
    node.api().delete(&format!("/api/v1/federation/sites/{}", site.id)).await;
    assert_eq!(at(&node, up).await.licensed()["host"]["status"], "up");
    at(&node, node.clock.now()).await.refused(404, "host_not_found");
    let history = node.api().get(&path("/history")).await.licensed();
    assert_eq!(history["changes"][0]["change"], "removed");
}

/// Folds away the log's first record, as retention does, with a checkpoint of these rows.
async fn fold_away(node: &TestNode, site: &HttpSite, until: Timestamp, covers: u64, rows: Vec<Host>) {
    let id = site.id.parse().unwrap();
    let mut batch = Batch::new();
    batch.delete_log::<table::IngestLog>(0..2);
    batch.put::<table::Settings>("ingest_complete_from", &until.as_micros().to_string());
    let head = SegmentHead { covers_position: covers, chunks: 1, rows: rows.len() as u64 };
    batch.put::<table::SegmentHeads>(&id, &head).put::<table::Segments>(&(id, 0), &rows);
    node.store().commit(Lane::Operator, batch).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn moment_that_is_folded_away_is_refused_with_the_earliest_that_is_not() {
    let node = TestNode::start(Role::Coordinator).await;
    let site = HttpSite::enrolled(&node, "berlin", 1).await;
    let row = async |number: u32| {
        let id = host_id(1, number).parse().unwrap();
        node.federation().host(&Federation::local_operator(), id).unwrap().host
    };
    let up = report(&node, &site, "up").await;
    let old = vec![row(1).await, row(2).await];
    let down = report(&node, &site, "down").await;
    let new = vec![row(1).await, row(2).await];

    // The checkpoint is older than the first kept change of the host: it tells what was before.
    fold_away(&node, &site, up, 1, old).await;
    assert_eq!(at(&node, up).await.licensed()["host"]["status"], "up");
    let early = at(&node, up.before(HOUR)).await.refused(410, "past_not_kept");
    assert_eq!(early["earliest"], json!(up));
    let history = node.api().get(&path("/history")).await.licensed();
    assert_eq!((&history["changes"][0]["change"], &history["kept_from"]), (&json!("changed"), &json!(up)));

    // It is newer: what was before the first kept change is gone, for this host and no other.
    fold_away(&node, &site, up, 2, new).await;
    let refused = at(&node, up).await.refused(410, "past_not_kept");
    let earliest: Timestamp = refused["earliest"].as_str().unwrap().parse().unwrap();
    assert!(earliest > up && earliest <= down);
    assert_eq!(at(&node, earliest).await.licensed()["host"]["status"], "down");
    let other = format!("/api/v1/federation/hosts/{}?at={up}", host_id(1, 2));
    assert_eq!(node.api().get(&other).await.licensed()["host"]["status"], "up");
    let history = node.api().get(&path("/history")).await.licensed();
    assert_eq!(history["changes"][0]["change"], "first_kept");
}
