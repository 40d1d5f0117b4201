//! The site's policies: what the site should hold, pushed and settled.
//!
//! Assignments are this actor's alone to write. Rows are read from the store each time: they are few, and
//! what an operator does to one happens seldom.

use std::collections::BTreeMap;

use hansa_model::SiteId;
use hansa_model::audit::Detail;
use hansa_model::id::PolicyId;
use hansa_model::machine::delivery::{Failed, PushKey};
use hansa_model::machine::policy::{self, RowDecision, Told};
use hansa_model::machine::registry::Entry;
use hansa_model::policy::{Assignment, Policy};
use hansa_model::push::{PolicyPush, PolicyWithdrawal, PushContent};
use hansa_model::received::HeldPolicy;
use hansa_model::report::PolicyReport;
use hansa_model::scope::Operator;
use hansa_model::site::SiteStatus;
use hansa_storage::{Batch, Entries, Lane, ReadError, ReadView, table};
use tracing::debug;
use uuid::Uuid;

use super::{SiteActor, SiteState};
use crate::error::Unavailable;
use crate::policies::PoliciesMessage;
use crate::view::AssignmentView;

/// A change of what the site should hold.
#[derive(Debug, Clone)]
pub(crate) enum PolicyChange {
    /// Hold this policy. Held back, it waits for a push.
    Assign { policy: PolicyId, hold: bool },
    /// Hold it no longer.
    Unassign { policy: PolicyId },
    /// Tell the site once more, and release a held version to it; the text says why, for the audit log.
    Requeue { policy: PolicyId, trigger: &'static str },
    /// Tell the site all of its policies once more; nothing is released.
    Repush,
}

/// Keys of all policies of a site.
fn of_site(site: SiteId) -> std::ops::RangeInclusive<(SiteId, PolicyId)> {
    (site, PolicyId(Uuid::nil()))..=(site, PolicyId(Uuid::max()))
}

// What is due.
impl SiteActor {
    pub(super) fn load_policies(&self, view: &ReadView, state: &mut SiteState) -> Result<(), ReadError> {
        for ((_, id), row) in self.policy_rows(view, state)? {
            if let Some(policy) = view.get::<table::Policies>(&id)? {
                want(state, id, &policy, &row);
            }
        }
        Ok(())
    }

    /// A policy was changed, or any may have been: looks what is due now.
    pub(super) fn policy_changed(&self, state: &mut SiteState, id: Option<PolicyId>) {
        let looked = self.context.store.read().and_then(|view| match id {
            None => self.load_policies(&view, state),
            Some(id) => {
                if let Some((policy, row)) = self.policy_row(&view, state, id)? {
                    want(state, id, &policy, &row);
                }
                Ok(())
            }
        });
        if let Err(error) = looked {
            // The next incarnation of this actor, or the next change, looks again.
            debug!(site = %state.site.id, %error, "what is due of policies cannot be read");
        }
    }

    fn policy_rows(
        &self,
        view: &ReadView,
        state: &SiteState,
    ) -> Result<Entries<table::Assignments>, ReadError> {
        view.all::<table::Assignments>(of_site(state.site.id))
    }

    fn policy_row(
        &self,
        view: &ReadView,
        state: &SiteState,
        id: PolicyId,
    ) -> Result<Option<(Policy, Assignment)>, ReadError> {
        let Some(row) = view.get::<table::Assignments>(&(state.site.id, id))? else { return Ok(None) };
        Ok(view.get::<table::Policies>(&id)?.map(|policy| (policy, row)))
    }
}

/// Asks for a delivery of what is due. What is no longer due is dropped when its turn comes, so that the
/// answer to a push that is out still counts.
fn want(state: &mut SiteState, id: PolicyId, policy: &Policy, row: &Assignment) {
    let Some(told) = Told::now(policy, row) else { return };
    let backs_off = row.push_attempts > 0 && row.withdrawing == told.withdrawal;
    let tried_at = row.last_push_attempt_at.filter(|_| backs_off);
    let refusals = policy::refusals(row, told);
    state.deliveries.want(PushKey::Policy(id), told.pack(), refusals, tried_at);
}

// What operators change.
impl SiteActor {
    /// Durable on return. Answers how many rows changed.
    pub(super) async fn change_policy(
        &self,
        state: &mut SiteState,
        change: PolicyChange,
        operator: Option<&Operator>,
    ) -> Result<usize, Unavailable> {
        let view = self.context.store.read().map_err(|_| Unavailable::Storage)?;
        let changed = self.changed_rows(&view, state, change, operator).map_err(|_| Unavailable::Storage)?;
        drop(view);
        if changed.rows.is_empty() {
            return Ok(0);
        }
        self.store_changed(state, changed, operator).await
    }

