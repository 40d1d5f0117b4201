//! A third party's issuer of tokens as a real process: `oauth2-mock-server`.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Method;
use serde_json::Value;
use tempfile::TempDir;

use crate::http::Api;
use crate::process::free_port;
use crate::tools::program;
use crate::waiting::eventually_within;

/// Client-credentials tokens ask for nothing else.
const GRANT: &str = "grant_type=client_credentials";

/// How often a token is asked for until the wanted key's turn has come: the server goes through its keys.
const TURNS_MAX: usize = 8;

/// One server on a free loopback port; ended by its process id when it is dropped.
#[derive(Debug)]
pub struct OauthServer {
    folder: TempDir,
    port: u16,
    child: Option<tokio::process::Child>,
}

impl OauthServer {
    /// Starts an issuer with these keys, each `ALGORITHM:KID`; returns when it answers.
    pub async fn start(keys: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut server = Self { folder, port: free_port(), child: None };
        server.boot(keys).await;
        server
    }

    /// Starts it again on the port that it had, with other keys.
    ///
    /// # Panics
    /// It runs already, or does not come up.
    pub async fn boot(&mut self, keys: &[&str]) {
        assert!(self.child.is_none(), "the issuer runs already");
        let log = self.folder.path().join("log");
        let file = File::create(&log).expect("a file for the log");
        let errors = file.try_clone().expect("the same file");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("judges/token_issuer.cjs");
        let package = std::path::absolute(program("node/node_modules/oauth2-mock-server"));
        let child = tokio::process::Command::new("node")
            .arg(script)
            .arg(package.expect("a path"))
            .arg(self.port.to_string())
            .args(keys)
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .kill_on_drop(true)
            .spawn();
        let mut child = child.unwrap_or_else(|error| {
            panic!("node does not start ({error}): ./scripts/test tools installs it")
        });
        let api = self.api();
        // An RSA key may take its time on a busy machine.
        eventually_within(4 * crate::waiting::WAIT_MAX, "the issuer answers", async || {
            if let Ok(Some(status)) = child.try_wait() {
                panic!(
                    "the issuer ended with {status}: {}",
                    std::fs::read_to_string(&log).unwrap_or_default()
                );
            }
            api.try_send(Method::GET, "/jwks", None, &[]).await.ok().filter(|answer| answer.status == 200)
        })
        .await;
        self.child = Some(child);
    }

    /// Ends it by its process id.
    ///
    /// # Panics
    /// It does not run.
    pub async fn stop(&mut self) {
        let mut child = self.child.take().expect("the issuer runs");
        child.kill().await.expect("our own child can be killed");
    }

    /// The issuer's name, which is its base URL.
    pub fn name(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its keys as it publishes them.
    pub async fn keys(&self) -> Value {
        self.api().get("/jwks").await.ok()
    }

    /// A token signed by a key of this algorithm; the claims lie over the server's own (`iss`, `iat`, `nbf`, `exp`),
    /// and null takes one away.
    ///
    /// # Panics
    /// It has no such key.
    pub async fn token(&self, algorithm: &str, claims: &Value) -> String {
        let form = reqwest::Url::parse_with_params("http://form/", [("claims", claims.to_string())]);
        let form = form.expect("a query").query().unwrap_or_default().to_owned();
        let form = format!("{GRANT}&{form}").into_bytes();
        let kind = [("Content-Type", "application/x-www-form-urlencoded")];
        for _ in 0..TURNS_MAX {
            let answer = self.api().send(Method::POST, "/token", Some(form.clone()), &kind).await.ok();
            let token = answer["access_token"].as_str().expect("a token").to_owned();
            let head = token.split('.').next().unwrap_or_default();
            let head = URL_SAFE_NO_PAD.decode(head).expect("base64");
            let head: Value = serde_json::from_slice(&head).expect("JSON");
            if head["alg"] == algorithm {
                return token;
            }
        }
        panic!("the issuer has no key for {algorithm}");
    }

    fn api(&self) -> Api {
        Api::new(self.name())
    }
}
