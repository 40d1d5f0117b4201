//! Azure Key Vault, by the vendor's client over our connector.

mod login;
mod way;

use std::fmt;
use std::sync::Arc;

use azure_core::credentials::TokenCredential;
use azure_core::error::ErrorKind;
use azure_core::http::pager::PagerContinuation;
use azure_core::http::{ClientOptions, RetryOptions, Transport, Url};
use azure_core::time::OffsetDateTime;
use azure_security_keyvault_secrets::models::{
    Secret as VaultSecret, SecretAttributes, SecretClientGetSecretOptions,
    SecretClientListSecretPropertiesOptions, SecretProperties, SetSecretParameters,
};
use azure_security_keyvault_secrets::{SecretClient, SecretClientOptions};
use futures_util::TryStreamExt as _;
use serde::Deserialize;

use hansa_model::secrets::backend::AzureConfig;
use hansa_model::secrets::value::{Mark, RemoteSecret, RemoteValue};
use hansa_model::{Secret, Timestamp};

use self::login::EntraLogin;
use self::way::Way;
use crate::connect::Connector;
use crate::driver::{
    Call, CallError, Driver, Entry, Found, ListPage, Login, OpenError, ReadVersion, Write, Written,
};

/// Names on one page: what the vault gives at most.
const PAGE: i32 = 25;

/// The secrets of one vault.
pub(crate) struct Azure {
    client: SecretClient,
    login: Arc<EntraLogin>,
    connector: Connector,
}

impl fmt::Debug for Azure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Azure").field("login", &self.login).finish_non_exhaustive()
    }
}

impl Azure {
    pub(crate) fn open(
        config: &AzureConfig,
        login: Option<&Login>,
        connector: &Connector,
    ) -> Result<Self, OpenError> {
        let login = Arc::new(EntraLogin::new(config, login, connector.clone())?);
        let options = SecretClientOptions {
            api_version: config.api_version.clone(),
            client_options: client_options(Way::to_vault(connector.clone(), &config.vault_url)),
            verify_challenge_resource: Some(config.verify_challenge_resource),
        };
        let credential: Arc<dyn TokenCredential> = login.clone();
        let client = SecretClient::new(config.vault_url.as_str(), credential, Some(options))
            .map_err(|_| OpenError::NotAllowed("vault_url is none that the client takes"))?;
        Ok(Self { client, login, connector: connector.clone() })
    }

    /// Calls; once more with a new login when it is refused.
    async fn call<T, F>(&self, call: impl Fn() -> F + Send) -> Result<T, CallError>
    where
        F: Future<Output = azure_core::Result<T>> + Send,
        T: Send,
    {
        let error = match call().await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        if !is_status(&error, 401) || !self.login.replace().await? {
            return Err(self.failure(&error));
        }
        match call().await {
            Ok(answer) => {
                self.login.accepted().await;
                Ok(answer)
            }
            Err(error) => {
                self.login.believe().await;
                Err(self.failure(&error))
            }
        }
    }

    async fn read_value(&self, name: &str, version: ReadVersion<'_>) -> Result<Found, CallError> {
        check_name(name)?;
        let version = match version {
            ReadVersion::Current | ReadVersion::Number(1) => None,
            ReadVersion::Named(version) if is_version(version) => Some(version.to_owned()),
            ReadVersion::Number(_) | ReadVersion::Named(_) => return Err(CallError::VersionNotFound),
        };
        let gone = if version.is_some() { CallError::VersionNotFound } else { CallError::NotFound };
        let call = || {
            let options =
                SecretClientGetSecretOptions { secret_version: version.clone(), ..Default::default() };
            self.client.get_secret(name, Some(options))
        };
        let found = match self.call(call).await {
            Err(CallError::NotFound) if version.is_some() => return Err(self.missing_version(name).await?),
            found => found?,
        };
        let found: VaultSecret = found.into_model().map_err(|_| NOT_A_VAULT)?;
        let attributes = found.attributes.unwrap_or_default();
        if !self.is_readable(&attributes) {
            return Err(gone);
        }
        let value = found.value.ok_or(CallError::BadAnswer { reason: "it answers no value" })?;
        let secret = RemoteSecret {
            value: RemoteValue::Text(Secret::new(value)),
            version: None,
            backend_version: found.id.as_deref().and_then(|id| last_segments(id).1).map(str::to_owned),
            mark: mark(&attributes),
            created_at: attributes.created.map(timestamp),
            updated_at: attributes.updated.map(timestamp),
            expires_at: attributes.expires.map(timestamp),
        };
        Ok(Found { secret, status: 200 })
    }

