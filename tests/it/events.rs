//! Live events: every audited change is told, in order, once, and to those who may see it.

use std::collections::BTreeSet;
use std::time::Duration;

use hansa_model::enrollment::Role;
use hansa_model::limits::events as limits;
use hansa_model::scope::Scope;
use hansa_tests::{EventStream, TestFederation, TestNode, all_scopes, host};
use serde_json::{Value, json};

const EVENTS: &str = "/api/v1/events";
const SITES: &str = "/api/v1/federation/sites";

#[tokio::test(flavor = "multi_thread")]
async fn audited_change_is_told_as_it_happens() {
    let node = TestNode::start(Role::Coordinator).await;
    let mut watched = node.api().stream(EVENTS, &[]).await;

    let site = invite(&node, "alpha").await;
    let event = watched.next().await.unwrap();

    let mut members: Vec<&str> = event.as_object().unwrap().keys().map(String::as_str).collect();
    members.sort_unstable();
    assert_eq!(members, ["at", "audit_entry_id", "details", "id", "kind", "site_id"]);
    assert_eq!(event["kind"], "site_enrollment_started");
    assert_eq!(event["site_id"], json!(site));
    assert_eq!(event["details"]["name"], "alpha");
    assert!(event["id"].as_str().unwrap().ends_with("-2"), "after the change of role: {event}");
}

#[tokio::test(flavor = "multi_thread")]
async fn watcher_that_comes_back_misses_nothing_and_sees_nothing_twice() {
    let node = TestNode::start(Role::Coordinator).await;
    let mut first = node.api().stream(EVENTS, &[]).await;
    for name in ["a", "b", "c"] {
        invite(&node, name).await;
    }
    let mut seen = vec![name_of(&first.next().await.unwrap())];
    let second = first.next().await.unwrap();
    seen.push(name_of(&second));
    drop(first);
    for name in ["d", "e"] {
        invite(&node, name).await;
    }

    let place = second["id"].as_str().unwrap();
    let mut again = node.api().stream(EVENTS, &[("last-event-id", place)]).await;
    let mut by_query = node.api().stream(&format!("{EVENTS}?after={place}"), &[]).await;
    let mut queried = seen.clone();
    for _ in 0..3 {
        seen.push(name_of(&again.next().await.unwrap()));
        queried.push(name_of(&by_query.next().await.unwrap()));
    }

    assert_eq!(seen, ["a", "b", "c", "d", "e"]);
    assert_eq!(queried, seen);
}

#[tokio::test(flavor = "multi_thread")]
async fn quiet_stream_tells_its_place_at_once() {
    let node = TestNode::start(Role::Coordinator).await;
    let mut quiet = node.api().stream(EVENTS, &[]).await;

    let block = quiet.block().await.unwrap();
    let place = block.lines().find_map(|line| line.strip_prefix("id: ")).unwrap().to_owned();
    drop(quiet);
    invite(&node, "alpha").await;
    let mut again = node.api().stream(EVENTS, &[("last-event-id", &place)]).await;

    assert!(block.starts_with(':'), "{block}");
    assert_eq!(name_of(&again.next().await.unwrap()), "alpha");
}

#[tokio::test(flavor = "multi_thread")]
async fn place_of_another_start_or_none_at_all_begins_with_a_reset() {
    let mut node = TestNode::start(Role::Coordinator).await;
    let mut before = node.api().stream(EVENTS, &[]).await;
    invite(&node, "alpha").await;
    let place = before.next().await.unwrap()["id"].as_str().unwrap().to_owned();
    node.restart().await;

    for place in [place.as_str(), "nonsense"] {
        let mut after = node.api().stream(EVENTS, &[("last-event-id", place)]).await;
        let reset = after.next().await.unwrap();
        invite(&node, &format!("beta {}", place.len())).await;
        let next = after.next().await.unwrap();

        assert_eq!(reset["kind"], "reset", "{place}");
        assert_eq!(next["kind"], "site_enrollment_started", "{place}");
    }
    node.api().get(&format!("{EVENTS}?after=nonsense")).await.refused(400, "invalid_query");
}

