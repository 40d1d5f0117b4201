//! Whole handshakes on loopback: who gets in, who does not, and what each side is told.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Mutex;

use bytes::Bytes;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;

use hansa_model::Secret;
use hansa_model::limits::sync::FRAME_BYTES_MAX;

use super::*;
use crate::error::{CloseReason, FrameError, LinkLost, RecvError};
use crate::frame::EncodedFrame;
use crate::link::Lane;

fn identity(seed: u8) -> IdentityKey {
    IdentityKey::from_seed(&Secret::new([seed; 32]))
}

fn admit_all() -> Admission {
    Arc::new(|_| true)
}

fn admit(keys: impl IntoIterator<Item = PublicKey>) -> Admission {
    let keys: BTreeSet<PublicKey> = keys.into_iter().collect();
    Arc::new(move |key| keys.contains(key))
}

fn endpoint_with(config: EndpointConfig) -> Endpoint {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    Endpoint::bind(socket, config).unwrap()
}

fn endpoint(seed: u8, admission: Admission) -> Endpoint {
    endpoint_with(EndpointConfig {
        handshake_wait_max: Duration::from_secs(3),
        ..EndpointConfig::new(identity(seed), admission)
    })
}

/// Gives an endpoint a certificate other than the one that it would make.
fn endpoint_with_certificate(seed: u8, certificate: CertificateDer<'static>) -> Endpoint {
    let key = NodeCertificate::signing_key(&identity(seed)).unwrap();
    endpoint_showing(seed, CertifiedKey::new(vec![certificate], key))
}

fn endpoint_showing(seed: u8, shown: CertifiedKey) -> Endpoint {
    let mut endpoint = endpoint(seed, admit_all());
    endpoint.certificate = NodeCertificate::shown(shown);
    let config = EndpointConfig::new(identity(seed), admit_all());
    endpoint.quic.set_server_config(Some(server_config(&endpoint.certificate, &config).unwrap()));
    endpoint
}

#[tokio::test]
async fn bound_socket_has_more_room_for_a_burst_than_it_came_with() {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let same = socket.try_clone().unwrap();
    let before = sockopt::socket_recv_buffer_size(&same).unwrap();

    let _endpoint = Endpoint::bind(socket, EndpointConfig::new(identity(1), admit_all())).unwrap();

    assert!(sockopt::socket_recv_buffer_size(&same).unwrap() > before);
}

/// Accepts one newcomer after another for as long as the test runs; links come out of the channel.
fn accepting(endpoint: &Endpoint) -> tokio::sync::mpsc::UnboundedReceiver<Result<Link, AcceptError>> {
    let (results, receiver) = tokio::sync::mpsc::unbounded_channel();
    let endpoint = endpoint.clone();
    tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            let results = results.clone();
            tokio::spawn(async move { results.send(incoming.complete().await) });
        }
    });
    receiver
}

fn address(endpoint: &Endpoint) -> SocketAddr {
    endpoint.local_addr().unwrap()
}

/// A link seen from both sides, and what keeps it and later ones alive.
async fn linked() -> (Link, Link, Kept) {
    let (site, coordinator) = (endpoint(1, admit_all()), endpoint(2, admit([identity(1).public()])));
    let mut accepted = accepting(&coordinator);
    let dialled = site.dial(address(&coordinator), coordinator.public()).await.unwrap();
    let link = accepted.recv().await.unwrap().unwrap();
    (dialled, link, Kept { site, coordinator, _accepted: accepted })
}

struct Kept {
    site: Endpoint,
    coordinator: Endpoint,
    _accepted: tokio::sync::mpsc::UnboundedReceiver<Result<Link, AcceptError>>,
}

