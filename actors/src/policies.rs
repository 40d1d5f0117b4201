//! The coordinator's policies and their rollouts.
//!
//! Shell around `machine::policy` and `machine::rollout`. It owns the rows of policies and rollouts; who
//! holds what belongs to the sites' actors, which it calls and which tell it of each change. What it keeps
//! in memory is how far the sites of open rollouts are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hansa_model::SiteId;
use hansa_model::audit::{AuditDraft, Detail};
use hansa_model::id::{AuditId, PolicyId, RolloutId};
use hansa_model::limits::policy as limits;
use hansa_model::machine::policy::{self, PolicyRejection};
use hansa_model::machine::registry::Entry;
use hansa_model::machine::rollout::{self, Progress, RolloutDecision};
use hansa_model::policy::{NewPolicy, Policy, PolicyPatch, Rollout, RolloutState};
use hansa_model::scope::Operator;
use hansa_model::site::SiteStatus;
use hansa_storage::{Batch, CommitError, Lane, ReadView, table};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::task::JoinSet;
use tracing::debug;
use uuid::Uuid;

use crate::context::Context;
use crate::error::{PolicyError, PolicyNotFound, RolloutNotFound, Unavailable};
use crate::roster::{Member, Roster};
use crate::site::{PolicyChange, SiteMessage};
use crate::supervision::Tied;
use crate::view::{PushRequest, RolloutChange};

/// Everything that can be asked about policies.
#[derive(Debug)]
pub(crate) enum PoliciesMessage {
    /// Creates a policy. Answers once it is on disk.
    Create { new: Box<NewPolicy>, operator: Operator, reply: RpcReplyPort<Result<PolicyId, PolicyError>> },
    /// Changes a policy. Answers once it is on disk; its sites look what is due then.
    Patch {
        policy: PolicyId,
        patch: Box<PolicyPatch>,
        hold: bool,
        operator: Operator,
        reply: RpcReplyPort<Result<(), PolicyError>>,
    },
    /// Deactivates a policy. Answers once it is on disk; its sites are due for the withdrawal then.
    Deactivate { policy: PolicyId, operator: Operator, reply: RpcReplyPort<Result<(), PolicyError>> },
    /// Assigns a policy to sites. Answers once each site's row is on disk.
    Assign {
        policy: PolicyId,
        sites: BTreeSet<SiteId>,
        hold: bool,
        operator: Operator,
        reply: RpcReplyPort<Result<(), PolicyError>>,
    },
    /// Takes a policy from sites. Answers once each site's row is on disk.
    Unassign {
        policy: PolicyId,
        sites: BTreeSet<SiteId>,
        operator: Operator,
        reply: RpcReplyPort<Result<(), PolicyError>>,
    },
    /// Makes a policy due at its sites, at once or wave by wave. Answers once that is on disk.
    Push {
        policy: PolicyId,
        request: PushRequest,
        operator: Operator,
        reply: RpcReplyPort<Result<(), PolicyError>>,
    },
    /// Resumes or aborts a rollout. Answers once that is on disk.
    Rollout {
        policy: PolicyId,
        rollout: RolloutId,
        change: RolloutChange,
        operator: Operator,
        reply: RpcReplyPort<Result<(), PolicyError>>,
    },
    /// A site holds a higher version of a policy than there is. No answer.
    Outnumbered { policy: PolicyId, version: u32 },
    /// What a site holds of a policy has changed. No answer.
    Moved { policy: PolicyId, site: SiteId },
    /// Look at the rollouts whose sites have moved. No answer.
    Look,
    /// Look at every open rollout. No answer.
    Housekeeping,
    /// Fails on purpose, to show that only this actor restarts.
    #[cfg(feature = "testing")]
    DangerPanic,
}

pub(crate) struct PoliciesActor {
    pub(crate) context: Arc<Context>,
    pub(crate) roster: Arc<Roster>,
}

pub(crate) struct PoliciesState {
    /// Rollouts that are not over, at most one for each policy.
    open: BTreeMap<PolicyId, Open>,
    /// A look is on its way.
    looking: bool,
    _ticker: Tied,
}

struct Open {
    rollout: Rollout,
    progress: BTreeMap<SiteId, Progress>,
    moved: BTreeSet<SiteId>,
}

impl Actor for PoliciesActor {
    type Msg = PoliciesMessage;
    type State = PoliciesState;
    type Arguments = ();

