//! Secret backends, by their time-ordered id. Never a credential.

use hansa_model::secrets::id::BackendId;
use hansa_model::secrets::row::Backend;

use super::Table;

/// Secret backends, by their time-ordered id. Never a credential.
#[derive(Debug)]
pub enum SecretBackends {}

impl Table for SecretBackends {
    type Key = BackendId;
    type Value = Backend;
    const NAME: &'static str = "secret_backends";
}
