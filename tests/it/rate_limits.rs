//! How often callers of the secrets API may call (contract A.8): a bucket for each caller and category.

use std::time::Duration;

use hansa_actors::view::TokenRequest;
use hansa_model::enrollment::Role;
use hansa_model::machine::bucket::{Category, Rates};
use hansa_tests::{
    Answer, Api, Scripted, ScriptedServer, TestNode, all_scopes, create_backend, secret_refusal,
};
use reqwest::Method;
use serde_json::{Value, json};

/// Calls a minute, no two alike; few enough that a slow machine does not refill them meanwhile.
const fn rate(category: Category) -> u32 {
    match category {
        Category::FederationOperations => 3,
        Category::ReadSecrets => 6,
        Category::WriteSecrets => 5,
        Category::DeleteSecrets => 2,
        Category::ListSecrets => 4,
        Category::BatchRead => 3,
        Category::BatchMetadata => 2,
        Category::AuditQueries => 4,
    }
}

fn rates() -> Rates {
    Category::ALL.into_iter().fold(Rates::default(), |rates, category| rates.with(category, rate(category)))
}

/// One call a minute: a bucket that stays empty while a test looks, also on a slow machine.
fn scarce() -> Rates {
    Category::ALL.into_iter().fold(Rates::default(), |rates, category| rates.with(category, 1))
}

/// A caller with every scope.
fn caller(node: &TestNode, userid: &str) -> Api {
    let ttl = Duration::from_secs(24 * 3_600);
    let userid = userid.to_owned();
    let request = TokenRequest { userid, scopes: all_scopes(), sites: None, tenant: None, ttl };
    node.anonymous().bearer(node.federation().mint(&request).unwrap().expose().clone())
}

/// A call of this category; each by another route of it in turn.
async fn call(api: &Api, category: Category, turn: u32) -> Answer {
    let paths = json!({"paths": ["app/none"]});
    let third = turn % 3;
    match category {
        Category::FederationOperations => match third {
            0 => api.get("/v1/federation/backends").await,
            1 => api.get("/v1/federation/explain/app/db").await,
            _ => api.post("/v1/federation/backends", &json!({"nonsense": 1})).await,
        },
        Category::ReadSecrets => match third {
            0 => api.get("/v1/secrets/app/none").await,
            1 => api.get("/v1/secrets/app/none?version=1").await,
            _ => api.get("/v1/t/tnt_default/secrets/app/none").await,
        },
        Category::WriteSecrets => api.put("/v1/secrets/app/db", &json!({"data": {"n": turn}})).await,
        Category::DeleteSecrets => api.delete("/v1/secrets/app/none").await,
        Category::ListSecrets => match third {
            0 => api.get("/v1/secrets").await,
            _ => api.get("/v1/secret-versions/app/none").await,
        },
        Category::BatchRead => api.post("/v1/secrets/batch", &paths).await,
        Category::BatchMetadata => api.post("/v1/secrets/batch/metadata", &paths).await,
        Category::AuditQueries => api.get("/v1/audit/logs").await,
    }
}

/// Calls until it is refused: how many were taken, and for how long the caller is told to wait.
async fn drain(api: &Api, category: Category) -> (u32, u64) {
    // A machine that is slow beyond measure refills while the test calls.
    for taken in 0..20 * rate(category) {
        let answer = call(api, category, taken).await;
        if answer.status == 429 {
            secret_refusal(&answer, 429, "rate_limited");
            return (taken, retry_after(&answer));
        }
    }
    panic!("{} is not limited", category.as_str());
}

