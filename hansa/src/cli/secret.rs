//! `hansa secret`: secrets of this node and of its backends.
//!
//! Values are never repeated in an error, and what was typed is kept where nothing prints it.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Args, Subcommand};
use hansa_model::Secret;
use hansa_model::limits::secrets::VALUE_BYTES_MAX;
use hansa_model::secrets::path::SecretPath;
use hansa_model::secrets::row::SecretType;
use hansa_model::secrets::value::SecretData;
use reqwest::Method;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::argument::parse_span;
use super::connection::Connection;
use super::failure::{Exit, Failure};
use super::output::{self, Column, Format, field, instant, note};
use super::site;
use super::tenant::TenantFlag;
use crate::client::{Answer, Client};

const SECRETS: &str = "/v1/secrets";
const VERSIONS: &str = "/v1/secret-versions";

/// Flags of `hansa secret`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    hansa secret put app/db username=web password=@password.txt\n  \
    pass show db | hansa secret put app/db password=-\n  \
    hansa secret put app/db --from-file db.json --cas 3\n  \
    hansa secret get app/db --field password\n  \
    hansa secret list external/aws/\n  \
    hansa secret delete app/db")]
pub struct SecretArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    tenant: TenantFlag,
    #[command(subcommand)]
    verb: SecretVerb,
}

#[derive(Debug, Subcommand)]
enum SecretVerb {
    /// Reads a secret; that it was read stands in the audit log.
    Get {
        /// Path, such as app/db.
        path: SecretPath,
        /// Another version than the newest.
        #[arg(long, value_name = "N")]
        version: Option<u64>,
        /// The backend's own name of a version, for backends that do not count.
        #[arg(long, value_name = "NAME", conflicts_with = "version")]
        backend_version: Option<String>,
        /// Prints the bare value of this field and nothing else, for scripts.
        #[arg(long, value_name = "NAME")]
        field: Option<String>,
    },
    /// Lists secrets below a prefix, without values.
    List {
        /// The literal beginning of their paths [default: all].
        prefix: Option<String>,
        /// At most so many [default: all].
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        limit: Option<u32>,
    },
    /// Stores a new version of a secret. Its fields are replaced as a whole.
    Put(PutArgs),
    /// Deletes a secret; its path stays taken until its retention has ended.
    Delete {
        /// Path, such as app/db.
        path: SecretPath,
        /// Deletes all versions and their keys for good, also of a secret that is deleted already.
        #[arg(long)]
        hard: bool,
        /// Does not ask for the path again.
        #[arg(long)]
        yes: bool,
    },
    /// Lists the versions of a secret, newest first, without values.
    Versions {
        /// Path, such as app/db.
        path: SecretPath,
    },
}

#[derive(Debug, Args)]
struct PutArgs {
    /// Path, such as app/db.
    path: SecretPath,
    /// Fields: KEY=@FILE takes a file as it is, KEY=- standard input without its last line end, and KEY=VALUE
    /// is seen by whoever lists this machine's processes. A single - reads a JSON object from standard input.
    #[arg(value_name = "KEY=VALUE", conflicts_with = "from_file")]
    values: Vec<Typed>,
    /// File with all fields, a JSON object; `-` reads standard input.
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,
    /// kv, json, certificate, ssh_key or api_key [default: as it was, or kv].
    #[arg(long = "type", value_name = "TYPE")]
    secret_type: Option<SecretType>,
    /// Stores only if this is the newest version; 0 only if there is none.
    #[arg(long, value_name = "VERSION")]
    cas: Option<u64>,
    /// Time until it ends, such as 90d [default: never].
    #[arg(long, value_name = "DURATION", value_parser = parse_span)]
    expires_in: Option<String>,
}

/// An argument that may be a secret: taken as it is, so that no complaint of the parser repeats it.
#[derive(Debug, Clone)]
pub(crate) struct Typed(pub(crate) Secret<String>);

impl FromStr for Typed {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(Secret::new(text.to_owned())))
    }
}

impl Typed {
    /// What stands before and behind the first `=`; `what` and the place say which argument is wrong.
    pub(crate) fn split(&self, what: &str, place: usize) -> Result<(&str, &str), Failure> {
        self.0.expose().split_once('=').filter(|(key, _)| !key.is_empty()).ok_or_else(|| {
            // What stands there may be a value that lost its name.
            Failure::usage(format!("{what} {} has no name and = before its value", place + 1))
        })
    }
}

