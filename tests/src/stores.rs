//! Drivers of secret stores as tests open them: real ones, allowed to dial loopback.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hansa::system::SystemEntropy;
use hansa_backends::{
    CallError, Driver, Drivers as _, Entry, Found, ListPage, Login, Lookup, LookupCall, OpenError, Opening,
    ReadVersion, VendorDrivers,
};
use hansa_model::Secret;
use hansa_model::secrets::address::AddressRules;
use hansa_model::secrets::backend::{BackendConfig, BackendKind};
use serde_json::Value;

use crate::node::TestClock;

/// What opens stores in a test.
#[derive(Debug, Clone)]
pub struct TestStores {
    /// The vendors' drivers.
    pub drivers: VendorDrivers,
    /// The clock that signs.
    pub clock: Arc<TestClock>,
    /// PEM.
    pub roots: Option<String>,
}

impl Default for TestStores {
    fn default() -> Self {
        Self { drivers: VendorDrivers::new(loopback_rules()), clock: Arc::default(), roots: None }
    }
}

/// Rules that open loopback, with and without TLS, and nothing else.
///
/// # Panics
/// Never.
pub fn loopback_rules() -> AddressRules {
    AddressRules {
        allowed: ["127.0.0.0/8", "::1/128"].map(|range| range.parse().expect("a range")).into(),
        http_to_loopback: true,
        unverified_tls: false,
    }
}

impl TestStores {
    /// With these roots.
    #[must_use]
    pub fn trusting(mut self, pem: impl Into<String>) -> Self {
        self.roots = Some(pem.into());
        self
    }

    /// With names that lead where the test says.
    #[must_use]
    pub fn finding(mut self, lookup: Arc<dyn Lookup>) -> Self {
        self.drivers.lookup = lookup;
        self
    }

    /// Under these rules.
    #[must_use]
    pub fn under(mut self, rules: AddressRules) -> Self {
        self.drivers.rules = Arc::new(rules);
        self
    }

    /// Opens a store.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// The configuration is none.
    pub fn try_open(
        &self,
        kind: BackendKind,
        config: &Value,
        login: &Value,
    ) -> Result<Arc<dyn Driver>, OpenError> {
        let config = BackendConfig::parse(kind, &config.to_string()).expect("a configuration");
        self.drivers.open(Opening {
            config,
            login: (!login.is_null()).then(|| Login(Secret::new(login.to_string()))),
            roots: self.roots.clone(),
            wall: self.clock.clone(),
            entropy: Arc::new(SystemEntropy),
        })
    }

    /// The same for one that opens.
    ///
    /// # Panics
    /// It does not.
    pub fn open(&self, kind: BackendKind, config: &Value, login: &Value) -> Arc<dyn Driver> {
        self.try_open(kind, config, login).expect("the store opens")
    }
}

/// The `data` that a found value becomes.
///
/// # Panics
/// Nothing was found.
pub fn data_of(found: Result<Found, CallError>) -> Value {
    let (data, _) = found.expect("it is found").secret.value.unfold();
    serde_json::from_str(data.expose()).expect("JSON")
}

/// The newest value of a secret.
///
/// # Errors
/// The driver's.
pub async fn read(store: &Arc<dyn Driver>, name: &str) -> Result<Found, CallError> {
    store.read(name, ReadVersion::Current).await
}

/// Every name under a prefix, all pages, and how many pages there were; a folder ends in a slash.
///
/// # Panics
/// A page cannot be read.
pub async fn list_all(store: &Arc<dyn Driver>, prefix: &str) -> (Vec<String>, usize) {
    let (mut names, mut pages, mut next) = (Vec::new(), 0, None);
    loop {
        let page: ListPage = store.list(prefix, next.as_deref()).await.expect("a page");
        pages += 1;
        names.extend(page.entries.into_iter().map(|entry| match entry {
            Entry::Secret { name, .. } => name,
            Entry::Folder { name } => format!("{name}/"),
        }));
        match page.next {
            Some(page) => next = Some(page),
            None => break,
        }
    }
    names.sort();
    (names, pages)
}

/// A resolver that knows some names, and may change its mind.
#[derive(Debug, Default)]
pub struct TestLookup {
    names: Mutex<BTreeMap<String, Vec<Vec<IpAddr>>>>,
    asked: AtomicUsize,
}

impl TestLookup {
    /// This host has these addresses; given again, it answers so from the next time on.
    ///
    /// # Panics
    /// A text is no address.
    pub fn answer(&self, host: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|text| text.parse().expect("an address")).collect();
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.entry(host.to_owned()).or_default().push(addresses);
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Lookup for TestLookup {
    fn lookup<'a>(&'a self, host: &'a str) -> LookupCall<'a> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let found = names.get_mut(host).map(|answers| match answers.len() {
            1 => answers[0].clone(),
            _ => answers.remove(0),
        });
        Box::pin(std::future::ready(found.ok_or_else(|| io::Error::other("no such host"))))
    }
}
