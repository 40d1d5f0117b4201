//! A Key Vault and the directory that logs in to it, on one TLS port.
//!
//! What it does is what the vendor documents: the challenge, the token route, values by name and version, lists in
//! pages with absolute links, refusals of what is disabled, expired or not yet valid.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hansa::system::SystemClock;
use hansa_model::WallClock as _;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};

use super::{form, split_target};
use crate::scripted::{Scripted, ScriptedRequest, ScriptedServer};

/// Names on one page, unless fewer are asked for.
const PAGE: usize = 25;

/// The imitation; it ends with its value.
#[derive(Debug)]
pub struct AzureImitation {
    /// Where faults are put in.
    pub server: ScriptedServer,
    /// PEM of the authority that its certificate leads to.
    pub authority: String,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Versions of each secret, the newest last.
    secrets: BTreeMap<String, Vec<Version>>,
    made: u64,
    /// Tokens that are taken, and until when, in seconds.
    tokens: BTreeMap<String, i64>,
    tokens_made: u64,
    life: i64,
    /// How long the client is told that a token lives.
    told_life: i64,
    resource: String,
    /// Instead of the own next link.
    next_link: Option<String>,
}

#[derive(Debug, Clone)]
struct Version {
    id: String,
    value: String,
    attributes: Value,
}

impl AzureImitation {
    /// The application that may log in.
    pub const CLIENT_ID: &str = "11111111-2222-3333-4444-555555555555";
    /// Its secret.
    pub const CLIENT_SECRET: &str = "azure-client-secret";
    /// The directory.
    pub const TENANT: &str = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee";

    /// Starts it for 127.0.0.1 and these names.
    ///
    /// # Panics
    /// No certificate can be made.
    pub async fn start(names: &[&str]) -> Self {
        let state = State {
            life: 3_599,
            told_life: 3_599,
            resource: "https://vault.azure.net".to_owned(),
            ..State::default()
        };
        let shared = Arc::new(Shared { state: Mutex::new(state) });
        let (authority, tls) = certificate(names);
        let serving = shared.clone();
        let server =
            ScriptedServer::start_on(Some(Arc::new(tls)), move |request| serving.answer(request)).await;
        Self { server, authority, shared }
    }

    /// Puts a value in as a new version; gives the version's name.
    pub fn put(&self, name: &str, value: &str) -> String {
        self.state(|state| state.put(name, value, &json!({})))
    }

    /// Changes attributes of the newest version: `enabled`, `exp`, `nbf`.
    ///
    /// # Panics
    /// There is none.
    pub fn set(&self, name: &str, attribute: &str, value: impl Into<Value>) {
        self.state(|state| {
            let versions = state.secrets.get_mut(name).expect("the secret");
            versions.last_mut().expect("a version").attributes[attribute] = value.into();
        });
    }

    /// Deletes a secret.
    pub fn delete(&self, name: &str) {
        self.state(|state| state.secrets.remove(name));
    }

    /// Lets tokens live so long, whatever the client is told.
    pub fn token_life(&self, life: Duration, told: Duration) {
        self.state(|state| {
            state.life = i64::try_from(life.as_secs()).unwrap_or(i64::MAX);
            state.told_life = i64::try_from(told.as_secs()).unwrap_or(i64::MAX);
        });
    }

    /// Names another resource in the challenge.
    pub fn challenge_with(&self, resource: &str) {
        self.state(|state| state.resource = resource.to_owned());
    }

    /// Answers this as the link to the next page.
    pub fn link_to(&self, next_link: &str) {
        self.state(|state| state.next_link = Some(next_link.to_owned()));
    }

    /// How many tokens it has given.
    pub fn tokens_made(&self) -> u64 {
        self.state(|state| state.tokens_made)
    }

    fn state<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.shared.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Shared {
    fn answer(&self, request: &ScriptedRequest) -> Scripted {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (path, query) = split_target(&request.path);
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let base = format!("https://{}", request.header("host").unwrap_or_default());
        match (request.method.as_str(), &parts[..]) {
            ("GET", [tenant, "v2.0", ".well-known", "openid-configuration"]) => Scripted::json(
                200,
                json!({
                    "issuer": format!("{base}/{tenant}/v2.0"),
                    "token_endpoint": format!("{base}/{tenant}/oauth2/v2.0/token"),
                    "authorization_endpoint": format!("{base}/{tenant}/oauth2/v2.0/authorize"),
                }),
            ),
            ("POST", [tenant, "oauth2", "v2.0", "token"]) => state.token(tenant, &request.text()),
            (_, ["secrets", ..]) if !state.is_known(request) => challenge(&state.resource),
            (_, ["secrets", ..]) if !query.contains_key("api-version") => error(400, "BadParameter", None),
            ("GET", ["secrets"]) => state.list(&base, &query),
            ("GET", ["secrets", name, "versions"]) => state.versions(&base, name),
            ("GET", ["secrets", name]) => state.get(&base, name, ""),
            ("GET", ["secrets", name, version]) => state.get(&base, name, version),
            ("PUT", ["secrets", name]) => {
                let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
                let Some(value) = body["value"].as_str() else { return error(400, "BadParameter", None) };
                state.put(name, value, &body["attributes"]);
                state.get(&base, name, "")
            }
            _ => error(404, "NotFound", None),
        }
    }
}

impl State {
    fn put(&mut self, name: &str, value: &str, attributes: &Value) -> String {
        self.made += 1;
        let id = format!("{:032x}", u128::from(self.made) << 64 | 0xabc);
        let now = now() + i64::try_from(self.made).unwrap_or(0);
        let mut all =
            json!({"enabled": true, "created": now, "updated": now, "recoveryLevel": "Recoverable"});
        for (name, value) in attributes.as_object().into_iter().flatten() {
            all[name] = value.clone();
        }
        let version = Version { id: id.clone(), value: value.to_owned(), attributes: all };
        // Names compare without case: the first spelling stays.
        let known = self.secrets.keys().find(|known| known.eq_ignore_ascii_case(name)).cloned();
        self.secrets.entry(known.unwrap_or_else(|| name.to_owned())).or_default().push(version);
        id
    }

