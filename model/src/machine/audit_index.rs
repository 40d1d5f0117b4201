//! The audit log's columns in memory: 22 bytes an entry, so that a filtered page and its exact total are found
//! without reading the log.
//!
//! Entries are never changed or removed, so the index only grows; it follows the log by number. Words that
//! repeat (operations, actors, sites) are numbered once.

use std::hash::Hash;

use hashbrown::HashMap;

use crate::audit::{AuditFilter, AuditHead};
use crate::scope::Operator;
use crate::secrets::tenant;
use crate::{AuditId, SiteId, Timestamp};

/// The columns. Row `i` is entry `i + 1`.
#[derive(Debug, Default)]
pub struct AuditIndex {
    created_at: Vec<Timestamp>,
    /// The last four bytes of the id, which are random: enough to pass over nearly all others.
    id_tail: Vec<[u8; 4]>,
    operation: Vec<u16>,
    actor: Vec<u32>,
    site: Vec<u32>,
    operations: Words<String>,
    actors: Words<String>,
    sites: Words<SiteId>,
}

/// Numbers of a filtered page, newest first, and how many match in all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditPage {
    /// At most `limit` numbers.
    pub numbers: Vec<u64>,
    /// All that match. Exact.
    pub total: u64,
}

/// An entry that does not follow the last one: the log or its reader is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("entry {found} came where {expected} was expected")]
pub struct OutOfOrder {
    /// The number that should have come.
    pub expected: u64,
    /// The number that came.
    pub found: u64,
}

impl AuditIndex {
    /// The last number that it holds; zero when it is empty.
    pub fn last(&self) -> u64 {
        self.created_at.len() as u64
    }

    /// Adds the next entry.
    ///
    /// # Errors
    /// Another one came; nothing was added.
    pub fn push(&mut self, head: &AuditHead<'_>) -> Result<(), OutOfOrder> {
        let expected = self.last() + 1;
        if head.number != expected {
            return Err(OutOfOrder { expected, found: head.number });
        }
        let [.., a, b, c, d] = *head.id.as_bytes();
        self.created_at.push(head.created_at);
        self.id_tail.push([a, b, c, d]);
        // More operations than 65,535 share the last number; `select` then finds too many, never too few.
        self.operation.push(u16::try_from(self.operations.number(head.operation)).unwrap_or(u16::MAX));
        self.actor.push(head.actor_userid.map_or(NONE, |actor| self.actors.number(actor)));
        self.site.push(head.target_site_id.map_or(NONE, |site| self.sites.number(&site)));
        Ok(())
    }

    /// The entries that match and that the operator may see, newest first. Who may see some sites only sees
    /// the entries about them.
    pub fn select(&self, operator: &Operator, filter: &AuditFilter, offset: u64, limit: usize) -> AuditPage {
        let Some(wanted) = self.wanted(operator, filter) else { return AuditPage::default() };
        let mut page = AuditPage::default();
        for row in (0..self.created_at.len()).rev() {
            if !wanted.takes(self, row) {
                continue;
            }
            if page.total >= offset && page.numbers.len() < limit {
                page.numbers.push(row as u64 + 1);
            }
            page.total += 1;
        }
        page
    }

    /// The entries that may have this id, newest first; hardly ever more than one.
    pub fn candidates(&self, id: AuditId) -> Vec<u64> {
        let [.., a, b, c, d] = *id.as_bytes();
        let rows = self.id_tail.iter().enumerate().rev();
        rows.filter(|(_, tail)| **tail == [a, b, c, d]).map(|(row, _)| row as u64 + 1).collect()
    }

    /// The filter in numbers; none when a word never occurred, so that nothing can match.
    fn wanted(&self, operator: &Operator, filter: &AuditFilter) -> Option<Wanted> {
        let operation = match &filter.operation {
            Some(operation) => {
                Some(u16::try_from(self.operations.find(operation.as_str())?).unwrap_or(u16::MAX))
            }
            None => None,
        };
        let actor = match &filter.actor_userid {
            Some(actor) => Some(self.actors.find(actor.as_str())?),
            None => None,
        };
        let confined = operator.sites.is_some() || tenant::is_confined(operator) || filter.site.is_some();
        let sites = confined.then(|| {
            let shown =
                |site: &SiteId| operator.sees(*site) && filter.site.is_none_or(|wanted| wanted == *site);
            self.sites.words.iter().map(shown).collect()
        });
        let since = filter.since.unwrap_or(Timestamp::from_micros(i64::MIN));
        Some(Wanted { operation, actor, sites, since, until: filter.until })
    }
}

struct Wanted {
    operation: Option<u16>,
    actor: Option<u32>,
    /// By the site's number; none when every entry may be shown.
    sites: Option<Vec<bool>>,
    since: Timestamp,
    until: Option<Timestamp>,
}

impl Wanted {
    fn takes(&self, index: &AuditIndex, row: usize) -> bool {
        let created_at = index.created_at[row];
        let shown = |sites: &Vec<bool>| sites.get(index.site[row] as usize).is_some_and(|shown| *shown);
        self.operation.is_none_or(|operation| index.operation[row] == operation)
            && self.actor.is_none_or(|actor| index.actor[row] == actor)
            && self.sites.as_ref().is_none_or(shown)
            && created_at >= self.since
            && self.until.is_none_or(|until| created_at < until)
    }
}

