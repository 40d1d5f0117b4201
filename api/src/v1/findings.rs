//! A site's own results against baselines and vulnerabilities found (architecture 9): full snapshots in, and
//! what the site holds out.

use std::sync::Arc;

use hansa_actors::view::{FindingsAnswer, Skipped};
use hansa_model::finding::{Finding, FindingsSummary, HostScan, ScanSummary};
use hansa_model::limits::{finding as limits, inventory, rollup};
use hansa_model::scope::Operator;
use hansa_model::{HostId, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::ingest::SkippedRow;
use super::inventory::format;
use crate::answer::Answer;
use crate::json::{self, Count};
use crate::problem::Problem;
use crate::query::Query;
use crate::request::Request;
use crate::route::{Parameter, ParameterKind};
use crate::rows::{self, Row, Rows};
use crate::scan::{Members, Piece};

/// Rows of a page of our own lists when no limit is asked for.
const LIMIT_DEFAULT: usize = 50;

/// The newest result of one host. Numbers may be numeric text.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = HostScan)]
pub(crate) struct ScanBody {
    #[schema(value_type = String, format = Uuid)]
    host_id: HostId,
    /// Rules that the host follows.
    rules_passed: Count,
    /// Rules that it breaks.
    rules_failed: Count,
}

/// All results of a baseline. As NDJSON: one entry a line.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "documents a body that is read entry by entry")]
pub(crate) struct ScanSnapshot {
    entries: Vec<ScanBody>,
}

/// One vulnerability at one host.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = Finding)]
pub(crate) struct FindingBody {
    #[schema(value_type = String, format = Uuid)]
    host_id: HostId,
    /// Such as `CVE-2026-0815`.
    cve_id: String,
    /// `critical`, `high`, `medium` or `low`, in any case.
    severity: String,
}

/// All findings of the site. As NDJSON: one entry a line.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "documents a body that is read entry by entry")]
pub(crate) struct FindingSnapshot {
    entries: Vec<FindingBody>,
}

/// What a baseline's results come to.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Baseline {
    baseline: String,
    /// Mean over the hosts of rules passed in per cent, one decimal; null when no rule was checked.
    score_percent: Option<f64>,
    hosts_in_scope: u64,
    hosts_compliant: u64,
    hosts_noncompliant: u64,
    /// When the snapshot was taken in.
    #[schema(value_type = String, format = DateTime)]
    taken_at: Timestamp,
    age_seconds: u64,
}

impl Baseline {
    fn new(baseline: String, summary: &ScanSummary, now: Timestamp) -> Self {
        Self {
            baseline,
            score_percent: summary.score_percent,
            hosts_in_scope: summary.hosts_in_scope,
            hosts_compliant: summary.hosts_compliant,
            hosts_noncompliant: summary.hosts_noncompliant,
            taken_at: summary.taken_at,
            age_seconds: now.since(summary.taken_at).as_secs(),
        }
    }
}

/// The baselines that the site holds.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Baselines {
    items: Vec<Baseline>,
}

/// What a snapshot of a baseline did.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ScanResult {
    /// Results that the site holds now.
    accepted: usize,
    /// Entries that were not taken, the first 1,000 of them.
    skipped: Vec<SkippedRow>,
    /// All entries that were not taken.
    skipped_total: usize,
    #[serde(flatten)]
    summary: Baseline,
}

/// A stored result.
#[derive(Debug, Serialize, ToSchema)]
struct ScanItem {
    host_id: Uuid,
    rules_passed: u32,
    rules_failed: u32,
}

/// A page of a baseline's results.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ScanPage {
    items: Vec<ScanItem>,
    /// Give it as `cursor` to get the next page; null on the last one.
    next_cursor: Option<String>,
    /// Results in all.
    total: u64,
    #[serde(flatten)]
    summary: Baseline,
}

/// What the findings come to.
#[derive(Debug, Serialize, ToSchema)]
struct Summary {
    critical_count: u64,
    high_count: u64,
    medium_count: u64,
    low_count: u64,
    affected_host_count: u64,
    /// The CVEs that concern most hosts, the most first.
    top_cve_ids: Vec<String>,
    /// When the snapshot was taken in.
    #[schema(value_type = String, format = DateTime)]
    taken_at: Timestamp,
    age_seconds: u64,
}

