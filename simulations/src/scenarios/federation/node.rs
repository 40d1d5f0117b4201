//! A real node on the world's seams.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use hansa_actors::error::EnrollError;
use hansa_actors::issuer::Issuers;
use hansa_actors::{Compute, Connectors, EnrollRequest, Federation, Node, NodeConfig, NodeEnv};
use hansa_backends::Drivers;
use hansa_model::directory::{Filter, OrderBy, Page, Query, Start};
use hansa_model::enrollment::Role;
use hansa_model::machine::registry::NewSite;
use hansa_model::{Host, Secret, SiteId};
use hansa_storage::{Driver, RootKey, Store, StoreConfig};
use hansa_transport::error::PeerHttpError;
use hansa_transport::testing::abstract_socket;
use hansa_transport::{PeerCall, PeerHttp, PeerRequest, TlsCertificate};

use crate::dice::Dice;
use crate::network::HostId;
use crate::world::HostEnv;

/// A key for tests, known to everybody. Making one cannot be replayed: aws-lc draws its own randomness.
const TEST_RSA_KEY: &str = include_str!("../../fixtures/test-rsa-key.pem");
/// Bytes of the page cache: small, so that reads reach the disk.
const CACHE_BYTES: usize = 1 << 20;
/// Rows of a page: small, so that lists have many.
const PAGE_ROWS: usize = 50;

pub(in crate::scenarios) const ROOT_KEY: [u8; 32] = [7; 32];

/// What became of a site's try to enroll.
pub(in crate::scenarios) enum Tried {
    /// It is a member.
    Enrolled,
    /// The token is for nothing: another must be asked for.
    Refused,
    /// It did not get through, or could not store: it tries again.
    Failed,
}

/// Enrolls a site by the real handshake; whatever is no misfortune of the world is a violation.
pub(in crate::scenarios) async fn enroll(
    env: &HostEnv,
    federation: &Federation,
    coordinator: HostId,
    (token, key): (Secret<String>, String),
) -> Tried {
    let address = env.address_of(coordinator).to_string();
    let request = EnrollRequest {
        coordinator_url: format!("https://{address}"),
        enrollment_token: token,
        coordinator_identity_public_key_pem: key,
        quic_address: Some(address),
        sync_interval_seconds: None,
    };
    match federation.enroll(&Federation::local_operator(), request).await {
        Ok(_) => {
            env.observer.event("is enrolled");
            Tried::Enrolled
        }
        Err(EnrollError::Refused(reason)) => {
            env.observer.event(&format!("is refused: {reason}"));
            Tried::Refused
        }
        Err(EnrollError::Unreachable(_) | EnrollError::Unavailable(_)) => {
            env.observer.event("does not get through to enroll");
            Tried::Failed
        }
        Err(
            error @ (EnrollError::Invalid(_)
            | EnrollError::OtherCoordinator(_)
            | EnrollError::NotEnrolled
            | EnrollError::CoordinatorIdentity
            | EnrollError::WrongRole(_)),
        ) => {
            env.observer.violation(&format!("enrollment: {error}"));
            Tried::Failed
        }
    }
}

/// What an operator knows of a site whose key it was shown.
pub(in crate::scenarios) fn new_site(host: HostId, key: &str) -> NewSite {
    NewSite {
        name: format!("site {}", host.0),
        url: format!("https://{}:8443", host.ip()),
        identity_key: Federation::parse_identity_key(key).ok(),
        ..NewSite::default()
    }
}

/// Opens the store and starts the node in its role.
pub(in crate::scenarios) async fn start(
    env: &HostEnv,
    role: Role,
    connectors: Arc<dyn Connectors>,
    issuers: Issuers,
    drivers: Arc<dyn Drivers>,
) -> anyhow::Result<Node> {
    let store = open_store(env)?;
    let key = Secret::new(TEST_RSA_KEY.to_owned());
    let certificate = TlsCertificate::for_key(&key, &env.name, env.wall.now(), &*env.entropy)?;
    let node_env = NodeEnv {
        store,
        socket: Some(abstract_socket(env.socket.clone(), Arc::clone(&env.runtime))),
        wall: Arc::clone(&env.wall),
        entropy: Arc::clone(&env.entropy),
        http: Arc::new(NoHttp),
        connectors,
        issuers,
        drivers,
        root_key: Arc::new(hansa_actors::NoHolder),
        compute: Compute::INLINE,
        endpoint_seed: Some(env.endpoint_seed),
        host_name: env.name.clone(),
        tls_certificate: Some(certificate),
    };
    let config = NodeConfig {
        quic_advertise: Some(env.address.to_string()),
        public_url: Some(format!("https://{}", env.address)),
        // Short and small, so that logs are folded and segments written within minutes.
        log_retention: Duration::from_secs(90),
        checkpoint_rows: 100,
        ..NodeConfig::default()
    };
    let node = Node::start(node_env, config).await?;
    let federation = node.federation();
    if federation.role() != role {
        federation.set_role(role, &Federation::local_operator()).await?;
    }
    Ok(node)
}

fn open_store(env: &HostEnv) -> anyhow::Result<Store> {
    let abort = env.abort.clone();
    let config = StoreConfig {
        cache_bytes: CACHE_BYTES,
        on_fatal: Arc::new(move |what| abort.now(what)),
        ..StoreConfig::default()
    };
    let mut seed = [0; 32];
    env.entropy.fill(&mut seed);
    let dice = Mutex::new(Dice::from_seed(seed));
    let latency = move || {
        let mut dice = dice.lock().unwrap_or_else(PoisonError::into_inner);
        dice.span(Duration::from_millis(1), Duration::from_millis(12))
    };
    let driver = Driver::Inline { latency: Arc::new(latency) };
    let folder = Arc::new(env.folder.clone());
    let root_key = RootKey::new(ROOT_KEY);
    Ok(Store::open(config, folder, driver, &root_key, Arc::clone(&env.entropy))?)
}

/// Reads a list to its end, page by page.
pub(in crate::scenarios) fn all_pages(read: impl Fn(&Query) -> Page) -> anyhow::Result<Vec<(SiteId, Host)>> {
    let mut rows = Vec::new();
    let mut start = Start::default();
    loop {
        let query = Query::new(Filter::default(), OrderBy::Status, PAGE_ROWS, start)?;
        let page = read(&query);
        rows.extend(page.rows);
        match page.next {
            Some(cursor) => start = Start::After(cursor),
            None if rows.len() as u64 == page.total => return Ok(rows),
            None => anyhow::bail!("{} rows on all pages, {} in total", rows.len(), page.total),
        }
    }
}

/// The value of a counter in the metrics' text.
pub(super) fn counter(federation: &Federation, name: &str) -> anyhow::Result<u64> {
    let text = federation.metrics_text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).context("no such counter")?;
    Ok(line.trim().parse()?)
}

/// A world without HTTP.
#[derive(Debug)]
struct NoHttp;

impl PeerHttp for NoHttp {
    fn call(&self, _: PeerRequest) -> PeerCall<'_> {
        Box::pin(std::future::ready(Err(PeerHttpError::Unreachable("there is no HTTP here".to_owned()))))
    }
}
