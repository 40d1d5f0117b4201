//! The bytes of every table, as released. A change of layout fails here.
//!
//! One file per table and version in `storage/golden/`: the key's length (u32, big-endian), the key, the
//! record. To add one, run this test with `HANSA_GOLDEN=write`.

use std::path::PathBuf;

use hansa_model::access::{ApiKey, Grant, Login, OperatorRole, PasswordHash, User};
use hansa_model::alert::{Alert, Condition, Overrides};
use hansa_model::audit::{AuditEntry, Checkpoint, Detail, KeptCheckpoint};
use hansa_model::command::{Command, CommandStatus, HostOutcome, KeyedDispatch, Progress};
use hansa_model::enrollment::{Enrollment, EnrollmentStatus};
use hansa_model::finding::{CveId, Finding, FindingsSummary, Held, HostScan, ScanSummary, Severity};
use hansa_model::host::HostRecord;
use hansa_model::id::{AlertId, ApiKeyId, CommandId, LeaseId, PolicyId, RolloutId, RollupId};
use hansa_model::lease::{Lease, LeaseKind, LeaseStatus};
use hansa_model::policy::{Assignment, Policy, PushStatus, Rollout, RolloutState, WaitFor};
use hansa_model::received::{
    CommandState, LeaseState, PolicyWish, ReceivedCommand, ReceivedLease, ReceivedPolicy,
};
use hansa_model::rollup::{ComplianceRollup, VulnerabilityRollup};
use hansa_model::scope::Scope;
use hansa_model::secrets::id::{BackendId, ConflictId, PathPolicyId};
use hansa_model::site::{HostRollup, PendingEnrollment, SiteSync, SyncEvent};
use hansa_model::sync::{IngestRecord, Position};
use hansa_model::webhook::WebhookEvent;
use hansa_model::{Host, HostChange, HostId};

use super::golden_secrets as secrets;
use super::*;
use crate::codec::{KeyOf, Named, decode_record, encode_record};
use crate::log::Pieces;
use crate::schema::{Kind, META, TABLES};
use crate::seal::{Envelope, Sealer, StoredKeys};
use crate::table::*;

struct Sample {
    table: &'static str,
    version: u8,
    key: Vec<u8>,
    record: Vec<u8>,
}

fn sample<T: Table>(key: &(impl KeyOf<T::Key> + ?Sized), value: &T::Value) -> Sample {
    let record = encode_record::<T>(value);
    let read = decode_record::<T>(&record).map(|value| encode_record::<T>(&value));
    assert_eq!(read.as_ref(), Ok(&record), "{}", T::NAME);
    Sample { table: T::NAME, version: T::VERSION, key: key.key_bytes(), record }
}

fn log_sample<L: Log>(body: &[u8]) -> Sample {
    assert_eq!(L::check(L::VERSION, body), Ok(()));
    let piece = Pieces::of(258, L::VERSION, body).next().unwrap();
    let mut record = vec![0; piece.len()];
    piece.write_to(&mut record);
    Sample { table: L::NAME, version: L::VERSION, key: piece.key.to_vec(), record }
}

