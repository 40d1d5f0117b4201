//! HTTP to peers that speak no QUIC: the documented routes of a SysManage node, called by us.
//!
//! Actors see [`PeerHttp`] alone. Production answers it with [`PeerClient`]; a simulation with the other
//! node's router. The client checks where it connects to: a name is resolved once, and only an address that
//! passed the check is dialled. It follows no redirect, reads no proxy settings and decompresses nothing.

use std::error::Error as _;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use hansa_model::Secret;
use hansa_model::limits::http as limits;
use hansa_model::site::is_peer_address;

use crate::error::{PeerHttpError, TlsSetupError};

/// The answer to a call, in the making.
pub type PeerCall<'a> = Pin<Box<dyn Future<Output = Result<PeerAnswer, PeerHttpError>> + Send + 'a>>;

/// The seam to HTTP peers.
pub trait PeerHttp: Send + Sync + fmt::Debug {
    /// Sends a request and waits for the whole answer.
    ///
    /// # Errors
    /// There is no answer; see [`PeerHttpError`]. An error status is an answer.
    fn call(&self, request: PeerRequest) -> PeerCall<'_>;
}

/// What to ask a peer. It prints neither path nor values, for both may hold tokens.
#[derive(Clone)]
pub struct PeerRequest {
    /// Absolute; `http` or `https`.
    pub url: String,
    /// Presented as `Authorization: Bearer`.
    pub bearer: Option<Secret<String>>,
    /// Further headers, as names and values.
    pub headers: Vec<(&'static str, String)>,
    /// The bytes to post as JSON; `None` asks with GET.
    pub body: Option<Bytes>,
}

impl PeerRequest {
    /// A GET without credentials.
    pub fn get(url: impl Into<String>) -> Self {
        Self { url: url.into(), bearer: None, headers: Vec::new(), body: None }
    }

    /// A POST of exactly these bytes, which are JSON.
    pub fn post(url: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self { body: Some(body.into()), ..Self::get(url) }
    }

    /// Adds a bearer.
    #[must_use]
    pub fn bearer(mut self, bearer: Secret<String>) -> Self {
        self.bearer = Some(bearer);
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

impl fmt::Debug for PeerRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let method = if self.body.is_some() { "POST" } else { "GET" };
        let host = Url::parse(&self.url).ok().and_then(|url| url.host_str().map(str::to_owned));
        write!(f, "PeerRequest({method} to {})", host.as_deref().unwrap_or("nowhere"))
    }
}

/// HMAC-SHA-256 of a message.
pub fn hmac_sha256(key: &Secret<Vec<u8>>, message: &[u8]) -> [u8; 32] {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key.expose());
    let mut tag = [0; 32];
    tag.copy_from_slice(ring::hmac::sign(&key, message).as_ref());
    tag
}

/// What a peer answered.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerAnswer {
    /// HTTP status.
    pub status: u16,
    /// The whole body, within the bound.
    pub body: Bytes,
}

impl PeerAnswer {
    /// Whether the status is 2xx.
    pub const fn is_success(&self) -> bool {
        self.status / 100 == 2
    }
}

impl fmt::Debug for PeerAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerAnswer({}, {} bytes)", self.status, self.body.len())
    }
}

/// How the client behaves.
#[derive(Debug, Clone)]
pub struct PeerClientConfig {
    /// Certificate authorities in PEM that are trusted besides the public ones.
    pub authorities_pem: Option<String>,
    /// Time for a call, connect included.
    pub wait_max: Duration,
    /// Bytes of an answer's body.
    pub body_bytes_max: usize,
}

impl Default for PeerClientConfig {
    fn default() -> Self {
        Self {
            authorities_pem: None,
            wait_max: limits::PEER_WAIT_MAX,
            body_bytes_max: limits::PEER_BODY_BYTES_MAX,
        }
    }
}

/// HTTP to peers over the network. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PeerClient {
    http: reqwest::Client,
    body_bytes_max: usize,
}

