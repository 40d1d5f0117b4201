//! What every actor of a node shares: the store, the seams to the outside, and the node's identity.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use hansa_model::audit::{AuditDraft, Checkpoint, Detail};
use hansa_model::event::EventDraft;
use hansa_model::machine::bucket::Rates;
use hansa_model::machine::event_ring::Notice;
use hansa_model::machine::registry::Entry;
use hansa_model::scope::Operator;
use hansa_model::site::Site;
use hansa_model::webhook::Webhook;
use hansa_model::{AuditId, Entropy, SiteId, Timestamp, WallClock};
use hansa_storage::{Batch, CommitError, Lane, Receipt, Store};
use hansa_transport::http::PeerHttp;

use crate::error::Unavailable;
use crate::events::Events;
use crate::issuer::Issuers;
use crate::keyring::Keyring;
use crate::metrics::Metrics;
use crate::operators::OperatorsConfig;
use crate::view::QuicAddress;

/// The seam for work that holds the processor for milliseconds: production lets the runtime's other
/// tasks move aside, a simulation just runs it.
#[derive(Clone, Copy)]
pub struct Compute {
    /// Runs the work on the calling thread and returns when it is done.
    pub run: fn(&mut dyn FnMut()),
    /// Pieces of work that may run side by side: the processors of the machine.
    pub width: usize,
}

impl Compute {
    /// Runs the work in place, one piece at a time.
    pub const INLINE: Self = Self { run: |work| work(), width: 1 };

    pub(crate) fn run<T>(self, work: impl FnOnce() -> T) -> T {
        let mut work = Some(work);
        let mut answer = None;
        (self.run)(&mut || answer = work.take().map(|work| work()));
        answer.expect("the seam runs the work exactly once")
    }
}

impl fmt::Debug for Compute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Compute")
    }
}

/// How a node behaves; everything else comes in as a seam.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Where peers reach this node's QUIC, `host:port`; none keeps the node an HTTP peer.
    pub quic_advertise: Option<String>,
    /// Where people and peers reach this node's HTTP, for join codes.
    pub public_url: Option<String>,
    /// Whether HTTP peers must sign their bodies (contract 1.6). On when the node itself serves HTTPS.
    pub enforce_signatures: bool,
    /// Version that this node reports to its peers.
    pub software_version: String,
    /// Between two passes of each actor's housekeeping. Default 1 s; each pass looks whether anything is due.
    pub housekeeping_interval: Duration,
    /// How long the ingest log is kept before it is folded away. Default 7 days.
    pub log_retention: Duration,
    /// How long ended commands are kept. Default 90 days.
    pub commands_kept: Duration,
    /// Between two passes over pushes that are due over HTTP, alerts and leases. Default 30 s, at least 5.
    pub push_tick: Duration,
    /// Who is told of alerts.
    pub webhooks: Vec<Webhook>,
    /// Changed rows of one site from which its segments are written anew, so that a start stays short.
    pub checkpoint_rows: u64,
    /// Issuers of operator tokens beside the node itself.
    pub operators: OperatorsConfig,
    /// Whether browsers reach this node by HTTPS alone, so that its cookies may say so.
    pub secure_cookies: bool,
    /// Calls of the secrets API by caller and minute.
    pub secret_rates: Rates,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            quic_advertise: None,
            public_url: None,
            enforce_signatures: false,
            software_version: env!("CARGO_PKG_VERSION").to_owned(),
            housekeeping_interval: Duration::from_secs(1),
            log_retention: Duration::from_secs(7 * 24 * 3_600),
            commands_kept: hansa_model::limits::command::KEPT_DEFAULT,
            push_tick: hansa_model::limits::push::TICK,
            webhooks: Vec::new(),
            checkpoint_rows: 50_000,
            operators: OperatorsConfig::default(),
            secure_cookies: false,
            secret_rates: Rates::default(),
        }
    }
}

/// Shared by all actors of one node.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) store: Store,
    pub(crate) wall: Arc<dyn WallClock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) http: Arc<dyn PeerHttp>,
    pub(crate) compute: Compute,
    pub(crate) config: NodeConfig,
    pub(crate) keyring: Keyring,
    /// What makes the credentials of leases.
    pub(crate) issuers: Issuers,
    pub(crate) metrics: Metrics,
    /// What watchers are told.
    pub(crate) events: Arc<Events>,
    /// The newest checkpoint of this node's audit log, for those who are to keep it.
    pub(crate) checkpoint: ArcSwapOption<Checkpoint>,
}

impl Context {
    pub(crate) fn now(&self) -> Timestamp {
        self.wall.now()
    }

    pub(crate) fn quic_address(&self) -> Option<QuicAddress> {
        let address = self.config.quic_advertise.clone()?;
        Some(QuicAddress { address, alpn: "hansa/1" })
    }

    /// Commits and returns once the batch is on disk. Watchers are told of its audit entries: whoever commits
    /// does so through here or through [`Context::store_batch`].
    pub(crate) async fn commit(&self, lane: Lane, batch: Batch) -> Result<Receipt, Unavailable> {
        self.store_batch(lane, batch).await.map_err(Unavailable::from)
    }

    /// The same, for callers that must know why a batch was refused.
    pub(crate) async fn store_batch(&self, lane: Lane, batch: Batch) -> Result<Receipt, CommitError> {
        let entries = batch.audit_bytes().to_vec();
        let receipt = self.store.commit(lane, batch).await?;
        for entry in entries {
            self.events.publish(Notice::Entry(entry));
        }
        Ok(receipt)
    }

    /// Tells watchers of something that leaves no entry in the audit log, as what does is told by its commit.
    pub(crate) fn publish(
        &self,
        kind: &str,
        site: Option<SiteId>,
        details: impl IntoIterator<Item = (&'static str, Detail)>,
    ) {
        self.events.publish(Notice::from(&EventDraft {
            kind: kind.to_owned(),
            at: self.now(),
            site,
            audit_entry: None,
            details: details.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        }));
    }

    /// Completes a decision's audit entry.
    pub(crate) fn audit(&self, entry: Entry, actor: Option<&Operator>, site: &Site) -> AuditDraft {
        let now = self.now();
        AuditDraft {
            id: AuditId::generate(now, &*self.entropy),
            created_at: now,
            operation: entry.operation.to_owned(),
            actor_userid: actor.map(|operator| operator.userid.clone()),
            target_site_id: Some(site.id),
            target_site_name: Some(site.name.as_str().to_owned()),
            target_host_id: None,
            details: entry.details,
        }
    }

    /// An audit entry about this node itself.
    pub(crate) fn audit_node(
        &self,
        operation: &str,
        actor: Option<&Operator>,
        details: impl IntoIterator<Item = (&'static str, Detail)>,
    ) -> AuditDraft {
        let now = self.now();
        AuditDraft {
            id: AuditId::generate(now, &*self.entropy),
            created_at: now,
            operation: operation.to_owned(),
            actor_userid: actor.map(|operator| operator.userid.clone()),
            target_site_id: None,
            target_site_name: None,
            target_host_id: None,
            details: details.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        }
    }
}

impl From<CommitError> for Unavailable {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Full { .. } => Self::StorageFull,
            CommitError::Closed => Self::Stopping,
            CommitError::PreconditionFailed { .. } | CommitError::Io(_) | CommitError::Corrupt(_) => {
                Self::Storage
            }
        }
    }
}
