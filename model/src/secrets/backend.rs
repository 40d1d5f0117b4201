//! What a secret backend is, and how each kind is configured (contract B.1, B.3).
//!
//! A configuration never holds a credential: it names the path of the secret that does. It is kept and
//! answered as the text that was sent, and parsed by [`BackendConfig::parse`] wherever it is used.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::{Host, Url};

use super::path::SecretPath;
use crate::limits::secrets as limits;

/// The store that a backend speaks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackendKind {
    /// HashiCorp Vault or OpenBao, KV version 1 or 2.
    HashicorpVault,
    /// AWS Secrets Manager.
    AwsSecretsManager,
    /// Azure Key Vault, its secrets.
    AzureKeyVault,
    /// Google Secret Manager.
    GoogleSecretManager,
}

impl BackendKind {
    /// Every kind, in the order of the documentation.
    pub const ALL: [Self; 4] =
        [Self::HashicorpVault, Self::AwsSecretsManager, Self::AzureKeyVault, Self::GoogleSecretManager];

    /// The spelling in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HashicorpVault => "hashicorp-vault",
            Self::AwsSecretsManager => "aws-secrets-manager",
            Self::AzureKeyVault => "azure-key-vault",
            Self::GoogleSecretManager => "google-secret-manager",
        }
    }
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for BackendKind {
    type Err = InvalidKind;

    fn from_str(text: &str) -> Result<Self, InvalidKind> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(InvalidKind)
    }
}

/// A text that names no kind of backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not one of hashicorp-vault, aws-secrets-manager, azure-key-vault, google-secret-manager")]
pub struct InvalidKind;

/// A configuration that is refused: which member, and why. Never its value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("config.{field} {reason}")]
pub struct InvalidConfig {
    /// The member.
    pub field: String,
    /// What is wrong with it, and what to do.
    pub reason: &'static str,
}

impl InvalidConfig {
    pub(super) fn new(field: &str, reason: &'static str) -> Self {
        Self { field: field.to_owned(), reason }
    }
}

/// A base URL: scheme, host and port, nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(Url);

impl Endpoint {
    /// Without a slash at the end, such as `https://vault.internal:8200`.
    pub fn as_str(&self) -> &str {
        self.0.as_str().trim_end_matches('/')
    }

    /// Whether it is `https`.
    pub fn is_encrypted(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// The host: a name in lower case, or an address.
    pub fn host(&self) -> Host<&str> {
        self.0.host().unwrap_or(Host::Domain(""))
    }

    /// The port, given or the scheme's own.
    pub fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or(443)
    }
}

impl FromStr for Endpoint {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        if text.len() > limits::CONFIG_TEXT_BYTES_MAX || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("is not a URL such as https://vault.internal:8200");
        }
        let url = Url::parse(text).map_err(|_| "is not a URL such as https://vault.internal:8200")?;
        if !matches!(url.scheme(), "https" | "http") {
            return Err("must start with https://");
        }
        if !url.username().is_empty() || url.password().is_some() || text.contains('@') {
            return Err("must not carry credentials");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("must not have a query or a fragment");
        }
        if url.path() != "/" {
            return Err("is a base address: leave the path out");
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err("has no host");
        }
        Ok(Self(url))
    }
}

/// What every kind has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Common {
    /// One call, all of it. Default 5 s, at most 30 s.
    pub timeout: Duration,
    /// Calls at a time. Default 8, 1 to 64.
    pub max_concurrency: u32,
    /// The secret with the PEM bundle that the server's certificate must lead to; none takes the public roots.
    pub ca_cert_path: Option<SecretPath>,
}

/// How Vault is logged in to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are Vault's own")]
pub enum VaultAuth {
    Approle,
    Token,
    Kubernetes,
    Aws,
    Gcp,
}

impl VaultAuth {
    /// The spelling in JSON, and the mount when none is given.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approle => "approle",
            Self::Token => "token",
            Self::Kubernetes => "kubernetes",
            Self::Aws => "aws",
            Self::Gcp => "gcp",
        }
    }
}

