//! A bare HTTP client over one connection that stays open: what it costs is in the figures, so it is little.

use std::path::Path;

use bytes::Bytes;
use hansa_model::scope::Scope;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::failed;
use crate::cli::failure::{Exit, Failure};
use crate::mint::{self, MintRequest};

/// One open connection with a token.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    authority: String,
    authorization: String,
}

impl Connection {
    /// Connects to a node's HTTP.
    pub(super) async fn open(url: &str, token: &str) -> Result<Self, Failure> {
        let authority = url.trim_start_matches("http://").to_owned();
        let stream = TcpStream::connect(&authority).await.map_err(|error| failed(&error))?;
        stream.set_nodelay(true).map_err(|error| failed(&error))?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
        tokio::spawn(connection);
        Ok(Self { sender, authority, authorization: format!("Bearer {token}") })
    }

    /// Connects to a server that takes another kind of login; `authorization` is the header's value.
    pub(super) async fn open_as(url: &str, authorization: &str) -> Result<Self, Failure> {
        let connection = Self::open(url, "").await?;
        Ok(Self { authorization: authorization.to_owned(), ..connection })
    }

    /// Asks and reads the whole answer; an error status is a failure.
    pub(super) async fn get(&mut self, path: &str) -> Result<Bytes, Failure> {
        self.send(Method::GET, path, &[], Bytes::new()).await
    }

    /// Sends a JSON body.
    pub(super) async fn patch(&mut self, path: &str, body: &Value) -> Result<Bytes, Failure> {
        self.send(Method::PATCH, path, &[], body.to_string().into()).await
    }

    /// Sends a JSON body to be taken.
    pub(super) async fn post(&mut self, path: &str, body: &Value) -> Result<Bytes, Failure> {
        self.send(Method::POST, path, &[], body.to_string().into()).await
    }

    /// Sends a JSON body to stand there from now on.
    pub(super) async fn put(&mut self, path: &str, body: &Value) -> Result<Bytes, Failure> {
        self.send(Method::PUT, path, &[], body.to_string().into()).await
    }

    /// Removes what is there.
    pub(super) async fn delete(&mut self, path: &str) -> Result<Bytes, Failure> {
        self.send(Method::DELETE, path, &[], Bytes::new()).await
    }

    /// Sends a JSON body with further headers.
    pub(super) async fn post_with(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Result<Bytes, Failure> {
        self.send(Method::POST, path, headers, body.to_string().into()).await
    }

    /// Sends a JSON body and reads a JSON answer.
    pub(super) async fn ask(&mut self, path: &str, body: &Value) -> Result<Value, Failure> {
        serde_json::from_slice(&self.post(path, body).await?).map_err(|error| failed(&error))
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Bytes, Failure> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.authority)
            .header(AUTHORIZATION, &self.authorization)
            .header(CONTENT_TYPE, "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).map_err(|error| failed(&error))?;
        self.sender.ready().await.map_err(|error| failed(&error))?;
        let answer = self.sender.send_request(request).await.map_err(|error| failed(&error))?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(|error| failed(&error))?.to_bytes();
        if status.is_success() {
            Ok(body)
        } else {
            Err(Failure::new(Exit::Failed, format!("{path} answered {status}")))
        }
    }

    /// As [`Self::get`], parsed.
    pub(super) async fn json(&mut self, path: &str) -> Result<Value, Failure> {
        serde_json::from_slice(&self.get(path).await?).map_err(|error| failed(&error))
    }
}

/// A token with all scopes, made by the node itself over its local socket.
pub(super) async fn token(data_dir: &Path) -> Result<String, Failure> {
    let request = MintRequest {
        tenant: None,
        userid: "bench".to_owned(),
        scopes: Scope::ALL.into_iter().collect(),
        sites: None,
        ttl_seconds: 24 * 3_600,
    };
    mint::ask(data_dir, &request).await
}
