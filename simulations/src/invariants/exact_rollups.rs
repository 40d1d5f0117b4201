//! The totals over all sites, kept as counters, equal a recount at every moment; after the last fault each site's
//! rollups are what the site itself comes to, and its open alerts are the conditions that hold.

use std::collections::{BTreeMap, BTreeSet};

use hansa_model::alert::Condition;
use hansa_model::rollup::{ReportRow, Totals};

/// Score, hosts in scope, compliant and not, by baseline.
pub type Scores = BTreeMap<String, (Option<f64>, u64, u64, u64)>;

/// What one site's results come to, as the site or its coordinator says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ShownRollups {
    /// Baselines.
    pub scores: Scores,
    /// Findings: critical, high, medium, low, affected hosts.
    pub findings: [u64; 5],
    /// Hosts.
    pub hosts: u64,
}

/// Compares the counters with a recount.
///
/// # Errors
/// Says what both are.
pub fn recount<'a>(totals: &Totals, rows: impl Iterator<Item = &'a ReportRow>) -> Result<(), String> {
    let mut counted = Totals::default();
    rows.for_each(|row| counted.add(&row.counts));
    if counted == *totals {
        return Ok(());
    }
    Err(format!("the totals say {totals:?}, a recount says {counted:?}"))
}

/// Compares what a site says with what its coordinator has of it.
///
/// # Errors
/// Says what both are.
pub fn compare(site: &ShownRollups, coordinator: &ShownRollups) -> Result<(), String> {
    if site == coordinator {
        return Ok(());
    }
    Err(format!("the site comes to {site:?}, the coordinator has {coordinator:?}"))
}

/// Compares the conditions that hold with those of the open alerts.
///
/// # Errors
/// Says what both are.
pub fn alerts(holding: &BTreeSet<Condition>, open: &[Condition]) -> Result<(), String> {
    if open.len() == holding.len() && open.iter().all(|condition| holding.contains(condition)) {
        return Ok(());
    }
    Err(format!("{holding:?} hold, alerts are open for {open:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_baseline_too_many_is_told() {
        let site = ShownRollups::default();
        let scores = BTreeMap::from([("cis".to_owned(), (Some(50.0), 2, 1, 1))]);
        let coordinator = ShownRollups { scores, ..ShownRollups::default() };

        assert!(compare(&site, &coordinator).is_err());
        assert!(compare(&site, &site.clone()).is_ok());
    }

    #[test]
    fn an_alert_is_open_for_each_condition_that_holds_and_once() {
        let holding = BTreeSet::from([Condition::SiteOffline]);

        assert!(alerts(&holding, &[Condition::SiteOffline]).is_ok());
        assert!(alerts(&holding, &[]).is_err());
        assert!(alerts(&holding, &[Condition::SiteOffline, Condition::SiteOffline]).is_err());
    }
}
