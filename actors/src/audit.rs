//! The audit log as a whole: verified as it grows, and signed now and then.
//!
//! The writer alone adds entries. This actor reads them again from the disk, follows the chain, and when
//! there is news puts a signed checkpoint beside it: what others keep of it, nobody can rewrite unseen. A
//! chain that is broken is never signed over.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hansa_model::audit::{
    AuditEntry, AuditFilter, AuditHead, AuditParts, BrokenChain, Checkpoint, KeptCheckpoint, Verification,
};
use hansa_model::limits::audit as limits;
use hansa_model::machine::audit_index::{AuditIndex, AuditPage};
use hansa_model::machine::checkpoints;
use hansa_model::scope::Operator;
use hansa_model::secrets::tenant;
use hansa_model::{AuditId, Timestamp};
use hansa_storage::{Batch, Lane, Order, ReadError, ReadView, table};
use hansa_transport::PublicKey;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tracing::{debug, error, warn};

use crate::context::Context;
use crate::error::Unavailable;
use crate::supervision::Tied;
use crate::view::ChainLink;

/// Everything the audit actor can be asked.
#[derive(Debug)]
pub(crate) enum AuditMessage {
    /// Look whether a checkpoint is due. No answer.
    Look,
}

pub(crate) struct AuditActor {
    pub(crate) context: Arc<Context>,
}

pub(crate) struct AuditState {
    /// How far the chain was followed.
    verified: Verification,
    /// The last checkpoint's number, and when it was made; zero and the start without one.
    signed: (u64, Timestamp),
    /// The chain is broken: said once, and nothing is signed any more.
    broken: bool,
    _ticker: Tied,
}

impl Actor for AuditActor {
    type Msg = AuditMessage;
    type State = AuditState;
    type Arguments = ();

    async fn pre_start(
        &self,
        myself: ActorRef<AuditMessage>,
        (): (),
    ) -> Result<AuditState, ActorProcessingErr> {
        let latest = latest(&self.context.store.read()?)?;
        let (verified, signed) = match &latest {
            // Our own word for everything before it.
            Some(last) => (Verification::after(last.number, last.hash), (last.number, last.at)),
            None => (Verification::default(), (0, self.context.now())),
        };
        self.context.checkpoint.store(latest.map(Arc::new));
        let ticker = Tied::spawn(async move {
            loop {
                tokio::time::sleep(limits::LOOK_INTERVAL).await;
                if myself.cast(AuditMessage::Look).is_err() {
                    return;
                }
            }
        });
        Ok(AuditState { verified, signed, broken: false, _ticker: ticker })
    }

    async fn handle(
        &self,
        _myself: ActorRef<AuditMessage>,
        message: AuditMessage,
        state: &mut AuditState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            AuditMessage::Look => self.look(state).await,
        }
        Ok(())
    }
}

impl AuditActor {
    async fn look(&self, state: &mut AuditState) {
        if state.broken {
            return;
        }
        if let Err(error) = self.sign_if_due(state).await {
            debug!(%error, "no checkpoint of the audit log was made; the next look tries again");
        }
    }

    async fn sign_if_due(&self, state: &mut AuditState) -> Result<(), Unavailable> {
        let view = self.context.store.read().map_err(|_| Unavailable::Storage)?;
        let (now, (signed, signed_at)) = (self.context.now(), state.signed);
        let end = newest(&view)?;
        if !checkpoints::due(end, signed, signed_at, now) {
            return Ok(());
        }
        match self.context.compute.run(|| follow(&view, &mut state.verified)) {
            Ok(()) => {}
            Err(Unfollowed::Read(error)) => {
                debug!(%error, "audit log not read");
                return Err(Unavailable::Storage);
            }
            Err(Unfollowed::Broken(broken)) => {
                error!(%broken, "the audit log is not what was written: run `hansa audit verify`");
                state.broken = true;
                self.context.publish(
                    "audit_chain_broken",
                    None,
                    [("reason", broken.to_string().as_str().into())],
                );
                return Ok(());
            }
        }
        drop(view);
        let (number, hash) = state.verified.place();
        if number < end {
            // A long log is followed over several looks.
            return Ok(());
        }
        let mut checkpoint = Checkpoint { number, hash, at: now, signature: Vec::new() };
        let identity = &self.context.keyring.identity;
        checkpoint.signature = identity.sign(checkpoint.signed_text().as_bytes()).to_vec();
        let mut batch = Batch::new();
        batch.put::<table::AuditCheckpoints>(&number, &checkpoint);
        self.context.commit(Lane::Operator, batch).await?;
        state.signed = (number, now);
        self.context.checkpoint.store(Some(Arc::new(checkpoint)));
        Ok(())
    }
}

