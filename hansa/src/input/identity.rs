//! Stable ids for hosts that bring none: the same machine gets the same id from every source and run.
//!
//! Derived ids are UUIDs of version 8 over SHA-256. The order of trust is the same everywhere: an id given,
//! the operating system's machine id, the hardware's UUID, the name.

use hansa_model::HostId;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Separates our derivation from every other use of the same inputs. A change renames every host.
const NAMESPACE: &[u8] = b"hansa/host-id/1";

/// Hardware UUIDs that vendors left at the example of the SMBIOS standard or of their tool.
const PLACEHOLDER_UUIDS: [u128; 4] = [
    0x03000200_0400_0500_0006_000700080009,
    0x00020003_0004_0005_0006_000700080009,
    0x12345678_1234_5678_90ab_cddeefaabbcc,
    0x01234567_89ab_cdef_0123_456789abcdef,
];

/// The id behind `/etc/machine-id`, or nothing when the text is not one.
///
/// The machine id itself is confidential by its manual page, so only a hash of it leaves the machine.
pub(super) fn from_machine_id(text: &str) -> Option<HostId> {
    let text = text.trim();
    let is_id = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_set = text.bytes().any(|byte| byte != b'0');
    (is_id && is_set).then(|| derive("machine-id", &text.to_ascii_lowercase()))
}

/// A hardware UUID as it stands, or nothing when it is none or a vendor's placeholder.
pub(super) fn from_hardware_uuid(text: &str) -> Option<HostId> {
    let id: HostId = text.trim().parse().ok()?;
    let bytes = id.as_bytes();
    let is_repeated = bytes.iter().all(|byte| *byte == bytes[0]);
    let is_placeholder = PLACEHOLDER_UUIDS.contains(&id.0.as_u128());
    (!is_repeated && !is_placeholder).then_some(id)
}

/// The id behind a name; names are compared without regard to case or a final dot.
pub(super) fn from_fqdn(fqdn: &str) -> HostId {
    derive("fqdn", &fqdn.trim().trim_end_matches('.').to_ascii_lowercase())
}

fn derive(kind: &str, text: &str) -> HostId {
    let mut hash = Sha256::new();
    for part in [NAMESPACE, kind.as_bytes(), text.as_bytes()] {
        hash.update(part);
        hash.update([0]);
    }
    let digest: [u8; 32] = hash.finalize().into();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    HostId(custom_uuid(bytes))
}

/// A UUID of version 8 over bytes that are already spread.
pub(super) fn custom_uuid(bytes: [u8; 16]) -> Uuid {
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_gives_one_id_whatever_its_spelling() {
        let id = from_fqdn("web-1.example.com");

        assert_eq!(from_fqdn(" WEB-1.example.com. "), id);
        assert_ne!(from_fqdn("web-2.example.com"), id);
        assert_eq!(id.0.get_version_num(), 8);
    }

    #[test]
    fn derivation_stays_what_it_was() {
        assert_eq!(from_fqdn("web-1.example.com").to_string(), "a0059abe-c163-843d-843a-5daae8f105a4");
        assert_eq!(
            from_machine_id("0123456789abcdef0123456789abcdef").map(|id| id.to_string()),
            Some("3a22cc5e-e4db-89b6-9097-785f7f3ff8ed".to_owned())
        );
    }

    #[test]
    fn unset_machine_id_is_none() {
        for text in ["", "uninitialized", "00000000000000000000000000000000", "NA"] {
            assert_eq!(from_machine_id(text), None, "{text}");
        }
    }

    #[test]
    fn placeholder_of_a_vendor_is_no_hardware_uuid() {
        for text in [
            "NA",
            "00000000-0000-0000-0000-000000000000",
            "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
            "03000200-0400-0500-0006-000700080009",
        ] {
            assert_eq!(from_hardware_uuid(text), None, "{text}");
        }
        let real = "4C4C4544-0042-3510-8051-B4C04F4D3132";
        assert_eq!(from_hardware_uuid(real).map(|id| id.to_string()), Some(real.to_ascii_lowercase()));
    }
}
