//! The vectors of the contract (1.5, 1.6), and every way in which a proof or signature must fail.

use super::*;
use crate::identity::tests::vector_identity;

const VECTOR_FINGERPRINT: &str = "b4058fced6e4dd8fec9a307ebac338d84784fad817217dd9ffa73eb05c322f5e";
const PROOF_SITE: &str =
    "qdrAqTbD05csm++XCneal+MGtNFcPuxmBg/hPdEw/NiBNNYWagyKxLsIDIs7jyqNpFUfp24yv4UyM5sN63NvDQ==";
const PROOF_COORDINATOR: &str =
    "XvvVXDofr21g+lXVcgCbfVD8+aZnZtNEUFm2sjtPckn/cW5tOPTzxr+ob6hc/reKgJgZvDZo/AQOAz65izgvCg==";
const REQUEST_BODY: &[u8] = br#"{"active_count": 4, "host_count": 5}"#;
const REQUEST_SIGNATURE: &str = "Rh/Xsml/qOLjzjoQK414qGAnde2gB2b91yXV/Hxo9UULgG0urnYfDP2mtP+IRGGFdC/4a7KCc6ysspUIqqYSTe29wK68bG+k/zSna5+0GSMYUbGWj4f7hWAcghHY+fTY8h262cMWg/i5CDwUP59Gd5EaUO3M9cjEMqi5NKVTlx564Fwx7pzcW67ZmFIiZCw1GDat8t2gNL0VXrdx2c0HjHJ+parM602J81MYIDPHyShqlSdmRBpyVS3sycFbhYmc4sj45rh0XUAhQ48eZIUP9Ik/Tmv4iH04TgTJEq04pT2vUw6Tt47z7bvIyzrwsjHJDAzbD2LFDhgl09Rer31U5Q==";
const VECTOR_CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----
MIIC0DCCAbigAwIBAgIUIVpd9JXQmcU3yv1MNaxZW+pBWucwDQYJKoZIhvcNAQEL
BQAwGTEXMBUGA1UEAwwOdmVjdG9yLmV4YW1wbGUwHhcNMjYxMTIyMDIwMDQzWhcN
MzYxMTE5MDIwNTQzWjAZMRcwFQYDVQQDDA52ZWN0b3IuZXhhbXBsZTCCASIwDQYJ
KoZIhvcNAQEBBQADggEPADCCAQoCggEBALRQXjlw0xXUjYBTJ+my/vw4RQWxAPR7
iikIIL+zkhNyW585bcIxZSiCvxuE5XuohWTplPuiEDIBBX8ezHHaEYDACsK+s+IE
ItD3okdKn4Gu+HenC2lZrrnk474PYWawCazRUctTWWaBwxfdOq6SNQYG6vB0+xKc
jtTYuSF06X5+a0EaQJlvPccUxRWSf0ljZlQ25jSVA7gqiQQ4w33QPdMtFPiqHczH
tq3YSSqPA5qI9pYxz7mtvhQk8VqfBFRq7d7mhVJNGwjxoRavV8jIf/Gp2/wYxlEt
3quDrDsMIkFsGrEbwvItXoKUAFdV/CWt9eRqTR6LV6Fu8mWYNvCfwKsCAwEAAaMQ
MA4wDAYDVR0TAQH/BAIwADANBgkqhkiG9w0BAQsFAAOCAQEATTp7TXWVTVRDSYe2
9fC9zenV+0TJXdUxPpFJHwwNV+cSHCCTkkyDw0Jae96fplno+nXmqFyO+qJvmQS4
kAFKo9X26dvSce642MO5m2f7Z0fTH9tmclT9JKNPXuL10DCbveCKeBOkOGzZfaPM
S7hyTY3XJI198P0AKVXEDsZrr+abboXrq4NIkUYcfQh+J4NPZRALX5F2t2hNcEUd
OLpp073nWZ53pY97Z6rnEy4ikoBlohgxsUiXqQL8m8iCED/hMBPNeWJuHI61sT0D
JpEp6hOxyGfM6zd8Pkea4DPTsIRRLJCmTPWVxghmC3by48QpJ4soDHxGYNQ8RKvM
9wdXdw==
-----END CERTIFICATE-----
";

