//! From an HTTP request to an answer: request id, route, authentication, handler, problem.
//!
//! The router is built from the table of [`crate::routes`] and from nothing else. What is not in the
//! table answers 404, what panics answers 500, and both are JSON.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hasher as _};
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts as _, RawPathParams};
use axum::http::header::{AUTHORIZATION, COOKIE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, Method as HttpMethod, Request as HttpRequest, Response};
use bytes::Bytes;
use futures_util::FutureExt as _;
use hansa_actors::Federation;
use hansa_actors::error::{OperatorAuthenticationError, RefreshError, SiteAuthenticationError};
use hansa_model::limits::{access, events, http as limits, token as token_limits};
use hansa_model::machine::bucket::{Category, Room};
use hansa_model::scope::Operator;
use hansa_model::{Secret, SiteId, limits::http::REQUEST_ID_BYTES_MAX};
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tower::ServiceExt as _;
use tracing::Instrument as _;

use crate::answer::Answer;
use crate::code::Code;
use crate::problem::Problem;
use crate::request::Request;
use crate::route::{Access, Method, Route};
use crate::routes::routes;
use crate::v1::login::REFRESH_COOKIE;
use crate::voice::Voice;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// A unit of the uploads' budget.
const UPLOAD_UNIT_BYTES: usize = 1024 * 1024;

/// Where a request came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A network: callers must prove who they are. The address is the connection's, never what a header says;
    /// none for requests in memory.
    Network(Option<IpAddr>),
    /// The node's own socket file, which only its owner can open: without a token the caller is the local
    /// operator.
    Local,
}

/// The id of one request, safe to echo and to log.
#[derive(Debug, Clone)]
struct RequestId(String);

/// Under which the tenants' own addresses lie (contract A.4).
const SECRETS: &str = "/v1/";

/// The whole HTTP surface of one node; cheap to clone.
#[derive(Clone, Debug)]
pub struct Surface {
    shared: Arc<Shared>,
    router: Router,
}

struct Shared {
    federation: Federation,
    /// Room for large bodies, in [`UPLOAD_UNIT_BYTES`].
    uploads: Semaphore,
    /// Tells the ids of this start of the node from those of others.
    request_prefix: u64,
    requests: AtomicU64,
    backups: Option<Arc<Path>>,
    streams: Streams,
}

/// Answers that have no end of their own: how many may be open, and that they must end.
#[derive(Debug, Clone)]
pub(crate) struct Streams {
    room: Arc<Semaphore>,
    stopping: watch::Sender<bool>,
}

impl Streams {
    fn new() -> Self {
        Self { room: Arc::new(Semaphore::new(events::STREAMS_MAX)), stopping: watch::Sender::new(false) }
    }

