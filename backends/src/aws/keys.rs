//! The keys that requests are signed with: as they are stored, the machine's own, or those of a role that is taken
//! on first with either.

use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};

use hansa_model::limits::secrets as limits;
use hansa_model::secrets::backend::AwsConfig;
use hansa_model::{Secret, Timestamp};

use super::machine::MachineKeys;
use crate::connect::{Answer, Connector};
use crate::driver::{CallError, OpenError};
use crate::login::LoginData;
use crate::session::{Login, Sessions, Ticket};
use crate::sigv4::{AwsKeys, signed_sts_post};
use crate::vendor::Ambient;

/// Gives keys to the client, one call at a time.
#[derive(Debug)]
pub(super) struct KeyProvider {
    first: Arc<FirstKeys>,
    role: Option<Role>,
    sessions: Sessions,
}

/// The keys that everything begins with.
#[derive(Debug)]
enum FirstKeys {
    Stored(AwsKeys),
    Machine { machine: Box<MachineKeys>, sessions: Sessions },
}

/// A role, and who hands it out.
#[derive(Debug)]
struct Role {
    first: Arc<FirstKeys>,
    connector: Connector,
    region: String,
    url: String,
    form: String,
}

impl FirstKeys {
    fn new(
        config: &AwsConfig,
        login: Option<&crate::driver::Login>,
        connector: &Connector,
        ambient: &Ambient,
    ) -> Result<Self, OpenError> {
        if config.credentials_path.is_none() {
            let machine = MachineKeys::new(&ambient.machine.aws, &config.region, connector)?;
            return Ok(Self::Machine { machine: Box::new(machine), sessions: Sessions::default() });
        }
        let data = LoginData::parse(login)?;
        Ok(Self::Stored(AwsKeys {
            access_key_id: data.text("access_key_id")?,
            secret_access_key: data.text("secret_access_key")?,
            session_token: data.optional("session_token")?,
        }))
    }

    async fn keys(&self) -> Result<AwsKeys, CallError> {
        match self {
            Self::Stored(keys) => Ok(keys.clone()),
            Self::Machine { machine, sessions } => Ok(keys_of(&sessions.session(&**machine).await?.ticket)),
        }
    }
}

impl KeyProvider {
    pub(super) fn new(
        config: &AwsConfig,
        login: Option<&crate::driver::Login>,
        connector: Connector,
        ambient: &Ambient,
    ) -> Result<Self, OpenError> {
        let first = Arc::new(FirstKeys::new(config, login, &connector, ambient)?);
        let role = config.role_arn.as_ref().map(|arn| {
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            form.append_pair("Action", "AssumeRole")
                .append_pair("Version", "2011-06-15")
                .append_pair("RoleArn", arn)
                .append_pair("RoleSessionName", "hansa");
            if let Some(id) = &config.external_id {
                form.append_pair("ExternalId", id);
            }
            let url = match &config.endpoint {
                Some(endpoint) => format!("{}/", endpoint.as_str()),
                None => sts_url(&config.region),
            };
            Role { first: first.clone(), connector, region: config.region.clone(), url, form: form.finish() }
        });
        Ok(Self { first, role, sessions: Sessions::default() })
    }

    async fn credentials(&self) -> Result<Credentials, CallError> {
        let keys = match &self.role {
            None => self.first.keys().await?,
            Some(role) => keys_of(&self.sessions.session(role).await?.ticket),
        };
        Ok(keys.credentials())
    }
}

impl ProvideCredentials for KeyProvider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async move {
            self.credentials().await.map_err(CredentialsError::provider_error)
        })
    }
}

impl Login for Role {
    async fn login(&self) -> Result<Ticket, CallError> {
        let (keys, now) = (self.first.keys().await?, self.connector.now());
        let request = signed_sts_post(&keys, &self.region, &self.url, &self.form, None, now);
        let request = request.ok_or(CallError::Name)?;
        let answer = self.connector.send(request, limits::ANSWER_BYTES_MAX).await?;
        sts_ticket(&self.connector, &answer, "the role is refused")
    }

    async fn renew(&self, _ticket: &Ticket) -> Result<Option<Ticket>, CallError> {
        Ok(None)
    }
}

/// Where a region's roles are handed out.
pub(super) fn sts_url(region: &str) -> String {
    let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    format!("https://sts.{region}.{suffix}/")
}

/// The keys in an answer of STS.
pub(super) fn sts_ticket(
    connector: &Connector,
    answer: &Answer,
    refused: &'static str,
) -> Result<Ticket, CallError> {
    const NOT_STS: CallError = CallError::BadAnswer { reason: "it does not answer as STS does" };
    let now = connector.now();
    let text = std::str::from_utf8(&answer.body).map_err(|_| NOT_STS)?;
    let retry_after = answer.retry_after(now);
    match answer.status {
        200 => {}
        429 => return Err(CallError::Throttled { retry_after }),
        400..=499 if element(text, "Code") == Some("Throttling") => {
            return Err(CallError::Throttled { retry_after });
        }
        400 | 401 | 403 => return Err(connector.refused(refused)),
        500..=599 => {
            let reason = "STS answers with an error of its own";
            return Err(CallError::Unavailable { reason, retry_after, connect: false });
        }
        _ => return Err(NOT_STS),
    }
    let part = |name| element(text, name).ok_or(NOT_STS);
    let (id, key, token) = (part("AccessKeyId")?, part("SecretAccessKey")?, part("SessionToken")?);
    ticket(id, key, token, part("Expiration")?, now).ok_or(NOT_STS)
}

/// Keys that end at this instant. None when one of them cannot stand in a signature.
pub(super) fn ticket(id: &str, key: &str, token: &str, ends: &str, now: Timestamp) -> Option<Ticket> {
    if ![id, key, token].into_iter().all(is_plain) {
        return None;
    }
    let ends: Timestamp = ends.parse().ok()?;
    // At least for a moment, so that a clock that is off makes no loop of it.
    let lease = ends.since(now).max(Duration::from_secs(1));
    let token = Secret::new(format!("{id}\n{key}\n{token}"));
    Some(Ticket { token, lease: Some(lease), full: Some(lease), renewable: false, uses: None })
}

fn keys_of(ticket: &Ticket) -> AwsKeys {
    let mut parts = ticket.token.expose().splitn(3, '\n');
    let mut part = || Secret::new(parts.next().unwrap_or_default().to_owned());
    AwsKeys { access_key_id: part(), secret_access_key: part(), session_token: Some(part()) }
}

/// The text of the first element of this name. STS's answers are flat where it matters.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(text.trim())
}

fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'<' && byte != b'&')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn element_is_found_by_its_name() {
        let xml = "<A><Code> x </Code><AccessKeyId>ASIA</AccessKeyId></A>";

        assert_eq!(element(xml, "AccessKeyId"), Some("ASIA"));
        assert_eq!(element(xml, "Code"), Some("x"));
        assert_eq!(element(xml, "SecretAccessKey"), None);
    }
}
