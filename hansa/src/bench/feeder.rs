//! The generator's sites: real identities, real links, batches made beforehand.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use bytes::Bytes;
use hansa_model::enrollment::Role;
use hansa_model::host::HostChange;
use hansa_model::limits::sync as limits;
use hansa_model::sync::{BatchHeader, Items, Position};
use hansa_model::{Host, Secret, Timestamp, WallClock as _};
use hansa_transport::certificate::sign_proof;
use hansa_transport::wire::{Batch, Down, Enroll, Hello, Up, WIRE_VERSION};
use hansa_transport::{
    Endpoint, EndpointConfig, IdentityKey, Lane, LaneReceiver, LaneSender, Link, PublicKey, TlsCertificate,
};
use reqwest::Method;
use serde_json::json;

use super::process::NodeProcess;
use super::{Plan, failed};
use crate::cli::failure::{Exit, Failure};
use crate::client::Client;
use crate::input::fleet::Fleet;
use crate::system::{SystemClock, SystemEntropy};

/// Seed of all generated hosts, so that runs compare.
const SEED: u64 = 1;

/// One site that the generator plays.
pub(super) struct Feeder {
    _endpoint: Endpoint,
    _link: Link,
    /// Its end would be the link's end.
    _control: (LaneSender, LaneReceiver),
    sender: LaneSender,
    receiver: LaneReceiver,
    position: Position,
    epoch: u64,
}

impl Feeder {
    /// Invites, enrolls and links the `index`-th site.
    pub(super) async fn join(node: &NodeProcess, index: u64, tls: &TlsCertificate) -> Result<Self, Failure> {
        let identity = IdentityKey::generate(&SystemEntropy);
        let client = Client::at_socket(&node.data_dir)?;
        let coordinator = client.get("/api/v1/federation/identity-key", &[]).await?;
        let coordinator =
            PublicKey::from_pem(coordinator.json["public_key_pem"].as_str().unwrap_or_default())
                .map_err(|error| failed(&error))?;
        let body = json!({
            "name": format!("bench-{index}-{}", &identity.public().fingerprint()[..8]),
            "url": "http://127.0.0.1:9",
            "site_identity_public_key_pem": identity.public().to_pem(),
        });
        let site = client.send_json(Method::POST, "/api/v1/federation/sites", Some(&body)).await?;
        let token = site.json["enrollment_token"].as_str().unwrap_or_default().to_owned();

        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| failed(&error))?;
        let config = EndpointConfig::new(identity.clone(), Arc::new(|_| false));
        let endpoint = Endpoint::bind(socket, config).map_err(|error| failed(&error))?;
        let address: SocketAddr = node
            .ready
            .quic
            .as_deref()
            .and_then(|quic| quic.parse().ok())
            .ok_or_else(|| failed(&"no QUIC"))?;
        let link = endpoint.dial(address, coordinator).await.map_err(|error| failed(&error))?;
        let (mut control, mut answers) = link.open(Lane::Control).await.map_err(|error| failed(&error))?;
        let proof =
            sign_proof(&identity, Role::Site, tls.certificate_pem()).map_err(|error| failed(&error))?;
        let enroll = Enroll {
            token: Secret::new(token),
            tls_cert_pem: tls.certificate_pem().to_owned(),
            identity_proof: proof,
        };
        control.send(&Up::Enroll(enroll).encode()).await.map_err(|error| failed(&error))?;
        let Down::Enrolled(_) = receive(&mut answers).await? else {
            return Err(failed(&"the node did not enroll the generator's site"));
        };
        let hello =
            Hello { site: None, software_version: "bench".to_owned(), wire_version: WIRE_VERSION, epoch: 1 };
        control.send(&Up::Hello(hello).encode()).await.map_err(|error| failed(&error))?;
        let Down::Welcome(welcome) = receive(&mut answers).await? else {
            return Err(failed(&"the node did not welcome the generator's site"));
        };
        let (sender, receiver) = link.open(Lane::Ingest).await.map_err(|error| failed(&error))?;
        let epoch = index + 1;
        Ok(Self {
            _endpoint: endpoint,
            _link: link,
            _control: (control, answers),
            sender,
            receiver,
            position: welcome.position,
            epoch,
        })
    }

    /// Sends one batch and waits until it is durable and searchable.
    pub(super) async fn send(&mut self, items: Bytes) -> Result<(), Failure> {
        let sequence = if self.position.epoch == self.epoch { self.position.sequence + 1 } else { 1 };
        let header = BatchHeader {
            epoch: self.epoch,
            sequence,
            previous_chain: self.position.chain,
            reset: false,
            queue_depth: 0,
        };
        self.sender
            .send(&Up::Batch(Batch { header, items }).encode())
            .await
            .map_err(|error| failed(&error))?;
        let Down::Acknowledged(acknowledged) = receive(&mut self.receiver).await? else {
            return Err(Failure::new(Exit::Failed, "the node refused a batch of the generator"));
        };
        self.position = acknowledged.position;
        Ok(())
    }
}

