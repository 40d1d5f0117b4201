//! What can be asked of the directory (contract 6.3).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits::search::{LIMIT_DEFAULT, LIMIT_MAX, PATTERN_BYTES_MAX};
use crate::{HostId, SiteId, Timestamp};

/// Conditions that all must hold. An absent or empty text does not bind; `%` and `_` mean themselves.
///
/// Sites are chosen by the caller, who hands over their shards.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Part of the name, in any case.
    pub fqdn_contains: Option<String>,
    /// Part of the IPv4 address.
    pub ipv4_contains: Option<String>,
    /// The operating system's family, exactly.
    pub os_family: Option<String>,
    /// The platform, exactly.
    pub platform: Option<String>,
    /// The status, exactly.
    pub status: Option<String>,
    /// The country, exactly.
    pub geo_country_code: Option<String>,
    /// The subdivision, exactly.
    pub geo_subdivision_code: Option<String>,
    /// Seen then or later.
    pub last_seen_after: Option<Timestamp>,
    /// Seen earlier.
    pub last_seen_before: Option<Timestamp>,
    /// Part of the name, the IPv4 address or the public address, in any case.
    pub free_text: Option<String>,
}

impl Filter {
    /// Each text condition with the name of its parameter.
    fn texts(&self) -> [(&'static str, &Option<String>); 8] {
        [
            ("fqdn_contains", &self.fqdn_contains),
            ("ipv4_contains", &self.ipv4_contains),
            ("os_family", &self.os_family),
            ("platform", &self.platform),
            ("status", &self.status),
            ("geo_country_code", &self.geo_country_code),
            ("geo_subdivision_code", &self.geo_subdivision_code),
            ("free_text", &self.free_text),
        ]
    }
}

/// Order of the rows: ascending, null first, ties by host id. Texts by their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderBy {
    /// By name.
    #[default]
    Fqdn,
    /// By the instant the host was last seen.
    LastSeen,
    /// By status.
    Status,
    /// By the operating system's family.
    OsFamily,
    /// By platform.
    Platform,
    /// By site id.
    SiteId,
    /// By country.
    GeoCountryCode,
}

impl OrderBy {
    /// Every order.
    pub const ALL: [Self; 7] = [
        Self::Fqdn,
        Self::LastSeen,
        Self::Status,
        Self::OsFamily,
        Self::Platform,
        Self::SiteId,
        Self::GeoCountryCode,
    ];

    /// The parameter's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fqdn => "fqdn",
            Self::LastSeen => "last_seen",
            Self::Status => "status",
            Self::OsFamily => "os_family",
            Self::Platform => "platform",
            Self::SiteId => "site_id",
            Self::GeoCountryCode => "geo_country_code",
        }
    }
}

impl fmt::Display for OrderBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for OrderBy {
    type Err = InvalidQuery;

    fn from_str(text: &str) -> Result<Self, InvalidQuery> {
        Self::ALL.into_iter().find(|order| order.as_str() == text).ok_or(InvalidQuery::OrderBy)
    }
}

/// A row's place in an order.
///
/// A page that starts after it is right whatever happened in between: rows that exist throughout and keep
/// their place are met exactly once, even when the cursor's own row is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The row's value in the order.
    pub key: CursorKey,
    /// The row's host.
    pub host_id: HostId,
}

/// The value of a row by which an order sorts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CursorKey {
    /// Of [`OrderBy::Fqdn`].
    Fqdn(String),
    /// Of [`OrderBy::LastSeen`].
    LastSeen(Option<Timestamp>),
    /// Of [`OrderBy::Status`].
    Status(Option<String>),
    /// Of [`OrderBy::OsFamily`].
    OsFamily(Option<String>),
    /// Of [`OrderBy::Platform`].
    Platform(Option<String>),
    /// Of [`OrderBy::SiteId`].
    SiteId(SiteId),
    /// Of [`OrderBy::GeoCountryCode`].
    GeoCountryCode(Option<String>),
}

