//! A bad way between two nodes: UDP over loopback that loses, doubles, delays and reorders, and can be cut.
//!
//! Which datagram meets which fate is rolled from a seed. Which datagrams there are is up to the nodes, so
//! a seed repeats the kind of weather, not each drop of it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::{JoinHandle, JoinSet};

use crate::dice::Dice;

/// What happens to datagrams on the way, in either direction.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// Of a hundred, so many are lost.
    pub lost: u64,
    /// Of a hundred, so many arrive twice.
    pub doubled: u64,
    /// Each is delayed by less than this, so that later ones overtake it.
    pub delay: Duration,
}

/// A way to one node. It ends when it is dropped.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    way: Arc<Way>,
    carrying: JoinHandle<()>,
}

/// How many datagrams met which fate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fates {
    /// Arrived, once at least.
    pub carried: u64,
    /// Lost by the weather.
    pub lost: u64,
    /// Arrived twice.
    pub doubled: u64,
    /// Lost because the way was cut.
    pub cut: u64,
}

#[derive(Debug)]
struct Way {
    target: SocketAddr,
    weather: Weather,
    dice: Dice,
    is_cut: AtomicBool,
    carried: AtomicU64,
    lost: AtomicU64,
    doubled: AtomicU64,
    cut: AtomicU64,
}

/// Datagrams on their way through one socket.
struct Flights {
    way: Arc<Way>,
    socket: Arc<UdpSocket>,
    tasks: JoinSet<()>,
}

impl Relay {
    /// Opens a way to a node.
    ///
    /// # Panics
    /// No port is free.
    pub async fn start(target: SocketAddr, weather: Weather, seed: u64) -> Self {
        let front = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = front.local_addr().expect("a bound socket has an address");
        let way = Arc::new(Way {
            target,
            weather,
            dice: Dice::new(seed),
            is_cut: AtomicBool::new(false),
            carried: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            doubled: AtomicU64::new(0),
            cut: AtomicU64::new(0),
        });
        let carrying = tokio::spawn(carry(Arc::clone(&way), Arc::new(front)));
        Self { address, way, carrying }
    }

    /// Where the node is reached by this way.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on nothing arrives.
    pub fn cut(&self) {
        self.way.is_cut.store(true, Ordering::Relaxed);
    }

    /// From now on the weather alone decides.
    pub fn heal(&self) {
        self.way.is_cut.store(false, Ordering::Relaxed);
    }

    /// What happened so far.
    pub fn fates(&self) -> Fates {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Fates {
            carried: read(&self.way.carried),
            lost: read(&self.way.lost),
            doubled: read(&self.way.doubled),
            cut: read(&self.way.cut),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.carrying.abort();
    }
}

/// Carries both ways for everybody who sends to `front`. What it started ends with it.
async fn carry(way: Arc<Way>, front: Arc<UdpSocket>) {
    let mut ways_back = JoinSet::new();
    let mut clients: BTreeMap<SocketAddr, Flights> = BTreeMap::new();
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let Ok((length, client)) = front.recv_from(&mut buffer).await else { continue };
        let flights = match clients.entry(client) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let Ok(back) = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await else { continue };
                let back = Arc::new(back);
                ways_back.spawn(carry_back(Flights::new(&way, &front), Arc::clone(&back), client));
                place.insert(Flights::new(&way, &back))
            }
        };
        flights.launch(&buffer[..length], way.target);
    }
}

async fn carry_back(mut flights: Flights, back: Arc<UdpSocket>, client: SocketAddr) {
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        // Nobody listens at the other end for now.
        let Ok((length, _)) = back.recv_from(&mut buffer).await else { continue };
        flights.launch(&buffer[..length], client);
    }
}

impl Flights {
    fn new(way: &Arc<Way>, socket: &Arc<UdpSocket>) -> Self {
        Self { way: Arc::clone(way), socket: Arc::clone(socket), tasks: JoinSet::new() }
    }

    fn launch(&mut self, datagram: &[u8], to: SocketAddr) {
        while self.tasks.try_join_next().is_some() {}
        let Way { weather, dice, .. } = &*self.way;
        if self.way.is_cut.load(Ordering::Relaxed) {
            self.way.cut.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let fate = dice.roll(100);
        if fate < weather.lost {
            self.way.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let twice = fate < weather.lost + weather.doubled;
        self.way.carried.fetch_add(1, Ordering::Relaxed);
        self.way.doubled.fetch_add(u64::from(twice), Ordering::Relaxed);
        for _ in 0..=u8::from(twice) {
            let (wait, datagram, socket) =
                (dice.wait(weather.delay), datagram.to_vec(), Arc::clone(&self.socket));
            self.tasks.spawn(async move {
                tokio::time::sleep(wait).await;
                // Lost, as any datagram may be.
                let _ = socket.send_to(&datagram, to).await;
            });
        }
    }
}
