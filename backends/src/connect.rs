//! The one way to a store: an HTTP client that dials nothing but addresses it has judged (contract B.4).
//!
//! Every vendor's client speaks through a [`Connector`]. It follows no redirect, reads no proxy settings,
//! decompresses nothing, reads no more of an answer than was asked for, and judges the address of each new
//! connection: a name is resolved once, and exactly what was judged is dialled. It knows no retry.
//!
//! The machine's own metadata service is asked through a connector of its own ([`Connector::aside`]), which dials that
//! one origin and nothing else; whoever configures a backend names no part of it.

use std::error::Error as _;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use zeroize::Zeroizing;

use hansa_model::limits::secrets as limits;
use hansa_model::secrets::address::{AddressRefusal, AddressRules};
use hansa_model::{Timestamp, WallClock};

use crate::driver::{CallError, OpenError};
use crate::tls;

/// Finds the addresses of a name. Production asks the system; a test answers what it likes.
pub trait Lookup: fmt::Debug + Send + Sync {
    /// Every address of this host, in the order they are to be tried.
    fn lookup<'a>(&'a self, host: &'a str) -> LookupCall<'a>;
}

/// A lookup on its way.
pub type LookupCall<'a> = Pin<Box<dyn Future<Output = std::io::Result<Vec<IpAddr>>> + Send + 'a>>;

/// The system's resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemLookup;

impl Lookup for SystemLookup {
    fn lookup<'a>(&'a self, host: &'a str) -> LookupCall<'a> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// What a connector is made with.
#[derive(Debug, Clone)]
pub(crate) struct ConnectorOptions {
    pub(crate) rules: Arc<AddressRules>,
    pub(crate) lookup: Arc<dyn Lookup>,
    /// Whether it speaks TLS: one connector speaks one of both, so an address is judged for what it is used.
    pub(crate) encrypted: bool,
    /// Whether the server's certificate is checked.
    pub(crate) verified: bool,
    /// PEM; none takes the public roots.
    pub(crate) roots: Option<String>,
    /// For a whole call, its logins included.
    pub(crate) timeout: Duration,
    pub(crate) wall: Arc<dyn WallClock>,
}

/// What a connector may dial.
#[derive(Clone)]
enum Reach {
    /// Whatever these rules let a backend have.
    Rules(Arc<AddressRules>),
    /// One origin, wherever it is: the node names it itself.
    Origin(url::Origin),
}

impl Reach {
    fn judge(&self, address: IpAddr, encrypted: bool) -> Result<(), AddressRefusal> {
        match self {
            Self::Rules(rules) => rules.judge(address, encrypted),
            Self::Origin(_) => Ok(()),
        }
    }
}

/// Calls to one store. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Connector {
    http: reqwest::Client,
    reach: Reach,
    lookup: Arc<dyn Lookup>,
    encrypted: bool,
    timeout: Duration,
    wall: Arc<dyn WallClock>,
    /// Whether the last answer's clock was far from ours.
    skewed: Arc<AtomicBool>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("encrypted", &self.encrypted).finish_non_exhaustive()
    }
}

/// What a store answered. It prints no more than its status and size.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// Wiped when it is dropped.
    pub(crate) body: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer({}, {} bytes)", self.status, self.body.len())
    }
}

/// Refused, and why that may be the clock's fault.
const SKEWED: &str = "the clocks are more than 2 minutes apart: check the clock";

impl Connector {
    /// Makes a client; nothing is sent.
    pub(crate) fn new(options: ConnectorOptions) -> Result<Self, OpenError> {
        if !options.verified && !options.rules.unverified_tls {
            return Err(OpenError::NotAllowed(
                "tls_verify: false needs backends.unverified_tls in the node's configuration",
            ));
        }
        let tls = tls::client_config(options.roots.as_deref(), options.verified)?;
        let (reach, encrypted) = (Reach::Rules(options.rules), options.encrypted);
        Self::with(tls, reach, options.lookup, encrypted, options.timeout, options.wall)
    }

    /// A way to this one origin and to nothing else, for what the node itself names: its address is not judged.
    /// A certificate must lead to the public roots, whatever a backend's own must.
    pub(crate) fn aside(&self, base: &url::Url, timeout: Duration) -> Result<Self, OpenError> {
        let tls = tls::client_config(None, true)?;
        let (reach, encrypted) = (Reach::Origin(base.origin()), base.scheme() == "https");
        Self::with(tls, reach, self.lookup.clone(), encrypted, timeout.min(self.timeout), self.wall.clone())
    }

