//! Issuers of secret leases: what the sources say, and what is left of it once it is valid.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use hansa_model::lease::LeaseKind;
use serde::{Deserialize, Serialize};
use tokio_postgres::config::{Host, SslMode};

use super::ConfigError;
use crate::system::is_loopback_host;

const STATEMENT_SECONDS: u64 = 10;

/// What an issuer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseIssuerType {
    /// Random credentials that open nothing, to try out the way they go.
    Trial,
    /// Roles on a PostgreSQL server.
    Postgresql,
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
    /// Certificate authorities beside the web's, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Seconds that a statement may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement_timeout_seconds: Option<u64>,
    /// Backend role → the roles that it is a member of.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub backend_roles: BTreeMap<String, Vec<String>>,
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
                let roles = self.backend_roles.into_iter().map(|(name, grants)| BackendRole { name, grants });
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
        }
    }
}
