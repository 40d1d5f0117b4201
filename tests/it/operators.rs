//! Operators over a running node: logins, users, API keys, tokens of other issuers (contract A.4 and A.5).

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hansa_actors::{IssuerAlgorithm, IssuerConfig, OperatorsConfig, SharedSecret};
use hansa_model::access::{Grant, OperatorRole};
use hansa_model::audit::Detail;
use hansa_model::enrollment::Role;
use hansa_model::limits::{access, issuer};
use hansa_model::scope::Scope;
use hansa_model::{Secret, SiteId, WallClock as _};
use hansa_storage::{Order, table};
use hansa_tests::{Answer, Api, SigningKey, TestIssuer, TestNode, all_scopes};
use reqwest::Method;
use serde_json::{Value, json};

const USERS: &str = "/api/v1/users";
const KEYS: &str = "/api/v1/api-keys";
const SITES: &str = "/api/v1/federation/sites";
const PASSWORD: &str = "correct horse battery";

fn members(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap_or_else(|| panic!("not an object: {value}")).keys().map(String::as_str).collect()
}

fn names(text: &str) -> BTreeSet<&str> {
    text.split_whitespace().collect()
}

/// Audit entries as (operation, actor, details as text), oldest first.
fn audit(node: &TestNode) -> Vec<(String, Option<String>, String)> {
    let view = node.store().read().unwrap();
    let entries = view.page::<table::Audit>(0..=u64::MAX, Order::Ascending, 1_000).unwrap();
    let plain = |details: std::collections::BTreeMap<String, Detail>| {
        let details: serde_json::Map<String, Value> =
            details.into_iter().map(|(name, value)| (name, value.into())).collect();
        Value::Object(details).to_string()
    };
    let drafts = entries.into_iter().map(|(_, entry)| entry.draft);
    drafts.map(|draft| (draft.operation, draft.actor_userid, plain(draft.details))).collect()
}

fn last_audit(node: &TestNode) -> (String, Option<String>, String) {
    audit(node).pop().unwrap()
}

async fn add_user(node: &TestNode, userid: &str, role: &str) -> Value {
    let body = json!({"userid": userid, "password": PASSWORD, "role": role});
    let answer = node.api().post(USERS, &body).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.ok()
}

async fn login(node: &TestNode, userid: &str, password: &str) -> Answer {
    node.anonymous().post("/api/v1/login", &json!({"userid": userid, "password": password})).await
}

fn bearer(answer: &Answer) -> String {
    assert_eq!(members(&answer.body), names("Authorization"), "{}", answer.text);
    answer.body["Authorization"].as_str().unwrap().to_owned()
}

fn set_cookie(answer: &Answer) -> Option<String> {
    answer.headers.get("set-cookie").map(|value| value.to_str().unwrap().to_owned())
}

/// The refresh token that an answer set.
fn refresh_token(answer: &Answer) -> String {
    let cookie = set_cookie(answer).expect("a cookie");
    cookie.split(';').next().unwrap().strip_prefix("refresh_token=").unwrap().to_owned()
}

async fn with_cookie(node: &TestNode, path: &str, token: &str) -> Answer {
    let cookie = format!("theme=dark; refresh_token={token}");
    node.anonymous().send(Method::POST, path, Some(b"{}".to_vec()), &[("Cookie", &cookie)]).await
}

async fn refresh(node: &TestNode, token: &str) -> Answer {
    with_cookie(node, "/api/v1/refresh", token).await
}

fn as_user(node: &TestNode, answer: &Answer) -> Api {
    node.anonymous().bearer(bearer(answer))
}