    async fn store_changed(
        &self,
        state: &mut SiteState,
        Changed { rows, entry }: Changed,
        operator: Option<&Operator>,
    ) -> Result<usize, Unavailable> {
        let mut batch = Batch::new();
        for (id, _, row) in &rows {
            self.put_row(&mut batch, state, *id, row.as_ref());
        }
        if let Some(entry) = entry {
            batch.audit(self.context.audit(entry, operator, &state.site));
        }
        self.context.commit(Lane::Push, batch).await?;
        for (id, policy, row) in &rows {
            match row {
                Some(row) => want(state, *id, policy, row),
                None => state.deliveries.forget(PushKey::Policy(*id)),
            }
            self.tell_policies(state, *id);
        }
        Ok(rows.len())
    }

    fn changed_rows(
        &self,
        view: &ReadView,
        state: &SiteState,
        change: PolicyChange,
        operator: Option<&Operator>,
    ) -> Result<Changed, ReadError> {
        let now = self.context.now();
        match change {
            PolicyChange::Assign { policy: id, hold } => {
                let Some(policy) = view.get::<table::Policies>(&id)? else { return Ok(Changed::default()) };
                let row = view.get::<table::Assignments>(&(state.site.id, id))?;
                let by = operator.map_or("", |operator| operator.userid.as_str());
                let next = policy::assign(row.as_ref(), &policy, now, by, hold);
                let entry = named("policy_assigned", id, &policy);
                Ok(Changed { rows: vec![(id, policy, Some(next))], entry: Some(entry) })
            }
            PolicyChange::Unassign { policy: id } => match self.policy_row(view, state, id)? {
                Some((policy, row)) if row.unassigned_at.is_none() => {
                    let next = policy::unassign(&row, state.site.status, now);
                    let entry = named("policy_unassigned", id, &policy);
                    Ok(Changed { rows: vec![(id, policy, next)], entry: Some(entry) })
                }
                _ => Ok(Changed::default()),
            },
            PolicyChange::Requeue { policy: id, trigger } => match self.policy_row(view, state, id)? {
                Some((policy, row))
                    if state.site.status == SiteStatus::Enrolled && row.withdrawn_at.is_none() =>
                {
                    let next = policy::requeue(&policy, &row, true);
                    let entry = requeued(Some(id), 1, trigger);
                    Ok(Changed { rows: vec![(id, policy, Some(next))], entry: Some(entry) })
                }
                _ => Ok(Changed::default()),
            },
            PolicyChange::Repush => {
                let mut rows = Vec::new();
                for ((_, id), row) in self.policy_rows(view, state)? {
                    if row.withdrawn_at.is_none()
                        && let Some(policy) = view.get::<table::Policies>(&id)?
                    {
                        let next = policy::requeue(&policy, &row, false);
                        rows.push((id, policy, Some(next)));
                    }
                }
                let entry = requeued(None, rows.len(), "site_repush");
                Ok(Changed { rows, entry: Some(entry) })
            }
        }
    }

    fn put_row(&self, batch: &mut Batch, state: &SiteState, id: PolicyId, row: Option<&Assignment>) {
        let site = state.site.id;
        match row {
            Some(row) => {
                batch.put::<table::Assignments>(&(site, id), row);
                batch.put::<table::PolicySites>(&(id, site), &());
            }
            None => {
                batch.delete::<table::Assignments>(&(site, id));
                batch.delete::<table::PolicySites>(&(id, site));
            }
        }
    }

