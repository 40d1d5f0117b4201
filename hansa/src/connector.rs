//! The connectors that a site's owner declared: programs with an argument vector, webhooks, the built-in echo.
//!
//! A program gets one JSON object on standard input and answers with one on standard output. No shell, no
//! templating, hardly an environment: what a coordinator says never becomes an argument. It runs in a process
//! group of its own, which is killed when its time is over or the command is cancelled.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use hansa_actors::{CarryingOut, ConnectorView, Connectors, Echo, Outcome, Service, Work, covers};
use hansa_model::Secret;
use hansa_model::limits::connector as limits;
use hansa_model::report::HostResult;
use hansa_transport::http::{PeerClient, PeerClientConfig, PeerHttp as _, PeerRequest};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::config::{Connector, Way};

/// All that a program sees of the environment: where programs are found, and a language that every tool knows.
const ENVIRONMENT: [(&str, &str); 2] =
    [("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("LANG", "C.UTF-8")];
/// How long output is waited for once the program has ended: a process that it left behind may hold the pipe.
const OUTPUT_GRACE: Duration = Duration::from_millis(500);

/// What a node's configuration declares.
#[derive(Debug, Default)]
pub struct Declared {
    connectors: Vec<(Connector, Option<PeerClient>)>,
}

impl Declared {
    /// Makes them ready; nothing is run.
    ///
    /// # Errors
    /// No HTTP client can be made, with the reason.
    pub fn new(connectors: Vec<Connector>) -> Result<Self, String> {
        let ready = |connector: Connector| {
            let client = match &connector.way {
                Way::Webhook { .. } => {
                    let config = PeerClientConfig {
                        wait_max: connector.wait_max,
                        body_bytes_max: limits::OUTPUT_BYTES_MAX,
                        ..PeerClientConfig::default()
                    };
                    Some(PeerClient::new(&config).map_err(|error| error.to_string())?)
                }
                Way::Program { .. } | Way::Echo => None,
            };
            Ok((connector, client))
        };
        let connectors = connectors.into_iter().map(ready).collect::<Result<_, String>>()?;
        Ok(Self { connectors })
    }

    fn serving(&self, kind: &str) -> Option<&(Connector, Option<PeerClient>)> {
        let serves = |connector: &Connector| connector.kinds.iter().any(|pattern| covers(pattern, kind));
        self.connectors.iter().find(|(connector, _)| serves(connector))
    }
}

impl Connectors for Declared {
    fn serves(&self, kind: &str) -> Option<Service> {
        let (connector, _) = self.serving(kind)?;
        Some(Service { name: connector.name.clone(), per_host: connector.per_host })
    }

    fn carry_out(&self, work: Work) -> CarryingOut<'_> {
        let Some((connector, client)) = self.serving(&work.kind()) else {
            return Box::pin(std::future::ready(Outcome::failed("no connector is declared for this kind")));
        };
        match (&connector.way, client) {
            (Way::Program { argv, user }, _) => Box::pin(run(argv, *user, connector.wait_max, work.input())),
            (Way::Webhook { url, bearer_file }, Some(client)) => {
                Box::pin(post(client, url, bearer_file.as_deref(), work.input()))
            }
            (Way::Echo, _) => Box::pin(Echo::run(work)),
            (Way::Webhook { .. }, None) => {
                Box::pin(std::future::ready(Outcome::failed("the webhook has no HTTP client")))
            }
        }
    }

    fn declared(&self) -> Vec<ConnectorView> {
        let view = |(connector, _): &(Connector, Option<PeerClient>)| ConnectorView {
            name: connector.name.clone(),
            kinds: connector.kinds.clone(),
            way: connector.way.as_str(),
            per_host: connector.per_host,
            wait_max: connector.wait_max,
        };
        self.connectors.iter().map(view).collect()
    }
}

/// Runs a program over one input. Dropped or out of time, it takes its whole process group along.
async fn run(
    argv: &[String],
    user: Option<(u32, u32)>,
    wait_max: Duration,
    input: Secret<Vec<u8>>,
) -> Outcome {
    let Some((program, arguments)) = argv.split_first() else { return Outcome::failed("no program") };
    let mut command = std::process::Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(ENVIRONMENT)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    if let Some((uid, gid)) = user {
        // With a user set, root's supplementary groups are dropped too.
        command.uid(uid).gid(gid);
    }
    let mut child = match Command::from(command).kill_on_drop(true).spawn() {
        Ok(child) => child,
        Err(error) => return Outcome::failed(format!("{program} does not start: {error}")),
    };
    let mut group = Group::of(&child);
    match timeout(wait_max, converse(&mut child, input)).await {
        Ok(Said { overflow: true, .. }) => {
            Outcome::failed(format!("the program said more than {} bytes", limits::OUTPUT_BYTES_MAX))
        }
        Ok(said) => {
            group.spare();
            said.outcome()
        }
        Err(_) => Outcome::failed(format!("took longer than {} s and was stopped", wait_max.as_secs())),
    }
}

/// The process group of a child; killed when dropped, unless it is spared.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| Pid::from_raw(id.cast_signed())))
    }

    fn spare(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // A group that has ended already needs no signal.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// What a program left.
struct Said {
    status: std::io::Result<ExitStatus>,
    output: Vec<u8>,
    errors: Vec<u8>,
    overflow: bool,
}

async fn converse(child: &mut Child, input: Secret<Vec<u8>>) -> Said {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (output, errors) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let ended = Notify::new();
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A program need not read its input.
            let _ = stdin.write_all(input.expose()).await;
        }
    };
    let pipes = async {
        let (_, within, _) = tokio::join!(
            feed,
            collect(stdout, &output, limits::OUTPUT_BYTES_MAX),
            collect(stderr, &errors, limits::ERROR_BYTES_MAX),
        );
        within
    };
    let overflow = async {
        tokio::select! {
            biased;
            within = pipes => !within,
            () = async { ended.notified().await; sleep(OUTPUT_GRACE).await } => false,
        }
    };
    let waited = async {
        let status = child.wait().await;
        ended.notify_one();
        status
    };
    let (status, overflow) = tokio::join!(waited, overflow);
    let taken = |buffer: Mutex<Vec<u8>>| buffer.into_inner().unwrap_or_default();
    Said { status, output: taken(output), errors: taken(errors), overflow }
}

