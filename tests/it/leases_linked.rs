//! Secret leases from a host's wish to the host and back, over a link; and nowhere else (contract 10).

use std::time::Duration;

use hansa_model::enrollment::Role;
use hansa_tests::{
    Api, HttpSite, Lessee, TestNode, TestPair, delivered_lease, eventually, request_lease, revoke_lease,
    seen_canaries,
};
use serde_json::{Value, json};

async fn operations(api: &Api) -> Vec<String> {
    let answer = api.get("/api/v1/federation/audit?limit=1000").await.licensed();
    let entries = answer["entries"].as_array().unwrap().iter().rev();
    let names = entries.map(|entry| entry["operation"].as_str().unwrap().to_owned());
    names.filter(|name| name.starts_with("secret_lease")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn credential_goes_over_the_link_to_its_host_and_is_taken_away_when_it_is_revoked() {
    let lessee = Box::pin(Lessee::start(TestNode::start(Role::Coordinator).await)).await;

    let (key, lease) = lessee.delivered("orders").await;
    let credential = lessee.journal.credential(&key).unwrap();
    let row = lessee.at_site(&key, "issued").await;
    let revoked = lessee.revoke(&lease).await;
    let gone = lessee.at_site(&key, "revoked").await;
    lessee.taken_away(&key).await;

    let (user, password) = credential.split_once(':').unwrap();
    assert_eq!(lease["secret_metadata"]["username"], user);
    assert_eq!(
        (row["metadata"].clone(), &row["host_id"]),
        (lease["secret_metadata"].clone(), &json!("web-1"))
    );
    assert_eq!(row["expires_at"], lease["expires_at"]);
    assert!(row["delivered_at"].is_string() && row["last_error"].is_null());
    assert!(!row.to_string().contains(password) && !lease.to_string().contains(password));
    assert_eq!(revoked["status"], "revoked");
    assert_eq!(gone["status"], "revoked");
    let told = eventually("the coordinator has heard of it", async || {
        let told = operations(&lessee.site.api()).await;
        told.contains(&"secret_lease_taken_away".to_owned()).then_some(told)
    })
    .await;
    for operation in ["requested", "delivered", "revoked"] {
        assert!(told.contains(&format!("secret_lease_{operation}")), "{operation}: {told:?}");
    }
    let centre = operations(&lessee.federation.api()).await;
    assert_eq!(centre, ["secret_lease_requested", "secret_lease_issued", "secret_lease_revoked"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn site_that_was_away_learns_of_a_revocation_when_it_is_back() {
    let mut lessee = Box::pin(Lessee::start(TestNode::start(Role::Coordinator).await)).await;
    let (key, lease) = lessee.delivered("orders").await;
    lessee.site.stop().await;

    let revoked = lessee.revoke(&lease).await;
    let kept = lessee.journal.credential(&key);
    lessee.site.boot().await;
    lessee.at_site(&key, "revoked").await;
    lessee.taken_away(&key).await;

    assert_eq!((&revoked["status"], &revoked["last_error"]), (&json!("revoked"), &Value::Null));
    assert!(kept.is_some(), "nobody could tell the site");
}

#[tokio::test(flavor = "multi_thread")]
async fn credential_ends_at_a_site_that_is_cut_off_and_at_its_coordinator_alike() {
    let mut lessee = Box::pin(Lessee::start(TestNode::start(Role::Coordinator).await)).await;
    let (key, _) = lessee.delivered("orders").await;
    lessee.federation.coordinator.stop().await;

    lessee.site.clock.advance(Duration::from_secs(601));
    let over = lessee.at_site(&key, "expired").await;
    lessee.taken_away(&key).await;
    lessee.federation.coordinator.clock.advance(Duration::from_secs(601));
    lessee.federation.coordinator.boot().await;
    let centre = eventually("the lease has expired at the coordinator", async || {
        let lease = lessee.lease("orders").await;
        (lease["status"] == "expired").then_some(lease)
    })
    .await;

    assert!(over["expires_at"].is_string() && centre["revoked_at"].is_null());
    assert_eq!(lessee.journal.last(&key).unwrap(), "take_away", "it does not come back");
}

#[tokio::test(flavor = "multi_thread")]
async fn wish_of_a_site_that_is_cut_off_is_fulfilled_when_it_is_back() {
    let mut lessee = Box::pin(Lessee::start(TestNode::start(Role::Coordinator).await)).await;
    lessee.federation.coordinator.stop().await;

    let key = lessee.request("orders").await;
    let waiting = lessee.at_site(&key, "requested").await;
    lessee.federation.coordinator.boot().await;
    lessee.taken("orders").await;

    assert!(waiting["received_at"].is_null());
    assert!(lessee.journal.credential(&key).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_canary_of_a_lease_is_in_no_log_metric_answer_or_file_of_either_process() {
    let mut pair = TestPair::start_logging("trace").await;
    let (coordinator, site) = (pair.coordinator.api().await, pair.site.api().await);
    pair.join(&coordinator, &site, None).await;
    let (by_http, peer) = HttpSite::reachable(&coordinator, "http", 60).await;
    let key = request_lease(&site, "linked").await;
    let linked = delivered_lease(&coordinator, "linked").await;
    let wish = json!({
        "correlation_key": "a".repeat(32), "host_id": "web-2", "secret_name": "posted", "backend_role": "reader",
        "kind": "token", "ttl_seconds": 600,
    });
    by_http.push("secret-lease-requests", &wish).await.licensed();
    let posted = delivered_lease(&coordinator, "posted").await;
    let mut canaries = vec![pair.journal.credential(&key).unwrap()];
    canaries.extend(
        peer.pushes().iter().filter_map(|push| push.body["secret_value"].as_str().map(str::to_owned)),
    );
    assert_eq!(canaries.len(), 2, "one over the link, one over HTTP");

    for lease in [&linked, &posted] {
        revoke_lease(&coordinator, lease).await;
    }
    eventually("the credential is taken from its host", async || {
        (pair.journal.last(&key).as_deref() == Some("take_away")).then_some(())
    })
    .await;
    let seen = seen_canaries(&mut pair, &coordinator, &site, &canaries).await;

    assert_eq!(seen, Vec::<String>::new());
}
