//! One live link to a proven peer, and its lanes: persistent streams that carry frames in order.
//!
//! Lanes have windows of their own and an order of urgency, so bulk on one never delays another. The side
//! that dialled opens them; the first byte tells which lane a stream is.

use std::fmt;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use quinn::{ConnectionError, ReadError, VarInt, WriteError};
use rustls::pki_types::CertificateDer;

use crate::error::{CloseCode, CloseReason, LinkLost, RecvError};
use crate::frame::{EncodedFrame, Frame, FrameDecoder};
use crate::identity::PublicKey;
use crate::pin::presented_key;
use crate::quic::{Alert, alert};

/// Pieces taken from QUIC in one go. A batch of 300 kB arrives in some 220 datagrams; more pieces in one go
/// gained nothing in the bench.
const PIECES_MAX: usize = 64;

/// What a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Enrollment, greeting, leave. Small, first in urgency.
    Control,
    /// What the coordinator wants the site to hold.
    Push,
    /// Batches and digests. Bulk, last in urgency.
    Ingest,
}

impl Lane {
    /// The first byte of the lane's stream.
    const fn tag(self) -> u8 {
        match self {
            Self::Control => 1,
            Self::Ingest => 2,
            Self::Push => 3,
        }
    }

    const fn from_tag(tag: u8) -> Option<Self> {
        match tag {
            1 => Some(Self::Control),
            2 => Some(Self::Ingest),
            3 => Some(Self::Push),
            _ => None,
        }
    }

    /// Higher goes first when the network is the bottleneck.
    const fn priority(self) -> i32 {
        match self {
            Self::Control => 2,
            Self::Push => 1,
            Self::Ingest => 0,
        }
    }
}

/// A link to a peer that has proven its key. Cheap to clone; it closes when the last clone and the last
/// lane are dropped.
#[derive(Clone)]
pub struct Link {
    connection: quinn::Connection,
    peer: PublicKey,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({} at {})", self.peer, self.connection.remote_address())
    }
}

impl Link {
    pub(crate) const fn new(connection: quinn::Connection, peer: PublicKey) -> Self {
        Self { connection, peer }
    }

    /// The key that the other side of a finished handshake has proven.
    pub(crate) fn presented_peer(connection: &quinn::Connection) -> Option<PublicKey> {
        let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
        let (leaf, intermediates) = chain.split_first()?;
        presented_key(leaf, intermediates).ok()
    }

    /// The peer's identity key: the principal of everything that comes over this link.
    pub const fn peer(&self) -> PublicKey {
        self.peer
    }

    /// Where the peer is at present; it may move.
    pub fn remote_address(&self) -> SocketAddr {
        self.connection.remote_address()
    }

    /// The present estimate of the round trip.
    pub fn rtt(&self) -> Duration {
        self.connection.rtt()
    }

    /// Opens a lane; the peer sees it at once.
    ///
    /// # Errors
    /// The link is gone.
    pub async fn open(&self, lane: Lane) -> Result<(LaneSender, LaneReceiver), LinkLost> {
        let (mut stream, receiver) = self.connection.open_bi().await.map_err(|error| lost(&error))?;
        // Fails only on a stream that is already gone, which the write reports.
        let _ = stream.set_priority(lane.priority());
        stream.write_all(&[lane.tag()]).await.map_err(|error| self.write_error(&error))?;
        Ok(self.lane(stream, receiver))
    }

    /// Waits for the next lane that the peer opens. A stream that is none of the known lanes is closed and
    /// skipped, for newer peers may have more.
    ///
    /// # Errors
    /// The link is gone.
    pub async fn accept_lane(&self) -> Result<(Lane, LaneSender, LaneReceiver), LinkLost> {
        loop {
            let (stream, mut receiver) = self.connection.accept_bi().await.map_err(|error| lost(&error))?;
            let mut tag = [0];
            let lane = match receiver.read_exact(&mut tag).await {
                Ok(()) => Lane::from_tag(tag[0]),
                Err(quinn::ReadExactError::ReadError(ReadError::ConnectionLost(error))) => {
                    return Err(lost(&error));
                }
                Err(quinn::ReadExactError::FinishedEarly(_) | quinn::ReadExactError::ReadError(_)) => None,
            };
            if let Some(lane) = lane {
                let _ = stream.set_priority(lane.priority());
                let (sender, receiver) = self.lane(stream, receiver);
                return Ok((lane, sender, receiver));
            }
        }
    }

    /// Closes the link and tells the peer why. Frames not yet delivered are lost.
    pub fn close(&self, code: CloseCode) {
        self.connection.close(VarInt::from_u32(code.number()), code.as_str().as_bytes());
    }

    /// Waits until the link is gone, and says how. Cancel safe.
    pub async fn closed(&self) -> CloseReason {
        close_reason(&self.connection.closed().await)
    }

