//! The login at Azure's directory: a client secret for a token.
//!
//! The vendor's credential makes the request; how long a token is used, and what follows a refusal, is ours,
//! as for every other store.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use azure_core::cloud::{CloudConfiguration, CustomConfiguration};
use azure_core::credentials::{AccessToken, Secret as AzureSecret, TokenCredential, TokenRequestOptions};
use azure_core::error::{Error, ErrorKind};
use azure_core::http::ClientOptions;
use azure_core::time::OffsetDateTime;
use azure_identity::{ClientSecretCredential, ClientSecretCredentialOptions};

use hansa_model::Secret;
use hansa_model::secrets::backend::AzureConfig;

use super::client_options;
use super::way::Way;
use crate::connect::Connector;
use crate::driver::{CallError, OpenError};
use crate::login::LoginData;
use crate::session::{Login, Session, Sessions, Ticket};

/// The public cloud's directory.
const PUBLIC: &str = "https://login.microsoftonline.com";

/// Gives tokens to the client, one call at a time.
pub(super) struct EntraLogin {
    tenant_id: String,
    client_id: String,
    client_secret: Secret<String>,
    authority: String,
    connector: Connector,
    sessions: Sessions,
    /// The scope that the vault's challenge names, and the login that was last given out for it.
    last: Mutex<Option<Arc<Session>>>,
    scope: Mutex<String>,
}

impl fmt::Debug for EntraLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EntraLogin")
    }
}

impl EntraLogin {
    pub(super) fn new(
        config: &AzureConfig,
        login: Option<&crate::driver::Login>,
        connector: Connector,
    ) -> Result<Self, OpenError> {
        let data = LoginData::parse(login)?;
        let authority = config.authority_host.as_ref().map_or(PUBLIC, |authority| authority.as_str());
        Ok(Self {
            tenant_id: config.tenant_id.clone(),
            client_id: data.text("client_id")?.expose().clone(),
            client_secret: data.text("client_secret")?,
            authority: authority.to_owned(),
            connector,
            sessions: Sessions::default(),
            last: Mutex::default(),
            scope: Mutex::default(),
        })
    }

    /// Logs in anew after the vault refused the last token; false when that refusal is to be believed.
    pub(super) async fn replace(&self) -> Result<bool, CallError> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match last {
            Some(last) => Ok(self.sessions.replace(self, &last).await?.is_some()),
            None => Ok(false),
        }
    }

    pub(super) async fn believe(&self) {
        self.sessions.believe().await;
    }

    pub(super) async fn accepted(&self) {
        self.sessions.accepted().await;
    }

    /// Made anew each time: the vendor's own keeps tokens.
    fn credential(&self) -> azure_core::Result<Arc<ClientSecretCredential>> {
        let mut cloud = CustomConfiguration::default();
        cloud.authority_host.clone_from(&self.authority);
        let client_options = ClientOptions {
            cloud: Some(Arc::new(CloudConfiguration::Custom(cloud))),
            ..client_options(Way::to_directory(self.connector.clone(), &self.authority))
        };
        let secret = AzureSecret::new(self.client_secret.expose().clone());
        let options = ClientSecretCredentialOptions { client_options };
        ClientSecretCredential::new(&self.tenant_id, self.client_id.clone(), secret, Some(options))
    }
}

impl Login for EntraLogin {
    async fn login(&self) -> Result<Ticket, CallError> {
        let scope = self.scope.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let refused = |error: Error| match super::ours(&error) {
            Some(ours) => ours,
            None => self.connector.refused("the login is refused"),
        };
        let credential = self.credential().map_err(refused)?;
        let given = credential.get_token(&[&scope], None).await.map_err(refused)?;
        let seconds = given.expires_on.unix_timestamp() - self.connector.now().as_secs();
        let lease = Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).max(Duration::from_secs(1));
        let token = Secret::new(given.token.secret().to_owned());
        Ok(Ticket { token, lease: Some(lease), full: Some(lease), renewable: false, uses: None })
    }

    async fn renew(&self, _ticket: &Ticket) -> Result<Option<Ticket>, CallError> {
        Ok(None)
    }
}

#[async_trait]
impl TokenCredential for EntraLogin {
    async fn get_token(
        &self,
        scopes: &[&str],
        _options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        let scope = scopes.join(" ");
        self.scope.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&scope);
        let session = self.sessions.session(self).await;
        let session = session.map_err(|error| Error::new(ErrorKind::Credential, error))?;
        let token = AzureSecret::new(session.ticket.token.expose().clone());
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
        // Long past at once, so that whoever caches it asks us again: how long it is used is decided here.
        Ok(AccessToken::new(token, OffsetDateTime::UNIX_EPOCH))
    }
}
