//! Columns of a segment: values by row, packed where most of them allow it.
//!
//! A column of texts keeps each distinct value once and a code by row, together with how many live rows
//! hold it: those counters are the breakdowns.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use super::bits::BitSet;
use super::texts::Texts;
use crate::Timestamp;

/// Where a row of a new segment comes from: an index into a list of sources, and a row of that one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) source: u16,
    pub(super) row: u16,
}

/// Codes of one column at most, null included. One short of what 16 bits hold, for [`UNKNOWN`].
const CODES_MAX: usize = u16::MAX as usize;
/// No code: a value not met yet while codes are translated.
const UNKNOWN: u16 = u16::MAX;

/// Values that are compared one by one: up to here that is quicker than a look into a table for each row.
const COMPARED_MAX: usize = 4;

/// One code by row, in one byte while all fit.
#[derive(Debug, Clone)]
pub(super) enum Codes {
    Narrow(Vec<u8>),
    Wide(Vec<u16>),
}

impl Default for Codes {
    fn default() -> Self {
        Self::Narrow(Vec::new())
    }
}

impl Codes {
    pub(super) fn get(&self, row: usize) -> u16 {
        match self {
            Self::Narrow(codes) => u16::from(codes[row]),
            Self::Wide(codes) => codes[row],
        }
    }

    fn reserve(&mut self, rows: usize) {
        match self {
            Self::Narrow(codes) => codes.reserve(rows),
            Self::Wide(codes) => codes.reserve(rows),
        }
    }

    fn push(&mut self, code: u16) {
        match (&mut *self, u8::try_from(code)) {
            (Self::Narrow(codes), Ok(code)) => codes.push(code),
            (Self::Wide(codes), _) => codes.push(code),
            (Self::Narrow(_), Err(_)) => self.widened().push(code),
        }
    }

    fn set(&mut self, row: usize, code: u16) {
        match (&mut *self, u8::try_from(code)) {
            (Self::Narrow(codes), Ok(code)) => codes[row] = code,
            (Self::Wide(codes), _) => codes[row] = code,
            (Self::Narrow(_), Err(_)) => self.widened()[row] = code,
        }
    }

    fn widened(&mut self) -> &mut Vec<u16> {
        if let Self::Narrow(codes) = self {
            let mut wide = Vec::with_capacity(codes.capacity());
            wide.extend(codes.iter().map(|&code| u16::from(code)));
            *self = Self::Wide(wide);
        }
        match self {
            Self::Wide(codes) => codes,
            Self::Narrow(_) => unreachable!("made wide above"),
        }
    }

    /// The rows with this code.
    fn equal_to(&self, code: u16) -> BitSet {
        match (self, u8::try_from(code)) {
            (Self::Narrow(codes), Ok(code)) => BitSet::of(codes, |other| other == code),
            (Self::Narrow(codes), Err(_)) => BitSet::empty(codes.len()),
            (Self::Wide(codes), _) => BitSet::of(codes, |other| other == code),
        }
    }

    /// The rows whose code is chosen; `chosen` has an entry for every code.
    fn among(&self, chosen: &[bool]) -> BitSet {
        match self {
            Self::Narrow(codes) => {
                let mut table = [false; 256];
                let known = chosen.len().min(256);
                table[..known].copy_from_slice(&chosen[..known]);
                BitSet::of(codes, |code| table[usize::from(code)])
            }
            Self::Wide(codes) => BitSet::of(codes, |code| chosen[usize::from(code)]),
        }
    }

    fn shrink(&mut self) {
        match self {
            Self::Narrow(codes) => codes.shrink_to_fit(),
            Self::Wide(codes) => codes.shrink_to_fit(),
        }
    }

    const fn memory_bytes(&self) -> usize {
        match self {
            Self::Narrow(codes) => codes.capacity(),
            Self::Wide(codes) => codes.capacity() * 2,
        }
    }
}

/// A column of optional texts. Code 0 is null, code n the n-th distinct value.
#[derive(Debug, Clone, Default)]
pub(super) struct TextColumn {
    codes: Codes,
    values: Texts,
    /// Live rows by code.
    counts: Vec<u32>,
    lookup: HashTable<u16>,
    /// Codes other than null that no live row holds.
    idle: usize,
}

impl TextColumn {
    /// Makes room for this many more rows.
    pub(super) fn reserve(&mut self, rows: usize) {
        self.codes.reserve(rows);
    }

    /// Gathers the rows that `order` names, in that order.
    pub(super) fn gather(sources: &[&Self], order: &[Place]) -> Self {
        let mut column = Self::default();
        column.reserve(order.len());
        let mut known: Vec<Vec<u16>> =
            sources.iter().map(|source| vec![UNKNOWN; source.values.len() + 1]).collect();
        for place in order {
            let source = sources[usize::from(place.source)];
            let code = source.codes.get(usize::from(place.row));
            let code_here = &mut known[usize::from(place.source)][usize::from(code)];
            if *code_here == UNKNOWN {
                *code_here = column.code_for(source.value(code));
            }
            column.codes.push(*code_here);
            column.count_up(*code_here);
        }
        column.shrink();
        column
    }

