//! What travels up a link: positions, batches and their items.
//!
//! A site numbers its batches within an *epoch*, a random number drawn at each start of its process. The
//! coordinator stores a batch's data and the new [`Position`] in one transaction and answers with that
//! position. Its chain covers every batch applied so far, so two nodes that name the same position hold
//! the same history, and a site restored from an old disk cannot reuse a number unseen.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::host::HostChange;
use crate::{HostId, Timestamp};

/// How far a site's ingest stream is applied.
///
/// The default, all zero, is the position before the first batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Position {
    /// Random at each start of the site's process; zero before the first batch.
    pub epoch: u64,
    /// Number of the last applied batch of the epoch, from one.
    pub sequence: u64,
    /// SHA-256 over all batches applied so far, each with its position.
    pub chain: [u8; 32],
}

impl Position {
    /// The position after one more batch whose encoded items are `payload`.
    #[must_use]
    pub fn advanced(&self, epoch: u64, sequence: u64, payload: &[u8]) -> Self {
        let chain = Sha256::new()
            .chain_update(self.chain)
            .chain_update(epoch.to_le_bytes())
            .chain_update(sequence.to_le_bytes())
            .chain_update(payload)
            .finalize()
            .into();
        Self { epoch, sequence, chain }
    }
}

/// The head of a batch; the encoded [`Items`] follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchHeader {
    /// The epoch that the batch belongs to.
    pub epoch: u64,
    /// From one within the epoch, without gaps.
    pub sequence: u64,
    /// The chain that the batch continues; the coordinator's must be equal.
    pub previous_chain: [u8; 32],
    /// Accept whatever the coordinator holds and start anew: the batch opens a resync. Its sequence is 1.
    pub reset: bool,
    /// Rows that the site still has to send, this batch included.
    pub queue_depth: u64,
}

/// What one batch carries, generic over who owns the text. The field order is a stored and sent format.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Items<S> {
    /// Changes of the site's directory, in the order to apply.
    #[serde(bound(deserialize = "HostChange<S>: Deserialize<'de>"))]
    pub changes: Vec<HostChange<S>>,
    /// Whole branches of the directory: what they do not list is gone. For repair and resync.
    pub leaves: Vec<LeafContent>,
    /// The site's newest metadata, if it is due.
    pub metadata: Option<SiteMetadata>,
    /// The site's newest host rollup, if it is due.
    pub host_rollup: Option<HostRollupReport>,
    /// Other payloads of the queue; see [`crate::report::Report`]. Since version 2 of the wire.
    pub payloads: Vec<Payload>,
}

/// What [`Items`] were in version 1 of the wire: without the payloads.
#[derive(Deserialize)]
struct ItemsV1<S> {
    #[serde(bound(deserialize = "HostChange<S>: Deserialize<'de>"))]
    changes: Vec<HostChange<S>>,
    leaves: Vec<LeafContent>,
    metadata: Option<SiteMetadata>,
    host_rollup: Option<HostRollupReport>,
}

impl<'a> Items<&'a str> {
    /// Reads the bytes of a batch, of this version or the one before; bytes behind the known fields are a
    /// newer version's and are ignored. None when they are no items: the sender is defective.
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        if let Ok((items, _newer_fields)) = postcard::take_from_bytes::<Self>(bytes) {
            return Some(items);
        }
        let ItemsV1 { changes, leaves, metadata, host_rollup } = postcard::from_bytes(bytes).ok()?;
        Some(Self { changes, leaves, metadata, host_rollup, payloads: Vec::new() })
    }
}

/// A payload of the sync queue in a batch: the very JSON that the documented route takes as its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    /// Its documented name, such as `command_result`.
    pub payload_type: String,
    /// JSON, its keys sorted.
    pub body: Vec<u8>,
}

impl<S> Default for Items<S> {
    fn default() -> Self {
        Self {
            changes: Vec::new(),
            leaves: Vec::new(),
            metadata: None,
            host_rollup: None,
            payloads: Vec::new(),
        }
    }
}

/// The hosts that one leaf of the digest tree holds. The rows themselves stand among the changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeafContent {
    /// Index of the leaf, below [`crate::directory::digest::LEAVES`].
    pub leaf: u16,
    /// Every host that the site holds in it.
    pub hosts: Vec<HostId>,
}

/// Payload `site_metadata` (contract 3.2). Unknown members are ignored.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SiteMetadata {
    /// Version of the site's software.
    #[serde(default)]
    pub sysmanage_version: Option<String>,
    /// Hosts of the site, all states (ours; upstream counts active ones here and all ones in the rollup).
    #[serde(default)]
    pub host_count: Option<u64>,
    /// Hosts by platform.
    #[serde(default)]
    pub os_breakdown: Option<BTreeMap<String, u64>>,
    /// What the site can do.
    #[serde(default)]
    pub capabilities: Option<Vec<String>>,
    /// The site's view of its uplink.
    #[serde(default)]
    pub connection_state: Option<String>,
    /// Whether the site works without its coordinator.
    #[serde(default)]
    pub autonomous: Option<bool>,
    /// Rows that the site still has to send.
    #[serde(default)]
    pub queue_depth: Option<u64>,
    /// Milliseconds that the site's last exchange took.
    #[serde(default)]
    pub latency_ms: Option<u32>,
}

/// Payload `host_rollup` (contract 3.2, B6).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct HostRollupReport {
    /// Hosts, all states.
    pub host_count: u64,
    /// Hosts that are active; at most `host_count`.
    pub active_count: u64,
    /// Hosts by operating system.
    pub os_breakdown: Option<BTreeMap<String, u64>>,
    /// Hosts by status.
    pub status_breakdown: Option<BTreeMap<String, u64>>,
    /// When the snapshot was taken; arrival when absent.
    pub snapshot_at: Option<Timestamp>,
}

/// Why a coordinator did not apply a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BatchRefusal {
    /// The batch skips numbers: send the one after this position.
    Gap,
    /// The batch continues another history than the coordinator's: compare digests, then repair.
    Diverged,
    /// The coordinator cannot store now (full disk): try again later, nothing is lost.
    Unavailable,
    /// The batch breaks a bound or does not decode: a defect of the sender.
    Malformed,
}

/// One ingested batch as stored at the coordinator, keyed by the global commit position. The fold of all
/// of a site's records is its directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IngestRecord<'a> {
    /// The site whose directory changed.
    pub site: crate::SiteId,
    /// Epoch and number of the batch; zero for HTTP ingest and for changes of the coordinator itself.
    pub epoch: u64,
    /// See `epoch`.
    pub sequence: u64,
    /// When the batch arrived.
    pub received_at: Timestamp,
    /// The applied changes, in order.
    #[serde(borrow)]
    pub changes: Vec<HostChange<&'a str>>,
}

/// What applying a batch did to a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Applied {
    /// Hosts that were not known before.
    pub added: u64,
    /// Known hosts whose row changed.
    pub changed: u64,
    /// Hosts that were removed.
    pub removed: u64,
}
