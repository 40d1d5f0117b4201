//! Secret leases (contract B5, B6, 10): asked for, issued, handed over, renewed, revoked; never shown.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hansa_actors::issuer::{Issuer, Issuers};
use hansa_backends::VendorDrivers;
use hansa_model::SiteId;
use hansa_model::enrollment::Role;
use hansa_model::scope::Scope;
use hansa_model::secret::hex;
use hansa_model::secrets::address::AddressRules;
use hansa_tests::{HttpSite, Postgres, TestNode, eventually};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const LEASES: &str = "/api/v1/federation/secret-leases";
const MEMBERS: [&str; 17] = [
    "backend_role",
    "delivered_at",
    "expires_at",
    "host_id",
    "id",
    "issued_at",
    "kind",
    "last_error",
    "last_renewed_at",
    "requested_at",
    "revoked_at",
    "secret_metadata",
    "secret_name",
    "site_id",
    "status",
    "ttl_seconds",
    "vault_lease_id",
];

/// A site's HTTP server of another make: takes what is posted, or refuses it.
#[derive(Debug, Clone)]
struct Peer {
    url: String,
    posts: Arc<Mutex<Vec<Value>>>,
    status: Arc<Mutex<u16>>,
}

impl Peer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let peer = Self { url, posts: Arc::default(), status: Arc::new(Mutex::new(200)) };
        let serving = peer.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        peer
    }

    async fn serve(self, mut stream: tokio::net::TcpStream) {
        let mut bytes = Vec::new();
        let mut chunk = [0; 4_096];
        loop {
            let read = stream.read(&mut chunk).await.unwrap_or(0);
            if read == 0 {
                return;
            }
            bytes.extend_from_slice(&chunk[..read]);
            let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
            if bytes.len() < end + 4 + length {
                continue;
            }
            let status = *self.status.lock().unwrap();
            if head.starts_with("post /api/v1/federation/site/secret-leases ") {
                let mut body: Value = serde_json::from_slice(&bytes[end + 4..end + 4 + length]).unwrap();
                body["answered"] = status.into();
                self.posts.lock().unwrap().push(body);
            }
            let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 2\r\n\r\n{{}}");
            let _ = stream.write_all(answer.as_bytes()).await;
            bytes.drain(..end + 4 + length);
        }
    }

    fn answer(&self, status: u16) {
        *self.status.lock().unwrap() = status;
    }

    fn posts(&self) -> Vec<Value> {
        self.posts.lock().unwrap().clone()
    }

    /// The newest post that the peer took with this status of the lease.
    async fn takes(&self, status: &str) -> Value {
        eventually(&format!("the peer takes {status}"), async || {
            self.posts().into_iter().rev().find(|post| post["status"] == status && post["answered"] == 200)
        })
        .await
    }
}

async fn site_with_peer(node: &TestNode, name: &str, first_byte: u8) -> (HttpSite, Peer) {
    let site = HttpSite::enrolled(node, name, first_byte).await;
    let peer = Peer::start().await;
    let path = format!("/api/v1/federation/sites/{}", site.id);
    node.api().patch(&path, &json!({ "url": peer.url })).await.licensed();
    (site, peer)
}

fn wish(key: u128) -> Value {
    json!({
        "correlation_key": format!("{key:032x}"),
        "host_id": "web-1",
        "secret_name": "orders",
        "backend_role": "reader",
        "kind": "database",
        "ttl_seconds": "600",
    })
}

async fn ask(site: &HttpSite, key: u128) -> Value {
    site.push("secret-lease-requests", &wish(key)).await.licensed()["lease"].clone()
}

async fn lease_in(node: &TestNode, id: &Value, status: &str) -> Value {
    let path = format!("{LEASES}/{}", id.as_str().unwrap());
    eventually(&format!("lease is {status}"), async || {
        let lease = node.api().get(&path).await.licensed()["lease"].clone();
        (lease["status"] == status).then_some(lease)
    })
    .await
}

async fn delivered(node: &TestNode, id: &Value) -> Value {
    let path = format!("{LEASES}/{}", id.as_str().unwrap());
    eventually("lease is delivered", async || {
        let lease = node.api().get(&path).await.licensed()["lease"].clone();
        (!lease["delivered_at"].is_null()).then_some(lease)
    })
    .await
}

