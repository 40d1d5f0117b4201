//! What the facade answers: plain values, without a handle to anything that lives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hansa_model::alert::{Overrides, SiteHealth, Thresholds};
use hansa_model::audit::AuditEntry;
use hansa_model::command::{Command, CommandStatus, HostOutcome};
use hansa_model::directory::Filter;
use hansa_model::enrollment::{Enrollment, Role};
use hansa_model::finding::{FindingsSummary, ScanSummary};
use hansa_model::host::SkippedEntry;
use hansa_model::id::PolicyId;
use hansa_model::lease::{Lease, LeaseStatus};
use hansa_model::machine::command::ReportRefusal;
use hansa_model::machine::link::Connection;
use hansa_model::machine::past::PastChange;
use hansa_model::machine::policy::Plan;
use hansa_model::machine::rollout::{Progress, Staging};
use hansa_model::machine::rollup::SiteRollups;
use hansa_model::machine::rollup_board::{Coverage, Standing};
use hansa_model::policy::{Assignment, Policy, Rollout};
use hansa_model::rollup::{ComplianceRollup, Totals, VulnerabilityRollup};
use hansa_model::scope::Scope;
use hansa_model::secret::TokenHash;
use hansa_model::secrets::id::TenantId;
use hansa_model::site::{Site, SiteStatus, SiteSync, SyncEvent};
use hansa_model::{Host, HostId, Secret, SiteId, SiteName, Timestamp};

/// A site's row and what the site last reported.
#[derive(Debug, Clone)]
pub struct SiteView {
    /// What operators decide.
    pub site: Arc<Site>,
    /// What the site reports.
    pub sync: SiteSync,
    /// Whether a QUIC link is up now.
    pub linked: bool,
    /// What the site last said of itself outside its stream, since this node started.
    pub health: Option<SiteHealth>,
}

/// Which sites a list shows (contract B2).
#[derive(Debug, Clone, Default)]
pub struct SiteFilter {
    /// Exactly this state.
    pub status: Option<SiteStatus>,
    /// Removed sites too.
    pub include_removed: bool,
    /// At most so many.
    pub limit: Option<usize>,
}

/// A site just created, or one whose token was regenerated. The token is shown once.
#[derive(Debug, Clone)]
pub struct SiteInvitation {
    /// The pending site.
    pub view: SiteView,
    /// The one-time token.
    pub enrollment_token: Secret<String>,
    /// Its end.
    pub expires_at: Timestamp,
    /// Everything `hansa join` needs, in one text; carries the token. None when the node does not know
    /// the URL it is reached at.
    pub join_code: Option<Secret<String>>,
}

/// Where a node takes QUIC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuicAddress {
    /// `host:port`.
    pub address: String,
    /// The application protocol, `hansa/1`.
    pub alpn: &'static str,
}

/// The answer to an accepted enrollment completion.
#[derive(Debug, Clone)]
pub struct EnrollmentAnswer {
    /// The enrolled site.
    pub view: SiteView,
    /// What the site presents over HTTP from now on.
    pub sync_bearer: Secret<String>,
    /// SHA-256 of what the coordinator presents to the site over HTTP.
    pub coordinator_inbound_bearer_hash: TokenHash,
    /// Where the coordinator takes QUIC.
    pub quic: Option<QuicAddress>,
}

/// A node's public identity key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityView {
    /// SubjectPublicKeyInfo in PEM.
    pub public_key_pem: String,
    /// SHA-256 over the canonical PEM (contract 1.2).
    pub fingerprint: String,
}

/// A key of the keyring, kept for people to compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedPeer {
    /// The slug it is stored under.
    pub name: String,
    /// None when the stored key does not parse.
    pub fingerprint: Option<String>,
}

/// A node's certificate with its proof (contract B1, `tls-cert`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsCertificateView {
    /// The certificate in PEM.
    pub cert_pem: String,
    /// The proof for `identity_role` over this certificate, base64.
    pub identity_proof: String,
    /// See [`IdentityView::fingerprint`].
    pub identity_fingerprint: String,
    /// The configured role; `coordinator` when the role is none.
    pub identity_role: Role,
    /// Where the node takes QUIC.
    pub quic: Option<QuicAddress>,
}

/// One host with where it lives.
#[derive(Debug, Clone)]
pub struct HostView {
    /// The row.
    pub host: Host,
    /// The site that holds it.
    pub site_id: SiteId,
    /// That site's row.
    pub site: Option<Arc<Site>>,
}

/// What changed at one host.
#[derive(Debug, Clone)]
pub struct HistoryView {
    /// The host.
    pub host_id: HostId,
    /// The changes, newest first.
    pub changes: Vec<PastChange>,
    /// Whether the log keeps older ones than the answer has.
    pub more: bool,
    /// The instant from which on every change is kept; none when nothing was folded away yet.
    pub kept_from: Option<Timestamp>,
}

