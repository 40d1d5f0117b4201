//! Configuration of one node: defaults, then files, then the environment, then flags.
//!
//! A [`Layer`] holds what one source says and nothing else; layers lie on each other, and [`Layer::resolve`]
//! fills what is left with the defaults. Nothing starts before the result is valid. `config/defaults.toml`
//! is the documentation of every key; a test keeps it true.

mod backends;
mod connector;
mod issuer;
mod operators;
mod transit;
mod webhook;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hansa_actors::IssuerConfig;
use hansa_model::access::Grant;
use hansa_model::enrollment::Role;
use hansa_model::limits::command::KEPT_DEFAULT;
use hansa_model::limits::connector as limits;
use hansa_model::limits::http::DRAIN_WAIT_MAX;
use hansa_model::machine::bucket::{Category, Rates};
use serde::{Deserialize, Serialize};

use crate::system::is_loopback;
use crate::telemetry::LogFormat;

pub use backends::{BackendsConfig, BackendsLayer};
pub use connector::{Connector, ConnectorLayer, Way};
pub(crate) use issuer::{BackendRole, PostgresqlIssuerConfig, VaultIssuerConfig};
pub use issuer::{LeaseIssuer, LeaseIssuerLayer, LeaseIssuerType, Names};
pub use operators::{GrantLayer, IssuerLayer, OperatorsLayer};
pub use transit::{Transit, TransitLayer, TransitLogin};
pub use webhook::{WebhookLayer, WebhookTarget};

/// The commented file that `hansa config --defaults` prints.
pub const DEFAULTS: &str = include_str!("config/defaults.toml");

/// Read when no other file is named; absent is fine.
const FILE_DEFAULT: &str = "/etc/hansa/hansa.toml";
/// Files of this folder, in the order of their names, lie on the file above.
const FOLDER_DEFAULT: &str = "/etc/hansa/conf.d";

const HTTP_PORT: u16 = 8080;
/// Where a coordinator takes QUIC unless told otherwise.
pub const QUIC_LISTEN_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7443);
const CACHE_MIB: u64 = 64;
const LOG_FILTER: &str = "info";

/// What one source says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Layer {
    /// Folder of the node's state.
    pub data_dir: Option<PathBuf>,
    /// Where HTTP is served.
    pub listen: Option<SocketAddr>,
    /// Under which URL this node is reached.
    pub public_url: Option<String>,
    /// Role to set at start.
    pub role: Option<Role>,
    /// Seconds that open requests have to end.
    pub drain_seconds: Option<u64>,
    /// Allows plain HTTP beyond loopback.
    pub insecure_http: Option<bool>,
    /// Where the root key lies.
    pub root_key_file: Option<PathBuf>,
    /// Waits for a passphrase that nobody gave.
    pub root_key_await_unlock: Option<bool>,
    /// See [`TransitLayer`].
    pub root_key_transit: TransitLayer,
    /// See [`LeaseIssuerLayer`].
    pub lease_issuer: Vec<LeaseIssuerLayer>,
    /// See [`TlsLayer`].
    pub tls: TlsLayer,
    /// See [`FederationLayer`].
    pub federation: FederationLayer,
    /// See [`StorageLayer`].
    pub storage: StorageLayer,
    /// See [`CommandsLayer`].
    pub commands: CommandsLayer,
    /// See [`LogLayer`].
    pub log: LogLayer,
    /// See [`OperatorsLayer`].
    pub operators: OperatorsLayer,
    /// See [`ConnectorLayer`]. Those of all files count, in the order of the files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub connector: Vec<ConnectorLayer>,
    /// See [`IssuerLayer`]. Those of all files count.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub issuer: Vec<IssuerLayer>,
    /// See [`WebhookLayer`].
    pub webhook: Vec<WebhookLayer>,
    /// See [`BackendsLayer`].
    pub backends: BackendsLayer,
    /// Calls of the secrets API by caller and minute, by category.
    pub secret_rates: BTreeMap<Category, u32>,
}

/// The HTTP listener's certificate.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsLayer {
    /// Chain in PEM.
    pub cert: Option<PathBuf>,
    /// Private key in PEM.
    pub key: Option<PathBuf>,
}

/// What concerns peers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FederationLayer {
    /// Where QUIC is taken.
    pub listen: Option<SocketAddr>,
    /// Under which address peers reach it.
    pub advertise: Option<String>,
    /// Whether HTTP peers must sign.
    pub enforce_signatures: Option<bool>,
}

