//! How nodes of hansa know and reach each other: identity, pinned QUIC links, frames, and HTTP to peers.
//!
//! ```text
//!  actors ── Up, Down ──► wire ── EncodedFrame ──► frame ──► link (lanes) ──► quic ──► UDP
//!                                                              │
//!                                  identity ◄── pin (TLS: a peer is exactly its key)
//! ```
//!
//! This is the only crate that knows quinn, rustls and rcgen, and none of their types crosses its surface,
//! save the simulation's seam in `testing`. It decides nothing about membership: which keys may connect is a
//! callback, and what a message means is for the actors.

pub mod certificate;
pub mod error;
pub mod frame;
pub mod http;
pub mod identity;
mod link;
mod pin;
mod push;
mod quic;
mod restart;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod tls;
pub mod wire;

pub use certificate::TlsCertificate;
pub use error::{
    AcceptError, BindError, CloseCode, CloseReason, DialError, FrameError, LinkLost, PeerHttpError,
    RecvError, TlsSetupError,
};
pub use frame::{EncodedFrame, Frame};
pub use http::{PeerAnswer, PeerCall, PeerClient, PeerClientConfig, PeerHttp, PeerRequest};
pub use identity::{IdentityKey, PublicKey};
pub use link::{Lane, LaneReceiver, LaneSender, Link};
pub use pin::Admission;
pub use quic::{Endpoint, EndpointConfig, Incoming, Socket};
pub use tls::{TlsAcceptor, TlsStream};
