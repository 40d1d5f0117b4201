//! A part that panics is started again from storage, alone; the others answer meanwhile.

use hansa_actors::Part;
use hansa_model::limits::sync as limits;
use hansa_tests::{TestFederation, eventually, host, host_id};
use serde_json::json;

/// Panics `part` of the coordinator, then shows that site 0 and site 1 both still get through, and that
/// reads did not stop.
async fn coordinator_outlives(part: impl Fn(&TestFederation) -> Part) {
    let federation = TestFederation::start(2).await;
    federation.sites[0].put(vec![host(1, 1)]).await;
    federation.sites[1].put(vec![host(2, 1)]).await;
    federation.converges().await;
    let before = federation.rows().await;

    federation.coordinator.federation().danger_panic(part(&federation));
    // Lists never queue behind a mailbox.
    let meanwhile = federation.api().get("/api/v1/federation/sites").await.licensed();
    federation.sites[0].patch(&json!({"entries": [host(1, 2)]})).await;
    federation.sites[1].patch(&json!({"entries": [host(2, 2)]})).await;

    assert_eq!(meanwhile["sites"].as_array().map(Vec::len), Some(2));
    federation.converges().await;
    let after = federation.rows().await;
    assert_eq!(after.len(), 4);
    assert!(before.iter().all(|(id, row)| after.get(id) == Some(row)), "what was there is as it was");
    let patched = federation
        .api()
        .patch(
            &format!("/api/v1/federation/sites/{}", federation.sites[0].id),
            &json!({"location_label": "x"}),
        )
        .await
        .licensed();
    assert_eq!(patched["site"]["location_label"], "x");
}

