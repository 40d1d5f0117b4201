//! The names of a segment's hosts: each cut behind its first dot into a head, one per row, and a domain,
//! which many rows share.
//!
//! Searching the few distinct domains and only the short heads costs a fraction of searching whole names.

use super::bits::BitSet;
use super::column::{Place, TextColumn};
use super::grams::Grams;
use super::texts::{Pattern, Texts, folded};

/// A name in its parts. Orders like the whole name, since a head that begins another one has no dot and
/// thus no domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NameKey<'a> {
    head: &'a str,
    domain: &'a str,
}

impl<'a> NameKey<'a> {
    pub(super) fn of(name: &'a str) -> Self {
        let (head, domain) = name.split_at(name.find('.').map_or(name.len(), |dot| dot + 1));
        Self { head, domain }
    }
}

/// The names by row.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    /// The folded name up to its first dot, the dot included.
    heads: Texts,
    /// The folded rest; null when the name has no dot.
    domains: TextColumn,
    /// The names that folding changed, as they came; ascending by row.
    cased: Vec<(u16, Box<str>)>,
    /// Boxed, as the other: only segments of many names have them.
    head_grams: Option<Box<Grams>>,
    domain_grams: Option<Box<Grams>>,
}

impl Names {
    /// Makes room for this many more rows.
    pub(super) fn reserve(&mut self, rows: usize) {
        self.heads.reserve(rows);
        self.domains.reserve(rows);
    }

    /// Gathers the rows that `order` names, in that order.
    pub(super) fn gather(sources: &[&Self], order: &[Place]) -> Self {
        let domains: Vec<&TextColumn> = sources.iter().map(|source| &source.domains).collect();
        let mut names = Self { domains: TextColumn::gather(&domains, order), ..Self::default() };
        names.heads.reserve(order.len());
        for (row, place) in order.iter().enumerate() {
            let (source, from) = (sources[usize::from(place.source)], usize::from(place.row));
            names.heads.push(source.heads.get(from));
            if let Some(name) = source.cased_name(from) {
                names.cased.push((row as u16, name.into()));
            }
        }
        names
    }

    pub(super) fn push(&mut self, name: &str) {
        let lower = folded(name);
        let key = NameKey::of(&lower);
        if *lower != *name {
            self.cased.push((self.heads.len() as u16, name.into()));
        }
        self.heads.push(key.head);
        self.domains.push(key.head.ends_with('.').then_some(key.domain));
    }

    /// No row follows: frees spare room and indexes lists of at least `grams_min` texts.
    pub(super) fn seal(&mut self, grams_min: usize) {
        self.heads.shrink();
        self.domains.freeze();
        self.cased.shrink_to_fit();
        let index = |texts: &Texts| (texts.len() >= grams_min).then(|| Box::new(Grams::build(texts)));
        self.head_grams = index(&self.heads);
        self.domain_grams = index(self.domains.values());
    }

    pub(super) const fn has_room(&self) -> bool {
        self.domains.has_room()
    }

    fn cased_name(&self, row: usize) -> Option<&str> {
        if self.cased.is_empty() {
            return None;
        }
        let index = self.cased.binary_search_by_key(&row, |(row, _)| usize::from(*row)).ok()?;
        Some(&self.cased[index].1)
    }

