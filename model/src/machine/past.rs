//! How a host looked before: what a coordinator's log says of one host, word by word.
//!
//! The log holds whole rows and removals, so the last word at or before a moment decides. Before the first
//! kept word a site's checkpoint tells, when it is older than that word; otherwise nobody knows, and the
//! answer is from when on somebody does. A removal counts for its own site alone: a site may send one for a
//! host that another holds.

use std::collections::{BTreeMap, VecDeque};

use memchr::memmem::Finder;

use crate::host::{Host, HostRow};
use crate::{HostId, SiteId, Timestamp};

/// What one record of the log says of the host.
#[derive(Debug, Clone, PartialEq)]
pub struct Word {
    /// Whose record it is.
    pub site: SiteId,
    /// Its place in the log.
    pub position: u64,
    /// When it arrived.
    pub at: Timestamp,
    /// The host's whole row; none when the site removed it.
    pub row: Option<Host>,
}

/// What is known of the host at one site before that site's first kept word.
#[derive(Debug, Clone, PartialEq)]
pub enum Before {
    /// The site held it like this.
    Held(Box<Host>),
    /// The site did not hold it.
    Absent,
    /// What would tell is folded away.
    Unknown,
}

/// Nobody knows any more how the host looked then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what the host looked like then is no longer kept: ask for {earliest} or later")]
pub struct NotKept {
    /// The earliest instant that can be read.
    pub earliest: Timestamp,
}

/// Finds the records that may be about a host, without decoding them.
#[derive(Debug)]
pub struct Mention(Finder<'static>);

impl Mention {
    /// Of this host.
    pub fn of(host: HostId) -> Self {
        Self(Finder::new(host.as_bytes()).into_owned())
    }

    /// Whether the host's id stands in these bytes, wherever.
    pub fn is_in(&self, body: &[u8]) -> bool {
        self.0.find(body).is_some()
    }
}

/// One host at one moment. Takes all kept words in the order of the log; needs memory for one row a site.
#[derive(Debug)]
pub struct Glimpse {
    at: Timestamp,
    sites: BTreeMap<SiteId, Heard>,
}

#[derive(Debug)]
struct Heard {
    first_position: u64,
    first_at: Timestamp,
    /// The last word at or before the moment.
    last: Option<Option<Host>>,
}

impl Glimpse {
    /// The host at this moment.
    pub const fn new(at: Timestamp) -> Self {
        Self { at, sites: BTreeMap::new() }
    }

    /// Takes the next word.
    pub fn hear(&mut self, word: Word) {
        let heard = self.sites.entry(word.site).or_insert(Heard {
            first_position: word.position,
            first_at: word.at,
            last: None,
        });
        if word.at <= self.at {
            heard.last = Some(word.row);
        }
    }

    /// The sites that had a word, with the place of the first one.
    pub fn sites(&self) -> Vec<(SiteId, u64)> {
        self.sites.iter().map(|(site, heard)| (*site, heard.first_position)).collect()
    }

    /// Decides. `before` has every site of [`Self::sites`] and whoever holds the host now;
    /// `complete_from` is the instant from which on no word is missing, none when none ever was dropped.
    ///
    /// # Errors
    /// [`NotKept`]: ask for a later moment.
    pub fn answer(
        mut self,
        before: BTreeMap<SiteId, Before>,
        complete_from: Option<Timestamp>,
    ) -> Result<Option<(SiteId, Host)>, NotKept> {
        let mut unknown_until = None;
        let mut found = None;
        for (site, before) in before {
            let heard = self.sites.remove(&site);
            match (heard.as_ref().and_then(|heard| heard.last.clone()), before) {
                (Some(Some(host)), _) => found = Some((site, host)),
                (None, Before::Held(host)) => found = Some((site, *host)),
                (None, Before::Unknown) => {
                    unknown_until = unknown_until.max(heard.map(|heard| heard.first_at));
                }
                (Some(None), _) | (None, Before::Absent) => {}
            }
        }
        let too_early = complete_from.is_some_and(|from| self.at < from);
        if too_early || (found.is_none() && unknown_until.is_some()) {
            return Err(NotKept { earliest: unknown_until.max(complete_from).unwrap_or(self.at) });
        }
        Ok(found)
    }
}

/// What a word did to the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    /// The site did not hold it before.
    Added,
    /// Members of its row changed.
    Changed,
    /// The site no longer holds it.
    Removed,
    /// The oldest kept word: what changed by it is not known.
    FirstKept,
}

impl Happened {
    /// The spelling in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Removed => "removed",
            Self::FirstKept => "first_kept",
        }
    }
}

