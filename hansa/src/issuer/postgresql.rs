//! The `postgresql` issuer: a lease is a role that can log in until its end, and is dropped after it.
//!
//! The role's name follows from node and lease, so a repeat of a call finds what the last one made, and a
//! sweep finds what nobody stands for. It is a member of the roles that the configuration names for the
//! backend role, and gets nothing else; no text from outside becomes SQL. The server is sent a SCRAM
//! verifier, never the password, so that its logs cannot hold one.

use std::path::PathBuf;
use std::time::Duration;

use hansa_actors::issuer::{Credential, CredentialName, Issuer, IssuerError, Issuing, Keep, Order};
use hansa_model::Secret;
use hansa_model::lease::LeaseKind;
use postgres_protocol::escape::{escape_identifier, escape_literal};
use serde_json::{Map, Value};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config::{BackendRole, PostgresqlIssuerConfig};

/// What stands before every role of ours.
const PREFIX: &str = "hansa_";
/// Time to reach the server.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(5);
/// Time that the sessions of a revoked role have to end.
const SESSIONS_WAIT_MS: i64 = 2_000;

/// Roles on one PostgreSQL server. Each call has its own connection: leases are rare, idle superuser
/// sessions are a risk.
#[derive(Debug)]
pub(crate) struct PostgresqlIssuer {
    name: String,
    kinds: Vec<LeaseKind>,
    roles: Vec<BackendRole>,
    connection: Config,
    password_file: Option<PathBuf>,
    tls: Option<rustls::ClientConfig>,
    statement_timeout: Duration,
}

impl PostgresqlIssuer {
    /// An issuer as configured; nothing is asked of the server. `tls` is none for a server on this machine.
    pub(crate) fn new(config: PostgresqlIssuerConfig, tls: Option<rustls::ClientConfig>) -> Self {
        let PostgresqlIssuerConfig {
            name,
            kinds,
            roles,
            mut connection,
            password_file,
            statement_timeout,
            ..
        } = config;
        connection.connect_timeout(CONNECT_WAIT_MAX).application_name("hansa");
        Self { name, kinds, roles, connection, password_file, tls, statement_timeout }
    }

    /// Runs work on a connection of its own, which ends with it.
    async fn with_client<T>(
        &self,
        work: impl AsyncFnOnce(&mut Client) -> Result<T, IssuerError>,
    ) -> Result<T, IssuerError> {
        let mut config = self.connection.clone();
        if let Some(path) = &self.password_file {
            let text = tokio::fs::read_to_string(path).await.map(Secret::new).map_err(|error| {
                IssuerError::Unavailable(format!("{}: password_file cannot be read: {error}", self.name))
            })?;
            config.password(text.expose().trim_end_matches(['\r', '\n']));
        }
        let failed = |error| self.error(&error);
        match &self.tls {
            Some(tls) => {
                let tls = MakeRustlsConnect::new(tls.clone());
                let (client, connection) = config.connect(tls).await.map_err(failed)?;
                self.drive(client, connection, work).await
            }
            None => {
                let (client, connection) = config.connect(NoTls).await.map_err(failed)?;
                self.drive(client, connection, work).await
            }
        }
    }

    async fn drive<T>(
        &self,
        mut client: Client,
        connection: impl Future<Output = Result<(), tokio_postgres::Error>>,
        work: impl AsyncFnOnce(&mut Client) -> Result<T, IssuerError>,
    ) -> Result<T, IssuerError> {
        let timeout = format!("SET statement_timeout = {}", self.statement_timeout.as_millis());
        let working = async {
            client.batch_execute(&timeout).await.map_err(|error| self.error(&error))?;
            work(&mut client).await
        };
        tokio::select! {
            // The connection ends only with the client, or by a fault that the client is told of.
            biased;
            done = working => done,
            ended = connection => Err(match ended {
                Err(error) => self.error(&error),
                Ok(()) => IssuerError::Unavailable(format!("{}: the server closed the connection", self.name)),
            }),
        }
    }

    async fn make(&self, order: &Order) -> Result<Credential, IssuerError> {
        let Some(backend) = self.roles.iter().find(|role| role.name == order.backend_role) else {
            return Err(IssuerError::Refused(format!(
                "{} has no such backend role: add it to backend_roles of its [[lease_issuer]]",
                self.name
            )));
        };
        let role = role_name(&order.name);
        let verifier = postgres_protocol::password::scram_sha_256(order.password.expose().as_bytes());
        let options = format!(
            "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION INHERIT PASSWORD {} VALID UNTIL {}",
            escape_literal(&verifier),
            escape_literal(&order.expires_at.to_string()),
        );
        self.with_client(async |client| {
            let step = async {
                let transaction = client.transaction().await?;
                let verb = if exists(&transaction, &role).await? { "ALTER" } else { "CREATE" };
                let quoted = escape_identifier(&role);
                transaction.batch_execute(&format!("{verb} ROLE {quoted} {options}")).await?;
                for granted in &backend.grants {
                    let granted = escape_identifier(granted);
                    transaction.batch_execute(&format!("GRANT {granted} TO {quoted}")).await?;
                }
                transaction.commit().await
            };
            step.await.map_err(|error: tokio_postgres::Error| self.error(&error))
        })
        .await?;
        let mut metadata = Map::new();
        metadata.insert("issuer".to_owned(), self.name.clone().into());
        metadata.insert("username".to_owned(), role.clone().into());
        if let Some(database) = self.connection.get_dbname() {
            metadata.insert("database".to_owned(), database.into());
        }
        if let Some(tokio_postgres::config::Host::Tcp(host)) = self.connection.get_hosts().first() {
            metadata.insert("host".to_owned(), host.as_str().into());
            let port = self.connection.get_ports().first().copied().unwrap_or(5_432);
            metadata.insert("port".to_owned(), Value::from(port));
        }
        Ok(Credential {
            value: Secret::new(format!("{role}:{}", order.password.expose())),
            vault_lease_id: format!("{}/{role}", self.name),
            expires_at: order.expires_at,
            metadata,
        })
    }

