//! Google's metadata service: the token of the machine's service account, and a paper that says who the machine is.

use std::time::Duration;

use http::header::HeaderName;
use serde::Deserialize;
use url::Url;

use hansa_model::Secret;

use super::{Machine, NOT_METADATA, Service};
use crate::connect::{Answer, Connector};
use crate::driver::{CallError, OpenError};
use crate::session::Ticket;

/// The account that the machine was given.
const ACCOUNT: &str = "/computeMetadata/v1/instance/service-accounts/default";

/// A machine at Google.
#[derive(Debug)]
pub(crate) struct GoogleMachine(Service);

impl GoogleMachine {
    pub(crate) fn new(machine: &Machine, connector: &Connector) -> Result<Self, OpenError> {
        let host = machine.google_host.as_deref().unwrap_or("metadata.google.internal");
        Service::new(
            &format!("http://{host}"),
            "GCE_METADATA_HOST in the node's environment is no host",
            connector,
        )
        .map(Self)
    }

    /// The account's access token.
    pub(crate) async fn token(&self) -> Result<Ticket, CallError> {
        let answer = self.ask(self.url("token")).await?;
        let given: Given = serde_json::from_slice(&answer.body).map_err(|_| NOT_METADATA)?;
        let token = plain(given.access_token)?;
        // At least for a moment: the service gives the same one again until shortly before its end.
        let lease = Duration::from_secs(given.expires_in.max(1));
        Ok(Ticket { token, lease: Some(lease), full: Some(lease), renewable: false, uses: None })
    }

    /// A token that tells this audience which machine it comes from.
    pub(crate) async fn identity(&self, audience: &str) -> Result<Secret<String>, CallError> {
        let mut url = self.url("identity");
        url.query_pairs_mut().append_pair("audience", audience).append_pair("format", "full");
        let answer = self.ask(url).await?;
        let text = std::str::from_utf8(&answer.body).map_err(|_| NOT_METADATA)?;
        plain(text.trim().to_owned())
    }

    fn url(&self, what: &str) -> Url {
        let mut url = self.0.base();
        url.set_path(&format!("{ACCOUNT}/{what}"));
        url
    }

    async fn ask(&self, url: Url) -> Result<Answer, CallError> {
        self.0.ask(http::Method::GET, url, [(HeaderName::from_static("metadata-flavor"), "Google")]).await
    }
}

#[derive(Deserialize)]
struct Given {
    access_token: String,
    expires_in: u64,
}

/// What can stand in a header.
fn plain(token: String) -> Result<Secret<String>, CallError> {
    let is_plain = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    let token = Secret::new(token);
    if is_plain { Ok(token) } else { Err(NOT_METADATA) }
}
