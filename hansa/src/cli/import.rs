//! `hansa import`: files that people already have, into a site's inventory.
//!
//! Without `--snapshot` a file only adds and changes: a host it omits stays. The rows go out in calls of a
//! bounded size, so a large file shows progress and a lost connection loses one call; every call repeats
//! safely.

use std::path::PathBuf;

use clap::Args;
use reqwest::Method;
use serde::Serialize;
use serde_json::{Value, json};

use super::connection::Connection;
use super::failure::{Exit, Failure, chain};
use super::output::{self, note};
use crate::client::Client;
use crate::input::import::{self, Imported};

const HOSTS: &str = "/api/v1/site/hosts";

/// Rows of one call without `--snapshot`: about 3 MB, answered within a second on a slow disk.
const CALL_ROWS: usize = 10_000;

/// Bad rows that are named one by one before only their number is told.
const BAD_ROWS_SHOWN: usize = 20;

/// Flags of `hansa import`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  ansible all -m setup --tree facts/ && hansa import facts/\n  \
    osqueryi --json 'select * from system_info' | tee host.json && hansa import host.json\n  \
    hansa import fleet.csv --snapshot")]
pub struct ImportArgs {
    /// The file, or a folder of Ansible facts.
    file: PathBuf,
    /// How the file is written: auto, ansible, osquery, csv or entries (our own JSON or NDJSON).
    #[arg(long, default_value = "auto")]
    format: String,
    /// The file is all there is: hosts of this site that it omits are removed.
    #[arg(long)]
    snapshot: bool,
    /// Lets a snapshot remove more than 10 hosts and a fifth of all.
    #[arg(long, requires = "snapshot")]
    confirm_removals: bool,
    #[command(flatten)]
    connection: Connection,
}

/// What all calls of one import did.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Tally {
    accepted: u64,
    changed: u64,
    retired: u64,
    skipped: Vec<Value>,
}

impl Tally {
    fn add(&mut self, answer: &Value) {
        let count = |name: &str| answer.get(name).and_then(Value::as_u64).unwrap_or(0);
        self.accepted += count("accepted");
        self.changed += count("changed");
        self.retired += count("retired");
        self.skipped.extend(answer.get("skipped").and_then(Value::as_array).into_iter().flatten().cloned());
    }
}

pub(crate) async fn run(args: ImportArgs) -> Result<(), Failure> {
    let imported = read(&args)?;
    report_bad_rows(&imported);
    if imported.entries.is_empty() && imported.removals.is_empty() {
        return Err(Failure::new(Exit::Failed, format!("{} holds no host", args.file.display())));
    }
    let access = args.connection.open().await?;
    let sent = send(access.client(), &args, &imported).await;
    access.close().await;
    let tally = sent?;
    for skipped in tally.skipped.iter().take(BAD_ROWS_SHOWN) {
        note(&format!("skipped by the node: {skipped}"));
    }
    let text = format!("{} accepted, {} changed, {} removed", tally.accepted, tally.changed, tally.retired);
    output::value(args.connection.output, &json!(tally), &text)
}

fn read(args: &ImportArgs) -> Result<Imported, Failure> {
    let format = match args.format.as_str() {
        "auto" => None,
        named => {
            Some(named.parse().map_err(|error: import::UnknownFormat| Failure::usage(error.to_string()))?)
        }
    };
    import::read(&args.file, format).map_err(|error| Failure::usage(chain(&error)))
}

fn report_bad_rows(imported: &Imported) {
    for row in imported.errors.iter().take(BAD_ROWS_SHOWN) {
        note(&format!("left out: {row}"));
    }
    if imported.errors_total > BAD_ROWS_SHOWN {
        note(&format!("{} rows were left out in all", imported.errors_total));
    }
    if !imported.columns_ignored.is_empty() {
        note(&format!("columns that no field takes: {}", imported.columns_ignored.join(", ")));
    }
}

async fn send(client: &Client, args: &ImportArgs, imported: &Imported) -> Result<Tally, Failure> {
    let mut tally = Tally::default();
    if args.snapshot {
        let confirmed = args.confirm_removals.then(|| ("confirm_removals", "true".to_owned()));
        let query: Vec<_> = confirmed.into_iter().collect();
        let lines = lines(&imported.entries)?;
        tally.add(&client.send_lines(Method::PUT, HOSTS, &query, lines).await?.json);
        return Ok(tally);
    }
    let total = imported.entries.len() + imported.removals.len();
    let mut done = 0;
    for entries in imported.entries.chunks(CALL_ROWS) {
        tally.add(&client.send_lines(Method::PATCH, HOSTS, &[], lines(entries)?).await?.json);
        done += entries.len();
        progress(done, total);
    }
    for removals in imported.removals.chunks(CALL_ROWS) {
        let rows: Vec<Value> = removals.iter().map(|host_id| json!({"remove": host_id})).collect();
        tally.add(&client.send_lines(Method::PATCH, HOSTS, &[], lines(&rows)?).await?.json);
        done += removals.len();
        progress(done, total);
    }
    Ok(tally)
}

fn progress(done: usize, total: usize) {
    if total > CALL_ROWS {
        note(&format!("{done} of {total} rows"));
    }
}

/// NDJSON: one compact value a line.
fn lines<T: Serialize>(rows: &[T]) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut bytes, row)
            .map_err(|error| Failure::new(Exit::Failed, format!("a row cannot be written: {error}")))?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_several_calls_add_up() {
        let mut tally = Tally::default();

        tally.add(&json!({"accepted": 2, "changed": 1, "retired": 0, "skipped": [{"index": 1}]}));
        tally.add(&json!({"accepted": 3, "changed": 3, "retired": 1, "skipped": []}));

        assert_eq!((tally.accepted, tally.changed, tally.retired, tally.skipped.len()), (5, 4, 1, 1));
    }

    #[test]
    fn rows_become_one_line_each() {
        let bytes = lines(&[json!({"fqdn": "a\nb"}), json!({"fqdn": "c"})]).unwrap();

        assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 2);
    }
}
