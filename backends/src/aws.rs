//! AWS Secrets Manager, by the vendor's client over our connector.
//!
//! What an error means is decided by its type: for one and the same type AWS answers 400 and others 404.

mod failure;
mod http;
mod keys;
mod machine;

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::retry::RetryConfig;
use aws_sdk_secretsmanager::config::timeout::TimeoutConfig;
use aws_sdk_secretsmanager::config::{
    BehaviorVersion, Config, IdentityCache, Region, StalledStreamProtectionConfig,
};
use aws_sdk_secretsmanager::primitives::{Blob, DateTime};
use aws_sdk_secretsmanager::types::{Filter, FilterNameStringType, SecretListEntry, SecretValueEntry};
use futures_util::future::join_all;

use hansa_model::limits::secrets as limits;
use hansa_model::secrets::backend::AwsConfig;
use hansa_model::secrets::value::{Mark, RemoteSecret, RemoteValue};
use hansa_model::{Secret, Timestamp};

use self::failure::{code_failure, failure};
use self::keys::KeyProvider;
use crate::connect::Connector;
use crate::driver::{
    Call, CallError, Driver, Entry, Found, ListPage, Login, OpenError, ReadVersion, Write, Written,
};
use crate::vendor::Ambient;

/// Names in one batch: what the service takes at most.
const BATCH: usize = 20;

/// Names on one page: what the service takes at most.
const PAGE: i32 = 100;

/// The stage of the newest value.
const CURRENT: &str = "AWSCURRENT";

/// Secrets Manager in one region.
#[derive(Debug)]
pub(crate) struct Aws {
    client: Client,
    connector: Connector,
    /// The right to read in batches is one of its own: whoever lacks it is not asked again.
    no_batch: AtomicBool,
    /// Full names of secrets whose short ones could be misread.
    arns: Mutex<HashMap<String, String>>,
}

