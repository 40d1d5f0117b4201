//! The world: hosts, each with a paused runtime of its own, stepped through virtual time window by window.
//!
//! ```text
//! World ─ step ─► faults due ─► host 0 … host n, each up to the window's end ─► who died, who boots
//!                                   │ HostEnv: socket, disk, clocks, entropy, observer
//!                                   ▼
//!                               Program (the node, or a test's few lines)
//! ```
//!
//! A host's runtime jumps through its own timers; see [`crate::network`] for why the hosts may take turns.
//! A crash drops the runtime, so every task of the host vanishes, whoever spawned it.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use hansa_model::{Entropy, WallClock};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::clock::{self, ClockSkew, HostClock, SimTime};
use crate::dice::{self, Dice};
use crate::disk::{Crash, Loss, SimDisk, SimFolder};
use crate::faults::Fault;
use crate::network::{HostId, Link, SimNet, SimSocket};
use crate::trace::Trace;
use crate::watch::{self, Violations};

/// The port of a host's first socket.
pub const PORT: u16 = 4433;

/// What a program returns: an error says that the host must be started again.
pub type ProgramFuture = Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>;

/// What a host runs, anew at each boot. Functions from [`HostEnv`] to a future are programs.
///
/// A program that ends with an error fails the run, unless its disk was made to fail before: then it is
/// started again. One that ends well leaves its host up and idle.
pub trait Program: Send + Sync + 'static {
    /// Runs on a freshly booted host, inside its runtime.
    fn start(&self, env: HostEnv) -> ProgramFuture;
}

impl<F, R> Program for F
where
    F: Fn(HostEnv) -> R + Send + Sync + 'static,
    R: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    fn start(&self, env: HostEnv) -> ProgramFuture {
        Box::pin(self(env))
    }
}

/// All that a program may touch: the seams of production code, served by the world.
#[derive(Debug, Clone)]
pub struct HostEnv {
    /// Which host this is.
    pub host: HostId,
    /// Its name in the trace.
    pub name: String,
    /// How often it booted before.
    pub boot: u32,
    /// A socket bound to the host's address and [`PORT`].
    pub socket: Arc<SimSocket>,
    /// Its address.
    pub address: SocketAddr,
    /// quinn's runtime, the same as in production.
    pub runtime: Arc<dyn quinn::Runtime>,
    /// Its data folder.
    pub folder: SimFolder,
    /// Its wall clock, with its error.
    pub wall: Arc<dyn WallClock>,
    /// Its randomness: new at each boot.
    pub entropy: Arc<dyn Entropy>,
    /// For `EndpointConfig::rng_seed`: new at each boot, so that connection ids never repeat.
    pub endpoint_seed: [u8; 32],
    /// The world's time.
    pub clock: HostClock,
    /// Where the program says what it did.
    pub observer: Observer,
    /// How the program ends itself at once, from anywhere.
    pub abort: Abort,
    net: SimNet,
}

/// Stands for `std::process::abort`: the host's process is gone at the end of the window, and started again
/// after the restart delay. Cheap to clone.
///
/// Like a failing program it fails the run, unless the host's disk was made to fail before.
#[derive(Debug, Clone, Default)]
pub struct Abort(Arc<Mutex<Option<String>>>);

impl Abort {
    /// Ends the process; the first reason counts.
    pub fn now(&self, reason: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| reason.to_owned());
    }

    fn reason(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl HostEnv {
    /// Binds another port, for a migrating connection or a second endpoint.
    pub fn bind(&self, port: u16) -> Arc<SimSocket> {
        self.net.bind(self.host, port, self.clock)
    }

    /// The first address of another host.
    pub fn address_of(&self, host: HostId) -> SocketAddr {
        SocketAddr::new(host.ip(), PORT)
    }
}

/// Puts what a program did into the trace. Silent once its boot is over.
#[derive(Debug, Clone)]
pub struct Observer {
    name: String,
    clock: HostClock,
    alive: Arc<AtomicBool>,
    trace: Trace,
    violations: Violations,
}

impl Observer {
    /// Records an event. It must be a function of the seed: no process-wide counters, no pointers.
    pub fn event(&self, event: &str) {
        if self.alive.load(Ordering::Relaxed) {
            self.trace.event(self.clock.now(), &self.name, event);
        }
    }

    /// Fails the run.
    pub fn violation(&self, reason: &str) {
        if self.alive.load(Ordering::Relaxed) {
            self.violations.report(format!("{} at {:?}: {reason}", self.name, self.clock.now()));
        }
    }
}

/// Randomness of one boot.
#[derive(Debug)]
struct HostEntropy(Mutex<Dice>);

impl Entropy for HostEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill(bytes);
    }
}

