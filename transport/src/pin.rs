//! TLS of the QUIC links: TLS 1.3 with ring, a certificate over the identity key, and nothing but that
//! key checked. Subject, issuer, dates and chains mean nothing here.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring as provider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, SignatureScheme,
};
use sha2::{Digest as _, Sha256};

use crate::identity::{IdentityKey, PublicKey};

/// The protocol's name in the handshake. A new number means that old and new nodes cannot talk.
pub(crate) const ALPN: &[u8] = b"hansa/1";

/// Whether a key may connect. Asked in the handshake, so it must be quick and must not block.
pub type Admission = Arc<dyn Fn(&PublicKey) -> bool + Send + Sync>;

/// The only handshake signature that an identity key makes.
static ALGORITHMS: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[webpki::ring::ED25519],
    mapping: &[(SignatureScheme::ED25519, &[webpki::ring::ED25519])],
};

/// What a node shows in every handshake.
#[derive(Clone)]
pub(crate) struct NodeCertificate(Arc<SingleCertAndKey>);

impl fmt::Debug for NodeCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeCertificate([redacted])")
    }
}

impl NodeCertificate {
    /// Makes the self-signed certificate over the identity key. The same key gives the same bytes.
    pub(crate) fn new(identity: &IdentityKey) -> Result<Self, String> {
        let certificate = self_signed(identity).map_err(|error| error.to_string())?;
        let key = Self::signing_key(identity)?;
        Ok(Self::shown(CertifiedKey::new(vec![certificate], key)))
    }

    /// Shows exactly this in every handshake.
    pub(crate) fn shown(certified: CertifiedKey) -> Self {
        Self(Arc::new(SingleCertAndKey::from(certified)))
    }

    /// The identity key as TLS signs with it.
    pub(crate) fn signing_key(identity: &IdentityKey) -> Result<Arc<dyn SigningKey>, String> {
        let pkcs8 = identity.to_pkcs8();
        provider::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(pkcs8.expose().as_slice()))
            .map_err(|error| error.to_string())
    }

    /// TLS of the accepting side.
    pub(crate) fn server_config(&self, admission: Admission) -> Result<rustls::ServerConfig, Error> {
        let resolver: Arc<dyn ResolvesServerCert> = self.0.clone();
        let mut config = rustls::ServerConfig::builder_with_provider(provider_of_links())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::new(AdmittedPeers { admission }))
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![ALPN.to_vec()];
        // A resumed session would skip the admission of the peer's key.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.max_early_data_size = 0;
        Ok(config)
    }

    /// TLS of the dialling side, for exactly one peer.
    pub(crate) fn client_config(&self, peer: Arc<PinnedPeer>) -> Result<rustls::ClientConfig, Error> {
        let resolver: Arc<dyn ResolvesClientCert> = self.0.clone();
        let mut config = rustls::ClientConfig::builder_with_provider(provider_of_links())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(peer)
            .with_client_cert_resolver(resolver);
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        config.enable_early_data = false;
        config.enable_sni = false;
        Ok(config)
    }
}

/// ring, its TLS 1.3 suites with the fastest first, and X25519 alone.
fn provider_of_links() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            provider::cipher_suite::TLS13_AES_128_GCM_SHA256,
            provider::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
            provider::cipher_suite::TLS13_AES_256_GCM_SHA384,
        ],
        kx_groups: vec![provider::kx_group::X25519],
        ..provider::default_provider()
    })
}

/// A certificate with fixed dates and a serial number derived from the key: nothing random, no clock.
pub(crate) fn self_signed(identity: &IdentityKey) -> Result<CertificateDer<'static>, rcgen::Error> {
    let public = identity.public();
    let mut serial = Sha256::digest(public.as_bytes())[..16].to_vec();
    serial[0] = (serial[0] & 0x7f) | 0x40;

    let mut parameters = rcgen::CertificateParams::default();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, "hansa node");
    parameters.serial_number = Some(rcgen::SerialNumber::from(serial));
    parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
    // RFC 5280, section 4.1.2.5: no well-defined end.
    parameters.not_after = rcgen::date_time_ymd(9999, 12, 31);
    Ok(parameters.self_signed(&CertificateSigner { identity, public })?.into())
}

struct CertificateSigner<'a> {
    identity: &'a IdentityKey,
    public: PublicKey,
}

impl rcgen::PublicKeyData for CertificateSigner<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.public.as_bytes()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ED25519
    }
}

impl rcgen::SigningKey for CertificateSigner<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.identity.sign(message).to_vec())
    }
}

/// The identity key in what a peer presented: exactly one certificate, over an Ed25519 key.
pub(crate) fn presented_key(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
) -> Result<PublicKey, Error> {
    if !intermediates.is_empty() {
        return Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure));
    }
    let spki = ParsedCertificate::try_from(leaf)?.subject_public_key_info();
    PublicKey::from_spki_der(&spki)
        .map_err(|_| Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
}

/// What either verifier says of signatures: those of TLS 1.3 alone, by our algorithms.
macro_rules! tls13_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            _message: &[u8],
            _cert: &CertificateDer<'_>,
            _dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered))
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, cert, dss, &ALGORITHMS)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            ALGORITHMS.supported_schemes()
        }
    };
}

/// Accepts one server: the holder of the pinned key. Remembers what it saw, for the error's sake.
#[derive(Debug)]
pub(crate) struct PinnedPeer {
    pin: PublicKey,
    presented: Mutex<Option<PublicKey>>,
}

impl PinnedPeer {
    pub(crate) const fn new(pin: PublicKey) -> Self {
        Self { pin, presented: Mutex::new(None) }
    }

    /// The identity key that the server presented, if it did.
    pub(crate) fn presented(&self) -> Option<PublicKey> {
        *self.presented.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ServerCertVerifier for PinnedPeer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let key = presented_key(end_entity, intermediates)?;
        *self.presented.lock().unwrap_or_else(PoisonError::into_inner) = Some(key);
        if key != self.pin {
            return Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure));
        }
        Ok(ServerCertVerified::assertion())
    }

    tls13_signatures!();
}

/// Accepts the clients whose key the node's admission knows.
struct AdmittedPeers {
    admission: Admission,
}

impl fmt::Debug for AdmittedPeers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdmittedPeers")
    }
}

impl ClientCertVerifier for AdmittedPeers {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let key = presented_key(end_entity, intermediates)?;
        if !(self.admission)(&key) {
            return Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure));
        }
        Ok(ClientCertVerified::assertion())
    }

    tls13_signatures!();
}
