//! HashiCorp Vault and OpenBao: key-value engines of both versions, and engines that lease credentials.
//!
//! `vaultrs` knows what each call looks like; what it sends, and what comes back, goes through our connector
//! (decision 0019). What it has no call for is an [`Asked`] of ours on the same way.

mod leases;
mod login;
mod mounts;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use rustify::Endpoint;
use rustify::enums::{RequestMethod, RequestType, ResponseType};
use rustify::errors::ClientError;
use serde::Deserialize;
use serde_json::value::RawValue;
use vaultrs::api::token::requests::LookupTokenSelfRequest;
use vaultrs::api::{EndpointMiddleware, kv1, kv2};

use hansa_model::Secret;
use hansa_model::limits::secrets as limits;
use hansa_model::secrets::backend::{KvVersion, VaultConfig};
use hansa_model::secrets::value::{Mark, RemoteSecret, RemoteValue};

use self::login::VaultLogin;
use self::mounts::{Mounts, Place};
use crate::connect::{Answer, Connector};
use crate::driver::{
    Call, CallError, Driver, Entry, Found, ListPage, Login, OpenError, ReadVersion, Write, Written,
};
use crate::session::{Session, Sessions};
use crate::vendor::Ambient;

/// One Vault.
#[derive(Debug)]
pub(crate) struct Vault {
    wire: Wire,
    login: VaultLogin,
    sessions: Sessions,
    mounts: Mutex<Mounts>,
    kv_version: Option<KvVersion>,
}

impl Vault {
    pub(crate) fn open(
        config: &VaultConfig,
        login: Option<&Login>,
        connector: &Connector,
        ambient: &Ambient,
    ) -> Result<Self, OpenError> {
        let wire = Wire {
            connector: connector.clone(),
            base: config.endpoint.as_str().to_owned(),
            namespace: config.namespace.clone(),
        };
        Ok(Self {
            login: VaultLogin::new(config, login, wire.clone(), ambient)?,
            wire,
            sessions: Sessions::default(),
            mounts: Mutex::default(),
            kv_version: config.kv_version,
        })
    }

    /// Calls with our login; once more with a new one when it is refused, for an expired token and a missing
    /// permission look the same.
    async fn call<E: Endpoint>(
        &self,
        endpoint: impl Fn() -> E + Send,
        bytes_max: usize,
    ) -> Result<Answer, CallError> {
        self.call_in_session(endpoint, bytes_max).await.map(|(answer, _)| answer)
    }

    /// The same, with the login that the answer belongs to.
    async fn call_in_session<E: Endpoint>(
        &self,
        endpoint: impl Fn() -> E + Send,
        bytes_max: usize,
    ) -> Result<(Answer, Arc<Session>), CallError> {
        let session = self.sessions.session(&self.login).await?;
        let answer = self.wire.call(endpoint(), Some(&session.ticket.token), bytes_max).await?;
        if answer.status != 403 || !self.login.can_repeat() {
            return Ok((answer, session));
        }
        let Some(other) = self.sessions.replace(&self.login, &session).await? else {
            return Ok((answer, session));
        };
        let session = other;
        let answer = self.wire.call(endpoint(), Some(&session.ticket.token), bytes_max).await?;
        if answer.status == 403 {
            self.sessions.believe().await;
        } else {
            self.sessions.accepted().await;
        }
        Ok((answer, session))
    }

    async fn read_kv1(&self, place: &Place, version: ReadVersion<'_>) -> Result<Found, CallError> {
        if !matches!(version, ReadVersion::Current | ReadVersion::Number(1)) {
            return Err(CallError::VersionNotFound);
        }
        let request = || kv1::requests::GetSecretRequest { mount: place.mount(), path: place.path() };
        let answer = self.call(request, limits::ANSWER_BYTES_MAX).await?;
        self.wire.judge(&answer)?;
        let envelope: Envelope<'_> = parse(&answer)?;
        let value = object(envelope.data)?.ok_or(CallError::NotFound)?;
        let secret = RemoteSecret {
            value,
            version: None,
            backend_version: None,
            mark: None,
            created_at: None,
            updated_at: None,
            expires_at: None,
        };
        Ok(Found { secret, status: answer.status })
    }

