//! The HTTP client of the command line: one node, reached by URL or by the socket in its data folder.
//!
//! It knows addresses, credentials and how a refusal becomes a [`Failure`]; it knows no route. Over the
//! socket no token is needed: who may open a file of mode 0600 is the operator.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hansa_model::Secret;
use hansa_model::secrets::id::TenantId;
use reqwest::{Method, Url};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Serialize;
use serde_json::Value;

use crate::cli::failure::{Exit, Failure, chain};

/// Name of the socket in a data folder.
pub const SOCKET_FILE: &str = "hansa.sock";

/// Time to find out that nobody listens.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(5);
/// Bytes of one line of a stream; an event has far fewer.
const LINE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Rows asked for at once of a list that comes in pages: as many as the API gives.
const PAGE_ROWS_MAX: usize = 1_000;
/// Time between two pieces of an answer. A bulk import answers when its last row is on disk.
const READ_WAIT_MAX: Duration = Duration::from_secs(120);

/// A node that the command line talks to.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<Secret<String>>,
    /// Whose secrets are meant; none for those of the token's own tenant.
    tenant: Option<TenantId>,
    /// How people named the node, for messages.
    name: String,
}

/// An accepted request's answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The body as it came; empty for 204.
    pub text: String,
    /// The body as JSON; null when it is none.
    pub json: Value,
}

impl Client {
    /// A node at a URL.
    ///
    /// # Errors
    /// The URL or the certificate file is not usable.
    pub fn at_url(
        address: &str,
        token: Option<Secret<String>>,
        authorities: Option<&Path>,
    ) -> Result<Self, Failure> {
        let base = parse_address(address)?;
        let http = builder()
            .tls_backend_preconfigured(tls("--cacert", authorities)?)
            .build()
            .map_err(|error| Failure::new(Exit::Failed, chain(&error)))?;
        Ok(Self { http, base, token, tenant: None, name: address.trim_end_matches('/').to_owned() })
    }

    /// The node that runs on this data folder.
    ///
    /// # Errors
    /// The client cannot be built; whether somebody listens shows with the first request.
    pub fn at_socket(data_dir: &Path) -> Result<Self, Failure> {
        let socket = socket_path(data_dir);
        let http = builder()
            // The socket carries plain HTTP; the roots are never used, but no process default is consulted.
            .tls_backend_preconfigured(tls("--cacert", None)?)
            .unix_socket(socket.as_path())
            .build()
            .map_err(|error| Failure::new(Exit::Failed, chain(&error)))?;
        let base = parse_address("http://localhost")?;
        Ok(Self { http, base, token: None, tenant: None, name: socket.display().to_string() })
    }

    /// The same node, asked for another tenant's secrets; none leaves it as it is.
    #[must_use]
    pub fn for_tenant(&self, tenant: Option<TenantId>) -> Self {
        Self { tenant: tenant.or_else(|| self.tenant.clone()), ..self.clone() }
    }

    /// How people named the node.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The URL that the client was given; none over a socket.
    pub fn url(&self) -> Option<&str> {
        (!self.name.ends_with(SOCKET_FILE)).then_some(self.name.as_str())
    }

    /// Reads a resource. `query` values are encoded here.
    ///
    /// # Errors
    /// Refused or unreachable.
    pub async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Answer, Failure> {
        self.send(Method::GET, path, query, None).await
    }

    /// Reads a list that comes in pages (`cursor`, `has_more`) to its end, or as many rows of it as asked for.
    /// The answer is the last page with the rows, and the warnings, of all.
    ///
    /// # Errors
    /// Refused or unreachable.
    pub async fn get_pages(
        &self,
        path: &str,
        query: &[(&str, String)],
        key: &str,
        limit: Option<usize>,
    ) -> Result<Answer, Failure> {
        let (mut rows, mut warnings) = (Vec::new(), Vec::new());
        let mut cursor: Option<String> = None;
        loop {
            let wanted = limit.map_or(PAGE_ROWS_MAX, |limit| limit.saturating_sub(rows.len()));
            let mut query = query.to_vec();
            query.push(("limit", wanted.min(PAGE_ROWS_MAX).to_string()));
            query.extend(cursor.map(|cursor| ("cursor", cursor)));
            let mut body = self.get(path, &query).await?.json;
            if !body.is_object() {
                return Err(Failure::new(Exit::Failed, format!("{} answers with no list", self.name)));
            }
            let mut take = |name: &str| match body.get_mut(name).map(Value::take) {
                Some(Value::Array(items)) => items,
                Some(_) | None => Vec::new(),
            };
            rows.append(&mut take(key));
            warnings.append(&mut take("warnings"));
            cursor = body.get("cursor").and_then(Value::as_str).map(str::to_owned);
            if cursor.is_none() || limit.is_some_and(|limit| rows.len() >= limit) {
                body[key] = Value::Array(rows);
                if !warnings.is_empty() {
                    body["warnings"] = Value::Array(warnings);
                }
                return Ok(Answer { text: body.to_string(), json: body });
            }
        }
    }

