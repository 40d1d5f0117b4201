//! Which addresses a backend may have (contract B.4): the pure judgement, made once for each connection.
//!
//! Whoever may configure a backend may name any address, so everything that is not plainly public is
//! refused unless the node's own configuration lists it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A range of addresses in CIDR form, such as `10.0.0.0/8` or `::1/128`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRange {
    base: IpAddr,
    bits: u8,
}

/// A text that names no range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a range of addresses such as 10.0.0.0/8 or ::1/128")]
pub struct InvalidRange;

impl AddressRange {
    /// Whether the address lies in this range; IPv4 in IPv6 clothes counts as IPv4.
    pub fn holds(&self, address: IpAddr) -> bool {
        match (self.base, plain(address)) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                u32::from(base) & mask == u32::from(address) & mask
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                u128::from(base) & mask == u128::from(address) & mask
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl FromStr for AddressRange {
    type Err = InvalidRange;

    /// A range, or one address alone.
    fn from_str(text: &str) -> Result<Self, InvalidRange> {
        let (base, bits) = match text.split_once('/') {
            Some((base, bits)) => (base, Some(bits)),
            None => (text, None),
        };
        let base = plain(base.parse().map_err(|_| InvalidRange)?);
        let all = if base.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) => bits.parse().map_err(|_| InvalidRange)?,
            None => all,
        };
        if bits > all { Err(InvalidRange) } else { Ok(Self { base, bits }) }
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}

/// What the node's own configuration lets backends do with addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressRules {
    /// Private and loopback ranges that backends may have.
    pub allowed: Vec<AddressRange>,
    /// Whether plain `http` is allowed to loopback addresses.
    pub http_to_loopback: bool,
    /// Whether a backend may leave the server's certificate unchecked (`tls_verify: false`).
    pub unverified_tls: bool,
}

/// Why an address is not dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressRefusal {
    /// Link-local, metadata, multicast, unspecified or reserved: never, whatever the configuration says.
    #[error("is link-local, a metadata service, multicast, unspecified or reserved")]
    Forbidden,
    /// Private or loopback, and not listed.
    #[error("is private or loopback: list it in backends.allowed_addresses of the node's configuration")]
    NotListed,
    /// Plain `http` to anything but a loopback address that the configuration opens.
    #[error("is plain http: use https (backends.http_to_loopback opens http to loopback addresses)")]
    PlainHttp,
}

impl AddressRules {
    /// Whether a connection to this very address may be made; `encrypted` says whether it will speak TLS.
    ///
    /// # Errors
    /// See [`AddressRefusal`].
    pub fn judge(&self, address: IpAddr, encrypted: bool) -> Result<(), AddressRefusal> {
        let address = plain(address);
        if is_forbidden(address) {
            return Err(AddressRefusal::Forbidden);
        }
        if is_inner(address) && !self.allowed.iter().any(|range| range.holds(address)) {
            return Err(AddressRefusal::NotListed);
        }
        let may_be_plain = self.http_to_loopback && address.is_loopback();
        if !encrypted && !may_be_plain {
            return Err(AddressRefusal::PlainHttp);
        }
        Ok(())
    }
}

/// IPv4 where an address is only dressed as IPv6: mapped, compatible, or behind the NAT64 prefix.
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(six) = address else { return address };
    if let Some(four) = six.to_ipv4_mapped() {
        return IpAddr::V4(four);
    }
    let [a, b, c, d, e, f, high, low] = six.segments();
    let embedded = || Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    let is_nat64 = [a, b, c, d, e, f] == [0x64, 0xff9b, 0, 0, 0, 0];
    let is_compatible = [a, b, c, d, e, f] == [0; 6] && high != 0;
    if is_nat64 || is_compatible { IpAddr::V4(embedded()) } else { address }
}

/// What no backend ever is.
fn is_forbidden(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(four) => {
            let [first, ..] = four.octets();
            four.is_link_local() || four.is_multicast() || four.is_broadcast() || first == 0 || first >= 240
        }
        IpAddr::V6(six) => {
            six.is_unspecified()
                || six.is_multicast()
                || six.is_unicast_link_local()
                || six == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)
        }
    }
}

/// What is inside somebody's network: loopback, RFC 1918, carrier NAT, benchmark and documentation ranges,
/// unique local addresses, site-local ones of old, and 6to4 and Teredo, which hide an IPv4 address.
fn is_inner(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(four) => {
            let [first, second, third, _] = four.octets();
            four.is_loopback()
                || four.is_private()
                || four.is_documentation()
                || (first == 100 && (64..128).contains(&second))
                || (first == 198 && (18..20).contains(&second))
                || (first == 192 && second == 0 && third == 0)
        }
        IpAddr::V6(six) => {
            let [first, second, ..] = six.segments();
            six.is_loopback()
                || six.is_unique_local()
                || first & 0xffc0 == 0xfec0
                || first == 0x2002
                || (first == 0x2001 && matches!(second, 0 | 0x0db8))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(rules: &AddressRules, address: &str) -> Result<(), AddressRefusal> {
        rules.judge(address.parse().unwrap(), true)
    }

    #[test]
    fn metadata_and_link_local_addresses_are_refused_in_every_spelling() {
        let open = AddressRules {
            allowed: vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()],
            http_to_loopback: true,
            unverified_tls: true,
        };

        for address in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "fd00:ec2::254",
            "fe80::1",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
            "240.0.0.1",
        ] {
            assert_eq!(judge(&open, address), Err(AddressRefusal::Forbidden), "{address}");
        }
    }

    #[test]
    fn inner_addresses_need_to_be_listed() {
        let closed = AddressRules::default();
        let listed = AddressRules { allowed: vec!["10.0.0.0/8".parse().unwrap()], ..AddressRules::default() };

        for address in [
            "127.0.0.1",
            "::1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "fc00::1",
            "::ffff:10.0.0.1",
            "2002:a00:1::",
        ] {
            assert_eq!(judge(&closed, address), Err(AddressRefusal::NotListed), "{address}");
        }
        assert_eq!(judge(&listed, "::ffff:10.0.0.1"), Ok(()));
        assert_eq!(judge(&listed, "192.168.1.1"), Err(AddressRefusal::NotListed));
        assert_eq!(judge(&closed, "1.1.1.1"), Ok(()));
        assert_eq!(judge(&closed, "2606:4700::1111"), Ok(()));
    }

    #[test]
    fn plain_http_goes_to_loopback_only_and_only_when_opened() {
        let loopback = "127.0.0.1".parse().unwrap();
        let mut rules =
            AddressRules { allowed: vec!["127.0.0.0/8".parse().unwrap()], ..AddressRules::default() };

        assert_eq!(rules.judge(loopback, false), Err(AddressRefusal::PlainHttp));
        rules.http_to_loopback = true;
        assert_eq!(rules.judge(loopback, false), Ok(()));
        assert_eq!(rules.judge("1.1.1.1".parse().unwrap(), false), Err(AddressRefusal::PlainHttp));
    }

    #[test]
    fn range_covers_exactly_its_bits() {
        let range: AddressRange = "10.64.0.0/10".parse().unwrap();

        assert!(range.holds("10.127.255.255".parse().unwrap()));
        assert!(!range.holds("10.128.0.0".parse().unwrap()));
        for wrong in ["10.0.0.0/33", "x/8", "10.0.0.0/", "/8", ""] {
            assert_eq!(wrong.parse::<AddressRange>(), Err(InvalidRange), "{wrong}");
        }
    }
}
