//! The facade's part about the past: a host as it was, and what changed since.
//!
//! A read walks the kept ingest log once, on a snapshot of the store: it takes no lock and waits for no
//! actor. It costs one pass over the log's bytes, in which only records that mention the host are decoded,
//! and it moves aside after each slice. Few run at once; the others wait.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use hansa_model::host::{HostChange, HostRow};
use hansa_model::limits::past as limits;
use hansa_model::machine::past::{Before, Glimpse, History, Mention, Word};
use hansa_model::scope::Operator;
use hansa_model::site::SiteStatus;
use hansa_model::sync::IngestRecord;
use hansa_model::{Host, HostId, SiteId, Timestamp};
use hansa_storage::{ReadError as StoreReadError, ReadView, table};

use super::Federation;
use crate::error::{HostNotFound, PastError, Unavailable};
use crate::persistence::{self, Fold as _, SiteFold};
use crate::view::{HistoryView, HostView};

impl Federation {
    /// One host as it was at a moment; a moment that has not come yet is the present.
    ///
    /// # Errors
    /// See [`PastError`].
    pub async fn host_at(
        &self,
        operator: &Operator,
        id: HostId,
        at: Timestamp,
    ) -> Result<HostView, PastError> {
        let _permit = self.past_reads.acquire().await.map_err(|_| Unavailable::Stopping)?;
        let reading = self.reading(operator, id)?;
        let mut glimpse = Glimpse::new(at);
        self.listen(operator, &reading, |word| glimpse.hear(word)).await?;
        let before = self.before(&reading, glimpse.sites())?;
        let found = glimpse.answer(before, reading.complete_from)?;
        let (site_id, host) = found.ok_or(HostNotFound(id))?;
        let site = self.tree.coordinator.roster.find(site_id).map(|member| Arc::clone(&member.view().site));
        Ok(HostView { host, site_id, site })
    }

    /// What changed at a host within the kept log: at most `limit` changes, newest first.
    ///
    /// # Errors
    /// The host is not there and the log does not know it, or see [`PastError::Unavailable`].
    pub async fn host_history(
        &self,
        operator: &Operator,
        id: HostId,
        limit: usize,
    ) -> Result<HistoryView, PastError> {
        let _permit = self.past_reads.acquire().await.map_err(|_| Unavailable::Stopping)?;
        let reading = self.reading(operator, id)?;
        let mut history = History::new(limit);
        self.listen(operator, &reading, |word| history.hear(word)).await?;
        let sites = history.sites();
        if sites.is_empty() && reading.held.is_none() {
            return Err(HostNotFound(id).into());
        }
        let before = self.before(&reading, sites)?;
        let (changes, more) = history.finish(&before);
        Ok(HistoryView { host_id: id, changes, more, kept_from: reading.complete_from })
    }

    fn reading(&self, operator: &Operator, id: HostId) -> Result<Reading, Unavailable> {
        // The index first: what it shows now is at most as new as the snapshot.
        let held = self.tree.coordinator.roster.directory.host(id, |site| operator.sees(site));
        let view = self.tree.context.store.read().map_err(|_| Unavailable::Storage)?;
        let complete_from =
            complete_from(&view, self.tree.context.now()).map_err(|_| Unavailable::Storage)?;
        Ok(Reading { id, held, view, complete_from })
    }

    /// Reads every kept word about the host, in the order of the log.
    async fn listen(
        &self,
        operator: &Operator,
        reading: &Reading,
        mut hear: impl FnMut(Word) + Send,
    ) -> Result<(), Unavailable> {
        let roster = &self.tree.coordinator.roster;
        let mention = Mention::of(reading.id);
        let mut heard = BTreeSet::new();
        let mut visit = |position: u64, body: &[u8]| {
            let site = persistence::record_site(body);
            let Some(site) = site.filter(|site| operator.sees(*site) && mention.is_in(body)) else { return };
            let Ok(record) = postcard::from_bytes::<IngestRecord<'_>>(body) else { return };
            for change in record.changes.iter().filter(|change| change.host_id() == reading.id) {
                let row = match change {
                    HostChange::Upsert(row) => Some(row.to_host()),
                    HostChange::Remove(_) => None,
                };
                heard.insert(site);
                hear(Word { site, position, at: record.received_at, row });
            }
        };
        let mut next = Some(0);
        while let Some(from) = next {
            next = self
                .tree
                .context
                .compute
                .run(|| read_slice(&reading.view, from, &mut visit))
                .map_err(|_| Unavailable::Storage)?;
            tokio::task::yield_now().await;
        }
        // A removed site says nothing any more; its removal is in its row.
        let removed = heard.into_iter().filter_map(|site| {
            let site = Arc::clone(&roster.find(site)?.view().site);
            (site.status == SiteStatus::Removed).then_some((site.id, site.updated_at))
        });
        for (site, at) in removed.collect::<Vec<_>>() {
            hear(Word { site, position: u64::MAX, at, row: None });
        }
        Ok(())
    }

