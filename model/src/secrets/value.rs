//! What a backend answers, and how it becomes a secret's `data` (contract C.2).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use zeroize::Zeroizing;

use crate::limits::secrets as limits;
use crate::{Secret, Timestamp};

/// A value as its backend keeps it.
#[derive(Debug, Clone)]
pub enum RemoteValue {
    /// Text; unfolded when it is a JSON object.
    Text(Secret<String>),
    /// Bytes, by the backend's own word or because they are no text; never unfolded.
    Binary(Secret<Vec<u8>>),
    /// A JSON object by the backend's own word, as text.
    Object(Secret<String>),
}

/// One secret as a backend answers it.
#[derive(Debug, Clone)]
pub struct RemoteSecret {
    /// The value.
    pub value: RemoteValue,
    /// The version where the backend counts them (Vault KV 2, Google).
    pub version: Option<u64>,
    /// The backend's own name of the version.
    pub backend_version: Option<String>,
    /// What tells this value from the next one, as in listings.
    pub mark: Option<Mark>,
    /// When the version was made.
    pub created_at: Option<Timestamp>,
    /// When it was last changed.
    pub updated_at: Option<Timestamp>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
}

/// What tells one value of a secret from the next without being it; opaque, and only ever compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Mark(pub String);

/// A secret's `data`: a JSON object in canonical text, members sorted, without spaces.
///
/// Canonical, so that two equal values are two equal texts: a new version is made only when it differs.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretData(Secret<String>);

impl fmt::Debug for SecretData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Why a JSON text is no secret's `data`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a JSON object of at most 1 MiB, 32 levels deep, without repeated names")]
pub struct InvalidData;

/// How a value was read: the `secret_type` of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfolded {
    /// It was a JSON object.
    Json,
    /// It was wrapped as text or bytes.
    Wrapped,
}

impl SecretData {
    /// Parses and sorts a JSON object.
    ///
    /// # Errors
    /// [`InvalidData`]; repeated names are refused, for two readers may see two values in them.
    pub fn parse(json: &str) -> Result<Self, InvalidData> {
        if json.len() > limits::VALUE_BYTES_MAX {
            return Err(InvalidData);
        }
        let mut out = Zeroizing::new(String::with_capacity(json.len()));
        let mut reader = serde_json::Deserializer::from_str(json);
        let seed = Canonical { out: &mut out, depth: 0 };
        let kind = seed.deserialize(&mut reader).map_err(|_| InvalidData)?;
        reader.end().map_err(|_| InvalidData)?;
        if kind != Kind::Object {
            return Err(InvalidData);
        }
        Ok(Self(Secret::new(std::mem::take(&mut out))))
    }

    /// The canonical JSON text.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// From text that this type made, as the store keeps it.
    pub const fn from_canonical(text: Secret<String>) -> Self {
        Self(text)
    }

    /// `{"value": text}`.
    fn wrapping(member: &str, text: &str) -> Self {
        let mut out = String::with_capacity(text.len() + member.len() + 16);
        out.push_str("{\"");
        out.push_str(member);
        out.push_str("\":");
        let quoted = Zeroizing::new(serde_json::Value::from(text).to_string());
        out.push_str(&quoted);
        out.push('}');
        Self(Secret::new(out))
    }
}

impl RemoteValue {
    /// The `data` that this value becomes. Only a whole JSON object is unfolded; one that repeats a name or
    /// is nested too deeply stays text.
    pub fn unfold(&self) -> (SecretData, Unfolded) {
        match self {
            Self::Object(text) | Self::Text(text) => match SecretData::parse(text.expose()) {
                Ok(data) => (data, Unfolded::Json),
                Err(InvalidData) => (SecretData::wrapping("value", text.expose()), Unfolded::Wrapped),
            },
            Self::Binary(bytes) => {
                let text = Zeroizing::new(STANDARD.encode(bytes.expose()));
                (SecretData::wrapping("value_base64", &text), Unfolded::Wrapped)
            }
        }
    }

    /// Bytes of the value.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) | Self::Object(text) => text.expose().len(),
            Self::Binary(bytes) => bytes.expose().len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Object,
    Other,
}

/// Writes the value it reads in canonical form: no tree of the value is ever built outside `Zeroizing`.
struct Canonical<'a> {
    out: &'a mut String,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Canonical<'_> {
    type Value = Kind;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Kind, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Canonical<'_> {
    fn push(self, value: &serde_json::Value) -> Kind {
        let text = Zeroizing::new(value.to_string());
        self.out.push_str(&text);
        Kind::Other
    }
}

