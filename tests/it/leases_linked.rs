//! Secret leases from a host's wish to the host and back, over a link; and nowhere else (contract 10).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hansa::connector::Declared;
use hansa_actors::Connectors;
use hansa_model::enrollment::Role;
use hansa_model::secret::hex;
use hansa_tests::{Api, HttpSite, Journal, TestFederation, TestNode, TestPair, eventually};
use serde_json::{Value, json};
use tempfile::TempDir;

const LEASES: &str = "/api/v1/federation/secret-leases";

/// A coordinator, and a linked site whose connector keeps a journal.
struct Lessee {
    federation: TestFederation,
    site: TestNode,
    journal: Journal,
    _folder: TempDir,
}

impl Lessee {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::new(folder.path());
        let layer: hansa::config::Layer = toml::from_str(&journal.declaration()).unwrap();
        let connectors: Arc<dyn Connectors> =
            Arc::new(Declared::new(layer.resolve().unwrap().connectors).unwrap());
        let federation = TestFederation::start(0).await;
        let site = TestNode::start_connected(Role::Site, connectors).await;
        federation.join(&site, "lessee").await;
        Self { federation, site, journal, _folder: folder }
    }

    /// Asks for a credential; gives its key once it is with the host and the coordinator knows.
    async fn delivered(&self, name: &str) -> (String, Value) {
        let key = requested(&self.site.api(), name).await;
        let lease = delivered(&self.federation.api(), name).await;
        assert!(self.journal.credential(&key).is_some(), "acknowledged only once the host has it");
        (key, lease)
    }

    async fn at_site(&self, key: &str, status: &str) -> Value {
        eventually(&format!("the lease is {status} at the site"), async || {
            let answer = self.site.api().get("/api/v1/site/secret-requests").await.ok();
            let rows = answer["items"].as_array().unwrap();
            rows.iter().find(|row| row["correlation_key"] == key && row["status"] == status).cloned()
        })
        .await
    }

    async fn taken_away(&self, key: &str) {
        eventually("the credential is taken from its host", async || {
            (self.journal.last(key).as_deref() == Some("take_away")).then_some(())
        })
        .await;
        assert_eq!(self.journal.credential(key), None);
    }
}

async fn requested(site: &Api, name: &str) -> String {
    let wish = json!({
        "host_id": "web-1", "secret_name": name, "backend_role": "reader", "kind": "database", "ttl_seconds": 600,
    });
    let answer = site.post("/api/v1/site/secret-requests", &wish).await.ok();
    answer["correlation_key"].as_str().unwrap().to_owned()
}

async fn lease_of(coordinator: &Api, name: &str) -> Value {
    let answer = coordinator.get(LEASES).await.licensed();
    let rows = answer["leases"].as_array().unwrap();
    rows.iter().find(|row| row["secret_name"] == name).cloned().unwrap_or(Value::Null)
}

async fn delivered(coordinator: &Api, name: &str) -> Value {
    eventually("the lease is delivered", async || {
        let lease = lease_of(coordinator, name).await;
        (lease["status"] == "active" && lease["delivered_at"].is_string()).then_some(lease)
    })
    .await
}

async fn revoke(coordinator: &Api, lease: &Value) -> Value {
    let path = format!("{LEASES}/{}/revoke", lease["id"].as_str().unwrap());
    coordinator.act(&path).await.licensed()["lease"].clone()
}

