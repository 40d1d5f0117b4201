//! Identity key, keyring, certificate and role of the node (contract B1). No envelope.

use std::sync::Arc;

use hansa_actors::view::{QuicAddress, TrustedPeer};
use hansa_model::enrollment::Role;
use hansa_model::scope::Operator;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::answer::Answer;
use crate::code::Code;
use crate::problem::Problem;
use crate::request::Request;

/// The node's public identity key.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct IdentityKey {
    /// SubjectPublicKeyInfo in PEM.
    public_key_pem: String,
    /// SHA-256 over the canonical PEM, 64 hexadecimal digits.
    fingerprint: String,
}

/// The keyring.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TrustedPeers {
    /// Ordered by name.
    trusted: Vec<Peer>,
}

/// A key of the keyring, kept for people to compare.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TrustedPeer)]
pub(crate) struct Peer {
    /// The slug it is stored under.
    name: String,
    /// Null when the stored key does not parse.
    fingerprint: Option<String>,
}

/// A key for the keyring.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewTrustedPeer {
    /// Any text; stored as a slug.
    #[schema(required = true)]
    name: Option<String>,
    /// Ed25519 SubjectPublicKeyInfo in PEM.
    #[schema(required = true)]
    public_key_pem: Option<String>,
}

/// The node's certificate with the proof that it is the node's.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TlsCertificate {
    /// The certificate in PEM.
    cert_pem: String,
    /// The identity key's signature for `identity_role` over the certificate, base64.
    identity_proof: Option<String>,
    /// See `identity-key`.
    identity_fingerprint: Option<String>,
    /// `coordinator` or `site`.
    identity_role: &'static str,
    /// Where the node takes QUIC; absent for an HTTP peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    quic: Option<Quic>,
}

/// Where a node takes QUIC.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = QuicAddress)]
pub(crate) struct Quic {
    /// `host:port`.
    address: String,
    /// The application protocol.
    alpn: &'static str,
}

impl From<QuicAddress> for Quic {
    fn from(quic: QuicAddress) -> Self {
        Self { address: quic.address, alpn: quic.alpn }
    }
}

/// The node's role.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FederationRole {
    /// The role now.
    role: &'static str,
    /// All roles.
    valid_roles: [&'static str; 3],
}

/// A role to take.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewRole {
    /// `none`, `coordinator` or `site`.
    role: String,
}

impl From<TrustedPeer> for Peer {
    fn from(peer: TrustedPeer) -> Self {
        Self { name: peer.name, fingerprint: peer.fingerprint }
    }
}

impl From<Role> for FederationRole {
    fn from(role: Role) -> Self {
        Self { role: role.as_str(), valid_roles: Role::ALL.map(Role::as_str) }
    }
}

pub(crate) fn identity_key(request: &Request) -> Result<Answer, Problem> {
    let identity = request.federation.identity();
    Answer::ok(&IdentityKey { public_key_pem: identity.public_key_pem, fingerprint: identity.fingerprint })
}

pub(crate) fn trusted_peers(request: &Request) -> Result<Answer, Problem> {
    let trusted = request.federation.trusted_peers()?;
    Answer::ok(&TrustedPeers { trusted: trusted.into_iter().map(Peer::from).collect() })
}

pub(crate) async fn trust_peer(mut request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let body: NewTrustedPeer = request.json().await?;
    let name = required("name", body.name)?;
    let public_key_pem = required("public_key_pem", body.public_key_pem)?;
    let peer = request.federation.trust_peer(&operator, &name, &public_key_pem).await?;
    Answer::ok(&Peer::from(peer))
}

/// The documented route answers 422 for a member that is missing, where others answer 400.
fn required(field: &'static str, value: Option<String>) -> Result<String, Problem> {
    value.ok_or_else(|| Problem::field(Code::MissingField, field, format!("{field} is required")))
}

pub(crate) async fn distrust_peer(request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    request.federation.distrust_peer(&operator, request.argument("name")).await?;
    Ok(Answer::no_content())
}

pub(crate) fn tls_certificate(request: &Request) -> Result<Answer, Problem> {
    let certificate = request.federation.tls_certificate();
    Answer::ok(&TlsCertificate {
        cert_pem: certificate.cert_pem,
        identity_proof: Some(certificate.identity_proof),
        identity_fingerprint: Some(certificate.identity_fingerprint),
        identity_role: certificate.identity_role.as_str(),
        quic: certificate.quic.map(Quic::from),
    })
}

pub(crate) fn role(request: &Request) -> Result<Answer, Problem> {
    Answer::ok(&FederationRole::from(request.federation.role()))
}

pub(crate) async fn set_role(mut request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let body: NewRole = request.json().await?;
    let role: Role = body
        .role
        .parse()
        .map_err(|error| Problem::field(Code::InvalidValue, "role", format!("role {error}")))?;
    let role = request.federation.set_role(role, &operator).await?;
    Answer::ok(&FederationRole::from(role))
}
