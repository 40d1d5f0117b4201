//! `hansa dev`: a coordinator and its sites in one process on loopback, with hosts that live.
//!
//! Every node is a full one, with its own data folder, store, HTTP listener and QUIC endpoint, and the command
//! is a client of their surfaces like any other: it invites, joins, reports and searches as people do. What
//! a folder was made with is remembered in its `dev.toml`, so a second start carries on.

mod life;
mod memory;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use hansa_actors::view::TokenRequest;
use hansa_model::Secret;
use hansa_model::enrollment::Role;
use hansa_model::limits::token::TTL_DEFAULT;
use hansa_model::scope::Scope;
use reqwest::Method;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::life::Life;
use self::memory::{Memory, Ports};
use crate::cli::failure::{Exit, Failure, chain};
use crate::cli::output::{field, note, write_data};
use crate::client::Client;
use crate::config::{Config, ConnectorLayer, FederationLayer, Layer};
use crate::node::{RunningNode, private_folder};
use crate::ready;
use crate::shutdown::Signals;
use crate::telemetry::{self, LogFormat};

/// Sites unless told otherwise: the least with which one can fail and the others are more than one.
const SITES: usize = 3;
/// Hosts of a site unless told otherwise: a table that scrolls, and a change every second.
const HOSTS: u64 = 200;
/// The fleet of a folder made without `--seed`.
const SEED: u64 = 1;
/// Sites in one process at most: each costs a store, an endpoint and a few dozen tasks.
const SITES_MAX: usize = 64;
/// Hosts of a site at most: what one call to its inventory takes.
const HOSTS_MAX: u64 = hansa_model::limits::inventory::CALL_ENTRIES_MAX as u64;
/// Page cache of each node; small, since many share one machine.
const CACHE_MIB: u64 = 16;
/// Between two looks at whether a first inventory has arrived.
const POLL_INTERVAL: Duration = Duration::from_millis(25);
/// Time for the first inventory to be searchable; a hundred thousand hosts a site take some seconds.
const SEARCHABLE_WAIT_MAX: Duration = Duration::from_secs(120);
/// Time for open requests to end.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// Flags of `hansa dev`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  hansa dev\n  hansa dev --sites 5 --hosts 10000 --data-dir federation\n\nA \
    second start on the same folder carries on where it was; remove the folder to begin anew."
)]
pub struct DevArgs {
    /// Sites, 1 to 64 [default: 3].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=SITES_MAX as u64))]
    sites: Option<u64>,
    /// Hosts of each site, 1 to 100000; one of the first site's is this machine [default: 200].
    #[arg(long, value_name = "M", value_parser = clap::value_parser!(u64).range(1..=HOSTS_MAX))]
    hosts: Option<u64>,
    /// Folder of all nodes [default: $XDG_STATE_HOME/hansa/dev, or ~/.local/state/hansa/dev].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Written, atomically, once all sites are enrolled and searchable: addresses, ids and tokens.
    #[arg(long, value_name = "PATH")]
    ready_file: Option<PathBuf>,
    /// Number from which the fleet is generated; the same number makes the same hosts [default: 1].
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Log filter [default: warn].
    #[arg(
        long,
        value_name = "FILTER",
        env = "HANSA_LOG",
        hide_env_values = true,
        default_value = "warn",
        hide_default_value = true
    )]
    log: String,
}

/// Content of the ready file.
#[derive(Debug, Serialize)]
struct Ready {
    coordinator: ReadyNode,
    sites: Vec<ReadySite>,
    pid: u32,
}

#[derive(Debug, Serialize)]
struct ReadyNode {
    url: String,
    quic: Option<String>,
    token: String,
    data_dir: PathBuf,
}

#[derive(Debug, Serialize)]
struct ReadySite {
    name: String,
    site_id: String,
    #[serde(flatten)]
    node: ReadyNode,
}

/// A node of this process with a client of its own.
#[derive(Debug)]
struct Member {
    name: String,
    data_dir: PathBuf,
    node: RunningNode,
    client: Client,
}

/// A site that has joined.
#[derive(Debug)]
struct Site {
    member: Member,
    site_id: String,
}

