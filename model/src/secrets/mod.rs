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
//! | [`ambient`] | which backends may log in as the machine |
//! | [`change`] | what became of a secret, as events tell it |
//! | [`policy`] | who may do what with which paths |
//! | [`row`] | what is kept of backends and secrets |
//! | [`tenant`] | whose they are |
//! | [`value`] | what a backend answers, and how it becomes a secret's `data` |
//! | [`vault`] | logins of the Vault-speaking surface |

pub mod address;
pub mod ambient;
pub mod backend;
pub mod change;
pub mod duration;
pub mod id;
pub mod mapping;
pub mod path;
pub mod pattern;
pub mod policy;
pub mod routes;
pub mod row;
pub mod tenant;
pub mod value;
pub mod vault;
