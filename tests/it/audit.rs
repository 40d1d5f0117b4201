//! The audit log: the documented rows (contract B5 and 9), its chain, and what shows that it was rewritten.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hansa_actors::view::TokenRequest;
use hansa_model::audit::{BrokenChain, Verification};
use hansa_model::enrollment::Role;
use hansa_model::limits::audit as limits;
use hansa_model::scope::Scope;
use hansa_storage::{DirDisk, FollowedAudit, follow_backup, follow_stopped};
use hansa_tests::{HttpSite, TestFederation, TestNode, all_scopes, eventually};
use hansa_transport::PublicKey;
use serde_json::{Value, json};

const AUDIT: &str = "/api/v1/federation/audit";
const CHECKPOINTS: &str = "/api/v1/federation/audit-checkpoints";
const SITES: &str = "/api/v1/federation/sites";

#[tokio::test(flavor = "multi_thread")]
async fn entries_have_the_documented_members_newest_first_with_an_exact_total() {
    let node = TestNode::start(Role::Coordinator).await;
    let site = invite(&node, "alpha").await;
    node.api().patch(&format!("{SITES}/{site}"), &json!({"location_label": "north"})).await.licensed();

    let page = node.api().get(AUDIT).await.licensed();

    let entries = page["entries"].as_array().unwrap();
    let operations: Vec<&str> = entries.iter().map(|entry| entry["operation"].as_str().unwrap()).collect();
    assert_eq!(operations, ["site_updated", "site_enrollment_started", "federation_role_changed"]);
    assert_eq!(page["total"], 3);
    let newest = entries[0].as_object().unwrap();
    let mut members: Vec<&str> = newest.keys().map(String::as_str).collect();
    members.sort_unstable();
    let documented = [
        "actor_userid",
        "created_at",
        "details",
        "id",
        "operation",
        "target_host_id",
        "target_site_id",
        "target_site_name",
    ];
    assert_eq!(members, documented);
    assert_eq!(newest["actor_userid"], "tester@example.com");
    assert_eq!((&newest["target_site_id"], &newest["target_site_name"]), (&json!(site), &json!("alpha")));
    assert_eq!(newest["target_host_id"], Value::Null);
    assert_eq!(newest["details"], json!({"changes": {"location_label": "north"}}));
    assert!(newest["created_at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(entries[2]["target_site_id"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_bind_together_and_pages_follow_each_other() {
    let node = TestNode::start(Role::Coordinator).await;
    let (alpha, _) = (invite(&node, "alpha").await, invite(&node, "beta").await);
    node.clock.advance(Duration::from_secs(600));
    for label in ["one", "two", "three"] {
        let body = json!({"location_label": label});
        node.api().patch(&format!("{SITES}/{alpha}"), &body).await.licensed();
    }
    let all = entries(&node, "").await;
    let third = all[2]["created_at"].as_str().unwrap();
    let first = all[0]["created_at"].as_str().unwrap();

    for (query, expected) in [
        (format!("site_id={alpha}"), 4),
        ("operation=site_updated".to_owned(), 3),
        (format!("site_id={alpha}&operation=site_enrollment_started"), 1),
        ("actor_userid=tester@example.com".to_owned(), 5),
        ("actor_userid=local".to_owned(), 1),
        ("operation=nothing".to_owned(), 0),
        (format!("since={third}"), 3),
        (format!("until={third}"), 3),
        (format!("since={third}&until={first}"), 2),
        ("site_id=&operation=&actor_userid=&since=&until=".to_owned(), 6),
    ] {
        let page = node.api().get(&format!("{AUDIT}?{query}")).await.licensed();
        assert_eq!(page["total"], expected, "{query}");
        assert_eq!(page["entries"].as_array().map(Vec::len), Some(expected), "{query}");
    }
    let mut paged = Vec::new();
    for offset in 0..all.len() {
        let page = node.api().get(&format!("{AUDIT}?limit=1&offset={offset}")).await.licensed();
        assert_eq!(page["total"], all.len());
        paged.extend(page["entries"].as_array().unwrap().clone());
    }
    assert_eq!(paged, all);
    for bad in ["limit=0", "limit=1001", "offset=-1", "site_id=x", "since=yesterday", "until=x"] {
        node.api().get(&format!("{AUDIT}?{bad}")).await.refused(400, "invalid_query");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_is_found_by_its_id_and_outlives_its_site() {
    let node = TestNode::start(Role::Coordinator).await;
    let site = invite(&node, "alpha").await;
    node.api().delete(&format!("{SITES}/{site}")).await.licensed();

    for entry in entries(&node, "").await {
        let id = entry["id"].as_str().unwrap();
        assert_eq!(node.api().get(&format!("{AUDIT}/{id}")).await.licensed()["entry"], entry);
    }
    assert_eq!(entries(&node, &format!("?site_id={site}")).await[0]["target_site_name"], "alpha");
    let nobody = uuid::Uuid::nil();
    node.api().get(&format!("{AUDIT}/{nobody}")).await.refused(404, "audit_entry_not_found");
    node.api().get(&format!("{AUDIT}/x")).await.refused(400, "invalid_path");
}

#[tokio::test(flavor = "multi_thread")]
async fn confined_operator_sees_only_the_entries_of_their_sites() {
    let node = TestNode::start(Role::Coordinator).await;
    let (alpha, beta) = (invite(&node, "alpha").await, invite(&node, "beta").await);
    let confined = node.api_as(all_scopes(), Some([alpha.parse().unwrap()].into()));
    let hidden: Vec<Value> = entries(&node, "")
        .await
        .into_iter()
        .filter(|entry| entry["target_site_id"] != json!(alpha))
        .collect();

    let page = confined.get(AUDIT).await.licensed();
    let other = confined.get(&format!("{AUDIT}?site_id={beta}")).await.licensed();

    assert_eq!((&page["total"], &page["entries"][0]["target_site_id"]), (&json!(1), &json!(alpha)));
    assert_eq!((&other["total"], &other["entries"]), (&json!(0), &json!([])));
    assert_eq!(hidden.len(), 2);
    for entry in hidden {
        let id = entry["id"].as_str().unwrap();
        confined.get(&format!("{AUDIT}/{id}")).await.refused(404, "audit_entry_not_found");
    }
    let own = page["entries"][0]["id"].as_str().unwrap();
    confined.get(&format!("{AUDIT}/{own}")).await.licensed();
    let refused = confined.get(&format!("{AUDIT}/chain")).await.refused(403, "permission_denied");
    assert!(refused["detail"].as_str().unwrap().starts_with("Permission denied"));
    let reader = node.api_as([Scope::SitesRead].into(), None);
    reader.get(AUDIT).await.refused(403, "permission_denied");
}

#[tokio::test(flavor = "multi_thread")]
async fn chain_can_be_followed_with_nothing_but_a_hash_function() {
    let node = TestNode::start(Role::Coordinator).await;
    for name in ["a", "b", "c"] {
        invite(&node, name).await;
    }

    let whole = follow_over_http(&node, Verification::default(), 2).await;
    let rest = node.api().get(&format!("{AUDIT}/chain?after=3")).await.licensed();

    assert_eq!(whole, Ok((4, 0)));
    assert_eq!(rest["links"][0]["number"], 4);
    assert_eq!(rest["links"].as_array().map(Vec::len), Some(1));
    node.api().get(&format!("{AUDIT}/chain?limit=1001")).await.refused(400, "invalid_query");
}

#[tokio::test(flavor = "multi_thread")]
async fn news_gets_a_signed_checkpoint_and_silence_none() {
    let mut node = TestNode::start(Role::Coordinator).await;
    invite(&node, "alpha").await;

    let first = next_checkpoint(&node, 0).await;
    node.restart().await;
    node.clock.advance(limits::CHECKPOINT_INTERVAL * 2);
    tokio::time::sleep(limits::LOOK_INTERVAL * 3).await;
    let quiet = node.api().get(CHECKPOINTS).await.licensed();
    invite(&node, "beta").await;
    let second = next_checkpoint(&node, 2).await;

    let identity = node.api().get("/api/v1/federation/identity-key").await.ok();
    assert_eq!(quiet["checkpoints"], json!([first]), "nothing has happened since");
    assert_eq!((&first["number"], &second["number"]), (&json!(2), &json!(3)));
    for checkpoint in [&first, &second] {
        assert_eq!(checkpoint["public_key_pem"], identity["public_key_pem"]);
        let at: hansa_model::Timestamp = checkpoint["at"].as_str().unwrap().parse().unwrap();
        let text = format!(
            "hansa audit checkpoint 1\n{}\n{}\n{}\n",
            checkpoint["number"],
            checkpoint["hash"].as_str().unwrap(),
            at.as_micros()
        );
        let key = PublicKey::from_pem(identity["public_key_pem"].as_str().unwrap()).unwrap();
        let signature = STANDARD.decode(checkpoint["signature"].as_str().unwrap()).unwrap();
        assert!(key.verify(text.as_bytes(), &signature));
    }
    assert_eq!(
        follow_over_http(&node, Verification::new([kept(&first), kept(&second)]), 1_000).await,
        Ok((3, 2))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn entry_that_was_changed_in_the_file_is_found_and_named() {
    let mut node = TestNode::start(Role::Coordinator).await;
    let site = invite(&node, "alpha").await;
    for label in ["taken-bribe", "nothing-odd"] {
        let body = json!({"location_label": label});
        node.api().patch(&format!("{SITES}/{site}"), &body).await.licensed();
    }
    node.stop().await;
    let sound = follow_stopped(&DirDisk::new(node.path()).unwrap(), Verification::default()).unwrap();

    let changed = replace_in_file(&node.path().join("hansa.redb"), b"taken-bribe", b"gave-to-xmas");
    let stopped = follow_stopped(&DirDisk::new(node.path()).unwrap(), Verification::default()).unwrap();
    node.boot().await;
    let over_http = follow_over_http(&node, Verification::default(), 1_000).await;

    assert!(changed > 0, "the entry lies in the file in plain text");
    assert_eq!(sound, Ok(FollowedAudit { entries: 4, checkpoints: 0 }));
    assert_eq!(stopped, Err(BrokenChain::Changed { number: 3 }));
    assert_eq!(over_http, Err(BrokenChain::Changed { number: 3 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn log_that_was_rewritten_does_not_fit_what_others_kept() {
    let mut node = TestNode::start(Role::Coordinator).await;
    node.stop().await;
    let before = node.copy();
    node.boot().await;
    invite(&node, "alpha").await;
    invite(&node, "beta").await;
    let checkpoint = kept(&next_checkpoint(&node, 0).await);
    node.stop().await;

    // Whoever holds the node can go back to an old file and write another history, whole in itself.
    node.restore(&before);
    node.boot().await;
    invite(&node, "alpha").await;
    let shorter = follow_over_http(&node, Verification::new([checkpoint]), 1_000).await;
    invite(&node, "gamma").await;
    let alone = follow_over_http(&node, Verification::default(), 1_000).await;
    let other = follow_over_http(&node, Verification::new([checkpoint]), 1_000).await;

    assert_eq!(checkpoint.0, 3);
    assert_eq!(shorter, Err(BrokenChain::CutOff { number: 3, last: 2 }));
    assert_eq!(alone, Ok((3, 0)));
    assert_eq!(other, Err(BrokenChain::Rewritten { number: 3 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_is_verified_without_a_node_or_a_key() {
    let node = TestNode::start(Role::Coordinator).await;
    invite(&node, "alpha").await;
    let file = tempfile::tempdir().unwrap();
    let copy = file.path().join("copy.redb");
    node.store().backup(&copy).await.unwrap();
    let bytes = std::fs::read(&copy).unwrap();

    let followed = follow_backup(&copy, Verification::default()).unwrap();

    assert_eq!(followed, Ok(FollowedAudit { entries: 2, checkpoints: 0 }));
    assert_eq!(std::fs::read(&copy).unwrap(), bytes, "it was only read");
}

#[tokio::test(flavor = "multi_thread")]
async fn sites_keep_the_checkpoints_that_their_coordinator_signed() {
    let federation = TestFederation::start(1).await;
    let site = &federation.sites[0];

    let made = next_checkpoint(&federation.coordinator, 0).await;
    let kept = eventually("the site keeps it", async || {
        let path = "/api/v1/federation/site/audit-checkpoints";
        let newest = site.node.api().get(path).await.licensed()["checkpoints"][0].clone();
        (newest["number"] == made["number"]).then_some(newest)
    })
    .await;

    for member in ["hash", "at", "signature", "public_key_pem"] {
        assert_eq!(kept[member], made[member], "{member}");
    }
    assert!(kept["received_at"].is_string() && made.get("received_at").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn change_whose_entry_cannot_be_written_fails_without_effect() {
    let mut node = TestNode::start(Role::Coordinator).await;
    let site = invite(&node, "alpha").await;
    let path = format!("{SITES}/{site}");
    let (row, logged) = (node.api().get(&path).await.licensed(), entries(&node, "").await);
    node.stop().await;
    // No disk has as much free: every operator's write is refused as on a full one.
    node.set_reserve(Some(u64::MAX));
    node.boot().await;
    let mut watched = node.api().stream("/api/v1/events", &[]).await;

    node.api().patch(&path, &json!({"location_label": "north"})).await.refused(507, "storage_full");
    let new = json!({"name": "beta", "url": "https://site.example.com"});
    node.api().post(SITES, &new).await.refused(507, "storage_full");

    assert_eq!(node.api().get(&path).await.licensed(), row);
    assert_eq!(node.api().get(SITES).await.licensed()["sites"].as_array().map(Vec::len), Some(1));
    assert_eq!(entries(&node, "").await, logged);
    let told = tokio::time::timeout(Duration::from_millis(300), watched.next()).await;
    assert!(told.is_err(), "watchers are told of what happened alone: {told:?}");
}

/// Follows the chain as somebody outside would, in pages of this size.
async fn follow_over_http(
    node: &TestNode,
    mut verification: Verification,
    limit: usize,
) -> Result<(u64, u64), BrokenChain> {
    loop {
        let (after, _) = verification.place();
        let page = node.api().get(&format!("{AUDIT}/chain?after={after}&limit={limit}")).await.licensed();
        let links = page["links"].as_array().unwrap().clone();
        if links.is_empty() {
            return verification.end();
        }
        for link in links {
            let draft = STANDARD.decode(link["draft"].as_str().unwrap()).unwrap();
            verification.follow(link["number"].as_u64().unwrap(), &draft, &hash_of(&link))?;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn site_without_quic_reads_the_checkpoints_that_others_are_sent() {
    let node = TestNode::start(Role::Coordinator).await;
    let site = HttpSite::enrolled(&node, "alpha", 1).await;
    let other = HttpSite::enrolled(&node, "beta", 2).await;
    let checkpoint = next_checkpoint(&node, 0).await;
    let path = site.path("audit-checkpoints");
    let get = async |bearer: &str, query: &str| {
        node.anonymous().bearer(bearer).get(&format!("{path}{query}")).await
    };

    let shown = get(&site.bearer, "?limit=1").await.licensed();

    assert_eq!(shown["checkpoints"], json!([checkpoint]));
    node.anonymous().get(&format!("{path}?limit=0")).await.refused(401, "site_unauthorized");
    get("unknown", "").await.refused(401, "site_unauthorized");
    node.api().get(&path).await.refused(401, "site_unauthorized");
    get(&other.bearer, "").await.refused(403, "site_mismatch");
    get(&site.bearer, "?limit=0").await.refused(400, "invalid_query");
}

/// The first checkpoint of more entries than this; the clock is moved to where one is due.
async fn next_checkpoint(node: &TestNode, after: u64) -> Value {
    node.clock.advance(limits::CHECKPOINT_INTERVAL);
    eventually("a checkpoint", async || {
        let newest = node.api().get(CHECKPOINTS).await.licensed()["checkpoints"][0].clone();
        newest["number"].as_u64().is_some_and(|number| number > after).then_some(newest)
    })
    .await
}

fn kept(checkpoint: &Value) -> (u64, [u8; 32]) {
    (checkpoint["number"].as_u64().unwrap(), hash_of(checkpoint))
}

fn hash_of(value: &Value) -> [u8; 32] {
    let text = value["hash"].as_str().unwrap();
    std::array::from_fn(|index| u8::from_str_radix(&text[2 * index..2 * index + 2], 16).unwrap())
}

async fn entries(node: &TestNode, query: &str) -> Vec<Value> {
    node.api().get(&format!("{AUDIT}{query}")).await.licensed()["entries"].as_array().unwrap().clone()
}

async fn invite(node: &TestNode, name: &str) -> String {
    let body = json!({"name": name, "url": "https://site.example.com"});
    let answer = node.api().post(SITES, &body).await.licensed();
    answer["site"]["id"].as_str().unwrap().to_owned()
}

/// Replaces the first bytes of each place where `from` stands; answers how many there are.
fn replace_in_file(path: &Path, from: &[u8], to: &[u8]) -> usize {
    let mut bytes = std::fs::read(path).unwrap();
    let places: Vec<usize> =
        (0..bytes.len() - from.len()).filter(|start| bytes[*start..].starts_with(from)).collect();
    for start in &places {
        bytes[*start..*start + from.len()].copy_from_slice(&to[..from.len()]);
    }
    std::fs::write(path, bytes).unwrap();
    places.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn token_of_a_tenant_reads_its_own_log_and_not_the_node_s() {
    let node = TestNode::start(Role::Coordinator).await;
    let api = node.api();
    for tenant in ["tnt_red", "tnt_blue"] {
        assert_eq!(api.post("/v1/tenants", &json!({"id": tenant})).await.status, 201);
        api.put(&format!("/v1/t/{tenant}/secrets/app/{tenant}"), &json!({"data": {"v": 1}})).await.ok();
    }
    let request = TokenRequest {
        userid: "reader@example.com".to_owned(),
        scopes: [Scope::AuditRead].into(),
        sites: None,
        tenant: Some("tnt_red".parse().unwrap()),
        ttl: Duration::from_secs(60),
    };
    let red = node.anonymous().bearer(node.federation().mint(&request).unwrap().expose().clone());

    let own = red.get("/v1/audit/logs").await.ok();
    assert_eq!(own["logs"][0]["secret_path"], "app/tnt_red");
    let all = red.get(AUDIT).await.licensed();
    assert_eq!(all["total"], 0, "{all}");
    let entries = api.get(AUDIT).await.licensed();
    let id = entries["entries"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(red.get(&format!("{AUDIT}/{id}")).await.status, 404);
    assert_eq!(red.get(&format!("{AUDIT}/chain")).await.status, 403);
}
