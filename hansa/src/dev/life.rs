//! The hosts of one development site: a generated fleet that changes every second, and at the first site
//! this very machine.

use std::path::Path;
use std::time::Duration;

use hansa_model::host::HostEntry;
use hansa_model::{Entropy, Host, HostId, WallClock as _};
use reqwest::Method;
use serde::Deserialize as _;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::cli::failure::{Exit, Failure};
use crate::client::Client;
use crate::input::collector::Collector;
use crate::input::fleet::{Change, Fleet};
use crate::system::{SystemClock, SystemEntropy};

const HOSTS: &str = "/api/v1/site/hosts";
const TICK: Duration = Duration::from_secs(1);
/// Ticks between two looks at this machine: its uptime changes, little else does.
const COLLECT_TICKS: u64 = 30;
/// Rows of one page when a site's inventory is read back.
const PAGE_ROWS: usize = 1_000;
/// Name of the file that keeps this machine's id where the system has none.
const MACHINE_ID_FILE: &str = "machine-id";

/// Where a development site pretends to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) label: &'static str,
    pub(crate) country: &'static str,
    pub(crate) latitude: f64,
    pub(crate) longitude: f64,
}

const fn place(label: &'static str, country: &'static str, latitude: f64, longitude: f64) -> Place {
    Place { label, country, latitude, longitude }
}

/// Cities of the league, in the order that sites take them.
pub(crate) const PLACES: [Place; 8] = [
    place("Lübeck", "DE", 53.87, 10.69),
    place("Bergen", "NO", 60.39, 5.32),
    place("Riga", "LV", 56.95, 24.11),
    place("Gdańsk", "PL", 54.35, 18.65),
    place("Tallinn", "EE", 59.44, 24.75),
    place("Brugge", "BE", 51.21, 3.22),
    place("Visby", "SE", 57.64, 18.30),
    place("King's Lynn", "GB", 52.75, 0.40),
];

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Life {
    fleet: Fleet,
    machine: Option<Collector>,
}

impl Life {
    /// Finds out what the site holds, carries on with it, and reports what is missing.
    pub(crate) async fn begin(
        site: &Client,
        folder: &Path,
        seed: u64,
        hosts: u64,
        index: usize,
    ) -> Result<Self, Failure> {
        let held = inventory(site).await?;
        let machine = if index == 0 { Some(Collector::new(machine_id(folder)?)) } else { None };
        // This machine is one of the site's hosts.
        let generated = hosts - u64::from(machine.is_some());
        let site_index = u64::try_from(index).unwrap_or(u64::MAX);
        let is_new = held.is_empty();
        let fleet = if is_new {
            Fleet::new(seed, generated, site_index)
        } else {
            Fleet::carry_on(seed, generated, site_index, &held)
        };
        let now = SystemClock.now();
        let mut entries = if is_new { fleet.initial(now) } else { Vec::new() };
        entries.extend(machine.as_ref().map(|machine| machine.collect(now)));
        report(site, &entries).await?;
        Ok(Self { fleet, machine })
    }

    /// Changes hosts every second until `stopped` says so. A refused report is told and the next one tried:
    /// the fleet's state is then ahead of the site's, which the next change of the host heals.
    pub(crate) async fn go_on(mut self, site: Client, mut stopped: watch::Receiver<bool>) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut count: u64 = 0;
        loop {
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stop| *stop) => return,
                _ = ticks.tick() => {}
            }
            count += 1;
            if let Err(failure) = self.step(&site, count).await {
                tracing::warn!(failure = %failure.what, "a tick of the fleet was not taken");
            }
        }
    }

    async fn step(&mut self, site: &Client, count: u64) -> Result<(), Failure> {
        let now = SystemClock.now();
        let mut lines = Vec::new();
        for change in self.fleet.tick(now) {
            match change {
                Change::Upsert(entry) => push_line(&mut lines, &entry)?,
                Change::Remove(host_id) => push_line(&mut lines, &json!({"remove": host_id}))?,
            }
        }
        if count.is_multiple_of(COLLECT_TICKS)
            && let Some(machine) = &self.machine
        {
            push_line(&mut lines, &machine.collect(now))?;
        }
        if lines.is_empty() {
            return Ok(());
        }
        site.send_lines(Method::PATCH, HOSTS, &[], lines).await.map(drop)
    }
}

async fn report(site: &Client, entries: &[HostEntry]) -> Result<(), Failure> {
    let mut lines = Vec::new();
    for entry in entries {
        push_line(&mut lines, entry)?;
    }
    if lines.is_empty() {
        return Ok(());
    }
    site.send_lines(Method::PATCH, HOSTS, &[], lines).await.map(drop)
}

fn push_line<T: serde::Serialize>(lines: &mut Vec<u8>, row: &T) -> Result<(), Failure> {
    serde_json::to_writer(&mut *lines, row).map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    lines.push(b'\n');
    Ok(())
}

/// Everything the site holds, page by page.
async fn inventory(site: &Client) -> Result<Vec<Host>, Failure> {
    let mut hosts = Vec::new();
    let mut query = vec![("limit", PAGE_ROWS.to_string())];
    loop {
        let page = site.get(HOSTS, &query).await?;
        let rows = page.json.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        for row in rows {
            let host = Host::deserialize(row)
                .map_err(|error| Failure::new(Exit::Failed, format!("the site's inventory: {error}")))?;
            hosts.push(host);
        }
        let Some(cursor) = page.json.get("next_cursor").and_then(Value::as_str) else { return Ok(hosts) };
        query.truncate(1);
        query.push(("cursor", cursor.to_owned()));
    }
}

/// This machine's id for systems without one: drawn once, kept in the folder.
fn machine_id(folder: &Path) -> Result<HostId, Failure> {
    let path = folder.join(MACHINE_ID_FILE);
    if let Some(id) = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok()) {
        return Ok(id);
    }
    let entropy: &dyn Entropy = &SystemEntropy;
    let id = HostId::generate(SystemClock.now(), entropy);
    std::fs::write(&path, format!("{id}\n"))
        .map_err(|error| Failure::new(Exit::Failed, format!("{}: {error}", path.display())))?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_keeps_its_drawn_id() {
        let folder = tempfile::tempdir().unwrap();

        let first = machine_id(folder.path()).unwrap();

        assert_eq!(machine_id(folder.path()), Ok(first));
    }
}
