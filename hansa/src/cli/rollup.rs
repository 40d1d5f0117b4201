//! `hansa rollup`: the federation at a glance, one site's latest rollups, and all sites compared.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::connection::Connection;
use super::failure::Failure;
use super::output::{self, Column, Format, field, instant, note};
use super::site;
use crate::client::{Answer, Client};

const DASHBOARD: &str = "/api/v1/federation/rollups/dashboard";
const REPORT: &str = "/api/v1/federation/reports/rollup";

/// Flags of `hansa rollup`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  hansa rollup dashboard\n  hansa rollup dashboard berlin\n  \
    hansa rollup report --site berlin,fra1 -o json")]
pub struct RollupArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: RollupVerb,
}

#[derive(Debug, Subcommand)]
enum RollupVerb {
    /// Shows a site's latest rollups, or the whole federation at a glance.
    Dashboard {
        /// Name or id of the site [default: the whole federation].
        site: Option<String>,
    },
    /// Compares sites by their latest rollups, with totals.
    Report {
        /// Only these sites, by name or id; may be given several times [default: every enrolled one].
        #[arg(long, value_delimiter = ',')]
        site: Vec<String>,
    },
}

const OVERVIEW: &[Column] = &[
    Column { heading: "sites", cell: |body| field(&body["totals"], "site_count") },
    Column { heading: "hosts reported", cell: |body| field(&body["totals"], "host_count") },
    Column { heading: "of them active", cell: |body| field(&body["totals"], "active_count") },
    Column { heading: "critical findings", cell: |body| field(&body["totals"], "critical_count") },
    Column { heading: "high findings", cell: |body| field(&body["totals"], "high_count") },
    Column { heading: "medium findings", cell: |body| field(&body["totals"], "medium_count") },
    Column { heading: "low findings", cell: |body| field(&body["totals"], "low_count") },
    Column { heading: "hosts in the directory", cell: |body| field(body, "host_count") },
    Column { heading: "by status", cell: |body| field(body, "status_breakdown") },
    Column { heading: "by country", cell: |body| field(body, "country_breakdown") },
];

const SITE: &[Column] = &[
    Column { heading: "hosts", cell: |body| field(&body["host_rollup"], "host_count") },
    Column { heading: "of them active", cell: |body| field(&body["host_rollup"], "active_count") },
    Column { heading: "by status", cell: |body| field(&body["host_rollup"], "status_breakdown") },
    Column { heading: "by system", cell: |body| field(&body["host_rollup"], "os_breakdown") },
    Column { heading: "compliance", cell: scores },
    Column {
        heading: "critical findings",
        cell: |body| field(&body["vulnerability_rollup"], "critical_count"),
    },
    Column { heading: "high findings", cell: |body| field(&body["vulnerability_rollup"], "high_count") },
    Column { heading: "medium findings", cell: |body| field(&body["vulnerability_rollup"], "medium_count") },
    Column { heading: "low findings", cell: |body| field(&body["vulnerability_rollup"], "low_count") },
    Column {
        heading: "affected hosts",
        cell: |body| field(&body["vulnerability_rollup"], "affected_host_count"),
    },
    Column { heading: "most frequent", cell: |body| field(&body["vulnerability_rollup"], "top_cve_ids") },
    Column { heading: "last heard", cell: |body| instant(body, "as_of") },
];

const ROW: &[Column] = &[
    Column { heading: "SITE", cell: |row| field(row, "site_name") },
    Column { heading: "HOSTS", cell: |row| field(row, "host_count") },
    Column { heading: "ACTIVE", cell: |row| field(row, "active_count") },
    Column { heading: "WORST BASELINE", cell: |row| field(&row["worst_compliance"], "baseline") },
    Column { heading: "SCORE", cell: |row| field(&row["worst_compliance"], "score_percent") },
    Column { heading: "CRITICAL", cell: |row| field(row, "critical_count") },
    Column { heading: "HIGH", cell: |row| field(row, "high_count") },
    Column { heading: "MEDIUM", cell: |row| field(row, "medium_count") },
    Column { heading: "LOW", cell: |row| field(row, "low_count") },
    Column { heading: "LAST HEARD", cell: |row| instant(row, "last_sync_at") },
];

pub(crate) async fn run(args: RollupArgs) -> Result<(), Failure> {
    let access = args.connection.open().await?;
    let ended = carry_out(access.client(), args.connection.output, args.verb).await;
    access.close().await;
    ended
}

async fn carry_out(client: &Client, format: Format, verb: RollupVerb) -> Result<(), Failure> {
    match verb {
        RollupVerb::Dashboard { site: None } => {
            let answer = client.get(DASHBOARD, &[]).await?;
            output::item(format, &answer, None, OVERVIEW)?;
            note_silent(format, &answer);
            Ok(())
        }
        RollupVerb::Dashboard { site: Some(site) } => {
            let id = site::resolve(client, &site).await?;
            let answer = client.get(DASHBOARD, &[("site_id", id)]).await?;
            output::item(format, &answer, None, SITE)
        }
        RollupVerb::Report { site } => {
            let mut ids = Vec::new();
            for site in &site {
                ids.push(site::resolve(client, site).await?);
            }
            let query: Vec<_> = (!ids.is_empty()).then(|| ("site_ids", ids.join(","))).into_iter().collect();
            let answer = client.get(REPORT, &query).await?;
            output::list(format, &answer, "sites", ROW)?;
            if format == Format::Table {
                let totals = &answer.json["totals"];
                note(&format!(
                    "{} sites, {} hosts, {} critical and {} high findings",
                    field(totals, "site_count"),
                    field(totals, "host_count"),
                    field(totals, "critical_count"),
                    field(totals, "high_count"),
                ));
            }
            note_silent(format, &answer);
            Ok(())
        }
    }
}

/// Says which sites have not been heard: what stands about them may be old.
fn note_silent(format: Format, answer: &Answer) {
    let silent = answer.json["coverage"]["silent"].as_array().map(Vec::as_slice).unwrap_or_default();
    if format == Format::Table && !silent.is_empty() {
        let names: Vec<String> = silent.iter().map(|site| field(site, "name")).collect();
        note(&format!("silent, so what stands about them may be old: {}", names.join(", ")));
    }
}

/// Each baseline with its score.
fn scores(body: &Value) -> String {
    let scores = body["compliance_rollups"].as_array().map(Vec::as_slice).unwrap_or_default();
    let texts: Vec<String> = scores
        .iter()
        .map(|score| format!("{} {} %", field(score, "baseline"), field(score, "score_percent")))
        .collect();
    if texts.is_empty() { "-".to_owned() } else { texts.join(", ") }
}
