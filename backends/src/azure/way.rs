//! The vendor's client on our connector, kept to one origin.

use std::fmt;

use async_trait::async_trait;
use azure_core::error::{Error, ErrorKind};
use azure_core::http::headers::Headers;
use azure_core::http::{AsyncRawResponse, Body, HttpClient, Request, StatusCode};
use bytes::Bytes;

use hansa_model::limits::secrets as limits;
use hansa_model::secrets::backend::Endpoint;

use crate::connect::Connector;
use crate::driver::CallError;

/// To one scheme, host and port alone: a vault names the address of its next page itself.
pub(super) struct Way {
    connector: Connector,
    origin: url::Origin,
    /// Whether what is behind it hands out tokens: its failures are then those of a login.
    is_directory: bool,
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Way").field("is_directory", &self.is_directory).finish_non_exhaustive()
    }
}

impl Way {
    pub(super) fn to_vault(connector: Connector, endpoint: &Endpoint) -> Self {
        Self { connector, origin: origin(endpoint.as_str()), is_directory: false }
    }

    pub(super) fn to_directory(connector: Connector, base: &str) -> Self {
        Self { connector, origin: origin(base), is_directory: true }
    }

    async fn send(&self, request: &Request) -> Result<AsyncRawResponse, CallError> {
        const ODD: CallError = CallError::BadAnswer { reason: "a request cannot be built from it" };
        if request.url().origin() != self.origin {
            return Err(CallError::BadAnswer { reason: "it names an address that is not its own" });
        }
        let method = http::Method::from_bytes(request.method().as_ref().as_bytes()).map_err(|_| ODD)?;
        let body = match request.body() {
            Body::Bytes(bytes) => bytes.clone(),
            Body::SeekableStream(_) => return Err(ODD),
        };
        let is_listing =
            method == http::Method::GET && request.url().path().trim_end_matches('/') == "/secrets";
        let mut built = http::Request::builder().method(method).uri(request.url().as_str());
        for (name, value) in request.headers().iter() {
            built = built.header(name.as_str(), value.as_str());
        }
        let built = built.body(body).map_err(|_| ODD)?;
        let bytes_max = if is_listing { limits::LISTING_BYTES_MAX } else { limits::ANSWER_BYTES_MAX };
        let answer = self.connector.send(built, bytes_max).await?;
        let retry_after = answer.retry_after(self.connector.now());
        if self.is_directory {
            let reason = "the directory answers with an error of its own";
            match answer.status {
                429 => return Err(CallError::Throttled { retry_after }),
                500..=599 => return Err(CallError::Unavailable { reason, retry_after, connect: false }),
                300..=399 => return Err(CallError::BadAnswer { reason: "the directory sends us elsewhere" }),
                _ => {}
            }
        }
        let mut headers = Headers::new();
        for (name, value) in &answer.headers {
            if let Ok(value) = value.to_str() {
                headers.insert(name.as_str().to_owned(), value.to_owned());
            }
        }
        let status = StatusCode::from(answer.status);
        Ok(AsyncRawResponse::from_bytes(status, headers, Bytes::from(answer.body.to_vec())))
    }
}

#[async_trait]
impl HttpClient for Way {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        self.send(request).await.map_err(|error| Error::new(ErrorKind::Other, error))
    }
}

fn origin(base: &str) -> url::Origin {
    url::Url::parse(base).map_or_else(|_| url::Origin::new_opaque(), |url| url.origin())
}
