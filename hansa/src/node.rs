//! One whole node in this process: store, actors, HTTP listeners, the local socket.
//!
//! Start goes from the outside in, so that a port in use or a folder in use ends before anything is
//! written; stop goes backwards and returns when the store is closed.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hansa_actors::issuer::Issuers;
use hansa_actors::{Federation, Node, NodeConfig, NodeEnv, OperatorsConfig, SharedSecret};
use hansa_api::{Listener, Surface};
use hansa_backends::{Ambient, Machine, VendorDrivers};
use hansa_model::Secret;
use hansa_model::enrollment::Role;
use hansa_model::limits::issuer::SHARED_SECRET_BYTES_MIN;
use hansa_model::limits::webhook as limits;
use hansa_model::webhook::Webhook;
use hansa_storage::table::Settings;
use hansa_storage::{DirDisk, Driver, OpenError, RootKey, Store, StoreConfig};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::cli::failure::{Exit, Failure, chain};
use crate::client::socket_path;
use crate::config::{Config, QUIC_LISTEN_DEFAULT};
use crate::connector::Declared;
use crate::root_key::{Keeper, Opened, Waiting};
use crate::system::{SystemClock, SystemEntropy, compute, is_loopback};
use crate::{issuer, mint, root_key, tls};

/// Name of the root key in a data folder, until it is moved.
pub const ROOT_KEY_FILE: &str = "root.key";

/// Folder of the copies that the node makes of its store, in the data folder.
const BACKUP_FOLDER: &str = "backups";

/// The setting under which the actors keep the role; read here before any of them runs.
const ROLE_SETTING: &str = "role";

/// A node that serves.
#[derive(Debug)]
pub struct RunningNode {
    node: Node,
    federation: Federation,
    store: Store,
    http_address: SocketAddr,
    quic_address: SocketAddr,
    url: String,
    quic: Option<String>,
    sockets: [PathBuf; 2],
    stop: watch::Sender<bool>,
    servers: JoinSet<()>,
}

impl RunningNode {
    /// Starts a node. Returns when it answers on all its listeners.
    ///
    /// # Errors
    /// A port or the data folder is in use, a file is missing, or the store does not open.
    pub async fn start(config: &Config) -> Result<Self, Failure> {
        let acceptor = config.tls.as_ref().map(|(cert, key)| tls::acceptor(cert, key)).transpose()?;
        let http = TcpListener::bind(config.listen)
            .await
            .map_err(|error| bind_failure("HTTP", config.listen, &error, "--listen"))?;
        let (store, keeper) = open_store(config).await?;
        let quic = bind_quic(config, &store)?;
        let io = |error: std::io::Error| Failure::new(Exit::Failed, error.to_string());
        let (http_address, quic_address) = (http.local_addr().map_err(io)?, quic.local_addr().map_err(io)?);
        let addresses = Addresses::of(config, http_address, quic_address);
        let socket = socket_path(&config.data_dir);
        let mint_socket = mint::socket_path(&config.data_dir);
        let (local, minting) = (bind_local(&socket)?, bind_local(&mint_socket)?);
        let (node, federation) = start_actors(config, &addresses, store.clone(), keeper, quic).await?;
        let listener = match acceptor {
            Some(acceptor) => Listener::Wrapped(http, acceptor),
            None => Listener::Plain(http),
        };
        let mut running = Self {
            node,
            federation,
            store,
            http_address,
            quic_address,
            url: addresses.url,
            quic: addresses.quic,
            sockets: [socket, mint_socket],
            stop: watch::Sender::new(false),
            servers: JoinSet::new(),
        };
        running.take_role(config).await?;
        let backups = backup_folder(&config.data_dir)?;
        let surface = Surface::with_backups(running.federation.clone(), &backups);
        running.serve(&surface, [listener, Listener::Local(local)], minting);
        Ok(running)
    }

    fn serve(&mut self, surface: &Surface, listeners: [Listener; 2], minting: UnixListener) {
        for listener in listeners {
            let (surface, stopped) = (surface.clone(), self.stopped());
            self.servers.spawn(async move { surface.serve(listener, stopped).await });
        }
        let (federation, stopped) = (self.federation.clone(), self.stopped());
        self.servers.spawn(async move {
            tokio::select! {
                biased;
                () = stopped => {}
                () = mint::serve(federation, minting) => {}
            }
        });
    }

