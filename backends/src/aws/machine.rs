//! The keys of the machine itself, where AWS's own libraries look for them: a pod's web identity, else what the
//! container's agent gives, else what the instance's metadata service gives (version 2, which wants a token).
//!
//! Keys that stand in the environment, and files of a user's profile, are no machine's: a node stores such a login.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::Method;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName};
use serde::Deserialize;
use url::{Host, Url};

use hansa_model::Secret;
use hansa_model::limits::secrets as limits;

use super::keys::{sts_ticket, sts_url, ticket};
use crate::connect::{Answer, Connector};
use crate::driver::{CallError, OpenError};
use crate::machine::{AwsMachine, NOT_METADATA, Service, address, token_file};
use crate::session::{Login, Ticket};

/// Where the agent of ECS's containers is.
const CONTAINER_AGENT: &str = "http://169.254.170.2";

/// Where an instance's metadata service is.
const INSTANCE: &str = "http://169.254.169.254";

/// Seconds that the metadata service's own token is good for; it is used twice, at once.
const INSTANCE_TOKEN_SECS: &str = "60";

/// Who gives the machine its keys.
#[derive(Debug)]
pub(super) struct MachineKeys {
    connector: Connector,
    source: Source,
}

#[derive(Debug)]
enum Source {
    WebIdentity { sts: Connector, url: Url, role: String, file: PathBuf },
    Container { agent: Service, url: Url, authorization: Authorization },
    Instance(Service),
}

/// What the container's agent knows its container by.
#[derive(Debug)]
enum Authorization {
    None,
    Given(Secret<String>),
    File(PathBuf),
}

impl MachineKeys {
    pub(super) fn new(machine: &AwsMachine, region: &str, connector: &Connector) -> Result<Self, OpenError> {
        let source = if let (Some(file), Some(role)) = (&machine.identity_file, &machine.identity_role) {
            let unusable =
                OpenError::NotAllowed("AWS_ENDPOINT_URL_STS in the node's environment is no address");
            let url = address(machine.sts.as_deref().unwrap_or(&sts_url(region))).ok_or(unusable)?;
            let sts = connector.aside(&url, limits::CALL_TIMEOUT_MAX)?;
            Source::WebIdentity { sts, url, role: role.clone(), file: file.into() }
        } else if let Some(url) = container(machine)? {
            let unusable = "the container's address in the node's environment is none";
            let authorization = match (&machine.container_token_file, &machine.container_token) {
                (Some(file), _) => Authorization::File(file.into()),
                (None, Some(token)) => Authorization::Given(token.clone()),
                (None, None) => Authorization::None,
            };
            Source::Container { agent: Service::new(url.as_str(), unusable, connector)?, url, authorization }
        } else if machine.no_instance {
            return Err(OpenError::NotAllowed(
                "the machine has no AWS login: AWS_EC2_METADATA_DISABLED stands in the node's environment",
            ));
        } else {
            let unusable = "AWS_EC2_METADATA_SERVICE_ENDPOINT in the node's environment is no address";
            let base = machine.instance.as_deref().unwrap_or(INSTANCE);
            Source::Instance(Service::new(base, unusable, connector)?)
        };
        Ok(Self { connector: connector.clone(), source })
    }

    fn ticket(&self, answer: &Answer) -> Result<Ticket, CallError> {
        let given: Given = serde_json::from_slice(&answer.body).map_err(|_| NOT_METADATA)?;
        let (id, key) = (Secret::new(given.access_key_id), Secret::new(given.secret_access_key));
        let (token, now) = (Secret::new(given.token), self.connector.now());
        ticket(id.expose(), key.expose(), token.expose(), &given.expiration, now).ok_or(NOT_METADATA)
    }
}

impl Login for MachineKeys {
    async fn login(&self) -> Result<Ticket, CallError> {
        match &self.source {
            Source::WebIdentity { sts, url, role, file } => by_identity(sts, url, role, file).await,
            Source::Container { agent, url, authorization } => {
                let token = authorization.read().await?;
                let header = token.as_ref().map(|token| (AUTHORIZATION, token.expose().as_str()));
                self.ticket(&agent.ask(Method::GET, url.clone(), header).await?)
            }
            Source::Instance(service) => self.ticket(&by_instance(service).await?),
        }
    }