#[tokio::test]
async fn both_sides_know_whom_they_talk_to_and_frames_flow() {
    let (dialled, accepted, _kept) = linked().await;
    let frame = EncodedFrame::new(3, b"start", Bytes::from(vec![7; 300_000]));

    let (mut up, mut answers) = dialled.open(Lane::Ingest).await.unwrap();
    let (lane, mut answer, mut received) = accepted.accept_lane().await.unwrap();
    up.send(&frame).await.unwrap();
    let frame = received.recv(FRAME_BYTES_MAX).await.unwrap();
    answer.send(&EncodedFrame::new(9, b"yes", Bytes::new())).await.unwrap();

    assert_eq!((dialled.peer(), accepted.peer()), (identity(2).public(), identity(1).public()));
    assert_eq!(lane, Lane::Ingest);
    assert_eq!((frame.kind, frame.payload.len()), (3, 300_005));
    assert_eq!(answers.recv(100).await.unwrap().payload.as_ref(), b"yes");
    assert!(dialled.rtt() > Duration::ZERO);
}

#[tokio::test]
async fn peer_with_another_key_than_the_pinned_one_is_refused_and_named() {
    let (site, impostor) = (endpoint(1, admit_all()), endpoint(3, admit_all()));
    let mut accepted = accepting(&impostor);

    let refused = site.dial(address(&impostor), identity(2).public()).await.unwrap_err();

    assert_eq!(refused, DialError::OtherKey { presented: Some(identity(3).public()) });
    assert!(accepted.recv().await.unwrap().is_err());
}

#[tokio::test]
async fn stranger_is_refused_in_the_handshake_and_told_so() {
    let (stranger, coordinator) = (endpoint(4, admit_all()), endpoint(2, admit([identity(1).public()])));
    let mut accepted = accepting(&coordinator);

    let refused = stranger.dial(address(&coordinator), coordinator.public()).await.unwrap_err();

    assert_eq!(refused, DialError::NotAdmitted);
    assert_eq!(accepted.recv().await.unwrap().unwrap_err(), AcceptError::NotAdmitted);
}

#[tokio::test]
async fn admission_is_asked_at_every_dial() {
    let known = Arc::new(Mutex::new(BTreeSet::new()));
    let set = known.clone();
    let coordinator = endpoint(2, Arc::new(move |key| set.lock().unwrap().contains(key)));
    let site = endpoint(1, admit_all());
    let _accepted = accepting(&coordinator);

    let before = site.dial(address(&coordinator), coordinator.public()).await.map(drop);
    known.lock().unwrap().insert(site.public());
    let while_known = site.dial(address(&coordinator), coordinator.public()).await.map(drop);
    known.lock().unwrap().clear();
    let after = site.dial(address(&coordinator), coordinator.public()).await.map(drop);

    assert_eq!(
        [before, while_known, after],
        [Err(DialError::NotAdmitted), Ok(()), Err(DialError::NotAdmitted)]
    );
}

/// A certificate with everything that could be wrong except for the key.
fn strange_certificate(seed: u8, is_ca: rcgen::IsCa) -> CertificateDer<'static> {
    let mut parameters = rcgen::CertificateParams::new(vec!["elsewhere.example".to_owned()]).unwrap();
    parameters.not_before = rcgen::date_time_ymd(1999, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(2000, 1, 1);
    parameters.is_ca = is_ca;
    parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::CodeSigning];
    parameters.self_signed(&key_pair(seed)).unwrap().into()
}

fn key_pair(seed: u8) -> rcgen::KeyPair {
    let pkcs8 = identity(seed).to_pkcs8();
    rcgen::KeyPair::from_pkcs8_der_and_sign_algo(
        &rustls::pki_types::PrivatePkcs8KeyDer::from(pkcs8.expose().as_slice()),
        &rcgen::PKCS_ED25519,
    )
    .unwrap()
}

