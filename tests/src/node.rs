//! One whole node in this process.
//!
//! The same parts as `hansa serve` puts together, with a clock that a test can move.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use hansa::system::{SystemClock, SystemEntropy, compute};
use hansa_actors::issuer::Issuers;
use hansa_actors::view::TokenRequest;
use hansa_actors::{Connectors, Echo, Federation, Node, NodeConfig, NodeEnv, OperatorsConfig};
use hansa_api::Listener;
use hansa_backends::{Drivers, VendorDrivers};
use hansa_model::enrollment::Role;
use hansa_model::machine::bucket::{Category, Rates};
use hansa_model::scope::Scope;
use hansa_model::{SiteId, Timestamp, WallClock};
use hansa_storage::error::OpenError;
use hansa_storage::{DirDisk, Disk, Driver, RootKey, Store, StoreConfig};
use hansa_transport::{PeerClient, PeerClientConfig};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::http::Api;
use crate::stores::loopback_rules;
use crate::waiting::eventually;

/// The system's clock, moved by some seconds.
#[derive(Debug, Default)]
pub struct TestClock(AtomicI64);

impl TestClock {
    /// Moves the clock.
    pub fn advance(&self, span: Duration) {
        self.0.fetch_add(i64::try_from(span.as_micros()).unwrap_or(i64::MAX), Ordering::Relaxed);
    }
}

impl WallClock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(SystemClock.now().as_micros() + self.0.load(Ordering::Relaxed))
    }
}

/// A node that lives in a temporary folder and can be stopped, restarted, and set back.
#[derive(Debug)]
pub struct TestNode {
    /// Its clock.
    pub clock: Arc<TestClock>,
    folder: TempDir,
    role: Role,
    options: Options,
    http: SocketAddr,
    quic: SocketAddr,
    running: Option<Running>,
}

#[derive(Debug, Clone)]
struct Options {
    enforce_signatures: bool,
    reserve_bytes: Option<u64>,
    quic: bool,
    operators: OperatorsConfig,
    secure_cookies: bool,
    connectors: Arc<dyn Connectors>,
    issuers: Issuers,
    drivers: Arc<dyn Drivers>,
    secret_rates: Rates,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            enforce_signatures: false,
            reserve_bytes: None,
            quic: true,
            operators: OperatorsConfig::default(),
            secure_cookies: false,
            connectors: Arc::new(Echo),
            issuers: Issuers::trial(),
            drivers: Arc::new(VendorDrivers::new(loopback_rules())),
            secret_rates: unlimited(),
        }
    }
}

#[derive(Debug)]
struct Running {
    node: Node,
    federation: Federation,
    store: Store,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
}

/// Every scope, `admin` too.
pub fn all_scopes() -> BTreeSet<Scope> {
    Scope::ALL.into_iter().collect()
}

