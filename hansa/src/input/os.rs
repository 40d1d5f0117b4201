//! One vocabulary for operating systems, whichever tool named them.
//!
//! `os_family` is the identifier of `/etc/os-release` (`debian`, `ubuntu`, `rhel`), `platform` the kernel's
//! family (`linux`, `windows`, `darwin`, `freebsd`), so a filter finds hosts of every source.

/// Names that tools give beside the identifier of `/etc/os-release`, all lower-case.
const ALIASES: [(&str, &str); 12] = [
    ("redhat", "rhel"),
    ("red hat enterprise linux", "rhel"),
    ("oraclelinux", "ol"),
    ("amazon", "amzn"),
    ("archlinux", "arch"),
    ("suse", "sles"),
    ("opensuse leap", "opensuse-leap"),
    ("opensuse tumbleweed", "opensuse-tumbleweed"),
    ("linux mint", "linuxmint"),
    ("kali gnu/linux", "kali"),
    ("macosx", "darwin"),
    ("macos", "darwin"),
];

/// The family's identifier for any tool's name of a distribution.
pub(super) fn family(name: &str) -> Option<String> {
    let name = name.trim().to_lowercase();
    if name.is_empty() {
        return None;
    }
    if name.contains("windows") {
        return Some("windows".to_owned());
    }
    let alias = ALIASES.iter().find(|(alias, _)| *alias == name);
    Some(alias.map_or(name, |(_, family)| (*family).to_owned()))
}

/// The platform for a kernel's or a distribution's name.
pub(super) fn platform(name: &str) -> Option<String> {
    let family = family(name)?;
    let platform = match family.as_str() {
        "darwin" | "windows" | "freebsd" | "openbsd" | "netbsd" | "sunos" | "aix" | "hp-ux" => family,
        "win32nt" => "windows".to_owned(),
        _ => "linux".to_owned(),
    };
    Some(platform)
}

/// The version in a text such as `22.04.4 LTS (Jammy Jellyfish)` or `CentOS Linux release 7.9.2009 (Core)`.
pub(super) fn version(text: &str) -> Option<String> {
    let mut words = text.split_whitespace();
    let number = words.clone().find(|word| word.starts_with(|first: char| first.is_ascii_digit()));
    number.or_else(|| words.next()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_names_of_one_system_meet_in_one_family() {
        for (name, expected) in [
            ("Debian", "debian"),
            ("RedHat", "rhel"),
            ("Microsoft Windows Server 2022 Standard", "windows"),
            ("MacOSX", "darwin"),
            ("Rocky", "rocky"),
        ] {
            assert_eq!(family(name).as_deref(), Some(expected), "{name}");
        }
    }

    #[test]
    fn platform_is_the_family_of_the_kernel() {
        for (name, expected) in
            [("Linux", "linux"), ("ubuntu", "linux"), ("Win32NT", "windows"), ("Darwin", "darwin")]
        {
            assert_eq!(platform(name).as_deref(), Some(expected), "{name}");
        }
    }

    #[test]
    fn version_is_the_first_number_of_the_text() {
        assert_eq!(version("22.04.4 LTS (Jammy Jellyfish)").as_deref(), Some("22.04.4"));
        assert_eq!(version("CentOS Linux release 7.9.2009 (Core)").as_deref(), Some("7.9.2009"));
        assert_eq!(version("rolling").as_deref(), Some("rolling"));
        assert_eq!(version(""), None);
    }
}
