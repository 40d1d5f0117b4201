//! Commands at the coordinator (contract B4), their results from HTTP peers (contract B6), and ours: cancel,
//! bulk dispatch, outcomes by host.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::StatusCode;
use axum::http::header::{HeaderName, LOCATION};
use hansa_actors::view::{
    BulkRow, BulkTarget, CommandFilter, Dispatched, IdempotencyKey, OutcomesView, ReportAnswer,
};
use hansa_model::command::{Command, HostOutcome, NewCommand, Progress};
use hansa_model::id::CommandId;
use hansa_model::limits::{command as limits, search};
use hansa_model::report::{CommandReport, CommandReportStatus, HostResult};
use hansa_model::scope::Operator;
use hansa_model::{HostId, SiteId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use super::hosts::{SEARCH_QUERY, directory_query};
use crate::answer::{Answer, Licensed};
use crate::code::Code;
use crate::json::{self, Count, Lenient};
use crate::problem::Problem;
use crate::query::{Query, invalid};
use crate::request::Request;
use crate::route::{Parameter, ParameterKind};

/// Names one request, so that a repeat has no further effect (IETF draft 07).
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Says that the answer is that of an earlier request.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// A command.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Command)]
pub(crate) struct CommandBody {
    id: Uuid,
    command_type: String,
    #[schema(value_type = Option<Object>)]
    parameters: Option<Box<RawValue>>,
    target_site_id: Uuid,
    /// Empty means all hosts of the site.
    target_host_ids: Vec<Uuid>,
    dispatched_by: String,
    #[schema(value_type = String, format = DateTime)]
    dispatched_at: Timestamp,
    /// `queued_at_site`, `in_progress`, `partial`, `completed` or `failed`.
    status: &'static str,
    /// What came of it, for people.
    result_summary: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    completed_at: Option<Timestamp>,
    /// Pushes that failed since the last one that did not.
    push_attempts: u32,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_push_attempt_at: Option<Timestamp>,
    last_push_error: Option<String>,
    /// Not to be started from this instant on.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// When an operator asked to stop it.
    #[schema(value_type = Option<String>, format = DateTime)]
    cancel_requested_at: Option<Timestamp>,
    /// It is past its expiry, and the site has not reported an end.
    overdue: bool,
    progress: ProgressBody,
}

/// How far a command is, in hosts.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CommandProgress)]
pub(crate) struct ProgressBody {
    /// Hosts that it went to, as the site says.
    hosts: u64,
    /// Hosts where it succeeded.
    succeeded: u64,
    /// Hosts where it failed.
    failed: u64,
}

impl From<Progress> for ProgressBody {
    fn from(progress: Progress) -> Self {
        let Progress { hosts, succeeded, failed } = progress;
        Self { hosts, succeeded, failed }
    }
}

impl From<Command> for CommandBody {
    fn from(command: Command) -> Self {
        Self {
            id: command.id.0,
            command_type: command.command_type,
            parameters: command.parameters.and_then(|text| RawValue::from_string(text).ok()),
            target_site_id: command.target_site_id.0,
            target_host_ids: command.target_host_ids.into_iter().map(|host| host.0).collect(),
            dispatched_by: command.dispatched_by,
            dispatched_at: command.dispatched_at,
            status: command.status.as_str(),
            result_summary: command.result_summary,
            completed_at: command.completed_at,
            push_attempts: command.push_attempts,
            last_push_attempt_at: command.last_push_attempt_at,
            last_push_error: command.last_push_error,
            expires_at: command.expires_at,
            cancel_requested_at: command.cancel_requested_at,
            overdue: command.overdue,
            progress: command.progress.into(),
        }
    }
}

/// One command.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CommandAnswer {
    #[schema(value_type = bool)]
    licensed: Licensed,
    command: CommandBody,
}

impl CommandAnswer {
    fn new(command: Command) -> Self {
        Self { licensed: Licensed, command: command.into() }
    }
}

/// A page of commands.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CommandsAnswer {
    #[schema(value_type = bool)]
    licensed: Licensed,
    /// Newest first.
    commands: Vec<CommandBody>,
}

/// What to do, and where.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewCommand)]
pub(crate) struct DispatchBody {
    /// Chooses what the site does; at most 64 bytes.
    command_type: String,
    #[schema(value_type = Uuid)]
    target_site_id: SiteId,
    #[schema(value_type = Option<Object>)]
    parameters: Option<Map<String, Value>>,
    /// Absent, null or empty means all hosts of the site.
    #[schema(value_type = Option<Vec<Uuid>>)]
    target_host_ids: Option<Vec<HostId>>,
    /// Not to be started from this instant on; at most 30 days away.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
}

