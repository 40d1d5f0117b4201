//! Who an operator is: tokens of this node, of a shared secret, of other issuers; API keys; logins.
//!
//! A token's issuer is what its `iss` says, and the issuer fixes the algorithm: a token that names another
//! one is refused before its signature is looked at. Our own issuer's name carries the identity key's
//! fingerprint, so a token of one node is nothing at another. An issuer that does not answer keeps nobody
//! else's tokens waiting.

mod foreign;
mod jwt;
pub(crate) mod local;
mod password;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hansa_model::access::Grant;
use hansa_model::limits::{access, issuer, token as limits};
use hansa_model::machine::throttle::Throttle;
use hansa_model::scope::{Operator, Scope};
use hansa_model::secret::{TokenHash, hex, token_hash};
use hansa_model::secrets::id::TenantId;
use hansa_model::secrets::tenant::{Tenancy, TenantRole};
use hansa_model::{Entropy, Secret, SiteId, Timestamp};
use hansa_transport::IdentityKey;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use self::foreign::Foreign;
use self::jwt::{Claims, Head};
pub use self::local::{ApiKeyView, LoggedIn, NewApiKey, NewUser, UserPatch, UserView};
use crate::context::Context;
use crate::error::OperatorAuthenticationError;
use crate::view::TokenRequest;

/// Who the tokens are for; a token of the same key for another purpose does not fit.
const AUDIENCE: &str = "hansa";

/// Issuers of operator tokens beside the node itself.
#[derive(Debug, Clone, Default)]
pub struct OperatorsConfig {
    /// Tokens without an issuer, signed with a shared secret (contract A.4).
    pub shared: Option<SharedSecret>,
    /// Issuers with keys of their own. At most [`issuer::ISSUERS_MAX`].
    pub issuers: Vec<IssuerConfig>,
}

/// Tokens of the SysManage kind: HS256, claims `user_id` and `expires`, no `iss`.
#[derive(Debug, Clone)]
pub struct SharedSecret {
    /// The key; at least [`issuer::SHARED_SECRET_BYTES_MIN`] bytes.
    pub secret: Secret<Vec<u8>>,
    /// What each of these tokens may do.
    pub grant: Grant,
}

/// An OpenID Connect issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerConfig {
    /// Its name, exactly as `iss` spells it.
    pub issuer: String,
    /// What `aud` must hold.
    pub audience: String,
    /// Where its keys are; none asks its discovery document.
    pub jwks_url: Option<String>,
    /// The claim that names the user.
    pub userid_claim: String,
    /// The claim with what the user is: a text of words or a list; dots lead into objects.
    pub scope_claim: String,
    /// What it may sign with.
    pub algorithms: BTreeSet<IssuerAlgorithm>,
    /// What a value of the claim gives.
    pub grants: Vec<(String, Grant)>,
    /// Scopes that the claim gives by naming them; all others it gives by a grant or not at all.
    pub named_scopes: BTreeSet<Scope>,
    /// The tenants that its tokens speak for, and nobody beyond: each must name one of them. None does not confine.
    pub tenants: Option<BTreeSet<TenantId>>,
}

/// The algorithms that other issuers may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum IssuerAlgorithm {
    /// RSA, PKCS #1 v1.5, SHA-256.
    Rs256,
    /// ECDSA on P-256, SHA-256.
    Es256,
}

/// The claims of a token of our own (architecture 11).
#[derive(Serialize, Deserialize)]
struct OwnClaims {
    iss: String,
    aud: String,
    sub: String,
    /// Space-separated.
    scope: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sites: Option<Vec<SiteId>>,
    /// Absent is the default tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tenant_id: Option<TenantId>,
    /// The login that it came from, by the hexadecimal key of its record: it ends with that login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sid: Option<String>,
    iat: i64,
    nbf: i64,
    exp: i64,
}

