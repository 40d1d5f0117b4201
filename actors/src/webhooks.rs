//! Tells configured webhooks what happens: signed, in order, until they take it.
//!
//! Every event is in a log from the batch that made it. Each webhook has a cursor; it moves on 2xx alone, so
//! an event is told at least once, and one that nobody takes holds up its own webhook only. Events are kept
//! for a week.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hansa_model::alert::Alert;
use hansa_model::audit::Detail;
use hansa_model::limits::webhook as limits;
use hansa_model::machine::link;
use hansa_model::scope::Operator;
use hansa_model::webhook::{Webhook, WebhookEvent};
use hansa_model::{Secret, Timestamp};
use hansa_storage::{Batch, Lane, table};
use hansa_transport::http::PeerRequest;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::time::Instant;
use tracing::debug;

use crate::context::Context;
use crate::error::{Unavailable, WebhookError};
use crate::supervision::Tied;
use crate::view::{SiteView, WebhookView};

/// Everything the webhooks can be asked.
#[derive(Debug)]
pub(crate) enum WebhooksMessage {
    /// Something may be due. No answer.
    Pump,
    /// A try is over. No answer.
    Told { name: String, position: u64, outcome: Result<(), String> },
    /// How each webhook stands. Answers at once.
    List { reply: RpcReplyPort<Vec<WebhookView>> },
    /// Tell a webhook again what came after an event, or everything that is kept. Answers with how many
    /// events that are, once the place is on disk.
    Replay {
        name: String,
        since: Option<Timestamp>,
        operator: Operator,
        reply: RpcReplyPort<Result<u64, WebhookError>>,
    },
    /// Fails on purpose, to show that only this actor restarts.
    #[cfg(feature = "testing")]
    DangerPanic,
}

pub(crate) struct WebhooksActor {
    pub(crate) context: Arc<Context>,
}

struct Told {
    webhook: Webhook,
    /// The last position that it took.
    cursor: u64,
    under_way: Option<Tied>,
    failures: u32,
    not_before: Option<Instant>,
    last_error: Option<String>,
}

pub(crate) struct WebhooksState {
    webhooks: BTreeMap<String, Told>,
    _ticker: Tied,
}

impl Actor for WebhooksActor {
    type Msg = WebhooksMessage;
    type State = WebhooksState;
    type Arguments = ();

    async fn pre_start(
        &self,
        myself: ActorRef<WebhooksMessage>,
        (): (),
    ) -> Result<WebhooksState, ActorProcessingErr> {
        let view = self.context.store.read()?;
        let end = view.log_end::<table::WebhookLog>()?;
        let mut webhooks = BTreeMap::new();
        for webhook in &self.context.config.webhooks {
            // A new webhook begins with what happens from now on.
            let cursor = view.get::<table::WebhookCursors>(webhook.name.as_str())?.unwrap_or(end);
            let told = Told {
                webhook: webhook.clone(),
                cursor,
                under_way: None,
                failures: 0,
                not_before: None,
                last_error: None,
            };
            webhooks.insert(webhook.name.clone(), told);
        }
        let ticker = Tied::spawn(async move {
            loop {
                if myself.cast(WebhooksMessage::Pump).is_err() {
                    return;
                }
                tokio::time::sleep(limits::TICK).await;
            }
        });
        Ok(WebhooksState { webhooks, _ticker: ticker })
    }

    async fn handle(
        &self,
        myself: ActorRef<WebhooksMessage>,
        message: WebhooksMessage,
        state: &mut WebhooksState,
    ) -> Result<(), ActorProcessingErr> {
        // A caller that gave up has nothing to be told.
        match message {
            WebhooksMessage::Pump => self.retain().await,
            WebhooksMessage::Told { name, position, outcome } => {
                self.told(state, &name, position, outcome).await;
            }
            WebhooksMessage::List { reply } => {
                let end = self.context.store.read()?.log_end::<table::WebhookLog>()?;
                let _ = reply.send(state.webhooks.values().map(|told| told.view(end)).collect());
            }
            WebhooksMessage::Replay { name, since, operator, reply } => {
                let _ = reply.send(self.replay(state, &name, since, &operator).await);
            }
            #[cfg(feature = "testing")]
            WebhooksMessage::DangerPanic => panic!("asked to fail"),
        }
        self.pump(state, &myself);
        Ok(())
    }
}

impl Told {
    fn view(&self, end: u64) -> WebhookView {
        WebhookView {
            name: self.webhook.name.clone(),
            waiting: end.saturating_sub(self.cursor),
            consecutive_failures: self.failures,
            last_error: self.last_error.clone(),
        }
    }
}

impl WebhooksActor {
    fn pump(&self, state: &mut WebhooksState, myself: &ActorRef<WebhooksMessage>) {
        let Ok(view) = self.context.store.read() else { return };
        let now = Instant::now();
        for (name, told) in &mut state.webhooks {
            if told.under_way.is_some() || told.not_before.is_some_and(|gate| gate > now) {
                continue;
            }
            let mut next = None;
            let read = view.for_each_from::<table::WebhookLog>(told.cursor + 1, |position, body| {
                next = postcard::from_bytes::<WebhookEvent>(body).ok().map(|event| (position, event));
                ControlFlow::Break(())
            });
            let (Ok(()), Some((position, event))) = (read, next) else { continue };
            let (context, webhook) = (Arc::clone(&self.context), told.webhook.clone());
            let (myself, name) = (myself.clone(), name.clone());
            told.under_way = Some(Tied::spawn(async move {
                let outcome = tell(&context, &webhook, &event).await;
                let _ = myself.cast(WebhooksMessage::Told { name, position, outcome });
            }));
        }
    }

