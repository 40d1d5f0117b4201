//! Figures of the audit log's columns at 200,000 entries, one JSON line each: building them from stored
//! bytes, a filtered page with its exact total, and an entry by its id. All on one thread.
//!
//! `cargo bench -p hansa-model --bench audit`; the number of entries may be given behind `--`.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::unwrap_used, reason = "a benchmark stops at the first surprise")]

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::time::Instant;

use hansa_model::audit::{AuditDraft, AuditEntry, AuditFilter, AuditHead};
use hansa_model::machine::audit_index::AuditIndex;
use hansa_model::scope::Operator;
use hansa_model::{AuditId, SiteId, Timestamp};
use uuid::Uuid;

const OPERATIONS: [&str; 5] =
    ["command_dispatched", "command_status_changed", "policy_pushed", "site_updated", "site_suspended"];
const ROUNDS: u32 = 20;

fn main() {
    let entries = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(200_000);
    let stored: Vec<Vec<u8>> =
        (1..=entries).map(|number| postcard::to_stdvec(&entry(number)).unwrap()).collect();

    let start = Instant::now();
    let mut index = AuditIndex::default();
    for bytes in &stored {
        index.push(&AuditHead::of(bytes).unwrap()).unwrap();
    }
    figure("build_ms", start.elapsed().as_secs_f64() * 1e3);

    let everyone =
        Operator { userid: String::new(), scopes: BTreeSet::new(), sites: None, tenancy: Default::default() };
    let confined = Operator { sites: Some((0..10).map(site).collect()), ..everyone.clone() };
    let by_operation = AuditFilter { operation: Some(OPERATIONS[3].to_owned()), ..AuditFilter::default() };
    for (name, operator, filter) in [
        ("page_all_us", &everyone, AuditFilter::default()),
        ("page_operation_us", &everyone, by_operation),
        ("page_confined_us", &confined, AuditFilter::default()),
    ] {
        timed(name, || drop(black_box(index.select(operator, &filter, 100, 100))));
    }
    timed("find_us", || drop(black_box(index.candidates(AuditId(Uuid::from_u128(7))))));
}

fn timed(name: &str, mut work: impl FnMut()) {
    let start = Instant::now();
    for _ in 0..ROUNDS {
        work();
    }
    figure(name, start.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS));
}

fn figure(name: &str, value: f64) {
    println!("{{\"bench\":\"audit\",\"figure\":\"{name}\",\"value\":{value:.1}}}");
}

fn entry(number: u64) -> AuditEntry {
    AuditEntry {
        number,
        draft: AuditDraft {
            id: AuditId(Uuid::from_u64_pair(number, number.wrapping_mul(0x9e37_79b9_7f4a_7c15))),
            created_at: Timestamp::from_secs(i64::try_from(number).unwrap()),
            operation: OPERATIONS[(number % 5) as usize].to_owned(),
            actor_userid: Some(format!("operator-{}@example.com", number % 40)),
            target_site_id: Some(site(number % 1_000)),
            target_site_name: Some(format!("site-{}", number % 1_000)),
            target_host_id: None,
            details: BTreeMap::from([("command_id".to_owned(), "0190".into())]),
        },
        hash: [7; 32],
    }
}

fn site(number: u64) -> SiteId {
    SiteId(Uuid::from_u128(number.into()))
}
