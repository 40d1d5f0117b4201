//! A host of the federation's directory, its changes, and the entries people send.

use serde::{Deserialize, Serialize};

use crate::limits::host as limits;
use crate::{HostId, Timestamp};

/// One row of the host directory (contract 6.1), generic over who owns the text.
///
/// [`Host`] owns its text; [`HostRow`] borrows it from a received frame or a stored record, so bulk
/// rows are decoded without an allocation. Both have the same bytes in postcard: the field order is a
/// stored and sent format. New fields go to the end, with a new [`HostChange`] kind.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct HostRecord<S> {
    /// Globally unique; stays with the site that first reported it.
    pub host_id: HostId,
    /// Fully qualified domain name, not blank, at most 255 bytes.
    pub fqdn: S,
    /// IPv4 address as text.
    pub ipv4: Option<S>,
    /// IPv6 address as text.
    pub ipv6: Option<S>,
    /// Address seen from outside, as text.
    pub public_ip: Option<S>,
    /// Family of the operating system, such as `debian`.
    pub os_family: Option<S>,
    /// Version of the operating system, such as `12.9`.
    pub os_version: Option<S>,
    /// Platform, such as `linux`.
    pub platform: Option<S>,
    /// State as the site names it, such as `up`.
    pub status: Option<S>,
    /// When the site last heard from the host, by the site's clock.
    pub last_seen: Option<Timestamp>,
    /// JSON text of a list of tag names.
    pub tags_json: Option<S>,
    /// ISO 3166-1 alpha-2 code.
    pub geo_country_code: Option<S>,
    /// ISO 3166-2 subdivision.
    pub geo_subdivision_code: Option<S>,
    /// City name.
    pub geo_city: Option<S>,
    /// Degrees, -90 to 90.
    pub geo_latitude: Option<f64>,
    /// Degrees, -180 to 180.
    pub geo_longitude: Option<f64>,
    /// When the row last changed, by the site's clock. Never used for ordering within a link.
    pub mtime: Timestamp,
}

/// A row that owns its text.
pub type Host = HostRecord<String>;
/// A row that borrows its text.
pub type HostRow<'a> = HostRecord<&'a str>;

