//! Hosts as a site would report them.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::http::Api;

/// The id of host `number` of site `site`.
pub fn host_id(site: u32, number: u32) -> String {
    Uuid::from_u128((u128::from(site) << 64) | 0x4000_8000_0000_0000 | u128::from(number)).to_string()
}

/// An entry with every column that a site sends (contract 6.2).
pub fn host(site: u32, number: u32) -> Value {
    json!({
        "host_id": host_id(site, number),
        "fqdn": format!("host-{number}.site-{site}.example.com"),
        "ipv4": format!("10.{site}.{}.{}", number / 250, number % 250 + 1),
        "os_family": "debian",
        "os_version": "13",
        "platform": "linux",
        "status": "up",
        "geo_country_code": "DE",
        "tags_json": "[\"web\"]",
    })
}

/// Every row that a list holds, by id, page by page. `path` is a list of hosts without a query.
///
/// # Panics
/// A host is listed twice, or the total is not the number of rows.
pub async fn rows_of(api: &Api, path: &str) -> BTreeMap<String, Value> {
    let mut rows = BTreeMap::new();
    let mut cursor = String::new();
    loop {
        let page = api.get(&format!("{path}?limit=1000{cursor}")).await.ok();
        let items = page.get("hosts").or_else(|| page.get("items")).and_then(Value::as_array).cloned();
        for row in items.unwrap_or_default() {
            let id = row["host_id"].as_str().unwrap_or_default().to_owned();
            assert!(rows.insert(id.clone(), row).is_none(), "{id} is listed twice by {path}");
        }
        let Some(next) = page["next_cursor"].as_str() else {
            assert_eq!(page["total"].as_u64(), Some(rows.len() as u64), "total of {path}");
            return rows;
        };
        cursor = format!("&cursor={next}");
    }
}