#[tokio::test(flavor = "multi_thread")]
async fn links_and_syncs_are_told() {
    let federation = TestFederation::start(1).await;
    let site = &federation.sites[0];
    let mut watched = federation.api().stream(&format!("{EVENTS}?kinds=sync,link_down,link_up"), &[]).await;

    site.put(vec![host(1, 1), host(1, 2)]).await;
    let synced = async {
        loop {
            let event = watched.next_of("sync").await;
            if event["details"]["host_count"] == 2 {
                return event;
            }
        }
    };
    let sync = tokio::time::timeout(Duration::from_secs(20), synced).await.expect("a sync is told");
    federation.api().act(&format!("{SITES}/{}/suspend", site.id)).await.licensed();
    let down = watched.next_of("link_down").await;
    federation.api().act(&format!("{SITES}/{}/resume", site.id)).await.licensed();
    let up = watched.next_of("link_up").await;

    for event in [&sync, &down, &up] {
        assert_eq!(event["site_id"], json!(site.id), "{event}");
        assert_eq!(event["audit_entry_id"], Value::Null, "{event}");
    }
    assert_eq!(down["details"]["reason"], "closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_leave_the_rest_out() {
    let node = TestNode::start(Role::Coordinator).await;
    let (alpha, beta) = (invite(&node, "alpha").await, invite(&node, "beta").await);
    let patched = |id: &str| format!("{SITES}/{id}");
    node.api().patch(&patched(&alpha), &json!({"location_label": "north"})).await.licensed();
    node.api().patch(&patched(&beta), &json!({"location_label": "south"})).await.licensed();

    let all = told(&node, "").await;
    let updates = told(&node, "&kinds=site_updated,nothing").await;
    let of_beta = told(&node, &format!("&site_id={beta}")).await;

    assert!(all.len() >= 5, "{all:?}");
    assert_eq!(updates.len(), 2);
    assert!(of_beta.len() == 2 && of_beta.iter().all(|event| event["site_id"] == json!(beta)));
    node.api().get(&format!("{EVENTS}?site_id=x")).await.refused(400, "invalid_query");
    node.api().get(&format!("{EVENTS}?follow=maybe")).await.refused(400, "invalid_query");
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_are_shown_what_their_scopes_and_sites_allow() {
    let node = TestNode::start(Role::Coordinator).await;
    let (alpha, _) = (invite(&node, "alpha").await, invite(&node, "beta").await);
    let kinds = |events: Vec<Value>| -> BTreeSet<String> {
        events.iter().map(|event| event["kind"].as_str().unwrap().to_owned()).collect()
    };

    let confined = node.api_as(all_scopes(), Some([alpha.parse().unwrap()].into()));
    let confined = lines(&confined.get(&format!("{EVENTS}?follow=false")).await.text);
    let identity = node.api_as([Scope::IdentityRead].into(), None);
    let identity = lines(&identity.get(&format!("{EVENTS}?follow=false")).await.text);

    assert!(!confined.is_empty() && confined.iter().all(|event| event["site_id"] == json!(alpha)));
    assert_eq!(kinds(identity), BTreeSet::from(["federation_role_changed".to_owned()]));
    node.api_as([Scope::SitesWrite].into(), None).get(EVENTS).await.refused(403, "permission_denied");
    node.anonymous().get(EVENTS).await.refused(401, "token_missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_ends_with_its_token() {
    let node = TestNode::start(Role::Coordinator).await;
    let token = node.token(all_scopes(), None, Duration::from_secs(60));
    let mut watched = node.anonymous().bearer(token).stream(EVENTS, &[]).await;
    invite(&node, "before").await;
    assert_eq!(name_of(&watched.next().await.unwrap()), "before");

    node.clock.advance(Duration::from_secs(600));
    invite(&node, "after").await;

    assert_eq!(watched.next().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_bounded_and_those_that_end_make_room() {
    let node = TestNode::start(Role::Coordinator).await;
    let api = node.api();
    let mut open: Vec<EventStream> = Vec::new();
    for _ in 0..limits::STREAMS_MAX {
        let stream = api.stream(EVENTS, &[]).await;
        assert_eq!(stream.status(), 200);
        open.push(stream);
    }

    let refused = api.get(EVENTS).await;
    assert!(refused.headers.contains_key("retry-after"));
    refused.refused(503, "busy");
    open.clear();

    hansa_tests::eventually("room for a stream", async || {
        (api.stream(EVENTS, &[]).await.status() == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_when_the_node_stops() {
    let mut node = TestNode::start(Role::Coordinator).await;
    let mut watched = node.api().stream(EVENTS, &[]).await;
    watched.block().await.unwrap();

    node.stop().await;

    assert_eq!(watched.next().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_get_one_json_value_a_line() {
    let node = TestNode::start(Role::Coordinator).await;
    invite(&node, "alpha").await;

    let answer = node
        .api()
        .send(
            "GET".parse().unwrap(),
            &format!("{EVENTS}?follow=false"),
            None,
            &[("accept", "application/x-ndjson")],
        )
        .await;

    assert_eq!(answer.headers["content-type"], "application/x-ndjson");
    let events: Vec<Value> = answer
        .text
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(events.iter().any(|event| event["kind"] == "site_enrollment_started"));
}

/// Every event that is kept, as an operator with every scope sees it.
async fn told(node: &TestNode, query: &str) -> Vec<Value> {
    lines(&node.api().get(&format!("{EVENTS}?follow=false{query}")).await.text)
}

fn lines(text: &str) -> Vec<Value> {
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).unwrap()).collect()
}

async fn invite(node: &TestNode, name: &str) -> String {
    let body = json!({"name": name, "url": "https://site.example.com"});
    let answer = node.api().post(SITES, &body).await.licensed();
    answer["site"]["id"].as_str().unwrap().to_owned()
}

fn name_of(event: &Value) -> String {
    event["details"]["name"].as_str().unwrap_or_default().to_owned()
}
