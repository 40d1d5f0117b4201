//! The tables, one file each, and what a table is.
//!
//! To add one: write its file (key, value, name, version 1, one sample), add one line to
//! `schema.rs`, run the golden test once with `HANSA_GOLDEN=write`, and draw the layout in
//! `docs/storage.md`. To change a stored layout: raise `VERSION`, keep reading the old one in `decode`, and keep the
//! old golden file.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::KeyCodec;
use crate::error::RecordError;
use crate::seal::Envelope;

mod alert_overrides;
mod alerts;
mod api_key_names;
mod api_keys;
mod app_role_secrets;
mod app_roles;
mod assignments;
mod audit;
mod audit_checkpoints;
mod backend_syncs;
mod certificates;
mod command_keys;
mod command_outcomes;
mod commands;
mod compliance_rollups;
mod coordinator_checkpoints;
mod dispatch_keys;
mod enrollment;
mod enrollment_tokens;
mod findings;
mod host_rollups;
mod host_scans;
mod identity;
mod identity_keys;
mod ingest_log;
mod inventory_log;
mod inventory_segments;
mod lease_keys;
mod leases;
mod logins;
mod open_alerts;
mod open_commands;
mod open_entries;
mod open_leases;
mod outbound_bearers;
mod outbox;
mod path_policies;
mod policies;
mod policy_names;
mod queue;
mod queue_keys;
mod received_commands;
mod received_leases;
mod received_policies;
mod rollouts;
mod secret_backends;
mod secret_conflicts;
mod secret_values;
mod secrets;
mod segments;
mod settings;
mod site_commands;
mod site_names;
mod site_sync;
mod sites;
mod spent_commands;
mod sync_bearer_secret;
mod sync_bearers;
mod sync_events;
mod tenants;
mod trusted_peers;
mod users;
mod vault_tokens;
mod vulnerability_rollups;
mod webhook_cursors;
mod webhook_log;

pub use alert_overrides::AlertOverrides;
pub use alerts::Alerts;
pub use api_key_names::ApiKeyNames;
pub use api_keys::ApiKeys;
pub use app_role_secrets::AppRoleSecrets;
pub use app_roles::AppRoles;
pub use assignments::{Assignments, PolicySites};
pub use audit::Audit;
pub use audit_checkpoints::AuditCheckpoints;
pub use backend_syncs::BackendSyncs;
pub use certificates::Certificates;
pub use command_keys::CommandKeys;
pub use command_outcomes::CommandOutcomes;
pub use commands::Commands;
pub use compliance_rollups::ComplianceRollups;
pub use coordinator_checkpoints::CoordinatorCheckpoints;
pub use dispatch_keys::DispatchKeys;
pub use enrollment::Enrollments;
pub use enrollment_tokens::EnrollmentTokens;
pub use findings::{Findings, FindingsHeld};
pub use host_rollups::HostRollups;
pub use host_scans::{HostScans, Scans};
pub use identity::Identity;
pub use identity_keys::IdentityKeys;
pub use ingest_log::IngestLog;
pub use inventory_log::InventoryLog;
pub use inventory_segments::{InventorySegmentHeads, InventorySegments};
pub use lease_keys::LeaseKeys;
pub use leases::Leases;
pub use logins::Logins;
pub use open_alerts::OpenAlerts;
pub use open_commands::OpenCommands;
pub use open_entries::OpenEntries;
pub use open_leases::OpenLeases;
pub use outbound_bearers::OutboundBearers;
pub use outbox::Outbox;
pub use path_policies::PathPolicies;
pub use policies::Policies;
pub use policy_names::PolicyNames;
pub use queue::{Queue, QueueEntry};
pub use queue_keys::QueueKeys;
pub use received_commands::ReceivedCommands;
pub use received_leases::ReceivedLeases;
pub use received_policies::ReceivedPolicies;
pub use rollouts::Rollouts;
pub use secret_backends::SecretBackends;
pub use secret_conflicts::SecretConflicts;
pub use secret_values::SecretValues;
pub use secrets::Secrets;
pub use segments::{CHUNK_BYTES, SegmentHead, SegmentHeads, Segments};
pub use settings::Settings;
pub use site_commands::SiteCommands;
pub use site_names::SiteNames;
pub use site_sync::SiteSyncs;
pub use sites::Sites;
pub use spent_commands::SpentCommands;
pub use sync_bearer_secret::SyncBearerSecret;
pub use sync_bearers::SyncBearers;
pub use sync_events::SyncEvents;
pub use tenants::Tenants;
pub use trusted_peers::TrustedPeers;
pub use users::Users;
pub use vault_tokens::VaultTokens;
pub use vulnerability_rollups::VulnerabilityRollups;
pub use webhook_cursors::WebhookCursors;
pub use webhook_log::WebhookLog;

/// Key of the one record in a table that holds one.
pub const SELF: &str = "self";

/// A table: what its keys and records are.
pub trait Table: 'static {
    /// What a record is found by.
    type Key: KeyCodec;
    /// What a record holds.
    type Value: Serialize + DeserializeOwned;
    /// The name in the file; never changes.
    const NAME: &'static str;
    /// The layout that is written now; the first byte of each record.
    const VERSION: u8 = 1;
    /// Whether only the writer itself puts records, as it does for the audit log.
    const WRITER_ONLY: bool = false;

    /// Appends the value's bytes in the layout of [`Self::VERSION`].
    fn encode(value: &Self::Value, record: Vec<u8>) -> Vec<u8> {
        postcard::to_extend(value, record).expect("records are plain data, which always encodes into memory")
    }

    /// Reads a record of any version that was ever released.
    ///
    /// # Errors
    /// The version is unknown, or the bytes are not of this table.
    fn decode(version: u8, body: &[u8]) -> Result<Self::Value, RecordError> {
        if version != Self::VERSION {
            return Err(RecordError::UnknownVersion { version });
        }
        postcard::from_bytes(body).map_err(|_| RecordError::Malformed)
    }
}

/// A table whose values lie sealed. Write with `Batch::put_sealed`, read with `ReadView::get_sealed`.
pub trait SealedTable: Table<Value = Envelope> {}

/// An append-only table: the writer numbers its records from one, ascending, and never reuses a number.
///
/// Bodies are opaque here, so that the hot path neither encodes nor decodes them. A long body is stored
/// in pieces; readers get it whole.
pub trait Log: 'static {
    /// The name in the file; never changes.
    const NAME: &'static str;
    /// The layout of the bodies that is written now.
    const VERSION: u8 = 1;

    /// Checks that a body decodes, for `hansa check`.
    ///
    /// # Errors
    /// The version is unknown, or the bytes are not a body.
    fn check(version: u8, body: &[u8]) -> Result<(), RecordError>;
}

/// [`Table::decode`] of a table whose body is raw bytes.
fn raw_body(version: u8, known: u8, body: &[u8]) -> Result<Vec<u8>, RecordError> {
    if version != known {
        return Err(RecordError::UnknownVersion { version });
    }
    Ok(body.to_vec())
}