/// sec_19: only the key counts.
#[tokio::test]
async fn sec_19_pinned_key_is_accepted_in_any_certificate_and_no_other_key_in_the_right_one() {
    let unconstrained = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    for is_ca in [rcgen::IsCa::NoCa, unconstrained] {
        let site = endpoint_with_certificate(1, strange_certificate(1, is_ca));
        let coordinator = endpoint_with_certificate(2, strange_certificate(2, is_ca));
        let _accepted = accepting(&coordinator);

        assert!(site.dial(address(&coordinator), identity(2).public()).await.is_ok(), "same key, expired");
    }

    // Same subject, same issuer, same dates, another key.
    let other = endpoint_with_certificate(3, strange_certificate(3, rcgen::IsCa::NoCa));
    let site = endpoint(1, admit_all());
    let _accepted = accepting(&other);
    let refused = site.dial(address(&other), identity(2).public()).await.unwrap_err();
    assert_eq!(refused, DialError::OtherKey { presented: Some(identity(3).public()) });
}

#[tokio::test]
async fn sec_19_certificate_of_the_pinned_key_is_worthless_without_the_key() {
    let stolen = strange_certificate(2, rcgen::IsCa::NoCa);
    let impostor = endpoint_with_certificate(3, stolen);
    let (site, coordinator) = (endpoint(1, admit_all()), endpoint(4, admit([identity(2).public()])));
    let _accepted = accepting(&impostor);
    let mut refused = accepting(&coordinator);

    let as_server = site.dial(address(&impostor), identity(2).public()).await;
    let as_client = impostor.dial(address(&coordinator), coordinator.public()).await;

    assert!(matches!(as_server, Err(DialError::OtherKey { .. })), "{as_server:?}");
    assert_eq!(as_client.unwrap_err(), DialError::NotAdmitted);
    assert!(refused.recv().await.unwrap().is_err());
}

/// What a peer shows that should have shown its identity: a chain that ends in it, and another kind of key.
fn shown_in_place_of_an_identity() -> [CertifiedKey; 2] {
    let issuer = rcgen::Issuer::new(rcgen::CertificateParams::default(), key_pair(9));
    let leaf = rcgen::CertificateParams::default().signed_by(&key_pair(1), &issuer).unwrap();
    let chain = vec![leaf.into(), strange_certificate(9, rcgen::IsCa::NoCa)];
    let ecdsa = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let of_other_kind = rcgen::CertificateParams::default().self_signed(&ecdsa).unwrap();
    let ecdsa = rustls::pki_types::PrivatePkcs8KeyDer::from(ecdsa.serialized_der().to_vec());
    let ecdsa = rustls::crypto::ring::sign::any_ecdsa_type(&ecdsa.into()).unwrap();
    [
        CertifiedKey::new(chain, NodeCertificate::signing_key(&identity(1)).unwrap()),
        CertifiedKey::new(vec![of_other_kind.into()], ecdsa),
    ]
}

/// sec_20: a chain is not a certificate, and another kind of key is not an identity, on either side.
#[tokio::test]
async fn sec_20_chains_and_other_kinds_of_keys_are_refused_in_the_handshake() {
    for shown in shown_in_place_of_an_identity() {
        let strange = endpoint_showing(1, shown);
        let plain = endpoint(2, admit_all());
        let _as_server = accepting(&strange);
        let mut accepted = accepting(&plain);

        let as_server = plain.dial(address(&strange), identity(1).public()).await;
        let as_client = strange.dial(address(&plain), identity(2).public()).await;

        assert!(as_server.is_err());
        assert!(as_client.is_err());
        assert!(accepted.recv().await.unwrap().is_err());
    }
}

#[test]
fn sec_20_bytes_that_are_no_certificate_present_no_key() {
    let certificate = strange_certificate(1, rcgen::IsCa::NoCa);

    assert!(crate::pin::presented_key(&certificate, &[]).is_ok_and(|key| key == identity(1).public()));
    for garbage in [&[][..], &[0x30], &[0; 64], &certificate[..100]] {
        assert!(crate::pin::presented_key(&CertificateDer::from(garbage), &[]).is_err());
    }
}