impl Aws {
    pub(crate) fn open(
        config: &AwsConfig,
        login: Option<&Login>,
        connector: &Connector,
        ambient: &Ambient,
    ) -> Result<Self, OpenError> {
        let keys = KeyProvider::new(config, login, connector.clone(), ambient)?;
        let mut builder = Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new(config.region.clone()))
            .credentials_provider(keys)
            .identity_cache(IdentityCache::no_cache())
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::builder().operation_timeout(config.common.timeout).build())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .time_source(http::Wall(connector.clone()))
            .http_client(http::client(connector));
        if let Some(endpoint) = &config.endpoint {
            builder = builder.endpoint_url(endpoint.as_str());
        }
        Ok(Self {
            client: Client::from_conf(builder.build()),
            connector: connector.clone(),
            no_batch: AtomicBool::new(false),
            arns: Mutex::default(),
        })
    }

    async fn read_value(&self, name: &str, version: ReadVersion<'_>) -> Result<Found, CallError> {
        let call = self.client.get_secret_value().secret_id(self.id(name).await?);
        let call = match version {
            ReadVersion::Current | ReadVersion::Number(1) => call,
            ReadVersion::Number(_) => return Err(CallError::VersionNotFound),
            // Ids have 32 characters and more; what is shorter is a stage.
            ReadVersion::Named(version) if (32..=64).contains(&version.len()) => call.version_id(version),
            ReadVersion::Named(version) if version.len() < 32 => call.version_stage(version),
            ReadVersion::Named(_) => return Err(CallError::VersionNotFound),
        };
        let found = match call.send().await {
            Ok(found) => found,
            Err(error) => {
                let failure = failure(&self.connector, error);
                // One type stands for a missing secret and for a missing version.
                let is_named = matches!(version, ReadVersion::Named(_));
                if is_named && matches!(failure, CallError::NotFound | CallError::BadAnswer { .. }) {
                    self.describe(name).await?;
                    return Err(CallError::VersionNotFound);
                }
                return Err(failure);
            }
        };
        let stages = found.version_stages.unwrap_or_default();
        value(found.secret_string, found.secret_binary, found.version_id, &stages, found.created_date)
    }

    /// The mark of one secret.
    async fn describe(&self, name: &str) -> Result<Option<Mark>, CallError> {
        let id = self.id(name).await?;
        let described = self.client.describe_secret().secret_id(id).send().await;
        let described = described.map_err(|error| failure(&self.connector, error))?;
        if described.deleted_date.is_some() {
            return Err(CallError::NotFound);
        }
        Ok(described.version_ids_to_stages.as_ref().and_then(mark))
    }

    /// What the service is asked for: the name, or the full one where a name looks like part of that.
    async fn id(&self, name: &str) -> Result<String, CallError> {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"/_+=.@-".contains(&byte);
        if name.is_empty() || name.len() > 512 || !name.bytes().all(known) {
            return Err(CallError::Name);
        }
        if !looks_like_arn_end(name) {
            return Ok(name.to_owned());
        }
        if let Some(arn) = self.arns.lock().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Ok(arn.clone());
        }
        let mut next = None;
        loop {
            let (listed, token) = self.page(name, next).await?;
            if let Some(entry) = listed.iter().find(|entry| entry.name() == Some(name)) {
                let arn = entry.arn().ok_or(CallError::NotFound)?.to_owned();
                let mut arns = self.arns.lock().unwrap_or_else(PoisonError::into_inner);
                if arns.len() < limits::MAPPINGS_MAX {
                    arns.insert(name.to_owned(), arn.clone());
                }
                return Ok(arn);
            }
            match token {
                Some(token) => next = Some(token),
                None => return Err(CallError::NotFound),
            }
        }
    }

    async fn page(
        &self,
        prefix: &str,
        token: Option<String>,
    ) -> Result<(Vec<SecretListEntry>, Option<String>), CallError> {
        let mut call = self.client.list_secrets().max_results(PAGE).set_next_token(token);
        if !prefix.is_empty() {
            call = call.filters(Filter::builder().key(FilterNameStringType::Name).values(prefix).build());
        }
        let page = call.send().await.map_err(|error| failure(&self.connector, error))?;
        let next = page.next_token.filter(|token| !token.is_empty());
        Ok((page.secret_list.unwrap_or_default(), next))
    }

    async fn list_page(&self, prefix: &str, page: Option<&str>) -> Result<ListPage, CallError> {
        let (listed, next) = self.page(prefix, page.map(str::to_owned)).await?;
        let entries = listed
            .into_iter()
            .filter(|entry| entry.deleted_date.is_none())
            .filter_map(|entry| {
                let mark = entry.secret_versions_to_stages.as_ref().and_then(mark);
                entry.name.map(|name| Entry::Secret { name, mark })
            })
            .filter(|entry| matches!(entry, Entry::Secret { name, .. } if name.starts_with(prefix)))
            .collect();
        Ok(ListPage { entries, next })
    }

    async fn read_batches(
        &self,
        names: &[String],
    ) -> Result<Vec<(String, Result<Found, CallError>)>, CallError> {
        if self.no_batch.load(Ordering::Relaxed) {
            return Ok(Vec::new());
        }
        let plain: Vec<&String> = names.iter().filter(|name| !looks_like_arn_end(name)).collect();
        let batches = plain.chunks(BATCH).map(|names| self.read_batch(names));
        let mut found = Vec::with_capacity(names.len());
        for batch in join_all(batches).await {
            match batch {
                Ok(batch) => found.extend(batch),
                Err(CallError::Refused { .. }) => {
                    self.no_batch.store(true, Ordering::Relaxed);
                    return Ok(Vec::new());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// One batch, on as many pages as the service makes of it.
    async fn read_batch(
        &self,
        names: &[&String],
    ) -> Result<Vec<(String, Result<Found, CallError>)>, CallError> {
        let ids: Vec<String> = names.iter().map(|name| (*name).clone()).collect();
        let (mut found, mut next) = (Vec::with_capacity(ids.len()), None);
        for _ in 0..BATCH {
            let call = self.client.batch_get_secret_value().set_next_token(next);
            let call = call.set_secret_id_list(Some(ids.clone()));
            let page = call.send().await.map_err(|error| failure(&self.connector, error))?;
            found.extend(page.secret_values.unwrap_or_default().into_iter().filter_map(entry_value));
            for error in page.errors.unwrap_or_default() {
                let failure = code_failure(&self.connector, error.error_code());
                if let Some(name) = error.secret_id {
                    found.push((name, Err(failure)));
                }
            }
            next = page.next_token.filter(|token| !token.is_empty());
            if next.is_none() {
                break;
            }
        }
        Ok(found)
    }

    async fn write_value(&self, name: &str, write: Write<'_>) -> Result<Written, CallError> {
        let text = write.data.expose();
        if write.expected != Some(0) {
            let call = self.client.put_secret_value().secret_id(self.id(name).await?);
            let call = call.secret_string(text).client_request_token(write.token);
            match call.send().await {
                Ok(written) => return Ok(Written { version: None, mark: written.version_id.map(Mark) }),
                Err(error) => {
                    let failure = failure(&self.connector, error);
                    if failure != CallError::NotFound || write.expected.is_some() {
                        return Err(failure);
                    }
                }
            }
        }
        let call = self.client.create_secret().name(name);
        let call = call.secret_string(text).client_request_token(write.token);
        let written = call.send().await.map_err(|error| failure(&self.connector, error))?;
        Ok(Written { version: None, mark: written.version_id.map(Mark) })
    }
}

impl Driver for Aws {
    fn probe(&self) -> Call<'_, ()> {
        Box::pin(async move {
            let page = self.client.list_secrets().max_results(1).send().await;
            page.map(drop).map_err(|error| failure(&self.connector, error))
        })
    }

    fn read<'a>(&'a self, name: &'a str, version: ReadVersion<'a>) -> Call<'a, Found> {
        Box::pin(self.read_value(name, version))
    }

    fn read_many<'a>(&'a self, names: &'a [String]) -> Call<'a, Vec<(String, Result<Found, CallError>)>> {
        Box::pin(self.read_batches(names))
    }

    fn list<'a>(&'a self, prefix: &'a str, page: Option<&'a str>) -> Call<'a, ListPage> {
        Box::pin(self.list_page(prefix, page))
    }

    fn mark<'a>(&'a self, name: &'a str) -> Call<'a, Option<Mark>> {
        Box::pin(self.describe(name))
    }

    fn write<'a>(&'a self, name: &'a str, write: Write<'a>) -> Call<'a, Written> {
        Box::pin(self.write_value(name, write))
    }
}

