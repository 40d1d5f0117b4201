//! Values, logins and bearers of the secrets API are in no log, metric, audit row, event, refusal, status answer,
//! debug print or file, failures included (threat 13 and 14).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hansa_actors::{Caller, NewValue, VersionAsked};
use hansa_model::enrollment::Role;
use hansa_model::scope::Scope;
use hansa_model::secrets::id::TenantId;
use hansa_model::secrets::value::SecretData;
use hansa_storage::{Order, table};
use hansa_tests::{
    Answer, Api, AzureImitation, Canaries, GoogleImitation, Scripted, ScriptedRequest, ScriptedServer,
    TestNode, TestProcess, all_scopes, create_backend, eventually, service_account_key,
};
use reqwest::Method;
use serde_json::{Value, json};

const LOCAL: &str = "canary+local/value-1f0a";
const WRITTEN: &str = "canary+written/value-2e1b";
const REMOTE: &str = "canary+remote/value-3d2c";
const AWS: &str = "canary+aws/value-4c3d";
const AZURE: &str = "canary+azure/value-5b4e";
const GOOGLE: &str = "canary+google/value-6a5f";
const TOKEN: &str = "canary-vault-token-7960";
const SECRET_ID: &str = "canary-secret-id-8871";
const AWS_KEY: &str = "canary+aws/secret/key-9782";
const AWS_SESSION: &str = "canary-aws-session-a693";
const GARBAGE: &str = "canary+garbage/sent-b5a4";

/// A Vault that answers as one does; below `hostile/` with the status that the path ends in and all it knows.
fn vault(asked: &ScriptedRequest) -> Scripted {
    let path = asked.path.split('?').next().unwrap_or_default();
    let last = path.rsplit('/').next().unwrap_or_default();
    if path.contains("auth/approle/login") {
        return echo(asked, 400);
    }
    if let (true, Ok(status)) = (path.contains("hostile"), last.parse()) {
        return echo(asked, status);
    }
    let is_list = asked.method == "LIST" || asked.path.contains("list=true");
    let body = match path {
        _ if path.ends_with("auth/token/lookup-self") => json!({"data": {"ttl": 0, "renewable": false}}),
        _ if path.contains("/metadata") && path.contains("hostile") => return echo(asked, 500),
        _ if path.contains("/metadata") && is_list => json!({"data": {"keys": ["one"]}}),
        _ if path.contains("/metadata") => json!({"data": {
            "current_version": 1, "updated_time": "2026-11-01T00:00:00Z", "created_time": "2026-11-01T00:00:00Z",
            "versions": {"1": {"created_time": "2026-11-01T00:00:00Z", "deletion_time": "", "destroyed": false}},
        }}),
        _ if path.contains("/data/") && asked.method == "GET" => {
            json!({"data": {"data": {"v": REMOTE}, "metadata": {"version": 1}}})
        }
        _ if path.contains("/data/") => json!({"data": {"version": 2}}),
        _ => json!({"data": {}}),
    };
    Scripted::json(200, body)
}

/// Everything that was sent, and a value, wherever somebody might print it from.
fn echo(asked: &ScriptedRequest, status: u16) -> Scripted {
    let sent: Vec<String> = asked.headers.iter().map(|(_, value)| value.clone()).collect();
    let all = format!("{REMOTE} {AWS} {} {} {}", sent.join(" "), asked.text(), asked.path);
    let body = json!({
        "errors": [all, REMOTE], "warnings": [REMOTE], "__type": AWS, "message": all, "Message": all,
        "data": {"data": REMOTE, "metadata": {"version": REMOTE}},
        "error": {"code": REMOTE, "message": all, "status": REMOTE},
    });
    Scripted::json(status, body).with("X-Said", REMOTE).with("x-amzn-ErrorType", AWS)
}

/// Everything that was answered and must tell nothing.
struct Heard(Vec<u8>);

impl Heard {
    fn take(&mut self, answer: &Answer) {
        self.0.extend(format!("{} {:?} {}\n", answer.status, answer.headers, answer.text).into_bytes());
    }

    /// A refusal, which is checked to be one.
    fn refused(&mut self, answer: &Answer) {
        assert!(answer.status >= 400, "{} {}", answer.status, answer.text);
        answer.assert_problem();
        self.take(answer);
    }
}