/// Counts up: enough where nothing has to be secret.
#[derive(Debug)]
struct CountingEntropy;

impl Entropy for CountingEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        for (value, byte) in (1..).zip(bytes) {
            *byte = value;
        }
    }
}

/// A self-signed certificate of another kind of key, and the key.
fn certificate_of(algorithm: &'static rcgen::SignatureAlgorithm) -> (String, ring::signature::EcdsaKeyPair) {
    let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
    let pem = rcgen::CertificateParams::default().self_signed(&key).unwrap().pem();
    let signer = ring::signature::EcdsaKeyPair::from_pkcs8(
        &ring::signature::ECDSA_P256_SHA256_ASN1_SIGNING,
        key.serialized_der(),
        &SystemRandom::new(),
    );
    (pem, signer.unwrap())
}

fn other_certificate() -> String {
    certificate_of(&rcgen::PKCS_ECDSA_P256_SHA256).0
}

#[test]
fn certificate_fingerprint_matches_the_contract_vector() {
    assert_eq!(certificate_fingerprint(VECTOR_CERTIFICATE), Ok(VECTOR_FINGERPRINT.to_owned()));
    let padded = format!("\r\n {}\n", VECTOR_CERTIFICATE.replace('\n', "\r\n"));
    assert_eq!(certificate_fingerprint(&padded), Ok(VECTOR_FINGERPRINT.to_owned()));
}

#[test]
fn proofs_match_the_contract_vectors() {
    let identity = vector_identity();

    for (role, proof) in [(Role::Site, PROOF_SITE), (Role::Coordinator, PROOF_COORDINATOR)] {
        assert_eq!(sign_proof(&identity, role, VECTOR_CERTIFICATE).as_deref(), Ok(proof));
        assert!(verify_proof(&identity.public(), role, VECTOR_CERTIFICATE, proof));
    }
}

#[test]
fn proof_fails_when_any_one_thing_is_swapped() {
    let key = vector_identity().public();
    let other_key = IdentityKey::from_seed(&Secret::new([1; 32])).public();

    assert!(!verify_proof(&key, Role::Coordinator, VECTOR_CERTIFICATE, PROOF_SITE), "role");
    assert!(!verify_proof(&key, Role::None, VECTOR_CERTIFICATE, PROOF_SITE), "role");
    assert!(!verify_proof(&key, Role::Site, &other_certificate(), PROOF_SITE), "certificate");
    assert!(!verify_proof(&other_key, Role::Site, VECTOR_CERTIFICATE, PROOF_SITE), "key");
    assert!(!verify_proof(&key, Role::Site, VECTOR_CERTIFICATE, PROOF_COORDINATOR), "proof");
}

#[test]
fn proof_that_does_not_parse_proves_nothing() {
    let key = vector_identity().public();

    for proof in ["", "====", "not base64!", &PROOF_SITE[..40], &PROOF_SITE.replace('+', "-")] {
        assert!(!verify_proof(&key, Role::Site, VECTOR_CERTIFICATE, proof), "{proof}");
    }
    for certificate in ["", "garbage", &VECTOR_CERTIFICATE[..500], &VECTOR_CERTIFICATE.repeat(2)] {
        assert!(!verify_proof(&key, Role::Site, certificate, PROOF_SITE), "{certificate}");
        assert!(sign_proof(&vector_identity(), Role::Site, certificate).is_err());
    }
}

#[test]
fn request_signature_matches_the_contract_vector() {
    assert!(verify_request(VECTOR_CERTIFICATE, REQUEST_BODY, REQUEST_SIGNATURE));
}

