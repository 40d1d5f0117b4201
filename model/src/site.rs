//! A site as its coordinator knows it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits::site as limits;
use crate::secret::TokenHash;
use crate::{SiteId, Timestamp};

/// State of a site's membership (contract 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SiteStatus {
    /// Created; the enrollment token is out.
    Pending,
    /// Member: its bearer and its link are accepted.
    Enrolled,
    /// Member on hold: told so, and nothing else.
    Suspended,
    /// Terminal. The row stays; the id is never used again.
    Removed,
}

impl SiteStatus {
    /// The word used in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Enrolled => "enrolled",
            Self::Suspended => "suspended",
            Self::Removed => "removed",
        }
    }
}

impl fmt::Display for SiteStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for SiteStatus {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        [Self::Pending, Self::Enrolled, Self::Suspended, Self::Removed]
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or(UnknownStatus)
    }
}

/// A text that is no site status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not one of pending, enrolled, suspended, removed")]
pub struct UnknownStatus;

/// A site's name: trimmed, not blank, at most 255 bytes, no control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SiteName(String);

impl SiteName {
    /// Trims and checks a name.
    ///
    /// # Errors
    /// [`InvalidSite`] names what is wrong.
    pub fn new(text: &str) -> Result<Self, InvalidSite> {
        required_text("name", text, limits::NAME_BYTES_MAX).map(Self)
    }

    /// The name's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SiteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A value that a site's row cannot hold. Fix the request.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InvalidSite {
    /// A required text is empty or only white space.
    #[error("{field} must not be blank")]
    Blank {
        /// The field's JSON name.
        field: &'static str,
    },
    /// A text is longer than its column.
    #[error("{field} is longer than {bytes_max} bytes")]
    TooLong {
        /// The field's JSON name.
        field: &'static str,
        /// The column's size.
        bytes_max: usize,
    },
    /// A text has control characters.
    #[error("{field} must not contain control characters")]
    ControlCharacter {
        /// The field's JSON name.
        field: &'static str,
    },
    /// A number is out of its range.
    #[error("{field} must lie between {min} and {max}")]
    OutOfRange {
        /// The field's JSON name.
        field: &'static str,
        /// The smallest allowed value.
        min: f64,
        /// The largest allowed value.
        max: f64,
    },
    /// A country code is not two letters.
    #[error("geo_country_code must be two letters, such as DE")]
    CountryCode,
    /// The URL is none that a peer could be reached at.
    #[error("url {0}")]
    Url(&'static str),
    /// The identity key does not parse.
    #[error(
        "site_identity_public_key_pem is not an Ed25519 public key in PEM: paste what `hansa identity show` prints at the site"
    )]
    IdentityKey,
}

/// Trims a required text and checks its bounds.
///
/// # Errors
/// Blank, too long, or with control characters.
pub fn required_text(field: &'static str, text: &str, bytes_max: usize) -> Result<String, InvalidSite> {
    let text = text.trim();
    if text.is_empty() {
        return Err(InvalidSite::Blank { field });
    }
    if text.len() > bytes_max {
        return Err(InvalidSite::TooLong { field, bytes_max });
    }
    if text.chars().any(char::is_control) {
        return Err(InvalidSite::ControlCharacter { field });
    }
    Ok(text.to_owned())
}

/// Trims an optional text; blank is none.
///
/// # Errors
/// Too long, or with control characters.
pub fn optional_text(
    field: &'static str,
    text: Option<&str>,
    bytes_max: usize,
) -> Result<Option<String>, InvalidSite> {
    match text.map(str::trim) {
        None | Some("") => Ok(None),
        Some(text) => required_text(field, text, bytes_max).map(Some),
    }
}

/// Checks a site's URL: `http` or `https`, a host, and none of the addresses that a peer never has.
///
/// Private addresses are normal for sites; link-local (with the metadata services), multicast and
/// unspecified ones are refused (architecture 11). A name is not resolved here.
///
/// # Errors
/// [`InvalidSite`] says what is wrong.
pub fn site_url(text: &str) -> Result<String, InvalidSite> {
    let url = required_text("url", text, limits::URL_BYTES_MAX)?;
    let lower = url.to_ascii_lowercase();
    let Some(rest) = lower.strip_prefix("https://").or_else(|| lower.strip_prefix("http://")) else {
        return Err(InvalidSite::Url("must start with https:// or http://"));
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(InvalidSite::Url("must not carry credentials"));
    }
    let host = match authority.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    if host.is_empty() || host.contains(char::is_whitespace) {
        return Err(InvalidSite::Url("has no host"));
    }
    if let Ok(address) = host.parse::<std::net::IpAddr>()
        && !is_peer_address(address)
    {
        return Err(InvalidSite::Url("names a link-local, multicast or unspecified address"));
    }
    Ok(url)
}

/// Whether a peer may be reached at this address.
pub fn is_peer_address(address: std::net::IpAddr) -> bool {
    use std::net::IpAddr;
    match address {
        IpAddr::V4(v4) => {
            !(v4.is_link_local() || v4.is_multicast() || v4.is_unspecified() || v4.is_broadcast())
        }
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(mapped) => is_peer_address(IpAddr::V4(mapped)),
            None => !(v6.is_unicast_link_local() || v6.is_multicast() || v6.is_unspecified()),
        },
    }
}

