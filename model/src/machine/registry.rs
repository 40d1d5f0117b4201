//! The life of a site's membership: created, enrolled, suspended, resumed, removed (contract 2 and B2).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::audit::Detail;
use crate::host::Patch;
use crate::limits::site as limits;
use crate::secret::TokenHash;
use crate::site::{
    CompletedEnrollment, InvalidSite, PendingEnrollment, Site, SiteName, SiteStatus, optional_text, site_url,
};
use crate::{SiteId, Timestamp};

/// The entry that a decision leaves in the audit log; the shell adds id, time, actor and target.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Name of the operation (contract 9 and ours).
    pub operation: &'static str,
    /// What the contract names for it.
    pub details: BTreeMap<String, Detail>,
}

impl Entry {
    pub(crate) fn new<const N: usize>(operation: &'static str, details: [(&str, Detail); N]) -> Self {
        let details = details.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { operation, details }
    }
}

/// What should happen to a site's row.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The row after the change.
    pub site: Site,
    /// None when nothing changed.
    pub entry: Option<Entry>,
    /// What the live link of the site must be told.
    pub link: LinkEffect,
}

/// What a change of the row means for the site's live link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkEffect {
    /// Nothing.
    Keep,
    /// Close it with the suspend notice.
    CloseSuspended,
    /// Close it with the notice that the site is gone.
    CloseRemoved,
    /// Close it; the peer's identity is no longer this one.
    CloseReplaced,
}

/// A change that the row's present state does not allow, or a bad value.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Rejection {
    /// The row is in another state. Nothing to retry until it changes.
    #[error("the site is {status}: {needs}")]
    State {
        /// The present state.
        status: SiteStatus,
        /// What the operation needs instead.
        needs: &'static str,
    },
    /// A value is bad. Fix the request.
    #[error(transparent)]
    Invalid(#[from] InvalidSite),
}

/// What an operator gives for a new site.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NewSite {
    /// Unique; trimmed.
    pub name: String,
    /// Base URL; trimmed.
    pub url: String,
    /// Free text.
    pub location_label: Option<String>,
    /// Default 300.
    pub sync_interval_seconds: Option<u32>,
    /// Default 24.
    pub token_ttl_hours: Option<u32>,
    /// Ed25519 public key, 32 bytes; required before enrollment can succeed.
    pub identity_key: Option<[u8; 32]>,
    /// Least agent version that commands are sent to.
    pub agent_version_min: Option<String>,
    /// Degrees.
    pub geo_latitude: Option<f64>,
    /// Degrees.
    pub geo_longitude: Option<f64>,
    /// Two letters.
    pub geo_country_code: Option<String>,
}

/// A change of a site's row: absent keeps, null clears.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SitePatch {
    /// New name.
    pub name: Option<String>,
    /// New URL.
    pub url: Option<String>,
    /// New label.
    pub location_label: Patch<String>,
    /// New interval.
    pub sync_interval_seconds: Option<u32>,
    /// New bound.
    pub agent_version_min: Patch<String>,
    /// New latitude.
    pub geo_latitude: Patch<f64>,
    /// New longitude.
    pub geo_longitude: Patch<f64>,
    /// New country.
    pub geo_country_code: Patch<String>,
}

/// Creates a pending site.
///
/// # Errors
/// A value is bad; nothing is created.
pub fn create(
    id: SiteId,
    now: Timestamp,
    new: &NewSite,
    token_hash: TokenHash,
) -> Result<Decision, InvalidSite> {
    let ttl_hours = token_ttl_hours(new.token_ttl_hours)?;
    let site = Site {
        id,
        name: SiteName::new(&new.name)?,
        location_label: optional_text(
            "location_label",
            new.location_label.as_deref(),
            limits::NAME_BYTES_MAX,
        )?,
        url: site_url(&new.url)?,
        status: SiteStatus::Pending,
        sync_interval_seconds: sync_interval(
            new.sync_interval_seconds.unwrap_or(limits::SYNC_INTERVAL_SECONDS_DEFAULT),
        )?,
        agent_version_min: optional_text(
            "agent_version_min",
            new.agent_version_min.as_deref(),
            limits::VERSION_BYTES_MAX,
        )?,
        geo_latitude: degrees("geo_latitude", new.geo_latitude, 90.0)?,
        geo_longitude: degrees("geo_longitude", new.geo_longitude, 180.0)?,
        geo_country_code: country(new.geo_country_code.as_deref())?,
        created_at: now,
        updated_at: now,
        enrolled_at: None,
        enrollment: Some(PendingEnrollment { token_hash, expires_at: now.after(hours(ttl_hours)) }),
        identity_key: new.identity_key,
        tls_cert_pem: None,
        sync_bearer_hash: None,
        completed: None,
    };
    let label = site.location_label.clone().map_or(Detail::Null, Detail::Text);
    let entry = Entry::new(
        "site_enrollment_started",
        [
            ("name", site.name.as_str().into()),
            ("url", site.url.as_str().into()),
            ("location_label", label),
            ("token_ttl_hours", Detail::Int(ttl_hours.into())),
        ],
    );
    Ok(Decision { site, entry: Some(entry), link: LinkEffect::Keep })
}

