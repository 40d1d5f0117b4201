//! The second part of a run: values are fetched, and stored as what they mean beside what is here.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use hansa_backends::{CallError, Found};
use hansa_model::Timestamp;
use hansa_model::machine::backend_sync::{self as machine, Fingerprint, Judgement, Local};
use hansa_model::secrets::change::Change;
use hansa_model::secrets::id::ConflictId;
use hansa_model::secrets::path::SecretPath;
use hansa_model::secrets::row::{Conflict, ConflictKind, CopyRow, SecretRow, SyncCounts};
use hansa_storage::codec::Named;
use hansa_storage::{Batch, CommitError, Lane, ReadView, table};

use super::super::Standing;
use super::super::error::BackendFailure;
use super::super::fetch::{Source, VersionKey};
use super::super::rows::{add_version, forget_versions, new_row, type_of, value_key};
use super::{IDENTITY, Run, Wanted};
use crate::error::Unavailable;

/// How often one value is judged again because its local side changed under it.
const STORE_TRIES: usize = 3;
/// Values read by one call where the backend can: what AWS takes at most.
const CHUNK: usize = 20;

/// A name and what fetching it gave.
type Answer = (Wanted, Result<Found, BackendFailure>);

/// What storing one value came to.
enum Stored {
    /// It is what was here already.
    Same,
    /// Written here after the value was asked for, perhaps through to the backend: the next run looks at it.
    Newer,
    Created,
    Updated,
    Conflict(Box<Conflict>),
}

/// What a run's values came to, before the run takes it down.
#[derive(Default)]
struct Tally {
    counts: SyncCounts,
    opened: Vec<Conflict>,
    closed: Vec<SecretPath>,
    error: Option<String>,
}

impl Tally {
    fn fetched(&mut self, path: SecretPath, stored: Result<Stored, Unavailable>) {
        self.counts.fetched += 1;
        match stored {
            Ok(Stored::Same) => self.closed.push(path),
            Ok(Stored::Newer) => {}
            Ok(Stored::Created) => {
                self.counts.created += 1;
                self.closed.push(path);
            }
            Ok(Stored::Updated) => {
                self.counts.updated += 1;
                self.closed.push(path);
            }
            Ok(Stored::Conflict(conflict)) => {
                self.counts.conflicts += 1;
                self.opened.push(*conflict);
            }
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&mut self, error: &impl ToString) {
        self.counts.failed += 1;
        self.error = Some(error.to_string());
    }
}

impl Run<'_> {
    /// Fetches and stores values, a bounded number at a time. Failures are counted, not fatal.
    pub(super) async fn fetch(&mut self, source: &Source, wanted: Vec<Wanted>) {
        let tally = self.fetch_all(source, wanted).await;
        self.counts.fetched += tally.counts.fetched;
        self.counts.created += tally.counts.created;
        self.counts.updated += tally.counts.updated;
        self.counts.conflicts += tally.counts.conflicts;
        self.counts.failed += tally.counts.failed;
        self.copies += tally.counts.created;
        for path in &tally.closed {
            self.conflicts.remove(path);
        }
        self.conflicts.extend(tally.opened.into_iter().map(|conflict| (conflict.path.clone(), conflict)));
        self.error = tally.error.or_else(|| self.error.take());
    }

    /// What one call brought is stored while others fetch, and together: batches that wait together share a
    /// sync of the disk.
    async fn fetch_all(&self, source: &Source, wanted: Vec<Wanted>) -> Tally {
        let width = self.width();
        let mut chunks = futures_util::stream::iter(chunks(wanted))
            .map(async |chunk| {
                let answers = fetch_chunk(source, chunk, width).await;
                join_all(answers.into_iter().map(async |(wanted, found)| match found {
                    Ok(found) => {
                        let stored = self.store(&wanted, &found).await;
                        Ok((wanted.path, stored))
                    }
                    Err(failure) => Err(failure),
                }))
                .await
            })
            .buffer_unordered(width);
        let mut tally = Tally::default();
        while let Some(chunk) = chunks.next().await {
            for value in chunk {
                match value {
                    Ok((path, stored)) => tally.fetched(path, stored),
                    // Gone since it was listed: the next run sees that it is not listed any more.
                    Err(BackendFailure::Call(CallError::NotFound | CallError::VersionNotFound)) => {}
                    Err(failure) => tally.failed(&failure),
                }
            }
        }
        tally
    }