    async fn read_kv2(&self, place: &Place, version: ReadVersion<'_>) -> Result<Found, CallError> {
        // To Vault the version 0 is the newest one.
        let number = match version {
            ReadVersion::Current => None,
            ReadVersion::Number(number) => Some(number),
            ReadVersion::Named(name) => Some(name.parse().map_err(|_| CallError::VersionNotFound)?),
        };
        if number == Some(0) {
            return Err(CallError::VersionNotFound);
        }
        let request =
            || kv2::requests::ReadSecretRequest { mount: place.mount(), path: place.path(), version: number };
        let answer = self.call(request, limits::ANSWER_BYTES_MAX).await?;
        if answer.status == 404 {
            return Err(self.missing(place, &answer, number.is_some()).await?);
        }
        self.wire.judge(&answer)?;
        let envelope: Envelope<'_> = parse(&answer)?;
        let read: Kv2Read<'_> = inner(envelope.data)?.ok_or(CallError::NotFound)?;
        let gone = if number.is_some() { CallError::VersionNotFound } else { CallError::NotFound };
        let value = object(read.data)?.ok_or(gone)?;
        let mark = number.is_none().then(|| read.metadata.state.mark(read.metadata.version));
        let secret = RemoteSecret {
            value,
            version: Some(read.metadata.version),
            backend_version: Some(read.metadata.version.to_string()),
            mark,
            created_at: read.metadata.state.created_time.parse().ok(),
            updated_at: None,
            // A version that is to be deleted later says when.
            expires_at: read.metadata.state.deletion_time.parse().ok(),
        };
        Ok(Found { secret, status: answer.status })
    }

    /// What a 404 means. A deleted version comes with an envelope; without one, only the metadata tells a
    /// secret that never was from a version that never was.
    async fn missing(
        &self,
        place: &Place,
        answer: &Answer,
        asked_for_version: bool,
    ) -> Result<CallError, CallError> {
        if !asked_for_version {
            return Ok(CallError::NotFound);
        }
        let envelope: Result<Envelope<'_>, CallError> = parse(answer);
        if envelope.is_ok_and(|envelope| envelope.data.is_some()) {
            return Ok(CallError::VersionNotFound);
        }
        match self.metadata(place).await {
            Err(CallError::NotFound) => Ok(CallError::NotFound),
            Ok(_) | Err(CallError::Refused { .. }) => Ok(CallError::VersionNotFound),
            Err(error) => Err(error),
        }
    }

    async fn metadata(&self, place: &Place) -> Result<Kv2Metadata, CallError> {
        let request =
            || kv2::requests::ReadSecretMetadataRequest { mount: place.mount(), path: place.path() };
        let answer = self.call(request, limits::ANSWER_BYTES_MAX).await?;
        self.wire.judge(&answer)?;
        let envelope: Envelope<'_> = parse(&answer)?;
        inner(envelope.data)?.ok_or(CallError::NotFound)
    }

    async fn list_page(&self, prefix: &str) -> Result<ListPage, CallError> {
        let prefix = prefix.trim_end_matches('/');
        let place = self.place(prefix).await?;
        let answer = match place.kv {
            KvVersion::One => {
                let request =
                    || kv1::requests::ListSecretRequest { mount: place.mount(), path: place.path() };
                self.call(request, limits::LISTING_BYTES_MAX).await?
            }
            KvVersion::Two => {
                let request =
                    || kv2::requests::ListSecretsRequest { mount: place.mount(), path: place.path() };
                self.call(request, limits::LISTING_BYTES_MAX).await?
            }
        };
        if answer.status == 404 {
            return Ok(ListPage::default());
        }
        self.wire.judge(&answer)?;
        let envelope: Envelope<'_> = parse(&answer)?;
        let listed: Listed = inner(envelope.data)?.unwrap_or_default();
        let entry = |key: &String| match key.strip_suffix('/') {
            Some(folder) => Entry::Folder { name: format!("{prefix}/{folder}") },
            None => Entry::Secret { name: format!("{prefix}/{key}"), mark: None },
        };
        let entries = listed.keys.iter().filter(|key| !key.trim_matches('/').is_empty()).map(entry).collect();
        Ok(ListPage { entries, next: None })
    }