    /// Room for one stream, and what it must listen to; none when there is no room.
    pub(crate) fn open(&self) -> Option<(OwnedSemaphorePermit, watch::Receiver<bool>)> {
        let room = Arc::clone(&self.room).try_acquire_owned().ok()?;
        Some((room, self.stopping.subscribe()))
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Surface {
    /// The surface of this node, without a folder for backups.
    pub fn new(federation: Federation) -> Self {
        Self::build(federation, None)
    }

    /// The surface of this node; `POST /api/v1/backup` writes into this folder, which must exist.
    pub fn with_backups(federation: Federation, folder: &Path) -> Self {
        Self::build(federation, Some(folder.into()))
    }

    fn build(federation: Federation, backups: Option<Arc<Path>>) -> Self {
        let shared = Arc::new(Shared {
            federation,
            uploads: Semaphore::new(limits::UPLOADS_BYTES_MAX / UPLOAD_UNIT_BYTES),
            // Not a secret; it only keeps two starts of a node apart.
            request_prefix: std::collections::hash_map::RandomState::new().build_hasher().finish(),
            requests: AtomicU64::new(1),
            backups,
            streams: Streams::new(),
        });
        Self { router: router(&shared), shared }
    }

    /// Ends the answers that have no end of their own.
    pub(crate) fn end_streams(&self) {
        self.shared.streams.stopping.send_replace(true);
    }

    /// Answers one request in memory, as from the network. For simulations and tests.
    pub async fn answer(&self, request: HttpRequest<Bytes>) -> Response<Bytes> {
        let (parts, body) = self.respond(request.map(Body::from), Origin::Network(None)).await.into_parts();
        // Our answers are in memory: collecting them cannot fail.
        let bytes = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        Response::from_parts(parts, bytes)
    }

    /// Answers one request. Never fails: every refusal is an answer.
    pub(crate) async fn respond(&self, mut request: HttpRequest<Body>, origin: Origin) -> Response<Body> {
        let id = self.request_id(request.headers());
        let voice = Voice::of(request.uri().path());
        if voice == Voice::Vault {
            as_http(&mut request);
        }
        let head = request.method() == HttpMethod::HEAD;
        request.extensions_mut().insert(id.clone());
        request.extensions_mut().insert(origin);
        let routed = AssertUnwindSafe(self.router.clone().oneshot(request)).catch_unwind().await;
        let mut response = match routed {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            // The panic hook has logged where; the caller learns only that it was ours.
            Err(_) => voice.tell(Problem::internal(&"a handler panicked"), &id.0),
        };
        if let Ok(value) = HeaderValue::from_str(&id.0) {
            response.headers_mut().insert(REQUEST_ID, value);
        }
        response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if head {
            return response.map(|_| Body::empty());
        }
        response
    }

    fn request_id(&self, headers: &HeaderMap) -> RequestId {
        match headers.get(&REQUEST_ID).and_then(|value| value.to_str().ok()) {
            Some(text) if is_request_id(text) => RequestId(text.to_owned()),
            _ => {
                let number = self.shared.requests.fetch_add(1, Ordering::Relaxed);
                RequestId(format!("{:016x}-{number:x}", self.shared.request_prefix))
            }
        }
    }
}

/// Whether a caller's request id is short and plain enough to log and echo.
fn is_request_id(text: &str) -> bool {
    (1..=REQUEST_ID_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// Mounts every route of the table, all methods of a path together.
fn router(shared: &Arc<Shared>) -> Router {
    let mut paths: BTreeMap<&'static str, Vec<&'static Route>> = BTreeMap::new();
    for route in routes() {
        paths.entry(route.path).or_default().push(route);
    }
    let router = paths.into_iter().fold(Router::new(), |router, (path, routes)| {
        let shared = Arc::clone(shared);
        let routes: Arc<[&'static Route]> = routes.into();
        let service = tower::service_fn(move |request: HttpRequest<Body>| {
            let (shared, routes) = (Arc::clone(&shared), Arc::clone(&routes));
            async move { Ok::<_, std::convert::Infallible>(shared.dispatch(&routes, request).await) }
        });
        let router = match path.strip_prefix(SECRETS) {
            Some(rest) => router.route_service(&format!("/v1/t/{{tenant_id}}/{rest}"), service.clone()),
            None => router,
        };
        router.route_service(path, service)
    });
    router.fallback_service(tower::service_fn(|request: HttpRequest<Body>| async move {
        let problem = Problem::new(Code::NotFound, "there is no such route: GET /openapi.json lists them");
        Ok::<_, std::convert::Infallible>(Voice::of(request.uri().path()).tell(problem, request_id(&request)))
    }))
}

/// What a caller may ask for and how much of it is left, as draft 11 of the IETF's `RateLimit` fields has it.
fn rate_fields(headers: &mut HeaderMap, category: Category, room: Room) {
    let name = category.as_str();
    // Whole seconds, upwards: whoever waits for them has what was promised.
    let reset = room.reset.as_secs() + u64::from(room.reset.subsec_nanos() > 0);
    let policy = format!("\"{name}\";q={};w=60", room.limit);
    let left = format!("\"{name}\";r={};t={reset}", room.remaining);
    for (field, text) in [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, left)] {
        headers.insert(field, HeaderValue::from_str(&text).expect("names and numbers are ASCII"));
    }
}

fn request_id(request: &HttpRequest<Body>) -> &str {
    request.extensions().get::<RequestId>().map_or("", |id| id.0.as_str())
}

impl Shared {
    async fn dispatch(&self, routes: &[&'static Route], request: HttpRequest<Body>) -> Response<Body> {
        let id = request_id(&request).to_owned();
        let voice = Voice::of(request.uri().path());
        let wanted = Method::of(request.method());
        let Some(route) = routes.iter().find(|route| Some(route.method) == wanted) else {
            return voice.tell(Problem::method_not_allowed(allow(routes)), &id);
        };
        // The template and never the path: one path carries a credential.
        let span = tracing::info_span!("request", request = %id, method = %route.method, route = route.path);
        async {
            let mut room = None;
            let answered = tokio::time::timeout(route.wait_max, self.run(route, request, &mut room)).await;
            let timed_out = || Problem::new(Code::TimedOut, "the request took too long: retry it");
            let mut response = match answered.unwrap_or_else(|_| Err(timed_out())) {
                Ok(answer) => answer.into_response(),
                Err(problem) => {
                    tracing::debug!(code = problem.code().as_str(), "refused");
                    voice.tell(problem, &id)
                }
            };
            if let (Some(category), Some(room)) = (route.category, room) {
                rate_fields(response.headers_mut(), category, room);
            }
            response
        }
        .instrument(span)
        .await
    }

    /// Does what a request asks for. `left` becomes what its caller may still ask for, if that is limited.
    async fn run(
        &self,
        route: &'static Route,
        request: HttpRequest<Body>,
        left: &mut Option<Room>,
    ) -> Result<Answer, Problem> {
        let id = request_id(&request).to_owned();
        let origin = request.extensions().get::<Origin>().copied().unwrap_or(Origin::Network(None));
        let (mut parts, body) = request.into_parts();
        let arguments = RawPathParams::from_request_parts(&mut parts, &())
            .await
            .map_err(|_| Problem::new(Code::InvalidPath, "the path is not UTF-8: escape it as UTF-8"))?;
        let arguments: Vec<(String, String)> =
            arguments.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        // Authentication comes before anything is read of query or body (contract A.4).
        let principal = self.authenticate(route, origin, &parts.headers, &arguments).await?;
        if let (Some(category), Authenticated::Operator(operator)) = (route.category, &principal) {
            let (admitted, room) = self.federation.admit(operator, category);
            *left = room;
            admitted.map_err(|wait| {
                let detail = "too many calls of this kind: wait as long as Retry-After says";
                Problem::new(Code::RateLimited, detail).retry_after(Some(wait))
            })?;
        }
        let request = Request::new(
            self.federation.clone(),
            route,
            arguments,
            HttpRequest::from_parts(parts, body),
            self.backups.clone(),
            self.streams.clone(),
            origin,
            id,
        );
        request.check_body()?;
        let weight = request.body_weight();
        let _room = self.room_for(route, weight).await?;
        match (route.access, principal) {
            (Access::Public(handler) | Access::TokenInPath(handler), _) => handler(request).await,
            (Access::RefreshCookie(handler), Authenticated::Login(token)) => handler(request, token).await,
            (
                Access::Operator(_, handler) | Access::AnyOperator(_, handler),
                Authenticated::Operator(operator),
            ) => handler(request, operator).await,
            (Access::SiteBearer(handler), Authenticated::Site(site)) => handler(request, site).await,
            (Access::CoordinatorBearer(handler), Authenticated::Coordinator) => handler(request).await,
            (
                Access::Operator(..)
                | Access::AnyOperator(..)
                | Access::RefreshCookie(_)
                | Access::CoordinatorBearer(_)
                | Access::SiteBearer(_),
                _,
            ) => Err(Problem::internal(&"a principal does not fit its route")),
        }
    }

    /// Judges who asks, by the route's line of the table.
    async fn authenticate(
        &self,
        route: &Route,
        origin: Origin,
        headers: &HeaderMap,
        arguments: &[(String, String)],
    ) -> Result<Authenticated, Problem> {
        match route.access {
            Access::Public(_) | Access::TokenInPath(_) => Ok(Authenticated::Nobody),
            Access::RefreshCookie(_) => {
                refresh_token(headers).map(Authenticated::Login).ok_or_else(|| RefreshError::Ended.into())
            }
            Access::Operator(scope, _) => {
                let operator = self.operator(Voice::of(route.path), origin, headers).await?;
                if !operator.may(scope) {
                    return Err(Problem::permission_denied(scope));
                }
                Ok(Authenticated::Operator(operator))
            }
            Access::AnyOperator(scopes, _) => {
                let operator = self.operator(Voice::of(route.path), origin, headers).await?;
                if !scopes.iter().any(|scope| operator.may(*scope)) {
                    return Err(Problem::permission_denied_any(scopes));
                }
                Ok(Authenticated::Operator(operator))
            }
            Access::CoordinatorBearer(_) => {
                match bearer(headers) {
                    Bearer::Absent | Bearer::Malformed => self.federation.authenticate_coordinator(None)?,
                    Bearer::Sent(token) => self.federation.authenticate_coordinator(Some(token))?,
                }
                Ok(Authenticated::Coordinator)
            }
            Access::SiteBearer(_) => {
                let site = match bearer(headers) {
                    Bearer::Absent => self.federation.authenticate_site(None)?,
                    Bearer::Malformed => return Err(SiteAuthenticationError::Unknown.into()),
                    Bearer::Sent(token) => self.federation.authenticate_site(Some(token))?,
                };
                let named = arguments.iter().find(|(name, _)| name == "site_id");
                match named.map(|(_, value)| value.parse::<SiteId>()) {
                    Some(Ok(named)) if named == site => Ok(Authenticated::Site(site)),
                    Some(Err(error)) => {
                        Err(Problem::new(Code::InvalidPath, format!("site_id in the path {error}")))
                    }
                    Some(Ok(named)) => {
                        self.federation.record_site_mismatch(site, named).await;
                        Err(SiteAuthenticationError::OtherSite.into())
                    }
                    None => Err(SiteAuthenticationError::OtherSite.into()),
                }
            }
        }
    }

    async fn operator(
        &self,
        voice: Voice,
        origin: Origin,
        headers: &HeaderMap,
    ) -> Result<Arc<Operator>, Problem> {
        let presented = match voice {
            Voice::Vault => vault_bearer(headers),
            Voice::Sites | Voice::Secrets => bearer(headers),
        };
        match (presented, origin) {
            (Bearer::Sent(token), _) => Ok(self.federation.authenticate(token).await?),
            (Bearer::Absent, Origin::Local) => Ok(Arc::new(Federation::local_operator())),
            (Bearer::Absent, Origin::Network(_)) => Err(OperatorAuthenticationError::Missing.into()),
            (Bearer::Malformed, _) => Err(OperatorAuthenticationError::Invalid.into()),
        }
    }

    /// Waits until there is room for a large body. The route's time limit ends the wait.
    async fn room_for(
        &self,
        route: &Route,
        weight: usize,
    ) -> Result<Option<tokio::sync::SemaphorePermit<'_>>, Problem> {
        if route.body_bytes_max <= limits::BODY_BYTES_MAX {
            return Ok(None);
        }
        let bytes = weight.min(limits::UPLOAD_WEIGHT_BYTES_MAX);
        let units = u32::try_from(bytes.div_ceil(UPLOAD_UNIT_BYTES)).unwrap_or(u32::MAX);
        let permit = self.uploads.acquire_many(units).await.map_err(|error| Problem::internal(&error))?;
        Ok(Some(permit))
    }
}

/// Who a request comes from, judged.
enum Authenticated {
    Nobody,
    Operator(Arc<Operator>),
    Login(Secret<String>),
    Site(SiteId),
    Coordinator,
}

/// What the `Authorization` header holds.
pub(crate) enum Bearer<'a> {
    Absent,
    Malformed,
    Sent(&'a str),
}

pub(crate) fn bearer(headers: &HeaderMap) -> Bearer<'_> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Bearer::Absent };
    if values.next().is_some() || value.len() > token_limits::BEARER_BYTES_MAX {
        return Bearer::Malformed;
    }
    match value.to_str().ok().and_then(|text| text.split_once(' ')) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty() => {
            Bearer::Sent(token.trim())
        }
        Some(_) | None => Bearer::Malformed,
    }
}

/// What a client of Vault presents: its own header, or the usual one.
pub(crate) fn vault_bearer(headers: &HeaderMap) -> Bearer<'_> {
    let mut values = headers.get_all("x-vault-token").iter();
    let Some(value) = values.next() else { return bearer(headers) };
    match value.to_str() {
        Ok(token) if values.next().is_none() && token.len() <= token_limits::BEARER_BYTES_MAX => {
            Bearer::Sent(token.trim())
        }
        Ok(_) | Err(_) => Bearer::Malformed,
    }
}

/// Vault's own method as the one that stands for it, its slash at the end of folders as none, and what it takes
/// for true as `true`: clients write what their language calls it.
fn as_http(request: &mut HttpRequest<Body>) {
    let path = request.uri().path().trim_end_matches('/').to_owned();
    let is_list = request.method().as_str() == "LIST";
    if is_list {
        *request.method_mut() = HttpMethod::GET;
    }
    let mut query: Vec<&str> = request.uri().query().into_iter().flat_map(|query| query.split('&')).collect();
    for pair in &mut query {
        match *pair {
            "list=1" | "list=t" | "list=T" | "list=TRUE" | "list=True" => *pair = "list=true",
            "list=0" | "list=f" | "list=F" | "list=FALSE" | "list=False" => *pair = "list=false",
            _ => {}
        }
    }
    if is_list {
        query.retain(|pair| !pair.starts_with("list="));
        query.push("list=true");
    }
    let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
    // A path and query that were parsed once parse again.
    if let Ok(uri) = format!("{path}{query}").parse() {
        *request.uri_mut() = uri;
    }
}

/// The refresh token in its cookie; none when there is not exactly one.
fn refresh_token(headers: &HeaderMap) -> Option<Secret<String>> {
    let texts = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = texts.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut values = pairs.filter(|(name, _)| *name == REFRESH_COOKIE).map(|(_, value)| value);
    let value = values.next().filter(|value| (1..=access::REFRESH_TOKEN_BYTES_MAX).contains(&value.len()))?;
    values.next().is_none().then(|| Secret::new(value.to_owned()))
}

fn allow(routes: &[&'static Route]) -> String {
    let mut methods: Vec<&str> = routes.iter().map(|route| route.method.as_str()).collect();
    if methods.contains(&"GET") {
        methods.push("HEAD");
    }
    methods.sort_unstable();
    methods.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (AUTHORIZATION, HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn bearer_is_one_header_of_the_bearer_scheme() {
        assert!(matches!(bearer(&headers(&["Bearer abc"])), Bearer::Sent("abc")));
        assert!(matches!(bearer(&headers(&["bearer  abc "])), Bearer::Sent("abc")));
        assert!(matches!(bearer(&headers(&[])), Bearer::Absent));
        for malformed in [&["Basic abc"][..], &["Bearer"], &["Bearer "], &["abc"], &["Bearer a", "Bearer b"]]
        {
            assert!(matches!(bearer(&headers(malformed)), Bearer::Malformed), "{malformed:?}");
        }
        assert!(matches!(bearer(&headers(&[&format!("Bearer {}", "x".repeat(20_000))])), Bearer::Malformed));
    }

    #[test]
    fn refresh_token_is_read_from_exactly_one_cookie() {
        let cookies = |values: &[&str]| -> HeaderMap {
            values.iter().map(|value| (COOKIE, HeaderValue::from_str(value).unwrap())).collect()
        };
        let read = |values: &[&str]| refresh_token(&cookies(values)).map(|token| token.expose().clone());

        assert_eq!(read(&["a=b; refresh_token=x.y; c=d"]).as_deref(), Some("x.y"));
        assert_eq!(read(&["a=b", "refresh_token=x.y"]).as_deref(), Some("x.y"));
        for none in
            [&["refresh_token="][..], &["xrefresh_token=a"], &[], &["refresh_token=a; refresh_token=b"]]
        {
            assert_eq!(read(none), None, "{none:?}");
        }
        assert_eq!(read(&[&format!("refresh_token={}", "x".repeat(300))]), None);
    }

    #[test]
    fn request_id_of_a_caller_is_short_and_plain() {
        assert!(is_request_id("01890a5d-ac96-774b-bcce-b302099a8057"));
        for text in ["", "a b", "a\"b", "ä", &"x".repeat(65)] {
            assert!(!is_request_id(text), "{text}");
        }
    }

    #[test]
    fn allow_lists_head_where_get_is() {
        let routes: Vec<&'static Route> =
            routes().filter(|route| route.path == "/api/v1/federation/sites").collect();

        assert_eq!(allow(&routes), "GET, HEAD, POST");
    }
}
