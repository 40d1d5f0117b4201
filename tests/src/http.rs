//! Plain HTTP, as any client would speak it.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::Value;

/// Calls to one node as one principal.
#[derive(Debug, Clone)]
pub struct Api {
    client: reqwest::Client,
    base: String,
    bearer: Option<String>,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as it came.
    pub text: String,
    /// The body as JSON; null when it is none.
    pub body: Value,
    request: String,
}

impl Api {
    /// Calls without a credential.
    ///
    /// # Panics
    /// The client cannot be made.
    pub fn new(base: impl Into<String>) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring knows the default versions")
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(60))
            .tls_backend_preconfigured(tls)
            .build()
            .expect("a client without options");
        Self { client, base: base.into(), bearer: None }
    }

    /// The same with a bearer.
    #[must_use]
    pub fn bearer(&self, bearer: impl Into<String>) -> Self {
        Self { bearer: Some(bearer.into()), ..self.clone() }
    }

    /// The same without one.
    #[must_use]
    pub fn anonymous(&self) -> Self {
        Self { bearer: None, ..self.clone() }
    }

    /// The node's base URL.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None, &[]).await
    }

    /// POST of JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, Some(body.to_string().into_bytes()), &[]).await
    }

    /// POST without a body.
    pub async fn act(&self, path: &str) -> Answer {
        self.send(Method::POST, path, None, &[]).await
    }

    /// PUT of JSON.
    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PUT, path, Some(body.to_string().into_bytes()), &[]).await
    }

    /// PATCH of JSON.
    pub async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PATCH, path, Some(body.to_string().into_bytes()), &[]).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, None, &[]).await
    }

    /// GET of an answer that has no end of its own.
    ///
    /// # Panics
    /// There is no answer.
    pub async fn stream(&self, path: &str, headers: &[(&str, &str)]) -> EventStream {
        let mut request = self.client.get(format!("{}{path}", self.base));
        if let Some(bearer) = &self.bearer {
            request = request.bearer_auth(bearer);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        EventStream { response: request.send().await.expect("an answer"), buffer: String::new() }
    }

    /// Any request.
    ///
    /// # Panics
    /// There is no answer.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let request = format!("{method} {path}");
        match self.try_send(method, path, body, headers).await {
            Ok(answer) => answer,
            Err(error) => panic!("{request} at {}: no answer: {error:?}", self.base),
        }
    }

    /// Any request; an error when there is no answer.
    ///
    /// # Errors
    /// The node could not be reached, or broke off.
    pub async fn try_send(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
        headers: &[(&str, &str)],
    ) -> Result<Answer, reqwest::Error> {
        let shown = format!("{method} {path}");
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if let Some(bearer) = &self.bearer {
            request = request.bearer_auth(bearer);
        }
        if let Some(body) = body {
            if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
                request = request.header("content-type", "application/json");
            }
            request = request.body(body);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = String::from_utf8_lossy(&response.bytes().await?).into_owned();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Answer { status, headers, text, body, request: shown })
    }
}

/// Server-sent events as they arrive.
#[derive(Debug)]
pub struct EventStream {
    response: reqwest::Response,
    buffer: String,
}

impl EventStream {
    /// The status.
    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// The next event's data, signs of life left out; none at the end of the stream.
    ///
    /// # Panics
    /// An event whose lines contradict each other.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            let block = self.block().await?;
            let line = |name: &str| {
                block.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
            };
            let Some(data) = line("data:") else { continue };
            let data: Value = serde_json::from_str(&data).expect("data is JSON");
            assert_eq!(data["id"].as_str(), line("id:").as_deref());
            assert_eq!(data["kind"].as_str(), line("event:").as_deref());
            return Some(data);
        }
    }

    /// The next event of a kind; others are passed over.
    ///
    /// # Panics
    /// The stream ends before.
    pub async fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let event = self.next().await.expect("the stream goes on");
            if event["kind"] == kind {
                return event;
            }
        }
    }

    /// The next block of lines as it came; none at the end of the stream.
    pub async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.buffer.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.buffer = rest;
                return Some(block);
            }
            let bytes = self.response.chunk().await.ok()??;
            self.buffer.push_str(&String::from_utf8_lossy(&bytes));
        }
    }
}

impl Answer {
    /// The body of a success.
    ///
    /// # Panics
    /// It was refused.
    pub fn ok(self) -> Value {
        assert!((200..300).contains(&self.status), "{}: {} {}", self.request, self.status, self.text);
        self.body
    }

    /// The body of a success of a documented route: it carries the envelope (contract A.2).
    ///
    /// # Panics
    /// It was refused, or has no envelope.
    pub fn licensed(self) -> Value {
        let request = self.request.clone();
        let body = self.ok();
        assert_eq!(body["licensed"], true, "{request} answers without the envelope: {body}");
        body
    }

    /// The body of a refusal with this status and code, after its shape was checked (architecture 11).
    ///
    /// # Panics
    /// It is another answer.
    pub fn refused(self, status: u16, code: &str) -> Value {
        let (status, code) = self.voiced(status, code);
        let told = self.body["code"].as_str();
        assert_eq!((self.status, told), (status, code), "{}: {}", self.request, self.text);
        self.assert_problem();
        self.body
    }

    /// How the asked API words what others call by this status and code: each has its own contract.
    fn voiced<'a>(&self, status: u16, code: &'a str) -> (u16, Option<&'a str>) {
        match (self.api(), code) {
            ("/vault", "token_missing" | "token_invalid" | "token_expired") => (403, None),
            ("/vault", _) => (status, None),
            ("/v1", "token_missing") => (status, Some("authentication_required")),
            ("/v1", "permission_denied") => (status, Some("insufficient_scope")),
            (_, code) => (status, Some(code)),
        }
    }

    /// Which of the APIs was asked: `/vault`, `/v1` or `/api/v1`.
    fn api(&self) -> &'static str {
        let path = self.request.split_once(' ').map_or("", |(_, path)| path);
        ["/vault", "/v1"].into_iter().find(|api| path.starts_with(&format!("{api}/"))).unwrap_or("/api/v1")
    }

    /// Checks the shape of a refusal (contract A.3, architecture 11).
    ///
    /// # Panics
    /// The shape is not that.
    pub fn assert_problem(&self) {
        let shown = format!("{}: {} {}", self.request, self.status, self.text);
        assert!(self.headers.contains_key("x-request-id"), "{shown}");
        if self.api() == "/vault" {
            assert!(self.body["errors"].is_array(), "{shown}");
            return;
        }
        if self.api() == "/v1" {
            assert_eq!(self.body["error"]["code"], self.body["code"], "{shown}");
            assert_eq!(self.body["error"]["request_id"], self.body["request_id"], "{shown}");
            assert!(self.body["error"]["message"].is_string(), "{shown}");
        }
        for member in ["detail", "code", "type", "title", "request_id"] {
            assert!(
                self.body[member].as_str().is_some_and(|text| !text.is_empty()),
                "no {member} in {shown}"
            );
        }
        assert_eq!(self.body["status"].as_u64(), Some(u64::from(self.status)), "{shown}");
    }

    /// Whether it succeeded.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}
