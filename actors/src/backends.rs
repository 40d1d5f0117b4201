//! Secret backends: their registry, one actor each, and what the rest of the node sees of them.
//!
//! ```text
//!   facade ──call──► Backends ──starts──► Backend × m ──tasks──► drivers (hansa_backends)
//!      │                │ publishes                │ publishes
//!      └──reads──► Board: routes, policies, tenants, members ◄─┘ status
//! ```
//!
//! The registry's actor owns every change of configuration; its board is a published cache, so finding
//! the backend of a path asks no mailbox. A backend's own actor is in `member`.

mod conflicts;
pub mod error;
mod fetch;
mod member;
mod registry;
mod rows;
mod sweep;
mod sync;
mod tenants;
mod write_through;

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use hansa_backends::Drivers;
use hansa_model::secrets::backend::BackendConfig;
use hansa_model::secrets::id::{BackendId, TenantId};
use hansa_model::secrets::mapping::Mapping;
use hansa_model::secrets::path::SecretPath;
use hansa_model::secrets::policy::PathPolicy;
use hansa_model::secrets::routes::Routes;
use hansa_model::secrets::row::{Backend, Leaving, Mode, SecretRow, SyncState};
use hansa_model::secrets::tenant::Tenant;

use crate::context::Context;
use crate::supervision::Handle;

pub(crate) use conflicts::{Resolution, every_conflict};
pub(crate) use fetch::{Fetched, VersionKey};
pub(crate) use member::{BackendMessage, ConnectionView};
pub use registry::{BackendPatch, NewBackend, PolicyDraft};
pub(crate) use registry::{BackendsActor, BackendsMessage, rehearse};
pub(crate) use rows::{add_version, forget, forget_versions, new_row, page_below, type_of, value_key};
pub(crate) use write_through::{Stored, WriteThrough, store_written};

/// What the rest of the node sees of the backends. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Backends {
    pub(crate) context: Arc<Context>,
    pub(crate) drivers: Arc<dyn Drivers>,
    pub(crate) actor: Handle<BackendsMessage>,
    board: Arc<ArcSwap<Board>>,
}

/// What is published: everything that decides about a path, as of one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Board {
    pub(crate) tenants: BTreeMap<TenantId, Arc<TenantBoard>>,
    pub(crate) members: BTreeMap<BackendId, Member>,
    /// Backends that were removed, as long as there may be copies of theirs.
    pub(crate) leaving: BTreeMap<BackendId, (TenantId, Leaving)>,
}

/// What a stored secret counts as, by what is published now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// This node's own.
    Own,
    /// A copy of the backend that its path leads to.
    Copy,
    /// A copy whose path leads elsewhere by now: as if it were not there, until it is swept away.
    Orphan,
}

impl Board {
    /// What a row counts as. Copies are served only as what they are: those of a backend that went, or whose
    /// mappings no longer lead to them, do not turn into secrets of this node.
    pub(crate) fn standing(&self, tenant: &str, path: &SecretPath, row: &SecretRow) -> Standing {
        let Some(copy) = &row.copy else { return Standing::Own };
        let tenant = tenant.parse().ok().and_then(|id: TenantId| self.tenants.get(&id));
        let backend = tenant.and_then(|tenant| tenant.routes.route(path)).map(|route| route.backend);
        let member = backend.and_then(|id| self.members.get(&id));
        let leads_there =
            member.is_some_and(|member| member.row.id == copy.backend && member.row.mode == Mode::Sync);
        let kept = self.leaving.get(&copy.backend).is_some_and(|(_, leaving)| *leaving == Leaving::Keep);
        if leads_there {
            Standing::Copy
        } else if kept || row.is_edited() {
            Standing::Own
        } else {
            Standing::Orphan
        }
    }
}

/// The same of one tenant.
#[derive(Debug, Clone)]
pub(crate) struct TenantBoard {
    pub(crate) tenant: Tenant,
    pub(crate) routes: Routes,
    pub(crate) policies: Vec<Arc<PathPolicy>>,
}

/// One backend: its configuration, its actor, and what that publishes.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) row: Arc<Backend>,
    pub(crate) config: Arc<BackendConfig>,
    pub(crate) mappings: Arc<[Mapping]>,
    pub(crate) actor: Handle<BackendMessage>,
    pub(crate) published: Arc<Published>,
}

/// What a backend's actor publishes.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) connection: ArcSwap<ConnectionView>,
    pub(crate) sync: ArcSwap<SyncState>,
    pub(crate) conflicts: std::sync::atomic::AtomicU64,
    /// Reads that wait for an answer.
    pub(crate) waiting: std::sync::atomic::AtomicU64,
}

impl Backends {
    pub(crate) fn new(context: Arc<Context>, drivers: Arc<dyn Drivers>) -> Self {
        Self {
            context,
            drivers,
            actor: Handle::new("backends"),
            board: Arc::new(ArcSwap::from_pointee(Board::default())),
        }
    }

    /// What is published now.
    pub(crate) fn board(&self) -> Arc<Board> {
        self.board.load_full()
    }

    /// Of one tenant; none when there is none.
    pub(crate) fn tenant(&self, id: &TenantId) -> Option<Arc<TenantBoard>> {
        self.board.load().tenants.get(id).cloned()
    }

    /// One backend, if it is this tenant's.
    pub(crate) fn member(&self, tenant: &TenantId, id: BackendId) -> Option<Member> {
        self.board.load().members.get(&id).filter(|member| member.row.tenant == *tenant).cloned()
    }
}
