//! `hansa check`: does every record decode, does every index agree, is the audit chain whole?

mod commands;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use hansa_model::audit::{AuditEntry, BrokenChain, chain};
use hansa_model::{Entropy, Host, Site, SiteId, SiteStatus};

use crate::backup::CACHE_BYTES;
use crate::codec::decode_record;
use crate::disk::Disk;
use crate::error::{OpenError, ReadError, RecordError};
use crate::generation::{self, AuditHead, Trust};
use crate::read::{Order, ReadView};
use crate::schema::{self, Kind, TableInfo};
use crate::seal::{Envelope, RootKey, Sealer};
use crate::table::{
    ApiKeyNames, ApiKeys, Assignments, Audit, EnrollmentTokens, IdentityKeys, InventorySegmentHeads,
    InventorySegments, Policies, PolicyNames, PolicySites, Queue, QueueKeys, Rollouts, SELF, SegmentHead,
    SegmentHeads, Segments, SiteNames, SiteSyncs, Sites, SyncBearers, SyncEvents, Table,
};

/// Problems listed at most; the count is exact beyond it.
const PROBLEMS_LISTED_MAX: usize = 100;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckReport {
    /// Each table, with what it holds.
    pub tables: Vec<TableReport>,
    /// What is wrong, the first hundred.
    pub problems: Vec<Problem>,
    /// How many problems there are in all.
    pub problem_count: u64,
    /// The last audit entry of the verified chain; zero when there is none.
    pub audit_entries: u64,
}

impl CheckReport {
    /// Whether nothing is wrong.
    pub const fn is_sound(&self) -> bool {
        self.problem_count == 0
    }

    fn note(&mut self, table: &'static str, what: impl Into<String>) {
        self.problem_count += 1;
        if self.problems.len() < PROBLEMS_LISTED_MAX {
            self.problems.push(Problem { table, what: what.into() });
        }
    }

    fn require(&mut self, holds: bool, table: &'static str, what: impl FnOnce() -> String) {
        if !holds {
            self.note(table, what());
        }
    }
}

/// Size of one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableReport {
    /// Its name.
    pub name: &'static str,
    /// Records in it.
    pub records: u64,
    /// Bytes of keys and records.
    pub bytes: u64,
}

/// One thing that is wrong. It names ids and numbers, never a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The table it was found in.
    pub table: &'static str,
    /// What it is.
    pub what: String,
}

/// Follows the chain from the first entry to the head that the store noted; names the first bad entry.
///
/// # Errors
/// [`BrokenChain`] with the first number where the log departs from what was written.
pub fn verify_chain(
    entries: impl IntoIterator<Item = AuditEntry>,
    last_number: u64,
    last_hash: &[u8; 32],
) -> Result<(), BrokenChain> {
    let mut link = Link::default();
    for entry in entries {
        link.follow(&entry)?;
    }
    link.ends_at(AuditHead { number: last_number, hash: *last_hash })
}

#[derive(Default)]
struct Link(AuditHead);

impl Link {
    fn follow(&mut self, entry: &AuditEntry) -> Result<(), BrokenChain> {
        let number = self.0.number + 1;
        if entry.number != number {
            return Err(BrokenChain::OutOfPlace { number });
        }
        let draft = postcard::to_stdvec(&entry.draft).map_err(|_| BrokenChain::Changed { number })?;
        if chain(&self.0.hash, number, &draft) != entry.hash {
            return Err(BrokenChain::Changed { number });
        }
        self.0 = AuditHead { number, hash: entry.hash };
        Ok(())
    }

    fn ends_at(&self, head: AuditHead) -> Result<(), BrokenChain> {
        if self.0 == head {
            return Ok(());
        }
        let number = self.0.number.min(head.number) + 1;
        Err(BrokenChain::OutOfPlace { number })
    }
}