    /// Reads an answer line by line, as it comes. It may have no end.
    ///
    /// # Errors
    /// Refused or unreachable.
    pub async fn lines(&self, path: &str, query: &[(&str, String)]) -> Result<Lines, Failure> {
        let request = self.request(Method::GET, path, query);
        let request = request.header(reqwest::header::ACCEPT, "application/x-ndjson");
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status().as_u16();
        let exit = Exit::of_status(status);
        if exit != Exit::Done {
            let text = response.text().await.map_err(|error| self.unreachable(&error))?;
            let body = serde_json::from_str(&text).unwrap_or(Value::Null);
            return Err(refusal(exit, status, &body, None));
        }
        Ok(Lines { client: self.clone(), response, buffer: Vec::new() })
    }

    /// Sends a JSON body; none sends no body.
    ///
    /// # Errors
    /// Refused or unreachable.
    pub async fn send_json<B: Serialize + Sync>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<Answer, Failure> {
        self.send_json_with(method, path, &[], body).await
    }

    /// The same with query parameters, which are encoded here.
    ///
    /// # Errors
    /// Refused or unreachable.
    pub async fn send_json_with<B: Serialize + Sync>(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        body: Option<&B>,
    ) -> Result<Answer, Failure> {
        let bytes = body
            .map(serde_json::to_vec)
            .transpose()
            .map_err(|error| Failure::new(Exit::Failed, format!("the request cannot be written: {error}")))?;
        self.send(method, path, query, bytes.map(|bytes| ("application/json", bytes))).await
    }

    /// Sends NDJSON.
    ///
    /// # Errors
    /// Refused or unreachable.
    pub async fn send_lines(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        lines: Vec<u8>,
    ) -> Result<Answer, Failure> {
        self.send(method, path, query, Some(("application/x-ndjson", lines))).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        body: Option<(&'static str, Vec<u8>)>,
    ) -> Result<Answer, Failure> {
        let mut request = self.request(method, path, query);
        if let Some((content_type, bytes)) = body {
            request = request.header(reqwest::header::CONTENT_TYPE, content_type).body(bytes);
        }
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status().as_u16();
        let header_id =
            response.headers().get("x-request-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
        let text = response.text().await.map_err(|error| self.unreachable(&error))?;
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        match Exit::of_status(status) {
            Exit::Done => Ok(Answer { text, json }),
            exit @ (Exit::Failed
            | Exit::Usage
            | Exit::NotFound
            | Exit::NotAllowed
            | Exit::Conflict
            | Exit::Unreachable
            | Exit::Interrupted) => Err(refusal(exit, status, &json, header_id)),
        }
    }

    fn request(&self, method: Method, path: &str, query: &[(&str, String)]) -> reqwest::RequestBuilder {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self.http.request(method, url);
        if let Some(tenant) = &self.tenant {
            request = request.header("x-tenant-id", tenant.as_str());
        }
        match &self.token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let reason = deepest_cause(error);
        let what = if error.is_timeout() {
            format!("{} did not answer in time", self.name)
        } else {
            format!("{} cannot be reached: {reason}", self.name)
        };
        Failure::new(Exit::Unreachable, what).next("hansa serve, or check --addr and --data-dir")
    }
}

/// The lines of an answer that is still being written.
#[derive(Debug)]
pub struct Lines {
    client: Client,
    response: reqwest::Response,
    buffer: Vec<u8>,
}

impl Lines {
    /// The next line, without its end; none at the end of the answer. A last line without an end is dropped:
    /// it was cut off.
    ///
    /// # Errors
    /// The node went away, or sends a line that never ends.
    pub async fn next(&mut self) -> Result<Option<String>, Failure> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Ok(Some(String::from_utf8_lossy(&line[..end]).into_owned()));
            }
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err(Failure::new(Exit::Failed, "the node sends a line that is too long"));
            }
            match self.response.chunk().await {
                Ok(Some(chunk)) => self.buffer.extend_from_slice(&chunk),
                Ok(None) => return Ok(None),
                Err(error) => return Err(self.client.unreachable(&error)),
            }
        }
    }
}

/// Where the socket of a data folder lies.
pub fn socket_path(data_dir: &Path) -> PathBuf {
    data_dir.join(SOCKET_FILE)
}

pub(crate) fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .no_proxy()
        .user_agent(concat!("hansa/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_WAIT_MAX)
        .read_timeout(READ_WAIT_MAX)
}

fn parse_address(address: &str) -> Result<Url, Failure> {
    let hint = "--addr http://127.0.0.1:8080";
    let url = Url::parse(address)
        .map_err(|error| Failure::usage(format!("--addr {address} is not a URL: {error}")).next(hint))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(
            Failure::usage(format!("--addr {address} must start with http:// or https://")).next(hint)
        );
    }
    Ok(url)
}

