//! The network between the hosts of a world: datagrams with a price.
//!
//! A datagram is stamped with its sender's virtual time and waits in the receiver's inbox until it is due.
//! Latency is never below the world's window, so nothing sent in a window is due within it, and the order
//! in which hosts run inside a window cannot be seen. quinn meets the network as [`SimSocket`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use quinn::udp::{EcnCodepoint, RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::time::Sleep;

use crate::clock::{HostClock, SimTime};
use crate::dice::Dice;
use crate::trace::{Fate, Trace};

/// A host of the world, by its place in the order in which hosts run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(pub u16);

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "host-{}", self.0)
    }
}

impl HostId {
    /// The host's only address; its ports are its own choice.
    pub fn ip(self) -> IpAddr {
        let [high, low] = (self.0 + 1).to_be_bytes();
        IpAddr::from([10, 0, high, low])
    }
}

/// What one direction between two hosts does to datagrams.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Link {
    /// Least time on the way; raised to the world's window where it is below.
    pub latency: Duration,
    /// Up to this much on top, drawn for each datagram, so that datagrams overtake each other.
    pub jitter: Duration,
    /// Share of datagrams that vanish.
    pub loss: f64,
    /// Share of datagrams that arrive twice.
    pub duplication: f64,
    /// Largest payload that passes; larger ones vanish, as with a set don't-fragment bit.
    pub payload_max: usize,
    /// Rate of the line; `None` has no queue.
    pub bytes_per_second: Option<u64>,
    /// How long a datagram may wait for the line before it is dropped instead.
    pub queue: Duration,
}

impl Link {
    /// A good line over some hundred kilometres.
    pub const CLEAN: Self = Self {
        latency: Duration::from_millis(10),
        jitter: Duration::from_millis(3),
        loss: 0.0,
        duplication: 0.0,
        // Ethernet's 1,500 bytes without the headers of IPv4 and UDP.
        payload_max: 1_472,
        bytes_per_second: None,
        queue: Duration::from_millis(200),
    };
}

/// All inboxes and links of a world; cheap to clone.
#[derive(Debug, Clone)]
pub struct SimNet(Arc<Mutex<Net>>);

#[derive(Debug)]
struct Net {
    dice: Dice,
    window: Duration,
    default: Link,
    links: BTreeMap<(HostId, HostId), Link>,
    cuts: BTreeSet<(HostId, HostId)>,
    busy_until: BTreeMap<(HostId, HostId), SimTime>,
    inboxes: BTreeMap<SocketAddr, Arc<Mutex<Inbox>>>,
    hosts: BTreeMap<IpAddr, HostId>,
    sequence: u64,
    trace: Trace,
}

#[derive(Debug, Default)]
struct Inbox {
    waiting: BinaryHeap<Reverse<Datagram>>,
    waker: Option<Waker>,
    closed: bool,
}

/// Ordered by arrival; the sequence breaks ties in the order of sending.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Datagram {
    due: SimTime,
    sequence: u64,
    source: SocketAddr,
    ecn: Option<u8>,
    bytes: Vec<u8>,
}

impl SimNet {
    /// A network on which all links are `default`. `window` is the least latency of any link.
    pub fn new(seed: u64, window: Duration, default: Link, trace: Trace) -> Self {
        Self(Arc::new(Mutex::new(Net {
            dice: Dice::new(seed, "network", 0),
            window,
            default,
            links: BTreeMap::new(),
            cuts: BTreeSet::new(),
            busy_until: BTreeMap::new(),
            inboxes: BTreeMap::new(),
            hosts: BTreeMap::new(),
            sequence: 0,
            trace,
        })))
    }

    /// Binds a port of a host; an earlier socket on that address is cut off.
    ///
    /// Call it inside the host's runtime: the socket waits by the runtime's timer.
    pub fn bind(&self, host: HostId, port: u16, clock: HostClock) -> Arc<SimSocket> {
        let address = SocketAddr::new(host.ip(), port);
        let inbox = Arc::new(Mutex::new(Inbox::default()));
        let mut net = self.lock();
        net.hosts.insert(host.ip(), host);
        if let Some(earlier) = net.inboxes.insert(address, Arc::clone(&inbox)) {
            close(&earlier);
        }
        drop(net);
        let alarm = Mutex::new(Box::pin(tokio::time::sleep(Duration::ZERO)));
        Arc::new(SimSocket { net: self.clone(), host, address, clock, inbox, alarm })
    }

    /// Frees one address: what is on the way to it is lost, and its socket sends no more.
    pub fn unbind(&self, address: SocketAddr) {
        if let Some(inbox) = self.lock().inboxes.remove(&address) {
            close(&inbox);
        }
    }

    /// Frees all addresses of a host. A dead host says no farewell.
    pub fn unbind_host(&self, host: HostId) {
        self.lock().inboxes.retain(|address, inbox| {
            let stays = address.ip() != host.ip();
            if !stays {
                close(inbox);
            }
            stays
        });
    }

    /// Stops everything from `source` to `target`.
    pub fn cut(&self, source: HostId, target: HostId) {
        self.lock().cuts.insert((source, target));
    }