    fn tell_policies(&self, state: &SiteState, policy: PolicyId) {
        self.roster.policies.cast(PoliciesMessage::Moved { policy, site: state.site.id });
    }
}

/// Rows to store, each with its policy, and what the audit log says of them.
#[derive(Default)]
struct Changed {
    rows: Vec<(PolicyId, Policy, Option<Assignment>)>,
    entry: Option<Entry>,
}

fn named(operation: &'static str, id: PolicyId, policy: &Policy) -> Entry {
    let details = [("policy_id", Detail::Text(id.to_string())), ("name", Detail::from(policy.name.as_str()))];
    Entry { operation, details: details.into_iter().map(|(name, value)| (name.to_owned(), value)).collect() }
}

fn requeued(id: Option<PolicyId>, count: usize, trigger: &'static str) -> Entry {
    let count = Detail::Int(i64::try_from(count).unwrap_or(i64::MAX));
    let details = [("requeued", count), ("trigger", Detail::from(trigger))];
    let policy = id.map(|id| ("policy_id", Detail::Text(id.to_string())));
    let details = details.into_iter().chain(policy);
    let details = details.map(|(name, value)| (name.to_owned(), value)).collect();
    Entry { operation: "policy_pushed", details }
}

// What the site says it holds.
impl SiteActor {
    /// Tells the site again where it differs from what it should hold. What is not stored now is compared again
    /// at the next link.
    pub(super) async fn policies_held(&self, state: &mut SiteState, policies: &[HeldPolicy]) {
        let mut held: BTreeMap<PolicyId, &HeldPolicy> =
            policies.iter().map(|held| (held.policy_id, held)).collect();
        let compared = self.context.store.read().and_then(|view| self.compare(&view, state, &mut held));
        let (changed, outnumbered) = match compared {
            Ok(compared) => compared,
            Err(error) => {
                debug!(site = %state.site.id, %error, "what the site holds cannot be compared");
                return;
            }
        };
        for (policy, version) in outnumbered {
            self.roster.policies.cast(PoliciesMessage::Outnumbered { policy, version });
        }
        state.strays =
            held.values().filter(|held| held.wanted).map(|held| (held.policy_id, held.version)).collect();
        for (id, version) in &state.strays {
            let told = Told { round: 0, withdrawal: true, version: *version };
            state.deliveries.want(PushKey::Policy(*id), told.pack(), 0, None);
        }
        if !changed.rows.is_empty()
            && let Err(error) = self.store_changed(state, changed, None).await
        {
            debug!(site = %state.site.id, %error, "what the site lacks is not stored");
        }
    }

    /// Takes out of `held` what the site should know of. Answers with the rows that are due again, and with the
    /// policies of which the site has a higher version than there is.
    fn compare(
        &self,
        view: &ReadView,
        state: &SiteState,
        held: &mut BTreeMap<PolicyId, &HeldPolicy>,
    ) -> Result<(Changed, Vec<(PolicyId, u32)>), ReadError> {
        let mut outnumbered = Vec::new();
        for held in held.values() {
            let policy = view.get::<table::Policies>(&held.policy_id)?;
            if policy.is_some_and(|policy| policy.version < held.version) {
                outnumbered.push((held.policy_id, held.version));
            }
        }
        let mut rows = Vec::new();
        for ((_, id), row) in self.policy_rows(view, state)? {
            let there = held.remove(&id);
            if let Some(policy) = view.get::<table::Policies>(&id)?
                && let Some(next) = policy::differs(&policy, &row, there)
            {
                rows.push((id, policy, Some(next)));
            }
        }
        let entry = requeued(None, rows.len(), "site_differs");
        Ok((Changed { rows, entry: Some(entry) }, outnumbered))
    }
}

// Pushed, refused, reported.
impl SiteActor {
    pub(super) fn policy_content(
        &self,
        view: &ReadView,
        state: &SiteState,
        id: PolicyId,
    ) -> Result<Option<PushContent>, ReadError> {
        let Some((policy, row)) = self.policy_row(view, state, id)? else {
            let withdrawal = |version: &u32| PolicyWithdrawal { policy_id: id, version: *version };
            return Ok(state.strays.get(&id).map(withdrawal).map(PushContent::WithdrawPolicy));
        };
        let Some(told) = Told::now(&policy, &row) else { return Ok(None) };
        Ok(Some(if told.withdrawal {
            PushContent::WithdrawPolicy(PolicyWithdrawal { policy_id: id, version: told.version })
        } else {
            PushContent::Policy(PolicyPush {
                policy_id: id,
                policy_type: policy.policy_type,
                name: policy.name,
                definition: policy.definition,
                version: told.version,
            })
        }))
    }

