//! The list of scenarios, and what one run of them needs to know.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use crate::clock::SimTime;
use crate::hooks::Hooks;
use crate::scenarios;
use crate::world::{World, WorldConfig};

/// Everything that can be run, by the name on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Scenario {
    /// A coordinator and its sites: real nodes, every fault, and all of [`crate::invariants`].
    #[default]
    Federation,
    /// Sites that leave, are removed, and join again.
    Membership,
    /// A node before three secret stores: copies, writes that go through, proxied reads.
    Secrets,
    /// Clients send numbers to a server that stores them; the harness tries itself.
    Echo,
}

/// One run.
#[derive(Debug, Clone)]
pub struct Run {
    /// Everything that chance decides follows from it.
    pub seed: u64,
    /// What is run.
    pub scenario: Scenario,
    /// Simulated time, the healed part at its end included.
    pub length: Duration,
    /// Sites beside the one host in the middle.
    pub sites: u16,
    /// Where the text of the trace goes.
    pub log: Option<PathBuf>,
    /// Print log lines to standard error.
    pub verbose: bool,
    /// Overrides that are on.
    pub hooks: Hooks,
}

impl Run {
    /// A run with everything but the seed at its default.
    pub fn of_seed(seed: u64) -> Self {
        Self {
            seed,
            scenario: Scenario::default(),
            length: Scenario::default().usual_length(),
            sites: 5,
            log: None,
            verbose: false,
            hooks: Hooks::default(),
        }
    }

    /// When the faults are over: the last third of the run is for healing.
    pub fn heals_at(&self) -> SimTime {
        let whole_seconds = self.length.as_secs() * 2 / 3;
        SimTime::at(Duration::from_secs(whole_seconds))
    }

    /// When the run ends.
    pub fn ends_at(&self) -> SimTime {
        SimTime::at(self.length)
    }
}

impl Scenario {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Federation => "federation",
            Self::Membership => "membership",
            Self::Secrets => "secrets",
            Self::Echo => "echo",
        }
    }

    /// The physics of its world.
    pub fn world(self, seed: u64) -> WorldConfig {
        match self {
            Self::Federation | Self::Membership | Self::Secrets | Self::Echo => WorldConfig::wide_area(seed),
        }
    }

    /// The simulated time that it usually takes.
    pub fn usual_length(self) -> Duration {
        match self {
            Self::Federation => Duration::from_secs(3_600),
            Self::Membership | Self::Secrets => Duration::from_secs(1_800),
            Self::Echo => Duration::from_secs(600),
        }
    }

    /// Lives through it in a fresh world. An error fails the run, as do the world's violations.
    ///
    /// # Errors
    /// When an invariant does not hold in the end.
    pub fn run(self, world: &mut World, run: &Run) -> anyhow::Result<()> {
        match self {
            Self::Federation => scenarios::federation::run(world, run),
            Self::Membership => scenarios::membership::run(world, run),
            Self::Secrets => scenarios::secrets::run(world, run),
            Self::Echo => scenarios::echo::run(world, run),
        }
    }
}
