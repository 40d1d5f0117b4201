//! A real OpenBao server, in its development mode: everything in memory, unsealed, a known root token.
//! With a configuration instead it comes up as a new server does: neither initialised nor unsealed.
//!
//! The program is `$HANSA_TEST_BAO`, or the one that `./scripts/test tools` puts into the target folder. A
//! server that does not come up fails the test: nothing is skipped.

use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::{Answer, Api};
use crate::process::free_port;
use crate::tools::program;
use crate::waiting::eventually;

const ROOT_TOKEN: &str = "root";

/// One server on a free loopback port; ended by its process id when it is dropped.
#[derive(Debug)]
pub struct OpenBao {
    folder: TempDir,
    port: u16,
    mode: Mode,
    child: Option<tokio::process::Child>,
}

/// How it is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Dev,
    DevTls,
    Configured,
}

impl OpenBao {
    /// Starts a server; returns when it answers.
    pub async fn start() -> Self {
        Self::start_in(Mode::Dev).await
    }

    /// The same with TLS, by a certificate authority of its own: [`Self::authority`].
    pub async fn start_with_tls() -> Self {
        Self::start_in(Mode::DevTls).await
    }

    /// A new server, not initialised.
    pub async fn start_new() -> Self {
        Self::start_in(Mode::Configured).await
    }

    async fn start_in(mode: Mode) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = free_port();
        // It listens on the next one too.
        let _cluster = free_port();
        let mut server = Self { folder, port, mode, child: None };
        server.boot().await;
        server
    }

    /// The authority of a server with TLS, PEM.
    ///
    /// # Panics
    /// It has none.
    pub fn authority(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("vault-ca.pem")).expect("an authority")
    }

    fn arguments(&self) -> Vec<String> {
        let address = format!("127.0.0.1:{}", self.port);
        if self.mode == Mode::Configured {
            let path = self.folder.path().join("server.hcl");
            let config = format!(
                "storage \"inmem\" {{}}\nlistener \"tcp\" {{ address = \"{address}\" tls_disable = true }}\n"
            );
            std::fs::write(&path, config).expect("a configuration");
            return vec!["server".to_owned(), format!("-config={}", path.display())];
        }
        let mut arguments = vec![
            "server".to_owned(),
            "-dev".to_owned(),
            "-dev-no-store-token".to_owned(),
            format!("-dev-root-token-id={ROOT_TOKEN}"),
            format!("-dev-listen-address={address}"),
        ];
        if self.mode == Mode::DevTls {
            arguments.push("-dev-tls".to_owned());
            arguments.push(format!("-dev-tls-cert-dir={}", self.folder.path().display()));
        }
        arguments
    }

    /// Starts it again on the port that it had. It has forgotten everything.
    ///
    /// # Panics
    /// It runs already, or does not come up.
    pub async fn boot(&mut self) {
        assert!(self.child.is_none(), "the server runs already");
        let log = File::create(self.log_path()).expect("a file for the log");
        let child = tokio::process::Command::new(binary())
            .args(self.arguments())
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
            if self.mode == Mode::DevTls {
                // No client of ours trusts it yet: that it listens, after it has written its certificate, is enough.
                let listens = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_ok();
                return listens.then_some(());
            }
            let health = self.http().try_send(Method::GET, "/v1/sys/health", None, &[]).await.ok()?;
            if self.mode == Mode::Configured {
                return (health.status == 501).then_some(());
            }
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
        let scheme = if self.mode == Mode::DevTls { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port)
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
    std::env::var_os("HANSA_TEST_BAO").map_or_else(|| program("bin/bao"), PathBuf::from)
}
