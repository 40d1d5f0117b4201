//! A site's own findings: what they come to, and the rows in chunks.

use hansa_model::finding::{Finding, FindingsSummary, Held};

use super::Table;

/// `self` → what the findings come to.
#[derive(Debug)]
pub enum FindingsHeld {}

impl Table for FindingsHeld {
    type Key = String;
    type Value = Held<FindingsSummary>;
    const NAME: &'static str = "findings_held";
}

/// Chunk → findings in the order of hosts.
#[derive(Debug)]
pub enum Findings {}

impl Table for Findings {
    type Key = u32;
    type Value = Vec<Finding>;
    const NAME: &'static str = "findings";
}
