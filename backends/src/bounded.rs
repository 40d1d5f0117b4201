//! What every driver's call goes through: a bound in time, and silence.
//!
//! The vendors' libraries log what they send and receive at their finest levels, values included. No log
//! filter of an operator may bring that to light, so nothing is listening while they work.

use tracing::instrument::WithSubscriber as _;
use tracing::subscriber::NoSubscriber;

use crate::connect::Connector;
use crate::driver::{Call, CallError, Driver, Found, ListPage, ReadVersion, Write, Written};
use hansa_model::secrets::value::Mark;

/// A driver with both.
#[derive(Debug)]
pub(crate) struct Bounded<D> {
    pub(crate) driver: D,
    pub(crate) connector: Connector,
}

impl<D: Driver> Bounded<D> {
    fn bound<'a, T: Send + 'a>(&'a self, call: Call<'a, T>) -> Call<'a, T> {
        Box::pin(self.connector.within(call).with_subscriber(NoSubscriber::new()))
    }
}

impl<D: Driver> Driver for Bounded<D> {
    fn probe(&self) -> Call<'_, ()> {
        self.bound(self.driver.probe())
    }

    fn read<'a>(&'a self, name: &'a str, version: ReadVersion<'a>) -> Call<'a, Found> {
        self.bound(self.driver.read(name, version))
    }

    fn read_many<'a>(&'a self, names: &'a [String]) -> Call<'a, Vec<(String, Result<Found, CallError>)>> {
        self.bound(self.driver.read_many(names))
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
