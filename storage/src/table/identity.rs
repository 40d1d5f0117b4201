//! Private keys of this node: name → sealed bytes (PKCS#8, PEM).

use super::{SealedTable, Table};
use crate::seal::Envelope;

/// Private keys of this node: name → sealed bytes (PKCS#8, PEM).
#[derive(Debug)]
pub enum Identity {}

impl Table for Identity {
    type Key = String;
    type Value = Envelope;
    const NAME: &'static str = "identity";
}

impl SealedTable for Identity {}
