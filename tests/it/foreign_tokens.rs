//! Tokens of a foreign issuer at the secrets API: scopes by name, tenants, rotation (contract A.1 to A.4).
//!
//! The issuer is a third party's; it knows nothing of this node.

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hansa_actors::{IssuerAlgorithm, IssuerConfig, OperatorsConfig};
use hansa_model::WallClock as _;
use hansa_model::enrollment::Role;
use hansa_model::limits::issuer;
use hansa_model::scope::Scope;
use hansa_tests::{Answer, Api, OauthServer, TestNode};
use reqwest::Method;
use serde_json::{Value, json};

const AUDIENCE: &str = "hansa-secrets";
const SECRET: &str = "/v1/secrets/app/db";

/// The issuer gives scopes of secrets by name, and `federation:read`; nothing else.
fn named() -> BTreeSet<Scope> {
    [Scope::SecretsRead, Scope::SecretsList, Scope::SecretsWrite, Scope::FederationRead].into()
}

fn issuer_config(server: &OauthServer, tenants: Option<&[&str]>) -> IssuerConfig {
    IssuerConfig {
        issuer: server.name(),
        audience: AUDIENCE.to_owned(),
        jwks_url: None,
        userid_claim: "sub".to_owned(),
        scope_claim: "scope".to_owned(),
        algorithms: [IssuerAlgorithm::Rs256, IssuerAlgorithm::Es256].into(),
        grants: Vec::new(),
        named_scopes: named(),
        tenants: tenants.map(|tenants| tenants.iter().map(|id| id.parse().unwrap()).collect()),
    }
}

/// A node that knows this issuer, with a secret in each of three tenants and of the default one.
async fn node_for(issuers: Vec<IssuerConfig>) -> TestNode {
    let node = TestNode::start_with(Role::None, OperatorsConfig { shared: None, issuers }).await;
    let admin = node.api();
    for (tenant, partner) in [("tnt_blue", "ptn_1"), ("tnt_green", "ptn_1"), ("tnt_red", "ptn_2")] {
        let made = admin.post("/v1/tenants", &json!({"id": tenant, "partner_id": partner})).await;
        assert_eq!(made.status, 201, "{}", made.text);
    }
    for tenant in ["tnt_blue", "tnt_green", "tnt_red", "tnt_default"] {
        let policy = json!({
            "name": "readers", "identities": ["*"],
            "rules": [{"path_pattern": "app/**", "permissions": ["read", "list", "write"]}],
        });
        let made = admin.post(&format!("/v1/t/{tenant}/policies"), &policy).await;
        assert_eq!(made.status, 201, "{}", made.text);
        let value = json!({"data": {"of": tenant}});
        admin.put(&format!("/v1/t/{tenant}/secrets/app/db"), &value).await.ok();
    }
    node
}

/// What a client gets: good for an hour, for this node.
fn claims(node: &TestNode, tenant: &str, scope: &str) -> Value {
    let now = node.clock.now().as_secs();
    json!({
        "aud": AUDIENCE, "sub": "svc-reader", "scope": scope, "tenant_id": tenant,
        "iat": now, "nbf": now, "exp": now + 3_600, "token_type": "client_credentials",
    })
}

fn with(claims: &Value, name: &str, value: Value) -> Value {
    let mut claims = claims.clone();
    claims[name] = value;
    claims
}

fn as_holder(node: &TestNode, token: impl Into<String>) -> Api {
    node.anonymous().bearer(token)
}