/// The physics of a world.
#[derive(Debug, Clone, Copy)]
pub struct WorldConfig {
    /// Everything that chance decides follows from it.
    pub seed: u64,
    /// Length of a step, in whole milliseconds, and least latency of every link. Longer is faster.
    pub window: Duration,
    /// Every link that no fault has changed.
    pub link: Link,
    /// Wall clocks are wrong by up to this much.
    pub skew: Duration,
    /// And drift by up to this many millionths.
    pub drift_ppm: u32,
    /// From the end of a failed program, or an unplanned power loss, to the next boot.
    pub restart_delay: Duration,
}

impl WorldConfig {
    /// Wide-area links, clocks a second off.
    pub fn wide_area(seed: u64) -> Self {
        Self {
            seed,
            window: Duration::from_millis(10),
            link: Link::CLEAN,
            skew: Duration::from_secs(1),
            drift_ppm: 50,
            restart_delay: Duration::from_secs(2),
        }
    }
}

/// Everything there is, and its time. Lives on one thread, with the hooks of [`crate::hooks`] active.
pub struct World {
    config: WorldConfig,
    now: SimTime,
    net: SimNet,
    trace: Trace,
    violations: Violations,
    hosts: Vec<Host>,
    plan: BTreeMap<(SimTime, u64), Fault>,
    planned: u64,
    crashes: u64,
}

struct Host {
    id: HostId,
    name: String,
    program: Arc<dyn Program>,
    disk: SimDisk,
    skew: ClockSkew,
    boots: u32,
    running: Option<Running>,
    boot_at: Option<SimTime>,
    loss: Loss,
}

struct Running {
    runtime: Runtime,
    clock: HostClock,
    main: Option<JoinHandle<anyhow::Result<()>>>,
    alive: Arc<AtomicBool>,
    abort: Abort,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World")
            .field("now", &self.now)
            .field("hosts", &self.hosts.len())
            .finish_non_exhaustive()
    }
}

impl World {
    /// An empty world at its beginning.
    ///
    /// # Panics
    /// When the window is not a whole, positive number of milliseconds: timers know nothing finer.
    pub fn new(config: WorldConfig, trace: Trace, violations: Violations) -> Self {
        let whole = Duration::from_millis(u64::try_from(config.window.as_millis()).unwrap_or(0));
        assert!(!whole.is_zero() && whole == config.window, "the window must be whole milliseconds");
        clock::set_world_time(SimTime::START);
        Self {
            config,
            now: SimTime::START,
            net: SimNet::new(config.seed, config.window, config.link, trace.clone()),
            trace,
            violations,
            hosts: Vec::new(),
            plan: BTreeMap::new(),
            planned: 0,
            crashes: 0,
        }
    }

    /// Adds a host that boots in the next step.
    pub fn add_host(&mut self, name: &str, program: impl Program) -> HostId {
        let index = u16::try_from(self.hosts.len()).unwrap_or(u16::MAX);
        let mut dice = Dice::new(self.config.seed, "skew", u64::from(index));
        self.hosts.push(Host {
            id: HostId(index),
            name: name.to_owned(),
            program: Arc::new(program),
            disk: SimDisk::new(self.config.seed, u64::from(index)),
            skew: ClockSkew::draw(&mut dice, self.config.skew, self.config.drift_ppm),
            boots: 0,
            running: None,
            boot_at: Some(self.now),
            loss: Loss::All,
        });
        HostId(index)
    }

    /// Adds faults to the plan. Those of the past happen in the next step.
    pub fn plan(&mut self, faults: impl IntoIterator<Item = (SimTime, Fault)>) {
        for (time, fault) in faults {
            self.planned += 1;
            self.plan.insert((time, self.planned), fault);
        }
    }

    /// The present.
    pub fn now(&self) -> SimTime {
        self.now
    }

    /// The seed of everything.
    pub fn seed(&self) -> u64 {
        self.config.seed
    }

    /// How many hosts stopped so far, by whatever crash.
    pub fn crashes(&self) -> u64 {
        self.crashes
    }

