//! The real program as a process of its own.
//!
//! The program is `$HANSA_TEST_BINARY`, or the dev profile's, built here when it is not up to date: cargo
//! names another crate's program to nobody, and a stale one would prove nothing.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use crate::http::Api;
use crate::waiting::{WAIT_MAX, eventually};

/// The program.
///
/// # Panics
/// It does not build.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(path) = std::env::var_os("HANSA_TEST_BINARY") {
            return path.into();
        }
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package", "hansa", "--bin", "hansa", "--message-format", "json"])
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .stderr(Stdio::inherit())
            .output()
            .expect("cargo runs");
        assert!(built.status.success(), "the program does not build");
        let messages = String::from_utf8_lossy(&built.stdout).into_owned();
        let executable = messages
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|message| message["target"]["name"] == "hansa")
            .find_map(|message| message["executable"].as_str().map(PathBuf::from));
        executable.expect("cargo names the program")
    })
}

/// A port that nobody listens on now, for TCP and UDP.
///
/// It is not one of those that the system gives to whoever dials. Otherwise a client that tries again and again
/// while the node is down is one day given the node's own port, reaches itself, and the node does not start again.
///
/// # Panics
/// There is none.
pub fn free_port() -> u16 {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    // Tests of one machine run in several processes: each begins elsewhere.
    let first = std::process::id().wrapping_mul(397);
    for _ in 0..PORTS.len() {
        let step = first.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + u16::try_from(step % PORTS.len() as u32).expect("fewer than all ports");
        let address = (Ipv4Addr::LOCALHOST, port);
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}

/// Below 32,768, from where on Linux chooses by itself.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// One `hansa serve` on fixed ports, so that it can be killed and started again.
#[derive(Debug)]
pub struct TestProcess {
    folder: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    port: u16,
    child: Option<tokio::process::Child>,
}

impl TestProcess {
    /// Starts a node of this role in this folder; returns when it answers.
    pub async fn start(folder: &Path, role: &str) -> Self {
        Self::start_logging(folder, role, "info").await
    }

    /// The same with a filter for its log.
    pub async fn start_logging(folder: &Path, role: &str, filter: &str) -> Self {
        let mut process = Self::new(folder, role, filter);
        process.boot().await;
        process
    }

    /// The same with a configuration file.
    pub async fn start_configured(folder: &Path, role: &str, config: &Path) -> Self {
        Self::start_with(folder, role, "info", config).await
    }

    /// The same with a filter for its log and a configuration file.
    pub async fn start_with(folder: &Path, role: &str, filter: &str, config: &Path) -> Self {
        let mut process = Self::new(folder, role, filter);
        process.arguments.push(format!("--config={}", config.display()));
        process.boot().await;
        process
    }

    fn new(folder: &Path, role: &str, filter: &str) -> Self {
        let port = free_port();
        let arguments = ["serve", "--role", role, "--log", filter]
            .map(str::to_owned)
            .into_iter()
            .chain([
                format!("--data-dir={}", folder.join("data").display()),
                format!("--listen=127.0.0.1:{port}"),
                format!("--federation-listen=127.0.0.1:{port}"),
                format!("--ready-file={}", folder.join("ready.json").display()),
            ])
            .collect();
        Self { folder: folder.to_owned(), arguments, environment: Vec::new(), port, child: None }
    }

    /// A node that is not started yet, with a configuration file and variables of its own.
    pub fn stopped_in(folder: &Path, role: &str, config: &Path, environment: Vec<(String, String)>) -> Self {
        let mut process = Self::new(folder, role, "info");
        process.arguments.push(format!("--config={}", config.display()));
        process.environment = environment;
        process
    }

    /// Starts it again.
    ///
    /// # Panics
    /// It runs already, or ends before it is ready.
    pub async fn boot(&mut self) {
        assert!(self.child.is_none(), "the process runs already");
        let ready = self.folder.join("ready.json");
        let _ = std::fs::remove_file(&ready);
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.join("log"))
            .expect("a file for the log");
        // The widest umask: what is private is so by the program's own doing.
        let mut child = tokio::process::Command::new("/bin/sh")
            .args(["-c", "umask 000; exec \"$0\" \"$@\""])
            .arg(binary())
            .args(&self.arguments)
            .envs(self.environment.clone())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("the program starts");
        eventually("the node writes its ready file", async || {
            if let Ok(Some(status)) = child.try_wait() {
                panic!("the node ended with {status}: {}", self.log());
            }
            ready.exists().then_some(())
        })
        .await;
        self.child = Some(child);
    }

    /// Ends it as a power cut would: SIGKILL by its id.
    ///
    /// # Panics
    /// It does not run.
    pub async fn kill(&mut self) {
        let mut child = self.child.take().expect("the process runs");
        child.kill().await.expect("our own child can be killed");
    }

    /// Starts it where it must not start, and gives what it said when it ended.
    ///
    /// # Panics
    /// It runs, or it starts.
    pub async fn refusal(&self) -> String {
        assert!(self.child.is_none(), "the process runs");
        let running = tokio::process::Command::new(binary())
            .args(&self.arguments)
            .envs(self.environment.clone())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(WAIT_MAX, running).await.expect("it ends by itself");
        let output = output.expect("the program starts");
        assert!(!output.status.success(), "it started and ended without a failure");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Where its files are.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// All it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Runs the program's command line against this node and gives what it printed.
    ///
    /// # Panics
    /// It fails.
    pub async fn run(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments).await;
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "hansa {}: {errors}", arguments.join(" "));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs the program's command line where it must fail, and gives what it said.
    ///
    /// # Panics
    /// It succeeds.
    pub async fn failed(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments).await;
        assert!(!output.status.success(), "hansa {} succeeded", arguments.join(" "));
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    async fn output(&self, arguments: &[&str]) -> std::process::Output {
        tokio::process::Command::new(binary())
            .args(arguments)
            .arg("--data-dir")
            .arg(self.data_dir())
            .envs(self.environment.clone())
            .stdin(Stdio::null())
            .output()
            .await
            .expect("the program starts")
    }

    /// HTTP as an operator with every scope.
    pub async fn api(&self) -> Api {
        let token = self.run(&["token", "mint", "--scope", "all", "--ttl", "24h"]).await;
        Api::new(format!("http://127.0.0.1:{}", self.port)).bearer(token.trim())
    }

    /// Where HTTP is served over TCP, and QUIC is taken over UDP.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Base URL of the node.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}
