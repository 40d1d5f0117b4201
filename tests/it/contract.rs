//! The documented rows of the site federation API over a running node: shapes to the field name, each
//! documented refusal, authentication before validation, side effects.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hansa_api::Principal;
use hansa_model::audit::Detail;
use hansa_model::enrollment::Role;
use hansa_model::scope::Scope;
use hansa_storage::{Order, table};
use hansa_tests::{HttpSite, TestFederation, TestNode, host, host_id};
use hansa_transport::PublicKey;
use hansa_transport::certificate::{certificate_fingerprint, verify_proof};
use reqwest::Method;
use serde_json::{Value, json};

const SITES: &str = "/api/v1/federation/sites";

/// The public key of the contract's test vectors.
const VECTOR_KEY: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAA6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=\n\
                          -----END PUBLIC KEY-----\n";
const VECTOR_FINGERPRINT: &str = "f0ff50dacf109dea7f716d7c03eb7a821aa3a283fd3fa02f4c14dbba7d3c3322";

fn members(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap_or_else(|| panic!("not an object: {value}")).keys().map(String::as_str).collect()
}

fn names(text: &str) -> BTreeSet<&str> {
    text.split_whitespace().collect()
}

/// Audit entries of a node as (operation, details), oldest first.
fn audit(node: &TestNode) -> Vec<(String, Value)> {
    let view = node.store().read().unwrap();
    let entries = view.page::<table::Audit>(0..=u64::MAX, Order::Ascending, 1_000).unwrap();
    entries
        .into_iter()
        .map(|(_, entry)| (entry.draft.operation.clone(), plain_map(&entry.draft.details)))
        .collect()
}

fn plain_map(details: &BTreeMap<String, Detail>) -> Value {
    details.iter().map(|(name, value)| (name.clone(), plain(value))).collect::<serde_json::Map<_, _>>().into()
}

/// A detail as plain JSON.
fn plain(detail: &Detail) -> Value {
    match detail {
        Detail::Null => Value::Null,
        Detail::Bool(value) => json!(value),
        Detail::Int(value) => json!(value),
        Detail::Float(value) => json!(value),
        Detail::Text(value) => json!(value),
        Detail::List(values) => values.iter().map(plain).collect(),
        Detail::Map(values) => plain_map(values),
    }
}

fn operations(node: &TestNode) -> Vec<String> {
    audit(node).into_iter().map(|(operation, _)| operation).collect()
}

async fn created(node: &TestNode, name: &str) -> Value {
    node.api().post(SITES, &json!({"name": name, "url": "https://site.example.com"})).await.licensed()
}

