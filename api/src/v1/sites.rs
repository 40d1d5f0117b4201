//! The coordinator's registry of sites (contract B2), and our two routes beside it.

use std::sync::Arc;

use hansa_actors::Federation;
use hansa_actors::error::TrustError;
use hansa_actors::view::{SiteFilter, SiteInvitation, SiteView};
use hansa_model::limits::{site as limits, sync};
use hansa_model::machine::registry::{NewSite, SitePatch};
use hansa_model::scope::Operator;
use hansa_model::secret::hex;
use hansa_model::site::SyncEvent;
use hansa_model::{SiteId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::identity::Quic;
use crate::answer::{Answer, Licensed};
use crate::json::given;
use crate::problem::Problem;
use crate::request::Request;

/// Events of a timeline when no limit is asked for (contract B2).
const TIMELINE_LIMIT_DEFAULT: usize = 100;

/// A site as its coordinator knows it. Never a credential, never a PEM.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Site)]
pub(crate) struct SiteBody {
    id: Uuid,
    name: String,
    location_label: Option<String>,
    url: String,
    /// `pending`, `enrolled`, `suspended` or `removed`.
    status: &'static str,
    /// Hosts of the site, all states.
    host_count: u64,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_sync_at: Option<Timestamp>,
    /// `success` or an error text.
    last_sync_status: Option<String>,
    agent_version_min: Option<String>,
    geo_latitude: Option<f64>,
    geo_longitude: Option<f64>,
    geo_country_code: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    enrolled_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    enrollment_token_expires_at: Option<Timestamp>,
    sync_interval_seconds: u32,
    sysmanage_version: Option<String>,
    connection_state: Option<String>,
    capabilities: Vec<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_metadata_at: Option<Timestamp>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl From<SiteView> for SiteBody {
    fn from(view: SiteView) -> Self {
        let SiteView { site, sync, .. } = view;
        Self {
            id: site.id.0,
            name: site.name.to_string(),
            location_label: site.location_label.clone(),
            url: site.url.clone(),
            status: site.status.as_str(),
            host_count: sync.host_count,
            last_sync_at: sync.last_sync_at,
            last_sync_status: sync.last_sync_status,
            agent_version_min: site.agent_version_min.clone(),
            geo_latitude: site.geo_latitude,
            geo_longitude: site.geo_longitude,
            geo_country_code: site.geo_country_code.clone(),
            enrolled_at: site.enrolled_at,
            enrollment_token_expires_at: site.enrollment.map(|pending| pending.expires_at),
            sync_interval_seconds: site.sync_interval_seconds,
            sysmanage_version: sync.sysmanage_version,
            connection_state: sync.connection_state,
            capabilities: sync.capabilities,
            last_metadata_at: sync.last_metadata_at,
            created_at: site.created_at,
            updated_at: site.updated_at,
        }
    }
}

/// The list of sites.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SitesAnswer {
    #[schema(value_type = bool)]
    licensed: Licensed,
    /// Ordered by name.
    sites: Vec<SiteBody>,
}

/// One site.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SiteAnswer {
    #[schema(value_type = bool)]
    licensed: Licensed,
    site: SiteBody,
}

impl SiteAnswer {
    pub(crate) fn new(view: SiteView) -> Self {
        Self { licensed: Licensed, site: view.into() }
    }
}

/// A site just created, or one whose token was regenerated. The token is shown once.
#[derive(Serialize, ToSchema)]
pub(crate) struct InvitationAnswer {
    #[schema(value_type = bool)]
    licensed: Licensed,
    site: SiteBody,
    /// The one-time token, in plain text here and nowhere else.
    enrollment_token: String,
    #[schema(value_type = String, format = DateTime)]
    enrollment_token_expires_at: Timestamp,
    /// Everything `hansa join` needs, in one text; carries the token.
    join_code: Option<String>,
}

impl From<SiteInvitation> for InvitationAnswer {
    fn from(invitation: SiteInvitation) -> Self {
        Self {
            licensed: Licensed,
            site: invitation.view.into(),
            enrollment_token: invitation.enrollment_token.expose().clone(),
            enrollment_token_expires_at: invitation.expires_at,
            join_code: invitation.join_code.map(|code| code.expose().clone()),
        }
    }
}