struct Stores {
    vault: ScriptedServer,
    aws: ScriptedServer,
    azure: AzureImitation,
    google: GoogleImitation,
}

impl Stores {
    async fn start() -> Self {
        let aws = ScriptedServer::start(|asked| {
            let name = serde_json::from_slice::<Value>(&asked.body).unwrap_or_default()["SecretId"].clone();
            match name.as_str() {
                Some("db") => {
                    let value = json!({"Name": "db", "SecretString": AWS, "VersionId": "1".repeat(32)});
                    Scripted::json(200, value)
                }
                Some(_) => echo(asked, 400),
                None => Scripted::json(200, json!({"SecretList": []})),
            }
        })
        .await;
        let azure = AzureImitation::start(&[]).await;
        azure.put("db", AZURE);
        let google = GoogleImitation::start().await;
        google.put(None, "db", GOOGLE.as_bytes());
        Self { vault: ScriptedServer::start(vault).await, aws, azure, google }
    }

    /// All backends of the test: name, kind, mode, configuration without the login's place, login, template.
    fn backends(&self) -> Vec<(&'static str, &'static str, &'static str, Value, Value, &'static str)> {
        let vault =
            json!({"endpoint": self.vault.url(), "auth_method": "token", "kv_version": 2, "timeout": "2s"});
        let mut refused = vault.clone();
        refused["auth_method"] = "approle".into();
        let token = json!({"token": TOKEN});
        let role = json!({"role_id": "role", "secret_id": SECRET_ID});
        let aws = json!({"endpoint": self.aws.url(), "region": "us-east-1", "timeout": "2s"});
        let key = json!({
            "access_key_id": "AKIDEXAMPLE", "secret_access_key": AWS_KEY, "session_token": AWS_SESSION,
        });
        let azure = json!({
            "vault_url": self.azure.server.url(), "authority_host": self.azure.server.url(), "timeout": "2s",
            "tenant_id": AzureImitation::TENANT, "verify_challenge_resource": false,
            "ca_cert_path": "infra/ca",
        });
        let client =
            json!({"client_id": AzureImitation::CLIENT_ID, "client_secret": AzureImitation::CLIENT_SECRET});
        let google = json!({"endpoint": self.google.server.url(), "project_id": "example", "timeout": "2s"});
        vec![
            ("vault", "hashicorp-vault", "proxy", vault.clone(), token.clone(), "secret/data/**"),
            ("copy", "hashicorp-vault", "sync", vault, token, "secret/data/prod/**"),
            ("refused", "hashicorp-vault", "proxy", refused, role, "secret/data/**"),
            ("aws", "aws-secrets-manager", "proxy", aws, key, "**"),
            ("azure", "azure-key-vault", "proxy", azure, client, "**"),
            ("google", "google-secret-manager", "proxy", google, service_account_key(), "**"),
        ]
    }

    /// Stores the logins and makes the backends; their ids by name.
    async fn front(&self, api: &Api) -> Vec<(&'static str, String)> {
        api.put("/v1/secrets/infra/ca", &json!({"data": {"value": self.azure.authority}})).await.ok();
        let mut ids = Vec::new();
        for (name, kind, mode, mut config, login, template) in self.backends() {
            let place = format!("infra/{name}/login");
            api.put(&format!("/v1/secrets/{place}"), &json!({"data": login})).await.ok();
            let member = if kind == "hashicorp-vault" { "auth_config_path" } else { "credentials_path" };
            config[member] = place.into();
            let mut body = json!({
                "name": name, "type": kind, "mode": mode, "config": config,
                "path_mapping": {format!("external/{name}/**"): template},
            });
            if mode == "sync" {
                body["sync_interval"] = "1h".into();
                body["write_through"] = true.into();
            }
            ids.push((name, create_backend(api, &body).await));
        }
        ids
    }
}

fn secrets_of(canaries: &mut Canaries) {
    for (what, secret) in [
        ("a local value", LOCAL),
        ("a written value", WRITTEN),
        ("a value of Vault", REMOTE),
        ("a value of AWS", AWS),
        ("a value of Azure", AZURE),
        ("a value of Google", GOOGLE),
        ("a token for Vault", TOKEN),
        ("a secret id for Vault", SECRET_ID),
        ("a key of AWS", AWS_KEY),
        ("a session token of AWS", AWS_SESSION),
        ("a client secret of Azure", AzureImitation::CLIENT_SECRET),
        ("an access token of Azure", "azure-access-token-1"),
        ("what a caller sent", GARBAGE),
    ] {
        canaries.add(what, secret);
    }
    let key = service_account_key();
    let line = key["private_key"].as_str().expect("a key").lines().nth(3).expect("its lines").to_owned();
    canaries.add("a key of Google", &line);
}

