//! Values of secrets, by tenant, path and version, each under a data key of its own.

use super::{SealedTable, Table};
use crate::codec::Named;
use crate::seal::Envelope;

/// Values of secrets, by tenant, path and version, each under a data key of its own.
#[derive(Debug)]
pub enum SecretValues {}

impl Table for SecretValues {
    type Key = Named<Named<u64>>;
    type Value = Envelope;
    const NAME: &'static str = "secret_values";
}

impl SealedTable for SecretValues {}
