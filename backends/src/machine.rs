//! What the machine that the node runs on is logged in with: its cloud's metadata services.
//!
//! Their addresses are those that no backend may have. They come from the vendors' documentation and from the
//! environment that the node was started in, by the names that the vendors' own libraries read; no part of them is
//! taken from a backend, and what is asked there is fixed. Whether anything is asked at all is for
//! [`crate::Ambient`] to say.

#[cfg(any(feature = "google", feature = "vault"))]
mod google;

use std::path::Path;

use bytes::Bytes;
use http::header::HeaderName;
use tokio::io::AsyncReadExt as _;
use url::Url;
use zeroize::Zeroizing;

use hansa_model::Secret;
use hansa_model::limits::secrets as limits;

#[cfg(any(feature = "google", feature = "vault"))]
pub(crate) use self::google::GoogleMachine;
use crate::connect::{Answer, Connector};
use crate::driver::{CallError, OpenError};

/// Where the machine has its logins from. The default is a plain virtual machine, as the vendors document it.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// `GCE_METADATA_HOST`: a host, and a port where it is another one than 80.
    pub(crate) google_host: Option<String>,
    pub(crate) aws: AwsMachine,
}

/// The same of AWS, in the order in which its own libraries look: a pod's web identity, a container, an instance.
#[derive(Debug, Clone, Default)]
pub(crate) struct AwsMachine {
    /// `AWS_WEB_IDENTITY_TOKEN_FILE`.
    pub(crate) identity_file: Option<String>,
    /// `AWS_ROLE_ARN`: what that identity takes on.
    pub(crate) identity_role: Option<String>,
    /// `AWS_ENDPOINT_URL_STS`: instead of the region's public address.
    pub(crate) sts: Option<String>,
    /// `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI`: a path at the container agent's fixed address.
    pub(crate) container_path: Option<String>,
    /// `AWS_CONTAINER_CREDENTIALS_FULL_URI`.
    pub(crate) container_uri: Option<String>,
    /// `AWS_CONTAINER_AUTHORIZATION_TOKEN`.
    pub(crate) container_token: Option<Secret<String>>,
    /// `AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE`.
    pub(crate) container_token_file: Option<String>,
    /// `AWS_EC2_METADATA_SERVICE_ENDPOINT`.
    pub(crate) instance: Option<String>,
    /// `AWS_EC2_METADATA_DISABLED`.
    pub(crate) no_instance: bool,
}

impl Machine {
    /// What the vendors' variables say, which `variable` answers; one that is empty is as one that is not there.
    pub fn of_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let text = |name| variable(name).filter(|text| !text.is_empty());
        Self {
            google_host: text("GCE_METADATA_HOST"),
            aws: AwsMachine {
                identity_file: text("AWS_WEB_IDENTITY_TOKEN_FILE"),
                identity_role: text("AWS_ROLE_ARN"),
                sts: text("AWS_ENDPOINT_URL_STS"),
                container_path: text("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
                container_uri: text("AWS_CONTAINER_CREDENTIALS_FULL_URI"),
                container_token: text("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(Secret::new),
                container_token_file: text("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
                instance: text("AWS_EC2_METADATA_SERVICE_ENDPOINT"),
                no_instance: text("AWS_EC2_METADATA_DISABLED")
                    .is_some_and(|text| text.eq_ignore_ascii_case("true")),
            },
        }
    }
}

/// One of the machine's services, at its one address.
#[derive(Debug)]
pub(crate) struct Service {
    connector: Connector,
    base: Url,
}

impl Service {
    /// Nothing is asked yet; `unusable` is said of an address that is none.
    pub(crate) fn new(base: &str, unusable: &'static str, connector: &Connector) -> Result<Self, OpenError> {
        let base = address(base).ok_or(OpenError::NotAllowed(unusable))?;
        let connector = connector.aside(&base, limits::MACHINE_TIMEOUT)?;
        Ok(Self { connector, base })
    }

    /// Where it is, to put a path in.
    pub(crate) fn base(&self) -> Url {
        self.base.clone()
    }

    /// Asks; whatever is not an answer with status 200 is why there is no login.
    pub(crate) async fn ask(
        &self,
        method: http::Method,
        url: Url,
        headers: impl IntoIterator<Item = (HeaderName, &str)>,
    ) -> Result<Answer, CallError> {
        let mut request = http::Request::builder().method(method).uri(String::from(url));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Bytes::new()).map_err(|_| NOT_METADATA)?;
        let answer = self.connector.send(request, limits::MACHINE_BYTES_MAX).await.map_err(unreachable)?;
        let retry_after = answer.retry_after(self.connector.now());
        match answer.status {
            200 => Ok(answer),
            429 | 500..=599 => {
                let reason = "the machine's metadata service answers with an error of its own";
                Err(CallError::Unavailable { reason, retry_after, connect: false })
            }
            300..=399 => {
                Err(CallError::BadAnswer { reason: "the machine's metadata service sends us elsewhere" })
            }
            _ => Err(CallError::Refused {
                reason: "the machine has no login: its metadata service gives none",
            }),
        }
    }
}

/// The URL in a variable.
pub(crate) fn address(text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

/// What a token file holds. It is read at each login, for it changes.
pub(crate) async fn token_file(path: &Path) -> Option<Secret<String>> {
    let file = tokio::fs::File::open(path).await.ok()?;
    let mut text = Zeroizing::new(String::new());
    file.take(limits::MACHINE_BYTES_MAX as u64).read_to_string(&mut text).await.ok()?;
    Some(Secret::new(text.trim().to_owned()))
}

pub(crate) const NOT_METADATA: CallError =
    CallError::BadAnswer { reason: "the machine's metadata service does not answer as one does" };

/// A backend that is there must not be taken for the one that is not.
fn unreachable(error: CallError) -> CallError {
    match error {
        CallError::Unavailable { retry_after, connect, .. } => {
            let reason = "the machine's metadata service does not answer";
            CallError::Unavailable { reason, retry_after, connect }
        }
        CallError::BadAnswer { .. } => NOT_METADATA,
        CallError::NotFound
        | CallError::VersionNotFound
        | CallError::Throttled { .. }
        | CallError::Refused { .. }
        | CallError::Address(_)
        | CallError::Conflict
        | CallError::Name => error,
    }
}
