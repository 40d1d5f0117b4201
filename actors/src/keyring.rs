//! The node's own identity, and the keys that people trust.
//!
//! The identity is made once and never changes while the process lives, so it is a value that everyone
//! shares rather than an actor. The keyring of trusted peers is for people to compare; enrollment never
//! consults it (contract B1).

use std::sync::Arc;

use hansa_model::audit::Detail;
use hansa_model::enrollment::Role;
use hansa_model::scope::Operator;
use hansa_model::{Entropy, Secret, Timestamp};
use hansa_storage::{Batch, Lane, Store, table};
use hansa_transport::certificate::{sign_proof, verify_proof};
use hansa_transport::identity::keyring_slug;
use hansa_transport::{IdentityKey, PublicKey, TlsCertificate};

use crate::context::Context;
use crate::error::{TrustError, Unavailable};
use crate::view::{IdentityView, TrustedPeer};

const IDENTITY_KEY: &str = "identity-ed25519";
const TLS_KEY: &str = "tls-rsa";
const TLS_CERTIFICATE: &str = "tls";

/// A node's identity key and contract certificate.
#[derive(Debug, Clone)]
pub(crate) struct Keyring {
    pub(crate) identity: IdentityKey,
    pub(crate) tls: Arc<TlsCertificate>,
}

/// Why a node's identity could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The store did not answer.
    #[error("the identity cannot be read from the store")]
    Read(#[from] hansa_storage::ReadError),
    /// The store did not take the new identity.
    #[error("the new identity cannot be stored")]
    Write(#[from] hansa_storage::CommitError),
    /// A stored key is damaged.
    #[error("the stored identity does not parse: restore a backup")]
    Damaged,
    /// No certificate could be made.
    #[error("the certificate cannot be made")]
    Certificate(#[from] hansa_transport::certificate::TlsCertificateError),
}

impl Keyring {
    /// Reads the identity, or makes it on the first start and stores it sealed before anyone sees it.
    ///
    /// `tls` is a prepared certificate for a node that has none yet: simulations inject one, because RSA
    /// key generation cannot be replayed.
    pub(crate) async fn open(
        store: &Store,
        now: Timestamp,
        entropy: &dyn Entropy,
        host_name: &str,
        tls: Option<TlsCertificate>,
    ) -> Result<Self, IdentityError> {
        if let Some(keyring) = Self::read(store)? {
            return Ok(keyring);
        }
        let identity = IdentityKey::generate(entropy);
        let tls = match tls {
            Some(tls) => tls,
            None => TlsCertificate::generate(host_name, now, entropy)?,
        };
        let mut batch = Batch::new();
        batch
            .expect_absent::<table::Identity>(IDENTITY_KEY)
            .put_sealed::<table::Identity>(IDENTITY_KEY, &identity.to_pkcs8())
            .put_sealed::<table::Identity>(TLS_KEY, tls.key_pem())
            .put::<table::Certificates>(TLS_CERTIFICATE, &tls.certificate_pem().to_owned());
        store.commit(Lane::Control, batch).await?;
        Ok(Self { identity, tls: Arc::new(tls) })
    }

    fn read(store: &Store) -> Result<Option<Self>, IdentityError> {
        let view = store.read()?;
        let Some(key) = view.get_sealed::<table::Identity>(IDENTITY_KEY)? else { return Ok(None) };
        let identity = IdentityKey::from_pkcs8_der(key.expose()).map_err(|_| IdentityError::Damaged)?;
        let tls_key = view.get_sealed::<table::Identity>(TLS_KEY)?.ok_or(IdentityError::Damaged)?;
        let tls_key = String::from_utf8(tls_key.expose().clone()).map_err(|_| IdentityError::Damaged)?;
        let certificate = view.get::<table::Certificates>(TLS_CERTIFICATE)?.ok_or(IdentityError::Damaged)?;
        let tls = TlsCertificate::from_pem(&certificate, &Secret::new(tls_key))?;
        Ok(Some(Self { identity, tls: Arc::new(tls) }))
    }

    pub(crate) fn view(&self) -> IdentityView {
        let public = self.identity.public();
        IdentityView { public_key_pem: public.to_pem(), fingerprint: public.fingerprint() }
    }

    /// This node's proof for a role over its own certificate.
    pub(crate) fn proof(&self, role: Role) -> String {
        // The certificate was parsed when it was made or read.
        sign_proof(&self.identity, role, self.tls.certificate_pem()).unwrap_or_default()
    }
}

/// Whether a proof shows that the holder of `key` stands for a site with this certificate.
pub(crate) fn verify_site_proof(key: &[u8; 32], tls_cert_pem: &str, proof: &str) -> bool {
    PublicKey::from_bytes(*key).is_ok_and(|key| verify_proof(&key, Role::Site, tls_cert_pem, proof))
}

/// Lists the keys that people trust, in the order of their slugs.
pub(crate) fn trusted_peers(context: &Context) -> Result<Vec<TrustedPeer>, Unavailable> {
    let view = context.store.read().map_err(|_| Unavailable::Storage)?;
    let peers = view.all::<table::TrustedPeers>(..).map_err(|_| Unavailable::Storage)?;
    Ok(peers
        .into_iter()
        .map(|(name, pem)| {
            let fingerprint = PublicKey::from_pem(&pem).ok().map(|key| key.fingerprint());
            TrustedPeer { name, fingerprint }
        })
        .collect())
}

/// Stores a key under the slug of its name, in place of the one that is there.
pub(crate) async fn trust(
    context: &Context,
    operator: &Operator,
    name: &str,
    pem: &str,
) -> Result<TrustedPeer, TrustError> {
    let key = PublicKey::from_pem(pem).map_err(|_| TrustError::InvalidKey)?;
    let name = keyring_slug(name);
    let fingerprint = key.fingerprint();
    let details =
        [("name", Detail::from(name.as_str())), ("fingerprint", Detail::from(fingerprint.as_str()))];
    let mut batch = Batch::new();
    batch.put::<table::TrustedPeers>(name.as_str(), &key.to_pem()).audit(context.audit_node(
        "trusted_peer_added",
        Some(operator),
        details,
    ));
    context.commit(Lane::Operator, batch).await?;
    Ok(TrustedPeer { name, fingerprint: Some(fingerprint) })
}

/// Removes a key.
pub(crate) async fn distrust(context: &Context, operator: &Operator, name: &str) -> Result<(), TrustError> {
    let name = keyring_slug(name);
    let view = context.store.read().map_err(|_| Unavailable::Storage)?;
    if !view.contains::<table::TrustedPeers>(name.as_str()).map_err(|_| Unavailable::Storage)? {
        return Err(TrustError::NotFound);
    }
    drop(view);
    let details = [("name", Detail::from(name.as_str()))];
    let mut batch = Batch::new();
    batch.delete::<table::TrustedPeers>(name.as_str()).audit(context.audit_node(
        "trusted_peer_removed",
        Some(operator),
        details,
    ));
    context.commit(Lane::Operator, batch).await?;
    Ok(())
}
