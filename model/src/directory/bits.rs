//! A fixed-length set of row numbers as one bit each.

use std::ops::Range;

/// A set of rows below a fixed length. Bits past the length are always zero.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct BitSet {
    words: Vec<u64>,
    len: usize,
}

impl BitSet {
    /// No row of `len`.
    pub(super) fn empty(len: usize) -> Self {
        Self { words: vec![0; len.div_ceil(64)], len }
    }

    /// Every row of `len`.
    pub(super) fn full(len: usize) -> Self {
        let mut words = vec![u64::MAX; len.div_ceil(64)];
        if let Some(last) = words.last_mut()
            && !len.is_multiple_of(64)
        {
            *last = (1 << (len % 64)) - 1;
        }
        Self { words, len }
    }

    /// The rows whose value passes `test`.
    pub(super) fn of<T: Copy>(values: &[T], test: impl Fn(T) -> bool) -> Self {
        let words = values.chunks(64).map(|chunk| {
            let mut flags = [0_u8; 64];
            for (flag, &value) in flags.iter_mut().zip(chunk) {
                *flag = u8::from(test(value));
            }
            packed(&flags)
        });
        Self { words: words.collect(), len: values.len() }
    }

    /// Adds one row at the end of the range, as member or not.
    pub(super) fn push(&mut self, member: bool) {
        if self.len.is_multiple_of(64) {
            self.words.push(0);
        }
        self.len += 1;
        if member {
            self.insert(self.len - 1);
        }
    }

    pub(super) fn contains(&self, row: usize) -> bool {
        self.words[row / 64] >> (row % 64) & 1 == 1
    }

    pub(super) fn insert(&mut self, row: usize) {
        self.words[row / 64] |= 1 << (row % 64);
    }

    pub(super) fn remove(&mut self, row: usize) {
        self.words[row / 64] &= !(1 << (row % 64));
    }

    pub(super) fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Members within `rows`.
    pub(super) fn count_within(&self, rows: Range<usize>) -> usize {
        let (first, last) = (rows.start / 64, rows.end / 64);
        let below = |row: usize| (1_u64 << (row % 64)) - 1;
        let word = |index: usize| self.words.get(index).copied().unwrap_or(0);
        if rows.start >= rows.end {
            return 0;
        }
        if first == last {
            return (word(first) & below(rows.end) & !below(rows.start)).count_ones() as usize;
        }
        let whole: usize = self.words[first + 1..last].iter().map(|word| word.count_ones() as usize).sum();
        let edges =
            (word(first) & !below(rows.start)).count_ones() + (word(last) & below(rows.end)).count_ones();
        whole + edges as usize
    }

    /// Keeps what `other` holds too.
    pub(super) fn intersect(&mut self, other: &Self) {
        self.intersect_words(&other.words);
    }

    /// As [`Self::intersect`], with the words of another set of this length.
    pub(super) fn intersect_words(&mut self, other: &[u64]) {
        for (word, other) in self.words.iter_mut().zip(other) {
            *word &= other;
        }
    }

    /// Adds what `other` holds.
    pub(super) fn unite(&mut self, other: &Self) {
        self.unite_words(&other.words);
    }

    /// As [`Self::unite`], with the words of another set of this length.
    pub(super) fn unite_words(&mut self, other: &[u64]) {
        for (word, other) in self.words.iter_mut().zip(other) {
            *word |= other;
        }
    }

    /// The members from `start` on, ascending.
    pub(super) fn iter_from(&self, start: usize) -> Members<'_> {
        let index = start / 64;
        let word = self.words.get(index).map_or(0, |word| word & !((1 << (start % 64)) - 1));
        Members { words: &self.words, index, word }
    }

    /// The members, ascending.
    pub(super) fn iter(&self) -> Members<'_> {
        self.iter_from(0)
    }

    pub(super) const fn memory_bytes(&self) -> usize {
        self.words.capacity() * 8
    }
}

/// Gathers the lowest bit of 64 bytes into one word.
fn packed(flags: &[u8; 64]) -> u64 {
    let mut word = 0;
    for (index, eight) in flags.as_chunks::<8>().0.iter().enumerate() {
        // Each factor moves one byte's bit to its place in the top byte; no two products meet.
        let byte = u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        word |= byte << (8 * index);
    }
    word
}

/// See [`BitSet::iter_from`].
#[derive(Debug)]
pub(super) struct Members<'a> {
    words: &'a [u64],
    index: usize,
    word: u64,
}

impl Iterator for Members<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        while self.word == 0 {
            self.index += 1;
            self.word = *self.words.get(self.index)?;
        }
        let row = self.index * 64 + self.word.trailing_zeros() as usize;
        self.word &= self.word - 1;
        Some(row)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn set_agrees_with_a_list_of_flags(flags in proptest::collection::vec(any::<bool>(), 0..300), a in 0..300_usize, b in 0..300_usize) {
            let set = BitSet::of(&flags, |flag| flag);
            let (a, b) = (a.min(flags.len()), b.min(flags.len()));

            let members = |from: usize, to: usize| (from..to).filter(|&row| flags[row]).collect::<Vec<_>>();

            prop_assert_eq!(set.iter_from(a).collect::<Vec<_>>(), members(a, flags.len()));
            prop_assert_eq!(set.count(), members(0, flags.len()).len());
            prop_assert_eq!(set.count_within(a..b), if a < b { members(a, b).len() } else { 0 });
            prop_assert_eq!(BitSet::full(flags.len()).count(), flags.len());
        }
    }
}
