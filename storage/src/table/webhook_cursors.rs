//! How far each webhook has been told: its name → the last position of the log that it took.

use super::Table;

/// How far each webhook has been told: its name → the last position of the log that it took.
#[derive(Debug)]
pub enum WebhookCursors {}

impl Table for WebhookCursors {
    type Key = String;
    type Value = u64;
    const NAME: &'static str = "webhook_cursors";
}
