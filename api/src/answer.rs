//! What a handler answers when it does not refuse.

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use axum::http::{Response, StatusCode};
use bytes::Bytes;
use serde::{Serialize, Serializer};

use crate::problem::Problem;

/// A whole answer, small enough to be made in memory, as pages are bounded; or a stream, which nobody waits
/// for.
#[derive(Debug)]
pub(crate) struct Answer {
    status: StatusCode,
    content_type: Option<&'static str>,
    body: Body,
    header: Option<(HeaderName, String)>,
}

impl Answer {
    /// 200 with this value as JSON.
    pub(crate) fn ok<T: Serialize>(value: &T) -> Result<Self, Problem> {
        Self::json(StatusCode::OK, value)
    }

    /// Any status with this value as JSON.
    pub(crate) fn json<T: Serialize>(status: StatusCode, value: &T) -> Result<Self, Problem> {
        let body = serde_json::to_vec(value).map_err(|error| Problem::internal(&error))?;
        Ok(Self { status, content_type: Some("application/json"), body: body.into(), header: None })
    }

    /// 200 with a text that is ready as it is.
    pub(crate) fn text(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self {
            status: StatusCode::OK,
            content_type: Some(content_type),
            body: Body::from(body.into()),
            header: None,
        }
    }

    /// 200 with a body that is written as it comes. It has no time limit: it ends by itself.
    pub(crate) fn stream(content_type: &'static str, body: Body) -> Self {
        Self { status: StatusCode::OK, content_type: Some(content_type), body, header: None }
    }

    /// 204 without a body.
    pub(crate) fn no_content() -> Self {
        Self { status: StatusCode::NO_CONTENT, content_type: None, body: Body::empty(), header: None }
    }

    /// The same with one more header.
    pub(crate) fn with_header(self, name: HeaderName, value: String) -> Self {
        Self { header: Some((name, value)), ..self }
    }

    /// The answer as the server sends it.
    pub(crate) fn into_response(self) -> Response<Body> {
        let mut response = Response::new(self.body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(content_type) = self.content_type {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        if let Some((name, value)) = self.header
            && let Ok(value) = HeaderValue::from_str(&value)
        {
            headers.insert(name, value);
        }
        response
    }
}

/// `"licensed": true`, which the documented coordinator and site routes carry (contract A.2).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Licensed;

impl Serialize for Licensed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bool(true)
    }
}
