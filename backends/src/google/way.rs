//! The vendor's client on our connector, and the account's own signature, or the machine's token, for a login.
//!
//! The client's own transport takes neither roots nor a judge of addresses, follows redirects and reads proxy
//! settings; its seam for transports is a trait that we fill (decision 0019).

use std::fmt;

use bytes::Bytes;
use google_cloud_gax::error::Error;
use google_cloud_gax::options::RequestOptions;
use google_cloud_gax::response::Response;
use google_cloud_secretmanager_v1::{model, stub};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use hansa_model::limits::secrets as limits;
use hansa_model::secrets::backend::GoogleConfig;

use super::Failure;
use crate::connect::{Answer, Connector};
use crate::driver::{CallError, OpenError};
use crate::jwt::ServiceAccount;
use crate::login::LoginData;
use crate::machine::GoogleMachine;
use crate::session::{Login, Sessions, Ticket};
use crate::vendor::Ambient;

/// How long a token that the account signs for itself lives: the longest that is taken.
const LIFE: std::time::Duration = std::time::Duration::from_secs(3_600);

/// Calls of the client.
pub(super) struct Way {
    connector: Connector,
    base: String,
    signer: Signer,
    sessions: Sessions,
}

/// Who gives tokens.
enum Signer {
    Account { account: Box<ServiceAccount>, audience: String, connector: Connector },
    Machine(GoogleMachine),
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Way").field("base", &self.base).finish_non_exhaustive()
    }
}

type Answered<T> = Result<Response<T>, Error>;

impl Way {
    pub(super) fn new(
        config: &GoogleConfig,
        login: Option<&crate::driver::Login>,
        connector: Connector,
        ambient: &Ambient,
    ) -> Result<Self, OpenError> {
        let universe = &config.universe_domain;
        let base = match (&config.endpoint, &config.location) {
            (Some(endpoint), _) => endpoint.as_str().to_owned(),
            (None, Some(location)) => format!("https://secretmanager.{location}.rep.{universe}"),
            (None, None) => format!("https://secretmanager.{universe}"),
        };
        let signer = if config.credentials_path.is_some() {
            let data = LoginData::parse(login)?;
            let account = if data.has("service_account_key") {
                ServiceAccount::parse(&data.object("service_account_key")?)?
            } else {
                ServiceAccount::parse(&data)?
            };
            Signer::Account {
                account: Box::new(account),
                audience: format!("https://secretmanager.{universe}/"),
                connector: connector.clone(),
            }
        } else {
            Signer::Machine(GoogleMachine::new(&ambient.machine, &connector)?)
        };
        Ok(Self { connector, base, signer, sessions: Sessions::default() })
    }

    /// Calls with our login; once more with a new one when it is refused.
    async fn call<T: DeserializeOwned>(
        &self,
        method: http::Method,
        path: String,
        query: &[(&str, String)],
        body: Option<String>,
        bytes_max: usize,
    ) -> Answered<T> {
        let call = async {
            let url = self.url(&path, query)?;
            let session = self.sessions.session(&self.signer).await?;
            let answer = self.send(&method, &url, session.ticket.token.expose(), body.as_deref(), bytes_max);
            let mut answer = answer.await?;
            if answer.status == 401
                && let Some(session) = self.sessions.replace(&self.signer, &session).await?
            {
                let token = session.ticket.token.expose();
                answer = self.send(&method, &url, token, body.as_deref(), bytes_max).await?;
                if answer.status == 401 {
                    self.sessions.believe().await;
                } else {
                    self.sessions.accepted().await;
                }
            }
            self.judge(&answer)?;
            serde_json::from_slice(&answer.body).map_err(|_| Failure::Call(NOT_GOOGLE))
        };
        call.await.map(Response::from).map_err(|failure: Failure| Error::io(Carried(failure)))
    }

    fn url(&self, path: &str, query: &[(&str, String)]) -> Result<String, Failure> {
        let mut url = url::Url::parse(&self.base).map_err(|_| Failure::Call(CallError::Name))?;
        url.set_path(&format!("/v1/{path}"));
        let mut pairs = url.query_pairs_mut();
        for (name, value) in query.iter().filter(|(_, value)| !value.is_empty()) {
            pairs.append_pair(name, value);
        }
        pairs.append_pair("$alt", "json;enum-encoding=int");
        drop(pairs);
        Ok(url.into())
    }

    async fn send(
        &self,
        method: &http::Method,
        url: &str,
        token: &str,
        body: Option<&str>,
        bytes_max: usize,
    ) -> Result<Answer, Failure> {
        let mut request = http::Request::builder()
            .method(method.clone())
            .uri(url)
            .header(AUTHORIZATION, format!("Bearer {token}"));
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = Bytes::copy_from_slice(body.unwrap_or_default().as_bytes());
        let request = request.body(body).map_err(|_| Failure::Call(CallError::Name))?;
        self.connector.send(request, bytes_max).await.map_err(Failure::Call)
    }