fn samples() -> Vec<Sample> {
    let sealer = sealer();
    let text = |text: &str| text.to_owned();
    let hash = [0xab; 32];
    let id = site_id(0x0123_4567);
    let host = host();
    let change = HostChange::Upsert(host.as_row());
    let ingest = IngestRecord {
        site: id,
        epoch: 300,
        sequence: 2,
        received_at: Timestamp::from_secs(60),
        changes: vec![change, HostChange::Remove(host.host_id)],
    };
    let value = Named::new("tnt_a", Named::new("app/db", 7_u64));
    let head = SegmentHead { covers_position: 1_000, chunks: 3, rows: 512 };
    vec![
        sample::<Settings>("role", &text("coordinator")),
        sample::<Identity>("identity", &sealer.seal(Identity::NAME, b"identity", b"pkcs8")),
        sample::<Certificates>("tls", &text("-----BEGIN CERTIFICATE-----")),
        sample::<TrustedPeers>("hq", &text("-----BEGIN PUBLIC KEY-----")),
        sample::<Sites>(&id, &full_site()),
        sample::<SiteNames>("alpha", &id),
        sample::<EnrollmentTokens>(&hash, &id),
        sample::<SyncBearers>(&hash, &id),
        sample::<IdentityKeys>(&hash, &id),
        sample::<SiteSyncs>(&id, &site_sync()),
        sample::<SyncEvents>(&(id, 7), &sync_event()),
        sample::<HostRollups>(&(id, 7), &host_rollup()),
        sample::<ComplianceRollups>(&(id, Named::new("CIS", 7)), &compliance_rollup()),
        sample::<VulnerabilityRollups>(&(id, 7), &vulnerability_rollup()),
        log_sample::<IngestLog>(&postcard::to_stdvec(&ingest).unwrap()),
        sample::<Segments>(&(id, 2), &vec![host.clone()]),
        sample::<SegmentHeads>(&id, &head),
        sample::<OutboundBearers>(&id, &sealer.seal(OutboundBearers::NAME, id.as_bytes(), b"bearer")),
        sample::<SyncBearerSecret>(SELF, &sealer.seal(SyncBearerSecret::NAME, b"self", b"bearer")),
        sample::<Enrollments>(SELF, &enrollment()),
        log_sample::<InventoryLog>(&postcard::to_stdvec(&vec![change]).unwrap()),
        sample::<InventorySegments>(&2, &vec![host.clone()]),
        sample::<InventorySegmentHeads>(SELF, &head),
        sample::<Outbox>("cursor", &vec![1, 2, 3]),
        sample::<Queue>(&9, &queue_entry()),
        sample::<QueueKeys>("metadata", &9),
        sample::<Scans>("CIS", &held_scans(id)),
        sample::<HostScans>(&Named::new("CIS", 2), &vec![host_scan()]),
        sample::<FindingsHeld>(SELF, &held_findings()),
        sample::<Findings>(&2, &vec![finding()]),
        sample::<Policies>(&POLICY, &policy()),
        sample::<PolicyNames>(&PolicyNames::key("firewall_role", "web"), &POLICY),
        sample::<Assignments>(&(id, POLICY), &assignment()),
        sample::<PolicySites>(&(POLICY, id), &()),
        sample::<Rollouts>(&(POLICY, ROLLOUT), &rollout(id)),
        sample::<ReceivedPolicies>(&PolicyId(Uuid::from_u128(7)), &received_policy()),
        sample::<ReceivedCommands>(&CommandId(Uuid::from_u128(8)), &received_command()),
        sample::<SpentCommands>(&CommandId(Uuid::from_u128(8)), &Timestamp::from_secs(9)),
        sample::<ReceivedLeases>("00ff", &received_lease()),
        sample::<Users>("ada@example.com", &user()),
        sample::<ApiKeys>(&hash, &api_key()),
        sample::<ApiKeyNames>("backup", &hash),
        sample::<Logins>(&hash, &login()),
        sample::<Commands>(&command().id, &command()),
        sample::<SiteCommands>(&(site_id(1), command().id), &CommandStatus::Partial),
        sample::<OpenCommands>(&(site_id(1), command().id), &()),
        sample::<CommandOutcomes>(&(command().id, 0), &vec![outcome()]),
        sample::<DispatchKeys>(&hash, &keyed_dispatch()),
        sample::<CommandKeys>(&(site_id(1), command().id), &hash),
        sample::<Leases>(&LEASE, &lease(id)),
        sample::<LeaseKeys>(&(id, text("0123456789abcdef0123456789abcdef")), &LEASE),
        sample::<OpenLeases>(&(id, LEASE), &()),
        sample::<Audit>(&1, &AuditEntry { number: 1, draft: draft("site_created"), hash }),
        sample::<Alerts>(&AlertId(id.0), &alert(id)),
        sample::<OpenAlerts>(&(id, 3), &AlertId(id.0)),
        sample::<AlertOverrides>(
            SELF,
            &Overrides { compliance_threshold: Some(80.0), ..Overrides::default() },
        ),
        log_sample::<WebhookLog>(&postcard::to_stdvec(&webhook_event()).unwrap()),
        sample::<WebhookCursors>("pager", &7),
        sample::<AuditCheckpoints>(&1_000, &checkpoint(hash)),
        sample::<CoordinatorCheckpoints>(&1_000, &kept_checkpoint(hash)),
        sample::<Tenants>("tnt_a", &secrets::tenant()),
        sample::<PathPolicies>(&Named::new("tnt_a", PathPolicyId(id.0)), &secrets::path_policy()),
        sample::<SecretBackends>(&BackendId(id.0), &secrets::backend()),
        sample::<Secrets>(&Named::new("tnt_a", text("external/aws/billing")), &secrets::secret_row()),
        sample::<SecretValues>(&value, &sealer.seal(SecretValues::NAME, &value.key_bytes(), b"{}")),
        sample::<BackendSyncs>(&BackendId(id.0), &secrets::sync_state()),
        sample::<SecretConflicts>(&(BackendId(id.0), ConflictId(id.0)), &secrets::conflict()),
        sample::<AppRoles>(&Named::new("tnt_a", text("ci")), &secrets::app_role()),
        sample::<AppRoleSecrets>(&hash, &secrets::app_role_secret()),
        sample::<VaultTokens>(&hash, &secrets::vault_token()),
        sample::<OpenEntries>(&draft("secret_read").id, &draft("secret_read")),
    ]
}

