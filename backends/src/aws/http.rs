//! The vendor's client on our connector.

use std::time::SystemTime;

use aws_sdk_secretsmanager::config::SharedHttpClient;
use aws_smithy_async::time::TimeSource;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;

use super::failure::bytes_max;
use crate::connect::Connector;
use crate::driver::CallError;
use crate::sigv4::system_time;

/// The client's way out.
pub(super) fn client(connector: &Connector) -> SharedHttpClient {
    let way = SharedHttpConnector::new(Way(connector.clone()));
    http_client_fn(move |_, _| way.clone())
}

/// The time that it signs with.
#[derive(Debug)]
pub(super) struct Wall(pub(super) Connector);

impl TimeSource for Wall {
    fn now(&self) -> SystemTime {
        system_time(self.0.now())
    }
}

#[derive(Debug)]
struct Way(Connector);

impl HttpConnector for Way {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let connector = self.0.clone();
        HttpConnectorFuture::new(async move {
            send(&connector, request).await.map_err(|error| ConnectorError::other(Box::new(error), None))
        })
    }
}

async fn send(connector: &Connector, request: HttpRequest) -> Result<HttpResponse, CallError> {
    const ODD: CallError = CallError::BadAnswer { reason: "its answer is no HTTP" };
    let request = request.try_into_http1x().map_err(|_| CallError::Name)?;
    let target = request.headers().get("x-amz-target").and_then(|value| value.to_str().ok());
    let bytes_max = bytes_max(target);
    let request = request.map(|body| Bytes::copy_from_slice(body.bytes().unwrap_or_default()));
    let answer = connector.send(request, bytes_max).await?;
    let mut response = http::Response::new(SdkBody::from(answer.body.to_vec()));
    *response.status_mut() = http::StatusCode::from_u16(answer.status).map_err(|_| ODD)?;
    *response.headers_mut() = answer.headers;
    HttpResponse::try_from(response).map_err(|_| ODD)
}
