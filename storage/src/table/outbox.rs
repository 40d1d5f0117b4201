//! A site's way up: the frozen batch, the cursor and whatever else must outlive the process, by name.

use super::{Table, raw_body};
use crate::error::RecordError;

/// A site's way up: name (`frozen`, `cursor`, …) → bytes that only their writer understands.
#[derive(Debug)]
pub enum Outbox {}

impl Table for Outbox {
    type Key = String;
    type Value = Vec<u8>;
    const NAME: &'static str = "outbox";

    fn encode(value: &Vec<u8>, mut record: Vec<u8>) -> Vec<u8> {
        record.extend_from_slice(value);
        record
    }

    fn decode(version: u8, body: &[u8]) -> Result<Vec<u8>, RecordError> {
        raw_body(version, Self::VERSION, body)
    }
}
