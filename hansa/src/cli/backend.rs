//! `hansa backend`: the stores of others whose secrets are read here.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use hansa_model::Timestamp;
use hansa_model::secrets::backend::BackendKind;
use hansa_model::secrets::id::{BackendId, ConflictId};
use hansa_model::secrets::path::SecretPath;
use hansa_model::secrets::row::Mode;
use reqwest::Method;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::argument::{parse_span, read_json};
use super::connection::Connection;
use super::failure::{Exit, Failure};
use super::output::{self, Column, Format, field, instant, note};
use super::secret::{Typed, note_warnings};
use super::site;
use super::tenant::TenantFlag;
use crate::client::{Answer, Client};

const BACKENDS: &str = "/v1/federation/backends";
const EXPLAIN: &str = "/v1/federation/explain";

/// Flags of `hansa backend`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    hansa secret put infra/vault/login role_id=@role.txt secret_id=@secret.txt\n  \
    hansa backend add vault --type hashicorp-vault --config endpoint=https://vault.example.com:8200 \\\n    \
    --config auth_method=approle --config auth_config_path=infra/vault/login \\\n    \
    --map 'external/vault/**=secret/data/**' --dry-run\n  \
    hansa backend add aws --type aws-secrets-manager --config-file aws.json \\\n    \
    --map 'external/aws/**=prod/**' --mode sync --interval 15m\n  \
    hansa backend sync aws\n  \
    hansa backend explain external/aws/db\n  \
    hansa backend resolve aws cfl_01890a5dac96774bbcceb302099a8057 --take-remote")]
pub struct BackendArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    tenant: TenantFlag,
    #[command(subcommand)]
    verb: BackendVerb,
}