/// The version of Vault's key-value engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvVersion {
    /// One value a key.
    One,
    /// Versions and metadata.
    Two,
}

/// `config` of a HashiCorp Vault or OpenBao.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultConfig {
    /// See [`Common`].
    pub common: Common,
    /// Base URL.
    pub endpoint: Endpoint,
    /// How to log in.
    pub auth_method: VaultAuth,
    /// The secret with the login.
    pub auth_config_path: SecretPath,
    /// Whether the server's certificate is checked. Default true.
    pub tls_verify: bool,
    /// Sent as `X-Vault-Namespace`.
    pub namespace: Option<String>,
    /// `auth/<mount>/login`; the method's name when not given.
    pub auth_mount: String,
    /// The engine's version; asked for when not given.
    pub kv_version: Option<KvVersion>,
}

/// `config` of AWS Secrets Manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsConfig {
    /// See [`Common`].
    pub common: Common,
    /// Such as `us-east-1`.
    pub region: String,
    /// The secret with the access key; none uses what the machine has, where that is allowed.
    pub credentials_path: Option<SecretPath>,
    /// The role to take on first.
    pub role_arn: Option<String>,
    /// Sent with it.
    pub external_id: Option<String>,
    /// Instead of the region's public address; STS is asked there too.
    pub endpoint: Option<Endpoint>,
}

/// `config` of Azure Key Vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AzureConfig {
    /// See [`Common`].
    pub common: Common,
    /// Base URL; always `https`.
    pub vault_url: Endpoint,
    /// The directory.
    pub tenant_id: String,
    /// The secret with `client_id` and `client_secret`.
    pub credentials_path: SecretPath,
    /// Instead of the public cloud's login address; always `https`.
    pub authority_host: Option<Endpoint>,
    /// Default `2025-07-01`.
    pub api_version: String,
    /// Whether the login challenge must name a parent domain of the vault's host. Default true.
    pub verify_challenge_resource: bool,
    /// Stands in names where paths have `/`. Default `--`.
    pub name_separator: String,
}

/// `config` of Google Secret Manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoogleConfig {
    /// See [`Common`].
    pub common: Common,
    /// Id or number.
    pub project_id: String,
    /// Of regional secrets; none is the global service.
    pub location: Option<String>,
    /// The secret with the service account's key; none uses what the machine has, where that is allowed.
    pub credentials_path: Option<SecretPath>,
    /// Instead of the public address.
    pub endpoint: Option<Endpoint>,
    /// Default `googleapis.com`.
    pub universe_domain: String,
    /// Stands in names where paths have `/`. Default `--`.
    pub name_separator: String,
}

/// A configuration that has been understood.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant holds the kind that it is named after")]
pub enum BackendConfig {
    Vault(VaultConfig),
    Aws(AwsConfig),
    Azure(AzureConfig),
    Google(GoogleConfig),
}

impl BackendConfig {
    /// Reads `config` of this kind: a JSON object as text.
    ///
    /// # Errors
    /// [`InvalidConfig`] names the first member that is unknown, missing, or not what it must be. A member
    /// that is known for holding a credential is refused with the way to do it.
    pub fn parse(kind: BackendKind, json: &str) -> Result<Self, InvalidConfig> {
        let members =
            serde_json::from_str(json).map_err(|_| InvalidConfig::new("", "is not a JSON object"))?;
        let mut members = Members(members);
        members.refuse_credentials()?;
        let config = match kind {
            BackendKind::HashicorpVault => Self::Vault(members.vault()?),
            BackendKind::AwsSecretsManager => Self::Aws(members.aws()?),
            BackendKind::AzureKeyVault => Self::Azure(members.azure()?),
            BackendKind::GoogleSecretManager => Self::Google(members.google()?),
        };
        members.finish()?;
        Ok(config)
    }

    /// Its kind.
    pub const fn kind(&self) -> BackendKind {
        match self {
            Self::Vault(_) => BackendKind::HashicorpVault,
            Self::Aws(_) => BackendKind::AwsSecretsManager,
            Self::Azure(_) => BackendKind::AzureKeyVault,
            Self::Google(_) => BackendKind::GoogleSecretManager,
        }
    }

