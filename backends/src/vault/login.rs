//! The five ways to log in to a Vault.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::HeaderName;
use serde::Deserialize;
use serde_json::json;
use vaultrs::api::auth::approle::requests::LoginWithApproleRequest;
use vaultrs::api::auth::aws::requests::IamLoginRequest;
use vaultrs::api::auth::kubernetes::requests::LoginWithKubernetesRequest;
use vaultrs::api::token::requests::LookupTokenSelfRequest;

use hansa_model::Secret;
use hansa_model::limits::secrets as limits;
use hansa_model::secrets::backend::{BackendKind, VaultAuth, VaultConfig};

use super::{Asked, Envelope, NOT_VAULT, Wire, inner, parse};
use crate::connect::Answer;
use crate::driver::{CallError, OpenError};
use crate::jwt::ServiceAccount;
use crate::login::LoginData;
use crate::machine::{GoogleMachine, token_file};
use crate::session::{Login, Ticket};
use crate::sigv4::{AwsKeys, signed_sts_post};
use crate::vendor::Ambient;

/// Where a pod finds its token.
const POD_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// The longest that a Google role takes a login for.
const GCP_LIFE_SECS: i64 = 900;

/// How this Vault is logged in to. It prints the method alone.
pub(super) struct VaultLogin {
    wire: Wire,
    mount: String,
    method: Method,
}

enum Method {
    Approle {
        role_id: Secret<String>,
        secret_id: Secret<String>,
    },
    Token(Secret<String>),
    Kubernetes {
        role: String,
        jwt: PodToken,
    },
    Aws {
        role: String,
        keys: AwsKeys,
        server_id: Option<String>,
        region: Option<String>,
    },
    Gcp {
        role: String,
        account: Box<ServiceAccount>,
    },
    /// What Vault calls type `gce`: the machine says who it is.
    Gce {
        role: String,
        machine: GoogleMachine,
    },
}

enum PodToken {
    Given(Secret<String>),
    /// Read at each login, for it changes.
    File(PathBuf),
}

impl fmt::Debug for VaultLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let method = match &self.method {
            Method::Approle { .. } => VaultAuth::Approle,
            Method::Token(_) => VaultAuth::Token,
            Method::Kubernetes { .. } => VaultAuth::Kubernetes,
            Method::Aws { .. } => VaultAuth::Aws,
            Method::Gcp { .. } | Method::Gce { .. } => VaultAuth::Gcp,
        };
        write!(f, "VaultLogin({})", method.as_str())
    }
}

impl VaultLogin {
    pub(super) fn new(
        config: &VaultConfig,
        login: Option<&crate::driver::Login>,
        wire: Wire,
        ambient: &Ambient,
    ) -> Result<Self, OpenError> {
        let data = LoginData::parse(login)?;
        let role = || data.text("role").map(|role| role.expose().clone());
        let method = match config.auth_method {
            VaultAuth::Approle => {
                Method::Approle { role_id: data.text("role_id")?, secret_id: data.text("secret_id")? }
            }
            VaultAuth::Token => Method::Token(data.text("token")?),
            VaultAuth::Kubernetes => Method::Kubernetes { role: role()?, jwt: pod_token(&data, ambient)? },
            VaultAuth::Aws => Method::Aws {
                role: role()?,
                keys: AwsKeys {
                    access_key_id: data.text("access_key_id")?,
                    secret_access_key: data.text("secret_access_key")?,
                    session_token: data.optional("session_token")?,
                },
                server_id: data.optional("server_id")?.map(|id| id.expose().clone()),
                region: region(&data)?,
            },
            VaultAuth::Gcp if data.has("service_account_key") => Method::Gcp {
                role: role()?,
                account: Box::new(ServiceAccount::parse(&data.object("service_account_key")?)?),
            },
            VaultAuth::Gcp if ambient.kinds.allow(BackendKind::HashicorpVault) => {
                Method::Gce { role: role()?, machine: GoogleMachine::new(&ambient.machine, &wire.connector)? }
            }
            VaultAuth::Gcp => {
                return Err(OpenError::NotAllowed(
                    "a gcp login without service_account_key is the machine's own: \
                     backends.ambient in the node's configuration allows it",
                ));
            }
        };
        Ok(Self { wire, mount: config.auth_mount.clone(), method })
    }

