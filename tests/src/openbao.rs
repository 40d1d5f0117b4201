//! A real OpenBao server, in its development mode: everything in memory, unsealed, a known root token.
//!
//! The program is `$HANSA_TEST_BAO`, or the one that `./scripts/test tools` puts into the target folder. A
//! server that does not come up fails the test: nothing is skipped.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::{Answer, Api};
use crate::process::free_port;
use crate::waiting::eventually;

const ROOT_TOKEN: &str = "root";

/// One server on a free loopback port; ended by its process id when it is dropped.
#[derive(Debug)]
pub struct OpenBao {
    folder: TempDir,
    port: u16,
    child: Option<tokio::process::Child>,
}

impl OpenBao {
    /// Starts a server; returns when it answers.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut server = Self { folder, port: free_port(), child: None };
        server.boot().await;
        server
    }

    /// Starts it again on the port that it had. It has forgotten everything.
    ///
    /// # Panics
    /// It runs already, or does not come up.
    pub async fn boot(&mut self) {
        assert!(self.child.is_none(), "the server runs already");
        let log = File::create(self.log_path()).expect("a file for the log");
        let child = tokio::process::Command::new(binary())
            .args(["server", "-dev", "-dev-no-store-token"])
            .arg(format!("-dev-root-token-id={ROOT_TOKEN}"))
            .arg(format!("-dev-listen-address=127.0.0.1:{}", self.port))
            .env("HOME", self.folder.path())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let mut child = child.unwrap_or_else(|error| {
            panic!("{} does not start ({error}): ./scripts/test tools installs it", binary().display())
        });
        eventually("OpenBao answers", async || {
            if let Ok(Some(status)) = child.try_wait() {
                let log = std::fs::read_to_string(self.log_path()).unwrap_or_default();
                panic!("OpenBao ended with {status}: {log}");
            }
            let health = self.http().try_send(Method::GET, "/v1/sys/health", None, &[]).await.ok()?;
            // In development mode KV version 2 is mounted last.
            (health.status == 200
                && self.call(Method::GET, "sys/mounts", None).await.text.contains("secret/"))
            .then_some(())
        })
        .await;
        self.child = Some(child);
    }

    /// Ends it by its process id.
    ///
    /// # Panics
    /// It does not run.
    pub async fn stop(&mut self) {
        let mut child = self.child.take().expect("the server runs");
        child.kill().await.expect("our own child can be killed");
    }

    /// Base URL of the server.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The token that may do everything.
    pub const fn root_token(&self) -> &'static str {
        ROOT_TOKEN
    }

    /// Calls the server as root; `path` is what follows `/v1/`.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let bytes = body.map(|body| body.to_string().into_bytes());
        let path = format!("/v1/{path}");
        self.http().send(method, &path, bytes, &[("X-Vault-Token", ROOT_TOKEN)]).await
    }

    /// Calls the server as root and expects that it does what is asked; gives the body.
    ///
    /// # Panics
    /// It refuses.
    pub async fn write(&self, path: &str, body: &Value) -> Value {
        let answer = self.call(Method::POST, path, Some(body)).await;
        assert!(answer.status < 300, "{path}: {} {}", answer.status, answer.text);
        answer.body
    }

    /// Mounts a transit engine with one key.
    pub async fn with_transit(&self, mount: &str, key: &str) {
        self.write(&format!("sys/mounts/{mount}"), &json!({"type": "transit"})).await;
        self.write(&format!("{mount}/keys/{key}"), &json!({})).await;
    }

    /// A policy that allows `update` on these paths and nothing else.
    pub async fn with_policy(&self, name: &str, paths: &[&str]) {
        let rules: String =
            paths.iter().map(|path| format!("path \"{path}\" {{ capabilities = [\"update\"] }}\n")).collect();
        self.write(&format!("sys/policies/acl/{name}"), &json!({"policy": rules})).await;
    }

    /// A token with these policies.
    ///
    /// # Panics
    /// The server gives none.
    pub async fn token(&self, policies: &[&str]) -> String {
        let answer = self.write("auth/token/create", &json!({"policies": policies})).await;
        answer["auth"]["client_token"].as_str().expect("a token").to_owned()
    }

    /// An AppRole with these policies, at `auth/approle`: its role id and a secret id.
    ///
    /// # Panics
    /// The server gives none.
    pub async fn approle(&self, name: &str, policies: &[&str]) -> (String, String) {
        self.write("sys/auth/approle", &json!({"type": "approle"})).await;
        let role = format!("auth/approle/role/{name}");
        self.write(&role, &json!({"token_policies": policies})).await;
        let role_id = self.call(Method::GET, &format!("{role}/role-id"), None).await.body;
        let secret_id = self.write(&format!("{role}/secret-id"), &json!({})).await;
        let text = |value: &Value| value.as_str().expect("an id").to_owned();
        (text(&role_id["data"]["role_id"]), text(&secret_id["data"]["secret_id"]))
    }

    /// Seals the server: it is up and gives nothing.
    pub async fn seal(&self) {
        self.write("sys/seal", &json!({})).await;
    }

    fn http(&self) -> Api {
        Api::new(self.url())
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

/// The program.
fn binary() -> PathBuf {
    let installed = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/tools/bin/bao"));
    std::env::var_os("HANSA_TEST_BAO").map_or_else(|| installed.to_owned(), PathBuf::from)
}