/// Reads a pipe to its end and keeps at most `bytes_max`; whether that was all.
async fn collect(pipe: Option<impl AsyncRead + Unpin>, into: &Mutex<Vec<u8>>, bytes_max: usize) -> bool {
    let Some(mut pipe) = pipe else { return true };
    let mut chunk = vec![0; 16 * 1024];
    let mut within = true;
    while let Ok(read) = pipe.read(&mut chunk).await {
        if read == 0 {
            break;
        }
        if let Ok(mut kept) = into.lock() {
            let room = bytes_max.saturating_sub(kept.len());
            within = within && read <= room;
            kept.extend_from_slice(&chunk[..read.min(room)]);
        }
    }
    within
}

impl Said {
    fn outcome(self) -> Outcome {
        let status = match self.status {
            Ok(status) => status,
            Err(error) => return Outcome::failed(format!("the program's end was not seen: {error}")),
        };
        let mut outcome = read(&self.output, "the program's output");
        if !status.success() {
            outcome.success = false;
            let errors = String::from_utf8_lossy(&self.errors).trim().to_owned();
            let said = [outcome.detail.as_str(), errors.as_str()].into_iter().find(|text| !text.is_empty());
            outcome.detail = said.map_or_else(|| status.to_string(), |text| format!("{status}: {text}"));
        }
        outcome
    }
}

/// What a connector says, if anything.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    success: Option<bool>,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    results: BTreeMap<String, HostResult>,
}

/// Reads a connector's answer. Saying nothing is a success; saying something else than JSON is none.
fn read(bytes: &[u8], what: &str) -> Outcome {
    if bytes.trim_ascii().is_empty() {
        return Outcome::succeeded("");
    }
    match serde_json::from_slice::<Answer>(bytes) {
        Ok(answer) => {
            let success =
                answer.success.unwrap_or_else(|| answer.results.values().all(|result| result.success));
            Outcome { success, detail: answer.detail, results: answer.results }
        }
        Err(error) => Outcome::failed(format!("{what} is not the JSON that is asked for: {error}")),
    }
}

async fn post(client: &PeerClient, url: &str, bearer_file: Option<&Path>, input: Secret<Vec<u8>>) -> Outcome {
    let mut request =
        PeerRequest::post(url, input.expose().clone()).header("content-type", "application/json");
    if let Some(path) = bearer_file {
        // Read for each call, so that a new one counts at once.
        match bearer(path).await {
            Ok(bearer) => request = request.bearer(bearer),
            Err(reason) => return Outcome::failed(reason),
        }
    }
    match client.call(request).await {
        Ok(answer) if answer.is_success() => read(&answer.body, "the webhook's answer"),
        Ok(answer) => Outcome::failed(format!("the webhook answered HTTP {}", answer.status)),
        Err(error) => Outcome::failed(format!("the webhook cannot be asked: {error}")),
    }
}

async fn bearer(path: &Path) -> Result<Secret<String>, String> {
    let failed = |reason: &dyn std::fmt::Display| format!("{}: {reason}", path.display());
    let text = tokio::fs::read_to_string(path).await.map_err(|error| failed(&error))?;
    let text = text.trim();
    if text.is_empty() || text.len() > limits::BEARER_BYTES_MAX {
        return Err(failed(&"is not a bearer"));
    }
    Ok(Secret::new(text.to_owned()))
}

/// A user's ids from the system's list: a name, or a number.
pub(crate) fn user_ids(user: &str) -> Result<(u32, u32), String> {
    let list = std::fs::read_to_string("/etc/passwd").map_err(|error| format!("/etc/passwd: {error}"))?;
    let found = list.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        (name == user || uid == user).then(|| Some((uid.parse().ok()?, gid.parse().ok()?)))?
    });
    found.ok_or_else(|| format!("there is no user {user} on this machine"))
}

/// Whether this path can name a program without a search.
pub(crate) fn is_program(path: &str) -> bool {
    PathBuf::from(path).is_absolute()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_a_success_and_noise_is_none() {
        assert!(read(b" \n", "x").success);
        assert!(!read(b"done", "x").success);
        let mixed = read(br#"{"results":{"a":{"success":true},"b":{"success":false,"detail":"no"}}}"#, "x");
        assert!(!mixed.success && mixed.results["b"].detail == "no");
        assert!(read(br#"{"success":true,"detail":"ok","more":1}"#, "x").success);
    }

    #[test]
    fn root_is_found_by_name_and_number() {
        assert_eq!(user_ids("root"), Ok((0, 0)));
        assert_eq!(user_ids("0"), Ok((0, 0)));
        assert!(user_ids("no-such-user-here").is_err());
    }
}
