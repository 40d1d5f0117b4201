//! `hansa host`: the federation's directory.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use hansa_model::{HostId, Timestamp};
use serde_json::Value;

use super::connection::Connection;
use super::failure::Failure;
use super::output::{self, Column, Format, field, instant, note};
use super::site;
use crate::client::{Answer, Client};

const HOSTS: &str = "/api/v1/federation/hosts";
const INVENTORY: &str = "/api/v1/site/hosts";

/// Flags of `hansa host`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  hansa host search web --site berlin --status up\n  \
    hansa host search --os-family debian --order-by last_seen --limit 10 -o json\n  hansa host show ID --at 2026-11-20T08:00:00Z\n  hansa host history ID")]
pub struct HostArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: HostVerb,
}

#[derive(Debug, Subcommand)]
enum HostVerb {
    /// Finds hosts; all conditions have to hold.
    Search(Box<SearchArgs>),
    /// Shows one host and the site that holds it.
    Show {
        /// The host's id.
        id: HostId,
        /// As it was at this instant, RFC 3339; as far back as the coordinator keeps its log.
        #[arg(long, value_name = "TIME")]
        at: Option<Timestamp>,
    },
    /// Lists what changed at a host, newest first, as far back as the coordinator keeps its log.
    History {
        /// The host's id.
        id: HostId,
        /// Changes to show, 1 to 1000.
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: usize,
    },
}

#[derive(Debug, Args)]
struct SearchArgs {
    /// Part of the name, IPv4 or public address; case does not matter.
    text: Option<String>,
    /// Only at these sites, by name or id; may be given several times.
    #[arg(long, value_delimiter = ',')]
    site: Vec<String>,
    /// Part of the name.
    #[arg(long, value_name = "TEXT")]
    fqdn: Option<String>,
    /// Part of the IPv4 address.
    #[arg(long, value_name = "TEXT")]
    ipv4: Option<String>,
    /// Exactly this status, such as up.
    #[arg(long)]
    status: Option<String>,
    /// Exactly this family, such as debian.
    #[arg(long)]
    os_family: Option<String>,
    /// Exactly this platform, such as linux.
    #[arg(long)]
    platform: Option<String>,
    /// Exactly this country, two letters.
    #[arg(long, value_name = "CODE")]
    country: Option<String>,
    /// Heard from at or after this instant, RFC 3339.
    #[arg(long, value_name = "TIME")]
    seen_after: Option<Timestamp>,
    /// Last heard from before this instant, RFC 3339.
    #[arg(long, value_name = "TIME")]
    seen_before: Option<Timestamp>,
    /// Order: fqdn, last_seen, status, os_family, platform, site_id or geo_country_code [default: fqdn].
    #[arg(long, value_name = "FIELD")]
    order_by: Option<String>,
    /// Hosts to show, 1 to 1000.
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// Hosts to leave out before the first.
    #[arg(long, value_name = "N", default_value_t = 0)]
    offset: usize,
    /// Asks a site for what it holds itself, instead of a coordinator for everything.
    #[arg(long, conflicts_with = "site")]
    inventory: bool,
}

const SHEET: &[Column] = &[
    Column { heading: "fqdn", cell: |host| field(host, "fqdn") },
    Column { heading: "id", cell: |host| field(host, "host_id") },
    Column { heading: "site", cell: |host| field(host, "site_name") },
    Column { heading: "status", cell: |host| field(host, "status") },
    Column { heading: "ipv4", cell: |host| field(host, "ipv4") },
    Column { heading: "ipv6", cell: |host| field(host, "ipv6") },
    Column { heading: "public address", cell: |host| field(host, "public_ip") },
    Column { heading: "system", cell: system },
    Column { heading: "platform", cell: |host| field(host, "platform") },
    Column { heading: "tags", cell: |host| field(host, "tags_json") },
    Column { heading: "country", cell: |host| field(host, "geo_country_code") },
    Column { heading: "city", cell: |host| field(host, "geo_city") },
    Column { heading: "last seen", cell: |host| instant(host, "last_seen") },
    Column { heading: "changed", cell: |host| instant(host, "mtime") },
    Column { heading: "details", cell: |host| field(host, "site_detail_url") },
];

const CHANGE: &[Column] = &[
    Column { heading: "AT", cell: |change| field(change, "at") },
    Column { heading: "CHANGE", cell: |change| field(change, "change") },
    Column { heading: "WHAT", cell: members },
    Column { heading: "SITE", cell: |change| field(change, "site_id") },
];

const ROW: &[Column] = &[
    Column { heading: "FQDN", cell: |host| field(host, "fqdn") },
    Column { heading: "IPV4", cell: |host| field(host, "ipv4") },
    Column { heading: "SYSTEM", cell: system },
    Column { heading: "STATUS", cell: |host| field(host, "status") },
    Column { heading: "SITE", cell: |host| field(host, "site_name") },
    Column { heading: "LAST SEEN", cell: |host| instant(host, "last_seen") },
    Column { heading: "ID", cell: |host| field(host, "host_id") },
];

