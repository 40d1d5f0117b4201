//! Calls to a backend: opening its driver, and one read with its further tries inside the deadline.

use std::sync::Arc;
use std::time::Duration;

use hansa_backends::{CallError, Driver, Found, Login, Opening, ReadVersion};
use hansa_model::limits::secrets as limits;
use hansa_model::secrets::path::SecretPath;
use hansa_model::secrets::value::SecretData;
use hansa_model::{Entropy, Secret};
use hansa_storage::codec::Named;
use hansa_storage::{Batch, Lane, ReadView, table};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::error::BackendFailure;
use super::rows::value_key;
use super::{Backends, Member};
use crate::error::Unavailable;

/// What a read gave, and how long the backend took.
#[derive(Debug, Clone)]
pub(crate) struct Fetched {
    pub(crate) found: Found,
    pub(crate) latency: Duration,
}

/// Which version a read asks for, owned: what reads are shared by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum VersionKey {
    Current,
    Number(u64),
    Named(String),
}

impl VersionKey {
    fn borrow(&self) -> ReadVersion<'_> {
        match self {
            Self::Current => ReadVersion::Current,
            Self::Number(number) => ReadVersion::Number(*number),
            Self::Named(name) => ReadVersion::Named(name),
        }
    }
}

/// A driver together with what it was opened with: another login or configuration needs another driver.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) driver: Arc<dyn Driver>,
    pub(crate) permits: Arc<Semaphore>,
    pub(crate) timeout: Duration,
    entropy: Arc<dyn Entropy>,
    stamp: Stamp,
}

/// What tells whether a driver is still the right one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamp {
    config: String,
    login: Option<u64>,
    roots: Option<u64>,
}

/// The driver at hand of one backend. Cheap to clone; opened by the first call that needs it while others wait.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slot(Arc<tokio::sync::Mutex<Option<Source>>>);

impl Slot {
    /// The driver for the present configuration and login: the one at hand when it still fits, or a new one.
    /// That the login was read is in the audit log when this returns.
    pub(crate) async fn open(&self, backends: &Backends, member: &Member) -> Result<Source, BackendFailure> {
        let mut slot = self.0.lock().await;
        let stamp = Stamp::of(&backends.context.store.read()?, member)?;
        if let Some(source) = slot.as_ref().filter(|source| source.stamp == stamp) {
            return Ok(source.clone());
        }
        let source = Source::open(backends, member, stamp).await?;
        Ok(slot.insert(source).clone())
    }
}

impl Stamp {
    fn of(view: &ReadView, member: &Member) -> Result<Self, BackendFailure> {
        let version = |path: Option<&SecretPath>| -> Result<Option<u64>, BackendFailure> {
            path.map_or(Ok(None), |path| newest(view, member, path))
        };
        Ok(Self {
            config: member.row.config.clone(),
            login: version(member.config.login_path().map(|(_, path)| path))?,
            roots: version(member.config.common().ca_cert_path.as_ref())?,
        })
    }
}

impl Source {
    async fn open(backends: &Backends, member: &Member, stamp: Stamp) -> Result<Self, BackendFailure> {
        let context = &backends.context;
        let common = member.config.common();
        let login_path = member.config.login_path();
        let view = context.store.read()?;
        let text =
            |field, path: &SecretPath, number: Option<u64>| -> Result<Secret<String>, BackendFailure> {
                let missing = BackendFailure::LoginMissing(field);
                let Some(number) = number else { return Err(missing) };
                value(&view, member, path, number)?.ok_or(missing)
            };
        let login = login_path.map(|(field, path)| text(field, path, stamp.login).map(Login)).transpose()?;
        let roots = common.ca_cert_path.as_ref().map(|path| text("ca_cert_path", path, stamp.roots));
        let roots = roots.transpose()?.map(|text| pem(&text));
        drop(view);
        if let Some((_, path)) = login_path {
            record_login(backends, member, path).await?;
        }
        let opening = Opening {
            config: (*member.config).clone(),
            login,
            roots,
            wall: Arc::clone(&context.wall),
            entropy: Arc::clone(&context.entropy),
        };
        Ok(Self {
            driver: backends.drivers.open(opening)?,
            permits: Arc::new(Semaphore::new(common.max_concurrency as usize)),
            timeout: common.timeout,
            entropy: Arc::clone(&context.entropy),
            stamp,
        })
    }

    /// Reads one value, with further tries while the deadline lasts.
    pub(crate) async fn read(&self, name: &str, version: &VersionKey) -> Result<Fetched, BackendFailure> {
        let begun = Instant::now();
        let found = self.retrying(|| self.driver.read(name, version.borrow())).await?;
        Ok(Fetched { found, latency: begun.elapsed() })
    }

