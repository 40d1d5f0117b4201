//! Tokens of the Vault surface, by the hash of each.

use hansa_model::secret::TokenHash;
use hansa_model::secrets::vault::VaultToken;

use super::Table;

/// Tokens of the Vault surface, by the hash of each.
#[derive(Debug)]
pub enum VaultTokens {}

impl Table for VaultTokens {
    type Key = TokenHash;
    type Value = VaultToken;
    const NAME: &'static str = "vault_tokens";
}
