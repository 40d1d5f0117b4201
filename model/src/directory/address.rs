//! Columns of address texts, packed into numbers where the text is the address's usual spelling.
//!
//! Any other text is kept as it came, so what was stored is what is returned, byte for byte.

use std::collections::BTreeMap;

use super::bits::BitSet;
use super::column::Place;
use super::texts::{Pattern, folded};
use crate::limits::host::ADDRESS_BYTES_MAX;

/// An address as a number with exactly one text.
pub(super) trait Packed: Copy + Default + Eq {
    /// The number whose text this is, if it is the usual spelling of one.
    fn parse(text: &str) -> Option<Self>;
    /// Writes the text of this number.
    fn write(self, text: &mut AddressText);
}

/// Room for one printed address.
#[derive(Debug, Clone)]
pub(super) struct AddressText {
    bytes: [u8; ADDRESS_BYTES_MAX],
    len: usize,
}

impl Default for AddressText {
    fn default() -> Self {
        Self { bytes: [0; ADDRESS_BYTES_MAX], len: 0 }
    }
}

impl AddressText {
    fn push(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    /// Writes the number without leading zeros; `unit` is the base's largest power that could be needed.
    fn push_number(&mut self, number: u16, base: u16, mut unit: u16) {
        while unit > 1 && number < unit {
            unit /= base;
        }
        while unit > 0 {
            self.push(b"0123456789abcdef"[usize::from(number / unit % base)]);
            unit /= base;
        }
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

/// IPv4 in network order, without leading zeros.
impl Packed for u32 {
    fn parse(text: &str) -> Option<Self> {
        let (mut address, mut octet, mut digits, mut dots) = (0, 0, 0, 0);
        for byte in text.bytes() {
            match byte {
                b'0'..=b'9' if digits < 3 && !(digits > 0 && octet == 0) => {
                    octet = octet * 10 + Self::from(byte - b'0');
                    digits += 1;
                }
                b'.' if digits > 0 && octet < 256 && dots < 3 => {
                    address = address << 8 | octet;
                    (octet, digits, dots) = (0, 0, dots + 1);
                }
                _ => return None,
            }
        }
        (dots == 3 && digits > 0 && octet < 256).then_some(address << 8 | octet)
    }

    fn write(self, text: &mut AddressText) {
        text.len = 0;
        for (index, octet) in self.to_be_bytes().into_iter().enumerate() {
            if index > 0 {
                text.push(b'.');
            }
            text.push_number(u16::from(octet), 10, 100);
        }
    }
}

/// IPv6 in the spelling of RFC 5952, without its dotted forms.
impl Packed for u128 {
    fn parse(text: &str) -> Option<Self> {
        let (mut groups, mut count, mut gap) = ([0; 8], 0, None);
        let mut rest = text.as_bytes();
        if let Some(after) = rest.strip_prefix(b"::") {
            (gap, rest) = (Some(0), after);
        }
        while !rest.is_empty() {
            let (group, digits) = leading_group(rest)?;
            *groups.get_mut(count)? = group;
            (count, rest) = (count + 1, &rest[digits..]);
            if let [b':', b':', after @ ..] = rest {
                (gap, rest) = (gap.xor(Some(count)), after);
                gap?;
            } else if let [b':', after @ ..] = rest {
                rest = Some(after).filter(|after| !after.is_empty())?;
            } else if !rest.is_empty() {
                return None;
            }
        }
        if let Some(gap) = gap {
            groups.copy_within(gap..count, 8 - (count - gap));
            groups[gap..8 - (count - gap)].fill(0);
        }
        let (start, zeros) = longest_zeros(&groups);
        let is_usual = match gap {
            Some(gap) => zeros > 1 && (gap, 8 - count) == (start, zeros),
            None => count == 8 && zeros < 2,
        };
        is_usual.then(|| groups.iter().fold(0, |number, &group| number << 16 | Self::from(group)))
    }

    fn write(self, text: &mut AddressText) {
        text.len = 0;
        let groups: [u16; 8] = std::array::from_fn(|index| (self >> (112 - 16 * index)) as u16);
        let (start, len) = longest_zeros(&groups);
        let mut index = 0;
        while index < 8 {
            if len > 1 && index == start {
                text.push(b':');
                text.push(b':');
                index += len;
                continue;
            }
            if index > 0 && !(len > 1 && index == start + len) {
                text.push(b':');
            }
            text.push_number(groups[index], 16, 0x1000);
            index += 1;
        }
    }
}

/// The group of hexadecimal digits that the text begins with, in its usual spelling, and its length.
fn leading_group(text: &[u8]) -> Option<(u16, usize)> {
    let (mut group, mut digits) = (0, 0);
    while let Some(&byte) = text.get(digits) {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => break,
        };
        if digits == 4 || (digits == 1 && group == 0) {
            return None;
        }
        group = group << 4 | u16::from(digit);
        digits += 1;
    }
    (digits > 0).then_some((group, digits))
}

/// Start and length of the first longest run of zeros.
fn longest_zeros(groups: &[u16; 8]) -> (usize, usize) {
    let (mut best, mut run) = ((0, 0), 0);
    for (index, &group) in groups.iter().enumerate() {
        run = if group == 0 { run + 1 } else { 0 };
        if run > best.1 {
            best = (index + 1 - run, run);
        }
    }
    best
}

/// A column of optional address texts.
#[derive(Debug, Clone, Default)]
pub(super) struct AddressColumn<T> {
    numbers: Vec<T>,
    /// Rows whose text is the usual spelling of their number.
    packed: BitSet,
    /// The other texts.
    odd: BTreeMap<u16, Box<str>>,
}

impl<T: Packed> AddressColumn<T> {
    /// Makes room for this many more rows.
    pub(super) fn reserve(&mut self, rows: usize) {
        self.numbers.reserve(rows);
    }

    pub(super) fn gather(sources: &[&Self], order: &[Place]) -> Self {
        let mut column = Self { numbers: Vec::with_capacity(order.len()), ..Self::default() };
        for (row, place) in order.iter().enumerate() {
            let (source, from) = (sources[usize::from(place.source)], usize::from(place.row));
            column.numbers.push(source.numbers[from]);
            column.packed.push(source.packed.contains(from));
            if !source.odd.is_empty()
                && let Some(text) = source.odd.get(&place.row)
            {
                column.odd.insert(row as u16, text.clone());
            }
        }
        column
    }

    pub(super) fn push(&mut self, text: Option<&str>) {
        self.numbers.push(T::default());
        self.packed.push(false);
        self.set(self.numbers.len() - 1, text);
    }

    pub(super) fn set(&mut self, row: usize, text: Option<&str>) {
        if let Some(number) = text.and_then(T::parse) {
            self.numbers[row] = number;
            self.packed.insert(row);
            self.odd.remove(&(row as u16));
            return;
        }
        self.packed.remove(row);
        match text {
            Some(text) => self.odd.insert(row as u16, text.into()),
            None => self.odd.remove(&(row as u16)),
        };
    }

    pub(super) fn get<'a>(&'a self, row: usize, printed: &'a mut AddressText) -> Option<&'a str> {
        if self.packed.contains(row) {
            self.numbers[row].write(printed);
            return Some(printed.as_str());
        }
        self.odd.get(&(row as u16)).map(AsRef::as_ref)
    }

    pub(super) fn shrink(&mut self) {
        self.numbers.shrink_to_fit();
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let odd: usize = self.odd.values().map(|text| text.len() + 48).sum();
        self.numbers.capacity() * size_of::<T>() + self.packed.memory_bytes() + odd
    }
}

impl AddressColumn<u32> {
    /// The rows whose text contains the pattern.
    pub(super) fn find(&self, pattern: &AddressPattern) -> BitSet {
        let mut rows = if pattern.can_match_packed {
            BitSet::of(&self.numbers, |number| pattern.matches(number))
        } else {
            BitSet::empty(self.numbers.len())
        };
        rows.intersect(&self.packed);
        for (&row, text) in &self.odd {
            if pattern.is_within(text) {
                rows.insert(usize::from(row));
            }
        }
        rows
    }
}

/// A text to look for in IPv4 texts, prepared so that packed ones need not be printed.
///
/// The pattern's dots can stand at the address's dots in up to four ways. For each octet's place and
/// value, `ways` has a bit for every way that the octet allows.
#[derive(Debug, Clone)]
pub(super) struct AddressPattern {
    text: Pattern,
    ignores_case: bool,
    can_match_packed: bool,
    ways: Box<[[u8; 256]; 4]>,
}

impl AddressPattern {
    pub(super) fn new(text: &str, ignores_case: bool) -> Self {
        let parts: Vec<&str> = text.split('.').collect();
        let mut ways = Box::new([[0; 256]; 4]);
        // The ways that some address allows.
        let mut possible = u8::MAX;
        for (place, table) in ways.iter_mut().enumerate() {
            let mut printed = AddressText::default();
            for (octet, ways) in table.iter_mut().enumerate() {
                printed.len = 0;
                printed.push_number(octet as u16, 10, 100);
                *ways = ways_of(&parts, place, printed.as_str());
            }
            possible &= table.iter().fold(0, |any, ways| any | ways);
        }
        let can_match_packed = possible != 0;
        let text = if ignores_case { Pattern::ignoring_case(text) } else { Pattern::exact(text) };
        Self { text, ignores_case, can_match_packed, ways }
    }

    fn matches(&self, number: u32) -> bool {
        let octets = number.to_be_bytes().map(usize::from);
        let [a, b, c, d] = &*self.ways;
        a[octets[0]] & b[octets[1]] & c[octets[2]] & d[octets[3]] != 0
    }

    fn is_within(&self, text: &str) -> bool {
        if self.ignores_case {
            self.text.is_within(folded(text).as_bytes())
        } else {
            self.text.is_within(text.as_bytes())
        }
    }
}

/// Bit w is set when the octet at `place` allows the first of the pattern's parts, which its dots divide,
/// to touch octet w.
fn ways_of(parts: &[&str], place: usize, octet: &str) -> u8 {
    let last = parts.len() - 1;
    let mut ways = 0;
    for way in 0..4_usize.saturating_sub(last) {
        let fits = match place.checked_sub(way) {
            Some(0) if last == 0 => octet.contains(parts[0]),
            Some(0) => octet.ends_with(parts[0]),
            Some(part) if part == last => octet.starts_with(parts[part]),
            Some(part) if part < last => octet == parts[part],
            Some(_) | None => true,
        };
        ways |= u8::from(fits) << way;
    }
    ways
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn printed<T: Packed>(number: T) -> String {
        let mut text = AddressText::default();
        number.write(&mut text);
        text.as_str().to_owned()
    }

    #[test]
    fn only_the_usual_spelling_is_packed() {
        for text in
            ["01.2.3.4", "1.2.3", "1.2.3.4.5", "1.2.3.256", "", "1..2.3", "1.2.3.4 ", "0.0.0.00", "1.2.3."]
        {
            assert_eq!(u32::parse(text), None, "{text}");
        }
        for text in ["2001:DB8::1", "::1.2.3.4", "2001:db8:0:0:0:0:0:1", "1::0:1", "fe80::1%eth0"] {
            assert_eq!(u128::parse(text), None, "{text}");
        }
        for text in ["::", "::1", "1::", "2001:db8::1", "1:0:0:2::3", "fe80:0:1:2:3:4:5:6"] {
            assert!(u128::parse(text).is_some(), "{text}");
        }
        for text in ["0.0.0.0", "10.200.3.255"] {
            assert!(u32::parse(text).is_some(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn packed_address_prints_as_it_came(v4 in any::<u32>(), v6 in any::<u128>(), mask in any::<u8>()) {
            let v6 = (0..8).filter(|bit| mask >> bit & 1 == 1).fold(v6, |v6, bit| v6 & !(0xffff << (16 * bit)));

            prop_assert_eq!(u32::parse(&printed(v4)), Some(v4));
            prop_assert_eq!(printed(v4), std::net::Ipv4Addr::from_bits(v4).to_string());
            prop_assert_eq!(u128::parse(&printed(v6)), Some(v6));
            prop_assert_eq!(printed(v6).parse(), Ok(std::net::Ipv6Addr::from_bits(v6)));
        }

        #[test]
        fn any_text_that_is_packed_prints_as_it_came(text in "[01af:]{0,9}|([0-9a-f]{0,3}:{1,2}){1,8}[0-9a-f]{0,2}|[0-9.]{0,9}") {
            if let Some(number) = u128::parse(&text) {
                prop_assert_eq!(printed(number), text.clone());
            }
            if let Some(number) = u32::parse(&text) {
                prop_assert_eq!(printed(number), text);
            }
        }

        #[test]
        fn pattern_matches_the_number_as_it_would_the_text(
            octets in proptest::array::uniform4(prop_oneof![0..30_u8, any::<u8>()]),
            pattern in "[0-3.]{1,4}|[0-9]{1,3}[.][0-9]{0,2}|[.][0-9][.]",
        ) {
            let number = u32::from_be_bytes(octets);

            let found = AddressPattern::new(&pattern, false).matches(number);

            prop_assert_eq!(found, printed(number).contains(&pattern), "{} in {}", pattern, printed(number));
        }
    }
}
