//! The parts of the `hansa` binary that tests and benchmarks use as well.
//!
//! | module | holds |
//! | --- | --- |
//! | [`cli`] | the command line: nouns, verbs, tables, exit codes |
//! | [`client`] | HTTP to a node, by URL or by the socket in its data folder |
//! | [`config`], [`telemetry`] | configuration of a node; logs |
//! | [`node`], [`embedded`], [`serve`], [`dev`] | one whole node in this process, and who runs it |
//! | [`input`] | where a site's hosts come from: this machine, files, a generated fleet |
//! | `mint`, `tls`, `root_key`, `ready`, `shutdown` | tokens for the node's owner, certificates and keys from files, the ready file, signals |
//! | [`system`] | the machine behind the seams: clock, randomness |

mod bench;
pub mod cli;
pub mod client;
pub mod config;
pub mod connector;
pub mod dev;
pub mod embedded;
pub mod input;
pub mod issuer;
mod mint;
pub mod node;
mod ready;
mod root_key;
pub mod serve;
mod shutdown;
pub mod system;
pub mod telemetry;
mod tls;
