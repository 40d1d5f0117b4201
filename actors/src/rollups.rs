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
        hosts: series::<table::HostRollups, _>(view, (site, 0), (site, u64::MAX), |(_, number)| number)?,
        vulnerabilities: series::<table::VulnerabilityRollups, _>(
            view,
            (site, 0),
            (site, u64::MAX),
            |(_, number)| number,
        )?,
        ..SiteRollups::default()
    };
    for baseline in baselines(view, site)? {
        let (from, to) = series_of(site, &baseline);
        let series = series::<table::ComplianceRollups, _>(view, from, to, |(_, key)| key.number)?;
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

/// Reads one series: of each snapshot only its instant, of the latest everything.
fn series<T, N>(view: &ReadView, from: T::Key, to: T::Key, number: N) -> Result<Series<T::Value>, ReadError>
where
    T: Table<Value: Snapshot, Key: KeyCodec + Clone>,
    N: Fn(T::Key) -> u64,
{
    let mut kept = Vec::new();
    let mut keys = Vec::new();
    view.visit::<T>(from..=to, |key, body| {
        // Every snapshot begins so, and a record that does not is found by `hansa check`.
        if let Ok(((_, at), _)) = postcard::take_from_bytes::<(RollupId, Timestamp)>(body) {
            kept.push((at, number(key.clone())));
            keys.push(key);
        }
        ControlFlow::Continue(())
    })?;
    let series = Series::stored(kept);
    let latest = match series.latest_number() {
        Some(latest) => match keys.into_iter().find(|key| number(key.clone()) == latest) {
            Some(key) => view.get::<T>(&key)?,
            None => None,
        },
        None => None,
    };
    Ok(series.with_latest(latest))
}
