//! The QUIC endpoint of a node: one UDP socket that accepts links and dials them.
//!
//! Strangers are stopped before anything of ours is touched: a key that the node's [`Admission`] does not
//! know fails in the TLS handshake, open handshakes are bounded, and above a first bound an address must be
//! proven before it costs memory.

use std::fmt;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ConnectError, ConnectionError, VarInt};
use rustix::net::sockopt;
use tokio::time::timeout;

use hansa_model::limits::link as limits;

use crate::error::{AcceptError, BindError, CloseCode, DialError};
use crate::identity::{IdentityKey, PublicKey};
use crate::link::Link;
use crate::pin::{Admission, NodeCertificate, PinnedPeer};
use crate::restart;

/// The name in every client hello. It means nothing: the peer is its key.
const SERVER_NAME: &str = "hansa";
/// TLS alerts by which a side says that it does not take the other's certificate (RFC 8446, section 6.2).
const CERTIFICATE_ALERTS: [u8; 8] = [42, 43, 44, 45, 46, 48, 49, 116];
/// TLS alert for a handshake signature that does not verify.
const ALERT_DECRYPT_ERROR: u8 = 51;
/// TLS alerts for no common protocol version and no common ALPN.
const VERSION_ALERTS: [u8; 2] = [70, 120];

/// The UDP socket under an endpoint: the system's, or in a simulation the world's.
#[derive(Debug)]
pub struct Socket(SocketKind);

#[derive(Debug)]
enum SocketKind {
    System(UdpSocket),
    #[cfg(any(test, feature = "testing"))]
    Abstract {
        socket: Arc<dyn quinn::AsyncUdpSocket>,
        runtime: Arc<dyn quinn::Runtime>,
    },
}

impl From<UdpSocket> for Socket {
    fn from(socket: UdpSocket) -> Self {
        Self(SocketKind::System(socket))
    }
}

impl Socket {
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn from_abstract(
        socket: Arc<dyn quinn::AsyncUdpSocket>,
        runtime: Arc<dyn quinn::Runtime>,
    ) -> Self {
        Self(SocketKind::Abstract { socket, runtime })
    }

    fn into_endpoint(
        self,
        config: quinn::EndpointConfig,
        server: quinn::ServerConfig,
    ) -> std::io::Result<quinn::Endpoint> {
        match self.0 {
            SocketKind::System(socket) => {
                let has_room = sockopt::socket_recv_buffer_size(&socket)
                    .is_ok_and(|bytes| bytes >= limits::SOCKET_RECEIVE_BYTES);
                if !has_room {
                    // A system that refuses leaves what the socket has: links are slower under load, nothing else.
                    let _ = sockopt::set_socket_recv_buffer_size(&socket, limits::SOCKET_RECEIVE_BYTES);
                }
                quinn::Endpoint::new(config, Some(server), socket, Arc::new(quinn::TokioRuntime))
            }
            #[cfg(any(test, feature = "testing"))]
            SocketKind::Abstract { socket, runtime } => {
                quinn::Endpoint::new_with_abstract_socket(config, Some(server), socket, runtime)
            }
        }
    }
}

/// How an endpoint behaves. The durations default to the bounds of `limits::link`.
#[derive(Clone)]
pub struct EndpointConfig {
    /// Who the node is, for both directions.
    pub identity: IdentityKey,
    /// Which keys may connect: those of pending, enrolled and suspended sites. Asked in each handshake.
    pub admission: Admission,
    /// Seed of the endpoint's own randomness; `None` in production.
    pub rng_seed: Option<[u8; 32]>,
    /// A link on which nothing is heard for this long is dead.
    pub idle_max: Duration,
    /// Between keep-alives of a link that this side dialled.
    pub keep_alive: Duration,
    /// Time for one handshake.
    pub handshake_wait_max: Duration,
}

