//! `hansa site`: the coordinator's registry.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use hansa_model::SiteId;
use hansa_model::site::SiteStatus;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::connection::Connection;
use super::failure::{Exit, Failure};
use super::output::{self, Column, Format, field, instant, note};
use crate::client::{Answer, Client};

const SITES: &str = "/api/v1/federation/sites";

/// Flags of `hansa site`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    hansa site add berlin --url https://berlin.example.com --identity-key berlin.pem\n  \
    hansa site list --status suspended\n  hansa site remove berlin")]
pub struct SiteArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: SiteVerb,
}

#[derive(Debug, Subcommand)]
enum SiteVerb {
    /// Creates a site and prints the code that `hansa join` takes there; the code is shown once.
    Add(Box<AddArgs>),
    /// Lists sites by name.
    List {
        /// Only sites in this state: pending, enrolled, suspended or removed.
        #[arg(long)]
        status: Option<SiteStatus>,
        /// Removed sites too.
        #[arg(long)]
        include_removed: bool,
        /// At most so many [default: all].
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
    },
    /// Shows one site.
    Show {
        /// Name or id.
        site: String,
    },
    /// Puts a site on hold: it is told so, keeps its queue and sends nothing.
    Suspend {
        /// Name or id.
        site: String,
    },
    /// Ends a suspension.
    Resume {
        /// Name or id.
        site: String,
    },
    /// Removes a site, or withdraws an invitation. It cannot be undone: the site has to be added anew.
    Remove {
        /// Name or id.
        site: String,
        /// Does not ask for the name again.
        #[arg(long)]
        yes: bool,
    },
    /// Makes a new join code for a site that has not joined yet; the old one is void.
    RegenerateToken {
        /// Name or id.
        site: String,
        /// Life of the code in hours, 1 to 720 [default: 24].
        #[arg(long, value_name = "HOURS")]
        token_ttl_hours: Option<u32>,
    },
}

#[derive(Debug, Args)]
struct AddArgs {
    /// Name of the site, unique in the federation.
    name: String,
    /// Where the site's HTTP is reached, such as https://berlin.example.com [default: https://NAME].
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// File with the site's public identity key, from `hansa identity show` there; `-` reads standard input.
    #[arg(long, value_name = "FILE")]
    identity_key: PathBuf,
    /// Free text that tells people where the site is.
    #[arg(long, value_name = "TEXT")]
    location: Option<String>,
    /// Seconds between two contacts of a site without QUIC, 5 to 86400 [default: 300].
    #[arg(long, value_name = "SECONDS")]
    sync_interval: Option<u32>,
    /// Life of the join code in hours, 1 to 720 [default: 24].
    #[arg(long, value_name = "HOURS")]
    token_ttl_hours: Option<u32>,
    /// Degrees, -90 to 90.
    #[arg(long, value_name = "DEGREES", allow_hyphen_values = true)]
    latitude: Option<f64>,
    /// Degrees, -180 to 180.
    #[arg(long, value_name = "DEGREES", allow_hyphen_values = true)]
    longitude: Option<f64>,
    /// Two letters, such as DE.
    #[arg(long, value_name = "CODE")]
    country: Option<String>,
}

const ROW: &[Column] = &[
    Column { heading: "NAME", cell: |site| field(site, "name") },
    Column { heading: "STATUS", cell: |site| field(site, "status") },
    Column { heading: "HOSTS", cell: |site| field(site, "host_count") },
    Column { heading: "CONNECTION", cell: |site| field(site, "connection_state") },
    Column { heading: "LAST SYNC", cell: |site| instant(site, "last_sync_at") },
    Column { heading: "ID", cell: |site| field(site, "id") },
];

