//! What the node's owner lets secret backends do, and how often callers may ask for secrets.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hansa_model::machine::bucket::{Category, Rates};
use hansa_model::secrets::address::{AddressRange, AddressRules};
use hansa_model::secrets::ambient::AmbientKinds;
use hansa_model::secrets::backend::{BackendKind, InvalidKind};
use serde::{Deserialize, Serialize};

use super::ConfigError;

/// The `[backends]` table.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BackendsLayer {
    /// Private and loopback ranges that backends may have.
    pub allowed_addresses: Option<Vec<String>>,
    /// Whether plain `http` is allowed to loopback addresses.
    pub http_to_loopback: Option<bool>,
    /// Whether a backend may leave the server's certificate unchecked.
    pub unverified_tls: Option<bool>,
    /// The types that may log in as the machine that the node runs on.
    pub ambient: Option<Vec<String>>,
    /// The folder that `kubernetes` logins may read a token from.
    pub pod_tokens: Option<PathBuf>,
}

/// The same, valid.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BackendsConfig {
    /// Which addresses backends may have.
    pub rules: AddressRules,
    /// The types that may log in as the machine that the node runs on.
    pub ambient: AmbientKinds,
    /// The folder that `kubernetes` logins may read a token from.
    pub pod_tokens: Option<PathBuf>,
}

impl BackendsLayer {
    pub(super) fn over(self, below: Self) -> Self {
        Self {
            allowed_addresses: self.allowed_addresses.or(below.allowed_addresses),
            http_to_loopback: self.http_to_loopback.or(below.http_to_loopback),
            unverified_tls: self.unverified_tls.or(below.unverified_tls),
            ambient: self.ambient.or(below.ambient),
            pod_tokens: self.pod_tokens.or(below.pod_tokens),
        }
    }

    pub(super) fn resolve(self) -> Result<BackendsConfig, ConfigError> {
        let ranges = self.allowed_addresses.unwrap_or_default();
        let allowed: Result<Vec<AddressRange>, _> = ranges.iter().map(|range| range.parse()).collect();
        let allowed = allowed.map_err(|error| {
            ConfigError::Backends(format!("backends.allowed_addresses: an entry {error}"))
        })?;
        Ok(BackendsConfig {
            rules: AddressRules {
                allowed,
                http_to_loopback: self.http_to_loopback.unwrap_or(false),
                unverified_tls: self.unverified_tls.unwrap_or(false),
            },
            ambient: ambient(&self.ambient.unwrap_or_default())?,
            pod_tokens: self.pod_tokens,
        })
    }
}

fn ambient(names: &[String]) -> Result<AmbientKinds, ConfigError> {
    let kind = |name: &String| {
        let fault = |what: &str| ConfigError::Backends(format!("backends.ambient: {name:?} {what}"));
        match name.parse() {
            Ok(BackendKind::AzureKeyVault) => Err(fault("has no login of the machine's: leave it out")),
            Ok(kind) => Ok(kind),
            Err(InvalidKind) => Err(fault(&InvalidKind.to_string())),
        }
    };
    names.iter().map(kind).collect()
}

/// The `[secret_rates]` table: calls a minute by category.
pub(super) fn resolve_rates(layer: BTreeMap<Category, u32>) -> Rates {
    layer.into_iter().fold(Rates::default(), |rates, (category, number)| rates.with(category, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(names: &[&str]) -> Result<BackendsConfig, ConfigError> {
        let ambient = Some(names.iter().map(|name| (*name).to_owned()).collect());
        BackendsLayer { ambient, ..BackendsLayer::default() }.resolve()
    }

    #[test]
    fn machine_logs_in_for_no_type_that_is_not_listed() {
        let config = resolved(&["google-secret-manager"]).unwrap();

        assert!(config.ambient.allow(BackendKind::GoogleSecretManager));
        assert!(!config.ambient.allow(BackendKind::AwsSecretsManager));
        assert_eq!(BackendsLayer::default().resolve().unwrap().ambient, AmbientKinds::default());
    }

    #[test]
    fn type_that_has_no_login_of_the_machine_is_refused_by_name() {
        for name in ["azure-key-vault", "aws"] {
            let refusal = resolved(&[name]).unwrap_err().to_string();
            assert!(refusal.contains("backends.ambient") && refusal.contains(name), "{refusal}");
        }
    }
}
