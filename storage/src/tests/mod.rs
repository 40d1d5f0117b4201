//! What the store promises, tested on disks that fill up, fail and lose power.

mod backup;
mod commit;
mod crash;
mod full;
mod golden;
mod golden_secrets;
mod modes;
mod rotation;
mod sealing;

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hansa_model::audit::AuditDraft;
use hansa_model::{AuditId, Site, SiteId, SiteName, SiteStatus, Timestamp};
use uuid::Uuid;

use crate::testing::{MemoryDisk, SeededEntropy};
use crate::{Batch, Driver, OpenError, Order, ReadView, RootKey, Store, StoreConfig};

/// A store in memory, run by the writer's task, with a latency of a millisecond.
struct TestStore {
    store: Store,
    disk: MemoryDisk,
    fatal: Arc<AtomicU32>,
}

impl TestStore {
    fn new() -> Self {
        Self::on(MemoryDisk::new())
    }

    fn on(disk: MemoryDisk) -> Self {
        Self::with(disk, StoreConfig::default())
    }

    fn with(disk: MemoryDisk, config: StoreConfig) -> Self {
        let fatal = Arc::new(AtomicU32::new(0));
        let store = open(&disk, config, &fatal).unwrap();
        Self { store, disk, fatal }
    }

    fn fatal_calls(&self) -> u32 {
        self.fatal.load(Ordering::SeqCst)
    }
}

fn open(disk: &MemoryDisk, config: StoreConfig, fatal: &Arc<AtomicU32>) -> Result<Store, OpenError> {
    let fatal = Arc::clone(fatal);
    let on_fatal = Arc::new(move |_: &str| {
        fatal.fetch_add(1, Ordering::SeqCst);
    });
    let config = StoreConfig { cache_bytes: 1024 * 1024, on_fatal, ..config };
    let driver = Driver::Inline { latency: Arc::new(|| Duration::from_millis(1)) };
    Store::open(config, Arc::new(disk.clone()), driver, &root_key(), Arc::new(SeededEntropy::new(7)))
}

fn root_key() -> RootKey {
    RootKey::new([3; 32])
}

fn site_id(n: u128) -> SiteId {
    SiteId(Uuid::from_u128(n))
}

fn site(n: u128, name: &str) -> Site {
    Site {
        id: site_id(n),
        name: SiteName::new(name).unwrap(),
        location_label: None,
        url: "https://site.example.com".to_owned(),
        status: SiteStatus::Pending,
        sync_interval_seconds: 300,
        agent_version_min: None,
        geo_latitude: Some(53.87),
        geo_longitude: None,
        geo_country_code: Some("DE".to_owned()),
        created_at: Timestamp::from_secs(1),
        updated_at: Timestamp::from_secs(2),
        enrolled_at: None,
        enrollment: None,
        identity_key: None,
        tls_cert_pem: None,
        sync_bearer_hash: None,
        completed: None,
    }
}

fn draft(operation: &str) -> AuditDraft {
    AuditDraft {
        id: AuditId(Uuid::from_u128(5)),
        created_at: Timestamp::from_secs(9),
        operation: operation.to_owned(),
        actor_userid: Some("operator".to_owned()),
        target_site_id: Some(site_id(1)),
        target_site_name: None,
        target_host_id: None,
        details: BTreeMap::from([("text".to_owned(), "line\nbreak\u{7}".into())]),
    }
}

/// Every entry of every table, as bytes.
fn contents(view: &ReadView) -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let mut all = Vec::new();
    for table in crate::schema::TABLES {
        view.walk(table.name, &(Bound::Unbounded, Bound::Unbounded), Order::Ascending, |key, record| {
            all.push((table.name, key.to_vec(), record.to_vec()));
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
    }
    all
}

fn batch(build: impl FnOnce(&mut Batch)) -> Batch {
    let mut batch = Batch::new();
    build(&mut batch);
    batch
}
