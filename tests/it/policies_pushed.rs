//! Policies on their way: refused and revived over HTTP, halted, withdrawn, acknowledged over a link, and out of
//! reach of operators confined to other sites (contract B4, 4, 13.7).

use std::collections::BTreeSet;
use std::time::Duration;

use hansa_model::SiteId;
use hansa_model::enrollment::Role;
use hansa_tests::{HttpPeerServer, HttpSite, TestFederation, TestNode, all_scopes, eventually};
use reqwest::Method;
use serde_json::{Value, json};

const POLICIES: &str = "/api/v1/federation/policies";

fn path(policy: &str) -> String {
    format!("{POLICIES}/{policy}")
}

async fn created(node: &TestNode, policy_type: &str, name: &str, definition: Value) -> String {
    let body = json!({"policy_type": policy_type, "name": name, "definition": definition});
    let answer = node.api().post(POLICIES, &body).await.licensed();
    answer["policy"]["id"].as_str().unwrap().to_owned()
}

async fn assign(node: &TestNode, policy: &str, sites: &[&str]) {
    let body = json!({"site_ids": sites});
    node.api().post(&format!("{}/assign", path(policy)), &body).await.licensed();
}

async fn assignment(node: &TestNode, policy: &str, site: &str) -> Value {
    let detail = node.api().get(&path(policy)).await.licensed();
    let rows = detail["assignments"].as_array().unwrap();
    rows.iter().find(|row| row["site_id"] == site).cloned().unwrap_or(Value::Null)
}

async fn reaches(node: &TestNode, policy: &str, site: &str, status: &str) -> Value {
    eventually(&format!("push status {status}"), async || {
        let row = assignment(node, policy, site).await;
        (row["push_status"] == status).then_some(row)
    })
    .await
}

async fn audited(node: &TestNode, operation: &str) -> Vec<Value> {
    let answer = node.api().get(&format!("/api/v1/federation/audit?operation={operation}")).await.licensed();
    answer["entries"].as_array().unwrap().clone()
}

