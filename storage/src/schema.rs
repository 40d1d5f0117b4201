//! The format version and the list of tables: what check, backup and creation walk.

use crate::codec::{KeyCodec, decode_record};
use crate::error::RecordError;
use crate::table::{self, Log, SealedTable, Table};

/// Format of the whole file. Rises when a program that does not know the new one would do harm.
pub(crate) const FORMAT: u64 = 1;

/// How a table's records are looked at when nobody knows their type.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// Whether key and record decode.
    Records(fn(&[u8], &[u8]) -> Result<(), RecordError>),
    /// Whether key and envelope decode; opening it takes the sealer.
    Sealed(fn(&[u8], &[u8]) -> Result<(), RecordError>),
    /// Whether a whole body decodes.
    Log(fn(u8, &[u8]) -> Result<(), RecordError>),
    /// The store's own notes.
    Meta,
}

/// One table of the file.
#[derive(Clone, Copy)]
pub(crate) struct TableInfo {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
}

/// The store's own notes: format, next positions, head of the audit chain, the wrapped tenant key.
pub(crate) const META: &str = "meta";

/// Every table, in the order that check and backup take them.
pub(crate) const TABLES: &[TableInfo] = &[
    TableInfo { name: META, kind: Kind::Meta },
    records::<table::Settings>(),
    sealed::<table::Identity>(),
    records::<table::Certificates>(),
    records::<table::TrustedPeers>(),
    records::<table::Sites>(),
    records::<table::SiteNames>(),
    records::<table::EnrollmentTokens>(),
    records::<table::SyncBearers>(),
    records::<table::IdentityKeys>(),
    records::<table::SiteSyncs>(),
    records::<table::SyncEvents>(),
    records::<table::HostRollups>(),
    records::<table::ComplianceRollups>(),
    records::<table::VulnerabilityRollups>(),
    log::<table::IngestLog>(),
    records::<table::Segments>(),
    records::<table::SegmentHeads>(),
    sealed::<table::OutboundBearers>(),
    sealed::<table::SyncBearerSecret>(),
    records::<table::Enrollments>(),
    log::<table::InventoryLog>(),
    records::<table::InventorySegments>(),
    records::<table::InventorySegmentHeads>(),
    records::<table::Outbox>(),
    records::<table::Queue>(),
    records::<table::QueueKeys>(),
    records::<table::Scans>(),
    records::<table::HostScans>(),
    records::<table::FindingsHeld>(),
    records::<table::Findings>(),
    records::<table::Policies>(),
    records::<table::PolicyNames>(),
    records::<table::Assignments>(),
    records::<table::PolicySites>(),
    records::<table::Rollouts>(),
    records::<table::ReceivedPolicies>(),
    records::<table::ReceivedCommands>(),
    records::<table::SpentCommands>(),
    records::<table::ReceivedLeases>(),
    records::<table::Users>(),
    records::<table::ApiKeys>(),
    records::<table::ApiKeyNames>(),
    records::<table::Logins>(),
    records::<table::Commands>(),
    records::<table::SiteCommands>(),
    records::<table::OpenCommands>(),
    records::<table::CommandOutcomes>(),
    records::<table::DispatchKeys>(),
    records::<table::CommandKeys>(),
    records::<table::Leases>(),
    records::<table::LeaseKeys>(),
    records::<table::OpenLeases>(),
    records::<table::Audit>(),
    records::<table::Alerts>(),
    records::<table::OpenAlerts>(),
    records::<table::AlertOverrides>(),
    log::<table::WebhookLog>(),
    records::<table::WebhookCursors>(),
    records::<table::AuditCheckpoints>(),
    records::<table::CoordinatorCheckpoints>(),
    records::<table::Tenants>(),
    records::<table::PathPolicies>(),
    records::<table::SecretBackends>(),
    records::<table::Secrets>(),
    sealed::<table::SecretValues>(),
    records::<table::BackendSyncs>(),
    records::<table::SecretConflicts>(),
    records::<table::AppRoles>(),
    records::<table::AppRoleSecrets>(),
    records::<table::VaultTokens>(),
    records::<table::OpenEntries>(),
];

const fn records<T: Table>() -> TableInfo {
    TableInfo { name: T::NAME, kind: Kind::Records(decodes::<T>) }
}

const fn sealed<T: SealedTable>() -> TableInfo {
    TableInfo { name: T::NAME, kind: Kind::Sealed(decodes::<T>) }
}

const fn log<L: Log>() -> TableInfo {
    TableInfo { name: L::NAME, kind: Kind::Log(L::check) }
}

fn decodes<T: Table>(key: &[u8], record: &[u8]) -> Result<(), RecordError> {
    T::Key::decode(key).ok_or(RecordError::Malformed)?;
    decode_record::<T>(record).map(drop)
}

/// How the engine sees every table: bytes to bytes.
pub(crate) const fn definition(
    name: &'static str,
) -> redb::TableDefinition<'static, &'static [u8], &'static [u8]> {
    redb::TableDefinition::new(name)
}
