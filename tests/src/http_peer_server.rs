//! The server side of a site of another make: takes the documented pushes over real HTTP on loopback.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hansa_transport::certificate::verify_request;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A site's HTTP surface that records what it is sent and answers one status to all of it.
#[derive(Debug)]
pub struct HttpPeerServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    status: AtomicU16,
    taken: Mutex<Vec<PeerPush>>,
}

/// One request as it came.
#[derive(Debug, Clone)]
pub struct PeerPush {
    /// Its path.
    pub path: String,
    /// Its headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Its exact body.
    pub bytes: Vec<u8>,
    /// The body as JSON; null when it is none.
    pub body: Value,
}

impl PeerPush {
    /// Whether the signature over the exact body is the certificate's (contract 1.6).
    pub fn is_signed_by(&self, certificate_pem: &str) -> bool {
        let signature = self.headers.get("x-federation-signature");
        signature.is_some_and(|signature| verify_request(certificate_pem, &self.bytes, signature))
    }
}

impl HttpPeerServer {
    /// Listens, and takes everything.
    ///
    /// # Panics
    /// It cannot listen.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared { status: AtomicU16::new(200), taken: Mutex::default() });
        let serving = Arc::clone(&shared);
        let server = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(serve(connection, Arc::clone(&serving)));
            }
        });
        Self { address, shared, server }
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers this status from now on.
    pub fn answer_with(&self, status: u16) {
        self.shared.status.store(status, Ordering::Relaxed);
    }

    /// All that has come, in order.
    pub fn pushes(&self) -> Vec<PeerPush> {
        self.shared.taken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for HttpPeerServer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(mut connection: TcpStream, shared: Arc<Shared>) {
    while let Some(push) = read(&mut connection).await {
        shared.taken.lock().unwrap_or_else(PoisonError::into_inner).push(push);
        let status = shared.status.load(Ordering::Relaxed);
        let body = r#"{"licensed":true}"#;
        let answer = format!(
            "HTTP/1.1 {status} -\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        if connection.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read(connection: &mut TcpStream) -> Option<PeerPush> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(connection.read_u8().await.ok()?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let headers: BTreeMap<String, String> = head
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut bytes = vec![0; length];
    connection.read_exact(&mut bytes).await.ok()?;
    let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    Some(PeerPush { path, headers, bytes, body })
}