#[derive(Debug, Subcommand)]
enum BackendVerb {
    /// Makes a backend: its paths lead there at once.
    Add(Box<AddArgs>),
    /// Lists the backends.
    List,
    /// Shows one backend; it never holds a login, only the path of one.
    Show {
        /// Name or id.
        backend: String,
    },
    /// Shows how a backend does: whether it answers, and how its syncs go.
    Status {
        /// Name or id.
        backend: String,
    },
    /// Starts a sync, or joins the running one, and waits until it has ended.
    Sync {
        /// Name or id.
        backend: String,
        /// Deletes as many copies as the backend no longer lists.
        #[arg(long)]
        confirm_deletions: bool,
        /// Does not wait for its end.
        #[arg(long)]
        no_wait: bool,
    },
    /// Lists the paths whose local value is served and whose backend says otherwise; never a value.
    Conflicts {
        /// Name or id.
        backend: String,
    },
    /// Ends a conflict by choosing a side.
    #[command(group = clap::ArgGroup::new("side").required(true))]
    Resolve {
        /// Name or id.
        backend: String,
        /// The conflict's id, from `hansa backend conflicts`.
        conflict: ConflictId,
        /// Goes on with the local value, until the backend's changes again.
        #[arg(long, group = "side")]
        keep_local: bool,
        /// Takes the backend's value as a new version.
        #[arg(long, group = "side")]
        take_remote: bool,
    },
    /// Shows which mappings a path meets, which of them is asked, and why not the others.
    Explain {
        /// Path, such as external/aws/db.
        path: SecretPath,
    },
    /// Removes a backend and its copies; at the backend itself nothing changes.
    Remove {
        /// Name or id.
        backend: String,
        /// Turns its copies into ordinary secrets instead of deleting them.
        #[arg(long)]
        keep_synced: bool,
        /// Does not ask for the name again.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
struct AddArgs {
    /// Name of the backend, unique in the tenant.
    name: String,
    /// hashicorp-vault, aws-secrets-manager, azure-key-vault or google-secret-manager.
    #[arg(long = "type", value_name = "TYPE")]
    kind: BackendKind,
    /// File with the configuration, a JSON object; `-` reads standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    config_file: Option<PathBuf>,
    /// One member of the configuration; may be given several times. It names the path of the secret with the
    /// login, and never holds a login.
    #[arg(long, value_name = "KEY=VALUE")]
    config: Vec<Typed>,
    /// Which paths lead to which names, such as 'external/aws/**=prod/**'; may be given several times. A
    /// pattern with = in it takes => before the template.
    #[arg(long = "map", value_name = "PATTERN=TEMPLATE", required = true, value_parser = parse_mapping)]
    mappings: Vec<(String, String)>,
    /// proxy asks the backend for each read, sync keeps sealed copies.
    #[arg(long, default_value = "proxy")]
    mode: Mode,
    /// Time between two syncs, 1m to 24h [default with --mode sync: 15m].
    #[arg(long, value_name = "DURATION", value_parser = parse_span)]
    interval: Option<String>,
    /// Writes go through to the backend; with --mode sync only.
    #[arg(long)]
    write_through: bool,
    /// Judges it and asks the backend once, and stores nothing.
    #[arg(long)]
    dry_run: bool,
}

const INTERVAL_DEFAULT: &str = "15m";

const ROW: &[Column] = &[
    Column { heading: "NAME", cell: |backend| field(backend, "name") },
    Column { heading: "TYPE", cell: |backend| field(backend, "type") },
    Column { heading: "MODE", cell: |backend| field(backend, "mode") },
    Column { heading: "INTERVAL", cell: |backend| field(backend, "sync_interval") },
    Column { heading: "ENABLED", cell: |backend| field(backend, "enabled") },
    Column { heading: "MAPPINGS", cell: mappings },
    Column { heading: "ID", cell: |backend| field(backend, "id") },
];

const SHEET: &[Column] = &[
    Column { heading: "name", cell: |backend| field(backend, "name") },
    Column { heading: "id", cell: |backend| field(backend, "id") },
    Column { heading: "type", cell: |backend| field(backend, "type") },
    Column { heading: "config", cell: |backend| field(backend, "config") },
    Column { heading: "mappings", cell: mappings },
    Column { heading: "mode", cell: |backend| field(backend, "mode") },
    Column { heading: "interval", cell: |backend| field(backend, "sync_interval") },
    Column { heading: "write through", cell: |backend| field(backend, "write_through") },
    Column { heading: "enabled", cell: |backend| field(backend, "enabled") },
    Column { heading: "created", cell: |backend| instant(backend, "created_at") },
    Column { heading: "updated", cell: |backend| instant(backend, "updated_at") },
];

const STATUS: &[Column] = &[
    Column { heading: "name", cell: |status| field(status, "name") },
    Column { heading: "id", cell: |status| field(status, "id") },
    Column { heading: "status", cell: |status| field(status, "status") },
    Column { heading: "connection", cell: |status| field(&status["connection"], "status") },
    Column { heading: "latency (ms)", cell: |status| field(&status["connection"], "latency_ms") },
    Column { heading: "last sync", cell: |status| instant(status, "last_sync") },
    Column { heading: "it took (ms)", cell: |status| field(status, "last_sync_duration_ms") },
    Column { heading: "next sync", cell: |status| instant(status, "next_sync") },
    Column { heading: "copies", cell: |status| field(status, "secrets_synced") },
    Column { heading: "skipped", cell: |status| field(status, "secrets_skipped") },
    Column { heading: "conflicts", cell: |status| field(status, "conflicts_open") },
    Column { heading: "deletions held back", cell: |status| field(status, "deletions_guarded") },
    Column { heading: "failures in a row", cell: |status| field(status, "consecutive_failures") },
    Column { heading: "reads waiting", cell: |status| field(status, "reads_waiting") },
    Column { heading: "left alone until", cell: |status| instant(status, "resting_until") },
    Column { heading: "last error", cell: |status| field(status, "last_error") },
    Column { heading: "of", cell: |status| instant(status, "last_error_at") },
];

const STARTED: &[Column] = &[
    Column { heading: "sync", cell: |sync| field(sync, "sync_id") },
    Column { heading: "status", cell: |sync| field(sync, "status") },
    Column { heading: "started", cell: |sync| instant(sync, "started_at") },
];

const RUN: &[Column] = &[
    Column { heading: "sync", cell: |run| field(run, "sync_id") },
    Column { heading: "complete", cell: |run| field(run, "complete") },
    Column { heading: "listed", cell: |run| field(run, "listed") },
    Column { heading: "created", cell: |run| field(run, "created") },
    Column { heading: "updated", cell: |run| field(run, "updated") },
    Column { heading: "deleted", cell: |run| field(run, "deleted") },
    Column { heading: "skipped", cell: |run| field(run, "skipped") },
    Column { heading: "conflicts", cell: |run| field(run, "conflicts") },
    Column { heading: "failed", cell: |run| field(run, "failed") },
    Column { heading: "started", cell: |run| instant(run, "started_at") },
    Column { heading: "ended", cell: |run| instant(run, "ended_at") },
];

const CONFLICT: &[Column] = &[
    Column { heading: "PATH", cell: |conflict| field(conflict, "path") },
    Column { heading: "BACKEND PATH", cell: |conflict| field(conflict, "backend_path") },
    Column { heading: "KIND", cell: |conflict| field(conflict, "kind") },
    Column { heading: "LOCAL", cell: |conflict| field(&conflict["local"], "version") },
    Column { heading: "REMOTE", cell: |conflict| field(&conflict["remote"], "version") },
    Column { heading: "KEPT", cell: |conflict| field(conflict, "kept_local") },
    Column { heading: "SINCE", cell: |conflict| instant(conflict, "detected_at") },
    Column { heading: "ID", cell: |conflict| field(conflict, "id") },
];

const EXPLAINED: &[Column] = &[
    Column { heading: "", cell: |row| if wins(row) { "→" } else { "" }.to_owned() },
    Column { heading: "BACKEND", cell: |row| field(row, "backend") },
    Column { heading: "PATTERN", cell: |row| field(row, "pattern") },
    Column { heading: "TEMPLATE", cell: |row| field(row, "template") },
    Column { heading: "NAME THERE", cell: |row| field(row, "name") },
    Column { heading: "WHY", cell: why },
];

pub(crate) async fn run(args: BackendArgs) -> Result<(), Failure> {
    let access = args.connection.open().await?;
    let client = access.client().for_tenant(args.tenant.tenant);
    let ended = carry_out(&client, args.connection.output, args.verb).await;
    access.close().await;
    ended
}

async fn carry_out(client: &Client, format: Format, verb: BackendVerb) -> Result<(), Failure> {
    match verb {
        BackendVerb::Add(args) => add(client, format, &args).await,
        BackendVerb::List => {
            let answer = client.get_pages(BACKENDS, &[], "backends", None).await?;
            output::list(format, &answer, "backends", ROW)
        }
        BackendVerb::Show { backend } => {
            let answer = client.get(&path(client, &backend).await?, &[]).await?;
            output::item(format, &answer, None, SHEET)
        }
        BackendVerb::Status { backend } => {
            let path = path(client, &backend).await?;
            let answer = client.get(&format!("{path}/status"), &[]).await?;
            note_warnings(&answer);
            output::item(format, &answer, None, STATUS)
        }
        BackendVerb::Sync { backend, confirm_deletions, no_wait } => {
            sync(client, format, &backend, confirm_deletions, no_wait).await
        }
        BackendVerb::Conflicts { backend } => {
            let path = path(client, &backend).await?;
            let answer = client.get_pages(&format!("{path}/conflicts"), &[], "conflicts", None).await?;
            output::list(format, &answer, "conflicts", CONFLICT)
        }
        BackendVerb::Resolve { backend, conflict, keep_local, take_remote: _ } => {
            let path = format!("{}/conflicts/{conflict}/resolve", path(client, &backend).await?);
            let (strategy, outcome) = if keep_local {
                ("keep_local", "the local value stays until the backend's changes")
            } else {
                ("take_remote", "the backend's value is the newest version now")
            };
            client.send_json(Method::POST, &path, Some(&json!({ "strategy": strategy }))).await?;
            note(&format!("{conflict} is resolved: {outcome}"));
            Ok(())
        }
        BackendVerb::Explain { path } => explain(client, format, &path).await,
        BackendVerb::Remove { backend, keep_synced, yes } => {
            let path = path(client, &backend).await?;
            if !yes {
                site::confirm(&backend)?;
            }
            let query = if keep_synced { vec![("keep_synced", "true".to_owned())] } else { Vec::new() };
            client.send_json_with::<Value>(Method::DELETE, &path, &query, None).await?;
            let copies =
                if keep_synced { "its copies are ordinary secrets now" } else { "so are its copies" };
            note(&format!("{backend} is removed; {copies}"));
            Ok(())
        }
    }
}

async fn add(client: &Client, format: Format, args: &AddArgs) -> Result<(), Failure> {
    let config = match &args.config_file {
        Some(file) => read_json("configuration", file)?,
        None => Value::Object(members(&args.config)?),
    };
    let mut path_mapping = BTreeMap::new();
    for (pattern, template) in &args.mappings {
        if path_mapping.insert(pattern.as_str(), template.as_str()).is_some() {
            return Err(Failure::usage(format!("--map {pattern} is given twice")));
        }
    }
    let default = (args.mode == Mode::Sync).then_some(INTERVAL_DEFAULT);
    let mut body = json!({
        "name": args.name,
        "type": args.kind.as_str(),
        "config": config,
        "path_mapping": path_mapping,
        "mode": args.mode.as_str(),
        "write_through": args.write_through,
    });
    if let Some(interval) = args.interval.as_deref().or(default) {
        body["sync_interval"] = interval.into();
    }
    let query = if args.dry_run { vec![("dry_run", "true".to_owned())] } else { Vec::new() };
    let answer = client.send_json_with(Method::POST, BACKENDS, &query, Some(&body)).await?;
    note_warnings(&answer);
    if args.dry_run {
        note("it would be made like this; nothing is stored");
    }
    output::item(format, &answer, None, SHEET)
}

/// Between two looks at a sync that is waited for: at first, and at most. The looks are counted among the twenty
/// calls of a minute.
const LOOK_INTERVAL: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(10)];
/// Between two notes that it still runs.
const NOTE_INTERVAL: Duration = Duration::from_secs(10);

async fn sync(
    client: &Client,
    format: Format,
    backend: &str,
    confirm_deletions: bool,
    no_wait: bool,
) -> Result<(), Failure> {
    let path = path(client, backend).await?;
    let body = json!({ "confirm_deletions": confirm_deletions });
    let started = client.send_json(Method::POST, &format!("{path}/sync"), Some(&body)).await?;
    if no_wait {
        return output::item(format, &started, None, STARTED);
    }
    let id = field(&started.json, "sync_id");
    let verb =
        if field(&started.json, "status") == "already_running" { "runs already" } else { "is started" };
    note(&format!("{id} {verb}"));
    let status = wait(client, &path, &started.json).await?;
    let run = status["last_run"].clone();
    output::item(format, &Answer { text: run.to_string(), json: run.clone() }, None, RUN)?;
    if field(&run, "sync_id") != id {
        let what =
            format!("{id} was cut off, and another sync took its place: a configuration changed meanwhile");
        return Err(Failure::new(Exit::Conflict, what).next(format!("hansa backend sync {backend}")));
    }
    if run.get("complete") == Some(&Value::Bool(true)) {
        return Ok(());
    }
    Err(incomplete(backend, &run, &status))
}

/// Waits until a status tells of a run that is the one that was started, or began after it.
async fn wait(client: &Client, path: &str, started: &Value) -> Result<Value, Failure> {
    let begun = Instant::now();
    let [mut pause, pause_max] = LOOK_INTERVAL;
    let mut told = begun;
    loop {
        tokio::time::sleep(pause).await;
        pause = pause_max.min(pause * 2);
        let status = client.get(&format!("{path}/status"), &[]).await?.json;
        if has_ended(started, &status["last_run"]) {
            return Ok(status);
        }
        if told.elapsed() >= NOTE_INTERVAL {
            told = Instant::now();
            note(&format!("it still runs, after {} s", begun.elapsed().as_secs()));
        }
    }
}

fn has_ended(started: &Value, last: &Value) -> bool {
    let at = |value: &Value| field(value, "started_at").parse::<Timestamp>().ok();
    field(last, "sync_id") == field(started, "sync_id") || at(last) > at(started)
}

/// Why a run was not complete, and what to do.
fn incomplete(backend: &str, run: &Value, status: &Value) -> Failure {
    let failed = run.get("failed").and_then(Value::as_u64).unwrap_or_default();
    if failed == 0 && status.get("deletions_guarded") == Some(&Value::Bool(true)) {
        let what = "the backend no longer lists many of the copies: they are kept until somebody confirms";
        let next = format!("hansa backend sync {backend} --confirm-deletions");
        return Failure::new(Exit::Conflict, what).next(next);
    }
    let reason = match field(status, "last_error") {
        none if none == "-" => String::new(),
        error => format!(": {error}"),
    };
    let what = match failed {
        0 => format!("the sync was not complete{reason}"),
        _ => format!("{failed} secrets could not be copied{reason}"),
    };
    Failure::new(Exit::Failed, what).next(format!("hansa backend status {backend}"))
}

async fn explain(client: &Client, format: Format, path: &SecretPath) -> Result<(), Failure> {
    let answer = client.get(&format!("{EXPLAIN}/{path}"), &[]).await?;
    let mut rows = match answer.json.get("mappings") {
        Some(Value::Array(rows)) if format == Format::Table => rows.clone(),
        Some(_) | None => return output::list(format, &answer, "mappings", EXPLAINED),
    };
    if rows.is_empty() {
        note(&format!("no mapping matches {path}: it is a secret of this node itself"));
        return Ok(());
    }
    let backends = client.get_pages(BACKENDS, &[], "backends", None).await?;
    name_backends(&mut rows, rows_of(&backends.json));
    let named = Answer { text: String::new(), json: json!({ "mappings": rows }) };
    output::list(format, &named, "mappings", EXPLAINED)
}

/// Adds to each mapping what its backend is called; its id where nobody knows any more.
fn name_backends(mappings: &mut [Value], backends: &[Value]) {
    for mapping in mappings {
        let known = backends.iter().find(|backend| backend.get("id") == mapping.get("backend_id"));
        let name = known.map_or_else(|| field(mapping, "backend_id"), |backend| field(backend, "name"));
        if let Some(members) = mapping.as_object_mut() {
            members.insert("backend".to_owned(), name.into());
        }
    }
}

fn wins(mapping: &Value) -> bool {
    mapping.get("wins") == Some(&Value::Bool(true))
}

/// Why a mapping is asked, or is not.
fn why(mapping: &Value) -> String {
    let nameless = match field(mapping, "no_name") {
        none if none == "-" => String::new(),
        reason => format!("; no name: {reason}"),
    };
    let reason = match field(mapping, "lost_by").as_str() {
        "-" if wins(mapping) => "is asked".to_owned(),
        "exact" => "the winner has no wildcards".to_owned(),
        "literal_segments_first" => "the winner has more segments before its first wildcard".to_owned(),
        "literal_segments" => "the winner has more segments without wildcards".to_owned(),
        "literal_characters" => "the winner has more characters that are no wildcards".to_owned(),
        "wildcards" => "the winner's first other wildcard is narrower".to_owned(),
        other => other.to_owned(),
    };
    format!("{reason}{nameless}")
}

/// From patterns to templates, on one line.
fn mappings(backend: &Value) -> String {
    let mappings = backend.get("path_mapping").and_then(Value::as_object).into_iter().flatten();
    let texts: Vec<String> = mappings
        .map(|(pattern, template)| {
            let row = json!({"pattern": pattern, "template": template});
            format!("{} → {}", field(&row, "pattern"), field(&row, "template"))
        })
        .collect();
    texts.join(", ")
}

async fn path(client: &Client, backend: &str) -> Result<String, Failure> {
    Ok(format!("{BACKENDS}/{}", resolve(client, backend).await?))
}

/// The id behind a name or an id.
async fn resolve(client: &Client, backend: &str) -> Result<String, Failure> {
    if let Ok(id) = backend.parse::<BackendId>() {
        return Ok(id.to_string());
    }
    let answer = client.get_pages(BACKENDS, &[], "backends", None).await?;
    find(backend, rows_of(&answer.json))
}

fn rows_of(body: &Value) -> &[Value] {
    body.get("backends").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn find(backend: &str, rows: &[Value]) -> Result<String, Failure> {
    if let Some(row) = rows.iter().find(|row| row.get("name").and_then(Value::as_str) == Some(backend)) {
        return Ok(field(row, "id"));
    }
    let names = rows.iter().map(|row| field(row, "name"));
    let close = names.filter(|name| site::is_close(&name.to_lowercase(), &backend.to_lowercase())).min();
    let what = match close {
        Some(name) => format!("there is no backend {backend}: did you mean {name}?"),
        None => format!("there is no backend {backend}"),
    };
    Err(Failure::new(Exit::NotFound, what).next("hansa backend list"))
}

/// The members of a configuration that is given one by one.
fn members(config: &[Typed]) -> Result<Map<String, Value>, Failure> {
    let mut members = Map::new();
    for (place, typed) in config.iter().enumerate() {
        let (key, text) =
            typed.split("--config", place).map_err(|failure| failure.next("--config KEY=VALUE"))?;
        let value = match key {
            "tls_verify" | "verify_challenge_resource" => {
                text.parse().map(Value::Bool).map_err(|_| "true or false")
            }
            "kv_version" | "max_concurrency" => {
                text.parse::<u64>().map(Value::from).map_err(|_| "a whole number")
            }
            _ => Ok(Value::from(text)),
        };
        let value = value.map_err(|wanted| Failure::usage(format!("--config {key} must be {wanted}")))?;
        if members.insert(key.to_owned(), value).is_some() {
            return Err(Failure::usage(format!("--config {key} is given twice")));
        }
    }
    Ok(members)
}

fn parse_mapping(text: &str) -> Result<(String, String), String> {
    let halves = text.split_once("=>").or_else(|| text.split_once('='));
    let (pattern, template) =
        halves.map(|(pattern, template)| (pattern.trim(), template.trim())).unwrap_or_default();
    if pattern.is_empty() || template.is_empty() {
        return Err("is not a pattern, = and a template, such as external/aws/**=prod/**".to_owned());
    }
    Ok((pattern.to_owned(), template.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::Cli;

    fn typed(texts: &[&str]) -> Vec<Typed> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn mapping_is_a_pattern_and_a_template() {
        let pair = |pattern: &str, template: &str| Ok((pattern.to_owned(), template.to_owned()));

        assert_eq!(parse_mapping("external/aws/**=prod/**"), pair("external/aws/**", "prod/**"));
        assert_eq!(parse_mapping("a/*=b=c/*"), pair("a/*", "b=c/*"));
        assert_eq!(parse_mapping("a=b/** => c/**"), pair("a=b/**", "c/**"));
        for bad in ["", "a/**", "=a", "a=", "=>", " => a"] {
            assert!(parse_mapping(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn configuration_has_flags_numbers_and_texts() {
        let config =
            typed(&["tls_verify=false", "kv_version=2", "project_id=123", "endpoint=https://a/?b=c"]);

        let members = Value::Object(members(&config).unwrap());

        let expected =
            json!({"tls_verify": false, "kv_version": 2, "project_id": "123", "endpoint": "https://a/?b=c"});
        assert_eq!(members, expected);
    }

    #[test]
    fn configuration_that_may_be_a_login_is_in_no_error() {
        let bad: &[&[&str]] = &[
            &["canary-7f3a"],
            &["=canary-7f3a"],
            &["kv_version=canary-7f3a"],
            &["a=canary-7f3a", "a=canary-7f3a"],
        ];
        for config in bad {
            let failure = members(&typed(config)).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage);
            assert!(!failure.to_string().contains("canary"), "{failure}");
        }
    }

    #[test]
    fn backend_is_found_by_name_and_a_slip_is_suggested() {
        let rows = [json!({"id": "fed_1", "name": "vault"}), json!({"id": "fed_2", "name": "aws"})];

        assert_eq!(find("aws", &rows).unwrap(), "fed_2");
        let failure = find("vaul", &rows).unwrap_err();
        assert_eq!(failure.exit, Exit::NotFound);
        assert!(failure.what.ends_with("did you mean vault?"), "{failure}");
    }

    #[test]
    fn side_of_a_conflict_has_to_be_chosen() {
        let conflict = "cfl_01890a5dac96774bbcceb302099a8057";
        let parse = |flags: &[&str]| {
            Cli::try_parse_from([&["hansa", "backend", "resolve", "aws", conflict], flags].concat())
        };

        assert!(parse(&["--keep-local"]).is_ok());
        assert!(parse(&["--take-remote"]).is_ok());
        assert!(parse(&[]).is_err());
        assert!(parse(&["--keep-local", "--take-remote"]).is_err());
    }

    #[test]
    fn run_that_was_started_or_a_later_one_ends_the_waiting() {
        let started = json!({"sync_id": "syn_2", "started_at": "2026-11-22T08:31:00Z"});
        for (last, ended) in [
            (json!(null), false),
            (json!({"sync_id": "syn_1", "started_at": "2026-11-22T08:30:00Z"}), false),
            (json!({"sync_id": "syn_2", "started_at": "2026-11-22T08:31:00Z"}), true),
            (json!({"sync_id": "syn_3", "started_at": "2026-11-22T08:31:01Z"}), true),
        ] {
            assert_eq!(has_ended(&started, &last), ended, "{last}");
        }
    }

    #[test]
    fn incomplete_run_says_why_and_what_to_do() {
        let guarded = incomplete("aws", &json!({"failed": 0}), &json!({"deletions_guarded": true}));
        assert_eq!(guarded.exit, Exit::Conflict);
        assert_eq!(guarded.next.as_deref(), Some("hansa backend sync aws --confirm-deletions"));

        let failed =
            incomplete("aws", &json!({"failed": 3}), &json!({"last_error": "it did not answer in time"}));
        assert_eq!(failed.what, "3 secrets could not be copied: it did not answer in time");
    }

    #[test]
    fn explanation_names_backends_and_reasons() {
        let mut rows = [
            json!({"backend_id": "fed_1", "wins": true, "lost_by": null}),
            json!({"backend_id": "fed_2", "wins": false, "lost_by": "literal_segments", "no_name": "it is taken"}),
        ];

        name_backends(&mut rows, &[json!({"id": "fed_1", "name": "vault"})]);

        assert_eq!(
            (field(&rows[0], "backend"), field(&rows[1], "backend")),
            ("vault".into(), "fed_2".into())
        );
        assert_eq!(why(&rows[0]), "is asked");
        assert_eq!(why(&rows[1]), "the winner has more segments without wildcards; no name: it is taken");
    }
}
