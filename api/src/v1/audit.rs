//! The audit log (contract B5 and 9), its chain and its checkpoints.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::sync::Arc;

use hansa_actors::view::ChainLink;
use hansa_model::audit::{AuditEntry, AuditFilter, Checkpoint, KeptCheckpoint};
use hansa_model::limits::audit as limits;
use hansa_model::scope::Operator;
use hansa_model::secret::hex;
use hansa_model::{AuditId, Timestamp};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use super::events;
use crate::answer::{Answer, Licensed};
use crate::problem::Problem;
use crate::request::Request;
use crate::route::{Parameter, ParameterKind};

/// The parameters of the log. All conditions must hold; empty ones do not bind.
pub(crate) const QUERY: &[Parameter] = &[
    Parameter { name: "site_id", kind: ParameterKind::Text, description: "about exactly this site" },
    Parameter { name: "operation", kind: ParameterKind::Text, description: "exactly this operation" },
    Parameter { name: "actor_userid", kind: ParameterKind::Text, description: "by exactly this actor" },
    Parameter { name: "since", kind: ParameterKind::Instant, description: "then or later" },
    Parameter { name: "until", kind: ParameterKind::Instant, description: "earlier than then" },
    Parameter { name: "limit", kind: ParameterKind::Integer, description: "entries of the page, 1 to 1,000" },
    Parameter { name: "offset", kind: ParameterKind::Integer, description: "entries to leave out" },
];

/// The parameters of the chain.
pub(crate) const CHAIN_QUERY: &[Parameter] = &[
    Parameter { name: "after", kind: ParameterKind::Integer, description: "number of the last link seen" },
    Parameter { name: "limit", kind: ParameterKind::Integer, description: "links of the page, 1 to 1,000" },
];

/// What somebody did.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditEntry)]
pub(crate) struct AuditEntryBody {
    id: Uuid,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    operation: String,
    /// Null for a worker.
    actor_userid: Option<String>,
    target_site_id: Option<Uuid>,
    /// The site's name at the time; the entry outlives the site.
    target_site_name: Option<String>,
    target_host_id: Option<Uuid>,
    #[schema(value_type = Object)]
    details: Map<String, Value>,
}

impl From<AuditEntry> for AuditEntryBody {
    fn from(entry: AuditEntry) -> Self {
        let draft = entry.draft;
        Self {
            id: draft.id.0,
            created_at: draft.created_at,
            operation: draft.operation,
            actor_userid: draft.actor_userid,
            target_site_id: draft.target_site_id.map(|site| site.0),
            target_site_name: draft.target_site_name,
            target_host_id: draft.target_host_id.map(|host| host.0),
            details: events::json(&draft.details),
        }
    }
}

/// A page of the log, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditAnswer {
    #[schema(value_type = bool)]
    licensed: Licensed,
    entries: Vec<AuditEntryBody>,
    /// Matches before paging. Exact.
    total: u64,
}

/// One entry of the log.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditEntryAnswer {
    #[schema(value_type = bool)]
    licensed: Licensed,
    entry: AuditEntryBody,
}

/// One link of the chain: `hash` is SHA-256 over the hash before (32 zero bytes before the first), the number
/// as 8 bytes little-endian, and the bytes of `draft`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ChainLink)]
pub(crate) struct ChainLinkBody {
    /// From one, without gaps.
    number: u64,
    /// Base64.
    draft: String,
    /// 64 hexadecimal digits.
    hash: String,
}

impl From<ChainLink> for ChainLinkBody {
    fn from(link: ChainLink) -> Self {
        Self { number: link.number, draft: STANDARD.encode(link.draft), hash: hex(&link.hash) }
    }
}

/// A page of the chain, oldest first; empty at its end.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChainAnswer {
    #[schema(value_type = bool)]
    licensed: Licensed,
    links: Vec<ChainLinkBody>,
}

