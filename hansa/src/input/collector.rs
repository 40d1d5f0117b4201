//! This machine as one entry of the inventory.
//!
//! Cheap reads of small files only: no command is run and no package index is loaded, so a collection takes
//! milliseconds and can repeat often. What cannot be read is absent from the entry, which keeps what the
//! inventory already holds. Installed packages are counted from the database of dpkg, apk or pacman; pending
//! updates are told only where the machine itself already counted them (Debian's update-notifier).

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use hansa_model::host::HostEntry;
use hansa_model::limits::inventory as limits;
use hansa_model::{HostId, Timestamp};

use super::address::{self, InterfaceAddress};
use super::{identity, tags_json};

/// Reads the machine whose file system begins at a root.
#[derive(Debug, Clone)]
pub struct Collector {
    root: PathBuf,
    fallback_id: HostId,
}

impl Collector {
    /// The machine that this process runs on.
    ///
    /// `fallback_id` stands in where the machine has no machine id; keep it in the node's data folder, or
    /// the machine becomes a new host with each start.
    pub fn new(fallback_id: HostId) -> Self {
        Self::at_root("/", fallback_id)
    }

    /// A machine whose files lie below `root`, such as a mounted image or a test's fixture.
    pub fn at_root(root: impl Into<PathBuf>, fallback_id: HostId) -> Self {
        Self { root: root.into(), fallback_id }
    }

    /// Reads the machine's files and the addresses of its interfaces. Blocks for some milliseconds.
    pub fn collect(&self, now: Timestamp) -> HostEntry {
        self.collect_with(now, interface_addresses().as_deref())
    }

    /// Reads the machine's files beside addresses that are already known; `None` leaves them absent.
    pub fn collect_with(&self, now: Timestamp, addresses: Option<&[InterfaceAddress]>) -> HostEntry {
        let release = OsRelease::read(&self.root);
        let (ipv4, ipv6) = addresses.map(address::choose).map_or((None, None), |chosen| {
            // The interfaces were read, so an address that is missing there is gone.
            (Some(chosen.ipv4), Some(chosen.ipv6))
        });
        HostEntry {
            host_id: self.host_id().to_string(),
            fqdn: self.fqdn(),
            ipv4,
            ipv6,
            os_family: release.id.map(Some),
            os_version: release.version.map(Some),
            platform: Some(Some(platform_of_this_build().to_owned())),
            status: Some(Some("up".to_owned())),
            last_seen: Some(Some(now)),
            tags_json: Some(Some(tags_json(self.tags()))),
            ..HostEntry::default()
        }
    }

    fn host_id(&self) -> HostId {
        ["etc/machine-id", "var/lib/dbus/machine-id"]
            .into_iter()
            .find_map(|path| identity::from_machine_id(&self.text(path)?))
            .unwrap_or(self.fallback_id)
    }

    /// The machine's name as it knows it itself; a resolver is not asked.
    fn fqdn(&self) -> Option<String> {
        let hostname = self.word("proc/sys/kernel/hostname").or_else(|| self.word("etc/hostname"))?;
        if hostname.contains('.') {
            return Some(hostname);
        }
        let from_hosts = self.text("etc/hosts").and_then(|hosts| canonical_name(&hosts, &hostname));
        let from_domain = || {
            let domain = self.word("proc/sys/kernel/domainname").filter(|domain| domain != "(none)")?;
            Some(format!("{hostname}.{domain}"))
        };
        Some(from_hosts.or_else(from_domain).unwrap_or(hostname))
    }

