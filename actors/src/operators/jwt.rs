//! What is read of a token around its signature: header, issuer, and claims whose names nobody knows before.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hansa_model::Timestamp;
use hansa_model::limits::issuer as limits;
use hansa_model::secrets::id::TenantId;
use hansa_model::secrets::tenant::{Tenancy, TenantRole};
use jsonwebtoken::{Algorithm, Validation};
use serde::de::{self, IgnoredAny};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::error::OperatorAuthenticationError;

/// Rules for one algorithm. Times are judged by the node's own clock, elsewhere.
pub(super) fn validation(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.required_spec_claims.clear();
    validation
}

/// What a token says before anybody has looked at its signature: enough to choose who judges it.
pub(super) struct Head {
    algorithm: String,
    /// Which of its issuer's keys signed it.
    pub(super) kid: Option<String>,
    /// Who made it.
    pub(super) issuer: Option<String>,
}

#[derive(Deserialize)]
struct RawHead {
    alg: String,
    typ: Option<String>,
    kid: Option<String>,
    crit: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct RawIssuer {
    iss: Option<String>,
}

impl Head {
    /// Reads a token's header and issuer.
    ///
    /// # Errors
    /// It is no token, one of another type, or one with extensions that must be understood.
    pub(super) fn of(token: &str) -> Result<Self, OperatorAuthenticationError> {
        let mut parts = token.split('.');
        let (Some(head), Some(claims), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(OperatorAuthenticationError::Invalid);
        };
        let head: RawHead = decode(head)?;
        let RawIssuer { iss } = decode(claims)?;
        let typ = head.typ.as_deref().unwrap_or("JWT");
        let is_access =
            ["JWT", "at+jwt", "application/at+jwt"].iter().any(|known| typ.eq_ignore_ascii_case(known));
        let kid_fits = head.kid.as_ref().is_none_or(|kid| kid.len() <= limits::KID_BYTES_MAX);
        if !is_access || head.crit.is_some() || !kid_fits {
            return Err(OperatorAuthenticationError::Invalid);
        }
        Ok(Self { algorithm: head.alg, kid: head.kid, issuer: iss })
    }

    /// Refuses every algorithm but this one.
    pub(super) fn require(&self, algorithm: Algorithm) -> Result<(), OperatorAuthenticationError> {
        let names = self.algorithm.parse::<Algorithm>();
        if names.is_ok_and(|named| named == algorithm) {
            Ok(())
        } else {
            Err(OperatorAuthenticationError::Invalid)
        }
    }

    /// The algorithm that the token names.
    pub(super) fn algorithm(&self) -> &str {
        &self.algorithm
    }
}

fn decode<T: de::DeserializeOwned>(part: &str) -> Result<T, OperatorAuthenticationError> {
    let invalid = OperatorAuthenticationError::Invalid;
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| invalid)?;
    serde_json::from_slice(&bytes).map_err(|_| invalid)
}

/// Claims by name, each at most once: two readers must not see two values.
#[derive(Debug)]
pub(super) struct Claims(BTreeMap<String, Value>);

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ClaimsVisitor;

        impl<'de> de::Visitor<'de> for ClaimsVisitor {
            type Value = Claims;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of claims")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Claims, A::Error> {
                let mut claims = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if claims.insert(name, value).is_some() {
                        return Err(de::Error::custom("a claim stands twice"));
                    }
                }
                Ok(Claims(claims))
            }
        }

        deserializer.deserialize_map(ClaimsVisitor)
    }
}