/// A member of a row that changed.
#[derive(Debug, Clone, PartialEq)]
pub struct MemberChange {
    /// Its JSON name.
    pub member: &'static str,
    /// What it was.
    pub from: Member,
    /// What it is.
    pub to: Member,
}

/// A member's value.
#[derive(Debug, Clone, PartialEq)]
pub enum Member {
    /// None.
    Null,
    /// A text.
    Text(String),
    /// A coordinate in degrees.
    Degrees(f64),
}

/// A change of a host.
#[derive(Debug, Clone, PartialEq)]
pub struct PastChange {
    /// When it arrived.
    pub at: Timestamp,
    /// Whose report it was.
    pub site: SiteId,
    /// See [`Happened`].
    pub happened: Happened,
    /// The members that changed, in the order of the row. `last_seen` and `mtime` move with each report and
    /// are left out.
    pub members: Vec<MemberChange>,
}

/// The newest changes of one host. Takes all kept words in the order of the log; needs memory for `limit`
/// changes and one row a site.
#[derive(Debug)]
pub struct History {
    limit: usize,
    entries: VecDeque<Entry>,
    dropped: bool,
    sites: BTreeMap<SiteId, (u64, Option<Host>)>,
}

#[derive(Debug)]
struct Entry {
    change: PastChange,
    /// The row of a site's first word, until it is known what was before.
    first: Option<Option<Host>>,
}

impl History {
    /// At most so many changes.
    pub const fn new(limit: usize) -> Self {
        Self { limit, entries: VecDeque::new(), dropped: false, sites: BTreeMap::new() }
    }

    /// Takes the next word.
    pub fn hear(&mut self, word: Word) {
        let Some((_, known)) = self.sites.get_mut(&word.site) else {
            let happened = if word.row.is_some() { Happened::FirstKept } else { Happened::Removed };
            let change = PastChange { at: word.at, site: word.site, happened, members: Vec::new() };
            self.push(Entry { change, first: Some(word.row.clone()) });
            self.sites.insert(word.site, (word.position, word.row));
            return;
        };
        let change = compare(known.as_ref(), word.row.as_ref(), word.at, word.site);
        *known = word.row;
        if let Some(change) = change {
            self.push(Entry { change, first: None });
        }
    }

    /// The sites that had a word, with the place of the first one.
    pub fn sites(&self) -> Vec<(SiteId, u64)> {
        self.sites.iter().map(|(site, (first, _))| (*site, *first)).collect()
    }

    /// The changes, newest first, and whether there are older ones. `before` has every site of
    /// [`Self::sites`].
    pub fn finish(self, before: &BTreeMap<SiteId, Before>) -> (Vec<PastChange>, bool) {
        let resolve = |entry: Entry| {
            let Some(row) = entry.first else { return Some(entry.change) };
            let (at, site) = (entry.change.at, entry.change.site);
            match before.get(&site) {
                Some(Before::Held(host)) => compare(Some(host), row.as_ref(), at, site),
                Some(Before::Absent) => compare(None, row.as_ref(), at, site),
                Some(Before::Unknown) | None => {
                    let members = row.map(|row| changed(None, &row)).unwrap_or_default();
                    Some(PastChange { members, ..entry.change })
                }
            }
        };
        (self.entries.into_iter().rev().filter_map(resolve).collect(), self.dropped)
    }

    fn push(&mut self, entry: Entry) {
        if self.entries.len() == self.limit {
            self.entries.pop_front();
            self.dropped = true;
        }
        self.entries.push_back(entry);
    }
}

/// What happened between two states; none when nothing did that is shown.
fn compare(before: Option<&Host>, after: Option<&Host>, at: Timestamp, site: SiteId) -> Option<PastChange> {
    let (happened, members) = match (before, after) {
        (None, None) => return None,
        (Some(_), None) => (Happened::Removed, Vec::new()),
        (None, Some(after)) => (Happened::Added, changed(None, after)),
        (Some(before), Some(after)) => (Happened::Changed, changed(Some(before), after)),
    };
    let is_nothing = happened == Happened::Changed && members.is_empty();
    (!is_nothing).then_some(PastChange { at, site, happened, members })
}

/// The members that differ.
fn changed(before: Option<&Host>, after: &Host) -> Vec<MemberChange> {
    let (before, after) = (before.map(Host::as_row), after.as_row());
    let names = members(&after).into_iter().map(|(name, _)| name);
    let from = before.as_ref().map(members);
    let from = from.unwrap_or_else(|| names.map(|name| (name, Member::Null)).collect());
    from.into_iter()
        .zip(members(&after))
        .filter(|((_, from), (_, to))| from != to)
        .map(|((member, from), (_, to))| MemberChange { member, from, to })
        .collect()
}

