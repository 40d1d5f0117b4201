//! The n-gram index of a list of texts: which texts hold which three bytes in a row.
//!
//! Besides every three bytes it knows every single byte. Two bytes are the union of the neighbouring
//! lists that begin with them, for which the last two bytes of a text are followed by an end mark.
//! Bytes are mapped to few classes first, so that lists can be counted in a small table.

use super::bits::BitSet;
use super::texts::{Pattern, Texts};

/// The class of the end mark; also of every byte that no text holds.
const END: u8 = 0;
/// Classes at most: 64³ lists are counted in 2 MB. Names of hosts use about 40.
const CLASSES_MAX: usize = 64;

/// An immutable index over the texts it was built from.
#[derive(Debug, Clone)]
pub(super) struct Grams {
    classes: Box<[u8; 256]>,
    /// Number of classes, the end mark included.
    base: u32,
    /// Whether the last class stands for several bytes, so that its hits need a look at the text.
    last_is_shared: bool,
    /// Ascending by gram.
    lists: Vec<List>,
    sparse: Vec<u16>,
    dense: Vec<u64>,
    texts: usize,
}

/// The texts that hold one gram: numbers from `start` in `sparse`, or a bit for each from `start` in `dense`.
#[derive(Debug, Clone, Copy)]
struct List {
    gram: u32,
    start: u32,
    len: u32,
}

/// Counting state of one gram while the index is built.
#[derive(Clone, Copy, Default)]
struct Tally {
    /// One past the last text that was counted, so that a text counts once.
    last: u32,
    /// First the number of texts, then where the next one goes.
    next: u32,
}

impl Grams {
    /// Indexes the texts, of which there are at most 65,536.
    pub(super) fn build(texts: &Texts) -> Self {
        let (classes, base, last_is_shared) = classes_of(texts);
        let mut grams = Self {
            classes,
            base,
            last_is_shared,
            lists: Vec::new(),
            sparse: Vec::new(),
            dense: Vec::new(),
            texts: texts.len(),
        };
        let mut tallies = grams.count(texts);
        grams.lay_out(&mut tallies);
        grams.fill(texts, &mut tallies);
        grams
    }

    fn count(&self, texts: &Texts) -> Vec<Tally> {
        let mut tallies = vec![Tally::default(); (self.base.pow(3) + self.base) as usize];
        for index in 0..texts.len() {
            let mark = index as u32 + 1;
            self.for_each_gram(texts.bytes(index), |gram| {
                let tally = &mut tallies[gram as usize];
                tally.next += u32::from(tally.last != mark);
                tally.last = mark;
            });
        }
        tallies
    }

    /// Gives each gram its list and turns its tally into the place of the list's first entry.
    fn lay_out(&mut self, tallies: &mut [Tally]) {
        let (mut sparse, mut dense) = (0, 0);
        for (gram, tally) in tallies.iter_mut().enumerate().filter(|(_, tally)| tally.next > 0) {
            let len = tally.next;
            let end = if self.is_dense(len) { &mut dense } else { &mut sparse };
            self.lists.push(List { gram: gram as u32, start: *end, len });
            *tally = Tally { last: 0, next: *end };
            *end += if self.is_dense(len) { self.words() as u32 } else { len };
        }
        self.lists.shrink_to_fit();
        self.sparse = vec![0; sparse as usize];
        self.dense = vec![0; dense as usize];
    }

    fn fill(&mut self, texts: &Texts, tallies: &mut [Tally]) {
        let (mut sparse, mut dense) = (std::mem::take(&mut self.sparse), std::mem::take(&mut self.dense));
        // A dense list's tally keeps its start and is told by the top bit, which no place reaches.
        for list in self.lists.iter().filter(|list| self.is_dense(list.len)) {
            tallies[list.gram as usize].next |= DENSE;
        }
        for index in 0..texts.len() {
            let mark = index as u32 + 1;
            self.for_each_gram(texts.bytes(index), |gram| {
                let tally = &mut tallies[gram as usize];
                if tally.next & DENSE != 0 {
                    dense[(tally.next & !DENSE) as usize + index / 64] |= 1 << (index % 64);
                } else if tally.last != mark {
                    tally.last = mark;
                    sparse[tally.next as usize] = index as u16;
                    tally.next += 1;
                }
            });
        }
        (self.sparse, self.dense) = (sparse, dense);
    }

