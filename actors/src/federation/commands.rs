//! The facade's part about commands (contract B4, B6), and ours beside it: cancel, bulk, outcomes by host.

use std::collections::BTreeMap;

use hansa_model::command::{self, Command, CommandStatus, NewCommand};
use hansa_model::directory::{Filter, InvalidQuery, OrderBy, Query, Start};
use hansa_model::enrollment::Role;
use hansa_model::id::CommandId;
use hansa_model::limits::{command as limits, search};
use hansa_model::machine::command as machine;
use hansa_model::report::CommandReport;
use hansa_model::scope::Operator;
use hansa_model::{HostId, SiteId};
use hansa_storage::{Order, ReadView, table};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;

use super::Federation;
use crate::error::{CancelError, CommandNotFound, DispatchError, IngestError, ReadError, Unavailable};
use crate::roster::Member;
use crate::site::{Dispatch, KeyHash, SiteMessage, of_site};
use crate::view::{
    BulkRow, BulkTarget, CommandFilter, Dispatched, IdempotencyKey, OutcomesView, ReportAnswer,
};

/// Commands read at a time while a list is made.
const PAGE: usize = 256;

impl Federation {
    /// Dispatches a command to one site. Durable on return; it is pushed at once, if the site can be reached.
    ///
    /// # Errors
    /// See [`DispatchError`]; nothing was dispatched.
    pub async fn dispatch_command(
        &self,
        operator: &Operator,
        site: SiteId,
        command: NewCommand,
        key: Option<IdempotencyKey<'_>>,
    ) -> Result<Dispatched, DispatchError> {
        self.require(Role::Coordinator)?;
        let member = self.member(operator, site)?;
        let key = key.map(|key| key_hash(operator, key, None));
        dispatch(member, operator.clone(), Dispatch { command, key }).await
    }

    /// Dispatches one command to each of many sites; `command` names no hosts, `target` does. Each command
    /// stands for itself: the answer says of each site what became of it. A dry run stores nothing.
    ///
    /// # Errors
    /// The call as a whole is refused; nothing was dispatched.
    pub async fn dispatch_bulk(
        &self,
        operator: &Operator,
        target: BulkTarget,
        command: NewCommand,
        key: Option<IdempotencyKey<'_>>,
        dry_run: bool,
    ) -> Result<Vec<BulkRow>, DispatchError> {
        self.require(Role::Coordinator)?;
        let targets = match target {
            BulkTarget::Sites(sites) => sites.into_iter().map(|site| (site, Vec::new())).collect(),
            BulkTarget::Hosts(sites, filter) => self.hosts_by_site(operator, sites.as_deref(), &filter)?,
        };
        let mut rows: BTreeMap<SiteId, BulkRow> = BTreeMap::new();
        let mut under_way = JoinSet::new();
        for (site_id, hosts) in targets {
            let member = self.member(operator, site_id);
            let site_name = member.as_ref().ok().map(|member| member.view().site.name.to_string());
            let row = BulkRow { site_id, site_name, host_count: hosts.len(), outcome: Ok(None) };
            let command = NewCommand { target_host_ids: hosts, ..command.clone() };
            let outcome = match member {
                Err(missing) => Err(missing.into()),
                Ok(member) if dry_run => self.rehearse(operator, &member, command).map(|()| None),
                Ok(member) => {
                    let key = key.map(|key| key_hash(operator, key, Some(site_id)));
                    let operator = operator.clone();
                    under_way.spawn(async move {
                        (site_id, dispatch(member, operator, Dispatch { command, key }).await)
                    });
                    Ok(None)
                }
            };
            rows.insert(site_id, BulkRow { outcome, ..row });
        }
        while let Some(joined) = under_way.join_next().await {
            // A task that panics takes its row's answer along: the site's actor may have stored it or not.
            let Ok((site_id, outcome)) = joined else {
                return Err(Unavailable::Busy { part: "site" }.into());
            };
            if let Some(row) = rows.get_mut(&site_id) {
                row.outcome = outcome.map(Some);
            }
        }
        Ok(rows.into_values().collect())
    }

    /// Whether a site would take a command now. Only how many it has open is not looked at.
    fn rehearse(
        &self,
        operator: &Operator,
        member: &Member,
        command: NewCommand,
    ) -> Result<(), DispatchError> {
        let context = &self.tree.context;
        let (now, view) = (context.now(), member.view());
        let id = command::new_id(now, &*context.entropy);
        let reported = view.sync.sysmanage_version.as_deref();
        machine::dispatch(id, now, &view.site, reported, 0, command, &operator.userid)?;
        Ok(())
    }

