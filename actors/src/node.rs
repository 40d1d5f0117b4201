//! The root of the supervision tree: order of start, roles, shutdown.
//!
//! ```text
//! Node                        starts downwards, stops upwards
//! ├─ Audit                    follows the audit chain, signs checkpoints
//! ├─ RootKey                  carries a rotation of the root key on
//! ├─ OpenEntries              audit entries that wait for a backend
//! ├─ Coordinator              while the role is coordinator
//! │  ├─ Webhooks
//! │  ├─ Alerts
//! │  ├─ Leases
//! │  ├─ Policies
//! │  └─ Site × n
//! ├─ SiteRole                 while the role is site
//! │  ├─ SyncQueue
//! │  ├─ Inventory
//! │  ├─ Findings
//! │  ├─ Inbox
//! │  ├─ Executor
//! │  └─ Uplink
//! ├─ Backends                 in any role
//! │  └─ Backend × m
//! └─ Endpoint                 last, so that a peer finds somebody to talk to
//! ```
//!
//! Calls that await an answer go one way: facade → coordinator → site → writer. The other way go notices.
//! That one rule is the freedom from deadlock.

use std::sync::{Arc, Mutex};

use arc_swap::{ArcSwap, ArcSwapOption};
use hansa_backends::Drivers;
use hansa_model::audit::Detail;
use hansa_model::directory::Shard;
use hansa_model::enrollment::Role;
use hansa_model::machine::stamp::Taken;
use hansa_model::scope::Operator;
use hansa_model::{Entropy, SiteId, WallClock};
use hansa_storage::{Batch, Lane, Store, table};
use hansa_transport::http::PeerHttp;
use hansa_transport::{CloseCode, Endpoint, EndpointConfig, Socket, TlsCertificate};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use tokio::sync::Notify;

use crate::audit::{AuditActor, AuditReader};
use crate::backends::{Backends, BackendsActor};
use crate::connector::Connectors;
use crate::context::{Compute, Context, NodeConfig};
use crate::coordinator::{Coordinator, CoordinatorActor};
use crate::directory::SharedShard;
use crate::endpoint::{EndpointActor, EndpointMessage};
use crate::error::Unavailable;
use crate::events::Events;
use crate::executor::{ExecutorActor, ExecutorMessage};
use crate::federation::Federation;
use crate::findings::{FindingsActor, FindingsMessage};
use crate::inbox::{InboxActor, InboxMessage};
use crate::inventory::{InventoryActor, InventoryMessage};
use crate::issuer::Issuers;
use crate::keyring::{IdentityError, Keyring};
use crate::membership::Membership;
use crate::metrics::Metrics;
use crate::open_entries::{OpenEntries, OpenEntriesActor};
use crate::operators::Operators;
use crate::root_key::{RootKeyActor, RootKeyHolder, RootKeyMessage, RootKeys};
use crate::supervision::{Children, Handle};
use crate::sync_queue::{SyncQueueActor, SyncQueueMessage};
use crate::uplink::{UplinkActor, UplinkMessage};
use crate::view::QueueView;

const ROLE: &str = "role";

