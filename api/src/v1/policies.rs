//! Policies, who should hold them, and their rollouts (contract B4 and ours).

use std::collections::BTreeSet;
use std::sync::Arc;

use hansa_actors::view::{
    AssignmentView, PlanView, PolicyDetail, PolicyView, PushRequest, RolloutChange, RolloutView,
};
use hansa_model::id::PolicyId;
use hansa_model::limits::policy as limits;
use hansa_model::machine::policy::Change;
use hansa_model::machine::rollout::Staging;
use hansa_model::policy::{NewPolicy, PolicyPatch, WaitFor, WaveSize};
use hansa_model::report::PolicyReport;
use hansa_model::scope::Operator;
use hansa_model::secret::hex;
use hansa_model::{SiteId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::sites::present;
use crate::answer::{Answer, Licensed};
use crate::code::Code;
use crate::json::{self, given};
use crate::problem::Problem;
use crate::request::Request;

/// A policy.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Policy)]
pub(crate) struct PolicyBody {
    id: Uuid,
    /// Chooses the connector at the site.
    policy_type: String,
    name: String,
    description: Option<String>,
    /// The definition as JSON text, its keys sorted.
    definition_json: String,
    /// Rises by one with every real change.
    version: u32,
    /// False once it was deactivated, which is for good.
    is_active: bool,
    /// The present version goes to a site only once a push or a rollout releases it there.
    held: bool,
    created_by: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl From<PolicyView> for PolicyBody {
    fn from(PolicyView { id, policy }: PolicyView) -> Self {
        Self {
            id: id.0,
            policy_type: policy.policy_type,
            name: policy.name,
            description: policy.description,
            definition_json: policy.definition,
            version: policy.version,
            is_active: policy.is_active,
            held: policy.held,
            created_by: policy.created_by,
            created_at: policy.created_at,
            updated_at: policy.updated_at,
        }
    }
}

/// What a site should hold of a policy, and how far it is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Assignment)]
pub(crate) struct AssignmentBody {
    policy_id: Uuid,
    site_id: Uuid,
    site_name: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    assigned_at: Timestamp,
    assigned_by: String,
    /// `pending`, `pushed`, `acknowledged`, `error` or `dead`.
    push_status: &'static str,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_push_attempt_at: Option<Timestamp>,
    last_push_error: Option<String>,
    /// The version that the site has stored.
    pushed_version: Option<u32>,
    /// Failed tries since the last success or reset.
    push_attempts: u32,
    /// The version that is in force at the site.
    applied_version: Option<u32>,
    #[schema(value_type = Option<String>, format = DateTime)]
    applied_at: Option<Timestamp>,
    /// Why the version that the site last tried is not in force.
    apply_error: Option<String>,
    /// When the site gave a deactivated policy up.
    #[schema(value_type = Option<String>, format = DateTime)]
    withdrawn_at: Option<Timestamp>,
}

impl From<AssignmentView> for AssignmentBody {
    fn from(view: AssignmentView) -> Self {
        let row = view.assignment;
        Self {
            policy_id: view.policy_id.0,
            site_id: view.site_id.0,
            site_name: view.site_name,
            assigned_at: row.assigned_at,
            assigned_by: row.assigned_by,
            push_status: row.push_status.as_str(),
            last_push_attempt_at: row.last_push_attempt_at,
            last_push_error: row.last_push_error,
            pushed_version: row.pushed_version,
            push_attempts: row.push_attempts,
            applied_version: row.applied_version,
            applied_at: row.applied_at,
            apply_error: row.apply_error,
            withdrawn_at: row.withdrawn_at,
        }
    }
}

/// The policies.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PoliciesAnswer {
    #[schema(value_type = bool)]
    licensed: Licensed,
    /// In the order of type and name.
    policies: Vec<PolicyBody>,
}

/// One policy.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PolicyAnswer {
    #[schema(value_type = bool)]
    licensed: Licensed,
    policy: PolicyBody,
}

impl PolicyAnswer {
    fn new(view: PolicyView) -> Self {
        Self { licensed: Licensed, policy: view.into() }
    }
}