    async fn drop_role(&self, role: &str) -> Result<(), IssuerError> {
        self.with_client(async |client| self.drop_on(client, role).await).await
    }

    /// First no new session, then the end of the old ones, then what the role owns, then the role.
    async fn drop_on(&self, client: &mut Client, role: &str) -> Result<(), IssuerError> {
        let quoted = escape_identifier(role);
        let steps = async {
            if !exists(client, role).await? {
                return Ok(());
            }
            client
                .batch_execute(&format!("ALTER ROLE {quoted} NOLOGIN PASSWORD NULL VALID UNTIL '-infinity'"))
                .await?;
            // Who made the role may not have its rights: without them neither its sessions end nor can its
            // objects be given away. A superuser has them, and takes the membership back by dropping it.
            client.batch_execute(&format!("GRANT {quoted} TO CURRENT_USER")).await?;
            let end = "SELECT pg_terminate_backend(pid, $2) FROM pg_stat_activity WHERE usename = $1";
            client.query(end, &[&role, &SESSIONS_WAIT_MS]).await?;
            let transaction = client.transaction().await?;
            transaction
                .batch_execute(&format!(
                    "REASSIGN OWNED BY {quoted} TO CURRENT_USER; DROP OWNED BY {quoted}; DROP ROLE {quoted}"
                ))
                .await?;
            transaction.commit().await
        };
        steps.await.map_err(|error: tokio_postgres::Error| self.error(&error))
    }

    async fn sweep_roles(&self, keep: &Keep) -> Result<u64, IssuerError> {
        self.with_client(async |client| {
            let rows = client
                .query("SELECT rolname::text FROM pg_roles WHERE starts_with(rolname, $1)", &[&PREFIX])
                .await
                .map_err(|error| self.error(&error))?;
            let mut swept = 0;
            for row in rows {
                let role: String = row.try_get(0).map_err(|error| self.error(&error))?;
                let label = role.strip_prefix(PREFIX).unwrap_or_default();
                if keep.leftover(label).is_some() {
                    self.drop_on(client, &role).await?;
                    swept += 1;
                }
            }
            Ok(swept)
        })
        .await
    }

    /// Tells a failure by what to do about it. The server's own words name roles, never a password.
    fn error(&self, error: &tokio_postgres::Error) -> IssuerError {
        let name = &self.name;
        let Some(refusal) = error.as_db_error() else {
            let mut deepest: &dyn std::error::Error = error;
            while let Some(cause) = deepest.source() {
                deepest = cause;
            }
            return IssuerError::Unavailable(format!(
                "{name}: PostgreSQL cannot be reached: {deepest}. See connection of its [[lease_issuer]]"
            ));
        };
        let code = refusal.code();
        let said = format!("{name}: PostgreSQL says {} {}", code.code(), refusal.message());
        if *code == SqlState::INSUFFICIENT_PRIVILEGE {
            return IssuerError::Unavailable(format!(
                "{said}: its user needs CREATEROLE, and the roles of backend_roles WITH ADMIN OPTION"
            ));
        }
        if *code == SqlState::UNDEFINED_OBJECT {
            return IssuerError::Refused(format!("{said}: make the roles that backend_roles names"));
        }
        IssuerError::Unavailable(said)
    }
}

impl Issuer for PostgresqlIssuer {
    fn name(&self) -> &str {
        &self.name
    }

    fn serves(&self, kind: LeaseKind, backend_role: &str) -> bool {
        self.kinds.contains(&kind) && self.roles.iter().any(|role| role.name == backend_role)
    }

    fn issue<'a>(&'a self, order: &'a Order) -> Issuing<'a, Credential> {
        Box::pin(self.make(order))
    }

    fn revoke<'a>(&'a self, name: &'a CredentialName, _ids: &'a [String]) -> Issuing<'a, ()> {
        Box::pin(async move { self.drop_role(&role_name(name)).await })
    }

    fn sweep<'a>(&'a self, keep: &'a Keep) -> Issuing<'a, u64> {
        Box::pin(self.sweep_roles(keep))
    }
}

/// 47 bytes; PostgreSQL takes 63.
fn role_name(name: &CredentialName) -> String {
    format!("{PREFIX}{}", name.label())
}

async fn exists(
    client: &impl tokio_postgres::GenericClient,
    role: &str,
) -> Result<bool, tokio_postgres::Error> {
    let row = client.query_opt("SELECT 1 FROM pg_roles WHERE rolname = $1", &[&role]).await?;
    Ok(row.is_some())
}
