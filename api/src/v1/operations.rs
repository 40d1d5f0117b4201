//! Operations: is it alive, is it ready, what does it count, which version, a copy of its store.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::StatusCode;
use hansa_actors::Federation;
use hansa_model::scope::Operator;
use serde::Serialize;
use utoipa::ToSchema;

use crate::answer::Answer;
use crate::code::Code;
use crate::openapi::open_api;
use crate::problem::Problem;
use crate::request::Request;

/// The process answers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Liveness {
    /// `alive`.
    status: &'static str,
}

/// Whether the node can do its work.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReadinessAnswer {
    ready: bool,
    /// Each check by name, with `?verbose`.
    #[serde(skip_serializing_if = "Option::is_none")]
    checks: Option<BTreeMap<&'static str, bool>>,
}

/// The software.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Version {
    name: &'static str,
    version: &'static str,
}

/// A backup on the node's disk.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Backup {
    /// Where it lies.
    path: String,
    bytes: u64,
}

pub(crate) fn livez(_request: &Request) -> Result<Answer, Problem> {
    Answer::ok(&Liveness { status: "alive" })
}

pub(crate) fn readyz(request: &Request) -> Result<Answer, Problem> {
    let readiness = request.federation.readiness();
    let verbose = request.query()?.present("verbose");
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let checks = verbose.then(|| readiness.checks.iter().copied().collect());
    Answer::json(status, &ReadinessAnswer { ready: readiness.ready, checks })
}

pub(crate) fn metrics(request: &Request) -> Result<Answer, Problem> {
    let text = request.federation.metrics_text();
    Ok(Answer::text("application/openmetrics-text; version=1.0.0; charset=utf-8", text))
}

pub(crate) fn version(_request: &Request) -> Result<Answer, Problem> {
    Answer::ok(&Version { name: "hansa", version: Federation::version() })
}

pub(crate) fn specification(_request: &Request) -> Result<Answer, Problem> {
    Ok(Answer::text("application/json", open_api()))
}

/// The folder is the node's own choice: no call can name where files are written.
pub(crate) async fn backup(request: Request, _operator: Arc<Operator>) -> Result<Answer, Problem> {
    let Some(folder) = request.backups() else {
        let detail = "this node was started without a folder for backups: name one in its configuration";
        return Err(Problem::new(Code::BackupUnavailable, detail));
    };
    let backup = request.federation.backup(folder).await?;
    let path = backup.path.to_string_lossy().into_owned();
    Answer::json(StatusCode::CREATED, &Backup { path, bytes: backup.bytes })
}
