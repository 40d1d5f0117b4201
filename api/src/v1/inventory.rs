//! A site's own hosts (architecture 9): full snapshots, deltas, and the list of what the site holds.

use std::sync::Arc;

use axum::http::header::LINK;
use hansa_actors::InventoryChange;
use hansa_actors::view::InventoryAnswer;
use hansa_model::scope::Operator;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::hosts::{HostBody, directory_query, encode_cursor};
use super::ingest::{HostEntryBody, SkippedRow};
use crate::answer::Answer;
use crate::json;
use crate::problem::Problem;
use crate::request::{ContentKind, Request};
use crate::rows::{self, Row, Rows};
use crate::scan::{Format, Members, Piece};

/// Rows of a page of our own lists when no limit is asked for.
const LIMIT_DEFAULT: usize = 50;

/// All hosts of the site. As NDJSON: one entry a line.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "documents a body that is read entry by entry")]
pub(crate) struct InventorySnapshot {
    entries: Vec<HostEntryBody>,
}

/// Changes of the site's hosts. As NDJSON: one entry or one `{"remove":"…"}` a line.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "documents a body that is read entry by entry")]
pub(crate) struct InventoryDelta {
    /// Hosts to add or change.
    entries: Option<Vec<HostEntryBody>>,
    /// Ids of hosts to remove.
    remove: Option<Vec<String>>,
}

/// What a call to the inventory did.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InventoryResult {
    /// Entries that are now the site's state, unchanged ones included.
    accepted: usize,
    /// Hosts added or changed.
    changed: usize,
    /// Hosts removed.
    retired: usize,
    /// Entries that were not applied; the first of them when there are many.
    skipped: Vec<SkippedRow>,
}

impl From<InventoryAnswer> for InventoryResult {
    fn from(answer: InventoryAnswer) -> Self {
        Self {
            accepted: answer.accepted,
            changed: answer.changed,
            retired: answer.retired,
            skipped: answer.skipped.into_iter().map(SkippedRow::from).collect(),
        }
    }
}

/// A page of the site's hosts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InventoryPage {
    items: Vec<HostBody>,
    /// Give it as `cursor` to get the next page; null on the last one.
    next_cursor: Option<String>,
    /// Matches before paging. Exact.
    total: u64,
}

pub(crate) async fn replace(mut request: Request, _operator: Arc<Operator>) -> Result<Answer, Problem> {
    let confirm_removals = request.query()?.flag("confirm_removals")?;
    let rows = Rows::new(format(&request)?, Members::Entries, rows::entry);
    let entries = rows.read_all(&mut request).await?;
    let answer = request.federation.put_inventory(entries, confirm_removals).await?;
    Answer::ok(&InventoryResult::from(answer))
}

pub(crate) async fn change(mut request: Request, _operator: Arc<Operator>) -> Result<Answer, Problem> {
    let rows = Rows::new(format(&request)?, Members::EntriesAndRemove, read_change);
    let changes = rows.read_all(&mut request).await?;
    let answer = request.federation.patch_inventory(changes).await?;
    Answer::ok(&InventoryResult::from(answer))
}

pub(crate) fn list(request: &Request) -> Result<Answer, Problem> {
    let query = request.query()?;
    let page = request.federation.inventory(&directory_query(&query, LIMIT_DEFAULT)?);
    let next_cursor = page.next.as_ref().map(encode_cursor);
    let link =
        next_cursor.as_ref().map(|cursor| format!("<?{}>; rel=\"next\"", query.with("cursor", cursor)));
    let answer = Answer::ok(&InventoryPage {
        items: page.rows.into_iter().map(|(_, host)| HostBody::new(None, host)).collect(),
        next_cursor,
        total: page.total,
    })?;
    Ok(match link {
        Some(link) => answer.with_header(LINK, link),
        None => answer,
    })
}

/// The form of a body of entries.
pub(super) fn format(request: &Request) -> Result<Format, Problem> {
    Ok(match request.content_kind()? {
        ContentKind::Json => Format::Json,
        ContentKind::Ndjson => Format::Ndjson,
        ContentKind::Unsaid => Format::Sniff,
    })
}

fn read_change(piece: Piece<'_>) -> Row<InventoryChange> {
    /// A line that removes a host.
    #[derive(Deserialize)]
    struct Removal {
        remove: Option<String>,
    }

    let upsert = |bytes| rows::host_entry(bytes).map(|entry| InventoryChange::Upsert(Box::new(entry)));
    match piece {
        Piece::Entry(bytes) => upsert(bytes),
        Piece::Removal(bytes) => serde_json::from_slice(bytes)
            .map(InventoryChange::Remove)
            .map_err(|_| json::reason_for::<String>(bytes)),
        Piece::Line(bytes) if !json::is_object(bytes) => upsert(bytes),
        Piece::Line(bytes) => match serde_json::from_slice::<Removal>(bytes) {
            Ok(Removal { remove: Some(host) }) => Ok(InventoryChange::Remove(host)),
            Ok(Removal { remove: None }) => upsert(bytes),
            Err(_) => Err(json::reason_for::<Removal>(bytes)),
        },
        Piece::EntryTooLong => Err(rows::too_long()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_is_an_entry_or_a_removal() {
        let removal = read_change(Piece::Line(br#"{"remove":"x"}"#));
        let entry = read_change(Piece::Line(br#"{"host_id":"x","status":"remove"}"#));

        assert!(matches!(removal, Ok(InventoryChange::Remove(host)) if host == "x"));
        assert!(matches!(entry, Ok(InventoryChange::Upsert(entry)) if entry.host_id == "x"));
        assert!(read_change(Piece::Line(b"{\"remove\":7}")).is_err());
        assert!(read_change(Piece::Line(b"[\"x\"]")).is_err());
        assert!(read_change(Piece::Removal(b"7")).is_err());
        assert!(
            matches!(read_change(Piece::Removal(b"\"y\"")), Ok(InventoryChange::Remove(host)) if host == "y")
        );
    }
}