fn members_of(lease: &Value) -> Vec<String> {
    let mut members: Vec<String> = lease.as_object().unwrap().keys().cloned().collect();
    members.sort();
    members
}

#[tokio::test(flavor = "multi_thread")]
async fn requested_lease_is_issued_and_posted_to_an_http_peer() {
    let node = TestNode::start(Role::Coordinator).await;
    let (site, peer) = site_with_peer(&node, "berlin", 1).await;

    let asked = ask(&site, 1).await;
    let post = peer.takes("issued").await;
    let lease = delivered(&node, &asked["id"]).await;

    assert_eq!(asked["status"], "requested");
    assert_eq!(members_of(&lease), MEMBERS);
    assert_eq!((&lease["status"], &lease["ttl_seconds"]), (&json!("active"), &json!(600)));
    assert_eq!(post["correlation_key"], wish(1)["correlation_key"]);
    assert_eq!((&post["host_id"], &post["secret_name"]), (&json!("web-1"), &json!("orders")));
    let (user, password) = post["secret_value"].as_str().unwrap().split_once(':').unwrap();
    assert!(user.starts_with("sysmanage-") && user.len() == 18 && password.len() == 43);
    assert_eq!(post["secret_metadata"], lease["secret_metadata"]);
    assert_eq!(post["secret_metadata"]["username"], user);
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_request_is_the_same_lease() {
    let node = TestNode::start(Role::Coordinator).await;
    let (site, peer) = site_with_peer(&node, "berlin", 1).await;

    let first = ask(&site, 1).await;
    peer.takes("issued").await;
    let second = ask(&site, 1).await;

    assert_eq!(first["id"], second["id"]);
    assert_eq!(node.api().get(LEASES).await.licensed()["leases"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_lease_is_told_to_its_site_and_stays_revoked() {
    let node = TestNode::start(Role::Coordinator).await;
    let (site, peer) = site_with_peer(&node, "berlin", 1).await;
    let asked = ask(&site, 1).await;
    peer.takes("issued").await;
    let path = format!("{LEASES}/{}/revoke", asked["id"].as_str().unwrap());

    let revoked = node.api().post(&path, &json!({})).await.licensed();
    let again = node.api().act(&path).await.licensed();
    let post = peer.takes("revoked").await;

    assert_eq!(revoked["lease"]["status"], "revoked");
    assert_eq!(members_of(&revoked["lease"]), MEMBERS);
    assert_eq!(again["lease"]["revoked_at"], revoked["lease"]["revoked_at"]);
    assert_eq!(
        (&post["secret_value"], &post["correlation_key"]),
        (&Value::Null, &wish(1)["correlation_key"])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn list_is_newest_first_and_filters_by_site_status_and_limit() {
    let node = TestNode::start(Role::Coordinator).await;
    let (berlin, _) = site_with_peer(&node, "berlin", 1).await;
    let (paris, _) = site_with_peer(&node, "paris", 2).await;
    let first = ask(&berlin, 1).await;
    let second = ask(&paris, 2).await;
    lease_in(&node, &first["id"], "active").await;
    lease_in(&node, &second["id"], "active").await;
    let ids = async |query: &str| -> Vec<Value> {
        let answer = node.api().get(&format!("{LEASES}{query}")).await.licensed();
        answer["leases"].as_array().unwrap().iter().map(|lease| lease["id"].clone()).collect()
    };

    assert_eq!(ids("").await, [second["id"].clone(), first["id"].clone()]);
    assert_eq!(ids("?limit=1").await, [second["id"].clone()]);
    assert_eq!(ids(&format!("?site_id={}", berlin.id)).await, [first["id"].clone()]);
    assert!(ids("?status=revoked").await.is_empty());
    node.api().get(&format!("{LEASES}?status=gone")).await.refused(400, "invalid_query");
    node.api().get(&format!("{LEASES}?limit=0")).await.refused(400, "invalid_query");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_the_documented_ones_and_authentication_comes_first() {
    let node = TestNode::start(Role::Coordinator).await;
    let (berlin, _) = site_with_peer(&node, "berlin", 1).await;
    let (paris, _) = site_with_peer(&node, "paris", 2).await;
    let lease = ask(&berlin, 1).await;
    let path = format!("{LEASES}/{}", lease["id"].as_str().unwrap());
    let unknown = format!("{LEASES}/00000000-0000-7000-8000-000000000000");
    let requests = berlin.path("secret-lease-requests");

    node.anonymous().get(LEASES).await.refused(401, "token_missing");
    node.anonymous().act(&format!("{path}/revoke")).await.refused(401, "token_missing");
    node.anonymous().post(&requests, &json!({})).await.refused(401, "site_unauthorized");
    node.anonymous().bearer(&paris.bearer).post(&requests, &wish(2)).await.refused(403, "site_mismatch");
    berlin.push("secret-lease-requests", &json!({"host_id": "x"})).await.refused(400, "invalid_body");
    let mut vault = wish(3);
    vault["kind"] = "vault".into();
    berlin.push("secret-lease-requests", &vault).await.refused(400, "invalid_value");
    node.api().get(&unknown).await.refused(404, "lease_not_found");
    node.api().act(&format!("{unknown}/revoke")).await.refused(404, "lease_not_found");
    let reader = node.api_as([Scope::LeasesRead].into_iter().collect(), None);
    let denied = reader.act(&format!("{path}/revoke")).await.refused(403, "permission_denied");
    assert!(denied["detail"].as_str().unwrap().starts_with("Permission denied"));
    let scopes: BTreeSet<Scope> = [Scope::LeasesRead, Scope::LeasesRevoke].into_iter().collect();
    let sites: BTreeSet<SiteId> = [paris.id.parse().unwrap()].into_iter().collect();
    let elsewhere = node.api_as(scopes, Some(sites));
    elsewhere.get(&path).await.refused(404, "lease_not_found");
    elsewhere.act(&format!("{path}/revoke")).await.refused(404, "lease_not_found");
    assert!(elsewhere.get(LEASES).await.licensed()["leases"].as_array().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn restart_replaces_an_undelivered_value_and_the_site_gets_only_the_new_one() {
    let mut node = TestNode::start(Role::Coordinator).await;
    let (site, peer) = site_with_peer(&node, "berlin", 1).await;
    peer.answer(503);
    let asked = ask(&site, 1).await;
    let lost = eventually("a try", async || peer.posts().first().cloned()).await;
    let before = lease_in(&node, &asked["id"], "active").await;

    node.restart().await;
    peer.answer(200);
    let post = peer.takes("issued").await;
    let after = delivered(&node, &asked["id"]).await;

    assert!(before["delivered_at"].is_null() && !after["last_renewed_at"].is_null());
    assert_ne!(post["secret_value"], lost["secret_value"]);
    assert_eq!(before["vault_lease_id"], after["vault_lease_id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn suspended_site_loses_its_leases() {
    let node = TestNode::start(Role::Coordinator).await;
    let (site, peer) = site_with_peer(&node, "berlin", 1).await;
    let asked = ask(&site, 1).await;
    peer.takes("issued").await;

    node.api().act(&format!("/api/v1/federation/sites/{}/suspend", site.id)).await.licensed();

    lease_in(&node, &asked["id"], "revoked").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn value_appears_in_no_answer_no_audit_entry_and_nowhere_on_disk() {
    let mut node = TestNode::start(Role::Coordinator).await;
    let (site, peer) = site_with_peer(&node, "berlin", 1).await;
    let asked = ask(&site, 1).await;
    let value = peer.takes("issued").await["secret_value"].as_str().unwrap().to_owned();
    delivered(&node, &asked["id"]).await;
    let path = format!("{LEASES}/{}/revoke", asked["id"].as_str().unwrap());
    node.api().act(&path).await.licensed();
    peer.takes("revoked").await;
    let password = value.split_once(':').unwrap().1.to_owned();

    let audit = node.api().get("/api/v1/federation/audit?limit=1000").await;
    let list = node.api().get(LEASES).await;
    let metrics = node.api().get("/metrics").await;
    node.stop().await;

    for operation in ["requested", "issued", "revoked"] {
        assert!(audit.text.contains(&format!("secret_lease_{operation}")), "{operation}");
    }
    for text in [&audit.text, &list.text, &metrics.text] {
        assert!(!text.contains(&password));
    }
    let spellings = [
        password.clone().into_bytes(),
        hex(password.as_bytes()).into_bytes(),
        STANDARD.encode(&value).trim_end_matches('=').as_bytes()[..40].to_vec(),
        STANDARD.encode(&password).trim_end_matches('=').as_bytes()[..40].to_vec(),
    ];
    for entry in std::fs::read_dir(node.path()).unwrap() {
        let path = entry.unwrap().path();
        let Ok(bytes) = std::fs::read(&path) else { continue };
        for spelling in &spellings {
            assert!(memchr::memmem::find(&bytes, spelling).is_none(), "{}", path.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn delivered_credential_is_renewed_before_its_end_and_forgotten_in_time() {
    let mut node = TestNode::start(Role::Coordinator).await;
    let (site, peer) = site_with_peer(&node, "berlin", 1).await;
    let asked = ask(&site, 1).await;
    let first = peer.takes("issued").await;
    delivered(&node, &asked["id"]).await;

    // A restart looks at once what is due.
    node.clock.advance(Duration::from_secs(520));
    node.restart().await;
    let renewed = eventually("a second value", async || {
        peer.posts().into_iter().find(|post| post["secret_value"] != first["secret_value"])
    })
    .await;
    let lease = delivered(&node, &asked["id"]).await;
    assert_eq!((&renewed["status"], &lease["status"]), (&json!("issued"), &json!("active")));

    node.clock.advance(Duration::from_secs(15 * 86_400));
    node.restart().await;
    let path = format!("{LEASES}/{}", asked["id"].as_str().unwrap());
    eventually("the lease is forgotten", async || (node.api().get(&path).await.status == 404).then_some(()))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leased_role_of_postgresql_logs_in_and_is_gone_after_the_revocation() {
    let server = Postgres::start().await;
    let owner = server.superuser().await;
    owner
        .batch_execute("CREATE ROLE readers; CREATE TABLE orders(id int); GRANT SELECT ON orders TO readers")
        .await
        .unwrap();
    let issuer = postgresql_issuer(&server);
    let node = TestNode::start_with_issuers(Role::Coordinator, Issuers::new(vec![issuer])).await;
    let (site, peer) = site_with_peer(&node, "berlin", 1).await;

    let asked = ask(&site, 1).await;
    let post = peer.takes("issued").await;
    let (user, password) = post["secret_value"].as_str().unwrap().split_once(':').unwrap();
    let session = server.login(user, password).await.unwrap();
    session.query("SELECT id FROM orders", &[]).await.unwrap();
    let forbidden = session.execute("INSERT INTO orders VALUES (1)", &[]).await;
    peer.answer(503);
    let path = format!("{LEASES}/{}/revoke", asked["id"].as_str().unwrap());
    let revoked = node.api().act(&path).await.licensed();

    assert!(forbidden.is_err(), "the role may only what it is granted");
    assert_eq!(
        (&revoked["lease"]["status"], &revoked["lease"]["last_error"]),
        (&json!("revoked"), &Value::Null)
    );
    assert!(
        server.login(user, password).await.is_err(),
        "the database refuses, though the site was not told"
    );
    eventually("the session is ended", async || session.query("SELECT 1", &[]).await.is_err().then_some(()))
        .await;
    assert!(owner.query("SELECT 1 FROM pg_roles WHERE rolname LIKE 'hansa%'", &[]).await.unwrap().is_empty());
    assert!(!server.log().contains(password), "the server never saw the password");
    let mut unknown = wish(2);
    unknown["backend_role"] = "owner".into();
    let refused = site.push("secret-lease-requests", &unknown).await.licensed();
    let failed = lease_in(&node, &refused["lease"]["id"], "failed").await;
    assert!(failed["last_error"].as_str().unwrap().contains("lease_issuer"), "{failed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_role_of_postgresql_is_dropped_and_a_leftover_is_swept() {
    let server = Postgres::start().await;
    let owner = server.superuser().await;
    owner.batch_execute("CREATE ROLE readers; CREATE ROLE hansa_reader").await.unwrap();
    let issuers = Issuers::new(vec![postgresql_issuer(&server)]);
    let mut node = TestNode::start_with_issuers(Role::Coordinator, issuers).await;
    let (site, peer) = site_with_peer(&node, "berlin", 1).await;
    let asked = ask(&site, 1).await;
    let post = peer.takes("issued").await;
    delivered(&node, &asked["id"]).await;
    let (user, password) = post["secret_value"].as_str().unwrap().split_once(':').unwrap();
    // A role whose lease nobody knows, as a crash between the server and our disk would leave one behind.
    let lost = format!("{}_{}", user.rsplit_once('_').unwrap().0, "018f0000000070008000000000000001");
    owner.batch_execute(&format!("CREATE ROLE {lost} LOGIN")).await.unwrap();

    node.clock.advance(Duration::from_secs(601));
    node.restart().await;

    lease_in(&node, &asked["id"], "expired").await;
    eventually("both roles are gone", async || {
        let rows =
            owner.query("SELECT rolname::text FROM pg_roles WHERE rolname LIKE 'hansa%'", &[]).await.unwrap();
        (rows.len() == 1 && rows[0].get::<_, String>(0) == "hansa_reader").then_some(())
    })
    .await;
    assert!(server.login(user, password).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn issuer_that_is_no_superuser_makes_and_drops_roles_over_tls() {
    let server = Postgres::start().await;
    let owner = server.superuser().await;
    owner
        .batch_execute(
            "CREATE ROLE readers; CREATE TABLE orders(id int); GRANT SELECT ON orders TO readers;
             CREATE ROLE authors; GRANT CREATE ON SCHEMA public TO authors",
        )
        .await
        .unwrap();
    let (connection, password) = server.issuer(&["readers", "authors"]).await;
    let more = format!(
        "ca_file = '{}'\n[lease_issuer.backend_roles]\nreader = ['readers', 'authors']\n",
        server.ca_file().display()
    );
    let issuer = issuer_of(&connection, &password, &more);
    let mut node = TestNode::start_with_issuers(Role::Coordinator, Issuers::new(vec![issuer])).await;
    let (site, peer) = site_with_peer(&node, "berlin", 1).await;

    let asked = ask(&site, 1).await;
    let post = peer.takes("issued").await;
    let (user, password) = post["secret_value"].as_str().unwrap().split_once(':').unwrap();
    let session = server.login(user, password).await.unwrap();
    // What the role owns must not keep it from being dropped.
    session.batch_execute("SELECT id FROM orders; CREATE TABLE notes(id int)").await.unwrap();
    let forbidden = session.execute("INSERT INTO orders VALUES (1)", &[]).await;
    let path = format!("{LEASES}/{}/revoke", asked["id"].as_str().unwrap());
    let revoked = node.api().act(&path).await.licensed();

    assert!(forbidden.is_err(), "the role may only what it is granted");
    assert_eq!(
        (&revoked["lease"]["status"], &revoked["lease"]["last_error"]),
        (&json!("revoked"), &Value::Null)
    );
    assert!(server.login(user, password).await.is_err());
    eventually("the session is ended", async || session.query("SELECT 1", &[]).await.is_err().then_some(()))
        .await;
    let roles = async || -> i64 {
        let count = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'hansa%'";
        owner.query_one(count, &[]).await.unwrap().get(0)
    };
    assert_eq!(roles().await, 0);
    let heir = "SELECT tableowner::text FROM pg_tables WHERE tablename = 'notes'";
    assert_eq!(owner.query_one(heir, &[]).await.unwrap().get::<_, String>(0), "issuer");

    let later = ask(&site, 2).await;
    lease_in(&node, &later["id"], "active").await;
    assert_eq!(roles().await, 1);
    node.clock.advance(Duration::from_secs(601));
    node.restart().await;
    lease_in(&node, &later["id"], "expired").await;
    eventually("the expired role is gone", async || (roles().await == 0).then_some(())).await;
    assert!(!server.log().contains(password), "the server never saw the password");
}

fn postgresql_issuer(server: &Postgres) -> Arc<dyn Issuer> {
    let roles = "[lease_issuer.backend_roles]\nreader = ['readers']\n";
    issuer_of(&server.connection(), &server.password_file(), roles)
}

fn issuer_of(connection: &str, password_file: &Path, more: &str) -> Arc<dyn Issuer> {
    let file = format!(
        "[[lease_issuer]]\nname = 'orders'\ntype = 'postgresql'\nconnection = '{connection}'\n\
         password_file = '{}'\n{more}",
        password_file.display(),
    );
    let layer: hansa::config::Layer = toml::from_str(&file).unwrap();
    let config = layer.resolve().unwrap();
    hansa::issuer::open(&config.lease_issuers, &VendorDrivers::new(AddressRules::default()))
        .unwrap()
        .remove(0)
}
