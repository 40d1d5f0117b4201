//! Local users, their logins, and API keys: rows of the store, changed one at a time.
//!
//! There is no cache: a credential is looked up for each request, so what was taken away is gone with the
//! commit that took it. Whoever changes a user or key must hold all that it gives, before and after
//! (`Grant::within`); what is confined to sites beyond theirs does not exist for them.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use hansa_model::access::{
    self, ApiKey, Grant, InvalidAccess, Login, OperatorRole, PasswordHash, Refresh, User, Userid,
};
use hansa_model::audit::{AuditDraft, Detail};
use hansa_model::limits::access as limits;
use hansa_model::scope::{Operator, Scope};
use hansa_model::secret::{TokenHash, generate_token, hex, token_hash};
use hansa_model::{ApiKeyId, Secret, SiteId, Timestamp};
use hansa_storage::{Batch, CommitError, Lane, Order, ReadView, table};

use super::{Operators, password};
use crate::context::Context;
use crate::error::{AccessError, LoginError, OperatorAuthenticationError, RefreshError, Unavailable};
use crate::view::TokenRequest;

/// How an API key begins (contract A.4).
pub(super) const KEY_PREFIX: &str = "smk_";

/// A user, without what is kept of the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserView {
    /// E-mail address.
    pub userid: String,
    /// What they may do.
    pub grant: Grant,
    /// Cannot log in.
    pub disabled: bool,
    /// When the user was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A user to make.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// E-mail address.
    pub userid: String,
    /// At least [`limits::PASSWORD_CHARS_MIN`] characters.
    pub password: Secret<String>,
    /// What they may do.
    pub grant: Grant,
    /// Cannot log in yet.
    pub disabled: bool,
}

/// Changes of a user; none keeps.
#[derive(Debug, Clone, Default)]
pub struct UserPatch {
    /// Another password.
    pub password: Option<Secret<String>>,
    /// Another role, or none.
    pub role: Option<Option<OperatorRole>>,
    /// Other scopes beside the role's.
    pub scopes: Option<BTreeSet<Scope>>,
    /// Other sites, or all.
    pub sites: Option<Option<BTreeSet<SiteId>>>,
    /// Whether they cannot log in.
    pub disabled: Option<bool>,
}

/// An API key, without the key.
pub type ApiKeyView = ApiKey;

/// An API key to make.
#[derive(Debug, Clone)]
pub struct NewApiKey {
    /// Unique.
    pub name: String,
    /// What it may do.
    pub grant: Grant,
    /// When it ends; none means never.
    pub expires_at: Option<Timestamp>,
}

/// What a login or refresh gives.
#[derive(Debug)]
pub struct LoggedIn {
    /// The operator token, good for [`limits::LOGIN_TOKEN_TTL`].
    pub token: Secret<String>,
    /// The refresh token that takes the old one's place; none when another request has just fetched it.
    pub refresh_token: Option<Secret<String>>,
    /// How long the refresh token may lie unused.
    pub idle_max: Duration,
}

impl UserView {
    fn new(userid: String, user: User) -> Self {
        let User { grant, disabled, created_at, updated_at, .. } = user;
        Self { userid, grant, disabled, created_at, updated_at }
    }
}

// Credentials that come with a request.

/// Finds the operator behind an API key, and notes its use now and then.
pub(super) async fn authenticate_key(
    context: &Context,
    key: &str,
) -> Result<Arc<Operator>, OperatorAuthenticationError> {
    let now = context.now();
    let hash = token_hash(key);
    let found = read(context)?.get::<table::ApiKeys>(&hash).map_err(|_| Unavailable::Storage)?;
    let key = found.ok_or(OperatorAuthenticationError::Invalid)?;
    if key.is_expired(now) {
        return Err(OperatorAuthenticationError::Expired);
    }
    let operator = key.grant.operator(format!("api-key:{}", key.name));
    if key.last_used_at.is_none_or(|at| now.since(at) >= limits::LAST_USED_STEP) {
        let used = ApiKey { last_used_at: Some(now), ..key.clone() };
        let mut batch = Batch::new();
        batch.expect::<table::ApiKeys>(&hash, &key).put::<table::ApiKeys>(&hash, &used);
        // A key that was removed meanwhile is not put back; on a full disk the note is not worth a refusal.
        if let Err(error) = context.store.commit(Lane::Ingest, batch).await {
            tracing::debug!(%error, "the use of an API key was not noted");
        }
    }
    Ok(Arc::new(operator))
}