/// What to do at many sites. Either `site_ids` or `hosts`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = BulkCommand)]
pub(crate) struct BulkBody {
    /// Chooses what each site does; at most 64 bytes.
    command_type: String,
    #[schema(value_type = Option<Object>)]
    parameters: Option<Map<String, Value>>,
    /// Not to be started from this instant on; at most 30 days away.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// All hosts of each of these sites.
    #[schema(value_type = Option<Vec<Uuid>>)]
    site_ids: Option<Vec<SiteId>>,
    /// The hosts that `GET /api/v1/federation/hosts` finds with these parameters, without order and paging.
    hosts: Option<BTreeMap<String, String>>,
    /// Shows what would be sent, and sends nothing.
    #[serde(default)]
    dry_run: bool,
}

/// What became of a bulk dispatch, site by site.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BulkAnswer {
    #[schema(value_type = bool)]
    licensed: Licensed,
    dry_run: bool,
    /// Sites that have a command now, or would have one.
    dispatched: usize,
    /// Sites that have none.
    refused: usize,
    sites: Vec<BulkSite>,
}

/// One site of a bulk dispatch.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BulkSite {
    site_id: Uuid,
    site_name: Option<String>,
    /// Hosts named to the site; zero means all of its hosts.
    host_count: usize,
    /// Null in a dry run, and where it was refused.
    command: Option<CommandBody>,
    /// Why it was refused; null where it was not.
    error: Option<BulkError>,
}

/// Why a site got no command.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BulkError {
    /// The code that the refusal of a single dispatch would have.
    code: &'static str,
    detail: String,
}

impl From<BulkRow> for BulkSite {
    fn from(row: BulkRow) -> Self {
        let (command, error) = match row.outcome {
            Ok(dispatched) => (dispatched.map(|dispatched| dispatched.command.into()), None),
            Err(error) => {
                let problem = Problem::from(error);
                let code = problem.code().as_str();
                (None, Some(BulkError { code, detail: problem.detail().to_owned() }))
            }
        };
        Self { site_id: row.site_id.0, site_name: row.site_name, host_count: row.host_count, command, error }
    }
}

/// A page of what a command did at its hosts.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CommandResults)]
pub(crate) struct ResultsAnswer {
    #[schema(value_type = bool)]
    licensed: Licensed,
    command_id: Uuid,
    status: &'static str,
    progress: ProgressBody,
    /// In the order of host ids.
    results: Vec<OutcomeBody>,
    /// Matches before paging.
    total: usize,
}

/// What a command did at one host.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = HostOutcome)]
pub(crate) struct OutcomeBody {
    host_id: Uuid,
    success: bool,
    /// What the site said of it.
    detail: String,
}

impl From<HostOutcome> for OutcomeBody {
    fn from(outcome: HostOutcome) -> Self {
        Self { host_id: outcome.host_id.0, success: outcome.success, detail: outcome.detail }
    }
}

/// The parameters of a list of commands.
pub(crate) const LIST_QUERY: &[Parameter] = &[
    parameter("site_id", ParameterKind::Text, "commands of exactly this site"),
    parameter("status", ParameterKind::Text, "exactly this status"),
    parameter("open_only", ParameterKind::Boolean, "only commands that have not ended"),
    LIMIT,
    OFFSET,
];

/// The parameters of a list of outcomes.
pub(crate) const RESULTS_QUERY: &[Parameter] = &[
    parameter("success", ParameterKind::Boolean, "only hosts where it succeeded, or only the others"),
    LIMIT,
    OFFSET,
];

const LIMIT: Parameter =
    parameter("limit", ParameterKind::Integer, "rows of the page, 1 to 1,000; 100 when absent");
const OFFSET: Parameter = parameter("offset", ParameterKind::Integer, "rows to leave out");

const fn parameter(name: &'static str, kind: ParameterKind, description: &'static str) -> Parameter {
    Parameter { name, kind, description }
}

fn new_command(
    command_type: String,
    parameters: Option<Map<String, Value>>,
    target_host_ids: Vec<HostId>,
    expires_at: Option<Timestamp>,
) -> NewCommand {
    // A map prints with its keys in order.
    let parameters = parameters.map(|parameters| Value::Object(parameters).to_string());
    NewCommand { command_type, parameters, target_host_ids, expires_at }
}

