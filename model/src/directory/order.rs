//! One page of the hits, in any order, without sorting them all.
//!
//! Segments stand in the order of names, so a page by name merges as many of their hits as it shows; an
//! offset is found by halving, a cursor by binary search. Any other order keeps the best rows that it
//! meets, by a rank that stands for the value across all segments.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use super::column::TextColumn;
use super::names::NameKey;
use super::query::{Cursor, CursorKey, OrderBy, Query, Start};
use super::search::Part;
use super::segment::Segment;
use crate::limits::search::{KEPT_MAX, STEPS_MAX};
use crate::{HostId, SiteId, Timestamp};

/// First step away from a guessed row: a guess among 16,000 rows named alike is off by some tens.
const NEAR_STEP: usize = 32;

/// A row of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PartRow {
    pub(super) part: usize,
    pub(super) row: usize,
}

/// The rows of the page, and the cursor behind them if more follow.
pub(super) fn page(parts: &[Part<'_>], query: &Query) -> (Vec<PartRow>, Option<Cursor>) {
    // One row more than asked for tells whether a next page exists.
    let wanted = query.limit() + 1;
    let mut rows = match query.order_by() {
        OrderBy::Fqdn => by_name(parts, query.start(), wanted),
        OrderBy::LastSeen => by_last_seen(parts, query.start(), wanted),
        OrderBy::Status => by_label(parts, query.start(), wanted, |segment| &segment.status),
        OrderBy::OsFamily => by_label(parts, query.start(), wanted, |segment| &segment.os_family),
        OrderBy::Platform => by_label(parts, query.start(), wanted, |segment| &segment.platform),
        OrderBy::SiteId => by_site(parts, query.start(), wanted),
        OrderBy::GeoCountryCode => by_label(parts, query.start(), wanted, |segment| &segment.country),
    };
    let has_more = rows.len() > query.limit();
    rows.truncate(query.limit());
    let last = rows.last().filter(|_| has_more);
    let next = last.map(|last| cursor(&parts[last.part], last.row, query.order_by()));
    (rows, next)
}

fn cursor(part: &Part<'_>, row: usize, order_by: OrderBy) -> Cursor {
    let host = part.segment.host(row);
    let key = match order_by {
        OrderBy::Fqdn => CursorKey::Fqdn(host.fqdn),
        OrderBy::LastSeen => CursorKey::LastSeen(host.last_seen),
        OrderBy::Status => CursorKey::Status(host.status),
        OrderBy::OsFamily => CursorKey::OsFamily(host.os_family),
        OrderBy::Platform => CursorKey::Platform(host.platform),
        OrderBy::SiteId => CursorKey::SiteId(part.site),
        OrderBy::GeoCountryCode => CursorKey::GeoCountryCode(host.geo_country_code),
    };
    Cursor { key, host_id: host.host_id }
}

fn by_name(parts: &[Part<'_>], start: &Start, wanted: usize) -> Vec<PartRow> {
    let (starts, skip) = match start {
        Start::Offset(offset) => leap(parts, usize::try_from(*offset).unwrap_or(usize::MAX)),
        Start::After(cursor) => {
            let CursorKey::Fqdn(name) = &cursor.key else { return Vec::new() };
            let after = (NameKey::of(name), cursor.host_id);
            (starts_near(parts, |key| key <= after), 0)
        }
    };
    let mut members: Vec<_> =
        parts.iter().zip(starts).map(|(part, start)| part.hits.iter_from(start)).collect();
    let mut heads = BinaryHeap::with_capacity(parts.len());
    for (part, members) in members.iter_mut().enumerate() {
        heads
            .extend(members.next().map(|row| Reverse((parts[part].segment.key(row), PartRow { part, row }))));
    }
    let mut rows = Vec::with_capacity(wanted);
    let mut skip = skip;
    while rows.len() < wanted {
        let Some(mut head) = heads.peek_mut() else { break };
        let Reverse((_, found)) = *head;
        if skip > 0 {
            skip -= 1;
        } else {
            rows.push(found);
        }
        match members[found.part].next() {
            Some(row) => *head = Reverse((parts[found.part].segment.key(row), PartRow { row, ..found })),
            None => drop(std::collections::binary_heap::PeekMut::pop(head)),
        }
    }
    rows
}

/// The first row of each part whose key is not `before`. Sites name their hosts alike, so each part is
/// searched from the place that the part before it suggests: a few steps instead of a whole halving.
fn starts_near(parts: &[Part<'_>], before: impl Fn((NameKey<'_>, HostId)) -> bool) -> Vec<usize> {
    let mut share = 0.5;
    let start = |part: &Part<'_>| {
        let rows = part.segment.rows();
        let start = first_row_near(part.segment, (rows as f64 * share) as usize, &before);
        share = start as f64 / rows.max(1) as f64;
        start
    };
    parts.iter().map(start).collect()
}

