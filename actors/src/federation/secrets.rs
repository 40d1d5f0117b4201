//! The facade's part about secrets: read, written, listed, deleted; here, proxied, or as copies.
//!
//! Every way ends in the audit log before an answer leaves: a value whose reading cannot be written down is
//! not given.

use std::sync::Arc;
use std::time::Duration;

use hansa_model::audit::{AuditDraft, Detail};
use hansa_model::limits::secrets as limits;
use hansa_model::scope::Operator;
use hansa_model::secrets::backend::BackendKind;
use hansa_model::secrets::id::{BackendId, TenantId};
use hansa_model::secrets::mapping::Mapping;
use hansa_model::secrets::path::{InvalidPath, SecretPath};
use hansa_model::secrets::policy::{Allowed, Permission};
use hansa_model::secrets::routes::Explanation;
use hansa_model::secrets::row::{Mode, SecretRow, SecretType, VersionRow};
use hansa_model::secrets::tenant::{self, Tenant};
use hansa_model::secrets::value::SecretData;
use hansa_model::{Secret, Timestamp};
use hansa_storage::codec::Named;
use hansa_storage::{Batch, CommitError, Lane, Order, ReadError, table};
use tokio::sync::oneshot;

use super::Federation;
use crate::backends::error::{BackendFailure, SecretError, TenantError};
use crate::backends::{
    BackendMessage, Fetched, Member, TenantBoard, VersionKey, WriteThrough, add_version, forget, new_row,
    type_of,
};
use crate::error::Unavailable;

/// Who asks, for whom, and how that request is told from others.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Who.
    pub operator: Arc<Operator>,
    /// Whose secrets.
    pub tenant: TenantId,
    /// As in the answer.
    pub request_id: String,
    /// As the program calls itself.
    pub user_agent: Option<String>,
}

/// Which version of a secret is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionAsked {
    /// The newest.
    Current,
    /// By our number, or the backend's where it counts.
    Number(u64),
    /// By the backend's own name of it.
    Backend(String),
}

/// A secret with its value.
#[derive(Debug, Clone)]
pub struct SecretView {
    /// Where it lies.
    pub path: SecretPath,
    /// What it is.
    pub secret_type: SecretType,
    /// Which version this is.
    pub version: u64,
    /// Its value.
    pub data: SecretData,
    /// What its owner says about it: a JSON object as text.
    pub metadata: String,
    /// When this version was made, where that is known.
    pub created_at: Option<Timestamp>,
    /// When the secret was last changed, where that is known.
    pub updated_at: Option<Timestamp>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// Where it comes from, for backends' secrets.
    pub source: Option<SourceView>,
}

/// Where a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceView {
    /// Whose it is.
    pub backend: BackendId,
    /// Its name there.
    pub name: String,
    /// The backend's own name of the version.
    pub version: Option<String>,
    /// How long ago the backend was last known to hold this; zero for what it has just answered.
    pub age: Duration,
    /// Whether a copy is older than two intervals.
    pub stale: bool,
}

/// A value to store.
#[derive(Debug, Clone)]
pub struct NewValue {
    /// The value.
    pub data: SecretData,
    /// What it is; absent keeps, or is `kv`.
    pub secret_type: Option<SecretType>,
    /// What its owner says about it, a JSON object as text; absent keeps.
    pub metadata: Option<String>,
    /// Versions to keep; absent keeps, or is 10.
    pub max_versions: Option<u32>,
    /// When it ends, from now; absent keeps.
    pub expires_in: Option<Duration>,
    /// The version that must be the newest; zero for none at all.
    pub expected: Option<u64>,
}

/// A secret without its value.
#[derive(Debug, Clone)]
pub struct SecretSummary {
    /// Where it lies.
    pub path: SecretPath,
    /// What is kept of it; none for proxied ones.
    pub row: Option<Arc<SecretRow>>,
    /// Whose it is; none for this node's own.
    pub backend: Option<BackendId>,
}

/// One line of a list.
#[derive(Debug, Clone)]
pub enum Listed {
    /// A secret.
    Secret(SecretSummary),
    /// Something below which there is more; a backend's.
    Folder(String),
}

/// A page of a list.
#[derive(Debug, Clone, Default)]
pub struct SecretPage {
    /// What is there.
    pub entries: Vec<Listed>,
    /// Where the next page begins; none on the last one.
    pub next: Option<SecretCursor>,
    /// What could not be asked.
    pub warnings: Vec<String>,
}

