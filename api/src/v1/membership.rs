//! A site's own membership, sync and queue (contract B7).

use std::collections::BTreeMap;
use std::sync::Arc;

use hansa_actors::EnrollRequest;
use hansa_actors::view::{MembershipView, QueueView, SyncStatusView};
use hansa_model::enrollment::EnrollmentStatus;
use hansa_model::limits::inbox;
use hansa_model::scope::Operator;
use hansa_model::{Secret, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::answer::{Answer, Licensed};
use crate::problem::Problem;
use crate::request::Request;

/// The federation to join.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Enroll)]
pub(crate) struct EnrollBody {
    /// Base URL of the coordinator.
    coordinator_url: String,
    /// The one-time token.
    enrollment_token: String,
    /// The coordinator's Ed25519 public key in PEM.
    coordinator_identity_public_key_pem: String,
    /// Seconds between two contacts; 5 to 86,400, default 300.
    #[serde(default)]
    sync_interval_seconds: Option<u32>,
    /// Where the coordinator takes QUIC, `host:port`; asked from the coordinator when absent.
    #[serde(default)]
    quic_address: Option<String>,
    /// Older clients send it; the coordinator's own answer counts.
    #[serde(default, rename = "coordinator_tls_cert_pem")]
    _coordinator_tls_cert_pem: Option<String>,
    /// Older clients send it; the node's own certificate counts.
    #[serde(default, rename = "site_tls_cert_pem")]
    _site_tls_cert_pem: Option<String>,
}

impl From<EnrollBody> for EnrollRequest {
    fn from(body: EnrollBody) -> Self {
        Self {
            coordinator_url: body.coordinator_url,
            enrollment_token: Secret::new(body.enrollment_token),
            coordinator_identity_public_key_pem: body.coordinator_identity_public_key_pem,
            quic_address: body.quic_address,
            sync_interval_seconds: body.sync_interval_seconds,
        }
    }
}

/// Where the coordinator is reached from now on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CoordinatorAddress)]
pub(crate) struct CoordinatorAddressBody {
    /// Its base URL.
    coordinator_url: String,
    /// Where it takes QUIC, `host:port`; absent for an HTTP peer.
    #[serde(default)]
    quic_address: Option<String>,
}

/// The site's own membership.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MembershipAnswer {
    #[schema(value_type = bool)]
    licensed: Licensed,
    /// `not_enrolled`, `pending`, `enrolled`, `suspended` or `removed`.
    status: &'static str,
    coordinator: Option<CoordinatorBody>,
}

/// The coordinator of a site. Never a bearer.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Coordinator)]
pub(crate) struct CoordinatorBody {
    coordinator_url: String,
    /// The site's id there.
    site_id: Option<Uuid>,
    #[schema(value_type = Option<String>, format = DateTime)]
    enrolled_at: Option<Timestamp>,
    sync_interval_seconds: u32,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_sync_at: Option<Timestamp>,
    last_sync_status: Option<String>,
    /// Null for an HTTP peer.
    quic_address: Option<String>,
}

impl From<MembershipView> for MembershipAnswer {
    fn from(view: MembershipView) -> Self {
        let status = match view.enrollment.as_ref().map(|enrollment| enrollment.status) {
            None => "not_enrolled",
            Some(EnrollmentStatus::Pending) => "pending",
            Some(EnrollmentStatus::Enrolled) => "enrolled",
            Some(EnrollmentStatus::Suspended) => "suspended",
            Some(EnrollmentStatus::Removed) => "removed",
        };
        let connection = view.connection;
        let coordinator = view.enrollment.map(|enrollment| CoordinatorBody {
            coordinator_url: enrollment.coordinator_url,
            site_id: enrollment.site_id.map(|site| site.0),
            enrolled_at: enrollment.enrolled_at,
            sync_interval_seconds: enrollment.sync_interval_seconds,
            last_sync_at: connection.last_sync_at,
            last_sync_status: connection.last_sync_status,
            quic_address: enrollment.quic_address,
        });
        Self { licensed: Licensed, status, coordinator }
    }
}

