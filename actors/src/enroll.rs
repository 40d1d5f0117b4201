//! The site's half of the enrollment handshake (contract 1.7), over QUIC or over the documented routes.
//!
//! Runs in the caller's task: nothing of it is state until the coordinator has answered. The coordinator's
//! proof is verified before anything it sent is stored. A lost answer is met by trying again with the same
//! token: certificate and proof are the same each time, so the coordinator recognises the repeat.

use hansa_model::enrollment::{Enrollment, EnrollmentStatus, Role};
use hansa_model::limits::{site as site_limits, sync as limits};
use hansa_model::machine::registry;
use hansa_model::scope::Operator;
use hansa_model::secret::TokenHash;
use hansa_model::{Secret, SiteId};
use hansa_storage::{Batch, table};
use hansa_transport::certificate::verify_proof;
use hansa_transport::http::{PeerAnswer, PeerRequest};
use hansa_transport::wire::{Down, Enroll, Up};
use hansa_transport::{CloseCode, CloseReason, DialError, Lane, PublicKey};
use serde::Deserialize;
use tokio::time::timeout;

use crate::error::{EnrollError, Unavailable};
use crate::node::Tree;
use crate::persistence::SELF;
use crate::uplink::{self, UplinkMessage};

/// What an operator of a site gives to enroll it.
#[derive(Debug, Clone)]
pub struct EnrollRequest {
    /// Base URL of the coordinator.
    pub coordinator_url: String,
    /// One-time token.
    pub enrollment_token: Secret<String>,
    /// The coordinator's identity key, PEM.
    pub coordinator_identity_public_key_pem: String,
    /// Where the coordinator takes QUIC, when the join code says so; asked of the coordinator otherwise.
    pub quic_address: Option<String>,
    /// Seconds between two contacts; the coordinator's choice when absent.
    pub sync_interval_seconds: Option<u32>,
}

/// What a coordinator answers to a completion, however it came.
struct Accepted {
    site_id: SiteId,
    sync_bearer: Secret<String>,
    inbound_bearer_hash: TokenHash,
    tls_cert_pem: String,
    quic_address: Option<String>,
    sync_interval_seconds: u32,
}

/// The checked request.
struct Checked {
    url: String,
    token: Secret<String>,
    key: PublicKey,
    quic_address: Option<String>,
    interval: Option<u32>,
}

/// Why nothing came of an enrollment over QUIC.
enum QuicFailure {
    /// The coordinator has removed the site with this node's key, and invited none with it since.
    Removed,
    Enroll(EnrollError),
}

impl From<EnrollError> for QuicFailure {
    fn from(error: EnrollError) -> Self {
        Self::Enroll(error)
    }
}

impl From<QuicFailure> for EnrollError {
    fn from(failure: QuicFailure) -> Self {
        match failure {
            QuicFailure::Removed => Self::Refused(
                "the site with this node's key was removed: ask the coordinator's operator for a new invitation".to_owned(),
            ),
            QuicFailure::Enroll(error) => error,
        }
    }
}

impl Tree {
    /// Enrolls this site; returns once the membership is on disk. The uplink then dials by itself.
    pub(crate) async fn enroll(
        &self,
        operator: &Operator,
        request: EnrollRequest,
    ) -> Result<(), EnrollError> {
        let checked = check(request)?;
        if let Some(present) = self.site.membership.enrolled()
            && present.coordinator_url != checked.url
        {
            return Err(EnrollError::OtherCoordinator(present.coordinator_url.clone()));
        }
        let accepted = match &checked.quic_address {
            Some(address) if self.endpoint.is_some() => {
                self.complete_over_quic(&checked, address).await.map_err(EnrollError::from)?
            }
            _ => self.complete_over_http(&checked).await?,
        };
        self.join(operator, &checked, accepted).await?;
        self.site.uplink.cast(UplinkMessage::Dial);
        Ok(())
    }

    /// Dials the coordinator elsewhere from now on; returns once that is on disk. It is held to the key that was
    /// pinned at the enrollment, so nobody else can take its place.
    pub(crate) async fn relocate_coordinator(
        &self,
        operator: &Operator,
        coordinator_url: &str,
        quic_address: Option<String>,
    ) -> Result<(), EnrollError> {
        let url = checked_url(coordinator_url)?;
        let details = [("coordinator_url", url.as_str().into())];
        let mut batch = Batch::new();
        batch.audit(self.context.audit_node("coordinator_relocated", Some(operator), details));
        if !self.site.membership.relocate(url, quic_address, batch).await? {
            return Err(EnrollError::NotEnrolled);
        }
        self.site.uplink.cast(UplinkMessage::Dial);
        Ok(())
    }

