//! Rollups: what sites push over HTTP (contract B6), and what operators read (contract B3).

use std::collections::BTreeMap;
use std::sync::Arc;

use hansa_actors::view::{OverviewView, ReportAnswer, RollupFilter, RollupItem};
use hansa_model::limits::rollup as limits;
use hansa_model::machine::rollup_board;
use hansa_model::report::{ComplianceReport, Report, VulnerabilityReport};
use hansa_model::rollup::{self, ComplianceRollup, Snapshot as _, VulnerabilityRollup};
use hansa_model::scope::Operator;
use hansa_model::site::HostRollup;
use hansa_model::{SiteId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::answer::{Answer, Licensed};
use crate::json::{self, Count, Real};
use crate::problem::Problem;
use crate::query::Query;
use crate::request::Request;
use crate::route::{Parameter, ParameterKind};

/// One baseline's score at a site. Numbers may be numeric text.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ComplianceReport)]
pub(crate) struct ComplianceBody {
    /// Name of the baseline, at most 64 characters.
    baseline: String,
    /// 0 to 100; null when nothing was scored.
    score_percent: Option<Real>,
    /// Hosts that the baseline concerns.
    hosts_in_scope: Count,
    /// Hosts without a failed rule.
    hosts_compliant: Count,
    /// Hosts with one; together with the compliant ones at most `hosts_in_scope`.
    hosts_noncompliant: Count,
    /// When the snapshot was taken; arrival when absent.
    #[schema(value_type = Option<String>, format = DateTime)]
    snapshot_at: Option<Timestamp>,
}

impl From<ComplianceBody> for ComplianceReport {
    fn from(body: ComplianceBody) -> Self {
        Self {
            baseline: body.baseline,
            score_percent: body.score_percent.map(|score| score.0),
            hosts_in_scope: body.hosts_in_scope.0,
            hosts_compliant: body.hosts_compliant.0,
            hosts_noncompliant: body.hosts_noncompliant.0,
            snapshot_at: body.snapshot_at,
        }
    }
}

/// A site's findings, counted. Numbers may be numeric text.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = VulnerabilityReport)]
pub(crate) struct VulnerabilityBody {
    /// Findings of critical severity.
    #[serde(default)]
    critical_count: Count,
    /// Of high severity.
    #[serde(default)]
    high_count: Count,
    /// Of medium severity.
    #[serde(default)]
    medium_count: Count,
    /// Of low severity.
    #[serde(default)]
    low_count: Count,
    /// Hosts with any finding.
    #[serde(default)]
    affected_host_count: Count,
    /// The CVEs that concern most hosts, at most 100.
    top_cve_ids: Option<Vec<String>>,
    /// When the snapshot was taken; arrival when absent.
    #[schema(value_type = Option<String>, format = DateTime)]
    snapshot_at: Option<Timestamp>,
}

impl From<VulnerabilityBody> for VulnerabilityReport {
    fn from(body: VulnerabilityBody) -> Self {
        Self {
            critical_count: body.critical_count.0,
            high_count: body.high_count.0,
            medium_count: body.medium_count.0,
            low_count: body.low_count.0,
            affected_host_count: body.affected_host_count.0,
            top_cve_ids: body.top_cve_ids,
            snapshot_at: body.snapshot_at,
        }
    }
}

/// A stored score.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ComplianceAnswer {
    #[schema(value_type = bool)]
    licensed: Licensed,
    rollup: ComplianceItem,
}

/// Stored counts of findings.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VulnerabilityAnswer {
    #[schema(value_type = bool)]
    licensed: Licensed,
    rollup: VulnerabilityItem,
}

pub(crate) async fn take_compliance(mut request: Request, site: SiteId) -> Result<Answer, Problem> {
    let body: ComplianceBody = json::parse(&request.signed(site).await?)?;
    let answer = request.federation.ingest_report(site, Report::Compliance(body.into())).await?;
    let ReportAnswer::Compliance(rollup) = answer else { return Err(answered_otherwise(&answer)) };
    let rollup = ComplianceItem::new(site, None, &rollup, request.federation.now());
    Answer::ok(&ComplianceAnswer { licensed: Licensed, rollup })
}