/// The key of a login's record as a token names it.
pub(super) fn parse_login_key(text: &str) -> Option<TokenHash> {
    let mut key = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, index) in key.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&text[index..index + 2], 16).ok()?;
    }
    Some(key)
}

/// Whether the login that a token came from still holds: not logged out, its user neither changed nor gone.
pub(super) fn require_login(context: &Context, key: &TokenHash) -> Result<(), OperatorAuthenticationError> {
    let view = read(context)?;
    let login = view.get::<table::Logins>(key).map_err(|_| Unavailable::Storage)?;
    let login = login.ok_or(OperatorAuthenticationError::Invalid)?;
    let user = view.get::<table::Users>(login.userid.as_str()).map_err(|_| Unavailable::Storage)?;
    if user.is_some_and(|user| login.holds(context.now(), &user)) {
        Ok(())
    } else {
        Err(OperatorAuthenticationError::Invalid)
    }
}

// Logins.
impl Operators {
    /// Logs a user in. Durable on return. As much work for a name that nobody has.
    pub(crate) async fn login(
        &self,
        context: &Context,
        userid: &str,
        password: &str,
    ) -> Result<LoggedIn, LoginError> {
        let named = userid.parse::<Userid>().ok();
        self.admit(context.now(), named.as_ref().map_or(userid, Userid::as_str))?;
        let user = match &named {
            Some(userid) => {
                read(context)?.get::<table::Users>(userid.as_str()).map_err(|_| Unavailable::Storage)?
            }
            None => None,
        };
        let fits = password.len() <= limits::PASSWORD_BYTES_MAX;
        let hashed = if fits { password } else { "" };
        let stored = user.as_ref().map_or_else(password::decoy, |user| user.password.clone());
        let matches = self.hashing(context, || password::verify(&stored, hashed)).await? && fits;
        match (named, user) {
            (Some(userid), Some(user)) if matches && !user.disabled => {
                self.begin_login(context, userid.as_str(), &user).await
            }
            (named, user) => {
                // A name that nobody has may be a password in the wrong field: it is not written down.
                let known = named.filter(|_| user.is_some());
                let reason = match &user {
                    None => "unknown user",
                    Some(user) if user.disabled => "disabled",
                    Some(_) => "wrong password",
                };
                let userid = known.map_or(Detail::Null, |userid| userid.as_str().into());
                let mut batch = Batch::new();
                batch.audit(context.audit_node(
                    "login_failed",
                    None,
                    [("userid", userid), ("reason", reason.into())],
                ));
                context.commit(Lane::Operator, batch).await?;
                Err(LoginError::Refused)
            }
        }
    }

    async fn begin_login(
        &self,
        context: &Context,
        userid: &str,
        user: &User,
    ) -> Result<LoggedIn, LoginError> {
        let now = context.now();
        let [first, second] = [(); 2].map(|()| generate_token(&*context.entropy));
        let key = token_hash(first.expose());
        let login = Login {
            userid: userid.to_owned(),
            stamp: user.stamp,
            current: token_hash(second.expose()),
            previous: None,
            rotated_at: now,
            created_at: now,
        };
        let mut batch = Batch::new();
        batch.expect::<table::Users>(userid, user).put::<table::Logins>(&key, &login);
        sweep(context, &key, &mut batch)?;
        batch.audit(by(context, userid, "user_logged_in", []));
        if !commit_expecting(context, batch).await? {
            return Err(Unavailable::Busy { part: "the list of users" }.into());
        }
        let token = self.login_token(now, userid, &user.grant, &key)?;
        let refresh_token = Some(join(&first, &second));
        Ok(LoggedIn { token, refresh_token, idle_max: limits::LOGIN_IDLE_MAX })
    }