/// The first row whose key is not `before`, searched outwards from a guess in widening steps.
fn first_row_near(segment: &Segment, guess: usize, before: impl Fn((NameKey<'_>, HostId)) -> bool) -> usize {
    let rows = segment.rows();
    let (mut from, mut to, mut step) = (0, rows, NEAR_STEP);
    if guess < rows && before(segment.key(guess)) {
        from = guess + 1;
        while from + step < rows && before(segment.key(from + step)) {
            from += step + 1;
            step *= 2;
        }
        to = rows.min(from + step);
    } else {
        to = to.min(guess);
        while to > step && !before(segment.key(to - step)) {
            to -= step;
            step *= 2;
        }
        from = if to > step { to - step } else { from };
    }
    first_row(segment, from, to, before)
}

/// The first row of `from..to` whose key is not `before`.
fn first_row(
    segment: &Segment,
    from: usize,
    to: usize,
    before: impl Fn((NameKey<'_>, HostId)) -> bool,
) -> usize {
    let (mut from, mut to) = (from, to);
    while from < to {
        let middle = from.midpoint(to);
        if before(segment.key(middle)) { from = middle + 1 } else { to = middle }
    }
    from
}

/// Rows to start from in each part, and how many hits are still to be passed from there, so that `offset`
/// hits are behind. Halves the widest part again and again and cuts the others at the same name.
fn leap(parts: &[Part<'_>], offset: usize) -> (Vec<usize>, usize) {
    if offset >= parts.iter().map(|part| part.count).sum() {
        return (parts.iter().map(|part| part.segment.rows()).collect(), 0);
    }
    let mut rest = offset;
    let mut low = vec![0; parts.len()];
    let mut high: Vec<usize> = parts.iter().map(|part| part.segment.rows()).collect();
    while rest > STEPS_MAX {
        let width = |part: usize| parts[part].hits.count_within(low[part]..high[part]);
        let Some(widest) = (0..parts.len()).max_by_key(|&part| width(part)) else { break };
        if high[widest] - low[widest] < 2 {
            break;
        }
        let middle = low[widest].midpoint(high[widest]);
        let pivot = parts[widest].segment.key(middle);
        let cuts: Vec<usize> = (0..parts.len())
            .map(|part| first_row(parts[part].segment, low[part], high[part], |key| key < pivot))
            .collect();
        let below: usize =
            (0..parts.len()).map(|part| parts[part].hits.count_within(low[part]..cuts[part])).sum();
        if below <= rest {
            rest -= below;
            low = cuts;
        } else {
            high = cuts;
        }
    }
    (low, rest)
}

/// Ranks of values: equal across segments, in the order of the values, with room between two for a
/// cursor's value that no row has any more. Zero is null.
struct Ranks<T> {
    values: Vec<T>,
}

impl<T: Ord> Ranks<T> {
    fn of(values: impl IntoIterator<Item = T>) -> Self {
        Self { values: values.into_iter().collect::<BTreeSet<T>>().into_iter().collect() }
    }

    fn rank(&self, value: Option<&T>) -> u64 {
        value.map_or(0, |value| match self.values.binary_search(value) {
            Ok(index) => 2 * index as u64 + 2,
            Err(index) => 2 * index as u64 + 1,
        })
    }
}

fn by_label(
    parts: &[Part<'_>],
    start: &Start,
    wanted: usize,
    column: fn(&Segment) -> &TextColumn,
) -> Vec<PartRow> {
    let counts = parts.iter().flat_map(|part| column(part.segment).counts());
    let ranks = Ranks::of(counts.filter_map(|(value, _)| value));
    let mut best = Best::new(start, wanted, |key| match key {
        CursorKey::Status(label)
        | CursorKey::OsFamily(label)
        | CursorKey::Platform(label)
        | CursorKey::GeoCountryCode(label) => ranks.rank(label.as_deref().as_ref()),
        CursorKey::Fqdn(_) | CursorKey::LastSeen(_) | CursorKey::SiteId(_) => 0,
    });
    for (index, part) in parts.iter().enumerate() {
        let column = column(part.segment);
        let by_code: Vec<u64> =
            (0..=column.values().len()).map(|code| ranks.rank(column.value(code as u16).as_ref())).collect();
        best.visit(index, part, |row| by_code[usize::from(column.codes().get(row))]);
    }
    best.into_rows()
}

fn by_last_seen(parts: &[Part<'_>], start: &Start, wanted: usize) -> Vec<PartRow> {
    // Shifts the instants to unsigned numbers with room for null at zero.
    let rank = |instant: Option<Timestamp>| {
        instant.map_or(0, |instant| (instant.as_micros().cast_unsigned() ^ 1 << 63).saturating_add(1))
    };
    let mut best = Best::new(start, wanted, |key| match key {
        CursorKey::LastSeen(instant) => rank(*instant),
        CursorKey::Fqdn(_)
        | CursorKey::Status(_)
        | CursorKey::OsFamily(_)
        | CursorKey::Platform(_)
        | CursorKey::SiteId(_)
        | CursorKey::GeoCountryCode(_) => 0,
    });
    for (index, part) in parts.iter().enumerate() {
        best.visit(index, part, |row| rank(part.segment.last_seen.get(row)));
    }
    best.into_rows()
}

fn by_site(parts: &[Part<'_>], start: &Start, wanted: usize) -> Vec<PartRow> {
    let ranks: Ranks<SiteId> = Ranks::of(parts.iter().map(|part| part.site));
    let mut best = Best::new(start, wanted, |key| match key {
        CursorKey::SiteId(site) => ranks.rank(Some(site)),
        CursorKey::Fqdn(_)
        | CursorKey::LastSeen(_)
        | CursorKey::Status(_)
        | CursorKey::OsFamily(_)
        | CursorKey::Platform(_)
        | CursorKey::GeoCountryCode(_) => 0,
    });
    for (index, part) in parts.iter().enumerate() {
        let rank = ranks.rank(Some(&part.site));
        best.visit(index, part, |_| rank);
    }
    best.into_rows()
}

/// A row with all that orders it.
type Ranked = (u64, HostId, PartRow);

/// The rows of a page among all that were visited.
struct Best {
    /// Only rows behind this one count.
    after: Option<(u64, HostId)>,
    skip: usize,
    wanted: usize,
    /// The best `skip + wanted` rows so far; with a deep `skip` simply all.
    rows: BinaryHeap<Ranked>,
    all: Vec<Ranked>,
}

impl Best {
    fn new(start: &Start, wanted: usize, rank: impl Fn(&CursorKey) -> u64) -> Self {
        let (after, skip) = match start {
            Start::Offset(offset) => (None, usize::try_from(*offset).unwrap_or(usize::MAX)),
            Start::After(cursor) => (Some((rank(&cursor.key), cursor.host_id)), 0),
        };
        Self { after, skip, wanted, rows: BinaryHeap::new(), all: Vec::new() }
    }

    const fn keeps_all(&self) -> bool {
        self.skip.saturating_add(self.wanted) > KEPT_MAX
    }

    fn visit(&mut self, part: usize, source: &Part<'_>, rank: impl Fn(usize) -> u64) {
        let place = |row: usize| PartRow { part, row };
        if self.keeps_all() {
            let ranked = |row: usize| (rank(row), source.segment.id(row), place(row));
            let after = self.after;
            self.all.extend(
                source.hits.iter().map(ranked).filter(|row| after.is_none_or(|after| (row.0, row.1) > after)),
            );
            return;
        }
        let keep = self.skip + self.wanted;
        for row in source.hits.iter() {
            let rank = rank(row);
            // The rank alone decides for most rows, and spares them the look at the id.
            let is_full = self.rows.len() == keep;
            if is_full && self.rows.peek().is_some_and(|worst| rank > worst.0)
                || self.after.is_some_and(|after| rank < after.0)
            {
                continue;
            }
            let ranked = (rank, source.segment.id(row), place(row));
            if self.after.is_some_and(|after| (ranked.0, ranked.1) <= after) {
                continue;
            }
            if !is_full {
                self.rows.push(ranked);
            } else if let Some(mut worst) = self.rows.peek_mut()
                && ranked < *worst
            {
                *worst = ranked;
            }
        }
    }

    fn into_rows(mut self) -> Vec<PartRow> {
        let mut rows = self.rows.into_vec();
        if !self.all.is_empty() {
            rows = std::mem::take(&mut self.all);
            if self.skip >= rows.len() {
                return Vec::new();
            }
            rows.select_nth_unstable(self.skip);
            rows.drain(..self.skip);
            self.skip = 0;
            if rows.len() > self.wanted {
                rows.select_nth_unstable(self.wanted);
                rows.truncate(self.wanted);
            }
        }
        rows.sort_unstable();
        rows.into_iter().skip(self.skip).take(self.wanted).map(|(_, _, row)| row).collect()
    }
}