impl<S: AsRef<str>> HostRecord<S> {
    /// A view of this row that borrows its text.
    pub fn as_row(&self) -> HostRow<'_> {
        fn text<S: AsRef<str>>(value: Option<&S>) -> Option<&str> {
            value.map(AsRef::as_ref)
        }
        HostRow {
            host_id: self.host_id,
            fqdn: self.fqdn.as_ref(),
            ipv4: text(self.ipv4.as_ref()),
            ipv6: text(self.ipv6.as_ref()),
            public_ip: text(self.public_ip.as_ref()),
            os_family: text(self.os_family.as_ref()),
            os_version: text(self.os_version.as_ref()),
            platform: text(self.platform.as_ref()),
            status: text(self.status.as_ref()),
            last_seen: self.last_seen,
            tags_json: text(self.tags_json.as_ref()),
            geo_country_code: text(self.geo_country_code.as_ref()),
            geo_subdivision_code: text(self.geo_subdivision_code.as_ref()),
            geo_city: text(self.geo_city.as_ref()),
            geo_latitude: self.geo_latitude,
            geo_longitude: self.geo_longitude,
            mtime: self.mtime,
        }
    }

    /// A copy that owns its text.
    pub fn to_host(&self) -> Host {
        let row = self.as_row();
        let text = |value: Option<&str>| value.map(str::to_owned);
        Host {
            host_id: row.host_id,
            fqdn: row.fqdn.to_owned(),
            ipv4: text(row.ipv4),
            ipv6: text(row.ipv6),
            public_ip: text(row.public_ip),
            os_family: text(row.os_family),
            os_version: text(row.os_version),
            platform: text(row.platform),
            status: text(row.status),
            last_seen: row.last_seen,
            tags_json: text(row.tags_json),
            geo_country_code: text(row.geo_country_code),
            geo_subdivision_code: text(row.geo_subdivision_code),
            geo_city: text(row.geo_city),
            geo_latitude: row.geo_latitude,
            geo_longitude: row.geo_longitude,
            mtime: row.mtime,
        }
    }

    /// Checks every bound of the contract's column sizes (6.1).
    ///
    /// # Errors
    /// Names the first field that breaks its bound; the value is not repeated.
    pub fn validate(&self) -> Result<(), InvalidHost> {
        let row = self.as_row();
        if row.fqdn.trim().is_empty() {
            return Err(InvalidHost::Blank { field: "fqdn" });
        }
        let texts: [(&'static str, Option<&str>, usize); 12] = [
            ("fqdn", Some(row.fqdn), limits::FQDN_BYTES_MAX),
            ("ipv4", row.ipv4, limits::ADDRESS_BYTES_MAX),
            ("ipv6", row.ipv6, limits::ADDRESS_BYTES_MAX),
            ("public_ip", row.public_ip, limits::ADDRESS_BYTES_MAX),
            ("os_family", row.os_family, limits::LABEL_BYTES_MAX),
            ("os_version", row.os_version, limits::LABEL_BYTES_MAX),
            ("platform", row.platform, limits::LABEL_BYTES_MAX),
            ("status", row.status, limits::STATUS_BYTES_MAX),
            ("tags_json", row.tags_json, limits::TAGS_BYTES_MAX),
            ("geo_country_code", row.geo_country_code, limits::COUNTRY_BYTES_MAX),
            ("geo_subdivision_code", row.geo_subdivision_code, limits::SUBDIVISION_BYTES_MAX),
            ("geo_city", row.geo_city, limits::CITY_BYTES_MAX),
        ];
        for (field, value, bytes_max) in texts {
            if value.is_some_and(|text| text.len() > bytes_max) {
                return Err(InvalidHost::TooLong { field, bytes_max });
            }
        }
        for (field, value, bound) in
            [("geo_latitude", row.geo_latitude, 90.0), ("geo_longitude", row.geo_longitude, 180.0)]
        {
            if value.is_some_and(|degrees| !(-bound..=bound).contains(&degrees)) {
                return Err(InvalidHost::OutOfRange { field, bound });
            }
        }
        Ok(())
    }
}

/// A row that breaks a bound. Fix the row; the others of its batch are not affected.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum InvalidHost {
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
    /// A coordinate is not on the globe.
    #[error("{field} must lie between -{bound} and {bound}")]
    OutOfRange {
        /// The field's JSON name.
        field: &'static str,
        /// The largest absolute value.
        bound: f64,
    },
}

/// One change of a site's directory, as sent and stored.
///
/// The order of the variants is a stored and sent format.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum HostChange<S> {
    /// The host's whole present row.
    Upsert(HostRecord<S>),
    /// The host is gone.
    Remove(HostId),
}

impl<S> HostChange<S> {
    /// The host that changes.
    pub const fn host_id(&self) -> HostId {
        match self {
            Self::Upsert(row) => row.host_id,
            Self::Remove(host_id) => *host_id,
        }
    }
}

/// A field of an entry that may be absent (keep), null (clear) or given (set): contract 6.2.
pub type Patch<T> = Option<Option<T>>;

/// One entry of a directory push or of a site's inventory call (contract 6.2), before it is merged.
///
/// Absent fields keep their stored value, null clears it. Unknown members are ignored.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct HostEntry {
    /// Required; kept as text so that a bad id is one bad row, not a bad body.
    #[serde(default)]
    pub host_id: String,
    /// Required for a host that is not known yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fqdn: Option<String>,
    /// See [`HostRecord::ipv4`].
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub ipv4: Patch<String>,
    /// See [`HostRecord::ipv6`].
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub ipv6: Patch<String>,
    /// See [`HostRecord::public_ip`].
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub public_ip: Patch<String>,
    /// See [`HostRecord::os_family`].
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub os_family: Patch<String>,
    /// See [`HostRecord::os_version`].
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub os_version: Patch<String>,
    /// See [`HostRecord::platform`].
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub platform: Patch<String>,
    /// See [`HostRecord::status`].
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub status: Patch<String>,
    /// See [`HostRecord::last_seen`].
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub last_seen: Patch<Timestamp>,
    /// See [`HostRecord::tags_json`]; a JSON array of texts is accepted beside the JSON text of one.
    #[serde(default, deserialize_with = "given_tags", skip_serializing_if = "Option::is_none")]
    pub tags_json: Patch<String>,
    /// See [`HostRecord::geo_country_code`].
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub geo_country_code: Patch<String>,
    /// See [`HostRecord::geo_subdivision_code`].
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub geo_subdivision_code: Patch<String>,
    /// See [`HostRecord::geo_city`].
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub geo_city: Patch<String>,
    /// See [`HostRecord::geo_latitude`].
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub geo_latitude: Patch<f64>,
    /// See [`HostRecord::geo_longitude`].
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub geo_longitude: Patch<f64>,
    /// See [`HostRecord::mtime`]; the instant of arrival when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtime: Option<Timestamp>,
}

