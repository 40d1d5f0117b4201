//! Logins of local users by the SHA-256 of their refresh token's first half.

use hansa_model::access::Login;

use super::Table;

/// Logins of local users by the SHA-256 of their refresh token's first half.
#[derive(Debug)]
pub enum Logins {}

impl Table for Logins {
    type Key = [u8; 32];
    type Value = Login;
    const NAME: &'static str = "logins";
}
