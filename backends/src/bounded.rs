//! What every driver's call goes through: bounds in time and size, and silence.
//!
//! The vendors' libraries log what they send and receive at their finest levels, values included. No log
//! filter of an operator may bring that to light, so nothing is listening while they work.

use std::time::Duration;

use tracing::instrument::WithSubscriber as _;
use tracing::subscriber::NoSubscriber;

use hansa_model::limits::secrets as limits;
use hansa_model::secrets::value::Mark;

use crate::connect::Connector;
use crate::driver::{Call, CallError, Driver, Found, Leased, Leaser, ListPage, ReadVersion, Write, Written};

/// A driver with all three.
#[derive(Debug)]
pub(crate) struct Bounded<D> {
    pub(crate) driver: D,
    pub(crate) connector: Connector,
}

impl<D> Bounded<D> {
    fn bound<'a, T: Send + 'a>(&'a self, call: Call<'a, T>) -> Call<'a, T> {
        Box::pin(self.connector.within(call).with_subscriber(NoSubscriber::new()))
    }
}

impl<D: Driver> Driver for Bounded<D> {
    fn probe(&self) -> Call<'_, ()> {
        self.bound(self.driver.probe())
    }

    fn read<'a>(&'a self, name: &'a str, version: ReadVersion<'a>) -> Call<'a, Found> {
        self.bound(Box::pin(async move { self.driver.read(name, version).await.and_then(sized) }))
    }

    fn read_many<'a>(&'a self, names: &'a [String]) -> Call<'a, Vec<(String, Result<Found, CallError>)>> {
        self.bound(Box::pin(async move {
            let found = self.driver.read_many(names).await?;
            Ok(found.into_iter().map(|(name, found)| (name, found.and_then(sized))).collect())
        }))
    }

    fn list<'a>(&'a self, prefix: &'a str, page: Option<&'a str>) -> Call<'a, ListPage> {
        self.bound(self.driver.list(prefix, page))
    }

    fn mark<'a>(&'a self, name: &'a str) -> Call<'a, Option<Mark>> {
        self.bound(self.driver.mark(name))
    }

    fn write<'a>(&'a self, name: &'a str, write: Write<'a>) -> Call<'a, Written> {
        self.bound(self.driver.write(name, write))
    }
}

impl<L: Leaser> Leaser for Bounded<L> {
    fn lease<'a>(&'a self, path: &'a str, life: Duration) -> Call<'a, Leased> {
        self.bound(self.driver.lease(path, life))
    }

    fn end<'a>(&'a self, lease_id: &'a str) -> Call<'a, ()> {
        self.bound(self.driver.end(lease_id))
    }
}

/// An answer's bound leaves room for what is around a value; the value has one of its own.
fn sized(found: Found) -> Result<Found, CallError> {
    if found.secret.value.len() > limits::VALUE_BYTES_MAX {
        return Err(CallError::BadAnswer { reason: "the value is too large" });
    }
    Ok(found)
}
