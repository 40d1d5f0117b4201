//! What a hostile store, or a hostile configuration of one, gets: nothing (threats 11 and 12).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hansa_backends::{CallError, Driver, ReadVersion, Write};
use hansa_model::secrets::address::AddressRules;
use hansa_model::secrets::backend::BackendKind;
use hansa_model::secrets::value::SecretData;
use hansa_tests::{
    AzureImitation, GoogleImitation, Scripted, ScriptedServer, TestLookup, TestStores, loopback_rules, read,
    service_account_key,
};
use serde_json::{Value, json};
use tokio::time::Instant;

/// A configuration of this kind at this address, and a login that would do.
fn at(kind: BackendKind, url: &str) -> (Value, Value) {
    match kind {
        BackendKind::HashicorpVault => (
            json!({"endpoint": url, "auth_method": "token", "auth_config_path": "a/b", "timeout": "1s"}),
            json!({"token": "canary-vault-token"}),
        ),
        BackendKind::AwsSecretsManager => (
            json!({"endpoint": url, "region": "us-east-1", "credentials_path": "a/b", "timeout": "1s"}),
            json!({"access_key_id": "AKIDEXAMPLE", "secret_access_key": "canary-aws-key", "session_token": "canary-session"}),
        ),
        BackendKind::AzureKeyVault => (
            json!({
                "vault_url": url, "tenant_id": AzureImitation::TENANT, "credentials_path": "a/b",
                "authority_host": url, "verify_challenge_resource": false, "timeout": "1s",
            }),
            json!({"client_id": AzureImitation::CLIENT_ID, "client_secret": AzureImitation::CLIENT_SECRET}),
        ),
        BackendKind::GoogleSecretManager => (
            json!({"endpoint": url, "project_id": "example", "credentials_path": "a/b", "timeout": "1s"}),
            service_account_key(),
        ),
    }
}

const fn name(kind: BackendKind) -> &'static str {
    match kind {
        BackendKind::HashicorpVault => "secret/data/db",
        BackendKind::AwsSecretsManager | BackendKind::AzureKeyVault | BackendKind::GoogleSecretManager => {
            "db"
        }
    }
}

fn open(stores: &TestStores, kind: BackendKind, url: &str) -> Arc<dyn Driver> {
    let (config, login) = at(kind, url);
    stores.open(kind, &config, &login)
}

