//! A site that has nothing but an HTTP client and an Ed25519 key, as any server of another make.

use hansa_model::Secret;
use hansa_model::enrollment::Role;
use hansa_transport::IdentityKey;
use hansa_transport::certificate::sign_proof;
use serde_json::{Value, json};

use crate::http::{Answer, Api};
use crate::http_peer_server::HttpPeerServer;
use crate::node::TestNode;

/// The certificate of the contract's test vectors (contract 1.5).
pub const VECTOR_CERTIFICATE: &str = include_str!("vector-certificate.pem");
/// The vectors' proof of the key 00 01 02 … 1f over it, as a site.
pub const VECTOR_PROOF_SITE: &str =
    "qdrAqTbD05csm++XCneal+MGtNFcPuxmBg/hPdEw/NiBNNYWagyKxLsIDIs7jyqNpFUfp24yv4UyM5sN63NvDQ==";
/// The same as a coordinator.
pub const VECTOR_PROOF_COORDINATOR: &str =
    "XvvVXDofr21g+lXVcgCbfVD8+aZnZtNEUFm2sjtPckn/cW5tOPTzxr+ob6hc/reKgJgZvDZo/AQOAz65izgvCg==";

/// A site of another make.
#[derive(Debug)]
pub struct HttpSite {
    /// Its id at the coordinator.
    pub id: String,
    /// Its invitation.
    pub token: String,
    /// What it presents; empty until it is enrolled.
    pub bearer: String,
    key: IdentityKey,
    api: Api,
}

impl HttpSite {
    /// Registers a site whose private key is this byte, counted up.
    ///
    /// # Panics
    /// The coordinator refuses it.
    pub async fn invited(coordinator: &TestNode, name: &str, first_byte: u8) -> Self {
        Self::invited_by(&coordinator.api(), name, first_byte).await
    }

    /// The same at whatever coordinator an operator speaks to.
    ///
    /// # Panics
    /// The coordinator refuses it.
    pub async fn invited_by(operator: &Api, name: &str, first_byte: u8) -> Self {
        let seed: [u8; 32] = std::array::from_fn(|index| first_byte.wrapping_add(index as u8));
        let key = IdentityKey::from_seed(&Secret::new(seed));
        let body = json!({
            "name": name,
            "url": "http://127.0.0.1:9",
            "site_identity_public_key_pem": key.public().to_pem(),
        });
        let answer = operator.post("/api/v1/federation/sites", &body).await.licensed();
        Self {
            id: answer["site"]["id"].as_str().expect("a site has an id").to_owned(),
            token: answer["enrollment_token"].as_str().expect("an invitation has a token").to_owned(),
            bearer: String::new(),
            key,
            api: operator.anonymous(),
        }
    }

    /// Registers and enrolls a site.
    pub async fn enrolled(coordinator: &TestNode, name: &str, first_byte: u8) -> Self {
        Self::enrolled_by(&coordinator.api(), name, first_byte).await
    }

    /// Registers and enrolls a site that can be posted to, with the server that takes the posts.
    pub async fn reachable(operator: &Api, name: &str, first_byte: u8) -> (Self, HttpPeerServer) {
        let server = HttpPeerServer::start().await;
        let site = Self::enrolled_by(operator, name, first_byte).await;
        let path = format!("/api/v1/federation/sites/{}", site.id);
        operator.patch(&path, &json!({"url": server.url()})).await.licensed();
        (site, server)
    }

    async fn enrolled_by(operator: &Api, name: &str, first_byte: u8) -> Self {
        let mut site = Self::invited_by(operator, name, first_byte).await;
        let answer = site.complete().await.licensed();
        site.bearer = answer["sync_bearer_token"].as_str().expect("a bearer").to_owned();
        site
    }

    /// Its identity, for those that speak QUIC after all.
    pub const fn key(&self) -> &IdentityKey {
        &self.key
    }

    /// The completion's body: certificate and proof.
    ///
    /// # Panics
    /// The vector's certificate does not parse.
    pub fn completion(&self) -> Value {
        let proof = sign_proof(&self.key, Role::Site, VECTOR_CERTIFICATE).expect("a certificate");
        json!({ "tls_cert_pem": VECTOR_CERTIFICATE, "identity_proof": proof })
    }

    /// Completes the enrollment with the one-time token.
    pub async fn complete(&self) -> Answer {
        self.complete_with(&self.token, &self.completion()).await
    }

    /// Completes with another token or body.
    pub async fn complete_with(&self, token: &str, body: &Value) -> Answer {
        self.api.post(&format!("/api/v1/federation/sites/enrollment/{token}/complete"), body).await
    }

    /// Pushes to one of the site's own ingest routes with its bearer.
    pub async fn push(&self, suffix: &str, body: &Value) -> Answer {
        self.api.bearer(&self.bearer).post(&self.path(suffix), body).await
    }

    /// The path of one of the site's routes.
    pub fn path(&self, suffix: &str) -> String {
        format!("/api/v1/federation/sites/{}/{suffix}", self.id)
    }
}
