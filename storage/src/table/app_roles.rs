//! AppRoles of the Vault surface, by tenant and name. Never a secret id.

use hansa_model::secrets::vault::AppRole;

use super::Table;
use crate::codec::Named;

/// AppRoles of the Vault surface, by tenant and name. Never a secret id.
#[derive(Debug)]
pub enum AppRoles {}

impl Table for AppRoles {
    type Key = Named<String>;
    type Value = AppRole;
    const NAME: &'static str = "app_roles";
}