/// The uplink and what waits for it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SiteSyncStatus {
    #[schema(value_type = bool)]
    licensed: Licensed,
    /// `unknown`, `online`, `degraded` or `offline`.
    state: &'static str,
    enrolled: bool,
    /// Enrolled, and the uplink is offline: the site works alone.
    autonomous: bool,
    consecutive_failures: u32,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_sync_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_successful_sync_at: Option<Timestamp>,
    last_sync_status: Option<String>,
    last_sync_error: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    next_reconnect_at: Option<Timestamp>,
    /// Rows not acknowledged. Exact.
    queue_depth: u64,
    queue_depth_by_payload_type: BTreeMap<String, u64>,
    /// When the oldest waiting row was recorded.
    #[schema(value_type = Option<String>, format = DateTime)]
    queue_oldest_at: Option<Timestamp>,
    /// Branches of the directory that a running repair or resync still has to send.
    resync_leaves: u64,
}

impl From<SyncStatusView> for SiteSyncStatus {
    fn from(view: SyncStatusView) -> Self {
        let SyncStatusView { connection, enrolled, autonomous, queue } = view;
        Self {
            licensed: Licensed,
            state: connection.state.as_str(),
            enrolled,
            autonomous,
            consecutive_failures: connection.consecutive_failures,
            last_sync_at: connection.last_sync_at,
            last_successful_sync_at: connection.last_successful_sync_at,
            last_sync_status: connection.last_sync_status,
            last_sync_error: connection.last_sync_error,
            next_reconnect_at: connection.next_reconnect_at,
            queue_depth: queue.depth,
            queue_depth_by_payload_type: queue.by_payload_type,
            queue_oldest_at: queue.oldest_at,
            resync_leaves: queue.resync_leaves,
        }
    }
}

/// What a site still has to send.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QueueAnswer {
    #[schema(value_type = bool)]
    licensed: Licensed,
    /// Rows not acknowledged. Exact.
    depth: u64,
    by_payload_type: BTreeMap<String, u64>,
    /// Entries that only an operator can revive.
    dead: u64,
    /// When the oldest waiting row was recorded.
    #[schema(value_type = Option<String>, format = DateTime)]
    oldest_at: Option<Timestamp>,
    /// Branches of the directory that a running repair or resync still has to send.
    resync_leaves: u64,
}

impl From<QueueView> for QueueAnswer {
    fn from(queue: QueueView) -> Self {
        Self {
            licensed: Licensed,
            depth: queue.depth,
            by_payload_type: queue.by_payload_type,
            dead: queue.dead,
            oldest_at: queue.oldest_at,
            resync_leaves: queue.resync_leaves,
        }
    }
}

pub(crate) async fn enroll(mut request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let body: EnrollBody = request.json().await?;
    let membership = request.federation.enroll(&operator, body.into()).await?;
    Answer::ok(&MembershipAnswer::from(membership))
}

pub(crate) async fn relocate(mut request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let CoordinatorAddressBody { coordinator_url, quic_address } = request.json().await?;
    let relocated = request.federation.relocate_coordinator(&operator, &coordinator_url, quic_address);
    Answer::ok(&MembershipAnswer::from(relocated.await?))
}

pub(crate) fn enrollment_status(request: &Request) -> Result<Answer, Problem> {
    Answer::ok(&MembershipAnswer::from(request.federation.membership()))
}

pub(crate) fn sync_status(request: &Request) -> Result<Answer, Problem> {
    Answer::ok(&SiteSyncStatus::from(request.federation.sync_status()))
}

pub(crate) fn queue_depth(request: &Request) -> Result<Answer, Problem> {
    Answer::ok(&QueueAnswer::from(request.federation.queue()))
}

/// Something that the coordinator refused for good. What it says is not shown: a report may be large.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadEntry {
    /// Names the entry to `requeue`.
    id: u64,
    payload_type: String,
    dedup_key: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    attempts: u32,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_attempt_at: Option<Timestamp>,
    last_error: Option<String>,
    /// Bytes of the payload.
    bytes: usize,
}

/// What the coordinator refused for good, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadAnswer {
    #[schema(value_type = bool)]
    licensed: Licensed,
    entries: Vec<DeadEntry>,
}

/// Which dead entries to send once more.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Requeue {
    /// Their ids; all when absent.
    #[serde(default)]
    ids: Option<Vec<u64>>,
}

/// What was requeued.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RequeueAnswer {
    #[schema(value_type = bool)]
    licensed: Licensed,
    requeued_count: u64,
}

/// How much of the queue stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Purge {
    /// Payloads that stay, the newest.
    keep_newest: u64,
}

/// What was dropped.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PurgeAnswer {
    #[schema(value_type = bool)]
    licensed: Licensed,
    purged_count: u64,
}

