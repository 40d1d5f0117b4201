//! A generated fleet that lives: rows for `hansa dev` and for the benchmarks, made from a seed.
//!
//! A host is a pure function of the seed, the site's index, its number and the little that changes in its
//! life, so a million rows cost no memory until somebody keeps them.
//!
//! # Names
//! `role-number.rack.region.stage.example.com`, such as `cache-0000042.r005.fra1.prod.example.com`. Among the
//! hosts with numbers 0 to 999,999 (of any seed and however they are spread over sites) hold exactly:
//!
//! | [`Pattern`] | `fqdn_contains` | hits |
//! | --- | --- | --- |
//! | [`Pattern::Eighth`] | `cache-` | 125,000: one of [`ROLES_COUNT`] roles |
//! | [`Pattern::Thousandth`] | `.r042.` | 1,000: one of [`RACKS_COUNT`] racks |
//! | [`Pattern::One`] | `-0424242.` | 1: a number |
//! | [`Pattern::None`] | `cache-0424242` | 0, though every run of three characters occurs: that number is a `db` |
//! | [`Pattern::TwoLetters`] | `db` | 125,000: a role that is two letters long |
//! | [`Pattern::OneLetter`] | `e` | all: the domain has it |
//!
//! A site's hosts stand in four regions; six sites and more cover all of them.
//!
//! Hosts that [`Fleet::tick`] adds later have numbers from 5,000,000 on.

mod catalogue;

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use hansa_model::host::{Host, HostEntry};
use hansa_model::{HostId, Timestamp};

use self::catalogue::{REGIONS, Region, SYSTEMS, System};
use super::{identity, tags_json};

/// Roles; the role of a host is its number modulo their count.
pub const ROLES_COUNT: u64 = 8;
/// Racks; eight hosts in a row share one, then comes the next.
pub const RACKS_COUNT: u64 = 1_000;

const ROLES: [&str; ROLES_COUNT as usize] = ["web", "api", "db", "cache", "queue", "batch", "mail", "edge"];
/// Stages with their shares in per cent.
const STAGES: [(&str, u64); 3] = [("prod", 70), ("staging", 20), ("test", 10)];
/// Regions of one site, neighbours in [`REGIONS`].
const SITE_REGIONS: u64 = 4;
/// Numbers of hosts that come later begin here, beyond every number of a million-host benchmark.
const NEWCOMERS_FROM: u64 = 5_000_000;
/// Newcomers that a site numbers before its numbers meet those of the next site; ids never meet.
const NEWCOMERS_PER_SITE: u64 = 10_000;
/// Rows of [`Fleet::host`] are as of this instant, 2026-01-01T00:00:00Z, and the month after it.
const FIRST_DAY: Timestamp = Timestamp::from_secs(1_767_225_600);
const MONTH_SECS: u64 = 30 * 86_400;
/// A host's report is at most this old when it is read.
const REPORT_INTERVAL_SECS: u64 = 60;
/// Hosts of which one comes or changes something in a tick; a fleet of 1,000 sees about 5 changes.
const HOSTS_PER_CHANGE: u64 = 200;
/// Changes of one tick at most: a fleet of any size stays readable live.
const CHANGES_MAX: u64 = 50;

/// States a host can be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Up,
    Degraded,
    Maintenance,
    Down,
}

impl State {
    const ALL: [(Self, u64); 4] =
        [(Self::Up, 92), (Self::Degraded, 4), (Self::Maintenance, 2), (Self::Down, 2)];

    const fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Maintenance => "maintenance",
            Self::Down => "down",
        }
    }
}

/// Search texts whose hits among the first million hosts are known; see the module's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// One host in eight.
    Eighth,
    /// One host in a thousand.
    Thousandth,
    /// One host.
    One,
    /// No host, although an index cannot tell by runs of three characters.
    None,
    /// Two letters; one host in eight.
    TwoLetters,
    /// One letter; every host.
    OneLetter,
}

impl Pattern {
    /// Every pattern, from the most to the least selective.
    pub const ALL: [Self; 6] =
        [Self::None, Self::One, Self::Thousandth, Self::Eighth, Self::TwoLetters, Self::OneLetter];

