//! Typed counters of a node. Each says what it counts; names are API.

use std::sync::Mutex;

use hansa_model::sync::Applied;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// All metrics of one node.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    /// Batches stored by this node as coordinator, over either transport.
    ingest_batches: Counter,
    /// Rows in those batches, unchanged ones included.
    ingest_rows: Counter,
    /// Hosts added, changed and removed by them; at most `ingest_rows` together.
    hosts_added: Counter,
    hosts_changed: Counter,
    hosts_removed: Counter,
    /// Credentials of leases that an issuer made first; each is followed by one of the next two.
    pub(crate) leases_issued: Counter,
    /// Words on leases that a site took: values, failures, revocations.
    pub(crate) leases_delivered: Counter,
    /// Tries to hand a word over that failed, for whatever reason.
    pub(crate) lease_deliveries_failed: Counter,
    /// New values that took the place of old ones.
    pub(crate) leases_renewed: Counter,
    /// Calls of issuers that failed.
    pub(crate) lease_issuer_failures: Counter,
    /// Searches answered.
    pub(crate) searches: Counter,
    /// Hosts in the directory, set when metrics are read.
    pub(crate) hosts: Gauge,
    /// Sites with a link, set when metrics are read.
    pub(crate) sites_linked: Gauge,
    /// Rows that this site still has to send, set when metrics are read.
    pub(crate) sync_queue_depth: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("hansa");
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let ingest_batches = counter("ingest_batches", "Batches stored as coordinator");
        let ingest_rows = counter("ingest_rows", "Rows of stored batches, unchanged ones included");
        let hosts_added = counter("directory_hosts_added", "Hosts added to the directory");
        let hosts_changed = counter("directory_hosts_changed", "Hosts changed in the directory");
        let hosts_removed = counter("directory_hosts_removed", "Hosts removed from the directory");
        let leases_issued = counter("leases_issued", "Credentials issued for secret leases");
        let leases_delivered = counter("leases_delivered", "Words on secret leases that a site took");
        let lease_deliveries_failed =
            counter("lease_deliveries_failed", "Words on secret leases that did not reach the site");
        let leases_renewed = counter("leases_renewed", "Secret leases given a new value");
        let lease_issuer_failures = counter("lease_issuer_failures", "Calls of lease issuers that failed");
        let searches = counter("directory_searches", "Searches answered");
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let hosts = gauge("directory_hosts", "Hosts in the directory");
        let sites_linked = gauge("sites_linked", "Sites with a live link");
        let sync_queue_depth = gauge("sync_queue_depth", "Rows that this site still has to send");
        Self {
            registry: Mutex::new(registry),
            ingest_batches,
            ingest_rows,
            hosts_added,
            hosts_changed,
            hosts_removed,
            leases_issued,
            leases_delivered,
            lease_deliveries_failed,
            leases_renewed,
            lease_issuer_failures,
            searches,
            hosts,
            sites_linked,
            sync_queue_depth,
        }
    }

    /// Counts one stored batch.
    pub(crate) fn applied(&self, applied: &Applied, rows: usize) {
        self.ingest_batches.inc();
        self.ingest_rows.inc_by(rows as u64);
        self.hosts_added.inc_by(applied.added);
        self.hosts_changed.inc_by(applied.changed);
        self.hosts_removed.inc_by(applied.removed);
    }

    /// All metrics in the OpenMetrics text format.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &registry);
        text
    }
}
