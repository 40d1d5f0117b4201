//! Clients send numbers over QUIC to a server that stores each in redb before it answers.
//!
//! The smallest system with everything that the harness must carry: TLS, reconnects, commits, crashes of
//! both sides. What it promises is what the federation promises: nothing acknowledged is lost, and after the
//! last fault everybody gets through again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Connection, Endpoint, EndpointConfig, ServerConfig, TransportConfig};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::clock::SimTime;
use crate::disk::{Crash, Loss, SimFolder};
use crate::faults::{self, FaultMix};
use crate::network::HostId;
use crate::scenario::Run;
use crate::world::{HostEnv, World};

const NUMBERS: TableDefinition<'_, (u64, u64), ()> = TableDefinition::new("numbers");
const SERVER: HostId = HostId(0);
const NAME: &str = "echo";
/// How long a client waits for an answer before it connects anew.
const PATIENCE: Duration = Duration::from_secs(8);
/// Between the commit and the answer: a power loss in between leaves what nobody was told of.
const COMMIT_LATENCY: Duration = Duration::from_millis(2);
/// After the last fault every client must get through within this: an idle timeout, a time of patience and
/// a handshake.
const HEALED_WITHIN: Duration = Duration::from_secs(40);

/// What the clients were promised, seen from outside the world.
#[derive(Debug, Clone, Default)]
struct Promises(Arc<Mutex<Acknowledged>>);

#[derive(Debug, Default)]
struct Acknowledged {
    numbers: BTreeSet<(u64, u64)>,
    latest: BTreeMap<u64, SimTime>,
}

impl Promises {
    fn lock(&self) -> MutexGuard<'_, Acknowledged> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs the scenario; see the module.
///
/// # Errors
/// When an acknowledged number is missing, or a client gets no answer after the last fault.
pub fn run(world: &mut World, run: &Run) -> anyhow::Result<()> {
    let identity = Identity::generate()?;
    let promises = Promises::default();
    let server_identity = identity.clone();
    world.add_host("server", move |env| serve(env, server_identity.clone()));
    for site in 1..=run.sites {
        let (identity, promises) = (identity.clone(), promises.clone());
        world.add_host(&format!("client-{site}"), move |env| call(env, identity.clone(), promises.clone()));
    }
    let pairs: Vec<_> = (1..=run.sites).map(|site| (SERVER, HostId(site))).collect();
    let from = SimTime::at(Duration::from_secs(5));
    world.plan(faults::draw(run.seed, &FaultMix::BAD_DAY, &world.hosts(), &pairs, (from, run.heals_at())));

    world.run_until(run.heals_at());
    let clients = usize::from(run.sites);
    let healed = world.run_while_not(HEALED_WITHIN, |world| {
        let since = run.heals_at();
        world.now() > since && promises.lock().latest.values().filter(|&&at| at > since).count() == clients
    });
    ensure!(healed, "not every client got through within {HEALED_WITHIN:?} after the last fault");
    world.run_until(run.ends_at());
    nothing_acknowledged_is_lost(world, &promises)
}

/// Invariant: what a client was told is on the server's disk, even when power fails now.
fn nothing_acknowledged_is_lost(world: &mut World, promises: &Promises) -> anyhow::Result<()> {
    world.crash(SERVER, Crash::Power(Loss::All));
    let stored = Ledger::open(&world.disk(SERVER).mount())?.numbers()?;
    let acknowledged = promises.lock();
    ensure!(!acknowledged.numbers.is_empty(), "nothing was ever acknowledged");
    let lost: Vec<_> = acknowledged.numbers.difference(&stored).take(5).collect();
    ensure!(lost.is_empty(), "acknowledged, but lost: {lost:?}");
    Ok(())
}

/// One certificate for the server, known to all.
#[derive(Debug, Clone)]
struct Identity {
    certificate: CertificateDer<'static>,
    key: Arc<Vec<u8>>,
}

impl Identity {
    fn generate() -> anyhow::Result<Self> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
        let certificate = rcgen::CertificateParams::new(vec![NAME.to_owned()])?.self_signed(&key)?;
        Ok(Self { certificate: certificate.der().clone(), key: Arc::new(key.serialize_der()) })
    }

    fn server_config(&self) -> anyhow::Result<ServerConfig> {
        let key = PrivatePkcs8KeyDer::from(self.key.as_ref().clone());
        let tls = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], key.into())?;
        let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
        config.transport_config(transport()?);
        Ok(config)
    }

    fn client_config(&self) -> anyhow::Result<ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        let tls = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
        config.transport_config(transport()?);
        Ok(config)
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn transport() -> anyhow::Result<Arc<TransportConfig>> {
    let mut transport = TransportConfig::default();
    transport.max_idle_timeout(Some(Duration::from_secs(15).try_into()?));
    transport.keep_alive_interval(Some(Duration::from_secs(5)));
    Ok(Arc::new(transport))
}

fn endpoint(env: &HostEnv, server: Option<ServerConfig>) -> anyhow::Result<Endpoint> {
    let mut config = EndpointConfig::default();
    config.rng_seed(Some(env.endpoint_seed));
    let socket = Arc::clone(&env.socket);
    Ok(Endpoint::new_with_abstract_socket(config, server, socket, Arc::clone(&env.runtime))?)
}

