//! The registry's part about tenants and their path policies.

use std::sync::Arc;

use hansa_model::audit::{AuditDraft, Detail};
use hansa_model::limits::secrets as limits;
use hansa_model::scope::{Operator, Scope};
use hansa_model::secrets::id::{PathPolicyId, TenantId};
use hansa_model::secrets::policy::PathPolicy;
use hansa_model::secrets::routes::Routes;
use hansa_model::secrets::tenant::Tenant;
use hansa_storage::codec::Named;
use hansa_storage::{Batch, Lane, table};

use super::TenantBoard;
use super::error::TenantError;
use super::registry::{BackendsActor, PolicyDraft};
use super::rows::page_below;

impl BackendsActor {
    pub(super) async fn add_tenant(
        &self,
        tenant: Tenant,
        operator: &Operator,
    ) -> Result<Tenant, TenantError> {
        if !operator.may(Scope::Admin) {
            return Err(TenantError::Denied);
        }
        let board = self.backends.board();
        if board.tenants.contains_key(&tenant.id) || board.tenants.len() >= limits::TENANTS_MAX {
            return Err(TenantError::Exists);
        }
        let details = [("tenant", tenant.id.as_str().into()), ("partner", tenant.partner.as_str().into())];
        let mut batch = Batch::new();
        batch.put::<table::Tenants>(tenant.id.as_str(), &tenant).audit(self.context().audit_node(
            "tenant_created",
            Some(operator),
            details,
        ));
        self.context().commit(Lane::Operator, batch).await?;
        let made = TenantBoard { tenant: tenant.clone(), routes: Routes::empty(), policies: Vec::new() };
        self.publish(|board| {
            board.tenants.insert(tenant.id.clone(), Arc::new(made));
        });
        Ok(tenant)
    }

    pub(super) async fn remove_tenant(&self, id: &TenantId, operator: &Operator) -> Result<(), TenantError> {
        if !operator.may(Scope::Admin) {
            return Err(TenantError::Denied);
        }
        let board = self.backends.board();
        let tenant = board.tenants.get(id).filter(|_| *id != TenantId::default_tenant());
        let tenant = tenant.ok_or(TenantError::NotFound)?;
        let secrets = page_below(&self.context().store.read()?, id.as_str(), "", "", 1)?;
        let has_backends = board.members.values().any(|member| member.row.tenant == *id)
            || board.leaving.values().any(|(tenant, _)| tenant == id);
        if has_backends || !tenant.policies.is_empty() || !secrets.is_empty() {
            return Err(TenantError::InUse);
        }
        let mut batch = Batch::new();
        batch.delete::<table::Tenants>(id.as_str()).audit(self.context().audit_node(
            "tenant_removed",
            Some(operator),
            [("tenant", id.as_str().into())],
        ));
        self.context().commit(Lane::Operator, batch).await?;
        self.publish(|board| {
            board.tenants.remove(id);
        });
        Ok(())
    }

    pub(super) async fn put_policy(
        &self,
        tenant: &TenantId,
        id: Option<PathPolicyId>,
        draft: PolicyDraft,
        operator: &Operator,
    ) -> Result<PathPolicy, TenantError> {
        let board = self.backends.tenant(tenant).ok_or(TenantError::NotFound)?;
        let old = match id {
            Some(id) => {
                let found = board.policies.iter().find(|policy| policy.id == id);
                Some(found.ok_or(TenantError::PolicyNotFound(id))?)
            }
            None => None,
        };
        if board.policies.iter().any(|policy| policy.name == draft.name && Some(policy.id) != id)
            || (old.is_none() && board.policies.len() >= limits::POLICIES_MAX)
        {
            return Err(TenantError::NameTaken);
        }
        let context = self.context();
        let now = context.now();
        let policy = PathPolicy {
            id: id.unwrap_or_else(|| PathPolicyId::generate(now, &*context.entropy)),
            tenant: tenant.clone(),
            name: draft.name,
            description: draft.description,
            rules: draft.rules,
            identities: draft.identities,
            created_at: old.map_or(now, |old| old.created_at),
            updated_at: now,
        };
        let operation = if old.is_some() { "path_policy_updated" } else { "path_policy_created" };
        let mut batch = Batch::new();
        batch
            .put::<table::PathPolicies>(&Named::new(tenant.as_str(), policy.id), &policy)
            .audit(self.policy_entry(operation, &policy, operator));
        context.commit(Lane::Operator, batch).await?;
        self.publish_policies(tenant, |policies| {
            policies.retain(|other| other.id != policy.id);
            policies.push(Arc::new(policy.clone()));
            policies.sort_by_key(|policy| policy.id);
        });
        Ok(policy)
    }

    pub(super) async fn remove_policy(
        &self,
        tenant: &TenantId,
        id: PathPolicyId,
        operator: &Operator,
    ) -> Result<(), TenantError> {
        let board = self.backends.tenant(tenant).ok_or(TenantError::NotFound)?;
        let policy = board.policies.iter().find(|policy| policy.id == id);
        let policy = policy.ok_or(TenantError::PolicyNotFound(id))?;
        let mut batch = Batch::new();
        batch.delete::<table::PathPolicies>(&Named::new(tenant.as_str(), id)).audit(self.policy_entry(
            "path_policy_deleted",
            policy,
            operator,
        ));
        self.context().commit(Lane::Operator, batch).await?;
        self.publish_policies(tenant, |policies| policies.retain(|other| other.id != id));
        Ok(())
    }

    fn publish_policies(&self, tenant: &TenantId, change: impl FnOnce(&mut Vec<Arc<PathPolicy>>)) {
        let mut board = (*self.backends.board()).clone();
        if let Some(tenant) = board.tenants.get_mut(tenant) {
            change(&mut Arc::make_mut(tenant).policies);
        }
        self.backends.board.store(Arc::new(board));
    }

    fn policy_entry(&self, operation: &str, policy: &PathPolicy, operator: &Operator) -> AuditDraft {
        let details: [(&'static str, Detail); 3] = [
            ("tenant", policy.tenant.as_str().into()),
            ("policy_id", policy.id.to_string().as_str().into()),
            ("policy_name", policy.name.as_str().into()),
        ];
        self.context().audit_node(operation, Some(operator), details)
    }
}