    fn with(
        tls: rustls::ClientConfig,
        reach: Reach,
        lookup: Arc<dyn Lookup>,
        encrypted: bool,
        timeout: Duration,
        wall: Arc<dyn WallClock>,
    ) -> Result<Self, OpenError> {
        let gate = Gate { reach: reach.clone(), lookup: lookup.clone(), encrypted };
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .dns_resolver(Arc::new(gate))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .timeout(timeout)
            .http1_only()
            .https_only(encrypted)
            .user_agent(concat!("hansa/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|_| OpenError::NotAllowed("no client can be made for this configuration"))?;
        let skewed = Arc::new(AtomicBool::new(false));
        Ok(Self { http, reach, lookup, encrypted, timeout, wall, skewed })
    }

    /// Bounds a whole call by the configured time.
    pub(crate) async fn within<T>(
        &self,
        call: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        match tokio::time::timeout(self.timeout, call).await {
            Ok(answer) => answer,
            Err(_elapsed) => Err(TIMED_OUT),
        }
    }

    /// The time of signatures.
    pub(crate) fn now(&self) -> Timestamp {
        self.wall.now()
    }

    /// Sends a request and reads its whole answer, of at most so many bytes. An error status is an answer.
    pub(crate) async fn send(
        &self,
        request: http::Request<Bytes>,
        bytes_max: usize,
    ) -> Result<Answer, CallError> {
        let request = self.checked(request)?;
        let mut response = self.http.execute(request).await.map_err(call_error)?;
        let status = response.status().as_u16();
        let headers = std::mem::take(response.headers_mut());
        self.compare_clocks(&headers);
        let too_long = CallError::BadAnswer { reason: "the answer is too large" };
        if response.content_length().is_some_and(|length| length > bytes_max as u64) {
            return Err(too_long);
        }
        let mut body = Zeroizing::new(Vec::new());
        while let Some(chunk) = response.chunk().await.map_err(call_error)? {
            if body.len() + chunk.len() > bytes_max {
                return Err(too_long);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, headers, body })
    }

    /// Refuses what the resolver never sees: literal addresses, and a scheme that this connector does not speak.
    fn checked(&self, request: http::Request<Bytes>) -> Result<reqwest::Request, CallError> {
        let mut request = reqwest::Request::try_from(request)
            .map_err(|_| CallError::BadAnswer { reason: "a request cannot be built from it" })?;
        if (request.url().scheme() == "https") != self.encrypted {
            return Err(CallError::Address(AddressRefusal::PlainHttp));
        }
        if let Reach::Origin(origin) = &self.reach
            && request.url().origin() != *origin
        {
            return Err(CallError::Address(AddressRefusal::Forbidden));
        }
        match request.url().host() {
            Some(url::Host::Ipv4(address)) => self.reach.judge(address.into(), self.encrypted)?,
            Some(url::Host::Ipv6(address)) => self.reach.judge(address.into(), self.encrypted)?,
            Some(url::Host::Domain(_)) | None => {}
        }
        for name in SENSITIVE {
            if let Some(value) = request.headers_mut().get_mut(name) {
                value.set_sensitive(true);
            }
        }
        Ok(request)
    }

    /// Notes whether the answer's clock is far from ours: a login that is bound to time then fails without
    /// saying so.
    fn compare_clocks(&self, headers: &HeaderMap) {
        let Some(theirs) = headers.get(DATE).and_then(http_date) else { return };
        let ours = self.wall.now();
        let apart = ours.since(theirs).max(theirs.since(ours));
        self.skewed.store(apart > limits::CLOCK_SKEW_MAX, Ordering::Relaxed);
    }

    /// The refusal of a login or a permission, with the word on the clock where it fits.
    pub(crate) fn refused(&self, reason: &'static str) -> CallError {
        let skewed = self.skewed.load(Ordering::Relaxed);
        CallError::Refused { reason: if skewed { SKEWED } else { reason } }
    }
}

impl Answer {
    /// What `Retry-After` asks for, at most an hour.
    pub(crate) fn retry_after(&self, now: Timestamp) -> Option<Duration> {
        retry_after(self.headers.get(RETRY_AFTER)?, now)
    }
}

/// Seconds or a date, as `Retry-After` has it; at most an hour.
pub(crate) fn retry_after(value: &HeaderValue, now: Timestamp) -> Option<Duration> {
    let wait = match value.to_str().ok()?.trim().parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => http_date(value)?.since(now),
    };
    Some(wait.min(limits::RETRY_AFTER_MAX))
}

fn http_date(value: &HeaderValue) -> Option<Timestamp> {
    let text = value.to_str().ok()?;
    let instant = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(Timestamp::from_micros(instant.as_microsecond()))
}

/// Headers that hold credentials: marked, so that no library prints them.
const SENSITIVE: [HeaderName; 4] = [
    AUTHORIZATION,
    HeaderName::from_static("x-vault-token"),
    HeaderName::from_static("x-amz-security-token"),
    HeaderName::from_static("x-aws-ec2-metadata-token"),
];

/// Resolves a name once and gives on what it judged.
struct Gate {
    reach: Reach,
    lookup: Arc<dyn Lookup>,
    encrypted: bool,
}

impl Resolve for Gate {
    fn resolve(&self, name: Name) -> Resolving {
        let (reach, lookup, encrypted) = (self.reach.clone(), self.lookup.clone(), self.encrypted);
        Box::pin(async move {
            let found = lookup.lookup(name.as_str()).await?;
            // As a whole: a name that has one address inside is one that wants in.
            for address in &found {
                reach.judge(*address, encrypted).map_err(Refused)?;
            }
            let addresses: Vec<SocketAddr> =
                found.into_iter().map(|address| SocketAddr::new(address, 0)).collect();
            let addresses: Addrs = Box::new(addresses.into_iter());
            Ok(addresses)
        })
    }
}

/// The judgement on its way through the client's errors.
#[derive(Debug, thiserror::Error)]
#[error("the address {0}")]
struct Refused(AddressRefusal);

const TIMED_OUT: CallError =
    CallError::Unavailable { reason: "it did not answer in time", retry_after: None, connect: false };

fn call_error(error: reqwest::Error) -> CallError {
    let is_tls = error.source().is_some_and(tls::is_inside);
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(Refused(refusal)) = inner.downcast_ref() {
            return CallError::Address(*refusal);
        }
        source = inner.source();
    }
    if error.is_timeout() {
        return CallError::Unavailable {
            reason: "it did not answer in time",
            retry_after: None,
            connect: error.is_connect(),
        };
    }
    let reason = if is_tls {
        "its TLS is not acceptable: check ca_cert_path and the name in its certificate"
    } else if error.is_connect() {
        "no connection comes about"
    } else {
        "the connection broke"
    };
    CallError::Unavailable { reason, retry_after: None, connect: error.is_connect() }
}
