//! Whole hansa federations in one process: one seed, virtual time, every fault our own.
//!
//! The same seed gives the same bytes on every wire, in two processes. Real quinn, rustls and redb run
//! over a simulated network, disk and clock; nothing else is replaced.
//!
//! | module | holds |
//! | --- | --- |
//! | [`hooks`] | libc's clock and randomness, answered from the seed on a simulation's thread |
//! | [`clock`], [`dice`] | virtual time with wrong wall clocks; seeded chance |
//! | [`network`], [`disk`] | datagrams with a price; files that a power loss tears |
//! | [`faults`] | the schedule of misfortune, and its end |
//! | [`world`] | hosts stepped window by window, their programs, crashes and boots |
//! | [`invariants`] | what must hold: one file each |
//! | [`watch`], [`trace`] | what fails a run; what makes two runs the same |
//! | [`scenario`], [`scenarios`] | what is run: the list, and one file each |
//! | [`replay`] | one seed on its own thread; many seeds in child processes |

pub mod clock;
pub mod dice;
pub mod disk;
pub mod faults;
pub mod hooks;
pub mod invariants;
pub mod network;
pub mod replay;
pub mod scenario;
pub mod scenarios;
mod store_disk;
pub mod trace;
pub mod watch;
pub mod world;
