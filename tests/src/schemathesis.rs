//! schemathesis: a client that makes requests up from an OpenAPI document, and holds the answers against it.
//!
//! The program is `$HANSA_TEST_SCHEMATHESIS`, or the one that `./scripts/test tools` puts into the target
//! folder. One that does not start fails the test: nothing is skipped.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;

/// A run ends far below this.
const RUN_WAIT_MAX: Duration = Duration::from_secs(600);

/// One run against one node.
#[derive(Debug)]
pub struct Schemathesis {
    folder: TempDir,
    config: String,
    arguments: Vec<String>,
    variables: Vec<(&'static str, String)>,
}

impl Schemathesis {
    /// A run against the node at this address, configured by this text.
    ///
    /// # Panics
    /// There is no room for a temporary folder.
    pub fn new(url: &str, config: &str) -> Self {
        Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
            config: format!("{config}\n[dictionaries]\n"),
            arguments: vec![format!("{url}/openapi.json"), format!("--url={url}")],
            variables: Vec::new(),
        }
    }

    /// The same with a variable that the configuration names; never shown.
    #[must_use]
    pub fn variable(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    /// The same with values to choose from.
    #[must_use]
    pub fn dictionary(mut self, name: &str, values: &[String]) -> Self {
        self.config.push_str(&format!("{name} = {{ values = {values:?} }}\n"));
        self
    }

    /// The same with one more argument.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Runs it; returns when it has ended.
    ///
    /// # Panics
    /// It has found something, or could not run.
    pub async fn finds_nothing(self) {
        let config = self.folder.path().join("schemathesis.toml");
        std::fs::write(&config, &self.config).expect("a file for the configuration");
        let running = tokio::process::Command::new(binary())
            .arg("--config-file")
            .arg(&config)
            .arg("run")
            .args(&self.arguments)
            .args(["--no-color", "--output-truncate=false"])
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .env("HOME", self.folder.path())
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let ended = tokio::time::timeout(RUN_WAIT_MAX, running).await.expect("it ends by itself");
        let output = ended.unwrap_or_else(|error| {
            panic!("{} does not start ({error}): ./scripts/test tools installs it", binary().display())
        });
        let said = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}\n{said}\n{errors}", output.status);
    }
}

/// The program.
fn binary() -> PathBuf {
    let installed = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/tools/bin/schemathesis"));
    std::env::var_os("HANSA_TEST_SCHEMATHESIS").map_or_else(|| installed.to_owned(), PathBuf::from)
}
