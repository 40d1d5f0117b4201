//! Operator tokens of our own issuer: JWTs signed with the node's identity key.
//!
//! The issuer's name carries the key's fingerprint, so a token of one node is nothing at another. The
//! algorithm is fixed: a token that names another one is refused before its signature is looked at.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hansa_model::limits::token as limits;
use hansa_model::scope::{Operator, Scope};
use hansa_model::secret::{TokenHash, token_hash};
use hansa_model::{Secret, SiteId, Timestamp};
use hansa_transport::IdentityKey;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::error::OperatorAuthenticationError;
use crate::view::TokenRequest;

/// Who the tokens are for; a token of the same key for another purpose does not fit.
const AUDIENCE: &str = "hansa";

/// The claims of an operator token (architecture 11).
#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    /// Space-separated.
    scope: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sites: Option<Vec<SiteId>>,
    iat: i64,
    nbf: i64,
    exp: i64,
}

/// An operator, and the instants from and until which the token speaks for them.
type Verified = (Arc<Operator>, Timestamp, Timestamp);

/// Makes and checks operator tokens. A signature is checked once and then remembered until the token ends.
pub(crate) struct Operators {
    issuer: String,
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
    verified: Mutex<HashMap<TokenHash, Verified>>,
}

impl std::fmt::Debug for Operators {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Operators({})", self.issuer)
    }
}

impl Operators {
    pub(crate) fn new(identity: &IdentityKey) -> Self {
        let public = identity.public();
        let issuer = format!("hansa:{}", public.fingerprint());
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[&issuer]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
        // Times are judged by the node's own clock, below.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        Self {
            issuer,
            encoding: EncodingKey::from_ed_der(identity.to_pkcs8().expose()),
            decoding: DecodingKey::from_ed_der(public.as_bytes()),
            validation,
            verified: Mutex::new(HashMap::new()),
        }
    }

    /// Makes a token. Its life is cut to `limits::token::TTL_MAX`.
    pub(crate) fn mint(&self, now: Timestamp, request: &TokenRequest) -> Option<Secret<String>> {
        let scopes: Vec<&str> = request.scopes.iter().map(|scope| scope.as_str()).collect();
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: AUDIENCE.to_owned(),
            sub: request.userid.clone(),
            scope: scopes.join(" "),
            sites: request.sites.as_ref().map(|sites| sites.iter().copied().collect()),
            iat: now.as_secs(),
            nbf: now.as_secs(),
            exp: now.after(request.ttl.min(limits::TTL_MAX)).as_secs(),
        };
        jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &self.encoding).ok().map(Secret::new)
    }

    /// Checks a token.
    ///
    /// # Errors
    /// It is not ours, changed, or out of its time.
    pub(crate) fn authenticate(
        &self,
        now: Timestamp,
        token: &str,
    ) -> Result<Arc<Operator>, OperatorAuthenticationError> {
        if token.is_empty() {
            return Err(OperatorAuthenticationError::Missing);
        }
        if token.len() > limits::BEARER_BYTES_MAX {
            return Err(OperatorAuthenticationError::Invalid);
        }
        let hash = token_hash(token);
        let remembered = self.lock().get(&hash).cloned();
        let (operator, not_before, expires) = match remembered {
            Some(verified) => verified,
            None => self.verify(token)?,
        };
        if expires.after(limits::LEEWAY) < now {
            self.lock().remove(&hash);
            return Err(OperatorAuthenticationError::Expired);
        }
        if not_before.before(limits::LEEWAY) > now {
            return Err(OperatorAuthenticationError::Invalid);
        }
        let mut verified = self.lock();
        if verified.len() >= limits::VERIFIED_MAX {
            // Rare, and the next use of each token verifies it again.
            verified.clear();
        }
        verified.insert(hash, (Arc::clone(&operator), not_before, expires));
        Ok(operator)
    }

    fn verify(&self, token: &str) -> Result<Verified, OperatorAuthenticationError> {
        let invalid = |_| OperatorAuthenticationError::Invalid;
        let claims =
            jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation).map_err(invalid)?.claims;
        let scopes = claims
            .scope
            .split_ascii_whitespace()
            .map(str::parse::<Scope>)
            .collect::<Result<BTreeSet<_>, _>>()
            .map_err(|_| OperatorAuthenticationError::Invalid)?;
        let operator = Operator {
            userid: claims.sub,
            scopes,
            sites: claims.sites.map(|sites| sites.into_iter().collect()),
        };
        Ok((Arc::new(operator), Timestamp::from_secs(claims.nbf), Timestamp::from_secs(claims.exp)))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TokenHash, Verified>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever may open the 0600 socket in the data folder owns the node.
pub(crate) fn local_operator() -> Operator {
    Operator { userid: "local".to_owned(), scopes: Scope::ALL.into_iter().collect(), sites: None }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_795_000_000);

    fn operators(seed: u8) -> Operators {
        Operators::new(&IdentityKey::from_seed(&Secret::new([seed; 32])))
    }

    fn request() -> TokenRequest {
        TokenRequest {
            userid: "ada".to_owned(),
            scopes: [Scope::HostsRead, Scope::SitesRead].into_iter().collect(),
            sites: None,
            ttl: Duration::from_secs(60),
        }
    }

    #[test]
    fn minted_token_authenticates_with_its_scopes() {
        let operators = operators(1);
        let token = operators.mint(NOW, &request()).unwrap();

        let operator = operators.authenticate(NOW, token.expose()).unwrap();

        assert_eq!(operator.userid, "ada");
        assert!(operator.may(Scope::HostsRead) && !operator.may(Scope::Admin));
    }

    #[test]
    fn token_of_another_node_is_nothing_here() {
        let token = operators(1).mint(NOW, &request()).unwrap();

        assert_eq!(operators(2).authenticate(NOW, token.expose()), Err(OperatorAuthenticationError::Invalid));
    }

    #[test]
    fn token_ends_a_leeway_after_its_time_even_when_remembered() {
        let operators = operators(1);
        let token = operators.mint(NOW, &request()).unwrap();
        operators.authenticate(NOW, token.expose()).unwrap();

        let late = NOW.after(Duration::from_secs(121));

        assert_eq!(operators.authenticate(late, token.expose()), Err(OperatorAuthenticationError::Expired));
    }

    #[test]
    fn other_algorithms_are_refused() {
        use base64::Engine as _;
        let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let token = operators(1).mint(NOW, &request()).unwrap();
        let (_, rest) = token.expose().split_once('.').unwrap();
        for header in [r#"{"alg":"none"}"#, r#"{"alg":"HS256"}"#, r#"{"alg":"RS256"}"#] {
            let forged = format!("{}.{rest}", engine.encode(header));

            let answer = operators(1).authenticate(NOW, &forged);

            assert_eq!(answer, Err(OperatorAuthenticationError::Invalid), "{header}");
        }
    }
}
