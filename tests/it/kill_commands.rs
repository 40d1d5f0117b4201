//! `kill -9` of either process at any moment, while commands, policies and leases are under way: nothing that was
//! acknowledged is lost, and no command runs twice.
//!
//! What ran is counted by the connector's own journal, outside the nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hansa_tests::{Answer, Api, Dice, Journal, TestPair, eventually, eventually_within, host};
use reqwest::Method;
use serde_json::{Value, json};

const COMMANDS: &str = "/api/v1/federation/commands";
const POLICIES: &str = "/api/v1/federation/policies";
const LEASES: &str = "/api/v1/federation/secret-leases";
const MOMENTS: usize = 50;
/// Policies that are deactivated one by one, and those that are unassigned and assigned in turns.
const DOOMED: usize = 5;
/// An undelivered credential is replaced with growing waits, and looked at every 30 s.
const LEASES_WAIT_MAX: Duration = Duration::from_secs(90);

/// The work, and what was acknowledged of it.
struct Work<'a> {
    coordinator: &'a Api,
    site: &'a Api,
    id: &'a str,
    stop: &'a AtomicBool,
}

/// A lease that was asked for, by its name.
#[derive(Debug)]
struct Asked {
    key: String,
    revoked: bool,
}

impl Work<'_> {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Dispatches without a pause; gives the id that each key was acknowledged with.
    async fn dispatch(&self) -> BTreeMap<String, String> {
        let mut acknowledged = BTreeMap::new();
        let path = format!("{COMMANDS}/dispatch");
        for number in 0.. {
            if !self.goes_on() {
                break;
            }
            let parameters = if number % 4 == 0 { json!({"pause": 0.05}) } else { json!({"n": number}) };
            let body = json!({"command_type": "note", "target_site_id": self.id, "parameters": parameters});
            let key = format!("key-{number}");
            let headers = [("idempotency-key", key.as_str())];
            let answer = insist(self.coordinator, Method::POST, &path, Some(&body), &headers).await;
            let id = answer.licensed()["command"]["id"].as_str().unwrap().to_owned();
            acknowledged.insert(key, id);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        acknowledged
    }

    /// Edits one policy over and over; gives the last edit.
    async fn edit(&self, policy: &str) -> u32 {
        let path = format!("{POLICIES}/{policy}");
        let mut edit = 1;
        while self.goes_on() {
            edit += 1;
            let body = json!({"definition": {"edit": edit}});
            let answer = insist(self.coordinator, Method::PATCH, &path, Some(&body), &[]).await;
            // A repeat of an edit that was stored is none.
            assert_eq!(answer.licensed()["policy"]["version"], edit);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        edit
    }

    /// Unassigns and assigns one policy in turns, deactivates the others now and then; gives whether the first
    /// is assigned, and how many are deactivated.
    async fn withdraw(&self, toggled: &str, doomed: &[String]) -> (bool, usize) {
        let path = format!("{POLICIES}/{toggled}/assign");
        let sites = json!({"site_ids": [self.id]});
        let (mut assigned, mut gone) = (true, 0);
        for round in 1.. {
            if !self.goes_on() {
                break;
            }
            assigned = !assigned;
            let method = if assigned { Method::POST } else { Method::DELETE };
            insist(self.coordinator, method, &path, Some(&sites), &[]).await.licensed();
            if round % 20 == 0 && gone < doomed.len() {
                let path = format!("{POLICIES}/{}", doomed[gone]);
                insist(self.coordinator, Method::DELETE, &path, None, &[]).await.licensed();
                gone += 1;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        (assigned, gone)
    }

    /// Asks for credentials at the site and revokes every other one at the coordinator.
    async fn lease(&self) -> BTreeMap<String, Asked> {
        let mut asked: BTreeMap<String, Asked> = BTreeMap::new();
        let mut tries = 0;
        while self.goes_on() {
            let number = asked.len();
            // A try without an answer may have been stored; another name keeps them apart.
            let (name, key) = loop {
                tries += 1;
                let name = format!("lease-{tries}");
                if let Some(key) = self.requested(&name).await {
                    break (name, key);
                }
            };
            asked.insert(name, Asked { key, revoked: false });
            if number % 2 == 1 {
                self.revoke_one(&mut asked).await;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        asked
    }

    async fn requested(&self, name: &str) -> Option<String> {
        let wish =
            json!({"host_id": "web-1", "secret_name": name, "backend_role": "reader", "kind": "token"});
        let sent = self
            .site
            .try_send(Method::POST, "/api/v1/site/secret-requests", Some(wish.to_string().into()), &[])
            .await;
        let answer = sent.ok().filter(Answer::is_success);
        if answer.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        answer.map(|answer| answer.body["correlation_key"].as_str().unwrap().to_owned())
    }

    /// Revokes the newest lease that the coordinator knows and nobody has revoked.
    async fn revoke_one(&self, asked: &mut BTreeMap<String, Asked>) {
        let path = format!("{LEASES}?limit=1000");
        let rows = insist(self.coordinator, Method::GET, &path, None, &[]).await.licensed();
        for row in rows["leases"].as_array().unwrap() {
            let name = row["secret_name"].as_str().unwrap();
            let Some(lease) = asked.get_mut(name).filter(|lease| !lease.revoked) else { continue };
            let path = format!("{LEASES}/{}/revoke", row["id"].as_str().unwrap());
            insist(self.coordinator, Method::POST, &path, None, &[]).await.licensed();
            lease.revoked = true;
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_command_policy_and_lease_survives_fifty_kills_and_no_command_runs_twice() {
    let dice = Dice::of_environment();
    let mut pair = TestPair::start().await;
    let (coordinator, site) = (pair.coordinator.api().await, pair.site.api().await);
    let id = pair.join(&coordinator, &site, None).await;
    site.put("/api/v1/site/hosts", &json!({"entries": [host(1, 1)]})).await.ok();
    let mut policies = Vec::new();
    for number in 0..DOOMED + 2 {
        policies.push(assigned_policy(&coordinator, &id, &format!("policy-{number}")).await);
    }
    let (edited, toggled, doomed) = (&policies[0], &policies[1], &policies[2..]);

    let stop = AtomicBool::new(false);
    let work = Work { coordinator: &coordinator, site: &site, id: &id, stop: &stop };
    let killing = async {
        for moment in 0..MOMENTS {
            let wait = dice.wait(Duration::from_millis(400));
            let victim = dice.roll(2);
            println!("moment {moment}: after {wait:?} {}", ["coordinator", "site"][usize::from(victim == 1)]);

            tokio::time::sleep(wait).await;
            let process = if victim == 0 { &mut pair.coordinator } else { &mut pair.site };
            process.kill().await;
            process.boot().await;
        }
        stop.store(true, Ordering::Relaxed);
    };
    let ((), commands, last_edit, (assigned, gone), leases) = tokio::join!(
        killing,
        work.dispatch(),
        work.edit(edited),
        work.withdraw(toggled, doomed),
        work.lease()
    );
    println!(
        "{} commands, {last_edit} edits, {gone} deactivations, {} leases acknowledged",
        commands.len(),
        leases.len()
    );

    commands_ended_and_ran_once(&work, &pair.journal, &commands).await;
    policies_agree(&work, &pair.journal, edited, last_edit).await;
    if assigned {
        policies_agree(&work, &pair.journal, toggled, 1).await;
    } else {
        taken_back(&work, &pair.journal, toggled).await;
    }
    for (number, policy) in doomed.iter().enumerate() {
        if number < gone {
            taken_back(&work, &pair.journal, policy).await;
        } else {
            policies_agree(&work, &pair.journal, policy, 1).await;
        }
    }
    leases_agree(&work, &pair.journal, &leases).await;
    for process in [&mut pair.coordinator, &mut pair.site] {
        process.run(&["audit", "verify"]).await;
        process.kill().await;
        process.run(&["check"]).await;
    }
}

/// Every key stands for one command; each has ended, and ran once, or says that nobody knows.
async fn commands_ended_and_ran_once(
    work: &Work<'_>,
    journal: &Journal,
    acknowledged: &BTreeMap<String, String>,
) {
    eventually_within(Duration::from_secs(60), "every command has ended", async || {
        let path = format!("{COMMANDS}?open_only=true&limit=1");
        let open = work.coordinator.get(&path).await.licensed();
        (open["commands"] == json!([])).then_some(())
    })
    .await;
    let mut held = BTreeMap::new();
    for page in 0.. {
        let path = format!("{COMMANDS}?limit=1000&offset={}", page * 1_000);
        let answer = work.coordinator.get(&path).await.licensed();
        let rows = answer["commands"].as_array().unwrap();
        held.extend(rows.iter().map(|row| (row["id"].as_str().unwrap().to_owned(), row.clone())));
        if rows.len() < 1_000 {
            break;
        }
    }
    let ids: BTreeSet<&String> = acknowledged.values().collect();
    assert_eq!(ids.len(), acknowledged.len(), "two keys stand for one command");
    assert!(held.keys().eq(ids.iter().copied()), "the coordinator holds what it acknowledged, and no more");

    let runs = journal.runs();
    assert!(runs.keys().all(|id| held.contains_key(id)), "a command ran that nobody dispatched");
    let mut unknown = 0;
    for (id, row) in &held {
        let ran = runs.get(id).copied().unwrap_or(0);
        let summary = row["result_summary"].as_str().unwrap_or_default();
        match row["status"].as_str().unwrap() {
            "completed" => assert_eq!(ran, 1, "{row}"),
            "failed" if summary.contains("outcome is unknown") => {
                unknown += 1;
                assert!(ran <= 1, "{row}");
            }
            _ => panic!("neither done nor cut off: {row}"),
        }
    }
    println!("{} ran, of {unknown} the outcome is unknown", runs.len());
    assert!(unknown < held.len(), "not one command came through");
}

/// The site holds this version in force, and the coordinator knows.
async fn policies_agree(work: &Work<'_>, journal: &Journal, policy: &str, version: u32) {
    let path = format!("{POLICIES}/{policy}");
    eventually(&format!("version {version} of {policy} is acknowledged"), async || {
        let row = work.coordinator.get(&path).await.licensed()["assignments"][0].clone();
        (row["push_status"] == "acknowledged" && row["applied_version"] == version).then_some(())
    })
    .await;
    let stored = work.coordinator.get(&path).await.licensed()["policy"].clone();
    let held = received(work, policy).await.expect("the site holds it");
    assert_eq!((&stored["version"], &held["version"]), (&json!(version), &json!(version)));
    assert_eq!(held["definition_json"], stored["definition_json"]);
    assert_eq!(held["applied"], true);
    assert_eq!(journal.last(policy).unwrap(), format!("apply {version}"));
}

async fn taken_back(work: &Work<'_>, journal: &Journal, policy: &str) {
    eventually(&format!("policy {policy} is taken back"), async || {
        // A version that never got there has nothing to be taken back from.
        let withdrawn = journal.last(policy).is_none_or(|last| last.starts_with("withdraw"));
        (received(work, policy).await.is_none() && withdrawn).then_some(())
    })
    .await;
}

async fn received(work: &Work<'_>, policy: &str) -> Option<Value> {
    let answer = work.site.get("/api/v1/federation/site/received-policies").await.licensed();
    answer["policies"].as_array().unwrap().iter().find(|row| row["policy_id"] == policy).cloned()
}

/// A revoked lease is revoked at both ends and taken from its host; any other is with its host.
async fn leases_agree(work: &Work<'_>, journal: &Journal, asked: &BTreeMap<String, Asked>) {
    assert!(asked.values().any(|lease| lease.revoked) && asked.values().any(|lease| !lease.revoked));
    let mut open = usize::MAX;
    eventually_within(LEASES_WAIT_MAX, "leases agree", async || {
        let differing = differing_leases(work, journal, asked).await;
        if differing.len() != open {
            open = differing.len();
            println!("{open} leases do not agree yet, such as {:?}", differing.first());
        }
        differing.is_empty().then_some(())
    })
    .await;
}

async fn differing_leases(
    work: &Work<'_>,
    journal: &Journal,
    asked: &BTreeMap<String, Asked>,
) -> Vec<String> {
    let by = |rows: &Value, name: &str| -> BTreeMap<String, Value> {
        let rows = rows.as_array().unwrap().iter();
        rows.map(|row| (row[name].as_str().unwrap().to_owned(), row.clone())).collect()
    };
    let centre = work.coordinator.get(&format!("{LEASES}?limit=1000")).await.licensed();
    let member = work.site.get("/api/v1/site/secret-requests?limit=1000").await.ok();
    let (centre, member) = (by(&centre["leases"], "secret_name"), by(&member["items"], "correlation_key"));
    let agrees = |name: &String, lease: &Asked| {
        let Some(theirs) = centre.get(name) else { return false };
        let own = &member[&lease.key]["status"];
        let with_host = journal.credential(&lease.key).is_some();
        if lease.revoked {
            theirs["status"] == "revoked" && own == "revoked" && !with_host
        } else {
            let delivered = theirs["status"] == "active" && theirs["delivered_at"].is_string();
            delivered && own == "issued" && with_host
        }
    };
    asked
        .iter()
        .filter(|(name, lease)| !agrees(name, lease))
        .map(|(name, lease)| format!("{name} {lease:?}: {:?} / {}", centre.get(name), member[&lease.key]))
        .collect()
}

async fn assigned_policy(coordinator: &Api, site: &str, name: &str) -> String {
    let body = json!({"policy_type": "firewall_role", "name": name, "definition": {"edit": 1}});
    let answer = coordinator.post(POLICIES, &body).await.licensed();
    let id = answer["policy"]["id"].as_str().unwrap().to_owned();
    coordinator.post(&format!("{POLICIES}/{id}/assign"), &json!({"site_ids": [site]})).await.licensed();
    id
}

/// Repeats a request until it has an answer that is no outage. Its caller makes sure that a repeat does no harm.
async fn insist(
    api: &Api,
    method: Method,
    path: &str,
    body: Option<&Value>,
    headers: &[(&str, &str)],
) -> Answer {
    eventually(&format!("an answer to {method} {path}"), async || {
        let body = body.map(|body| body.to_string().into_bytes());
        let answer = api.try_send(method.clone(), path, body, headers).await.ok()?;
        (answer.status < 500).then_some(answer)
    })
    .await
}