/// A hyphen and six characters end every full name, so the service may take a name's own for those.
fn looks_like_arn_end(name: &str) -> bool {
    let tail = name.len().checked_sub(7).and_then(|from| name.get(from..));
    tail.is_some_and(|tail| {
        tail.starts_with('-') && tail.bytes().skip(1).all(|byte| byte.is_ascii_alphanumeric())
    })
}

/// The id that holds the newest value.
fn mark(stages: &HashMap<String, Vec<String>>) -> Option<Mark> {
    let is_current = |stages: &Vec<String>| stages.iter().any(|stage| stage == CURRENT);
    stages.iter().find(|(_, stages)| is_current(stages)).map(|(id, _)| Mark(id.clone()))
}

fn entry_value(entry: SecretValueEntry) -> Option<(String, Result<Found, CallError>)> {
    let stages = entry.version_stages.unwrap_or_default();
    let found =
        value(entry.secret_string, entry.secret_binary, entry.version_id, &stages, entry.created_date);
    Some((entry.name?, found))
}

fn value(
    text: Option<String>,
    bytes: Option<Blob>,
    version: Option<String>,
    stages: &[String],
    created: Option<DateTime>,
) -> Result<Found, CallError> {
    let value = match (text, bytes) {
        (Some(text), _) => RemoteValue::Text(Secret::new(text)),
        (None, Some(bytes)) => RemoteValue::Binary(Secret::new(bytes.into_inner())),
        (None, None) => return Err(CallError::BadAnswer { reason: "it answers no value" }),
    };
    let is_current = stages.iter().any(|stage| stage == CURRENT);
    let created = created.and_then(|created| i64::try_from(created.as_nanos() / 1_000).ok());
    let secret = RemoteSecret {
        value,
        version: None,
        mark: version.clone().filter(|_| is_current).map(Mark),
        backend_version: version,
        created_at: created.map(Timestamp::from_micros),
        updated_at: None,
        expires_at: None,
    };
    Ok(Found { secret, status: 200 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_end_like_full_ones_are_known() {
        for (name, expected) in [
            ("prod/db-a1B2c3", true),
            ("-a1B2c3", true),
            ("prod/db-a1B2c", false),
            ("prod/db-a1B2c34", false),
            ("prod/db-a1/2c3", false),
            ("a1B2c3", false),
            ("", false),
        ] {
            assert_eq!(looks_like_arn_end(name), expected, "{name}");
        }
    }
}
