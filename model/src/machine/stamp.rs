//! A stamp beside the documented signature: binds a request to its route and time (contract 13.17).
//!
//! The documented header signs the body alone, so whoever records a request can send it again, to another
//! route and for ever. A stamp is one more header that old peers ignore:
//! `X-Federation-Stamp: t=<Unix seconds>,n=<nonce>,s=<signature>`, the signature by the same key over
//! [`message`]. A stamp is taken once, within [`limits::STAMP_AGE_MAX`]; and a site that has stamped one
//! request is expected to stamp all, so that cutting the header off is no way around it.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};

use crate::limits::http as limits;
use crate::secret::hex;
use crate::{SiteId, Timestamp};

/// Name of the header.
pub const STAMP_HEADER: &str = "x-federation-stamp";

/// A stamp as it arrived; its signature is not checked yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp<'a> {
    /// When the sender made it, Unix seconds.
    pub at: i64,
    /// Chosen by the sender, never twice.
    pub nonce: &'a str,
    /// Standard base64.
    pub signature: &'a str,
}

impl<'a> Stamp<'a> {
    /// Reads the header's value; none when it is not one.
    pub fn parse(value: &'a str) -> Option<Self> {
        let mut parts = value.split(',').map(str::trim);
        let at = parts.next()?.strip_prefix("t=")?.parse().ok()?;
        let nonce = parts.next()?.strip_prefix("n=")?;
        let signature = parts.next()?.strip_prefix("s=")?;
        let plain = nonce.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        let fits = plain && (1..=limits::STAMP_NONCE_BYTES_MAX).contains(&nonce.len());
        (fits && parts.next().is_none()).then_some(Self { at, nonce, signature })
    }
}

/// The bytes that a stamp signs.
pub fn message(method: &str, path: &str, at: i64, nonce: &str, body: &[u8]) -> String {
    let digest = hex(&Sha256::digest(body));
    format!("hansa-federation-request-v1\n{method}\n{path}\n{at}\n{nonce}\n{digest}")
}

/// The header's value.
pub fn header(at: i64, nonce: &str, signature: &str) -> String {
    format!("t={at},n={nonce},s={signature}")
}

/// Stamps that were taken, for as long as they could be tried again.
#[derive(Debug, Clone, Default)]
pub struct Taken {
    nonces: BTreeMap<(SiteId, String), i64>,
    stamping: BTreeSet<SiteId>,
}

impl Taken {
    /// Whether the site has stamped before, so that a request without a stamp is not its.
    pub fn expects(&self, site: SiteId) -> bool {
        self.stamping.contains(&site)
    }

    /// Takes a stamp whose signature is good, once. False when it is too old, too new or was taken before.
    pub fn take(&mut self, now: Timestamp, site: SiteId, stamp: &Stamp<'_>) -> bool {
        let age_max = i64::try_from(limits::STAMP_AGE_MAX.as_secs()).unwrap_or(i64::MAX);
        if now.as_secs().abs_diff(stamp.at) > age_max.unsigned_abs() {
            return false;
        }
        if self.nonces.len() >= limits::STAMPS_MAX {
            let oldest = now.as_secs() - age_max;
            self.nonces.retain(|_, at| *at >= oldest);
        }
        let key = (site, stamp.nonce.to_owned());
        if self.nonces.len() >= limits::STAMPS_MAX || self.nonces.contains_key(&key) {
            return false;
        }
        self.nonces.insert(key, stamp.at);
        self.stamping.insert(site);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_795_000_000);

    fn site() -> SiteId {
        SiteId(uuid::Uuid::from_u128(1))
    }

    fn stamp(at: i64) -> Stamp<'static> {
        Stamp { at: NOW.as_secs() + at, nonce: "abc", signature: "s" }
    }

    #[test]
    fn stamp_is_taken_once() {
        let mut taken = Taken::default();

        assert!(taken.take(NOW, site(), &stamp(0)));
        assert!(!taken.take(NOW, site(), &stamp(0)));
        assert!(taken.expects(site()));
    }

    #[test]
    fn stamp_out_of_its_time_is_refused() {
        let age = i64::try_from(limits::STAMP_AGE_MAX.as_secs()).unwrap();

        assert!(!Taken::default().take(NOW, site(), &stamp(-age - 1)));
        assert!(!Taken::default().take(NOW, site(), &stamp(age + 1)));
        assert!(Taken::default().take(NOW, site(), &stamp(-age)));
    }

    #[test]
    fn header_reads_back_and_nothing_else_does() {
        assert_eq!(
            Stamp::parse(&header(7, "n-1", "c2ln")),
            Some(Stamp { at: 7, nonce: "n-1", signature: "c2ln" })
        );
        for value in
            ["", "t=1", "t=x,n=a,s=b", "t=1,n=,s=b", "t=1,n=a b,s=c", "t=1,n=a,s=b,x=y", "n=a,t=1,s=b"]
        {
            assert_eq!(Stamp::parse(value), None, "{value}");
        }
    }
}
