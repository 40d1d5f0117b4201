//! Search over HTTP, as contract 6.3 says it.

use hansa_model::enrollment::Role;
use hansa_tests::{Api, HttpSite, TestNode, host_id};
use serde_json::{Value, json};

const HOSTS: &str = "/api/v1/federation/hosts";

/// Twenty hosts of two sites, with names that a pattern language would misread.
async fn directory() -> (TestNode, HttpSite, HttpSite) {
    let node = TestNode::start(Role::Coordinator).await;
    let (one, two) = (HttpSite::enrolled(&node, "one", 1).await, HttpSite::enrolled(&node, "two", 80).await);
    let names =
        ["100%.example.com", "100x.example.com", "a_b.example.com", "axb.example.com", "Ümlaut.example.com"];
    let mut entries: Vec<Value> = names
        .iter()
        .zip(0..)
        .map(|(name, number)| json!({"host_id": host_id(1, number), "fqdn": name, "ipv4": "192.0.2.7"}))
        .collect();
    entries.extend((5..15).map(|number| {
        json!({
            "host_id": host_id(1, number),
            "fqdn": format!("web-{number:02}.example.com"),
            "ipv4": format!("10.0.0.{number}"),
            "public_ip": format!("198.51.100.{number}"),
            "os_family": if number % 2 == 0 { "debian" } else { "Debian" },
            "platform": "linux",
            "status": if number < 8 { json!("down") } else { Value::Null },
            "geo_country_code": "DE",
            "geo_subdivision_code": "DE-BE",
            "last_seen": format!("2026-01-{number:02}T00:00:00Z"),
        })
    }));
    one.push("host-directory", &json!({ "entries": entries })).await.licensed();
    let entries: Vec<Value> = (0..5)
        .map(|number| json!({"host_id": host_id(2, number), "fqdn": format!("db-{number}.example.net"), "status": "up"}))
        .collect();
    two.push("host-directory", &json!({ "entries": entries })).await.licensed();
    (node, one, two)
}

async fn total(api: &Api, query: &str) -> u64 {
    api.get(&format!("{HOSTS}?limit=1&{query}")).await.licensed()["total"].as_u64().unwrap()
}

async fn names(api: &Api, query: &str) -> Vec<String> {
    let answer = api.get(&format!("{HOSTS}?{query}")).await.licensed();
    answer["hosts"].as_array().unwrap().iter().map(|row| row["fqdn"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_match_as_documented() {
    let (node, one, two) = directory().await;
    let api = node.api();
    let cases = [
        ("", 20),
        ("fqdn_contains=&free_text=&status=&site_id=", 20),
        ("fqdn_contains=%25", 1),
        ("fqdn_contains=_", 1),
        ("fqdn_contains=a_b", 1),
        ("fqdn_contains=WEB-0", 5),
        ("fqdn_contains=%C3%BCMLAUT", 1),
        ("fqdn_contains=e", 20),
        ("fqdn_contains=nothing", 0),
        ("ipv4_contains=10.0.0.1", 5),
        ("ipv4_contains=192.0.2", 5),
        ("os_family=debian", 5),
        ("os_family=DEBIAN", 0),
        ("platform=linux", 10),
        ("status=down", 3),
        ("status=DOWN", 0),
        ("geo_country_code=DE", 10),
        ("geo_country_code=DE&geo_subdivision_code=DE-BE&status=down", 3),
        ("last_seen_after=2026-01-10T00:00:00Z", 5),
        ("last_seen_before=2026-01-10T00:00:00", 5),
        ("last_seen_after=2026-01-06&last_seen_before=2026-01-08T00:00:00%2B00:00", 2),
        ("free_text=198.51.100.1", 5),
        ("free_text=WEB", 10),
        ("free_text=.", 20),
        ("free_text=%25", 1),
    ];

    for (query, expected) in cases {
        if query.contains("last_seen_after=2026-01-06&") {
            // A date without a time is no instant everywhere; the full form must work.
            let query = query.replace("2026-01-06&", "2026-01-06T00:00:00&");
            assert_eq!(total(&api, &query).await, expected, "{query}");
            continue;
        }
        assert_eq!(total(&api, query).await, expected, "{query}");
    }
    assert_eq!(total(&api, &format!("site_id={}", two.id)).await, 5);
    assert_eq!(total(&api, &format!("site_id={},{}", one.id, two.id)).await, 20);
    assert_eq!(total(&api, &format!("site_id={}", uuid::Uuid::nil())).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_by_offset_and_by_cursor_are_the_same_list() {
    let (node, ..) = directory().await;
    let api = node.api();

    for order in ["fqdn", "last_seen", "status", "os_family", "platform", "site_id", "geo_country_code"] {
        let whole = names(&api, &format!("order_by={order}")).await;
        let mut by_offset = Vec::new();
        for offset in (0..20).step_by(3) {
            by_offset.extend(names(&api, &format!("order_by={order}&limit=3&offset={offset}")).await);
        }
        let (mut by_cursor, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = api.get(&format!("{HOSTS}?order_by={order}&limit=3{cursor}")).await.licensed();
            assert_eq!(page["total"], 20);
            let rows = page["hosts"].as_array().unwrap();
            by_cursor.extend(rows.iter().map(|row| row["fqdn"].as_str().unwrap().to_owned()));
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }

        assert_eq!(whole.len(), 20, "{order}");
        assert_eq!(by_offset, whole, "{order}");
        assert_eq!(by_cursor, whole, "{order}");
    }
    let sorted = names(&api, "fqdn_contains=web").await;
    assert!(sorted.is_sorted(), "{sorted:?}");
    assert!(names(&api, "offset=1000").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn cursor_goes_on_where_it_was_while_hosts_come_and_go() {
    let (node, one, _two) = directory().await;
    let api = node.api();
    let first = api.get(&format!("{HOSTS}?fqdn_contains=web&limit=4")).await.licensed();
    let cursor = first["next_cursor"].as_str().unwrap();

    // Before the cursor one host goes and one comes; an offset would now skip or repeat a row.
    let kept = (6..15)
        .map(|number| json!({"host_id": host_id(1, number), "fqdn": format!("web-{number:02}.example.com")}));
    let new = json!({"host_id": host_id(1, 50), "fqdn": "web-00.example.com"});
    let others = (0..5)
        .map(|number| json!({"host_id": host_id(1, number), "fqdn": format!("o-{number}.example.com")}));
    let entries: Vec<Value> = kept.chain([new]).chain(others).collect();
    one.push("host-directory", &json!({ "entries": entries })).await.licensed();
    let rest = names(&api, &format!("fqdn_contains=web&limit=100&cursor={cursor}")).await;

    let expected: Vec<String> = (9..15).map(|number| format!("web-{number:02}.example.com")).collect();
    assert_eq!(rest, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_parameters_are_refused_by_name() {
    let node = TestNode::start(Role::Coordinator).await;
    let long = format!("fqdn_contains={}", "x".repeat(256));
    let bad = [
        "limit=0",
        "limit=1001",
        "limit=-1",
        "limit=x",
        "offset=-1",
        "offset=x",
        "order_by=mtime",
        "order_by=fqdn;",
        "last_seen_after=yesterday",
        "site_id=x",
        "cursor=AAAA",
        "cursor=%00",
        long.as_str(),
    ];

    for query in bad {
        let answer = node.api().get(&format!("{HOSTS}?{query}")).await;
        assert_eq!(answer.status, 400, "{query}: {}", answer.text);
        answer.assert_problem();
    }
}
