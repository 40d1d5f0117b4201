//! The harness's own promises, one module each.

mod canary;
mod crash;
mod replay;
mod store;
mod world;