/// A place in a list.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum SecretCursor {
    /// After this path of the node's own.
    Local(String),
    /// A backend's mapping, and its own cursor.
    Backend(BackendId, usize, Option<String>),
}

/// What a request did, on its way to the audit log.
struct Record {
    action: &'static str,
    path: String,
    begun: Timestamp,
    details: Vec<(&'static str, Detail)>,
}

impl Record {
    fn new(action: &'static str, path: &SecretPath, begun: Timestamp) -> Self {
        Self { action, path: path.as_str().to_owned(), begun, details: Vec::new() }
    }

    fn source(&mut self, mode: Mode, backend: BackendId, name: &str) {
        self.details.push(("mode", mode.as_str().into()));
        self.details.push(("backend_id", backend.to_string().as_str().into()));
        self.details.push(("backend_path", name.into()));
    }

    fn number(&mut self, name: &'static str, number: u64) {
        self.details.push((name, Detail::Int(i64::try_from(number).unwrap_or(i64::MAX))));
    }
}

// Whose.
impl Federation {
    /// The tenant that a request is for: named by it, or its token's.
    ///
    /// # Errors
    /// There is none, or the operator may not act for it.
    pub fn tenant_for(&self, operator: &Operator, named: Option<TenantId>) -> Result<TenantId, TenantError> {
        let id = tenant::wanted(operator, named);
        let board = self.tree.backends.tenant(&id).ok_or(TenantError::NotFound)?;
        if tenant::may_act_for(operator, &board.tenant) { Ok(id) } else { Err(TenantError::Denied) }
    }

    /// The tenants that the operator may act for, by id.
    pub fn tenants(&self, operator: &Operator) -> Vec<Tenant> {
        let board = self.tree.backends.board();
        let tenants = board.tenants.values().map(|board| board.tenant.clone());
        tenants.filter(|tenant| tenant::may_act_for(operator, tenant)).collect()
    }

    /// Which mappings a path meets, and what becomes of it.
    ///
    /// # Errors
    /// There is no such tenant any more.
    pub fn explain_path(&self, tenant: &TenantId, path: &SecretPath) -> Result<Explanation, TenantError> {
        Ok(self.board_of(tenant)?.routes.explain(path))
    }

    fn board_of(&self, tenant: &TenantId) -> Result<Arc<TenantBoard>, TenantError> {
        self.tree.backends.tenant(tenant).ok_or(TenantError::NotFound)
    }
}

// Reading.
impl Federation {
    /// Reads a secret. That it was read is on disk on return, and also that it was refused.
    ///
    /// # Errors
    /// See [`SecretError`].
    pub async fn read_secret(
        &self,
        caller: &Caller,
        path: &SecretPath,
        version: VersionAsked,
    ) -> Result<SecretView, SecretError> {
        let mut record = Record::new("secret_read", path, self.now());
        let found = self.find_secret(caller, path, version, &mut record).await;
        if let Ok(view) = &found {
            record.number("version", view.version);
            if view.source.as_ref().is_some_and(|source| source.stale) {
                record.details.push(("stale", Detail::Bool(true)));
            }
        }
        self.write_down(caller, record, found.as_ref().err()).await?;
        found
    }

    async fn find_secret(
        &self,
        caller: &Caller,
        path: &SecretPath,
        version: VersionAsked,
        record: &mut Record,
    ) -> Result<SecretView, SecretError> {
        let board = self.tenant_board(caller)?;
        require(&board, caller, Permission::Read, path)?;
        let Some(route) = board.routes.route(path) else {
            return self.read_here(caller, path, version, None);
        };
        let member = self.member_of(caller, route.backend)?;
        let name = route.name.map_err(|_| SecretError::NotFound)?;
        record.source(member.row.mode, member.row.id, &name);
        if !member.row.enabled {
            return Err(SecretError::Disabled { backend: member.row.id });
        }
        match member.row.mode {
            Mode::Sync => self.read_here(caller, path, version, Some((&member, name))),
            Mode::Proxy => self.read_through(&member, path, name, version, record).await,
        }
    }

