//! The services that tell a machine who it is: Google's, AWS's of an instance and of a container, and the part of
//! STS that takes a pod's web identity, as their documentation has them. They give nothing to who asks otherwise.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hansa::system::SystemClock;
use hansa_backends::Machine;
use hansa_model::WallClock as _;
use serde_json::{Value, json};

use super::{form, split_target};
use crate::scripted::{Scripted, ScriptedRequest, ScriptedServer};

/// The imitation; it ends with its value.
#[derive(Debug)]
pub struct MetadataImitation {
    /// Where faults are put in, and what was asked is seen.
    pub server: ScriptedServer,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Seconds for what it gives.
    life: AtomicU64,
    given: AtomicUsize,
}

impl MetadataImitation {
    /// What the container's agent wants to see.
    pub const CONTAINER: &str = "container-one";
    /// What STS wants to see, and the role that it gives for it.
    pub const IDENTITY: &str = "pod.identity.text";
    /// See [`Self::IDENTITY`].
    pub const ROLE: &str = "arn:aws:iam::123456789012:role/pod";

    /// Starts it on a free loopback port.
    pub async fn start() -> Self {
        let shared = Arc::new(Shared { life: AtomicU64::new(3_600), given: AtomicUsize::new(0) });
        let serving = shared.clone();
        let server = ScriptedServer::start(move |request| serving.answer(request)).await;
        Self { server, shared }
    }

    /// What it gives from now on ends after this many seconds.
    pub fn give_for(&self, seconds: u64) {
        self.shared.life.store(seconds, Ordering::Relaxed);
    }

    /// How many logins it gave.
    pub fn given(&self) -> usize {
        self.shared.given.load(Ordering::Relaxed)
    }

    /// A machine at Google, or an instance at AWS: both find their service here.
    pub fn machine(&self) -> Machine {
        let host = format!("127.0.0.1:{}", self.server.port());
        self.machine_with(&[
            ("GCE_METADATA_HOST", &host),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", &self.server.url()),
        ])
    }

    /// A machine whose node was started with these variables.
    pub fn machine_with(&self, variables: &[(&str, &str)]) -> Machine {
        let variables: BTreeMap<&str, &str> = variables.iter().copied().collect();
        Machine::of_variables(|name| variables.get(name).map(|value| (*value).to_owned()))
    }
}

impl Shared {
    fn answer(&self, request: &ScriptedRequest) -> Scripted {
        const ACCOUNT: &str = "/computeMetadata/v1/instance/service-accounts/default/";
        const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
        let (path, query) = split_target(&request.path);
        if let Some(what) = path.strip_prefix(ACCOUNT) {
            if request.method != "GET" || request.header("metadata-flavor") != Some("Google") {
                return Scripted::status(403);
            }
            return match what {
                "token" => Scripted::json(200, self.token()),
                "identity" if query.get("format").is_some_and(|format| format == "full") => {
                    self.identity(query.get("audience").map_or("", String::as_str))
                }
                _ => Scripted::status(404),
            };
        }
        let may_ask = request.header("x-aws-ec2-metadata-token") == Some("instance-token");
        match (request.method.as_str(), path.as_str()) {
            ("PUT", "/latest/api/token") => match request.header("x-aws-ec2-metadata-token-ttl-seconds") {
                Some(_) => text("instance-token"),
                None => Scripted::status(400),
            },
            ("GET", path) if path.starts_with(ROLES) && !may_ask => Scripted::status(401),
            ("GET", ROLES) => text("web-server\n"),
            ("GET", path) if path.strip_prefix(ROLES) == Some("web-server") => {
                Scripted::json(200, self.keys("INSTANCE"))
            }
            ("GET", "/v1/credentials") => match request.header("authorization") {
                Some(MetadataImitation::CONTAINER) => Scripted::json(200, self.keys("CONTAINER")),
                Some(_) | None => Scripted::status(401),
            },
            ("POST", "/") => self.role(&form(&request.text())),
            _ => Scripted::status(404),
        }
    }

    /// What Google's service answers.
    fn token(&self) -> Value {
        let number = self.given.fetch_add(1, Ordering::Relaxed);
        let life = self.life.load(Ordering::Relaxed);
        json!({"access_token": format!("ya29.machine-{number}"), "expires_in": life, "token_type": "Bearer"})
    }

    fn identity(&self, audience: &str) -> Scripted {
        self.given.fetch_add(1, Ordering::Relaxed);
        let claims = json!({"aud": audience, "google": {"compute_engine": {"instance_name": "one"}}});
        text(&format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string())))
    }

    /// What the two services of AWS answer.
    fn keys(&self, of: &str) -> Value {
        let number = self.given.fetch_add(1, Ordering::Relaxed);
        json!({
            "Code": "Success", "AccessKeyId": format!("ASIA{of}{number}"), "SecretAccessKey": "machine-key",
            "Token": format!("machine-token-{number}"), "Expiration": self.end(),
        })
    }

    fn role(&self, form: &BTreeMap<String, String>) -> Scripted {
        let says = |name: &str, value: &str| form.get(name).is_some_and(|said| said == value);
        let is_known = says("Action", "AssumeRoleWithWebIdentity")
            && says("RoleArn", MetadataImitation::ROLE)
            && says("WebIdentityToken", MetadataImitation::IDENTITY);
        if !is_known {
            let body = "<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>";
            return Scripted::Answer(403, Vec::new(), body.into());
        }
        let number = self.given.fetch_add(1, Ordering::Relaxed);
        text(&format!(
            "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
             <AccessKeyId>ASIAPOD{number}</AccessKeyId><SecretAccessKey>machine-key</SecretAccessKey>\
             <SessionToken>machine-token-{number}</SessionToken><Expiration>{}</Expiration></Credentials>\
             </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>",
            self.end()
        ))
    }

    fn end(&self) -> String {
        SystemClock.now().after(Duration::from_secs(self.life.load(Ordering::Relaxed))).to_string()
    }
}

fn text(body: &str) -> Scripted {
    Scripted::Answer(200, vec![("Content-Type", "text/plain".to_owned())], body.into())
}
