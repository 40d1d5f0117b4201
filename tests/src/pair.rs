//! Two real processes: a coordinator that leases trial credentials, and a site with a connector that keeps a
//! journal.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::Api;
use crate::journal::Journal;
use crate::process::TestProcess;

/// A coordinator and a site as processes of their own.
#[derive(Debug)]
pub struct TestPair {
    /// The centre.
    pub coordinator: TestProcess,
    /// The member.
    pub site: TestProcess,
    /// What the site's connector was asked.
    pub journal: Journal,
    _folder: TempDir,
}

impl TestPair {
    /// Starts both; they do not know each other yet.
    ///
    /// # Panics
    /// One does not start.
    pub async fn start() -> Self {
        Self::start_logging("info").await
    }

    /// The same with a filter for the logs of both.
    ///
    /// # Panics
    /// One does not start.
    pub async fn start_logging(filter: &str) -> Self {
        Self::start_leasing(filter, "[[lease_issuer]]\nname = 'trial'\ntype = 'trial'\n").await
    }

    /// The same with a configuration of the coordinator's that names its issuers.
    ///
    /// # Panics
    /// One does not start.
    pub async fn start_leasing(filter: &str, issuer: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let journal = Journal::new(folder.path());
        let mut processes = Vec::new();
        for (role, config) in [("coordinator", issuer), ("site", &journal.declaration())] {
            let own = folder.path().join(role);
            std::fs::create_dir(&own).expect("a folder");
            let file = own.join("hansa.toml");
            std::fs::write(&file, config).expect("a file");
            processes.push(TestProcess::start_with(&own, role, filter, &file).await);
        }
        let (site, coordinator) = (processes.pop().expect("two"), processes.pop().expect("two"));
        Self { coordinator, site, journal, _folder: folder }
    }

    /// Lets the site enroll and gives its id. With an address it does so over QUIC, and goes on using it.
    pub async fn join(&self, coordinator: &Api, site: &Api, quic: Option<SocketAddr>) -> String {
        let key = site.get("/api/v1/federation/identity-key").await.ok();
        let body = json!({
            "name": "mortal",
            "url": site.base(),
            "site_identity_public_key_pem": key["public_key_pem"],
        });
        let invitation = coordinator.post("/api/v1/federation/sites", &body).await.licensed();
        let identity = coordinator.get("/api/v1/federation/identity-key").await.ok();
        let mut body = json!({
            "coordinator_url": coordinator.base(),
            "enrollment_token": invitation["enrollment_token"],
            "coordinator_identity_public_key_pem": identity["public_key_pem"],
        });
        if let Some(address) = quic {
            body["quic_address"] = Value::from(address.to_string());
        }
        site.post("/api/v1/federation/site/enroll", &body).await.licensed();
        invitation["site"]["id"].as_str().expect("a site has an id").to_owned()
    }
}
