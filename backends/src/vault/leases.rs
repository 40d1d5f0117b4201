//! Credentials that an engine makes for a while: OpenBao's database engine, and those of its kind.
//!
//! A lease hangs on the token that asked for it: when that ends, so does the lease, whatever time it had. So
//! what is told of its life is the shorter of the two, and the login is never given back.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use hansa_model::Secret;
use hansa_model::limits::secrets as limits;

use super::{Asked, NOT_VAULT, Vault, parse, says};
use crate::driver::{Call, CallError, Leased, Leaser};

#[derive(Deserialize)]
struct Given<'a> {
    #[serde(default)]
    lease_id: String,
    #[serde(default)]
    lease_duration: u64,
    #[serde(default)]
    renewable: bool,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Renewed {
    lease_duration: u64,
}

impl Vault {
    async fn make(&self, path: &str, life: Duration) -> Result<Leased, CallError> {
        if path.split('/').any(|segment| matches!(segment, "" | "." | ".."))
            || path.len() > limits::REMOTE_NAME_BYTES_MAX
            || path.chars().any(char::is_control)
        {
            return Err(CallError::Name);
        }
        let request = || Asked::get(path.to_owned());
        let (answer, session) = self.call_in_session(request, limits::ANSWER_BYTES_MAX).await?;
        if answer.status == 400 && says(&answer, "unknown role") {
            return Err(CallError::NotFound);
        }
        self.wire.judge(&answer)?;
        let given: Given<'_> = parse(&answer)?;
        let id = given.lease_id;
        if id.is_empty() {
            return Err(CallError::BadAnswer { reason: "it gives no lease at this path" });
        }
        if id.len() > limits::REMOTE_NAME_BYTES_MAX || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(NOT_VAULT);
        }
        let Some(data) = given.data.map(RawValue::get).filter(|data| data.starts_with('{')) else {
            return Err(NOT_VAULT);
        };
        let data = Secret::new(data.to_owned());
        if session.ticket.uses.is_some() {
            self.take_away(&id).await?;
            let reason = "its token may be used only so many times, and leases end with it";
            return Err(CallError::Refused { reason });
        }
        let granted = if given.renewable && given.lease_duration != life.as_secs() {
            self.set_life(&id, life).await
        } else {
            Ok(given.lease_duration)
        };
        let seconds = match granted {
            Ok(seconds) => seconds,
            Err(error) => {
                // Nobody would know how long it lives. What cannot be taken away now ends by itself.
                let _ = self.take_away(&id).await;
                return Err(error);
            }
        };
        let life = Duration::from_secs(seconds);
        let life = session.rest().map_or(life, |rest| rest.min(life));
        Ok(Leased { lease_id: id, life, data })
    }

    /// Sets what is left of a lease, as far as its role allows; answers the seconds that it got.
    async fn set_life(&self, id: &str, life: Duration) -> Result<u64, CallError> {
        let body = json!({"lease_id": id, "increment": life.as_secs()}).to_string().into_bytes();
        let request = || Asked::post("sys/leases/renew".to_owned(), body.clone());
        let answer = self.call(request, limits::ANSWER_BYTES_MAX).await?;
        self.wire.judge(&answer)?;
        Ok(parse::<Renewed>(&answer)?.lease_duration)
    }

    async fn take_away(&self, id: &str) -> Result<(), CallError> {
        // Without `sync` the server would answer before the credential has gone.
        let body = json!({"lease_id": id, "sync": true}).to_string().into_bytes();
        let request = || Asked::post("sys/leases/revoke".to_owned(), body.clone());
        let answer = self.call(request, limits::ANSWER_BYTES_MAX).await?;
        if answer.status == 400 && (says(&answer, "lease not found") || says(&answer, "invalid lease")) {
            return Ok(());
        }
        self.wire.judge(&answer)
    }
}

impl Leaser for Vault {
    fn lease<'a>(&'a self, path: &'a str, life: Duration) -> Call<'a, Leased> {
        Box::pin(self.make(path, life))
    }

    fn end<'a>(&'a self, lease_id: &'a str) -> Call<'a, ()> {
        Box::pin(self.take_away(lease_id))
    }
}
