//! A site's own results: for each baseline what they come to, and the rows in chunks.

use hansa_model::finding::{Held, HostScan, ScanSummary};

use super::Table;
use crate::codec::Named;

/// Baseline → what its results come to.
#[derive(Debug)]
pub enum Scans {}

impl Table for Scans {
    type Key = String;
    type Value = Held<ScanSummary>;
    const NAME: &'static str = "scans";
}

/// (baseline, chunk) → results in the order of hosts.
#[derive(Debug)]
pub enum HostScans {}

impl Table for HostScans {
    type Key = Named<u32>;
    type Value = Vec<HostScan>;
    const NAME: &'static str = "host_scans";
}
