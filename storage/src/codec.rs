//! Keys and records as bytes.
//!
//! A key's bytes sort like the key: numbers are big-endian, identities their 16 bytes, a pair the two one
//! after the other (the first has a fixed width). A record is one byte, the layout version of its table,
//! and postcard.

use std::ops::{Bound, RangeBounds};

use hansa_model::id::{AlertId, CommandId, LeaseId, PolicyId, RolloutId};
use hansa_model::secrets::id::{BackendId, ConflictId, PathPolicyId};
use hansa_model::{AuditId, HostId, SiteId};

use crate::error::RecordError;
use crate::table::Table;

/// A key type with bytes that sort like its values.
pub trait KeyCodec: Sized {
    /// Appends the key's bytes.
    fn encode(&self, bytes: &mut Vec<u8>);
    /// Reads a key back; none when the bytes are not one.
    fn decode(bytes: &[u8]) -> Option<Self>;
}

/// Something that names a key of type `K`: the key itself, or a borrowed form of it.
pub trait KeyOf<K> {
    /// The key's bytes.
    fn key_bytes(&self) -> Vec<u8>;
}

impl<K: KeyCodec> KeyOf<K> for K {
    fn key_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(32);
        self.encode(&mut bytes);
        bytes
    }
}

impl KeyOf<String> for str {
    fn key_bytes(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }
}

impl KeyCodec for String {
    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(self.as_bytes());
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        std::str::from_utf8(bytes).ok().map(str::to_owned)
    }
}

impl KeyCodec for u64 {
    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.to_be_bytes());
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self::from_be_bytes)
    }
}

impl KeyCodec for u32 {
    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.to_be_bytes());
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self::from_be_bytes)
    }
}

impl KeyCodec for [u8; 32] {
    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(self);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok()
    }
}

/// An identity: 16 bytes, so it may stand before another key.
pub trait IdKey: KeyCodec {}

macro_rules! id_keys {
    ($($id:ident)*) => {
        $(
            impl KeyCodec for $id {
                fn encode(&self, bytes: &mut Vec<u8>) {
                    bytes.extend_from_slice(self.as_bytes());
                }

                fn decode(bytes: &[u8]) -> Option<Self> {
                    uuid::Uuid::from_slice(bytes).ok().map(Self)
                }
            }

            impl IdKey for $id {}
        )*
    };
}

id_keys!(SiteId HostId AuditId PolicyId CommandId LeaseId AlertId RolloutId BackendId ConflictId PathPolicyId);

impl<I: IdKey, K: KeyCodec> KeyCodec for (I, K) {
    fn encode(&self, bytes: &mut Vec<u8>) {
        self.0.encode(bytes);
        self.1.encode(bytes);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (id, rest) = bytes.split_at_checked(16)?;
        Some((I::decode(id)?, K::decode(rest)?))
    }
}

/// A name and a number below it. The name has no NUL, which ends it in the key's bytes: so keys sort by name,
/// then by number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named<N> {
    /// Such as a baseline's.
    pub name: String,
    /// Such as a snapshot's.
    pub number: N,
}

impl<N> Named<N> {
    /// A key.
    pub fn new(name: &str, number: N) -> Self {
        Self { name: name.to_owned(), number }
    }
}

impl<N: KeyCodec> KeyCodec for Named<N> {
    fn encode(&self, bytes: &mut Vec<u8>) {
        self.name.encode(bytes);
        bytes.push(0);
        self.number.encode(bytes);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let end = bytes.iter().position(|byte| *byte == 0)?;
        Some(Self { name: String::decode(&bytes[..end])?, number: N::decode(&bytes[end + 1..])? })
    }
}

/// The bytes of a range's two ends.
pub(crate) fn range_bytes<K: KeyCodec>(range: &impl RangeBounds<K>) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    (range.start_bound().map(KeyOf::key_bytes), range.end_bound().map(KeyOf::key_bytes))
}

/// The same ends, borrowed, as the engine takes them.
pub(crate) fn as_slices(range: &(Bound<Vec<u8>>, Bound<Vec<u8>>)) -> (Bound<&[u8]>, Bound<&[u8]>) {
    (range.0.as_ref().map(Vec::as_slice), range.1.as_ref().map(Vec::as_slice))
}

/// Whether a range holds nothing by its ends alone; the engine takes no such range.
pub(crate) fn is_empty((from, to): &(Bound<Vec<u8>>, Bound<Vec<u8>>)) -> bool {
    match (from, to) {
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => {
            from >= to
        }
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
    }
}

/// A table's record: its version, then the value in postcard.
pub(crate) fn encode_record<T: Table>(value: &T::Value) -> Vec<u8> {
    T::encode(value, vec![T::VERSION])
}

/// Reads a table's record of any version that the table knows.
pub(crate) fn decode_record<T: Table>(record: &[u8]) -> Result<T::Value, RecordError> {
    let (version, body) = record.split_first().ok_or(RecordError::Malformed)?;
    T::decode(*version, body)
}

/// Brings a stored record of any version to the present one, so that values compare as bytes.
pub(crate) fn recode<T: Table>(record: &[u8]) -> Option<Vec<u8>> {
    decode_record::<T>(record).ok().map(|value| encode_record::<T>(&value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes<K: KeyCodec>(key: &K) -> Vec<u8> {
        key.key_bytes()
    }

    proptest! {
        #[test]
        fn key_bytes_sort_like_keys_and_read_back(a: (u128, u64), b: (u128, u64)) {
            let [a, b] = [a, b].map(|(site, n)| (SiteId(uuid::Uuid::from_u128(site)), n));

            prop_assert_eq!(bytes(&a).cmp(&bytes(&b)), a.cmp(&b));
            prop_assert_eq!(<(SiteId, u64)>::decode(&bytes(&a)), Some(a));
        }

        #[test]
        fn named_keys_sort_by_name_then_number(a in "[ -~é]{0,4}", n: u64, b in "[ -~é]{0,4}", m: u64) {
            let (a, b) = (Named::new(&a, n), Named::new(&b, m));

            prop_assert_eq!(bytes(&a).cmp(&bytes(&b)), a.cmp(&b));
            prop_assert_eq!(Named::<u64>::decode(&bytes(&a)), Some(a));
        }

        #[test]
        fn key_decoders_take_any_bytes(any: Vec<u8>) {
            let _ = <(SiteId, u32)>::decode(&any);
            let _ = String::decode(&any);
            let _ = <(SiteId, Named<u64>)>::decode(&any);
            let _ = <[u8; 32]>::decode(&any);
        }
    }
}