    async fn join(
        &self,
        operator: &Operator,
        checked: &Checked,
        accepted: Accepted,
    ) -> Result<(), Unavailable> {
        let enrollment = Enrollment {
            coordinator_url: checked.url.clone(),
            coordinator_identity_key: *checked.key.as_bytes(),
            coordinator_tls_cert_pem: Some(accepted.tls_cert_pem),
            quic_address: accepted.quic_address,
            status: EnrollmentStatus::Enrolled,
            site_id: Some(accepted.site_id),
            enrolled_at: Some(self.context.now()),
            sync_interval_seconds: checked.interval.unwrap_or(accepted.sync_interval_seconds),
            inbound_bearer_hash: Some(accepted.inbound_bearer_hash),
        };
        let details = [("coordinator_url", checked.url.as_str().into())];
        let mut batch = Batch::new();
        batch
            .put_sealed::<table::SyncBearerSecret>(SELF, &accepted.sync_bearer)
            .audit(self.context.audit_node("site_enrolled", Some(operator), details));
        self.site.membership.store(enrollment, batch).await
    }

    /// The first contact is pinned both ways by the TLS handshake; token, certificate and proof travel inside.
    async fn complete_over_quic(&self, checked: &Checked, address: &str) -> Result<Accepted, QuicFailure> {
        let unreachable = |reason: &dyn std::fmt::Display| {
            QuicFailure::Enroll(EnrollError::Unreachable(reason.to_string()))
        };
        let Some(endpoint) = &self.endpoint else { return Err(unreachable(&"this node takes no QUIC")) };
        let to = uplink::resolve(address).await.map_err(|reason| unreachable(&reason))?;
        let link = endpoint.dial(to, checked.key).await.map_err(|error| {
            let is_removed = matches!(error, DialError::Closed(CloseCode::Removed));
            if is_removed { QuicFailure::Removed } else { unreachable(&error) }
        })?;
        let keyring = &self.context.keyring;
        let enroll = Up::Enroll(Enroll {
            token: checked.token.clone(),
            tls_cert_pem: keyring.tls.certificate_pem().to_owned(),
            identity_proof: keyring.proof(Role::Site),
        });
        let exchange = async {
            let (mut sender, mut receiver) =
                link.open(Lane::Control).await.map_err(|error| error.to_string())?;
            sender.send(&enroll.encode()).await.map_err(|error| error.to_string())?;
            let frame =
                receiver.recv(limits::FRAME_BYTES_MAX_UNENROLLED).await.map_err(|error| error.to_string())?;
            Down::decode(&frame).map_err(|error| error.to_string())
        };
        let answer = timeout(limits::ANSWER_WAIT_MAX, exchange).await;
        if link.close_reason() == Some(CloseReason::Peer(CloseCode::Removed)) {
            return Err(QuicFailure::Removed);
        }
        link.close(CloseCode::ShuttingDown);
        let answer = answer.map_err(|_| unreachable(&"no answer in time"))?.map_err(|e| unreachable(&e))?;
        if let Down::EnrollRefused(refused) = answer {
            return Err(EnrollError::Refused(refused.detail).into());
        }
        let Down::Enrolled(enrolled) = answer else {
            return Err(unreachable(&"the coordinator gave an unexpected answer"));
        };
        verify_coordinator(&checked.key, &enrolled.coordinator_tls_cert_pem, &enrolled.identity_proof)?;
        Ok(Accepted {
            site_id: enrolled.site_id,
            sync_bearer: enrolled.sync_bearer,
            inbound_bearer_hash: enrolled.coordinator_inbound_bearer_token_hash,
            tls_cert_pem: enrolled.coordinator_tls_cert_pem,
            quic_address: Some(address.to_owned()),
            sync_interval_seconds: enrolled.sync_interval_seconds,
        })
    }

