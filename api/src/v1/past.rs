//! A host's past at the coordinator: what changed, as long as the ingest log is kept (ours).

use std::sync::Arc;

use hansa_model::limits::past as limits;
use hansa_model::machine::past::{Happened, Member, PastChange};
use hansa_model::scope::Operator;
use hansa_model::{HostId, Timestamp};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::answer::{Answer, Licensed};
use crate::problem::Problem;
use crate::request::Request;
use crate::route::{Parameter, ParameterKind};

/// What changed at one host.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HistoryAnswer {
    #[schema(value_type = bool)]
    licensed: Licensed,
    host_id: Uuid,
    /// Newest first.
    changes: Vec<ChangeBody>,
    /// Whether older changes are kept than the answer has.
    more: bool,
    /// From then on every change is kept; null when nothing was folded away yet.
    #[schema(value_type = Option<String>, format = DateTime)]
    kept_from: Option<Timestamp>,
}

/// One change of a host.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = HostHistoryChange)]
pub(crate) struct ChangeBody {
    /// When it arrived.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// Whose report it was.
    site_id: Uuid,
    /// `added`, `changed`, `removed`, or `first_kept`: what was before is not kept.
    change: &'static str,
    /// What changed; `last_seen` and `mtime` move with each report and are left out.
    members: Vec<MemberBody>,
}

/// One member of a host that changed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = HostHistoryMember)]
pub(crate) struct MemberBody {
    /// Its name.
    member: &'static str,
    /// What it was.
    #[schema(value_type = serde_json::Value)]
    from: Value,
    /// What it is.
    #[schema(value_type = serde_json::Value)]
    to: Value,
}

/// The parameters of a host's history.
pub(crate) const HISTORY_QUERY: &[Parameter] =
    &[Parameter { name: "limit", kind: ParameterKind::Integer, description: "changes, 1 to 1,000" }];

/// The parameters of one host.
pub(crate) const HOST_QUERY: &[Parameter] = &[Parameter {
    name: "at",
    kind: ParameterKind::Instant,
    description: "the host as it was then, as far back as the log is kept",
}];

impl From<PastChange> for ChangeBody {
    fn from(change: PastChange) -> Self {
        let member = |member: Member| match member {
            Member::Null => Value::Null,
            Member::Text(text) => text.into(),
            Member::Degrees(degrees) => degrees.into(),
        };
        let members = change.members.into_iter();
        let happened: Happened = change.happened;
        Self {
            at: change.at,
            site_id: change.site.0,
            change: happened.as_str(),
            members: members
                .map(|change| MemberBody {
                    member: change.member,
                    from: member(change.from),
                    to: member(change.to),
                })
                .collect(),
        }
    }
}

pub(crate) async fn history(request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let id: HostId = request.id("host_id")?;
    let limit = request.query()?.number("limit", 1..=limits::LIMIT_MAX)?.unwrap_or(limits::LIMIT_DEFAULT);
    let view = request.federation.host_history(&operator, id, limit).await?;
    Answer::ok(&HistoryAnswer {
        licensed: Licensed,
        host_id: view.host_id.0,
        changes: view.changes.into_iter().map(ChangeBody::from).collect(),
        more: view.more,
        kept_from: view.kept_from,
    })
}
