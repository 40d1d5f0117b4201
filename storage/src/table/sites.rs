//! Sites as operators decided about them; removed ones stay.

use hansa_model::{Site, SiteId};

use super::Table;

/// Sites as operators decided about them; removed ones stay.
#[derive(Debug)]
pub enum Sites {}

impl Table for Sites {
    type Key = SiteId;
    type Value = Site;
    const NAME: &'static str = "sites";
}