/// A row that was not applied.
#[derive(Debug, Clone, PartialEq)]
pub struct Skipped {
    /// Place in the call, from zero.
    pub index: usize,
    /// The id as sent, if it is one.
    pub host_id: Option<HostId>,
    /// Why.
    pub error: SkippedEntry,
}

/// What a documented directory push did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DirectoryAnswer {
    /// Rows applied, unchanged ones included.
    pub upserted: usize,
    /// Hosts retired because the snapshot left them out.
    pub retired: usize,
    /// Hosts left out whose removal waits for a second snapshot.
    pub retained: usize,
    /// Rows that were not applied.
    pub skipped: Vec<Skipped>,
}

/// What a call to the site's own inventory did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct InventoryAnswer {
    /// Entries that are now the site's state, unchanged ones included.
    pub accepted: usize,
    /// Hosts added or changed.
    pub changed: usize,
    /// Hosts removed.
    pub retired: usize,
    /// Entries that were not applied; the first of them.
    pub skipped: Vec<Skipped>,
}

/// A site's own view of its membership.
#[derive(Debug, Clone)]
pub struct MembershipView {
    /// None when the node never enrolled.
    pub enrollment: Option<Enrollment>,
    /// The uplink.
    pub connection: Connection,
}

/// A site's own view of its sync.
#[derive(Debug, Clone)]
pub struct SyncStatusView {
    /// The uplink; the default for a site that is not enrolled.
    pub connection: Connection,
    /// Member of a federation.
    pub enrolled: bool,
    /// Enrolled, and the uplink is offline.
    pub autonomous: bool,
    /// What waits.
    pub queue: QueueView,
}

/// What a site still has to send.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueView {
    /// Rows not acknowledged, of all kinds. Exact.
    pub depth: u64,
    /// The same by payload type.
    pub by_payload_type: BTreeMap<String, u64>,
    /// Entries that only an operator can revive.
    pub dead: u64,
    /// When the oldest waiting row was recorded.
    pub oldest_at: Option<Timestamp>,
    /// Leaves of the digest tree that a running repair or resync still has to send.
    pub resync_leaves: u64,
}

/// A site's timeline (contract B2).
#[derive(Debug, Clone)]
pub struct TimelineView {
    /// The site.
    pub view: SiteView,
    /// Newest `limit` events, oldest first.
    pub events: Vec<SyncEvent>,
}

/// What is put into an operator's token.
#[derive(Debug, Clone)]
pub struct TokenRequest {
    /// Who; stands in the audit log.
    pub userid: String,
    /// What they may do.
    pub scopes: BTreeSet<Scope>,
    /// The sites they may see; none means all.
    pub sites: Option<BTreeSet<SiteId>>,
    /// Whose secrets they may see; none is the default tenant.
    pub tenant: Option<TenantId>,
    /// Life of the token; bounded by `limits::token::TTL_MAX`.
    pub ttl: std::time::Duration,
}

/// Counts of the directory for operators and metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DirectoryView {
    /// Hosts, all sites.
    pub hosts: u64,
    /// Hosts by status; null and `unknown` share a key.
    pub by_status: BTreeMap<String, u64>,
    /// Hosts by country; null and empty share the empty key.
    pub by_country: BTreeMap<String, u64>,
}

/// Whether a node can serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// All checks are good.
    pub ready: bool,
    /// Each part that must work, and whether it does.
    pub checks: Vec<(&'static str, bool)>,
}

/// A finished backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupView {
    /// The new file, on the node's machine.
    pub path: std::path::PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// What a snapshot of a baseline's results did at the site.
#[derive(Debug, Clone, PartialEq)]
pub struct ScansAnswer {
    /// The baseline's name, trimmed.
    pub baseline: String,
    /// Results that the site holds now.
    pub accepted: usize,
    /// Rows that were not taken.
    pub skipped: Vec<Skipped>,
    /// What the results come to.
    pub summary: ScanSummary,
}

/// What a snapshot of the findings did at the site.
#[derive(Debug, Clone, PartialEq)]
pub struct FindingsAnswer {
    /// Findings that the site holds now.
    pub accepted: usize,
    /// Rows that were not taken.
    pub skipped: Vec<Skipped>,
    /// What the findings come to.
    pub summary: FindingsSummary,
}

/// A page of rows that a site holds, with what all of them come to.
#[derive(Debug, Clone, PartialEq)]
pub struct RowsView<T, S> {
    /// The page.
    pub rows: Vec<T>,
    /// Rows in all.
    pub total: u64,
    /// What all rows come to.
    pub summary: S,
}

