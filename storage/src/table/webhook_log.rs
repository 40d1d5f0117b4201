//! What webhooks are told, in order: position → [`WebhookEvent`].

use hansa_model::webhook::WebhookEvent;

use super::Log;
use crate::error::RecordError;

/// What webhooks are told, in order: position → [`WebhookEvent`] in postcard.
#[derive(Debug)]
pub enum WebhookLog {}

impl Log for WebhookLog {
    const NAME: &'static str = "webhook_log";

    fn check(version: u8, body: &[u8]) -> Result<(), RecordError> {
        if version != Self::VERSION {
            return Err(RecordError::UnknownVersion { version });
        }
        postcard::from_bytes::<WebhookEvent>(body).map(drop).map_err(|_| RecordError::Malformed)
    }
}
