//! Events: what changes on a node, told to whoever watches.
//!
//! An event is a notice and no record: the audit log and the store hold what happened, an event says that it
//! did. Whoever misses one loads again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use crate::audit::{AuditDraft, Detail};
use crate::scope::{Operator, Scope};
use crate::secrets::change;
use crate::secrets::id::TenantId;
use crate::{AuditId, SiteId, Timestamp};

/// The scopes of which an operator needs one to watch at all.
pub const WATCHING: &[Scope] = &[
    Scope::IdentityRead,
    Scope::SitesRead,
    Scope::HostsRead,
    Scope::RollupsRead,
    Scope::PoliciesRead,
    Scope::CommandsRead,
    Scope::AuditRead,
    Scope::AlertsRead,
    Scope::LeasesRead,
    Scope::SiteRead,
];

/// The place of an event: which start of the node, and which event of it.
///
/// Its text is `<epoch>-<number>`, the epoch as 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventId {
    /// Random at each start of the node, so that a place of another start is never taken for one of this.
    pub epoch: u64,
    /// From one, ascending, without gaps. Zero is the place before the first.
    pub number: u64,
}

/// A text that is no event's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not the id of an event: give the last one that you have seen, or none")]
pub struct InvalidEventId;

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.epoch, self.number)
    }
}

impl FromStr for EventId {
    type Err = InvalidEventId;

    fn from_str(text: &str) -> Result<Self, InvalidEventId> {
        let (epoch, number) = text.split_once('-').ok_or(InvalidEventId)?;
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if epoch.len() != 16 || !plain(epoch) || !plain(number) {
            return Err(InvalidEventId);
        }
        let epoch = u64::from_str_radix(epoch, 16).map_err(|_| InvalidEventId)?;
        Ok(Self { epoch, number: number.parse().map_err(|_| InvalidEventId)? })
    }
}

/// An event before it has its place.
#[derive(Debug, Clone, PartialEq)]
pub struct EventDraft {
    /// What happened: the audit entry's operation, or a name of its own such as `link_up`.
    pub kind: String,
    /// When, by this node's clock.
    pub at: Timestamp,
    /// The site it is about.
    pub site: Option<SiteId>,
    /// The entry of the audit log that says the same; none for what is not audited.
    pub audit_entry: Option<AuditId>,
    /// What else there is to say. Never a secret.
    pub details: BTreeMap<String, Detail>,
}

impl From<&AuditDraft> for EventDraft {
    fn from(entry: &AuditDraft) -> Self {
        let (kind, details) = change::told(entry)
            .map(|(kind, details)| (kind.to_owned(), details))
            .unwrap_or_else(|| (entry.operation.clone(), entry.details.clone()));
        Self { kind, at: entry.created_at, site: entry.target_site_id, audit_entry: Some(entry.id), details }
    }
}

/// An event with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Where it stands among the others.
    pub id: EventId,
    /// What it says.
    pub draft: EventDraft,
}

impl Event {
    /// Whether an operator may see it: by the scope of its kind, and by their sites. Who may see some sites
    /// only sees no event that is about none.
    pub fn is_visible_to(&self, operator: &Operator) -> bool {
        let in_sight = match self.draft.site {
            Some(site) => operator.sees(site),
            None => operator.sites.is_none(),
        };
        in_sight && operator.may(scope_of(&self.draft.kind))
    }

    /// The tenant that it is about; none for what is no tenant's. Only who may act for it may see the event.
    pub fn tenant(&self) -> Option<TenantId> {
        match self.draft.details.get("tenant") {
            Some(Detail::Text(id)) => id.parse().ok(),
            Some(_) | None => None,
        }
    }
}

/// Which events a watcher asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventFilter {
    /// Exactly these kinds; none means all.
    pub kinds: Option<BTreeSet<String>>,
    /// About exactly this site.
    pub site: Option<SiteId>,
}

impl EventFilter {
    /// Whether an event is asked for.
    pub fn takes(&self, event: &Event) -> bool {
        self.kinds.as_ref().is_none_or(|kinds| kinds.contains(&event.draft.kind))
            && self.site.is_none_or(|site| event.draft.site == Some(site))
    }
}