fn retry_after(answer: &Answer) -> u64 {
    answer.headers["retry-after"].to_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn bucket_of_each_category_empties_and_refills_for_its_caller_alone() {
    let node = TestNode::start_limited(Role::None, rates()).await;
    let (ada, bob) = (caller(&node, "ada@example.com"), caller(&node, "bob@example.com"));

    for category in Category::ALL {
        let name = category.as_str();
        let (taken, wait) = drain(&ada, category).await;
        assert!(taken >= rate(category), "{name}: {taken} calls");
        assert!((1..=u64::from(60_u32.div_ceil(rate(category)))).contains(&wait), "{name}: {wait} s");
        assert_ne!(call(&bob, category, 0).await.status, 429, "{name}: another caller");
        node.clock.advance(Duration::from_secs(wait));
        assert_ne!(call(&ada, category, 0).await.status, 429, "{name}: after the wait that it was told");
        node.clock.advance(Duration::from_secs(60));
        for turn in 0..rate(category) {
            assert_ne!(call(&ada, category, turn).await.status, 429, "{name}: a minute later");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_to_a_limited_call_tells_what_is_left() {
    let node = TestNode::start_limited(Role::None, rates()).await;
    let api = caller(&node, "ada@example.com");

    // The third is refused; half a minute later half of the calls came back.
    for (wait, left, reset) in [(0, 1, 30), (0, 0, 60), (0, 0, 60), (30, 0, 60)] {
        node.clock.advance(Duration::from_secs(wait));
        let answer = call(&api, Category::BatchMetadata, 0).await;
        assert_eq!(answer.headers["ratelimit-policy"], "\"batch_metadata\";q=2;w=60");
        let told = answer.headers["ratelimit"].to_str().unwrap();
        let told_reset = told.strip_prefix(&format!("\"batch_metadata\";r={left};t=")).unwrap();
        // Less by what the machine took meanwhile.
        assert!((reset - 20..=reset).contains(&told_reset.parse().unwrap()), "{told}");
    }

    let unlimited = api.get("/api/v1/federation/config").await;
    assert!(!unlimited.headers.contains_key("ratelimit"));
    let unknown = node.anonymous().get("/v1/secrets/app/none").await;
    assert!(!unknown.headers.contains_key("ratelimit"), "nobody is counted before they are known");
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_bucket_stops_only_its_own_category() {
    let node = TestNode::start_limited(Role::None, rates()).await;

    for category in Category::ALL {
        let api = caller(&node, &format!("{}@example.com", category.as_str()));
        drain(&api, category).await;
        for other in Category::ALL.into_iter().filter(|other| *other != category) {
            let answer = call(&api, other, 0).await;
            assert_ne!(answer.status, 429, "{} after {}", other.as_str(), category.as_str());
        }
        // What the contract does not limit is not limited.
        for path in ["/v1/policies", "/v1/tenants", "/v1/approles"] {
            api.get(path).await.ok();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_a_second_bucket_by_headers_paths_or_another_surface() {
    let node = TestNode::start_limited(Role::None, scarce()).await;
    node.api().put("/v1/secrets/app/db", &json!({"data": {"a": 1}})).await.ok();
    let token = node.token(all_scopes(), None, Duration::from_secs(24 * 3_600));
    let api = node.anonymous().bearer(&token);
    drain(&api, Category::ReadSecrets).await;

    for headers in [
        [("X-Forwarded-For", "10.1.2.3"), ("Forwarded", "for=10.1.2.3")],
        [("X-Real-IP", "10.1.2.4"), ("User-Agent", "another")],
        [("X-Tenant-ID", "tnt_default"), ("X-Request-ID", "another")],
    ] {
        let answer = api.send(Method::GET, "/v1/secrets/app/db", None, &headers).await;
        secret_refusal(&answer, 429, "rate_limited");
    }
    // Another token of the same user, and the other surface.
    let again = node.token(all_scopes(), None, Duration::from_secs(12 * 3_600));
    let answer = node.anonymous().bearer(&again).get("/v1/secrets/app/db").await;
    secret_refusal(&answer, 429, "rate_limited");
    let header = [("X-Vault-Token", token.as_str())];
    let read = "/vault/v1/secret/data/app/db";
    let answer = node.anonymous().send(Method::GET, read, None, &header).await;
    assert_eq!((answer.status, retry_after(&answer) > 0), (429, true), "{}", answer.text);
    assert_eq!(answer.body["errors"].as_array().unwrap().len(), 1);
    // Who may not do it anyway takes nothing out of anybody's bucket.
    let stranger = node.anonymous().get("/v1/secrets/app/db").await;
    secret_refusal(&stranger, 401, "authentication_required");
}

#[tokio::test(flavor = "multi_thread")]
async fn app_roles_of_one_name_in_two_tenants_have_a_bucket_each() {
    let node = TestNode::start_limited(Role::None, rates()).await;
    let admin = node.api();
    let mut tokens = Vec::new();
    for tenant in ["tnt_blue", "tnt_green"] {
        let made = admin.post("/v1/tenants", &json!({"id": tenant})).await;
        assert_eq!(made.status, 201, "{}", made.text);
        let made = admin.post(&format!("/v1/t/{tenant}/approles"), &json!({"name": "ci"})).await;
        assert_eq!(made.status, 201, "{}", made.text);
        let path = format!("/v1/t/{tenant}/approles/ci/secret-id");
        let ids = admin.post(&path, &json!({})).await.ok();
        let login = node.anonymous().post("/vault/v1/auth/approle/login", &ids).await.ok();
        tokens.push(login["auth"]["client_token"].as_str().unwrap().to_owned());
    }
    let read = async |token: &str| {
        let header = [("X-Vault-Token", token)];
        node.anonymous().send(Method::GET, "/vault/v1/secret/data/app/db", None, &header).await.status
    };

    let mut taken = 0;
    while read(&tokens[0]).await != 429 {
        taken += 1;
        assert!(taken < 20 * rate(Category::ReadSecrets), "it is not limited");
    }
    assert_eq!(read(&tokens[1]).await, 403, "the other tenant's has its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_call_reaches_no_backend_and_reads_no_body() {
    let server = ScriptedServer::start(|asked| match asked.path.as_str() {
        path if path.contains("lookup-self") => Scripted::json(200, json!({"data": {"ttl": 0}})),
        path if path.contains("/secret/data/") => {
            Scripted::json(200, json!({"data": {"data": {"a": 1}, "metadata": {"version": 1}}}))
        }
        _ => Scripted::json(403, json!({"errors": ["permission denied"]})),
    })
    .await;
    let node = TestNode::start_limited(Role::None, scarce()).await;
    let setup = caller(&node, "setup@example.com");
    setup.put("/v1/secrets/infra/login", &json!({"data": {"token": "t"}})).await.ok();
    let backend = json!({
        "name": "one", "type": "hashicorp-vault", "mode": "proxy",
        "config": {"endpoint": server.url(), "auth_method": "token", "auth_config_path": "infra/login", "kv_version": 2},
        "path_mapping": {"external/one/**": "secret/data/**"},
    });
    create_backend(&setup, &backend).await;
    let api = caller(&node, "ada@example.com");
    assert_eq!(api.get("/v1/secrets/external/one/a").await.ok()["data"]["a"], 1);
    for category in
        [Category::ReadSecrets, Category::WriteSecrets, Category::ListSecrets, Category::BatchRead]
    {
        drain(&api, category).await;
    }
    let asked = |part: &str| server.requests().iter().filter(|asked| asked.path.contains(part)).count();
    let (values, lists) = (asked("/secret/data/"), asked("/secret/metadata/"));

    let paths = json!({"paths": ["external/one/a", "external/one/b"]});
    for answer in [
        api.get("/v1/secrets/external/one/a").await,
        api.put("/v1/secrets/external/one/a", &json!({"data": {"a": 2}})).await,
        api.send(Method::PUT, "/v1/secrets/external/one/a", Some(b"{".to_vec()), &[]).await,
        api.get("/v1/secrets?prefix=external/one/").await,
        api.post("/v1/secrets/batch", &paths).await,
    ] {
        secret_refusal(&answer, 429, "rate_limited");
    }

    assert_eq!((asked("/secret/data/"), asked("/secret/metadata/")), (values, lists));
    // Others are served meanwhile.
    assert_eq!(setup.get("/v1/secrets/external/one/a").await.ok()["data"], json!({"a": 1}));
    let rows = setup.get("/v1/audit/logs?secret_path=external/one/a&identity_id=ada@example.com").await.ok();
    let rows: &Vec<Value> = rows["logs"].as_array().unwrap();
    assert_eq!(rows.len(), 1, "what was refused before it began is no access");
}