/// Changes what an operator may change.
///
/// # Errors
/// The site is removed, or a value is bad.
pub fn patch(site: &Site, now: Timestamp, patch: &SitePatch) -> Result<Decision, Rejection> {
    if site.status == SiteStatus::Removed {
        return Err(state(site, "a removed site cannot be changed"));
    }
    let mut next = site.clone();
    if let Some(name) = &patch.name {
        next.name = SiteName::new(name)?;
    }
    if let Some(url) = &patch.url {
        next.url = site_url(url)?;
    }
    if let Some(label) = &patch.location_label {
        next.location_label = optional_text("location_label", label.as_deref(), limits::NAME_BYTES_MAX)?;
    }
    if let Some(seconds) = patch.sync_interval_seconds {
        next.sync_interval_seconds = sync_interval(seconds)?;
    }
    if let Some(version) = &patch.agent_version_min {
        next.agent_version_min =
            optional_text("agent_version_min", version.as_deref(), limits::VERSION_BYTES_MAX)?;
    }
    if let Some(latitude) = patch.geo_latitude {
        next.geo_latitude = degrees("geo_latitude", latitude, 90.0)?;
    }
    if let Some(longitude) = patch.geo_longitude {
        next.geo_longitude = degrees("geo_longitude", longitude, 180.0)?;
    }
    if let Some(code) = &patch.geo_country_code {
        next.geo_country_code = country(code.as_deref())?;
    }
    let changes = changes(site, &next);
    if changes.is_empty() {
        return Ok(Decision { site: next, entry: None, link: LinkEffect::Keep });
    }
    next.updated_at = now;
    let entry = Entry::new("site_updated", [("changes", Detail::Map(changes))]);
    Ok(Decision { site: next, entry: Some(entry), link: LinkEffect::Keep })
}

/// Puts an enrolled site on hold.
///
/// # Errors
/// The site is not enrolled.
pub fn suspend(site: &Site, now: Timestamp) -> Result<Decision, Rejection> {
    if site.status != SiteStatus::Enrolled {
        return Err(state(site, "only an enrolled site can be suspended"));
    }
    Ok(moved(site, now, SiteStatus::Suspended, "site_suspended", LinkEffect::CloseSuspended))
}

/// Takes a suspended site back.
///
/// # Errors
/// The site is not suspended.
pub fn resume(site: &Site, now: Timestamp) -> Result<Decision, Rejection> {
    if site.status != SiteStatus::Suspended {
        return Err(state(site, "only a suspended site can be resumed"));
    }
    Ok(moved(site, now, SiteStatus::Enrolled, "site_resumed", LinkEffect::Keep))
}

/// Removes a site for good, or cancels its enrollment; a repeat changes nothing.
///
/// The row stays readable; all credentials go. The identity key stays so that the former site can be told
/// that it is gone.
pub fn remove(site: &Site, now: Timestamp) -> Decision {
    let entry = match site.status {
        SiteStatus::Removed => return Decision { site: site.clone(), entry: None, link: LinkEffect::Keep },
        SiteStatus::Pending => Entry::new("site_enrollment_cancelled", [("name", site.name.as_str().into())]),
        SiteStatus::Enrolled | SiteStatus::Suspended => {
            Entry::new("site_removed", [("previous_status", site.status.as_str().into())])
        }
    };
    let next = Site {
        status: SiteStatus::Removed,
        updated_at: now,
        enrollment: None,
        sync_bearer_hash: None,
        completed: None,
        ..site.clone()
    };
    Decision { site: next, entry: Some(entry), link: LinkEffect::CloseRemoved }
}

