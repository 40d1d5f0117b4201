//! The facade's part about users, logins and API keys. In every role.

use hansa_model::ApiKeyId;
use hansa_model::Secret;
use hansa_model::scope::Operator;

use super::Federation;
use crate::error::{AccessError, LoginError, RefreshError, Unavailable};
use crate::operators::{ApiKeyView, LoggedIn, NewApiKey, NewUser, UserPatch, UserView, local};

impl Federation {
    /// Whether cookies may be marked for HTTPS alone.
    pub fn secure_cookies(&self) -> bool {
        self.tree.context.config.secure_cookies
    }

    /// Logs a local user in. Durable on return; a refusal is in the audit log.
    ///
    /// # Errors
    /// See [`LoginError`].
    pub async fn login(&self, userid: &str, password: &Secret<String>) -> Result<LoggedIn, LoginError> {
        self.operators.login(&self.tree.context, userid, password.expose()).await
    }

    /// Gives the next token of a login. Durable on return: the refresh token that was sent is used up.
    ///
    /// # Errors
    /// See [`RefreshError`].
    pub async fn refresh_login(&self, refresh_token: &Secret<String>) -> Result<LoggedIn, RefreshError> {
        self.operators.refresh(&self.tree.context, refresh_token.expose()).await
    }

    /// Ends a login: its tokens are refused from then on. Durable on return.
    ///
    /// # Errors
    /// See [`RefreshError`].
    pub async fn logout(&self, refresh_token: &Secret<String>) -> Result<(), RefreshError> {
        local::logout(&self.tree.context, refresh_token.expose()).await
    }

    /// The local users that the operator may see, in the order of their ids.
    ///
    /// # Errors
    /// The store did not answer.
    pub fn users(&self, operator: &Operator) -> Result<Vec<UserView>, Unavailable> {
        local::users(&self.tree.context, operator)
    }

    /// One local user.
    ///
    /// # Errors
    /// There is none, or the operator may not see it.
    pub fn user(&self, operator: &Operator, userid: &str) -> Result<UserView, AccessError> {
        local::user(&self.tree.context, operator, userid)
    }

    /// Makes a local user. Durable on return.
    ///
    /// # Errors
    /// See [`AccessError`].
    pub async fn add_user(&self, operator: &Operator, new: NewUser) -> Result<UserView, AccessError> {
        self.operators.add_user(&self.tree.context, operator, new).await
    }

    /// Changes a local user. Durable on return; what was logged in has ended.
    ///
    /// # Errors
    /// See [`AccessError`].
    pub async fn patch_user(
        &self,
        operator: &Operator,
        userid: &str,
        patch: UserPatch,
    ) -> Result<UserView, AccessError> {
        self.operators.patch_user(&self.tree.context, operator, userid, patch).await
    }

    /// Removes a local user. Durable on return; what was logged in has ended.
    ///
    /// # Errors
    /// See [`AccessError`].
    pub async fn remove_user(&self, operator: &Operator, userid: &str) -> Result<(), AccessError> {
        local::remove_user(&self.tree.context, operator, userid).await
    }

    /// The API keys that the operator may see, in the order of their names.
    ///
    /// # Errors
    /// The store did not answer.
    pub fn api_keys(&self, operator: &Operator) -> Result<Vec<ApiKeyView>, Unavailable> {
        local::api_keys(&self.tree.context, operator)
    }

    /// Makes an API key. Durable on return; the key is in the answer and nowhere else.
    ///
    /// # Errors
    /// See [`AccessError`].
    pub async fn add_api_key(
        &self,
        operator: &Operator,
        new: NewApiKey,
    ) -> Result<(ApiKeyView, Secret<String>), AccessError> {
        local::add_api_key(&self.tree.context, operator, new).await
    }

    /// Removes an API key: it is refused from then on. Durable on return.
    ///
    /// # Errors
    /// See [`AccessError`].
    pub async fn remove_api_key(&self, operator: &Operator, id: ApiKeyId) -> Result<(), AccessError> {
        local::remove_api_key(&self.tree.context, operator, id).await
    }
}
