//! Every way in which this crate can fail, split by what the caller does next.

use std::fmt;
use std::io;

use crate::identity::PublicKey;

/// Why a side closed a link. Travels as the application error code of QUIC's CONNECTION_CLOSE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseCode {
    /// No reason was given: the peer dropped the link. Dial again with back-off.
    Unsaid,
    /// The node stops. Dial again with back-off.
    ShuttingDown,
    /// The site is on hold. Keep dialling slowly to learn of a resume; nothing counts as a failure.
    Suspended,
    /// The site is no longer a member. Stop dialling; an operator must enroll it anew.
    Removed,
    /// The site's key is known but its enrollment is not complete, or has lapsed. Enroll first.
    NotEnrolled,
    /// A newer link of the same site took over. Do not dial again on behalf of this one.
    Replaced,
    /// The peer broke the protocol of frames. Dial again with back-off; the log of the closing side says more.
    ProtocolError,
    /// A code of a newer version. Dial again with back-off.
    Other(u32),
}

impl CloseCode {
    /// The number on the wire.
    pub const fn number(self) -> u32 {
        match self {
            // What QUIC sends when the last handle is dropped.
            Self::Unsaid => 0,
            Self::ShuttingDown => 1,
            Self::Suspended => 2,
            Self::Removed => 3,
            Self::NotEnrolled => 4,
            Self::Replaced => 5,
            Self::ProtocolError => 6,
            Self::Other(number) => number,
        }
    }

    /// The meaning of a number from the wire. Every number has one.
    pub fn from_number(number: u64) -> Self {
        match number {
            0 => Self::Unsaid,
            1 => Self::ShuttingDown,
            2 => Self::Suspended,
            3 => Self::Removed,
            4 => Self::NotEnrolled,
            5 => Self::Replaced,
            6 => Self::ProtocolError,
            other => Self::Other(u32::try_from(other).unwrap_or(u32::MAX)),
        }
    }

    /// A short text for the peer's log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unsaid => "no reason given",
            Self::ShuttingDown => "shutting down",
            Self::Suspended => "site suspended",
            Self::Removed => "site removed",
            Self::NotEnrolled => "site not enrolled",
            Self::Replaced => "replaced by a newer link",
            Self::ProtocolError => "protocol error",
            Self::Other(_) => "closed for a reason of a newer version",
        }
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a link ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer closed it and said why. See [`CloseCode`] for what to do.
    Peer(CloseCode),
    /// This side closed it.
    Here,
    /// Nothing was heard for the idle time: cable, crash or sleep. Dial again with back-off.
    Idle,
    /// The peer does not know this link any more; it has restarted. Dial again at once.
    Reset,
    /// The peer does not accept our identity key. Dial again slowly; an operator must exchange keys.
    NotAdmitted,
    /// One side broke QUIC or TLS. Dial again with back-off, and tell the log.
    Broken(String),
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(code) => write!(f, "closed by the peer: {code}"),
            Self::Here => f.write_str("closed by this side"),
            Self::Idle => f.write_str("nothing heard from the peer"),
            Self::Reset => f.write_str("the peer has restarted"),
            Self::NotAdmitted => f.write_str("the peer does not know our identity key"),
            Self::Broken(what) => f.write_str(what),
        }
    }
}

/// The link is gone. What was sent and not answered may or may not have arrived.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("link lost: {0}")]
pub struct LinkLost(pub CloseReason);

/// Bytes that are no frame, or a frame that is no message. The sender is defective: close the link with
/// [`CloseCode::ProtocolError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length field exceeds the bound; nothing was allocated for it.
    #[error("a frame of {bytes} bytes exceeds the bound of {bytes_max}")]
    TooLong {
        /// As the peer announced it.
        bytes: usize,
        /// As this side allows it.
        bytes_max: usize,
    },
    /// The length field has no room for version and kind.
    #[error("a frame of {bytes} bytes has no room for its head")]
    TooShort {
        /// As the peer announced it.
        bytes: usize,
    },
    /// The frame has a layout that this version does not know. One of the nodes needs an update.
    #[error("frame layout {version} is not known here: update the older of the two nodes")]
    Version {
        /// The frame's version byte.
        version: u8,
    },
    /// The payload of a known kind does not decode.
    #[error("the payload of message kind {kind:#06x} does not decode")]
    Malformed {
        /// The frame's kind.
        kind: u16,
    },
}

