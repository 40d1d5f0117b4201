//! Where a site's hosts come from: this machine, files that people already have, a generated fleet.
//!
//! Everything ends as [`HostEntry`](hansa_model::host::HostEntry), the shape that the inventory takes over
//! HTTP, so that no source has a privilege over another. Nothing here sends, stores or reads a clock.
//!
//! | module | holds |
//! | --- | --- |
//! | [`collector`] | this machine as one entry |
//! | [`import`] | Ansible facts, osquery results, CSV and our own entries, from files |
//! | [`fleet`] | hosts made from a seed, and their life |

mod address;
pub mod collector;
pub mod fleet;
mod identity;
pub mod import;
mod os;

pub use address::InterfaceAddress;

/// Writes tag names as the JSON text of a list, as the directory keeps them.
fn tags_json<S: AsRef<str>>(tags: impl IntoIterator<Item = S>) -> String {
    let tags = tags.into_iter().map(|tag| serde_json::Value::from(tag.as_ref())).collect();
    serde_json::Value::Array(tags).to_string()
}