    pub(super) fn push(&mut self, value: Option<&str>) {
        let code = self.code_for(value);
        self.codes.push(code);
        self.count_up(code);
    }

    pub(super) fn get(&self, row: usize) -> Option<&str> {
        self.value(self.codes.get(row))
    }

    /// Replaces a live row's value.
    pub(super) fn set(&mut self, row: usize, value: Option<&str>) {
        let old = self.codes.get(row);
        if self.value(old) == value {
            return;
        }
        let new = self.code_for(value);
        self.count_up(new);
        self.count_down(old);
        self.codes.set(row, new);
    }

    /// Counts a live row no more.
    pub(super) fn release(&mut self, row: usize) {
        self.count_down(self.codes.get(row));
    }

    pub(super) fn value(&self, code: u16) -> Option<&str> {
        (code > 0).then(|| self.values.get(usize::from(code) - 1))
    }

    /// The distinct values: code n stands at n − 1.
    pub(super) const fn values(&self) -> &Texts {
        &self.values
    }

    pub(super) const fn codes(&self) -> &Codes {
        &self.codes
    }

    /// Each value that a live row holds, with how many do.
    pub(super) fn counts(&self) -> impl Iterator<Item = (Option<&str>, u32)> {
        let values = (0..=u16::MAX).map(|code| self.value(code));
        self.counts
            .iter()
            .copied()
            .zip(values)
            .filter(|(count, _)| *count > 0)
            .map(|(count, value)| (value, count))
    }

    /// The rows with this value, dead ones included; `None` when no live row has it.
    pub(super) fn equal_to(&self, value: &str) -> Option<BitSet> {
        let code = self.code_of(value)?;
        (self.counts[usize::from(code)] > 0).then(|| self.codes.equal_to(code))
    }

    /// The rows that hold one of the chosen values, each named by its place in [`Self::values`].
    pub(super) fn among(&self, chosen: &BitSet) -> BitSet {
        let count = chosen.count();
        if count == self.values.len() && self.counts.first() == Some(&0) {
            return BitSet::full(self.rows());
        }
        if count <= COMPARED_MAX {
            let mut rows = BitSet::empty(self.rows());
            chosen.iter().for_each(|index| rows.unite(&self.codes.equal_to(index as u16 + 1)));
            return rows;
        }
        let mut table = vec![false; self.values.len() + 1];
        chosen.iter().for_each(|index| table[index + 1] = true);
        self.codes.among(&table)
    }

    fn rows(&self) -> usize {
        match &self.codes {
            Codes::Narrow(codes) => codes.len(),
            Codes::Wide(codes) => codes.len(),
        }
    }

    /// Whether one more distinct value has a code.
    pub(super) const fn has_room(&self) -> bool {
        self.values.len() + 1 < CODES_MAX
    }

    /// Distinct values that are kept though no live row holds them.
    pub(super) const fn idle(&self) -> usize {
        self.idle
    }

    fn code_of(&self, value: &str) -> Option<u16> {
        let is_value = |code: &u16| self.values.bytes(usize::from(*code) - 1) == value.as_bytes();
        self.lookup.find(xxh3_64(value.as_bytes()), is_value).copied()
    }

    fn code_for(&mut self, value: Option<&str>) -> u16 {
        if self.counts.is_empty() {
            self.counts.push(0);
        }
        let Some(value) = value else { return 0 };
        if let Some(code) = self.code_of(value) {
            return code;
        }
        assert!(self.has_room(), "a segment is closed before a column runs out of codes");
        self.values.push(value);
        self.counts.push(0);
        self.idle += 1;
        let code = self.values.len() as u16;
        let values = &self.values;
        let hash_of = |code: &u16| xxh3_64(values.bytes(usize::from(*code) - 1));
        self.lookup.insert_unique(xxh3_64(value.as_bytes()), code, hash_of);
        code
    }

    fn count_up(&mut self, code: u16) {
        let count = &mut self.counts[usize::from(code)];
        self.idle -= usize::from(code > 0 && *count == 0);
        *count += 1;
    }

    fn count_down(&mut self, code: u16) {
        let count = &mut self.counts[usize::from(code)];
        *count = count.checked_sub(1).expect("only a live row is counted down, once");
        self.idle += usize::from(code > 0 && *count == 0);
    }

    pub(super) fn shrink(&mut self) {
        self.codes.shrink();
        self.values.shrink();
        self.counts.shrink_to_fit();
    }

    /// No value is looked up or counted any more; only whether there is null stays known.
    pub(super) fn freeze(&mut self) {
        self.lookup = HashTable::new();
        self.counts.truncate(1);
        self.shrink();
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.codes.memory_bytes()
            + self.values.memory_bytes()
            + self.counts.capacity() * 4
            + self.lookup.allocation_size()
    }
}

