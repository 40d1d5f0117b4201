//! The root key: how it is kept, and its rotation (ours). The key itself never leaves the node.

use std::sync::Arc;

use axum::http::StatusCode;
use hansa_actors::{RootKeyView, RotationView};
use hansa_model::scope::Operator;
use hansa_model::{Secret, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::answer::Answer;
use crate::problem::Problem;
use crate::request::Request;

/// How the root key is kept.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RootKey)]
pub(crate) struct RootKeyBody {
    /// `key_file`, `passphrase` or `transit`; `none` for a node without a place for it.
    kept_as: &'static str,
    /// When the last rotation began.
    #[schema(value_type = Option<String>, format = DateTime)]
    rotated_at: Option<Timestamp>,
    /// The rotation that runs; null when none does.
    rotation: Option<RotationBody>,
}

/// A rotation that runs.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RootKeyRotation)]
pub(crate) struct RotationBody {
    /// Sealed records that were looked at, since it began or since the node started.
    looked_at: u64,
    /// Sealed records there are.
    records: u64,
    /// Records that no known key opens.
    unreadable: u64,
    /// The former key is lost: its values do not open until the key file of the rotation is put back.
    former_key_lost: bool,
}

/// How the root key is rotated. Without a body it is kept as before.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RotateRootKey)]
pub(crate) struct RotateBody {
    /// The next key is derived from it (argon2id); every start needs it from then on.
    passphrase: Option<String>,
}

pub(crate) fn show(request: &Request) -> Result<Answer, Problem> {
    Answer::ok(&RootKeyBody::from(request.federation.root_key()?))
}

pub(crate) async fn rotate(mut request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let body: RotateBody = request.optional_json().await?;
    let passphrase = body.passphrase.map(Secret::new);
    let view = request.federation.rotate_root_key(&operator, passphrase).await?;
    Answer::json(StatusCode::ACCEPTED, &RootKeyBody::from(view))
}

impl From<RootKeyView> for RootKeyBody {
    fn from(view: RootKeyView) -> Self {
        let RootKeyView { kept_as, rotated_at, rotation } = view;
        Self { kept_as, rotated_at, rotation: rotation.map(RotationBody::from) }
    }
}

impl From<RotationView> for RotationBody {
    fn from(view: RotationView) -> Self {
        let RotationView { looked_at, records, unreadable, former_key_lost } = view;
        Self { looked_at, records, unreadable, former_key_lost }
    }
}