    /// Reads what is kept here: a secret of this node, or a backend's copy.
    fn read_here(
        &self,
        caller: &Caller,
        path: &SecretPath,
        version: VersionAsked,
        source: Option<(&Member, String)>,
    ) -> Result<SecretView, SecretError> {
        let now = self.now();
        let view = self.tree.context.store.read().map_err(|_| Unavailable::Storage)?;
        let key = key(caller, path);
        let row = view.get::<table::Secrets>(&key).map_err(|_| Unavailable::Storage)?;
        let row = row.filter(|row| row.is_live(now)).ok_or(SecretError::NotFound)?;
        let wanted = match version {
            VersionAsked::Current => row.current,
            VersionAsked::Number(number) => number,
            VersionAsked::Backend(name) => {
                let named = row.versions.iter().rev().find(|row| row.backend_version.as_ref() == Some(&name));
                named.ok_or(SecretError::VersionNotFound)?.number
            }
        };
        let kept = row.version(wanted).ok_or(SecretError::VersionNotFound)?;
        let value_key = Named::new(&key.name, Named::new(&key.number, wanted));
        let value = view.get_sealed::<table::SecretValues>(&value_key).map_err(|error| match error {
            ReadError::Sealed { .. } => SecretError::Sealed,
            ReadError::Closed
            | ReadError::Unavailable
            | ReadError::SnapshotEnded
            | ReadError::Record { .. }
            | ReadError::Corrupt(_)
            | ReadError::Io(_) => Unavailable::Storage.into(),
        })?;
        let text = value.and_then(|bytes| String::from_utf8(bytes.expose().clone()).ok());
        let data = SecretData::from_canonical(Secret::new(text.ok_or(SecretError::VersionNotFound)?));
        let source = source.map(|(member, name)| copied(member, &row, name, kept, now));
        Ok(SecretView {
            path: path.clone(),
            secret_type: row.secret_type,
            version: wanted,
            data,
            created_at: Some(kept.created_at),
            updated_at: Some(row.updated_at),
            expires_at: row.expires_at,
            metadata: row.metadata,
            source,
        })
    }

    /// Asks the backend. Nothing of the answer is kept.
    async fn read_through(
        &self,
        member: &Member,
        path: &SecretPath,
        name: String,
        version: VersionAsked,
        record: &mut Record,
    ) -> Result<SecretView, SecretError> {
        let asked = remote_version(member.row.kind, version)?;
        let backend = member.row.id;
        let message = |reply| BackendMessage::Read { name: name.clone(), version: asked, reply };
        let fetched = ask(member, message).await.inspect_err(|error| {
            record.details.push(("backend_status", error.to_string().as_str().into()));
        })?;
        let Fetched { found, latency } = &*fetched;
        record.number("backend_status", u64::from(found.status));
        record.number("backend_latency_ms", u64::try_from(latency.as_millis()).unwrap_or(u64::MAX));
        let (data, unfolded) = found.secret.value.unfold();
        let secret = &found.secret;
        Ok(SecretView {
            path: path.clone(),
            secret_type: type_of(unfolded),
            version: secret.version.unwrap_or(1),
            data,
            metadata: "{}".to_owned(),
            created_at: secret.created_at,
            updated_at: secret.updated_at.or(secret.created_at),
            expires_at: secret.expires_at,
            source: Some(SourceView {
                backend,
                name,
                version: secret.backend_version.clone(),
                age: Duration::ZERO,
                stale: false,
            }),
        })
    }

    /// What is known of a secret without its value. For proxied ones the backend is asked whether it is there.
    ///
    /// # Errors
    /// See [`SecretError`].
    pub async fn secret_summary(
        &self,
        caller: &Caller,
        path: &SecretPath,
    ) -> Result<SecretSummary, SecretError> {
        let board = self.tenant_board(caller)?;
        require(&board, caller, Permission::List, path)?;
        let mut backend = None;
        if let Some(route) = board.routes.route(path) {
            let member = self.member_of(caller, route.backend)?;
            let name = route.name.map_err(|_| SecretError::NotFound)?;
            if member.row.mode == Mode::Proxy {
                let message = |reply| BackendMessage::Read { name, version: VersionKey::Current, reply };
                ask(&member, message).await?;
                return Ok(SecretSummary { path: path.clone(), row: None, backend: Some(route.backend) });
            }
            backend = Some(route.backend);
        }
        let view = self.tree.context.store.read().map_err(|_| Unavailable::Storage)?;
        let row = view.get::<table::Secrets>(&key(caller, path)).map_err(|_| Unavailable::Storage)?;
        let row = row.filter(|row| row.is_live(self.now())).ok_or(SecretError::NotFound)?;
        Ok(SecretSummary { path: path.clone(), row: Some(Arc::new(row)), backend })
    }
}

// Writing.
impl Federation {
    /// Stores a new version of a secret. Durable on return, with its audit entry; a refusal is in the log too.
    ///
    /// # Errors
    /// See [`SecretError`]; nothing was changed.
    pub async fn put_secret(
        &self,
        caller: &Caller,
        path: &SecretPath,
        value: NewValue,
    ) -> Result<SecretSummary, SecretError> {
        let mut record = Record::new("secret_write", path, self.now());
        match self.store_secret(caller, path, value, &mut record).await {
            Ok(summary) => Ok(summary),
            Err(error) => {
                self.write_down(caller, record, Some(&error)).await?;
                Err(error)
            }
        }
    }

