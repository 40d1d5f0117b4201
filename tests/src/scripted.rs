//! A server that does what a real one cannot be brought to: resets, endless answers, throttles, redirects.
//!
//! It speaks HTTP/1.1, one request a connection, plain or over TLS. A handler decides each answer; one of the
//! answers is to ask another server, so it also stands before real ones and spoils single calls.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::Method;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// What was asked.
#[derive(Debug, Clone)]
pub struct ScriptedRequest {
    /// `GET` and so on.
    pub method: String,
    /// With its query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// All of it.
    pub body: Vec<u8>,
}

impl ScriptedRequest {
    /// One header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// What is answered.
#[derive(Debug, Clone)]
pub enum Scripted {
    /// Status, headers, body.
    Answer(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// What the server at this base URL answers.
    Forward(String),
    /// Half an answer, then a reset.
    Reset,
    /// A body that never ends.
    Endless,
    /// A body that announces more bytes than anybody should read.
    Oversized,
    /// Nothing, for as long as the caller waits.
    Silence,
}

impl Scripted {
    /// JSON with this status.
    pub fn json(status: u16, body: impl ToString) -> Self {
        Self::Answer(status, vec![("Content-Type", "application/json".to_owned())], body.to_string().into())
    }

    /// A status without a body.
    pub const fn status(status: u16) -> Self {
        Self::Answer(status, Vec::new(), Vec::new())
    }

    /// The same with one more header.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        if let Self::Answer(_, headers, _) = &mut self {
            headers.push((name, value.into()));
        }
        self
    }
}

type Handler = dyn Fn(&ScriptedRequest) -> Scripted + Send + Sync;

