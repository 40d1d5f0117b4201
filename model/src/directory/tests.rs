//! The index against a plain list of rows: any changes, any queries, equal answers.

use std::collections::BTreeMap;

use proptest::prelude::*;
use uuid::Uuid;

use super::shard::Layout;
use super::*;
use crate::host::tests::host;
use crate::sync::Applied;
use crate::{Host, HostChange, HostId, SiteId, Timestamp};

/// Small enough that a few hundred rows fill several segments, with and without n-grams.
const SMALL: Layout = Layout { segment_rows_max: 96, grams_min: 24, inline_rows_max: 32 };

fn site(n: u128) -> SiteId {
    SiteId(Uuid::from_u128(n))
}

fn host_id(n: u128) -> HostId {
    HostId(Uuid::from_u128(n))
}

/// The sites' rows, kept as simply as possible.
#[derive(Debug, Default, Clone)]
struct Reference(BTreeMap<HostId, (SiteId, Host)>);

fn part_of(text: Option<&str>, part: &str) -> bool {
    let lower = |text: &str| text.chars().flat_map(char::to_lowercase).collect::<String>();
    text.is_some_and(|text| lower(text).contains(&lower(part)))
}

impl Reference {
    fn passes(filter: &Filter, host: &Host) -> bool {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let equal =
            |wanted: &Option<String>, value: &Option<String>| given(wanted).is_none_or(|_| wanted == value);
        given(&filter.fqdn_contains).is_none_or(|part| part_of(Some(&host.fqdn), &part))
            && given(&filter.ipv4_contains)
                .is_none_or(|part| host.ipv4.as_ref().is_some_and(|text| text.contains(&part)))
            && equal(&filter.os_family, &host.os_family)
            && equal(&filter.platform, &host.platform)
            && equal(&filter.status, &host.status)
            && equal(&filter.geo_country_code, &host.geo_country_code)
            && equal(&filter.geo_subdivision_code, &host.geo_subdivision_code)
            && filter.last_seen_after.is_none_or(|t| host.last_seen.is_some_and(|seen| seen >= t))
            && filter.last_seen_before.is_none_or(|t| host.last_seen.is_some_and(|seen| seen < t))
            && given(&filter.free_text).is_none_or(|part| {
                [Some(&*host.fqdn), host.ipv4.as_deref(), host.public_ip.as_deref()]
                    .into_iter()
                    .any(|text| part_of(text, &part))
            })
    }

    fn sorted(&self, filter: &Filter, order_by: OrderBy) -> Vec<(SiteId, Host)> {
        let mut rows: Vec<_> =
            self.0.values().filter(|(_, host)| Self::passes(filter, host)).cloned().collect();
        rows.sort_by_key(|(site, host)| {
            let label = match order_by {
                OrderBy::Fqdn => Some(host.fqdn.clone()),
                OrderBy::Status => host.status.clone(),
                OrderBy::OsFamily => host.os_family.clone(),
                OrderBy::Platform => host.platform.clone(),
                OrderBy::GeoCountryCode => host.geo_country_code.clone(),
                OrderBy::SiteId => Some(site.to_string()),
                OrderBy::LastSeen => None,
            };
            let seen = if order_by == OrderBy::LastSeen { host.last_seen } else { None };
            (label, seen, host.host_id)
        });
        rows
    }

    fn breakdown(&self, value: impl Fn(&Host) -> Option<String>, null: &str) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for (_, host) in self.0.values() {
            *counts.entry(value(host).unwrap_or_else(|| null.to_owned())).or_default() += 1;
        }
        counts
    }

    /// Applies one change and counts what it did.
    fn apply(&mut self, site: SiteId, change: &HostChange<String>, applied: &mut Applied) {
        match change {
            HostChange::Upsert(host) => match self.0.insert(host.host_id, (site, host.clone())) {
                None => applied.added += 1,
                Some((_, old)) => applied.changed += u64::from(old != *host),
            },
            HostChange::Remove(host_id) => applied.removed += u64::from(self.0.remove(host_id).is_some()),
        }
    }
}

fn as_row(change: &HostChange<String>) -> HostChange<&str> {
    match change {
        HostChange::Upsert(host) => HostChange::Upsert(host.as_row()),
        HostChange::Remove(host_id) => HostChange::Remove(*host_id),
    }
}

fn label() -> impl Strategy<Value = Option<String>> {
    proptest::option::of("[uU]p|down|unknown|x_%|")
}

fn address() -> impl Strategy<Value = Option<String>> {
    prop_oneof![
        3 => (0..3_u8, any::<u8>(), 0..3_u8).prop_map(|(a, b, c)| Some(format!("10.{a}.{b}.{c}"))),
        1 => Just(None),
        1 => "1\\.2|FE80::1|2001:db8::[0-9a-f]{1,3}|0?1\\.2\\.3\\.4|".prop_map(Some),
    ]
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "(web|db|App)-[0-9]{1,2}\\.(fra|Ams)1\\.example\\.com",
        1 => "[a-cA-C._%ΣσİÄä-]{1,8}",
    ]
}