/// The audit log as it is searched: its columns, which follow the log when somebody asks. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct AuditReader {
    index: Arc<Mutex<AuditIndex>>,
}

impl AuditReader {
    /// A page of the entries that match and that the operator may see, newest first. The first call reads
    /// the whole log, later ones what has come since.
    pub(crate) fn page(
        &self,
        context: &Context,
        operator: &Operator,
        filter: &AuditFilter,
        offset: u64,
        limit: usize,
    ) -> Result<(Vec<AuditEntry>, u64), Unavailable> {
        let view = context.store.read().map_err(|_| Unavailable::Storage)?;
        let page = context.compute.run(|| Ok(self.caught_up(&view)?.select(operator, filter, offset, limit)));
        let AuditPage { numbers, total } = page.map_err(unreadable)?;
        let entries = numbers.iter().filter_map(|number| view.get::<table::Audit>(number).transpose());
        Ok((entries.collect::<Result<_, _>>().map_err(unreadable)?, total))
    }

    /// One entry by its id; none when there is none that the operator may see.
    pub(crate) fn find(
        &self,
        context: &Context,
        operator: &Operator,
        id: AuditId,
    ) -> Result<Option<AuditEntry>, Unavailable> {
        let view = context.store.read().map_err(|_| Unavailable::Storage)?;
        let candidates = context.compute.run(|| Ok(self.caught_up(&view)?.candidates(id)));
        for number in candidates.map_err(unreadable)? {
            let entry = view.get::<table::Audit>(&number).map_err(unreadable)?;
            let Some(entry) = entry.filter(|entry| entry.draft.id == id) else { continue };
            let in_sight = match entry.draft.target_site_id {
                Some(site) => operator.sees(site),
                None => operator.sites.is_none() && !tenant::is_confined(operator),
            };
            return Ok(in_sight.then_some(entry));
        }
        Ok(None)
    }

    /// The columns, as far as the view reaches or further.
    fn caught_up(&self, view: &ReadView) -> Result<MutexGuard<'_, AuditIndex>, ReadError> {
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        let mut odd = None;
        view.visit::<table::Audit>(index.last() + 1.., |number, body| {
            let pushed = AuditHead::of(body).map(|head| index.push(&head));
            if let Some(Ok(())) = pushed {
                return ControlFlow::Continue(());
            }
            odd = Some(number);
            ControlFlow::Break(())
        })?;
        if let Some(number) = odd {
            // What lies before it can still be searched; `hansa audit verify` names it.
            warn!(number, "the audit log cannot be searched beyond an entry that is not what was written");
        }
        Ok(index)
    }
}

fn unreadable(error: ReadError) -> Unavailable {
    debug!(%error, "audit log not read");
    Unavailable::Storage
}

/// This node's newest checkpoint of its own log.
pub(crate) fn latest(view: &ReadView) -> Result<Option<Checkpoint>, ReadError> {
    let newest = view.page::<table::AuditCheckpoints>(.., Order::Descending, 1)?;
    Ok(newest.into_iter().next().map(|(_, checkpoint)| checkpoint))
}

fn newest(view: &ReadView) -> Result<u64, Unavailable> {
    let newest = view.page::<table::Audit>(.., Order::Descending, 1).map_err(|_| Unavailable::Storage)?;
    Ok(newest.first().map_or(0, |(number, _)| *number))
}

enum Unfollowed {
    Read(ReadError),
    Broken(BrokenChain),
}

