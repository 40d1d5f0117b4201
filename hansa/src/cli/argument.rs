//! Arguments that several commands read alike.

use std::io::Read as _;
use std::path::Path;

use hansa_model::secrets::duration;
use serde_json::Value;

use super::failure::Failure;

/// Reads JSON from a file, or from standard input for `-`. `what` names it in a refusal.
///
/// # Errors
/// A misuse: it cannot be read, or is not JSON.
pub(super) fn read_json(what: &str, path: &Path) -> Result<Value, Failure> {
    let read = if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().lock().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    let text = read
        .map_err(|error| Failure::usage(format!("the {what} {} cannot be read: {error}", path.display())))?;
    serde_json::from_str(&text)
        .map_err(|error| Failure::usage(format!("the {what} {} is not JSON: {error}", path.display())))
}

/// A span such as `15m`, as it was written: the node reads it again.
///
/// # Errors
/// It is none.
pub(super) fn parse_span(text: &str) -> Result<String, duration::InvalidDuration> {
    duration::parse(text).map(|_| text.to_owned())
}
