//! The threat model's rows that this issue can answer for, over real sockets: `sec_NN_…`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use hansa_api::{Principal, RouteInfo};
use hansa_model::enrollment::Role;
use hansa_model::secret::hex;
use hansa_model::{Entropy, Secret};
use hansa_storage::table;
use hansa_storage::testing::SeededEntropy;
use hansa_tests::{
    Answer, Api, HttpSite, TestFederation, TestNode, TestProcess, all_scopes, eventually, host, host_id,
    raw_exchange, rows_of,
};
use hansa_transport::{DialError, Endpoint, EndpointConfig, IdentityKey};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

/// A path with something plausible in every place.
fn path_of(route: &RouteInfo, site: &str) -> String {
    let path = route.path.replace("{site_id}", site).replace("{host_id}", &host_id(1, 1));
    let path = path.replace("{name}", "peer").replace("{baseline}", "CIS").replace("{token}", "token");
    // A stream that goes on would never be answered whole.
    if path.ends_with("/events") { format!("{path}?follow=false") } else { path }
}

async fn call(api: &Api, route: &RouteInfo, site: &str) -> Answer {
    let method: Method = route.method.as_str().parse().unwrap();
    api.send(method, &path_of(route, site), Some(b"{}".to_vec()), &[]).await
}

/// What the coordinator shows of its sites and hosts, for comparison before and after.
async fn state(node: &TestNode) -> (Value, BTreeMap<String, Value>) {
    let sites = node.api().get("/api/v1/federation/sites?include_removed=true").await.licensed();
    (sites, rows_of(&node.api(), "/api/v1/federation/hosts").await)
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_01_only_public_routes_answer_without_the_right_credential() {
    let node = TestNode::start(Role::Coordinator).await;
    let site = HttpSite::enrolled(&node, "member", 1).await;
    let suspended = HttpSite::enrolled(&node, "on hold", 80).await;
    node.api().act(&suspended.path("suspend")).await.licensed();
    let stranger = TestNode::start(Role::Coordinator).await;
    let short = node.token(all_scopes(), None, Duration::from_secs(1));
    node.clock.advance(Duration::from_secs(600));
    let operator = node.token(all_scopes(), None, Duration::from_secs(3_600));
    let foreign = stranger.token(all_scopes(), None, Duration::from_secs(3_600));
    let before = state(&node).await;

    let mut tested = 0;
    for route in hansa_api::table() {
        let wrong = match route.principal {
            Principal::Public | Principal::TokenInPath => Vec::new(),
            Principal::Operator(_) | Principal::AnyOperator(_) | Principal::RefreshCookie => {
                vec![&site.bearer, &suspended.bearer, &short, &foreign]
            }
            Principal::SiteBearer => vec![&operator, &suspended.bearer, &foreign],
            Principal::CoordinatorBearer => vec![&operator, &site.bearer, &foreign],
        };
        let nobody = node.anonymous();
        let bad =
            wrong.into_iter().map(|bearer| nobody.bearer(bearer)).chain([nobody.clone(), nobody.bearer("x")]);
        for api in bad {
            let answer = call(&api, route, &site.id).await;
            match route.principal {
                Principal::Public => assert!(answer.status < 500, "{} {}", route.path, answer.text),
                Principal::TokenInPath => assert_eq!(answer.status, 400, "{} {}", route.path, answer.text),
                Principal::Operator(_)
                | Principal::AnyOperator(_)
                | Principal::RefreshCookie
                | Principal::CoordinatorBearer
                | Principal::SiteBearer => {
                    // Vault's word for all of it is 403.
                    let expected = if route.path.starts_with("/vault/") { 403 } else { 401 };
                    assert_eq!(answer.status, expected, "{} {}: {}", route.method, route.path, answer.text);
                    answer.assert_problem();
                }
            }
        }
        tested += 1;
    }

    let specification = node.anonymous().get("/openapi.json").await.ok();
    let methods = |path: &Value| path.as_object().unwrap().keys().filter(|key| *key != "parameters").count();
    let mounted: usize = specification["paths"].as_object().unwrap().values().map(methods).sum();
    assert_eq!(tested, mounted);
    assert_eq!(state(&node).await, before);
    let public: BTreeSet<&str> = hansa_api::table()
        .iter()
        .filter(|route| route.principal == Principal::Public)
        .map(|route| route.path)
        .collect();
    assert_eq!(
        public,
        [
            "/api/v1/federation/tls-cert",
            "/api/v1/login",
            "/api/v1/server-info",
            "/livez",
            "/openapi.json",
            "/readyz",
            "/vault/v1/auth/approle/login",
            "/vault/v1/auth/jwt/login",
            "/vault/v1/sys/health",
            "/vault/v1/sys/init",
            "/vault/v1/sys/seal-status",
            "/version"
        ]
        .into()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_02_site_cannot_write_into_another() {
    let node = TestNode::start(Role::Coordinator).await;
    let (one, two) = (HttpSite::enrolled(&node, "one", 1).await, HttpSite::enrolled(&node, "two", 80).await);
    two.push("host-directory", &json!({"entries": [host(2, 1)]})).await.licensed();
    let before = state(&node).await;
    let as_one = node.anonymous().bearer(&one.bearer);

    for (suffix, body) in [
        ("host-directory", json!({"entries": [host(2, 1), host(2, 2)]})),
        ("rollups/hosts", json!({"host_count": 9, "active_count": 9})),
        ("metadata", json!({"host_count": 9})),
    ] {
        let refused = as_one.post(&two.path(suffix), &body).await.refused(403, "site_mismatch");
        assert!(refused["detail"].as_str().unwrap().contains("Bearer token does not match"), "{refused}");
    }

    assert_eq!(state(&node).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_03_principal_is_never_what_the_caller_says() {
    let node = TestNode::start(Role::Coordinator).await;
    let (one, two) = (HttpSite::enrolled(&node, "one", 1).await, HttpSite::enrolled(&node, "two", 80).await);
    let claims = [
        ("X-Site-Id", two.id.as_str()),
        ("X-Forwarded-User", "admin"),
        ("X-Remote-User", "admin"),
        ("X-Forwarded-For", "127.0.0.1"),
        ("X-Original-URL", "/livez"),
        ("X-HTTP-Method-Override", "GET"),
        ("Cookie", "bearer_token=x"),
    ];

    let mut entry = host(1, 1);
    entry["site_id"] = json!(two.id);
    let body = json!({"site_id": two.id, "entries": [entry]}).to_string();
    let api = node.anonymous().bearer(&one.bearer);
    api.send(Method::POST, &one.path("host-directory"), Some(body.into()), &claims).await.licensed();
    let nobody = node.anonymous().send(Method::GET, "/api/v1/federation/sites", None, &claims).await;

    let held = node.api().get(&format!("/api/v1/federation/hosts/{}", host_id(1, 1))).await.licensed();
    assert_eq!(held["host"]["site_id"], one.id);
    nobody.refused(401, "token_missing");
    // A bearer is not a place for a name, an id or a key.
    for claim in [&two.id, "two", "site-two", &"a".repeat(43), "null", "undefined"] {
        let refused = node.anonymous().bearer(claim).post(&two.path("metadata"), &json!({})).await;
        refused.refused(401, "site_unauthorized");
    }
}

/// A token with exactly these parts, signed by `sign`.
fn token(header: &str, claims: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(sign(signed.as_bytes())))
}

fn identity_of(node: &TestNode) -> IdentityKey {
    let view = node.store().read().unwrap();
    let key = view.get_sealed::<table::Identity>("identity-ed25519").unwrap().unwrap();
    IdentityKey::from_pkcs8_der(key.expose()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_04_forged_tokens_are_refused() {
    let node = TestNode::start(Role::Coordinator).await;
    let good = node.token(all_scopes(), None, Duration::from_secs(3_600));
    let payload = URL_SAFE_NO_PAD.decode(good.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&payload).unwrap();
    let own = identity_of(&node);
    let other = IdentityKey::from_seed(&Secret::new([9; 32]));
    let header = r#"{"typ":"JWT","alg":"EdDSA"}"#;
    let signed = |claims: &Value| token(header, &claims.to_string(), |bytes| own.sign(bytes).to_vec());
    let with = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        signed(&claims)
    };
    let without = |name: &str| {
        let mut claims = claims.clone();
        claims.as_object_mut().unwrap().remove(name);
        signed(&claims)
    };
    let text = claims.to_string();
    let now = claims["iat"].as_i64().unwrap();
    let api = |token: &str| node.anonymous().bearer(token);
    // The way these are made makes good ones too.
    api(&signed(&claims)).get("/api/v1/federation/sites").await.licensed();

    let mut tampered = good.clone().into_bytes();
    let place = tampered.iter().position(|byte| *byte == b'.').unwrap() + 5;
    tampered[place] ^= 1;
    let mut cut = good.clone();
    cut.truncate(good.len() - 4);
    let forged = [
        ("no algorithm", token(r#"{"alg":"none"}"#, &text, |_| Vec::new())),
        ("no algorithm, signed", token(r#"{"alg":"none"}"#, &text, |bytes| own.sign(bytes).to_vec())),
        (
            "key confusion",
            token(r#"{"alg":"HS256"}"#, &text, |bytes| hmac_like(own.public().as_bytes(), bytes)),
        ),
        ("another algorithm", token(r#"{"alg":"RS256"}"#, &text, |bytes| own.sign(bytes).to_vec())),
        ("another key", token(header, &text, |bytes| other.sign(bytes).to_vec())),
        ("no signature", token(header, &text, |_| Vec::new())),
        ("tampered", String::from_utf8(tampered).unwrap()),
        ("cut", cut),
        (
            "hostile kid",
            token(r#"{"alg":"EdDSA","kid":"../../dev/null","jku":"http://127.0.0.1:9/"}"#, &text, |_| {
                vec![0; 64]
            }),
        ),
        ("wrong issuer", with("iss", json!("hansa:0000"))),
        ("no issuer", without("iss")),
        ("wrong audience", with("aud", json!("vault"))),
        ("no audience", without("aud")),
        ("no expiry", without("exp")),
        ("expired", with("exp", json!(now - 120))),
        ("not yet valid", with("nbf", json!(now + 600))),
        ("unknown scope", with("scope", json!("everything"))),
        ("sites of another type", with("sites", json!("all"))),
        (
            "duplicate claims",
            token(header, &text.replacen('{', r#"{"scope":"","#, 1), |bytes| own.sign(bytes).to_vec()),
        ),
        ("not a token", "a.b.c".to_owned()),
        ("nothing", ".".to_owned()),
    ];

    for (what, token) in forged {
        let answer = api(&token).get("/api/v1/federation/sites").await;
        assert_eq!(answer.status, 401, "{what}: {}", answer.text);
        answer.assert_problem();
        assert!(token.len() < 9 || !answer.text.contains(&token), "{what}");
    }
}

/// Bytes that only the public key was needed for.
fn hmac_like(key: &[u8], bytes: &[u8]) -> Vec<u8> {
    let key = hex(key);
    hansa_model::secret::token_hash(&format!("{key}{}", String::from_utf8_lossy(bytes))).to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_08_wrong_tokens_do_not_disturb_an_enrollment() {
    let node = TestNode::start(Role::Coordinator).await;
    let site = Arc::new(HttpSite::invited(&node, "wanted", 1).await);
    let attackers: Vec<_> = (0..4)
        .map(|attacker| {
            let site = Arc::clone(&site);
            tokio::spawn(async move {
                for attempt in 0..250 {
                    let wrong = format!("{attacker:04}{attempt:039}");
                    site.complete_with(&wrong, &site.completion())
                        .await
                        .refused(400, "enrollment_token_unknown");
                }
            })
        })
        .collect();

    site.complete().await.licensed();
    for attacker in attackers {
        attacker.await.unwrap();
    }

    let row = node.api().get(&format!("/api/v1/federation/sites/{}", site.id)).await.licensed();
    assert_eq!(row["site"]["status"], "enrolled");
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_09_no_spelling_of_an_id_leaves_its_place() {
    let node = TestNode::start(Role::Coordinator).await;
    let bearer = node.token(all_scopes(), None, Duration::from_secs(3_600));
    let files = || {
        let names = std::fs::read_dir(node.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.collect::<BTreeSet<_>>()
    };
    let before = files();
    let long = "a".repeat(5_000);
    let spellings = [
        "..",
        "%2e%2e",
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e%2froot.key",
        "..\\..\\root.key",
        "%5c..%5c",
        "%00",
        "a%00b",
        "%c0%ae%c0%ae%c0%af",
        "%ff%fe",
        "....//",
        "~root",
        "%252e%252e",
        "/etc/passwd",
        long.as_str(),
        "%0d%0aX-A:%20b",
    ];

    for spelling in spellings {
        for (method, path) in [
            ("GET", format!("/api/v1/federation/sites/{spelling}")),
            ("PATCH", format!("/api/v1/federation/sites/{spelling}")),
            ("GET", format!("/api/v1/federation/hosts/{spelling}")),
            ("GET", format!("/api/v1/federation/sites/{spelling}/sync-timeline")),
            ("DELETE", format!("/api/v1/federation/trusted-peers/{spelling}")),
            ("POST", format!("/api/v1/federation/sites/enrollment/{spelling}/complete")),
        ] {
            let request = format!(
                "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {bearer}\r\n\
                 Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"
            );
            let answer = raw_exchange(node.http_address(), request.as_bytes()).await;
            let status = answer.split(' ').nth(1).unwrap_or("none");
            assert!(matches!(status, "400" | "404" | "405" | "414" | "431"), "{method} {path}: {answer}");
            assert!(!answer.contains("\nX-A"), "{answer}");
        }
    }

    let stored =
        json!({"name": "../../../../etc/evil", "public_key_pem": identity_of(&node).public().to_pem()});
    let slug = node.api().post("/api/v1/federation/trusted-peers", &stored).await.ok();
    assert_eq!(slug["name"], "etc-evil");
    assert_eq!(files(), before);
}

/// Every way in which bytes may be written down.
fn spellings(secret: &[u8]) -> Vec<Vec<u8>> {
    let hexadecimal = hex(secret);
    vec![
        secret.to_vec(),
        hexadecimal.to_uppercase().into_bytes(),
        hexadecimal.into_bytes(),
        STANDARD.encode(secret).into_bytes(),
        STANDARD_NO_PAD.encode(secret).into_bytes(),
        URL_SAFE.encode(secret).into_bytes(),
        URL_SAFE_NO_PAD.encode(secret).into_bytes(),
    ]
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(haystack, needle).is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_13_no_secret_reaches_a_log_or_lies_open_in_a_file() {
    let (centre, member) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut coordinator = TestProcess::start_logging(centre.path(), "coordinator", "trace").await;
    let mut site = TestProcess::start_logging(member.path(), "site", "trace").await;
    let (api, site_api) = (coordinator.api().await, site.api().await);
    let key = site_api.get("/api/v1/federation/identity-key").await.ok();
    let identity = api.get("/api/v1/federation/identity-key").await.ok();
    let mut secrets: Vec<Vec<u8>> = Vec::new();

    // One site of ours that enrolls over QUIC, one invitation that fails, one HTTP peer.
    let new =
        json!({"name": "ours", "url": site.url(), "site_identity_public_key_pem": key["public_key_pem"]});
    let invitation = api.post("/api/v1/federation/sites", &new).await.licensed();
    let enroll = json!({
        "coordinator_url": coordinator.url(),
        "enrollment_token": invitation["enrollment_token"],
        "coordinator_identity_public_key_pem": identity["public_key_pem"],
    });
    site_api.post("/api/v1/federation/site/enroll", &enroll).await.licensed();
    let peer_key = IdentityKey::from_seed(&Secret::new([5; 32]));
    let new = json!({"name": "peer", "url": "https://x.example.com", "site_identity_public_key_pem": peer_key.public().to_pem()});
    let peer = api.post("/api/v1/federation/sites", &new).await.licensed();
    let token = peer["enrollment_token"].as_str().unwrap();
    let complete = format!("/api/v1/federation/sites/enrollment/{token}/complete");
    let proof =
        hansa_transport::certificate::sign_proof(&peer_key, Role::Site, hansa_tests::VECTOR_CERTIFICATE)
            .unwrap();
    api.anonymous().post(&complete, &json!({"tls_cert_pem": "x"})).await;
    let body = json!({"tls_cert_pem": hansa_tests::VECTOR_CERTIFICATE, "identity_proof": proof});
    let answer = api.anonymous().post(&complete, &body).await.licensed();
    let bearer = answer["sync_bearer_token"].as_str().unwrap();
    let id = answer["site"]["id"].as_str().unwrap();
    let peer_api = api.anonymous().bearer(bearer);
    peer_api.post(&format!("/api/v1/federation/sites/{id}/metadata"), &json!({})).await.licensed();
    api.anonymous().bearer(format!("{bearer}x")).get("/api/v1/federation/sites").await;
    site_api.patch("/api/v1/site/hosts", &json!({"entries": [host(1, 1)]})).await.ok();
    for secret in [invitation["enrollment_token"].as_str().unwrap(), token, bearer] {
        secrets.push(secret.as_bytes().to_vec());
        secrets.push(URL_SAFE_NO_PAD.decode(secret).unwrap());
    }

    coordinator.kill().await;
    site.kill().await;
    for process in [&coordinator, &site] {
        secrets.push(std::fs::read(process.data_dir().join("root.key")).unwrap().trim_ascii().to_vec());
        secrets.extend(sealed_secrets(process));
    }
    for process in [&coordinator, &site] {
        let log = process.log().into_bytes();
        assert!(log.len() > 10_000, "the log tells everything: {} bytes", log.len());
        let store = std::fs::read(process.data_dir().join(hansa_storage::disk::STORE_FILE)).unwrap();
        for secret in &secrets {
            for spelling in spellings(secret) {
                assert!(!contains(&log, &spelling), "a secret in the log: {} bytes", secret.len());
                assert!(!contains(&store, &spelling), "a secret in the store: {} bytes", secret.len());
            }
        }
    }
}

/// The private keys and bearers that a stopped node keeps sealed.
fn sealed_secrets(process: &TestProcess) -> Vec<Vec<u8>> {
    use hansa::system::SystemEntropy;
    use hansa_storage::{DirDisk, Driver, RootKey, Store, StoreConfig};

    let disk = DirDisk::new(&process.data_dir()).unwrap();
    let key = RootKey::load_or_create(&process.data_dir().join("root.key"), &SystemEntropy).unwrap();
    let store =
        Store::open(StoreConfig::default(), Arc::new(disk), Driver::Thread, &key, Arc::new(SystemEntropy))
            .unwrap();
    let view = store.read().unwrap();
    let identity = view.get_sealed::<table::Identity>("identity-ed25519").unwrap().unwrap();
    let seed = identity.expose()[16..48].to_vec();
    let mut secrets = vec![identity.expose().clone(), seed];
    if let Some(bearer) = view.get_sealed::<table::SyncBearerSecret>("self").unwrap() {
        secrets.push(bearer.expose().clone());
    }
    secrets
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_14_refusals_repeat_no_value() {
    const CANARY: &str = "canary7c1f";
    let node = TestNode::start(Role::Coordinator).await;
    let site = HttpSite::enrolled(&node, "member", 1).await;

    for route in hansa_api::table() {
        let api = match route.principal {
            Principal::SiteBearer => node.anonymous().bearer(&site.bearer),
            Principal::Public
            | Principal::Operator(_)
            | Principal::AnyOperator(_)
            | Principal::TokenInPath
            | Principal::CoordinatorBearer
            | Principal::RefreshCookie => node.api(),
        };
        let path = path_of(route, &site.id).replace("/token/", &format!("/{CANARY}/"));
        let method: Method = route.method.as_str().parse().unwrap();
        let bodies = [
            format!("\"{CANARY}\""),
            format!("{{\"{CANARY}\":1}}"),
            format!("{{{CANARY}"),
            format!(
                "{{\"name\":[\"{CANARY}\"],\"role\":\"{CANARY}\",\"url\":\"{CANARY}://{CANARY}\",\"public_key_pem\":\"{CANARY}\",\
                 \"entries\":\"{CANARY}\",\"host_count\":\"{CANARY}\",\"coordinator_url\":\"{CANARY}\",\"enrollment_token\":\"{CANARY}\",\
                 \"coordinator_identity_public_key_pem\":\"{CANARY}\",\"tls_cert_pem\":\"{CANARY}\",\"identity_proof\":\"{CANARY}\"}}"
            ),
            format!("{{\"name\":\"n\",\"url\":\"{CANARY}://x\"}}"),
            format!("{{\"entries\":[{{\"host_id\":\"{CANARY}\",\"fqdn\":\"{CANARY}\"}}]}}"),
        ];
        for body in bodies {
            let query =
                format!("?limit={CANARY}&order_by={CANARY}&site_id={CANARY}&cursor={CANARY}&status={CANARY}");
            for query in ["", &query] {
                let path = format!("{path}{query}");
                let answer = api
                    .send(
                        method.clone(),
                        &path,
                        Some(body.clone().into()),
                        &[("X-Canary", CANARY), ("X-Request-Id", "r")],
                    )
                    .await;
                assert!(answer.status < 500 || answer.status == 502, "{path}: {}", answer.text);
                if !answer.is_success() {
                    answer.assert_problem();
                }
                assert!(!answer.text.contains(CANARY), "{method} {path} {body}: {}", answer.text);
                for internal in ["panicked", ".rs:", "redb", "tokio", "serde", "axum", "line 1 column"] {
                    assert!(
                        !answer.text.contains(internal) || route.path == "/openapi.json",
                        "{path}: {}",
                        answer.text
                    );
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_17_captured_pushes_change_nothing_when_they_are_sent_again() {
    let node = TestNode::start(Role::Coordinator).await;
    let site = HttpSite::enrolled(&node, "member", 1).await;
    let row = |status: &str, second: u32| {
        let mut row = host(1, 1);
        row["status"] = json!(status);
        row["mtime"] = json!(format!("2026-01-01T00:00:{second:02}Z"));
        json!({ "entries": [row] })
    };
    site.push("host-directory", &row("old", 1)).await.licensed();
    site.push("host-directory", &row("new", 2)).await.licensed();
    let before = state(&node).await.1;

    let replayed = site.push("host-directory", &row("old", 1)).await.licensed();
    let completed = site.complete().await;

    assert_eq!(replayed["skipped"].as_array().map(Vec::len), Some(1));
    assert_eq!(state(&node).await.1, before);
    completed.refused(400, "enrollment_token_unknown");
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_18_suspended_and_removed_sites_are_out_within_a_second() {
    let federation = TestFederation::start(2).await;
    let peer = HttpSite::enrolled(&federation.coordinator, "peer", 80).await;
    let operator = hansa_actors::Federation::local_operator();
    let linked = |index: usize| {
        let id = federation.sites[index].site_id();
        federation.coordinator.federation().site(&operator, id).unwrap().linked
    };
    eventually("both are linked", async || (linked(0) && linked(1)).then_some(())).await;

    let started = Instant::now();
    federation
        .api()
        .act(&format!("/api/v1/federation/sites/{}/suspend", federation.sites[0].id))
        .await
        .licensed();
    federation.api().delete(&format!("/api/v1/federation/sites/{}", federation.sites[1].id)).await.licensed();
    federation.api().delete(&format!("/api/v1/federation/sites/{}", peer.id)).await.licensed();
    peer.push("metadata", &json!({})).await.refused(401, "site_unauthorized");
    eventually("both links are closed", async || (!linked(0) && !linked(1)).then_some(())).await;

    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    // What they change from now on stays with them.
    for (site, number) in federation.sites.iter().zip(1..) {
        site.patch(&json!({"entries": [host(number, 1)]})).await;
    }
    eventually("both know", async || {
        let (first, second) = (federation.sites[0].status().await, federation.sites[1].status().await);
        (first == "suspended" && second == "removed").then_some(())
    })
    .await;
    assert_eq!(federation.total("").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_19_stranger_with_the_right_address_and_another_key_gets_no_link() {
    let federation = TestFederation::start(1).await;
    let coordinator = identity_of(&federation.coordinator).public();
    let dial = async |key: IdentityKey| {
        let config = EndpointConfig::new(key, Arc::new(|_| true));
        let endpoint = Endpoint::bind(UdpSocket::bind("127.0.0.1:0").unwrap(), config).unwrap();
        endpoint.dial(federation.coordinator.quic_address(), coordinator).await.map(drop)
    };

    let stranger = dial(IdentityKey::from_seed(&Secret::new([77; 32]))).await;
    let itself = dial(identity_of(&federation.coordinator)).await;

    assert_eq!(stranger, Err(DialError::NotAdmitted));
    assert!(itself.is_err());
    federation.sites[0].put(vec![host(1, 1)]).await;
    federation.converges().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_24_no_page_is_open_that_the_table_does_not_name() {
    let node = TestNode::start(Role::Coordinator).await;

    for path in [
        "/debug",
        "/debug/pprof",
        "/debug/vars",
        "/admin",
        "/setup",
        "/install",
        "/status",
        "/health",
        "/env",
        "/actuator",
        "/server-status",
        "/swagger",
        "/graphql",
        "/.git/config",
        "/root.key",
        "/hansa.redb",
        "/api",
        "/api/v1",
        "/api/v2/federation/sites",
        "/v1/sys/health",
        "/api/v1/federation",
        "/metrics/",
        "//metrics",
    ] {
        node.api().get(path).await.refused(404, "not_found");
    }
    node.anonymous().get("/metrics").await.refused(401, "token_missing");
    let mut scopes = all_scopes();
    scopes.remove(&hansa_model::scope::Scope::Admin);
    node.api_as(scopes, None).get("/metrics").await.refused(403, "permission_denied");
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_28_everything_a_node_writes_is_private_under_the_widest_umask() {
    let folder = tempfile::tempdir().unwrap();
    // The fixture starts every process under umask 000.
    let process = TestProcess::start(folder.path(), "coordinator").await;

    process.api().await.get("/api/v1/federation/sites").await.licensed();

    let mode = |path: &std::path::Path| std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&process.data_dir()), 0o700);
    assert_eq!(mode(&folder.path().join("ready.json")), 0o600);
    let mut seen = 0;
    for entry in std::fs::read_dir(process.data_dir()).unwrap() {
        let path = entry.unwrap().path();
        let expected = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode(&path), expected, "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 3, "store, root key and sockets");
}

#[tokio::test(flavor = "multi_thread")]
async fn fuzzed_bodies_never_meet_a_defect() {
    const ROUNDS: usize = 40;
    let dice = SeededEntropy::new(7);
    let (coordinator, site) = (TestNode::start(Role::Coordinator).await, TestNode::start(Role::Site).await);
    let peer = HttpSite::enrolled(&coordinator, "peer", 1).await;
    let taking = |route: &&RouteInfo| matches!(route.method.as_str(), "POST" | "PUT" | "PATCH");

    for route in hansa_api::table().iter().filter(taking) {
        let method: Method = route.method.as_str().parse().unwrap();
        let node = if route.path.contains("/site/") { &site } else { &coordinator };
        let api = match route.principal {
            Principal::SiteBearer => node.anonymous().bearer(&peer.bearer),
            Principal::Public
            | Principal::Operator(_)
            | Principal::AnyOperator(_)
            | Principal::TokenInPath
            | Principal::CoordinatorBearer
            | Principal::RefreshCookie => node.api(),
        };
        if route.path.ends_with("/federation-role") {
            // A lucky body would change the node under the other rounds.
            continue;
        }
        for _ in 0..ROUNDS {
            let body = fuzzed(&dice);
            let shown = String::from_utf8_lossy(&body).into_owned();
            let answer = api.send(method.clone(), &path_of(route, &peer.id), Some(body), &[]).await;
            assert!(
                answer.status < 500 || answer.status == 502,
                "{method} {} {shown}: {}",
                route.path,
                answer.text
            );
            if !answer.is_success() {
                answer.assert_problem();
            }
        }
    }
}

/// Bytes, or JSON with the names that our bodies have and values that they do not expect.
fn fuzzed(dice: &dyn Entropy) -> Vec<u8> {
    match dice.u64() % 4 {
        0 => dice.bytes::<24>().to_vec(),
        1 => {
            let mut text = value(dice, 0).to_string().into_bytes();
            text.truncate(usize::try_from(dice.u64() % 200).unwrap());
            text
        }
        2 => [b"[".repeat(3_000), b"]".repeat(3_000)].concat(),
        _ => object(dice, 0).to_string().into_bytes(),
    }
}

fn object(dice: &dyn Entropy, depth: usize) -> Value {
    const NAMES: [&str; 22] = [
        "name",
        "url",
        "entries",
        "host_id",
        "fqdn",
        "host_count",
        "active_count",
        "os_breakdown",
        "role",
        "remove",
        "public_key_pem",
        "tls_cert_pem",
        "identity_proof",
        "token_ttl_hours",
        "sync_interval_seconds",
        "geo_latitude",
        "coordinator_url",
        "enrollment_token",
        "mtime",
        "tags_json",
        "ipv4",
        "capabilities",
    ];
    (0..dice.u64() % 8)
        .map(|_| (NAMES[usize::try_from(dice.u64() % 22).unwrap()].to_owned(), value(dice, depth + 1)))
        .collect::<serde_json::Map<String, Value>>()
        .into()
}

fn value(dice: &dyn Entropy, depth: usize) -> Value {
    match dice.u64() % if depth > 3 { 9 } else { 11 } {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(i64::MIN),
        3 => json!(u64::MAX),
        4 => json!(1e308),
        5 => json!("\u{0}\u{202e}\r\n"),
        6 => json!("x".repeat(2_000)),
        7 => json!(host_id(1, 1)),
        8 => json!("2026-13-45T99:99:99Z"),
        9 => (0..dice.u64() % 4).map(|_| value(dice, depth + 1)).collect(),
        _ => object(dice, depth + 1),
    }
}