/// Puts out a new token for a pending site; the old one is void.
///
/// # Errors
/// The site is not pending, or the life is out of range.
pub fn regenerate_token(
    site: &Site,
    now: Timestamp,
    ttl_hours: Option<u32>,
    token_hash: TokenHash,
) -> Result<Decision, Rejection> {
    if site.status != SiteStatus::Pending {
        return Err(state(site, "only a pending site has an enrollment token"));
    }
    let ttl_hours = token_ttl_hours(ttl_hours)?;
    let next = Site {
        enrollment: Some(PendingEnrollment { token_hash, expires_at: now.after(hours(ttl_hours)) }),
        updated_at: now,
        ..site.clone()
    };
    let entry = Entry::new("site_token_regenerated", [("token_ttl_hours", Detail::Int(ttl_hours.into()))]);
    Ok(Decision { site: next, entry: Some(entry), link: LinkEffect::Keep })
}

/// Replaces the key that a pending site must prove, so that a wrong one does not burn the name.
///
/// # Errors
/// The site is not pending.
pub fn replace_identity_key(site: &Site, now: Timestamp, key: [u8; 32]) -> Result<Decision, Rejection> {
    if site.status != SiteStatus::Pending {
        return Err(state(
            site,
            "the identity key can be replaced only before enrollment: remove the site and add it again",
        ));
    }
    let next = Site { identity_key: Some(key), updated_at: now, ..site.clone() };
    let changed = [("identity_key".to_owned(), Detail::from("replaced"))].into_iter().collect();
    let entry = Entry::new("site_updated", [("changes", Detail::Map(changed))]);
    Ok(Decision { site: next, entry: Some(entry), link: LinkEffect::CloseReplaced })
}

/// A completion of enrollment, as it arrived.
#[derive(Debug, Clone, Copy)]
pub struct Completion<'a> {
    /// SHA-256 of the token that was presented.
    pub token_hash: TokenHash,
    /// The site's certificate, PEM.
    pub tls_cert_pem: &'a str,
    /// SHA-256 over certificate and proof: tells a repeat from another try.
    pub answer_to: [u8; 32],
    /// SHA-256 of the sync bearer that will be handed out.
    pub sync_bearer_hash: TokenHash,
}

/// Why an enrollment was refused. The token stays usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnrollmentRefusal {
    /// No pending site has this token.
    #[error("the enrollment token is unknown or already used: ask the coordinator's operator for a new one")]
    UnknownToken,
    /// The token is too old.
    #[error("the enrollment token has expired: ask the coordinator's operator to regenerate it")]
    ExpiredToken,
    /// The certificate is missing.
    #[error("tls_cert_pem is required: send the site's own certificate in PEM")]
    CertificateMissing,
    /// The coordinator's operator has not registered the site's identity key.
    #[error("the site's identity key is not registered: give it to the coordinator's operator first")]
    IdentityMissing,
    /// The proof does not fit certificate, role and registered key.
    #[error("the identity proof does not verify against the registered identity key")]
    IdentityMismatch,
}

/// Completes enrollment, or answers a repeat whose answer was lost.
///
/// `verifies` checks the proof against the registered identity key.
///
/// # Errors
/// [`EnrollmentRefusal`]; the row is unchanged and the token stays usable.
pub fn complete(
    site: &Site,
    now: Timestamp,
    completion: Completion<'_>,
    verifies: impl FnOnce(&[u8; 32]) -> bool,
) -> Result<Decision, EnrollmentRefusal> {
    if completion.tls_cert_pem.trim().is_empty() {
        return Err(EnrollmentRefusal::CertificateMissing);
    }
    let expires_at = match (site.status, site.enrollment, site.completed) {
        (SiteStatus::Pending, Some(pending), _) if pending.token_hash == completion.token_hash => {
            pending.expires_at
        }
        (SiteStatus::Enrolled, None, Some(completed))
            if completed.token_hash == completion.token_hash
                && completed.answer_to == completion.answer_to =>
        {
            completed.expires_at
        }
        _ => return Err(EnrollmentRefusal::UnknownToken),
    };
    if expires_at < now {
        return Err(EnrollmentRefusal::ExpiredToken);
    }
    let identity_key = site.identity_key.ok_or(EnrollmentRefusal::IdentityMissing)?;
    if !verifies(&identity_key) {
        return Err(EnrollmentRefusal::IdentityMismatch);
    }
    let next = Site {
        status: SiteStatus::Enrolled,
        updated_at: now,
        enrolled_at: Some(now),
        enrollment: None,
        tls_cert_pem: Some(completion.tls_cert_pem.to_owned()),
        sync_bearer_hash: Some(completion.sync_bearer_hash),
        completed: Some(CompletedEnrollment {
            token_hash: completion.token_hash,
            answer_to: completion.answer_to,
            expires_at,
        }),
        ..site.clone()
    };
    let entry = Entry::new(
        "site_enrollment_completed",
        [("name", site.name.as_str().into()), ("url", site.url.as_str().into())],
    );
    Ok(Decision { site: next, entry: Some(entry), link: LinkEffect::CloseReplaced })
}