impl<'de> Visitor<'de> for Canonical<'_> {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Kind, E> {
        Ok(self.push(&value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Kind, E> {
        Ok(self.push(&value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Kind, E> {
        Ok(self.push(&value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Kind, E> {
        Ok(self.push(&value.into()))
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        self.out.push_str("null");
        Ok(Kind::Other)
    }

    fn visit_str<E>(self, value: &str) -> Result<Kind, E> {
        let text = Zeroizing::new(serde_json::Value::from(value).to_string());
        self.out.push_str(&text);
        Ok(Kind::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Kind, A::Error> {
        let depth = self.deeper().ok_or_else(|| A::Error::custom("too deep"))?;
        self.out.push('[');
        let begin = self.out.len();
        loop {
            let separator = self.out.len();
            if separator > begin {
                self.out.push(',');
            }
            if items.next_element_seed(Canonical { out: &mut *self.out, depth })?.is_none() {
                self.out.truncate(separator);
                break;
            }
        }
        self.out.push(']');
        Ok(Kind::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Kind, A::Error> {
        let depth = self.deeper().ok_or_else(|| A::Error::custom("too deep"))?;
        let mut sorted: std::collections::BTreeMap<String, Zeroizing<String>> =
            std::collections::BTreeMap::new();
        while let Some(name) = members.next_key::<String>()? {
            let mut value = Zeroizing::new(String::new());
            members.next_value_seed(Canonical { out: &mut value, depth })?;
            if sorted.insert(name, value).is_some() {
                return Err(A::Error::custom("repeated name"));
            }
        }
        self.out.push('{');
        for (place, (name, value)) in sorted.into_iter().enumerate() {
            if place > 0 {
                self.out.push(',');
            }
            self.out.push_str(&serde_json::Value::from(name).to_string());
            self.out.push(':');
            self.out.push_str(&value);
        }
        self.out.push('}');
        Ok(Kind::Object)
    }
}

impl Canonical<'_> {
    const fn deeper(&self) -> Option<usize> {
        if self.depth < limits::VALUE_DEPTH_MAX { Some(self.depth + 1) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unfold(text: &str) -> (String, Unfolded) {
        let (data, unfolded) = RemoteValue::Text(Secret::new(text.to_owned())).unfold();
        (data.expose().to_owned(), unfolded)
    }

    #[test]
    fn only_a_whole_json_object_is_unfolded() {
        assert_eq!(
            unfold(r#"{"b": 1, "a": [true, null]}"#),
            (r#"{"a":[true,null],"b":1}"#.into(), Unfolded::Json)
        );
        for text in ["[1]", "7", "\"x\"", "plain", r#"{"a":1}{"#, r#"{"a":1,"a":2}"#, "{", ""] {
            let wrapped = serde_json::json!({ "value": text }).to_string();
            assert_eq!(unfold(text), (wrapped, Unfolded::Wrapped), "{text}");
        }
    }

    #[test]
    fn value_nested_too_deeply_stays_text() {
        let nested = |depth: usize| format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));

        assert_eq!(unfold(&nested(32)).1, Unfolded::Json);
        assert_eq!(unfold(&nested(33)).1, Unfolded::Wrapped);
        assert_eq!(unfold(&nested(100_000)).1, Unfolded::Wrapped);
    }

    #[test]
    fn bytes_become_base64_whatever_they_hold() {
        let (data, unfolded) = RemoteValue::Binary(Secret::new(vec![0xff, 0x00])).unfold();
        assert_eq!((data.expose(), unfolded), (r#"{"value_base64":"/wA="}"#, Unfolded::Wrapped));

        let (data, unfolded) = RemoteValue::Binary(Secret::new(b"{}".to_vec())).unfold();
        assert_eq!((data.expose(), unfolded), (r#"{"value_base64":"e30="}"#, Unfolded::Wrapped));
    }

    #[test]
    fn equal_values_have_one_text() {
        let one = SecretData::parse(r#"{"x":{"b":2,"a":1},"y":1.5}"#).unwrap();
        let other = SecretData::parse("{ \"y\":1.5 ,\"x\":{\"a\":1,\"b\":2}}").unwrap();

        assert!(one == other);
        assert_eq!(format!("{one:?}"), "[redacted]");
    }
}