    fn token(&mut self, tenant: &str, body: &str) -> Scripted {
        let refused = |number: u32, kind: &str| {
            let text = format!("AADSTS{number}: no");
            Scripted::json(401, json!({"error": kind, "error_description": text, "error_codes": [number]}))
        };
        let fields = form(body);
        let field = |name: &str| fields.get(name).map_or("", String::as_str);
        if tenant != AzureImitation::TENANT {
            return refused(90_002, "invalid_request");
        }
        if field("grant_type") != "client_credentials" || !field("scope").ends_with("/.default") {
            return refused(70_011, "invalid_scope");
        }
        if field("client_id") != AzureImitation::CLIENT_ID {
            return refused(700_016, "unauthorized_client");
        }
        if field("client_secret") != AzureImitation::CLIENT_SECRET {
            return refused(7_000_215, "invalid_client");
        }
        self.tokens_made += 1;
        let token = format!("azure-access-token-{}", self.tokens_made);
        self.tokens.insert(token.clone(), now() + self.life);
        let answer = json!({
            "token_type": "Bearer", "expires_in": self.told_life, "ext_expires_in": self.told_life,
            "access_token": token,
        });
        Scripted::json(200, answer)
    }

    fn is_known(&self, request: &ScriptedRequest) -> bool {
        let token = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        token.and_then(|token| self.tokens.get(token)).is_some_and(|ends| now() < *ends)
    }

    fn versions_of(&self, name: &str) -> Option<(&String, &Vec<Version>)> {
        self.secrets.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))
    }

    fn get(&self, base: &str, name: &str, version: &str) -> Scripted {
        let missing = || error(404, "SecretNotFound", None);
        let Some((name, versions)) = self.versions_of(name) else { return missing() };
        let found = if version.is_empty() {
            versions.last()
        } else {
            versions.iter().find(|known| known.id == version)
        };
        let Some(found) = found else { return missing() };
        let time = |attribute: &str| found.attributes[attribute].as_i64();
        if found.attributes["enabled"] == false
            || time("exp").is_some_and(|end| end <= now())
            || time("nbf").is_some_and(|begin| now() < begin)
        {
            return error(403, "Forbidden", Some("SecretDisabled"));
        }
        let id = format!("{base}/secrets/{name}/{}", found.id);
        Scripted::json(200, json!({"value": found.value, "id": id, "attributes": found.attributes}))
    }

    fn list(&self, base: &str, query: &BTreeMap<String, String>) -> Scripted {
        let number = |name: &str| query.get(name).and_then(|value| value.parse::<usize>().ok());
        let page = number("maxresults").unwrap_or(PAGE).clamp(1, PAGE);
        let from = number("$skiptoken").unwrap_or(0);
        let entry = |(name, versions): (&String, &Vec<Version>)| {
            let attributes = versions.last().map(|version| version.attributes.clone());
            json!({"id": format!("{base}/secrets/{name}"), "attributes": attributes})
        };
        let entries: Vec<Value> = self.secrets.iter().skip(from).take(page).map(entry).collect();
        let next = from + entries.len();
        let own = format!("{base}/secrets?api-version=2025-07-01&$skiptoken={next}&maxresults={page}");
        let next_link =
            if next < self.secrets.len() { self.next_link.clone().unwrap_or(own) } else { String::new() };
        Scripted::json(200, json!({"value": entries, "nextLink": next_link}))
    }

    fn versions(&self, base: &str, name: &str) -> Scripted {
        let Some((name, versions)) = self.versions_of(name) else {
            return Scripted::json(200, json!({"value": [], "nextLink": null}));
        };
        let entry = |version: &Version| json!({"id": format!("{base}/secrets/{name}/{}", version.id), "attributes": version.attributes});
        let entries: Vec<Value> = versions.iter().map(entry).collect();
        Scripted::json(200, json!({"value": entries, "nextLink": null}))
    }
}

fn challenge(resource: &str) -> Scripted {
    let authorization = format!("https://login.microsoftonline.com/{}", AzureImitation::TENANT);
    let challenge = format!("Bearer authorization=\"{authorization}\", resource=\"{resource}\"");
    error(401, "Unauthorized", None).with("WWW-Authenticate", challenge)
}

fn error(status: u16, code: &str, inner: Option<&str>) -> Scripted {
    let inner = inner.map(|code| json!({"code": code}));
    Scripted::json(status, json!({"error": {"code": code, "message": "no", "innererror": inner}}))
}

fn now() -> i64 {
    SystemClock.now().as_secs()
}

/// An authority, and a server's TLS by it.
fn certificate(names: &[&str]) -> (String, rustls::ServerConfig) {
    let mut parameters = CertificateParams::new(Vec::new()).expect("an authority");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.distinguished_name.push(rcgen::DnType::CommonName, "Imitation");
    let key = KeyPair::generate().expect("a key");
    let issuer = CertifiedIssuer::self_signed(parameters, key).expect("an authority");
    let mut all = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    all.extend(names.iter().map(|name| (*name).to_owned()));
    let mut parameters = CertificateParams::new(all).expect("names");
    parameters.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().expect("a key");
    let certificate = parameters.signed_by(&key, &issuer).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring knows the default versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .expect("a certificate with its key");
    (issuer.pem(), tls)
}
