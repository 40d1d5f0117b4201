//! Index: Ed25519 identity key → the site that must prove it.

use hansa_model::SiteId;

use super::Table;

/// Index: Ed25519 identity key → the site that must prove it.
#[derive(Debug)]
pub enum IdentityKeys {}

impl Table for IdentityKeys {
    type Key = [u8; 32];
    type Value = SiteId;
    const NAME: &'static str = "identity_keys";
}
