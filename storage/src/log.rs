//! How a log's record lies in its table: in pieces that fill the engine's pages.
//!
//! The engine rounds a record up to a power of two pages, so 300 kB in one record takes 512 KiB; in pieces
//! just below 64 KiB it takes what it is. The key of a piece is the record's position and the piece's
//! number, both big-endian. The first piece begins with the layout version and the length of the whole.

/// Bytes of one piece, its header included: a page of 64 KiB less the room that the engine's own
/// bookkeeping needs. Measured in `benches/store.rs`.
pub(crate) const PIECE_BYTES: usize = 65_000;
const HEADER_BYTES: usize = 5;
const KEY_BYTES: usize = 10;

/// One piece of a record, ready to be copied into the engine's page.
pub(crate) struct Piece<'a> {
    pub(crate) key: [u8; KEY_BYTES],
    header: Option<[u8; HEADER_BYTES]>,
    bytes: &'a [u8],
}

impl Piece<'_> {
    pub(crate) fn len(&self) -> usize {
        self.header.map_or(0, |header| header.len()) + self.bytes.len()
    }

    /// Copies the piece into room of exactly its length.
    pub(crate) fn write_to(&self, room: &mut [u8]) {
        let (header, bytes) = room.split_at_mut(self.len() - self.bytes.len());
        if let Some(own) = &self.header {
            header.copy_from_slice(own);
        }
        bytes.copy_from_slice(self.bytes);
    }
}

/// The pieces of one record, in order.
pub(crate) struct Pieces<'a> {
    position: u64,
    number: u16,
    header: Option<[u8; HEADER_BYTES]>,
    rest: &'a [u8],
}

impl<'a> Pieces<'a> {
    /// # Panics
    /// When the body is longer than 4 GiB; a batch is bounded at a few MiB.
    pub(crate) fn of(position: u64, version: u8, body: &'a [u8]) -> Self {
        let len = u32::try_from(body.len()).expect("a batch is bounded far below 4 GiB");
        let [a, b, c, d] = len.to_le_bytes();
        Self { position, number: 0, header: Some([version, a, b, c, d]), rest: body }
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        if self.header.is_none() && self.rest.is_empty() {
            return None;
        }
        let header = self.header.take();
        let room = PIECE_BYTES - header.map_or(0, |header| header.len());
        let (bytes, rest) = self.rest.split_at(room.min(self.rest.len()));
        let key = key(self.position, self.number);
        self.rest = rest;
        self.number += 1;
        Some(Piece { key, header, bytes })
    }
}

fn key(position: u64, number: u16) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    key[..8].copy_from_slice(&position.to_be_bytes());
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

/// Puts pieces together again. Feed it in key order; a record that came as one piece is not copied.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    position: u64,
    version: u8,
    pieces: u16,
    missing: usize,
    buffer: Vec<u8>,
}

/// Pieces that do not make a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken;

/// A whole record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) position: u64,
    pub(crate) version: u8,
    pub(crate) body: &'a [u8],
}

impl Assembler {
    /// Takes the next piece; answers with the record that it completes.
    pub(crate) fn feed<'a>(&'a mut self, key: &[u8], value: &'a [u8]) -> Result<Option<Record<'a>>, Broken> {
        let (position, number) = split_key(key).ok_or(Broken)?;
        if self.missing == 0 {
            return self.begin(position, number, value);
        }
        if position != self.position || number != self.pieces || value.len() > self.missing {
            return Err(Broken);
        }
        self.pieces += 1;
        self.missing -= value.len();
        self.buffer.extend_from_slice(value);
        Ok((self.missing == 0).then_some(Record { position, version: self.version, body: &self.buffer }))
    }

    /// Whether a record is begun and not complete.
    pub(crate) const fn is_midway(&self) -> bool {
        self.missing > 0
    }

    fn begin<'a>(
        &mut self,
        position: u64,
        number: u16,
        value: &'a [u8],
    ) -> Result<Option<Record<'a>>, Broken> {
        let ([version, len @ ..], body) = value.split_first_chunk::<HEADER_BYTES>().ok_or(Broken)?;
        let len = usize::try_from(u32::from_le_bytes(*len)).map_err(|_| Broken)?;
        if number != 0 || body.len() > len {
            return Err(Broken);
        }
        if body.len() == len {
            return Ok(Some(Record { position, version: *version, body }));
        }
        (self.position, self.version, self.pieces) = (position, *version, 1);
        self.missing = len - body.len();
        self.buffer.clear();
        self.buffer.extend_from_slice(body);
        Ok(None)
    }
}

fn split_key(key: &[u8]) -> Option<(u64, u16)> {
    let (position, number) = key.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*position), u16::from_be_bytes(number.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stored(position: u64, body: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        Pieces::of(position, 3, body)
            .map(|piece| {
                let mut room = vec![0; piece.len()];
                piece.write_to(&mut room);
                (piece.key.to_vec(), room)
            })
            .collect()
    }

    #[test]
    fn records_of_every_length_come_back_whole() {
        let mut assembler = Assembler::default();
        for len in [0, 1, PIECE_BYTES - 5, PIECE_BYTES - 4, PIECE_BYTES * 3 + 7] {
            let body: Vec<u8> = (0..len).map(|n| n as u8).collect();

            let pieces = stored(len as u64, &body);
            let (last, first) = pieces.split_last().unwrap();
            for (key, value) in first {
                assert_eq!(assembler.feed(key, value), Ok(None), "{len}");
            }

            let expected = Record { position: len as u64, version: 3, body: &body };
            assert_eq!(assembler.feed(&last.0, &last.1), Ok(Some(expected)), "{len}");
        }
    }

    #[test]
    fn a_lost_piece_is_noticed() {
        let pieces = stored(9, &vec![1; PIECE_BYTES * 3]);
        let mut assembler = Assembler::default();
        assembler.feed(&pieces[0].0, &pieces[0].1).unwrap();

        assert_eq!(assembler.feed(&pieces[2].0, &pieces[2].1), Err(Broken));
        assert!(assembler.is_midway());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_record_or_refused(pieces: Vec<(Vec<u8>, Vec<u8>)>) {
            let mut assembler = Assembler::default();
            for (key, value) in &pieces {
                let _ = assembler.feed(key, value);
            }
        }
    }
}
