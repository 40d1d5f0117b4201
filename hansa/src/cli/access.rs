//! `hansa user` and `hansa api-key`: who may do what on this node.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use hansa_model::Secret;
use hansa_model::access::OperatorRole;
use hansa_model::limits::access::PASSWORD_BYTES_MAX;
use reqwest::Method;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use serde_json::{Map, Value, json};

use super::connection::Connection;
use super::failure::{Exit, Failure};
use super::output::{self, Column, Format, field, instant, note};
use super::site;
use crate::client::Client;

const USERS: &str = "/api/v1/users";
const KEYS: &str = "/api/v1/api-keys";

/// Flags of `hansa user`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    hansa user add ada@example.com --role administrator\n  \
    hansa user add bob@example.com --role operator --site berlin --password-file bob.txt\n  \
    hansa user set bob@example.com --disable\n\nRoles: viewer sees everything, operator works with policies, \
    commands, alerts and leases,\n  administrator may do all")]
pub struct UserArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: UserVerb,
}

#[derive(Debug, Subcommand)]
enum UserVerb {
    /// Makes a user; asks for the password, or takes it from a file.
    Add {
        /// E-mail address.
        userid: String,
        #[command(flatten)]
        grant: GrantArgs,
        #[command(flatten)]
        password: PasswordArgs,
        /// Cannot log in yet.
        #[arg(long)]
        disabled: bool,
    },
    /// Lists the users.
    List,
    /// Shows one user.
    Show {
        /// E-mail address.
        userid: String,
    },
    /// Changes a user and ends their logins. What is not named stays.
    Set {
        /// E-mail address.
        userid: String,
        #[command(flatten)]
        grant: GrantArgs,
        /// All sites instead of some.
        #[arg(long, conflicts_with = "site")]
        all_sites: bool,
        /// Asks for a new password.
        #[arg(long)]
        password: bool,
        #[command(flatten)]
        password_file: PasswordArgs,
        /// Keeps the user out.
        #[arg(long, conflicts_with = "enable")]
        disable: bool,
        /// Lets the user in again.
        #[arg(long)]
        enable: bool,
    },
    /// Removes a user and ends their logins.
    Remove {
        /// E-mail address.
        userid: String,
    },
}

/// Flags of `hansa api-key`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    hansa api-key add backup --scope admin\n  \
    hansa api-key add reports --role viewer --expires-at 2027-01-01T00:00:00Z\n  \
    hansa api-key remove backup")]
pub struct ApiKeyArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: ApiKeyVerb,
}

#[derive(Debug, Subcommand)]
enum ApiKeyVerb {
    /// Makes a key and prints it; it is shown once.
    Add {
        /// Unique; stands in the audit log.
        name: String,
        #[command(flatten)]
        grant: GrantArgs,
        /// When it ends, such as 2027-01-01T00:00:00Z [default: never].
        #[arg(long, value_name = "INSTANT")]
        expires_at: Option<String>,
    },
    /// Lists the keys, without the keys themselves.
    List,
    /// Removes a key: it is refused from then on.
    Remove {
        /// Name or id.
        key: String,
    },
}

#[derive(Debug, Args)]
struct GrantArgs {
    /// viewer, operator or administrator.
    #[arg(long)]
    role: Option<OperatorRole>,
    /// Scopes beside the role's, separated by spaces or commas; `hansa token mint --help` lists them.
    #[arg(long, value_name = "SCOPES")]
    scope: Vec<String>,
    /// Only these sites, by name or id; may be given several times [default: all].
    #[arg(long, value_delimiter = ',')]
    site: Vec<String>,
}