/// What concerns the store.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StorageLayer {
    /// Page cache in MiB.
    pub cache_mib: Option<u64>,
}

/// What concerns the commands of a coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CommandsLayer {
    /// Days that ended commands are kept.
    pub kept_days: Option<u64>,
}

/// What concerns logs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogLayer {
    /// Filter directives.
    pub filter: Option<String>,
    /// See [`LogFormat`].
    pub format: Option<LogFormat>,
}

/// A valid configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Folder of the node's state.
    pub data_dir: PathBuf,
    /// Where HTTP is served. Default 127.0.0.1:8080.
    pub listen: SocketAddr,
    /// Under which URL this node is reached.
    pub public_url: Option<String>,
    /// Role to set at start; none keeps the stored one.
    pub role: Option<Role>,
    /// Time for open requests to end. Default 25 s.
    pub drain: Duration,
    /// Chain and private key of the HTTP listener.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Where the root key lies. Default `root.key` in the data folder.
    pub root_key_file: PathBuf,
    /// Whether a start waits for `hansa root-key unlock` when the root key is a passphrase that nobody gave.
    /// Default: it fails.
    pub root_key_await_unlock: bool,
    /// The transit key that wraps the root key, if one does.
    pub root_key_transit: Option<Transit>,
    /// Issuers of secret leases, in the order in which they are asked.
    pub lease_issuers: Vec<LeaseIssuer>,
    /// Where QUIC is taken. Default [`QUIC_LISTEN_DEFAULT`], or any free port for a site, which only dials.
    pub quic_listen: Option<SocketAddr>,
    /// Under which address peers reach it; none falls back to the bound address on loopback.
    pub quic_advertise: Option<String>,
    /// Whether HTTP peers must sign. Default: whether TLS is on.
    pub enforce_signatures: bool,
    /// Page cache in bytes. Default 64 MiB.
    pub cache_bytes: u64,
    /// How long a coordinator keeps commands that have ended. Default 90 days.
    pub commands_kept: Duration,
    /// Log filter. Default `info`.
    pub log_filter: String,
    /// See [`LogFormat`].
    pub log_format: LogFormat,
    /// What carries out commands, policies and leases at a site. Default: nothing.
    pub connectors: Vec<Connector>,
    /// File of the secret of HS256 tokens, and what they give.
    pub hs256: Option<(PathBuf, Grant)>,
    /// Issuers of operator tokens beside the node itself.
    pub issuers: Vec<IssuerConfig>,
    /// Who is told of alerts.
    pub webhooks: Vec<WebhookTarget>,
    /// What secret backends may do.
    pub backends: BackendsConfig,
    /// Calls of the secrets API by caller and minute.
    pub secret_rates: Rates,
}

/// A configuration that no node can run with. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration {path} cannot be read: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file does not parse; the reason has the line.
    #[error("the configuration {path} is not valid: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What, with line and column.
        reason: String,
    },
    /// A variable does not parse.
    #[error("the variable {name} is not valid: {reason}")]
    Variable {
        /// The variable's name.
        name: String,
        /// Why, without its value.
        reason: String,
    },
    /// Plain HTTP beyond loopback.
    #[error(
        "plain HTTP on {0} would show every token to whoever listens on the way: give --tls-cert and --tls-key, \
         listen on 127.0.0.1, or say --insecure-http"
    )]
    PlainHttp(SocketAddr),
    /// One of the two TLS files is missing.
    #[error("TLS needs both a certificate and a key: give --tls-cert and --tls-key")]
    HalfTls,
    /// A number out of its range.
    #[error("{key} must be at least {min}")]
    TooSmall {
        /// The key.
        key: &'static str,
        /// The least value.
        min: u64,
    },
    /// An issuer of operator tokens that nobody could trust, or that gives nothing.
    #[error("{0}")]
    Operators(String),
    /// Addresses for backends that are none.
    #[error("{0}")]
    Backends(String),
    /// A URL that nobody can use.
    #[error("public_url must start with http:// or https://")]
    PublicUrl,
    /// A webhook that cannot be told.
    #[error("webhook {name:?}: {reason}")]
    Webhook {
        /// Its name.
        name: String,
        /// What to do.
        reason: String,
    },
    /// A connector that cannot be run.
    #[error("connector {name:?}: {reason}")]
    Connector {
        /// Its name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An issuer that cannot issue.
    #[error("[[lease_issuer]] {name}: {reason}")]
    LeaseIssuer {
        /// Its name.
        name: String,
        /// What is wrong, without any value.
        reason: String,
    },
    /// No URL of a transit engine, or one over which secrets would travel in plain.
    #[error(
        "root_key_transit.address must be https://HOST:PORT, or http:// on this machine alone (127.0.0.1)"
    )]
    TransitAddress,
    /// Not exactly one way to log in to a transit engine.
    #[error("root_key_transit needs either token_file, or role_id_file and secret_id_file")]
    TransitLogin,
    /// A name that cannot stand in a path.
    #[error("root_key_transit.{key} may have letters, digits, '-', '_', '.' and, between parts, '/'")]
    TransitName {
        /// The key.
        key: &'static str,
    },
}

