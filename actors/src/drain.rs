//! The way up to a coordinator that speaks only HTTP: the documented ingest routes (contract B6, 3.4).
//!
//! One pass posts what waits, oldest first, each body signed. A payload leaves the queue only on 2xx; a
//! permanent refusal counts against it alone; an outage or an authentication failure ends the pass and
//! counts against nothing (contract 13.1, 13.2).

use std::sync::Arc;

use hansa_model::report::payload_type as types;
use hansa_model::{Secret, SiteId};
use hansa_storage::table;
use hansa_transport::http::PeerAnswer;
use serde::Deserialize;
use tracing::debug;

use crate::context::Context;
use crate::persistence::SELF;
use crate::post;
use crate::supervision::Handle;
use crate::sync_queue::{Delivery, HOST_DIRECTORY, HOST_ROLLUP, METADATA, SyncQueueMessage};
use crate::uplink::Ended;

/// One pass.
pub(crate) struct Drain {
    pub(crate) context: Arc<Context>,
    pub(crate) queue: Handle<SyncQueueMessage>,
    pub(crate) coordinator_url: String,
    pub(crate) site: Option<SiteId>,
    /// Send the directory even if no change waits.
    pub(crate) snapshot: bool,
}

/// What an answer means for the delivery and the pass.
enum Verdict {
    Taken,
    Refused(String),
    Over(Ended),
}

impl Drain {
    /// Posts what waits.
    pub(crate) async fn run(self) -> Ended {
        let bearer = match self.bearer() {
            Ok(bearer) => bearer,
            Err(reason) => return Ended::Failed(reason),
        };
        let Some(site) = self.site else {
            return Ended::Failed("the membership has no site id: enroll again".to_owned());
        };
        let snapshot = self.snapshot;
        let deliveries = match self.queue.call(|reply| SyncQueueMessage::Deliveries { snapshot, reply }).await
        {
            Ok(deliveries) => deliveries,
            Err(error) => return Ended::Failed(error.to_string()),
        };
        for delivery in deliveries {
            let Some(route) = route(&delivery.payload_type) else { continue };
            let path = format!("/api/v1/federation/sites/{site}/{route}");
            match self.post(&path, &delivery, bearer.clone()).await {
                Verdict::Taken => {
                    let id = delivery.id;
                    let taken =
                        self.queue.call(|reply| SyncQueueMessage::Delivered { delivery: id, reply }).await;
                    if let Err(error) | Ok(Err(error)) = taken {
                        return Ended::Failed(error.to_string());
                    }
                }
                Verdict::Refused(error) => {
                    debug!(payload_type = %delivery.payload_type, %error, "payload refused");
                    self.queue.cast(SyncQueueMessage::Undeliverable { delivery: delivery.id, error });
                }
                Verdict::Over(why) => return why,
            }
        }
        Ended::Drained
    }

    fn bearer(&self) -> Result<Secret<String>, String> {
        let view = self.context.store.read().map_err(|error| error.to_string())?;
        let bearer = view.get_sealed::<table::SyncBearerSecret>(SELF).map_err(|error| error.to_string())?;
        let bearer = bearer.ok_or("no bearer is stored: enroll again")?;
        String::from_utf8(bearer.expose().clone())
            .map(Secret::new)
            .map_err(|_| "the stored bearer is damaged: enroll again".to_owned())
    }

    async fn post(&self, path: &str, delivery: &Delivery, bearer: Secret<String>) -> Verdict {
        let request = post::signed(&self.context, &self.coordinator_url, path, delivery.body.clone(), bearer);
        match self.context.http.call(request).await {
            Ok(answer) if answer.is_success() => Verdict::Taken,
            Ok(answer) => judge(&answer),
            Err(error) => Verdict::Over(Ended::Failed(format!("http error: {error}"))),
        }
    }
}

/// What an error status says: about the link, or about the payload (architecture 11).
fn judge(answer: &PeerAnswer) -> Verdict {
    #[derive(Deserialize)]
    struct Body {
        code: String,
    }
    let error = format!("HTTP {}", answer.status);
    match answer.status {
        401 => {
            let code = serde_json::from_slice::<Body>(&answer.body).map(|body| body.code);
            let suspended = code.is_ok_and(|code| code == "site_suspended");
            Verdict::Over(if suspended { Ended::Suspended } else { Ended::Failed(error) })
        }
        403 | 408 | 425 | 429 => Verdict::Over(Ended::Failed(error)),
        400..=499 => Verdict::Refused(error),
        _ => Verdict::Over(Ended::Failed(error)),
    }
}

/// The documented route of a payload type, below the site.
fn route(payload_type: &str) -> Option<&'static str> {
    match payload_type {
        METADATA => Some("metadata"),
        HOST_ROLLUP => Some("rollups/hosts"),
        HOST_DIRECTORY => Some("host-directory"),
        types::COMPLIANCE_ROLLUP => Some("rollups/compliance"),
        types::VULNERABILITY_ROLLUP => Some("rollups/vulnerabilities"),
        types::COMMAND_RESULT => Some("command-results"),
        types::SECRET_LEASE_REQUEST => Some("secret-lease-requests"),
        types::POLICY_RESULT => Some("policy-results"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16, body: &'static str) -> Verdict {
        judge(&PeerAnswer { status, body: body.into() })
    }

    #[test]
    fn suspension_is_a_state_of_the_link_and_not_a_failure_of_the_payload() {
        let verdict = judged(401, r#"{"detail":"on hold","code":"site_suspended"}"#);

        assert!(matches!(verdict, Verdict::Over(Ended::Suspended)));
    }

    #[test]
    fn only_permanent_refusals_count_against_the_payload() {
        for status in [401, 403, 408, 425, 429, 500, 503] {
            assert!(matches!(judged(status, "{}"), Verdict::Over(Ended::Failed(_))), "{status}");
        }
        for status in [400, 404, 409, 413, 422] {
            assert!(matches!(judged(status, "{}"), Verdict::Refused(_)), "{status}");
        }
    }
}