fn idempotency_key<'a>(
    header: Option<&'a str>,
    body: &'a [u8],
) -> Result<Option<IdempotencyKey<'a>>, Problem> {
    match header {
        None => Ok(None),
        Some(key) if key.is_empty() || key.len() > limits::IDEMPOTENCY_KEY_BYTES_MAX => Err(Problem::new(
            Code::InvalidValue,
            format!("Idempotency-Key must have 1 to {} bytes", limits::IDEMPOTENCY_KEY_BYTES_MAX),
        )),
        Some(key) => Ok(Some(IdempotencyKey { key, body })),
    }
}

pub(crate) async fn dispatch(mut request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let (body, bytes): (DispatchBody, _) = request.json_and_bytes().await?;
    let key = idempotency_key(request.header(IDEMPOTENCY_KEY), &bytes)?;
    let hosts = body.target_host_ids.unwrap_or_default();
    let new = new_command(body.command_type, body.parameters, hosts, body.expires_at);
    let dispatched = request.federation.dispatch_command(&operator, body.target_site_id, new, key).await?;
    let Dispatched { command, replayed } = dispatched;
    let location = format!("/api/v1/federation/commands/{}", command.id);
    let answer = Answer::json(StatusCode::CREATED, &CommandAnswer::new(command))?;
    Ok(if replayed {
        answer.with_header(REPLAYED, "true".to_owned())
    } else {
        answer.with_header(LOCATION, location)
    })
}

pub(crate) async fn dispatch_bulk(mut request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let (body, bytes): (BulkBody, _) = request.json_and_bytes().await?;
    let key = idempotency_key(request.header(IDEMPOTENCY_KEY), &bytes)?;
    let target = bulk_target(body.site_ids, body.hosts)?;
    let new = new_command(body.command_type, body.parameters, Vec::new(), body.expires_at);
    let rows = request.federation.dispatch_bulk(&operator, target, new, key, body.dry_run).await?;
    let refused = rows.iter().filter(|row| row.outcome.is_err()).count();
    Answer::ok(&BulkAnswer {
        licensed: Licensed,
        dry_run: body.dry_run,
        dispatched: rows.len() - refused,
        refused,
        sites: rows.into_iter().map(BulkSite::from).collect(),
    })
}

/// Whom a bulk dispatch is for. A parameter that is not understood would reach more hosts than meant, so it
/// is refused, as is a query that names none.
fn bulk_target(
    sites: Option<Vec<SiteId>>,
    hosts: Option<BTreeMap<String, String>>,
) -> Result<BulkTarget, Problem> {
    const NOT_A_CONDITION: &[&str] = &["order_by", "limit", "offset", "cursor"];
    match (sites, hosts) {
        (Some(sites), None) if !sites.is_empty() && sites.len() <= search::SITES_MAX => {
            Ok(BulkTarget::Sites(sites))
        }
        (None, Some(hosts)) => {
            let condition = |name: &str| {
                SEARCH_QUERY.iter().any(|known| known.name == name) && !NOT_A_CONDITION.contains(&name)
            };
            if !hosts.keys().all(|name| condition(name)) {
                let detail = "hosts takes the conditions of a host search, and nothing else";
                return Err(Problem::field(Code::InvalidValue, "hosts", detail));
            }
            if hosts.values().all(String::is_empty) {
                let detail = "hosts names no condition: to reach all hosts of sites, name the sites";
                return Err(Problem::field(Code::InvalidValue, "hosts", detail));
            }
            let query = Query::of_members(hosts);
            let filter = directory_query(&query, search::LIMIT_MAX)?.filter().clone();
            Ok(BulkTarget::Hosts(query.sites("site_id")?, Box::new(filter)))
        }
        (Some(_), None) => Err(Problem::field(
            Code::InvalidValue,
            "site_ids",
            format!("site_ids must name 1 to {} sites", search::SITES_MAX),
        )),
        (Some(_), Some(_)) | (None, None) => {
            Err(Problem::new(Code::InvalidValue, "name either site_ids or hosts"))
        }
    }
}

pub(crate) fn list(request: &Request, operator: &Operator) -> Result<Answer, Problem> {
    let query = request.query()?;
    let site = query.opaque("site_id")?.map(str::parse).transpose();
    let filter = CommandFilter {
        site: site.map_err(|error| invalid("site_id", format_args!("{error}")))?,
        status: query.word("status")?,
        open_only: query.flag("open_only")?,
        limit: query.number("limit", 1..=limits::LIMIT_MAX)?.unwrap_or(limits::LIMIT_DEFAULT),
        offset: query.number("offset", 0..=usize::MAX)?.unwrap_or(0),
    };
    let commands = request.federation.commands(operator, &filter)?;
    Answer::ok(&CommandsAnswer {
        licensed: Licensed,
        commands: commands.into_iter().map(CommandBody::from).collect(),
    })
}