    async fn pre_start(
        &self,
        myself: ActorRef<PoliciesMessage>,
        (): (),
    ) -> Result<PoliciesState, ActorProcessingErr> {
        let view = self.context.store.read()?;
        let mut open = BTreeMap::new();
        for ((policy, _), rollout) in view.all::<table::Rollouts>(..)? {
            if !rollout.state.is_over() {
                open.insert(policy, Open::new(rollout));
            }
        }
        drop(view);
        // An earlier incarnation may have failed between a commit and its notices.
        for member in self.roster.members() {
            member.actor.cast(SiteMessage::PolicyChanged { policy: None });
        }
        let interval = self.context.config.housekeeping_interval;
        let ticker = Tied::spawn(async move {
            loop {
                if myself.cast(PoliciesMessage::Housekeeping).is_err() {
                    return;
                }
                tokio::time::sleep(interval).await;
            }
        });
        Ok(PoliciesState { open, looking: false, _ticker: ticker })
    }

    async fn handle(
        &self,
        myself: ActorRef<PoliciesMessage>,
        message: PoliciesMessage,
        state: &mut PoliciesState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            PoliciesMessage::Create { new, operator, reply } => {
                let answer = self.create(&new, &operator).await;
                // A caller that gave up has nothing to be told; the same holds for every reply below.
                let _ = reply.send(answer);
            }
            PoliciesMessage::Patch { policy, patch, hold, operator, reply } => {
                let answer = self.patch(state, policy, &patch, hold, &operator).await;
                let _ = reply.send(answer);
            }
            PoliciesMessage::Deactivate { policy, operator, reply } => {
                let answer = self.deactivate(state, policy, &operator).await;
                let _ = reply.send(answer);
            }
            PoliciesMessage::Assign { policy, sites, hold, operator, reply } => {
                let answer = self.assign(policy, &sites, hold, &operator).await;
                let _ = reply.send(answer);
            }
            PoliciesMessage::Unassign { policy, sites, operator, reply } => {
                let answer = self.unassign(policy, &sites, &operator).await;
                let _ = reply.send(answer);
            }
            PoliciesMessage::Push { policy, request, operator, reply } => {
                let answer = self.push(state, policy, &request, &operator).await;
                let _ = reply.send(answer);
            }
            PoliciesMessage::Rollout { policy, rollout, change, operator, reply } => {
                let answer = self.change_rollout(state, policy, rollout, change, &operator).await;
                let _ = reply.send(answer);
            }
            PoliciesMessage::Outnumbered { policy, version } => {
                if let Err(error) = self.outnumbered(state, policy, version).await {
                    // The site says so again at its next link.
                    debug!(%policy, %error, "policy not renumbered");
                }
            }
            PoliciesMessage::Moved { policy, site } => {
                if let Some(open) = state.open.get_mut(&policy) {
                    open.moved.insert(site);
                    // Many sites move at once; one look serves them all.
                    if !std::mem::replace(&mut state.looking, true) {
                        myself.cast(PoliciesMessage::Look)?;
                    }
                }
            }
            PoliciesMessage::Look => {
                state.looking = false;
                self.look(state).await;
            }
            PoliciesMessage::Housekeeping => {
                for open in state.open.values_mut() {
                    open.moved = open.rollout.waves.iter().flatten().copied().collect();
                }
                self.look(state).await;
            }
            #[cfg(feature = "testing")]
            PoliciesMessage::DangerPanic => panic!("asked to fail"),
        }
        Ok(())
    }
}

impl Open {
    /// A rollout of which nothing is known yet: all of its sites are looked at.
    fn new(rollout: Rollout) -> Self {
        let moved = rollout.waves.iter().flatten().copied().collect();
        Self { rollout, progress: BTreeMap::new(), moved }
    }
}

// Policies.
impl PoliciesActor {
    async fn create(&self, new: &NewPolicy, operator: &Operator) -> Result<PolicyId, PolicyError> {
        let now = self.context.now();
        let id = PolicyId::generate(now, &*self.context.entropy);
        let decision = policy::create(id, now, new, &operator.userid).map_err(PolicyRejection::Invalid)?;
        let view = self.view()?;
        let held = view.all::<table::PolicyNames>(..).map_err(storage)?.len();
        drop(view);
        if held >= limits::POLICIES_MAX {
            return Err(PolicyError::TooMany { max: limits::POLICIES_MAX });
        }
        let mut batch = Batch::new();
        let name = table::PolicyNames::key(&decision.policy.policy_type, &decision.policy.name);
        batch.expect_absent::<table::PolicyNames>(&name);
        batch.put::<table::PolicyNames>(&name, &id).put::<table::Policies>(&id, &decision.policy);
        self.store_named(batch, decision.entry, operator).await?;
        Ok(id)
    }