/// A site to invite.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewSite)]
pub(crate) struct NewSiteBody {
    /// Unique, not blank; trimmed.
    name: String,
    /// Base URL of the site's HTTP surface; trimmed.
    url: String,
    location_label: Option<String>,
    /// 5 to 86,400; default 300.
    sync_interval_seconds: Option<u32>,
    /// 1 to 720; default 24.
    token_ttl_hours: Option<u32>,
    /// The site's Ed25519 public key in PEM; required before enrollment can succeed.
    site_identity_public_key_pem: Option<String>,
    agent_version_min: Option<String>,
    geo_latitude: Option<f64>,
    geo_longitude: Option<f64>,
    /// Two letters.
    geo_country_code: Option<String>,
}

impl TryFrom<NewSiteBody> for NewSite {
    type Error = Problem;

    fn try_from(body: NewSiteBody) -> Result<Self, Problem> {
        let key = body.site_identity_public_key_pem.filter(|pem| !pem.trim().is_empty());
        Ok(Self {
            name: body.name,
            url: body.url,
            location_label: body.location_label,
            sync_interval_seconds: body.sync_interval_seconds,
            token_ttl_hours: body.token_ttl_hours,
            identity_key: key.map(|pem| Federation::parse_identity_key(&pem)).transpose()?,
            agent_version_min: body.agent_version_min,
            geo_latitude: body.geo_latitude,
            geo_longitude: body.geo_longitude,
            geo_country_code: body.geo_country_code,
        })
    }
}

/// Changes of a site: absent keeps, null clears where the column may be empty.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SitePatch)]
pub(crate) struct SitePatchBody {
    #[serde(default, deserialize_with = "present")]
    name: Option<String>,
    #[serde(default, deserialize_with = "present")]
    url: Option<String>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    location_label: Option<Option<String>>,
    #[serde(default, deserialize_with = "present")]
    sync_interval_seconds: Option<u32>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    agent_version_min: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<f64>)]
    geo_latitude: Option<Option<f64>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<f64>)]
    geo_longitude: Option<Option<f64>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    geo_country_code: Option<Option<String>>,
}

/// A member that may be absent but not null.
pub(crate) fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

impl From<SitePatchBody> for SitePatch {
    fn from(body: SitePatchBody) -> Self {
        Self {
            name: body.name,
            url: body.url,
            location_label: body.location_label,
            sync_interval_seconds: body.sync_interval_seconds,
            agent_version_min: body.agent_version_min,
            geo_latitude: body.geo_latitude,
            geo_longitude: body.geo_longitude,
            geo_country_code: body.geo_country_code,
        }
    }
}

/// How long a new token lives.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RegenerateToken {
    /// 1 to 720; default 24.
    token_ttl_hours: Option<u32>,
}

/// Another identity key for a pending site.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReplaceIdentityKey {
    /// Ed25519 SubjectPublicKeyInfo in PEM.
    public_key_pem: String,
}

/// What a site sends to complete its enrollment. Members that we do not know are ignored.
#[derive(Deserialize, ToSchema)]
pub(crate) struct CompleteEnrollment {
    /// The site's certificate in PEM.
    #[serde(default)]
    tls_cert_pem: Option<String>,
    /// The site's proof over that certificate, base64.
    #[serde(default)]
    identity_proof: Option<String>,
    /// Another spelling of `identity_proof`.
    #[serde(default)]
    identity_proof_b64: Option<String>,
    /// Another spelling of `identity_proof`.
    #[serde(default)]
    site_identity_proof: Option<String>,
}

/// What a site gets for an accepted enrollment.
#[derive(Serialize, ToSchema)]
pub(crate) struct EnrollmentAnswer {
    #[schema(value_type = bool)]
    licensed: Licensed,
    site: SiteBody,
    /// What the site presents over HTTP from now on.
    sync_bearer_token: String,
    /// SHA-256 of what the coordinator presents to the site over HTTP, 64 hexadecimal digits.
    coordinator_inbound_bearer_token_hash: String,
    /// Where the coordinator takes QUIC.
    #[serde(skip_serializing_if = "Option::is_none")]
    quic: Option<Quic>,
}

/// How a site's sync stands.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SyncStatusAnswer {
    #[schema(value_type = bool)]
    licensed: Licensed,
    status: SyncStatus,
}

/// A site's last sync and what it still has to send.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SyncStatus {
    #[schema(value_type = Option<String>, format = DateTime)]
    last_sync_at: Option<Timestamp>,
    last_sync_status: Option<String>,
    /// As the site last said.
    pending_queue_depth: Option<u64>,
}