async fn operations(api: &Api) -> Vec<String> {
    let answer = api.get("/api/v1/federation/audit?limit=1000").await.licensed();
    let entries = answer["entries"].as_array().unwrap().iter().rev();
    let names = entries.map(|entry| entry["operation"].as_str().unwrap().to_owned());
    names.filter(|name| name.starts_with("secret_lease")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn credential_goes_over_the_link_to_its_host_and_is_taken_away_when_it_is_revoked() {
    let lessee = Box::pin(Lessee::start()).await;

    let (key, lease) = lessee.delivered("orders").await;
    let credential = lessee.journal.credential(&key).unwrap();
    let row = lessee.at_site(&key, "issued").await;
    let revoked = revoke(&lessee.federation.api(), &lease).await;
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
    let mut lessee = Box::pin(Lessee::start()).await;
    let (key, lease) = lessee.delivered("orders").await;
    lessee.site.stop().await;

    let revoked = revoke(&lessee.federation.api(), &lease).await;
    let kept = lessee.journal.credential(&key);
    lessee.site.boot().await;
    lessee.at_site(&key, "revoked").await;
    lessee.taken_away(&key).await;

    assert_eq!((&revoked["status"], &revoked["last_error"]), (&json!("revoked"), &Value::Null));
    assert!(kept.is_some(), "nobody could tell the site");
}

#[tokio::test(flavor = "multi_thread")]
async fn credential_ends_at_a_site_that_is_cut_off_and_at_its_coordinator_alike() {
    let mut lessee = Box::pin(Lessee::start()).await;
    let (key, _) = lessee.delivered("orders").await;
    lessee.federation.coordinator.stop().await;

    lessee.site.clock.advance(Duration::from_secs(601));
    let over = lessee.at_site(&key, "expired").await;
    lessee.taken_away(&key).await;
    lessee.federation.coordinator.clock.advance(Duration::from_secs(601));
    lessee.federation.coordinator.boot().await;
    let centre = eventually("the lease has expired at the coordinator", async || {
        let lease = lease_of(&lessee.federation.api(), "orders").await;
        (lease["status"] == "expired").then_some(lease)
    })
    .await;

    assert!(over["expires_at"].is_string() && centre["revoked_at"].is_null());
    assert_eq!(lessee.journal.last(&key).unwrap(), "take_away", "it does not come back");
}

#[tokio::test(flavor = "multi_thread")]
async fn wish_of_a_site_that_is_cut_off_is_fulfilled_when_it_is_back() {
    let mut lessee = Box::pin(Lessee::start()).await;
    lessee.federation.coordinator.stop().await;

    let key = requested(&lessee.site.api(), "orders").await;
    let waiting = lessee.at_site(&key, "requested").await;
    lessee.federation.coordinator.boot().await;
    delivered(&lessee.federation.api(), "orders").await;

    assert!(waiting["received_at"].is_null());
    assert!(lessee.journal.credential(&key).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_canary_of_a_lease_is_in_no_log_metric_answer_or_file_of_either_process() {
    let mut pair = TestPair::start_logging("trace").await;
    let (coordinator, site) = (pair.coordinator.api().await, pair.site.api().await);
    pair.join(&coordinator, &site, None).await;
    let (by_http, peer) = HttpSite::reachable(&coordinator, "http", 60).await;
    let key = requested(&site, "linked").await;
    let linked = delivered(&coordinator, "linked").await;
    let wish = json!({
        "correlation_key": "a".repeat(32), "host_id": "web-2", "secret_name": "posted", "backend_role": "reader",
        "kind": "token", "ttl_seconds": 600,
    });
    by_http.push("secret-lease-requests", &wish).await.licensed();
    let posted = delivered(&coordinator, "posted").await;
    let mut canaries = vec![pair.journal.credential(&key).unwrap()];
    canaries.extend(
        peer.pushes().iter().filter_map(|push| push.body["secret_value"].as_str().map(str::to_owned)),
    );
    assert_eq!(canaries.len(), 2, "one over the link, one over HTTP");

    for lease in [&linked, &posted] {
        revoke(&coordinator, lease).await;
    }
    eventually("the credential is taken from its host", async || {
        (pair.journal.last(&key).as_deref() == Some("take_away")).then_some(())
    })
    .await;
    let mut shown = Vec::new();
    for api in [&coordinator, &site] {
        for path in
            ["/metrics", "/api/v1/federation/audit?limit=1000", LEASES, "/api/v1/site/secret-requests"]
        {
            shown.push((path.to_owned(), api.get(path).await.text));
        }
    }
    for process in [&mut pair.coordinator, &mut pair.site] {
        process.kill().await;
        let log = process.log();
        assert!(log.contains("TRACE"), "the log says all there is to say");
        shown.push(("log".to_owned(), log));
        files(&process.data_dir(), &mut shown);
    }

    for canary in &canaries {
        // A database credential begins with its user's name, which is no secret.
        let secret = canary.split_once(':').map_or(canary.as_str(), |(_, password)| password);
        let spellings = [
            secret.to_owned(),
            hex(secret.as_bytes()),
            // The last digits hang on what follows.
            STANDARD.encode(canary)[..36].to_owned(),
            STANDARD.encode(secret)[..36].to_owned(),
            format!("{:?}", secret.as_bytes())[1..].trim_end_matches(']').to_owned(),
        ];
        for (place, text) in &shown {
            for spelling in &spellings {
                assert!(!text.contains(spelling), "a credential is in {place}");
            }
        }
    }
}

/// The files of a folder, as text: what is no character is replaced, and no spelling has such a one.
fn files(folder: &Path, shown: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, shown);
        } else if let Ok(bytes) = std::fs::read(&path) {
            shown.push((path.display().to_string(), String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
}