fn rows() -> impl Strategy<Value = Host> {
    let labels = (label(), label(), label(), label(), label(), label());
    let seen = proptest::option::of((0..5_i64).prop_map(Timestamp::from_secs));
    let degrees = proptest::option::of(prop_oneof![Just(1.5_f64), -90.0..90.0]);
    (0..120_u128, name(), (address(), address(), address()), labels, seen, degrees).prop_map(
        |(
            n,
            fqdn,
            (ipv4, ipv6, public_ip),
            (os, platform, status, tags, country, subdivision),
            last_seen,
            degrees,
        )| Host {
            fqdn,
            ipv4,
            ipv6,
            public_ip,
            os_family: os,
            platform,
            status,
            last_seen,
            tags_json: tags,
            geo_country_code: country,
            geo_subdivision_code: subdivision,
            geo_latitude: degrees,
            ..host(n)
        },
    )
}

fn changes() -> impl Strategy<Value = Vec<HostChange<String>>> {
    let change = prop_oneof![
        6 => rows().prop_map(HostChange::Upsert),
        1 => (0..120_u128).prop_map(|n| HostChange::Remove(host_id(n))),
    ];
    proptest::collection::vec(change, 0..80)
}

fn filters() -> impl Strategy<Value = Filter> {
    let text = || {
        proptest::option::of(prop_oneof![
            "[a-cσä._%1-]{1,3}",
            "web-|b-1|\\.fra1|1\\.FRA|example\\.com|\\.|com|10\\.|\\.1\\.|0\\.[12]|fe80|",
        ])
    };
    let rare = |strategy: BoxedStrategy<Option<String>>| prop_oneof![3 => Just(None), 1 => strategy];
    let seen = || prop_oneof![3 => Just(None), 1 => (0..5_i64).prop_map(|s| Some(Timestamp::from_secs(s)))];
    (
        text(),
        rare("10|\\.1|1\\.|FE".prop_map(Some).boxed()),
        rare(label().boxed()),
        rare(label().boxed()),
        rare(label().boxed()),
        (seen(), seen()),
        rare(text().boxed()),
    )
        .prop_map(
            |(fqdn_contains, ipv4_contains, status, os_family, country, (after, before), free_text)| Filter {
                fqdn_contains,
                ipv4_contains,
                status,
                os_family,
                geo_country_code: country,
                last_seen_after: after,
                last_seen_before: before,
                free_text,
                ..Filter::default()
            },
        )
}

fn orders() -> impl Strategy<Value = OrderBy> {
    proptest::sample::select(OrderBy::ALL.to_vec())
}

/// Two sites' shards and the reference that they must agree with. Hosts are split by parity.
struct World {
    shards: [Shard; 2],
    reference: Reference,
}

impl World {
    fn new() -> Self {
        let shard = |n| Shard::with_layout(site(n), SMALL);
        Self { shards: [shard(7), shard(3)], reference: Reference::default() }
    }

    fn apply(&mut self, changes: &[HostChange<String>]) {
        for (index, shard) in self.shards.iter_mut().enumerate() {
            let own: Vec<&HostChange<String>> =
                changes.iter().filter(|change| change.host_id().0.as_u128() % 2 == index as u128).collect();
            let mut expected = Applied::default();
            for change in &own {
                self.reference.apply(shard.site(), change, &mut expected);
            }
            let rows: Vec<_> = own.into_iter().map(as_row).collect();
            assert_eq!(shard.apply(&rows), expected);
        }
    }

    fn shards(&self) -> Vec<&Shard> {
        self.shards.iter().collect()
    }