    async fn patch(
        &self,
        state: &PoliciesState,
        id: PolicyId,
        patch: &PolicyPatch,
        hold: bool,
        operator: &Operator,
    ) -> Result<(), PolicyError> {
        let before = self.policy(&self.view()?, id)?;
        let decision = policy::patch(id, &before, self.context.now(), patch, hold)?;
        if decision.entry.is_none() {
            return Ok(());
        }
        not_rolling_out(state, id)?;
        let mut batch = Batch::new();
        let [old, new] = [&before, &decision.policy]
            .map(|policy| table::PolicyNames::key(&policy.policy_type, &policy.name));
        if old != new {
            batch.expect_absent::<table::PolicyNames>(&new);
            batch.delete::<table::PolicyNames>(&old).put::<table::PolicyNames>(&new, &id);
        }
        batch.put::<table::Policies>(&id, &decision.policy);
        self.store_named(batch, decision.entry, operator).await?;
        self.tell_sites(id);
        Ok(())
    }

    async fn deactivate(
        &self,
        state: &mut PoliciesState,
        id: PolicyId,
        operator: &Operator,
    ) -> Result<(), PolicyError> {
        let now = self.context.now();
        let decision = policy::deactivate(id, &self.policy(&self.view()?, id)?, now);
        let Some(entry) = decision.entry else { return Ok(()) };
        let mut batch = Batch::new();
        batch.put::<table::Policies>(&id, &decision.policy);
        batch.audit(self.audit(entry, Some(operator)));
        if let Some(open) = state.open.get(&id)
            && let Ok(aborted) = rollout::abort(id, &open.rollout, now)
        {
            self.put_rollout(&mut batch, id, aborted, Some(operator));
        }
        self.context.commit(Lane::Push, batch).await?;
        state.open.remove(&id);
        self.tell_sites(id);
        Ok(())
    }

    /// Lets a policy go on above a version that a site has from a history that is lost here.
    async fn outnumbered(
        &self,
        state: &mut PoliciesState,
        id: PolicyId,
        version: u32,
    ) -> Result<(), PolicyError> {
        let now = self.context.now();
        let before = self.policy(&self.view()?, id)?;
        let Some(decision) = policy::outnumbered(id, &before, version, now) else { return Ok(()) };
        let mut batch = Batch::new();
        batch.put::<table::Policies>(&id, &decision.policy);
        if let Some(entry) = decision.entry {
            batch.audit(self.audit(entry, None));
        }
        // A rollout is of one version.
        if let Some(open) = state.open.get(&id)
            && let Ok(aborted) = rollout::abort(id, &open.rollout, now)
        {
            self.put_rollout(&mut batch, id, aborted, None);
        }
        self.context.commit(Lane::Push, batch).await?;
        state.open.remove(&id);
        self.tell_sites(id);
        Ok(())
    }

    /// Stores a batch that may claim a name.
    async fn store_named(
        &self,
        mut batch: Batch,
        entry: Option<Entry>,
        operator: &Operator,
    ) -> Result<(), PolicyError> {
        if let Some(entry) = entry {
            batch.audit(self.audit(entry, Some(operator)));
        }
        match self.context.store_batch(Lane::Operator, batch).await {
            Ok(_) => Ok(()),
            Err(CommitError::PreconditionFailed { .. }) => Err(PolicyError::NameTaken),
            Err(error) => Err(Unavailable::from(error).into()),
        }
    }

    /// Every site that should hold the policy, or should give it up, looks what is due.
    fn tell_sites(&self, id: PolicyId) {
        let Ok(view) = self.context.store.read() else { return };
        let Ok(sites) = sites_of(&view, id) else { return };
        for member in sites.into_iter().filter_map(|site| self.roster.find(site)) {
            member.actor.cast(SiteMessage::PolicyChanged { policy: Some(id) });
        }
    }
}

// Who holds what.
impl PoliciesActor {
    async fn assign(
        &self,
        id: PolicyId,
        sites: &BTreeSet<SiteId>,
        hold: bool,
        operator: &Operator,
    ) -> Result<(), PolicyError> {
        let policy = self.policy(&self.view()?, id)?;
        if !policy.is_active {
            return Err(PolicyRejection::Inactive.into());
        }
        let members = self.members(sites)?;
        if hold && !policy.held {
            self.store_held(id, &policy, true, Some(operator)).await?;
        }
        self.change_sites(members, &PolicyChange::Assign { policy: id, hold }, Some(operator)).await
    }

