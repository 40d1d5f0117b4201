//! What callers ask of a site's inventory, and a plain reference of what it must make of it.
//!
//! Each call is drawn together with its meaning: a bad row is made bad on purpose, so the reference never
//! judges, it only counts. Every host that changes gets a new number in its tags.

use std::collections::BTreeSet;

use hansa_actors::InventoryChange;
use hansa_actors::view::InventoryAnswer;
use hansa_model::host::HostEntry;
use hansa_model::machine::snapshot;
use hansa_model::{Host, HostId, Timestamp};

use crate::dice::Dice;
use crate::invariants::{Inventory, ordered_rows};
use crate::network;

/// Hosts that only one site may know, of each site.
const OWN_HOSTS: u64 = 40;
/// Hosts that any site may report first.
const CONTENDED_HOSTS: u64 = 10;

/// A call with what it must do.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) request: Request,
    /// The inventory afterwards; none when the call must be refused whole.
    pub(super) after: Option<Inventory>,
    /// What the answer must say.
    pub(super) counts: Counts,
}

/// As the facade takes it.
#[derive(Debug)]
pub(super) enum Request {
    Put { entries: Vec<Result<HostEntry, String>>, confirm: bool },
    Patch { changes: Vec<Result<InventoryChange, String>> },
}

/// The numbers of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    accepted: usize,
    changed: usize,
    retired: usize,
    skipped: usize,
}

impl From<&InventoryAnswer> for Counts {
    fn from(answer: &InventoryAnswer) -> Self {
        let InventoryAnswer { accepted, changed, retired, skipped } = answer;
        Self { accepted: *accepted, changed: *changed, retired: *retired, skipped: skipped.len() }
    }
}

/// Draws a call of one site that holds `held`; `draw` gives the numbers.
pub(super) fn draw(
    dice: &mut Dice,
    site: network::HostId,
    held: &Inventory,
    draw: &mut impl FnMut() -> u64,
) -> Call {
    let call = Draft {
        site,
        dice,
        held,
        draw,
        after: held.clone(),
        named: BTreeSet::new(),
        counts: Counts::default(),
    };
    if call.dice.chance(0.25) { call.put() } else { call.patch() }
}

/// A call that removes hosts.
pub(super) fn removal(held: &Inventory, hosts: &BTreeSet<HostId>) -> Call {
    let mut after = held.clone();
    let retired = hosts.iter().filter(|host| after.remove(host).is_some()).count();
    let changes = hosts.iter().map(|host| Ok(InventoryChange::Remove(host.to_string()))).collect();
    let counts = Counts { accepted: hosts.len(), retired, ..Counts::default() };
    Call { request: Request::Patch { changes }, after: Some(after), counts }
}

struct Draft<'a, F> {
    site: network::HostId,
    dice: &'a mut Dice,
    held: &'a Inventory,
    draw: &'a mut F,
    after: Inventory,
    named: BTreeSet<HostId>,
    counts: Counts,
}

