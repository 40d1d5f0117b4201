//! The facade's part about AppRoles: programs that log in to the Vault-speaking surface.
//!
//! Role ids, secret ids and tokens are random; of the latter two only the hash is kept.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use hansa_model::limits::secrets as limits;
use hansa_model::scope::{Operator, Scope};
use hansa_model::secret::{TokenHash, generate_token, hex, token_hash};
use hansa_model::secrets::id::TenantId;
use hansa_model::secrets::vault::{AppRole, AppRoleSecret, VaultToken};
use hansa_model::{Secret, Timestamp};
use hansa_storage::codec::Named;
use hansa_storage::{Batch, CommitError, Lane, ReadError, ReadView, table};

use super::Federation;
use crate::backends::error::TenantError;
use crate::context::Context;
use crate::error::{OperatorAuthenticationError, Unavailable};

/// How tokens of the Vault surface begin, so that they are told from others at once.
pub(crate) const TOKEN_PREFIX: &str = "hvs.";

/// A login of the Vault surface.
#[derive(Debug, Clone)]
pub struct VaultLogin {
    /// For `X-Vault-Token`; in this answer and nowhere else.
    pub token: Secret<String>,
    /// Names the token without being it.
    pub accessor: String,
    /// Who logged in.
    pub role: AppRole,
    /// How long the token lives.
    pub ttl: Duration,
}

/// A secret id of an AppRole, without what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretIdView {
    /// Names it.
    pub accessor: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends; none does not.
    pub expires_at: Option<Timestamp>,
}

