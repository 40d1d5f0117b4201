//! Secrets: read, versions, list, write, delete, batch (contract C.1).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::http::header::AGE;
use hansa_actors::{Listed, NewValue, SecretCursor, SecretSummary, SecretView, SourceView, VersionAsked};
use hansa_model::Timestamp;
use hansa_model::limits::secrets as limits;
use hansa_model::scope::Operator;
use hansa_model::secrets::duration;
use hansa_model::secrets::path::SecretPath;
use hansa_model::secrets::row::{SecretRow, SecretType};
use hansa_model::secrets::value::SecretData;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{CURSOR, LIMIT, caller, cursor, cursor_text, limit, path};
use crate::answer::Answer;
use crate::code::Code;
use crate::problem::Problem;
use crate::request::Request;
use crate::route::{Parameter, ParameterKind};

/// The parameters of a read.
pub(crate) const READ_QUERY: &[Parameter] = &[
    Parameter {
        name: "version",
        kind: ParameterKind::Integer,
        description: "the version's number; default the newest",
    },
    Parameter {
        name: "backend_version",
        kind: ParameterKind::Text,
        description: "the backend's own name of the version, for backends that do not count",
    },
];

/// The parameters of a list.
pub(crate) const LIST_QUERY: &[Parameter] = &[
    Parameter {
        name: "prefix",
        kind: ParameterKind::Text,
        description: "the literal beginning of the paths",
    },
    LIMIT,
    CURSOR,
];

/// The parameters of a deletion.
pub(crate) const DELETE_QUERY: &[Parameter] = &[Parameter {
    name: "hard",
    kind: ParameterKind::Boolean,
    description: "delete all versions and their keys at once, also of a secret that is deleted already",
}];

/// A secret with its value.
#[derive(Serialize, ToSchema)]
#[schema(as = Secret)]
pub(crate) struct SecretBody {
    path: String,
    /// `kv`, `json`, `certificate`, `ssh_key` or `api_key`.
    secret_type: &'static str,
    version: u64,
    /// The value: a JSON object.
    #[schema(value_type = Object)]
    data: Box<RawValue>,
    /// What its owner says about it; for backends' secrets also `source`.
    #[schema(value_type = Object)]
    metadata: Value,
    #[schema(value_type = Option<String>, format = DateTime)]
    created_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    updated_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// Always null: rotation policies are not kept here.
    rotation_policy_id: Option<String>,
    /// Seconds since the backend was last known to hold this; absent for the node's own secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    age_seconds: Option<u64>,
    /// The copy is older than two intervals; absent for what is not a copy.
    #[serde(skip_serializing_if = "Option::is_none")]
    stale: Option<bool>,
}

/// A secret without its value.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SecretMetadata)]
pub(crate) struct SummaryBody {
    path: String,
    /// `kv`, `json`, `certificate`, `ssh_key` or `api_key`; null for what only its backend knows.
    secret_type: Option<&'static str>,
    /// The newest; null likewise.
    version: Option<u64>,
    #[schema(value_type = Object)]
    metadata: Value,
    #[schema(value_type = Option<String>, format = DateTime)]
    created_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    updated_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// Whose it is; null for the node's own.
    backend_id: Option<String>,
}

/// One line of a list.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ListedSecret)]
pub(crate) struct ListedBody {
    /// Ends in `/` where a backend names a folder.
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    updated_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backend_id: Option<String>,
}

