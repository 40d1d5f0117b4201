//! A site's own hosts, folded up to a position of the inventory log.

use hansa_model::Host;

use super::{SegmentHead, Table};

/// A site's own hosts in chunks: chunk → `Vec<Host>` in postcard, cut as in [`super::Segments`].
#[derive(Debug)]
pub enum InventorySegments {}

impl Table for InventorySegments {
    type Key = u32;
    type Value = Vec<Host>;
    const NAME: &'static str = "inventory_segments";
}

/// What the chunks cover, under the key `self`.
#[derive(Debug)]
pub enum InventorySegmentHeads {}

impl Table for InventorySegmentHeads {
    type Key = String;
    type Value = SegmentHead;
    const NAME: &'static str = "inventory_segment_heads";
}
