//! The table of routes: the only way to mount one, and what the authentication reads.
//!
//! Test 01 of the threat model walks [`table`]: nothing but what is marked public answers without a credential.

#[macro_use]
mod handlers;
mod coordinator;
mod ingest;
mod node;
mod parameters;
mod secrets;
mod site;
mod vault;

use std::sync::LazyLock;

use crate::route::{Route, RouteInfo};

/// The table, by who is asked.
static ROUTES: [&[Route]; 6] =
    [coordinator::ROUTES, ingest::ROUTES, site::ROUTES, node::ROUTES, secrets::ROUTES, vault::ROUTES];

/// Every line of the table.
pub(crate) fn routes() -> impl Iterator<Item = &'static Route> {
    ROUTES.into_iter().flatten()
}

/// Every route that a node serves, with who may call it.
pub fn table() -> &'static [RouteInfo] {
    static TABLE: LazyLock<Vec<RouteInfo>> = LazyLock::new(|| routes().map(Route::info).collect());
    &TABLE
}

#[cfg(test)]
#[path = "routes_tests.rs"]
mod tests;