/// A site's latest rollups.
#[derive(Debug, Clone)]
pub struct DashboardView {
    /// When the site was last heard.
    pub last_sync_at: Option<Timestamp>,
    /// Its series with their latest snapshots.
    pub rollups: Arc<SiteRollups>,
}

/// The whole federation at a glance.
#[derive(Debug, Clone)]
pub struct OverviewView {
    /// Sums over all enrolled sites.
    pub totals: Totals,
    /// Counts of the directory.
    pub directory: DirectoryView,
    /// What all of it covers.
    pub coverage: Coverage,
}

/// A report over many sites (contract 7.4).
#[derive(Debug, Clone)]
pub struct ReportView {
    /// One for each site, in the order of names.
    pub rows: Vec<Arc<Standing>>,
    /// Their sums.
    pub totals: Totals,
    /// What the report covers.
    pub coverage: Coverage,
}

/// Which snapshots a list shows (contract B3).
#[derive(Debug, Clone, Default)]
pub struct RollupFilter {
    /// Exactly this site.
    pub site: Option<SiteId>,
    /// Exactly this baseline.
    pub baseline: Option<String>,
    /// Only the latest of each series.
    pub latest: bool,
    /// Taken then or later.
    pub since: Option<Timestamp>,
    /// Taken earlier.
    pub until: Option<Timestamp>,
    /// At most so many.
    pub limit: usize,
    /// So many left out before the first.
    pub offset: usize,
}

impl RollupFilter {
    /// Whether a snapshot of this instant is shown.
    pub fn takes(&self, at: Timestamp) -> bool {
        self.since.is_none_or(|since| at >= since) && self.until.is_none_or(|until| at < until)
    }
}

/// A snapshot with its site.
#[derive(Debug, Clone)]
pub struct RollupItem<T> {
    /// Whose it is.
    pub site_id: SiteId,
    /// That site's name.
    pub site_name: SiteName,
    /// What it says.
    pub rollup: Arc<T>,
}

impl<T> RollupItem<T> {
    pub(crate) fn new(standing: &Standing, rollup: Arc<T>) -> Self {
        Self { site_id: standing.row.site_id, site_name: standing.row.site_name.clone(), rollup }
    }
}

/// What became of a report that a site sent beside its hosts.
#[derive(Debug, Clone, PartialEq)]
pub enum ReportAnswer {
    /// The stored snapshot.
    Compliance(Arc<ComplianceRollup>),
    /// The stored snapshot.
    Vulnerabilities(Arc<VulnerabilityRollup>),
    /// A command's result: taken, or why it does not count.
    Command(Result<(), ReportRefusal>),
    /// The row that the report was about; none when the site should hold no such policy.
    Policy(Option<Box<AssignmentView>>),
    /// The lease that was asked for.
    Lease(Box<Lease>),
}

/// A policy with its id.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyView {
    /// Ours, version 7.
    pub id: PolicyId,
    /// Its row.
    pub policy: Policy,
}

/// A policy with the sites that the operator may see.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyDetail {
    /// The policy.
    pub view: PolicyView,
    /// The sites that should hold it, in the order of names.
    pub assignments: Vec<AssignmentView>,
    /// The sites that still have to give it up after they were unassigned.
    pub withdrawing: Vec<AssignmentView>,
}

/// What one site should hold of one policy.
#[derive(Debug, Clone, PartialEq)]
pub struct AssignmentView {
    /// The policy.
    pub policy_id: PolicyId,
    /// The site.
    pub site_id: SiteId,
    /// Its name.
    pub site_name: Option<String>,
    /// How far it is.
    pub assignment: Assignment,
}

/// What a push would do at the sites that the operator may see.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanView {
    /// The policy.
    pub view: PolicyView,
    /// The plan.
    pub plan: Plan,
    /// Names of its sites, in its order.
    pub site_names: Vec<Option<String>>,
}

/// How a policy is pushed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PushRequest {
    /// The hash of the plan that the operator has seen: the push is refused when the world has moved since.
    pub plan_hash: Option<[u8; 32]>,
    /// In waves; none means all sites at once.
    pub staging: Option<Staging>,
}

/// What an operator does to a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RolloutChange {
    /// Go on after a halt.
    Resume,
    /// Give it up.
    Abort,
}

/// A rollout, with how far its sites are.
#[derive(Debug, Clone, PartialEq)]
pub struct RolloutView {
    /// Its row.
    pub rollout: Rollout,
    /// Each site, wave by wave, with its name.
    pub sites: Vec<RolloutSite>,
}

