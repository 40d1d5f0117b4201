//! Pushes to a site that speaks only HTTP: the documented routes of contract B7, signed and stamped.

use bytes::Bytes;
use hansa_model::Secret;
use hansa_model::machine::stamp::{self, STAMP_HEADER};
use hansa_model::push::{CommandPush, LeasePush, PolicyPush, PushContent};
use hansa_model::secret::hex;
use hansa_transport::http::{PeerAnswer, PeerRequest};
use serde_json::{Value, json};

use crate::context::Context;

/// What became of a post.
#[derive(Debug)]
pub(crate) enum Posted {
    /// The peer has it.
    Taken,
    /// The peer will never take it.
    Refused(String),
    /// The peer could not be asked, or cannot take anything now.
    Outage(String),
}

const POLICIES: &str = "/api/v1/federation/site/policies";
const COMMANDS: &str = "/api/v1/federation/site/commands";
const LEASES: &str = "/api/v1/federation/site/secret-leases";

/// Path and body of a content; members beyond the documented ones are ours, and other makes ignore them.
pub(crate) fn documented(content: &PushContent) -> Option<(&'static str, Bytes)> {
    let (path, body) = match content {
        PushContent::Policy(policy) => (POLICIES, policy_body(policy)),
        PushContent::WithdrawPolicy(withdrawal) => (
            POLICIES,
            json!({
                "policy_id": withdrawal.policy_id,
                "version": withdrawal.version,
                "withdrawn": true,
            }),
        ),
        PushContent::Command(command) => (COMMANDS, command_body(command)),
        PushContent::CancelCommand(cancel) => {
            (COMMANDS, json!({ "command_id": cancel.command_id, "cancelled": true }))
        }
        // Ours; a peer over HTTP is not asked.
        PushContent::AskCommand(_) => return None,
        PushContent::Lease(lease) => (LEASES, lease_body(lease)),
    };
    Some((path, body.to_string().into()))
}

/// Text that the coordinator stored as a JSON object.
fn object(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| json!({}))
}

fn policy_body(policy: &PolicyPush) -> Value {
    json!({
        "policy_id": policy.policy_id,
        "policy_type": policy.policy_type,
        "name": policy.name,
        "definition": object(&policy.definition),
        "version": policy.version,
    })
}

fn command_body(command: &CommandPush) -> Value {
    let mut body = json!({
        "command_id": command.command_id,
        "command_type": command.command_type,
        "parameters": object(&command.parameters),
        "target_host_ids": command.target_host_ids,
    });
    if let Some(expires_at) = command.expires_at {
        body["expires_at"] = json!(expires_at);
    }
    body
}

fn lease_body(lease: &LeasePush) -> Value {
    let mut body = json!({
        "correlation_key": lease.correlation_key,
        "host_id": lease.host_id,
        "secret_name": lease.secret_name,
        "status": lease.status,
        "secret_metadata": lease.secret_metadata.as_deref().map(object),
        "secret_value": lease.secret_value.as_ref().map(|value| value.expose().as_str()),
    });
    if let Some(error) = &lease.error {
        body["error"] = json!(error);
    }
    if let Some(expires_at) = lease.expires_at {
        body["expires_at"] = json!(expires_at);
    }
    body
}

/// Posts a body to a peer, signed over its exact bytes, and stamped with route and time.
pub(crate) async fn post(
    context: &Context,
    base_url: &str,
    path: &str,
    body: Bytes,
    bearer: Secret<String>,
) -> Posted {
    let request = signed(context, base_url, path, body, bearer);
    match context.http.call(request).await {
        Ok(answer) if answer.is_success() => Posted::Taken,
        Ok(answer) => judge(&answer),
        Err(error) => Posted::Outage(format!("http error: {error}")),
    }
}

/// A signed and stamped request to a peer (contract 1.6, 13.17).
pub(crate) fn signed(
    context: &Context,
    base_url: &str,
    path: &str,
    body: Bytes,
    bearer: Secret<String>,
) -> PeerRequest {
    let tls = &context.keyring.tls;
    let signature = tls.sign_request(&body);
    let (at, nonce) = (context.now().as_secs(), hex(&context.entropy.bytes::<16>()));
    let message = stamp::message("POST", path, at, &nonce, &body);
    let stamp = stamp::header(at, &nonce, &tls.sign_request(message.as_bytes()));
    PeerRequest::post(format!("{}{path}", base_url.trim_end_matches('/')), body)
        .bearer(bearer)
        .header("content-type", "application/json")
        .header("x-federation-signature", signature)
        .header(STAMP_HEADER, stamp)
}

/// What an error status says: about the peer, or about the content (architecture 11).
fn judge(answer: &PeerAnswer) -> Posted {
    let error = format!("HTTP {}", answer.status);
    match answer.status {
        401 | 403 | 408 | 425 | 429 => Posted::Outage(error),
        400..=499 => Posted::Refused(error),
        _ => Posted::Outage(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_permanent_refusals_count_against_the_content() {
        for status in [401, 403, 408, 425, 429, 500, 503] {
            let answer = PeerAnswer { status, body: Bytes::new() };
            assert!(matches!(judge(&answer), Posted::Outage(_)), "{status}");
        }
        for status in [400, 404, 409, 413, 422] {
            let answer = PeerAnswer { status, body: Bytes::new() };
            assert!(matches!(judge(&answer), Posted::Refused(_)), "{status}");
        }
    }
}