/// One policy with the sites that the caller may see.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PolicyDetail)]
pub(crate) struct PolicyDetailAnswer {
    #[schema(value_type = bool)]
    licensed: Licensed,
    policy: PolicyBody,
    /// The sites that should hold it, in the order of names.
    assignments: Vec<AssignmentBody>,
    /// The sites that still have to give it up after they were unassigned.
    withdrawing: Vec<AssignmentBody>,
}

impl From<PolicyDetail> for PolicyDetailAnswer {
    fn from(detail: PolicyDetail) -> Self {
        let rows = |rows: Vec<AssignmentView>| rows.into_iter().map(AssignmentBody::from).collect();
        Self {
            licensed: Licensed,
            policy: detail.view.into(),
            assignments: rows(detail.assignments),
            withdrawing: rows(detail.withdrawing),
        }
    }
}

/// A policy to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewPolicy)]
pub(crate) struct NewPolicyBody {
    /// Not blank, at most 64 bytes; trimmed.
    policy_type: String,
    /// Not blank, at most 255 bytes, unique within its type; trimmed.
    name: String,
    /// A JSON object, at most 256 KiB.
    #[schema(value_type = Object)]
    definition: Value,
    description: Option<String>,
}

impl From<NewPolicyBody> for NewPolicy {
    fn from(body: NewPolicyBody) -> Self {
        let NewPolicyBody { policy_type, name, definition, description } = body;
        Self { policy_type, name, description, definition }
    }
}

/// Changes of a policy: absent keeps, a null description clears it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PolicyPatch)]
pub(crate) struct PolicyPatchBody {
    #[serde(default, deserialize_with = "present")]
    name: Option<String>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    description: Option<Option<String>>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Object>)]
    definition: Option<Value>,
}

impl From<PolicyPatchBody> for PolicyPatch {
    fn from(body: PolicyPatchBody) -> Self {
        let PolicyPatchBody { name, description, definition } = body;
        Self { name, description, definition }
    }
}

/// Sites that should hold a policy, or hold it no longer.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PolicySites {
    #[schema(value_type = Vec<Uuid>)]
    site_ids: Vec<SiteId>,
}

impl PolicySites {
    fn into_set(self) -> Result<BTreeSet<SiteId>, Problem> {
        if self.site_ids.len() > limits::ASSIGN_SITES_MAX {
            let detail = format!("site_ids may name at most {} sites", limits::ASSIGN_SITES_MAX);
            return Err(Problem::field(Code::InvalidValue, "site_ids", detail));
        }
        Ok(self.site_ids.into_iter().collect())
    }
}

/// How a policy is pushed; without a body, to all of its sites at once.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PolicyPushOptions)]
pub(crate) struct PolicyPushBody {
    /// The hash of the plan that was looked at: the push is refused when the world has moved since.
    plan_hash: Option<String>,
    /// Sizes of the first waves, such as `5` or `25%`; the rest of the sites is the last one.
    waves: Option<Vec<String>>,
    /// Failed sites at which the rollout halts; default 1.
    halt_on_errors: Option<u32>,
    /// Seconds that a wave may take before the rollout halts; default 3,600.
    wave_timeout_seconds: Option<u32>,
    /// What a wave waits for: `acknowledged` (the default) or `pushed`, for sites that never say what they
    /// applied.
    wait_for: Option<String>,
}

impl TryFrom<PolicyPushBody> for PushRequest {
    type Error = Problem;

    fn try_from(body: PolicyPushBody) -> Result<Self, Problem> {
        let bad = |field, detail: String| Problem::field(Code::InvalidValue, field, detail);
        let plan_hash = match body.plan_hash.as_deref() {
            None => None,
            Some(text) => Some(
                hansa_model::secret::parse_hash(text)
                    .ok_or_else(|| bad("plan_hash", "plan_hash is not 64 hexadecimal digits".to_owned()))?,
            ),
        };
        let wait_for = match body.wait_for.as_deref() {
            None | Some("acknowledged") => WaitFor::Acknowledged,
            Some("pushed") => WaitFor::Pushed,
            Some(_) => return Err(bad("wait_for", "wait_for must be acknowledged or pushed".to_owned())),
        };
        let Some(waves) = body.waves else {
            if body.halt_on_errors.or(body.wave_timeout_seconds).is_some() || body.wait_for.is_some() {
                return Err(bad(
                    "waves",
                    "waves is missing: without it all sites are pushed at once".to_owned(),
                ));
            }
            return Ok(Self { plan_hash, staging: None });
        };
        let sizes = waves.iter().map(|text| text.parse::<WaveSize>());
        let waves = sizes
            .collect::<Result<_, _>>()
            .map_err(|error| bad("waves", format!("a member of waves {error}")))?;
        let staging = Staging {
            waves,
            halt_on_errors: body.halt_on_errors.unwrap_or(limits::HALT_ON_ERRORS_DEFAULT),
            wave_timeout_seconds: body.wave_timeout_seconds.unwrap_or(limits::WAVE_TIMEOUT_SECONDS_DEFAULT),
            wait_for,
        };
        Ok(Self { plan_hash, staging: Some(staging) })
    }
}

