//! Texts stored end to end, the pattern searched in them, and how both forget about case.

use std::borrow::Cow;

use memchr::memmem::Finder;

use super::bits::BitSet;
use super::grams::Grams;

/// The text without regard to case: every character in its lower-case form.
///
/// Character by character, unlike [`str::to_lowercase`], which writes a sigma at a word's end in another
/// way than within it, so that a part of a text would not be a part of the folded text.
pub(super) fn folded(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase()) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().flat_map(char::to_lowercase).collect())
}

/// A text to look for, literally.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    text: String,
    finder: Finder<'static>,
}

impl Pattern {
    /// Looks for exactly these bytes; not empty.
    pub(super) fn exact(text: &str) -> Self {
        Self { text: text.to_owned(), finder: Finder::new(text).into_owned() }
    }

    /// Looks for the folded text in folded texts.
    pub(super) fn ignoring_case(text: &str) -> Self {
        Self::exact(&folded(text))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    pub(super) fn is_within(&self, text: &[u8]) -> bool {
        self.finder.find(text).is_some()
    }
}

/// A list of texts in one allocation.
#[derive(Debug, Clone, Default)]
pub(super) struct Texts {
    text: String,
    ends: Vec<u32>,
}

impl Texts {
    /// Makes room for this many more texts of about 16 bytes.
    pub(super) fn reserve(&mut self, texts: usize) {
        self.ends.reserve(texts);
        self.text.reserve(texts * 16);
    }

    pub(super) fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.ends.push(u32::try_from(self.text.len()).expect("a segment's texts stay below 4 GiB"));
    }

    pub(super) const fn len(&self) -> usize {
        self.ends.len()
    }

    fn start(&self, index: usize) -> usize {
        if index == 0 { 0 } else { self.ends[index - 1] as usize }
    }

    pub(super) fn get(&self, index: usize) -> &str {
        &self.text[self.start(index)..self.ends[index] as usize]
    }

    pub(super) fn bytes(&self, index: usize) -> &[u8] {
        &self.text.as_bytes()[self.start(index)..self.ends[index] as usize]
    }

    /// The texts that contain the pattern; by the index where there is one, else by reading them all.
    pub(super) fn find(&self, grams: Option<&Grams>, pattern: &Pattern) -> BitSet {
        match grams {
            Some(grams) => grams.find(self, pattern),
            None => self.scan(pattern),
        }
    }

    fn scan(&self, pattern: &Pattern) -> BitSet {
        let mut hits = BitSet::empty(self.len());
        let (mut from, mut index) = (0, 0);
        while let Some(at) = pattern.finder.find(&self.text.as_bytes()[from..]) {
            let at = from + at;
            while self.ends[index] as usize <= at {
                index += 1;
            }
            if at + pattern.text.len() <= self.ends[index] as usize {
                hits.insert(index);
                from = self.ends[index] as usize;
            } else {
                from = at + 1;
            }
        }
        hits
    }

    pub(super) fn shrink(&mut self) {
        self.text.shrink_to_fit();
        self.ends.shrink_to_fit();
    }

    pub(super) const fn memory_bytes(&self) -> usize {
        self.text.capacity() + self.ends.capacity() * 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_found_within_one_entry_and_not_across_two() {
        let mut texts = Texts::default();
        for text in ["ab", "", "ba", "aab"] {
            texts.push(text);
        }

        let found = |pattern: &str| texts.find(None, &Pattern::exact(pattern)).iter().collect::<Vec<_>>();

        assert_eq!(found("ab"), [0, 3]);
        assert_eq!(found("bb"), Vec::<usize>::new());
        assert_eq!(found("aa"), [3]);
        assert_eq!(found("b"), [0, 2, 3]);
    }

    #[test]
    fn folding_keeps_parts_parts() {
        assert_eq!(folded("ΟΔΟΣ.GR"), "οδοσ.gr");
        assert_eq!(folded("Straße"), "straße");
    }
}