/// What a token's signature vouches for.
#[derive(Debug, Clone)]
struct Verified {
    operator: Arc<Operator>,
    not_before: Timestamp,
    expires: Timestamp,
    /// Until when the signature need not be checked again.
    remembered_until: Timestamp,
    /// The login that must still hold.
    login: Option<TokenHash>,
}

/// Judges operators' credentials, and makes tokens. A signature is checked once and then remembered.
pub(crate) struct Operators {
    issuer: String,
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
    shared: Option<(DecodingKey, Grant)>,
    foreign: Vec<Foreign>,
    verified: Mutex<HashMap<TokenHash, Verified>>,
    throttle: Mutex<Throttle>,
    /// Keys the slots of the throttle, so that nobody can choose whose slot to fill.
    slot_key: [u8; 32],
    hashing: Semaphore,
}

impl std::fmt::Debug for Operators {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Operators({})", self.issuer)
    }
}

impl Operators {
    pub(crate) fn new(identity: &IdentityKey, config: &OperatorsConfig, entropy: &dyn Entropy) -> Self {
        let public = identity.public();
        let own = format!("hansa:{}", public.fingerprint());
        let mut validation = jwt::validation(Algorithm::EdDSA);
        validation.set_issuer(&[&own]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
        let shared = config.shared.as_ref();
        Self {
            issuer: own,
            encoding: EncodingKey::from_ed_der(identity.to_pkcs8().expose()),
            decoding: DecodingKey::from_ed_der(public.as_bytes()),
            validation,
            shared: shared
                .map(|shared| (DecodingKey::from_secret(shared.secret.expose()), shared.grant.clone())),
            foreign: config.issuers.iter().take(issuer::ISSUERS_MAX).cloned().map(Foreign::new).collect(),
            verified: Mutex::new(HashMap::new()),
            throttle: Mutex::default(),
            slot_key: entropy.bytes::<32>(),
            hashing: Semaphore::new(access::HASHES_AT_ONCE),
        }
    }

    /// Makes a token. Its life is cut to `limits::token::TTL_MAX`.
    pub(crate) fn mint(&self, now: Timestamp, request: &TokenRequest) -> Option<Secret<String>> {
        self.sign(now, request, None)
    }

    fn sign(
        &self,
        now: Timestamp,
        request: &TokenRequest,
        login: Option<&TokenHash>,
    ) -> Option<Secret<String>> {
        let scopes: Vec<&str> = request.scopes.iter().map(|scope| scope.as_str()).collect();
        let claims = OwnClaims {
            iss: self.issuer.clone(),
            aud: AUDIENCE.to_owned(),
            sub: request.userid.clone(),
            scope: scopes.join(" "),
            sites: request.sites.as_ref().map(|sites| sites.iter().copied().collect()),
            tenant_id: request.tenant.clone(),
            sid: login.map(|key| hex(key)),
            iat: now.as_secs(),
            nbf: now.as_secs(),
            exp: now.after(request.ttl.min(limits::TTL_MAX)).as_secs(),
        };
        jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &self.encoding).ok().map(Secret::new)
    }

    /// Judges what an operator sent as a bearer: an API key or a token.
    ///
    /// # Errors
    /// See [`OperatorAuthenticationError`].
    pub(crate) async fn authenticate(
        &self,
        context: &Context,
        bearer: &str,
    ) -> Result<Arc<Operator>, OperatorAuthenticationError> {
        if bearer.is_empty() {
            return Err(OperatorAuthenticationError::Missing);
        }
        if bearer.len() > limits::BEARER_BYTES_MAX {
            return Err(OperatorAuthenticationError::Invalid);
        }
        if bearer.starts_with(local::KEY_PREFIX) {
            return local::authenticate_key(context, bearer).await;
        }
        let now = context.now();
        let hash = token_hash(bearer);
        let remembered = self.lock().get(&hash).filter(|verified| verified.remembered_until >= now).cloned();
        let verified = match remembered {
            Some(verified) => verified,
            None => self.verify(context, bearer).await?,
        };
        if verified.expires.after(limits::LEEWAY) < now {
            self.lock().remove(&hash);
            return Err(OperatorAuthenticationError::Expired);
        }
        if verified.not_before.before(limits::LEEWAY) > now {
            return Err(OperatorAuthenticationError::Invalid);
        }
        if let Some(login) = &verified.login {
            local::require_login(context, login)?;
        }
        let operator = Arc::clone(&verified.operator);
        self.remember(hash, verified);
        Ok(operator)
    }