    /// All pages by cursor, calling `between` after each.
    fn walk(
        &mut self,
        filter: &Filter,
        order_by: OrderBy,
        limit: usize,
        mut between: impl FnMut(&mut Self),
    ) -> Vec<HostId> {
        let (mut ids, mut start) = (Vec::new(), Start::default());
        loop {
            let page = search(&self.shards(), &Query::new(filter.clone(), order_by, limit, start).unwrap());
            ids.extend(page.rows.iter().map(|(_, host)| host.host_id));
            let Some(next) = page.next else { return ids };
            start = Start::After(next);
            between(self);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_page_of_any_query_is_the_references(
        batches in proptest::collection::vec(changes(), 1..8),
        steps in proptest::collection::vec(any::<bool>(), 8),
        queries in proptest::collection::vec((filters(), orders(), 1..40_usize, 0..200_u64), 1..12),
    ) {
        let mut world = World::new();
        for (batch, settle) in batches.iter().zip(steps) {
            world.apply(batch);
            for shard in &mut world.shards {
                while if settle { shard.settle_step() } else { shard.compact_step() } {}
            }
        }

        for (filter, order_by, limit, offset) in queries {
            let expected = world.reference.sorted(&filter, order_by);
            let page = search(&world.shards(), &Query::new(filter.clone(), order_by, limit, Start::Offset(offset)).unwrap());

            prop_assert_eq!(page.total, expected.len() as u64);
            prop_assert_eq!(count(&world.shards(), &filter), page.total);
            let expected_page: Vec<_> = expected.iter().skip(offset as usize).take(limit).cloned().collect();
            prop_assert_eq!(page.next.is_some(), offset as usize + limit < expected.len());
            prop_assert_eq!(page.rows, expected_page);
            let walked = world.walk(&filter, order_by, limit, |_| ());
            prop_assert_eq!(walked, expected.iter().map(|(_, host)| host.host_id).collect::<Vec<_>>());
        }
    }

    #[test]
    fn rows_counters_and_digests_are_a_recount(batches in proptest::collection::vec(changes(), 1..8)) {
        let mut world = World::new();
        for batch in &batches {
            world.apply(batch);
            let shards = world.shards();

            prop_assert_eq!(
                status_breakdown(&shards),
                world.reference.breakdown(|host| host.status.clone(), "unknown")
            );
            prop_assert_eq!(
                country_breakdown(&shards),
                world.reference.breakdown(|host| host.geo_country_code.clone(), "")
            );
            prop_assert_eq!(
                os_family_breakdown(&shards),
                world.reference.breakdown(|host| host.os_family.clone(), "unknown")
            );
            prop_assert_eq!(
                platform_breakdown(&shards),
                world.reference.breakdown(|host| host.platform.clone(), "unknown")
            );
            for n in 0..120 {
                let shard = &world.shards[n as usize % 2];
                let expected = world.reference.0.get(&host_id(n)).map(|(_, host)| host.clone());
                prop_assert_eq!(shard.contains(host_id(n)), expected.is_some());
                prop_assert_eq!(shard.get(host_id(n)), expected);
            }
        }

        for shard in &mut world.shards {
            let mut builder = Shard::builder(shard.site(), 0);
            shard.for_each_row(|row| builder.push(row));
            let rebuilt = builder.finish();
            let mut fresh = Shard::new(shard.site());
            let own = world.reference.0.values().filter(|(site, _)| *site == shard.site());
            let mut rows: Vec<_> = own.map(|(_, host)| HostChange::Upsert(host.as_row())).collect();
            rows.reverse();
            fresh.apply(&rows);
            let root = shard.root();
            while shard.settle_step() {}

            prop_assert_eq!(shard.len(), rows.len());
            prop_assert_eq!(shard.root(), root);
            prop_assert_eq!(shard.branches(), fresh.branches());
            prop_assert_eq!(rebuilt.root(), root);
            prop_assert_eq!(rebuilt.len(), rows.len());
            let leaves: Vec<u16> = (0..digest::LEAVES as u16).collect();
            prop_assert_eq!(shard.hosts_in_leaves(&leaves), fresh.hosts_in_leaves(&leaves));
        }
    }

    #[test]
    fn cursor_meets_every_row_that_stays_exactly_once(
        first in proptest::collection::vec(changes(), 1..4),
        disturbance in proptest::collection::vec(changes(), 1..6),
        (order_by, limit) in (orders(), 1..20_usize),
    ) {
        let mut world = World::new();
        for batch in &first {
            world.apply(batch);
        }
        let before = world.reference.clone();
        let mut batches = disturbance.iter();

        let walked = world.walk(&Filter::default(), order_by, limit, |world| {
            if let Some(batch) = batches.next() {
                world.apply(batch);
                for shard in &mut world.shards {
                    shard.settle_step();
                }
            }
        });

        let applied = disturbance.len() - batches.len();
        let touched: Vec<HostId> = disturbance[..applied].iter().flatten().map(HostChange::host_id).collect();
        let staying: Vec<HostId> = before.sorted(&Filter::default(), order_by).iter()
            .map(|(_, host)| host.host_id).filter(|id| !touched.contains(id)).collect();
        let met: Vec<HostId> = walked.into_iter().filter(|id| !touched.contains(id)).collect();
        prop_assert_eq!(met, staying);
    }
}

fn shard_of(hosts: &[Host]) -> Shard {
    let mut shard = Shard::new(site(1));
    let changes: Vec<_> = hosts.iter().map(|host| HostChange::Upsert(host.as_row())).collect();
    shard.apply(&changes);
    shard
}

fn named(n: u128, fqdn: &str) -> Host {
    Host { fqdn: fqdn.to_owned(), ..host(n) }
}

fn found(shard: &Shard, part: &str) -> Vec<String> {
    let filter = Filter { fqdn_contains: Some(part.to_owned()), ..Filter::default() };
    let query = Query::new(filter, OrderBy::Fqdn, 100, Start::default()).unwrap();
    search(&[shard], &query).rows.into_iter().map(|(_, host)| host.fqdn).collect()
}

#[test]
fn percent_and_underscore_mean_themselves() {
    let shard = shard_of(&[named(1, "a_b"), named(2, "a%b"), named(3, "axb"), named(4, "ab")]);

    assert_eq!(found(&shard, "a_b"), ["a_b"]);
    assert_eq!(found(&shard, "a%b"), ["a%b"]);
    assert_eq!(found(&shard, "%"), ["a%b"]);
}

#[test]
fn names_match_in_any_case_and_come_back_as_they_were() {
    let shard = shard_of(&[named(1, "MÜLLER.Example"), named(2, "müller.example"), named(3, "ΟΔΟΣ.gr")]);

    assert_eq!(found(&shard, "mÜll"), ["MÜLLER.Example", "müller.example"]);
    assert_eq!(found(&shard, "R.EX"), ["MÜLLER.Example", "müller.example"]);
    assert_eq!(found(&shard, "οδοΣ"), ["ΟΔΟΣ.gr"]);
}

#[test]
fn odd_addresses_are_kept_and_found_as_they_came() {
    let mut odd = host(1);
    odd.ipv4 = Some("10.0.0.01".to_owned());
    odd.ipv6 = Some("2001:DB8::1".to_owned());
    odd.public_ip = Some("x".repeat(45));
    let mut shard = shard_of(&[odd.clone(), host(2)]);
    let filter = Filter { ipv4_contains: Some("0.01".to_owned()), ..Filter::default() };

    assert_eq!(shard.get(odd.host_id), Some(odd.clone()));
    assert_eq!(count(&[&shard], &filter), 1);

    odd.ipv4 = Some("10.0.0.1".to_owned());
    shard.apply(&[HostChange::Upsert(odd.as_row())]);

    assert_eq!(shard.get(odd.host_id), Some(odd));
    assert_eq!(count(&[&shard], &filter), 0);
}

#[test]
fn row_equal_to_the_stored_one_changes_nothing() {
    let mut shard = shard_of(&[host(1)]);

    let applied = shard.apply(&[HostChange::Upsert(host(1).as_row()), HostChange::Remove(host_id(2))]);

    assert_eq!(applied, Applied::default());
}

#[test]
fn more_rows_and_values_than_a_segment_takes_spill_into_the_next() {
    let hosts: Vec<Host> =
        (0..66_000).map(|n| Host { tags_json: Some(format!("[\"{n}\"]")), ..host(n) }).collect();
    let mut shard = shard_of(&hosts);
    while shard.settle_step() {}

    // Each new set of tags takes a new code until no column has one left.
    for round in 0..2 {
        let changed =
            hosts[..3_000].iter().map(|host| Host { tags_json: Some(format!("{round}")), ..host.clone() });
        let changed: Vec<Host> = changed.collect();
        shard.apply(&changed.iter().map(|host| HostChange::Upsert(host.as_row())).collect::<Vec<_>>());
    }

    assert_eq!(shard.len(), 66_000);
    assert!(shard.segment_count() >= 2);
    assert_eq!(shard.get(host_id(2)).unwrap().tags_json.as_deref(), Some("1"));
    assert_eq!(shard.get(hosts[65_999].host_id).as_ref(), hosts.last());
    assert_eq!(found(&shard, "web-65999.").len(), 1);
    let page =
        search(&[&shard], &Query::new(Filter::default(), OrderBy::Fqdn, 2, Start::Offset(65_999)).unwrap());
    assert_eq!((page.rows.len(), page.total, page.next), (1, 66_000, None));
}

#[test]
fn merge_planned_before_a_change_is_not_installed_after_it() {
    let mut shard = Shard::with_layout(site(1), SMALL);
    for n in 0..2 {
        let hosts: Vec<Host> = (n * 40..n * 40 + 40).map(host).collect();
        shard.apply(&hosts.iter().map(|host| HostChange::Upsert(host.as_row())).collect::<Vec<_>>());
    }
    let plan = shard.plan_settling().unwrap();
    let merged = plan.build(&shard).unwrap();

    shard.apply(&[HostChange::Remove(host_id(1))]);

    assert!(!shard.install(merged));
    assert!(plan.build(&shard).is_none());
    assert_eq!(shard.len(), 79);
    assert!(shard.settle_step());
    assert_eq!(shard.segment_count(), 1);
    assert_eq!(shard.len(), 79);
}