    /// How the link ended, if it did.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.connection.close_reason().as_ref().map(close_reason)
    }

    #[cfg(test)]
    pub(crate) const fn connection_for_tests(&self) -> &quinn::Connection {
        &self.connection
    }

    fn lane(&self, stream: quinn::SendStream, receiver: quinn::RecvStream) -> (LaneSender, LaneReceiver) {
        (
            LaneSender { stream, link: self.clone(), is_torn: false },
            LaneReceiver { stream: receiver, decoder: FrameDecoder::default() },
        )
    }

    fn write_error(&self, error: &WriteError) -> LinkLost {
        match error {
            WriteError::ConnectionLost(error) => lost(error),
            WriteError::Stopped(_) | WriteError::ClosedStream | WriteError::ZeroRttRejected => LinkLost(
                self.close_reason().unwrap_or_else(|| CloseReason::Broken("the lane is closed".to_owned())),
            ),
        }
    }
}

/// The sending half of a lane. Dropping it ends the lane for the peer once everything sent has arrived.
pub struct LaneSender {
    stream: quinn::SendStream,
    link: Link,
    is_torn: bool,
}

impl fmt::Debug for LaneSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LaneSender({:?})", self.link)
    }
}

impl LaneSender {
    /// Hands a frame to QUIC; returns when it is queued, not when it has arrived. Waits while the peer's
    /// window is full.
    ///
    /// Not cancel safe: when the future is dropped half-way the lane is torn, and every later send fails.
    ///
    /// # Errors
    /// The link is gone, or the lane is torn.
    pub async fn send(&mut self, frame: &EncodedFrame) -> Result<(), LinkLost> {
        if self.is_torn {
            return Err(LinkLost(CloseReason::Broken("an earlier frame was cut off".to_owned())));
        }
        self.is_torn = true;
        let mut pieces = frame.pieces();
        let count = if pieces[1].is_empty() { 1 } else { 2 };
        let written = self.stream.write_all_chunks(&mut pieces[..count]).await;
        written.map_err(|error| self.link.write_error(&error))?;
        self.is_torn = false;
        Ok(())
    }
}

/// The receiving half of a lane. Dropping it tells the peer to stop sending.
pub struct LaneReceiver {
    stream: quinn::RecvStream,
    decoder: FrameDecoder,
}

impl fmt::Debug for LaneReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LaneReceiver({:?})", self.decoder)
    }
}

impl LaneReceiver {
    /// Waits for the next frame of at most `bytes_max` bytes: `limits::sync::FRAME_BYTES_MAX`, or the smaller
    /// bound while the peer is not enrolled. Cancel safe: nothing is lost.
    ///
    /// # Errors
    /// See [`RecvError`]. After a broken frame the lane stays broken.
    pub async fn recv(&mut self, bytes_max: usize) -> Result<Frame, RecvError> {
        loop {
            if let Some(frame) = self.decoder.next_frame(bytes_max)? {
                return Ok(frame);
            }
            // One piece is waited for, and what came with it taken after: most lanes are quiet for hours, and a
            // waiting future should be small.
            match self.stream.read_chunk(usize::MAX, true).await {
                Ok(Some(piece)) => self.decoder.push(&piece.bytes),
                Ok(None) => return Err(RecvError::LaneEnded),
                Err(error) => return Err(read_error(&error)),
            }
            self.take_waiting();
        }
    }

    /// Takes what has arrived already. An end or an error comes again with the next read.
    fn take_waiting(&mut self) {
        let mut pieces = [const { Bytes::new() }; PIECES_MAX];
        // Nothing is waited for here; the next read asks again, with its own waker.
        let mut idle = Context::from_waker(Waker::noop());
        let taken = pin!(self.stream.read_chunks(&mut pieces)).poll(&mut idle);
        let Poll::Ready(Ok(Some(count))) = taken else { return };
        for piece in &pieces[..count] {
            self.decoder.push(piece);
        }
    }
}

fn read_error(error: &ReadError) -> RecvError {
    match error {
        ReadError::ConnectionLost(error) => RecvError::Lost(lost(error)),
        ReadError::Reset(_)
        | ReadError::ClosedStream
        | ReadError::IllegalOrderedRead
        | ReadError::ZeroRttRejected => RecvError::LaneEnded,
    }
}

fn lost(error: &ConnectionError) -> LinkLost {
    LinkLost(close_reason(error))
}

fn close_reason(error: &ConnectionError) -> CloseReason {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            CloseReason::Peer(CloseCode::from_number(close.error_code.into()))
        }
        ConnectionError::LocallyClosed => CloseReason::Here,
        ConnectionError::TimedOut => CloseReason::Idle,
        ConnectionError::Reset => CloseReason::Reset,
        ConnectionError::ConnectionClosed(_) | ConnectionError::TransportError(_) => match alert(error) {
            Some(Alert::Certificate { ours: false }) => CloseReason::NotAdmitted,
            Some(Alert::Certificate { ours: true } | Alert::Version) | None => {
                CloseReason::Broken(error.to_string())
            }
        },
        ConnectionError::VersionMismatch | ConnectionError::CidsExhausted => {
            CloseReason::Broken(error.to_string())
        }
    }
}
