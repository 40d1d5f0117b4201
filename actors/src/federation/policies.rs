//! The facade's part about policies, who should hold them, and their rollouts.

use std::collections::BTreeSet;

use hansa_model::enrollment::Role;
use hansa_model::id::{PolicyId, RolloutId};
use hansa_model::machine::rollout;
use hansa_model::policy::{NewPolicy, Policy, PolicyPatch, Rollout};
use hansa_model::report::{PolicyReport, Report};
use hansa_model::scope::Operator;
use hansa_model::{SiteId, SiteStatus};
use hansa_storage::{ReadView, table};

use super::Federation;
use crate::error::{IngestError, PolicyError, PolicyNotFound, SiteNotFound, Unavailable};
use crate::policies::{self, PoliciesMessage};
use crate::site::{PolicyChange, SiteMessage};
use crate::view::{
    AssignmentView, PlanView, PolicyDetail, PolicyView, PushRequest, ReportAnswer, RolloutChange,
    RolloutSite, RolloutView,
};

// Policies themselves.
impl Federation {
    /// The policies of a type, or of all, in the order of type and name.
    ///
    /// # Errors
    /// See [`PolicyError`].
    pub fn policies(
        &self,
        policy_type: Option<&str>,
        active_only: bool,
    ) -> Result<Vec<PolicyView>, PolicyError> {
        let policies = self.snapshot()?.all::<table::Policies>(..).map_err(storage)?;
        let mut views: Vec<PolicyView> = policies
            .into_iter()
            .filter(|(_, policy)| policy_type.is_none_or(|wanted| policy.policy_type == wanted))
            .filter(|(_, policy)| policy.is_active || !active_only)
            .map(|(id, policy)| PolicyView { id, policy })
            .collect();
        views.sort_by(|a, b| {
            (&a.policy.policy_type, &a.policy.name).cmp(&(&b.policy.policy_type, &b.policy.name))
        });
        Ok(views)
    }

    /// One policy, with the sites that the operator may see.
    ///
    /// # Errors
    /// See [`PolicyError`].
    pub fn policy(&self, operator: &Operator, id: PolicyId) -> Result<PolicyDetail, PolicyError> {
        let view = self.snapshot()?;
        let policy = find(&view, id)?;
        let mut rows = Vec::new();
        for site in policies::sites_of(&view, id).map_err(storage)? {
            if operator.sees(site)
                && let Some(assignment) = view.get::<table::Assignments>(&(site, id)).map_err(storage)?
            {
                let site_name = self.site_name(site);
                rows.push(AssignmentView { policy_id: id, site_id: site, site_name, assignment });
            }
        }
        rows.sort_by(|a, b| (&a.site_name, a.site_id).cmp(&(&b.site_name, b.site_id)));
        let (withdrawing, assignments) =
            rows.into_iter().partition(|row| row.assignment.unassigned_at.is_some());
        Ok(PolicyDetail { view: PolicyView { id, policy }, assignments, withdrawing })
    }

    /// Creates a policy. Durable on return.
    ///
    /// # Errors
    /// See [`PolicyError`].
    pub async fn create_policy(
        &self,
        operator: &Operator,
        new: NewPolicy,
    ) -> Result<PolicyView, PolicyError> {
        self.require_all_sites(operator)?;
        let (new, by) = (Box::new(new), operator.clone());
        let id = self.ask_policies(|reply| PoliciesMessage::Create { new, operator: by, reply }).await?;
        Ok(self.policy(operator, id)?.view)
    }

    /// Changes a policy. Durable on return; its sites are due for the new version then, unless it is held
    /// back until a push.
    ///
    /// # Errors
    /// See [`PolicyError`].
    pub async fn patch_policy(
        &self,
        operator: &Operator,
        id: PolicyId,
        patch: PolicyPatch,
        hold: bool,
    ) -> Result<PolicyView, PolicyError> {
        self.require_all_sites(operator)?;
        let (patch, by) = (Box::new(patch), operator.clone());
        let message = |reply| PoliciesMessage::Patch { policy: id, patch, hold, operator: by, reply };
        self.ask_policies(message).await?;
        Ok(self.policy(operator, id)?.view)
    }