    /// Whether logging in again gives another token.
    pub(super) const fn can_repeat(&self) -> bool {
        !matches!(self.method, Method::Token(_))
    }

    async fn ask(&self) -> Result<Answer, CallError> {
        let (wire, mount, bytes_max) = (&self.wire, self.mount.clone(), limits::ANSWER_BYTES_MAX);
        match &self.method {
            Method::Token(token) => wire.call(LookupTokenSelfRequest {}, Some(token), bytes_max).await,
            Method::Approle { role_id, secret_id } => {
                let (role_id, secret_id) = (role_id.expose().clone(), secret_id.expose().clone());
                wire.call(LoginWithApproleRequest { mount, role_id, secret_id }, None, bytes_max).await
            }
            Method::Kubernetes { role, jwt } => {
                let jwt = jwt.read().await?.expose().clone();
                let role = role.clone();
                wire.call(LoginWithKubernetesRequest { mount, role, jwt }, None, bytes_max).await
            }
            Method::Aws { role, keys, server_id, region } => {
                let request = self.iam_request(role, keys, server_id.as_deref(), region.as_deref())?;
                wire.call(request, None, bytes_max).await
            }
            Method::Gcp { role, account } => {
                let claims = json!({
                    "aud": format!("vault/{role}"),
                    "sub": account.email,
                    "exp": wire.connector.now().as_secs() + GCP_LIFE_SECS,
                });
                let jwt = account.sign(&claims).ok_or(UNUSABLE)?;
                wire.call(gcp_login(&mount, role, &jwt), None, bytes_max).await
            }
            Method::Gce { role, machine } => {
                let jwt = machine.identity(&format!("vault/{role}")).await?;
                wire.call(gcp_login(&mount, role, &jwt), None, bytes_max).await
            }
        }
    }

    /// A request that tells AWS who we are, for Vault to send on.
    fn iam_request(
        &self,
        role: &str,
        keys: &AwsKeys,
        server_id: Option<&str>,
        region: Option<&str>,
    ) -> Result<IamLoginRequest, CallError> {
        const FORM: &str = "Action=GetCallerIdentity&Version=2011-06-15";
        let url = match region {
            Some(region) => format!("https://sts.{region}.amazonaws.com/"),
            None => "https://sts.amazonaws.com/".to_owned(),
        };
        let extra = server_id.map(|id| (HeaderName::from_static("x-vault-aws-iam-server-id"), id));
        let region = region.unwrap_or("us-east-1");
        let request = signed_sts_post(keys, region, &url, FORM, extra, self.wire.connector.now());
        let request = request.ok_or(UNUSABLE)?;
        let mut headers = serde_json::Map::new();
        for (name, value) in request.headers() {
            headers.insert(name.as_str().to_owned(), json!([value.to_str().unwrap_or_default()]));
        }
        Ok(IamLoginRequest {
            mount: self.mount.clone(),
            role: Some(role.to_owned()),
            iam_http_request_method: "POST".to_owned(),
            iam_request_url: STANDARD.encode(&url),
            iam_request_body: STANDARD.encode(FORM),
            iam_request_headers: STANDARD.encode(serde_json::Value::Object(headers).to_string()),
        })
    }

    /// What a login's answer means.
    fn ticket(&self, answer: &Answer) -> Result<Ticket, CallError> {
        match answer.status {
            400 | 401 | 403 => return Err(self.wire.connector.refused("the login is refused")),
            404 | 405 => return Err(self.wire.connector.refused("no such login: check auth_mount")),
            _ => self.wire.judge(answer)?,
        }
        let given: Given = parse(answer)?;
        let Some(auth) = given.auth else { return Err(NOT_VAULT) };
        let token = Secret::new(auth.client_token);
        if token.expose().is_empty() || !token.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(NOT_VAULT);
        }
        let lease = lease(auth.lease_duration);
        Ok(Ticket {
            token,
            lease,
            full: lease,
            renewable: auth.renewable && auth.token_type != "batch" && auth.num_uses == 0,
            uses: (auth.num_uses > 0).then_some(auth.num_uses),
        })
    }

    /// A token that was given is used as it is; what it says of itself is how long.
    fn own_ticket(&self, token: &Secret<String>, answer: &Answer) -> Result<Ticket, CallError> {
        let mut ticket = Ticket {
            token: Secret::new(token.expose().clone()),
            lease: None,
            full: None,
            renewable: false,
            uses: None,
        };
        // It may not be allowed to look itself up.
        match answer.status {
            403 => return Ok(ticket),
            404 => return Err(NOT_VAULT),
            _ => self.wire.judge(answer)?,
        }
        let envelope: Envelope<'_> = parse(answer)?;
        if let Some(own) = inner::<Own>(envelope.data)? {
            ticket.lease = lease(own.ttl);
            ticket.full = ticket.lease;
            ticket.renewable = own.renewable;
        }
        Ok(ticket)
    }
}