    async fn told(&self, state: &mut WebhooksState, name: &str, position: u64, outcome: Result<(), String>) {
        let Some(told) = state.webhooks.get_mut(name) else { return };
        told.under_way = None;
        let outcome = match outcome {
            Ok(()) => {
                let mut batch = Batch::new();
                batch.put::<table::WebhookCursors>(name, &position);
                self.context.commit(Lane::Operator, batch).await.map(drop).map_err(|error| error.to_string())
            }
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => {
                told.cursor = position;
                told.failures = 0;
                told.not_before = None;
                told.last_error = None;
            }
            Err(error) => {
                debug!(webhook = name, %error, "webhook did not take an event");
                told.failures = told.failures.saturating_add(1);
                let wait = link::entry_wait(told.failures, self.context.entropy.u64());
                told.not_before = Some(Instant::now() + wait);
                told.last_error = Some(error);
            }
        }
    }

    async fn replay(
        &self,
        state: &mut WebhooksState,
        name: &str,
        since: Option<Timestamp>,
        operator: &Operator,
    ) -> Result<u64, WebhookError> {
        let told = state.webhooks.get_mut(name).ok_or_else(|| WebhookError::NotFound(name.to_owned()))?;
        let view = self.context.store.read().map_err(|_| Unavailable::Storage)?;
        let end = view.log_end::<table::WebhookLog>().map_err(|_| Unavailable::Storage)?;
        let mut first = end + 1;
        view.for_each_from::<table::WebhookLog>(0, |position, body| {
            let at = postcard::from_bytes::<WebhookEvent>(body).map(|event| event.at);
            if since.is_none_or(|since| at.is_ok_and(|at| at >= since)) {
                first = position;
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })
        .map_err(|_| Unavailable::Storage)?;
        let cursor = first - 1;
        let mut batch = Batch::new();
        batch.put::<table::WebhookCursors>(name, &cursor);
        let waiting = Detail::Int(i64::try_from(end - cursor).unwrap_or(i64::MAX));
        let details = [("name", name.into()), ("waiting", waiting)];
        batch.audit(self.context.audit_node("webhook_replayed", Some(operator), details));
        self.context.commit(Lane::Operator, batch).await?;
        // A try that is under way ends without effect on the new place.
        told.under_way = None;
        told.cursor = cursor;
        told.failures = 0;
        told.not_before = None;
        Ok(end - cursor)
    }

    /// Folds away what is older than a week, whether or not everybody took it.
    async fn retain(&self) {
        let Ok(view) = self.context.store.read() else { return };
        let before = self.context.now().before(limits::KEPT);
        let (mut first, mut last) = (None, None);
        let read = view.for_each_from::<table::WebhookLog>(0, |position, body| {
            let old = postcard::from_bytes::<WebhookEvent>(body).is_ok_and(|event| event.at < before);
            if !old {
                return ControlFlow::Break(());
            }
            first.get_or_insert(position);
            last = Some(position);
            ControlFlow::Continue(())
        });
        let (Ok(()), Some(first), Some(last)) = (read, first, last) else { return };
        let mut batch = Batch::new();
        batch.delete_log::<table::WebhookLog>(first..last + 1);
        // What is not folded away now is at the next pass.
        let _ = self.context.commit(Lane::Operator, batch).await;
    }
}

async fn tell(context: &Context, webhook: &Webhook, event: &WebhookEvent) -> Result<(), String> {
    let body = event.body();
    let at = context.now().as_secs();
    let signature = sign(&webhook.secret, &event.signed_text(at, &body));
    let request = PeerRequest::post(webhook.url.clone(), body)
        .header("content-type", "application/json")
        .header("webhook-id", event.id.clone())
        .header("webhook-timestamp", at.to_string())
        .header("webhook-signature", signature);
    match context.http.call(request).await {
        Ok(answer) if answer.is_success() => Ok(()),
        Ok(answer) => Err(format!("HTTP {}", answer.status)),
        Err(error) => Err(format!("http error: {error}")),
    }
}

/// The signature as the Standard Webhooks convention has it: `v1,` and HMAC-SHA-256 in base64.
fn sign(secret: &Secret<Vec<u8>>, text: &str) -> String {
    format!("v1,{}", STANDARD.encode(hansa_transport::http::hmac_sha256(secret, text.as_bytes())))
}

/// An alert's event.
pub(crate) fn event(site: &SiteView, alert: &Alert, word: &str, at: Timestamp) -> WebhookEvent {
    let data = serde_json::json!({
        "id": alert.id,
        "site_id": alert.site_id,
        "site_name": site.site.name.as_str(),
        "condition": alert.condition.as_str(),
        "severity": alert.severity.as_str(),
        "title": alert.title,
        "message": alert.message,
        "details": alert.details.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect::<serde_json::Map<_, serde_json::Value>>(),
        "triggered_at": alert.triggered_at,
        "resolved_at": alert.resolved_at,
        "acknowledged_at": alert.acknowledged_at,
    });
    WebhookEvent {
        id: format!("{}.{word}", alert.id),
        kind: format!("alert.{word}"),
        at,
        data: data.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signature_is_that_of_the_convention() {
        // The example of the convention's own documentation.
        let secret = Secret::new(STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap());
        let event = WebhookEvent {
            id: "msg_p5jXN8AQM9LWM0D4loKWxJek".to_owned(),
            kind: String::new(),
            at: Timestamp::EPOCH,
            data: String::new(),
        };

        let signature = sign(&secret, &event.signed_text(1_614_265_330, r#"{"test": 2432232314}"#));

        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