/// A login that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VaultLoginError {
    /// The role id or the secret id is not one that is known, or has ended.
    #[error("invalid role or secret ID")]
    Refused,
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why a token of the Vault surface is not renewed or revoked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VaultTokenError {
    /// It is a token of an issuer: it ends when its issuer said.
    #[error("this token is its issuer's: it is neither renewed nor revoked here, log in with a new one")]
    Foreign,
    /// It ended in the meantime, or its AppRole did.
    #[error("the token has ended: log in again")]
    Ended,
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// What a token of the Vault surface says of itself.
#[derive(Debug, Clone)]
pub struct VaultTokenView {
    /// Names it without being it.
    pub accessor: String,
    /// When it was given.
    pub issued_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// Its life when it was given.
    pub ttl: Duration,
}

impl Federation {
    /// The tenant's AppRoles, by name.
    ///
    /// # Errors
    /// The store did not answer.
    pub fn app_roles(&self, tenant: &TenantId) -> Result<Vec<AppRole>, Unavailable> {
        let view = self.tree.context.store.read().map_err(|_| Unavailable::Storage)?;
        // Names are of letters, digits and marks that all sort before DEL.
        let all = view.all::<table::AppRoles>(key(tenant, "")..key(tenant, "\u{7f}"));
        Ok(all.map_err(|_| Unavailable::Storage)?.into_iter().map(|(_, role)| role).collect())
    }

    /// Makes an AppRole. Durable on return. It may do no more than its maker.
    ///
    /// # Errors
    /// See [`TenantError`].
    pub async fn add_app_role(
        &self,
        operator: &Operator,
        tenant: &TenantId,
        name: &str,
        scopes: BTreeSet<Scope>,
        token_ttl: Option<Duration>,
    ) -> Result<AppRole, TenantError> {
        if !scopes.iter().all(|scope| operator.may(*scope)) {
            return Err(TenantError::Denied);
        }
        let context = &self.tree.context;
        let ttl = token_ttl.unwrap_or(limits::VAULT_TOKEN_TTL_DEFAULT).min(limits::VAULT_TOKEN_TTL_MAX);
        let role = AppRole {
            role_id: hex(&context.entropy.bytes::<16>()),
            name: name.to_owned(),
            tenant: tenant.clone(),
            scopes,
            token_ttl_seconds: ttl.as_secs(),
            created_at: context.now(),
            created_by: operator.userid.clone(),
        };
        let mut batch = Batch::new();
        batch
            .expect_absent::<table::AppRoles>(&key(tenant, name))
            .put::<table::AppRoles>(&key(tenant, name), &role)
            .audit(context.audit_node("approle_created", Some(operator), described(&role)));
        match context.store_batch(Lane::Operator, batch).await {
            Ok(_) => Ok(role),
            Err(CommitError::PreconditionFailed { .. }) => Err(TenantError::NameTaken),
            Err(error) => Err(Unavailable::from(error).into()),
        }
    }

    /// Makes a secret id of an AppRole. Durable on return; it is in the answer and nowhere else.
    ///
    /// # Errors
    /// See [`TenantError`].
    pub async fn add_secret_id(
        &self,
        operator: &Operator,
        tenant: &TenantId,
        name: &str,
        ttl: Option<Duration>,
    ) -> Result<(AppRole, SecretIdView, Secret<String>), TenantError> {
        let role = self.app_role(tenant, name)?;
        let context = &self.tree.context;
        let now = context.now();
        let secret = generate_token(&*context.entropy);
        let hash = token_hash(secret.expose());
        let row = AppRoleSecret {
            tenant: tenant.clone(),
            name: role.name.clone(),
            role_id: role.role_id.clone(),
            expires_at: ttl.map(|ttl| now.after(ttl)),
            created_at: now,
        };
        let mut batch = Batch::new();
        batch
            .expect::<table::AppRoles>(&key(tenant, name), &role)
            .put::<table::AppRoleSecrets>(&hash, &row)
            .audit(context.audit_node("approle_secret_created", Some(operator), described(&role)));
        match context.store_batch(Lane::Operator, batch).await {
            Ok(_) => Ok((role, SecretIdView::new(&hash, &row), secret)),
            Err(CommitError::PreconditionFailed { .. }) => Err(TenantError::AppRoleNotFound),
            Err(error) => Err(Unavailable::from(error).into()),
        }
    }

    /// An AppRole's secret ids that have not ended, oldest first.
    ///
    /// # Errors
    /// See [`TenantError`].
    pub fn secret_ids(&self, tenant: &TenantId, name: &str) -> Result<Vec<SecretIdView>, TenantError> {
        let role = self.app_role(tenant, name)?;
        let now = self.now();
        let kept = self.kept_secret_ids(&role)?;
        let living = kept.iter().filter(|(_, row)| row.expires_at.is_none_or(|end| now < end));
        let mut views: Vec<SecretIdView> = living.map(|(hash, row)| SecretIdView::new(hash, row)).collect();
        views.sort_unstable_by(|a, b| (a.created_at, &a.accessor).cmp(&(b.created_at, &b.accessor)));
        Ok(views)
    }

    /// Destroys one of an AppRole's secret ids: nobody logs in with it from then on. Tokens that it gave live on to
    /// their end. Durable on return.
    ///
    /// # Errors
    /// See [`TenantError`].
    pub async fn remove_secret_id(
        &self,
        operator: &Operator,
        tenant: &TenantId,
        name: &str,
        accessor: &str,
    ) -> Result<(), TenantError> {
        let role = self.app_role(tenant, name)?;
        let kept = self.kept_secret_ids(&role)?;
        let named = kept.iter().find(|(hash, _)| AppRoleSecret::accessor(hash) == accessor);
        let (hash, row) = named.ok_or(TenantError::SecretIdNotFound)?;
        let context = &self.tree.context;
        let mut batch = Batch::new();
        let [of, which] = described(&role);
        batch.expect::<table::AppRoleSecrets>(hash, row).delete::<table::AppRoleSecrets>(hash).audit(
            context.audit_node(
                "approle_secret_removed",
                Some(operator),
                [of, which, ("accessor", accessor.into())],
            ),
        );
        match context.store_batch(Lane::Operator, batch).await {
            Ok(_) => Ok(()),
            Err(CommitError::PreconditionFailed { .. }) => Err(TenantError::SecretIdNotFound),
            Err(error) => Err(Unavailable::from(error).into()),
        }
    }

    fn kept_secret_ids(&self, role: &AppRole) -> Result<Vec<(TokenHash, AppRoleSecret)>, Unavailable> {
        let view = self.tree.context.store.read().map_err(|_| Unavailable::Storage)?;
        let mut all = view.all::<table::AppRoleSecrets>(..).map_err(|_| Unavailable::Storage)?;
        all.retain(|(_, row)| row.role_id == role.role_id);
        Ok(all)
    }

    /// Removes an AppRole; its secret ids and tokens are refused from then on. Durable on return.
    ///
    /// # Errors
    /// See [`TenantError`].
    pub async fn remove_app_role(
        &self,
        operator: &Operator,
        tenant: &TenantId,
        name: &str,
    ) -> Result<(), TenantError> {
        let role = self.app_role(tenant, name)?;
        let context = &self.tree.context;
        let view = context.store.read().map_err(|_| Unavailable::Storage)?;
        let secrets = view.all::<table::AppRoleSecrets>(..).map_err(|_| Unavailable::Storage)?;
        let tokens = view.all::<table::VaultTokens>(..).map_err(|_| Unavailable::Storage)?;
        drop(view);
        let mut batch = Batch::new();
        batch
            .expect::<table::AppRoles>(&key(tenant, name), &role)
            .delete::<table::AppRoles>(&key(tenant, name));
        for (hash, _) in secrets.iter().filter(|(_, secret)| secret.role_id == role.role_id) {
            batch.delete::<table::AppRoleSecrets>(hash);
        }
        for (hash, _) in tokens.iter().filter(|(_, token)| token.role_id == role.role_id) {
            batch.delete::<table::VaultTokens>(hash);
        }
        batch.audit(context.audit_node("approle_removed", Some(operator), described(&role)));
        match context.store_batch(Lane::Operator, batch).await {
            Ok(_) => Ok(()),
            Err(CommitError::PreconditionFailed { .. }) => Err(TenantError::AppRoleNotFound),
            Err(error) => Err(Unavailable::from(error).into()),
        }
    }

    fn app_role(&self, tenant: &TenantId, name: &str) -> Result<AppRole, TenantError> {
        let view = self.tree.context.store.read().map_err(|_| Unavailable::Storage)?;
        let role = view.get::<table::AppRoles>(&key(tenant, name)).map_err(|_| Unavailable::Storage)?;
        role.ok_or(TenantError::AppRoleNotFound)
    }

    /// Logs an AppRole in. Durable on return: the token outlives a restart of the node.
    ///
    /// # Errors
    /// See [`VaultLoginError`].
    pub async fn vault_login(
        &self,
        role_id: &str,
        secret_id: &Secret<String>,
    ) -> Result<VaultLogin, VaultLoginError> {
        let context = &self.tree.context;
        let now = context.now();
        let view = context.store.read().map_err(|_| Unavailable::Storage)?;
        let known = view
            .get::<table::AppRoleSecrets>(&token_hash(secret_id.expose()))
            .map_err(|_| Unavailable::Storage)?
            .filter(|known| known.role_id == role_id && known.expires_at.is_none_or(|end| now < end))
            .ok_or(VaultLoginError::Refused)?;
        let role = same_role(&view, &known.tenant, &known.name, &known.role_id);
        let role = role.map_err(|_| Unavailable::Storage)?.ok_or(VaultLoginError::Refused)?;
        drop(view);
        let token = Secret::new(format!("{TOKEN_PREFIX}{}", generate_token(&*context.entropy).expose()));
        let ttl = Duration::from_secs(role.token_ttl_seconds);
        let row = VaultToken {
            tenant: role.tenant.clone(),
            name: role.name.clone(),
            role_id: role.role_id.clone(),
            accessor: hex(&context.entropy.bytes::<12>()),
            issued_at: now,
            expires_at: now.after(ttl),
            ttl_seconds: ttl.as_secs(),
        };
        let operator = role.operator();
        let mut batch = Batch::new();
        batch
            .expect::<table::AppRoles>(&key(&role.tenant, &role.name), &role)
            .put::<table::VaultTokens>(&token_hash(token.expose()), &row)
            .audit(context.audit_node("approle_login", Some(&operator), described(&role)));
        match context.store_batch(Lane::Operator, batch).await {
            Ok(_) => Ok(VaultLogin { token, accessor: row.accessor, role, ttl }),
            Err(CommitError::PreconditionFailed { .. }) => Err(VaultLoginError::Refused),
            Err(error) => Err(Unavailable::from(error).into()),
        }
    }

    /// Gives the presented token more time: as much as asked for, but no more than its AppRole gives at a login,
    /// and not beyond [`limits::VAULT_TOKEN_TTL_MAX`] after that login. Never less than it had. Durable on return.
    ///
    /// # Errors
    /// See [`VaultTokenError`].
    pub async fn renew_vault_token(
        &self,
        operator: &Operator,
        token: &Secret<String>,
        increment: Option<Duration>,
    ) -> Result<VaultTokenView, VaultTokenError> {
        let context = &self.tree.context;
        let (row, role) = self.presented_vault_token(token)?;
        let whole = Duration::from_secs(role.token_ttl_seconds);
        let asked = increment.filter(|asked| !asked.is_zero()).unwrap_or(whole).min(whole);
        let end = context.now().after(asked).min(row.issued_at.after(limits::VAULT_TOKEN_TTL_MAX));
        let renewed = VaultToken { expires_at: end.max(row.expires_at), ..row.clone() };
        let mut batch = Batch::new();
        batch
            .expect::<table::AppRoles>(&key(&role.tenant, &role.name), &role)
            .expect::<table::VaultTokens>(&token_hash(token.expose()), &row)
            .put::<table::VaultTokens>(&token_hash(token.expose()), &renewed)
            .audit(context.audit_node("approle_token_renewed", Some(operator), described(&role)));
        self.commit_vault_token(batch).await?;
        Ok(renewed.into())
    }

    /// Ends the presented token. Durable on return.
    ///
    /// # Errors
    /// See [`VaultTokenError`].
    pub async fn revoke_vault_token(
        &self,
        operator: &Operator,
        token: &Secret<String>,
    ) -> Result<(), VaultTokenError> {
        let context = &self.tree.context;
        let (_, role) = self.presented_vault_token(token)?;
        let mut batch = Batch::new();
        batch.delete::<table::VaultTokens>(&token_hash(token.expose())).audit(context.audit_node(
            "approle_token_revoked",
            Some(operator),
            described(&role),
        ));
        self.commit_vault_token(batch).await
    }

    /// What is kept of a token of the Vault surface, and whose it is.
    fn presented_vault_token(
        &self,
        token: &Secret<String>,
    ) -> Result<(VaultToken, AppRole), VaultTokenError> {
        if !token.expose().starts_with(TOKEN_PREFIX) {
            return Err(VaultTokenError::Foreign);
        }
        let view = self.tree.context.store.read().map_err(|_| Unavailable::Storage)?;
        let row = view.get::<table::VaultTokens>(&token_hash(token.expose()));
        let row = row.map_err(|_| Unavailable::Storage)?.ok_or(VaultTokenError::Ended)?;
        let role = same_role(&view, &row.tenant, &row.name, &row.role_id);
        let role = role.map_err(|_| Unavailable::Storage)?;
        Ok((row, role.ok_or(VaultTokenError::Ended)?))
    }

    async fn commit_vault_token(&self, batch: Batch) -> Result<(), VaultTokenError> {
        match self.tree.context.store_batch(Lane::Operator, batch).await {
            Ok(_) => Ok(()),
            // Somebody else renewed or ended it at the same time: a client that tries again sees which.
            Err(CommitError::PreconditionFailed { .. }) => Err(VaultTokenError::Ended),
            Err(error) => Err(Unavailable::from(error).into()),
        }
    }

    /// What a token of the Vault surface says of itself; none when it is another kind of token.
    pub fn vault_token(&self, token: &str) -> Option<VaultTokenView> {
        let view = self.tree.context.store.read().ok()?;
        view.get::<table::VaultTokens>(&token_hash(token)).ok()?.map(VaultTokenView::from)
    }
}

impl SecretIdView {
    fn new(hash: &TokenHash, row: &AppRoleSecret) -> Self {
        Self {
            accessor: AppRoleSecret::accessor(hash),
            created_at: row.created_at,
            expires_at: row.expires_at,
        }
    }
}

impl From<VaultToken> for VaultTokenView {
    fn from(row: VaultToken) -> Self {
        Self {
            accessor: row.accessor,
            issued_at: row.issued_at,
            expires_at: row.expires_at,
            ttl: Duration::from_secs(row.ttl_seconds),
        }
    }
}

/// Who presents a token of the Vault surface.
///
/// # Errors
/// See [`OperatorAuthenticationError`].
pub(crate) fn authenticate(
    context: &Context,
    token: &str,
) -> Result<Arc<Operator>, OperatorAuthenticationError> {
    let invalid = OperatorAuthenticationError::Invalid;
    let view = context.store.read().map_err(|_| OperatorAuthenticationError::Storage)?;
    let storage = |_| OperatorAuthenticationError::Storage;
    let row = view.get::<table::VaultTokens>(&token_hash(token)).map_err(storage)?.ok_or(invalid)?;
    if row.expires_at <= context.now() {
        return Err(OperatorAuthenticationError::Expired);
    }
    let role = same_role(&view, &row.tenant, &row.name, &row.role_id).map_err(storage)?.ok_or(invalid)?;
    Ok(Arc::new(role.operator()))
}

/// Forgets tokens and secret ids that have ended, at most so many.
pub(crate) async fn forget_ended(context: &Context, at_most: usize) -> Result<(), Unavailable> {
    let now = context.now();
    let view = context.store.read().map_err(|_| Unavailable::Storage)?;
    let tokens = view.all::<table::VaultTokens>(..).map_err(|_| Unavailable::Storage)?;
    let secrets = view.all::<table::AppRoleSecrets>(..).map_err(|_| Unavailable::Storage)?;
    drop(view);
    let ended: Vec<TokenHash> = tokens
        .into_iter()
        .filter(|(_, row)| row.expires_at <= now)
        .map(|(hash, _)| hash)
        .take(at_most)
        .collect();
    let void = secrets.into_iter().filter(|(_, row)| row.expires_at.is_some_and(|end| end <= now));
    let mut batch = Batch::new();
    for hash in &ended {
        batch.delete::<table::VaultTokens>(hash);
    }
    for (hash, _) in void.take(at_most) {
        batch.delete::<table::AppRoleSecrets>(&hash);
    }
    if batch.is_empty() { Ok(()) } else { context.commit(Lane::Ingest, batch).await.map(drop) }
}

fn key(tenant: &TenantId, name: &str) -> Named<String> {
    Named::new(tenant.as_str(), name.to_owned())
}

/// The AppRole that a secret id or a token is of; none when it is gone, or another one has its name.
fn same_role(
    view: &ReadView,
    tenant: &TenantId,
    name: &str,
    role_id: &str,
) -> Result<Option<AppRole>, ReadError> {
    Ok(view.get::<table::AppRoles>(&key(tenant, name))?.filter(|role| role.role_id == role_id))
}

fn described(role: &AppRole) -> [(&'static str, hansa_model::audit::Detail); 2] {
    [("tenant", role.tenant.as_str().into()), ("approle", role.name.as_str().into())]
}