    /// Gives a new token for a refresh token, and another refresh token. Durable on return.
    pub(crate) async fn refresh(&self, context: &Context, token: &str) -> Result<LoggedIn, RefreshError> {
        let (key, first, half) = split(token).ok_or(RefreshError::Ended)?;
        // Of two that come at once, the second finds the first's work and repeats it.
        for _ in 0..2 {
            let now = context.now();
            let view = read(context)?;
            let login = view.get::<table::Logins>(&key).map_err(|_| Unavailable::Storage)?;
            let login = login.ok_or(RefreshError::Ended)?;
            let user = view.get::<table::Users>(login.userid.as_str()).map_err(|_| Unavailable::Storage)?;
            drop(view);
            let user = user.filter(|user| login.holds(now, user)).ok_or(RefreshError::Ended)?;
            let refresh_token = match login.refresh(now, &half) {
                Refresh::Ended => return Err(RefreshError::Ended),
                Refresh::Reused => {
                    end_login(context, &key, &login, "refresh_token_reused").await?;
                    return Err(RefreshError::Ended);
                }
                Refresh::Repeat => None,
                Refresh::Rotate => {
                    let second = generate_token(&*context.entropy);
                    let mut batch = Batch::new();
                    batch
                        .expect::<table::Logins>(&key, &login)
                        .put::<table::Logins>(&key, &login.rotated(now, token_hash(second.expose())));
                    if !commit_expecting(context, batch).await? {
                        continue;
                    }
                    Some(join(&first, &second))
                }
            };
            let token = self.login_token(now, &login.userid, &user.grant, &key)?;
            return Ok(LoggedIn { token, refresh_token, idle_max: limits::LOGIN_IDLE_MAX });
        }
        Err(Unavailable::Busy { part: "the list of logins" }.into())
    }

    fn login_token(
        &self,
        now: Timestamp,
        userid: &str,
        grant: &Grant,
        login: &TokenHash,
    ) -> Result<Secret<String>, Unavailable> {
        let request = TokenRequest {
            userid: userid.to_owned(),
            scopes: grant.effective(),
            sites: grant.sites.clone(),
            tenant: None,
            ttl: limits::LOGIN_TOKEN_TTL,
        };
        self.sign(now, &request, Some(login)).ok_or(Unavailable::Busy { part: "the token issuer" })
    }

    fn admit(&self, now: Timestamp, userid: &str) -> Result<(), LoginError> {
        let digest = token_hash(&format!("{}{userid}", hex(&self.slot_key)));
        let slot = u16::from_be_bytes([digest[0], digest[1]]);
        let mut throttle = self.throttle.lock().unwrap_or_else(PoisonError::into_inner);
        throttle.admit(now, slot).map_err(|retry_after| LoginError::Throttled { retry_after })
    }

    async fn hashing<T>(&self, context: &Context, work: impl FnOnce() -> T) -> Result<T, Unavailable> {
        let _room = self.hashing.acquire().await.map_err(|_| Unavailable::Stopping)?;
        Ok(context.compute.run(work))
    }

    async fn hash(&self, context: &Context, password: &str) -> Result<PasswordHash, AccessError> {
        access::check_password(password)?;
        let hashed = self.hashing(context, || password::hash(password, &*context.entropy)).await?;
        hashed.ok_or_else(|| Unavailable::Busy { part: "the password hash" }.into())
    }
}

/// Ends the login of a refresh token, whichever of its tokens that is. Durable on return.
pub(crate) async fn logout(context: &Context, token: &str) -> Result<(), RefreshError> {
    let (key, _, _) = split(token).ok_or(RefreshError::Ended)?;
    let login = read(context)?.get::<table::Logins>(&key).map_err(|_| Unavailable::Storage)?;
    let login = login.ok_or(RefreshError::Ended)?;
    Ok(end_login(context, &key, &login, "user_logged_out").await?)
}

