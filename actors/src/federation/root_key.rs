//! The facade's part about the root key. In every role.

use hansa_model::Secret;
use hansa_model::scope::Operator;

use super::Federation;
use crate::error::{RootKeyError, Unavailable};
use crate::root_key::{RootKeyMessage, RootKeyView};

impl Federation {
    /// How the root key is kept, and how far its rotation has come.
    ///
    /// # Errors
    /// The store did not answer.
    pub fn root_key(&self) -> Result<RootKeyView, Unavailable> {
        self.tree.root_keys.view()
    }

    /// Begins a rotation of the root key. Once it returns the new key is durable and the store hangs on it;
    /// data keys are wrapped anew from then on, and after a restart it goes on by itself.
    ///
    /// # Errors
    /// See [`RootKeyError`].
    pub async fn rotate_root_key(
        &self,
        operator: &Operator,
        passphrase: Option<Secret<String>>,
    ) -> Result<RootKeyView, RootKeyError> {
        let operator = operator.clone();
        self.tree.root_key_actor.call(|reply| RootKeyMessage::Rotate { passphrase, operator, reply }).await?
    }
}
