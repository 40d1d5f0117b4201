//! AppRoles over HTTP and on the command line: one of each name, and nothing outlives its role.

use hansa_model::enrollment::Role;
use hansa_model::scope::Scope;
use hansa_tests::{Api, TestNode, TestProcess, secret_refusal};
use serde_json::{Value, json};

const APPROLES: &str = "/v1/approles";
const LOGIN: &str = "/vault/v1/auth/approle/login";

async fn secret_id(api: &Api, name: &str) -> Value {
    let made = api.post(&format!("{APPROLES}/{name}/secret-id"), &json!({})).await;
    assert_eq!(made.status, 201, "{}", made.text);
    json!({"role_id": made.body["role_id"], "secret_id": made.body["secret_id"]})
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_make_an_app_role_of_one_name_at_once_one_succeeds() {
    let node = TestNode::start(Role::None).await;
    let body = json!({"name": "ci"});

    let calls = (0..16).map(|_| {
        let (api, body) = (node.api(), body.clone());
        tokio::spawn(async move { api.post(APPROLES, &body).await.status })
    });
    let mut statuses = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        statuses.push(call.await.unwrap());
    }

    statuses.sort_unstable();
    assert_eq!(statuses, [vec![201], vec![409; 15]].concat());
    let listed = node.api().get(APPROLES).await.ok();
    assert_eq!(listed["approles"].as_array().map(Vec::len), Some(1));
    assert_eq!(node.anonymous().post(APPROLES, &json!({"nonsense": 1})).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn secret_ids_and_tokens_of_a_removed_app_role_do_not_pass_to_one_of_the_same_name() {
    let node = TestNode::start(Role::None).await;
    let api = node.api();
    assert_eq!(api.post(APPROLES, &json!({"name": "ci"})).await.status, 201);
    let ids = secret_id(&api, "ci").await;
    let login = node.anonymous().post(LOGIN, &ids).await.ok();
    let token = login["auth"]["client_token"].as_str().unwrap().to_owned();
    let lookup = async || node.anonymous().bearer(&token).get("/v1/secrets").await.status;
    assert_ne!(lookup().await, 401);

    assert_eq!(api.delete(&format!("{APPROLES}/ci")).await.status, 204);
    assert_eq!(lookup().await, 401);
    assert_eq!(api.post(APPROLES, &json!({"name": "ci"})).await.status, 201);

    assert_eq!(lookup().await, 401);
    assert_eq!(node.anonymous().post(LOGIN, &ids).await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn app_roles_of_two_tenants_may_have_one_name_and_neither_sees_the_other() {
    let node = TestNode::start(Role::None).await;
    let api = node.api();
    for tenant in ["north", "north2"] {
        assert_eq!(api.post("/v1/tenants", &json!({"id": tenant})).await.status, 201);
        let made = api
            .send(
                reqwest::Method::POST,
                APPROLES,
                Some(json!({"name": "ci"}).to_string().into_bytes()),
                &[("X-Tenant-ID", tenant)],
            )
            .await;
        assert_eq!(made.status, 201, "{}", made.text);
    }

    for (tenant, count) in [("north", 1), ("north2", 1)] {
        let listed = api.send(reqwest::Method::GET, APPROLES, None, &[("X-Tenant-ID", tenant)]).await.ok();
        assert_eq!(listed["approles"].as_array().map(Vec::len), Some(count), "{tenant}: {listed}");
    }
    assert_eq!(api.get(APPROLES).await.ok()["approles"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn command_line_makes_shows_and_removes_an_app_role() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestProcess::start(folder.path(), "site").await;
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();

    let made = node
        .run(&[
            "approle",
            "add",
            "ci",
            "--scope",
            "secrets:read,secrets:list",
            "--token-ttl",
            "30m",
            "-o",
            "json",
        ])
        .await;
    let shown = node.run(&["approle", "show", "ci", "-o", "json"]).await;
    let listed = node.run(&["approle", "list"]).await;
    let id = node.run(&["approle", "secret-id", "ci", "--ttl", "90d", "-o", "json"]).await;
    let bare = node.run(&["approle", "secret-id", "ci"]).await;

    assert_eq!(json(&made), json(&shown));
    assert_eq!(json(&made)["token_ttl"], "30m");
    assert!(listed.contains("ci") && listed.contains("30m"), "{listed}");
    assert_eq!(json(&id)["role_id"], json(&made)["role_id"]);
    assert_eq!(bare.trim().len(), json(&id)["secret_id"].as_str().unwrap().len());
    let login = Api::new(node.url()).post(LOGIN, &json(&id)).await;
    assert_eq!(login.status, 200, "{}", login.text);
    let taken = node.failed(&["approle", "add", "ci"]).await;
    assert!(taken.contains("taken") || taken.contains("name"), "{taken}");
    let accessor = json(&id)["accessor"].as_str().unwrap().to_owned();
    let ids = node.run(&["approle", "secret-ids", "ci"]).await;
    assert!(ids.contains(&accessor), "{ids}");
    node.run(&["approle", "remove-secret-id", "ci", &accessor]).await;
    let left = node.run(&["approle", "secret-ids", "ci", "-o", "json"]).await;
    assert!(!left.contains(&accessor), "{left}");
    node.run(&["approle", "remove", "ci"]).await;
    let gone = node.failed(&["approle", "show", "ci"]).await;
    assert!(gone.contains("try: hansa approle list"), "{gone}");
}

#[tokio::test(flavor = "multi_thread")]
async fn secret_ids_are_listed_without_themselves_and_destroyed_one_by_one() {
    let node = TestNode::start(Role::None).await;
    let api = node.api();
    for name in ["ci", "other"] {
        assert_eq!(api.post(APPROLES, &json!({"name": name})).await.status, 201);
    }
    let ids = format!("{APPROLES}/ci/secret-id");
    let first = api.post(&ids, &json!({})).await.body;
    let second = api.post(&ids, &json!({"ttl": "1h"})).await.body;
    let foreign = api.post(&format!("{APPROLES}/other/secret-id"), &json!({})).await.body;
    let login = async |made: &Value| {
        let body = json!({"role_id": made["role_id"], "secret_id": made["secret_id"]});
        node.anonymous().post(LOGIN, &body).await
    };
    let token = login(&first).await.ok()["auth"]["client_token"].as_str().unwrap().to_owned();

    let listed = api.get(&ids).await;
    for made in [&first, &second] {
        assert!(!listed.text.contains(made["secret_id"].as_str().unwrap()), "{}", listed.text);
    }
    let rows = listed.ok()["secret_ids"].as_array().unwrap().clone();
    let accessors: Vec<&Value> = rows.iter().map(|row| &row["accessor"]).collect();
    assert_eq!(accessors, [&first["accessor"], &second["accessor"]]);
    let mut members: Vec<&str> = rows[0].as_object().unwrap().keys().map(String::as_str).collect();
    members.sort_unstable();
    assert_eq!(members, ["accessor", "created_at", "expires_at"]);
    assert!(rows[0]["expires_at"].is_null() && rows[1]["expires_at"].is_string(), "{rows:?}");

    let one = |made: &Value| format!("{ids}/{}", made["accessor"].as_str().unwrap());
    secret_refusal(&api.delete(&one(&foreign)).await, 404, "secret_id_not_found");
    secret_refusal(&api.get(&format!("{APPROLES}/none/secret-id")).await, 404, "approle_not_found");
    assert_eq!(node.anonymous().delete(&one(&first)).await.status, 401);
    let reader = node.api_as([Scope::PoliciesRead].into(), None);
    assert_eq!(reader.get(&ids).await.status, 200);
    assert_eq!(reader.delete(&one(&first)).await.status, 403);
    assert_eq!(api.delete(&one(&first)).await.status, 204);

    assert_eq!(login(&first).await.status, 400);
    assert_eq!(login(&second).await.status, 200);
    assert_ne!(node.anonymous().bearer(&token).get("/v1/secrets").await.status, 401, "its tokens live on");
    secret_refusal(&api.delete(&one(&first)).await, 404, "secret_id_not_found");
    let left = api.get(&ids).await.ok();
    assert_eq!(left["secret_ids"].as_array().map(Vec::len), Some(1));
    let entries = api.get("/api/v1/federation/audit?operation=approle_secret_removed").await.licensed();
    let details = &entries["entries"][0]["details"];
    assert_eq!((&details["approle"], &details["accessor"]), (&json!("ci"), &first["accessor"]), "{entries}");
}