const SHEET: &[Column] = &[
    Column { heading: "name", cell: |site| field(site, "name") },
    Column { heading: "id", cell: |site| field(site, "id") },
    Column { heading: "status", cell: |site| field(site, "status") },
    Column { heading: "url", cell: |site| field(site, "url") },
    Column { heading: "location", cell: |site| field(site, "location_label") },
    Column { heading: "hosts", cell: |site| field(site, "host_count") },
    Column { heading: "connection", cell: |site| field(site, "connection_state") },
    Column { heading: "last sync", cell: |site| instant(site, "last_sync_at") },
    Column { heading: "sync status", cell: |site| field(site, "last_sync_status") },
    Column { heading: "sync interval (s)", cell: |site| field(site, "sync_interval_seconds") },
    Column { heading: "version", cell: |site| field(site, "sysmanage_version") },
    Column { heading: "capabilities", cell: |site| field(site, "capabilities") },
    Column { heading: "country", cell: |site| field(site, "geo_country_code") },
    Column { heading: "code ends", cell: |site| instant(site, "enrollment_token_expires_at") },
    Column { heading: "enrolled", cell: |site| instant(site, "enrolled_at") },
    Column { heading: "created", cell: |site| instant(site, "created_at") },
];

pub(crate) async fn run(args: SiteArgs) -> Result<(), Failure> {
    let access = args.connection.open().await?;
    let ended = carry_out(access.client(), args.connection.output, args.verb).await;
    access.close().await;
    ended
}

async fn carry_out(client: &Client, format: Format, verb: SiteVerb) -> Result<(), Failure> {
    match verb {
        SiteVerb::Add(args) => add(client, format, &args).await,
        SiteVerb::List { status, include_removed, limit } => {
            let mut query = Vec::new();
            query.extend(status.map(|status| ("status", status.to_string())));
            query.extend(include_removed.then(|| ("include_removed", "true".to_owned())));
            query.extend(limit.map(|limit| ("limit", limit.to_string())));
            let answer = client.get(SITES, &query).await?;
            output::list(format, &answer, "sites", ROW)
        }
        SiteVerb::Show { site } => {
            let id = resolve(client, &site).await?;
            let answer = client.get(&format!("{SITES}/{id}"), &[]).await?;
            output::item(format, &answer, Some("site"), SHEET)
        }
        SiteVerb::Suspend { site } => act(client, format, &site, Method::POST, "/suspend").await,
        SiteVerb::Resume { site } => act(client, format, &site, Method::POST, "/resume").await,
        SiteVerb::Remove { site, yes } => {
            if !yes {
                confirm(&site)?;
            }
            act(client, format, &site, Method::DELETE, "").await
        }
        SiteVerb::RegenerateToken { site, token_ttl_hours } => {
            let id = resolve(client, &site).await?;
            let body = json!({"token_ttl_hours": token_ttl_hours});
            let path = format!("{SITES}/{id}/regenerate-token");
            let body = if token_ttl_hours.is_some() { body } else { json!({}) };
            let answer = client.send_json(Method::POST, &path, Some(&body)).await?;
            show_invitation(format, &answer)
        }
    }
}

/// Sites that speak QUIC are never called by URL; it only leads people to the site's own pages.
fn default_url(name: &str) -> String {
    let host: String =
        name.trim().chars().map(|c| if c.is_alphanumeric() || "-._".contains(c) { c } else { '-' }).collect();
    format!("https://{}", host.to_lowercase())
}

async fn add(client: &Client, format: Format, args: &AddArgs) -> Result<(), Failure> {
    let pem = read_key(&args.identity_key)?;
    let mut body = Map::new();
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.to_owned(), value);
        }
    };
    set("name", Some(args.name.as_str().into()));
    set("url", Some(args.url.clone().unwrap_or_else(|| default_url(&args.name)).into()));
    set("site_identity_public_key_pem", Some(pem.into()));
    set("location_label", args.location.as_deref().map(Into::into));
    set("sync_interval_seconds", args.sync_interval.map(Into::into));
    set("token_ttl_hours", args.token_ttl_hours.map(Into::into));
    set("geo_latitude", args.latitude.map(Into::into));
    set("geo_longitude", args.longitude.map(Into::into));
    set("geo_country_code", args.country.as_deref().map(Into::into));
    let answer = client.send_json(Method::POST, SITES, Some(&body)).await?;
    show_invitation(format, &answer)
}