fn alert(site: SiteId) -> Alert {
    Alert {
        id: AlertId(site.0),
        site_id: site,
        condition: Condition::DeadLetters,
        severity: hansa_model::alert::Severity::Warning,
        title: "t".to_owned(),
        message: "m".to_owned(),
        details: [("dead_letters".to_owned(), Detail::Int(2))].into_iter().collect(),
        triggered_at: Timestamp::from_secs(60),
        refreshed_at: Timestamp::from_secs(61),
        resolved_at: None,
        acknowledged_at: Some(Timestamp::from_secs(62)),
        acknowledged_by: Some("ada".to_owned()),
    }
}

fn webhook_event() -> WebhookEvent {
    WebhookEvent {
        id: "e".to_owned(),
        kind: "alert.opened".to_owned(),
        at: Timestamp::from_secs(60),
        data: "{}".to_owned(),
    }
}

#[test]
fn stored_bytes_are_those_of_the_release() {
    let samples = samples();
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden");
    for sample in &samples {
        let path = folder.join(format!("{}.v{}.bin", sample.table, sample.version));
        let key_len = u32::try_from(sample.key.len()).unwrap();
        let bytes = [&key_len.to_be_bytes(), sample.key.as_slice(), &sample.record].concat();
        if std::env::var_os("HANSA_GOLDEN").is_some() {
            std::fs::write(&path, &bytes).unwrap();
        }

        let golden = std::fs::read(&path).unwrap_or_default();

        assert_eq!(hansa_model::secret::hex(&bytes), hansa_model::secret::hex(&golden), "{}", sample.table);
    }
    let sampled: Vec<_> = samples.iter().map(|sample| sample.table).collect();
    let known: Vec<_> = TABLES.iter().map(|table| table.name).filter(|name| *name != META).collect();
    assert_eq!(sampled, known, "every table has a sample");
}

#[test]
fn every_released_record_still_decodes() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().split('.').next().unwrap().to_owned();
        let bytes = std::fs::read(&path).unwrap();
        let (len, rest) = bytes.split_first_chunk::<4>().unwrap();
        let (key, record) = rest.split_at(u32::from_be_bytes(*len) as usize);

        let table = TABLES.iter().find(|table| table.name == name).unwrap();

        let decoded = match table.kind {
            Kind::Records(decodes) | Kind::Sealed(decodes) => decodes(key, record),
            Kind::Log(decodes) => decodes(record[0], &record[5..]),
            Kind::Meta => unreachable!("the store's own notes have no file"),
        };
        assert_eq!(decoded, Ok(()), "{name}");
        if let Kind::Sealed(_) = table.kind {
            let envelope = postcard::from_bytes(&record[1..]).unwrap();
            assert!(sealer().unseal(table.name, key, &envelope).is_ok(), "{name}");
        }
    }
}

proptest::proptest! {
    #[test]
    fn decoders_take_any_bytes(key: Vec<u8>, mut record: Vec<u8>) {
        record.insert(0, 1);
        for table in TABLES {
            match table.kind {
                Kind::Records(decodes) | Kind::Sealed(decodes) => drop(decodes(&key, &record)),
                Kind::Log(decodes) => drop(decodes(1, &record)),
                Kind::Meta => {}
            }
        }
        proptest::prop_assert!(sealer().unseal("identity", &key, &Envelope(record)).is_err());
    }
}

fn sealer() -> Sealer {
    let entropy = SeededEntropy::new(11);
    let tenant = Sealer::new_tenant_key(&root_key(), &entropy);
    let stored = StoredKeys { tenant, previous: None, fingerprint: None };
    Sealer::open(&root_key(), &stored, Arc::new(entropy)).unwrap()
}