impl Layer {
    /// Reads the files and the environment of a node.
    ///
    /// # Errors
    /// A file or variable is not valid; the error names it, with the line.
    pub fn of_files_and_environment(file: Option<&Path>) -> Result<Self, ConfigError> {
        let mut layer = match file {
            Some(path) => Self::of_file(path)?,
            None if Path::new(FILE_DEFAULT).exists() => Self::of_file(Path::new(FILE_DEFAULT))?,
            None => Self::default(),
        };
        if file.is_none() {
            for path in fragments(Path::new(FOLDER_DEFAULT)) {
                layer = Self::of_file(&path)?.over(layer);
            }
        }
        let environment = Self::of_variables(|name| std::env::var(name).ok())?;
        Ok(environment.over(layer))
    }

    /// Reads one file.
    ///
    /// # Errors
    /// It cannot be read, or it has a key or value that is not known, with its line.
    pub fn of_file(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Io { path: path.to_owned(), source })?;
        toml::from_str(&text).map_err(|error| ConfigError::File {
            path: path.to_owned(),
            reason: error.to_string().trim_end().to_owned(),
        })
    }

    /// Reads the environment; `lookup` gives a variable's value.
    ///
    /// # Errors
    /// A value does not parse.
    pub fn of_variables(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let read = Variables { lookup };
        Ok(Self {
            data_dir: read.parse("HANSA_DATA_DIR")?,
            listen: read.parse("HANSA_LISTEN")?,
            public_url: read.parse("HANSA_PUBLIC_URL")?,
            role: read.parse("HANSA_ROLE")?,
            drain_seconds: read.parse("HANSA_DRAIN_SECONDS")?,
            insecure_http: read.parse("HANSA_INSECURE_HTTP")?,
            root_key_file: read.parse("HANSA_ROOT_KEY_FILE")?,
            root_key_await_unlock: read.parse("HANSA_ROOT_KEY_AWAIT_UNLOCK")?,
            root_key_transit: TransitLayer {
                address: read.parse("HANSA_ROOT_KEY_TRANSIT__ADDRESS")?,
                mount: read.parse("HANSA_ROOT_KEY_TRANSIT__MOUNT")?,
                key: read.parse("HANSA_ROOT_KEY_TRANSIT__KEY")?,
                token_file: read.parse("HANSA_ROOT_KEY_TRANSIT__TOKEN_FILE")?,
                role_id_file: read.parse("HANSA_ROOT_KEY_TRANSIT__ROLE_ID_FILE")?,
                secret_id_file: read.parse("HANSA_ROOT_KEY_TRANSIT__SECRET_ID_FILE")?,
                approle_mount: read.parse("HANSA_ROOT_KEY_TRANSIT__APPROLE_MOUNT")?,
                namespace: read.parse("HANSA_ROOT_KEY_TRANSIT__NAMESPACE")?,
                ca_file: read.parse("HANSA_ROOT_KEY_TRANSIT__CA_FILE")?,
            },
            lease_issuer: Vec::new(),
            tls: TlsLayer { cert: read.parse("HANSA_TLS__CERT")?, key: read.parse("HANSA_TLS__KEY")? },
            federation: FederationLayer {
                listen: read.parse("HANSA_FEDERATION__LISTEN")?,
                advertise: read.parse("HANSA_FEDERATION__ADVERTISE")?,
                enforce_signatures: read.parse("HANSA_FEDERATION__ENFORCE_SIGNATURES")?,
            },
            storage: StorageLayer { cache_mib: read.parse("HANSA_STORAGE__CACHE_MIB")? },
            commands: CommandsLayer { kept_days: read.parse("HANSA_COMMANDS__KEPT_DAYS")? },
            operators: OperatorsLayer::of_variables(&read)?,
            issuer: Vec::new(),
            log: LogLayer {
                filter: read.parse("HANSA_LOG")?,
                format: match (read.lookup)("HANSA_LOG__FORMAT") {
                    None => None,
                    Some(text) => {
                        Some(clap::ValueEnum::from_str(&text, true).map_err(|_| ConfigError::Variable {
                            name: "HANSA_LOG__FORMAT".to_owned(),
                            reason: "is not one of auto, human, json".to_owned(),
                        })?)
                    }
                },
            },
            // Tables in a list have no good form in a variable.
            connector: Vec::new(),
            webhook: Vec::new(),
            backends: BackendsLayer::default(),
            secret_rates: BTreeMap::new(),
        })
    }

    /// Lays this layer over another: what this one says wins.
    #[must_use]
    pub fn over(self, below: Self) -> Self {
        Self {
            data_dir: self.data_dir.or(below.data_dir),
            listen: self.listen.or(below.listen),
            public_url: self.public_url.or(below.public_url),
            role: self.role.or(below.role),
            drain_seconds: self.drain_seconds.or(below.drain_seconds),
            insecure_http: self.insecure_http.or(below.insecure_http),
            root_key_file: self.root_key_file.or(below.root_key_file),
            root_key_await_unlock: self.root_key_await_unlock.or(below.root_key_await_unlock),
            root_key_transit: self.root_key_transit.over(below.root_key_transit),
            lease_issuer: below.lease_issuer.into_iter().chain(self.lease_issuer).collect(),
            tls: TlsLayer { cert: self.tls.cert.or(below.tls.cert), key: self.tls.key.or(below.tls.key) },
            federation: FederationLayer {
                listen: self.federation.listen.or(below.federation.listen),
                advertise: self.federation.advertise.or(below.federation.advertise),
                enforce_signatures: self
                    .federation
                    .enforce_signatures
                    .or(below.federation.enforce_signatures),
            },
            storage: StorageLayer { cache_mib: self.storage.cache_mib.or(below.storage.cache_mib) },
            commands: CommandsLayer { kept_days: self.commands.kept_days.or(below.commands.kept_days) },
            operators: self.operators.over(below.operators),
            // Each source adds issuers; two of one name are refused in the end.
            issuer: below.issuer.into_iter().chain(self.issuer).collect(),
            log: LogLayer {
                filter: self.log.filter.or(below.log.filter),
                format: self.log.format.or(below.log.format),
            },
            connector: below.connector.into_iter().chain(self.connector).collect(),
            webhook: below.webhook.into_iter().chain(self.webhook).collect(),
            backends: self.backends.over(below.backends),
            secret_rates: below.secret_rates.into_iter().chain(self.secret_rates).collect(),
        }
    }

    /// The same as TOML.
    ///
    /// # Errors
    /// A path is not text.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }

    /// Fills what no source said and checks the whole.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn resolve(self) -> Result<Config, ConfigError> {
        let listen = self.listen.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, HTTP_PORT)));
        let tls = match (self.tls.cert, self.tls.key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => return Err(ConfigError::HalfTls),
        };
        if tls.is_none() && !is_loopback(listen) && !self.insecure_http.unwrap_or(false) {
            return Err(ConfigError::PlainHttp(listen));
        }
        let cache_mib = self.storage.cache_mib.unwrap_or(CACHE_MIB);
        if cache_mib == 0 {
            return Err(ConfigError::TooSmall { key: "storage.cache_mib", min: 1 });
        }
        let commands_kept = match self.commands.kept_days {
            None => KEPT_DEFAULT,
            Some(0) => return Err(ConfigError::TooSmall { key: "commands.kept_days", min: 1 }),
            Some(days) => Duration::from_secs(days.saturating_mul(24 * 3_600)),
        };
        let public_url = self.public_url.map(|url| url.trim_end_matches('/').to_owned());
        if public_url.as_deref().is_some_and(|url| !is_web_url(url)) {
            return Err(ConfigError::PublicUrl);
        }
        if self.connector.len() > limits::CONNECTORS_MAX {
            let name = format!("number {}", limits::CONNECTORS_MAX + 1);
            let reason = format!("a node may have {} of them", limits::CONNECTORS_MAX);
            return Err(ConfigError::Connector { name, reason });
        }
        let connectors =
            self.connector.into_iter().map(ConnectorLayer::resolve).collect::<Result<Vec<_>, _>>()?;
        let data_dir =
            self.data_dir.unwrap_or_else(|| PathBuf::from(crate::cli::connection::DATA_DIR_DEFAULT));
        Ok(Config {
            root_key_file: self.root_key_file.unwrap_or_else(|| data_dir.join("root.key")),
            root_key_await_unlock: self.root_key_await_unlock.unwrap_or(false),
            root_key_transit: self.root_key_transit.resolve()?,
            lease_issuers: resolve_lease_issuers(self.lease_issuer)?,
            data_dir,
            listen,
            public_url,
            role: self.role,
            drain: self.drain_seconds.map_or(DRAIN_WAIT_MAX, Duration::from_secs),
            enforce_signatures: self.federation.enforce_signatures.unwrap_or_else(|| tls.is_some()),
            tls,
            quic_listen: self.federation.listen,
            quic_advertise: self.federation.advertise,
            commands_kept,
            cache_bytes: cache_mib.saturating_mul(1024 * 1024),
            log_filter: self.log.filter.unwrap_or_else(|| LOG_FILTER.to_owned()),
            log_format: self.log.format.unwrap_or_default(),
            connectors,
            hs256: self.operators.resolve()?,
            issuers: operators::resolve_issuers(self.issuer)?,
            webhooks: webhook::resolve(self.webhook)?,
            backends: self.backends.resolve()?,
            secret_rates: backends::resolve_rates(self.secret_rates),
        })
    }
}

