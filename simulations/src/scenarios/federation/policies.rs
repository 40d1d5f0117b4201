//! The operator's policies: written, edited, assigned, pushed at once or in waves, and taken back.

use std::collections::{BTreeMap, BTreeSet};

use hansa_actors::error::PolicyError;
use hansa_actors::view::{AssignmentView, PolicyView, PushRequest, RolloutChange};
use hansa_model::SiteId;
use hansa_model::id::PolicyId;
use hansa_model::machine::rollout::Staging;
use hansa_model::policy::{NewPolicy, PolicyPatch, PushStatus, RolloutState, WaitFor, WaveSize};
use hansa_model::site::SiteStatus;
use serde_json::json;

use super::coordinator::Coordinator;
use crate::invariants::policy_convergence::ShownPolicies;

/// Active policies at a time.
const POLICIES: usize = 5;

impl Coordinator {
    /// What each site should have in force, as far as the coordinator knows that it has.
    pub(super) fn show_policies(&self) -> anyhow::Result<BTreeMap<SiteId, ShownPolicies>> {
        let mut shown: BTreeMap<SiteId, ShownPolicies> = BTreeMap::new();
        for PolicyView { id, policy } in self.federation.policies(None, false)? {
            let detail = self.federation.policy(&self.operator, id)?;
            let rollouts = self.federation.policy_rollouts(&self.operator, id)?;
            let rolling = rollouts.iter().any(|view| !view.rollout.state.is_over());
            for AssignmentView { site_id, assignment: row, .. } in detail.assignments {
                let site = shown.entry(site_id).or_default();
                let acknowledged = row.push_status == PushStatus::Acknowledged
                    && row.applied_version == Some(policy.version)
                    && row.apply_error.is_none();
                if policy.is_active && acknowledged && !policy.held && !rolling {
                    site.in_force.insert(id, (policy.version, policy.definition.clone()));
                } else if policy.is_active || row.withdrawn_at.is_none() {
                    let version = policy.version;
                    site.unsettled.push(format!("{id} {version} held {} {row:?}", policy.held));
                }
            }
            for AssignmentView { site_id, .. } in detail.withdrawing {
                shown.entry(site_id).or_default().unsettled.push(format!("{id} is being withdrawn"));
            }
        }
        Ok(shown)
    }

    /// Now and then the operator decides something about policies; when the work is over, all are let go.
    pub(super) async fn author(&mut self) -> anyhow::Result<()> {
        let policies = self.federation.policies(None, true)?;
        if self.env.clock.now() >= self.books.work_ends {
            return self.let_go(&policies).await;
        }
        if !self.dice.chance(0.08) {
            return Ok(());
        }
        if policies.is_empty() || (policies.len() < POLICIES && self.dice.chance(0.3)) {
            let number = self.books.open().draw();
            let new = NewPolicy {
                policy_type: "role".to_owned(),
                name: format!("policy {number}"),
                description: None,
                definition: json!({ "number": number }),
            };
            self.note_policy("writes a policy", self.federation.create_policy(&self.operator, new).await);
            return Ok(());
        }
        let policy = policies[self.dice.index(policies.len())].id;
        self.decide(policy).await
    }

    async fn decide(&mut self, id: PolicyId) -> anyhow::Result<()> {
        let sites = self.some_sites();
        let hold = self.dice.chance(0.2);
        let choice = self.dice.below(12);
        let (federation, operator) = (&self.federation, &self.operator);
        match choice {
            0..4 => {
                let answer = federation.assign_policy(operator, id, sites, hold).await;
                self.note_policy("assigns", answer);
            }
            4 => self.note_policy("unassigns", federation.unassign_policy(operator, id, sites).await),
            5..8 => {
                let number = self.books.open().draw();
                let definition = Some(json!({ "number": number }));
                let patch = PolicyPatch { definition, ..PolicyPatch::default() };
                self.note_policy("edits", federation.patch_policy(operator, id, patch, hold).await);
            }
            8 => {
                let request = PushRequest::default();
                self.note_policy("pushes", federation.push_policy(operator, id, request).await);
            }
            9 => {
                let wait_for = if hold { WaitFor::Pushed } else { WaitFor::Acknowledged };
                let waves = vec![WaveSize::Sites(1), WaveSize::Percent(50)];
                let staging = Staging { waves, halt_on_errors: 1, wave_timeout_seconds: 60, wait_for };
                let request = PushRequest { staging: Some(staging), ..PushRequest::default() };
                self.note_policy("rolls out", federation.push_policy(operator, id, request).await);
            }
            10 => self.note_policy("deactivates", federation.deactivate_policy(operator, id).await),
            _ => {
                let change = if hold { RolloutChange::Abort } else { RolloutChange::Resume };
                self.change_rollout(id, change).await?;
                if let Some(site) = sites.first() {
                    self.note_policy(
                        "repushes",
                        self.federation.repush_policies(&self.operator, *site).await,
                    );
                }
            }
        }
        Ok(())
    }

    /// Lets held versions go, and halted rollouts go on.
    async fn let_go(&self, policies: &[PolicyView]) -> anyhow::Result<()> {
        for PolicyView { id, policy } in policies {
            let rollouts = self.federation.policy_rollouts(&self.operator, *id)?;
            if rollouts.iter().any(|view| !view.rollout.state.is_over()) {
                self.change_rollout(*id, RolloutChange::Resume).await?;
            } else if policy.held {
                let request = PushRequest::default();
                self.note_policy("lets go", self.federation.push_policy(&self.operator, *id, request).await);
            }
        }
        Ok(())
    }

    async fn change_rollout(&self, id: PolicyId, change: RolloutChange) -> anyhow::Result<()> {
        let rollouts = self.federation.policy_rollouts(&self.operator, id)?;
        let halted = rollouts.iter().find(|view| view.rollout.state == RolloutState::Halted);
        let Some(rollout) = halted.map(|view| view.rollout.id) else { return Ok(()) };
        let answer = self.federation.change_rollout(&self.operator, id, rollout, change).await;
        self.note_policy("changes a rollout", answer);
        Ok(())
    }

    fn some_sites(&mut self) -> BTreeSet<SiteId> {
        let mut sites = self.sites();
        sites.retain(|view| view.site.status != SiteStatus::Removed);
        sites.iter().filter(|_| self.dice.chance(0.6)).map(|view| view.site.id).collect()
    }

    /// A node with a failing disk may be unavailable, a rollout may be in the way; nothing else is an excuse.
    fn note_policy<T>(&self, action: &str, answer: Result<T, PolicyError>) {
        match answer {
            Ok(_) => self.env.observer.event(action),
            Err(error) => {
                self.env.observer.event(&format!("{action}: {error}"));
                let excused = matches!(
                    error,
                    PolicyError::Unavailable(_) | PolicyError::RollingOut(_) | PolicyError::RolloutState(_)
                );
                if !excused {
                    self.env.observer.violation(&format!("{action}: {error}"));
                }
            }
        }
    }
}