    /// All hosts, in the order in which they run.
    pub fn hosts(&self) -> Vec<HostId> {
        self.hosts.iter().map(|host| host.id).collect()
    }

    /// The disk of a host.
    pub fn disk(&self, host: HostId) -> &SimDisk {
        &self.hosts[usize::from(host.0)].disk
    }

    /// The network between the hosts.
    pub fn net(&self) -> &SimNet {
        &self.net
    }

    /// True while a host runs.
    pub fn is_up(&self, host: HostId) -> bool {
        self.hosts[usize::from(host.0)].running.is_some()
    }

    /// What went wrong so far.
    pub fn violations(&self) -> &Violations {
        &self.violations
    }

    /// Lives on until `end`, or until something went wrong.
    pub fn run_until(&mut self, end: SimTime) {
        while self.now < end && self.violations.is_empty() {
            self.step();
        }
    }

    /// Lives on until `reached` says so, at most for `within`. Answers whether it was reached.
    pub fn run_while_not(&mut self, within: Duration, mut reached: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now.after(within);
        while !reached(self) {
            if self.now >= end || !self.violations.is_empty() {
                return false;
            }
            self.step();
        }
        true
    }

    /// Runs a future on a host, as a task beside its program, and lives on until it is done.
    ///
    /// # Errors
    /// When the host is down, crashes meanwhile, or the future takes longer than `within`.
    pub fn ask<T: Send + 'static>(
        &mut self,
        host: HostId,
        within: Duration,
        future: impl Future<Output = T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let (answer, mut answered) = tokio::sync::oneshot::channel();
        let running = self.hosts[usize::from(host.0)].running.as_ref().context("the host is down")?;
        running.runtime.spawn(async move {
            // Nobody waits any more when the time is over.
            let _ = answer.send(future.await);
        });
        let end = self.now.after(within);
        loop {
            match answered.try_recv() {
                Ok(value) => return Ok(value),
                Err(tokio::sync::oneshot::error::TryRecvError::Closed) => bail!("{host} died meanwhile"),
                Err(tokio::sync::oneshot::error::TryRecvError::Empty) if self.now < end => self.step(),
                Err(tokio::sync::oneshot::error::TryRecvError::Empty) => bail!("no answer within {within:?}"),
            }
        }
    }

    /// One window: faults first, then each host in order, then the dead and the born.
    pub fn step(&mut self) {
        while let Some(entry) = self.plan.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let fault = entry.remove();
            self.apply(fault);
        }
        self.boot_due();
        let end = self.now.after(self.config.window);
        for host in &self.hosts {
            if let Some(running) = &host.running {
                watch::set_disk(Some(&host.disk));
                running.run_until(end);
            }
        }
        watch::set_disk(None);
        self.now = end;
        clock::set_world_time(end);
        self.reap();
    }

    /// Does a fault to the world now.
    pub fn apply(&mut self, fault: Fault) {
        self.trace.event(self.now, "fault", &fault.to_string());
        match fault {
            Fault::Cut(source, target) => self.net.cut(source, target),
            Fault::Mend(source, target) => self.net.mend(source, target),
            Fault::SetLink(source, target, link) => self.net.set_link(source, target, link),
            Fault::Crash(host, crash) => self.crash(host, crash),
            Fault::PowerLossAtOp(host, count, loss) => {
                let host = &mut self.hosts[usize::from(host.0)];
                host.loss = loss;
                host.disk.crash_at_op(count);
            }
            Fault::IoError(host) => self.disk(host).fail_next(1),
            Fault::KeepImage(host) => self.disk(host).keep_image(),
            Fault::RestoreImage(host) => {
                self.crash(host, Crash::Power(Loss::All));
                self.disk(host).restore_image();
                self.hosts[usize::from(host.0)].boot_at = Some(self.now.after(self.config.restart_delay));
            }
            Fault::Boot(host) => {
                let now = self.now;
                self.hosts[usize::from(host.0)].boot_at.get_or_insert(now);
            }
            Fault::Heal => self.heal(),
        }
    }

    /// Stops a host at once; it stays down until a [`Fault::Boot`]. Nothing happens to one that is down.
    pub fn crash(&mut self, host: HostId, crash: Crash) {
        let host = &mut self.hosts[usize::from(host.0)];
        let Some(running) = host.running.take() else { return };
        host.boot_at = None;
        self.crashes += 1;
        self.trace.event(self.now, &host.name, &format!("stops by {crash:?}"));
        // First the network, so that no dropped connection says farewell; then the disk, so that no dropped
        // store writes a clean end; only then the tasks.
        running.alive.store(false, Ordering::Relaxed);
        self.net.unbind_host(host.id);
        host.disk.crash(crash);
        running.runtime.shutdown_background();
    }

    fn heal(&mut self) {
        self.net.heal();
        for host in &mut self.hosts {
            // A power loss that has struck is settled at the end of its window.
            host.disk.clear_faults();
            if host.running.is_none() {
                host.boot_at = Some(self.now);
            }
        }
    }

    fn boot_due(&mut self) {
        for host in &mut self.hosts {
            if host.boot_at.is_some_and(|at| at <= self.now) {
                host.boot_at = None;
                if host.running.is_none() {
                    host.boot(&self.config, self.now, &self.net, &self.trace, &self.violations);
                }
            }
        }
    }

    /// Settles power losses that struck within the window, and programs that ended.
    fn reap(&mut self) {
        let restart = self.now.after(self.config.restart_delay);
        for index in 0..self.hosts.len() {
            let host = &mut self.hosts[index];
            let (id, disk) = (host.id, host.disk.clone());
            let Some(running) = host.running.as_mut() else { continue };
            let ended = running.ended();
            let crash = if disk.is_dead() {
                Crash::Power(host.loss)
            } else if let Some(reason) = ended {
                if !disk.has_failed() {
                    self.violations.report(format!("the program of {} failed: {reason}", host.name));
                }
                Crash::Process
            } else {
                continue;
            };
            self.crash(id, crash);
            self.hosts[index].boot_at = Some(restart);
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for host in &mut self.hosts {
            let Some(running) = host.running.take() else { continue };
            running.alive.store(false, Ordering::Relaxed);
            self.net.unbind_host(host.id);
            host.disk.crash(Crash::Process);
            running.runtime.shutdown_background();
        }
    }
}

