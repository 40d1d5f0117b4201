//! The seam to whatever carries out commands, policies and leases at a site: connectors that the site's owner
//! declares. What none of them serves is refused; a coordinator cannot widen the list.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use hansa_model::id::{CommandId, PolicyId};
use hansa_model::report::HostResult;
use hansa_model::{HostId, Secret, Timestamp};
use serde_json::{Value, json};

/// A run of a connector on its way. Dropping it stops the run and everything that it started.
pub type CarryingOut<'a> = Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

/// The connectors of a node.
pub trait Connectors: Send + Sync + fmt::Debug {
    /// Which connector serves a kind, such as `command:reboot`; none refuses it.
    fn serves(&self, kind: &str) -> Option<Service>;

    /// Lets the connector that serves the work's kind carry it out. An error of whatever sort is an outcome.
    fn carry_out(&self, work: Work) -> CarryingOut<'_>;

    /// All that are declared, in their order.
    fn declared(&self) -> Vec<ConnectorView>;
}

/// How a kind is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// The connector's name.
    pub name: String,
    /// One run for each host, instead of one for all.
    pub per_host: bool,
}

/// A declared connector, for people. Never a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectorView {
    /// Its name.
    pub name: String,
    /// What it serves, such as `command:reboot` or `policy:*`.
    pub kinds: Vec<String>,
    /// `program`, `webhook` or `echo`.
    pub way: &'static str,
    /// See [`Service::per_host`].
    pub per_host: bool,
    /// Time for one run.
    pub wait_max: Duration,
}

/// A host that work is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkHost {
    /// Its id.
    pub host_id: HostId,
    /// Its name.
    pub fqdn: String,
    /// Its IPv4 address, if the inventory has one.
    pub ipv4: Option<String>,
    /// Its IPv6 address, if the inventory has one.
    pub ipv6: Option<String>,
}

/// One run.
#[derive(Debug, Clone)]
pub struct Work {
    /// See [`Task`].
    pub task: Task,
    /// The hosts of this run: one where the connector wants one run a host. Empty for a lease.
    pub hosts: Vec<WorkHost>,
}

/// What is to be done.
#[derive(Debug, Clone)]
pub enum Task {
    /// A command. It is never given twice.
    Command {
        /// The coordinator's id of it.
        id: CommandId,
        /// What follows `command:` in the kind.
        command_type: String,
        /// A JSON object as text.
        parameters: String,
    },
    /// A policy, to be brought into force or taken back. It may be given again: after an error or a crash.
    Policy {
        /// The coordinator's id of it.
        id: PolicyId,
        /// What follows `policy:` in the kind.
        policy_type: String,
        /// For people.
        name: String,
        /// The version.
        version: u32,
        /// A JSON object as text.
        definition: String,
        /// Take it back.
        withdraw: bool,
    },
    /// A credential, to be handed to its host. It may be given again: renewed, after an error or a crash.
    GiveLease {
        /// Which.
        lease: WorkLease,
        /// The credential. For the connector alone.
        value: Secret<String>,
    },
    /// A credential, to be taken away from its host. It may be asked again.
    TakeLease(WorkLease),
}

/// The lease that work is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkLease {
    /// What follows `lease:` in the kind: `database`, `ssh` or `token`; `unrequested` for one that nobody at
    /// this site asked for.
    pub kind: String,
    /// The site's key of its request.
    pub correlation_key: String,
    /// The host that it is for.
    pub host_id: String,
    /// What was asked for.
    pub secret_name: String,
    /// A JSON object as text, such as a user name.
    pub metadata: Option<String>,
    /// The end of the credential.
    pub expires_at: Option<Timestamp>,
}

/// What a run ended with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Whether the whole succeeded.
    pub success: bool,
    /// For people.
    pub detail: String,
    /// By host id, where the connector says it for each; hosts left out share the whole's success.
    pub results: BTreeMap<String, HostResult>,
}

impl Outcome {
    /// A failure with a reason.
    pub fn failed(detail: impl Into<String>) -> Self {
        Self { success: false, detail: detail.into(), results: BTreeMap::new() }
    }

    /// A success without more to say.
    pub fn succeeded(detail: impl Into<String>) -> Self {
        Self { success: true, detail: detail.into(), results: BTreeMap::new() }
    }
}

impl Work {
    /// What chooses the connector.
    pub fn kind(&self) -> String {
        match &self.task {
            Task::Command { command_type, .. } => format!("command:{command_type}"),
            Task::Policy { policy_type, .. } => format!("policy:{policy_type}"),
            Task::GiveLease { lease, .. } | Task::TakeLease(lease) => format!("lease:{}", lease.kind),
        }
    }

    /// What a program reads and a webhook is posted: one JSON object. It may hold a credential.
    pub fn input(&self) -> Secret<Vec<u8>> {
        let mut input = json!({ "kind": self.kind() });
        match &self.task {
            Task::Command { id, command_type, parameters } => {
                input["action"] = json!("run");
                input["command"] =
                    json!({ "id": id, "type": command_type, "parameters": object(parameters) });
            }
            Task::Policy { id, policy_type, name, version, definition, withdraw } => {
                input["action"] = json!(if *withdraw { "withdraw" } else { "apply" });
                input["policy"] = json!({
                    "id": id, "type": policy_type, "name": name, "version": version,
                    "definition": object(definition),
                });
            }
            Task::GiveLease { lease, value } => {
                input["action"] = json!("give");
                input["lease"] = lease_json(lease);
                input["lease"]["value"] = json!(value.expose());
            }
            Task::TakeLease(lease) => {
                input["action"] = json!("take_away");
                input["lease"] = lease_json(lease);
            }
        }
        if matches!(self.task, Task::Command { .. } | Task::Policy { .. }) {
            let host = |host: &WorkHost| {
                json!({
                    "host_id": host.host_id, "fqdn": host.fqdn, "ipv4": host.ipv4, "ipv6": host.ipv6,
                })
            };
            input["hosts"] = self.hosts.iter().map(host).collect();
        }
        Secret::new(input.to_string().into_bytes())
    }
}

