//! Up to [`SEGMENT_ROWS_MAX`] rows by column, in the order of their names.
//!
//! Names, ids and the order never change. The other columns change in place; a row that is gone, or
//! lives on elsewhere under another name, only loses its bit among the live ones until the next merge.

use super::address::{AddressColumn, AddressText};
use super::bits::BitSet;
use super::column::{InstantColumn, Place, PlaceColumn, TextColumn};
use super::names::{NameKey, Names};
use super::tags::TagsColumn;
use crate::limits::search::SEGMENT_ROWS_MAX;
use crate::{Host, HostId, HostRow, Timestamp};

/// The rows, dead ones included. Sorted by (name, id) once sealed.
#[derive(Debug, Clone, Default)]
pub(super) struct Segment {
    ids: Vec<HostId>,
    digests: Vec<u64>,
    live: BitSet,
    live_count: usize,
    pub(super) names: Names,
    pub(super) ipv4: AddressColumn<u32>,
    ipv6: AddressColumn<u128>,
    pub(super) public_ip: AddressColumn<u32>,
    pub(super) os_family: TextColumn,
    os_version: TextColumn,
    pub(super) platform: TextColumn,
    pub(super) status: TextColumn,
    tags_json: TagsColumn,
    pub(super) country: TextColumn,
    pub(super) subdivision: TextColumn,
    city: TextColumn,
    coordinates: PlaceColumn,
    pub(super) last_seen: InstantColumn,
    mtime: Vec<Timestamp>,
}

/// Room for the texts of one row that a segment does not hold as they are.
#[derive(Debug, Default)]
pub(super) struct RowTexts {
    fqdn: String,
    ipv4: AddressText,
    ipv6: AddressText,
    public_ip: AddressText,
    tags: String,
}

