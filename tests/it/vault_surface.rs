//! Clients of Vault that others wrote read and write secrets through `/vault` (conventions, section 2).

use std::time::Duration;

use hansa_model::enrollment::Role;
use hansa_model::limits::secrets::VAULT_TOKEN_TTL_MAX;
use hansa_tests::{
    Answer, Api, AwsEmulator, AzureImitation, GoogleImitation, OpenBao, TestNode, judge, program,
    service_account_key,
};
use reqwest::Method;
use serde_json::{Value, json};

/// Runs the real client against this node; its standard output, once it has succeeded.
async fn bao(node: &TestNode, token: &str, arguments: &[&str]) -> Result<Value, String> {
    let home = tempfile::tempdir().expect("a temporary folder");
    let output = tokio::process::Command::new(program("bin/bao"))
        .args(arguments)
        .env_clear()
        .env("HOME", home.path())
        .env("BAO_ADDR", format!("{}/vault", node.url()))
        .env("BAO_TOKEN", token)
        .env("BAO_FORMAT", "json")
        .kill_on_drop(true)
        .output()
        .await
        .expect("the client starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        return Err(format!("{text}{}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
}

#[tokio::test(flavor = "multi_thread")]
async fn vaults_own_client_reads_lists_and_writes_local_and_proxied_secrets() {
    let server = OpenBao::start().await;
    server.write("secret/data/app/db", &json!({"data": {"password": "remote"}})).await;
    let node = TestNode::start(Role::None).await;
    let api = node.api();
    api.put("/v1/secrets/infra/login", &json!({"data": {"token": server.root_token()}})).await.ok();
    let backend = json!({
        "name": "bao", "type": "hashicorp-vault", "mode": "proxy",
        "config": {"endpoint": server.url(), "auth_method": "token", "auth_config_path": "infra/login"},
        "path_mapping": {"external/bao/**": "secret/data/**"},
    });
    assert_eq!(api.post("/v1/federation/backends", &backend).await.status, 201);
    api.put("/v1/secrets/app/local", &json!({"data": {"password": "here"}})).await.ok();
    let role = json!({"name": "ci", "scopes": ["secrets:read", "secrets:list", "secrets:write"]});
    assert_eq!(api.post("/v1/approles", &role).await.status, 201);
    let made = api.post("/v1/approles/ci/secret-id", &json!({})).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let ids = [
        format!("role_id={}", made.body["role_id"].as_str().unwrap()),
        format!("secret_id={}", made.body["secret_id"].as_str().unwrap()),
    ];

    let login = bao(&node, "", &["write", "auth/approle/login", &ids[0], &ids[1]]).await.unwrap();
    let token = login["auth"]["client_token"].as_str().unwrap().to_owned();
    let wrong = bao(&node, "", &["write", "auth/approle/login", &ids[0], "secret_id=x"]).await.unwrap_err();
    assert!(wrong.contains("invalid role or secret ID"), "{wrong}");
    let get = ["kv", "get", "-mount=secret", "external/bao/app/db"];
    let denied = bao(&node, &token, &get).await.unwrap_err();
    assert!(denied.contains("permission denied"), "{denied}");

    let policy = json!({
        "name": "ci",
        "rules": [
            {"path_pattern": "external/**", "permissions": ["read", "list", "write"]},
            {"path_pattern": "app/**", "permissions": ["read", "list", "write"]},
        ],
        "identities": ["approle:ci"],
    });
    assert_eq!(api.post("/v1/policies", &policy).await.status, 201);
    let read = bao(&node, &token, &get).await.unwrap();
    assert_eq!(read["data"]["data"], json!({"password": "remote"}));
    assert_eq!(read["data"]["metadata"]["version"], 1);
    let read = bao(&node, &token, &["kv", "get", "-mount=secret", "app/local"]).await.unwrap();
    assert_eq!(read["data"]["data"], json!({"password": "here"}));
    let listed = bao(&node, &token, &["kv", "list", "-mount=secret", "app/"]).await.unwrap();
    assert_eq!(listed, json!(["local"]));
    let listed = bao(&node, &token, &["kv", "list", "-mount=secret", "external/bao/"]).await.unwrap();
    assert_eq!(listed, json!(["app/"]));
    bao(&node, &token, &["kv", "put", "-mount=secret", "app/new", "a=1"]).await.unwrap();
    assert_eq!(api.get("/v1/secrets/app/new").await.ok()["data"], json!({"a": "1"}));
    let refused =
        bao(&node, &token, &["kv", "put", "-mount=secret", "external/bao/x", "a=1"]).await.unwrap_err();
    assert!(refused.contains("405") && refused.contains("read only"), "{refused}");
    let missing = bao(&node, &token, &["kv", "get", "-mount=secret", "app/none"]).await.unwrap_err();
    assert!(missing.contains("No value found"), "{missing}");

    assert_eq!(api.delete("/v1/approles/ci").await.status, 204);
    let ended = bao(&node, &token, &get).await.unwrap_err();
    assert!(ended.contains("permission denied"), "{ended}");
}

/// Stores a login and makes a proxied backend below `external/{place}/` with it.
async fn front(api: &Api, place: &str, kind: &str, login: &Value, mut config: Value, template: &str) {
    let path = format!("infra/{place}/login");
    api.put(&format!("/v1/secrets/{path}"), &json!({"data": login})).await.ok();
    let member = if kind == "hashicorp-vault" { "auth_config_path" } else { "credentials_path" };
    config[member] = path.into();
    let backend = json!({
        "name": place, "type": kind, "mode": "proxy", "config": config,
        "path_mapping": {format!("external/{place}/**"): template},
    });
    let made = api.post("/v1/federation/backends", &backend).await;
    assert_eq!(made.status, 201, "{}", made.text);
}

/// An AppRole with these scopes and a rule for these paths; its role id and a secret id.
async fn app_role(api: &Api, name: &str, body: Value, patterns: &[&str]) -> (String, String) {
    let mut role = body;
    role["name"] = name.into();
    let made = api.post("/v1/approles", &role).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let made = api.post(&format!("/v1/approles/{name}/secret-id"), &json!({})).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let rules: Vec<Value> = patterns
        .iter()
        .map(|pattern| json!({"path_pattern": pattern, "permissions": ["read", "list", "write"]}))
        .collect();
    let policy = json!({"name": name, "rules": rules, "identities": [format!("approle:{name}")]});
    assert_eq!(api.post("/v1/policies", &policy).await.status, 201);
    let text = |member: &str| made.body[member].as_str().expect("a text").to_owned();
    (text("role_id"), text("secret_id"))
}

#[tokio::test(flavor = "multi_thread")]
async fn hvac_reads_secrets_of_all_stores_through_one_mount() {
    let (bao, aws) = tokio::join!(OpenBao::start(), AwsEmulator::moto());
    let (azure, google) = tokio::join!(AzureImitation::start(&[]), GoogleImitation::start());
    bao.write("secret/data/app/db", &json!({"data": {"from": "vault"}})).await;
    aws.call("CreateSecret", &json!({"Name": "prod/db", "SecretString": "{\"from\":\"aws\"}"})).await;
    azure.put("app--db", r#"{"from":"azure"}"#);
    google.put(None, "app--db", b"plain text");
    let node = TestNode::start(Role::None).await;
    let api = node.api();
    let config = json!({"endpoint": bao.url(), "auth_method": "token"});
    front(&api, "vault", "hashicorp-vault", &json!({"token": bao.root_token()}), config, "secret/data/**")
        .await;
    let login = json!({"access_key_id": "AKIDEXAMPLE", "secret_access_key": "very-secret-key"});
    let config = json!({"region": "us-east-1", "endpoint": aws.url()});
    front(&api, "aws", "aws-secrets-manager", &login, config, "prod/**").await;
    api.put("/v1/secrets/infra/azure/ca", &json!({"data": {"value": azure.authority}})).await.ok();
    let login =
        json!({"client_id": AzureImitation::CLIENT_ID, "client_secret": AzureImitation::CLIENT_SECRET});
    let config = json!({
        "vault_url": azure.server.url(), "authority_host": azure.server.url(),
        "tenant_id": AzureImitation::TENANT, "verify_challenge_resource": false,
        "ca_cert_path": "infra/azure/ca",
    });
    front(&api, "azure", "azure-key-vault", &login, config, "**").await;
    let config = json!({"project_id": "example", "endpoint": google.server.url()});
    front(&api, "google", "google-secret-manager", &service_account_key(), config, "**").await;
    for (path, from) in [("app/local", "here"), ("closed/one", "nobody")] {
        api.put(&format!("/v1/secrets/{path}"), &json!({"data": {"from": from}})).await.ok();
    }
    assert_eq!(api.post("/v1/tenants", &json!({"id": "tnt_other"})).await.status, 201);
    let role = json!({"scopes": ["secrets:read", "secrets:list", "secrets:write"], "token_ttl": "10m"});
    let (role_id, secret_id) = app_role(&api, "judge", role, &["external/**", "app/**"]).await;
    let expected = json!({
        "app/local": {"from": "here"},
        "external/vault/app/db": {"from": "vault"},
        "external/aws/db": {"from": "aws"},
        "external/azure/app/db": {"from": "azure"},
        "external/google/app/db": {"value": "plain text"},
    });

    let url = format!("{}/vault", node.url());
    let said = judge("hvac", "vault_client.py", &[&url, &role_id, &secret_id, &expected.to_string()]).await;

    assert_eq!(serde_json::from_str::<Value>(&said).unwrap(), json!({"read": 5}), "{said}");
    assert_eq!(api.get("/v1/secrets/app/made").await.ok()["data"], json!({"n": 2, "more": "x"}));
    let logs = api.get("/v1/audit/logs?secret_path=external/azure/app/db").await.ok();
    let rows = logs["logs"].as_array().unwrap();
    assert!(
        rows.iter().any(|row| row["action"] == "read" && row["identity_id"] == "approle:judge"),
        "{logs}"
    );
    assert!(
        rows.iter().all(|row| row["user_agent"].as_str().is_none_or(|agent| agent.contains("python"))),
        "{logs}"
    );
    assert!(rows.iter().all(|row| row["source_ip"] == "127.0.0.1"), "{logs}");
    let denied = api.get("/v1/audit/logs?secret_path=closed/one&action=read").await.ok();
    assert_eq!(denied["logs"][0]["success"], false, "{denied}");
}

/// Asks `/vault` with this token.
async fn ask(node: &TestNode, method: Method, path: &str, token: &str, body: Value) -> Answer {
    let body = (!body.is_null()).then(|| body.to_string().into_bytes());
    let path = format!("/vault/v1/{path}");
    node.anonymous().send(method, &path, body, &[("X-Vault-Token", token)]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn token_is_renewed_within_what_its_role_gives_and_ends_when_it_is_revoked() {
    let mut node = TestNode::start(Role::None).await;
    let day = Duration::from_secs(86_400);
    let role = json!({"token_ttl": "10d"});
    let (role_id, secret_id) = app_role(&node.api(), "ci", role, &["app/**"]).await;
    let login = json!({"role_id": role_id, "secret_id": secret_id});
    let login = ask(&node, Method::POST, "auth/approle/login", "", login).await.ok();
    let token = login["auth"]["client_token"].as_str().unwrap().to_owned();
    let renew = async |node: &TestNode, body: Value| {
        let answer = ask(node, Method::POST, "auth/token/renew-self", &token, body).await.ok();
        answer["auth"]["lease_duration"].as_u64().unwrap()
    };
    let lives = async |node: &TestNode| {
        ask(node, Method::GET, "auth/token/lookup-self", &token, Value::Null).await.status == 200
    };

    node.clock.advance(5 * day);
    let kept = renew(&node, json!({"increment": "1s"})).await;
    assert!((86_400 * 4..=86_400 * 5).contains(&kept), "a renewal takes no time away: {kept}");
    for body in [json!({"increment": "30d"}), json!({"increment": 0}), Value::Null] {
        let left = renew(&node, body.clone()).await;
        assert!((86_400 * 9..=86_400 * 10).contains(&left), "{body}: {left}");
    }
    node.restart().await;
    node.clock.advance(8 * day);
    assert!(lives(&node).await, "it would have ended without");
    let refused = ask(&node, Method::POST, "auth/token/renew-self", &token, json!({"increment": "x"})).await;
    assert_eq!(refused.status, 400, "{}", refused.text);
    // Renewals do not go on for ever.
    renew(&node, json!({})).await;
    node.clock.advance(8 * day);
    renew(&node, json!({})).await;
    node.clock.advance(8 * day);
    let left = renew(&node, json!({})).await;
    assert!(left <= VAULT_TOKEN_TTL_MAX.as_secs() - 86_400 * 29, "{left}");
    node.clock.advance(day);
    assert!(!lives(&node).await);

    let login = json!({"role_id": role_id, "secret_id": secret_id});
    let login = ask(&node, Method::POST, "auth/approle/login", "", login).await.ok();
    let token = login["auth"]["client_token"].as_str().unwrap();
    assert_eq!(ask(&node, Method::POST, "auth/token/revoke-self", token, Value::Null).await.status, 204);
    let ended = ask(&node, Method::GET, "auth/token/lookup-self", token, Value::Null).await;
    assert_eq!((ended.status, &ended.body), (403, &json!({"errors": ["permission denied"]})));
    let own = node.token(hansa_tests::all_scopes(), None, Duration::from_secs(60));
    for path in ["auth/token/renew-self", "auth/token/revoke-self"] {
        let refused = ask(&node, Method::POST, path, &own, Value::Null).await;
        assert_eq!(refused.status, 400, "{}", refused.text);
        assert_eq!(ask(&node, Method::POST, path, "", Value::Null).await.status, 403);
    }
}