/// Follows the chain a good way on from where it was left.
fn follow(view: &ReadView, verified: &mut Verification) -> Result<(), Unfollowed> {
    let (from, _) = verified.place();
    let mut followed = 0;
    let mut outcome = Ok(());
    view.visit::<table::Audit>(from + 1.., |_, body| {
        followed += 1;
        let step = match AuditParts::of(body) {
            Some(AuditParts { number, draft, hash }) => verified.follow(number, draft, &hash),
            None => Err(BrokenChain::Changed { number: verified.place().0 + 1 }),
        };
        outcome = step.map_err(Unfollowed::Broken);
        let goes_on = outcome.is_ok() && followed < limits::VERIFIED_AT_ONCE_MAX;
        if goes_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })
    .map_err(Unfollowed::Read)?;
    outcome
}

/// At most `limit` links of the chain after a number, as they are stored. Bytes that are no entry are shown
/// as a link whose hash cannot be right, so that whoever follows the chain names it.
pub(crate) fn links(view: &ReadView, after: u64, limit: usize) -> Result<Vec<ChainLink>, Unavailable> {
    let mut links = Vec::new();
    view.visit::<table::Audit>(after.saturating_add(1).., |number, body| {
        links.push(match AuditParts::of(body) {
            Some(AuditParts { number, draft, hash }) => ChainLink { number, draft: draft.to_vec(), hash },
            None => ChainLink { number, draft: body.to_vec(), hash: [0; 32] },
        });
        if links.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })
    .map_err(unreadable)?;
    Ok(links)
}

/// A checkpoint of the coordinator's log arrived at this site: kept, if the coordinator signed it. Durable
/// on return. What contradicts one that is kept already is refused, and leaves an entry in the audit log of
/// this site: the coordinator's log was rewritten.
///
/// # Errors
/// The store did not take it; send it again.
pub(crate) async fn keep(
    context: &Context,
    coordinator_key: [u8; 32],
    checkpoint: Checkpoint,
) -> Result<(), Unavailable> {
    let signed = PublicKey::from_bytes(coordinator_key)
        .is_ok_and(|key| key.verify(checkpoint.signed_text().as_bytes(), &checkpoint.signature));
    if !signed {
        warn!(number = checkpoint.number, "a checkpoint that its coordinator did not sign was dropped");
        return Ok(());
    }
    let number = checkpoint.number;
    let view = context.store.read().map_err(|_| Unavailable::Storage)?;
    let kept = view.get::<table::CoordinatorCheckpoints>(&number).map_err(|_| Unavailable::Storage)?;
    let superfluous = superfluous(&view).map_err(|_| Unavailable::Storage)?;
    drop(view);
    let mut batch = Batch::new();
    match kept {
        Some(kept) if kept.signer == coordinator_key => {
            if kept.checkpoint.hash == checkpoint.hash {
                return Ok(());
            }
            warn!(number, "the coordinator signed two different audit logs: compare what sites keep");
            let count = i64::try_from(number).unwrap_or(i64::MAX);
            let details = [("number", hansa_model::audit::Detail::Int(count))];
            batch.audit(context.audit_node("audit_checkpoint_contradicted", None, details));
        }
        // Of an earlier membership, or none.
        Some(_) | None => {
            let received_at = context.now();
            let kept = KeptCheckpoint { checkpoint, signer: coordinator_key, received_at };
            batch.put::<table::CoordinatorCheckpoints>(&number, &kept);
            if let Some(superfluous) = superfluous {
                batch.delete_range::<table::CoordinatorCheckpoints>(..superfluous);
            }
        }
    }
    context.commit(Lane::Control, batch).await.map(drop)
}

/// The number below which kept checkpoints go when another one comes; none while there is room.
fn superfluous(view: &ReadView) -> Result<Option<u64>, ReadError> {
    let mut numbers = Vec::new();
    view.visit::<table::CoordinatorCheckpoints>(.., |number, _| {
        numbers.push(number);
        ControlFlow::Continue(())
    })?;
    let too_many = (numbers.len() + 1).saturating_sub(limits::KEPT_MAX);
    Ok(if too_many == 0 { None } else { numbers.get(too_many).copied() })
}