    async fn unassign(
        &self,
        id: PolicyId,
        sites: &BTreeSet<SiteId>,
        operator: &Operator,
    ) -> Result<(), PolicyError> {
        self.policy(&self.view()?, id)?;
        let members = self.members(sites)?;
        self.change_sites(members, &PolicyChange::Unassign { policy: id }, Some(operator)).await
    }

    async fn push(
        &self,
        state: &mut PoliciesState,
        id: PolicyId,
        request: &PushRequest,
        operator: &Operator,
    ) -> Result<(), PolicyError> {
        let view = self.view()?;
        let policy = self.policy(&view, id)?;
        if !policy.is_active {
            return Err(PolicyRejection::Inactive.into());
        }
        not_rolling_out(state, id)?;
        if let Some(hash) = request.plan_hash
            && plan(&view, &self.roster, operator, id, &policy).map_err(storage)?.hash != hash
        {
            return Err(PolicyError::PlanMoved);
        }
        let sites = sites_of(&view, id).map_err(storage)?;
        drop(view);
        let members = sites.into_iter().filter(|site| operator.sites.is_none() || operator.sees(*site));
        let members: Vec<Member> = members
            .filter_map(|site| self.roster.find(site))
            .filter(|member| member.view().site.status == SiteStatus::Enrolled)
            .collect();
        let Some(staging) = &request.staging else {
            if policy.held && operator.sites.is_none() {
                self.store_held(id, &policy, false, Some(operator)).await?;
            }
            let change = PolicyChange::Requeue { policy: id, trigger: "policy_push" };
            return self.change_sites(members, &change, Some(operator)).await;
        };
        if operator.sites.is_some() {
            return Err(PolicyError::Confined);
        }
        let mut views: Vec<_> = members.iter().map(Member::view).collect();
        views.sort_by(|a, b| (&a.site.name, a.site.id).cmp(&(&b.site.name, b.site.id)));
        let sites: Vec<SiteId> = self.assigned(id, views.iter().map(|view| view.site.id))?;
        let now = self.context.now();
        let rollout = RolloutId::generate(now, &*self.context.entropy);
        let started = rollout::start((id, rollout), policy.version, &sites, staging, &operator.userid, now)?;
        let mut batch = Batch::new();
        batch.put::<table::Policies>(&id, &Policy { held: true, ..policy });
        let open = Open::new(started.rollout.clone());
        self.put_rollout(&mut batch, id, started, Some(operator));
        self.prune(&mut batch, id)?;
        self.context.commit(Lane::Push, batch).await?;
        state.open.insert(id, open);
        self.look(state).await;
        Ok(())
    }

    /// Those of the sites that should hold the policy.
    fn assigned(
        &self,
        id: PolicyId,
        sites: impl Iterator<Item = SiteId>,
    ) -> Result<Vec<SiteId>, PolicyError> {
        let view = self.view()?;
        let mut assigned = Vec::new();
        for site in sites {
            let row = view.get::<table::Assignments>(&(site, id)).map_err(storage)?;
            if row.is_some_and(|row| row.unassigned_at.is_none()) {
                assigned.push(site);
            }
        }
        Ok(assigned)
    }

    fn members(&self, sites: &BTreeSet<SiteId>) -> Result<Vec<Member>, PolicyError> {
        let found = sites
            .iter()
            .map(|site| self.roster.find(*site).ok_or_else(|| crate::error::SiteNotFound(*site).into()));
        found.collect()
    }

    /// Each site stores its own row; the writer groups them.
    async fn change_sites(
        &self,
        members: Vec<Member>,
        change: &PolicyChange,
        operator: Option<&Operator>,
    ) -> Result<(), PolicyError> {
        let mut calls = JoinSet::new();
        for member in members {
            let (change, operator) = (change.clone(), operator.cloned().map(Box::new));
            calls.spawn(async move {
                member.actor.call(|reply| SiteMessage::Policy { change, operator, reply }).await
            });
        }
        let mut outcome = Ok(());
        while let Some(done) = calls.join_next().await {
            match done {
                Ok(Ok(Ok(_))) => {}
                Ok(Ok(Err(error)) | Err(error)) => outcome = Err(error.into()),
                Err(_) => outcome = Err(Unavailable::Busy { part: "site" }.into()),
            }
        }
        outcome
    }