    /// The documented routes. A coordinator that also takes QUIC says so; the completion then goes there.
    async fn complete_over_http(&self, checked: &Checked) -> Result<Accepted, EnrollError> {
        let base = &checked.url;
        let certificate: TlsCertBody =
            self.fetch(PeerRequest::get(format!("{base}/api/v1/federation/tls-cert"))).await?;
        let proof = certificate.identity_proof.unwrap_or_default();
        verify_coordinator(&checked.key, &certificate.cert_pem, &proof)?;
        if let (Some(quic), Some(_)) = (&certificate.quic, &self.endpoint) {
            match self.complete_over_quic(checked, &quic.address).await {
                // A firewall that lets only HTTP through is common; the documented route is there for it.
                // So is an invitation that names no key: only its token tells that a removed site may come back.
                Err(QuicFailure::Enroll(EnrollError::Unreachable(_)) | QuicFailure::Removed) => {}
                outcome => return outcome.map_err(EnrollError::from),
            }
        }
        let keyring = &self.context.keyring;
        let body = serde_json::json!({
            "tls_cert_pem": keyring.tls.certificate_pem(),
            "identity_proof": keyring.proof(Role::Site),
        });
        let token = checked.token.expose();
        let url = format!("{base}/api/v1/federation/sites/enrollment/{token}/complete");
        let request =
            PeerRequest::post(url, body.to_string().into_bytes()).header("content-type", "application/json");
        let answer: CompletionBody = self.fetch(request).await?;
        let hash = parse_hash(&answer.coordinator_inbound_bearer_token_hash)
            .ok_or_else(|| EnrollError::Unreachable("the coordinator's answer does not parse".to_owned()))?;
        Ok(Accepted {
            site_id: answer.site.id,
            sync_bearer: Secret::new(answer.sync_bearer_token),
            inbound_bearer_hash: hash,
            tls_cert_pem: certificate.cert_pem,
            quic_address: answer.quic.map(|quic| quic.address),
            sync_interval_seconds: answer
                .site
                .sync_interval_seconds
                .unwrap_or(site_limits::SYNC_INTERVAL_SECONDS_DEFAULT),
        })
    }

    async fn fetch<T: serde::de::DeserializeOwned>(&self, request: PeerRequest) -> Result<T, EnrollError> {
        let answer = self
            .context
            .http
            .call(request)
            .await
            .map_err(|error| EnrollError::Unreachable(error.to_string()))?;
        if !answer.is_success() {
            return Err(EnrollError::Refused(refusal(&answer)));
        }
        serde_json::from_slice(&answer.body)
            .map_err(|_| EnrollError::Unreachable("the coordinator's answer does not parse".to_owned()))
    }
}

fn check(request: EnrollRequest) -> Result<Checked, EnrollError> {
    let invalid = |reason: &dyn std::fmt::Display| EnrollError::Invalid(reason.to_string());
    let url = checked_url(&request.coordinator_url)?;
    let token = Secret::new(request.enrollment_token.expose().trim().to_owned());
    if token.expose().is_empty() {
        return Err(invalid(&"enrollment_token must not be blank"));
    }
    let plain =
        token.expose().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if !plain || token.expose().len() > 256 {
        return Err(invalid(&"enrollment_token is not a token: paste what the coordinator printed"));
    }
    let key = PublicKey::from_pem(&request.coordinator_identity_public_key_pem)
        .map_err(|_| invalid(&"coordinator_identity_public_key_pem is not an Ed25519 public key in PEM"))?;
    let interval = request
        .sync_interval_seconds
        .map(registry::sync_interval)
        .transpose()
        .map_err(|error| invalid(&error))?;
    Ok(Checked { url, token, key, quic_address: request.quic_address, interval })
}

fn checked_url(coordinator_url: &str) -> Result<String, EnrollError> {
    let url = hansa_model::site::site_url(coordinator_url)
        .map_err(|error| EnrollError::Invalid(format!("coordinator_url: {error}")))?;
    Ok(url.trim_end_matches('/').to_owned())
}

fn verify_coordinator(key: &PublicKey, certificate: &str, proof: &str) -> Result<(), EnrollError> {
    if verify_proof(key, Role::Coordinator, certificate, proof) {
        Ok(())
    } else {
        Err(EnrollError::CoordinatorIdentity)
    }
}

/// The reason in a refusal, if it is text; never more of a stranger's body than that.
fn refusal(answer: &PeerAnswer) -> String {
    #[derive(Deserialize)]
    struct Body {
        detail: String,
    }
    let detail = serde_json::from_slice::<Body>(&answer.body).ok().map(|body| body.detail);
    let detail: String = detail.unwrap_or_default().chars().filter(|c| !c.is_control()).take(300).collect();
    format!("HTTP {} {detail}", answer.status).trim_end().to_owned()
}

fn parse_hash(text: &str) -> Option<TokenHash> {
    let bytes: Option<Vec<u8>> = text
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    bytes?.try_into().ok()
}

#[derive(Deserialize)]
struct QuicBody {
    address: String,
}

#[derive(Deserialize)]
struct TlsCertBody {
    cert_pem: String,
    identity_proof: Option<String>,
    quic: Option<QuicBody>,
}

#[derive(Deserialize)]
struct CompletionBody {
    site: SiteBody,
    sync_bearer_token: String,
    coordinator_inbound_bearer_token_hash: String,
    quic: Option<QuicBody>,
}

#[derive(Deserialize)]
struct SiteBody {
    id: SiteId,
    sync_interval_seconds: Option<u32>,
}
