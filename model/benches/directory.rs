//! Figures of the host index at a million rows, one JSON line each, beside a linear scan of the same names.
//! Loads are in processor time, searches the median of wall time; all on one thread.
//!
//! `cargo bench -p hansa-model` runs both layouts; `-- SHARDS HOSTS` one of them, and `load` no searches.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::unwrap_used, reason = "a benchmark stops at the first surprise")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use hansa_model::directory::{
    Filter, OrderBy, Query, Shard, Start, count, country_breakdown, search, status_breakdown,
};
use hansa_model::{Host, HostChange, HostId, HostRow, SiteId, Timestamp};
use memchr::memmem::Finder;
use uuid::Uuid;

const ROLES: [&str; 8] = ["web", "api", "db", "cache", "queue", "batch", "mail", "edge"];
const PLACES: [(&str, &str, &str, f64, f64); 8] = [
    ("fra1", "DE", "Frankfurt am Main", 50.11, 8.68),
    ("ham1", "DE", "Hamburg", 53.55, 9.99),
    ("ams1", "NL", "Amsterdam", 52.36, 4.90),
    ("lon1", "GB", "London", 51.50, -0.12),
    ("iad1", "US", "Ashburn", 39.04, -77.48),
    ("nrt1", "JP", "Tokyo", 35.67, 139.65),
    ("gru1", "BR", "São Paulo", -23.55, -46.63),
    ("syd1", "AU", "Sydney", -33.86, 151.20),
];

