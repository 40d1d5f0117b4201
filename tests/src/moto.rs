//! Two third-party emulators of AWS as real processes: moto and ministack, and microburst before one of them.

use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::Api;
use crate::process::free_port;
use crate::tools::program;
use crate::waiting::eventually_within;

/// Python programs that load half a cloud: on a busy machine that takes its time.
const START_MAX: Duration = Duration::from_secs(120);

/// One server on a free loopback port; ended by its process id when it is dropped.
#[derive(Debug)]
pub struct AwsEmulator {
    folder: TempDir,
    port: u16,
    /// Held so that it ends with this value.
    _child: tokio::process::Child,
}

impl AwsEmulator {
    /// moto: strict about types, careless about statuses.
    pub async fn moto() -> Self {
        let port = free_port();
        let arguments = ["-H".into(), "127.0.0.1".into(), "-p".into(), port.to_string()];
        Self::start("aws/bin/moto_server", port, &arguments, &[]).await
    }

    /// ministack: statuses as AWS has them.
    pub async fn ministack() -> Self {
        let port = free_port();
        let gateway = port.to_string();
        let environment = [
            ("IOT_MTLS_ENABLED", "0"),
            ("BIND_HOST", "127.0.0.1"),
            ("GATEWAY_PORT", gateway.as_str()),
            ("SERVICES", "secretsmanager,sts"),
        ];
        Self::start("aws/bin/ministack", port, &[], &environment).await
    }

    /// microburst before another server: faults as AWS words them.
    pub async fn microburst(upstream: &str) -> Self {
        let port = free_port();
        let arguments =
            ["--upstream", upstream, "--host", "127.0.0.1", "--port", &port.to_string()].map(str::to_owned);
        Self::start("aws/bin/microburst", port, &arguments, &[]).await
    }

    async fn start(place: &str, port: u16, arguments: &[String], environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let log: PathBuf = folder.path().join("log");
        let file = File::create(&log).expect("a file for the log");
        let errors = file.try_clone().expect("the same file");
        let path = program(place);
        let child = tokio::process::Command::new(&path)
            .args(arguments)
            .envs(environment.iter().copied())
            .env("HOME", folder.path())
            .env_remove("HTTP_PROXY")
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .kill_on_drop(true)
            .spawn();
        let mut child = child.unwrap_or_else(|error| {
            panic!("{} does not start ({error}): ./scripts/test tools installs it", path.display())
        });
        let api = Api::new(format!("http://127.0.0.1:{port}"));
        eventually_within(START_MAX, "the emulator answers", async || {
            if let Ok(Some(status)) = child.try_wait() {
                panic!("{place} ended with {status}: {}", std::fs::read_to_string(&log).unwrap_or_default());
            }
            api.try_send(Method::GET, "/", None, &[]).await.ok().map(drop)
        })
        .await;
        Self { folder, port, _child: child }
    }

    /// Base URL.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What it wrote.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Calls an operation of Secrets Manager as the emulators take it: signed for show.
    ///
    /// # Panics
    /// It is refused.
    pub async fn call(&self, operation: &str, body: &Value) -> Value {
        let target = format!("secretsmanager.{operation}");
        let headers = [
            ("X-Amz-Target", target.as_str()),
            ("Content-Type", "application/x-amz-json-1.1"),
            (
                "Authorization",
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261122/us-east-1/secretsmanager/aws4_request, \
                 SignedHeaders=host, Signature=0",
            ),
        ];
        let bytes = body.to_string().into_bytes();
        let answer = Api::new(self.url()).send(Method::POST, "/", Some(bytes), &headers).await;
        assert!(answer.status < 300, "{operation}: {} {}", answer.status, answer.text);
        answer.body
    }

    /// Makes microburst answer calls to Secrets Manager with this error.
    ///
    /// # Panics
    /// It does not take the rule.
    pub async fn fail_with(&self, error: &Value) {
        let rules = json!([{"service": "secretsmanager", "probability": 1.0, "error": error}]);
        let bytes = rules.to_string().into_bytes();
        let json = [("Content-Type", "application/json")];
        let path = "/_microburst/rules";
        let answer = Api::new(self.url()).send(Method::PATCH, path, Some(bytes), &json).await;
        assert!(answer.status < 300, "{} {}", answer.status, answer.text);
    }
}