impl Summary {
    fn new(summary: &FindingsSummary, now: Timestamp) -> Self {
        Self {
            critical_count: summary.critical_count,
            high_count: summary.high_count,
            medium_count: summary.medium_count,
            low_count: summary.low_count,
            affected_host_count: summary.affected_host_count,
            top_cve_ids: summary.top_cve_ids.iter().map(ToString::to_string).collect(),
            taken_at: summary.taken_at,
            age_seconds: now.since(summary.taken_at).as_secs(),
        }
    }
}

/// What a snapshot of the findings did.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FindingResult {
    /// Findings that the site holds now.
    accepted: usize,
    /// Entries that were not taken, the first 1,000 of them.
    skipped: Vec<SkippedRow>,
    /// All entries that were not taken.
    skipped_total: usize,
    #[serde(flatten)]
    summary: Summary,
}

/// A stored finding.
#[derive(Debug, Serialize, ToSchema)]
struct FindingItem {
    host_id: Uuid,
    cve_id: String,
    severity: &'static str,
}

/// A page of the findings.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FindingPage {
    items: Vec<FindingItem>,
    /// Give it as `cursor` to get the next page; null on the last one.
    next_cursor: Option<String>,
    /// Findings in all.
    total: u64,
    #[serde(flatten)]
    summary: Summary,
}

/// The parameters of a page.
pub(crate) const PAGE_QUERY: &[Parameter] = &[
    Parameter { name: "limit", kind: ParameterKind::Integer, description: "rows of the page, 1 to 1,000" },
    Parameter { name: "cursor", kind: ParameterKind::Text, description: "`next_cursor` of the page before" },
];

/// Where a page begins, and how many rows it may have.
fn page(query: &Query) -> Result<(u64, usize), Problem> {
    let limit = query.number("limit", 1..=rollup::LIMIT_MAX)?.unwrap_or(LIMIT_DEFAULT);
    let from = query.number("cursor", 0..=usize::MAX)?.unwrap_or(0);
    Ok((from as u64, limit))
}

fn next_cursor(from: u64, rows: usize, total: u64) -> Option<String> {
    let next = from + rows as u64;
    (rows > 0 && next < total).then(|| next.to_string())
}

fn listed(skipped: Vec<Skipped>) -> (Vec<SkippedRow>, usize) {
    let total = skipped.len();
    let rows = skipped.into_iter().take(inventory::SKIPPED_LISTED_MAX).map(SkippedRow::from).collect();
    (rows, total)
}

fn read<T: DeserializeOwned>(piece: Piece<'_>) -> Row<T> {
    match piece {
        Piece::Entry(bytes) | Piece::Line(bytes) if json::is_object(bytes) => {
            serde_json::from_slice(bytes).map_err(|_| json::reason_for::<T>(bytes))
        }
        Piece::Entry(_) | Piece::Line(_) => Err("it is not a JSON object".to_owned()),
        // Only a delta's scanner hands these out.
        Piece::Removal(_) => Err("a removal does not belong here".to_owned()),
        Piece::EntryTooLong => Err(rows::too_long()),
    }
}

fn scan(piece: Piece<'_>) -> Row<HostScan> {
    let body: ScanBody = read(piece)?;
    let rules = |name: &str, count: Count| {
        u32::try_from(count.0).map_err(|_| format!("{name} is more than any baseline has"))
    };
    Ok(HostScan {
        host_id: body.host_id,
        rules_passed: rules("rules_passed", body.rules_passed)?,
        rules_failed: rules("rules_failed", body.rules_failed)?,
    })
}

fn finding(piece: Piece<'_>) -> Row<Finding> {
    let body: FindingBody = read(piece)?;
    Ok(Finding {
        host_id: body.host_id,
        cve_id: body.cve_id.trim().parse().map_err(|error| format!("cve_id {error}"))?,
        severity: body.severity.trim().parse().map_err(|error| format!("severity {error}"))?,
    })
}

pub(crate) fn baselines(request: &Request) -> Result<Answer, Problem> {
    let now = request.federation.now();
    let items = request.federation.scans()?.into_iter();
    let items = items.map(|(baseline, summary)| Baseline::new(baseline, &summary, now)).collect();
    Answer::ok(&Baselines { items })
}

