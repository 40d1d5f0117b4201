//! Results of osquery: rows of `osqueryi --json`, or a results log of `osqueryd`.
//!
//! A host's facts are spread over rows and lines, so they are gathered first and made entries at the end. Rows
//! are recognised by their columns (`system_info`, `os_version`, `interface_addresses`, `kernel_info`), because
//! a log names the operator's query and not the table.
//!
//! A line with the action `removed` says that a row left a result, mostly since a newer one took its place. It
//! takes back an address; it never retires a host.

use std::collections::BTreeMap;

use hansa_model::host::HostEntry;
use hansa_model::{HostId, Timestamp};
use serde_json::{Map, Value};

use super::{BadRowReason, Imported, Place, objects};
use crate::input::address::{self, InterfaceAddress};
use crate::input::{identity, os, tags_json};

pub(super) fn parse(bytes: &[u8], imported: &mut Imported) {
    let mut hosts = Hosts::default();
    for (place, object) in objects(bytes) {
        let taken = object.and_then(|object| match object {
            Value::Object(members) if is_log_line(&members) => hosts.take_line(&members),
            Value::Object(row) => hosts.take_row(&row),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                Err(BadRowReason::Malformed("a row is an object".to_owned()))
            }
        });
        if let Err(reason) = taken {
            imported.refuse(place, reason);
        }
    }
    for (name, facts) in hosts.in_order() {
        match facts.entry(&name) {
            Ok(entry) => imported.take(Place::Host(name), entry),
            Err(reason) => imported.refuse(Place::Host(name), reason),
        }
    }
}

fn is_log_line(members: &Map<String, Value>) -> bool {
    ["columns", "snapshot", "diffResults", "hostIdentifier"].iter().any(|name| members.contains_key(*name))
}

/// Whether a row is in the result now or has left it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Present,
    Left,
}

/// The hosts of one file, by the name that the file uses for them.
#[derive(Debug, Default)]
struct Hosts {
    facts: BTreeMap<String, Facts>,
    order: Vec<String>,
}

impl Hosts {
    fn take_row(&mut self, row: &Map<String, Value>) -> Result<(), BadRowReason> {
        let hint = "select uuid or hostname of system_info in the same query";
        let name =
            text(row, "uuid").or_else(|| text(row, "hostname")).ok_or(BadRowReason::Nameless { hint })?;
        self.of(&name).take(row, Action::Present);
        Ok(())
    }

    fn take_line(&mut self, line: &Map<String, Value>) -> Result<(), BadRowReason> {
        let hint = "hostIdentifier is missing";
        // Old versions call it `hostname`.
        let name = text(line, "hostIdentifier").or_else(|| text(line, "hostname"));
        let facts = self.of(&name.ok_or(BadRowReason::Nameless { hint })?);
        facts.take_decorations(line);
        if tells_all_addresses(line) {
            facts.begin_addresses();
        }
        let action =
            if text(line, "action").as_deref() == Some("removed") { Action::Left } else { Action::Present };
        for row in rows(line.get("columns")).chain(rows(line.get("snapshot"))) {
            facts.take(row, action);
        }
        if let Some(differences) = line.get("diffResults") {
            rows(differences.get("removed")).for_each(|row| facts.take(row, Action::Left));
            rows(differences.get("added")).for_each(|row| facts.take(row, Action::Present));
        }
        Ok(())
    }

    fn of(&mut self, name: &str) -> &mut Facts {
        if !self.facts.contains_key(name) {
            self.order.push(name.to_owned());
        }
        self.facts.entry(name.to_owned()).or_default()
    }

    fn in_order(mut self) -> impl Iterator<Item = (String, Facts)> {
        self.order.into_iter().filter_map(move |name| self.facts.remove_entry(&name))
    }
}

/// Whether a line replaces what earlier lines told of addresses: a snapshot, or a row of a query's first run,
/// which osquery repeats when its own memory is lost.
fn tells_all_addresses(line: &Map<String, Value>) -> bool {
    let is_first_run = text(line, "counter").as_deref() == Some("0");
    let complete = rows(line.get("snapshot")).chain(rows(line.get("columns").filter(|_| is_first_run)));
    complete.into_iter().any(|row| own_address(row).is_some())
}

/// The address in a row of `interface_addresses`, alone or joined. A row of `arp_cache` has a column `mac` too
/// and tells a neighbour's address; one that is joined with `interface_details` has what no neighbour has.
fn own_address(row: &Map<String, Value>) -> Option<InterfaceAddress> {
    let is_own = ["mask", "broadcast", "mtu"].iter().any(|column| row.contains_key(*column));
    if row.contains_key("mac") && !is_own {
        return None;
    }
    InterfaceAddress::parse(&text(row, "interface")?, &text(row, "address")?)
}

