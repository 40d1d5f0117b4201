//! A connector runs a command at a host at most once, for ever, and the coordinator says of it what that gave.
//!
//! Runs are counted in the world, where no crash of a node forgets them. A site whose disk goes back to an
//! older copy has forgotten what it began since; only that may begin once more.

use std::collections::BTreeMap;
use std::time::Duration;

use hansa_model::HostId;
use hansa_model::command::{Command, CommandStatus, HostOutcome};
use hansa_model::id::CommandId;
use hansa_model::machine::inbox::UNKNOWN_OUTCOME;

use crate::clock::SimTime;

/// A result that is not on disk this long after its run is lost with a site that stops.
const STORED_WITHIN: Duration = Duration::from_secs(5);

/// What the connectors of one site did.
#[derive(Debug, Clone, Default)]
pub struct CommandRuns {
    commands: BTreeMap<CommandId, Run>,
}

#[derive(Debug, Clone, Default)]
struct Run {
    /// What was given for each host; none while it runs, and for ever when it was broken off.
    hosts: BTreeMap<HostId, Option<bool>>,
    /// When it was last heard of.
    at: SimTime,
    /// The site may have forgotten what was given.
    excused: bool,
    /// The site has stopped since it began.
    stopped: bool,
    /// The site may have forgotten that it was begun.
    forgotten: bool,
}

impl CommandRuns {
    /// A connector is asked.
    ///
    /// # Errors
    /// When it was asked before.
    pub fn begin(&mut self, id: CommandId, hosts: &[HostId], at: SimTime) -> Result<(), String> {
        let run = self.commands.entry(id).or_default();
        run.at = at;
        for host in hosts {
            if run.hosts.insert(*host, None).is_some() && !run.forgotten {
                return Err(format!("command {id} runs a second time at {host}"));
            }
        }
        Ok(())
    }

    /// A connector has answered.
    pub fn end(&mut self, id: CommandId, given: &BTreeMap<HostId, bool>, at: SimTime) {
        let Some(run) = self.commands.get_mut(&id) else { return };
        run.at = at;
        for (host, success) in given {
            run.hosts.insert(*host, Some(*success));
        }
    }

    /// The site stops: what runs is broken off, and what was just given may be lost.
    pub fn site_stopped(&mut self, at: SimTime) {
        for run in self.commands.values_mut() {
            run.stopped = true;
            run.excused |= run.hosts.values().any(Option::is_none) || at.since(run.at) < STORED_WITHIN;
        }
    }

    /// The site's disk goes back to the copy of that instant.
    pub fn site_went_back(&mut self, kept_at: SimTime) {
        for run in self.commands.values_mut().filter(|run| run.at >= kept_at) {
            (run.excused, run.forgotten) = (true, true);
        }
    }

    /// How many commands were begun.
    pub fn count(&self) -> usize {
        self.commands.len()
    }