pub(crate) fn show(request: &Request, operator: &Operator) -> Result<Answer, Problem> {
    let command = request.federation.command(operator, request.id("command_id")?)?;
    Answer::ok(&CommandAnswer::new(command))
}

pub(crate) fn results(request: &Request, operator: &Operator) -> Result<Answer, Problem> {
    let id = request.id("command_id")?;
    let query = request.query()?;
    let success = query.choice("success")?;
    let limit = query.number("limit", 1..=limits::LIMIT_MAX)?.unwrap_or(limits::LIMIT_DEFAULT);
    let offset = query.number("offset", 0..=usize::MAX)?.unwrap_or(0);
    let view = request.federation.command_outcomes(operator, id, success, limit, offset)?;
    let OutcomesView { command, outcomes, total } = view;
    Answer::ok(&ResultsAnswer {
        licensed: Licensed,
        command_id: command.id.0,
        status: command.status.as_str(),
        progress: command.progress.into(),
        results: outcomes.into_iter().map(OutcomeBody::from).collect(),
        total,
    })
}

pub(crate) async fn cancel(request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let command = request.federation.cancel_command(&operator, request.id("command_id")?).await?;
    Answer::ok(&CommandAnswer::new(command))
}

/// What one command did, or `results` with a list of them. Numbers may be numeric text.
#[derive(Debug, ToSchema)]
#[schema(as = CommandResult)]
#[expect(dead_code, reason = "documents a body that has two shapes")]
pub(crate) struct CommandResultBody {
    /// Absent where `results` is a list.
    command_id: Option<Uuid>,
    /// `in_progress` (ours), `completed` or `failed`.
    status: Option<String>,
    host_count: Option<u64>,
    success_count: Option<u64>,
    /// By host id, `success` and `detail`; or a list of results.
    results: Value,
    /// Why it failed before it reached a host.
    error: Option<String>,
}

/// What became of results.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TakenResults {
    #[schema(value_type = bool)]
    licensed: Licensed,
    /// Results that counted.
    updated: usize,
    /// Those that did not, and never will.
    skipped: Vec<SkippedResult>,
}

/// A result that does not count.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SkippedResult {
    /// Null when the result names none.
    command_id: Option<Uuid>,
    error: String,
}

/// One result as it is read: what is not essential and does not fit is left out.
#[derive(Deserialize)]
struct ResultBody {
    command_id: CommandId,
    status: CommandReportStatus,
    #[serde(default)]
    host_count: Lenient<Count>,
    #[serde(default)]
    success_count: Lenient<Count>,
    #[serde(default)]
    results: Lenient<BTreeMap<String, Lenient<HostResultBody>>>,
    #[serde(default)]
    error: Lenient<String>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct HostResultBody {
    success: bool,
    #[serde(default)]
    detail: Lenient<String>,
}

impl From<ResultBody> for CommandReport {
    fn from(body: ResultBody) -> Self {
        let results = body.results.0.unwrap_or_default().into_iter().filter_map(|(host, result)| {
            let HostResultBody { success, detail } = result.0?;
            Some((host, HostResult { success, detail: detail.0.unwrap_or_default() }))
        });
        Self {
            command_id: body.command_id,
            status: body.status,
            host_count: body.host_count.0.unwrap_or_default().0,
            success_count: body.success_count.0.unwrap_or_default().0,
            results: results.collect(),
            error: body.error.0,
        }
    }
}

/// The two shapes of the body are told apart by `command_id` at the top (contract 5.4).
#[derive(Deserialize)]
struct Shape<'a> {
    #[serde(borrow)]
    command_id: Option<&'a RawValue>,
    #[serde(borrow)]
    results: Option<&'a RawValue>,
}

fn read_result(text: &str) -> Result<CommandReport, SkippedResult> {
    #[derive(Deserialize)]
    struct Named {
        #[serde(default)]
        command_id: Lenient<CommandId>,
    }
    serde_json::from_str::<ResultBody>(text).map(CommandReport::from).map_err(|_| SkippedResult {
        command_id: serde_json::from_str::<Named>(text)
            .ok()
            .and_then(|named| named.command_id.0)
            .map(|id| id.0),
        error: format!("malformed: {}", json::reason_for::<ResultBody>(text.as_bytes())),
    })
}

