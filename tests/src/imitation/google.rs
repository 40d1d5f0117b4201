//! Google Secret Manager over plain HTTP, as its REST documentation has it.
//!
//! Versions with states, `latest` as the one that was made last, checksums, pages, errors with their status; enums
//! as numbers for who asks so. Names in answers carry the project's number.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hansa::system::SystemClock;
use hansa_model::WallClock as _;
use serde_json::{Value, json};

use super::split_target;
use crate::scripted::{Scripted, ScriptedRequest, ScriptedServer};
use crate::service_account::claims_of;

/// What the project is called in answers.
const NUMBER: &str = "123456789012";

/// The imitation; it ends with its value.
#[derive(Debug)]
pub struct GoogleImitation {
    /// Where faults are put in.
    pub server: ScriptedServer,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By what stands between the project and the secret (`locations/l` or nothing), and the secret's id.
    secrets: BTreeMap<(String, String), Vec<Version>>,
    anonymous: bool,
    /// What the tokens that it takes begin with, where it is not the account's own signature.
    known: Option<&'static str>,
    spoil_sum: bool,
    /// Tokens that are not taken any more.
    ended: Vec<String>,
    end_all: bool,
}

#[derive(Debug)]
struct Version {
    data: Vec<u8>,
    state: VersionState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum VersionState {
    Enabled = 1,
    Disabled = 2,
    Destroyed = 3,
}

impl VersionState {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "ENABLED",
            Self::Disabled => "DISABLED",
            Self::Destroyed => "DESTROYED",
        }
    }
}

impl GoogleImitation {
    /// Starts it. Callers must present what [`crate::service_account_key`] has signed.
    pub async fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let serving = shared.clone();
        let server = ScriptedServer::start(move |request| serving.answer(request)).await;
        Self { server, shared }
    }

    /// Lets callers in without a login, as the vendor's anonymous credentials need it.
    pub fn let_everybody_in(&self) {
        self.state(|state| state.anonymous = true);
    }

    /// Takes tokens that begin so, as a metadata service gives them, and no others.
    pub fn take_tokens(&self, prefix: &'static str) {
        self.state(|state| state.known = Some(prefix));
    }

    /// Adds a version.
    pub fn put(&self, location: Option<&str>, name: &str, data: &[u8]) {
        let place = location.map(|location| format!("locations/{location}")).unwrap_or_default();
        let version = Version { data: data.to_vec(), state: VersionState::Enabled };
        self.state(|state| state.secrets.entry((place, name.to_owned())).or_default().push(version));
    }

    /// Disables a version of a global secret, or destroys it.
    ///
    /// # Panics
    /// There is none.
    pub fn end(&self, name: &str, number: usize, destroy: bool) {
        self.state(|state| {
            let versions = state.secrets.get_mut(&(String::new(), name.to_owned())).expect("the secret");
            versions[number - 1].state =
                if destroy { VersionState::Destroyed } else { VersionState::Disabled };
        });
    }

    /// Answers wrong checksums from now on, or right ones again.
    pub fn spoil_sums(&self, spoil: bool) {
        self.state(|state| state.spoil_sum = spoil);
    }

    /// Takes no token any more that it has seen so far.
    pub fn end_tokens(&self) {
        self.state(|state| state.end_all = true);
    }

    fn state<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.shared.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Shared {
    fn answer(&self, request: &ScriptedRequest) -> Scripted {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.is_known(request) {
            return error(401, "UNAUTHENTICATED");
        }
        let (path, query) = split_target(&request.path);
        let Some(path) = path.strip_prefix("/v1/projects/") else { return error(404, "NOT_FOUND") };
        let mut parts: Vec<&str> = path.split('/').skip(1).collect();
        let mut place = String::new();
        if let ["locations", location, ..] = parts[..] {
            place = format!("locations/{location}");
            parts.drain(..2);
        }
        let numbers = query.get("$alt").is_some_and(|alt| alt.contains("enum-encoding=int"));
        let body = || serde_json::from_slice::<Value>(&request.body).unwrap_or_default();
        match (request.method.as_str(), &parts[..]) {
            ("GET", ["secrets"]) => state.list(&place, &query),
            ("POST", ["secrets"]) => {
                let name = query.get("secretId").cloned().unwrap_or_default();
                if place.is_empty() && body()["replication"].is_null() {
                    return error(400, "INVALID_ARGUMENT");
                }
                if state.secrets.contains_key(&(place.clone(), name.clone())) {
                    return error(409, "ALREADY_EXISTS");
                }
                state.secrets.insert((place.clone(), name.clone()), Vec::new());
                Scripted::json(200, described(&place, &name))
            }
            ("POST", ["secrets", name]) => match name.strip_suffix(":addVersion") {
                Some(name) => state.add(&place, name, &body(), numbers),
                None => error(404, "NOT_FOUND"),
            },
            ("GET", ["secrets", name]) => match state.of(&place, name) {
                Some(_) => Scripted::json(200, described(&place, name)),
                None => error(404, "NOT_FOUND"),
            },
            ("GET", ["secrets", name, "versions"]) => state.versions(&place, name, &query, numbers),
            ("GET", ["secrets", name, "versions", version]) => {
                let (version, access) = match version.strip_suffix(":access") {
                    Some(version) => (version, true),
                    None => (*version, false),
                };
                state.version(&place, name, version, access, numbers)
            }
            ("POST", ["secrets", name, "versions", version]) => {
                let Some(version) = version.strip_suffix(":disable") else { return error(404, "NOT_FOUND") };
                let number = version.parse::<usize>().unwrap_or(0);
                let versions = state.secrets.get_mut(&(place.clone(), (*name).to_owned()));
                match versions.and_then(|versions| versions.get_mut(number.wrapping_sub(1))) {
                    Some(found) => {
                        found.state = VersionState::Disabled;
                        Scripted::json(200, summary(&place, name, number, found.state, numbers))
                    }
                    None => error(404, "NOT_FOUND"),
                }
            }
            _ => error(404, "NOT_FOUND"),
        }
    }
}

