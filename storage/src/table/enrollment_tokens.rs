//! Index: SHA-256 of an enrollment token → the site it is for.

use hansa_model::SiteId;

use super::Table;

/// Index: SHA-256 of an enrollment token → the site it is for.
#[derive(Debug)]
pub enum EnrollmentTokens {}

impl Table for EnrollmentTokens {
    type Key = [u8; 32];
    type Value = SiteId;
    const NAME: &'static str = "enrollment_tokens";
}