impl TestNode {
    /// Starts a node in a folder of its own.
    pub async fn start(role: Role) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self::start_in(folder, role, None, false).await
    }

    /// Starts a node whose backends are these.
    pub async fn start_backed(role: Role, drivers: Arc<dyn Drivers>) -> Self {
        Self::start_as(role, Options { drivers, ..Options::default() }).await
    }

    /// Starts a node whose secret routes have these limits.
    pub async fn start_limited(role: Role, secret_rates: Rates) -> Self {
        Self::start_as(role, Options { secret_rates, ..Options::default() }).await
    }

    async fn start_as(role: Role, options: Options) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut node =
            Self { clock: Arc::default(), folder, role, options, http: any, quic: any, running: None };
        Box::pin(node.boot()).await;
        node
    }

    /// Starts a node with other connectors than the built-in echo.
    pub async fn start_connected(role: Role, connectors: Arc<dyn Connectors>) -> Self {
        Self::start_as(role, Options { connectors, ..Options::default() }).await
    }

    /// Starts a node that demands signatures of HTTP peers, as one that serves HTTPS does.
    pub async fn start_strict(role: Role) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self::start_in(folder, role, None, true).await
    }

    /// Starts a node that demands signatures and tells nobody where it takes QUIC: an HTTP peer.
    pub async fn start_http_only(role: Role) -> Self {
        Self::start_as(role, Options { enforce_signatures: true, quic: false, ..Options::default() }).await
    }

    /// Starts a node that knows other issuers of operator tokens, as one behind HTTPS.
    pub async fn start_with(role: Role, operators: OperatorsConfig) -> Self {
        Self::start_as(role, Options { operators, secure_cookies: true, ..Options::default() }).await
    }

    /// Starts a node that leases credentials of these issuers.
    pub async fn start_with_issuers(role: Role, issuers: Issuers) -> Self {
        Self::start_as(role, Options { issuers, ..Options::default() }).await
    }

    /// Starts a node in this folder, which calls the disk full when less than `reserve_bytes` are free.
    pub async fn start_in(
        folder: TempDir,
        role: Role,
        reserve_bytes: Option<u64>,
        enforce_signatures: bool,
    ) -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let options = Options { enforce_signatures, reserve_bytes, ..Options::default() };
        let mut node =
            Self { clock: Arc::default(), folder, role, options, http: any, quic: any, running: None };
        Box::pin(node.boot()).await;
        node
    }

    /// Starts it again on the addresses that it had.
    ///
    /// # Panics
    /// It runs already, or does not start.
    pub async fn boot(&mut self) {
        assert!(self.running.is_none(), "the node runs already");
        let (http, quic) = (self.http, self.quic);
        // A port that was ours a moment ago may be taken by a test beside this one for a moment.
        let listener = eventually("the HTTP port", async || TcpListener::bind(http).await.ok()).await;
        let socket = eventually("the QUIC port", async || UdpSocket::bind(quic).ok()).await;
        self.http = listener.local_addr().expect("a bound socket has an address");
        self.quic = socket.local_addr().expect("a bound socket has an address");
        let store = Box::pin(self.open_store()).await;
        let env = NodeEnv {
            store: store.clone(),
            socket: Some(socket.into()),
            wall: Arc::clone(&self.clock) as Arc<dyn WallClock>,
            entropy: Arc::new(SystemEntropy),
            http: Arc::new(PeerClient::new(&PeerClientConfig::default()).expect("an HTTP client for peers")),
            connectors: Arc::clone(&self.options.connectors),
            issuers: self.options.issuers.clone(),
            drivers: Arc::clone(&self.options.drivers),
            root_key: Arc::new(hansa_actors::NoHolder),
            compute: compute(),
            endpoint_seed: None,
            host_name: "node.example.com".to_owned(),
            tls_certificate: None,
        };
        let config = NodeConfig {
            quic_advertise: self.options.quic.then(|| self.quic.to_string()),
            public_url: Some(self.url()),
            enforce_signatures: self.options.enforce_signatures,
            operators: self.options.operators.clone(),
            secure_cookies: self.options.secure_cookies,
            secret_rates: self.options.secret_rates.clone(),
            ..NodeConfig::default()
        };
        let node = Box::pin(Node::start(env, config)).await.expect("the node starts");
        let federation = node.federation();
        if federation.role() != self.role {
            federation.set_role(self.role, &Federation::local_operator()).await.expect("the role is taken");
        }
        let stop = watch::Sender::new(false);
        let mut stopped = stop.subscribe();
        let serving = federation.clone();
        let server = tokio::spawn(async move {
            let stopped = async move { drop(stopped.wait_for(|stop| *stop).await) };
            hansa_api::serve(serving, Listener::Plain(listener), stopped).await;
        });
        self.running = Some(Running { node, federation, store, stop, server });
    }

    async fn open_store(&self) -> Store {
        // The folder first: it must be ours before a key lies in it.
        let disk = Arc::new(DirDisk::new(self.path()).expect("the data folder can be used"));
        let key = RootKey::load_or_create(&self.path().join("root.key"), &SystemEntropy).expect("a root key");
        let mut config = StoreConfig::default();
        if let Some(bytes) = self.options.reserve_bytes {
            config.reserve_bytes = bytes;
        }
        // After a restart a reader of the one before may still hold the file for a moment, as no process would.
        eventually("the store is free", async || {
            let disk = Arc::clone(&disk) as Arc<dyn Disk>;
            match Store::open(config.clone(), disk, Driver::Thread, &key, Arc::new(SystemEntropy)) {
                Err(OpenError::InUse) => None,
                opened => Some(opened.expect("the store opens")),
            }
        })
        .await
    }

    /// Stops it in order: listener, actors, store.
    ///
    /// # Panics
    /// It does not run.
    pub async fn stop(&mut self) {
        let running = self.running.take().expect("the node runs");
        let _ = running.stop.send(true);
        // Connections that a client keeps open end with the drain; nobody waits for them here.
        running.server.abort();
        let _ = running.server.await;
        running.node.stop().await;
        drop(running.federation);
        running.store.close().await;
    }

    /// Stops and starts it.
    pub async fn restart(&mut self) {
        self.stop().await;
        Box::pin(self.boot()).await;
    }

    /// Copies the data folder of the stopped node.
    ///
    /// # Panics
    /// It runs, or the folder cannot be copied.
    pub fn copy(&self) -> TempDir {
        assert!(self.running.is_none(), "stop the node first");
        let copy = tempfile::tempdir().expect("a temporary folder");
        copy_files(self.path(), copy.path());
        copy
    }

    /// Sets the stopped node back to a copy.
    ///
    /// # Panics
    /// It runs, or the folder cannot be replaced.
    pub fn restore(&mut self, copy: &TempDir) {
        assert!(self.running.is_none(), "stop the node first");
        let folder = tempfile::tempdir().expect("a temporary folder");
        copy_files(copy.path(), folder.path());
        self.folder = folder;
    }

    /// From its next start on the node calls the disk full when less than this is free.
    pub const fn set_reserve(&mut self, bytes: Option<u64>) {
        self.options.reserve_bytes = bytes;
    }

    /// From its next start on the node's backends are these.
    pub fn set_drivers(&mut self, drivers: Arc<dyn Drivers>) {
        self.options.drivers = drivers;
    }

    /// The data folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Base URL of the HTTP listener.
    pub fn url(&self) -> String {
        format!("http://{}", self.http)
    }

    /// Where HTTP is served.
    pub const fn http_address(&self) -> SocketAddr {
        self.http
    }

    /// Where QUIC is taken.
    pub const fn quic_address(&self) -> SocketAddr {
        self.quic
    }

    /// The facade, for what has no route.
    ///
    /// # Panics
    /// The node does not run.
    pub fn federation(&self) -> &Federation {
        &self.running().federation
    }

    /// The store, for what has no route.
    ///
    /// # Panics
    /// The node does not run.
    pub fn store(&self) -> &Store {
        &self.running().store
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("the node runs")
    }

    /// HTTP as an operator with every scope.
    pub fn api(&self) -> Api {
        self.api_as(all_scopes(), None)
    }

    /// HTTP as an operator with these scopes, confined to these sites.
    pub fn api_as(&self, scopes: BTreeSet<Scope>, sites: Option<BTreeSet<SiteId>>) -> Api {
        self.anonymous().bearer(self.token(scopes, sites, Duration::from_secs(3_600)))
    }

    /// HTTP without a credential.
    pub fn anonymous(&self) -> Api {
        Api::new(self.url())
    }

    /// An operator's token.
    ///
    /// # Panics
    /// It cannot be signed.
    pub fn token(&self, scopes: BTreeSet<Scope>, sites: Option<BTreeSet<SiteId>>, ttl: Duration) -> String {
        let request =
            TokenRequest { userid: "tester@example.com".to_owned(), scopes, sites, tenant: None, ttl };
        self.federation().mint(&request).expect("a token").expose().clone()
    }
}

fn copy_files(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry of the folder");
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            std::fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy of a file");
        }
    }
}

/// Tests of other things make more calls a minute than a caller may.
fn unlimited() -> Rates {
    Category::ALL.into_iter().fold(Rates::default(), |rates, category| rates.with(category, 0))
}
