//! One file for each scenario.

pub mod echo;
