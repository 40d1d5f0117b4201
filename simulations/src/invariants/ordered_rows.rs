//! A row at the coordinator never goes back to an older state: nothing is applied twice or out of order.
//!
//! Every change of a host carries a number, drawn upwards across the whole world, in its tags.

use std::collections::{BTreeMap, BTreeSet};

use hansa_model::{Host, HostId, SiteId};

use super::Rows;

/// The tags that carry a number.
pub fn tag(number: u64) -> String {
    format!("[\"n={number}\"]")
}

/// The number in a host's tags; zero without one.
pub fn number(host: &Host) -> u64 {
    let digits = host.tags_json.as_deref().and_then(|tags| tags.strip_prefix("[\"n=")?.strip_suffix("\"]"));
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// The newest state of each row that the coordinator has shown.
#[derive(Debug, Clone, Default)]
pub struct OrderedRows {
    newest: BTreeMap<(SiteId, HostId), u64>,
    present: BTreeSet<(SiteId, HostId)>,
    /// Numbers up to this one may come in any order: a disk was put back after they were drawn.
    floors: BTreeMap<SiteId, u64>,
    floor: u64,
}

impl OrderedRows {
    /// A site went back to an older disk; numbers up to `drawn` are out.
    pub fn site_went_back(&mut self, site: SiteId, drawn: u64) {
        self.floors.insert(site, drawn);
    }

    /// The coordinator went back to an older disk.
    pub fn coordinator_went_back(&mut self, drawn: u64) {
        self.floor = drawn;
    }

    /// Compares what the coordinator shows with what it showed before.
    ///
    /// # Errors
    /// When a row is older than before, or one that was removed is back in its old state.
    pub fn check(&mut self, rows: &Rows) -> Result<(), String> {
        let mut present = BTreeSet::new();
        for (site, hosts) in rows {
            let floor = self.floors.get(site).copied().unwrap_or(0).max(self.floor);
            for (id, host) in hosts {
                let (key, number) = ((*site, *id), number(host));
                present.insert(key);
                let newest = self.newest.get(&key).copied().unwrap_or(0);
                if newest > floor && number < newest {
                    return Err(format!("{id} of {site} goes back from {newest} to {number}"));
                }
                if newest > floor && number == newest && !self.present.contains(&key) {
                    return Err(format!("{id} of {site} was removed and is back as {number}"));
                }
                self.newest.insert(key, number);
            }
        }
        self.present = present;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::inventory;
    use super::*;

    fn rows(hosts: &[(u64, u64)]) -> Rows {
        Rows::from([(site(), inventory(hosts))])
    }

    fn site() -> SiteId {
        "00000000-0000-7000-8000-000000000001".parse().unwrap()
    }

    #[test]
    fn rows_go_forward_only() {
        let mut ordered = OrderedRows::default();

        assert!(ordered.check(&rows(&[(1, 5)])).is_ok());
        assert!(ordered.check(&rows(&[(1, 6)])).is_ok());
        assert!(ordered.check(&rows(&[(1, 5)])).is_err());
    }

    #[test]
    fn a_removed_row_comes_back_only_with_a_newer_state() {
        for (number, holds) in [(5, false), (6, true)] {
            let mut ordered = OrderedRows::default();
            ordered.check(&rows(&[(1, 5)])).unwrap();
            ordered.check(&rows(&[])).unwrap();

            assert_eq!(ordered.check(&rows(&[(1, number)])).is_ok(), holds);
        }
    }

    #[test]
    fn after_a_restored_disk_only_newer_numbers_are_in_order() {
        let mut ordered = OrderedRows::default();
        ordered.check(&rows(&[(1, 5)])).unwrap();

        ordered.site_went_back(site(), 7);

        assert!(ordered.check(&rows(&[(1, 3)])).is_ok());
        assert!(ordered.check(&rows(&[(1, 9)])).is_ok());
        assert!(ordered.check(&rows(&[(1, 8)])).is_err());
    }
}