impl EndpointConfig {
    /// The configuration of production.
    pub fn new(identity: IdentityKey, admission: Admission) -> Self {
        Self {
            identity,
            admission,
            rng_seed: None,
            idle_max: limits::IDLE_MAX,
            keep_alive: limits::KEEP_ALIVE,
            handshake_wait_max: limits::HANDSHAKE_WAIT_MAX,
        }
    }
}

impl fmt::Debug for EndpointConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointConfig")
            .field("identity", &self.identity)
            .field("idle_max", &self.idle_max)
            .field("keep_alive", &self.keep_alive)
            .field("handshake_wait_max", &self.handshake_wait_max)
            .finish_non_exhaustive()
    }
}

/// A node's end of all its links. Cheap to clone; dropping the last clone and the last link frees the socket.
#[derive(Clone)]
pub struct Endpoint {
    quic: quinn::Endpoint,
    certificate: NodeCertificate,
    public: PublicKey,
    dialling: Arc<quinn::TransportConfig>,
    handshake_wait_max: Duration,
    handshakes: Arc<AtomicUsize>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.public)
    }
}

impl Endpoint {
    /// Takes the socket into use, for dialling and for accepting. Call it inside the runtime that will drive it.
    ///
    /// # Errors
    /// The socket or the identity cannot be used; both are a matter of configuration.
    pub fn bind(socket: impl Into<Socket>, config: EndpointConfig) -> Result<Self, BindError> {
        let certificate = NodeCertificate::new(&config.identity).map_err(BindError::Identity)?;
        let server = server_config(&certificate, &config).map_err(BindError::Identity)?;
        let mut endpoint = restart::endpoint_config(&config.identity);
        endpoint.rng_seed(config.rng_seed);
        let quic = socket.into().into_endpoint(endpoint, server).map_err(BindError::Socket)?;
        Ok(Self {
            quic,
            certificate,
            public: config.identity.public(),
            dialling: Arc::new(transport_config(&config, Some(config.keep_alive))),
            handshake_wait_max: config.handshake_wait_max,
            handshakes: Arc::default(),
        })
    }

    /// The key that this node shows.
    pub const fn public(&self) -> PublicKey {
        self.public
    }

    /// The address of the socket.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.quic.local_addr()
    }

    /// Waits for the next newcomer worth a handshake; `None` once the endpoint is closed. Complete the
    /// handshake in a task of its own, so that a slow one delays nobody. Cancel safe.
    pub async fn accept(&self) -> Option<Incoming> {
        loop {
            let incoming = self.quic.accept().await?;
            let open = self.handshakes.load(Ordering::Relaxed);
            if open >= limits::HANDSHAKES_MAX {
                incoming.ignore();
            } else if open >= limits::HANDSHAKES_UNPROVEN_MAX && incoming.may_retry() {
                // Only an incoming that was already retried is refused, and that was just asked.
                let _ = incoming.retry();
            } else {
                let slot = HandshakeSlot::take(&self.handshakes);
                return Some(Incoming { incoming, wait_max: self.handshake_wait_max, slot });
            }
        }
    }

    /// Dials the node that holds `peer` at an address. Returns once the peer has accepted our key too.
    ///
    /// # Errors
    /// See [`DialError`]; each says what to do.
    pub async fn dial(&self, address: SocketAddr, peer: PublicKey) -> Result<Link, DialError> {
        let pinned = Arc::new(PinnedPeer::new(peer));
        let config = self.client_config(pinned.clone()).map_err(DialError::Handshake)?;
        let connecting = self
            .quic
            .connect_with(config, address, SERVER_NAME)
            .map_err(|error| connect_error(&error, address))?;
        let handshake = async {
            let connection = connecting.await?;
            greeted(&connection).await?;
            Ok(connection)
        };
        match timeout(self.handshake_wait_max, handshake).await {
            Ok(Ok(connection)) => Ok(Link::new(connection, peer)),
            Ok(Err(error)) => Err(dial_error(&error, address, &pinned)),
            Err(_elapsed) => Err(DialError::Unreachable { address }),
        }
    }

    /// Closes every link with a code, stops accepting, and waits a moment for the peers to hear of it.
    pub async fn close(&self, code: CloseCode) {
        self.quic.close(VarInt::from_u32(code.number()), code.as_str().as_bytes());
        // Whoever has not heard by then finds out by its idle time.
        let _ = timeout(limits::CLOSE_WAIT_MAX, self.quic.wait_idle()).await;
    }

    fn client_config(&self, peer: Arc<PinnedPeer>) -> Result<quinn::ClientConfig, String> {
        let tls = self.certificate.client_config(peer).map_err(|error| error.to_string())?;
        let quic = QuicClientConfig::try_from(tls).map_err(|error| error.to_string())?;
        let mut config = quinn::ClientConfig::new(Arc::new(quic));
        config.transport_config(self.dialling.clone());
        Ok(config)
    }
}

