//! The driver of Google Secret Manager against an imitation that Google's own client has accepted.

use std::sync::Arc;
use std::time::Duration;

use hansa_backends::{CallError, Driver, Write};
use hansa_model::secrets::backend::BackendKind::GoogleSecretManager;
use hansa_model::secrets::value::SecretData;
use hansa_tests::{
    Ask, GoogleImitation, Scripted, TestStores, data_of, hold_to, judge, list_all, outcome, read,
    service_account_key,
};
use serde_json::{Value, json};

fn config(google: &GoogleImitation) -> Value {
    json!({
        "project_id": "example", "credentials_path": "infra/google/reader", "endpoint": google.server.url(),
    })
}

async fn start() -> (GoogleImitation, Arc<dyn Driver>) {
    let google = GoogleImitation::start().await;
    let store = TestStores::default().open(GoogleSecretManager, &config(&google), &service_account_key());
    (google, store)
}

fn failed(code: u16, status: &str) -> Scripted {
    Scripted::json(code, json!({"error": {"code": code, "message": "no", "status": status}}))
}

#[tokio::test(flavor = "multi_thread")]
async fn googles_own_client_and_description_accept_the_imitation() {
    let google = GoogleImitation::start().await;
    google.let_everybody_in();
    for number in 0..4 {
        google.put(None, &format!("many-{number}"), b"x");
    }

    let said = judge("google", "secret_manager.py", &[&google.server.url(), "example"]).await;

    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said, json!({"listed": 5, "described": 7}));
}