    /// The text for `fqdn_contains`.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Eighth => "cache-",
            Self::Thousandth => ".r042.",
            Self::One => "-0424242.",
            Self::None => "cache-0424242",
            Self::TwoLetters => "db",
            Self::OneLetter => "e",
        }
    }

    /// Hosts among the numbers 0 to `hosts` that match; exact for multiples of 8,000 and for 424,243 and more.
    pub const fn hits(self, hosts: u64) -> u64 {
        match self {
            Self::Eighth | Self::TwoLetters => hosts / ROLES_COUNT,
            Self::Thousandth => hosts / RACKS_COUNT,
            Self::One => (hosts > 424_242) as u64,
            Self::None => 0,
            Self::OneLetter => hosts,
        }
    }
}

/// The text that exactly `hits` of the first 1,000,000 hosts match; known are 0, 1, 1,000, 125,000, 1,000,000.
pub fn pattern_with(hits: u64) -> Option<&'static str> {
    Pattern::ALL.into_iter().find(|pattern| pattern.hits(1_000_000) == hits).map(Pattern::text)
}

/// One step of the fleet's life, as a site's inventory takes it.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a tick has at most 50 of them and removals are few")]
pub enum Change {
    /// A host came, with all its fields, or changed, with those that changed.
    Upsert(HostEntry),
    /// A host is gone for good.
    Remove(HostId),
}

/// A site's generated hosts.
#[derive(Debug, Clone)]
pub struct Fleet {
    seed: u64,
    site_index: u64,
    hosts: u64,
    newcomers: u64,
    members: Vec<Member>,
}

/// The part of a host that its number does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Member {
    number: u64,
    /// Chooses the address; changes when the host moves.
    address: u64,
    patches: u8,
    state: State,
    is_canary: bool,
}

impl Fleet {
    /// A fleet of `hosts` at the site with this index: numbers `site_index * hosts` and up.
    ///
    /// Fleets of one seed and one size at different sites share no host.
    pub fn new(seed: u64, hosts: u64, site_index: u64) -> Self {
        let mut fleet = Self { seed, site_index, hosts, newcomers: 0, members: Vec::new() };
        fleet.members = fleet.numbers().map(|number| fleet.member(number)).collect();
        fleet
    }