async fn with_header(api: &Api, tenant: &str) -> Answer {
    api.send(Method::GET, SECRET, None, &[("X-Tenant-ID", tenant)]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn token_of_a_tenant_reads_that_tenants_secrets_with_the_scopes_it_names() {
    let server = OauthServer::start(&["RS256:r1", "ES256:e1"]).await;
    let node = node_for(vec![issuer_config(&server, None)]).await;

    for algorithm in ["RS256", "ES256"] {
        let claims = claims(&node, "tnt_blue", "openid secrets:read secrets:list");
        let api = as_holder(&node, server.token(algorithm, &claims).await);
        assert_eq!(api.get(SECRET).await.ok()["data"]["of"], "tnt_blue", "{algorithm}");
        assert_eq!(api.get("/v1/t/tnt_blue/secrets/app/db").await.ok()["data"]["of"], "tnt_blue");
        assert_eq!(with_header(&api, "tnt_blue").await.ok()["data"]["of"], "tnt_blue");
        assert_eq!(api.get("/v1/secrets").await.ok()["secrets"].as_array().unwrap().len(), 1);
        // The scopes are asked for each by itself.
        api.put(SECRET, &json!({"data": {}})).await.refused(403, "permission_denied");
        api.get("/v1/federation/backends").await.refused(403, "permission_denied");
        for other in ["tnt_green", "tnt_red", "tnt_default"] {
            let path = format!("/v1/t/{other}/secrets/app/db");
            api.get(&path).await.refused(403, "tenant_access_denied");
            with_header(&api, other).await.refused(403, "tenant_access_denied");
        }
    }
    let claims_of_blue = claims(&node, "tnt_blue", "secrets:write federation:read federation:write admin");
    let writer = as_holder(&node, server.token("ES256", &claims_of_blue).await);
    assert_eq!(writer.put(SECRET, &json!({"data": {"of": "blue"}})).await.ok()["version"], 2);
    writer.get("/v1/federation/backends").await.ok();
    // The node does not let this issuer give these two, whatever the token says.
    writer.post("/v1/federation/backends", &json!({})).await.refused(403, "permission_denied");
    writer.post("/v1/tenants", &json!({"id": "tnt_mine"})).await.refused(403, "permission_denied");
    let nothing = as_holder(&node, server.token("RS256", &claims(&node, "tnt_blue", "secrets:*")).await);
    nothing.get(SECRET).await.refused(403, "permission_denied");

    // A token without a tenant is the default tenant's, and no more.
    let homeless = with(&claims(&node, "", "secrets:read"), "tenant_id", Value::Null);
    let api = as_holder(&node, server.token("RS256", &homeless).await);
    assert_eq!(api.get(SECRET).await.ok()["data"]["of"], "tnt_default");
    with_header(&api, "tnt_blue").await.refused(403, "tenant_access_denied");
    let logs = node.api().get("/v1/t/tnt_blue/audit/logs?action=read").await.ok();
    let rows = logs["logs"].as_array().unwrap();
    let who = format!("{}#svc-reader", server.name());
    assert!(!rows.is_empty() && rows.iter().all(|row| row["identity_id"] == *who), "{logs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn administrators_of_a_partner_choose_among_its_tenants() {
    let server = OauthServer::start(&["RS256:r1"]).await;
    let node = node_for(vec![issuer_config(&server, None)]).await;
    let blue = claims(&node, "tnt_blue", "secrets:read");
    let holder = async |role: &str, partner: Value| {
        let claims = with(&with(&blue, "role", role.into()), "partner_id", partner);
        as_holder(&node, server.token("RS256", &claims).await)
    };
    let read = async |api: &Api, tenant: &str| api.get(&format!("/v1/t/{tenant}/secrets/app/db")).await;

    let partner = holder("partner_admin", json!("ptn_1")).await;
    assert_eq!(read(&partner, "tnt_green").await.ok()["data"]["of"], "tnt_green");
    assert_eq!(with_header(&partner, "tnt_green").await.ok()["data"]["of"], "tnt_green");
    assert_eq!(partner.get(SECRET).await.ok()["data"]["of"], "tnt_blue");
    read(&partner, "tnt_red").await.refused(403, "tenant_access_denied");
    read(&partner, "tnt_none").await.refused(404, "tenant_not_found");
    let of_none = holder("partner_admin", Value::Null).await;
    read(&of_none, "tnt_green").await.refused(403, "tenant_access_denied");
    let own = holder("tenant_admin", json!("ptn_1")).await;
    read(&own, "tnt_green").await.refused(403, "tenant_access_denied");
    let everywhere = holder("super_admin", Value::Null).await;
    for tenant in ["tnt_green", "tnt_red", "tnt_default"] {
        assert_eq!(read(&everywhere, tenant).await.ok()["data"]["of"], tenant);
    }
    // Whose tenant it is says nothing about what may be done there.
    everywhere.put(SECRET, &json!({"data": {}})).await.refused(403, "permission_denied");
}

#[tokio::test(flavor = "multi_thread")]
async fn issuer_that_is_confined_to_tenants_speaks_for_no_other() {
    let (confined, other) =
        tokio::join!(OauthServer::start(&["ES256:e1"]), OauthServer::start(&["ES256:e1"]));
    let issuers = vec![issuer_config(&confined, Some(&["tnt_blue"])), issuer_config(&other, None)];
    let node = node_for(issuers).await;
    let get = async |claims: &Value, path: &str| {
        as_holder(&node, confined.token("ES256", claims).await).get(path).await
    };
    let blue = claims(&node, "tnt_blue", "secrets:read");

    assert_eq!(get(&blue, SECRET).await.ok()["data"]["of"], "tnt_blue");
    for tenant in [json!("tnt_green"), Value::Null] {
        get(&with(&blue, "tenant_id", tenant), SECRET).await.refused(401, "token_invalid");
    }
    for role in ["super_admin", "partner_admin"] {
        let claims = with(&with(&blue, "role", role.into()), "partner_id", json!("ptn_1"));
        assert_eq!(get(&claims, SECRET).await.ok()["data"]["of"], "tnt_blue");
        get(&claims, "/v1/t/tnt_green/secrets/app/db").await.refused(403, "tenant_access_denied");
    }
    // The other issuer's key has the same id; it is not this issuer's.
    let claims = with(&blue, "iss", confined.name().into());
    let token = other.token("ES256", &claims).await;
    as_holder(&node, token).get(SECRET).await.refused(401, "token_invalid");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_are_not_quite_right_are_refused() {
    let (server, stranger) =
        tokio::join!(OauthServer::start(&["RS256:r1", "ES256:e1"]), OauthServer::start(&["RS256:r9"]));
    let node = node_for(vec![issuer_config(&server, None)]).await;
    let good = claims(&node, "tnt_blue", "secrets:read");
    let now = node.clock.now().as_secs();
    let rs256 = async |name: &str, value: Value| server.token("RS256", &with(&good, name, value)).await;
    let whole = server.token("RS256", &good).await;
    as_holder(&node, whole.clone()).get(SECRET).await.ok();
    let parts: Vec<&str> = whole.split('.').collect();
    let keys = server.keys().await;
    let published = keys["keys"].as_array().unwrap().iter().find(|key| key["kid"] == "r1").unwrap().clone();
    let hs256 = |head: Value, key: &[u8]| {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(head.to_string()), parts[1]);
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key);
        let tag = aws_lc_rs::hmac::sign(&key, signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
    };
    let modulus = published["n"].as_str().unwrap();
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    let other_claims = rs256("tenant_id", json!("tnt_red")).await;

    let refused = [
        ("another audience", rs256("aud", json!("account")).await, "token_invalid"),
        ("no audience", rs256("aud", Value::Null).await, "token_invalid"),
        ("another issuer", rs256("iss", json!(stranger.name())).await, "token_invalid"),
        ("no issuer", rs256("iss", Value::Null).await, "token_invalid"),
        ("our own issuer's name", rs256("iss", json!("hansa:0000")).await, "token_invalid"),
        ("no user", rs256("sub", Value::Null).await, "token_invalid"),
        ("no scope", rs256("scope", Value::Null).await, "token_invalid"),
        ("expired", rs256("exp", json!(now - 120)).await, "token_expired"),
        ("no end", rs256("exp", Value::Null).await, "token_invalid"),
        ("not yet valid", rs256("nbf", json!(now + 600)).await, "token_invalid"),
        ("a tenant that is no id", rs256("tenant_id", json!("../tnt_blue")).await, "token_invalid"),
        ("tenants", rs256("tenant_id", json!(["tnt_blue"])).await, "token_invalid"),
        (
            "an unknown key",
            stranger.token("RS256", &with(&good, "iss", server.name().into())).await,
            "token_invalid",
        ),
        ("no algorithm", format!("{none}.{}.", parts[1]), "token_invalid"),
        ("no signature", format!("{}.{}.", parts[0], parts[1]), "token_invalid"),
        (
            "another token's signature",
            format!("{}.{}.{}", parts[0], other_claims.split('.').nth(1).unwrap(), parts[2]),
            "token_invalid",
        ),
        (
            "HS256 with the modulus",
            hs256(json!({"alg": "HS256", "kid": "r1"}), &URL_SAFE_NO_PAD.decode(modulus).unwrap()),
            "token_invalid",
        ),
        (
            "HS256 with the published text",
            hs256(json!({"alg": "HS256", "kid": "r1"}), published.to_string().as_bytes()),
            "token_invalid",
        ),
        (
            "HS256 under the key's own algorithm",
            hs256(json!({"alg": "RS256", "kid": "r1"}), modulus.as_bytes()),
            "token_invalid",
        ),
        (
            "the algorithm of another key",
            hs256(json!({"alg": "ES256", "kid": "r1"}), modulus.as_bytes()),
            "token_invalid",
        ),
        ("an endless one", rs256("filler", json!("x".repeat(20_000))).await, "token_invalid"),
    ];
    for (what, token, code) in &refused {
        let answer = as_holder(&node, token.clone()).get(SECRET).await;
        assert_eq!((answer.status, answer.body["error"]["code"].as_str()), (401, Some(*code)), "{what}");
        answer.assert_problem();
        let vault = node.anonymous();
        let answer =
            vault.send(Method::GET, "/vault/v1/secret/data/app/db", None, &[("X-Vault-Token", token)]).await;
        assert_eq!((answer.status, &answer.body), (403, &json!({"errors": ["permission denied"]})), "{what}");
    }
    // One of the longest that are taken (contract A.2).
    let long = rs256("filler", json!("x".repeat(11_000))).await;
    assert!(long.len() > 14_000);
    as_holder(&node, long).get(SECRET).await.ok();
    let login = json!({"role": "any", "jwt": whole});
    let login = node.anonymous().post("/vault/v1/auth/jwt/login", &login).await.ok();
    let token = login["auth"]["client_token"].as_str().unwrap();
    let read = node
        .anonymous()
        .send(Method::GET, "/vault/v1/secret/data/app/db", None, &[("X-Vault-Token", token)])
        .await;
    assert_eq!(read.ok()["data"]["data"]["of"], "tnt_blue");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_the_issuer_changes_are_followed() {
    let mut server = OauthServer::start(&["RS256:r1"]).await;
    let node = node_for(vec![issuer_config(&server, None)]).await;
    // Long-lived, so that nothing but the keys decides.
    let lasting = |number: u32| {
        let claims = with(&claims(&node, "tnt_blue", "secrets:read"), "number", number.into());
        with(&claims, "exp", (node.clock.now().as_secs() + 90_000).into())
    };
    let seen = server.token("RS256", &lasting(1)).await;
    let unseen = server.token("RS256", &lasting(2)).await;
    let unseen_later = server.token("RS256", &lasting(3)).await;
    let get = async |token: &str| as_holder(&node, token).get(SECRET).await;
    get(&seen).await.ok();

    // Its keys serve while it is away, also when they are old.
    server.stop().await;
    node.clock.advance(issuer::KEYS_AGE_MAX + Duration::from_secs(1));
    get(&unseen).await.ok();

    server.boot(&["ES256:e2"]).await;
    node.clock.advance(issuer::FETCH_INTERVAL);
    let new = server.token("ES256", &lasting(4)).await;
    get(&new).await.ok();
    get(&unseen_later).await.refused(401, "token_invalid");
    node.clock.advance(issuer::REMEMBERED_MAX);
    for old in [&seen, &unseen] {
        get(old).await.refused(401, "token_invalid");
    }
    get(&new).await.ok();
}
