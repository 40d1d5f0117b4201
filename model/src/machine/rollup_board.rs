//! The federation's rollups at a glance: each site's row, and totals kept as counters.
//!
//! A change costs one subtraction and one addition, whatever the number of sites; the totals are read as they
//! stand. Only enrolled sites count: one on hold or gone leaves the totals at once and comes back with what it
//! last said.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::alert::Thresholds;
use crate::limits::rollup as limits;
use crate::machine::alert::offline_after_seconds;
use crate::machine::rollup::SiteRollups;
use crate::rollup::{ReportRow, Totals};
use crate::site::SiteStatus;
use crate::{SiteId, SiteName, Timestamp};

/// One site on the board.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// Its row, ready to be shown.
    pub row: ReportRow,
    /// Its membership; only enrolled sites count.
    pub status: SiteStatus,
    /// Whether a link is up: then it is heard all the time.
    pub linked: bool,
    /// Its sync interval, by which its silence is judged.
    pub sync_interval_seconds: u32,
    /// Its series and their latest snapshots.
    pub rollups: Arc<SiteRollups>,
}

impl Standing {
    fn counts(&self) -> bool {
        self.status == SiteStatus::Enrolled
    }

    /// Whether the site has been silent for longer than it may, by the rule of the alert `site_offline`. One that
    /// was never heard is.
    fn is_silent(&self, thresholds: &Thresholds, now: Timestamp) -> bool {
        if self.linked {
            return false;
        }
        let allowed = offline_after_seconds(self.sync_interval_seconds, thresholds);
        self.row.last_sync_at.is_none_or(|heard| now.since(heard).as_secs_f64() > allowed)
    }
}

/// A site that has not been heard for longer than it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SilentSite {
    /// The site.
    pub site_id: SiteId,
    /// Its name.
    pub name: SiteName,
    /// When it was last heard; never, when none.
    pub last_sync_at: Option<Timestamp>,
}

/// How many sites an answer over many covers, and who among them says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Coverage {
    /// Enrolled sites that the answer is about.
    pub sites: u64,
    /// Those of them that are heard.
    pub reporting: u64,
    /// The others, the first [`limits::SILENT_LISTED_MAX`] of them.
    pub silent: Vec<SilentSite>,
}

/// All sites of a coordinator, removed ones left out.
#[derive(Debug, Clone, Default)]
pub struct Board {
    sites: BTreeMap<SiteId, Arc<Standing>>,
    totals: Totals,
}

impl Board {
    /// Puts a site's new standing in place of its old one; a removed site is forgotten.
    pub fn set(&mut self, standing: Standing) {
        let site = standing.row.site_id;
        let gone = standing.status == SiteStatus::Removed;
        let standing = Arc::new(standing);
        if standing.counts() {
            self.totals.add(&standing.row.counts);
        }
        let old = if gone { self.sites.remove(&site) } else { self.sites.insert(site, standing) };
        if let Some(old) = old.filter(|old| old.counts()) {
            self.totals.subtract(&old.row.counts);
        }
    }

    /// The sums over all enrolled sites. Read from counters.
    pub const fn totals(&self) -> &Totals {
        &self.totals
    }

    /// The same, counted anew from the rows: for tests and checks.
    pub fn recount(&self) -> Totals {
        let mut totals = Totals::default();
        for standing in self.sites.values().filter(|standing| standing.counts()) {
            totals.add(&standing.row.counts);
        }
        totals
    }

    /// One site.
    pub fn site(&self, site: SiteId) -> Option<&Arc<Standing>> {
        self.sites.get(&site)
    }

    /// Every site, in the order of ids.
    pub fn sites(&self) -> impl Iterator<Item = &Arc<Standing>> {
        self.sites.values()
    }

    /// Every enrolled site, in the order of ids.
    pub fn enrolled(&self) -> impl Iterator<Item = &Arc<Standing>> {
        self.sites.values().filter(|standing| standing.counts())
    }

    /// What an answer about the sites that `visible` admits covers.
    pub fn coverage(
        &self,
        thresholds: &Thresholds,
        now: Timestamp,
        visible: impl Fn(SiteId) -> bool,
    ) -> Coverage {
        let mut coverage = Coverage::default();
        for standing in self.enrolled().filter(|standing| visible(standing.row.site_id)) {
            let row = &standing.row;
            coverage.sites += 1;
            if !standing.is_silent(thresholds, now) {
                coverage.reporting += 1;
            } else if coverage.silent.len() < limits::SILENT_LISTED_MAX {
                coverage.silent.push(SilentSite {
                    site_id: row.site_id,
                    name: row.site_name.clone(),
                    last_sync_at: row.last_sync_at,
                });
            }
        }
        coverage
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::rollup::Counts;

    fn standing(site: u8, status: SiteStatus, count: u64, heard: i64) -> Standing {
        let row = ReportRow {
            site_id: SiteId(Uuid::from_u128(site.into())),
            site_name: SiteName::new(&format!("site {site}")).unwrap(),
            counts: Counts { host_count: count, low_count: count / 2, ..Counts::default() },
            worst_compliance: None,
            last_sync_at: Some(Timestamp::from_secs(heard)),
        };
        Standing { row, status, linked: false, sync_interval_seconds: 300, rollups: Arc::default() }
    }

    #[test]
    fn silent_sites_are_named_and_those_on_hold_are_not_missed() {
        let mut board = Board::default();
        board.set(standing(1, SiteStatus::Enrolled, 1, 1_000));
        board.set(standing(2, SiteStatus::Enrolled, 1, 5_000));
        board.set(standing(3, SiteStatus::Suspended, 1, 0));

        let coverage = board.coverage(&Thresholds::default(), Timestamp::from_secs(5_100), |_| true);

        assert_eq!((coverage.sites, coverage.reporting), (2, 1));
        assert_eq!(coverage.silent[0].name.as_str(), "site 1");
    }

    proptest! {
        #[test]
        fn counters_equal_a_recount_after_every_change(
            changes in proptest::collection::vec((0_u8..12, 0_usize..4, 0_u64..1_000), 0..200)
        ) {
            const STATES: [SiteStatus; 4] =
                [SiteStatus::Enrolled, SiteStatus::Suspended, SiteStatus::Removed, SiteStatus::Pending];
            let mut board = Board::default();
            let mut plain: BTreeMap<u8, (SiteStatus, u64)> = BTreeMap::new();
            for (site, status, count) in changes {
                board.set(standing(site, STATES[status], count, 0));
                plain.insert(site, (STATES[status], count));

                let enrolled = plain.values().filter(|(status, _)| *status == SiteStatus::Enrolled);
                let mut expected = Totals::default();
                for (_, count) in enrolled {
                    expected.add(&Counts { host_count: *count, low_count: count / 2, ..Counts::default() });
                }
                prop_assert_eq!(board.totals(), &expected);
                prop_assert_eq!(board.recount(), expected);
            }
        }
    }
}