/// The scope that an operator needs to see events of a kind: that of the noun's own reads. A kind of no
/// known family needs `audit:read`, so that a new operation is never shown to too many.
pub fn scope_of(kind: &str) -> Scope {
    match kind {
        "link_up" | "link_down" | "sync" | "host_claim_refused" => return Scope::SitesRead,
        "federation_role_changed" => return Scope::IdentityRead,
        "site_mismatch_refused" => return Scope::AuditRead,
        // The site's own side: its uplink and its membership.
        "uplink_changed" | "site_enrolled" | "site_left" => return Scope::SiteRead,
        _ => {}
    }
    let families = [
        ("site_", Scope::SitesRead),
        ("policy_", Scope::PoliciesRead),
        ("rollout_", Scope::PoliciesRead),
        ("command_", Scope::CommandsRead),
        ("alert_", Scope::AlertsRead),
        ("secret_lease_", Scope::LeasesRead),
        ("rollup_", Scope::RollupsRead),
        ("trusted_peer_", Scope::IdentityRead),
    ];
    let family = families.into_iter().find(|(prefix, _)| kind.starts_with(prefix));
    family.map_or(Scope::AuditRead, |(_, scope)| scope)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn kinds_need_the_scope_of_their_nouns_reads() {
        for (kind, scope) in [
            ("site_suspended", Scope::SitesRead),
            ("link_up", Scope::SitesRead),
            ("sync", Scope::SitesRead),
            ("policy_pushed", Scope::PoliciesRead),
            ("rollout_halted", Scope::PoliciesRead),
            ("command_status_changed", Scope::CommandsRead),
            ("alert_opened", Scope::AlertsRead),
            ("secret_lease_revoked", Scope::LeasesRead),
            ("federation_role_changed", Scope::IdentityRead),
            ("user_added", Scope::AuditRead),
            ("secret.updated", Scope::AuditRead),
            ("whatever_comes_next", Scope::AuditRead),
        ] {
            assert_eq!(scope_of(kind), scope, "{kind}");
            assert!(WATCHING.contains(&scope), "{kind}");
        }
    }

    #[test]
    fn who_sees_some_sites_sees_only_events_about_them() {
        let [mine, other] = [1, 2].map(|n| SiteId(Uuid::from_u128(n)));
        let confined = operator([Scope::SitesRead], Some(mine));

        assert!(event("site_suspended", Some(mine)).is_visible_to(&confined));
        assert!(!event("site_suspended", Some(other)).is_visible_to(&confined));
        assert!(!event("site_suspended", None).is_visible_to(&confined));
        assert!(!event("policy_pushed", Some(mine)).is_visible_to(&confined));
        assert!(event("site_suspended", None).is_visible_to(&operator([Scope::SitesRead], None)));
    }

    #[test]
    fn filter_takes_the_kinds_and_the_site_it_names() {
        let site = SiteId(Uuid::from_u128(1));
        let kinds = Some(BTreeSet::from(["link_up".to_owned()]));

        assert!(EventFilter::default().takes(&event("sync", None)));
        assert!(EventFilter { kinds: kinds.clone(), site: None }.takes(&event("link_up", None)));
        assert!(!EventFilter { kinds, site: None }.takes(&event("link_down", None)));
        assert!(!EventFilter { kinds: None, site: Some(site) }.takes(&event("link_up", None)));
    }

    proptest! {
        #[test]
        fn a_place_reads_back_from_its_text(epoch: u64, number: u64) {
            let id = EventId { epoch, number };

            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }

        #[test]
        fn any_text_is_a_place_in_its_one_spelling_or_none(text in "[0-9a-fA-F+-]{0,40}") {
            if let Ok(id) = text.parse::<EventId>() {
                prop_assert_eq!(id.to_string().len() <= text.len(), true);
            }
        }
    }

    fn operator<const N: usize>(scopes: [Scope; N], site: Option<SiteId>) -> Operator {
        Operator {
            userid: "anna".to_owned(),
            scopes: scopes.into_iter().collect(),
            sites: site.map(|site| BTreeSet::from([site])),
            tenancy: Default::default(),
        }
    }

    fn event(kind: &str, site: Option<SiteId>) -> Event {
        let draft = EventDraft {
            kind: kind.to_owned(),
            at: Timestamp::EPOCH,
            site,
            audit_entry: None,
            details: BTreeMap::new(),
        };
        Event { id: EventId { epoch: 7, number: 1 }, draft }
    }
}
