//! Frames: the only shape of bytes on a lane. Bytes in, bytes out; no socket, no clock.
//!
//! ```text
//! ┌──────────────┬───────────┬────────────┬─────────────────────┐
//! │ length u32 LE│ version u8│ kind u16 LE│ payload (length - 3)│
//! └──────────────┴───────────┴────────────┴─────────────────────┘
//! ```
//!
//! The length counts what follows it. What a kind means stands in [`crate::wire`] and `docs/wire.md`.

use std::fmt;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use crate::error::FrameError;

/// The layout written and understood. New kinds and trailing fields do not change it; a new layout does.
pub const FRAME_VERSION: u8 = 1;
/// Bytes of the length field.
const LENGTH_BYTES: usize = 4;
/// Bytes of version and kind.
const HEAD_BYTES: usize = 3;
/// Memory taken on the word of a length field alone; beyond it the buffer grows with what arrives. A
/// usual batch needs few growths, and a peer that only announces gets no more than this.
const RESERVE_BYTES_MAX: usize = 64 * 1024;

/// One received frame.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// What the payload is; see [`crate::wire`].
    pub kind: u16,
    /// Everything behind the head.
    pub payload: Bytes,
}

impl fmt::Debug for Frame {
    /// Never the payload: it may hold a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame(kind {:#06x}, {} bytes)", self.kind, self.payload.len())
    }
}

/// One frame ready to be sent: a small head and a body that is never copied. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct EncodedFrame {
    head: Bytes,
    body: Bytes,
}

impl EncodedFrame {
    /// A frame whose payload is `start` followed by `body`.
    ///
    /// # Panics
    /// When the payload exceeds 4 GiB, a thousand times the bound of any frame.
    pub fn new(kind: u16, start: &[u8], body: Bytes) -> Self {
        let length = u32::try_from(HEAD_BYTES + start.len() + body.len()).expect("a payload is below 4 GiB");
        let mut head = BytesMut::with_capacity(LENGTH_BYTES + HEAD_BYTES + start.len());
        head.put_u32_le(length);
        head.put_u8(FRAME_VERSION);
        head.put_u16_le(kind);
        head.put_slice(start);
        Self { head: head.freeze(), body }
    }

    /// Bytes that the peer's bound is compared with: all but the length field.
    pub fn bounded_len(&self) -> usize {
        self.head.len() - LENGTH_BYTES + self.body.len()
    }

    /// The frame in the one or two pieces in which it is written.
    pub(crate) fn pieces(&self) -> [Bytes; 2] {
        [self.head.clone(), self.body.clone()]
    }

    /// The frame in one piece; copies. For tests and captures.
    pub fn to_vec(&self) -> Vec<u8> {
        [self.head.as_ref(), self.body.as_ref()].concat()
    }
}

impl fmt::Debug for EncodedFrame {
    /// Never the payload: it may hold a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncodedFrame({} bytes)", self.head.len() + self.body.len())
    }
}

/// Cuts a stream of bytes into frames.
#[derive(Default)]
pub struct FrameDecoder {
    buffer: BytesMut,
}

impl FrameDecoder {
    /// Takes what arrived. The caller calls [`FrameDecoder::next_frame`] until it gives none, then this
    /// again; so no more is held than one frame and one read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete frame, or `None` when more bytes are needed.
    ///
    /// # Errors
    /// The stream is broken at this point and stays so: the same error comes again.
    pub fn next_frame(&mut self, bytes_max: usize) -> Result<Option<Frame>, FrameError> {
        let Some(length) = self.frame_length(bytes_max)? else { return Ok(None) };
        let missing = (LENGTH_BYTES + length).saturating_sub(self.buffer.len());
        if missing > 0 {
            self.buffer.reserve(missing.min(RESERVE_BYTES_MAX));
            return Ok(None);
        }
        let mut frame = self.buffer.split_to(LENGTH_BYTES + length);
        frame.advance(LENGTH_BYTES + 1);
        let kind = frame.get_u16_le();
        if self.buffer.is_empty() {
            // An empty rest would keep the memory of what was split from it, for as long as the lane is quiet.
            self.buffer = BytesMut::new();
        }
        Ok(Some(Frame { kind, payload: frame.freeze() }))
    }

