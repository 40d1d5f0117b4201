//! The harness's own promises, one module each.
#![expect(clippy::unwrap_used, reason = "clippy excuses test functions, but not the helpers beside them")]

mod canary;
mod crash;
mod replay;
mod store;
mod world;