#[tokio::test(flavor = "multi_thread")]
async fn google_answers_the_fourteen_cases() {
    let (google, store) = start().await;
    google.put(None, "prod--db", br#"{"password":"old"}"#);
    google.put(None, "prod--db", br#"{"password":"hunter2","n":1}"#);
    google.put(None, "text", b"plain");
    google.put(None, "binary", b"\xff\x00");
    google.put(None, "Team_A--KEY", b"x");
    for (name, destroy) in [("off", false), ("burnt", true)] {
        google.put(None, name, b"x");
        google.put(None, name, b"y");
        google.end(name, 2, destroy);
    }
    google.put(Some("europe-west1"), "regional", b"here");
    let many = (0..300).map(|number| format!("zmany-{number:03}")).collect::<Vec<_>>();
    for name in &many {
        google.put(None, name, b"x");
    }
    let many = format!("{} on 2", many.join(" "));
    let whole = r#"{"n":1,"password":"hunter2"} #2"#;
    let gone = "the backend has no such secret";
    let no_version = "the backend has no such version";
    let refused = "the backend refuses our credentials: the login or its permission is refused";

    hold_to(
        &store,
        &google.server,
        [
            ("found", Ask::Read("prod--db"), whole),
            ("not found", Ask::Read("none"), gone),
            ("disabled", Ask::Read("off"), gone),
            ("deleted", Ask::Read("burnt"), gone),
            ("old version", Ask::Number("prod--db", 1), r#"{"password":"old"} #1"#),
            ("old version of the disabled", Ask::Number("off", 1), r#"{"value":"x"} #1"#),
            ("disabled version", Ask::Number("off", 2), no_version),
            ("destroyed version", Ask::Named("burnt", "2".into()), no_version),
            ("missing version", Ask::Number("prod--db", 9), no_version),
            ("version zero", Ask::Number("prod--db", 0), no_version),
            ("version of nothing", Ask::Number("none", 1), gone),
            ("version that changes the route", Ask::Named("text", "../x".into()), no_version),
            ("empty listing", Ask::List("nothing"), "on 2"),
            ("two-page listing", Ask::List("zmany-"), &many),
            ("case is kept", Ask::List("Team_A"), "Team_A--KEY on 2"),
            ("text", Ask::Read("text"), r#"{"value":"plain"} #1"#),
            ("binary", Ask::Read("binary"), r#"{"value_base64":"/wA="} #1"#),
            ("of a region", Ask::Read("regional"), gone),
            ("way out", Ask::Read("../secrets"), "the backend cannot have a secret of this name"),
            ("permission refused", Ask::Spoiled(vec![failed(403, "PERMISSION_DENIED")], "prod--db"), refused),
            ("throttled", Ask::Spoiled(vec![failed(429, "RESOURCE_EXHAUSTED")], "prod--db"), "throttled"),
            (
                "throttled with a wait",
                Ask::Spoiled(vec![failed(429, "RESOURCE_EXHAUSTED").with("Retry-After", "13")], "prod--db"),
                "throttled for 13",
            ),
            (
                "error of its own",
                Ask::Spoiled(vec![failed(503, "UNAVAILABLE")], "prod--db"),
                "unavailable: it answers with an error of its own",
            ),
            ("then success", Ask::Read("prod--db"), whole),
            (
                "redirect",
                Ask::Spoiled(vec![Scripted::status(301).with("Location", "http://127.0.0.1:1/")], "prod--db"),
                "the backend answered what cannot be used: it sends us elsewhere",
            ),
            (
                "reset midway",
                Ask::Spoiled(vec![Scripted::Reset], "prod--db"),
                "unavailable: the connection broke",
            ),
            (
                "too large",
                Ask::Spoiled(vec![Scripted::Oversized], "prod--db"),
                "the backend answered what cannot be used: the answer is too large",
            ),
            (
                "endless",
                Ask::Spoiled(vec![Scripted::Endless], "prod--db"),
                "the backend answered what cannot be used: the answer is too large",
            ),
            (
                "no JSON",
                Ask::Spoiled(vec![Scripted::json(200, "<html>")], "prod--db"),
                "the backend answered what cannot be used: it does not answer as Google Secret Manager does",
            ),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn regional_secrets_are_apart_from_global_ones() {
    let google = GoogleImitation::start().await;
    google.put(None, "db", b"global");
    google.put(Some("europe-west1"), "db", b"regional");
    let mut regional = config(&google);
    regional["location"] = json!("europe-west1");

    let store = TestStores::default().open(GoogleSecretManager, &regional, &service_account_key());

    assert_eq!(data_of(read(&store, "db").await), json!({"value": "regional"}));
    assert_eq!(list_all(&store, "").await.0, ["db"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_checksum_is_no_answer() {
    let (google, store) = start().await;
    google.put(None, "db", b"123456789");

    google.spoil_sums(true);
    let wrong = "the backend answered what cannot be used: the checksum is wrong";
    assert_eq!(outcome(read(&store, "db").await), wrong);
    google.spoil_sums(false);

    assert_eq!(outcome(read(&store, "db").await), r#"{"value":"123456789"} #1"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn key_is_taken_as_data_or_as_a_text_in_it() {
    let google = GoogleImitation::start().await;
    google.put(None, "db", b"x");
    let key = service_account_key();

    for login in [key.clone(), json!({"service_account_key": key.to_string()})] {
        let store = TestStores::default().open(GoogleSecretManager, &config(&google), &login);
        assert_eq!(store.probe().await, Ok(()));
    }

    for login in [json!({}), json!({"service_account_key": "{}"}), Value::Null] {
        let refused = TestStores::default().try_open(GoogleSecretManager, &config(&google), &login);
        assert!(refused.is_err(), "{login}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn login_that_is_taken_no_more_is_made_again() {
    let google = GoogleImitation::start().await;
    google.put(None, "db", b"x");
    let stores = TestStores::default();
    let store = stores.open(GoogleSecretManager, &config(&google), &service_account_key());
    data_of(read(&store, "db").await);

    // Another second makes another token.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    google.end_tokens();
    data_of(read(&store, "db").await);

    stores.clock.advance(Duration::from_secs(7_200));
    let late = stores.open(GoogleSecretManager, &config(&google), &service_account_key());
    let refused = failed(401, "UNAUTHENTICATED").with("Date", "Sun, 22 Nov 2026 08:00:00 GMT");
    google.server.queue(vec![refused; 2]);
    let refusal = read(&late, "db").await.unwrap_err();
    assert!(refusal.to_string().contains("check the clock"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mark_tells_every_change_of_what_can_be_read() {
    let (google, store) = start().await;
    google.put(None, "db", b"one");

    let first = store.mark("db").await.unwrap();
    google.put(None, "db", b"two");
    let second = store.mark("db").await.unwrap();
    let found = read(&store, "db").await.unwrap();
    google.end("db", 2, false);

    assert_ne!(first, second);
    assert_eq!(found.secret.mark, second, "a read brings the mark along");
    assert_eq!(store.mark("db").await.unwrap(), first, "the newest that is enabled");
    google.end("db", 1, true);
    assert_eq!(store.mark("db").await, Err(CallError::NotFound));
    assert_eq!(store.mark("none").await, Err(CallError::NotFound));
}

#[tokio::test(flavor = "multi_thread")]
async fn write_adds_a_version_and_makes_what_is_missing() {
    let (google, store) = start().await;
    google.put(None, "db", b"one");
    let data = SecretData::parse(r#"{"password":"new"}"#).unwrap();
    let write = Write { data: &data, expected: None, token: "0123456789abcdef0123456789abcdef" };

    let written = store.write("db", write).await.unwrap();
    let made = store.write("fresh", write).await.unwrap();

    assert_eq!((written.version, made.version), (Some(2), Some(1)));
    assert_eq!(written.mark, store.mark("db").await.unwrap());
    assert_eq!(data_of(read(&store, "fresh").await), json!({"password": "new"}));
    assert_eq!(outcome(read(&store, "db").await), r#"{"password":"new"} #2"#);
}
