//! Search over any number of shards: hits as bits by segment, an exact total, and one page.

use std::collections::BTreeMap;
use std::ops::Deref;

use super::address::AddressPattern;
use super::bits::BitSet;
use super::column::TextColumn;
use super::names::NamePattern;
use super::order;
use super::query::{Cursor, Filter, Query};
use super::segment::Segment;
use super::shard::Shard;
use crate::{Host, SiteId, Timestamp};

/// One page of hits.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The rows in order, each with its site.
    pub rows: Vec<(SiteId, Host)>,
    /// All hits, on whatever page.
    pub total: u64,
    /// Where the next page starts; absent on the last one.
    pub next: Option<Cursor>,
}

/// The hits of one segment.
#[derive(Debug)]
pub(super) struct Part<'a> {
    pub(super) site: SiteId,
    pub(super) segment: &'a Segment,
    pub(super) hits: BitSet,
    pub(super) count: usize,
}

/// Finds one page of the rows that pass the query's filter.
///
/// Takes references or read guards. Give each site's shard at most once.
pub fn search<S: Deref<Target = Shard>>(shards: &[S], query: &Query) -> Page {
    let parts = parts(shards, &Criteria::of(query.filter()));
    let total: usize = parts.iter().map(|part| part.count).sum();
    let (rows, next) = order::page(&parts, query);
    let rows = rows.iter().map(|row| (parts[row.part].site, parts[row.part].segment.host(row.row))).collect();
    Page { rows, total: total as u64, next }
}

/// Counts the rows that pass the filter.
pub fn count<S: Deref<Target = Shard>>(shards: &[S], filter: &Filter) -> u64 {
    let criteria = Criteria::of(filter);
    let segments = shards.iter().flat_map(|shard| shard.segments());
    let counts = segments.map(|segment| criteria.hits(segment).map_or(0, |hits| hits.count()));
    counts.sum::<usize>() as u64
}

fn parts<'a, S: Deref<Target = Shard>>(shards: &'a [S], criteria: &Criteria) -> Vec<Part<'a>> {
    let segments = shards.iter().flat_map(|shard| shard.segments().map(|segment| (shard.site(), segment)));
    let parts = segments.filter_map(|(site, segment)| {
        let hits = criteria.hits(segment)?;
        let count = hits.count();
        (count > 0).then_some(Part { site, segment, hits, count })
    });
    parts.collect()
}

/// A column that is filtered by equality.
type Label = fn(&Segment) -> &TextColumn;

/// A filter made ready to meet many segments.
struct Criteria {
    labels: Vec<(Label, String)>,
    last_seen: Option<(Option<Timestamp>, Option<Timestamp>)>,
    fqdn: Option<NamePattern>,
    ipv4: Option<AddressPattern>,
    free_text: Option<(NamePattern, AddressPattern)>,
}

impl Criteria {
    fn of(filter: &Filter) -> Self {
        fn given(text: &Option<String>) -> Option<&str> {
            text.as_deref().filter(|text| !text.is_empty())
        }
        let labels: [(Label, &Option<String>); 5] = [
            (|segment| &segment.os_family, &filter.os_family),
            (|segment| &segment.platform, &filter.platform),
            (|segment| &segment.status, &filter.status),
            (|segment| &segment.country, &filter.geo_country_code),
            (|segment| &segment.subdivision, &filter.geo_subdivision_code),
        ];
        let labels =
            labels.into_iter().filter_map(|(column, text)| given(text).map(|text| (column, text.to_owned())));
        let (after, before) = (filter.last_seen_after, filter.last_seen_before);
        Self {
            labels: labels.collect(),
            last_seen: (after.is_some() || before.is_some()).then_some((after, before)),
            fqdn: given(&filter.fqdn_contains).map(NamePattern::new),
            ipv4: given(&filter.ipv4_contains).map(|text| AddressPattern::new(text, false)),
            free_text: given(&filter.free_text)
                .map(|text| (NamePattern::new(text), AddressPattern::new(text, true))),
        }
    }

    /// The live rows that pass; `None` when it is plain that none does.
    fn hits(&self, segment: &Segment) -> Option<BitSet> {
        let mut hits = segment.live().clone();
        for (column, value) in &self.labels {
            hits.intersect(&column(segment).equal_to(value)?);
        }
        if let Some((after, before)) = self.last_seen {
            hits.intersect(&segment.last_seen.within(after, before));
        }
        if let Some(pattern) = &self.fqdn {
            hits.intersect(&segment.names.find(pattern));
        }
        if let Some(pattern) = &self.ipv4 {
            hits.intersect(&segment.ipv4.find(pattern));
        }
        if let Some((name, address)) = &self.free_text {
            let mut rows = segment.names.find(name);
            rows.unite(&segment.ipv4.find(address));
            rows.unite(&segment.public_ip.find(address));
            hits.intersect(&rows);
        }
        Some(hits)
    }
}

/// Hosts by status; null and `unknown` share the key `unknown`.
pub fn status_breakdown<S: Deref<Target = Shard>>(shards: &[S]) -> BTreeMap<String, u64> {
    breakdown(shards, |segment| &segment.status, "unknown")
}

/// Hosts by country; null and empty share the empty key.
pub fn country_breakdown<S: Deref<Target = Shard>>(shards: &[S]) -> BTreeMap<String, u64> {
    breakdown(shards, |segment| &segment.country, "")
}

/// Hosts by family of the operating system; null and `unknown` share the key `unknown`.
pub fn os_family_breakdown<S: Deref<Target = Shard>>(shards: &[S]) -> BTreeMap<String, u64> {
    breakdown(shards, |segment| &segment.os_family, "unknown")
}

/// Hosts by platform; null and `unknown` share the key `unknown`.
pub fn platform_breakdown<S: Deref<Target = Shard>>(shards: &[S]) -> BTreeMap<String, u64> {
    breakdown(shards, |segment| &segment.platform, "unknown")
}

/// Sums the counters that each column keeps; no row is visited.
fn breakdown<S: Deref<Target = Shard>>(shards: &[S], column: Label, null: &str) -> BTreeMap<String, u64> {
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for segment in shards.iter().flat_map(|shard| shard.segments()) {
        for (value, count) in column(segment).counts() {
            *sums.entry(value.unwrap_or(null)).or_default() += u64::from(count);
        }
    }
    sums.into_iter().map(|(value, count)| (value.to_owned(), count)).collect()
}