fn resolve_lease_issuers(layers: Vec<LeaseIssuerLayer>) -> Result<Vec<LeaseIssuer>, ConfigError> {
    let mut names = std::collections::BTreeSet::new();
    for layer in &layers {
        if !names.insert(layer.name.clone()) {
            let reason = "another issuer has this name".to_owned();
            return Err(ConfigError::LeaseIssuer { name: layer.name.clone(), reason });
        }
    }
    layers.into_iter().map(LeaseIssuerLayer::resolve).collect()
}

fn is_web_url(url: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| url.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()))
}

/// TOML files of a folder in the order of their names; none when there is no folder.
fn fragments(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    paths.sort();
    paths
}

struct Variables<F> {
    lookup: F,
}

impl<F: Fn(&str) -> Option<String>> Variables<F> {
    fn parse<T>(&self, name: &str) -> Result<Option<T>, ConfigError>
    where
        T: std::str::FromStr,
        T::Err: std::fmt::Display,
    {
        let Some(text) = (self.lookup)(name) else { return Ok(None) };
        match text.trim().parse() {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(ConfigError::Variable { name: name.to_owned(), reason: format!("{error}") }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Layer {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn later_source_wins_and_the_rest_stands() {
        let file =
            parse("listen = '127.0.0.1:1'\npublic_url = 'http://a'\n[federation]\nlisten = '127.0.0.1:2'");
        let environment =
            Layer::of_variables(|name| (name == "HANSA_LISTEN").then(|| "127.0.0.1:9".to_owned())).unwrap();

        let config = environment.over(file).resolve().unwrap();

        assert_eq!(config.listen.port(), 9);
        assert_eq!(config.quic_listen.map(|address| address.port()), Some(2));
        assert_eq!(config.public_url.as_deref(), Some("http://a"));
    }

    #[test]
    fn unknown_key_is_an_error_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hansa.toml");
        std::fs::write(&path, "listen = '127.0.0.1:1'\n\nlisten_quick = 3\n").unwrap();

        let error = Layer::of_file(&path).unwrap_err().to_string();

        assert!(error.contains("line 3") && error.contains("listen_quick"), "{error}");
    }

    #[test]
    fn plain_http_beyond_loopback_needs_the_word() {
        let open = "listen = '0.0.0.0:80'";

        assert!(matches!(parse(open).resolve(), Err(ConfigError::PlainHttp(_))));
        assert!(parse(&format!("{open}\ninsecure_http = true")).resolve().is_ok());
        assert!(parse(&format!("{open}\n[tls]\ncert = 'c'\nkey = 'k'")).resolve().is_ok());
        assert!(matches!(parse("[tls]\ncert = 'c'").resolve(), Err(ConfigError::HalfTls)));
    }

    #[test]
    fn variable_that_does_not_parse_is_named_without_its_value() {
        let error =
            Layer::of_variables(|name| (name == "HANSA_ROLE").then(|| "emperor".to_owned())).unwrap_err();

        let text = error.to_string();
        assert!(text.contains("HANSA_ROLE") && !text.contains("emperor"), "{text}");
    }

    #[test]
    fn every_documented_key_is_one_that_is_read() {
        let uncommented: String = DEFAULTS
            .lines()
            .map(|line| {
                line.strip_prefix("# ")
                    .filter(|rest| {
                        is_assignment(rest)
                            || rest.starts_with("[[")
                            || *rest == "[lease_issuer.backend_roles]"
                    })
                    .unwrap_or(line)
            })
            .collect::<Vec<_>>()
            .join("\n");

        let layer: Layer = toml::from_str(&uncommented).unwrap();

        let Layer { data_dir, listen, public_url, role, drain_seconds, insecure_http, root_key_file, .. } =
            &layer;
        assert!(data_dir.is_some() && listen.is_some() && public_url.is_some() && role.is_some());
        assert!(drain_seconds.is_some() && insecure_http.is_some() && root_key_file.is_some());
        assert!(layer.root_key_await_unlock.is_some());
        let transit = &layer.root_key_transit;
        assert!(transit.address.is_some() && transit.mount.is_some() && transit.key.is_some());
        assert!(transit.token_file.is_some() && transit.role_id_file.is_some());
        assert!(transit.secret_id_file.is_some() && transit.approle_mount.is_some());
        assert!(transit.namespace.is_some() && transit.ca_file.is_some());
        let [issuer, vault] = layer.lease_issuer.as_slice() else { panic!("two issuers are documented") };
        assert!(issuer.kinds.is_some() && issuer.connection.is_some() && issuer.password_file.is_some());
        assert!(issuer.ca_file.is_some() && issuer.statement_timeout_seconds.is_some());
        assert!(!issuer.backend_roles.is_empty() && issuer.clone().resolve().is_ok());
        assert!(vault.address.is_some() && vault.namespace.is_some() && vault.auth_method.is_some());
        assert!(vault.auth_mount.is_some() && vault.login_file.is_some() && vault.mount.is_some());
        assert!(vault.timeout_seconds.is_some() && vault.clone().resolve().is_ok());
        assert!(layer.tls.cert.is_some() && layer.tls.key.is_some());
        let FederationLayer { listen, advertise, enforce_signatures } = &layer.federation;
        assert!(listen.is_some() && advertise.is_some() && enforce_signatures.is_some());
        let OperatorsLayer { hs256_secret_file, hs256_role, hs256_scopes, hs256_sites } = &layer.operators;
        assert!(hs256_secret_file.is_some() && hs256_role.is_some());
        assert!(hs256_scopes.is_some() && hs256_sites.is_some());
        assert!(layer.storage.cache_mib.is_some() && layer.commands.kept_days.is_some());
        assert!(layer.log.filter.is_some() && layer.log.format.is_some());
        assert!(layer.issuer.iter().any(|issuer| issuer.jwks_url.is_some() && issuer.grant.len() == 2));
        let documented = layer.connector.iter();
        assert!(documented.clone().any(|connector| connector.program.is_some() && connector.user.is_some()));
        assert!(documented.clone().any(|connector| connector.webhook.is_some()));
        assert!(documented.clone().any(|connector| connector.builtin.is_some()));
        let BackendsLayer { allowed_addresses, http_to_loopback, unverified_tls, ambient, pod_tokens } =
            &layer.backends;
        assert!(allowed_addresses.is_some() && http_to_loopback.is_some());
        assert!(unverified_tls.is_some() && ambient.is_some() && pod_tokens.is_some());
        assert_eq!(layer.secret_rates.len(), Category::ALL.len());
        let [webhook] = layer.webhook.as_slice() else { panic!("one webhook is documented") };
        assert!(!webhook.name.is_empty() && !webhook.url.is_empty());
        assert!(webhook.secret_file.is_absolute());
    }

    #[test]
    fn documented_defaults_are_the_defaults() {
        let config = Layer::default().resolve().unwrap();

        for (key, value) in [
            ("data_dir", config.data_dir.display().to_string()),
            ("listen", config.listen.to_string()),
            ("listen", QUIC_LISTEN_DEFAULT.to_string()),
            ("filter", config.log_filter),
        ] {
            assert!(DEFAULTS.contains(&format!("# {key} = \"{value}\"")), "{key} = {value}");
        }
        assert!(DEFAULTS.contains(&format!("# drain_seconds = {}", config.drain.as_secs())));
        assert!(DEFAULTS.contains(&format!("# cache_mib = {}", config.cache_bytes >> 20)));
        assert!(DEFAULTS.contains(&format!("# kept_days = {}", config.commands_kept.as_secs() / 86_400)));
    }

    fn is_assignment(line: &str) -> bool {
        line.split_once(" = ").is_some_and(|(key, _)| {
            key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        })
    }
}
