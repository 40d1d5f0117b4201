//! Policies on paths: who may do what with which secrets (contract A.3).
//!
//! A rule allows; nothing denies. Any matching rule of any policy that is bound to the caller is enough.
//! Policies speak of our paths, never of names at a backend.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::id::{PathPolicyId, TenantId};
use super::path::SecretPath;
use super::pattern::PathPattern;
use crate::Timestamp;
use crate::scope::{Operator, Scope};

/// What a rule lets somebody do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// Read values.
    Read,
    /// Make and change values.
    Write,
    /// Delete.
    Delete,
    /// See that it is there.
    List,
    /// Start a rotation.
    Rotate,
    /// All of it.
    Admin,
}

impl Permission {
    /// Every permission, in the order of the documentation.
    pub const ALL: [Self; 6] = [Self::Read, Self::Write, Self::Delete, Self::List, Self::Rotate, Self::Admin];

    /// The spelling in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Delete => "delete",
            Self::List => "list",
            Self::Rotate => "rotate",
            Self::Admin => "admin",
        }
    }
}

impl std::str::FromStr for Permission {
    type Err = UnknownPermission;

    fn from_str(text: &str) -> Result<Self, UnknownPermission> {
        Self::ALL.into_iter().find(|permission| permission.as_str() == text).ok_or(UnknownPermission)
    }
}

/// A text that is no permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not one of read, write, delete, list, rotate, admin")]
pub struct UnknownPermission;

/// One line of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathRule {
    /// The paths it is about.
    pub path_pattern: PathPattern,
    /// What it allows there.
    pub permissions: BTreeSet<Permission>,
}

/// A policy as it is kept. The field order is a stored format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathPolicy {
    /// Server-made.
    pub id: PathPolicyId,
    /// Whose secrets it is about.
    pub tenant: TenantId,
    /// Unique in the tenant.
    pub name: String,
    /// For people.
    pub description: String,
    /// What it allows.
    pub rules: Vec<PathRule>,
    /// Whom: user ids, client ids, `approle:NAME`; `*` is everybody of the tenant.
    pub identities: BTreeSet<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl PathPolicy {
    fn binds(&self, identity: &str) -> bool {
        self.identities.contains("*") || self.identities.contains(identity)
    }
}

/// Every policy of one tenant that binds one caller; asked once for each path.
#[derive(Debug, Clone)]
pub struct Allowed<'a> {
    everything: bool,
    policies: Vec<&'a PathPolicy>,
}

impl<'a> Allowed<'a> {
    /// What these policies allow this caller. The scope `admin` needs no policy.
    pub fn to(operator: &Operator, policies: impl IntoIterator<Item = &'a PathPolicy>) -> Self {
        Self {
            everything: operator.may(Scope::Admin),
            policies: policies.into_iter().filter(|policy| policy.binds(&operator.userid)).collect(),
        }
    }

    /// Whether the caller may do this with this path.
    pub fn may(&self, permission: Permission, path: &SecretPath) -> bool {
        self.everything || self.rules(permission).any(|rule| rule.path_pattern.matches(path))
    }

    /// Whether there may be anything below a prefix that the caller may do this with; so that a list asks no
    /// backend for names that nobody will be shown.
    pub fn may_below(&self, permission: Permission, prefix: &str) -> bool {
        self.everything || self.rules(permission).any(|rule| rule.path_pattern.may_match_below(prefix))
    }

    fn rules(&self, permission: Permission) -> impl Iterator<Item = &PathRule> {
        let allows = move |rule: &&PathRule| {
            rule.permissions.contains(&permission) || rule.permissions.contains(&Permission::Admin)
        };
        self.policies.iter().flat_map(|policy| &policy.rules).filter(allows)
    }
}