/// A column of optional instants.
#[derive(Debug, Clone, Default)]
pub(super) struct InstantColumn {
    micros: Vec<i64>,
    present: BitSet,
}

impl InstantColumn {
    /// Makes room for this many more rows.
    pub(super) fn reserve(&mut self, rows: usize) {
        self.micros.reserve(rows);
    }

    pub(super) fn gather(sources: &[&Self], order: &[Place]) -> Self {
        let mut column = Self { micros: Vec::with_capacity(order.len()), present: BitSet::default() };
        for place in order {
            column.push(sources[usize::from(place.source)].get(usize::from(place.row)));
        }
        column
    }

    pub(super) fn push(&mut self, instant: Option<Timestamp>) {
        self.micros.push(instant.map_or(0, Timestamp::as_micros));
        self.present.push(instant.is_some());
    }

    pub(super) fn get(&self, row: usize) -> Option<Timestamp> {
        self.present.contains(row).then(|| Timestamp::from_micros(self.micros[row]))
    }

    pub(super) fn set(&mut self, row: usize, instant: Option<Timestamp>) {
        self.micros[row] = instant.map_or(0, Timestamp::as_micros);
        if instant.is_some() { self.present.insert(row) } else { self.present.remove(row) }
    }

    /// The rows with `from <= instant < to`; an absent bound does not bind, a null instant never passes.
    pub(super) fn within(&self, from: Option<Timestamp>, to: Option<Timestamp>) -> BitSet {
        let from = from.map_or(i64::MIN, Timestamp::as_micros);
        let mut rows = match to.map(Timestamp::as_micros) {
            Some(to) => BitSet::of(&self.micros, |micros| micros >= from && micros < to),
            None => BitSet::of(&self.micros, |micros| micros >= from),
        };
        rows.intersect(&self.present);
        rows
    }

    pub(super) fn shrink(&mut self) {
        self.micros.shrink_to_fit();
    }

    pub(super) const fn memory_bytes(&self) -> usize {
        self.micros.capacity() * 8 + self.present.memory_bytes()
    }
}

/// A column of latitude and longitude. Hosts share few places, so each distinct pair is kept once.
#[derive(Debug, Clone, Default)]
pub(super) struct PlaceColumn {
    codes: Codes,
    pairs: Vec<[u64; 2]>,
    lookup: HashTable<u16>,
}

/// Stands for a missing degree: the bits of one of the numbers that are none, which no row passes its check with.
const NO_DEGREE: u64 = u64::MAX;

fn pair_of(degrees: [Option<f64>; 2]) -> [u64; 2] {
    degrees.map(|degree| degree.map_or(NO_DEGREE, f64::to_bits))
}

impl PlaceColumn {
    pub(super) fn gather(sources: &[&Self], order: &[Place]) -> Self {
        let mut column = Self::default();
        column.codes.reserve(order.len());
        let mut known: Vec<Vec<u16>> =
            sources.iter().map(|source| vec![UNKNOWN; source.pairs.len()]).collect();
        for place in order {
            let source = sources[usize::from(place.source)];
            let code = usize::from(source.codes.get(usize::from(place.row)));
            let code_here = &mut known[usize::from(place.source)][code];
            if *code_here == UNKNOWN {
                *code_here = column.code_for(source.pairs[code]);
            }
            column.codes.push(*code_here);
        }
        column.shrink();
        column
    }

    pub(super) fn push(&mut self, degrees: [Option<f64>; 2]) {
        let code = self.code_for(pair_of(degrees));
        self.codes.push(code);
    }

    pub(super) fn get(&self, row: usize) -> [Option<f64>; 2] {
        let degree = |bits: u64| (bits != NO_DEGREE).then(|| f64::from_bits(bits));
        self.pairs[usize::from(self.codes.get(row))].map(degree)
    }

    pub(super) fn set(&mut self, row: usize, degrees: [Option<f64>; 2]) {
        let code = self.code_for(pair_of(degrees));
        self.codes.set(row, code);
    }

    pub(super) const fn has_room(&self) -> bool {
        self.pairs.len() < CODES_MAX
    }

    fn code_for(&mut self, pair: [u64; 2]) -> u16 {
        let hash_of = |[latitude, longitude]: [u64; 2]| {
            xxh3_64((u128::from(latitude) << 64 | u128::from(longitude)).to_le_bytes().as_slice())
        };
        let (pairs, hash) = (&mut self.pairs, hash_of(pair));
        if let Some(&code) = self.lookup.find(hash, |code| pairs[usize::from(*code)] == pair) {
            return code;
        }
        assert!(pairs.len() < CODES_MAX, "a segment is closed before a column runs out of codes");
        let code = pairs.len() as u16;
        pairs.push(pair);
        self.lookup.insert_unique(hash, code, |code| hash_of(pairs[usize::from(*code)]));
        code
    }

    pub(super) fn shrink(&mut self) {
        self.codes.shrink();
        self.pairs.shrink_to_fit();
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.codes.memory_bytes() + self.pairs.capacity() * 16 + self.lookup.allocation_size()
    }
}