/// A signed statement of how an audit log ended at a moment.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Checkpoint)]
pub(crate) struct CheckpointBody {
    /// The last entry covered.
    number: u64,
    /// That entry's hash, 64 hexadecimal digits.
    hash: String,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// Ed25519 in base64, over the text that `docs/audit.md` gives.
    signature: String,
    /// The key that signed it.
    public_key_pem: String,
    /// When it came to this site; absent at the node that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    received_at: Option<Timestamp>,
}

impl CheckpointBody {
    fn new(checkpoint: Checkpoint, public_key_pem: String, received_at: Option<Timestamp>) -> Self {
        Self {
            number: checkpoint.number,
            hash: hex(&checkpoint.hash),
            at: checkpoint.at,
            signature: STANDARD.encode(checkpoint.signature),
            public_key_pem,
            received_at,
        }
    }
}

/// Checkpoints, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CheckpointsAnswer {
    #[schema(value_type = bool)]
    licensed: Licensed,
    checkpoints: Vec<CheckpointBody>,
}

pub(crate) async fn list(request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let query = request.query()?;
    let filter = AuditFilter {
        site: query.word("site_id")?,
        operation: query.text("operation")?,
        actor_userid: query.text("actor_userid")?,
        since: query.instant("since")?,
        until: query.instant("until")?,
    };
    let limit = query.number("limit", 1..=limits::LIMIT_MAX)?.unwrap_or(limits::LIMIT_DEFAULT);
    let offset = query.number("offset", 0..=usize::MAX)?.unwrap_or(0);
    request.federation.settle_audit().await?;
    let page = request.federation.audit(&operator, &filter, offset as u64, limit)?;
    Answer::ok(&AuditAnswer {
        licensed: Licensed,
        entries: page.entries.into_iter().map(AuditEntryBody::from).collect(),
        total: page.total,
    })
}

pub(crate) fn show(request: &Request, operator: &Operator) -> Result<Answer, Problem> {
    let id: AuditId = request.id("entry_id")?;
    let entry = request.federation.audit_entry(operator, id)?;
    Answer::ok(&AuditEntryAnswer { licensed: Licensed, entry: entry.into() })
}

pub(crate) fn chain(request: &Request, operator: &Operator) -> Result<Answer, Problem> {
    let query = request.query()?;
    let after = query.number("after", 0..=usize::MAX)?.unwrap_or(0);
    let limit = query.number("limit", 1..=limits::LIMIT_MAX)?.unwrap_or(limits::LIMIT_DEFAULT);
    let links = request.federation.audit_chain(operator, after as u64, limit)?;
    Answer::ok(&ChainAnswer {
        licensed: Licensed,
        links: links.into_iter().map(ChainLinkBody::from).collect(),
    })
}

pub(crate) fn checkpoints(request: &Request) -> Result<Answer, Problem> {
    let limit = checkpoint_limit(request)?;
    let key = request.federation.identity().public_key_pem;
    let own = |checkpoint| CheckpointBody::new(checkpoint, key.clone(), None);
    let checkpoints = request.federation.audit_checkpoints(limit)?.into_iter().map(own).collect();
    Answer::ok(&CheckpointsAnswer { licensed: Licensed, checkpoints })
}

pub(crate) fn kept_checkpoints(request: &Request) -> Result<Answer, Problem> {
    let limit = checkpoint_limit(request)?;
    let kept = |kept: KeptCheckpoint| {
        let key = request.federation.key_pem(&kept.signer);
        CheckpointBody::new(kept.checkpoint, key, Some(kept.received_at))
    };
    let checkpoints = request.federation.coordinator_checkpoints(limit)?.into_iter().map(kept).collect();
    Answer::ok(&CheckpointsAnswer { licensed: Licensed, checkpoints })
}

fn checkpoint_limit(request: &Request) -> Result<usize, Problem> {
    let limit = request.query()?.number("limit", 1..=limits::CHECKPOINTS_LISTED_MAX)?;
    Ok(limit.unwrap_or(limits::LIMIT_DEFAULT))
}
