//! Local users by their user id.

use hansa_model::access::User;

use super::Table;

/// Local users by their user id.
#[derive(Debug)]
pub enum Users {}

impl Table for Users {
    type Key = String;
    type Value = User;
    const NAME: &'static str = "users";
}
