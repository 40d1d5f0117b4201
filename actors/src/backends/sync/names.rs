//! The first part of a run: what the backend lists, and which of it is to be fetched.

use futures_util::StreamExt as _;
use hansa_backends::{CallError, Entry};
use hansa_model::limits::secrets as limits;
use hansa_model::machine::backend_sync::{self as machine, Plan};
use hansa_model::secrets::mapping::{Mapping, NoPath};
use hansa_model::secrets::path::SecretPath;
use hansa_storage::{ReadView, table};

use super::super::error::BackendFailure;
use super::super::fetch::Source;
use super::{Listed, Run, Wanted};

/// What is known of a name before it is fetched.
enum Choice {
    Fetch,
    Skip,
    /// There is something to compare it with, and the listing told no mark.
    AskForMark,
}

impl Run<'_> {
    /// Lists one mapping's names, all pages and folders, and chooses what to fetch.
    pub(super) async fn list(
        &mut self,
        source: &Source,
        mapping: &Mapping,
        listed: &mut Listed,
    ) -> Result<(), BackendFailure> {
        // A name that no listing shows is asked for by itself.
        if let Some(name) = mapping.unlisted_name()
            && let Ok(path) = self.path_of(mapping, name)
            && listed.paths.insert(path.clone())
        {
            self.counts.listed += 1;
            let alone = vec![Wanted { path, name: name.to_owned(), mark: None, version: 0 }];
            self.choose(source, alone, listed).await?;
        }
        if mapping.is_exact() {
            return Ok(());
        }
        let mut folders = vec![mapping.listing_prefix().to_owned()];
        while let Some(folder) = folders.pop() {
            let mut token: Option<String> = None;
            loop {
                self.count_call(listed)?;
                let page = source.retrying(|| source.driver.list(&folder, token.as_deref())).await?;
                let named = self.take_in(mapping, page.entries, listed, &mut folders)?;
                self.choose(source, named, listed).await?;
                if listed.wanted.len() >= limits::WANTED_MAX {
                    self.fetch(source, std::mem::take(&mut listed.wanted)).await;
                }
                match page.next {
                    Some(next) if token.as_ref() == Some(&next) => {
                        return Err(CallError::BadAnswer { reason: "its listing goes in a circle" }.into());
                    }
                    Some(next) => token = Some(next),
                    None => break,
                }
            }
        }
        Ok(())
    }

    /// A store whose pages or folders never end is one that answers nonsense.
    fn count_call(&self, listed: &mut Listed) -> Result<(), BackendFailure> {
        listed.calls += 1;
        if listed.calls > limits::LISTINGS_MAX || self.counts.listed as usize > limits::NAMES_MAX {
            return Err(CallError::BadAnswer { reason: "it lists too many names" }.into());
        }
        Ok(())
    }

    /// Maps one page's names back. Folders that no path of the mapping can lie in are left out.
    fn take_in(
        &mut self,
        mapping: &Mapping,
        entries: Vec<Entry>,
        listed: &mut Listed,
        folders: &mut Vec<String>,
    ) -> Result<Vec<Wanted>, BackendFailure> {
        let mut named = Vec::new();
        for entry in entries {
            match entry {
                Entry::Folder { name } => {
                    if mapping.folder_of(&name).is_none() {
                        self.counts.skipped += 1;
                    } else if folders.len() < limits::LISTINGS_MAX {
                        folders.push(name);
                    } else {
                        return Err(CallError::BadAnswer { reason: "it lists too many folders" }.into());
                    }
                }
                Entry::Secret { name, mark } => {
                    self.counts.listed += 1;
                    match self.path_of(mapping, &name) {
                        Ok(path) if listed.paths.insert(path.clone()) => {
                            named.push(Wanted { path, name, mark, version: 0 });
                        }
                        // A neighbour that the listing showed as well is nobody's loss.
                        Ok(_) | Err(NoPath::OtherName) => {}
                        Err(_) => self.counts.skipped += 1,
                    }
                }
            }
        }
        Ok(named)
    }

    fn path_of(&self, mapping: &Mapping, name: &str) -> Result<SecretPath, NoPath> {
        let board = self.backends.tenant(&self.member.row.tenant).ok_or(NoPath::OtherMapping)?;
        board.routes.path_of(self.member.row.id, mapping, name)
    }

    /// Keeps those whose value must be fetched. A name whose listing tells no mark costs one call of metadata,
    /// and only if there is a copy to compare it with.
    async fn choose(
        &self,
        source: &Source,
        named: Vec<Wanted>,
        listed: &mut Listed,
    ) -> Result<(), BackendFailure> {
        let view = self.view()?;
        let mut unknown = Vec::new();
        for mut candidate in named {
            match self.choice(&view, &mut candidate)? {
                Choice::Fetch => listed.wanted.push(candidate),
                Choice::Skip => {}
                Choice::AskForMark => unknown.push(candidate),
            }
        }
        drop(view);
        let mut marked = futures_util::stream::iter(unknown)
            .map(|candidate| async move {
                let mark = source.retrying(|| source.driver.mark(&candidate.name)).await;
                (candidate, mark)
            })
            .buffer_unordered(self.width());
        let mut known = Vec::new();
        while let Some((candidate, mark)) = marked.next().await {
            match mark {
                Ok(None) => listed.wanted.push(candidate),
                Ok(mark) => known.push(Wanted { mark, ..candidate }),
                // Gone since it was listed: the next run sees that it is not listed any more.
                Err(BackendFailure::Call(CallError::NotFound | CallError::VersionNotFound)) => {}
                Err(failure) => return Err(failure),
            }
        }
        let view = self.view()?;
        for mut candidate in known {
            if !matches!(self.choice(&view, &mut candidate)?, Choice::Skip) {
                listed.wanted.push(candidate);
            }
        }
        Ok(())
    }

    fn choice(&self, view: &ReadView, candidate: &mut Wanted) -> Result<Choice, BackendFailure> {
        let row = view.get::<table::Secrets>(&self.key(&candidate.path))?;
        candidate.version = row.as_ref().map_or(0, |row| row.current);
        let copy = row.as_ref().and_then(|row| self.own_copy(row));
        let mark = copy.and_then(|copy| copy.mark.as_ref());
        let kept = self.conflicts.get(&candidate.path).is_some_and(|open| open.kept_local);
        Ok(match machine::plan(mark, candidate.mark.as_ref()) {
            Plan::Fetch if (mark.is_some() || kept) && candidate.mark.is_none() => Choice::AskForMark,
            Plan::Fetch if !self.is_left_alone(candidate) => Choice::Fetch,
            Plan::Fetch | Plan::Skip => Choice::Skip,
        })
    }

    /// Whether somebody chose the local value, and the backend's has not changed since.
    fn is_left_alone(&self, candidate: &Wanted) -> bool {
        let open = self.conflicts.get(&candidate.path);
        open.is_some_and(|open| {
            open.kept_local && open.remote_mark.is_some() && open.remote_mark == candidate.mark
        })
    }
}