    /// One call that changes nothing, with further tries: transient failures may pass, and the backend's own
    /// wish to wait is followed when it fits into the deadline.
    pub(crate) async fn retrying<'a, T>(
        &'a self,
        call: impl Fn() -> hansa_backends::Call<'a, T>,
    ) -> Result<T, BackendFailure> {
        let deadline = Instant::now() + self.timeout * 2;
        let mut wait = limits::RETRY_WAIT;
        let mut tries = 0;
        loop {
            let error = match self.once(deadline, call()).await {
                Ok(answer) => return Ok(answer),
                Err(BackendFailure::Call(error)) if error.is_transient() => error,
                Err(failure) => return Err(failure),
            };
            tries += 1;
            let asked = match &error {
                CallError::Throttled { retry_after } | CallError::Unavailable { retry_after, .. } => {
                    *retry_after
                }
                CallError::NotFound
                | CallError::VersionNotFound
                | CallError::Refused { .. }
                | CallError::BadAnswer { .. }
                | CallError::Address(_)
                | CallError::Conflict
                | CallError::Name => None,
            };
            // Between half and the whole of it, so that those who failed together do not come back together.
            let jitter = u32::from(self.entropy.bytes::<1>()[0]);
            let pause = asked.unwrap_or(wait / 2 + wait * jitter / 512);
            if tries > limits::READ_RETRIES_MAX || Instant::now() + pause >= deadline {
                return Err(error.into());
            }
            tokio::time::sleep(pause).await;
            wait *= 2;
        }
    }

    /// One call, once there is room for it.
    pub(crate) async fn once<T>(
        &self,
        deadline: Instant,
        call: hansa_backends::Call<'_, T>,
    ) -> Result<T, BackendFailure> {
        let work = async {
            // The semaphore is never closed.
            let _permit = self.permits.acquire().await.map_err(|_| BackendFailure::TimedOut)?;
            match tokio::time::timeout(self.timeout, call).await {
                Ok(answer) => answer.map_err(BackendFailure::from),
                Err(_) => Err(CallError::Unavailable {
                    reason: "no answer within the configured time",
                    retry_after: None,
                    connect: false,
                }
                .into()),
            }
        };
        tokio::time::timeout_at(deadline, work).await.unwrap_or(Err(BackendFailure::TimedOut))
    }
}

fn key(member: &Member, path: &SecretPath) -> Named<String> {
    Named::new(member.row.tenant.as_str(), path.as_str().to_owned())
}

/// The newest version of a login secret; none when it is not there.
fn newest(view: &ReadView, member: &Member, path: &SecretPath) -> Result<Option<u64>, BackendFailure> {
    let row = view.get::<table::Secrets>(&key(member, path))?;
    Ok(row.filter(|row| row.deleted_at.is_none()).map(|row| row.current))
}

fn value(
    view: &ReadView,
    member: &Member,
    path: &SecretPath,
    number: u64,
) -> Result<Option<Secret<String>>, BackendFailure> {
    let bytes = view.get_sealed::<table::SecretValues>(&value_key(&key(member, path), number))?;
    Ok(bytes.and_then(|bytes| String::from_utf8(bytes.expose().clone()).ok()).map(Secret::new))
}

/// The PEM text of a secret: its one member, whatever that is called, or all of them one after the other.
fn pem(data: &Secret<String>) -> String {
    let members: std::collections::BTreeMap<String, String> =
        serde_json::from_str(data.expose()).unwrap_or_default();
    members.into_values().collect::<Vec<_>>().join("\n")
}

async fn record_login(backends: &Backends, member: &Member, path: &SecretPath) -> Result<(), Unavailable> {
    let context = &backends.context;
    let identity = format!("federation:{}", member.row.name);
    let details = [
        ("tenant", member.row.tenant.as_str().into()),
        ("secret_path", path.as_str().into()),
        ("identity_type", "system".into()),
        ("backend_id", member.row.id.to_string().as_str().into()),
    ];
    let mut draft = context.audit_node("secret_read", None, details);
    draft.actor_userid = Some(identity);
    let mut batch = Batch::new();
    batch.audit(draft);
    context.commit(Lane::Operator, batch).await.map(drop)
}

/// A value as the store keeps it.
pub(crate) fn stored(data: &SecretData) -> Secret<Vec<u8>> {
    Secret::new(data.expose().as_bytes().to_vec())
}