#[derive(Debug, Args)]
struct PasswordArgs {
    /// File with the password; `-` reads standard input. Never an argument, which process lists show.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

const USER_ROW: &[Column] = &[
    Column { heading: "USER", cell: |user| field(user, "userid") },
    Column { heading: "ROLE", cell: |user| field(user, "role") },
    Column { heading: "SCOPES", cell: |user| field(user, "scopes") },
    Column { heading: "SITES", cell: sites_of },
    Column { heading: "DISABLED", cell: |user| field(user, "disabled") },
];

const USER_SHEET: &[Column] = &[
    Column { heading: "user", cell: |user| field(user, "userid") },
    Column { heading: "role", cell: |user| field(user, "role") },
    Column { heading: "scopes", cell: |user| field(user, "scopes") },
    Column { heading: "sites", cell: sites_of },
    Column { heading: "disabled", cell: |user| field(user, "disabled") },
    Column { heading: "created", cell: |user| instant(user, "created_at") },
    Column { heading: "updated", cell: |user| instant(user, "updated_at") },
];

const KEY_ROW: &[Column] = &[
    Column { heading: "NAME", cell: |key| field(key, "name") },
    Column { heading: "ROLE", cell: |key| field(key, "role") },
    Column { heading: "SCOPES", cell: |key| field(key, "scopes") },
    Column { heading: "SITES", cell: sites_of },
    Column { heading: "EXPIRES", cell: |key| instant(key, "expires_at") },
    Column { heading: "LAST USED", cell: |key| instant(key, "last_used_at") },
    Column { heading: "CREATED BY", cell: |key| field(key, "created_by") },
    Column { heading: "ID", cell: |key| field(key, "id") },
];

fn sites_of(row: &Value) -> String {
    if row.get("sites").is_none_or(Value::is_null) { "all".to_owned() } else { field(row, "sites") }
}

pub(crate) async fn run_user(args: UserArgs) -> Result<(), Failure> {
    let access = args.connection.open().await?;
    let ended = user(access.client(), args.connection.output, args.verb).await;
    access.close().await;
    ended
}

async fn user(client: &Client, format: Format, verb: UserVerb) -> Result<(), Failure> {
    match verb {
        UserVerb::Add { userid, grant, password, disabled } => {
            let mut body = grant.members(client).await?;
            let password = password.read()?.map_or_else(ask_password, Ok)?;
            body.insert("userid".to_owned(), userid.into());
            body.insert("disabled".to_owned(), disabled.into());
            body.insert("password".to_owned(), password.expose().as_str().into());
            let answer = client.send_json(Method::POST, USERS, Some(&body)).await?;
            output::item(format, &answer, None, USER_SHEET)
        }
        UserVerb::List => {
            let answer = client.get(USERS, &[("limit", "1000".to_owned())]).await?;
            output::list(format, &answer, "items", USER_ROW)
        }
        UserVerb::Show { userid } => {
            let answer = client.get(&user_path(&userid), &[]).await?;
            output::item(format, &answer, None, USER_SHEET)
        }
        UserVerb::Set { userid, grant, all_sites, password, password_file, disable, enable } => {
            let mut body = grant.members(client).await?;
            if all_sites {
                body.insert("sites".to_owned(), Value::Null);
            }
            let read = password_file.read()?;
            let new = if password && read.is_none() { Some(ask_password()?) } else { read };
            if let Some(new) = new {
                body.insert("password".to_owned(), new.expose().as_str().into());
            }
            if disable || enable {
                body.insert("disabled".to_owned(), disable.into());
            }
            if body.is_empty() {
                return Err(Failure::usage("nothing to change").next("hansa user set --help"));
            }
            let answer = client.send_json(Method::PATCH, &user_path(&userid), Some(&body)).await?;
            output::item(format, &answer, None, USER_SHEET)
        }
        UserVerb::Remove { userid } => {
            client.send_json::<Value>(Method::DELETE, &user_path(&userid), None).await?;
            note(&format!("{userid} is removed and logged out"));
            Ok(())
        }
    }
}

/// The address in a path; the URL's own characters in it are escaped by the client.
fn user_path(userid: &str) -> String {
    format!("{USERS}/{}", userid.trim().replace('%', "%25").replace('/', "%2f"))
}

pub(crate) async fn run_api_key(args: ApiKeyArgs) -> Result<(), Failure> {
    let access = args.connection.open().await?;
    let ended = api_key(access.client(), args.connection.output, args.verb).await;
    access.close().await;
    ended
}

async fn api_key(client: &Client, format: Format, verb: ApiKeyVerb) -> Result<(), Failure> {
    match verb {
        ApiKeyVerb::Add { name, grant, expires_at } => {
            let mut body = grant.members(client).await?;
            body.insert("name".to_owned(), name.as_str().into());
            if let Some(end) = expires_at {
                body.insert("expires_at".to_owned(), end.into());
            }
            let answer = client.send_json(Method::POST, KEYS, Some(&body)).await?;
            if format != Format::Table {
                return output::item(format, &answer, None, &[]);
            }
            note(&format!("{name} is made. The key is shown this once:"));
            output::write_data(&field(&answer.json, "key"))
        }
        ApiKeyVerb::List => {
            let answer = client.get(KEYS, &[("limit", "1000".to_owned())]).await?;
            output::list(format, &answer, "items", KEY_ROW)
        }
        ApiKeyVerb::Remove { key } => {
            let id = resolve_key(client, &key).await?;
            client.send_json::<Value>(Method::DELETE, &format!("{KEYS}/{id}"), None).await?;
            note(&format!("{key} is removed"));
            Ok(())
        }
    }
}

/// The id behind a name or an id.
async fn resolve_key(client: &Client, key: &str) -> Result<String, Failure> {
    let mut cursor = None;
    loop {
        let mut query = vec![("limit", "1000".to_owned())];
        query.extend(cursor.map(|cursor| ("cursor", cursor)));
        let answer = client.get(KEYS, &query).await?;
        let items = answer.json.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        if let Some(row) = items.iter().find(|row| field(row, "name") == key || field(row, "id") == key) {
            return Ok(field(row, "id"));
        }
        cursor = answer.json.get("next_cursor").and_then(Value::as_str).map(str::to_owned);
        if cursor.is_none() {
            let failure = Failure::new(Exit::NotFound, format!("there is no API key {key}"));
            return Err(failure.next("hansa api-key list"));
        }
    }
}

impl GrantArgs {
    /// The members of a body; what was not given is not there.
    async fn members(&self, client: &Client) -> Result<Map<String, Value>, Failure> {
        let mut body = Map::new();
        if let Some(role) = self.role {
            body.insert("role".to_owned(), role.as_str().into());
        }
        let scopes =
            self.scope.iter().flat_map(|text| text.split([' ', ','])).filter(|name| !name.is_empty());
        let scopes: Vec<&str> = scopes.collect();
        if !scopes.is_empty() {
            body.insert("scopes".to_owned(), json!(scopes));
        }
        if !self.site.is_empty() {
            let mut ids = Vec::new();
            for name in &self.site {
                ids.push(site::resolve(client, name).await?);
            }
            body.insert("sites".to_owned(), json!(ids));
        }
        Ok(body)
    }
}

impl PasswordArgs {
    fn read(&self) -> Result<Option<Secret<String>>, Failure> {
        let Some(path) = &self.password_file else { return Ok(None) };
        let limit = PASSWORD_BYTES_MAX as u64 + 2;
        let mut text = String::new();
        let read = if path == Path::new("-") {
            std::io::stdin().lock().take(limit).read_to_string(&mut text)
        } else {
            std::fs::File::open(path).and_then(|file| file.take(limit).read_to_string(&mut text))
        };
        let text = Secret::new(text);
        read.map_err(|error| {
            Failure::usage(format!("the password file {} cannot be read: {error}", path.display()))
        })?;
        Ok(Some(Secret::new(text.expose().trim_end_matches(['\r', '\n']).to_owned())))
    }
}

/// Asks twice at the terminal, without showing what is typed.
fn ask_password() -> Result<Secret<String>, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("there is no terminal to ask for a password").next("--password-file FILE"));
    }
    let first = ask_hidden("Password: ")?;
    if first == ask_hidden("The same again: ")? {
        Ok(first)
    } else {
        Err(Failure::new(Exit::Failed, "the two passwords differ: nothing was changed"))
    }
}

pub(crate) fn ask_hidden(prompt: &str) -> Result<Secret<String>, Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(Exit::Failed, format!("the terminal cannot be used: {error}"))
    };
    let terminal = std::io::stdin();
    let shown = tcgetattr(&terminal).map_err(|error| failed(&error))?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    hidden.local_modes.insert(LocalModes::ECHONL);
    let mut out = std::io::stderr().lock();
    let _ = write!(out, "{prompt}").and_then(|()| out.flush());
    tcsetattr(&terminal, OptionalActions::Flush, &hidden).map_err(|error| failed(&error))?;
    let mut line = String::new();
    let read = terminal.read_line(&mut line);
    let line = Secret::new(line);
    tcsetattr(&terminal, OptionalActions::Now, &shown).map_err(|error| failed(&error))?;
    read.map_err(|error| failed(&error))?;
    Ok(Secret::new(line.expose().trim_end_matches(['\r', '\n']).to_owned()))
}
