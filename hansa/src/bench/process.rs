//! A node in a process of its own.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::failed;
use crate::cli::failure::{Exit, Failure};

/// Time for a node to be ready, its index rebuilt.
const READY_WAIT_MAX: Duration = Duration::from_secs(300);

/// A running node; it is killed when dropped.
#[derive(Debug)]
pub(super) struct NodeProcess {
    child: Child,
    pub(super) data_dir: PathBuf,
    pub(super) ready: Ready,
    /// From the start of the process until it was ready.
    pub(super) took: Duration,
}

/// What the node says of itself when it is ready.
#[derive(Debug, Deserialize)]
pub(super) struct Ready {
    pub(super) url: String,
    pub(super) quic: Option<String>,
}

impl NodeProcess {
    /// Starts a node and waits until it is ready.
    pub(super) async fn start(data_dir: &Path, role: &str) -> Result<Self, Failure> {
        Self::start_with(data_dir, role, None).await
    }

    /// The same with a configuration file.
    pub(super) async fn start_with(
        data_dir: &Path,
        role: &str,
        config: Option<&Path>,
    ) -> Result<Self, Failure> {
        std::fs::create_dir_all(data_dir).map_err(|error| failed(&error))?;
        let ready_file = data_dir.with_extension("ready");
        // Absent is what is wanted.
        let _ = std::fs::remove_file(&ready_file);
        let program = std::env::current_exe().map_err(|error| failed(&error))?;
        let started = Instant::now();
        let child = Command::new(program)
            .args(["serve", "--listen", "127.0.0.1:0", "--federation-listen", "127.0.0.1:0", "--role", role])
            .arg("--data-dir")
            .arg(data_dir)
            .arg("--ready-file")
            .arg(&ready_file)
            .args(config.into_iter().flat_map(|path| [OsStr::new("--config"), path.as_os_str()]))
            .env("HANSA_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(&error))?;
        let ready = loop {
            if let Ok(text) = std::fs::read(&ready_file) {
                break serde_json::from_slice(&text).map_err(|error| failed(&error))?;
            }
            if started.elapsed() > READY_WAIT_MAX {
                return Err(Failure::new(Exit::Failed, "the node did not become ready"));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        };
        Ok(Self { child, data_dir: data_dir.to_owned(), ready, took: started.elapsed() })
    }

    /// Ends the process without a warning, as a power cut would.
    pub(super) async fn kill(mut self) -> Result<(), Failure> {
        self.child.kill().await.map_err(|error| failed(&error))
    }

    /// Processor time of the process so far.
    pub(super) fn processor_time(&self) -> Duration {
        processor_time(&self.child)
    }

    /// Memory of the process that is in RAM now, in bytes.
    pub(super) fn resident_bytes(&self) -> u64 {
        let status =
            self.child.id().and_then(|id| std::fs::read_to_string(format!("/proc/{id}/status")).ok());
        let line = status.as_deref().and_then(|text| text.lines().find(|line| line.starts_with("VmRSS:")));
        let kib = line.and_then(|line| line.split_ascii_whitespace().nth(1)).and_then(|kib| kib.parse().ok());
        kib.unwrap_or(0_u64) * 1024
    }
}

/// Ticks of a second in which Linux counts processor time for programs, on every machine.
const TICKS: u64 = 100;

/// Processor time of a child so far, all its threads together; other work on the machine is not in it.
pub(super) fn processor_time(child: &Child) -> Duration {
    let stat = child.id().and_then(|id| std::fs::read_to_string(format!("/proc/{id}/stat")).ok());
    // The program's name, in parentheses, may hold anything; ten fields behind the state follow the two.
    let fields = stat.as_deref().and_then(|stat| stat.rsplit_once(')')).map_or("", |(_, fields)| fields);
    let ticks =
        fields.split_ascii_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok());
    Duration::from_millis(ticks.sum::<u64>() * 1_000 / TICKS)
}
