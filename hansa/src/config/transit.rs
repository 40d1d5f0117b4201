//! Where a root key in a transit engine is: what the sources say, and what is left of it once it is valid.

use std::path::PathBuf;

use reqwest::Url;
use serde::{Deserialize, Serialize};

use super::ConfigError;
use crate::system::is_loopback_host;

const MOUNT_DEFAULT: &str = "transit";
const KEY_DEFAULT: &str = "hansa";
const APPROLE_MOUNT_DEFAULT: &str = "approle";

/// The transit engine of Vault or OpenBao that keeps the root key; not used unless an address is given.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TransitLayer {
    /// URL of the server.
    pub address: Option<String>,
    /// Where the engine is mounted.
    pub mount: Option<String>,
    /// Name of the engine's key.
    pub key: Option<String>,
    /// File with a token.
    pub token_file: Option<PathBuf>,
    /// File with the id of an AppRole.
    pub role_id_file: Option<PathBuf>,
    /// File with that role's secret id.
    pub secret_id_file: Option<PathBuf>,
    /// Where AppRole is mounted.
    pub approle_mount: Option<String>,
    /// Namespace.
    pub namespace: Option<String>,
    /// Certificate authorities beside the web's, PEM.
    pub ca_file: Option<PathBuf>,
}

/// A transit key that can be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transit {
    /// URL of the server: https, or http on loopback.
    pub address: Url,
    /// Where the engine is mounted. Default `transit`.
    pub mount: String,
    /// Name of the engine's key. Default `hansa`.
    pub key: String,
    /// How the node shows who it is.
    pub login: TransitLogin,
    /// Namespace; none is the root one.
    pub namespace: Option<String>,
    /// Certificate authorities beside the web's, PEM.
    pub ca_file: Option<PathBuf>,
}

/// How a node shows a transit engine who it is. The secrets are read at each start, and not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransitLogin {
    /// A token.
    Token {
        /// The file it lies in.
        file: PathBuf,
    },
    /// A login by AppRole; its token is given back after use.
    AppRole {
        /// Where AppRole is mounted. Default `approle`.
        mount: String,
        /// The file that the role's id lies in.
        role_id_file: PathBuf,
        /// The file that the secret id lies in.
        secret_id_file: PathBuf,
    },
}

impl TransitLayer {
    /// Lays this layer over another.
    pub(super) fn over(self, below: Self) -> Self {
        Self {
            address: self.address.or(below.address),
            mount: self.mount.or(below.mount),
            key: self.key.or(below.key),
            token_file: self.token_file.or(below.token_file),
            role_id_file: self.role_id_file.or(below.role_id_file),
            secret_id_file: self.secret_id_file.or(below.secret_id_file),
            approle_mount: self.approle_mount.or(below.approle_mount),
            namespace: self.namespace.or(below.namespace),
            ca_file: self.ca_file.or(below.ca_file),
        }
    }

    /// Checks the whole; none when no source named a server.
    pub(crate) fn resolve(self) -> Result<Option<Transit>, ConfigError> {
        let Some(address) = &self.address else {
            let is_silent = self == Self::default();
            return if is_silent { Ok(None) } else { Err(ConfigError::TransitAddress) };
        };
        let address = Url::parse(address).map_err(|_| ConfigError::TransitAddress)?;
        let is_local = address.host_str().is_some_and(is_loopback_host);
        let is_bare = address.username().is_empty() && address.password().is_none();
        if !is_bare || !matches!((address.scheme(), is_local), ("https", _) | ("http", true)) {
            return Err(ConfigError::TransitAddress);
        }
        let login = match (self.token_file, self.role_id_file, self.secret_id_file) {
            (Some(file), None, None) => TransitLogin::Token { file },
            (None, Some(role_id_file), Some(secret_id_file)) => TransitLogin::AppRole {
                mount: name(self.approle_mount, "approle_mount", APPROLE_MOUNT_DEFAULT)?,
                role_id_file,
                secret_id_file,
            },
            _ => return Err(ConfigError::TransitLogin),
        };
        Ok(Some(Transit {
            address,
            mount: name(self.mount, "mount", MOUNT_DEFAULT)?,
            key: name(self.key, "key", KEY_DEFAULT)?,
            login,
            namespace: self.namespace.map(|text| name(Some(text), "namespace", "")).transpose()?,
            ca_file: self.ca_file,
        }))
    }
}

/// A name that goes into a path or a header as it is: parts of letters, digits, `-`, `_` and `.`.
fn name(given: Option<String>, key: &'static str, default: &str) -> Result<String, ConfigError> {
    let name = given.map_or_else(|| default.to_owned(), |name| name.trim_matches('/').to_owned());
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_part = |part: &str| part.chars().all(is_plain) && part.chars().any(|c| c != '.');
    if name.split('/').all(is_part) { Ok(name) } else { Err(ConfigError::TransitName { key }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(text: &str) -> Result<Option<Transit>, ConfigError> {
        toml::from_str::<TransitLayer>(text).unwrap().resolve()
    }

    #[test]
    fn secrets_travel_in_plain_on_loopback_alone() {
        let at = |address: &str| resolve(&format!("address = '{address}'\ntoken_file = 't'"));

        for good in ["https://vault.example.com:8200", "http://127.0.0.1:8200", "http://[::1]:8200"] {
            assert!(at(good).is_ok(), "{good}");
        }
        for bad in
            ["http://vault.example.com:8200", "http://10.0.0.1", "https://a:b@vault", "vault:8200", "ftp://a"]
        {
            assert!(matches!(at(bad), Err(ConfigError::TransitAddress)), "{bad}");
        }
    }

    #[test]
    fn exactly_one_way_to_log_in_is_named() {
        let with = |files: &str| resolve(&format!("address = 'https://vault.example.com'\n{files}"));

        assert!(with("token_file = 't'").is_ok());
        assert!(with("role_id_file = 'r'\nsecret_id_file = 's'").is_ok());
        for bad in ["", "role_id_file = 'r'", "token_file = 't'\nrole_id_file = 'r'\nsecret_id_file = 's'"] {
            assert!(matches!(with(bad), Err(ConfigError::TransitLogin)), "{bad}");
        }
    }

    #[test]
    fn names_stay_inside_their_part_of_a_path() {
        let with = |name: &str| {
            resolve(&format!("address = 'https://vault.example.com'\ntoken_file = 't'\nkey = '{name}'"))
        };

        assert_eq!(with("node-1.a").unwrap().map(|transit| transit.key), Some("node-1.a".to_owned()));
        for bad in ["", "..", "a/../b", "a?b", "a b", "a%2fb"] {
            assert!(matches!(with(bad), Err(ConfigError::TransitName { key: "key" })), "{bad}");
        }
    }

    #[test]
    fn keys_without_an_address_are_a_mistake_and_silence_is_not() {
        assert!(matches!(resolve(""), Ok(None)));
        assert!(matches!(resolve("token_file = 't'"), Err(ConfigError::TransitAddress)));
    }
}