/// A newcomer whose handshake has not begun. Dropping it refuses the newcomer.
pub struct Incoming {
    incoming: quinn::Incoming,
    wait_max: Duration,
    slot: HandshakeSlot,
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Incoming({})", self.incoming.remote_address())
    }
}

impl Incoming {
    /// Where the newcomer says it is.
    pub fn remote_address(&self) -> SocketAddr {
        self.incoming.remote_address()
    }

    /// Completes the handshake. The link's peer is then proven to hold an admitted key.
    ///
    /// # Errors
    /// See [`AcceptError`]: never this node's fault, nothing to do.
    pub async fn complete(self) -> Result<Link, AcceptError> {
        let Self { incoming, wait_max, slot } = self;
        let handshake = async {
            let connection = incoming.accept()?.await?;
            greet(&connection).await?;
            Ok(connection)
        };
        let connection = match timeout(wait_max, handshake).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(accept_error(&error)),
            Err(_elapsed) => return Err(AcceptError::TimedOut),
        };
        drop(slot);
        let peer = Link::presented_peer(&connection).ok_or(AcceptError::NotAdmitted)?;
        Ok(Link::new(connection, peer))
    }
}

/// Counts one open handshake for as long as it lives.
struct HandshakeSlot(Arc<AtomicUsize>);

