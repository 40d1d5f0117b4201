//! The federation's rollups as readers see them: each site's latest, and totals kept as counters.
//!
//! Shared like the directory: a site's actor puts its site's standing here between its commit and its
//! acknowledgement, and readers take a read lock. What was acknowledged is therefore counted, and no read waits
//! in a mailbox. Why no actor of its own: decision 0016.

use std::ops::ControlFlow;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use hansa_model::id::RollupId;
use hansa_model::machine::rollup::{Series, SiteRollups};
use hansa_model::machine::rollup_board::{Board, Standing};
use hansa_model::rollup::Snapshot;
use hansa_model::{SiteId, Timestamp};
use hansa_storage::codec::{KeyCodec, Named};
use hansa_storage::table::{self, Table};
use hansa_storage::{Batch, ReadError, ReadView};

/// The rollups of all sites.
#[derive(Debug, Default)]
pub(crate) struct Rollups {
    board: RwLock<Board>,
}

impl Rollups {
    /// Shows readers a site's standing. Called by its actor after the state is on disk.
    pub(crate) fn publish(&self, standing: Standing) {
        self.board.write().unwrap_or_else(PoisonError::into_inner).set(standing);
    }

    /// The board as it stands. Keep the guard for a read, not for an answer.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Board> {
        self.board.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a site's series back.
pub(crate) fn load(view: &ReadView, site: SiteId) -> Result<SiteRollups, ReadError> {
    let mut rollups = SiteRollups {
        hosts: series::<table::HostRollups>(view, (site, 0), (site, u64::MAX))?,
        vulnerabilities: series::<table::VulnerabilityRollups>(view, (site, 0), (site, u64::MAX))?,
        ..SiteRollups::default()
    };
    for baseline in baselines(view, site)? {
        let (from, to) = series_of(site, &baseline);
        let series = series::<table::ComplianceRollups>(view, from, to)?;
        rollups.compliance.insert(baseline, series);
    }
    Ok(rollups)
}

/// Deletes all of a removed site's snapshots.
pub(crate) fn delete(batch: &mut Batch, site: SiteId, rollups: &SiteRollups) {
    batch.delete_range::<table::HostRollups>((site, 0)..=(site, u64::MAX));
    batch.delete_range::<table::VulnerabilityRollups>((site, 0)..=(site, u64::MAX));
    for baseline in rollups.compliance.keys() {
        let (from, to) = series_of(site, baseline);
        batch.delete_range::<table::ComplianceRollups>(from..=to);
    }
}

/// The two ends of a baseline's series.
pub(crate) fn series_of(site: SiteId, baseline: &str) -> ((SiteId, Named<u64>), (SiteId, Named<u64>)) {
    ((site, Named::new(baseline, 0)), (site, Named::new(baseline, u64::MAX)))
}

/// The baselines of which a site has snapshots, one step for each.
fn baselines(view: &ReadView, site: SiteId) -> Result<Vec<String>, ReadError> {
    let mut baselines: Vec<String> = Vec::new();
    let mut from = (site, Named::new("", 0));
    let last = (site, Named::new("\u{10ffff}", u64::MAX));
    loop {
        let mut found = None;
        view.visit::<table::ComplianceRollups>(from..=last.clone(), |(_, key), _| {
            found = Some(key.name);
            ControlFlow::Break(())
        })?;
        let Some(baseline) = found else { return Ok(baselines) };
        // Names have no control characters, so this is the first key behind the series.
        from = (site, Named::new(&format!("{baseline}\u{1}"), 0));
        baselines.push(baseline);
    }
}

/// A key within a series: it has the number that the snapshot was given.
pub(crate) trait SeriesKey: KeyCodec + Ord + Clone {
    fn number(&self) -> u64;
}

impl SeriesKey for (SiteId, u64) {
    fn number(&self) -> u64 {
        self.1
    }
}

impl SeriesKey for (SiteId, Named<u64>) {
    fn number(&self) -> u64 {
        self.1.number
    }
}

/// Visits a series' keys and instants; nothing else of the snapshots is decoded.
pub(crate) fn for_each_instant<T: Table>(
    view: &ReadView,
    from: T::Key,
    to: T::Key,
    mut visitor: impl FnMut(T::Key, Timestamp),
) -> Result<(), ReadError> {
    view.visit::<T>(from..=to, |key, body| {
        // Every snapshot begins so, and a record that does not is found by `hansa check`.
        if let Ok(((_, at), _)) = postcard::take_from_bytes::<(RollupId, Timestamp)>(body) {
            visitor(key, at);
        }
        ControlFlow::Continue(())
    })
}

/// Reads one series: of each snapshot its instant, of the latest everything.
fn series<T>(view: &ReadView, from: T::Key, to: T::Key) -> Result<Series<T::Value>, ReadError>
where
    T: Table<Value: Snapshot, Key: SeriesKey>,
{
    let mut found = Vec::new();
    for_each_instant::<T>(view, from, to, |key, at| found.push((at, key)))?;
    found.sort_unstable_by(|(a_at, a), (b_at, b)| (a_at, a.number()).cmp(&(b_at, b.number())));
    let latest = match found.last() {
        Some((_, key)) => view.get::<T>(key)?,
        None => None,
    };
    let kept = found.into_iter().map(|(at, key)| (at, key.number())).collect();
    Ok(Series::stored(kept, latest))
}