fn full_site() -> Site {
    Site {
        status: SiteStatus::Enrolled,
        enrolled_at: Some(Timestamp::from_secs(3)),
        enrollment: Some(PendingEnrollment { token_hash: [1; 32], expires_at: Timestamp::from_secs(4) }),
        identity_key: Some([2; 32]),
        tls_cert_pem: Some("-----BEGIN CERTIFICATE-----".to_owned()),
        sync_bearer_hash: Some([3; 32]),
        ..site(1, "alpha")
    }
}

fn site_sync() -> SiteSync {
    SiteSync {
        position: Position { epoch: 300, sequence: 2, chain: [9; 32] },
        last_sync_at: Some(Timestamp::from_secs(60)),
        last_sync_status: Some("success".to_owned()),
        host_count: 3,
        sysmanage_version: Some("1.0".to_owned()),
        connection_state: Some("online".to_owned()),
        capabilities: vec!["quic".to_owned()],
        last_metadata_at: None,
        queue_depth: Some(4),
        next_event: 8,
        next_rollup: 8,
    }
}

fn sync_event() -> SyncEvent {
    SyncEvent {
        recorded_at: Timestamp::from_secs(60),
        success: true,
        latency_ms: Some(12),
        queue_depth: None,
        host_count: Some(3),
    }
}

fn host_rollup() -> HostRollup {
    HostRollup {
        id: RollupId(Uuid::from_u128(4)),
        snapshot_at: Timestamp::from_secs(60),
        host_count: 3,
        active_count: 2,
        os_breakdown: BTreeMap::from([("debian".to_owned(), 3)]),
        status_breakdown: BTreeMap::from([("up".to_owned(), 2)]),
    }
}

fn compliance_rollup() -> ComplianceRollup {
    ComplianceRollup {
        id: RollupId(Uuid::from_u128(4)),
        snapshot_at: Timestamp::from_secs(60),
        baseline: "CIS".to_owned(),
        score_percent: Some(87.5),
        hosts_in_scope: 300,
        hosts_compliant: 200,
        hosts_noncompliant: 100,
    }
}

fn vulnerability_rollup() -> VulnerabilityRollup {
    VulnerabilityRollup {
        id: RollupId(Uuid::from_u128(4)),
        snapshot_at: Timestamp::from_secs(60),
        critical_count: 1,
        high_count: 2,
        medium_count: 3,
        low_count: 400,
        affected_host_count: 5,
        top_cve_ids: vec!["CVE-2026-0815".to_owned()],
    }
}

fn held_scans(queued_for: SiteId) -> Held<ScanSummary> {
    let summary = ScanSummary {
        taken_at: Timestamp::from_secs(60),
        score_percent: Some(87.5),
        hosts_in_scope: 3,
        hosts_compliant: 2,
        hosts_noncompliant: 1,
    };
    Held { summary, rows: 3, queued_for: Some(queued_for), removed: false }
}

fn host_scan() -> HostScan {
    HostScan { host_id: HostId(Uuid::from_u128(6)), rules_passed: 300, rules_failed: 2 }
}

fn held_findings() -> Held<FindingsSummary> {
    let summary = FindingsSummary {
        taken_at: Timestamp::from_secs(60),
        critical_count: 1,
        affected_host_count: 1,
        top_cve_ids: vec![finding().cve_id],
        ..FindingsSummary::default()
    };
    Held { summary, rows: 1, queued_for: None, removed: true }
}

fn finding() -> Finding {
    Finding {
        host_id: HostId(Uuid::from_u128(6)),
        cve_id: CveId { year: 2026, number: 815 },
        severity: Severity::Critical,
    }
}

fn host() -> Host {
    HostRecord {
        host_id: HostId(Uuid::from_u128(6)),
        fqdn: "web1.example.com".to_owned(),
        ipv4: Some("10.0.0.1".to_owned()),
        ipv6: None,
        public_ip: None,
        os_family: Some("debian".to_owned()),
        os_version: Some("12.9".to_owned()),
        platform: Some("linux".to_owned()),
        status: Some("up".to_owned()),
        last_seen: Some(Timestamp::from_secs(50)),
        tags_json: Some("[\"web\"]".to_owned()),
        geo_country_code: Some("DE".to_owned()),
        geo_subdivision_code: None,
        geo_city: None,
        geo_latitude: Some(53.87),
        geo_longitude: None,
        mtime: Timestamp::from_secs(51),
    }
}