    pub(super) async fn policy_taken(
        &self,
        state: &mut SiteState,
        id: PolicyId,
        version: u64,
    ) -> Result<(), Unavailable> {
        let Some(row) = self.stored_row(state, id)? else {
            state.strays.remove(&id);
            return Ok(());
        };
        let decision = policy::pushed(id, &row, Told::unpack(version), self.context.now());
        self.settle(state, id, decision).await
    }

    pub(super) async fn policy_failed(
        &self,
        state: &mut SiteState,
        id: PolicyId,
        failed: &Failed,
        error: &str,
    ) -> Result<(), Unavailable> {
        let Some(row) = self.stored_row(state, id)? else { return Ok(()) };
        let told = Told::unpack(failed.delivery.version);
        let outcome = (failed.refusals, failed.dead);
        let decision = policy::failed(id, &row, told, self.context.now(), error, outcome);
        self.settle(state, id, decision).await
    }

    /// Puts what the site says of a policy into its batch. None when it says nothing new; the row is then
    /// shown as it is.
    pub(super) fn put_policy_report(
        &self,
        batch: &mut Batch,
        state: &SiteState,
        report: &PolicyReport,
    ) -> Result<(Option<PolicyId>, Option<AssignmentView>), Unavailable> {
        let id = report.policy_id;
        let view = self.context.store.read().map_err(|_| Unavailable::Storage)?;
        let row = self.policy_row(&view, state, id).map_err(|_| Unavailable::Storage)?;
        let Some((policy, row)) = row else { return Ok((None, None)) };
        let shown = |row: Assignment| AssignmentView {
            policy_id: id,
            site_id: state.site.id,
            site_name: Some(state.site.name.as_str().to_owned()),
            assignment: row,
        };
        let Some(decision) = policy::reported(id, &policy, &row, report) else {
            return Ok((None, Some(shown(row))));
        };
        self.put_decision(batch, state, id, &decision);
        Ok((Some(id), decision.row.map(shown)))
    }

    /// A report is on disk.
    pub(super) fn policy_reported(&self, state: &SiteState, id: PolicyId) {
        self.tell_policies(state, id);
    }

    fn stored_row(&self, state: &SiteState, id: PolicyId) -> Result<Option<Assignment>, Unavailable> {
        let view = self.context.store.read().map_err(|_| Unavailable::Storage)?;
        view.get::<table::Assignments>(&(state.site.id, id)).map_err(|_| Unavailable::Storage)
    }

    async fn settle(
        &self,
        state: &SiteState,
        id: PolicyId,
        decision: Option<RowDecision>,
    ) -> Result<(), Unavailable> {
        let Some(decision) = decision else { return Ok(()) };
        let mut batch = Batch::new();
        self.put_decision(&mut batch, state, id, &decision);
        self.context.commit(Lane::Push, batch).await?;
        self.tell_policies(state, id);
        Ok(())
    }

    fn put_decision(&self, batch: &mut Batch, state: &SiteState, id: PolicyId, decision: &RowDecision) {
        self.put_row(batch, state, id, decision.row.as_ref());
        if let Some(entry) = decision.entry.clone() {
            batch.audit(self.context.audit(entry, None, &state.site));
        }
    }
}
