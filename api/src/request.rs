//! What a handler sees of a request: path arguments, query and body, each checked where it is read.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use bytes::{Bytes, BytesMut};
use hansa_actors::{Federation, SignedRequest};
use hansa_model::limits::http as limits;
use hansa_model::machine::stamp::STAMP_HEADER;
use hansa_model::{Secret, SiteId};
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::code::Code;
use crate::json;
use crate::problem::Problem;
use crate::query::Query;
use crate::route::Route;
use crate::surface::{Bearer, Origin, Streams, bearer, vault_bearer};

/// The header that carries a peer's signature over the body (contract 1.6).
const SIGNATURE: &str = "x-federation-signature";

/// One request behind the authentication.
pub(crate) struct Request {
    /// The node.
    pub(crate) federation: Federation,
    route: &'static Route,
    arguments: Vec<(String, String)>,
    path: String,
    id: String,
    query: Option<String>,
    headers: HeaderMap,
    body: Body,
    backups: Option<Arc<Path>>,
    streams: Streams,
    origin: Origin,
}

/// The kind of body that the caller says it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContentKind {
    /// JSON.
    Json,
    /// One JSON value a line.
    Ndjson,
    /// Nothing said, or what `curl` says by itself.
    Unsaid,
}

impl Request {
    /// Takes a request apart. The path arguments are decoded already.
    #[expect(clippy::too_many_arguments, reason = "all that the surface knows of a request")]
    pub(crate) fn new(
        federation: Federation,
        route: &'static Route,
        arguments: Vec<(String, String)>,
        request: axum::http::Request<Body>,
        backups: Option<Arc<Path>>,
        streams: Streams,
        origin: Origin,
        id: String,
    ) -> Self {
        let (parts, body) = request.into_parts();
        let query = parts.uri.query().map(str::to_owned);
        let path = parts.uri.path().to_owned();
        Self {
            federation,
            route,
            arguments,
            path,
            id,
            query,
            headers: parts.headers,
            body,
            backups,
            streams,
            origin,
        }
    }