const ROW: &[Column] = &[
    Column { heading: "PATH", cell: |secret| field(secret, "path") },
    Column { heading: "TYPE", cell: |secret| field(secret, "secret_type") },
    Column { heading: "VERSION", cell: |secret| field(secret, "version") },
    Column { heading: "UPDATED", cell: |secret| instant(secret, "updated_at") },
    Column { heading: "BACKEND", cell: |secret| field(secret, "backend_id") },
];

const SHEET: &[Column] = &[
    Column { heading: "path", cell: |secret| field(secret, "path") },
    Column { heading: "type", cell: |secret| field(secret, "secret_type") },
    Column { heading: "version", cell: |secret| field(secret, "version") },
    Column { heading: "metadata", cell: |secret| field(secret, "metadata") },
    Column { heading: "created", cell: |secret| instant(secret, "created_at") },
    Column { heading: "updated", cell: |secret| instant(secret, "updated_at") },
    Column { heading: "expires", cell: |secret| instant(secret, "expires_at") },
    Column { heading: "backend", cell: |secret| field(secret, "backend_id") },
];

const FIELD: &[Column] = &[
    Column { heading: "FIELD", cell: |row| field(row, "field") },
    Column { heading: "VALUE", cell: |row| field(row, "value") },
];

const VERSION: &[Column] = &[
    Column { heading: "VERSION", cell: |version| field(version, "version") },
    Column { heading: "CREATED", cell: |version| instant(version, "created_at") },
    Column { heading: "BY", cell: |version| field(version, "created_by") },
    Column { heading: "BACKEND VERSION", cell: |version| field(version, "backend_version") },
];

pub(crate) async fn run(args: SecretArgs) -> Result<(), Failure> {
    let access = args.connection.open().await?;
    let client = access.client().for_tenant(args.tenant.tenant);
    let ended = carry_out(&client, args.connection.output, args.verb).await;
    access.close().await;
    ended
}

async fn carry_out(client: &Client, format: Format, verb: SecretVerb) -> Result<(), Failure> {
    match verb {
        SecretVerb::Get { path, version, backend_version, field } => {
            let mut query = Vec::new();
            query.extend(version.map(|number| ("version", number.to_string())));
            query.extend(backend_version.map(|name| ("backend_version", name)));
            let answer = client.get(&format!("{SECRETS}/{path}"), &query).await?;
            match field {
                Some(name) => show_field(format, &answer, &path, &name),
                None => show(format, &answer),
            }
        }
        SecretVerb::List { prefix, limit } => {
            let query: Vec<_> = prefix.map(|prefix| ("prefix", prefix)).into_iter().collect();
            let limit = limit.and_then(|limit| usize::try_from(limit).ok());
            let answer = client.get_pages(SECRETS, &query, "secrets", limit).await?;
            note_warnings(&answer);
            output::list(format, &answer, "secrets", ROW)
        }
        SecretVerb::Put(args) => put(client, format, &args).await,
        SecretVerb::Delete { path, hard, yes } => {
            if hard && !yes {
                site::confirm(path.as_str())?;
            }
            let query = if hard { vec![("hard", "true".to_owned())] } else { Vec::new() };
            let route = format!("{SECRETS}/{path}");
            client.send_json_with::<Value>(Method::DELETE, &route, &query, None).await?;
            note(&if hard {
                format!("{path} is deleted for good")
            } else {
                format!("{path} is deleted; hansa secret delete {path} --hard makes room for a new one")
            });
            Ok(())
        }
        SecretVerb::Versions { path } => {
            let answer = client.get(&format!("{VERSIONS}/{path}"), &[]).await?;
            output::list(format, &answer, "versions", VERSION)
        }
    }
}

/// Tells people what the node warns of.
pub(crate) fn note_warnings(answer: &Answer) {
    let warnings = answer.json.get("warnings").and_then(Value::as_array);
    for warning in warnings.into_iter().flatten() {
        note(&format!("warning: {}", field(&json!({ "text": warning }), "text")));
    }
}

async fn put(client: &Client, format: Format, args: &PutArgs) -> Result<(), Failure> {
    let data = read_data(&args.values, args.from_file.as_deref())?;
    let data = RawValue::from_string(data.expose().to_owned())
        .map_err(|_| Failure::new(Exit::Failed, "the value cannot be written as JSON"))?;
    let options = Options { cas: args.cas, expires_in: args.expires_in.as_deref() };
    let body = Body { data: &data, secret_type: args.secret_type.map(SecretType::as_str), options };
    let answer = client.send_json(Method::PUT, &format!("{SECRETS}/{}", args.path), Some(&body)).await?;
    output::item(format, &answer, None, SHEET)
}