impl Claims {
    /// An instant in Unix seconds, whole or not.
    ///
    /// # Errors
    /// The claim is there and is none.
    pub(super) fn instant(&self, name: &str) -> Result<Option<Timestamp>, OperatorAuthenticationError> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        let seconds = value.as_f64().filter(|seconds| (0.0..1e12).contains(seconds));
        let seconds = seconds.ok_or(OperatorAuthenticationError::Invalid)?;
        #[expect(clippy::cast_possible_truncation, reason = "below 10^18, which an i64 holds")]
        Ok(Some(Timestamp::from_micros((seconds * 1e6) as i64)))
    }

    /// What the token says of tenants (contract of the secret federation API, A.2).
    ///
    /// # Errors
    /// A claim is there and is not what it must be: guessing would mix tenants up.
    pub(super) fn tenancy(&self) -> Result<Tenancy, OperatorAuthenticationError> {
        let invalid = OperatorAuthenticationError::Invalid;
        let text = |name: &str| match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(invalid),
        };
        let tenant = text("tenant_id")?.map(str::parse::<TenantId>).transpose().map_err(|_| invalid)?;
        let partner = text("partner_id")?.map(str::parse::<TenantId>).transpose().map_err(|_| invalid)?;
        let role = match self.0.get("role") {
            Some(Value::String(role)) => TenantRole::parse(role),
            // Other issuers mean other things by it.
            Some(_) | None => None,
        };
        Ok(Tenancy { tenant, partner: partner.map(|partner| partner.to_string()), role })
    }

    /// A name for the audit log.
    ///
    /// # Errors
    /// It is missing, too long, or not printable.
    pub(super) fn userid(&self, name: &str) -> Result<String, OperatorAuthenticationError> {
        let text = match self.0.get(name) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => String::new(),
        };
        let fits = (1..=limits::USERID_BYTES_MAX).contains(&text.len());
        if fits && !text.chars().any(char::is_control) {
            Ok(text)
        } else {
            Err(OperatorAuthenticationError::Invalid)
        }
    }

    /// The words of a claim that is a text of words or a list of texts; dots in its name lead into objects. None
    /// when there is no such claim.
    pub(super) fn words(&self, path: &str) -> Option<Vec<&str>> {
        // A claim may have dots in its own name, as URLs do.
        let found = self.0.get(path).or_else(|| {
            let mut steps = path.split('.');
            let first = self.0.get(steps.next()?)?;
            steps.try_fold(first, |value, step| value.get(step))
        });
        match found? {
            Value::String(text) => Some(text.split_ascii_whitespace().collect()),
            Value::Array(values) => Some(values.iter().filter_map(Value::as_str).collect()),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(text: &str) -> Claims {
        serde_json::from_str(text).unwrap()
    }

    fn token(head: &str, claims: &str) -> String {
        format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode(head), URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn claim_that_stands_twice_is_refused() {
        assert!(serde_json::from_str::<Claims>(r#"{"scope":"a","scope":"b"}"#).is_err());
        assert!(Head::of(&token(r#"{"alg":"RS256"}"#, r#"{"iss":"a","iss":"b"}"#)).is_err());
        assert!(Head::of(&token(r#"{"alg":"RS256","alg":"none"}"#, "{}")).is_err());
    }

    #[test]
    fn words_are_found_in_texts_lists_and_objects() {
        let claims = claims(
            r#"{"scope":"a b","groups":["x y","z",3],"realm_access":{"roles":["r"]},"https://a.b/roles":["u"]}"#,
        );
        let words = |name| claims.words(name);

        assert_eq!(words("scope"), Some(vec!["a", "b"]));
        assert_eq!(words("groups"), Some(vec!["x y", "z"]));
        assert_eq!(words("realm_access.roles"), Some(vec!["r"]));
        assert_eq!(words("https://a.b/roles"), Some(vec!["u"]));
        assert_eq!(words("missing.too"), None);
        assert_eq!(words("realm_access"), None);
    }

    #[test]
    fn token_of_another_type_or_with_extensions_is_refused() {
        assert!(Head::of(&token(r#"{"alg":"RS256","typ":"at+jwt"}"#, r#"{"iss":"a"}"#)).is_ok());
        for head in [
            r#"{"alg":"RS256","typ":"logout+jwt"}"#,
            r#"{"alg":"RS256","crit":["b64"],"b64":false}"#,
            r#"{"typ":"JWT"}"#,
        ] {
            assert!(Head::of(&token(head, "{}")).is_err(), "{head}");
        }
    }

    #[test]
    fn instants_may_have_fractions_and_names_may_not_have_control_characters() {
        let claims = claims(r#"{"expires":1795000000.5,"bad":"soon","user_id":"a\nb","id":7}"#);

        assert_eq!(claims.instant("expires").unwrap(), Some(Timestamp::from_micros(1_795_000_000_500_000)));
        assert!(claims.instant("bad").is_err());
        assert_eq!(claims.instant("none").unwrap(), None);
        assert!(claims.userid("user_id").is_err());
        assert_eq!(claims.userid("id").unwrap(), "7");
    }
}
