//! Tokens of another issuer, by the keys that it publishes (JWKS).
//!
//! Keys come through the same HTTP client as peers' answers: addresses are checked, redirects are not
//! followed, sizes and times are bounded. When they are fetched is decided in
//! [`hansa_model::machine::issuer`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use hansa_model::Timestamp;
use hansa_model::access::Grant;
use hansa_model::limits::{issuer as limits, token};
use hansa_model::machine::issuer::{Freshness, Step};
use hansa_model::scope::{Operator, Scope};
use hansa_model::secrets::tenant::Tenancy;
use hansa_transport::http::PeerRequest;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

use super::jwt::{self, Claims, Head};
use super::{IssuerAlgorithm, IssuerConfig, Verified};
use crate::context::Context;
use crate::error::OperatorAuthenticationError;

/// One issuer and what is known of its keys.
pub(super) struct Foreign {
    config: IssuerConfig,
    known: Mutex<Known>,
    /// Held by whoever fetches; the others of this issuer wait.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    freshness: Freshness,
    keys: Arc<Keys>,
}

/// Keys by id; those without one under none.
#[derive(Default)]
struct Keys(BTreeMap<(IssuerAlgorithm, Option<String>), DecodingKey>);

impl Keys {
    /// The key that a token names. One that names none fits if there is just one key.
    fn find(&self, algorithm: IssuerAlgorithm, kid: Option<&str>) -> Option<&DecodingKey> {
        match kid {
            Some(kid) => self.0.get(&(algorithm, Some(kid.to_owned()))),
            None => {
                let mut fitting = self.0.iter().filter(|((of, _), _)| *of == algorithm);
                fitting.next().filter(|_| fitting.next().is_none()).map(|(_, key)| key)
            }
        }
    }
}

/// The claim that names scopes in the contract of the secret federation API.
const SCOPE_CLAIM: &str = "scope";

/// A key as published. What we do not know of it is ignored.
#[derive(Deserialize)]
struct PublishedKey {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    alg: Option<String>,
    n: Option<String>,
    e: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl IssuerAlgorithm {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
        }
    }

    const fn algorithm(self) -> Algorithm {
        match self {
            Self::Rs256 => Algorithm::RS256,
            Self::Es256 => Algorithm::ES256,
        }
    }
}

impl Foreign {
    pub(super) fn new(config: IssuerConfig) -> Self {
        Self { config, known: Mutex::default(), fetching: tokio::sync::Mutex::new(()) }
    }

    /// Whether this is the issuer of that name.
    pub(super) fn is(&self, name: &str) -> bool {
        self.config.issuer == name
    }

    pub(super) async fn verify(
        &self,
        context: &Context,
        head: &Head,
        token: &str,
    ) -> Result<Verified, OperatorAuthenticationError> {
        let invalid = OperatorAuthenticationError::Invalid;
        let allowed = self.config.algorithms.iter().find(|allowed| allowed.as_str() == head.algorithm());
        let algorithm = *allowed.ok_or(invalid)?;
        let keys = self.keys(context, algorithm, head.kid.as_deref()).await?;
        let key = keys.find(algorithm, head.kid.as_deref()).ok_or(invalid)?;
        let mut validation = jwt::validation(algorithm.algorithm());
        validation.set_issuer(&[&self.config.issuer]);
        validation.set_audience(&[&self.config.audience]);
        validation.set_required_spec_claims(&["iss", "aud", "exp"]);
        let claims = jsonwebtoken::decode::<Claims>(token, key, &validation).map_err(|_| invalid)?.claims;
        self.accept(context.now(), &claims)
    }

