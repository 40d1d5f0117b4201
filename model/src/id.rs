//! One newtype per identity. All are UUIDs in JSON (lower-case, hyphenated) and 16 bytes in records.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Entropy, Timestamp};

/// A text that is not a hyphenated UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a UUID: give 32 hexadecimal digits in the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx")]
pub struct InvalidId;

/// Parses the one spelling of a UUID that the API takes: hyphenated, either case, 36 characters.
///
/// The other spellings of the `uuid` crate (braces, URN, no hyphens) are refused, so that two
/// spellings never name one thing (threat-model, test 21).
fn parse(text: &str) -> Result<Uuid, InvalidId> {
    if text.len() != 36 {
        return Err(InvalidId);
    }
    Uuid::try_parse(text).map_err(|_| InvalidId)
}

macro_rules! uuid_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// Makes a new time-ordered id (UUID version 7) from the instant and ten random bytes.
            pub fn generate(now: Timestamp, entropy: &dyn Entropy) -> Self {
                let millis = u64::try_from(now.as_millis()).unwrap_or(0);
                Self(uuid::Builder::from_unix_timestamp_millis(millis, &entropy.bytes::<10>()).into_uuid())
            }

            /// The 16 bytes, in the order that sorts like the text.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                parse(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                    parse(&text).map(Self).map_err(serde::de::Error::custom)
                } else {
                    Uuid::deserialize(deserializer).map(Self)
                }
            }
        }
    };
}

uuid_newtype! {
    /// A site of the federation; chosen by the coordinator, never used again after removal.
    SiteId
}
uuid_newtype! {
    /// A host, globally unique; chosen by the site that reports it.
    HostId
}
uuid_newtype! {
    /// An entry of the audit log.
    AuditId
}
uuid_newtype! {
    /// One snapshot of a rollup series.
    RollupId
}
uuid_newtype! {
    /// A policy of the coordinator.
    PolicyId
}
uuid_newtype! {
    /// A rollout of one version of a policy.
    RolloutId
}
uuid_newtype! {
    /// A command; names one execution at one site, for ever.
    CommandId
}
uuid_newtype! {
    /// A lease of a short-lived credential.
    LeaseId
}
uuid_newtype! {
    /// An alert about a site.
    AlertId
}
uuid_newtype! {
    /// An API key; names it without being able to use it.
    ApiKeyId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_hyphenated_spelling_is_an_id() {
        let text = "01890a5d-ac96-774b-bcce-b302099a8057";

        assert_eq!(text.parse::<HostId>().map(|id| id.to_string()), Ok(text.to_owned()));
        for other in ["01890a5dac96774bbcceb302099a8057", "{01890a5d-ac96-774b-bcce-b302099a8057}", "", "x"] {
            assert_eq!(other.parse::<HostId>(), Err(InvalidId), "{other}");
        }
    }
}