/// The seams of a node: everything it knows of the world outside.
#[derive(Debug)]
pub struct NodeEnv {
    /// The open store.
    pub store: Store,
    /// The UDP socket for QUIC; none for a node that only speaks HTTP.
    pub socket: Option<Socket>,
    /// The wall clock.
    pub wall: Arc<dyn WallClock>,
    /// The source of randomness.
    pub entropy: Arc<dyn Entropy>,
    /// HTTP to peers.
    pub http: Arc<dyn PeerHttp>,
    /// What carries out commands, policies and leases at a site.
    pub connectors: Arc<dyn Connectors>,
    /// What makes the credentials of secret leases; without any, requests for them fail.
    pub issuers: Issuers,
    /// What speaks to secret backends.
    pub drivers: Arc<dyn Drivers>,
    /// Where the root key is kept.
    pub root_key: Arc<dyn RootKeyHolder>,
    /// Where heavy work runs.
    pub compute: Compute,
    /// Seed of the QUIC endpoint's own randomness; none in production.
    pub endpoint_seed: Option<[u8; 32]>,
    /// Name of this host, for the certificate.
    pub host_name: String,
    /// A prepared certificate for a node that has none yet; none in production.
    pub tls_certificate: Option<TlsCertificate>,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The identity is missing or damaged.
    #[error("the node's identity is not usable")]
    Identity(#[from] IdentityError),
    /// The store did not answer.
    #[error("the store cannot be read")]
    Read(#[from] hansa_storage::ReadError),
    /// The QUIC endpoint did not come up.
    #[error("the QUIC endpoint did not start")]
    Endpoint(#[from] hansa_transport::BindError),
    /// An actor did not come up.
    #[error("an actor did not start: {0}")]
    Actor(String),
}

/// A running node. Dropping it leaves the actors running; [`Node::stop`] ends them in order.
#[derive(Debug)]
pub struct Node {
    root: ActorRef<NodeMessage>,
    federation: Federation,
    endpoint: Option<Endpoint>,
}

impl Node {
    /// Starts a node; returns when all its actors run.
    ///
    /// # Errors
    /// See [`StartError`]; nothing keeps running.
    pub async fn start(env: NodeEnv, config: NodeConfig) -> Result<Self, StartError> {
        let now = env.wall.now();
        let keyring =
            Keyring::open(&env.store, now, &*env.entropy, &env.host_name, env.tls_certificate).await?;
        let role = stored_role(&env.store)?;
        let operators = Arc::new(Operators::new(&keyring.identity, &config.operators, &*env.entropy));
        let identity = keyring.identity.clone();
        let events = Arc::new(Events::new(env.entropy.u64()));
        let context = Arc::new(Context {
            store: env.store,
            wall: env.wall,
            entropy: env.entropy,
            http: env.http,
            compute: env.compute,
            config,
            keyring,
            issuers: env.issuers,
            metrics: Metrics::new(),
            events,
            checkpoint: ArcSwapOption::empty(),
        });
        let coordinator = Coordinator::new(Arc::clone(&context));
        let endpoint = match env.socket {
            None => None,
            Some(socket) => {
                let admits = coordinator.clone();
                let admission =
                    Arc::new(move |key: &hansa_transport::PublicKey| admits.admits(key.as_bytes()));
                let mut config = EndpointConfig::new(identity, admission);
                config.rng_seed = env.endpoint_seed;
                Some(Endpoint::bind(socket, config)?)
            }
        };
        let site = SiteRole::new(&context, endpoint.clone(), env.connectors)?;
        let backends = Backends::new(Arc::clone(&context), env.drivers);
        let tree = Tree {
            root_keys: RootKeys::new(Arc::clone(&context), env.root_key),
            root_key_actor: Handle::new("root key"),
            open_entries: OpenEntries::open(Arc::clone(&context))?,
            context,
            backends,
            coordinator,
            site,
            endpoint: endpoint.clone(),
            endpoint_actor: Handle::new("endpoint"),
            audit: AuditReader::default(),
            role: Arc::new(ArcSwap::from_pointee(role)),
            stamps: Arc::new(Mutex::new(Taken::default())),
        };
        let (root, _) = Actor::spawn(None, NodeActor { tree: tree.clone() }, ())
            .await
            .map_err(|error| StartError::Actor(error.to_string()))?;
        let federation = Federation::new(tree, operators, root.clone());
        Ok(Self { root, federation, endpoint })
    }

    /// The way in.
    pub fn federation(&self) -> Federation {
        self.federation.clone()
    }

    /// Stops all actors in order and tells the peers. Returns when nothing of the node runs any more.
    pub async fn stop(self) {
        // An actor tree that is gone already has nothing to stop.
        let _ = self.root.stop_and_wait(None, Some(hansa_model::limits::actor::CALL_WAIT_MAX)).await;
        if let Some(endpoint) = self.endpoint {
            endpoint.close(CloseCode::ShuttingDown).await;
        }
    }
}

fn stored_role(store: &Store) -> Result<Role, hansa_storage::ReadError> {
    let role = store.read()?.get::<table::Settings>(ROLE)?;
    Ok(role.and_then(|role| role.parse().ok()).unwrap_or_default())
}

/// The parts of a node that the facade and the actors share.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    pub(crate) context: Arc<Context>,
    pub(crate) backends: Backends,
    pub(crate) coordinator: Coordinator,
    pub(crate) site: SiteRole,
    pub(crate) endpoint: Option<Endpoint>,
    pub(crate) endpoint_actor: Handle<EndpointMessage>,
    pub(crate) role: Arc<ArcSwap<Role>>,
    /// What the audit log is searched by.
    pub(crate) audit: AuditReader,
    pub(crate) root_keys: RootKeys,
    pub(crate) root_key_actor: Handle<RootKeyMessage>,
    /// Audit entries of calls to backends.
    pub(crate) open_entries: OpenEntries,
    /// Stamps of HTTP peers that were taken; after a restart they could be taken once more.
    pub(crate) stamps: Arc<Mutex<Taken>>,
}

/// The site's role: its actors' handles, and what they publish.
#[derive(Debug, Clone)]
pub(crate) struct SiteRole {
    pub(crate) shard: SharedShard,
    pub(crate) membership: Membership,
    pub(crate) queue: Handle<SyncQueueMessage>,
    pub(crate) queue_view: Arc<ArcSwap<QueueView>>,
    pub(crate) inventory: Handle<InventoryMessage>,
    pub(crate) findings: Handle<FindingsMessage>,
    pub(crate) inbox: Handle<InboxMessage>,
    pub(crate) executor: Handle<ExecutorMessage>,
    pub(crate) connectors: Arc<dyn Connectors>,
    pub(crate) uplink: Handle<UplinkMessage>,
    wake: Arc<Notify>,
    endpoint: Option<Endpoint>,
}

impl SiteRole {
    fn new(
        context: &Arc<Context>,
        endpoint: Option<Endpoint>,
        connectors: Arc<dyn Connectors>,
    ) -> Result<Self, hansa_storage::ReadError> {
        Ok(Self {
            // The site does not know its own id before it is enrolled, and its index needs none.
            shard: SharedShard::new(Shard::new(SiteId(uuid::Uuid::nil()))),
            membership: Membership::open(Arc::clone(context))?,
            queue: Handle::new("sync queue"),
            queue_view: Arc::new(ArcSwap::from_pointee(QueueView::default())),
            inventory: Handle::new("inventory"),
            findings: Handle::new("findings"),
            inbox: Handle::new("inbox"),
            executor: Handle::new("executor"),
            connectors,
            uplink: Handle::new("uplink"),
            wake: Arc::new(Notify::new()),
            endpoint,
        })
    }

    async fn start(
        &self,
        context: &Arc<Context>,
        children: &mut Children,
        supervisor: &ActorCell,
    ) -> Result<(), ActorProcessingErr> {
        let (this, shared) = (self.clone(), Arc::clone(context));
        let make = move || {
            let actor = SyncQueueActor {
                context: Arc::clone(&shared),
                shard: this.shard.clone(),
                wake: Arc::clone(&this.wake),
                view: Arc::clone(&this.queue_view),
            };
            (actor, ())
        };
        children.start::<SyncQueueActor, _>(supervisor.clone(), &self.queue, make).await?;

        let (this, shared) = (self.clone(), Arc::clone(context));
        let make = move || {
            let actor = InventoryActor {
                context: Arc::clone(&shared),
                shard: this.shard.clone(),
                queue: this.queue.clone(),
                queue_view: Arc::clone(&this.queue_view),
                membership: this.membership.clone(),
            };
            (actor, ())
        };
        children.start::<InventoryActor, _>(supervisor.clone(), &self.inventory, make).await?;

        let (this, shared) = (self.clone(), Arc::clone(context));
        let make = move || {
            let actor = FindingsActor {
                context: Arc::clone(&shared),
                queue: this.queue.clone(),
                membership: this.membership.clone(),
            };
            (actor, ())
        };
        children.start::<FindingsActor, _>(supervisor.clone(), &self.findings, make).await?;

        let (this, shared) = (self.clone(), Arc::clone(context));
        let make = move || {
            let actor = InboxActor {
                context: Arc::clone(&shared),
                queue: this.queue.clone(),
                executor: this.executor.clone(),
                connectors: Arc::clone(&this.connectors),
            };
            (actor, ())
        };
        children.start::<InboxActor, _>(supervisor.clone(), &self.inbox, make).await?;

        let (this, shared) = (self.clone(), Arc::clone(context));
        let make = move || {
            let actor = ExecutorActor {
                context: Arc::clone(&shared),
                shard: this.shard.clone(),
                inbox: this.inbox.clone(),
                connectors: Arc::clone(&this.connectors),
            };
            (actor, ())
        };
        children.start::<ExecutorActor, _>(supervisor.clone(), &self.executor, make).await?;

        let Some(endpoint) = self.endpoint.clone() else { return Ok(()) };
        let (this, shared) = (self.clone(), Arc::clone(context));
        let make = move || {
            let actor = UplinkActor {
                context: Arc::clone(&shared),
                endpoint: endpoint.clone(),
                membership: this.membership.clone(),
                queue: this.queue.clone(),
                inventory: this.inventory.clone(),
                findings: this.findings.clone(),
                inbox: this.inbox.clone(),
                executor: this.executor.clone(),
                queue_view: Arc::clone(&this.queue_view),
                wake: Arc::clone(&this.wake),
            };
            (actor, ())
        };
        Ok(children.start::<UplinkActor, _>(supervisor.clone(), &self.uplink, make).await?)
    }
}

/// Everything the root can be asked.
#[derive(Debug)]
pub(crate) enum NodeMessage {
    /// Takes another role. Answers once it is on disk and its actors run.
    SetRole { role: Role, operator: Operator, reply: RpcReplyPort<Result<Role, Unavailable>> },
}

struct NodeActor {
    tree: Tree,
}

struct NodeState {
    /// The actors of any role, before all others: audit log, root key and open entries.
    audit: Children,
    backends: Children,
    role: Children,
    endpoint: Children,
}

impl Actor for NodeActor {
    type Msg = NodeMessage;
    type State = NodeState;
    type Arguments = ();

    async fn pre_start(
        &self,
        myself: ActorRef<NodeMessage>,
        (): (),
    ) -> Result<NodeState, ActorProcessingErr> {
        let supervisor = myself.get_cell();
        let mut state = NodeState {
            audit: Children::default(),
            backends: Children::default(),
            role: Children::default(),
            endpoint: Children::default(),
        };
        let context = Arc::clone(&self.tree.context);
        let make = move || (AuditActor { context: Arc::clone(&context) }, ());
        state.audit.start::<AuditActor, _>(supervisor.clone(), &Handle::new("audit"), make).await?;
        let keys = self.tree.root_keys.clone();
        let make = move || (RootKeyActor { keys: keys.clone() }, ());
        let handle = &self.tree.root_key_actor;
        state.audit.start::<RootKeyActor, _>(supervisor.clone(), handle, make).await?;
        let entries = self.tree.open_entries.clone();
        let make = move || (OpenEntriesActor { entries: entries.clone() }, ());
        let handle = &self.tree.open_entries.actor;
        state.audit.start::<OpenEntriesActor, _>(supervisor.clone(), handle, make).await?;
        let backends = self.tree.backends.clone();
        let make = move || (BackendsActor { backends: backends.clone() }, ());
        let handle = &self.tree.backends.actor;
        state.backends.start::<BackendsActor, _>(supervisor.clone(), handle, make).await?;
        self.start_role(&mut state, &supervisor, **self.tree.role.load()).await?;
        if let Some(endpoint) = &self.tree.endpoint {
            let (context, endpoint) = (Arc::clone(&self.tree.context), endpoint.clone());
            let coordinator = self.tree.coordinator.clone();
            let make = move || {
                let actor = EndpointActor {
                    context: Arc::clone(&context),
                    endpoint: endpoint.clone(),
                    coordinator: coordinator.clone(),
                };
                (actor, ())
            };
            let handle = &self.tree.endpoint_actor;
            state.endpoint.start::<EndpointActor, _>(supervisor, handle, make).await?;
        }
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<NodeMessage>,
        message: NodeMessage,
        state: &mut NodeState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            NodeMessage::SetRole { role, operator, reply } => {
                let answer = self.set_role(state, &myself.get_cell(), role, &operator).await?;
                // A caller that gave up has nothing to be told.
                let _ = reply.send(answer);
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<NodeMessage>,
        event: SupervisionEvent,
        state: &mut NodeState,
    ) -> Result<(), ActorProcessingErr> {
        let NodeState { audit, backends, role, endpoint } = state;
        let children = match event.actor_cell() {
            Some(cell) if endpoint.holds(cell) => endpoint,
            Some(cell) if audit.holds(cell) => audit,
            Some(cell) if backends.holds(cell) => backends,
            Some(_) | None => role,
        };
        Ok(children.on_event(event, myself.get_cell()).await?)
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<NodeMessage>,
        state: &mut NodeState,
    ) -> Result<(), ActorProcessingErr> {
        state.endpoint.stop_all().await;
        state.role.stop_all().await;
        state.backends.stop_all().await;
        state.audit.stop_all().await;
        Ok(())
    }
}

impl NodeActor {
    async fn start_role(
        &self,
        state: &mut NodeState,
        supervisor: &ActorCell,
        role: Role,
    ) -> Result<(), ActorProcessingErr> {
        match role {
            Role::None => Ok(()),
            Role::Coordinator => {
                let coordinator = self.tree.coordinator.clone();
                let handle = coordinator.actor.clone();
                let make = move || (CoordinatorActor { coordinator: coordinator.clone() }, ());
                let children = &mut state.role;
                Ok(children.start::<CoordinatorActor, _>(supervisor.clone(), &handle, make).await?)
            }
            Role::Site => self.tree.site.start(&self.tree.context, &mut state.role, supervisor).await,
        }
    }

    /// The old role's actors stop, then the choice is stored, then the new role's actors start. No restart
    /// of the process; the data of both roles stays.
    async fn set_role(
        &self,
        state: &mut NodeState,
        supervisor: &ActorCell,
        role: Role,
        operator: &Operator,
    ) -> Result<Result<Role, Unavailable>, ActorProcessingErr> {
        let Tree { context, role: shown, .. } = &self.tree;
        let previous = **shown.load();
        if previous == role {
            return Ok(Ok(role));
        }
        let details = [("previous", Detail::from(previous.as_str())), ("role", Detail::from(role.as_str()))];
        let mut batch = Batch::new();
        batch.put::<table::Settings>(ROLE, &role.as_str().to_owned()).audit(context.audit_node(
            "federation_role_changed",
            Some(operator),
            details,
        ));
        if let Err(error) = context.commit(Lane::Operator, batch).await {
            return Ok(Err(error));
        }
        state.role.stop_all().await;
        shown.store(Arc::new(role));
        self.start_role(state, supervisor, role).await?;
        Ok(Ok(role))
    }
}
