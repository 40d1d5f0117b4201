//! The surface held against its own OpenAPI document: no 500, and no answer outside its schema.
//!
//! schemathesis makes the requests up, the same ones each time; what it checks, and what not and why, stands in
//! `schemathesis.toml`. It goes over a coordinator first, then over a site, each with something of every noun.

use hansa_model::enrollment::Role;
use hansa_tests::{HttpCoordinator, HttpSite, Schemathesis, TestFederation, TestNode, host, host_id};
use serde_json::{Value, json};

const CONFIG: &str = include_str!("schemathesis.toml");

/// The routes that only a site answers; a coordinator says `wrong_role`.
const OF_A_SITE: &str = "^/api/v1(/federation)?/site/";

const PASSWORD: &str = "correct horse battery";

async fn made(node: &TestNode, path: &str, body: &Value) -> Value {
    node.api().post(path, body).await.ok()
}

/// The id in an answer.
fn id(value: &Value) -> String {
    value["id"].as_str().unwrap_or_else(|| panic!("no id in {value}")).to_owned()
}

/// The refresh token of a fresh login.
async fn login(node: &TestNode) -> String {
    let user = json!({"userid": "ada@example.com", "password": PASSWORD, "role": "viewer"});
    made(node, "/api/v1/users", &user).await;
    let login = json!({"userid": "ada@example.com", "password": PASSWORD});
    let answer = node.anonymous().post("/api/v1/login", &login).await;
    let cookie = answer.headers["set-cookie"].to_str().unwrap();
    cookie.split(';').next().unwrap().strip_prefix("refresh_token=").unwrap().to_owned()
}

/// The run against a node, with what every run needs.
async fn run(node: &TestNode) -> Schemathesis {
    let key = made(node, "/api/v1/api-keys", &json!({"name": "scripts", "role": "viewer"})).await;
    Schemathesis::new(&node.url(), CONFIG)
        .variable(
            "OPERATOR",
            node.token(hansa_tests::all_scopes(), None, std::time::Duration::from_secs(3_600)),
        )
        .variable("REFRESH_TOKEN", login(node).await)
        .dictionary("api_keys", &[id(&key["api_key"])])
        .dictionary("users", &["ada@example.com".to_owned()])
        // Nobody outside is called.
        .dictionary("closed_urls", &["http://127.0.0.1:9".to_owned()])
        .dictionary("closed_addresses", &["127.0.0.1:9".to_owned()])
}

