//! What a site keeps of its enrollment, the code that joins it, and the bytes that both sides sign.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::secret::TokenHash;
use crate::{SiteId, Timestamp};

/// Role of a node (contract 11).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Member of no federation.
    #[default]
    None,
    /// Centre of a federation.
    Coordinator,
    /// Member of a federation.
    Site,
}

impl Role {
    /// All roles, in the order that the API lists them.
    pub const ALL: [Self; 3] = [Self::None, Self::Coordinator, Self::Site];

    /// The word used in JSON and in proofs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Coordinator => "coordinator",
            Self::Site => "site",
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(UnknownRole)
    }
}

/// A text that is no role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not one of none, coordinator, site")]
pub struct UnknownRole;

/// The bytes that an enrollment proof signs (contract 1.5): bound to the signer's role and certificate.
pub fn proof_message(role: Role, certificate_fingerprint: &str) -> String {
    format!("sysmanage-federation-enroll-v1|{role}|{certificate_fingerprint}")
}

/// State of a site's own membership (contract 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnrollmentStatus {
    /// The handshake is under way.
    Pending,
    /// Member.
    Enrolled,
    /// The coordinator has said that it refuses us for now.
    Suspended,
    /// The coordinator has said that we are gone, or we have left.
    Removed,
}

/// What a site knows of its coordinator. The bearer it presents lies sealed in another table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrollment {
    /// As the operator gave it, trimmed, without a trailing slash.
    pub coordinator_url: String,
    /// The pinned Ed25519 identity key, 32 bytes.
    pub coordinator_identity_key: [u8; 32],
    /// The pinned certificate, PEM; verifies the signature of pushes over HTTP.
    pub coordinator_tls_cert_pem: Option<String>,
    /// Where the coordinator takes QUIC, `host:port`; none for an HTTP peer.
    pub quic_address: Option<String>,
    /// See [`EnrollmentStatus`].
    pub status: EnrollmentStatus,
    /// Ours, given by the coordinator.
    pub site_id: Option<SiteId>,
    /// When enrollment completed.
    pub enrolled_at: Option<Timestamp>,
    /// Seconds between two contacts.
    pub sync_interval_seconds: u32,
    /// SHA-256 of the bearer that the coordinator presents to us over HTTP.
    pub inbound_bearer_hash: Option<TokenHash>,
}

/// Everything `hansa join` needs, in one text to paste: `hansa1_` and URL-safe base64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinCode {
    /// Base URL of the coordinator.
    pub coordinator_url: String,
    /// One-time token.
    pub enrollment_token: String,
    /// The coordinator's identity key, 32 bytes.
    pub coordinator_identity_key: [u8; 32],
    /// Where the coordinator takes QUIC, `host:port`.
    pub quic_address: Option<String>,
}

/// A text that is no join code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not a join code: copy the whole text, from `hansa1_` on, that `hansa site add` printed")]
pub struct InvalidJoinCode;

impl JoinCode {
    const PREFIX: &'static str = "hansa1_";

    /// The text to paste. It carries the one-time token: treat it as a password until it is used.
    pub fn encode(&self) -> String {
        let fields = (
            &self.coordinator_url,
            &self.enrollment_token,
            self.coordinator_identity_key,
            &self.quic_address,
        );
        // Plain data into memory has no way to fail.
        let bytes = postcard::to_stdvec(&fields).unwrap_or_default();
        format!("{}{}", Self::PREFIX, URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Reads a pasted text.
    ///
    /// # Errors
    /// The text is cut, changed or something else.
    pub fn decode(text: &str) -> Result<Self, InvalidJoinCode> {
        let encoded = text.trim().strip_prefix(Self::PREFIX).ok_or(InvalidJoinCode)?;
        let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| InvalidJoinCode)?;
        let (coordinator_url, enrollment_token, coordinator_identity_key, quic_address) =
            postcard::from_bytes(&bytes).map_err(|_| InvalidJoinCode)?;
        Ok(Self { coordinator_url, enrollment_token, coordinator_identity_key, quic_address })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn join_code_survives_the_clipboard() {
        let code = JoinCode {
            coordinator_url: "https://hq.example.com".to_owned(),
            enrollment_token: "t".repeat(43),
            coordinator_identity_key: [7; 32],
            quic_address: Some("hq.example.com:7443".to_owned()),
        };

        assert_eq!(JoinCode::decode(&format!(" {}\n", code.encode())), Ok(code.clone()));
        assert_eq!(JoinCode::decode(&code.encode()[..40]), Err(InvalidJoinCode));
    }
}