    async fn store_secret(
        &self,
        caller: &Caller,
        path: &SecretPath,
        value: NewValue,
        record: &mut Record,
    ) -> Result<SecretSummary, SecretError> {
        let board = self.tenant_board(caller)?;
        require(&board, caller, Permission::Write, path)?;
        let Some(route) = board.routes.route(path) else {
            if !path.is_local() {
                return Err(SecretError::Path(InvalidPath::Character));
            }
            return self.store_here(caller, path, value, record).await;
        };
        let member = self.member_of(caller, route.backend)?;
        let name = route.name.map_err(|_| SecretError::NotFound)?;
        record.source(member.row.mode, member.row.id, &name);
        if !member.row.write_through || member.row.mode == Mode::Proxy {
            return Err(SecretError::ReadOnly { backend: member.row.id });
        }
        if !member.row.enabled {
            return Err(SecretError::Disabled { backend: member.row.id });
        }
        let tried = hansa_model::secrets::id::SyncRunId::generate(self.now(), &*self.tree.context.entropy);
        let write = WriteThrough {
            tenant: caller.tenant.clone(),
            path: path.clone(),
            name,
            data: value.data.clone(),
            expected: value.expected,
            token: tried.0.simple().to_string(),
        };
        // The backend first: what it has not taken is not stored here either.
        let written = ask(&member, |reply| BackendMessage::Write { write: write.clone(), reply }).await?;
        let summary = crate::backends::store_written(
            &self.tree.backends,
            &member,
            &write,
            &written,
            &caller.operator.userid,
            |draft| self.entry(caller, record, None, draft),
        );
        summary.await.map(|row| SecretSummary {
            path: path.clone(),
            row: Some(Arc::new(row)),
            backend: Some(member.row.id),
        })
    }

    async fn store_here(
        &self,
        caller: &Caller,
        path: &SecretPath,
        value: NewValue,
        record: &mut Record,
    ) -> Result<SecretSummary, SecretError> {
        let context = &self.tree.context;
        let now = context.now();
        let key = key(caller, path);
        let view = context.store.read().map_err(|_| Unavailable::Storage)?;
        let old = view.get::<table::Secrets>(&key).map_err(|_| Unavailable::Storage)?;
        drop(view);
        if old.as_ref().is_some_and(|old| old.deleted_at.is_some()) {
            return Err(SecretError::Exists);
        }
        if value.expected.is_some_and(|expected| expected != old.as_ref().map_or(0, |old| old.current)) {
            return Err(SecretError::Conflict);
        }
        let mut batch = Batch::new();
        match &old {
            Some(old) => batch.expect::<table::Secrets>(&key, old),
            None => batch.expect_absent::<table::Secrets>(&key),
        };
        let mut row = old.unwrap_or_else(|| new_row(now));
        row.secret_type = value.secret_type.unwrap_or(row.secret_type);
        row.metadata = value.metadata.unwrap_or(row.metadata);
        row.max_versions = value.max_versions.unwrap_or(row.max_versions);
        row.expires_at = value.expires_in.map(|span| now.after(span)).or(row.expires_at);
        add_version(&mut batch, &key, &mut row, &value.data, now, &caller.operator.userid, None);
        record.number("version", row.current);
        batch.put::<table::Secrets>(&key, &row);
        batch.audit(self.entry(caller, record, None, self.tree.context.audit_node(record.action, None, [])));
        commit(self, batch).await?;
        Ok(SecretSummary { path: path.clone(), row: Some(Arc::new(row)), backend: None })
    }

    /// Deletes a secret: its values go when its retention ends, or at once. Durable on return.
    ///
    /// # Errors
    /// See [`SecretError`]; nothing was changed.
    pub async fn delete_secret(
        &self,
        caller: &Caller,
        path: &SecretPath,
        hard: bool,
    ) -> Result<(), SecretError> {
        let mut record = Record::new("secret_delete", path, self.now());
        record.details.push(("hard", Detail::Bool(hard)));
        match self.remove_secret(caller, path, hard, &mut record).await {
            Ok(()) => Ok(()),
            Err(error) => {
                self.write_down(caller, record, Some(&error)).await?;
                Err(error)
            }
        }
    }