    /// What is known of the host at each of these sites before its first word.
    fn before(
        &self,
        reading: &Reading,
        sites: Vec<(SiteId, u64)>,
    ) -> Result<BTreeMap<SiteId, Before>, Unavailable> {
        let mut before = BTreeMap::new();
        for (site, first) in sites {
            let known = match reading.complete_from {
                None => Before::Absent,
                Some(_) => self
                    .tree
                    .context
                    .compute
                    .run(|| self.before_first(reading, site, first))
                    .map_err(|_| Unavailable::Storage)?,
            };
            before.insert(site, known);
        }
        if let Some((site, host)) = &reading.held {
            before.entry(*site).or_insert_with(|| Before::Held(Box::new(host.clone())));
        }
        Ok(before)
    }

    fn before_first(&self, reading: &Reading, site: SiteId, first: u64) -> Result<Before, StoreReadError> {
        let head = reading.view.get::<table::SegmentHeads>(&site)?;
        let is_gone = self
            .tree
            .coordinator
            .roster
            .find(site)
            .is_none_or(|member| member.view().site.status == SiteStatus::Removed);
        match head {
            // Nothing of a site without a checkpoint is ever folded away; a removed site has lost its own.
            None if !is_gone => Ok(Before::Absent),
            Some(head) if head.covers_position < first => {
                let held = row_in_checkpoint(&reading.view, site, reading.id)?;
                Ok(held.map_or(Before::Absent, |host| Before::Held(Box::new(host))))
            }
            Some(_) | None => Ok(Before::Unknown),
        }
    }
}

/// What a read of the past stands on: one moment of index and store.
struct Reading {
    id: HostId,
    held: Option<(SiteId, Host)>,
    view: ReadView,
    complete_from: Option<Timestamp>,
}

/// Shows the records of one slice of the log; answers where the next one begins.
fn read_slice(
    view: &ReadView,
    from: u64,
    visit: &mut impl FnMut(u64, &[u8]),
) -> Result<Option<u64>, StoreReadError> {
    let (mut bytes, mut next) = (0, None);
    view.for_each_from::<table::IngestLog>(from, |position, body| {
        visit(position, body);
        bytes += body.len();
        if bytes < limits::SLICE_BYTES {
            return ControlFlow::Continue(());
        }
        next = Some(position + 1);
        ControlFlow::Break(())
    })?;
    Ok(next)
}

/// The instant from which on the log has every change; none when it has all that ever were.
fn complete_from(view: &ReadView, now: Timestamp) -> Result<Option<Timestamp>, StoreReadError> {
    let start = view.log_start::<table::IngestLog>()?;
    let is_whole = match start {
        Some(start) => start == 1,
        None => view.log_end::<table::IngestLog>()? == 0,
    };
    if is_whole {
        return Ok(None);
    }
    let noted = view.get::<table::Settings>(persistence::COMPLETE_FROM)?;
    if let Some(micros) = noted.and_then(|text| text.parse().ok()) {
        return Ok(Some(Timestamp::from_micros(micros)));
    }
    let mut first = now;
    view.for_each_from::<table::IngestLog>(0, |_, body| {
        first = persistence::record_time(body).unwrap_or(now);
        ControlFlow::Break(())
    })?;
    Ok(Some(first))
}

fn row_in_checkpoint(view: &ReadView, site: SiteId, id: HostId) -> Result<Option<Host>, StoreReadError> {
    let mention = Mention::of(id);
    let mut found = None;
    SiteFold(site).chunks(view, &mut |body| {
        if found.is_none() && mention.is_in(body) {
            let rows: Vec<HostRow<'_>> = postcard::from_bytes(body).unwrap_or_default();
            found = rows.iter().find(|row| row.host_id == id).map(HostRow::to_host);
        }
    })?;
    Ok(found)
}