    /// Completes when the node is asked to stop, or is gone.
    fn stopped(&self) -> impl Future<Output = ()> + use<> {
        let mut stop = self.stop.subscribe();
        async move { drop(stop.wait_for(|stop| *stop).await) }
    }

    async fn take_role(&self, config: &Config) -> Result<(), Failure> {
        let Some(role) = config.role.filter(|role| *role != self.federation.role()) else { return Ok(()) };
        self.federation
            .set_role(role, &Federation::local_operator())
            .await
            .map(drop)
            .map_err(|error| Failure::new(Exit::Failed, format!("the role cannot be set: {}", chain(&error))))
    }

    /// What the node can be asked.
    pub fn federation(&self) -> &Federation {
        &self.federation
    }

    /// Where HTTP is served.
    pub fn http_address(&self) -> SocketAddr {
        self.http_address
    }

    /// Where QUIC is taken.
    pub fn quic_address(&self) -> SocketAddr {
        self.quic_address
    }

    /// Base URL of the node.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where peers are told to find QUIC, `host:port`.
    pub fn quic(&self) -> Option<&str> {
        self.quic.as_deref()
    }

    /// Stops: no new requests, open ones get `drain` to end, then actors, then the store.
    pub async fn stop(mut self, drain: Duration) {
        let _ = self.stop.send(true);
        let ended =
            tokio::time::timeout(drain, async { while self.servers.join_next().await.is_some() {} }).await;
        if ended.is_err() {
            tracing::warn!("open requests were cut: the drain time is over");
            self.servers.shutdown().await;
        }
        // The files go first: who finds one finds somebody listening, or opens the store.
        for socket in &self.sockets {
            let _ = std::fs::remove_file(socket);
        }
        self.node.stop().await;
        drop(self.federation);
        self.store.close().await;
    }
}

/// What a node tells others about where it is.
#[derive(Debug, PartialEq, Eq)]
struct Addresses {
    /// For people; always there.
    url: String,
    /// For join codes; none when nobody said and only this machine could guess.
    public_url: Option<String>,
    quic: Option<String>,
}

impl Addresses {
    fn of(config: &Config, http: SocketAddr, quic: SocketAddr) -> Self {
        let scheme = if config.tls.is_some() { "https" } else { "http" };
        let url = config.public_url.clone().unwrap_or_else(|| format!("{scheme}://{http}"));
        let public_url = (config.public_url.is_some() || !http.ip().is_unspecified()).then(|| url.clone());
        let public_host = config.public_url.as_deref().and_then(host_of);
        let advertised = config.quic_advertise.clone().or_else(|| match (is_loopback(quic), public_host) {
            // A public URL beside QUIC on loopback is a proxy for HTTP alone, or a test on one machine.
            (true, _) => Some(quic.to_string()),
            (false, Some(host)) => Some(format!("{host}:{}", quic.port())),
            (false, None) => (!quic.ip().is_unspecified()).then(|| quic.to_string()),
        });
        Self { url, public_url, quic: advertised }
    }
}

/// The host of a URL as it stands before a port, brackets included.
fn host_of(url: &str) -> Option<String> {
    let url = reqwest::Url::parse(url).ok()?;
    url.host_str().map(str::to_owned)
}

async fn start_actors(
    config: &Config,
    addresses: &Addresses,
    store: Store,
    keeper: Keeper,
    socket: UdpSocket,
) -> Result<(Node, Federation), Failure> {
    let failed = |error: &(dyn std::error::Error + 'static)| {
        Failure::new(Exit::Failed, format!("the node does not start: {}", chain(error)))
    };
    let connectors = Declared::new(config.connectors.clone())
        .map_err(|reason| Failure::new(Exit::Failed, format!("no HTTP client for connectors: {reason}")))?;
    let env = NodeEnv {
        store,
        socket: Some(socket.into()),
        wall: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
        http: tls::peer_http()?,
        connectors: Arc::new(connectors),
        issuers: Issuers::new(issuer::open(&config.lease_issuers, &drivers(config))?),
        drivers: Arc::new(drivers(config)),
        root_key: Arc::new(keeper),
        compute: compute(),
        endpoint_seed: None,
        host_name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        tls_certificate: None,
    };
    let node_config = NodeConfig {
        quic_advertise: addresses.quic.clone(),
        public_url: addresses.public_url.clone(),
        enforce_signatures: config.enforce_signatures,
        software_version: env!("CARGO_PKG_VERSION").to_owned(),
        operators: operators(config)?,
        secure_cookies: addresses.url.starts_with("https://"),
        webhooks: webhooks(config)?,
        commands_kept: config.commands_kept,
        secret_rates: config.secret_rates.clone(),
        ..NodeConfig::default()
    };
    let node = Node::start(env, node_config).await.map_err(|error| failed(&error))?;
    let federation = node.federation();
    Ok((node, federation))
}

