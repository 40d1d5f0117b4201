//! Whatever somebody was told of a secret, the audit log has one entry of the call; and no call has two.

use std::collections::{BTreeMap, BTreeSet};

/// The requests that were answered, by their ids. No two share one.
#[derive(Debug, Clone, Default)]
pub struct AuditedCalls {
    answered: BTreeSet<String>,
}

impl AuditedCalls {
    /// A call was answered: with a value, or that there is none, or that one was stored.
    pub fn answered(&mut self, request: String) {
        self.answered.insert(request);
    }

    /// The log has these requests, in any order.
    ///
    /// # Errors
    /// When one that was answered is missing, or any is there twice.
    pub fn check(&self, logged: impl IntoIterator<Item = String>) -> Result<(), String> {
        let mut entries: BTreeMap<String, u64> = BTreeMap::new();
        for request in logged {
            *entries.entry(request).or_default() += 1;
        }
        if let Some((request, count)) = entries.iter().find(|(_, count)| **count > 1) {
            return Err(format!("the audit log has {request} {count} times"));
        }
        match self.answered.iter().find(|request| !entries.contains_key(*request)) {
            Some(request) => Err(format!("{request} was answered and is not in the audit log")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(answered: &[&str], logged: &[&str]) -> Result<(), String> {
        let mut calls = AuditedCalls::default();
        answered.iter().for_each(|request| calls.answered((*request).to_owned()));
        calls.check(logged.iter().map(|request| (*request).to_owned()))
    }

    #[test]
    fn an_entry_without_an_answer_is_no_fault() {
        assert_eq!(check(&["a"], &["b", "a"]), Ok(()));
    }

    #[test]
    fn an_answer_without_an_entry_is_told() {
        assert!(check(&["a", "b"], &["b"]).unwrap_err().contains("a was answered"));
    }

    #[test]
    fn two_entries_of_one_call_are_told() {
        assert!(check(&[], &["a", "a"]).unwrap_err().contains("2 times"));
    }
}
