//! A transit engine of Vault or OpenBao: wraps the root key once, and unwraps it at each start.
//!
//! Two calls over the HTTP client that the program has anyway, so that redirects, proxies, the size of
//! answers and the TLS provider are ours to say. Answers of the server never reach an error's text: a
//! refusal is told by what to do about it.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hansa_model::Secret;
use hansa_storage::RootKey;
use reqwest::StatusCode;
use reqwest::header::HeaderValue;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::cli::failure::{Exit, Failure, chain};
use crate::client;
use crate::config::{Transit, TransitLogin};

/// Time for one call. A server that is up answers in milliseconds; a start should fail, not hang.
const CALL_WAIT_MAX: Duration = Duration::from_secs(10);
/// Bytes of an answer. A wrapped key has about 100.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
const KEY_BYTES: usize = 32;

/// A transit engine that knows who asks.
#[derive(Debug)]
pub(super) struct TransitEngine<'a> {
    http: reqwest::Client,
    transit: &'a Transit,
    token: Option<Secret<String>>,
}

/// What is asked of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Login,
    Encrypt,
    Decrypt,
    Logout,
}

#[derive(Deserialize)]
struct LoggedIn {
    auth: Credential,
}

#[derive(Deserialize)]
struct Credential {
    client_token: String,
}

#[derive(Deserialize)]
struct Answer<T> {
    data: T,
}

#[derive(Deserialize)]
struct Encrypted {
    ciphertext: String,
}

#[derive(Deserialize)]
struct Decrypted {
    plaintext: String,
}

impl<'a> TransitEngine<'a> {
    /// Logs in, or reads the token.
    ///
    /// # Errors
    /// A file cannot be read, the server does not answer, or it does not take the role.
    pub(super) async fn open(transit: &'a Transit) -> Result<Self, Failure> {
        let tls = client::tls("root_key_transit.ca_file", transit.ca_file.as_deref())?;
        let http = client::builder()
            // A redirect would carry the token to an address that nobody named.
            .redirect(reqwest::redirect::Policy::none())
            .timeout(CALL_WAIT_MAX)
            .tls_backend_preconfigured(tls)
            .build()
            .map_err(|error| Failure::new(Exit::Failed, chain(&error)))?;
        let mut engine = Self { http, transit, token: None };
        let token = match &transit.login {
            TransitLogin::Token { file } => read("token_file", file)?,
            TransitLogin::AppRole { mount, role_id_file, secret_id_file } => {
                let role_id = read("role_id_file", role_id_file)?;
                let secret_id = read("secret_id_file", secret_id_file)?;
                let body = json!({"role_id": role_id.expose(), "secret_id": secret_id.expose()});
                let path = format!("auth/{mount}/login");
                let answer: LoggedIn =
                    parsed(&engine.post(Call::Login, &path, &body).await?).ok_or_else(|| engine.strange())?;
                Secret::new(answer.auth.client_token)
            }
        };
        engine.token = Some(token);
        Ok(engine)
    }

    /// Gives the key as the engine wraps it.
    ///
    /// # Errors
    /// The engine does not answer, or refuses.
    pub(super) async fn wrap(&self, key: &RootKey) -> Result<String, Failure> {
        let plaintext = Secret::new(STANDARD.encode(key.bytes().expose()));
        let path = format!("{}/encrypt/{}", self.transit.mount, self.transit.key);
        let body = json!({"plaintext": plaintext.expose()});
        let answer: Answer<Encrypted> =
            parsed(&self.post(Call::Encrypt, &path, &body).await?).ok_or_else(|| self.strange())?;
        Ok(answer.data.ciphertext)
    }

    /// Gives the key that was wrapped.
    ///
    /// # Errors
    /// The engine does not answer, refuses, or has another key.
    pub(super) async fn unwrap(&self, ciphertext: &str) -> Result<RootKey, Failure> {
        let path = format!("{}/decrypt/{}", self.transit.mount, self.transit.key);
        let body = json!({"ciphertext": ciphertext});
        let answer: Answer<Decrypted> =
            parsed(&self.post(Call::Decrypt, &path, &body).await?).ok_or_else(|| self.strange())?;
        let plaintext = Secret::new(answer.data.plaintext);
        let bytes = STANDARD.decode(plaintext.expose()).ok().map(Secret::new);
        let key = bytes.and_then(|bytes| <[u8; KEY_BYTES]>::try_from(bytes.expose().as_slice()).ok());
        key.map(RootKey::new).ok_or_else(|| self.strange())
    }

    /// Gives back the token of a login. It would end by itself, so nobody hears of a failure.
    pub(super) async fn close(self) {
        if matches!(self.transit.login, TransitLogin::AppRole { .. }) {
            let _ = self.post(Call::Logout, "auth/token/revoke-self", &json!({})).await;
        }
    }

