//! The HTTP surface of a node: the documented routes, our own beside them, and operations.
//!
//! The only crate that knows axum. A request is parsed here into model types, handed to the [`Federation`]
//! facade, and its answer or refusal becomes JSON here; nothing is decided here.
//!
//! | file | holds |
//! | --- | --- |
//! | `routes` | **the table**: every route with its principal, bounds and handler. What is not in it is not served |
//! | `route` | what a line of the table is |
//! | `surface` | request id, routing, authentication, time limits, panics |
//! | `server` | listeners and connections |
//! | `request`, `query`, `json`, `scan`, `rows` | reading requests: bounded, and without repeating a value |
//! | `answer`, `problem`, `code` | answers, refusals, stable error codes |
//! | `v1` | one file per noun: bodies and handlers |
//! | `secrets` | the same of the secret federation API, `/v1` |
//! | `vault` | the Vault-speaking surface, `/vault` |
//! | `voice` | how the documented APIs word one and the same refusal |
//! | `openapi` | the specification, assembled from the table and the bodies' types |
//!
//! [`Federation`]: hansa_actors::Federation

mod answer;
mod code;
mod json;
mod openapi;
mod problem;
mod query;
mod request;
mod route;
mod routes;
mod rows;
mod scan;
mod secrets;
mod server;
mod surface;
mod v1;
mod vault;
mod voice;

pub use openapi::open_api;
pub use route::{Method, Principal, RouteInfo};
pub use routes::table;
pub use server::{Accept, Accepting, ByteStream, Listener, serve};
pub use surface::Surface;
