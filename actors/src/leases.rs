//! The coordinator's secret leases: issued, handed to their sites, renewed, ended, taken away.
//!
//! Shell around `machine::lease`. A site's actor takes a request down in its own batch and sends a notice;
//! from then on the row is this actor's. Issuers are asked by tasks beside the mailbox, so a slow one holds
//! up nothing but its own leases. A value goes from the issuer's answer to the site's actor and nowhere else:
//! what is lost on the way, by a restart of either, is replaced by a new value.

use std::collections::btree_map;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hansa_model::audit::{AuditDraft, Detail};
use hansa_model::id::LeaseId;
use hansa_model::lease::{Lease, LeaseStatus};
use hansa_model::limits::lease as limits;
use hansa_model::machine::lease::{self, Issued, Step};
use hansa_model::machine::registry::Entry;
use hansa_model::push::LeaseWord;
use hansa_model::scope::Operator;
use hansa_model::secret::generate_token;
use hansa_model::site::SiteStatus;
use hansa_model::{Secret, SiteId};
use hansa_storage::{Batch, Lane, Order as Direction, table};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::context::Context;
use crate::error::{LeaseError, LeaseNotFound, Unavailable};
use crate::issuer::{Credential, CredentialName, Issuer, IssuerError, Keep, Order};
use crate::roster::{Member, Roster};
use crate::site::{LeaseOffer, SiteMessage};
use crate::supervision::Tied;

/// The operation in the audit log of a request that was taken down.
pub(crate) const REQUESTED: &str = "secret_lease_requested";
const ISSUED: &str = "secret_lease_issued";
const RENEWED: &str = "secret_lease_renewed";
const REVOKED: &str = "secret_lease_revoked";
const EXPIRED: &str = "secret_lease_expired";
const FAILED: &str = "secret_lease_failed";

/// Everything the leases' actor can be asked.
#[derive(Debug)]
pub(crate) enum LeasesMessage {
    /// A site's request is on disk. No answer.
    Requested { lease: LeaseId },
    /// The site has taken a word. No answer.
    Taken { lease: LeaseId, version: u64 },
    /// The site has not taken a word. No answer.
    NotTaken { lease: LeaseId, version: u64, error: String, refusals: u32, dead: bool },
    /// A new incarnation of the site's actor runs, which keeps no values. No answer.
    Forgotten { site: SiteId },
    /// A site was suspended, removed or taken back. No answer.
    SiteChanged,
    /// An issuer has answered, or not. No answer.
    Answered { lease: LeaseId, call: u64, answer: IssuerAnswer },
    /// An operator revokes a lease. Answers once that is on disk; the issuer is being asked then.
    Revoke { lease: LeaseId, operator: Operator, reply: RpcReplyPort<Result<Revoking, LeaseError>> },
    /// Look what is due. No answer.
    Tick,
}

/// A revoked lease, and what tells that the issuer was asked to take the credential away.
#[derive(Debug)]
pub(crate) struct Revoking {
    pub(crate) lease: Lease,
    /// The row after the issuer's answer; none when the issuer had nothing to do.
    pub(crate) released: Option<oneshot::Receiver<Lease>>,
}

/// What an issuer answered.
#[derive(Debug)]
pub(crate) enum IssuerAnswer {
    Issued(Result<Credential, IssuerError>, String),
    Released(Result<(), IssuerError>),
    /// And what was to be taken away.
    Discarded(Result<(), IssuerError>, Vec<String>),
}

pub(crate) struct LeasesActor {
    pub(crate) context: Arc<Context>,
    pub(crate) roster: Arc<Roster>,
}

pub(crate) struct LeasesState {
    /// Every lease with something left to do.
    open: BTreeMap<LeaseId, Lease>,
    busy: BTreeMap<LeaseId, Busy>,
    /// Leases whose value the site's actor keeps for the site.
    held: BTreeSet<LeaseId>,
    /// Operators who wait for the issuer.
    waiting: BTreeMap<LeaseId, Vec<oneshot::Sender<Lease>>>,
    /// By the issuer's name, so that one that hangs takes no turn of another one's.
    calls: BTreeMap<String, Arc<Semaphore>>,
    next_call: u64,
    pass: Pass,
    swept_at: Option<Instant>,
    sweep: Option<Tied>,
    _ticker: Tied,
}