/// What is sent; the value as text that was judged already.
#[derive(Serialize)]
struct Body<'a> {
    data: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_type: Option<&'static str>,
    options: Options<'a>,
}

#[derive(Serialize)]
struct Options<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    cas: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in: Option<&'a str>,
}

fn show(format: Format, answer: &Answer) -> Result<(), Failure> {
    if format != Format::Table {
        return output::item(format, answer, None, &[]);
    }
    let fields = answer.json.get("data").and_then(Value::as_object).into_iter().flatten();
    let rows: Vec<Value> =
        fields.map(|(name, value)| json!({"field": name, "value": text_of(value)})).collect();
    let rows = Answer { text: String::new(), json: json!({ "fields": rows }) };
    output::list(format, &rows, "fields", FIELD)?;
    note(&about(&answer.json));
    Ok(())
}

fn show_field(format: Format, answer: &Answer, path: &SecretPath, name: &str) -> Result<(), Failure> {
    let Some(value) = answer.json.get("data").and_then(|data| data.get(name)) else {
        return Err(Failure::new(Exit::NotFound, format!("{path} has no field {name}"))
            .next(format!("hansa secret get {path} shows its fields")));
    };
    match format {
        Format::Table => output::write_bare(&text_of(value)),
        Format::Json | Format::Ndjson => output::write_data(&value.to_string()),
    }
}

/// A text as it is, anything else as JSON.
fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Which version it is, and how old it may be.
fn about(secret: &Value) -> String {
    let mut text = format!("version {}, {}", field(secret, "version"), field(secret, "secret_type"));
    for (name, word) in [("updated_at", "of"), ("expires_at", "ends")] {
        let time = instant(secret, name);
        if time != "-" {
            text.push_str(&format!(", {word} {time}"));
        }
    }
    match (secret.get("age_seconds").and_then(Value::as_u64), secret.get("stale") == Some(&Value::Bool(true)))
    {
        (Some(age), true) => text.push_str(&format!(", stale: its backend confirmed it {age} s ago")),
        (Some(age), false) => text.push_str(&format!(", confirmed by its backend {age} s ago")),
        (None, _) => {}
    }
    text
}

/// Where the value of one field comes from.
#[derive(Debug, PartialEq, Eq)]
enum Source<'a> {
    Given(&'a str),
    File(&'a Path),
    Input,
}

impl<'a> Source<'a> {
    fn of(text: &'a str) -> Self {
        match text.strip_prefix('@') {
            Some(file) => Self::File(Path::new(file)),
            None if text == "-" => Self::Input,
            None => Self::Given(text),
        }
    }

    fn read(&self) -> Result<Secret<String>, Failure> {
        match self {
            Self::Given(text) => Ok(Secret::new((*text).to_owned())),
            Self::File(path) => read(path),
            Self::Input => {
                let text = read(Path::new("-"))?;
                let line = text.expose().strip_suffix('\n').unwrap_or(text.expose());
                Ok(Secret::new(line.strip_suffix('\r').unwrap_or(line).to_owned()))
            }
        }
    }
}

fn read_data(values: &[Typed], from_file: Option<&Path>) -> Result<SecretData, Failure> {
    let whole = match values {
        [one] if one.0.expose() == "-" => Some(Path::new("-")),
        [] | [_] | [_, _, ..] => from_file,
    };
    if let Some(path) = whole {
        let text = read(path)?;
        return judge(text.expose(), &format!("what {} holds", shown(path)));
    }
    if values.is_empty() {
        return Err(Failure::usage("there is nothing to store").next("KEY=@FILE, KEY=- or --from-file FILE"));
    }
    let fields = fields(values)?;
    if fields.iter().filter(|(_, source)| *source == Source::Input).count() > 1 {
        return Err(Failure::usage("standard input can be only one field")
            .next("a JSON object of all fields with --from-file -"));
    }
    let mut data = Map::new();
    for (key, source) in fields {
        data.insert(key.to_owned(), source.read()?.expose().as_str().into());
    }
    let text = Secret::new(Value::Object(data).to_string());
    judge(text.expose(), "the value")
}

/// The fields by name, none twice.
fn fields(values: &[Typed]) -> Result<Vec<(&str, Source<'_>)>, Failure> {
    let mut seen = BTreeSet::new();
    let mut fields = Vec::with_capacity(values.len());
    for (place, typed) in values.iter().enumerate() {
        let hint = "KEY=@FILE, KEY=- or KEY=VALUE";
        let (key, value) = typed.split("field", place).map_err(|failure| failure.next(hint))?;
        if !seen.insert(key) {
            return Err(Failure::usage(format!("the field {key} is given twice")));
        }
        fields.push((key, Source::of(value)));
    }
    Ok(fields)
}

fn judge(text: &str, what: &str) -> Result<SecretData, Failure> {
    SecretData::parse(text).map_err(|error| Failure::usage(format!("{what} {error}")))
}

/// A file or, as `-`, standard input, as text.
fn read(path: &Path) -> Result<Secret<String>, Failure> {
    let limit = VALUE_BYTES_MAX as u64 + 1;
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(limit).read_to_string(&mut text))
    };
    let text = Secret::new(text);
    match read {
        Ok(_) if text.expose().len() as u64 == limit => {
            Err(Failure::usage(format!("{} is longer than a secret may be, 1 MiB", shown(path))))
        }
        Ok(_) => Ok(text),
        Err(error) => Err(Failure::usage(format!("{} cannot be read: {error}", shown(path)))),
    }
}

