//! The `vault` issuer: a lease is one of a database engine of Vault or OpenBao.
//!
//! The server draws user name and password, so a new value is another credential, and the one before it is
//! discarded. What it is not asked to take away any more, because a crash or a lost answer hid it from us, it
//! ends by itself: no credential lives longer than its lease was to live.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use hansa_actors::issuer::{Credential, CredentialName, Issuer, IssuerError, Issuing, Keep, Order};
use hansa_backends::{CallError, Leased, Leaser, Login, Opening, VendorDrivers};
use hansa_model::Secret;
use hansa_model::lease::LeaseKind;
use hansa_model::limits::lease::TTL_SECONDS_MIN;
use hansa_model::secrets::backend::BackendConfig;
use serde::Deserialize;
use serde_json::Map;

use crate::cli::failure::{Exit, Failure};
use crate::config::VaultIssuerConfig;
use crate::system::{SystemClock, SystemEntropy};

/// Leases of one Vault.
#[derive(Debug)]
pub(crate) struct VaultIssuer {
    name: String,
    /// Backend role → path of its credentials.
    paths: BTreeMap<String, String>,
    backend: BackendConfig,
    login_file: Option<PathBuf>,
    roots: Option<String>,
    drivers: VendorDrivers,
    current: Mutex<Option<Current>>,
}

/// The server, and what the file held when it was opened.
#[derive(Debug)]
struct Current {
    login: Option<Secret<String>>,
    leaser: Arc<dyn Leaser>,
}

/// What a database engine gives.
#[derive(Deserialize)]
struct Given {
    username: String,
    password: String,
}

impl VaultIssuer {
    /// An issuer as configured; nothing is asked of the server.
    ///
    /// # Errors
    /// The file with certificate authorities cannot be read.
    pub(crate) fn open(config: VaultIssuerConfig, drivers: VendorDrivers) -> Result<Self, Failure> {
        let VaultIssuerConfig { name, paths, backend, login_file, ca_file } = config;
        let read = |path: PathBuf| {
            std::fs::read_to_string(&path).map_err(|error| {
                let path = path.display();
                Failure::new(Exit::Failed, format!("lease_issuer.ca_file {path} cannot be read: {error}"))
            })
        };
        let roots = ca_file.map(read).transpose()?;
        Ok(Self { name, paths, backend, login_file, roots, drivers, current: Mutex::default() })
    }

    /// The server, logged in to with what the file holds now: a login is changed without a restart.
    async fn leaser(&self) -> Result<Arc<dyn Leaser>, IssuerError> {
        let unavailable = |reason: String| IssuerError::Unavailable(format!("{}: {reason}", self.name));
        let login = match &self.login_file {
            Some(path) => Some(tokio::fs::read_to_string(path).await.map(Secret::new).map_err(|error| {
                unavailable(format!("login_file of its [[lease_issuer]] cannot be read: {error}"))
            })?),
            None => None,
        };
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*current
            && known.login == login
        {
            return Ok(Arc::clone(&known.leaser));
        }
        let opening = Opening {
            config: self.backend.clone(),
            login: login.clone().map(Login),
            roots: self.roots.clone(),
            wall: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
        };
        let leaser = self
            .drivers
            .open_leaser(&opening)
            .map_err(|error| unavailable(format!("{error}: see its [[lease_issuer]]")))?;
        *current = Some(Current { login, leaser: Arc::clone(&leaser) });
        Ok(leaser)
    }

    async fn make(&self, order: &Order) -> Result<Credential, IssuerError> {
        let Some(path) = self.paths.get(&order.backend_role) else {
            return Err(IssuerError::Refused(format!(
                "{} has no such backend role: add it to backend_roles of its [[lease_issuer]]",
                self.name
            )));
        };
        let leaser = self.leaser().await?;
        let leased = leaser.lease(path, order.life).await.map_err(|error| self.error(&error, path))?;
        match self.credential(order, path, &leased) {
            Ok(credential) => Ok(credential),
            Err(reason) => {
                // It is of no use to anybody. If it cannot be taken away now it ends by itself.
                let _ = leaser.end(&leased.lease_id).await;
                Err(IssuerError::Unavailable(format!("{}: {reason}", self.name)))
            }
        }
    }