fn lease_json(lease: &WorkLease) -> Value {
    json!({
        "correlation_key": lease.correlation_key,
        "host_id": lease.host_id,
        "secret_name": lease.secret_name,
        "metadata": lease.metadata.as_deref().map(object),
        "expires_at": lease.expires_at,
    })
}

/// Text that should be a JSON object.
pub(crate) fn object(text: &str) -> Value {
    serde_json::from_str(text).ok().filter(Value::is_object).unwrap_or_else(|| json!({}))
}

/// Whether a pattern such as `command:reboot` or `command:*` covers a kind.
pub fn covers(pattern: &str, kind: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => kind.starts_with(prefix),
        None => pattern == kind,
    }
}

/// Serves nothing: what a node without declared connectors has.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoConnectors;

impl Connectors for NoConnectors {
    fn serves(&self, _kind: &str) -> Option<Service> {
        None
    }

    fn carry_out(&self, _work: Work) -> CarryingOut<'_> {
        Box::pin(std::future::ready(Outcome::failed("no connector is declared")))
    }

    fn declared(&self) -> Vec<ConnectorView> {
        Vec::new()
    }
}

/// The built-in connector for trials: it touches nothing and says what it was given.
///
/// A command's parameters may ask for more: `{"sleep_ms": n}` takes that long, `{"fail": true}` fails at all
/// hosts, `{"fail_hosts": [id]}` at these. A policy's definition takes `fail` and `sleep_ms` too.
#[derive(Debug, Clone, Copy, Default)]
pub struct Echo;

impl Echo {
    /// What it serves.
    pub const KINDS: [&'static str; 3] = ["command:echo", "policy:echo", "lease:*"];
    /// Time for one run.
    pub const WAIT_MAX: Duration = Duration::from_secs(60);

    /// One run.
    pub async fn run(work: Work) -> Outcome {
        let wishes = match &work.task {
            Task::Command { parameters, .. } => object(parameters),
            Task::Policy { definition, .. } => object(definition),
            Task::GiveLease { .. } | Task::TakeLease(_) => json!({}),
        };
        if let Some(millis) = wishes["sleep_ms"].as_u64() {
            tokio::time::sleep(Duration::from_millis(millis).min(Self::WAIT_MAX)).await;
        }
        let fails = |host: &str| {
            wishes["fail"] == true
                || wishes["fail_hosts"].as_array().is_some_and(|hosts| hosts.iter().any(|id| id == host))
        };
        let said = match &work.task {
            Task::Command { parameters, .. } => parameters.clone(),
            Task::Policy { .. } | Task::GiveLease { .. } | Task::TakeLease(_) => work.kind(),
        };
        let results: BTreeMap<String, HostResult> = work
            .hosts
            .iter()
            .map(|host| {
                let id = host.host_id.to_string();
                let success = !fails(&id);
                (id, HostResult { success, detail: said.clone() })
            })
            .collect();
        let success = wishes["fail"] != true && results.values().all(|result| result.success);
        Outcome { success, detail: said, results }
    }
}

impl Connectors for Echo {
    fn serves(&self, kind: &str) -> Option<Service> {
        let serves = Self::KINDS.iter().any(|pattern| covers(pattern, kind));
        serves.then(|| Service { name: "echo".to_owned(), per_host: false })
    }

    fn carry_out(&self, work: Work) -> CarryingOut<'_> {
        Box::pin(Self::run(work))
    }

    fn declared(&self) -> Vec<ConnectorView> {
        vec![ConnectorView {
            name: "echo".to_owned(),
            kinds: Self::KINDS.map(str::to_owned).to_vec(),
            way: "echo",
            per_host: false,
            wait_max: Self::WAIT_MAX,
        }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_covers_one_kind_or_all_that_begin_alike() {
        assert!(covers("command:reboot", "command:reboot") && covers("command:*", "command:reboot"));
        assert!(covers("*", "lease:ssh"));
        for kind in ["command:reboot2", "command:", "policy:reboot"] {
            assert!(!covers("command:reboot", kind), "{kind}");
        }
    }

    #[test]
    fn input_names_kind_action_and_hosts() {
        let task = Task::Command {
            id: CommandId(uuid::Uuid::nil()),
            command_type: "reboot".to_owned(),
            parameters: "not json".to_owned(),
        };
        let host = WorkHost {
            host_id: HostId(uuid::Uuid::nil()),
            fqdn: "a.example.com".to_owned(),
            ipv4: None,
            ipv6: None,
        };

        let input = Work { task, hosts: vec![host] }.input();

        let input: Value = serde_json::from_slice(input.expose()).unwrap();
        assert_eq!((&input["kind"], &input["action"]), (&json!("command:reboot"), &json!("run")));
        assert_eq!(input["command"]["parameters"], json!({}));
        assert_eq!(input["hosts"][0]["fqdn"], "a.example.com");
    }
}
