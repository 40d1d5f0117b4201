//! What the Vault-speaking surface keeps: AppRoles, their secret ids, and the tokens it gave out.
//!
//! Of everything that proves somebody only the hash is kept.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::id::TenantId;
use crate::Timestamp;
use crate::scope::{Operator, Scope};
use crate::secret::{TokenHash, hex, token_hash};
use crate::secrets::tenant::Tenancy;

/// A program that logs in to the Vault surface. The field order is a stored format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppRole {
    /// What it logs in as; not a secret, but not to be guessed.
    pub role_id: String,
    /// Unique in the tenant; stands in the audit log and in policies as `approle:NAME`.
    pub name: String,
    /// Whose secrets it sees.
    pub tenant: TenantId,
    /// What its tokens may do, within what its policies allow.
    pub scopes: BTreeSet<Scope>,
    /// How long its tokens live, in seconds.
    pub token_ttl_seconds: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: String,
}

impl AppRole {
    /// The operator that its tokens stand for.
    pub fn operator(&self) -> Operator {
        Operator {
            userid: format!("approle:{}", self.name),
            scopes: self.scopes.clone(),
            sites: Some(BTreeSet::new()),
            tenancy: Tenancy { tenant: Some(self.tenant.clone()), ..Tenancy::default() },
        }
    }
}

/// A secret id of an AppRole, known by its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppRoleSecret {
    /// The AppRole's tenant.
    pub tenant: TenantId,
    /// The AppRole's name.
    pub name: String,
    /// Whose: an AppRole of the same name that was made later is another one.
    pub role_id: String,
    /// When it ends; none does not.
    pub expires_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
}

impl AppRoleSecret {
    /// What names a secret id without being it, by the hash that it is kept under: 24 hexadecimal digits, from
    /// which neither follows.
    pub fn accessor(hash: &TokenHash) -> String {
        hex(&token_hash(&format!("secret id accessor {}", hex(hash)))[..12])
    }
}

/// A token that a login gave, known by its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VaultToken {
    /// The AppRole's tenant.
    pub tenant: TenantId,
    /// The AppRole's name.
    pub name: String,
    /// The AppRole that logged in; the token ends with it.
    pub role_id: String,
    /// Names the token in answers without being it.
    pub accessor: String,
    /// When it was given.
    pub issued_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// Its life when it was given, in seconds.
    pub ttl_seconds: u64,
}