impl Login for VaultLogin {
    async fn login(&self) -> Result<Ticket, CallError> {
        let answer = self.ask().await?;
        match &self.method {
            Method::Token(token) => self.own_ticket(token, &answer),
            Method::Approle { .. }
            | Method::Kubernetes { .. }
            | Method::Aws { .. }
            | Method::Gcp { .. }
            | Method::Gce { .. } => self.ticket(&answer),
        }
    }

    async fn renew(&self, ticket: &Ticket) -> Result<Option<Ticket>, CallError> {
        let request = Asked::post("auth/token/renew-self".to_owned(), b"{}".to_vec());
        let answer = self.wire.call(request, Some(&ticket.token), limits::ANSWER_BYTES_MAX).await?;
        let mut renewed = self.ticket(&answer)?;
        // Near the end of what the role allows, leases get short: a new login has a whole one.
        let is_short = renewed.lease.zip(ticket.full).is_some_and(|(new, full)| new < full / 2);
        if is_short && self.can_repeat() {
            return Ok(None);
        }
        renewed.full = ticket.full;
        Ok(Some(renewed))
    }
}

const UNUSABLE: CallError = CallError::Refused { reason: "the login secret cannot be signed with" };

#[derive(Deserialize)]
struct Given {
    auth: Option<Auth>,
}

#[derive(Deserialize)]
struct Auth {
    client_token: String,
    #[serde(default)]
    lease_duration: u64,
    #[serde(default)]
    renewable: bool,
    #[serde(default)]
    token_type: String,
    #[serde(default)]
    num_uses: u64,
}

#[derive(Deserialize)]
struct Own {
    #[serde(default)]
    ttl: u64,
    #[serde(default)]
    renewable: bool,
}

fn lease(seconds: u64) -> Option<Duration> {
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

fn gcp_login(mount: &str, role: &str, jwt: &Secret<String>) -> Asked {
    let body = json!({"role": role, "jwt": jwt.expose()}).to_string().into_bytes();
    Asked::post(format!("auth/{mount}/login"), body)
}

fn region(data: &LoginData) -> Result<Option<String>, OpenError> {
    let Some(region) = data.optional("sts_region")? else { return Ok(None) };
    let is_label = |text: &String| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if !is_label(region.expose()) {
        return Err(OpenError::Login { field: "sts_region", reason: "is not a region such as us-east-1" });
    }
    Ok(Some(region.expose().clone()))
}

/// Files belong to the node: one is read only below the folder that its operator opened.
fn pod_token(data: &LoginData, ambient: &Ambient) -> Result<PodToken, OpenError> {
    if let Some(jwt) = data.optional("jwt")? {
        return Ok(PodToken::Given(jwt));
    }
    let Some(folder) = &ambient.pod_tokens else {
        return Err(OpenError::NotAllowed(
            "a kubernetes login without jwt reads the node's own token: \
             backends.pod_tokens in the node's configuration allows it",
        ));
    };
    let path = data.optional("jwt_file")?;
    let path = PathBuf::from(path.as_ref().map_or(POD_TOKEN, |path| path.expose()));
    let is_plain = path.components().all(|part| !matches!(part, std::path::Component::ParentDir));
    if is_plain && path.starts_with(folder) {
        Ok(PodToken::File(path))
    } else {
        Err(OpenError::Login { field: "jwt_file", reason: "is not below the folder that this node allows" })
    }
}

impl PodToken {
    async fn read(&self) -> Result<Secret<String>, CallError> {
        const UNREADABLE: CallError = CallError::Refused { reason: "the pod's token cannot be read" };
        match self {
            Self::Given(jwt) => Ok(jwt.clone()),
            Self::File(path) => token_file(path).await.ok_or(UNREADABLE),
        }
    }
}