#[test]
fn node_certificate_is_the_same_bytes_for_the_same_key() {
    let [first, second] = [0, 1].map(|_| crate::pin::self_signed(&identity(1)).unwrap());

    assert_eq!(first, second);
    assert_ne!(first, crate::pin::self_signed(&identity(2)).unwrap());
}

#[tokio::test]
async fn suspended_site_completes_the_handshake_and_reads_why() {
    let (dialled, accepted, _kept) = linked().await;

    accepted.close(CloseCode::Suspended);

    assert_eq!(dialled.closed().await, CloseReason::Peer(CloseCode::Suspended));
    assert_eq!(accepted.closed().await, CloseReason::Here);
    let lost = dialled.open(Lane::Control).await.unwrap_err();
    assert_eq!(lost, LinkLost(CloseReason::Peer(CloseCode::Suspended)));
}

#[tokio::test]
async fn link_closed_right_after_its_handshake_still_tells_why() {
    let (site, coordinator) = (endpoint(1, admit_all()), endpoint(2, admit_all()));
    let closing = coordinator.clone();
    tokio::spawn(async move {
        while let Some(incoming) = closing.accept().await {
            incoming.complete().await.unwrap().close(CloseCode::Suspended);
        }
    });

    for _ in 0..20 {
        // The close may overtake the greeting.
        let reason = match site.dial(address(&coordinator), coordinator.public()).await {
            Ok(link) => link.closed().await,
            Err(DialError::Closed(code)) => CloseReason::Peer(code),
            Err(other) => panic!("{other}"),
        };
        assert_eq!(reason, CloseReason::Peer(CloseCode::Suspended));
    }
}

#[tokio::test]
async fn closing_endpoint_tells_its_peers_and_refuses_to_dial() {
    let (dialled, _link, Kept { site, coordinator, .. }) = linked().await;

    coordinator.close(CloseCode::ShuttingDown).await;

    assert_eq!(dialled.closed().await, CloseReason::Peer(CloseCode::ShuttingDown));
    assert!(coordinator.accept().await.is_none());
    let refused = coordinator.dial(address(&site), site.public()).await.unwrap_err();
    assert_eq!(refused, DialError::EndpointClosed);
}

#[tokio::test]
async fn silence_is_unreachable_and_a_wrong_family_is_an_address() {
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let config = EndpointConfig::new(identity(1), admit_all());
    let site = endpoint_with(EndpointConfig { handshake_wait_max: Duration::from_millis(200), ..config });
    let silent = silent.local_addr().unwrap();
    let v6 = "[::1]:9".parse().unwrap();

    let refused = site.dial(silent, identity(2).public()).await.unwrap_err();
    assert_eq!(refused, DialError::Unreachable { address: silent });
    let refused = site.dial(v6, identity(2).public()).await.unwrap_err();
    assert_eq!(refused, DialError::Address { address: v6 });
}

#[tokio::test]
async fn dead_link_is_noticed_by_its_idle_time() {
    let quick = |seed| {
        let config = EndpointConfig::new(identity(seed), admit_all());
        let idle_max = Duration::from_millis(300);
        endpoint_with(EndpointConfig { idle_max, keep_alive: Duration::from_millis(100), ..config })
    };
    let (site, coordinator) = (quick(1), quick(2));
    let mut accepted = accepting(&coordinator);
    let dialled = site.dial(address(&coordinator), coordinator.public()).await.unwrap();
    let accepted = accepted.recv().await.unwrap().unwrap();

    // Keep-alives hold a quiet link for longer than its idle time.
    assert!(timeout(Duration::from_millis(900), accepted.closed()).await.is_err());

    // The site vanishes without a word: its side neither sends nor hears any more.
    site.quic.rebind_abstract(Arc::new(DeadSocket(address(&site)))).unwrap();

    assert_eq!(accepted.closed().await, CloseReason::Idle);
    assert_eq!(dialled.closed().await, CloseReason::Idle);
}

