//! The decisions of each actor, one file per actor, as pure functions of state, input and time.
//!
//! A decision changes nothing. It names the next state, the audit entry and what the shell must do; the
//! shell commits, and only then takes the next state over.

pub mod alert;
pub mod audit_index;
pub mod backend_sync;
pub mod breaker;
pub mod bucket;
pub mod checkpoints;
pub mod coalesce;
pub mod command;
pub mod delivery;
pub mod event_ring;
pub mod findings;
pub mod inbox;
pub mod ingest;
pub mod issuer;
pub mod lease;
pub mod link;
pub mod outbox;
pub mod past;
pub mod policy;
pub mod registry;
pub mod rollout;
pub mod rollup;
pub mod rollup_board;
pub mod snapshot;
pub mod stamp;
pub mod throttle;