/// TLS with the authorities of the web, and those of a file beside them that `key` named.
pub(crate) fn tls(key: &str, authorities: Option<&Path>) -> Result<rustls::ClientConfig, Failure> {
    let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = authorities {
        let bad = |reason: String| Failure::usage(format!("{key} {}: {reason}", path.display()));
        for certificate in CertificateDer::pem_file_iter(path).map_err(|error| bad(error.to_string()))? {
            let certificate = certificate.map_err(|error| bad(error.to_string()))?;
            roots.add(certificate).map_err(|error| bad(error.to_string()))?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// Makes a failure of a problem body (architecture 11), or of the `error` object that stands alone where
/// something in front of the node speaks for it (contract of the secret federation API, A.5).
fn refusal(exit: Exit, status: u16, body: &Value, header_id: Option<String>) -> Failure {
    let alone = |name: &str| match name {
        "detail" => body.get("error")?.get("message"),
        name => body.get("error")?.get(name),
    };
    let text = |name: &str| body.get(name).or_else(|| alone(name)).and_then(Value::as_str).map(str::to_owned);
    let detail = text("detail").unwrap_or_else(|| format!("the node answered {status} without a reason"));
    let code = text("code");
    // Other refusals name the next command themselves.
    let next =
        (code.as_deref() == Some("removal_guard")).then_some("the same command with --confirm-removals");
    // 502 says that a peer is at fault; one that answered with a refusal was reached.
    let exit = if code.as_deref() == Some("coordinator_refused") { Exit::Conflict } else { exit };
    Failure {
        exit,
        what: with_bad_fields(detail, body),
        next: next.map(str::to_owned),
        request_id: text("request_id").or(header_id),
    }
}

/// Adds the fields that the node names.
fn with_bad_fields(mut detail: String, body: &Value) -> String {
    let fields = body.get("errors").and_then(Value::as_array).into_iter().flatten();
    for field in fields {
        let part = |name: &str| field.get(name).and_then(Value::as_str);
        let pointer = part("pointer").unwrap_or("body");
        if let Some(reason) = part("detail") {
            detail.push_str(&format!("\n  {pointer}: {reason}"));
        }
    }
    detail
}

/// The cause that says something; those above it repeat the URL.
pub(crate) fn deepest_cause(error: &reqwest::Error) -> String {
    let mut deepest: &dyn std::error::Error = error;
    while let Some(cause) = deepest.source() {
        deepest = cause;
    }
    deepest.to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn refusal_carries_the_nodes_words_and_the_request_id() {
        let body = json!({"detail": "there is no site x", "code": "site_not_found", "request_id": "0190"});

        let failure = refusal(Exit::NotFound, 404, &body, None);

        assert_eq!(failure.what, "there is no site x");
        assert_eq!(failure.request_id.as_deref(), Some("0190"));
    }

    #[test]
    fn refusal_without_problem_members_is_read_from_its_error_object() {
        let error =
            json!({"code": "secret_not_found", "message": "there is no secret a/b", "request_id": "0190"});

        let failure = refusal(Exit::NotFound, 404, &json!({ "error": error }), None);

        assert_eq!(failure.what, "there is no secret a/b");
        assert_eq!(failure.request_id.as_deref(), Some("0190"));
        assert_eq!(failure.next, None);
    }

    #[test]
    fn removal_guard_names_the_flag_that_confirms() {
        let body = json!({"detail": "12 of 20 hosts would be removed", "code": "removal_guard"});

        let failure = refusal(Exit::Conflict, 409, &body, Some("id".to_owned()));

        assert_eq!(failure.next.as_deref(), Some("the same command with --confirm-removals"));
        assert_eq!(failure.request_id.as_deref(), Some("id"));
    }

    #[test]
    fn coordinator_that_refused_was_reached() {
        let body = json!({"detail": "the coordinator refused", "code": "coordinator_refused"});

        assert_eq!(refusal(Exit::Unreachable, 502, &body, None).exit, Exit::Conflict);
    }

    #[test]
    fn address_without_a_scheme_is_a_usage_error() {
        let failure = parse_address("localhost:8080").unwrap_err();

        assert_eq!(failure.exit, Exit::Usage);
    }

    #[tokio::test]
    async fn closed_socket_is_unreachable() {
        let folder = tempfile::tempdir().unwrap();
        let client = Client::at_socket(folder.path()).unwrap();

        let failure = client.get("/livez", &[]).await.unwrap_err();

        assert_eq!(failure.exit, Exit::Unreachable);
    }
}
