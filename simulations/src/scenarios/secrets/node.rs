//! The node and the people around it: those who change the stores, readers, writers, and an operator.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hansa_actors::backends::NewBackend;
use hansa_actors::backends::error::SecretError;
use hansa_actors::error::Unavailable;
use hansa_actors::issuer::Issuers;
use hansa_actors::{Caller, Federation, NewValue, NoConnectors, SecretLogFilter, VersionAsked};
use hansa_model::audit::Detail;
use hansa_model::enrollment::Role;
use hansa_model::secrets::backend::BackendKind;
use hansa_model::secrets::id::{BackendId, TenantId};
use hansa_model::secrets::path::SecretPath;
use hansa_model::secrets::row::Mode;
use hansa_model::secrets::value::SecretData;
use tokio::time::{sleep, timeout};

use super::books::Books;
use super::store::{WorldStores, number};
use crate::dice::Dice;
use crate::scenarios::federation::node;
use crate::world::HostEnv;

const LOGIN: &str = "infra/login";
/// The copied backend; the others are below.
const MIRROR: &str = "mirror";
const THROUGH: &str = "through";
const PROXY: &str = "proxy";
/// Names of each store: too few for the guard against mass deletions.
const NAMES: u64 = 8;
/// Entries of the audit log that are read at a time.
const LOGS_PAGE: usize = 1_000;

pub(super) async fn live(env: HostEnv, books: Books) -> anyhow::Result<()> {
    let stores = Arc::new(WorldStores::new(env.clone(), books.clone()));
    let node = node::start(&env, Role::None, Arc::new(NoConnectors), Issuers::trial(), stores).await?;
    let mut seed = [0; 32];
    env.entropy.fill(&mut seed);
    let mut dice = Dice::from_seed(seed);
    let caller = Caller {
        operator: Arc::new(Federation::local_operator()),
        tenant: TenantId::default_tenant(),
        request_id: "req".to_owned(),
        user_agent: None,
        source_ip: None,
    };
    let people = People { federation: node.federation(), caller, env, books };
    people.prepare().await;
    let mut part = || Dice::from_seed(crate::dice::derive(dice.number(), "people", 0));
    let (gardener, reader, writer, operator) = (part(), part(), part(), part());
    tokio::join!(
        people.garden(gardener),
        people.read(reader),
        people.write(writer),
        people.operate(operator)
    );
    loop {
        people.look().await;
        sleep(Duration::from_secs(1)).await;
    }
}

struct People {
    federation: Federation,
    caller: Caller,
    env: HostEnv,
    books: Books,
}

impl People {
    fn works(&self) -> bool {
        self.env.clock.now() < self.books.work_ends
    }

    fn judge(&self, verdict: Result<(), String>) {
        if let Err(broken) = verdict {
            self.env.observer.violation(&broken);
        }
    }