pub(crate) async fn run(args: DevArgs) -> Result<(), Failure> {
    telemetry::start(&args.log, LogFormat::Auto).map_err(|error| Failure::usage(error.to_string()))?;
    if let Some(path) = &args.ready_file {
        ready::clear(path);
    }
    let mut signals = Signals::new()?;
    let folder = data_dir(args.data_dir.as_deref())?;
    let federation = tokio::select! {
        biased;
        name = signals.next() => {
            return Err(Failure::new(Exit::Interrupted, format!("{name} before the federation was ready")));
        }
        federation = Box::pin(DevFederation::start(&folder, &args)) => federation?,
    };
    federation.announce(args.ready_file.as_deref())?;
    let (stop, stopped) = watch::channel(false);
    let mut lives = federation.live(&stopped);
    let name = signals.next().await;
    note(&format!("{name}: stopping"));
    let draining = Box::pin(async {
        let _ = stop.send(true);
        while lives.join_next().await.is_some() {}
        federation.stop().await;
    });
    let ended = signals.drain(draining).await;
    if let Some(path) = &args.ready_file {
        ready::clear(path);
    }
    ended
}

/// A running coordinator and its sites.
#[derive(Debug)]
struct DevFederation {
    coordinator: Member,
    sites: Vec<Site>,
    lives: Vec<Life>,
}

impl DevFederation {
    /// Starts all nodes, lets the sites join and report, and returns when every host can be found.
    async fn start(folder: &Path, args: &DevArgs) -> Result<Self, Failure> {
        private_folder(folder)?;
        let wanted = Memory {
            seed: args.seed.unwrap_or(SEED),
            hosts: args.hosts.unwrap_or(HOSTS),
            sites: args.sites.map_or(SITES, |sites| usize::try_from(sites).unwrap_or(SITES_MAX)),
            ..Memory::default()
        };
        let mut memory = Memory::recall(folder)?.unwrap_or_else(|| wanted.clone());
        tell_what_stays(&memory, &wanted, args);
        memory.sites = args.sites.map_or(memory.sites, |_| wanted.sites);
        let (coordinator, sites) = start_members(folder, &memory).await?;
        remember(&mut memory, &coordinator, &sites, folder)?;
        let joined = join_all(&coordinator, sites).await?;
        let lives = first_reports(&coordinator, &joined, &memory, folder).await?;
        Ok(Self { coordinator, sites: joined, lives })
    }

    /// Tells people, then programs, where everything is.
    fn announce(&self, ready_file: Option<&Path>) -> Result<(), Failure> {
        let ready = Ready {
            coordinator: self.coordinator.ready()?,
            sites: self
                .sites
                .iter()
                .map(|site| {
                    Ok(ReadySite {
                        name: site.member.name.clone(),
                        site_id: site.site_id.clone(),
                        node: site.member.ready()?,
                    })
                })
                .collect::<Result<_, Failure>>()?,
            pid: std::process::id(),
        };
        write_data(&welcome(&ready))?;
        match ready_file {
            Some(path) => ready::write(path, &ready),
            None => Ok(()),
        }
    }

    /// Starts what changes hosts, one task a site.
    fn live(&self, stopped: &watch::Receiver<bool>) -> JoinSet<()> {
        let mut lives = JoinSet::new();
        for (site, life) in self.sites.iter().zip(&self.lives) {
            lives.spawn(life.clone().go_on(site.member.client.clone(), stopped.clone()));
        }
        lives
    }

    async fn stop(self) {
        let mut stopping = JoinSet::new();
        for site in self.sites {
            stopping.spawn(site.member.node.stop(DRAIN_MAX));
        }
        while stopping.join_next().await.is_some() {}
        self.coordinator.node.stop(DRAIN_MAX).await;
    }
}

impl Member {
    async fn start(folder: &Path, name: &str, role: Role, ports: Ports) -> Result<Self, Failure> {
        let data_dir = folder.join(name);
        let layer = Layer {
            data_dir: Some(data_dir.clone()),
            listen: Some(loopback(ports.http)),
            role: Some(role),
            federation: FederationLayer { listen: Some(loopback(ports.quic)), ..FederationLayer::default() },
            connector: if role == Role::Site { vec![ConnectorLayer::echo()] } else { Vec::new() },
            ..Layer::default()
        };
        let config = Config {
            cache_bytes: CACHE_MIB * 1024 * 1024,
            ..layer.resolve().map_err(|error| Failure::new(Exit::Failed, error.to_string()))?
        };
        let node = Box::pin(RunningNode::start(&config)).await?;
        let client = Client::at_socket(&data_dir)?;
        Ok(Self { name: name.to_owned(), data_dir, node, client })
    }