pub(crate) async fn take_vulnerabilities(mut request: Request, site: SiteId) -> Result<Answer, Problem> {
    let body: VulnerabilityBody = json::parse(&request.signed(site).await?)?;
    let answer = request.federation.ingest_report(site, Report::Vulnerabilities(body.into())).await?;
    let ReportAnswer::Vulnerabilities(rollup) = answer else { return Err(answered_otherwise(&answer)) };
    let rollup = VulnerabilityItem::new(site, None, &rollup, request.federation.now());
    Answer::ok(&VulnerabilityAnswer { licensed: Licensed, rollup })
}

fn answered_otherwise(answer: &ReportAnswer) -> Problem {
    Problem::internal(&format!("a rollup was answered by {answer:?}"))
}

/// How many sites an answer covers, and which of them say nothing.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Coverage)]
pub(crate) struct CoverageBody {
    /// Enrolled sites that the answer is about.
    sites: u64,
    /// Those of them that are heard, by the rule of the alert `site_offline`.
    reporting: u64,
    /// The others, the first 100 of them: what the answer says of them may be old.
    silent: Vec<SilentSite>,
}

/// A site that has not been heard for longer than it should.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SilentSite {
    site_id: Uuid,
    name: String,
    /// Null when it was never heard.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_sync_at: Option<Timestamp>,
}

impl From<rollup_board::Coverage> for CoverageBody {
    fn from(coverage: rollup_board::Coverage) -> Self {
        let silent = coverage.silent.into_iter().map(|site| SilentSite {
            site_id: site.site_id.0,
            name: site.name.to_string(),
            last_sync_at: site.last_sync_at,
        });
        Self { sites: coverage.sites, reporting: coverage.reporting, silent: silent.collect() }
    }
}

/// Whole seconds from an instant to now.
fn age(at: Timestamp, now: Timestamp) -> u64 {
    now.since(at).as_secs()
}

/// The latest count of a site's hosts.
#[derive(Debug, Serialize, ToSchema)]
struct DashboardHosts {
    host_count: u64,
    active_count: u64,
    os_breakdown: BTreeMap<String, u64>,
    status_breakdown: BTreeMap<String, u64>,
    #[schema(value_type = String, format = DateTime)]
    snapshot_at: Timestamp,
    age_seconds: u64,
}

/// The latest score of one baseline.
#[derive(Debug, Serialize, ToSchema)]
struct DashboardCompliance {
    baseline: String,
    score_percent: Option<f64>,
    hosts_in_scope: u64,
    hosts_compliant: u64,
    hosts_noncompliant: u64,
    #[schema(value_type = String, format = DateTime)]
    snapshot_at: Timestamp,
    age_seconds: u64,
}

/// The latest counts of a site's findings.
#[derive(Debug, Serialize, ToSchema)]
struct DashboardVulnerabilities {
    critical_count: u64,
    high_count: u64,
    medium_count: u64,
    low_count: u64,
    affected_host_count: u64,
    top_cve_ids: Vec<String>,
    #[schema(value_type = String, format = DateTime)]
    snapshot_at: Timestamp,
    age_seconds: u64,
}

/// The latest rollups of one site.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SiteDashboard {
    #[schema(value_type = bool)]
    licensed: Licensed,
    host_rollup: Option<DashboardHosts>,
    compliance_rollups: Vec<DashboardCompliance>,
    vulnerability_rollup: Option<DashboardVulnerabilities>,
    /// When the site was last heard; null when never. It tells of each change of its rollups.
    #[schema(value_type = Option<String>, format = DateTime)]
    as_of: Option<Timestamp>,
    /// Seconds since then.
    age_seconds: Option<u64>,
}

/// The whole federation at a glance.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FederationDashboard {
    #[schema(value_type = bool)]
    licensed: Licensed,
    totals: TotalsBody,
    /// Hosts of the directory.
    host_count: u64,
    /// Hosts of the directory by status.
    status_breakdown: BTreeMap<String, u64>,
    /// Hosts of the directory by country; those without one under the empty key.
    country_breakdown: BTreeMap<String, u64>,
    coverage: CoverageBody,
}

/// The latest rollups of one site, or of the whole federation when none is named.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Dashboard {
    /// With `site_id`.
    Site(SiteDashboard),
    /// Without.
    Federation(FederationDashboard),
}

/// Sums over the rows of a report.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RollupTotals)]
pub(crate) struct TotalsBody {
    site_count: u64,
    host_count: u64,
    active_count: u64,
    critical_count: u64,
    high_count: u64,
    medium_count: u64,
    low_count: u64,
}

