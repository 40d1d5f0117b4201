//! The stores: slow now and then, and some calls or their answers get lost.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hansa_backends::{
    Call, CallError, Driver, Drivers, Entry, Found, ListPage, OpenError, Opening, ReadVersion, Write, Written,
};
use hansa_model::Secret;
use hansa_model::secrets::backend::BackendConfig;
use hansa_model::secrets::value::{Mark, RemoteSecret, RemoteValue};
use tokio::time::sleep;

use super::books::{Books, Pages};
use crate::world::HostEnv;

/// Names of a page of a listing: few, so that there are many pages.
const PAGE_NAMES: usize = 3;

/// The stores as one boot of the node reaches them.
#[derive(Clone)]
pub(super) struct WorldStores {
    env: HostEnv,
    books: Books,
}

impl WorldStores {
    pub(super) const fn new(env: HostEnv, books: Books) -> Self {
        Self { env, books }
    }
}

impl fmt::Debug for WorldStores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WorldStores")
    }
}

impl Drivers for WorldStores {
    fn open(&self, opening: Opening) -> Result<Arc<dyn Driver>, OpenError> {
        let BackendConfig::Vault(config) = &opening.config else { return Err(OpenError::NotBuilt) };
        // One of them tells marks in its listings, as AWS does; of the others they are asked for.
        let lists_marks = config.endpoint.as_str().contains("mirror");
        Ok(Arc::new(WorldStore { stores: self.clone(), lists_marks }))
    }
}

#[derive(Debug)]
struct WorldStore {
    stores: WorldStores,
    lists_marks: bool,
}

impl WorldStore {
    /// Does something after a while. While people work, the call or its answer gets lost now and then.
    async fn call<T: Send>(
        &self,
        act: impl FnOnce(&mut Pages) -> Result<T, CallError> + Send,
    ) -> Result<T, CallError> {
        let WorldStores { env, books } = &self.stores;
        let draw = env.entropy.u64();
        let works = env.clock.now() < books.work_ends;
        // Longer than its caller waits, once in a while.
        let slow = if works && draw.is_multiple_of(50) { 20_000 } else { draw % 300 };
        sleep(Duration::from_millis(slow)).await;
        let lost =
            Err(CallError::Unavailable { reason: "the line is down", retry_after: None, connect: false });
        let outcome = match (draw >> 32) % 20 {
            0 if works => lost,
            1 if works => act(&mut books.open()).and(lost),
            2 if works => Err(CallError::Throttled { retry_after: Some(Duration::from_secs(1)) }),
            _ => act(&mut books.open()),
        };
        // The way back.
        sleep(Duration::from_millis((draw >> 48) % 100)).await;
        outcome
    }
}

fn mark(value: u64) -> Mark {
    Mark(value.to_string())
}

impl Driver for WorldStore {
    fn probe(&self) -> Call<'_, ()> {
        Box::pin(self.call(|_| Ok(())))
    }

    fn read<'a>(&'a self, name: &'a str, _version: ReadVersion<'a>) -> Call<'a, Found> {
        Box::pin(self.call(move |pages| {
            let value = pages.originals.current(name).ok_or(CallError::NotFound)?;
            let version = pages.originals.version(name);
            let secret = RemoteSecret {
                value: RemoteValue::Object(Secret::new(format!("{{\"n\":{value}}}"))),
                version: Some(version),
                backend_version: Some(version.to_string()),
                mark: Some(mark(value)),
                created_at: None,
                updated_at: None,
                expires_at: None,
            };
            Ok(Found { secret, status: 200 })
        }))
    }

    fn list<'a>(&'a self, prefix: &'a str, page: Option<&'a str>) -> Call<'a, ListPage> {
        Box::pin(self.call(move |pages| {
            let folder = format!("{prefix}/");
            let after = page.unwrap_or(&folder).to_owned();
            let held = |name: &&str| pages.originals.current(name).is_some();
            let names: Vec<&str> = pages
                .originals
                .names()
                .filter(|name| name.starts_with(&folder) && **name > *after)
                .filter(held)
                .take(PAGE_NAMES)
                .collect();
            let next = (names.len() == PAGE_NAMES).then(|| names[PAGE_NAMES - 1].to_owned());
            let entry = |name: &str| Entry::Secret {
                name: name.to_owned(),
                mark: pages.originals.current(name).filter(|_| self.lists_marks).map(mark),
            };
            Ok(ListPage { entries: names.into_iter().map(entry).collect(), next })
        }))
    }

    fn mark<'a>(&'a self, name: &'a str) -> Call<'a, Option<Mark>> {
        Box::pin(self.call(move |pages| {
            pages.originals.current(name).map(|value| Some(mark(value))).ok_or(CallError::NotFound)
        }))
    }

    fn write<'a>(&'a self, name: &'a str, write: Write<'a>) -> Call<'a, Written> {
        let value = number(write.data.expose());
        Box::pin(self.call(move |pages| {
            if write.expected.is_some_and(|expected| expected != pages.originals.version(name)) {
                return Err(CallError::Conflict);
            }
            pages.originals.changed(name, self.stores.env.clock.now(), value);
            Ok(Written { version: Some(pages.originals.version(name)), mark: None })
        }))
    }
}

/// The number of a value `{"n":7}`.
pub(super) fn number(data: &str) -> Option<u64> {
    serde_json::from_str::<serde_json::Value>(data).ok()?.get("n")?.as_u64()
}