    fn credential(&self, order: &Order, path: &str, leased: &Leased) -> Result<Credential, String> {
        let seconds = leased.life.as_secs();
        if seconds < TTL_SECONDS_MIN.into() {
            return Err(format!(
                "a credential of {path} lives {seconds} seconds and a lease needs {TTL_SECONDS_MIN}: raise max_ttl \
                 of that role, or the life of the token that the login gives"
            ));
        }
        let given: Given = serde_json::from_str(leased.data.expose())
            .map_err(|_| format!("{path} gives no username and password: mount must be a database engine"))?;
        let password = Secret::new(given.password);
        let mut metadata = Map::new();
        metadata.insert("issuer".to_owned(), self.name.clone().into());
        metadata.insert("username".to_owned(), given.username.clone().into());
        Ok(Credential {
            value: Secret::new(format!("{}:{}", given.username, password.expose())),
            vault_lease_id: leased.lease_id.clone(),
            expires_at: order.end_after(leased.life),
            metadata,
        })
    }

    async fn end(&self, ids: &[String]) -> Result<(), IssuerError> {
        if ids.is_empty() {
            return Ok(());
        }
        let leaser = self.leaser().await?;
        for id in ids {
            leaser.end(id).await.map_err(|error| self.error(&error, "sys/leases/revoke"))?;
        }
        Ok(())
    }

    /// Tells a failure by what to do about it. No word of it is the server's.
    fn error(&self, error: &CallError, path: &str) -> IssuerError {
        let name = &self.name;
        match error {
            CallError::NotFound | CallError::VersionNotFound | CallError::Name => {
                IssuerError::Refused(format!(
                    "{name}: Vault has nothing at {path}: make the role there, or correct mount and \
                     backend_roles of its [[lease_issuer]]"
                ))
            }
            CallError::Refused { reason } => IssuerError::Unavailable(format!(
                "{name}: Vault refuses {path}: {reason}. Its login needs a policy with read on the roles of \
                 backend_roles, and update on sys/leases/renew and sys/leases/revoke"
            )),
            CallError::Unavailable { reason, .. } => IssuerError::Unavailable(format!(
                "{name}: Vault cannot be asked for {path}: {reason}. See the server, and address of its \
                 [[lease_issuer]]"
            )),
            CallError::Throttled { .. } => {
                IssuerError::Unavailable(format!("{name}: Vault takes no more calls for now"))
            }
            CallError::BadAnswer { reason } => {
                IssuerError::Unavailable(format!("{name}: Vault's answer to {path} cannot be used: {reason}"))
            }
            CallError::Address(refusal) => IssuerError::Unavailable(format!("{name}: its address {refusal}")),
            CallError::Conflict => IssuerError::Unavailable(format!("{name}: {error}")),
        }
    }
}

impl Issuer for VaultIssuer {
    fn name(&self) -> &str {
        &self.name
    }

    fn serves(&self, kind: LeaseKind, backend_role: &str) -> bool {
        kind == LeaseKind::Database && self.paths.contains_key(backend_role)
    }

    fn issue<'a>(&'a self, order: &'a Order) -> Issuing<'a, Credential> {
        Box::pin(self.make(order))
    }

    fn revoke<'a>(&'a self, _name: &'a CredentialName, ids: &'a [String]) -> Issuing<'a, ()> {
        Box::pin(self.end(ids))
    }

    fn discard<'a>(&'a self, ids: &'a [String]) -> Issuing<'a, ()> {
        Box::pin(self.end(ids))
    }

    /// What nobody knows any more ends by itself; the engine does not tell whose a lease is.
    fn sweep<'a>(&'a self, _keep: &'a Keep) -> Issuing<'a, u64> {
        Box::pin(std::future::ready(Ok(0)))
    }
}