/// Bodies that are wrong in every way, with a value in the place that is wrong.
async fn send_garbage(api: &Api, vault_url: &str, heard: &mut Heard) {
    let text = |body: String| Some(body.into_bytes());
    let put = async |body: String| api.send(Method::PUT, "/v1/secrets/app/db", text(body), &[]).await;
    for body in [
        format!("{{\"data\":\"{GARBAGE}"),
        format!("{{\"data\":[\"{GARBAGE}\"]}}"),
        format!("{{\"data\":\"{GARBAGE}\"}}"),
        format!("{{\"{GARBAGE}\":1}}"),
        format!("{{\"data\":{{\"v\":\"{GARBAGE}\"}},\"secret_type\":\"{GARBAGE}\"}}"),
        format!("{{\"data\":{{\"v\":\"{GARBAGE}\"}},\"options\":{{\"cas\":\"{GARBAGE}\"}}}}"),
        format!("{{\"data\":{{\"v\":\"{GARBAGE}\"}},\"options\":{{\"expires_in\":\"{GARBAGE}\"}}}}"),
        format!("{{\"data\":{{\"v\":\"{GARBAGE}\"}},\"options\":{{\"cas\":77}}}}"),
        format!("{{\"data\":{{\"v\":\"{GARBAGE}\",\"v\":1}},\"data\":1}}"),
    ] {
        heard.refused(&put(body).await);
    }
    let vault = |member: &str, value: &str| {
        let mut config =
            json!({"endpoint": vault_url, "auth_method": "token", "auth_config_path": "infra/vault/login"});
        config[member] = value.into();
        let mapping = json!({"external/new/**": "secret/data/**"});
        json!({"name": "new", "type": "hashicorp-vault", "mode": "proxy", "config": config, "path_mapping": mapping})
    };
    for member in ["token", "secret_id", "auth_method", "kv_version", "timeout", "namespaces", GARBAGE] {
        heard.refused(&api.post("/v1/federation/backends", &vault(member, GARBAGE)).await);
    }
    for endpoint in [
        format!("https://user:{GARBAGE}@vault.example.com"),
        format!("https://vault.example.com/?token={GARBAGE}"),
        format!("https://vault.example.com/#{GARBAGE}"),
        format!("{GARBAGE}://vault"),
    ] {
        heard.refused(&api.post("/v1/federation/backends", &vault("endpoint", &endpoint)).await);
    }
    let mut body = vault("token", GARBAGE);
    body["type"] = GARBAGE.into();
    heard.refused(&api.post("/v1/federation/backends", &body).await);
    for path in [
        format!("/v1/secrets/app/db?version={GARBAGE}"),
        format!("/v1/secrets?cursor={GARBAGE}"),
        format!("/v1/secrets?limit={GARBAGE}"),
        format!("/v1/federation/backends/{}", GARBAGE.replace('/', "-")),
        "/v1/secrets/app/none".to_owned(),
    ] {
        heard.refused(&api.get(&path).await);
    }
    for batch in [json!({"paths": GARBAGE}), json!({"paths": ["app/db"], "options": {"version": GARBAGE}})] {
        heard.refused(&api.post("/v1/secrets/batch", &batch).await);
    }
    let secret = "/v1/secrets/app/db";
    heard.refused(&api.anonymous().bearer(GARBAGE).get(secret).await);
    heard.refused(&api.send(Method::GET, secret, None, &[("X-Tenant-ID", GARBAGE)]).await);
    let stranger = api.anonymous();
    for (name, value) in [("X-Vault-Token", GARBAGE), ("Authorization", GARBAGE)] {
        let answer = stranger.send(Method::GET, "/vault/v1/secret/data/app/db", None, &[(name, value)]).await;
        heard.refused(&answer);
    }
    for (method, body) in [
        ("approle", json!({"role_id": "x", "secret_id": GARBAGE})),
        ("approle", json!({"role_id": GARBAGE, "secret_id": [GARBAGE]})),
        ("jwt", json!({"role": "x", "jwt": GARBAGE})),
        ("jwt", json!({"role": "x", "jwt": format!("{0}.{0}.{0}", GARBAGE)})),
    ] {
        heard.refused(&stranger.post(&format!("/vault/v1/auth/{method}/login"), &body).await);
    }
}