impl From<rollup::Totals> for TotalsBody {
    fn from(totals: rollup::Totals) -> Self {
        let rollup::Totals { site_count, counts } = totals;
        Self {
            site_count,
            host_count: counts.host_count,
            active_count: counts.active_count,
            critical_count: counts.critical_count,
            high_count: counts.high_count,
            medium_count: counts.medium_count,
            low_count: counts.low_count,
        }
    }
}

/// A site's row of a report.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ReportRow)]
struct RowBody<'a> {
    site_id: Uuid,
    site_name: &'a str,
    host_count: u64,
    active_count: u64,
    worst_compliance: Option<WorstCompliance<'a>>,
    critical_count: u64,
    high_count: u64,
    medium_count: u64,
    low_count: u64,
    /// When the site was last heard; the row says how things stood then.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_sync_at: Option<Timestamp>,
    /// Seconds since then; null when never.
    age_seconds: Option<u64>,
}

/// The baseline in which a site does worst.
#[derive(Debug, Serialize, ToSchema)]
struct WorstCompliance<'a> {
    baseline: &'a str,
    score_percent: f64,
}

/// A report over many sites.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RollupReport<'a> {
    #[schema(value_type = bool)]
    licensed: Licensed,
    sites: Vec<RowBody<'a>>,
    totals: TotalsBody,
    coverage: CoverageBody,
}

/// A snapshot of a site's hosts.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = HostRollupItem)]
pub(crate) struct HostItem {
    id: Uuid,
    site_id: Uuid,
    site_name: String,
    #[schema(value_type = String, format = DateTime)]
    snapshot_at: Timestamp,
    host_count: u64,
    active_count: u64,
    os_breakdown: BTreeMap<String, u64>,
    status_breakdown: BTreeMap<String, u64>,
    age_seconds: u64,
}

/// A snapshot of a site's score.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ComplianceRollup)]
pub(crate) struct ComplianceItem {
    id: Uuid,
    site_id: Uuid,
    /// Absent in the answer to the site itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    site_name: Option<String>,
    baseline: String,
    #[schema(value_type = String, format = DateTime)]
    snapshot_at: Timestamp,
    score_percent: Option<f64>,
    hosts_in_scope: u64,
    hosts_compliant: u64,
    hosts_noncompliant: u64,
    age_seconds: u64,
}

impl ComplianceItem {
    fn new(site: SiteId, name: Option<String>, rollup: &ComplianceRollup, now: Timestamp) -> Self {
        Self {
            id: rollup.id.0,
            site_id: site.0,
            site_name: name,
            baseline: rollup.baseline.clone(),
            snapshot_at: rollup.snapshot_at,
            score_percent: rollup.score_percent,
            hosts_in_scope: rollup.hosts_in_scope,
            hosts_compliant: rollup.hosts_compliant,
            hosts_noncompliant: rollup.hosts_noncompliant,
            age_seconds: age(rollup.snapshot_at, now),
        }
    }
}

/// A snapshot of a site's findings, counted.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = VulnerabilityRollup)]
pub(crate) struct VulnerabilityItem {
    id: Uuid,
    site_id: Uuid,
    /// Absent in the answer to the site itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    site_name: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    snapshot_at: Timestamp,
    critical_count: u64,
    high_count: u64,
    medium_count: u64,
    low_count: u64,
    affected_host_count: u64,
    top_cve_ids: Vec<String>,
    age_seconds: u64,
}

impl VulnerabilityItem {
    fn new(site: SiteId, name: Option<String>, rollup: &VulnerabilityRollup, now: Timestamp) -> Self {
        Self {
            id: rollup.id.0,
            site_id: site.0,
            site_name: name,
            snapshot_at: rollup.snapshot_at,
            critical_count: rollup.critical_count,
            high_count: rollup.high_count,
            medium_count: rollup.medium_count,
            low_count: rollup.low_count,
            affected_host_count: rollup.affected_host_count,
            top_cve_ids: rollup.top_cve_ids.clone(),
            age_seconds: age(rollup.snapshot_at, now),
        }
    }
}

/// Snapshots of the sites' hosts, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HostRollups {
    #[schema(value_type = bool)]
    licensed: Licensed,
    rollups: Vec<HostItem>,
}

/// Snapshots of the sites' scores, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ComplianceRollups {
    #[schema(value_type = bool)]
    licensed: Licensed,
    rollups: Vec<ComplianceItem>,
}

/// Snapshots of the sites' counted findings, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VulnerabilityRollups {
    #[schema(value_type = bool)]
    licensed: Licensed,
    rollups: Vec<VulnerabilityItem>,
}

