//! Many sites in one other process, each a whole node with its own identity, QUIC connection and store, joined
//! by the documented handshake. They carry commands and policies out by the built-in echo.
//!
//! What is left out of a real site: its HTTP listener, and a certificate of its own, whose RSA key takes as
//! long to make as everything else together.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use hansa_actors::{Echo, EnrollRequest, Federation, Node, NodeConfig, NodeEnv};
use hansa_model::enrollment::Role;
use hansa_model::{Secret, WallClock as _};
use hansa_storage::{DirDisk, Driver, RootKey, Store, StoreConfig};
use hansa_transport::TlsCertificate;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::failed;
use super::process::NodeProcess;
use crate::cli::failure::{Exit, Failure};
use crate::client::Client;
use crate::system::{SystemClock, SystemEntropy, compute};

/// Sites that start and join side by side; more would only wait for the disk.
const JOINING: usize = 16;
/// Time for a thousand sites to join.
const READY_WAIT_MAX: Duration = Duration::from_secs(600);

/// The process that plays the sites; it is killed when dropped.
#[derive(Debug)]
pub(super) struct Crowd {
    child: Child,
    /// Ids of the sites, in the order in which they joined.
    pub(super) sites: Vec<String>,
}

impl Crowd {
    /// Starts the process and waits until every site has joined.
    pub(super) async fn start(coordinator: &NodeProcess, folder: &Path, sites: u64) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(|error| failed(&error))?;
        let mut child = Command::new(program)
            .args(["bench", "crowd", "--sites", &sites.to_string()])
            .arg("--data-dir")
            .arg(folder)
            .arg("--coordinator-dir")
            .arg(&coordinator.data_dir)
            .env("HANSA_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(&error))?;
        let output = child.stdout.take().ok_or_else(|| failed(&"the process has no output"))?;
        let mut lines = BufReader::new(output).lines();
        let joined = async {
            let mut joined = Vec::new();
            while (joined.len() as u64) < sites {
                match lines.next_line().await.map_err(|error| failed(&error))? {
                    Some(site) => joined.push(site),
                    None => return Err(Failure::new(Exit::Failed, "the process of the sites ended early")),
                }
            }
            Ok(joined)
        };
        let sites = tokio::time::timeout(READY_WAIT_MAX, joined)
            .await
            .map_err(|_| Failure::new(Exit::Failed, "the sites did not join in time"))??;
        Ok(Self { child, sites })
    }

    /// Ends the process.
    pub(super) async fn stop(mut self) -> Result<(), Failure> {
        self.child.kill().await.map_err(|error| failed(&error))
    }
}

/// The process's own half: joins the sites, prints the id of each, and plays them until it is killed.
pub(super) async fn play(coordinator_dir: &Path, folder: &Path, sites: u64) -> Result<(), Failure> {
    let coordinator = Client::at_socket(coordinator_dir)?;
    let key = coordinator.get("/api/v1/federation/identity-key", &[]).await?;
    let certificate = coordinator.get("/api/v1/federation/tls-cert", &[]).await?;
    let target = Arc::new(Target {
        client: coordinator,
        identity: text(&key.json, "/public_key_pem")?,
        quic: text(&certificate.json, "/quic/address")?,
        certificate: TlsCertificate::generate("crowd.example.com", SystemClock.now(), &SystemEntropy)
            .map_err(|error| failed(&error))?,
        folder: folder.to_owned(),
    });
    let turns = Arc::new(Semaphore::new(JOINING));
    let mut joining = JoinSet::new();
    for number in 0..sites {
        let (target, turns) = (Arc::clone(&target), Arc::clone(&turns));
        joining.spawn(async move {
            let _turn = turns.acquire_owned().await.map_err(|error| failed(&error))?;
            target.join(number).await
        });
    }
    let mut nodes = Vec::new();
    while let Some(joined) = joining.join_next().await {
        let (node, site) = joined.map_err(|error| failed(&error))??;
        crate::cli::output::write_data(&format!("{site}\n"))?;
        nodes.push(node);
    }
    std::future::pending().await
}

/// Where the sites join.
struct Target {
    client: Client,
    identity: String,
    quic: String,
    certificate: TlsCertificate,
    folder: PathBuf,
}

impl Target {
    async fn join(&self, number: u64) -> Result<(Node, String), Failure> {
        let data_dir = self.folder.join(format!("site-{number}"));
        std::fs::create_dir_all(&data_dir).map_err(|error| failed(&error))?;
        let disk = DirDisk::new(&data_dir).map_err(|error| failed(&error))?;
        let key =
            RootKey::load_or_create(&data_dir.join("root.key"), &SystemEntropy).map_err(|e| failed(&e))?;
        let config = StoreConfig { cache_bytes: 1024 * 1024, ..StoreConfig::default() };
        let store = Store::open(config, Arc::new(disk), Driver::Thread, &key, Arc::new(SystemEntropy))
            .map_err(|error| failed(&error))?;
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| failed(&error))?;
        let env = NodeEnv {
            store,
            socket: Some(socket.into()),
            wall: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            http: crate::tls::peer_http()?,
            connectors: Arc::new(Echo),
            issuers: hansa_actors::issuer::Issuers::default(),
            drivers: Arc::new(hansa_backends::NoDrivers),
            root_key: Arc::new(hansa_actors::NoHolder),
            compute: compute(),
            endpoint_seed: None,
            host_name: "crowd.example.com".to_owned(),
            tls_certificate: Some(
                TlsCertificate::from_pem(self.certificate.certificate_pem(), self.certificate.key_pem())
                    .map_err(|error| failed(&error))?,
            ),
        };
        let node = Node::start(env, NodeConfig::default()).await.map_err(|error| failed(&error))?;
        let federation = node.federation();
        let operator = Federation::local_operator();
        federation.set_role(Role::Site, &operator).await.map_err(|error| failed(&error))?;
        let body = json!({
            "name": format!("crowd-{number}"),
            "url": "http://127.0.0.1:9",
            "site_identity_public_key_pem": federation.identity().public_key_pem,
        });
        let invited = self.client.send_json(Method::POST, "/api/v1/federation/sites", Some(&body)).await?;
        let request = EnrollRequest {
            coordinator_url: "http://127.0.0.1:9".to_owned(),
            enrollment_token: Secret::new(text(&invited.json, "/enrollment_token")?),
            coordinator_identity_public_key_pem: self.identity.clone(),
            quic_address: Some(self.quic.clone()),
            sync_interval_seconds: None,
        };
        federation.enroll(&operator, request).await.map_err(|error| failed(&error))?;
        // One host, so that a command for all hosts of the site has somewhere to go.
        let host = json!({"host_id": uuid::Uuid::from_u128(u128::from(number) + 1), "fqdn": format!("host-{number}.example.com")});
        let entry = serde_json::from_value(host).map_err(|error| failed(&error))?;
        federation
            .patch_inventory(vec![Ok(hansa_actors::InventoryChange::Upsert(Box::new(entry)))])
            .await
            .map_err(|error| failed(&error))?;
        Ok((node, text(&invited.json, "/site/id")?))
    }
}

fn text(answer: &Value, pointer: &str) -> Result<String, Failure> {
    let found = answer.pointer(pointer).and_then(Value::as_str);
    found.map(str::to_owned).ok_or_else(|| failed(&format_args!("an answer has no {pointer}")))
}
