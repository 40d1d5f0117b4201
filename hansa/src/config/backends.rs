//! What the node's owner lets secret backends do, and how often callers may ask for secrets.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hansa_model::machine::bucket::{Category, Rates};
use hansa_model::secrets::address::{AddressRange, AddressRules};
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
    /// The folder that `kubernetes` logins may read a token from.
    pub pod_tokens: Option<PathBuf>,
}

/// The same, valid.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BackendsConfig {
    /// Which addresses backends may have.
    pub rules: AddressRules,
    /// The folder that `kubernetes` logins may read a token from.
    pub pod_tokens: Option<PathBuf>,
}

impl BackendsLayer {
    pub(super) fn over(self, below: Self) -> Self {
        Self {
            allowed_addresses: self.allowed_addresses.or(below.allowed_addresses),
            http_to_loopback: self.http_to_loopback.or(below.http_to_loopback),
            unverified_tls: self.unverified_tls.or(below.unverified_tls),
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
            pod_tokens: self.pod_tokens,
        })
    }
}

/// The `[secret_rates]` table: calls a minute by category.
pub(super) fn resolve_rates(layer: BTreeMap<Category, u32>) -> Rates {
    layer.into_iter().fold(Rates::default(), |rates, (category, number)| rates.with(category, number))
}
