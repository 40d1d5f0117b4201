//! `hansa serve`: one node, until a signal ends it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use hansa_model::enrollment::Role;
use serde::Serialize;

use crate::cli::failure::Failure;
use crate::cli::output::note;
use crate::config::{Config, FederationLayer, Layer, LogLayer, TlsLayer};
use crate::node::RunningNode;
use crate::shutdown::Signals;
use crate::{ready, telemetry};

/// Between two looks at whether the node is ready.
const READY_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Flags of `hansa serve`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  hansa serve --data-dir /var/lib/hansa --role coordinator\n  \
    hansa serve --listen 0.0.0.0:443 --tls-cert tls.pem --tls-key tls-key.pem \\\n    \
    --federation-listen 0.0.0.0:7443 --public-url https://hq.example.com\n\nEvery flag has a key in the \
    configuration file and a variable: `hansa config --defaults` lists them.")]
pub struct ServeArgs {
    /// Folder of the node's state; made when it does not exist [default: /var/lib/hansa].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where HTTP is served; port 0 takes a free one [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// Where QUIC is taken from peers; port 0 takes a free one
    /// [default: 127.0.0.1:7443; a site, which only dials: any].
    #[arg(long, value_name = "ADDR:PORT")]
    federation_listen: Option<SocketAddr>,
    /// Address under which peers reach this node's QUIC, host:port
    /// [default: the host of --public-url, or the listener's own address, with the bound port].
    #[arg(long, value_name = "HOST:PORT")]
    federation_advertise: Option<String>,
    /// Sets the stored role: none, coordinator or site [default: the stored role stands].
    #[arg(long)]
    role: Option<Role>,
    /// Configuration file [default: /etc/hansa/hansa.toml when it exists].
    #[arg(long, value_name = "FILE", env = "HANSA_CONFIG", hide_env_values = true)]
    config: Option<PathBuf>,
    /// Written, atomically, once the node answers: {"url","quic","role","data_dir","pid"}.
    #[arg(long, value_name = "PATH")]
    ready_file: Option<PathBuf>,
    /// Certificate chain of the HTTP listener, PEM.
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// Private key of --tls-cert, PEM.
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Allows plain HTTP beyond loopback: every token can be read on the way.
    #[arg(long)]
    insecure_http: bool,
    /// File with the root key that everything sealed hangs on [default: root.key in the data folder].
    #[arg(long, value_name = "FILE")]
    root_key_file: Option<PathBuf>,
    /// Waits for `hansa root-key unlock` when the root key is a passphrase that no file holds.
    #[arg(long)]
    await_unlock: bool,
    /// URL under which people and peers reach this node; stands in join codes.
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// Log filter, such as info or hansa_actors=debug,info [default: info].
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
}

/// Content of the ready file.
#[derive(Debug, Serialize)]
struct Ready {
    url: String,
    quic: Option<String>,
    role: Role,
    data_dir: PathBuf,
    pid: u32,
}

impl ServeArgs {
    fn layer(self) -> Layer {
        Layer {
            data_dir: self.data_dir,
            listen: self.listen,
            public_url: self.public_url,
            role: self.role,
            insecure_http: self.insecure_http.then_some(true),
            root_key_file: self.root_key_file,
            root_key_await_unlock: self.await_unlock.then_some(true),
            tls: TlsLayer { cert: self.tls_cert, key: self.tls_key },
            federation: FederationLayer {
                listen: self.federation_listen,
                advertise: self.federation_advertise,
                enforce_signatures: None,
            },
            log: LogLayer { filter: self.log, format: None },
            ..Layer::default()
        }
    }
}

pub(crate) async fn run(args: ServeArgs) -> Result<(), Failure> {
    let usage = |error: String| Failure::usage(error).next("hansa config --defaults");
    let below =
        Layer::of_files_and_environment(args.config.as_deref()).map_err(|error| usage(error.to_string()))?;
    let ready_file = args.ready_file.clone();
    let config = args.layer().over(below).resolve().map_err(|error| Failure::usage(error.to_string()))?;
    telemetry::start(&config.log_filter, config.log_format).map_err(|error| usage(error.to_string()))?;
    if let Some(path) = &ready_file {
        ready::clear(path);
    }
    let mut signals = Signals::new()?;
    let node = tokio::select! {
        biased;
        name = signals.next() => return Err(interrupted(name)),
        node = Box::pin(RunningNode::start(&config)) => node?,
    };
    tell_what_is_exposed(&config, &node);
    until_ready(&node).await;
    if let Some(path) = &ready_file {
        ready::write(path, &ready_content(&config, &node))?;
    }
    let name = signals.next().await;
    tracing::info!(signal = name, "draining");
    let ended = signals.drain(node.stop(config.drain)).await;
    if let Some(path) = &ready_file {
        ready::clear(path);
    }
    ended
}

/// Waits until the node can do its work, as `/readyz` tells it.
async fn until_ready(node: &RunningNode) {
    while !node.federation().readiness().ready {
        tokio::time::sleep(READY_POLL_INTERVAL).await;
    }
}

fn interrupted(name: &str) -> Failure {
    Failure::new(crate::cli::failure::Exit::Interrupted, format!("{name} before the node was ready"))
}

fn ready_content(config: &Config, node: &RunningNode) -> Ready {
    Ready {
        url: node.url().to_owned(),
        quic: node.quic().map(str::to_owned),
        role: node.federation().role(),
        data_dir: config.data_dir.clone(),
        pid: std::process::id(),
    }
}

fn tell_what_is_exposed(config: &Config, node: &RunningNode) {
    let tls = if config.tls.is_some() { "TLS" } else { "plain" };
    let reach =
        |is_loopback: bool| if is_loopback { "this machine only" } else { "every network that reaches it" };
    let http_reach = reach(crate::system::is_loopback(node.http_address()));
    let quic_reach = reach(crate::system::is_loopback(node.quic_address()));
    note(&format!(
        "hansa {} · role {}\n  HTTP   {} ({tls}, {http_reach})\n  QUIC   {} (pinned keys only, {quic_reach})\n  \
         socket {} (this user only)\n  data   {}",
        env!("CARGO_PKG_VERSION"),
        node.federation().role(),
        node.http_address(),
        node.quic_address(),
        crate::client::socket_path(&config.data_dir).display(),
        config.data_dir.display(),
    ));
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn config(line: &str) -> Result<Config, crate::config::ConfigError> {
        let Command::Serve(args) = Cli::try_parse_from(line.split(' ')).unwrap().command else {
            panic!("not serve")
        };
        args.layer().resolve()
    }

    #[test]
    fn flags_reach_the_configuration() {
        let config = config(
            "hansa serve --data-dir d --listen 127.0.0.1:0 --federation-listen [::1]:9 --role site --log debug",
        )
        .unwrap();

        assert_eq!(config.quic_listen.map(|address| address.port()), Some(9));
        assert_eq!(config.role, Some(Role::Site));
        assert_eq!(config.log_filter, "debug");
        assert_eq!(config.root_key_file, PathBuf::from("d/root.key"));
    }

    #[test]
    fn listening_to_the_world_in_plain_http_is_refused_until_spelled_out() {
        assert!(config("hansa serve --listen 0.0.0.0:8080").is_err());
        assert!(config("hansa serve --listen 0.0.0.0:8080 --insecure-http").is_ok());
    }
}