    /// Whether there is another version of what lacks the one that was asked for.
    async fn missing_version(&self, name: &str) -> Result<CallError, CallError> {
        let call = || async {
            let mut pages = self.client.list_secret_properties_versions(name, None)?.into_pages();
            let page = pages.try_next().await?.map(azure_core::http::Response::into_model).transpose()?;
            Ok(page.is_some_and(|page| !page.value.is_empty()))
        };
        match self.call(call).await {
            Ok(true) | Err(CallError::Refused { .. }) => Ok(CallError::VersionNotFound),
            Ok(false) | Err(CallError::NotFound) => Ok(CallError::NotFound),
            Err(error) => Err(error),
        }
    }

    async fn list_page(&self, prefix: &str, page: Option<&str>) -> Result<ListPage, CallError> {
        let from = page.map(Url::parse).transpose().map_err(|_| NOT_A_VAULT)?;
        let call = || async {
            let mut options =
                SecretClientListSecretPropertiesOptions { maxresults: Some(PAGE), ..Default::default() };
            options.method_options.continuation = from.clone().map(PagerContinuation::Link);
            let mut pages = self.client.list_secret_properties(Some(options))?.into_pages();
            let page = pages.try_next().await?.map(azure_core::http::Response::into_model).transpose()?;
            let next = pages.into_continuation().map(|next| next.as_ref().to_owned());
            Ok((page.map(|page| page.value).unwrap_or_default(), next))
        };
        let (listed, next) = self.call(call).await?;
        let entries = listed.iter().filter_map(entry).filter(|entry| match entry {
            Entry::Secret { name, .. } | Entry::Folder { name } => name.starts_with(prefix),
        });
        Ok(ListPage { entries: entries.collect(), next })
    }

    async fn write_value(&self, name: &str, write: Write<'_>) -> Result<Written, CallError> {
        check_name(name)?;
        let call = || async {
            let parameters =
                SetSecretParameters { value: Some(write.data.expose().to_owned()), ..Default::default() };
            self.client.set_secret(name, parameters.try_into()?, None).await
        };
        let written: VaultSecret = self.call(call).await?.into_model().map_err(|_| NOT_A_VAULT)?;
        let attributes = written.attributes.unwrap_or_default();
        Ok(Written { version: None, mark: mark(&attributes) })
    }

    /// Whether the vault gives this secret out now; it lists those that it does not.
    fn is_readable(&self, attributes: &SecretAttributes) -> bool {
        let now = self.connector.now();
        attributes.enabled.unwrap_or(true)
            && attributes.expires.map(timestamp).is_none_or(|end| now < end)
            && attributes.not_before.map(timestamp).is_none_or(|begin| begin <= now)
    }

    /// What a failed call means. The texts of errors are never used.
    fn failure(&self, error: &azure_core::Error) -> CallError {
        if let Some(ours) = ours(error) {
            return ours;
        }
        let ErrorKind::HttpResponse { status, raw_response, .. } = error.kind() else {
            // Our connector's errors have been told: what is left are a login's, challenges of another domain,
            // and texts that do not parse.
            let reason = "its challenge or its answer is not that of this vault";
            return if matches!(error.kind(), ErrorKind::Credential) {
                self.connector.refused("the login is refused")
            } else {
                CallError::BadAnswer { reason }
            };
        };
        let status = u16::from(*status);
        let response = raw_response.as_deref();
        let wait = response
            .and_then(|response| response.headers().get_optional_string(&"retry-after".into()))
            .and_then(|value| http::HeaderValue::from_str(&value).ok());
        let retry_after = wait.and_then(|value| crate::connect::retry_after(&value, self.connector.now()));
        let inner = || {
            let body: Option<ErrorBody> = serde_json::from_slice(response?.body()).ok();
            Some(body?.error?.innererror?.code)
        };
        match status {
            404 => CallError::NotFound,
            // Disabled, expired or not yet valid: refused on reading, though listed.
            403 if inner().is_some_and(|code| code.starts_with("Secret")) => CallError::NotFound,
            400 | 401 | 403 if status != 400 || is_entra(error) => {
                self.connector.refused("the login or its permission is refused")
            }
            409 => CallError::Conflict,
            429 => CallError::Throttled { retry_after },
            500..=599 => CallError::Unavailable {
                reason: "it answers with an error of its own",
                retry_after,
                connect: false,
            },
            300..=399 => CallError::BadAnswer { reason: "it sends us elsewhere" },
            _ => CallError::BadAnswer { reason: "it takes the request for a wrong one" },
        }
    }
}

