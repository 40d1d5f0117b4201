//! The host index: what a coordinator knows of every host, ready to search.
//!
//! One [`Shard`] holds one site's rows in a few immutable-by-name, sorted segments. A segment keeps the
//! names in an n-gram index and everything else in packed columns that change in place; new and renamed
//! rows go to new small segments, which are merged by size. [`search()`] visits every segment of the
//! shards it is given, marks the hits as bits, counts them, and builds only the rows of the page.
//!
//! | file | holds |
//! | --- | --- |
//! | `shard`, `merge` | the rows of one site, changes to them, and the merging of segments |
//! | `segment`, `names`, `column`, `address`, `tags` | rows by column |
//! | `texts`, `grams`, `bits` | texts end to end, their n-gram index, sets of rows |
//! | `query`, `search`, `order` | what can be asked, and how a page is found |
//! | [`digest`] | digests of the rows by which two nodes find where they differ |
//! | `owners` | which site holds a host |
//!
//! Nothing here locks or waits: the owner wraps each shard in one lock, with a single writer.

pub mod digest;

mod address;
mod bits;
mod column;
mod grams;
mod merge;
mod names;
mod order;
mod owners;
mod query;
mod search;
mod segment;
mod shard;
mod tags;
#[cfg(test)]
mod tests;
mod texts;

pub use merge::{MergePlan, Merged};
pub use owners::Owners;
pub use query::{Cursor, CursorKey, Filter, InvalidQuery, OrderBy, Query, Start};
pub use search::{
    Page, count, country_breakdown, os_family_breakdown, platform_breakdown, search, status_breakdown,
};
pub use shard::{Shard, ShardBuilder};
