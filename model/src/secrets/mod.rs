//! Secrets and the stores they come from: paths, patterns, mappings, configurations, values.
//!
//! | module | holds |
//! | --- | --- |
//! | [`id`] | identities with a prefix |
//! | [`path`] | the grammar of a secret's path |
//! | [`pattern`] | path patterns, as policies and mappings use them |
//! | [`mapping`] | the name that a path has at a backend, and the way back |
//! | [`routes`] | which of a tenant's mappings a path belongs to |
//! | [`backend`] | what a backend is and how it is configured |
//! | [`duration`] | `15m`, `24h`, `90d` |
//! | [`address`] | which addresses a backend may have |
//! | [`value`] | what a backend answers, and how it becomes a secret's `data` |

pub mod address;
pub mod backend;
pub mod duration;
pub mod id;
pub mod mapping;
pub mod path;
pub mod pattern;
pub mod routes;
pub mod value;