/// A lease whose issuer is being asked.
struct Busy {
    /// Empty where none is configured.
    issuer: String,
    call: u64,
    since: Instant,
    _task: Tied,
}

/// What happened since the last pass.
#[derive(Debug, Default, PartialEq, Eq)]
struct Pass {
    issued: u64,
    delivered: u64,
    delivery_failed: u64,
    renewed: u64,
}

/// A row on its way to disk, with the entry that it leaves.
struct Change {
    lease: Lease,
    entry: Option<(&'static str, Option<Operator>)>,
}

impl Actor for LeasesActor {
    type Msg = LeasesMessage;
    type State = LeasesState;
    type Arguments = ();

    async fn pre_start(
        &self,
        myself: ActorRef<LeasesMessage>,
        (): (),
    ) -> Result<LeasesState, ActorProcessingErr> {
        let view = self.context.store.read()?;
        let mut open = BTreeMap::new();
        for ((_, id), ()) in view.all::<table::OpenLeases>(..)? {
            if let Some(lease) = view.get::<table::Leases>(&id)? {
                open.insert(id, lease);
            }
        }
        let interval = self.context.config.push_tick;
        let ticker = Tied::spawn(async move {
            while myself.cast(LeasesMessage::Tick).is_ok() {
                tokio::time::sleep(interval).await;
            }
        });
        Ok(LeasesState {
            open,
            busy: BTreeMap::new(),
            held: BTreeSet::new(),
            waiting: BTreeMap::new(),
            calls: BTreeMap::new(),
            next_call: 0,
            pass: Pass::default(),
            swept_at: None,
            sweep: None,
            _ticker: ticker,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<LeasesMessage>,
        message: LeasesMessage,
        state: &mut LeasesState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            LeasesMessage::Requested { lease } => self.requested(state, &myself, lease).await,
            LeasesMessage::Taken { lease, version } => self.taken(state, &myself, lease, version).await,
            LeasesMessage::NotTaken { lease, version, error, refusals, dead } => {
                self.not_taken(state, &myself, lease, version, &error, refusals, dead).await;
            }
            LeasesMessage::Forgotten { site } => {
                let LeasesState { open, held, .. } = state;
                held.retain(|id| open.get(id).is_some_and(|lease| lease.site_id != site));
            }
            LeasesMessage::SiteChanged => self.reconcile(state, &myself).await,
            LeasesMessage::Answered { lease, call, answer } => {
                self.answered(state, &myself, lease, call, answer).await;
            }
            LeasesMessage::Revoke { lease, operator, reply } => {
                let answer = self.revoke(state, &myself, lease, operator).await;
                // A caller that gave up has nothing to be told.
                let _ = reply.send(answer);
            }
            LeasesMessage::Tick => {
                self.reconcile(state, &myself).await;
                self.prune(state).await;
                self.sweep(state);
                self.report(state);
            }
        }
        Ok(())
    }
}

// What comes in.
impl LeasesActor {
    async fn requested(&self, state: &mut LeasesState, myself: &ActorRef<LeasesMessage>, id: LeaseId) {
        if let btree_map::Entry::Vacant(place) = state.open.entry(id) {
            let row = self.context.store.read().and_then(|view| view.get::<table::Leases>(&id));
            match row {
                Ok(Some(lease)) if lease::is_open(&lease) => drop(place.insert(lease)),
                Ok(_) => return,
                Err(error) => {
                    debug!(lease = %id, %error, "a requested lease cannot be read; a restart finds it");
                    return;
                }
            }
        }
        self.advance(state, myself, id).await;
    }