impl State {
    /// A token of the account's own signature, for this service, in its time.
    fn is_known(&mut self, request: &ScriptedRequest) -> bool {
        let token = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let Some(token) = token else { return self.anonymous };
        if std::mem::take(&mut self.end_all) {
            self.ended.push(token.to_owned());
        }
        if let Some(known) = self.known {
            return token.starts_with(known) && !self.ended.iter().any(|ended| ended == token);
        }
        let claims = claims_of(token);
        let now = SystemClock.now().as_secs();
        let (begin, end) = (claims["iat"].as_i64().unwrap_or(0), claims["exp"].as_i64().unwrap_or(0));
        claims["aud"] == "https://secretmanager.googleapis.com/"
            && claims["iss"] == claims["sub"]
            && begin <= now + 60
            && now < end
            && end - begin <= 3_600
            && !self.ended.iter().any(|ended| ended == token)
    }

    fn of(&self, place: &str, name: &str) -> Option<&Vec<Version>> {
        self.secrets.get(&(place.to_owned(), name.to_owned()))
    }

    fn list(&self, place: &str, query: &BTreeMap<String, String>) -> Scripted {
        let number = |name: &str| query.get(name).and_then(|value| value.parse::<usize>().ok());
        let (page, from) = (number("pageSize").filter(|size| *size > 0), number("pageToken").unwrap_or(0));
        let all: Vec<&String> =
            self.secrets.keys().filter(|(known, _)| known == place).map(|(_, name)| name).collect();
        let shown: Vec<Value> =
            all.iter().skip(from).take(page.unwrap_or(25_000)).map(|name| described(place, name)).collect();
        let next = from + shown.len();
        let mut answer = json!({"secrets": shown, "totalSize": all.len()});
        if next < all.len() {
            answer["nextPageToken"] = json!(next.to_string());
        }
        Scripted::json(200, answer)
    }

