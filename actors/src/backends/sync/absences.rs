//! The last part of a run whose listings were complete: copies that are not listed are counted, and deleted when
//! they are gone for good.

use std::collections::BTreeSet;

use futures_util::StreamExt as _;
use hansa_backends::CallError;
use hansa_model::limits::secrets as limits;
use hansa_model::machine::backend_sync::{self as machine, Gone};
use hansa_model::secrets::change::Change;
use hansa_model::secrets::path::SecretPath;
use hansa_model::secrets::row::{CopyRow, SecretRow};
use hansa_storage::codec::Named;
use hansa_storage::{Batch, CommitError, Lane, table};

use super::super::error::BackendFailure;
use super::super::fetch::{Source, VersionKey};
use super::super::rows::page_below;
use super::Run;
use crate::error::Unavailable;

/// A copy that was absent often enough to be asked for by itself.
struct Missing {
    key: Named<String>,
    path: SecretPath,
    row: SecretRow,
    name: String,
}

impl Run<'_> {
    /// Counts absences, and deletes what is gone.
    pub(super) async fn delete_absent(
        &mut self,
        source: &Source,
        listed: &BTreeSet<SecretPath>,
    ) -> Result<(), BackendFailure> {
        let missing = self.count_absences(listed).await?;
        // Before anybody is asked: a permission that was taken away makes them all look gone.
        if !self.request.confirm_deletions && machine::guards(missing.len() as u64, self.copies) {
            self.guarded = true;
            self.error = Some(format!(
                "the backend lists none of {} of {} copies any more: nothing was deleted, sync with \
                 confirm_deletions if that is right",
                missing.len(),
                self.copies
            ));
            return Ok(());
        }
        let mut asked = futures_util::stream::iter(missing)
            .map(|missing| async move {
                let answer = source.read(&missing.name, &VersionKey::Current).await;
                (missing, answer.map(drop))
            })
            .buffer_unordered(self.width());
        while let Some((missing, answer)) = asked.next().await {
            match answer {
                Err(BackendFailure::Call(CallError::NotFound | CallError::VersionNotFound)) => {
                    self.delete(missing).await?;
                }
                // It is there and only not listed: the listing is behind.
                Ok(()) => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    /// Takes down which copies were listed and which were not; answers those that were not often enough.
    async fn count_absences(
        &mut self,
        listed: &BTreeSet<SecretPath>,
    ) -> Result<Vec<Missing>, BackendFailure> {
        let tenant = self.member.row.tenant.as_str();
        let mut missing = Vec::new();
        let mut copies = 0;
        for prefix in prefixes(self.member.mappings.iter().map(|mapping| mapping.path_prefix())) {
            let mut behind = String::new();
            loop {
                let page = page_below(&self.view()?, tenant, prefix, &behind, limits::PAGE_MAX)?;
                let Some((last, _)) = page.last() else { break };
                behind.clone_from(&last.number);
                let mut counted = Batch::new();
                for (key, row) in page {
                    let Some(copy) = self.own_copy(&row).filter(|_| row.deleted_at.is_none()) else {
                        continue;
                    };
                    copies += 1;
                    let Ok(path) = key.number.parse::<SecretPath>() else { continue };
                    let absent = if listed.contains(&path) { 0 } else { copy.absent.saturating_add(1) };
                    if machine::is_gone(absent) {
                        let name = copy.name.clone();
                        missing.push(Missing { key, path, row, name });
                    } else if absent != copy.absent {
                        let copy = Some(CopyRow { absent, ..copy.clone() });
                        counted.expect::<table::Secrets>(&key, &row);
                        counted.put::<table::Secrets>(&key, &SecretRow { copy, ..row });
                    }
                }
                self.commit(counted).await?;
            }
        }
        self.copies = copies;
        Ok(missing)
    }

    async fn delete(&mut self, missing: Missing) -> Result<(), BackendFailure> {
        let Missing { key, path, row, name } = missing;
        let now = self.backends.context.now();
        let mut batch = Batch::new();
        batch.expect::<table::Secrets>(&key, &row);
        match machine::judge_gone(row.is_edited()) {
            Gone::Delete => {
                batch.audit(self.copied(&path, Change::Deleted, row.current));
                batch.put::<table::Secrets>(&key, &SecretRow { deleted_at: Some(now), ..row });
                if self.commit(batch).await? {
                    self.counts.deleted += 1;
                    self.copies = self.copies.saturating_sub(1);
                }
            }
            Gone::Conflict(kind) => {
                let mut conflict = self.new_conflict(&path, kind, row.current, now);
                conflict.names = vec![name];
                batch.put::<table::SecretConflicts>(&(self.member.row.id, conflict.id), &conflict);
                if self.commit(batch).await? {
                    self.counts.conflicts += 1;
                    self.conflicts.insert(path, conflict);
                }
            }
        }
        Ok(())
    }

    /// Answers whether the rows were still what they were; those that changed meanwhile are looked at in the next
    /// run.
    async fn commit(&self, batch: Batch) -> Result<bool, BackendFailure> {
        if batch.is_empty() {
            return Ok(true);
        }
        match self.backends.context.store_batch(Lane::Ingest, batch).await {
            Ok(_) => Ok(true),
            Err(CommitError::PreconditionFailed { .. }) => Ok(false),
            Err(error) => Err(Unavailable::from(error).into()),
        }
    }
}

/// Prefixes that hold all paths of these, none twice.
fn prefixes<'a>(all: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut sorted: Vec<&str> = all.collect();
    sorted.sort_unstable();
    let mut outer: Vec<&str> = Vec::new();
    for prefix in sorted {
        if !outer.last().is_some_and(|last| prefix.starts_with(last)) {
            outer.push(prefix);
        }
    }
    outer
}

#[cfg(test)]
mod tests {
    use super::prefixes;

    #[test]
    fn nested_prefixes_are_walked_once() {
        for (all, outer) in [
            (vec!["a/b/", "a/", "c/"], vec!["a/", "c/"]),
            (vec!["a/b", "a/b"], vec!["a/b"]),
            (vec!["", "a/"], vec![""]),
            (vec!["a-b/", "a/"], vec!["a-b/", "a/"]),
        ] {
            assert_eq!(prefixes(all.into_iter()), outer);
        }
    }
}
