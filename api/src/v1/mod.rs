//! Bodies and handlers, one file per noun. Handlers translate and call the facade; nothing is decided here.

pub(crate) mod access;
pub(crate) mod alerts;
pub(crate) mod audit;
pub(crate) mod commands;
pub(crate) mod events;
pub(crate) mod findings;
pub(crate) mod hosts;
pub(crate) mod identity;
pub(crate) mod ingest;
pub(crate) mod inventory;
pub(crate) mod leases;
pub(crate) mod login;
pub(crate) mod membership;
pub(crate) mod operations;
pub(crate) mod past;
pub(crate) mod policies;
pub(crate) mod received;
pub(crate) mod rollups;
pub(crate) mod root_key;
pub(crate) mod server;
pub(crate) mod sites;