fn given<'de, D, T>(deserializer: D) -> Result<Patch<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Some)
}

fn given_tags<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Patch<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Tags {
        Text(String),
        List(Vec<String>),
    }
    Ok(Some(match Option::<Tags>::deserialize(deserializer)? {
        None => None,
        Some(Tags::Text(text)) => Some(text),
        // A list of texts always has a JSON form.
        Some(Tags::List(list)) => serde_json::to_string(&list).ok(),
    }))
}

/// Why one entry was not applied. The others of its call are.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SkippedEntry {
    /// The id breaks the grammar.
    #[error("host_id {0}")]
    InvalidId(#[from] crate::id::InvalidId),
    /// A new host needs a name.
    #[error("fqdn is required for a host that is not known yet")]
    FqdnMissing,
    /// A field breaks its bound.
    #[error(transparent)]
    Invalid(#[from] InvalidHost),
    /// The stored row is newer than the entry's `mtime`.
    #[error("mtime is older than the stored row: send the present state")]
    Stale,
    /// Another live site holds the host.
    #[error("another site holds this host: remove it there first")]
    HeldElsewhere,
    /// The same host stands earlier in the same call.
    #[error("the host stands more than once in this call: keep one entry")]
    Repeated,
    /// The entry is no JSON object of the expected shape.
    #[error("the entry does not parse: {0}")]
    Malformed(String),
}

impl HostEntry {
    /// Merges this entry over the stored row and yields the host's whole new row.
    ///
    /// # Errors
    /// The entry is refused as [`SkippedEntry`] says; nothing else is affected.
    pub fn merge(self, stored: Option<HostRow<'_>>, now: Timestamp) -> Result<Host, SkippedEntry> {
        let host_id: HostId = self.host_id.parse()?;
        let keep =
            |given: Patch<String>, stored: Option<&str>| given.unwrap_or_else(|| stored.map(str::to_owned));
        if let (Some(mtime), Some(row)) = (self.mtime, stored)
            && mtime < row.mtime
        {
            return Err(SkippedEntry::Stale);
        }
        let fqdn = match (self.fqdn, stored) {
            (Some(fqdn), _) => fqdn.trim().to_owned(),
            (None, Some(row)) => row.fqdn.to_owned(),
            (None, None) => return Err(SkippedEntry::FqdnMissing),
        };
        let host = Host {
            host_id,
            fqdn,
            ipv4: keep(self.ipv4, stored.and_then(|row| row.ipv4)),
            ipv6: keep(self.ipv6, stored.and_then(|row| row.ipv6)),
            public_ip: keep(self.public_ip, stored.and_then(|row| row.public_ip)),
            os_family: keep(self.os_family, stored.and_then(|row| row.os_family)),
            os_version: keep(self.os_version, stored.and_then(|row| row.os_version)),
            platform: keep(self.platform, stored.and_then(|row| row.platform)),
            status: keep(self.status, stored.and_then(|row| row.status)),
            last_seen: self.last_seen.unwrap_or_else(|| stored.and_then(|row| row.last_seen)),
            tags_json: keep(self.tags_json, stored.and_then(|row| row.tags_json)),
            geo_country_code: keep(self.geo_country_code, stored.and_then(|row| row.geo_country_code)),
            geo_subdivision_code: keep(
                self.geo_subdivision_code,
                stored.and_then(|row| row.geo_subdivision_code),
            ),
            geo_city: keep(self.geo_city, stored.and_then(|row| row.geo_city)),
            geo_latitude: self.geo_latitude.unwrap_or_else(|| stored.and_then(|row| row.geo_latitude)),
            geo_longitude: self.geo_longitude.unwrap_or_else(|| stored.and_then(|row| row.geo_longitude)),
            mtime: self.mtime.unwrap_or(now),
        };
        host.validate()?;
        Ok(host)
    }
}

impl From<&Host> for HostEntry {
    fn from(host: &Host) -> Self {
        let host = host.clone();
        Self {
            host_id: host.host_id.to_string(),
            fqdn: Some(host.fqdn),
            ipv4: Some(host.ipv4),
            ipv6: Some(host.ipv6),
            public_ip: Some(host.public_ip),
            os_family: Some(host.os_family),
            os_version: Some(host.os_version),
            platform: Some(host.platform),
            status: Some(host.status),
            last_seen: Some(host.last_seen),
            tags_json: Some(host.tags_json),
            geo_country_code: Some(host.geo_country_code),
            geo_subdivision_code: Some(host.geo_subdivision_code),
            geo_city: Some(host.geo_city),
            geo_latitude: Some(host.geo_latitude),
            geo_longitude: Some(host.geo_longitude),
            mtime: Some(host.mtime),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A host with every field set, told apart by `n`.
    pub(crate) fn host(n: u128) -> Host {
        Host {
            host_id: HostId(uuid::Uuid::from_u128(n)),
            fqdn: format!("web-{n}.fra1.example.com"),
            ipv4: Some(format!("10.0.{}.{}", (n >> 8) & 255, n & 255)),
            ipv6: Some(format!("2001:db8::{:x}", n & 0xffff)),
            public_ip: None,
            os_family: Some("debian".to_owned()),
            os_version: Some("12.9".to_owned()),
            platform: Some("linux".to_owned()),
            status: Some("up".to_owned()),
            last_seen: Some(Timestamp::from_secs(1_795_000_000)),
            tags_json: Some("[\"prod\"]".to_owned()),
            geo_country_code: Some("DE".to_owned()),
            geo_subdivision_code: Some("HE".to_owned()),
            geo_city: Some("Frankfurt".to_owned()),
            geo_latitude: Some(50.1),
            geo_longitude: Some(8.6),
            mtime: Timestamp::from_secs(1_795_000_000),
        }
    }

    #[test]
    fn borrowed_and_owned_rows_have_the_same_bytes() {
        let host = host(7);

        let bytes = postcard::to_stdvec(&host).unwrap();
        let row: HostRow<'_> = postcard::from_bytes(&bytes).unwrap();

        assert_eq!(row.to_host(), host);
        assert_eq!(postcard::to_stdvec(&row).unwrap(), bytes);
    }

    #[test]
    fn absent_keeps_and_null_clears() {
        let stored = host(1);
        let entry: HostEntry = serde_json::from_str(&format!(
            r#"{{"host_id":"{}","ipv4":null,"status":"down"}}"#,
            stored.host_id
        ))
        .unwrap();

        let merged = entry.merge(Some(stored.as_row()), Timestamp::from_secs(1_795_000_001)).unwrap();

        assert_eq!(merged.ipv4, None);
        assert_eq!(merged.status.as_deref(), Some("down"));
        assert_eq!(merged.fqdn, stored.fqdn);
        assert_eq!(merged.os_family, stored.os_family);
    }

    #[test]
    fn older_mtime_than_the_stored_row_is_skipped() {
        let stored = host(1);
        let mut entry = HostEntry::from(&stored);
        entry.mtime = Some(stored.mtime.before(std::time::Duration::from_secs(1)));

        assert_eq!(entry.merge(Some(stored.as_row()), stored.mtime), Err(SkippedEntry::Stale));
    }

    #[test]
    fn unknown_host_without_a_name_is_skipped() {
        let entry =
            HostEntry { host_id: HostId(uuid::Uuid::from_u128(1)).to_string(), ..HostEntry::default() };

        assert_eq!(entry.merge(None, Timestamp::EPOCH), Err(SkippedEntry::FqdnMissing));
    }
}
