//! Reading the login secret: a JSON object with a few texts in it.

use serde_json::{Map, Value};

use hansa_model::Secret;

use crate::driver::{Login, OpenError};

/// The members of a login secret. It prints nothing.
pub(crate) struct LoginData(Map<String, Value>);

impl LoginData {
    /// Parses it; a missing one is an empty one.
    pub(crate) fn parse(login: Option<&Login>) -> Result<Self, OpenError> {
        let Some(Login(text)) = login else { return Ok(Self(Map::new())) };
        match serde_json::from_str(text.expose()) {
            Ok(members) => Ok(Self(members)),
            Err(_) => Err(OpenError::Login { field: "data", reason: "is not a JSON object" }),
        }
    }

    /// A text that must be there.
    pub(crate) fn text(&self, field: &'static str) -> Result<Secret<String>, OpenError> {
        self.optional(field)?.ok_or(OpenError::Login { field, reason: "is missing" })
    }

    /// A text of visible ASCII characters: it goes into a header or a signature.
    pub(crate) fn optional(&self, field: &'static str) -> Result<Option<Secret<String>>, OpenError> {
        match self.0.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if is_plain(text.trim()) => {
                Ok(Some(Secret::new(text.trim().to_owned())))
            }
            Some(_) => Err(OpenError::Login { field, reason: "is not a text of visible ASCII characters" }),
        }
    }

    /// Whether a member is there.
    pub(crate) fn has(&self, field: &str) -> bool {
        self.0.contains_key(field)
    }

    /// The JSON object at this member, itself or as a text.
    pub(crate) fn object(&self, field: &'static str) -> Result<Self, OpenError> {
        let object = match self.0.get(field) {
            Some(Value::Object(object)) => Some(object.clone()),
            Some(Value::String(text)) => serde_json::from_str(text).ok(),
            Some(_) | None => None,
        };
        object.map(Self).ok_or(OpenError::Login { field, reason: "is not a JSON object" })
    }

    /// Any text, line breaks included.
    pub(crate) fn block(&self, field: &'static str) -> Result<Secret<String>, OpenError> {
        match self.0.get(field) {
            Some(Value::String(text)) => Ok(Secret::new(text.clone())),
            Some(_) | None => Err(OpenError::Login { field, reason: "is missing" }),
        }
    }
}

impl Drop for LoginData {
    fn drop(&mut self) {
        for (_, value) in std::mem::take(&mut self.0) {
            if let Value::String(text) = value {
                drop(Secret::new(text));
            }
        }
    }
}

fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.len() <= 16 * 1024 && text.bytes().all(|byte| byte.is_ascii_graphic())
}
