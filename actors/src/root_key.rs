//! The root key's rotation: begun when asked, carried on in small steps, ended when nothing hangs on the
//! former key any more. After a restart it goes on by itself.
//!
//! Where the root key is kept is the business of a [`RootKeyHolder`]; what is sealed under it, the store's.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use arc_swap::ArcSwap;
use hansa_model::audit::Detail;
use hansa_model::limits::actor as limits;
use hansa_model::scope::Operator;
use hansa_model::{Secret, Timestamp};
use hansa_storage::rotation::{Place, Rotation, RotationError};
use hansa_storage::{Batch, CommitError, RootKey, table};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tracing::{error, info, warn};

use crate::context::Context;
use crate::error::{RootKeyError, Unavailable};
use crate::supervision::Tied;

/// When the last rotation began, in microseconds, in the settings.
const ROTATED_AT: &str = "root_key_rotated_at";

/// What a holder is doing.
pub type Holding<'a, T> = Pin<Box<dyn Future<Output = Result<T, HolderError>> + Send + 'a>>;

/// Where the root key is kept.
pub trait RootKeyHolder: Send + Sync + fmt::Debug {
    /// How it is kept: `key_file`, `passphrase` or `transit`; `none` where nobody keeps one.
    fn way(&self) -> &'static str;

    /// Makes the next root key and keeps it beside the present one, durable on return. With a passphrase the
    /// next one is derived from it; without, it is kept as the present one is. The key holds the present one as
    /// the one before it.
    fn prepare(&self, passphrase: Option<Secret<String>>) -> Holding<'_, RootKey>;

    /// Puts the prepared key in the present one's place: the store hangs on it. Durable on return; before it,
    /// a start tries both.
    fn adopt(&self) -> Holding<'_, ()>;

    /// Forgets the prepared key: the store did not take it.
    fn discard(&self) -> Holding<'_, ()>;

    /// Forgets the key before the present one: nothing hangs on it any more. Durable on return.
    fn forget_former(&self) -> Holding<'_, ()>;
}

/// Why a holder did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HolderError {
    /// It cannot be done this way, whenever it is tried.
    #[error("{0}")]
    Refused(String),
    /// A file or the transit engine did not do its part: mend that, then repeat.
    #[error("{0}")]
    Failed(String),
}

/// For nodes whose root key nobody keeps: benches and simulations.
#[derive(Debug, Clone, Copy)]
pub struct NoHolder;

impl RootKeyHolder for NoHolder {
    fn way(&self) -> &'static str {
        "none"
    }

    fn prepare(&self, _passphrase: Option<Secret<String>>) -> Holding<'_, RootKey> {
        let why = "this node was started without a place for its root key".to_owned();
        Box::pin(std::future::ready(Err(HolderError::Refused(why))))
    }

    fn adopt(&self) -> Holding<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn discard(&self) -> Holding<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn forget_former(&self) -> Holding<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// The root key as people may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootKeyView {
    /// See [`RootKeyHolder::way`].
    pub kept_as: &'static str,
    /// When the last rotation began; none before the first.
    pub rotated_at: Option<Timestamp>,
    /// The rotation that runs.
    pub rotation: Option<RotationView>,
}

/// A rotation that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RotationView {
    /// Sealed records that were looked at since it began, or since the node started.
    pub looked_at: u64,
    /// Sealed records there are.
    pub records: u64,
    /// Records that no known key opens: the former root key is lost, or they are damaged.
    pub unreadable: u64,
    /// The former root key is lost: the rotation waits until it is put back, or nothing hangs on it.
    pub former_key_lost: bool,
}

/// What has been done of a pass.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Done {
    looked_at: u64,
    rewrapped: u64,
    unreadable: u64,
}

/// The root key's part of a node; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct RootKeys {
    pub(crate) context: Arc<Context>,
    pub(crate) holder: Arc<dyn RootKeyHolder>,
    pub(crate) done: Arc<ArcSwap<Done>>,
}

impl RootKeys {
    pub(crate) fn new(context: Arc<Context>, holder: Arc<dyn RootKeyHolder>) -> Self {
        Self { context, holder, done: Arc::new(ArcSwap::from_pointee(Done::default())) }
    }

    pub(crate) fn view(&self) -> Result<RootKeyView, Unavailable> {
        let store = &self.context.store;
        let rotated_at = store
            .read()
            .and_then(|view| view.get::<table::Settings>(ROTATED_AT))
            .map_err(|_| Unavailable::Storage)?
            .and_then(|text| text.parse().ok())
            .map(Timestamp::from_micros);
        let rotation = match store.rotation() {
            Rotation::None => None,
            running @ (Rotation::Running | Rotation::FormerKeyLost) => {
                let done = **self.done.load();
                Some(RotationView {
                    looked_at: done.looked_at,
                    records: store.sealed_records().map_err(|_| Unavailable::Storage)?,
                    unreadable: done.unreadable,
                    former_key_lost: running == Rotation::FormerKeyLost,
                })
            }
        };
        Ok(RootKeyView { kept_as: self.holder.way(), rotated_at, rotation })
    }
}

/// Everything the root key's actor can be asked.
#[derive(Debug)]
pub(crate) enum RootKeyMessage {
    /// Begins a rotation. Answers once the store hangs on the new root key; the rest goes on by itself.
    Rotate {
        passphrase: Option<Secret<String>>,
        operator: Operator,
        reply: RpcReplyPort<Result<RootKeyView, RootKeyError>>,
    },
    /// Makes the next step of the rotation that runs. No answer.
    Step,
}

pub(crate) struct RootKeyActor {
    pub(crate) keys: RootKeys,
}

