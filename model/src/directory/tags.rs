//! The column of tag lists: each text cut behind its commas into pieces, of which hosts share most.
//!
//! The pieces joined are the text, whatever it is, so nothing depends on its being well-formed JSON.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use super::column::Place;
use super::texts::Texts;

/// A column of optional texts, each kept as the numbers of its pieces.
#[derive(Debug, Clone, Default)]
pub(super) struct TagsColumn {
    /// Where each row's list begins.
    starts: Vec<u32>,
    /// Lists: how many pieces, zero for null, then the number of each; seven bits a byte, lowest first.
    lists: Vec<u8>,
    pieces: Texts,
    lookup: HashTable<u32>,
    /// Bytes of lists that no row has any more.
    lost: usize,
    /// Pieces when the column was gathered; later ones may replace pieces that are used no more.
    first_pieces: usize,
}

impl TagsColumn {
    /// Gathers the rows that `order` names, in that order.
    pub(super) fn gather(sources: &[&Self], order: &[Place]) -> Self {
        let mut column = Self::default();
        let mut known: Vec<Vec<Option<u32>>> =
            sources.iter().map(|source| vec![None; source.pieces.len()]).collect();
        for place in order {
            let (source, known) = (sources[usize::from(place.source)], &mut known[usize::from(place.source)]);
            let mut numbers = source.numbers(usize::from(place.row));
            column.begin_list();
            write_number(&mut column.lists, numbers.next().unwrap_or(0));
            for number in numbers {
                let here = *known[number as usize]
                    .get_or_insert_with(|| column.number_of(source.pieces.get(number as usize)));
                write_number(&mut column.lists, here);
            }
        }
        column.first_pieces = column.pieces.len();
        column.shrink();
        column
    }

    pub(super) fn push(&mut self, text: Option<&str>) {
        let list = self.list_of(text);
        self.begin_list();
        self.lists.extend(list);
        self.first_pieces = self.pieces.len();
    }

    pub(super) fn set(&mut self, row: usize, text: Option<&str>) {
        let (start, len) = (self.starts[row] as usize, self.list_len(row));
        let list = self.list_of(text);
        let old = &mut self.lists[start..start + len];
        if list == *old {
            return;
        }
        self.lost += len;
        if list.len() <= len {
            self.lost -= list.len();
            old[..list.len()].copy_from_slice(&list);
            return;
        }
        self.starts[row] = self.next_start();
        self.lists.extend(list);
    }

    /// Writes the row's text, or returns `None` when it has none.
    pub(super) fn get<'a>(&self, row: usize, text: &'a mut String) -> Option<&'a str> {
        let mut numbers = self.numbers(row);
        let pieces = numbers.next().unwrap_or(0);
        text.clear();
        text.extend(numbers.map(|number| self.pieces.get(number as usize)));
        (pieces > 0).then_some(text.as_str())
    }

    /// Rows whose room is wasted.
    pub(super) fn idle(&self) -> usize {
        let lost_rows = self.lost * self.starts.len() / self.lists.len().max(1);
        lost_rows.max(self.pieces.len() - self.first_pieces)
    }

    pub(super) fn shrink(&mut self) {
        self.starts.shrink_to_fit();
        self.lists.shrink_to_fit();
        self.pieces.shrink();
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.starts.capacity() * 4
            + self.lists.capacity()
            + self.pieces.memory_bytes()
            + self.lookup.allocation_size()
    }

    fn begin_list(&mut self) {
        self.starts.push(self.next_start());
    }

    fn next_start(&self) -> u32 {
        u32::try_from(self.lists.len()).expect("a segment's tags stay below 4 GiB")
    }

    fn list_of(&mut self, text: Option<&str>) -> Vec<u8> {
        let Some(text) = text else { return vec![0] };
        let mut list = Vec::with_capacity(16);
        write_number(&mut list, pieces_of(text).count() as u32);
        for piece in pieces_of(text) {
            write_number(&mut list, self.number_of(piece));
        }
        list
    }

    fn number_of(&mut self, piece: &str) -> u32 {
        let (pieces, hash) = (&self.pieces, xxh3_64(piece.as_bytes()));
        if let Some(&number) = self.lookup.find(hash, |number| pieces.get(*number as usize) == piece) {
            return number;
        }
        let number = self.pieces.len() as u32;
        self.pieces.push(piece);
        let pieces = &self.pieces;
        self.lookup.insert_unique(hash, number, |number| xxh3_64(pieces.bytes(*number as usize)));
        number
    }

    /// How many pieces the row has, then their numbers.
    fn numbers(&self, row: usize) -> Numbers<'_> {
        Numbers { bytes: &self.lists[self.starts[row] as usize..], left: None }
    }

    fn list_len(&self, row: usize) -> usize {
        let mut numbers = self.numbers(row);
        let whole = numbers.bytes.len();
        numbers.by_ref().for_each(drop);
        whole - numbers.bytes.len()
    }
}

/// The pieces of a text, at least one.
fn pieces_of(text: &str) -> impl Iterator<Item = &str> {
    let empty = text.is_empty().then_some("");
    text.split_inclusive(',').chain(empty)
}

fn write_number(list: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        list.push(number as u8 | 0x80);
        number >>= 7;
    }
    list.push(number as u8);
}

/// Reads one list.
struct Numbers<'a> {
    bytes: &'a [u8],
    /// Numbers to come; unknown before the first, which tells.
    left: Option<u32>,
}

impl Iterator for Numbers<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        if self.left == Some(0) {
            return None;
        }
        let (mut number, mut shift) = (0, 0);
        loop {
            let (&byte, rest) = self.bytes.split_first()?;
            self.bytes = rest;
            number |= u32::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                break;
            }
        }
        self.left = Some(self.left.map_or(number, |left| left - 1));
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn tags_come_back_as_they_came(
            first in proptest::collection::vec(proptest::option::of("[a,]{0,9}|[a-z],[a-z]{2}|(x,){0,300}"), 1..200),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), proptest::option::of("[ab,]{0,20}")), 0..50),
        ) {
            let mut texts = first;
            let mut column = TagsColumn::default();
            for text in &texts {
                column.push(text.as_deref());
            }
            for (index, text) in changes {
                let row = index.index(texts.len());
                column.set(row, text.as_deref());
                texts[row] = text;
            }
            let order: Vec<Place> = (0..texts.len()).rev().map(|row| Place { source: 0, row: row as u16 }).collect();
            let gathered = TagsColumn::gather(&[&column], &order);

            let mut room = String::new();
            for (row, text) in texts.iter().enumerate() {
                prop_assert_eq!(column.get(row, &mut room), text.as_deref());
                prop_assert_eq!(gathered.get(texts.len() - 1 - row, &mut room), text.as_deref());
            }
            prop_assert_eq!(gathered.idle(), 0);
        }
    }
}
