//! What the sites' connectors do: the world counts it, outside the nodes, so that no crash forgets it.
//!
//! What a command gives at a host follows from its parameters and both ids, so a repeat would give the same.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hansa_actors::{CarryingOut, ConnectorView, Connectors, Outcome, Service, Task, Work, WorkLease};
use hansa_model::HostId;
use hansa_model::id::{CommandId, PolicyId};
use hansa_model::report::HostResult;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::books::Books;
use crate::world::HostEnv;

/// Commands that run once for all hosts.
pub(super) const WHOLE: &str = "job";
/// Commands that run once for each host.
pub(super) const EACH: &str = "task";
/// Commands that no site serves.
pub(super) const UNSERVED: &str = "forbidden";

/// How a command shall go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Going {
    Well,
    Mixed,
    Badly,
}

/// The parameters of a command, as their canonical text.
pub(super) fn parameters(takes: Duration, going: Going) -> String {
    json!({ "going": format!("{going:?}"), "millis": u64::try_from(takes.as_millis()).unwrap_or(0) })
        .to_string()
}

/// The connectors of one site.
pub(super) struct SiteConnectors {
    env: HostEnv,
    books: Books,
}

impl SiteConnectors {
    pub(super) const fn new(env: HostEnv, books: Books) -> Self {
        Self { env, books }
    }

    async fn command(&self, id: CommandId, parameters: &str, hosts: &[HostId]) -> Outcome {
        let wishes: Value = serde_json::from_str(parameters).unwrap_or_default();
        self.env.observer.event(&format!("runs command {id} at {} hosts", hosts.len()));
        let begun = self.books.open().site(self.env.host).runs.begin(id, hosts, self.env.clock.now());
        if let Err(broken) = begun {
            self.env.observer.violation(&broken);
        }
        sleep(Duration::from_millis(wishes["millis"].as_u64().unwrap_or(0))).await;
        let given: BTreeMap<HostId, bool> =
            hosts.iter().map(|host| (*host, succeeds(&wishes, id, *host))).collect();
        self.books.open().site(self.env.host).runs.end(id, &given, self.env.clock.now());
        let result = |(host, success): (&HostId, &bool)| {
            (host.to_string(), HostResult { success: *success, detail: format!("{id} at {host}") })
        };
        Outcome {
            success: given.values().all(|success| *success),
            detail: "done".to_owned(),
            results: given.iter().map(result).collect(),
        }
    }
}

impl SiteConnectors {
    async fn policy(&self, id: PolicyId, wanted: Option<(u32, String)>) -> Outcome {
        let version = wanted.as_ref().map(|(version, _)| *version);
        self.env.observer.event(&format!("brings policy {id} to {version:?}"));
        if !self.takes_time().await {
            return Outcome::failed("no luck");
        }
        let mut books = self.books.open();
        let in_force = &mut books.site(self.env.host).in_force;
        match wanted {
            Some(wanted) => drop(in_force.insert(id, wanted)),
            None => drop(in_force.remove(&id)),
        }
        Outcome::succeeded("done")
    }

    async fn give(&self, lease: &WorkLease) -> Outcome {
        self.env.observer.event(&format!("is given {}", lease.correlation_key));
        if !self.takes_time().await {
            return Outcome::failed("no luck");
        }
        let mut books = self.books.open();
        books.site(self.env.host).given.insert(lease.correlation_key.clone(), lease.expires_at);
        Outcome::succeeded("done")
    }

    async fn take_away(&self, lease: &WorkLease) -> Outcome {
        self.env.observer.event(&format!("gives up {}", lease.correlation_key));
        if !self.takes_time().await {
            return Outcome::failed("no luck");
        }
        self.books.open().site(self.env.host).given.remove(&lease.correlation_key);
        Outcome::succeeded("done")
    }

    /// Takes its time; whether it then succeeds. While the callers work it does not always.
    async fn takes_time(&self) -> bool {
        let draw = self.env.entropy.u64();
        sleep(Duration::from_millis(draw % 2_000)).await;
        (draw >> 32) % 5 > 0 || self.env.clock.now() >= self.books.work_ends
    }
}

fn succeeds(wishes: &Value, id: CommandId, host: HostId) -> bool {
    match wishes["going"].as_str() {
        Some("Mixed") => (id.0.as_bytes()[15] ^ host.0.as_bytes()[15]) & 1 == 0,
        Some("Badly") => false,
        _ => true,
    }
}

impl fmt::Debug for SiteConnectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SiteConnectors").field("host", &self.env.host).finish_non_exhaustive()
    }
}

impl Connectors for SiteConnectors {
    fn serves(&self, kind: &str) -> Option<Service> {
        let (prefix, rest) = kind.split_once(':')?;
        let served = prefix != "command" || [WHOLE, EACH].contains(&rest);
        served.then(|| Service { name: prefix.to_owned(), per_host: kind == format!("command:{EACH}") })
    }

    fn carry_out(&self, work: Work) -> CarryingOut<'_> {
        Box::pin(async move {
            let hosts: Vec<HostId> = work.hosts.iter().map(|host| host.host_id).collect();
            match &work.task {
                Task::Command { id, parameters, .. } => self.command(*id, parameters, &hosts).await,
                Task::Policy { id, version, definition, withdraw, .. } => {
                    let wanted = (!withdraw).then(|| (*version, definition.clone()));
                    self.policy(*id, wanted).await
                }
                Task::GiveLease { lease, .. } => self.give(lease).await,
                Task::TakeLease(lease) => self.take_away(lease).await,
            }
        })
    }

    fn declared(&self) -> Vec<ConnectorView> {
        Vec::new()
    }
}
