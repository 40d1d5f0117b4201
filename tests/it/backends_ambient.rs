//! Backends that log in as the machine: only where the node's configuration allows it, and only at the machine's own
//! services (contract B.3, B.4).

use std::sync::Arc;
use std::time::Duration;

use hansa_backends::{Ambient, Driver, OpenError, VendorDrivers};
use hansa_model::enrollment::Role;
use hansa_model::secrets::address::AddressRules;
use hansa_model::secrets::backend::BackendKind::{
    self, AwsSecretsManager, GoogleSecretManager, HashicorpVault,
};
use hansa_tests::{
    AwsEmulator, GoogleImitation, MetadataImitation, Scripted, ScriptedServer, TestLookup, TestNode,
    TestProcess, TestStores, create_backend, data_of, eventually, outcome, read, secret_refusal,
};
use serde_json::{Value, json};

const GOOGLES_HOST: &str = "secretmanager.googleapis.com";
const GCE: &str = r#"{"role":"reader"}"#;

/// Stores that may log in as the machine that the imitation serves, and find Google on loopback.
fn stores(metadata: &MetadataImitation) -> TestStores {
    let lookup = Arc::new(TestLookup::default());
    lookup.answer(GOOGLES_HOST, &["127.0.0.1"]);
    let mut stores = TestStores::default().finding(lookup);
    stores.drivers.ambient = Ambient {
        kinds: [AwsSecretsManager, GoogleSecretManager, HashicorpVault].into_iter().collect(),
        machine: metadata.machine(),
        pod_tokens: None,
    };
    stores
}

fn google_config(google: &GoogleImitation) -> Value {
    let endpoint = format!("http://{GOOGLES_HOST}:{}", google.server.port());
    json!({"project_id": "example", "endpoint": endpoint})
}

async fn google() -> GoogleImitation {
    let google = GoogleImitation::start().await;
    google.take_tokens("ya29.machine-");
    google.put(None, "db", b"hunter2");
    google
}

/// A Vault that takes a login, and what it was sent with.
async fn vault() -> ScriptedServer {
    ScriptedServer::start(|request| {
        let given = json!({"auth": {"client_token": "hvs.x", "lease_duration": 60, "renewable": true}});
        match request.path.as_str() {
            "/v1/auth/gcp/login" => Scripted::json(200, given),
            _ => Scripted::json(200, json!({"data": {"id": "x"}})),
        }
    })
    .await
}

fn vault_config(url: &str) -> Value {
    json!({"endpoint": url, "auth_method": "gcp", "auth_config_path": "infra/vault/login"})
}

fn open_alone(stores: &TestStores, kind: BackendKind, config: &Value) -> Arc<dyn Driver> {
    stores.open(kind, config, &Value::Null)
}

#[tokio::test(flavor = "multi_thread")]
async fn google_is_read_with_the_machines_token_and_a_new_one_when_it_ends() {
    let (metadata, google) = (MetadataImitation::start().await, google().await);
    metadata.give_for(2);
    let store = open_alone(&stores(&metadata), GoogleSecretManager, &google_config(&google));

    for _ in 0..5 {
        assert_eq!(data_of(read(&store, "db").await), json!({"value": "hunter2"}));
    }
    assert_eq!(metadata.given(), 1, "one login for all");
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    data_of(read(&store, "db").await);

    assert_eq!(metadata.given(), 2);
    google.end_tokens();
    data_of(read(&store, "db").await);
    assert_eq!(metadata.given(), 3, "one that is taken no more is asked for again");
    let asked = &metadata.server.requests()[0];
    assert_eq!(asked.path, "/computeMetadata/v1/instance/service-accounts/default/token");
}

