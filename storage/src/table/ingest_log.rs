//! What a coordinator ingested, in the order of commits: position → [`IngestRecord`].

use hansa_model::sync::IngestRecord;

use super::Log;
use crate::error::RecordError;

/// What a coordinator ingested, in the order of commits: position → [`IngestRecord`] in postcard.
#[derive(Debug)]
pub enum IngestLog {}

impl Log for IngestLog {
    const NAME: &'static str = "ingest_log";

    fn check(version: u8, body: &[u8]) -> Result<(), RecordError> {
        if version != Self::VERSION {
            return Err(RecordError::UnknownVersion { version });
        }
        postcard::from_bytes::<IngestRecord<'_>>(body).map(drop).map_err(|_| RecordError::Malformed)
    }
}
