//! Every audit log is one unbroken chain that only grows; what others keep of it, it contains.

use std::collections::BTreeMap;

use hansa_model::Timestamp;
use hansa_model::audit::{KeptCheckpoint, Verification};

/// One link: number, what its hash covers, hash.
pub type Link = (u64, Vec<u8>, [u8; 32]);

/// What was seen of one node's log.
#[derive(Debug, Clone, Default)]
pub struct AuditChain {
    /// The last entry that was seen.
    seen: Option<(u64, [u8; 32])>,
    /// The last entry that was in the copy which the disk went back to, and when that was.
    lost: Option<(u64, Timestamp)>,
}

impl AuditChain {
    /// The log ends so now.
    ///
    /// # Errors
    /// When it has become shorter.
    pub fn ends(&mut self, number: u64, hash: [u8; 32]) -> Result<(), String> {
        if let Some((seen, _)) = self.seen.filter(|(seen, _)| *seen > number) {
            return Err(format!("the audit log had {seen} entries and has {number}"));
        }
        self.seen = Some((number, hash));
        Ok(())
    }

    /// The disk goes back to a copy, of which `kept` was seen.
    pub fn went_back(&mut self, kept: &Self, now: Timestamp) {
        self.seen = kept.seen;
        self.lost = Some((kept.seen.map_or(0, |(number, _)| number), now));
    }

    /// Follows the whole log.
    ///
    /// # Errors
    /// Names the first bad entry, or what was seen and is not there.
    pub fn verify(&self, links: &[Link]) -> Result<(), String> {
        let mut verification = Verification::new(self.seen);
        for (number, draft, hash) in links {
            verification.follow(*number, draft, hash).map_err(|broken| format!("audit log: {broken}"))?;
        }
        verification.end().map(drop).map_err(|broken| format!("audit log: {broken}"))
    }

    /// Holds what a site keeps against the log. What was signed before the disk went back, of entries that are
    /// not in its copy, is about a log that is lost.
    ///
    /// # Errors
    /// Names the checkpoint that the log does not contain.
    pub fn contains(&self, links: &[Link], kept: &[KeptCheckpoint]) -> Result<(), String> {
        let hashes: BTreeMap<u64, &[u8; 32]> =
            links.iter().map(|(number, _, hash)| (*number, hash)).collect();
        for KeptCheckpoint { checkpoint, .. } in kept {
            let lost = |(number, at): (u64, Timestamp)| checkpoint.number > number && checkpoint.at <= at;
            if hashes.get(&checkpoint.number) != Some(&&checkpoint.hash) && !self.lost.is_some_and(lost) {
                return Err(format!(
                    "checkpoint {} of {} is not in the log",
                    checkpoint.number, checkpoint.at
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use hansa_model::audit::{Checkpoint, chain};

    use super::*;

    fn links(count: u64) -> Vec<Link> {
        let mut last = [0; 32];
        let link = |number: u64| {
            last = chain(&last, number, &[1]);
            (number, vec![1], last)
        };
        (1..=count).map(link).collect()
    }

    fn kept(number: u64, hash: [u8; 32]) -> KeptCheckpoint {
        let at = Timestamp::from_secs(10);
        let checkpoint = Checkpoint { number, hash, at, signature: Vec::new() };
        KeptCheckpoint { checkpoint, signer: [0; 32], received_at: at }
    }

    #[test]
    fn a_log_that_was_cut_or_changed_is_told() {
        let whole = links(3);
        let mut seen = AuditChain::default();
        seen.ends(3, whole[2].2).unwrap();

        assert!(seen.verify(&whole).is_ok());
        assert!(seen.verify(&whole[..2]).is_err());
        assert!(seen.clone().ends(2, whole[1].2).is_err());
        let mut changed = whole;
        changed[1].1 = vec![2];
        assert!(seen.verify(&changed).is_err());
    }

    #[test]
    fn a_kept_checkpoint_is_excused_only_for_what_was_lost() {
        let mut chain = AuditChain::default();
        let log = links(3);
        assert!(chain.contains(&log, &[kept(2, log[1].2)]).is_ok());
        assert!(chain.contains(&log, &[kept(2, [9; 32])]).is_err());

        let mut copy = AuditChain::default();
        copy.ends(1, log[0].2).unwrap();
        chain.went_back(&copy, Timestamp::from_secs(20));

        assert!(chain.contains(&log, &[kept(2, [9; 32])]).is_ok());
        assert!(chain.contains(&log, &[kept(1, [9; 32])]).is_err());
    }
}
