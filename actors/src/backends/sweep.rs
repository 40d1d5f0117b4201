//! What is cleared away: copies that lost their backend, deleted secrets whose retention is over, tokens and
//! secret ids that have ended.
//!
//! None of it is served any more (see [`Board::standing`]), so a sweep may come late, end midway and come again.

use hansa_model::Timestamp;
use hansa_model::limits::secrets as limits;
use hansa_model::secrets::id::BackendId;
use hansa_model::secrets::row::SecretRow;
use hansa_storage::codec::Named;
use hansa_storage::{Batch, CommitError, Lane, Order, table};

use super::rows::forget;
use super::{Backends, Board, Standing};
use crate::error::Unavailable;

/// How often a page is looked at again because something in it changed meanwhile.
const PAGE_TRIES: usize = 3;

/// What becomes of a row.
enum Fate {
    Stays,
    /// It becomes a secret of this node for good.
    Settles,
    Goes,
}

/// Walks over all secrets once. Answers the removed backends that have no copies left. Durable on return.
pub(super) async fn sweep(backends: &Backends) -> Result<Vec<BackendId>, Unavailable> {
    let context = &backends.context;
    crate::federation::forget_ended(context, limits::PAGE_MAX).await?;
    let over = context.now().before(limits::DELETED_KEPT);
    // Those that leave while this runs are the next one's.
    let mut left: Vec<BackendId> = backends.board().leaving.keys().copied().collect();
    let mut from = Named::new("", String::new());
    let mut tries = 0;
    loop {
        let page = context.store.read()?.page::<table::Secrets>(
            from.clone()..,
            Order::Ascending,
            limits::PAGE_MAX,
        )?;
        let Some((last, _)) = page.last().cloned() else { return Ok(left) };
        let board = backends.board();
        let mut batch = Batch::new();
        for (key, row) in page {
            match fate(&board, &key, &row, over) {
                Fate::Stays => continue,
                Fate::Settles => {
                    batch.expect::<table::Secrets>(&key, &row);
                    batch.put::<table::Secrets>(&key, &SecretRow { copy: None, ..row });
                }
                Fate::Goes => {
                    batch.expect::<table::Secrets>(&key, &row);
                    forget(&mut batch, &key);
                }
            }
        }
        if !batch.is_empty() {
            match context.store_batch(Lane::Ingest, batch).await {
                Ok(_) => {}
                Err(CommitError::PreconditionFailed { .. }) if tries < PAGE_TRIES => {
                    tries += 1;
                    continue;
                }
                // Some of it changes all the time: the next sweep goes on.
                Err(CommitError::PreconditionFailed { .. }) => left.clear(),
                Err(error) => return Err(error.into()),
            }
        }
        tries = 0;
        from = Named::new(&last.name, format!("{}\0", last.number));
    }
}

fn fate(board: &Board, key: &Named<String>, row: &SecretRow, over: Timestamp) -> Fate {
    if row.deleted_at.is_some_and(|at| at < over) {
        return Fate::Goes;
    }
    // What has no path anybody can ask for stays for a version of the program that knows it.
    let Ok(path) = key.number.parse() else { return Fate::Stays };
    match board.standing(&key.name, &path, row) {
        Standing::Own if row.copy.is_some() => Fate::Settles,
        Standing::Own | Standing::Copy => Fate::Stays,
        Standing::Orphan => Fate::Goes,
    }
}