    /// Calls `visit` for each byte and each three bytes of the text, the end mark included.
    fn for_each_gram(&self, text: &[u8], mut visit: impl FnMut(u32)) {
        let singles = self.base.pow(3);
        let class =
            |index: usize| u32::from(text.get(index).map_or(END, |&byte| self.classes[usize::from(byte)]));
        let (mut first, mut second) = (class(0), class(1));
        for index in 0..text.len() {
            let third = class(index + 2);
            visit(singles + first);
            if second != u32::from(END) {
                visit((first * self.base + second) * self.base + third);
            }
            (first, second) = (second, third);
        }
    }

    /// A bitmap is smaller than a list of 16-bit numbers from one text in sixteen on.
    const fn is_dense(&self, len: u32) -> bool {
        len as usize > self.texts / 16
    }

    const fn words(&self) -> usize {
        self.texts.div_ceil(64)
    }

    fn list(&self, gram: u32) -> Option<List> {
        let index = self.lists.binary_search_by_key(&gram, |list| list.gram).ok()?;
        Some(self.lists[index])
    }

    fn numbers(&self, list: List) -> &[u16] {
        &self.sparse[list.start as usize..][..list.len as usize]
    }

    fn bitmap(&self, list: List) -> &[u64] {
        &self.dense[list.start as usize..][..self.words()]
    }

    /// The texts that contain the pattern.
    pub(super) fn find(&self, texts: &Texts, pattern: &Pattern) -> BitSet {
        let classes: Vec<u8> = pattern.as_str().bytes().map(|byte| self.classes[usize::from(byte)]).collect();
        if classes.contains(&END) {
            return BitSet::empty(self.texts);
        }
        let is_exact =
            !(self.last_is_shared && classes.iter().any(|&class| u32::from(class) == self.base - 1));
        let candidates = match *classes {
            [] => BitSet::full(self.texts),
            [a] => self.union(self.base.pow(3) + u32::from(a), 1),
            [a, b] => self.union(self.gram([a, b, 0]), self.base),
            [a, b, c] => self.union(self.gram([a, b, c]), 1),
            _ => return self.find_long(texts, pattern, &classes),
        };
        if is_exact { candidates } else { verified(texts, pattern, candidates.iter(), self.texts) }
    }

    fn gram(&self, [a, b, c]: [u8; 3]) -> u32 {
        (u32::from(a) * self.base + u32::from(b)) * self.base + u32::from(c)
    }

    /// The texts in the lists of `count` neighbouring grams.
    fn union(&self, first: u32, count: u32) -> BitSet {
        let mut hits = BitSet::empty(self.texts);
        let from = self.lists.partition_point(|list| list.gram < first);
        for &list in self.lists[from..].iter().take_while(|list| list.gram - first < count) {
            if self.is_dense(list.len) {
                hits.unite_words(self.bitmap(list));
            } else {
                for &number in self.numbers(list) {
                    hits.insert(usize::from(number));
                }
            }
        }
        hits
    }