    fn tags(&self) -> Vec<String> {
        let architecture =
            self.word("proc/sys/kernel/arch").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
        let updates =
            self.text("var/lib/update-notifier/updates-available").map(|text| PendingUpdates::of(&text));
        let security = updates.and_then(|updates| updates.security);
        let restart = ["run/reboot-required", "var/run/reboot-required"];
        let needs_restart = restart.into_iter().any(|path| self.root.join(path).exists());
        [
            self.word("proc/sys/kernel/osrelease").map(|kernel| format!("kernel:{kernel}")),
            Some(format!("arch:{architecture}")),
            self.package_count().map(|count| format!("packages:{count}")),
            updates.map(|updates| format!("updates:{}", updates.all)),
            security.map(|count| format!("security-updates:{count}")),
            needs_restart.then(|| "restart-required".to_owned()),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn package_count(&self) -> Option<usize> {
        let dpkg = || self.count_lines("var/lib/dpkg/status", |line| line == b"Status: install ok installed");
        let apk = || self.count_lines("lib/apk/db/installed", |line| line.starts_with(b"P:"));
        let pacman = || {
            let entries = std::fs::read_dir(self.root.join("var/lib/pacman/local")).ok()?;
            // Beside one folder for each package stands the file ALPM_DB_VERSION.
            Some(entries.flatten().filter(|entry| entry.path().is_dir()).count())
        };
        dpkg().or_else(apk).or_else(pacman)
    }

    /// Counts the lines that match; a database beyond the bound is not counted at all.
    fn count_lines(&self, path: &str, matches: impl Fn(&[u8]) -> bool) -> Option<usize> {
        let file = File::open(self.root.join(path)).ok()?;
        if file.metadata().ok()?.len() > limits::PACKAGE_DATABASE_BYTES_MAX {
            return None;
        }
        let mut reader = BufReader::new(file.take(limits::PACKAGE_DATABASE_BYTES_MAX));
        let (mut line, mut count) = (Vec::new(), 0);
        while reader.read_until(b'\n', &mut line).ok()? > 0 {
            count += usize::from(matches(line.trim_ascii_end()));
            line.clear();
        }
        Some(count)
    }

    fn text(&self, path: &str) -> Option<String> {
        read_small(&self.root.join(path))
    }

    fn word(&self, path: &str) -> Option<String> {
        self.text(path)?.split_whitespace().next().map(str::to_owned)
    }
}

/// The addresses of this machine's interfaces that are up; nothing when the system does not tell.
pub fn interface_addresses() -> Option<Vec<InterfaceAddress>> {
    let interfaces = if_addrs::get_if_addrs().ok()?;
    let address = |interface: if_addrs::Interface| InterfaceAddress {
        address: interface.ip(),
        interface: interface.name,
    };
    Some(interfaces.into_iter().filter(if_addrs::Interface::is_oper_up).map(address).collect())
}

/// The kernel's family; `std` says `macos` where the directory says `darwin`.
fn platform_of_this_build() -> &'static str {
    match std::env::consts::OS {
        "macos" => "darwin",
        os => os,
    }
}

fn read_small(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(limits::SYSTEM_FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    String::from_utf8(bytes).ok()
}

/// The first name with a domain on a line of a hosts file that also names `hostname`.
fn canonical_name(hosts: &str, hostname: &str) -> Option<String> {
    let lines = hosts.lines().map(|line| line.split('#').next().unwrap_or(""));
    lines
        .map(|line| line.split_whitespace().skip(1).collect::<Vec<_>>())
        .filter(|names| names.contains(&hostname))
        .find_map(|names| {
            names.into_iter().find(|name| name.split_once('.').is_some_and(|(first, _)| first == hostname))
        })
        .map(str::to_owned)
}

/// What `/etc/os-release` says of the system.
#[derive(Debug, Default)]
struct OsRelease {
    id: Option<String>,
    version: Option<String>,
}

impl OsRelease {
    fn read(root: &Path) -> Self {
        let text = ["etc/os-release", "usr/lib/os-release"]
            .into_iter()
            .find_map(|path| read_small(&root.join(path)));
        let Some(text) = text else { return Self::default() };
        let field = |name: &str| {
            text.lines()
                .filter_map(|line| line.split_once('='))
                .find(|(key, _)| key.trim() == name)
                .map(|(_, value)| value.trim().trim_matches(['"', '\'']).to_owned())
                .filter(|value| !value.is_empty())
        };
        let release = Self { id: field("ID"), version: field("VERSION_ID") };
        release.with_point_release(read_small(&root.join("etc/debian_version")).as_deref())
    }

    /// Debian's os-release stops at the major version; its own file has the point release.
    fn with_point_release(self, debian_version: Option<&str>) -> Self {
        let point = debian_version.map(str::trim).zip(self.version.as_deref()).and_then(|(point, major)| {
            let rest = point.strip_prefix(major)?;
            (self.id.as_deref() == Some("debian") && rest.starts_with('.')).then(|| point.to_owned())
        });
        Self { version: point.or(self.version), ..self }
    }
}

/// The counts in update-notifier's message of the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PendingUpdates {
    all: u32,
    security: Option<u32>,
}

impl PendingUpdates {
    /// Reads `12 updates can be applied immediately.` and `5 of these updates are standard security updates.`;
    /// the file without a number means that nothing is pending.
    fn of(text: &str) -> Self {
        let count_of = |wanted: &[&str]| {
            text.lines().find_map(|line| {
                let count = line.split_whitespace().next()?.parse().ok()?;
                wanted.iter().all(|word| line.contains(word)).then_some(count)
            })
        };
        Self {
            all: count_of(&["can be"]).unwrap_or(0),
            security: count_of(&["security update"]).filter(|count| *count > 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_795_000_000);

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/machines").join(name)
    }

    fn fallback_id() -> HostId {
        identity::from_fqdn("fallback.example.com")
    }

    fn collect(machine: &str) -> HostEntry {
        let addresses: Vec<_> = [("lo", "127.0.0.1"), ("eth0", "192.0.2.17"), ("eth0", "2001:db8::17")]
            .into_iter()
            .filter_map(|(interface, address)| InterfaceAddress::parse(interface, address))
            .collect();
        Collector::at_root(fixture(machine), fallback_id()).collect_with(NOW, Some(&addresses))
    }

    fn tags(entry: &HostEntry) -> Vec<String> {
        serde_json::from_str(entry.tags_json.as_ref().unwrap().as_ref().unwrap()).unwrap()
    }

    #[test]
    fn debian_machine_is_read_whole() {
        let entry = collect("debian");

        let host = entry.clone().merge(None, NOW).unwrap();
        assert_eq!(host.fqdn, "web-1.fra1.example.com");
        assert_eq!(host.host_id.0.get_version_num(), 8);
        assert_eq!(host.ipv4.as_deref(), Some("192.0.2.17"));
        assert_eq!(host.ipv6.as_deref(), Some("2001:db8::17"));
        assert_eq!(host.os_family.as_deref(), Some("debian"));
        assert_eq!(host.os_version.as_deref(), Some("12.9"));
        assert_eq!(host.status.as_deref(), Some("up"));
        assert_eq!(host.last_seen, Some(NOW));
        assert_eq!(tags(&entry), ["kernel:6.1.0-31-amd64", "arch:x86_64", "packages:3"]);
    }

    #[test]
    fn ubuntu_machine_tells_its_pending_updates() {
        let entry = collect("ubuntu");

        assert_eq!(entry.fqdn.as_deref(), Some("db-2.ams1.example.com"));
        assert_eq!(entry.os_version, Some(Some("24.04".to_owned())));
        let expected = ["updates:12", "security-updates:5", "restart-required"];
        assert_eq!(tags(&entry)[3..], expected);
    }

    #[test]
    fn machine_id_gives_the_same_host_each_time() {
        assert_eq!(collect("debian").host_id, collect("debian").host_id);
        assert_ne!(collect("debian").host_id, collect("ubuntu").host_id);
    }

    #[test]
    fn unreadable_machine_is_still_an_entry() {
        let entry = Collector::at_root(fixture("missing"), fallback_id()).collect_with(NOW, None);

        assert_eq!(entry.host_id, fallback_id().to_string());
        assert_eq!(entry.fqdn, None);
        assert_eq!(entry.ipv4, None);
        assert_eq!(entry.os_family, None);
        assert_eq!(entry.status, Some(Some("up".to_owned())));
    }

    #[test]
    fn this_very_machine_is_an_acceptable_entry() {
        let entry = Collector::new(fallback_id()).collect(NOW);

        let host = entry.merge(None, NOW).unwrap();

        assert_eq!(host.platform.as_deref(), Some(platform_of_this_build()));
    }

    #[test]
    fn hosts_file_names_the_machine_only_on_its_own_line() {
        let hosts = "127.0.0.1 localhost\n10.0.0.9 web-12.example.com web-12 # web-1.example.net web-1\n";

        assert_eq!(canonical_name(hosts, "web-1"), None);
        assert_eq!(canonical_name(hosts, "web-12").as_deref(), Some("web-12.example.com"));
    }

    #[test]
    fn message_without_a_number_means_nothing_is_pending() {
        let updates = PendingUpdates::of("\n0 updates can be applied immediately.\n");

        assert_eq!(updates, PendingUpdates { all: 0, security: None });
    }
}
