//! A federation keeps its word: what a site acknowledged is found at the coordinator, once, whatever happens.

use hansa_model::enrollment::Role;
use hansa_tests::{HttpSite, TestFederation, TestNode, TestSite, eventually, host, host_id};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn site_joins_by_code_over_quic_and_its_changes_are_found_at_the_coordinator() {
    let federation = TestFederation::start(1).await;
    let site = &federation.sites[0];

    site.put((0..3).map(|number| host(1, number)).collect()).await;
    federation.converges().await;
    site.patch(
        &json!({"entries": [{"host_id": host_id(1, 1), "status": "down"}], "remove": [host_id(1, 2)]}),
    )
    .await;
    federation.converges().await;

    assert_eq!(federation.total("").await, 2);
    assert_eq!(federation.total("&status=down").await, 1);
    let gone = federation.api().get(&format!("/api/v1/federation/hosts/{}", host_id(1, 2))).await;
    gone.refused(404, "host_not_found");
    let row = federation.site(&site.id).await;
    assert_eq!((&row["status"], &row["host_count"]), (&json!("enrolled"), &json!(2)));
    eventually("the site has shown itself to be online", async || {
        let row = federation.site(&site.id).await;
        (row["connection_state"] == "online" && row["last_sync_status"] == "success").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn site_enrolls_over_the_documented_routes_and_then_syncs_over_quic() {
    let mut federation = TestFederation::start(0).await;
    let node = TestNode::start(Role::Site).await;
    let invitation = federation.invite(&node, "documented").await;
    let identity = federation.api().get("/api/v1/federation/identity-key").await.ok();

    let enrolled = node
        .api()
        .post(
            "/api/v1/federation/site/enroll",
            &json!({
                "coordinator_url": format!("{}/", federation.coordinator.url()),
                "enrollment_token": invitation["enrollment_token"],
                "coordinator_identity_public_key_pem": identity["public_key_pem"],
            }),
        )
        .await
        .licensed();

    assert_eq!(enrolled["status"], "enrolled");
    assert_eq!(enrolled["coordinator"]["coordinator_url"], federation.coordinator.url());
    assert_eq!(enrolled["coordinator"]["site_id"], invitation["site"]["id"]);
    let id = invitation["site"]["id"].as_str().unwrap().to_owned();
    federation.sites.push(TestSite { node, id });
    federation.sites[0].put(vec![host(1, 1)]).await;
    federation.converges().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn site_that_is_given_a_wrong_coordinator_key_does_not_enroll_and_may_try_again() {
    let federation = TestFederation::start(0).await;
    let node = TestNode::start(Role::Site).await;
    let invitation = federation.invite(&node, "careful").await;
    let own = node.api().get("/api/v1/federation/identity-key").await.ok();
    let right = federation.api().get("/api/v1/federation/identity-key").await.ok();
    let body = |key: &serde_json::Value| {
        json!({
            "coordinator_url": federation.coordinator.url(),
            "enrollment_token": invitation["enrollment_token"],
            "coordinator_identity_public_key_pem": key["public_key_pem"],
        })
    };

    for _ in 0..2 {
        let refused = node.api().post("/api/v1/federation/site/enroll", &body(&own)).await;
        refused.refused(401, "coordinator_identity");
    }

    let status = node.api().get("/api/v1/federation/site/enrollment-status").await.licensed();
    assert_eq!((&status["status"], &status["coordinator"]), (&json!("not_enrolled"), &json!(null)));
    let enrolled = node.api().post("/api/v1/federation/site/enroll", &body(&right)).await.licensed();
    assert_eq!(enrolled["status"], "enrolled");
}

#[tokio::test(flavor = "multi_thread")]
async fn suspended_site_is_told_keeps_its_queue_and_drains_it_when_resumed() {
    let federation = TestFederation::start(1).await;
    let site = &federation.sites[0];
    site.put(vec![host(1, 1)]).await;
    federation.converges().await;
    let path = format!("/api/v1/federation/sites/{}", site.id);

    let suspended = federation.api().act(&format!("{path}/suspend")).await.licensed();
    eventually("the site knows that it is suspended", async || {
        (site.status().await == "suspended").then_some(())
    })
    .await;
    site.patch(&json!({"entries": [host(1, 2), host(1, 3)]})).await;
    let waiting = site.depth().await;
    let held = federation.total("").await;
    let resumed = federation.api().act(&format!("{path}/resume")).await.licensed();

    assert_eq!(suspended["site"]["status"], "suspended");
    assert!(waiting >= 2, "depth {waiting}");
    assert_eq!(held, 1);
    assert_eq!(resumed["site"]["status"], "enrolled");
    federation.converges().await;
    assert_eq!((federation.total("").await, site.status().await.as_str()), (3, "enrolled"));
}

#[tokio::test(flavor = "multi_thread")]
async fn removed_site_is_told_and_its_row_stays_to_be_read() {
    let federation = TestFederation::start(2).await;
    let site = &federation.sites[0];
    site.put(vec![host(1, 1)]).await;
    federation.sites[1].put(vec![host(2, 1)]).await;
    federation.converges().await;
    let path = format!("/api/v1/federation/sites/{}", site.id);

    let removed = federation.api().delete(&path).await.licensed();
    let again = federation.api().delete(&path).await.licensed();

    assert_eq!(removed["site"]["status"], "removed");
    assert_eq!(again["site"], removed["site"]);
    eventually("the site knows that it is removed", async || {
        (site.status().await == "removed").then_some(())
    })
    .await;
    assert_eq!(federation.site(&site.id).await["status"], "removed");
    let listed = federation.api().get("/api/v1/federation/sites").await.licensed();
    assert_eq!(listed["sites"].as_array().map(Vec::len), Some(1));
    // The other member notices nothing.
    federation.sites[1].patch(&json!({"entries": [host(2, 2)]})).await;
    eventually("the other site goes on", async || {
        (federation.total(&format!("&site_id={}", federation.sites[1].id)).await == 2).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn removed_site_is_told_to_ask_for_a_new_invitation_and_comes_back_by_it() {
    let federation = TestFederation::start(1).await;
    let site = &federation.sites[0];
    site.put(vec![host(1, 1)]).await;
    federation.converges().await;
    let identity = federation.api().get("/api/v1/federation/identity-key").await.ok();
    let certificate = federation.api().get("/api/v1/federation/tls-cert").await.ok();
    let old = json!({
        "coordinator_url": federation.coordinator.url(),
        "enrollment_token": "of-the-membership-that-is-over",
        "coordinator_identity_public_key_pem": identity["public_key_pem"],
        "quic_address": certificate["quic"]["address"],
    });
    federation.api().delete(&format!("/api/v1/federation/sites/{}", site.id)).await.licensed();
    eventually("the site knows that it is removed", async || {
        (site.status().await == "removed").then_some(())
    })
    .await;

    let answer = site.node.api().post("/api/v1/federation/site/enroll", &old).await;
    let refused = answer.refused(502, "coordinator_refused");
    let id = federation.join(&site.node, "site-0").await;

    assert!(refused["detail"].as_str().unwrap().contains("new invitation"), "{refused}");
    assert_ne!(id, site.id);
    eventually("its hosts are back", async || {
        (federation.total(&format!("&site_id={id}")).await == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_answer_to_a_completion_is_asked_for_again_until_the_site_has_shown_itself() {
    let coordinator = TestNode::start(Role::Coordinator).await;
    let mut site = HttpSite::invited(&coordinator, "forgetful", 40).await;

    let lost = site.complete().await.licensed();
    let repeated = site.complete().await.licensed();
    site.bearer = lost["sync_bearer_token"].as_str().unwrap().to_owned();
    let with_lost = site.push("metadata", &json!({"host_count": 1})).await;
    site.bearer = repeated["sync_bearer_token"].as_str().unwrap().to_owned();
    let with_repeated = site.push("metadata", &json!({"host_count": 1})).await;
    let too_late = site.complete().await;

    assert_eq!(lost["site"]["id"], repeated["site"]["id"]);
    assert_ne!(lost["sync_bearer_token"], repeated["sync_bearer_token"]);
    with_lost.refused(401, "site_unauthorized");
    with_repeated.licensed();
    too_late.refused(400, "enrollment_token_unknown");
}

#[tokio::test(flavor = "multi_thread")]
async fn site_works_alone_while_the_coordinator_is_gone_and_catches_up() {
    let mut federation = TestFederation::start(1).await;
    federation.sites[0].put(vec![host(1, 1)]).await;
    federation.converges().await;

    federation.coordinator.stop().await;
    federation.sites[0].patch(&json!({"entries": [host(1, 2)], "remove": [host_id(1, 1)]})).await;
    let waiting = federation.sites[0].depth().await;
    federation.coordinator.boot().await;

    assert!(waiting >= 2, "depth {waiting}");
    federation.converges().await;
    assert_eq!(federation.rows().await.keys().collect::<Vec<_>>(), [&host_id(1, 2)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn queue_of_a_site_survives_its_restart() {
    let mut federation = TestFederation::start(1).await;
    federation.converges().await;

    federation.coordinator.stop().await;
    federation.sites[0].patch(&json!({"entries": [host(1, 1), host(1, 2)]})).await;
    federation.sites[0].node.restart().await;
    let waiting = federation.sites[0].depth().await;
    federation.coordinator.boot().await;

    assert!(waiting >= 2, "depth {waiting}");
    federation.converges().await;
    assert_eq!(federation.total("").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn resync_sends_everything_again_and_changes_nothing() {
    let federation = TestFederation::start(1).await;
    let site = &federation.sites[0];
    site.put((0..500).map(|number| host(1, number)).collect()).await;
    federation.converges().await;
    let before = federation.rows().await;

    site.node.api().act("/api/v1/federation/site/resync").await.licensed();
    eventually("the resync is through", async || {
        let status = site.node.api().get("/api/v1/federation/site/sync-status").await.licensed();
        (status["resync_leaves"] == 0 && status["queue_depth"] == 0).then_some(())
    })
    .await;

    assert_eq!(federation.rows().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn site_restored_from_an_old_copy_becomes_what_it_holds() {
    let mut federation = TestFederation::start(1).await;
    federation.sites[0].put((0..20).map(|number| host(1, number)).collect()).await;
    federation.converges().await;
    federation.sites[0].node.stop().await;
    let copy = federation.sites[0].node.copy();
    federation.sites[0].node.boot().await;
    let later: Vec<_> = (20..30).map(|number| host(1, number)).collect();
    federation.sites[0].patch(&json!({"entries": later, "remove": [host_id(1, 0), host_id(1, 1)]})).await;
    federation.converges().await;

    federation.sites[0].node.stop().await;
    federation.sites[0].node.restore(&copy);
    federation.sites[0].node.boot().await;
    // The site makes news of its own before it has heard of its coordinator.
    federation.sites[0].patch(&json!({"entries": [host(1, 40)], "remove": [host_id(1, 5)]})).await;

    federation.converges().await;
    let rows = federation.rows().await;
    assert_eq!(rows.len(), 20);
    assert!(rows.contains_key(&host_id(1, 0)) && rows.contains_key(&host_id(1, 40)));
    assert!(!rows.contains_key(&host_id(1, 5)) && !rows.contains_key(&host_id(1, 25)));
}

#[tokio::test(flavor = "multi_thread")]
async fn coordinator_restored_from_an_old_copy_is_brought_up_to_date() {
    let mut federation = TestFederation::start(2).await;
    federation.sites[0].put((0..20).map(|number| host(1, number)).collect()).await;
    federation.sites[1].put(vec![host(2, 1)]).await;
    federation.converges().await;
    federation.coordinator.stop().await;
    let copy = federation.coordinator.copy();
    federation.coordinator.boot().await;
    federation.sites[0]
        .patch(&json!({
            "entries": [host(1, 30), {"host_id": host_id(1, 2), "status": "down"}],
            "remove": [host_id(1, 0)],
        }))
        .await;
    federation.converges().await;

    federation.coordinator.stop().await;
    federation.coordinator.restore(&copy);
    federation.coordinator.boot().await;

    federation.converges().await;
    assert_eq!(federation.total("").await, 21);
    assert_eq!(federation.total("&status=down").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn host_that_another_live_site_holds_does_not_move() {
    let federation = TestFederation::start(1).await;
    let other = HttpSite::enrolled(&federation.coordinator, "other", 60).await;
    federation.sites[0].put(vec![host(1, 1)]).await;
    federation.converges().await;

    let mut stolen = host(1, 1);
    stolen["fqdn"] = json!("stolen.example.com");
    let answer = other.push("host-directory", &json!({"entries": [stolen, host(2, 1)]})).await.licensed();

    assert_eq!(answer["upserted"], 1);
    assert_eq!(answer["skipped"][0]["host_id"], host_id(1, 1));
    assert_eq!(answer["skipped"][0]["index"], 0);
    let held = federation.api().get(&format!("/api/v1/federation/hosts/{}", host_id(1, 1))).await.licensed();
    assert_eq!(held["host"]["site_id"], federation.sites[0].id);
    assert_eq!(held["host"]["fqdn"], "host-1.site-1.example.com");
}

#[tokio::test(flavor = "multi_thread")]
async fn host_that_was_refused_arrives_soon_after_its_holder_gives_it_up() {
    let federation = TestFederation::start(2).await;
    federation.sites[0].put(vec![host(1, 1)]).await;
    federation.converges().await;
    federation.sites[1].put(vec![host(1, 1)]).await;
    eventually("the second site has sent it", async || {
        (federation.sites[1].depth().await == 0).then_some(())
    })
    .await;
    let path = format!("/api/v1/federation/hosts/{}", host_id(1, 1));
    let holder = async || federation.api().get(&path).await.licensed()["host"]["site_id"].clone();
    assert_eq!(holder().await, federation.sites[0].id);

    federation.sites[0].patch(&json!({"remove": [host_id(1, 1)]})).await;

    let mine = format!("/api/v1/federation/hosts?limit=1&site_id={}", federation.sites[1].id);
    eventually("the coordinator has asked for it again", async || {
        (federation.api().get(&mine).await.licensed()["total"] == 1).then_some(())
    })
    .await;
    assert_eq!(holder().await, federation.sites[1].id);
}