async fn end_login(
    context: &Context,
    key: &TokenHash,
    login: &Login,
    operation: &str,
) -> Result<(), Unavailable> {
    let mut batch = Batch::new();
    batch.delete::<table::Logins>(key).audit(by(context, &login.userid, operation, []));
    context.commit(Lane::Operator, batch).await.map(drop)
}

/// Clears some ended logins away: those that lie behind a new, random key.
fn sweep(context: &Context, from: &TokenHash, batch: &mut Batch) -> Result<(), Unavailable> {
    let now = context.now();
    let page = read(context)?
        .page::<table::Logins>(*from.., Order::Ascending, limits::LOGINS_SWEPT)
        .map_err(|_| Unavailable::Storage)?;
    for (key, _) in page.into_iter().filter(|(_, login)| login.is_over(now)) {
        batch.delete::<table::Logins>(&key);
    }
    Ok(())
}

/// A refresh token: the half that finds the login, and the half that is replaced with each use.
fn join(first: &Secret<String>, second: &Secret<String>) -> Secret<String> {
    Secret::new(format!("{}.{}", first.expose(), second.expose()))
}

fn split(token: &str) -> Option<(TokenHash, Secret<String>, TokenHash)> {
    let (first, second) = token.split_once('.')?;
    let fits = |half: &str| half.len() <= 64;
    (fits(first) && fits(second))
        .then(|| (token_hash(first), Secret::new(first.to_owned()), token_hash(second)))
}

// Users.

/// The users that the operator may see, in the order of their ids.
pub(crate) fn users(context: &Context, operator: &Operator) -> Result<Vec<UserView>, Unavailable> {
    let users = read(context)?.all::<table::Users>(..).map_err(|_| Unavailable::Storage)?;
    let seen = users.into_iter().filter(|(_, user)| user.grant.is_seen_by(operator));
    Ok(seen.map(|(userid, user)| UserView::new(userid, user)).collect())
}

/// One user.
pub(crate) fn user(context: &Context, operator: &Operator, userid: &str) -> Result<UserView, AccessError> {
    find_user(context, operator, userid).map(|(userid, user)| UserView::new(userid, user))
}

fn find_user(context: &Context, operator: &Operator, userid: &str) -> Result<(String, User), AccessError> {
    let userid: Userid = userid.parse().map_err(|_| AccessError::UserNotFound)?;
    let user = read(context)?.get::<table::Users>(userid.as_str()).map_err(|_| Unavailable::Storage)?;
    match user.filter(|user| user.grant.is_seen_by(operator)) {
        Some(user) => Ok((userid.as_str().to_owned(), user)),
        None => Err(AccessError::UserNotFound),
    }
}

impl Operators {
    pub(crate) async fn add_user(
        &self,
        context: &Context,
        operator: &Operator,
        new: NewUser,
    ) -> Result<UserView, AccessError> {
        let userid: Userid = new.userid.parse()?;
        new.grant.check()?;
        new.grant.within(operator)?;
        let view = read(context)?;
        if view.contains::<table::Users>(userid.as_str()).map_err(|_| Unavailable::Storage)? {
            return Err(AccessError::UserTaken);
        }
        let users = view.all::<table::Users>(..).map_err(|_| Unavailable::Storage)?.len();
        if users >= limits::USERS_MAX {
            return Err(AccessError::TooMany { what: "users", max: limits::USERS_MAX });
        }
        drop(view);
        let now = context.now();
        let user = User {
            password: self.hash(context, new.password.expose()).await?,
            grant: new.grant,
            disabled: new.disabled,
            stamp: context.entropy.bytes::<16>(),
            created_at: now,
            updated_at: now,
        };
        let details = [("userid", userid.as_str().into()), ("disabled", Detail::Bool(user.disabled))];
        let details = details.into_iter().chain(grant_details(&user.grant));
        let mut batch = Batch::new();
        batch
            .expect_absent::<table::Users>(userid.as_str())
            .put::<table::Users>(userid.as_str(), &user)
            .audit(context.audit_node("user_added", Some(operator), details));
        if !commit_expecting(context, batch).await? {
            return Err(AccessError::UserTaken);
        }
        Ok(UserView::new(userid.as_str().to_owned(), user))
    }