    /// Reads and checks length and version, as far as they are here. Takes no memory.
    fn frame_length(&self, bytes_max: usize) -> Result<Option<usize>, FrameError> {
        let Some((length, rest)) = self.buffer.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let bytes = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        if bytes > bytes_max {
            return Err(FrameError::TooLong { bytes, bytes_max });
        }
        if bytes < HEAD_BYTES {
            return Err(FrameError::TooShort { bytes });
        }
        match rest.first() {
            Some(&version) if version != FRAME_VERSION => Err(FrameError::Version { version }),
            Some(_) | None => Ok(Some(bytes)),
        }
    }
}

impl fmt::Debug for FrameDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FrameDecoder({} bytes)", self.buffer.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frame_has_the_documented_layout() {
        let frame = EncodedFrame::new(0x0203, b"ab", Bytes::from_static(b"cd"));

        assert_eq!(frame.to_vec(), [7, 0, 0, 0, 1, 3, 2, b'a', b'b', b'c', b'd']);
        assert_eq!(frame.bounded_len(), 7);
    }

    #[test]
    fn oversized_frame_is_refused_without_memory_for_it() {
        let mut decoder = FrameDecoder::default();
        decoder.push(&u32::MAX.to_le_bytes());

        let refused = decoder.next_frame(1_024);

        assert_eq!(refused, Err(FrameError::TooLong { bytes: u32::MAX as usize, bytes_max: 1_024 }));
        assert!(decoder.buffer.capacity() < 1_024);
    }

    #[test]
    fn announced_frame_takes_little_memory_before_it_arrives() {
        let mut decoder = FrameDecoder::default();
        decoder.push(&(8 * 1024 * 1024_u32).to_le_bytes());

        assert_eq!(decoder.next_frame(8 * 1024 * 1024), Ok(None));
        assert!(decoder.buffer.capacity() <= 2 * RESERVE_BYTES_MAX);
    }

    #[test]
    fn frame_exactly_at_the_bound_passes() {
        let frame = EncodedFrame::new(1, &[0; 97], Bytes::new());
        let mut decoder = FrameDecoder::default();
        decoder.push(&frame.to_vec());

        assert_eq!(decoder.next_frame(99), Err(FrameError::TooLong { bytes: 100, bytes_max: 99 }));
        assert!(decoder.next_frame(100).unwrap().is_some());
    }

    #[test]
    fn other_layouts_and_headless_frames_are_refused() {
        for (bytes, error) in [
            ([3, 0, 0, 0, 2, 0, 0], FrameError::Version { version: 2 }),
            ([2, 0, 0, 0, 1, 0, 0], FrameError::TooShort { bytes: 2 }),
        ] {
            let mut decoder = FrameDecoder::default();
            decoder.push(&bytes);

            assert_eq!(decoder.next_frame(100), Err(error));
            assert_eq!(decoder.next_frame(100), Err(error), "the stream stays broken");
        }
    }

    #[test]
    fn debug_shows_no_payload() {
        let frame = Frame { kind: 1, payload: Bytes::from_static(b"hunter2") };

        assert_eq!(format!("{frame:?}"), "Frame(kind 0x0001, 7 bytes)");
        assert!(!format!("{:?}", EncodedFrame::new(1, b"hunter2", Bytes::new())).contains("hunter2"));
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_the_stream_is_cut(
            frames in prop::collection::vec((any::<u16>(), prop::collection::vec(any::<u8>(), 0..200)), 0..8),
            cut in 1_usize..50,
        ) {
            let stream: Vec<u8> = frames
                .iter()
                .flat_map(|(kind, payload)| EncodedFrame::new(*kind, payload, Bytes::new()).to_vec())
                .collect();
            let mut decoder = FrameDecoder::default();
            let mut decoded = Vec::new();

            for piece in stream.chunks(cut) {
                decoder.push(piece);
                while let Some(frame) = decoder.next_frame(1_000).unwrap() {
                    decoded.push((frame.kind, frame.payload.to_vec()));
                }
            }

            prop_assert_eq!(decoded, frames);
        }

        #[test]
        fn decoder_never_panics_and_never_holds_more_than_it_was_given(
            bytes in prop::collection::vec(any::<u8>(), 0..400),
        ) {
            let mut decoder = FrameDecoder::default();
            decoder.push(&bytes);

            let mut taken = 0;
            while let Ok(Some(frame)) = decoder.next_frame(10_000) {
                taken += frame.payload.len() + LENGTH_BYTES + HEAD_BYTES;
            }

            prop_assert!(taken <= bytes.len());
        }
    }
}