/// What speaks to secret backends.
fn drivers(config: &Config) -> VendorDrivers {
    let ambient = Ambient {
        kinds: config.backends.ambient.clone(),
        machine: Machine::of_variables(|name| std::env::var(name).ok()),
        pod_tokens: config.backends.pod_tokens.clone(),
    };
    VendorDrivers { ambient, ..VendorDrivers::new(config.backends.rules.clone()) }
}

/// Who may make operator tokens beside the node itself.
fn operators(config: &Config) -> Result<OperatorsConfig, Failure> {
    let mut operators = OperatorsConfig { shared: None, issuers: config.issuers.clone() };
    if let Some((path, grant)) = &config.hs256 {
        let failed = |what: String| Failure::usage(format!("{}: {what}", path.display()));
        let bytes = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
        let secret = Secret::new(bytes.trim_ascii_end().to_vec());
        drop(Secret::new(bytes));
        if secret.expose().len() < SHARED_SECRET_BYTES_MIN {
            return Err(failed(format!("the secret has fewer than {SHARED_SECRET_BYTES_MIN} bytes"))
                .next("openssl rand -base64 48, at both ends"));
        }
        operators.shared = Some(SharedSecret { secret, grant: grant.clone() });
    }
    Ok(operators)
}

/// The webhooks with their keys.
fn webhooks(config: &Config) -> Result<Vec<Webhook>, Failure> {
    let fault =
        |name: &str, reason: String| Failure::new(Exit::Failed, format!("webhook {name:?}: {reason}"));
    config
        .webhooks
        .iter()
        .map(|target| {
            let name = target.name.as_str();
            let text = std::fs::read_to_string(&target.secret_file)
                .map_err(|error| fault(name, format!("{}: {error}", target.secret_file.display())))?;
            let secret = match text.trim().strip_prefix("whsec_") {
                Some(encoded) => STANDARD.decode(encoded).map_err(|_| {
                    fault(name, "what follows whsec_ in secret_file is not base64".to_owned())
                })?,
                None => text.trim().as_bytes().to_vec(),
            };
            if secret.len() < limits::SECRET_BYTES_MIN {
                let reason =
                    format!("the key in secret_file needs at least {} bytes", limits::SECRET_BYTES_MIN);
                return Err(fault(name, reason));
            }
            Ok(Webhook { name: target.name.clone(), url: target.url.clone(), secret: Secret::new(secret) })
        })
        .collect()
}

/// A coordinator, and whoever was told, listens at a known place; a site only dials, from wherever it can
/// reach out.
fn bind_quic(config: &Config, store: &Store) -> Result<UdpSocket, Failure> {
    let failed = |address: SocketAddr| {
        move |error: std::io::Error| bind_failure("QUIC", address, &error, "--federation-listen")
    };
    if let Some(address) = config.quic_listen {
        return UdpSocket::bind(address).map_err(failed(address));
    }
    let stored = store.read().and_then(|view| view.get::<Settings>(ROLE_SETTING));
    let stored = stored.map_err(|error| Failure::new(Exit::Failed, chain(&error)))?;
    let is_coordinator = match (config.role, stored) {
        (Some(role), _) => role == Role::Coordinator,
        (None, stored) => stored.is_some_and(|role| role == Role::Coordinator.as_str()),
    };
    if is_coordinator {
        return UdpSocket::bind(QUIC_LISTEN_DEFAULT).map_err(failed(QUIC_LISTEN_DEFAULT));
    }
    let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))
        .or_else(|_| UdpSocket::bind(everywhere))
        .map_err(failed(everywhere))
}

async fn open_store(config: &Config) -> Result<(Store, Keeper), Failure> {
    let data_dir = &config.data_dir;
    let disk = DirDisk::new(data_dir)
        .map_err(|error| Failure::new(Exit::Failed, format!("{}: {error}", data_dir.display())))?;
    let source = root_key::Source {
        data_dir,
        key_file: &config.root_key_file,
        transit: config.root_key_transit.as_ref(),
    };
    let store_config = StoreConfig {
        cache_bytes: usize::try_from(config.cache_bytes).unwrap_or(usize::MAX),
        ..StoreConfig::default()
    };
    let disk = Arc::new(disk);
    let open = |key: &RootKey| {
        let (config, disk) = (store_config.clone(), Arc::clone(&disk));
        Store::open(config, disk, Driver::Thread, key, Arc::new(SystemEntropy))
    };
    let (store, opened) = if config.root_key_await_unlock && source.lacks_passphrase()? {
        unlocked(source, open).await?
    } else {
        Box::pin(source.load()).await?.open(data_dir, open)?
    };
    let keeper = opened.settle(&store)?;
    Ok((store, keeper))
}