    /// Makes whatever is missing.
    async fn prepare(&self) {
        loop {
            let login = self.put(LOGIN, "{\"token\":\"t\"}").await;
            let mut made = login.is_ok();
            for name in [MIRROR, THROUGH, PROXY] {
                made &= self.make(name).await;
            }
            if made {
                return;
            }
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// Makes a backend unless there is one; whether it is there now.
    async fn make(&self, name: &str) -> bool {
        if self.find(name).is_some() {
            return true;
        }
        if name == MIRROR {
            self.books.open().removed = false;
        }
        let new = NewBackend {
            name: name.to_owned(),
            kind: BackendKind::HashicorpVault,
            config: format!(
                "{{\"endpoint\":\"https://{name}.example\",\"auth_method\":\"token\",\"auth_config_path\":\"{LOGIN}\"}}"
            ),
            path_mapping: BTreeMap::from([(format!("external/{name}/**"), format!("secret/data/{name}/**"))]),
            mode: if name == PROXY { Mode::Proxy } else { Mode::Sync },
            sync_interval: (name != PROXY).then(|| "1m".to_owned()),
            write_through: name == THROUGH,
            enabled: true,
        };
        let made = self.federation.create_backend(&self.caller.operator, &self.caller.tenant, new).await;
        self.env.observer.event(&format!("makes {name}: {}", made.is_ok()));
        made.is_ok()
    }

    fn find(&self, name: &str) -> Option<BackendId> {
        let rows = self.federation.backends(&self.caller.tenant);
        rows.iter().find(|row| row.name == name).map(|row| row.id)
    }

    async fn put(&self, path: &str, data: &str) -> Result<(), SecretError> {
        let path: SecretPath = path.parse().map_err(SecretError::Path)?;
        let value = NewValue {
            data: SecretData::parse(data).map_err(|_| SecretError::NotFound)?,
            secret_type: None,
            metadata: None,
            max_versions: None,
            expires_in: None,
            expected: None,
        };
        let caller = self.request();
        self.federation.put_secret(&caller, &path, value).await?;
        self.books.open().calls.answered(caller.request_id);
        Ok(())
    }

    /// The caller with a request of its own.
    fn request(&self) -> Caller {
        let request_id = format!("req_{}", self.books.open().draw());
        Caller { request_id, ..self.caller.clone() }
    }

    /// The number of a secret; nothing when there is none.
    async fn get(&self, path: &str) -> Result<Option<u64>, SecretError> {
        let path: SecretPath = path.parse().map_err(SecretError::Path)?;
        let caller = self.request();
        let found = match self.federation.read_secret(&caller, &path, VersionAsked::Current).await {
            Ok(view) => number(view.data.expose()),
            Err(SecretError::NotFound) => None,
            Err(error) => return Err(error),
        };
        self.books.open().calls.answered(caller.request_id);
        Ok(found)
    }

    /// The requests of all calls in the audit log.
    async fn logged_calls(&self) -> Result<Vec<String>, Unavailable> {
        self.federation.settle_audit().await?;
        let all = SecretLogFilter::default();
        let (mut requests, mut before) = (Vec::new(), None);
        loop {
            let (page, next) = self.federation.secret_logs(&self.caller.tenant, &all, before, LOGS_PAGE)?;
            requests.extend(page.into_iter().filter_map(
                |entry| match entry.draft.details.get("request_id") {
                    Some(Detail::Text(request)) => Some(request.clone()),
                    Some(_) | None => None,
                },
            ));
            if next.is_none() {
                return Ok(requests);
            }
            before = next;
        }
    }

    /// Changes the stores behind the node's back.
    async fn garden(&self, mut dice: Dice) {
        while self.works() {
            sleep(dice.span(Duration::from_millis(200), Duration::from_secs(8))).await;
            let store = [MIRROR, MIRROR, THROUGH, PROXY][dice.index(4)];
            let name = remote(store, dice.below(NAMES));
            let goes = dice.chance(0.25);
            let mut pages = self.books.open();
            let value = if goes { None } else { Some(pages.draw()) };
            if pages.originals.current(&name) != value {
                pages.originals.changed(&name, self.env.clock.now(), value);
                drop(pages);
                self.env.observer.event(&format!("{name} becomes {value:?}"));
            }
        }
    }

    async fn read(&self, mut dice: Dice) {
        while self.works() {
            sleep(dice.span(Duration::from_millis(50), Duration::from_secs(1))).await;
            let store = [MIRROR, THROUGH, PROXY][dice.index(3)];
            let number = dice.below(NAMES);
            let asked = self.env.clock.now();
            let gone_before = self.books.open().removed;
            let Ok(value) = self.get(&path(store, number)).await else { continue };
            let mut pages = self.books.open();
            if store == PROXY {
                pages.answers += 1;
                let verdict = pages.originals.answer_was(&remote(store, number), asked, value);
                drop(pages);
                self.judge(verdict);
                continue;
            }
            let Some(value) = value else { continue };
            pages.copies_read += 1;
            let verdict = pages.originals.copy_was(&remote(store, number), value);
            let gone = gone_before && pages.removed && store == MIRROR;
            drop(pages);
            self.judge(verdict);
            if gone {
                self.judge(Err(format!("a copy of {store} outlives its backend: {number} is {value}")));
            }
        }
    }

    /// Writes through, and local secrets; looks whether those are still there.
    async fn write(&self, mut dice: Dice) {
        while self.works() {
            sleep(dice.span(Duration::from_millis(200), Duration::from_secs(3))).await;
            let value = self.books.open().draw();
            let data = format!("{{\"n\":{value}}}");
            let number = dice.below(NAMES);
            // Some go away before they are answered.
            let patience =
                if dice.chance(0.3) { Duration::from_millis(100) } else { Duration::from_secs(600) };
            let patience = dice.span(Duration::ZERO, patience);
            if dice.chance(0.5) {
                let path = path(THROUGH, number);
                if let Ok(Ok(())) = timeout(patience, self.put(&path, &data)).await {
                    let mut pages = self.books.open();
                    pages.written_through += 1;
                    let verdict = pages.originals.written(&remote(THROUGH, number), value);
                    drop(pages);
                    self.judge(verdict);
                }
                continue;
            }
            let path = format!("own/{number}");
            let before = self.books.open().kept.get(&path).copied();
            if let Ok(found) = self.get(&path).await
                && found < before
            {
                self.judge(Err(format!("{path} is {found:?}, acknowledged was {before:?}")));
            }
            if self.put(&path, &data).await.is_ok() {
                self.books.open().kept.insert(path, value);
            }
        }
    }

    /// Removes a backend now and then, makes it anew, or starts a sync.
    async fn operate(&self, mut dice: Dice) {
        while self.works() {
            sleep(dice.span(Duration::from_secs(5), Duration::from_secs(40))).await;
            let (operator, tenant) = (&self.caller.operator, &self.caller.tenant);
            match self.find(MIRROR) {
                Some(id) if dice.chance(0.4) => {
                    let removed = self.federation.remove_backend(operator, tenant, id, false).await;
                    self.env.observer.event(&format!("removes {MIRROR}: {}", removed.is_ok()));
                    if removed.is_ok() {
                        let mut pages = self.books.open();
                        pages.removed = true;
                        pages.removals += 1;
                    }
                }
                Some(id) => drop(self.federation.sync_backend(tenant, id, false).await),
                None => drop(self.make(MIRROR).await),
            }
        }
        while !self.make(MIRROR).await {
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// After the work: whether every copy is its original, and every call is in the audit log.
    async fn look(&self) {
        let mut missing = None;
        for store in [MIRROR, THROUGH, PROXY] {
            for number in 0..NAMES {
                let expected = self.books.open().originals.current(&remote(store, number));
                match self.get(&path(store, number)).await {
                    Ok(found) if found == expected => {}
                    other => {
                        missing = Some(format!("{store}/{number} is {other:?}, the original {expected:?}"))
                    }
                }
            }
        }
        if missing.is_none() {
            match self.logged_calls().await {
                Ok(logged) => {
                    let verdict = self.books.open().calls.check(logged);
                    self.judge(verdict);
                }
                Err(error) => missing = Some(format!("the audit log is not there: {error}")),
            }
        }
        let mut pages = self.books.open();
        if missing.is_none() && pages.level_at.is_none() {
            pages.level_at = Some(self.env.clock.now());
        }
        pages.missing = missing;
    }
}

fn path(store: &str, number: u64) -> String {
    format!("external/{store}/{number}")
}

fn remote(store: &str, number: u64) -> String {
    format!("secret/data/{store}/{number}")
}