/// Reads, writes and lists what fails at its backend.
async fn fail_at_the_backends(api: &Api, stores: &Stores, heard: &mut Heard) {
    for status in [400, 403, 404, 412, 429, 472, 500, 503] {
        heard.refused(&api.get(&format!("/v1/secrets/external/vault/hostile/{status}")).await);
        let write = json!({"data": {"v": WRITTEN}});
        let path = format!("/v1/secrets/external/copy/hostile/{status}");
        heard.refused(&api.put(&path, &write).await);
    }
    heard.refused(&api.get("/v1/secrets/external/refused/db").await);
    heard.refused(&api.get("/v1/secrets/external/aws/other").await);
    heard.refused(&api.put("/v1/secrets/external/vault/db", &json!({"data": {"v": WRITTEN}})).await);
    heard.take(&api.get("/v1/secrets?prefix=external/vault/hostile/").await);
    heard.take(&api.get("/v1/secrets?prefix=external/refused/").await);
    let batch = json!({"paths": ["external/vault/hostile/500", "external/refused/db", "external/aws/other"]});
    heard.take(&api.post("/v1/secrets/batch", &batch).await);
    for (server, name, value) in
        [(&stores.azure.server, "azure", AZURE), (&stores.google.server, "google", GOOGLE)]
    {
        for (status, body) in [
            (400, json!({"error": {"code": value, "message": value, "status": value}})),
            (403, json!({"error": {"code": "Forbidden", "message": value, "innererror": {"code": value}}})),
            (200, json!(value)),
            (200, json!({"value": [value], "payload": {"data": [value]}})),
        ] {
            // Each may be tried again.
            server.queue(vec![Scripted::json(status, body); 3]);
            heard.refused(&api.get(&format!("/v1/secrets/external/{name}/db")).await);
        }
    }
}