async fn serve(env: HostEnv, identity: Identity) -> anyhow::Result<()> {
    let ledger = Arc::new(Ledger::open(&env.folder)?);
    let endpoint = endpoint(&env, Some(identity.server_config()?))?;
    let (failed, mut failure) = mpsc::channel(1);
    loop {
        tokio::select! {
            biased;
            Some(error) = failure.recv() => return Err(error),
            incoming = endpoint.accept() => {
                let incoming = incoming.context("the endpoint closed")?;
                let (ledger, failed) = (Arc::clone(&ledger), failed.clone());
                tokio::spawn(async move {
                    // A client that goes away ends its own connection and nothing else.
                    let Ok(connection) = incoming.await else { return };
                    while let Ok((answer, question)) = connection.accept_bi().await {
                        tokio::spawn(answer_one(Arc::clone(&ledger), failed.clone(), answer, question));
                    }
                });
            }
        }
    }
}

async fn answer_one(
    ledger: Arc<Ledger>,
    failed: mpsc::Sender<anyhow::Error>,
    mut answer: quinn::SendStream,
    mut question: quinn::RecvStream,
) {
    let Ok(bytes) = question.read_to_end(16).await else { return };
    let Some(number) = decode(&bytes) else { return };
    if let Err(error) = ledger.add(number) {
        // The first failure ends the program; the others may find the channel full or closed.
        let _ = failed.try_send(error);
        return;
    }
    sleep(COMMIT_LATENCY).await;
    let _ = answer.write_all(&bytes).await;
    let _ = answer.finish();
}

async fn call(env: HostEnv, identity: Identity, promises: Promises) -> anyhow::Result<()> {
    let mut endpoint = endpoint(&env, None)?;
    endpoint.set_default_client_config(identity.client_config()?);
    let client = u64::from(env.host.0);
    let mut number = u64::from(env.boot) << 32;
    let mut connection = None;
    loop {
        let server = env.address_of(SERVER);
        match timeout(PATIENCE, send(&endpoint, &mut connection, server, (client, number))).await {
            Ok(Ok(())) => {
                env.observer.event(&format!("got {number} acknowledged"));
                let mut acknowledged = promises.lock();
                acknowledged.numbers.insert((client, number));
                acknowledged.latest.insert(client, env.clock.now());
                number += 1;
            }
            Ok(Err(error)) => {
                env.observer.event(&format!("fails: {error:#}"));
                connection = None;
            }
            Err(_) => {
                env.observer.event("loses patience");
                connection = None;
            }
        }
        sleep(Duration::from_secs(1)).await;
    }
}

async fn send(
    endpoint: &Endpoint,
    connection: &mut Option<Connection>,
    server: std::net::SocketAddr,
    number: (u64, u64),
) -> anyhow::Result<()> {
    let link = match connection {
        Some(link) => link,
        None => connection.insert(endpoint.connect(server, NAME)?.await?),
    };
    let (mut question, mut answer) = link.open_bi().await?;
    let bytes = encode(number);
    question.write_all(&bytes).await?;
    question.finish()?;
    ensure!(answer.read_to_end(16).await? == bytes, "the answer is not the question");
    Ok(())
}

fn encode((client, number): (u64, u64)) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&client.to_le_bytes());
    bytes[8..].copy_from_slice(&number.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<(u64, u64)> {
    let (client, number) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*client), u64::from_le_bytes(number.try_into().ok()?)))
}

/// The server's store.
#[derive(Debug)]
struct Ledger(Database);

impl Ledger {
    const FILE: &str = "ledger.redb";
    const NEW_FILE: &str = "ledger.redb.new";

    /// Opens the store, and makes it where there is none: under another name first, because a power loss
    /// while redb creates a file leaves one that cannot be opened.
    fn open(folder: &SimFolder) -> anyhow::Result<Self> {
        if !folder.exists(Self::FILE)? {
            let database = Self::open_file(folder.create(Self::NEW_FILE)?)?;
            let transaction = database.begin_write()?;
            transaction.open_table(NUMBERS)?;
            transaction.commit()?;
            drop(database);
            folder.rename(Self::NEW_FILE, Self::FILE)?;
            folder.sync()?;
        }
        Ok(Self(Self::open_file(folder.open(Self::FILE)?)?))
    }

    fn open_file(file: impl redb::StorageBackend) -> anyhow::Result<Database> {
        Ok(Database::builder().set_cache_size(1 << 20).create_with_backend(file)?)
    }

    fn add(&self, number: (u64, u64)) -> anyhow::Result<()> {
        let transaction = self.0.begin_write()?;
        transaction.open_table(NUMBERS)?.insert(number, ())?;
        transaction.commit()?;
        Ok(())
    }

    fn numbers(&self) -> anyhow::Result<BTreeSet<(u64, u64)>> {
        let table = self.0.begin_read()?.open_table(NUMBERS)?;
        table.iter()?.map(|entry| Ok(entry?.0.value())).collect()
    }
}