    /// What the signed claims give.
    fn accept(&self, now: Timestamp, claims: &Claims) -> Result<Verified, OperatorAuthenticationError> {
        let expires = claims.instant("exp")?.ok_or(OperatorAuthenticationError::Invalid)?;
        // With the issuer's name beside it, so that nobody there passes for somebody here.
        let userid = format!("{}#{}", self.config.issuer, claims.userid(&self.config.userid_claim)?);
        let words = match claims.words(&self.config.scope_claim) {
            Some(words) => words,
            // The contract requires it (A.2). Issuers leave out other claims, such as groups, when they are empty.
            None if self.config.scope_claim == SCOPE_CLAIM => {
                return Err(OperatorAuthenticationError::Invalid);
            }
            None => Vec::new(),
        };
        let named = words.iter().filter_map(|word| word.parse::<Scope>().ok());
        let named = named.filter(|scope| self.config.named_scopes.contains(scope));
        let mut grant = Grant { scopes: named.collect(), ..Grant::default() };
        for (_, given) in self.config.grants.iter().filter(|(value, _)| words.contains(&value.as_str())) {
            grant.join(given);
        }
        let operator = Operator { tenancy: self.tenancy(claims)?, ..grant.operator(userid) };
        let remembered_until = now.after(limits::REMEMBERED_MAX).min(expires.after(token::LEEWAY));
        Ok(Verified {
            operator: Arc::new(operator),
            not_before: claims.instant("nbf")?.unwrap_or(Timestamp::EPOCH),
            expires,
            remembered_until,
            login: None,
        })
    }

    /// The tenants that the token speaks for. An issuer that is confined to some tells nothing of others.
    fn tenancy(&self, claims: &Claims) -> Result<Tenancy, OperatorAuthenticationError> {
        let told = claims.tenancy()?;
        let Some(tenants) = &self.config.tenants else { return Ok(told) };
        let own = told.tenant.filter(|tenant| tenants.contains(tenant));
        let own = own.ok_or(OperatorAuthenticationError::Invalid)?;
        // A role or partner would reach beyond the tenant.
        Ok(Tenancy { tenant: Some(own), ..Tenancy::default() })
    }

    /// The issuer's keys, fetched when this token's is not among them or they are old.
    async fn keys(
        &self,
        context: &Context,
        algorithm: IssuerAlgorithm,
        kid: Option<&str>,
    ) -> Result<Arc<Keys>, OperatorAuthenticationError> {
        let (step, keys) = self.step(context.now(), algorithm, kid);
        if step != Step::Fetch {
            return answer(step, keys);
        }
        let _fetching = self.fetching.lock().await;
        let (step, keys) = self.step(context.now(), algorithm, kid);
        if step != Step::Fetch {
            return answer(step, keys);
        }
        let fetched = tokio::time::timeout(limits::FETCH_WAIT_MAX, self.fetch(context)).await;
        let fetched = fetched.unwrap_or(Err("did not answer in time"));
        {
            let mut known = self.lock();
            known.freshness.tried(context.now(), fetched.is_ok());
            match fetched {
                Ok(keys) => known.keys = Arc::new(keys),
                Err(reason) => {
                    tracing::warn!(
                        issuer = self.config.issuer,
                        reason,
                        "the keys of an issuer were not fetched"
                    );
                }
            }
        }
        let (step, keys) = self.step(context.now(), algorithm, kid);
        answer(step, keys)
    }

    fn step(&self, now: Timestamp, algorithm: IssuerAlgorithm, kid: Option<&str>) -> (Step, Arc<Keys>) {
        let known = self.lock();
        let is_known = known.keys.find(algorithm, kid).is_some();
        (known.freshness.step(now, is_known), Arc::clone(&known.keys))
    }