/// Forgets the completed enrollment at the site's first authenticated contact; none if there is nothing to forget.
pub fn first_contact(site: &Site) -> Option<Site> {
    site.completed.is_some().then(|| Site { completed: None, ..site.clone() })
}

fn moved(
    site: &Site,
    now: Timestamp,
    status: SiteStatus,
    operation: &'static str,
    link: LinkEffect,
) -> Decision {
    let entry = Entry::new(
        operation,
        [
            ("previous_status", Detail::List(vec![site.status.as_str().into()])),
            ("new_status", status.as_str().into()),
        ],
    );
    Decision { site: Site { status, updated_at: now, ..site.clone() }, entry: Some(entry), link }
}

fn state(site: &Site, needs: &'static str) -> Rejection {
    Rejection::State { status: site.status, needs }
}

fn changes(old: &Site, new: &Site) -> BTreeMap<String, Detail> {
    fn text(value: Option<&String>) -> Detail {
        value.map_or(Detail::Null, |text| text.as_str().into())
    }
    fn number(value: Option<f64>) -> Detail {
        value.map_or(Detail::Null, Detail::Float)
    }
    [
        ("name", old.name != new.name, Detail::from(new.name.as_str())),
        ("url", old.url != new.url, Detail::from(new.url.as_str())),
        ("location_label", old.location_label != new.location_label, text(new.location_label.as_ref())),
        (
            "sync_interval_seconds",
            old.sync_interval_seconds != new.sync_interval_seconds,
            Detail::Int(new.sync_interval_seconds.into()),
        ),
        (
            "agent_version_min",
            old.agent_version_min != new.agent_version_min,
            text(new.agent_version_min.as_ref()),
        ),
        ("geo_latitude", old.geo_latitude != new.geo_latitude, number(new.geo_latitude)),
        ("geo_longitude", old.geo_longitude != new.geo_longitude, number(new.geo_longitude)),
        (
            "geo_country_code",
            old.geo_country_code != new.geo_country_code,
            text(new.geo_country_code.as_ref()),
        ),
    ]
    .into_iter()
    .filter(|(_, changed, _)| *changed)
    .map(|(name, _, value)| (name.to_owned(), value))
    .collect()
}

fn hours(count: u32) -> Duration {
    Duration::from_secs(u64::from(count) * 3_600)
}

fn token_ttl_hours(hours: Option<u32>) -> Result<u32, InvalidSite> {
    let hours = hours.unwrap_or(limits::TOKEN_TTL_HOURS_DEFAULT);
    in_range("token_ttl_hours", hours, 1, limits::TOKEN_TTL_HOURS_MAX)
}

/// Checks a sync interval.
///
/// # Errors
/// It is not between 5 seconds and a day.
pub fn sync_interval(seconds: u32) -> Result<u32, InvalidSite> {
    in_range(
        "sync_interval_seconds",
        seconds,
        limits::SYNC_INTERVAL_SECONDS_MIN,
        limits::SYNC_INTERVAL_SECONDS_MAX,
    )
}

fn in_range(field: &'static str, value: u32, min: u32, max: u32) -> Result<u32, InvalidSite> {
    if (min..=max).contains(&value) {
        Ok(value)
    } else {
        Err(InvalidSite::OutOfRange { field, min: min.into(), max: max.into() })
    }
}

fn degrees(field: &'static str, value: Option<f64>, bound: f64) -> Result<Option<f64>, InvalidSite> {
    match value {
        Some(degrees) if !(-bound..=bound).contains(&degrees) => {
            Err(InvalidSite::OutOfRange { field, min: -bound, max: bound })
        }
        value => Ok(value),
    }
}