impl Driver for Azure {
    fn probe(&self) -> Call<'_, ()> {
        Box::pin(async move { self.list_page("", None).await.map(drop) })
    }

    fn read<'a>(&'a self, name: &'a str, version: ReadVersion<'a>) -> Call<'a, Found> {
        Box::pin(self.read_value(name, version))
    }

    fn list<'a>(&'a self, prefix: &'a str, page: Option<&'a str>) -> Call<'a, ListPage> {
        Box::pin(self.list_page(prefix, page))
    }

    fn mark<'a>(&'a self, _name: &'a str) -> Call<'a, Option<Mark>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn write<'a>(&'a self, name: &'a str, write: Write<'a>) -> Call<'a, Written> {
        Box::pin(self.write_value(name, write))
    }
}

/// What every client of the vendor is made with: one try, over our connector, nothing of the environment.
fn client_options(way: Way) -> ClientOptions {
    ClientOptions {
        retry: RetryOptions::none(),
        transport: Some(Transport::new(Arc::new(way))),
        ..ClientOptions::default()
    }
}

const NOT_A_VAULT: CallError = CallError::BadAnswer { reason: "it does not answer as a Key Vault does" };

#[derive(Deserialize)]
struct ErrorBody {
    error: Option<ErrorDetail>,
}

#[derive(Deserialize)]
struct ErrorDetail {
    innererror: Option<InnerError>,
}

#[derive(Deserialize)]
struct InnerError {
    code: String,
}

/// What our own connector or login said, which comes back inside.
fn ours(error: &azure_core::Error) -> Option<CallError> {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = source {
        if let Some(ours) = inner.downcast_ref::<CallError>() {
            return Some(ours.clone());
        }
        source = inner.source();
    }
    None
}

fn is_status(error: &azure_core::Error, expected: u16) -> bool {
    matches!(error.kind(), ErrorKind::HttpResponse { status, .. } if u16::from(*status) == expected)
}

/// The directory's errors carry numbers for codes, a vault's carry names.
fn is_entra(error: &azure_core::Error) -> bool {
    let ErrorKind::HttpResponse { error_code: Some(code), .. } = error.kind() else { return false };
    code.bytes().all(|byte| byte.is_ascii_digit() || byte == b',')
}

/// The client pastes names into the path as they are.
fn check_name(name: &str) -> Result<(), CallError> {
    let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if (1..=127).contains(&name.len()) && name.bytes().all(known) { Ok(()) } else { Err(CallError::Name) }
}

fn is_version(version: &str) -> bool {
    (1..=64).contains(&version.len()) && version.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Name and version of an id such as `https://v.vault.azure.net/secrets/name/version`.
fn last_segments(id: &str) -> (Option<&str>, Option<&str>) {
    let Some((_, rest)) = id.split_once("/secrets/") else { return (None, None) };
    let mut parts = rest.splitn(2, '/');
    (parts.next(), parts.next().filter(|version| !version.is_empty()))
}

fn entry(listed: &SecretProperties) -> Option<Entry> {
    let name = last_segments(listed.id.as_deref()?).0?.to_ascii_lowercase();
    let mark = listed.attributes.as_ref().and_then(mark);
    Some(Entry::Secret { name, mark })
}

fn mark(attributes: &SecretAttributes) -> Option<Mark> {
    attributes.updated.map(|updated| Mark(updated.unix_timestamp().to_string()))
}

fn timestamp(time: OffsetDateTime) -> Timestamp {
    Timestamp::from_secs(time.unix_timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_change_the_route_are_refused() {
        for name in ["", "a/b", "..", "a?b", "a%2fb", "A", "a_b", "a b", &"a".repeat(128)] {
            assert_eq!(check_name(name), Err(CallError::Name), "{name}");
        }
        assert_eq!(check_name("prod--db-1"), Ok(()));
    }

    #[test]
    fn name_and_version_are_the_ends_of_an_id() {
        let id = "https://v.vault.azure.net/secrets/Name/0123";

        assert_eq!(last_segments(id), (Some("Name"), Some("0123")));
        assert_eq!(last_segments("https://v.vault.azure.net/secrets/Name"), (Some("Name"), None));
        assert_eq!(last_segments("https://v.vault.azure.net/keys/Name"), (None, None));
    }
}
