//! Facts of Ansible's `setup` module, one host at a time.
//!
//! Four shapes are written by the tools: `--tree` files (`{"ansible_facts":{…},"changed":false}`), fact caches
//! of `cache_plugin = jsonfile` up to ansible-core 2.18 (the bare facts, named by the host), the same since
//! 2.19 (`s1_HOST`, the facts as JSON text in `__payload__`), and dumps of the variable `ansible_facts`, whose
//! names lack the prefix. Windows hosts answer with fewer and other facts.

use hansa_model::host::{HostEntry, Patch};
use hansa_model::{HostId, Timestamp};
use serde_json::{Map, Value};

use super::{BadRowReason, Imported, Place, from_json};
use crate::input::address::{self, InterfaceAddress};
use crate::input::{identity, os, tags_json};

/// What the fact cache of ansible-core 2.19 and later puts before the host's name.
const CACHE_SCHEMA_PREFIX: &str = "s1_";
/// What `setup` writes where firmware tells nothing or may not be asked.
const UNKNOWN: [&str; 3] = ["", "NA", "N/A"];

/// Whether an object is one of the shapes above.
pub(super) fn is_facts(object: &Value) -> bool {
    let Value::Object(members) = object else { return false };
    members.keys().any(|name| name.starts_with("ansible_") || name == "__payload__")
        || (members.contains_key("unreachable") && members.contains_key("changed"))
        || (members.contains_key("distribution") && members.contains_key("default_ipv4"))
}

/// Reads one host's file; `name` is the file's name, which is the host's name in the inventory.
pub(super) fn parse_file(name: &str, bytes: &[u8], imported: &mut Imported) {
    let place = Place::File(name.to_owned());
    match facts(bytes).and_then(|facts| entry(name, &facts)) {
        Ok(entry) => imported.take(place, entry),
        Err(reason) => imported.refuse(place, reason),
    }
}

/// Unwraps the shapes to the facts themselves.
fn facts(bytes: &[u8]) -> Result<Facts, BadRowReason> {
    let mut document: Map<String, Value> = from_json(bytes)?;
    if let Some(Value::String(payload)) = document.get("__payload__") {
        document = from_json(payload.as_bytes())?;
    }
    if let Some(Value::Object(facts)) = document.remove("ansible_facts") {
        return Ok(Facts(facts));
    }
    if is_facts(&Value::Object(document.clone())) && !document.contains_key("unreachable") {
        return Ok(Facts(document));
    }
    Err(BadRowReason::NoFacts)
}

/// One host's facts, read by their names without the prefix.
struct Facts(Map<String, Value>);

impl Facts {
    fn value(&self, name: &str) -> Option<&Value> {
        self.0.get(&format!("ansible_{name}")).or_else(|| self.0.get(name))
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.value(name)?.as_str().map(str::trim).filter(|text| !UNKNOWN.contains(text))
    }

    fn texts(&self, name: &str) -> impl Iterator<Item = &str> {
        self.value(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    }

    fn member<'a>(&'a self, name: &str, member: &str) -> Option<&'a str> {
        self.value(name)?.get(member)?.as_str()
    }
}

fn entry(name: &str, facts: &Facts) -> Result<HostEntry, BadRowReason> {
    let hint = "gather facts with the subset `all` or `network`";
    let fqdn = fqdn(name, facts).ok_or(BadRowReason::Nameless { hint })?;
    let addresses = address::choose(&addresses(facts));
    let distribution = facts.text("distribution").or_else(|| facts.text("os_family"));
    Ok(HostEntry {
        host_id: host_id(&fqdn, facts).to_string(),
        ipv4: addresses.ipv4.map(Some),
        ipv6: addresses.ipv6.map(Some),
        os_family: distribution.and_then(os::family).map(Some),
        os_version: facts.text("distribution_version").and_then(os::version).map(Some),
        platform: facts.text("system").and_then(os::platform).map(Some),
        last_seen: gathered_at(facts),
        tags_json: tags(facts),
        fqdn: Some(fqdn),
        ..HostEntry::default()
    })
}

/// The machine id goes first because the local collector uses it: both name one machine alike.
fn host_id(fqdn: &str, facts: &Facts) -> HostId {
    let machine_id = facts.text("machine_id").and_then(identity::from_machine_id);
    let hardware = || facts.text("product_uuid").and_then(identity::from_hardware_uuid);
    machine_id.or_else(hardware).unwrap_or_else(|| identity::from_fqdn(fqdn))
}

/// A resolver that is set up badly makes `ansible_fqdn` a `localhost`; then the inventory knows better.
fn fqdn(name: &str, facts: &Facts) -> Option<String> {
    let inventory_name = name.strip_prefix(CACHE_SCHEMA_PREFIX).unwrap_or(name);
    let inventory_name = inventory_name.strip_suffix(".json").unwrap_or(inventory_name);
    let is_address = inventory_name.parse::<std::net::IpAddr>().is_ok();
    let names = [
        facts.text("fqdn"),
        facts.text("nodename"),
        Some(inventory_name).filter(|name| !is_address && !name.is_empty()),
        facts.text("hostname"),
    ];
    let mut candidates = names.into_iter().flatten().filter(|name| !is_own_name(name));
    let whole = candidates.clone().find(|name| name.contains('.'));
    whole.or_else(|| candidates.next()).map(str::to_owned)
}

/// The names by which every machine calls itself.
fn is_own_name(name: &str) -> bool {
    let first = name.split('.').next().unwrap_or(name);
    first.eq_ignore_ascii_case("localhost") || first.starts_with("ip6-")
}

/// The address of the default route first, then all others as they were listed.
fn addresses(facts: &Facts) -> Vec<InterfaceAddress> {
    let default =
        ["default_ipv4", "default_ipv6"].into_iter().filter_map(|name| facts.member(name, "address"));
    let listed = ["all_ipv4_addresses", "all_ipv6_addresses", "ip_addresses"];
    let all = listed.into_iter().flat_map(|name| facts.texts(name));
    default.chain(all).filter_map(|text| InterfaceAddress::parse("", text)).collect()
}

fn gathered_at(facts: &Facts) -> Patch<Timestamp> {
    // Windows tells hundredths as well.
    let seconds: i64 = facts.member("date_time", "epoch")?.split('.').next()?.parse().ok()?;
    Some(Some(Timestamp::from_secs(seconds)))
}

fn tags(facts: &Facts) -> Patch<String> {
    let tags: Vec<_> =
        [("kernel", "kernel"), ("arch", "architecture"), ("virtualization", "virtualization_type")]
            .into_iter()
            .filter_map(|(tag, fact)| Some(format!("{tag}:{}", facts.text(fact)?)))
            .collect();
    (!tags.is_empty()).then(|| Some(tags_json(tags)))
}