impl CursorKey {
    /// The order that the value belongs to.
    pub const fn order_by(&self) -> OrderBy {
        match self {
            Self::Fqdn(_) => OrderBy::Fqdn,
            Self::LastSeen(_) => OrderBy::LastSeen,
            Self::Status(_) => OrderBy::Status,
            Self::OsFamily(_) => OrderBy::OsFamily,
            Self::Platform(_) => OrderBy::Platform,
            Self::SiteId(_) => OrderBy::SiteId,
            Self::GeoCountryCode(_) => OrderBy::GeoCountryCode,
        }
    }
}

/// Where a page starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// Behind this many rows of the order.
    Offset(u64),
    /// Behind the row that the cursor names.
    After(Cursor),
}

impl Default for Start {
    fn default() -> Self {
        Self::Offset(0)
    }
}

/// One page of a filtered, ordered list. A query in hand is a valid one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    filter: Filter,
    order_by: OrderBy,
    limit: usize,
    start: Start,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            filter: Filter::default(),
            order_by: OrderBy::default(),
            limit: LIMIT_DEFAULT,
            start: Start::default(),
        }
    }
}

impl Query {
    /// A query from its parts.
    ///
    /// # Errors
    /// Says which part to change.
    pub fn new(filter: Filter, order_by: OrderBy, limit: usize, start: Start) -> Result<Self, InvalidQuery> {
        let is_long =
            |text: &Option<String>| text.as_ref().is_some_and(|text| text.len() > PATTERN_BYTES_MAX);
        if let Some((field, _)) = filter.texts().into_iter().find(|(_, text)| is_long(text)) {
            return Err(InvalidQuery::TextTooLong { field });
        }
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(InvalidQuery::Limit);
        }
        if matches!(&start, Start::After(cursor) if cursor.key.order_by() != order_by) {
            return Err(InvalidQuery::CursorOrder);
        }
        Ok(Self { filter, order_by, limit, start })
    }

    /// The conditions.
    pub const fn filter(&self) -> &Filter {
        &self.filter
    }

    /// The order.
    pub const fn order_by(&self) -> OrderBy {
        self.order_by
    }

    /// Rows of the page at most.
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// Where the page starts.
    pub const fn start(&self) -> &Start {
        &self.start
    }
}

/// Why a query cannot be asked. Fix the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidQuery {
    /// No such order.
    #[error(
        "order_by must be one of fqdn, last_seen, status, os_family, platform, site_id, geo_country_code"
    )]
    OrderBy,
    /// The limit is out of range.
    #[error("limit must lie between 1 and {LIMIT_MAX}")]
    Limit,
    /// No field is as long as the text.
    #[error("{field} is longer than {PATTERN_BYTES_MAX} bytes: shorten it")]
    TextTooLong {
        /// The parameter's name.
        field: &'static str,
    },
    /// The cursor was made in another order.
    #[error("the cursor belongs to another order_by: start again without it")]
    CursorOrder,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_read_by_its_documented_name() {
        for order in OrderBy::ALL {
            assert_eq!(order.to_string().parse(), Ok(order));
        }
        assert_eq!("mtime".parse::<OrderBy>(), Err(InvalidQuery::OrderBy));
    }

    #[test]
    fn query_out_of_bounds_is_refused() {
        let ask = |filter, limit, start| Query::new(filter, OrderBy::Status, limit, start).map(|_| ());
        let long = Filter { free_text: Some("x".repeat(256)), ..Filter::default() };
        let cursor = Cursor { key: CursorKey::Fqdn(String::new()), host_id: HostId(uuid::Uuid::nil()) };

        assert_eq!(ask(Filter::default(), 0, Start::default()), Err(InvalidQuery::Limit));
        assert_eq!(ask(Filter::default(), 1_001, Start::default()), Err(InvalidQuery::Limit));
        assert_eq!(ask(long, 1, Start::default()), Err(InvalidQuery::TextTooLong { field: "free_text" }));
        assert_eq!(ask(Filter::default(), 1, Start::After(cursor)), Err(InvalidQuery::CursorOrder));
        assert_eq!(ask(Filter::default(), 1_000, Start::Offset(u64::MAX)), Ok(()));
    }
}