/// The membership is over.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LeaveAnswer {
    #[schema(value_type = bool)]
    licensed: Licensed,
    /// Always `not_enrolled`.
    status: &'static str,
    /// The coordinator knows. If not, its operator removes the site there.
    notified: bool,
}

pub(crate) fn dead(request: &Request) -> Result<Answer, Problem> {
    let limit = request.query()?.number("limit", 1..=inbox::LIMIT_MAX)?.unwrap_or(inbox::LIMIT_DEFAULT);
    let rows = request.federation.dead_letters(limit)?;
    let entries = rows
        .into_iter()
        .map(|(id, entry)| DeadEntry {
            id,
            payload_type: entry.payload_type,
            dedup_key: entry.dedup_key,
            created_at: entry.created_at,
            attempts: entry.attempts,
            last_attempt_at: entry.last_attempt_at,
            last_error: entry.last_error,
            bytes: entry.bytes,
        })
        .collect();
    Answer::ok(&DeadAnswer { licensed: Licensed, entries })
}

pub(crate) async fn requeue(mut request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let body: Requeue = request.optional_json().await?;
    let requeued_count = request.federation.requeue(&operator, body.ids).await?;
    Answer::ok(&RequeueAnswer { licensed: Licensed, requeued_count })
}

pub(crate) async fn purge(mut request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let body: Purge = request.json().await?;
    let purged_count = request.federation.purge_oldest(&operator, body.keep_newest).await?;
    Answer::ok(&PurgeAnswer { licensed: Licensed, purged_count })
}

pub(crate) async fn leave(request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let notified = request.federation.leave(&operator).await?;
    Answer::ok(&LeaveAnswer { licensed: Licensed, status: "not_enrolled", notified })
}

pub(crate) async fn resync(request: Request, _operator: Arc<Operator>) -> Result<Answer, Problem> {
    Answer::ok(&QueueAnswer::from(request.federation.resync().await?))
}

#[cfg(test)]
mod tests {
    use hansa_model::SiteId;
    use hansa_model::enrollment::Enrollment;
    use hansa_model::machine::link::Connection;

    use super::*;
    use crate::json;

    const NOW: Timestamp = Timestamp::from_secs(1_795_000_000);

    fn connection() -> Connection {
        let mut connection = Connection::default();
        connection.succeeded(NOW);
        connection
    }

    #[test]
    fn membership_shows_no_credential() {
        let enrollment = Enrollment {
            coordinator_url: "https://hq.example.com".to_owned(),
            coordinator_identity_key: [7; 32],
            coordinator_tls_cert_pem: Some("PEM".to_owned()),
            quic_address: Some("hq.example.com:7443".to_owned()),
            status: EnrollmentStatus::Enrolled,
            site_id: Some(SiteId(Uuid::from_u128(1))),
            enrolled_at: Some(NOW),
            sync_interval_seconds: 300,
            inbound_bearer_hash: Some([8; 32]),
        };
        let view = MembershipView { enrollment: Some(enrollment), connection: connection() };

        insta::assert_json_snapshot!(MembershipAnswer::from(view));
    }

    #[test]
    fn node_that_never_enrolled_says_so() {
        let view = MembershipView { enrollment: None, connection: Connection::default() };

        let body = serde_json::to_value(MembershipAnswer::from(view)).unwrap();

        assert_eq!(
            body,
            serde_json::json!({"licensed": true, "status": "not_enrolled", "coordinator": null})
        );
    }

    #[test]
    fn sync_status_has_the_connection_at_top_level() {
        let queue = QueueView {
            depth: 3,
            by_payload_type: BTreeMap::from([("host_directory".to_owned(), 3)]),
            ..QueueView::default()
        };
        let view = SyncStatusView { connection: connection(), enrolled: true, autonomous: false, queue };

        insta::assert_json_snapshot!(SiteSyncStatus::from(view));
    }

    #[test]
    fn enroll_takes_what_older_clients_send() {
        let body =
            br#"{"coordinator_url":"u","enrollment_token":"t","coordinator_identity_public_key_pem":"k",
            "coordinator_tls_cert_pem":"c","site_tls_cert_pem":"s","sync_interval_seconds":60}"#;

        let request = EnrollRequest::from(json::parse::<EnrollBody>(body).unwrap());

        assert_eq!((request.coordinator_url.as_str(), request.sync_interval_seconds), ("u", Some(60)));
        assert!(json::parse::<EnrollBody>(br#"{"coordinator_url":"u"}"#).is_err());
    }
}
