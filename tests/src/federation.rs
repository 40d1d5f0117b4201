//! A coordinator with its sites, joined by the real handshake.

use std::collections::BTreeMap;

use hansa_model::SiteId;
use hansa_model::enrollment::{JoinCode, Role};
use serde_json::{Value, json};

use crate::hosts::rows_of;
use crate::http::Api;
use crate::node::TestNode;
use crate::waiting::eventually;

/// A coordinator and its sites.
#[derive(Debug)]
pub struct TestFederation {
    /// The centre.
    pub coordinator: TestNode,
    /// The members.
    pub sites: Vec<TestSite>,
}

/// A site and the id that its coordinator gave it.
#[derive(Debug)]
pub struct TestSite {
    /// The node.
    pub node: TestNode,
    /// Its id.
    pub id: String,
}

impl TestSite {
    /// The id as the model has it.
    ///
    /// # Panics
    /// The coordinator gave no UUID.
    pub fn site_id(&self) -> SiteId {
        self.id.parse().expect("the coordinator gives a UUID")
    }

    /// What the site says of its membership.
    pub async fn status(&self) -> String {
        let body = self.node.api().get("/api/v1/federation/site/enrollment-status").await.licensed();
        body["status"].as_str().unwrap_or_default().to_owned()
    }

    /// Rows that the site still has to send.
    pub async fn depth(&self) -> u64 {
        let body = self.node.api().get("/api/v1/federation/site/sync-queue/depth").await.licensed();
        body["depth"].as_u64().expect("the depth is a number")
    }

    /// Changes the site's hosts; the node has acknowledged them.
    pub async fn patch(&self, body: &Value) -> Value {
        self.node.api().patch("/api/v1/site/hosts", body).await.ok()
    }

    /// Replaces the site's hosts; the node has acknowledged them.
    pub async fn put(&self, entries: Vec<Value>) -> Value {
        let body = json!({ "entries": entries });
        self.node.api().put("/api/v1/site/hosts?confirm_removals=true", &body).await.ok()
    }

    /// The site's own hosts.
    pub async fn rows(&self) -> BTreeMap<String, Value> {
        rows_of(&self.node.api(), "/api/v1/site/hosts").await
    }
}

impl TestFederation {
    /// Starts a coordinator and this many sites, and joins them by code.
    pub async fn start(sites: usize) -> Self {
        let coordinator = TestNode::start(Role::Coordinator).await;
        let mut federation = Self { coordinator, sites: Vec::new() };
        for number in 0..sites {
            let node = TestNode::start(Role::Site).await;
            let id = federation.join(&node, &format!("site-{number}")).await;
            federation.sites.push(TestSite { node, id });
        }
        federation
    }

    /// Invites a site by its key and gives the coordinator's answer.
    pub async fn invite(&self, node: &TestNode, name: &str) -> Value {
        let key = node.api().get("/api/v1/federation/identity-key").await.ok();
        let body = json!({
            "name": name,
            "url": node.url(),
            "site_identity_public_key_pem": key["public_key_pem"],
        });
        self.api().post("/api/v1/federation/sites", &body).await.licensed()
    }

    /// Invites a site and lets it enroll over QUIC; gives its id.
    ///
    /// # Panics
    /// The invitation has no usable join code.
    pub async fn join(&self, node: &TestNode, name: &str) -> String {
        let invitation = self.invite(node, name).await;
        let code = JoinCode::decode(invitation["join_code"].as_str().unwrap_or_default())
            .expect("an invitation has a join code");
        let identity = self.api().get("/api/v1/federation/identity-key").await.ok();
        let body = json!({
            "coordinator_url": code.coordinator_url,
            "enrollment_token": code.enrollment_token,
            "coordinator_identity_public_key_pem": identity["public_key_pem"],
            "quic_address": code.quic_address,
        });
        let answer = node.api().post("/api/v1/federation/site/enroll", &body).await.licensed();
        assert_eq!(answer["status"], "enrolled");
        invitation["site"]["id"].as_str().expect("a site has an id").to_owned()
    }

    /// The coordinator, as an operator with every scope.
    pub fn api(&self) -> Api {
        self.coordinator.api()
    }

    /// The coordinator's row of a site.
    pub async fn site(&self, id: &str) -> Value {
        self.api().get(&format!("/api/v1/federation/sites/{id}")).await.licensed()["site"].clone()
    }

    /// How many hosts the coordinator finds.
    pub async fn total(&self, query: &str) -> u64 {
        let answer = self.api().get(&format!("/api/v1/federation/hosts?limit=1{query}")).await.licensed();
        answer["total"].as_u64().expect("the total is a number")
    }

    /// All rows at the coordinator.
    pub async fn rows(&self) -> BTreeMap<String, Value> {
        rows_of(&self.api(), "/api/v1/federation/hosts").await
    }

    /// Waits until the coordinator holds exactly what the sites hold, and they have nothing left to send.
    pub async fn converges(&self) {
        eventually("the coordinator holds what the sites hold", async || {
            let mut held = BTreeMap::new();
            for site in &self.sites {
                if site.depth().await > 0 {
                    return None;
                }
                for (id, mut row) in site.rows().await {
                    row["site_id"] = json!(site.id);
                    held.insert(id, row);
                }
            }
            (self.rows().await == held).then_some(())
        })
        .await;
    }
}