/// A site's timeline.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TimelineAnswer {
    #[schema(value_type = bool)]
    licensed: Licensed,
    site_id: Uuid,
    sysmanage_version: Option<String>,
    connection_state: Option<String>,
    capabilities: Vec<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_metadata_at: Option<Timestamp>,
    /// The newest events, oldest first.
    events: Vec<SyncEventBody>,
}

/// One sync of a site.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SyncEvent)]
pub(crate) struct SyncEventBody {
    #[schema(value_type = String, format = DateTime)]
    recorded_at: Timestamp,
    /// `success` or `error`.
    sync_status: &'static str,
    latency_ms: Option<u32>,
    queue_depth: Option<u64>,
    host_count: Option<u64>,
}

impl From<SyncEvent> for SyncEventBody {
    fn from(event: SyncEvent) -> Self {
        Self {
            recorded_at: event.recorded_at,
            sync_status: if event.success { "success" } else { "error" },
            latency_ms: event.latency_ms,
            queue_depth: event.queue_depth,
            host_count: event.host_count,
        }
    }
}

pub(crate) fn list(request: &Request, operator: &Operator) -> Result<Answer, Problem> {
    let query = request.query()?;
    let filter = SiteFilter {
        status: query.word("status")?,
        include_removed: query.flag("include_removed")?,
        limit: query.number("limit", 1..=usize::MAX)?,
    };
    let sites = request.federation.sites(operator, &filter);
    Answer::ok(&SitesAnswer { licensed: Licensed, sites: sites.into_iter().map(SiteBody::from).collect() })
}

pub(crate) async fn create(mut request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let body: NewSiteBody = request.json().await?;
    let invitation = request.federation.create_site(&operator, body.try_into()?).await?;
    Answer::ok(&InvitationAnswer::from(invitation))
}

pub(crate) async fn complete_enrollment(mut request: Request) -> Result<Answer, Problem> {
    let body: CompleteEnrollment = request.json().await?;
    let proof = body.identity_proof.or(body.identity_proof_b64).or(body.site_identity_proof);
    let answer = request
        .federation
        .complete_enrollment(
            request.argument("token"),
            &body.tls_cert_pem.unwrap_or_default(),
            &proof.unwrap_or_default(),
        )
        .await?;
    Answer::ok(&EnrollmentAnswer {
        licensed: Licensed,
        site: answer.view.into(),
        sync_bearer_token: answer.sync_bearer.expose().clone(),
        coordinator_inbound_bearer_token_hash: hex(&answer.coordinator_inbound_bearer_hash),
        quic: answer.quic.map(Quic::from),
    })
}

pub(crate) fn show(request: &Request, operator: &Operator) -> Result<Answer, Problem> {
    let view = request.federation.site(operator, request.site_id()?)?;
    Answer::ok(&SiteAnswer::new(view))
}

pub(crate) async fn patch(mut request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let site = request.site_id()?;
    let body: SitePatchBody = request.json().await?;
    let view = request.federation.patch_site(&operator, site, body.into()).await?;
    Answer::ok(&SiteAnswer::new(view))
}

pub(crate) async fn remove(request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let view = request.federation.remove_site(&operator, request.site_id()?).await?;
    Answer::ok(&SiteAnswer::new(view))
}

pub(crate) async fn suspend(request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let view = request.federation.suspend_site(&operator, request.site_id()?).await?;
    Answer::ok(&SiteAnswer::new(view))
}

pub(crate) async fn resume(request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let view = request.federation.resume_site(&operator, request.site_id()?).await?;
    Answer::ok(&SiteAnswer::new(view))
}

pub(crate) async fn regenerate_token(
    mut request: Request,
    operator: Arc<Operator>,
) -> Result<Answer, Problem> {
    let site = request.site_id()?;
    let body: RegenerateToken = request.optional_json().await?;
    let invitation = request.federation.regenerate_token(&operator, site, body.token_ttl_hours).await?;
    Answer::ok(&InvitationAnswer::from(invitation))
}

pub(crate) async fn replace_identity_key(
    mut request: Request,
    operator: Arc<Operator>,
) -> Result<Answer, Problem> {
    let site = request.site_id()?;
    let body: ReplaceIdentityKey = request.json().await?;
    if Federation::parse_identity_key(&body.public_key_pem).is_err() {
        return Err(TrustError::InvalidKey.into());
    }
    let view = request.federation.replace_identity_key(&operator, site, &body.public_key_pem).await?;
    Answer::ok(&SiteAnswer::new(view))
}

