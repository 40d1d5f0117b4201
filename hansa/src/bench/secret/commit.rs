//! One durable commit of one audit entry, as each read costs one: the node's own storage code on a file of
//! its own beside the node's, with nobody else in the queue.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hansa_model::audit::{AuditDraft, Detail};
use hansa_model::{AuditId, WallClock as _};
use hansa_storage::{Batch, DirDisk, Driver, Lane, RootKey, Store, StoreConfig};
use tokio::time::Instant;

use crate::bench::failed;
use crate::cli::failure::Failure;
use crate::system::{SystemClock, SystemEntropy};

/// A store in the bench's own process.
pub(super) struct Bare {
    store: Store,
}

impl Bare {
    /// Makes one in a new folder.
    pub(super) fn open(folder: &Path) -> Result<Self, Failure> {
        std::fs::create_dir_all(folder).map_err(|error| failed(&error))?;
        let disk = DirDisk::new(folder).map_err(|error| failed(&error))?;
        let key = RootKey::load_or_create(&folder.join("root.key"), &SystemEntropy);
        let key = key.map_err(|error| failed(&error))?;
        let config = StoreConfig::default();
        let store = Store::open(config, Arc::new(disk), Driver::Thread, &key, Arc::new(SystemEntropy));
        Ok(Self { store: store.map_err(|error| failed(&error))? })
    }

    /// Commits one entry as a proxied read writes it; how long until it was on disk.
    pub(super) async fn commit(&self) -> Result<Duration, Failure> {
        let mut batch = Batch::new();
        batch.audit(entry());
        let begun = Instant::now();
        self.store.commit(Lane::Operator, batch).await.map_err(|error| failed(&error))?;
        Ok(begun.elapsed())
    }
}

/// What a read writes down.
fn entry() -> AuditDraft {
    let now = SystemClock.now();
    let text = |text: &str| Detail::from(text);
    let details = [
        ("tenant", text("default")),
        ("secret_path", text("proxied/s00000")),
        ("request_id", text("0193a5f2-7c1e-7000-8000-000000000000")),
        ("duration_ms", Detail::Int(1)),
        ("success", Detail::Bool(true)),
        ("mode", text("proxy")),
        ("backend_id", text("fed_0193a5f27c1e70008000000000000000")),
        ("backend_path", text("secret/data/reads/s00000")),
        ("backend_status", Detail::Int(200)),
        ("backend_latency_ms", Detail::Int(0)),
        ("version", Detail::Int(1)),
    ];
    AuditDraft {
        id: AuditId::generate(now, &SystemEntropy),
        created_at: now,
        operation: "secret_read".to_owned(),
        actor_userid: Some("bench".to_owned()),
        target_site_id: None,
        target_site_name: None,
        target_host_id: None,
        details: details.map(|(name, value)| (name.to_owned(), value)).into(),
    }
}
