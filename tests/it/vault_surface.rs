//! Vault's own command line reads and writes secrets through `/vault` (conventions, section 2).

use hansa_model::enrollment::Role;
use hansa_tests::{OpenBao, TestNode, program};
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
