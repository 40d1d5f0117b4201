//! After the last fault no credential lives that its coordinator does not know, nor beyond its end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hansa_model::Timestamp;
use hansa_model::id::LeaseId;

/// A connector takes a credential away within this time of its end, wrong clocks included.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);

/// What a coordinator says of its leases.
#[derive(Debug, Clone, Default)]
pub struct ShownLeases {
    /// Its clock.
    pub now: Timestamp,
    /// Active ones with the site's key of each.
    pub active: BTreeMap<LeaseId, String>,
    /// What is still to be done, for people.
    pub unsettled: Vec<String>,
}

/// Compares the live credentials of an issuer, each with its end, with a coordinator's active leases. Leases
/// that were asked for before `since` are left out.
///
/// # Errors
/// Names a credential without a lease, or a lease without its credential.
pub fn compare_issuer(
    shown: &ShownLeases,
    issued: &BTreeMap<LeaseId, Timestamp>,
    since: Timestamp,
) -> Result<(), String> {
    if let Some(open) = shown.unsettled.first() {
        return Err(format!("a lease is not settled: {open}"));
    }
    let live: BTreeSet<_> = issued.iter().filter(|(_, end)| **end > shown.now).map(|(id, _)| *id).collect();
    let active: BTreeSet<_> = shown.active.keys().copied().collect();
    match live.symmetric_difference(&active).find(|id| asked_at(**id) >= since.as_millis()) {
        Some(id) if live.contains(id) => Err(format!("the credential of {id} lives, and its lease does not")),
        Some(id) => Err(format!("lease {id} is active, and its credential is gone")),
        None => Ok(()),
    }
}

/// The first 48 bits of a version 7 UUID are its milliseconds.
fn asked_at(id: LeaseId) -> i64 {
    i64::try_from(id.0.as_u128() >> 80).unwrap_or(i64::MAX)
}

/// Compares what a site's connectors hold, by key and with its end, with its coordinator's leases.
///
/// # Errors
/// Names a credential that should have been taken away.
pub fn compare_site(shown: &ShownLeases, given: &BTreeMap<String, Option<Timestamp>>) -> Result<(), String> {
    for (key, end) in given {
        if end.is_some_and(|end| end.after(TAKEN_WITHIN) < shown.now) {
            return Err(format!("the credential {key} was not taken away at its end, {end:?}"));
        }
        if end.is_none_or(|end| end > shown.now) && !shown.active.values().any(|active| active == key) {
            return Err(format!("a connector holds {key}, which is no active lease"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: LeaseId = LeaseId(uuid::Uuid::nil());

    fn shown(now: i64, active: bool) -> ShownLeases {
        let active = active.then(|| (ID, "key".to_owned())).into_iter().collect();
        ShownLeases { now: Timestamp::from_secs(now), active, unsettled: Vec::new() }
    }

    #[test]
    fn live_credentials_are_those_of_active_leases() {
        let issued = BTreeMap::from([(ID, Timestamp::from_secs(100))]);

        let compare = |shown: &ShownLeases| compare_issuer(shown, &issued, Timestamp::EPOCH);
        assert!(compare(&shown(50, true)).is_ok());
        assert!(compare(&shown(50, false)).is_err());
        assert!(compare(&shown(101, false)).is_ok());
        assert!(compare(&shown(101, true)).is_err());
        assert!(compare_issuer(&shown(50, false), &issued, Timestamp::from_secs(1)).is_ok());
    }

    #[test]
    fn a_connector_holds_no_credential_that_was_revoked_or_has_ended() {
        let given = BTreeMap::from([("key".to_owned(), Some(Timestamp::from_secs(100)))]);

        assert!(compare_site(&shown(50, true), &given).is_ok());
        assert!(compare_site(&shown(50, false), &given).is_err());
        assert!(compare_site(&shown(110, false), &given).is_ok());
        assert!(compare_site(&shown(131, false), &given).is_err());
    }
}