    /// The hosts that a search finds, by site.
    fn hosts_by_site(
        &self,
        operator: &Operator,
        sites: Option<&[SiteId]>,
        filter: &Filter,
    ) -> Result<BTreeMap<SiteId, Vec<HostId>>, DispatchError> {
        let page = |start| -> Result<Query, InvalidQuery> {
            Query::new(filter.clone(), OrderBy::SiteId, search::LIMIT_MAX, start)
        };
        let mut found: BTreeMap<SiteId, Vec<HostId>> = BTreeMap::new();
        let mut start = Start::Offset(0);
        loop {
            // The filter was read by the rules of a search, so it is a query.
            let Ok(query) = page(start) else { return Ok(found) };
            let answer = self.search_hosts(operator, sites, &query);
            if answer.total > limits::BULK_HOSTS_MAX as u64 {
                return Err(DispatchError::TooManyHosts { found: answer.total, max: limits::BULK_HOSTS_MAX });
            }
            for (site, host) in answer.rows {
                found.entry(site).or_default().push(host.host_id);
            }
            match answer.next {
                Some(cursor) => start = Start::After(cursor),
                None => return Ok(found),
            }
        }
    }

    /// Asks a site to stop a command, or takes it back before it was sent. Durable on return; a repeat changes
    /// nothing.
    ///
    /// # Errors
    /// See [`CancelError`].
    pub async fn cancel_command(&self, operator: &Operator, id: CommandId) -> Result<Command, CancelError> {
        self.require(Role::Coordinator)?;
        let view = self.tree.context.store.read().map_err(|_| Unavailable::Storage)?;
        let site = self.visible(&view, operator, id).map_err(|error| match error {
            ReadError::CommandNotFound(missing) => CancelError::NotFound(missing),
            ReadError::Unavailable(unavailable) => CancelError::Unavailable(unavailable),
            ReadError::SiteNotFound(_) | ReadError::HostNotFound(_) => CommandNotFound(id).into(),
        })?;
        drop(view);
        let member = self.member(operator, site.target_site_id).map_err(|_| CommandNotFound(id))?;
        let operator = Box::new(operator.clone());
        member.actor.call(|reply| SiteMessage::CancelCommand { command: id, operator, reply }).await?
    }

    /// One command.
    ///
    /// # Errors
    /// See [`ReadError`]; one of a site that the operator may not see is not found.
    pub fn command(&self, operator: &Operator, id: CommandId) -> Result<Command, ReadError> {
        self.visible(&self.command_view()?, operator, id)
    }

    /// The commands of the sites that the operator may see, newest first.
    ///
    /// # Errors
    /// The store did not answer.
    pub fn commands(&self, operator: &Operator, filter: &CommandFilter) -> Result<Vec<Command>, ReadError> {
        let view = self.command_view()?;
        let sees = |site| operator.sees(site) && filter.site.is_none_or(|wanted| wanted == site);
        let fits = |status: CommandStatus| {
            filter.status.is_none_or(|wanted| wanted == status) && (!filter.open_only || status.is_open())
        };
        let commands = if filter.open_only || filter.status.is_some_and(CommandStatus::is_open) {
            open_commands(&view, filter, sees, fits)
        } else if let Some(site) = filter.site.filter(|site| operator.sees(*site)) {
            commands_of_site(&view, filter, site, fits)
        } else if filter.site.is_some() {
            Ok(Vec::new())
        } else {
            all_commands(&view, filter, sees, fits)
        };
        commands.map_err(|_| Unavailable::Storage.into())
    }

    /// What a command did at its hosts, in the order of their ids; `success` narrows it.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn command_outcomes(
        &self,
        operator: &Operator,
        id: CommandId,
        success: Option<bool>,
        limit: usize,
        offset: usize,
    ) -> Result<OutcomesView, ReadError> {
        let view = self.command_view()?;
        let command = self.visible(&view, operator, id)?;
        let (mut outcomes, mut total) = (Vec::new(), 0);
        let chunks = view.all::<table::CommandOutcomes>((id, 0)..=(id, u32::MAX));
        for (_, chunk) in chunks.map_err(|_| Unavailable::Storage)? {
            for outcome in chunk.into_iter().filter(|outcome| success.is_none_or(|s| s == outcome.success)) {
                total += 1;
                if total > offset && outcomes.len() < limit {
                    outcomes.push(outcome);
                }
            }
        }
        Ok(OutcomesView { command, outcomes, total })
    }

    /// Takes documented results of commands. Durable on return; each has its own answer.
    ///
    /// # Errors
    /// See [`IngestError`].
    pub async fn ingest_command_results(
        &self,
        site: SiteId,
        reports: Vec<CommandReport>,
    ) -> Result<Vec<ReportAnswer>, IngestError> {
        let member = self.ingesting(site)?;
        member.actor.call(|reply| SiteMessage::CommandResults { reports, reply }).await?
    }

    fn visible(&self, view: &ReadView, operator: &Operator, id: CommandId) -> Result<Command, ReadError> {
        let command = view.get::<table::Commands>(&id).map_err(|_| Unavailable::Storage)?;
        let command = command.filter(|command| operator.sees(command.target_site_id));
        Ok(command.ok_or(CommandNotFound(id))?)
    }

    fn command_view(&self) -> Result<ReadView, Unavailable> {
        self.tree.context.store.read().map_err(|_| Unavailable::Storage)
    }
}

