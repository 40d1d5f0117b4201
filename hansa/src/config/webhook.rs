//! Webhooks: what the sources say, and what is left of it once it is valid.

use std::collections::BTreeSet;
use std::path::PathBuf;

use hansa_model::limits::webhook as limits;
use serde::{Deserialize, Serialize};

use super::{ConfigError, is_web_url};

/// One `[[webhook]]` table.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebhookLayer {
    /// Names it in routes and logs.
    pub name: String,
    /// Where to post.
    pub url: String,
    /// File with the key of the signature.
    pub secret_file: PathBuf,
}

/// A webhook that can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookTarget {
    /// Names it in routes and logs.
    pub name: String,
    /// Where to post.
    pub url: String,
    /// File with the key of the signature: `whsec_` and base64, or at least 24 bytes as they are.
    pub secret_file: PathBuf,
}

/// Checks all of them.
pub(super) fn resolve(layers: Vec<WebhookLayer>) -> Result<Vec<WebhookTarget>, ConfigError> {
    let mut names = BTreeSet::new();
    let count = layers.len();
    layers
        .into_iter()
        .map(|layer| {
            let name = layer.name.trim().to_owned();
            let fault = |reason: String| Err(ConfigError::Webhook { name: name.clone(), reason });
            if name.is_empty()
                || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
            {
                return fault("it needs a name of letters, digits, '-', '_' and '.'".to_owned());
            }
            if !names.insert(name.clone()) {
                return fault("another webhook has this name".to_owned());
            }
            if count > limits::WEBHOOKS_MAX {
                return fault(format!("a node has at most {} webhooks", limits::WEBHOOKS_MAX));
            }
            if !is_web_url(&layer.url) {
                return fault("url must start with http:// or https://".to_owned());
            }
            if layer.secret_file.as_os_str().is_empty() {
                return fault("secret_file must name a file with the key of the signature".to_owned());
            }
            Ok(WebhookTarget { name, url: layer.url, secret_file: layer.secret_file })
        })
        .collect()
}