#[test]
fn request_signature_fails_when_any_one_thing_is_swapped() {
    let reordered = br#"{"host_count": 5, "active_count": 4}"#;

    assert!(!verify_request(VECTOR_CERTIFICATE, reordered, REQUEST_SIGNATURE), "body");
    assert!(!verify_request(&other_certificate(), REQUEST_BODY, REQUEST_SIGNATURE), "certificate");
    assert!(!verify_request(VECTOR_CERTIFICATE, REQUEST_BODY, PROOF_SITE), "signature");
    for garbled in ["", "!", &REQUEST_SIGNATURE[4..]] {
        assert!(!verify_request(VECTOR_CERTIFICATE, REQUEST_BODY, garbled), "{garbled}");
    }
    assert!(!verify_request("", REQUEST_BODY, REQUEST_SIGNATURE));
}

#[test]
fn request_signatures_of_ecdsa_and_ed25519_certificates_hold_too() {
    let (pem, key) = certificate_of(&rcgen::PKCS_ECDSA_P256_SHA256);
    let signature = STANDARD.encode(key.sign(&SystemRandom::new(), REQUEST_BODY).unwrap());
    assert!(verify_request(&pem, REQUEST_BODY, &signature));

    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let pem = rcgen::CertificateParams::default().self_signed(&key).unwrap().pem();
    let identity = IdentityKey::from_pkcs8_der(key.serialized_der()).unwrap();
    assert!(verify_request(&pem, REQUEST_BODY, &STANDARD.encode(identity.sign(REQUEST_BODY))));
}

#[test]
fn made_certificate_is_the_contracts_and_signs() {
    let now: Timestamp = "2026-11-22T02:05:43Z".parse().unwrap();
    let name = "x".repeat(70);

    let made = TlsCertificate::generate(&name, now, &CountingEntropy).unwrap();

    let der = certificate_der(made.certificate_pem()).unwrap();
    let contains = |needle: &[u8]| der.windows(needle.len()).any(|window| window == needle);
    assert!(contains(b"261122020043Z"), "valid from 300 s before");
    assert!(contains(b"361119020543Z"), "valid for 3650 days");
    assert!(contains(&[0x06, 0x03, 0x55, 0x1d, 0x13, 0x01, 0x01, 0xff, 0x04, 0x02, 0x30, 0x00]), "not a CA");
    assert!(contains(&[[0x0c, 64].as_slice(), &[b'x'; 64]].concat()), "name is cut to 64 characters");
    assert!(!contains(&[b'x'; 65]));
    assert_eq!(made.signer.public().modulus_len(), 256);
    assert!(verify_request(made.certificate_pem(), b"body", &made.sign_request(b"body")));
    assert!(!verify_request(made.certificate_pem(), b"other", &made.sign_request(b"body")));
    assert!(!format!("{made:?}").contains("PRIVATE"));
}

#[test]
fn given_key_makes_the_same_certificate_again_and_survives_storage() {
    let now = Timestamp::from_secs(1_800_000_000);
    let key = TlsCertificate::generate("a", now, &CountingEntropy).unwrap().key_pem().clone();

    let first = TlsCertificate::for_key(&key, "", now, &CountingEntropy).unwrap();
    let second = TlsCertificate::for_key(&key, " ", now, &CountingEntropy).unwrap();
    let stored = TlsCertificate::from_pem(first.certificate_pem(), first.key_pem()).unwrap();

    assert_eq!(first.certificate_pem(), second.certificate_pem());
    assert_eq!(stored.sign_request(b"body"), first.sign_request(b"body"));
    let der = certificate_der(first.certificate_pem()).unwrap();
    assert!(der.windows(20).any(|window| window == COMMON_NAME_DEFAULT.as_bytes()));
}

#[test]
fn stored_pair_that_does_not_belong_together_is_refused() {
    let pair = TlsCertificate::generate("a", Timestamp::EPOCH, &CountingEntropy).unwrap();

    let swapped = TlsCertificate::from_pem(VECTOR_CERTIFICATE, pair.key_pem());
    let damaged = TlsCertificate::from_pem(pair.certificate_pem(), &Secret::new("garbage".to_owned()));

    assert_eq!(swapped.unwrap_err(), TlsCertificateError::Key);
    assert_eq!(damaged.unwrap_err(), TlsCertificateError::Key);
}