    /// A text with all the pattern's grams may still hold them apart, so each candidate is read.
    fn find_long(&self, texts: &Texts, pattern: &Pattern, classes: &[u8]) -> BitSet {
        let lists: Option<Vec<List>> =
            classes.windows(3).map(|three| self.list(self.gram([three[0], three[1], three[2]]))).collect();
        let Some(mut lists) = lists else { return BitSet::empty(self.texts) };
        lists.sort_by_key(|list| list.len);
        let (sparse, dense) = lists.split_at(lists.partition_point(|list| !self.is_dense(list.len)));
        let Some((rarest, others)) = sparse.split_first() else {
            let mut candidates = BitSet::full(self.texts);
            for &list in dense {
                candidates.intersect_words(self.bitmap(list));
            }
            return verified(texts, pattern, candidates.iter(), self.texts);
        };
        let mut candidates = self.numbers(*rarest).to_vec();
        for &list in others {
            retain_common(&mut candidates, self.numbers(list));
        }
        for &list in dense {
            let bitmap = self.bitmap(list);
            candidates.retain(|&number| bitmap[usize::from(number) / 64] >> (number % 64) & 1 == 1);
        }
        verified(texts, pattern, candidates.into_iter().map(usize::from), self.texts)
    }

    pub(super) const fn memory_bytes(&self) -> usize {
        256 + self.lists.capacity() * size_of::<List>()
            + self.sparse.capacity() * 2
            + self.dense.capacity() * 8
    }
}

/// Marks the tally of a dense list while lists are filled.
const DENSE: u32 = 1 << 31;

/// Gives each byte that occurs a class of its own, or the rare ones a common last one.
fn classes_of(texts: &Texts) -> (Box<[u8; 256]>, u32, bool) {
    let mut counts = [0_u32; 256];
    for index in 0..texts.len() {
        for &byte in texts.bytes(index) {
            counts[usize::from(byte)] += 1;
        }
    }
    let mut bytes: Vec<u8> = (0..=255_u8).filter(|&byte| counts[usize::from(byte)] > 0).collect();
    let is_shared = bytes.len() >= CLASSES_MAX;
    if is_shared {
        bytes.sort_by_key(|&byte| std::cmp::Reverse(counts[usize::from(byte)]));
    }
    let mut classes = Box::new([END; 256]);
    for (index, &byte) in bytes.iter().enumerate() {
        classes[usize::from(byte)] = (index + 1).min(CLASSES_MAX - 1) as u8;
    }
    let base = (bytes.len() + 1).min(CLASSES_MAX) as u32;
    (classes, base, is_shared)
}

/// Keeps the numbers that stand in `other` too; both ascend.
fn retain_common(numbers: &mut Vec<u16>, other: &[u16]) {
    let mut rest = other;
    numbers.retain(|number| {
        // Steps first, because neighbours are usually near; then halves what a step overshot.
        let mut step = 1;
        while step < rest.len() && rest[step] < *number {
            step *= 2;
        }
        let skipped = rest[..rest.len().min(step + 1)].partition_point(|other| other < number);
        rest = &rest[skipped..];
        rest.first() == Some(number)
    });
}

fn verified(texts: &Texts, pattern: &Pattern, candidates: impl Iterator<Item = usize>, len: usize) -> BitSet {
    let mut hits = BitSet::empty(len);
    for index in candidates.filter(|&index| pattern.is_within(texts.bytes(index))) {
        hits.insert(index);
    }
    hits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts_of(list: &[String]) -> Texts {
        let mut texts = Texts::default();
        for text in list {
            texts.push(text);
        }
        texts
    }

    proptest! {
        #[test]
        fn index_finds_what_reading_finds(
            list in proptest::collection::vec("[ab.]{0,6}", 0..200),
            pattern in "[abc.]{1,5}",
        ) {
            let texts = texts_of(&list);
            let pattern = Pattern::exact(&pattern);

            prop_assert_eq!(Grams::build(&texts).find(&texts, &pattern), texts.find(None, &pattern));
        }

        #[test]
        fn more_bytes_than_classes_are_searched_as_exactly(
            list in proptest::collection::vec("[\u{0}-\u{17f}]{0,12}", 100..200),
            pattern in "[\u{0}-\u{17f}]{1,2}",
        ) {
            let texts = texts_of(&list);
            let pattern = Pattern::exact(&pattern);

            prop_assert_eq!(Grams::build(&texts).find(&texts, &pattern), texts.find(None, &pattern));
        }
    }
}