    async fn remove_secret(
        &self,
        caller: &Caller,
        path: &SecretPath,
        hard: bool,
        record: &mut Record,
    ) -> Result<(), SecretError> {
        let board = self.tenant_board(caller)?;
        require(&board, caller, Permission::Delete, path)?;
        if let Some(route) = board.routes.route(path) {
            record.source(self.member_of(caller, route.backend)?.row.mode, route.backend, "");
            return Err(SecretError::ReadOnly { backend: route.backend });
        }
        let context = &self.tree.context;
        let now = context.now();
        let key = key(caller, path);
        let view = context.store.read().map_err(|_| Unavailable::Storage)?;
        let old = view.get::<table::Secrets>(&key).map_err(|_| Unavailable::Storage)?;
        drop(view);
        // A deleted one can still be deleted hard.
        let old = old.filter(|row| hard || row.is_live(now)).ok_or(SecretError::NotFound)?;
        let mut batch = Batch::new();
        batch.expect::<table::Secrets>(&key, &old);
        if hard {
            forget(&mut batch, &key);
        } else {
            batch.put::<table::Secrets>(&key, &SecretRow { deleted_at: Some(now), ..old });
        }
        batch.audit(self.entry(caller, record, None, context.audit_node(record.action, None, [])));
        commit(self, batch).await
    }
}

// Listing.
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
        let mut record =
            Record { action: "secret_list", path: prefix.to_owned(), begun: self.now(), details: Vec::new() };
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
        let view = self.tree.context.store.read().map_err(|_| Unavailable::Storage)?;
        let from = if after.is_empty() { prefix.to_owned() } else { format!("{after}\0") };
        let mut from = Named::new(caller.tenant.as_str(), from);
        // Rows that are not shown cost a look each: bounded, and the cursor goes on behind them.
        let mut looked_at = 0;
        loop {
            let rows = view
                .page::<table::Secrets>(from.clone().., Order::Ascending, limits::PAGE_DEFAULT)
                .map_err(|_| Unavailable::Storage)?;
            let Some((last, _)) = rows.last().cloned() else { return Ok(None) };
            for (key, row) in rows {
                if key.name != caller.tenant.as_str() || !key.number.starts_with(prefix) {
                    return Ok(None);
                }
                looked_at += 1;
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
                page.entries.push(Listed::Secret(SecretSummary { path, row: Some(Arc::new(row)), backend }));
                if page.entries.len() == limit {
                    return Ok(Some(SecretCursor::Local(key.number)));
                }
            }
            if looked_at >= 100 * limits::PAGE_DEFAULT {
                return Ok(Some(SecretCursor::Local(last.number)));
            }
            from = Named::new(&last.name, format!("{}\0", last.number));
        }
    }
}

// What they share.
impl Federation {
    fn tenant_board(&self, caller: &Caller) -> Result<Arc<TenantBoard>, SecretError> {
        // A tenant that was removed meanwhile has nothing.
        self.tree.backends.tenant(&caller.tenant).ok_or(SecretError::NotFound)
    }

    fn member_of(&self, caller: &Caller, id: BackendId) -> Result<Member, SecretError> {
        self.tree.backends.member(&caller.tenant, id).ok_or(SecretError::NotFound)
    }

    /// Writes down what a request did or was refused. Durable on return.
    async fn write_down(
        &self,
        caller: &Caller,
        record: Record,
        error: Option<&SecretError>,
    ) -> Result<(), SecretError> {
        let draft = self.tree.context.audit_node(record.action, None, []);
        let mut batch = Batch::new();
        batch.audit(self.entry(caller, &record, error, draft));
        // Nobody watches reads live: there may be thousands a second.
        self.tree.context.store.commit(Lane::Operator, batch).await.map_err(Unavailable::from)?;
        Ok(())
    }

