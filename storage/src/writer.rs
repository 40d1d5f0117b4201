//! The writer: sole owner of write transactions. Groups what waits, urgent lanes first.
//!
//! Group commit needs no timer: what arrives during one sync is the next group. The same loop runs on a
//! thread of its own in production and as a task in a simulation, so both form groups alike.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::batch::{Batch, Lane};
use crate::engine::{Engine, Verdict};

/// Where the writer runs.
#[derive(Clone)]
pub enum Driver {
    /// A thread of its own: a sync blocks nobody else. For production.
    Thread,
    /// A task of the present runtime: commits, then sleeps for the latency that it is told, then
    /// acknowledges. For simulations on a paused clock.
    Inline {
        /// Time from durable to acknowledged, asked once for each group.
        latency: Arc<dyn Fn() -> Duration + Send + Sync>,
    },
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Thread => "Thread",
            Self::Inline { .. } => "Inline",
        })
    }
}

impl Driver {
    /// Runs long work over a snapshot: on a thread of its own, or in place under simulation.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> std::io::Result<T> {
        match self {
            Self::Inline { .. } => Ok(work()),
            Self::Thread => {
                let (reply, answer) = oneshot::channel();
                // Nobody may wait for the answer any more; then the work was for nothing.
                let job = move || drop(reply.send(work()));
                std::thread::Builder::new().name(name.to_owned()).spawn(job)?;
                answer.await.map_err(std::io::Error::other)
            }
        }
    }
}

/// A batch on its way to the writer.
pub(crate) struct Request {
    pub(crate) lane: Lane,
    pub(crate) batch: Batch,
    pub(crate) reply: oneshot::Sender<Verdict>,
}

/// The callers' ends: one bounded queue per lane, and the request to stop.
#[derive(Clone)]
pub(crate) struct Senders {
    lanes: [mpsc::Sender<Request>; Lane::COUNT],
    stop: mpsc::Sender<oneshot::Sender<()>>,
}

impl Senders {
    pub(crate) fn lane(&self, lane: Lane) -> &mpsc::Sender<Request> {
        let [control, push, operator, ingest] = &self.lanes;
        match lane {
            Lane::Control => control,
            Lane::Push => push,
            Lane::Operator => operator,
            Lane::Ingest => ingest,
        }
    }

    /// Ends the writer after what waits is stored; returns when the file is closed.
    pub(crate) async fn stop(&self) {
        let (reply, stopped) = oneshot::channel();
        if self.stop.send(reply).await.is_ok() {
            // An error means that the writer has gone by itself: stopped as well.
            let _ = stopped.await;
        }
    }
}

/// The writer's ends.
pub(crate) struct Queues {
    lanes: [LaneQueue; Lane::COUNT],
    stop: mpsc::Receiver<oneshot::Sender<()>>,
}

struct LaneQueue {
    receiver: mpsc::Receiver<Request>,
    /// Taken from the queue, but too large for the group that was being formed.
    held: Option<Request>,
}

impl LaneQueue {
    fn take(&mut self) -> Option<Request> {
        self.held.take().or_else(|| self.receiver.try_recv().ok())
    }
}

/// Makes the queues; each lane holds at most `capacity` batches, beyond which callers wait.
pub(crate) fn queues(capacity: usize) -> (Senders, Queues) {
    let (stop_sender, stop) = mpsc::channel(1);
    let pairs = [(); Lane::COUNT].map(|()| mpsc::channel(capacity));
    let mut senders = Vec::with_capacity(Lane::COUNT);
    let lanes = pairs.map(|(sender, receiver)| {
        senders.push(sender);
        LaneQueue { receiver, held: None }
    });
    let [control, push, operator, ingest] =
        <[_; Lane::COUNT]>::try_from(senders).unwrap_or_else(|_| unreachable!("one sender per lane"));
    let senders = Senders { lanes: [control, push, operator, ingest], stop: stop_sender };
    (senders, Queues { lanes, stop })
}

/// The most that one commit takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GroupLimits {
    pub(crate) bytes_max: usize,
    pub(crate) batches_max: usize,
}

impl Queues {
    /// Waits for the next batch, the most urgent first; none when no more can come.
    async fn first(&mut self, stopped: &mut Option<oneshot::Sender<()>>) -> Option<Request> {
        if let Some(request) = self.lanes.iter_mut().find_map(LaneQueue::take) {
            return Some(request);
        }
        let [control, push, operator, ingest] = &mut self.lanes;
        loop {
            tokio::select! {
                biased;
                Some(request) = control.receiver.recv() => return Some(request),
                Some(request) = push.receiver.recv() => return Some(request),
                Some(request) = operator.receiver.recv() => return Some(request),
                Some(request) = ingest.receiver.recv() => return Some(request),
                Some(reply) = self.stop.recv() => {
                    *stopped = Some(reply);
                    self.stop.close();
                    for lane in [&mut *control, &mut *push, &mut *operator, &mut *ingest] {
                        lane.receiver.close();
                    }
                }
                else => return None,
            }
        }
    }

    /// The next group: at least one batch, then what waits, lane by lane, up to the limits.
    async fn group(
        &mut self,
        limits: GroupLimits,
        stopped: &mut Option<oneshot::Sender<()>>,
    ) -> Option<Vec<Request>> {
        let first = self.first(stopped).await?;
        let mut bytes = first.batch.bytes();
        let mut group = vec![first];
        for lane in &mut self.lanes {
            while group.len() < limits.batches_max {
                let Some(request) = lane.take() else { break };
                let more = request.batch.bytes();
                if bytes + more > limits.bytes_max {
                    lane.held = Some(request);
                    break;
                }
                bytes += more;
                group.push(request);
            }
        }
        Some(group)
    }
}

/// Starts the writer.
pub(crate) fn start(
    driver: &Driver,
    engine: Engine,
    queues: Queues,
    limits: GroupLimits,
) -> std::io::Result<()> {
    match driver {
        Driver::Thread => {
            // The runtime drives no timers and no sockets: it only parks the thread until a batch comes.
            let runtime = tokio::runtime::Builder::new_current_thread().build()?;
            std::thread::Builder::new()
                .name("hansa-writer".to_owned())
                .spawn(move || runtime.block_on(run(engine, queues, limits, None)))?;
        }
        Driver::Inline { latency } => {
            drop(tokio::spawn(run(engine, queues, limits, Some(Arc::clone(latency)))));
        }
    }
    Ok(())
}

async fn run(
    mut engine: Engine,
    mut queues: Queues,
    limits: GroupLimits,
    latency: Option<Arc<dyn Fn() -> Duration + Send + Sync>>,
) {
    let _alarm = Alarm(engine.on_fatal());
    let mut stopped = None;
    while let Some(requests) = queues.group(limits, &mut stopped).await {
        let group: Vec<_> = requests.iter().map(|request| (request.lane, &request.batch)).collect();
        let verdicts = engine.commit(&group);
        if let Some(latency) = &latency {
            tokio::time::sleep(latency()).await;
        }
        for (request, verdict) in requests.into_iter().zip(verdicts) {
            // A caller that has gone does not hear of it; its batch is stored all the same.
            let _ = request.reply.send(verdict);
        }
    }
    engine.close();
    if let Some(reply) = stopped {
        let _ = reply.send(());
    }
}

/// Reports a panic of the writer: without it, a node would live on and refuse every write.
struct Alarm(Arc<dyn Fn(&str) + Send + Sync>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.0)("the store's writer panicked");
        }
    }
}
