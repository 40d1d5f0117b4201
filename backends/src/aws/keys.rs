//! The keys that requests are signed with: as they are stored, or those of a role that is taken on first.

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use zeroize::Zeroizing;

use hansa_model::limits::secrets as limits;
use hansa_model::secrets::backend::AwsConfig;
use hansa_model::{Secret, Timestamp};

use crate::connect::Connector;
use crate::driver::{CallError, OpenError};
use crate::login::LoginData;
use crate::session::{Login, Sessions, Ticket};
use crate::sigv4::{AwsKeys, signed_sts_post};

/// Gives keys to the client, one call at a time.
#[derive(Debug)]
pub(super) struct KeyProvider {
    keys: AwsKeys,
    role: Option<Role>,
    sessions: Sessions,
}

/// A role, and who hands it out.
#[derive(Debug)]
struct Role {
    keys: AwsKeys,
    connector: Connector,
    region: String,
    url: String,
    form: String,
}

impl KeyProvider {
    pub(super) fn new(
        config: &AwsConfig,
        login: Option<&crate::driver::Login>,
        connector: Connector,
    ) -> Result<Self, OpenError> {
        if login.is_none() {
            return Err(OpenError::NotAllowed(
                "credentials_path is required: this node has no AWS login of its own",
            ));
        }
        let data = LoginData::parse(login)?;
        let keys = AwsKeys {
            access_key_id: data.text("access_key_id")?,
            secret_access_key: data.text("secret_access_key")?,
            session_token: data.optional("session_token")?,
        };
        let role = config.role_arn.as_ref().map(|arn| {
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            form.append_pair("Action", "AssumeRole")
                .append_pair("Version", "2011-06-15")
                .append_pair("RoleArn", arn)
                .append_pair("RoleSessionName", "hansa");
            if let Some(id) = &config.external_id {
                form.append_pair("ExternalId", id);
            }
            let suffix = if config.region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
            let url = match &config.endpoint {
                Some(endpoint) => format!("{}/", endpoint.as_str()),
                None => format!("https://sts.{}.{suffix}/", config.region),
            };
            Role { keys: keys.clone(), connector, region: config.region.clone(), url, form: form.finish() }
        });
        Ok(Self { keys, role, sessions: Sessions::default() })
    }

    async fn credentials(&self) -> Result<Credentials, CallError> {
        let Some(role) = &self.role else { return Ok(self.keys.credentials()) };
        let session = self.sessions.session(role).await?;
        let mut parts = session.ticket.token.expose().splitn(3, '\n');
        let mut part = || parts.next().unwrap_or_default().to_owned();
        Ok(Credentials::new(part(), part(), Some(part()), None, "hansa-role"))
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
        const NOT_STS: CallError = CallError::BadAnswer { reason: "it does not answer as STS does" };
        let now = self.connector.now();
        let request = signed_sts_post(&self.keys, &self.region, &self.url, &self.form, None, now);
        let request = request.ok_or(CallError::Name)?;
        let answer = self.connector.send(request, limits::ANSWER_BYTES_MAX).await?;
        let text = std::str::from_utf8(&answer.body).map_err(|_| NOT_STS)?;
        let retry_after = answer.retry_after(now);
        match answer.status {
            200 => {}
            429 => return Err(CallError::Throttled { retry_after }),
            400..=499 if element(text, "Code") == Some("Throttling") => {
                return Err(CallError::Throttled { retry_after });
            }
            400 | 401 | 403 => return Err(self.connector.refused("the role is refused")),
            500..=599 => {
                let reason = "STS answers with an error of its own";
                return Err(CallError::Unavailable { reason, retry_after, connect: false });
            }
            _ => return Err(NOT_STS),
        }
        let part = |name| element(text, name).filter(|part| is_plain(part)).ok_or(NOT_STS);
        let (id, key, token) = (part("AccessKeyId")?, part("SecretAccessKey")?, part("SessionToken")?);
        let token = Zeroizing::new(format!("{id}\n{key}\n{token}"));
        let ends: Timestamp = part("Expiration")?.parse().map_err(|_| NOT_STS)?;
        // At least for a moment, so that a clock that is off makes no loop of it.
        let lease = ends.since(now).max(Duration::from_secs(1));
        let token = Secret::new(token.to_string());
        Ok(Ticket { token, lease: Some(lease), full: Some(lease), renewable: false, uses: None })
    }

    async fn renew(&self, _ticket: &Ticket) -> Result<Option<Ticket>, CallError> {
        Ok(None)
    }
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
