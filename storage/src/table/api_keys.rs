//! API keys by their SHA-256.

use hansa_model::access::ApiKey;

use super::Table;

/// API keys by their SHA-256.
#[derive(Debug)]
pub enum ApiKeys {}

impl Table for ApiKeys {
    type Key = [u8; 32];
    type Value = ApiKey;
    const NAME: &'static str = "api_keys";
}
