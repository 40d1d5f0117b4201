//! The same sync with AWS Secrets Manager, as moto emulates it: its listing tells what has changed, so nothing
//! else is called.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::relay::Relay;
use super::{Bench, all, median, name, shown, sync, value, wrong};
use crate::bench::http::Connection;
use crate::bench::{failed, round};
use crate::cli::failure::{Exit, Failure};

/// A Python program that loads half a cloud.
const READY_WAIT_MAX: Duration = Duration::from_secs(120);
/// Clients that fill it: it does one thing at a time.
const FILLING: usize = 4;
/// Names of a listing's page, as the node asks for them.
const PAGE: u64 = 100;
/// Where the node keeps its login.
const LOGIN: &str = "infra/aws/login";
/// Signed for show: the emulator looks at the scope only.
const AUTHORIZATION: &str = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261122/us-east-1/secretsmanager/aws4_request, \
    SignedHeaders=host, Signature=0";

/// The emulator; it is killed when dropped.
struct Moto {
    child: Child,
    url: String,
}

pub(super) async fn run(
    bench: &Bench,
    program: Option<&Path>,
    folder: &Path,
    secrets: u64,
) -> Result<Vec<Value>, Failure> {
    let what = format!("sync of {secrets} unchanged secrets, AWS as moto has it");
    let Some(program) = program else {
        return Ok(vec![
            json!({"what": what, "left_out": "no --moto: the program moto_server of PyPI's moto"}),
        ]);
    };
    let moto = Moto::start(program, folder).await?;
    moto.fill(secrets).await?;
    let relay = Relay::open(moto.url.trim_start_matches("http://").to_owned()).await?;
    let login = json!({"data": {"access_key_id": "AKIDEXAMPLE", "secret_access_key": "of-no-use"}});
    bench.connect().await?.put(&format!("/v1/secrets/{LOGIN}"), &login).await?;
    // moto takes its time for a listing of thousands of names.
    let config =
        json!({"region": "us-east-1", "credentials_path": LOGIN, "endpoint": relay.url, "timeout": "30s"});
    let id = bench.new_backend("aws", "aws-secrets-manager", &config, "sync", "aws/**", "fleet/**").await?;
    let first = sync::wait(bench, &id, None, secrets).await?;
    let mut figures = vec![json!({
        "what": format!("first sync of {secrets} secrets, AWS as moto has it"),
        "seconds": round(first["last_sync_duration_ms"].as_f64().unwrap_or_default() / 1e3),
        "calls": relay.take(),
    })];

    let (mut bare, mut ours, mut calls) = (Vec::new(), Vec::new(), BTreeMap::new());
    for _ in 0..sync::ROUNDS {
        bare.push(by_hand(&relay, secrets).await?.as_secs_f64());
        relay.take();
        ours.push(sync::again(bench, &id, secrets).await?.as_secs_f64());
        for (operation, number) in relay.take() {
            let most: &mut u64 = calls.entry(operation).or_default();
            *most = number.max(*most);
        }
    }
    let (bare, ours) = (median(&mut bare), median(&mut ours));
    let values = ["getsecretvalue", "batchgetsecretvalue"].map(|operation| calls.get(operation)).into_iter();
    figures.push(json!({
        "what": what,
        "values_fetched": values.flatten().sum::<u64>(),
        "calls": calls,
        "seconds": round(ours),
        "same_calls_bare_seconds": round(bare),
        "beside_the_backend_seconds": round(ours - bare),
        "rounds": sync::ROUNDS,
    }));
    moto.kill().await?;
    Ok(figures)
}

impl Moto {
    async fn start(program: &Path, folder: &Path) -> Result<Self, Failure> {
        std::fs::create_dir_all(folder).map_err(|error| failed(&error))?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(|error| failed(&error))?;
        let port = listener.local_addr().map_err(|error| failed(&error))?.port();
        drop(listener);
        let log = File::create(folder.join("log")).map_err(|error| failed(&error))?;
        let mut child = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .env("HOME", folder)
            .env_remove("HTTP_PROXY")
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                let what = format!("{} does not start: {error}", shown(program));
                Failure::new(Exit::Failed, what).next("pip install 'moto[server]', or leave --moto out")
            })?;
        let url = format!("http://127.0.0.1:{port}");
        let started = Instant::now();
        while page(&url, None).await.is_err() {
            if let Ok(Some(status)) = child.try_wait() {
                return Err(wrong(format!("{} ended with {status}", shown(program))));
            }
            if started.elapsed() > READY_WAIT_MAX {
                return Err(wrong(format!("{} did not become ready", shown(program))));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(Self { child, url })
    }

    async fn fill(&self, secrets: u64) -> Result<(), Failure> {
        let count = usize::try_from(secrets).unwrap_or(usize::MAX);
        let mut writers = JoinSet::new();
        for writer in 0..FILLING {
            let url = self.url.clone();
            writers.spawn(async move {
                for number in (writer..count).step_by(FILLING) {
                    let name = format!("fleet/{}", name(number));
                    let body = json!({"Name": name, "SecretString": value(number).to_string()});
                    operation(&url, "CreateSecret", &body).await?;
                }
                Ok(())
            });
        }
        all(writers).await.map(drop)
    }

    async fn kill(mut self) -> Result<(), Failure> {
        self.child.kill().await.map_err(|error| failed(&error))
    }
}

/// All pages of the listing.
async fn by_hand(relay: &Relay, secrets: u64) -> Result<Duration, Failure> {
    let begun = Instant::now();
    let (mut token, mut listed) = (None, 0);
    loop {
        let page = page(&relay.url, token.as_deref()).await?;
        listed += page["SecretList"].as_array().map_or(0, Vec::len) as u64;
        match page["NextToken"].as_str() {
            Some(next) => token = Some(next.to_owned()),
            None => break,
        }
    }
    if listed == secrets {
        Ok(begun.elapsed())
    } else {
        Err(wrong(format!("the emulator lists {listed} secrets of {secrets}")))
    }
}

async fn page(url: &str, token: Option<&str>) -> Result<Value, Failure> {
    let mut body = json!({"MaxResults": PAGE, "Filters": [{"Key": "name", "Values": ["fleet/"]}]});
    if let Some(token) = token {
        body["NextToken"] = token.into();
    }
    operation(url, "ListSecrets", &body).await
}

/// One call over a connection of its own: the emulator closes each after its answer.
async fn operation(url: &str, operation: &str, body: &Value) -> Result<Value, Failure> {
    let mut connection = Connection::open_as(url, AUTHORIZATION).await?;
    let target = format!("secretsmanager.{operation}");
    let answer = connection.post_with("/", &[("x-amz-target", &target)], body).await?;
    serde_json::from_slice(&answer).map_err(|error| failed(&error))
}