async fn receive(receiver: &mut LaneReceiver) -> Result<Down, Failure> {
    let frame = receiver.recv(limits::FRAME_BYTES_MAX).await.map_err(|error| failed(&error))?;
    Down::decode(&frame).map_err(|error| failed(&error))
}

/// Joins `count` sites, one after the other.
pub(super) async fn join_all(node: &NodeProcess, first: u64, count: u64) -> Result<Vec<Feeder>, Failure> {
    let tls = TlsCertificate::generate("bench", SystemClock.now(), &SystemEntropy).map_err(|e| failed(&e))?;
    let mut feeders = Vec::new();
    for index in first..first + count {
        feeders.push(Feeder::join(node, index, &tls).await?);
    }
    Ok(feeders)
}

/// A site's hosts, generated.
pub(super) fn hosts_of(site: u64, hosts_of_site: u64) -> impl Iterator<Item = Host> {
    let fleet = Fleet::new(SEED, hosts_of_site, site);
    fleet.numbers().map(move |number| fleet.host(number))
}

/// Encodes hosts into batches of at most `rows` rows.
pub(super) fn batches(hosts: impl Iterator<Item = Host>, rows: usize) -> Vec<Bytes> {
    let mut batches = Vec::new();
    let mut changes = Vec::with_capacity(rows);
    let mut seal = |changes: &mut Vec<HostChange<String>>| {
        if !changes.is_empty() {
            let items = Items { changes: std::mem::take(changes), ..Items::default() };
            batches.push(Batch::encode_items(&items));
        }
    };
    for host in hosts {
        changes.push(HostChange::Upsert(host));
        if changes.len() == rows {
            seal(&mut changes);
        }
    }
    seal(&mut changes);
    batches
}

/// Bytes of these rows together, as postcard writes them.
pub(super) fn row_bytes(hosts: impl Iterator<Item = Host>) -> f64 {
    let (mut bytes, mut rows) = (0_usize, 0_usize);
    for host in hosts.take(10_000) {
        bytes += postcard::to_stdvec(&host).map_or(0, |row| row.len());
        rows += 1;
    }
    bytes as f64 / rows.max(1) as f64
}

/// Loads all hosts of the plan into a node, and returns its sites.
pub(super) async fn load(plan: &Plan, node: &NodeProcess) -> Result<Vec<Feeder>, Failure> {
    let feeders = join_all(node, 0, plan.sites).await?;
    let per_site = plan.hosts_of_site();
    let mut tasks = Vec::new();
    for (site, mut feeder) in (0..).zip(feeders) {
        tasks.push(tokio::spawn(async move {
            for items in batches(hosts_of(site, per_site), limits::BATCH_ROWS_MAX) {
                feeder.send(items).await?;
            }
            Ok::<_, Failure>(feeder)
        }));
    }
    let mut loaded = Vec::new();
    for task in tasks {
        loaded.push(task.await.map_err(|error| failed(&error))??);
    }
    Ok(loaded)
}

/// A row that differs from the generated one in its state.
pub(super) fn touched(mut host: Host, round: u64) -> Host {
    host.status = Some(if round.is_multiple_of(2) { "down" } else { "up" }.to_owned());
    host.last_seen = Some(Timestamp::from_secs(1_795_000_000 + i64::try_from(round).unwrap_or(0)));
    host
}