    /// Deactivates a policy for good; a repeat changes nothing. Durable on return; it is withdrawn from its
    /// sites then, and a rollout is aborted.
    ///
    /// # Errors
    /// See [`PolicyError`].
    pub async fn deactivate_policy(
        &self,
        operator: &Operator,
        id: PolicyId,
    ) -> Result<PolicyView, PolicyError> {
        self.require_all_sites(operator)?;
        let by = operator.clone();
        self.ask_policies(|reply| PoliciesMessage::Deactivate { policy: id, operator: by, reply }).await?;
        Ok(self.policy(operator, id)?.view)
    }

    /// Who may see some sites only cannot decide what the others get.
    fn require_all_sites(&self, operator: &Operator) -> Result<(), PolicyError> {
        self.require(Role::Coordinator)?;
        if operator.sites.is_some() { Err(PolicyError::Confined) } else { Ok(()) }
    }

    fn snapshot(&self) -> Result<ReadView, PolicyError> {
        self.tree.context.store.read().map_err(storage)
    }

    fn site_name(&self, site: SiteId) -> Option<String> {
        let member = self.tree.coordinator.roster.find(site)?;
        Some(member.view().site.name.as_str().to_owned())
    }

    async fn ask_policies<T: Send + 'static>(
        &self,
        message: impl FnOnce(ractor::RpcReplyPort<Result<T, PolicyError>>) -> PoliciesMessage,
    ) -> Result<T, PolicyError> {
        self.tree.coordinator.roster.policies.call(message).await?
    }
}

// Who holds what.
impl Federation {
    /// Assigns a policy to sites, or assigns it again; sites that are not named keep what they have. Durable
    /// on return; the sites are due for it then, unless it is held back until a push.
    ///
    /// # Errors
    /// See [`PolicyError`]; when a site is not known, nothing was assigned.
    pub async fn assign_policy(
        &self,
        operator: &Operator,
        id: PolicyId,
        sites: BTreeSet<SiteId>,
        hold: bool,
    ) -> Result<PolicyDetail, PolicyError> {
        self.require_seen(operator, &sites)?;
        if hold && operator.sites.is_some() {
            return Err(PolicyError::Confined);
        }
        let by = operator.clone();
        let message = |reply| PoliciesMessage::Assign { policy: id, sites, hold, operator: by, reply };
        self.ask_policies(message).await?;
        self.policy(operator, id)
    }

    /// Takes a policy from sites; from where it is not assigned nothing is taken. Durable on return; it is
    /// withdrawn then.
    ///
    /// # Errors
    /// See [`PolicyError`]; when a site is not known, nothing was taken.
    pub async fn unassign_policy(
        &self,
        operator: &Operator,
        id: PolicyId,
        sites: BTreeSet<SiteId>,
    ) -> Result<PolicyDetail, PolicyError> {
        self.require_seen(operator, &sites)?;
        let by = operator.clone();
        self.ask_policies(|reply| PoliciesMessage::Unassign { policy: id, sites, operator: by, reply })
            .await?;
        self.policy(operator, id)
    }

    /// Makes a policy due at its enrolled sites that the operator may see, at once or wave by wave. Durable
    /// on return; the sites are told then.
    ///
    /// # Errors
    /// See [`PolicyError`].
    pub async fn push_policy(
        &self,
        operator: &Operator,
        id: PolicyId,
        request: PushRequest,
    ) -> Result<PolicyDetail, PolicyError> {
        self.require(Role::Coordinator)?;
        let by = operator.clone();
        self.ask_policies(|reply| PoliciesMessage::Push { policy: id, request, operator: by, reply }).await?;
        self.policy(operator, id)
    }

    /// Makes all policies of a site due again; answers how many. Durable on return.
    ///
    /// # Errors
    /// See [`PolicyError`].
    pub async fn repush_policies(&self, operator: &Operator, site: SiteId) -> Result<usize, PolicyError> {
        self.require(Role::Coordinator)?;
        let member = self.member(operator, site)?;
        let (change, operator) = (PolicyChange::Repush, Some(Box::new(operator.clone())));
        Ok(member.actor.call(|reply| SiteMessage::Policy { change, operator, reply }).await??)
    }