/// Checks a store that no node runs on: the checksum of every page, then everything that
/// [`crate::Store::check`] looks at.
///
/// # Errors
/// The store cannot be opened; [`OpenError::Corrupt`] when a page is damaged.
pub fn check_stopped(
    disk: &dyn Disk,
    root_key: &RootKey,
    entropy: Arc<dyn Entropy>,
) -> Result<CheckReport, OpenError> {
    let hold = Arc::from(disk.lock()?);
    let missing = || io::Error::from(io::ErrorKind::NotFound);
    let generation = generation::open(disk, CACHE_BYTES, Trust::Nothing, &hold)?.ok_or_else(missing)?;
    let stored = generation::stored_keys(&generation.database)?;
    let sealer = Sealer::open(root_key, &stored, entropy).map_err(|_| OpenError::WrongRootKey)?;
    Ok(check(&ReadView::new(generation, Arc::new(sealer))?)?)
}

/// Checks everything that one snapshot can tell.
pub(crate) fn check(view: &ReadView) -> Result<CheckReport, ReadError> {
    let mut report = CheckReport::default();
    for table in schema::TABLES {
        check_table(view, table, &mut report)?;
    }
    // What does not decode is told already; the rest could only repeat it.
    if report.is_sound() {
        check_logs(view, &mut report)?;
        check_audit(view, &mut report)?;
        check_sites(view, &mut report)?;
        check_segments(view, &mut report)?;
        check_queue(view, &mut report)?;
        check_api_keys(view, &mut report)?;
        commands::check(view, &mut report)?;
        check_policies(view, &mut report)?;
    }
    Ok(report)
}