    fn add(&mut self, place: &str, name: &str, body: &Value, numbers: bool) -> Scripted {
        let Some(versions) = self.secrets.get_mut(&(place.to_owned(), name.to_owned())) else {
            return error(404, "NOT_FOUND");
        };
        let payload = &body["payload"];
        let Ok(data) = STANDARD.decode(payload["data"].as_str().unwrap_or_default()) else {
            return error(400, "INVALID_ARGUMENT");
        };
        let sum = &payload["dataCrc32c"];
        let sum = sum.as_str().and_then(|text| text.parse().ok()).or_else(|| sum.as_i64());
        if sum.is_some_and(|sum: i64| sum != i64::from(castagnoli(&data))) {
            return error(400, "INVALID_ARGUMENT");
        }
        versions.push(Version { data, state: VersionState::Enabled });
        let number = versions.len();
        Scripted::json(200, summary(place, name, number, VersionState::Enabled, numbers))
    }

    fn versions(&self, place: &str, name: &str, query: &BTreeMap<String, String>, numbers: bool) -> Scripted {
        let Some(versions) = self.of(place, name) else { return error(404, "NOT_FOUND") };
        let enabled = query.get("filter").is_some_and(|filter| filter == "state:ENABLED");
        let size = query.get("pageSize").and_then(|size| size.parse().ok()).filter(|size| *size > 0);
        let shown: Vec<Value> = versions
            .iter()
            .enumerate()
            .rev()
            .filter(|(_, version)| !enabled || version.state == VersionState::Enabled)
            .take(size.unwrap_or(25_000))
            .map(|(place_of, version)| summary(place, name, place_of + 1, version.state, numbers))
            .collect();
        Scripted::json(200, json!({"versions": shown, "totalSize": versions.len()}))
    }

    fn version(&self, place: &str, name: &str, version: &str, access: bool, numbers: bool) -> Scripted {
        let Some(versions) = self.of(place, name) else { return error(404, "NOT_FOUND") };
        let number = if version == "latest" { versions.len() } else { version.parse().unwrap_or(0) };
        let Some(found) = versions.get(number.wrapping_sub(1)) else { return error(404, "NOT_FOUND") };
        if !access {
            return Scripted::json(200, summary(place, name, number, found.state, numbers));
        }
        if found.state != VersionState::Enabled {
            return error(400, "FAILED_PRECONDITION");
        }
        let sum = castagnoli(&found.data) ^ u32::from(self.spoil_sum);
        Scripted::json(
            200,
            json!({
                "name": format!("{}/versions/{number}", resource(place, name)),
                "payload": {"data": STANDARD.encode(&found.data), "dataCrc32c": sum.to_string()},
            }),
        )
    }
}

fn resource(place: &str, name: &str) -> String {
    let place = if place.is_empty() { String::new() } else { format!("{place}/") };
    format!("projects/{NUMBER}/{place}secrets/{name}")
}

fn described(place: &str, name: &str) -> Value {
    let mut secret = json!({
        "name": resource(place, name), "createTime": "2026-11-22T08:30:00Z", "etag": "\"1\"",
        "labels": {"kept": "yes"},
    });
    if place.is_empty() {
        secret["replication"] = json!({"automatic": {}});
    }
    secret
}

fn summary(place: &str, name: &str, number: usize, state: VersionState, numbers: bool) -> Value {
    let shown = if numbers { json!(state as u8) } else { json!(state.as_str()) };
    json!({
        "name": format!("{}/versions/{number}", resource(place, name)),
        "createTime": "2026-11-22T08:30:00Z", "state": shown, "etag": format!("\"{number}-{}\"", state.as_str()),
    })
}

fn error(code: u16, status: &str) -> Scripted {
    Scripted::json(code, json!({"error": {"code": code, "message": "no", "status": status}}))
}

/// CRC-32 of Castagnoli's polynomial, bit by bit: another one than the driver's.
fn castagnoli(data: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for byte in data {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 { (sum >> 1) ^ 0x82f6_3b78 } else { sum >> 1 };
        }
    }
    !sum
}
