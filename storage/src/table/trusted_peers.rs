//! Identity keys that operators trust before enrollment: slug → public key in PEM.

use super::Table;

/// Identity keys that operators trust before enrollment: slug → public key in PEM.
#[derive(Debug)]
pub enum TrustedPeers {}

impl Table for TrustedPeers {
    type Key = String;
    type Value = String;
    const NAME: &'static str = "trusted_peers";
}