    /// Stores one fetched value. A change of its row between reading and committing is seen by the precondition;
    /// then the value is judged again.
    async fn store(&self, wanted: &Wanted, found: &Found) -> Result<Stored, Unavailable> {
        for _ in 0..STORE_TRIES {
            if let Some(stored) = self.try_store(wanted, found).await? {
                return Ok(stored);
            }
        }
        Err(Unavailable::Busy { part: "the secret, which changes all the time" })
    }

    /// None when the row was not the one any more that the value was judged beside.
    async fn try_store(&self, wanted: &Wanted, found: &Found) -> Result<Option<Stored>, Unavailable> {
        let context = Arc::clone(&self.backends.context);
        let now = context.now();
        let secret = &found.secret;
        let (data, unfolded) = secret.value.unfold();
        let key = self.key(&wanted.path);
        let view = self.view()?;
        let old = view.get::<table::Secrets>(&key)?;
        if old.as_ref().map_or(0, |old| old.current) != wanted.version {
            return Ok(Some(Stored::Newer));
        }
        let remote = view.fingerprint(&key.name, data.expose().as_bytes());
        let local = old.as_ref().map(|row| self.local(&view, &key, &wanted.path, row)).transpose()?;
        drop(view);
        let mut batch = Batch::new();
        match &old {
            Some(old) => batch.expect::<table::Secrets>(&key, old),
            None => batch.expect_absent::<table::Secrets>(&key),
        };
        let mut row = old.clone().unwrap_or_else(|| new_row(now));
        let mut stored = Stored::Same;
        match machine::judge_value(local.as_ref().map(|(local, _)| local), &remote) {
            Judgement::NewVersion => {
                let fresh = local.as_ref().is_none_or(|(local, _)| local.deleted);
                if matches!(local, Some((_, Standing::Orphan))) {
                    forget_versions(&mut batch, &key, &mut row);
                }
                row.deleted_at = None;
                row.secret_type = type_of(unfolded);
                add_version(&mut batch, &key, &mut row, &data, now, IDENTITY, secret.backend_version.clone());
                stored = if fresh { Stored::Created } else { Stored::Updated };
                batch.audit(self.copied(&wanted.path, Change::stored(fresh), row.current));
            }
            Judgement::Same => {}
            Judgement::Conflict(kind) => {
                let local = local.and_then(|(local, _)| local.current);
                let conflict = self.conflict(wanted, kind, row.current, found, local, remote, now);
                stored = Stored::Conflict(Box::new(conflict));
            }
        }
        let open = self.conflicts.get(&wanted.path);
        if let Stored::Conflict(found) = &stored {
            batch.put::<table::SecretConflicts>(&(self.member.row.id, found.id), found);
        } else {
            if let Some(open) = open {
                batch.delete::<table::SecretConflicts>(&(self.member.row.id, open.id));
            }
            row.expires_at = secret.expires_at;
            row.copy = Some(CopyRow {
                backend: self.member.row.id,
                name: wanted.name.clone(),
                mark: secret.mark.clone().or_else(|| wanted.mark.clone()),
                common: row.current,
                seen_at: now,
                absent: 0,
            });
            // A store without marks is fetched whole in each run: what has not changed costs no commit.
            if open.is_none() && old.as_ref().is_some_and(|old| differs_only_in_time(old, &row)) {
                return Ok(Some(Stored::Same));
            }
            batch.put::<table::Secrets>(&key, &row);
        }
        match context.store_batch(Lane::Ingest, batch).await {
            Ok(_) => Ok(Some(stored)),
            Err(CommitError::PreconditionFailed { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What is here, as the judgement wants to see it.
    fn local(
        &self,
        view: &ReadView,
        key: &Named<String>,
        path: &SecretPath,
        row: &SecretRow,
    ) -> Result<(Local, Standing), Unavailable> {
        let print = |number: u64| -> Result<Option<Fingerprint>, Unavailable> {
            let value = view.get_sealed::<table::SecretValues>(&value_key(key, number))?;
            Ok(value.map(|value| view.fingerprint(&key.name, value.expose())))
        };
        let standing = self.backends.board().standing(&key.name, path, row);
        let copy = self.own_copy(row);
        let current = print(row.current)?;
        let common = match copy {
            Some(copy) if copy.common == row.current => current,
            Some(copy) => print(copy.common)?,
            None => None,
        };
        let local = Local {
            current,
            common,
            is_copy: copy.is_some(),
            edited: copy.is_some() && row.is_edited(),
            // The copy of a backend that the path led to before serves nothing either.
            deleted: row.deleted_at.is_some() || standing == Standing::Orphan,
        };
        Ok((local, standing))
    }

    #[expect(clippy::too_many_arguments, reason = "all that a conflict shows of both sides")]
    fn conflict(
        &self,
        wanted: &Wanted,
        kind: ConflictKind,
        local_version: u64,
        found: &Found,
        local: Option<Fingerprint>,
        remote: Fingerprint,
        now: Timestamp,
    ) -> Conflict {
        let secret = &found.secret;
        let open = self.conflicts.get(&wanted.path);
        let mark = secret.mark.clone().or_else(|| wanted.mark.clone());
        Conflict {
            names: vec![wanted.name.clone()],
            local_fingerprint: local.map(hex).unwrap_or_default(),
            kept_local: open.is_some_and(|open| open.kept_local && open.remote_mark == mark),
            remote_mark: mark,
            remote_version: secret.backend_version.clone(),
            remote_updated_at: secret.updated_at.or(secret.created_at),
            remote_fingerprint: hex(remote),
            ..self.new_conflict(&wanted.path, kind, local_version, now)
        }
    }

    /// A conflict without a remote side. One that is open already goes on under its id.
    pub(super) fn new_conflict(
        &self,
        path: &SecretPath,
        kind: ConflictKind,
        local_version: u64,
        now: Timestamp,
    ) -> Conflict {
        let open = self.conflicts.get(path);
        Conflict {
            id: open
                .map_or_else(|| ConflictId::generate(now, &*self.backends.context.entropy), |open| open.id),
            path: path.clone(),
            names: Vec::new(),
            kind,
            local_version,
            local_fingerprint: String::new(),
            remote_mark: None,
            remote_version: None,
            remote_updated_at: None,
            remote_fingerprint: String::new(),
            detected_at: open.map_or(now, |open| open.detected_at),
            last_seen_at: now,
            kept_local: open.is_some_and(|open| open.kept_local && open.remote_mark.is_none()),
        }
    }
}

fn differs_only_in_time(old: &SecretRow, new: &SecretRow) -> bool {
    let seen = |row: &SecretRow| row.copy.as_ref().map(|copy| copy.seen_at);
    let Some(before) = seen(old) else { return false };
    let mut new = new.clone();
    if let Some(copy) = &mut new.copy {
        copy.seen_at = before;
    }
    new == *old
}

fn chunks(wanted: Vec<Wanted>) -> Vec<Vec<Wanted>> {
    let mut wanted = wanted.into_iter().peekable();
    let mut chunks = Vec::new();
    while wanted.peek().is_some() {
        chunks.push(wanted.by_ref().take(CHUNK).collect());
    }
    chunks
}

/// Reads some values: together where the backend can, the others one by one, some at a time.
async fn fetch_chunk(source: &Source, chunk: Vec<Wanted>, width: usize) -> Vec<Answer> {
    let names: Vec<String> = chunk.iter().map(|wanted| wanted.name.clone()).collect();
    let together = source.retrying(|| source.driver.read_many(&names)).await;
    let mut together: BTreeMap<String, _> = together.unwrap_or_default().into_iter().collect();
    let mut answers = Vec::with_capacity(chunk.len());
    let mut alone = Vec::new();
    for wanted in chunk {
        match together.remove(&wanted.name) {
            Some(Ok(found)) => answers.push((wanted, Ok(found))),
            Some(Err(error)) if !error.is_transient() => answers.push((wanted, Err(error.into()))),
            Some(Err(_)) | None => alone.push(wanted),
        }
    }
    let mut alone = futures_util::stream::iter(alone)
        .map(|wanted| async move {
            let answer = source.read(&wanted.name, &VersionKey::Current).await;
            (wanted, answer.map(|fetched| fetched.found))
        })
        .buffer_unordered(width);
    while let Some(answer) = alone.next().await {
        answers.push(answer);
    }
    drop(alone);
    answers
}

fn hex(print: Fingerprint) -> String {
    hansa_model::secret::hex(&print)
}