    async fn write_value(&self, name: &str, write: Write<'_>) -> Result<Written, CallError> {
        let place = self.secret_place(name).await?;
        let data = write.data.expose();
        let (path, body) = match (place.kv, write.expected) {
            (KvVersion::One, _) => (format!("{}/{}", place.mount, place.path), data.to_owned()),
            (KvVersion::Two, None) => (place.data_path(), format!("{{\"data\":{data}}}")),
            (KvVersion::Two, Some(version)) => {
                (place.data_path(), format!("{{\"data\":{data},\"options\":{{\"cas\":{version}}}}}"))
            }
        };
        let request = || Asked {
            method: RequestMethod::POST,
            path: path.clone(),
            body: Some(body.clone().into_bytes()),
        };
        let answer = self.call(request, limits::ANSWER_BYTES_MAX).await?;
        if answer.status == 400 && says(&answer, "check-and-set") {
            return Err(CallError::Conflict);
        }
        self.wire.judge(&answer)?;
        if place.kv == KvVersion::One || answer.body.is_empty() {
            return Ok(Written { version: None, mark: None });
        }
        let envelope: Envelope<'_> = parse(&answer)?;
        let version: Option<Kv2Version> = inner(envelope.data)?;
        Ok(Written { version: version.map(|version| version.version), mark: None })
    }

    async fn place(&self, name: &str) -> Result<Place, CallError> {
        mounts::place(self, name).await
    }

    /// The place of one secret: a mount alone is none.
    async fn secret_place(&self, name: &str) -> Result<Place, CallError> {
        let place = self.place(name).await?;
        if place.path.is_empty() { Err(CallError::Name) } else { Ok(place) }
    }
}

impl Driver for Vault {
    fn probe(&self) -> Call<'_, ()> {
        Box::pin(async move {
            let answer = self.call(LookupTokenSelfRequest::default, limits::ANSWER_BYTES_MAX).await?;
            // A token need not be allowed to look itself up; that it was given proves the login.
            if answer.status == 403 && self.login.can_repeat() {
                return Ok(());
            }
            self.wire.judge(&answer)
        })
    }

    fn read<'a>(&'a self, name: &'a str, version: ReadVersion<'a>) -> Call<'a, Found> {
        Box::pin(async move {
            let place = self.secret_place(name).await?;
            match place.kv {
                KvVersion::One => self.read_kv1(&place, version).await,
                KvVersion::Two => self.read_kv2(&place, version).await,
            }
        })
    }

    fn list<'a>(&'a self, prefix: &'a str, _page: Option<&'a str>) -> Call<'a, ListPage> {
        Box::pin(self.list_page(prefix))
    }

    fn mark<'a>(&'a self, name: &'a str) -> Call<'a, Option<Mark>> {
        Box::pin(async move {
            let place = self.secret_place(name).await?;
            match place.kv {
                KvVersion::One => Ok(None),
                KvVersion::Two => {
                    let metadata = self.metadata(&place).await?;
                    let state = metadata.versions.get(&metadata.current_version);
                    Ok(state.map(|state| state.mark(metadata.current_version)))
                }
            }
        })
    }

    fn write<'a>(&'a self, name: &'a str, write: Write<'a>) -> Call<'a, Written> {
        Box::pin(self.write_value(name, write))
    }
}

/// One call that `vaultrs` has no type for.
pub(crate) struct Asked {
    method: RequestMethod,
    /// What follows `/v1/`.
    path: String,
    body: Option<Vec<u8>>,
}

impl Asked {
    pub(crate) const fn get(path: String) -> Self {
        Self { method: RequestMethod::GET, path, body: None }
    }

    pub(crate) const fn post(path: String, body: Vec<u8>) -> Self {
        Self { method: RequestMethod::POST, path, body: Some(body) }
    }
}

impl Endpoint for Asked {
    type Response = ();
    const REQUEST_BODY_TYPE: RequestType = RequestType::JSON;
    const RESPONSE_BODY_TYPE: ResponseType = ResponseType::JSON;

    fn path(&self) -> String {
        self.path.clone()
    }

    fn method(&self) -> RequestMethod {
        self.method.clone()
    }

    fn body(&self) -> Result<Option<Vec<u8>>, ClientError> {
        Ok(self.body.clone())
    }
}