pub(crate) async fn take_results(mut request: Request, site: SiteId) -> Result<Answer, Problem> {
    let bytes = request.signed(site).await?;
    let shape: Shape<'_> = json::parse_borrowed(&bytes)?;
    let texts: Vec<&RawValue> = match (shape.command_id, shape.results) {
        (Some(_), _) => Vec::new(),
        (None, Some(results)) => serde_json::from_str(results.get()).map_err(|_| {
            Problem::field(
                Code::InvalidBody,
                "results",
                "results must be a list where there is no command_id",
            )
        })?,
        (None, None) => {
            return Err(Problem::field(Code::InvalidBody, "command_id", "command_id or results is required"));
        }
    };
    if texts.len() > limits::RESULTS_MAX {
        let detail = format!("a call takes at most {} results: split it", limits::RESULTS_MAX);
        return Err(Problem::new(Code::TooManyEntries, detail));
    }
    let read: Vec<Result<CommandReport, SkippedResult>> = if shape.command_id.is_some() {
        vec![read_result(&String::from_utf8_lossy(&bytes))]
    } else {
        texts.into_iter().map(|text| read_result(text.get())).collect()
    };
    let (mut reports, mut skipped) = (Vec::new(), Vec::new());
    for result in read {
        match result {
            Ok(report) => reports.push(report),
            Err(unread) => skipped.push(unread),
        }
    }
    let ids: Vec<CommandId> = reports.iter().map(|report| report.command_id).collect();
    let answers = request.federation.ingest_command_results(site, reports).await?;
    let mut updated = 0;
    for (id, answer) in ids.into_iter().zip(answers) {
        // The facade answers results of commands with nothing else.
        let ReportAnswer::Command(answer) = answer else { continue };
        match answer {
            Ok(()) => updated += 1,
            Err(refusal) => {
                skipped.push(SkippedResult { command_id: Some(id.0), error: refusal.to_string() });
            }
        }
    }
    Answer::ok(&TakenResults { licensed: Licensed, updated, skipped })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0197a0c4-0000-7000-8000-000000000001";

    #[test]
    fn result_takes_numeric_text_and_leaves_out_what_does_not_fit() {
        let text = format!(
            r#"{{"command_id":"{ID}","status":"failed","host_count":"3","success_count":2.0,"extra":1,
                "results":{{"a":{{"success":true,"detail":7}},"b":{{"success":"yes"}},"c":null}},"error":null}}"#
        );

        let report = read_result(&text).unwrap();

        assert_eq!((report.host_count, report.success_count), (3, 2));
        assert_eq!(report.results.len(), 1);
        assert_eq!(report.results["a"], HostResult { success: true, detail: String::new() });
    }

    #[test]
    fn result_that_cannot_be_read_names_its_command_where_it_can() {
        let named = read_result(&format!(r#"{{"command_id":"{ID}","status":"lost"}}"#)).unwrap_err();
        let nameless = read_result(r#"{"status":"failed"}"#).unwrap_err();

        assert_eq!(named.command_id, Some(ID.parse().unwrap()));
        assert!(named.error.starts_with("malformed: "), "{}", named.error);
        assert!(!named.error.contains("lost"), "{}", named.error);
        assert_eq!(nameless.command_id, None);
    }

    #[test]
    fn bulk_refuses_what_would_reach_more_hosts_than_meant() {
        let hosts = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            bulk_target(None, Some(pairs.collect()))
        };

        assert!(matches!(hosts(&[("status", "up")]), Ok(BulkTarget::Hosts(None, _))));
        assert!(hosts(&[]).is_err());
        assert!(hosts(&[("status", "")]).is_err());
        assert!(hosts(&[("sttus", "up")]).is_err());
        assert!(hosts(&[("status", "up"), ("limit", "5")]).is_err());
        assert!(bulk_target(None, None).is_err());
        assert!(bulk_target(Some(Vec::new()), None).is_err());
    }

    #[test]
    fn command_has_the_documented_members() {
        let command = Command {
            id: ID.parse().unwrap(),
            command_type: "reboot".to_owned(),
            parameters: Some(r#"{"a":[1]}"#.to_owned()),
            target_site_id: SiteId(Uuid::from_u128(1)),
            target_host_ids: Vec::new(),
            dispatched_by: "ada".to_owned(),
            dispatched_at: Timestamp::from_secs(1_795_000_000),
            status: hansa_model::command::CommandStatus::QueuedAtSite,
            result_summary: None,
            completed_at: None,
            push_attempts: 0,
            last_push_attempt_at: None,
            last_push_error: None,
            push_refusals: 0,
            expires_at: None,
            cancel_requested_at: None,
            cancel_settled: false,
            overdue: false,
            progress: Progress::default(),
        };

        insta::assert_json_snapshot!(CommandAnswer::new(command));
    }
}