pub(crate) fn sync_status(request: &Request, operator: &Operator) -> Result<Answer, Problem> {
    let SiteView { sync, .. } = request.federation.site(operator, request.site_id()?)?;
    Answer::ok(&SyncStatusAnswer {
        licensed: Licensed,
        status: SyncStatus {
            last_sync_at: sync.last_sync_at,
            last_sync_status: sync.last_sync_status,
            pending_queue_depth: sync.queue_depth,
        },
    })
}

pub(crate) fn sync_timeline(request: &Request, operator: &Operator) -> Result<Answer, Problem> {
    let site: SiteId = request.site_id()?;
    let limit = request.query()?.number("limit", 1..=usize::MAX)?.unwrap_or(TIMELINE_LIMIT_DEFAULT);
    let events_max = usize::try_from(sync::EVENTS_MAX).unwrap_or(usize::MAX);
    let timeline = request.federation.timeline(operator, site, limit.min(events_max))?;
    let reported = timeline.view.sync;
    Answer::ok(&TimelineAnswer {
        licensed: Licensed,
        site_id: site.0,
        sysmanage_version: reported.sysmanage_version,
        connection_state: reported.connection_state,
        capabilities: reported.capabilities,
        last_metadata_at: reported.last_metadata_at,
        events: timeline.events.into_iter().map(SyncEventBody::from).collect(),
    })
}

const _: () = assert!(TIMELINE_LIMIT_DEFAULT as u64 <= sync::EVENTS_MAX);
const _: () = assert!(limits::TOKEN_TTL_HOURS_MAX == 720, "the documentation of the bodies names it");

#[cfg(test)]
mod tests {
    use hansa_model::Secret;
    use hansa_model::machine::registry;
    use hansa_model::site::SiteSync;

    use super::*;
    use crate::json;

    const NOW: Timestamp = Timestamp::from_secs(1_795_000_000);

    fn view() -> SiteView {
        let new = NewSite {
            name: "alpha".to_owned(),
            url: "https://alpha.example.com/".to_owned(),
            location_label: Some("Frankfurt".to_owned()),
            identity_key: Some([9; 32]),
            geo_latitude: Some(50.1),
            geo_longitude: Some(8.6),
            geo_country_code: Some("de".to_owned()),
            ..NewSite::default()
        };
        let site = registry::create(SiteId(Uuid::from_u128(1)), NOW, &new, [1; 32]).unwrap().site;
        let sync = SiteSync {
            last_sync_at: Some(NOW),
            last_sync_status: Some("success".to_owned()),
            host_count: 12,
            capabilities: vec!["commands".to_owned()],
            queue_depth: Some(3),
            ..SiteSync::default()
        };
        SiteView { site: Arc::new(site), sync, linked: true, health: None }
    }

    #[test]
    fn site_has_the_documented_members_and_no_credential() {
        insta::assert_json_snapshot!(SiteAnswer::new(view()));
    }

    #[test]
    fn invitation_shows_the_token_once() {
        let invitation = SiteInvitation {
            view: view(),
            enrollment_token: Secret::new("token".to_owned()),
            expires_at: NOW,
            join_code: Some(Secret::new("hansa1_code".to_owned())),
        };

        let body = serde_json::to_value(InvitationAnswer::from(invitation)).unwrap();

        assert_eq!((&body["licensed"], &body["enrollment_token"]), (&true.into(), &"token".into()));
        assert_eq!(body["enrollment_token_expires_at"], body["site"]["created_at"]);
        assert_eq!(body["join_code"], "hansa1_code");
    }

    #[test]
    fn patch_tells_absent_from_null_and_refuses_other_members() {
        let patch: SitePatchBody = json::parse(br#"{"name":"n","location_label":null}"#).unwrap();

        let patch = SitePatch::from(patch);

        assert_eq!(patch.name.as_deref(), Some("n"));
        assert_eq!((patch.location_label, patch.geo_latitude), (Some(None), None));
        for body in
            [r#"{"status":"enrolled"}"#, r#"{"name":null}"#, r#"{"sync_interval_seconds":-5}"#, "[]", "7"]
        {
            assert!(json::parse::<SitePatchBody>(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn event_of_a_timeline_says_success_or_error() {
        let event = SyncEvent {
            recorded_at: NOW,
            success: false,
            latency_ms: None,
            queue_depth: Some(3),
            host_count: None,
        };

        insta::assert_json_snapshot!(SyncEventBody::from(event));
    }
}
