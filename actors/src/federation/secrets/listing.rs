//! Listing: what is kept here, and what proxied backends list.

use std::sync::Arc;

use hansa_model::limits::secrets as limits;
use hansa_model::secrets::mapping::Mapping;
use hansa_model::secrets::path::SecretPath;
use hansa_model::secrets::policy::{Allowed, Permission};
use hansa_model::secrets::row::Mode;

use super::{Caller, Federation, Listed, Record, SecretCursor, SecretPage, SecretSummary, allowed, ask};
use crate::backends::error::{BackendFailure, SecretError};
use crate::backends::{BackendMessage, Member, Standing, TenantBoard, page_below};

impl Federation {
    /// Lists the secrets below a literal prefix that the caller may see, from a place on: first what is here,
    /// then one backend's mapping after the other, a page of it a call.
    ///
    /// # Errors
    /// See [`SecretError`]. A backend that does not answer is a warning, unless nothing else was asked.
    pub async fn list_secrets(
        &self,
        caller: &Caller,
        prefix: &str,
        cursor: Option<SecretCursor>,
        limit: usize,
    ) -> Result<SecretPage, SecretError> {
        let mut record = Record::new("secret_list", prefix, self.now());
        let page = self.collect(caller, prefix, cursor, limit).await;
        if let Ok(page) = &page {
            record.number("entries", page.entries.len() as u64);
        }
        self.write_down(caller, record, page.as_ref().err()).await?;
        page
    }

    async fn collect(
        &self,
        caller: &Caller,
        prefix: &str,
        cursor: Option<SecretCursor>,
        limit: usize,
    ) -> Result<SecretPage, SecretError> {
        let board = self.tenant_board(caller)?;
        let allowed = allowed(&board, caller);
        if !allowed.may_below(Permission::List, prefix) {
            return Err(SecretError::Denied);
        }
        let proxies: Vec<(Member, Mapping)> = board
            .routes
            .touching(prefix)
            .into_iter()
            .filter_map(|(id, mapping)| {
                Some((self.tree.backends.member(&caller.tenant, id)?, mapping.clone()))
            })
            .filter(|(member, _)| member.row.mode == Mode::Proxy && member.row.enabled)
            .collect();
        let mut page = SecretPage::default();
        let mut asked = 0;
        let mut place = match cursor {
            None => self.collect_here(caller, &board, prefix, String::new(), limit, &mut page)?,
            Some(SecretCursor::Local(after)) => {
                self.collect_here(caller, &board, prefix, after, limit, &mut page)?
            }
            Some(place @ SecretCursor::Backend(..)) => Some(place),
        };
        if place.is_none() {
            place = proxies.first().map(|(member, _)| SecretCursor::Backend(member.row.id, 0, None));
        }
        let answered_here = !page.entries.is_empty() || proxies.is_empty();
        while let Some(SecretCursor::Backend(_, index, token)) = &place {
            let Some((member, mapping)) = proxies.get(*index) else {
                place = None;
                break;
            };
            if page.entries.len() >= limit || asked == limits::LIST_PAGES_MAX {
                break;
            }
            asked += 1;
            let message = |reply| BackendMessage::List {
                prefix: mapping.listing_prefix_below(prefix),
                page: token.clone(),
                reply,
            };
            let next = match ask(member, message).await {
                Ok(listed) => {
                    for entry in listed.entries {
                        take(&board, &allowed, member, mapping, prefix, entry, &mut page.entries);
                    }
                    listed.next
                }
                Err(error) => {
                    page.warnings.push(format!("{}: {error}", member.row.name));
                    None
                }
            };
            place = match next {
                Some(next) => Some(SecretCursor::Backend(member.row.id, *index, Some(next))),
                None => proxies
                    .get(index + 1)
                    .map(|(member, _)| SecretCursor::Backend(member.row.id, index + 1, None)),
            };
        }
        if !answered_here && page.warnings.len() == asked && asked > 0 {
            let backend = proxies.first().map(|(member, _)| member.row.id);
            let backend = backend.ok_or(SecretError::NotFound)?;
            return Err(SecretError::Backend { backend, error: BackendFailure::TimedOut });
        }
        page.next = place;
        Ok(page)
    }

    /// What is kept here, after a path; answers where to go on.
    fn collect_here(
        &self,
        caller: &Caller,
        board: &TenantBoard,
        prefix: &str,
        after: String,
        limit: usize,
        page: &mut SecretPage,
    ) -> Result<Option<SecretCursor>, SecretError> {
        let allowed = allowed(board, caller);
        let now = self.now();
        let view = self.tree.context.store.read()?;
        let published = self.tree.backends.board();
        let tenant = caller.tenant.as_str();
        let mut behind = after;
        // Rows that are not shown cost a look each: bounded, and the cursor goes on behind them.
        for _ in 0..limits::UNSHOWN_PAGES_MAX {
            let rows = page_below(&view, tenant, prefix, &behind, limits::PAGE_DEFAULT)?;
            let Some((last, _)) = rows.last() else { return Ok(None) };
            behind.clone_from(&last.number);
            for (key, row) in rows {
                let Ok(path) = key.number.parse::<SecretPath>() else { continue };
                if !row.is_live(now) || !allowed.may(Permission::List, &path) {
                    continue;
                }
                let backend = match board.routes.route(&path) {
                    Some(route) => {
                        let member = self.tree.backends.member(&caller.tenant, route.backend);
                        match member {
                            Some(member) if member.row.mode == Mode::Sync => Some(member.row.id),
                            // Hidden by a proxied pattern.
                            Some(_) | None => continue,
                        }
                    }
                    None => None,
                };
                if published.standing(tenant, &path, &row) == Standing::Orphan {
                    continue;
                }
                page.entries.push(Listed::Secret(SecretSummary { path, row: Some(Arc::new(row)), backend }));
                if page.entries.len() == limit {
                    return Ok(Some(SecretCursor::Local(key.number)));
                }
            }
        }
        Ok(Some(SecretCursor::Local(behind)))
    }
}

/// Maps one line of a backend's listing back, if the caller may see it.
fn take(
    board: &TenantBoard,
    allowed: &Allowed<'_>,
    member: &Member,
    mapping: &Mapping,
    prefix: &str,
    entry: hansa_backends::Entry,
    entries: &mut Vec<Listed>,
) {
    match entry {
        hansa_backends::Entry::Secret { name, .. } => {
            let Ok(path) = board.routes.path_of(member.row.id, mapping, &name) else { return };
            if path.as_str().starts_with(prefix) && allowed.may(Permission::List, &path) {
                let backend = Some(member.row.id);
                entries.push(Listed::Secret(SecretSummary { path, row: None, backend }));
            }
        }
        hansa_backends::Entry::Folder { name } => {
            let Some(folder) = mapping.folder_of(&name) else { return };
            if folder.starts_with(prefix) && allowed.may_below(Permission::List, &folder) {
                entries.push(Listed::Folder(folder));
            }
        }
    }
}
