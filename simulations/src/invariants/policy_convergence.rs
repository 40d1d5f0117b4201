//! After the last fault every site has exactly the policies in force that it should, and its coordinator knows.

use std::collections::BTreeMap;

use hansa_model::id::PolicyId;

/// Versions and definitions by policy.
pub type Policies = BTreeMap<PolicyId, (u32, String)>;

/// What a coordinator wants of one site, or what a site says it has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShownPolicies {
    /// In force there: as the coordinator was told, or by the site's own books.
    pub in_force: Policies,
    /// What is still to be done, for people.
    pub unsettled: Vec<String>,
}

/// Compares one site with what its coordinator says of it, and with what its connectors hold if they can be
/// held against its books: they know nothing of a disk that was put back.
///
/// # Errors
/// Says what differs, or is still to be done.
pub fn compare(
    wanted: &ShownPolicies,
    held: &ShownPolicies,
    connectors: Option<&Policies>,
) -> Result<(), String> {
    if let Some(open) = wanted.unsettled.first().or_else(|| held.unsettled.first()) {
        return Err(format!("a policy is not settled: {open}"));
    }
    if wanted.in_force != held.in_force {
        return Err(format!("wanted are {:?}, in force are {:?}", wanted.in_force, held.in_force));
    }
    match connectors.filter(|connectors| **connectors != held.in_force) {
        Some(connectors) => Err(format!("in force are {:?}, connectors hold {connectors:?}", held.in_force)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(version: u32) -> ShownPolicies {
        let in_force = BTreeMap::from([(PolicyId(uuid::Uuid::nil()), (version, "{}".to_owned()))]);
        ShownPolicies { in_force, unsettled: Vec::new() }
    }

    #[test]
    fn version_and_definition_must_agree_in_all_three_places() {
        assert!(compare(&shown(1), &shown(1), Some(&shown(1).in_force)).is_ok());
        assert!(compare(&shown(1), &shown(2), None).is_err());
        assert!(compare(&shown(1), &shown(1), Some(&Policies::new())).is_err());
    }

    #[test]
    fn what_is_still_to_be_done_is_no_convergence() {
        let busy = ShownPolicies { unsettled: vec!["a withdrawal".to_owned()], ..shown(1) };

        assert!(compare(&busy, &shown(1), None).is_err());
    }
}