impl HandshakeSlot {
    fn take(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for HandshakeSlot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Tells the dialling side that its key was accepted: in TLS 1.3 a client is done before its certificate
/// was looked at. One unidirectional stream with one byte, which means nothing yet.
async fn greet(connection: &quinn::Connection) -> Result<(), ConnectionError> {
    let mut stream = connection.open_uni().await?;
    match stream.write_all(&[0]).await {
        Ok(()) => {}
        Err(quinn::WriteError::ConnectionLost(error)) => return Err(error),
        // A peer that does not want to be greeted is dealt with on its lanes.
        Err(
            quinn::WriteError::Stopped(_)
            | quinn::WriteError::ClosedStream
            | quinn::WriteError::ZeroRttRejected,
        ) => {}
    }
    Ok(())
}

/// Waits for the peer's greeting.
async fn greeted(connection: &quinn::Connection) -> Result<(), ConnectionError> {
    connection.accept_uni().await.map(drop)
}

fn server_config(
    certificate: &NodeCertificate,
    config: &EndpointConfig,
) -> Result<quinn::ServerConfig, String> {
    let tls = certificate.server_config(config.admission.clone()).map_err(|error| error.to_string())?;
    let quic = QuicServerConfig::try_from(tls).map_err(|error| error.to_string())?;
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(quic));
    let mut no_tokens = quinn::ValidationTokenConfig::default();
    no_tokens.sent(0);
    server
        .transport_config(Arc::new(transport_config(config, None)))
        .validation_token_config(no_tokens)
        .max_incoming(limits::INCOMING_MAX)
        .incoming_buffer_size(limits::INCOMING_ONE_BYTES_MAX)
        .incoming_buffer_size_total(limits::INCOMING_BYTES_MAX);
    Ok(server)
}

fn transport_config(config: &EndpointConfig, keep_alive: Option<Duration>) -> quinn::TransportConfig {
    let mut transport = quinn::TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(limits::LANES_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(1))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(limits::LANE_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(limits::LINK_WINDOW_BYTES))
        .send_window(limits::SEND_WINDOW_BYTES)
        // Beyond what QUIC can say there is no idle time at all, which nobody configures.
        .max_idle_timeout(quinn::IdleTimeout::try_from(config.idle_max).ok())
        .keep_alive_interval(keep_alive);
    transport
}

fn connect_error(error: &ConnectError, address: SocketAddr) -> DialError {
    match error {
        ConnectError::EndpointStopping => DialError::EndpointClosed,
        ConnectError::InvalidRemoteAddress(_) => DialError::Address { address },
        ConnectError::CidsExhausted
        | ConnectError::InvalidServerName(_)
        | ConnectError::NoDefaultClientConfig
        | ConnectError::UnsupportedVersion => DialError::Handshake(error.to_string()),
    }
}

fn dial_error(error: &ConnectionError, address: SocketAddr, pinned: &PinnedPeer) -> DialError {
    match error {
        ConnectionError::TimedOut => DialError::Unreachable { address },
        ConnectionError::VersionMismatch => DialError::Incompatible,
        ConnectionError::LocallyClosed => DialError::EndpointClosed,
        ConnectionError::ApplicationClosed(close) => {
            DialError::Closed(CloseCode::from_number(close.error_code.into()))
        }
        ConnectionError::TransportError(_) | ConnectionError::ConnectionClosed(_) => match alert(error) {
            Some(Alert::Certificate { ours: true }) => DialError::OtherKey { presented: pinned.presented() },
            Some(Alert::Certificate { ours: false }) => DialError::NotAdmitted,
            Some(Alert::Version) => DialError::Incompatible,
            None => DialError::Handshake(error.to_string()),
        },
        ConnectionError::Reset | ConnectionError::CidsExhausted => DialError::Handshake(error.to_string()),
    }
}

fn accept_error(error: &ConnectionError) -> AcceptError {
    match (error, alert(error)) {
        (ConnectionError::TimedOut, _) => AcceptError::TimedOut,
        (_, Some(Alert::Certificate { ours: true })) => AcceptError::NotAdmitted,
        (_, Some(Alert::Certificate { ours: false } | Alert::Version) | None) => {
            AcceptError::Handshake(error.to_string())
        }
    }
}

/// What a TLS alert among QUIC's errors says about the peers' certificates and versions.
pub(crate) enum Alert {
    /// A certificate was not taken: by us, or by the peer.
    Certificate { ours: bool },
    /// There is no common version.
    Version,
}

pub(crate) fn alert(error: &ConnectionError) -> Option<Alert> {
    let (code, ours) = match error {
        ConnectionError::TransportError(error) => (error.code, true),
        ConnectionError::ConnectionClosed(close) => (close.error_code, false),
        ConnectionError::VersionMismatch
        | ConnectionError::ApplicationClosed(_)
        | ConnectionError::Reset
        | ConnectionError::TimedOut
        | ConnectionError::LocallyClosed
        | ConnectionError::CidsExhausted => return None,
    };
    // RFC 9001, section 4.8: an alert is 0x100 plus its number.
    let number = u8::try_from(u64::from(code).checked_sub(0x100)?).ok()?;
    if CERTIFICATE_ALERTS.contains(&number) || number == ALERT_DECRYPT_ERROR {
        Some(Alert::Certificate { ours })
    } else if VERSION_ALERTS.contains(&number) {
        Some(Alert::Version)
    } else {
        None
    }
}

#[cfg(test)]
#[path = "quic_tests.rs"]
mod tests;