#[tokio::test(flavor = "multi_thread")]
async fn inner_addresses_are_not_dialled_in_any_spelling() {
    let lookup = Arc::new(TestLookup::default());
    lookup.answer("inner.example", &["10.1.2.3"]);
    lookup.answer("metadata.example", &["169.254.169.254"]);
    lookup.answer("half.example", &["1.1.1.1", "127.0.0.1"]);
    lookup.answer("localhost", &["127.0.0.1", "::1"]);
    let mapped = ["fd00:ec2::254"];
    lookup.answer("six.example", &mapped);
    let stores = TestStores::default().under(AddressRules::default()).finding(lookup);

    for kind in BackendKind::ALL {
        for host in [
            "127.0.0.1",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "127.1",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[64:ff9b::7f00:1]",
            "0.0.0.0",
            "169.254.169.254",
            "[::ffff:a9fe:a9fe]",
            "[fd00:ec2::254]",
            "10.0.0.1",
            "inner.example",
            "metadata.example",
            "half.example",
            "six.example",
            "localhost",
        ] {
            let store = open(&stores, kind, &format!("https://{host}:8200"));
            let answer = read(&store, name(kind)).await;
            assert!(matches!(answer, Err(CallError::Address(_))), "{kind} {host}: {answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_goes_to_loopback_alone_and_only_where_it_is_opened() {
    let server = ScriptedServer::start(|_| Scripted::status(200)).await;
    let mut closed = loopback_rules();
    closed.http_to_loopback = false;

    for kind in
        [BackendKind::HashicorpVault, BackendKind::AwsSecretsManager, BackendKind::GoogleSecretManager]
    {
        for (rules, url) in
            [(closed.clone(), server.url()), (loopback_rules(), "http://1.1.1.1:8200".to_owned())]
        {
            let store = open(&TestStores::default().under(rules), kind, &url);
            let answer = read(&store, name(kind)).await;
            assert!(matches!(answer, Err(CallError::Address(_))), "{kind}: {answer:?}");
        }
    }

    assert_eq!(server.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn resolver_that_changes_its_answer_gains_nothing() {
    for kind in
        [BackendKind::HashicorpVault, BackendKind::AwsSecretsManager, BackendKind::GoogleSecretManager]
    {
        // A token that may not look itself up is used as it is.
        let server = ScriptedServer::start(|asked| match asked.path.contains("lookup-self") {
            true => Scripted::status(403),
            false => Scripted::status(404),
        })
        .await;
        let lookup = Arc::new(TestLookup::default());
        lookup.answer("store.example", &["127.0.0.1"]);
        let stores = TestStores::default().finding(lookup.clone());
        let store = open(&stores, kind, &format!("http://store.example:{}", server.port()));

        let first = read(&store, name(kind)).await;
        assert!(!matches!(first, Err(CallError::Address(_))), "{kind}: {first:?}");
        let asked = server.requests().len();
        assert!(asked > 0);
        lookup.answer("store.example", &["10.0.0.1"]);
        lookup.answer("store.example", &["10.0.0.1"]);
        // The answer that is given once more is the first one: it takes a connection to hear another.
        let _ = read(&store, name(kind)).await;
        let asked = server.requests().len();

        for _ in 0..3 {
            let answer = read(&store, name(kind)).await;
            assert!(matches!(answer, Err(CallError::Address(_))), "{kind}: {answer:?}");
        }
        assert_eq!(server.requests().len(), asked, "{kind}");
        assert!(lookup.asked() >= 4, "each connection is judged anew");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redirect_takes_no_credential_along() {
    let thief = ScriptedServer::start(|_| Scripted::status(200)).await;
    let to = thief.url();

    for kind in
        [BackendKind::HashicorpVault, BackendKind::AwsSecretsManager, BackendKind::GoogleSecretManager]
    {
        for status in [301, 302, 303, 307, 308] {
            let to = to.clone();
            let server =
                ScriptedServer::start(move |_| Scripted::status(status).with("Location", to.clone())).await;
            let store = open(&TestStores::default(), kind, &server.url());
            let answer = read(&store, name(kind)).await;
            let is_refused =
                matches!(answer, Err(CallError::Unavailable { .. } | CallError::BadAnswer { .. }));
            assert!(is_refused, "{kind} {status}: {answer:?}");
        }
    }

    assert_eq!(thief.connections(), 0);
}

/// What a store says when it means well, with this in it where nobody looks.
fn well_meant(kind: BackendKind, path: &str, junk: &str) -> Scripted {
    let body = match kind {
        BackendKind::HashicorpVault if path.contains("internal/ui") => {
            r#"{"data":{"path":"secret/","type":"kv","options":{"version":"2"}}}"#.to_owned()
        }
        BackendKind::HashicorpVault => {
            format!("{{\"junk\":{junk},\"data\":{{\"data\":{junk},\"metadata\":{{\"version\":1}}}}}}")
        }
        BackendKind::AwsSecretsManager => {
            format!("{{\"Junk\":{junk},\"Name\":\"db\",\"SecretString\":\"x\",\"VersionId\":\"1\"}}")
        }
        BackendKind::AzureKeyVault => format!("{{\"junk\":{junk},\"value\":\"x\"}}"),
        BackendKind::GoogleSecretManager => format!(
            "{{\"junk\":{junk},\"name\":\"projects/1/secrets/db/versions/1\",\"payload\":{{\"data\":\"eA==\"}}}}"
        ),
    };
    Scripted::json(200, body)
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_and_doubled_answers_end_in_bounded_time() {
    let deep_list = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    let deep_object = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
    let doubled = r#"{"a":1,"a":2}"#.to_owned();
    let control = "{\"a\\u0000\\u001b[2J\":\"\\u0007\"}".to_owned();

    for kind in
        [BackendKind::HashicorpVault, BackendKind::AwsSecretsManager, BackendKind::GoogleSecretManager]
    {
        for junk in [&deep_list, &deep_object, &doubled, &control] {
            let junk = junk.clone();
            let server = ScriptedServer::start(move |asked| well_meant(kind, &asked.path, &junk)).await;
            let store = open(&TestStores::default(), kind, &server.url());
            let begun = Instant::now();

            // Found or refused, and what is found becomes some data.
            if let Ok(found) = read(&store, name(kind)).await {
                found.secret.value.unfold();
            }

            assert!(begun.elapsed() < Duration::from_secs(5), "{kind}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_and_endless_answers_end_with_the_configured_time() {
    for kind in
        [BackendKind::HashicorpVault, BackendKind::AwsSecretsManager, BackendKind::GoogleSecretManager]
    {
        for answer in [Scripted::Silence, Scripted::Endless, Scripted::Oversized, Scripted::Reset] {
            let scripted = answer.clone();
            let server = ScriptedServer::start(move |_| scripted.clone()).await;
            let store = open(&TestStores::default(), kind, &server.url());
            let begun = Instant::now();

            for call in [read(&store, name(kind)).await.map(drop), store.list("x", None).await.map(drop)] {
                let is_refused =
                    matches!(call, Err(CallError::Unavailable { .. } | CallError::BadAnswer { .. }));
                assert!(is_refused, "{kind} {answer:?}: {call:?}");
            }

            assert!(begun.elapsed() < Duration::from_secs(6), "{kind} {answer:?}");
        }
    }
}

/// What was logged.
#[derive(Clone, Default)]
struct Journal(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Journal {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// One thread, so that all that happens is heard by one journal.
#[tokio::test]
async fn no_credential_and_no_value_is_logged_or_printed_at_the_finest_level() {
    let journal = Journal::default();
    let writer = journal.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    tracing::trace!("the journal hears everything");
    let mut printed = String::new();
    let vault = ScriptedServer::start(|asked| match asked.path.as_str() {
        path if path.contains("lookup-self") => Scripted::json(200, json!({"data": {"ttl": 60}})),
        path => well_meant(BackendKind::HashicorpVault, path, r#"{"v":"canary-value"}"#),
    })
    .await;
    let aws = ScriptedServer::start(|_| {
        let body = json!({"Name": "db", "SecretString": "canary-value", "VersionId": "1", "SecretList": []});
        Scripted::json(200, body)
    })
    .await;
    let azure = AzureImitation::start(&[]).await;
    azure.put("db", "canary-value");
    let google = GoogleImitation::start().await;
    google.put(None, "db", b"canary-value");
    let data = SecretData::parse(r#"{"written":"canary-written"}"#).unwrap();
    let stores = TestStores::default().trusting(&azure.authority);

    for (kind, server) in [
        (BackendKind::HashicorpVault, &vault),
        (BackendKind::AwsSecretsManager, &aws),
        (BackendKind::AzureKeyVault, &azure.server),
        (BackendKind::GoogleSecretManager, &google.server),
    ] {
        let store = open(&stores, kind, &server.url());
        printed.push_str(&format!("{store:?}"));
        let found = read(&store, name(kind)).await;
        assert!(found.is_ok(), "{kind}: {found:?}");
        printed.push_str(&format!("{found:?}"));
        let write = Write { data: &data, expected: None, token: "0123456789abcdef0123456789abcdef" };
        printed.push_str(&format!("{write:?} {:?}", store.write(name(kind), write).await));
        printed.push_str(&format!("{:?}", store.list("", None).await));
        printed.push_str(&format!("{:?}", store.mark(name(kind)).await));
        printed.push_str(&format!("{:?}", store.read_many(&["db".to_owned()]).await));
        for (status, body) in [
            (400, json!({"errors": ["canary-value"], "__type": "X", "message": "canary-value"})),
            (403, json!({"error": {"code": "canary-value", "message": "canary-value"}})),
            (200, json!("canary-value")),
            (500, json!({"error": "canary-value"})),
        ] {
            server.queue([Scripted::json(status, body)]);
            let error = store.read(name(kind), ReadVersion::Current).await;
            printed.push_str(&format!("{error:?}"));
            if let Err(error) = error {
                printed.push_str(&error.to_string());
            }
        }
        server.queue([Scripted::Reset]);
        printed.push_str(&format!("{:?}", read(&store, name(kind)).await));
    }

    let heard =
        String::from_utf8_lossy(&journal.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned();
    assert!(heard.contains("the journal hears everything"));
    let key = service_account_key();
    let key_line = key["private_key"].as_str().unwrap().lines().nth(3).unwrap().to_owned();
    for canary in [
        "canary-value",
        "canary-written",
        "canary-vault-token",
        "canary-aws-key",
        "canary-session",
        AzureImitation::CLIENT_SECRET,
        "azure-access-token-1",
        &key_line,
    ] {
        let at = heard.find(canary).map(|at| heard[at.saturating_sub(300)..at].to_owned());
        assert!(at.is_none(), "{canary} is logged after {at:?}");
        assert!(!printed.contains(canary), "{canary} is printed: {printed}");
    }
}
