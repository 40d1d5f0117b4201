//! A lease on its way: the wish at a site, the row at the coordinator, the credential at the host.

use std::sync::Arc;

use hansa::connector::Declared;
use hansa_actors::Connectors;
use hansa_model::enrollment::Role;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::federation::TestFederation;
use crate::http::Api;
use crate::journal::Journal;
use crate::node::TestNode;
use crate::waiting::eventually;

/// Where a coordinator shows its leases.
pub const LEASES: &str = "/api/v1/federation/secret-leases";

/// A coordinator, and a linked site whose connector keeps a journal.
#[derive(Debug)]
pub struct Lessee {
    /// The coordinator; the site stands beside it.
    pub federation: TestFederation,
    /// The site.
    pub site: TestNode,
    /// What the site's connector was asked.
    pub journal: Journal,
    _folder: TempDir,
}

impl Lessee {
    /// Starts a site and lets it join this coordinator.
    ///
    /// # Panics
    /// It does not start, or is not taken.
    pub async fn start(coordinator: TestNode) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let journal = Journal::new(folder.path());
        let layer: hansa::config::Layer = toml::from_str(&journal.declaration()).expect("it parses");
        let connectors = layer.resolve().expect("it is valid").connectors;
        let connectors: Arc<dyn Connectors> = Arc::new(Declared::new(connectors).expect("a client"));
        let federation = TestFederation { coordinator, sites: Vec::new() };
        let site = TestNode::start_connected(Role::Site, connectors).await;
        federation.join(&site, "lessee").await;
        Self { federation, site, journal, _folder: folder }
    }

    /// Asks for a credential; gives its key once it is with the host and the coordinator knows.
    ///
    /// # Panics
    /// The coordinator knows before the host has it.
    pub async fn delivered(&self, name: &str) -> (String, Value) {
        let key = self.request(name).await;
        let lease = self.taken(name).await;
        assert!(self.journal.credential(&key).is_some(), "acknowledged only once the host has it");
        (key, lease)
    }

    /// Asks for a credential; gives the key of the wish.
    pub async fn request(&self, name: &str) -> String {
        request_lease(&self.site.api(), name).await
    }

    /// The coordinator's row; null when there is none.
    pub async fn lease(&self, name: &str) -> Value {
        lease_named(&self.federation.coordinator.api(), name).await
    }

    /// The coordinator's row once the site has the credential.
    pub async fn taken(&self, name: &str) -> Value {
        delivered_lease(&self.federation.coordinator.api(), name).await
    }

    /// Takes a lease away; gives its row.
    pub async fn revoke(&self, lease: &Value) -> Value {
        revoke_lease(&self.federation.coordinator.api(), lease).await
    }

    /// The site's row of a wish, once it has this status.
    ///
    /// # Panics
    /// The site shows no list.
    pub async fn at_site(&self, key: &str, status: &str) -> Value {
        eventually(&format!("the lease is {status} at the site"), async || {
            let answer = self.site.api().get("/api/v1/site/secret-requests").await.ok();
            let rows = answer["items"].as_array().expect("a list");
            rows.iter().find(|row| row["correlation_key"] == key && row["status"] == status).cloned()
        })
        .await
    }

    /// Waits until the host has lost its credential.
    ///
    /// # Panics
    /// It keeps it.
    pub async fn taken_away(&self, key: &str) {
        eventually("the credential is taken from its host", async || {
            (self.journal.last(key).as_deref() == Some("take_away")).then_some(())
        })
        .await;
        assert_eq!(self.journal.credential(key), None);
    }
}

/// Asks a site for a credential of a database for ten minutes; gives the key of the wish.
///
/// # Panics
/// The answer has none.
pub async fn request_lease(site: &Api, name: &str) -> String {
    let wish = json!({
        "host_id": "web-1", "secret_name": name, "backend_role": "reader", "kind": "database", "ttl_seconds": 600,
    });
    let answer = site.post("/api/v1/site/secret-requests", &wish).await.ok();
    answer["correlation_key"].as_str().expect("a key").to_owned()
}

/// A coordinator's lease by what was asked for; null when there is none.
///
/// # Panics
/// The coordinator shows no list.
pub async fn lease_named(coordinator: &Api, name: &str) -> Value {
    let answer = coordinator.get(LEASES).await.licensed();
    let rows = answer["leases"].as_array().expect("a list");
    rows.iter().find(|row| row["secret_name"] == name).cloned().unwrap_or(Value::Null)
}

/// The same once it is active and with its site.
pub async fn delivered_lease(coordinator: &Api, name: &str) -> Value {
    eventually("the lease is delivered", async || {
        let lease = lease_named(coordinator, name).await;
        (lease["status"] == "active" && lease["delivered_at"].is_string()).then_some(lease)
    })
    .await
}

/// Takes a lease away; gives its row.
///
/// # Panics
/// It has no id.
pub async fn revoke_lease(coordinator: &Api, lease: &Value) -> Value {
    let path = format!("{LEASES}/{}/revoke", lease["id"].as_str().expect("an id"));
    coordinator.act(&path).await.licensed()["lease"].clone()
}