#[tokio::test(flavor = "multi_thread")]
async fn panicking_coordinator_role_comes_back_with_all_its_sites() {
    coordinator_outlives(|_| Part::Coordinator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn panicking_endpoint_accepts_again() {
    coordinator_outlives(|_| Part::Endpoint).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn panicking_actor_of_a_site_comes_back_and_its_neighbour_keeps_its_link() {
    coordinator_outlives(|federation| Part::Site(federation.sites[0].site_id())).await;

    let federation = TestFederation::start(2).await;
    let operator = hansa_actors::Federation::local_operator();
    let linked = |index: usize| {
        let id = federation.sites[index].site_id();
        federation.coordinator.federation().site(&operator, id).unwrap().linked
    };
    eventually("both are linked", async || (linked(0) && linked(1)).then_some(())).await;

    federation.coordinator.federation().danger_panic(Part::Site(federation.sites[0].site_id()));

    eventually("the panicked one is linked again", async || {
        assert!(linked(1), "the neighbour lost its link");
        linked(0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn actor_of_a_site_that_panics_again_and_again_does_not_take_its_neighbour_along() {
    let federation = TestFederation::start(2).await;
    federation.sites[1].put(vec![host(2, 1)]).await;
    federation.converges().await;

    for round in 0..5 {
        federation.coordinator.federation().danger_panic(Part::Site(federation.sites[0].site_id()));
        federation.sites[1].patch(&json!({"entries": [host(2, 10 + round)]})).await;
    }

    federation.converges().await;
    assert_eq!(federation.total("").await, 6);
}

/// Panics `part` of a site whose queue waits, then shows that nothing of it was lost.
async fn site_outlives(part: Part) {
    let mut federation = TestFederation::start(1).await;
    federation.sites[0].put(vec![host(1, 1)]).await;
    federation.converges().await;
    // A panic before an acknowledgement is on disk is a lost acknowledgement: it counts until the next link.
    tokio::time::sleep(2 * limits::SETTLE_WAIT).await;
    federation.coordinator.stop().await;
    federation.sites[0].patch(&json!({"entries": [host(1, 2), host(1, 3)]})).await;
    let site = &federation.sites[0];
    let (rows, depth) = (site.rows().await, site.depth().await);

    site.node.federation().danger_panic(part);
    let health = site.node.anonymous().get("/readyz").await;

    assert_eq!(health.status, 200, "{}", health.text);
    assert_eq!(site.rows().await, rows);
    assert_eq!(site.depth().await, depth);
    site.patch(&json!({"entries": [host(1, 4)]})).await;
    assert_eq!(site.rows().await.len(), 4);
    federation.coordinator.boot().await;
    federation.converges().await;
    assert_eq!(federation.total("").await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn panicking_sync_queue_loses_nothing() {
    site_outlives(Part::SyncQueue).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn panicking_inventory_loses_nothing() {
    site_outlives(Part::Inventory).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn panicking_inbox_and_executor_leave_the_rest_alone() {
    site_outlives(Part::Inbox).await;
    site_outlives(Part::Executor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn panicking_findings_keep_what_was_put_in_and_leave_the_rest_alone() {
    site_outlives(Part::Findings).await;

    let federation = TestFederation::start(1).await;
    let site = &federation.sites[0];
    let put = async |baseline: &str, failed: u32| {
        let scan = json!({"host_id": host_id(1, 1), "rules_passed": 1, "rules_failed": failed});
        let path = format!("/api/v1/site/compliance/{baseline}");
        // A call that the panic caught is answered as unavailable, and may be repeated.
        eventually("the results are acknowledged", async || {
            let answer = site.node.api().put(&path, &json!({"entries": [scan]})).await;
            assert!(answer.status == 200 || answer.status == 503, "{}", answer.text);
            answer.is_success().then_some(())
        })
        .await;
    };
    put("before", 0).await;

    site.node.federation().danger_panic(Part::Findings);
    let meanwhile = site.node.api().get("/api/v1/site/hosts").await;
    put("after", 1).await;

    assert_eq!(meanwhile.status, 200, "{}", meanwhile.text);
    assert_eq!(site.node.api().get("/api/v1/site/compliance/before").await.ok()["total"], 1);
    let path = format!("/api/v1/federation/rollups/dashboard?site_id={}", site.id);
    eventually("the coordinator has both scores", async || {
        let shown = federation.api().get(&path).await.licensed();
        let scores = shown["compliance_rollups"].as_array()?.iter();
        let scores: Vec<_> =
            scores.map(|row| (row["baseline"].clone(), row["score_percent"].clone())).collect();
        let both = [(json!("after"), json!(50.0)), (json!("before"), json!(100.0))];
        both.iter().all(|score| scores.contains(score)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn panicking_uplink_dials_again() {
    site_outlives(Part::Uplink).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn panicking_site_parts_under_traffic_do_not_stop_it() {
    let federation = TestFederation::start(1).await;
    let site = &federation.sites[0];

    for (round, part) in
        [Part::SyncQueue, Part::Inventory, Part::Uplink].into_iter().cycle().take(9).enumerate()
    {
        site.node.federation().danger_panic(part);
        let number = u32::try_from(round).unwrap();
        // A call that the panic caught is answered as unavailable, and may be repeated.
        eventually("the change is acknowledged", async || {
            let body = json!({"entries": [host(1, number)]});
            let answer = site.node.api().patch("/api/v1/site/hosts", &body).await;
            assert!(answer.status == 200 || answer.status == 503, "{}", answer.text);
            answer.is_success().then_some(())
        })
        .await;
    }

    federation.converges().await;
    assert_eq!(federation.total("").await, 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn site_whose_actor_never_stops_panicking_does_not_take_the_node_along() {
    let federation = TestFederation::start(2).await;
    federation.sites[1].put(vec![host(2, 1)]).await;
    federation.converges().await;

    // More often than a supervisor puts up with: the question goes one level up, where it must end well.
    for _ in 0..15 {
        federation.coordinator.federation().danger_panic(Part::Site(federation.sites[0].site_id()));
        let path = format!("/api/v1/federation/sites/{}", federation.sites[0].id);
        eventually("the actor answers again", async || {
            let answer = federation.api().patch(&path, &json!({"location_label": "x"})).await;
            assert!(answer.status == 200 || answer.status == 503, "{}", answer.text);
            answer.is_success().then_some(())
        })
        .await;
    }

    federation.sites[0].patch(&json!({"entries": [host(1, 1)]})).await;
    federation.sites[1].patch(&json!({"entries": [host(2, 2)]})).await;
    federation.converges().await;
    assert_eq!(federation.total("").await, 3);
}
