//! After the last fault the coordinator's directory equals what the sites hold, and nothing waits.

use std::collections::{BTreeMap, BTreeSet};

use hansa_model::machine::link::ConnectionState;
use hansa_model::site::SiteStatus;
use hansa_model::{HostId, SiteId};

use super::exact_rollups::ShownRollups;
use super::lease_convergence::ShownLeases;
use super::policy_convergence::ShownPolicies;
use super::{Inventory, Rows, difference};
use crate::clock::SimTime;

/// What a site shows of itself.
#[derive(Debug, Clone)]
pub struct ShownSite {
    /// When.
    pub at: SimTime,
    /// Its id, once it is enrolled.
    pub id: Option<SiteId>,
    /// The state of its uplink.
    pub connection: ConnectionState,
    /// Rows not acknowledged.
    pub depth: u64,
    /// Leaves that a repair still has to send.
    pub leaves: u64,
    /// Commands that it has not ended.
    pub open_commands: usize,
    /// Its policies, by its own books.
    pub policies: ShownPolicies,
    /// What its hosts and results come to.
    pub rollups: ShownRollups,
    /// Its hosts.
    pub hosts: Inventory,
}

/// What a coordinator shows.
#[derive(Debug, Clone)]
pub struct ShownCoordinator {
    /// When.
    pub at: SimTime,
    /// Each site's state, and whether its link is up.
    pub sites: BTreeMap<SiteId, (SiteStatus, bool)>,
    /// The whole directory.
    pub rows: Rows,
    /// Commands that have not ended.
    pub open_commands: usize,
    /// What each site should have in force.
    pub policies: BTreeMap<SiteId, ShownPolicies>,
    /// The leases of each site.
    pub leases: BTreeMap<SiteId, ShownLeases>,
    /// What it knows of each site's hosts and results.
    pub rollups: BTreeMap<SiteId, ShownRollups>,
    /// Whether its open alerts are the conditions that hold.
    pub alerts: Result<(), String>,
    /// Rows that it stored since its start, unchanged ones included.
    pub stored_rows: u64,
}

/// Hosts of a site that the coordinator does not show under it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Left {
    /// Another site holds them.
    pub elsewhere: BTreeSet<HostId>,
    /// No site holds them any more: the next repair brings them.
    pub free: BTreeSet<HostId>,
}

/// Compares one site with the coordinator; both must have shown themselves since `since`.
///
/// # Errors
/// Says what is not level yet.
pub fn compare(site: &ShownSite, coordinator: &ShownCoordinator, since: SimTime) -> Result<Left, String> {
    if site.at < since || coordinator.at < since {
        return Err("not heard of".to_owned());
    }
    let id = site.id.ok_or("not enrolled")?;
    match coordinator.sites.get(&id) {
        Some((SiteStatus::Enrolled, true)) => {}
        other => return Err(format!("the coordinator says {other:?}")),
    }
    if site.connection != ConnectionState::Online {
        return Err(format!("its uplink is {:?}", site.connection));
    }
    if (site.depth, site.leaves) != (0, 0) {
        return Err(format!("{} rows and {} leaves wait", site.depth, site.leaves));
    }
    if (site.open_commands, coordinator.open_commands) != (0, 0) {
        return Err(format!(
            "{} commands are open there, {} at the coordinator",
            site.open_commands, coordinator.open_commands
        ));
    }
    let shown = coordinator.rows.get(&id).cloned().unwrap_or_default();
    let mut left = Left::default();
    let mut expected = site.hosts.clone();
    expected.retain(|host, _| {
        if shown.contains_key(host) {
            return true;
        }
        let elsewhere = coordinator.rows.values().any(|hosts| hosts.contains_key(host));
        let side = if elsewhere { &mut left.elsewhere } else { &mut left.free };
        side.insert(*host);
        false
    });
    if shown != expected {
        return Err(difference(&expected, &shown));
    }
    Ok(left)
}
