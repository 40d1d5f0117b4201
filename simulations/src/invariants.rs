//! What must hold, whatever breaks: one file each, without a world, so that each can be tried alone.
//!
//! An invariant is told what the world did and answers with the sentence that fails the run. The table in
//! the crate's README lists them with the scenario that checks each one.

pub mod acknowledged_commands;
pub mod acknowledged_decisions;
pub mod acknowledged_inventory;
pub mod audit_chain;
pub mod audited_calls;
pub mod command_runs;
pub mod convergence;
pub mod ended_memberships;
pub mod exact_counters;
pub mod exact_rollups;
pub mod lease_convergence;
pub mod ordered_rows;
pub mod policy_convergence;
pub mod sound_store;
pub mod true_copies;

use std::collections::BTreeMap;

use hansa_model::{Host, HostId, SiteId};

/// The hosts of one site by id.
pub type Inventory = BTreeMap<HostId, Host>;

/// The hosts of a coordinator's directory, by the site that holds them.
pub type Rows = BTreeMap<SiteId, Inventory>;

/// The first difference between two inventories, for a person.
pub(crate) fn difference(expected: &Inventory, found: &Inventory) -> String {
    for (id, host) in expected {
        match found.get(id) {
            None => return format!("{id} is missing, expected {host:?}"),
            Some(other) if other != host => return format!("{id} is {other:?}, expected {host:?}"),
            Some(_) => {}
        }
    }
    match found.keys().find(|id| !expected.contains_key(id)) {
        Some(id) => format!("{id} is there and should not be"),
        None => "nothing differs".to_owned(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use hansa_model::Timestamp;

    use super::*;

    /// An inventory of these hosts, each with a number in its tags.
    pub(crate) fn inventory(hosts: &[(u64, u64)]) -> Inventory {
        hosts.iter().map(|(id, number)| host(*id, *number)).map(|host| (host.host_id, host)).collect()
    }

    fn host(id: u64, number: u64) -> Host {
        Host {
            host_id: format!("00000000-0000-4000-8000-{id:012x}").parse().unwrap(),
            fqdn: format!("host-{id}"),
            ipv4: None,
            ipv6: None,
            public_ip: None,
            os_family: None,
            os_version: None,
            platform: None,
            status: None,
            last_seen: None,
            tags_json: Some(ordered_rows::tag(number)),
            geo_country_code: None,
            geo_subdivision_code: None,
            geo_city: None,
            geo_latitude: None,
            geo_longitude: None,
            mtime: Timestamp::EPOCH,
        }
    }

    #[test]
    fn a_difference_names_the_host() {
        let left = inventory(&[(1, 1), (2, 1)]);

        assert!(difference(&left, &inventory(&[(1, 1)])).contains("000000000002 is missing"));
        assert!(difference(&left, &inventory(&[(1, 1), (2, 1), (3, 1)])).contains("000000000003 is there"));
    }
}
