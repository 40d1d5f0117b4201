//! The seam of simulations: an endpoint on the world's network instead of the system's.
//!
//! The only place where types of quinn cross the surface of this crate.

use std::sync::Arc;

use crate::quic::Socket;

pub use quinn;

/// A socket of the world's, driven by the world's clock. Everything above it is production code.
pub fn abstract_socket(socket: Arc<dyn quinn::AsyncUdpSocket>, runtime: Arc<dyn quinn::Runtime>) -> Socket {
    Socket::from_abstract(socket, runtime)
}
