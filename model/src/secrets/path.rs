//! The grammar of a secret's path (contract A.6).
//!
//! One spelling, one secret: what could be read in two ways is refused before anything is matched. A path
//! in hand is a valid one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits::secrets as limits;

/// Where a secret lies: one to ten segments, at most 512 bytes, without a slash at either end.
///
/// Federated paths may hold capital letters and `. + = @`, because names in AWS and Google do; a local
/// secret keeps to the narrower set ([`SecretPath::is_local`]).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct SecretPath(String);

/// Why a text is no path. It never repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPath {
    /// Nothing, or too much of it.
    #[error("has 1 to 512 characters")]
    Length,
    /// Too many segments.
    #[error("has at most 10 segments")]
    Segments,
    /// A slash at an end, two in a row, or a segment that is `.` or `..`.
    #[error("has no empty segment and none that is . or ..")]
    Segment,
    /// A character outside the set.
    #[error("holds only letters, digits and - _ . + = @ /")]
    Character,
}

impl SecretPath {
    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its segments, at least one.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// Whether a secret of this node may be written here: lower case, digits, `-` and `_` only.
    pub fn is_local(&self) -> bool {
        self.0.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'/')
        })
    }
}

impl FromStr for SecretPath {
    type Err = InvalidPath;

    fn from_str(text: &str) -> Result<Self, InvalidPath> {
        if text.is_empty() || text.len() > limits::PATH_BYTES_MAX {
            return Err(InvalidPath::Length);
        }
        let known = |byte: u8| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'+' | b'=' | b'@' | b'/')
        };
        if !text.bytes().all(known) {
            return Err(InvalidPath::Character);
        }
        if text.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
            return Err(InvalidPath::Segment);
        }
        if text.split('/').count() > limits::PATH_SEGMENTS_MAX {
            return Err(InvalidPath::Segments);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for SecretPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SecretPath {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_could_be_read_in_two_ways_are_refused() {
        let long = "a".repeat(513);
        let deep = ["a"; 11].join("/");
        for (text, refusal) in [
            ("", InvalidPath::Length),
            (&long, InvalidPath::Length),
            (&deep, InvalidPath::Segments),
            ("/a", InvalidPath::Segment),
            ("a/", InvalidPath::Segment),
            ("a//b", InvalidPath::Segment),
            ("a/./b", InvalidPath::Segment),
            ("a/../b", InvalidPath::Segment),
            ("a\\b", InvalidPath::Character),
            ("a b", InvalidPath::Character),
            ("a%2fb", InvalidPath::Character),
            ("a\0", InvalidPath::Character),
            ("ä", InvalidPath::Character),
        ] {
            assert_eq!(text.parse::<SecretPath>(), Err(refusal), "{text}");
        }
    }

    #[test]
    fn local_paths_keep_to_the_narrower_set() {
        assert!("infra/aws_1/re-ader".parse::<SecretPath>().unwrap().is_local());
        for text in ["A", "a.b", "a+b", "a=b", "a@b"] {
            assert!(!text.parse::<SecretPath>().unwrap().is_local(), "{text}");
        }
    }
}