fn bodies(server: &HttpPeerServer) -> Vec<Value> {
    server.pushes().into_iter().map(|push| push.body).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_refused_for_good_is_dead_until_a_repush_revives_it() {
    let node = TestNode::start(Role::Coordinator).await;
    let (site, server) = HttpSite::reachable(&node.api(), "alpha", 1).await;
    let policy = created(&node, "firewall_role", "web", json!({"open_ports": [443], "a": 1})).await;
    server.answer_with(422);

    assign(&node, &policy, &[&site.id]).await;
    let failing = reaches(&node, &policy, &site.id, "error").await;
    for tries in 2..=8 {
        node.clock.advance(Duration::from_secs(1_500));
        // Counted by what is on record, not by what the server saw: the wait for the next try starts with the record.
        eventually("the next try", async || {
            (assignment(&node, &policy, &site.id).await["push_attempts"] == tries).then_some(())
        })
        .await;
    }
    let dead = reaches(&node, &policy, &site.id, "dead").await;
    node.api().patch(&path(&policy), &json!({"definition": {"open_ports": [80]}})).await.licensed();
    node.clock.advance(Duration::from_secs(1_500));
    let tries = server.pushes().len();
    server.answer_with(200);
    let repush = node.api().act(&site.path("repush-policies")).await.licensed();
    let revived = reaches(&node, &policy, &site.id, "pushed").await;

    assert_eq!(
        (&failing["last_push_error"], &failing["push_attempts"], &failing["pushed_version"]),
        (&json!("HTTP 422"), &json!(1), &Value::Null)
    );
    assert!(failing["last_push_attempt_at"].is_string());
    assert_eq!((tries, &dead["push_attempts"]), (8, &json!(8)), "an edit does not wake the dead");
    assert_eq!(repush["requeued_count"], 1);
    assert_eq!(
        (&revived["pushed_version"], &revived["push_attempts"], &revived["last_push_error"]),
        (&json!(2), &json!(0), &Value::Null)
    );
    let push = server.pushes().pop().unwrap();
    let certificate = node.anonymous().get("/api/v1/federation/tls-cert").await.ok()["cert_pem"].clone();
    assert_eq!(push.path, "/api/v1/federation/site/policies");
    assert!(push.is_signed_by(certificate.as_str().unwrap()));
    assert!(push.headers["authorization"].starts_with("Bearer "));
    assert_eq!(push.headers["content-type"], "application/json");
    let body = json!({"policy_id": policy, "policy_type": "firewall_role", "name": "web",
        "definition": {"open_ports": [80]}, "version": 2});
    assert_eq!(push.body, body);
    let failures = audited(&node, "policy_push_failed").await;
    assert_eq!(failures.len(), 8);
    assert_eq!(failures[0]["details"], json!({"policy_id": policy, "error": "HTTP 422"}));
    assert_eq!(failures[0]["target_site_id"], site.id);
    let pushes: Vec<Value> =
        audited(&node, "policy_pushed").await.into_iter().map(|entry| entry["details"].clone()).collect();
    assert_eq!(
        pushes,
        [json!({"policy_id": policy, "pushed_version": 2}), json!({"requeued": 1, "trigger": "site_repush"})]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn outage_never_kills_a_policy_push() {
    let node = TestNode::start(Role::Coordinator).await;
    let (site, server) = HttpSite::reachable(&node.api(), "alpha", 1).await;
    let policy = created(&node, "firewall_role", "web", json!({})).await;
    server.answer_with(503);

    assign(&node, &policy, &[&site.id]).await;
    let away = reaches(&node, &policy, &site.id, "error").await;
    server.answer_with(200);
    node.clock.advance(Duration::from_secs(1_500));
    let back = reaches(&node, &policy, &site.id, "pushed").await;

    assert_eq!(away["last_push_error"], "HTTP 503");
    assert_eq!((&back["pushed_version"], &back["push_attempts"]), (&json!(1), &json!(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn rollout_halts_at_the_first_site_that_refuses_and_goes_on_when_it_is_resumed() {
    let node = TestNode::start(Role::Coordinator).await;
    let (alpha, first) = HttpSite::reachable(&node.api(), "alpha", 1).await;
    let (beta, second) = HttpSite::reachable(&node.api(), "beta", 60).await;
    let policy = created(&node, "firewall_role", "web", json!({"open_ports": [443]})).await;
    let held = format!("{}/assign?hold=true", path(&policy));
    node.api().post(&held, &json!({"site_ids": [alpha.id, beta.id]})).await.licensed();
    first.answer_with(422);
    second.answer_with(422);
    let rollouts = format!("{}/rollouts", path(&policy));
    let stands = async |state: &str| {
        eventually(&format!("the rollout is {state}"), async || {
            let rollout = node.api().get(&rollouts).await.licensed()["rollouts"][0].clone();
            (rollout["status"] == state).then_some(rollout)
        })
        .await
    };

    let body = json!({"waves": ["1"], "wait_for": "pushed", "halt_on_errors": 1});
    node.api().post(&format!("{}/push", path(&policy)), &body).await.licensed();
    let halted = stands("halted").await;
    // Which site goes first is the rollout's choice.
    let tried = [(&alpha, &first), (&beta, &second)].map(|(site, server)| (site, server.pushes().len()));
    first.answer_with(200);
    second.answer_with(200);
    let edit = node.api().patch(&path(&policy), &json!({"name": "x"})).await;
    let resume = format!("{rollouts}/{}/resume", halted["id"].as_str().unwrap());
    node.api().act(&resume).await.licensed();
    node.clock.advance(Duration::from_secs(1_500));
    let completed = stands("completed").await;

    assert_eq!(tried.iter().filter(|(_, pushes)| *pushes == 0).count(), 1, "the second wave has not begun");
    assert!(halted["reason"].as_str().unwrap().contains("1 of 1 sites failed"), "{halted}");
    assert_eq!((&halted["wave"], &halted["wave_count"]), (&json!(1), &json!(2)));
    assert_eq!(edit.status, 409, "{}", edit.text);
    assert_eq!(completed["wave"], 2);
    for site in [&alpha, &beta] {
        assert_eq!(reaches(&node, &policy, &site.id, "pushed").await["pushed_version"], 1);
    }
    for operation in
        ["rollout_started", "rollout_halted", "rollout_resumed", "rollout_wave_started", "rollout_completed"]
    {
        assert_eq!(audited(&node, operation).await.len(), 1, "{operation}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deactivated_policy_is_withdrawn_from_an_http_peer_and_its_row_is_kept() {
    let node = TestNode::start(Role::Coordinator).await;
    let (site, server) = HttpSite::reachable(&node.api(), "alpha", 1).await;
    let policy = created(&node, "firewall_role", "web", json!({})).await;
    assign(&node, &policy, &[&site.id]).await;
    reaches(&node, &policy, &site.id, "pushed").await;

    node.api().delete(&path(&policy)).await.licensed();
    let row = eventually("the withdrawal is taken", async || {
        let row = assignment(&node, &policy, &site.id).await;
        row["withdrawn_at"].is_string().then_some(row)
    })
    .await;
    let again = node.api().act(&site.path("repush-policies")).await.licensed();

    let told = bodies(&server);
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(
        (&told[1]["policy_id"], &told[1]["withdrawn"], &told[1]["version"]),
        (&json!(policy), &json!(true), &json!(1))
    );
    assert_eq!(row["site_id"], site.id);
    assert_eq!(again["requeued_count"], 0, "nothing is left to be told");
    assert_eq!(audited(&node, "policy_deactivated").await.len(), 1);
    let withdrawn = audited(&node, "policy_withdrawn").await;
    assert_eq!((withdrawn.len(), &withdrawn[0]["target_site_id"]), (1, &json!(site.id)));
}

#[tokio::test(flavor = "multi_thread")]
async fn confined_operator_reaches_the_policies_of_their_sites_and_of_no_other() {
    let node = TestNode::start(Role::Coordinator).await;
    let (mine, first) = HttpSite::reachable(&node.api(), "mine", 1).await;
    let (other, second) = HttpSite::reachable(&node.api(), "other", 60).await;
    let policy = created(&node, "firewall_role", "web", json!({})).await;
    assign(&node, &policy, &[&other.id]).await;
    reaches(&node, &policy, &other.id, "pushed").await;
    let sites: BTreeSet<SiteId> = BTreeSet::from([mine.id.parse().unwrap()]);
    let confined = node.api_as(all_scopes(), Some(sites));
    let assign_path = format!("{}/assign", path(&policy));

    let assigned = confined.post(&assign_path, &json!({"site_ids": [mine.id]})).await.licensed();
    let denied = [
        confined.post(POLICIES, &json!({"policy_type": "a", "name": "a", "definition": {}})).await,
        confined.patch(&path(&policy), &json!({"name": "x"})).await,
        confined.delete(&path(&policy)).await,
    ];
    reaches(&node, &policy, &mine.id, "pushed").await;
    let pushed = confined.act(&format!("{}/push", path(&policy))).await.licensed();
    eventually("their own site is told once more", async || (first.pushes().len() >= 2).then_some(())).await;

    assert_eq!(assigned["assignments"].as_array().map(Vec::len), Some(1));
    for answer in denied {
        let body = answer.refused(403, "permission_denied");
        assert!(body["detail"].as_str().unwrap().starts_with("Permission denied"));
    }
    for sites in [json!({"site_ids": [other.id]}), json!({"site_ids": [mine.id, other.id]})] {
        confined.post(&assign_path, &sites).await.refused(404, "site_not_found");
        confined
            .send(Method::DELETE, &assign_path, Some(sites.to_string().into()), &[])
            .await
            .refused(404, "site_not_found");
    }
    confined.act(&other.path("repush-policies")).await.refused(404, "site_not_found");
    let seen = |body: &Value| -> Vec<String> {
        let rows = body["assignments"].as_array().unwrap();
        rows.iter().map(|row| row["site_id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(seen(&pushed), std::slice::from_ref(&mine.id));
    assert_eq!(seen(&confined.get(&path(&policy)).await.licensed()), std::slice::from_ref(&mine.id));
    let plan = confined.post(&format!("{}/plan", path(&policy)), &json!({})).await.licensed();
    assert!(!plan.to_string().contains(&other.id));
    assert_eq!(second.pushes().len(), 1, "the other site was told nothing by them");
}

#[tokio::test(flavor = "multi_thread")]
async fn linked_site_acknowledges_what_it_applied_and_says_what_it_could_not() {
    let federation = TestFederation::start(1).await;
    let (node, site) = (&federation.coordinator, &federation.sites[0]);
    let good = created(node, "echo", "good", json!({})).await;
    let bad = created(node, "echo", "bad", json!({"fail": true})).await;
    let foreign = created(node, "firewall_role", "foreign", json!({})).await;

    for policy in [&good, &bad, &foreign] {
        assign(node, policy, &[&site.id]).await;
    }
    let applied = reaches(node, &good, &site.id, "acknowledged").await;
    let tried = async |policy: &str| {
        eventually("the site has tried", async || {
            let row = assignment(node, policy, &site.id).await;
            row["apply_error"].is_string().then_some(row)
        })
        .await
    };
    let (failed, unknown) = (tried(&bad).await, tried(&foreign).await);
    node.api().patch(&path(&bad), &json!({"definition": {"fail": false}})).await.licensed();
    let mended = reaches(node, &bad, &site.id, "acknowledged").await;

    assert_eq!((&applied["pushed_version"], &applied["applied_version"]), (&json!(1), &json!(1)));
    assert!(applied["applied_at"].is_string() && applied["apply_error"].is_null());
    assert_eq!((&failed["push_status"], &failed["applied_version"]), (&json!("pushed"), &Value::Null));
    assert!(unknown["apply_error"].as_str().unwrap().starts_with("no local applier registered"), "{unknown}");
    assert_eq!((&mended["applied_version"], &mended["apply_error"]), (&json!(2), &Value::Null));
    let acknowledged = audited(node, "policy_acknowledged").await;
    assert_eq!(acknowledged.len(), 2);
    assert!(acknowledged.iter().all(|entry| entry["target_site_id"] == site.id));
    let received = site.node.api().get("/api/v1/federation/site/received-policies").await.licensed();
    let row = received["policies"].as_array().unwrap().iter().find(|row| row["policy_id"] == good).unwrap();
    assert_eq!((&row["applied"], &row["version"]), (&json!(true), &json!(1)));
}
