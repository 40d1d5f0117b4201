//! One file for each scenario.

pub mod echo;
pub mod federation;
pub mod membership;
pub mod secrets;