    fn remember(&self, hash: TokenHash, token: Verified) {
        let mut verified = self.lock();
        if verified.len() >= limits::VERIFIED_MAX {
            // Rare, and the next use of each token verifies it again.
            verified.clear();
        }
        verified.insert(hash, token);
    }

    async fn verify(&self, context: &Context, token: &str) -> Result<Verified, OperatorAuthenticationError> {
        let head = Head::of(token)?;
        match &head.issuer {
            Some(name) if *name == self.issuer => self.verify_own(&head, token),
            Some(name) => {
                let foreign = self.foreign.iter().find(|foreign| foreign.is(name));
                foreign.ok_or(OperatorAuthenticationError::Invalid)?.verify(context, &head, token).await
            }
            None => self.verify_shared(&head, token),
        }
    }

    fn verify_own(&self, head: &Head, token: &str) -> Result<Verified, OperatorAuthenticationError> {
        let invalid = OperatorAuthenticationError::Invalid;
        head.require(Algorithm::EdDSA)?;
        let claims = jsonwebtoken::decode::<OwnClaims>(token, &self.decoding, &self.validation)
            .map_err(|_| invalid)?
            .claims;
        let scopes = claims
            .scope
            .split_ascii_whitespace()
            .map(str::parse::<Scope>)
            .collect::<Result<BTreeSet<_>, _>>()
            .map_err(|_| invalid)?;
        let login = claims.sid.map(|text| local::parse_login_key(&text).ok_or(invalid)).transpose()?;
        let operator = Operator {
            userid: claims.sub,
            scopes,
            sites: claims.sites.map(|sites| sites.into_iter().collect()),
            tenancy: Tenancy { tenant: claims.tenant_id, ..Tenancy::default() },
        };
        let expires = Timestamp::from_secs(claims.exp);
        Ok(Verified {
            operator: Arc::new(operator),
            not_before: Timestamp::from_secs(claims.nbf),
            expires,
            remembered_until: expires.after(limits::LEEWAY),
            login,
        })
    }

    fn verify_shared(&self, head: &Head, token: &str) -> Result<Verified, OperatorAuthenticationError> {
        let invalid = OperatorAuthenticationError::Invalid;
        let (key, grant) = self.shared.as_ref().ok_or(invalid)?;
        head.require(Algorithm::HS256)?;
        let mut validation = jwt::validation(Algorithm::HS256);
        validation.validate_aud = false;
        let claims = jsonwebtoken::decode::<Claims>(token, key, &validation).map_err(|_| invalid)?.claims;
        let expires = claims.instant("expires")?.ok_or(invalid)?;
        let userid = claims.userid("user_id")?;
        Ok(Verified {
            operator: Arc::new(grant.operator(userid)),
            not_before: claims.instant("nbf")?.unwrap_or(Timestamp::EPOCH),
            expires,
            remembered_until: expires.after(limits::LEEWAY),
            login: None,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TokenHash, Verified>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever may open the 0600 socket in the data folder owns the node.
pub(crate) fn local_operator() -> Operator {
    let tenancy = Tenancy { role: Some(TenantRole::SuperAdmin), ..Tenancy::default() };
    Operator { userid: "local".to_owned(), scopes: Scope::ALL.into_iter().collect(), sites: None, tenancy }
}

#[cfg(test)]
#[path = "operators_tests.rs"]
mod tests;