fn country(code: Option<&str>) -> Result<Option<String>, InvalidSite> {
    match code.map(str::trim) {
        None | Some("") => Ok(None),
        Some(code) if code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_alphabetic()) => {
            Ok(Some(code.to_ascii_uppercase()))
        }
        Some(_) => Err(InvalidSite::CountryCode),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_795_000_000);
    const TOKEN: TokenHash = [1; 32];
    const KEY: [u8; 32] = [9; 32];

    fn pending() -> Site {
        let new = NewSite {
            name: "alpha".to_owned(),
            url: "https://alpha.example.com".to_owned(),
            identity_key: Some(KEY),
            ..NewSite::default()
        };
        create(SiteId(uuid::Uuid::from_u128(1)), NOW, &new, TOKEN).unwrap().site
    }

    fn completion() -> Completion<'static> {
        Completion { token_hash: TOKEN, tls_cert_pem: "PEM", answer_to: [2; 32], sync_bearer_hash: [3; 32] }
    }

    fn enrolled() -> Site {
        complete(&pending(), NOW, completion(), |key| *key == KEY).unwrap().site
    }

    #[test]
    fn completion_burns_the_token_and_enrolls() {
        let site = enrolled();

        assert_eq!(site.status, SiteStatus::Enrolled);
        assert_eq!(site.enrollment, None);
        assert_eq!(site.enrolled_at, Some(NOW));
    }

    #[test]
    fn failed_completion_names_its_reason_in_the_documented_order() {
        let pending = pending();
        let late = NOW.after(hours(25));
        let no_key = Site { identity_key: None, ..pending.clone() };

        let no_cert = Completion { tls_cert_pem: " ", ..completion() };
        let other_token = Completion { token_hash: [8; 32], ..completion() };

        assert_eq!(complete(&pending, NOW, no_cert, |_| true), Err(EnrollmentRefusal::CertificateMissing));
        assert_eq!(complete(&pending, NOW, other_token, |_| true), Err(EnrollmentRefusal::UnknownToken));
        assert_eq!(complete(&pending, late, completion(), |_| true), Err(EnrollmentRefusal::ExpiredToken));
        assert_eq!(complete(&no_key, NOW, completion(), |_| true), Err(EnrollmentRefusal::IdentityMissing));
        assert_eq!(
            complete(&pending, NOW, completion(), |_| false),
            Err(EnrollmentRefusal::IdentityMismatch)
        );
    }

    #[test]
    fn lost_answer_is_given_again_until_first_contact() {
        let site = enrolled();
        let again = Completion { sync_bearer_hash: [4; 32], ..completion() };
        let other_certificate = Completion { answer_to: [5; 32], ..completion() };

        let repeated = complete(&site, NOW, again, |_| true).unwrap().site;

        assert_eq!(repeated.sync_bearer_hash, Some([4; 32]));
        assert_eq!(complete(&site, NOW, other_certificate, |_| true), Err(EnrollmentRefusal::UnknownToken));
        let contacted = first_contact(&repeated).unwrap();
        assert_eq!(complete(&contacted, NOW, again, |_| true), Err(EnrollmentRefusal::UnknownToken));
    }

    #[test]
    fn only_the_documented_moves_are_allowed() {
        let (pending, enrolled) = (pending(), enrolled());
        let suspended = suspend(&enrolled, NOW).unwrap().site;
        let removed = remove(&enrolled, NOW).site;

        assert!(suspend(&pending, NOW).is_err() && suspend(&suspended, NOW).is_err());
        assert!(resume(&enrolled, NOW).is_err() && resume(&removed, NOW).is_err());
        assert_eq!(resume(&suspended, NOW).unwrap().site.status, SiteStatus::Enrolled);
        assert!(patch(&removed, NOW, &SitePatch::default()).is_err());
        assert!(replace_identity_key(&enrolled, NOW, KEY).is_err());
    }

    #[test]
    fn removal_clears_credentials_and_repeats_silently() {
        let removed = remove(&enrolled(), NOW);

        assert_eq!(removed.site.sync_bearer_hash, None);
        assert_eq!(removed.link, LinkEffect::CloseRemoved);
        assert_eq!(remove(&removed.site, NOW).entry, None);
        assert_eq!(remove(&pending(), NOW).entry.unwrap().operation, "site_enrollment_cancelled");
    }

    #[test]
    fn unchanged_patch_writes_no_entry() {
        let site = enrolled();
        let same = SitePatch { name: Some(" alpha ".to_owned()), ..SitePatch::default() };
        let other = SitePatch { geo_country_code: Some(Some("de".to_owned())), ..SitePatch::default() };

        assert_eq!(patch(&site, NOW, &same).unwrap().entry, None);
        let changed = patch(&site, NOW, &other).unwrap();
        assert_eq!(changed.site.geo_country_code.as_deref(), Some("DE"));
        assert_eq!(changed.entry.unwrap().operation, "site_updated");
    }
}
