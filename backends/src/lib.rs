//! Drivers of the secret stores behind one trait: Vault and OpenBao, AWS, Azure, Google.
//!
//! A [`Driver`] speaks to one configured store. It makes one attempt a call, within the configured time,
//! and answers in our words ([`CallError`]); it knows no retry, no schedule, no breaker and no mapping: those
//! belong to the backend's actor. What it receives is hostile until proven otherwise: sizes, counts and
//! times are bounded, no redirect is followed, and the address that was checked is the one dialled. A
//! [`Leaser`] is the same for credentials that a server makes and ends itself.
//!
//! [`Drivers`] is the seam: production opens the vendors' clients ([`VendorDrivers`]), a simulation its own.
//! All of them speak through one connector, share one way to keep a login, and are bounded in time and silent
//! while a vendor's code runs (decision 0019).

#![cfg_attr(
    not(all(feature = "vault", feature = "aws", feature = "azure", feature = "google")),
    allow(dead_code, unused_variables, reason = "one driver does not use all that the four share")
)]

#[cfg(feature = "aws")]
mod aws;
#[cfg(feature = "azure")]
mod azure;
mod bounded;
mod connect;
mod driver;
#[cfg(feature = "google")]
mod google;
#[cfg(any(feature = "vault", feature = "google"))]
mod jwt;
mod login;
mod machine;
mod session;
#[cfg(any(feature = "vault", feature = "aws"))]
mod sigv4;
mod tls;
#[cfg(feature = "vault")]
mod vault;
mod vendor;

pub use connect::{Lookup, LookupCall, SystemLookup};
pub use driver::{
    Call, CallError, Driver, Drivers, Entry, Found, Leased, Leaser, ListPage, Login, NoDrivers, OpenError,
    Opening, ReadVersion, Write, Written,
};
pub use machine::Machine;
pub use vendor::{Ambient, VendorDrivers};
