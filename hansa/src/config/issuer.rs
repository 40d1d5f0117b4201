//! Issuers of secret leases: what the sources say, and what is left of it once it is valid.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use hansa_model::lease::LeaseKind;
use hansa_model::limits::lease::CALL_WAIT_MAX;
use hansa_model::secrets::backend::{BackendConfig, BackendKind};
use hansa_model::secrets::path::SecretPath;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_postgres::config::{Host, SslMode};

use super::ConfigError;
use crate::system::is_loopback_host;

const STATEMENT_SECONDS: u64 = 10;
const TIMEOUT_SECONDS: u64 = 10;
const MOUNT_DEFAULT: &str = "database";

/// What an issuer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseIssuerType {
    /// Random credentials that open nothing, to try out the way they go.
    Trial,
    /// Roles on a PostgreSQL server.
    Postgresql,
    /// Leases of a database engine of Vault or OpenBao.
    Vault,
}

/// One `[[lease_issuer]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseIssuerLayer {
    /// Stands in each lease; never change it while leases are open.
    pub name: String,
    /// See [`LeaseIssuerType`].
    #[serde(rename = "type")]
    pub kind: LeaseIssuerType,
    /// Kinds of credentials that it gives. Default: `database`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kinds: Option<Vec<LeaseKind>>,
    /// Connection string without a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    /// File with the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Certificate authorities, PEM: beside the web's for `postgresql`, in their place for `vault`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Seconds that a statement may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement_timeout_seconds: Option<u64>,
    /// URL of a Vault, without a path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Its namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// How to log in to it, as secret backends do. Default: `approle`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_method: Option<String>,
    /// Where that method is mounted. Default: its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_mount: Option<String>,
    /// File with the login, a JSON object with the members of a secret backend's login secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_file: Option<PathBuf>,
    /// Where the engine is mounted. Default: `database`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount: Option<String>,
    /// Seconds that one credential may take to be made or taken away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
    /// Backend role → the roles that it is a member of, or the one role of the engine.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub backend_roles: BTreeMap<String, Names>,
}

/// What a backend role stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
#[allow(missing_docs, reason = "each variant holds what it is named after")]
pub enum Names {
    One(String),
    Several(Vec<String>),
}

impl Names {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(name) => vec![name],
            Self::Several(names) => names,
        }
    }
}

/// A valid issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseIssuer {
    /// See [`LeaseIssuerType::Trial`].
    Trial {
        /// Its name.
        name: String,
    },
    /// See [`LeaseIssuerType::Postgresql`].
    Postgresql(Box<PostgresqlIssuerConfig>),
    /// See [`LeaseIssuerType::Vault`].
    Vault(Box<VaultIssuerConfig>),
}

/// A valid PostgreSQL issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresqlIssuerConfig {
    /// Its name.
    pub(crate) name: String,
    pub(crate) kinds: Vec<LeaseKind>,
    pub(crate) roles: Vec<BackendRole>,
    pub(crate) connection: tokio_postgres::Config,
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) ca_file: Option<PathBuf>,
    /// Every server that is not on this machine is spoken to over TLS.
    pub(crate) tls: bool,
    pub(crate) statement_timeout: Duration,
}

/// A valid Vault issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultIssuerConfig {
    /// Its name.
    pub(crate) name: String,
    /// Backend role → path of its credentials, such as `database/creds/reader`.
    pub(crate) paths: BTreeMap<String, String>,
    pub(crate) backend: BackendConfig,
    pub(crate) login_file: Option<PathBuf>,
    pub(crate) ca_file: Option<PathBuf>,
}

/// A role that may be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BackendRole {
    pub(crate) name: String,
    /// The roles of the database that it is a member of.
    pub(crate) grants: Vec<String>,
}

impl LeaseIssuerLayer {
    /// Checks one issuer.
    ///
    /// # Errors
    /// [`ConfigError::LeaseIssuer`], which names the key.
    pub(crate) fn resolve(self) -> Result<LeaseIssuer, ConfigError> {
        let name = self.name.clone();
        let bad = |reason: &str| ConfigError::LeaseIssuer { name: name.clone(), reason: reason.to_owned() };
        if self.name.is_empty()
            || self.name.len() > 64
            || !self.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        {
            return Err(bad("name must have 1 to 64 letters, digits, '-', '_' and '.'"));
        }
        match self.kind {
            LeaseIssuerType::Trial => Ok(LeaseIssuer::Trial { name: self.name }),
            LeaseIssuerType::Postgresql => {
                let connection = self.connection.as_deref().ok_or_else(|| bad("connection is missing"))?;
                let mut connection: tokio_postgres::Config = connection
                    .parse()
                    .map_err(|_| bad("connection is no connection string of PostgreSQL"))?;
                if connection.get_password().is_some() {
                    return Err(bad("connection must have no password: put it into password_file"));
                }
                if connection.get_hosts().is_empty() || connection.get_user().is_none() {
                    return Err(bad("connection needs host and user"));
                }
                if self.backend_roles.is_empty() {
                    return Err(bad("backend_roles is empty: name at least one role and what it is granted"));
                }
                let local = connection.get_hosts().iter().all(|host| match host {
                    Host::Tcp(host) => is_loopback_host(host),
                    Host::Unix(_) => true,
                });
                let tls = !local || connection.get_ssl_mode() == SslMode::Require;
                connection.ssl_mode(if tls { SslMode::Require } else { SslMode::Disable });
                let seconds = self.statement_timeout_seconds.unwrap_or(STATEMENT_SECONDS);
                if seconds == 0 {
                    return Err(bad("statement_timeout_seconds must be at least 1"));
                }
                let roles = self
                    .backend_roles
                    .into_iter()
                    .map(|(name, grants)| BackendRole { name, grants: grants.into_vec() });
                Ok(LeaseIssuer::Postgresql(Box::new(PostgresqlIssuerConfig {
                    name: self.name,
                    kinds: self.kinds.unwrap_or_else(|| vec![LeaseKind::Database]),
                    roles: roles.collect(),
                    connection,
                    password_file: self.password_file,
                    ca_file: self.ca_file,
                    tls,
                    statement_timeout: Duration::from_secs(seconds),
                })))
            }
            LeaseIssuerType::Vault => self.resolve_vault().map_err(|reason| bad(&reason)),
        }
    }

