//! Which site holds a host: a host that one live site reports is no other's.

use std::collections::BTreeMap;
use std::fmt;

use super::digest::id_hash;
use crate::{HostId, SiteId};

/// No site: an empty entry.
const NOBODY: u16 = u16::MAX;
/// Entries in use before the table grows, in per cent. Beyond it searches for absent hosts get long.
const LOAD_PERCENT_MAX: usize = 80;

/// The holder of each host, in 18 bytes an entry and at most 28 a host.
///
/// An open table in the order of the hashes, which grows by a quarter at a time: doubling tables would
/// take up to 43 bytes a host.
#[derive(Clone, Default)]
pub struct Owners {
    entries: Vec<(HostId, u16)>,
    hosts: usize,
    sites: Vec<Option<SiteId>>,
    numbers: BTreeMap<SiteId, u16>,
}

impl fmt::Debug for Owners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owners")
            .field("hosts", &self.hosts)
            .field("sites", &self.numbers.len())
            .finish_non_exhaustive()
    }
}

impl Owners {
    /// Nobody holds anything.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of hosts that are held.
    pub const fn len(&self) -> usize {
        self.hosts
    }

    /// Whether no host is held.
    pub const fn is_empty(&self) -> bool {
        self.hosts == 0
    }

    /// The site that holds the host.
    pub fn holder(&self, host_id: HostId) -> Option<SiteId> {
        let number = self.entries.get(self.find(host_id)?)?.1;
        self.sites.get(usize::from(number)).copied().flatten()
    }

    /// Lets the site hold the host, as it may already do.
    ///
    /// # Errors
    /// The other site that holds it.
    pub fn claim(&mut self, host_id: HostId, site: SiteId) -> Result<(), SiteId> {
        match self.holder(host_id) {
            Some(holder) if holder == site => Ok(()),
            Some(holder) => Err(holder),
            None => {
                let number = self.number(site);
                if (self.hosts + 1) * 100 > self.entries.len() * LOAD_PERCENT_MAX {
                    self.resize(self.entries.len() + self.entries.len() / 4 + 16);
                }
                self.insert(host_id, number);
                Ok(())
            }
        }
    }

    /// Lets the site hold the host no more; without effect when it does not.
    pub fn release(&mut self, host_id: HostId, site: SiteId) {
        let Some(index) = self.find(host_id) else { return };
        if self.numbers.get(&site) == Some(&self.entries[index].1) {
            self.vacate(index);
        }
    }

    /// Lets the site hold nothing more. Visits every entry.
    pub fn release_site(&mut self, site: SiteId) {
        let Some(number) = self.numbers.remove(&site) else { return };
        self.sites[usize::from(number)] = None;
        for entry in &mut self.entries {
            if entry.1 == number {
                entry.1 = NOBODY;
            }
        }
        let held = self.entries.iter().filter(|entry| entry.1 != NOBODY).count();
        self.resize(held * 5 / 4 * 100 / LOAD_PERCENT_MAX + 16);
    }

    /// Bytes of the table.
    pub const fn memory_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<(HostId, u16)>()
    }

    fn number(&mut self, site: SiteId) -> u16 {
        if let Some(&number) = self.numbers.get(&site) {
            return number;
        }
        let free = self.sites.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            self.sites.push(None);
            self.sites.len() - 1
        });
        let number = u16::try_from(index).ok().filter(|&number| number != NOBODY);
        let number = number.expect("a coordinator has far fewer than 65,535 sites");
        self.sites[index] = Some(site);
        self.numbers.insert(site, number);
        number
    }

    /// Where the search for a host begins: its hash, scaled to the table.
    fn home(&self, host_id: HostId) -> usize {
        ((u128::from(id_hash(host_id)) * self.entries.len() as u128) >> 64) as usize
    }

    fn after(&self, index: usize) -> usize {
        if index + 1 == self.entries.len() { 0 } else { index + 1 }
    }

    fn find(&self, host_id: HostId) -> Option<usize> {
        if self.entries.is_empty() {
            return None;
        }
        let mut index = self.home(host_id);
        while self.entries[index].1 != NOBODY {
            if self.entries[index].0 == host_id {
                return Some(index);
            }
            index = self.after(index);
        }
        None
    }

    /// The table has an empty entry, and the host is not in it.
    fn insert(&mut self, host_id: HostId, number: u16) {
        let mut index = self.home(host_id);
        while self.entries[index].1 != NOBODY {
            index = self.after(index);
        }
        self.entries[index] = (host_id, number);
        self.hosts += 1;
    }

    /// Empties an entry and moves later ones up, so that no search stops short of its host.
    fn vacate(&mut self, index: usize) {
        let (mut hole, mut index) = (index, self.after(index));
        let len = self.entries.len();
        while self.entries[index].1 != NOBODY {
            let home = self.home(self.entries[index].0);
            let distance = |from: usize, to: usize| (to + len - from) % len;
            if distance(home, index) >= distance(hole, index) {
                self.entries[hole] = self.entries[index];
                hole = index;
            }
            index = self.after(index);
        }
        self.entries[hole].1 = NOBODY;
        self.hosts = self.hosts.checked_sub(1).expect("a full entry was counted");
    }

    fn resize(&mut self, len: usize) {
        let empty = vec![(HostId(uuid::Uuid::nil()), NOBODY); len];
        let old = std::mem::replace(&mut self.entries, empty);
        self.hosts = 0;
        for (host_id, number) in old.into_iter().filter(|entry| entry.1 != NOBODY) {
            self.insert(host_id, number);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn host_takes_at_most_28_bytes_and_a_little() {
        let mut owners = Owners::new();

        for n in 0..20_000 {
            owners.claim(HostId(Uuid::from_u128(n)), SiteId(Uuid::from_u128(n % 64))).unwrap();
            assert!(
                owners.memory_bytes() <= 29 * owners.len() + 1_024,
                "{} for {}",
                owners.memory_bytes(),
                owners.len()
            );
        }
    }

    proptest! {
        #[test]
        fn owners_agree_with_a_map(steps in proptest::collection::vec((0..40_u128, 0..4_u128, 0..8_u8), 0..400)) {
            let mut owners = Owners::new();
            let mut map = BTreeMap::new();

            for (host, site, step) in steps {
                let (host, site) = (HostId(Uuid::from_u128(host)), SiteId(Uuid::from_u128(site)));
                match step {
                    0 => {
                        owners.release_site(site);
                        map.retain(|_, holder| *holder != site);
                    }
                    1..=3 => {
                        owners.release(host, site);
                        map.retain(|held, holder| *held != host || *holder != site);
                    }
                    _ => {
                        let holder = *map.entry(host).or_insert(site);
                        prop_assert_eq!(owners.claim(host, site), if holder == site { Ok(()) } else { Err(holder) });
                    }
                }
                prop_assert_eq!(owners.len(), map.len());
                for n in 0..40 {
                    let host = HostId(Uuid::from_u128(n));
                    prop_assert_eq!(owners.holder(host), map.get(&host).copied());
                }
            }
        }
    }
}
