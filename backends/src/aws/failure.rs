//! What the service's errors mean to us. Their texts are never used.

use std::error::Error;

use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use hansa_model::limits::secrets as limits;

use crate::connect::Connector;
use crate::driver::CallError;

/// What a failed call means.
pub(super) fn failure<E>(connector: &Connector, error: SdkError<E, HttpResponse>) -> CallError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    // What our own connector or login said comes back inside.
    let mut source: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(inner) = source {
        if let Some(ours) = inner.downcast_ref::<CallError>() {
            return ours.clone();
        }
        source = inner.source();
    }
    let response = error.raw_response();
    let status = response.map_or(0, |response| response.status().as_u16());
    let retry_after = response.and_then(|response| response.headers().get("retry-after")).and_then(|value| {
        let value = http::HeaderValue::from_str(value).ok()?;
        crate::connect::retry_after(&value, connector.now())
    });
    if let SdkError::ServiceError(service) = &error
        && let Some(code) = service.err().code()
    {
        let failure = code_failure(connector, Some(code));
        // A type that nobody knows says less than its status.
        let is_unknown = matches!(failure, CallError::BadAnswer { .. }) && matches!(status, 429 | 500..=599);
        return if matches!(failure, CallError::Throttled { .. }) {
            CallError::Throttled { retry_after }
        } else if is_unknown {
            status_failure(status, retry_after)
        } else {
            failure
        };
    }
    let broken = |reason| CallError::Unavailable { reason, retry_after: None, connect: false };
    if matches!(error, SdkError::TimeoutError(_)) {
        broken("it did not answer in time")
    } else if matches!(error, SdkError::DispatchFailure(_)) {
        broken("the connection broke")
    } else if matches!(error, SdkError::ConstructionFailure(_)) {
        CallError::Name
    } else {
        status_failure(status, retry_after)
    }
}

fn status_failure(status: u16, retry_after: Option<std::time::Duration>) -> CallError {
    match status {
        429 => CallError::Throttled { retry_after },
        500..=599 => CallError::Unavailable {
            reason: "it answers with an error of its own",
            retry_after,
            connect: false,
        },
        300..=399 => CallError::BadAnswer { reason: "it sends us elsewhere" },
        _ => CallError::BadAnswer { reason: "it does not answer as Secrets Manager does" },
    }
}

/// What a type of error means, wherever it stands.
pub(super) fn code_failure(connector: &Connector, code: Option<&str>) -> CallError {
    match code.unwrap_or_default() {
        // The second is among others for what is marked for deletion.
        "ResourceNotFoundException" | "InvalidRequestException" => CallError::NotFound,
        "ResourceExistsException" => CallError::Conflict,
        "DecryptionFailure" | "EncryptionFailure" => {
            CallError::Refused { reason: "its key service cannot decrypt" }
        }
        "AccessDeniedException"
        | "AccessDenied"
        | "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "ExpiredTokenException"
        | "ExpiredToken"
        | "InvalidClientTokenId"
        | "OptInRequired"
        | "NotAuthorized" => connector.refused("the key or its permission is refused"),
        "RequestExpired" | "RequestTimeTooSkewed" | "RequestInTheFuture" => {
            CallError::Refused { reason: "it finds our signature out of time: check the clock" }
        }
        "ThrottlingException"
        | "Throttling"
        | "TooManyRequestsException"
        | "RequestLimitExceeded"
        | "LimitExceededException"
        | "SlowDown" => CallError::Throttled { retry_after: None },
        "InternalServiceError" | "InternalFailure" | "ServiceUnavailable" | "ServiceUnavailableException" => {
            CallError::Unavailable {
                reason: "it answers with an error of its own",
                retry_after: None,
                connect: false,
            }
        }
        _ => CallError::BadAnswer { reason: "it takes the request for a wrong one" },
    }
}

/// Bytes of an answer to this operation.
pub(super) fn bytes_max(target: Option<&str>) -> usize {
    match target {
        Some("secretsmanager.ListSecrets" | "secretsmanager.BatchGetSecretValue") => {
            limits::LISTING_BYTES_MAX
        }
        Some(_) | None => limits::ANSWER_BYTES_MAX,
    }
}