/// A page of secrets.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SecretPage)]
pub(crate) struct PageBody {
    secrets: Vec<ListedBody>,
    /// Give it as `cursor` to get the next page; null on the last one.
    cursor: Option<String>,
    has_more: bool,
    /// Backends that did not answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// A value to store.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewSecret)]
pub(crate) struct NewBody {
    /// The value: a JSON object.
    #[schema(value_type = Object)]
    data: Box<RawValue>,
    /// `kv`, `json`, `certificate`, `ssh_key` or `api_key`; absent keeps, or is `kv`.
    secret_type: Option<String>,
    /// Replaces what is there; absent keeps.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Box<RawValue>>,
    options: Option<OptionsBody>,
}

impl NewBody {
    /// As the Vault-speaking surface says it.
    pub(crate) fn vault(data: Box<RawValue>, cas: Option<u64>) -> Self {
        let options = OptionsBody { max_versions: None, expires_in: None, rotation_policy_id: None, cas };
        Self { data, secret_type: None, metadata: None, options: Some(options) }
    }
}

/// How a value is kept.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SecretOptions)]
pub(crate) struct OptionsBody {
    /// 1 to 100; default 10.
    max_versions: Option<u32>,
    /// Such as `90d`.
    expires_in: Option<String>,
    /// Not kept here; must be absent or null.
    rotation_policy_id: Option<String>,
    /// The version that must be the newest; 0 for none at all.
    cas: Option<u64>,
}

/// Secrets to read together.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SecretBatch)]
pub(crate) struct BatchBody {
    /// At most 100.
    paths: Vec<String>,
    options: Option<BatchOptions>,
}

/// How they are read.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SecretBatchOptions)]
pub(crate) struct BatchOptions {
    /// Show what the owners say about them.
    #[serde(default)]
    include_metadata: bool,
    /// End at the first that is refused.
    #[serde(default)]
    fail_fast: bool,
    /// Of each; default the newest.
    version: Option<u64>,
}

/// What was read together.
#[derive(Serialize, ToSchema)]
#[schema(as = SecretBatchAnswer)]
pub(crate) struct BatchAnswer {
    secrets: BTreeMap<String, BatchSecret>,
    errors: BTreeMap<String, BatchRefusal>,
}

/// One of them.
#[derive(Serialize, ToSchema)]
pub(crate) struct BatchSecret {
    #[schema(value_type = Object)]
    data: Box<RawValue>,
    version: u64,
    secret_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
}

/// One that was refused.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BatchRefusal {
    code: &'static str,
    message: String,
}

/// Secrets to look at together.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SecretMetadataBatch)]
pub(crate) struct MetadataBatchBody {
    /// At most 100; with `expand_wildcards` also paths that end in `/**`.
    paths: Vec<String>,
    #[serde(default)]
    expand_wildcards: bool,
}

/// What was looked at together.
#[derive(Serialize, ToSchema)]
#[schema(as = SecretMetadataBatchAnswer)]
pub(crate) struct MetadataBatchAnswer {
    secrets: BTreeMap<String, SummaryBody>,
    errors: BTreeMap<String, BatchRefusal>,
}

/// The versions of a secret.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SecretVersions)]
pub(crate) struct VersionsBody {
    path: String,
    current_version: u64,
    /// Newest first; those whose values are kept.
    versions: Vec<VersionBody>,
}

/// One of them.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SecretVersion)]
pub(crate) struct VersionBody {
    version: u64,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    created_by: String,
    /// The backend's own name of it; null for the node's own.
    backend_version: Option<String>,
}

pub(crate) async fn read(request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let caller = caller(&request, &operator)?;
    let path = path(&request)?;
    let query = request.query()?;
    let version = match (query.opaque("version")?, query.opaque("backend_version")?) {
        (None, None) => VersionAsked::Current,
        (Some(text), None) => VersionAsked::Number(
            text.parse()
                .ok()
                .filter(|number| *number > 0)
                .ok_or_else(|| Problem::new(Code::InvalidQuery, "version must be a whole number from 1"))?,
        ),
        (None, Some(name)) if name.len() <= limits::CONFIG_TEXT_BYTES_MAX => {
            VersionAsked::Backend(name.to_owned())
        }
        (_, Some(_)) => {
            return Err(Problem::new(Code::InvalidQuery, "give version or backend_version, not both"));
        }
    };
    let view = request.federation.read_secret(&caller, &path, version).await?;
    let age = view.source.as_ref().map(|source| source.age.as_secs());
    let answer = Answer::ok(&SecretBody::from(view))?;
    Ok(match age {
        Some(age) => answer.with_header(AGE, age.to_string()),
        None => answer,
    })
}

pub(crate) async fn write(mut request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let caller = caller(&request, &operator)?;
    let path = path(&request)?;
    let body: NewBody = request.json().await?;
    let value = new_value(body)?;
    let summary = request.federation.put_secret(&caller, &path, value).await?;
    Answer::ok(&SummaryBody::from(summary))
}

pub(crate) async fn delete(request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let caller = caller(&request, &operator)?;
    let path = path(&request)?;
    let hard = request.query()?.flag("hard")?;
    request.federation.delete_secret(&caller, &path, hard).await?;
    Ok(Answer::no_content())
}

pub(crate) async fn versions(request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let caller = caller(&request, &operator)?;
    let path = path(&request)?;
    let summary = request.federation.secret_summary(&caller, &path).await?;
    let Some(row) = summary.row else {
        let detail = "the versions of a proxied secret are its backend's: read them one by one";
        return Err(Problem::new(Code::SecretVersionNotFound, detail));
    };
    let versions = row.versions.iter().rev().map(|version| VersionBody {
        version: version.number,
        created_at: version.created_at,
        created_by: version.created_by.clone(),
        backend_version: version.backend_version.clone(),
    });
    Answer::ok(&VersionsBody {
        path: path.to_string(),
        current_version: row.current,
        versions: versions.collect(),
    })
}

