//! The certificate of the contract (1.6) and what is signed with it or over it: enrollment proofs and the
//! signature of HTTP requests.
//!
//! It is not the certificate of the QUIC link, which stands over the identity key (see `pin`), and not
//! the one of the HTTP listener (see [`crate::tls`]).

use std::fmt;

use aws_lc_rs::encoding::AsDer as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::RsaKeyPair;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, SignatureVerificationAlgorithm};
use sha2::{Digest as _, Sha256};

use hansa_model::enrollment::{Role, proof_message};
use hansa_model::limits::site::PEM_BYTES_MAX;
use hansa_model::secret::hex;
use hansa_model::{Entropy, Secret, Timestamp};

use crate::identity::{IdentityKey, PublicKey};

/// Longest common name (contract 1.6; RFC 5280, upper bound of `ub-common-name`).
const COMMON_NAME_CHARACTERS_MAX: usize = 64;
/// Common name where the machine has none (contract 1.6).
const COMMON_NAME_DEFAULT: &str = "sysmanage-federation";
/// The certificate is valid from this long before it was made, for peers whose clock is behind.
const VALID_BEFORE_SECONDS: i64 = 300;
/// The certificate is valid this long (contract 1.6).
const VALID_SECONDS: i64 = 3_650 * 24 * 3_600;
/// The longest serial number that RFC 5280 allows.
const SERIAL_BYTES: usize = 20;
/// What a request's signature may be made with. RSA is the contract's; the others are ours in addition.
static REQUEST_ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    webpki::ring::RSA_PKCS1_2048_8192_SHA256,
    webpki::ring::ED25519,
    webpki::ring::ECDSA_P256_SHA256,
    webpki::ring::ECDSA_P384_SHA384,
];

/// A text that is not exactly one X.509 certificate in PEM. Fix the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not one X.509 certificate in PEM")]
pub struct InvalidCertificate;

/// Why a certificate could not be made or read back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsCertificateError {
    /// The stored certificate does not parse. Restore it from a backup.
    #[error("the stored certificate {0}")]
    Certificate(#[from] InvalidCertificate),
    /// The stored key does not parse, or belongs to another certificate. Restore it from a backup.
    #[error("the stored certificate key is damaged or belongs to another certificate")]
    Key,
    /// The library refused to make it.
    #[error("the certificate could not be made: {0}")]
    Generation(String),
}

/// Lower-case hexadecimal SHA-256 over the certificate's DER (contract 1.2).
///
/// # Errors
/// The text is not exactly one certificate.
pub fn certificate_fingerprint(pem: &str) -> Result<String, InvalidCertificate> {
    Ok(hex(&Sha256::digest(certificate_der(pem)?)))
}

/// Signs an enrollment proof: standard base64 (contract 1.5).
///
/// # Errors
/// The text is not exactly one certificate.
pub fn sign_proof(
    identity: &IdentityKey,
    role: Role,
    certificate_pem: &str,
) -> Result<String, InvalidCertificate> {
    let message = proof_message(role, &certificate_fingerprint(certificate_pem)?);
    Ok(STANDARD.encode(identity.sign(message.as_bytes())))
}

/// Whether `proof` shows that the holder of `key` stands behind the certificate in this role. Anything
/// that does not even parse does not show it (contract 1.5).
pub fn verify_proof(key: &PublicKey, role: Role, certificate_pem: &str, proof: &str) -> bool {
    let Ok(fingerprint) = certificate_fingerprint(certificate_pem) else { return false };
    let Ok(signature) = STANDARD.decode(proof.trim()) else { return false };
    key.verify(proof_message(role, &fingerprint).as_bytes(), &signature)
}

/// Whether `signature`, the value of `X-Federation-Signature`, is the pinned certificate's over exactly
/// these bytes. Anything that does not even parse is not (contract 1.6).
pub fn verify_request(certificate_pem: &str, body: &[u8], signature: &str) -> bool {
    let Ok(der) = certificate_der(certificate_pem) else { return false };
    let Ok(signature) = STANDARD.decode(signature.trim()) else { return false };
    let Ok(certificate) = webpki::EndEntityCert::try_from(&der) else { return false };
    REQUEST_ALGORITHMS
        .iter()
        .any(|algorithm| certificate.verify_signature(*algorithm, body, &signature).is_ok())
}

/// Reads exactly one certificate and checks that it parses.
fn certificate_der(pem: &str) -> Result<CertificateDer<'static>, InvalidCertificate> {
    let pem = pem.trim();
    let is_one = pem.len() <= PEM_BYTES_MAX
        && pem.starts_with("-----BEGIN CERTIFICATE-----")
        && pem.matches("-----BEGIN").count() == 1
        && pem.ends_with("-----END CERTIFICATE-----");
    if !is_one {
        return Err(InvalidCertificate);
    }
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| InvalidCertificate)?;
    webpki::EndEntityCert::try_from(&der).map_err(|_| InvalidCertificate)?;
    Ok(der)
}

/// The node's RSA-2048 certificate with its key. The key prints redacted.
pub struct TlsCertificate {
    pem: String,
    key_pem: Secret<String>,
    signer: RsaKeyPair,
}

impl TlsCertificate {
    /// Makes a certificate with a new RSA-2048 key. Takes some 100 ms of one core.
    ///
    /// The key's randomness is aws-lc's own, which no simulation can replay: there, take a prepared key
    /// and [`TlsCertificate::for_key`].
    ///
    /// # Errors
    /// Only where the library fails.
    pub fn generate(
        host_name: &str,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<Self, TlsCertificateError> {
        let failed = |_| TlsCertificateError::Generation("no RSA key".to_owned());
        let key = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).map_err(failed)?;
        let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = key.as_der().map_err(failed)?;
        Self::for_key(&private_key_pem(der.as_ref()), host_name, now, entropy)
    }