    async fn fetch(&self, context: &Context) -> Result<Keys, &'static str> {
        let url = match &self.config.jwks_url {
            Some(url) => url.clone(),
            None => self.discover(context).await?,
        };
        let document = get(context, url).await?;
        let set: KeySet = serde_json::from_slice(&document).map_err(|_| "its key set is not one")?;
        let mut keys = Keys::default();
        for published in set.keys.into_iter().take(limits::KEYS_MAX) {
            // A key of a kind that we do not know is somebody else's.
            if let Some((algorithm, kid, key)) = read_key(published) {
                keys.0.entry((algorithm, kid)).or_insert(key);
            }
        }
        Ok(keys)
    }

    async fn discover(&self, context: &Context) -> Result<String, &'static str> {
        let issuer = &self.config.issuer;
        let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let document = get(context, url).await?;
        let found: Discovery =
            serde_json::from_slice(&document).map_err(|_| "its discovery document is not one")?;
        if found.issuer != *issuer {
            return Err("its discovery document is another issuer's");
        }
        if issuer.starts_with("https://") && !found.jwks_uri.starts_with("https://") {
            return Err("its discovery document leads away from https");
        }
        Ok(found.jwks_uri)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn answer(step: Step, keys: Arc<Keys>) -> Result<Arc<Keys>, OperatorAuthenticationError> {
    match step {
        Step::Use => Ok(keys),
        Step::Unknown => Err(OperatorAuthenticationError::Invalid),
        // After a try there is no second one: whoever still waits comes again.
        Step::Fetch | Step::Down => Err(OperatorAuthenticationError::IssuerDown),
    }
}

async fn get(context: &Context, url: String) -> Result<Bytes, &'static str> {
    let answered = context.http.call(PeerRequest::get(url)).await.map_err(|error| {
        tracing::debug!(%error, "an issuer was not reached");
        "cannot be reached"
    })?;
    if !answered.is_success() {
        return Err("answers with an error");
    }
    if answered.body.len() > limits::DOCUMENT_BYTES_MAX {
        return Err("answers more than a key set has");
    }
    Ok(answered.body)
}

/// A key for signatures of an algorithm that we take; none for all others.
fn read_key(published: Value) -> Option<(IssuerAlgorithm, Option<String>, DecodingKey)> {
    let key: PublishedKey = serde_json::from_value(published).ok()?;
    let (algorithm, decoding) = match key.kty.as_str() {
        "RSA" => {
            let (n, e) = (key.n?, key.e?);
            let modulus = URL_SAFE_NO_PAD.decode(&n).ok()?;
            let bits = modulus.iter().skip_while(|byte| **byte == 0).count() * 8;
            let decoding = DecodingKey::from_rsa_components(&n, &e).ok()?;
            (IssuerAlgorithm::Rs256, (bits >= limits::RSA_BITS_MIN).then_some(decoding)?)
        }
        "EC" if key.crv.as_deref() == Some("P-256") => {
            (IssuerAlgorithm::Es256, DecodingKey::from_ec_components(&key.x?, &key.y?).ok()?)
        }
        _ => return None,
    };
    let for_signatures = key.usage.as_deref().is_none_or(|usage| usage == "sig");
    let for_this = key.alg.as_deref().is_none_or(|alg| alg == algorithm.as_str());
    let kid_fits = key.kid.as_ref().is_none_or(|kid| kid.len() <= limits::KID_BYTES_MAX);
    (for_signatures && for_this && kid_fits).then_some((algorithm, key.kid, decoding))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_keys_for_signatures_we_take_are_read() {
        let modulus = URL_SAFE_NO_PAD.encode([0xc1; 256]);
        let weak = URL_SAFE_NO_PAD.encode([0xc1; 128]);
        let rsa = |n: &str| json!({"kty": "RSA", "kid": "a", "n": n, "e": "AQAB"});
        let with = |name: &str, value: &str| {
            let mut key = rsa(&modulus);
            key[name] = json!(value);
            key
        };

        assert!(read_key(rsa(&modulus)).is_some());
        assert!(read_key(with("use", "sig")).is_some() && read_key(with("alg", "RS256")).is_some());
        for key in [
            rsa(&weak),
            with("use", "enc"),
            with("alg", "RS512"),
            json!({"kty": "oct", "k": "c2VjcmV0"}),
            json!({"kty": "EC", "crv": "P-384", "x": "AA", "y": "AA"}),
            json!("key"),
        ] {
            assert!(read_key(key.clone()).is_none(), "{key}");
        }
    }
}