/// Requests as Vault wants them, over our connector.
#[derive(Debug, Clone)]
pub(crate) struct Wire {
    pub(crate) connector: Connector,
    base: String,
    namespace: Option<String>,
}

impl Wire {
    /// Sends what this endpoint is made of. The token has been checked to fit into a header.
    pub(crate) async fn call<E: Endpoint>(
        &self,
        endpoint: E,
        token: Option<&Secret<String>>,
        bytes_max: usize,
    ) -> Result<Answer, CallError> {
        let middleware = EndpointMiddleware {
            token: token.map_or_else(String::new, |token| token.expose().clone()),
            version: "v1".to_owned(),
            wrap: None,
            namespace: self.namespace.clone(),
        };
        let request =
            endpoint.with_middleware(&middleware).request(&self.base).map_err(|_| CallError::Name)?;
        self.connector.send(request.map(Bytes::from), bytes_max).await
    }

    /// What a status means where no caller knows better.
    pub(crate) fn judge(&self, answer: &Answer) -> Result<(), CallError> {
        let retry_after = answer.retry_after(self.connector.now());
        let unavailable = |reason| CallError::Unavailable { reason, retry_after, connect: false };
        match answer.status {
            200..=299 => Ok(()),
            // A standby names an address of its choice: it is not followed.
            300..=399 => Err(unavailable("it is a standby that sends us elsewhere")),
            401 | 403 => Err(self.connector.refused("permission denied, or the login has ended")),
            404 => Err(CallError::NotFound),
            412 => Err(unavailable("it lags behind its leader")),
            429 => Err(CallError::Throttled { retry_after }),
            500..=599 if says(answer, "sealed") => Err(unavailable("it is sealed")),
            500..=599 => Err(unavailable("it answers with an error of its own")),
            _ => Err(CallError::BadAnswer { reason: "it takes the request for a wrong one" }),
        }
    }
}

/// Whether the answer's body holds a word. It is looked for and never shown.
fn says(answer: &Answer, word: &str) -> bool {
    answer.body.windows(word.len()).take(4096).any(|part| part.eq_ignore_ascii_case(word.as_bytes()))
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Kv2Read<'a> {
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    metadata: Kv2ReadMetadata,
}

#[derive(Deserialize)]
struct Kv2ReadMetadata {
    version: u64,
    #[serde(flatten)]
    state: Kv2State,
}

#[derive(Deserialize)]
struct Kv2Metadata {
    current_version: u64,
    #[serde(default)]
    versions: BTreeMap<u64, Kv2State>,
}

/// What reads and metadata say alike about a version.
#[derive(Deserialize)]
struct Kv2State {
    #[serde(default)]
    created_time: String,
    #[serde(default)]
    deletion_time: String,
    #[serde(default)]
    destroyed: bool,
}

impl Kv2State {
    /// A version's value never changes, only whether it is given. A value that was read brings its mark along,
    /// so that the next sync asks for metadata alone.
    fn mark(&self, version: u64) -> Mark {
        let state = if self.destroyed { "destroyed" } else { &self.deletion_time };
        Mark(format!("{version}@{}@{state}", self.created_time))
    }
}

#[derive(Deserialize)]
struct Kv2Version {
    version: u64,
}

#[derive(Deserialize, Default)]
struct Listed {
    #[serde(default)]
    keys: Vec<String>,
}

const NOT_VAULT: CallError = CallError::BadAnswer { reason: "it does not answer as a Vault does" };

fn parse<'a, T: Deserialize<'a>>(answer: &'a Answer) -> Result<T, CallError> {
    serde_json::from_slice(&answer.body).map_err(|_| NOT_VAULT)
}

fn inner<'a, T: Deserialize<'a>>(data: Option<&'a RawValue>) -> Result<Option<T>, CallError> {
    match data {
        None => Ok(None),
        Some(data) => serde_json::from_str(data.get()).map_err(|_| NOT_VAULT),
    }
}

/// The value, which is an object in every engine of the kind; none where there is `null`.
fn object(data: Option<&RawValue>) -> Result<Option<RemoteValue>, CallError> {
    let Some(text) = data.map(RawValue::get).filter(|text| *text != "null") else { return Ok(None) };
    if !text.starts_with('{') {
        return Err(NOT_VAULT);
    }
    Ok(Some(RemoteValue::Object(Secret::new(text.to_owned()))))
}
