//! What a generated fleet promises.

use std::collections::BTreeMap;

use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_795_000_000);

/// Applies changes to an inventory as a site does.
fn apply(held: &mut BTreeMap<HostId, Host>, changes: Vec<Change>, now: Timestamp) {
    for change in changes {
        match change {
            Change::Upsert(entry) => {
                let host_id: HostId = entry.host_id.parse().unwrap();
                let stored = held.get(&host_id).map(Host::as_row);
                let row = entry.merge(stored, now).unwrap();
                held.insert(host_id, row);
            }
            Change::Remove(host_id) => assert!(held.remove(&host_id).is_some(), "{host_id} was not held"),
        }
    }
}

fn begin(fleet: &Fleet) -> BTreeMap<HostId, Host> {
    let mut held = BTreeMap::new();
    apply(&mut held, fleet.initial(NOW).into_iter().map(Change::Upsert).collect(), NOW);
    held
}

fn later(ticks: u64) -> Timestamp {
    NOW.after(Duration::from_secs(ticks))
}

#[test]
fn same_seed_makes_the_same_fleet_and_the_same_life() {
    let (mut one, mut other) = (Fleet::new(7, 300, 1), Fleet::new(7, 300, 1));

    assert_eq!(one.initial(NOW), other.initial(NOW));
    for ticks in 0..50 {
        assert_eq!(one.tick(later(ticks)), other.tick(later(ticks)));
    }
    assert_ne!(Fleet::new(8, 300, 1).host(300), one.host(300));
}

#[test]
fn rows_have_about_300_bytes() {
    let fleet = Fleet::new(42, 1_000, 0);

    let total: usize = (0..1_000).map(|number| postcard::to_stdvec(&fleet.host(number)).unwrap().len()).sum();

    let average = total / 1_000;
    assert!((280..=320).contains(&average), "{average}");
}

#[test]
fn every_row_keeps_its_bounds_and_ids_differ() {
    let ids: BTreeSet<_> = (0..4)
        .flat_map(|site_index| {
            let fleet = Fleet::new(42, 500, site_index);
            fleet.numbers().map(move |number| fleet.host(number)).collect::<Vec<_>>()
        })
        .map(|host| {
            assert_eq!(host.validate(), Ok(()));
            host.host_id
        })
        .collect();

    assert_eq!(ids.len(), 2_000);
}

#[test]
fn patterns_hit_what_they_promise() {
    // Five sites of 88,000: a multiple of 8,000 hosts that holds number 424,242.
    let (sites, hosts) = (5, 88_000);
    let mut hits = [0; Pattern::ALL.len()];

    for fleet in (0..sites).map(|site_index| Fleet::new(1, hosts, site_index)) {
        for number in fleet.numbers() {
            let fqdn = fleet.host(number).fqdn;
            for (hits, pattern) in hits.iter_mut().zip(Pattern::ALL) {
                *hits += u64::from(fqdn.contains(pattern.text()));
            }
        }
    }

    assert_eq!(hits, Pattern::ALL.map(|pattern| pattern.hits(sites * hosts)));
}

#[test]
fn pattern_is_found_by_its_hits_in_a_million() {
    for (hits, text) in [(0, "cache-0424242"), (1, "-0424242."), (1_000, ".r042."), (125_000, "cache-")] {
        assert_eq!(pattern_with(hits), Some(text));
    }
    assert_eq!(pattern_with(17), None);
}

#[test]
fn fleet_lives_and_keeps_its_size() {
    let mut fleet = Fleet::new(3, 400, 2);
    let first = begin(&fleet);
    let mut held = first.clone();

    for ticks in 0..500 {
        let changes = fleet.tick(later(ticks));
        assert!(changes.len() <= 6, "{}", changes.len());
        apply(&mut held, changes, later(ticks));
    }

    let kept: Vec<_> = held.values().filter_map(|host| Some((host, first.get(&host.host_id)?))).collect();
    let changed =
        |differs: fn(&Host, &Host) -> bool| kept.iter().filter(|(new, old)| differs(new, old)).count();
    assert_eq!(held.len(), fleet.len());
    assert!((360..=440).contains(&held.len()), "{}", held.len());
    assert!(kept.len() < held.len(), "hosts come");
    assert!(kept.len() < first.len(), "hosts go");
    assert!(changed(|new, old| new.ipv4 != old.ipv4) > 0, "hosts move");
    assert!(changed(|new, old| new.os_version != old.os_version) > 0, "hosts are patched");
    assert!(changed(|new, old| new.status != old.status) > 0, "hosts change state");
    assert!(changed(|new, old| new.tags_json != old.tags_json) > 0, "hosts change tags");
    assert!(changed(|new, old| new.last_seen != old.last_seen) > 0, "hosts report");
}

#[test]
fn fleet_carries_on_from_what_its_site_holds() {
    let mut fleet = Fleet::new(3, 200, 2);
    let mut held = begin(&fleet);
    for ticks in 0..200 {
        apply(&mut held, fleet.tick(later(ticks)), later(ticks));
    }
    let foreign = Host { fqdn: "db-0000001.other.example.com".to_owned(), ..Fleet::new(9, 1, 0).host(0) };

    let mut resumed = Fleet::carry_on(3, 200, 2, held.values().chain([&foreign]));

    assert_eq!(resumed.len(), held.len());
    for ticks in 200..400 {
        apply(&mut held, resumed.tick(later(ticks)), later(ticks));
    }
    assert_eq!(resumed.len(), held.len());
}

#[test]
fn empty_fleet_does_not_divide_by_nothing() {
    let mut fleet = Fleet::new(3, 0, 0);

    assert!(fleet.initial(NOW).is_empty());
    assert!(fleet.tick(NOW).iter().all(|change| matches!(change, Change::Upsert(_))));
}
