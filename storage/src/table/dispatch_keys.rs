//! Idempotency keys of dispatches: SHA-256 of operator and key → what was dispatched with it.

use hansa_model::command::KeyedDispatch;

use super::Table;

/// Idempotency keys of dispatches: SHA-256 of operator and key → what was dispatched with it.
#[derive(Debug)]
pub enum DispatchKeys {}

impl Table for DispatchKeys {
    type Key = [u8; 32];
    type Value = KeyedDispatch;
    const NAME: &'static str = "dispatch_keys";
}
