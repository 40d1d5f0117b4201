//! Which of a machine's many addresses its row shows.
//!
//! A row has one address of each kind: the first that other machines can reach, on a network card before a
//! bridge or tunnel that containers and virtual machines bring along.

use std::net::{IpAddr, Ipv6Addr};

/// Names with which interfaces begin that serve the machine's own guests or are tunnels.
const INNER_INTERFACES: [&str; 14] = [
    "br-", "cali", "cilium", "cni", "docker", "flannel", "lxc", "lxd", "podman", "tap", "tun", "veth",
    "virbr", "vmnet",
];

/// One address of one interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// The interface's name, such as `eth0`; may be empty where a source does not tell it.
    pub interface: String,
    /// The address.
    pub address: IpAddr,
}

/// The addresses of a row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Addresses {
    pub(super) ipv4: Option<String>,
    pub(super) ipv6: Option<String>,
}

impl InterfaceAddress {
    /// From a tool's text; a zone such as `%eth0` is dropped. Nothing when it is no address.
    pub(super) fn parse(interface: &str, address: &str) -> Option<Self> {
        let address = address.split(['%', '/']).next()?.trim().parse().ok()?;
        Some(Self { interface: interface.to_owned(), address })
    }
}

/// Chooses the address of each kind to show; earlier wins among equals.
pub(super) fn choose(candidates: &[InterfaceAddress]) -> Addresses {
    let best = |wanted: fn(&IpAddr) -> bool| {
        candidates
            .iter()
            .filter(|candidate| wanted(&candidate.address) && is_reachable(candidate.address))
            .min_by_key(|candidate| (is_inner(&candidate.interface), is_local_unicast(candidate.address)))
            .map(|candidate| candidate.address.to_string())
    };
    Addresses { ipv4: best(IpAddr::is_ipv4), ipv6: best(IpAddr::is_ipv6) }
}

fn is_reachable(address: IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !(is_link_local || address.is_loopback() || address.is_unspecified() || address.is_multicast())
}

/// `fc00::/7` is reachable within the organisation only, so a global address goes before it.
fn is_local_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => Ipv6Addr::is_unique_local(&address),
    }
}

fn is_inner(interface: &str) -> bool {
    INNER_INTERFACES.iter().any(|prefix| interface.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[(&str, &str)]) -> Vec<InterfaceAddress> {
        texts
            .iter()
            .map(|(interface, address)| InterfaceAddress::parse(interface, address).unwrap())
            .collect()
    }

    #[test]
    fn network_card_goes_before_a_bridge() {
        let candidates = addresses(&[
            ("lo", "127.0.0.1"),
            ("docker0", "172.17.0.1"),
            ("eth0", "10.2.3.4"),
            ("eth0", "fe80::1%eth0"),
            ("eth0", "fd00::7"),
            ("eth0", "2001:db8::7"),
        ]);

        let chosen = choose(&candidates);

        assert_eq!(chosen.ipv4.as_deref(), Some("10.2.3.4"));
        assert_eq!(chosen.ipv6.as_deref(), Some("2001:db8::7"));
    }

    #[test]
    fn machine_without_a_network_has_no_address() {
        let candidates = addresses(&[("lo", "127.0.0.1"), ("lo", "::1"), ("eth0", "169.254.3.3")]);

        assert_eq!(choose(&candidates), Addresses::default());
    }
}