    fn ports(&self) -> Ports {
        Ports { http: self.node.http_address().port(), quic: self.node.quic_address().port() }
    }

    fn ready(&self) -> Result<ReadyNode, Failure> {
        Ok(ReadyNode {
            url: self.node.url().to_owned(),
            quic: self.node.quic().map(str::to_owned),
            token: self.mint()?.expose().clone(),
            data_dir: self.data_dir.clone(),
        })
    }

    /// An operator's token with all scopes for a day.
    fn mint(&self) -> Result<Secret<String>, Failure> {
        let request = TokenRequest {
            userid: "dev".to_owned(),
            scopes: Scope::ALL.into_iter().collect(),
            sites: None,
            tenant: None,
            ttl: TTL_DEFAULT,
        };
        let minted = self.node.federation().mint(&request);
        minted.map_err(|error| Failure::new(Exit::Failed, format!("no token: {}", chain(&error))))
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// The folder of all nodes, absolute: the printed commands work from anywhere.
fn data_dir(given: Option<&Path>) -> Result<PathBuf, Failure> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = given
        .map(Path::to_owned)
        .or_else(|| variable("XDG_STATE_HOME").map(|state| state.join("hansa/dev")))
        .or_else(|| variable("HOME").map(|home| home.join(".local/state/hansa/dev")))
        .ok_or_else(|| {
            Failure::usage("there is no home folder to keep the nodes in").next("hansa dev --data-dir DIR")
        })?;
    std::path::absolute(&folder).map_err(|error| Failure::usage(format!("{}: {error}", folder.display())))
}

fn site_name(number: usize) -> String {
    format!("site-{number}")
}

/// Says when a flag comes too late: hosts and seed belong to a folder for good.
fn tell_what_stays(memory: &Memory, wanted: &Memory, args: &DevArgs) {
    let hosts_differ = args.hosts.is_some() && memory.hosts != wanted.hosts;
    let seed_differs = args.seed.is_some() && memory.seed != wanted.seed;
    if hosts_differ || seed_differs {
        note(&format!(
            "this folder was made with --hosts {} --seed {}, and carries on with them; remove it to begin anew",
            memory.hosts, memory.seed
        ));
    }
}

/// Starts every node at once; the first failure is the answer.
async fn start_members(folder: &Path, memory: &Memory) -> Result<(Member, Vec<Member>), Failure> {
    let mut coordinator_ports = memory.coordinator.unwrap_or_default();
    if let Some(port) = taken(coordinator_ports) {
        note(&format!("port {port} is in use: the coordinator takes another, and its sites are told"));
        coordinator_ports = Ports::default();
    }
    let mut starting = JoinSet::new();
    let whole = folder.to_owned();
    let coordinator = tokio::spawn(async move {
        Member::start(&whole, "coordinator", Role::Coordinator, coordinator_ports).await
    });
    for number in 1..=memory.sites {
        let name = site_name(number);
        let ports = memory.ports.get(&name).copied().unwrap_or_default();
        // A site may move: its coordinator learns the new address.
        let ports = if taken(ports).is_some() { Ports::default() } else { ports };
        let folder = folder.to_owned();
        starting.spawn(async move { (number, Member::start(&folder, &name, Role::Site, ports).await) });
    }
    let crashed = |error: tokio::task::JoinError| Failure::new(Exit::Failed, error.to_string());
    let mut sites = Vec::new();
    while let Some(started) = starting.join_next().await {
        let (number, member) = started.map_err(crashed)?;
        sites.push((number, member?));
    }
    sites.sort_by_key(|(number, _)| *number);
    let coordinator = coordinator.await.map_err(crashed)??;
    Ok((coordinator, sites.into_iter().map(|(_, member)| member).collect()))
}

/// The port that somebody else has, if one has.
fn taken(ports: Ports) -> Option<u16> {
    if ports.http != 0 && TcpListener::bind(loopback(ports.http)).is_err() {
        return Some(ports.http);
    }
    (ports.quic != 0 && UdpSocket::bind(loopback(ports.quic)).is_err()).then_some(ports.quic)
}

fn remember(
    memory: &mut Memory,
    coordinator: &Member,
    sites: &[Member],
    folder: &Path,
) -> Result<(), Failure> {
    memory.coordinator = Some(coordinator.ports());
    memory.ports.extend(sites.iter().map(|site| (site.name.clone(), site.ports())));
    memory.keep(folder)
}

async fn join_all(coordinator: &Member, members: Vec<Member>) -> Result<Vec<Site>, Failure> {
    let mut joining = JoinSet::new();
    for (number, member) in members.into_iter().enumerate() {
        let client = coordinator.client.clone();
        let address = json!({
            "coordinator_url": coordinator.node.url(),
            "quic_address": coordinator.node.quic(),
        });
        joining.spawn(async move {
            let site_id = join(&client, &address, &member, number).await;
            site_id.map(|site_id| (number, Site { member, site_id }))
        });
    }
    let mut sites = Vec::new();
    while let Some(joined) = joining.join_next().await {
        sites.push(joined.map_err(|error| Failure::new(Exit::Failed, error.to_string()))??);
    }
    sites.sort_by_key(|(number, _)| *number);
    Ok(sites.into_iter().map(|(_, site)| site).collect())
}

/// Invites the site and lets it join; a member already is told where its coordinator is now. Answers its id.
async fn join(
    coordinator: &Client,
    address: &Value,
    member: &Member,
    number: usize,
) -> Result<String, Failure> {
    let site = &member.client;
    let status = site.get("/api/v1/federation/site/enrollment-status", &[]).await?;
    let site_id = status.json.pointer("/coordinator/site_id").and_then(Value::as_str).map(str::to_owned);
    if let ("enrolled" | "suspended", Some(site_id)) = (field(&status.json, "status").as_str(), site_id) {
        let body = json!({"url": member.node.url()});
        coordinator
            .send_json(Method::PATCH, &format!("/api/v1/federation/sites/{site_id}"), Some(&body))
            .await?;
        let known = |member| status.json.pointer(&format!("/coordinator/{member}"));
        if ["coordinator_url", "quic_address"].iter().any(|member| known(member) != address.get(member)) {
            site.send_json(Method::PUT, "/api/v1/site/coordinator", Some(address)).await?;
        }
        return Ok(site_id);
    }
    let invitation = invite(coordinator, member, number).await?;
    let identity = coordinator.get("/api/v1/federation/identity-key", &[]).await?;
    let quic = coordinator.get("/api/v1/federation/tls-cert", &[]).await?;
    let mut body = json!({
        "coordinator_url": coordinator_url(&invitation)?,
        "enrollment_token": invitation.get("enrollment_token"),
        "coordinator_identity_public_key_pem": identity.json.get("public_key_pem"),
    });
    if let (Some(body), Some(address)) = (body.as_object_mut(), quic.json.pointer("/quic/address")) {
        body.insert("quic_address".to_owned(), address.clone());
    }
    site.send_json(Method::POST, "/api/v1/federation/site/enroll", Some(&body)).await?;
    invitation
        .pointer("/site/id")
        .and_then(Value::as_str)
        .map(str::to_owned)
        .ok_or_else(|| Failure::new(Exit::Failed, "the coordinator's invitation names no site"))
}

/// Makes the site's row, or a new token when an earlier start ended between invitation and answer.
async fn invite(coordinator: &Client, member: &Member, number: usize) -> Result<Value, Failure> {
    const SITES: &str = "/api/v1/federation/sites";
    let known = coordinator.get(SITES, &[("status", "pending".to_owned())]).await?;
    let rows = known.json.get("sites").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if let Some(row) = rows.iter().find(|row| field(row, "name") == member.name) {
        let path = format!("{SITES}/{}/regenerate-token", field(row, "id"));
        return Ok(coordinator.send_json(Method::POST, &path, Some(&json!({}))).await?.json);
    }
    let identity = member.client.get("/api/v1/federation/identity-key", &[]).await?;
    let place = life::PLACES[number % life::PLACES.len()];
    let body = json!({
        "name": member.name,
        "url": member.node.url(),
        "site_identity_public_key_pem": identity.json.get("public_key_pem"),
        "location_label": place.label,
        "geo_latitude": place.latitude,
        "geo_longitude": place.longitude,
        "geo_country_code": place.country,
    });
    Ok(coordinator.send_json(Method::POST, SITES, Some(&body)).await?.json)
}

/// The coordinator's URL as it stands in the join code, so that what people paste is what is tried here.
fn coordinator_url(invitation: &Value) -> Result<String, Failure> {
    let code = invitation.get("join_code").and_then(Value::as_str).unwrap_or_default();
    hansa_model::enrollment::JoinCode::decode(code)
        .map(|code| code.coordinator_url)
        .map_err(|error| Failure::new(Exit::Failed, error.to_string()))
}

/// Lets every site report what it has, and waits until the coordinator finds all of it.
async fn first_reports(
    coordinator: &Member,
    sites: &[Site],
    memory: &Memory,
    folder: &Path,
) -> Result<Vec<Life>, Failure> {
    let mut reporting = JoinSet::new();
    for (index, site) in sites.iter().enumerate() {
        let (client, coordinator) = (site.member.client.clone(), coordinator.client.clone());
        let (site_id, folder) = (site.site_id.clone(), folder.to_owned());
        let (seed, hosts) = (memory.seed, memory.hosts);
        reporting.spawn(async move {
            let life = Life::begin(&client, &folder, seed, hosts, index).await?;
            until_searchable(&client, &coordinator, &site_id).await?;
            Ok::<_, Failure>((index, life))
        });
    }
    let mut lives = Vec::new();
    while let Some(reported) = reporting.join_next().await {
        lives.push(reported.map_err(|error| Failure::new(Exit::Failed, error.to_string()))??);
    }
    lives.sort_by_key(|(index, _)| *index);
    Ok(lives.into_iter().map(|(_, life)| life).collect())
}

async fn until_searchable(site: &Client, coordinator: &Client, site_id: &str) -> Result<(), Failure> {
    let held = total(site, "/api/v1/site/hosts", &[]).await?;
    let deadline = Instant::now() + SEARCHABLE_WAIT_MAX;
    loop {
        let query = [("site_id", site_id.to_owned())];
        let found = total(coordinator, "/api/v1/federation/hosts", &query).await?;
        if found == held {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Failure::new(
                Exit::Unreachable,
                format!("the coordinator finds {found} of {held} hosts of site {site_id}"),
            )
            .next("hansa dev --log info"));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

async fn total(client: &Client, path: &str, query: &[(&str, String)]) -> Result<u64, Failure> {
    let mut query = query.to_vec();
    query.push(("limit", "1".to_owned()));
    let answer = client.get(path, &query).await?;
    Ok(answer.json.get("total").and_then(Value::as_u64).unwrap_or(0))
}

/// Where to look, and three commands to try.
fn welcome(ready: &Ready) -> String {
    let program = std::env::args().next().unwrap_or_else(|| "hansa".to_owned());
    let mut text = format!("A federation of {} sites is up.\n\n", ready.sites.len());
    let mut row = |name: &str, node: &ReadyNode| {
        let quic = node.quic.as_deref().unwrap_or("-");
        text.push_str(&format!(
            "  {name:<12} {:<24} quic {quic:<18} {}\n",
            node.url,
            node.data_dir.display()
        ));
    };
    row("coordinator", &ready.coordinator);
    for site in &ready.sites {
        row(&site.name, &site.node);
    }
    let coordinator = &ready.coordinator;
    let data_dir = coordinator.data_dir.display();
    text.push_str(&format!(
        "\nOperator token of the coordinator, all scopes, 24 hours:\n\n  export HANSA_TOKEN={}\n\nThree commands to try:\n\n  \
         {program} site list --data-dir {data_dir}\n  {program} host search web --limit 10 --data-dir {data_dir}\n  \
         curl -s -H \"Authorization: Bearer $HANSA_TOKEN\" '{}/api/v1/federation/hosts?limit=1'\n\n\
         Ctrl-C stops; the next start carries on.",
        coordinator.token, coordinator.url,
    ));
    text
}
