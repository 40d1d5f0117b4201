//! Tenants, by their id. The default tenant has no record.

use hansa_model::secrets::tenant::Tenant;

use super::Table;

/// Tenants, by their id. The default tenant has no record.
#[derive(Debug)]
pub enum Tenants {}

impl Table for Tenants {
    type Key = String;
    type Value = Tenant;
    const NAME: &'static str = "tenants";
}