#[tokio::test(flavor = "multi_thread")]
async fn no_made_up_request_gets_a_500_or_an_undocumented_answer_from_a_coordinator() {
    let federation = TestFederation::start(1).await;
    let (node, joined) = (&federation.coordinator, &federation.sites[0]);
    joined.put((1..=20).map(|number| host(1, number)).collect()).await;
    federation.converges().await;
    let pushing = HttpSite::enrolled(node, "pushing", 7).await;
    let spare = HttpSite::enrolled(node, "spare", 8).await;
    let invited = HttpSite::invited(node, "invited", 9).await;
    pushing.push("host-directory", &json!({"entries": [host(2, 1), host(2, 2)]})).await.licensed();
    let score = json!({"baseline": "cis", "score_percent": 12.5,
        "hosts_in_scope": 2, "hosts_compliant": 1, "hosts_noncompliant": 1});
    pushing.push("rollups/compliance", &score).await.licensed();
    let policy = json!({"policy_type": "firewall_role", "name": "web", "definition": {"open_ports": [443]}});
    let policy = id(&made(node, "/api/v1/federation/policies", &policy).await["policy"]);
    let assigned = json!({"site_ids": [joined.id, pushing.id]});
    made(node, &format!("/api/v1/federation/policies/{policy}/assign"), &assigned).await;
    let waves = json!({"waves": ["1", "100%"]});
    let pushed = node.api().post(&format!("/api/v1/federation/policies/{policy}/push"), &waves).await;
    pushed.licensed();
    let rollouts = node.api().get(&format!("/api/v1/federation/policies/{policy}/rollouts")).await.licensed();
    let mut commands = Vec::new();
    for site in [&joined.id, &pushing.id] {
        let body = json!({"command_type": "echo", "target_site_id": site, "parameters": {"a": 1}});
        commands.push(id(&made(node, "/api/v1/federation/commands/dispatch", &body).await["command"]));
    }
    let wish = json!({"correlation_key": "0123456789abcdef0123456789abcdef", "host_id": "web-1",
        "secret_name": "orders", "backend_role": "reader", "kind": "database", "ttl_seconds": 600});
    let lease = id(&pushing.push("secret-lease-requests", &wish).await.licensed()["lease"]);
    // Compared at once with the score above.
    node.api().put("/api/v1/federation/alert-config", &json!({"min_offline_seconds": 901})).await.licensed();
    let alert = hansa_tests::eventually("an alert", async || {
        let alerts = node.api().get("/api/v1/federation/alerts").await.licensed();
        alerts["alerts"].get(0).map(id)
    })
    .await;
    let entries = node.api().get("/api/v1/federation/audit?limit=5").await.licensed();
    let entries: Vec<String> = entries["entries"].as_array().unwrap().iter().map(id).collect();
    let sites = [joined.id.clone(), pushing.id.clone(), invited.id.clone()];

    let run = run(node)
        .await
        .argument(format!("--exclude-path-regex={OF_A_SITE}"))
        .variable("SITE", &pushing.id)
        .variable("SITE_BEARER", &pushing.bearer)
        .variable("COORDINATOR_BEARER", "none")
        .dictionary("sites", &sites)
        .dictionary("spare_sites", std::slice::from_ref(&spare.id))
        .dictionary("hosts", &[host_id(1, 1), host_id(2, 1)])
        .dictionary("policies", &[policy])
        .dictionary("rollouts", &[id(&rollouts["rollouts"][0])])
        .dictionary("commands", &commands)
        .dictionary("leases", &[lease])
        .dictionary("alerts", &[alert])
        .dictionary("audit_entries", &entries);

    run.finds_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_made_up_request_gets_a_500_or_an_undocumented_answer_from_a_site() {
    let coordinator = HttpCoordinator::start().await;
    let node = TestNode::start(Role::Site).await;
    coordinator.enroll(&node).await;
    let hosts: Vec<Value> = (1..=20).map(|number| host(1, number)).collect();
    node.api().put("/api/v1/site/hosts", &json!({"entries": hosts})).await.ok();
    let policy = "01890a5d-ac96-774b-bcce-b302099a8058";
    let command = "01890a5d-ac96-774b-bcce-b302099a8059";
    let push = json!({"policy_id": policy, "policy_type": "firewall_role", "name": "web", "version": 1,
        "definition": {"open_ports": [443]}});
    coordinator.push(&node, "policies", &push).await.licensed();
    let push = json!({"command_id": command, "command_type": "echo", "parameters": {"a": 1},
        "target_host_ids": [host_id(1, 1)]});
    coordinator.push(&node, "commands", &push).await.licensed();
    let scans = json!({"entries": [{"host_id": host_id(1, 1), "rules_passed": 3, "rules_failed": 1}]});
    node.api().put("/api/v1/site/compliance/cis", &scans).await.ok();
    let nobody = ["01890a5d-ac96-774b-bcce-b302099a805a".to_owned()];

    let run = run(&node)
        .await
        .argument(format!("--include-path-regex={OF_A_SITE}"))
        .variable("SITE", &nobody[0])
        .variable("SITE_BEARER", "none")
        .variable("COORDINATOR_BEARER", coordinator.bearer())
        .dictionary("hosts", &[host_id(1, 1), host_id(1, 2)])
        .dictionary("policies", &[policy.to_owned()])
        .dictionary("commands", &[command.to_owned()]);
    let others = ["sites", "spare_sites", "rollouts", "leases", "alerts", "audit_entries"];
    let run = others.into_iter().fold(run, |run, name| run.dictionary(name, &nobody));

    run.finds_nothing().await;
}