/// One site of a rollout.
#[derive(Debug, Clone, PartialEq)]
pub struct RolloutSite {
    /// The site.
    pub site_id: SiteId,
    /// Its name.
    pub site_name: Option<String>,
    /// Its wave, from zero.
    pub wave: usize,
    /// How far it is now; of a rollout that is over, how far it is with that version.
    pub progress: Progress,
}

/// A page of the audit log, newest first.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditPageView {
    /// The entries of the page.
    pub entries: Vec<AuditEntry>,
    /// All that match. Exact.
    pub total: u64,
}

/// One link of the audit chain, for somebody who verifies it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainLink {
    /// From one, without gaps.
    pub number: u64,
    /// The entry's draft as postcard: what the hash covers beside the number and the hash before.
    pub draft: Vec<u8>,
    /// The hash that the log gives for it.
    pub hash: [u8; 32],
}

/// Which commands a list shows (contract B4), newest first.
#[derive(Debug, Clone, Default)]
pub struct CommandFilter {
    /// Of exactly this site.
    pub site: Option<SiteId>,
    /// Exactly this status.
    pub status: Option<CommandStatus>,
    /// Those that have not ended.
    pub open_only: bool,
    /// At most so many.
    pub limit: usize,
    /// So many left out.
    pub offset: usize,
}

/// A command on its way.
#[derive(Debug, Clone, PartialEq)]
pub struct Dispatched {
    /// As stored.
    pub command: Command,
    /// Dispatched before, under the same idempotency key.
    pub replayed: bool,
}

/// The key under which a dispatch takes effect once, with what was asked under it.
#[derive(Debug, Clone, Copy)]
pub struct IdempotencyKey<'a> {
    /// As the caller sent it.
    pub key: &'a str,
    /// The exact bytes of the body.
    pub body: &'a [u8],
}

/// Whom a bulk dispatch is for.
#[derive(Debug, Clone)]
pub enum BulkTarget {
    /// All hosts of these sites.
    Sites(Vec<SiteId>),
    /// The hosts that a search finds, of these sites or of all.
    Hosts(Option<Vec<SiteId>>, Box<Filter>),
}

/// One site of a bulk dispatch.
#[derive(Debug)]
pub struct BulkRow {
    /// The site.
    pub site_id: SiteId,
    /// Its name, where the caller may see it.
    pub site_name: Option<String>,
    /// Hosts named; zero means all of the site.
    pub host_count: usize,
    /// The command; none in a dry run.
    pub outcome: Result<Option<Dispatched>, crate::error::DispatchError>,
}

/// A page of what a command did at its hosts.
#[derive(Debug, Clone, PartialEq)]
pub struct OutcomesView {
    /// The command.
    pub command: Command,
    /// In the order of host ids.
    pub outcomes: Vec<HostOutcome>,
    /// Matches before paging.
    pub total: usize,
}
/// Which alerts a list shows.
#[derive(Debug, Clone, Default)]
pub struct AlertFilter {
    /// Of this site alone.
    pub site: Option<SiteId>,
    /// Resolved ones too.
    pub include_resolved: bool,
    /// At most so many.
    pub limit: usize,
}

/// The alert thresholds: what holds, and what operators have set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AlertConfigView {
    /// What holds.
    pub effective: Thresholds,
    /// What operators have set.
    pub overrides: Overrides,
}

/// How a webhook stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookView {
    /// Its name in the configuration.
    pub name: String,
    /// Events that it has not taken yet.
    pub waiting: u64,
    /// Tries that failed since the last success.
    pub consecutive_failures: u32,
    /// Why the last one failed.
    pub last_error: Option<String>,
}

/// A queued payload that the coordinator refused for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// What it is, such as `command_result`.
    pub payload_type: String,
    /// What a newer one would replace it by.
    pub dedup_key: String,
    /// When it was queued.
    pub created_at: Timestamp,
    /// Refusals.
    pub attempts: u32,
    /// The last one.
    pub last_attempt_at: Option<Timestamp>,
    /// Its reason.
    pub last_error: Option<String>,
    /// Bytes of the payload.
    pub bytes: usize,
}

impl From<hansa_storage::table::QueueEntry> for DeadLetter {
    fn from(entry: hansa_storage::table::QueueEntry) -> Self {
        Self {
            payload_type: entry.payload_type,
            dedup_key: entry.dedup_key,
            created_at: entry.created_at,
            attempts: entry.attempts,
            last_attempt_at: entry.last_attempt_at,
            last_error: entry.last_error,
            bytes: entry.payload.len(),
        }
    }
}

/// Which leases a list shows (contract B5).
#[derive(Debug, Clone, Default)]
pub struct LeaseFilter {
    /// Of this site alone.
    pub site: Option<SiteId>,
    /// Exactly this state.
    pub status: Option<LeaseStatus>,
    /// At most so many, newest first.
    pub limit: usize,
}