/// What the node says of itself and of its backends.
async fn ask_around(api: &Api, ids: &[(&str, String)], heard: &mut Heard) {
    for path in [
        "/metrics",
        "/openapi.json",
        "/readyz?verbose",
        "/version",
        "/v1/federation/backends",
        "/v1/policies",
        "/v1/tenants",
        "/v1/approles",
        "/v1/secrets",
        "/v1/secret-versions/app/db",
        "/v1/federation/explain/external/copy/one",
        "/vault/v1/sys/health",
        "/vault/v1/secret/metadata/app/db",
        "/vault/v1/sys/internal/ui/mounts",
        "/api/v1/federation/audit?limit=1000",
        "/api/v1/server-info",
    ] {
        let answer = api.get(path).await;
        assert!(answer.status < 300, "{path}: {}", answer.text);
        heard.take(&answer);
    }
    let metadata = json!({"paths": ["app/db", "external/copy/one"]});
    heard.take(&api.post("/v1/secrets/batch/metadata", &metadata).await);
    for (_, id) in ids {
        for part in ["", "/status", "/conflicts"] {
            heard.take(&api.get(&format!("/v1/federation/backends/{id}{part}")).await);
        }
    }
    let mut cursor = String::new();
    loop {
        let page = api.get(&format!("/v1/audit/logs?limit=1000{cursor}")).await;
        heard.take(&page);
        match page.ok()["cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_13_no_secret_value_login_or_bearer_leaves_the_node_but_in_its_own_answer() {
    let stores = Stores::start().await;
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("hansa.toml");
    std::fs::write(
        &config,
        "[backends]\nallowed_addresses = [\"127.0.0.0/8\"]\nhttp_to_loopback = true\n\
         [secret_rates]\nfederation_operations = 0\nwrite_secrets = 0\naudit_queries = 0\nlist_secrets = 0\n",
    )
    .unwrap();
    let mut process = TestProcess::start_with(folder.path(), "coordinator", "trace", &config).await;
    let bearer = process.run(&["token", "mint", "--scope", "all", "--ttl", "24h"]).await;
    let api = Api::new(process.url()).bearer(bearer.trim());
    let mut canaries = Canaries::default();
    secrets_of(&mut canaries);
    canaries.add("an operator's token", bearer.trim());
    let events = watch(&api).await;
    let mut heard = Heard(Vec::new());

    // What is meant to be: each value once, in the answer to who asked for it.
    let ids = stores.front(&api).await;
    api.put("/v1/secrets/app/db", &json!({"data": {"v": LOCAL}, "metadata": {"owner": "ada"}})).await.ok();
    eventually("the copy is there", async || {
        (api.get("/v1/secrets/external/copy/one").await.status == 200).then_some(())
    })
    .await;
    heard.take(&api.put("/v1/secrets/external/copy/one", &json!({"data": {"v": WRITTEN}})).await);
    for (path, value) in [
        ("app/db", LOCAL),
        ("external/vault/db", REMOTE),
        ("external/copy/one", WRITTEN),
        ("external/aws/db", AWS),
        ("external/azure/db", AZURE),
        ("external/google/db", GOOGLE),
    ] {
        let data = api.get(&format!("/v1/secrets/{path}")).await.ok()["data"].clone();
        assert!(data["v"] == value || data["value"] == value, "{path}");
    }
    let role = json!({"name": "ci", "scopes": ["secrets:read", "secrets:list"]});
    heard.take(&api.post("/v1/approles", &role).await);
    let policy = json!({"name": "ci", "identities": ["approle:ci"],
        "rules": [{"path_pattern": "app/**", "permissions": ["read", "list"]}]});
    let policy = api.post("/v1/policies", &policy).await.ok();
    let login = api.post("/v1/approles/ci/secret-id", &json!({})).await.ok();
    canaries.add("a secret id", login["secret_id"].as_str().unwrap());
    let login = api.anonymous().post("/vault/v1/auth/approle/login", &login).await.ok();
    let token = canaries.add("a token of the Vault surface", login["auth"]["client_token"].as_str().unwrap());
    let vault = [("X-Vault-Token", token)];
    let read = api.anonymous().send(Method::GET, "/vault/v1/secret/data/app/db", None, &vault).await;
    assert_eq!(read.ok()["data"]["data"]["v"], LOCAL);
    for (method, path) in [
        (Method::GET, "auth/token/lookup-self"),
        (Method::GET, "secret/metadata/app?list=true"),
        (Method::GET, "secret/data/external/vault/db"),
        (Method::POST, "secret/data/app/db"),
    ] {
        let body =
            (method == Method::POST).then(|| format!("{{\"data\":{{\"v\":\"{WRITTEN}\"}}}}").into_bytes());
        heard.take(&api.anonymous().send(method, &format!("/vault/v1/{path}"), body, &vault).await);
    }

    send_garbage(&api, &stores.vault.url(), &mut heard).await;
    fail_at_the_backends(&api, &stores, &mut heard).await;
    ask_around(&api, &ids, &mut heard).await;
    for arguments in
        [&["backend", "list"][..], &["backend", "status", "copy"], &["secret", "list"], &["tenant", "list"]]
    {
        heard.0.extend(process.run(arguments).await.into_bytes());
    }
    api.delete(&format!("/v1/policies/{}", policy["id"].as_str().unwrap())).await;
    assert_eq!(api.delete("/v1/approles/ci").await.status, 204);
    let told = eventually("the last event has come", async || {
        let told = events.lock().unwrap_or_else(PoisonError::into_inner).clone();
        told.contains("approle_removed").then_some(told)
    })
    .await;
    process.kill().await;

    // All of it was asked for and sent: the stores have echoed it, and nothing of that went further.
    let sent: Vec<u8> = [&stores.vault, &stores.aws]
        .into_iter()
        .flat_map(ScriptedServer::requests)
        .flat_map(|asked| format!("{:?} {}", asked.headers, asked.text()).into_bytes())
        .collect();
    for part in [TOKEN, SECRET_ID, WRITTEN, AWS_SESSION] {
        assert!(memchr::memmem::find(&sent, part.as_bytes()).is_some(), "{part} never left the node");
    }
    canaries.assert_absent("an answer", &heard.0);
    canaries.assert_absent("an event", told.as_bytes());
    let log = process.log();
    assert!(log.len() > 10_000 && log.contains("TRACE"), "the log tells everything: {} bytes", log.len());
    canaries.assert_absent("the log", log.as_bytes());
    for file in std::fs::read_dir(process.data_dir()).unwrap().filter_map(Result::ok) {
        if file.file_type().is_ok_and(|kind| kind.is_file()) {
            let bytes = std::fs::read(file.path()).unwrap();
            canaries.assert_absent(&file.path().display().to_string(), &bytes);
        }
    }
}

/// All events from now on, as they are told.
async fn watch(api: &Api) -> Arc<Mutex<String>> {
    let told = Arc::new(Mutex::new(String::new()));
    let mut stream = api.stream("/api/v1/events", &[]).await;
    let first = stream.block().await.expect("it tells its place");
    let into = Arc::clone(&told);
    tokio::spawn(async move {
        let mut block = Some(first);
        while let Some(text) = block {
            into.lock().unwrap_or_else(PoisonError::into_inner).push_str(&format!("{text}\n\n"));
            block = stream.block().await;
        }
    });
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_facade_or_the_store_prints_a_secret() {
    let stores = Stores::start().await;
    let node = TestNode::start(Role::None).await;
    let api = node.api();
    let mut canaries = Canaries::default();
    secrets_of(&mut canaries);
    stores.front(&api).await;
    let federation = node.federation();
    let mut operator = hansa_actors::Federation::local_operator();
    operator.scopes = all_scopes();
    let tenant = TenantId::default_tenant();
    let caller = Caller {
        operator: Arc::new(operator.clone()),
        tenant: tenant.clone(),
        request_id: "request".to_owned(),
        user_agent: None,
        source_ip: None,
    };
    let mut printed = format!("{caller:?}");

    let data = SecretData::parse(&json!({"v": LOCAL}).to_string()).unwrap();
    let value = NewValue {
        data,
        secret_type: None,
        metadata: None,
        max_versions: None,
        expires_in: None,
        expected: None,
    };
    printed.push_str(&format!("{value:?}"));
    let stored = federation.put_secret(&caller, &"app/db".parse().unwrap(), value).await;
    printed.push_str(&format!("{stored:?}"));
    for path in [
        "app/db",
        "external/vault/db",
        "external/aws/db",
        "external/azure/db",
        "external/google/db",
        "external/vault/hostile/500",
        "external/vault/hostile/403",
        "external/refused/db",
        "external/aws/other",
    ] {
        let read = federation.read_secret(&caller, &path.parse().unwrap(), VersionAsked::Current).await;
        assert!(
            read.is_ok() != (path.contains("hostile") || path.contains("refused") || path.contains("other"))
        );
        printed.push_str(&format!("{read:?}"));
        if let Err(error) = read {
            printed.push_str(&error.to_string());
        }
    }
    printed.push_str(&format!("{:?}", federation.list_secrets(&caller, "", None, 100).await));
    printed.push_str(&format!("{:?}", federation.backends(&tenant)));
    let scopes = [Scope::SecretsRead].into();
    printed.push_str(&format!("{:?}", federation.add_app_role(&operator, &tenant, "ci", scopes, None).await));
    let (role, _, secret_id) = federation.add_secret_id(&operator, &tenant, "ci", None).await.unwrap();
    canaries.add("a secret id", secret_id.expose());
    let login = federation.vault_login(&role.role_id, &secret_id).await.unwrap();
    canaries.add("a token of the Vault surface", login.token.expose());
    let renewed = federation.renew_vault_token(&operator, &login.token, Some(Duration::from_secs(60))).await;
    printed.push_str(&format!("{role:?} {secret_id:?} {login:?} {renewed:?}"));
    let view = node.store().read().unwrap();
    printed.push_str(&format!("{:?}", view.all::<table::Secrets>(..).unwrap()));
    printed.push_str(&format!("{:?}", view.all::<table::AppRoleSecrets>(..).unwrap()));
    printed.push_str(&format!("{:?}", view.all::<table::VaultTokens>(..).unwrap()));
    printed.push_str(&format!("{:?}", view.all::<table::SecretBackends>(..).unwrap()));
    printed.push_str(&format!(
        "{:?}",
        view.page::<table::Audit>(0..=u64::MAX, Order::Ascending, 1_000).unwrap()
    ));
    printed.push_str(&format!("{federation:?} {node:?}"));

    assert!(printed.len() > 1_000);
    canaries.assert_absent("a debug print", printed.as_bytes());
}
