//! The Vault-speaking surface under `/vault`: clients of Vault read through it what `/v1/secrets` holds.
//!
//! One mount, `secret/`, key-value version 2; its paths are our paths. Scopes, policies, tenants (as
//! namespaces), audit and limits are those of `/v1`: nothing is decided here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use hansa_actors::{Caller, Listed, SecretView, VaultLogin, VaultLoginError, VaultTokenError, VersionAsked};
use hansa_model::limits::secrets as limits;
use hansa_model::scope::Operator;
use hansa_model::secrets::duration;
use hansa_model::secrets::path::SecretPath;
use hansa_model::{Secret, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::answer::Answer;
use crate::code::Code;
use crate::problem::Problem;
use crate::request::Request;
use crate::route::{Parameter, ParameterKind};
use crate::secrets::values::{NewBody, new_value};
use crate::secrets::{caller, path};

/// The parameters of a read.
pub(crate) const READ_QUERY: &[Parameter] = &[Parameter {
    name: "version",
    kind: ParameterKind::Integer,
    description: "the version's number; 0 is the newest",
}];

/// The parameters of a look at metadata.
pub(crate) const METADATA_QUERY: &[Parameter] = &[Parameter {
    name: "list",
    kind: ParameterKind::Boolean,
    description: "list the keys of the folder instead",
}];

/// What every answer of this surface is.
#[derive(Serialize, ToSchema)]
#[schema(as = VaultAnswer)]
pub(crate) struct Envelope {
    request_id: String,
    lease_id: &'static str,
    renewable: bool,
    lease_duration: u64,
    #[schema(value_type = Option<Object>)]
    data: Option<Box<RawValue>>,
    #[schema(value_type = Option<Object>)]
    wrap_info: Option<Value>,
    warnings: Option<Vec<String>>,
    #[schema(value_type = Option<Object>)]
    auth: Option<Value>,
}

/// An AppRole that logs in.
#[derive(Deserialize, ToSchema)]
#[schema(as = VaultAppRoleLogin)]
pub(crate) struct AppRoleBody {
    role_id: String,
    #[serde(default)]
    secret_id: String,
}

/// A JWT that logs in.
#[derive(Deserialize, ToSchema)]
#[schema(as = VaultJwtLogin)]
pub(crate) struct JwtBody {
    jwt: String,
}

/// How much longer a token is to live.
#[derive(Deserialize, Default, ToSchema)]
#[schema(as = VaultRenewal)]
pub(crate) struct RenewalBody {
    /// Absent, zero or empty is the whole life that a login gives.
    increment: Option<Increment>,
}

/// A span as Vault's clients write it.
#[derive(Deserialize, ToSchema)]
#[schema(as = VaultIncrement)]
#[serde(untagged)]
pub(crate) enum Increment {
    /// Seconds.
    Seconds(u64),
    /// Seconds as text, or such as `15m`.
    Text(String),
}

/// A value to store.
#[derive(Deserialize, ToSchema)]
#[schema(as = VaultWrite)]
pub(crate) struct WriteBody {
    #[schema(value_type = Object)]
    data: Box<RawValue>,
    options: Option<WriteOptions>,
}

/// How it is stored.
#[derive(Deserialize, ToSchema)]
#[schema(as = VaultWriteOptions)]
pub(crate) struct WriteOptions {
    cas: Option<u64>,
}

/// Whether this node can serve.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = VaultHealth)]
pub(crate) struct Health {
    initialized: bool,
    sealed: bool,
    standby: bool,
    server_time_utc: i64,
    version: &'static str,
    cluster_name: &'static str,
}

/// Whether it was set up: a node that runs is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = VaultInit)]
pub(crate) struct Init {
    initialized: bool,
}

/// Whether it is sealed: a node that runs never is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = VaultSealStatus)]
pub(crate) struct SealStatus {
    #[serde(rename = "type")]
    kind: &'static str,
    initialized: bool,
    sealed: bool,
    t: u8,
    n: u8,
    progress: u8,
    nonce: &'static str,
    version: &'static str,
    cluster_name: &'static str,
}

/// The version of Vault whose answers these are shaped after; clients compare it.
const VERSION: &str = "1.15.0";

pub(crate) fn health(request: &Request) -> Result<Answer, Problem> {
    Answer::ok(&Health {
        initialized: true,
        sealed: false,
        standby: false,
        server_time_utc: request.federation.now().as_secs(),
        version: VERSION,
        cluster_name: "hansa",
    })
}

pub(crate) fn init(_request: &Request) -> Result<Answer, Problem> {
    Answer::ok(&Init { initialized: true })
}

pub(crate) fn seal_status(_request: &Request) -> Result<Answer, Problem> {
    Answer::ok(&SealStatus {
        kind: "shamir",
        initialized: true,
        sealed: false,
        t: 1,
        n: 1,
        progress: 0,
        nonce: "",
        version: VERSION,
        cluster_name: "hansa",
    })
}

/// Which mount a path lies in: there is one.
pub(crate) fn mount(request: &Request, _operator: &Operator) -> Result<Answer, Problem> {
    let path = request.argument("mounted_path");
    if path != "secret" && !path.starts_with("secret/") {
        // As Vault says it for a mount that a token may not know.
        return Err(Problem::new(Code::AccessDenied, "there is one mount: secret/"));
    }
    let mut mount = mount_facts();
    mount["path"] = "secret/".into();
    respond(request, &mount)
}

/// Every mount.
pub(crate) fn mounts(request: &Request, _operator: &Operator) -> Result<Answer, Problem> {
    respond(request, &json!({"auth": {}, "secret": {"secret/": mount_facts()}}))
}

fn mount_facts() -> Value {
    json!({
        "type": "kv",
        "description": "secrets of this node and of its backends",
        "options": {"version": "2"},
        "local": false,
        "seal_wrap": false,
        "external_entropy_access": false,
        "config": {"default_lease_ttl": 0, "max_lease_ttl": 0, "force_no_cache": false},
    })
}

pub(crate) fn lookup_self(request: &Request, operator: &Operator) -> Result<Answer, Problem> {
    let token = request.vault_token();
    let view = token.as_ref().and_then(|token| request.federation.vault_token(token.expose()));
    let now = request.federation.now();
    let left = view.as_ref().map_or(0, |view| view.expires_at.since(now).as_secs());
    let policies: Vec<&str> = operator.scopes.iter().map(|scope| scope.as_str()).collect();
    respond(
        request,
        &json!({
            "accessor": view.as_ref().map_or("", |view| view.accessor.as_str()),
            "creation_time": view.as_ref().map_or(0, |view| view.issued_at.as_secs()),
            "creation_ttl": view.as_ref().map_or(0, |view| view.ttl.as_secs()),
            "display_name": operator.userid,
            "entity_id": "",
            "expire_time": view.as_ref().map(|view| view.expires_at.to_string()),
            "explicit_max_ttl": 0,
            "id": "",
            "meta": null,
            "num_uses": 0,
            "orphan": true,
            "path": if view.is_some() { "auth/approle/login" } else { "auth/jwt/login" },
            "policies": policies,
            "renewable": view.is_some(),
            "ttl": left,
            "type": if view.is_some() { "service" } else { "batch" },
        }),
    )
}

/// Gives the caller's own token more time.
pub(crate) async fn renew_self(mut request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let body: RenewalBody = request.optional_json().await?;
    let increment = body.increment.map(Increment::span).transpose()?.flatten();
    let token = request.vault_token().ok_or(VaultTokenError::Foreign)?;
    let view = request.federation.renew_vault_token(&operator, &token, increment).await?;
    let scopes: Vec<&str> = operator.scopes.iter().map(|scope| scope.as_str()).collect();
    let left = view.expires_at.since(request.federation.now());
    authenticated(
        &request,
        json!({
            "client_token": token.expose(),
            "accessor": view.accessor,
            "policies": scopes,
            "token_policies": scopes,
            "metadata": null,
            "lease_duration": left.as_secs(),
            "renewable": true,
            "entity_id": "",
            "token_type": "service",
            "orphan": true,
            "num_uses": 0,
        }),
    )
}

/// Ends the caller's own token.
pub(crate) async fn revoke_self(request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let token = request.vault_token().ok_or(VaultTokenError::Foreign)?;
    request.federation.revoke_vault_token(&operator, &token).await?;
    Ok(Answer::no_content())
}

impl Increment {
    fn span(self) -> Result<Option<Duration>, Problem> {
        let text = match self {
            Self::Seconds(seconds) => return Ok(Some(Duration::from_secs(seconds))),
            Self::Text(text) if text.is_empty() => return Ok(None),
            Self::Text(text) => text,
        };
        let seconds = text.parse().ok().map(Duration::from_secs);
        seconds
            .map_or_else(|| duration::parse(&text), Ok)
            .map(Some)
            .map_err(|error| Problem::new(Code::InvalidDuration, format!("increment {error}")))
    }
}

pub(crate) async fn approle_login(mut request: Request) -> Result<Answer, Problem> {
    let body: AppRoleBody = request.json().await?;
    let secret_id = Secret::new(body.secret_id);
    let login = request.federation.vault_login(&body.role_id, &secret_id).await?;
    let VaultLogin { token, accessor, role, ttl } = login;
    let scopes: Vec<&str> = role.scopes.iter().map(|scope| scope.as_str()).collect();
    authenticated(
        &request,
        json!({
            "client_token": token.expose(),
            "accessor": accessor,
            "policies": scopes,
            "token_policies": scopes,
            "metadata": {"role_name": role.name},
            "lease_duration": ttl.as_secs(),
            "renewable": true,
            "entity_id": "",
            "token_type": "service",
            "orphan": true,
            "num_uses": 0,
        }),
    )
}

/// A token that this node takes anyway is given back as the token of this surface.
pub(crate) async fn jwt_login(mut request: Request) -> Result<Answer, Problem> {
    let body: JwtBody = request.json().await?;
    let jwt = Secret::new(body.jwt);
    let operator = request.federation.authenticate(jwt.expose()).await?;
    let scopes: Vec<&str> = operator.scopes.iter().map(|scope| scope.as_str()).collect();
    authenticated(
        &request,
        json!({
            "client_token": jwt.expose(),
            "accessor": "",
            "policies": scopes,
            "token_policies": scopes,
            "metadata": {"user": operator.userid},
            // It ends when the JWT does, which its holder knows.
            "lease_duration": 0,
            "renewable": false,
            "entity_id": "",
            "token_type": "batch",
            "orphan": true,
            "num_uses": 0,
        }),
    )
}

pub(crate) async fn read(request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let caller = caller(&request, &operator)?;
    let path = path(&request)?;
    let version = match request.query()?.number("version", 0..=usize::MAX)? {
        None | Some(0) => VersionAsked::Current,
        Some(number) => VersionAsked::Number(number as u64),
    };
    let view = request.federation.read_secret(&caller, &path, version).await.map_err(missing)?;
    let metadata = version_facts(view.created_at, view.version, &view);
    let data = format!(r#"{{"data":{},"metadata":{metadata}}}"#, view.data.expose());
    let data = RawValue::from_string(data).map_err(|error| Problem::internal(&error))?;
    envelope(&request, Some(data), None)
}

pub(crate) async fn write(mut request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let caller = caller(&request, &operator)?;
    let path = path(&request)?;
    let body: WriteBody = request.json().await?;
    let value = new_value(NewBody::vault(body.data, body.options.and_then(|options| options.cas)))?;
    let summary = request.federation.put_secret(&caller, &path, value).await?;
    let row = summary.row;
    respond(
        &request,
        &json!({
            "created_time": row.as_ref().map(|row| row.updated_at),
            "custom_metadata": null,
            "deletion_time": "",
            "destroyed": false,
            "version": row.as_ref().map(|row| row.current),
        }),
    )
}

pub(crate) async fn delete(request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let caller = caller(&request, &operator)?;
    let path = path(&request)?;
    request.federation.delete_secret(&caller, &path, false).await?;
    Ok(Answer::no_content())
}

pub(crate) async fn metadata(request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let caller = caller(&request, &operator)?;
    if request.query()?.flag("list")? {
        let folder = request.argument("path").trim_end_matches('/').to_owned();
        return list_folder(request, &caller, &folder).await;
    }
    let path = path(&request)?;
    let summary = request.federation.secret_summary(&caller, &path).await.map_err(missing)?;
    let Some(row) = summary.row else {
        // Only the backend knows its versions; that it is there is known.
        return respond(
            &request,
            &json!({
                "cas_required": false,
                "created_time": "",
                "current_version": 1,
                "custom_metadata": null,
                "delete_version_after": "0s",
                "max_versions": 0,
                "oldest_version": 0,
                "updated_time": "",
                "versions": {},
            }),
        );
    };
    let versions: BTreeMap<String, Value> = row
        .versions
        .iter()
        .map(|version| {
            let facts = json!({"created_time": version.created_at, "deletion_time": "", "destroyed": false});
            (version.number.to_string(), facts)
        })
        .collect();
    respond(
        &request,
        &json!({
            "cas_required": false,
            "created_time": row.created_at,
            "current_version": row.current,
            "custom_metadata": null,
            "delete_version_after": "0s",
            "max_versions": row.max_versions,
            "oldest_version": row.versions.first().map_or(0, |version| version.number),
            "updated_time": row.updated_at,
            "versions": versions,
        }),
    )
}

/// The top of the mount.
pub(crate) async fn list_top(request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let caller = caller(&request, &operator)?;
    list_folder(request, &caller, "").await
}

/// The keys right below a folder: folders end in a slash.
async fn list_folder(request: Request, caller: &Caller, folder: &str) -> Result<Answer, Problem> {
    let prefix = match folder {
        "" => String::new(),
        folder => {
            let folder: SecretPath = folder
                .parse()
                .map_err(|error| Problem::new(Code::InvalidPath, format!("the path of a folder {error}")))?;
            format!("{folder}/")
        }
    };
    let mut keys = BTreeSet::new();
    let mut warnings = Vec::new();
    let mut cursor = None;
    for _ in 0..PAGES_MAX {
        let page = request.federation.list_secrets(caller, &prefix, cursor, limits::PAGE_MAX).await?;
        for entry in page.entries {
            let path = match entry {
                Listed::Secret(summary) => summary.path.to_string(),
                Listed::Folder(folder) => folder,
            };
            let Some(rest) = path.strip_prefix(&prefix) else { continue };
            match rest.split_once('/') {
                Some((folder, _)) => keys.insert(format!("{folder}/")),
                None => keys.insert(rest.to_owned()),
            };
        }
        warnings.extend(page.warnings);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    if cursor.is_some() {
        warnings.push("there are more keys than one answer shows: list a folder below".to_owned());
    }
    if keys.is_empty() {
        return Err(Problem::new(Code::SecretNotFound, "there is nothing in this folder"));
    }
    let data = RawValue::from_string(json!({ "keys": keys }).to_string());
    let data = data.map_err(|error| Problem::internal(&error))?;
    envelope(&request, Some(data), Some(warnings).filter(|warnings| !warnings.is_empty()))
}

/// Pages of one list: as many keys as Vault's own clients bear.
const PAGES_MAX: usize = 50;

fn version_facts(created_at: Option<Timestamp>, version: u64, view: &SecretView) -> Value {
    json!({
        "created_time": created_at.map(|at| at.to_string()).unwrap_or_default(),
        "custom_metadata": view.source.as_ref().map(|source| json!({
            "backend_id": source.backend.to_string(),
            "backend_path": source.name,
            "age_seconds": source.age.as_secs().to_string(),
        })),
        "deletion_time": "",
        "destroyed": false,
        "version": version,
    })
}

fn missing(error: hansa_actors::backends::error::SecretError) -> Problem {
    error.into()
}

fn respond(request: &Request, data: &Value) -> Result<Answer, Problem> {
    let data = RawValue::from_string(data.to_string()).map_err(|error| Problem::internal(&error))?;
    envelope(request, Some(data), None)
}

fn authenticated(request: &Request, auth: Value) -> Result<Answer, Problem> {
    Answer::ok(&Envelope { auth: Some(auth), ..plain(request) })
}

fn envelope(
    request: &Request,
    data: Option<Box<RawValue>>,
    warnings: Option<Vec<String>>,
) -> Result<Answer, Problem> {
    Answer::ok(&Envelope { data, warnings, ..plain(request) })
}

fn plain(request: &Request) -> Envelope {
    Envelope {
        request_id: request.id_text().to_owned(),
        lease_id: "",
        renewable: false,
        lease_duration: 0,
        data: None,
        wrap_info: None,
        warnings: None,
        auth: None,
    }
}

impl From<VaultTokenError> for Problem {
    fn from(error: VaultTokenError) -> Self {
        match error {
            VaultTokenError::Foreign => Self::new(Code::InvalidBody, error.to_string()),
            VaultTokenError::Ended => Self::new(Code::TokenInvalid, error.to_string()),
            VaultTokenError::Unavailable(error) => error.into(),
        }
    }
}

impl From<VaultLoginError> for Problem {
    fn from(error: VaultLoginError) -> Self {
        match error {
            VaultLoginError::Refused => Self::new(Code::VaultLoginRefused, error.to_string()),
            VaultLoginError::Unavailable(error) => error.into(),
        }
    }
}
