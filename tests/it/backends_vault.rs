//! The driver of Vault against a real OpenBao, and against servers that misbehave as no real one would.

use std::sync::Arc;
use std::time::Duration;

use hansa_backends::{CallError, Driver, ReadVersion, Write};
use hansa_model::secrets::backend::BackendKind::HashicorpVault;
use hansa_model::secrets::value::SecretData;
use hansa_tests::{
    Ask, OpenBao, Scripted, ScriptedServer, TestStores, data_of, eventually, hold_to, list_all, outcome, read,
};
use reqwest::Method;
use serde_json::{Value, json};

fn config(url: &str, method: &str) -> Value {
    json!({"endpoint": url, "auth_method": method, "auth_config_path": "infra/vault/login"})
}

/// A configuration with one member more.
fn with(mut config: Value, member: &str, value: impl Into<Value>) -> Value {
    config[member] = value.into();
    config
}

fn open_with_token(bao: &OpenBao, url: &str) -> Arc<dyn Driver> {
    let login = json!({"token": bao.root_token()});
    TestStores::default().open(HashicorpVault, &config(url, "token"), &login)
}

/// Two versions of one secret, a deleted one, a folder that has a key's name, and what a policy hides.
async fn fill(bao: &OpenBao) {
    for (path, data) in [
        ("app/db", json!({"password": "old"})),
        ("app/db", json!({"password": "hunter2", "port": 5432, "tls": {"on": true}})),
        ("app/db/replica", json!({"password": "r"})),
        ("gone", json!({"a": 1})),
        ("strange/a b%2f\u{e4}", json!({"blob": "AP8=\u{0}"})),
        ("hidden/key", json!({"a": 1})),
    ] {
        let url = path.replace('%', "%25").replace(' ', "%20").replace('\u{e4}', "%C3%A4");
        bao.write(&format!("secret/data/{url}"), &json!({"data": data})).await;
    }
    bao.call(Method::DELETE, "secret/data/gone", None).await;
    bao.write("sys/mounts/kv1", &json!({"type": "kv", "options": {"version": "1"}})).await;
    bao.write("kv1/shop/db", &json!({"password": "one"})).await;
    let rules = "path \"secret/data/app/*\" { capabilities = [\"read\", \"update\", \"create\"] }\n\
                 path \"secret/metadata/*\" { capabilities = [\"read\", \"list\"] }";
    bao.write("sys/policies/acl/reader", &json!({"policy": rules})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vault_answers_the_fourteen_cases() {
    let bao = OpenBao::start().await;
    fill(&bao).await;
    let (role_id, secret_id) = bao.approle("reader", &["reader"]).await;
    let role = json!({"token_policies": ["reader"], "token_ttl": "1s", "token_max_ttl": "2s"});
    bao.write("auth/approle/role/reader", &role).await;
    let front = ScriptedServer::before(bao.url()).await;
    let root = open_with_token(&bao, &front.url());
    let login = json!({"role_id": role_id, "secret_id": secret_id});
    let reader = TestStores::default().open(HashicorpVault, &config(&front.url(), "approle"), &login);
    let whole = r#"{"password":"hunter2","port":5432,"tls":{"on":true}} #2"#;
    let large = "a".repeat(1024 * 1024);
    let large = format!("{{\"data\":{{\"data\":{{\"a\":\"{large}\"}},\"metadata\":{{\"version\":1}}}}}}");

    hold_to(
        &root,
        &front,
        [
            ("found", Ask::Read("secret/data/app/db"), whole),
            ("not found", Ask::Read("secret/data/none"), "the backend has no such secret"),
            ("deleted", Ask::Read("secret/data/gone"), "the backend has no such secret"),
            ("deleted version", Ask::Number("secret/data/gone", 1), "the backend has no such version"),
            ("old version", Ask::Number("secret/data/app/db", 1), r#"{"password":"old"} #1"#),
            ("old version by name", Ask::Named("secret/data/app/db", "1".into()), r#"{"password":"old"} #1"#),
            ("missing version", Ask::Number("secret/data/app/db", 9), "the backend has no such version"),
            ("version zero", Ask::Number("secret/data/app/db", 0), "the backend has no such version"),
            ("version of nothing", Ask::Number("secret/data/none", 2), "the backend has no such secret"),
            ("empty listing", Ask::List("secret/data/nothing"), "on 1"),
            (
                "listing with a folder of a key's name",
                Ask::List("secret/data/app"),
                "secret/data/app/db secret/data/app/db/ on 1",
            ),
            (
                "strange name and value",
                Ask::Read("secret/data/strange/a b%2f\u{e4}"),
                "{\"blob\":\"AP8=\\u0000\"} #1",
            ),
            ("version 1 engine", Ask::Read("kv1/shop/db"), r#"{"password":"one"}"#),
            ("version 1 of version 1", Ask::Number("kv1/shop/db", 1), r#"{"password":"one"}"#),
            ("version 2 of version 1", Ask::Number("kv1/shop/db", 2), "the backend has no such version"),
            ("listing of version 1", Ask::List("kv1"), "kv1/shop/ on 1"),
            (
                "a mount is no secret",
                Ask::Read("secret/data"),
                "the backend cannot have a secret of this name",
            ),
            (
                "version 2 without data",
                Ask::Read("secret/app/db"),
                "the backend cannot have a secret of this name",
            ),
            (
                "way out",
                Ask::Read("secret/data/../sys/mounts"),
                "the backend cannot have a secret of this name",
            ),
            (
                "throttled",
                Ask::Spoiled(vec![Scripted::json(429, r#"{"errors":["quota"]}"#)], "secret/data/app/db"),
                "throttled",
            ),
            (
                "throttled with a wait",
                Ask::Spoiled(vec![Scripted::status(429).with("Retry-After", "7")], "secret/data/app/db"),
                "throttled for 7",
            ),
            (
                "error of its own",
                Ask::Spoiled(vec![Scripted::status(502)], "secret/data/app/db"),
                "unavailable: it answers with an error of its own",
            ),
            ("then success", Ask::Read("secret/data/app/db"), whole),
            (
                "standby",
                Ask::Spoiled(
                    vec![Scripted::status(307).with("Location", "http://127.0.0.1:1/v1/secret/data/app/db")],
                    "secret/data/app/db",
                ),
                "unavailable: it is a standby that sends us elsewhere",
            ),
            (
                "reset midway",
                Ask::Spoiled(vec![Scripted::Reset], "secret/data/app/db"),
                "unavailable: the connection broke",
            ),
            (
                "too large",
                Ask::Spoiled(vec![Scripted::Oversized], "secret/data/app/db"),
                "the backend answered what cannot be used: the answer is too large",
            ),
            (
                "endless",
                Ask::Spoiled(vec![Scripted::Endless], "secret/data/app/db"),
                "the backend answered what cannot be used: the answer is too large",
            ),
            (
                "value too large",
                Ask::Spoiled(vec![Scripted::json(200, &large)], "secret/data/app/db"),
                "the backend answered what cannot be used: the value is too large",
            ),
            (
                "no JSON",
                Ask::Spoiled(vec![Scripted::json(200, "<html>")], "secret/data/app/db"),
                "the backend answered what cannot be used: it does not answer as a Vault does",
            ),
        ],
    )
    .await;
    hold_to(
        &reader,
        &front,
        [
            ("allowed", Ask::Read("secret/data/app/db"), whole),
            (
                "permission refused",
                Ask::Read("secret/data/hidden/key"),
                "the backend refuses our credentials: permission denied, or the login has ended",
            ),
        ],
    )
    .await;
    // Past the whole life of the first token, and of its prolongation.
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        assert_eq!(outcome(read(&reader, "secret/data/app/db").await), whole, "login expired midway");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_token_is_replaced_and_a_refusal_is_not_asked_twice() {
    let bao = OpenBao::start().await;
    fill(&bao).await;
    let (role_id, secret_id) = bao.approle("reader", &["reader"]).await;
    let front = ScriptedServer::before(bao.url()).await;
    let login = json!({"role_id": role_id, "secret_id": secret_id});
    let store = TestStores::default().open(HashicorpVault, &config(&front.url(), "approle"), &login);
    let logins =
        || front.requests().iter().filter(|request| request.path == "/v1/auth/approle/login").count();

    let calls = (0..20).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { read(&store, "secret/data/app/db").await })
    });
    for call in calls.collect::<Vec<_>>() {
        data_of(call.await.unwrap());
    }
    assert_eq!(logins(), 1, "one login for all");

    bao.write("sys/leases/revoke-prefix/auth/approle", &json!({})).await;
    data_of(read(&store, "secret/data/app/db").await);
    assert_eq!(logins(), 2, "a revoked token is replaced");

    for _ in 0..5 {
        assert!(matches!(read(&store, "secret/data/hidden/key").await, Err(CallError::Refused { .. })));
    }
    assert_eq!(logins(), 3, "a policy's refusal is believed after one more login");
    data_of(read(&store, "secret/data/app/db").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_are_refused_and_not_tried_again_at_once() {
    let bao = OpenBao::start().await;
    let (role_id, _) = bao.approle("reader", &[]).await;
    let front = ScriptedServer::before(bao.url()).await;
    let login = json!({"role_id": role_id, "secret_id": "wrong"});
    let store = TestStores::default().open(HashicorpVault, &config(&front.url(), "approle"), &login);

    for _ in 0..5 {
        assert_eq!(store.probe().await, Err(CallError::Refused { reason: "the login is refused" }));
    }

    assert_eq!(front.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusal_with_clocks_far_apart_names_the_clock() {
    let bao = OpenBao::start().await;
    let stores = TestStores::default();
    stores.clock.advance(Duration::from_secs(600));
    let (role_id, _) = bao.approle("reader", &[]).await;
    let login = json!({"role_id": role_id, "secret_id": "wrong"});
    let store = stores.open(HashicorpVault, &config(&bao.url(), "approle"), &login);

    let refusal = store.probe().await.unwrap_err();

    assert!(refusal.to_string().contains("check the clock"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mark_tells_every_change_of_a_secret() {
    let bao = OpenBao::start().await;
    fill(&bao).await;
    let store = open_with_token(&bao, &bao.url());

    let first = store.mark("secret/data/app/db").await.unwrap();
    assert_eq!(store.mark("secret/data/app/db").await.unwrap(), first);
    let found = read(&store, "secret/data/app/db").await.unwrap();
    assert_eq!(found.secret.mark, first, "a read brings the mark along");
    bao.write("secret/data/app/db", &json!({"data": {"password": "new"}})).await;
    let second = store.mark("secret/data/app/db").await.unwrap();
    bao.call(Method::DELETE, "secret/data/app/db", None).await;
    let deleted = store.mark("secret/data/app/db").await.unwrap();
    bao.write("secret/destroy/app/db", &json!({"versions": [3]})).await;
    let destroyed = store.mark("secret/data/app/db").await.unwrap();

    assert!(first.is_some());
    assert_ne!(first, second);
    assert_ne!(second, deleted);
    assert_ne!(deleted, destroyed);
    assert_eq!(store.mark("secret/data/none").await, Err(CallError::NotFound));
    assert_eq!(store.mark("kv1/shop/db").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn write_compares_where_it_is_told_to() {
    let bao = OpenBao::start().await;
    fill(&bao).await;
    let store = open_with_token(&bao, &bao.url());
    let data = SecretData::parse(r#"{"big":123456789012345678901234567890,"text":"x"}"#).unwrap();
    let write = |expected| Write { data: &data, expected, token: "0123456789abcdef0123456789abcdef" };

    let written = store.write("secret/data/app/db", write(Some(2))).await.unwrap();
    assert_eq!(written.version, Some(3));
    assert_eq!(store.write("secret/data/app/db", write(Some(2))).await, Err(CallError::Conflict));
    assert_eq!(store.write("secret/data/app/db", write(Some(0))).await, Err(CallError::Conflict));
    assert_eq!(store.write("secret/data/new", write(Some(0))).await.unwrap().version, Some(1));
    assert_eq!(store.write("secret/data/new", write(None)).await.unwrap().version, Some(2));
    assert_eq!(store.write("kv1/shop/db", write(None)).await.unwrap().version, None);

    assert_eq!(data_of(read(&store, "kv1/shop/db").await)["text"], "x");
    assert_eq!(data_of(read(&store, "secret/data/new").await)["text"], "x");
}

#[tokio::test(flavor = "multi_thread")]
async fn namespace_is_sent_with_every_call() {
    let bao = OpenBao::start().await;
    bao.write("sys/namespaces/team1", &json!({})).await;
    bao.write("team1/sys/mounts/kv", &json!({"type": "kv", "options": {"version": "2"}})).await;
    bao.write("team1/kv/data/app", &json!({"data": {"a": 1}})).await;
    let login = json!({"token": bao.root_token()});
    let inside = with(config(&bao.url(), "token"), "namespace", "team1");

    let store = TestStores::default().open(HashicorpVault, &inside, &login);
    let outside = open_with_token(&bao, &bao.url());

    assert_eq!(data_of(read(&store, "kv/data/app").await), json!({"a": 1}));
    assert_eq!(list_all(&store, "kv/data").await.0, ["kv/data/app"]);
    assert_eq!(outcome(read(&outside, "kv/data/app").await), "the backend has no such secret");
}

#[tokio::test(flavor = "multi_thread")]
async fn quota_sealed_and_new_servers_are_told_apart() {
    let bao = OpenBao::start().await;
    fill(&bao).await;
    let quota = json!({"rate": 2, "interval": "1s", "path": "kv1"});
    bao.write("sys/quotas/rate-limit/few", &quota).await;
    let store = open_with_token(&bao, &bao.url());

    let throttled = eventually("the quota is used up", async || {
        let answer = read(&store, "kv1/shop/db").await;
        matches!(answer, Err(CallError::Throttled { .. })).then_some(answer)
    })
    .await;
    assert_eq!(outcome(throttled), "throttled");
    bao.seal().await;
    assert_eq!(outcome(read(&store, "secret/data/app/db").await), "unavailable: it is sealed");
    assert_eq!(store.probe().await.map_err(|error| error.is_transient()), Err(true));

    let new = OpenBao::start_new().await;
    let store = open_with_token(&bao, &new.url());
    assert_eq!(store.probe().await.map_err(|error| error.is_transient()), Err(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn server_with_a_private_authority_is_trusted_by_its_roots_alone() {
    let bao = OpenBao::start_with_tls().await;
    let (config, login) = (config(&bao.url(), "token"), json!({"token": bao.root_token()}));

    let trusting = TestStores::default().trusting(bao.authority());
    let store = trusting.open(HashicorpVault, &config, &login);
    eventually("OpenBao is up", async || store.probe().await.ok()).await;

    let public = TestStores::default().open(HashicorpVault, &config, &login);
    let refusal = public.probe().await.unwrap_err();
    assert!(matches!(refusal, CallError::Unavailable { connect: true, .. }), "{refusal}");
    assert!(refusal.to_string().contains("TLS"), "{refusal}");
    let unverified = with(config, "tls_verify", false);
    assert!(TestStores::default().try_open(HashicorpVault, &unverified, &login).is_err());
    let mut rules = hansa_tests::loopback_rules();
    rules.unverified_tls = true;
    let store = TestStores::default().under(rules).open(HashicorpVault, &unverified, &login);
    assert_eq!(store.probe().await, Ok(()));
}

/// What a Vault answers to these three logins, which no OpenBao has: it keeps what it was sent.
#[tokio::test(flavor = "multi_thread")]
async fn cloud_logins_send_what_vault_documents() {
    let vault = ScriptedServer::start(|request| {
        let given = json!({"auth": {"client_token": "hvs.x", "lease_duration": 60, "renewable": true}});
        match request.path.as_str() {
            path if path.starts_with("/v1/auth/") && path.ends_with("/login") => Scripted::json(200, given),
            _ => Scripted::json(200, json!({"data": {"id": "x"}})),
        }
    })
    .await;
    let key = hansa_tests::service_account_key();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "pod.jwt.text\n").unwrap();
    let mut stores = TestStores::default();
    stores.drivers.ambient.pod_tokens = Some(folder.path().to_owned());
    let aws = json!({
        "role": "reader", "access_key_id": "AKIDEXAMPLE", "secret_access_key": "very-secret",
        "session_token": "temporary", "server_id": "vault.example", "sts_region": "eu-central-1",
    });
    let file = json!({"role": "reader", "jwt_file": folder.path().join("token")});

    for (method, login) in [
        ("kubernetes", json!({"role": "reader", "jwt": "given.jwt.text"})),
        ("kubernetes", file.clone()),
        ("aws", aws),
        ("gcp", json!({"role": "reader", "service_account_key": key})),
        ("gcp", json!({"role": "reader", "service_account_key": key.to_string()})),
    ] {
        stores.open(HashicorpVault, &config(&vault.url(), method), &login).probe().await.unwrap();
    }

    let sent: Vec<Value> = vault
        .requests()
        .iter()
        .filter(|request| request.path.ends_with("/login"))
        .map(|request| serde_json::from_slice(&request.body).unwrap())
        .collect();
    assert_eq!(sent[0], json!({"role": "reader", "jwt": "given.jwt.text"}));
    assert_eq!(sent[1], json!({"role": "reader", "jwt": "pod.jwt.text"}));
    let decode = |field: &str| {
        use base64::Engine as _;
        let bytes = base64::engine::general_purpose::STANDARD.decode(sent[2][field].as_str().unwrap());
        String::from_utf8(bytes.unwrap()).unwrap()
    };
    assert_eq!(sent[2]["iam_http_request_method"], "POST");
    assert_eq!(decode("iam_request_url"), "https://sts.eu-central-1.amazonaws.com/");
    assert_eq!(decode("iam_request_body"), "Action=GetCallerIdentity&Version=2011-06-15");
    let headers: Value = serde_json::from_str(&decode("iam_request_headers")).unwrap();
    assert_eq!(headers["x-vault-aws-iam-server-id"][0], "vault.example");
    let authorization = headers["authorization"][0].as_str().unwrap();
    assert!(authorization.contains("x-vault-aws-iam-server-id"), "the server id is signed: {authorization}");
    for place in [3, 4] {
        assert_eq!(sent[place]["role"], "reader");
        let claims = hansa_tests::claims_of(sent[place]["jwt"].as_str().unwrap());
        assert_eq!(claims["aud"], "vault/reader");
        assert_eq!(claims["sub"], "reader@example.iam.gserviceaccount.com");
    }
    // The node's own files are closed unless its operator opens them.
    let closed = TestStores::default().try_open(HashicorpVault, &config(&vault.url(), "kubernetes"), &file);
    assert!(closed.is_err());
    let outside = json!({"role": "reader", "jwt_file": "/etc/passwd"});
    assert!(stores.try_open(HashicorpVault, &config(&vault.url(), "kubernetes"), &outside).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn forced_version_asks_for_no_mount() {
    let bao = OpenBao::start().await;
    fill(&bao).await;
    let front = ScriptedServer::before(bao.url()).await;
    let login = json!({"token": bao.root_token()});
    let forced = with(config(&front.url(), "token"), "kv_version", 2);
    let store = TestStores::default().open(HashicorpVault, &forced, &login);

    let found = store.read("secret/data/app/db", ReadVersion::Current).await.unwrap();

    assert_eq!(found.status, 200);
    assert!(found.secret.created_at.is_some());
    assert!(!front.requests().iter().any(|request| request.path.contains("internal/ui")));
}