/// The parameter of a dashboard.
pub(crate) const DASHBOARD_QUERY: &[Parameter] =
    &[text("site_id", "this site; without it the whole federation")];

/// The parameter of a report.
pub(crate) const REPORT_QUERY: &[Parameter] =
    &[text("site_ids", "sites by id, comma-separated; without it every enrolled one")];

/// The parameters of a list of snapshots.
pub(crate) const SERIES_QUERY: &[Parameter] = &[
    text("site_id", "exactly this site"),
    Parameter {
        name: "latest",
        kind: ParameterKind::Boolean,
        description: "only the newest of each series (default true)",
    },
    Parameter { name: "since", kind: ParameterKind::Instant, description: "taken then or later" },
    Parameter { name: "until", kind: ParameterKind::Instant, description: "taken earlier" },
    Parameter { name: "limit", kind: ParameterKind::Integer, description: "rows of the page, 1 to 1,000" },
    Parameter { name: "offset", kind: ParameterKind::Integer, description: "rows to leave out, to 100,000" },
];

/// The parameters of a list of scores.
pub(crate) const COMPLIANCE_QUERY: &[Parameter] = &[
    text("baseline", "exactly this baseline"),
    SERIES_QUERY[0],
    SERIES_QUERY[1],
    SERIES_QUERY[2],
    SERIES_QUERY[3],
    SERIES_QUERY[4],
    SERIES_QUERY[5],
];

const fn text(name: &'static str, description: &'static str) -> Parameter {
    Parameter { name, kind: ParameterKind::Text, description }
}

fn filter(query: &Query) -> Result<RollupFilter, Problem> {
    Ok(RollupFilter {
        site: query.word("site_id")?,
        baseline: None,
        latest: query.word("latest")?.unwrap_or(true),
        since: query.instant("since")?,
        until: query.instant("until")?,
        limit: query.number("limit", 1..=limits::LIMIT_MAX)?.unwrap_or(limits::LIMIT_DEFAULT),
        offset: query.number("offset", 0..=limits::OFFSET_MAX)?.unwrap_or(0),
    })
}

pub(crate) fn dashboard(request: &Request, operator: &Operator) -> Result<Answer, Problem> {
    let site: Option<SiteId> = request.query()?.word("site_id")?;
    let now = request.federation.now();
    let Some(site) = site else {
        let OverviewView { totals, directory, coverage } = request.federation.overview(operator);
        return Answer::ok(&Dashboard::Federation(FederationDashboard {
            licensed: Licensed,
            totals: totals.into(),
            host_count: directory.hosts,
            status_breakdown: directory.by_status,
            country_breakdown: directory.by_country,
            coverage: coverage.into(),
        }));
    };
    let view = request.federation.dashboard(operator, site)?;
    let hosts = view.rollups.hosts.latest().map(|rollup| DashboardHosts {
        host_count: rollup.host_count,
        active_count: rollup.active_count,
        os_breakdown: rollup.os_breakdown.clone(),
        status_breakdown: rollup.status_breakdown.clone(),
        snapshot_at: rollup.snapshot_at,
        age_seconds: age(rollup.snapshot_at, now),
    });
    let scores = view.rollups.scores().map(|rollup| DashboardCompliance {
        baseline: rollup.baseline.clone(),
        score_percent: rollup.score_percent,
        hosts_in_scope: rollup.hosts_in_scope,
        hosts_compliant: rollup.hosts_compliant,
        hosts_noncompliant: rollup.hosts_noncompliant,
        snapshot_at: rollup.snapshot_at,
        age_seconds: age(rollup.snapshot_at, now),
    });
    let found = view.rollups.vulnerabilities.latest().map(|rollup| DashboardVulnerabilities {
        critical_count: rollup.critical_count,
        high_count: rollup.high_count,
        medium_count: rollup.medium_count,
        low_count: rollup.low_count,
        affected_host_count: rollup.affected_host_count,
        top_cve_ids: rollup.top_cve_ids.clone(),
        snapshot_at: rollup.snapshot_at,
        age_seconds: age(rollup.snapshot_at, now),
    });
    Answer::ok(&Dashboard::Site(SiteDashboard {
        licensed: Licensed,
        host_rollup: hosts,
        compliance_rollups: scores.collect(),
        vulnerability_rollup: found,
        as_of: view.last_sync_at,
        age_seconds: view.last_sync_at.map(|at| age(at, now)),
    }))
}