    /// The fleet that a site already holds, so that its life goes on after a restart.
    ///
    /// Hosts that were not made by this generator (by id) are left alone.
    pub fn carry_on<'a>(
        seed: u64,
        hosts: u64,
        site_index: u64,
        held: impl IntoIterator<Item = &'a Host>,
    ) -> Self {
        let mut fleet = Self { seed, site_index, hosts, newcomers: 0, members: Vec::new() };
        fleet.members = held.into_iter().filter_map(|host| fleet.member_of(host)).collect();
        let first = fleet.newcomer_number(0);
        let newest = fleet.members.iter().map(|member| member.number).filter(|number| *number >= first).max();
        fleet.newcomers = newest.map_or(0, |number| number - first + 1);
        fleet
    }

    /// The numbers this fleet began with.
    pub fn numbers(&self) -> Range<u64> {
        let first = self.site_index * self.hosts;
        first..first + self.hosts
    }

    /// Hosts that live now.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether no host lives.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The host with this number as it was on the first day; any number, any order, no state.
    pub fn host(&self, number: u64) -> Host {
        let secs = self.draw(number, Facet::Report) % MONTH_SECS;
        self.row(&self.member(number), FIRST_DAY.after(Duration::from_secs(secs)))
    }

    /// A full snapshot of the hosts that live now, last seen within the minute before `now`.
    pub fn initial(&self, now: Timestamp) -> Vec<HostEntry> {
        self.members.iter().map(|member| self.entry(member, now)).collect()
    }

    /// Lets a moment of life pass and tells what changed; the same fleet at the same instants lives the same
    /// life. About one host in 200 changes, at least one and at most 50, each host at most once.
    pub fn tick(&mut self, now: Timestamp) -> Vec<Change> {
        let mut chance = Chance(mix(self.seed ^ mix(self.site_index) ^ mix(now.as_micros().cast_unsigned())));
        let count = (self.members.len() as u64 / HOSTS_PER_CHANGE + chance.below(3) + 1).min(CHANGES_MAX);
        let mut touched = BTreeSet::new();
        (0..count).filter_map(|_| self.step(now, &mut chance, &mut touched)).collect()
    }

    /// One change; nothing when chance meets a host of this tick again.
    fn step(&mut self, now: Timestamp, chance: &mut Chance, touched: &mut BTreeSet<u64>) -> Option<Change> {
        let kind = chance.below(100);
        // The fewer hosts are left, the likelier one comes, so a fleet keeps its size.
        let is_small = (self.members.len() as u64) < self.hosts;
        if self.members.is_empty() || kind < if is_small { 12 } else { 4 } {
            return Some(Change::Upsert(self.welcome(now, touched)));
        }
        let index = usize::try_from(chance.below(self.members.len() as u64)).unwrap_or(0);
        if !touched.insert(self.members[index].number) {
            return None;
        }
        if (12..18).contains(&kind) {
            let gone = self.members.swap_remove(index);
            return Some(Change::Remove(self.host_id(gone.number)));
        }
        let before = self.members[index];
        let after = before.lived(kind, chance);
        self.members[index] = after;
        Some(Change::Upsert(self.difference(&before, &after, now)))
    }

    fn welcome(&mut self, now: Timestamp, touched: &mut BTreeSet<u64>) -> HostEntry {
        let number = self.newcomer_number(self.newcomers);
        self.newcomers += 1;
        touched.insert(number);
        let member = Member { state: State::Up, ..self.member(number) };
        self.members.push(member);
        self.entry(&member, now)
    }

    fn newcomer_number(&self, count: u64) -> u64 {
        NEWCOMERS_FROM + self.site_index * NEWCOMERS_PER_SITE + count
    }

    /// An entry with only the fields that differ, as an agent reports them.
    fn difference(&self, before: &Member, after: &Member, now: Timestamp) -> HostEntry {
        fn changed<T: PartialEq>(before: T, after: T) -> Option<T> {
            (before != after).then_some(after)
        }
        let (old, new) = (self.row(before, now), self.row(after, now));
        HostEntry {
            host_id: new.host_id.to_string(),
            ipv4: changed(old.ipv4, new.ipv4),
            ipv6: changed(old.ipv6, new.ipv6),
            public_ip: changed(old.public_ip, new.public_ip),
            os_version: changed(old.os_version, new.os_version),
            status: changed(old.status, new.status),
            tags_json: changed(old.tags_json, new.tags_json),
            // A host that is down reports nothing, so it was last seen before.
            last_seen: (after.state != State::Down).then_some(Some(now)),
            ..HostEntry::default()
        }
    }

    fn entry(&self, member: &Member, now: Timestamp) -> HostEntry {
        let age = self.draw(member.number, Facet::Report) % REPORT_INTERVAL_SECS;
        let row = self.row(member, now.before(Duration::from_secs(age)));
        HostEntry { mtime: None, ..HostEntry::from(&row) }
    }

    /// A host as its number alone makes it.
    fn member(&self, number: u64) -> Member {
        let state = weighted(&State::ALL, self.draw(number, Facet::State));
        Member {
            number,
            address: self.draw(number, Facet::Address),
            patches: u8::try_from(self.draw(number, Facet::Patch) % 2).unwrap_or(0),
            state,
            is_canary: self.draw(number, Facet::Canary).is_multiple_of(16),
        }
    }

    /// Recognises a row that this generator made.
    fn member_of(&self, host: &Host) -> Option<Member> {
        let (_, rest) = host.fqdn.split_once('-')?;
        let number: u64 = rest.split('.').next()?.parse().ok()?;
        if self.host_id(number) != host.host_id {
            return None;
        }
        let versions = self.system(number).versions;
        let patches = versions.iter().position(|(version, _)| Some(*version) == host.os_version.as_deref());
        let state = State::ALL.iter().find(|(state, _)| Some(state.name()) == host.status.as_deref());
        let mut member = self.member(number);
        member.patches = patches.and_then(|patches| u8::try_from(patches).ok()).unwrap_or(member.patches);
        member.state = state.map_or(member.state, |(state, _)| *state);
        member.is_canary = host.tags_json.as_deref().is_some_and(|tags| tags.contains("\"canary\""));
        Some(member)
    }

    fn row(&self, member: &Member, seen: Timestamp) -> Host {
        let number = member.number;
        let region = self.region(number);
        let system = self.system(number);
        let (version, kernel) = system.versions[usize::from(member.patches).min(system.versions.len() - 1)];
        let role = ROLES[usize::try_from(number % ROLES_COUNT).unwrap_or(0)];
        let stage = weighted(&STAGES, self.draw(number, Facet::Stage));
        let rack = rack(number);
        let [_, second, third, fourth, ..] = member.address.to_be_bytes();
        let is_public = matches!(role, "edge" | "mail");
        Host {
            host_id: self.host_id(number),
            fqdn: format!("{role}-{number:07}.r{rack:03}.{}.{stage}.example.com", region.code),
            ipv4: Some(format!("10.{second}.{third}.{}", fourth.clamp(1, 254))),
            ipv6: Some(format!(
                "2001:db8:{:x}:{rack:x}::{second:x}{third:02x}:{fourth:x}",
                self.site_index & 0xffff
            )),
            public_ip: is_public.then(|| format!("203.0.113.{}", fourth.clamp(1, 254))),
            os_family: Some(system.family.to_owned()),
            os_version: Some(version.to_owned()),
            platform: Some(system.platform.to_owned()),
            status: Some(member.state.name().to_owned()),
            last_seen: Some(seen),
            tags_json: Some(self.tags(member, role, stage, kernel)),
            geo_country_code: Some(region.country.to_owned()),
            geo_subdivision_code: Some(region.subdivision.to_owned()),
            geo_city: Some(region.city.to_owned()),
            geo_latitude: Some(region.latitude),
            geo_longitude: Some(region.longitude),
            mtime: seen,
        }
    }

    fn tags(&self, member: &Member, role: &str, stage: &str, kernel: &str) -> String {
        let number = member.number;
        let owner = self.draw(number, Facet::Owner);
        let tags = [
            role.to_owned(),
            stage.to_owned(),
            format!("rack:r{:03}", rack(number)),
            format!("kernel:{kernel}"),
            format!("owner:team-{:02}", owner % 40),
            format!("patch-window:sun-{:02}00", owner % 24),
            "backup:nightly".to_owned(),
        ];
        let canary = member.is_canary.then(|| "canary".to_owned());
        tags_json(tags.into_iter().chain(canary))
    }

    fn host_id(&self, number: u64) -> HostId {
        let high = self.draw(number, Facet::IdHigh);
        let low = self.draw(number, Facet::IdLow);
        HostId(identity::custom_uuid(((u128::from(high) << 64) | u128::from(low)).to_be_bytes()))
    }

    /// A rack stands in one region; a site has a few regions side by side.
    fn region(&self, number: u64) -> &'static Region {
        let index = self.site_index * SITE_REGIONS + rack(number) % SITE_REGIONS;
        &REGIONS[usize::try_from(index % REGIONS.len() as u64).unwrap_or(0)]
    }

    fn system(&self, number: u64) -> &'static System {
        let mut left = self.draw(number, Facet::System) % 100;
        let chosen = SYSTEMS.iter().find(|system| match left.checked_sub(system.weight) {
            Some(rest) => {
                left = rest;
                false
            }
            None => true,
        });
        chosen.unwrap_or(&SYSTEMS[0])
    }

    /// A number that looks random, the same for the same host and facet of it.
    fn draw(&self, number: u64, facet: Facet) -> u64 {
        mix(self.seed ^ mix(self.site_index ^ mix(number ^ mix(facet as u64))))
    }
}

