//! Public certificates of this node: name → PEM.

use super::Table;

/// Public certificates of this node: name → PEM.
#[derive(Debug)]
pub enum Certificates {}

impl Table for Certificates {
    type Key = String;
    type Value = String;
    const NAME: &'static str = "certificates";
}
