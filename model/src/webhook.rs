//! Webhooks: what they are told, in the form of the Standard Webhooks convention.
//!
//! Each event is kept in a log, and each webhook has a place in it. So an event is told at least once and in
//! order, a webhook that was down misses nothing, and an operator can set one back to be told again. The
//! id of an event never changes: a receiver drops what it has seen.

use serde::{Deserialize, Serialize};

use crate::{Secret, Timestamp};

/// One event as it is kept. The field order is a stored format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookEvent {
    /// Sent as `webhook-id`; the same at each try.
    pub id: String,
    /// Such as `alert.opened`.
    pub kind: String,
    /// When it happened.
    pub at: Timestamp,
    /// The event's data, a JSON object as text. Never a secret.
    pub data: String,
}

impl WebhookEvent {
    /// The body that is posted and signed.
    pub fn body(&self) -> String {
        // Kind and instant hold nothing that JSON would escape; the data is JSON already.
        format!(r#"{{"type":"{}","timestamp":"{}","data":{}}}"#, self.kind, self.at, self.data)
    }

    /// What the signature covers: id, seconds of the try, body, with full stops between.
    pub fn signed_text(&self, at_secs: i64, body: &str) -> String {
        format!("{}.{at_secs}.{body}", self.id)
    }
}

/// A webhook as configured.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// Names it in routes and logs.
    pub name: String,
    /// Where to post.
    pub url: String,
    /// Key of the signature, at least 24 bytes.
    pub secret: Secret<Vec<u8>>,
}