#[tokio::test(flavor = "multi_thread")]
async fn vault_is_told_by_the_machine_who_it_is() {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let (metadata, vault) = (MetadataImitation::start().await, vault().await);
    let login = serde_json::from_str(GCE).unwrap();

    let store = stores(&metadata).open(HashicorpVault, &vault_config(&vault.url()), &login);
    store.probe().await.unwrap();

    let asked = &metadata.server.requests()[0];
    let expected = "/computeMetadata/v1/instance/service-accounts/default/identity\
                    ?audience=vault%2Freader&format=full";
    assert_eq!(asked.path, expected);
    let sent = vault.requests().into_iter().find(|request| request.path.ends_with("/login")).unwrap();
    let sent: Value = serde_json::from_slice(&sent.body).unwrap();
    assert_eq!(sent["role"], "reader");
    let claims = sent["jwt"].as_str().unwrap().split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    assert_eq!(claims["aud"], "vault/reader");
}

#[tokio::test(flavor = "multi_thread")]
async fn aws_is_read_with_the_keys_of_instance_container_and_pod() {
    let (metadata, aws) = (MetadataImitation::start().await, AwsEmulator::moto().await);
    aws.call("CreateSecret", &json!({"Name": "prod/db", "SecretString": "hunter2"})).await;
    let front = ScriptedServer::before(aws.url()).await;
    let config = json!({"region": "us-east-1", "endpoint": front.url()});
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let agent = format!("{}/v1/credentials", metadata.server.url());
    let (secret, pod) =
        (file("agent", MetadataImitation::CONTAINER), file("pod", MetadataImitation::IDENTITY));

    for (machine, expected) in [
        (metadata.machine(), "ASIAINSTANCE"),
        (
            metadata.machine_with(&[
                ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &agent),
                ("AWS_CONTAINER_AUTHORIZATION_TOKEN", MetadataImitation::CONTAINER),
            ]),
            "ASIACONTAINER",
        ),
        (
            metadata.machine_with(&[
                ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &agent),
                ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &secret),
            ]),
            "ASIACONTAINER",
        ),
        (
            metadata.machine_with(&[
                ("AWS_WEB_IDENTITY_TOKEN_FILE", &pod),
                ("AWS_ROLE_ARN", MetadataImitation::ROLE),
                ("AWS_ENDPOINT_URL_STS", &metadata.server.url()),
                ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &agent),
            ]),
            "ASIAPOD",
        ),
    ] {
        let mut stores = stores(&metadata);
        stores.drivers.ambient.machine = machine;
        let (store, before) = (open_alone(&stores, AwsSecretsManager, &config), metadata.given());
        for _ in 0..3 {
            assert_eq!(data_of(read(&store, "prod/db").await), json!({"value": "hunter2"}), "{expected}");
        }
        assert_eq!(metadata.given() - before, 1, "{expected}: one login for all");
        let last = front.requests().pop().unwrap();
        let signed = last.header("authorization").unwrap();
        assert!(signed.contains(&format!("Credential={expected}{before}/")), "{signed}");
        assert_eq!(last.header("x-amz-security-token"), Some(format!("machine-token-{before}").as_str()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn role_is_taken_on_with_the_machines_keys() {
    let (metadata, aws) = (MetadataImitation::start().await, AwsEmulator::moto().await);
    aws.call("CreateSecret", &json!({"Name": "prod/db", "SecretString": "hunter2"})).await;
    let front = ScriptedServer::before(aws.url()).await;
    let config = json!({
        "region": "us-east-1", "endpoint": front.url(), "role_arn": "arn:aws:iam::123456789012:role/reader",
    });

    let store = open_alone(&stores(&metadata), AwsSecretsManager, &config);
    assert_eq!(data_of(read(&store, "prod/db").await), json!({"value": "hunter2"}));

    let requests = front.requests();
    assert!(requests[0].text().starts_with("Action=AssumeRole&"), "{}", requests[0].text());
    assert!(requests[0].header("authorization").unwrap().contains("Credential=ASIAINSTANCE0/"));
    assert_eq!(requests[0].header("x-amz-security-token"), Some("machine-token-0"));
    let last = requests.last().unwrap().header("authorization").unwrap();
    assert!(!last.contains("ASIAINSTANCE"), "the role's keys sign: {last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn machine_is_asked_for_nothing_where_it_is_not_allowed() {
    let (metadata, google, vault) = (MetadataImitation::start().await, google().await, vault().await);
    let mut stores = stores(&metadata);
    stores.drivers.ambient.kinds = [AwsSecretsManager].into_iter().collect();
    let refusal = |kind, config: &Value, login: &Value| -> OpenError {
        stores.try_open(kind, config, login).expect_err("it does not open")
    };

    let refused = refusal(GoogleSecretManager, &google_config(&google), &Value::Null).to_string();
    assert!(refused.contains("backends.ambient"), "{refused}");
    let login = serde_json::from_str(GCE).unwrap();
    let refused = refusal(HashicorpVault, &vault_config(&vault.url()), &login).to_string();
    assert!(refused.contains("backends.ambient"), "{refused}");
    stores.drivers.ambient.kinds = [GoogleSecretManager, HashicorpVault].into_iter().collect();
    let refused = stores.try_open(AwsSecretsManager, &json!({"region": "us-east-1"}), &Value::Null);
    assert!(refused.err().unwrap().to_string().contains("backends.ambient"));

    assert_eq!((metadata.server.connections(), google.server.connections(), vault.connections()), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_service_is_open_to_no_backend_that_names_it() {
    let (metadata, other) = (MetadataImitation::start().await, ScriptedServer::before("http://x").await);
    let stores = stores(&metadata);
    let aws = json!({"region": "us-east-1", "endpoint": "http://169.254.169.254"});
    let refused = outcome(read(&open_alone(&stores, AwsSecretsManager, &aws), "x").await);
    assert!(refused.contains("link-local"), "{refused}");

    // Without the test's opening of loopback the service is still found, and the backend is not.
    let closed = stores.clone().under(AddressRules::default());
    let aws = json!({"region": "us-east-1", "endpoint": other.url()});
    let refused = outcome(read(&open_alone(&closed, AwsSecretsManager, &aws), "x").await);
    assert!(refused.contains("private or loopback"), "{refused}");
    assert_eq!((metadata.given(), other.connections()), (2, 0), "one login of each store");

    let elsewhere = json!({"project_id": "example", "endpoint": other.url()});
    let refused = stores.try_open(GoogleSecretManager, &elsewhere, &Value::Null).err().unwrap().to_string();
    assert!(refused.starts_with("config.endpoint must be below googleapis.com"), "{refused}");
    assert_eq!((metadata.given(), other.connections()), (2, 0), "the token goes to Google alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_service_is_bounded_and_sends_us_nowhere() {
    let (metadata, google, other) =
        (MetadataImitation::start().await, google().await, ScriptedServer::before("http://x").await);
    for (answer, expected) in [
        (
            Scripted::status(301).with("Location", other.url()),
            "the backend answered what cannot be used: the machine's metadata service sends us elsewhere",
        ),
        (
            Scripted::Endless,
            "the backend answered what cannot be used: the machine's metadata service does not answer as one does",
        ),
        (Scripted::Reset, "unavailable: the machine's metadata service does not answer"),
        (Scripted::Silence, "unavailable: the machine's metadata service does not answer"),
        (
            Scripted::status(503),
            "unavailable: the machine's metadata service answers with an error of its own",
        ),
        (
            Scripted::status(404),
            "the backend refuses our credentials: the machine has no login: its metadata service gives none",
        ),
    ] {
        let store = open_alone(&stores(&metadata), GoogleSecretManager, &google_config(&google));
        metadata.server.queue([answer]);
        assert_eq!(outcome(read(&store, "db").await), expected);
    }
    assert_eq!((other.connections(), google.server.connections()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn backend_without_a_login_needs_the_nodes_own_configuration() {
    let (metadata, google) = (MetadataImitation::start().await, google().await);
    let allowed = Arc::new(stores(&metadata).drivers);
    let closed = Arc::new(VendorDrivers { ambient: Ambient::default(), ..(*allowed).clone() });
    let mut node = TestNode::start_backed(Role::None, closed.clone()).await;
    let path = "/v1/federation/backends";
    let backend = json!({
        "name": "google", "type": "google-secret-manager", "mode": "proxy", "config": google_config(&google),
        "path_mapping": {"external/google/**": "**"},
    });
    let aws = json!({
        "name": "aws", "type": "aws-secrets-manager", "mode": "proxy", "config": {"region": "us-east-1"},
        "path_mapping": {"external/aws/**": "**"},
    });

    for body in [&backend, &aws] {
        for asked in [path.to_owned(), format!("{path}?dry_run=true")] {
            let error = secret_refusal(&node.api().post(&asked, body).await, 400, "invalid_config");
            assert_eq!(error["details"]["field"], "config.credentials_path");
            assert!(error.to_string().contains("backends.ambient"), "{error}");
        }
    }
    assert_eq!(metadata.server.connections(), 0);

    node.set_drivers(allowed);
    node.restart().await;
    let id = create_backend(&node.api(), &backend).await;
    let read = async |node: &TestNode| node.api().get("/v1/secrets/external/google/db").await;
    assert_eq!(read(&node).await.ok()["data"], json!({"value": "hunter2"}));

    // What was allowed once is not used after it was taken back; nor can it be changed and kept.
    node.set_drivers(closed);
    node.restart().await;
    let before = metadata.server.connections();
    let error = secret_refusal(&read(&node).await, 503, "service_unavailable");
    assert_eq!(error["details"]["reason"], "backend_auth");
    let status = eventually("the probe is told", async || {
        let status = node.api().get(&format!("{path}/{id}/status")).await.ok();
        (status["connection"]["status"] == "auth_failed").then_some(status)
    })
    .await;
    assert!(status["last_error"].as_str().unwrap().contains("backends.ambient"), "{status}");
    let changed = json!({"config": {"project_id": "other"}});
    secret_refusal(&node.api().patch(&format!("{path}/{id}"), &changed).await, 400, "invalid_config");
    assert_eq!(metadata.server.connections(), before, "the machine is asked for nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn node_finds_the_machines_service_where_its_environment_says() {
    let (metadata, vault) = (MetadataImitation::start().await, vault().await);
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("hansa.toml");
    let backends = "[backends]\nallowed_addresses = [\"127.0.0.0/8\"]\nhttp_to_loopback = true\n";
    std::fs::write(&config, format!("{backends}ambient = [\"hashicorp-vault\"]\n")).unwrap();
    let host = format!("127.0.0.1:{}", metadata.server.port());
    let environment = vec![("GCE_METADATA_HOST".to_owned(), host)];
    let mut node = TestProcess::stopped_in(folder.path(), "none", &config, environment);
    node.boot().await;
    let api = node.api().await;
    api.put("/v1/secrets/infra/vault/login", &json!({"data": {"role": "reader"}})).await.ok();
    let backend = json!({
        "name": "vault", "type": "hashicorp-vault", "mode": "proxy", "config": vault_config(&vault.url()),
        "path_mapping": {"external/vault/**": "secret/data/**"},
    });
    let id = create_backend(&api, &backend).await;
    let connection = async |expected: &str| {
        eventually("the probe is told", async || {
            let status = api.get(&format!("/v1/federation/backends/{id}/status")).await.ok();
            (status["connection"]["status"] == expected).then_some(status)
        })
        .await
    };

    connection("connected").await;
    assert_eq!(metadata.given(), 1);

    node.kill().await;
    std::fs::write(&config, backends).unwrap();
    node.boot().await;
    let status = connection("auth_failed").await;
    assert!(status["last_error"].as_str().unwrap().contains("backends.ambient"), "{status}");
    assert_eq!(metadata.given(), 1, "the machine is asked for nothing");
}