    /// Compares with what a coordinator says of a command that has ended.
    ///
    /// # Errors
    /// When that is not what the connector gave.
    pub fn check(&self, command: &Command, outcomes: &[HostOutcome]) -> Result<(), String> {
        let (id, status, progress) = (command.id, command.status, command.progress);
        let nothing = Run::default();
        let run = self.commands.get(&id).unwrap_or(&nothing);
        let said = format!("command {id} is {status} ({progress:?}, {:?})", command.result_summary);
        for outcome in outcomes.iter().filter(|outcome| outcome.success) {
            if run.hosts.get(&outcome.host_id) != Some(&Some(true)) {
                return Err(format!("{said}, and nothing succeeded at {}", outcome.host_id));
            }
        }
        let good = outcomes.iter().filter(|outcome| outcome.success).count() as u64;
        // Hosts that had not had their turn when the site stopped are not known here.
        let unknown = run.stopped && command.result_summary.as_deref() == Some(UNKNOWN_OUTCOME);
        let broken_off = run.excused || unknown || run.hosts.values().any(Option::is_none);
        // A site that stops between its last word on the progress and the end does not know that it had ended.
        let all_good = good > 0 && good == progress.hosts;
        if (status == CommandStatus::Completed) != all_good && !(broken_off && all_good) {
            return Err(format!("{said}, and {good} hosts succeeded"));
        }
        if run.hosts.is_empty() && status != CommandStatus::Failed {
            return Err(format!("{said}, and no connector was asked"));
        }
        let given = run.hosts.values().flatten().filter(|success| **success).count() as u64;
        if !broken_off && given != good {
            return Err(format!("{said}, and the connector gave {given} successes by {:?}", run.at));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use hansa_model::command::Progress;
    use hansa_model::{SiteId, Timestamp};

    use super::*;

    const ID: CommandId = CommandId(uuid::Uuid::nil());

    fn host(number: u128) -> HostId {
        HostId(uuid::Uuid::from_u128(number))
    }

    fn second(secs: u64) -> SimTime {
        SimTime::at(Duration::from_secs(secs))
    }

    fn command(status: CommandStatus, hosts: u64, succeeded: u64) -> Command {
        Command {
            id: ID,
            command_type: "job".to_owned(),
            parameters: None,
            target_site_id: SiteId(uuid::Uuid::nil()),
            target_host_ids: Vec::new(),
            dispatched_by: String::new(),
            dispatched_at: Timestamp::EPOCH,
            status,
            result_summary: None,
            completed_at: None,
            push_attempts: 0,
            last_push_attempt_at: None,
            last_push_error: None,
            push_refusals: 0,
            expires_at: None,
            cancel_requested_at: None,
            cancel_settled: false,
            overdue: false,
            progress: Progress { hosts, succeeded, failed: hosts - succeeded },
        }
    }

    fn outcomes(said: &[(u128, bool)]) -> Vec<HostOutcome> {
        let outcome = |(number, success): &(u128, bool)| HostOutcome {
            host_id: host(*number),
            success: *success,
            detail: String::new(),
        };
        said.iter().map(outcome).collect()
    }

    fn ran(given: &[(u128, bool)]) -> CommandRuns {
        let given: BTreeMap<_, _> = given.iter().map(|(number, success)| (host(*number), *success)).collect();
        let mut runs = CommandRuns::default();
        runs.begin(ID, &given.keys().copied().collect::<Vec<_>>(), second(10)).unwrap();
        runs.end(ID, &given, second(11));
        runs
    }

    #[test]
    fn a_command_runs_once_at_each_host() {
        let mut runs = ran(&[(1, true)]);

        assert!(runs.begin(ID, &[host(2)], second(20)).is_ok());
        assert!(runs.begin(ID, &[host(1)], second(20)).is_err());
    }

    #[test]
    fn only_what_a_restored_disk_has_forgotten_may_run_again() {
        let mut runs = ran(&[(1, true)]);
        runs.site_went_back(second(12));
        assert!(runs.clone().begin(ID, &[host(1)], second(20)).is_err());

        runs.site_went_back(second(9));

        assert!(runs.begin(ID, &[host(1)], second(20)).is_ok());
    }

    #[test]
    fn a_result_must_be_the_one_that_was_given() {
        let runs = ran(&[(1, true), (2, false)]);
        let said = outcomes(&[(1, true), (2, false)]);

        assert!(runs.check(&command(CommandStatus::Partial, 2, 1), &said).is_ok());
        assert!(runs.check(&command(CommandStatus::Completed, 2, 1), &said).is_err());
        assert!(runs.check(&command(CommandStatus::Failed, 0, 0), &[]).is_err());
        assert!(
            runs.check(&command(CommandStatus::Completed, 2, 2), &outcomes(&[(1, true), (2, true)])).is_err()
        );
    }

    #[test]
    fn a_result_may_be_lost_with_a_site_that_stops_at_once() {
        let mut runs = ran(&[(1, true)]);
        runs.site_stopped(second(60));
        assert!(runs.check(&command(CommandStatus::Failed, 0, 0), &[]).is_err());

        let mut runs = ran(&[(1, true)]);
        runs.site_stopped(second(12));
        assert!(runs.check(&command(CommandStatus::Failed, 0, 0), &[]).is_ok());
    }
}