    /// Lets `source` reach `target` again.
    pub fn mend(&self, source: HostId, target: HostId) {
        self.lock().cuts.remove(&(source, target));
    }

    /// Replaces one direction between two hosts; `None` goes back to the default link.
    pub fn set_link(&self, source: HostId, target: HostId, link: Option<Link>) {
        let mut net = self.lock();
        match link {
            Some(link) => net.links.insert((source, target), link),
            None => net.links.remove(&(source, target)),
        };
    }

    /// Ends every partition and every special link.
    pub fn heal(&self) {
        let mut net = self.lock();
        net.cuts.clear();
        net.links.clear();
        net.busy_until.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Net> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn close(inbox: &Mutex<Inbox>) {
    let mut inbox = lock_inbox(inbox);
    inbox.closed = true;
    inbox.waiting.clear();
}

fn lock_inbox(inbox: &Mutex<Inbox>) -> MutexGuard<'_, Inbox> {
    inbox.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Net {
    fn send(&mut self, now: SimTime, host: HostId, source: SocketAddr, transmit: &Transmit<'_>) {
        let fate = self.decide(now, host, transmit.destination, transmit.contents.len());
        self.trace.datagram(now, source, transmit.destination, transmit.contents, fate);
        match fate {
            Fate::Delivered(due) => self.deliver(due, source, transmit),
            Fate::Duplicated(due, again) => {
                self.deliver(due, source, transmit);
                self.deliver(again, source, transmit);
            }
            Fate::Lost | Fate::TooLarge | Fate::Partitioned | Fate::Overflowed | Fate::Unreachable => {}
        }
    }

    fn decide(&mut self, now: SimTime, host: HostId, target: SocketAddr, length: usize) -> Fate {
        let Some(&peer) = self.hosts.get(&target.ip()) else { return Fate::Unreachable };
        let link = *self.links.get(&(host, peer)).unwrap_or(&self.default);
        // All draws of a datagram are made whatever becomes of it.
        let lost = self.dice.chance(link.loss);
        let twice = self.dice.chance(link.duplication);
        let [first, second] = [(); 2].map(|()| self.dice.span(Duration::ZERO, link.jitter));
        if self.cuts.contains(&(host, peer)) {
            return Fate::Partitioned;
        }
        if length > link.payload_max {
            return Fate::TooLarge;
        }
        let Some(sent) = self.queue((host, peer), now, length, link) else { return Fate::Overflowed };
        if lost {
            return Fate::Lost;
        }
        if !self.inboxes.contains_key(&target) {
            return Fate::Unreachable;
        }
        let arrival = sent.after(link.latency.max(self.window));
        if twice {
            Fate::Duplicated(arrival.after(first), arrival.after(second))
        } else {
            Fate::Delivered(arrival.after(first))
        }
    }

    /// When the line has taken the datagram; `None` when its queue is full.
    fn queue(&mut self, line: (HostId, HostId), now: SimTime, length: usize, link: Link) -> Option<SimTime> {
        let Some(rate) = link.bytes_per_second else { return Some(now) };
        let free = self.busy_until.get(&line).map_or(now, |&until| until.max(now));
        if free.since(now) > link.queue {
            return None;
        }
        let nanos = length as u64 * 1_000_000_000 / rate.max(1);
        let sent = free.after(Duration::from_nanos(nanos));
        self.busy_until.insert(line, sent);
        Some(sent)
    }

    fn deliver(&mut self, due: SimTime, source: SocketAddr, transmit: &Transmit<'_>) {
        let Some(inbox) = self.inboxes.get(&transmit.destination) else { return };
        self.sequence += 1;
        let mut inbox = lock_inbox(inbox);
        inbox.waiting.push(Reverse(Datagram {
            due,
            sequence: self.sequence,
            source,
            ecn: transmit.ecn.map(|ecn| ecn as u8),
            bytes: transmit.contents.to_vec(),
        }));
        if let Some(waker) = inbox.waker.take() {
            waker.wake();
        }
    }
}

/// One bound address of a host, as quinn wants its sockets.
pub struct SimSocket {
    net: SimNet,
    host: HostId,
    address: SocketAddr,
    clock: HostClock,
    inbox: Arc<Mutex<Inbox>>,
    alarm: Mutex<Pin<Box<Sleep>>>,
}

impl fmt::Debug for SimSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimSocket({})", self.address)
    }
}