    /// What a refusal means. Its text is never used.
    fn judge(&self, answer: &Answer) -> Result<(), Failure> {
        if answer.status / 100 == 2 {
            return Ok(());
        }
        let retry_after = answer.retry_after(self.connector.now());
        let body: Option<ErrorBody> = serde_json::from_slice(&answer.body).ok();
        let status = body.and_then(|body| body.error.status).unwrap_or_default();
        Err(Failure::Call(match (status.as_str(), answer.status) {
            ("FAILED_PRECONDITION", _) => return Err(Failure::Unready),
            ("NOT_FOUND", _) | (_, 404) => CallError::NotFound,
            ("ALREADY_EXISTS", _) | (_, 409) => CallError::Conflict,
            ("UNAUTHENTICATED" | "PERMISSION_DENIED", _) | (_, 401 | 403) => {
                self.connector.refused("the login or its permission is refused")
            }
            ("RESOURCE_EXHAUSTED", _) | (_, 429) => CallError::Throttled { retry_after },
            (_, 500..=599) => CallError::Unavailable {
                reason: "it answers with an error of its own",
                retry_after,
                connect: false,
            },
            (_, 300..=399) => CallError::BadAnswer { reason: "it sends us elsewhere" },
            _ => CallError::BadAnswer { reason: "it takes the request for a wrong one" },
        }))
    }
}

impl Login for Signer {
    async fn login(&self) -> Result<Ticket, CallError> {
        let (account, audience, connector) = match self {
            Self::Account { account, audience, connector } => (account, audience, connector),
            Self::Machine(machine) => return machine.token().await,
        };
        let now = connector.now().as_secs();
        let claims = json!({
            "iss": account.email,
            "sub": account.email,
            "aud": audience,
            "iat": now,
            "exp": now + LIFE.as_secs().cast_signed(),
        });
        let refused = CallError::Refused { reason: "the service account's key cannot sign" };
        let token = account.sign(&claims).ok_or(refused)?;
        Ok(Ticket { token, lease: Some(LIFE), full: Some(LIFE), renewable: false, uses: None })
    }

    async fn renew(&self, _ticket: &Ticket) -> Result<Option<Ticket>, CallError> {
        Ok(None)
    }
}

impl stub::SecretManagerService for Way {
    async fn list_secrets(
        &self,
        asked: model::ListSecretsRequest,
        _options: RequestOptions,
    ) -> Answered<model::ListSecretsResponse> {
        let query = [("pageSize", asked.page_size.to_string()), ("pageToken", asked.page_token)];
        let path = format!("{}/secrets", asked.parent);
        self.call(http::Method::GET, path, &query, None, limits::LISTING_BYTES_MAX).await
    }

    async fn get_secret(
        &self,
        asked: model::GetSecretRequest,
        _options: RequestOptions,
    ) -> Answered<model::Secret> {
        self.call(http::Method::GET, asked.name, &[], None, limits::ANSWER_BYTES_MAX).await
    }

    async fn create_secret(
        &self,
        asked: model::CreateSecretRequest,
        _options: RequestOptions,
    ) -> Answered<model::Secret> {
        let path = format!("{}/secrets", asked.parent);
        let body = json_of(&asked.secret)?;
        let query = [("secretId", asked.secret_id)];
        self.call(http::Method::POST, path, &query, Some(body), limits::ANSWER_BYTES_MAX).await
    }

    async fn add_secret_version(
        &self,
        asked: model::AddSecretVersionRequest,
        _options: RequestOptions,
    ) -> Answered<model::SecretVersion> {
        let path = format!("{}:addVersion", asked.parent);
        let body = format!("{{\"payload\":{}}}", json_of(&asked.payload)?);
        self.call(http::Method::POST, path, &[], Some(body), limits::ANSWER_BYTES_MAX).await
    }

    async fn list_secret_versions(
        &self,
        asked: model::ListSecretVersionsRequest,
        _options: RequestOptions,
    ) -> Answered<model::ListSecretVersionsResponse> {
        let path = format!("{}/versions", asked.parent);
        let query = [("pageSize", asked.page_size.to_string()), ("filter", asked.filter)];
        self.call(http::Method::GET, path, &query, None, limits::LISTING_BYTES_MAX).await
    }

    async fn access_secret_version(
        &self,
        asked: model::AccessSecretVersionRequest,
        _options: RequestOptions,
    ) -> Answered<model::AccessSecretVersionResponse> {
        let path = format!("{}:access", asked.name);
        self.call(http::Method::GET, path, &[], None, limits::ANSWER_BYTES_MAX).await
    }
}

const NOT_GOOGLE: CallError =
    CallError::BadAnswer { reason: "it does not answer as Google Secret Manager does" };

#[derive(Deserialize)]
struct ErrorBody {
    error: ErrorDetail,
}

#[derive(Deserialize)]
struct ErrorDetail {
    status: Option<String>,
}

fn json_of(value: &impl serde::Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(Error::ser)
}

/// Our word on its way through the client.
#[derive(Debug, thiserror::Error)]
#[error("the call failed")]
struct Carried(Failure);

/// What a failed call means.
pub(super) fn failure(error: Error) -> Failure {
    let carried = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<Carried>());
    match carried {
        Some(Carried(Failure::Unready)) => Failure::Unready,
        Some(Carried(Failure::Call(error))) => Failure::Call(error.clone()),
        // Only what the client refuses by itself: names that do not fit a route.
        None => Failure::Call(CallError::Name),
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}
