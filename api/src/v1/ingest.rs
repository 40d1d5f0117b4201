//! What a site pushes over HTTP (contract B6): the same decisions as over a link.
//!
//! The bearer is checked before a handler runs; the signature over the exact bytes is checked here, before
//! they are parsed.

use std::collections::BTreeMap;

use hansa_actors::view::{DirectoryAnswer, Skipped};
use hansa_model::site::HostRollup;
use hansa_model::sync::{HostRollupReport, SiteMetadata};
use hansa_model::{SiteId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::sites::SiteAnswer;
use crate::answer::{Answer, Licensed};
use crate::json::{self, Count, Lenient};
use crate::problem::Problem;
use crate::request::Request;
use crate::rows::{self, Rows};
use crate::scan::{Format, Members};

/// One row of a directory push or an inventory call. Absent members keep their value, null clears it.
#[derive(Debug, ToSchema)]
#[schema(as = HostEntry)]
#[expect(dead_code, reason = "documents the model's entry, which has no schema of its own")]
pub(crate) struct HostEntryBody {
    /// UUID.
    host_id: String,
    /// Required for a host that is not known yet.
    fqdn: Option<String>,
    ipv4: Option<String>,
    ipv6: Option<String>,
    public_ip: Option<String>,
    os_family: Option<String>,
    os_version: Option<String>,
    platform: Option<String>,
    status: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_seen: Option<Timestamp>,
    /// JSON text of a list of tag names.
    tags_json: Option<String>,
    geo_country_code: Option<String>,
    geo_subdivision_code: Option<String>,
    geo_city: Option<String>,
    geo_latitude: Option<f64>,
    geo_longitude: Option<f64>,
    /// When the row last changed; arrival when absent. An older row than the stored one is skipped.
    #[schema(value_type = Option<String>, format = DateTime)]
    mtime: Option<Timestamp>,
}

/// A site's whole directory. A host that it leaves out is retired.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "documents a body that is read entry by entry")]
pub(crate) struct DirectoryPush {
    entries: Vec<HostEntryBody>,
}

/// What a directory push did.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DirectoryPushAnswer {
    #[schema(value_type = bool)]
    licensed: Licensed,
    /// Rows applied, unchanged ones included.
    upserted: usize,
    /// Hosts retired because the snapshot left them out.
    retired: usize,
    /// Hosts left out whose removal waits for a second snapshot.
    retained: usize,
    /// Rows that were not applied.
    skipped: Vec<SkippedRow>,
}

/// A row that was not applied.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SkippedRow {
    /// Place in the call, from zero.
    index: usize,
    /// Null when the row has no valid id.
    host_id: Option<Uuid>,
    /// Why.
    error: String,
}

impl From<Skipped> for SkippedRow {
    fn from(skipped: Skipped) -> Self {
        Self {
            index: skipped.index,
            host_id: skipped.host_id.map(|host| host.0),
            error: skipped.error.to_string(),
        }
    }
}

impl From<DirectoryAnswer> for DirectoryPushAnswer {
    fn from(answer: DirectoryAnswer) -> Self {
        Self {
            licensed: Licensed,
            upserted: answer.upserted,
            retired: answer.retired,
            retained: answer.retained,
            skipped: answer.skipped.into_iter().map(SkippedRow::from).collect(),
        }
    }
}

/// A site's count of its hosts. Numbers may be numeric text.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = HostRollupReport)]
pub(crate) struct HostRollupBody {
    /// Hosts, all states.
    host_count: Count,
    /// Hosts that are active; at most `host_count`.
    active_count: Count,
    /// Hosts by operating system.
    os_breakdown: Option<BTreeMap<String, Count>>,
    /// Hosts by status.
    status_breakdown: Option<BTreeMap<String, Count>>,
    /// When the snapshot was taken; arrival when absent.
    #[schema(value_type = Option<String>, format = DateTime)]
    snapshot_at: Option<Timestamp>,
}

impl From<HostRollupBody> for HostRollupReport {
    fn from(body: HostRollupBody) -> Self {
        Self {
            host_count: body.host_count.0,
            active_count: body.active_count.0,
            os_breakdown: body.os_breakdown.map(counts),
            status_breakdown: body.status_breakdown.map(counts),
            snapshot_at: body.snapshot_at,
        }
    }
}

fn counts(breakdown: BTreeMap<String, Count>) -> BTreeMap<String, u64> {
    breakdown.into_iter().map(|(key, count)| (key, count.0)).collect()
}

/// The stored snapshot.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HostRollupAnswer {
    #[schema(value_type = bool)]
    licensed: Licensed,
    rollup: HostRollupSnapshot,
}

/// One snapshot of a site's host rollup.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = HostRollup)]
pub(crate) struct HostRollupSnapshot {
    id: Uuid,
    site_id: Uuid,
    #[schema(value_type = String, format = DateTime)]
    snapshot_at: Timestamp,
    host_count: u64,
    active_count: u64,
    os_breakdown: BTreeMap<String, u64>,
    status_breakdown: BTreeMap<String, u64>,
}

