//! `hansa compliance` and `hansa vulnerabilities`: what a site knows of its own hosts' security.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::connection::Connection;
use super::failure::Failure;
use super::output::{self, Column, Format, field, instant, note};
use crate::client::Client;

const COMPLIANCE: &str = "/api/v1/site/compliance";
const VULNERABILITIES: &str = "/api/v1/site/vulnerabilities";

/// Bad rows that are named one by one before only their number is told.
const BAD_ROWS_SHOWN: usize = 20;

/// Flags of `hansa compliance`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  hansa compliance put 'CIS L1' results.ndjson\n  hansa compliance list\n  \
    hansa compliance show 'CIS L1'\n\n\
    A row is {\"host_id\": ID, \"rules_passed\": N, \"rules_failed\": N}, one a line, or {\"entries\": [...]}."
)]
pub struct ComplianceArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: ComplianceVerb,
}

#[derive(Debug, Subcommand)]
enum ComplianceVerb {
    /// Lists the baselines that this site holds results of.
    List,
    /// Shows the results against a baseline, host by host.
    Show {
        /// The baseline's name.
        baseline: String,
        /// Rows to show, 1 to 1000.
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: usize,
        /// `next_cursor` of the page before.
        #[arg(long, value_name = "TEXT")]
        cursor: Option<String>,
    },
    /// Replaces all results against a baseline.
    Put {
        /// The baseline's name.
        baseline: String,
        /// The file; `-` reads standard input.
        file: PathBuf,
    },
    /// Removes a baseline with its results.
    Remove {
        /// The baseline's name.
        baseline: String,
    },
}

/// Flags of `hansa vulnerabilities`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  hansa vulnerabilities put findings.ndjson\n  hansa vulnerabilities show\n\n\
    A row is {\"host_id\": ID, \"cve_id\": \"CVE-2026-0815\", \"severity\": \"critical\"}, one a line, or \
    {\"entries\": [...]}."
)]
pub struct VulnerabilityArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: VulnerabilityVerb,
}

#[derive(Debug, Subcommand)]
enum VulnerabilityVerb {
    /// Shows the findings, host by host.
    Show {
        /// Rows to show, 1 to 1000.
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: usize,
        /// `next_cursor` of the page before.
        #[arg(long, value_name = "TEXT")]
        cursor: Option<String>,
    },
    /// Replaces all findings.
    Put {
        /// The file; `-` reads standard input.
        file: PathBuf,
    },
}

const BASELINE: &[Column] = &[
    Column { heading: "BASELINE", cell: |item| field(item, "baseline") },
    Column { heading: "SCORE", cell: |item| field(item, "score_percent") },
    Column { heading: "HOSTS", cell: |item| field(item, "hosts_in_scope") },
    Column { heading: "COMPLIANT", cell: |item| field(item, "hosts_compliant") },
    Column { heading: "NOT", cell: |item| field(item, "hosts_noncompliant") },
    Column { heading: "TAKEN", cell: |item| instant(item, "taken_at") },
];

const SCAN: &[Column] = &[
    Column { heading: "HOST", cell: |item| field(item, "host_id") },
    Column { heading: "PASSED", cell: |item| field(item, "rules_passed") },
    Column { heading: "FAILED", cell: |item| field(item, "rules_failed") },
];

const FINDING: &[Column] = &[
    Column { heading: "HOST", cell: |item| field(item, "host_id") },
    Column { heading: "CVE", cell: |item| field(item, "cve_id") },
    Column { heading: "SEVERITY", cell: |item| field(item, "severity") },
];

pub(crate) async fn run_compliance(args: ComplianceArgs) -> Result<(), Failure> {
    let access = args.connection.open().await?;
    let ended = compliance(access.client(), args.connection.output, args.verb).await;
    access.close().await;
    ended
}

async fn compliance(client: &Client, format: Format, verb: ComplianceVerb) -> Result<(), Failure> {
    match verb {
        ComplianceVerb::List => output::list(format, &client.get(COMPLIANCE, &[]).await?, "items", BASELINE),
        ComplianceVerb::Show { baseline, limit, cursor } => {
            show(client, format, &path_of(&baseline), limit, cursor, SCAN).await
        }
        ComplianceVerb::Put { baseline, file } => put(client, format, &path_of(&baseline), &file).await,
        ComplianceVerb::Remove { baseline } => {
            client.send_json::<Value>(Method::DELETE, &path_of(&baseline), None).await?;
            if format == Format::Table {
                note("removed; the coordinator is told");
            }
            Ok(())
        }
    }
}