    /// The reason names the key.
    fn resolve_vault(self) -> Result<LeaseIssuer, String> {
        if self.kinds.is_some_and(|kinds| kinds != [LeaseKind::Database]) {
            return Err("kinds: a database engine gives credentials of the kind database alone".to_owned());
        }
        let mount = self.mount.unwrap_or_else(|| MOUNT_DEFAULT.to_owned());
        let mut paths = BTreeMap::new();
        for (role, names) in self.backend_roles {
            let [name] = names.into_vec().try_into().unwrap_or_default();
            let path = format!("{}/creds/{name}", mount.trim_matches('/'));
            let is_plain = !name.contains('/') && path.parse::<SecretPath>().is_ok();
            if !is_plain {
                return Err(
                    "mount and backend_roles: name one role of the engine for each backend role".to_owned()
                );
            }
            paths.insert(role, path);
        }
        if paths.is_empty() {
            return Err(
                "backend_roles is empty: name at least one role, and what it is at the engine".to_owned()
            );
        }
        let auth_method = self.auth_method.unwrap_or_else(|| "approle".to_owned());
        if self.login_file.is_none() && auth_method != "kubernetes" {
            return Err("login_file is missing".to_owned());
        }
        let seconds = self.timeout_seconds.unwrap_or(TIMEOUT_SECONDS);
        if seconds == 0 || seconds >= CALL_WAIT_MAX.as_secs() {
            return Err(format!("timeout_seconds must be at least 1 and below {}", CALL_WAIT_MAX.as_secs()));
        }
        let mut config = json!({
            "endpoint": self.address.ok_or("address is missing")?,
            "auth_method": auth_method,
            // Where a backend's login would be; ours is in a file.
            "auth_config_path": "login-file",
            "timeout": format!("{seconds}s"),
        });
        let optional = [("namespace", self.namespace), ("auth_mount", self.auth_mount)];
        for (member, value) in optional.into_iter().filter_map(|(member, value)| Some((member, value?))) {
            config[member] = value.into();
        }
        let backend = BackendConfig::parse(BackendKind::HashicorpVault, &config.to_string())
            .map_err(|error| format!("{} {}", error.field.replace("endpoint", "address"), error.reason))?;
        Ok(LeaseIssuer::Vault(Box::new(VaultIssuerConfig {
            name: self.name,
            paths,
            backend,
            login_file: self.login_file,
            ca_file: self.ca_file,
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VAULT: &str = "name = 'orders'\ntype = 'vault'\nlogin_file = '/etc/hansa/login'\n";

    fn resolve(more: &str) -> Result<LeaseIssuer, String> {
        let layer: LeaseIssuerLayer = toml::from_str(&format!("{VAULT}{more}")).unwrap();
        layer.resolve().map_err(|error| error.to_string())
    }

    #[test]
    fn backend_role_of_a_vault_becomes_the_path_of_its_credentials() {
        let more =
            "address = 'https://vault:8200'\nmount = '/team/db/'\nbackend_roles = { a = 'r', b = ['s'] }";

        let Ok(LeaseIssuer::Vault(config)) = resolve(more) else { panic!("it is valid") };

        let paths: Vec<_> = config.paths.values().map(String::as_str).collect();
        assert_eq!(paths, ["team/db/creds/r", "team/db/creds/s"]);
    }

    #[test]
    fn vault_that_cannot_be_asked_names_the_key() {
        let roles = "backend_roles = { reader = 'r' }";
        let address = "address = 'https://vault:8200'";
        for (more, key) in [
            (roles.to_owned(), "address"),
            (format!("address = 'https://vault:8200/v1'\n{roles}"), "address"),
            (address.to_owned(), "backend_roles"),
            (format!("{address}\nbackend_roles = {{ reader = ['a', 'b'] }}"), "backend_roles"),
            (format!("{address}\nbackend_roles = {{ reader = '../../sys' }}"), "backend_roles"),
            (format!("{address}\nmount = 'a/../b'\n{roles}"), "mount"),
            (format!("{address}\nauth_method = 'ldap'\n{roles}"), "auth_method"),
            (format!("{address}\nauth_mount = '../x'\n{roles}"), "auth_mount"),
            (format!("{address}\nkinds = ['ssh']\n{roles}"), "kinds"),
            (format!("{address}\ntimeout_seconds = 15\n{roles}"), "timeout_seconds"),
        ] {
            let error = resolve(&more).unwrap_err();
            assert!(error.contains(key), "{more}: {error}");
        }
    }
}