async fn dispatch(
    member: Member,
    operator: Operator,
    dispatch: Dispatch,
) -> Result<Dispatched, DispatchError> {
    let (dispatch, operator) = (Box::new(dispatch), Box::new(operator));
    member.actor.call(|reply| SiteMessage::Dispatch { dispatch, operator, reply }).await?
}

/// A key is an operator's own; in a bulk dispatch each site has one.
fn key_hash(operator: &Operator, key: IdempotencyKey<'_>, site: Option<SiteId>) -> KeyHash {
    let mut hash = Sha256::new();
    for part in [operator.userid.as_bytes(), key.key.as_bytes()] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    if let Some(site) = site {
        hash.update(site.as_bytes());
    }
    KeyHash { key: hash.finalize().into(), body: Sha256::digest(key.body).into() }
}

type Listed = Result<Vec<Command>, hansa_storage::ReadError>;

/// Open commands are few: their index is read whole, newest first.
fn open_commands(
    view: &ReadView,
    filter: &CommandFilter,
    sees: impl Fn(SiteId) -> bool,
    fits: impl Fn(CommandStatus) -> bool,
) -> Listed {
    let mut ids = Vec::new();
    let mut collect = |(site, id), _: &[u8]| {
        if sees(site) {
            ids.push(id);
        }
        std::ops::ControlFlow::Continue(())
    };
    match filter.site {
        Some(site) => view.visit::<table::OpenCommands>(of_site(site), &mut collect)?,
        None => view.visit::<table::OpenCommands>(.., &mut collect)?,
    }
    ids.sort_unstable_by(|a: &CommandId, b| b.cmp(a));
    let mut page = Page::new(filter);
    for id in ids {
        let command = view.get::<table::Commands>(&id)?;
        if let Some(command) = command.filter(|command| fits(command.status))
            && page.take(command)
        {
            break;
        }
    }
    Ok(page.rows)
}

/// The index of one site tells each status without reading the command.
fn commands_of_site(
    view: &ReadView,
    filter: &CommandFilter,
    site: SiteId,
    fits: impl Fn(CommandStatus) -> bool,
) -> Listed {
    let mut page = Page::new(filter);
    let (first, mut last) = of_site(site).into_inner();
    loop {
        let index = view.page::<table::SiteCommands>(first..last, Order::Descending, PAGE)?;
        let full = index.len() == PAGE;
        for (key, status) in index {
            last = key;
            if !fits(status) || page.pass() {
                continue;
            }
            if let Some(command) = view.get::<table::Commands>(&key.1)?
                && page.push(command)
            {
                return Ok(page.rows);
            }
        }
        if !full {
            return Ok(page.rows);
        }
    }
}

fn all_commands(
    view: &ReadView,
    filter: &CommandFilter,
    sees: impl Fn(SiteId) -> bool,
    fits: impl Fn(CommandStatus) -> bool,
) -> Listed {
    let mut page = Page::new(filter);
    let mut last = CommandId(uuid::Uuid::max());
    loop {
        let rows = view.page::<table::Commands>(..last, Order::Descending, PAGE.min(filter.limit.max(16)))?;
        let Some((oldest, _)) = rows.last() else { return Ok(page.rows) };
        last = *oldest;
        for (_, command) in rows {
            if sees(command.target_site_id) && fits(command.status) && page.take(command) {
                return Ok(page.rows);
            }
        }
    }
}

/// A page that fills up: what lies before its offset is passed over.
struct Page {
    rows: Vec<Command>,
    passed: usize,
    offset: usize,
    limit: usize,
}

impl Page {
    const fn new(filter: &CommandFilter) -> Self {
        Self { rows: Vec::new(), passed: 0, offset: filter.offset, limit: filter.limit }
    }

    /// Whether the next row lies before the page.
    const fn pass(&mut self) -> bool {
        let before = self.passed < self.offset;
        if before {
            self.passed += 1;
        }
        before
    }

    /// Adds a row; whether the page is full then.
    fn push(&mut self, command: Command) -> bool {
        self.rows.push(command);
        self.rows.len() >= self.limit
    }

    fn take(&mut self, command: Command) -> bool {
        !self.pass() && self.push(command)
    }
}
