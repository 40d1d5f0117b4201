//! The schedule of misfortune: drawn from the seed before the run begins, and healed at its end.
//!
//! The schedule is plain data, so a run can be told from its first line, and a scenario can write its own.

use std::fmt;
use std::time::Duration;

use crate::clock::SimTime;
use crate::dice::Dice;
use crate::disk::{Crash, Loss};
use crate::network::{HostId, Link};

/// One change of the world for the worse, or back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// Nothing passes from the first host to the second.
    Cut(HostId, HostId),
    /// The first host reaches the second again.
    Mend(HostId, HostId),
    /// The link from the first host to the second changes; `None` is the default link.
    SetLink(HostId, HostId, Option<Link>),
    /// A host stops at once.
    Crash(HostId, Crash),
    /// A host loses power at the given change of its disk, so inside a commit; it boots by itself later.
    PowerLossAtOp(HostId, u64, Loss),
    /// The next change of a host's disk fails; the program is expected to end, and is started again.
    IoError(HostId),
    /// The disk of a host is copied as it is, while the host runs on.
    KeepImage(HostId),
    /// A host stops, its disk becomes the copy kept last, and it starts again: a restore of a backup.
    RestoreImage(HostId),
    /// A stopped host starts.
    Boot(HostId),
    /// Everything above ends: links, partitions, planned losses; every host boots.
    Heal,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Which misfortunes happen, by weight, and how often.
#[derive(Debug, Clone)]
pub struct FaultMix {
    /// Least and longest time between two of them.
    pub gap: (Duration, Duration),
    /// Least and longest time that one lasts.
    pub lasting: (Duration, Duration),
    /// Weight of partitions; a third of them cut one direction only.
    pub partitions: u64,
    /// Weight of links with loss, duplicates and long latency.
    pub bad_links: u64,
    /// Weight of crashes at once, by power loss or of the process.
    pub crashes: u64,
    /// Weight of power losses inside the disk's operations.
    pub planned_power_losses: u64,
    /// Weight of I/O errors.
    pub io_errors: u64,
}

impl FaultMix {
    /// A bad day: something breaks every quarter of a minute.
    pub const BAD_DAY: Self = Self {
        gap: (Duration::from_secs(5), Duration::from_secs(25)),
        lasting: (Duration::from_secs(1), Duration::from_secs(30)),
        partitions: 3,
        bad_links: 3,
        crashes: 3,
        planned_power_losses: 2,
        io_errors: 1,
    };

    /// The same for hosts that have no links between them.
    pub const BAD_DAY_ALONE: Self = Self {
        gap: (Duration::from_secs(20), Duration::from_secs(90)),
        partitions: 0,
        bad_links: 0,
        ..Self::BAD_DAY
    };
}

/// Draws what happens between `from` and `until` to `hosts` hosts and to the links of `pairs`, and ends
/// with [`Fault::Heal`] at `until`.
pub fn draw(
    seed: u64,
    mix: &FaultMix,
    hosts: &[HostId],
    pairs: &[(HostId, HostId)],
    (from, until): (SimTime, SimTime),
) -> Vec<(SimTime, Fault)> {
    let mut dice = Dice::new(seed, "faults", 0);
    let mut plan = Vec::new();
    let mut time = from;
    loop {
        time = time.after(dice.span(mix.gap.0, mix.gap.1));
        let end = time.after(dice.span(mix.lasting.0, mix.lasting.1));
        let needs_links = mix.partitions + mix.bad_links > 0;
        if time >= until || hosts.is_empty() || (needs_links && pairs.is_empty()) {
            break;
        }
        let host = hosts[dice.index(hosts.len())];
        let pair = pairs.get(dice.index(pairs.len())).copied().unwrap_or((host, host));
        draw_one(&mut dice, mix, host, pair, |at_end, fault| {
            plan.push((if at_end { end } else { time }, fault));
        });
    }
    plan.push((until, Fault::Heal));
    plan.retain(|(time, _)| *time <= until);
    plan.sort_by_key(|(time, _)| *time);
    plan
}

/// Draws one misfortune; `put` takes each of its parts, with true for what happens at its end.
fn draw_one(
    dice: &mut Dice,
    mix: &FaultMix,
    host: HostId,
    (a, b): (HostId, HostId),
    mut put: impl FnMut(bool, Fault),
) {
    let weights = [mix.partitions, mix.bad_links, mix.crashes, mix.planned_power_losses, mix.io_errors];
    match weighted(dice, &weights) {
        0 => {
            let both = !dice.chance(1.0 / 3.0);
            let (a, b) = if dice.chance(0.5) { (a, b) } else { (b, a) };
            for (source, target) in [(a, b), (b, a)].into_iter().take(1 + usize::from(both)) {
                put(false, Fault::Cut(source, target));
                put(true, Fault::Mend(source, target));
            }
        }
        1 => {
            for (source, target) in [(a, b), (b, a)] {
                put(false, Fault::SetLink(source, target, Some(bad_link(dice))));
                put(true, Fault::SetLink(source, target, None));
            }
        }
        2 => {
            let crash = if dice.chance(0.3) { Crash::Process } else { Crash::Power(loss(dice)) };
            put(false, Fault::Crash(host, crash));
            put(true, Fault::Boot(host));
        }
        3 => put(false, Fault::PowerLossAtOp(host, dice.between(1, 60), loss(dice))),
        _ => put(false, Fault::IoError(host)),
    }
}

fn weighted(dice: &mut Dice, weights: &[u64]) -> usize {
    let mut rest = dice.below(weights.iter().sum());
    for (index, &weight) in weights.iter().enumerate() {
        if rest < weight {
            return index;
        }
        rest -= weight;
    }
    weights.len()
}

fn loss(dice: &mut Dice) -> Loss {
    Loss::EVERY[dice.index(Loss::EVERY.len())]
}

fn bad_link(dice: &mut Dice) -> Link {
    Link {
        latency: dice.span(Duration::from_millis(20), Duration::from_millis(400)),
        jitter: dice.span(Duration::ZERO, Duration::from_millis(100)),
        loss: dice.below(30) as f64 / 100.0,
        duplication: dice.below(10) as f64 / 100.0,
        ..Link::CLEAN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTS: [HostId; 3] = [HostId(0), HostId(1), HostId(2)];
    const PAIRS: [(HostId, HostId); 2] = [(HostId(0), HostId(1)), (HostId(0), HostId(2))];

    fn plan(seed: u64) -> Vec<(SimTime, Fault)> {
        let [from, until] = [10, 600].map(|secs| SimTime::at(Duration::from_secs(secs)));
        draw(seed, &FaultMix::BAD_DAY, &HOSTS, &PAIRS, (from, until))
    }

    #[test]
    fn a_plan_repeats_by_seed() {
        assert_eq!(plan(1), plan(1));
        assert_ne!(plan(1), plan(2));
    }

    #[test]
    fn a_plan_is_in_order_and_ends_healed() {
        for seed in 0..50 {
            let plan = plan(seed);

            assert!(plan.is_sorted_by_key(|(time, _)| *time));
            assert_eq!(plan.last().unwrap().1, Fault::Heal);
            assert!(plan.len() > 10);
        }
    }
}