/// A number that looks random, the same for the same input.
fn mixed(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

/// A host of about 300 B in postcard; eight roles, a thousand racks, tags that few hosts share.
fn host(site: u64, number: u64) -> Host {
    let chance = mixed(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let pick = |shift: u32, count: u64| (chance >> shift) % count;
    let role = ROLES[(number % 8) as usize];
    let rack = number / 8 % 1_000;
    let stage = ["prod", "prod", "prod", "staging", "test"][pick(8, 5) as usize];
    let (region, country, city, latitude, longitude) = PLACES[((site + rack) % 8) as usize];
    let os =
        [("debian", "12.9"), ("ubuntu", "24.04"), ("rhel", "9.5"), ("windows", "2025")][pick(12, 4) as usize];
    let seen = Timestamp::from_micros(1_767_225_600_000_000 + (mixed(chance) % 2_592_000_000_000) as i64);
    Host {
        host_id: HostId(Uuid::from_u64_pair(chance, mixed(chance))),
        fqdn: format!("{role}-{number:07}.r{rack:03}.{region}.{stage}.example.com"),
        ipv4: Some(format!("10.{}.{}.{}", pick(0, 256), pick(8, 256), pick(16, 254) + 1)),
        ipv6: Some(format!(
            "2001:db8:{site:x}:{rack:x}::{:x}:{:x}",
            pick(20, 60_000) + 1,
            pick(36, 60_000) + 1
        )),
        public_ip: (number % 8 > 5).then(|| format!("203.0.113.{}", pick(16, 254) + 1)),
        os_family: Some(os.0.to_owned()),
        os_version: Some(os.1.to_owned()),
        platform: Some(if os.0 == "windows" { "windows" } else { "linux" }.to_owned()),
        status: Some(["up", "down", "degraded"][(pick(24, 50) as usize).saturating_sub(47)].to_owned()),
        last_seen: Some(seen),
        tags_json: Some(format!(
            r#"["{role}","{stage}","rack:r{rack:03}","kernel:6.{}.0-amd64","owner:team-{:02}","patch-window:sun-{:02}00","backup:nightly"]"#,
            pick(28, 9),
            pick(32, 40),
            pick(40, 24),
        )),
        geo_country_code: Some(country.to_owned()),
        geo_subdivision_code: Some(format!("{country}-{}", pick(44, 3))),
        geo_city: Some(city.to_owned()),
        geo_latitude: Some(latitude),
        geo_longitude: Some(longitude),
        mtime: seen,
    }
}

/// Prints one figure as a JSON line.
fn report(layout: &str, what: &str, value: f64, unit: &str) {
    println!(r#"{{"layout":"{layout}","what":"{what}","value":{value:.3},"unit":"{unit}"}}"#);
}

/// Median time of one call, of as many as fit into about 300 ms, at least five.
fn median<R>(mut call: impl FnMut() -> R) -> Duration {
    let mut times = Vec::new();
    let begin = Instant::now();
    while times.len() < 5 || begin.elapsed() < Duration::from_millis(300) {
        let start = Instant::now();
        black_box(call());
        times.push(start.elapsed());
    }
    times.sort_unstable();
    times[times.len() / 2]
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Time that this thread has had a processor: unlike wall time, it is not lengthened by whatever else runs.
fn busy() -> Duration {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = schedstat.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

/// Every site's rows in postcard, as a store would hand them over.
struct Stored {
    sites: Vec<Vec<u8>>,
    hosts: u64,
}

impl Stored {
    fn generate(shards: u64, hosts: u64) -> Self {
        let of_site = |site: u64| {
            let mut numbers: Vec<u64> = (hosts * site / shards..hosts * (site + 1) / shards).collect();
            numbers.sort_by_key(|&number| mixed(number));
            let mut bytes = Vec::new();
            for number in numbers {
                bytes = postcard::to_extend(&host(site, number), bytes).unwrap();
            }
            bytes
        };
        Self { sites: (0..shards).map(of_site).collect(), hosts }
    }

    fn rows(bytes: &[u8]) -> impl Iterator<Item = HostRow<'_>> {
        let mut rest = bytes;
        std::iter::from_fn(move || {
            let (row, after) = (!rest.is_empty()).then(|| postcard::take_from_bytes(rest).unwrap())?;
            rest = after;
            Some(row)
        })
    }
}

fn site(number: usize) -> SiteId {
    SiteId(Uuid::from_u128(number as u128))
}

fn ingest(layout: &str, stored: &Stored) -> Vec<Shard> {
    let (mut shards, mut applying, mut merging, mut longest) =
        (Vec::new(), Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let mut longest_install = Duration::ZERO;
    for (number, bytes) in stored.sites.iter().enumerate() {
        let mut shard = Shard::new(site(number));
        let changes: Vec<_> = Stored::rows(bytes).map(HostChange::Upsert).collect();
        for batch in changes.chunks(1_000) {
            let start = busy();
            shard.apply(batch);
            applying += busy() - start;
            while let Some(plan) = shard.plan_merge() {
                let start = busy();
                let merged = plan.build(&shard).unwrap();
                let built = busy();
                shard.install(merged);
                longest_install = longest_install.max(busy() - built);
                longest = longest.max(busy() - start);
                merging += busy() - start;
            }
        }
        shards.push(shard);
    }
    let per_second = stored.hosts as f64 / (applying + merging).as_secs_f64();
    report(layout, "new rows in batches of 1,000, merges included", per_second, "rows/s");
    report(layout, "share of it in merges", merging.as_secs_f64() / (applying + merging).as_secs_f64(), "1");
    report(layout, "longest merge", millis(longest), "ms");
    report(layout, "longest installation of a merge", millis(longest_install), "ms");
    report(
        layout,
        "segments after ingest",
        shards.iter().map(Shard::segment_count).sum::<usize>() as f64,
        "1",
    );
    shards
}

/// New rows, each a batch of its own, as single records come in.
fn trickle(layout: &str, stored: &Stored) {
    let mut shard = Shard::new(site(0));
    let changes: Vec<_> = Stored::rows(&stored.sites[0]).map(HostChange::Upsert).take(10_000).collect();
    let start = busy();
    for change in changes.chunks(1) {
        shard.apply(change);
        shard.compact_step();
    }
    report(
        layout,
        "new rows one by one, merges included",
        changes.len() as f64 / (busy() - start).as_secs_f64(),
        "rows/s",
    );
}

fn update(layout: &str, stored: &Stored, shards: &mut [Shard]) {
    let mut spent = Duration::ZERO;
    let mut rows = 0;
    for (shard, bytes) in shards.iter_mut().zip(&stored.sites) {
        let changed =
            Stored::rows(bytes).step_by(4).map(|row| HostRow { status: Some("maintenance"), ..row });
        let changes: Vec<_> = changed.map(HostChange::Upsert).collect();
        for batch in changes.chunks(1_000) {
            let start = busy();
            shard.apply(batch);
            spent += busy() - start;
            rows += batch.len();
        }
    }
    report(layout, "updates with unchanged names", rows as f64 / spent.as_secs_f64(), "rows/s");
}

/// Builds the shards from the sites' rows five times, and reports the median.
fn build(layout: &str, what: &str, sites: &[Vec<u8>], hosts: u64) -> Vec<Shard> {
    let (mut shards, mut times) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        drop(std::mem::take(&mut shards));
        let start = busy();
        for (number, bytes) in sites.iter().enumerate() {
            let mut builder = Shard::builder(site(number), hosts as usize / sites.len());
            Stored::rows(bytes).for_each(|row| builder.push(&row));
            shards.push(builder.finish());
        }
        times.push(busy() - start);
    }
    times.sort_unstable();
    report(layout, what, millis(times[2]), "ms");
    shards
}

fn rebuild(layout: &str, stored: &Stored) -> Vec<Shard> {
    let start = busy();
    let longest = stored.sites.iter().flat_map(|bytes| Stored::rows(bytes)).map(|row| row.fqdn.len()).max();
    black_box(longest);
    report(layout, "decoding all rows, which a rebuild includes", millis(busy() - start), "ms");
    let shards = build(layout, "rebuild from rows in random order", &stored.sites, stored.hosts);
    let ordered = |shard: &Shard| {
        let mut bytes = Vec::new();
        shard.for_each_row(|row| bytes = postcard::to_extend(row, std::mem::take(&mut bytes)).unwrap());
        bytes
    };
    let ordered: Vec<Vec<u8>> = shards.iter().map(ordered).collect();
    drop(shards);
    let shards = build(layout, "rebuild from rows in the index's order", &ordered, stored.hosts);
    let bytes: usize = shards.iter().map(Shard::memory_bytes).sum();
    report(layout, "memory by own account", bytes as f64 / stored.hosts as f64, "B/host");
    shards
}

fn query(filter: Filter, order_by: OrderBy, limit: usize, start: Start) -> Query {
    Query::new(filter, order_by, limit, start).unwrap()
}

fn named(text: &str) -> Filter {
    Filter { fqdn_contains: Some(text.to_owned()), ..Filter::default() }
}

/// Looks at every name, which is what the index is measured against.
fn scan(layout: &str, shards: &[&Shard], text: &str) {
    let (mut names, mut ends) = (String::new(), Vec::new());
    for shard in shards {
        shard.for_each_row(|row| {
            names.push_str(row.fqdn);
            names.push('\n');
            ends.push(names.len());
        });
    }
    let finder = Finder::new(text);
    let hits = || {
        let (mut hits, mut from) = (0_u64, 0);
        for &end in &ends {
            hits += u64::from(finder.find(&names.as_bytes()[from..end]).is_some());
            from = end;
        }
        hits
    };
    report(layout, &format!("linear scan for {text}"), millis(median(hits)), "ms");
}

fn searches(layout: &str, shards: &[Shard]) {
    let shards: Vec<&Shard> = shards.iter().collect();
    let timed = |what: &str, query: &Query| {
        let total = search(&shards, query).total;
        report(layout, &format!("{what}, {total} hits"), millis(median(|| search(&shards, query))), "ms");
    };
    for text in ["cache-0424242", "-0424242.", ".r042.", "cache-", "db", "e", "fra1", "1.r0"] {
        timed(&format!("fqdn_contains {text}"), &query(named(text), OrderBy::Fqdn, 50, Start::default()));
        scan(layout, &shards, text);
        let filter = Filter { free_text: Some(text.to_owned()), ..Filter::default() };
        timed(&format!("free_text {text}"), &query(filter, OrderBy::Fqdn, 50, Start::default()));
    }
    for text in ["10.1", "203.0", "7", "255.255"] {
        let filter = Filter { free_text: Some(text.to_owned()), ..Filter::default() };
        timed(&format!("free_text {text}"), &query(filter, OrderBy::Fqdn, 50, Start::default()));
    }
    let down = Filter { status: Some("down".to_owned()), ..Filter::default() };
    let several = Filter {
        platform: Some("linux".to_owned()),
        geo_country_code: Some("DE".to_owned()),
        ..down.clone()
    };
    let recent = Filter { last_seen_after: Some(Timestamp::from_secs(1_769_000_000)), ..Filter::default() };
    for (what, filter) in [("status", &down), ("three labels", &several), ("last_seen_after", &recent)] {
        timed(&format!("filter by {what}"), &query(filter.clone(), OrderBy::Fqdn, 50, Start::default()));
        report(layout, &format!("count by {what}"), millis(median(|| count(&shards, filter))), "ms");
    }
    report(layout, "status breakdown", millis(median(|| status_breakdown(&shards))), "ms");
    report(layout, "country breakdown", millis(median(|| country_breakdown(&shards))), "ms");
    for order_by in OrderBy::ALL {
        timed(&format!("all by {order_by}"), &query(Filter::default(), order_by, 50, Start::default()));
        timed(
            &format!("all by {order_by} from 500,000"),
            &query(Filter::default(), order_by, 50, Start::Offset(500_000)),
        );
    }
    let deep = query(Filter::default(), OrderBy::Fqdn, 50, Start::Offset(499_950));
    let next = search(&shards, &deep).next.unwrap();
    timed("page 10,000 by cursor", &query(Filter::default(), OrderBy::Fqdn, 50, Start::After(next)));
}

fn measure(shards: u64, hosts: u64) {
    let layout = format!("{hosts} hosts in {shards} shards");
    let stored = Stored::generate(shards, hosts);
    let bytes: usize = stored.sites.iter().map(Vec::len).sum();
    report(&layout, "row in postcard", bytes as f64 / hosts as f64, "B");
    let shards = rebuild(&layout, &stored);
    trickle(&layout, &stored);
    let mut grown = ingest(&layout, &stored);
    update(&layout, &stored, &mut grown);
    let all: Vec<&Shard> = grown.iter().collect();
    let grown_search = query(named("-0424242."), OrderBy::Fqdn, 50, Start::default());
    report(&layout, "one hit right after ingest", millis(median(|| search(&all, &grown_search))), "ms");
    drop(grown);
    if !std::env::args().any(|argument| argument == "load") {
        searches(&layout, &shards);
    }
}

fn main() {
    let numbers: Vec<u64> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    match *numbers {
        [shards, hosts] => measure(shards, hosts),
        _ => [64, 1].into_iter().for_each(|shards| measure(shards, 1_000_000)),
    }
}