pub(crate) async fn run(args: HostArgs) -> Result<(), Failure> {
    let access = args.connection.open().await?;
    let ended = match args.verb {
        HostVerb::Search(search) => find(access.client(), args.connection.output, &search).await,
        HostVerb::Show { id, at } => show(access.client(), args.connection.output, id, at).await,
        HostVerb::History { id, limit } => history(access.client(), args.connection.output, id, limit).await,
    };
    access.close().await;
    ended
}

async fn find(client: &Client, format: Format, args: &SearchArgs) -> Result<(), Failure> {
    let query = query(client, args).await?;
    let (path, key) = if args.inventory { (INVENTORY, "items") } else { (HOSTS, "hosts") };
    let mut answer = client.get(path, &query).await?;
    if format == Format::Table && !args.inventory {
        name_sites(client, &mut answer).await;
    }
    let shown = answer.json.get(key).and_then(Value::as_array).map_or(0, Vec::len);
    output::list(format, &answer, key, ROW)?;
    if format == Format::Table {
        note(&format!("{shown} of {} hosts", field(&answer.json, "total")));
        if shown == 0 && !args.inventory {
            note("a coordinator knows the federation; a site tells what it holds itself with --inventory");
        }
    }
    Ok(())
}

async fn query(client: &Client, args: &SearchArgs) -> Result<Vec<(&'static str, String)>, Failure> {
    let mut sites = Vec::new();
    for site in &args.site {
        sites.push(site::resolve(client, site).await?);
    }
    let optional = [
        ("free_text", args.text.clone()),
        ("fqdn_contains", args.fqdn.clone()),
        ("ipv4_contains", args.ipv4.clone()),
        ("status", args.status.clone()),
        ("os_family", args.os_family.clone()),
        ("platform", args.platform.clone()),
        ("geo_country_code", args.country.clone()),
        ("last_seen_after", args.seen_after.map(|instant| instant.to_string())),
        ("last_seen_before", args.seen_before.map(|instant| instant.to_string())),
        ("order_by", args.order_by.clone()),
        ("site_id", (!sites.is_empty()).then(|| sites.join(","))),
    ];
    let mut query: Vec<_> =
        optional.into_iter().filter_map(|(name, value)| value.map(|value| (name, value))).collect();
    query.push(("limit", args.limit.to_string()));
    query.push(("offset", args.offset.to_string()));
    Ok(query)
}

/// Puts names of sites beside their ids. Who may read hosts but not sites sees the ids.
async fn name_sites(client: &Client, answer: &mut Answer) {
    let sites = client.get("/api/v1/federation/sites", &[("include_removed", "true".to_owned())]).await;
    let names: BTreeMap<String, String> = sites
        .ok()
        .and_then(|sites| sites.json.get("sites").and_then(Value::as_array).cloned())
        .into_iter()
        .flatten()
        .map(|site| (field(&site, "id"), field(&site, "name")))
        .collect();
    let hosts = answer.json.get_mut("hosts").and_then(Value::as_array_mut).into_iter().flatten();
    for host in hosts {
        let site_id = field(host, "site_id");
        let name = names.get(&site_id).unwrap_or(&site_id).clone();
        if let Some(host) = host.as_object_mut() {
            host.insert("site_name".to_owned(), name.into());
        }
    }
}

async fn show(client: &Client, format: Format, id: HostId, at: Option<Timestamp>) -> Result<(), Failure> {
    let query: Vec<_> = at.map(|at| ("at", at.to_string())).into_iter().collect();
    let mut answer = client.get(&format!("{HOSTS}/{id}"), &query).await?;
    let site = answer.json.get("site").map(|site| field(site, "name"));
    let url = answer.json.get("site_detail_url").cloned();
    if let Some(host) = answer.json.get_mut("host").and_then(Value::as_object_mut) {
        host.extend(site.map(|name| ("site_name".to_owned(), name.into())));
        host.extend(url.map(|url| ("site_detail_url".to_owned(), url)));
    }
    output::item(format, &answer, Some("host"), SHEET)
}

async fn history(client: &Client, format: Format, id: HostId, limit: usize) -> Result<(), Failure> {
    let answer = client.get(&format!("{HOSTS}/{id}/history"), &[("limit", limit.to_string())]).await?;
    output::list(format, &answer, "changes", CHANGE)?;
    if format == Format::Table {
        if answer.json.get("more") == Some(&Value::Bool(true)) {
            note("older changes are kept: --limit shows more");
        }
        match answer.json.get("kept_from").and_then(Value::as_str) {
            Some(from) => note(&format!("every change since {from} is kept")),
            None => note("every change since the beginning is kept"),
        }
    }
    Ok(())
}

/// What changed, as `member: from → to`.
fn members(change: &Value) -> String {
    let list = change.get("members").and_then(Value::as_array).into_iter().flatten();
    let shown = |member: &Value| {
        let (from, to) = (field(member, "from"), field(member, "to"));
        format!("{}: {from} → {to}", field(member, "member"))
    };
    list.map(shown).collect::<Vec<_>>().join("\n")
}

fn system(host: &Value) -> String {
    match (field(host, "os_family"), field(host, "os_version")) {
        (family, version) if version == "-" => family,
        (family, version) => format!("{family} {version}"),
    }
}