fn show_invitation(format: Format, answer: &Answer) -> Result<(), Failure> {
    if format != Format::Table {
        return output::item(format, answer, None, &[]);
    }
    let name = answer.json.get("site").map_or_else(|| "the site".to_owned(), |site| field(site, "name"));
    let until = instant(&answer.json, "enrollment_token_expires_at");
    match answer.json.get("join_code").and_then(Value::as_str) {
        Some(code) => {
            note(&format!("{name} is invited until {until}. At the site, type hansa join and this code:"));
            output::write_data(code)
        }
        None => {
            note(&format!(
                "{name} is invited until {until}. This node does not know its own URL, so there is no join \
                 code: set public_url and regenerate, or enroll with this token:"
            ));
            output::write_data(&field(&answer.json, "enrollment_token"))
        }
    }
}

async fn act(client: &Client, format: Format, site: &str, method: Method, verb: &str) -> Result<(), Failure> {
    let id = resolve(client, site).await?;
    let answer = client.send_json::<Value>(method, &format!("{SITES}/{id}{verb}"), None).await?;
    output::item(format, &answer, Some("site"), SHEET)
}

/// The id behind a name or an id. Among sites of one name, the one that is not removed.
pub(crate) async fn resolve(client: &Client, site: &str) -> Result<String, Failure> {
    if let Ok(id) = site.parse::<SiteId>() {
        return Ok(id.to_string());
    }
    let answer = client.get(SITES, &[("include_removed", "true".to_owned())]).await?;
    let sites = answer.json.get("sites").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let named = |removed: bool| {
        sites.iter().find(|row| field(row, "name") == site && (field(row, "status") == "removed") == removed)
    };
    match named(false).or_else(|| named(true)) {
        Some(row) => Ok(field(row, "id")),
        None => Err(unknown(site, sites)),
    }
}

fn unknown(site: &str, sites: &[Value]) -> Failure {
    let lower = site.to_lowercase();
    let names = sites.iter().map(|row| field(row, "name"));
    let close = names.filter(|name| is_close(&name.to_lowercase(), &lower)).min();
    let what = match close {
        Some(name) => format!("there is no site {site}: did you mean {name}?"),
        None => format!("there is no site {site}"),
    };
    Failure::new(Exit::NotFound, what).next("hansa site list")
}

/// Whether two names look like one with a slip: one contains the other, or few characters differ.
pub(crate) fn is_close(left: &str, right: &str) -> bool {
    if !right.is_empty() && (left.contains(right) || right.contains(left)) {
        return true;
    }
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, from) in left.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, to) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()] <= 2
}

fn read_key(path: &Path) -> Result<String, Failure> {
    let read = if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().lock().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    read.map_err(|error| {
        Failure::usage(format!("the identity key {} cannot be read: {error}", path.display()))
            .next("hansa identity show at the site prints it")
    })
}

/// Lets the operator type the name again, where somebody is there to type.
pub(crate) fn confirm(name: &str) -> Result<(), Failure> {
    use std::io::IsTerminal as _;
    if !std::io::stdin().is_terminal() {
        return Err(
            Failure::usage(format!("removing {name} cannot be undone")).next("the same command with --yes")
        );
    }
    note(&format!("Removing {name} cannot be undone. Type its name to go on:"));
    let mut line = String::new();
    let _ = std::io::stdin().read_line(&mut line);
    if line.trim() == name { Ok(()) } else { Err(Failure::new(Exit::Failed, "nothing was removed")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slip_of_the_finger_is_close_and_another_word_is_not() {
        assert!(is_close("berlin", "berlim"));
        assert!(is_close("site-1", "site1"));
        assert!(!is_close("berlin", "hamburg"));
    }

    #[test]
    fn unknown_site_suggests_the_close_one() {
        let sites = [json!({"name": "berlin"}), json!({"name": "oslo"})];

        let failure = unknown("berlim", &sites);

        assert_eq!(failure.exit, Exit::NotFound);
        assert!(failure.what.ends_with("did you mean berlin?"), "{failure}");
    }
}
