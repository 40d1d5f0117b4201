//! A membership that has ended never comes back, and leaves nothing behind; a site has one at most.

use std::collections::{BTreeMap, BTreeSet};

use hansa_model::SiteId;
use hansa_model::site::SiteStatus;

/// A row of the coordinator's registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownMembership {
    /// The site's name, which its next membership may have again.
    pub name: String,
    /// Where it stands.
    pub status: SiteStatus,
    /// Hosts that the directory shows under it.
    pub hosts: usize,
}

/// Every membership that was seen, or acknowledged, to be over.
#[derive(Debug, Clone, Default)]
pub struct EndedMemberships {
    ended: BTreeSet<SiteId>,
}

impl EndedMemberships {
    /// An operator was told that it is over.
    pub fn acknowledged(&mut self, site: SiteId) {
        self.ended.insert(site);
    }

    /// How many have ended.
    pub fn count(&self) -> usize {
        self.ended.len()
    }

    /// Compares with the registry as it is now, removed sites included.
    ///
    /// # Errors
    /// When an ended membership is back, holds hosts, or is forgotten; or a name has two that are not over.
    pub fn check(&mut self, registry: &BTreeMap<SiteId, ShownMembership>) -> Result<(), String> {
        let mut live: BTreeMap<&str, SiteId> = BTreeMap::new();
        for (id, row) in registry {
            if row.status == SiteStatus::Removed {
                self.ended.insert(*id);
                if row.hosts > 0 {
                    return Err(format!("{} ended and still holds {} hosts", row.name, row.hosts));
                }
            } else if self.ended.contains(id) {
                return Err(format!(
                    "the membership {id} of {} ended and is {:?} again",
                    row.name, row.status
                ));
            } else if let Some(other) = live.insert(&row.name, *id) {
                return Err(format!("{} is a member twice, as {other} and {id}", row.name));
            }
        }
        match self.ended.iter().find(|id| !registry.contains_key(id)) {
            Some(id) => Err(format!("the membership {id} ended and is forgotten")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(rows: &[(u128, &str, SiteStatus, usize)]) -> BTreeMap<SiteId, ShownMembership> {
        let row = |(id, name, status, hosts): &(u128, &str, SiteStatus, usize)| {
            let shown = ShownMembership { name: (*name).to_owned(), status: *status, hosts: *hosts };
            (SiteId(uuid::Uuid::from_u128(*id)), shown)
        };
        rows.iter().map(row).collect()
    }

    #[test]
    fn an_ended_membership_stays_over_and_a_new_one_takes_its_name() {
        let mut ended = EndedMemberships::default();

        ended.check(&registry(&[(1, "a", SiteStatus::Enrolled, 3)])).unwrap();
        ended
            .check(&registry(&[(1, "a", SiteStatus::Removed, 0), (2, "a", SiteStatus::Pending, 0)]))
            .unwrap();

        assert!(ended.check(&registry(&[(1, "a", SiteStatus::Enrolled, 0)])).is_err(), "it is back");
        assert!(ended.check(&registry(&[(2, "a", SiteStatus::Enrolled, 0)])).is_err(), "it is forgotten");
        assert!(ended.check(&registry(&[(1, "a", SiteStatus::Removed, 1)])).is_err(), "it holds a host");
    }

    #[test]
    fn an_acknowledged_end_is_one_before_it_is_seen() {
        let mut ended = EndedMemberships::default();

        ended.acknowledged(SiteId(uuid::Uuid::from_u128(1)));

        assert!(ended.check(&registry(&[(1, "a", SiteStatus::Suspended, 0)])).is_err());
    }

    #[test]
    fn a_name_has_one_membership_that_is_not_over() {
        let twice = registry(&[(1, "a", SiteStatus::Enrolled, 0), (2, "a", SiteStatus::Pending, 0)]);

        assert!(EndedMemberships::default().check(&twice).is_err());
    }
}
