//! A site of another make: nothing but HTTP and an Ed25519 key. First class: same decisions, same directory.

use std::collections::BTreeMap;

use hansa::system::SystemEntropy;
use hansa_model::WallClock as _;
use hansa_model::enrollment::Role;
use hansa_model::machine::stamp;
use hansa_tests::{
    HttpSite, TestNode, VECTOR_CERTIFICATE, VECTOR_PROOF_COORDINATOR, VECTOR_PROOF_SITE, eventually, host,
    host_id, rows_of,
};
use hansa_transport::certificate::{sign_proof, verify_request};
use hansa_transport::{PublicKey, TlsCertificate};
use reqwest::Method;
use serde_json::{Value, json};

/// The vectors' signature of the body `{"active_count": 4, "host_count": 5}` by the certificate's RSA key.
const VECTOR_SIGNATURE: &str = "Rh/Xsml/qOLjzjoQK414qGAnde2gB2b91yXV/Hxo9UULgG0urnYfDP2mtP+IRGGFdC/4a7KCc6ysspUIqqYSTe29wK68bG+k/zSna5+0GSMYUbGWj4f7hWAcghHY+fTY8h262cMWg/i5CDwUP59Gd5EaUO3M9cjEMqi5NKVTlx564Fwx7pzcW67ZmFIiZCw1GDat8t2gNL0VXrdx2c0HjHJ+parM602J81MYIDPHyShqlSdmRBpyVS3sycFbhYmc4sj45rh0XUAhQ48eZIUP9Ik/Tmv4iH04TgTJEq04pT2vUw6Tt47z7bvIyzrwsjHJDAzbD2LFDhgl09Rer31U5Q==";
const VECTOR_BODY: &str = r#"{"active_count": 4, "host_count": 5}"#;

async fn rows(node: &TestNode) -> BTreeMap<String, Value> {
    rows_of(&node.api(), "/api/v1/federation/hosts").await
}

async fn push_hosts(site: &HttpSite, entries: Vec<Value>) -> Value {
    site.push("host-directory", &json!({ "entries": entries })).await.licensed()
}