    async fn post(&self, call: Call, path: &str, body: &Value) -> Result<Secret<Vec<u8>>, Failure> {
        let mut url = self.transit.address.clone();
        url.set_path(&format!("{}/v1/{path}", url.path().trim_end_matches('/')));
        let mut request = self.http.post(url).json(body).header("X-Vault-Request", "true");
        if let Some(token) = &self.token {
            let mut value = HeaderValue::from_str(token.expose())
                .map_err(|_| Failure::usage("the token file of root_key_transit holds no token"))?;
            value.set_sensitive(true);
            request = request.header("X-Vault-Token", value);
        }
        if let Some(namespace) = &self.transit.namespace {
            request = request.header("X-Vault-Namespace", namespace);
        }
        let mut response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(self.strange());
            }
            bytes.extend_from_slice(&chunk);
        }
        let bytes = Secret::new(bytes);
        if status.is_success() { Ok(bytes) } else { Err(self.refusal(call, status, bytes.expose())) }
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let why = if error.is_timeout() {
            "does not answer in time".to_owned()
        } else {
            format!("cannot be reached: {}", client::deepest_cause(error))
        };
        self.failure(Exit::Unreachable, &why)
            .next("start the server, or correct root_key_transit.address; then start the node again")
    }

    fn strange(&self) -> Failure {
        self.failure(Exit::Failed, "answers what no transit engine does")
            .next("root_key_transit.address of a Vault or OpenBao server")
    }

    /// Tells a refusal by what to do about it. The body only helps to tell refusals of one status apart.
    fn refusal(&self, call: Call, status: StatusCode, body: &[u8]) -> Failure {
        let (mount, key) = (&self.transit.mount, &self.transit.key);
        let no_key = contains(body, "encryption key not found");
        match (status.as_u16(), call) {
            (501 | 503, _) => self
                .failure(Exit::Unreachable, "is sealed or not initialised")
                .next("unseal it (bao operator unseal, vault operator unseal); then start the node again"),
            (300..=399 | 429 | 472 | 473, _) => {
                self.failure(Exit::Unreachable, "does not serve: it is a standby, or it is throttling")
                    .next("root_key_transit.address of the active server, or the same once more")
            }
            (400 | 403, Call::Login) => self
                .failure(Exit::NotAllowed, "does not take the AppRole: an id is wrong, or the secret id is used up")
                .next("a new secret id in root_key_transit.secret_id_file"),
            (403, _) => self
                .failure(
                    Exit::NotAllowed,
                    &format!("refuses: the token is wrong or has expired, it may not use {mount}/{key}, or there is no such key"),
                )
                .next(format!(
                    "a token with update on {mount}/encrypt/{key} and {mount}/decrypt/{key}; the key is made by: bao write -f {mount}/keys/{key}"
                )),
            (404, _) => self
                .failure(Exit::NotFound, &format!("has no such engine or login at {mount}"))
                .next(format!("root_key_transit.mount, or: bao secrets enable -path={mount} transit")),
            (400, _) if no_key => self
                .failure(Exit::NotFound, &format!("has no key {key} in {mount}"))
                .next(format!("root_key_transit.key, or the server that had it. A new key opens nothing old: bao write -f {mount}/keys/{key}")),
            (400, Call::Decrypt) => self
                .failure(Exit::Failed, &format!(
                    "does not unwrap the root key by {mount}/{key}: it was wrapped by another key, or by a version that is retired"
                ))
                .next("the original root.key.transit, or root_key_transit.key of the key that wrapped it"),
            (other, _) => self
                .failure(Exit::Failed, &format!("answers {other}"))
                .next("the server's log"),
        }
    }

    fn failure(&self, exit: Exit, why: &str) -> Failure {
        let address = self.transit.address.as_str().trim_end_matches('/');
        Failure::new(exit, format!("the transit engine at {address}, which has the root key, {why}"))
    }
}

/// Reads a credential's file.
fn read(key: &str, path: &std::path::Path) -> Result<Secret<String>, Failure> {
    let failed = |why: String| {
        Failure::new(Exit::NotAllowed, format!("root_key_transit.{key} {}: {why}", path.display()))
    };
    let text = Secret::new(std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?);
    let trimmed = Secret::new(text.expose().trim().to_owned());
    if trimmed.expose().is_empty() { Err(failed("is empty".to_owned())) } else { Ok(trimmed) }
}

fn parsed<T: DeserializeOwned>(bytes: &Secret<Vec<u8>>) -> Option<T> {
    serde_json::from_slice(bytes.expose()).ok()
}

fn contains(body: &[u8], text: &str) -> bool {
    body.windows(text.len()).any(|window| window == text.as_bytes())
}