impl HostRollupSnapshot {
    fn new(site: SiteId, rollup: HostRollup) -> Self {
        Self {
            id: rollup.id.0,
            site_id: site.0,
            snapshot_at: rollup.snapshot_at,
            host_count: rollup.host_count,
            active_count: rollup.active_count,
            os_breakdown: rollup.os_breakdown,
            status_breakdown: rollup.status_breakdown,
        }
    }
}

/// What a site says about itself. Members that do not have their form, or that we do not know, are ignored.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = SiteMetadata)]
pub(crate) struct SiteMetadataBody {
    /// Version of the site's software.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    sysmanage_version: Lenient<String>,
    /// Hosts of the site.
    #[serde(default)]
    #[schema(value_type = Option<u64>)]
    host_count: Lenient<Count>,
    /// Hosts by platform.
    #[serde(default)]
    #[schema(value_type = Option<BTreeMap<String, u64>>)]
    os_breakdown: Lenient<BTreeMap<String, Count>>,
    /// What the site can do.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    capabilities: Lenient<Vec<String>>,
    /// The site's view of its uplink.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    connection_state: Lenient<String>,
    /// Whether the site works without its coordinator.
    #[serde(default)]
    #[schema(value_type = Option<bool>)]
    autonomous: Lenient<bool>,
    /// Rows that the site still has to send.
    #[serde(default)]
    #[schema(value_type = Option<u64>)]
    queue_depth: Lenient<Count>,
    /// Milliseconds that the site's last exchange took.
    #[serde(default)]
    #[schema(value_type = Option<u64>)]
    latency_ms: Lenient<Count>,
}

impl From<SiteMetadataBody> for SiteMetadata {
    fn from(body: SiteMetadataBody) -> Self {
        Self {
            sysmanage_version: body.sysmanage_version.0,
            host_count: body.host_count.0.map(|count| count.0),
            os_breakdown: body.os_breakdown.0.map(counts),
            capabilities: body.capabilities.0,
            connection_state: body.connection_state.0,
            autonomous: body.autonomous.0,
            queue_depth: body.queue_depth.0.map(|count| count.0),
            latency_ms: body.latency_ms.0.and_then(|count| u32::try_from(count.0).ok()),
        }
    }
}

pub(crate) async fn host_directory(mut request: Request, site: SiteId) -> Result<Answer, Problem> {
    let bytes = request.signed(site).await?;
    let mut rows = Rows::new(Format::Json, Members::Any, rows::entry);
    rows.chunk(&bytes).await?;
    drop(bytes);
    let answer = request.federation.ingest_directory(site, rows.finish()?).await?;
    Answer::ok(&DirectoryPushAnswer::from(answer))
}

pub(crate) async fn host_rollup(mut request: Request, site: SiteId) -> Result<Answer, Problem> {
    let body: HostRollupBody = json::parse(&request.signed(site).await?)?;
    let rollup = request.federation.ingest_host_rollup(site, body.into()).await?;
    Answer::ok(&HostRollupAnswer { licensed: Licensed, rollup: HostRollupSnapshot::new(site, rollup) })
}

pub(crate) async fn metadata(mut request: Request, site: SiteId) -> Result<Answer, Problem> {
    let body: SiteMetadataBody = json::parse(&request.signed(site).await?)?;
    let view = request.federation.ingest_metadata(site, body.into()).await?;
    Answer::ok(&SiteAnswer::new(view))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rollup_takes_numbers_as_numeric_text() {
        let body: HostRollupBody = json::parse(
            br#"{"host_count":"5","active_count":4,"os_breakdown":{"linux":"3"},"status_breakdown":null,"more":1}"#,
        )
        .unwrap();

        let report = HostRollupReport::from(body);

        assert_eq!((report.host_count, report.active_count), (5, 4));
        assert_eq!(report.os_breakdown.unwrap()["linux"], 3);
        assert!(json::parse::<HostRollupBody>(br#"{"host_count":-5,"active_count":0}"#).is_err());
    }

    #[test]
    fn metadata_leaves_out_what_does_not_fit() {
        let body: SiteMetadataBody = json::parse(
            br#"{"sysmanage_version":7,"host_count":"12","capabilities":["a"],"queue_depth":-1,"autonomous":null,"x":[]}"#,
        )
        .unwrap();

        let metadata = SiteMetadata::from(body);

        assert_eq!((metadata.sysmanage_version, metadata.host_count), (None, Some(12)));
        assert_eq!(metadata.capabilities, Some(vec!["a".to_owned()]));
        assert_eq!((metadata.queue_depth, metadata.autonomous), (None, None));
        assert!(json::parse::<SiteMetadataBody>(b"[]x").is_err());
    }
}