    /// What every kind has.
    pub const fn common(&self) -> &Common {
        match self {
            Self::Vault(config) => &config.common,
            Self::Aws(config) => &config.common,
            Self::Azure(config) => &config.common,
            Self::Google(config) => &config.common,
        }
    }

    /// The secret with the login, and the member that names it.
    pub const fn login_path(&self) -> Option<(&'static str, &SecretPath)> {
        match self {
            Self::Vault(config) => Some(("auth_config_path", &config.auth_config_path)),
            Self::Aws(config) => match &config.credentials_path {
                Some(path) => Some(("credentials_path", path)),
                None => None,
            },
            Self::Azure(config) => Some(("credentials_path", &config.credentials_path)),
            Self::Google(config) => match &config.credentials_path {
                Some(path) => Some(("credentials_path", path)),
                None => None,
            },
        }
    }

    /// Where credentials go: when this changes, none that was stored for the old place is sent to the new
    /// one before it has been checked (contract B.2).
    pub fn destination(&self) -> Vec<String> {
        match self {
            Self::Vault(config) => {
                vec![config.endpoint.as_str().to_owned(), config.tls_verify.to_string()]
            }
            Self::Aws(config) => {
                let endpoint = config.endpoint.as_ref().map_or("", Endpoint::as_str);
                vec![config.region.clone(), endpoint.to_owned()]
            }
            Self::Azure(config) => {
                let authority = config.authority_host.as_ref().map_or("", Endpoint::as_str);
                vec![config.vault_url.as_str().to_owned(), authority.to_owned()]
            }
            Self::Google(config) => {
                let endpoint = config.endpoint.as_ref().map_or("", Endpoint::as_str);
                vec![config.project_id.clone(), endpoint.to_owned(), config.universe_domain.clone()]
            }
        }
    }

    /// Every address that a configuration names itself.
    pub fn endpoints(&self) -> Vec<(&'static str, &Endpoint)> {
        match self {
            Self::Vault(config) => vec![("endpoint", &config.endpoint)],
            Self::Aws(config) => config.endpoint.iter().map(|endpoint| ("endpoint", endpoint)).collect(),
            Self::Azure(config) => std::iter::once(("vault_url", &config.vault_url))
                .chain(config.authority_host.iter().map(|endpoint| ("authority_host", endpoint)))
                .collect(),
            Self::Google(config) => config.endpoint.iter().map(|endpoint| ("endpoint", endpoint)).collect(),
        }
    }
}

/// Members whose very presence means that somebody put a credential where everybody can read it.
const CREDENTIALS: [&str; 16] = [
    "token",
    "secret_id",
    "role_id",
    "client_secret",
    "client_id",
    "secret_access_key",
    "access_key_id",
    "session_token",
    "private_key",
    "private_key_id",
    "service_account_key",
    "password",
    "credentials",
    "api_key",
    "jwt",
    "secret",
];

/// The members of a configuration that nobody has read yet.
struct Members(serde_json::Map<String, serde_json::Value>);

impl Members {
    fn refuse_credentials(&self) -> Result<(), InvalidConfig> {
        match CREDENTIALS.iter().find(|name| self.0.contains_key(**name)) {
            Some(name) => Err(InvalidConfig::new(
                name,
                "is a credential: store it as a secret, and name that secret's path instead",
            )),
            None => Ok(()),
        }
    }

    fn finish(self) -> Result<(), InvalidConfig> {
        match self.0.keys().next() {
            // The name was sent by the caller, so it is said only when it looks like one.
            Some(name)
                if name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') =>
            {
                Err(InvalidConfig::new(name, "is not a member of this type's config"))
            }
            Some(_) => Err(InvalidConfig::new("", "has a member that this type does not know")),
            None => Ok(()),
        }
    }

