//! AppRoles of the Vault surface, by their role id. Never a secret id.

use hansa_model::secrets::vault::AppRole;

use super::Table;

/// AppRoles of the Vault surface, by their role id. Never a secret id.
#[derive(Debug)]
pub enum AppRoles {}

impl Table for AppRoles {
    type Key = String;
    type Value = AppRole;
    const NAME: &'static str = "app_roles";
}