/// Waits until the owner has given the passphrase that opens the store.
async fn unlocked(
    source: root_key::Source<'_>,
    open: impl Fn(&RootKey) -> Result<Store, OpenError>,
) -> Result<(Store, Opened), Failure> {
    let waiting = Waiting::listen(source.data_dir).await?;
    tracing::warn!("locked: the node waits for its passphrase, `hansa root-key unlock` on this machine");
    loop {
        let offer = waiting.next().await;
        let loaded = Box::pin(source.load_given(Some(offer.passphrase.clone()))).await;
        match loaded.and_then(|loaded| loaded.open(source.data_dir, &open)) {
            Ok(opened) => {
                offer.answer(Ok(())).await;
                return Ok(opened);
            }
            Err(failure) => offer.answer(Err(&failure)).await,
        }
    }
}

/// The failure for a store that does not open.
pub(crate) fn open_failure(data_dir: &Path, error: &OpenError) -> Failure {
    let exit = if matches!(error, OpenError::InUse) { Exit::Conflict } else { Exit::Failed };
    Failure::new(exit, format!("{}: {}", data_dir.display(), chain(error)))
}

/// Where `POST /api/v1/backup` writes; made here, since the copy's folder is the node's owner's choice alone.
fn backup_folder(data_dir: &Path) -> Result<PathBuf, Failure> {
    let folder = data_dir.join(BACKUP_FOLDER);
    private_folder(&folder)?;
    Ok(folder)
}

/// Makes a folder, with its parents, that only this user can enter.
pub(crate) fn private_folder(folder: &Path) -> Result<(), Failure> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| Failure::new(Exit::Failed, format!("{} cannot be made: {error}", folder.display())))
}

/// A socket for the node's owner, mode 0600. The store's lock is held, so an old file is nobody's.
pub(crate) fn bind_local(path: &Path) -> Result<UnixListener, Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(Exit::Failed, format!("the socket {} cannot be made: {error}", path.display()))
            .next("a data folder with a shorter path, when this one has more than about 90 characters")
    };
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    // The folder has mode 0700, so nobody gets in between these two calls.
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

fn bind_failure(what: &str, address: SocketAddr, error: &std::io::Error, flag: &str) -> Failure {
    let exit = if error.kind() == std::io::ErrorKind::AddrInUse { Exit::Conflict } else { Exit::Failed };
    Failure::new(exit, format!("{what} cannot listen on {address}: {error}"))
        .next(format!("another address with {flag}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layer;

    fn addresses(text: &str, http: &str, quic: &str) -> Addresses {
        let layer: Layer = toml::from_str(text).unwrap();
        let config = layer.resolve().unwrap();
        Addresses::of(&config, http.parse().unwrap(), quic.parse().unwrap())
    }

    #[test]
    fn node_on_loopback_is_known_by_its_bound_ports() {
        let found = addresses("", "127.0.0.1:41000", "127.0.0.1:42000");

        assert_eq!(found.public_url.as_deref(), Some("http://127.0.0.1:41000"));
        assert_eq!(found.quic.as_deref(), Some("127.0.0.1:42000"));
    }

    #[test]
    fn public_url_tells_where_quic_is_unless_something_else_is_said() {
        let public = "public_url = 'https://hq.example.com/'\ninsecure_http = true";
        let said = format!("{public}\n[federation]\nadvertise = 'quic.example.com:9'");

        assert_eq!(
            addresses(public, "0.0.0.0:80", "0.0.0.0:7443").quic.as_deref(),
            Some("hq.example.com:7443")
        );
        assert_eq!(
            addresses(&said, "0.0.0.0:80", "0.0.0.0:7443").quic.as_deref(),
            Some("quic.example.com:9")
        );
    }

    #[test]
    fn node_that_listens_everywhere_and_is_told_nothing_names_no_address() {
        let found = addresses("insecure_http = true", "0.0.0.0:80", "0.0.0.0:7443");

        assert_eq!((found.public_url, found.quic), (None, None));
    }
}