pub(crate) fn scans(request: &Request) -> Result<Answer, Problem> {
    let (from, limit) = page(&request.query()?)?;
    let baseline = request.argument("baseline");
    let view = request.federation.host_scans(baseline, from, limit)?;
    Answer::ok(&ScanPage {
        next_cursor: next_cursor(from, view.rows.len(), view.total),
        total: view.total,
        items: view
            .rows
            .iter()
            .map(|scan| ScanItem {
                host_id: scan.host_id.0,
                rules_passed: scan.rules_passed,
                rules_failed: scan.rules_failed,
            })
            .collect(),
        summary: Baseline::new(baseline.to_owned(), &view.summary, request.federation.now()),
    })
}

pub(crate) async fn put_scans(mut request: Request, _operator: Arc<Operator>) -> Result<Answer, Problem> {
    let baseline = request.argument("baseline").to_owned();
    let rows = Rows::new(format(&request)?, Members::Entries, scan);
    let rows = rows.read_all(&mut request).await?;
    let answer = request.federation.put_scans(baseline, rows).await?;
    let (skipped, skipped_total) = listed(answer.skipped);
    let summary = Baseline::new(answer.baseline, &answer.summary, request.federation.now());
    Answer::ok(&ScanResult { accepted: answer.accepted, skipped, skipped_total, summary })
}

pub(crate) async fn remove_scans(request: Request, _operator: Arc<Operator>) -> Result<Answer, Problem> {
    request.federation.remove_scans(request.argument("baseline").to_owned()).await?;
    Ok(Answer::no_content())
}

pub(crate) fn findings(request: &Request) -> Result<Answer, Problem> {
    let (from, limit) = page(&request.query()?)?;
    let view = request.federation.findings(from, limit)?;
    Answer::ok(&FindingPage {
        next_cursor: next_cursor(from, view.rows.len(), view.total),
        total: view.total,
        items: view
            .rows
            .iter()
            .map(|finding| FindingItem {
                host_id: finding.host_id.0,
                cve_id: finding.cve_id.to_string(),
                severity: finding.severity.as_str(),
            })
            .collect(),
        summary: Summary::new(&view.summary, request.federation.now()),
    })
}

pub(crate) async fn put_findings(mut request: Request, _operator: Arc<Operator>) -> Result<Answer, Problem> {
    let rows = Rows::new(format(&request)?, Members::Entries, finding).up_to(limits::FINDINGS_MAX);
    let rows = rows.read_all(&mut request).await?;
    let FindingsAnswer { accepted, skipped, summary } = request.federation.put_findings(rows).await?;
    let (skipped, skipped_total) = listed(skipped);
    let summary = Summary::new(&summary, request.federation.now());
    Answer::ok(&FindingResult { accepted, skipped, skipped_total, summary })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    #[test]
    fn bad_row_says_what_is_wrong_and_repeats_no_value() {
        for (text, what) in [
            (format!(r#"{{"host_id":"{ID}","cve_id":"canary","severity":"low"}}"#), "cve_id"),
            (format!(r#"{{"host_id":"{ID}","cve_id":"CVE-2026-0815","severity":"canary"}}"#), "severity"),
            (r#"{"host_id":"canary","cve_id":"CVE-2026-0815","severity":"low"}"#.to_owned(), "host_id"),
            ("\"canary\"".to_owned(), "object"),
        ] {
            let error = finding(Piece::Line(text.as_bytes())).unwrap_err();

            assert!(error.contains(what) && !error.contains("canary"), "{error}");
        }
        let good = format!(r#"{{"host_id":"{ID}","cve_id":"CVE-2026-0815","severity":"High"}}"#);
        assert!(finding(Piece::Entry(good.as_bytes())).is_ok());
    }

    #[test]
    fn rules_may_be_numeric_text() {
        let row = scan(Piece::Line(
            format!(r#"{{"host_id":"{ID}","rules_passed":"7","rules_failed":0}}"#).as_bytes(),
        ));

        assert_eq!(row.unwrap().rules_passed, 7);
        let large = format!(r#"{{"host_id":"{ID}","rules_passed":5000000000,"rules_failed":0}}"#);
        assert!(scan(Piece::Line(large.as_bytes())).is_err());
    }
}