/// How many policies of a site are due again.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RepushAnswer {
    #[schema(value_type = bool)]
    licensed: Licensed,
    requeued_count: usize,
}

/// What a push would do.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PolicyPlan)]
pub(crate) struct PlanAnswer {
    #[schema(value_type = bool)]
    licensed: Licensed,
    policy: PolicyBody,
    plan: PlanBody,
}

/// What a push would do at each site that the caller may see.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Plan)]
pub(crate) struct PlanBody {
    /// The version that would go out.
    version: u32,
    /// Give it to the push: it is refused when policy or sites have changed since.
    plan_hash: String,
    /// Sites that would get the policy.
    add: usize,
    /// Sites that have an older version.
    update: usize,
    /// Sites that have this version.
    nothing: usize,
    /// Sites that would give it up.
    withdraw: usize,
    /// Sites that take nothing now.
    blocked: usize,
    sites: Vec<PlannedSiteBody>,
}

/// One site of a plan.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PlannedSite)]
pub(crate) struct PlannedSiteBody {
    site_id: Uuid,
    site_name: Option<String>,
    /// `add`, `update`, `nothing` or `withdraw`.
    change: &'static str,
    /// The version that the site has, where it changes.
    from_version: Option<u32>,
    /// The version that the site would have; null where it gives the policy up.
    to_version: Option<u32>,
    /// Why the site takes nothing now: its status, where it is not `enrolled`.
    blocked: Option<&'static str>,
}

impl From<PlanView> for PlanAnswer {
    fn from(PlanView { view, plan, site_names }: PlanView) -> Self {
        let count = |wanted: fn(&Change) -> bool| {
            plan.sites.iter().filter(|site| site.blocked.is_none() && wanted(&site.change)).count()
        };
        let body = PlanBody {
            version: plan.version,
            plan_hash: hex(&plan.hash),
            add: count(|change| matches!(change, Change::Add)),
            update: count(|change| matches!(change, Change::Update { .. })),
            nothing: count(|change| matches!(change, Change::Nothing)),
            withdraw: count(|change| matches!(change, Change::Withdraw)),
            blocked: plan.sites.iter().filter(|site| site.blocked.is_some()).count(),
            sites: plan
                .sites
                .iter()
                .zip(site_names)
                .map(|(site, site_name)| PlannedSiteBody {
                    site_id: site.site.0,
                    site_name,
                    change: site.change.as_str(),
                    from_version: match site.change {
                        Change::Update { from } => Some(from),
                        Change::Add | Change::Nothing | Change::Withdraw => None,
                    },
                    to_version: (site.change != Change::Withdraw).then_some(plan.version),
                    blocked: site.blocked.map(hansa_model::SiteStatus::as_str),
                })
                .collect(),
        };
        Self { licensed: Licensed, policy: view.into(), plan: body }
    }
}

/// The rollouts of a policy.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RolloutsAnswer {
    #[schema(value_type = bool)]
    licensed: Licensed,
    /// Newest first; the 20 newest are kept.
    rollouts: Vec<RolloutBody>,
}

/// One rollout.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RolloutAnswer {
    #[schema(value_type = bool)]
    licensed: Licensed,
    rollout: RolloutBody,
}

/// One version of a policy on its way through the sites, wave by wave.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Rollout)]
pub(crate) struct RolloutBody {
    id: Uuid,
    version: u32,
    /// `running`, `halted`, `completed` or `aborted`.
    status: &'static str,
    /// Why it halted.
    reason: Option<String>,
    /// The wave that is out, from one.
    wave: u32,
    /// Waves in all.
    wave_count: usize,
    halt_on_errors: u32,
    wave_timeout_seconds: u32,
    /// `acknowledged` or `pushed`.
    wait_for: &'static str,
    started_by: String,
    #[schema(value_type = String, format = DateTime)]
    started_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    wave_started_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    ended_at: Option<Timestamp>,
    /// The sites that the caller may see, wave by wave.
    sites: Vec<RolloutSiteBody>,
}