    /// Makes a certificate for a given RSA key in PKCS#8 PEM; `entropy` gives the serial number.
    ///
    /// # Errors
    /// The key is none that can be used.
    pub fn for_key(
        key_pem: &Secret<String>,
        host_name: &str,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<Self, TlsCertificateError> {
        let der = private_key_der(key_pem)?;
        let key = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(
            &PrivatePkcs8KeyDer::from(der.expose().as_slice()),
            &rcgen::PKCS_RSA_SHA256,
        )
        .map_err(|_| TlsCertificateError::Key)?;
        let certificate = certificate_parameters(host_name, now, entropy)?
            .self_signed(&key)
            .map_err(|error| TlsCertificateError::Generation(error.to_string()))?;
        Self::from_pem(&certificate.pem(), key_pem)
    }

    /// Reads a stored pair back.
    ///
    /// # Errors
    /// One of the two is damaged, or they do not belong together.
    pub fn from_pem(certificate_pem: &str, key_pem: &Secret<String>) -> Result<Self, TlsCertificateError> {
        certificate_der(certificate_pem)?;
        let der = private_key_der(key_pem)?;
        let signer = RsaKeyPair::from_pkcs8(der.expose()).map_err(|_| TlsCertificateError::Key)?;
        let pair = Self { pem: certificate_pem.to_owned(), key_pem: key_pem.clone(), signer };
        if !verify_request(&pair.pem, b"", &pair.sign_request(b"")) {
            return Err(TlsCertificateError::Key);
        }
        Ok(pair)
    }

    /// The certificate, to give to peers.
    pub fn certificate_pem(&self) -> &str {
        &self.pem
    }

    /// The key in PKCS#8 PEM: the form to seal and store.
    pub fn key_pem(&self) -> &Secret<String> {
        &self.key_pem
    }

    /// The value of `X-Federation-Signature` for a body: standard base64 of RSA PKCS#1 v1.5 with SHA-256
    /// over exactly these bytes. Deterministic.
    pub fn sign_request(&self, body: &[u8]) -> String {
        let mut signature = vec![0; self.signer.public().modulus_len()];
        // PKCS#1 v1.5 draws no randomness; the argument is there for PSS.
        let signed =
            self.signer.sign(&ring::signature::RSA_PKCS1_SHA256, &SystemRandom::new(), body, &mut signature);
        match signed {
            Ok(()) => STANDARD.encode(signature),
            // An RSA key that was read once signs; and the contract sends a request unsigned otherwise.
            Err(ring::error::Unspecified) => String::new(),
        }
    }
}

impl fmt::Debug for TlsCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fingerprint = certificate_fingerprint(&self.pem).unwrap_or_default();
        write!(f, "TlsCertificate({fingerprint}, key [redacted])")
    }
}

fn certificate_parameters(
    host_name: &str,
    now: Timestamp,
    entropy: &dyn Entropy,
) -> Result<rcgen::CertificateParams, TlsCertificateError> {
    let instant = |seconds: i64| {
        time::OffsetDateTime::from_unix_timestamp(seconds)
            .map_err(|_| TlsCertificateError::Generation("the clock is out of range".to_owned()))
    };
    let not_before = now.as_secs().saturating_sub(VALID_BEFORE_SECONDS);
    let name: String = host_name.trim().chars().take(COMMON_NAME_CHARACTERS_MAX).collect();

    let mut parameters = rcgen::CertificateParams::default();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters
        .distinguished_name
        .push(rcgen::DnType::CommonName, if name.is_empty() { COMMON_NAME_DEFAULT } else { name.as_str() });
    parameters.is_ca = rcgen::IsCa::ExplicitNoCa;
    parameters.not_before = instant(not_before)?;
    parameters.not_after = instant(now.as_secs().saturating_add(VALID_SECONDS))?;
    parameters.serial_number = Some(rcgen::SerialNumber::from(serial_number(entropy)));
    Ok(parameters)
}

/// A positive number of exactly [`SERIAL_BYTES`] bytes.
fn serial_number(entropy: &dyn Entropy) -> Vec<u8> {
    let mut serial = entropy.bytes::<SERIAL_BYTES>();
    serial[0] = (serial[0] & 0x7f) | 0x40;
    serial.to_vec()
}

fn private_key_pem(der: &[u8]) -> Secret<String> {
    use fmt::Write as _;
    let body = Secret::new(STANDARD.encode(der));
    let mut pem = String::with_capacity(body.expose().len() + 128);
    pem.push_str("-----BEGIN PRIVATE KEY-----\n");
    for line in body.expose().as_bytes().chunks(64) {
        // Base64 is ASCII, and writing to a String cannot fail.
        let _ = writeln!(pem, "{}", String::from_utf8_lossy(line));
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    Secret::new(pem)
}

fn private_key_der(pem: &Secret<String>) -> Result<Secret<Vec<u8>>, TlsCertificateError> {
    let der =
        PrivatePkcs8KeyDer::from_pem_slice(pem.expose().as_bytes()).map_err(|_| TlsCertificateError::Key)?;
    Ok(Secret::new(der.secret_pkcs8_der().to_vec()))
}

#[cfg(test)]
#[path = "certificate_tests.rs"]
mod tests;
