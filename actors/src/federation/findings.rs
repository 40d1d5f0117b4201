//! The facade's part about a site's own results and findings.

use hansa_model::enrollment::Role;
use hansa_model::finding::{Finding, FindingsSummary, HostScan, ScanSummary};
use hansa_model::limits::finding as limits;
use hansa_storage::codec::Named;
use hansa_storage::{Order, ReadError, ReadView, table};

use super::Federation;
use crate::error::{FindingsError, Unavailable};
use crate::findings::FindingsMessage;
use crate::persistence::SELF;
use crate::view::{FindingsAnswer, RowsView, ScansAnswer};

impl Federation {
    /// Takes a full snapshot of a baseline's results. Durable on return; its rollup is then owed to the
    /// coordinator. An `Err` row is one that did not parse.
    ///
    /// # Errors
    /// See [`FindingsError`]; nothing was applied.
    pub async fn put_scans(
        &self,
        baseline: String,
        rows: Vec<Result<HostScan, String>>,
    ) -> Result<ScansAnswer, FindingsError> {
        self.require(Role::Site)?;
        let message = |reply| FindingsMessage::PutScans { baseline, rows, reply };
        self.tree.site.findings.call(message).await?
    }

    /// Removes a baseline with its results. Durable on return; the coordinator is told.
    ///
    /// # Errors
    /// See [`FindingsError`].
    pub async fn remove_scans(&self, baseline: String) -> Result<(), FindingsError> {
        self.require(Role::Site)?;
        self.tree.site.findings.call(|reply| FindingsMessage::RemoveScans { baseline, reply }).await?
    }

    /// Takes a full snapshot of the findings. Durable on return; its rollup is then owed to the coordinator. An
    /// `Err` row is one that did not parse.
    ///
    /// # Errors
    /// See [`FindingsError`]; nothing was applied.
    pub async fn put_findings(
        &self,
        rows: Vec<Result<Finding, String>>,
    ) -> Result<FindingsAnswer, FindingsError> {
        self.require(Role::Site)?;
        self.tree.site.findings.call(|reply| FindingsMessage::PutFindings { rows, reply }).await?
    }

    /// The baselines that the site holds, in the order of names, each with what its results come to.
    ///
    /// # Errors
    /// The store did not answer.
    pub fn scans(&self) -> Result<Vec<(String, ScanSummary)>, FindingsError> {
        let held = self.scans_view()?.all::<table::Scans>(..).map_err(unread)?;
        let kept = held.into_iter().filter(|(_, held)| !held.removed);
        Ok(kept.map(|(baseline, held)| (baseline, held.summary)).collect())
    }

    /// A page of a baseline's results in the order of hosts, from a row on.
    ///
    /// # Errors
    /// See [`FindingsError`].
    pub fn host_scans(
        &self,
        baseline: &str,
        from: u64,
        limit: usize,
    ) -> Result<RowsView<HostScan, ScanSummary>, FindingsError> {
        let view = self.scans_view()?;
        let held = view.get::<table::Scans>(baseline).map_err(unread)?.filter(|held| !held.removed);
        let held = held.ok_or_else(|| FindingsError::BaselineNotFound(baseline.to_owned()))?;
        let chunks = |first, count| {
            let range = Named::new(baseline, first)..=Named::new(baseline, u32::MAX);
            Ok(view
                .page::<table::HostScans>(range, Order::Ascending, count)?
                .into_iter()
                .map(|(_, chunk)| chunk)
                .collect())
        };
        Ok(RowsView { rows: rows(chunks, from, limit)?, total: held.rows, summary: held.summary })
    }

    /// A page of the findings in the order of hosts, from a row on.
    ///
    /// # Errors
    /// The store did not answer.
    pub fn findings(
        &self,
        from: u64,
        limit: usize,
    ) -> Result<RowsView<Finding, FindingsSummary>, FindingsError> {
        let view = self.scans_view()?;
        let held = view.get::<table::FindingsHeld>(SELF).map_err(unread)?.unwrap_or_default();
        let chunks = |first, count| {
            Ok(view
                .page::<table::Findings>(first..=u32::MAX, Order::Ascending, count)?
                .into_iter()
                .map(|(_, chunk)| chunk)
                .collect())
        };
        Ok(RowsView { rows: rows(chunks, from, limit)?, total: held.rows, summary: held.summary })
    }

    fn scans_view(&self) -> Result<ReadView, FindingsError> {
        self.tree.context.store.read().map_err(unread)
    }
}

/// Cuts a page out of the chunks that it lies in.
fn rows<T>(
    chunks: impl Fn(u32, usize) -> Result<Vec<Vec<T>>, ReadError>,
    from: u64,
    limit: usize,
) -> Result<Vec<T>, FindingsError> {
    let size = limits::CHUNK_ROWS as u64;
    let Ok(first) = u32::try_from(from / size) else { return Ok(Vec::new()) };
    let inside = usize::try_from(from % size).unwrap_or(0);
    let count = (inside + limit).div_ceil(limits::CHUNK_ROWS);
    let found = chunks(first, count).map_err(unread)?;
    Ok(found.into_iter().flatten().skip(inside).take(limit).collect())
}

fn unread(error: ReadError) -> FindingsError {
    tracing::warn!(%error, "the site's results could not be read");
    FindingsError::Unavailable(Unavailable::Storage)
}
