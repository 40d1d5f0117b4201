//! Secret stores in memory: drivers that count their calls, and hang, fail, or list without an end when told to.
//!
//! They stand where a test is about what the node does with a store, not about the store: real ones neither
//! hang on demand nor count.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hansa_backends::{
    Call, CallError, Driver, Drivers, Entry, Found, ListPage, OpenError, Opening, ReadVersion, Write, Written,
};
use hansa_model::Secret;
use hansa_model::secrets::backend::BackendConfig;
use hansa_model::secrets::value::{Mark, RemoteSecret, RemoteValue};
use tokio::sync::watch;

/// How a store does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// It answers.
    Well,
    /// It takes calls and answers none, until its mood changes.
    Hung,
    /// As [`Self::Hung`] for reads of values; it answers everything else.
    HungReads,
    /// It takes writes and answers none of them, until its mood changes; it answers everything else.
    HungWrites,
    /// It answers that it is out of order.
    Failing,
    /// Its driver panics.
    Panicking,
    /// Each page of its listing has another one.
    Endless,
    /// Each page of its listing names itself as the next one.
    Circular,
}

/// One store. Names are full ones; versions count up.
#[derive(Debug)]
pub struct MemoryStore {
    values: Mutex<BTreeMap<String, (u64, String)>>,
    mood: watch::Sender<Mood>,
    reads: AtomicU64,
    lists: AtomicU64,
    expected: Mutex<Vec<Option<u64>>>,
}

/// Stores by the host names of their endpoints.
#[derive(Debug, Clone, Default)]
pub struct MemoryStores(Arc<Mutex<BTreeMap<String, Arc<MemoryStore>>>>);

impl MemoryStores {
    /// The store behind `https://{name}.example`.
    pub fn store(&self, name: &str) -> Arc<MemoryStore> {
        let mut stores = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let store = stores.entry(format!("https://{name}.example")).or_insert_with(|| {
            Arc::new(MemoryStore {
                values: Mutex::default(),
                mood: watch::Sender::new(Mood::Well),
                reads: AtomicU64::default(),
                lists: AtomicU64::default(),
                expected: Mutex::default(),
            })
        });
        Arc::clone(store)
    }
}

impl Drivers for MemoryStores {
    fn open(&self, opening: Opening) -> Result<Arc<dyn Driver>, OpenError> {
        let BackendConfig::Vault(config) = &opening.config else { return Err(OpenError::NotBuilt) };
        let stores = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let store = stores.get(config.endpoint.as_str()).ok_or(OpenError::NotBuilt)?;
        Ok(Arc::new(MemoryDriver(Arc::clone(store))))
    }
}

impl MemoryStore {
    /// Stores a new version; `data` is a JSON object.
    pub fn put(&self, name: &str, data: &str) -> u64 {
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        let version = values.get(name).map_or(0, |(version, _)| *version) + 1;
        values.insert(name.to_owned(), (version, data.to_owned()));
        version
    }

    /// Forgets a value.
    pub fn remove(&self, name: &str) {
        self.values.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// From now on it does so.
    pub fn is_now(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    /// Value reads so far; also those that have no answer yet.
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::SeqCst)
    }

    /// Listing calls so far.
    pub fn lists(&self) -> u64 {
        self.lists.load(Ordering::SeqCst)
    }

    /// What each write so far expected to replace.
    pub fn expected(&self) -> Vec<Option<u64>> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn find(&self, name: &str) -> Result<(u64, String), CallError> {
        let values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        values.get(name).cloned().ok_or(CallError::NotFound)
    }

    async fn answer_read(&self) -> Result<(), CallError> {
        let mut moods = self.mood.subscribe();
        // The sender lives as long as this.
        moods.wait_for(|mood| *mood != Mood::HungReads).await.expect("a mood");
        self.answer().await
    }

    async fn answer(&self) -> Result<(), CallError> {
        let mut moods = self.mood.subscribe();
        // The sender lives as long as this.
        let mood = *moods.wait_for(|mood| *mood != Mood::Hung).await.expect("a mood");
        match mood {
            Mood::Failing => {
                Err(CallError::Unavailable { reason: "out of order", retry_after: None, connect: false })
            }
            Mood::Panicking => panic!("a driver that fails"),
            Mood::Well | Mood::Hung | Mood::HungReads | Mood::HungWrites | Mood::Endless | Mood::Circular => {
                Ok(())
            }
        }
    }
}

#[derive(Debug)]
struct MemoryDriver(Arc<MemoryStore>);

impl Driver for MemoryDriver {
    fn probe(&self) -> Call<'_, ()> {
        Box::pin(self.0.answer())
    }

    fn read<'a>(&'a self, name: &'a str, _version: ReadVersion<'a>) -> Call<'a, Found> {
        self.0.reads.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            self.0.answer_read().await?;
            let (version, data) = self.0.find(name)?;
            let secret = RemoteSecret {
                value: RemoteValue::Object(Secret::new(data)),
                version: Some(version),
                backend_version: Some(version.to_string()),
                mark: Some(Mark(version.to_string())),
                created_at: None,
                updated_at: None,
                expires_at: None,
            };
            Ok(Found { secret, status: 200 })
        })
    }

    fn list<'a>(&'a self, prefix: &'a str, page: Option<&'a str>) -> Call<'a, ListPage> {
        let call = self.0.lists.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            self.0.answer().await?;
            let values = self.0.values.lock().unwrap_or_else(PoisonError::into_inner);
            let folder = format!("{prefix}/");
            let names = values.keys().filter(|name| name.starts_with(&folder) && page.is_none());
            let entries = names.map(|name| Entry::Secret { name: name.clone(), mark: None }).collect();
            let mood = *self.0.mood.borrow();
            let next = match mood {
                Mood::Endless => Some(call.to_string()),
                Mood::Circular => Some("again".to_owned()),
                Mood::Well
                | Mood::Hung
                | Mood::HungReads
                | Mood::HungWrites
                | Mood::Failing
                | Mood::Panicking => None,
            };
            Ok(ListPage { entries, next })
        })
    }

    fn mark<'a>(&'a self, name: &'a str) -> Call<'a, Option<Mark>> {
        Box::pin(async move {
            self.0.answer().await?;
            Ok(Some(Mark(self.0.find(name)?.0.to_string())))
        })
    }

    fn write<'a>(&'a self, name: &'a str, write: Write<'a>) -> Call<'a, Written> {
        self.0.expected.lock().unwrap_or_else(PoisonError::into_inner).push(write.expected);
        Box::pin(async move {
            self.0.answer().await?;
            let newest = self.0.find(name).map_or(0, |(version, _)| version);
            if write.expected.is_some_and(|expected| expected != newest) {
                return Err(CallError::Conflict);
            }
            let version = self.0.put(name, write.data.expose());
            let mut moods = self.0.mood.subscribe();
            // The sender lives as long as this.
            moods.wait_for(|mood| *mood != Mood::HungWrites).await.expect("a mood");
            Ok(Written { version: Some(version), mark: None })
        })
    }
}