    pub(crate) async fn patch_user(
        &self,
        context: &Context,
        operator: &Operator,
        userid: &str,
        patch: UserPatch,
    ) -> Result<UserView, AccessError> {
        let (userid, old) = find_user(context, operator, userid)?;
        old.grant.within(operator)?;
        let mut user = old.clone();
        user.grant.role = patch.role.unwrap_or(user.grant.role);
        user.grant.scopes = patch.scopes.unwrap_or(user.grant.scopes);
        user.grant.sites = patch.sites.unwrap_or(user.grant.sites);
        user.disabled = patch.disabled.unwrap_or(user.disabled);
        user.grant.check()?;
        user.grant.within(operator)?;
        if let Some(password) = &patch.password {
            user.password = self.hash(context, password.expose()).await?;
        }
        if user == old {
            return Ok(UserView::new(userid, old));
        }
        // What was logged in before the change has ended.
        user.stamp = context.entropy.bytes::<16>();
        user.updated_at = context.now();
        let mut details = vec![("userid", Detail::from(userid.as_str()))];
        if patch.password.is_some() {
            details.push(("password_changed", Detail::Bool(true)));
        }
        if user.disabled != old.disabled {
            details.push(("disabled", Detail::Bool(user.disabled)));
        }
        if user.grant != old.grant {
            details.extend(grant_details(&user.grant));
        }
        let mut batch = Batch::new();
        batch
            .expect::<table::Users>(userid.as_str(), &old)
            .put::<table::Users>(userid.as_str(), &user)
            .audit(context.audit_node("user_updated", Some(operator), details));
        if !commit_expecting(context, batch).await? {
            return Err(Unavailable::Busy { part: "the list of users" }.into());
        }
        Ok(UserView::new(userid, user))
    }
}

/// Removes a user; what was logged in has ended. Durable on return.
pub(crate) async fn remove_user(
    context: &Context,
    operator: &Operator,
    userid: &str,
) -> Result<(), AccessError> {
    let (userid, user) = find_user(context, operator, userid)?;
    user.grant.within(operator)?;
    let mut batch = Batch::new();
    batch.expect::<table::Users>(userid.as_str(), &user).delete::<table::Users>(userid.as_str()).audit(
        context.audit_node("user_removed", Some(operator), [("userid", Detail::from(userid.as_str()))]),
    );
    if commit_expecting(context, batch).await? {
        Ok(())
    } else {
        Err(Unavailable::Busy { part: "the list of users" }.into())
    }
}

// API keys.

/// The keys that the operator may see, in the order of their names.
pub(crate) fn api_keys(context: &Context, operator: &Operator) -> Result<Vec<ApiKeyView>, Unavailable> {
    let keys = read(context)?.all::<table::ApiKeys>(..).map_err(|_| Unavailable::Storage)?;
    let mut seen: Vec<ApiKey> =
        keys.into_iter().map(|(_, key)| key).filter(|key| key.grant.is_seen_by(operator)).collect();
    seen.sort_by(|one, two| one.name.cmp(&two.name));
    Ok(seen)
}