pub(crate) async fn list(request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let caller = caller(&request, &operator)?;
    let query = request.query()?;
    let prefix = prefix(query.opaque("prefix")?.unwrap_or_default())?;
    let place: Option<SecretCursor> = cursor(&request)?;
    let page = request.federation.list_secrets(&caller, prefix, place, limit(&request)?).await?;
    Answer::ok(&PageBody {
        secrets: page.entries.into_iter().map(ListedBody::from).collect(),
        has_more: page.next.is_some(),
        cursor: page.next.map(|place| cursor_text(&place)),
        warnings: page.warnings,
    })
}

pub(crate) async fn batch(mut request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let caller = caller(&request, &operator)?;
    let body: BatchBody = request.json().await?;
    let options = body.options.unwrap_or_default();
    let version = options.version.map_or(VersionAsked::Current, VersionAsked::Number);
    let mut answer = BatchAnswer { secrets: BTreeMap::new(), errors: BTreeMap::new() };
    for text in distinct(body.paths)? {
        let read = match text.parse::<SecretPath>() {
            Ok(path) => {
                request.federation.read_secret(&caller, &path, version.clone()).await.map_err(Problem::from)
            }
            Err(error) => Err(Problem::new(Code::InvalidPath, format!("the path {error}"))),
        };
        match read {
            Ok(view) => {
                let secret = SecretBody::from(view);
                answer.secrets.insert(
                    text,
                    BatchSecret {
                        data: secret.data,
                        version: secret.version,
                        secret_type: secret.secret_type,
                        metadata: options.include_metadata.then_some(secret.metadata),
                    },
                );
            }
            Err(problem) => {
                answer.errors.insert(printable(text), BatchRefusal::from(&problem));
                if options.fail_fast {
                    break;
                }
            }
        }
    }
    Answer::ok(&answer)
}

pub(crate) async fn batch_metadata(mut request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let caller = caller(&request, &operator)?;
    let body: MetadataBatchBody = request.json().await?;
    let mut answer = MetadataBatchAnswer { secrets: BTreeMap::new(), errors: BTreeMap::new() };
    for text in distinct(body.paths)? {
        if let Some(stem) = text.strip_suffix("/**").filter(|_| body.expand_wildcards) {
            match request.federation.list_secrets(&caller, &format!("{stem}/"), None, limits::PAGE_MAX).await
            {
                Ok(page) => {
                    let secrets = page.entries.into_iter().filter_map(|entry| match entry {
                        Listed::Secret(summary) => Some(SummaryBody::from(summary)),
                        Listed::Folder(_) => None,
                    });
                    answer.secrets.extend(secrets.map(|summary| (summary.path.clone(), summary)));
                }
                Err(error) => {
                    answer.errors.insert(printable(text), BatchRefusal::from(&Problem::from(error)));
                }
            }
            continue;
        }
        let looked_at = match text.parse::<SecretPath>() {
            Ok(path) => request.federation.secret_summary(&caller, &path).await.map_err(Problem::from),
            Err(error) => Err(Problem::new(Code::InvalidPath, format!("the path {error}"))),
        };
        match looked_at {
            Ok(summary) => {
                answer.secrets.insert(text, SummaryBody::from(summary));
            }
            Err(problem) => {
                answer.errors.insert(printable(text), BatchRefusal::from(&problem));
            }
        }
    }
    Answer::ok(&answer)
}

