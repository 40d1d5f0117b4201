//! The parts of the `hansa` binary that tests and benchmarks use as well.
//!
//! | module | holds |
//! | --- | --- |
//! | [`input`] | where a site's hosts come from: this machine, files, a generated fleet |

pub mod input;