    /// Completes a draft with who asked, for what, and how it went.
    fn entry(
        &self,
        caller: &Caller,
        record: &Record,
        error: Option<&SecretError>,
        mut draft: AuditDraft,
    ) -> AuditDraft {
        draft.actor_userid = Some(caller.operator.userid.clone());
        let millis = self.now().since(record.begun).as_millis();
        let mut put = |name: &str, value: Detail| {
            draft.details.insert(name.to_owned(), value);
        };
        put("tenant", caller.tenant.as_str().into());
        put("secret_path", record.path.as_str().into());
        put("request_id", caller.request_id.as_str().into());
        put("duration_ms", Detail::Int(i64::try_from(millis).unwrap_or(i64::MAX)));
        put("success", Detail::Bool(error.is_none()));
        if let Some(user_agent) = &caller.user_agent {
            put("user_agent", user_agent.as_str().into());
        }
        if let Some(error) = error {
            put("error", error.to_string().as_str().into());
        }
        for (name, value) in &record.details {
            put(name, value.clone());
        }
        draft
    }
}

async fn commit(federation: &Federation, batch: Batch) -> Result<(), SecretError> {
    match federation.tree.context.store_batch(Lane::Operator, batch).await {
        Ok(_) => Ok(()),
        Err(CommitError::PreconditionFailed { .. }) => Err(SecretError::Conflict),
        Err(error) => Err(Unavailable::from(error).into()),
    }
}

fn key(caller: &Caller, path: &SecretPath) -> Named<String> {
    Named::new(caller.tenant.as_str(), path.as_str().to_owned())
}

fn allowed<'a>(board: &'a TenantBoard, caller: &Caller) -> Allowed<'a> {
    Allowed::to(&caller.operator, board.policies.iter().map(|policy| &**policy))
}

fn require(
    board: &TenantBoard,
    caller: &Caller,
    permission: Permission,
    path: &SecretPath,
) -> Result<(), SecretError> {
    if allowed(board, caller).may(permission, path) { Ok(()) } else { Err(SecretError::Denied) }
}

/// Asks a backend's actor something that may take as long as the backend does.
async fn ask<T>(
    member: &Member,
    message: impl FnOnce(oneshot::Sender<Result<T, BackendFailure>>) -> BackendMessage,
) -> Result<T, SecretError> {
    use hansa_backends::CallError;
    let (reply, answer) = oneshot::channel();
    member.actor.tell(message(reply)).await?;
    // The actor and its tasks answer by their own deadlines; one that fails drops the sender.
    let answer = answer.await.map_err(|_| Unavailable::Busy { part: "secret backend" })?;
    answer.map_err(|error| match error {
        BackendFailure::Call(CallError::NotFound | CallError::Name) => SecretError::NotFound,
        BackendFailure::Call(CallError::VersionNotFound) => SecretError::VersionNotFound,
        BackendFailure::Call(CallError::Conflict) => SecretError::Conflict,
        error @ (BackendFailure::Call(
            CallError::Throttled { .. }
            | CallError::Unavailable { .. }
            | CallError::Refused { .. }
            | CallError::BadAnswer { .. }
            | CallError::Address(_),
        )
        | BackendFailure::Open(_)
        | BackendFailure::LoginMissing(_)
        | BackendFailure::Resting { .. }
        | BackendFailure::TimedOut) => SecretError::Backend { backend: member.row.id, error },
    })
}

/// What a version means to a backend: two of them count as we do, the others have one version, the newest.
fn remote_version(kind: BackendKind, version: VersionAsked) -> Result<VersionKey, SecretError> {
    match (kind, version) {
        (_, VersionAsked::Current) => Ok(VersionKey::Current),
        (BackendKind::HashicorpVault | BackendKind::GoogleSecretManager, VersionAsked::Number(number)) => {
            Ok(VersionKey::Number(number))
        }
        (BackendKind::AwsSecretsManager | BackendKind::AzureKeyVault, VersionAsked::Number(1)) => {
            Ok(VersionKey::Current)
        }
        (BackendKind::AwsSecretsManager | BackendKind::AzureKeyVault, VersionAsked::Number(_)) => {
            Err(SecretError::VersionNotFound)
        }
        (_, VersionAsked::Backend(name)) => Ok(VersionKey::Named(name)),
    }
}

/// How old a copy is: since its backend last confirmed it, by a fetch or by a complete run that found it unchanged.
fn copied(member: &Member, row: &SecretRow, name: String, kept: &VersionRow, now: Timestamp) -> SourceView {
    let confirmed = member.published.sync.load().completed.as_ref().map(|run| run.begun_at);
    let seen = row.copy.as_ref().map(|copy| copy.seen_at).max(confirmed).unwrap_or(row.updated_at);
    let age = now.since(seen);
    SourceView {
        backend: member.row.id,
        name,
        version: kept.backend_version.clone(),
        age,
        stale: age > member.interval() * 2,
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
