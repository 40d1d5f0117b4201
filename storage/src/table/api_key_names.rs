//! Index: name of an API key → its SHA-256.

use super::Table;

/// Index: name of an API key → its SHA-256.
#[derive(Debug)]
pub enum ApiKeyNames {}

impl Table for ApiKeyNames {
    type Key = String;
    type Value = [u8; 32];
    const NAME: &'static str = "api_key_names";
}