    fn text(&mut self, field: &'static str) -> Result<Option<String>, InvalidConfig> {
        match self.0.remove(field) {
            None | Some(serde_json::Value::Null) => Ok(None),
            Some(serde_json::Value::String(text))
                if !text.is_empty()
                    && text.len() <= limits::CONFIG_TEXT_BYTES_MAX
                    && text.bytes().all(|byte| byte.is_ascii_graphic()) =>
            {
                Ok(Some(text))
            }
            Some(_) => Err(InvalidConfig::new(field, "is not a text of 1 to 2048 visible ASCII characters")),
        }
    }

    fn required(&mut self, field: &'static str) -> Result<String, InvalidConfig> {
        self.text(field)?.ok_or_else(|| InvalidConfig::new(field, "is required"))
    }

    fn path(&mut self, field: &'static str) -> Result<Option<SecretPath>, InvalidConfig> {
        let parse =
            |text: String| text.parse().map_err(|_| InvalidConfig::new(field, "is not the path of a secret"));
        self.text(field)?.map(parse).transpose()
    }

    fn required_path(&mut self, field: &'static str) -> Result<SecretPath, InvalidConfig> {
        self.path(field)?.ok_or_else(|| InvalidConfig::new(field, "is required: the path of a secret"))
    }

    fn endpoint(&mut self, field: &'static str) -> Result<Option<Endpoint>, InvalidConfig> {
        let parse = |text: String| text.parse().map_err(|reason| InvalidConfig::new(field, reason));
        self.text(field)?.map(parse).transpose()
    }

    fn encrypted_endpoint(&mut self, field: &'static str) -> Result<Option<Endpoint>, InvalidConfig> {
        match self.endpoint(field)? {
            Some(endpoint) if !endpoint.is_encrypted() => {
                Err(InvalidConfig::new(field, "must start with https://"))
            }
            endpoint => Ok(endpoint),
        }
    }

    fn flag(&mut self, field: &'static str, default: bool) -> Result<bool, InvalidConfig> {
        match self.0.remove(field) {
            None | Some(serde_json::Value::Null) => Ok(default),
            Some(serde_json::Value::Bool(flag)) => Ok(flag),
            Some(_) => Err(InvalidConfig::new(field, "is not true or false")),
        }
    }

    fn number(&mut self, field: &'static str) -> Result<Option<u64>, InvalidConfig> {
        match self.0.remove(field) {
            None | Some(serde_json::Value::Null) => Ok(None),
            Some(value) => {
                value.as_u64().map(Some).ok_or_else(|| InvalidConfig::new(field, "is not a whole number"))
            }
        }
    }

