//! Two real processes over a way that loses, doubles, delays and reorders datagrams, and is cut and healed:
//! whatever the coordinator wants holds at the site in the end, and each command has run once.

use std::time::Duration;

use hansa_tests::{Api, Dice, Journal, Relay, TestPair, Weather, eventually, host, rows_of};
use reqwest::Method;
use serde_json::{Value, json};

const COMMANDS: &str = "/api/v1/federation/commands";
const POLICIES: &str = "/api/v1/federation/policies";
const LEASES: &str = "/api/v1/federation/secret-leases";
const SEED: u64 = 4_711;
const WEATHER: Weather = Weather { lost: 10, doubled: 5, delay: Duration::from_millis(15) };

/// Both ends of the way, as operators see them.
struct Ends {
    coordinator: Api,
    site: Api,
    id: String,
}

impl Ends {
    async fn dispatched(&self, parameters: Value) -> String {
        let body = json!({"command_type": "note", "target_site_id": self.id, "parameters": parameters});
        let answer = self.coordinator.post(&format!("{COMMANDS}/dispatch"), &body).await.licensed();
        answer["command"]["id"].as_str().unwrap().to_owned()
    }

    async fn completed(&self, command: &str) {
        eventually(&format!("command {command} is completed"), async || {
            let path = format!("{COMMANDS}/{command}");
            let row = self.coordinator.get(&path).await.licensed()["command"].clone();
            (row["status"] == "completed").then_some(())
        })
        .await;
    }

    async fn assigned_policy(&self, name: &str) -> String {
        let body = json!({"policy_type": "firewall_role", "name": name, "definition": {"edit": 1}});
        let answer = self.coordinator.post(POLICIES, &body).await.licensed();
        let id = answer["policy"]["id"].as_str().unwrap().to_owned();
        let sites = json!({"site_ids": [self.id]});
        self.coordinator.post(&format!("{POLICIES}/{id}/assign"), &sites).await.licensed();
        id
    }

    async fn edit(&self, policy: &str, edit: u32) {
        let body = json!({"definition": {"edit": edit}});
        let answer = self.coordinator.patch(&format!("{POLICIES}/{policy}"), &body).await.licensed();
        assert_eq!(answer["policy"]["version"], edit);
    }

