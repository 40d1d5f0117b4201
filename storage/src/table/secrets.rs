//! Secrets of this node and copies of backends', by tenant and path. Never a value.

use hansa_model::secrets::row::SecretRow;

use super::Table;
use crate::codec::Named;

/// Secrets of this node and copies of backends', by tenant and path. Never a value.
#[derive(Debug)]
pub enum Secrets {}

impl Table for Secrets {
    type Key = Named<String>;
    type Value = SecretRow;
    const NAME: &'static str = "secrets";
}