    /// A label of host names, paths or headers: nothing in it can end one.
    fn label(&mut self, field: &'static str) -> Result<Option<String>, InvalidConfig> {
        let is_plain = |text: &String| {
            text.len() <= 128
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':'))
                && !text.contains("..")
        };
        match self.text(field)? {
            Some(text) if !is_plain(&text) => {
                Err(InvalidConfig::new(field, "holds only letters, digits and - _ . :"))
            }
            text => Ok(text),
        }
    }

    /// Segments with slashes between, as of mounts and namespaces.
    fn segments(&mut self, field: &'static str) -> Result<Option<String>, InvalidConfig> {
        let text = self.text(field)?.map(|text| text.trim_matches('/').to_owned());
        match text {
            Some(text) if text.parse::<SecretPath>().is_err() => {
                Err(InvalidConfig::new(field, "holds only letters, digits and - _ . + = @ with / between"))
            }
            text => Ok(text),
        }
    }

    fn separator(&mut self) -> Result<String, InvalidConfig> {
        match self.text("name_separator")? {
            Some(text) if !matches!(text.as_str(), "--" | "-" | "---") => {
                Err(InvalidConfig::new("name_separator", "is one to three hyphens"))
            }
            text => Ok(text.unwrap_or_else(|| "--".to_owned())),
        }
    }

    fn common(&mut self) -> Result<Common, InvalidConfig> {
        let timeout = match self.text("timeout")? {
            Some(text) => super::duration::parse(&text)
                .map_err(|_| InvalidConfig::new("timeout", "is not a duration such as 5s"))?,
            None => limits::CALL_TIMEOUT_DEFAULT,
        };
        if timeout.is_zero() || timeout > limits::CALL_TIMEOUT_MAX {
            return Err(InvalidConfig::new("timeout", "is between 1s and 30s"));
        }
        let max_concurrency = match self.number("max_concurrency")? {
            Some(number) => u32::try_from(number)
                .ok()
                .filter(|number| (1..=limits::CONCURRENCY_MAX).contains(number))
                .ok_or_else(|| InvalidConfig::new("max_concurrency", "is between 1 and 64"))?,
            None => limits::CONCURRENCY_DEFAULT,
        };
        Ok(Common { timeout, max_concurrency, ca_cert_path: self.path("ca_cert_path")? })
    }

    fn vault(&mut self) -> Result<VaultConfig, InvalidConfig> {
        let common = self.common()?;
        let endpoint =
            self.endpoint("endpoint")?.ok_or_else(|| InvalidConfig::new("endpoint", "is required"))?;
        let auth_method = match self.required("auth_method")?.as_str() {
            "approle" => VaultAuth::Approle,
            "token" => VaultAuth::Token,
            "kubernetes" => VaultAuth::Kubernetes,
            "aws" => VaultAuth::Aws,
            "gcp" => VaultAuth::Gcp,
            _ => {
                let reason = "is not one of approle, token, kubernetes, aws, gcp";
                return Err(InvalidConfig::new("auth_method", reason));
            }
        };
        let kv_version = match self.number("kv_version")? {
            None => None,
            Some(1) => Some(KvVersion::One),
            Some(2) => Some(KvVersion::Two),
            Some(_) => return Err(InvalidConfig::new("kv_version", "is 1 or 2")),
        };
        Ok(VaultConfig {
            common,
            endpoint,
            auth_method,
            auth_config_path: self.required_path("auth_config_path")?,
            tls_verify: self.flag("tls_verify", true)?,
            namespace: self.segments("namespace")?,
            auth_mount: self.segments("auth_mount")?.unwrap_or_else(|| auth_method.as_str().to_owned()),
            kv_version,
        })
    }

    fn aws(&mut self) -> Result<AwsConfig, InvalidConfig> {
        Ok(AwsConfig {
            common: self.common()?,
            region: self
                .label("region")?
                .ok_or_else(|| InvalidConfig::new("region", "is required, such as us-east-1"))?,
            credentials_path: self.path("credentials_path")?,
            role_arn: self.text("role_arn")?,
            external_id: self.text("external_id")?,
            endpoint: self.endpoint("endpoint")?,
        })
    }

    fn azure(&mut self) -> Result<AzureConfig, InvalidConfig> {
        Ok(AzureConfig {
            common: self.common()?,
            vault_url: self
                .encrypted_endpoint("vault_url")?
                .ok_or_else(|| InvalidConfig::new("vault_url", "is required"))?,
            tenant_id: self
                .label("tenant_id")?
                .ok_or_else(|| InvalidConfig::new("tenant_id", "is required"))?,
            credentials_path: self.required_path("credentials_path")?,
            authority_host: self.encrypted_endpoint("authority_host")?,
            api_version: self.label("api_version")?.unwrap_or_else(|| "2025-07-01".to_owned()),
            verify_challenge_resource: self.flag("verify_challenge_resource", true)?,
            name_separator: self.separator()?,
        })
    }

    fn google(&mut self) -> Result<GoogleConfig, InvalidConfig> {
        Ok(GoogleConfig {
            common: self.common()?,
            project_id: self
                .label("project_id")?
                .ok_or_else(|| InvalidConfig::new("project_id", "is required"))?,
            location: self.label("location")?,
            credentials_path: self.path("credentials_path")?,
            endpoint: self.endpoint("endpoint")?,
            universe_domain: self.label("universe_domain")?.unwrap_or_else(|| "googleapis.com".to_owned()),
            name_separator: self.separator()?,
        })
    }
}

#[cfg(test)]
#[path = "backend_tests.rs"]
mod tests;
