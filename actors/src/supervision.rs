//! Restart policy and order of start: lives here, nowhere else.
//!
//! A supervisor keeps its children in a list. A child that fails is started again from storage, alone; its
//! siblings notice nothing, because they hold a [`Handle`] that finds the new incarnation. After too many
//! restarts in a short time the supervisor fails itself, which passes the question one level up; or, where
//! the children are many and each stands for itself, it sets the child aside for a while.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use hansa_model::limits::actor as limits;
use ractor::rpc::CallResult;
use ractor::{Actor, ActorCell, ActorRef, Message, RpcReplyPort, SpawnErr, SupervisionEvent};
use tokio::time::Instant;
use tracing::warn;

use crate::error::Unavailable;

/// The way in to a supervised actor; survives its restarts. Cheap to clone.
pub(crate) struct Handle<M> {
    part: &'static str,
    slot: Arc<ArcSwapOption<ActorRef<M>>>,
}

impl<M> Clone for Handle<M> {
    fn clone(&self) -> Self {
        Self { part: self.part, slot: Arc::clone(&self.slot) }
    }
}

impl<M> std::fmt::Debug for Handle<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Handle({})", self.part)
    }
}

impl<M: Message> Handle<M> {
    /// A handle whose actor is not started yet.
    pub(crate) fn new(part: &'static str) -> Self {
        Self { part, slot: Arc::new(ArcSwapOption::empty()) }
    }