/// Independent traits of a host, each with its own draw.
#[derive(Debug, Clone, Copy)]
enum Facet {
    IdHigh,
    IdLow,
    Address,
    System,
    Patch,
    State,
    Stage,
    Owner,
    Canary,
    Report,
}

impl Member {
    /// What one event makes of a host; shares in per cent.
    fn lived(self, kind: u64, chance: &mut Chance) -> Self {
        let is_oldest = self.patches < 2;
        match kind {
            ..30 => Self { address: chance.next(), ..self },
            30..45 if is_oldest => Self { patches: self.patches + 1, state: State::Up, ..self },
            45..60 => Self { is_canary: !self.is_canary, ..self },
            60..75 => Self { state: weighted(&State::ALL, chance.next()), ..self },
            // It merely reported again.
            _ => self,
        }
    }
}

const fn rack(number: u64) -> u64 {
    number / ROLES_COUNT % RACKS_COUNT
}

/// Chooses by weights whose sum is 100.
fn weighted<T: Copy>(choices: &[(T, u64)], draw: u64) -> T {
    let mut left = draw % 100;
    for (choice, weight) in choices {
        if left < *weight {
            return *choice;
        }
        left -= weight;
    }
    choices[0].0
}

/// The finisher of SplitMix64 (Steele, Lea, Flood 2014): every input bit reaches every output bit.
const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A stream of draws: SplitMix64. Good enough for a fleet, never for a key.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        let drawn = mix(self.0);
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        drawn
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}

#[cfg(test)]
mod tests;