    /// The site has applied this version, says so, and its coordinator knows.
    async fn in_force(&self, journal: &Journal, policy: &str, version: u32) {
        eventually(&format!("version {version} of {policy} is acknowledged"), async || {
            let detail = self.coordinator.get(&format!("{POLICIES}/{policy}")).await.licensed();
            let row = &detail["assignments"][0];
            (row["push_status"] == "acknowledged" && row["applied_version"] == version).then_some(())
        })
        .await;
        let received = self.site.get("/api/v1/federation/site/received-policies").await.licensed();
        let rows = received["policies"].as_array().unwrap();
        let held = rows.iter().find(|row| row["policy_id"] == policy).unwrap();
        assert_eq!((&held["version"], &held["applied"]), (&json!(version), &json!(true)));
        assert_eq!(held["definition_json"], format!(r#"{{"edit":{version}}}"#));
        assert_eq!(journal.last(policy).unwrap(), format!("apply {version}"));
    }

    /// The site has taken it back and holds it no more.
    async fn taken_back(&self, journal: &Journal, policy: &str) {
        eventually(&format!("policy {policy} is taken back"), async || {
            let received = self.site.get("/api/v1/federation/site/received-policies").await.licensed();
            let rows = received["policies"].as_array().unwrap();
            let gone = rows.iter().all(|row| row["policy_id"] != policy);
            let withdrawn = journal.last(policy).is_some_and(|last| last.starts_with("withdraw"));
            (gone && withdrawn).then_some(())
        })
        .await;
    }

    /// Asks at the site for a credential and gives its key.
    async fn requested(&self, name: &str) -> String {
        let wish =
            json!({"host_id": "web-1", "secret_name": name, "backend_role": "reader", "kind": "token"});
        let answer = self.site.post("/api/v1/site/secret-requests", &wish).await.ok();
        answer["correlation_key"].as_str().unwrap().to_owned()
    }

    /// The coordinator's row of a lease, once it stands so.
    async fn lease(&self, name: &str, status: &str) -> Value {
        eventually(&format!("lease {name} is {status} at the coordinator"), async || {
            let answer = self.coordinator.get(LEASES).await.licensed();
            let leases = answer["leases"].as_array().unwrap();
            leases.iter().find(|lease| lease["secret_name"] == name && lease["status"] == status).cloned()
        })
        .await
    }

    async fn lease_at_site(&self, key: &str, status: &str) {
        eventually(&format!("lease {key} is {status} at the site"), async || {
            let answer = self.site.get("/api/v1/site/secret-requests").await.ok();
            let rows = answer["items"].as_array().unwrap();
            rows.iter().any(|row| row["correlation_key"] == key && row["status"] == status).then_some(())
        })
        .await;
    }

    async fn delivered(&self, journal: &Journal, key: &str, name: &str) {
        eventually(&format!("credential {name} is with its host"), async || journal.credential(key)).await;
        eventually(&format!("the coordinator knows that {name} was taken"), async || {
            let lease = self.lease(name, "active").await;
            lease["delivered_at"].is_string().then_some(())
        })
        .await;
        self.lease_at_site(key, "issued").await;
    }

    async fn revoke(&self, name: &str) {
        let lease = self.lease(name, "active").await;
        let path = format!("{LEASES}/{}/revoke", lease["id"].as_str().unwrap());
        self.coordinator.act(&path).await.licensed();
    }

    async fn taken_away(&self, journal: &Journal, key: &str, name: &str) {
        self.lease(name, "revoked").await;
        self.lease_at_site(key, "revoked").await;
        eventually(&format!("credential {name} is taken from its host"), async || {
            journal.credential(key).is_none().then_some(())
        })
        .await;
        assert_eq!(journal.last(key).unwrap(), "take_away");
    }

    async fn hosts_agree(&self) {
        eventually("the coordinator holds the site's hosts", async || {
            let depth = self.site.get("/api/v1/federation/site/sync-queue/depth").await.licensed();
            let own = rows_of(&self.site, "/api/v1/site/hosts").await;
            let theirs = rows_of(&self.coordinator, "/api/v1/federation/hosts").await;
            (depth["depth"] == 0 && own.keys().eq(theirs.keys())).then_some(())
        })
        .await;
    }

    /// What the site says of its connection.
    async fn connection(&self) -> String {
        let answer = self.site.get("/api/v1/federation/site/sync-status").await.licensed();
        answer["state"].as_str().unwrap().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_converges_over_a_way_that_loses_and_reorders_and_is_cut() {
    let pair = TestPair::start().await;
    let relay = Relay::start(pair.coordinator.address(), WEATHER, SEED).await;
    let (coordinator, site) = (pair.coordinator.api().await, pair.site.api().await);
    let id = pair.join(&coordinator, &site, Some(relay.address())).await;
    let (ends, journal) = (Ends { coordinator, site, id }, &pair.journal);
    let hosts = json!({"entries": [host(1, 1), host(1, 2)]});
    ends.site.put("/api/v1/site/hosts", &hosts).await.ok();
    ends.hosts_agree().await;

    println!("bad weather alone");
    let [kept, gone, unassigned] = [
        ends.assigned_policy("kept").await,
        ends.assigned_policy("gone").await,
        ends.assigned_policy("unassigned").await,
    ];
    let mut commands = vec![ends.dispatched(json!({})).await];
    let first = ends.requested("first").await;
    for policy in [&kept, &gone, &unassigned] {
        ends.in_force(journal, policy, 1).await;
    }
    ends.completed(&commands[0]).await;
    ends.delivered(journal, &first, "first").await;

    println!("a cut that the link outlives; a result waits behind it");
    let slow = ends.dispatched(json!({"pause": 1})).await;
    eventually("the slow command runs", async || journal.runs().contains_key(&slow).then_some(())).await;
    relay.cut();
    ends.edit(&kept, 2).await;
    commands.push(ends.dispatched(json!({})).await);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(journal.runs().len(), 2, "nothing gets through a cut");
    relay.heal();
    commands.push(slow);
    for command in &commands {
        ends.completed(command).await;
    }
    ends.in_force(journal, &kept, 2).await;

    println!("a cut that ends the link");
    relay.cut();
    ends.edit(&kept, 3).await;
    ends.coordinator.delete(&format!("{POLICIES}/{gone}")).await.licensed();
    let sites = json!({"site_ids": [ends.id]}).to_string();
    let path = format!("{POLICIES}/{unassigned}/assign");
    ends.coordinator.send(Method::DELETE, &path, Some(sites.into()), &[]).await.licensed();
    ends.revoke("first").await;
    let second = ends.requested("second").await;
    ends.site.patch("/api/v1/site/hosts", &json!({"entries": [host(1, 3)]})).await.ok();
    commands.push(ends.dispatched(json!({})).await);
    let unwanted = ends.dispatched(json!({})).await;
    ends.coordinator.act(&format!("{COMMANDS}/{unwanted}/cancel")).await.licensed();
    eventually("the site has lost its link", async || (ends.connection().await != "online").then_some(()))
        .await;
    relay.heal();
    ends.in_force(journal, &kept, 3).await;
    ends.taken_back(journal, &gone).await;
    ends.taken_back(journal, &unassigned).await;
    ends.completed(&commands[3]).await;
    ends.taken_away(journal, &first, "first").await;
    ends.delivered(journal, &second, "second").await;
    ends.hosts_agree().await;

    println!("many short cuts under work");
    let dice = Dice::new(SEED);
    for round in 0..20 {
        if dice.roll(2) == 0 {
            relay.cut();
        }
        commands.push(ends.dispatched(json!({"round": round})).await);
        commands.push(ends.dispatched(json!({"pause": 0.1})).await);
        ends.edit(&kept, 4 + round).await;
        tokio::time::sleep(dice.wait(Duration::from_millis(300))).await;
        relay.heal();
    }
    ends.revoke("second").await;
    for command in &commands {
        ends.completed(command).await;
    }
    ends.in_force(journal, &kept, 23).await;
    ends.taken_away(journal, &second, "second").await;

    let runs = journal.runs();
    assert!(!runs.contains_key(&unwanted), "a cancelled command was run");
    assert_eq!(runs.len(), commands.len());
    for command in &commands {
        assert_eq!(runs[command], 1, "{command}");
    }
    let cancelled = ends.coordinator.get(&format!("{COMMANDS}/{unwanted}")).await.licensed();
    assert_eq!(cancelled["command"]["status"], "failed");
    let fates = relay.fates();
    println!("{fates:?}");
    assert!(fates.lost > 0 && fates.doubled > 0 && fates.cut > 0, "{fates:?}");
    for process in [&pair.coordinator, &pair.site] {
        process.run(&["audit", "verify"]).await;
    }
}