#[derive(Default)]
pub(crate) struct RootKeyState {
    /// How far the pass has come; none while no rotation runs, or while one waits for a lost key.
    place: Option<Place>,
    /// Asks for the next step.
    timer: Option<Tied>,
}

impl Actor for RootKeyActor {
    type Msg = RootKeyMessage;
    type State = RootKeyState;
    type Arguments = ();

    async fn pre_start(
        &self,
        myself: ActorRef<RootKeyMessage>,
        (): (),
    ) -> Result<RootKeyState, ActorProcessingErr> {
        let mut state = RootKeyState::default();
        if self.keys.context.store.rotation() != Rotation::None {
            info!("the rotation of the root key goes on");
            self.begin_pass(&myself, &mut state);
        }
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<RootKeyMessage>,
        message: RootKeyMessage,
        state: &mut RootKeyState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            RootKeyMessage::Rotate { passphrase, operator, reply } => {
                let answer = self.rotate(passphrase, &operator).await;
                if answer.is_ok() {
                    self.begin_pass(&myself, state);
                }
                let answer = answer.and_then(|()| Ok(self.keys.view()?));
                // A caller that gave up has nothing to be told.
                let _ = reply.send(answer);
            }
            RootKeyMessage::Step => self.step(&myself, state).await,
        }
        Ok(())
    }
}

impl RootKeyActor {
    async fn rotate(
        &self,
        passphrase: Option<Secret<String>>,
        operator: &Operator,
    ) -> Result<(), RootKeyError> {
        let RootKeys { context, holder, .. } = &self.keys;
        // The disk decides: a commit whose end nobody heard of may have begun a rotation.
        if context.store.rotation() != Rotation::None
            || context.store.rotation_noted().map_err(|_| Unavailable::Storage)?
        {
            return Err(RootKeyError::Running);
        }
        let before = holder.way();
        let key = holder.prepare(passphrase).await?;
        let details = [("kept_as", before.into())];
        let entry = context.audit_node("root_key_rotation_started", Some(operator), details);
        let mut batch = Batch::new();
        batch.put::<table::Settings>(ROTATED_AT, &context.now().as_micros().to_string());
        batch.audit(entry);
        if let Err(error) = context.store.begin_rotation(&key, batch).await {
            warn!(%error, "the store did not take the new root key");
            return Err(match error {
                // Whether it is stored is known at the next start only: until then both keys are kept.
                RotationError::Commit(
                    error @ (CommitError::Io(_) | CommitError::Corrupt(_) | CommitError::Closed),
                ) => Unavailable::from(error).into(),
                RotationError::Commit(error) => {
                    holder.discard().await?;
                    Unavailable::from(error).into()
                }
                RotationError::Running => {
                    holder.discard().await?;
                    RootKeyError::Running
                }
                RotationError::Unprepared | RotationError::Read(_) => {
                    holder.discard().await?;
                    Unavailable::Storage.into()
                }
            });
        }
        if let Err(error) = holder.adopt().await {
            error!(%error, "the new root key lies beside the former one: the next start puts it in its place");
        }
        Ok(())
    }

    fn begin_pass(&self, myself: &ActorRef<RootKeyMessage>, state: &mut RootKeyState) {
        self.keys.done.store(Arc::default());
        state.place = Some(Place::default());
        state.timer = Some(after(myself, limits::REWRAP_PAUSE));
    }

    async fn step(&self, myself: &ActorRef<RootKeyMessage>, state: &mut RootKeyState) {
        let Some(place) = state.place.clone() else { return };
        let wait = match self.next(place).await {
            Ok(next) => {
                state.place = next;
                limits::REWRAP_PAUSE
            }
            Err(error) => {
                warn!(%error, "a step of the root key's rotation was not made; it is tried again");
                limits::REWRAP_RETRY_WAIT
            }
        };
        state.timer = state.place.is_some().then(|| after(myself, wait));
    }

    /// Makes a step; answers with where to go on.
    async fn next(&self, from: Place) -> Result<Option<Place>, RotationError> {
        let RootKeys { context, done, .. } = &self.keys;
        let step = context.store.rewrap(from).await?;
        let mut now = **done.load();
        now.looked_at += step.looked_at;
        now.rewrapped += step.rewrapped;
        now.unreadable += step.unreadable;
        done.store(Arc::new(now));
        if step.next.is_none() {
            self.end(now).await?;
        }
        Ok(step.next)
    }

    async fn end(&self, done: Done) -> Result<(), RotationError> {
        let RootKeys { context, holder, .. } = &self.keys;
        if done.unreadable > 0 && context.store.rotation() == Rotation::FormerKeyLost {
            error!(
                records = done.unreadable,
                "the former root key is lost: put back the key file of the rotation, then start the node again"
            );
            return Ok(());
        }
        let details = [("rewrapped", done.rewrapped), ("unreadable", done.unreadable)]
            .map(|(name, count)| (name, Detail::Int(i64::try_from(count).unwrap_or(i64::MAX))));
        let mut batch = Batch::new();
        batch.audit(context.audit_node("root_key_rotated", None, details));
        context.store.end_rotation(batch).await?;
        info!(rewrapped = done.rewrapped, "the root key is rotated: nothing hangs on the former one");
        if let Err(error) = holder.forget_former().await {
            warn!(%error, "the former root key is still kept, for nothing: the next start forgets it");
        }
        Ok(())
    }
}

/// Asks for a step after a while; as long as the value lives.
fn after(myself: &ActorRef<RootKeyMessage>, wait: std::time::Duration) -> Tied {
    let myself = myself.clone();
    Tied::spawn(async move {
        tokio::time::sleep(wait).await;
        // An actor that is gone starts again from the store.
        let _ = myself.cast(RootKeyMessage::Step);
    })
}