/// A row's members that do not move by themselves, in the order of the contract.
fn members(row: &HostRow<'_>) -> Vec<(&'static str, Member)> {
    let text = |value: Option<&str>| value.map_or(Member::Null, |text| Member::Text(text.to_owned()));
    let degrees = |value: Option<f64>| value.map_or(Member::Null, Member::Degrees);
    vec![
        ("fqdn", text(Some(row.fqdn))),
        ("ipv4", text(row.ipv4)),
        ("ipv6", text(row.ipv6)),
        ("public_ip", text(row.public_ip)),
        ("os_family", text(row.os_family)),
        ("os_version", text(row.os_version)),
        ("platform", text(row.platform)),
        ("status", text(row.status)),
        ("tags_json", text(row.tags_json)),
        ("geo_country_code", text(row.geo_country_code)),
        ("geo_subdivision_code", text(row.geo_subdivision_code)),
        ("geo_city", text(row.geo_city)),
        ("geo_latitude", degrees(row.geo_latitude)),
        ("geo_longitude", degrees(row.geo_longitude)),
    ]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    const HOST: HostId = HostId(Uuid::from_u128(7));

    fn site(number: u8) -> SiteId {
        SiteId(Uuid::from_u128(u128::from(number) + 1))
    }

    fn host(status: u8) -> Host {
        Host {
            host_id: HOST,
            fqdn: "web-1.example.com".to_owned(),
            ipv4: None,
            ipv6: None,
            public_ip: None,
            os_family: None,
            os_version: None,
            platform: None,
            status: Some(format!("s{status}")),
            last_seen: None,
            tags_json: None,
            geo_country_code: None,
            geo_subdivision_code: None,
            geo_city: None,
            geo_latitude: None,
            geo_longitude: None,
            mtime: Timestamp::from_micros(0),
        }
    }

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    /// A coordinator of three sites that knows one host, and everything that ever happened to it.
    #[derive(Default)]
    struct Plain {
        now: i64,
        position: u64,
        log: Vec<Word>,
        complete_from: Option<Timestamp>,
        present: Option<(SiteId, Host)>,
        truth: Vec<(i64, Option<(SiteId, Host)>)>,
        /// What each site's checkpoint covers, and the row in it.
        checkpoints: BTreeMap<SiteId, (u64, Option<Host>)>,
    }

    impl Plain {
        fn step(&mut self, (what, number, value): (u8, u8, u8)) {
            self.now += i64::from(value);
            let site = site(number);
            let holds = self.present.as_ref().is_some_and(|(holder, _)| *holder == site);
            match what {
                0..=2 if holds || self.present.is_none() => {
                    self.present = Some((site, host(value)));
                    self.write(site, Some(host(value)));
                }
                // A removal is written whether or not the site holds the host.
                3 => {
                    if holds {
                        self.present = None;
                    }
                    self.write(site, None);
                }
                4 => {
                    let row = self.present.clone().filter(|_| holds).map(|(_, host)| host);
                    self.checkpoints.insert(site, (self.position, row));
                }
                5 => self.trim(usize::from(value)),
                _ => {}
            }
            self.truth.push((self.now, self.present.clone()));
        }

        fn write(&mut self, site: SiteId, row: Option<Host>) {
            self.position += 1;
            self.log.push(Word { site, position: self.position, at: at(self.now), row });
        }

        /// Folds away at most `count` records that every checkpoint allows.
        fn trim(&mut self, count: usize) {
            let covered = |word: &Word| {
                self.checkpoints.get(&word.site).is_some_and(|(covers, _)| *covers >= word.position)
            };
            let count = self.log.iter().take(count).take_while(|word| covered(word)).count();
            for word in self.log.drain(..count) {
                self.complete_from = self.complete_from.max(Some(word.at));
            }
        }

        fn before(&self, sites: Vec<(SiteId, u64)>) -> BTreeMap<SiteId, Before> {
            let held =
                |row: &Option<Host>| row.clone().map_or(Before::Absent, |host| Before::Held(Box::new(host)));
            let mut before: BTreeMap<SiteId, Before> = sites
                .into_iter()
                .map(|(site, first)| match (self.complete_from, self.checkpoints.get(&site)) {
                    (None, _) => (site, Before::Absent),
                    (Some(_), Some((covers, row))) if *covers < first => (site, held(row)),
                    (Some(_), _) => (site, Before::Unknown),
                })
                .collect();
            if let Some((site, host)) = &self.present {
                before.entry(*site).or_insert_with(|| Before::Held(Box::new(host.clone())));
            }
            before
        }

        fn look(&self, moment: i64) -> Result<Option<(SiteId, Host)>, NotKept> {
            let mut glimpse = Glimpse::new(at(moment));
            self.log.iter().cloned().for_each(|word| glimpse.hear(word));
            let before = self.before(glimpse.sites());
            glimpse.answer(before, self.complete_from)
        }

        fn history(&self, limit: usize) -> (Vec<PastChange>, bool) {
            let mut history = History::new(limit);
            self.log.iter().cloned().for_each(|word| history.hear(word));
            let before = self.before(history.sites());
            history.finish(&before)
        }

        fn truth(&self, moment: i64) -> Option<(SiteId, Host)> {
            let last = self.truth.iter().take_while(|(when, _)| *when <= moment).last();
            last.and_then(|(_, host)| host.clone())
        }
    }

    fn steps() -> impl Strategy<Value = Vec<(u8, u8, u8)>> {
        prop::collection::vec((0_u8..6, 0_u8..3, 0_u8..5), 0..40)
    }

    proptest! {
        /// Whatever was folded away, a moment is told as it was or refused, and the refusal names a moment
        /// from which on everything is told.
        #[test]
        fn past_is_told_as_it_was_or_refused(steps in steps()) {
            let mut plain = Plain::default();
            steps.into_iter().for_each(|step| plain.step(step));

            for moment in -1..=plain.now + 1 {
                match plain.look(moment) {
                    Ok(found) => prop_assert_eq!(found, plain.truth(moment), "at {}", moment),
                    Err(NotKept { earliest }) => {
                        prop_assert!(earliest > at(moment), "{} at {}", earliest.as_micros(), moment);
                        prop_assert!(earliest <= at(plain.now));
                        prop_assert!(plain.look(earliest.as_micros()).is_ok());
                    }
                }
            }
        }

        /// As long as nothing was folded away, every moment is told.
        #[test]
        fn whole_log_tells_every_moment(steps in steps()) {
            let mut plain = Plain::default();
            steps.into_iter().filter(|(what, ..)| *what != 5).for_each(|step| plain.step(step));

            for moment in -1..=plain.now {
                prop_assert_eq!(plain.look(moment), Ok(plain.truth(moment)));
            }
        }

        /// The changes are exactly the differences between what each moment tells, newest first.
        #[test]
        fn history_lists_each_difference_once(steps in steps()) {
            let mut plain = Plain::default();
            for (what, number, value) in steps {
                // One change an instant, so that the moments tell them apart.
                plain.now += 1;
                plain.step((if what == 5 { 4 } else { what }, number, value));
            }

            let (changes, more) = plain.history(1_000);

            let differing: Vec<i64> = (0..=plain.now)
                .rev()
                .filter(|moment| plain.truth(*moment) != plain.truth(moment - 1))
                .collect();
            let listed: Vec<i64> = changes.iter().map(|change| change.at.as_micros()).collect();
            prop_assert!(!more);
            prop_assert_eq!(listed, differing);
        }
    }

    #[test]
    fn change_names_its_members_with_both_values() {
        let mut plain = Plain::default();
        for step in [(0, 0, 1), (0, 0, 2), (0, 0, 0), (3, 0, 1)] {
            plain.step(step);
        }
        let text = |text: &str| Member::Text(text.to_owned());

        let (changes, _) = plain.history(2);
        let happened: Vec<Happened> = plain.history(9).0.iter().map(|change| change.happened).collect();

        assert_eq!(happened, [Happened::Removed, Happened::Changed, Happened::Changed, Happened::Added]);
        let expected = MemberChange { member: "status", from: text("s2"), to: text("s0") };
        assert_eq!((changes.len(), &changes[1].members), (2, &vec![expected]));
    }

    #[test]
    fn change_before_the_first_kept_one_is_said_to_be_unknown() {
        let mut plain = Plain::default();
        for step in [(0, 0, 1), (0, 0, 2), (4, 0, 1), (5, 0, 1)] {
            plain.step(step);
        }

        let (changes, _) = plain.history(9);

        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0].happened, Happened::FirstKept);
        assert!(changes[0].members.iter().any(|change| change.member == "status"));
    }

    #[test]
    fn mention_finds_the_host_in_a_record() {
        let record = postcard::to_stdvec(&(1_u8, HOST, "text")).unwrap();

        assert!(Mention::of(HOST).is_in(&record));
        assert!(!Mention::of(HostId(Uuid::from_u128(8))).is_in(&record));
    }
}