#[tokio::test(flavor = "multi_thread")]
async fn site_with_the_vectors_key_enrolls_with_the_vectors_proof() {
    let node = TestNode::start(Role::Coordinator).await;
    let site = HttpSite::invited(&node, "vector", 0).await;

    assert_eq!(site.completion()["identity_proof"], VECTOR_PROOF_SITE);
    let body = |proof: &str| json!({"tls_cert_pem": VECTOR_CERTIFICATE, "identity_proof": proof});
    let wrong_role = site.complete_with(&site.token, &body(VECTOR_PROOF_COORDINATOR)).await;
    let right = site.complete_with(&site.token, &body(VECTOR_PROOF_SITE)).await;

    wrong_role.refused(401, "identity_mismatch");
    right.licensed();
    assert!(verify_request(VECTOR_CERTIFICATE, VECTOR_BODY.as_bytes(), VECTOR_SIGNATURE));
    assert!(PublicKey::from_pem("").is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn strict_coordinator_takes_a_signed_body_and_no_other() {
    let node = TestNode::start_strict(Role::Coordinator).await;
    let mut site = HttpSite::invited(&node, "signed", 0).await;
    let answer = site.complete().await.licensed();
    site.bearer = answer["sync_bearer_token"].as_str().unwrap().to_owned();
    let api = node.anonymous().bearer(&site.bearer);
    let send = async |body: &str, headers: &[(&str, &str)]| {
        api.send(Method::POST, &site.path("rollups/hosts"), Some(body.into()), headers).await
    };

    let signed = send(VECTOR_BODY, &[("X-Federation-Signature", VECTOR_SIGNATURE)]).await;
    let unsigned = send(VECTOR_BODY, &[]).await;
    let changed = send(&VECTOR_BODY.replace('4', "3"), &[("X-Federation-Signature", VECTOR_SIGNATURE)]).await;
    let garbled = send(VECTOR_BODY, &[("X-Federation-Signature", "AAAA")]).await;

    assert_eq!(signed.licensed()["rollup"]["host_count"], 5);
    for answer in [unsigned, changed, garbled] {
        answer.refused(401, "signature_invalid");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn directory_push_is_searchable_when_it_is_answered() {
    let node = TestNode::start(Role::Coordinator).await;
    let site = HttpSite::enrolled(&node, "http", 1).await;

    let answer = push_hosts(&site, vec![host(1, 1), host(1, 2)]).await;
    let found = node.api().get("/api/v1/federation/hosts?fqdn_contains=HOST-2").await.licensed();
    let detail = node.api().get(&format!("/api/v1/federation/hosts/{}", host_id(1, 1))).await.licensed();

    assert_eq!(answer, json!({"licensed": true, "upserted": 2, "retired": 0, "retained": 0, "skipped": []}));
    assert_eq!((&found["total"], &found["hosts"][0]["host_id"]), (&json!(1), &json!(host_id(1, 2))));
    let row = &found["hosts"][0];
    for (name, value) in host(1, 2).as_object().unwrap() {
        assert_eq!(&row[name], value, "{name}");
    }
    let documented = [
        "host_id",
        "site_id",
        "fqdn",
        "ipv4",
        "ipv6",
        "public_ip",
        "os_family",
        "os_version",
        "platform",
        "status",
        "last_seen",
        "tags_json",
        "geo_country_code",
        "geo_subdivision_code",
        "geo_city",
        "geo_latitude",
        "geo_longitude",
        "mtime",
    ];
    assert!(documented.iter().all(|name| row.get(name).is_some()), "{row}");
    assert_eq!(detail["site"], json!({"site_id": site.id, "name": "http", "url": "http://127.0.0.1:9"}));
    assert_eq!(detail["site_detail_url"], format!("http://127.0.0.1:9/hosts/{}", host_id(1, 1)));
    let unknown = node.api().get(&format!("/api/v1/federation/hosts/{}", host_id(9, 9))).await;
    assert_eq!(unknown.refused(404, "host_not_found")["licensed"], true);
    node.api().get("/api/v1/federation/hosts/not-a-uuid").await.refused(400, "invalid_path");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_rows_are_skipped_with_their_place_and_the_others_count() {
    let node = TestNode::start(Role::Coordinator).await;
    let site = HttpSite::enrolled(&node, "untidy", 1).await;
    push_hosts(&site, vec![host(1, 1), host(1, 2)]).await;
    let mut blank = host(1, 2);
    blank["fqdn"] = json!("  ");
    let mut extra = host(1, 3);
    extra["colour"] = json!("red");
    let entries = vec![
        host(1, 1),
        json!({"host_id": "not-a-uuid", "fqdn": "a.example.com"}),
        json!({"host_id": host_id(1, 9)}),
        blank,
        json!("a text"),
        extra,
        host(1, 3),
    ];

    let answer = push_hosts(&site, entries).await;

    let places: Vec<u64> =
        answer["skipped"].as_array().unwrap().iter().map(|row| row["index"].as_u64().unwrap()).collect();
    assert_eq!(places, [1, 2, 3, 4, 6]);
    assert_eq!((&answer["upserted"], &answer["skipped"][0]["host_id"]), (&json!(2), &Value::Null));
    assert_eq!(answer["skipped"][2]["host_id"], host_id(1, 2));
    assert!(answer["skipped"].as_array().unwrap().iter().all(|row| row["error"].is_string()));
    // A host whose row is bad is not retired.
    assert_eq!(rows(&node).await.len(), 3);
    site.push("host-directory", &json!({})).await.refused(400, "invalid_body");
    site.push("host-directory", &json!({"entries": 7})).await.refused(400, "invalid_body");
}

#[tokio::test(flavor = "multi_thread")]
async fn null_clears_and_absence_keeps_and_older_rows_are_skipped() {
    let node = TestNode::start(Role::Coordinator).await;
    let site = HttpSite::enrolled(&node, "precise", 1).await;
    let mut first = host(1, 1);
    first["mtime"] = json!("2026-01-02T00:00:00");
    push_hosts(&site, vec![first]).await;
    let row = |mtime: &str, status: Value| json!({"host_id": host_id(1, 1), "fqdn": "new.example.com", "status": status, "mtime": mtime});

    push_hosts(&site, vec![row("2026-01-03T00:00:00+00:00", Value::Null)]).await;
    let stale = push_hosts(&site, vec![row("2026-01-01T00:00:00Z", json!("old"))]).await;

    let held = rows(&node).await[&host_id(1, 1)].clone();
    assert_eq!((&held["fqdn"], &held["status"]), (&json!("new.example.com"), &Value::Null));
    assert_eq!((&held["ipv4"], &held["mtime"]), (&json!("10.1.0.2"), &json!("2026-01-03T00:00:00Z")));
    assert_eq!(stale["skipped"][0]["host_id"], host_id(1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn host_left_out_is_retired_and_a_mass_removal_waits_for_a_second_word() {
    let node = TestNode::start(Role::Coordinator).await;
    let site = HttpSite::enrolled(&node, "shrinking", 1).await;
    let some = |count: u32| (0..count).map(|number| host(1, number)).collect::<Vec<_>>();
    push_hosts(&site, some(40)).await;

    let few = push_hosts(&site, some(38)).await;
    let many = push_hosts(&site, some(10)).await;
    let waiting = rows(&node).await.len();
    let again = push_hosts(&site, some(10)).await;

    assert_eq!((&few["retired"], &few["retained"]), (&json!(2), &json!(0)));
    assert_eq!((&many["retired"], &many["retained"], waiting), (&json!(0), &json!(28), 38));
    assert_eq!((&again["retired"], rows(&node).await.len()), (&json!(28), 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn rollup_and_metadata_reach_the_site_row_and_the_timeline() {
    let node = TestNode::start(Role::Coordinator).await;
    let site = HttpSite::enrolled(&node, "counting", 1).await;
    let path = format!("/api/v1/federation/sites/{}", site.id);
    let rollup = json!({
        "host_count": "5", "active_count": 4, "os_breakdown": {"linux": 5}, "status_breakdown": null, "other": 1,
    });

    let stored = site.push("rollups/hosts", &rollup).await.licensed();
    let metadata = json!({
        "sysmanage_version": "3.5.1.0-with-a-suffix-that-is-far-too-long", "connection_state": "online",
        "capabilities": ["a"], "queue_depth": 7, "latency_ms": 12, "autonomous": false, "unknown": [],
    });
    let answered = site.push("metadata", &metadata).await.licensed();
    let row = node.api().get(&path).await.licensed()["site"].clone();
    let status = node.api().get(&format!("{path}/sync-status")).await.licensed();
    let timeline = node.api().get(&format!("{path}/sync-timeline?limit=100")).await.licensed();

    let members: Vec<&str> = stored["rollup"].as_object().unwrap().keys().map(String::as_str).collect();
    for name in
        ["id", "site_id", "snapshot_at", "host_count", "active_count", "os_breakdown", "status_breakdown"]
    {
        assert!(members.contains(&name), "{name}");
    }
    assert_eq!((&stored["rollup"]["host_count"], &stored["rollup"]["active_count"]), (&json!(5), &json!(4)));
    assert_eq!(answered["site"], row);
    assert_eq!(row["connection_state"], "online");
    assert_eq!(row["sysmanage_version"].as_str().map(str::len), Some(32));
    assert_eq!((&row["last_sync_status"], &row["capabilities"]), (&json!("success"), &json!(["a"])));
    assert_eq!(status["status"]["pending_queue_depth"], 7);
    assert!(status["status"]["last_sync_at"].is_string());
    let events = timeline["events"].as_array().unwrap();
    assert_eq!((&timeline["site_id"], &timeline["connection_state"]), (&json!(site.id), &json!("online")));
    assert!(events.len() >= 2 && events.iter().all(|event| event["sync_status"] == "success"), "{timeline}");
    assert_eq!(
        (&events.last().unwrap()["queue_depth"], &events.last().unwrap()["latency_ms"]),
        (&json!(7), &json!(12))
    );
    assert!(events.windows(2).all(|pair| pair[0]["recorded_at"].as_str() <= pair[1]["recorded_at"].as_str()));
    let one = node.api().get(&format!("{path}/sync-timeline?limit=1")).await.licensed();
    assert_eq!(one["events"].as_array().unwrap(), &events[events.len() - 1..]);
    node.api().get(&format!("{path}/sync-timeline?limit=0")).await.refused(400, "invalid_query");
    for bad in [
        json!({"host_count": 3, "active_count": 4}),
        json!({"host_count": -1, "active_count": 0}),
        json!({"host_count": "many", "active_count": 0}),
        json!({"host_count": 3}),
    ] {
        let answer = site.push("rollups/hosts", &bad).await;
        assert_eq!(answer.status, 400, "{bad}: {}", answer.text);
        answer.assert_problem();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn site_drains_its_queue_to_a_coordinator_that_speaks_only_http() {
    let coordinator = TestNode::start_http_only(Role::Coordinator).await;
    let site = TestNode::start(Role::Site).await;
    let key = |api: hansa_tests::Api| async move {
        api.get("/api/v1/federation/identity-key").await.ok()["public_key_pem"].clone()
    };
    let body = json!({"entries": [host(1, 1), host(2, 1)]});
    site.api().put("/api/v1/site/hosts", &body).await.ok();
    let invitation = json!({
        "name": "http",
        "url": site.url(),
        "site_identity_public_key_pem": key(site.api()).await,
    });
    let invited = coordinator.api().post("/api/v1/federation/sites", &invitation).await.licensed();

    let enroll = json!({
        "coordinator_url": coordinator.url(),
        "enrollment_token": invited["enrollment_token"],
        "coordinator_identity_public_key_pem": key(coordinator.api()).await,
        "sync_interval_seconds": 5,
    });
    site.api().post("/api/v1/federation/site/enroll", &enroll).await.licensed();

    let total = async |wanted: u64, query: &str| {
        let path = format!("/api/v1/federation/hosts?limit=1{query}");
        (coordinator.api().get(&path).await.licensed()["total"] == wanted).then_some(())
    };
    eventually("the snapshot is searchable", async || total(2, "").await).await;
    let gone = json!({"remove": [host(1, 1)["host_id"]], "entries": [host(3, 1)]});
    site.api().patch("/api/v1/site/hosts", &gone).await.ok();
    let removed = format!("&fqdn_contains={}", host(1, 1)["fqdn"].as_str().unwrap());
    eventually("the removal has arrived", async || total(0, &removed).await).await;
    eventually("the new host has arrived", async || total(2, "").await).await;
    eventually("nothing waits", async || {
        let depth = site.api().get("/api/v1/federation/site/sync-queue/depth").await.licensed();
        (depth["depth"] == 0).then_some(())
    })
    .await;
    let status = site.api().get("/api/v1/federation/site/sync-status").await.licensed();
    assert_eq!(status["state"], "online");
}

#[tokio::test(flavor = "multi_thread")]
async fn stamped_request_is_taken_once_and_only_where_it_was_meant() {
    let node = TestNode::start_strict(Role::Coordinator).await;
    let mut site = HttpSite::invited(&node, "stamped", 40).await;
    let tls = TlsCertificate::generate("site.example.com", node.clock.now(), &SystemEntropy).unwrap();
    let proof = sign_proof(site.key(), Role::Site, tls.certificate_pem()).unwrap();
    let completion = json!({"tls_cert_pem": tls.certificate_pem(), "identity_proof": proof});
    let answer = site.complete_with(&site.token, &completion).await.licensed();
    site.bearer = answer["sync_bearer_token"].as_str().unwrap().to_owned();
    let api = node.anonymous().bearer(&site.bearer);
    let body = r#"{"active_count": 4, "host_count": 5}"#;
    let path = site.path("rollups/hosts");
    let stamp = |path: &str, nonce: &str| {
        let at = node.clock.now().as_secs();
        let message = stamp::message("POST", path, at, nonce, body.as_bytes());
        stamp::header(at, nonce, &tls.sign_request(message.as_bytes()))
    };
    let signature = tls.sign_request(body.as_bytes());
    let send = async |stamp: Option<&str>| {
        let mut headers = vec![("X-Federation-Signature", signature.as_str())];
        headers.extend(stamp.map(|stamp| ("X-Federation-Stamp", stamp)));
        api.send(Method::POST, &path, Some(body.into()), &headers).await
    };

    send(None).await.licensed();
    let first = stamp(&path, "n1");
    send(Some(&first)).await.licensed();
    send(Some(&first)).await.refused(401, "signature_invalid");
    send(Some(&stamp(&site.path("metadata"), "n2"))).await.refused(401, "signature_invalid");
    // From the first stamp on, cutting the header off is no way around it.
    send(None).await.refused(401, "signature_invalid");
    send(Some(&stamp(&path, "n3"))).await.licensed();

    // The reported count shows while the site has sent no directory (contract 7.1).
    let row = node.api().get(&format!("/api/v1/federation/sites/{}", site.id)).await.licensed();
    assert_eq!(row["site"]["host_count"], 5);
}
