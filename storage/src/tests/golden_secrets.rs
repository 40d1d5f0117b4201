//! Samples of the tables about secrets and their backends, every member filled.

use std::collections::BTreeMap;

use hansa_model::Timestamp;
use hansa_model::secrets::backend::BackendKind;
use hansa_model::secrets::id::{BackendId, ConflictId, PathPolicyId, SyncRunId, TenantId};
use hansa_model::secrets::path::SecretPath;
use hansa_model::secrets::policy::{PathPolicy, PathRule, Permission};
use hansa_model::secrets::row::{
    Backend, Conflict, ConflictKind, CopyRow, Leaving, Mode, SecretRow, SecretType, SyncCounts, SyncRun,
    SyncState, Trigger, VersionRow,
};
use hansa_model::secrets::tenant::Tenant;
use hansa_model::secrets::value::Mark;
use hansa_model::secrets::vault::{AppRole, AppRoleSecret, VaultToken};
use uuid::Uuid;

const AT: Timestamp = Timestamp::from_secs(60);
const ID: Uuid = Uuid::from_u128(0x0123_4567);

fn path() -> SecretPath {
    "external/aws/billing".parse().unwrap()
}

pub(super) fn tenant() -> Tenant {
    Tenant { id: "tnt_a".parse().unwrap(), partner: "ptn_a".to_owned(), name: "A".to_owned(), created_at: AT }
}

pub(super) fn path_policy() -> PathPolicy {
    PathPolicy {
        id: PathPolicyId(ID),
        tenant: TenantId::default_tenant(),
        name: "readers".to_owned(),
        description: "d".to_owned(),
        rules: vec![PathRule {
            path_pattern: "app/**".parse().unwrap(),
            permissions: Permission::ALL.into_iter().collect(),
        }],
        identities: ["*".to_owned()].into(),
        created_at: AT,
        updated_at: AT,
    }
}

pub(super) fn backend() -> Backend {
    Backend {
        id: BackendId(ID),
        tenant: TenantId::default_tenant(),
        name: "aws-prod".to_owned(),
        kind: BackendKind::AwsSecretsManager,
        config: r#"{"region":"us-east-1","credentials_path":"infra/aws"}"#.to_owned(),
        path_mapping: BTreeMap::from([("external/aws/**".to_owned(), "prod/**".to_owned())]),
        mode: Mode::Sync,
        sync_interval_seconds: Some(900),
        write_through: true,
        enabled: true,
        created_at: AT,
        updated_at: AT,
        leaving: Some(Leaving::Keep),
    }
}

pub(super) fn secret_row() -> SecretRow {
    SecretRow {
        secret_type: SecretType::Json,
        current: 2,
        versions: vec![VersionRow {
            number: 2,
            created_at: AT,
            created_by: "system:federation-sync".to_owned(),
            backend_version: Some("v".to_owned()),
        }],
        metadata: "{}".to_owned(),
        max_versions: 10,
        created_at: AT,
        updated_at: AT,
        expires_at: Some(AT),
        deleted_at: Some(AT),
        copy: Some(CopyRow {
            backend: BackendId(ID),
            name: "prod/billing".to_owned(),
            mark: Some(Mark("m".to_owned())),
            common: 2,
            seen_at: AT,
            absent: 1,
        }),
    }
}

pub(super) fn sync_state() -> SyncState {
    let run = SyncRun {
        id: SyncRunId(ID),
        trigger: Trigger::Manual,
        begun_at: AT,
        ended_at: AT,
        counts: SyncCounts { listed: 1, fetched: 300, ..SyncCounts::default() },
        complete: true,
    };
    SyncState {
        completed: Some(run.clone()),
        last: Some(run),
        failures: 1,
        copies: 300,
        guarded: true,
        next_at: Some(AT),
        last_error: Some(("e".to_owned(), AT)),
    }
}

pub(super) fn conflict() -> Conflict {
    Conflict {
        id: ConflictId(ID),
        path: path(),
        names: vec!["prod/billing".to_owned()],
        kind: ConflictKind::BothChanged,
        local_version: 3,
        local_fingerprint: "ab".to_owned(),
        remote_mark: Some(Mark("m".to_owned())),
        remote_version: Some("v".to_owned()),
        remote_updated_at: Some(AT),
        remote_fingerprint: "cd".to_owned(),
        detected_at: AT,
        last_seen_at: AT,
        kept_local: true,
    }
}

pub(super) fn app_role() -> AppRole {
    AppRole {
        role_id: "r".to_owned(),
        name: "ci".to_owned(),
        tenant: TenantId::default_tenant(),
        scopes: [hansa_model::scope::Scope::SecretsRead].into(),
        token_ttl_seconds: 3_600,
        created_at: AT,
        created_by: "ada".to_owned(),
    }
}

pub(super) fn app_role_secret() -> AppRoleSecret {
    AppRoleSecret {
        tenant: TenantId::default_tenant(),
        name: "ci".to_owned(),
        role_id: "r".to_owned(),
        expires_at: Some(AT),
        created_at: AT,
    }
}

pub(super) fn vault_token() -> VaultToken {
    VaultToken {
        tenant: TenantId::default_tenant(),
        name: "ci".to_owned(),
        role_id: "r".to_owned(),
        accessor: "a".to_owned(),
        issued_at: AT,
        expires_at: AT,
        ttl_seconds: 3_600,
    }
}
