//! Each format on files such as the tools write; they lie in `hansa/tests/fixtures`.

use hansa_model::Host;

use super::*;
use crate::input::collector::Collector;

const NOW: Timestamp = Timestamp::from_secs(1_795_400_000);

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn import(name: &str) -> Imported {
    read(&fixture(name), None).unwrap()
}

/// The rows that an empty inventory makes of the entries.
fn hosts(imported: &Imported) -> Vec<Host> {
    imported.entries.iter().map(|entry| entry.clone().merge(None, NOW).unwrap()).collect()
}

fn errors(imported: &Imported) -> Vec<String> {
    imported.errors.iter().map(ToString::to_string).collect()
}

fn texts<const N: usize>(fields: [&Option<String>; N]) -> [&str; N] {
    fields.map(|field| field.as_deref().unwrap_or("-"))
}

#[test]
fn ansible_tree_gives_one_host_for_each_file() {
    let imported = import("ansible/tree");

    let hosts = hosts(&imported);
    let [web, windows] = hosts.as_slice() else { panic!("{hosts:?}") };
    assert_eq!(web.fqdn, "web-1.fra1.example.com");
    assert_eq!(texts([&web.ipv4, &web.ipv6]), ["10.1.2.17", "2001:db8:1::17"]);
    assert_eq!(texts([&web.os_family, &web.os_version, &web.platform]), ["debian", "12.11", "linux"]);
    assert_eq!(web.last_seen, Some(Timestamp::from_secs(1_795_319_425)));
    assert_eq!(
        web.tags_json.as_deref(),
        Some(r#"["kernel:6.1.0-37-amd64","arch:x86_64","virtualization:kvm"]"#)
    );
    assert_eq!(windows.fqdn, "WIN-1.corp.example.com");
    assert_eq!(texts([&windows.ipv4, &windows.ipv6]), ["10.3.0.21", "-"]);
    assert_eq!(
        texts([&windows.os_family, &windows.os_version, &windows.platform]),
        ["windows", "10.0.20348.0", "windows"]
    );
    assert_eq!(windows.last_seen, Some(Timestamp::from_secs(1_795_319_425)));
    assert_eq!(
        errors(&imported),
        ["file db-9.fra1.example.com: holds no facts: the host was not reached when they were gathered"]
    );
}

#[test]
fn ansible_fact_caches_of_both_generations_are_read() {
    let imported = import("ansible/cache");

    let hosts = hosts(&imported);
    let [cache, api] = hosts.as_slice() else { panic!("{hosts:?}") };
    assert_eq!(cache.host_id.to_string(), "7a3c4b1e-0d5f-4e6a-9b8c-1f2e3d4c5b6b");
    assert_eq!(texts([&cache.os_family, &cache.os_version]), ["rhel", "9.5"]);
    assert_eq!(api.fqdn, "api-3.ams1.example.com", "the inventory's name goes before localhost");
    assert_eq!(api.ipv4.as_deref(), Some("10.2.2.33"));
    assert_eq!(errors(&imported), Vec::<String>::new());
}

#[test]
fn one_ansible_file_is_recognised_too() {
    let imported = import("ansible/cache/s1_api-3.ams1.example.com");

    assert_eq!(imported.entries, import("ansible/cache").entries[1..]);
}

#[test]
fn collector_and_ansible_name_one_machine_alike() {
    let fallback = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
    let collected = Collector::at_root(fixture("machines/debian"), fallback).collect_with(NOW, None);

    assert_eq!(import("ansible/tree").entries[0].host_id, collected.host_id);
}

#[test]
fn file_in_a_folder_that_is_no_json_is_one_bad_row() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("web-1.example.com"), r#"{"ansible_facts":{"ansible_fqdn":"#).unwrap();
    std::fs::write(folder.path().join("web-2.example.com"), r#"{"ansible_facts":{}}"#).unwrap();

    let imported = read(folder.path(), None).unwrap();

    assert_eq!(imported.entries.len(), 1, "{imported:?}");
    assert_eq!(imported.entries[0].fqdn.as_deref(), Some("web-2.example.com"));
    assert!(matches!(&imported.errors[..], [BadRow { reason: BadRowReason::Malformed(_), .. }]));
}

#[test]
fn clones_with_one_machine_id_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["web-1.example.com", "web-2.example.com"] {
        let facts = format!(r#"{{"ansible_fqdn":"{name}","ansible_machine_id":"{:032x}"}}"#, 7);
        std::fs::write(folder.path().join(name), facts).unwrap();
    }

    let imported = read(folder.path(), None).unwrap();

    assert_eq!(imported.entries.len(), 1);
    let place = Place::File("web-2.example.com".to_owned());
    assert_eq!(imported.errors, [BadRow { place, reason: BadRowReason::Repeated }]);
}

#[test]
fn osquery_rows_of_one_host_become_one_entry() {
    let imported = import("osquery/rows.json");

    let hosts = hosts(&imported);
    let [host] = hosts.as_slice() else { panic!("{hosts:?}") };
    assert_eq!(host.host_id.to_string(), "4c4c4544-0042-3510-8051-b4c04f4d3132");
    assert_eq!(host.fqdn, "queue-4.fra1.example.com");
    assert_eq!(texts([&host.ipv4, &host.ipv6]), ["10.1.4.44", "2001:db8:1::44"]);
    assert_eq!(texts([&host.os_family, &host.os_version, &host.platform]), ["ubuntu", "22.04.4", "linux"]);
    assert_eq!(host.tags_json.as_deref(), Some(r#"["arch:x86_64"]"#));
    assert_eq!(imported.errors, []);
}

#[test]
fn osqueryd_log_is_folded_to_the_newest_state() {
    let imported = import("osquery/osqueryd.results.log");

    let hosts = hosts(&imported);
    let [edge, mail] = hosts.as_slice() else { panic!("{hosts:?}") };
    assert_eq!(edge.host_id.to_string(), "5d2f7c6a-1b3e-4f80-9a7b-2c4d6e8f0a1b");
    assert_eq!(edge.ipv4.as_deref(), Some("10.6.0.55"));
    assert_eq!(texts([&edge.os_family, &edge.os_version]), ["debian", "12"]);
    assert_eq!(edge.tags_json.as_deref(), Some(r#"["kernel:6.1.0-37-amd64","arch:x86_64"]"#));
    assert_eq!(edge.last_seen, Some(Timestamp::from_secs(1_795_323_026)));
    assert_eq!(mail.fqdn, "mail-6.par1.example.com");
    assert_eq!(mail.host_id.0.get_version_num(), 8, "a hardware UUID of zeros is none");
    assert_eq!(texts([&mail.os_family, &mail.os_version]), ["rocky", "9.5"]);
    assert_eq!(mail.ipv4.as_deref(), Some("10.6.0.6"));
    assert_eq!(imported.removals, [], "a row that left a result is no host that left");
    assert!(matches!(&imported.errors[..], [BadRow { place: Place::Line(6), .. }]), "{:?}", imported.errors);
}

/// Lines of a log about one host, each a second after the one before.
fn log(lines: &[&str]) -> Imported {
    let line = |(line, second): (&&str, i64)| {
        format!(r#"{{"hostIdentifier":"web-1.example.com","unixTime":{second},"name":"query",{line}}}"#)
    };
    let log: Vec<_> = lines.iter().zip(1_795_319_425..).map(line).collect();
    parse("log", log.join("\n").as_bytes(), None).unwrap()
}

#[test]
fn osqueryd_snapshot_replaces_the_addresses_before_it() {
    let imported = log(&[
        r#""action":"added","counter":0,"columns":{"interface":"eth0","address":"10.0.0.1"}"#,
        r#""action":"added","counter":1,"columns":{"interface":"eth1","address":"10.0.0.2"}"#,
        r#""action":"snapshot","snapshot":[{"interface":"eth1","address":"10.0.0.2"}]"#,
    ]);

    assert_eq!(hosts(&imported)[0].ipv4.as_deref(), Some("10.0.0.2"));
}

#[test]
fn osqueryd_that_lost_its_memory_tells_addresses_anew() {
    let imported = log(&[
        r#""action":"added","counter":0,"columns":{"interface":"eth0","address":"10.0.0.1"}"#,
        r#""action":"added","counter":"0","columns":{"interface":"eth0","address":"10.0.0.3"}"#,
    ]);

    assert_eq!(hosts(&imported)[0].ipv4.as_deref(), Some("10.0.0.3"));
}

#[test]
fn address_of_a_neighbour_is_not_the_hosts() {
    let imported = log(&[
        r#""action":"added","columns":{"interface":"eth0","address":"10.0.0.9","mac":"52:54:00:00:00:09"}"#,
    ]);

    assert_eq!(hosts(&imported)[0].ipv4, None);
}

#[test]
fn address_joined_with_its_interface_is_the_hosts() {
    // `select *` of two tables: osquery writes the columns of both, so some names come twice.
    let imported = log(&[
        r#""action":"added","columns":{"interface":"eth0","mac":"52:54:00:00:00:01","type":"1","mtu":"1500","interface":"eth0","address":"10.0.0.4","mask":"255.255.255.0","broadcast":"10.0.0.255","type":"dhcp"}"#,
    ]);

    assert_eq!(hosts(&imported)[0].ipv4.as_deref(), Some("10.0.0.4"));
}

#[test]
fn osqueryd_lines_of_old_versions_and_batches_are_understood() {
    // Numbers as texts, slashes escaped, an empty list as an empty text, and a status line between.
    let log = concat!(
        r#"{"diffResults":{"removed":"","added":[{"interface":"eth0","address":"10.0.0.5","mask":"255.255.255.0"}]},"name":"pack\/inventory\/addresses","hostIdentifier":"web-1.example.com","calendarTime":"Sun Nov 22 03:50:25 2026 UTC","unixTime":"1795319425","epoch":"0","counter":"3","decorations":{"host_uuid":"5D2F7C6A-1B3E-4F80-9A7B-2C4D6E8F0A1B","hostname":"web-1.example.com"}}"#,
        "\n",
        r#"{"hostIdentifier":"web-1.example.com","calendarTime":"Sun Nov 22 03:50:26 2026 UTC","unixTime":"1795319426","severity":"0","filename":"scheduler.cpp","line":"83","message":"Executing scheduled query","version":"5.12.1","log_type":"status"}"#,
        "\n",
    );
    let imported = parse("log", log.as_bytes(), None).unwrap();

    assert_eq!(imported.errors, []);
    let hosts = hosts(&imported);
    let [host] = hosts.as_slice() else { panic!("{hosts:?}") };
    assert_eq!(host.host_id.to_string(), "5d2f7c6a-1b3e-4f80-9a7b-2c4d6e8f0a1b");
    assert_eq!((host.fqdn.as_str(), host.ipv4.as_deref()), ("web-1.example.com", Some("10.0.0.5")));
    assert_eq!(host.last_seen, Some(Timestamp::from_secs(1_795_319_426)));
}

#[test]
fn osquery_row_without_a_host_says_what_to_select() {
    let imported = parse("rows.json", br#"[{"platform_like":"debian","version":"12"}]"#, None).unwrap();

    assert_eq!(
        errors(&imported),
        ["element 0: names no host: select uuid or hostname of system_info in the same query"]
    );
}

#[test]
fn spreadsheet_with_aliases_and_a_mark_is_read() {
    let imported = import("csv/assets.csv");

    let hosts = hosts(&imported);
    let [first, second] = hosts.as_slice() else { panic!("{hosts:?}") };
    assert_eq!(first.fqdn, "web-1.vie1.example.com");
    assert_eq!(first.host_id, crate::input::identity::from_fqdn("web-1.vie1.example.com"));
    assert_eq!(texts([&first.ipv4, &first.ipv6]), ["10.9.0.1", "-"]);
    assert_eq!(first.geo_latitude, Some(48.2082));
    assert_eq!(first.tags_json.as_deref(), Some(r#"["prod","web"]"#));
    assert_eq!(texts([&second.ipv4, &second.ipv6]), ["-", "2001:db8:9::2"]);
    assert_eq!(second.geo_city.as_deref(), Some("Zürich"));
    assert_eq!(imported.columns_ignored, ["Cost Center"]);
    assert_eq!(
        errors(&imported),
        [
            "line 4: names no host: fill a column host_id or fqdn",
            "line 5: geo_country_code is longer than 2 bytes",
            "line 6: geo_latitude is not a number of degrees",
        ]
    );
}

#[test]
fn table_with_our_own_names_sets_removes_and_reports() {
    let imported = import("csv/entries.csv");

    let hosts = hosts(&imported);
    assert_eq!(
        hosts.iter().map(|host| host.fqdn.as_str()).collect::<Vec<_>>(),
        ["db-1.fra1.example.com", "db-4.fra1.example.com"]
    );
    assert_eq!(hosts[0].tags_json.as_deref(), Some(r#"["prod","db"]"#));
    assert_eq!(imported.entries[1].ipv6, None, "an empty cell keeps what is known");
    assert_eq!(imported.removals, ["01890a5d-ac96-774b-bcce-b302099a8058".parse().unwrap()]);
    let lines: Vec<_> = imported.errors.iter().map(|error| error.place.clone()).collect();
    assert_eq!(lines, [Place::Line(4), Place::Line(5)], "{:?}", errors(&imported));
}

#[test]
fn tabs_delimit_and_a_domain_completes_the_name() {
    let imported = import("csv/netbox.tsv");

    assert_eq!(imported.entries[0].fqdn.as_deref(), Some("sw-1.example.com"));
    assert_eq!(imported.entries[0].last_seen, Some(Some(Timestamp::from_secs(1_795_319_425))));
}

#[test]
fn row_in_another_encoding_is_one_bad_row() {
    let imported = import("csv/excel.csv");

    assert_eq!(imported.entries.len(), 1);
    assert_eq!(errors(&imported), ["line 3: is not UTF-8: convert the file"]);
}

#[test]
fn own_entries_are_read_as_the_api_takes_them() {
    let imported = import("entries/entries.json");

    let [first, second] = imported.entries.as_slice() else { panic!("{imported:?}") };
    assert_eq!(first.ipv4, Some(None), "null clears");
    assert_eq!(second.host_id, crate::input::identity::from_fqdn("db-2.fra1.example.com").to_string());
    assert_eq!(imported.removals.len(), 1);
    assert_eq!(errors(&imported), ["element 2: does not parse: a field has another kind of value"]);
}

#[test]
fn changes_line_by_line_need_no_name() {
    let imported = import("entries/changes.ndjson");

    assert_eq!(imported.entries.len(), 1, "{imported:?}");
    assert_eq!(imported.removals.len(), 1);
    assert_eq!(imported.errors_total, 2);
}

#[test]
fn importing_twice_gives_the_same_entries() {
    for name in
        ["ansible/tree", "ansible/cache", "osquery/rows.json", "csv/assets.csv", "entries/entries.json"]
    {
        assert_eq!(import(name), import(name), "{name}");
    }
}

#[test]
fn unknown_content_asks_for_the_format() {
    for bytes in [&b"hello"[..], b"", b"{}", b"[1,2]", b"{\"a\":1}", b"\xff\xfeh\0o\0s\0t\0"] {
        assert_eq!(parse("file", bytes, None), Err(UnknownFormat), "{bytes:?}");
    }
}

#[test]
fn forced_format_never_panics_on_any_of_the_files() {
    let files = [
        "ansible/tree/web-1.fra1.example.com",
        "osquery/rows.json",
        "osquery/osqueryd.results.log",
        "csv/assets.csv",
        "entries/changes.ndjson",
    ];
    for (_, format) in Format::NAMES {
        for file in files {
            let bytes = std::fs::read(fixture(file)).unwrap();
            for end in (0..bytes.len()).step_by(97).chain([bytes.len()]) {
                let imported = parse("file", &bytes[..end], Some(format)).unwrap();
                assert!(imported.errors.len() <= limits::SKIPPED_LISTED_MAX);
            }
        }
    }
}

#[test]
fn errors_beyond_the_bound_are_counted_and_not_listed() {
    let bytes = "x\n".repeat(limits::SKIPPED_LISTED_MAX + 5);

    let imported = parse("file", bytes.as_bytes(), Some(Format::Osquery)).unwrap();

    assert_eq!(imported.errors.len(), limits::SKIPPED_LISTED_MAX);
    assert_eq!(imported.errors_total, limits::SKIPPED_LISTED_MAX + 5);
}

#[test]
fn format_is_named_as_the_command_line_spells_it() {
    for (name, format) in Format::NAMES {
        assert_eq!(name.parse(), Ok(format));
        assert_eq!(format.to_string(), name);
    }
    assert_eq!("auto".parse::<Format>(), Err(UnknownFormat));
}