/// One row, a list of rows, or nothing; osquery writes an empty list of differences as an empty text.
fn rows(value: Option<&Value>) -> impl Iterator<Item = &Map<String, Value>> {
    let (one, many) = match value {
        Some(Value::Array(rows)) => (None, Some(rows)),
        one => (one, None),
    };
    one.into_iter().chain(many.into_iter().flatten()).filter_map(Value::as_object)
}

/// A column's text; `--log_numerics_as_numbers` makes some of them numbers.
fn text(row: &Map<String, Value>, name: &str) -> Option<String> {
    let text = match row.get(name)? {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    (!text.is_empty()).then_some(text)
}

/// What the rows tell of one host; the newest row wins.
#[derive(Debug, Default)]
struct Facts {
    uuid: Option<HostId>,
    hostname: Option<String>,
    distribution: Option<String>,
    version: Option<String>,
    architecture: Option<String>,
    kernel: Option<String>,
    addresses: Vec<InterfaceAddress>,
    /// When the run began that told the first of them.
    addresses_at: Option<Timestamp>,
    seen: Option<Timestamp>,
}

impl Facts {
    /// What the daemon writes beside every result, and when.
    fn take_decorations(&mut self, line: &Map<String, Value>) {
        let seconds = text(line, "unixTime").and_then(|seconds| seconds.parse().ok());
        self.seen = self.seen.max(seconds.map(Timestamp::from_secs));
        for decorations in rows(line.get("decorations")).chain([line]) {
            let uuid = text(decorations, "host_uuid").and_then(|uuid| identity::from_hardware_uuid(&uuid));
            self.uuid = self.uuid.or(uuid);
            self.hostname = self.hostname.take().or_else(|| text(decorations, "hostname"));
        }
    }

    /// Forgets the addresses of earlier runs; lines of one run carry the same second.
    fn begin_addresses(&mut self) {
        if self.addresses_at != self.seen {
            self.addresses.clear();
            self.addresses_at = self.seen;
        }
    }

    fn take(&mut self, row: &Map<String, Value>, action: Action) {
        match (action, own_address(row)) {
            (Action::Left, Some(address)) => self.addresses.retain(|known| *known != address),
            // The row that replaces it tells the new value.
            (Action::Left, None) => {}
            (Action::Present, address) => {
                self.addresses.extend(address);
                self.take_columns(row);
            }
        }
    }

    fn take_columns(&mut self, row: &Map<String, Value>) {
        fn set<T>(field: &mut Option<T>, value: Option<T>) {
            if value.is_some() {
                *field = value;
            }
        }
        // Many tables have columns `uuid` and `version`; those beside them tell which table it is.
        let is_system = row.contains_key("hostname");
        let is_release = row.contains_key("platform_like") || row.contains_key("codename");
        let is_kernel = row.contains_key("arguments") && row.contains_key("path");
        if is_system {
            set(&mut self.uuid, text(row, "uuid").and_then(|uuid| identity::from_hardware_uuid(&uuid)));
            set(&mut self.hostname, text(row, "hostname"));
            set(&mut self.architecture, text(row, "cpu_type"));
        }
        if is_release {
            set(&mut self.distribution, text(row, "platform").or_else(|| text(row, "name")));
            set(&mut self.version, text(row, "version").and_then(|version| os::version(&version)));
            set(&mut self.architecture, text(row, "arch"));
        } else if is_kernel {
            set(&mut self.kernel, text(row, "version"));
        }
    }

    fn entry(self, name: &str) -> Result<HostEntry, BadRowReason> {
        let identifier = identity::from_hardware_uuid(name);
        // An identifier that is a UUID is no name.
        let fqdn = self.hostname.or_else(|| name.parse::<HostId>().is_err().then(|| name.to_owned()));
        let hint = "decorate results with the hostname of system_info";
        let fqdn = fqdn.ok_or(BadRowReason::Nameless { hint })?;
        let host_id = self.uuid.or(identifier).unwrap_or_else(|| identity::from_fqdn(&fqdn));
        let addresses = address::choose(&self.addresses);
        let tags: Vec<_> = [("kernel", self.kernel), ("arch", self.architecture)]
            .into_iter()
            .filter_map(|(tag, value)| Some(format!("{tag}:{}", value?)))
            .collect();
        Ok(HostEntry {
            host_id: host_id.to_string(),
            fqdn: Some(fqdn),
            ipv4: addresses.ipv4.map(Some),
            ipv6: addresses.ipv6.map(Some),
            os_family: self.distribution.as_deref().and_then(os::family).map(Some),
            os_version: self.version.map(Some),
            platform: self.distribution.as_deref().and_then(os::platform).map(Some),
            last_seen: self.seen.map(Some),
            tags_json: (!tags.is_empty()).then(|| Some(tags_json(tags))),
            ..HostEntry::default()
        })
    }
}