/// What a body asks to store, judged.
pub(crate) fn new_value(body: NewBody) -> Result<NewValue, Problem> {
    let options = body.options.unwrap_or(OptionsBody {
        max_versions: None,
        expires_in: None,
        rotation_policy_id: None,
        cas: None,
    });
    if options.rotation_policy_id.is_some() {
        let detail = "options.rotation_policy_id is not kept here: leave it out";
        return Err(Problem::field(Code::InvalidValue, "options", detail));
    }
    let data = SecretData::parse(body.data.get())
        .map_err(|error| Problem::field(Code::InvalidValue, "data", format!("data {error}")))?;
    let secret_type = body.secret_type.map(|text| text.parse::<SecretType>()).transpose();
    let secret_type =
        secret_type.map_err(|error| Problem::new(Code::InvalidSecretType, format!("secret_type {error}")))?;
    let metadata = body
        .metadata
        .map(|metadata| SecretData::parse(metadata.get()))
        .transpose()
        .map_err(|_| Problem::field(Code::InvalidValue, "metadata", "metadata is not a JSON object"))?;
    if metadata.as_ref().is_some_and(|metadata| metadata.expose().len() > limits::METADATA_BYTES_MAX) {
        return Err(Problem::field(Code::InvalidValue, "metadata", "metadata has at most 16 KiB"));
    }
    if options.max_versions.is_some_and(|max| !(1..=limits::VERSIONS_KEPT_MAX).contains(&max)) {
        return Err(Problem::field(
            Code::InvalidValue,
            "options",
            "options.max_versions is between 1 and 100",
        ));
    }
    let expires_in = options
        .expires_in
        .map(|text| duration::parse(&text))
        .transpose()
        .map_err(|error| Problem::new(Code::InvalidDuration, format!("options.expires_in {error}")))?;
    Ok(NewValue {
        data,
        secret_type,
        metadata: metadata.map(|metadata| metadata.expose().to_owned()),
        max_versions: options.max_versions,
        expires_in,
        expected: options.cas,
    })
}

/// A prefix is a path, or the beginning of one.
fn prefix(text: &str) -> Result<&str, Problem> {
    let stem = text.strip_suffix('/').unwrap_or(text);
    match stem.parse::<SecretPath>() {
        Ok(_) => Ok(text),
        Err(_) if text.is_empty() => Ok(text),
        Err(error) => Err(Problem::new(Code::InvalidPath, format!("prefix {error}"))),
    }
}

fn distinct(paths: Vec<String>) -> Result<BTreeSet<String>, Problem> {
    if paths.is_empty() || paths.len() > limits::BATCH_PATHS_MAX {
        return Err(Problem::field(Code::InvalidValue, "paths", "paths has 1 to 100 entries"));
    }
    Ok(paths.into_iter().collect())
}

/// A path that did not parse, so that its answer can be found again without repeating what may be anything.
fn printable(text: String) -> String {
    if text.len() <= limits::PATH_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        text
    } else {
        "(not printable)".to_owned()
    }
}

impl From<&Problem> for BatchRefusal {
    fn from(problem: &Problem) -> Self {
        Self { code: problem.code().as_str(), message: problem.detail().to_owned() }
    }
}

impl From<SecretView> for SecretBody {
    fn from(view: SecretView) -> Self {
        let mut metadata: Value = serde_json::from_str(&view.metadata).unwrap_or_default();
        if let Some(SourceView { backend, name, version, .. }) = &view.source {
            metadata["source"] = serde_json::json!({
                "backend_id": backend.to_string(),
                "backend_path": name,
                "backend_version": version,
            });
        }
        Self {
            path: view.path.to_string(),
            secret_type: view.secret_type.as_str(),
            version: view.version,
            // The text is canonical JSON by its type.
            data: RawValue::from_string(view.data.expose().to_owned()).unwrap_or_default(),
            metadata,
            created_at: view.created_at,
            updated_at: view.updated_at,
            expires_at: view.expires_at,
            rotation_policy_id: None,
            age_seconds: view.source.as_ref().map(|source| source.age.as_secs()),
            stale: view.source.as_ref().map(|source| source.stale),
        }
    }
}

impl From<SecretSummary> for SummaryBody {
    fn from(summary: SecretSummary) -> Self {
        let row = summary.row.as_deref();
        Self {
            path: summary.path.to_string(),
            secret_type: row.map(|row| row.secret_type.as_str()),
            version: row.map(|row| row.current),
            metadata: row
                .and_then(|row| serde_json::from_str(&row.metadata).ok())
                .unwrap_or_else(|| serde_json::json!({})),
            created_at: row.map(|row| row.created_at),
            updated_at: row.map(|row| row.updated_at),
            expires_at: row.and_then(|row| row.expires_at),
            backend_id: summary.backend.map(|id| id.to_string()),
        }
    }
}

impl From<Listed> for ListedBody {
    fn from(listed: Listed) -> Self {
        let (path, row, backend): (String, Option<Arc<SecretRow>>, _) = match listed {
            Listed::Secret(summary) => (summary.path.to_string(), summary.row, summary.backend),
            Listed::Folder(folder) => (folder, None, None),
        };
        Self {
            path,
            version: row.as_ref().map(|row| row.current),
            secret_type: row.as_ref().map(|row| row.secret_type.as_str()),
            updated_at: row.as_ref().map(|row| row.updated_at),
            backend_id: backend.map(|id| id.to_string()),
        }
    }
}
