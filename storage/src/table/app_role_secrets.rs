//! Secret ids of AppRoles, by the hash of each.

use hansa_model::secret::TokenHash;
use hansa_model::secrets::vault::AppRoleSecret;

use super::Table;

/// Secret ids of AppRoles, by the hash of each.
#[derive(Debug)]
pub enum AppRoleSecrets {}

impl Table for AppRoleSecrets {
    type Key = TokenHash;
    type Value = AppRoleSecret;
    const NAME: &'static str = "app_role_secrets";
}