    /// The path argument of this name. Not logged: one of them is a credential.
    pub(crate) fn argument(&self, name: &str) -> &str {
        self.arguments.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// The path as it was sent, nothing decoded. Not logged.
    pub(crate) fn raw_path(&self) -> &str {
        &self.path
    }

    /// The id of this request, as in its answer.
    pub(crate) fn id_text(&self) -> &str {
        &self.id
    }

    /// A path argument that is an id.
    pub(crate) fn id<T: std::str::FromStr>(&self, name: &'static str) -> Result<T, Problem>
    where
        T::Err: std::fmt::Display,
    {
        self.argument(name)
            .parse()
            .map_err(|error| Problem::new(Code::InvalidPath, format!("{name} in the path {error}")))
    }

    /// The site that the path names.
    pub(crate) fn site_id(&self) -> Result<SiteId, Problem> {
        self.id("site_id")
    }

    /// The folder that the node keeps backups in.
    pub(crate) fn backups(&self) -> Option<&Path> {
        self.backups.as_deref()
    }

    /// A header that is plain text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The address that the connection comes from; none for the node's own socket file.
    pub(crate) const fn source_ip(&self) -> Option<IpAddr> {
        match self.origin {
            Origin::Network(address) => address,
            Origin::Local => None,
        }
    }

    /// What the caller of the Vault surface presents.
    pub(crate) fn vault_token(&self) -> Option<Secret<String>> {
        match vault_bearer(&self.headers) {
            Bearer::Sent(token) => Some(Secret::new(token.to_owned())),
            Bearer::Absent | Bearer::Malformed => None,
        }
    }

    /// The operator's token, for an answer that outlives the request; none for the local operator.
    pub(crate) fn credential(&self) -> Option<Secret<String>> {
        match (bearer(&self.headers), self.origin) {
            (Bearer::Absent, Origin::Local) => None,
            (Bearer::Sent(token), _) => Some(Secret::new(token.to_owned())),
            // The request was authenticated, so this is no way in; an empty token is never good.
            (Bearer::Absent, Origin::Network(_)) | (Bearer::Malformed, _) => Some(Secret::new(String::new())),
        }
    }

    /// Room for an answer that has no end of its own, and what tells it to end; none when there is none.
    pub(crate) fn stream_room(&self) -> Option<(OwnedSemaphorePermit, watch::Receiver<bool>)> {
        self.streams.open()
    }

    /// The query's parameters.
    pub(crate) fn query(&self) -> Result<Query, Problem> {
        Query::parse(self.query.as_deref().unwrap_or_default())
    }

    /// The whole body as JSON.
    pub(crate) async fn json<T: DeserializeOwned>(&mut self) -> Result<T, Problem> {
        self.require_json()?;
        json::parse(&self.bytes().await?)
    }

    /// The whole body as JSON, or the default when there is none.
    pub(crate) async fn optional_json<T: DeserializeOwned + Default>(&mut self) -> Result<T, Problem> {
        let bytes = self.bytes().await?;
        if bytes.trim_ascii().is_empty() {
            return Ok(T::default());
        }
        self.require_json()?;
        json::parse(&bytes)
    }

    /// The whole body as JSON, with its exact bytes.
    pub(crate) async fn json_and_bytes<T: DeserializeOwned>(&mut self) -> Result<(T, Bytes), Problem> {
        self.require_json()?;
        let bytes = self.bytes().await?;
        Ok((json::parse(&bytes)?, bytes))
    }

    /// The exact bytes of a site's body, their signature verified where the node enforces it.
    pub(crate) async fn signed(&mut self, site: SiteId) -> Result<Bytes, Problem> {
        self.require_json()?;
        let bytes = self.bytes().await?;
        self.federation.verify_signature(site, &self.as_signed(&bytes))?;
        Ok(bytes)
    }

    /// The exact bytes of the coordinator's body, their signature verified where the node enforces it.
    pub(crate) async fn signed_by_coordinator(&mut self) -> Result<Bytes, Problem> {
        self.require_json()?;
        let bytes = self.bytes().await?;
        self.federation.verify_coordinator(&self.as_signed(&bytes))?;
        Ok(bytes)
    }

    fn as_signed<'a>(&'a self, body: &'a [u8]) -> SignedRequest<'a> {
        let header = |name| self.header(name);
        SignedRequest {
            method: self.route.method.as_str(),
            path: &self.path,
            body,
            signature: header(SIGNATURE),
            stamp: header(STAMP_HEADER),
        }
    }

    /// What the caller says the body is.
    ///
    /// # Errors
    /// Something that no route takes.
    pub(crate) fn content_kind(&self) -> Result<ContentKind, Problem> {
        let Some(value) = self.headers.get(CONTENT_TYPE) else { return Ok(ContentKind::Unsaid) };
        let text = value.to_str().unwrap_or_default();
        let kind = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match kind.as_str() {
            "application/json" => Ok(ContentKind::Json),
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Ok(ContentKind::Ndjson),
            "" | "text/plain" | "application/octet-stream" | "application/x-www-form-urlencoded" => {
                Ok(ContentKind::Unsaid)
            }
            other if other.ends_with("+json") => Ok(ContentKind::Json),
            _ => Err(unsupported_media_type()),
        }
    }

    /// The next chunk of the body; none at its clean end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Problem> {
        loop {
            let frame = match tokio::time::timeout(limits::BODY_IDLE_WAIT_MAX, self.body.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => {
                    tracing::debug!(%error, "body broke off");
                    return Err(Problem::new(Code::BodyIncomplete, "the body broke off: send it again"));
                }
                Err(_) => {
                    return Err(Problem::new(
                        Code::BodyIncomplete,
                        "the body stopped arriving: send it again",
                    ));
                }
            };
            // Trailers say nothing that we ask for.
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
    }

    /// Refuses early what could only be refused later: a coded body, or one that says it is too large.
    pub(crate) fn check_body(&self) -> Result<(), Problem> {
        if let Some(coding) = self.headers.get(CONTENT_ENCODING)
            && coding.as_bytes() != b"identity"
        {
            return Err(Problem::new(Code::UnsupportedEncoding, "send the body without a content encoding"));
        }
        match self.content_length() {
            Some(length) if length > self.route.body_bytes_max as u64 => Err(self.too_large()),
            _ => Ok(()),
        }
    }

    /// What the body may take in memory, in bytes: what it says, or the route's bound.
    pub(crate) fn body_weight(&self) -> usize {
        let bound = self.route.body_bytes_max;
        self.content_length()
            .and_then(|length| usize::try_from(length).ok())
            .map_or(bound, |length| length.min(bound))
    }

    /// The body is larger than the route takes.
    pub(crate) fn too_large(&self) -> Problem {
        let bytes_max = self.route.body_bytes_max;
        Problem::new(Code::BodyTooLarge, format!("the body may have at most {bytes_max} bytes: split it"))
    }

    /// Bytes of the body that the route takes at most.
    pub(crate) fn body_bytes_max(&self) -> usize {
        self.route.body_bytes_max
    }

    fn content_length(&self) -> Option<u64> {
        self.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }

    fn require_json(&self) -> Result<(), Problem> {
        match (self.content_kind()?, self.headers.contains_key(CONTENT_TYPE)) {
            (ContentKind::Json, _) | (ContentKind::Unsaid, false) => Ok(()),
            (ContentKind::Ndjson | ContentKind::Unsaid, _) => Err(unsupported_media_type()),
        }
    }

    async fn bytes(&mut self) -> Result<Bytes, Problem> {
        let bytes_max = self.route.body_bytes_max;
        let Some(first) = self.chunk().await? else { return Ok(Bytes::new()) };
        if first.len() > bytes_max {
            return Err(self.too_large());
        }
        let Some(second) = self.chunk().await? else { return Ok(first) };
        let mut bytes = BytesMut::from(first);
        let mut next = Some(second);
        while let Some(chunk) = next {
            if bytes.len() + chunk.len() > bytes_max {
                return Err(self.too_large());
            }
            bytes.extend_from_slice(&chunk);
            next = self.chunk().await?;
        }
        Ok(bytes.freeze())
    }
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").field("route", self.route).finish_non_exhaustive()
    }
}

fn unsupported_media_type() -> Problem {
    Problem::new(
        Code::UnsupportedMediaType,
        "send the body as JSON with the header Content-Type: application/json",
    )
}