impl SimSocket {
    /// Copies what is due into quinn's buffers; answers how many datagrams.
    fn receive(
        &self,
        inbox: &mut Inbox,
        now: SimTime,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> usize {
        let mut count = 0;
        for (buffer, meta) in buffers.iter_mut().zip(meta) {
            if inbox.waiting.peek().is_none_or(|Reverse(next)| next.due > now) {
                break;
            }
            let Some(Reverse(datagram)) = inbox.waiting.pop() else { break };
            let length = datagram.bytes.len().min(buffer.len());
            buffer[..length].copy_from_slice(&datagram.bytes[..length]);
            *meta = RecvMeta {
                addr: datagram.source,
                len: length,
                stride: length,
                ecn: datagram.ecn.and_then(EcnCodepoint::from_bits),
                dst_ip: Some(self.address.ip()),
            };
            count += 1;
        }
        count
    }
}

impl AsyncUdpSocket for SimSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if !lock_inbox(&self.inbox).closed {
            self.net.lock().send(self.clock.now(), self.host, self.address, transmit);
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            let due = {
                let mut inbox = lock_inbox(&self.inbox);
                let count = self.receive(&mut inbox, self.clock.now(), buffers, meta);
                if count > 0 {
                    return Poll::Ready(Ok(count));
                }
                inbox.waker = Some(context.waker().clone());
                let Some(Reverse(next)) = inbox.waiting.peek() else { return Poll::Pending };
                next.due
            };
            let mut alarm = self.alarm.lock().unwrap_or_else(PoisonError::into_inner);
            let deadline = self.clock.instant(due);
            if alarm.deadline() != deadline {
                alarm.as_mut().reset(deadline);
            }
            if alarm.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

/// The network takes every datagram at once; what it cannot carry it loses.
#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::clock::ClockSkew;

    const WINDOW: Duration = Duration::from_millis(5);
    const PORT: u16 = 4433;

    struct Pair {
        net: SimNet,
        clock: HostClock,
        sender: Arc<SimSocket>,
        receiver: Arc<SimSocket>,
    }

    fn pair(link: Link) -> Pair {
        let net = SimNet::new(1, WINDOW, link, Trace::new());
        let clock = HostClock::boot(SimTime::START, ClockSkew::NONE);
        let [sender, receiver] = [HostId(0), HostId(1)].map(|host| net.bind(host, PORT, clock));
        Pair { net, clock, sender, receiver }
    }

    impl Pair {
        fn send(&self, contents: &[u8]) {
            let destination = self.receiver.address;
            let transmit = Transmit { destination, ecn: None, contents, segment_size: None, src_ip: None };
            self.sender.try_send(&transmit).unwrap();
        }

        /// What arrives within a second, with its time in milliseconds.
        async fn arrivals(&self) -> Vec<(u128, Vec<u8>)> {
            let mut arrivals = Vec::new();
            let until = tokio::time::Instant::now() + Duration::from_secs(1);
            loop {
                let mut bytes = [0; 2_000];
                let mut meta = [RecvMeta::default()];
                let next =
                    poll_fn(|cx| self.receiver.poll_recv(cx, &mut [IoSliceMut::new(&mut bytes)], &mut meta));
                let Ok(count) = tokio::time::timeout_at(until, next).await else { return arrivals };
                assert_eq!(count.unwrap(), 1);
                let millis = self.clock.now().since(SimTime::START).as_millis();
                arrivals.push((millis, bytes[..meta[0].len].to_vec()));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_datagram_arrives_after_its_latency() {
        let pair = pair(Link { jitter: Duration::ZERO, ..Link::CLEAN });

        pair.send(b"ahoy");

        assert_eq!(pair.arrivals().await, [(10, b"ahoy".to_vec())]);
    }

    #[tokio::test(start_paused = true)]
    async fn latency_is_never_below_the_window() {
        let pair = pair(Link { latency: Duration::ZERO, jitter: Duration::ZERO, ..Link::CLEAN });

        pair.send(b"ahoy");

        assert_eq!(pair.arrivals().await, [(5, b"ahoy".to_vec())]);
    }

    #[tokio::test(start_paused = true)]
    async fn lost_cut_and_oversized_datagrams_never_arrive() {
        let lossy = pair(Link { loss: 1.0, ..Link::CLEAN });
        lossy.send(b"lost");
        assert!(lossy.arrivals().await.is_empty());

        let cut = pair(Link::CLEAN);
        cut.net.cut(HostId(0), HostId(1));
        cut.send(b"cut");
        cut.send(&[0; 1_473]);
        cut.net.heal();
        cut.send(&[0; 1_473]);
        assert!(cut.arrivals().await.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_duplicating_link_delivers_twice() {
        let pair = pair(Link { duplication: 1.0, ..Link::CLEAN });

        pair.send(b"ahoy");

        assert_eq!(pair.arrivals().await.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_line_spaces_datagrams_and_drops_what_its_queue_cannot_hold() {
        let queue = Duration::from_millis(150);
        let pair = pair(Link { jitter: Duration::ZERO, bytes_per_second: Some(1_000), queue, ..Link::CLEAN });

        (0..4).for_each(|_| pair.send(&[0; 100]));

        let times: Vec<_> = pair.arrivals().await.into_iter().map(|(millis, _)| millis).collect();
        assert_eq!(times, [110, 210]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_unbound_host_neither_receives_nor_says_farewell() {
        let pair = pair(Link::CLEAN);
        pair.send(b"on the way");

        pair.net.unbind_host(HostId(1));
        pair.net.unbind_host(HostId(0));
        pair.send(b"farewell");

        assert!(pair.arrivals().await.is_empty());
    }
}