/// One site of a rollout.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RolloutSite)]
pub(crate) struct RolloutSiteBody {
    site_id: Uuid,
    site_name: Option<String>,
    /// From one.
    wave: usize,
    /// `held`, `waiting`, `done`, `failed` or `left`.
    progress: &'static str,
}

impl From<RolloutView> for RolloutBody {
    fn from(RolloutView { rollout, sites }: RolloutView) -> Self {
        Self {
            id: rollout.id.0,
            version: rollout.version,
            status: rollout.state.as_str(),
            reason: rollout.reason,
            wave: rollout.wave.saturating_add(1),
            wave_count: rollout.waves.len(),
            halt_on_errors: rollout.halt_on_errors,
            wave_timeout_seconds: rollout.wave_timeout_seconds,
            wait_for: rollout.wait_for.as_str(),
            started_by: rollout.started_by,
            started_at: rollout.started_at,
            wave_started_at: rollout.wave_started_at,
            ended_at: rollout.ended_at,
            sites: sites
                .into_iter()
                .map(|site| RolloutSiteBody {
                    site_id: site.site_id.0,
                    site_name: site.site_name,
                    wave: site.wave + 1,
                    progress: site.progress.as_str(),
                })
                .collect(),
        }
    }
}

/// What applying a policy did at the site.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = PolicyResult)]
pub(crate) struct PolicyResultBody {
    #[schema(value_type = Uuid)]
    policy_id: PolicyId,
    /// The version that was applied, or tried.
    version: u32,
    /// Whether it is in force.
    applied: bool,
    /// Why not.
    #[serde(default)]
    error: Option<String>,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
}

impl From<PolicyResultBody> for PolicyReport {
    fn from(body: PolicyResultBody) -> Self {
        let PolicyResultBody { policy_id, version, applied, error, at } = body;
        Self { policy_id, version, applied, error, at }
    }
}

/// The stored row.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PolicyResultAnswer {
    #[schema(value_type = bool)]
    licensed: Licensed,
    /// Null when the site should hold no such policy: it was withdrawn meanwhile.
    assignment: Option<AssignmentBody>,
}

pub(crate) fn list(request: &Request, _operator: &Operator) -> Result<Answer, Problem> {
    let query = request.query()?;
    let active_only = query.text("active_only")?.is_none() || query.flag("active_only")?;
    let policies = request.federation.policies(query.text("policy_type")?.as_deref(), active_only)?;
    let policies = policies.into_iter().map(PolicyBody::from).collect();
    Answer::ok(&PoliciesAnswer { licensed: Licensed, policies })
}

pub(crate) async fn create(mut request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let body: NewPolicyBody = request.json().await?;
    let view = request.federation.create_policy(&operator, body.into()).await?;
    Answer::ok(&PolicyAnswer::new(view))
}

pub(crate) fn show(request: &Request, operator: &Operator) -> Result<Answer, Problem> {
    let detail = request.federation.policy(operator, policy_id(request)?)?;
    Answer::ok(&PolicyDetailAnswer::from(detail))
}

pub(crate) async fn patch(mut request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let (policy, hold) = (policy_id(&request)?, request.query()?.flag("hold")?);
    let body: PolicyPatchBody = request.json().await?;
    let view = request.federation.patch_policy(&operator, policy, body.into(), hold).await?;
    Answer::ok(&PolicyAnswer::new(view))
}

pub(crate) async fn deactivate(request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let view = request.federation.deactivate_policy(&operator, policy_id(&request)?).await?;
    Answer::ok(&PolicyAnswer::new(view))
}

pub(crate) async fn assign(mut request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let (policy, hold) = (policy_id(&request)?, request.query()?.flag("hold")?);
    let body: PolicySites = request.json().await?;
    let detail = request.federation.assign_policy(&operator, policy, body.into_set()?, hold).await?;
    Answer::ok(&PolicyDetailAnswer::from(detail))
}