impl PeerClient {
    /// Makes a client.
    ///
    /// # Errors
    /// The additional authorities are not usable.
    pub fn new(config: &PeerClientConfig) -> Result<Self, TlsSetupError> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls_config(config.authorities_pem.as_deref())?)
            .dns_resolver(Arc::new(PeerResolver))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .timeout(config.wait_max)
            .pool_max_idle_per_host(1)
            .user_agent(concat!("hansa/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| TlsSetupError::Unusable(error.to_string()))?;
        Ok(Self { http, body_bytes_max: config.body_bytes_max })
    }

    async fn send(&self, request: PeerRequest) -> Result<PeerAnswer, PeerHttpError> {
        let request = self.build(request)?;
        let mut response = self.http.execute(request).await.map_err(call_error)?;
        let too_long = PeerHttpError::TooLong { bytes_max: self.body_bytes_max };
        if response.content_length().is_some_and(|length| length > self.body_bytes_max as u64) {
            return Err(too_long);
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(call_error)? {
            if body.len() + chunk.len() > self.body_bytes_max {
                return Err(too_long);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(PeerAnswer { status: response.status().as_u16(), body: body.freeze() })
    }

    fn build(&self, request: PeerRequest) -> Result<reqwest::Request, PeerHttpError> {
        let url = peer_url(&request.url)?;
        let mut builder = match request.body {
            Some(body) => self.http.post(url).header(CONTENT_TYPE, "application/json").body(body),
            None => self.http.get(url),
        };
        if let Some(bearer) = &request.bearer {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", bearer.expose()))
                .map_err(|_| PeerHttpError::Request("the bearer has characters that no header takes"))?;
            value.set_sensitive(true);
            builder = builder.header(AUTHORIZATION, value);
        }
        for (name, value) in request.headers {
            let value = HeaderValue::from_str(&value)
                .map_err(|_| PeerHttpError::Request("a header has characters that no header takes"))?;
            builder = builder.header(HeaderName::from_static(name), value);
        }
        builder.build().map_err(|_| PeerHttpError::Request("the request cannot be built"))
    }
}

impl PeerHttp for PeerClient {
    fn call(&self, request: PeerRequest) -> PeerCall<'_> {
        Box::pin(self.send(request))
    }
}

/// Parses a URL and checks what stands in it; names are checked when they are resolved.
fn peer_url(text: &str) -> Result<Url, PeerHttpError> {
    let url = Url::parse(text).map_err(|_| PeerHttpError::Request("the peer's URL does not parse"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(PeerHttpError::Request("the peer's URL must start with https:// or http://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(PeerHttpError::Request("the peer's URL must not carry credentials"));
    }
    // The parser has brought every spelling of an IPv4 address (hexadecimal, octal, short) to dots.
    let host = url.host_str().unwrap_or_default();
    let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    if literal.is_ok_and(|address| !is_peer_address(address)) {
        return Err(PeerHttpError::ForbiddenAddress);
    }
    Ok(url)
}

/// Resolves a name once and gives on what it checked, so the checked address is the one dialled.
struct PeerResolver;

impl Resolve for PeerResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            checked(addresses).map_err(Into::into)
        })
    }
}

/// Refuses a name as a whole when one of its addresses is none that a peer has.
fn checked(addresses: Vec<SocketAddr>) -> Result<Addrs, ForbiddenAddress> {
    if addresses.iter().all(|address| is_peer_address(address.ip())) {
        Ok(Box::new(addresses.into_iter()))
    } else {
        Err(ForbiddenAddress)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the name resolves to an address that no peer has")]
struct ForbiddenAddress;

fn call_error(error: reqwest::Error) -> PeerHttpError {
    if error.is_timeout() {
        return PeerHttpError::TimedOut;
    }
    // The URL may hold an enrollment token.
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        if inner.is::<ForbiddenAddress>() {
            return PeerHttpError::ForbiddenAddress;
        }
        text = inner.to_string();
        source = inner.source();
    }
    PeerHttpError::Unreachable(text)
}

fn tls_config(authorities_pem: Option<&str>) -> Result<rustls::ClientConfig, TlsSetupError> {
    let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(pem) = authorities_pem {
        let certificates = CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| TlsSetupError::NoAuthority)?;
        let (added, _ignored) = roots.add_parsable_certificates(certificates);
        if added == 0 {
            return Err(TlsSetupError::NoAuthority);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsSetupError::Unusable(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
