//! One signed request to AWS's security token service: for Vault's `aws` login, and to take on a role.

use std::fmt;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue};

use hansa_model::{Secret, Timestamp};

/// A key pair, and what makes it temporary.
#[derive(Clone)]
pub(crate) struct AwsKeys {
    pub(crate) access_key_id: Secret<String>,
    pub(crate) secret_access_key: Secret<String>,
    pub(crate) session_token: Option<Secret<String>>,
}

impl fmt::Debug for AwsKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AwsKeys")
    }
}

impl AwsKeys {
    pub(crate) fn credentials(&self) -> Credentials {
        let session_token = self.session_token.as_ref().map(|token| token.expose().clone());
        Credentials::new(
            self.access_key_id.expose(),
            self.secret_access_key.expose(),
            session_token,
            None,
            "hansa",
        )
    }
}

/// A `POST` of this form to the service at `url`, signed. None when something in it cannot stand in a request.
pub(crate) fn signed_sts_post(
    keys: &AwsKeys,
    region: &str,
    url: &str,
    form: &str,
    extra: Option<(HeaderName, &str)>,
    now: Timestamp,
) -> Option<http::Request<Bytes>> {
    let uri: http::Uri = url.parse().ok()?;
    let host = uri.authority()?.as_str().to_owned();
    let mut request = http::Request::post(uri)
        .header(HOST, host)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded; charset=utf-8")
        .body(Bytes::copy_from_slice(form.as_bytes()))
        .ok()?;
    if let Some((name, value)) = extra {
        request.headers_mut().insert(name, HeaderValue::from_str(value).ok()?);
    }
    let identity = keys.credentials().into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("sts")
        .time(system_time(now))
        .settings(SigningSettings::default())
        .build()
        .ok()?
        .into();
    let headers: Vec<(&str, &str)> = request
        .headers()
        .iter()
        .map(|(name, value)| value.to_str().map(|value| (name.as_str(), value)))
        .collect::<Result<_, _>>()
        .ok()?;
    let signable =
        SignableRequest::new("POST", url, headers.into_iter(), SignableBody::Bytes(form.as_bytes())).ok()?;
    let (instructions, _signature) = sign(signable, &parameters).ok()?.into_parts();
    instructions.apply_to_request_http1x(&mut request);
    Some(request)
}

/// An instant as AWS's crates take it.
pub(crate) fn system_time(now: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(now.as_micros()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Held against a signature that was worked out step by step from the published algorithm.
    #[test]
    fn signed_request_carries_scope_date_and_token() {
        let keys = AwsKeys {
            access_key_id: Secret::new("AKIDEXAMPLE".to_owned()),
            secret_access_key: Secret::new("secret-key".to_owned()),
            session_token: Some(Secret::new("session".to_owned())),
        };
        let now = "2026-11-22T08:30:00Z".parse().unwrap();
        let form = "Action=GetCallerIdentity&Version=2011-06-15";

        let request =
            signed_sts_post(&keys, "us-east-1", "https://sts.us-east-1.amazonaws.com/", form, None, now)
                .unwrap();

        let header = |name: &str| request.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("x-amz-date"), "20261122T083000Z");
        assert_eq!(header("x-amz-security-token"), "session");
        let authorization = header("authorization");
        assert!(authorization.contains("Credential=AKIDEXAMPLE/20261122/us-east-1/sts/aws4_request"));
        assert!(authorization.contains("SignedHeaders=content-type;host;x-amz-date;x-amz-security-token"));
        assert!(!authorization.contains("secret-key"));
    }
}