    /// What a push would do at the sites that the operator may see.
    ///
    /// # Errors
    /// See [`PolicyError`].
    pub fn plan_policy(&self, operator: &Operator, id: PolicyId) -> Result<PlanView, PolicyError> {
        let view = self.snapshot()?;
        let policy = find(&view, id)?;
        let roster = &self.tree.coordinator.roster;
        let plan = policies::plan(&view, roster, operator, id, &policy).map_err(storage)?;
        let site_names = plan.sites.iter().map(|site| self.site_name(site.site)).collect();
        Ok(PlanView { view: PolicyView { id, policy }, plan, site_names })
    }

    fn require_seen(&self, operator: &Operator, sites: &BTreeSet<SiteId>) -> Result<(), PolicyError> {
        self.require(Role::Coordinator)?;
        match sites.iter().find(|site| self.member(operator, **site).is_err()) {
            Some(unknown) => Err(SiteNotFound(*unknown).into()),
            None => Ok(()),
        }
    }
}

// Sites that speak HTTP.
impl Federation {
    /// Takes what a site says of applying a policy. Durable on return. None when the site should hold no
    /// such policy: it was withdrawn meanwhile.
    ///
    /// # Errors
    /// See [`IngestError`].
    pub async fn ingest_policy_result(
        &self,
        site: SiteId,
        report: PolicyReport,
    ) -> Result<Option<AssignmentView>, IngestError> {
        let member = self.ingesting(site)?;
        let report = Box::new(Report::Policy(report));
        match member.actor.call(|reply| SiteMessage::Report { report, reply }).await?? {
            ReportAnswer::Policy(row) => Ok(row.map(|row| *row)),
            ReportAnswer::Compliance(_)
            | ReportAnswer::Vulnerabilities(_)
            | ReportAnswer::Command(_)
            | ReportAnswer::Lease(_) => Err(IngestError::NotTaken),
        }
    }
}

// Rollouts.
impl Federation {
    /// The rollouts of a policy that are kept, newest first, with the sites that the operator may see.
    ///
    /// # Errors
    /// See [`PolicyError`].
    pub fn policy_rollouts(
        &self,
        operator: &Operator,
        id: PolicyId,
    ) -> Result<Vec<RolloutView>, PolicyError> {
        let view = self.snapshot()?;
        find(&view, id)?;
        let rollouts = policies::rollouts(&view, id).map_err(storage)?;
        rollouts.into_iter().rev().map(|rollout| self.rollout_view(&view, operator, id, rollout)).collect()
    }

    /// Resumes or aborts a rollout. Durable on return.
    ///
    /// # Errors
    /// See [`PolicyError`].
    pub async fn change_rollout(
        &self,
        operator: &Operator,
        id: PolicyId,
        rollout: RolloutId,
        change: RolloutChange,
    ) -> Result<RolloutView, PolicyError> {
        self.require_all_sites(operator)?;
        let by = operator.clone();
        let message = |reply| PoliciesMessage::Rollout { policy: id, rollout, change, operator: by, reply };
        self.ask_policies(message).await?;
        let view = self.snapshot()?;
        let row = view.get::<table::Rollouts>(&(id, rollout)).map_err(storage)?;
        let row = row.ok_or(crate::error::RolloutNotFound(rollout))?;
        self.rollout_view(&view, operator, id, row)
    }

    fn rollout_view(
        &self,
        view: &ReadView,
        operator: &Operator,
        id: PolicyId,
        rollout: Rollout,
    ) -> Result<RolloutView, PolicyError> {
        let mut sites = Vec::new();
        for (wave, members) in rollout.waves.iter().enumerate() {
            for site in members.iter().filter(|site| operator.sees(**site)) {
                let row = view.get::<table::Assignments>(&(*site, id)).map_err(storage)?;
                let member = self.tree.coordinator.roster.find(*site);
                let status = member.map_or(SiteStatus::Removed, |member| member.view().site.status);
                let progress = rollout::progress(&rollout, status, row.as_ref());
                sites.push(RolloutSite { site_id: *site, site_name: self.site_name(*site), wave, progress });
            }
        }
        Ok(RolloutView { rollout, sites })
    }
}

fn find(view: &ReadView, id: PolicyId) -> Result<Policy, PolicyError> {
    view.get::<table::Policies>(&id).map_err(storage)?.ok_or_else(|| PolicyNotFound(id).into())
}

fn storage(_: hansa_storage::ReadError) -> PolicyError {
    Unavailable::Storage.into()
}