/// The server; it ends with its value.
pub struct ScriptedServer {
    address: SocketAddr,
    encrypted: bool,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

struct Shared {
    handler: Box<Handler>,
    /// Answers that come before the handler's.
    queued: Mutex<Vec<Scripted>>,
    requests: Mutex<Vec<ScriptedRequest>>,
    connections: AtomicUsize,
    tls: Option<TlsAcceptor>,
    client: reqwest::Client,
}

impl std::fmt::Debug for ScriptedServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ScriptedServer({})", self.url())
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ScriptedServer {
    /// Starts it on a free loopback port.
    pub async fn start(handler: impl Fn(&ScriptedRequest) -> Scripted + Send + Sync + 'static) -> Self {
        Self::start_on(None, handler).await
    }

    /// Starts it before another server: every call goes there, but those that [`Self::queue`] spoils.
    pub async fn before(base: impl Into<String>) -> Self {
        let base = base.into();
        Self::start(move |_| Scripted::Forward(base.clone())).await
    }

    /// The same with TLS.
    ///
    /// # Panics
    /// No port is free.
    pub async fn start_on(
        tls: Option<Arc<rustls::ServerConfig>>,
        handler: impl Fn(&ScriptedRequest) -> Scripted + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client_tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring knows the default versions")
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .tls_backend_preconfigured(client_tls)
            .build()
            .expect("a client without options");
        let shared = Arc::new(Shared {
            handler: Box::new(handler),
            queued: Mutex::default(),
            requests: Mutex::default(),
            connections: AtomicUsize::new(0),
            tls: tls.map(TlsAcceptor::from),
            client,
        });
        let encrypted = shared.tls.is_some();
        let serving = shared.clone();
        let task = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                serving.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(connection, serving.clone()));
            }
        });
        Self { address, encrypted, shared, task }
    }

    /// Base URL by address.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.encrypted { "https" } else { "http" }, self.address)
    }

    /// Its port.
    pub const fn port(&self) -> u16 {
        self.address.port()
    }

    /// Answers the next calls so, one each, before the handler is asked again.
    pub fn queue(&self, answers: impl IntoIterator<Item = Scripted>) {
        self.shared.queued.lock().unwrap_or_else(PoisonError::into_inner).extend(answers);
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<ScriptedRequest> {
        self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many connections were made to it.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

async fn serve(connection: TcpStream, shared: Arc<Shared>) {
    // A reset instead of a polite end, where the connection is dropped in the middle.
    let _ = connection.set_zero_linger();
    match &shared.tls {
        None => serve_one(connection, &shared).await,
        Some(acceptor) => {
            if let Ok(connection) = acceptor.accept(connection).await {
                serve_one(connection, &shared).await;
            }
        }
    }
}

async fn serve_one(mut connection: impl AsyncRead + AsyncWrite + Unpin, shared: &Shared) {
    let Some(request) = read_request(&mut connection).await else { return };
    shared.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
    let queued = {
        let mut queued = shared.queued.lock().unwrap_or_else(PoisonError::into_inner);
        (!queued.is_empty()).then(|| queued.remove(0))
    };
    let answer = queued.unwrap_or_else(|| (shared.handler)(&request));
    let begun = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    let _ = match answer {
        Scripted::Answer(status, headers, body) => respond(&mut connection, status, &headers, &body).await,
        Scripted::Forward(base) => forward(&mut connection, shared, &base, request).await,
        Scripted::Reset => {
            let _ = connection.write_all(begun).await;
            let _ = connection.write_all(b"Content-Length: 1000\r\n\r\n{\"data\":").await;
            let _ = connection.flush().await;
            return;
        }
        Scripted::Oversized => {
            let _ = connection.write_all(begun).await;
            connection.write_all(b"Content-Length: 999999999\r\n\r\n{").await
        }
        Scripted::Endless => {
            let _ = connection.write_all(begun).await;
            let _ = connection.write_all(b"Connection: close\r\n\r\n{\"data\":\"").await;
            while connection.write_all(&[b'a'; 16 * 1024]).await.is_ok() {}
            return;
        }
        Scripted::Silence => {
            tokio::time::sleep(Duration::from_secs(120)).await;
            return;
        }
    };
    // All is written: wait until the caller has read it, for dropping resets.
    let _ = connection.shutdown().await;
    let mut rest = [0; 64];
    let quiet = Duration::from_secs(5);
    while matches!(tokio::time::timeout(quiet, connection.read(&mut rest)).await, Ok(Ok(read)) if read > 0) {}
}

async fn read_request(connection: &mut (impl AsyncRead + Unpin)) -> Option<ScriptedRequest> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 8 * 1024];
    let end = loop {
        if let Some(end) = memchr::memmem::find(&bytes, b"\r\n\r\n") {
            break end;
        }
        match connection.read(&mut chunk).await {
            Ok(read) if read > 0 && bytes.len() < 256 * 1024 => bytes.extend_from_slice(&chunk[..read]),
            Ok(_) | Err(_) => return None,
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
    let mut body = bytes[end + 4..].to_vec();
    while body.len() < length {
        match connection.read(&mut chunk).await {
            Ok(read) if read > 0 => body.extend_from_slice(&chunk[..read]),
            Ok(_) | Err(_) => return None,
        }
    }
    Some(ScriptedRequest { method, path, headers, body })
}

async fn respond(
    connection: &mut (impl AsyncWrite + Unpin),
    status: u16,
    headers: &[(&'static str, String)],
    body: &[u8],
) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {status} Scripted\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    connection.write_all(head.as_bytes()).await?;
    connection.write_all(body).await?;
    connection.flush().await
}

async fn forward(
    connection: &mut (impl AsyncWrite + Unpin),
    shared: &Shared,
    base: &str,
    request: ScriptedRequest,
) -> std::io::Result<()> {
    let method: Method = request.method.parse().expect("a method");
    let mut call = shared.client.request(method, format!("{base}{}", request.path)).body(request.body);
    for (name, value) in &request.headers {
        if !matches!(name.as_str(), "connection" | "content-length" | "host" | "accept-encoding") {
            call = call.header(name, value);
        }
    }
    let Ok(answer) = call.send().await else { return respond(connection, 502, &[], b"").await };
    let status = answer.status().as_u16();
    let content_type = answer.headers().get("content-type").and_then(|value| value.to_str().ok());
    let headers = [("Content-Type", content_type.unwrap_or("application/json").to_owned())];
    let body = answer.bytes().await.unwrap_or_default();
    respond(connection, status, &headers, &body).await
}