impl<F: FnMut() -> u64> Draft<'_, F> {
    /// A snapshot: most of what is held, some of it changed, some of it left out, some of it new.
    fn put(mut self) -> Call {
        let careless = self.dice.chance(0.1);
        let leaves_out = if careless { 0.6 } else { 0.05 };
        let mut entries = Vec::new();
        for host in self.held.values() {
            if self.dice.chance(leaves_out) {
                continue;
            }
            let entry = if self.dice.chance(0.2) { self.changed(host) } else { unchanged(host) };
            self.take(entry, &mut |entry| entries.push(Ok(entry)));
        }
        for _ in 0..self.dice.below(6) {
            self.take_new(&mut |entry| entries.push(Ok(entry)));
        }
        for _ in 0..self.dice.below(3) {
            entries.push(self.bad());
        }
        let missing: Vec<HostId> = self.held.keys().copied().filter(|id| !self.named.contains(id)).collect();
        missing.iter().for_each(|id| drop(self.after.remove(id)));
        self.counts.retired = missing.len();
        let confirm = self.dice.chance(0.3);
        let refused = !confirm && snapshot::guard(missing.len(), self.held.len()).is_err();
        let after = (!refused).then_some(self.after);
        Call { request: Request::Put { entries, confirm }, after, counts: self.counts }
    }

    /// A delta.
    fn patch(mut self) -> Call {
        let mut changes = Vec::new();
        let mut upsert = |entry| changes.push(Ok(InventoryChange::Upsert(Box::new(entry))));
        let held: Vec<&Host> = self.held.values().collect();
        for _ in 0..=self.dice.below(5) {
            if held.is_empty() || self.dice.chance(0.4) {
                self.take_new(&mut upsert);
            } else {
                let host = held[self.dice.index(held.len())];
                if !self.named.contains(&host.host_id) {
                    let entry = self.changed(host);
                    self.take(entry, &mut upsert);
                }
            }
        }
        for _ in 0..self.dice.below(3) {
            let bad = self.bad();
            changes.push(bad.map(|entry| InventoryChange::Upsert(Box::new(entry))));
        }
        let mut removed = BTreeSet::new();
        for _ in 0..self.dice.below(3) {
            let id = self.some_id();
            changes.push(Ok(InventoryChange::Remove(id.to_string())));
            self.counts.accepted += 1;
            // An entry for the host in the same call wins over its removal, wherever it stands.
            if !self.named.contains(&id) && removed.insert(id) && self.after.remove(&id).is_some() {
                self.counts.retired += 1;
            }
        }
        Call { request: Request::Patch { changes }, after: Some(self.after), counts: self.counts }
    }

    /// Applies a good row to the reference, unless its host was named before.
    fn take(&mut self, entry: HostEntry, push: &mut impl FnMut(HostEntry)) {
        let Ok(id) = entry.host_id.parse::<HostId>() else { return };
        if !self.named.insert(id) {
            return;
        }
        let row = merged(self.held.get(&id), id, &entry);
        self.counts.accepted += 1;
        if self.held.get(&id) != Some(&row) {
            self.counts.changed += 1;
            self.after.insert(id, row);
        }
        push(entry);
    }

    fn take_new(&mut self, push: &mut impl FnMut(HostEntry)) {
        let id = self.some_id();
        let number = (self.draw)();
        let text = |value: String| Some(Some(value));
        let entry = HostEntry {
            host_id: id.to_string(),
            fqdn: Some(format!("host-{number}.example.com")),
            ipv4: text(format!("10.{}.{}.{}", number >> 16 & 255, number >> 8 & 255, number & 255)),
            os_family: Some(self.word(&["debian", "rhel", "windows"])),
            platform: Some(self.word(&["linux", "bsd"])),
            status: Some(self.word(&["up", "down", "active"])),
            geo_country_code: Some(self.word(&["DE", "NO", "EE"])),
            tags_json: text(ordered_rows::tag(number)),
            ..HostEntry::default()
        };
        self.take(entry, push);
    }

    /// An entry with some fields given, some cleared, the others kept.
    fn changed(&mut self, host: &Host) -> HostEntry {
        let mut entry = HostEntry { host_id: host.host_id.to_string(), ..HostEntry::default() };
        entry.tags_json = Some(Some(ordered_rows::tag((self.draw)())));
        if self.dice.chance(0.5) {
            entry.status = Some(self.word(&["up", "down", "active"]));
        }
        if self.dice.chance(0.2) {
            entry.geo_country_code = Some(self.word(&["DE", "NO", "EE"]));
        }
        if self.dice.chance(0.2) {
            entry.ipv4 = Some(None);
        }
        entry
    }

    /// An entry that must be skipped; its host, if it names one, stays as it is.
    fn bad(&mut self) -> Result<HostEntry, String> {
        self.counts.skipped += 1;
        let id = self.some_id();
        let known = self.held.contains_key(&id);
        let named_before = !self.named.insert(id);
        let entry = HostEntry { host_id: id.to_string(), ..HostEntry::default() };
        match self.dice.below(4) {
            // Repeated, when the host stands earlier in the call.
            0 | 1 if named_before => Ok(entry),
            0 if known => Ok(HostEntry { mtime: Some(Timestamp::from_secs(1)), ..entry }),
            0 => Ok(entry),
            1 => Ok(HostEntry { fqdn: Some("far-out".to_owned()), geo_latitude: Some(Some(91.0)), ..entry }),
            2 => {
                self.unname(id, named_before);
                Ok(HostEntry { host_id: "{not-an-id}".to_owned(), ..HostEntry::default() })
            }
            _ => {
                self.unname(id, named_before);
                Err("expected an object".to_owned())
            }
        }
    }

    fn unname(&mut self, id: HostId, named_before: bool) {
        if !named_before {
            self.named.remove(&id);
        }
    }

    fn some_id(&mut self) -> HostId {
        let contended = self.dice.chance(0.15);
        let (group, hosts) = if contended { (0, CONTENDED_HOSTS) } else { (self.site.0, OWN_HOSTS) };
        host_id(group, self.dice.below(hosts))
    }

    fn word(&mut self, words: &[&str]) -> Option<String> {
        let index = self.dice.index(words.len() + 1);
        words.get(index).map(|word| (*word).to_owned())
    }
}

/// A host of a site, or of group 0, that all sites know.
fn host_id(group: u16, number: u64) -> HostId {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&group.to_be_bytes());
    bytes[6] = 0x40;
    bytes[8] = 0x80;
    bytes[8..].copy_from_slice(&(number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1 << 63).to_be_bytes());
    HostId(uuid::Uuid::from_bytes(bytes))
}

fn unchanged(host: &Host) -> HostEntry {
    // The oracle does not know when the row arrived, and the instant of arrival changes nothing by itself.
    HostEntry { mtime: None, ..HostEntry::from(host) }
}

/// The reference of a merge: given fields are set or cleared, the others kept.
fn merged(stored: Option<&Host>, host_id: HostId, entry: &HostEntry) -> Host {
    type Text = Option<String>;
    let keep = |given: &Option<Text>, stored: Option<&Text>| {
        given.clone().unwrap_or_else(|| stored.cloned().flatten())
    };
    let given = |entry: &Option<String>, stored: Option<&String>| {
        entry.clone().or_else(|| stored.cloned()).unwrap_or_default()
    };
    Host {
        host_id,
        fqdn: given(&entry.fqdn, stored.map(|host| &host.fqdn)),
        ipv4: keep(&entry.ipv4, stored.map(|host| &host.ipv4)),
        ipv6: None,
        public_ip: None,
        os_family: keep(&entry.os_family, stored.map(|host| &host.os_family)),
        os_version: None,
        platform: keep(&entry.platform, stored.map(|host| &host.platform)),
        status: keep(&entry.status, stored.map(|host| &host.status)),
        last_seen: None,
        tags_json: keep(&entry.tags_json, stored.map(|host| &host.tags_json)),
        geo_country_code: keep(&entry.geo_country_code, stored.map(|host| &host.geo_country_code)),
        geo_subdivision_code: None,
        geo_city: None,
        geo_latitude: None,
        geo_longitude: None,
        mtime: Timestamp::EPOCH,
    }
}
