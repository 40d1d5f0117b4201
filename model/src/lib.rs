//! Nouns and pure decisions of hansa.
//!
//! Nothing here waits, reads a clock, draws randomness or touches a disk: `now` and random bytes are
//! arguments. So every decision of the federation can be tested as a function, and the simulations
//! replay it byte for byte.
//!
//! | module | holds |
//! | --- | --- |
//! | [`id`], [`time`], [`secret`], [`entropy`] | identities, instants, redacted values, the two seams to the outside |
//! | [`host`], [`site`], [`sync`], [`policy`], [`command`], [`lease`], [`push`], [`received`], [`report`], [`rollup`], [`finding`], [`audit`], [`alert`], [`event`], [`webhook`], [`enrollment`], [`scope`] | what is stored and sent |
//! | [`secrets`] | secret paths, backends, mappings, values |
//! | [`access`] | local users, API keys, logins |
//! | [`directory`] | the host index: columns, n-gram postings, search, digests |
//! | [`machine`] | the decisions of each actor |
//! | [`limits`] | every bound, with its reason |

pub mod access;
pub mod alert;
pub mod audit;
pub mod command;
pub mod directory;
pub mod enrollment;
pub mod entropy;
pub mod event;
pub mod finding;
pub mod host;
pub mod id;
pub mod lease;
pub mod limits;
pub mod machine;
pub mod policy;
pub mod push;
pub mod received;
pub mod report;
pub mod rollup;
pub mod scope;
pub mod secret;
pub mod secrets;
pub mod site;
pub mod sync;
pub mod time;
pub mod webhook;

pub use entropy::Entropy;
pub use host::{Host, HostChange, HostRecord, HostRow};
pub use id::{ApiKeyId, AuditId, HostId, SiteId};
pub use secret::Secret;
pub use site::{Site, SiteName, SiteStatus};
pub use time::{Timestamp, WallClock};
