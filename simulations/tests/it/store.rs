//! The node's own store on our disk: what it acknowledged is there at every later boot.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use hansa_simulations::clock::SimTime;
use hansa_simulations::faults::{self, FaultMix};
use hansa_simulations::hooks::{self, Hooks};
use hansa_simulations::network::HostId;
use hansa_simulations::trace::Trace;
use hansa_simulations::watch::{self, Violations};
use hansa_simulations::world::{HostEnv, World, WorldConfig};
use hansa_storage::table::Settings;
use hansa_storage::{Batch, Driver, Lane, RootKey, Store, StoreConfig};
use tokio::time::sleep;

/// What the store acknowledged, over all boots, and how often it was opened.
#[derive(Clone, Default)]
struct Ledger {
    acknowledged: Arc<Mutex<BTreeSet<String>>>,
    boots: Arc<Mutex<u32>>,
}

fn open(env: &HostEnv) -> anyhow::Result<Store> {
    let abort = env.abort.clone();
    let config = StoreConfig {
        cache_bytes: 1 << 20,
        on_fatal: Arc::new(move |what| abort.now(what)),
        ..StoreConfig::default()
    };
    let driver = Driver::Inline { latency: Arc::new(|| Duration::from_millis(2)) };
    let root_key = RootKey::new([7; 32]);
    Ok(Store::open(config, Arc::new(env.folder.clone()), driver, &root_key, Arc::clone(&env.entropy))?)
}

/// Checks what is there, then commits without end.
async fn keep(env: HostEnv, ledger: Ledger) -> anyhow::Result<()> {
    let store = open(&env)?;
    *ledger.boots.lock().unwrap() += 1;
    let stored: BTreeSet<String> =
        store.read()?.all::<Settings>(..)?.into_iter().map(|(key, _)| key).collect();
    if let Some(lost) = ledger.acknowledged.lock().unwrap().difference(&stored).next() {
        env.observer.violation(&format!("{lost} was acknowledged and is lost"));
    }
    for number in 0.. {
        let key = format!("{}-{number}", env.boot);
        let mut batch = Batch::new();
        batch.put::<Settings>(&key, &"x".repeat(200));
        store.commit(Lane::Operator, batch).await?;
        ledger.acknowledged.lock().unwrap().insert(key);
        sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

fn live_through(seed: u64) -> (u32, usize, Vec<String>) {
    let _hooks = hooks::activate(seed, Hooks::default());
    let violations = Violations::default();
    let _watched = watch::watch(&violations, false);
    let mut world = World::new(WorldConfig::wide_area(seed), Trace::new(), violations.clone());
    let ledger = Ledger::default();
    let kept = ledger.clone();
    let host = world.add_host("keeper", move |env| keep(env, kept.clone()));
    let [from, until, end] = [0, 250, 300].map(|secs| SimTime::at(Duration::from_secs(secs)));
    let mix = FaultMix { partitions: 0, bad_links: 0, ..FaultMix::BAD_DAY };
    world.plan(faults::draw(seed, &mix, &[host], &[(host, HostId(1))], (from, until)));
    world.run_until(end);
    let acknowledged = ledger.acknowledged.lock().unwrap().len();
    let boots = *ledger.boots.lock().unwrap();
    (boots, acknowledged, violations.reasons())
}

#[test]
fn what_the_store_acknowledged_is_there_at_every_later_boot() {
    for seed in 0..10 {
        let thread = thread::Builder::new().spawn(move || live_through(seed)).unwrap();

        let (boots, acknowledged, violations) = thread.join().unwrap();

        assert!(violations.is_empty(), "seed {seed}: {violations:?}");
        assert!(boots > 3 && acknowledged > 200, "seed {seed}: {boots} boots, {acknowledged} acknowledged");
    }
}
