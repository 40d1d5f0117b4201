//! A site's own membership, under the key `self`.

use hansa_model::enrollment::Enrollment;

use super::Table;

/// A site's own membership, under the key `self`.
#[derive(Debug)]
pub enum Enrollments {}

impl Table for Enrollments {
    type Key = String;
    type Value = Enrollment;
    const NAME: &'static str = "enrollment";
}