/// Number of a word that is not there.
const NONE: u32 = u32::MAX;

/// Words by their numbers, in the order in which they first came.
#[derive(Debug)]
struct Words<W> {
    words: Vec<W>,
    numbers: HashMap<W, u32>,
}

impl<W> Default for Words<W> {
    fn default() -> Self {
        Self { words: Vec::new(), numbers: HashMap::new() }
    }
}

impl<W: Hash + Eq + Clone> Words<W> {
    fn number<B: ?Sized + Hash + Eq + ToOwned<Owned = W>>(&mut self, word: &B) -> u32
    where
        W: std::borrow::Borrow<B>,
    {
        if let Some(number) = self.numbers.get(word) {
            return *number;
        }
        // Fewer than 2³² entries fit into any memory that this index may take.
        let number = u32::try_from(self.words.len()).unwrap_or(NONE);
        self.words.push(word.to_owned());
        self.numbers.insert(word.to_owned(), number);
        number
    }

    fn find<B: ?Sized + Hash + Eq>(&self, word: &B) -> Option<u32>
    where
        W: std::borrow::Borrow<B>,
    {
        self.numbers.get(word).copied()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    #[derive(Debug, Clone)]
    struct Entry {
        at: i64,
        operation: u8,
        actor: Option<u8>,
        site: Option<u8>,
    }

    proptest! {
        #[test]
        fn a_page_is_what_reading_the_whole_log_would_find(
            entries in proptest::collection::vec(entry(), 0..60),
            wanted in entry(),
            (by_operation, by_actor, by_site, confined) in any::<(bool, bool, bool, bool)>(),
            (offset, limit) in (0_u64..10, 1_usize..10),
        ) {
            let mut index = AuditIndex::default();
            for (number, entry) in (1..).zip(&entries) {
                push(&mut index, number, entry);
            }
            let filter = AuditFilter {
                operation: by_operation.then(|| operation(wanted.operation)),
                actor_userid: wanted.actor.filter(|_| by_actor).map(actor),
                site: wanted.site.filter(|_| by_site).map(site),
                since: Some(Timestamp::from_secs(wanted.at)),
                until: Some(Timestamp::from_secs(wanted.at + 4)),
            };
            let operator = Operator {
                userid: String::new(),
                scopes: BTreeSet::new(),
                sites: confined.then(|| BTreeSet::from([site(0), site(1)])),
                tenancy: Default::default(),
            };

            let page = index.select(&operator, &filter, offset, limit);

            let matching: Vec<u64> = (1..)
                .zip(&entries)
                .filter(|(_, entry)| {
                    (wanted.at..wanted.at + 4).contains(&entry.at)
                        && (!by_operation || entry.operation == wanted.operation)
                        && (!by_actor || wanted.actor.is_none_or(|actor| entry.actor == Some(actor)))
                        && (!by_site || wanted.site.is_none_or(|site| entry.site == Some(site)))
                        && (!confined || entry.site.is_some_and(|site| site < 2))
                })
                .map(|(number, _)| number)
                .collect();
            let matching: Vec<u64> = matching.into_iter().rev().collect();
            let numbers: Vec<u64> = matching.iter().skip(offset as usize).take(limit).copied().collect();
            prop_assert_eq!(page, AuditPage { numbers, total: matching.len() as u64 });
        }
    }

    #[test]
    fn an_entry_is_found_by_its_id_and_a_gap_is_refused() {
        let mut index = AuditIndex::default();
        let entry = Entry { at: 1, operation: 0, actor: None, site: None };
        push(&mut index, 1, &entry);
        push(&mut index, 2, &entry);

        assert_eq!(index.candidates(AuditId(Uuid::from_u128(2))), [2]);
        assert_eq!(index.candidates(AuditId(Uuid::from_u128(9))), [0_u64; 0]);
        let head = head(4, &entry, "", None);
        assert_eq!(index.push(&head), Err(OutOfOrder { expected: 3, found: 4 }));
    }

    fn entry() -> impl Strategy<Value = Entry> {
        let some = proptest::option::of(0_u8..3);
        (0_i64..6, 0_u8..3, some.clone(), some).prop_map(|(at, operation, actor, site)| Entry {
            at,
            operation,
            actor,
            site,
        })
    }

    fn push(index: &mut AuditIndex, number: u64, entry: &Entry) {
        let (operation, actor) = (operation(entry.operation), entry.actor.map(actor));
        index.push(&head(number, entry, &operation, actor.as_deref())).unwrap();
    }

    fn head<'a>(number: u64, entry: &Entry, operation: &'a str, actor: Option<&'a str>) -> AuditHead<'a> {
        AuditHead {
            number,
            id: AuditId(Uuid::from_u128(number.into())),
            created_at: Timestamp::from_secs(entry.at),
            operation,
            actor_userid: actor,
            target_site_id: entry.site.map(site),
        }
    }

    fn operation(number: u8) -> String {
        format!("operation_{number}")
    }

    fn actor(number: u8) -> String {
        format!("actor {number}")
    }

    fn site(number: u8) -> SiteId {
        SiteId(Uuid::from_u128(number.into()))
    }
}