/// A site's row: what operators decide about it. What the site reports lies in [`SiteSync`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Site {
    /// Never reused.
    pub id: SiteId,
    /// Unique among the sites that are not removed.
    pub name: SiteName,
    /// Free text for people.
    pub location_label: Option<String>,
    /// Base URL of the site's HTTP surface, without a check that it answers.
    pub url: String,
    /// See [`SiteStatus`].
    pub status: SiteStatus,
    /// Seconds between two contacts of an HTTP peer; 5 to 86,400.
    pub sync_interval_seconds: u32,
    /// Least agent version that commands are sent to.
    pub agent_version_min: Option<String>,
    /// Degrees, -90 to 90.
    pub geo_latitude: Option<f64>,
    /// Degrees, -180 to 180.
    pub geo_longitude: Option<f64>,
    /// ISO 3166-1 alpha-2, upper case.
    pub geo_country_code: Option<String>,
    /// When the row was made.
    pub created_at: Timestamp,
    /// When an operator last changed it.
    pub updated_at: Timestamp,
    /// When enrollment last completed.
    pub enrolled_at: Option<Timestamp>,
    /// The token that is out; only while pending.
    pub enrollment: Option<PendingEnrollment>,
    /// The Ed25519 identity key that the site must prove, 32 bytes.
    pub identity_key: Option<[u8; 32]>,
    /// The certificate pinned at enrollment, PEM; verifies the request signature of HTTP peers.
    pub tls_cert_pem: Option<String>,
    /// SHA-256 of the bearer that the site presents.
    pub sync_bearer_hash: Option<TokenHash>,
    /// What an enrollment completion was answered for, until the site's first authenticated contact: the
    /// same token, certificate and proof are then accepted again (architecture 11, lost answer).
    pub completed: Option<CompletedEnrollment>,
}

/// An enrollment token that is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingEnrollment {
    /// SHA-256 of the token.
    pub token_hash: TokenHash,
    /// The token is refused after this instant.
    pub expires_at: Timestamp,
}

/// What an accepted enrollment completion carried, kept while its answer may have been lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompletedEnrollment {
    /// SHA-256 of the token.
    pub token_hash: TokenHash,
    /// SHA-256 of the certificate's PEM text and the proof, which must come again unchanged.
    pub answer_to: [u8; 32],
    /// The token's own end: a repeat after it is refused.
    pub expires_at: Timestamp,
}

/// What a site last reported, and how far its stream is applied. Written with each ingest batch.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SiteSync {
    /// How far the site's ingest stream is applied.
    pub position: crate::sync::Position,
    /// When the last batch or sync was applied.
    pub last_sync_at: Option<Timestamp>,
    /// `success` or an error text of at most 32 bytes.
    pub last_sync_status: Option<String>,
    /// Hosts of the site, all states. Kept equal to the directory's count.
    pub host_count: u64,
    /// As the site reports it, cut to 32 bytes.
    pub sysmanage_version: Option<String>,
    /// As the site reports it, cut to 16 bytes.
    pub connection_state: Option<String>,
    /// As the site reports them.
    pub capabilities: Vec<String>,
    /// When metadata last arrived.
    pub last_metadata_at: Option<Timestamp>,
    /// Rows that the site still had to send when it last said so.
    pub queue_depth: Option<u64>,
    /// Number that the next sync event of the timeline gets.
    pub next_event: u64,
    /// Number that the next host rollup snapshot gets.
    pub next_rollup: u64,
}

/// One entry of a site's sync timeline (contract B2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncEvent {
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// Whether the sync was applied.
    pub success: bool,
    /// Milliseconds from receipt to durable, where known.
    pub latency_ms: Option<u32>,
    /// The site's queue depth, where it said so.
    pub queue_depth: Option<u64>,
    /// Hosts of the site.
    pub host_count: Option<u64>,
}

/// One snapshot of a site's host rollup (contract 7).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostRollup {
    /// Ours, version 7.
    pub id: crate::id::RollupId,
    /// When it was taken; arrival where the site does not say.
    pub snapshot_at: Timestamp,
    /// Hosts, all states.
    pub host_count: u64,
    /// Hosts that are active; at most `host_count`.
    pub active_count: u64,
    /// Hosts by operating system.
    pub os_breakdown: std::collections::BTreeMap<String, u64>,
    /// Hosts by status.
    pub status_breakdown: std::collections::BTreeMap<String, u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_no_peer_has_are_refused_in_every_spelling() {
        for url in [
            "http://169.254.169.254/",
            "http://[fe80::1]:8443",
            "http://0.0.0.0:1",
            "https://[::ffff:169.254.1.1]",
            "http://224.0.0.1",
            "ftp://example.com",
            "https://",
            "https://user:pw@example.com",
            "  ",
        ] {
            assert!(site_url(url).is_err(), "{url}");
        }
        for url in
            ["https://site.example.com:8443/", "http://10.1.2.3", "http://127.0.0.1:9", "https://[fd00::1]:1"]
        {
            assert!(site_url(url).is_ok(), "{url}");
        }
    }

    #[test]
    fn name_is_trimmed_and_bounded() {
        assert_eq!(SiteName::new("  alpha ").unwrap().as_str(), "alpha");
        assert!(SiteName::new(" \t").is_err());
        assert!(SiteName::new("a\u{7}b").is_err());
        assert!(SiteName::new(&"x".repeat(256)).is_err());
    }
}