/// Makes a key; it is in the answer and nowhere else. Durable on return.
pub(crate) async fn add_api_key(
    context: &Context,
    operator: &Operator,
    new: NewApiKey,
) -> Result<(ApiKeyView, Secret<String>), AccessError> {
    access::check_key_name(&new.name)?;
    new.grant.check()?;
    new.grant.within(operator)?;
    let now = context.now();
    if new.expires_at.is_some_and(|end| end <= now) {
        return Err(InvalidAccess::Expiry.into());
    }
    let view = read(context)?;
    let names = view.all::<table::ApiKeyNames>(..).map_err(|_| Unavailable::Storage)?;
    drop(view);
    if names.iter().any(|(name, _)| *name == new.name) {
        return Err(AccessError::KeyTaken);
    }
    if names.len() >= limits::API_KEYS_MAX {
        return Err(AccessError::TooMany { what: "API keys", max: limits::API_KEYS_MAX });
    }
    let text = Secret::new(format!("{KEY_PREFIX}{}", generate_token(&*context.entropy).expose()));
    let hash = token_hash(text.expose());
    let key = ApiKey {
        id: ApiKeyId::generate(now, &*context.entropy),
        name: new.name,
        grant: new.grant,
        created_at: now,
        created_by: operator.userid.clone(),
        expires_at: new.expires_at,
        last_used_at: None,
    };
    let expires = key.expires_at.map_or(Detail::Null, |end| end.to_string().as_str().into());
    let details = key_details(&key).into_iter().chain([("expires_at", expires)]);
    let details = details.chain(grant_details(&key.grant));
    let mut batch = Batch::new();
    batch
        .expect_absent::<table::ApiKeyNames>(key.name.as_str())
        .put::<table::ApiKeyNames>(key.name.as_str(), &hash)
        .put::<table::ApiKeys>(&hash, &key)
        .audit(context.audit_node("api_key_created", Some(operator), details));
    if !commit_expecting(context, batch).await? {
        return Err(AccessError::KeyTaken);
    }
    Ok((key, text))
}

/// Removes a key; from then on it is unknown. Durable on return.
pub(crate) async fn remove_api_key(
    context: &Context,
    operator: &Operator,
    id: ApiKeyId,
) -> Result<(), AccessError> {
    let keys = read(context)?.all::<table::ApiKeys>(..).map_err(|_| Unavailable::Storage)?;
    let found = keys.into_iter().find(|(_, key)| key.id == id && key.grant.is_seen_by(operator));
    let (hash, key) = found.ok_or(AccessError::KeyNotFound)?;
    key.grant.within(operator)?;
    let mut batch = Batch::new();
    batch
        .delete::<table::ApiKeys>(&hash)
        .delete::<table::ApiKeyNames>(key.name.as_str())
        .audit(context.audit_node("api_key_removed", Some(operator), key_details(&key)));
    context.commit(Lane::Operator, batch).await?;
    Ok(())
}

// What the changes above share.

fn read(context: &Context) -> Result<ReadView, Unavailable> {
    context.store.read().map_err(|_| Unavailable::Storage)
}

/// Commits on the operators' lane; false when another change came first.
async fn commit_expecting(context: &Context, batch: Batch) -> Result<bool, Unavailable> {
    match context.store_batch(Lane::Operator, batch).await {
        Ok(_) => Ok(true),
        Err(CommitError::PreconditionFailed { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// An entry about what a user did with their own login.
fn by<const N: usize>(
    context: &Context,
    userid: &str,
    operation: &str,
    details: [(&'static str, Detail); N],
) -> AuditDraft {
    AuditDraft { actor_userid: Some(userid.to_owned()), ..context.audit_node(operation, None, details) }
}

fn key_details(key: &ApiKey) -> [(&'static str, Detail); 2] {
    [("api_key_id", key.id.to_string().as_str().into()), ("name", key.name.as_str().into())]
}

fn grant_details(grant: &Grant) -> [(&'static str, Detail); 3] {
    let role = grant.role.map_or(Detail::Null, |role| role.as_str().into());
    let scopes = grant.scopes.iter().map(|scope| scope.as_str().into()).collect();
    let sites = grant.sites.as_ref().map_or(Detail::Null, |sites| {
        Detail::List(sites.iter().map(|site| site.to_string().as_str().into()).collect())
    });
    [("role", role), ("scopes", Detail::List(scopes)), ("sites", sites)]
}