pub(crate) async fn unassign(mut request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let policy = policy_id(&request)?;
    let body: PolicySites = request.json().await?;
    let detail = request.federation.unassign_policy(&operator, policy, body.into_set()?).await?;
    Answer::ok(&PolicyDetailAnswer::from(detail))
}

pub(crate) fn plan(request: &Request, operator: &Operator) -> Result<Answer, Problem> {
    let plan = request.federation.plan_policy(operator, policy_id(request)?)?;
    Answer::ok(&PlanAnswer::from(plan))
}

pub(crate) async fn push(mut request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let policy = policy_id(&request)?;
    let body: PolicyPushBody = request.optional_json().await?;
    let detail = request.federation.push_policy(&operator, policy, body.try_into()?).await?;
    Answer::ok(&PolicyDetailAnswer::from(detail))
}

pub(crate) async fn repush(request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let requeued_count = request.federation.repush_policies(&operator, request.site_id()?).await?;
    Answer::ok(&RepushAnswer { licensed: Licensed, requeued_count })
}

pub(crate) fn rollouts(request: &Request, operator: &Operator) -> Result<Answer, Problem> {
    let rollouts = request.federation.policy_rollouts(operator, policy_id(request)?)?;
    let rollouts = rollouts.into_iter().map(RolloutBody::from).collect();
    Answer::ok(&RolloutsAnswer { licensed: Licensed, rollouts })
}

pub(crate) async fn resume(request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    change_rollout(request, &operator, RolloutChange::Resume).await
}

pub(crate) async fn abort(request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    change_rollout(request, &operator, RolloutChange::Abort).await
}

async fn change_rollout(
    request: Request,
    operator: &Operator,
    change: RolloutChange,
) -> Result<Answer, Problem> {
    let (policy, rollout) = (policy_id(&request)?, request.id("rollout_id")?);
    let view = request.federation.change_rollout(operator, policy, rollout, change).await?;
    Answer::ok(&RolloutAnswer { licensed: Licensed, rollout: view.into() })
}

pub(crate) async fn result(mut request: Request, site: SiteId) -> Result<Answer, Problem> {
    let body: PolicyResultBody = json::parse(&request.signed(site).await?)?;
    let row = request.federation.ingest_policy_result(site, body.into()).await?;
    Answer::ok(&PolicyResultAnswer { licensed: Licensed, assignment: row.map(AssignmentBody::from) })
}

fn policy_id(request: &Request) -> Result<PolicyId, Problem> {
    request.id("policy_id")
}

const _: () = assert!(limits::ROLLOUTS_KEPT == 20, "the documentation of the answer names it");
const _: () = assert!(limits::DEFINITION_BYTES_MAX == 256 * 1024, "the documentation of the body names it");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn push_without_a_body_goes_to_all_sites_at_once() {
        let request = PushRequest::try_from(PolicyPushBody::default()).unwrap();

        assert_eq!(request, PushRequest::default());
    }

    #[test]
    fn waves_are_numbers_or_shares_and_their_options_need_them() {
        let body: PolicyPushBody = json::parse(br#"{"waves":["1","25%"],"wait_for":"pushed"}"#).unwrap();

        let staging = PushRequest::try_from(body).unwrap().staging.unwrap();

        assert_eq!(staging.waves, [WaveSize::Sites(1), WaveSize::Percent(25)]);
        assert_eq!((staging.halt_on_errors, staging.wait_for), (1, WaitFor::Pushed));
        for body in [
            r#"{"waves":["0"]}"#,
            r#"{"waves":["5"],"wait_for":"never"}"#,
            r#"{"halt_on_errors":2}"#,
            r#"{"plan_hash":"12"}"#,
        ] {
            let body: PolicyPushBody = json::parse(body.as_bytes()).unwrap();
            assert!(PushRequest::try_from(body).is_err());
        }
    }

    #[test]
    fn patch_takes_only_the_documented_members() {
        for body in [r#"{"policy_type":"x"}"#, r#"{"is_active":false}"#, r#"{"name":null}"#] {
            assert!(json::parse::<PolicyPatchBody>(body.as_bytes()).is_err(), "{body}");
        }
        let patch: PolicyPatchBody = json::parse(br#"{"description":null}"#).unwrap();
        assert_eq!(PolicyPatch::from(patch).description, Some(None));
    }
}