    async fn store_held(
        &self,
        id: PolicyId,
        policy: &Policy,
        held: bool,
        operator: Option<&Operator>,
    ) -> Result<(), Unavailable> {
        let mut batch = Batch::new();
        self.put_held(&mut batch, id, policy, held, operator);
        self.context.commit(Lane::Push, batch).await?;
        self.tell_sites(id);
        Ok(())
    }

    fn put_held(
        &self,
        batch: &mut Batch,
        id: PolicyId,
        policy: &Policy,
        held: bool,
        operator: Option<&Operator>,
    ) {
        let details = [
            ("policy_id".to_owned(), Detail::Text(id.to_string())),
            ("version".to_owned(), Detail::Int(policy.version.into())),
        ];
        let operation = if held { "policy_held" } else { "policy_released" };
        let entry = Entry { operation, details: details.into_iter().collect() };
        batch.put::<table::Policies>(&id, &Policy { held, ..policy.clone() });
        batch.audit(self.audit(entry, operator));
    }
}

// Rollouts.
impl PoliciesActor {
    async fn change_rollout(
        &self,
        state: &mut PoliciesState,
        id: PolicyId,
        rollout: RolloutId,
        change: RolloutChange,
        operator: &Operator,
    ) -> Result<(), PolicyError> {
        let view = self.view()?;
        self.policy(&view, id)?;
        let row = view.get::<table::Rollouts>(&(id, rollout)).map_err(storage)?;
        let row = row.ok_or(RolloutNotFound(rollout))?;
        drop(view);
        let now = self.context.now();
        let decision = match change {
            RolloutChange::Resume => rollout::resume(id, &row, now)?,
            RolloutChange::Abort => rollout::abort(id, &row, now)?,
        };
        let next = decision.rollout.clone();
        let mut batch = Batch::new();
        self.put_rollout(&mut batch, id, decision, Some(operator));
        self.context.commit(Lane::Push, batch).await?;
        if next.state.is_over() {
            state.open.remove(&id);
            return Ok(());
        }
        let mut open = Open::new(next);
        self.refresh(id, &mut open)?;
        let failed = open.progress.iter().filter(|(_, progress)| **progress == Progress::Failed);
        let failed: Vec<Member> = failed.filter_map(|(site, _)| self.roster.find(*site)).collect();
        open.moved.extend(failed.iter().map(|member| member.view().site.id));
        state.open.insert(id, open);
        // Whoever failed is told once more; otherwise the rollout would halt again at once.
        let change = PolicyChange::Requeue { policy: id, trigger: "rollout" };
        self.change_sites(failed, &change, Some(operator)).await?;
        self.look(state).await;
        Ok(())
    }

    /// Looks at the rollouts whose sites have moved. What cannot be read or stored now is tried again with
    /// the next pass of housekeeping.
    async fn look(&self, state: &mut PoliciesState) {
        let moved: Vec<PolicyId> =
            state.open.iter().filter(|(_, open)| !open.moved.is_empty()).map(|(id, _)| *id).collect();
        for id in moved {
            let Some(mut open) = state.open.remove(&id) else { continue };
            if let Err(error) = self.advance(id, &mut open).await {
                debug!(policy = %id, %error, "rollout not advanced; the next pass tries again");
            }
            if !open.rollout.state.is_over() {
                state.open.insert(id, open);
            }
        }
    }

    async fn advance(&self, id: PolicyId, open: &mut Open) -> Result<(), PolicyError> {
        loop {
            self.refresh(id, open)?;
            let step = rollout::step(id, &open.rollout, self.context.now(), &open.progress);
            let went_on = step.changed.is_some();
            if let Some(decision) = step.changed {
                let next = decision.rollout.clone();
                let mut batch = Batch::new();
                self.put_rollout(&mut batch, id, decision, None);
                if next.state == RolloutState::Completed {
                    let policy = self.policy(&self.view()?, id)?;
                    self.put_held(&mut batch, id, &policy, false, None);
                }
                self.context.commit(Lane::Push, batch).await?;
                open.rollout = next;
                if open.rollout.state == RolloutState::Completed {
                    // Sites that were away meanwhile get it when they are back.
                    self.tell_sites(id);
                }
            }
            let members: Vec<Member> =
                step.release.iter().filter_map(|site| self.roster.find(*site)).collect();
            open.moved.extend(step.release);
            let change = PolicyChange::Requeue { policy: id, trigger: "rollout" };
            self.change_sites(members, &change, None).await?;
            if !went_on {
                return Ok(());
            }
        }
    }

