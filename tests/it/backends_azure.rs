//! The driver of Azure Key Vault against an imitation that Microsoft's own client has accepted.

use std::sync::Arc;
use std::time::Duration;

use hansa_backends::{CallError, Driver, Write};
use hansa_model::secrets::backend::BackendKind::AzureKeyVault;
use hansa_model::secrets::value::SecretData;
use hansa_model::{Timestamp, WallClock as _};
use hansa_tests::{
    Ask, AzureImitation, Scripted, ScriptedServer, TestLookup, TestStores, data_of, hold_to, judge, list_all,
    outcome, read,
};
use serde_json::{Value, json};

/// A vault of the public cloud, by name.
const VAULT: &str = "myvault.vault.azure.net";

/// Another directory than the public cloud's.
const AUTHORITY: &str = "login.sovereign.example";

fn config(azure: &AzureImitation) -> Value {
    let port = azure.server.port();
    json!({
        "vault_url": format!("https://{VAULT}:{port}"),
        "tenant_id": AzureImitation::TENANT,
        "credentials_path": "infra/azure/reader",
        "authority_host": format!("https://{AUTHORITY}:{port}"),
    })
}

fn login() -> Value {
    json!({"client_id": AzureImitation::CLIENT_ID, "client_secret": AzureImitation::CLIENT_SECRET})
}

fn stores(azure: &AzureImitation) -> TestStores {
    let lookup = Arc::new(TestLookup::default());
    lookup.answer(VAULT, &["127.0.0.1"]);
    lookup.answer(AUTHORITY, &["127.0.0.1"]);
    TestStores::default().trusting(&azure.authority).finding(lookup)
}

async fn start() -> (AzureImitation, Arc<dyn Driver>) {
    let azure = AzureImitation::start(&[VAULT, AUTHORITY]).await;
    let store = stores(&azure).open(AzureKeyVault, &config(&azure), &login());
    (azure, store)
}

fn failed(status: u16, inner: &str) -> Scripted {
    let error = json!({"code": "Forbidden", "message": "no", "innererror": {"code": inner}});
    Scripted::json(status, json!({"error": error}))
}

/// The message is there, but what it says is nobody's business.
fn hour_from_now() -> i64 {
    let now: Timestamp = hansa::system::SystemClock.now();
    now.as_secs() + 3_600
}

#[tokio::test(flavor = "multi_thread")]
async fn microsofts_own_client_accepts_the_imitation() {
    let azure = AzureImitation::start(&[]).await;
    for number in 0..60 {
        azure.put(&format!("many-{number:02}"), "x");
    }
    azure.put("disabled", "x");
    azure.set("disabled", "enabled", false);
    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("ca.pem");
    std::fs::write(&authority, &azure.authority).unwrap();

    let said = judge(
        "azure",
        "key_vault.py",
        &[
            &azure.server.url(),
            authority.to_str().unwrap(),
            AzureImitation::TENANT,
            AzureImitation::CLIENT_ID,
            AzureImitation::CLIENT_SECRET,
        ],
    )
    .await;

    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said, json!({"names": 62, "pages": [25, 25, 12]}));
}

