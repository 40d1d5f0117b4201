//! What a site's caller was told is what the site holds, after any restart; a call happens whole or not.

use hansa_model::Timestamp;

use super::{Inventory, difference};

/// What one site may hold, by what its callers were told. Calls come one after the other.
#[derive(Debug, Clone, Default)]
pub struct AcknowledgedInventory {
    held: Inventory,
    in_flight: Option<Inventory>,
}

impl AcknowledgedInventory {
    /// What is held for certain, without the times of arrival.
    pub const fn held(&self) -> &Inventory {
        &self.held
    }

    /// Whether a call is without an answer; see [`Self::check`].
    pub const fn is_uncertain(&self) -> bool {
        self.in_flight.is_some()
    }

    /// A call has left; if it happens, the inventory is `after`.
    pub fn begin(&mut self, after: Inventory) {
        self.in_flight = Some(after);
    }

    /// The call was acknowledged.
    pub fn acknowledged(&mut self) {
        if let Some(after) = self.in_flight.take() {
            self.held = after;
        }
    }

    /// The call was refused: it must not have happened.
    pub fn refused(&mut self) {
        self.in_flight = None;
    }

    /// Compares with what is there now, and so learns what became of a call without an answer.
    ///
    /// # Errors
    /// When it is neither the state before nor the one after that call.
    pub fn check(&mut self, found: &Inventory) -> Result<(), String> {
        let found = timeless(found);
        let before = found == self.held;
        let after = self.in_flight.take().filter(|after| *after == found);
        match (before, after) {
            (true, _) => Ok(()),
            (false, Some(after)) => {
                self.held = after;
                Ok(())
            }
            (false, None) => Err(format!("acknowledged, but not held: {}", difference(&self.held, &found))),
        }
    }
}

/// The rows without their times of arrival, which the oracle cannot know.
fn timeless(found: &Inventory) -> Inventory {
    let mut found = found.clone();
    found.values_mut().for_each(|host| host.mtime = Timestamp::EPOCH);
    found
}

#[cfg(test)]
mod tests {
    use super::super::tests::inventory;
    use super::*;

    #[test]
    fn a_call_without_an_answer_happened_whole_or_not() {
        for (found, holds) in [
            (inventory(&[(1, 1)]), true),
            (inventory(&[(1, 2), (2, 1)]), true),
            (inventory(&[(1, 2)]), false),
        ] {
            let mut promise = AcknowledgedInventory::default();
            promise.begin(inventory(&[(1, 1)]));
            promise.acknowledged();
            promise.begin(inventory(&[(1, 2), (2, 1)]));

            assert_eq!(promise.check(&found).is_ok(), holds);
        }
    }

    #[test]
    fn what_was_acknowledged_must_be_there() {
        let mut promise = AcknowledgedInventory::default();
        promise.begin(inventory(&[(1, 1)]));
        promise.acknowledged();

        assert!(promise.check(&Inventory::new()).is_err());
    }

    #[test]
    fn what_was_refused_must_not_be_there() {
        let mut promise = AcknowledgedInventory::default();
        promise.begin(inventory(&[(1, 1)]));
        promise.refused();

        assert!(promise.check(&inventory(&[(1, 1)])).is_err());
    }
}
