//! What this node was told to be, such as its role: name → text.

use super::Table;

/// What this node was told to be, such as its role: name → text.
#[derive(Debug)]
pub enum Settings {}

impl Table for Settings {
    type Key = String;
    type Value = String;
    const NAME: &'static str = "settings";
}