pub(crate) async fn run_vulnerabilities(args: VulnerabilityArgs) -> Result<(), Failure> {
    let access = args.connection.open().await?;
    let (client, format) = (access.client(), args.connection.output);
    let ended = match args.verb {
        VulnerabilityVerb::Show { limit, cursor } => {
            show(client, format, VULNERABILITIES, limit, cursor, FINDING).await
        }
        VulnerabilityVerb::Put { file } => put(client, format, VULNERABILITIES, &file).await,
    };
    access.close().await;
    ended
}

async fn show(
    client: &Client,
    format: Format,
    path: &str,
    limit: usize,
    cursor: Option<String>,
    columns: &[Column],
) -> Result<(), Failure> {
    let mut query = vec![("limit", limit.to_string())];
    query.extend(cursor.map(|cursor| ("cursor", cursor)));
    let answer = client.get(path, &query).await?;
    output::list(format, &answer, "items", columns)?;
    if format == Format::Table {
        let shown = answer.json["items"].as_array().map_or(0, Vec::len);
        note(&format!("{shown} of {}; {}", field(&answer.json, "total"), summary(&answer.json)));
        if let Some(cursor) = answer.json["next_cursor"].as_str() {
            note(&format!("more with --cursor {cursor}"));
        }
    }
    Ok(())
}

async fn put(client: &Client, format: Format, path: &str, file: &Path) -> Result<(), Failure> {
    let rows = lines(read(file)?);
    let answer = if rows.trim_ascii().is_empty() {
        // No line says nothing; an empty list says that there is nothing.
        client.send_json(Method::PUT, path, Some(&json!({"entries": []}))).await?
    } else {
        client.send_lines(Method::PUT, path, &[], rows).await?
    };
    for skipped in answer.json["skipped"].as_array().into_iter().flatten().take(BAD_ROWS_SHOWN) {
        note(&format!("skipped by the node: {skipped}"));
    }
    let body = &answer.json;
    let text = format!(
        "{} accepted, {} skipped; {}",
        field(body, "accepted"),
        field(body, "skipped_total"),
        summary(body)
    );
    output::value(format, body, &text)
}

/// What all rows come to, in one line.
fn summary(body: &Value) -> String {
    if body["hosts_in_scope"].is_null() {
        return format!(
            "{} critical, {} high, {} medium, {} low at {} hosts",
            field(body, "critical_count"),
            field(body, "high_count"),
            field(body, "medium_count"),
            field(body, "low_count"),
            field(body, "affected_host_count"),
        );
    }
    format!(
        "score {} %, {} of {} hosts compliant",
        field(body, "score_percent"),
        field(body, "hosts_compliant"),
        field(body, "hosts_in_scope"),
    )
}

/// The path of a baseline: its name as one segment.
fn path_of(baseline: &str) -> String {
    let escaped: String = baseline
        .bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect();
    format!("{COMPLIANCE}/{escaped}")
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let bytes = if file == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        std::fs::read(file)
    };
    bytes.map_err(|error| Failure::usage(format!("{} cannot be read: {error}", file.display())))
}

/// The rows one a line, from a file that has them so, in an array, or in an object under `entries`.
fn lines(bytes: Vec<u8>) -> Vec<u8> {
    let rows = match serde_json::from_slice::<Value>(&bytes) {
        Ok(Value::Array(rows)) => rows,
        Ok(Value::Object(mut body)) => match body.remove("entries") {
            Some(Value::Array(rows)) => rows,
            _ => return bytes,
        },
        _ => return bytes,
    };
    rows.iter().map(|row| format!("{row}\n")).collect::<String>().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_taken_in_each_of_the_three_forms() {
        for text in [r#"[{"a":1},{"b":2}]"#, r#"{"entries":[{"a":1},{"b":2}]}"#, "{\"a\":1}\n{\"b\":2}\n"] {
            assert_eq!(lines(text.as_bytes().to_vec()), b"{\"a\":1}\n{\"b\":2}\n", "{text}");
        }
    }

    #[test]
    fn name_of_a_baseline_is_one_segment_of_the_path() {
        assert_eq!(path_of("CIS L1/é"), "/api/v1/site/compliance/CIS%20L1%2F%C3%A9");
    }
}
