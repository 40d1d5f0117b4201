//! JSON from strangers: errors that never repeat a value, and the lenient numbers of the site wire.

use std::fmt;

use hansa_model::id::InvalidId;
use hansa_model::time::InvalidTimestamp;
use serde::de::{self, DeserializeOwned};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::code::Code;
use crate::problem::Problem;

const NOT_A_NUMBER: &str = "is not a number";
const NOT_A_COUNT: &str = "is not a whole number of zero or more";

/// Reads a whole body, which is an object: serde would take an array for a structure too.
///
/// The recursion limit of serde_json bounds the depth, the route's body limit the size; types are
/// chosen so that a small body never becomes a large value.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    parse_borrowed(bytes)
}

/// The same for a value that borrows from the body.
pub(crate) fn parse_borrowed<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Problem> {
    if !is_object(bytes) {
        return Err(Problem::new(Code::InvalidBody, "the body must be a JSON object"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let member = first_member(&error);
        problem(error.inner(), member)
    })?;
    deserializer.end().map_err(|error| problem(&error, None))?;
    Ok(value)
}

/// Whether the text begins like an object.
pub(crate) fn is_object(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().first() == Some(&b'{')
}

fn problem(error: &serde_json::Error, member: Option<String>) -> Problem {
    match error.classify() {
        Category::Syntax | Category::Eof | Category::Io => Problem::new(
            Code::InvalidJson,
            format!("the body is not JSON: see line {}, column {}", error.line(), error.column()),
        ),
        Category::Data => match member {
            Some(member) => {
                let detail = format!("{member}: {}", reason(error));
                Problem::field(Code::InvalidBody, &member, detail)
            }
            None => Problem::new(Code::InvalidBody, format!("the body does not fit: {}", reason(error))),
        },
    }
}

/// The member of the outermost object that is bad, if it is one of ours: the name of an unknown member is
/// the caller's, and so may be the steps further down.
fn first_member(error: &serde_path_to_error::Error<serde_json::Error>) -> Option<String> {
    if error.inner().to_string().starts_with("unknown field") {
        return None;
    }
    match error.path().iter().next()? {
        serde_path_to_error::Segment::Map { key } => Some(key.clone()),
        serde_path_to_error::Segment::Seq { .. }
        | serde_path_to_error::Segment::Enum { .. }
        | serde_path_to_error::Segment::Unknown => None,
    }
}

/// Why one value of a larger body does not fit `T`, without repeating any of it.
pub(crate) fn reason_for<T: DeserializeOwned>(bytes: &[u8]) -> String {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
        Ok(_) => match deserializer.end() {
            Ok(()) => "it does not have the documented shape".to_owned(),
            Err(_) => "it is not one JSON value".to_owned(),
        },
        Err(error) => match (error.inner().classify(), first_member(&error)) {
            (Category::Syntax | Category::Eof | Category::Io, _) => "it is not JSON".to_owned(),
            (Category::Data, Some(member)) => format!("{member}: {}", reason(error.inner())),
            (Category::Data, None) => reason(error.inner()),
        },
    }
}

/// The part of serde's message that stems from our types: its head may repeat the value.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(head, _)| head);
    for own in [NOT_A_COUNT, NOT_A_NUMBER, &InvalidId.to_string(), &InvalidTimestamp.to_string()] {
        if text == own {
            return own.to_owned();
        }
    }
    if text.starts_with("missing field `") || text.starts_with("duplicate field `") {
        return text.to_owned();
    }
    match text.rsplit_once(", expected ") {
        Some((head, expected)) if head.starts_with("unknown field") => {
            format!("unknown member, expected {expected}")
        }
        Some((_, expected)) => format!("expected {expected}"),
        None => "a value does not have the documented form".to_owned(),
    }
}

