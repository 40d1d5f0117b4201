//! A copy is a value that its original had, and never goes back to an earlier one; a proxied answer is what the
//! store had while the read lasted.

use std::collections::BTreeMap;

use crate::clock::SimTime;

/// What the stores hold and held, and what was read of it. Values are numbers that no name has twice.
#[derive(Debug, Clone, Default)]
pub struct TrueCopies {
    originals: BTreeMap<String, Vec<(SimTime, Option<u64>)>>,
    /// Of each name the place in its history that was read last.
    read: BTreeMap<String, usize>,
}

impl TrueCopies {
    /// The store holds this under a name from now on; nothing, if it was removed.
    pub fn changed(&mut self, name: &str, at: SimTime, value: Option<u64>) {
        self.originals.entry(name.to_owned()).or_default().push((at, value));
    }

    /// What the store holds now.
    pub fn current(&self, name: &str) -> Option<u64> {
        self.originals.get(name).and_then(|history| history.last()).and_then(|(_, value)| *value)
    }

    /// How many values the name has had: the version that a store counts.
    pub fn version(&self, name: &str) -> u64 {
        self.originals
            .get(name)
            .map_or(0, |history| history.iter().filter(|(_, v)| v.is_some()).count() as u64)
    }

    /// Names that were ever there.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.originals.keys().map(String::as_str)
    }

    /// A write that goes through was acknowledged: from now on its value or a later one is read.
    ///
    /// # Errors
    /// When the original never had it.
    pub fn written(&mut self, name: &str, value: u64) -> Result<(), String> {
        let place = self.place(name, value)?;
        let read = self.read.entry(name.to_owned()).or_default();
        *read = place.max(*read);
        Ok(())
    }

    fn place(&self, name: &str, value: u64) -> Result<usize, String> {
        let history = self.originals.get(name).map(Vec::as_slice).unwrap_or_default();
        let place = history.iter().position(|(_, held)| *held == Some(value));
        place.ok_or_else(|| format!("the copy of {name} is {value}, which the original never was"))
    }

    /// A copy was read.
    ///
    /// # Errors
    /// When the original never had the value, or a later one was read or written before.
    pub fn copy_was(&mut self, name: &str, value: u64) -> Result<(), String> {
        let place = self.place(name, value)?;
        match self.read.insert(name.to_owned(), place) {
            Some(before) if before > place => {
                let before = self.originals[name][before].1;
                Err(format!("the copy of {name} went back from {before:?} to {value}"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// A proxied read of `asked` was answered just now.
    ///
    /// # Errors
    /// When the store never held that between question and answer.
    pub fn answer_was(&self, name: &str, asked: SimTime, value: Option<u64>) -> Result<(), String> {
        let history = self.originals.get(name).map(Vec::as_slice).unwrap_or_default();
        // What it held when it was asked, and all that came since.
        let first = history.iter().rposition(|(at, _)| *at <= asked);
        let before = first.and_then(|place| history[place].1);
        let since = history.iter().skip(first.map_or(0, |place| place + 1)).map(|(_, held)| *held);
        if before == value || since.into_iter().any(|held| held == value) {
            return Ok(());
        }
        Err(format!("{name} was answered as {value:?}; when it was asked the store held {before:?}"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(secs: u64) -> SimTime {
        SimTime::at(Duration::from_secs(secs))
    }

    fn copies() -> TrueCopies {
        let mut copies = TrueCopies::default();
        for (time, value) in [(1, Some(10)), (2, None), (3, Some(30))] {
            copies.changed("a", at(time), value);
        }
        copies
    }

    #[test]
    fn copy_is_some_value_of_its_original_and_moves_on() {
        let mut copies = copies();

        assert!(copies.copy_was("a", 10).is_ok());
        assert!(copies.copy_was("a", 30).is_ok());
        assert!(copies.copy_was("a", 10).is_err(), "it went back");
        assert!(copies.copy_was("a", 20).is_err(), "nobody ever wrote it");
        assert!(copies.copy_was("b", 10).is_err());
        assert!(copies.written("a", 20).is_err());
        assert_eq!((copies.current("a"), copies.version("a"), copies.current("b")), (Some(30), 2, None));
    }

    #[test]
    fn acknowledged_write_is_read_from_then_on_or_what_came_after_it() {
        let mut copies = copies();
        copies.written("a", 30).unwrap();

        assert!(copies.copy_was("a", 10).is_err());
        assert!(copies.written("a", 10).is_ok(), "its acknowledgement came late");
        assert!(copies.copy_was("a", 30).is_ok());
    }

    #[test]
    fn proxied_answer_is_of_the_time_of_its_read() {
        let copies = copies();

        assert!(copies.answer_was("a", at(1), Some(10)).is_ok());
        assert!(copies.answer_was("a", at(1), None).is_ok());
        assert!(copies.answer_was("a", at(1), Some(30)).is_ok());
        assert!(copies.answer_was("a", at(2), Some(10)).is_err(), "it was gone before the read began");
        assert!(copies.answer_was("a", at(3), None).is_err());
        assert!(copies.answer_was("b", at(0), None).is_ok());
    }
}