/// Why no frame came out of a lane.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecvError {
    /// The peer ended this lane; the link may live on.
    #[error("the peer ended the lane")]
    LaneEnded,
    /// The peer sent what is no frame. Close the link with [`CloseCode::ProtocolError`].
    #[error("the peer sent something that is no frame")]
    Frame(#[from] FrameError),
    /// The link is gone. Dial again as its [`CloseReason`] says.
    #[error(transparent)]
    Lost(#[from] LinkLost),
}

/// Why a dial gave no link.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// Nobody answered in time. Dial again with back-off.
    #[error("no answer from {address}: check that the peer runs and that UDP reaches it")]
    Unreachable {
        /// The address dialled.
        address: std::net::SocketAddr,
    },
    /// The peer holds another key than the pinned one. Tell an operator: the address is wrong, the peer
    /// was set up anew, or somebody stands between. Dial again slowly.
    #[error("the peer's identity key is not the pinned one: compare fingerprints with its operator")]
    OtherKey {
        /// What the peer presented, where it was an identity key at all.
        presented: Option<PublicKey>,
    },
    /// The peer does not know our key. Dial again slowly; its operator must add our key.
    #[error("the peer does not know our identity key: its operator must add this node's key")]
    NotAdmitted,
    /// The peer speaks no version of ours. Update the older node; dial again slowly.
    #[error("the peer speaks another protocol version: update the older of the two nodes")]
    Incompatible,
    /// The peer completed the handshake and closed the link. See [`CloseCode`] for what to do.
    #[error("closed by the peer: {0}")]
    Closed(CloseCode),
    /// The address cannot be dialled from this socket (port 0, or IPv6 from an IPv4 socket).
    #[error("{address} cannot be dialled from this node's federation address")]
    Address {
        /// The address dialled.
        address: std::net::SocketAddr,
    },
    /// This endpoint was closed. Do not dial again.
    #[error("this node's endpoint is closed")]
    EndpointClosed,
    /// The handshake broke in another way. Dial again with back-off.
    #[error("the handshake failed: {0}")]
    Handshake(String),
}

/// Why an incoming handshake gave no link. The peer's fault or the network's: nothing to do but to go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AcceptError {
    /// The peer's key is none that may connect, or its certificate is none of ours.
    #[error("the peer's identity key is not admitted")]
    NotAdmitted,
    /// The peer did not finish in time.
    #[error("the handshake was not finished in time")]
    TimedOut,
    /// The handshake broke in another way.
    #[error("the handshake failed: {0}")]
    Handshake(String),
}

/// Why an endpoint did not come up. Fix the configuration and start again.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The socket cannot be used.
    #[error("the federation socket cannot be used")]
    Socket(#[source] io::Error),
    /// The identity key gives no usable TLS configuration.
    #[error("the identity key gives no TLS configuration: {0}")]
    Identity(String),
}

/// Why a call to a peer over HTTP gave no answer. An answer with an error status is an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerHttpError {
    /// The URL or a header cannot be sent. Fix the configuration; do not try again.
    #[error("{0}")]
    Request(&'static str),
    /// The peer's name resolves to an address that no peer has. Fix the configuration; do not try again.
    #[error("the peer's address is link-local, multicast or unspecified, where no peer may live")]
    ForbiddenAddress,
    /// No connection, or it broke. Try again with back-off.
    #[error("the peer was not reached: {0}")]
    Unreachable(String),
    /// No complete answer in time. Try again with back-off.
    #[error("the peer did not answer in time")]
    TimedOut,
    /// The answer exceeds the bound. Trying again will not help.
    #[error("the peer's answer exceeds {bytes_max} bytes")]
    TooLong {
        /// The bound.
        bytes_max: usize,
    },
}

/// Why the HTTP listener has no TLS. Fix the files and start again.
#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    /// A file has no certificate in PEM.
    #[error("the TLS certificate file holds no certificate in PEM")]
    NoCertificate,
    /// A file has no private key in PEM.
    #[error("the TLS key file holds no private key in PEM")]
    NoKey,
    /// Key and certificate do not fit, or are of a kind that cannot be served.
    #[error("the TLS certificate and key cannot be used: {0}")]
    Unusable(String),
    /// A certificate authority file cannot be used.
    #[error("the certificate authority file holds no usable certificate")]
    NoAuthority,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_close_code_survives_the_wire_and_unknown_ones_are_kept() {
        let codes = [
            CloseCode::Unsaid,
            CloseCode::ShuttingDown,
            CloseCode::Suspended,
            CloseCode::Removed,
            CloseCode::NotEnrolled,
            CloseCode::Replaced,
            CloseCode::ProtocolError,
            CloseCode::Other(77),
        ];
        for code in codes {
            assert_eq!(CloseCode::from_number(u64::from(code.number())), code);
        }
        assert_eq!(CloseCode::from_number(u64::MAX), CloseCode::Other(u32::MAX));
    }
}
