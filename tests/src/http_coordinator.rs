//! A coordinator that has nothing but HTTP, an Ed25519 key and an RSA certificate, as any server of another make.

use std::sync::{Arc, Mutex};

use hansa::system::{SystemClock, SystemEntropy};
use hansa_model::enrollment::Role;
use hansa_model::machine::stamp;
use hansa_model::secret::{generate_token, hex, token_hash};
use hansa_model::{Secret, WallClock as _};
use hansa_transport::certificate::sign_proof;
use hansa_transport::{IdentityKey, TlsCertificate};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::http::{Answer, Api};
use crate::node::TestNode;

/// The site's id at every such coordinator.
const SITE_ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

/// A coordinator of another make.
#[derive(Debug)]
pub struct HttpCoordinator {
    url: String,
    key: IdentityKey,
    tls: Arc<TlsCertificate>,
    bearer: Secret<String>,
    reports: Reports,
    server: JoinHandle<()>,
}

/// What the site has posted: the last part of the path, and the body.
type Reports = Arc<Mutex<Vec<(String, Value)>>>;

impl HttpCoordinator {
    /// Starts one on a free port.
    ///
    /// # Panics
    /// It cannot.
    pub async fn start() -> Self {
        let key = IdentityKey::from_seed(&Secret::new([9; 32]));
        let tls = TlsCertificate::generate("hq.example.com", SystemClock.now(), &SystemEntropy)
            .expect("a certificate");
        let bearer = generate_token(&SystemEntropy);
        let proof = sign_proof(&key, Role::Coordinator, tls.certificate_pem()).expect("a proof");
        let certificate = json!({
            "cert_pem": tls.certificate_pem(),
            "identity_proof": proof,
            "identity_fingerprint": null,
            "identity_role": "coordinator",
        });
        let completion = json!({
            "licensed": true,
            "site": {"id": SITE_ID, "sync_interval_seconds": 5},
            "sync_bearer_token": "sync-bearer",
            "coordinator_inbound_bearer_token_hash": hex(&token_hash(bearer.expose())),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let reports = Reports::default();
        let told = Arc::clone(&reports);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (told, certificate, completion) =
                    (Arc::clone(&told), certificate.clone(), completion.clone());
                tokio::spawn(async move {
                    let _ = serve(stream, &told, &certificate, &completion).await;
                });
            }
        });
        Self { url, key, tls: Arc::new(tls), bearer, reports, server }
    }

    /// Lets a site enroll here.
    pub async fn enroll(&self, site: &TestNode) {
        let body = json!({
            "coordinator_url": self.url,
            "enrollment_token": "one-time",
            "coordinator_identity_public_key_pem": self.key.public().to_pem(),
            "sync_interval_seconds": 5,
        });
        let answer = site.api().post("/api/v1/federation/site/enroll", &body).await.licensed();
        assert_eq!(answer["status"], "enrolled");
    }

    /// Pushes to one of the three documented routes, signed and stamped.
    pub async fn push(&self, site: &TestNode, route: &str, body: &Value) -> Answer {
        let body = body.to_string();
        let path = format!("/api/v1/federation/site/{route}");
        let (at, nonce) =
            (site.clock.now().as_secs(), hex(generate_token(&SystemEntropy).expose().as_bytes()));
        let nonce = &nonce[..32];
        let message = stamp::message("POST", &path, at, nonce, body.as_bytes());
        let stamp = stamp::header(at, nonce, &self.tls.sign_request(message.as_bytes()));
        let signature = self.tls.sign_request(body.as_bytes());
        let headers =
            [("X-Federation-Signature", signature.as_str()), ("X-Federation-Stamp", stamp.as_str())];
        self.api(site).send(Method::POST, &path, Some(body.into()), &headers).await
    }

    /// HTTP to a site with the right bearer, unsigned.
    pub fn api(&self, site: &TestNode) -> Api {
        site.anonymous().bearer(self.bearer.expose())
    }

    /// What it presents to its site.
    pub fn bearer(&self) -> &str {
        self.bearer.expose()
    }

    /// Bodies that the site has posted to a route whose path ends so, oldest first.
    ///
    /// # Panics
    /// The server's task panicked.
    pub fn reported(&self, route: &str) -> Vec<Value> {
        let reports = self.reports.lock().expect("no task panicked");
        reports.iter().filter(|(path, _)| path.ends_with(route)).map(|(_, body)| body.clone()).collect()
    }
}

impl Drop for HttpCoordinator {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// One request a connection.
async fn serve(
    mut stream: TcpStream,
    reports: &Reports,
    certificate: &Value,
    completion: &Value,
) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    let (head, length) = loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        break (String::from_utf8_lossy(&bytes[..end]).into_owned(), end + 4 + length.unwrap_or(0));
    };
    while bytes.len() < length {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    }
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let body = serde_json::from_slice(&bytes[head.len() + 4..]).unwrap_or(Value::Null);
    let answer = if path.ends_with("/tls-cert") {
        certificate.clone()
    } else if path.ends_with("/complete") {
        completion.clone()
    } else {
        if let Ok(mut reports) = reports.lock() {
            reports.push((path, body));
        }
        json!({"licensed": true})
    };
    let text = answer.to_string();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        text.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await
}