    /// Asks and awaits the answer, at most `limits::CALL_WAIT_MAX`. An actor that fails on the message
    /// answers [`Unavailable::Busy`]; whether the message had an effect is then unknown.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        message: impl FnOnce(RpcReplyPort<T>) -> M,
    ) -> Result<T, Unavailable> {
        let actor = self.running().await?;
        match actor.call(message, Some(limits::CALL_WAIT_MAX)).await {
            Ok(CallResult::Success(answer)) => Ok(answer),
            Ok(CallResult::Timeout | CallResult::SenderError) | Err(_) => Err(self.busy()),
        }
    }

    /// Hands a message over, waiting out a restart; whoever answers it does so by itself.
    pub(crate) async fn tell(&self, message: M) -> Result<(), Unavailable> {
        self.running().await?.send_message(message).map_err(|_| self.busy())
    }

    /// Tells without an answer. A notice to an actor that is restarting is lost: it rebuilds from storage.
    pub(crate) fn cast(&self, message: M) {
        if let Some(actor) = self.slot.load().as_ref() {
            // The actor may stop in this very moment; see above.
            let _ = actor.send_message(message);
        }
    }

    const fn busy(&self) -> Unavailable {
        Unavailable::Busy { part: self.part }
    }

    /// The present incarnation, waiting out a restart.
    async fn running(&self) -> Result<Arc<ActorRef<M>>, Unavailable> {
        const POLL: Duration = Duration::from_millis(20);
        let deadline = Instant::now() + limits::RESTART_WAIT * 10;
        loop {
            if let Some(actor) = self.slot.load_full() {
                return Ok(actor);
            }
            if Instant::now() >= deadline {
                return Err(self.busy());
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

type Starting = Pin<Box<dyn Future<Output = Result<ActorCell, SpawnErr>> + Send>>;

struct Child {
    part: &'static str,
    start: Box<dyn Fn(ActorCell) -> Starting + Send + Sync>,
    vacate: Box<dyn Fn() + Send + Sync>,
    cell: ActorCell,
    restarts: VecDeque<Instant>,
    /// Fails too often: not started again before somebody asks for it.
    aside: bool,
}

/// The children of one supervisor, in their order of start.
#[derive(Default)]
pub(crate) struct Children {
    children: Vec<Child>,
}

/// A child has failed too often; its supervisor should fail too.
#[derive(Debug, thiserror::Error)]
#[error("{0} failed too often")]
pub(crate) struct TooManyRestarts(&'static str);

impl Children {
    /// Starts a child and remembers how to start it again. `make` builds the actor and its arguments anew
    /// for each incarnation.
    pub(crate) async fn start<A, F>(
        &mut self,
        supervisor: ActorCell,
        handle: &Handle<A::Msg>,
        make: F,
    ) -> Result<(), SpawnErr>
    where
        A: Actor,
        F: Fn() -> (A, A::Arguments) + Send + Sync + 'static,
    {
        let part = handle.part;
        let slot = Arc::clone(&handle.slot);
        let start = Box::new(move |supervisor: ActorCell| -> Starting {
            let (actor, arguments) = make();
            let slot = Arc::clone(&slot);
            Box::pin(async move {
                // No name: names are global to the process, and a simulation runs many nodes in one.
                let (actor, _) = Actor::spawn_linked(None, actor, arguments, supervisor).await?;
                let cell = actor.get_cell();
                slot.store(Some(Arc::new(actor)));
                Ok(cell)
            })
        });
        let slot = Arc::clone(&handle.slot);
        let vacate = Box::new(move || slot.store(None));
        let cell = start(supervisor).await?;
        self.children.push(Child { part, start, vacate, cell, restarts: VecDeque::new(), aside: false });
        Ok(())
    }

    /// Handles a child's end: a failure restarts that child alone, a wanted stop forgets it.
    pub(crate) async fn on_event(
        &mut self,
        event: SupervisionEvent,
        supervisor: ActorCell,
    ) -> Result<(), TooManyRestarts> {
        match event {
            SupervisionEvent::ActorFailed(cell, reason) => {
                let Some(child) = self.children.iter_mut().find(|child| child.cell.get_id() == cell.get_id())
                else {
                    return Ok(());
                };
                warn!(part = child.part, reason = %reason, "actor failed, starting it again from storage");
                child.restart(supervisor).await
            }
            SupervisionEvent::ActorTerminated(cell, _, _) => {
                self.forget(&cell);
                Ok(())
            }
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => Ok(()),
        }
    }

    /// As [`Self::on_event`], for children that each stand for themselves: one that fails too often is set
    /// aside until [`Self::revive`], and its siblings go on.
    pub(crate) async fn on_event_of_many(&mut self, event: SupervisionEvent, supervisor: ActorCell) {
        let cell = event.actor_cell().cloned();
        if self.on_event(event, supervisor).await.is_err()
            && let Some(child) = self
                .children
                .iter_mut()
                .find(|child| Some(child.cell.get_id()) == cell.as_ref().map(ActorCell::get_id))
        {
            warn!(part = child.part, "actor set aside until the next pass of housekeeping");
            child.aside = true;
        }
    }

    /// Starts the children again that were set aside.
    pub(crate) async fn revive(&mut self, supervisor: &ActorCell) {
        for child in self.children.iter_mut().filter(|child| child.aside) {
            child.restarts.clear();
            child.aside = child.restart(supervisor.clone()).await.is_err();
        }
    }

    /// Whether this is one of these children.
    pub(crate) fn holds(&self, cell: &ActorCell) -> bool {
        self.children.iter().any(|child| child.cell.get_id() == cell.get_id())
    }

    /// Stops all children backwards, one by one: in a fixed order, so that runs repeat.
    pub(crate) async fn stop_all(&mut self) {
        while let Some(child) = self.children.pop() {
            child.stop().await;
        }
    }

    fn forget(&mut self, cell: &ActorCell) {
        self.children.retain(|child| child.cell.get_id() != cell.get_id());
    }
}

impl Child {
    async fn restart(&mut self, supervisor: ActorCell) -> Result<(), TooManyRestarts> {
        (self.vacate)();
        loop {
            let now = Instant::now();
            self.restarts.retain(|at| now.duration_since(*at) < limits::RESTART_WINDOW);
            if self.restarts.len() >= limits::RESTARTS_MAX {
                return Err(TooManyRestarts(self.part));
            }
            if !self.restarts.is_empty() {
                tokio::time::sleep(limits::RESTART_WAIT).await;
            }
            self.restarts.push_back(now);
            match (self.start)(supervisor.clone()).await {
                Ok(cell) => {
                    self.cell = cell;
                    return Ok(());
                }
                Err(reason) => warn!(part = self.part, %reason, "actor did not start"),
            }
        }
    }

    async fn stop(self) {
        (self.vacate)();
        // A child that is gone already has nothing to stop.
        let _ = self.cell.stop_and_wait(None, Some(limits::CALL_WAIT_MAX)).await;
    }
}

/// Aborts a task when dropped, so that an actor's helpers end with its incarnation.
#[derive(Debug)]
pub(crate) struct Tied(tokio::task::AbortHandle);

impl Tied {
    /// Runs a task that lives no longer than the returned value.
    pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(task).abort_handle())
    }
}

impl Drop for Tied {
    fn drop(&mut self) {
        self.0.abort();
    }
}