    /// Reads again how far the sites are that have moved.
    fn refresh(&self, id: PolicyId, open: &mut Open) -> Result<(), Unavailable> {
        let view = self.context.store.read().map_err(|_| Unavailable::Storage)?;
        for site in std::mem::take(&mut open.moved) {
            let row = view.get::<table::Assignments>(&(site, id)).map_err(|_| Unavailable::Storage)?;
            let status = self.roster.find(site).map(|member| member.view().site.status);
            let status = status.unwrap_or(SiteStatus::Removed);
            open.progress.insert(site, rollout::progress(&open.rollout, status, row.as_ref()));
        }
        Ok(())
    }

    fn put_rollout(
        &self,
        batch: &mut Batch,
        id: PolicyId,
        decision: RolloutDecision,
        operator: Option<&Operator>,
    ) {
        batch.put::<table::Rollouts>(&(id, decision.rollout.id), &decision.rollout);
        if let Some(entry) = decision.entry {
            batch.audit(self.audit(entry, operator));
        }
    }

    /// Makes room for one more rollout of a policy.
    fn prune(&self, batch: &mut Batch, id: PolicyId) -> Result<(), PolicyError> {
        let rollouts = rollouts(&self.view()?, id).map_err(storage)?;
        let surplus = (rollouts.len() + 1).saturating_sub(limits::ROLLOUTS_KEPT);
        for rollout in rollouts.iter().take(surplus) {
            batch.delete::<table::Rollouts>(&(id, rollout.id));
        }
        Ok(())
    }
}

// Reading and writing.
impl PoliciesActor {
    fn view(&self) -> Result<ReadView, PolicyError> {
        self.context.store.read().map_err(storage)
    }

    fn policy(&self, view: &ReadView, id: PolicyId) -> Result<Policy, PolicyError> {
        let policy = view.get::<table::Policies>(&id).map_err(storage)?;
        policy.ok_or_else(|| PolicyNotFound(id).into())
    }

    /// An entry about no site.
    fn audit(&self, entry: Entry, actor: Option<&Operator>) -> AuditDraft {
        let now = self.context.now();
        AuditDraft {
            id: AuditId::generate(now, &*self.context.entropy),
            created_at: now,
            operation: entry.operation.to_owned(),
            actor_userid: actor.map(|operator| operator.userid.clone()),
            target_site_id: None,
            target_site_name: None,
            target_host_id: None,
            details: entry.details,
        }
    }
}

fn not_rolling_out(state: &PoliciesState, id: PolicyId) -> Result<(), PolicyError> {
    state.open.get(&id).map_or(Ok(()), |open| Err(PolicyError::RollingOut(open.rollout.id)))
}

fn storage(_: hansa_storage::ReadError) -> PolicyError {
    Unavailable::Storage.into()
}

/// Every site that has a row of the policy, in the order of ids.
pub(crate) fn sites_of(view: &ReadView, id: PolicyId) -> Result<Vec<SiteId>, hansa_storage::ReadError> {
    let range = (id, SiteId(Uuid::nil()))..=(id, SiteId(Uuid::max()));
    Ok(view.all::<table::PolicySites>(range)?.into_iter().map(|((_, site), ())| site).collect())
}

/// The rollouts of a policy that are kept, oldest first.
pub(crate) fn rollouts(view: &ReadView, id: PolicyId) -> Result<Vec<Rollout>, hansa_storage::ReadError> {
    let range = (id, RolloutId(Uuid::nil()))..=(id, RolloutId(Uuid::max()));
    Ok(view.all::<table::Rollouts>(range)?.into_iter().map(|(_, rollout)| rollout).collect())
}

/// What a push by this operator would do.
pub(crate) fn plan(
    view: &ReadView,
    roster: &Roster,
    operator: &Operator,
    id: PolicyId,
    policy: &Policy,
) -> Result<policy::Plan, hansa_storage::ReadError> {
    let mut rows = Vec::new();
    for site in sites_of(view, id)?.into_iter().filter(|site| operator.sees(*site)) {
        let Some(row) = view.get::<table::Assignments>(&(site, id))? else { continue };
        let status = roster.find(site).map_or(SiteStatus::Removed, |member| member.view().site.status);
        rows.push((site, status, row));
    }
    Ok(policy::plan(id, policy, rows.iter().map(|(site, status, row)| (*site, *status, row))))
}