#[tokio::test(flavor = "multi_thread")]
async fn login_gives_a_token_with_the_users_scopes_and_a_cookie_no_script_can_read() {
    let node = TestNode::start(Role::Coordinator).await;
    add_user(&node, "ada@example.com", "viewer").await;

    let answer = login(&node, " Ada@Example.com ", PASSWORD).await;

    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.headers["cache-control"], "no-store");
    let cookie = set_cookie(&answer).unwrap();
    let attributes: BTreeSet<&str> = cookie.split("; ").skip(1).collect();
    assert_eq!(attributes, names("Path=/ Max-Age=43200 HttpOnly SameSite=Strict"), "{cookie}");
    let api = as_user(&node, &answer);
    api.get(SITES).await.licensed();
    let refused = api.post(SITES, &json!({})).await.refused(403, "permission_denied");
    assert!(refused["detail"].as_str().unwrap().starts_with("Permission denied"), "{refused}");
    let (operation, actor, details) = last_audit(&node);
    assert_eq!((operation.as_str(), actor.as_deref()), ("user_logged_in", Some("ada@example.com")));
    let token = refresh_token(&answer);
    assert!(!details.contains(&token));
    for half in token.split('.') {
        let store = std::fs::read(node.path().join(hansa_storage::disk::STORE_FILE)).unwrap();
        assert!(memchr::memmem::find(&store, half.as_bytes()).is_none(), "a refresh token lies open");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cookie_is_secure_where_the_node_serves_https() {
    let node = TestNode::start_with(Role::None, OperatorsConfig::default()).await;
    add_user(&node, "ada@example.com", "viewer").await;

    let cookie = set_cookie(&login(&node, "ada@example.com", PASSWORD).await).unwrap();

    assert!(cookie.ends_with("; Secure"), "{cookie}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_logins_look_alike_and_are_audited_without_the_password() {
    let node = TestNode::start(Role::Coordinator).await;
    add_user(&node, "ada@example.com", "viewer").await;
    add_user(&node, "off@example.com", "viewer").await;
    node.api().patch(&format!("{USERS}/off@example.com"), &json!({"disabled": true})).await.ok();
    let long = "x".repeat(access::PASSWORD_BYTES_MAX + 1);

    let mut texts = BTreeSet::new();
    for (userid, password, reason, known) in [
        ("ada@example.com", "wrong canary-5d1e", "wrong password", true),
        ("ada@example.com", "", "wrong password", true),
        ("ada@example.com", long.as_str(), "wrong password", true),
        ("nobody@example.com", PASSWORD, "unknown user", false),
        ("canary-5d1e", PASSWORD, "unknown user", false),
        ("off@example.com", PASSWORD, "disabled", true),
    ] {
        let answer = login(&node, userid, password).await;
        assert!(answer.headers.get("set-cookie").is_none());
        let mut body = answer.refused(401, "login_refused");
        body["request_id"] = Value::Null;
        texts.insert(body.to_string());
        let (operation, actor, details) = last_audit(&node);
        assert_eq!((operation.as_str(), actor), ("login_failed", None));
        assert!(details.contains(reason) && details.contains(userid) == known, "{details}");
        assert!(!details.contains("canary"), "{details}");
    }

    assert_eq!(texts.len(), 1, "{texts:?}");
    node.anonymous().post("/api/v1/login", &json!({"userid": "x"})).await.refused(400, "invalid_body");
    let large = json!({"userid": "x", "password": "x".repeat(access::LOGIN_BODY_BYTES_MAX)});
    node.anonymous().post("/api/v1/login", &large).await.refused(413, "body_too_large");
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_of_one_user_are_bounded_and_say_when_to_come_back() {
    let node = TestNode::start(Role::Coordinator).await;
    add_user(&node, "ada@example.com", "viewer").await;
    add_user(&node, "bob@example.com", "viewer").await;

    let mut refused = None;
    for _ in 0..=access::LOGIN_USER_BURST {
        let answer = login(&node, "ADA@example.com", "wrong wrong wrong").await;
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
    }

    let refused = refused.expect("a bound");
    let wait: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=access::LOGIN_USER_INTERVAL.as_secs()).contains(&wait), "{wait}");
    refused.refused(429, "login_throttled");
    login(&node, "ada@example.com", PASSWORD).await.refused(429, "login_throttled");
    login(&node, "bob@example.com", PASSWORD).await.ok();
    let entries = audit(&node).len();
    login(&node, "ada@example.com", PASSWORD).await.refused(429, "login_throttled");
    assert_eq!(audit(&node).len(), entries);
    node.clock.advance(access::LOGIN_USER_INTERVAL);
    login(&node, "ada@example.com", PASSWORD).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn refresh_rotates_and_an_old_refresh_token_ends_the_login() {
    let node = TestNode::start(Role::Coordinator).await;
    add_user(&node, "ada@example.com", "viewer").await;
    let first = login(&node, "ada@example.com", PASSWORD).await;

    let second = refresh(&node, &refresh_token(&first)).await;
    // Another tab that had sent the same cookie a moment later.
    let beside = refresh(&node, &refresh_token(&first)).await;
    as_user(&node, &second).get(SITES).await.licensed();
    as_user(&node, &beside).get(SITES).await.licensed();
    node.clock.advance(access::REFRESH_GRACE + Duration::from_secs(1));
    let third = refresh(&node, &refresh_token(&second)).await;
    node.clock.advance(access::REFRESH_GRACE + Duration::from_secs(1));
    let reused = refresh(&node, &refresh_token(&first)).await;

    assert_ne!(refresh_token(&second), refresh_token(&first));
    assert_eq!(set_cookie(&beside), None);
    reused.refused(401, "login_ended");
    let (operation, actor, _) = last_audit(&node);
    assert_eq!((operation.as_str(), actor.as_deref()), ("refresh_token_reused", Some("ada@example.com")));
    refresh(&node, &refresh_token(&third)).await.refused(401, "login_ended");
    as_user(&node, &third).get(SITES).await.refused(401, "token_invalid");
    refresh(&node, "no.token").await.refused(401, "login_ended");
    node.anonymous().act("/api/v1/refresh").await.refused(401, "login_ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_refreshes_at_once_both_get_a_token() {
    let node = TestNode::start(Role::Coordinator).await;
    add_user(&node, "ada@example.com", "viewer").await;
    let token = refresh_token(&login(&node, "ada@example.com", PASSWORD).await);

    let answers = tokio::join!(refresh(&node, &token), refresh(&node, &token), refresh(&node, &token));

    let answers = [answers.0, answers.1, answers.2];
    for answer in &answers {
        as_user(&node, answer).get(SITES).await.licensed();
    }
    assert_eq!(answers.iter().filter(|answer| set_cookie(answer).is_some()).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn logout_ends_tokens_and_cookie_at_once_and_over_a_restart() {
    let mut node = TestNode::start(Role::Coordinator).await;
    add_user(&node, "ada@example.com", "viewer").await;
    let staying = login(&node, "ada@example.com", PASSWORD).await;
    let leaving = login(&node, "ada@example.com", PASSWORD).await;

    let out = with_cookie(&node, "/api/v1/logout", &refresh_token(&leaving)).await;

    assert_eq!(out.status, 204);
    assert!(set_cookie(&out).unwrap().starts_with("refresh_token=; Path=/; Max-Age=0; HttpOnly"));
    assert_eq!(last_audit(&node).0, "user_logged_out");
    node.restart().await;
    as_user(&node, &leaving).get(SITES).await.refused(401, "token_invalid");
    refresh(&node, &refresh_token(&leaving)).await.refused(401, "login_ended");
    with_cookie(&node, "/api/v1/logout", &refresh_token(&leaving)).await.refused(401, "login_ended");
    as_user(&node, &staying).get(SITES).await.licensed();
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_18_login_of_a_changed_disabled_or_removed_user_has_ended() {
    let node = TestNode::start(Role::Coordinator).await;
    let changes = [
        json!({"disabled": true}),
        json!({"role": "operator"}),
        json!({"password": "another horse battery"}),
        json!({"sites": [uuid::Uuid::nil()]}),
        Value::Null,
    ];

    for (number, change) in changes.iter().enumerate() {
        let userid = format!("user{number}@example.com");
        add_user(&node, &userid, "viewer").await;
        let answer = login(&node, &userid, PASSWORD).await;
        as_user(&node, &answer).get(SITES).await.licensed();
        let path = format!("{USERS}/{userid}");
        if change.is_null() {
            assert_eq!(node.api().delete(&path).await.status, 204);
            // Whoever gets the name next does not get what was logged in.
            add_user(&node, &userid, "administrator").await;
        } else {
            node.api().patch(&path, change).await.ok();
        }

        as_user(&node, &answer).get(SITES).await.refused(401, "token_invalid");
        refresh(&node, &refresh_token(&answer)).await.refused(401, "login_ended");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn login_token_and_login_end_by_their_times() {
    let node = TestNode::start(Role::Coordinator).await;
    add_user(&node, "ada@example.com", "viewer").await;
    let answer = login(&node, "ada@example.com", PASSWORD).await;

    node.clock.advance(access::LOGIN_TOKEN_TTL + Duration::from_secs(61));
    as_user(&node, &answer).get(SITES).await.refused(401, "token_expired");
    let next = refresh(&node, &refresh_token(&answer)).await;
    as_user(&node, &next).get(SITES).await.licensed();
    node.clock.advance(access::LOGIN_IDLE_MAX + Duration::from_secs(1));

    refresh(&node, &refresh_token(&next)).await.refused(401, "login_ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_made_listed_changed_and_removed_with_an_entry_each() {
    let node = TestNode::start(Role::None).await;
    let site = uuid::Uuid::from_u128(7);
    let body = json!({"userid": "Bob@Example.com", "password": PASSWORD, "role": "viewer",
        "scopes": ["alerts:write"], "sites": [site]});

    let made = node.api().post(USERS, &body).await;

    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(made.headers["location"], "/api/v1/users/bob%40example.com");
    let user = made.ok();
    assert_eq!(members(&user), names("userid role scopes sites disabled created_at updated_at"));
    assert_eq!(
        [&user["userid"], &user["role"], &user["scopes"], &user["sites"], &user["disabled"]],
        [
            &json!("bob@example.com"),
            &json!("viewer"),
            &json!(["alerts:write"]),
            &json!([site]),
            &json!(false)
        ]
    );
    assert_eq!(node.api().get(&format!("{USERS}/bob%40example.com")).await.ok(), user);
    let (operation, actor, details) = last_audit(&node);
    assert_eq!((operation.as_str(), actor.as_deref()), ("user_added", Some("tester@example.com")));
    assert!(details.contains("bob@example.com") && !details.contains(PASSWORD), "{details}");
    node.api().post(USERS, &body).await.refused(409, "user_taken");

    let entries = audit(&node).len();
    assert_eq!(node.api().patch(&format!("{USERS}/bob@example.com"), &json!({})).await.ok(), user);
    assert_eq!(audit(&node).len(), entries, "what changes nothing leaves no entry");
    let patch = json!({"role": null, "sites": null, "password": "another horse battery"});
    let patched = node.api().patch(&format!("{USERS}/bob@example.com"), &patch).await.ok();
    assert_eq!((&patched["role"], &patched["sites"]), (&Value::Null, &Value::Null));
    let (operation, _, details) = last_audit(&node);
    assert_eq!(operation, "user_updated");
    assert!(details.contains("password_changed") && !details.contains("another horse"), "{details}");

    for number in 0..3 {
        add_user(&node, &format!("u{number}@example.com"), "viewer").await;
    }
    let page = node.api().get(&format!("{USERS}?limit=2")).await;
    assert!(page.headers["link"].to_str().unwrap().ends_with("rel=\"next\""));
    let page = page.ok();
    assert_eq!(members(&page), names("items next_cursor total"));
    assert_eq!((page["items"].as_array().unwrap().len(), &page["total"]), (2, &json!(4)));
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest = node.api().get(&format!("{USERS}?limit=2&cursor={cursor}")).await.ok();
    assert_eq!(rest["items"][1]["userid"], "u2@example.com");
    assert_eq!(rest["next_cursor"], Value::Null);

    assert_eq!(node.api().delete(&format!("{USERS}/bob@example.com")).await.status, 204);
    assert_eq!(last_audit(&node).0, "user_removed");
    node.api().get(&format!("{USERS}/bob@example.com")).await.refused(404, "user_not_found");
    node.api().delete(&format!("{USERS}/bob@example.com")).await.refused(404, "user_not_found");
    node.api().patch(&format!("{USERS}/bob@example.com"), &json!({})).await.refused(404, "user_not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_users_and_keys_are_refused_by_member() {
    let node = TestNode::start(Role::None).await;
    let good = json!({"userid": "ada@example.com", "password": PASSWORD, "role": "viewer"});
    let with = |name: &str, value: Value| {
        let mut body = good.clone();
        body[name] = value;
        body
    };
    let many: Vec<uuid::Uuid> = (0..200).map(uuid::Uuid::from_u128).collect();

    for (member, value) in [
        ("userid", json!("ada")),
        ("userid", json!("ädа@example.com")),
        ("password", json!("short")),
        ("role", json!("emperor")),
        ("scopes", json!(["everything"])),
        ("sites", json!([])),
        ("sites", json!(many)),
    ] {
        let refused = node.api().post(USERS, &with(member, value)).await.refused(400, "invalid_value");
        assert_eq!(refused["errors"][0]["pointer"], format!("/{member}"), "{refused}");
    }
    node.api().post(USERS, &with("role", Value::Null)).await.refused(400, "invalid_value");
    node.api().post(USERS, &with("shoe_size", json!(44))).await.refused(400, "invalid_body");
    for (member, value) in
        [("name", json!("a b")), ("name", json!("")), ("expires_at", json!("2020-01-01T00:00:00Z"))]
    {
        let mut body = json!({"name": "good", "role": "viewer"});
        body[member] = value;
        let refused = node.api().post(KEYS, &body).await.refused(400, "invalid_value");
        assert_eq!(refused["errors"][0]["pointer"], format!("/{member}"), "{refused}");
    }
    assert_eq!(audit(&node), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gives_takes_or_changes_what_they_do_not_hold() {
    let node = TestNode::start(Role::None).await;
    let (mine, other) = (SiteId(uuid::Uuid::from_u128(1)), SiteId(uuid::Uuid::from_u128(2)));
    let clerk = node.api_as([Scope::Admin, Scope::HostsRead].into(), None);
    let local = node.api_as(all_scopes(), Some([mine].into()));
    add_user(&node, "chief@example.com", "administrator").await;
    let confined =
        json!({"userid": "far@example.com", "password": PASSWORD, "role": "viewer", "sites": [other]});
    node.api().post(USERS, &confined).await.ok();
    let before = audit(&node).len();
    let denied = |answer: Answer| {
        let refused = answer.refused(403, "permission_denied");
        assert!(refused["detail"].as_str().unwrap().starts_with("Permission denied: "), "{refused}");
    };
    let new = |extra: Value| {
        let mut body = json!({"userid": "new@example.com", "password": PASSWORD});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        body
    };

    denied(clerk.post(USERS, &new(json!({"role": "viewer"}))).await);
    denied(clerk.post(USERS, &new(json!({"scopes": ["sites:read"]}))).await);
    denied(clerk.post(KEYS, &json!({"name": "k", "scopes": ["sites:write"]})).await);
    // Setting the chief's password would be taking the chief's place.
    denied(clerk.patch(&format!("{USERS}/chief@example.com"), &json!({"password": PASSWORD})).await);
    denied(clerk.patch(&format!("{USERS}/chief@example.com"), &json!({"role": "viewer"})).await);
    denied(clerk.delete(&format!("{USERS}/chief@example.com")).await);
    denied(local.post(USERS, &new(json!({"role": "viewer"}))).await);
    denied(local.post(USERS, &new(json!({"role": "viewer", "sites": [mine, other]}))).await);
    denied(local.post(KEYS, &json!({"name": "k", "role": "viewer"})).await);
    // Who is confined to other sites, or to none, does not exist for somebody of this one.
    for userid in ["chief@example.com", "far@example.com"] {
        local.get(&format!("{USERS}/{userid}")).await.refused(404, "user_not_found");
        local.delete(&format!("{USERS}/{userid}")).await.refused(404, "user_not_found");
    }
    let key = node.api().post(KEYS, &json!({"name": "all", "role": "viewer"})).await.ok();
    let path = format!("{KEYS}/{}", key["api_key"]["id"].as_str().unwrap());
    local.delete(&path).await.refused(404, "api_key_not_found");
    denied(clerk.delete(&path).await);
    assert_eq!(audit(&node).len(), before + 1);

    let given = local.post(USERS, &new(json!({"role": "viewer", "sites": [mine]}))).await;
    assert_eq!(given.status, 201, "{}", given.text);
    denied(local.patch(&format!("{USERS}/new@example.com"), &json!({"sites": null})).await);
    assert_eq!(local.get(USERS).await.ok()["total"], 1);
    assert_eq!(local.get(KEYS).await.ok()["total"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn api_key_is_shown_once_works_at_once_and_ends_with_its_removal() {
    let mut node = TestNode::start(Role::Coordinator).await;
    let body = json!({"name": "backup", "scopes": ["sites:read"]});

    let made = node.api().post(KEYS, &body).await;

    assert_eq!(made.status, 201, "{}", made.text);
    let location = made.headers["location"].to_str().unwrap().to_owned();
    let made = made.ok();
    assert_eq!(members(&made), names("key api_key"));
    let key = made["key"].as_str().unwrap().to_owned();
    assert_eq!(URL_SAFE_NO_PAD.decode(key.strip_prefix("smk_").unwrap()).unwrap().len(), 32);
    assert_eq!(
        members(&made["api_key"]),
        names("id name role scopes sites expires_at last_used_at created_at created_by")
    );
    assert_eq!(location, format!("{KEYS}/{}", made["api_key"]["id"].as_str().unwrap()));
    assert_eq!(made["api_key"]["last_used_at"], Value::Null);
    let (operation, _, details) = last_audit(&node);
    assert_eq!(operation, "api_key_created");
    assert!(!details.contains(&key[4..]));
    node.api().post(KEYS, &body).await.refused(409, "name_taken");

    let with_key = node.anonymous().bearer(&key);
    with_key.get(SITES).await.licensed();
    with_key.post(SITES, &json!({})).await.refused(403, "permission_denied");
    let mut wrong = key.clone().into_bytes();
    wrong[20] ^= 1;
    node.anonymous().bearer(String::from_utf8(wrong).unwrap()).get(SITES).await.refused(401, "token_invalid");
    node.restart().await;
    let with_key = node.anonymous().bearer(&key);
    with_key.get(SITES).await.licensed();
    let listed = node.api().get(KEYS).await.ok();
    let first_use = listed["items"][0]["last_used_at"].as_str().unwrap().to_owned();
    assert!(!listed.to_string().contains(&key[4..]));
    node.clock.advance(access::LAST_USED_STEP / 2);
    with_key.get(SITES).await.licensed();
    assert_eq!(node.api().get(KEYS).await.ok()["items"][0]["last_used_at"], first_use.as_str());
    node.clock.advance(access::LAST_USED_STEP);
    with_key.get(SITES).await.licensed();
    assert_ne!(node.api().get(KEYS).await.ok()["items"][0]["last_used_at"], first_use.as_str());

    assert_eq!(node.api().delete(&location).await.status, 204);
    assert_eq!(last_audit(&node).0, "api_key_removed");
    with_key.get(SITES).await.refused(401, "token_invalid");
    node.api().delete(&location).await.refused(404, "api_key_not_found");
    node.api().post(KEYS, &body).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn api_key_ends_by_its_time_and_acts_under_its_name() {
    let node = TestNode::start(Role::Coordinator).await;
    let end = node.clock.now().after(Duration::from_secs(60));
    let body = json!({"name": "night-shift", "role": "administrator", "expires_at": end.to_string()});
    let key = node.api().post(KEYS, &body).await.ok()["key"].as_str().unwrap().to_owned();
    let api = node.anonymous().bearer(&key);

    api.post(SITES, &json!({"name": "one", "url": "https://one.example.com"})).await.licensed();

    assert_eq!(last_audit(&node).1.as_deref(), Some("api-key:night-shift"));
    node.clock.advance(Duration::from_secs(61));
    api.get(SITES).await.refused(401, "token_expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn server_info_is_public_and_license_takes_any_scope() {
    for (role, engine) in [
        (Role::None, Value::Null),
        (Role::Coordinator, json!("federation_controller_engine")),
        (Role::Site, json!("federation_site_engine")),
    ] {
        let node = TestNode::start(role).await;

        let info = node.anonymous().get("/api/v1/server-info").await.ok();
        let license = node.api_as([Scope::AlertsRead].into(), None).get("/api/v1/license").await.ok();

        assert_eq!(
            members(&info),
            names(
                "role version license_tier loaded_engines expected_engine_for_role role_engine_loaded \
                 federation_role expected_federation_engine_for_role federation_engine_loaded"
            )
        );
        assert_eq!(info["federation_role"], role.as_str());
        assert_eq!(info["expected_federation_engine_for_role"], engine);
        assert_eq!(info["federation_engine_loaded"], true);
        let modules = license["modules"].as_array().unwrap();
        for module in ["federation_controller_engine", "federation_site_engine"] {
            assert!(
                modules.contains(&json!(module))
                    && info["loaded_engines"].as_array().unwrap().contains(&json!(module))
            );
        }
        node.anonymous().get("/api/v1/license").await.refused(401, "token_missing");
        node.api_as(BTreeSet::new(), None).get("/api/v1/license").await.refused(403, "permission_denied");
    }
}

const AUDIENCE: &str = "hansa-test";

fn issuer_config(name: String, jwks_url: Option<String>, algorithms: &[IssuerAlgorithm]) -> IssuerConfig {
    let grant = |role, sites: Option<u128>| Grant {
        role: Some(role),
        scopes: BTreeSet::new(),
        sites: sites.map(|site| [SiteId(uuid::Uuid::from_u128(site))].into()),
    };
    IssuerConfig {
        issuer: name,
        audience: AUDIENCE.to_owned(),
        jwks_url,
        userid_claim: "email".to_owned(),
        scope_claim: "realm_access.roles".to_owned(),
        algorithms: algorithms.iter().copied().collect(),
        grants: vec![
            ("hansa-viewers".to_owned(), grant(OperatorRole::Viewer, None)),
            ("hansa-admins".to_owned(), grant(OperatorRole::Administrator, None)),
            ("berlin-admins".to_owned(), grant(OperatorRole::Administrator, Some(1))),
        ],
        named_scopes: BTreeSet::new(),
        tenants: None,
    }
}

/// Claims as the issuer makes them, good for an hour.
fn claims(node: &TestNode, issuer: &str, roles: &[&str]) -> Value {
    let now = node.clock.now().as_secs();
    json!({
        "iss": issuer, "aud": ["account", AUDIENCE], "sub": "0190", "email": "ada@example.com",
        "realm_access": {"roles": roles}, "iat": now, "nbf": now, "exp": now + 3_600,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_other_issuers_are_taken_by_their_published_keys() {
    let (one, two) = (TestIssuer::start().await, TestIssuer::start().await);
    let (rsa, ec) = (SigningKey::rsa(), SigningKey::ec());
    one.publish(vec![json!({"kty": "oct", "k": "AAAA"}), rsa.published("r1"), ec.published("e1")]);
    two.publish(vec![ec.published("e1")]);
    let both = [IssuerAlgorithm::Rs256, IssuerAlgorithm::Es256];
    let config = OperatorsConfig {
        shared: None,
        issuers: vec![
            issuer_config(one.name(), Some(one.jwks_url()), &both),
            issuer_config(two.name(), None, &[IssuerAlgorithm::Es256]),
        ],
    };
    let node = TestNode::start_with(Role::Coordinator, config).await;
    let api = |token: String| node.anonymous().bearer(token);
    let viewer = claims(&node, &one.name(), &["offline_access", "hansa-viewers"]);

    for token in [rsa.token("r1", &viewer), ec.token("e1", &viewer)] {
        api(token.clone()).get(SITES).await.licensed();
        api(token).post(SITES, &json!({})).await.refused(403, "permission_denied");
    }
    // By discovery.
    let found = ec.token("e1", &claims(&node, &two.name(), &["hansa-admins"]));
    let body = json!({"name": "made", "url": "https://made.example.com"});
    api(found).post(SITES, &body).await.licensed();
    assert_eq!(last_audit(&node).1, Some(format!("{}#ada@example.com", two.name())));
    assert_eq!((one.asked(), two.asked()), (1, 1), "keys are fetched once");

    // A claim that is not there gives nothing, as issuers leave out lists that are empty.
    let mut without = claims(&node, &two.name(), &[]);
    without.as_object_mut().unwrap().remove("realm_access");
    api(ec.token("e1", &without)).get(SITES).await.refused(403, "permission_denied");

    // Roles that nobody mapped give nothing; a role for one site does not widen one for all.
    let nothing = ec.token("e1", &claims(&node, &two.name(), &["strangers"]));
    api(nothing).get(SITES).await.refused(403, "permission_denied");
    let berlin = ec.token("e1", &claims(&node, &two.name(), &["hansa-viewers", "berlin-admins"]));
    assert_eq!(api(berlin).get(SITES).await.licensed()["sites"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_04_tokens_of_other_issuers_are_forged_in_vain() {
    let issuer = TestIssuer::start().await;
    let (rsa, ec, stranger) = (SigningKey::rsa(), SigningKey::ec(), SigningKey::rsa());
    issuer.publish(vec![rsa.published("r1"), ec.published("e1")]);
    let config = OperatorsConfig {
        shared: Some(SharedSecret {
            secret: Secret::new(rsa.public_der()),
            grant: Grant { role: Some(OperatorRole::Administrator), ..Grant::default() },
        }),
        issuers: vec![issuer_config(issuer.name(), None, &[IssuerAlgorithm::Rs256])],
    };
    let node = TestNode::start_with(Role::Coordinator, config).await;
    let good = claims(&node, &issuer.name(), &["hansa-admins"]);
    let now = node.clock.now().as_secs();
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        claims
    };
    let without = |name: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(name);
        claims
    };
    let head = r#"{"alg":"RS256","kid":"r1"}"#;
    let doubled = good.to_string().replacen('{', r#"{"email":"eve@example.com","#, 1);
    let hs256 = |claims: &Value, head: &str| {
        let signed =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(head), URL_SAFE_NO_PAD.encode(claims.to_string()));
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &rsa.public_der());
        let tag = aws_lc_rs::hmac::sign(&key, signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
    };
    let api = |token: &str| node.anonymous().bearer(token);
    api(&rsa.token("r1", &good)).get(SITES).await.licensed();
    // The shared secret is good for its own kind of token, so that what follows fails for the right reason.
    api(&hs256(&json!({"user_id": "ada", "expires": now + 60}), r#"{"alg":"HS256"}"#))
        .get(SITES)
        .await
        .licensed();

    let forged = [
        ("no algorithm", format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), URL_SAFE_NO_PAD.encode(good.to_string()))),
        ("key confusion", hs256(&good, r#"{"alg":"HS256","kid":"r1"}"#)),
        ("key confusion under the issuer's algorithm", hs256(&good, head)),
        ("an algorithm that this issuer does not use", ec.token("e1", &good)),
        ("another kind of key under this id", ec.token_with(r#"{"alg":"RS256","kid":"e1"}"#, &good.to_string())),
        ("another RSA algorithm", rsa.token_with(r#"{"alg":"RS512","kid":"r1"}"#, &good.to_string())),
        ("another key", stranger.token("r1", &good)),
        ("an unknown key", stranger.token("r2", &good)),
        ("a key in the header", stranger.token_with(
            &json!({"alg": "RS256", "kid": "x", "jwk": stranger.published("x"), "jku": "http://127.0.0.1:9/"}).to_string(),
            &good.to_string(),
        )),
        ("a hostile key id", stranger.token("../../../etc/passwd\u{0}", &good)),
        ("an endless key id", stranger.token(&"k".repeat(issuer::KID_BYTES_MAX + 1), &good)),
        ("another type", rsa.token_with(r#"{"alg":"RS256","kid":"r1","typ":"logout+jwt"}"#, &good.to_string())),
        ("critical extensions", rsa.token_with(r#"{"alg":"RS256","kid":"r1","crit":["exp"]}"#, &good.to_string())),
        ("another issuer", rsa.token("r1", &with("iss", json!("http://127.0.0.1:9")))),
        ("an issuer by another spelling", rsa.token("r1", &with("iss", json!(format!("{}/", issuer.name()))))),
        ("our own issuer's name", rsa.token("r1", &with("iss", json!("hansa:0000")))),
        ("no issuer", rsa.token("r1", &without("iss"))),
        ("another audience", rsa.token("r1", &with("aud", json!("account")))),
        ("no audience", rsa.token("r1", &without("aud"))),
        ("no end", rsa.token("r1", &without("exp"))),
        ("expired", rsa.token("r1", &with("exp", json!(now - 120)))),
        ("not yet valid", rsa.token("r1", &with("nbf", json!(now + 600)))),
        ("no user", rsa.token("r1", &without("email"))),
        ("a user of several lines", rsa.token("r1", &with("email", json!("ada\nroot")))),
        ("duplicate claims", rsa.token_with(head, &doubled)),
        ("SysManage claims", rsa.token("r1", &json!({"user_id": "ada", "expires": now + 60}))),
    ];
    for (what, token) in forged {
        let answer = api(&token).get(SITES).await;
        assert_eq!(answer.status, 401, "{what}: {}", answer.text);
        answer.assert_problem();
    }
    assert_eq!(issuer.asked(), 1, "unknown key ids do not make requests");
}

#[tokio::test(flavor = "multi_thread")]
async fn new_key_of_an_issuer_is_found_and_its_silence_stops_nobody_else() {
    let (rotating, steady) = (TestIssuer::start().await, TestIssuer::start().await);
    let (old, new) = (SigningKey::ec(), SigningKey::ec());
    rotating.publish(vec![old.published("old")]);
    steady.publish(vec![old.published("old")]);
    let es256 = [IssuerAlgorithm::Es256];
    let config = OperatorsConfig {
        shared: None,
        issuers: vec![
            issuer_config(rotating.name(), None, &es256),
            issuer_config(steady.name(), None, &es256),
        ],
    };
    let node = TestNode::start_with(Role::Coordinator, config).await;
    let get = async |key: &SigningKey, kid: &str, issuer: &TestIssuer| {
        let token = key.token(kid, &claims(&node, &issuer.name(), &["hansa-viewers"]));
        node.anonymous().bearer(token).get(SITES).await
    };
    get(&old, "old", &rotating).await.licensed();

    rotating.publish(vec![new.published("new")]);
    get(&new, "new", &rotating).await.refused(401, "token_invalid");
    node.clock.advance(issuer::FETCH_INTERVAL);
    get(&new, "new", &rotating).await.licensed();
    get(&old, "old", &rotating).await.refused(401, "token_invalid");
    assert_eq!(rotating.asked(), 2);

    // Old keys serve while it is silent; a key that nobody knows cannot be judged.
    node.clock.advance(issuer::KEYS_AGE_MAX);
    rotating.set_silent(true);
    let started = tokio::time::Instant::now();
    let (waiting, other) = tokio::join!(get(&new, "new", &rotating), async {
        let answer = get(&old, "old", &steady).await;
        (answer, started.elapsed())
    });
    waiting.licensed();
    other.0.licensed();
    assert!(other.1 < issuer::FETCH_WAIT_MAX, "{:?}", other.1);
    let down = get(&old, "newest", &rotating).await;
    assert!(down.headers.contains_key("retry-after"));
    down.refused(503, "issuer_unavailable");

    rotating.set_silent(false);
    node.clock.advance(issuer::FETCH_INTERVAL);
    get(&old, "newest", &rotating).await.refused(401, "token_invalid");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_a_shared_secret_have_the_scopes_of_the_configuration() {
    let secret = b"0123456789abcdef0123456789abcdef".to_vec();
    let config = OperatorsConfig {
        shared: Some(SharedSecret {
            secret: Secret::new(secret.clone()),
            grant: Grant { scopes: [Scope::SitesRead].into(), ..Grant::default() },
        }),
        issuers: Vec::new(),
    };
    let node = TestNode::start_with(Role::Coordinator, config).await;
    let plain = TestNode::start(Role::Coordinator).await;
    let now = node.clock.now().as_secs();
    let token = |expires: Value| {
        let claims = json!({"user_id": "ada@example.com", "expires": expires, "scope": "admin sites:write"});
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &secret);
        let tag = aws_lc_rs::hmac::sign(&key, signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
    };
    let good = token(json!(now as f64 + 60.5));

    node.anonymous().bearer(&good).get(SITES).await.licensed();
    node.anonymous().bearer(&good).post(SITES, &json!({})).await.refused(403, "permission_denied");
    node.anonymous().bearer(token(json!(now - 61))).get(SITES).await.refused(401, "token_expired");
    plain.anonymous().bearer(&good).get(SITES).await.refused(401, "token_invalid");
    node.clock.advance(Duration::from_secs(122));
    node.anonymous().bearer(&good).get(SITES).await.refused(401, "token_expired");
}