    async fn taken(
        &self,
        state: &mut LeasesState,
        myself: &ActorRef<LeasesMessage>,
        id: LeaseId,
        version: u64,
    ) {
        let Some(lease) = state.open.get(&id) else { return };
        let Some(lease) = lease::taken(lease, version, self.context.now()) else { return };
        state.held.remove(&id);
        state.pass.delivered += 1;
        self.context.metrics.leases_delivered.inc();
        let replaced = !lease.leftovers.is_empty();
        if self.store(state, Lane::Push, vec![Change { lease, entry: None }]).await && replaced {
            self.advance(state, myself, id).await;
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the members of one message")]
    async fn not_taken(
        &self,
        state: &mut LeasesState,
        myself: &ActorRef<LeasesMessage>,
        id: LeaseId,
        version: u64,
        error: &str,
        refusals: u32,
        dead: bool,
    ) {
        state.pass.delivery_failed += 1;
        self.context.metrics.lease_deliveries_failed.inc();
        let Some(lease) = state.open.get(&id) else { return };
        let was = lease.status;
        let Some(next) = lease::not_taken(lease, version, &printable(error), refusals, dead) else { return };
        if next == *lease {
            return;
        }
        if dead {
            state.held.remove(&id);
        }
        let entry = (next.status != was).then_some((FAILED, None));
        self.store(state, Lane::Push, vec![Change { lease: next, entry }]).await;
        self.advance(state, myself, id).await;
    }

    async fn revoke(
        &self,
        state: &mut LeasesState,
        myself: &ActorRef<LeasesMessage>,
        id: LeaseId,
        operator: Operator,
    ) -> Result<Revoking, LeaseError> {
        let row = match state.open.get(&id) {
            Some(lease) => Some(lease.clone()),
            None => {
                let view = self.context.store.read().map_err(|_| Unavailable::Storage)?;
                view.get::<table::Leases>(&id).map_err(|_| Unavailable::Storage)?
            }
        };
        let row = row.ok_or(LeaseNotFound(id))?;
        let next = lease::revoke(&row, self.context.now())?;
        if next != row {
            let entry = Some((REVOKED, Some(operator)));
            let change = Change { lease: next.clone(), entry };
            self.try_store(state, Lane::Control, vec![change]).await?;
        }
        if next.released {
            return Ok(Revoking { lease: next, released: None });
        }
        let (told, released) = oneshot::channel();
        let waiting = state.waiting.entry(id).or_default();
        // Callers that gave up are forgotten, so that the list stays short.
        waiting.retain(|waiting| !waiting.is_closed());
        waiting.push(told);
        self.advance(state, myself, id).await;
        Ok(Revoking { lease: next, released: Some(released) })
    }

    async fn answered(
        &self,
        state: &mut LeasesState,
        myself: &ActorRef<LeasesMessage>,
        id: LeaseId,
        call: u64,
        answer: IssuerAnswer,
    ) {
        if state.busy.get(&id).is_none_or(|busy| busy.call != call) {
            return;
        }
        state.busy.remove(&id);
        let Some(lease) = state.open.get(&id).cloned() else { return };
        match answer {
            IssuerAnswer::Issued(Ok(credential), issuer) => {
                self.issued(state, &lease, credential, issuer).await;
            }
            IssuerAnswer::Released(Ok(())) => {
                let row = lease::released(&lease);
                self.store(state, Lane::Push, vec![Change { lease: row.clone(), entry: None }]).await;
                for waiting in state.waiting.remove(&id).unwrap_or_default() {
                    let _ = waiting.send(row.clone());
                }
                return;
            }
            IssuerAnswer::Discarded(Ok(()), gone) => {
                let row = lease::discarded(&lease, &gone);
                self.store(state, Lane::Push, vec![Change { lease: row, entry: None }]).await;
            }
            IssuerAnswer::Discarded(Err(error), _) if !lease.status.is_terminal() => {
                self.not_discarded(state, lease, &error).await;
                // Once more with the next pass, not at once.
                return;
            }
            // The lease has ended meanwhile, and all of it is released now.
            IssuerAnswer::Discarded(Err(_), _) => {}
            IssuerAnswer::Issued(Err(error), _) | IssuerAnswer::Released(Err(error)) => {
                self.refused(state, &lease, &error).await;
            }
        }
        self.advance(state, myself, id).await;
    }

    async fn issued(&self, state: &mut LeasesState, lease: &Lease, credential: Credential, issuer: String) {
        let Credential { value, vault_lease_id, expires_at, metadata } = credential;
        let metadata = serde_json::Value::Object(metadata).to_string();
        let made = Issued { issuer, vault_lease_id, metadata, expires_at };
        let Some(row) = lease::issued(lease, self.context.now(), &made) else {
            // Ended meanwhile: the value is dropped here, and the credential taken away with the next step.
            let row = lease::too_late(lease, &made);
            self.store(state, Lane::Push, vec![Change { lease: row, entry: None }]).await;
            return;
        };
        let first = lease.status == LeaseStatus::Requested;
        let entry = Some((if first { ISSUED } else { RENEWED }, None));
        if !self.store(state, Lane::Push, vec![Change { lease: row.clone(), entry }]).await {
            // The next pass asks again and gets another value.
            return;
        }
        let metrics = &self.context.metrics;
        let (counter, counted) = if first {
            (&metrics.leases_issued, &mut state.pass.issued)
        } else {
            (&metrics.leases_renewed, &mut state.pass.renewed)
        };
        counter.inc();
        *counted += 1;
        state.held.insert(row.id);
        self.offer(&row, LeaseWord::Issued, Some(value));
    }

    /// Counts and logs what an issuer did not do; gives the text for the row.
    fn failed(&self, lease: &Lease, error: &IssuerError) -> String {
        self.context.metrics.lease_issuer_failures.inc();
        let text = printable(&error.to_string());
        warn!(lease = %lease.id, site = %lease.site_id, issuer = lease.issuer.as_deref(), error = %text, "issuer did not do it");
        text
    }

    /// The lease is as good as before; its row says what is in the way.
    async fn not_discarded(&self, state: &mut LeasesState, lease: Lease, error: &IssuerError) {
        let text = self.failed(&lease, error);
        if lease.last_error.as_ref() != Some(&text) {
            let lease = Lease { last_error: Some(text), ..lease };
            self.store(state, Lane::Push, vec![Change { lease, entry: None }]).await;
        }
    }

    async fn refused(&self, state: &mut LeasesState, lease: &Lease, error: &IssuerError) {
        let text = self.failed(lease, error);
        let now = self.context.now();
        let change = match error {
            IssuerError::Refused(_) if !lease.status.is_terminal() => {
                Change { lease: lease::fail(lease, &text), entry: Some((FAILED, None)) }
            }
            IssuerError::Refused(_) | IssuerError::Unavailable(_) => {
                Change { lease: lease::not_answered(lease, now, &text), entry: None }
            }
        };
        let row = change.lease.clone();
        self.store(state, Lane::Push, vec![change]).await;
        if row.status.is_terminal() {
            // Who waits for the revocation learns that the issuer did not do it yet.
            for waiting in state.waiting.remove(&row.id).unwrap_or_default() {
                let _ = waiting.send(row.clone());
            }
        }
    }
}

// What is due.
impl LeasesActor {
    /// One pass over everything that is open (contract 10).
    async fn reconcile(&self, state: &mut LeasesState, myself: &ActorRef<LeasesMessage>) {
        // A call that never came back: its task has failed.
        let patience = limits::CALL_WAIT_MAX * 2;
        state.busy.retain(|_, busy| busy.since.elapsed() < patience);
        let mut changes = Vec::new();
        let mut issues = 0;
        let ids: Vec<LeaseId> = state.open.keys().copied().collect();
        for id in ids {
            let Some(lease) = state.open.get(&id) else { continue };
            match self.due(state, lease) {
                Due::Nothing => {}
                Due::Change(change) => changes.push(*change),
                Due::Call(step) => {
                    let is_issue = step == Step::Issue;
                    if !is_issue || issues < limits::ISSUED_MAX {
                        issues += usize::from(is_issue);
                        self.call(state, myself, id, step);
                    }
                }
            }
            if let Some(lease) = state.open.get(&id)
                && let Some(word) = lease::word(lease).filter(|word| *word != LeaseWord::Issued)
            {
                // Once more, for a site's actor that was not there; it knows what it has been told.
                self.offer(lease, word, None);
            }
        }
        while !changes.is_empty() {
            let rest = changes.split_off(changes.len().min(limits::BUSY_MAX));
            let now = std::mem::replace(&mut changes, rest);
            let ids: Vec<LeaseId> = now.iter().map(|change| change.lease.id).collect();
            if !self.store(state, Lane::Push, now).await {
                return;
            }
            for id in ids {
                Box::pin(self.advance(state, myself, id)).await;
            }
        }
    }

    /// The next step of one lease, and the one after it.
    async fn advance(&self, state: &mut LeasesState, myself: &ActorRef<LeasesMessage>, id: LeaseId) {
        // A lease that is given up is next released; nothing follows that.
        for _ in 0..2 {
            let Some(lease) = state.open.get(&id) else { return };
            match self.due(state, lease) {
                Due::Nothing => return,
                Due::Call(step) => {
                    self.call(state, myself, id, step);
                    return;
                }
                Due::Change(change) => {
                    if !self.store(state, Lane::Push, vec![*change]).await {
                        return;
                    }
                }
            }
        }
    }

    fn due(&self, state: &LeasesState, lease: &Lease) -> Due {
        if state.busy.contains_key(&lease.id) {
            return Due::Nothing;
        }
        let now = self.context.now();
        let standing = self.standing(lease.site_id);
        let served = standing == SiteStatus::Enrolled;
        let held = state.held.contains(&lease.id);
        let change =
            |lease: Lease, operation| Due::Change(Box::new(Change { lease, entry: Some((operation, None)) }));
        match lease::step(lease, now, served, held, self.context.entropy.u64()) {
            Step::Wait if standing == SiteStatus::Removed && lease.settled < lease.version => {
                // Nobody is there to be told.
                let lease = Lease { settled: lease.version, ..lease.clone() };
                Due::Change(Box::new(Change { lease, entry: None }))
            }
            Step::Wait => Due::Nothing,
            step @ (Step::Issue | Step::Renew | Step::Release | Step::Discard) => Due::Call(step),
            Step::Expire => change(lease::expire(lease, now), EXPIRED),
            Step::GiveUp if served => {
                let error = lease.last_error.as_deref().unwrap_or("the issuer did not answer");
                change(lease::fail(lease, error), FAILED)
            }
            Step::GiveUp => change(lease::fail(lease, &format!("the site is {standing}")), FAILED),
            Step::Revoke => match lease::revoke(lease, now) {
                Ok(lease) => change(lease, REVOKED),
                Err(_) => Due::Nothing,
            },
        }
    }

    fn standing(&self, site: SiteId) -> SiteStatus {
        self.member(site).map_or(SiteStatus::Removed, |member| member.view().site.status)
    }

    fn member(&self, site: SiteId) -> Option<Member> {
        self.roster.find(site)
    }

    /// Asks the issuer, beside the mailbox. When it has enough to do already a later pass comes back to it.
    fn call(&self, state: &mut LeasesState, myself: &ActorRef<LeasesMessage>, id: LeaseId, step: Step) {
        let Some(lease) = state.open.get(&id) else { return };
        let issuers = &self.context.issuers;
        let issuer = match &lease.issuer {
            Some(name) => issuers.named(name),
            None => issuers.serving(lease.kind, &lease.backend_role),
        };
        let name = issuer.as_ref().map_or_else(String::new, |issuer| issuer.name().to_owned());
        if state.busy.values().filter(|busy| busy.issuer == name).count() >= limits::BUSY_MAX {
            return;
        }
        let asking = match (step, issuer) {
            (Step::Release, None) if lease.issuer.is_none() => Asking::Nobody,
            (Step::Release, Some(issuer)) => {
                Asking::Release(issuer, self.credential(id), lease::at_issuer(lease))
            }
            (Step::Discard, Some(issuer)) => Asking::Discard(issuer, lease.leftovers.clone()),
            (_, Some(issuer)) => Asking::Issue(issuer, Box::new(self.order(lease))),
            (_, None) => Asking::Missing(missing(lease), step),
        };
        state.next_call += 1;
        let call = state.next_call;
        let calls =
            state.calls.entry(name.clone()).or_insert_with(|| Semaphore::new(limits::CALLS_MAX).into());
        let (calls, myself) = (Arc::clone(calls), myself.clone());
        let task = Tied::spawn(async move {
            let answer = asking.ask(&calls).await;
            // An actor that is gone starts from the store.
            let _ = myself.cast(LeasesMessage::Answered { lease: id, call, answer });
        });
        state.busy.insert(id, Busy { issuer: name, call, since: Instant::now(), _task: task });
    }

    fn credential(&self, lease: LeaseId) -> CredentialName {
        CredentialName { node: self.node(), lease }
    }

    fn node(&self) -> String {
        hansa_model::secret::hex(&self.context.keyring.identity.public().as_bytes()[..4])
    }

    fn order(&self, lease: &Lease) -> Order {
        Order {
            name: self.credential(lease.id),
            site: lease.site_id,
            host_id: lease.host_id.clone(),
            secret_name: lease.secret_name.clone(),
            backend_role: lease.backend_role.clone(),
            kind: lease.kind,
            password: generate_token(&*self.context.entropy),
            life: lease::life(lease),
            expires_at: self.context.now().after(lease::life(lease)),
        }
    }

    /// Hands a word to the site's actor, which keeps it in memory until the site has taken it.
    fn offer(&self, lease: &Lease, word: LeaseWord, value: Option<Secret<String>>) {
        let Some(member) = self.member(lease.site_id) else { return };
        let offer = Box::new(LeaseOffer { lease: lease.clone(), word, value });
        member.actor.cast(SiteMessage::Lease { offer });
    }

    /// Stores rows; whether they are on disk now. What is not is done again by a later pass.
    async fn store(&self, state: &mut LeasesState, lane: Lane, changes: Vec<Change>) -> bool {
        match self.try_store(state, lane, changes).await {
            Ok(()) => true,
            Err(error) => {
                debug!(%error, "leases not stored; the next pass tries again");
                false
            }
        }
    }

    async fn try_store(
        &self,
        state: &mut LeasesState,
        lane: Lane,
        changes: Vec<Change>,
    ) -> Result<(), Unavailable> {
        let mut batch = Batch::new();
        for Change { lease, entry } in &changes {
            let open = (lease.site_id, lease.id);
            batch.put::<table::Leases>(&lease.id, lease);
            if lease::is_open(lease) {
                batch.put::<table::OpenLeases>(&open, &());
            } else {
                batch.delete::<table::OpenLeases>(&open);
            }
            if let Some((operation, operator)) = entry {
                batch.audit(self.audit(lease, operation, operator.as_ref()));
            }
        }
        self.context.commit(lane, batch).await?;
        for Change { lease, .. } in changes {
            if lease.status.is_terminal() {
                state.held.remove(&lease.id);
            }
            if let Some(word) = lease::word(&lease).filter(|word| *word != LeaseWord::Issued) {
                self.offer(&lease, word, None);
            }
            if lease::is_open(&lease) {
                state.open.insert(lease.id, lease);
            } else {
                state.open.remove(&lease.id);
            }
        }
        Ok(())
    }

    fn audit(&self, lease: &Lease, operation: &'static str, operator: Option<&Operator>) -> AuditDraft {
        let entry = Entry { operation, details: details(lease) };
        let draft = match self.member(lease.site_id) {
            Some(member) => self.context.audit(entry, operator, &member.view().site),
            None => self.context.audit_node(operation, operator, []),
        };
        AuditDraft { target_host_id: lease.host_id.parse().ok(), ..draft }
    }

    /// Forgets leases that ended long ago.
    async fn prune(&self, state: &mut LeasesState) {
        let now = self.context.now();
        let Ok(view) = self.context.store.read() else { return };
        // Ids are in the order of the requests, so this ends at the first young one.
        let Ok(oldest) = view.page::<table::Leases>(.., Direction::Ascending, limits::PRUNED_MAX) else {
            return;
        };
        drop(view);
        let forgotten: Vec<Lease> = oldest
            .into_iter()
            .map(|(_, lease)| lease)
            .filter(|lease| lease::is_forgotten(lease, now))
            .collect();
        if forgotten.is_empty() {
            return;
        }
        let mut batch = Batch::new();
        for lease in &forgotten {
            batch
                .delete::<table::Leases>(&lease.id)
                .delete::<table::LeaseKeys>(&(lease.site_id, lease.correlation_key.clone()))
                .delete::<table::OpenLeases>(&(lease.site_id, lease.id));
        }
        if let Err(error) = self.context.commit(Lane::Push, batch).await {
            debug!(%error, "old leases not forgotten; the next pass tries again");
            return;
        }
        for lease in forgotten {
            state.open.remove(&lease.id);
            state.busy.remove(&lease.id);
            state.held.remove(&lease.id);
        }
    }

    /// Lets the issuers take away what no live lease stands for: an answer that a crash swallowed.
    fn sweep(&self, state: &mut LeasesState) {
        if state.swept_at.is_some_and(|at| at.elapsed() < limits::SWEEP_INTERVAL) {
            return;
        }
        state.swept_at = Some(Instant::now());
        let live = state.open.values().filter(|lease| !lease.status.is_terminal()).map(|lease| lease.id);
        let keep = Keep {
            node: self.node(),
            live: live.collect(),
            made_before: self.context.now().before(limits::SWEEP_AGE_MIN),
        };
        let issuers = self.context.issuers.clone();
        state.sweep = Some(Tied::spawn(async move {
            for issuer in issuers.all() {
                let name = issuer.name();
                match tokio::time::timeout(limits::CALL_WAIT_MAX, issuer.sweep(&keep)).await {
                    Ok(Ok(0)) => {}
                    Ok(Ok(swept)) => info!(issuer = name, swept, "leftover credentials taken away"),
                    Ok(Err(error)) => warn!(issuer = name, %error, "leftover credentials not looked for"),
                    Err(_) => warn!(issuer = name, "issuer does not answer: leftover credentials stay"),
                }
            }
        }));
    }

    fn report(&self, state: &mut LeasesState) {
        let pass = std::mem::take(&mut state.pass);
        if pass != Pass::default() {
            let Pass { issued, delivered, delivery_failed, renewed } = pass;
            info!(issued, delivered, delivery_failed, renewed, "secret leases");
        }
    }
}

/// What is due about one lease.
enum Due {
    Nothing,
    Change(Box<Change>),
    Call(Step),
}

/// A question to an issuer.
enum Asking {
    /// No issuer was ever asked, and none serves the kind: there is nothing to take away.
    Nobody,
    /// The issuer is not configured.
    Missing(IssuerError, Step),
    Issue(Arc<dyn Issuer>, Box<Order>),
    Release(Arc<dyn Issuer>, CredentialName, Vec<String>),
    Discard(Arc<dyn Issuer>, Vec<String>),
}

impl Asking {
    async fn ask(self, calls: &Semaphore) -> IssuerAnswer {
        // Never closed; without a turn more calls would be under way, and no more than that.
        let _turn = calls.acquire().await;
        let late = |name: &str| {
            IssuerError::Unavailable(format!(
                "the issuer {name} did not answer in time: see whether it is up"
            ))
        };
        match self {
            Self::Nobody => IssuerAnswer::Released(Ok(())),
            Self::Missing(error, Step::Release) => IssuerAnswer::Released(Err(error)),
            Self::Missing(error, Step::Discard) => IssuerAnswer::Discarded(Err(error), Vec::new()),
            Self::Missing(error, _) => IssuerAnswer::Issued(Err(error), String::new()),
            Self::Issue(issuer, order) => {
                let name = issuer.name().to_owned();
                let made = tokio::time::timeout(limits::CALL_WAIT_MAX, issuer.issue(&order)).await;
                IssuerAnswer::Issued(made.unwrap_or_else(|_| Err(late(&name))), name)
            }
            Self::Release(issuer, credential, ids) => {
                let done =
                    tokio::time::timeout(limits::CALL_WAIT_MAX, issuer.revoke(&credential, &ids)).await;
                IssuerAnswer::Released(done.unwrap_or_else(|_| Err(late(issuer.name()))))
            }
            Self::Discard(issuer, ids) => {
                let done = tokio::time::timeout(limits::CALL_WAIT_MAX, issuer.discard(&ids)).await;
                IssuerAnswer::Discarded(done.unwrap_or_else(|_| Err(late(issuer.name()))), ids)
            }
        }
    }
}

fn missing(lease: &Lease) -> IssuerError {
    match &lease.issuer {
        Some(name) => IssuerError::Unavailable(format!(
            "the issuer {name} is not configured any more: put its [[lease_issuer]] back until its leases have ended"
        )),
        None => IssuerError::Refused(format!(
            "no issuer gives {} credentials for this backend role: add it to a [[lease_issuer]] of the coordinator",
            lease.kind
        )),
    }
}

/// What an entry says about a lease. Never a value.
pub(crate) fn details(lease: &Lease) -> BTreeMap<String, Detail> {
    let text = |text: &str| Detail::Text(text.to_owned());
    let maybe = |value: &Option<String>| value.as_deref().map_or(Detail::Null, text);
    [
        ("lease_id", Detail::Text(lease.id.to_string())),
        ("correlation_key", text(&lease.correlation_key)),
        ("host_id", text(&lease.host_id)),
        ("secret_name", text(&lease.secret_name)),
        ("backend_role", text(&lease.backend_role)),
        ("kind", text(lease.kind.as_str())),
        ("issuer", maybe(&lease.issuer)),
        ("expires_at", lease.expires_at.map_or(Detail::Null, |end| Detail::Text(end.to_string()))),
        ("error", maybe(&lease.last_error)),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// A text that a peer or an issuer had a part in: one line of bounded length.
fn printable(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .take(limits::ERROR_CHARS_MAX)
        .collect()
}