impl Segment {
    /// Gathers the rows that `order` names from other segments, in that order, and seals the result.
    pub(super) fn gather(sources: &[&Self], order: &[Place], grams_min: usize) -> Self {
        fn each<'a, T>(sources: &[&'a Segment], column: impl Fn(&'a Segment) -> &'a T) -> Vec<&'a T> {
            sources.iter().copied().map(column).collect()
        }
        fn plain<T: Copy>(
            sources: &[&Segment],
            order: &[Place],
            column: impl Fn(&Segment) -> &[T],
        ) -> Vec<T> {
            let value = |place: &Place| column(sources[usize::from(place.source)])[usize::from(place.row)];
            order.iter().map(value).collect()
        }
        let texts = |column: fn(&Self) -> &TextColumn| TextColumn::gather(&each(sources, column), order);
        let mut segment = Self {
            ids: plain(sources, order, |segment| &segment.ids),
            digests: plain(sources, order, |segment| &segment.digests),
            live: BitSet::full(order.len()),
            live_count: order.len(),
            names: Names::gather(&each(sources, |segment| &segment.names), order),
            ipv4: AddressColumn::gather(&each(sources, |segment| &segment.ipv4), order),
            ipv6: AddressColumn::gather(&each(sources, |segment| &segment.ipv6), order),
            public_ip: AddressColumn::gather(&each(sources, |segment| &segment.public_ip), order),
            os_family: texts(|segment| &segment.os_family),
            os_version: texts(|segment| &segment.os_version),
            platform: texts(|segment| &segment.platform),
            status: texts(|segment| &segment.status),
            tags_json: TagsColumn::gather(&each(sources, |segment| &segment.tags_json), order),
            country: texts(|segment| &segment.country),
            subdivision: texts(|segment| &segment.subdivision),
            city: texts(|segment| &segment.city),
            coordinates: PlaceColumn::gather(&each(sources, |segment| &segment.coordinates), order),
            last_seen: InstantColumn::gather(&each(sources, |segment| &segment.last_seen), order),
            mtime: plain(sources, order, |segment| &segment.mtime),
        };
        segment.names.seal(grams_min);
        segment
    }

    /// The live rows of the sources in the order of their names.
    pub(super) fn merged_order(sources: &[&Self]) -> Vec<Place> {
        let mut order = Vec::with_capacity(sources.iter().map(|source| source.live_count).sum());
        for (source, segment) in sources.iter().enumerate() {
            let places = segment.live.iter().map(|row| Place { source: source as u16, row: row as u16 });
            order.extend(places);
        }
        let source = |place: &Place| sources[usize::from(place.source)];
        let mut keyed: Vec<(u128, Place)> =
            order.iter().map(|place| (source(place).names.prefix(usize::from(place.row)), *place)).collect();
        // The sources are usually runs in order, which a stable sort merges instead of sorting.
        keyed.sort_by(|(a_prefix, a), (b_prefix, b)| {
            let key = |place: &Place| source(place).key(usize::from(place.row));
            a_prefix.cmp(b_prefix).then_with(|| key(a).cmp(&key(b)))
        });
        keyed.into_iter().map(|(_, place)| place).collect()
    }

    /// An empty segment with room for this many rows.
    pub(super) fn with_capacity(rows: usize) -> Self {
        let mut segment = Self::default();
        segment.ids.reserve(rows);
        segment.digests.reserve(rows);
        segment.names.reserve(rows);
        segment.ipv4.reserve(rows);
        segment.ipv6.reserve(rows);
        segment.public_ip.reserve(rows);
        for column in segment.texts_mut() {
            column.reserve(rows);
        }
        segment.tags_json.reserve(rows);
        segment.last_seen.reserve(rows);
        segment.mtime.reserve(rows);
        segment
    }

    pub(super) fn push(&mut self, row: &HostRow<'_>, digest: u64) {
        self.ids.push(row.host_id);
        self.digests.push(digest);
        self.live.push(true);
        self.live_count += 1;
        self.names.push(row.fqdn);
        self.ipv4.push(row.ipv4);
        self.ipv6.push(row.ipv6);
        self.public_ip.push(row.public_ip);
        self.os_family.push(row.os_family);
        self.os_version.push(row.os_version);
        self.platform.push(row.platform);
        self.status.push(row.status);
        self.tags_json.push(row.tags_json);
        self.country.push(row.geo_country_code);
        self.subdivision.push(row.geo_subdivision_code);
        self.city.push(row.geo_city);
        self.coordinates.push([row.geo_latitude, row.geo_longitude]);
        self.last_seen.push(row.last_seen);
        self.mtime.push(row.mtime);
    }

    /// Replaces everything but the name and the id of a live row.
    pub(super) fn update(&mut self, at: usize, row: &HostRow<'_>, digest: u64) {
        self.digests[at] = digest;
        self.ipv4.set(at, row.ipv4);
        self.ipv6.set(at, row.ipv6);
        self.public_ip.set(at, row.public_ip);
        self.os_family.set(at, row.os_family);
        self.os_version.set(at, row.os_version);
        self.platform.set(at, row.platform);
        self.status.set(at, row.status);
        self.tags_json.set(at, row.tags_json);
        self.country.set(at, row.geo_country_code);
        self.subdivision.set(at, row.geo_subdivision_code);
        self.city.set(at, row.geo_city);
        self.coordinates.set(at, [row.geo_latitude, row.geo_longitude]);
        self.last_seen.set(at, row.last_seen);
        self.mtime[at] = row.mtime;
    }

    /// Takes a live row out of every answer and count.
    pub(super) fn kill(&mut self, at: usize) {
        self.live.remove(at);
        self.live_count = self.live_count.checked_sub(1).expect("only a live row is killed, once");
        for column in self.texts_mut() {
            column.release(at);
        }
    }

    /// No row follows, and they stand in order: frees spare room and indexes the names.
    pub(super) fn seal(&mut self, grams_min: usize) {
        self.ids.shrink_to_fit();
        self.digests.shrink_to_fit();
        self.names.seal(grams_min);
        self.ipv4.shrink();
        self.ipv6.shrink();
        self.public_ip.shrink();
        for column in self.texts_mut() {
            column.shrink();
        }
        self.tags_json.shrink();
        self.coordinates.shrink();
        self.last_seen.shrink();
        self.mtime.shrink_to_fit();
    }

    fn texts(&self) -> [&TextColumn; 7] {
        [
            &self.os_family,
            &self.os_version,
            &self.platform,
            &self.status,
            &self.country,
            &self.subdivision,
            &self.city,
        ]
    }

    fn texts_mut(&mut self) -> [&mut TextColumn; 7] {
        [
            &mut self.os_family,
            &mut self.os_version,
            &mut self.platform,
            &mut self.status,
            &mut self.country,
            &mut self.subdivision,
            &mut self.city,
        ]
    }

    /// Whether every row is live and the rows stand in order.
    pub(super) fn is_sorted(&self) -> bool {
        self.live_count == self.ids.len() && (1..self.ids.len()).all(|row| self.key(row - 1) <= self.key(row))
    }

    /// Whether a row with any values could still be pushed or updated.
    pub(super) fn has_room(&self) -> bool {
        self.names.has_room()
            && self.coordinates.has_room()
            && self.texts().into_iter().all(TextColumn::has_room)
    }

    /// Rows whose room a merge would free: dead ones, or as many idle values of a column.
    pub(super) fn waste(&self) -> usize {
        let idle = self.texts().into_iter().map(TextColumn::idle).max().unwrap_or(0);
        idle.max(self.tags_json.idle()).max(self.ids.len() - self.live_count)
    }

    pub(super) const fn rows(&self) -> usize {
        self.ids.len()
    }

    pub(super) const fn live_rows(&self) -> usize {
        self.live_count
    }

    pub(super) const fn live(&self) -> &BitSet {
        &self.live
    }

    pub(super) fn id(&self, row: usize) -> HostId {
        self.ids[row]
    }

    pub(super) fn ids(&self) -> &[HostId] {
        &self.ids
    }

    pub(super) fn digest(&self, row: usize) -> u64 {
        self.digests[row]
    }

    /// By what the rows are ordered.
    pub(super) fn key(&self, row: usize) -> (NameKey<'_>, HostId) {
        (self.names.key(row), self.ids[row])
    }

    /// The row; `texts` keeps what is not stored as text.
    pub(super) fn row<'a>(&'a self, row: usize, texts: &'a mut RowTexts) -> HostRow<'a> {
        self.names.write(row, &mut texts.fqdn);
        let [geo_latitude, geo_longitude] = self.coordinates.get(row);
        HostRow {
            host_id: self.ids[row],
            fqdn: &texts.fqdn,
            ipv4: self.ipv4.get(row, &mut texts.ipv4),
            ipv6: self.ipv6.get(row, &mut texts.ipv6),
            public_ip: self.public_ip.get(row, &mut texts.public_ip),
            os_family: self.os_family.get(row),
            os_version: self.os_version.get(row),
            platform: self.platform.get(row),
            status: self.status.get(row),
            last_seen: self.last_seen.get(row),
            tags_json: self.tags_json.get(row, &mut texts.tags),
            geo_country_code: self.country.get(row),
            geo_subdivision_code: self.subdivision.get(row),
            geo_city: self.city.get(row),
            geo_latitude,
            geo_longitude,
            mtime: self.mtime[row],
        }
    }

    /// The row with its own text.
    pub(super) fn host(&self, row: usize) -> Host {
        self.row(row, &mut RowTexts::default()).to_host()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let texts: usize = self.texts().into_iter().map(TextColumn::memory_bytes).sum();
        size_of::<Self>()
            + self.ids.capacity() * 16
            + self.digests.capacity() * 8
            + self.live.memory_bytes()
            + self.names.memory_bytes()
            + self.ipv4.memory_bytes()
            + self.ipv6.memory_bytes()
            + self.public_ip.memory_bytes()
            + texts
            + self.tags_json.memory_bytes()
            + self.coordinates.memory_bytes()
            + self.last_seen.memory_bytes()
            + self.mtime.capacity() * 8
    }
}

// Row numbers and codes are 16 bits wide, and one code is kept back.
const _: () = assert!(SEGMENT_ROWS_MAX < u16::MAX as usize);
