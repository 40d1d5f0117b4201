//! Policies on paths: who may do what with which secrets (contract A.3).

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::http::StatusCode;
use hansa_actors::backends::PolicyDraft;
use hansa_model::Timestamp;
use hansa_model::limits::secrets as limits;
use hansa_model::scope::Operator;
use hansa_model::secrets::id::PathPolicyId;
use hansa_model::secrets::policy::{PathPolicy, PathRule};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{caller, cursor, cursor_text, limit, page_of};
use crate::answer::Answer;
use crate::code::Code;
use crate::problem::Problem;
use crate::request::Request;

/// A policy on paths.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PathPolicy)]
pub(crate) struct PolicyBody {
    id: String,
    name: String,
    description: String,
    /// Any that matches allows; nothing denies.
    rules: Vec<RuleBody>,
    /// Whom it binds: user ids, client ids, `approle:NAME`; `*` is everybody of the tenant.
    identities: BTreeSet<String>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

/// One line of a policy.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PathRule)]
pub(crate) struct RuleBody {
    /// `**` any number of segments, `*` one, `?` one character.
    path_pattern: String,
    /// Of `read`, `write`, `delete`, `list`, `rotate`, `admin`.
    permissions: BTreeSet<String>,
}

/// A page of policies.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PathPolicyPage {
    policies: Vec<PolicyBody>,
    /// Give it as `cursor` to get the next page; null on the last one.
    cursor: Option<String>,
    has_more: bool,
}

/// A policy to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewPathPolicy)]
pub(crate) struct NewBody {
    name: String,
    #[serde(default)]
    description: String,
    rules: Vec<RuleBody>,
    identities: BTreeSet<String>,
}

/// Changes of a policy: absent keeps, lists are replaced whole.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PathPolicyPatch)]
pub(crate) struct PatchBody {
    name: Option<String>,
    description: Option<String>,
    rules: Option<Vec<RuleBody>>,
    identities: Option<BTreeSet<String>>,
}

pub(crate) async fn list(request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let caller = caller(&request, &operator)?;
    let after: Option<PathPolicyId> = cursor(&request)?;
    let rows = request.federation.path_policies(&caller.tenant)?;
    let (page, next) = page_of(rows, |row| row.id, after, limit(&request)?);
    Answer::ok(&PathPolicyPage {
        policies: page.iter().map(|policy| PolicyBody::from(&**policy)).collect(),
        has_more: next.is_some(),
        cursor: next.map(|id| cursor_text(&id)),
    })
}

pub(crate) async fn create(mut request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let caller = caller(&request, &operator)?;
    let body: NewBody = request.json().await?;
    let draft = draft(body.name, body.description, rules(body.rules)?, body.identities)?;
    let policy = request.federation.put_path_policy(&operator, &caller.tenant, None, draft).await?;
    Answer::json(StatusCode::CREATED, &PolicyBody::from(&policy))
}

pub(crate) async fn show(request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let caller = caller(&request, &operator)?;
    let policies = request.federation.path_policies(&caller.tenant)?;
    Answer::ok(&PolicyBody::from(&*find(&request, &policies)?))
}

pub(crate) async fn patch(mut request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let caller = caller(&request, &operator)?;
    let policies = request.federation.path_policies(&caller.tenant)?;
    let old = find(&request, &policies)?;
    let body: PatchBody = request.json().await?;
    let rules = match body.rules {
        Some(given) => rules(given)?,
        None => old.rules.clone(),
    };
    let draft = draft(
        body.name.unwrap_or_else(|| old.name.clone()),
        body.description.unwrap_or_else(|| old.description.clone()),
        rules,
        body.identities.unwrap_or_else(|| old.identities.clone()),
    )?;
    let policy = request.federation.put_path_policy(&operator, &caller.tenant, Some(old.id), draft).await?;
    Answer::ok(&PolicyBody::from(&policy))
}

pub(crate) async fn remove(request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let caller = caller(&request, &operator)?;
    request.federation.remove_path_policy(&operator, &caller.tenant, id(&request)?).await?;
    Ok(Answer::no_content())
}

fn id(request: &Request) -> Result<PathPolicyId, Problem> {
    // A malformed id is one that nobody has.
    request.argument("path_policy_id").parse().map_err(|_| missing())
}

fn missing() -> Problem {
    Problem::new(Code::PolicyNotFound, "there is no such policy: its id begins with pol_")
}

fn find(request: &Request, policies: &[Arc<PathPolicy>]) -> Result<Arc<PathPolicy>, Problem> {
    let id = id(request)?;
    policies.iter().find(|policy| policy.id == id).cloned().ok_or_else(missing)
}

fn draft(
    name: String,
    description: String,
    rules: Vec<PathRule>,
    identities: BTreeSet<String>,
) -> Result<PolicyDraft, Problem> {
    let prints = |text: &str| !text.chars().any(char::is_control);
    if name.is_empty() || name.len() > limits::NAME_BYTES_MAX || !prints(&name) {
        return Err(Problem::field(Code::InvalidValue, "name", "name has 1 to 128 printable characters"));
    }
    if description.len() > limits::CONFIG_TEXT_BYTES_MAX || !prints(&description) {
        let detail = "description has at most 2048 printable characters";
        return Err(Problem::field(Code::InvalidValue, "description", detail));
    }
    let fits = |text: &String| !text.is_empty() && text.len() <= limits::PATH_BYTES_MAX && prints(text);
    if identities.is_empty() || identities.len() > limits::POLICY_RULES_MAX || !identities.iter().all(fits) {
        let detail = "identities has 1 to 100 entries: user ids, client ids, approle:NAME, or *";
        return Err(Problem::field(Code::InvalidValue, "identities", detail));
    }
    Ok(PolicyDraft { name, description, rules, identities })
}

fn rules(bodies: Vec<RuleBody>) -> Result<Vec<PathRule>, Problem> {
    if bodies.is_empty() || bodies.len() > limits::POLICY_RULES_MAX {
        return Err(Problem::field(Code::InvalidValue, "rules", "rules has 1 to 100 entries"));
    }
    bodies
        .into_iter()
        .map(|body| {
            let path_pattern = body
                .path_pattern
                .parse()
                .map_err(|error| Problem::new(Code::InvalidGlob, format!("path_pattern {error}")))?;
            let permissions: Result<BTreeSet<_>, _> =
                body.permissions.iter().map(|text| text.parse()).collect();
            let permissions =
                permissions.map_err(|error: hansa_model::secrets::policy::UnknownPermission| {
                    Problem::field(Code::InvalidValue, "rules", format!("permissions: an entry {error}"))
                })?;
            if permissions.is_empty() {
                let detail = "permissions has at least one entry";
                return Err(Problem::field(Code::InvalidValue, "rules", detail));
            }
            Ok(PathRule { path_pattern, permissions })
        })
        .collect()
}

impl From<&PathPolicy> for PolicyBody {
    fn from(policy: &PathPolicy) -> Self {
        let rules = policy.rules.iter().map(|rule| RuleBody {
            path_pattern: rule.path_pattern.as_str().to_owned(),
            permissions: rule.permissions.iter().map(|permission| permission.as_str().to_owned()).collect(),
        });
        Self {
            id: policy.id.to_string(),
            name: policy.name.clone(),
            description: policy.description.clone(),
            rules: rules.collect(),
            identities: policy.identities.clone(),
            created_at: policy.created_at,
            updated_at: policy.updated_at,
        }
    }
}