pub(crate) fn report(request: &Request, operator: &Operator) -> Result<Answer, Problem> {
    let sites = request.query()?.sites("site_ids")?;
    let now = request.federation.now();
    let view = request.federation.rollup_report(operator, sites.as_deref());
    let rows = view.rows.iter().map(|standing| {
        let row = &standing.row;
        RowBody {
            site_id: row.site_id.0,
            site_name: row.site_name.as_str(),
            host_count: row.counts.host_count,
            active_count: row.counts.active_count,
            worst_compliance: row.worst_compliance.as_ref().map(|worst| WorstCompliance {
                baseline: &worst.baseline,
                score_percent: worst.score_percent,
            }),
            critical_count: row.counts.critical_count,
            high_count: row.counts.high_count,
            medium_count: row.counts.medium_count,
            low_count: row.counts.low_count,
            last_sync_at: row.last_sync_at,
            age_seconds: row.last_sync_at.map(|at| age(at, now)),
        }
    });
    Answer::ok(&RollupReport {
        licensed: Licensed,
        sites: rows.collect(),
        totals: view.totals.into(),
        coverage: view.coverage.into(),
    })
}

pub(crate) fn hosts(request: &Request, operator: &Operator) -> Result<Answer, Problem> {
    let items = request.federation.host_rollups(operator, &filter(&request.query()?)?)?;
    let now = request.federation.now();
    let rollups = items.into_iter().map(|item| {
        let RollupItem { site_id, site_name, rollup } = item;
        let rollup: HostRollup = Arc::unwrap_or_clone(rollup);
        HostItem {
            id: rollup.id.0,
            site_id: site_id.0,
            site_name: site_name.to_string(),
            snapshot_at: rollup.snapshot_at,
            host_count: rollup.host_count,
            active_count: rollup.active_count,
            age_seconds: age(rollup.snapshot_at(), now),
            os_breakdown: rollup.os_breakdown,
            status_breakdown: rollup.status_breakdown,
        }
    });
    Answer::ok(&HostRollups { licensed: Licensed, rollups: rollups.collect() })
}

pub(crate) fn compliance(request: &Request, operator: &Operator) -> Result<Answer, Problem> {
    let query = request.query()?;
    let filter = RollupFilter { baseline: query.text("baseline")?, ..filter(&query)? };
    let items = request.federation.compliance_rollups(operator, &filter)?;
    let now = request.federation.now();
    let rollups = items
        .into_iter()
        .map(|item| ComplianceItem::new(item.site_id, Some(item.site_name.to_string()), &item.rollup, now));
    Answer::ok(&ComplianceRollups { licensed: Licensed, rollups: rollups.collect() })
}

pub(crate) fn vulnerabilities(request: &Request, operator: &Operator) -> Result<Answer, Problem> {
    let items = request.federation.vulnerability_rollups(operator, &filter(&request.query()?)?)?;
    let now = request.federation.now();
    let rollups = items.into_iter().map(|item| {
        VulnerabilityItem::new(item.site_id, Some(item.site_name.to_string()), &item.rollup, now)
    });
    Answer::ok(&VulnerabilityRollups { licensed: Licensed, rollups: rollups.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_may_be_numeric_text_and_counts_of_findings_default_to_zero() {
        let score: ComplianceBody = json::parse(
            br#"{"baseline":"CIS","score_percent":"87.5","hosts_in_scope":"3","hosts_compliant":2,"hosts_noncompliant":"1"}"#,
        )
        .unwrap();
        let found: VulnerabilityBody = json::parse(br#"{"critical_count":"7","top_cve_ids":null}"#).unwrap();

        let score = ComplianceReport::from(score);
        let found = VulnerabilityReport::from(found);

        assert_eq!((score.score_percent, score.hosts_in_scope), (Some(87.5), 3));
        assert_eq!((found.critical_count, found.low_count, found.top_cve_ids), (7, 0, None));
        assert!(json::parse::<VulnerabilityBody>(br#"{"low_count":-1}"#).is_err());
        assert!(json::parse::<ComplianceBody>(br#"{"baseline":"x","score_percent":"much"}"#).is_err());
    }

    #[test]
    fn latest_is_the_default_and_bounds_hold() {
        let read = |text: &str| filter(&Query::parse(text).unwrap());

        assert!(read("").unwrap().latest);
        assert!(!read("latest=false").unwrap().latest);
        assert_eq!(read("").unwrap().limit, 100);
        for text in ["latest=maybe", "limit=0", "limit=1001", "offset=100001", "since=x", "site_id=x"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