#[tokio::test]
async fn link_to_a_peer_that_crashed_is_lost_as_soon_as_the_peer_is_back() {
    let quick = |seed| {
        let config = EndpointConfig::new(identity(seed), admit_all());
        EndpointConfig { keep_alive: Duration::from_millis(100), ..config }
    };
    let site = endpoint_with(quick(1));
    // A runtime of its own ends as a process does that is killed: without a word to anybody.
    let process = tokio::runtime::Runtime::new().unwrap();
    let (coordinator, mut accepted) = {
        let _inside = process.enter();
        let coordinator = endpoint_with(quick(2));
        let accepted = accepting(&coordinator);
        (coordinator, accepted)
    };
    let (address, key) = (address(&coordinator), coordinator.public());
    let dialled = site.dial(address, key).await.unwrap();
    let link = accepted.recv().await.unwrap().unwrap();
    process.shutdown_background();
    drop((coordinator, accepted, link));

    let socket = timeout(Duration::from_secs(5), async {
        loop {
            match UdpSocket::bind(address) {
                Ok(socket) => return socket,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    });
    let again = Endpoint::bind(socket.await.expect("the port is free again"), quick(2)).unwrap();
    let _accepting = accepting(&again);

    // The idle time is fifteen seconds.
    let reason = timeout(Duration::from_secs(5), dialled.closed()).await.expect("the site notices");
    assert_eq!(reason, CloseReason::Reset);
    site.dial(address, key).await.unwrap();
}

/// A cable that was cut.
#[derive(Debug)]
struct DeadSocket(SocketAddr);

impl quinn::AsyncUdpSocket for DeadSocket {
    fn create_io_poller(self: Arc<Self>) -> std::pin::Pin<Box<dyn quinn::UdpPoller>> {
        Box::pin(Writable)
    }

    fn try_send(&self, _transmit: &quinn::udp::Transmit<'_>) -> std::io::Result<()> {
        Ok(())
    }

    fn poll_recv(
        &self,
        _cx: &mut std::task::Context<'_>,
        _bufs: &mut [std::io::IoSliceMut<'_>],
        _meta: &mut [quinn::udp::RecvMeta],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::task::Poll::Pending
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        Ok(self.0)
    }
}

#[derive(Debug)]
struct Writable;

impl quinn::UdpPoller for Writable {
    fn poll_writable(
        self: std::pin::Pin<&mut Self>,
        _cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn oversized_frame_breaks_the_lane_but_not_the_link() {
    let (dialled, accepted, _kept) = linked().await;
    let (mut up, _) = dialled.open(Lane::Control).await.unwrap();
    let (_, _, mut received) = accepted.accept_lane().await.unwrap();

    up.send(&EncodedFrame::new(1, &[0; 200], Bytes::new())).await.unwrap();

    let error = RecvError::Frame(FrameError::TooLong { bytes: 203, bytes_max: 100 });
    assert_eq!(received.recv(100).await, Err(error.clone()));
    assert_eq!(received.recv(100).await, Err(error));
    assert_eq!(accepted.close_reason(), None);
}

#[tokio::test]
async fn lane_of_a_newer_version_is_skipped_and_an_ended_one_is_told() {
    let (dialled, accepted, _kept) = linked().await;

    let (mut newer, _newer_answers) = dialled.connection_for_tests().open_bi().await.unwrap();
    newer.write_all(&[200, 1, 2, 3]).await.unwrap();
    let (up, _answers) = dialled.open(Lane::Push).await.unwrap();
    let (lane, _, mut received) = accepted.accept_lane().await.unwrap();
    drop(up);

    assert_eq!(lane, Lane::Push);
    assert_eq!(received.recv(100).await, Err(RecvError::LaneEnded));
}

#[tokio::test]
async fn frame_cut_off_half_way_tears_the_lane() {
    let (dialled, accepted, _kept) = linked().await;
    let (mut up, _answers) = dialled.open(Lane::Ingest).await.unwrap();
    let (_, _, _unread) = accepted.accept_lane().await.unwrap();
    let huge = EncodedFrame::new(3, &[], Bytes::from(vec![0; 16 * 1024 * 1024]));

    // Nobody reads, so the window fills and the send waits.
    assert!(timeout(Duration::from_millis(300), up.send(&huge)).await.is_err());

    assert!(matches!(up.send(&huge).await, Err(LinkLost(CloseReason::Broken(_)))));
}

#[tokio::test]
async fn full_ingest_lane_does_not_stop_the_control_lane() {
    let (dialled, accepted, _kept) = linked().await;
    let (mut bulk, _) = dialled.open(Lane::Ingest).await.unwrap();
    let (_, _, _unread) = accepted.accept_lane().await.unwrap();
    let huge = EncodedFrame::new(3, &[], Bytes::from(vec![0; 16 * 1024 * 1024]));
    assert!(timeout(Duration::from_millis(300), bulk.send(&huge)).await.is_err());

    let (mut control, _) = dialled.open(Lane::Control).await.unwrap();
    control.send(&EncodedFrame::new(2, b"urgent", Bytes::new())).await.unwrap();

    let (lane, _, mut received) = accepted.accept_lane().await.unwrap();
    assert_eq!(lane, Lane::Control);
    assert_eq!(received.recv(100).await.unwrap().payload.as_ref(), b"urgent");
}

/// sec_05, the part of this crate: malformed datagrams at a live endpoint.
#[tokio::test]
async fn sec_05_endpoint_serves_after_twenty_thousand_malformed_datagrams() {
    let (dialled, accepted, Kept { site, coordinator, _accepted }) = linked().await;
    let noise = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    noise.set_nonblocking(true).unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };

    for count in 0..20_000_u32 {
        let length = usize::try_from(next() % 1_400).unwrap();
        let mut datagram: Vec<u8> = (0..length).map(|_| next().to_le_bytes()[0]).collect();
        // Half of them look like the first packet of a handshake: long header, version 1.
        if count % 2 == 0 && length > 60 {
            datagram.resize(1_200, 0);
            datagram[..6].copy_from_slice(&[0xc3, 0, 0, 0, 1, 8]);
            datagram[14] = 8;
        }
        let _ = noise.send_to(&datagram, address(&coordinator));
        if count % 50 == 0 {
            tokio::task::yield_now().await;
        }
    }

    let (mut up, _answers) = dialled.open(Lane::Control).await.unwrap();
    up.send(&EncodedFrame::new(2, b"still here", Bytes::new())).await.unwrap();
    let (_, _, mut received) = accepted.accept_lane().await.unwrap();
    assert_eq!(received.recv(100).await.unwrap().payload.as_ref(), b"still here");
    assert!(site.dial(address(&coordinator), coordinator.public()).await.is_ok());
}

/// sec_29, the part of this crate: half-open handshakes are bounded and newcomers still get in.
#[tokio::test]
async fn sec_29_half_open_handshakes_force_a_retry_and_a_site_still_gets_in() {
    let (site, coordinator) = (endpoint(1, admit_all()), endpoint(2, admit_all()));
    let held: Vec<HandshakeSlot> =
        (0..limits::HANDSHAKES_UNPROVEN_MAX).map(|_| HandshakeSlot::take(&coordinator.handshakes)).collect();
    let mut accepted = accepting(&coordinator);

    let link = site.dial(address(&coordinator), coordinator.public()).await.unwrap();

    assert_eq!(accepted.recv().await.unwrap().unwrap().peer(), site.public());
    assert_eq!(coordinator.handshakes.load(Ordering::Relaxed), held.len());
    drop(link);
}