/// A count that may arrive as a number or as numeric text (contract B6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, utoipa::ToSchema)]
#[schema(value_type = u64)]
pub(crate) struct Count(pub(crate) u64);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CountVisitor;

        impl de::Visitor<'_> for CountVisitor {
            type Value = Count;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number of zero or more")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Count, E> {
                Ok(Count(value))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Count, E> {
                u64::try_from(value).map(Count).map_err(|_| E::custom(NOT_A_COUNT))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Count, E> {
                // 2^53: the largest range in which every whole number has an exact float.
                if value.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&value) {
                    #[expect(
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        reason = "whole and in range"
                    )]
                    return Ok(Count(value as u64));
                }
                Err(E::custom(NOT_A_COUNT))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Count, E> {
                text.trim().parse().map(Count).map_err(|_| E::custom(NOT_A_COUNT))
            }
        }

        deserializer.deserialize_any(CountVisitor)
    }
}

/// A number that may arrive as numeric text (contract B6).
#[derive(Debug, Clone, Copy, PartialEq, utoipa::ToSchema)]
#[schema(value_type = f64)]
pub(crate) struct Real(pub(crate) f64);

impl<'de> Deserialize<'de> for Real {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Number(f64),
            Text(String),
        }

        let number = match Form::deserialize(deserializer).map_err(|_| de::Error::custom(NOT_A_NUMBER))? {
            Form::Number(number) => Some(number),
            Form::Text(text) => text.trim().parse().ok(),
        };
        let finite = number.filter(|number: &f64| number.is_finite());
        finite.map(Self).ok_or_else(|| de::Error::custom(NOT_A_NUMBER))
    }
}

/// A member of the site wire that is left out when it does not have its documented form.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Lenient<T>(pub(crate) Option<T>);

impl<T> Default for Lenient<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Ok(Self(serde_json::from_str(raw.get()).ok()))
    }
}

/// A member that may be absent (keep), null (clear) or given (set).
pub(crate) fn given<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use hansa_model::{HostId, Timestamp};
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[serde(rename = "id")]
        _id: Option<HostId>,
        #[serde(rename = "at")]
        _at: Option<Timestamp>,
        #[serde(rename = "n")]
        _n: Count,
        #[serde(rename = "map", default)]
        _map: std::collections::BTreeMap<String, Count>,
    }

    #[derive(Debug, Deserialize)]
    struct Whole {
        #[serde(rename = "n")]
        _n: Lenient<Count>,
    }

    fn refusal(body: &str) -> String {
        let problem = parse::<Sample>(body.as_bytes()).unwrap_err();
        serde_json::to_string(&problem.body("r")).unwrap()
    }

    #[test]
    fn refusal_names_the_member_and_never_the_value() {
        for body in [
            r#"{"n":"canary"}"#,
            r#"{"n":1,"id":"canary"}"#,
            r#"{"n":1,"at":"canary, expected canary at line 1"}"#,
            r#"{"n":1,"canary":2}"#,
            r#"{"n":1,"map":{"canary":"x"}}"#,
            r#"{"n":["canary"]}"#,
            r#""canary""#,
            r#"{"n": canary}"#,
        ] {
            let text = refusal(body);

            assert!(!text.contains("canary"), "{body}: {text}");
        }
        assert!(refusal(r#"{"n":-1}"#).contains(NOT_A_COUNT));
        assert!(refusal(r#"{"n":1,"id":"x"}"#).contains("\"pointer\":\"/id\""));
        assert!(refusal("{}").contains("missing field `n`"));
    }

    #[test]
    fn counts_may_be_text_or_whole_floats() {
        for text in ["5", "\"5\"", "\" 5 \"", "5.0"] {
            assert_eq!(serde_json::from_str::<Count>(text).unwrap(), Count(5), "{text}");
        }
        for text in ["-1", "\"-1\"", "1.5", "1e40", "null", "true", "\"\""] {
            assert!(serde_json::from_str::<Count>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_without_a_deep_stack() {
        let body = format!("{{\"n\":{}", "[".repeat(1_000_000));

        assert_eq!(parse::<Whole>(body.as_bytes()).unwrap_err().code(), Code::InvalidJson);
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse::<Sample>(&body);
            let _ = reason_for::<Sample>(&body);
        }

        #[test]
        fn any_json_like_text_is_answered(body in "[\\[\\]{}\":,a-z0-9.\\\\ -]{0,120}") {
            let _ = parse::<Sample>(body.as_bytes());
            let _ = reason_for::<Sample>(body.as_bytes());
        }
    }
}