fn shown(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() }
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
    fn fields_come_from_words_files_and_standard_input() {
        let values = typed(&["user=web", "password=@pass.txt", "key=-", "url=http://a/?b=c", "none="]);

        assert_eq!(
            fields(&values).unwrap(),
            [
                ("user", Source::Given("web")),
                ("password", Source::File(Path::new("pass.txt"))),
                ("key", Source::Input),
                ("url", Source::Given("http://a/?b=c")),
                ("none", Source::Given("")),
            ]
        );
    }

    #[test]
    fn file_is_a_field_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key.pem");
        std::fs::write(&file, "line\nline\n").unwrap();

        let data = read_data(&typed(&["b=1", &format!("a=@{}", file.display())]), None).unwrap();

        assert_eq!(data.expose(), r#"{"a":"line\nline\n","b":"1"}"#);
    }

    #[test]
    fn whole_secret_is_a_json_object_of_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("db.json");
        std::fs::write(&file, r#"{"port": 5432, "hosts": ["a", "b"]}"#).unwrap();

        assert_eq!(read_data(&[], Some(&file)).unwrap().expose(), r#"{"hosts":["a","b"],"port":5432}"#);

        std::fs::write(&file, "canary-7f3a").unwrap();
        let failure = read_data(&[], Some(&file)).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(!failure.to_string().contains("canary"), "{failure}");
    }

    #[test]
    fn what_was_typed_is_in_no_error() {
        let bad: &[&[&str]] =
            &[&["canary-7f3a"], &["=canary-7f3a"], &["a=canary-7f3a", "a=canary-7f3a"], &["a=-", "b=-"]];
        for values in bad {
            let failure = read_data(&typed(values), None).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage);
            assert!(!failure.to_string().contains("canary"), "{failure}");
        }

        let refused =
            Cli::try_parse_from(["hansa", "secret", "put", "a", "x=canary-7f3a", "--from-file", "b"]);
        assert!(!refused.unwrap_err().to_string().contains("canary"));
        let parsed = Cli::try_parse_from(["hansa", "secret", "put", "a", "x=canary-7f3a", "canary-7f3a"]);
        assert!(!format!("{:?}", parsed.unwrap()).contains("canary"));
    }

    #[test]
    fn nothing_to_store_says_how() {
        assert_eq!(
            read_data(&[], None).unwrap_err().next.as_deref(),
            Some("KEY=@FILE, KEY=- or --from-file FILE")
        );
    }

    #[test]
    fn secret_says_how_old_it_may_be() {
        let secret = json!({"version": 3, "secret_type": "kv", "updated_at": "2026-11-22T08:30:00.25Z"});
        assert_eq!(about(&secret), "version 3, kv, of 2026-11-22T08:30:00Z");

        let copy = json!({"version": 3, "secret_type": "kv", "age_seconds": 90, "stale": true});
        assert_eq!(about(&copy), "version 3, kv, stale: its backend confirmed it 90 s ago");
    }
}