#[tokio::test(flavor = "multi_thread")]
async fn azure_answers_the_fourteen_cases() {
    let (azure, store) = start().await;
    let old = azure.put("prod--db", r#"{"password":"old"}"#);
    azure.put("prod--db", r#"{"password":"hunter2","n":1}"#);
    azure.put("text", "plain");
    azure.put("Mixed--Case", "x");
    azure.put("gone", "x");
    azure.delete("gone");
    for (name, attribute, value) in [
        ("off", "enabled", json!(false)),
        ("over", "exp", json!(1_000)),
        ("early", "nbf", json!(hour_from_now())),
    ] {
        azure.put(name, "x");
        azure.set(name, attribute, value);
    }
    let off = azure.put("twice", "x");
    azure.set("twice", "enabled", false);
    azure.put("twice", "y");
    let many = (0..30).map(|number| format!("zmany-{number:02}")).collect::<Vec<_>>();
    for name in &many {
        azure.put(name, "x");
    }
    let many = format!("{} on 2", many.join(" "));
    let whole = r#"{"n":1,"password":"hunter2"}"#;
    let gone = "the backend has no such secret";
    let refused = "the backend refuses our credentials: the login or its permission is refused";
    let missing = "f".repeat(32);

    hold_to(
        &store,
        &azure.server,
        [
            ("found", Ask::Read("prod--db"), whole),
            ("not found", Ask::Read("none"), gone),
            ("deleted", Ask::Read("gone"), gone),
            ("disabled", Ask::Read("off"), gone),
            ("expired", Ask::Read("over"), gone),
            ("not yet valid", Ask::Read("early"), gone),
            ("old version", Ask::Named("prod--db", old), r#"{"password":"old"}"#),
            ("missing version", Ask::Named("prod--db", missing.clone()), "the backend has no such version"),
            ("disabled version", Ask::Named("twice", off), "the backend has no such version"),
            ("version of nothing", Ask::Named("none", missing), gone),
            (
                "version that changes the route",
                Ask::Named("text", "../x".into()),
                "the backend has no such version",
            ),
            ("version 1 is the newest", Ask::Number("prod--db", 1), whole),
            ("versions have no numbers", Ask::Number("prod--db", 2), "the backend has no such version"),
            ("empty listing", Ask::List("nothing"), "on 2"),
            ("two-page listing", Ask::List("zmany-"), &many),
            ("names are lowered", Ask::List("mixed"), "mixed--case on 2"),
            ("lowered name is read", Ask::Read("mixed--case"), r#"{"value":"x"}"#),
            ("text", Ask::Read("text"), r#"{"value":"plain"}"#),
            ("second spelling", Ask::Read("Text"), "the backend cannot have a secret of this name"),
            ("way out", Ask::Read("a/../text"), "the backend cannot have a secret of this name"),
            ("permission refused", Ask::Spoiled(vec![failed(403, "ForbiddenByRbac")], "prod--db"), refused),
            ("throttled", Ask::Spoiled(vec![failed(429, "Throttled")], "prod--db"), "throttled"),
            (
                "throttled with a wait",
                Ask::Spoiled(vec![Scripted::status(429).with("Retry-After", "11")], "prod--db"),
                "throttled for 11",
            ),
            (
                "error of its own",
                Ask::Spoiled(vec![Scripted::status(503)], "prod--db"),
                "unavailable: it answers with an error of its own",
            ),
            ("then success", Ask::Read("prod--db"), whole),
            (
                "redirect",
                Ask::Spoiled(
                    vec![Scripted::status(302).with("Location", "https://127.0.0.1:1/")],
                    "prod--db",
                ),
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
                "the backend answered what cannot be used: it does not answer as a Key Vault does",
            ),
        ],
    )
    .await;
    assert_eq!(azure.tokens_made(), 1, "one login for all");
}

#[tokio::test(flavor = "multi_thread")]
async fn login_is_made_again_when_it_ends_as_said_and_before() {
    let (azure, store) = start().await;
    azure.put("db", "x");

    azure.token_life(Duration::from_secs(2), Duration::from_secs(2));
    data_of(read(&store, "db").await);
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    azure.token_life(Duration::from_secs(1), Duration::from_secs(3_600));
    data_of(read(&store, "db").await);
    assert_eq!(azure.tokens_made(), 2);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    data_of(read(&store, "db").await);

    assert_eq!(azure.tokens_made(), 3, "the vault took it no longer than it had said");
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_login_is_not_tried_again_at_once() {
    let azure = AzureImitation::start(&[VAULT, AUTHORITY]).await;
    let wrong = json!({"client_id": AzureImitation::CLIENT_ID, "client_secret": "wrong"});
    let store = stores(&azure).open(AzureKeyVault, &config(&azure), &wrong);

    for _ in 0..5 {
        let refusal = "the backend refuses our credentials: the login is refused";
        assert_eq!(outcome(read(&store, "db").await), refusal);
    }

    let logins = azure.server.requests().iter().filter(|request| request.path.ends_with("/token")).count();
    assert_eq!(logins, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn directory_that_is_busy_or_broken_is_waited_for() {
    let (azure, store) = start().await;
    azure.put("db", "x");
    let challenge = "Bearer authorization=\"https://x/y\", resource=\"https://vault.azure.net\"";
    let challenge = || Scripted::status(401).with("WWW-Authenticate", challenge);

    azure.server.queue([challenge(), Scripted::status(429).with("Retry-After", "3")]);
    assert_eq!(outcome(read(&store, "db").await), "throttled for 3");
    azure.server.queue([Scripted::status(500)]);
    assert!(matches!(read(&store, "db").await, Err(CallError::Unavailable { .. })));

    assert_eq!(outcome(read(&store, "db").await), r#"{"value":"x"}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_goes_where_the_challenge_names_another_domain() {
    let (azure, store) = start().await;
    azure.put("db", "x");
    azure.challenge_with("https://vault.azure.cn");

    assert!(matches!(read(&store, "db").await, Err(CallError::BadAnswer { .. })));
    assert_eq!(azure.tokens_made(), 0);

    let mut unchecked = config(&azure);
    unchecked["verify_challenge_resource"] = json!(false);
    let store = stores(&azure).open(AzureKeyVault, &unchecked, &login());
    assert_eq!(outcome(read(&store, "db").await), r#"{"value":"x"}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn next_page_is_asked_for_at_the_vault_alone() {
    let (azure, store) = start().await;
    let thief = ScriptedServer::start(|_| Scripted::json(200, json!({"value": []}))).await;
    for number in 0..30 {
        azure.put(&format!("many-{number:02}"), "x");
    }

    for link in [
        thief.url(),
        format!("https://127.0.0.1:{}/secrets?api-version=2025-07-01", azure.server.port()),
        format!("https://{VAULT}/secrets?api-version=2025-07-01"),
    ] {
        azure.link_to(&link);
        let first = store.list("", None).await.unwrap();
        let second = store.list("", first.next.as_deref()).await;
        assert!(matches!(second, Err(CallError::BadAnswer { .. })), "{link}");
    }

    assert_eq!(thief.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn write_makes_a_version_and_listing_shows_its_mark() {
    let (azure, store) = start().await;
    azure.put("db", "x");
    let data = SecretData::parse(r#"{"password":"new"}"#).unwrap();
    let before = read(&store, "db").await.unwrap().secret;

    let write = Write { data: &data, expected: None, token: "0123456789abcdef0123456789abcdef" };
    let written = store.write("db", write).await.unwrap();
    let after = read(&store, "db").await.unwrap().secret;

    assert!(written.mark.is_some());
    assert_eq!(written.mark, after.mark);
    assert_ne!(before.mark, after.mark);
    assert_ne!(before.backend_version, after.backend_version);
    let page = store.list("", None).await.unwrap();
    let [hansa_backends::Entry::Secret { mark, .. }] = &page.entries[..] else { panic!("{page:?}") };
    assert_eq!(*mark, after.mark);
    assert_eq!(list_all(&store, "").await.0, ["db"]);
}
