//! Secrets over HTTP: the node's own, proxied from a real OpenBao, and synced copies (contract B, C).

use std::collections::BTreeSet;
use std::time::Duration;

use hansa_model::enrollment::Role;
use hansa_model::scope::Scope;
use hansa_tests::{
    OpenBao, ScriptedServer, TestNode, all_scopes, create_backend as create, secret_refusal as refusal,
    sync_backend as sync,
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const LOGIN: &str = "infra/bao/login";

/// A node whose login secret opens this server.
async fn node_for(bao: &OpenBao) -> TestNode {
    let node = TestNode::start(Role::None).await;
    let login = json!({"data": {"token": bao.root_token()}});
    node.api().put(&format!("/v1/secrets/{LOGIN}"), &login).await.ok();
    node
}

fn backend(bao: &OpenBao, name: &str, mode: &str, pattern: &str, template: &str) -> Value {
    let mut body = json!({
        "name": name,
        "type": "hashicorp-vault",
        "config": {"endpoint": bao.url(), "auth_method": "token", "auth_config_path": LOGIN},
        "path_mapping": {pattern: template},
        "mode": mode,
    });
    if mode == "sync" {
        body["sync_interval"] = "1h".into();
    }
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn local_secret_lives_from_its_first_version_to_its_deletion() {
    let node = TestNode::start(Role::None).await;
    let api = node.api();

    let made = api
        .put(
            "/v1/secrets/app/db",
            &json!({"data": {"b": 2, "a": "x"}, "secret_type": "json",
        "metadata": {"owner": "ada"}, "options": {"max_versions": 2}}),
        )
        .await
        .ok();
    assert_eq!((&made["version"], &made["path"]), (&json!(1), &json!("app/db")));
    api.put("/v1/secrets/app/db", &json!({"data": {"a": "y"}})).await.ok();
    api.put("/v1/secrets/app/db", &json!({"data": {"a": "z"}})).await.ok();

    let read = api.get("/v1/secrets/app/db").await.ok();
    let mut members: Vec<&str> = read.as_object().unwrap().keys().map(String::as_str).collect();
    members.sort_unstable();
    assert_eq!(
        members,
        [
            "created_at",
            "data",
            "expires_at",
            "metadata",
            "path",
            "rotation_policy_id",
            "secret_type",
            "updated_at",
            "version"
        ]
    );
    assert_eq!(
        (&read["data"], &read["version"], &read["secret_type"]),
        (&json!({"a": "z"}), &json!(3), &json!("json"))
    );
    assert_eq!(read["metadata"]["owner"], "ada");
    assert_eq!(api.get("/v1/secrets/app/db?version=2").await.ok()["data"], json!({"a": "y"}));
    refusal(&api.get("/v1/secrets/app/db?version=1").await, 404, "version_not_found");
    refusal(&api.get("/v1/secrets/app/db?version=0").await, 400, "invalid_request");
    let versions = api.get("/v1/secret-versions/app/db").await.ok();
    assert_eq!(versions["versions"].as_array().unwrap().len(), 2);

    let listed = api.get("/v1/secrets?prefix=app/").await.ok();
    assert_eq!(listed["secrets"][0]["path"], "app/db");
    assert_eq!((&listed["has_more"], &listed["cursor"]), (&json!(false), &Value::Null));
    let batch = json!({"paths": ["app/db", "app/none"]});
    let batch = api.post("/v1/secrets/batch", &batch).await.ok();
    assert_eq!(batch["secrets"]["app/db"]["data"], json!({"a": "z"}));
    assert_eq!(batch["errors"]["app/none"]["code"], "secret_not_found");

    assert_eq!(api.delete("/v1/secrets/app/db").await.status, 204);
    refusal(&api.get("/v1/secrets/app/db").await, 404, "secret_not_found");
    refusal(&api.put("/v1/secrets/app/db", &json!({"data": {}})).await, 409, "secret_exists");
    assert_eq!(api.delete("/v1/secrets/app/db?hard=true").await.status, 204);
    assert_eq!(api.put("/v1/secrets/app/db", &json!({"data": {}})).await.ok()["version"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn write_is_refused_unless_the_expected_version_is_the_newest() {
    let node = TestNode::start(Role::None).await;
    let api = node.api();
    let write = |cas: u64| json!({"data": {"n": cas}, "options": {"cas": cas}});

    assert_eq!(api.put("/v1/secrets/a", &write(0)).await.status, 200);
    refusal(&api.put("/v1/secrets/a", &write(0)).await, 409, "version_conflict");
    assert_eq!(api.put("/v1/secrets/a", &write(1)).await.ok()["version"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_told_with_the_documented_codes() {
    let node = TestNode::start(Role::None).await;
    let api = node.api();

    refusal(
        &node.anonymous().put("/v1/secrets/a", &json!({"nonsense": 1})).await,
        401,
        "authentication_required",
    );
    for path in ["a//b", "a%2fb", "a%5cb", "a%252fb", "a%20b", "%C3%A4"] {
        refusal(&api.get(&format!("/v1/secrets/{path}")).await, 400, "invalid_path");
    }
    // Capital letters and dots are the backends' only.
    refusal(&api.put("/v1/secrets/A", &json!({"data": {}})).await, 400, "invalid_path");
    refusal(&api.put("/v1/secrets/a", &json!({"data": [1]})).await, 422, "validation_error");
    refusal(
        &api.put("/v1/secrets/a", &json!({"data": {}, "secret_type": "x"})).await,
        400,
        "invalid_secret_type",
    );
    let expires = json!({"data": {}, "options": {"expires_in": "1w"}});
    refusal(&api.put("/v1/secrets/a", &expires).await, 400, "invalid_duration");
    refusal(&api.put("/v1/secrets/a", &json!({})).await, 400, "invalid_request");
    refusal(&api.get("/v1/secrets?cursor=x").await, 400, "invalid_cursor");
    refusal(&api.get("/v1/federation/backends/fed_1").await, 404, "backend_not_found");
    refusal(&api.get("/v1/nothing").await, 404, "not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn proxied_secret_is_read_from_the_backend_each_time_and_written_down() {
    let bao = OpenBao::start().await;
    bao.write("secret/data/app/db/password", &json!({"data": {"user": "u", "password": "p1"}})).await;
    let node = node_for(&bao).await;
    let api = node.api();
    let id = create(&api, &backend(&bao, "bao", "proxy", "external/hashicorp/**", "secret/data/**")).await;

    let read = api.get("/v1/secrets/external/hashicorp/app/db/password").await.ok();
    assert_eq!(read["data"], json!({"user": "u", "password": "p1"}));
    assert_eq!((&read["version"], &read["secret_type"]), (&json!(1), &json!("json")));
    assert_eq!(read["metadata"]["source"]["backend_id"], id);
    assert_eq!(read["metadata"]["source"]["backend_path"], "secret/data/app/db/password");
    bao.write("secret/data/app/db/password", &json!({"data": {"password": "p2"}})).await;
    let read = api.get("/v1/secrets/external/hashicorp/app/db/password").await.ok();
    assert_eq!((&read["data"], &read["version"]), (&json!({"password": "p2"}), &json!(2)));
    let old = api.get("/v1/secrets/external/hashicorp/app/db/password?version=1").await.ok();
    assert_eq!(old["data"]["password"], "p1");
    refusal(
        &api.get("/v1/secrets/external/hashicorp/app/db/password?version=9").await,
        404,
        "version_not_found",
    );
    refusal(&api.get("/v1/secrets/external/hashicorp/none").await, 404, "secret_not_found");

    let written = api.put("/v1/secrets/external/hashicorp/app/x", &json!({"data": {}})).await;
    let error = refusal(&written, 403, "forbidden");
    assert_eq!(error["details"], json!({"reason": "federated_path_read_only", "backend_id": id}));
    let listed = api.get("/v1/secrets?prefix=external/hashicorp/app/").await.ok();
    let paths: Vec<&str> =
        listed["secrets"].as_array().unwrap().iter().map(|row| row["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["external/hashicorp/app/db/"]);

    let status = api.get(&format!("/v1/federation/backends/{id}/status")).await.ok();
    assert_eq!(
        (&status["status"], &status["connection"]["status"]),
        (&json!("healthy"), &json!("connected"))
    );
    assert!(status["connection"]["latency_ms"].is_u64() && status["last_sync"].is_null());
    let logs = api.get("/v1/audit/logs?secret_path=external/hashicorp/app/db/password").await.ok();
    let row = &logs["logs"][0];
    assert_eq!((&row["action"], &row["success"]), (&json!("read"), &json!(false)));
    let row = &logs["logs"][1];
    assert_eq!((&row["action"], &row["success"]), (&json!("read"), &json!(true)));
    assert_eq!(row["extra_data"]["backend_path"], "secret/data/app/db/password");
    assert_eq!(
        (&row["extra_data"]["mode"], &row["extra_data"]["backend_status"]),
        (&json!("proxy"), &json!(200))
    );
    let refused = api.get("/v1/audit/logs?action=write&secret_path=external/hashicorp/app/x").await.ok();
    assert_eq!(refused["logs"][0]["success"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn synced_copies_answer_when_the_backend_is_gone_and_after_a_restart() {
    let mut bao = OpenBao::start().await;
    for number in 0..3 {
        bao.write(&format!("secret/data/prod/s{number}"), &json!({"data": {"n": number}})).await;
    }
    let mut node = node_for(&bao).await;
    let api = node.api();
    let id = create(&api, &backend(&bao, "bao", "sync", "external/bao/**", "secret/data/prod/**")).await;

    let status = sync(&api, &id, &json!({})).await;
    assert_eq!((&status["status"], &status["secrets_synced"]), (&json!("healthy"), &json!(3)), "{status}");
    let read = api.get("/v1/secrets/external/bao/s1").await.ok();
    assert_eq!(
        (&read["data"], &read["version"], &read["stale"]),
        (&json!({"n": 1}), &json!(1), &json!(false))
    );
    assert!(read["age_seconds"].is_u64());
    let listed = api.get("/v1/secrets?prefix=external/").await.ok();
    assert_eq!(listed["secrets"].as_array().unwrap().len(), 3);

    bao.write("secret/data/prod/s1", &json!({"data": {"n": 1}})).await;
    bao.write("secret/data/prod/s2", &json!({"data": {"n": 22}})).await;
    sync(&api, &id, &json!({})).await;
    assert_eq!(
        api.get("/v1/secrets/external/bao/s1").await.ok()["version"],
        1,
        "an equal value is no version"
    );
    let read = api.get("/v1/secrets/external/bao/s2").await.ok();
    assert_eq!((&read["data"], &read["version"]), (&json!({"n": 22}), &json!(2)));
    assert_eq!(api.get("/v1/secrets/external/bao/s2?version=1").await.ok()["data"], json!({"n": 2}));

    bao.stop().await;
    node.restart().await;
    let api = node.api();
    assert_eq!(api.get("/v1/secrets/external/bao/s2").await.ok()["data"], json!({"n": 22}));
    node.clock.advance(Duration::from_secs(3 * 3_600));
    let api = node.api();
    let read = api.get("/v1/secrets/external/bao/s2").await.ok();
    assert_eq!(read["stale"], true);
    assert!(read["age_seconds"].as_u64().unwrap() >= 3 * 3_600);
    let status = api.get(&format!("/v1/federation/backends/{id}/status")).await.ok();
    assert_eq!(status["status"], "unhealthy", "{status}");
    let written = api.put("/v1/secrets/external/bao/s2", &json!({"data": {}})).await;
    refusal(&written, 403, "forbidden");
}

#[tokio::test(flavor = "multi_thread")]
async fn sync_asks_for_no_value_that_has_not_changed() {
    let bao = OpenBao::start().await;
    for number in 0..3 {
        bao.write(&format!("secret/data/prod/s{number}"), &json!({"data": {"n": number}})).await;
    }
    let front = ScriptedServer::before(bao.url()).await;
    let node = node_for(&bao).await;
    let api = node.api();
    let mut body = backend(&bao, "bao", "sync", "external/bao/**", "secret/data/prod/**");
    body["config"]["endpoint"] = front.url().into();
    let id = create(&api, &body).await;
    let asked = |kind: &str| {
        let below = format!("/v1/secret/{kind}/prod/s");
        front.requests().iter().filter(|request| request.path.starts_with(&below)).count()
    };
    sync(&api, &id, &json!({})).await;
    bao.write("secret/data/prod/s2", &json!({"data": {"n": 22}})).await;
    let (values, metadata) = (asked("data"), asked("metadata"));

    sync(&api, &id, &json!({})).await;

    assert_eq!((values, asked("data")), (3, 4), "only the one that has changed");
    assert_eq!(asked("metadata") - metadata, 3, "one call a secret");
    assert_eq!(api.get("/v1/secrets/external/bao/s2").await.ok()["data"], json!({"n": 22}));
}

#[tokio::test(flavor = "multi_thread")]
async fn copy_is_deleted_only_after_two_listings_and_a_read_agree() {
    let bao = OpenBao::start().await;
    bao.write("secret/data/prod/gone", &json!({"data": {"n": 1}})).await;
    bao.write("secret/data/prod/stays", &json!({"data": {"n": 2}})).await;
    let node = node_for(&bao).await;
    let api = node.api();
    let id = create(&api, &backend(&bao, "bao", "sync", "external/bao/**", "secret/data/prod/**")).await;
    sync(&api, &id, &json!({})).await;

    bao.call(Method::DELETE, "secret/metadata/prod/gone", None).await;
    sync(&api, &id, &json!({})).await;
    assert_eq!(api.get("/v1/secrets/external/bao/gone").await.status, 200, "one listing is not enough");
    let status = sync(&api, &id, &json!({})).await;
    refusal(&api.get("/v1/secrets/external/bao/gone").await, 404, "secret_not_found");
    assert_eq!((&status["status"], &status["secrets_synced"]), (&json!("healthy"), &json!(1)));

    bao.write("secret/data/prod/gone", &json!({"data": {"n": 3}})).await;
    sync(&api, &id, &json!({})).await;
    let back = api.get("/v1/secrets/external/bao/gone").await.ok();
    assert_eq!((&back["data"], &back["version"]), (&json!({"n": 3}), &json!(2)), "its numbers go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn sync_that_would_empty_the_copies_waits_for_somebody_to_confirm() {
    let bao = OpenBao::start().await;
    for number in 0..12 {
        bao.write(&format!("secret/data/prod/s{number}"), &json!({"data": {"n": number}})).await;
    }
    let node = node_for(&bao).await;
    let api = node.api();
    let id = create(&api, &backend(&bao, "bao", "sync", "external/bao/**", "secret/data/prod/**")).await;
    sync(&api, &id, &json!({})).await;
    for number in 0..12 {
        bao.call(Method::DELETE, &format!("secret/metadata/prod/s{number}"), None).await;
    }

    sync(&api, &id, &json!({})).await;
    let status = sync(&api, &id, &json!({})).await;
    assert_eq!(
        (&status["status"], &status["deletions_guarded"]),
        (&json!("degraded"), &json!(true)),
        "{status}"
    );
    assert_eq!(api.get("/v1/secrets/external/bao/s3").await.status, 200);
    let status = sync(&api, &id, &json!({"confirm_deletions": true})).await;
    assert_eq!((&status["secrets_synced"], &status["deletions_guarded"]), (&json!(0), &json!(false)));
    refusal(&api.get("/v1/secrets/external/bao/s3").await, 404, "secret_not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn conflict_keeps_the_local_value_until_somebody_decides() {
    let bao = OpenBao::start().await;
    bao.write("secret/data/prod/a", &json!({"data": {"side": "remote"}})).await;
    bao.write("secret/data/prod/b", &json!({"data": {"side": "remote"}})).await;
    bao.write("secret/data/prod/same", &json!({"data": {"side": "both"}})).await;
    let node = node_for(&bao).await;
    let api = node.api();
    for (name, side) in [("a", "local"), ("b", "local"), ("same", "both")] {
        api.put(&format!("/v1/secrets/external/bao/{name}"), &json!({"data": {"side": side}})).await.ok();
    }
    let body = backend(&bao, "bao", "sync", "external/bao/**", "secret/data/prod/**");
    let made = api.post("/v1/federation/backends", &body).await;
    assert!(made.body["warnings"][0].as_str().unwrap().starts_with("3 local secrets"), "{}", made.text);
    let id = made.body["id"].as_str().unwrap().to_owned();

    let status = sync(&api, &id, &json!({})).await;
    assert_eq!((&status["status"], &status["conflicts_open"]), (&json!("degraded"), &json!(2)), "{status}");
    assert_eq!(api.get("/v1/secrets/external/bao/a").await.ok()["data"]["side"], "local");
    let open = api.get(&format!("/v1/federation/backends/{id}/conflicts")).await;
    assert!(!open.text.contains("\"remote\":\"") && !open.text.contains("side"), "{}", open.text);
    let open = open.ok();
    let conflict = &open["conflicts"][0];
    assert_eq!(conflict["kind"], "local_exists");
    assert_ne!(conflict["local"]["fingerprint"], conflict["remote"]["fingerprint"]);

    let find = |path: &str| {
        let rows = open["conflicts"].as_array().unwrap();
        let row = rows.iter().find(|row| row["path"] == *path).unwrap();
        format!("/v1/federation/backends/{id}/conflicts/{}/resolve", row["id"].as_str().unwrap())
    };
    let (a, b) = (find("external/bao/a"), find("external/bao/b"));
    refusal(&api.post(&a, &json!({"strategy": "x"})).await, 422, "validation_error");
    assert_eq!(api.post(&a, &json!({"strategy": "take_remote"})).await.status, 204);
    assert_eq!(api.post(&b, &json!({"strategy": "keep_local"})).await.status, 204);
    sync(&api, &id, &json!({})).await;
    let taken = api.get("/v1/secrets/external/bao/a").await.ok();
    assert_eq!((&taken["data"]["side"], &taken["version"]), (&json!("remote"), &json!(2)));
    assert_eq!(api.get("/v1/secrets/external/bao/b").await.ok()["data"]["side"], "local");
    refusal(&api.post(&a, &json!({"strategy": "take_remote"})).await, 404, "conflict_not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_decide_on_paths_and_tenants_do_not_see_each_other() {
    let node = TestNode::start(Role::None).await;
    let admin = node.api();
    admin.put("/v1/secrets/app/db", &json!({"data": {"a": 1}})).await.ok();
    let scopes: BTreeSet<Scope> = [Scope::SecretsRead, Scope::SecretsList, Scope::SecretsWrite].into();
    let user = node.api_as(scopes, None);

    refusal(&user.get("/v1/secrets/app/db").await, 403, "access_denied");
    refusal(&user.delete("/v1/secrets/app/db").await, 403, "insufficient_scope");
    let policy = json!({
        "name": "readers",
        "rules": [{"path_pattern": "app/**", "permissions": ["read", "list"]}],
        "identities": ["tester@example.com"],
    });
    let made = admin.post("/v1/policies", &policy).await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(user.get("/v1/secrets/app/db").await.ok()["data"], json!({"a": 1}));
    refusal(&user.put("/v1/secrets/app/db", &json!({"data": {}})).await, 403, "access_denied");
    assert_eq!(user.get("/v1/secrets").await.ok()["secrets"].as_array().unwrap().len(), 1);
    let id = made.body["id"].as_str().unwrap();
    admin.patch(&format!("/v1/policies/{id}"), &json!({"identities": ["*"]})).await.ok();
    assert_eq!(admin.get("/v1/policies").await.ok()["policies"][0]["identities"], json!(["*"]));

    let made = admin.post("/v1/tenants", &json!({"id": "tnt_blue"})).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let blue = [("X-Tenant-ID", "tnt_blue")];
    let there = admin.send(Method::GET, "/v1/secrets/app/db", None, &blue).await;
    refusal(&there, 404, "secret_not_found");
    admin.put("/v1/t/tnt_blue/secrets/app/db", &json!({"data": {"a": "blue"}})).await.ok();
    assert_eq!(admin.get("/v1/t/tnt_blue/secrets/app/db").await.ok()["data"]["a"], "blue");
    assert_eq!(admin.get("/v1/secrets/app/db").await.ok()["data"]["a"], 1);
    refusal(&user.get("/v1/t/tnt_blue/secrets/app/db").await, 403, "tenant_access_denied");
    refusal(&admin.get("/v1/t/tnt_none/secrets/app/db").await, 404, "tenant_not_found");
    refusal(&admin.delete("/v1/tenants/tnt_blue").await, 409, "tenant_in_use");
    admin.delete(&format!("/v1/policies/{id}")).await;
    refusal(&user.get("/v1/secrets/app/db").await, 403, "access_denied");
}

#[tokio::test(flavor = "multi_thread")]
async fn backend_is_judged_in_the_documented_order_and_the_documented_ones_are_taken() {
    let node = TestNode::start(Role::None).await;
    let api = node.api();
    for path in ["infra/hashicorp/approle-creds", "infra/aws/sm/reader"] {
        api.put(&format!("/v1/secrets/{path}"), &json!({"data": {"access_key_id": "a"}})).await.ok();
    }
    let vault = json!({
        "name": "hashicorp-prod", "type": "hashicorp-vault",
        "config": {"endpoint": "https://vault.internal:8200", "auth_method": "approle",
            "auth_config_path": "infra/hashicorp/approle-creds", "tls_verify": true},
        "path_mapping": {"external/hashicorp/**": "secret/data/**"}, "mode": "proxy",
    });
    let aws = json!({
        "name": "aws-prod", "type": "aws-secrets-manager",
        "config": {"region": "us-east-1", "credentials_path": "infra/aws/sm/reader"},
        "path_mapping": {"external/aws/**": "prod/**"}, "mode": "sync", "sync_interval": "15m",
    });
    let id = create(&api, &vault).await;
    let shown = api.get(&format!("/v1/federation/backends/{id}")).await.ok();
    assert_eq!((&shown["config"], &shown["sync_interval"]), (&vault["config"], &Value::Null));
    let aws_id = create(&api, &aws).await;
    assert_eq!(api.get(&format!("/v1/federation/backends/{aws_id}")).await.ok()["sync_interval"], "15m");
    assert_eq!(api.get("/v1/federation/backends").await.ok()["backends"].as_array().unwrap().len(), 2);

    let with = |member: &str, value: Value| {
        let mut body = aws.clone();
        body["name"] = "other".into();
        body["path_mapping"] = json!({"external/other/**": "other/**"});
        body[member] = value;
        body
    };
    let path = "/v1/federation/backends";
    refusal(&api.post(path, &with("nonsense", json!(1))).await, 400, "invalid_request");
    refusal(&api.post(path, &with("name", json!("a b"))).await, 422, "validation_error");
    refusal(&api.post(path, &with("sync_interval", Value::Null)).await, 422, "validation_error");
    refusal(&api.post(path, &with("sync_interval", json!("1x"))).await, 400, "invalid_duration");
    refusal(&api.post(path, &with("path_mapping", json!({"**": "x/**"}))).await, 400, "invalid_glob");
    refusal(
        &api.post(path, &with("path_mapping", json!({"external/o/**": "x/*"}))).await,
        400,
        "invalid_config",
    );
    let inline = json!({"region": "us-east-1", "secret_access_key": "x"});
    let error = refusal(&api.post(path, &with("config", inline)).await, 400, "invalid_config");
    assert_eq!(error["details"]["field"], "config.secret_access_key");
    let missing = json!({"region": "us-east-1", "credentials_path": "infra/none"});
    refusal(&api.post(path, &with("config", missing)).await, 400, "invalid_config");
    let looped = json!({"region": "us-east-1", "credentials_path": "external/aws/login"});
    refusal(&api.post(path, &with("config", looped)).await, 400, "invalid_config");
    refusal(&api.post(path, &with("name", json!("aws-prod"))).await, 409, "backend_exists");
    let overlap = json!({"external/aws/**": "else/**"});
    refusal(&api.post(path, &with("path_mapping", overlap)).await, 409, "path_mapping_conflict");

    let one = format!("{path}/{aws_id}");
    refusal(&api.patch(&one, &json!({"type": "azure-key-vault"})).await, 422, "validation_error");
    let patched = api.patch(&one, &json!({"sync_interval": "1h", "enabled": false})).await.ok();
    assert_eq!((&patched["sync_interval"], &patched["enabled"]), (&json!("1h"), &json!(false)));
    let off = refusal(&api.get("/v1/secrets/external/aws/x").await, 503, "service_unavailable");
    assert_eq!(off["details"]["reason"], "backend_disabled");
    refusal(&api.post(&format!("{path}/{id}/sync"), &json!({})).await, 400, "invalid_request");
    assert_eq!(api.delete(&one).await.status, 204);
    refusal(&api.delete(&one).await, 404, "backend_not_found");
    refusal(&api.get("/v1/secrets/external/aws/x").await, 404, "secret_not_found");
    let explained = api.get("/v1/federation/explain/external/hashicorp/app/db").await.ok();
    assert_eq!(explained["mappings"][0]["name"], "secret/data/app/db");
}

#[tokio::test(flavor = "multi_thread")]
async fn log_tells_the_address_that_a_call_came_from_and_believes_no_header() {
    let node = TestNode::start(Role::None).await;
    let api = node.api();
    let headers = [("X-Forwarded-For", "10.1.2.3"), ("Forwarded", "for=10.1.2.3"), ("X-Real-IP", "10.1.2.3")];
    let body = json!({"data": {"a": 1}}).to_string().into_bytes();
    let headers = [&headers[..], &[("Content-Type", "application/json")]].concat();
    api.send(Method::PUT, "/v1/secrets/app/db", Some(body), &headers).await.ok();
    refusal(&api.get("/v1/secrets/app/none").await, 404, "secret_not_found");
    let token = node.token(all_scopes(), None, Duration::from_secs(60));
    let vault = [("X-Vault-Token", token.as_str())];
    let read = node.anonymous().send(Method::GET, "/vault/v1/secret/data/app/db", None, &vault).await;
    assert_eq!(read.status, 200);

    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let listener = hansa_api::Listener::Local(tokio::net::UnixListener::bind(&socket).unwrap());
    let serving = tokio::spawn(hansa_api::serve(node.federation().clone(), listener, std::future::pending()));
    let mut stream = tokio::net::UnixStream::connect(&socket).await.unwrap();
    let request = "GET /v1/secrets/app/db HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    serving.abort();

    let logs = api.get("/v1/audit/logs").await.ok();
    let rows: Vec<Value> = logs["logs"].as_array().unwrap().iter().rev().cloned().collect();
    let told: Vec<(&Value, &Value, &Value)> =
        rows.iter().map(|row| (&row["action"], &row["success"], &row["source_ip"])).collect();
    let home = json!("127.0.0.1");
    assert_eq!(
        told,
        [
            (&json!("write"), &json!(true), &home),
            (&json!("read"), &json!(false), &home),
            (&json!("read"), &json!(true), &home),
            (&json!("read"), &json!(true), &Value::Null),
        ]
    );
    assert!(rows.iter().all(|row| row["extra_data"].get("source_ip").is_none()), "{logs}");
}
