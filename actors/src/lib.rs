//! The supervision tree of a node and the typed facade in front of it. The only crate that knows ractor.
//!
//! ```text
//!   api, binary ──► Federation (facade, cheap to clone)
//!                      │ calls, awaited                     reads, never queued
//!                      ▼                                         │
//!   Node ─┬─ Audit · RootKey · OpenEntries
//!         ├─ Coordinator ─┬─ Policies · Leases · Alerts · Webhooks
//!         │               └─ Site × n ──► Writer (storage)       ▼
//!         │                  │  ▲                        Roster · Directory · ReadView
//!         │             link tasks (transport)
//!         ├─ SiteRole ─┬─ Inventory · Findings ──notice──► SyncQueue ◄──calls── Uplink's session
//!         │            ├─ Executor ──calls──► Inbox ──calls──► SyncQueue
//!         │            └─ Uplink
//!         ├─ Backends ── Backend × m ──► drivers (hansa_backends)
//!         └─ Endpoint ── greets newcomers, hands links to their Site
//! ```
//!
//! Every actor is a thin shell around a pure machine of `hansa_model::machine`. Its state is a cache of the
//! store: a failed actor is started again from there, alone, and its siblings notice nothing. Each file
//! holds one actor, its message enum first: the enum is the documentation.

mod alerts;
mod audit;
pub mod backends;
mod connector;
mod context;
mod coordinator;
mod directory;
mod drain;
mod endpoint;
mod enroll;
pub mod error;
mod events;
mod executor;
mod federation;
mod findings;
mod inbox;
mod inventory;
pub mod issuer;
mod keyring;
mod leases;
mod membership;
mod metrics;
mod node;
mod open_entries;
mod operators;
mod persistence;
mod policies;
mod post;
mod rollups;
mod root_key;
mod roster;
mod site;
mod supervision;
mod sync_queue;
mod uplink;
pub mod view;
mod webhooks;

pub use connector::{
    CarryingOut, ConnectorView, Connectors, Echo, NoConnectors, Outcome, Service, Task, Work, WorkHost,
    WorkLease, covers,
};
pub use context::{Compute, NodeConfig};
pub use enroll::EnrollRequest;
pub use events::{EventReader, EventsRead, EventsStart};
#[cfg(feature = "testing")]
pub use federation::Part;
pub use federation::{
    BackendStatusView, Caller, ConflictView, Federation, Listed, NewValue, SecretCursor, SecretIdView,
    SecretLogFilter, SecretPage, SecretSummary, SecretView, SignedRequest, SourceView, SyncStarted,
    VaultLogin, VaultLoginError, VaultTokenError, VaultTokenView, VersionAsked,
};
pub use inventory::InventoryChange;
pub use keyring::IdentityError;
pub use node::{Node, NodeEnv, StartError};
pub use operators::{
    ApiKeyView, IssuerAlgorithm, IssuerConfig, LoggedIn, NewApiKey, NewUser, OperatorsConfig, SharedSecret,
    UserPatch, UserView,
};
pub use root_key::{HolderError, Holding, NoHolder, RootKeyHolder, RootKeyView, RotationView};
