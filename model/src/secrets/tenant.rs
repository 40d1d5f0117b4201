//! Tenants: whose secrets, backends and policies something is, and who may act for them (contract A.4).

use serde::{Deserialize, Serialize};

use super::id::TenantId;
use crate::Timestamp;
use crate::scope::{Operator, Scope};

/// A tenant as it is kept. The field order is a stored format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// See [`TenantId`].
    pub id: TenantId,
    /// Whose tenant it is; partners' administrators act for all tenants of theirs.
    pub partner: String,
    /// For people.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Tenant {
    /// The tenant that every node has without anybody making it.
    pub fn default_tenant() -> Self {
        Self {
            id: TenantId::default_tenant(),
            partner: DEFAULT_PARTNER.to_owned(),
            name: "default".to_owned(),
            created_at: Timestamp::EPOCH,
        }
    }
}

/// The partner of the default tenant.
pub const DEFAULT_PARTNER: &str = "ptn_default";

/// What a token says of tenants: which one it is for, and whether it may choose others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tenancy {
    /// Claim `tenant_id`.
    pub tenant: Option<TenantId>,
    /// Claim `partner_id`.
    pub partner: Option<String>,
    /// Claim `role`.
    pub role: Option<TenantRole>,
}

/// What a token's holder is among tenants (contract A.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TenantRole {
    /// Any tenant.
    SuperAdmin,
    /// Any tenant of their partner.
    PartnerAdmin,
    /// Their own tenant.
    TenantAdmin,
}

impl TenantRole {
    /// From the claim; others say nothing about tenants.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "super_admin" => Some(Self::SuperAdmin),
            "partner_admin" => Some(Self::PartnerAdmin),
            "tenant_admin" => Some(Self::TenantAdmin),
            _ => None,
        }
    }
}

/// The tenant that a request is for, before it is known whether there is one.
///
/// A tenant that the request names wins over the token's own.
pub fn wanted(operator: &Operator, named: Option<TenantId>) -> TenantId {
    named.or_else(|| operator.tenancy.tenant.clone()).unwrap_or_else(TenantId::default_tenant)
}

/// Whether the operator may act for this tenant: their own; as a partner's administrator, that partner's;
/// all of them as a super administrator, or with the scope `admin` of a token that no tenant confines.
pub fn may_act_for(operator: &Operator, tenant: &Tenant) -> bool {
    let tenancy = &operator.tenancy;
    let own = tenancy.tenant.clone().unwrap_or_else(TenantId::default_tenant);
    own == tenant.id
        || may_act_for_any(operator)
        || tenancy.role == Some(TenantRole::PartnerAdmin)
            && tenancy.partner.as_deref() == Some(tenant.partner.as_str())
}

/// Whether the operator may act for every tenant there is, and so for one that is gone.
pub fn may_act_for_any(operator: &Operator) -> bool {
    match operator.tenancy.role {
        Some(TenantRole::SuperAdmin) => true,
        Some(TenantRole::PartnerAdmin | TenantRole::TenantAdmin) => false,
        None => operator.tenancy.tenant.is_none() && operator.may(Scope::Admin),
    }
}

/// Whether the operator's token says anything of tenants and does not reach all of them. The node's own log, in
/// which all tenants' entries stand, is not for them; their tenant's part of it is.
pub fn is_confined(operator: &Operator) -> bool {
    operator.tenancy != Tenancy::default() && !may_act_for_any(operator)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn operator(tenancy: Tenancy, scopes: &[Scope]) -> Operator {
        let scopes: BTreeSet<Scope> = scopes.iter().copied().collect();
        Operator { userid: "user".to_owned(), scopes, sites: None, tenancy }
    }

    fn tenant(id: &str, partner: &str) -> Tenant {
        Tenant { id: id.parse().unwrap(), partner: partner.to_owned(), ..Tenant::default_tenant() }
    }

    #[test]
    fn partner_admin_acts_for_the_tenants_of_their_partner_alone() {
        let tenancy = Tenancy {
            tenant: Some("tnt_a".parse().unwrap()),
            partner: Some("ptn_1".to_owned()),
            role: Some(TenantRole::PartnerAdmin),
        };
        let caller = operator(tenancy, &[]);

        assert!(may_act_for(&caller, &tenant("tnt_a", "ptn_1")));
        assert!(may_act_for(&caller, &tenant("tnt_b", "ptn_1")));
        assert!(!may_act_for(&caller, &tenant("tnt_c", "ptn_2")));
    }

    #[test]
    fn whatever_a_token_says_of_tenants_confines_it_unless_it_reaches_all() {
        let of = |tenancy| operator(tenancy, &[Scope::AuditRead]);
        let role = |role| of(Tenancy { role: Some(role), ..Tenancy::default() });

        assert!(is_confined(&of(Tenancy { tenant: Some("tnt_a".parse().unwrap()), ..Tenancy::default() })));
        assert!(is_confined(&of(Tenancy { partner: Some("ptn_1".to_owned()), ..Tenancy::default() })));
        assert!(is_confined(&role(TenantRole::PartnerAdmin)) && is_confined(&role(TenantRole::TenantAdmin)));
        assert!(!is_confined(&role(TenantRole::SuperAdmin)) && !is_confined(&of(Tenancy::default())));
    }

    #[test]
    fn token_of_a_tenant_stays_there_whatever_its_scopes() {
        let tenancy = Tenancy { tenant: Some("tnt_a".parse().unwrap()), ..Tenancy::default() };
        let caller = operator(tenancy, &Scope::ALL);

        assert_eq!(wanted(&caller, None).as_str(), "tnt_a");
        assert!(!may_act_for(&caller, &Tenant::default_tenant()));
        let admin = operator(Tenancy::default(), &[Scope::Admin]);
        assert!(may_act_for(&admin, &tenant("tnt_a", "ptn_1")));
        assert!(may_act_for_any(&admin) && !may_act_for_any(&caller));
        assert!(!may_act_for(&operator(Tenancy::default(), &[]), &tenant("tnt_a", "ptn_1")));
    }
}