/// Counts a table and decodes each of its records.
fn check_table(view: &ReadView, table: &TableInfo, report: &mut CheckReport) -> Result<(), ReadError> {
    let (mut records, mut bytes, mut unreadable) = (0, 0, Vec::new());
    view.walk(table.name, &everything(), Order::Ascending, |key, record| {
        records += 1;
        bytes += (key.len() + record.len()) as u64;
        if let Err(error) = check_record(view, table, key, record) {
            unreadable.push(format!("record {records}: {error}"));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    for what in unreadable {
        report.note(table.name, what);
    }
    report.tables.push(TableReport { name: table.name, records, bytes });
    Ok(())
}

fn check_record(view: &ReadView, table: &TableInfo, key: &[u8], record: &[u8]) -> Result<(), String> {
    match table.kind {
        Kind::Records(decodes) => decodes(key, record).map_err(|error| error.to_string()),
        Kind::Sealed(decodes) => {
            decodes(key, record).map_err(|error| error.to_string())?;
            let (_, envelope) =
                Envelope::from_record(record).ok_or_else(|| RecordError::Malformed.to_string())?;
            let opened = view.sealer().unseal(table.name, key, &envelope);
            opened.map(drop).map_err(|_| "does not open with this root key, at this place".to_owned())
        }
        Kind::Log(_) | Kind::Meta => Ok(()),
    }
}

/// Logs: pieces make records, records decode, numbers stay below what the store noted.
fn check_logs(view: &ReadView, report: &mut CheckReport) -> Result<(), ReadError> {
    let counters = view.counters()?;
    for table in schema::TABLES {
        let Kind::Log(decodes) = table.kind else { continue };
        let last_given = counters.logs.get(table.name).copied().unwrap_or(0);
        let mut last = 0;
        let walked = view.log_records(table.name, 0, |record| {
            last = record.position;
            decodes(record.version, record.body).map(ControlFlow::Continue)
        });
        match walked {
            Err(ReadError::Record { source, .. }) => {
                report.note(table.name, format!("after position {last}: {source}"));
            }
            other => other?,
        }
        report.require(last <= last_given, table.name, || {
            format!("position {last} was never given: the last is {last_given}")
        });
    }
    Ok(())
}

fn check_audit(view: &ReadView, report: &mut CheckReport) -> Result<(), ReadError> {
    let mut link = Link::default();
    let mut broken = None;
    view.walk(Audit::NAME, &everything(), Order::Ascending, |_, record| {
        let entry = decode_record::<Audit>(record)
            .map_err(|source| ReadError::Record { table: Audit::NAME, source })?;
        broken = link.follow(&entry).err();
        Ok(if broken.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    report.audit_entries = link.0.number;
    let outcome = match broken {
        Some(broken) => Err(broken),
        None => link.ends_at(view.counters()?.audit),
    };
    if let Err(broken) = outcome {
        report.note(Audit::NAME, broken.to_string());
    }
    Ok(())
}

fn check_sites(view: &ReadView, report: &mut CheckReport) -> Result<(), ReadError> {
    let sites: BTreeMap<SiteId, Site> = view.all::<Sites>(..)?.into_iter().collect();
    for (id, site) in &sites {
        report.require(*id == site.id, Sites::NAME, || {
            format!("the row under {id} says that it is {}", site.id)
        });
        if site.status == SiteStatus::Removed {
            continue;
        }
        let named = view.get::<SiteNames>(site.name.as_str())?;
        report
            .require(named == Some(*id), SiteNames::NAME, || format!("the name of {id} does not lead to it"));
        if let Some(hash) = site.sync_bearer_hash {
            let found = view.get::<SyncBearers>(&hash)?;
            report.require(found == Some(*id), SyncBearers::NAME, || {
                format!("the bearer of {id} does not lead to it")
            });
        }
        if let Some(pending) = site.enrollment {
            let found = view.get::<EnrollmentTokens>(&pending.token_hash)?;
            report.require(found == Some(*id), EnrollmentTokens::NAME, || {
                format!("the token of {id} does not lead to it")
            });
        }
    }
    check_index::<SiteNames>(view, report, |name, id| {
        sites.get(id).is_some_and(|site| site.name.as_str() == name)
    })?;
    check_index::<SyncBearers>(view, report, |hash, id| {
        sites.get(id).is_some_and(|site| site.sync_bearer_hash.as_ref() == Some(hash))
    })?;
    check_index::<EnrollmentTokens>(view, report, |hash, id| {
        sites.get(id).is_some_and(|site| {
            site.enrollment.is_some_and(|pending| pending.token_hash == *hash)
                || site.completed.is_some_and(|completed| completed.token_hash == *hash)
        })
    })?;
    check_index::<IdentityKeys>(view, report, |key, id| {
        sites.get(id).is_some_and(|site| site.identity_key.as_ref() == Some(key))
    })?;
    check_reports(view, &sites, report)
}

/// An index entry is right when the row it leads to says the same.
fn check_index<T: Table<Value = SiteId>>(
    view: &ReadView,
    report: &mut CheckReport,
    agrees: impl Fn(&T::Key, &SiteId) -> bool,
) -> Result<(), ReadError> {
    for (key, id) in view.all::<T>(..)? {
        report.require(agrees(&key, &id), T::NAME, || {
            format!("an entry leads to {id}, whose row does not agree")
        });
    }
    Ok(())
}

/// What sites reported belongs to sites that exist.
fn check_reports(
    view: &ReadView,
    sites: &BTreeMap<SiteId, Site>,
    report: &mut CheckReport,
) -> Result<(), ReadError> {
    for (id, sync) in view.all::<SiteSyncs>(..)? {
        report.require(sites.contains_key(&id), SiteSyncs::NAME, || format!("{id} has no row"));
        let newest = view.page::<SyncEvents>((id, 0)..=(id, u64::MAX), Order::Descending, 1)?;
        for ((_, number), _) in newest {
            report.require(number < sync.next_event, SyncEvents::NAME, || {
                format!("event {number} of {id} is not below the next number {}", sync.next_event)
            });
        }
    }
    Ok(())
}

fn check_segments(view: &ReadView, report: &mut CheckReport) -> Result<(), ReadError> {
    let heads: BTreeMap<SiteId, SegmentHead> = view.all::<SegmentHeads>(..)?.into_iter().collect();
    let mut found: BTreeMap<SiteId, SegmentHead> = BTreeMap::new();
    view.visit::<Segments>(.., |(site, _), body| {
        let sum = found.entry(site).or_default();
        sum.chunks += 1;
        sum.rows += row_count(body);
        ControlFlow::Continue(())
    })?;
    for (site, sum) in &found {
        let head = heads.get(site).copied().unwrap_or_default();
        report.require((sum.chunks, sum.rows) == (head.chunks, head.rows), SegmentHeads::NAME, || {
            format!("{site} has {} chunks and {} rows, its head says otherwise", sum.chunks, sum.rows)
        });
    }
    for (site, head) in &heads {
        report.require(head.rows == 0 || found.contains_key(site), Segments::NAME, || {
            format!("{site} has no chunks")
        });
    }
    check_inventory_segments(view, report)
}

fn check_inventory_segments(view: &ReadView, report: &mut CheckReport) -> Result<(), ReadError> {
    let head = view.get::<InventorySegmentHeads>(SELF)?.unwrap_or_default();
    let (mut chunks, mut rows) = (0, 0);
    view.visit::<InventorySegments>(.., |_, body| {
        chunks += 1;
        rows += row_count(body);
        ControlFlow::Continue(())
    })?;
    report.require((chunks, rows) == (head.chunks, head.rows), InventorySegmentHeads::NAME, || {
        format!("there are {chunks} chunks and {rows} rows, the head says otherwise")
    });
    Ok(())
}

fn row_count(body: &[u8]) -> u64 {
    postcard::from_bytes::<Vec<Host>>(body).map_or(0, |rows| rows.len() as u64)
}

fn check_queue(view: &ReadView, report: &mut CheckReport) -> Result<(), ReadError> {
    for (order, entry) in view.all::<Queue>(..)? {
        let found = view.get::<QueueKeys>(entry.dedup_key.as_str())?;
        report.require(found == Some(order), QueueKeys::NAME, || {
            format!("the key of entry {order} does not lead to it")
        });
    }
    for (key, order) in view.all::<QueueKeys>(..)? {
        let entry = view.get::<Queue>(&order)?;
        report.require(entry.is_some_and(|entry| entry.dedup_key == key), QueueKeys::NAME, || {
            format!("a key leads to entry {order}, which does not have it")
        });
    }
    Ok(())
}

/// Each key is found by its name, and each name leads to the key that bears it.
fn check_api_keys(view: &ReadView, report: &mut CheckReport) -> Result<(), ReadError> {
    for (hash, key) in view.all::<ApiKeys>(..)? {
        let named = view.get::<ApiKeyNames>(key.name.as_str())?;
        report.require(named == Some(hash), ApiKeyNames::NAME, || {
            format!("the name of {} does not lead to it", key.id)
        });
    }
    for (name, hash) in view.all::<ApiKeyNames>(..)? {
        let bears = view.get::<ApiKeys>(&hash)?.is_some_and(|key| key.name == name);
        report.require(bears, ApiKeyNames::NAME, || "a name leads to no key that bears it".to_owned());
    }
    Ok(())
}

fn check_policies(view: &ReadView, report: &mut CheckReport) -> Result<(), ReadError> {
    let mut policies = BTreeSet::new();
    for (id, policy) in view.all::<Policies>(..)? {
        policies.insert(id);
        let named = view.get::<PolicyNames>(&PolicyNames::key(&policy.policy_type, &policy.name))?;
        report.require(named == Some(id), PolicyNames::NAME, || {
            format!("the name of {id} does not lead to it")
        });
    }
    let names = view.all::<PolicyNames>(..)?.len();
    report.require(names == policies.len(), PolicyNames::NAME, || {
        format!("{names} names for {} policies", policies.len())
    });
    let mut assigned = BTreeSet::new();
    for ((site, policy), _) in view.all::<Assignments>(..)? {
        assigned.insert((policy, site));
        report.require(policies.contains(&policy), Assignments::NAME, || {
            format!("site {site} should hold {policy}, which is not there")
        });
    }
    let indexed: BTreeSet<_> = view.all::<PolicySites>(..)?.into_iter().map(|(key, ())| key).collect();
    report.require(indexed == assigned, PolicySites::NAME, || {
        format!("{} entries for {} assignments, or other ones", indexed.len(), assigned.len())
    });
    for ((policy, rollout), row) in view.all::<Rollouts>(..)? {
        report.require(policies.contains(&policy) && row.id == rollout, Rollouts::NAME, || {
            format!("rollout {rollout} is of no policy")
        });
    }
    Ok(())
}

const fn everything() -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    (Bound::Unbounded, Bound::Unbounded)
}