fn enrollment() -> Enrollment {
    Enrollment {
        coordinator_url: "https://hq.example.com".to_owned(),
        coordinator_identity_key: [8; 32],
        coordinator_tls_cert_pem: None,
        quic_address: Some("hq.example.com:7443".to_owned()),
        status: EnrollmentStatus::Enrolled,
        site_id: Some(site_id(1)),
        enrolled_at: Some(Timestamp::from_secs(3)),
        sync_interval_seconds: 300,
        inbound_bearer_hash: Some([5; 32]),
    }
}

fn checkpoint(hash: [u8; 32]) -> Checkpoint {
    Checkpoint { number: 1_000, hash, at: Timestamp::from_secs(61), signature: vec![0xcd; 64] }
}

fn kept_checkpoint(hash: [u8; 32]) -> KeptCheckpoint {
    KeptCheckpoint { checkpoint: checkpoint(hash), signer: [8; 32], received_at: Timestamp::from_secs(62) }
}

const POLICY: PolicyId = PolicyId(Uuid::from_u128(7));
const ROLLOUT: RolloutId = RolloutId(Uuid::from_u128(8));

fn policy() -> Policy {
    Policy {
        policy_type: "firewall_role".to_owned(),
        name: "web".to_owned(),
        description: Some("ports".to_owned()),
        definition: r#"{"open_ports":[443]}"#.to_owned(),
        version: 3,
        is_active: true,
        held: false,
        created_by: "ada@example.com".to_owned(),
        created_at: Timestamp::from_secs(1),
        updated_at: Timestamp::from_secs(2),
    }
}

fn assignment() -> Assignment {
    Assignment {
        assigned_at: Timestamp::from_secs(3),
        assigned_by: "ada@example.com".to_owned(),
        unassigned_at: None,
        round: 2,
        released_version: 3,
        push_status: PushStatus::Acknowledged,
        last_push_attempt_at: Some(Timestamp::from_secs(4)),
        last_push_error: None,
        pushed_version: Some(3),
        push_attempts: 0,
        refusals: 0,
        withdrawing: false,
        withdrawn_at: None,
        applied_version: Some(3),
        applied_at: Some(Timestamp::from_secs(5)),
        tried_version: Some(3),
        apply_error: None,
    }
}

fn rollout(site: SiteId) -> Rollout {
    Rollout {
        id: ROLLOUT,
        version: 3,
        waves: vec![vec![site], vec![site_id(2)]],
        wave: 1,
        state: RolloutState::Halted,
        reason: Some("1 of 2 sites failed".to_owned()),
        halt_on_errors: 1,
        wave_timeout_seconds: 3_600,
        wait_for: WaitFor::Acknowledged,
        started_by: "ada@example.com".to_owned(),
        started_at: Timestamp::from_secs(6),
        wave_started_at: Timestamp::from_secs(7),
        ended_at: None,
    }
}

fn grant() -> Grant {
    Grant {
        role: Some(OperatorRole::Operator),
        scopes: [Scope::SitesWrite].into(),
        sites: Some([site_id(1)].into()),
    }
}

fn user() -> User {
    User {
        password: PasswordHash { memory: 19_456, passes: 2, lanes: 1, salt: [1; 16], hash: [2; 32] },
        grant: grant(),
        disabled: false,
        stamp: [3; 16],
        created_at: Timestamp::from_secs(1),
        updated_at: Timestamp::from_secs(2),
    }
}

fn api_key() -> ApiKey {
    ApiKey {
        id: ApiKeyId(Uuid::from_u128(5)),
        name: "backup".to_owned(),
        grant: grant(),
        created_at: Timestamp::from_secs(1),
        created_by: "ada@example.com".to_owned(),
        expires_at: Some(Timestamp::from_secs(9)),
        last_used_at: None,
    }
}

fn login() -> Login {
    Login {
        userid: "ada@example.com".to_owned(),
        stamp: [3; 16],
        current: [4; 32],
        previous: Some([5; 32]),
        rotated_at: Timestamp::from_secs(2),
        created_at: Timestamp::from_secs(1),
    }
}

fn received_policy() -> ReceivedPolicy {
    ReceivedPolicy {
        order: 3,
        policy_type: "firewall_role".to_owned(),
        name: "web".to_owned(),
        definition: "{}".to_owned(),
        version: 2,
        wish: PolicyWish::Withdraw,
        received_at: Timestamp::from_secs(1),
        applied_at: None,
        apply_error: Some("no".to_owned()),
        failures: 1,
        tried_at: Some(Timestamp::from_secs(2)),
    }
}