impl Host {
    fn boot(
        &mut self,
        config: &WorldConfig,
        now: SimTime,
        net: &SimNet,
        trace: &Trace,
        violations: &Violations,
    ) {
        let boot = self.boots;
        self.boots += 1;
        trace.event(now, &self.name, &format!("boots for the {boot}. time"));
        let runtime =
            match tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build() {
                Ok(runtime) => runtime,
                Err(error) => return violations.report(format!("no runtime for {}: {error}", self.name)),
            };
        let entered = runtime.enter();
        let clock = HostClock::boot(now, self.skew);
        clock::enter(Some(clock));
        let (alive, abort) = (Arc::new(AtomicBool::new(true)), Abort::default());
        let stream = (u64::from(self.id.0) << 32) | u64::from(boot);
        let socket = net.bind(self.id, PORT, clock);
        let env = HostEnv {
            host: self.id,
            name: self.name.clone(),
            boot,
            address: SocketAddr::new(self.id.ip(), PORT),
            socket,
            runtime: Arc::new(quinn::TokioRuntime),
            folder: self.disk.mount(),
            wall: Arc::new(clock),
            entropy: Arc::new(HostEntropy(Mutex::new(Dice::new(config.seed, "host", stream)))),
            endpoint_seed: dice::derive(config.seed, "endpoint", stream),
            clock,
            observer: Observer {
                name: self.name.clone(),
                clock,
                alive: Arc::clone(&alive),
                trace: trace.clone(),
                violations: violations.clone(),
            },
            abort: abort.clone(),
            net: net.clone(),
        };
        let main = runtime.spawn(self.program.start(env));
        clock::enter(None);
        drop(entered);
        self.running = Some(Running { runtime, clock, main: Some(main), alive, abort });
    }
}

impl Running {
    fn run_until(&self, end: SimTime) {
        clock::enter(Some(self.clock));
        let deadline = self.clock.instant(end);
        self.runtime.block_on(async move { tokio::time::sleep_until(deadline).await });
        clock::enter(None);
    }

    /// Why the program must be started again, if it failed or aborted in the window that is over.
    fn ended(&mut self) -> Option<String> {
        if let Some(reason) = self.abort.reason() {
            return Some(reason);
        }
        let main = self.main.take_if(|main| main.is_finished())?;
        clock::enter(Some(self.clock));
        let outcome = self.runtime.block_on(main);
        clock::enter(None);
        match outcome {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("{error:#}")),
            Err(error) => Some(error.to_string()),
        }
    }
}
