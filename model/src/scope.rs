//! Who may do what: scopes, and the principals that carry them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::SiteId;
use crate::secrets::tenant::Tenancy;

/// A permission of an operator (architecture 11; those of secrets: contract of the secret federation API, A.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "each name is its own text, listed in architecture 11 and docs")]
pub enum Scope {
    IdentityRead,
    IdentityWrite,
    RoleWrite,
    SitesRead,
    SitesWrite,
    HostsRead,
    RollupsRead,
    PoliciesRead,
    PoliciesWrite,
    CommandsRead,
    CommandsDispatch,
    AuditRead,
    AlertsRead,
    AlertsWrite,
    LeasesRead,
    LeasesRevoke,
    SiteRead,
    SiteWrite,
    Admin,
    FederationRead,
    FederationWrite,
    SecretsRead,
    SecretsWrite,
    SecretsDelete,
    SecretsList,
    SecretsRotate,
}

impl Scope {
    /// Every scope, in the order of the documentation.
    pub const ALL: [Self; 26] = [
        Self::IdentityRead,
        Self::IdentityWrite,
        Self::RoleWrite,
        Self::SitesRead,
        Self::SitesWrite,
        Self::HostsRead,
        Self::RollupsRead,
        Self::PoliciesRead,
        Self::PoliciesWrite,
        Self::CommandsRead,
        Self::CommandsDispatch,
        Self::AuditRead,
        Self::AlertsRead,
        Self::AlertsWrite,
        Self::LeasesRead,
        Self::LeasesRevoke,
        Self::SiteRead,
        Self::SiteWrite,
        Self::Admin,
        Self::FederationRead,
        Self::FederationWrite,
        Self::SecretsRead,
        Self::SecretsWrite,
        Self::SecretsDelete,
        Self::SecretsList,
        Self::SecretsRotate,
    ];

    /// The spelling in a token's `scope` claim.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::IdentityRead => "identity:read",
            Self::IdentityWrite => "identity:write",
            Self::RoleWrite => "role:write",
            Self::SitesRead => "sites:read",
            Self::SitesWrite => "sites:write",
            Self::HostsRead => "hosts:read",
            Self::RollupsRead => "rollups:read",
            Self::PoliciesRead => "policies:read",
            Self::PoliciesWrite => "policies:write",
            Self::CommandsRead => "commands:read",
            Self::CommandsDispatch => "commands:dispatch",
            Self::AuditRead => "audit:read",
            Self::AlertsRead => "alerts:read",
            Self::AlertsWrite => "alerts:write",
            Self::LeasesRead => "leases:read",
            Self::LeasesRevoke => "leases:revoke",
            Self::SiteRead => "site:read",
            Self::SiteWrite => "site:write",
            Self::Admin => "admin",
            Self::FederationRead => "federation:read",
            Self::FederationWrite => "federation:write",
            Self::SecretsRead => "secrets:read",
            Self::SecretsWrite => "secrets:write",
            Self::SecretsDelete => "secrets:delete",
            Self::SecretsList => "secrets:list",
            Self::SecretsRotate => "secrets:rotate",
        }
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or(UnknownScope)
    }
}

impl Serialize for Scope {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A text that is no scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a scope: `hansa token mint --help` lists them")]
pub struct UnknownScope;

/// An operator whose token was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// Who, for the audit log.
    pub userid: String,
    /// What they may do.
    pub scopes: BTreeSet<Scope>,
    /// The sites they may see; none means all.
    pub sites: Option<BTreeSet<SiteId>>,
    /// Whose secrets they may see.
    pub tenancy: Tenancy,
}

impl Operator {
    /// Whether the operator holds this scope. `admin` alone does not imply the others.
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }

    /// Whether the operator may see this site. What they may not see answers as if it did not exist.
    pub fn sees(&self, site: SiteId) -> bool {
        self.sites.as_ref().is_none_or(|sites| sites.contains(&site))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scope_parses_from_its_own_spelling() {
        for scope in Scope::ALL {
            assert_eq!(scope.as_str().parse(), Ok(scope));
        }
    }
}