fn received_command() -> ReceivedCommand {
    ReceivedCommand {
        order: 4,
        command_type: "reboot".to_owned(),
        parameters: "{}".to_owned(),
        target_host_ids: vec![HostId(Uuid::from_u128(6))],
        received_at: Timestamp::from_secs(1),
        expires_at: Some(Timestamp::from_secs(9)),
        state: CommandState::Failed,
        cancelled: true,
        result: Some("{}".to_owned()),
        completed_at: Some(Timestamp::from_secs(2)),
    }
}

fn received_lease() -> ReceivedLease {
    ReceivedLease {
        lease_id: Some(LeaseId(Uuid::from_u128(9))),
        host_id: "db1".to_owned(),
        secret_name: "orders".to_owned(),
        backend_role: Some("reader".to_owned()),
        kind: Some("database".to_owned()),
        ttl_seconds: Some(1_800),
        state: LeaseState::Issued,
        metadata: Some("{}".to_owned()),
        requested_at: Timestamp::from_secs(1),
        received_at: Some(Timestamp::from_secs(2)),
        delivered_at: Some(Timestamp::from_secs(3)),
        expires_at: Some(Timestamp::from_secs(4)),
        held: true,
        last_error: None,
    }
}

fn command() -> Command {
    Command {
        id: CommandId(Uuid::from_u128(7)),
        command_type: "deploy_packages".to_owned(),
        parameters: Some(r#"{"package_names":["nginx"]}"#.to_owned()),
        target_site_id: site_id(1),
        target_host_ids: vec![HostId(Uuid::from_u128(6))],
        dispatched_by: "ada@example.com".to_owned(),
        dispatched_at: Timestamp::from_secs(1),
        status: CommandStatus::Partial,
        result_summary: Some("1 of 2 hosts succeeded".to_owned()),
        completed_at: Some(Timestamp::from_secs(4)),
        push_attempts: 2,
        last_push_attempt_at: Some(Timestamp::from_secs(2)),
        last_push_error: Some("HTTP 503".to_owned()),
        push_refusals: 1,
        expires_at: Some(Timestamp::from_secs(9)),
        cancel_requested_at: Some(Timestamp::from_secs(3)),
        cancel_settled: true,
        overdue: false,
        progress: Progress { hosts: 2, succeeded: 1, failed: 1 },
    }
}

fn outcome() -> HostOutcome {
    HostOutcome { host_id: HostId(Uuid::from_u128(6)), success: true, detail: "installed".to_owned() }
}

fn keyed_dispatch() -> KeyedDispatch {
    KeyedDispatch { body: [6; 32], command_id: command().id, at: Timestamp::from_secs(1) }
}

fn queue_entry() -> QueueEntry {
    QueueEntry {
        payload_type: "site_metadata".to_owned(),
        dedup_key: "metadata".to_owned(),
        payload: vec![1, 2],
        version: 3,
        created_at: Timestamp::from_secs(1),
        attempts: 1,
        last_attempt_at: Some(Timestamp::from_secs(2)),
        last_error: Some("refused".to_owned()),
    }
}

const LEASE: LeaseId = LeaseId(Uuid::from_u128(0x0123_4567_89ab_7cde_8f01_2345_6789_abcd));

fn lease(site_id: SiteId) -> Lease {
    let at = |secs| Some(Timestamp::from_secs(secs));
    Lease {
        id: LEASE,
        site_id,
        host_id: "web-1".to_owned(),
        secret_name: "orders".to_owned(),
        backend_role: "reader".to_owned(),
        kind: LeaseKind::Database,
        status: LeaseStatus::Active,
        vault_lease_id: Some("orders/dynamic/1".to_owned()),
        ttl_seconds: 1_800,
        requested_at: Timestamp::from_secs(60),
        issued_at: at(61),
        expires_at: at(1_861),
        last_renewed_at: at(62),
        revoked_at: None,
        delivered_at: at(63),
        last_error: Some("HTTP 503".to_owned()),
        secret_metadata: Some("{}".to_owned()),
        correlation_key: "0123456789abcdef0123456789abcdef".to_owned(),
        issuer: Some("orders".to_owned()),
        version: 2,
        settled: 1,
        offers: 3,
        refusals: 4,
        failures: 5,
        tried_at: at(64),
        released: false,
        leftovers: vec!["orders/dynamic/0".to_owned()],
    }
}
