//! The column of tag lists: each text cut behind its commas into pieces, of which hosts share most.
//!
//! The pieces joined are the text, whatever it is, so nothing depends on its being well-formed JSON.

use hashbrown::HashTable;
use memchr::memchr_iter;
use xxhash_rust::xxh3::xxh3_64;

use super::column::Place;
use super::texts::Texts;

/// A column of optional texts, each kept as the numbers of its pieces.
#[derive(Debug, Clone, Default)]
pub(super) struct TagsColumn {
    /// Where each row's list begins.
    starts: Vec<u32>,
    /// Lists: each piece's number plus one, then zero; a null's zero stands alone. Seven bits a byte,
    /// lowest first.
    lists: Vec<u8>,
    pieces: Texts,
    lookup: HashTable<u32>,
    /// Bytes of lists that no row has any more.
    lost: usize,
    /// Pieces when the column was gathered; later ones may replace pieces that are used no more.
    first_pieces: usize,
}

impl TagsColumn {
    /// Makes room for this many more rows.
    pub(super) fn reserve(&mut self, rows: usize) {
        self.starts.reserve(rows);
        self.lists.reserve(rows * 12);
    }

    /// Gathers the rows that `order` names, in that order.
    pub(super) fn gather(sources: &[&Self], order: &[Place]) -> Self {
        let mut column = Self::default();
        column.reserve(order.len());
        let mut known: Vec<Vec<Option<u32>>> =
            sources.iter().map(|source| vec![None; source.pieces.len()]).collect();
        for place in order {
            let (source, known) = (sources[usize::from(place.source)], &mut known[usize::from(place.source)]);
            column.begin_list();
            for number in source.numbers(usize::from(place.row)) {
                let here = *known[number as usize]
                    .get_or_insert_with(|| column.number_of(source.pieces.get(number as usize)));
                write_number(&mut column.lists, here + 1);
            }
            column.lists.push(0);
        }
        column.first_pieces = column.pieces.len();
        column.shrink();
        column
    }

    pub(super) fn push(&mut self, text: Option<&str>) {
        self.begin_list();
        let mut lists = std::mem::take(&mut self.lists);
        self.write_list(text, &mut lists);
        self.lists = lists;
        self.first_pieces = self.pieces.len();
    }

    pub(super) fn set(&mut self, row: usize, text: Option<&str>) {
        if self.is(row, text) {
            return;
        }
        let (start, len) = (self.starts[row] as usize, self.list_len(row));
        let mut list = Vec::with_capacity(16);
        self.write_list(text, &mut list);
        self.lost += len;
        if list.len() <= len {
            self.lost -= list.len();
            self.lists[start..start + list.len()].copy_from_slice(&list);
            return;
        }
        self.starts[row] = self.next_start();
        self.lists.extend(list);
    }

    fn is(&self, row: usize, text: Option<&str>) -> bool {
        let mut rest = text;
        for number in self.numbers(row) {
            rest = rest.and_then(|rest| rest.strip_prefix(self.pieces.get(number as usize)));
            if rest.is_none() {
                return false;
            }
        }
        rest.is_none_or(str::is_empty) && text.is_some() == self.is_some(row)
    }

    fn is_some(&self, row: usize) -> bool {
        self.lists[self.starts[row] as usize] != 0
    }

    /// Writes the row's text, or returns `None` when it has none.
    pub(super) fn get<'a>(&self, row: usize, text: &'a mut String) -> Option<&'a str> {
        text.clear();
        text.extend(self.numbers(row).map(|number| self.pieces.get(number as usize)));
        self.is_some(row).then_some(text.as_str())
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

    fn write_list(&mut self, text: Option<&str>, list: &mut Vec<u8>) {
        if let Some(text) = text {
            let mut from = 0;
            for comma in memchr_iter(b',', text.as_bytes()) {
                write_number(list, self.number_of(&text[from..=comma]) + 1);
                from = comma + 1;
            }
            // A text that ends with a comma has no last piece, unless it would have none at all.
            if from < text.len() || text.is_empty() {
                write_number(list, self.number_of(&text[from..]) + 1);
            }
        }
        list.push(0);
    }

    fn number_of(&mut self, piece: &str) -> u32 {
        let (pieces, hash) = (&self.pieces, xxh3_64(piece.as_bytes()));
        if let Some(&number) =
            self.lookup.find(hash, |number| pieces.bytes(*number as usize) == piece.as_bytes())
        {
            return number;
        }
        let number = self.pieces.len() as u32;
        self.pieces.push(piece);
        let pieces = &self.pieces;
        self.lookup.insert_unique(hash, number, |number| xxh3_64(pieces.bytes(*number as usize)));
        number
    }

    /// The numbers of the row's pieces.
    fn numbers(&self, row: usize) -> Numbers<'_> {
        Numbers { bytes: &self.lists[self.starts[row] as usize..] }
    }

    /// Bytes of the row's list, its end mark included.
    fn list_len(&self, row: usize) -> usize {
        // No byte of a number but the last of zero itself is zero.
        let list = &self.lists[self.starts[row] as usize..];
        list.iter().position(|&byte| byte == 0).map_or(list.len(), |end| end + 1)
    }
}

fn write_number(list: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        list.push(number as u8 | 0x80);
        number >>= 7;
    }
    list.push(number as u8);
}

/// Reads one list, up to its end once it is exhausted.
struct Numbers<'a> {
    bytes: &'a [u8],
}

impl Iterator for Numbers<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
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
        // The end mark; whoever asks again must not read on into the next list.
        if number == 0 {
            self.bytes = &[];
        }
        number.checked_sub(1)
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