#[tokio::test(flavor = "multi_thread")]
async fn identity_key_has_its_documented_shape_in_every_role() {
    for role in [Role::None, Role::Site] {
        let node = TestNode::start(role).await;

        let key = node.api().get("/api/v1/federation/identity-key").await.ok();
        let again = node.api().get("/api/v1/federation/identity-key").await.ok();

        assert_eq!(members(&key), names("public_key_pem fingerprint"));
        assert_eq!(key, again);
        let pem = key["public_key_pem"].as_str().unwrap();
        assert_eq!(pem.len(), 113);
        assert_eq!(PublicKey::from_pem(pem).unwrap().fingerprint(), key["fingerprint"].as_str().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_is_public_and_its_proof_verifies_as_the_vectors_do() {
    let node = TestNode::start(Role::None).await;

    for (role, word) in
        [(Role::None, Role::Coordinator), (Role::Coordinator, Role::Coordinator), (Role::Site, Role::Site)]
    {
        node.api().put("/api/v1/federation-role", &json!({"role": role.as_str()})).await.ok();
        let shown = node.anonymous().get("/api/v1/federation/tls-cert").await.ok();
        let key = node.api().get("/api/v1/federation/identity-key").await.ok();

        assert_eq!(members(&shown), names("cert_pem identity_proof identity_fingerprint identity_role quic"));
        assert_eq!(members(&shown["quic"]), names("address alpn"));
        assert_eq!(shown["quic"]["alpn"], "hansa/1");
        assert_eq!(shown["identity_role"], word.as_str());
        assert_eq!(shown["identity_fingerprint"], key["fingerprint"]);
        let (certificate, proof) =
            (shown["cert_pem"].as_str().unwrap(), shown["identity_proof"].as_str().unwrap());
        let key = PublicKey::from_pem(key["public_key_pem"].as_str().unwrap()).unwrap();
        assert!(verify_proof(&key, word, certificate, proof));
        assert!(!verify_proof(
            &key,
            if word == Role::Site { Role::Coordinator } else { Role::Site },
            certificate,
            proof
        ));
        assert_eq!(certificate_fingerprint(certificate).unwrap().len(), 64);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keyring_takes_lists_and_drops_keys_under_their_slugs() {
    let node = TestNode::start(Role::None).await;
    let peers = "/api/v1/federation/trusted-peers";
    let body = |name: &str| json!({"name": name, "public_key_pem": format!("\n  {VECTOR_KEY}  ")});

    let empty = node.api().get(peers).await.ok();
    let stored = node.api().post(peers, &body(" Site Alpha! ")).await.ok();
    node.api().post(peers, &body("Site Alpha!")).await.ok();
    node.api().post(peers, &body("../../etc/passwd")).await.ok();
    let listed = node.api().get(peers).await.ok();
    let bad = node.api().post(peers, &json!({"name": "x", "public_key_pem": "no key"})).await;
    let incomplete = node.api().post(peers, &json!({"name": "x"})).await;
    let gone = node.api().delete(&format!("{peers}/Site%20Alpha!")).await;
    let unknown = node.api().delete(&format!("{peers}/Site%20Alpha!")).await;

    assert_eq!(empty, json!({"trusted": []}));
    assert_eq!(stored, json!({"name": "Site-Alpha", "fingerprint": VECTOR_FINGERPRINT}));
    let listed: Vec<&str> =
        listed["trusted"].as_array().unwrap().iter().map(|peer| peer["name"].as_str().unwrap()).collect();
    assert_eq!(listed, ["Site-Alpha", "etc-passwd"]);
    bad.refused(400, "identity_key_invalid");
    incomplete.refused(422, "missing_field");
    assert_eq!((gone.status, gone.text.as_str()), (204, ""));
    unknown.refused(404, "peer_not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn role_is_shown_set_and_refused_when_unknown() {
    let node = TestNode::start(Role::None).await;
    let path = "/api/v1/federation-role";

    let before = node.api().get(path).await.ok();
    let set = node.api().put(path, &json!({"role": "coordinator"})).await.ok();
    let unknown = node.api().put(path, &json!({"role": "king"})).await;

    assert_eq!(before, json!({"role": "none", "valid_roles": ["none", "coordinator", "site"]}));
    assert_eq!(set["role"], "coordinator");
    unknown.refused(400, "invalid_value");
    assert_eq!(node.api().get(path).await.ok(), set);
}

#[tokio::test(flavor = "multi_thread")]
async fn created_site_has_the_documented_members_and_no_credential() {
    let node = TestNode::start(Role::Coordinator).await;
    let body = json!({
        "name": "  Berlin  ", "url": " https://berlin.example.com/ ", "location_label": "Keller 2",
        "sync_interval_seconds": 60, "token_ttl_hours": 2, "site_identity_public_key_pem": VECTOR_KEY,
        "agent_version_min": "1.2", "geo_latitude": 52.5, "geo_longitude": 13.4, "geo_country_code": "DE",
    });

    let answer = node.api().post(SITES, &body).await.licensed();

    assert_eq!(
        members(&answer),
        names("licensed site enrollment_token enrollment_token_expires_at join_code")
    );
    let site = &answer["site"];
    let documented = names(
        "id name location_label url status host_count last_sync_at last_sync_status agent_version_min geo_latitude \
         geo_longitude geo_country_code enrolled_at enrollment_token_expires_at sync_interval_seconds \
         sysmanage_version connection_state capabilities last_metadata_at created_at updated_at",
    );
    assert_eq!(members(site), documented);
    assert_eq!((&site["name"], &site["url"]), (&json!("Berlin"), &json!("https://berlin.example.com/")));
    assert_eq!(
        (&site["status"], &site["host_count"], &site["capabilities"]),
        (&json!("pending"), &json!(0), &json!([]))
    );
    assert_eq!((&site["geo_latitude"], &site["sync_interval_seconds"]), (&json!(52.5), &json!(60)));
    assert_eq!(answer["enrollment_token"].as_str().unwrap().len(), 43);
    assert!(answer["enrollment_token_expires_at"].as_str().unwrap().ends_with('Z'));
    let expected = json!({
        "name": "Berlin", "url": "https://berlin.example.com/", "location_label": "Keller 2", "token_ttl_hours": 2,
    });
    assert_eq!(audit(&node).last().unwrap(), &("site_enrollment_started".to_owned(), expected));
    let token = answer["enrollment_token"].as_str().unwrap();
    let shown = node.api().get(&format!("{SITES}/{}", site["id"].as_str().unwrap())).await;
    assert!(!shown.text.contains(token) && !shown.text.contains("BEGIN"), "{}", shown.text);
    assert_eq!(shown.licensed()["site"], *site);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_new_sites_are_refused_and_leave_nothing() {
    let node = TestNode::start(Role::Coordinator).await;
    created(&node, "taken").await;
    let url = "https://a.example.com";
    let bad = [
        (json!({"url": url}), 400, "invalid_body"),
        (json!({"name": " ", "url": url}), 400, "invalid_value"),
        (json!({"name": "x", "url": ""}), 400, "invalid_value"),
        (json!({"name": 7, "url": url}), 400, "invalid_body"),
        (json!({"name": "taken", "url": url}), 409, "name_taken"),
        (json!({"name": "x", "url": url, "token_ttl_hours": 0}), 400, "invalid_value"),
        (json!({"name": "x", "url": url, "token_ttl_hours": -1}), 400, "invalid_body"),
        (json!({"name": "x", "url": url, "sync_interval_seconds": 4}), 400, "invalid_value"),
        (
            json!({"name": "x", "url": url, "site_identity_public_key_pem": "pem"}),
            400,
            "identity_key_invalid",
        ),
        (json!({"name": "x", "url": url, "geo_latitude": 91}), 400, "invalid_value"),
        (json!({"name": "x", "url": url, "geo_country_code": "Deutschland"}), 400, "invalid_value"),
        (json!({"name": "x".repeat(256), "url": url}), 400, "invalid_value"),
        (json!({"name": "x", "url": "http://169.254.169.254/"}), 400, "invalid_value"),
        (json!({"name": "x", "url": "http://[::]/"}), 400, "invalid_value"),
        (json!({"name": "x", "url": "file:///etc/passwd"}), 400, "invalid_value"),
        (json!({"name": "x", "url": url, "colour": "red"}), 400, "invalid_body"),
        (json!([]), 400, "invalid_body"),
    ];

    for (body, status, code) in bad {
        let answer = node.api().post(SITES, &body).await;
        assert_eq!(
            (answer.status, answer.body["code"].as_str()),
            (status, Some(code)),
            "{body} → {}",
            answer.text
        );
        answer.assert_problem();
    }

    let listed = node.api().get(SITES).await.licensed();
    assert_eq!(listed["sites"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        operations(&node).iter().filter(|operation| *operation == "site_enrollment_started").count(),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sites_are_listed_by_name_with_their_filters() {
    let node = TestNode::start(Role::Coordinator).await;
    for name in ["b", "a", "c"] {
        created(&node, name).await;
    }
    let id = created(&node, "removed").await["site"]["id"].as_str().unwrap().to_owned();
    node.api().delete(&format!("{SITES}/{id}")).await.licensed();
    let listed = async |query: &str| {
        let answer = node.api().get(&format!("{SITES}{query}")).await.licensed();
        let sites = answer["sites"].as_array().unwrap().clone();
        sites.iter().map(|site| site["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };

    assert_eq!(listed("").await, "a b c");
    assert_eq!(listed("?include_removed=true").await, "a b c removed");
    assert_eq!(listed("?status=removed").await, "removed");
    assert_eq!(listed("?status=enrolled").await, "");
    assert_eq!(listed("?limit=2").await, "a b");
    node.api().get(&format!("{SITES}?status=purple")).await.refused(400, "invalid_query");
    node.api().get(&format!("{SITES}?limit=0")).await.refused(400, "invalid_query");
}

#[tokio::test(flavor = "multi_thread")]
async fn site_is_patched_field_by_field() {
    let node = TestNode::start(Role::Coordinator).await;
    created(&node, "other").await;
    let id = created(&node, "first").await["site"]["id"].as_str().unwrap().to_owned();
    let path = format!("{SITES}/{id}");

    let patched = node.api().patch(&path, &json!({"name": "renamed", "geo_latitude": 1.5})).await.licensed();
    let entries = operations(&node).len();
    let unchanged = node.api().patch(&path, &json!({"name": "renamed"})).await.licensed();
    let cleared = node.api().patch(&path, &json!({"geo_latitude": null})).await.licensed();

    assert_eq!(
        (&patched["site"]["name"], &patched["site"]["geo_latitude"]),
        (&json!("renamed"), &json!(1.5))
    );
    assert_eq!(unchanged["site"]["updated_at"], patched["site"]["updated_at"]);
    assert_eq!(cleared["site"]["geo_latitude"], Value::Null);
    assert_eq!(operations(&node).len(), entries + 1, "an unchanged row writes no entry");
    assert_eq!(operations(&node).last().unwrap(), "site_updated");
    node.api().patch(&path, &json!({"status": "enrolled"})).await.refused(400, "invalid_body");
    node.api().patch(&path, &json!({"name": "other"})).await.refused(409, "name_taken");
    node.api().patch(&path, &json!({"name": null})).await.refused(400, "invalid_body");
    node.api()
        .patch(&format!("{SITES}/{}", uuid::Uuid::nil()), &json!({}))
        .await
        .refused(404, "site_not_found");
    node.api().patch(&format!("{SITES}/none"), &json!({})).await.refused(400, "invalid_path");
    node.api().delete(&path).await.licensed();
    node.api().patch(&path, &json!({"name": "again"})).await.refused(409, "site_state");
}

#[tokio::test(flavor = "multi_thread")]
async fn life_of_a_site_follows_the_documented_states_and_is_audited() {
    let node = TestNode::start(Role::Coordinator).await;
    let site = HttpSite::enrolled(&node, "alive", 1).await;
    let act = async |verb: &str| node.api().act(&site.path(verb)).await;
    let remove = async || node.api().delete(&format!("{SITES}/{}", site.id)).await;

    act("resume").await.refused(409, "site_state");
    assert_eq!(act("suspend").await.licensed()["site"]["status"], "suspended");
    act("suspend").await.refused(409, "site_state");
    let on_hold = site.push("metadata", &json!({})).await.refused(401, "site_suspended");
    assert_eq!(act("resume").await.licensed()["site"]["status"], "enrolled");
    site.push("metadata", &json!({})).await.licensed();
    act("regenerate-token").await.refused(409, "site_state");
    let removed = remove().await.licensed();
    let entries = operations(&node).len();
    let again = remove().await.licensed();
    for verb in ["suspend", "resume"] {
        act(verb).await.refused(409, "site_state");
    }

    assert_ne!(on_hold["code"], "site_unauthorized", "a suspended site can tell");
    assert_eq!(removed["site"]["status"], "removed");
    assert_eq!((again, operations(&node).len()), (removed, entries));
    site.push("metadata", &json!({})).await.refused(401, "site_unauthorized");
    let audited: Vec<String> =
        operations(&node).into_iter().filter(|operation| operation.starts_with("site_")).collect();
    assert_eq!(
        audited,
        [
            "site_enrollment_started",
            "site_enrollment_completed",
            "site_suspended",
            "site_resumed",
            "site_removed"
        ]
    );
    assert_eq!(audit(&node).last().unwrap().1["previous_status"], "enrolled");
}

#[tokio::test(flavor = "multi_thread")]
async fn pending_site_is_cancelled_and_its_token_is_void() {
    let node = TestNode::start(Role::Coordinator).await;
    let site = HttpSite::invited(&node, "unwanted", 1).await;

    let cancelled = node.api().delete(&format!("{SITES}/{}", site.id)).await.licensed();

    assert_eq!(cancelled["site"]["status"], "removed");
    assert_eq!(cancelled["site"]["enrollment_token_expires_at"], Value::Null);
    site.complete().await.refused(400, "enrollment_token_unknown");
    assert_eq!(operations(&node).last().unwrap(), "site_enrollment_cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn completion_checks_in_the_documented_order_and_a_failure_leaves_the_token_usable() {
    let node = TestNode::start(Role::Coordinator).await;
    let site = HttpSite::invited(&node, "strict", 1).await;
    let stranger = HttpSite::invited(&node, "stranger", 99).await;
    let completion = site.completion();
    let with = |name: &str, value: Value| {
        let mut body = completion.clone();
        body[name] = value;
        body
    };

    let missing = with("tls_cert_pem", json!(""));
    site.complete_with(&site.token, &missing).await.refused(400, "certificate_missing");
    site.complete_with("unknown", &missing).await.refused(400, "certificate_missing");
    site.complete_with("unknown", &completion).await.refused(400, "enrollment_token_unknown");
    for proof in [json!(""), json!("%%%"), stranger.completion()["identity_proof"].clone()] {
        let refused = site.complete_with(&site.token, &with("identity_proof", proof)).await;
        refused.refused(401, "identity_mismatch");
    }
    let spelled = json!({"tls_cert_pem": completion["tls_cert_pem"], "site_identity_proof": completion["identity_proof"]});
    let done = site.complete_with(&site.token, &spelled).await.licensed();

    assert_eq!(
        members(&done),
        names("licensed site sync_bearer_token coordinator_inbound_bearer_token_hash quic")
    );
    assert_eq!((&done["site"]["id"], &done["site"]["status"]), (&json!(site.id), &json!("enrolled")));
    assert_eq!(done["sync_bearer_token"].as_str().unwrap().len(), 43);
    let hash = done["coordinator_inbound_bearer_token_hash"].as_str().unwrap();
    assert!(hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert!(done["site"]["enrolled_at"].is_string());
    assert_eq!(done["site"]["enrollment_token_expires_at"], Value::Null);
    assert_eq!(operations(&node).iter().filter(|name| *name == "site_enrollment_completed").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_token_says_so_and_a_new_one_works() {
    let node = TestNode::start(Role::Coordinator).await;
    let mut site = HttpSite::invited(&node, "late", 1).await;
    node.clock.advance(Duration::from_secs(25 * 3_600));

    site.complete().await.refused(410, "enrollment_token_expired");
    let renewed =
        node.api().post(&site.path("regenerate-token"), &json!({"token_ttl_hours": 1})).await.licensed();
    let old = std::mem::replace(&mut site.token, renewed["enrollment_token"].as_str().unwrap().to_owned());

    site.complete_with(&old, &site.completion()).await.refused(400, "enrollment_token_unknown");
    site.complete().await.licensed();
    assert!(operations(&node).contains(&"site_token_regenerated".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn site_without_a_key_cannot_complete_until_it_has_one() {
    let node = TestNode::start(Role::Coordinator).await;
    let keyed = HttpSite::invited(&node, "keyed", 1).await;
    let answer = created(&node, "keyless").await;
    let (id, token) = (answer["site"]["id"].as_str().unwrap(), answer["enrollment_token"].as_str().unwrap());

    keyed.complete_with(token, &keyed.completion()).await.refused(401, "identity_missing");
    let path = format!("{SITES}/{id}/identity-key");
    node.api().put(&path, &json!({"public_key_pem": "none"})).await.refused(400, "identity_key_invalid");
    node.api().put(&path, &json!({"public_key_pem": VECTOR_KEY})).await.licensed();
    // The vectors' private key is 00 01 02 …; a second site with it is refused.
    let twice =
        json!({"name": "twin", "url": "https://x.example.com", "site_identity_public_key_pem": VECTOR_KEY});
    node.api().post(SITES, &twice).await.refused(409, "identity_taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn authentication_comes_before_validation_on_every_route() {
    let node = TestNode::start(Role::Coordinator).await;

    for route in hansa_api::table() {
        let path = route
            .path
            .replace("{site_id}", "not-a-uuid")
            .replace("{host_id}", "x")
            .replace("{name}", "x")
            .replace("{baseline}", "x");
        let method: Method = route.method.as_str().parse().unwrap();
        let answer = node
            .anonymous()
            .send(method, &format!("{path}?limit=0&cursor=x"), Some(b"{".to_vec()), &[])
            .await;
        match route.principal {
            Principal::Public | Principal::TokenInPath => {}
            Principal::Operator(_) | Principal::AnyOperator(_) => {
                drop(answer.refused(401, "token_missing"));
            }
            Principal::RefreshCookie => drop(answer.refused(401, "login_ended")),
            Principal::SiteBearer => drop(answer.refused(401, "site_unauthorized")),
            Principal::CoordinatorBearer => drop(answer.refused(401, "coordinator_unauthorized")),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_scope_is_403_and_begins_as_the_frontend_expects() {
    let node = TestNode::start(Role::Coordinator).await;

    for route in hansa_api::table() {
        let needed: &[Scope] = match &route.principal {
            Principal::Operator(needed) => std::slice::from_ref(needed),
            Principal::AnyOperator(needed) => needed,
            Principal::Public
            | Principal::TokenInPath
            | Principal::RefreshCookie
            | Principal::CoordinatorBearer
            | Principal::SiteBearer => continue,
        };
        let others: BTreeSet<Scope> =
            Scope::ALL.into_iter().filter(|scope| !needed.contains(scope)).collect();
        let path = route.path.replace("{site_id}", &uuid::Uuid::nil().to_string());
        let path = path
            .replace("{host_id}", &uuid::Uuid::nil().to_string())
            .replace("{name}", "x")
            .replace("{baseline}", "x");
        let method: Method = route.method.as_str().parse().unwrap();

        let refused =
            node.api_as(others, None).send(method, &path, None, &[]).await.refused(403, "permission_denied");

        if !route.path.starts_with("/vault/") {
            assert!(refused["detail"].as_str().unwrap().starts_with("Permission denied"), "{refused}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn operator_confined_to_a_site_sees_that_site_and_nothing_else() {
    let federation = TestFederation::start(2).await;
    federation.sites[0].put(vec![host(1, 1)]).await;
    federation.sites[1].put(vec![host(2, 1)]).await;
    federation.converges().await;
    let own = federation.sites[0].site_id();
    let confined = federation.coordinator.api_as(hansa_tests::all_scopes(), Some([own].into()));
    let other = format!("{SITES}/{}", federation.sites[1].id);

    let sites = confined.get(SITES).await.licensed();
    let hosts = confined.get("/api/v1/federation/hosts").await.licensed();
    let narrowed =
        confined.get(&format!("/api/v1/federation/hosts?site_id={}", federation.sites[1].id)).await;

    assert_eq!(sites["sites"].as_array().map(Vec::len), Some(1));
    assert_eq!((&hosts["total"], &hosts["hosts"][0]["host_id"]), (&json!(1), &json!(host_id(1, 1))));
    assert_eq!(narrowed.licensed()["total"], 0);
    confined.get(&format!("/api/v1/federation/hosts/{}", host_id(2, 1))).await.refused(404, "host_not_found");
    for suffix in ["", "/sync-status", "/sync-timeline"] {
        confined.get(&format!("{other}{suffix}")).await.refused(404, "site_not_found");
    }
    confined.act(&format!("{other}/suspend")).await.refused(404, "site_not_found");
    confined.delete(&other).await.refused(404, "site_not_found");
    confined.patch(&other, &json!({"name": "mine"})).await.refused(404, "site_not_found");
    let made = confined.post(SITES, &json!({"name": "x", "url": "https://x.example.com"})).await;
    made.refused(403, "permission_denied");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_documented_route_is_in_the_table_and_no_unversioned_one_answers() {
    let documented = [
        "GET /identity-key",
        "GET /trusted-peers",
        "POST /trusted-peers",
        "DELETE /trusted-peers/{name}",
        "GET /tls-cert",
        "GET -role",
        "PUT -role",
        "GET /sites",
        "POST /sites",
        "POST /sites/enrollment/{token}/complete",
        "GET /sites/{site_id}",
        "PATCH /sites/{site_id}",
        "POST /sites/{site_id}/suspend",
        "POST /sites/{site_id}/resume",
        "DELETE /sites/{site_id}",
        "GET /sites/{site_id}/sync-status",
        "GET /sites/{site_id}/sync-timeline",
        "POST /sites/{site_id}/repush-policies",
        "GET /hosts",
        "GET /hosts/{host_id}",
        "GET /rollups/dashboard",
        "GET /reports/rollup",
        "GET /rollups/hosts",
        "GET /rollups/compliance",
        "GET /rollups/vulnerabilities",
        "GET /policies",
        "POST /policies",
        "GET /policies/{policy_id}",
        "PATCH /policies/{policy_id}",
        "DELETE /policies/{policy_id}",
        "POST /policies/{policy_id}/assign",
        "POST /policies/{policy_id}/push",
        "POST /commands/dispatch",
        "GET /commands",
        "GET /commands/{command_id}",
        "GET /audit",
        "GET /audit/{entry_id}",
        "GET /alerts",
        "POST /alerts/{alert_id}/acknowledge",
        "GET /alert-config",
        "PUT /alert-config",
        "GET /secret-leases",
        "POST /secret-leases/{lease_id}/revoke",
        "POST /sites/{site_id}/rollups/hosts",
        "POST /sites/{site_id}/rollups/compliance",
        "POST /sites/{site_id}/rollups/vulnerabilities",
        "POST /sites/{site_id}/host-directory",
        "POST /sites/{site_id}/command-results",
        "POST /sites/{site_id}/metadata",
        "POST /sites/{site_id}/secret-lease-requests",
        "POST /site/enroll",
        "GET /site/enrollment-status",
        "POST /site/policies",
        "POST /site/commands",
        "POST /site/secret-leases",
        "GET /site/sync-status",
        "GET /site/sync-queue/depth",
        "GET /site/received-policies",
        "GET /site/received-commands",
    ];
    let served: BTreeSet<String> =
        hansa_api::table().iter().map(|route| format!("{} {}", route.method, route.path)).collect();

    assert_eq!(documented.len(), 59);
    for line in documented {
        let (method, path) = line.split_once(' ').unwrap();
        let route = format!("{method} /api/v1/federation{path}");
        assert!(served.contains(&route), "{route}");
    }
    let node = TestNode::start(Role::Coordinator).await;
    node.api().get("/api/federation/sites").await.refused(404, "not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn site_surface_of_a_site_that_never_joined_has_its_documented_shape() {
    let node = TestNode::start(Role::Site).await;

    let membership = node.api().get("/api/v1/federation/site/enrollment-status").await.licensed();
    let status = node.api().get("/api/v1/federation/site/sync-status").await.licensed();
    let depth = node.api().get("/api/v1/federation/site/sync-queue/depth").await.licensed();

    assert_eq!(membership, json!({"licensed": true, "status": "not_enrolled", "coordinator": null}));
    let documented = names(
        "licensed state enrolled autonomous consecutive_failures last_sync_at last_successful_sync_at \
         last_sync_status last_sync_error next_reconnect_at queue_depth queue_depth_by_payload_type",
    );
    assert!(members(&status).is_superset(&documented), "{status}");
    assert_eq!(
        (&status["state"], &status["enrolled"], &status["autonomous"]),
        (&json!("unknown"), &json!(false), &json!(false))
    );
    assert!(members(&depth).is_superset(&names("licensed depth by_payload_type dead")), "{depth}");
    assert_eq!((&depth["depth"], &depth["dead"]), (&json!(0), &json!(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_enrollments_at_a_site_are_refused_with_their_reason() {
    let node = TestNode::start(Role::Site).await;
    let federation = TestFederation::start(1).await;
    let path = "/api/v1/federation/site/enroll";
    let body = |url: &str, token: &str, key: &str| json!({"coordinator_url": url, "enrollment_token": token, "coordinator_identity_public_key_pem": key});
    let centre = federation.coordinator.url();
    let key = federation.api().get("/api/v1/federation/identity-key").await.ok();
    let key = key["public_key_pem"].as_str().unwrap();

    node.api().post(path, &json!({})).await.refused(400, "invalid_body");
    node.api().post(path, &body("", "t", key)).await.refused(400, "invalid_value");
    node.api().post(path, &body(&centre, " ", key)).await.refused(400, "invalid_value");
    node.api().post(path, &body(&centre, "t", "no key")).await.refused(400, "invalid_value");
    node.api().post(path, &body("http://169.254.169.254", "t", key)).await.refused(400, "invalid_value");
    node.api()
        .post(path, &body("http://127.0.0.1:1", "t", key))
        .await
        .refused(502, "coordinator_unreachable");
    node.api().post(path, &body(&centre, "unknown", key)).await.refused(502, "coordinator_refused");
    let member = &federation.sites[0].node;
    let elsewhere = member.api().post(path, &body("http://127.0.0.1:1", "t", key)).await;
    elsewhere.refused(409, "other_coordinator");
    federation.api().post(path, &body(&centre, "t", key)).await.refused(409, "wrong_role");
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_routes_answer_from_the_start() {
    let node = TestNode::start(Role::None).await;

    assert_eq!(node.anonymous().get("/livez").await.status, 200);
    assert_eq!(node.anonymous().get("/readyz?verbose").await.ok()["ready"], true);
    assert_eq!(members(&node.anonymous().get("/version").await.ok()), names("name version"));
    let specification = node.anonymous().get("/openapi.json").await.ok();
    let paths: usize = specification["paths"]
        .as_object()
        .unwrap()
        .values()
        .map(|path| path.as_object().unwrap().keys().filter(|key| *key != "parameters").count())
        .sum();
    assert_eq!(paths, hansa_api::table().len());
    let metrics = node.api().get("/metrics").await;
    assert!(metrics.is_success() && metrics.text.ends_with("# EOF\n"), "{}", metrics.text);
}
