//! Commands of a site that is away or on hold: they wait, in order, or expire (contract 2, 4, 13.5).

use std::time::Duration;

use hansa_model::Timestamp;
use hansa_model::WallClock as _;
use hansa_model::enrollment::Role;
use hansa_tests::{HttpPeerServer, HttpSite, TestFederation, TestNode, eventually, host};
use serde_json::{Value, json};

const COMMANDS: &str = "/api/v1/federation/commands";

async fn dispatched(node: &TestNode, site: &str, expires_at: Option<Timestamp>) -> String {
    let body = json!({"command_type": "echo", "target_site_id": site, "expires_at": expires_at});
    let answer = node.api().post(&format!("{COMMANDS}/dispatch"), &body).await.licensed();
    answer["command"]["id"].as_str().unwrap().to_owned()
}

async fn command(node: &TestNode, id: &str) -> Value {
    node.api().get(&format!("{COMMANDS}/{id}")).await.licensed()["command"].clone()
}

async fn reaches(node: &TestNode, id: &str, status: &str) -> Value {
    eventually(&format!("command {id} is {status}"), async || {
        let command = command(node, id).await;
        (command["status"] == status).then_some(command)
    })
    .await
}

fn told(server: &HttpPeerServer) -> Vec<String> {
    let pushes = server.pushes().into_iter();
    pushes.map(|push| push.body["command_id"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_of_a_site_that_was_away_reach_it_oldest_first() {
    let node = TestNode::start(Role::Coordinator).await;
    let (site, server) = HttpSite::reachable(&node.api(), "alpha", 1).await;
    server.answer_with(503);
    let mut ids = Vec::new();
    // More than a page of a hundred: none may starve behind newer ones.
    for _ in 0..110 {
        ids.push(dispatched(&node, &site.id, None).await);
    }
    eventually("the site is known to be away", async || {
        (command(&node, &ids[0]).await["last_push_error"] == "HTTP 503").then_some(())
    })
    .await;
    let failed = told(&server).len();

    server.answer_with(200);
    node.clock.advance(Duration::from_secs(1_500));
    for id in &ids {
        reaches(&node, id, "in_progress").await;
    }

    let taken = told(&server).split_off(failed);
    assert_eq!(taken, ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn suspended_site_is_sent_nothing_and_gets_what_waited_when_it_is_resumed() {
    let node = TestNode::start(Role::Coordinator).await;
    let (site, server) = HttpSite::reachable(&node.api(), "alpha", 1).await;
    server.answer_with(503);
    let waiting = dispatched(&node, &site.id, None).await;
    eventually("the first try", async || {
        (command(&node, &waiting).await["last_push_error"] == "HTTP 503").then_some(())
    })
    .await;
    node.api().act(&site.path("suspend")).await.licensed();
    server.answer_with(200);

    node.clock.advance(Duration::from_secs(1_500));
    // Other sites' commands go out meanwhile.
    let (other, others) = HttpSite::reachable(&node.api(), "beta", 60).await;
    let served = dispatched(&node, &other.id, None).await;
    reaches(&node, &served, "in_progress").await;
    let meanwhile = (told(&server).len(), command(&node, &waiting).await["status"].clone());
    node.api().act(&site.path("resume")).await.licensed();
    reaches(&node, &waiting, "in_progress").await;

    assert_eq!(meanwhile, (1, json!("queued_at_site")));
    assert_eq!(told(&server), [waiting.clone(), waiting]);
    assert_eq!(told(&others), [served]);
}

#[tokio::test(flavor = "multi_thread")]
async fn command_that_expires_before_its_site_is_back_is_never_run() {
    let mut federation = TestFederation::start(1).await;
    let id = federation.sites[0].id.clone();
    federation.sites[0].put(vec![host(1, 1)]).await;
    federation.converges().await;
    federation.sites[0].node.stop().await;
    let node = &federation.coordinator;
    eventually("the link is down", async || {
        let row = node.federation().site(&hansa_actors::Federation::local_operator(), id.parse().unwrap());
        (!row.unwrap().linked).then_some(())
    })
    .await;
    let end = node.clock.now().after(Duration::from_secs(60));
    let late = dispatched(node, &id, Some(end)).await;
    let lasting = dispatched(node, &id, None).await;

    node.clock.advance(Duration::from_secs(61));
    let expired = reaches(node, &late, "failed").await;
    let events = node.api().get(&format!("{COMMANDS}?open_only=true")).await.licensed();
    federation.sites[0].node.boot().await;
    reaches(&federation.coordinator, &lasting, "completed").await;

    assert!(expired["result_summary"].as_str().unwrap().contains("expired"), "{expired}");
    assert!(expired["completed_at"].is_string());
    assert_eq!(events["commands"][0]["id"], lasting);
    let received = federation.sites[0].node.api().get("/api/v1/federation/site/received-commands").await;
    let rows = received.licensed()["commands"].as_array().unwrap().clone();
    assert_eq!(rows.iter().map(|row| row["id"].clone()).collect::<Vec<_>>(), [json!(lasting)]);
}