    fn folded_key(&self, row: usize) -> NameKey<'_> {
        NameKey { head: self.heads.get(row), domain: self.domains.get(row).unwrap_or_default() }
    }

    /// By what the row's name is ordered: the name as it came.
    pub(super) fn key(&self, row: usize) -> NameKey<'_> {
        self.cased_name(row).map_or_else(|| self.folded_key(row), NameKey::of)
    }

    /// The first 16 bytes of what [`Self::key`] stands for, as a number that orders like them.
    pub(super) fn prefix(&self, row: usize) -> u128 {
        let mut prefix = [0; 16];
        let key = self.key(row);
        let head = key.head.len().min(16);
        let domain = key.domain.len().min(16 - head);
        prefix[..head].copy_from_slice(&key.head.as_bytes()[..head]);
        prefix[head..head + domain].copy_from_slice(&key.domain.as_bytes()[..domain]);
        u128::from_be_bytes(prefix)
    }

    pub(super) fn is(&self, row: usize, name: &str) -> bool {
        let key = self.key(row);
        name.strip_prefix(key.head).is_some_and(|domain| domain == key.domain)
    }

    pub(super) fn write(&self, row: usize, name: &mut String) {
        let key = self.key(row);
        name.clear();
        name.push_str(key.head);
        name.push_str(key.domain);
    }

    /// The rows whose name contains the pattern, dead ones included.
    pub(super) fn find(&self, pattern: &NamePattern) -> BitSet {
        let domains = self.domains.values();
        let mut rows = self.domains.among(&domains.find(self.domain_grams.as_deref(), &pattern.whole));
        let (head, rest) = match &pattern.split {
            None => (&pattern.whole, None),
            Some((head, rest)) => (head, rest.as_ref()),
        };
        // A head's only dot is its last byte, so a part that ends with a dot can only be its end.
        let mut heads = match head.as_str() {
            "." => BitSet::full(self.heads.len()),
            _ => self.heads.find(self.head_grams.as_deref(), head),
        };
        if let Some(rest) = rest {
            let mut starting = domains.find(self.domain_grams.as_deref(), rest);
            for index in
                starting.clone().iter().filter(|&index| !domains.get(index).starts_with(rest.as_str()))
            {
                starting.remove(index);
            }
            heads.intersect(&self.domains.among(&starting));
        } else if head.as_str() == "." {
            heads = self.domains.among(&BitSet::full(domains.len()));
        }
        rows.unite(&heads);
        rows
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let cased: usize = self.cased.iter().map(|(_, name)| name.len() + 24).sum();
        let grams =
            [&self.head_grams, &self.domain_grams].into_iter().flatten().map(|grams| grams.memory_bytes());
        self.heads.memory_bytes() + self.domains.memory_bytes() + cased + grams.sum::<usize>()
    }
}

/// A text to look for in names.
#[derive(Debug, Clone)]
pub(super) struct NamePattern {
    whole: Pattern,
    /// Cut behind the first dot; the second part is absent when nothing follows.
    split: Option<(Pattern, Option<Pattern>)>,
}

impl NamePattern {
    pub(super) fn new(text: &str) -> Self {
        let whole = Pattern::ignoring_case(text);
        let key = NameKey::of(whole.as_str());
        let rest = (!key.domain.is_empty()).then(|| Pattern::exact(key.domain));
        let split = key.head.ends_with('.').then(|| (Pattern::exact(key.head), rest));
        Self { whole, split }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn key_orders_like_the_name(a in "[ab.]{0,5}", b in "[ab.]{0,5}") {
            prop_assert_eq!(NameKey::of(&a).cmp(&NameKey::of(&b)), a.cmp(&b));
        }

        #[test]
        fn prefix_orders_like_the_name_or_not_at_all(a in "[ab.]{0,20}", b in "[ab.]{0,20}") {
            let mut names = Names::default();
            names.push(&a);
            names.push(&b);

            let order = names.prefix(0).cmp(&names.prefix(1));

            prop_assert!(order.is_eq() || order == a.cmp(&b));
        }

        #[test]
        fn pattern_is_found_across_the_cut(
            list in proptest::collection::vec("[abB.]{0,6}", 1..60),
            pattern in "[aAb.]{1,4}",
            grams_min in prop_oneof![Just(1), Just(usize::MAX)],
        ) {
            let mut names = Names::default();
            for name in &list {
                names.push(name);
            }
            names.seal(grams_min);

            let found: Vec<usize> = names.find(&NamePattern::new(&pattern)).iter().collect();

            let wanted = pattern.to_lowercase();
            let read = |(row, name): (usize, &String)| name.to_lowercase().contains(&wanted).then_some(row);
            prop_assert_eq!(found, list.iter().enumerate().filter_map(read).collect::<Vec<_>>());
        }
    }
}
