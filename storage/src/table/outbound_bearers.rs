//! The bearer that a coordinator presents to each site over HTTP, sealed.

use hansa_model::SiteId;

use super::{SealedTable, Table};
use crate::seal::Envelope;

/// The bearer that a coordinator presents to each site over HTTP, sealed.
#[derive(Debug)]
pub enum OutboundBearers {}

impl Table for OutboundBearers {
    type Key = SiteId;
    type Value = Envelope;
    const NAME: &'static str = "outbound_bearers";
}

impl SealedTable for OutboundBearers {}