    async fn renew(&self, _ticket: &Ticket) -> Result<Option<Ticket>, CallError> {
        Ok(None)
    }
}

/// Takes on the role that the pod's token stands for.
async fn by_identity(sts: &Connector, url: &Url, role: &str, file: &Path) -> Result<Ticket, CallError> {
    const UNREADABLE: CallError = CallError::Refused { reason: "the machine's web identity cannot be read" };
    let token = token_file(file).await.ok_or(UNREADABLE)?;
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("Action", "AssumeRoleWithWebIdentity")
        .append_pair("Version", "2011-06-15")
        .append_pair("RoleArn", role)
        .append_pair("RoleSessionName", "hansa")
        .append_pair("WebIdentityToken", token.expose())
        .finish();
    let request = http::Request::post(url.as_str())
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded; charset=utf-8")
        .body(Bytes::from(form))
        .map_err(|_| CallError::Name)?;
    let answer = sts.send(request, limits::MACHINE_BYTES_MAX).await?;
    sts_ticket(sts, &answer, "the machine's web identity is refused")
}

/// The service's token, then the name of the instance's role, then that role's keys.
async fn by_instance(service: &Service) -> Result<Answer, CallError> {
    const FOLDER: &str = "/latest/meta-data/iam/security-credentials/";
    let header = HeaderName::from_static("x-aws-ec2-metadata-token");
    let url = |path: &str| {
        let mut url = service.base();
        url.set_path(path);
        url
    };
    let life = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
    let token = service.ask(Method::PUT, url("/latest/api/token"), [(life, INSTANCE_TOKEN_SECS)]).await?;
    let token = line(&token)?;
    let roles = service.ask(Method::GET, url(FOLDER), [(header.clone(), token)]).await?;
    let role = line(&roles)?;
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte);
    if !role.bytes().all(is_name) {
        return Err(NOT_METADATA);
    }
    service.ask(Method::GET, url(&format!("{FOLDER}{role}")), [(header, token)]).await
}

/// The first line of an answer that is plain text.
fn line(answer: &Answer) -> Result<&str, CallError> {
    let text = std::str::from_utf8(&answer.body).map_err(|_| NOT_METADATA)?;
    let line = text.lines().next().unwrap_or_default().trim();
    let is_plain = !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_graphic());
    if is_plain { Ok(line) } else { Err(NOT_METADATA) }
}

/// Where the container's keys are, if the machine is one. Without TLS only what is on the machine is asked.
fn container(machine: &AwsMachine) -> Result<Option<Url>, OpenError> {
    if let Some(path) = &machine.container_path {
        let url = address(&format!("{CONTAINER_AGENT}{path}")).filter(|_| path.starts_with('/'));
        let reason = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI in the node's environment is no path";
        return url.map(Some).ok_or(OpenError::NotAllowed(reason));
    }
    let Some(text) = &machine.container_uri else { return Ok(None) };
    let is_near = |url: &Url| match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(four)) => {
            four.is_loopback() || [[169, 254, 170, 2], [169, 254, 170, 23]].contains(&four.octets())
        }
        Some(Host::Ipv6(six)) => six.is_loopback() || six.segments() == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23],
        None => false,
    };
    let url = address(text).filter(|url| url.scheme() == "https" || is_near(url));
    let reason =
        "AWS_CONTAINER_CREDENTIALS_FULL_URI in the node's environment is no address of a container's agent";
    url.map(Some).ok_or(OpenError::NotAllowed(reason))
}

impl Authorization {
    async fn read(&self) -> Result<Option<Secret<String>>, CallError> {
        const UNREADABLE: CallError =
            CallError::Refused { reason: "the container's authorization token cannot be read" };
        match self {
            Self::None => Ok(None),
            Self::Given(token) => Ok(Some(token.clone())),
            Self::File(path) => token_file(path).await.map(Some).ok_or(UNREADABLE),
        }
    }
}

/// What an agent and an instance answer alike.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Given {
    access_key_id: String,
    secret_access_key: String,
    token: String,
    expiration: String,
}
